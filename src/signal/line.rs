//! One browser: its frames on one side, SIP on the other, and the calls between them. A plain state machine.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use dialtone_sip::dialog::{Dialog, DialogId};
use dialtone_sip::flow::Flow;
use dialtone_sip::msg::{HeaderName, Message, Method};
use dialtone_sip::stack::{self, Event, Invitation, Received, Reply, Stack};
use dialtone_sip::time::Mono;
use dialtone_sip::tokens::Tokens;

use super::frames::{self, Said};
use crate::call::Now;
use crate::call::browser::{CALL, MAX_MESSAGE, MESSAGE, PARAMETERS, decode, encode};
use crate::ids::{AccountSid, CallSid, UserMessageSid};
use crate::tokens::reconnect::{self, Kept};

/// Who the browser is, and how it is spoken of in SIP.
#[derive(Clone)]
pub struct Setup {
    pub flow: Flow,
    pub account: AccountSid,
    pub identity: String,
    pub realm: String,
    /// Signs the tokens of its calls.
    pub key: reconnect::Key,
    pub seed: [u8; 32],
}

pub struct Line {
    setup: Setup,
    stack: Stack,
    tokens: Tokens,
    calls: Vec<Call>,
    /// Of its REGISTER requests.
    registrations: u32,
    /// It is registered, or will be.
    is_registered: bool,
    call_id: String,
    out: VecDeque<Output>,
}

/// What leaves a line, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    Frame(String),
    Sip(Bytes),
}

struct Call {
    sid: CallSid,
    /// What the SDK calls it before it knows the sid; empty of a call that came to it.
    name: String,
    dialog: DialogId,
    stage: Stage,
    /// How the browser has described itself last.
    sdp: Bytes,
    /// Of how the server has.
    ufrag: String,
    has_told_sdp: bool,
    /// Until then the browser may begin its media anew, for the server has it elsewhere and waits for an answer.
    restarts_by: Option<Mono>,
    /// So many messages of its page since then.
    has_said: u32,
    says_since: Mono,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The browser calls.
    Calling,
    /// It is called.
    Called,
    Up,
    /// It was taken up from a line that is no more, and the server is asked whether it has it.
    Asking,
    /// The browser has left; what is to be said of that in SIP is under way.
    Leaving,
}

impl Line {
    pub fn new(setup: Setup) -> Line {
        let mut tokens = Tokens::new(setup.seed);
        let product = format!("Dialtone/{}", env!("CARGO_PKG_VERSION"));
        let stack = Stack::new(stack::Config { product, slot: 0, seed: tokens.next_seed() });
        let call_id = format!("{:032x}", tokens.next_u128());
        Line {
            setup,
            stack,
            tokens,
            calls: Vec::new(),
            registrations: 0,
            is_registered: false,
            call_id,
            out: VecDeque::new(),
        }
    }

    pub fn poll_output(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    pub fn next_deadline(&mut self) -> Option<Mono> {
        let restarts = self.calls.iter().filter_map(|call| call.restarts_by);
        restarts.chain(self.stack.next_deadline()).min()
    }

    pub fn handle_timeout(&mut self, now: Now) {
        self.stack.handle_timeout(now.mono);
        for call in &mut self.calls {
            if call.restarts_by.take_if(|by| *by <= now.mono).is_some() {
                self.stack.decline(call.dialog, &Reply::new(488), now.mono);
            }
        }
        self.work(now);
    }

    /// Whether it has calls that are not over.
    pub fn has_calls(&self) -> bool {
        self.calls.iter().any(|call| call.stage != Stage::Leaving)
    }

    /// Whether nothing is left to be said or heard in SIP.
    pub fn is_idle(&self) -> bool {
        self.calls.is_empty() && self.stack.is_idle()
    }

    /// Of its calls.
    pub fn dialogs(&self) -> impl Iterator<Item = DialogId> {
        self.calls.iter().map(|call| call.dialog)
    }

    /// Can be called for so long from now on; 0: no more. The answer is a frame.
    pub fn register(&mut self, expires_s: u64) {
        self.registrations += 1;
        self.is_registered = expires_s > 0;
        let (user, host, realm) = (escaped(&self.setup.identity), &self.call_id, &self.setup.realm);
        let branch = self.tokens.next_u64();
        let text = format!(
            "REGISTER sip:{realm} SIP/2.0\r\nVia: SIP/2.0/WS {host}.invalid;branch=z9hG4bK{branch:016x}\r\nMax-Forwards: 70\r\n\
             From: <sip:{user}@{realm}>;tag={host}\r\nTo: <sip:{user}@{realm}>\r\nCall-ID: {host}\r\nCSeq: {} REGISTER\r\n\
             Contact: <sip:{user}@{host}.invalid;transport=ws>;expires={expires_s}\r\nContent-Length: 0\r\n\r\n",
            self.registrations
        );
        self.out.push_back(Output::Sip(text.into()));
    }

    /// Cannot be called any more, and nobody is told.
    pub fn leave(&mut self) {
        if self.is_registered {
            self.register(0);
            // What it is answered is not the last any more.
            self.registrations += 1;
        }
    }

    /// Takes a frame about a call. Those about the connection are its owner's.
    pub fn handle_said(&mut self, said: Said, now: Now) {
        match said {
            Said::Invite { call, sdp, parameters } => self.invite(call, sdp, &parameters, now),
            Said::Answer { call, sdp } => {
                if let Some(call) = self.find(&call).filter(|call| call.stage == Stage::Called) {
                    (call.stage, call.sdp) = (Stage::Up, sdp.into());
                    let (dialog, sdp) = (call.dialog, call.sdp.clone());
                    self.stack.answer(dialog, sdp, now.mono);
                    self.tell_answer(dialog, None, now);
                }
            }
            Said::Reinvite { call, sdp } => {
                if let Some(call) = self.find(&call).filter(|call| call.stage == Stage::Up) {
                    call.sdp = sdp.into();
                    let (dialog, sdp) = (call.dialog, call.sdp.clone());
                    // This is how the SDK follows its media: the server's own offer is answered by it.
                    if call.restarts_by.take().is_some() {
                        self.stack.decline(dialog, &Reply::new(491), now.mono);
                    }
                    self.stack.reinvite(dialog, sdp, now.mono);
                }
            }
            Said::Hangup { call } | Said::Reject { call } => self.end(&call, now),
            Said::Digits { call, digits } => {
                if let Some(call) = self.find(&call).filter(|call| call.stage == Stage::Up) {
                    let dialog = call.dialog;
                    for digit in digits.chars().filter(|digit| digit.is_ascii_digit() || "*#ABCD".contains(*digit)) {
                        self.stack.info_digit(dialog, digit, now.mono);
                    }
                }
            }
            Said::Message { call, id, kind, content } => {
                let told = match self.say(&call, &id, &kind, &content, now) {
                    Ok(()) => frames::message_ack(&call, &id),
                    Err((code, why)) => frames::message_error(code, why, &call, &id),
                };
                self.out.push_back(Output::Frame(told));
            }
            Said::Listen { .. } | Said::Register { .. } | Said::Reattach { .. } => {}
        }
        self.work(now);
    }

    /// Something that the page has for the application.
    fn say(&mut self, call: &str, id: &str, kind: &str, content: &str, now: Now) -> Result<(), (u32, &'static str)> {
        if kind != frames::MESSAGE_KIND || id.parse::<UserMessageSid>().is_err() {
            return Err((UNKNOWN_MESSAGE, "the only type of message is user-defined-message"));
        }
        if content.len() > MAX_MESSAGE {
            return Err((MESSAGE_TOO_LONG, "a message has at most 8192 bytes"));
        }
        let Some(call) = self.find(call).filter(|call| call.stage == Stage::Up) else {
            return Err((GENERAL, "the call is not in progress"));
        };
        if now.mono.since(call.says_since) >= SECOND {
            (call.says_since, call.has_said) = (now.mono, 0);
        }
        call.has_said += 1;
        if call.has_said > MESSAGES_A_SECOND {
            return Err((TOO_OFTEN, "too many messages in a second"));
        }
        let (dialog, body) = (call.dialog, ("application/json", content.as_bytes()));
        self.stack.message_inside(dialog, &[(MESSAGE, id)], body, now.mono);
        Ok(())
    }

    /// A call goes on by another connection, which has shown its token: the frame that says so, if there is that call.
    pub fn reattach(&mut self, call: CallSid, now: Now) -> Option<String> {
        let call = self.calls.iter().find(|own| own.sid == call && own.stage == Stage::Up)?;
        Some(frames::answer(&call.sid.to_string(), None, &self.token(call, now)))
    }

    /// Takes up a call of a line that is no more, of which the browser has kept this.
    pub fn take_up(&mut self, kept: Kept, sdp: String) {
        let Kept { call: sid, number: dialog, dialog: state, ufrag, .. } = kept;
        if self.calls.len() < MAX_CALLS && self.calls.iter().all(|call| call.sid != sid) {
            self.stack.restore(dialog, Dialog { flow: self.setup.flow, ..state }, None);
            let (name, sdp, stage) = (String::new(), sdp.into(), Stage::Asking);
            self.calls.push(Call { has_told_sdp: true, ufrag, ..Call::new(sid, name, dialog, stage, sdp) });
        }
    }

    /// This edge has a call that was taken up; or it has not: then another may, which a new offer finds by its dialog.
    pub fn taken_up(&mut self, call: CallSid, is_here: bool, now: Now) {
        let Some(call) = self.calls.iter_mut().find(|own| own.sid == call && own.stage == Stage::Asking) else {
            return;
        };
        let (dialog, sdp) = (call.dialog, call.sdp.clone());
        if is_here {
            call.stage = Stage::Up;
            // An edge may have been asked that was lost: this one is asked the same.
            self.stack.follow(dialog, self.setup.flow);
            self.tell_answer(dialog, None, now);
        } else {
            self.stack.reinvite(dialog, sdp, now.mono);
        }
        self.work(now);
    }

    /// Nobody comes back for its calls.
    pub fn hang_up(&mut self, now: Now) {
        let all: Vec<String> = self.calls.iter().map(|call| call.sid.to_string()).collect();
        all.iter().for_each(|call| self.end(call, now));
        self.work(now);
    }

    /// Takes a SIP message.
    pub fn handle_message(&mut self, message: Message, now: Now) {
        if !message.is_request() && message.cseq().is_some_and(|(_, method)| method == Method::Register.as_str()) {
            return self.registered(&message);
        }
        if let Received::Fresh(request) = self.stack.receive(self.setup.flow, message, now.mono) {
            match request.method() {
                Some(Method::Invite) => self.called(request, now),
                _ => self.stack.refuse(&request, self.setup.flow, &Reply::new(405)),
            }
        }
        self.work(now);
    }

    fn registered(&mut self, response: &Message) {
        let is_last = response.cseq().is_some_and(|(number, _)| number == self.registrations);
        let is_there = response.headers(HeaderName::Contact).any(|contact| contact.contains(&self.call_id));
        match response.status() {
            200 if is_last && is_there => self.out.push_back(Output::Frame(frames::ready())),
            200 if is_last => self.out.push_back(Output::Frame(frames::offline())),
            300.. if is_last => {
                let why = response.reason_phrase().to_owned();
                self.out.push_back(Output::Frame(frames::error(NOT_REGISTERED, &why, "")));
            }
            _ => {}
        }
    }

    fn invite(&mut self, name: String, sdp: String, parameters: &[(String, String)], now: Now) {
        if self.calls.len() >= MAX_CALLS || self.find(&name).is_some() {
            return self
                .out
                .push_back(Output::Frame(frames::hangup(&name, Some((BUSY, "too many calls of one browser")))));
        }
        let sid = CallSid::at(now.wall_ms, self.tokens.next_u128());
        let (user, realm) = (escaped(&self.setup.identity), &self.setup.realm);
        let form = encode(parameters.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        let sdp = Bytes::from(sdp);
        let invitation = Invitation {
            flow: self.setup.flow,
            request_uri: format!("sip:call@{realm}"),
            from: format!("<sip:{user}@{realm}>"),
            to: format!("<sip:call@{realm}>"),
            contact: self.contact(),
            alternatives: Vec::new(),
            routes: Vec::new(),
            headers: vec![(CALL.to_owned(), sid.to_string()), (PARAMETERS.to_owned(), form)],
            sdp: sdp.clone(),
            credentials: None,
        };
        let dialog = self.stack.invite(invitation, now.mono);
        let stage = Stage::Calling;
        self.calls.push(Call::new(sid, name, dialog, stage, sdp));
    }

    /// Somebody calls the browser.
    fn called(&mut self, invite: Message, now: Now) {
        let sid = invite.other_header(CALL).and_then(|sid| sid.parse::<CallSid>().ok());
        let Some(sid) = sid.filter(|_| self.calls.len() < MAX_CALLS) else {
            return self.stack.refuse(&invite, self.setup.flow, &Reply::new(486));
        };
        let parameters = decode(invite.other_header(PARAMETERS).unwrap_or_default());
        let sdp = invite.body();
        let dialog = self.stack.accept_invite(self.setup.flow, invite, self.contact());
        self.stack.progress(dialog, 180, Bytes::new(), now.mono);
        let mut told = parameters;
        told.push(("CallSid".to_owned(), sid.to_string()));
        let (name, own, stage) = (String::new(), Bytes::new(), Stage::Called);
        let ufrag = ufrag_of(&sdp);
        let call = Call { has_told_sdp: true, ufrag, ..Call::new(sid, name, dialog, stage, own) };
        let (sdp, token) = (String::from_utf8_lossy(&sdp), self.token(&call, now));
        self.out.push_back(Output::Frame(frames::invite(&sid.to_string(), &sdp, &told, &token)));
        self.calls.push(call);
    }

    /// The browser wants a call to end, in whatever state it is.
    fn end(&mut self, name: &str, now: Now) {
        let Some(call) = self.find(name) else { return };
        let (dialog, stage) = (call.dialog, std::mem::replace(&mut call.stage, Stage::Leaving));
        match stage {
            // What comes of it is told by the stack.
            Stage::Calling => self.stack.cancel(dialog, "", now.mono),
            Stage::Called => self.stack.decline(dialog, &Reply::new(603), now.mono),
            Stage::Up | Stage::Asking => self.stack.bye(dialog, "", now.mono),
            Stage::Leaving => {}
        }
        if matches!(stage, Stage::Called | Stage::Up | Stage::Asking) {
            self.forget(dialog);
        }
    }

    fn work(&mut self, now: Now) {
        while let Some(output) = self.stack.poll_output() {
            match output {
                stack::Output::Transmit(transmit) => self.out.push_back(Output::Sip(transmit.bytes)),
                stack::Output::Event(event) => self.take(event, now),
            }
        }
    }

    fn take(&mut self, event: Event, now: Now) {
        match event {
            Event::Progress { dialog, response } => {
                let Some(call) = self.of(dialog).filter(|call| call.stage == Stage::Calling) else { return };
                let sdp = call.hear(&response);
                let told = frames::ringing(&call.sid.to_string(), sdp.as_deref());
                self.out.push_back(Output::Frame(told));
            }
            Event::Answered { dialog, response } => match self.of(dialog) {
                Some(call) if call.stage == Stage::Calling => {
                    call.stage = Stage::Up;
                    let sdp = call.hear(&response);
                    self.tell_answer(dialog, sdp.as_deref(), now);
                }
                // The answer was faster than what the browser wanted.
                _ => {
                    self.stack.bye(dialog, "", now.mono);
                    self.forget(dialog);
                }
            },
            Event::Refused { dialog, status, .. } => {
                if let Some(call) = self.forget(dialog).filter(|call| call.stage == Stage::Calling) {
                    self.out.push_back(Output::Frame(frames::hangup(call.told_name(), error_of(status))));
                }
            }
            Event::Canceled { dialog, .. } => {
                if let Some(call) = self.forget(dialog) {
                    self.out.push_back(Output::Frame(frames::cancel(&call.sid.to_string())));
                }
            }
            Event::Ended { dialog, .. } => {
                if let Some(call) = self.forget(dialog).filter(|call| call.stage != Stage::Leaving) {
                    let why = (call.stage == Stage::Asking).then_some((NOT_REATTACHED, "the call is over"));
                    self.out.push_back(Output::Frame(frames::hangup(&call.sid.to_string(), why)));
                }
            }
            Event::Reoffered { dialog, invite } => self.reoffered(dialog, &invite, now),
            Event::Reanswered { dialog, status: 200..=299, response: Some(response) } => {
                let Some(call) = self.of(dialog) else { return };
                if call.stage == Stage::Asking {
                    call.stage = Stage::Up;
                }
                let sdp = call.take(&response);
                self.tell_answer(dialog, Some(&sdp), now);
            }
            Event::Reanswered { dialog, status, .. } => {
                let Some(call) = self.of(dialog) else { return };
                let (code, text) = error_of(status).unwrap_or((GENERAL, "refused"));
                let told = frames::error(code, text, &call.sid.to_string());
                self.out.push_back(Output::Frame(told));
            }
            Event::InDialog { dialog, transaction, request } => {
                let status = match request.method() {
                    Some(Method::Options) => 200,
                    Some(Method::Message) => self.hear_message(dialog, &request),
                    _ => 405,
                };
                self.stack.reply(transaction, &request, &Reply::new(status), now.mono);
            }
            Event::Resubscribed { transaction, request, .. } => {
                self.stack.reply(transaction, &request, &Reply::new(489), now.mono);
            }
            Event::Acked { .. }
            | Event::AckMissing { .. }
            | Event::Diverted { .. }
            | Event::ReofferCanceled { .. }
            | Event::Responded { .. }
            | Event::ReferAnswered { .. } => {}
        }
    }

    /// The application has something for the page; the status of that.
    fn hear_message(&mut self, dialog: DialogId, request: &Message) -> u16 {
        let (Some(call), Some(id)) = (self.of(dialog), request.other_header(MESSAGE)) else { return 403 };
        let told = frames::message(&call.sid.to_string(), id, &String::from_utf8_lossy(&request.body()));
        self.out.push_back(Output::Frame(told));
        200
    }

    /// The server asks whether the browser is there: it is, as it was. Where its media goes elsewhere, the SDK has no frame to be
    /// told so: when it hears nothing any more it begins anew by itself, and until then the server waits.
    fn reoffered(&mut self, dialog: DialogId, invite: &Message, now: Now) {
        let Some(call) = self.of(dialog) else { return };
        let offered = invite.body();
        let is_as_before = offered.is_empty() || ufrag_of(&offered) == call.ufrag;
        match is_as_before {
            true => {
                let sdp = call.sdp.clone();
                self.stack.answer(dialog, sdp, now.mono);
            }
            false => call.restarts_by = Some(now.mono + RESTARTS_WITHIN),
        }
    }

    fn tell_answer(&mut self, dialog: DialogId, sdp: Option<&str>, now: Now) {
        if let Some(call) = self.calls.iter().find(|call| call.dialog == dialog) {
            let told = frames::answer(&call.sid.to_string(), sdp, &self.token(call, now));
            self.out.push_back(Output::Frame(told));
        }
    }

    /// By this the call is found again by another connection.
    fn token(&self, call: &Call, now: Now) -> String {
        let Setup { account, identity, key, .. } = &self.setup;
        let Some(dialog) = self.stack.dialog(call.dialog).cloned() else { return String::new() };
        let (account, identity, ufrag) = (*account, identity.clone(), call.ufrag.clone());
        let kept = Kept { account, identity, call: call.sid, number: call.dialog, dialog, ufrag };
        reconnect::seal(&kept, key, now.wall_ms / 1000)
    }

    fn contact(&self) -> String {
        format!("<sip:{}@{}.invalid;transport=ws>", escaped(&self.setup.identity), self.call_id)
    }

    /// By its sid, or what the SDK calls it.
    fn find(&mut self, name: &str) -> Option<&mut Call> {
        let sid = name.parse::<CallSid>().ok();
        self.calls.iter_mut().find(|call| Some(call.sid) == sid || (!call.name.is_empty() && call.name == name))
    }

    fn of(&mut self, dialog: DialogId) -> Option<&mut Call> {
        self.calls.iter_mut().find(|call| call.dialog == dialog)
    }

    fn forget(&mut self, dialog: DialogId) -> Option<Call> {
        let at = self.calls.iter().position(|call| call.dialog == dialog)?;
        Some(self.calls.swap_remove(at))
    }
}

impl Call {
    fn new(sid: CallSid, name: String, dialog: DialogId, stage: Stage, sdp: Bytes) -> Call {
        let (ufrag, says_since) = (String::new(), Mono(0));
        Call { sid, name, dialog, stage, sdp, ufrag, has_told_sdp: false, restarts_by: None, has_said: 0, says_since }
    }

    /// Takes the SDP of a response to its INVITE; what the browser is to be told of it.
    fn hear(&mut self, response: &Message) -> Option<String> {
        if response.body().is_empty() || std::mem::replace(&mut self.has_told_sdp, true) {
            return None;
        }
        Some(self.take(response))
    }

    /// Takes the SDP of a response.
    fn take(&mut self, response: &Message) -> String {
        let sdp = response.body();
        self.ufrag = ufrag_of(&sdp);
        String::from_utf8_lossy(&sdp).into_owned()
    }

    /// What the SDK knows it by as long as it was told of no ringing.
    fn told_name(&self) -> &str {
        &self.name
    }
}

/// The SDK's number for a final status (its list has those of SIP that it knows).
fn error_of(status: u16) -> Option<(u32, &'static str)> {
    Some(match status {
        // The browser itself took it back.
        487 => return None,
        400 | 415 | 420 | 488 => (31_400, "Bad Request"),
        404 | 484 => (31_404, "Not Found"),
        408 | 480 => (31_480, "Temporarily Unavailable"),
        486 | 600 => (BUSY, "Busy Here"),
        603 => (31_603, "Decline"),
        _ => (GENERAL, "The call could not be made"),
    })
}

/// By what a description is told from another; empty where it is of no browser.
fn ufrag_of(sdp: &[u8]) -> String {
    let mut lines = sdp.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    let ufrag = lines.find_map(|line| line.strip_prefix(b"a=ice-ufrag:"));
    String::from_utf8_lossy(ufrag.unwrap_or_default()).into_owned()
}

/// An identity as the user part of a URI (RFC 3261 s25.1).
fn escaped(identity: &str) -> String {
    identity.bytes().fold(String::with_capacity(identity.len()), |mut text, byte| {
        match byte.is_ascii_alphanumeric() || b"-_.!~*'()".contains(&byte) {
            true => text.push(char::from(byte)),
            false => text.push_str(&format!("%{byte:02X}")),
        }
        text
    })
}

/// Chromium has given its media up after 6 s, and the SDK tries then.
const RESTARTS_WITHIN: Duration = Duration::from_secs(25);

const GENERAL: u32 = 31_000;
const BUSY: u32 = 31_486;
const NOT_REGISTERED: u32 = 31_201;
pub const NOT_REATTACHED: u32 = 31_209;
const UNKNOWN_MESSAGE: u32 = 31_210;
const MESSAGE_TOO_LONG: u32 = 31_212;
const TOO_OFTEN: u32 = 31_206;
const SECOND: Duration = Duration::from_secs(1);
const MESSAGES_A_SECOND: u32 = 20;
/// A page has one, and one that waits.
const MAX_CALLS: usize = 16;
