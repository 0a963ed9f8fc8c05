//! The loop of a shard: wait, read the clock once, take packets, deadlines and commands, send what comes of them.
//!
//! Every session is called inside a guard: a panic is a bug of ours, and ends the one session that it is in. The
//! loop allocates nothing per packet, and makes one system call to receive it and one to send it on. What commands
//! do to the set of sessions is in [`super::control`].

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use mio::{Events as Polled, Poll, Token, Waker};
use slab::Slab;

use super::capacity::{self, Capacity};
use super::clock::Clock;
use super::control::Control;
use super::counters::{LATENESS_BOUNDS_US, Shared, Tally};
use super::far::FarLinks;
use super::gather::Gather;
use super::memory::Memory;
use super::net::{Net, SHARED, of_token};
use super::recordings::{RecordingKey, Recordings};
use super::socket::Sockets;
use super::streams::{self, LISTENER};
use super::timers::{Place, Timers};
use super::{Config, Events};
use crate::clips::Clips;
use crate::codec::Codec;
use crate::ids::{LegId, LinkKey, SessionId};
use crate::leg::Dropped;
use crate::proto::{self, MediaEventKind};
use crate::rtp::is_rtcp;
use crate::session::{Frame, Port, Session, Transmit};
use crate::srtp::MAX_OVERHEAD;
use crate::time::Mono;
use crate::webrtc::{Identity, Sort, ufrag_of};

/// One shard, owned by its thread.
pub(super) struct Shard {
    pub config: Config,
    pub queue: Receiver<Control>,
    pub events: Events,
    pub shared: Arc<Shared>,
    pub tally: Tally,
    pub net: Net,
    pub sessions: Slab<Entry>,
    pub by_id: HashMap<SessionId, usize>,
    /// Which sessions have an end of a link: two, once both are here.
    pub links: HashMap<LinkKey, Vec<usize>>,
    /// And those whose other end is elsewhere.
    pub far: Option<FarLinks>,
    /// Who we are to browsers.
    pub identity: Arc<Identity>,
    pub clips: Clips,
    pub recordings: Recordings,
    /// How many sessions there have been: tells those apart that had one place.
    pub generations: u64,
    poll: Poll,
    clock: Clock,
    capacity: Capacity,
    timers: Timers,
    gather: Gather,
    /// Frames on their way from session to session.
    frames: VecDeque<(usize, LinkKey, Frame)>,
    /// Sockets that had more than one turn's packets.
    unread: VecDeque<Token>,
    /// Packets lost and late on legs that are over.
    losses: (u64, u64),
    counted_at: Mono,
    /// A packet or a command was taken since the sessions were counted.
    pub is_stale: bool,
    buffer: Box<[u8; BUFFER]>,
}

/// A session and what the shard keeps for it.
pub(super) struct Entry {
    pub session: Session,
    pub generation: u64,
    /// The sockets of its RTP legs.
    pub endpoints: Vec<(LegId, usize)>,
    pub links: Vec<LinkKey>,
    /// The earliest of its deadlines in the heap.
    pub timer: Option<Mono>,
}

impl Entry {
    fn write_down(&self, memory: Option<&Memory>, leg: LegId, endpoint: usize) {
        if let Some(memory) = memory
            && let Some(hot) = self.session.hot(leg)
        {
            memory.write(endpoint, self.session.id(), leg, &hot);
        }
    }
}

/// A session had a bug.
pub(super) struct Panicked;

/// Calls into a session; its state after a panic is anything, and it is not called again.
pub(super) fn guarded<T>(call: impl FnOnce() -> T) -> Result<T, Panicked> {
    catch_unwind(AssertUnwindSafe(call)).map_err(|_| Panicked)
}

impl Shard {
    pub fn new(
        config: Config,
        sockets: Box<dyn Sockets>,
        queue: Receiver<Control>,
        events: Events,
        shared: Arc<Shared>,
    ) -> io::Result<(Shard, Arc<Waker>)> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        let registry = poll.registry().try_clone()?;
        let far = config.frames.as_ref().map(|socket| FarLinks::new(socket, poll.registry(), FRAMES)).transpose()?;
        let memory = config.memory.clone();
        let net = Net::new(config.address, config.ports.clone(), config.kept_sockets, sockets, registry, memory);
        shared.set_free_legs(net.free_legs());
        shared.set_all_legs(net.all_legs());
        let capacity = Capacity::new(capacity::measure());
        shared.set_load(0, capacity.now());
        let shard = Shard {
            clips: Clips::new(config.clip_cache_bytes),
            recordings: Recordings::new(config.recordings.clone(), Arc::clone(&waker)),
            config,
            queue,
            events,
            shared,
            tally: Tally::default(),
            net,
            sessions: Slab::new(),
            by_id: HashMap::new(),
            links: HashMap::new(),
            far,
            identity: Arc::new(Identity::new((Instant::now(), Clock.now())).map_err(io::Error::other)?),
            generations: 0,
            poll,
            clock: Clock,
            capacity,
            timers: Timers::default(),
            gather: Gather::default(),
            frames: VecDeque::new(),
            unread: VecDeque::with_capacity(POLLED),
            losses: (0, 0),
            counted_at: Mono(0),
            is_stale: false,
            buffer: Box::new([0; BUFFER]),
        };
        Ok((shard, waker))
    }

    /// Runs until [`super::Handle::shutdown`].
    pub fn run(mut self) {
        let mut polled = Polled::with_capacity(POLLED);
        while !self.shared.is_stopping() {
            self.rest();
            let timeout = self.timeout();
            if let Err(fault) = self.poll.poll(&mut polled, timeout)
                && fault.kind() != io::ErrorKind::Interrupted
            {
                // Nothing can be received any more: without a loop there is no worker.
                tracing::error!(%fault, "media poll failed");
                break;
            }
            self.turn(&polled);
        }
        let now = self.clock.now();
        self.release_all(now);
        self.publish(now, true);
    }

    /// As one round of [`Shard::run`], without waiting; true while there may be more.
    pub fn turn_now(&mut self, polled: &mut Polled) -> bool {
        if self.poll.poll(polled, Some(Duration::ZERO)).is_err() {
            return false;
        }
        self.turn(polled);
        !polled.is_empty() || !self.unread.is_empty()
    }

    pub fn now(&self) -> Mono {
        self.clock.now()
    }

    /// When [`Shard::turn_now`] is next due, whatever the sockets say.
    pub fn timeout(&mut self) -> Option<Duration> {
        if !self.unread.is_empty() {
            return Some(Duration::ZERO);
        }
        let counted_anew = self.is_stale.then_some(self.counted_at + COUNT_EVERY);
        let kept = self.net.next_deadline();
        let next = self.next_timer().map(|(at, _)| at).into_iter().chain(counted_anew).chain(kept).min();
        next.map(|at| at.since(self.clock.now()))
    }

    /// Sleeps while packets gather, where they come fast enough: half a millisecond at most.
    pub fn rest(&self) {
        if self.unread.is_empty()
            && let Some(rest) = self.gather.rest(self.clock.now())
        {
            std::thread::sleep(rest);
        }
    }

    /// Becomes readable when a socket is.
    pub fn poll_fd(&self) -> RawFd {
        self.poll.as_raw_fd()
    }

    /// Everything of one wake-up.
    fn turn(&mut self, polled: &Polled) {
        let now = self.clock.now();
        let mut woken = false;
        for _ in 0..self.unread.len() {
            match self.unread.pop_front() {
                Some(FRAMES) => self.read_frames(now),
                Some(SHARED) => self.read_shared(now),
                Some(LISTENER) => self.accept(now),
                Some(token) => match streams::of_token(token) {
                    Some(key) => self.read_stream(token, key, now),
                    None => self.read(token, now),
                },
                None => {}
            }
        }
        for event in polled {
            match event.token() {
                WAKER => woken = true,
                FRAMES => self.read_frames(now),
                SHARED => self.read_shared(now),
                LISTENER => self.accept(now),
                token => match streams::of_token(token) {
                    Some(key) => {
                        if event.is_writable() {
                            self.net.stream_is_writable(key);
                        }
                        self.read_stream(token, key, now);
                    }
                    None => self.read(token, now),
                },
            }
        }
        self.take_deadlines(now);
        self.net.close_outdated(now);
        if woken {
            self.take_controls(now);
            self.take_outcomes(now);
        }
        self.deliver_frames(now);
        self.gather.taken(self.tally.packets_in, now);
        self.publish(now, false);
        mark(self.config.memory.as_ref(), 0);
    }

    /// Reads what other workers sent until there is no more, or has had its turn.
    fn read_frames(&mut self, now: Mono) {
        for _ in 0..PACKETS_A_TURN * 16 {
            let Some((link, frame)) = self.far.as_mut().and_then(FarLinks::receive) else { return };
            let Some(to) = self.links.get(&link).and_then(|ends| ends.first()).copied() else { continue };
            self.take_frame(to, link, &frame, now);
        }
        self.unread.push_back(FRAMES);
    }

    fn take_frame(&mut self, to: usize, link: LinkKey, frame: &Frame, now: Mono) {
        let Some(entry) = self.sessions.get_mut(to) else { return };
        match guarded(|| entry.session.handle_frame(link, frame, now)) {
            Ok(()) => self.flush(to, now),
            Err(Panicked) => self.bury(to, now),
        }
    }

    /// Reads a socket until it is empty, or has had its turn.
    fn read(&mut self, token: Token, now: Mono) {
        let (index, port) = of_token(token);
        for _ in 0..PACKETS_A_TURN {
            // Its leg may have ended while the event was on the way.
            let Some(endpoint) = self.net.endpoint(index) else { return self.net.close_kept(index) };
            let Some(socket) = endpoint.socket(port) else { return };
            match socket.recv_from(&mut self.buffer[..BUFFER - MAX_OVERHEAD]) {
                Ok((len, from)) => {
                    let (session, leg) = (endpoint.session, endpoint.leg);
                    self.tally.packets_in += 1;
                    self.tally.bytes_in += len as u64;
                    self.net.open_rtcp(index);
                    self.take_packet(session, leg, port, from, len, now);
                }
                Err(fault) if fault.kind() == io::ErrorKind::WouldBlock => return,
                // An ICMP answer to something that we sent; the next packet may be well.
                Err(_) => {}
            }
        }
        self.unread.push_back(token);
    }

    /// Reads the port that browsers share.
    fn read_shared(&mut self, now: Mono) {
        for _ in 0..PACKETS_A_TURN * 16 {
            let (len, from) = match self.net.receive_shared(&mut self.buffer[..BUFFER - MAX_OVERHEAD]) {
                None => return,
                Some(Ok(received)) => received,
                Some(Err(fault)) if fault.kind() == io::ErrorKind::WouldBlock => return,
                Some(Err(_)) => continue,
            };
            self.take_shared(from, len, now);
        }
        self.unread.push_back(SHARED);
    }

    fn accept(&mut self, now: Mono) {
        if self.net.accept(now) {
            self.unread.push_back(LISTENER);
        }
    }

    /// Reads a browser's connection: its datagrams are as those of the shared port.
    fn read_stream(&mut self, token: Token, key: usize, now: Mono) {
        for _ in 0..PACKETS_A_TURN {
            match self.net.receive_stream(key, &mut self.buffer[..BUFFER - MAX_OVERHEAD]) {
                Some((len, from)) => self.take_shared(from, len, now),
                None => return,
            }
        }
        self.unread.push_back(token);
    }

    /// What a browser's datagram is, and whose, says its first byte and, but for checks, where it comes from.
    fn take_shared(&mut self, from: SocketAddr, len: usize, now: Mono) {
        self.tally.packets_in += 1;
        self.tally.bytes_in += len as u64;
        let datagram = &self.buffer[..len];
        let sort = Sort::of(datagram);
        let (place, sharer) = match sort {
            Sort::Stun => match ufrag_of(datagram).and_then(|ufrag| self.net.sharer_named(ufrag)) {
                Some((place, sharer)) => (Some(place), Some(sharer)),
                None => (None, None),
            },
            Sort::Dtls | Sort::Media => (None, self.net.sharer_at(from)),
            Sort::Unknown => (None, None),
        };
        let Some((session, leg)) = sharer.map(|sharer| (sharer.session, sharer.leg)) else {
            return self.count_dropped(Dropped::Source);
        };
        match sort {
            Sort::Media => self.take_packet(session, leg, Port::Rtp, from, len, now),
            _ => self.take_transport(session, leg, place, from, len, now),
        }
    }

    /// `place` is whose a check says that it is.
    fn take_transport(
        &mut self,
        index: usize,
        leg: LegId,
        place: Option<usize>,
        from: SocketAddr,
        len: usize,
        now: Mono,
    ) {
        let Some(entry) = self.sessions.get_mut(index) else { return };
        self.is_stale = true;
        mark(self.config.memory.as_ref(), entry.session.id().0);
        match guarded(|| entry.session.handle_transport(leg, from, &self.buffer[..len], now)) {
            Ok(is_proved) => {
                match place {
                    Some(place) if is_proved => self.net.learn(place, from),
                    Some(_) => self.count_dropped(Dropped::Source),
                    None => {}
                }
                self.flush(index, now);
            }
            Err(Panicked) => self.bury(index, now),
        }
    }

    fn take_packet(&mut self, index: usize, leg: LegId, port: Port, from: SocketAddr, len: usize, now: Mono) {
        let Some(entry) = self.sessions.get_mut(index) else { return };
        self.is_stale = true;
        let session = &mut entry.session;
        mark(self.config.memory.as_ref(), session.id().0);
        if port == Port::Rtcp || is_rtcp(&self.buffer[..len]) {
            match guarded(|| session.handle_rtcp(leg, from, &mut self.buffer[..len], now)) {
                Ok(taken) => self.tally.dropped_rtcp += u64::from(!taken),
                Err(Panicked) => self.bury(index, now),
            }
            return;
        }
        match guarded(|| session.handle_rtp(leg, from, &mut self.buffer[..], len, now)) {
            Ok(Ok(transmit)) => {
                if let Some(transmit) = transmit {
                    self.send(index, &transmit);
                }
                self.flush(index, now);
            }
            Ok(Err(reason)) => self.count_dropped(reason),
            Err(Panicked) => self.bury(index, now),
        }
    }

    fn count_dropped(&mut self, reason: Dropped) {
        self.tally.dropped[reason as usize] += 1;
    }

    fn send(&mut self, index: usize, transmit: &Transmit) {
        let Some(entry) = self.sessions.get(index) else { return };
        let Some((leg, endpoint)) = entry.endpoints.iter().find(|(leg, _)| *leg == transmit.leg) else { return };
        // Before it leaves: whoever takes our place must not use its number again.
        entry.write_down(self.config.memory.as_ref(), *leg, *endpoint);
        let packet = &self.buffer[transmit.packet.clone()];
        if self.net.send(*endpoint, transmit.from, transmit.to, packet) {
            self.tally.packets_out += 1;
            self.tally.bytes_out += packet.len() as u64;
        } else {
            self.tally.send_failed += 1;
        }
    }

    /// Sends, tells and sets what a session has after an input.
    pub fn flush(&mut self, index: usize, now: Mono) {
        self.transmit(index, now);
        self.tell(index, now);
    }

    pub fn transmit(&mut self, index: usize, now: Mono) {
        loop {
            let Some(entry) = self.sessions.get_mut(index) else { return };
            match guarded(|| entry.session.poll_transmit(&mut self.buffer[..])) {
                Ok(Some(transmit)) => self.send(index, &transmit),
                Ok(None) => return,
                Err(Panicked) => return self.bury(index, now),
            }
        }
    }

    pub fn tell(&mut self, index: usize, now: Mono) {
        let Some(entry) = self.sessions.get_mut(index) else { return };
        while let Some((link, frame)) = entry.session.poll_frame() {
            self.frames.push_back((index, link, frame));
        }
        let place = Place { index, generation: entry.generation };
        while let Some((recorder, step)) = entry.session.poll_file() {
            if let Err(failed) = self.recordings.take(RecordingKey { place, recorder }, step) {
                entry.session.handle_file(recorder, failed, now);
            }
        }
        while let Some(event) = entry.session.poll_event() {
            if let Some(MediaEventKind::LegClosed(proto::LegClosed { statistics: Some(statistics), .. })) = &event.kind
            {
                self.losses.0 += statistics.packets_lost;
                self.losses.1 += statistics.packets_late;
            }
            (self.events)(event);
        }
        if let Some(at) = entry.session.next_deadline()
            && entry.timer.is_none_or(|timer| at < timer)
        {
            entry.timer = Some(at);
            self.timers.set(at, place);
        }
        if entry.session.is_over() {
            self.remove(index, now);
        }
    }

    /// The first timer that still means something: what stands before it for sessions that have got on, or are over, is
    /// dropped, so that nobody wakes up for it.
    fn next_timer(&mut self) -> Option<(Mono, Place)> {
        loop {
            let (at, place) = self.timers.first()?;
            let of_place = |entry: &&mut Entry| entry.generation == place.generation && entry.timer == Some(at);
            let Some(entry) = self.sessions.get_mut(place.index).filter(of_place) else {
                self.timers.drop_first();
                continue;
            };
            let due = entry.session.next_deadline();
            if due.is_some_and(|due| due <= at) {
                return Some((at, place));
            }
            entry.timer = due;
            self.timers.drop_first();
            if let Some(due) = due {
                self.timers.set(due, place);
            }
        }
    }

    fn take_deadlines(&mut self, now: Mono) {
        while let Some((due, place)) = self.next_timer().filter(|(at, _)| *at <= now) {
            self.timers.drop_first();
            let Some(entry) = self.sessions.get_mut(place.index) else { continue };
            entry.timer = None;
            mark(self.config.memory.as_ref(), entry.session.id().0);
            if guarded(|| entry.session.handle_timeout(now)).is_err() {
                self.bury(place.index, now);
                continue;
            }
            self.count_lateness(now.since(due));
            self.flush(place.index, now);
        }
    }

    fn count_lateness(&mut self, late: Duration) {
        let us = u64::try_from(late.as_micros()).unwrap_or(u64::MAX);
        let bucket = LATENESS_BOUNDS_US.iter().position(|bound| us <= *bound).unwrap_or(LATENESS_BOUNDS_US.len());
        self.tally.lateness[bucket] += 1;
        self.tally.lateness_sum_us += us;
        self.shared.note_lateness(us);
    }

    /// Hands frames to the other ends of their links. Links that form a circle lose frames after a few rounds.
    pub fn deliver_frames(&mut self, now: Mono) {
        for _ in 0..MAX_HOPS {
            for _ in 0..self.frames.len() {
                let Some((from, link, frame)) = self.frames.pop_front() else { break };
                let ends = self.links.get(&link).map_or(&[][..], Vec::as_slice);
                match (ends.iter().copied().find(|end| *end != from), &mut self.far) {
                    (Some(to), _) => self.take_frame(to, link, &frame, now),
                    (None, Some(far)) => far.send(link, &frame),
                    (None, None) => {}
                }
            }
        }
        self.frames.clear();
    }

    /// Makes the counts visible; what is counted from all sessions is so once a second, if anything
    /// was taken since.
    pub fn publish(&mut self, now: Mono, at_once: bool) {
        self.shared.add(&mut self.tally);
        self.shared.set_free_legs(self.net.free_legs());
        if !self.is_stale || (!at_once && now.since(self.counted_at) < COUNT_EVERY) {
            return;
        }
        self.is_stale = false;
        self.counted_at = now;
        let mut legs_by_codec = [0; Codec::ALL.len()];
        let (mut lost, mut late) = self.losses;
        let (mut legs, mut units) = (0, 0);
        for (_, entry) in &self.sessions {
            legs += entry.session.leg_count();
            units += entry.session.units();
            // What came without anything leaving is counted too.
            for (leg, endpoint) in &entry.endpoints {
                entry.write_down(self.config.memory.as_ref(), *leg, *endpoint);
            }
            for leg in entry.session.legs() {
                let (leg_lost, leg_late) = leg.losses();
                lost += leg_lost;
                late += leg_late;
                if let Some(plan) = leg.plan() {
                    legs_by_codec[plan.codec as usize] += 1;
                }
            }
        }
        let capacity = self.capacity.look(self.shared.lateness(), units);
        self.shared.set_load(units, capacity);
        self.shared.set_losses(lost, late);
        self.shared.set_sessions(self.sessions.len() as u64, u32::try_from(legs).unwrap_or(u32::MAX), legs_by_codec);
    }
}

/// Says for whom the worker works from now on: the first to be asked when it dies of that.
pub(super) fn mark(memory: Option<&Memory>, session: u64) {
    if let Some(memory) = memory {
        memory.set_working_for(session);
    }
}

const WAKER: Token = Token(usize::MAX);
const FRAMES: Token = Token(usize::MAX - 1);
/// No RTP of ours or a peer's is longer; a datagram that is, is cut off by the kernel and dropped as junk.
const BUFFER: usize = 2048;
const POLLED: usize = 1024;
/// A socket that is flooded lets the others have their turn.
const PACKETS_A_TURN: usize = 64;
const MAX_HOPS: usize = 4;
const COUNT_EVERY: Duration = Duration::from_secs(1);
