//! The commands: what an owner may ask of its stack.

use std::hash::{DefaultHasher, Hash, Hasher};

use bytes::Bytes;

use super::receive::response_flow;
use super::stamp::write_vias;
use super::table::{Key, Owner, TransactionId};
use super::usage::{Cancel, Challenge, Incoming, OpenBye, Outgoing, Phase, Unacknowledged, Usage};
use super::{ALLOW, Event, Stack};
use crate::dialog::{Dialog, DialogId};
use crate::digest::{self, Credentials};
use crate::flow::Flow;
use crate::msg::{HeaderName, MAGIC_COOKIE, Message, Method, Text, Writer, reason_phrase};
use crate::time::Mono;
use crate::transaction::timers::PATIENCE;
use crate::transaction::{ClientInvite, ClientNonInvite, Input, Transaction};

const SDP: &str = "application/sdp";

/// A response to write.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    status: u16,
    reason: String,
    headers: Vec<(HeaderName, String)>,
    named: Vec<(String, String)>,
    contact: bool,
    body: Bytes,
}

impl Reply {
    pub fn new(status: u16) -> Reply {
        Reply { status, ..Reply::default() }
    }

    /// Another reason phrase than the usual one.
    pub fn reason(mut self, reason: &str) -> Reply {
        self.reason = reason.to_owned();
        self
    }

    pub fn header(mut self, name: HeaderName, value: String) -> Reply {
        self.headers.push((name, value));
        self
    }

    /// A header that we have no number for.
    pub fn named(mut self, name: &str, value: String) -> Reply {
        self.named.push((name.to_owned(), value));
        self
    }

    pub fn sdp(mut self, sdp: Bytes) -> Reply {
        self.body = sdp;
        self
    }

    /// With the dialog's Contact, as responses that open or refresh a dialog have it.
    fn with_contact(mut self) -> Reply {
        self.contact = true;
        self
    }
}

/// An INVITE to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invitation {
    pub flow: Flow,
    pub request_uri: String,
    /// Name and URI, without a tag.
    pub from: String,
    pub to: String,
    /// Our Contact, a whole header value.
    pub contact: String,
    /// Where to go next when there is no answer from where it went, or 503 (RFC 3263 s4.3); in order.
    pub alternatives: Vec<Hop>,
    /// Route headers, in order: the Path that a registered phone came by.
    pub routes: Vec<String>,
    pub headers: Vec<(String, String)>,
    pub sdp: Bytes,
    /// What to answer a challenge with: those of the trunk that this INVITE goes to, and of no other, and only for
    /// their realm.
    pub credentials: Option<Credentials>,
}

/// A way that a request can take, and our Contact on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hop {
    pub flow: Flow,
    pub contact: String,
}

/// A request outside any dialog.
#[derive(Clone, Debug)]
pub struct Request {
    pub flow: Flow,
    pub uri: String,
    /// Whole header values.
    pub from: String,
    pub to: String,
    /// In the order of Route headers.
    pub routes: Vec<String>,
    pub content_type: &'static str,
    pub body: Bytes,
}

impl Stack {
    /// Answers a request without keeping any state; also for one that failed its check.
    ///
    /// The To tag is a keyed hash of the request, so that a retransmission gets the same answer (RFC 3261 s8.2.7).
    pub fn refuse(&mut self, request: &Message, flow: Flow, reply: &Reply) {
        if request.method() == Some(Method::Ack) {
            return;
        }
        let mut state = DefaultHasher::new();
        (self.config.seed, request.call_id(), request.from_tag(), request.cseq()).hash(&mut state);
        let tag = format!("fff{:016x}", state.finish());
        let bytes = self.write_reply(request, flow, reply, Some(&tag), None);
        self.transmit(response_flow(flow, request), bytes);
    }

    /// Takes a fresh INVITE: opens its transaction and its dialog.
    ///
    /// The caller answers within 200 ms, provisionally at least; that takes the place of 100 (RFC 3261 s17.2.1).
    pub fn accept_invite(&mut self, flow: Flow, invite: Message, contact: String) -> DialogId {
        let (id, tag) = self.mint_tag();
        let dialog = Dialog::from_invite(&invite, flow, tag, contact);
        let transaction = self.open_invite_server(flow, &invite, id);
        let merge = self.keys.merge_key(&invite);
        self.merging.insert(merge, transaction);
        if let Some(entry) = self.table.get_mut(transaction) {
            entry.merge = Some(merge);
        }
        let mut usage = Usage::new(dialog);
        usage.incoming = Some(Incoming { transaction, invite, source: flow });
        self.usages.insert(id, Box::new(usage));
        id
    }

    /// Takes another fresh request: opens its transaction. Answer it by [`Stack::reply`].
    pub fn accept_request(&mut self, flow: Flow, request: &Message) -> TransactionId {
        self.open_server(flow, request)
    }

    /// Answers a request that has a transaction.
    pub fn reply(&mut self, id: TransactionId, request: &Message, reply: &Reply, now: Mono) {
        self.reply_tagged(id, request, reply, None, now);
    }

    pub(super) fn reply_tagged(
        &mut self,
        id: TransactionId,
        request: &Message,
        reply: &Reply,
        tag: Option<&str>,
        now: Mono,
    ) {
        let Some(flow) = self.table.flow(id) else { return };
        let minted;
        let tag = match tag {
            None if reply.status != 100 && request.to_tag().is_none() => {
                minted = self.mint_tag().1;
                Some(minted.as_str())
            }
            tag => tag,
        };
        let bytes = self.write_reply(request, flow, reply, tag, None);
        self.respond(id, reply.status, bytes, now);
    }

    /// Sends a provisional response to the dialog's INVITE; with SDP it is early media.
    pub fn progress(&mut self, dialog: DialogId, status: u16, sdp: Bytes, now: Mono) {
        self.answer_incoming(dialog, &Reply::new(status).sdp(sdp).with_contact(), now);
    }

    /// Answers the dialog's INVITE, the first or a later one, with 200. It is retransmitted until its ACK comes.
    pub fn answer(&mut self, dialog: DialogId, sdp: Bytes, now: Mono) {
        let reply = Reply::new(200).sdp(sdp).with_contact();
        let Some((cseq, source, bytes)) = self.answer_incoming(dialog, &reply, now) else { return };
        let Some(usage) = self.usages.get_mut(&dialog) else { return };
        usage.phase = Phase::Confirmed;
        usage.retry.take_if(|retry| retry.was_refused);
        usage.unacknowledged = Some(Unacknowledged::new(cseq, bytes, source, now));
        self.arm_usage(dialog);
    }

    /// Refuses the dialog's INVITE. If it was the first, the dialog is gone.
    pub fn decline(&mut self, dialog: DialogId, reply: &Reply, now: Mono) {
        self.answer_incoming(dialog, reply, now);
        if self.usages.get(&dialog).is_some_and(|usage| usage.phase == Phase::Early) {
            self.usages.remove(&dialog);
        }
    }

    /// Writes and sends an answer to the INVITE that waits for one; what was sent, if one waits.
    pub(super) fn answer_incoming(&mut self, dialog: DialogId, reply: &Reply, now: Mono) -> Option<(u32, Flow, Bytes)> {
        let usage = self.usages.get(&dialog)?;
        let incoming = usage.incoming.as_ref()?;
        let (transaction, invite, source) = (incoming.transaction, incoming.invite.clone(), incoming.source);
        let bytes =
            self.write_reply(&invite, source, reply, Some(&usage.dialog.local_tag), Some(&usage.dialog.contact));
        let back = response_flow(source, &invite);
        self.respond(transaction, reply.status, bytes.clone(), now);
        if reply.status >= 200
            && let Some(usage) = self.usages.get_mut(&dialog)
        {
            usage.incoming = None;
        }
        Some((invite.cseq().map_or(0, |(number, _)| number), back, bytes))
    }

    fn respond(&mut self, id: TransactionId, status: u16, bytes: Bytes, now: Mono) {
        let Some((flow, step)) = self.table.handle(id, Input::Respond { status, bytes }, now) else { return };
        if let Some(bytes) = step.send {
            self.transmit(flow, bytes);
        }
        self.after_step(id, step.tell, None, now);
    }

    fn write_reply(
        &self,
        request: &Message,
        source: Flow,
        reply: &Reply,
        tag: Option<&str>,
        contact: Option<&str>,
    ) -> Bytes {
        let mut writer = Writer::response(reply.status, &reply.reason);
        write_vias(&mut writer, request, source);
        if contact.is_some() {
            writer.copy(HeaderName::RecordRoute, request);
        }
        writer.copy_first(HeaderName::From, request);
        match (tag.filter(|_| reply.status != 100 && request.to_tag().is_none()), request.header(HeaderName::To)) {
            (Some(tag), Some(to)) => writer.header(HeaderName::To, format_args!("{to};tag={tag}")),
            _ => writer.copy_first(HeaderName::To, request),
        };
        writer.copy_first(HeaderName::CallId, request).copy_first(HeaderName::CSeq, request);
        if let Some(contact) = contact.filter(|_| reply.contact) {
            writer.header(HeaderName::Contact, contact);
            writer.header(HeaderName::Allow, ALLOW);
        }
        for (name, value) in &reply.headers {
            writer.header(*name, value);
        }
        for (name, value) in &reply.named {
            writer.named(name, value);
        }
        writer.header(HeaderName::Server, &self.config.product);
        writer.finish(SDP, &reply.body)
    }

    /// Sends an INVITE that opens a dialog.
    pub fn invite(&mut self, invitation: Invitation, now: Mono) -> DialogId {
        let (id, tag) = self.mint_tag();
        let dialog = Dialog {
            call_id: format!("{:032x}", self.tokens.next_u128()),
            local_tag: tag,
            remote_tag: String::new(),
            local_address: invitation.from,
            remote_address: invitation.to,
            remote_target: invitation.request_uri,
            route_set: invitation.routes,
            local_cseq: 0,
            remote_cseq: None,
            flow: invitation.flow,
            contact: invitation.contact,
            outgoing: true,
        };
        let mut usage = Usage::new(dialog);
        usage.credentials = invitation.credentials;
        usage.alternatives = invitation.alternatives.into();
        self.usages.insert(id, Box::new(usage));
        self.send_invite(id, invitation.headers, invitation.sdp, Vec::new(), now);
        id
    }

    /// Offers anew inside the dialog. If an INVITE of either side is open, the offer waits and is tried again; a later
    /// offer takes the place of one that waits.
    pub fn reinvite(&mut self, dialog: DialogId, sdp: Bytes, now: Mono) {
        let Some(usage) = self.usages.get_mut(&dialog).filter(|usage| usage.phase == Phase::Confirmed) else { return };
        usage.retry = None;
        if usage.incoming.is_some() || usage.unacknowledged.is_some() || usage.open_invite().is_some() {
            self.retry_later(dialog, sdp, false, now);
        } else {
            self.send_invite(dialog, Vec::new(), sdp, Vec::new(), now);
        }
    }

    /// Sends the INVITE of a dialog, the first or a later one, with an answer to each challenge.
    pub(super) fn send_invite(
        &mut self,
        id: DialogId,
        headers: Vec<(String, String)>,
        sdp: Bytes,
        mut challenges: Vec<Challenge>,
        now: Mono,
    ) {
        let token = self.tokens.next_u64();
        let cnonce = if challenges.is_empty() { String::new() } else { format!("{:016x}", self.tokens.next_u64()) };
        let Some(flow) = self.usages.get(&id).map(|usage| usage.dialog.flow) else { return };
        let via = self.via(flow, token);
        let Some(usage) = self.usages.get_mut(&id) else { return };
        let cseq = usage.dialog.next_cseq();
        let mut authorization = Vec::new();
        for challenge in &mut challenges {
            challenge.uses += 1;
            let values = challenge.values.iter().map(String::as_str);
            let answer = usage.credentials.as_ref().and_then(|credentials| {
                digest::answer(values, credentials, "INVITE", usage.dialog.request_uri(), &cnonce, challenge.uses)
            });
            authorization.extend(answer.map(|answer| (challenge.answer, answer)));
        }
        let mut writer = usage.dialog.request(Method::Invite, cseq, &via);
        writer.header(HeaderName::Contact, &usage.dialog.contact).header(HeaderName::Allow, ALLOW);
        for (name, value) in &headers {
            writer.named(name, value);
        }
        for (name, value) in &authorization {
            writer.header(*name, value);
        }
        writer.header(HeaderName::UserAgent, &self.config.product);
        let bytes = writer.finish(SDP, &sdp);
        let transaction =
            Transaction::ClientInvite(ClientInvite::new(bytes.clone(), flow.transport.is_reliable(), now));
        let key = Key::Client { token, method: Method::Invite };
        let transaction = self.table.insert(transaction, flow, key, Owner::InviteClient(id));
        usage.outgoing = Some(Outgoing {
            transaction,
            headers,
            sdp,
            cseq,
            provisional: false,
            canceled: Cancel::No,
            challenges,
            authorization,
            settled: false,
        });
        self.transmit(flow, bytes);
    }

    /// Takes our INVITE back. The end comes as [`Event::Refused`], or as [`Event::Answered`] if the peer was faster.
    ///
    /// `reason` is a Reason value (`SIP;cause=200;text="Call completed elsewhere"`), or empty.
    pub fn cancel(&mut self, dialog: DialogId, reason: &str, now: Mono) {
        let Some(usage) = self.usages.get_mut(&dialog) else { return };
        let Some(outgoing) = usage.open_invite_mut().filter(|outgoing| outgoing.canceled == Cancel::No) else { return };
        outgoing.canceled = Cancel::Wanted(reason.to_owned());
        if outgoing.provisional {
            self.send_cancel(dialog, now);
        }
    }

    /// A CANCEL repeats the INVITE's Request-URI, Via, To, From, Call-ID and Route (RFC 3261 s9.1).
    pub(super) fn send_cancel(&mut self, dialog: DialogId, now: Mono) {
        let Some(outgoing) = self.usages.get_mut(&dialog).and_then(|usage| usage.open_invite_mut()) else { return };
        let Cancel::Wanted(reason) = outgoing.canceled.clone() else { return };
        outgoing.canceled = Cancel::Until(now + PATIENCE);
        let transaction = outgoing.transaction;
        let (Some(invite), Some(token), Some(flow)) = (
            self.table.open_invite(transaction).and_then(|bytes| Message::parse(bytes).ok()),
            self.table.client_token(transaction),
            self.table.flow(transaction),
        ) else {
            return;
        };
        let mut writer = repeat_invite(Method::Cancel, &invite, &invite);
        if !reason.is_empty() {
            writer.header(HeaderName::Reason, reason);
        }
        let key = Key::Client { token, method: Method::Cancel };
        self.open_client(flow, writer.finish("", b""), key, Owner::Nobody, now);
        self.arm_usage(dialog);
    }

    /// Ends an answered dialog. `reason` is a Reason value, or empty.
    ///
    /// A BYE must not overtake the ACK of our own 2xx (RFC 3261 s15): while that is awaited, the BYE waits with it.
    /// One that is not answered yet is refused or taken back instead.
    pub fn bye(&mut self, dialog: DialogId, reason: &str, now: Mono) {
        let Some(usage) = self.usages.get(&dialog) else { return };
        match usage.phase {
            Phase::Early if usage.dialog.outgoing => return self.cancel(dialog, reason, now),
            Phase::Early => return self.decline(dialog, &Reply::new(487), now),
            Phase::Confirmed => {}
            Phase::Ending => return,
        }
        self.answer_incoming(dialog, &Reply::new(487), now);
        let Some(usage) = self.usages.get_mut(&dialog) else { return };
        usage.phase = Phase::Ending;
        usage.retry = None;
        if usage.unacknowledged.is_some() {
            usage.bye_wanted = Some(reason.to_owned());
        } else {
            self.send_bye(dialog, reason.to_owned(), None, now);
        }
    }

    pub(super) fn send_bye(
        &mut self,
        dialog: DialogId,
        reason: String,
        authorization: Option<(HeaderName, String)>,
        now: Mono,
    ) {
        let token = self.tokens.next_u64();
        let Some(flow) = self.usages.get(&dialog).map(|usage| usage.dialog.flow) else { return };
        let via = self.via(flow, token);
        let Some(usage) = self.usages.get_mut(&dialog) else { return };
        let cseq = usage.dialog.next_cseq();
        let mut writer = usage.dialog.request(Method::Bye, cseq, &via);
        if !reason.is_empty() {
            writer.header(HeaderName::Reason, &reason);
        }
        usage.bye = Some(OpenBye { reason, authorized: authorization.is_some() });
        if let Some((name, value)) = authorization {
            writer.header(name, value);
        }
        writer.header(HeaderName::UserAgent, &self.config.product);
        let bytes = writer.finish("", b"");
        self.open_client(flow, bytes, Key::Client { token, method: Method::Bye }, Owner::Bye(dialog), now);
    }

    /// Asks the peer of an answered dialog to call somebody else (RFC 3515). Its answer comes as [`Event::ReferAnswered`];
    /// what becomes of that call by NOTIFY requests inside the dialog.
    pub fn refer(&mut self, dialog: DialogId, uri: &str, headers: &[(String, String)], now: Mono) {
        let token = self.tokens.next_u64();
        let Some(flow) = self.usages.get(&dialog).map(|usage| usage.dialog.flow) else { return };
        let via = self.via(flow, token);
        let Some(usage) = self.usages.get_mut(&dialog).filter(|usage| usage.phase == Phase::Confirmed) else {
            return self.tell(Event::ReferAnswered { dialog, status: 481 });
        };
        let cseq = usage.dialog.next_cseq();
        let mut writer = usage.dialog.request(Method::Refer, cseq, &via);
        writer.header(HeaderName::Contact, &usage.dialog.contact);
        writer.named("Refer-To", format_args!("<{uri}>"));
        writer.named("Referred-By", &usage.dialog.local_address);
        for (name, value) in headers {
            writer.named(name, value);
        }
        writer.header(HeaderName::UserAgent, &self.config.product);
        let bytes = writer.finish("", b"");
        self.open_client(flow, bytes, Key::Client { token, method: Method::Refer }, Owner::Refer(dialog), now);
    }

    /// Tells the peer of an answered dialog what became of its last REFER, by a final status: nothing more will be told
    /// (RFC 3515 s2.4.4). What it answers changes nothing.
    pub fn notify_refer(&mut self, dialog: DialogId, status: u16, now: Mono) {
        let token = self.tokens.next_u64();
        let Some(flow) = self.usages.get(&dialog).map(|usage| usage.dialog.flow) else { return };
        let via = self.via(flow, token);
        let Some(usage) = self.usages.get_mut(&dialog).filter(|usage| usage.phase == Phase::Confirmed) else { return };
        let Some((first, last)) = usage.refers else { return };
        let cseq = usage.dialog.next_cseq();
        let mut writer = usage.dialog.request(Method::Notify, cseq, &via);
        writer.header(HeaderName::Contact, &usage.dialog.contact);
        // Several in a dialog are told apart by their numbers; some phones know no number of the first (s2.4.6).
        if first == last {
            writer.header(HeaderName::Event, "refer");
        } else {
            writer.header(HeaderName::Event, format_args!("refer;id={last}"));
        }
        writer.named("Subscription-State", "terminated;reason=noresource");
        writer.header(HeaderName::UserAgent, &self.config.product);
        let body = format!("SIP/2.0 {status} {}\r\n", reason_phrase(status));
        let bytes = writer.finish("message/sipfrag;version=2.0", body.as_bytes());
        self.open_client(flow, bytes, Key::Client { token, method: Method::Notify }, Owner::Nobody, now);
    }

    /// Tells the peer of an answered dialog that a key was pressed, by INFO as phones do it. What it answers changes nothing.
    pub fn info_digit(&mut self, dialog: DialogId, digit: char, now: Mono) {
        let body = format!("Signal={digit}\r\nDuration=160\r\n");
        self.send_inside(dialog, Method::Info, &[], ("application/dtmf-relay", body.as_bytes()), now);
    }

    /// Sends a MESSAGE inside a confirmed dialog (RFC 3428 s7); what becomes of it is not told. `body` is of that type.
    pub fn message_inside(&mut self, dialog: DialogId, headers: &[(&str, &str)], body: (&str, &[u8]), now: Mono) {
        self.send_inside(dialog, Method::Message, headers, body, now);
    }

    fn send_inside(
        &mut self,
        dialog: DialogId,
        method: Method,
        headers: &[(&str, &str)],
        (content_type, body): (&str, &[u8]),
        now: Mono,
    ) {
        let token = self.tokens.next_u64();
        let Some(flow) = self.usages.get(&dialog).map(|usage| usage.dialog.flow) else { return };
        let via = self.via(flow, token);
        let Some(usage) = self.usages.get_mut(&dialog).filter(|usage| usage.phase == Phase::Confirmed) else { return };
        let cseq = usage.dialog.next_cseq();
        let mut writer = usage.dialog.request(method, cseq, &via);
        writer.header(HeaderName::UserAgent, &self.config.product);
        for (name, value) in headers {
            writer.named(name, *value);
        }
        let bytes = writer.finish(content_type, body);
        self.open_client(flow, bytes, Key::Client { token, method }, Owner::Nobody, now);
    }

    /// Sends a MESSAGE outside any dialog (RFC 3428). Its end comes as [`Event::Responded`] with the number returned.
    pub fn message(&mut self, request: Request, now: Mono) -> u64 {
        let (token, number) = (self.tokens.next_u64(), self.tokens.next_u64());
        let dialog = Dialog {
            call_id: format!("{:032x}", self.tokens.next_u128()),
            local_tag: format!("{:016x}", self.tokens.next_u64()),
            remote_tag: String::new(),
            local_address: request.from,
            remote_address: request.to,
            remote_target: request.uri,
            route_set: request.routes,
            local_cseq: 0,
            remote_cseq: None,
            flow: request.flow,
            contact: String::new(),
            outgoing: true,
        };
        let mut writer = dialog.request(Method::Message, 1, &self.via(request.flow, token));
        writer.header(HeaderName::UserAgent, &self.config.product);
        let bytes = writer.finish(request.content_type, &request.body);
        let key = Key::Client { token, method: Method::Message };
        self.open_client(request.flow, bytes, key, Owner::Request(number), now);
        number
    }

    pub(super) fn open_client(&mut self, flow: Flow, bytes: Bytes, key: Key, owner: Owner, now: Mono) {
        let transaction = ClientNonInvite::new(bytes.clone(), flow.transport.is_reliable(), now);
        self.table.insert(Transaction::ClientNonInvite(transaction), flow, key, owner);
        self.transmit(flow, bytes);
    }

    pub(super) fn via(&self, flow: Flow, token: u64) -> String {
        let mut via = Text::with_capacity(96);
        via.put("SIP/2.0/").put(flow.transport.via_name()).put(" ").socket(flow.local).put(";rport;branch=");
        via.put(MAGIC_COOKIE).hex(self.config.slot.into(), 3).hex(token, 16);
        via.0
    }

    /// Queues the dialog's next deadline, unless it or an earlier one stands in the queue.
    pub(super) fn arm_usage(&mut self, dialog: DialogId) {
        let Some(usage) = self.usages.get_mut(&dialog) else { return };
        let Some(at) = usage.deadline() else { return };
        if usage.armed.is_none_or(|armed| at < armed) {
            usage.armed = Some(at);
            self.table.arm_usage(dialog, at);
        }
    }

    /// Tries a re-INVITE again after a glare: 2.1 to 4 s if the dialog is ours, else 0 to 2 s (RFC 3261 s14.1).
    pub(super) fn retry_later(&mut self, dialog: DialogId, sdp: Bytes, was_refused: bool, now: Mono) {
        let tens = if self.usages.get(&dialog).is_some_and(|usage| usage.dialog.outgoing) {
            210 + self.tokens.below(190)
        } else {
            1 + self.tokens.below(200)
        };
        if let Some(usage) = self.usages.get_mut(&dialog) {
            let at = now + std::time::Duration::from_millis(tens * 10);
            usage.retry = Some(super::usage::Retry { at, sdp, was_refused });
        }
        self.arm_usage(dialog);
    }

    /// A dialog's own timer: our 2xx again, the end of waiting for an ACK, a CANCEL without an end, a retry.
    pub(super) fn usage_timer(&mut self, dialog: DialogId, at: Mono, now: Mono) {
        let Some(usage) = self.usages.get_mut(&dialog).filter(|usage| usage.armed == Some(at)) else { return };
        usage.armed = None;
        if let Some(pending) = usage.unacknowledged.as_mut() {
            if pending.is_over(now) {
                usage.unacknowledged = None;
                match usage.bye_wanted.take() {
                    Some(reason) => self.send_bye(dialog, reason, None, now),
                    None => self.tell(Event::AckMissing { dialog }),
                }
            } else if pending.is_due(now) {
                let (flow, bytes) = (pending.flow, pending.response.clone());
                self.counts.retransmitted_responses += 1;
                self.transmit(flow, bytes);
            }
        }
        let Some(usage) = self.usages.get_mut(&dialog) else { return };
        if let Some(retry) = usage.retry.take_if(|retry| retry.at <= now) {
            self.reinvite(dialog, retry.sdp, now);
        }
        self.give_up_canceled(dialog, now);
        self.arm_usage(dialog);
    }

    /// An INVITE that is no more wanted and got no final response in 64 x T1 is over (RFC 3261 s9.1).
    fn give_up_canceled(&mut self, dialog: DialogId, now: Mono) {
        let Some(usage) = self.usages.get_mut(&dialog) else { return };
        let over =
            |outgoing: &mut Outgoing| matches!(outgoing.canceled, Cancel::Until(at) if at <= now) && !outgoing.settled;
        let Some(outgoing) = usage.outgoing.take_if(over) else { return };
        let phase = usage.phase;
        self.table.remove(outgoing.transaction);
        match phase {
            Phase::Early => {
                self.usages.remove(&dialog);
                self.tell(Event::Refused { dialog, status: 487, response: None });
            }
            Phase::Confirmed => self.tell(Event::Reanswered { dialog, status: 487, response: None }),
            Phase::Ending => self.forget_ended(dialog),
        }
    }

    /// The dialog is over: forgets it, once an INVITE of ours that may still bring a 2xx is settled.
    pub(super) fn forget(&mut self, dialog: DialogId, now: Mono) {
        let Some(usage) = self.usages.get_mut(&dialog) else { return };
        usage.phase = Phase::Ending;
        usage.retry = None;
        usage.bye = None;
        usage.bye_wanted = None;
        match usage.open_invite_mut() {
            Some(outgoing) if matches!(outgoing.canceled, Cancel::Until(_)) => {}
            Some(outgoing) => {
                outgoing.canceled = Cancel::Until(now + PATIENCE);
                self.arm_usage(dialog);
            }
            None => {
                self.usages.remove(&dialog);
            }
        }
    }

    /// Forgets a dialog that was only kept for an INVITE of ours.
    pub(super) fn forget_ended(&mut self, dialog: DialogId) {
        if self.usages.get(&dialog).is_some_and(|usage| usage.bye.is_none() && usage.bye_wanted.is_none()) {
            self.usages.remove(&dialog);
        }
    }
}

/// Begins a CANCEL, or the ACK of a failure: as the INVITE it belongs to, with the To of `to`
/// (RFC 3261 s9.1, s17.1.1.3).
pub(super) fn repeat_invite(method: Method, invite: &Message, to: &Message) -> Writer {
    let mut writer = Writer::request(method.as_str(), invite.request_uri());
    writer.copy_first(HeaderName::Via, invite).copy_first(HeaderName::MaxForwards, invite);
    writer.copy(HeaderName::Route, invite).copy_first(HeaderName::From, invite).copy_first(HeaderName::To, to);
    writer.copy_first(HeaderName::CallId, invite);
    let number = invite.cseq().map_or(0, |(number, _)| number);
    writer.header(HeaderName::CSeq, format_args!("{number} {}", method.as_str()));
    if method == Method::Ack {
        // RFC 3261 s22.1.
        writer.copy(HeaderName::Authorization, invite).copy(HeaderName::ProxyAuthorization, invite);
    }
    writer
}
