//! The calls that ran when the edge last died, as the journal has them.

use serde::{Deserialize, Serialize};

use crate::ids::CallSid;
use crate::shard::Checkpoint;
use crate::workers::Placement;

/// Those that can be taken up.
pub(super) struct Restored {
    life: String,
    calls: Vec<(Checkpoint, Option<Placement>)>,
}

#[derive(Serialize, Deserialize)]
struct State(String, Checkpoint, Option<Placement>);

impl Restored {
    pub(super) fn of(life: String) -> Restored {
        Restored { life, calls: Vec::new() }
    }

    /// Whether this state can be gone on from. One without media, or of another life, died with that; one of another version
    /// may not be understood.
    pub(super) fn take(&mut self, call: CallSid, state: &[u8]) -> bool {
        match serde_json::from_slice(state) {
            Ok(State(life, checkpoint, Some(media))) if life == self.life => {
                self.calls.push((checkpoint, Some(media)));
                true
            }
            Ok(_) => false,
            Err(error) => {
                tracing::warn!(%error, call_sid = %call, "a call cannot be taken up: it was written down by another version");
                false
            }
        }
    }

    pub(super) fn into_calls(self) -> Vec<(Checkpoint, Option<Placement>)> {
        self.calls
    }
}
