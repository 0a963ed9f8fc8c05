//! Text messages to the account's own users, from the API, from documents and from each other: one SIP MESSAGE to each
//! device, and what becomes of them (RFC 3428).

use std::sync::Arc;

use dialtone_sip::flow::Flow;
use dialtone_sip::msg::{HeaderName, Message, SipUri};
use dialtone_sip::stack::{Reply, Request};
use dialtone_sip::tokens::TokenMap;

use super::core::{Core, Output};
use super::outbound::from_header;
use crate::account::{Aor, Number, Origin, User};
use crate::call::Now;
use crate::call::route::{self, Reach};
use crate::events::{Event, EventKind, MessageDirection, MessageFact, MessageStatus};
use crate::ids::{AccountSid, CallSid, EventSid, MessageSid};
use crate::twiml::{Endpoint, MAX_MESSAGE_CHARS, Notice, Target, parse};

/// Twilio's numbers for a message that is not delivered.
const UNREACHABLE: u32 = 30_003;
const UNKNOWN_DESTINATION: u32 = 30_005;

/// Twilio's numbers for a text of a document that cannot be sent.
const INVALID_TO: u32 = 14_101;
const INVALID_FROM: u32 = 14_102;

/// A message over UDP is to fit into a datagram that nobody cuts (RFC 3428 s8).
const MAX_UDP_BODY_BYTES: usize = 1_000;

/// Messages that devices have not answered yet; with as many a further one fails, and a device that sends one is told 503.
const MAX_SENDING: usize = 10_000;

/// Twilio's number for a message that finds no room.
const QUEUE_OVERFLOW: u32 = 30_001;

/// To whom a device sends a text.
enum Recipient {
    User(Target),
    Number(Arc<Number>),
}

/// The messages that devices have not answered yet.
#[derive(Default)]
pub(super) struct Sending {
    messages: TokenMap<MessageSid, Sent>,
    /// Whose the open requests are.
    requests: TokenMap<u64, MessageSid>,
}

struct Sent {
    account: AccountSid,
    fact: MessageFact,
    /// How many requests are open.
    open: usize,
}

impl Sending {
    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    fn is_full(&self) -> bool {
        self.len() >= MAX_SENDING
    }

    fn len(&self) -> usize {
        self.messages.len()
    }
}

impl Core {
    /// How many texts wait for the answers of their devices.
    pub fn messages_waiting(&self) -> usize {
        self.sending.len()
    }

    /// Sends a message that was queued; its steps are told as facts.
    pub fn send_message(&mut self, account: AccountSid, target: &Target, fact: MessageFact, now: Now) {
        self.send(account, target, fact, now);
        self.work(now);
    }

    fn send(&mut self, account: AccountSid, target: &Target, fact: MessageFact, now: Now) {
        match route::outbound(target, account, &self.settings.directory) {
            _ if self.sending.is_full() => self.end_message(account, fact, MessageStatus::Failed, QUEUE_OVERFLOW, now),
            Ok(Reach::User(user)) => self.send_to_devices(account, &user, fact, now),
            _ => self.end_message(account, fact, MessageStatus::Failed, UNKNOWN_DESTINATION, now),
        }
    }

    /// A text that a user's device sends to another user, or to a number whose application is asked about it. It is taken with
    /// 202 (RFC 3428 s7), and its steps are told as those of any other; where nobody's device is there, the sender is told so.
    pub(super) fn messaged(&mut self, flow: Flow, request: &Message, origin: &Origin, now: Now) {
        let transaction = self.stack.accept_request(flow, request);
        let reply = match self.read_message(request, origin, now) {
            _ if self.draining || !self.admits || self.sending.is_full() => self.unavailable(),
            Err(reply) => reply,
            Ok((Recipient::Number(number), fact)) => match &number.messaging {
                Some(_) if self.asked.is_full(number.account) => self.unavailable(),
                Some(messaging) => {
                    self.ask_about(number.account, fact, messaging, now);
                    Reply::new(202)
                }
                None => Reply::new(404),
            },
            Ok((Recipient::User(target), fact)) => {
                let (account, sid) = (origin.account(), fact.sid);
                self.tell_message(account, fact.clone(), now);
                self.send(account, &target, fact, now);
                Reply::new(if self.sending.messages.contains_key(&sid) { 202 } else { 480 })
            }
        };
        self.stack.reply(transaction, request, &reply, now.mono);
    }

    fn read_message(
        &mut self,
        request: &Message,
        origin: &Origin,
        now: Now,
    ) -> Result<(Recipient, MessageFact), Reply> {
        let Origin::User(user) = origin else { return Err(Reply::new(403)) };
        let (recipient, to) = self.recipient(request, user).ok_or_else(|| Reply::new(404))?;
        let status = match recipient {
            Recipient::User(_) => MessageStatus::Queued,
            Recipient::Number(_) => MessageStatus::Receiving,
        };
        if request.content_type().as_deref() != Some("text/plain") {
            return Err(Reply::new(415).header(HeaderName::Accept, "text/plain".to_owned()));
        }
        let body = String::from_utf8(request.body().to_vec()).map_err(|_| Reply::new(400).reason("Not UTF-8"))?;
        if body.chars().count() > MAX_MESSAGE_CHARS {
            return Err(Reply::new(413));
        }
        let fact = MessageFact {
            sid: MessageSid::at(now.wall_ms, self.tokens.next_u128()),
            from: format!("sip:{}@{}", user.username, user.domain),
            to,
            body,
            direction: MessageDirection::Inbound,
            status,
            error_code: 0,
            created_ms: now.wall_ms,
            sent_ms: 0,
            callback: None,
        };
        Ok((recipient, fact))
    }

    /// Who is meant, and how the customer writes it: a user of a SIP domain by the whole URI, others and numbers by the user
    /// part.
    fn recipient(&self, request: &Message, sender: &User) -> Option<(Recipient, String)> {
        let directory = &self.settings.directory;
        let called = route::called(request);
        let domain = SipUri::parse(request.request_uri()).ok().and_then(|uri| directory.sip_domain(uri.host.host));
        let (target, written) = match domain {
            Some(domain) => {
                let uri = format!("sip:{called}@{}", domain.name);
                (parse::target(&uri, None, None)?, uri)
            }
            None => {
                let written = format!("client:{called}");
                (Target::Client { identity: called.clone(), parameters: Vec::new() }, written)
            }
        };
        match route::outbound(&target, sender.account, directory) {
            Ok(Reach::User(_)) => Some((Recipient::User(target), written)),
            _ => {
                let number = directory.number(sender.account, &called)?;
                Some((Recipient::Number(number.clone()), number.number.clone()))
            }
        }
    }

    /// The text of a call's document; `None`, with a notice, if it cannot be sent.
    pub(super) fn message_of_call(
        &mut self,
        call: CallSid,
        account: AccountSid,
        parties: (String, String),
        body: String,
        callback: Option<Endpoint>,
        now: Now,
    ) -> Option<MessageSid> {
        match self.send_as(account, parties, body, MessageDirection::OutboundCall, callback, now) {
            Ok(sid) => Some(sid),
            Err(notice) => {
                self.notice(call, notice);
                None
            }
        }
    }

    /// Sends a text that a document wants sent.
    ///
    /// # Errors
    /// What is wrong with who is to get it, or from whom.
    pub(super) fn send_as(
        &mut self,
        account: AccountSid,
        (from, to): (String, String),
        body: String,
        direction: MessageDirection,
        callback: Option<Endpoint>,
        now: Now,
    ) -> Result<MessageSid, Notice> {
        let directory = self.settings.directory.clone();
        let target = parse::target(&to, None, None).filter(|to| route::takes_messages(to, account, &directory));
        let Some(target) = target else {
            let text = format!("a text to {to} cannot be sent: only users of the account take some");
            return Err(Notice::warning(INVALID_TO, text));
        };
        if !route::may_send_as(&from, account, &directory) {
            let text = format!("a text from {from} cannot be sent: it is no number and no user of the account");
            return Err(Notice::warning(INVALID_FROM, text));
        }
        let sid = MessageSid::at(now.wall_ms, self.tokens.next_u128());
        let fact = MessageFact {
            sid,
            from,
            to,
            body,
            direction,
            status: MessageStatus::Queued,
            error_code: 0,
            created_ms: now.wall_ms,
            sent_ms: 0,
            callback,
        };
        self.tell_message(account, fact.clone(), now);
        self.send(account, &target, fact, now);
        Ok(sid)
    }

    fn send_to_devices(&mut self, account: AccountSid, user: &User, fact: MessageFact, now: Now) {
        let aor = Aor { username: user.username.clone(), domain: user.domain.clone() };
        let bindings = self.settings.bindings.of(&aor, now.wall_ms);
        if bindings.is_empty() {
            return self.end_message(account, fact, MessageStatus::Undelivered, UNREACHABLE, now);
        }
        let fits = |reliable: bool| reliable || fact.body.len() <= MAX_UDP_BODY_BYTES;
        let requests = bindings.iter().filter(|binding| fits(binding.next_hop().transport.is_reliable()));
        let requests: Vec<Request> = requests
            .map(|binding| Request {
                flow: binding.next_hop(),
                uri: binding.contact.clone(),
                from: from_header(&fact.from, &user.domain),
                to: format!("<sip:{}@{}>", user.username, user.domain),
                routes: binding.path.clone(),
                content_type: "text/plain;charset=UTF-8",
                body: fact.body.clone().into(),
            })
            .collect();
        if requests.is_empty() {
            return self.end_message(account, fact, MessageStatus::Undelivered, MessageFact::UNKNOWN_ERROR, now);
        }
        let open: Vec<u64> = requests.into_iter().map(|request| self.stack.message(request, now.mono)).collect();
        let fact = MessageFact { status: MessageStatus::Sent, sent_ms: now.wall_ms, ..fact };
        self.tell_message(account, fact.clone(), now);
        self.sending.requests.extend(open.iter().map(|request| (*request, fact.sid)));
        self.sending.messages.insert(fact.sid, Sent { account, fact, open: open.len() });
    }

    /// A device has answered, or did not. The first that takes it decides; else the last that does not.
    pub(super) fn message_answered(&mut self, request: u64, status: u16, now: Now) {
        let Some(sid) = self.sending.requests.remove(&request) else { return };
        let Some(sent) = self.sending.messages.get_mut(&sid) else { return };
        sent.open -= 1;
        if status >= 300 && sent.open > 0 {
            return;
        }
        let Some(Sent { account, fact, .. }) = self.sending.messages.remove(&sid) else { return };
        let (end, code) = match status {
            ..300 => (MessageStatus::Delivered, 0),
            408 | 480 | 503 => (MessageStatus::Undelivered, UNREACHABLE),
            _ => (MessageStatus::Undelivered, MessageFact::UNKNOWN_ERROR),
        };
        self.end_message(account, fact, end, code, now);
    }

    fn end_message(&mut self, account: AccountSid, fact: MessageFact, status: MessageStatus, code: u32, now: Now) {
        self.tell_message(account, MessageFact { status, error_code: code, ..fact }, now);
    }

    pub(super) fn tell_message(&mut self, account: AccountSid, fact: MessageFact, now: Now) {
        let id = EventSid::at(now.wall_ms, self.tokens.next_u128());
        let kind = EventKind::Message(Box::new(fact));
        // It is about no call.
        let call = CallSid::new(0);
        self.out.push_back(Output::Publish(Event { id, account, call, sequence: 0, at_ms: now.wall_ms, kind }));
    }
}
