//! The loop of a shard: reads sockets and letters, asks the core, does what it says.

use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use dialtone_media::proto::{Audio, CommandKind};
use dialtone_sip::flow::Flow;
use dialtone_sip::msg::{Message, Method};
use dialtone_sip::resolve::Resolution;
use dialtone_sip::stack::{Stack, Transmit};
use dialtone_sip::time::Mono;
use dialtone_sip::transport::{Inbound, Transports};
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;

use super::checkpoint::Checkpoint;
use super::core::{Core, Output};
use super::mail::{Mail, MailBox};
use super::names::Names;
use super::neighbours::{Letter, Wish};
use super::sockets::Sockets;
use super::strays::{Stray, Strays};
use super::traffic::Traffic;
use crate::account::Directory;
use crate::app::{AudioCache, AudioRequest, Client, ClipHash, Clips, FetchRequest, RequestKind};
use crate::call::{FetchOutcome, Now, StreamEvent};
use crate::clock::{mono_us, wall_ms};
use crate::credit;
use crate::edges::{EdgeId, Edges, Whose, kind};
use crate::events::Publisher;
use crate::hot::Claim;
use crate::ids::{AccountSid, CallSid};
use crate::speech::Speech;
use crate::telemetry::Hep;
use crate::telemetry::accounts::{self, Series};
use crate::twiml::{AudioFailure, AudioSource, ClipRef, FetchFailure, FetchOrder, FetchReason, Fetched};
use crate::workers::{Placement, Told, Workers};

/// All that a shard reaches outside itself.
#[derive(Clone)]
pub struct Outside {
    /// Where HTTP, speech and name look-ups run.
    pub runtime: tokio::runtime::Handle,
    pub client: Client,
    pub audio: AudioCache,
    pub speech: Arc<Speech>,
    pub clips: Arc<Clips>,
    pub names: Names,
    pub publisher: Publisher,
    /// The other edges, if this one is of a cluster that may have some.
    pub edges: Option<Edges>,
    /// Who is sent a copy of each message.
    pub hep: Option<Arc<Hep>>,
    /// Who carries claims to credit.
    pub credit: mpsc::Sender<credit::Claim>,
    /// Who carries claims to places, where edges share limits.
    pub claims: Option<mpsc::Sender<Claim>>,
    /// Who knows where rooms are.
    pub rooms: Option<mpsc::Sender<RoomQuestion>>,
    /// What the calls that are written down may be taken up in: see `keeper::life`.
    pub life: Arc<str>,
}

/// A question about rooms; they are answered in order.
#[derive(Debug)]
pub enum RoomQuestion {
    /// Answered by [`Mail::RoomFound`].
    Where(Box<Wish>),
    /// It is here still.
    Keep(String),
    /// It is not here any more.
    GivenUp(String),
}

/// What a call or a transaction waits for is counted in tenths of seconds: it may come this late (microseconds), so that
/// what is due at about the same time is one wake-up.
const GRID_US: u64 = 10_000;
/// The 200 of a call that is to outlive its edge waits no longer for that.
const KEPT_IN: Duration = Duration::from_millis(5);
/// Before it is told that a letter could not be sent: a link that is lost may be up again.
const LOST_LETTER: Duration = Duration::from_millis(500);
/// Whether an edge that stands still may go on.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Whether somebody goes on with the calls of a lost edge.
const STRAYS_EVERY: Duration = Duration::from_millis(100);
/// Letters taken at once.
const LETTERS: usize = 256;
/// Whoever is refused before it is known whose it is.
const NOBODY: AccountSid = AccountSid::new(0);

/// Runs a shard until it is told to stop. Call inside a current-thread runtime.
pub async fn run(
    core: Core,
    transports: Transports,
    workers: Workers,
    mail: mpsc::Receiver<Mail>,
    own: MailBox,
    outside: Outside,
    directory: Arc<Directory>,
) {
    let rim = Rim {
        core,
        transports,
        workers,
        own,
        outside,
        directory,
        fetches: HashMap::new(),
        sockets: Sockets::default(),
        traffic: Traffic::default(),
        effects: 0,
        transmits: Vec::new(),
        held: VecDeque::new(),
        turn: 0,
        keeping: Vec::new(),
        strays: Strays::default(),
        drained: None,
        is_open: false,
        stands_still: false,
        stopping: false,
    };
    rim.run(mail).await;
}

struct Rim {
    core: Core,
    transports: Transports,
    workers: Workers,
    own: MailBox,
    outside: Outside,
    /// For the tokens that requests are signed with.
    directory: Arc<Directory>,
    fetches: HashMap<(CallSid, u32), AbortHandle>,
    sockets: Sockets,
    traffic: Traffic,
    /// How many messages were sent and commands given to the media.
    effects: u64,
    /// SIP messages that wait for the end of the turn.
    transmits: Vec<Transmit>,
    /// Those of calls that are answered, which wait until that is kept elsewhere too; and all behind them.
    held: VecDeque<(u64, Transmit)>,
    turn: u64,
    /// What this turn's answered calls are waiting for.
    keeping: Vec<oneshot::Receiver<()>>,
    strays: Strays,
    drained: Option<oneshot::Sender<()>>,
    /// A request that came before the call was restored that it is for would be told that there is none.
    is_open: bool,
    stands_still: bool,
    stopping: bool,
}

impl Rim {
    async fn run(mut self, mut mail: mpsc::Receiver<Mail>) {
        let mut batch = Vec::new();
        let mut letters = Vec::new();
        let mut worker_is_due = false;
        let mut alarm = Box::pin(tokio::time::sleep_until(self.next_wake().into()));
        while !self.stopping {
            if !self.may_go_on() {
                self.wait_for_word(&mut mail, &mut letters).await;
                continue;
            }
            self.workers.rest();
            // Setting a timer costs two system calls in this runtime: one that rings too early is left as it is, and
            // moved only when it has rung.
            let wake = self.next_wake().into();
            if alarm.is_elapsed() || wake < alarm.deadline() {
                alarm.as_mut().reset(wake);
            }
            worker_is_due |= self.workers.timeout() == Some(Duration::ZERO);
            tokio::select! {
                // What came in a time when it stood still.
                () = std::future::ready(()), if !letters.is_empty() || !batch.is_empty() => {}
                () = self.transports.receive(&mut batch), if self.is_open => {}
                () = self.workers.readable() => worker_is_due = true,
                _ = mail.recv_many(&mut letters, LETTERS) => {}
                () = &mut alarm => worker_is_due = true,
            }
            // The process may have stood still meanwhile, for longer than others wait.
            if !self.may_go_on() {
                continue;
            }
            if std::mem::take(&mut worker_is_due) {
                self.workers.turn();
            }
            let now = self.now();
            self.core.set_admits(self.outside.publisher.has_room() && self.workers.have_room());
            for inbound in batch.drain(..) {
                self.guarded(|rim| rim.inbound(inbound, now), now);
            }
            for letter in letters.drain(..) {
                self.guarded(|rim| rim.letter(letter, now), now);
            }
            self.readmit(now);
            if self.core.next_deadline().is_some_and(|at| at <= now.mono) {
                self.guarded(|rim| rim.core.handle_timeout(now), now);
            }
            self.flush(now);
            match std::mem::take(&mut self.keeping) {
                none if none.is_empty() => self.send(),
                keeping => self.hold(keeping),
            }
            self.traffic.publish(&self.core, self.transports.connections(), now.mono);
            if self.core.has_no_calls()
                && let Some(drained) = self.drained.take()
            {
                let _ = drained.send(());
            }
        }
    }

    /// Whether the calls are this edge's still, and nobody has told it to stand still.
    fn may_go_on(&self) -> bool {
        !self.stands_still && self.outside.edges.as_ref().is_none_or(Edges::holds_lease)
    }

    /// Nothing happens but what is said of standing still; all other letters are kept.
    async fn wait_for_word(&mut self, mail: &mut mpsc::Receiver<Mail>, letters: &mut Vec<Mail>) {
        let Ok(letter) = tokio::time::timeout(LOOK_EVERY, mail.recv()).await else { return };
        match letter {
            None | Some(Mail::Stop) => self.stopping = true,
            Some(Mail::StandStill(is_still, done)) => {
                self.stands_still = is_still;
                let _ = done.send(());
            }
            Some(letter) => letters.push(letter),
        }
    }

    /// The next moment at which something is due, here or at the worker.
    fn next_wake(&mut self) -> Instant {
        let now = mono_us();
        let core = self.core.next_deadline().map(|at| {
            let at = at.0.next_multiple_of(GRID_US);
            Instant::now() + Duration::from_micros(at.saturating_sub(now))
        });
        let worker = self.workers.timeout().map(|after| Instant::now() + after);
        let strays = (!self.strays.is_empty()).then(|| Instant::now() + STRAYS_EVERY);
        [core, worker, strays].into_iter().flatten().min().unwrap_or_else(|| Instant::now() + Duration::from_secs(60))
    }

    fn now(&self) -> Now {
        Now { mono: Mono(mono_us()), wall_ms: wall_ms() }
    }

    /// Runs one input. A panic is a bug of ours: it ends the call that it happened in, and no other.
    fn guarded(&mut self, input: impl FnOnce(&mut Rim), now: Now) {
        if catch_unwind(AssertUnwindSafe(|| input(self))).is_err() {
            self.bury(now);
        }
        self.flush(now);
    }

    fn bury(&mut self, now: Now) {
        let call = self.core.end_failed_call(now);
        tracing::error!(
            call_sid = call.map(|sid| sid.to_string()),
            "a call was ended by a bug in this program; please report it with the panic above"
        );
    }

    fn inbound(&mut self, inbound: Inbound, now: Now) {
        match inbound {
            Inbound::Message { flow, message } => {
                self.traffic.received(&message, flow.transport);
                if let Some(hep) = &self.outside.hep {
                    hep.capture(flow.remote, flow.local, !flow.transport.is_reliable(), message.raw());
                }
                if let Some(message) = self.keep_or_hand_on(flow, message, now) {
                    self.message(flow, message, now);
                }
            }
            Inbound::Malformed { flow, error } => {
                metrics::counter!("dialtone_sip_parse_errors_total", "transport" => flow.transport.uri_name(), "reason" => "unreadable").increment(1);
                tracing::debug!(source = %flow, %error, "bytes that are no sip message");
            }
            Inbound::Closed { flow, fault } => {
                if let Some(error) = fault {
                    tracing::warn!(transport = %flow.transport, peer = %flow.remote, %error, "a connection could not be opened");
                }
                self.core.handle_connection_closed(flow, now);
            }
        }
    }

    fn message(&mut self, flow: Flow, message: Message, now: Now) {
        if let Some(reason) = self.core.handle_message(flow, message, now) {
            metrics::counter!("dialtone_sip_parse_errors_total", "transport" => flow.transport.uri_name(), "reason" => reason).increment(1);
        }
    }

    /// Gives back what is for this edge.
    fn keep_or_hand_on(&mut self, flow: Flow, message: Message, now: Now) -> Option<Message> {
        let (Some(edges), Some(slot)) = (&self.outside.edges, Stack::slot_of(&message)) else { return Some(message) };
        match edges.has_slot(slot) {
            Whose::Linked => {
                edges.hand_on(slot, flow, message.raw());
                None
            }
            // Subscriptions end with their edge, and what a transaction answers too.
            Whose::Lost if message.is_request() && message.method() != Some(Method::Subscribe) => {
                self.strays.keep(slot, flow, message, now.mono)
            }
            Whose::Ours | Whose::Lost | Whose::Nobodys => Some(message),
        }
    }

    /// What has waited for whoever goes on with the calls of a lost edge.
    fn readmit(&mut self, now: Now) {
        let Some(edges) = self.outside.edges.as_ref().filter(|_| !self.strays.is_empty()) else { return };
        let ready = self.strays.take(|slot| edges.has_slot(slot) == Whose::Lost, now.mono);
        for Stray { slot, flow, request, .. } in ready {
            let edges = self.outside.edges.as_ref().filter(|edges| edges.has_slot(slot) == Whose::Linked);
            match edges {
                Some(edges) => edges.hand_on(slot, flow, request.raw()),
                None => self.guarded(|rim| rim.message(flow, request, now), now),
            }
        }
    }

    fn letter(&mut self, letter: Mail, now: Now) {
        match letter {
            Mail::Document { call, fetch, outcome, answered } => {
                self.fetches.remove(&(call, fetch));
                let effects = self.effects;
                self.core.handle_document(call, fetch, outcome, now);
                self.flush(now);
                self.send();
                if self.effects > effects {
                    metrics::histogram!("dialtone_document_effect_delay_seconds")
                        .record(answered.elapsed().as_secs_f64());
                }
            }
            Mail::Stream { call, sid, event } => {
                if matches!(event, StreamEvent::Closed | StreamEvent::Failed(_)) {
                    self.sockets.forget(sid);
                }
                self.core.handle_stream(call, sid, event, now);
            }
            Mail::StreamHeard { call, sid, what, turn: _turn } => {
                let (command, notice) = self.sockets.heard(sid, what, now.mono.0);
                if let Some((session_id, command)) = command {
                    self.workers.send(session_id, command);
                }
                if let Some(notice) = notice {
                    self.core.handle_stream(call, sid, StreamEvent::Noticed(notice), now);
                }
            }
            Mail::Audio { call, ticket, result } => self.core.handle_audio(call, ticket, result, now),
            Mail::Resolved { ticket, destinations } => self.core.handle_resolved(ticket, &destinations, now),
            Mail::Message { account, target, fact } => self.core.send_message(account, &target, *fact, now),
            Mail::Place(order, done) => {
                let placement = self.core.place(*order, now);
                // Whoever is told that it waits may rely on that being published.
                self.flush(now);
                let _ = done.send(placement);
            }
            Mail::Restore(calls) => self.restore(calls, now),
            Mail::Open => self.is_open = true,
            Mail::Resume(orders) => self.core.resume(orders, now),
            Mail::Update { call, account, change, done } => {
                let is_done = self.core.update(call, account, change, now);
                // Whoever waits for this looks at what came of it.
                self.flush(now);
                let _ = done.send(is_done);
            }
            Mail::Conference { conference, account, change, done } => {
                let changed = self.core.change_conference(account, conference, change, now);
                self.flush(now);
                let _ = done.send(changed);
            }
            Mail::Directory(directory, taken) => {
                self.directory = directory.clone();
                self.core.set_directory(directory, now);
                let _ = taken.send(());
            }
            Mail::Received(flow, message) => {
                // It was counted where it came in.
                let _ = self.core.handle_message(flow, message, now);
            }
            Mail::Transmit(transmit) => self.send_here(transmit),
            Mail::Letter(from, letter) => match *letter {
                Letter::LinkEnd { key, end } => self.workers.far_end(key, end),
                letter => self.core.handle_letter(from, letter, now),
            },
            Mail::RoomFound(wish, owner) => self.core.handle_room_found(*wish, owner, now),
            Mail::LetterLost(to, letter) => self.core.handle_letter_lost(&to, &letter, now),
            Mail::WishLost(call) => self.core.handle_wish_lost(call, now),
            Mail::EdgeLinked(edge) => {
                self.core.handle_edge_linked(&edge);
                self.workers.tell_link_ends(&edge.to_string());
            }
            Mail::KeepRooms => {
                self.core.room_names().into_iter().for_each(|room| self.ask_rooms(RoomQuestion::Keep(room)));
            }
            Mail::Presence(client) => self.core.handle_presence(&client, now),
            Mail::EdgeGone(edge) => self.core.handle_edge_gone(&edge, now),
            Mail::Kept(turn) => self.kept(turn),
            Mail::Held(answer) => self.core.handle_held(answer, now),
            Mail::Credit(answer) => self.core.handle_credit(answer, now),
            Mail::Billed(calls) => self.core.handle_billed(&calls, now),
            Mail::Settled(edge) => self.core.handle_settled(edge, now),
            Mail::TellPlaces => self.core.tell_places_again(now),
            Mail::SharedBy(edges) => self.core.set_edges(edges),
            Mail::Places(done) => {
                let _ = done.send(self.core.places());
            }
            Mail::Edges(edges) => {
                self.core.set_edges(edges.edges.len());
                self.workers.tell_edges(edges);
            }
            Mail::Client(flow, client, done) => {
                self.core.set_client(flow, client);
                let _ = done.send(());
            }
            Mail::Follow(call, tag, flow, done) => {
                let _ = done.send(self.core.follow(call, &tag, flow, now));
            }
            Mail::DrainWorker { name, done } => {
                let _ = done.send(self.workers.drain(&name));
            }
            Mail::StandStill(is_still, done) => {
                self.stands_still = is_still;
                let _ = done.send(());
            }
            Mail::Drain(drained) => {
                self.core.drain();
                self.drained = Some(drained);
            }
            Mail::EndAll => self.core.end_all(now),
            Mail::Stop => self.stopping = true,
        }
    }

    fn media(&mut self, told: Told, now: Now) {
        if let Told::LinkEnd { peer, key, end } = told {
            if let Some(edge) = EdgeId::parse(&peer) {
                self.write(edge, Letter::LinkEnd { key, end });
            }
            return;
        }
        let input = || match told {
            Told::HeardAgain { cause, after } => {
                metrics::histogram!("dialtone_rtp_gap_seconds", "cause" => cause).record(after.as_secs_f64());
            }
            Told::Interrupted { session_id } => self.core.handle_media_interrupted(session_id, now),
            Told::LinkEnd { .. } => {}
            Told::Emptied { session_id } => self.sockets.emptied(session_id),
            Told::Event(event) => {
                if let Some(event) = self.sockets.handle_media(event) {
                    self.core.handle_media(event, now);
                }
            }
            Told::Moved { session_id, leg_id, sdp } => self.core.handle_media_moved(session_id, leg_id, sdp, now),
            Told::Lost { session_id } => self.core.handle_media_lost(session_id, now),
        };
        if catch_unwind(AssertUnwindSafe(input)).is_err() {
            self.bury(now);
        }
    }

    fn flush(&mut self, now: Now) {
        loop {
            while let Some(output) = self.core.poll_output() {
                self.carry_out(output);
            }
            // What the worker tells is often the answer to what it was just told.
            let Some(told) = self.workers.poll_told() else { return };
            self.media(told, now);
        }
    }

    /// Sends what has come together. Each message wakes its peer, which takes the processor when it is on the same one: so it
    /// comes when the work is done.
    fn send(&mut self) {
        if !self.held.is_empty() {
            // Nothing overtakes what waits.
            self.held.extend(self.transmits.drain(..).map(|transmit| (self.turn, transmit)));
            return;
        }
        let transmits = std::mem::take(&mut self.transmits);
        transmits.into_iter().for_each(|transmit| self.transmit(transmit));
    }

    fn transmit(&mut self, transmit: Transmit) {
        self.traffic.sent(&transmit.bytes, transmit.flow.transport);
        if let Some(edges) = &self.outside.edges
            && edges.transmit(&transmit)
        {
            return;
        }
        self.send_here(transmit);
    }

    /// By a listener of this edge.
    fn send_here(&mut self, transmit: Transmit) {
        if let Some(hep) = &self.outside.hep {
            let flow = transmit.flow;
            hep.capture(flow.local, flow.remote, !flow.transport.is_reliable(), &transmit.bytes);
        }
        self.transports.send(transmit);
    }

    /// Calls are answered when their states are kept elsewhere too, or a moment has gone by: until then what this turn sends
    /// is held.
    fn hold(&mut self, kept: Vec<oneshot::Receiver<()>>) {
        self.turn += 1;
        let (turn, mail) = (self.turn, self.own.clone());
        self.held.extend(self.transmits.drain(..).map(|transmit| (turn, transmit)));
        self.outside.runtime.spawn(async move {
            let all = async {
                for kept in kept {
                    let _ = kept.await;
                }
            };
            let _ = tokio::time::timeout(KEPT_IN, all).await;
            let _ = mail.send(Mail::Kept(turn)).await;
        });
    }

    /// Lets go what was held in that turn, or before it.
    fn kept(&mut self, turn: u64) {
        while self.held.front().is_some_and(|(held, _)| *held <= turn) {
            if let Some((_, transmit)) = self.held.pop_front() {
                self.transmit(transmit);
            }
        }
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Transmit(transmit) => {
                self.effects += 1;
                self.transmits.push(transmit);
            }
            Output::Media { session_id, command } => {
                self.effects += 1;
                self.workers.send(session_id, command);
            }
            Output::Fetch { call, account, order, params } => self.fetch(call, account, order, params),
            Output::CancelFetch { call, fetch } => {
                if let Some(task) = self.fetches.remove(&(call, fetch)) {
                    task.abort();
                }
            }
            Output::Prepare { call, account, ticket, source } => self.prepare(call, account, ticket, source),
            Output::OpenStream(open) => {
                let Outside { client, runtime, .. } = &self.outside;
                self.sockets.open(*open, &self.directory, client, runtime, &self.own);
            }
            Output::TellStream { sid, digit } => self.sockets.tell_digit(sid, digit),
            Output::CloseStream(sid) => self.sockets.close(sid),
            Output::AudioWanted { session_id, hash } => self.hand_over(session_id, hash),
            Output::Resolve { ticket, resolution, seed } => self.resolve(ticket, *resolution, seed),
            Output::Publish(event) => {
                let publisher = &self.outside.publisher;
                let is_sent =
                    if self.core.is_heard(&event) { publisher.publish_now(event) } else { publisher.publish(event) };
                if !is_sent {
                    tracing::error!("the outbox is full: an event is lost");
                }
            }
            Output::WriteDown(checkpoint) => self.write_down(*checkpoint),
            Output::Claim(claim) => {
                // There is one at a time.
                if let Some(claims) = &self.outside.claims
                    && claims.try_send(claim).is_err()
                {
                    tracing::error!("a claim to places cannot be sent: nobody is there to carry it");
                }
            }
            Output::ClaimCredit(claim) => {
                // There is one at a time.
                if self.outside.credit.try_send(claim).is_err() {
                    tracing::error!("a claim to credit cannot be sent: nobody is there to carry it");
                }
            }
            Output::OutOfCredit { action } => {
                metrics::counter!("dialtone_budget_impeded_total", "action" => action).increment(1);
            }
            Output::Impeded { resource, action } => {
                metrics::counter!("dialtone_concurrency_impeded_total", "resource" => resource.as_str(), "action" => action)
                    .increment(1);
            }
            Output::FindRoom(wish) => self.ask_rooms(RoomQuestion::Where(wish)),
            Output::GiveUpRoom(room) => self.ask_rooms(RoomQuestion::GivenUp(room)),
            Output::Letter { to, letter } => self.write(to, *letter),
            Output::LinkTo { key, edge, is_first } => self.workers.link_to(key, edge.to_string(), is_first),
            Output::Forget(call) => {
                self.fetches.retain(|(owner, _), _| *owner != call);
                self.outside.client.end_call(call);
            }
            Output::Refused { flow, method, status, why, account } => {
                if method == "INVITE" {
                    accounts::add(account.unwrap_or(NOBODY), Series::Rejected(why), 1);
                }
                tracing::info!(source = %flow, method, status, why, "request refused")
            }
        }
    }

    /// Where rooms are is asked in order: what is given up here may be wanted again at once.
    fn ask_rooms(&self, question: RoomQuestion) {
        if let Some(rooms) = &self.outside.rooms
            && let Err(mpsc::error::TrySendError::Full(RoomQuestion::Where(wish))) = rooms.try_send(question)
        {
            tracing::error!(call_sid = %wish.call, "too many calls ask where a room is: this one asks again");
            self.later(Mail::WishLost(wish.call));
        }
    }

    fn write(&self, to: EdgeId, letter: Letter) {
        let Some(edges) = &self.outside.edges else { return };
        let sent = serde_json::to_vec(&letter).is_ok_and(|body| edges.letter(&to, kind::ROOM, body.into()));
        if !sent {
            tracing::debug!(edge = %to, "a letter to another edge is lost");
            self.later(Mail::LetterLost(to, Box::new(letter)));
        }
    }

    fn later(&self, letter: Mail) {
        let mail = self.own.clone();
        self.outside.runtime.spawn(async move {
            tokio::time::sleep(LOST_LETTER).await;
            let _ = mail.send(letter).await;
        });
    }

    /// Behind what the call has published, with what a worker would have to be told of its media.
    fn write_down(&mut self, checkpoint: Checkpoint) {
        let media = self.workers.placement(checkpoint.session_id());
        let (sid, is_first, life) = (checkpoint.sid(), checkpoint.is_first(), Arc::clone(&self.outside.life));
        let state = Box::new(move || {
            let written = serde_json::to_vec(&(&*life, &checkpoint, media));
            written.map_err(|error| tracing::error!(%error, call_sid = %sid, "a call cannot be written down")).ok()
        });
        if self.outside.edges.is_some() && is_first {
            let (written, kept) = oneshot::channel();
            self.keeping.push(kept);
            self.outside.publisher.write_down_now(sid, state, written);
        } else {
            self.outside.publisher.write_down(sid, state);
        }
    }

    fn restore(&mut self, calls: Vec<(Checkpoint, Option<Placement>)>, now: Now) {
        let mut checkpoints = Vec::with_capacity(calls.len());
        for (checkpoint, media) in calls {
            if let Some(media) = media {
                self.workers.restore(checkpoint.session_id(), media);
            }
            checkpoints.push(checkpoint);
        }
        tracing::info!(calls = checkpoints.len(), "calls go on that were running when the edge died");
        self.core.restore(checkpoints, now);
    }

    fn fetch(&mut self, call: CallSid, account: AccountSid, order: FetchOrder, params: Vec<(String, String)>) {
        let (client, mail) = (self.outside.client.clone(), self.own.clone());
        let fetch = order.fetch;
        // A call outlives its account's removal by a reload; its requests are then signed with a token that nobody has.
        let token = self.directory.account(account).map(|account| account.auth_token.clone()).unwrap_or_default();
        let task = self.outside.runtime.spawn(async move {
            let began = Instant::now();
            let url = order.endpoint.url.clone();
            let request = FetchRequest {
                account,
                call,
                token,
                url: order.endpoint.url,
                method: order.endpoint.method.into(),
                params,
                kind: request_kind(order.reason),
                number: Some(fetch),
            };
            let result = client.fetch(request).await;
            let answered = Instant::now();
            let result = result
                .map(|fetched| Fetched { body: fetched.body, content_type: fetched.content_type, url: fetched.url })
                .map_err(|failure| FetchFailure { code: failure.code(), text: failure.text(), url: failure.url });
            let reason = reason_name(order.reason).to_owned();
            let outcome = FetchOutcome {
                result,
                url,
                reason,
                duration_ms: u64::try_from((answered - began).as_millis()).unwrap_or(u64::MAX),
            };
            let _ = mail.send(Mail::Document { call, fetch, outcome, answered }).await;
        });
        self.fetches.insert((call, fetch), task.abort_handle());
    }

    fn prepare(&mut self, call: CallSid, account: AccountSid, ticket: u32, source: AudioSource) {
        let token = self.directory.account(account).map(|account| account.auth_token.clone()).unwrap_or_default();
        let (outside, mail) = (self.outside.clone(), self.own.clone());
        self.outside.runtime.spawn(async move {
            let result = match source {
                AudioSource::Url { url } => {
                    let request = AudioRequest { account, call, token, url };
                    outside
                        .audio
                        .clip(request)
                        .await
                        .map_err(|failure| AudioFailure { code: failure.code(), text: failure.text() })
                }
                AudioSource::Say { text, voice, language } => outside.speech.say(&text, &voice, &language).await,
                AudioSource::Prompt { name } => outside.speech.prompt(&name),
            };
            let result = result.map(|clip| ClipRef { hash: clip.hash.0, duration_ms: clip.duration_ms() });
            let _ = mail.send(Mail::Audio { call, ticket, result }).await;
        });
    }

    /// Gives a worker the audio that it asks for; nothing, if it is gone from the cache: the player goes on without it.
    fn hand_over(&mut self, session_id: u64, hash: bytes::Bytes) {
        let clip = <[u8; 32]>::try_from(hash.as_ref()).ok().and_then(|hash| self.outside.clips.find(ClipHash(hash)));
        let samples = clip.map(|clip| clip.samples).unwrap_or_default();
        let audio = Audio { hash, rate_hz: crate::app::audio::clip::CLIP_RATE_HZ, samples };
        self.workers.send(session_id, CommandKind::Audio(audio));
    }

    fn resolve(&self, ticket: u64, resolution: Resolution, seed: [u8; 32]) {
        let (names, mail) = (self.outside.names.clone(), self.own.clone());
        self.outside.runtime.spawn(async move {
            let destinations = names.find(resolution, seed).await;
            let _ = mail.send(Mail::Resolved { ticket, destinations }).await;
        });
    }
}

fn request_kind(reason: FetchReason) -> RequestKind {
    match reason {
        FetchReason::Document => RequestKind::Voice,
        FetchReason::Action | FetchReason::Redirect | FetchReason::Transfer => RequestKind::Action,
        FetchReason::Fallback => RequestKind::Fallback,
    }
}

fn reason_name(reason: FetchReason) -> &'static str {
    match reason {
        FetchReason::Document => "document",
        FetchReason::Action => "action",
        FetchReason::Redirect => "redirect",
        FetchReason::Transfer => "transfer",
        FetchReason::Fallback => "fallback",
    }
}
