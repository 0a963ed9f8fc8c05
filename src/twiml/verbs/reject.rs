//! `<Reject>`: refuses a call that has not been answered. Where it comes too late, it hangs up.

use serde::{Deserialize, Serialize};

use crate::twiml::notice::{Notice, code};
use crate::twiml::port::{Precondition, RejectReason, VerbInput};
use crate::twiml::verbs::{Context, Machine, Step};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(in crate::twiml) struct Reject {
    reason: RejectReason,
}

impl Reject {
    pub fn new(reason: RejectReason) -> Self {
        Self { reason }
    }
}

impl Machine for Reject {
    fn precondition(&self) -> Precondition {
        Precondition::Unanswered
    }

    fn start(&mut self, _: &mut Context<'_>) -> Step {
        Step::Reject(self.reason)
    }

    fn handle(&mut self, input: &VerbInput, context: &mut Context<'_>) -> Step {
        match input {
            VerbInput::PreconditionFailed => {
                context.notify(Notice::warning(code::SCHEMA_WARNING, "Reject of an answered call: hung up"));
                Step::Hangup
            }
            _ => Step::Running,
        }
    }

    fn cancel(&mut self, _: &mut Context<'_>) {}
}
