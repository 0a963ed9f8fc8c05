//! The outbox: from the shards by a bounded queue to the journal, and on to the subscribers.
//!
//! A thread of its own writes the journal, so that a slow disk never delays a call. The queue holds
//! [`QUEUE`] events; when less than [`RESERVE`] of that is free, [`Publisher::has_room`] says so and the shards admit no
//! new call, so that the events of running calls always fit.

mod recovery;
mod writer;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::{io, thread};

use tokio::sync::oneshot;

use super::journal::Journal;
pub use super::journal::Left;
pub use super::journal::States;
use super::live::Live;
use super::{CallRecord, Event, EventKind, OrderFact, RecordingFact};
use crate::ids::{CallSid, EventSid, RecordingSid};
use recovery::last_of_orders;
pub use recovery::{end_of_lost_call, ends_of_lost_conferences};
pub(super) use writer::Line;
use writer::{SYNC_EVERY, Writer};

/// Events that may wait for the journal.
pub const QUEUE: usize = 65_536;
/// Room that new calls may not take.
const RESERVE: usize = QUEUE / 2;
/// Writes the state of a call, without a line break, or says itself why it cannot: on the thread of the outbox, and only where
/// no other state follows at once.
pub type WriteState = Box<dyn FnOnce() -> Option<Vec<u8>> + Send>;

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

    /// As [`Publisher::publish`], of what somebody waits for: it is told at once.
    pub fn publish_now(&self, event: Event) -> bool {
        let sent = self.publish(event);
        self.hurry();
        sent
    }

    /// Has the state of a call written behind what it has published, for an edge that starts anew. Where the outbox is full it
    /// is not: the call goes on here as well, and what was written last would be taken up.
    pub fn write_down(&self, call: CallSid, state: WriteState) {
        let _ = self.queue.try_send(Message::State { call, state: Some(state), written: None });
    }

    /// As [`Publisher::write_down`], at once; `written` is told when whoever keeps it elsewhere too has it.
    pub fn write_down_now(&self, call: CallSid, state: WriteState, written: oneshot::Sender<()>) {
        let _ = self.queue.try_send(Message::State { call, state: Some(state), written: Some(written) });
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
    /// The state of a call after the events before this; `None` where another follows at once.
    State {
        call: CallSid,
        state: Option<WriteState>,
        written: Option<oneshot::Sender<()>>,
    },
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::{CallStatus, Direction, Initiated};
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
        let write_down = |call, state: &'static str| {
            publisher.write_down(CallSid::new(call), Box::new(|| Some(state.as_bytes().to_vec())));
        };
        write_down(1, "{\"early\":1}");
        write_down(1, "{\"late\":1}");
        write_down(3, "{}");
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
