//! All SIP of one shard: its transactions, its INVITE dialogs, their timers.
//!
//! A message goes in by [`Stack::receive`]. What belongs to a transaction or a dialog is handled here and comes out as
//! [`Event`]s and [`Transmit`]s; a request that opens something new comes back as [`Received::Fresh`] *without any
//! state*, so that a stranger can be refused for nothing. Whoever judges it then calls [`Stack::accept_invite`],
//! [`Stack::accept_request`] or [`Stack::refuse`].
//!
//! - `api`: the commands (answer, refuse, invite, cancel, bye, re-INVITE)
//! - `receive`: dispatch of what arrives
//! - `client`: responses to what we sent
//! - `stamp`: the Vias of a response
//! - `usage`: the state of one INVITE dialog
//! - `table`: transactions and timers
//!
//! RFC 3261 s8, s9, s12-s15, s17; RFC 6026; RFC 3581; RFC 3263 s4.3.

mod api;
mod client;
mod receive;
mod stamp;
mod subscription;
mod table;
mod usage;

use std::collections::VecDeque;

use bytes::Bytes;

use crate::dialog::{Dialog, DialogId};
use crate::digest::Credentials;
use crate::flow::Flow;
use crate::msg::{MAGIC_COOKIE, Message, Text};
use crate::time::Mono;
use crate::tokens::{TokenMap, Tokens};
use crate::transaction::Tell;
use crate::transaction::key::{Keys, ServerKey};

pub use api::{Hop, Invitation, Reply, Request};
pub use receive::Received;
pub use subscription::Notification;
use subscription::Subscription;
pub use table::TransactionId;
use table::{Owner, Table, Timer};
use usage::{Phase, Usage};

/// CSeq numbers that a dialog which is taken up leaves out.
const LEFT_OUT: u32 = 16;

/// Methods that we understand, for Allow.
pub const ALLOW: &str = "INVITE, ACK, BYE, CANCEL, OPTIONS, INFO, MESSAGE, NOTIFY, PUBLISH, REFER, REGISTER, SUBSCRIBE";

/// What a stack needs to know of itself.
#[derive(Clone, Debug)]
pub struct Config {
    /// For User-Agent and Server.
    pub product: String,
    /// The virtual slot in every tag and branch that we mint: which shard a message is for.
    pub slot: u16,
    /// Seeds every name that we mint.
    pub seed: [u8; 32],
}

/// A message to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transmit {
    pub flow: Flow,
    pub bytes: Bytes,
}

/// What the owner of a stack learns.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The caller gave up before we answered; the dialog is gone.
    Canceled { dialog: DialogId, cancel: Message },
    /// Our 2xx arrived. The ACK holds the SDP answer if we made the offer.
    Acked { dialog: DialogId, ack: Message },
    /// No ACK came for our 2xx in 32 s. The dialog lives: end it by BYE (RFC 3261 s13.3.1.4).
    AckMissing { dialog: DialogId },
    /// A provisional response above 100 to our INVITE, perhaps with SDP.
    Progress { dialog: DialogId, response: Message },
    /// A 2xx to our INVITE; its ACK is sent.
    Answered { dialog: DialogId, response: Message },
    /// A server did not take our INVITE, and it went to the next; 408 and 503 without a response as in `Refused`.
    Diverted { dialog: DialogId, failed: Flow, next: Flow, status: u16, response: Option<Message> },
    /// Our INVITE failed; the dialog is gone. 408 and 503 without a response are ours: no answer, no transport.
    Refused { dialog: DialogId, status: u16, response: Option<Message> },
    /// The peer offers anew (its body may be empty: then we are to offer).
    Reoffered { dialog: DialogId, invite: Message },
    /// The peer took that back before we answered, and has its 487: the dialog goes on as it was before.
    ReofferCanceled { dialog: DialogId },
    /// Our re-INVITE got its final answer.
    Reanswered { dialog: DialogId, status: u16, response: Option<Message> },
    /// The peer ended the dialog by BYE, or it cannot be reached any more (`bye` is `None`).
    Ended { dialog: DialogId, bye: Option<Message> },
    /// A request outside any dialog got its final response; 408 and 503 also where none came.
    Responded { request: u64, status: u16 },
    /// Our REFER got its final response; 408 and 503 also where none came.
    ReferAnswered { dialog: DialogId, status: u16 },
    /// Another SUBSCRIBE of a subscription that there is: answer it by [`Stack::answer_subscribe`].
    Resubscribed { subscription: DialogId, transaction: TransactionId, request: Message },
    /// Another request inside the dialog: answer it by [`Stack::reply`].
    InDialog { dialog: DialogId, transaction: TransactionId, request: Message },
}

/// What leaves a stack, in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    Transmit(Transmit),
    Event(Event),
}

/// Counts for the metrics, by what happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub retransmitted_requests: u64,
    pub retransmitted_responses: u64,
    /// Responses that no transaction wanted.
    pub stray_responses: u64,
}

/// All SIP of one shard.
pub struct Stack {
    config: Config,
    keys: Keys,
    tokens: Tokens,
    table: Table,
    /// Boxed: a table has up to twice the places that it needs, and is copied when it grows.
    usages: TokenMap<DialogId, Box<Usage>>,
    /// Those of others to what is told here.
    subscriptions: TokenMap<DialogId, Box<Subscription>>,
    /// INVITEs that are being handled, by what a merged copy shares with them (RFC 3261 s8.2.2.2).
    merging: TokenMap<ServerKey, TransactionId>,
    out: VecDeque<Output>,
    counts: Counts,
}

impl Stack {
    pub fn new(config: Config) -> Stack {
        let mut tokens = Tokens::new(config.seed);
        let keys = Keys::new(tokens.next_u128());
        Stack {
            config,
            keys,
            tokens,
            table: Table::default(),
            usages: TokenMap::default(),
            subscriptions: TokenMap::default(),
            merging: TokenMap::default(),
            out: VecDeque::new(),
            counts: Counts::default(),
        }
    }

    /// The next thing to send or to tell; call until `None` after every input.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    /// When to call [`Stack::handle_timeout`].
    pub fn next_deadline(&mut self) -> Option<Mono> {
        loop {
            let (at, timer) = self.table.head()?;
            let Timer::Usage(dialog) = timer else { return Some(at) };
            if let Some(usage) = self.usages.get_mut(&dialog).filter(|usage| usage.armed == Some(at)) {
                if usage.deadline().is_some_and(|deadline| deadline <= at) {
                    return Some(at);
                }
                usage.armed = None;
            }
            // The ACK came, or the dialog is gone: nobody wakes up for that.
            self.table.drop_head();
            self.arm_usage(dialog);
        }
    }

    pub fn handle_timeout(&mut self, now: Mono) {
        while let Some((at, timer)) = self.table.pop_due(now) {
            match timer {
                Timer::Transaction(id) => self.transaction_timer(id, now),
                Timer::Usage(dialog) => self.usage_timer(dialog, at, now),
            }
        }
    }

    /// The dialog's state, for a checkpoint.
    pub fn dialog(&self, id: DialogId) -> Option<&Dialog> {
        self.usages.get(&id).map(|usage| &usage.dialog)
    }

    /// Takes up a confirmed dialog of a stack that is no more, under the number that its tag has. What was under way in it is
    /// lost: whoever waits for a response asks again. `credentials` answer a peer that challenges what is asked in it.
    pub fn restore(&mut self, id: DialogId, mut dialog: Dialog, credentials: Option<Credentials>) {
        // Its connection went with the process; another is opened when something is sent.
        dialog.flow.connection = None;
        // It may have asked more than was written down; numbers may be left out, and never come twice (RFC 3261 s12.2.2).
        dialog.local_cseq += LEFT_OUT;
        let mut usage = Usage::new(dialog);
        usage.phase = Phase::Confirmed;
        usage.credentials = credentials;
        self.usages.insert(id, Box::new(usage));
    }

    /// The peer of a dialog is by another connection from now on, and the one before is gone: what waits for an answer is sent by
    /// the new one.
    pub fn follow(&mut self, id: DialogId, flow: Flow) {
        let Some(usage) = self.usages.get_mut(&id) else { return };
        usage.dialog.flow = flow;
        if let Some(open) = &mut usage.unacknowledged {
            open.flow = flow;
        }
        let Some(invite) = usage.outgoing.as_ref().map(|outgoing| outgoing.transaction) else { return };
        let Some(bytes) = self.table.open_invite(invite) else { return };
        if let Some(entry) = self.table.get_mut(invite) {
            entry.flow = flow;
        }
        self.transmit(flow, bytes);
    }

    /// The dialogs whose peer is reached at that URI, by another flow of that transport. Parameters of the URI do not count: in a
    /// dialog clients add `ob` (RFC 5626 s4.3).
    pub fn reached_at<'a>(&'a self, target: &'a str, flow: Flow) -> impl Iterator<Item = DialogId> + 'a {
        let bare = |target: &'a str| target.split(';').next();
        let is_there = move |dialog: &'a Dialog| {
            dialog.flow.transport == flow.transport
                && dialog.flow != flow
                && bare(&dialog.remote_target) == bare(target)
        };
        self.usages.iter().filter(move |(_, usage)| is_there(&usage.dialog)).map(|(id, _)| *id)
    }

    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Open transactions by kind, and open dialogs.
    pub fn open_transactions(&self) -> impl Iterator<Item = (&'static str, usize)> {
        self.table.by_kind()
    }

    pub fn open_dialogs(&self) -> usize {
        self.usages.len()
    }

    /// Whether nothing is left: no transaction, no dialog.
    pub fn is_idle(&self) -> bool {
        self.usages.is_empty() && self.table.is_empty()
    }

    /// The slot of the stack that a message is for, if it says: by the tag of the dialog that a request is in, or by the branch of
    /// what a response answers.
    pub fn slot_of(message: &Message) -> Option<u16> {
        let minted = match message.is_request() {
            true => message.to_tag()?,
            false => message.top_via()?.branch()?.strip_prefix(MAGIC_COOKIE)?,
        };
        let (slot, token) = minted.split_at_checked(3)?;
        let is_ours = token.len() == 16 && token.bytes().all(|digit| digit.is_ascii_hexdigit());
        u16::from_str_radix(slot, 16).ok().filter(|_| is_ours)
    }

    fn transmit(&mut self, flow: Flow, bytes: Bytes) {
        self.out.push_back(Output::Transmit(Transmit { flow, bytes }));
    }

    fn tell(&mut self, event: Event) {
        self.out.push_back(Output::Event(event));
    }

    /// A tag that names a dialog, and the dialog's number.
    fn mint_tag(&mut self) -> (DialogId, String) {
        let token = self.tokens.next_u64();
        let mut tag = Text::with_capacity(19);
        tag.hex(self.config.slot.into(), 3).hex(token, 16);
        (DialogId(token), tag.0)
    }

    /// The number in a tag that we minted.
    fn tag_token(tag: &str) -> Option<DialogId> {
        let digits = tag.get(3..).filter(|digits| digits.len() == 16)?;
        u64::from_str_radix(digits, 16).ok().map(DialogId)
    }

    /// Hands a transaction's timer to it and acts on what follows.
    fn transaction_timer(&mut self, id: TransactionId, now: Mono) {
        let Some((flow, step, retransmitted)) = self.table.fire(id, now) else { return };
        if let Some(bytes) = step.send {
            if retransmitted {
                self.counts.retransmitted_requests += 1;
            } else {
                self.counts.retransmitted_responses += 1;
            }
            self.transmit(flow, bytes);
        }
        self.after_step(id, step.tell, None, now);
    }

    /// Tells the owner of a transaction what happened to it, and forgets it if it has ended.
    fn after_step(&mut self, id: TransactionId, tell: Option<Tell>, response: Option<Message>, now: Mono) {
        if let Some(tell) = tell
            && let Some(owner) = self.table.owner(id)
        {
            self.transaction_tells(id, owner, tell, response, now);
        }
        let Some(ended) = self.table.remove_if_terminated(id) else { return };
        if let Some(merge) = ended.merge
            && self.merging.get(&merge) == Some(&id)
        {
            self.merging.remove(&merge);
        }
        if let Owner::InviteClient(dialog) = ended.owner
            && let Some(usage) = self.usages.get_mut(&dialog)
        {
            // Nothing of a settled INVITE can come again: a long dialog keeps nothing of it.
            usage.acks.retain(|ack| ack.transaction != id);
            usage.outgoing.take_if(|outgoing| outgoing.transaction == id && outgoing.settled);
        }
    }
}

#[cfg(test)]
mod tests;
