//! The keeper: the parent of an edge and of the media workers of its machine, which holds what must outlive them.
//!
//! It holds another descriptor of each socket that a worker opens, and for each worker a piece of memory in which that
//! writes down what cannot be known otherwise: the numbers of its last packets. When a worker dies, both go to a standby
//! that waits for this, and calls go on within the usual jitter. The edge's listeners are held by the service manager besides, where
//! it does that: they outlive the keeper. The keeper reads none of it; it knows no protocol, and has
//! nothing that could fail on what comes from outside.

mod channel;
mod listeners;
mod notify;
mod sockets;

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::io;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ExitCode, ExitStatus};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::clock;
use channel::MAX_BESIDE;
pub use channel::{Channel, ENVIRONMENT, FromChild, Sender, ToChild, inherited};
pub use listeners::Listeners;
pub use sockets::KeptSockets;

/// What a child is told of its place by the keeper's environment.
pub const PROCESS: &str = "DIALTONE_PROCESS";

/// Names the keeper to its children, and no other keeper ever.
const LIFE: &str = "DIALTONE_KEEPER_LIFE";

/// What this process's calls can outlive it in: while the same keeper lives, so do their media and the time that they count.
/// An edge without a keeper has its media on other machines, and the life of its own one to count in.
pub fn life() -> String {
    std::env::var(LIFE).unwrap_or_else(|_| boot_id())
}

/// New with each start of the machine.
fn boot_id() -> String {
    // Where it cannot be read no two are the same.
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
    id.map_or_else(|_| format!("process {}", std::process::id()), |id| id.trim().to_owned())
}

/// Which part a process has under its keeper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Own {
    pub is_worker: bool,
    /// No other child of the keeper ever has the same.
    pub process: u32,
}

/// The part of this process, if it has a keeper.
pub fn part() -> Option<Own> {
    let text = std::env::var(PROCESS).ok()?;
    let (part, process) = text.split_once('-')?;
    Some(Own { is_worker: part == "worker", process: process.parse().ok()? })
}

/// What a keeper is to keep.
pub struct Plan {
    /// The arguments of every child: those of the keeper itself.
    pub arguments: Vec<OsString>,
    /// Whether there is an edge among the children; without one, the machine's workers are for edges elsewhere.
    pub has_edge: bool,
    pub workers: u16,
    /// Shared out among the workers.
    pub ports: RangeInclusive<u16>,
    /// Bytes of memory for what a worker writes down.
    pub memory: fn(RangeInclusive<u16>) -> u64,
    /// How long workers may take to drain.
    pub patience: Duration,
}

/// Runs until everything has ended; the exit code is the edge's.
pub fn run(plan: Plan) -> Result<ExitCode, String> {
    raise_open_files();
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())?;
    runtime.block_on(async {
        let (events, queue) = mpsc::channel(EVENTS);
        let mut keeper = Keeper::new(plan, events).map_err(|error| format!("cannot start the keeper: {error}"))?;
        keeper.run(queue).await.map_err(|error| format!("the keeper failed: {error}"))
    })
}

/// Each socket of a leg is one here too: raises what this process may open to what the system allows it, and says how
/// many that is.
pub fn raise_open_files() -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).is_ok();
    // No limit is more than any range of ports.
    let limit = if raised { maximum } else { current };
    limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX))
}

enum Event {
    Told {
        process: u32,
        message: FromChild,
        beside: Vec<OwnedFd>,
    },
    /// Its end of the channel is closed: it is dead, or as good as dead.
    Gone {
        process: u32,
    },
    Exited {
        process: u32,
        status: ExitStatus,
    },
    /// A pause after a death that came too soon is over.
    Restart(Part),
    /// What was to drain has had its time.
    Overdue,
}

/// What a child is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Edge,
    /// A worker, by its place.
    Worker(usize),
    Standby,
}

impl Part {
    fn name(self) -> &'static str {
        match self {
            Part::Edge => "edge",
            Part::Worker(_) => "worker",
            Part::Standby => "standby",
        }
    }
}

struct Child {
    part: Part,
    pid: Option<Pid>,
    channel: Sender,
    since: Instant,
}

/// A worker's place: it outlives the processes that have it.
struct Place {
    ports: (u16, u16),
    memory: OwnedFd,
    sockets: HashMap<u16, OwnedFd>,
    /// Its last process, whose place the next one takes.
    last: Option<u32>,
}

struct Keeper {
    plan: Plan,
    /// What is installed there is what the next child runs: an upgrade takes effect process by process.
    program: PathBuf,
    life: String,
    events: mpsc::Sender<Event>,
    children: BTreeMap<u32, Child>,
    /// How many there have been.
    processes: u32,
    places: Vec<Place>,
    edge_at: Option<(SocketAddr, String)>,
    /// The edge's, by what they are for.
    listeners: HashMap<String, OwnedFd>,
    /// Told to end.
    is_ending: bool,
    code: Option<ExitCode>,
}

impl Keeper {
    fn new(plan: Plan, events: mpsc::Sender<Event>) -> io::Result<Keeper> {
        let places = share(&plan.ports, plan.workers).into_iter().map(|ports| {
            let memory = rustix::fs::memfd_create("dialtone-worker", rustix::fs::MemfdFlags::CLOEXEC)?;
            rustix::fs::ftruncate(&memory, (plan.memory)(ports.0..=ports.1))?;
            Ok(Place { ports, memory, sockets: HashMap::new(), last: None })
        });
        let places = places.collect::<io::Result<_>>()?;
        Ok(Keeper {
            program: std::env::current_exe()?,
            life: new_life(),
            plan,
            events,
            children: BTreeMap::new(),
            processes: 0,
            places,
            edge_at: None,
            listeners: notify::held(),
            is_ending: false,
            code: None,
        })
    }

    async fn run(&mut self, mut events: mpsc::Receiver<Event>) -> io::Result<ExitCode> {
        let mut hangup = signal(SignalKind::hangup())?;
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        if self.plan.has_edge {
            self.start(Part::Edge)?;
        }
        // Workers link to the edge when it listens; they may as well start now.
        for place in 0..self.places.len() {
            self.start(Part::Worker(place))?;
        }
        self.start(Part::Standby)?;
        if !self.plan.has_edge {
            // Its workers find their edge when it is there.
            notify::ready();
        }
        loop {
            tokio::select! {
                event = events.recv() => {
                    if let Some(event) = event {
                        self.take(event)?;
                    }
                }
                _ = hangup.recv() => self.signal(Part::Edge, Signal::HUP),
                _ = terminate.recv() => self.end(),
                _ = interrupt.recv() => self.end(),
            }
            if self.is_ending && self.children.is_empty() {
                return Ok(self.code.unwrap_or(ExitCode::SUCCESS));
            }
        }
    }

    /// Told to stop, once or again: the edge knows what to do, and when it is gone, or without one, the workers drain.
    fn end(&mut self) {
        let was_ending = std::mem::replace(&mut self.is_ending, true);
        if !was_ending {
            notify::stopping();
        }
        match self.children.values().any(|child| child.part == Part::Edge) {
            true => self.signal(Part::Edge, Signal::TERM),
            false => self.end_workers(was_ending),
        }
    }

    /// Sessions of other edges may run there still.
    fn end_workers(&mut self, now: bool) {
        for child in self.children.values() {
            if now || child.part == Part::Standby {
                child.signal(Signal::KILL);
            } else {
                let _ = child.channel.send(&ToChild::Drain, &[]);
            }
        }
        if !now {
            let (events, patience) = (self.events.clone(), self.plan.patience);
            tokio::spawn(async move {
                tokio::time::sleep(patience).await;
                let _ = events.send(Event::Overdue).await;
            });
        }
    }

    fn signal(&self, part: Part, signal: Signal) {
        self.children.values().filter(|child| child.part == part).for_each(|child| child.signal(signal));
    }

    fn take(&mut self, event: Event) -> io::Result<()> {
        match event {
            Event::Told { process, message, beside } => self.told(process, message, beside),
            // An edge says by its exit code why it ended.
            Event::Gone { process } if self.is_edge(process) => {}
            Event::Gone { process } => self.gone(process)?,
            Event::Exited { process, status } if self.is_edge(process) => {
                let was_told = self.is_ending;
                if was_told || self.edge_at.is_none() {
                    // It ended as it was told, or could not start: whoever started us is told the same.
                    self.code = Some(code_of(status));
                    self.is_ending = true;
                }
                self.gone(process)?;
                if self.is_ending {
                    self.end_workers(!was_told);
                }
            }
            // What a worker has said last is read to its end first: its channel tells when that is.
            Event::Exited { .. } => {}
            Event::Overdue => self.children.values().for_each(|child| child.signal(Signal::KILL)),
            Event::Restart(_) if self.is_ending => {}
            Event::Restart(part) => self.start(part)?,
        }
        Ok(())
    }

    fn is_edge(&self, process: u32) -> bool {
        self.children.get(&process).is_some_and(|child| child.part == Part::Edge)
    }

    fn told(&mut self, process: u32, message: FromChild, mut beside: Vec<OwnedFd>) {
        match (message, self.children.get(&process).map(|child| child.part)) {
            (FromChild::EdgeAt { address, token }, Some(Part::Edge)) => {
                let news = ToChild::EdgeAt { address, token: token.clone() };
                self.edge_at = Some((address, token));
                for child in self.children.values().filter(|child| child.part != Part::Edge) {
                    let _ = child.channel.send(&news, &[]);
                }
            }
            (FromChild::Ready, Some(Part::Edge)) => notify::ready(),
            (FromChild::Listens { name }, Some(Part::Edge)) => {
                if let Some(socket) = beside.pop() {
                    // An edge that has it from the one before tells it again.
                    if !self.listeners.contains_key(&name) {
                        notify::hold(&name, socket.as_fd());
                    }
                    self.listeners.insert(name, socket);
                }
            }
            (FromChild::Opened { port }, Some(Part::Worker(place))) => {
                if let Some(socket) = beside.pop() {
                    self.places[place].sockets.insert(port, socket);
                }
            }
            (FromChild::Closed { port }, Some(Part::Worker(place))) => {
                self.places[place].sockets.remove(&port);
            }
            _ => {}
        }
    }

    /// A child is dead: another takes its place.
    fn gone(&mut self, process: u32) -> io::Result<()> {
        let Some(child) = self.children.remove(&process) else { return Ok(()) };
        // One that only closed its end is not to go on beside its successor.
        child.signal(Signal::KILL);
        if self.is_ending {
            return Ok(());
        }
        let too_soon = child.since.elapsed() < TOO_SOON;
        tracing::warn!(process, part = child.part.name(), "a child process is gone; another takes its place");
        if let Part::Worker(place) = child.part
            && let Some(standby) = self.standby()
        {
            self.promote(standby, place);
            return self.start_after(Part::Standby, too_soon);
        }
        self.start_after(child.part, too_soon)
    }

    /// One that dies at once is not started at once again.
    fn start_after(&mut self, part: Part, too_soon: bool) -> io::Result<()> {
        if !too_soon {
            return self.start(part);
        }
        let events = self.events.clone();
        tokio::spawn(async move {
            tokio::time::sleep(PAUSE).await;
            let _ = events.send(Event::Restart(part)).await;
        });
        Ok(())
    }

    fn standby(&self) -> Option<u32> {
        self.children.iter().find(|(_, child)| child.part == Part::Standby).map(|(process, _)| *process)
    }

    /// Gives a standby the place of a worker that died.
    fn promote(&mut self, process: u32, place: usize) {
        let Some(child) = self.children.get_mut(&process) else { return };
        child.part = Part::Worker(place);
        if let Err(error) = self.places[place].give(process, &child.channel) {
            tracing::error!(%error, process, "a standby could not be given a worker's place");
            child.signal(Signal::KILL);
        }
    }

    fn start(&mut self, part: Part) -> io::Result<()> {
        self.processes += 1;
        let process = self.processes;
        let (channel, theirs) = channel::pair()?;
        let mut command = Command::new(&self.program);
        command.args(&self.plan.arguments).env(ENVIRONMENT, theirs.as_raw_fd().to_string());
        command.env(LIFE, &self.life).env(clock::ENVIRONMENT, clock::ahead_us().to_string());
        command.env(PROCESS, format!("{}{process}", if part == Part::Edge { "edge-" } else { "worker-" }));
        let end = theirs.as_raw_fd();
        // SAFETY: between fork and exec only system calls are made.
        unsafe {
            command.pre_exec(move || {
                // A child does not outlive its keeper: there would be nobody to say who it is.
                rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
                let end = std::os::fd::BorrowedFd::borrow_raw(end);
                rustix::io::fcntl_setfd(end, rustix::io::FdFlags::empty())?;
                Ok(())
            });
        }
        let mut running = command.spawn()?;
        drop(theirs);
        let pid = running.id().and_then(|pid| Pid::from_raw(pid.cast_signed()));
        let sender = channel.sender()?;
        match part {
            Part::Worker(place) => self.places[place].give(process, &sender)?,
            Part::Edge => {
                sender.send(&ToChild::Listeners { count: self.listeners.len() }, &[])?;
                for (name, socket) in &self.listeners {
                    sender.send(&ToChild::Listener { name: name.clone() }, &[socket.as_fd()])?;
                }
            }
            Part::Standby => {}
        }
        if let (Some((address, token)), true) = (&self.edge_at, part != Part::Edge) {
            sender.send(&ToChild::EdgeAt { address: *address, token: token.clone() }, &[])?;
        }
        self.children.insert(process, Child { part, pid, channel: sender, since: Instant::now() });
        let events = self.events.clone();
        tokio::spawn(async move {
            while let Ok(Some((message, beside))) = channel.receive::<FromChild>().await {
                if events.send(Event::Told { process, message, beside }).await.is_err() {
                    return;
                }
            }
            let _ = events.send(Event::Gone { process }).await;
        });
        let events = self.events.clone();
        tokio::spawn(async move {
            if let Ok(status) = running.wait().await {
                let _ = events.send(Event::Exited { process, status }).await;
            }
        });
        Ok(())
    }
}

impl Place {
    /// Puts a process here, with the memory and the sockets of the one before, if there was one.
    fn give(&mut self, process: u32, channel: &Sender) -> io::Result<()> {
        let Place { ports, memory, sockets, last } = self;
        let message = match last.replace(process) {
            None => ToChild::Work { ports: *ports },
            Some(before) => ToChild::TakeOver { process: before, ports: *ports, sockets: sockets.len() },
        };
        channel.send(&message, &[memory.as_fd()])?;
        let all: Vec<(u16, _)> = sockets.iter().map(|(port, socket)| (*port, socket.as_fd())).collect();
        for some in all.chunks(MAX_BESIDE) {
            let (ports, sockets): (Vec<u16>, Vec<_>) = some.iter().copied().unzip();
            channel.send(&ToChild::Sockets { ports }, &sockets)?;
        }
        Ok(())
    }
}

impl Child {
    fn signal(&self, signal: Signal) {
        if let Some(pid) = self.pid {
            // An error says that it is gone.
            let _ = kill_process(pid, signal);
        }
    }
}

/// A process's number comes again, but not at the same moment of the same machine.
fn new_life() -> String {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    format!("{} {} {}.{:09}", boot_id(), std::process::id(), now.tv_sec, now.tv_nsec)
}

/// Ranges of about the same size, each beginning with an even port.
fn share(ports: &RangeInclusive<u16>, among: u16) -> Vec<(u16, u16)> {
    let (first, last) = (u32::from(*ports.start()), u32::from(*ports.end()));
    let each = (last - first + 1) / u32::from(among.max(1)) / 2 * 2;
    let range = |number: u32| {
        let begin = first + number * each;
        let end = if number + 1 == u32::from(among) { last } else { begin + each - 1 };
        (begin as u16, end as u16)
    };
    (0..u32::from(among)).map(range).collect()
}

fn code_of(status: ExitStatus) -> ExitCode {
    match status.code() {
        Some(code) => ExitCode::from(u8::try_from(code).unwrap_or(1)),
        // As a shell has it.
        None => ExitCode::from(
            128u8.wrapping_add(status.signal().and_then(|signal| u8::try_from(signal).ok()).unwrap_or(0)),
        ),
    }
}

const EVENTS: usize = 4096;
/// A process that lived no longer is not started at once again.
const TOO_SOON: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_shared_out_in_whole_pairs() {
        assert_eq!(share(&(20_000..=29_999), 1), [(20_000, 29_999)]);
        assert_eq!(share(&(20_000..=29_999), 3), [(20_000, 23_331), (23_332, 26_663), (26_664, 29_999)]);
        assert_eq!(share(&(20_000..=20_007), 2), [(20_000, 20_003), (20_004, 20_007)]);
    }
}
