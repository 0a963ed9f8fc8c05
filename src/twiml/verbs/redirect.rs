//! `<Redirect>`: another document takes the place of this one.

use serde::{Deserialize, Serialize};

use crate::twiml::document::RedirectSpec;
use crate::twiml::port::{FetchReason, Precondition, VerbInput};
use crate::twiml::verbs::{Context, Machine, Step, Transfer};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(in crate::twiml) struct Redirect {
    spec: RedirectSpec,
}

impl Redirect {
    pub fn new(spec: RedirectSpec) -> Self {
        Self { spec }
    }
}

impl Machine for Redirect {
    fn precondition(&self) -> Precondition {
        Precondition::None
    }

    fn start(&mut self, _: &mut Context<'_>) -> Step {
        Step::Transfer(Transfer {
            link: self.spec.link.clone(),
            method: self.spec.method,
            params: Vec::new(),
            reason: FetchReason::Redirect,
        })
    }

    fn handle(&mut self, _: &VerbInput, _: &mut Context<'_>) -> Step {
        Step::Running
    }

    fn cancel(&mut self, _: &mut Context<'_>) {}
}
