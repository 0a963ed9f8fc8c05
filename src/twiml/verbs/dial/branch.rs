//! The branches of a `<Dial>`: who is being called, and how far each has come.

use serde::{Deserialize, Serialize};

use crate::ids::{BranchId, CallSid};
use crate::twiml::port::{BranchFailure, SipOutcome};

/// Somebody who is being called, or was.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Branch {
    pub id: BranchId,
    pub call: Option<CallSid>,
    pub has_whisper: bool,
    pub state: BranchState,
    pub sip: Option<SipOutcome>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum BranchState {
    /// Not answered yet.
    Calling,
    /// Answered; joined with the caller, or hearing its whisper.
    Answered,
    /// Of no further interest. Events that still come are those of an ended or canceled call.
    Over(BranchFailure),
}

/// All branches that were started.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Branches {
    list: Vec<Branch>,
}

impl Branches {
    pub fn add(&mut self, id: BranchId, has_whisper: bool) {
        self.list.push(Branch { id, call: None, has_whisper, state: BranchState::Calling, sip: None });
    }

    pub fn find(&mut self, id: BranchId) -> Option<&mut Branch> {
        self.list.iter_mut().find(|branch| branch.id == id)
    }

    /// Those that are being called or have answered, but for `except`.
    pub fn alive(&self, except: Option<BranchId>) -> Vec<BranchId> {
        let alive = |branch: &&Branch| !matches!(branch.state, BranchState::Over(_)) && Some(branch.id) != except;
        self.list.iter().filter(alive).map(|branch| branch.id).collect()
    }

    pub fn end(&mut self, id: BranchId, failure: BranchFailure) {
        if let Some(branch) = self.find(id) {
            branch.state = BranchState::Over(failure);
        }
    }

    /// What to tell of a `<Dial>` that nobody answered: of several reasons the one that says most.
    pub fn failure(&self) -> BranchFailure {
        let rank = |failure: &BranchFailure| match failure {
            BranchFailure::NoAnswer => 3,
            BranchFailure::Busy => 2,
            BranchFailure::Failed => 1,
            BranchFailure::Canceled => 0,
        };
        let failures = self.list.iter().filter_map(|branch| match branch.state {
            BranchState::Over(failure) => Some(failure),
            BranchState::Calling | BranchState::Answered => None,
        });
        failures.max_by_key(rank).unwrap_or(BranchFailure::Failed)
    }

    /// The last one that was started and got as far as a call.
    pub fn last(&self) -> Option<&Branch> {
        self.list.iter().rev().find(|branch| branch.call.is_some())
    }
}
