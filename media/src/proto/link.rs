//! What an edge and a worker tell each other beside the sessions: who they are, how full, and who took whose place.
//!
//! A worker dials its edges. On each connection it opens one stream for this, and sends [`Hello`]; the edge answers with
//! [`Welcome`], or closes the connection with the reason. The edge then opens one stream for each session: it carries
//! the session's [`Command`](super::Command)s one way and its [`MediaEvent`](super::MediaEvent)s the other, in order, and lives
//! as long as the session. [`CommandKind::Audio`](super::CommandKind::Audio) comes by a stream of its own, so that no
//! command waits behind a prompt. Every message has its length before it, in four bytes.
//!
//! Versions: each side speaks every version from [`OLDEST`] to [`NEWEST`], which is the last release's and this one's.
//! Fields that are not known are skipped, as protobuf does.

use super::LoadReport;

/// The newest version of the link that is spoken here.
pub const NEWEST: u32 = 1;
/// The oldest.
pub const OLDEST: u32 = 1;
/// The protocol's name in TLS.
pub const ALPN: &[u8] = b"dialtone/1";

/// The first words of a worker.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Hello {
    #[prost(uint32, tag = "1")]
    pub oldest: u32,
    #[prost(uint32, tag = "2")]
    pub newest: u32,
    /// The version of the program, for people.
    #[prost(string, tag = "3")]
    pub build: String,
    #[prost(uint32, tag = "4")]
    pub pid: u32,
    /// Where its media is, an IP address.
    #[prost(string, tag = "5")]
    pub media_address: String,
    #[prost(message, optional, tag = "6")]
    pub load: Option<LoadReport>,
    /// Which of the processes of its machine: a machine has one certificate, and each process its own link.
    #[prost(uint32, tag = "7")]
    pub process: u32,
    /// Where frames of other workers reach it, IP:PORT.
    #[prost(string, tag = "8")]
    pub frames_address: String,
}

/// An edge takes a worker.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Welcome {
    /// What is spoken from now on.
    #[prost(uint32, tag = "1")]
    pub version: u32,
    /// The node that the edge is, whichever of its lives this is.
    #[prost(string, tag = "2")]
    pub node: String,
}

/// What a worker tells.
#[derive(Clone, PartialEq, prost::Message)]
pub struct FromWorker {
    #[prost(oneof = "FromWorkerKind", tags = "1, 2, 3")]
    pub kind: Option<FromWorkerKind>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub enum FromWorkerKind {
    #[prost(message, tag = "1")]
    Hello(Hello),
    /// Each second, and when it changes by a twentieth.
    #[prost(message, tag = "2")]
    Load(LoadReport),
    #[prost(message, tag = "3")]
    TookOver(TookOver),
}

/// A worker died, and this one of the same machine has its sockets and what it had written down of its legs: sessions
/// that are opened here go on where they were, and nobody need be told of another address.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TookOver {
    /// The number of the process that died, as its [`Hello`] had it.
    #[prost(uint32, tag = "1")]
    pub process: u32,
    /// The session that it was working for at that moment, 0 if none.
    #[prost(uint64, tag = "2")]
    pub suspect: u64,
}

/// What an edge tells.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ToWorker {
    #[prost(oneof = "ToWorkerKind", tags = "1, 2, 3")]
    pub kind: Option<ToWorkerKind>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub enum ToWorkerKind {
    #[prost(message, tag = "1")]
    Welcome(Welcome),
    /// Take no new sessions from anybody, and end when the last one is over.
    #[prost(message, tag = "2")]
    Drain(Drain),
    #[prost(message, tag = "3")]
    Edges(Edges),
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Drain {}

/// The edges of the cluster, told by any of them when that changes: a worker serves all.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Edges {
    #[prost(message, repeated, tag = "1")]
    pub edges: Vec<Edge>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Edge {
    /// As in its [`Welcome`].
    #[prost(string, tag = "1")]
    pub node: String,
    /// Where it listens for workers, IP:PORT.
    #[prost(string, tag = "2")]
    pub address: String,
}

/// The version that both sides speak, if there is one.
pub fn common_version(hello: &Hello) -> Option<u32> {
    let newest = NEWEST.min(hello.newest);
    (newest >= OLDEST.max(hello.oldest)).then_some(newest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newest_version_that_both_speak_is_spoken() {
        let hello = |oldest, newest| Hello { oldest, newest, ..Hello::default() };
        assert_eq!(common_version(&hello(OLDEST, NEWEST)), Some(NEWEST));
        assert_eq!(common_version(&hello(NEWEST, NEWEST + 1)), Some(NEWEST), "the next release comes first");
        assert_eq!(common_version(&hello(NEWEST + 1, NEWEST + 2)), None, "two releases apart");
    }
}
