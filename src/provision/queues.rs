//! Queues that a document names before anybody has made them: from then on they are there.

use std::sync::Arc;

use serde_json::json;

use super::Provisioning;
use crate::events::{CallRecord, Event, EventKind, Subscriber};
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
    fn told(&mut self, _: &Event, _: &mut CallRecord, _: bool) {}

    fn noted(&mut self, event: &Event, _again: bool) {
        let EventKind::Queue(fact) = &event.kind else { return };
        if self.provisioning.directory().load().queue(event.account, &fact.name).is_some() {
            return;
        }
        let row = Resource {
            kind: Kind::Queue,
            parent: String::new(),
            sid: fact.sid.to_string(),
            account: event.account.to_string(),
            unique_name: Some(format!("{} {}", event.account, fact.name)),
            detail: json!({ "friendly_name": fact.name, "max_size": fact.max_size }).to_string(),
            created_ms: fact.created_ms,
            updated_ms: fact.created_ms,
        };
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
