//! What arrives: requests to their transaction or dialog, or back to the caller as something new.

use super::table::{Key, Owner, TransactionId};
use super::usage::{Incoming, Phase};
use super::{Event, Reply, Stack};
use crate::dialog::DialogId;
use crate::flow::Flow;
use crate::msg::{HeaderName, MAGIC_COOKIE, Message, Method, check};
use crate::time::Mono;
use crate::transaction::{Input, ServerInvite, ServerNonInvite, State, Transaction};

/// What became of a message.
#[derive(Debug)]
pub enum Received {
    /// It belonged to something, was answered, or was rightly dropped.
    Handled,
    /// A request that opens something new. No state exists for it yet.
    Fresh(Message),
    /// It was dropped because of its form; for a metric.
    Dropped(&'static str),
}

impl Stack {
    /// Takes a message that arrived by `flow`.
    pub fn receive(&mut self, flow: Flow, message: Message, now: Mono) -> Received {
        if !message.is_request() {
            return self.receive_response(message, flow, now);
        }
        if message.top_via().is_none() {
            return Received::Dropped("no_via");
        }
        let is_ack = message.method() == Some(Method::Ack);
        if let Err(fault) = check::request(&message) {
            // An ACK is never answered.
            if !is_ack {
                self.refuse(&message, flow, &Reply::new(fault.status).reason(fault.reason));
            }
            return Received::Dropped("malformed");
        }
        if let Some(id) = self.table.find(Key::Server(self.keys.of(&message)))
            && !(is_ack && self.table.state(id) == Some(State::Accepted))
        {
            self.repeated(id, &message, now);
            return Received::Handled;
        }
        // A CANCEL belongs to its INVITE's transaction also where that is inside a dialog (RFC 3261 s9.2).
        if message.method() == Some(Method::Cancel) {
            self.receive_cancel(flow, message, now);
            return Received::Handled;
        }
        // An ACK of a 2xx too, be its branch that of the INVITE (RFC 2543 peers, and others by mistake; RFC 6026 s7.1).
        if message.to_tag().is_some() {
            self.receive_in_dialog(flow, message, now);
            return Received::Handled;
        }
        match message.method() {
            Some(Method::Ack) => Received::Handled,
            _ if self.merging.contains_key(&self.keys.merge_key(&message)) => {
                self.refuse(&message, flow, &Reply::new(482));
                Received::Handled
            }
            _ => Received::Fresh(message),
        }
    }

    /// A connection closed, or could not be opened: what waits on it fails now instead of by its timer.
    pub fn handle_flow_failed(&mut self, matches: impl Fn(&Flow) -> bool, now: Mono) {
        for id in self.table.on_flow(matches) {
            if let Some((_, step)) = self.table.handle(id, Input::TransportFailed, now) {
                self.after_step(id, step.tell, None, now);
            }
        }
    }

    /// A request whose transaction exists: a retransmission, or the ACK of a failure.
    fn repeated(&mut self, id: TransactionId, message: &Message, now: Mono) {
        let input = if message.method() == Some(Method::Ack) { Input::AckReceived } else { Input::RequestRepeated };
        let Some((flow, step)) = self.table.handle(id, input, now) else { return };
        if let Some(bytes) = step.send {
            self.counts.retransmitted_responses += 1;
            self.transmit(flow, bytes);
        }
        self.after_step(id, step.tell, None, now);
    }

    fn receive_cancel(&mut self, flow: Flow, cancel: Message, now: Mono) {
        let Some(invite) = self.table.find(Key::Server(self.keys.canceled_by(&cancel))) else {
            self.refuse(&cancel, flow, &Reply::new(481));
            return;
        };
        let owner = self.table.owner(invite);
        let tag = match owner {
            Some(Owner::InviteServer(dialog)) => self.usages.get(&dialog).map(|usage| usage.dialog.local_tag.clone()),
            _ => None,
        };
        // The CANCEL's own 200 has the To tag of the INVITE's responses (RFC 3261 s9.2).
        let id = self.open_server(flow, &cancel);
        self.reply_tagged(id, &cancel, &Reply::new(200), tag.as_deref(), now);
        if self.table.state(invite) == Some(State::Proceeding)
            && let Some(Owner::InviteServer(dialog)) = owner
        {
            self.canceled(dialog, cancel, now);
        }
    }

    /// The peer took its INVITE back: 487. For the first INVITE that is the end of the dialog; a later one changes
    /// nothing of it (RFC 3261 s14.1).
    fn canceled(&mut self, dialog: DialogId, cancel: Message, now: Mono) {
        if self.answer_incoming(dialog, &Reply::new(487), now).is_none() {
            return;
        }
        match self.usages.get(&dialog).map(|usage| usage.phase) {
            Some(Phase::Early) => {
                self.usages.remove(&dialog);
                self.tell(Event::Canceled { dialog, cancel });
            }
            Some(Phase::Confirmed) => self.tell(Event::ReofferCanceled { dialog }),
            Some(Phase::Ending) | None => {}
        }
    }

    fn receive_in_dialog(&mut self, flow: Flow, message: Message, now: Mono) {
        let method = message.method().unwrap_or(Method::Other);
        if method == Method::Subscribe && self.resubscribed(flow, &message) {
            return;
        }
        let Some(dialog) = self.find_dialog(&message) else {
            if method != Method::Ack {
                self.refuse(&message, flow, &Reply::new(481));
            }
            return;
        };
        if method == Method::Ack {
            return self.receive_ack(dialog, message, now);
        }
        let gone = self.usages.get(&dialog).is_some_and(|usage| match usage.phase {
            // Who answers our INVITE ends it by its final response, not by a BYE (RFC 3261 s15).
            Phase::Early => usage.dialog.outgoing && method == Method::Bye,
            Phase::Confirmed => false,
            Phase::Ending => method != Method::Bye,
        });
        if gone {
            self.refuse(&message, flow, &Reply::new(481));
            return;
        }
        let number = message.cseq().map_or(0, |(number, _)| number);
        let fresh = self.usages.get_mut(&dialog).is_some_and(|usage| usage.dialog.take_cseq(number));
        if !fresh {
            self.refuse(&message, flow, &Reply::new(500).reason("CSeq Out Of Order"));
            return;
        }
        // Before the answer there is nobody to be replaced, and no way to tell what becomes of it.
        if method == Method::Refer && self.usages.get(&dialog).is_some_and(|usage| usage.phase == Phase::Early) {
            self.refuse(&message, flow, &Reply::new(403).reason("Not Answered Yet"));
            return;
        }
        match method {
            Method::Bye => self.receive_bye(dialog, flow, message, now),
            Method::Invite => self.receive_reinvite(dialog, flow, message, now),
            _ => {
                if let Some(usage) = self.usages.get_mut(&dialog).filter(|_| method == Method::Refer) {
                    let first = usage.refers.map_or(number, |(first, _)| first);
                    usage.refers = Some((first, number));
                }
                let transaction = self.open_server(flow, &message);
                self.tell(Event::InDialog { dialog, transaction, request: message });
            }
        }
    }

    /// The dialog of a request with a To tag: our tag names it, Call-ID and the peer's tag must agree.
    fn find_dialog(&self, message: &Message) -> Option<DialogId> {
        let id = Stack::tag_token(message.to_tag()?)?;
        let usage = self.usages.get(&id)?;
        let dialog = &usage.dialog;
        // Until our INVITE is answered, the peer's tag is not known.
        let any_tag = usage.phase == Phase::Early && dialog.outgoing;
        let same = dialog.call_id == message.call_id()
            && Some(dialog.local_tag.as_str()) == message.to_tag()
            && (any_tag || dialog.remote_tag == message.from_tag().unwrap_or(""));
        same.then_some(id)
    }

    fn receive_ack(&mut self, dialog: DialogId, ack: Message, now: Mono) {
        let Some(usage) = self.usages.get_mut(&dialog) else { return };
        let number = ack.cseq().map(|(number, _)| number);
        if usage.unacknowledged.as_ref().is_some_and(|pending| Some(pending.cseq) == number) {
            usage.unacknowledged = None;
            match usage.bye_wanted.take() {
                Some(reason) => self.send_bye(dialog, reason, None, now),
                None => self.tell(Event::Acked { dialog, ack }),
            }
        }
    }

    fn receive_bye(&mut self, dialog: DialogId, flow: Flow, bye: Message, now: Mono) {
        let id = self.open_server(flow, &bye);
        self.reply(id, &bye, &Reply::new(200), now);
        // An INVITE that still waits for its answer is over with the dialog (RFC 3261 s15.1.2).
        self.answer_incoming(dialog, &Reply::new(487), now);
        let Some(usage) = self.usages.get_mut(&dialog) else { return };
        let already_ending = usage.phase == Phase::Ending;
        usage.unacknowledged = None;
        self.forget(dialog, now);
        if !already_ending {
            self.tell(Event::Ended { dialog, bye: Some(bye) });
        }
    }

    fn receive_reinvite(&mut self, dialog: DialogId, flow: Flow, invite: Message, now: Mono) {
        let retry_after = 1 + self.tokens.below(9);
        let Some(usage) = self.usages.get_mut(&dialog) else { return };
        let refusal = if usage.incoming.is_some() || usage.unacknowledged.is_some() {
            Some(Reply::new(500).header(HeaderName::RetryAfter, retry_after.to_string()))
        } else if usage.open_invite().is_some() {
            Some(Reply::new(491))
        } else {
            None
        };
        let transaction = self.open_invite_server(flow, &invite, dialog);
        let Some(usage) = self.usages.get_mut(&dialog) else { return };
        if let Some(refusal) = refusal {
            self.reply(transaction, &invite, &refusal, now);
            return;
        }
        usage.dialog.take_target(&invite, flow);
        self.reply_tagged(transaction, &invite, &Reply::new(100), None, now);
        let Some(usage) = self.usages.get_mut(&dialog) else { return };
        usage.incoming = Some(Incoming { transaction, invite: invite.clone(), source: flow });
        self.tell(Event::Reoffered { dialog, invite });
    }

    /// Opens a server transaction for a request other than INVITE.
    pub(super) fn open_server(&mut self, flow: Flow, request: &Message) -> TransactionId {
        let reliable = flow.transport.is_reliable();
        let back = response_flow(flow, request);
        let transaction = Transaction::ServerNonInvite(ServerNonInvite::new(reliable));
        self.table.insert(transaction, back, Key::Server(self.keys.of(request)), Owner::Nobody)
    }

    /// Opens the server transaction of an INVITE.
    pub(super) fn open_invite_server(&mut self, flow: Flow, invite: &Message, dialog: DialogId) -> TransactionId {
        let reliable = flow.transport.is_reliable();
        let back = response_flow(flow, invite);
        let transaction = Transaction::ServerInvite(ServerInvite::new(reliable));
        self.table.insert(transaction, back, Key::Server(self.keys.of(invite)), Owner::InviteServer(dialog))
    }

    fn receive_response(&mut self, response: Message, flow: Flow, now: Mono) -> Received {
        if !check::response(&response) {
            return Received::Dropped("malformed");
        }
        let Some(id) = self.transaction_of(&response) else {
            self.counts.stray_responses += 1;
            return Received::Dropped("stray_response");
        };
        self.client_response(id, response, flow, now);
        Received::Handled
    }

    fn transaction_of(&self, response: &Message) -> Option<TransactionId> {
        let branch = response.top_via()?.branch()?;
        let token = branch.strip_prefix(MAGIC_COOKIE)?.get(3..).filter(|digits| digits.len() == 16)?;
        let token = u64::from_str_radix(token, 16).ok()?;
        let method = Method::from_text(response.cseq()?.1);
        self.table.find(Key::Client { token, method })
    }
}

/// Where the responses to a request go (RFC 3261 s18.2.2, RFC 3581).
pub(super) fn response_flow(flow: Flow, request: &Message) -> Flow {
    match request.top_via() {
        Some(via) if !flow.transport.is_reliable() => Flow { remote: via.response_address(flow.remote), ..flow },
        _ => flow,
    }
}
