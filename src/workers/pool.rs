//! The workers of an edge, and which of them has which session: placement, and repair when one is lost.
//!
//! Plain data, driven by whoever runs the links: commands of calls and words of workers come in, commands for workers and
//! events for calls come out. A session is placed by the [`Balancer`] when it is opened and stays with its worker. When that is
//! lost, the session is opened anew from its [`Book`]: at once on the worker that took the lost one's place on its machine,
//! which has its sockets, or else after a moment of grace on any other, where its legs get other addresses and their calls are
//! told so.
//!
//! - `links`: what joins two sessions

mod links;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use dialtone_media::proto::{
    Command, CommandKind, LegClosed, LegKind, LegSpec, LoadReport, MediaEvent, MediaEventKind, Negotiated, Refusal,
    Refused, Release, SessionSpec,
};
use dialtone_media::random::Random;
use dialtone_media::time::Mono;
use serde::{Deserialize, Serialize};

use super::balancer::{Balancer, Load, TRIES, WorkerId};
use super::book::Book;
use links::Link;
pub use links::LinkEnd;

/// What the pool wants of the world.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// For a worker, by the session's own stream.
    Command { worker: WorkerId, command: Command },
    /// The stream of a session at a worker has had its last command.
    Close { worker: WorkerId, session_id: u64 },
    /// For the calls.
    Told(Told),
}

/// What a call is told of its media.
#[derive(Clone, Debug, PartialEq)]
pub enum Told {
    Event(MediaEvent),
    /// A leg goes on at another address: this is our new offer.
    Moved {
        session_id: u64,
        leg_id: u32,
        sdp: Bytes,
    },
    /// The session is lost, and its legs with it.
    Lost {
        session_id: u64,
    },
    /// The session goes on where its worker was lost, and was recorded: for a moment there is silence in its recordings.
    Interrupted {
        session_id: u64,
    },
    /// The session goes on where its worker was lost: what its players had been fed is gone.
    Emptied {
        session_id: u64,
    },
    /// A leg is heard again, so long after its worker was lost.
    HeardAgain {
        cause: &'static str,
        after: Duration,
    },
    /// For whoever has the other end of a link.
    LinkEnd {
        peer: String,
        key: u64,
        end: LinkEnd,
    },
}

/// Where a worker stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It has sessions, or may have some.
    Active,
    /// It waits to take another's place.
    Standby,
    /// It takes no new sessions.
    Draining,
    /// The link is lost.
    Lost,
}

impl State {
    /// The value of the `state` label, and what people read.
    pub fn name(self) -> &'static str {
        match self {
            State::Active => "active",
            State::Standby => "standby",
            State::Draining => "draining",
            State::Lost => "lost",
        }
    }
}

/// A worker, for whoever looks.
#[derive(Clone, Debug)]
pub struct Worker {
    pub id: WorkerId,
    /// Of its machine, and which of its processes.
    pub name: String,
    /// Where frames of other workers reach it.
    pub frames_address: String,
    pub state: State,
    pub load: LoadReport,
}

/// Where a session is and what it is to be, as it is written down.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Placement {
    /// Of the edge that had it last.
    #[serde(default)]
    epoch: u64,
    worker: String,
    book: Book,
    units: u32,
    links: Vec<u64>,
}

/// A session and where it is.
struct Placed {
    worker: WorkerId,
    book: Book,
    units: u32,
    tried: Vec<WorkerId>,
    /// The keys of its links to other sessions, those that are over too.
    links: Vec<u64>,
    /// It was opened anew by this command: what is answered to that is not for the call.
    reopened_by: Option<u64>,
    /// Its worker is lost, and it waits for another since then.
    homeless_since: Option<Mono>,
    /// When that worker was lost.
    lost_at: Option<Mono>,
    /// The legs that were not heard since a worker was lost, when that was, and what became of it.
    unheard: Option<Unheard>,
    /// What was asked for in the meantime.
    backlog: Vec<(u64, CommandKind)>,
    /// When a worker last died that was working for it.
    killed_at: Option<Mono>,
}

/// Legs that are yet to be heard where they went.
struct Unheard {
    legs: Vec<u32>,
    since: Mono,
    cause: &'static str,
}

/// How often it was decided where a session goes, and how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Decisions {
    /// The less full of two that were drawn.
    pub drawn: u64,
    /// Where the other end of its link is.
    pub beside: u64,
    /// Elsewhere, since the first choice had no room after all.
    pub elsewhere: u64,
    /// Nowhere: nobody has room.
    pub nowhere: u64,
    /// To another, since its worker was lost.
    pub moved: u64,
}

/// The workers of an edge.
pub struct Pool {
    epoch: u64,
    next_command: u64,
    random: Random,
    balancer: Balancer,
    workers: BTreeMap<WorkerId, Worker>,
    next_worker: u32,
    sessions: HashMap<u64, Placed>,
    /// Which sessions have an end of a link.
    links: HashMap<u64, Link>,
    /// Of the secrets that links between workers are given.
    secret: [u8; 32],
    secrets: u64,
    /// Sessions to be opened anew, in the order in which they lost their workers.
    homeless: VecDeque<u64>,
    /// Sessions that were let go of, and since when, while their worker was away: it may have them still.
    left: Vec<(WorkerId, u64, Mono)>,
    /// No other of them before then.
    paced_until: Mono,
    decisions: Decisions,
    out: VecDeque<Output>,
}

impl Pool {
    /// `epoch` grows with each start of the edge; `seed` is a secret.
    pub fn new(epoch: u64, seed: [u8; 32]) -> Pool {
        Pool {
            epoch,
            next_command: 0,
            random: Random::new(u64::from_be_bytes(seed[..8].try_into().expect("eight of thirty-two")), epoch),
            balancer: Balancer::new(1),
            workers: BTreeMap::new(),
            next_worker: 0,
            sessions: HashMap::new(),
            links: HashMap::new(),
            secret: seed,
            secrets: 0,
            homeless: VecDeque::new(),
            left: Vec::new(),
            paced_until: Mono(0),
            decisions: Decisions::default(),
            out: VecDeque::new(),
        }
    }

    pub fn poll_output(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    pub fn workers(&self) -> impl Iterator<Item = &Worker> {
        self.workers.values()
    }

    pub fn id_of(&self, name: &str) -> Option<WorkerId> {
        self.workers.values().find(|worker| worker.name == name).map(|worker| worker.id)
    }

    pub fn name_of(&self, id: WorkerId) -> Option<&str> {
        self.workers.get(&id).map(|worker| worker.name.as_str())
    }

    /// Sessions that are placed, or wait for a place.
    pub fn session_count(&self) -> usize {
        self.sessions.len()
    }

    /// Sessions of a worker.
    pub fn sessions_of(&self, id: WorkerId) -> usize {
        self.sessions.values().filter(|placed| placed.worker == id).count()
    }

    pub fn decisions(&self) -> Decisions {
        self.decisions
    }

    /// Whether a session of one leg finds a place.
    pub fn has_room(&self) -> bool {
        self.balancer.has_room(1)
    }

    /// When [`Pool::handle_timeout`] is next due.
    pub fn next_deadline(&self) -> Option<Mono> {
        let since = self.homeless.iter().find_map(|session| self.sessions.get(session)?.homeless_since)?;
        Some((since + GRACE).max(self.paced_until))
    }

    /// A worker is linked, anew or again.
    pub fn joined(&mut self, name: &str, frames_address: &str, load: &LoadReport, now: Mono) -> WorkerId {
        let id = self.id_of(name).unwrap_or_else(|| {
            self.next_worker += 1;
            WorkerId(self.next_worker)
        });
        let frames_address = frames_address.to_owned();
        let worker = Worker { id, name: name.to_owned(), frames_address, state: State::Active, load: load.clone() };
        self.workers.insert(id, worker);
        self.reported(id, load);
        // It may have its sessions still: they are opened where they are.
        for session_id in self.homeless_of(id) {
            self.reopen(session_id, id, now);
        }
        for (_, session_id, _) in self.left.extract_if(.., |(worker, ..)| *worker == id) {
            self.next_command += 1;
            let kind = Some(CommandKind::Release(Release {}));
            let command = Command { command_id: self.next_command, session_id, owner_epoch: self.epoch, kind };
            self.out.push_back(Output::Command { worker: id, command });
            self.out.push_back(Output::Close { worker: id, session_id });
        }
        id
    }

    pub fn reported(&mut self, id: WorkerId, load: &LoadReport) {
        let Some(worker) = self.workers.get_mut(&id).filter(|worker| worker.state != State::Lost) else { return };
        worker.load = load.clone();
        worker.state = match load {
            LoadReport { is_standby: true, .. } => State::Standby,
            LoadReport { is_draining: true, .. } => State::Draining,
            _ => State::Active,
        };
        if worker.state != State::Standby {
            let is_draining = worker.state == State::Draining;
            self.balancer.report(id, Load { used: load.used, capacity: load.capacity, is_draining });
        }
    }

    /// A worker is in the place of another of its machine, which died: what that had is opened anew here.
    pub fn took_over(&mut self, id: WorkerId, dead: &str, suspect: u64, now: Mono) {
        let Some(dead) = self.id_of(dead) else { return };
        self.lost(dead, now);
        for session_id in self.homeless_of(dead) {
            if session_id == suspect && self.has_killed_before(session_id, now) {
                self.give_up(session_id);
            } else {
                self.reopen_lost(session_id, id, "worker_crash", now);
            }
        }
        self.workers.remove(&dead);
    }

    /// The link to a worker is lost. Its sessions wait for a moment: for it to come back, or for another in its place.
    pub fn lost(&mut self, id: WorkerId, now: Mono) {
        self.balancer.forget(id);
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.state = State::Lost;
        }
        let mut left: Vec<u64> = self.sessions.iter().filter(|(_, it)| it.worker == id).map(|(id, _)| *id).collect();
        left.sort_unstable();
        for session_id in left {
            if let Some(placed) = self.sessions.get_mut(&session_id).filter(|placed| placed.homeless_since.is_none()) {
                placed.homeless_since = Some(now);
                placed.lost_at = Some(now);
                self.homeless.push_back(session_id);
            }
        }
    }

    /// Opens sessions anew whose workers did not come back, so many at a time.
    pub fn handle_timeout(&mut self, now: Mono) {
        if self.next_deadline().is_none_or(|at| at > now) {
            return;
        }
        for _ in 0..PACE_SESSIONS {
            let Some(session_id) = self.homeless.front().copied() else { return };
            match self.sessions.get(&session_id).map(|placed| placed.homeless_since) {
                Some(Some(since)) if now.since(since) < GRACE => return,
                Some(Some(_)) => {
                    self.homeless.pop_front();
                    self.find_home(session_id, now);
                }
                Some(None) | None => {
                    self.homeless.pop_front();
                }
            }
        }
        self.paced_until = now + PACE;
    }

    fn find_home(&mut self, session_id: u64, now: Mono) {
        let Some(placed) = self.sessions.get(&session_id) else { return };
        let (units, lost) = (placed.units, placed.worker);
        let random = &mut self.random;
        match self.balancer.place(units, &[lost], |below| random.next_u64() % below) {
            Some(worker) => {
                self.decisions.moved += 1;
                self.reopen_lost(session_id, worker, "worker_lost", now);
            }
            None => self.wait_on(session_id, now),
        }
    }

    /// Nobody has room: the worker may still come back, or another be there, while the call can wait.
    fn wait_on(&mut self, session_id: u64, now: Mono) {
        let Some(placed) = self.sessions.get_mut(&session_id) else { return };
        if placed.lost_at.is_some_and(|lost| now.since(lost) >= PATIENCE) {
            return self.give_up(session_id);
        }
        placed.homeless_since = Some(now);
        self.homeless.push_back(session_id);
    }

    /// A call wants something of its media.
    pub fn command(&mut self, session_id: u64, kind: CommandKind, now: Mono) {
        self.next_command += 1;
        let command_id = self.next_command;
        if let (CommandKind::Open(spec), false) = (&kind, self.sessions.contains_key(&session_id))
            && !self.place(session_id, spec)
        {
            return self.refuse(command_id, session_id, spec);
        }
        let Some(placed) = self.sessions.get_mut(&session_id) else {
            let command = Command { command_id, session_id, owner_epoch: self.epoch, kind: Some(kind) };
            let told = dialtone_media::session::unknown(&command);
            return self.out.extend(told.into_iter().map(|event| Output::Told(Told::Event(event))));
        };
        placed.book.command(command_id, &kind, now);
        let worker = placed.worker;
        let links: Vec<u64> = links_of(&kind).collect();
        for key in &links {
            placed.links.push(*key);
            let ends = &mut self.links.entry(*key).or_default().ends;
            if !ends.contains(&session_id) {
                ends.push(session_id);
            }
        }
        let is_release = matches!(kind, CommandKind::Release(_));
        if placed.homeless_since.is_none() {
            let command = Command { command_id, session_id, owner_epoch: self.epoch, kind: Some(kind) };
            self.out.push_back(Output::Command { worker, command });
            links.into_iter().for_each(|key| self.connect(key));
            if is_release {
                self.out.push_back(Output::Close { worker, session_id });
            }
            return;
        }
        match kind {
            CommandKind::Release(_) => self.release_homeless(session_id, now),
            CommandKind::DropLeg(leg_id) => self.tell(session_id, MediaEventKind::LegClosed(closed(leg_id))),
            // What the book says is what the next worker is asked for, and steps are asked for anew. How much may be fed to a
            // player is bounded by whoever feeds it.
            CommandKind::StopRecording(_) | CommandKind::Feed(_) => placed.backlog.push((command_id, kind)),
            _ => {}
        }
    }

    /// A worker tells something about a session.
    pub fn event(&mut self, id: WorkerId, event: MediaEvent, now: Mono) {
        let session_id = event.session_id;
        let Some(placed) = self.sessions.get_mut(&session_id).filter(|placed| placed.worker == id) else { return };
        let Some(kind) = &event.kind else { return };
        if let MediaEventKind::Refused(refused) = kind
            && Refusal::try_from(refused.reason) == Ok(Refusal::NoCapacity)
            && placed.book.is_fresh()
            && self.try_elsewhere(session_id, id, now)
        {
            return;
        }
        let Some(placed) = self.sessions.get_mut(&session_id) else { return };
        if let Some(reopened) = placed.reopened_by {
            match kind {
                MediaEventKind::Negotiated(told) if told.command_id == reopened => {
                    return self.reopened(session_id, told.leg_id, &told.sdp.clone());
                }
                MediaEventKind::Refused(told)
                    if told.command_id == reopened && placed.book.opened_by(told.leg_id).is_none() =>
                {
                    tracing::warn!(session_id, text = told.text, "a leg could not be restored");
                    return self.give_up(session_id);
                }
                _ => {}
            }
        }
        if let (MediaEventKind::LegHeard(leg_id), Some(unheard)) = (kind, &mut placed.unheard)
            && let Some(at) = unheard.legs.iter().position(|leg| leg == leg_id)
        {
            unheard.legs.swap_remove(at);
            let (cause, after) = (unheard.cause, now.since(unheard.since));
            // Who says nothing for longer does so of itself.
            if after < SILENT_OF_ITSELF {
                self.out.push_back(Output::Told(Told::HeardAgain { cause, after }));
            }
        }
        placed.book.event(kind, now);
        let is_over = matches!(kind, MediaEventKind::Released(_));
        self.out.push_back(Output::Told(Told::Event(event)));
        if is_over {
            self.forget(session_id);
        }
    }

    pub fn placement(&self, session_id: u64) -> Option<Placement> {
        let placed = self.sessions.get(&session_id)?;
        let worker = self.name_of(placed.worker)?.to_owned();
        Some(Placement {
            epoch: self.epoch,
            worker,
            book: placed.book.clone(),
            units: placed.units,
            links: placed.links.clone(),
        })
    }

    /// Takes up a session of an edge that is no more: it waits for its worker, as if that were lost just now.
    pub fn restore(&mut self, session_id: u64, placement: Placement, now: Mono) {
        let Placement { epoch, worker: name, book, units, links } = placement;
        // A worker obeys the higher: that edge may live still, and not know yet that it has lost its calls.
        self.epoch = self.epoch.max(epoch + 1);
        if self.sessions.contains_key(&session_id) {
            // Several calls are in it, and each has written it down.
            return;
        }
        for key in &links {
            self.links.entry(*key).or_default().ends.push(session_id);
        }
        let known = self.id_of(&name);
        let is_here = known.is_some_and(|id| self.workers.get(&id).is_some_and(|worker| worker.state != State::Lost));
        let worker = known.unwrap_or_else(|| self.add_lost(&name));
        let placed = Placed {
            worker,
            book,
            units,
            tried: vec![worker],
            links,
            reopened_by: None,
            homeless_since: Some(now),
            lost_at: Some(now),
            unheard: None,
            backlog: Vec::new(),
            killed_at: None,
        };
        self.sessions.insert(session_id, placed);
        if is_here {
            self.reopen(session_id, worker, now);
        } else {
            self.homeless.push_back(session_id);
        }
    }

    /// A worker that is known by name only.
    fn add_lost(&mut self, name: &str) -> WorkerId {
        self.next_worker += 1;
        let id = WorkerId(self.next_worker);
        let worker = Worker {
            id,
            name: name.to_owned(),
            frames_address: String::new(),
            state: State::Lost,
            load: LoadReport::default(),
        };
        self.workers.insert(id, worker);
        id
    }

    /// The stream of a session broke, though the link is well: the worker is asked anew.
    pub fn stream_broke(&mut self, id: WorkerId, session_id: u64, now: Mono) {
        let is_its = |placed: &&Placed| placed.worker == id && placed.homeless_since.is_none();
        if self.sessions.get(&session_id).filter(is_its).is_some() {
            self.reopen(session_id, id, now);
        }
    }

    fn reopened(&mut self, session_id: u64, leg_id: u32, sdp: &Bytes) {
        let Some(placed) = self.sessions.get_mut(&session_id) else { return };
        if let Some(command_id) = placed.book.opened_by(leg_id) {
            // The call still waits for the first word of this leg: this is it.
            let told = Negotiated { command_id, leg_id, sdp: sdp.clone(), ..Negotiated::default() };
            let kind = MediaEventKind::Negotiated(told);
            placed.book.event(&kind, self.paced_until);
            return self.tell(session_id, kind);
        }
        if placed.book.local_sdp(leg_id).is_none_or(|before| before == sdp) {
            return;
        }
        placed.book.moved(leg_id, sdp);
        self.out.push_back(Output::Told(Told::Moved { session_id, leg_id, sdp: sdp.clone() }));
    }

    /// Chooses a worker for a new session; false where nobody has room.
    fn place(&mut self, session_id: u64, spec: &SessionSpec) -> bool {
        let units = u32::try_from(spec.legs.len().max(1)).unwrap_or(u32::MAX);
        let other_end = |key| Some(self.sessions.get(self.links.get(&key)?.ends.first()?)?.worker);
        let beside = spec.legs.iter().filter_map(link_of).find_map(other_end);
        let random = &mut self.random;
        let worker = match beside.filter(|worker| self.balancer.takes(*worker, units)) {
            Some(worker) => {
                self.balancer.given(worker, units);
                self.decisions.beside += 1;
                Some(worker)
            }
            None => {
                let drawn = self.balancer.place(units, &[], |below| random.next_u64() % below);
                self.decisions.drawn += u64::from(drawn.is_some());
                drawn
            }
        };
        let Some(worker) = worker else {
            self.decisions.nowhere += 1;
            return false;
        };
        self.sessions.insert(
            session_id,
            Placed {
                worker,
                book: Book::default(),
                units,
                tried: vec![worker],
                links: Vec::new(),
                reopened_by: None,
                homeless_since: None,
                lost_at: None,
                unheard: None,
                backlog: Vec::new(),
                killed_at: None,
            },
        );
        true
    }

    /// The worker has no room after all: another one is tried, if there is one.
    fn try_elsewhere(&mut self, session_id: u64, full: WorkerId, now: Mono) -> bool {
        let Some(placed) = self.sessions.get_mut(&session_id) else { return false };
        self.balancer.refused(full, placed.units);
        if placed.tried.len() >= TRIES {
            return false;
        }
        let random = &mut self.random;
        let next = self.balancer.place(placed.units, &placed.tried, |below| random.next_u64() % below);
        let Some(next) = next else { return false };
        placed.tried.push(next);
        self.decisions.elsewhere += 1;
        self.out.push_back(Output::Close { worker: full, session_id });
        self.reopen(session_id, next, now);
        true
    }

    /// Opens a session anew whose worker is lost.
    fn reopen_lost(&mut self, session_id: u64, worker: WorkerId, cause: &'static str, now: Mono) {
        if let Some(placed) = self.sessions.get_mut(&session_id) {
            let legs = placed.book.leg_ids().filter(|leg| placed.book.local_sdp(*leg).is_some()).collect();
            placed.unheard = Some(Unheard { legs, since: placed.lost_at.unwrap_or(now), cause });
        }
        self.reopen(session_id, worker, now);
        let Some(placed) = self.sessions.get(&session_id) else { return };
        if placed.book.is_recorded() {
            self.out.push_back(Output::Told(Told::Interrupted { session_id }));
        }
        if placed.book.is_tapped() {
            self.out.push_back(Output::Told(Told::Emptied { session_id }));
        }
    }

    /// Opens a session on a worker as the book has it.
    fn reopen(&mut self, session_id: u64, worker: WorkerId, now: Mono) {
        let Some(placed) = self.sessions.get_mut(&session_id) else { return };
        self.next_command += 1;
        let command_id = self.next_command;
        placed.worker = worker;
        placed.homeless_since = None;
        placed.reopened_by = Some(command_id);
        let spec = placed.book.spec(session_id, self.epoch, now);
        let open = (command_id, CommandKind::Open(spec));
        let again = placed.book.unanswered();
        let backlog = std::mem::take(&mut placed.backlog);
        let owner_epoch = self.epoch;
        for (command_id, kind) in std::iter::once(open).chain(again).chain(backlog) {
            let command = Command { command_id, session_id, owner_epoch, kind: Some(kind) };
            self.out.push_back(Output::Command { worker, command });
        }
        let links = placed.links.clone();
        links.into_iter().for_each(|key| self.connect(key));
    }

    /// A call lets go of a session that has no worker: it is told what a worker would have told.
    fn release_homeless(&mut self, session_id: u64, now: Mono) {
        let Some(placed) = self.sessions.get(&session_id) else { return };
        self.left.retain(|(.., since)| now.since(*since) < KEPT_WITHOUT_EDGE);
        self.left.push((placed.worker, session_id, now));
        let legs: Vec<u32> = placed.book.leg_ids().collect();
        for leg_id in legs {
            self.tell(session_id, MediaEventKind::LegClosed(closed(leg_id)));
        }
        self.tell(session_id, MediaEventKind::Released(Release {}));
        self.forget(session_id);
    }

    fn give_up(&mut self, session_id: u64) {
        self.out.push_back(Output::Told(Told::Lost { session_id }));
        self.forget(session_id);
    }

    fn forget(&mut self, session_id: u64) {
        let Some(placed) = self.sessions.remove(&session_id) else { return };
        self.balancer.given_back(placed.worker, placed.units);
        for key in placed.links {
            if let Some(link) = self.links.get_mut(&key) {
                link.ends.retain(|end| *end != session_id);
                if link.ends.is_empty() {
                    self.links.remove(&key);
                }
            }
        }
    }

    /// Nobody has room: every leg is refused, and there is no session.
    fn refuse(&mut self, command_id: u64, session_id: u64, spec: &SessionSpec) {
        for leg in spec.legs.iter().filter(|leg| matches!(leg.kind, Some(LegKind::Rtp(_)))) {
            let reason = Refusal::NoCapacity as i32;
            let text = "no media worker has room".to_owned();
            self.tell(session_id, MediaEventKind::Refused(Refused { command_id, leg_id: leg.leg_id, reason, text }));
        }
    }

    fn tell(&mut self, session_id: u64, kind: MediaEventKind) {
        self.out.push_back(Output::Told(Told::Event(MediaEvent { session_id, kind: Some(kind) })));
    }

    /// The sessions that wait since that worker was lost, which do so no longer.
    fn homeless_of(&mut self, lost: WorkerId) -> Vec<u64> {
        let Pool { homeless, sessions, .. } = self;
        let mut found = Vec::new();
        homeless.retain(|session_id| {
            let is_its = sessions.get(session_id).is_some_and(|it| it.worker == lost && it.homeless_since.is_some());
            if is_its {
                found.push(*session_id);
            }
            !is_its
        });
        found
    }

    /// Whether a worker died while it worked for that session, and another did so a short while ago. Notes it.
    fn has_killed_before(&mut self, session_id: u64, now: Mono) -> bool {
        let Some(placed) = self.sessions.get_mut(&session_id) else { return false };
        placed.killed_at.replace(now).is_some_and(|before| now.since(before) < POISON)
    }
}

/// The keys of the links that a command makes an end of.
fn links_of(kind: &CommandKind) -> impl Iterator<Item = u64> {
    let legs = match kind {
        CommandKind::Open(spec) => spec.legs.as_slice(),
        CommandKind::PutLeg(leg) => std::slice::from_ref(leg),
        _ => &[],
    };
    legs.iter().filter_map(link_of)
}

fn link_of(leg: &LegSpec) -> Option<u64> {
    match &leg.kind {
        Some(LegKind::Remote(remote)) => Some(remote.key),
        _ => None,
    }
}

fn closed(leg_id: u32) -> LegClosed {
    LegClosed { leg_id, statistics: None }
}

/// A process of a machine, by a name of its own.
pub fn process_name(machine: &str, process: u32) -> String {
    format!("{machine}-{process}")
}

/// How long a lost worker's sessions wait before others take them, for it to be linked anew; and how long one waits before it
/// is looked for a place again.
const GRACE: Duration = Duration::from_millis(100);
/// A worker keeps a session no longer without an edge.
const KEPT_WITHOUT_EDGE: Duration = Duration::from_secs(60);
/// How long a session may be without a worker.
const PATIENCE: Duration = Duration::from_secs(3);
/// A leg that is not heard for longer was silent anyway.
const SILENT_OF_ITSELF: Duration = Duration::from_secs(10);
/// A call that kills two workers in this time is ended, and not given a third.
const POISON: Duration = Duration::from_secs(60);
/// 2,000 sessions a second are opened anew, so that whoever takes them, and their peers, are not flooded.
const PACE: Duration = Duration::from_millis(10);
const PACE_SESSIONS: usize = 20;

#[cfg(test)]
mod tests;
