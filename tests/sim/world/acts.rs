//! What people do in the world: phones that call, press, transfer and write, and the API that orders.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dialtone::account::{Account, Directory};
use dialtone::call::Update;
use dialtone::concurrency::Resource;
use dialtone::events::{Event, EventKind, MessageDirection, MessageFact, MessageStatus, end_of_lost_call};
use dialtone::ids::{AccountSid, CallSid, ConferenceSid, MessageSid};
use dialtone::shard::{Checkpoint, core};
use dialtone::shard::{ConferenceChange, ConferenceChanged, PlaceOrder, Placement};
use dialtone::twiml::Target;
use dialtone::workers::pool::Pool;
use dialtone_sip::digest::{self, Credentials};
use dialtone_sip::flow::{Flow, Transport};
use dialtone_sip::msg::{HeaderName, Message, Method, Writer};

use super::{ACCOUNT, Arrival, World, application, config, room, settings};
use crate::phone::{Phone, SERVER, Script};

impl World {
    /// The account gets an application whose document is at this URL.
    pub fn add_application(&mut self, sid: &str, url: &str) {
        let mut directory = config("").directory;
        directory.add_application(ACCOUNT.parse().expect("the sid of the account"), sid.to_owned(), application(url));
        self.set_directory(directory);
    }

    pub fn set_directory(&mut self, directory: Directory) {
        let wall = self.wall();
        self.core.set_directory(Arc::new(directory), wall);
        self.flush();
    }

    /// The first account has other limits from now on.
    pub fn set_limits(&mut self, limits: &str) {
        self.set_directory(config(&format!("own_limits = {limits}")).directory);
    }

    /// The first account has another budget from now on.
    pub fn set_budget(&mut self, budget: &str) {
        self.set_directory(config(&format!("own_budget = {budget}")).directory);
    }

    /// How much of what there are limits for is held.
    pub fn held(&self, resource: Resource) -> u32 {
        let (held, _) = self.core.places();
        held.iter().filter(|in_use| in_use.scope.resource() == resource).map(|in_use| in_use.held).max().unwrap_or(0)
    }

    pub fn add_phone(&mut self, address: &str, script: Script) -> usize {
        let seed = self.phones.len() as u8 + 1;
        self.phones.push(Phone::new(address, seed, script));
        self.phones.len() - 1
    }

    /// Registers a phone as a device of a user.
    pub fn register(&mut self, phone: usize, username: &str) {
        self.register_at(phone, dialtone::account::Aor { username: username.into(), domain: "dialtone".into() });
    }

    pub fn register_at(&mut self, phone: usize, aor: dialtone::account::Aor) {
        let (phone, username) = (&self.phones[phone], &aor.username);
        let text = format!(
            "REGISTER sip:dialtone SIP/2.0\r\nCall-ID: r{username}{}\r\nCSeq: 1 REGISTER\r\nContact: <{}>;expires=3600\r\n\r\n",
            phone.address,
            phone.contact()
        );
        let flow =
            Flow { transport: Transport::Udp, local: SERVER.parse().unwrap(), remote: phone.address, connection: None };
        self.bindings.register(aor, &Message::parse(Bytes::from(text)).unwrap(), flow, self.wall().wall_ms).unwrap();
    }

    /// The account has made others.
    pub fn make_accounts(&mut self, sids: &[AccountSid]) {
        let mut directory = config("").directory;
        let owner = directory.account(ACCOUNT.parse().unwrap()).expect("the account of the configuration").clone();
        for sid in sids {
            let made = Account { sid: *sid, owner: Some(owner.sid), ..Account::clone(&owner) };
            directory.add_account(made).expect("another account");
        }
        self.set_directory(directory);
    }

    /// The carrier calls a number.
    pub fn call(&mut self, number: &str) -> dialtone_sip::dialog::DialogId {
        let sdp = self.phones[0].sdp.clone();
        self.call_with(number, sdp)
    }

    pub fn call_with(&mut self, number: &str, sdp: Bytes) -> dialtone_sip::dialog::DialogId {
        let now = self.now;
        let dialog = self.phones[0].call(number, "<sip:+15559990000@carrier>", sdp, now);
        self.flush();
        dialog
    }

    /// Another phone of the carrier's network, which calls by it.
    pub fn add_caller(&mut self) -> usize {
        let address = format!("198.51.100.{}:5060", 100 + self.phones.len());
        self.add_phone(&address, Script::Ring)
    }

    /// A phone calls a number.
    pub fn call_from(&mut self, phone: usize, number: &str) -> dialtone_sip::dialog::DialogId {
        let (now, sdp) = (self.now, self.phones[phone].sdp.clone());
        let dialog = self.phones[phone].call(number, "<sip:+15559990000@carrier>", sdp, now);
        self.flush();
        dialog
    }

    /// The API changes a conference.
    pub fn change_conference(&mut self, sid: ConferenceSid, change: ConferenceChange) -> ConferenceChanged {
        let wall = self.wall();
        let changed = self.core.change_conference(ACCOUNT.parse().unwrap(), sid, change, wall);
        self.flush();
        changed
    }

    /// Lets the caller hang up its newest call.
    pub fn hang_up(&mut self, phone: usize) {
        let now = self.now;
        let dialog = self.phones[phone].dialogs.pop().expect("the phone has a call");
        self.phones[phone].stack.bye(dialog, "", now);
        self.flush();
    }

    /// The newest call of a phone is offered anew by it.
    pub fn reinvite(&mut self, phone: usize, sdp: Bytes) {
        let now = self.now;
        let dialog = *self.phones[phone].dialogs.last().expect("the phone has a call");
        self.phones[phone].stack.reinvite(dialog, sdp, now);
        self.flush();
    }

    /// The phone takes back its INVITE that waits for an answer.
    pub fn take_back(&mut self, phone: usize) {
        let now = self.now;
        let dialog = *self.phones[phone].dialogs.last().expect("the phone has a call");
        self.phones[phone].stack.cancel(dialog, "", now);
        self.flush();
    }

    /// A digit of the caller by SIP INFO.
    pub fn press(&mut self, phone: usize, digit: char) {
        let body = format!("Signal={digit}\r\nDuration=100\r\n");
        self.send_inside(phone, Method::Info, &[], "application/dtmf-relay", &body);
    }

    /// The phone tells what became of the call that it was asked to make.
    pub fn notify(&mut self, phone: usize, line: &str, state: &str) {
        let headers = [("Event", "refer"), ("Subscription-State", state)];
        self.send_inside(phone, Method::Notify, &headers, "message/sipfrag;version=2.0", line);
    }

    /// The phone asks us to call somebody else in its place.
    pub fn refer(&mut self, phone: usize, to: &str) {
        self.send_inside(phone, Method::Refer, &[("Refer-To", to), ("X-Id", "7")], "", "");
    }

    /// A request inside the phone's newest call.
    fn send_inside(&mut self, phone: usize, method: Method, headers: &[(&str, &str)], content_type: &str, body: &str) {
        let dialog = *self.phones[phone].dialogs.last().expect("the phone has a call");
        self.random();
        let branch = self.random;
        let flow = self.phones[phone].flow();
        let mut inside = self.phones[phone].stack.dialog(dialog).cloned().expect("the dialog lives");
        inside.local_cseq += 1 + (self.sequence as u32 % 1000);
        let cseq = inside.next_cseq();
        let via = format!("SIP/2.0/UDP {};branch=z9hG4bKinside{branch:x}", self.phones[phone].address);
        let mut writer = inside.request(method, cseq, &via);
        for (name, value) in headers {
            writer.named(name, *value);
        }
        let request = writer.finish(content_type, body.as_bytes());
        self.send(self.phones[phone].address, flow.remote, request);
    }

    pub fn end_all(&mut self) {
        let wall = self.wall();
        self.core.end_all(wall);
        self.flush();
    }

    /// The API sends a message to a user.
    pub fn message(&mut self, to: &str, body: &str) {
        let now = self.wall();
        let fact = MessageFact {
            sid: MessageSid::new(1),
            from: "+15551000000".into(),
            to: format!("client:{to}"),
            body: body.into(),
            direction: MessageDirection::OutboundApi,
            status: MessageStatus::Queued,
            error_code: 0,
            created_ms: now.wall_ms,
            sent_ms: 0,
            callback: None,
        };
        let target = Target::Client { identity: to.into(), parameters: Vec::new() };
        self.core.send_message(ACCOUNT.parse().unwrap(), &target, fact, now);
        self.flush();
    }

    /// The steps of messages, in order, with their error numbers.
    /// A phone sends a text as a user; the final answer.
    pub fn text(&mut self, phone: usize, user: &str, to: &str, body: &str) -> u16 {
        let credentials = Credentials { username: user.into(), password: "secret".into(), realm: None };
        let uri = format!("sip:{to}@dialtone");
        let mut authorization = None;
        for cseq in 1..=2 {
            let address = self.phones[phone].address;
            let mut writer = Writer::request("MESSAGE", &uri);
            self.random();
            writer.header(HeaderName::Via, format_args!("SIP/2.0/UDP {address};branch=z9hG4bK{:x}", self.random));
            writer.header(HeaderName::From, format_args!("<sip:{user}@dialtone>;tag=1"));
            writer.header(HeaderName::To, format_args!("<{uri}>"));
            let call_id = format!("text{:x}", self.random);
            writer.header(HeaderName::CallId, &call_id);
            writer.header(HeaderName::CSeq, format_args!("{cseq} MESSAGE"));
            writer.header(HeaderName::MaxForwards, "70");
            if let Some(value) = authorization.take() {
                writer.header(HeaderName::Authorization, &value as &String);
            }
            let request = writer.finish("text/plain", body.as_bytes());
            self.send(address, SERVER.parse().unwrap(), request);
            self.run_for(Duration::from_millis(20));
            let answers = |message: &Message| !message.is_request() && message.call_id() == call_id;
            let (_, _, response) = self.wire.iter().rev().find(|(_, _, message)| answers(message)).expect("an answer");
            if response.status() != 401 {
                return response.status();
            }
            let challenges = response.headers(HeaderName::WwwAuthenticate);
            authorization = digest::answer(challenges, &credentials, "MESSAGE", &uri, "c", 1);
        }
        401
    }

    /// The API makes a call.
    pub fn place(&mut self, order: PlaceOrder) -> Placement {
        let wall = self.wall();
        let placement = self.core.place(order, wall);
        self.flush();
        placement
    }

    /// Orders that waited when an earlier world ended.
    pub fn resume(&mut self, orders: Vec<(PlaceOrder, u64)>) {
        let wall = self.wall();
        self.core.resume(orders, wall);
        self.flush();
    }

    /// The media worker is gone, with every session.
    pub fn lose_media(&mut self) {
        self.kill_worker();
        self.pool.lost(self.worker, dialtone_media::time::Mono(self.now.0));
        // Nobody comes to take its place.
        self.run_for(Duration::from_millis(3500));
        self.start_worker();
    }

    /// The media worker dies, and a standby of its machine has its sockets.
    pub fn replace_worker(&mut self) {
        let dead = format!("m{}-{}", self.machine, self.worker_number);
        self.kill_worker();
        self.free_ports.inherited = self.free_ports.last;
        self.start_worker();
        self.pool.took_over(self.worker, &dead, 0, dialtone_media::time::Mono(self.now.0));
        self.flush();
    }

    /// The media worker's machine is lost, and there is another one.
    pub fn lose_machine(&mut self) {
        self.kill_worker();
        self.pool.lost(self.worker, dialtone_media::time::Mono(self.now.0));
        self.machine += 1;
        self.free_ports.inherited = 0;
        self.start_worker();
        self.run_for(Duration::from_millis(400));
    }

    /// The edge dies and starts anew: it has what the journal has, and its worker is still there.
    pub fn restart_edge(&mut self) {
        let (seed, extra, max_calls) = self.edge.clone();
        self.edge.0 = seed + 1000;
        let (settings, bytes) = settings(seed + 1000, &extra, max_calls, self.bindings.clone());
        self.core = core::Core::new(settings);
        self.pool = Pool::new(self.edge.0, bytes);
        self.streams.clear();
        self.due.values_mut().for_each(|arrival| {
            if !matches!(arrival, Arrival::Datagram { .. } | Arrival::File { .. }) {
                *arrival = Arrival::Nothing;
            }
        });
        let now = dialtone_media::time::Mono(self.now.0);
        self.sessions.values_mut().for_each(|session| session.handle_edge_lost(now));
        let mut last: BTreeMap<CallSid, Event> = BTreeMap::new();
        for event in self.events.iter().filter(|event| !event.kind.stands_alone()) {
            last.insert(event.call, event.clone());
        }
        last.retain(|_, event| !matches!(event.kind, EventKind::Completed(_)));
        let written = std::mem::take(&mut self.written);
        let mut checkpoints = Vec::new();
        for (sid, event) in last {
            match written.get(&sid) {
                Some(state) => {
                    let (checkpoint, media): (Checkpoint, Option<dialtone::workers::Placement>) =
                        serde_json::from_slice(state).unwrap();
                    self.pool.restore(checkpoint.session_id(), media.expect("its session has a worker"), now);
                    checkpoints.push(checkpoint);
                }
                // As the outbox does when it starts.
                None => self.events.push(end_of_lost_call(&event, event.sequence + 1, event.at_ms)),
            }
        }
        let wall = self.wall();
        self.core.restore(checkpoints, wall);
        self.flush();
        let name = format!("m{}-{}", self.machine, self.worker_number);
        self.worker = self.pool.joined(&name, "", &room(), now);
        self.sessions.values_mut().for_each(|session| session.handle_edge_back(now));
        self.flush();
    }

    /// What became of a stream at the application.
    pub fn stream_event(&mut self, sid: dialtone::ids::StreamSid, event: dialtone::call::StreamEvent) {
        let call = self.streams[&sid].call;
        self.arrive(Arrival::Stream { call, sid, event });
        self.flush();
    }

    /// Everything that it had is gone, and what it was about to say.
    fn kill_worker(&mut self) {
        self.sessions.clear();
        self.recorders.clear();
        self.due.values_mut().for_each(|arrival| {
            if matches!(arrival, Arrival::Media(..) | Arrival::File { .. }) {
                *arrival = Arrival::Nothing;
            }
        });
    }

    fn start_worker(&mut self) {
        self.worker_number += 1;
        let name = format!("m{}-{}", self.machine, self.worker_number);
        self.worker = self.pool.joined(&name, "", &room(), dialtone_media::time::Mono(self.now.0));
    }

    /// The API changes a call of the account; whether it is in a state for that.
    pub fn update(&mut self, call: CallSid, change: Update) -> bool {
        self.update_of(ACCOUNT, call, change)
    }

    pub fn update_of(&mut self, account: &str, call: CallSid, change: Update) -> bool {
        let wall = self.wall();
        let taken = self.core.update(call, account.parse().unwrap(), change, wall);
        self.flush();
        taken
    }
}
