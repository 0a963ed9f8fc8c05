//! Executes documents: one verb at a time, until a hang-up.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::twiml::port::{VerbEffect, VerbInput};

/// The program of one leg: its document, its running verb, and the effects that are waiting to be carried out.
///
/// Drive it so: `handle` an input, then `poll_effect` until `None`. It begins with
/// [`VerbInput::Replace`] and has finished after `Hangup`, `Reject`, `Accept`, or [`VerbInput::HungUp`] (a `<Dial>`
/// that still owes its action finishes a little later); [`Interpreter::is_finished`] tells. Inputs that a finished
/// interpreter gets are ignored, but for `Replace` on a leg that still lives.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Interpreter {
    documents: u32,
    finished: bool,
    effects: VecDeque<VerbEffect>,
}

impl Interpreter {
    /// Nothing runs until the first `Replace`.
    pub fn new() -> Self {
        Self::default()
    }

    pub fn handle(&mut self, input: VerbInput) {
        let _ = input;
    }

    /// The next thing to be done, in order.
    pub fn poll_effect(&mut self) -> Option<VerbEffect> {
        self.effects.pop_front()
    }

    /// Documents executed so far in this call. The call delays fetches beyond 10 a second; 1,000 is the end.
    pub fn documents(&self) -> u32 {
        self.documents
    }

    pub fn is_finished(&self) -> bool {
        self.finished
    }
}
