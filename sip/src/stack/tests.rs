//! The stack against raw messages, in virtual time. Every test ends with `World::finish`: nothing is left.

mod addresses;
mod client;
mod failover;
mod in_dialog;
mod server;

use std::fmt::Write as _;

use bytes::Bytes;

use super::{Config, Event, Hop, Invitation, Output, Received, Reply, Stack, Transmit};
use crate::dialog::DialogId;
use crate::digest::Credentials;
use crate::flow::{ConnectionId, Flow, Transport};
use crate::msg::{HeaderName, Message};
use crate::time::Mono;

const OFFER: &[u8] = b"v=0\r\no=offer\r\n";
const ANSWER: &[u8] = b"v=0\r\no=answer\r\n";
const CALL_ID: &str = "call-1@peer";

fn udp() -> Flow {
    Flow {
        transport: Transport::Udp,
        local: "198.51.100.1:5060".parse().unwrap(),
        remote: "203.0.113.9:5060".parse().unwrap(),
        connection: None,
    }
}

fn tcp() -> Flow {
    Flow { transport: Transport::Tcp, connection: Some(ConnectionId(7)), ..udp() }
}

/// A stack, its clock, and everything that came out of it.
struct World {
    stack: Stack,
    now: u64,
    flow: Flow,
    /// When, and what; in milliseconds.
    sent: Vec<(u64, Transmit)>,
    events: Vec<Event>,
}

impl World {
    fn new(flow: Flow) -> World {
        let config = Config { product: "test".into(), slot: 5, seed: [9; 32] };
        World { stack: Stack::new(config), now: 0, flow, sent: Vec::new(), events: Vec::new() }
    }

    fn mono(&self) -> Mono {
        Mono(self.now * 1000)
    }

    /// Takes a message of the peer; what came back if it is fresh.
    fn receive(&mut self, text: impl Into<String>) -> Option<Message> {
        self.receive_by(self.flow, text)
    }

    fn receive_by(&mut self, flow: Flow, text: impl Into<String>) -> Option<Message> {
        let message = Message::parse(Bytes::from(text.into())).expect("a test's message can be indexed");
        let received = self.stack.receive(flow, message, self.mono());
        self.drain();
        match received {
            Received::Fresh(message) => Some(message),
            Received::Handled | Received::Dropped(_) => None,
        }
    }

    fn command<T>(&mut self, command: impl FnOnce(&mut Stack, Mono) -> T) -> T {
        let now = self.mono();
        let result = command(&mut self.stack, now);
        self.drain();
        result
    }

    fn drain(&mut self) {
        while let Some(output) = self.stack.poll_output() {
            match output {
                Output::Transmit(transmit) => self.sent.push((self.now, transmit)),
                Output::Event(event) => self.events.push(event),
            }
        }
    }

    /// Lets time pass until `at`, timer by timer.
    fn run_until(&mut self, at: u64) {
        let mut timers = 0;
        while let Some(deadline) = self.stack.next_deadline().filter(|deadline| deadline.0 <= at * 1000) {
            timers += 1;
            assert!(timers < 10_000, "timers without end at {}", self.now);
            self.now = self.now.max(deadline.0.div_ceil(1000));
            let now = self.mono();
            self.stack.handle_timeout(now);
            self.drain();
        }
        self.now = self.now.max(at);
    }

    /// What was sent since the last call, parsed, with the time.
    fn take_sent(&mut self) -> Vec<(u64, Message)> {
        self.sent.drain(..).map(|(at, transmit)| (at, Message::parse(transmit.bytes).unwrap())).collect()
    }

    /// The only message that was sent since the last call.
    fn take_one(&mut self) -> Message {
        let mut sent = self.take_sent();
        assert_eq!(sent.len(), 1, "{sent:?}");
        sent.remove(0).1
    }

    /// Methods and statuses of what was sent since the last call: `ACK`, `487 INVITE`.
    fn take_lines(&mut self) -> Vec<String> {
        self.take_sent().iter().map(|(_, message)| line(message)).collect()
    }

    fn take_event(&mut self) -> Event {
        assert_eq!(self.events.len(), 1, "{:?}", self.events);
        self.events.remove(0)
    }

    /// When a message of this line was sent, since the last call that took it.
    fn take_times(&mut self, wanted: &str) -> Vec<u64> {
        self.take_sent().iter().filter(|(_, message)| line(message) == wanted).map(|(at, _)| *at).collect()
    }

    /// Lets every timer run out: nothing may be left.
    fn finish(mut self) {
        self.run_until(self.now + 200_000);
        assert!(self.stack.is_idle(), "dialogs: {}, open: {:?}", self.stack.open_dialogs(), {
            self.stack.open_transactions().collect::<Vec<_>>()
        });
        assert!(self.stack.merging.is_empty(), "a merge key is left");
        assert_eq!((self.stack.next_deadline(), self.stack.table.queued()), (None, 0));
    }

    /// An INVITE of the peer that rings.
    fn ringing(&mut self) -> DialogId {
        let invite = self.receive(Ask::invite().text()).expect("a first INVITE is fresh");
        let flow = self.flow;
        let dialog = self.command(|stack, _| stack.accept_invite(flow, invite, "<sip:us@198.51.100.1>".into()));
        self.command(|stack, now| stack.progress(dialog, 180, Bytes::new(), now));
        dialog
    }

    /// A call of the peer that we answered and it acknowledged; our tag.
    fn incoming(&mut self) -> (DialogId, String) {
        let dialog = self.ringing();
        self.command(|stack, now| stack.answer(dialog, Bytes::from_static(ANSWER), now));
        let tag = self.take_sent().pop().unwrap().1.to_tag().unwrap().to_owned();
        self.receive(Ask { method: "ACK", to_tag: &tag, branch: "ack", ..Ask::invite() }.text());
        assert!(matches!(self.take_event(), Event::Acked { .. }));
        (dialog, tag)
    }

    /// Our INVITE, and its dialog.
    fn inviting(&mut self, credentials: Option<Credentials>) -> (DialogId, Message) {
        self.inviting_by(credentials, Vec::new())
    }

    /// Our INVITE with other servers to go to.
    fn inviting_by(&mut self, credentials: Option<Credentials>, alternatives: Vec<Hop>) -> (DialogId, Message) {
        let invitation = Invitation {
            flow: self.flow,
            request_uri: "sip:bob@203.0.113.9".into(),
            from: "\"Us\" <sip:us@198.51.100.1>".into(),
            to: "<sip:bob@203.0.113.9>".into(),
            contact: "<sip:us@198.51.100.1:5060>".into(),
            alternatives,
            routes: Vec::new(),
            headers: vec![("X-Ours".into(), "1".into())],
            sdp: Bytes::from_static(OFFER),
            credentials,
        };
        let dialog = self.command(|stack, now| stack.invite(invitation, now));
        (dialog, self.take_one())
    }

    /// A call of ours that the peer answered with the tag `bt`; the INVITE.
    fn outgoing(&mut self, credentials: Option<Credentials>) -> (DialogId, Message) {
        let (dialog, invite) = self.inviting(credentials);
        self.receive(answer(&invite, 200, "bt"));
        assert_eq!(self.take_lines(), ["ACK"]);
        assert!(matches!(self.take_event(), Event::Answered { .. }));
        (dialog, invite)
    }
}

fn line(message: &Message) -> String {
    match message.method() {
        Some(_) => message.method_text().to_owned(),
        None => format!("{} {}", message.status(), message.cseq().unwrap().1),
    }
}

fn credentials() -> Credentials {
    Credentials { username: "trunk".into(), password: "secret".into(), realm: None }
}

fn credentials_for(realm: &str) -> Credentials {
    Credentials { realm: Some(realm.into()), ..credentials() }
}

/// A request of the peer.
#[derive(Clone, Copy)]
struct Ask<'a> {
    method: &'a str,
    uri: &'a str,
    branch: &'a str,
    from: &'a str,
    from_tag: &'a str,
    to_tag: &'a str,
    call_id: &'a str,
    cseq: u32,
    /// More header lines, each with its CRLF.
    more: &'a str,
    body: &'a [u8],
}

impl<'a> Ask<'a> {
    fn invite() -> Ask<'static> {
        Ask {
            method: "INVITE",
            uri: "sip:us@198.51.100.1",
            branch: "z9hG4bKinvite",
            from: "\"Peer\" <sip:peer@203.0.113.9>",
            from_tag: "pt",
            to_tag: "",
            call_id: CALL_ID,
            cseq: 10,
            more: "Contact: <sip:peer@203.0.113.9>\r\n",
            body: OFFER,
        }
    }

    /// A request inside the dialog that was opened by `invite`.
    fn inside(method: &'a str, to_tag: &'a str, cseq: u32) -> Ask<'a> {
        Ask { method, to_tag, cseq, branch: method, more: "", body: b"", ..Ask::invite() }
    }

    fn text(&self) -> String {
        let branch =
            if self.branch.starts_with("z9hG4bK") { self.branch.to_owned() } else { format!("z9hG4bK{}", self.branch) };
        self.text_by(&format!("SIP/2.0/UDP 203.0.113.9:5060;branch={branch}{}", self.cseq))
    }

    /// With this Via.
    fn text_by(&self, via: &str) -> String {
        let Ask { method, uri, from, from_tag, to_tag, call_id, cseq, more, body, .. } = self;
        let mut text = format!("{method} {uri} SIP/2.0\r\nVia: {via}\r\nMax-Forwards: 70\r\n");
        let tag = |tag: &str| if tag.is_empty() { String::new() } else { format!(";tag={tag}") };
        let _ = write!(text, "From: {from}{}\r\nTo: <sip:us@198.51.100.1>{}\r\n", tag(from_tag), tag(to_tag));
        let _ = write!(text, "Call-ID: {call_id}\r\nCSeq: {cseq} {method}\r\n{more}");
        if !body.is_empty() {
            text.push_str("Content-Type: application/sdp\r\n");
        }
        let _ = write!(text, "Content-Length: {}\r\n\r\n{}", body.len(), str::from_utf8(body).unwrap());
        text
    }
}

/// The peer's response to a request of ours, with a Contact and an answer if it is a 2xx.
fn answer(request: &Message, status: u16, tag: &str) -> String {
    let more = if (200..300).contains(&status) { "Contact: <sip:bob@203.0.113.9:5062>\r\n" } else { "" };
    answer_with(request, status, tag, more)
}

fn answer_with(request: &Message, status: u16, tag: &str, more: &str) -> String {
    let mut text = format!("SIP/2.0 {status} Whatever\r\n");
    for name in [HeaderName::Via, HeaderName::From, HeaderName::CallId, HeaderName::CSeq] {
        let _ = write!(text, "{}: {}\r\n", name.as_str(), request.header(name).unwrap());
    }
    let to = request.header(HeaderName::To).unwrap();
    let tag = if tag.is_empty() || request.to_tag().is_some() { String::new() } else { format!(";tag={tag}") };
    let _ = write!(text, "To: {to}{tag}\r\n{more}Content-Length: 0\r\n\r\n");
    text
}

/// A header of a message, for a comparison.
fn header(message: &Message, name: HeaderName) -> &str {
    message.header(name).unwrap_or("")
}
