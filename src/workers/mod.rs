//! Media workers, as the edge sees them. Edge and worker talk by messages of `media::proto` only.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dialtone_media::proto::{Command, CommandKind, LoadReport};
use dialtone_media::worker::{Counters, Full, Handle};

/// The way to the worker of this process.
#[derive(Clone)]
pub struct Link {
    worker: Handle,
    next_command: Arc<AtomicU64>,
}

impl Link {
    pub fn new(worker: Handle) -> Link {
        Link { worker, next_command: Arc::new(AtomicU64::new(1)) }
    }

    /// Sends a command to a session. An error: the worker is too far behind, and the command was not taken.
    pub fn send(&self, session_id: u64, kind: CommandKind) -> Result<(), Full> {
        let command_id = self.next_command.fetch_add(1, Ordering::Relaxed);
        self.worker.send(Command { command_id, session_id, owner_epoch: 0, kind: Some(kind) })
    }

    pub fn load(&self) -> LoadReport {
        self.worker.load()
    }

    pub fn counters(&self) -> Counters {
        self.worker.counters()
    }

    pub fn shut_down(&self) {
        self.worker.shutdown();
    }
}
