//! What is known of a client.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::parts::Parts;
use crate::hot::EdgeId;
use crate::ids::{AccountSid, fresh_sid};

/// Names a client: an identity, which another account may have too.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ClientId {
    pub account: AccountSid,
    /// One text for all who know the client.
    pub identity: Arc<str>,
}

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.account, self.identity)
    }
}

impl ClientId {
    /// As it was written.
    pub fn parse(text: &str) -> Option<ClientId> {
        let (account, identity) = text.split_once('/')?;
        Some(ClientId { account: account.parse().ok()?, identity: identity.into() })
    }
}

/// How a device is registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceKind {
    Sip,
    /// By an access token and a connection.
    Token,
    /// As `Token`, and it takes calls.
    Browser,
}

impl DeviceKind {
    pub fn as_str(self) -> &'static str {
        match self {
            DeviceKind::Sip => "sip",
            DeviceKind::Token => "token",
            DeviceKind::Browser => "browser",
        }
    }
}

/// Something that a client can be reached by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    pub sid: String,
    pub kind: DeviceKind,
    /// What it says that it is.
    pub user_agent: String,
    /// How it is reached: a SIP URI. Empty of one that is registered by its connection.
    pub contact: String,
    /// Wall clock, milliseconds since 1970.
    pub since_ms: u64,
    pub expires_ms: u64,
    /// It takes no calls, though it is there.
    pub is_closed: bool,
    /// It is offered calls also while it is in one.
    pub call_waiting: bool,
}

/// The name of a device: the same whenever it comes back as the same instance.
pub fn device_sid(client: &ClientId, instance: &str) -> String {
    let digest = Sha256::digest(format!("{client} {instance}"));
    let bits = u128::from_be_bytes(digest[..16].try_into().expect("sixteen of thirty-two bytes"));
    // All of it is chance: the part of the time too.
    fresh_sid("DV", (bits >> 80) as u64, bits)
}

/// A state that a device has published of its user (RFC 3903).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    pub tag: String,
    pub expires_ms: u64,
    /// Whether the user takes calls (RFC 3863 s4.1.4: basic).
    pub is_open: bool,
    pub note: String,
}

/// A call that a client's device is in, as a lamp shows it (RFC 4235).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InCall {
    /// Names the call among those of the client.
    pub id: String,
    pub is_initiator: bool,
    pub is_answered: bool,
    /// The other party.
    pub remote: String,
    /// The device's contact, where it is known.
    pub contact: String,
}

/// What one edge knows of a client.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    pub devices: Vec<Device>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub published: Vec<Published>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub calls: Vec<InCall>,
}

impl Part {
    pub fn is_empty(&self) -> bool {
        self.devices.is_empty() && self.published.is_empty() && self.calls.is_empty()
    }

    /// The same without what is over.
    pub(super) fn without_expired(&self, now_ms: u64) -> Part {
        let mut part = self.clone();
        part.devices.retain(|device| device.expires_ms > now_ms);
        part.published.retain(|published| published.expires_ms > now_ms);
        part
    }

    /// When the next thing of it is over.
    fn next_expiry(&self) -> Option<u64> {
        let devices = self.devices.iter().map(|device| device.expires_ms);
        devices.chain(self.published.iter().map(|published| published.expires_ms)).min()
    }
}

/// Whether two URIs are of the same device: their parameters say how it is reached, and not what it is.
fn is_same_contact(one: &str, other: &str) -> bool {
    let bare = |uri: &str| uri.split([';', '?']).next().unwrap_or_default().to_ascii_lowercase();
    !one.is_empty() && bare(one) == bare(other)
}

/// A client as all edges know it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Record {
    /// Grows with each change, and never comes again.
    pub version: u64,
    /// The edge that has made it what it is, and tells what it has changed.
    pub author: Arc<str>,
    pub parts: Parts,
}

/// How a client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Available,
    /// Every device is in a call.
    Busy,
    /// It is there and wants no calls.
    Away,
    Offline,
}

impl Status {
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Available => "available",
            Status::Busy => "busy",
            Status::Away => "away",
            Status::Offline => "offline",
        }
    }
}

impl Record {
    /// Devices that are there, those of one edge after those of another.
    pub fn devices(&self, now_ms: u64) -> impl Iterator<Item = &Device> {
        self.parts.values().flat_map(|part| &part.devices).filter(move |device| device.expires_ms > now_ms)
    }

    pub fn calls(&self) -> impl Iterator<Item = &InCall> {
        self.parts.values().flat_map(|part| &part.calls)
    }

    /// What its user has published last, if that holds still.
    pub fn published(&self, now_ms: u64) -> Option<&Published> {
        let live = self.parts.values().flat_map(|part| &part.published).filter(|it| it.expires_ms > now_ms);
        // Who does not want to be called is not, whatever another device says.
        live.min_by_key(|published| (published.is_open, std::cmp::Reverse(published.expires_ms)))
    }

    pub fn status(&self, now_ms: u64) -> Status {
        let mut open = self.devices(now_ms).filter(|device| !device.is_closed).peekable();
        match () {
            () if self.devices(now_ms).next().is_none() => Status::Offline,
            () if self.published(now_ms).is_some_and(|published| !published.is_open) => Status::Away,
            () if open.peek().is_none() => Status::Away,
            () if open.all(|device| self.is_in_call(device)) => Status::Busy,
            () => Status::Available,
        }
    }

    /// Whether a device is in a call that was answered.
    pub fn is_in_call(&self, device: &Device) -> bool {
        self.calls().any(|call| call.is_answered && is_same_contact(&call.contact, &device.contact))
    }

    /// Whether a call is offered to a device.
    pub fn takes_calls(&self, device: &Device, now_ms: u64) -> bool {
        !device.is_closed
            && (device.call_waiting || !self.is_in_call(device))
            && self.published(now_ms).is_none_or(|published| published.is_open)
    }

    pub fn is_available(&self, now_ms: u64) -> bool {
        self.devices(now_ms).any(|device| self.takes_calls(device, now_ms))
    }

    /// Whether it was, before anything of it expired.
    pub(super) fn was_available(&self) -> bool {
        self.is_available(0)
    }

    /// The same without what is over.
    pub(super) fn without_expired(mut self, now_ms: u64) -> Record {
        let is_over = |part: &Part| part.next_expiry().is_some_and(|at_ms| at_ms <= now_ms);
        if self.parts.values().any(is_over) {
            let left = self.parts.iter().map(|(edge, part)| (edge.clone(), part.without_expired(now_ms)));
            self.parts = left.filter(|(_, part)| !part.is_empty()).map(|(edge, part)| (edge, Arc::new(part))).collect();
        }
        self
    }

    /// When the next thing of it is over.
    pub(super) fn next_expiry(&self) -> Option<u64> {
        self.parts.values().filter_map(Part::next_expiry).min()
    }

    /// Puts what an edge of that name knows in the place of what it, or an earlier life of it, knew.
    pub(super) fn put(&mut self, edge: &EdgeId, name: &Arc<str>, part: Option<Arc<Part>>) {
        self.parts.retain(|name| EdgeId::parse(name).is_some_and(|known| known.node != edge.node));
        if let Some(part) = part {
            self.parts.insert(name.clone(), part);
        }
    }
}
