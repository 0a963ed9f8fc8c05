//! `<Leave>`: out of the queue, from the document that plays to those who wait in it.

use serde::{Deserialize, Serialize};

use crate::twiml::port::{Precondition, VerbEffect, VerbInput};
use crate::twiml::verbs::{Context, Machine, Step};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(in crate::twiml) struct Leave;

impl Machine for Leave {
    fn precondition(&self) -> Precondition {
        Precondition::None
    }

    fn start(&mut self, context: &mut Context<'_>) -> Step {
        context.push(VerbEffect::LeaveQueue);
        Step::Next
    }

    fn handle(&mut self, _: &VerbInput, _: &mut Context<'_>) -> Step {
        Step::Next
    }

    fn cancel(&mut self, _: &mut Context<'_>) {}
}
