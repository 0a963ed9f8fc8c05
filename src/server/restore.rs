//! The calls that ran when the edge last died, as the journal has them.

use serde::{Deserialize, Serialize};

use crate::ids::CallSid;
use crate::shard::Checkpoint;
use crate::workers::Placement;

/// Those that can be taken up.
#[derive(Default)]
pub(super) struct Restored(Vec<(Checkpoint, Option<Placement>)>);

#[derive(Serialize, Deserialize)]
struct State(Checkpoint, Option<Placement>);

impl Restored {
    /// Whether this state can be gone on from. One without media died with the edge's process; one of another version may not
    /// be understood.
    pub(super) fn take(&mut self, call: CallSid, state: &[u8]) -> bool {
        match serde_json::from_slice(state) {
            Ok(State(checkpoint, Some(media))) => {
                self.0.push((checkpoint, Some(media)));
                true
            }
            Ok(State(_, None)) => false,
            Err(error) => {
                tracing::warn!(%error, call_sid = %call, "a call cannot be taken up: it was written down by another version");
                false
            }
        }
    }

    pub(super) fn into_calls(self) -> Vec<(Checkpoint, Option<Placement>)> {
        self.0
    }
}
