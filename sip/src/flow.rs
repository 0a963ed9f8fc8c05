//! Where a message came from and where one goes: a flow (RFC 5626 s1) is a transport 5-tuple or a connection.

use std::fmt;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// A SIP transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Transport {
    Udp,
    Tcp,
    /// TLS over TCP (RFC 3261 s26.3.1).
    Tls,
    /// A WebSocket, each message of which is one of SIP (RFC 7118). Only peers open one.
    Ws,
}

impl Transport {
    /// Whether the transport itself retransmits: timers A, E and G are off, D, I, J and K are zero (RFC 3261 s17).
    pub fn is_reliable(self) -> bool {
        self != Transport::Udp
    }

    /// As in a Via header: `UDP`.
    pub fn via_name(self) -> &'static str {
        match self {
            Transport::Udp => "UDP",
            Transport::Tcp => "TCP",
            Transport::Tls => "TLS",
            Transport::Ws => "WS",
        }
    }

    /// As in a URI's `transport` parameter and in a configuration: `udp`.
    pub fn uri_name(self) -> &'static str {
        match self {
            Transport::Udp => "udp",
            Transport::Tcp => "tcp",
            Transport::Tls => "tls",
            Transport::Ws => "ws",
        }
    }

    /// Where no port is written (RFC 3261 s19.1.2).
    pub fn default_port(self) -> u16 {
        if self == Transport::Tls { 5061 } else { 5060 }
    }

    /// One that we can open ourselves.
    pub fn from_uri_name(name: &str) -> Option<Transport> {
        Transport::named(name).filter(|transport| *transport != Transport::Ws)
    }

    /// The one that [`Transport::uri_name`] names.
    pub fn named(name: &str) -> Option<Transport> {
        let all = [Transport::Udp, Transport::Tcp, Transport::Tls, Transport::Ws];
        all.into_iter().find(|transport| transport.uri_name().eq_ignore_ascii_case(name))
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.uri_name())
    }
}

/// One connection of a stream transport, numbered by its owner; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ConnectionId(pub u64);

/// A transport 5-tuple, or a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Flow {
    pub transport: Transport,
    /// The address that we listen on.
    pub local: SocketAddr,
    pub remote: SocketAddr,
    /// The stream connection; `None` for UDP, and for a stream that is yet to be opened.
    pub connection: Option<ConnectionId>,
}

impl Flow {
    /// The same flow as seen by replies to another address of the peer.
    pub fn to(self, remote: SocketAddr) -> Flow {
        if remote == self.remote { self } else { Flow { remote, connection: None, ..self } }
    }
}

impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.transport, self.remote)
    }
}
