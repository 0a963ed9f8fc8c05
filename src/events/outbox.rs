//! The outbox: from the shards by a bounded queue to the journal, and on to the subscribers.
//!
//! A thread of its own writes the journal, so that a slow disk never delays a call. The queue holds
//! [`QUEUE`] events; when less than [`RESERVE`] of that is free, [`Publisher::has_room`] says so and the shards admit no
//! new call, so that the events of running calls always fit.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use std::{io, thread};

use tokio::sync::oneshot;

use super::journal::Journal;
pub use super::journal::Left;
pub use super::journal::States;
use super::live::Live;
use super::{
    CallRecord, CallStatus, Completed, ConferenceFact, ConferenceStatus, ConferenceStep, EndedBy, Event, EventKind,
    Media, MessageFact, MessageStatus, OrderFact, RecordingFact,
};
use crate::ids::{CallSid, EventSid, RecordingSid};

/// Events that may wait for the journal.
pub const QUEUE: usize = 65_536;
/// Room that new calls may not take.
const RESERVE: usize = QUEUE / 2;
/// Events handled at once.
const BATCH: usize = 4_096;
/// After the first event of a batch: what follows soon is written with it, by one wake-up and one write. A fact that stands
/// for itself does not wait.
const GATHER: Duration = Duration::from_millis(50);
/// What is written is on the disk within this time: a crash of the machine loses no more.
const SYNC_EVERY: Duration = Duration::from_secs(1);
/// Subscribers are given their turn this often when nothing happens.
const IDLE: Duration = Duration::from_millis(200);

/// The way into the outbox; one for each shard.
#[derive(Clone)]
pub struct Publisher {
    queue: SyncSender<Message>,
    waiting: Arc<AtomicUsize>,
    stored: Stored,
    hurry: Arc<AtomicBool>,
    writer: thread::Thread,
}

impl Publisher {
    /// Publishes a fact. False: the outbox is full or has ended, and the event is lost; `has_room` makes that a bug.
    pub fn publish(&self, event: Event) -> bool {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        // Rare, and asked for by others than the call's own: who was told of it finds it.
        let is_urgent = event.kind.stands_alone();
        let sent = self.queue.try_send(Message::Event(Box::new(event))).is_ok();
        if !sent {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
        }
        if is_urgent {
            self.hurry();
        }
        sent
    }

    /// Has the state of a call written behind what it has published, for an edge that starts anew. Where the outbox is full it
    /// is not: the call goes on here as well, and what was written last would be taken up.
    pub fn write_down(&self, call: CallSid, state: Vec<u8>) {
        let _ = self.queue.try_send(Message::State(call, state, None));
    }

    /// As [`Publisher::write_down`], at once; `written` is told when whoever keeps it elsewhere too has it.
    pub fn write_down_now(&self, call: CallSid, state: Vec<u8>, written: oneshot::Sender<()>) {
        let _ = self.queue.try_send(Message::State(call, state, Some(written)));
        self.hurry();
    }

    /// Takes up what calls of another edge have told, and their states: this edge goes on with them. What was published before
    /// comes before it, and what is published after it behind it. `delivered`: see [`Publisher::delivered`].
    pub fn adopt(&self, events: Vec<Event>, delivered: HashSet<EventSid>, states: States) {
        // Blocks while the queue is full: there is no other place for them.
        let _ = self.queue.send(Message::Adopt(events, delivered, states));
        self.hurry();
    }

    /// Has the writer take what it has, after it was sent.
    fn hurry(&self) {
        self.hurry.store(true, Ordering::Release);
        self.writer.unpark();
    }

    /// Waits until everybody has been told of all that was published before: who asks now sees what anybody may have been
    /// told. Not for long: an outbox that is full or has ended keeps nobody waiting.
    pub async fn catch_up(&self) {
        let (told, all_told) = oneshot::channel();
        if self.queue.try_send(Message::CatchUp(told)).is_ok() {
            self.hurry();
            let _ = tokio::time::timeout(SYNC_EVERY, all_told).await;
        }
    }

    /// Whether a new call may begin.
    pub fn has_room(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) < QUEUE - RESERVE
    }

    /// Events that wait for the journal.
    pub fn backlog(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Has subscribers that keep calls elsewhere told of all that the journal has of them.
    pub fn tell_again(&self) {
        let _ = self.queue.try_send(Message::TellAgain);
        self.hurry();
    }

    /// What was begun for that event (see [`Subscriber::takes_time`]) is done, or given up.
    pub fn delivered(&self, call: CallSid, event: EventSid) {
        // Where the outbox is full it is done once more after a crash.
        let _ = self.queue.try_send(Message::Delivered(call, event));
    }

    /// The store has these calls' records: their part of the journal is no longer needed.
    pub fn stored(&self, calls: impl IntoIterator<Item = CallSid>) {
        self.have(calls.into_iter().map(Unit::Call));
    }

    /// The store has these facts, which stand for themselves.
    pub fn stored_facts(&self, events: impl IntoIterator<Item = EventSid>) {
        self.have(events.into_iter().map(Unit::Fact));
    }

    fn have(&self, units: impl Iterator<Item = Unit>) {
        self.stored.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).extend(units);
    }
}

/// How an event is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Telling {
    /// It has just happened.
    First,
    /// Again, after a restart; what was to be done for it outside is done.
    Done,
    /// Again, after a restart; and what was to be done for it outside may not be.
    Undone,
}

impl Telling {
    pub fn is_again(self) -> bool {
        self != Telling::First
    }
}

/// Whoever reads facts. Runs on the outbox's thread: it must hand work over, not do it.
pub trait Subscriber: Send {
    /// `record` is the call as it stands after `event`.
    fn told(&mut self, event: &Event, record: &mut CallRecord, telling: Telling);

    /// A fact that stands for itself (see [`EventKind::stands_alone`]).
    fn noted(&mut self, event: &Event, telling: Telling) {
        let _ = (event, telling);
    }

    /// Whether it has begun something for what it was just told that a crash must not lose: [`Publisher::delivered`] is called
    /// when that is done.
    fn takes_time(&mut self) -> bool {
        false
    }

    /// Somebody has begun something for that event; `false`: it is done.
    fn owed(&mut self, event: EventSid, call: CallSid, is_owed: bool) {
        let _ = (event, call, is_owed);
    }

    /// All that the journal has: what is kept elsewhere was forgotten there.
    fn told_again(&mut self, journal: &Left) {
        let _ = journal;
    }

    /// The store has that call.
    fn stored(&mut self, call: CallSid) {
        let _ = call;
    }

    /// The state of a call has been written down, behind what it has told; `written` wants to know when it is kept elsewhere too.
    fn wrote_down(&mut self, call: CallSid, state: &[u8], written: &mut Option<oneshot::Sender<()>>) {
        let _ = (call, state, written);
    }

    /// Everything that happened together has been told; called every [`IDLE`] or more often. `last`: nothing more
    /// will come.
    fn flush(&mut self, last: bool) {
        let _ = last;
    }
}

/// What becomes of a call that ran when the process died.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Here: its state can be gone on from.
    GoesOn,
    Ends,
    /// Another edge has taken it up.
    IsElsewhere,
}

/// What the journal keeps until the store has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Unit {
    Call(CallSid),
    Fact(EventSid),
    /// What was begun for an event.
    Delivery(EventSid),
}

/// What the store has and the outbox has not forgotten yet: as much as is live, at most.
type Stored = Arc<Mutex<Vec<Unit>>>;

enum Message {
    Event(Box<Event>),
    /// The state of a call after the events before this.
    State(CallSid, Vec<u8>, Option<oneshot::Sender<()>>),
    /// What calls of another edge have told, which go on here.
    Adopt(Vec<Event>, HashSet<EventSid>, States),
    /// What was begun for an event of that call is done.
    Delivered(CallSid, EventSid),
    /// What the journal has is wanted once more.
    TellAgain,
    /// Tell when all that came before has been told.
    CatchUp(oneshot::Sender<()>),
    Stop,
}

/// A running outbox.
pub struct Outbox {
    publisher: Publisher,
    live: Live,
    orders: HashMap<CallSid, OrderFact>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Outbox {
    /// Opens the journal in `folder`, takes up what an earlier run left, and starts.
    ///
    /// A call that was running when the process died gets its end now: `failed`, ended by us. A recording gets the one
    /// that `finish` says; of those in `deleted` nothing is told again. Of a call whose state is in the journal
    /// `fate` says what becomes of it.
    pub fn start(
        folder: &Path,
        wall_ms: u64,
        subscribers: Vec<Box<dyn Subscriber>>,
        deleted: &HashSet<RecordingSid>,
        finish: impl Fn(RecordingFact) -> RecordingFact,
        mut fate: impl FnMut(CallSid, &[u8]) -> Fate,
    ) -> io::Result<Outbox> {
        let (journal, Left { events: mut left, states, delivered }) = Journal::open(folder)?;
        left.retain(|event| !matches!(&event.kind, EventKind::Recording(fact) if deleted.contains(&fact.sid)));
        let orders = last_of_orders(&left);
        let (queue, receiver) = sync_channel(QUEUE);
        let waiting = Arc::new(AtomicUsize::new(0));
        let hurry = Arc::new(AtomicBool::new(false));
        let (live, stored) = (Live::default(), Stored::default());
        let mut writer = Writer {
            journal,
            subscribers,
            live: live.clone(),
            stored: stored.clone(),
            waiting: waiting.clone(),
            hurry: hurry.clone(),
            begun: HashMap::new(),
            unstored: BTreeMap::new(),
            unsynced: None,
        };
        let over = left.iter().filter(|event| matches!(event.kind, EventKind::Completed(_))).map(|event| event.call);
        let over: HashSet<CallSid> = over.collect();
        let running = states.into_iter().filter(|(call, _)| !over.contains(call));
        let (mut taken_up, mut elsewhere) = (States::new(), HashSet::new());
        for (call, state) in running {
            match fate(call, &state) {
                Fate::GoesOn => drop(taken_up.insert(call, state)),
                Fate::Ends => {}
                Fate::IsElsewhere => drop(elsewhere.insert(call)),
            }
        }
        left.retain(|event| !elsewhere.contains(&event.call));
        writer.recover(left, &delivered, taken_up, wall_ms, finish);
        let thread = thread::Builder::new().name("outbox".into()).spawn(move || writer.run(receiver))?;
        let publisher = Publisher { queue, waiting, stored, hurry, writer: thread.thread().clone() };
        Ok(Outbox { publisher, live, orders, thread: Some(thread) })
    }

    /// The last that an earlier run told of each order, by its call; the store may know of others.
    pub fn take_orders(&mut self) -> HashMap<CallSid, OrderFact> {
        std::mem::take(&mut self.orders)
    }

    pub fn publisher(&self) -> Publisher {
        self.publisher.clone()
    }

    pub fn live(&self) -> Live {
        self.live.clone()
    }

    /// Writes what is queued, and ends. Publishers that still live lose what they publish after this.
    pub fn stop(&mut self) {
        // Blocks while the queue is full: what is in it must be written.
        let _ = self.publisher.queue.send(Message::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        self.stop();
    }
}

struct Writer {
    journal: Journal,
    subscribers: Vec<Box<dyn Subscriber>>,
    live: Live,
    stored: Stored,
    waiting: Arc<AtomicUsize>,
    /// Somebody waits for what was sent.
    hurry: Arc<AtomicBool>,
    /// The segment in which a call begins, or in which a fact stands, until the store has it.
    begun: HashMap<Unit, u64>,
    /// How many of them each segment has.
    unstored: BTreeMap<u64, usize>,
    /// When the first event that the disk may not have yet was written.
    unsynced: Option<Instant>,
}

impl Writer {
    fn run(mut self, queue: Receiver<Message>) {
        let (mut batch, mut delivered, mut asking) = (Vec::new(), Vec::new(), Vec::new());
        let (mut stop, mut is_busy) = (false, false);
        while !stop {
            // Where one batch follows another nobody is to be woken by the first event of the next: it is looked for.
            let first = match is_busy {
                true => None,
                false => match queue.recv_timeout(IDLE) {
                    Ok(message) => Some(message),
                    Err(RecvTimeoutError::Timeout) => None,
                    Err(RecvTimeoutError::Disconnected) => Some(Message::Stop),
                },
            };
            if is_busy || first.is_some() {
                self.gather();
                let mut taken = 0;
                let rest = std::iter::from_fn(|| queue.try_recv().ok());
                for message in first.into_iter().chain(rest).take(BATCH) {
                    match message {
                        Message::Event(event) => {
                            taken += 1;
                            batch.push(*event);
                        }
                        // It belongs behind the events before it.
                        Message::State(call, state, written) => {
                            self.write(&batch, |_| Telling::First);
                            batch.clear();
                            self.append_state(call, &state, written);
                        }
                        Message::Delivered(call, event) => delivered.push((call, event)),
                        Message::TellAgain => {
                            self.write(&batch, |_| Telling::First);
                            batch.clear();
                            self.tell_again();
                        }
                        Message::Adopt(events, delivered, states) => {
                            self.write(&batch, |_| Telling::First);
                            batch.clear();
                            self.write(&events, |event| again(event, &delivered));
                            self.append_delivered(
                                events.iter().map(|event| event.id).filter(|id| delivered.contains(id)),
                            );
                            states.iter().for_each(|(call, state)| self.append_state(*call, state, None));
                        }
                        Message::CatchUp(told) => asking.push(told),
                        Message::Stop => stop = true,
                    }
                }
                self.waiting.fetch_sub(taken, Ordering::Relaxed);
                self.write(&batch, |_| Telling::First);
                is_busy = taken > 0;
                batch.clear();
                self.delivered(&delivered);
                delivered.clear();
                for told in asking.drain(..) {
                    // Who asked may have gone.
                    let _ = told.send(());
                }
            }
            if self.unsynced.is_some_and(|since| stop || since.elapsed() >= SYNC_EVERY) {
                self.sync();
            }
            self.subscribers.iter_mut().for_each(|subscriber| subscriber.flush(stop));
            self.forget_stored();
        }
    }

    /// Lets a batch come together, unless somebody waits for it. Whatever else wakes the thread counts for nothing.
    fn gather(&self) {
        let end = Instant::now() + GATHER;
        while !self.hurry.swap(false, Ordering::Acquire) {
            match end.checked_duration_since(Instant::now()) {
                Some(left) if !left.is_zero() => thread::park_timeout(left),
                _ => return,
            }
        }
    }

    fn write(&mut self, events: &[Event], telling: impl Fn(&Event) -> Telling) {
        if events.is_empty() {
            return;
        }
        if let Err(error) = self.journal.append(events) {
            // The calls go on and the store still learns of them; only a crash now would lose these.
            tracing::error!(%error, events = events.len(), "the journal cannot be written: a crash would lose these events");
        }
        self.unsynced.get_or_insert_with(Instant::now);
        for event in events {
            self.deliver(event, telling(event));
        }
    }

    fn append_state(&mut self, call: CallSid, state: &[u8], mut written: Option<oneshot::Sender<()>>) {
        if let Err(error) = self.journal.append_state(call, state) {
            tracing::error!(%error, call_sid = %call, "the journal cannot be written: this call would not outlive the edge");
        }
        for subscriber in &mut self.subscribers {
            subscriber.wrote_down(call, state, &mut written);
        }
    }

    fn deliver(&mut self, event: &Event, telling: Telling) {
        if event.kind.stands_alone() {
            self.keep(Unit::Fact(event.id));
            let mut is_owed = false;
            for subscriber in &mut self.subscribers {
                subscriber.noted(event, telling);
                is_owed |= subscriber.takes_time();
            }
            return self.owe(event, is_owed);
        }
        if let EventKind::Initiated(_) = event.kind {
            self.keep(Unit::Call(event.call));
        }
        let mut live = self.live.calls();
        if let Some(record) = CallRecord::begin(event) {
            live.insert(event.call, record);
        } else if let Some(record) = live.get_mut(&event.call) {
            record.apply(event);
        }
        let Some(record) = live.get_mut(&event.call) else { return };
        let mut is_owed = false;
        for subscriber in &mut self.subscribers {
            subscriber.told(event, record, telling);
            is_owed |= subscriber.takes_time();
        }
        drop(live);
        self.owe(event, is_owed);
    }

    fn tell_again(&mut self) {
        match self.journal.read() {
            Ok(left) => self.subscribers.iter_mut().for_each(|subscriber| subscriber.told_again(&left)),
            Err(error) => tracing::error!(%error, "the journal cannot be read"),
        }
    }

    /// The journal has it until it is done.
    fn owe(&mut self, event: &Event, is_owed: bool) {
        if is_owed {
            self.keep(Unit::Delivery(event.id));
            self.subscribers.iter_mut().for_each(|subscriber| subscriber.owed(event.id, event.call, true));
        }
    }

    fn delivered(&mut self, delivered: &[(CallSid, EventSid)]) {
        self.append_delivered(delivered.iter().map(|(_, event)| *event));
        for (call, event) in delivered {
            self.subscribers.iter_mut().for_each(|subscriber| subscriber.owed(*event, *call, false));
            self.forget(&[Unit::Delivery(*event)]);
        }
    }

    fn append_delivered(&mut self, events: impl Iterator<Item = EventSid>) {
        let mut events = events.peekable();
        if events.peek().is_none() {
            return;
        }
        if let Err(error) = self.journal.append_delivered(events) {
            tracing::error!(%error, "the journal cannot be written: after a crash some callbacks would come again");
        }
    }

    /// The segment that is being written is kept until the store has this.
    fn keep(&mut self, unit: Unit) {
        let segment = self.journal.segment();
        self.begun.insert(unit, segment);
        *self.unstored.entry(segment).or_default() += 1;
    }

    fn forget_stored(&mut self) {
        let units = std::mem::take(&mut *self.stored.lock().unwrap_or_else(|poisoned| poisoned.into_inner()));
        if !units.is_empty() {
            self.forget(&units);
        }
    }

    fn forget(&mut self, units: &[Unit]) {
        for unit in units {
            if let Unit::Call(call) = unit {
                self.live.forget(*call);
                self.subscribers.iter_mut().for_each(|subscriber| subscriber.stored(*call));
            }
            let Some(segment) = self.begun.remove(unit) else { continue };
            if let Some(count) = self.unstored.get_mut(&segment) {
                *count -= 1;
            }
        }
        self.unstored.retain(|_, count| *count > 0);
        let oldest = self.unstored.first_key_value().map_or(self.journal.segment(), |(segment, _)| *segment);
        if let Err(error) = self.journal.release(oldest) {
            tracing::warn!(%error, "an old journal segment cannot be deleted");
        }
    }

    fn sync(&mut self) {
        self.unsynced = None;
        if let Err(error) = self.journal.sync() {
            tracing::error!(%error, "the journal cannot be synchronised to disk");
        }
    }

    /// Tells again what an earlier run left, and ends the calls that it had not ended.
    ///
    /// The store ignores what it has already; callbacks that were delivered are not sent a second time.
    fn recover(
        &mut self,
        left: Vec<Event>,
        delivered: &HashSet<EventSid>,
        taken_up: States,
        wall_ms: u64,
        finish: impl Fn(RecordingFact) -> RecordingFact,
    ) {
        let mut unfinished: BTreeMap<CallSid, (Event, u32)> = BTreeMap::new();
        for event in left.iter().filter(|event| !event.kind.stands_alone()) {
            match &event.kind {
                EventKind::Completed(_) => {
                    unfinished.remove(&event.call);
                }
                _ => {
                    let last = unfinished.entry(event.call).or_insert_with(|| (event.clone(), 0));
                    last.1 = event.sequence;
                }
            }
        }
        unfinished.retain(|call, _| !taken_up.contains_key(call));
        let mut recordings = unfinished_recordings(&left);
        recordings.retain(|(event, _)| !taken_up.contains_key(&event.call));
        let mut ends: Vec<Event> =
            unfinished.into_values().map(|(first, sequence)| end_of_lost_call(&first, sequence + 1, wall_ms)).collect();
        if !ends.is_empty() {
            tracing::warn!(
                calls = ends.len(),
                "calls were running when the server last stopped: they are recorded as failed"
            );
        }
        ends.extend(recordings.into_iter().map(|(event, fact)| end_of_lost_recording(&event, finish(fact), wall_ms)));
        ends.extend(ends_of_lost_conferences(&left, wall_ms));
        ends.extend(ends_of_lost_messages(&left, wall_ms));
        // What was left is written again into the new segment, so that the old ones can go.
        self.write(&left, |event| again(event, delivered));
        self.append_delivered(left.iter().map(|event| event.id).filter(|id| delivered.contains(id)));
        self.write(&ends, |_| Telling::First);
        taken_up.iter().for_each(|(call, state)| self.append_state(*call, state, None));
        let newest = self.journal.segment();
        let _ = self.journal.sync().and_then(|()| self.journal.release(newest));
    }
}

fn again(event: &Event, delivered: &HashSet<EventSid>) -> Telling {
    if delivered.contains(&event.id) { Telling::Done } else { Telling::Undone }
}

fn last_of_orders(left: &[Event]) -> HashMap<CallSid, OrderFact> {
    let orders = left.iter().filter_map(|event| match &event.kind {
        EventKind::Order(fact) => Some((event.call, fact.as_ref().clone())),
        _ => None,
    });
    orders.collect()
}

/// The last that was told of each recording that has no end.
fn unfinished_recordings(left: &[Event]) -> Vec<(Event, RecordingFact)> {
    let mut last = BTreeMap::new();
    for event in left {
        if let EventKind::Recording(fact) = &event.kind {
            last.insert(fact.sid, (event, fact));
        }
    }
    let unfinished = last.into_values().filter(|(_, fact)| !fact.status.is_final());
    unfinished.map(|(event, fact)| (event.clone(), fact.as_ref().clone())).collect()
}

/// Of each conference that was running, its members' calls are over or join another: so is it.
pub fn ends_of_lost_conferences(left: &[Event], wall_ms: u64) -> Vec<Event> {
    let mut last = BTreeMap::new();
    for event in left {
        if let EventKind::Conference(fact) = &event.kind {
            last.insert(fact.sid, (event, fact));
        }
    }
    let running = last.into_values().filter(|(_, fact)| fact.status != ConferenceStatus::Completed);
    let ends = running.map(|(event, fact)| {
        let end = ConferenceFact {
            step: ConferenceStep::ConferenceEnd,
            sequence: fact.sequence + 1,
            status: ConferenceStatus::Completed,
            participant: None,
            callback: None,
            reason: None,
            ..fact.as_ref().clone()
        };
        let id = EventSid::new(event.id.bits() ^ u128::MAX);
        Event { id, at_ms: wall_ms, kind: EventKind::Conference(Box::new(end)), ..event.clone() }
    });
    ends.collect()
}

/// Of a message that was on its way nobody knows whether it has come.
fn ends_of_lost_messages(left: &[Event], wall_ms: u64) -> Vec<Event> {
    let mut last = BTreeMap::new();
    for event in left {
        if let EventKind::Message(fact) = &event.kind {
            last.insert(fact.sid, (event, fact));
        }
    }
    let ends = last.into_values().filter(|(_, fact)| !fact.status.is_final()).map(|(event, fact)| {
        let (status, error_code) = match fact.status {
            MessageStatus::Receiving => (MessageStatus::Received, NO_ANSWER),
            _ => (MessageStatus::Undelivered, MessageFact::UNKNOWN_ERROR),
        };
        let end = MessageFact { status, error_code, ..fact.as_ref().clone() };
        let id = EventSid::new(event.id.bits() ^ u128::MAX);
        Event { id, at_ms: wall_ms, kind: EventKind::Message(Box::new(end)), ..event.clone() }
    });
    ends.collect()
}

/// Twilio's number for an application that gave no answer.
const NO_ANSWER: u32 = 11_200;

fn end_of_lost_recording(last: &Event, fact: RecordingFact, wall_ms: u64) -> Event {
    let id = EventSid::new(last.id.bits() ^ u128::MAX);
    Event { id, at_ms: wall_ms, kind: EventKind::Recording(Box::new(fact)), ..last.clone() }
}

/// The end of a call that no process takes up: `first` is one of its events, `sequence` is behind its last.
pub fn end_of_lost_call(first: &Event, sequence: u32, wall_ms: u64) -> Event {
    // The same id each time it is derived: a crash during recovery makes no second end.
    let id = EventSid::new(first.id.bits() ^ u128::MAX);
    let completed = Completed {
        status: CallStatus::Failed,
        sip_status: 0,
        ended_by: EndedBy::Server,
        media: Media::default(),
        recorded: None,
    };
    Event {
        id,
        account: first.account,
        call: first.call,
        sequence,
        at_ms: wall_ms,
        kind: EventKind::Completed(Box::new(completed)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::{Direction, Initiated};
    use crate::ids::AccountSid;

    fn event(call: u128, sequence: u32, kind: EventKind) -> Event {
        let id = EventSid::new(call << 8 | u128::from(sequence));
        Event { id, account: AccountSid::new(1), call: CallSid::new(call), sequence, at_ms: 1000, kind }
    }

    fn initiated(call: u128) -> Event {
        let initiated = Initiated {
            direction: Direction::Inbound,
            from: "a".into(),
            to: "b".into(),
            parent: None,
            via: String::new(),
            sip_call_id: String::new(),
            stir_verstat: None,
            queue_ms: 0,
            is_withdrawn: false,
            status_callback: None,
        };
        event(call, 0, EventKind::Initiated(Box::new(initiated)))
    }

    fn start(folder: &Path, fate: impl FnMut(CallSid, &[u8]) -> Fate) -> Outbox {
        Outbox::start(folder, 2000, Vec::new(), &HashSet::new(), |fact| fact, fate).unwrap()
    }

    #[test]
    fn call_whose_state_is_behind_its_events_goes_on_and_others_end() {
        let folder = std::env::temp_dir().join(format!("dialtone-outbox-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        let first = start(&folder, |_, _| panic!("there is none"));
        let publisher = first.publisher();
        for call in 1..=3 {
            assert!(publisher.publish(initiated(call)));
            assert!(publisher.publish(event(call, 1, EventKind::Answered)));
        }
        publisher.write_down(CallSid::new(1), b"{\"early\":1}".to_vec());
        publisher.write_down(CallSid::new(1), b"{\"late\":1}".to_vec());
        publisher.write_down(CallSid::new(3), b"{}".to_vec());
        drop(first);
        for _ in 0..2 {
            // The second time it is what the first run has written again.
            let mut taken = Vec::new();
            let next = start(&folder, |call, state| {
                taken.push((call, String::from_utf8_lossy(state).into_owned()));
                if call == CallSid::new(1) { Fate::GoesOn } else { Fate::Ends }
            });
            taken.sort_unstable();
            assert_eq!(taken[0], (CallSid::new(1), "{\"late\":1}".to_owned()), "the last one");
            let live = next.live();
            let status = |call| live.get(CallSid::new(call)).map(|record| (record.status, record.ended_ms.is_some()));
            assert_eq!(status(1), Some((CallStatus::InProgress, false)));
            assert_eq!(status(2), Some((CallStatus::Failed, true)), "it was not written down");
            assert_eq!(status(3), Some((CallStatus::Failed, true)), "nobody can take it up");
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
