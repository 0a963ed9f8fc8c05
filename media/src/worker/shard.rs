//! The loop: wait, read the clock once, take commands, packets and deadlines, send what comes of them.
//!
//! Every session is called inside a guard: a panic is a bug of ours, and ends the one session that it is in. The
//! loop allocates nothing per packet, and makes one system call to receive it and one to send it on.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use mio::{Events as Polled, Poll, Token, Waker};
use slab::Slab;

use super::clock::Clock;
use super::counters::{LATENESS_BOUNDS_US, Shared, Tally};
use super::net::{Net, Opener, of_token};
use super::ports::PortPool;
use super::socket::Sockets;
use super::timers::{Slot, Timers};
use super::{Config, Events};
use crate::clips::{Clip, ClipHash, Clips};
use crate::codec::Codec;
use crate::ids::{LegId, LinkKey, SessionId};
use crate::leg::Dropped;
use crate::proto::{self, Command, CommandKind, LegKind, MediaEvent, MediaEventKind, Refusal};
use crate::rtp::is_rtcp;
use crate::session::{Frame, Port, Session, Settings, Transmit, unknown};
use crate::time::Mono;

/// What other threads ask of a shard.
pub(super) enum Control {
    Command(Command),
    EdgeLost,
}

/// One shard, owned by its thread.
pub(super) struct Shard {
    config: Config,
    poll: Poll,
    clock: Clock,
    queue: Receiver<Control>,
    events: Events,
    shared: Arc<Shared>,
    tally: Tally,
    net: Net,
    sessions: Slab<Entry>,
    by_id: HashMap<SessionId, usize>,
    links: HashMap<LinkKey, Vec<usize>>,
    clips: Clips,
    timers: Timers,
    generations: u64,
    /// Frames on their way from session to session.
    frames: VecDeque<(usize, LinkKey, Frame)>,
    /// Sockets that had more than one turn's packets.
    unread: Vec<Token>,
    /// Of legs that are over.
    losses: (u64, u64),
    counted_at: Mono,
    buffer: Box<[u8; BUFFER]>,
}

/// A session and what the shard keeps for it.
struct Entry {
    session: Session,
    generation: u64,
    endpoints: Vec<(LegId, usize)>,
    links: Vec<LinkKey>,
    /// The earliest deadline in the heap.
    timer: Option<Mono>,
}

impl Shard {
    pub fn new(
        config: Config,
        sockets: Box<dyn Sockets>,
        queue: Receiver<Control>,
        events: Events,
        shared: Arc<Shared>,
    ) -> io::Result<(Shard, Waker)> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKER)?;
        let ports = PortPool::new(config.ports.clone());
        let net = Net::new(config.address, sockets, ports, poll.registry().try_clone()?);
        shared.set_free_legs(net.free_legs());
        let shard = Shard {
            clips: Clips::new(config.clip_cache_bytes),
            config,
            poll,
            clock: Clock::new(),
            queue,
            events,
            shared,
            tally: Tally::default(),
            net,
            sessions: Slab::new(),
            by_id: HashMap::new(),
            links: HashMap::new(),
            timers: Timers::default(),
            generations: 0,
            frames: VecDeque::new(),
            unread: Vec::new(),
            losses: (0, 0),
            counted_at: Mono(0),
            buffer: Box::new([0; BUFFER]),
        };
        Ok((shard, waker))
    }

    /// Runs until [`super::Handle::shutdown`].
    pub fn run(mut self) {
        let mut polled = Polled::with_capacity(POLLED);
        while !self.shared.is_stopping() {
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
        self.say_goodbye();
    }

    fn timeout(&self) -> Option<Duration> {
        if !self.unread.is_empty() {
            return Some(Duration::ZERO);
        }
        self.timers.next().map(|at| at.since(self.clock.now()))
    }

    /// Everything of one wake-up.
    fn turn(&mut self, polled: &Polled) {
        let now = self.clock.now();
        let mut woken = false;
        for token in std::mem::take(&mut self.unread) {
            self.read(token, now);
        }
        for event in polled {
            match event.token() {
                WAKER => woken = true,
                token => self.read(token, now),
            }
        }
        self.take_deadlines(now);
        if woken {
            self.take_controls(now);
        }
        self.deliver_frames(now);
        self.publish(now, woken);
    }

    /// Reads a socket until it is empty, or has had its turn.
    fn read(&mut self, token: Token, now: Mono) {
        let (index, port) = of_token(token);
        for _ in 0..PACKETS_A_TURN {
            let Some(endpoint) = self.net.endpoint(index) else { return };
            let socket = if port == Port::Rtp { &endpoint.rtp } else { &endpoint.rtcp };
            match socket.recv_from(&mut self.buffer[..]) {
                Ok((len, from)) => {
                    let (session, leg) = (endpoint.session, endpoint.leg);
                    self.tally.packets_in += 1;
                    self.tally.bytes_in += len as u64;
                    self.take_packet(session, leg, port, from, len, now);
                }
                Err(fault) if fault.kind() == io::ErrorKind::WouldBlock => return self.settle(index),
                // An ICMP answer to something that we sent; the next packet may be well.
                Err(_) => {}
            }
        }
        self.unread.push(token);
    }

    fn take_packet(&mut self, index: usize, leg: LegId, port: Port, from: std::net::SocketAddr, len: usize, now: Mono) {
        let Some(entry) = self.sessions.get_mut(index) else { return };
        let session = &mut entry.session;
        let packet = &mut self.buffer[..len];
        let is_report = port == Port::Rtcp || is_rtcp(packet);
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            if is_report {
                return Ok((session.handle_rtcp(leg, from, packet, now), None));
            }
            session.handle_rtp(leg, from, packet, now).map(|transmit| (true, transmit))
        }));
        match outcome {
            Ok(Ok((taken, transmit))) => {
                self.tally.dropped_rtcp += u64::from(!taken);
                if let Some(transmit) = transmit {
                    self.send(index, &transmit);
                }
                self.flush(index, now);
            }
            Ok(Err(reason)) => self.count_dropped(reason),
            Err(_) => self.bury(index, now),
        }
    }

    fn count_dropped(&mut self, reason: Dropped) {
        if let Some(at) = Dropped::ALL.iter().position(|known| *known == reason) {
            self.tally.dropped[at] += 1;
        }
    }

    fn send(&mut self, index: usize, transmit: &Transmit) {
        let Some(entry) = self.sessions.get(index) else { return };
        let Some((_, endpoint)) = entry.endpoints.iter().find(|(leg, _)| *leg == transmit.leg) else { return };
        let packet = &self.buffer[transmit.packet.clone()];
        if self.net.send(*endpoint, transmit.from, transmit.to, packet) {
            self.tally.packets_out += 1;
            self.tally.bytes_out += packet.len() as u64;
        } else {
            self.tally.send_failed += 1;
        }
    }

    /// Sends, tells and sets what a session has after an input.
    fn flush(&mut self, index: usize, now: Mono) {
        loop {
            let Some(entry) = self.sessions.get_mut(index) else { return };
            match catch_unwind(AssertUnwindSafe(|| entry.session.poll_transmit(&mut self.buffer[..]))) {
                Ok(Some(transmit)) => self.send(index, &transmit),
                Ok(None) => break,
                Err(_) => return self.bury(index, now),
            }
        }
        let Some(entry) = self.sessions.get_mut(index) else { return };
        while let Some((link, frame)) = entry.session.poll_frame() {
            self.frames.push_back((index, link, frame));
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
            self.timers.set(at, Slot { index, generation: entry.generation });
        }
        if entry.session.is_over() {
            self.remove(index, now);
        }
    }

    /// Connects a leg's socket once its peer is certain.
    fn settle(&mut self, endpoint_index: usize) {
        let Some(endpoint) = self.net.endpoint(endpoint_index) else { return };
        let Some(entry) = self.sessions.get(endpoint.session) else { return };
        let peer = entry.session.leg(endpoint.leg).and_then(|leg| leg.settled_peer());
        self.net.settle(endpoint_index, peer);
    }

    fn take_deadlines(&mut self, now: Mono) {
        while let Some((at, slot)) = self.timers.pop(now) {
            let Some(entry) = self.sessions.get_mut(slot.index) else { continue };
            if entry.generation != slot.generation || entry.timer != Some(at) {
                continue;
            }
            entry.timer = None;
            let session = &mut entry.session;
            if session.next_deadline().is_some_and(|due| due <= now) {
                self.count_lateness(now.since(at));
                let session = &mut self.sessions[slot.index].session;
                if catch_unwind(AssertUnwindSafe(|| session.handle_timeout(now))).is_err() {
                    self.bury(slot.index, now);
                    continue;
                }
            }
            self.flush(slot.index, now);
        }
    }

    fn count_lateness(&mut self, late: Duration) {
        let us = u64::try_from(late.as_micros()).unwrap_or(u64::MAX);
        let bucket = LATENESS_BOUNDS_US.iter().position(|bound| us <= *bound).unwrap_or(LATENESS_BOUNDS_US.len());
        self.tally.lateness[bucket] += 1;
        self.tally.lateness_sum_us += us;
        self.shared.note_lateness(us);
    }

    fn take_controls(&mut self, now: Mono) {
        while let Ok(control) = self.queue.try_recv() {
            match control {
                Control::Command(command) => self.take_command(&command, now),
                Control::EdgeLost => {
                    for index in self.indices() {
                        self.sessions[index].session.handle_edge_lost(now);
                        self.flush(index, now);
                    }
                }
            }
        }
    }

    fn take_command(&mut self, command: &Command, now: Mono) {
        if let Some(CommandKind::Audio(audio)) = &command.kind {
            return self.take_audio(command, audio, now);
        }
        let id = SessionId(command.session_id);
        let index = match (self.by_id.get(&id), &command.kind) {
            (Some(index), _) => *index,
            (None, Some(CommandKind::Open(spec))) if self.sessions.len() >= self.config.max_sessions => {
                return self.refuse_all(command, spec);
            }
            (None, Some(CommandKind::Open(_))) => self.insert(id, command.owner_epoch, now),
            (None, _) => {
                for event in unknown(command) {
                    (self.events)(event);
                }
                return;
            }
        };
        let Shard { sessions, net, clips, .. } = self;
        let entry = &mut sessions[index];
        let mut opener = Opener { net, session: index, now, opened: Vec::new() };
        let session = &mut entry.session;
        let outcome = catch_unwind(AssertUnwindSafe(|| session.handle_command(command, &mut opener, clips, now)));
        entry.endpoints.append(&mut opener.opened);
        if outcome.is_err() {
            return self.bury(index, now);
        }
        self.flush(index, now);
        self.reconcile(index, now);
    }

    /// No capacity: every RTP leg of the spec is refused, and there is no session.
    fn refuse_all(&mut self, command: &Command, spec: &proto::SessionSpec) {
        for leg in spec.legs.iter().filter(|leg| matches!(leg.kind, Some(LegKind::Rtp(_)))) {
            let refused = proto::Refused {
                command_id: command.command_id,
                leg_id: leg.leg_id,
                reason: Refusal::NoCapacity as i32,
                text: format!("no more than {} sessions", self.config.max_sessions),
            };
            (self.events)(MediaEvent { session_id: command.session_id, kind: Some(MediaEventKind::Refused(refused)) });
        }
    }

    /// Audio is for every session that waits for it; that there is none is for the session that asked.
    fn take_audio(&mut self, command: &Command, audio: &proto::Audio, now: Mono) {
        let Some(hash) = ClipHash::from_bytes(&audio.hash) else { return };
        let clip = Clip::new(audio.samples.clone(), audio.rate_hz);
        if let Some(clip) = &clip {
            self.clips.insert(hash, clip.clone());
        }
        let asked = self.by_id.get(&SessionId(command.session_id)).copied();
        let told = if clip.is_some() { self.indices() } else { asked.into_iter().collect() };
        for index in told {
            self.sessions[index].session.handle_clip(hash, clip.as_ref(), now);
            self.flush(index, now);
        }
    }

    fn indices(&self) -> Vec<usize> {
        self.sessions.iter().map(|(index, _)| index).collect()
    }

    fn insert(&mut self, id: SessionId, owner_epoch: u64, now: Mono) -> usize {
        let settings =
            Settings { advertise: self.config.advertise, latching: self.config.latching, seed: self.config.seed };
        self.generations += 1;
        let index = self.sessions.insert(Entry {
            session: Session::new(id, owner_epoch, settings, now),
            generation: self.generations,
            endpoints: Vec::new(),
            links: Vec::new(),
            timer: None,
        });
        self.by_id.insert(id, index);
        index
    }

    /// After a command: sockets and links are those of the legs that there are; a session without legs is none.
    fn reconcile(&mut self, index: usize, now: Mono) {
        let Shard { sessions, net, links, .. } = self;
        let Some(entry) = sessions.get_mut(index) else { return };
        let session = &entry.session;
        entry.endpoints.retain(|(leg, endpoint)| {
            let port = net.endpoint(*endpoint).map(|endpoint| endpoint.port);
            let kept = session.leg(*leg).is_some_and(|leg| Some(leg.negotiation().endpoint().port()) == port);
            if !kept {
                net.close(*endpoint, now);
            }
            kept
        });
        let now_linked: Vec<LinkKey> = session.links().collect();
        for link in entry.links.drain(..).filter(|link| !now_linked.contains(link)) {
            unlink(links, link, index);
        }
        for link in &now_linked {
            let ends = links.entry(*link).or_default();
            if !ends.contains(&index) {
                ends.push(index);
            }
        }
        entry.links = now_linked;
        if session.leg_count() == 0 {
            return self.remove(index, now);
        }
        let endpoints = self.sessions[index].endpoints.clone();
        for (_, endpoint) in endpoints {
            self.settle(endpoint);
        }
    }

    fn remove(&mut self, index: usize, now: Mono) {
        let Some(entry) = self.sessions.try_remove(index) else { return };
        self.by_id.remove(&entry.session.id());
        for (_, endpoint) in entry.endpoints {
            self.net.close(endpoint, now);
        }
        for link in entry.links {
            unlink(&mut self.links, link, index);
        }
    }

    /// Ends a session that panicked. What it holds may be in any state, so nothing is asked of it any more.
    fn bury(&mut self, index: usize, now: Mono) {
        let Some(entry) = self.sessions.get(index) else { return };
        let session_id = entry.session.id().0;
        tracing::error!(session_id, "media session panicked");
        self.tally.panics += 1;
        let legs: Vec<LegId> = entry.endpoints.iter().map(|(leg, _)| *leg).collect();
        self.remove(index, now);
        for leg in legs {
            let closed = proto::LegClosed { leg_id: leg.0, statistics: None };
            (self.events)(MediaEvent { session_id, kind: Some(MediaEventKind::LegClosed(closed)) });
        }
        (self.events)(MediaEvent { session_id, kind: Some(MediaEventKind::Released(proto::Release {})) });
    }

    /// Hands frames to the other ends of their links. Links that form a circle lose frames after a few rounds.
    fn deliver_frames(&mut self, now: Mono) {
        for _ in 0..MAX_HOPS {
            if self.frames.is_empty() {
                return;
            }
            for (from, link, frame) in std::mem::take(&mut self.frames) {
                let to = self.links.get(&link).and_then(|ends| ends.iter().copied().find(|end| *end != from));
                let Some(entry) = to.and_then(|to| self.sessions.get_mut(to)) else { continue };
                let to = to.unwrap_or_default();
                if catch_unwind(AssertUnwindSafe(|| entry.session.handle_frame(link, &frame, now))).is_err() {
                    self.bury(to, now);
                } else {
                    self.flush(to, now);
                }
            }
        }
        self.frames.clear();
    }

    /// Makes the counts visible; what is counted from the sessions is so after commands, and once a second.
    fn publish(&mut self, now: Mono, commanded: bool) {
        self.shared.add(&mut self.tally);
        if !commanded && now.since(self.counted_at) < COUNT_EVERY {
            return;
        }
        self.counted_at = now;
        self.shared.set_free_legs(self.net.free_legs());
        let mut legs_by_codec = [0; Codec::ALL.len()];
        let (mut lost, mut late) = self.losses;
        let mut legs = 0;
        for (_, entry) in &self.sessions {
            legs += entry.session.leg_count();
            for leg in entry.session.legs() {
                let (leg_lost, leg_late) = leg.losses();
                lost += leg_lost;
                late += leg_late;
                if let Some(plan) = leg.plan() {
                    legs_by_codec[plan.codec as usize] += 1;
                }
            }
        }
        self.shared.set_losses(lost, late);
        self.shared.set_sessions(self.sessions.len() as u64, u32::try_from(legs).unwrap_or(u32::MAX), legs_by_codec);
    }

    fn say_goodbye(&mut self) {
        let now = self.clock.now();
        self.events = Box::new(|_| {});
        for index in self.indices() {
            let release = Command {
                command_id: 0,
                session_id: self.sessions[index].session.id().0,
                owner_epoch: u64::MAX,
                kind: Some(CommandKind::Release(proto::Release {})),
            };
            self.take_command(&release, now);
        }
        self.publish(now, true);
    }
}

fn unlink(links: &mut HashMap<LinkKey, Vec<usize>>, link: LinkKey, index: usize) {
    if let Some(ends) = links.get_mut(&link) {
        ends.retain(|end| *end != index);
        if ends.is_empty() {
            links.remove(&link);
        }
    }
}

const WAKER: Token = Token(usize::MAX);
/// No RTP of ours or a peer's is longer; a datagram that is, is cut off by the kernel and dropped as junk.
const BUFFER: usize = 2048;
const POLLED: usize = 1024;
/// A socket that is flooded lets the others have their turn.
const PACKETS_A_TURN: usize = 64;
const MAX_HOPS: usize = 4;
const COUNT_EVERY: Duration = Duration::from_secs(1);
