//! The state of one INVITE dialog: which INVITE is open, what is retransmitted, what waits.

use std::collections::VecDeque;

use bytes::Bytes;

use super::api::Hop;
use super::table::TransactionId;
use crate::dialog::Dialog;
use crate::digest::Credentials;
use crate::flow::Flow;
use crate::msg::{HeaderName, Message};
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
    /// The ACKs of the peer's 2xx, to repeat when one comes again; each until its INVITE's transaction ends.
    pub(super) acks: Vec<SentAck>,
    /// Servers that our first INVITE was not sent to yet.
    pub(super) alternatives: VecDeque<Hop>,
    /// What a challenge inside the dialog is answered with.
    pub(super) credentials: Option<Credentials>,
    /// A re-INVITE that met one of the peer's (491) and is to be tried again.
    pub(super) retry: Option<Retry>,
    /// A BYE that waits for the ACK of our 2xx (RFC 3261 s15); its Reason value, or empty.
    pub(super) bye_wanted: Option<String>,
    /// A BYE that waits for its answer.
    pub(super) bye: Option<OpenBye>,
    /// The deadline that stands in the queue for this dialog.
    pub(super) armed: Option<Mono>,
    /// The CSeq numbers of the peer's first and last REFER.
    pub(super) refers: Option<(u32, u32)>,
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
    /// Our own headers and the offer, to send them again with credentials.
    pub(super) headers: Vec<(String, String)>,
    pub(super) sdp: Bytes,
    pub(super) cseq: u32,
    /// A provisional response came, so a CANCEL may be sent (RFC 3261 s9.1).
    pub(super) provisional: bool,
    pub(super) canceled: Cancel,
    /// What was asked for so far, a registrar's and a proxy's at most, each answered in the INVITE that is out.
    pub(super) challenges: Vec<Challenge>,
    /// The answers, for the ACK to repeat (RFC 3261 s22.1).
    pub(super) authorization: Vec<(HeaderName, String)>,
    /// After the first 2xx the transaction stays open for others (forks); this says that one was taken.
    pub(super) settled: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Cancel {
    No,
    /// To be sent with the first provisional response; a Reason value, or empty.
    Wanted(String),
    /// Sent, or the dialog is over; if no final response comes by then, we stop waiting (RFC 3261 s9.1).
    Until(Mono),
}

/// A challenge and how often its nonce was used.
#[derive(Clone, Debug)]
pub(super) struct Challenge {
    /// Authorization or Proxy-Authorization.
    pub(super) answer: HeaderName,
    /// The values of the header, one for each algorithm.
    pub(super) values: Vec<String>,
    pub(super) uses: u32,
}

pub(super) struct SentAck {
    pub(super) transaction: TransactionId,
    pub(super) remote_tag: String,
    pub(super) flow: Flow,
    pub(super) bytes: Bytes,
}

pub(super) struct OpenBye {
    pub(super) reason: String,
    /// It is the one with credentials.
    pub(super) authorized: bool,
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
    /// The peer refused it for an offer of its own; what that is answered says the same, and newer.
    pub(super) was_refused: bool,
}

impl Usage {
    pub(super) fn new(dialog: Dialog) -> Usage {
        Usage {
            dialog,
            phase: Phase::Early,
            incoming: None,
            outgoing: None,
            unacknowledged: None,
            acks: Vec::new(),
            alternatives: VecDeque::new(),
            credentials: None,
            retry: None,
            bye_wanted: None,
            bye: None,
            armed: None,
            refers: None,
        }
    }

    pub(super) fn deadline(&self) -> Option<Mono> {
        let canceled = match self.open_invite().map(|outgoing| &outgoing.canceled) {
            Some(Cancel::Until(at)) => Some(*at),
            _ => None,
        };
        let resend = self.unacknowledged.as_ref().map(|pending| pending.retransmit_at.min(pending.give_up_at));
        let retry = self.retry.as_ref().map(|retry| retry.at);
        [canceled, resend, retry].into_iter().flatten().min()
    }
}

impl Usage {
    /// An INVITE of ours that has no final response yet.
    pub(super) fn open_invite(&self) -> Option<&Outgoing> {
        self.outgoing.as_ref().filter(|outgoing| !outgoing.settled)
    }

    pub(super) fn open_invite_mut(&mut self) -> Option<&mut Outgoing> {
        self.outgoing.as_mut().filter(|outgoing| !outgoing.settled)
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
