//! The INVITE server transaction: RFC 3261 s17.2.1 and figure 7, RFC 6026 s7.1 and figure 7.

use bytes::Bytes;

use super::timers::{Backoff, PATIENCE, T4};
use super::{Input, State, Step, Tell, earlier};
use crate::time::Mono;

/// An INVITE that was received, until its final response is settled.
///
/// A 2xx is retransmitted by the dialog, end to end; here it only keeps the transaction open, so that repeated
/// INVITEs are absorbed (RFC 6026).
#[derive(Debug)]
pub struct ServerInvite {
    state: State,
    reliable: bool,
    /// The last response that was sent, to repeat; empty before the first.
    response: Bytes,
    backoff: Backoff,
    /// Timer G.
    retransmit_at: Option<Mono>,
    /// Timer H, I or L.
    give_up_at: Option<Mono>,
}

impl ServerInvite {
    pub fn new(reliable: bool) -> Self {
        Self {
            state: State::Proceeding,
            reliable,
            response: Bytes::new(),
            backoff: Backoff::CAPPED,
            retransmit_at: None,
            give_up_at: None,
        }
    }

    pub fn state(&self) -> State {
        self.state
    }

    pub fn deadline(&self) -> Option<Mono> {
        earlier(self.retransmit_at, self.give_up_at)
    }

    pub fn handle(&mut self, input: Input, now: Mono) -> Step {
        match input {
            Input::Respond { status, bytes } => self.respond(status, bytes, now),
            Input::RequestRepeated => self.request_repeated(),
            Input::AckReceived => self.ack(now),
            Input::TimerFired => self.timer(now),
            Input::TransportFailed if self.state == State::Proceeding || self.state == State::Completed => {
                self.end(Tell::TransportFailed)
            }
            // RFC 6026 figure 7: timer L still runs.
            Input::TransportFailed if self.state == State::Accepted => Step::NOTHING,
            Input::TransportFailed => {
                self.terminate();
                Step::NOTHING
            }
            Input::ResponseReceived { .. } => Step::NOTHING,
        }
    }

    fn respond(&mut self, status: u16, bytes: Bytes, now: Mono) -> Step {
        match (self.state, status) {
            (State::Proceeding, 100..=199) => self.response = bytes,
            (State::Proceeding, 200..=299) => {
                self.state = State::Accepted;
                self.response = Bytes::new();
                self.give_up_at = Some(now + PATIENCE);
                return Step::send(&bytes);
            }
            (State::Proceeding, _) => {
                self.state = State::Completed;
                self.response = bytes;
                self.retransmit_at = (!self.reliable).then(|| now + self.backoff.next_interval());
                self.give_up_at = Some(now + PATIENCE);
            }
            // The user's retransmission of its 2xx.
            (State::Accepted, 200..=299) => return Step::send(&bytes),
            _ => return Step::NOTHING,
        }
        Step::send(&self.response)
    }

    fn request_repeated(&mut self) -> Step {
        match self.state {
            State::Proceeding | State::Completed if !self.response.is_empty() => Step::send(&self.response),
            _ => Step::NOTHING,
        }
    }

    fn ack(&mut self, now: Mono) -> Step {
        if self.state == State::Completed {
            self.retransmit_at = None;
            if self.reliable {
                self.terminate();
            } else {
                self.state = State::Confirmed;
                self.give_up_at = Some(now + T4);
            }
        }
        Step::NOTHING
    }

    fn timer(&mut self, now: Mono) -> Step {
        if self.give_up_at.is_some_and(|at| at <= now) {
            let unacknowledged = self.state == State::Completed;
            self.terminate();
            return if unacknowledged { Step::tell(Tell::TimedOut) } else { Step::NOTHING };
        }
        if self.retransmit_at.is_some_and(|at| at <= now) {
            self.retransmit_at = Some(now + self.backoff.next_interval());
            return Step::send(&self.response);
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
