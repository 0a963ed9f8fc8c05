//! From the outbox to the database: finished calls in batches, tried until they are written.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::{Batch, Finished, Store, Written};
use crate::eventlog::{self, Entry};
use crate::events::{CallRecord, Event, EventKind, Publisher, Shelves, Subscriber, Telling};
use crate::ids::AccountSid;
use crate::usage::{self, LedgerLine, PriceBook};

/// A batch is written when it has this many calls, or is this old. Until then the outbox still shows its calls, and the
/// journal has them.
const BATCH: usize = 1_000;
const BATCH_AGE: Duration = Duration::from_secs(2);
/// Batches that may wait for the database: some minutes of calls. With more the outbox waits, and no new call is
/// admitted.
const WAITING: usize = 100;
/// For one batch; a database behind a network that swallows everything is tried again by another connection.
const PATIENCE: Duration = Duration::from_secs(30);

/// Gathers finished calls and hands them to a [`StoreWriter`], so that a database that is busy elsewhere is woken once a
/// batch.
pub struct StoreSubscriber {
    queue: mpsc::Sender<Batch>,
    gathered: Batch,
    since: Instant,
    gathering: Gathering,
    /// Something is gathered that somebody waits for.
    is_urgent: bool,
}

/// What is to be known of accounts, to gather.
pub struct Gathering {
    /// Other edges take over from the store what waits here.
    pub is_shared: bool,
    /// The prices of an account.
    pub book: Box<dyn Fn(AccountSid) -> Option<Arc<PriceBook>> + Send>,
    /// Whether a trigger waits for what an account uses.
    pub is_watched: Box<dyn Fn(AccountSid) -> bool + Send>,
    /// Whether somebody listens to what an account's calls tell at that time, milliseconds since 1970.
    pub is_heard: Box<dyn Fn(AccountSid, u64) -> bool + Send>,
    /// Where customers reach the API.
    pub public_url: String,
}

impl StoreSubscriber {
    /// A line is priced when it is written, and one that a trigger may fire by is written at once.
    fn metered(&mut self, line: &LedgerLine) {
        self.is_urgent |= (self.gathering.is_watched)(line.account);
        if let Some(book) = (self.gathering.book)(line.account) {
            self.gathered().books.insert(line.account, book);
        }
    }

    /// What somebody listens to is written at once.
    fn logged(&mut self, entry: Option<Entry>) {
        self.is_urgent |= entry.is_some();
        self.gathered().entries.extend(entry);
    }

    /// The batch that is gathered; its age counts from the first that is in it.
    fn gathered(&mut self) -> &mut Batch {
        if self.gathered.is_empty() {
            self.since = Instant::now();
        }
        &mut self.gathered
    }
}

impl Subscriber for StoreSubscriber {
    fn told(&mut self, event: &Event, record: &mut CallRecord, _: Telling) {
        if (self.gathering.is_heard)(event.account, event.at_ms) {
            self.logged(eventlog::entry(event, record, &self.gathering.public_url));
        }
        if let EventKind::Completed(_) = event.kind {
            let line = usage::line(event, record);
            self.metered(&line);
            self.gathered().finished.push(Finished { record: record.clone(), line });
        }
    }

    fn noted(&mut self, event: &Event, _: Telling) {
        if (self.gathering.is_heard)(event.account, event.at_ms) {
            self.logged(eventlog::entry_of_fact(event, &self.gathering.public_url));
        }
        self.is_urgent |= self.gathering.is_shared && matches!(&event.kind, EventKind::Order(order) if order.waits());
        if let Some(line) = usage::line_of_fact(event) {
            self.metered(&line);
            self.gathered().lines.push(line);
        }
        self.gathered().facts.push(event.clone());
    }

    fn flush(&mut self, last: bool) {
        let due = last || self.is_urgent || self.gathered.len() >= BATCH || self.since.elapsed() >= BATCH_AGE;
        if due && !self.gathered.is_empty() {
            self.is_urgent = false;
            // The outbox's own thread: it may wait for the database.
            let _ = self.queue.blocking_send(std::mem::take(&mut self.gathered));
        }
    }
}

/// Writes what its subscriber hands over.
pub struct StoreWriter {
    queue: mpsc::Receiver<Batch>,
}

/// Both ends. A shared store has at once what another edge is to go on with, should this one die.
pub fn subscriber(gathering: Gathering) -> (StoreSubscriber, StoreWriter) {
    let (queue, receiver) = mpsc::channel(WAITING);
    let gathered = Batch::default();
    let subscriber = StoreSubscriber { queue, gathered, since: Instant::now(), gathering, is_urgent: false };
    (subscriber, StoreWriter { queue: receiver })
}

impl StoreWriter {
    /// Writes until the outbox has ended and everything is written; tells what comes of that. What waits is written together.
    pub async fn run(
        mut self,
        store: Store,
        publisher: Publisher,
        shelves: Shelves,
        written: impl Fn(Written) + Send + 'static,
    ) {
        while let Some(mut batch) = self.queue.recv().await {
            while batch.len() < BATCH
                && let Ok(later) = self.queue.try_recv()
            {
                batch.extend(later);
            }
            written(write_until_done(&store, &batch).await);
            publisher.stored(batch.finished.iter().map(|finished| finished.record.sid));
            publisher.stored_facts(batch.facts.iter().map(|event| event.id));
            shelves.stored(&batch.facts);
        }
    }
}

/// The database may be away for a while; rows are not lost by that, and written once however often it is tried.
pub(super) async fn write_until_done(store: &Store, batch: &Batch) -> Written {
    let count = |outcome: &'static str| {
        let backend = store.backend().name();
        metrics::counter!("dialtone_store_operations_total", "backend" => backend, "op" => "write", "outcome" => outcome)
            .increment(1);
    };
    let mut pause = Duration::from_millis(100);
    loop {
        let asked = Instant::now();
        let error = match timeout(PATIENCE, store.write(batch)).await {
            Ok(Ok(written)) => {
                count("ok");
                let backend = store.backend().name();
                metrics::histogram!("dialtone_store_operation_duration_seconds", "backend" => backend, "op" => "write")
                    .record(asked.elapsed().as_secs_f64());
                return written;
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer".to_owned(),
        };
        tracing::error!(%error, rows = batch.len(), "calls and recordings that are over cannot be written: trying again");
        count("error");
        sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(10));
    }
}
