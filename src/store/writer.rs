//! From the outbox to the database: finished calls in batches, tried until they are written.

use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::{Batch, Finished, Store};
use crate::events::{CallRecord, Event, EventKind, Publisher, Shelves, Subscriber, Telling};
use crate::usage;

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
    /// Other edges take over from the store what waits here.
    is_shared: bool,
    /// Something is gathered that others may need.
    is_urgent: bool,
}

impl StoreSubscriber {
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
        if let EventKind::Completed(_) = event.kind {
            let finished = Finished { record: record.clone(), line: usage::line(event, record) };
            self.gathered().finished.push(finished);
        }
    }

    fn noted(&mut self, event: &Event, _: Telling) {
        self.is_urgent |= self.is_shared && matches!(&event.kind, EventKind::Order(order) if order.waits());
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
pub fn subscriber(is_shared: bool) -> (StoreSubscriber, StoreWriter) {
    let (queue, receiver) = mpsc::channel(WAITING);
    let gathering =
        StoreSubscriber { queue, gathered: Batch::default(), since: Instant::now(), is_shared, is_urgent: false };
    (gathering, StoreWriter { queue: receiver })
}

impl StoreWriter {
    /// Writes until the outbox has ended and everything is written.
    pub async fn run(mut self, store: Store, publisher: Publisher, shelves: Shelves) {
        while let Some(batch) = self.queue.recv().await {
            write_until_done(&store, &batch).await;
            publisher.stored(batch.finished.iter().map(|finished| finished.record.sid));
            publisher.stored_facts(batch.facts.iter().map(|event| event.id));
            shelves.stored(&batch.facts);
        }
    }
}

/// The database may be away for a while; rows are not lost by that, and written once however often it is tried.
pub(super) async fn write_until_done(store: &Store, batch: &Batch) {
    let count = |outcome: &'static str| {
        let backend = store.backend().name();
        metrics::counter!("dialtone_store_operations_total", "backend" => backend, "op" => "write", "outcome" => outcome)
            .increment(1);
    };
    let mut pause = Duration::from_millis(100);
    loop {
        let error = match timeout(PATIENCE, store.write(batch)).await {
            Ok(Ok(())) => return count("ok"),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer".to_owned(),
        };
        tracing::error!(%error, rows = batch.len(), "calls and recordings that are over cannot be written: trying again");
        count("error");
        sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(10));
    }
}
