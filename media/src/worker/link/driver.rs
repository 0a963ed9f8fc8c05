//! The shard of a worker process, on the thread of its links: a command that has come is a call, and what it leads to is told
//! right after it. Two threads would wake each other for each step of a call.

use std::io;
use std::mem::ManuallyDrop;
use std::time::Duration;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::super::control::Control;
use super::super::{Config, Events, Full, Local, MAX_COMMANDS, Meter, Sockets};
use crate::ids::SessionId;
use crate::proto::{Command, LoadReport};

/// A running shard. Clones are the same shard.
#[derive(Clone)]
pub struct Driver {
    controls: mpsc::Sender<Control>,
    meter: Meter,
}

impl Driver {
    /// Starts a shard; call inside the worker's runtime.
    pub fn start(config: Config, sockets: Box<dyn Sockets>, events: Events) -> io::Result<Driver> {
        let local = Local::with(config, sockets, events)?;
        // SAFETY: the descriptor is owned by the `AsyncFd` alone, and open as long as that lives.
        let readable = unsafe { AsyncFd::register_with_interest(local.readable_fd()?, Interest::READABLE) }?;
        let (controls, queue) = mpsc::channel(MAX_COMMANDS);
        let meter = local.meter();
        tokio::spawn(run(local, readable, queue));
        Ok(Driver { controls, meter })
    }

    /// Queues a command, and waits where the queue is full. Commands are taken in the order in which they were sent.
    pub async fn send(&self, command: Command) {
        // The shard ends with the process.
        let _ = self.controls.send(Control::Command(command)).await;
    }

    /// The edge that owns a session is gone: it lives on for 60 s, unless an edge takes it.
    pub fn edge_lost(&self, session_id: u64) -> Result<(), Full> {
        self.control(Control::EdgeLost(SessionId(session_id)))
    }

    /// The edge that owned a session is linked again: what it does not take up soon is not wanted any more.
    pub fn edge_back(&self, session_id: u64) -> Result<(), Full> {
        self.control(Control::EdgeBack(SessionId(session_id)))
    }

    /// From now on new sessions are refused; those that there are go on.
    pub fn drain(&self) -> Result<(), Full> {
        self.control(Control::Drain)
    }

    /// What was inherited and not taken up is closed.
    pub fn forget_inherited(&self) -> Result<(), Full> {
        self.control(Control::ForgetInherited)
    }

    /// The load now; the worst lateness is since the last call.
    pub fn load(&self) -> LoadReport {
        self.meter.load()
    }

    fn control(&self, control: Control) -> Result<(), Full> {
        self.controls.try_send(control).map_err(|_| Full)
    }
}

async fn run(local: Local, readable: AsyncFd<std::os::fd::OwnedFd>, mut queue: mpsc::Receiver<Control>) {
    // When this process ends its sessions do not: whoever takes its place goes on with them, and no leg says goodbye.
    let mut local = ManuallyDrop::new(local);
    let mut batch = Vec::new();
    let alarm = tokio::time::sleep(Duration::ZERO);
    tokio::pin!(alarm);
    loop {
        local.rest();
        let wake = Instant::now() + local.timeout().unwrap_or(LONG);
        // One that rings too early is left as it is, and moved when it has rung.
        if alarm.is_elapsed() || wake < alarm.deadline() {
            alarm.as_mut().reset(wake);
        }
        tokio::select! {
            biased;
            // Few, and what they change holds for the packets after them.
            count = queue.recv_many(&mut batch, BATCH) => {
                if count == 0 {
                    return;
                }
                batch.drain(..).for_each(|control| local.control(control));
                continue;
            }
            ready = readable.readable() => match ready {
                Ok(mut ready) => ready.clear_ready(),
                // The runtime is ending.
                Err(_) => return,
            },
            () = &mut alarm => {}
        }
        local.turn();
        // Under a flood of packets the links have their turn.
        tokio::task::yield_now().await;
    }
}

const BATCH: usize = 64;
const LONG: Duration = Duration::from_secs(60);
