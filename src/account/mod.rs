//! Accounts and what belongs to them: numbers, users, trunks. A [`Directory`] is immutable; a reload makes another.

mod directory;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use dialtone_sip::digest::{Hashes, Proof};
use ipnet::IpNet;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::ids::{AccountSid, NumberSid, QueueSid};
use crate::secret::Secret;
use crate::twiml::{AtEnd, DocumentSource, Endpoint, NewDocument, StatusCallback};
use crate::usage::Budget;

pub use directory::{Client, Directory, DirectoryError, Origin};

/// A customer.
#[derive(Clone, Debug)]
pub struct Account {
    pub sid: AccountSid,
    pub auth_token: Secret,
    pub name: String,
    pub status: AccountStatus,
    pub limits: Limits,
    /// How much it may use; `None` is any amount.
    pub budget: Option<Budget>,
    /// The account that made this one and may act for it; `None` of one of the configuration file.
    pub owner: Option<AccountSid>,
    /// When it was made and changed by the API, milliseconds since 1970.
    pub dated: Option<Dated>,
    /// A usage trigger has stopped it.
    pub is_stopped: bool,
}

/// How much an account may have at once, and in a second; `None` is any number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Calls that the API may make in a second.
    pub calls_per_second: Option<u32>,
    pub calls: Option<u32>,
    /// Requests to the REST API.
    pub api: Option<u32>,
    pub streams: Option<u32>,
    pub conference_participants: Option<u32>,
    /// What becomes of a call that finds no room.
    pub full: WhenFull,
}

/// What becomes of a call of an account that has as many as it may.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WhenFull {
    #[default]
    Reject,
    /// It waits so long for another to end, in milliseconds.
    Delay(u32),
    /// Another of less priority is ended for it.
    Preempt,
}

impl Account {
    /// An account of the configuration file.
    pub fn configured(sid: AccountSid, auth_token: Secret, name: String) -> Account {
        Account {
            sid,
            auth_token,
            name,
            status: AccountStatus::Active,
            limits: Limits::default(),
            budget: None,
            owner: None,
            dated: None,
            is_stopped: false,
        }
    }

    /// Its own status, or suspended where a usage trigger has stopped it.
    pub fn standing(&self) -> AccountStatus {
        if self.is_stopped && self.status == AccountStatus::Active { AccountStatus::Suspended } else { self.status }
    }
}

/// Whether an account may do anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AccountStatus {
    #[default]
    Active,
    /// Until its owner makes it active again.
    Suspended,
    /// For ever.
    Closed,
}

impl AccountStatus {
    pub fn as_str(self) -> &'static str {
        match self {
            AccountStatus::Active => "active",
            AccountStatus::Suspended => "suspended",
            AccountStatus::Closed => "closed",
        }
    }

    pub fn named(name: &str) -> Option<AccountStatus> {
        [AccountStatus::Active, AccountStatus::Suspended, AccountStatus::Closed]
            .into_iter()
            .find(|status| status.as_str() == name)
    }
}

/// When something was made and last changed, milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dated {
    pub created_ms: u64,
    pub updated_ms: u64,
}

/// A key that opens an account as its token does.
#[derive(Clone, Debug)]
pub struct ApiKey {
    pub account: AccountSid,
    pub secret: KeySecret,
}

/// What proves that somebody has a key's secret.
#[derive(Clone, Debug)]
pub enum KeySecret {
    /// Of a key that the API made. The secret was shown once and is not kept. It is longer than a block of SHA-256, so that a signature
    /// by it is one by its hash (RFC 2104 s2): what is kept proves tokens, and opens nothing.
    Hashed(SecretHash),
    /// Of one that the configuration names.
    Known(Secret),
}

impl KeySecret {
    /// What a signature by the secret is made with.
    pub fn signing_key(&self) -> Vec<u8> {
        match self {
            KeySecret::Hashed(hash) => hash.signing_key(),
            KeySecret::Known(secret) => secret.expose().as_bytes().to_vec(),
        }
    }

    pub fn matches(&self, secret: &str) -> bool {
        match self {
            KeySecret::Hashed(hash) => hash.matches(secret),
            KeySecret::Known(known) => known.matches(secret),
        }
    }
}

/// SHA-256 of a secret that was drawn by chance and is long enough that nobody guesses it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretHash(String);

impl SecretHash {
    pub fn of(secret: &str) -> SecretHash {
        SecretHash(Sha256::digest(secret).iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// As it was stored.
    pub fn stored(text: String) -> SecretHash {
        SecretHash(text)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Of a secret of more than 64 bytes.
    fn signing_key(&self) -> Vec<u8> {
        let digit = |at: usize| self.0.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
        (0..self.0.len()).step_by(2).map_while(digit).collect()
    }

    fn matches(&self, secret: &str) -> bool {
        bool::from(self.0.as_bytes().ct_eq(SecretHash::of(secret).0.as_bytes()))
    }
}

/// What runs for a call: the first document, what to do when there is none, and whom to tell.
#[derive(Clone, Debug, PartialEq)]
pub struct Application {
    pub document: NewDocument,
    pub status_callback: Option<StatusCallback>,
    /// Answer before the document is fetched, instead of when a verb needs it.
    pub answer_at_once: bool,
    /// Where calls end others for want of room: of two the greater goes on.
    pub priority: u8,
}

impl Application {
    /// A document of our own making, for a call that nobody's application is asked about.
    pub fn of_twiml(twiml: String) -> Application {
        let document =
            NewDocument { source: DocumentSource::Twiml(twiml.into()), fallback: None, at_end: AtEnd::HangUp };
        Application { document, status_callback: None, answer_at_once: false, priority: 0 }
    }

    pub fn fallback(&self) -> Option<&Endpoint> {
        self.document.fallback.as_ref()
    }
}

/// Who is asked about a text that comes to a number.
#[derive(Clone, Debug, PartialEq)]
pub struct Messaging {
    pub asks: Endpoint,
    /// Asked with `ErrorCode` and `ErrorUrl` when there is no answer.
    pub fallback: Option<Endpoint>,
}

/// A telephone number, or another SIP user part that may be called.
#[derive(Clone, Debug)]
pub struct Number {
    pub sid: NumberSid,
    pub number: String,
    pub account: AccountSid,
    pub application: Application,
    /// `None`: it takes no texts.
    pub messaging: Option<Messaging>,
    /// What the API wrote of it; `None` of one of the configuration file that the API has not changed.
    pub row: Option<Arc<Row>>,
}

impl Number {
    /// A number of the configuration file.
    pub fn configured(
        number: String,
        account: AccountSid,
        application: Application,
        messaging: Option<Messaging>,
    ) -> Number {
        Number { sid: Number::derived_sid(account, &number), number, account, application, messaging, row: None }
    }

    /// Made of the account and the number: a number of the configuration file has no other name.
    fn derived_sid(account: AccountSid, number: &str) -> NumberSid {
        let hash = Sha256::digest(format!("{account} {number}"));
        NumberSid::new(hash.iter().take(16).fold(0, |bits: u128, byte| bits << 8 | u128::from(*byte)))
    }

    /// Names what the configuration file says of a number: it changes with that.
    pub fn fingerprint(&self) -> String {
        let Application { document, status_callback, answer_at_once, priority: _ } = &self.application;
        let mut said = vec![json!(document), json!(status_callback), json!(answer_at_once)];
        // What nothing is said of leaves the name as it was.
        said.extend(self.messaging.as_ref().map(|messaging| json!([messaging.asks, messaging.fallback])));
        let text = Value::Array(said).to_string();
        SecretHash::of(&text).0
    }
}

/// What the API has written of something: JSON that only the API reads.
#[derive(Clone, Debug)]
pub struct Row {
    pub detail: String,
    pub dated: Dated,
}

/// A SIP user: registers, calls, and is called as `client:USERNAME`.
#[derive(Clone, Debug)]
pub struct User {
    pub account: AccountSid,
    pub username: String,
    pub domain: String,
    pub password: Password,
    /// Of a user of the configuration file; those of a SIP domain have the domain's.
    pub application: Option<Application>,
    /// The domain that the API has made, if it is a user of one.
    pub sip_domain: Option<Arc<Domain>>,
    pub may_call: bool,
    pub may_register: bool,
    /// Its devices are offered calls also while they are in one.
    pub call_waiting: bool,
}

/// A user's password, or what is kept in its place.
#[derive(Clone, Debug)]
pub enum Password {
    Known(Secret),
    /// For the realm of this server only.
    Hashed(Hashes),
}

impl Password {
    pub fn proof(&self) -> Proof<'_> {
        match self {
            Password::Known(secret) => Proof::Password(secret.expose()),
            Password::Hashed(hashes) => Proof::Hashes(hashes),
        }
    }
}

/// A SIP domain that the API has made: its users and addresses call whatever they like there, and one application answers.
#[derive(Clone, Debug)]
pub struct Domain {
    pub account: AccountSid,
    pub name: String,
    pub answer: DomainAnswer,
    /// From where calls may come; `None`: from anywhere.
    pub addresses: Option<Vec<IpNet>>,
    /// Whether a call needs a user's credentials too.
    pub wants_credentials: bool,
}

/// What becomes of a call to a domain.
#[derive(Clone, Debug)]
pub enum DomainAnswer {
    Application(Application),
    /// The number that is called is dialled: the domain of an elastic trunk.
    Dial,
    /// There is no URL to ask.
    Nothing,
}

impl Domain {
    pub fn lets_in(&self, source: IpAddr) -> bool {
        self.addresses.as_ref().is_none_or(|networks| networks.iter().any(|network| network.contains(&source)))
    }
}

/// A queue that somebody has made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueEntry {
    pub sid: QueueSid,
    pub max_size: u32,
}

/// Names a user: unique in its domain.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct Aor {
    pub username: String,
    pub domain: String,
}

/// A carrier or a PBX.
#[derive(Clone, Debug)]
pub struct Trunk {
    pub account: AccountSid,
    pub name: String,
    /// Where outbound calls go; `None` of a trunk that only receives.
    pub uri: Option<String>,
    pub from: Vec<Source>,
    pub username: Option<String>,
    pub password: Option<Secret>,
    /// The realm that `username` and `password` are for; empty of a trunk without `uri`, which needs none.
    pub realm: String,
    /// Numbers that arrive by it, and that may be used as caller id.
    pub numbers: Vec<String>,
    /// Outbound numbers that begin so go by it.
    pub prefixes: Vec<String>,
    /// Lower is preferred among equal prefixes.
    pub priority: u32,
    /// Calls that the API may make by it in a second; `None` is any number.
    pub calls_per_second: Option<u32>,
    /// Calls by it at once, whichever way; `None` is any number.
    pub calls: Option<u32>,
    /// Instead of what all have.
    pub srtp: Option<Srtp>,
    pub application: Option<Application>,
}

/// Whether the media of calls by TLS is encrypted (SRTP by keys in the SDP, RFC 4568).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Srtp {
    /// Always: an offer or answer without keys is refused.
    #[default]
    Required,
    /// Where the peer offers it.
    Offered,
}

/// Where a trunk's calls come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    Address(SocketAddr),
    Network(IpNet),
}

impl Source {
    fn names(&self, source: SocketAddr) -> bool {
        matches!(self, Source::Address(address) if *address == source)
    }

    fn contains(&self, ip: IpAddr) -> bool {
        matches!(self, Source::Network(network) if network.contains(&ip))
    }
}
