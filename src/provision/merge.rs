//! From rows to the directory: what they say about who calls and what answers, added to the configuration.
//!
//! A row that does not fit is passed over, with a line in the log: it must not keep the server from starting.

use std::collections::HashMap;
use std::sync::Arc;

use dialtone_sip::digest::Hashes;
use ipnet::IpNet;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::account::{
    Account, AccountStatus, ApiKey, Application, Dated, Directory, Domain, DomainAnswer, Number, Password, QueueEntry,
    Row, SecretHash, User,
};
use crate::ids::AccountSid;
use crate::secret::Secret;
use crate::store::{Kind, Resource};
use crate::twiml::{AtEnd, CallbackEvent, DocumentSource, Endpoint, Method, NewDocument, StatusCallback};

/// What a call asks, under the names that the API has for it.
#[derive(Default, Deserialize)]
#[serde(default)]
pub struct Voice {
    voice_url: Option<String>,
    voice_method: Option<String>,
    voice_fallback_url: Option<String>,
    voice_fallback_method: Option<String>,
    #[serde(alias = "voice_status_callback_url")]
    status_callback: Option<String>,
    #[serde(alias = "voice_status_callback_method")]
    status_callback_method: Option<String>,
}

impl Voice {
    /// `None` without a URL to ask.
    pub fn application(&self) -> Option<Application> {
        let source = DocumentSource::Url(endpoint(&self.voice_url, &self.voice_method)?);
        let fallback = endpoint(&self.voice_fallback_url, &self.voice_fallback_method);
        let callback = endpoint(&self.status_callback, &self.status_callback_method);
        Some(Application {
            document: NewDocument { source, fallback, at_end: AtEnd::HangUp },
            status_callback: callback
                .map(|endpoint| StatusCallback { endpoint, events: vec![CallbackEvent::Completed] }),
            answer_at_once: false,
        })
    }
}

fn endpoint(url: &Option<String>, method: &Option<String>) -> Option<Endpoint> {
    let method = if method.as_deref() == Some("GET") { Method::Get } else { Method::Post };
    url.clone().filter(|url| !url.is_empty()).map(|url| Endpoint { url, method })
}

#[derive(Deserialize)]
struct AccountDetail {
    friendly_name: String,
    status: String,
    auth_token: String,
}

#[derive(Deserialize)]
struct KeyDetail {
    secret_hash: String,
}

#[derive(Deserialize)]
struct NumberDetail {
    phone_number: String,
    /// What the configuration file said when the API changed its number.
    over: Option<String>,
    voice_application_sid: Option<String>,
    trunk_sid: Option<String>,
    #[serde(flatten)]
    voice: Voice,
}

#[derive(Deserialize)]
struct CallerIdDetail {
    phone_number: String,
}

#[derive(Deserialize)]
struct DomainDetail {
    domain_name: Option<String>,
    #[serde(default)]
    sip_registration: bool,
    #[serde(flatten)]
    voice: Voice,
}

#[derive(Deserialize)]
struct CredentialDetail {
    username: String,
    realm: String,
    hashes: Hashes,
}

#[derive(Deserialize)]
struct AddressDetail {
    ip_address: std::net::IpAddr,
    cidr_prefix_length: u8,
}

#[derive(Deserialize)]
struct OriginationDetail {
    sip_url: String,
    weight: u32,
    priority: u32,
    enabled: bool,
}

#[derive(Deserialize)]
struct QueueDetail {
    friendly_name: String,
    max_size: u32,
}

/// The rows by what they are asked for.
struct Rows<'a> {
    by_kind: HashMap<Kind, Vec<&'a Resource>>,
    by_parent: HashMap<Kind, HashMap<&'a str, Vec<&'a Resource>>>,
}

/// The configuration with the rows added. Configured entries stay; only a number may be changed by a row.
pub fn directory<'a>(configured: &Directory, rows: impl Iterator<Item = &'a Resource>, realm: &str) -> Directory {
    let mut directory = configured.clone();
    let rows = Rows::new(rows);
    rows.accounts(&mut directory);
    for row in rows.of(Kind::Key) {
        let (Some(account), Some(detail)) = (account(row), detail::<KeyDetail>(row)) else { continue };
        let secret_hash = SecretHash::stored(detail.secret_hash);
        directory.add_key(row.sid.clone(), ApiKey { account, secret_hash });
    }
    for row in rows.of(Kind::CallerId) {
        let (Some(account), Some(detail)) = (account(row), detail::<CallerIdDetail>(row)) else { continue };
        directory.add_caller_id(account, detail.phone_number);
    }
    for row in rows.of(Kind::Queue) {
        let (Some(account), Some(detail)) = (account(row), detail::<QueueDetail>(row)) else { continue };
        if let Ok(sid) = row.sid.parse() {
            directory.add_queue(account, detail.friendly_name, QueueEntry { sid, max_size: detail.max_size });
        }
    }
    for row in rows.of(Kind::Number) {
        rows.number(row, &mut directory);
    }
    for kind in [Kind::Domain, Kind::Trunk] {
        for row in rows.of(kind) {
            rows.domain(row, realm, &mut directory);
        }
    }
    directory
}

impl<'a> Rows<'a> {
    fn new(rows: impl Iterator<Item = &'a Resource>) -> Rows<'a> {
        let mut found = Rows { by_kind: HashMap::new(), by_parent: HashMap::new() };
        for row in rows {
            match row.parent.as_str() {
                "" => found.by_kind.entry(row.kind).or_default().push(row),
                parent => found.by_parent.entry(row.kind).or_default().entry(parent).or_default().push(row),
            }
        }
        found
    }

    fn of(&self, kind: Kind) -> &[&'a Resource] {
        self.by_kind.get(&kind).map_or(&[], Vec::as_slice)
    }

    fn below(&self, kind: Kind, parent: &str) -> &[&'a Resource] {
        self.by_parent.get(&kind).and_then(|rows| rows.get(parent)).map_or(&[], Vec::as_slice)
    }

    fn accounts(&self, directory: &mut Directory) {
        for row in self.of(Kind::Account) {
            let (Ok(sid), Some(owner), Some(detail)) = (row.sid.parse(), account(row), detail::<AccountDetail>(row))
            else {
                continue;
            };
            let added = directory.add_account(Account {
                sid,
                auth_token: Secret::new(detail.auth_token),
                name: detail.friendly_name,
                status: AccountStatus::named(&detail.status).unwrap_or(AccountStatus::Suspended),
                owner: Some(owner),
                dated: Some(dated(row)),
            });
            if let Err(error) = added {
                passed_over(row, &format!("{error:?}"));
            }
        }
    }

    fn number(&self, row: &Resource, directory: &mut Directory) {
        let (Ok(sid), Some(account), Some(detail)) = (row.sid.parse(), account(row), detail::<NumberDetail>(row))
        else {
            return;
        };
        let configured = directory.number_of_sid(account, sid).filter(|_| detail.over.is_some()).cloned();
        let number = Number {
            sid,
            account,
            application: self.answering(row, &detail, configured.as_deref()),
            number: detail.phone_number,
            row: Some(Arc::new(Row { detail: row.detail.clone(), dated: dated(row) })),
        };
        match detail.over {
            None => {
                if let Err(error) = directory.add_number(number) {
                    passed_over(row, &format!("{error:?}"));
                }
            }
            Some(over) => {
                if configured.is_some_and(|known| known.fingerprint() == over) {
                    directory.replace_number(number);
                } else {
                    passed_over(row, "the configuration file says something else of the number since");
                }
            }
        }
    }

    /// A trunk goes before an application, and that before a URL, as at Twilio. Without any a number of the file is answered
    /// as the file says, and another refuses its calls.
    fn answering(&self, number: &Resource, detail: &NumberDetail, configured: Option<&Number>) -> Application {
        let named = |sid: &Option<String>| sid.clone().filter(|sid| !sid.is_empty());
        if let Some(trunk) = named(&detail.trunk_sid) {
            // Of a trunk that was deleted nothing is left but its name.
            if self.of(Kind::Trunk).iter().any(|row| row.sid == trunk && row.account == number.account) {
                return self.origination(&trunk, &detail.phone_number);
            }
        }
        let application = match named(&detail.voice_application_sid) {
            Some(sid) => {
                let own = |row: &&&Resource| row.sid == sid && row.account == number.account;
                let row = self.of(Kind::Application).iter().find(own);
                row.and_then(|row| self::detail::<Voice>(row)).and_then(|voice| voice.application())
            }
            None => detail.voice.application(),
        };
        let configured = configured.map(|number| number.application.clone());
        match (application, configured) {
            (Some(application), Some(configured)) => {
                Application { answer_at_once: configured.answer_at_once, ..application }
            }
            (Some(application), None) | (None, Some(application)) => application,
            (None, None) => refusing(),
        }
    }

    /// The best URL of the trunk: the least priority, then the greatest weight.
    fn origination(&self, trunk: &str, number: &str) -> Application {
        let urls = self.below(Kind::OriginationUrl, trunk).iter();
        let enabled = urls.filter_map(|row| detail::<OriginationDetail>(row)).filter(|url| url.enabled);
        let best = enabled.min_by_key(|url| (url.priority, std::cmp::Reverse(url.weight)));
        let Some(uri) = best.and_then(|url| with_user(&url.sip_url, number)) else { return refusing() };
        let uri = uri.replace('&', "&amp;").replace('<', "&lt;");
        Application::of_twiml(format!("<Response><Dial answerOnBridge=\"true\"><Sip>{uri}</Sip></Dial></Response>"))
    }

    /// A SIP domain, or the domain of a trunk, with its users.
    fn domain(&self, row: &Resource, realm: &str, directory: &mut Directory) {
        let (Some(account), Some(detail)) = (account(row), detail::<DomainDetail>(row)) else { return };
        let Some(name) = detail.domain_name.filter(|name| !name.is_empty()) else { return };
        let (credentials, access, answer) = match row.kind {
            Kind::Trunk => (Kind::TrunkCredentials, Kind::TrunkAddresses, DomainAnswer::Dial),
            _ => {
                let answer = detail.voice.application().map_or(DomainAnswer::Nothing, DomainAnswer::Application);
                (Kind::CallCredentials, Kind::CallAddresses, answer)
            }
        };
        let (calling, lists) = (self.below(credentials, &row.sid), self.below(access, &row.sid));
        let networks =
            lists.iter().flat_map(|list| self.below(Kind::Address, &list.sid)).filter_map(|row| network(row));
        let domain = Arc::new(Domain {
            account,
            name,
            answer,
            addresses: (!lists.is_empty()).then(|| networks.collect()),
            wants_credentials: !calling.is_empty(),
        });
        if let Err(error) = directory.add_sip_domain(domain.clone()) {
            return passed_over(row, &format!("{error:?}"));
        }
        let registering = self.below(Kind::RegistrationCredentials, &row.sid);
        let registering = if detail.sip_registration { registering } else { &[] };
        let mut users: HashMap<String, User> = HashMap::new();
        for (lists, may_call) in [(calling, true), (registering, false)] {
            for member in lists.iter().flat_map(|list| self.below(Kind::Credential, &list.sid)) {
                let Some(credential) = self::detail::<CredentialDetail>(member) else { continue };
                if credential.realm != realm {
                    passed_over(member, "its password was set while the server had another realm: set it again");
                    continue;
                }
                let user = users.entry(credential.username.clone()).or_insert_with(|| User {
                    account,
                    username: credential.username,
                    domain: domain.name.clone(),
                    password: Password::Hashed(credential.hashes),
                    application: None,
                    sip_domain: Some(domain.clone()),
                    may_call: false,
                    may_register: false,
                });
                if may_call { user.may_call = true } else { user.may_register = true }
            }
        }
        for user in users.into_values() {
            if let Err(error) = directory.add_user(user) {
                passed_over(row, &format!("{error:?}"));
            }
        }
    }
}

/// What answers where nothing was set to: nobody.
fn refusing() -> Application {
    Application::of_twiml("<Response><Reject/></Response>".to_owned())
}

/// A SIP URI with the number as its user, where it has none.
fn with_user(uri: &str, number: &str) -> Option<String> {
    let parsed = dialtone_sip::msg::SipUri::parse(uri).ok()?;
    let rest = uri.split_once(':')?.1;
    Some(if parsed.decoded_user().is_some_and(|user| !user.is_empty()) {
        uri.to_owned()
    } else {
        format!("sip:{number}@{rest}")
    })
}

fn network(row: &Resource) -> Option<IpNet> {
    let detail: AddressDetail = detail(row)?;
    IpNet::new(detail.ip_address, detail.cidr_prefix_length).ok()
}

fn account(row: &Resource) -> Option<AccountSid> {
    let account = row.account.parse().ok();
    if account.is_none() {
        passed_over(row, "its account is no sid");
    }
    account
}

fn detail<T: DeserializeOwned>(row: &Resource) -> Option<T> {
    match serde_json::from_str(&row.detail) {
        Ok(detail) => Some(detail),
        Err(error) => {
            passed_over(row, &error.to_string());
            None
        }
    }
}

fn dated(row: &Resource) -> Dated {
    Dated { created_ms: row.created_ms, updated_ms: row.updated_ms }
}

fn passed_over(row: &Resource, why: &str) {
    tracing::warn!(kind = row.kind.as_str(), sid = %row.sid, account = %row.account, why, "a stored resource is passed over");
}
