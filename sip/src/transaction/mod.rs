//! The four transactions of RFC 3261 s17, with the Accepted states of RFC 6026.
//!
//! Each is a plain state machine: `handle(input, now)` gives a [`Step`], which is at most one message to send and one
//! thing to tell the transaction's user; `deadline()` says when to hand it [`TimerFired`](Input::TimerFired).
//! They know no sockets, no other transaction and no dialog. Whoever owns them removes one that is
//! [`Terminated`](State::Terminated).

mod client_invite;
mod client_non_invite;
pub mod key;
mod server_invite;
mod server_non_invite;
pub mod timers;

use bytes::Bytes;

use crate::time::Mono;

pub use client_invite::ClientInvite;
pub use client_non_invite::ClientNonInvite;
pub use server_invite::ServerInvite;
pub use server_non_invite::ServerNonInvite;

/// Where a transaction stands. Not every kind has every state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// INVITE client: sent, nothing heard.
    Calling,
    /// Non-INVITE: sent or received, nothing heard or answered.
    Trying,
    Proceeding,
    /// A final response was sent or received; retransmissions are absorbed.
    Completed,
    /// INVITE server: the ACK of a failure arrived.
    Confirmed,
    /// INVITE: a 2xx was sent or received; its retransmissions are the user's (RFC 6026).
    Accepted,
    Terminated,
}

/// What happens to a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Server: the request came again.
    RequestRepeated,
    /// Server INVITE: an ACK that belongs to the transaction.
    AckReceived,
    /// Server: the user answers with this status.
    Respond { status: u16, bytes: Bytes },
    /// Client: a response arrived. `ack` is the ACK to send if it is the failure of an INVITE.
    ResponseReceived { status: u16, ack: Bytes },
    /// The deadline has passed.
    TimerFired,
    /// The message could not be sent, or the connection is lost.
    TransportFailed,
}

/// What the user of a transaction learns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Tell {
    /// Client: this response is news.
    Response,
    /// Client: no final response came in time. Server INVITE: no ACK came for a failure.
    TimedOut,
    TransportFailed,
}

/// What one input leads to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Step {
    pub send: Option<Bytes>,
    pub tell: Option<Tell>,
}

impl Step {
    const NOTHING: Step = Step { send: None, tell: None };

    fn send(bytes: &Bytes) -> Step {
        Step { send: Some(bytes.clone()), tell: None }
    }

    fn tell(tell: Tell) -> Step {
        Step { send: None, tell: Some(tell) }
    }
}

/// Any of the four.
#[derive(Debug)]
pub enum Transaction {
    ClientInvite(ClientInvite),
    ClientNonInvite(ClientNonInvite),
    ServerInvite(ServerInvite),
    ServerNonInvite(ServerNonInvite),
}

impl Transaction {
    pub fn handle(&mut self, input: Input, now: Mono) -> Step {
        match self {
            Transaction::ClientInvite(transaction) => transaction.handle(input, now),
            Transaction::ClientNonInvite(transaction) => transaction.handle(input, now),
            Transaction::ServerInvite(transaction) => transaction.handle(input, now),
            Transaction::ServerNonInvite(transaction) => transaction.handle(input, now),
        }
    }

    pub fn deadline(&self) -> Option<Mono> {
        match self {
            Transaction::ClientInvite(transaction) => transaction.deadline(),
            Transaction::ClientNonInvite(transaction) => transaction.deadline(),
            Transaction::ServerInvite(transaction) => transaction.deadline(),
            Transaction::ServerNonInvite(transaction) => transaction.deadline(),
        }
    }

    /// Whether all that is left to do is to absorb retransmissions: its last timer (D, I, J, K, L, M) only ends it.
    pub fn is_absorbing(&self) -> bool {
        match self {
            Transaction::ServerInvite(_) => matches!(self.state(), State::Confirmed | State::Accepted),
            _ => matches!(self.state(), State::Completed | State::Accepted),
        }
    }

    pub fn state(&self) -> State {
        match self {
            Transaction::ClientInvite(transaction) => transaction.state(),
            Transaction::ClientNonInvite(transaction) => transaction.state(),
            Transaction::ServerInvite(transaction) => transaction.state(),
            Transaction::ServerNonInvite(transaction) => transaction.state(),
        }
    }

    /// For a metric: `invite_client`.
    pub fn kind(&self) -> &'static str {
        match self {
            Transaction::ClientInvite(_) => "invite_client",
            Transaction::ClientNonInvite(_) => "client",
            Transaction::ServerInvite(_) => "invite_server",
            Transaction::ServerNonInvite(_) => "server",
        }
    }
}

/// The earlier of two deadlines.
fn earlier(one: Option<Mono>, other: Option<Mono>) -> Option<Mono> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}
