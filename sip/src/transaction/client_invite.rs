//! The INVITE client transaction: RFC 3261 s17.1.1 and figure 5, RFC 6026 s7.2 and figure 5.

use bytes::Bytes;

use super::timers::{ABSORB_FAILURES, Backoff, PATIENCE};
use super::{Input, State, Step, Tell, earlier};
use crate::time::Mono;

/// An INVITE that was sent, until its final response is settled.
#[derive(Debug)]
pub struct ClientInvite {
    state: State,
    reliable: bool,
    /// The INVITE; the ACK of a failure once there is one, to answer repeated failures with.
    message: Bytes,
    backoff: Backoff,
    /// Timer A.
    retransmit_at: Option<Mono>,
    /// Timer B, D or M.
    give_up_at: Option<Mono>,
}

impl ClientInvite {
    /// Starts the transaction; the caller sends `invite` once now.
    pub fn new(invite: Bytes, reliable: bool, now: Mono) -> Self {
        let mut backoff = Backoff::UNCAPPED;
        let retransmit_at = (!reliable).then(|| now + backoff.next_interval());
        Self {
            state: State::Calling,
            reliable,
            message: invite,
            backoff,
            retransmit_at,
            give_up_at: Some(now + PATIENCE),
        }
    }

    pub fn state(&self) -> State {
        self.state
    }

    /// The INVITE, while it waits for its final response.
    pub fn invite(&self) -> Option<&Bytes> {
        matches!(self.state, State::Calling | State::Proceeding).then_some(&self.message)
    }

    pub fn deadline(&self) -> Option<Mono> {
        earlier(self.retransmit_at, self.give_up_at)
    }

    pub fn handle(&mut self, input: Input, now: Mono) -> Step {
        match input {
            Input::ResponseReceived { status, ack } => self.response(status, ack, now),
            Input::TimerFired => self.timer(now),
            Input::TransportFailed if matches!(self.state, State::Calling | State::Proceeding) => {
                self.end(Tell::TransportFailed)
            }
            // Its 2xx, or one of another branch, may come by another connection: timer M still runs.
            Input::TransportFailed if self.state == State::Accepted => Step::NOTHING,
            Input::TransportFailed => {
                self.terminate();
                Step::NOTHING
            }
            Input::RequestRepeated | Input::AckReceived | Input::Respond { .. } => Step::NOTHING,
        }
    }

    fn response(&mut self, status: u16, ack: Bytes, now: Mono) -> Step {
        match (self.state, status) {
            (State::Calling | State::Proceeding, 100..=199) => {
                self.state = State::Proceeding;
                self.retransmit_at = None;
                // Timer B ends with the first provisional response; how long it may ring is the user's decision.
                self.give_up_at = None;
                Step::tell(Tell::Response)
            }
            (State::Calling | State::Proceeding, 200..=299) => {
                self.state = State::Accepted;
                self.retransmit_at = None;
                self.give_up_at = Some(now + PATIENCE);
                self.message = Bytes::new();
                Step::tell(Tell::Response)
            }
            (State::Accepted, 200..=299) => Step::tell(Tell::Response),
            (State::Calling | State::Proceeding, 300..) => {
                self.message = ack;
                self.retransmit_at = None;
                if self.reliable {
                    self.terminate();
                } else {
                    self.state = State::Completed;
                    self.give_up_at = Some(now + ABSORB_FAILURES);
                }
                Step { send: Some(self.message.clone()), tell: Some(Tell::Response) }
            }
            (State::Completed, 300..) => Step::send(&self.message),
            _ => Step::NOTHING,
        }
    }

    fn timer(&mut self, now: Mono) -> Step {
        if self.give_up_at.is_some_and(|at| at <= now) {
            if self.state == State::Calling {
                return self.end(Tell::TimedOut);
            }
            self.terminate();
            return Step::NOTHING;
        }
        if self.retransmit_at.is_some_and(|at| at <= now) {
            self.retransmit_at = Some(now + self.backoff.next_interval());
            return Step::send(&self.message);
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
