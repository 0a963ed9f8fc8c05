//! Media workers, as the edge sees them. Edge and worker talk by messages of `media::proto` only.
//!
//! There is the worker of this process ([`here`]), or there are links to any number of others ([`link`]), of which the
//! [`pool`] chooses one for each session, and another when that is lost.

pub mod balancer;
mod book;
mod here;
mod link;
pub mod pool;
mod roster;
pub mod selection;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use dialtone_media::proto::CommandKind;
use dialtone_media::proto::link::Edges;
use dialtone_media::worker;

use crate::cluster::ClusterError;

pub use here::Here;
pub use link::{Links, Listening};
pub use pool::{LinkEnd, Placement, State, Told};
pub use roster::{Roster, Seen};

/// The workers of an edge.
pub enum Workers {
    Here(Box<Here>),
    Linked(Box<Links>),
}

impl Workers {
    /// The one worker of this process; call inside the shard's runtime.
    pub fn here(config: worker::Config) -> io::Result<Workers> {
        Here::start(config).map(|here| Workers::Here(Box::new(here)))
    }

    /// Those that link to this edge; call inside the shard's runtime.
    pub fn linked(listening: Listening, seed: [u8; 32]) -> Result<Workers, ClusterError> {
        Links::start(listening, seed).map(|links| Workers::Linked(Box::new(links)))
    }

    /// Where workers find this edge, if they come from outside.
    pub fn address(&self) -> Option<SocketAddr> {
        match self {
            Workers::Here(_) => None,
            Workers::Linked(links) => Some(links.address()),
        }
    }

    /// Shows them to whoever looks; `address` is that of the media of this process.
    pub fn roster(&self, address: &str) -> Roster {
        match self {
            Workers::Here(here) => Roster::here(here.meter(), address.to_owned()),
            Workers::Linked(links) => links.roster(),
        }
    }

    /// Waits until sessions find a place, but no longer than that; false where they do not.
    pub async fn settled(&mut self, patience: Duration) -> bool {
        match self {
            Workers::Here(_) => true,
            Workers::Linked(links) => links.settled(patience).await,
        }
    }

    /// Whether another session finds a place. The worker of this process says so itself, by its ports.
    pub fn have_room(&self) -> bool {
        match self {
            Workers::Here(_) => true,
            Workers::Linked(links) => links.have_room(),
        }
    }

    /// Sends a command to a session; answers come by [`Workers::poll_told`].
    pub fn send(&mut self, session_id: u64, kind: CommandKind) {
        match self {
            Workers::Here(here) => here.send(session_id, kind),
            Workers::Linked(links) => links.send(session_id, kind),
        }
    }

    /// Where a session is and what it is to be, for an edge that starts anew. The worker of this process dies with it.
    pub fn placement(&self, session_id: u64) -> Option<Placement> {
        match self {
            Workers::Here(_) => None,
            Workers::Linked(links) => links.placement(session_id),
        }
    }

    /// Takes up a session of an edge that is no more.
    pub fn restore(&mut self, session_id: u64, placement: Placement) {
        if let Workers::Linked(links) = self {
            links.restore(session_id, placement);
        }
    }

    /// Asks a worker to take no new sessions; false where there is none of that name.
    pub fn drain(&mut self, name: &str) -> bool {
        match self {
            Workers::Here(_) => false,
            Workers::Linked(links) => links.drain(name),
        }
    }

    /// The other end of that link is with another edge, known here as `peer`.
    pub fn link_to(&mut self, key: u64, peer: String, is_first: bool) {
        if let Workers::Linked(links) = self {
            links.link_to(key, peer, is_first);
        }
    }

    /// Tells another edge anew where the ends of its links are.
    pub fn tell_link_ends(&mut self, peer: &str) {
        if let Workers::Linked(links) = self {
            links.tell_link_ends(peer);
        }
    }

    /// Another edge tells where its end of a link is.
    pub fn far_end(&mut self, key: u64, end: LinkEnd) {
        if let Workers::Linked(links) = self {
            links.far_end(key, end);
        }
    }

    /// Tells the workers of all edges of the cluster.
    pub fn tell_edges(&mut self, edges: Edges) {
        if let Workers::Linked(links) = self {
            links.tell_edges(edges);
        }
    }

    pub fn poll_told(&mut self) -> Option<Told> {
        match self {
            Workers::Here(here) => here.poll_event().map(Told::Event),
            Workers::Linked(links) => links.poll_told(),
        }
    }

    /// Waits for packets, or for words. Cancel-safe.
    pub async fn readable(&mut self) {
        match self {
            Workers::Here(here) => here.readable().await,
            Workers::Linked(links) => links.readable().await,
        }
    }

    /// Takes what has come, and lets time pass.
    pub fn turn(&mut self) {
        match self {
            Workers::Here(here) => here.turn(),
            Workers::Linked(links) => links.turn(),
        }
    }

    /// Lets packets gather, where there are many and they come here: half a millisecond at most.
    pub fn rest(&self) {
        if let Workers::Here(here) = self {
            here.rest();
        }
    }

    /// When [`Workers::turn`] is due, whatever comes.
    pub fn timeout(&mut self) -> Option<Duration> {
        match self {
            Workers::Here(here) => here.timeout(),
            Workers::Linked(links) => links.timeout(),
        }
    }
}
