//! The state of one INVITE dialog: which INVITE is open, what is retransmitted, what waits.

use bytes::Bytes;

use super::api::Invitation;
use super::table::TransactionId;
use crate::dialog::Dialog;
use crate::flow::Flow;
use crate::msg::Message;
use crate::time::Mono;
use crate::transaction::timers::{Backoff, PATIENCE};

/// An INVITE dialog, from the INVITE that opens it to the BYE that ends it.
pub(super) struct Usage {
    pub(super) dialog: Dialog,
    pub(super) phase: Phase,
    /// An INVITE of the peer that waits for our final answer.
    pub(super) incoming: Option<Incoming>,
    /// An INVITE of ours that waits for the peer's.
    pub(super) outgoing: Option<Outgoing>,
    /// A 2xx of ours that waits for its ACK.
    pub(super) unacknowledged: Option<Unacknowledged>,
    /// The ACK of the peer's last 2xx, to repeat when that comes again.
    pub(super) last_ack: Option<(u32, Bytes)>,
    /// A re-INVITE that met one of the peer's (491) and is to be tried again.
    pub(super) retry: Option<Retry>,
    /// A BYE that waits for the ACK of our 2xx (RFC 3261 s15); its Reason value, or empty.
    pub(super) bye_wanted: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// No 2xx yet.
    Early,
    Confirmed,
    /// A BYE is under way; what else comes is refused.
    Ending,
}

pub(super) struct Incoming {
    pub(super) transaction: TransactionId,
    pub(super) invite: Message,
    pub(super) source: Flow,
}

pub(super) struct Outgoing {
    pub(super) transaction: TransactionId,
    pub(super) invitation: Invitation,
    pub(super) cseq: u32,
    /// A provisional response came, so a CANCEL may be sent (RFC 3261 s9.1).
    pub(super) provisional: bool,
    pub(super) canceled: Cancel,
    /// Credentials were sent for this many challenges.
    pub(super) challenges_answered: u8,
    /// After the first 2xx the transaction stays open for others (forks); this says that one was taken.
    pub(super) settled: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Cancel {
    No,
    /// To be sent with the first provisional response; a Reason value, or empty.
    Wanted(String),
    /// Sent; if no final response comes by then, we stop waiting (RFC 3261 s9.1).
    Sent(Mono),
}

pub(super) struct Unacknowledged {
    pub(super) cseq: u32,
    pub(super) response: Bytes,
    pub(super) flow: Flow,
    backoff: Backoff,
    retransmit_at: Mono,
    give_up_at: Mono,
}

pub(super) struct Retry {
    pub(super) at: Mono,
    pub(super) sdp: Bytes,
}

impl Usage {
    pub(super) fn new(dialog: Dialog) -> Usage {
        Usage {
            dialog,
            phase: Phase::Early,
            incoming: None,
            outgoing: None,
            unacknowledged: None,
            last_ack: None,
            retry: None,
            bye_wanted: None,
        }
    }

    pub(super) fn deadline(&self) -> Option<Mono> {
        let canceled = match self.outgoing.as_ref().map(|outgoing| &outgoing.canceled) {
            Some(Cancel::Sent(at)) => Some(*at),
            _ => None,
        };
        let resend = self.unacknowledged.as_ref().map(|pending| pending.retransmit_at.min(pending.give_up_at));
        let retry = self.retry.as_ref().map(|retry| retry.at);
        [canceled, resend, retry].into_iter().flatten().min()
    }
}

impl Unacknowledged {
    pub(super) fn new(cseq: u32, response: Bytes, flow: Flow, now: Mono) -> Unacknowledged {
        let mut backoff = Backoff::CAPPED;
        let retransmit_at = now + backoff.next_interval();
        Unacknowledged { cseq, response, flow, backoff, retransmit_at, give_up_at: now + PATIENCE }
    }

    /// Whether waiting is over.
    pub(super) fn is_over(&self, now: Mono) -> bool {
        self.give_up_at <= now
    }

    /// Whether the 2xx is to be sent again now; over any transport, since the next hop may not be reliable
    /// (RFC 3261 s13.3.1.4).
    pub(super) fn is_due(&mut self, now: Mono) -> bool {
        let due = self.retransmit_at <= now;
        if due {
            self.retransmit_at = now + self.backoff.next_interval();
        }
        due
    }
}
