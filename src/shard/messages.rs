//! Text messages to the account's own users: one SIP MESSAGE to each device, and what becomes of them (RFC 3428).

use dialtone_sip::stack::Request;

use super::core::{Core, Output};
use super::outbound::from_header;
use crate::account::{Aor, User};
use crate::call::Now;
use crate::call::route::{self, Reach};
use crate::events::{Event, EventKind, MessageFact, MessageStatus};
use crate::ids::{AccountSid, CallSid, EventSid};
use crate::twiml::Target;

/// Twilio's numbers for a message that is not delivered.
const UNREACHABLE: u32 = 30_003;
const UNKNOWN_DESTINATION: u32 = 30_005;
const UNKNOWN_ERROR: u32 = 30_008;

/// A message over UDP is to fit into a datagram that nobody cuts (RFC 3428 s8).
const MAX_UDP_BODY_BYTES: usize = 1_000;

/// A message that devices have not answered yet.
pub(super) struct Sending {
    account: AccountSid,
    fact: MessageFact,
    /// Its requests that are open.
    open: Vec<u64>,
}

impl Core {
    /// Sends a message that was queued; its steps are told as facts.
    pub fn send_message(&mut self, account: AccountSid, target: &Target, fact: MessageFact, now: Now) {
        match route::outbound(target, account, &self.settings.directory) {
            Ok(Reach::User(user)) => self.send_to_devices(account, &user, fact, now),
            _ => self.end_message(account, fact, MessageStatus::Failed, UNKNOWN_DESTINATION, now),
        }
        self.work(now);
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
            return self.end_message(account, fact, MessageStatus::Undelivered, UNKNOWN_ERROR, now);
        }
        let open = requests.into_iter().map(|request| self.stack.message(request, now.mono)).collect();
        let fact = MessageFact { status: MessageStatus::Sent, sent_ms: now.wall_ms, ..fact };
        self.tell_message(account, fact.clone(), now);
        self.messages.push(Sending { account, fact, open });
    }

    /// A device has answered, or did not. The first that takes it decides; else the last that does not.
    pub(super) fn message_answered(&mut self, request: u64, status: u16, now: Now) {
        let Some(at) = self.messages.iter().position(|sending| sending.open.contains(&request)) else { return };
        self.messages[at].open.retain(|open| *open != request);
        if status < 300 {
            let Sending { account, fact, .. } = self.messages.swap_remove(at);
            self.end_message(account, fact, MessageStatus::Delivered, 0, now);
        } else if self.messages[at].open.is_empty() {
            let Sending { account, fact, .. } = self.messages.swap_remove(at);
            let code = if matches!(status, 408 | 480 | 503) { UNREACHABLE } else { UNKNOWN_ERROR };
            self.end_message(account, fact, MessageStatus::Undelivered, code, now);
        }
    }

    fn end_message(&mut self, account: AccountSid, fact: MessageFact, status: MessageStatus, code: u32, now: Now) {
        self.tell_message(account, MessageFact { status, error_code: code, ..fact }, now);
    }

    fn tell_message(&mut self, account: AccountSid, fact: MessageFact, now: Now) {
        let id = EventSid::at(now.wall_ms, self.tokens.next_u128());
        let kind = EventKind::Message(Box::new(fact));
        // It is about no call.
        let call = CallSid::new(0);
        self.out.push_back(Output::Publish(Event { id, account, call, sequence: 0, at_ms: now.wall_ms, kind }));
    }
}
