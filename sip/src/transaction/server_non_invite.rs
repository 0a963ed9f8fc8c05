//! The non-INVITE server transaction: RFC 3261 s17.2.2 and figure 8.

use bytes::Bytes;

use super::timers::PATIENCE;
use super::{Input, State, Step, Tell};
use crate::time::Mono;

/// A request other than INVITE and ACK that was received, until its final response is settled.
#[derive(Debug)]
pub struct ServerNonInvite {
    state: State,
    reliable: bool,
    /// The last response that was sent, to repeat; empty before the first.
    response: Bytes,
    /// Timer J.
    give_up_at: Option<Mono>,
}

impl ServerNonInvite {
    pub fn new(reliable: bool) -> Self {
        Self { state: State::Trying, reliable, response: Bytes::new(), give_up_at: None }
    }

    pub fn state(&self) -> State {
        self.state
    }

    pub fn deadline(&self) -> Option<Mono> {
        self.give_up_at
    }

    pub fn handle(&mut self, input: Input, now: Mono) -> Step {
        match (self.state, input) {
            (State::Trying | State::Proceeding, Input::Respond { status, bytes }) => {
                self.response = bytes;
                match (status, self.reliable) {
                    (100..=199, _) => self.state = State::Proceeding,
                    (_, true) => self.state = State::Terminated,
                    (_, false) => {
                        self.state = State::Completed;
                        self.give_up_at = Some(now + PATIENCE);
                    }
                }
                Step::send(&self.response)
            }
            (State::Proceeding | State::Completed, Input::RequestRepeated) => Step::send(&self.response),
            (State::Completed, Input::TimerFired) if self.give_up_at.is_some_and(|at| at <= now) => self.end(None),
            (State::Trying | State::Proceeding | State::Completed, Input::TransportFailed) => {
                self.end(Some(Tell::TransportFailed))
            }
            _ => Step::NOTHING,
        }
    }

    fn end(&mut self, tell: Option<Tell>) -> Step {
        self.state = State::Terminated;
        self.give_up_at = None;
        Step { send: None, tell }
    }
}
