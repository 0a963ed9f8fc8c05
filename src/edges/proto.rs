//! What edges say to each other: frames on one stream of their connection, in order; each question has a stream of its own.

use bytes::Bytes;
use dialtone_sip::flow::{ConnectionId, Flow, Transport};

/// The first words of both.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Hello {
    /// Which life of which node.
    #[prost(string, tag = "1")]
    pub edge: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Frame {
    #[prost(oneof = "Kind", tags = "1, 2, 3, 4")]
    pub(super) kind: Option<Kind>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(super) enum Kind {
    #[prost(message, tag = "1")]
    Hello(Hello),
    /// It came here, and is yours.
    #[prost(message, tag = "2")]
    Received(Packet),
    /// Send it from where you listen.
    #[prost(message, tag = "3")]
    Transmit(Packet),
    #[prost(message, tag = "4")]
    Letter(Letter),
}

/// A SIP message and its flow.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Packet {
    /// As in a URI.
    #[prost(string, tag = "1")]
    transport: String,
    /// IP:PORT.
    #[prost(string, tag = "2")]
    local: String,
    #[prost(string, tag = "3")]
    remote: String,
    #[prost(uint64, optional, tag = "4")]
    connection: Option<u64>,
    #[prost(bytes = "bytes", tag = "5")]
    bytes: Bytes,
}

/// What a letter or a question is about: those who read it agree on what stands in it.
pub mod kind {
    /// A letter: a user's bindings have changed (JSON, `hot::Delta`).
    pub const BINDINGS: u32 = 1;
    /// A letter: what customers make has changed in the database.
    pub const RESOURCES: u32 = 2;
    /// A letter: what rooms and calls of two edges tell each other.
    pub const ROOM: u32 = 3;
    /// A letter: there is something new in the event logs of these accounts (JSON).
    pub const EVENTS: u32 = 4;
    /// A letter: a client's record, and its name (JSON).
    pub const PRESENCE: u32 = 5;
    /// A letter: that device of a client is to be registered no more (JSON).
    pub const DEVICE_REMOVED: u32 = 6;
    /// A question: that the database is read again; answered when that is done.
    pub const READ_AGAIN: u32 = 19;
    /// A question: whether something runs there, by its sid; anything at all says that it does.
    pub const RUNS: u32 = 16;
    /// A question: an HTTP request, answered by its response.
    pub const HTTP: u32 = 17;
    /// A question: the calls of an account that run there (JSON).
    pub const CALLS: u32 = 18;
}

/// What those who have agreed on its kind know how to read; also a question.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Letter {
    #[prost(uint32, tag = "1")]
    pub kind: u32,
    #[prost(bytes = "bytes", tag = "2")]
    pub body: Bytes,
}

impl Frame {
    pub(super) fn hello(edge: String) -> Frame {
        Frame { kind: Some(Kind::Hello(Hello { edge })) }
    }

    pub(super) fn received(flow: Flow, bytes: Bytes) -> Frame {
        Frame { kind: Some(Kind::Received(Packet::new(flow, bytes))) }
    }

    pub(super) fn transmit(flow: Flow, bytes: Bytes) -> Frame {
        Frame { kind: Some(Kind::Transmit(Packet::new(flow, bytes))) }
    }

    pub(super) fn letter(kind: u32, body: Bytes) -> Frame {
        Frame { kind: Some(Kind::Letter(Letter { kind, body })) }
    }
}

impl Packet {
    fn new(flow: Flow, bytes: Bytes) -> Packet {
        Packet {
            transport: flow.transport.uri_name().to_owned(),
            local: flow.local.to_string(),
            remote: flow.remote.to_string(),
            connection: flow.connection.map(|connection| connection.0),
            bytes,
        }
    }

    pub(super) fn open(self) -> Option<(Flow, Bytes)> {
        let flow = Flow {
            transport: Transport::named(&self.transport)?,
            local: self.local.parse().ok()?,
            remote: self.remote.parse().ok()?,
            connection: self.connection.map(ConnectionId),
        };
        Some((flow, self.bytes))
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;

    #[test]
    fn flow_survives_the_wire() {
        let flows =
            [(Transport::Tcp, None), (Transport::Tls, Some(ConnectionId(7))), (Transport::Ws, Some(ConnectionId(8)))];
        for (transport, connection) in flows {
            let flow = Flow {
                transport,
                local: "[2001:db8::1]:5060".parse().unwrap(),
                remote: "192.0.2.1:9".parse().unwrap(),
                connection,
            };
            let frame = Frame::received(flow, Bytes::from_static(b"OPTIONS"));
            let read = Frame::decode(Bytes::from(frame.encode_to_vec())).unwrap();
            let Some(Kind::Received(packet)) = read.kind else { panic!("another frame") };
            assert_eq!(packet.open(), Some((flow, Bytes::from_static(b"OPTIONS"))));
        }
    }
}
