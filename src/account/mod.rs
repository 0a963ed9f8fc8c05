//! Accounts and what belongs to them: numbers, users, trunks. A [`Directory`] is immutable; a reload makes another.

mod directory;

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use crate::ids::AccountSid;
use crate::secret::Secret;
use crate::twiml::{Endpoint, NewDocument, StatusCallback};

pub use directory::{Directory, DirectoryError, Origin};

/// A customer.
#[derive(Clone, Debug)]
pub struct Account {
    pub sid: AccountSid,
    pub auth_token: Secret,
    pub name: String,
}

/// What runs for a call: the first document, what to do when there is none, and whom to tell.
#[derive(Clone, Debug, PartialEq)]
pub struct Application {
    pub document: NewDocument,
    pub status_callback: Option<StatusCallback>,
    /// Answer before the document is fetched, instead of when a verb needs it.
    pub answer_at_once: bool,
}

impl Application {
    pub fn fallback(&self) -> Option<&Endpoint> {
        self.document.fallback.as_ref()
    }
}

/// A telephone number, or another SIP user part that may be called.
#[derive(Clone, Debug)]
pub struct Number {
    pub number: String,
    pub account: AccountSid,
    pub application: Application,
}

/// A SIP user: registers, calls, and is called as `client:USERNAME`.
#[derive(Clone, Debug)]
pub struct User {
    pub account: AccountSid,
    pub username: String,
    pub domain: String,
    pub password: Secret,
    pub application: Option<Application>,
}

/// Names a user: unique in its domain.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
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
    pub application: Option<Application>,
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
