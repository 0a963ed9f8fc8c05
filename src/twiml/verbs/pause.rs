//! `<Pause>`: time goes by. As the first verb it lets the call ring.

use serde::{Deserialize, Serialize};

use crate::twiml::document::PauseSpec;
use crate::twiml::port::{Precondition, VerbInput};
use crate::twiml::verbs::{Context, Machine, Step};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(in crate::twiml) struct Pause {
    spec: PauseSpec,
}

impl Pause {
    pub fn new(spec: PauseSpec) -> Self {
        Self { spec }
    }
}

impl Machine for Pause {
    fn precondition(&self) -> Precondition {
        Precondition::None
    }

    fn start(&mut self, context: &mut Context<'_>) -> Step {
        context.set_timer(self.spec.length);
        Step::Running
    }

    fn handle(&mut self, input: &VerbInput, _: &mut Context<'_>) -> Step {
        match input {
            VerbInput::Timer => Step::Next,
            _ => Step::Running,
        }
    }

    fn cancel(&mut self, context: &mut Context<'_>) {
        context.clear_timer();
    }
}
