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
    /// The slots of this edge, where other edges may have taken up calls meanwhile.
    slots: Option<Vec<u16>>,
    calls: Vec<(Checkpoint, Option<Placement>)>,
    seen: HashSet<CallSid>,
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

impl Restored {
    /// `slots`: those of this edge, where it is one of several.
    pub(super) fn of(life: String, slots: Option<Vec<u16>>) -> Restored {
        Restored { life, slots, calls: Vec::new(), seen: HashSet::new() }
    }

    /// What becomes of a call with this state. One without media, or alone and of another life, died with that; one of another
    /// version may not be understood; one whose slot is another edge's by now runs there.
    pub(super) fn take(&mut self, call: CallSid, state: &[u8]) -> Fate {
        self.seen.insert(call);
        let Some(State(life, checkpoint, media)) = parse(call, state) else { return Fate::Ends };
        let is_elsewhere = match (&self.slots, checkpoint.slot()) {
            (Some(own), Some(slot)) => !own.contains(&slot),
            _ => false,
        };
        if is_elsewhere {
            return Fate::IsElsewhere;
        }
        if media.is_none() || (self.slots.is_none() && life != self.life) {
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
