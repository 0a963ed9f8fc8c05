//! The media of one call: its legs, and what each of them hears.
//!
//! A session is a graph of legs. It takes commands, packets, frames and the time, and is asked for packets, frames
//! and events; it opens no socket and knows no other session. A leg that is only relayed, or hears nothing, costs
//! nothing but its packets and its RTCP: the 20 ms tick runs only while a player, a digit, a remote leg, the mix, a
//! recorder or a tap needs it.
//!
//! Panics are bugs, and the worker ends the one session that had it.

mod commands;
mod listeners;
mod places;
mod recording;
mod room;
mod slot;

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use crate::clips::{Clip, ClipHash};
use crate::codec::Codec;
use crate::dtmf::{Key, KeyEvent};
use crate::ids::{LegId, LinkKey, SessionId};
use crate::leg::{Dropped, Forwarded, Hot, Latching, Leg, LegEvent};
use crate::player::Player;
use crate::playout::FRAME_SAMPLES;
use crate::proto::{self, MediaEvent, MediaEventKind, RecorderEnded};
use crate::random::Random;
use crate::received::Received;
use crate::recorder::Recorder;
use crate::sdp::Payload;
use crate::time::{Mono, sooner};
use crate::webrtc::Identity;

pub use commands::{Ports, unknown};

use listeners::{Audio, Listeners};
use places::Places;
use room::Room;
use slot::{Hearing, Kind, Slot};

/// What all sessions of a worker have in common.
#[derive(Clone)]
pub struct Settings {
    /// The address that our SDP names.
    pub advertise: IpAddr,
    pub latching: Latching,
    /// Of all numbers that must differ from session to session.
    pub seed: u64,
    /// Who this process is to browsers; without one it has no legs of theirs.
    pub identity: Option<Arc<Identity>>,
}

/// The media of one call.
pub struct Session {
    id: SessionId,
    owner_epoch: u64,
    settings: Settings,
    random: Random,
    slots: Vec<Slot>,
    places: Places,
    room: Room,
    listeners: Listeners,
    /// How the last ones ended, for commands that come again.
    ended_recorders: VecDeque<RecorderEnded>,
    /// Legs that are over, but have not said goodbye.
    leaving: Vec<Leg>,
    frames: VecDeque<(LinkKey, Frame)>,
    happened: VecDeque<MediaEvent>,
    /// The moment of the last input.
    now: Mono,
    /// Something may be waiting in [`Session::poll_transmit`] or [`Session::poll_frame`].
    pending: bool,
    /// The slot that [`Session::poll_transmit`] has come to.
    polled: usize,
    /// The next deadline, unless something happened since that may have brought it forward.
    deadline: Option<Option<Mono>>,
    orphan_until: Option<Mono>,
    /// Every leg is closed; over once the files of recordings are complete.
    is_released: bool,
    is_over: bool,
}

/// A packet to send: a range of the buffer that was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transmit {
    pub leg: LegId,
    /// Which of the leg's two ports it leaves from.
    pub from: Port,
    pub to: SocketAddr,
    pub packet: Range<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    Rtp,
    Rtcp,
}

/// 20 ms between two sessions: audio, and a key that was pressed in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// `None` where only the key is told.
    pub samples: Option<[i16; FRAME_SAMPLES]>,
    pub key: Option<Key>,
}

impl Session {
    /// A session without legs; the command that opens it follows.
    pub fn new(id: SessionId, owner_epoch: u64, settings: Settings, now: Mono) -> Session {
        Session {
            id,
            owner_epoch,
            random: Random::new(settings.seed, id.0),
            settings,
            slots: Vec::new(),
            places: Places::default(),
            room: Room::default(),
            listeners: Listeners::default(),
            ended_recorders: VecDeque::new(),
            leaving: Vec::new(),
            frames: VecDeque::new(),
            happened: VecDeque::new(),
            now,
            pending: false,
            polled: 0,
            deadline: None,
            orphan_until: None,
            is_released: false,
            is_over: false,
        }
    }

    pub fn id(&self) -> SessionId {
        self.id
    }

    /// Released, or an orphan whose time is over: to be dropped once everything was polled.
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    pub fn leg_count(&self) -> usize {
        self.slots.len()
    }

    /// What it takes, in units of one leg of G.711: one that is mixed or recorded is decoded besides, and one that comes to
    /// anybody through an encoder of Opus takes as much as several.
    pub fn units(&self) -> u32 {
        let mixed = self.slots.iter().filter(|slot| slot.voice.is_some()).count();
        let encoded = self.legs().filter(|leg| leg.is_encoding_opus()).count();
        let listeners = 2 * self.listeners.recorders.len() + self.listeners.taps.len();
        let units = self.slots.len() + mixed + listeners + OPUS_UNITS * encoded;
        u32::try_from(units).unwrap_or(u32::MAX)
    }

    /// The RTP legs.
    pub fn legs(&self) -> impl Iterator<Item = &Leg> {
        self.slots.iter().filter_map(|slot| slot.kind.leg())
    }

    /// An RTP leg.
    pub fn leg(&self, id: LegId) -> Option<&Leg> {
        self.legs().find(|leg| leg.id() == id)
    }

    /// What whoever takes this worker's place must know of an RTP leg.
    pub fn hot(&self, id: LegId) -> Option<Hot> {
        let slot = self.slots.iter().find(|slot| slot.id == id)?;
        let hot = slot.kind.leg()?.hot();
        let player = slot.player.as_ref();
        Some(Hot {
            player: player.map_or(0, |player| player.id().0),
            played_ms: player.map_or(0, Player::offset_ms),
            ..hot
        })
    }

    /// The keys of the links that end in this session.
    pub fn links(&self) -> impl Iterator<Item = LinkKey> + '_ {
        self.slots.iter().filter_map(|slot| slot.kind.link())
    }

    /// Takes a datagram that arrived on a leg's RTP port.
    ///
    /// It is the first `len` bytes of `buffer`, which needs room for [`crate::srtp::MAX_OVERHEAD`] more. A packet that is
    /// relayed as it is comes back at once, rewritten in place; anything else that it leads to is in
    /// [`Session::poll_transmit`]. Under 200 ns, without allocation, for a relayed packet that is not encrypted.
    pub fn handle_rtp(
        &mut self,
        leg: LegId,
        from: SocketAddr,
        buffer: &mut [u8],
        len: usize,
        now: Mono,
    ) -> Result<Option<Transmit>, Dropped> {
        self.now = now;
        let index = self.index_of(leg).ok_or(Dropped::NotAgreed)?;
        let source = self.slots[index].kind.leg_mut().ok_or(Dropped::NotAgreed)?;
        let received = source.receive(from, &mut buffer[..len], now)?;
        let packet = &buffer[..len];
        if source.has_events() || received.carries == Payload::Event {
            self.deadline = None;
            self.drain(index);
        }
        if let Payload::Audio(codec) = received.carries
            && codec.law().is_none()
        {
            return Ok(self.take_encoded(index, codec, &received, buffer));
        }
        self.take_in(index, &received, packet);
        if !self.slots[index].is_heard {
            return Ok(None);
        }
        self.deadline = None;
        let Some(last) = self.slots.iter().rposition(|slot| slot.hears == Hearing::Leg(leg)) else {
            return Ok(None);
        };
        for index in 0..last {
            if self.slots[index].hears == Hearing::Leg(leg) {
                self.hand_copy(index, &received, packet);
            }
        }
        Ok(self.hand_on(last, &received, buffer))
    }

    /// What a leg says, for the mix and for those who listen.
    fn take_in(&mut self, index: usize, received: &Received, packet: &[u8]) {
        if self.slots[index].voice.is_some() {
            self.listen_to(index, received, packet);
        }
        if !self.listeners.is_empty() {
            self.overhear(self.slots[index].id, received, &Audio::Packet(packet));
        }
    }

    /// What a leg says, for those who listen to it and to those who hear it.
    fn overhear(&mut self, source: LegId, received: &Received, audio: &Audio<'_>) {
        let Session { slots, listeners, now, .. } = self;
        let hears = |leg: LegId| slots.iter().any(|slot| slot.id == leg && slot.hears == Hearing::Leg(source));
        listeners.hear(source, hears, received, audio, *now);
    }

    /// A packet that is not of G.711 goes as it is to one leg that has its codec too, and decoded, once for all of them, to whoever
    /// else hears it.
    fn take_encoded(&mut self, index: usize, codec: Codec, received: &Received, buffer: &mut [u8]) -> Option<Transmit> {
        let source = self.slots[index].id;
        let hears = |slot: &Slot| slot.hears == Hearing::Leg(source);
        let takes = |slot: &Slot| slot.kind.leg().is_some_and(|leg| leg.takes(codec));
        let straight = self.slots.iter().position(|slot| hears(slot) && takes(slot));
        let others = |at: usize, slot: &Slot| hears(slot) && Some(at) != straight;
        let is_heard_otherwise = self.slots.iter().enumerate().any(|(at, slot)| others(at, slot));
        let is_wanted = is_heard_otherwise
            || self.slots[index].voice.is_some()
            || !self.listeners.is_empty()
            || self.slots[index].kind.leg().is_some_and(Leg::is_listening);
        if is_wanted && let Some(leg) = self.slots[index].kind.leg_mut() {
            let decoded = leg.decode(received, buffer);
            for packet in decoded.packets() {
                self.take_in(index, packet, decoded.bytes());
                for at in 0..self.slots.len() {
                    if others(at, &self.slots[at]) {
                        self.hand_copy(at, packet, decoded.bytes());
                    }
                }
            }
            self.drain(index);
        }
        if self.slots[index].is_heard {
            self.deadline = None;
        }
        let straight = straight?;
        if let Some(leg) = self.slots[index].kind.leg_mut() {
            leg.note_order(received, self.now);
        }
        self.hand_on(straight, received, buffer)
    }

    /// What the leg says is for the mix, when its time comes.
    fn listen_to(&mut self, index: usize, received: &Received, packet: &[u8]) {
        let slot = &mut self.slots[index];
        let in_time = slot.voice.as_mut().is_none_or(|voice| voice.intake.handle_packet(received, packet, self.now));
        if !in_time && let Some(leg) = slot.kind.leg_mut() {
            leg.count_late();
        }
    }

    /// The only, or the last, leg to hear a packet gets the packet itself.
    fn hand_on(&mut self, index: usize, received: &Received, buffer: &mut [u8]) -> Option<Transmit> {
        let Kind::Rtp(leg) = &mut self.slots[index].kind else {
            self.hand_copy(index, received, buffer);
            return None;
        };
        match leg.forward(received, buffer, self.now) {
            Forwarded::Packet(range) => rtp(leg, range, buffer),
            Forwarded::Buffered => {
                self.pending = true;
                None
            }
            Forwarded::Nothing => None,
        }
    }

    fn hand_copy(&mut self, index: usize, received: &Received, packet: &[u8]) {
        let slot = &mut self.slots[index];
        match &mut slot.kind {
            Kind::Rtp(leg) => {
                leg.forward_copy(received, packet);
                self.pending = true;
            }
            Kind::Remote(remote) => {
                let in_time = remote.playout.get_or_insert_default().handle_packet(received, packet, self.now);
                slot.wake(self.now);
                if !in_time {
                    let late = self.slots.iter_mut().find(|slot| slot.id == received.stream.leg);
                    if let Some(leg) = late.and_then(|slot| slot.kind.leg_mut()) {
                        leg.count_late();
                    }
                }
            }
            Kind::Announcer(_) => {}
        }
    }

    /// Takes a datagram of RTCP, from a leg's RTCP port or its RTP port; false where it was dropped.
    pub fn handle_rtcp(&mut self, leg: LegId, from: SocketAddr, datagram: &mut [u8], now: Mono) -> bool {
        self.now = now;
        self.deadline = None;
        self.pending = true;
        let leg = self.slots.iter_mut().find(|slot| slot.id == leg).and_then(|slot| slot.kind.leg_mut());
        leg.is_some_and(|leg| leg.handle_rtcp(from, datagram, now))
    }

    /// Takes a datagram of a browser's transport, STUN or DTLS; true where it proves that what comes from there is the
    /// browser's. Any other may be anybody's.
    pub fn handle_transport(&mut self, leg: LegId, from: SocketAddr, datagram: &[u8], now: Mono) -> bool {
        self.now = now;
        self.deadline = None;
        let Some(index) = self.index_of(leg) else { return false };
        let Some(leg) = self.slots[index].kind.leg_mut() else { return false };
        let is_proved = leg.handle_transport(from, datagram, now);
        self.pending = true;
        self.drain(index);
        // Now there may be a way out for what waits to be said.
        self.slots[index].settle(now);
        is_proved
    }

    /// Takes a frame from the other end of a link.
    pub fn handle_frame(&mut self, link: LinkKey, frame: &Frame, now: Mono) {
        self.now = now;
        let Some(index) = self.index_of_link(link) else { return };
        let max_frames = self.max_frames();
        let Slot { id: source, kind: Kind::Remote(remote), voice, .. } = &mut self.slots[index] else { return };
        let source = *source;
        // A key alone is no audio: it takes no place among the frames.
        let arrived = frame.samples.as_ref().map(|samples| (remote.arrived(source, now), samples));
        if let Some((received, samples)) = &arrived {
            if let Some(voice) = voice {
                voice.intake.handle_frame(received, samples, now);
            }
            if !self.listeners.is_empty() {
                self.overhear(source, received, &Audio::Frame(samples));
            }
        }
        if !self.slots[index].is_heard {
            return;
        }
        self.deadline = None;
        for slot in self.slots.iter_mut().filter(|slot| slot.hears == Hearing::Leg(source)) {
            match &mut slot.kind {
                Kind::Rtp(leg) => {
                    if let Some((received, samples)) = &arrived {
                        leg.forward_frame(received, *samples);
                    }
                    if let Some(key) = frame.key {
                        leg.press(key);
                        slot.wake(now);
                    }
                    self.pending = true;
                }
                Kind::Remote(remote) => push_frame(&mut self.frames, max_frames, remote.key, frame.clone()),
                Kind::Announcer(_) => {}
            }
        }
    }

    /// A clip has come, or is not to be had: players that wait for it go on.
    pub fn handle_clip(&mut self, hash: ClipHash, found: Option<&Clip>, now: Mono) {
        self.now = now;
        self.deadline = None;
        for slot in &mut self.slots {
            if slot.player.as_mut().is_some_and(|player| player.handle_clip(hash, found)) {
                slot.wake(now);
            }
        }
        self.wake_room();
    }

    /// The edge is gone: the session lives on for 60 s, unless an edge of the same or a higher epoch commands it.
    pub fn handle_edge_lost(&mut self, now: Mono) {
        self.deadline = None;
        self.orphan_until.get_or_insert(now + ORPHAN_TIME);
    }

    /// The edge is there again: an orphan that it does not take up soon is not its any more.
    pub fn handle_edge_back(&mut self, now: Mono) {
        if let Some(until) = self.orphan_until {
            self.deadline = None;
            self.orphan_until = Some(until.min(now + TAKEN_UP_IN));
        }
    }

    /// When to call [`Session::handle_timeout`]; `None` while nothing is to be done.
    pub fn next_deadline(&self) -> Option<Mono> {
        self.deadline.unwrap_or_else(|| self.earliest_deadline())
    }

    fn earliest_deadline(&self) -> Option<Mono> {
        let own = sooner(self.orphan_until, self.room.tick_at);
        let own = self.listeners.recorders.iter().map(Recorder::next_deadline).fold(own, sooner);
        self.slots.iter().map(Slot::next_deadline).fold(own, sooner)
    }

    pub fn handle_timeout(&mut self, now: Mono) {
        self.now = now;
        self.pending = true;
        self.deadline = None;
        if self.orphan_until.is_some_and(|at| at <= now) {
            self.release();
        }
        for index in 0..self.slots.len() {
            if let Kind::Rtp(leg) = &mut self.slots[index].kind {
                leg.handle_timeout(now);
                if leg.has_events() {
                    self.drain(index);
                }
            }
        }
        self.time_out_recorders();
    }

    /// The next packet to send, written somewhere into `buffer`, which holds at least [`MIN_BUFFER`] bytes.
    ///
    /// Call until there is none, after every input.
    pub fn poll_transmit(&mut self, buffer: &mut [u8]) -> Option<Transmit> {
        if !self.pending {
            return None;
        }
        let next = self.next_transmit(buffer);
        if next.is_none() {
            self.pending = false;
            self.polled = 0;
            self.deadline = Some(self.earliest_deadline());
        }
        next
    }

    fn next_transmit(&mut self, buffer: &mut [u8]) -> Option<Transmit> {
        while let Some(mut leg) = self.leaving.pop() {
            if let Some(len) = leg.farewell(buffer, self.now) {
                let last = rtcp(&mut leg, len, buffer);
                if last.is_some() {
                    return last;
                }
            }
        }
        while self.room.is_due(self.now) {
            self.tick_room();
        }
        for index in self.polled..self.slots.len() {
            self.polled = index;
            while self.slots[index].is_due(self.now) {
                let sent = self.tick(index, buffer);
                if sent.is_some() {
                    return sent;
                }
            }
            let Kind::Rtp(leg) = &mut self.slots[index].kind else { continue };
            if let Some((to, datagram)) = leg.poll_transport() {
                buffer[..datagram.len()].copy_from_slice(&datagram);
                return Some(Transmit { leg: leg.id(), from: Port::Rtp, to, packet: 0..datagram.len() });
            }
            if leg.can_send()
                && let (Some(to), Some(len)) = (leg.rtp_target(), leg.poll_repeat(buffer))
            {
                return Some(Transmit { leg: leg.id(), from: Port::Rtp, to, packet: 0..len });
            }
            if leg.rtcp_target().is_some()
                && let Some(len) = leg.poll_report(buffer, self.now)
                && let Some(report) = rtcp(leg, len, buffer)
            {
                return Some(report);
            }
            while let Some(range) = leg.poll_cut(buffer, self.now) {
                let packet = rtp(leg, range, buffer);
                if packet.is_some() {
                    return packet;
                }
            }
        }
        None
    }

    /// Lets one packet time of a slot pass.
    fn tick(&mut self, index: usize, buffer: &mut [u8]) -> Option<Transmit> {
        let max_frames = self.max_frames();
        let slot = &mut self.slots[index];
        let ticked = slot.tick(buffer, &mut self.listeners, self.now);
        if let Some(frame) = ticked.frame
            && let Some(link) = slot.kind.link()
        {
            push_frame(&mut self.frames, max_frames, link, frame);
        }
        let sent = ticked.packet.and_then(|range| slot.kind.leg_mut().and_then(|leg| rtp(leg, range, buffer)));
        if let Some(ended) = ticked.ended {
            self.tell(MediaEventKind::PlayerEnded(ended));
        }
        self.tell_marks(index);
        sent
    }

    /// The next frame for the other end of a link. Call after [`Session::poll_transmit`] has none left.
    pub fn poll_frame(&mut self) -> Option<(LinkKey, Frame)> {
        self.frames.pop_front()
    }

    pub fn poll_event(&mut self) -> Option<MediaEvent> {
        self.happened.pop_front()
    }

    /// The marks that a leg's player has come to.
    fn tell_marks(&mut self, index: usize) {
        let leg_id = self.slots[index].id.0;
        while let Some((player_id, name)) =
            self.slots[index].player.as_mut().and_then(|player| Some((player.id().0, player.poll_mark()?)))
        {
            self.tell(MediaEventKind::Marked(proto::Marked { leg_id, player_id, name }));
        }
    }

    fn tell(&mut self, kind: MediaEventKind) {
        self.happened.push_back(MediaEvent { session_id: self.id.0, kind: Some(kind) });
    }

    /// Passes on what a leg tells: to the edge, and digits to those who hear the leg.
    fn drain(&mut self, index: usize) {
        let leg_id = self.slots[index].id;
        while let Some(event) = self.slots[index].kind.leg_mut().and_then(Leg::poll_event) {
            match event {
                LegEvent::Failed(why) => {
                    self.tell(MediaEventKind::LegFailed(proto::LegFailed { leg_id: leg_id.0, why }));
                }
                LegEvent::Heard => self.tell(MediaEventKind::LegHeard(leg_id.0)),
                LegEvent::Silent { expected, stranger } => self.tell(MediaEventKind::LegSilent(proto::LegSilent {
                    leg_id: leg_id.0,
                    expected_from: expected.to_string(),
                    dropped_from: stranger.map(|from| from.to_string()).unwrap_or_default(),
                })),
                LegEvent::Key { event: KeyEvent::Pressed(key), in_band } => self.pass_key_on(leg_id, key, in_band),
                LegEvent::Key { event: KeyEvent::Released { key, duration_ms }, in_band } => {
                    let digit = proto::Digit { leg_id: leg_id.0, digit: u32::from(key.symbol()), duration_ms, in_band };
                    self.tell(MediaEventKind::Digit(digit));
                }
            }
        }
    }

    /// A digit goes out anew where it cannot be relayed: as tones to a leg without telephone-event, as an event from
    /// one, and over a link.
    fn pass_key_on(&mut self, source: LegId, key: Key, in_band: bool) {
        let max_frames = self.max_frames();
        for slot in self.slots.iter_mut().filter(|slot| slot.hears == Hearing::Leg(source) && slot.id != source) {
            match &mut slot.kind {
                Kind::Rtp(leg) => {
                    let has_events = leg.plan().is_some_and(|plan| plan.event_type.is_some());
                    if has_events == in_band {
                        leg.press(key);
                        slot.wake(self.now);
                        self.pending = true;
                    }
                }
                Kind::Remote(remote) if !in_band => {
                    push_frame(&mut self.frames, max_frames, remote.key, Frame { samples: None, key: Some(key) });
                }
                Kind::Remote(_) | Kind::Announcer(_) => {}
            }
        }
    }

    /// Ends everything: each leg is closed with its statistics, then each recording, and then the session.
    fn release(&mut self) {
        for index in (0..self.slots.len()).rev() {
            self.close(index);
        }
        self.stop_recorders_of(None);
        self.stop_taps_of(None);
        self.room.tick_at = None;
        self.is_released = true;
        self.orphan_until = None;
        self.end_if_released();
    }

    fn end_if_released(&mut self) {
        if self.is_released && !self.is_over && self.listeners.recorders.is_empty() {
            self.is_over = true;
            self.tell(MediaEventKind::Released(proto::Release {}));
        }
    }

    /// What may wait for links, which all are given a frame in one tick.
    fn max_frames(&self) -> usize {
        MAX_FRAMES * self.slots.len()
    }

    /// Ends a leg; its goodbye is still to be sent.
    fn close(&mut self, index: usize) {
        let mut slot = self.slots.remove(index);
        self.room.part(&slot);
        self.stop_recorders_of(Some(slot.id));
        self.stop_taps_of(Some(slot.id));
        if let Some(ended) = slot.stop_player() {
            self.tell(MediaEventKind::PlayerEnded(ended));
        }
        let statistics = slot.kind.leg().map(Leg::statistics);
        self.tell(MediaEventKind::LegClosed(proto::LegClosed { leg_id: slot.id.0, statistics }));
        if let Kind::Rtp(leg) = slot.kind {
            self.leaving.push(*leg);
            self.pending = true;
        }
    }
}

/// A packet that a leg has made, as it leaves.
fn rtp(leg: &mut Leg, packet: Range<usize>, buffer: &mut [u8]) -> Option<Transmit> {
    let to = leg.rtp_target()?;
    let packet = leg.seal_rtp(buffer, packet)?;
    Some(Transmit { leg: leg.id(), from: Port::Rtp, to, packet })
}

fn rtcp(leg: &mut Leg, len: usize, buffer: &mut [u8]) -> Option<Transmit> {
    let (to, mux) = leg.rtcp_target()?;
    let len = leg.seal_rtcp(buffer, len)?;
    Some(Transmit { leg: leg.id(), from: if mux { Port::Rtp } else { Port::Rtcp }, to, packet: 0..len })
}

/// What a link does not take in time is lost, as on a network.
fn push_frame(frames: &mut VecDeque<(LinkKey, Frame)>, max_frames: usize, link: LinkKey, frame: Frame) {
    if frames.len() < max_frames {
        frames.push_back((link, frame));
    }
}

/// What [`Session::poll_transmit`] needs to write a packet of 60 ms, a report, or a datagram of DTLS.
pub const MIN_BUFFER: usize = 1536;
/// What an encoder takes, against a leg's packets both ways.
const OPUS_UNITS: usize = 4;
/// How long an edge that is back may take to take its sessions up.
const TAKEN_UP_IN: Duration = Duration::from_secs(3);
const ORPHAN_TIME: Duration = Duration::from_secs(60);
/// For each leg.
const MAX_FRAMES: usize = 16;

#[cfg(test)]
mod tests;
