//! The worker: what runs sessions over UDP sockets, behind feature `daemon`.
//!
//! Owns the sockets, the ports and the clock; decides nothing about media. Commands come in and events go out as messages, so
//! that it makes no difference whether the edge is in this process or at the end of a link. There is one shard, and three who
//! run it: an edge that moves media itself ([`Local`]), a worker process on the thread of its links ([`link::Driver`]), and
//! a thread of its own ([`Handle`]) for programs that only have media, as tests and benchmarks are.

// The one place in this crate that may read a clock, open a socket and run a thread.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod capacity;
mod clock;
mod control;
mod counters;
mod far;
mod gather;
pub mod link;
mod local;
mod memory;
mod net;
mod ports;
mod recordings;
mod shard;
mod socket;
mod streams;
mod timers;
mod wav_file;

use std::io;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use prost::Message;

use crate::proto::{Command, LoadReport, MediaEvent};

pub use crate::leg::Latching;
pub use counters::{Counters, LATENESS_BOUNDS_US};
pub use local::{Local, Meter};
pub use memory::Memory;
pub use mio::net::UdpSocket;
pub use socket::{Sockets, UdpSockets};
pub use wav_file::{Repaired, repair};

use control::Control;
use counters::Shared;
use shard::Shard;

/// What one shard is given.
#[derive(Clone, Debug)]
pub struct Config {
    /// The local address that sockets are bound to.
    pub address: IpAddr,
    /// The address that our SDP names, of the same family.
    pub advertise: IpAddr,
    /// The first is for all browsers. RTP takes the even ports, RTCP the ones above. Shards of one host have ranges that do not meet.
    pub ports: RangeInclusive<u16>,
    /// Sockets of free ports that may stay open for the next leg; with 0 none is made before its leg comes either.
    pub kept_sockets: usize,
    pub latching: Latching,
    pub clip_cache_bytes: usize,
    /// Sessions beyond this are refused with `NoCapacity`.
    pub max_sessions: usize,
    /// Where recordings are written: made with the first of them, for nobody else to read.
    pub recordings: PathBuf,
    /// Where legs are written down for whoever takes this worker's place, if somebody may.
    pub memory: Option<Memory>,
    /// Where frames of other workers come, if there are any.
    pub frames: Option<Arc<std::net::UdpSocket>>,
    /// Of SSRCs and first sequence numbers: random, and new in each process.
    pub seed: u64,
}

/// Called on the shard's thread for each event: hands it on and returns at once.
pub type Events = Box<dyn FnMut(MediaEvent) + Send>;

/// A running shard. Clones are the same shard.
#[derive(Clone)]
pub struct Handle {
    commands: SyncSender<Control>,
    waker: Arc<mio::Waker>,
    shared: Arc<Shared>,
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
}

/// The queue of commands is full: the shard is stuck or far behind, and the command was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// Starts a shard with sockets of its own.
pub fn spawn(config: Config, events: Events) -> io::Result<Handle> {
    spawn_with(config, Box::new(UdpSockets), events)
}

/// Starts a shard whose sockets come from `sockets`.
pub fn spawn_with(config: Config, sockets: Box<dyn Sockets>, events: Events) -> io::Result<Handle> {
    let (commands, queue) = sync_channel(MAX_COMMANDS);
    let shared = Arc::new(Shared::default());
    let (shard, waker) = Shard::new(config, sockets, queue, over_the_wire(events), Arc::clone(&shared))?;
    let thread = std::thread::Builder::new().name("media".into()).spawn(move || shard.run())?;
    Ok(Handle { commands, waker, shared, thread: Arc::new(Mutex::new(Some(thread))) })
}

impl Handle {
    /// Queues a command; never waits. Commands are taken in the order in which they were sent.
    pub fn send(&self, command: Command) -> Result<(), Full> {
        self.control(Control::Command(encoded_and_decoded(command)))
    }

    /// The load now; the worst lateness is since the last call.
    pub fn load(&self) -> LoadReport {
        self.shared.load()
    }

    /// Totals since the start.
    pub fn counters(&self) -> Counters {
        self.shared.counters()
    }

    /// Says goodbye on every leg, closes the sockets and waits for the thread to end. No event follows.
    ///
    /// Not to be called from the event callback; a second call does nothing.
    pub fn shutdown(&self) {
        self.shared.stop();
        // An error means that the shard is gone already.
        let _ = self.waker.wake();
        let thread = self.thread.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }

    fn control(&self, control: Control) -> Result<(), Full> {
        match self.commands.try_send(control) {
            Ok(()) => {
                let _ = self.waker.wake();
                Ok(())
            }
            // A shard that was shut down takes nothing, and nothing is lost by it.
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => Err(Full),
        }
    }
}

/// Debug builds pass every message through its encoding, as a link would.
fn encoded_and_decoded<M: Message + Default>(message: M) -> M {
    if cfg!(debug_assertions) {
        M::decode(message.encode_to_vec().as_slice()).expect("what prost encodes it decodes")
    } else {
        message
    }
}

fn over_the_wire(mut events: Events) -> Events {
    if cfg!(debug_assertions) { Box::new(move |event| events(encoded_and_decoded(event))) } else { events }
}

const MAX_COMMANDS: usize = 4096;
