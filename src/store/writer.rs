//! From the outbox to the database: finished calls in batches, tried until they are written.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout_at};

use super::{Finished, Store};
use crate::events::{CallRecord, Event, EventKind, Publisher, Subscriber};
use crate::usage;

/// A batch is written when it has this many calls, or is this old. Until then the outbox still shows its calls, and the
/// journal has them.
const BATCH: usize = 1_000;
const BATCH_AGE: Duration = Duration::from_secs(2);
/// Gatherings that may wait for the database: some minutes of calls. With more the outbox waits, and no new call is
/// admitted.
const WAITING: usize = 10_000;

/// Hands finished calls to a [`StoreWriter`].
pub struct StoreSubscriber {
    queue: mpsc::Sender<Vec<Finished>>,
    gathered: Vec<Finished>,
}

impl Subscriber for StoreSubscriber {
    fn told(&mut self, event: &Event, record: &mut CallRecord, _again: bool) {
        if let EventKind::Completed(_) = event.kind {
            let finished = Finished { record: record.clone(), line: usage::line(event, record) };
            self.gathered.push(finished);
        }
    }

    fn flush(&mut self) {
        if !self.gathered.is_empty() {
            // The outbox's own thread: it may wait for the database.
            let _ = self.queue.blocking_send(std::mem::take(&mut self.gathered));
        }
    }
}

/// Writes what its subscriber is told.
pub struct StoreWriter {
    queue: mpsc::Receiver<Vec<Finished>>,
}

/// Both ends.
pub fn subscriber() -> (StoreSubscriber, StoreWriter) {
    let (queue, receiver) = mpsc::channel(WAITING);
    (StoreSubscriber { queue, gathered: Vec::new() }, StoreWriter { queue: receiver })
}

impl StoreWriter {
    /// Writes until the outbox has ended and everything is written.
    pub async fn run(mut self, store: Store, publisher: Publisher) {
        let mut batch = Vec::with_capacity(BATCH);
        while self.collect(&mut batch).await {
            write_until_done(&store, &batch).await;
            publisher.stored(batch.drain(..).map(|finished| finished.record.sid).collect());
        }
    }

    /// Fills a batch; false when nothing more will come.
    async fn collect(&mut self, batch: &mut Vec<Finished>) -> bool {
        let Some(first) = self.queue.recv().await else { return false };
        batch.extend(first);
        let until = Instant::now() + BATCH_AGE;
        while batch.len() < BATCH {
            match timeout_at(until, self.queue.recv()).await {
                Ok(Some(more)) => batch.extend(more),
                Ok(None) | Err(_) => break,
            }
        }
        true
    }
}

/// The database may be away for a while; rows are not lost by that, and written once however often it is tried.
async fn write_until_done(store: &Store, batch: &[Finished]) {
    let mut pause = Duration::from_millis(100);
    while let Err(error) = store.write(batch).await {
        tracing::error!(%error, calls = batch.len(), "finished calls cannot be written: trying again");
        metrics::counter!("dialtone_store_operations_total", "backend" => "sqlite", "op" => "write", "outcome" => "error").increment(1);
        sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(10));
    }
    metrics::counter!("dialtone_store_operations_total", "backend" => "sqlite", "op" => "write", "outcome" => "ok")
        .increment(1);
}
