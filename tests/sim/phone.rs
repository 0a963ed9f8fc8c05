//! A phone: a peer with a SIP stack of its own, that does what its script says.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use dialtone_sip::dialog::DialogId;
use dialtone_sip::flow::{Flow, Transport};
use dialtone_sip::msg::{HeaderName, Message, Method};
use dialtone_sip::stack::{self, Event, Invitation, Received, Reply, Stack};
use dialtone_sip::time::Mono;

pub const SERVER: &str = "192.0.2.1:5060";

/// What a phone does when it is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Script {
    /// Rings, and answers after so long.
    Answer(Duration),
    /// Answers at once, without ringing.
    AnswerAtOnce,
    /// 183 with SDP, then 200.
    EarlyMedia(Duration),
    Refuse(u16),
    /// 401 with a challenge of each realm, to offers in its calls too; whoever brings credentials is answered at once.
    Challenge(&'static [&'static str]),
    /// Rings and rings.
    Ring,
    /// Does not even say 100.
    Dead,
}

/// What a phone saw happen, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Saw {
    Invited {
        from: String,
        to: String,
    },
    Canceled {
        reason: String,
    },
    Progress(u16),
    Answered,
    Refused(u16),
    Acked,
    Message {
        from: String,
        body: String,
    },
    /// It was asked to call somebody else.
    Referred {
        to: String,
    },
    /// What became of its own REFER: the status line.
    Notified {
        line: String,
    },
    /// The final answer to its re-INVITE.
    Reanswered(u16),
    Ended {
        reason: String,
    },
}

pub struct Phone {
    pub address: SocketAddr,
    pub stack: Stack,
    pub script: Script,
    pub saw: Vec<(Mono, Saw)>,
    pub sdp: Bytes,
    /// What it answers a MESSAGE with; `None`: nothing.
    pub message_status: Option<u16>,
    /// What it answers a REFER with.
    pub refer_status: u16,
    /// What it refuses a re-INVITE with; `None`: it takes it.
    pub reoffer_status: Option<u16>,
    /// Dialogs that live.
    pub dialogs: Vec<DialogId>,
    planned: VecDeque<(Mono, DialogId)>,
}

impl Phone {
    pub fn new(address: &str, seed: u8, script: Script) -> Phone {
        let address: SocketAddr = address.parse().unwrap();
        let config = stack::Config { product: "phone".into(), slot: 1, seed: [seed; 32] };
        let sdp = sdp(address, "0 101");
        Phone {
            address,
            stack: Stack::new(config),
            script,
            saw: Vec::new(),
            sdp,
            message_status: Some(200),
            refer_status: 202,
            reoffer_status: None,
            dialogs: Vec::new(),
            planned: VecDeque::new(),
        }
    }

    pub fn contact(&self) -> String {
        format!("sip:phone@{}", self.address)
    }

    pub fn flow(&self) -> Flow {
        Flow { transport: Transport::Udp, local: self.address, remote: SERVER.parse().unwrap(), connection: None }
    }

    pub fn next_deadline(&mut self) -> Option<Mono> {
        let planned = self.planned.iter().map(|(at, _)| *at).min();
        [planned, self.stack.next_deadline()].into_iter().flatten().min()
    }

    pub fn call(&mut self, to: &str, from: &str, sdp: Bytes, now: Mono) -> DialogId {
        let invitation = Invitation {
            flow: self.flow(),
            request_uri: format!("sip:{to}@192.0.2.1"),
            from: from.to_owned(),
            to: format!("<sip:{to}@192.0.2.1>"),
            contact: format!("<{}>", self.contact()),
            alternatives: Vec::new(),
            routes: Vec::new(),
            headers: Vec::new(),
            sdp,
            credentials: None,
        };
        let dialog = self.stack.invite(invitation, now);
        self.dialogs.push(dialog);
        dialog
    }

    pub fn receive(&mut self, message: Message, now: Mono) {
        if self.script == Script::Dead {
            return;
        }
        let flow = self.flow();
        if let Received::Fresh(request) = self.stack.receive(flow, message, now) {
            self.fresh(flow, request, now);
        }
    }

    fn fresh(&mut self, flow: Flow, request: Message, now: Mono) {
        if request.method() == Some(Method::Message) {
            let body = String::from_utf8(request.body().to_vec()).expect("a text");
            self.saw.push((now, Saw::Message { from: request.from().unwrap().uri.to_owned(), body }));
            if let Some(status) = self.message_status {
                self.stack.refuse(&request, flow, &Reply::new(status));
            }
            return;
        }
        if request.method() != Some(Method::Invite) {
            return self.stack.refuse(&request, flow, &Reply::new(501));
        }
        let uri = |address: Option<String>| address.unwrap_or_default();
        let from = uri(request.from().ok().map(|from| from.uri.to_owned()));
        self.saw.push((now, Saw::Invited { from, to: request.request_uri().to_owned() }));
        let request_has_credentials = request.header(HeaderName::Authorization).is_some();
        let contact = format!("<{}>", self.contact());
        let dialog = self.stack.accept_invite(flow, request, contact);
        match self.script.clone() {
            Script::Answer(after) => {
                self.stack.progress(dialog, 180, Bytes::new(), now);
                self.planned.push_back((now + after, dialog));
            }
            Script::AnswerAtOnce => self.planned.push_back((now, dialog)),
            Script::EarlyMedia(after) => {
                self.stack.progress(dialog, 183, self.sdp.clone(), now);
                self.planned.push_back((now + after, dialog));
            }
            Script::Challenge(_) if request_has_credentials => self.planned.push_back((now, dialog)),
            Script::Challenge(realms) => self.stack.decline(dialog, &challenge(realms), now),
            Script::Refuse(status) => self.stack.decline(dialog, &Reply::new(status), now),
            Script::Ring => self.stack.progress(dialog, 180, Bytes::new(), now),
            Script::Dead => {}
        }
    }

    pub fn handle_timeout(&mut self, now: Mono) {
        self.stack.handle_timeout(now);
        while let Some(at) = self.planned.iter().position(|(at, _)| *at <= now) {
            let (_, dialog) = self.planned.remove(at).unwrap();
            if self.stack.dialog(dialog).is_some() {
                self.stack.answer(dialog, self.sdp.clone(), now);
                self.dialogs.push(dialog);
            }
        }
    }

    /// Notes an event, and answers a re-INVITE.
    pub fn event(&mut self, event: Event, now: Mono) {
        let reason = |message: &Message| message.header(HeaderName::Reason).unwrap_or("").to_owned();
        let saw = match event {
            Event::Canceled { cancel, .. } => Saw::Canceled { reason: reason(&cancel) },
            Event::Progress { response, .. } => Saw::Progress(response.status()),
            Event::Answered { .. } => Saw::Answered,
            Event::Refused { status, dialog, .. } => {
                self.dialogs.retain(|known| *known != dialog);
                Saw::Refused(status)
            }
            Event::Acked { .. } => Saw::Acked,
            Event::Ended { dialog, bye } => {
                self.dialogs.retain(|known| *known != dialog);
                Saw::Ended { reason: bye.as_ref().map(reason).unwrap_or_default() }
            }
            Event::Reoffered { dialog, invite } => {
                let has_credentials = invite.header(HeaderName::Authorization).is_some();
                match (self.reoffer_status, &self.script) {
                    (None, Script::Challenge(realms)) if !has_credentials => {
                        self.stack.decline(dialog, &challenge(realms), now);
                    }
                    (Some(status), _) => self.stack.decline(dialog, &Reply::new(status), now),
                    (None, _) => self.stack.answer(dialog, self.sdp.clone(), now),
                }
                return;
            }
            Event::AckMissing { dialog } => {
                self.stack.bye(dialog, "", now);
                return;
            }
            Event::Reanswered { status, .. } => Saw::Reanswered(status),
            Event::InDialog { transaction, request, .. } if request.method() == Some(Method::Refer) => {
                self.stack.reply(transaction, &request, &Reply::new(self.refer_status), now);
                Saw::Referred { to: request.other_header("Refer-To").unwrap_or_default().to_owned() }
            }
            Event::InDialog { transaction, request, .. } if request.method() == Some(Method::Notify) => {
                self.stack.reply(transaction, &request, &Reply::new(200), now);
                let state = request.other_header("Subscription-State").unwrap_or_default();
                assert_eq!((request.header(HeaderName::Event), state), (Some("refer"), "terminated;reason=noresource"));
                Saw::Notified { line: String::from_utf8_lossy(&request.body()).trim_end().to_owned() }
            }
            Event::ReofferCanceled { .. }
            | Event::Diverted { .. }
            | Event::InDialog { .. }
            | Event::Responded { .. }
            | Event::Resubscribed { .. }
            | Event::ReferAnswered { .. } => return,
        };
        self.saw.push((now, saw));
    }

    pub fn seen(&self) -> Vec<Saw> {
        self.saw.iter().map(|(_, saw)| saw.clone()).collect()
    }
}

pub fn sdp(address: SocketAddr, formats: &str) -> Bytes {
    let ip = address.ip();
    Bytes::from(format!(
        "v=0\r\no=phone 1 1 IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\nm=audio 40000 RTP/AVP {formats}\r\n\
         a=rtpmap:101 telephone-event/8000\r\na=sendrecv\r\n"
    ))
}

fn challenge(realms: &[&str]) -> Reply {
    let of = |realm: &&str| format!("Digest realm=\"{realm}\", nonce=\"n\", qop=\"auth\"");
    realms.iter().map(of).fold(Reply::new(401), |reply, challenge| reply.header(HeaderName::WwwAuthenticate, challenge))
}
