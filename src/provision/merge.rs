//! From rows to the directory: what they say about who calls and what answers, added to the configuration.
//!
//! A row that does not fit is passed over, with a line in the log: it must not keep the server from starting.

use std::collections::HashMap;
use std::sync::Arc;

use dialtone_sip::digest::Hashes;
use ipnet::IpNet;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::account::{
    Account, AccountStatus, ApiKey, Application, Dated, Directory, Domain, DomainAnswer, KeySecret, Limits, Messaging,
    Number, Password, QueueEntry, Row, SecretHash, User, WhenFull,
};
use crate::concurrency::Resource as LimitedResource;
use crate::ids::AccountSid;
use crate::secret::Secret;
use crate::store::{Kind, Resource};
use crate::twiml::{AtEnd, CallbackEvent, DocumentSource, Endpoint, Method, NewDocument, StatusCallback};
use crate::usage::{Budget, Recurring};

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
            priority: 0,
        })
    }
}

/// What a text that comes in asks, under the names that the API has for it.
#[derive(Default, Deserialize)]
#[serde(default)]
pub struct Sms {
    sms_url: Option<String>,
    sms_method: Option<String>,
    sms_fallback_url: Option<String>,
    sms_fallback_method: Option<String>,
}

impl Sms {
    /// `None` without a URL to ask.
    pub fn messaging(&self) -> Option<Messaging> {
        let asks = endpoint(&self.sms_url, &self.sms_method)?;
        Some(Messaging { asks, fallback: endpoint(&self.sms_fallback_url, &self.sms_fallback_method) })
    }
}

fn named(sid: &Option<String>) -> Option<String> {
    sid.clone().filter(|sid| !sid.is_empty())
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

/// Until when an account's events are logged, whether somebody listens or not.
#[derive(Debug, Serialize, Deserialize)]
pub struct ListeningDetail {
    /// Since when; `None`: since it was last said, and nobody paused in between.
    pub since_ms: Option<u64>,
    pub until_ms: u64,
}

#[derive(Deserialize)]
struct SubscriptionDetail {
    sink_sid: String,
}

/// How much of something an account may have at once.
#[derive(Debug, Serialize, Deserialize)]
pub struct LimitDetail {
    pub resource: String,
    /// `None`: any number.
    pub limit: Option<u32>,
    /// Of calls.
    pub full: WhenFull,
}

/// How much an account may use.
#[derive(Debug, Serialize, Deserialize)]
pub struct BudgetDetail {
    /// Millionths.
    pub price: Option<i64>,
    pub minutes: Option<i64>,
    pub recurring: Recurring,
}

#[derive(Deserialize)]
struct KeyDetail {
    secret_hash: String,
}

#[derive(Deserialize)]
struct ApplicationDetail {
    #[serde(flatten)]
    voice: Voice,
    #[serde(flatten)]
    sms: Sms,
}

#[derive(Deserialize)]
struct NumberDetail {
    phone_number: String,
    /// What the configuration file said when the API changed its number.
    over: Option<String>,
    voice_application_sid: Option<String>,
    trunk_sid: Option<String>,
    sms_application_sid: Option<String>,
    #[serde(flatten)]
    voice: Voice,
    #[serde(flatten)]
    sms: Sms,
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
    #[serde(flatten)]
    trunk: TrunkDetail,
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

/// What a trunk does beside what a domain does.
#[derive(Default, Deserialize)]
#[serde(default)]
struct TrunkDetail {
    recording: TrunkRecording,
    disaster_recovery_url: Option<String>,
    disaster_recovery_method: Option<String>,
}

/// In the words of `<Dial record>`, and `do-not-record`.
#[derive(Default, Deserialize)]
#[serde(default)]
struct TrunkRecording {
    mode: Option<String>,
    trim: Option<String>,
}

/// A row whose detail was read: once, for all directories that are made of it.
pub struct ReadRow {
    pub row: Resource,
    detail: Detail,
}

enum Detail {
    Account(AccountDetail),
    Key(KeyDetail),
    Application(Box<ApplicationDetail>),
    Number(Box<NumberDetail>, Arc<Row>),
    CallerId(CallerIdDetail),
    /// Of a domain, and of a trunk.
    Domain(Box<DomainDetail>),
    Credential(CredentialDetail),
    Address(IpNet),
    Origination(OriginationDetail),
    Queue(QueueDetail),
    Limit(LimitDetail),
    Budget(BudgetDetail),
    Listening(ListeningDetail),
    Subscription(SubscriptionDetail),
    /// The row says all by being there; or what it says cannot be read.
    Nothing,
}

impl ReadRow {
    pub fn new(row: Resource) -> ReadRow {
        let detail = match row.kind {
            Kind::Account => read(&row).map(Detail::Account),
            Kind::Key => read(&row).map(Detail::Key),
            Kind::Application => read(&row).map(|detail| Detail::Application(Box::new(detail))),
            Kind::Number => {
                let shown = Arc::new(Row { detail: row.detail.clone(), dated: dated(&row) });
                read(&row).map(|detail| Detail::Number(Box::new(detail), shown))
            }
            Kind::CallerId => read(&row).map(Detail::CallerId),
            Kind::Domain | Kind::Trunk => read(&row).map(|detail| Detail::Domain(Box::new(detail))),
            Kind::Credential => read(&row).map(Detail::Credential),
            Kind::Address => read(&row).and_then(|AddressDetail { ip_address, cidr_prefix_length }| {
                IpNet::new(ip_address, cidr_prefix_length).ok().map(Detail::Address)
            }),
            Kind::OriginationUrl => read(&row).map(Detail::Origination),
            Kind::Queue => read(&row).map(Detail::Queue),
            Kind::Limit => read(&row).map(Detail::Limit),
            Kind::Budget => read(&row).map(Detail::Budget),
            Kind::Listening => read(&row).map(Detail::Listening),
            Kind::Subscription => read(&row).map(Detail::Subscription),
            _ => None,
        };
        ReadRow { row, detail: detail.unwrap_or(Detail::Nothing) }
    }
}

/// The rows by what they are asked for.
struct Rows<'a> {
    by_kind: HashMap<Kind, Vec<&'a ReadRow>>,
    by_parent: HashMap<Kind, HashMap<&'a str, Vec<&'a ReadRow>>>,
    applications: HashMap<&'a str, (&'a str, &'a ApplicationDetail)>,
}

/// The configuration with the rows added. Configured entries stay; only a number may be changed by a row.
pub fn directory<'a>(configured: &Directory, rows: impl Iterator<Item = &'a ReadRow>, realm: &str) -> Directory {
    let mut directory = configured.clone();
    let rows = Rows::new(rows);
    rows.accounts(&mut directory);
    for ReadRow { row, detail } in rows.of(Kind::Limit).iter().copied() {
        if let (Detail::Limit(detail), Some(account)) = (detail, account(row)) {
            directory.change_limits(account, |limits| detail.apply(limits));
        }
    }
    for ReadRow { row, detail } in rows.of(Kind::Budget).iter().copied() {
        if let (Detail::Budget(BudgetDetail { price, minutes, recurring }), Some(account)) = (detail, account(row)) {
            directory.set_budget(account, Some(Budget { price: *price, minutes: *minutes, recurring: *recurring }));
        }
    }
    for ReadRow { row, .. } in rows.of(Kind::Suspension).iter().copied() {
        account(row).into_iter().for_each(|account| directory.suspend(account));
    }
    for ReadRow { row, detail } in rows.of(Kind::Listening).iter().copied() {
        if let (Detail::Listening(detail), Some(account)) = (detail, account(row)) {
            directory.hear(account, detail.since_ms.unwrap_or(row.created_ms), detail.until_ms);
        }
    }
    for ReadRow { row, detail } in rows.of(Kind::Subscription).iter().copied() {
        if let (Detail::Subscription(detail), Some(account)) = (detail, account(row)) {
            directory.subscribe(account, detail.sink_sid.clone(), row.created_ms);
        }
    }
    for ReadRow { row, .. } in rows.of(Kind::UsageTrigger).iter().copied() {
        account(row).into_iter().for_each(|account| directory.watch(account));
    }
    for ReadRow { row, detail } in rows.of(Kind::Key).iter().copied() {
        let (Detail::Key(detail), Some(account)) = (detail, account(row)) else { continue };
        let secret = KeySecret::Hashed(SecretHash::stored(detail.secret_hash.clone()));
        directory.add_key(row.sid.clone(), ApiKey { account, secret });
    }
    for ReadRow { row, detail } in rows.of(Kind::CallerId).iter().copied() {
        let (Detail::CallerId(detail), Some(account)) = (detail, account(row)) else { continue };
        directory.add_caller_id(account, detail.phone_number.clone());
    }
    for ReadRow { row, detail } in rows.of(Kind::Queue).iter().copied() {
        let (Detail::Queue(detail), Some(account), Ok(sid)) = (detail, account(row), row.sid.parse()) else { continue };
        directory.add_queue(account, detail.friendly_name.clone(), QueueEntry { sid, max_size: detail.max_size });
    }
    for ReadRow { row, detail } in rows.of(Kind::Application).iter().copied() {
        let (Detail::Application(detail), Some(account)) = (detail, account(row)) else { continue };
        if let Some(application) = detail.voice.application() {
            directory.add_application(account, row.sid.clone(), application);
        }
    }
    for known in rows.of(Kind::Number) {
        rows.number(known, &mut directory);
    }
    for kind in [Kind::Domain, Kind::Trunk] {
        for known in rows.of(kind) {
            rows.domain(known, realm, &mut directory);
        }
    }
    directory
}

impl LimitDetail {
    fn apply(&self, limits: &mut Limits) {
        match LimitedResource::named(&self.resource) {
            Some(LimitedResource::Calls) => (limits.calls, limits.full) = (self.limit, self.full),
            Some(LimitedResource::Api) => limits.api = self.limit,
            Some(LimitedResource::Streams) => limits.streams = self.limit,
            Some(LimitedResource::ConferenceParticipants) => limits.conference_participants = self.limit,
            None => {}
        }
    }
}

impl<'a> Rows<'a> {
    fn new(rows: impl Iterator<Item = &'a ReadRow>) -> Rows<'a> {
        let mut found = Rows { by_kind: HashMap::new(), by_parent: HashMap::new(), applications: HashMap::new() };
        for known in rows {
            let row = &known.row;
            match row.parent.as_str() {
                "" => found.by_kind.entry(row.kind).or_default().push(known),
                parent => found.by_parent.entry(row.kind).or_default().entry(parent).or_default().push(known),
            }
            if let Detail::Application(voice) = &known.detail {
                found.applications.insert(&row.sid, (&row.account, voice));
            }
        }
        found
    }

    fn of(&self, kind: Kind) -> &[&'a ReadRow] {
        self.by_kind.get(&kind).map_or(&[], Vec::as_slice)
    }

    fn below(&self, kind: Kind, parent: &str) -> &[&'a ReadRow] {
        self.by_parent.get(&kind).and_then(|rows| rows.get(parent)).map_or(&[], Vec::as_slice)
    }

    fn accounts(&self, directory: &mut Directory) {
        for ReadRow { row, detail } in self.of(Kind::Account).iter().copied() {
            let (Detail::Account(detail), Ok(sid), Some(owner)) = (detail, row.sid.parse(), account(row)) else {
                continue;
            };
            let added = directory.add_account(Account {
                sid,
                auth_token: Secret::new(detail.auth_token.clone()),
                name: detail.friendly_name.clone(),
                status: AccountStatus::named(&detail.status).unwrap_or(AccountStatus::Suspended),
                // As fast as the account that made it, until it has limits of its own.
                budget: None,
                limits: Limits {
                    calls_per_second: directory.account(owner).and_then(|owner| owner.limits.calls_per_second),
                    ..Limits::default()
                },
                owner: Some(owner),
                dated: Some(dated(row)),
                is_stopped: false,
            });
            if let Err(error) = added {
                passed_over(row, &format!("{error:?}"));
            }
        }
    }

    fn number(&self, ReadRow { row, detail }: &ReadRow, directory: &mut Directory) {
        let (Detail::Number(detail, shown), Ok(sid), Some(account)) = (detail, row.sid.parse(), account(row)) else {
            return;
        };
        let configured = detail.over.as_ref().and_then(|_| directory.number_of_sid(account, sid)).cloned();
        let number = Number {
            sid,
            account,
            application: self.answering(row, detail, configured.as_deref()),
            messaging: self.messaging(row, detail).or_else(|| configured.as_ref()?.messaging.clone()),
            number: detail.phone_number.clone(),
            row: Some(shown.clone()),
        };
        match &detail.over {
            None => {
                if let Err(error) = directory.add_number(number) {
                    passed_over(row, &format!("{error:?}"));
                }
            }
            Some(over) => {
                if configured.is_some_and(|known| known.fingerprint() == *over) {
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
        if let Some(sid) = named(&detail.trunk_sid) {
            let of_number = |trunk: &&&ReadRow| trunk.row.sid == sid && trunk.row.account == number.account;
            // Of a trunk that was deleted nothing is left but its name.
            if let Some(ReadRow { detail: Detail::Domain(trunk), .. }) = self.of(Kind::Trunk).iter().find(of_number) {
                return self.origination(&sid, &trunk.trunk, &detail.phone_number);
            }
        }
        let application = match named(&detail.voice_application_sid) {
            Some(sid) => self.application(number, &sid).and_then(|application| application.voice.application()),
            None => detail.voice.application(),
        };
        let configured = configured.map(|number| number.application.clone());
        match (application, configured) {
            (Some(application), Some(configured)) => {
                Application { answer_at_once: configured.answer_at_once, priority: configured.priority, ..application }
            }
            (Some(application), None) | (None, Some(application)) => application,
            (None, None) => refusing(),
        }
    }

    /// Who is asked about texts: an application goes before a URL.
    fn messaging(&self, number: &Resource, detail: &NumberDetail) -> Option<Messaging> {
        match named(&detail.sms_application_sid) {
            Some(sid) => self.application(number, &sid)?.sms.messaging(),
            None => detail.sms.messaging(),
        }
    }

    /// One of the same account.
    fn application(&self, number: &Resource, sid: &str) -> Option<&'a ApplicationDetail> {
        let (_, detail) = self.applications.get(sid).filter(|(account, _)| *account == number.account)?;
        Some(detail)
    }

    /// The URLs of the trunk one after another, until one takes the call: the least priority first, of those with the same
    /// the greatest weight. Where none does the URL of disaster recovery is asked.
    fn origination(&self, sid: &str, trunk: &TrunkDetail, number: &str) -> Application {
        let urls = self.below(Kind::OriginationUrl, sid).iter().filter_map(|known| match &known.detail {
            Detail::Origination(url) => Some(url),
            _ => None,
        });
        let mut urls: Vec<&OriginationDetail> = urls.filter(|url| url.enabled).collect();
        urls.sort_by_key(|url| (url.priority, std::cmp::Reverse(url.weight)));
        let uris = urls.into_iter().filter_map(|url| with_user(&url.sip_url, number)).take(MOST_URLS);
        let nouns: String =
            uris.map(|uri| format!("<Sip>{}</Sip>", uri.replace('&', "&amp;").replace('<', "&lt;"))).collect();
        let recovery = endpoint(&trunk.disaster_recovery_url, &trunk.disaster_recovery_method);
        let source = match (nouns.as_str(), recovery.clone()) {
            ("", None) => return refusing(),
            ("", Some(recovery)) => DocumentSource::Url(recovery),
            _ => {
                let record = match trunk.recording.mode.as_deref() {
                    None | Some("do-not-record") => String::new(),
                    Some(mode) => {
                        let trim = trunk.recording.trim.as_deref().unwrap_or("do-not-trim");
                        format!(" record=\"{mode}\" trim=\"{trim}\"")
                    }
                };
                let dial = format!("<Dial answerOnBridge=\"true\" sequential=\"true\"{record}>{nouns}</Dial>");
                DocumentSource::Twiml(format!("<Response>{dial}</Response>").into())
            }
        };
        let document = NewDocument { source, fallback: recovery, at_end: AtEnd::Rescue };
        Application { document, status_callback: None, answer_at_once: false, priority: 0 }
    }

    /// A SIP domain, or the domain of a trunk, with its users.
    fn domain(&self, ReadRow { row, detail }: &ReadRow, realm: &str, directory: &mut Directory) {
        let (Detail::Domain(detail), Some(account)) = (detail, account(row)) else { return };
        let Some(name) = detail.domain_name.clone().filter(|name| !name.is_empty()) else { return };
        let (credentials, access, answer) = match row.kind {
            Kind::Trunk => (Kind::TrunkCredentials, Kind::TrunkAddresses, DomainAnswer::Dial),
            _ => {
                let answer = detail.voice.application().map_or(DomainAnswer::Nothing, DomainAnswer::Application);
                (Kind::CallCredentials, Kind::CallAddresses, answer)
            }
        };
        let (calling, lists) = (self.below(credentials, &row.sid), self.below(access, &row.sid));
        let addresses = lists.iter().flat_map(|list| self.below(Kind::Address, &list.row.sid));
        let networks = addresses.filter_map(|known| match &known.detail {
            Detail::Address(network) => Some(*network),
            _ => None,
        });
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
        let mut users: HashMap<&str, User> = HashMap::new();
        for (lists, may_call) in [(calling, true), (registering, false)] {
            for member in lists.iter().flat_map(|list| self.below(Kind::Credential, &list.row.sid)) {
                let Detail::Credential(credential) = &member.detail else { continue };
                if credential.realm != realm {
                    passed_over(&member.row, "its password was set while the server had another realm: set it again");
                    continue;
                }
                let user = users.entry(&credential.username).or_insert_with(|| User {
                    account,
                    username: credential.username.clone(),
                    domain: domain.name.clone(),
                    password: Password::Hashed(credential.hashes.clone()),
                    application: None,
                    sip_domain: Some(domain.clone()),
                    may_call: false,
                    may_register: false,
                    call_waiting: true,
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

/// As many as a `<Dial>` takes.
const MOST_URLS: usize = 10;

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

fn account(row: &Resource) -> Option<AccountSid> {
    let account = row.account.parse().ok();
    if account.is_none() {
        passed_over(row, "its account is no sid");
    }
    account
}

fn read<T: DeserializeOwned>(row: &Resource) -> Option<T> {
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
