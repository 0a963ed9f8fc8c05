//! What a limit is of, and for whom.

use std::fmt;

use crate::account::{Account, Directory};
use crate::ids::AccountSid;

/// Something of which there may be so much at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Resource {
    Calls,
    /// Requests to the REST API.
    Api,
    /// Of a call's sound to a program.
    Streams,
    ConferenceParticipants,
}

impl Resource {
    pub const ALL: [Resource; 4] =
        [Resource::Calls, Resource::Api, Resource::Streams, Resource::ConferenceParticipants];

    /// As a label, and in a path.
    pub fn as_str(self) -> &'static str {
        match self {
            Resource::Calls => "calls",
            Resource::Api => "api",
            Resource::Streams => "streams",
            Resource::ConferenceParticipants => "conference-participants",
        }
    }

    /// By the last part of a path, whatever its letters: `Calls`, `conference-participants`, `ConferenceParticipants`.
    pub fn named(name: &str) -> Option<Resource> {
        let plain = |text: &str| text.to_ascii_lowercase().replace('-', "");
        Resource::ALL.into_iter().find(|resource| plain(resource.as_str()) == plain(name))
    }

    /// What an account may have of it; `None` is any number.
    pub fn limit_of(self, account: &Account) -> Option<u32> {
        match self {
            Resource::Calls => account.limits.calls,
            Resource::Api => account.limits.api,
            Resource::Streams => account.limits.streams,
            Resource::ConferenceParticipants => account.limits.conference_participants,
        }
    }
}

/// For whom a limit is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    Account(Resource, AccountSid),
    /// An account's trunk: of calls.
    Trunk(AccountSid, String),
    /// All edges together: of calls.
    Cluster,
}

impl Scope {
    pub fn resource(&self) -> Resource {
        match self {
            Scope::Account(resource, _) => *resource,
            Scope::Trunk(..) | Scope::Cluster => Resource::Calls,
        }
    }
}

/// The name by which edges share it.
impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Scope::Account(resource, account) => write!(f, "{}:{account}", resource.as_str()),
            Scope::Trunk(account, trunk) => write!(f, "calls:{account}:{trunk}"),
            Scope::Cluster => f.write_str("calls"),
        }
    }
}

/// A place in a scope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Want {
    pub scope: Scope,
    pub limit: u32,
}

/// Places in an account, and in the one that has made it; where there is no limit there is nothing to want.
pub fn account_and_owners(resource: Resource, account: AccountSid, directory: &Directory) -> Vec<Want> {
    let own = directory.account(account);
    let owner = own.and_then(|own| directory.account(own.owner?));
    let want = |account: &std::sync::Arc<Account>| {
        let limit = resource.limit_of(account)?;
        Some(Want { scope: Scope::Account(resource, account.sid), limit })
    };
    [own, owner].into_iter().flatten().filter_map(want).collect()
}
