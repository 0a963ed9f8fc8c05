//! Facts that edges share and that pass: which of them live, who owns which calls, who is registered, who has which room.
//!
//! What is asked is a [`Command`] and what comes of it an [`Answer`], so that memory and Redis can be held against each other.
//! An edge that stands alone asks nobody.
//!
//! An edge lives as long as its last [`Command::Beat`] says. What it owns goes by slots, the first part of every tag and branch
//! that it mints: whoever has the slot has its calls. The slot of an edge that is dead may be taken, with the calls, by one other;
//! from then on nothing is taken of the former owner for it: that one is fenced, should it live after all.

mod bindings;
mod holds;
mod memory;
mod redis;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::ids::CallSid;

pub use bindings::{Bindings, Delta, Touch};
pub use holds::{Claim, Held, Holder, Holds, Raise, Raised};
pub use memory::Memory;
pub use redis::Redis;

/// The slots that there are: three digits of a tag.
pub const SLOTS: u16 = 4096;

/// One life of an edge: the name of its node, and a number that grows with each start.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct EdgeId {
    pub node: String,
    pub epoch: u64,
}

impl fmt::Display for EdgeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.node, self.epoch)
    }
}

impl EdgeId {
    pub fn parse(text: &str) -> Option<EdgeId> {
        let (node, epoch) = text.rsplit_once('@')?;
        Some(EdgeId { node: node.to_owned(), epoch: epoch.parse().ok()? })
    }
}

/// What an edge asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// It lives, for so long, and this is to be known of it. It has these slots, as far as nobody has taken them: a store
    /// that has forgotten everything, the edge too, learns it again.
    Beat {
        edge: EdgeId,
        lease_ms: u64,
        about: String,
        slots: Vec<u16>,
        /// How long a store that has forgotten everything waits for edges to say what they hold.
        barrier_ms: u64,
    },
    /// It lives no more: its slots may be taken at once.
    Leave { edge: EdgeId },
    /// The lowest slot that nobody has.
    TakeFree { edge: EdgeId },
    /// The slot of an edge that is dead, with the calls that it has.
    Adopt { edge: EdgeId, slot: u16, from: EdgeId },
    /// Gives a slot back that has no calls any more.
    Free { edge: EdgeId, slot: u16 },
    /// Adds to what a call has told, and replaces its state unless that is `None`.
    Write { edge: EdgeId, slot: u16, call: CallSid, events: Vec<u8>, state: Option<Vec<u8>> },
    /// The call is over.
    Drop { edge: EdgeId, slot: u16, call: CallSid },
    /// Puts a value into a map that all share.
    Put { map: String, field: String, value: Vec<u8> },
    /// Takes that value out of a map, unless there is another by now.
    Remove { map: String, field: String, value: Vec<u8> },
    /// Puts a value of a greater version into a map, unless what is there is of another than was seen; 0: nothing is. An empty value
    /// leaves nothing there. Values that are put so have their version before them, and a space.
    Swap { map: String, field: String, seen: u64, version: u64, value: Vec<u8> },
    /// All that a map has, by field.
    All { map: String },
    /// Holds so much of scopes that have limits.
    Hold { edge: EdgeId, claim: Claim },
    /// Who holds how much of a scope.
    Holders { scope: String },
    /// Takes a name that nobody has who lives.
    Claim { edge: EdgeId, name: String, value: String },
    /// Gives it back, if it is the edge's with that value.
    Unclaim { edge: EdgeId, name: String, value: String },
}

impl Command {
    /// As a label.
    fn name(&self) -> &'static str {
        match self {
            Command::Beat { .. } => "beat",
            Command::Leave { .. } => "leave",
            Command::TakeFree { .. } => "take_free",
            Command::Adopt { .. } => "adopt",
            Command::Free { .. } => "free",
            Command::Write { .. } => "write",
            Command::Drop { .. } => "drop",
            Command::Put { .. } => "put",
            Command::Remove { .. } => "remove",
            Command::Swap { .. } => "swap",
            Command::All { .. } => "all",
            Command::Hold { .. } => "lease_acquire",
            Command::Holders { .. } => "holders",
            Command::Claim { .. } => "claim",
            Command::Unclaim { .. } => "unclaim",
        }
    }
}

/// What comes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Done,
    Alive(Alive),
    /// `None`: all are taken.
    Slot(Option<u16>),
    /// `None`: its owner lives, or it has another by now.
    Adopted(Option<Vec<KeptCall>>),
    Written(Written),
    /// By field.
    Values(Vec<(String, Vec<u8>)>),
    /// `None`: it was done. Else what is there, with its version; 0: nothing is.
    Swapped(Option<(u64, Vec<u8>)>),
    Held(Held),
    Holders(Vec<(EdgeId, u32)>),
    /// Whose the name is, perhaps since before.
    Claimed {
        edge: EdgeId,
        value: String,
    },
}

/// A value that was swapped in: its version, and itself. 0 and nothing of one that is not there.
pub fn versioned(kept: &[u8]) -> (u64, &[u8]) {
    let (version, value) =
        kept.iter().position(|byte| *byte == b' ').map_or((kept, &b""[..]), |at| (&kept[..at], &kept[at + 1..]));
    (std::str::from_utf8(version).ok().and_then(|text| text.parse().ok()).unwrap_or(0), value)
}

/// What came of writing something of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    Done,
    /// Nothing was written: another edge has the slot.
    Fenced,
    /// Nothing was written: nobody has the slot, as the store has forgotten. The next beat sees to that.
    Forgotten,
}

/// Who lives, and who has what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Alive {
    /// With what is to be known of each, by name.
    pub edges: Vec<(EdgeId, String)>,
    /// Every slot that somebody has or had.
    pub slots: Vec<(u16, EdgeId)>,
    /// Slots of the asking edge that are others' by now.
    pub lost: Vec<u16>,
    /// Slots of the asking edge that nobody had: the store has forgotten them, and everything else.
    pub forgotten: Vec<u16>,
}

impl Alive {
    pub fn lives(&self, edge: &EdgeId) -> bool {
        self.edges.iter().any(|(lives, _)| lives == edge)
    }
}

/// A call as its edge has written it down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptCall {
    pub call: CallSid,
    pub events: Vec<u8>,
    pub state: Option<Vec<u8>>,
}

/// Why nothing came of a command: the store does not answer.
#[derive(Debug)]
pub struct HotError(pub String);

impl fmt::Display for HotError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for HotError {}

/// Where the facts are. Clones are the same place.
#[derive(Clone)]
pub enum Hot {
    /// In this process: its edge is alone.
    Memory(Arc<Mutex<Memory>>, Instant),
    Redis(Redis),
}

impl Hot {
    pub fn memory() -> Hot {
        Hot::Memory(Arc::default(), Instant::now())
    }

    pub async fn ask(&self, command: Command) -> Result<Answer, HotError> {
        match self {
            Hot::Memory(memory, start) => {
                let now_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
                Ok(memory.lock().unwrap_or_else(PoisonError::into_inner).handle(command, now_ms))
            }
            Hot::Redis(redis) => redis.ask(command).await,
        }
    }
}

#[cfg(test)]
mod tests;
