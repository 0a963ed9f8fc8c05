//! The way in: from a datagram and its source to a packet that belongs to the leg, or a reason why not.
//!
//! The order of the checks is the order of their cost to an attacker: source, form, rate, payload type, SSRC,
//! sequence. Of a stranger nothing is remembered but its address. RFC 3550 s8.2 for the SSRC.

use std::net::SocketAddr;
use std::time::Duration;

use super::decode::{Decoded, StreamDecoder};
use super::{Hot, Leg, LegEvent};
use crate::codec::{Codec, Law};
use crate::dtmf::{self, KeyEvent};
use crate::ids::LegId;
use crate::received::{Received, StreamKey};
use crate::rtp::{Arrival, Header, Packet, RtpTime, Ssrc, Stream};
use crate::sdp::Payload;
use crate::time::Mono;

/// Why a datagram was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dropped {
    /// Nothing is agreed yet, so nobody may send.
    NotAgreed,
    /// From another address than the peer's.
    Source,
    /// Not RTP, or audio of an impossible length.
    Junk,
    /// More than any peer has reason to send: a loop, or a flood.
    Rate,
    /// The peer said that it would not send.
    Direction,
    /// A payload type that was not agreed.
    PayloadType,
    /// Another SSRC while the right one is alive.
    Ssrc,
    /// Far outside the sequence.
    Sequence,
    /// Not encrypted as agreed, by a stranger or damaged (RFC 3711 s3.3).
    Forged,
    /// An encrypted packet that was taken already.
    Replayed,
}

impl Dropped {
    pub const ALL: [Dropped; 10] = [
        Dropped::NotAgreed,
        Dropped::Source,
        Dropped::Junk,
        Dropped::Rate,
        Dropped::Direction,
        Dropped::PayloadType,
        Dropped::Ssrc,
        Dropped::Sequence,
        Dropped::Forged,
        Dropped::Replayed,
    ];

    /// The value of the `reason` label.
    pub const fn name(self) -> &'static str {
        match self {
            Dropped::NotAgreed => "not_agreed",
            Dropped::Source => "source",
            Dropped::Junk => "junk",
            Dropped::Rate => "rate",
            Dropped::Direction => "direction",
            Dropped::PayloadType => "payload_type",
            Dropped::Ssrc => "ssrc",
            Dropped::Sequence => "sequence",
            Dropped::Forged => "forged",
            Dropped::Replayed => "replayed",
        }
    }
}

/// The receive side of a leg.
pub(super) struct Incoming {
    leg: LegId,
    stream: Option<Stream>,
    clock: Clock,
    generation: u32,
    last_at: Mono,
    packets: u64,
    octets: u64,
    dropped: u64,
    pub(super) late: u64,
    /// Of streams that are over.
    lost_before: u64,
    window: (Mono, u32),
}

/// Totals over every stream of a leg.
pub(super) struct Totals {
    pub packets: u64,
    pub octets: u64,
    pub lost: u64,
    pub late: u64,
    pub dropped: u64,
    pub jitter: Duration,
}

impl Incoming {
    pub fn new(leg: LegId) -> Incoming {
        Incoming {
            leg,
            stream: None,
            clock: Clock::default(),
            generation: 0,
            last_at: Mono(0),
            packets: 0,
            octets: 0,
            dropped: 0,
            late: 0,
            lost_before: 0,
            window: (Mono(0), 0),
        }
    }

    /// Counts on from what was written down.
    pub fn take_up(&mut self, hot: &Hot) {
        (self.packets, self.octets) = (hot.packets_received, hot.octets_received);
        (self.lost_before, self.late, self.dropped) = (hot.lost, hot.late, hot.dropped);
    }

    pub fn stream(&mut self) -> Option<&mut Stream> {
        self.stream.as_mut()
    }

    pub fn count_dropped(&mut self) {
        self.dropped += 1;
    }

    /// The next SSRC is as good as the last one.
    pub fn forget_stream(&mut self) {
        if let Some(stream) = self.stream.take() {
            self.lost_before += stream.lost();
        }
    }

    pub fn totals(&self) -> Totals {
        Totals {
            packets: self.packets,
            octets: self.octets,
            lost: self.lost_before + self.stream.as_ref().map_or(0, Stream::lost),
            late: self.late,
            dropped: self.dropped,
            jitter: self.stream.as_ref().map_or(Duration::ZERO, Stream::jitter_time),
        }
    }

    /// A leg that was made to talk to itself, or to another that answers it, is slowed down here.
    fn within_rate(&mut self, now: Mono) -> bool {
        if now.since(self.window.0) >= RATE_WINDOW {
            self.window = (now, 0);
        }
        self.window.1 += 1;
        self.window.1 <= RATE_PACKETS
    }

    fn sequence(&mut self, header: &Header, now: Mono) -> Result<u32, Dropped> {
        let changes = self.stream.as_ref().is_none_or(|stream| stream.ssrc() != header.ssrc);
        if changes {
            if self.stream.is_some() && now.since(self.last_at) < SSRC_HOLD {
                return Err(Dropped::Ssrc);
            }
            self.forget_stream();
            self.generation = self.generation.wrapping_add(1);
        }
        match self.stream.get_or_insert_with(|| Stream::new(header)).handle_packet(header, now) {
            Arrival::InSequence { seq } => Ok(seq),
            Arrival::Restarted { seq } => {
                self.generation = self.generation.wrapping_add(1);
                Ok(seq)
            }
            Arrival::Suspect => Err(Dropped::Sequence),
        }
    }
}

/// From a sender's timestamps to those of 8 kHz, over its wraps: the last that was read, and what it came to.
#[derive(Default)]
struct Clock {
    last: Option<(Ssrc, RtpTime, RtpTime)>,
}

impl Clock {
    /// `ticks` of the sender's clock are one of ours.
    fn read(&mut self, ssrc: Ssrc, told: RtpTime, ticks: u32) -> RtpTime {
        if ticks == 1 {
            return told;
        }
        let time = match self.last {
            Some((known, last, time)) if known == ssrc => time + (told.ahead_of(last) / ticks as i32) as u32,
            _ => RtpTime(told.0 / ticks),
        };
        self.last = Some((ssrc, told, time));
        time
    }
}

impl Leg {
    /// Takes a datagram that arrived on the RTP port, which is decrypted in place; never allocates in a steady state.
    pub fn receive(&mut self, from: SocketAddr, datagram: &mut [u8], now: Mono) -> Result<Received, Dropped> {
        let received = self.admit(from, datagram, now);
        match &received {
            Ok(received) => self.note(received, datagram, now),
            Err(_) => self.incoming.dropped += 1,
        }
        received
    }

    fn admit(&mut self, from: SocketAddr, datagram: &mut [u8], now: Mono) -> Result<Received, Dropped> {
        let plan = self.plan.as_ref().ok_or(Dropped::NotAgreed)?;
        if !self.gate.may_be_peer(from) {
            self.gate.note_stranger(from);
            return Err(Dropped::Source);
        }
        let len = self.secure.open_rtp(datagram)?;
        let packet = Packet::parse(&datagram[..len]);
        let carries = packet.as_ref().ok().and_then(|packet| plan.meaning_of(packet.header.payload_type));
        // Only RTP of an agreed kind may settle who the peer is.
        let admitted = if carries.is_some() { self.gate.admit_rtp(from) } else { self.gate.is_peer(from) };
        if !admitted {
            return Err(Dropped::Source);
        }
        let Packet { mut header, payload } = packet.map_err(|_| Dropped::Junk)?;
        if !self.incoming.within_rate(now) {
            return Err(Dropped::Rate);
        }
        let carries = carries.ok_or(Dropped::PayloadType)?;
        if !plan.may_receive {
            return Err(Dropped::Direction);
        }
        if matches!(carries, Payload::Audio(_)) && !(1..=MAX_AUDIO).contains(&payload.len()) {
            return Err(Dropped::Junk);
        }
        // All of a stream has the clock of its audio; only the durations of events may have another.
        header.timestamp = self.incoming.clock.read(header.ssrc, header.timestamp, plan.audio_ticks);
        if carries == Payload::Event {
            dtmf::shrink(&mut datagram[payload.clone()], plan.event_ticks);
        }
        let seq = self.incoming.sequence(&header, now)?;
        let stream = StreamKey { leg: self.incoming.leg, generation: self.incoming.generation };
        let Header { marker, timestamp, .. } = header;
        Ok(Received {
            carries,
            marker,
            timestamp,
            seq,
            stream,
            payload,
            tone: self.detector.as_ref().is_some_and(|d| d.is_sounding()),
        })
    }

    fn note(&mut self, received: &Received, datagram: &[u8], now: Mono) {
        self.incoming.last_at = now;
        self.incoming.packets += 1;
        self.incoming.octets += received.payload.len() as u64;
        self.silent_at = None;
        if !self.heard {
            self.heard = true;
            self.happened.push_back(LegEvent::Heard);
        }
        let payload = &datagram[received.payload.clone()];
        match received.carries {
            Payload::Event => {
                let happened = &mut self.happened;
                self.events.handle_event(received.stream, received.timestamp, payload, now, |event| {
                    happened.push_back(LegEvent::Key { event, in_band: false });
                });
            }
            Payload::Audio(codec) => {
                if let Some(law) = codec.law() {
                    self.listen(law, payload);
                }
            }
            Payload::Noise => {}
        }
    }

    /// What a packet of another codec than G.711 comes to for whoever is not on that: as packets of G.711.
    pub fn decode(&mut self, received: &Received, datagram: &[u8]) -> Decoded {
        let mut decoded = Decoded::default();
        let Payload::Audio(codec) = received.carries else { return decoded };
        let payload = &datagram[received.payload.clone()];
        if self.decoder.as_ref().is_none_or(|decoder| !decoder.is_of(codec)) {
            self.decoder = StreamDecoder::of(codec).map(Box::new);
        }
        if let Some(decoder) = &mut self.decoder {
            decoder.decode(received, payload, &mut decoded);
        }
        for packet in decoded.packets() {
            self.listen(Law::Mu, &decoded.bytes()[packet.payload.clone()]);
        }
        decoded
    }

    /// Whether digits are looked for in what it says.
    pub fn is_listening(&self) -> bool {
        self.detector.is_some()
    }

    /// Whether packets of that codec can be relayed to it as they are.
    pub fn takes(&self, codec: Codec) -> bool {
        self.plan.as_ref().is_some_and(|plan| plan.codec == codec)
    }

    /// Looks for digits in the audio of a peer that has no telephone-event.
    fn listen(&mut self, law: Law, payload: &[u8]) {
        let Some(detector) = &mut self.detector else { return };
        let mut samples = [0; 240];
        for part in payload.chunks(samples.len()) {
            let count = law.decode(part, &mut samples);
            detector.handle_samples(&samples[..count], |event: KeyEvent| {
                self.happened.push_back(LegEvent::Key { event, in_band: true });
            });
        }
    }
}

/// An SSRC may follow another only after that one has been silent this long, so that a forged packet in the midst
/// of a stream takes nothing over. A peer that restarts loses five packets of 20 ms.
const SSRC_HOLD: Duration = Duration::from_millis(100);
/// 10 ms packets are 100 a second; three times that leaves room for a burst after a stall.
const RATE_WINDOW: Duration = Duration::from_secs(1);
const RATE_PACKETS: u32 = 300;
/// 150 ms of G.711: what fits a datagram of any network, and more than anyone sends.
pub const MAX_AUDIO: usize = 1200;
