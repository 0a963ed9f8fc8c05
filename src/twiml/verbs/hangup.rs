//! `<Hangup>`.

use serde::{Deserialize, Serialize};

use crate::twiml::port::{Precondition, VerbInput};
use crate::twiml::verbs::{Context, Machine, Step};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(in crate::twiml) struct Hangup;

impl Machine for Hangup {
    fn precondition(&self) -> Precondition {
        Precondition::None
    }

    fn start(&mut self, _: &mut Context<'_>) -> Step {
        Step::Hangup
    }

    fn handle(&mut self, _: &VerbInput, _: &mut Context<'_>) -> Step {
        Step::Running
    }

    fn cancel(&mut self, _: &mut Context<'_>) {}
}
