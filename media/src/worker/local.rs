//! A shard on its owner's thread: no queue, no wake-up, no second thread between a command and its answer.
//!
//! For a process that is edge and worker in one, and for a worker process under its links. The messages are the same as over a link, and so is what is behind
//! them; only who calls whom differs. The owner waits on [`Local::readable_fd`] and [`Local::timeout`] together with
//! whatever else it waits for, and gives the shard its [`Local::turn`].

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel, sync_channel};
use std::time::Duration;

use mio::Events as Polled;

use super::control::Control;
use super::counters::{Counters, Shared};
use super::shard::Shard;
use super::socket::{Sockets, UdpSockets};
use super::{Config, Events, encoded_and_decoded, over_the_wire};
use crate::proto::{Command, LoadReport, MediaEvent};

/// A shard that its owner runs.
pub struct Local {
    shard: Shard,
    polled: Polled,
    /// Filled and emptied by one thread, between a call and its return: never longer than what one call tells.
    events: Option<Receiver<MediaEvent>>,
    shared: Arc<Shared>,
    has_more: bool,
}

/// Reads a shard's counts from another thread.
#[derive(Clone)]
pub struct Meter {
    shared: Arc<Shared>,
}

impl Meter {
    /// The load now; the worst lateness is since the last call.
    pub fn load(&self) -> LoadReport {
        self.shared.load()
    }

    /// Totals since the start.
    pub fn counters(&self) -> Counters {
        self.shared.counters()
    }
}

impl Local {
    /// A shard whose events wait in [`Local::poll_event`].
    pub fn new(config: Config) -> io::Result<Local> {
        let (sender, events) = channel();
        let told = Box::new(move |event| {
            // The receiver lives as long as the shard.
            let _ = sender.send(event);
        });
        let mut local = Local::with(config, Box::new(UdpSockets), told)?;
        local.events = Some(events);
        Ok(local)
    }

    /// A shard with sockets from elsewhere, which tells its events at once.
    pub(super) fn with(config: Config, sockets: Box<dyn Sockets>, events: Events) -> io::Result<Local> {
        let shared = Arc::new(Shared::default());
        let (_, no_commands) = sync_channel(0);
        let (shard, _) = Shard::new(config, sockets, no_commands, over_the_wire(events), Arc::clone(&shared))?;
        Ok(Local { shard, polled: Polled::with_capacity(POLLED), events: None, shared, has_more: false })
    }

    pub fn meter(&self) -> Meter {
        Meter { shared: Arc::clone(&self.shared) }
    }

    /// Carries out a command; its answers wait in [`Local::poll_event`].
    pub fn command(&mut self, command: Command) {
        self.control(Control::Command(encoded_and_decoded(command)));
    }

    pub(super) fn control(&mut self, control: Control) {
        let now = self.shard.now();
        self.shard.take_control(control, now);
        self.shard.deliver_frames(now);
        self.shard.publish(now, false);
    }

    /// Takes what the sockets have, and what is due; what is too much for one turn is left for the next.
    pub fn turn(&mut self) {
        self.has_more = (0..ROUNDS).all(|_| self.shard.turn_now(&mut self.polled));
    }

    pub fn poll_event(&mut self) -> Option<MediaEvent> {
        self.events.as_ref()?.try_recv().ok()
    }

    /// A descriptor of its own that becomes readable when a socket of the shard is.
    pub fn readable_fd(&self) -> io::Result<OwnedFd> {
        // SAFETY: the shard's poll owns the descriptor and lives in `self`, which is borrowed for as long as this.
        unsafe { BorrowedFd::borrow_raw(self.shard.poll_fd()) }.try_clone_to_owned()
    }

    /// Sleeps for half a millisecond at most, where packets come so fast that they gather meanwhile: what else its thread has to
    /// do waits that long too. For the thread's owner, once from turn to turn: a timer of its runtime would cost more, and come later.
    pub fn rest(&self) {
        if !self.has_more {
            self.shard.rest();
        }
    }

    /// When [`Local::turn`] is next due, whatever the sockets say.
    pub fn timeout(&mut self) -> Option<Duration> {
        if self.has_more { Some(Duration::ZERO) } else { self.shard.timeout() }
    }
}

/// Every leg says goodbye.
impl Drop for Local {
    fn drop(&mut self) {
        let now = self.shard.now();
        self.shard.release_all(now);
        self.shard.publish(now, true);
    }
}

const POLLED: usize = 1024;
/// Under a flood the owner's other work has its turn after so many rounds.
const ROUNDS: usize = 4;
