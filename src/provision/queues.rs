//! Queues that a document names before anybody has made them: from then on they are there.

use std::sync::Arc;

use serde_json::json;

use super::Provisioning;
use crate::events::{CallRecord, Event, EventKind, Queue, Subscriber, Telling};
use crate::store::{Kind, Resource, StoreError};

/// Makes the row of a queue that somebody waits in.
pub struct QueueKeeper {
    provisioning: Arc<Provisioning>,
    runtime: tokio::runtime::Handle,
}

impl QueueKeeper {
    pub fn new(provisioning: Arc<Provisioning>, runtime: tokio::runtime::Handle) -> QueueKeeper {
        QueueKeeper { provisioning, runtime }
    }
}

impl Subscriber for QueueKeeper {
    fn told(&mut self, _: &Event, _: &mut CallRecord, _: Telling) {}

    fn noted(&mut self, event: &Event, _: Telling) {
        let EventKind::Queue(fact) = &event.kind else { return };
        if self.provisioning.directory().load().queue(event.account, &fact.name).is_some() {
            return;
        }
        let row = queue_row(&Queue::told(None, event.account, event.call, event.at_ms, fact));
        let provisioning = self.provisioning.clone();
        self.runtime.spawn(async move {
            match provisioning.create(row).await {
                // Of two calls that came at once the first made it.
                Ok(()) | Err(StoreError::Taken) => {}
                Err(error) => tracing::warn!(%error, "a queue is not kept: it is there while somebody waits in it"),
            }
        });
    }
}

/// What is kept of a queue that nobody has made.
pub fn queue_row(queue: &Queue) -> Resource {
    Resource {
        kind: Kind::Queue,
        parent: String::new(),
        sid: queue.sid.to_string(),
        account: queue.account.to_string(),
        unique_name: Some(format!("{} {}", queue.account, queue.name)),
        detail: json!({ "friendly_name": queue.name, "max_size": queue.max_size }).to_string(),
        created_ms: queue.created_ms,
        updated_ms: queue.created_ms,
    }
}
