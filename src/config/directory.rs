//! Who there is: accounts with their numbers, users, trunks, applications and keys.

use std::net::IpAddr;

use dialtone_sip::flow::Transport;
use dialtone_sip::msg::SipUri;
use toml::Spanned;

use super::ConfigError;
use super::file::{self, File};
use super::read::{Reader, duration, fits_quotes};
use crate::account::{
    Account, ApiKey, Application, Directory, DirectoryError, KeySecret, Limits, Messaging, Number, Password, Source,
    Srtp, Trunk, User, WhenFull,
};
use crate::ids::AccountSid;
use crate::twiml::{
    AtEnd, CallbackEvent, DocumentSource, Endpoint, InlineDocument, Method, NewDocument, StatusCallback,
};

const MOST_CPS: u32 = 10_000;
/// As long as Twilio's.
const SHORTEST_KEY_SECRET: usize = 32;

impl Reader<'_> {
    pub(super) fn directory(&self, file: &File, realm: &str) -> Result<Directory, ConfigError> {
        let mut domains = vec![realm.to_owned()];
        domains.extend(file.sip.domains.iter().filter(|domain| *domain != realm).cloned());
        let mut directory = Directory::new(domains);
        for account in &file.account {
            let sid = self.parse(&account.sid, "sid", "AC and 32 hexadecimal digits")?;
            let auth_token = self.secret(&account.auth_token, "auth_token")?;
            directory
                .add_account(Account {
                    limits: self.limits(&account.limits)?,
                    ..Account::configured(sid, auth_token, account.name.clone())
                })
                .map_err(|error| self.conflict(&account.sid, &error))?;
        }
        self.check_accounts(file, &directory)?;
        let books = super::prices::books(self, &file.price_book)?;
        for account in &file.account {
            let Some(named) = &account.price_book else { continue };
            let book = books.iter().find(|book| book.name == *named.get_ref()).cloned();
            let book = book.ok_or_else(|| {
                self.fault(
                    named,
                    format!("`price_book` names {}, which no [[price_book]] has as its name", named.get_ref()),
                )
            })?;
            directory.set_price_book(self.parse(&account.sid, "sid", "AC and 32 hexadecimal digits")?, book);
        }
        for account in &file.account {
            let Some(written) = &account.budget else { continue };
            let sid = self.parse(&account.sid, "sid", "AC and 32 hexadecimal digits")?;
            directory.set_budget(sid, Some(super::prices::budget(self, written, account.price_book.is_some())?));
        }
        for number in &file.number {
            directory.add_number(self.number(number)?).map_err(|error| self.conflict(&number.number, &error))?;
        }
        for user in &file.user {
            directory.add_user(self.user(user, realm)?).map_err(|error| self.conflict(&user.username, &error))?;
        }
        for application in &file.application {
            let (account, sid, read) = self.named_application(application)?;
            directory.add_application(account, sid, read);
        }
        for key in &file.key {
            let (sid, key) = self.key(key)?;
            directory.add_key(sid, key);
        }
        let has_tls = file.sip.listen.iter().any(|listen| listen.get_ref().starts_with("tls://"));
        for trunk in &file.trunk {
            directory.add_trunk(self.trunk(trunk, has_tls)?).map_err(|error| self.conflict(&trunk.name, &error))?;
        }
        Ok(directory)
    }

    fn check_accounts(&self, file: &File, directory: &Directory) -> Result<(), ConfigError> {
        let named = file
            .number
            .iter()
            .map(|one| &one.account)
            .chain(file.user.iter().map(|one| &one.account))
            .chain(file.trunk.iter().map(|one| &one.account))
            .chain(file.application.iter().map(|one| &one.account))
            .chain(file.key.iter().map(|one| &one.account));
        for account in named {
            if directory.account(self.account(account)?).is_none() {
                return Err(self.fault(
                    account,
                    format!("`account` names {}, which no [[account]] has as its sid", account.get_ref()),
                ));
            }
        }
        Ok(())
    }

    fn conflict(&self, at: &Spanned<String>, error: &DirectoryError) -> ConfigError {
        let name = at.get_ref();
        let message = match error {
            DirectoryError::AccountTwice => format!("account {name} stands twice"),
            DirectoryError::NumberTwice => format!("number {name} stands twice in its account"),
            DirectoryError::UserTwice => format!("user {name} stands twice in its domain"),
            DirectoryError::TrunkTwice => format!("trunk {name} stands twice in its account"),
            DirectoryError::DomainTwice => format!("domain {name} stands twice"),
            DirectoryError::SameSource { other, source } => {
                format!(
                    "trunks {other} and {name} both take calls from {source}: give them different sources, or different `numbers`"
                )
            }
            DirectoryError::UnknownAccount => format!("the `account` of {name} is the sid of no [[account]]"),
        };
        self.fault(at, message)
    }

    fn account(&self, written: &Spanned<String>) -> Result<AccountSid, ConfigError> {
        self.parse(written, "account", "the sid of an [[account]]")
    }

    fn number(&self, number: &file::Number) -> Result<Number, ConfigError> {
        let text = number.number.get_ref();
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-_.*#".contains(&byte)) {
            return Err(self.fault(
                &number.number,
                format!("wrong value of `number`: \"{text}\" is neither a number such as +15551234567 nor a SIP user"),
            ));
        }
        let keys = Keys {
            voice_url: &number.voice_url,
            twiml: &number.twiml,
            answer: &number.answer,
            voice_method: &number.voice_method,
            fallback_url: &number.voice_fallback_url,
            fallback_method: &number.voice_fallback_method,
            status_callback: &number.status_callback,
            status_callback_method: &number.status_callback_method,
        };
        let application = self.application(&keys)?.map(|found| Application { priority: number.priority, ..found });
        let application = application.ok_or_else(|| {
            self.fault(
                &number.number,
                format!("number {text} has neither `voice_url` nor `twiml`: nothing would answer it"),
            )
        })?;
        Ok(Number::configured(text.clone(), self.account(&number.account)?, application, self.messaging(number)?))
    }

    fn user(&self, user: &file::User, realm: &str) -> Result<User, ConfigError> {
        let username = user.username.get_ref();
        if username.is_empty() || !username.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-_.".contains(&byte))
        {
            return Err(self.fault(
                &user.username,
                format!(
                    "wrong value of `username`: \"{username}\" has other characters than letters, digits and + - _ ."
                ),
            ));
        }
        let keys = Keys {
            voice_url: &user.voice_url,
            twiml: &user.twiml,
            answer: &user.answer,
            voice_method: &user.voice_method,
            fallback_url: &user.voice_fallback_url,
            fallback_method: &user.voice_fallback_method,
            status_callback: &user.status_callback,
            status_callback_method: &user.status_callback_method,
        };
        Ok(User {
            account: self.account(&user.account)?,
            username: username.clone(),
            domain: user.domain.clone().unwrap_or_else(|| realm.to_owned()),
            password: Password::Known(self.secret(&user.password, "password")?),
            application: self
                .application(&keys)?
                .map(|application| Application { priority: user.priority, ..application }),
            sip_domain: None,
            may_call: true,
            may_register: true,
            call_waiting: user.call_waiting.unwrap_or(true),
        })
    }

    /// An application that tokens name.
    fn named_application(&self, named: &file::Application) -> Result<(AccountSid, String, Application), ConfigError> {
        let sid = self.sid(&named.sid, "AP")?;
        let keys = Keys {
            voice_url: &named.voice_url,
            twiml: &named.twiml,
            answer: &named.answer,
            voice_method: &named.voice_method,
            fallback_url: &named.voice_fallback_url,
            fallback_method: &named.voice_fallback_method,
            status_callback: &named.status_callback,
            status_callback_method: &named.status_callback_method,
        };
        let application = self.application(&keys)?;
        let application = application.ok_or_else(|| {
            self.fault(
                &named.sid,
                format!("application {sid} has neither `voice_url` nor `twiml`: no call could use it"),
            )
        })?;
        Ok((self.account(&named.account)?, sid, application))
    }

    fn key(&self, key: &file::Key) -> Result<(String, ApiKey), ConfigError> {
        let secret = self.secret(&key.secret, "secret")?;
        if secret.expose().len() < SHORTEST_KEY_SECRET {
            let message = format!(
                "wrong value of `secret`: it has fewer than {SHORTEST_KEY_SECRET} characters; `openssl rand -hex 32` makes a good one"
            );
            return Err(self.fault(&key.secret, message));
        }
        let account = self.account(&key.account)?;
        Ok((self.sid(&key.sid, "SK")?, ApiKey { account, secret: KeySecret::Known(secret) }))
    }

    /// Two letters and 32 hexadecimal digits.
    fn sid(&self, written: &Spanned<String>, letters: &str) -> Result<String, ConfigError> {
        let digits = written.get_ref().strip_prefix(letters).unwrap_or_default();
        if digits.len() == 32 && digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Ok(written.get_ref().clone());
        }
        let message =
            format!("wrong value of `sid`: \"{}\" is not {letters} and 32 hexadecimal digits", written.get_ref());
        Err(self.fault(written, message))
    }

    /// `has_tls`: there is a listener to send by.
    fn trunk(&self, trunk: &file::Trunk, has_tls: bool) -> Result<Trunk, ConfigError> {
        let host = match &trunk.uri {
            None => "",
            Some(uri) => {
                let parsed = SipUri::parse(uri.get_ref()).map_err(|error| {
                    self.fault(
                        uri,
                        format!("wrong value of `uri`: {error}; for example sip:carrier.example:5060;transport=tcp"),
                    )
                })?;
                let named = parsed.transport().map(Transport::from_uri_name);
                if named == Some(None) {
                    let message = "wrong value of `uri`: only udp, tcp and tls are spoken; for example \
                                   sip:carrier.example;transport=tls";
                    return Err(self.fault(uri, message));
                }
                if parsed.wants_tls() && !has_tls {
                    let message = "`uri` wants TLS, and [sip] listen has no tls://IP:PORT to send by";
                    return Err(self.fault(uri, message));
                }
                parsed.host.host
            }
        };
        if trunk.uri.is_none() && trunk.from.is_empty() && trunk.username.is_none() {
            return Err(self.fault(&trunk.name, "the trunk has neither `uri` nor `from`: no call could use it"));
        }
        let keys = Keys {
            voice_url: &trunk.voice_url,
            twiml: &trunk.twiml,
            answer: &trunk.answer,
            voice_method: &trunk.voice_method,
            fallback_url: &trunk.voice_fallback_url,
            fallback_method: &trunk.voice_fallback_method,
            status_callback: &trunk.status_callback,
            status_callback_method: &trunk.status_callback_method,
        };
        Ok(Trunk {
            account: self.account(&trunk.account)?,
            name: trunk.name.get_ref().clone(),
            uri: trunk.uri.as_ref().map(|uri| uri.get_ref().clone()),
            from: trunk.from.iter().map(|source| self.source(source)).collect::<Result<_, _>>()?,
            username: trunk.username.clone(),
            password: trunk.password.as_ref().map(|password| self.secret(password, "password")).transpose()?,
            realm: trunk.realm.as_ref().map_or(Ok(host.to_owned()), |realm| self.trunk_realm(realm, trunk))?,
            numbers: trunk.numbers.iter().map(|number| number.get_ref().clone()).collect(),
            prefixes: trunk.prefixes.clone().unwrap_or_else(|| vec![String::new()]),
            priority: trunk.priority,
            calls_per_second: self.rate(&trunk.cps)?,
            calls: trunk.calls,
            srtp: trunk.srtp.as_ref().map(|written| self.srtp(written)).transpose()?,
            application: self.application(&keys)?,
        })
    }

    fn limits(&self, limits: &file::Limits) -> Result<Limits, ConfigError> {
        if let Some(api) = limits.api.as_ref().filter(|api| *api.get_ref() == 0) {
            let message = "wrong value of `api`: with 0 nobody could ask for anything, give 1 or more";
            return Err(self.fault(api, message));
        }
        let wait_ms = match &limits.wait {
            None => None,
            Some(written) => {
                let wait = duration(written.get_ref()).filter(|wait| (1..=LONGEST_WAIT_MS).contains(&wait.as_millis()));
                let message = "wrong value of `wait`: it is not a time such as \"500ms\" or \"10s\", of 60 s at most";
                Some(wait.ok_or_else(|| self.fault(written, message))?.as_millis() as u32)
            }
        };
        let full = match &limits.when_full {
            None => WhenFull::Reject,
            Some(written) => self.choice("when_full", written, WHEN_FULL)?,
        };
        let full = match (full, wait_ms, &limits.wait) {
            (WhenFull::Delay(usual), wait_ms, _) => WhenFull::Delay(wait_ms.unwrap_or(usual)),
            (_, Some(_), Some(written)) => {
                return Err(self.fault(written, "`wait` says nothing without when_full = \"delay\""));
            }
            (full, ..) => full,
        };
        Ok(Limits {
            calls_per_second: self.rate(&limits.cps)?,
            calls: limits.calls,
            api: limits.api.as_ref().map(|api| *api.get_ref()),
            streams: limits.streams,
            conference_participants: limits.conference_participants,
            full,
        })
    }

    fn rate(&self, cps: &Option<Spanned<u32>>) -> Result<Option<u32>, ConfigError> {
        match cps {
            Some(cps) if !(1..=MOST_CPS).contains(cps.get_ref()) => {
                let message =
                    format!("wrong value of `cps`: {} is not 1 to {MOST_CPS} calls per second", cps.get_ref());
                Err(self.fault(cps, message))
            }
            cps => Ok(cps.as_ref().map(|cps| *cps.get_ref())),
        }
    }

    pub(super) fn srtp(&self, written: &Spanned<String>) -> Result<Srtp, ConfigError> {
        match written.get_ref().as_str() {
            "required" => Ok(Srtp::Required),
            "offered" => Ok(Srtp::Offered),
            other => {
                let message = format!("wrong value of `srtp`: \"{other}\" is neither \"required\" nor \"offered\"");
                Err(self.fault(written, message))
            }
        }
    }

    fn trunk_realm(&self, realm: &Spanned<String>, trunk: &file::Trunk) -> Result<String, ConfigError> {
        if !fits_quotes(realm.get_ref()) {
            let message = "wrong value of `realm`: it must not hold quotes, backslashes or control characters";
            return Err(self.fault(realm, message));
        }
        if trunk.username.is_none() || trunk.password.is_none() {
            let message = "`realm` says whose challenge `username` and `password` answer: give both, or leave it out";
            return Err(self.fault(realm, message));
        }
        Ok(realm.get_ref().clone())
    }

    fn source(&self, written: &Spanned<String>) -> Result<Source, ConfigError> {
        let text = written.get_ref();
        let network =
            || text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(ipnet::IpNet::from)).map(Source::Network);
        let source = text.parse().ok().map(Source::Address).or_else(network);
        source.ok_or_else(|| {
            self.fault(
                written,
                format!("wrong value of `from`: \"{text}\" is not IP:PORT, IP or a network such as 192.0.2.0/24"),
            )
        })
    }

    /// Who is asked about texts that come to a number.
    fn messaging(&self, number: &file::Number) -> Result<Option<Messaging>, ConfigError> {
        let fallback = number
            .sms_fallback_url
            .as_ref()
            .map(|url| self.endpoint(url, "sms_fallback_url", &number.sms_fallback_method, "sms_fallback_method"))
            .transpose()?;
        match (&number.sms_url, &number.sms_fallback_url) {
            (Some(url), _) => {
                let asks = self.endpoint(url, "sms_url", &number.sms_method, "sms_method")?;
                Ok(Some(Messaging { asks, fallback }))
            }
            (None, Some(alone)) => {
                Err(self.fault(alone, "`sms_fallback_url` is what is asked when `sms_url` fails: give that too"))
            }
            (None, None) => Ok(None),
        }
    }

    fn application(&self, keys: &Keys<'_>) -> Result<Option<Application>, ConfigError> {
        let fallback = keys
            .fallback_url
            .as_ref()
            .map(|url| self.endpoint(url, "voice_fallback_url", keys.fallback_method, "voice_fallback_method"))
            .transpose()?;
        let source = match (keys.voice_url, keys.twiml) {
            (Some(url), None) => {
                DocumentSource::Url(self.endpoint(url, "voice_url", keys.voice_method, "voice_method")?)
            }
            (None, Some(twiml)) => DocumentSource::Twiml(self.twiml(twiml)?),
            (Some(_), Some(twiml)) => {
                return Err(self.fault(twiml, "`twiml` and `voice_url` exclude each other: keep one"));
            }
            (None, None) => return Ok(None),
        };
        let status_callback = match keys.status_callback {
            Some(url) => {
                let endpoint =
                    self.endpoint(url, "status_callback", keys.status_callback_method, "status_callback_method")?;
                Some(StatusCallback { endpoint, events: vec![CallbackEvent::Completed] })
            }
            None => None,
        };
        let answer_at_once = match keys.answer.as_ref().map(|answer| (answer, answer.get_ref().as_str())) {
            None | Some((_, "on-demand")) => false,
            Some((_, "at-once")) => true,
            Some((written, other)) => {
                return Err(self.fault(
                    written,
                    format!("wrong value of `answer`: \"{other}\" is neither \"on-demand\" nor \"at-once\""),
                ));
            }
        };
        Ok(Some(Application {
            document: NewDocument { source, fallback, at_end: AtEnd::HangUp },
            status_callback,
            answer_at_once,
            priority: 0,
        }))
    }

    fn endpoint(
        &self,
        url: &Spanned<String>,
        url_key: &str,
        method: &Option<Spanned<String>>,
        method_key: &str,
    ) -> Result<Endpoint, ConfigError> {
        let method = match method.as_ref().map(|method| (method, method.get_ref().as_str())) {
            None | Some((_, "POST")) => Method::Post,
            Some((_, "GET")) => Method::Get,
            Some((written, other)) => {
                return Err(
                    self.fault(written, format!("wrong value of `{method_key}`: \"{other}\" is neither GET nor POST"))
                );
            }
        };
        Ok(Endpoint { url: self.http_url(url, url_key)?, method })
    }

    fn twiml(&self, written: &Spanned<String>) -> Result<InlineDocument, ConfigError> {
        let document = InlineDocument::from(written.get_ref().as_str());
        match document.read() {
            Ok(_) => Ok(document),
            Err(error) => Err(self.fault(written, format!("wrong value of `twiml`: {error} (error {})", error.code()))),
        }
    }
}

/// The keys that name an application, wherever they stand.
struct Keys<'a> {
    voice_url: &'a Option<Spanned<String>>,
    twiml: &'a Option<Spanned<String>>,
    answer: &'a Option<Spanned<String>>,
    voice_method: &'a Option<Spanned<String>>,
    fallback_url: &'a Option<Spanned<String>>,
    fallback_method: &'a Option<Spanned<String>>,
    status_callback: &'a Option<Spanned<String>>,
    status_callback_method: &'a Option<Spanned<String>>,
}

const WHEN_FULL: &[(&str, WhenFull)] =
    &[("reject", WhenFull::Reject), ("delay", WhenFull::Delay(USUAL_WAIT_MS)), ("preempt", WhenFull::Preempt)];
const USUAL_WAIT_MS: u32 = 5_000;
/// A caller hears nothing meanwhile.
const LONGEST_WAIT_MS: u128 = 60_000;
