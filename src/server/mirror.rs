//! Answered calls, kept where other edges find them too: what they have told, and their states, behind one another as in the
//! journal.
//!
//! A subscriber of the outbox gathers what has changed of each call; a task writes it. While that is under way more may
//! gather, and only the newest state of each call is kept: a store that is slow or away costs memory for each call, not for
//! each step.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};

use crate::events::{CallRecord, DELIVERED, Event, EventKind, Left, Subscriber, Telling};
use crate::hot::{Answer, Command, EdgeId, Hot, HotError, KeptCall, Written};
use crate::ids::{CallSid, EventSid};

/// Writes under way at once.
const AT_ONCE: usize = 64;
/// After the store did not answer.
const PAUSE: Duration = Duration::from_millis(500);
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// The slots of this edge, and which of its calls are in those that it has taken over; all others are in its own.
#[derive(Clone)]
pub(super) struct Slots(Arc<Mutex<Taken>>);

struct Taken {
    own: u16,
    of_call: HashMap<CallSid, u16>,
    /// Calls left of each.
    left: HashMap<u16, usize>,
}

impl Slots {
    pub(super) fn new(own: u16) -> Slots {
        Slots(Arc::new(Mutex::new(Taken { own, of_call: HashMap::new(), left: HashMap::new() })))
    }

    pub(super) fn all(&self) -> Vec<u16> {
        let taken = self.lock();
        std::iter::once(taken.own).chain(taken.left.keys().copied()).collect()
    }

    pub(super) fn take(&self, slot: u16, calls: &[KeptCall]) {
        let mut taken = self.lock();
        taken.left.insert(slot, calls.len());
        taken.of_call.extend(calls.iter().map(|kept| (kept.call, slot)));
    }

    /// Whether the call was kept by another edge, or by an earlier life of this one.
    fn took(&self, call: CallSid) -> bool {
        self.lock().of_call.contains_key(&call)
    }

    fn of(&self, call: CallSid) -> u16 {
        let taken = self.lock();
        taken.of_call.get(&call).copied().unwrap_or(taken.own)
    }

    /// A call that was over before.
    pub(super) fn forget(&self, call: CallSid) {
        let mut taken = self.lock();
        if let Some(slot) = taken.of_call.remove(&call)
            && let Some(left) = taken.left.get_mut(&slot)
        {
            *left = left.saturating_sub(1);
        }
    }

    /// A call is over; the slot that is empty by that, if it was taken over.
    fn over(&self, call: CallSid) -> Option<u16> {
        let mut taken = self.lock();
        let slot = taken.of_call.remove(&call)?;
        let left = taken.left.get_mut(&slot)?;
        *left = left.saturating_sub(1);
        (*left == 0).then(|| taken.left.remove(&slot)).flatten().map(|_| slot)
    }

    /// Those that have no calls.
    pub(super) fn take_empty(&self) -> Vec<u16> {
        let mut taken = self.lock();
        let empty: Vec<u16> = taken.left.iter().filter(|(_, left)| **left == 0).map(|(slot, _)| *slot).collect();
        taken.left.retain(|_, left| *left > 0);
        empty
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The subscriber.
pub(super) struct Mirror {
    /// Calls that have no state yet, with what they have told, and those that have one.
    calls: HashMap<CallSid, Known>,
    slots: Slots,
    pending: Pending,
    has_news: bool,
}

enum Known {
    Early(Vec<u8>),
    Kept(Kept),
}

/// A call that others can find, until nothing of it is left to do.
#[derive(Default)]
struct Kept {
    is_over: bool,
    is_stored: bool,
    /// Events for which something is under way outside.
    owed: HashSet<EventSid>,
}

impl Kept {
    fn is_done(&self) -> bool {
        self.is_over && self.is_stored && self.owed.is_empty()
    }
}

/// What is to be written.
#[derive(Clone, Default)]
struct Pending {
    calls: Arc<Mutex<HashMap<CallSid, Change>>>,
    news: Arc<Notify>,
    /// Changes that are being written.
    under_way: Arc<AtomicUsize>,
}

/// What is to be written, for whoever waits for that.
#[derive(Clone)]
pub(super) struct Writing(Pending);

impl Writing {
    /// Waits until there is nothing.
    pub(super) async fn all_written(&self) {
        while !self.0.lock().is_empty() || self.0.under_way.load(Ordering::Acquire) > 0 {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

/// What has changed of a call.
#[derive(Default)]
struct Change {
    /// What is there is of another life: it goes first.
    anew: bool,
    events: Vec<u8>,
    state: Option<Vec<u8>>,
    is_over: bool,
    written: Vec<oneshot::Sender<()>>,
}

impl Pending {
    fn lock(&self) -> MutexGuard<'_, HashMap<CallSid, Change>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Mirror {
    fn told_of(&mut self, event: &Event, is_part_of_call: bool) {
        let Ok(mut line) = serde_json::to_vec(event) else { return };
        line.push(b'\n');
        match self.calls.get_mut(&event.call) {
            Some(Known::Kept(_)) => self.append(event.call, line),
            Some(Known::Early(events)) => events.extend(line),
            // What was kept by another edge, or by an earlier life of this one, is told anew.
            None if is_part_of_call && self.slots.took(event.call) => {
                self.calls.insert(event.call, Known::Kept(Kept::default()));
                self.pending.lock().entry(event.call).or_default().anew = true;
                self.append(event.call, line);
            }
            // A fact about a call that is over, or never was answered, is nothing to go on with.
            None if is_part_of_call => drop(self.calls.insert(event.call, Known::Early(line))),
            None => {}
        }
    }

    fn append(&mut self, call: CallSid, line: Vec<u8>) {
        self.pending.lock().entry(call).or_default().events.extend(line);
        self.has_news = true;
    }

    /// Something of a call is done: perhaps it was the last.
    fn step(&mut self, call: CallSid, step: impl FnOnce(&mut Kept)) {
        let Some(Known::Kept(kept)) = self.calls.get_mut(&call) else { return };
        step(kept);
        if kept.is_done() {
            self.calls.remove(&call);
            self.pending.lock().entry(call).or_default().is_over = true;
            self.has_news = true;
        }
    }
}

impl Subscriber for Mirror {
    fn told(&mut self, event: &Event, _: &mut CallRecord, _: Telling) {
        self.told_of(event, true);
        if let EventKind::Completed(_) = event.kind {
            match self.calls.get(&event.call) {
                Some(Known::Early(_)) => drop(self.calls.remove(&event.call)),
                _ => self.step(event.call, |kept| kept.is_over = true),
            }
        }
    }

    fn noted(&mut self, event: &Event, _: Telling) {
        self.told_of(event, false);
    }

    fn owed(&mut self, event: EventSid, call: CallSid, is_owed: bool) {
        match (self.calls.get_mut(&call), is_owed) {
            (Some(Known::Kept(kept)), true) => drop(kept.owed.insert(event)),
            (Some(Known::Kept(_)), false) => {
                self.append(call, format!("{DELIVERED}{event}\n").into_bytes());
                self.step(call, |kept| {
                    kept.owed.remove(&event);
                });
            }
            (Some(Known::Early(events)), false) => events.extend(format!("{DELIVERED}{event}\n").into_bytes()),
            (Some(Known::Early(_)) | None, _) => {}
        }
    }

    fn told_again(&mut self, journal: &Left) {
        let kept: HashSet<CallSid> =
            self.calls.iter().filter(|(_, known)| matches!(known, Known::Kept(_))).map(|(call, _)| *call).collect();
        let mut pending = self.pending.lock();
        for call in &kept {
            let written = pending.remove(call).map(|change| change.written).unwrap_or_default();
            let state = journal.states.get(call).cloned();
            pending.insert(*call, Change { anew: true, state, written, ..Change::default() });
        }
        for event in journal.events.iter().filter(|event| kept.contains(&event.call)) {
            let Some(change) = pending.get_mut(&event.call) else { continue };
            if let Ok(line) = serde_json::to_vec(event) {
                change.events.extend(line);
                change.events.push(b'\n');
            }
            if journal.delivered.contains(&event.id) {
                change.events.extend(format!("{DELIVERED}{}\n", event.id).into_bytes());
            }
        }
        drop(pending);
        self.has_news = true;
    }

    fn stored(&mut self, call: CallSid) {
        self.step(call, |kept| kept.is_stored = true);
    }

    fn wrote_down(&mut self, call: CallSid, state: &[u8], written: &mut Option<oneshot::Sender<()>>) {
        let Some(known) = self.calls.get_mut(&call) else { return };
        let mut pending = self.pending.lock();
        let change = pending.entry(call).or_default();
        if let Known::Early(events) = known {
            change.anew = true;
            change.events = std::mem::take(events);
            // What is still under way of what it told before is asked for again where it is not known to be done.
            *known = Known::Kept(Kept::default());
        }
        change.state = Some(state.to_vec());
        change.written.extend(written.take());
        self.has_news = true;
    }

    fn flush(&mut self, _: bool) {
        if std::mem::take(&mut self.has_news) {
            self.pending.news.notify_one();
        }
    }
}

/// The task that writes.
pub(super) struct Writer {
    hot: Hot,
    me: EdgeId,
    slots: Slots,
    pending: Pending,
}

pub(super) fn mirror(hot: Hot, me: EdgeId, slots: Slots) -> (Mirror, Writer) {
    let pending = Pending::default();
    let mirror = Mirror { calls: HashMap::new(), slots: slots.clone(), pending: pending.clone(), has_news: false };
    (mirror, Writer { hot, me, slots, pending })
}

impl Writer {
    pub(super) fn writing(&self) -> Writing {
        Writing(self.pending.clone())
    }

    /// Writes until the process ends, or the slots are another's: `fenced` is called then.
    pub(super) async fn run(self, fenced: impl Fn()) {
        let writer = Arc::new(self);
        loop {
            writer.pending.news.notified().await;
            while let Some(batch) = writer.take_batch() {
                let writes = batch.into_iter().map(|(call, change)| {
                    let writer = Arc::clone(&writer);
                    tokio::spawn(async move { writer.write(call, change).await })
                });
                let (mut is_away, mut is_fenced) = (false, false);
                for write in writes.collect::<Vec<_>>() {
                    match write.await {
                        Ok(Written::Done) | Err(_) => {}
                        Ok(Written::Fenced) => is_fenced = true,
                        Ok(Written::Forgotten) => is_away = true,
                    }
                }
                if is_fenced {
                    return fenced();
                }
                if is_away {
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    fn take_batch(&self) -> Option<Vec<(CallSid, Change)>> {
        let mut pending = self.pending.lock();
        let some: Vec<CallSid> = pending.keys().take(AT_ONCE).copied().collect();
        let batch: Vec<(CallSid, Change)> =
            some.into_iter().filter_map(|call| Some((call, pending.remove(&call)?))).collect();
        self.pending.under_way.store(batch.len(), Ordering::Release);
        (!batch.is_empty()).then_some(batch)
    }

    /// What could not be written is put back, before what has come meanwhile; it is as if the store had forgotten.
    async fn write(&self, call: CallSid, mut change: Change) -> Written {
        let told = self.ask(call, &change).await;
        if let Err(error) = &told {
            tracing::debug!(%error, call_sid = %call, "a call cannot be kept for other edges now");
        }
        let written = match told.unwrap_or(Written::Forgotten) {
            Written::Forgotten => {
                let mut pending = self.pending.lock();
                let later = pending.remove(&call).unwrap_or_default();
                change.events.extend(later.events);
                change.state = later.state.or(change.state);
                change.is_over |= later.is_over;
                change.written.extend(later.written);
                pending.insert(call, change);
                return Written::Forgotten;
            }
            written => written,
        };
        for asked in change.written.drain(..) {
            // Who asked may have waited long enough.
            let _ = asked.send(());
        }
        if change.is_over
            && let Some(slot) = self.slots.over(call)
        {
            let _ = self.hot.ask(Command::Free { edge: self.me.clone(), slot }).await;
        }
        written
    }

    async fn ask(&self, call: CallSid, change: &Change) -> Result<Written, HotError> {
        let (edge, slot) = (self.me.clone(), self.slots.of(call));
        if change.anew || change.is_over {
            let dropped = self.hot.ask(Command::Drop { edge: edge.clone(), slot, call }).await?;
            if change.is_over || dropped != Answer::Written(Written::Done) {
                return Ok(written(dropped));
            }
        }
        let (events, state) = (change.events.clone(), change.state.clone());
        self.hot.ask(Command::Write { edge, slot, call, events, state }).await.map(written)
    }
}

fn written(answer: Answer) -> Written {
    match answer {
        Answer::Written(written) => written,
        _ => Written::Forgotten,
    }
}
