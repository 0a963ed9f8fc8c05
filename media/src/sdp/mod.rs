//! SDP, as far as offer and answer of one audio stream need it: a model, its parser and its writer.
//!
//! The only place in Dialtone that reads or writes SDP (RFC 4566, with `rtcp` of RFC 3605, `rtcp-mux` of RFC 5761, and
//! what protects media). Lines that we do not use are read over and not kept. [`Negotiation`] is RFC 3264 on top of it, and
//! [`MediaPlan`] is what an agreed pair of descriptions means for a leg.

mod offer_answer;
mod parse;
mod plan;
mod security;
mod write;

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

pub use offer_answer::{Negotiation, SdpError};
pub use parse::{Malformed, parse};
pub use plan::{MediaPlan, Payload};
pub use security::{Crypto, Demand, Fingerprint, Protected, Protection, Security, Setup, Transport};

/// Where a description of ours says that we receive.
pub fn endpoint_of(sdp: &[u8]) -> Option<SocketAddr> {
    if sdp.is_empty() {
        return None;
    }
    let description = parse(sdp).ok()?;
    let media = description.media.iter().find(|media| media.kind == "audio" && media.port != 0)?;
    match media.connections.first().or(description.connection.as_ref())? {
        Address::Ip(ip) => Some(SocketAddr::new(*ip, media.port)),
        Address::Name(_) => None,
    }
}

/// By what name a description of ours has a browser's transport.
pub fn ufrag_of(sdp: &[u8]) -> Option<String> {
    parse(sdp).ok()?.media.into_iter().find(|media| media.port != 0)?.security.ice_ufrag
}

/// A session description.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionDescription {
    /// `None` where the line is missing or its numbers do not fit 64 bits: we can do without a peer's.
    pub origin: Option<Origin>,
    pub connection: Option<Address>,
    /// Of the session, for each medium that has none of its own.
    pub direction: Option<Direction>,
    /// At most 16, in order: an answer has the same number.
    pub media: Vec<Media>,
}

/// The `o=` line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    pub username: Name,
    pub session_id: u64,
    pub version: u64,
    pub address: Address,
}

/// An address of a `c=`, `o=` or `a=rtcp` line. Multicast suffixes (`/ttl`) are dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    Ip(IpAddr),
    /// A host name, which a worker cannot resolve.
    Name(String),
}

/// A word that is nearly always one of a few: those are not copied.
pub type Name = Cow<'static, str>;

/// One `m=` line with its attributes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Media {
    /// `audio`, `video`, ...
    pub kind: Name,
    /// 0 where the stream is refused or given up.
    pub port: u16,
    /// `RTP/AVP`, ...
    pub protocol: Name,
    /// The rest of the line as it came, for an answer that refuses the stream.
    pub formats: String,
    /// Every `c=` line of this medium: RFC 5118 has peers that name both families.
    pub connections: Vec<Address>,
    pub direction: Option<Direction>,
    pub rtpmaps: Vec<RtpMap>,
    pub ptime_ms: Option<u8>,
    pub maxptime_ms: Option<u8>,
    pub rtcp: Option<RtcpAddress>,
    pub rtcp_mux: bool,
    pub security: Security,
    /// `a=mid`, by which a browser's bundle names it (RFC 5888).
    pub mid: Option<String>,
    /// `fmtp` of telephone-event and Opus: the payload type, and what its sender understands, or wants.
    pub parameters: Vec<(u8, String)>,
    /// `rtcp-fb` of Opus: its payload types whose lost packets may be asked for (RFC 4585 s4.2).
    pub nacks: Vec<u8>,
}

/// `a=rtpmap`: what a payload type means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RtpMap {
    pub payload_type: u8,
    pub encoding: Name,
    pub rate_hz: u32,
    /// 1 where the line names none.
    pub channels: u8,
}

/// `a=rtcp`: where reports go, if not to the port above the media's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RtcpAddress {
    pub port: u16,
    pub address: Option<Address>,
}

/// Who sends, from the view of whoever wrote the description.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Direction {
    #[default]
    SendRecv,
    SendOnly,
    RecvOnly,
    Inactive,
}

impl Direction {
    pub const ALL: [Direction; 4] =
        [Direction::SendRecv, Direction::SendOnly, Direction::RecvOnly, Direction::Inactive];

    pub const fn name(self) -> &'static str {
        match self {
            Direction::SendRecv => "sendrecv",
            Direction::SendOnly => "sendonly",
            Direction::RecvOnly => "recvonly",
            Direction::Inactive => "inactive",
        }
    }

    pub const fn new(sends: bool, receives: bool) -> Direction {
        match (sends, receives) {
            (true, true) => Direction::SendRecv,
            (true, false) => Direction::SendOnly,
            (false, true) => Direction::RecvOnly,
            (false, false) => Direction::Inactive,
        }
    }

    pub const fn sends(self) -> bool {
        matches!(self, Direction::SendRecv | Direction::SendOnly)
    }

    pub const fn receives(self) -> bool {
        matches!(self, Direction::SendRecv | Direction::RecvOnly)
    }

    /// The same stream seen from the other side.
    pub const fn reversed(self) -> Direction {
        Direction::new(self.receives(), self.sends())
    }
}

impl Media {
    /// A line of which nothing is said.
    fn new(kind: Name, port: u16, protocol: Name, formats: String) -> Media {
        Media {
            kind,
            port,
            protocol,
            formats,
            connections: Vec::new(),
            direction: None,
            rtpmaps: Vec::new(),
            ptime_ms: None,
            maxptime_ms: None,
            rtcp: None,
            rtcp_mux: false,
            security: Security::default(),
            mid: None,
            parameters: Vec::new(),
            nacks: Vec::new(),
        }
    }

    /// The payload types of the line, in order; other formats are left out.
    pub fn payload_types(&self) -> impl Iterator<Item = u8> + '_ {
        self.formats.split_ascii_whitespace().filter_map(|format| format.parse().ok()).filter(|pt| *pt < 128)
    }

    /// What a payload type means by an `rtpmap` line, where there is one.
    pub fn rtpmap(&self, payload_type: u8) -> Option<&RtpMap> {
        self.rtpmaps.iter().find(|map| map.payload_type == payload_type)
    }

    /// What an `fmtp` line says of a payload type that we understand.
    pub fn parameters_of(&self, payload_type: u8) -> Option<&str> {
        self.parameters.iter().find(|(number, _)| *number == payload_type).map(|(_, parameters)| parameters.as_str())
    }
}

impl Address {
    /// `0.0.0.0` and `::`: a hold in the style of RFC 2543, or a black hole of RFC 3725.
    pub fn is_unspecified(&self) -> bool {
        matches!(self, Address::Ip(ip) if ip.is_unspecified())
    }
}

/// The encoding name of RFC 4733 events.
const EVENT_NAME: &str = "telephone-event";
