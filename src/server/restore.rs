//! The calls that ran when the edge last died, as the journal has them.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use crate::events::Fate;
use crate::ids::CallSid;
use crate::shard::Checkpoint;
use crate::workers::Placement;

/// Those that can be taken up.
pub(super) struct Restored {
    life: String,
    /// Where other edges may have taken up calls meanwhile.
    cluster: Option<Meanwhile>,
    calls: Vec<(Checkpoint, Option<Placement>)>,
    seen: HashSet<CallSid>,
}

/// What other edges may have done.
pub(super) struct Meanwhile {
    /// The slots that an earlier life of this edge had, and that are this one's now.
    pub(super) left: Vec<u16>,
    /// Those of other edges.
    pub(super) others: Vec<u16>,
    /// Whether a call is over for all who share the database.
    pub(super) is_over: Box<dyn Fn(CallSid) -> bool>,
}

#[derive(Serialize, Deserialize)]
struct State(String, Checkpoint, Option<Placement>);

/// A call as it was written down, whoever did so; `None` of one that cannot be gone on with.
pub(super) fn read(call: CallSid, state: &[u8]) -> Option<(Checkpoint, Option<Placement>)> {
    parse(call, state).map(|State(_, checkpoint, media)| (checkpoint, media)).filter(|(_, media)| media.is_some())
}

fn parse(call: CallSid, state: &[u8]) -> Option<State> {
    match serde_json::from_slice(state) {
        Ok(state) => Some(state),
        Err(error) => {
            tracing::warn!(%error, call_sid = %call, "a call cannot be taken up: it was written down by another version");
            None
        }
    }
}

impl Meanwhile {
    /// A slot that nobody has may have been given back when its last call was over, or a store has forgotten it.
    fn has_taken(&self, call: CallSid, slot: Option<u16>) -> bool {
        match slot {
            Some(slot) if self.left.contains(&slot) => false,
            Some(slot) if self.others.contains(&slot) => true,
            _ => (self.is_over)(call),
        }
    }
}

impl Restored {
    pub(super) fn of(life: String, cluster: Option<Meanwhile>) -> Restored {
        Restored { life, cluster, calls: Vec::new(), seen: HashSet::new() }
    }

    /// What becomes of a call with this state. One without media, or alone and of another life, died with that; one of another
    /// version may not be understood; one that another edge has taken up runs there, or has ended there.
    pub(super) fn take(&mut self, call: CallSid, state: &[u8]) -> Fate {
        self.seen.insert(call);
        let Some(State(life, checkpoint, media)) = parse(call, state) else { return Fate::Ends };
        if self.cluster.as_ref().is_some_and(|meanwhile| meanwhile.has_taken(call, checkpoint.slot())) {
            return Fate::IsElsewhere;
        }
        if media.is_none() || (self.cluster.is_none() && life != self.life) {
            return Fate::Ends;
        }
        self.calls.push((checkpoint, media));
        Fate::GoesOn
    }

    /// The calls that the journal has.
    pub(super) fn seen(&self) -> impl Iterator<Item = CallSid> {
        self.seen.iter().copied()
    }

    pub(super) fn into_calls(self) -> Vec<(Checkpoint, Option<Placement>)> {
        self.calls
    }
}
