//! From what is written to what is meant: types, defaults, and everything that must fit together.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::ops::{Range, RangeInclusive};
use std::path::PathBuf;
use std::time::Duration;

use dialtone_sip::digest::Algorithm;
use dialtone_sip::flow::Transport;
use dialtone_sip::msg::SipUri;
use dialtone_sip::transport::Listen;
use toml::Spanned;

use super::file::{self, File};
use super::{Cluster, Config, ConfigError, Hep, Http, Latching, Media, Server, Sip, Store};
use crate::account::{
    Account, Application, Directory, DirectoryError, Limits, Messaging, Number, Password, Source, Trunk, User, WhenFull,
};
use crate::concurrency::OnLoss;
use crate::ids::AccountSid;
use crate::secret::Secret;
use crate::twiml::{
    AtEnd, CallbackEvent, DocumentSource, Endpoint, InlineDocument, Method, NewDocument, StatusCallback,
};

/// Whoever is called so does not wait for a turn, unless the file says otherwise.
const EMERGENCY_NUMBERS: &[&str] = &["112", "911", "999", "000"];
const MOST_CPS: u32 = 10_000;
const DEFAULT_WORKERS: u16 = 1;
const DEFAULT_WORKER_TIMEOUT: Duration = Duration::from_millis(600);
/// Workers say ten times a second that they are alive.
const LEAST_WORKER_TIMEOUT: Duration = Duration::from_millis(300);
const MAX_WORKERS: u16 = 64;
const DEFAULT_PORTS: RangeInclusive<u16> = 20_000..=29_999;
const DEFAULT_HTTP: &str = "127.0.0.1:4040";
const DEFAULT_STORE: &str = "sqlite://dialtone.db";
const DEFAULT_DRAIN: Duration = Duration::from_secs(300);
const DEFAULT_LOG_LEVEL: &str = "info";
const DEFAULT_REALM: &str = "dialtone";

/// Makes faults of one file.
pub(super) struct Reader<'a> {
    text: &'a str,
    name: &'a str,
}

pub(super) fn config(file: File, text: &str, name: &str) -> Result<Config, ConfigError> {
    let reader = Reader { text, name };
    let realm = file
        .sip
        .realm
        .clone()
        .or_else(|| file.sip.domains.first().cloned())
        .unwrap_or_else(|| DEFAULT_REALM.to_owned());
    let directory = reader.directory(&file, &realm)?;
    let store = reader.store(&file.store)?;
    let cluster = file.cluster.as_ref().map(|cluster| reader.cluster(cluster)).transpose()?;
    if let (Some(hot), Some(_)) = (&file.store.hot, &store.hot)
        && cluster.as_ref().is_none_or(|cluster| cluster.listen.ip().is_unspecified())
    {
        let text =
            "`hot` is what edges share: it needs [cluster] listen, the address by which the others find this one";
        return Err(reader.fault(hot, text));
    }
    Ok(Config {
        sip: reader.sip(&file.sip, realm)?,
        http: reader.http(&file.http)?,
        media: reader.media(&file.media, &file.sip)?,
        cluster,
        recordings: reader.recordings(&file.recordings, &store)?,
        store,
        server: reader.server(&file.server)?,
        traces: file.traces.as_ref().map(|traces| super::traces::traces(&reader, traces)).transpose()?,
        directory,
    })
}

impl Reader<'_> {
    fn error(&self, span: Range<usize>, message: impl Into<String>) -> ConfigError {
        ConfigError::at(self.name, self.text, span, message)
    }

    pub(super) fn fault<T>(&self, at: &Spanned<T>, message: impl Into<String>) -> ConfigError {
        self.error(at.span(), message)
    }

    fn parse<T: std::str::FromStr>(
        &self,
        written: &Spanned<String>,
        key: &str,
        wanted: &str,
    ) -> Result<T, ConfigError> {
        written.get_ref().parse().map_err(|_| {
            self.fault(written, format!("wrong value of `{key}`: \"{}\" is not {wanted}", written.get_ref()))
        })
    }

    pub(super) fn secret(&self, written: &Spanned<String>, key: &str) -> Result<Secret, ConfigError> {
        let secret = Secret::resolve(written.get_ref())
            .map_err(|error| self.fault(written, format!("wrong value of `{key}`: {error}")))?;
        if secret.is_empty() { Err(self.fault(written, format!("`{key}` is empty"))) } else { Ok(secret) }
    }

    fn sip(&self, sip: &file::Sip, realm: String) -> Result<Sip, ConfigError> {
        let public = sip
            .public_address
            .as_ref()
            .map(|address| self.parse::<IpAddr>(address, "public_address", "an ip address"))
            .transpose()?;
        let listen = sip.listen.iter().map(|written| self.listen(written, public)).collect::<Result<_, _>>()?;
        let digest = match &sip.digest {
            None => vec![Algorithm::Sha256, Algorithm::Md5],
            Some(names) => names.iter().map(|name| self.algorithm(name)).collect::<Result<_, _>>()?,
        };
        if digest.is_empty() {
            return Err(ConfigError::general(self.name, "[sip] digest is empty: name SHA-256, MD5 or both"));
        }
        if !fits_quotes(&realm) {
            return Err(ConfigError::general(
                self.name,
                "[sip] realm must not hold quotes, backslashes or control characters",
            ));
        }
        let name_servers = sip
            .name_servers
            .iter()
            .map(|server| self.parse(server, "name_servers", "IP:PORT"))
            .collect::<Result<_, _>>()?;
        let emergency_numbers = sip.emergency_numbers.clone();
        let emergency_numbers =
            emergency_numbers.unwrap_or_else(|| EMERGENCY_NUMBERS.iter().map(|number| (*number).to_owned()).collect());
        let hep = sip.hep.as_ref().map(|hep| self.hep(hep)).transpose()?;
        Ok(Sip { listen, realm, digest, name_servers, emergency_numbers, hep })
    }

    fn algorithm(&self, name: &Spanned<String>) -> Result<Algorithm, ConfigError> {
        Algorithm::from_name(Some(name.get_ref())).ok_or_else(|| {
            self.fault(name, format!("wrong value of `digest`: \"{}\" is neither SHA-256 nor MD5", name.get_ref()))
        })
    }

    fn listen(&self, written: &Spanned<String>, public: Option<IpAddr>) -> Result<Listen, ConfigError> {
        let fault = || {
            self.fault(
                written,
                format!("wrong value of `listen`: \"{}\" is not udp://IP:PORT or tcp://IP:PORT", written.get_ref()),
            )
        };
        let (scheme, address) = written.get_ref().split_once("://").ok_or_else(fault)?;
        let transport = Transport::from_uri_name(scheme).ok_or_else(fault)?;
        let bind: SocketAddr = address.parse().map_err(|_| fault())?;
        let public = public.filter(|public| public.is_ipv4() == bind.is_ipv4());
        let advertised = if bind.ip().is_unspecified() {
            public.unwrap_or_else(|| outward_address(bind.is_ipv4()))
        } else {
            public.unwrap_or(bind.ip())
        };
        Ok(Listen { transport, bind, advertise: SocketAddr::new(advertised, bind.port()) })
    }

    fn http(&self, http: &file::Http) -> Result<Http, ConfigError> {
        let listen = match &http.listen {
            Some(written) => self.parse(written, "listen", "IP:PORT")?,
            None => DEFAULT_HTTP.parse().expect("the default is an address"),
        };
        let public_url = match &http.public_url {
            Some(written) => self.http_url(written, "public_url")?.trim_end_matches('/').to_owned(),
            None => format!("http://{listen}"),
        };
        let operator_token =
            http.operator_token.as_ref().map(|token| self.secret(token, "operator_token")).transpose()?;
        let metrics_listen =
            http.metrics_listen.as_ref().map(|address| self.parse(address, "metrics_listen", "IP:PORT")).transpose()?;
        let sdk_proxy =
            http.sdk_proxy.as_ref().map(|address| self.parse(address, "sdk_proxy", "IP:PORT")).transpose()?;
        Ok(Http {
            listen,
            sdk_proxy,
            sdk_proxy_tunnels: http.sdk_proxy_tunnels,
            public_url,
            is_named: http.public_url.is_some(),
            allow_private_targets: http.allow_private_targets,
            operator_token: operator_token.unwrap_or_default(),
            metrics_listen,
        })
    }

    pub(super) fn http_url(&self, written: &Spanned<String>, key: &str) -> Result<String, ConfigError> {
        let fault = || {
            self.fault(
                written,
                format!("wrong value of `{key}`: \"{}\" is not an http or https url", written.get_ref()),
            )
        };
        let url = url::Url::parse(written.get_ref()).map_err(|_| fault())?;
        if matches!(url.scheme(), "http" | "https") && url.has_host() {
            Ok(written.get_ref().clone())
        } else {
            Err(fault())
        }
    }

    fn media(&self, media: &file::Media, sip: &file::Sip) -> Result<Media, ConfigError> {
        let public = sip.public_address.as_ref().and_then(|address| address.get_ref().parse().ok());
        let listening =
            sip.listen.first().and_then(|listen| listen.get_ref().split_once("://")?.1.parse::<SocketAddr>().ok());
        let address = match &media.address {
            Some(written) => self.parse(written, "address", "an ip address")?,
            None => listening.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |listen| listen.ip()),
        };
        let advertise = match &media.advertise {
            Some(written) => self.parse(written, "advertise", "an ip address")?,
            None if address.is_unspecified() => public.unwrap_or_else(|| outward_address(address.is_ipv4())),
            None => public.filter(|_| media.address.is_none()).unwrap_or(address),
        };
        let ports = media.ports.as_ref().map_or(Ok(DEFAULT_PORTS), |written| self.ports(written))?;
        let latching = match &media.latching {
            None => Latching::default(),
            Some(written) => match written.get_ref().as_str() {
                "off" => Latching::Off,
                "nat" => Latching::Nat,
                other => {
                    return Err(self.fault(
                        written,
                        format!("wrong value of `latching`: \"{other}\" is neither \"off\" nor \"nat\""),
                    ));
                }
            },
        };
        let workers = match &media.workers {
            None => DEFAULT_WORKERS,
            Some(written) if *written.get_ref() <= MAX_WORKERS => *written.get_ref(),
            Some(written) => {
                return Err(self.fault(
                    written,
                    format!("wrong value of `workers`: {} is more than {MAX_WORKERS}", written.get_ref()),
                ));
            }
        };
        if usize::from(workers) * 2 > ports.len()
            && let Some(written) = &media.ports
        {
            return Err(self.fault(written, format!("wrong value of `ports`: too few for {workers} workers")));
        }
        let worker_timeout = match &media.worker_timeout {
            None => DEFAULT_WORKER_TIMEOUT,
            Some(written) => {
                duration(written.get_ref()).filter(|time| *time >= LEAST_WORKER_TIMEOUT).ok_or_else(|| {
                    self.fault(
                        written,
                        "wrong value of `worker_timeout`: it is not a time such as \"600ms\" of 300 ms or more",
                    )
                })?
            }
        };
        Ok(Media { address, advertise, ports, latching, workers, worker_timeout })
    }

    fn cluster(&self, cluster: &file::Cluster) -> Result<Cluster, ConfigError> {
        let listen = match &cluster.listen {
            Some(written) => self.parse(written, "listen", "IP:PORT")?,
            None => {
                return Err(ConfigError::general(
                    self.name,
                    "[cluster] needs `listen`: where nodes find this edge, IP:PORT",
                ));
            }
        };
        let contact = cluster.contact.as_ref().map(|written| self.contact(written)).transpose()?;
        let on_store_loss = match &cluster.on_store_loss {
            None => OnLoss::default(),
            Some(written) => self.choice("on_store_loss", written, ON_STORE_LOSS)?,
        };
        Ok(Cluster { listen, dir: cluster.dir.clone().map(PathBuf::from), contact, on_store_loss })
    }

    /// One of a few words.
    fn choice<T: Copy>(&self, key: &str, written: &Spanned<String>, words: &[(&str, T)]) -> Result<T, ConfigError> {
        let known = words.iter().find(|(word, _)| word == written.get_ref()).map(|(_, value)| *value);
        known.ok_or_else(|| {
            let words: Vec<String> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
            self.fault(
                written,
                format!("wrong value of `{key}`: \"{}\" is not {}", written.get_ref(), words.join(" or ")),
            )
        })
    }

    fn contact(&self, written: &Spanned<String>) -> Result<String, ConfigError> {
        let uri = format!("sip:dialtone@{}", written.get_ref());
        match dialtone_sip::msg::Uri::parse(&uri).ok().and_then(dialtone_sip::msg::Uri::sip) {
            Some(read) if read.params.0.is_empty() && !written.get_ref().is_empty() => Ok(written.get_ref().clone()),
            _ => Err(self.fault(
                written,
                format!("wrong value of `contact`: \"{}\" is not HOST or HOST:PORT", written.get_ref()),
            )),
        }
    }

    fn ports(&self, written: &Spanned<String>) -> Result<RangeInclusive<u16>, ConfigError> {
        let fault = || {
            self.fault(written, format!("wrong value of `ports`: \"{}\" is not a range such as \"20000-29999\" of at least two ports above 1023", written.get_ref()))
        };
        let (first, last) = written.get_ref().split_once('-').ok_or_else(fault)?;
        let (first, last): (u16, u16) =
            (first.trim().parse().map_err(|_| fault())?, last.trim().parse().map_err(|_| fault())?);
        if first >= 1024 && first < last { Ok(first..=last) } else { Err(fault()) }
    }

    fn store(&self, store: &file::Store) -> Result<Store, ConfigError> {
        let url = match &store.url {
            None => Secret::new(DEFAULT_STORE),
            Some(written) => self.secret(written, "url")?,
        };
        let (scheme, rest) = url.expose().split_once("://").unwrap_or_default();
        let beside = match scheme {
            "sqlite" if !rest.is_empty() => PathBuf::from(rest).parent().map(PathBuf::from).unwrap_or_default(),
            "postgres" | "postgresql" if !rest.is_empty() => PathBuf::new(),
            // What stands there may be a password.
            _ => {
                let wanted = "wrong value of `url`: it is neither sqlite://PATH nor postgres://USER@HOST:PORT/DATABASE";
                return Err(match &store.url {
                    Some(written) => self.fault(written, wanted),
                    None => ConfigError::general(self.name, wanted),
                });
            }
        };
        let folder = store.folder.clone().map_or(beside, PathBuf::from);
        let folder = if folder.as_os_str().is_empty() { PathBuf::from(".") } else { folder };
        let hot = store.hot.as_ref().map(|written| self.hot(written)).transpose()?.flatten();
        Ok(Store { url, hot, folder })
    }

    /// `None` for `memory`.
    fn hot(&self, written: &Spanned<String>) -> Result<Option<Secret>, ConfigError> {
        let url = self.secret(written, "hot")?;
        match url.expose().split_once("://") {
            None if url.expose() == "memory" => Ok(None),
            Some(("redis" | "rediss", rest)) if !rest.is_empty() => Ok(Some(url)),
            // What stands there may be a password.
            _ => Err(self.fault(written, "wrong value of `hot`: it is neither memory nor redis://HOST:PORT")),
        }
    }

    fn server(&self, server: &file::Server) -> Result<Server, ConfigError> {
        let drain_timeout = match &server.drain_timeout {
            None => DEFAULT_DRAIN,
            Some(written) => duration(written.get_ref()).ok_or_else(|| {
                self.fault(
                    written,
                    "wrong value of `drain_timeout`: give seconds, or a text such as \"90s\", \"10m\" or \"1h\"",
                )
            })?,
        };
        let log_level = match &server.log_level {
            None => DEFAULT_LOG_LEVEL.to_owned(),
            Some(written) => {
                tracing_subscriber::EnvFilter::try_new(written.get_ref())
                    .map_err(|_| self.fault(written, format!("wrong value of `log_level`: \"{}\" is not error, warn, info, debug, trace or a list of TARGET=LEVEL", written.get_ref())))?;
                written.get_ref().clone()
            }
        };
        Ok(Server { drain_timeout, log_level, calls: server.calls, metrics_accounts: server.metrics_accounts })
    }

    fn directory(&self, file: &File, realm: &str) -> Result<Directory, ConfigError> {
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
        for trunk in &file.trunk {
            directory.add_trunk(self.trunk(trunk)?).map_err(|error| self.conflict(&trunk.name, &error))?;
        }
        Ok(directory)
    }

    fn check_accounts(&self, file: &File, directory: &Directory) -> Result<(), ConfigError> {
        let named = file
            .number
            .iter()
            .map(|one| &one.account)
            .chain(file.user.iter().map(|one| &one.account))
            .chain(file.trunk.iter().map(|one| &one.account));
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

    fn trunk(&self, trunk: &file::Trunk) -> Result<Trunk, ConfigError> {
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
                if parsed.secure || named == Some(None) {
                    let message = "wrong value of `uri`: only udp and tcp are spoken, and sips: wants TLS; for example \
                                   sip:carrier.example;transport=tcp";
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
            application: self.application(&keys)?,
        })
    }

    fn hep(&self, hep: &file::Hep) -> Result<Hep, ConfigError> {
        let password = hep.password.as_ref().map(|password| self.secret(password, "password")).transpose()?;
        let password = password.unwrap_or_else(|| Secret::new(String::new()));
        Ok(Hep {
            collector: self.parse(&hep.collector, "collector", "IP:PORT")?,
            node: hep.node.unwrap_or(1),
            password,
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

/// Whether a realm can stand in the quotes of a challenge as it is.
fn fits_quotes(realm: &str) -> bool {
    !realm.contains(['"', '\\']) && !realm.chars().any(char::is_control)
}

const ON_STORE_LOSS: &[(&str, OnLoss)] =
    &[("share", OnLoss::Share), ("closed", OnLoss::Closed), ("open", OnLoss::Open)];
const WHEN_FULL: &[(&str, WhenFull)] =
    &[("reject", WhenFull::Reject), ("delay", WhenFull::Delay(USUAL_WAIT_MS)), ("preempt", WhenFull::Preempt)];
const USUAL_WAIT_MS: u32 = 5_000;
/// A caller hears nothing meanwhile.
const LONGEST_WAIT_MS: u128 = 60_000;

fn duration(value: &toml::Value) -> Option<Duration> {
    match value {
        toml::Value::Integer(seconds) => u64::try_from(*seconds).ok().map(Duration::from_secs),
        toml::Value::String(text) => {
            let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
            let seconds = match unit.trim() {
                "ms" => return number.parse().ok().map(Duration::from_millis),
                "" | "s" => 1,
                "m" => 60,
                "h" => 3600,
                _ => return None,
            };
            Some(Duration::from_secs(number.parse::<u64>().ok()?.checked_mul(seconds)?))
        }
        _ => None,
    }
}

/// The address by which this machine reaches others; loopback where it has none. Nothing is sent to find out.
fn outward_address(ipv4: bool) -> IpAddr {
    let (any, other) = if ipv4 { ("0.0.0.0:0", "192.0.2.1:9") } else { ("[::]:0", "[2001:db8::1]:9") };
    let found = UdpSocket::bind(any).and_then(|socket| socket.connect(other).and_then(|()| socket.local_addr()));
    let loopback = if ipv4 { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { IpAddr::V6(std::net::Ipv6Addr::LOCALHOST) };
    found.map_or(loopback, |address| address.ip())
}
