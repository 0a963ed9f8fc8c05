//! `<Echo>`: the caller hears itself until it hangs up.

use serde::{Deserialize, Serialize};

use crate::twiml::port::{Precondition, VerbEffect, VerbInput};
use crate::twiml::verbs::{Context, Machine, Step};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(in crate::twiml) struct Echo;

impl Machine for Echo {
    fn precondition(&self) -> Precondition {
        Precondition::MediaReady
    }

    fn start(&mut self, context: &mut Context<'_>) -> Step {
        context.push(VerbEffect::Echo(true));
        Step::Running
    }

    fn handle(&mut self, _: &VerbInput, _: &mut Context<'_>) -> Step {
        Step::Running
    }

    fn cancel(&mut self, context: &mut Context<'_>) {
        context.push(VerbEffect::Echo(false));
    }
}
