//! The worker of this process, which runs on the shard's own thread: a command is a call, its answers are read right after it,
//! and no thread wakes another. ARCHITECTURE.md has what that was measured to save.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use dialtone_media::proto::{Command, CommandKind, MediaEvent};
use dialtone_media::worker::{Config, Local, Meter};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A worker that its edge runs itself.
pub struct Here {
    local: Local,
    /// Readable when one of the worker's sockets is.
    readable: AsyncFd<OwnedFd>,
    next_command: u64,
}

impl Here {
    /// Starts the worker; call inside the shard's runtime.
    pub fn start(config: Config) -> io::Result<Here> {
        let local = Local::new(config)?;
        let readable = local.readable_fd()?;
        // SAFETY: the descriptor is owned by the `AsyncFd` alone, and open as long as that lives.
        let readable = unsafe { AsyncFd::register_with_interest(readable, Interest::READABLE) }?;
        Ok(Here { local, readable, next_command: 0 })
    }

    /// Reads the worker's counts from elsewhere.
    pub fn meter(&self) -> Meter {
        self.local.meter()
    }

    pub fn send(&mut self, session_id: u64, kind: CommandKind) {
        self.next_command += 1;
        self.local.command(Command { command_id: self.next_command, session_id, owner_epoch: 0, kind: Some(kind) });
    }

    pub fn poll_event(&mut self) -> Option<MediaEvent> {
        self.local.poll_event()
    }

    /// Waits for packets. Cancel-safe.
    pub async fn readable(&self) {
        match self.readable.readable().await {
            Ok(mut ready) => ready.clear_ready(),
            // The runtime is ending, and this loop with it.
            Err(_) => std::future::pending().await,
        }
    }

    /// Moves packets and lets time pass.
    pub fn turn(&mut self) {
        self.local.turn();
    }

    /// Lets packets gather, where there are many: half a millisecond at most.
    pub fn rest(&self) {
        self.local.rest();
    }

    /// When [`Here::turn`] is due, whatever the sockets say.
    pub fn timeout(&mut self) -> Option<Duration> {
        self.local.timeout()
    }
}
