//! The thread of the outbox: what has come together is written to the journal at once, and then told in the same order.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::super::journal::Journal;
use super::super::live::Live;
use super::super::{CallRecord, Event, EventKind};
use super::{Message, Stored, Subscriber, Telling, Unit};
use crate::ids::{CallSid, EventSid};

/// Messages handled at once.
const BATCH: usize = 4_096;
/// After the first event of a batch: what follows soon is written with it, by one wake-up and one write. A fact that stands
/// for itself does not wait.
const GATHER: Duration = Duration::from_millis(50);
/// What is written is on the disk within this time: a crash of the machine loses no more.
pub(super) const SYNC_EVERY: Duration = Duration::from_secs(1);
/// Subscribers are given their turn this often when nothing happens.
const IDLE: Duration = Duration::from_millis(200);

/// What the thread has.
pub(super) struct Writer {
    pub(super) journal: Journal,
    pub(super) subscribers: Vec<Box<dyn Subscriber>>,
    pub(super) live: Live,
    pub(super) stored: Stored,
    pub(super) waiting: Arc<AtomicUsize>,
    /// Somebody waits for what was sent.
    pub(super) hurry: Arc<AtomicBool>,
    /// The segment in which a call begins, or in which a fact stands, until the store has it.
    pub(super) begun: HashMap<Unit, u64>,
    /// How many of them each segment has.
    pub(super) unstored: BTreeMap<u64, usize>,
    /// When the first event that the disk may not have yet was written.
    pub(super) unsynced: Option<Instant>,
}

/// What the journal gets, and is told when it has it.
pub(in crate::events) enum Line {
    Event(Box<Event>, Telling),
    /// A call after the events before this, and who waits for that to be kept elsewhere too.
    State(CallSid, Vec<u8>, Option<oneshot::Sender<()>>),
    /// What was begun for an event of that call is done.
    Delivered(CallSid, EventSid),
}

/// What has come together.
#[derive(Default)]
struct Batch {
    messages: Vec<Message>,
    lines: Vec<Line>,
    asking: Vec<oneshot::Sender<()>>,
    tell_again: bool,
    stop: bool,
}

impl Batch {
    /// Empties `messages`. Of the states of a call the last is enough: what comes together is written together.
    fn sort(&mut self, taken: &mut usize) {
        let mut later = HashSet::new();
        for message in self.messages.iter_mut().rev() {
            if let Message::State { call, state, written: None } = message
                && !later.insert(*call)
            {
                *state = None;
            }
        }
        for message in self.messages.drain(..) {
            match message {
                Message::Event(event) => {
                    *taken += 1;
                    self.lines.push(Line::Event(event, Telling::First));
                }
                Message::State { call, state, written } => {
                    let state = state.and_then(|write| write());
                    self.lines.extend(state.map(|state| Line::State(call, state, written)));
                }
                Message::Delivered(call, event) => self.lines.push(Line::Delivered(call, event)),
                Message::Adopt(events, delivered, states) => {
                    self.lines.extend(told_again(events, &delivered));
                    self.lines.extend(states.into_iter().map(|(call, state)| Line::State(call, state, None)));
                }
                Message::TellAgain => self.tell_again = true,
                Message::CatchUp(told) => self.asking.push(told),
                Message::Stop => self.stop = true,
            }
        }
    }
}

/// Events that were told before, and behind them for which of them all is done.
pub(super) fn told_again(events: Vec<Event>, delivered: &HashSet<EventSid>) -> Vec<Line> {
    let done: Vec<Line> = events
        .iter()
        .filter(|event| delivered.contains(&event.id))
        .map(|event| Line::Delivered(event.call, event.id))
        .collect();
    let events = events.into_iter().map(|event| {
        let telling = if delivered.contains(&event.id) { Telling::Done } else { Telling::Undone };
        Line::Event(Box::new(event), telling)
    });
    events.chain(done).collect()
}

impl Writer {
    pub(super) fn run(mut self, queue: Receiver<Message>) {
        let mut batch = Batch::default();
        let mut is_busy = false;
        while !batch.stop {
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
                let rest = std::iter::from_fn(|| queue.try_recv().ok());
                batch.messages.extend(first.into_iter().chain(rest).take(BATCH));
                let mut taken = 0;
                batch.sort(&mut taken);
                self.waiting.fetch_sub(taken, Ordering::Relaxed);
                is_busy = taken > 0;
                self.write(batch.lines.drain(..));
                if std::mem::take(&mut batch.tell_again) {
                    self.tell_again();
                }
                for told in batch.asking.drain(..) {
                    // Who asked may have gone.
                    let _ = told.send(());
                }
            }
            match self.unsynced {
                Some(_) if batch.stop => self.sync(),
                Some(since) if since.elapsed() >= SYNC_EVERY => self.sync_soon(),
                _ => {}
            }
            self.subscribers.iter_mut().for_each(|subscriber| subscriber.flush(batch.stop));
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

    /// Writes all of it at once, and then tells it.
    pub(super) fn write(&mut self, lines: impl IntoIterator<Item = Line>) {
        let lines: Vec<Line> = lines.into_iter().collect();
        if lines.is_empty() {
            return;
        }
        if let Err(error) = self.journal.append(&lines) {
            // The calls go on and the store still learns of them; only a crash now would lose these.
            tracing::error!(%error, lines = lines.len(), "the journal cannot be written: a crash would lose what happens now");
        }
        self.unsynced.get_or_insert_with(Instant::now);
        for line in lines {
            match line {
                Line::Event(event, telling) => self.deliver(&event, telling),
                Line::State(call, state, mut written) => {
                    let keepers = self.subscribers.iter_mut();
                    keepers.for_each(|subscriber| subscriber.wrote_down(call, &state, &mut written));
                }
                Line::Delivered(call, event) => {
                    self.subscribers.iter_mut().for_each(|subscriber| subscriber.owed(event, call, false));
                    self.forget(&[Unit::Delivery(event)]);
                }
            }
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

    fn sync_soon(&mut self) {
        match self.journal.sync_soon() {
            Ok(is_under_way) => self.unsynced = self.unsynced.filter(|_| !is_under_way),
            Err(error) => tracing::error!(%error, "the journal cannot be synchronised to disk"),
        }
    }

    fn sync(&mut self) {
        self.unsynced = None;
        if let Err(error) = self.journal.sync() {
            tracing::error!(%error, "the journal cannot be synchronised to disk");
        }
    }

    /// What is written is on the disk, and nothing of earlier runs is needed any more.
    pub(super) fn settle(&mut self) {
        let newest = self.journal.segment();
        let _ = self.journal.sync().and_then(|()| self.journal.release(newest));
    }
}
