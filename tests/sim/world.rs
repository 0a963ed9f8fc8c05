//! The world: one shard of ours, media sessions, phones, a network and an application, and one clock for all.

mod acts;
mod setup;

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dialtone::account::Application;
use dialtone::call::{FetchOutcome, Now, StreamEvent};
use dialtone::concurrency::OnLoss;
use dialtone::credit;
use dialtone::edges::EdgeId;
use dialtone::events::{CallRecord, CallStatus, Event, EventKind, MessageFact, MessageStatus};
use dialtone::hot::{Answer as HotAnswer, Bindings, Command as HotCommand, Memory};
use dialtone::ids::{CallSid, StreamSid};
use dialtone::shard::{Letter, OpenStream, Wish, core};
use dialtone::twiml::{
    AtEnd, AudioFailure, ClipRef, DocumentSource, Endpoint, FetchFailure, Fetched, NewDocument, Notice,
};
use dialtone::workers::Told;
use dialtone::workers::balancer::WorkerId;
use dialtone::workers::pool::{Output as PoolOutput, Pool};
use dialtone_media::clips::Clips;
use dialtone_media::ids::{LegId, RecorderId, SessionId};
use dialtone_media::leg::Hot;
use dialtone_media::proto::LoadReport;
use dialtone_media::proto::{Command, CommandKind, MediaEvent};
use dialtone_media::recorder::{FileLength, FileOutcome, FileStep};
use dialtone_media::session::{self, Ports, Session};
use dialtone_media::worker::Latching;
use dialtone_sip::flow::{Flow, Transport};
use dialtone_sip::msg::{HeaderName, Message};
use dialtone_sip::resolve::{Answer, Destination, Question, Resolution};
use dialtone_sip::stack;
use dialtone_sip::time::Mono;
use dialtone_sip::tokens::Tokens;

use crate::phone::{Phone, SERVER, Saw, Script};
use setup::{config, settings};

pub const ACCOUNT: &str = "AC00000000000000000000000000000001";
const WALL_MS: u64 = 1_800_000_000_000;

/// A request as the application gets it.
#[derive(Clone, Debug)]
pub struct Asked {
    pub url: String,
    pub params: BTreeMap<String, String>,
}

impl Asked {
    pub fn get(&self, name: &str) -> &str {
        self.params.get(name).map_or("", String::as_str)
    }
}

/// What the application says.
#[derive(Clone)]
pub enum Says {
    Twiml(&'static str),
    /// As it comes, with a content type.
    Raw(&'static str, &'static str),
    Fails(u32),
    /// Never.
    Nothing,
}

type App = Box<dyn FnMut(&Asked) -> Says>;

/// How the network treats a datagram.
#[derive(Clone, Copy)]
pub struct Network {
    pub loss: f64,
    pub delay: Duration,
    pub jitter: Duration,
    pub duplicates: f64,
}

impl Default for Network {
    fn default() -> Self {
        Self { loss: 0.0, delay: Duration::from_millis(5), jitter: Duration::ZERO, duplicates: 0.0 }
    }
}

enum Arrival {
    Datagram {
        from: SocketAddr,
        to: SocketAddr,
        bytes: Bytes,
    },
    Media(WorkerId, MediaEvent),
    Document {
        call: CallSid,
        fetch: u32,
        outcome: FetchOutcome,
    },
    Audio {
        call: CallSid,
        ticket: u32,
        result: Result<ClipRef, AudioFailure>,
    },
    Resolved {
        ticket: u64,
        destinations: Vec<Destination>,
    },
    Stream {
        call: CallSid,
        sid: StreamSid,
        event: StreamEvent,
    },
    RoomFound(Box<Wish>, Option<EdgeId>),
    Held(dialtone::concurrency::Answer),
    Credit(credit::Answer),
    /// The ledger has the line of a call, of so many minutes.
    Billed(CallSid, i64),
    Letter(EdgeId, Box<Letter>),
    LetterLost(EdgeId, Box<Letter>),
    EdgeGone(EdgeId),
    File {
        session_id: u64,
        recorder: RecorderId,
        outcome: FileOutcome,
    },
    /// It was on its way when its sender died.
    Nothing,
}

pub struct World {
    pub now: Mono,
    pub core: core::Core,
    pub phones: Vec<Phone>,
    pub asked: Vec<Asked>,
    /// Media streams whose connections are open, and the keys that they were told.
    pub streams: BTreeMap<StreamSid, OpenStream>,
    pub told_streams: Vec<(StreamSid, char)>,
    pub events: Vec<Event>,
    pub network: Network,
    /// How long what the media worker tells is on its way.
    pub worker_delay: Duration,
    /// Media packets that left the server, by where they went.
    pub media: BTreeMap<SocketAddr, u32>,
    /// Write every call down and read it back after each step.
    pub restarts: bool,
    /// What the name service knows.
    pub zone: HashMap<Question, Answer>,
    /// What it was asked, in order.
    pub questions: Vec<Question>,
    /// Every SIP message that left or reached the server, for assertions.
    pub wire: Vec<(Mono, SocketAddr, Message)>,
    /// What was recorded, by the name of its file: samples of all channels.
    pub files: BTreeMap<String, Vec<i16>>,
    app: App,
    recorders: HashMap<(u64, RecorderId), (String, u8)>,
    /// The workers of the edge, of which one is alive: its sessions are here.
    pool: Pool,
    worker: WorkerId,
    worker_number: u8,
    machine: u8,
    sessions: HashMap<u64, Session>,
    clips: Clips,
    free_ports: PortCounter,
    arrivals: BinaryHeap<Reverse<(Mono, u64)>>,
    /// Seed, more configuration and calls at once of the edge, to start it anew.
    edge: (u64, String, usize),
    /// The states of calls, as the journal has them.
    written: HashMap<CallSid, Vec<u8>>,
    due: HashMap<u64, Arrival>,
    sequence: u64,
    random: u64,
    bindings: Arc<Bindings>,
    /// What it shares with other edges, and which of them it is.
    shared: Option<(EdgeId, SharedHot)>,
    /// For others.
    pub letters: Vec<(EdgeId, Box<Letter>)>,
    /// How long legs were not heard whose worker was lost, and what had become of it.
    pub gaps: Vec<(&'static str, Duration)>,
    /// What the ledger has, and how often the database was asked for more.
    pub minutes: i64,
    pub credit_claims: u32,
    /// The database does not answer.
    pub store_is_away: bool,
}

/// What edges of one cluster share.
pub type SharedHot = Rc<RefCell<Memory>>;

/// Until a call that is over is in the ledger.
const LEDGER: Duration = Duration::from_secs(1);
/// What takes time between edges.
const NEIGHBOURHOOD: Duration = Duration::from_millis(1);

struct PortCounter {
    last: u16,
    /// Up to here they were another worker's, whose place this one has taken.
    inherited: u16,
}

impl Ports for PortCounter {
    fn fill_secret(&mut self, secret: &mut [u8]) {
        secret.fill(7);
    }

    fn open(&mut self, _: LegId) -> Option<u16> {
        self.last += 2;
        Some(self.last)
    }

    fn reopen(&mut self, _: LegId, port: u16) -> Option<Hot> {
        (port <= self.inherited).then(Hot::default)
    }
}

impl World {
    /// A world with an application; phone 0 is the carrier that calls, at 198.51.100.8.
    pub fn new(seed: u64, app: impl FnMut(&Asked) -> Says + 'static) -> World {
        World::with_config(seed, "", app)
    }

    pub fn with_config(seed: u64, extra: &str, app: impl FnMut(&Asked) -> Says + 'static) -> World {
        World::with_room(seed, extra, 1000, app)
    }

    /// A world in which only so many calls may run at once.
    pub fn with_room(seed: u64, extra: &str, max_calls: usize, app: impl FnMut(&Asked) -> Says + 'static) -> World {
        let bindings = Arc::new(Bindings::default());
        let (settings, bytes) = settings(seed, extra, max_calls, bindings.clone());
        let mut pool = Pool::new(1, bytes);
        let worker = pool.joined("m1-1", "", &room(), dialtone_media::time::Mono(0));
        World {
            now: Mono(1_000_000),
            core: core::Core::new(settings),
            edge: (seed, extra.to_owned(), max_calls),
            written: HashMap::new(),
            phones: vec![Phone::new("198.51.100.8:5060", 1, Script::Ring)],
            asked: Vec::new(),
            streams: BTreeMap::new(),
            told_streams: Vec::new(),
            events: Vec::new(),
            network: Network::default(),
            worker_delay: Duration::from_micros(200),
            media: BTreeMap::new(),
            restarts: true,
            zone: HashMap::new(),
            questions: Vec::new(),
            wire: Vec::new(),
            app: Box::new(app),
            files: BTreeMap::new(),
            recorders: HashMap::new(),
            pool,
            worker,
            worker_number: 1,
            machine: 1,
            sessions: HashMap::new(),
            clips: Clips::new(1 << 20),
            free_ports: PortCounter { last: 20_000, inherited: 0 },
            arrivals: BinaryHeap::new(),
            due: HashMap::new(),
            sequence: 0,
            random: seed | 1,
            bindings,
            shared: None,
            letters: Vec::new(),
            gaps: Vec::new(),
            minutes: 0,
            credit_claims: 0,
            store_is_away: false,
        }
    }

    /// Makes it one of several edges; before anything happens.
    pub fn join(mut self, edge: EdgeId, hot: SharedHot) -> World {
        let (seed, extra, max_calls) = self.edge.clone();
        let (settings, _) = settings(seed, &extra, max_calls, self.bindings.clone());
        self.core =
            core::Core::new(core::Settings { me: Some(edge.clone()), shares_limits: Some(OnLoss::Closed), ..settings });
        let (about, slots) = (String::new(), Vec::new());
        hot.borrow_mut()
            .handle(HotCommand::Beat { edge: edge.clone(), lease_ms: u64::MAX, about, slots, barrier_ms: 0 }, 0);
        self.shared = Some((edge, hot));
        self
    }

    /// Its phones reach whichever edge there is by that host; before anything happens.
    pub fn reached_by(mut self, contact: &str) -> World {
        let (seed, extra, max_calls) = self.edge.clone();
        let (settings, _) = settings(seed, &extra, max_calls, self.bindings.clone());
        self.core = core::Core::new(core::Settings { contact: Some(contact.to_owned()), ..settings });
        self
    }

    /// A letter of another edge is on its way; `None`: the other edge is dead.
    pub fn hear(&mut self, from: &EdgeId, letter: Option<Box<Letter>>) {
        let arrival = match letter {
            Some(letter) => Arrival::Letter(from.clone(), letter),
            None => Arrival::EdgeGone(from.clone()),
        };
        self.arrive_after(NEIGHBOURHOOD, arrival);
    }

    /// A letter could not be sent.
    pub fn hear_of_loss(&mut self, to: EdgeId, letter: Box<Letter>) {
        self.arrive_after(Duration::from_millis(500), Arrival::LetterLost(to, letter));
    }

    fn ask_hot(&mut self, command: impl FnOnce(EdgeId) -> HotCommand) -> (HotAnswer, EdgeId) {
        let (me, hot) = self.shared.clone().expect("an edge that is alone asks nobody");
        let answer = hot.borrow_mut().handle(command(me.clone()), 0);
        (answer, me)
    }

    /// Runs until a moment.
    pub fn run_until(&mut self, until: Mono) {
        while let Some(at) = self.next_moment().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            self.step();
        }
        self.now = until;
    }

    pub fn run_for(&mut self, time: Duration) {
        self.run_until(self.now + time);
    }

    /// Runs long enough for every timer of SIP to end, and checks that nothing is left.
    pub fn close_books(&mut self) {
        self.run_for(Duration::from_secs(100));
        assert!(self.core.has_no_calls(), "calls left: {:?}", self.core.calls().collect::<Vec<_>>());
        assert!(
            self.core.stack().is_idle(),
            "left in the stack: {:?} and {} dialogs",
            self.core.stack().open_transactions().collect::<Vec<_>>(),
            self.core.stack().open_dialogs()
        );
        assert!(self.sessions.is_empty(), "media sessions left: {:?}", self.sessions.keys());
        assert_eq!(self.pool.session_count(), 0, "sessions that the edge still knows");
        assert!(self.streams.is_empty(), "streams left: {:?}", self.streams.keys());
        assert!(self.core.is_settled(), "look-ups, deadlines or guests left");
        let mut ends: HashMap<CallSid, u32> = HashMap::new();
        for event in self.events.iter().filter(|event| !event.kind.stands_alone()) {
            *ends.entry(event.call).or_default() += u32::from(matches!(event.kind, EventKind::Completed(_)));
        }
        assert!(ends.values().all(|count| *count == 1), "ends per call: {ends:?}");
        self.check_sequences();
    }

    fn check_sequences(&self) {
        let mut next: HashMap<CallSid, u32> = HashMap::new();
        for event in self.events.iter().filter(|event| !event.kind.stands_alone()) {
            let expected = next.entry(event.call).or_default();
            assert_eq!(event.sequence, *expected, "sequence of {}", event.call);
            *expected += 1;
        }
    }

    /// The calls that have ended, in the order in which they began.
    pub fn records(&self) -> Vec<CallRecord> {
        let mut records: Vec<CallRecord> = Vec::new();
        for event in self.events.iter().filter(|event| !event.kind.stands_alone()) {
            match CallRecord::begin(event) {
                Some(record) => records.push(record),
                None => {
                    records.iter_mut().filter(|record| record.sid == event.call).for_each(|record| record.apply(event))
                }
            }
        }
        records
    }

    /// What became of every message, in order, with its text.
    pub fn texts(&self) -> Vec<&MessageFact> {
        let facts = self.events.iter().filter_map(|event| match &event.kind {
            EventKind::Message(fact) => Some(fact.as_ref()),
            _ => None,
        });
        facts.collect()
    }

    pub fn message_steps(&self) -> Vec<(MessageStatus, u32)> {
        self.texts().into_iter().map(|fact| (fact.status, fact.error_code)).collect()
    }

    pub fn noticed(&self) -> impl Iterator<Item = &Notice> {
        self.events.iter().filter_map(|event| match &event.kind {
            EventKind::Noticed(notice) => Some(notice),
            _ => None,
        })
    }

    pub fn notices(&self) -> Vec<u32> {
        self.noticed().map(|notice| notice.code).collect()
    }

    pub fn asked_urls(&self) -> Vec<&str> {
        self.asked.iter().map(|asked| asked.url.as_str()).collect()
    }

    /// Statuses of the final responses that the caller got to its INVITEs.
    pub fn saw(&self, phone: usize) -> Vec<Saw> {
        self.phones[phone].seen()
    }

    pub fn sessions(&self) -> usize {
        self.sessions.len()
    }

    pub fn session(&self) -> &Session {
        self.sessions.values().next().expect("there is a media session")
    }

    fn wall(&self) -> Now {
        Now { mono: self.now, wall_ms: WALL_MS + self.now.0 / 1000 }
    }

    fn next_moment(&mut self) -> Option<Mono> {
        let arrival = self.arrivals.peek().map(|Reverse((at, _))| *at);
        let media = self.sessions.values().filter_map(Session::next_deadline).min().map(|at| Mono(at.0));
        let pool = self.pool.next_deadline().map(|at| Mono(at.0));
        let phones = self.phones.iter_mut().filter_map(Phone::next_deadline).min();
        [arrival, self.core.next_deadline(), media, pool, phones].into_iter().flatten().min()
    }

    fn step(&mut self) {
        while self.arrivals.peek().is_some_and(|Reverse((at, _))| *at <= self.now) {
            let Reverse((_, number)) = self.arrivals.pop().unwrap();
            let arrival = self.due.remove(&number).unwrap();
            self.arrive(arrival);
            self.flush();
        }
        let now = self.now;
        self.core.handle_timeout(self.wall());
        for phone in &mut self.phones {
            phone.handle_timeout(now);
        }
        self.pool.handle_timeout(dialtone_media::time::Mono(now.0));
        for session in self.sessions.values_mut() {
            session.handle_timeout(dialtone_media::time::Mono(now.0));
        }
        self.flush();
    }

    fn arrive(&mut self, arrival: Arrival) {
        let wall = self.wall();
        match arrival {
            Arrival::Datagram { from, to, bytes } => self.datagram(from, to, bytes),
            Arrival::Media(worker, event) => self.pool.event(worker, event, dialtone_media::time::Mono(self.now.0)),
            Arrival::Stream { call, sid, event } => {
                if matches!(event, StreamEvent::Closed | StreamEvent::Failed(_)) {
                    self.streams.remove(&sid);
                }
                self.core.handle_stream(call, sid, event, wall)
            }
            Arrival::Document { call, fetch, outcome } => self.core.handle_document(call, fetch, outcome, wall),
            Arrival::Audio { call, ticket, result } => self.core.handle_audio(call, ticket, result, wall),
            Arrival::File { session_id, recorder, outcome } => {
                if let Some(session) = self.sessions.get_mut(&session_id) {
                    session.handle_file(recorder, outcome, dialtone_media::time::Mono(self.now.0));
                }
            }
            Arrival::Nothing => {}
            Arrival::Held(answer) => self.core.handle_held(answer, wall),
            Arrival::Credit(answer) => self.core.handle_credit(answer, wall),
            Arrival::Billed(call, minutes) => {
                self.minutes += minutes;
                self.core.handle_billed(&[call], wall);
            }
            Arrival::RoomFound(wish, owner) => self.core.handle_room_found(*wish, owner, wall),
            Arrival::Letter(from, letter) => match *letter {
                Letter::LinkEnd { key, end } => self.pool.far_end(key, end),
                letter => self.core.handle_letter(from, letter, wall),
            },
            Arrival::LetterLost(to, letter) => self.core.handle_letter_lost(&to, &letter, wall),
            Arrival::EdgeGone(edge) => self.core.handle_edge_gone(&edge, wall),
            Arrival::Resolved { ticket, destinations } => self.core.handle_resolved(ticket, &destinations, wall),
        }
        if self.restarts {
            self.core.restart_calls().expect("every call can be written down and read back");
        }
    }

    fn datagram(&mut self, from: SocketAddr, to: SocketAddr, bytes: Bytes) {
        let message = Message::parse(bytes).expect("both ends write well-formed messages");
        if to.to_string() == SERVER {
            self.wire.push((self.now, from, message.clone()));
            let flow = Flow { transport: Transport::Udp, local: to, remote: from, connection: None };
            self.core.handle_message(flow, message, self.wall());
        } else if let Some(phone) = self.phones.iter_mut().find(|phone| phone.address == to) {
            phone.receive(message, self.now);
        }
    }

    /// Moves everything that waits to where it goes.
    fn flush(&mut self) {
        loop {
            let mut moved = false;
            while let Some(output) = self.core.poll_output() {
                self.carry_out(output);
                moved = true;
            }
            for at in 0..self.phones.len() {
                while let Some(output) = self.phones[at].stack.poll_output() {
                    moved = true;
                    match output {
                        stack::Output::Transmit(transmit) => {
                            self.send(self.phones[at].address, transmit.flow.remote, transmit.bytes)
                        }
                        stack::Output::Event(event) => self.phones[at].event(event, self.now),
                    }
                }
            }
            while let Some(output) = self.pool.poll_output() {
                moved = true;
                self.carry_out_pool(output);
            }
            self.flush_media();
            if !moved {
                return;
            }
        }
    }

    fn flush_media(&mut self) {
        let mut buffer = [0; 2048];
        let mut frames = Vec::new();
        let ids: Vec<u64> = self.sessions.keys().copied().collect();
        for id in ids {
            let session = self.sessions.get_mut(&id).unwrap();
            while let Some(transmit) = session.poll_transmit(&mut buffer) {
                *self.media.entry(transmit.to).or_default() += 1;
            }
            while let Some((link, frame)) = session.poll_frame() {
                frames.push((id, link, frame));
            }
            let mut outcomes = Vec::new();
            while let Some((recorder, step)) = session.poll_file() {
                outcomes.extend(write_file(&mut self.files, &mut self.recorders, (id, recorder), step));
            }
            let mut happened = Vec::new();
            while let Some(event) = session.poll_event() {
                happened.push(event);
            }
            if session.is_over() {
                self.sessions.remove(&id);
            }
            for event in happened {
                self.arrive_after(self.worker_delay, Arrival::Media(self.worker, event));
            }
            for (recorder, outcome) in outcomes {
                let file = Arrival::File { session_id: id, recorder, outcome };
                self.arrive_after(Duration::from_millis(3), file);
            }
        }
        for (from, link, frame) in frames {
            let other = self
                .sessions
                .iter_mut()
                .find(|(id, session)| **id != from && session.links().any(|known| known == link));
            if let Some((_, session)) = other {
                session.handle_frame(link, &frame, dialtone_media::time::Mono(self.now.0));
            }
        }
    }

    fn carry_out(&mut self, output: core::Output) {
        match output {
            core::Output::Transmit(transmit) => {
                if let Ok(message) = Message::parse(transmit.bytes.clone()) {
                    self.wire.push((self.now, SERVER.parse().unwrap(), message));
                }
                self.send(SERVER.parse().unwrap(), transmit.flow.remote, transmit.bytes);
            }
            core::Output::Media { session_id, command } => {
                self.pool.command(session_id, command, dialtone_media::time::Mono(self.now.0));
            }
            core::Output::Fetch { call, order, params, .. } => {
                let asked = Asked { url: order.endpoint.url.clone(), params: params.into_iter().collect() };
                // Whoever is told that a call is over may look it up.
                let says_over = CallStatus::named(asked.get("CallStatus")).is_some_and(CallStatus::is_final);
                let is_over = |event: &Event| event.call == call && matches!(event.kind, EventKind::Completed(_));
                assert!(!says_over || self.events.iter().any(is_over), "{call} is over for {} only", asked.url);
                let result = match (self.app)(&asked) {
                    Says::Twiml(text) => Ok((Some("text/xml"), text)),
                    Says::Raw(content_type, text) => Ok((Some(content_type), text)),
                    Says::Fails(code) => {
                        Err(FetchFailure { code, text: "as the test wants".into(), url: asked.url.clone() })
                    }
                    Says::Nothing => {
                        self.asked.push(asked);
                        return;
                    }
                };
                let url = asked.url.clone();
                self.asked.push(asked);
                let result = result.map(|(content_type, text)| Fetched {
                    body: Bytes::from(text),
                    content_type: content_type.map(str::to_owned),
                    url: url.clone(),
                });
                let outcome = FetchOutcome { result, url, reason: String::new(), duration_ms: 20 };
                self.arrive_after(Duration::from_millis(20), Arrival::Document { call, fetch: order.fetch, outcome });
            }
            core::Output::Prepare { call, ticket, source, .. } => {
                let clip = self.make_clip(&format!("{source:?}"));
                self.arrive_after(Duration::from_millis(10), Arrival::Audio { call, ticket, result: Ok(clip) });
            }
            core::Output::OpenStream(open) => {
                let (call, sid) = (open.call, open.order.sid);
                let event = match open.order.spec.url.as_str() {
                    "ws://refuses/" => StreamEvent::Failed(Notice::error(31_920, "as the test wants")),
                    _ => StreamEvent::Opened,
                };
                self.streams.insert(sid, *open);
                self.arrive_after(Duration::from_millis(20), Arrival::Stream { call, sid, event });
            }
            core::Output::TellStream { sid, digit } => self.told_streams.push((sid, digit)),
            core::Output::CloseStream(sid) => {
                self.streams.remove(&sid);
            }
            core::Output::Resolve { ticket, resolution, seed } => self.resolve(ticket, *resolution, seed),
            core::Output::Publish(event) => {
                let (call, is_over) = (event.call, matches!(event.kind, EventKind::Completed(_)));
                self.events.push(event);
                if is_over {
                    let record = self.records().into_iter().find(|record| record.sid == call);
                    let minutes = record.map_or(0, |record| record.duration_s().div_ceil(60));
                    self.arrive_after(LEDGER, Arrival::Billed(call, minutes as i64));
                }
            }
            core::Output::ClaimCredit(claim) => {
                self.credit_claims += 1;
                let used = vec![self.minutes; claim.have.len()];
                let raised = (!self.store_is_away).then(|| credit::grant(&claim, &used).0);
                self.arrive_after(Duration::from_millis(3), Arrival::Credit(raised));
            }
            core::Output::WriteDown(checkpoint) => {
                let state = (&checkpoint, self.pool.placement(checkpoint.session_id()));
                self.written.insert(checkpoint.sid(), serde_json::to_vec(&state).expect("a call can be written down"));
            }
            core::Output::FindRoom(wish) => {
                let name = wish.room();
                let (owner, me) = self.ask_hot(|edge| HotCommand::Claim { edge, name, value: String::new() });
                let HotAnswer::Claimed { edge, .. } = owner else { panic!("{owner:?}") };
                let found = Arrival::RoomFound(wish, Some(edge).filter(|edge| *edge != me));
                self.arrive_after(NEIGHBOURHOOD, found);
            }
            core::Output::Claim(claim) => {
                let (answer, _) = self.ask_hot(|edge| HotCommand::Hold { edge, claim });
                let HotAnswer::Held(held) = answer else { panic!("{answer:?}") };
                self.arrive_after(NEIGHBOURHOOD, Arrival::Held(Some(held)));
            }
            core::Output::GiveUpRoom(name) => {
                self.ask_hot(|edge| HotCommand::Unclaim { edge, name, value: String::new() });
            }
            core::Output::Letter { to, letter } => self.letters.push((to, letter)),
            core::Output::LinkTo { key, edge, is_first } => self.pool.link_to(key, edge.to_string(), is_first),
            core::Output::AudioWanted { .. }
            | core::Output::CancelFetch { .. }
            | core::Output::Forget(_)
            | core::Output::Impeded { .. }
            | core::Output::OutOfCredit { .. }
            | core::Output::Refused { .. } => {}
        }
    }

    fn resolve(&mut self, ticket: u64, mut resolution: Resolution, seed: [u8; 32]) {
        let mut random = Tokens::new(seed);
        while let Some(question) = resolution.poll_question() {
            let answer = self.zone.get(&question).cloned().unwrap_or(Answer::Nothing);
            resolution.handle_answer(&question, answer, &mut random);
            self.questions.push(question);
        }
        let destinations = resolution.destinations();
        self.arrive_after(Duration::from_millis(10), Arrival::Resolved { ticket, destinations });
    }

    /// A second of audio for any source, in the clip cache under a hash of its own.
    fn make_clip(&mut self, source: &str) -> ClipRef {
        use std::hash::{DefaultHasher, Hash, Hasher};
        let mut state = DefaultHasher::new();
        source.hash(&mut state);
        let mut hash = [0; 32];
        hash[..8].copy_from_slice(&state.finish().to_be_bytes());
        let clip = dialtone_media::clips::Clip::new(Bytes::from(vec![0; 16_000]), 8_000).unwrap();
        self.clips.insert(dialtone_media::clips::ClipHash::from_bytes(&hash).unwrap(), clip);
        ClipRef { hash, duration_ms: 1000 }
    }

    fn carry_out_pool(&mut self, output: PoolOutput) {
        let wall = self.wall();
        match output {
            PoolOutput::Command { worker, command } if worker == self.worker => self.command(command),
            PoolOutput::Command { .. } | PoolOutput::Close { .. } => {}
            PoolOutput::Told(Told::Event(event)) => self.core.handle_media(event, wall),
            PoolOutput::Told(Told::HeardAgain { cause, after }) => self.gaps.push((cause, after)),
            // What it had to say again is in no player of this world.
            PoolOutput::Told(Told::Emptied { .. }) => {}
            PoolOutput::Told(Told::Interrupted { session_id }) => self.core.handle_media_interrupted(session_id, wall),
            PoolOutput::Told(Told::LinkEnd { peer, key, end }) => {
                let edge = EdgeId::parse(&peer).expect("it was told as an edge");
                self.letters.push((edge, Box::new(Letter::LinkEnd { key, end })));
            }
            PoolOutput::Told(Told::Moved { session_id, leg_id, sdp }) => {
                self.core.handle_media_moved(session_id, leg_id, sdp, wall);
            }
            PoolOutput::Told(Told::Lost { session_id }) => self.core.handle_media_lost(session_id, wall),
        }
    }

    fn command(&mut self, command: Command) {
        let (now, session_id) = (dialtone_media::time::Mono(self.now.0), command.session_id);
        if matches!(command.kind, Some(CommandKind::Open(_))) {
            let settings = session::Settings {
                advertise: std::net::Ipv4Addr::new(192, 0, 2, self.machine).into(),
                latching: Latching::Nat,
                seed: session_id,
                identity: None,
            };
            self.sessions.entry(session_id).or_insert_with(|| Session::new(SessionId(session_id), 0, settings, now));
        }
        match self.sessions.get_mut(&session_id) {
            Some(session) => session.handle_command(&command, &mut self.free_ports, &mut self.clips, now),
            None => {
                for event in session::unknown(&command) {
                    self.arrive_after(self.worker_delay, Arrival::Media(self.worker, event));
                }
            }
        }
    }

    fn send(&mut self, from: SocketAddr, to: SocketAddr, bytes: Bytes) {
        let network = self.network;
        if self.chance(network.loss) {
            return;
        }
        let copies = if self.chance(network.duplicates) { 2 } else { 1 };
        for _ in 0..copies {
            let jitter =
                Duration::from_micros((self.random() % 1_000_000) * network.jitter.as_micros() as u64 / 1_000_000);
            self.arrive_after(network.delay + jitter, Arrival::Datagram { from, to, bytes: bytes.clone() });
        }
    }

    fn arrive_after(&mut self, delay: Duration, arrival: Arrival) {
        self.sequence += 1;
        self.due.insert(self.sequence, arrival);
        self.arrivals.push(Reverse((self.now + delay, self.sequence)));
    }

    fn chance(&mut self, of: f64) -> bool {
        (self.random() % 1_000_000) as f64 / 1_000_000.0 < of
    }

    fn random(&mut self) -> u64 {
        // SplitMix64: enough for a network's whims, and the same again from the same seed.
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// The server's messages to anyone that are requests of this method or responses of this status.
    pub fn sent(&self, what: &str) -> Vec<&Message> {
        let server: SocketAddr = SERVER.parse().unwrap();
        let wanted = |message: &Message| match what.parse::<u16>() {
            Ok(status) => message.status() == status,
            Err(_) => message.method_text() == what && message.is_request(),
        };
        self.wire
            .iter()
            .filter(|(_, from, message)| *from == server && wanted(message))
            .map(|(_, _, message)| message)
            .collect()
    }
}

pub fn header(message: &Message, name: HeaderName) -> String {
    message.header(name).unwrap_or("").to_owned()
}

/// A worker that takes whatever comes.
fn room() -> LoadReport {
    LoadReport { capacity: 1_000_000, ..LoadReport::default() }
}

/// Does with a recording's file what a worker's disk does.
fn write_file(
    files: &mut BTreeMap<String, Vec<i16>>,
    recorders: &mut HashMap<(u64, RecorderId), (String, u8)>,
    key: (u64, RecorderId),
    step: FileStep<'_>,
) -> Option<(RecorderId, FileOutcome)> {
    let outcome = match step {
        FileStep::Create { file, channels, goes_on } => {
            recorders.insert(key, (file.as_str().to_owned(), channels));
            let written = files.remove(file.as_str()).filter(|_| goes_on.is_some());
            files.insert(file.as_str().to_owned(), written.unwrap_or_default());
            FileOutcome::Created
        }
        FileStep::Write(samples) => {
            let (name, _) = &recorders[&key];
            files.get_mut(name).expect("it was made").extend_from_slice(samples);
            return None;
        }
        FileStep::Finish { cut } => {
            let (name, channels) = recorders.remove(&key).expect("it was made");
            let file = files.get_mut(&name).expect("it was made");
            file.truncate(file.len() - cut as usize * usize::from(channels));
            let samples = (file.len() / usize::from(channels)) as u64;
            FileOutcome::Finished(FileLength { bytes: 44 + file.len() as u64 * 2, samples })
        }
    };
    Some((key.1, outcome))
}

fn application(url: &str) -> Application {
    let source = DocumentSource::Url(Endpoint { url: url.to_owned(), method: dialtone::twiml::Method::Post });
    let document = NewDocument { source, fallback: None, at_end: AtEnd::HangUp };
    Application { document, status_callback: None, answer_at_once: false, priority: 0 }
}
