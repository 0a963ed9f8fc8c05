//! The non-INVITE client transaction: RFC 3261 s17.1.2 and figure 6.

use bytes::Bytes;

use super::timers::{Backoff, PATIENCE, T2, T4};
use super::{Input, State, Step, Tell, earlier};
use crate::time::Mono;

/// A request other than INVITE and ACK that was sent, until its final response is settled.
#[derive(Debug)]
pub struct ClientNonInvite {
    state: State,
    reliable: bool,
    request: Bytes,
    backoff: Backoff,
    /// Timer E.
    retransmit_at: Option<Mono>,
    /// Timer F or K.
    give_up_at: Option<Mono>,
}

impl ClientNonInvite {
    /// Starts the transaction; the caller sends `request` once now.
    pub fn new(request: Bytes, reliable: bool, now: Mono) -> Self {
        let mut backoff = Backoff::CAPPED;
        let retransmit_at = (!reliable).then(|| now + backoff.next_interval());
        Self { state: State::Trying, reliable, request, backoff, retransmit_at, give_up_at: Some(now + PATIENCE) }
    }

    pub fn state(&self) -> State {
        self.state
    }

    pub fn deadline(&self) -> Option<Mono> {
        earlier(self.retransmit_at, self.give_up_at)
    }

    pub fn handle(&mut self, input: Input, now: Mono) -> Step {
        match input {
            Input::ResponseReceived { status, .. } => self.response(status, now),
            Input::TimerFired => self.timer(now),
            Input::TransportFailed if matches!(self.state, State::Trying | State::Proceeding) => {
                self.end(Tell::TransportFailed)
            }
            Input::TransportFailed => {
                self.terminate();
                Step::NOTHING
            }
            Input::RequestRepeated | Input::AckReceived | Input::Respond { .. } => Step::NOTHING,
        }
    }

    fn response(&mut self, status: u16, now: Mono) -> Step {
        match (self.state, status) {
            (State::Trying | State::Proceeding, 100..=199) => {
                self.state = State::Proceeding;
                Step::tell(Tell::Response)
            }
            (State::Trying | State::Proceeding, 200..) => {
                self.request = Bytes::new();
                self.retransmit_at = None;
                if self.reliable {
                    self.terminate();
                } else {
                    self.state = State::Completed;
                    self.give_up_at = Some(now + T4);
                }
                Step::tell(Tell::Response)
            }
            _ => Step::NOTHING,
        }
    }

    fn timer(&mut self, now: Mono) -> Step {
        if self.give_up_at.is_some_and(|at| at <= now) {
            if self.state == State::Completed {
                self.terminate();
                return Step::NOTHING;
            }
            return self.end(Tell::TimedOut);
        }
        if self.retransmit_at.is_some_and(|at| at <= now) {
            // In Proceeding the interval is T2 at once (RFC 3261 s17.1.2.2).
            let interval = if self.state == State::Proceeding { T2 } else { self.backoff.next_interval() };
            self.retransmit_at = Some(now + interval);
            return Step::send(&self.request);
        }
        Step::NOTHING
    }

    fn end(&mut self, tell: Tell) -> Step {
        self.terminate();
        Step::tell(tell)
    }

    fn terminate(&mut self) {
        self.state = State::Terminated;
        self.retransmit_at = None;
        self.give_up_at = None;
    }
}
