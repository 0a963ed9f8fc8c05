//! The other edges of a cluster: who they are, and what is said between them.
//!
//! Each has slots, which stand in every tag and branch that it mints. A SIP message that comes to another edge than the one
//! that has its slot is handed on by the link between them, and what that one answers goes out where it came in: so phones
//! may speak with any edge of the cluster, and a call is known to one.
//!
//! - `membership`: who lives, and who takes up the calls of one that does not
//! - `link`: the connections
//! - `proto`: what goes by them

mod link;
mod membership;
mod proto;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use bytes::Bytes;
use dialtone_sip::flow::{Flow, Transport};
use dialtone_sip::stack::Transmit;
use quinn::Connection;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, mpsc};

use crate::clock::mono_us;
pub use crate::hot::EdgeId;
pub use membership::{Adoption, Household, JoinError, Joined, Member, join, run};
pub use proto::{Frame, kind};

/// Who has a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    Ours,
    /// Another edge that there is a link to.
    Linked,
    /// An edge that is lost, and that nobody has taken over yet.
    Lost,
    Nobodys,
}

/// What an edge lets the others know of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// For people: the machine's name.
    pub name: String,
    /// Where it listens for nodes.
    pub cluster: SocketAddr,
    /// Where it listens for SIP, as it writes it into Via.
    pub sip: Vec<(Transport, SocketAddr)>,
}

/// What other edges have for this one.
#[derive(Debug)]
pub enum Inbound {
    /// A message for one of our slots that came to another edge by that flow.
    Received { flow: Flow, bytes: Bytes },
    /// A message that another edge sends by a flow of ours.
    Transmit(Transmit),
    /// What somebody here and somebody there have agreed on.
    Letter { from: EdgeId, kind: u32, body: Bytes },
    /// A question, to be answered.
    Ask(Ask),
    /// An edge is linked from now on.
    Linked(EdgeId),
}

/// A question of another edge. One that is dropped is told that there is no answer.
#[derive(Debug)]
pub struct Ask {
    pub from: EdgeId,
    pub kind: u32,
    pub body: Bytes,
    answer: link::Reply,
}

impl Ask {
    pub async fn answer(self, body: Bytes) {
        self.answer.send(body).await;
    }
}

/// The other edges. Clones are the same.
#[derive(Clone)]
pub struct Edges {
    inner: Arc<Inner>,
}

struct Inner {
    me: EdgeId,
    known: ArcSwap<Known>,
    links: Mutex<HashMap<EdgeId, Link>>,
    /// A link is lost: perhaps an edge is dead.
    lost: Notify,
    /// Until when this edge has what it has, by [`mono_us`].
    lease_until_us: AtomicU64,
    inbound: mpsc::Sender<Inbound>,
}

/// What is known of the cluster.
#[derive(Clone, Default)]
struct Known {
    owners: HashMap<u16, EdgeId>,
    listeners: HashMap<(Transport, SocketAddr), EdgeId>,
    abouts: HashMap<EdgeId, About>,
}

struct Link {
    connection: Connection,
    frames: mpsc::Sender<Frame>,
}

/// Frames that wait for a link; one more is dropped, as the network would (SIP sends it again).
const FRAMES: usize = 4096;

impl Edges {
    fn new(me: EdgeId, owners: HashMap<u16, EdgeId>, inbound: mpsc::Sender<Inbound>) -> Edges {
        let inner = Inner {
            me,
            known: ArcSwap::from_pointee(Known { owners, ..Known::default() }),
            links: Mutex::default(),
            lost: Notify::new(),
            lease_until_us: AtomicU64::new(0),
            inbound,
        };
        Edges { inner: Arc::new(inner) }
    }

    pub fn me(&self) -> &EdgeId {
        &self.inner.me
    }

    /// Whether the calls of this edge are its own still. One that has stood still for longer than the others wait, or that is cut
    /// off from all of them and from the store, is not to touch what they may have taken up.
    pub fn holds_lease(&self) -> bool {
        mono_us() < self.inner.lease_until_us.load(Ordering::Acquire)
    }

    fn extend_lease(&self, until_us: u64) {
        self.inner.lease_until_us.store(until_us, Ordering::Release);
    }

    /// The edges that there is a link to.
    pub fn linked(&self) -> Vec<EdgeId> {
        self.links().keys().cloned().collect()
    }

    /// What there is to know of an edge that lives.
    pub fn about(&self, edge: &EdgeId) -> Option<About> {
        self.inner.known.load().abouts.get(edge).cloned()
    }

    /// Who has a slot, as far as that can be reached.
    pub fn has_slot(&self, slot: u16) -> Whose {
        match self.inner.known.load().owners.get(&slot) {
            Some(owner) if *owner == self.inner.me => Whose::Ours,
            Some(owner) if self.links().contains_key(owner) => Whose::Linked,
            Some(_) => Whose::Lost,
            None => Whose::Nobodys,
        }
    }

    /// Hands a message on to another edge, which has its slot. Where the link to it is full the message is lost, as the network
    /// loses some.
    pub fn hand_on(&self, slot: u16, flow: Flow, bytes: &Bytes) {
        if let Some(owner) = self.inner.known.load().owners.get(&slot) {
            self.send(owner, Frame::received(flow, bytes.clone()));
        }
    }

    /// Sends by a flow of another edge; false where it is nobody's who can be reached.
    pub fn transmit(&self, transmit: &Transmit) -> bool {
        let key = (transmit.flow.transport, transmit.flow.local);
        match self.inner.known.load().listeners.get(&key) {
            Some(owner) if *owner != self.inner.me => {
                self.send(owner, Frame::transmit(transmit.flow, transmit.bytes.clone()))
            }
            _ => false,
        }
    }

    /// Sends a letter to one edge; false where there is no link to it, or that is full.
    pub fn letter(&self, to: &EdgeId, kind: u32, body: Bytes) -> bool {
        self.send(to, Frame::letter(kind, body))
    }

    /// Sends a letter to every edge that there is a link to.
    pub fn letter_to_all(&self, kind: u32, body: &Bytes) {
        for link in self.links().values() {
            let _ = link.frames.try_send(Frame::letter(kind, body.clone()));
        }
    }

    /// Asks an edge; `None` where it does not answer.
    pub async fn ask(&self, edge: &EdgeId, kind: u32, body: Bytes) -> Option<Bytes> {
        let connection = self.links().get(edge)?.connection.clone();
        link::ask(&connection, kind, body).await
    }

    /// Asks all of them at once.
    pub async fn ask_all(&self, kind: u32, body: Bytes) -> Vec<(EdgeId, Bytes)> {
        let asked: Vec<_> = self
            .linked()
            .into_iter()
            .map(|edge| {
                let (edges, body) = (self.clone(), body.clone());
                tokio::spawn(async move { Some((edge.clone(), edges.ask(&edge, kind, body).await?)) })
            })
            .collect();
        let mut answers = Vec::with_capacity(asked.len());
        for asked in asked {
            answers.extend(asked.await.ok().flatten());
        }
        answers
    }

    /// Parts from all of them.
    pub fn close(&self) {
        self.links().drain().for_each(|(_, link)| link.connection.close(0u32.into(), b"this edge ends"));
    }

    fn send(&self, to: &EdgeId, frame: Frame) -> bool {
        self.links().get(to).is_some_and(|link| link.frames.try_send(frame).is_ok())
    }

    fn links(&self) -> MutexGuard<'_, HashMap<EdgeId, Link>> {
        self.inner.links.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
