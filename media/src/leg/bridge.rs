//! From one leg to another: a packet is rewritten in place, or its audio is transcoded, cut anew, or left out.
//!
//! The hot path of the product. A packet of the same codec and length costs a header of twelve bytes; of the other
//! law, one table look-up a byte; nothing of that allocates, locks or logs. What cannot be relayed packet by packet
//! (another packet length, or G.711 that a peer on another codec is to hear) goes through the [`Packetiser`] of the leg that sends it.

use std::ops::Range;
use std::time::Duration;

use super::Leg;
use super::encode::Encoder;
use super::packetise::Packetiser;
use crate::codec::Law;
use crate::dtmf;
use crate::playout::{FRAME_SAMPLES, Samples};
use crate::received::Received;
use crate::rtp::HEADER_LEN;
use crate::sdp::{MediaPlan, Payload};
use crate::time::Mono;

/// What became of a packet on its way to a leg.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Forwarded {
    /// It goes out now: this range of the buffer it came in.
    Packet(Range<usize>),
    /// Its audio waits in the leg; [`Leg::poll_cut`] has packets.
    Buffered,
    /// It goes no further.
    Nothing,
}

impl Leg {
    /// Sends on what another leg, or this one, received; `packet` is the datagram it came in.
    ///
    /// Under 100 ns for 20 ms of the same codec. Digits are sent on where both sides have telephone-event; where only
    /// the source has, the session presses the key here, and the event itself is left out.
    pub fn forward(&mut self, received: &Received, packet: &mut [u8], now: Mono) -> Forwarded {
        if !self.can_send() {
            return Forwarded::Nothing;
        }
        let Some(plan) = &self.plan else { return Forwarded::Nothing };
        if !self.keys.is_idle() {
            // A digit of ours is going out, and nothing may sound beside it.
            return Forwarded::Nothing;
        }
        match (received.carries, plan.event_type) {
            (Payload::Audio(_), Some(_)) if received.tone => self.leave_out(received),
            (Payload::Audio(codec), _) => match (codec.law(), plan.codec.law()) {
                (Some(law), Some(ours)) if self.is_straight(received, plan) => {
                    law.transcode(ours, &mut packet[received.payload.clone()]);
                    self.send_on(received, plan.payload_type, received.payload.len(), packet, now)
                }
                (Some(law), _) => self.cut(law, received, packet),
                (None, _) if codec == plan.codec => {
                    let samples = codec.samples_in(&packet[received.payload.clone()]);
                    self.send_on(received, plan.payload_type, samples, packet, now)
                }
                // It is decoded for this leg, and does not come here.
                (None, _) => self.leave_out(received),
            },
            (Payload::Event, Some(event_type)) => {
                dtmf::stretch(&mut packet[received.payload.clone()], plan.event_ticks);
                self.send_on(received, event_type, 0, packet, now)
            }
            (Payload::Event, None) | (Payload::Noise, _) => self.leave_out(received),
        }
    }

    /// Whether a packet can go out as it is: of the right length, and with nothing before it in the packetiser.
    fn is_straight(&self, received: &Received, plan: &MediaPlan) -> bool {
        received.payload.len() == usize::from(plan.packet_samples)
            && self.packetiser.as_ref().is_none_or(|cut| cut.is_empty())
    }

    fn send_on(
        &mut self,
        received: &Received,
        payload_type: u8,
        samples: usize,
        packet: &mut [u8],
        now: Mono,
    ) -> Forwarded {
        match self.outgoing.relay(received, payload_type, samples as u32, now) {
            Some(header) => Forwarded::Packet(header.write_before(received.payload.clone(), packet)),
            None => Forwarded::Nothing,
        }
    }

    fn leave_out(&mut self, received: &Received) -> Forwarded {
        self.outgoing.absorb(received);
        Forwarded::Nothing
    }

    fn cut(&mut self, law: Law, received: &Received, packet: &mut [u8]) -> Forwarded {
        let Some(plan) = &self.plan else { return Forwarded::Nothing };
        let payload = &mut packet[received.payload.clone()];
        let waits_as = plan.codec.waits_as();
        law.transcode(waits_as, payload);
        let packetiser: &mut Packetiser = self.packetiser.get_or_insert_default();
        if packetiser.push(received, payload, waits_as.silence()) {
            self.outgoing.pause();
        }
        Forwarded::Buffered
    }

    /// Audio of another leg that does not come in packets, on its way out; [`Leg::poll_cut`] has packets.
    pub fn forward_copy(&mut self, received: &Received, packet: &[u8]) {
        let Payload::Audio(codec) = received.carries else { return };
        let Some(law) = codec.law() else { return };
        if !self.can_send() || !self.keys.is_idle() {
            return;
        }
        let mut copy = [0; super::receive::MAX_AUDIO];
        let payload = &packet[received.payload.clone()];
        copy[..payload.len()].copy_from_slice(payload);
        let received = Received { payload: 0..payload.len(), ..received.clone() };
        self.cut(law, &received, &mut copy);
    }

    /// The next packet out of the packetiser, written to the start of `buffer`.
    pub fn poll_cut(&mut self, buffer: &mut [u8], now: Mono) -> Option<Range<usize>> {
        let (plan, packetiser) = (self.plan.as_ref()?, self.packetiser.as_mut()?);
        let count = usize::from(plan.packet_samples);
        if !packetiser.pop(count, &mut buffer[HEADER_LEN..]) {
            return None;
        }
        if plan.codec.law().is_none() {
            let mut samples = [0; MAX_SAMPLES];
            let samples = &mut samples[..count.min(MAX_SAMPLES)];
            plan.codec.waits_as().decode(&buffer[HEADER_LEN..], samples);
            return self.speak(samples, buffer, now);
        }
        let header = self.outgoing.own(plan.payload_type, count as u32, now);
        Some(header.write_before(HEADER_LEN..HEADER_LEN + count, buffer))
    }

    /// Audio of our own, as long as this leg's packets are: encoded and written to the start of `buffer`.
    pub fn speak(&mut self, samples: &[i16], buffer: &mut [u8], now: Mono) -> Option<Range<usize>> {
        if !self.can_send() {
            return None;
        }
        let plan = self.plan.as_ref()?;
        let room = &mut buffer[HEADER_LEN..];
        let len = match plan.codec.law() {
            Some(law) => law.encode(samples, room),
            None => {
                let lost = if plan.takes_fec { self.reports.lost_by_peer() } else { 0 };
                let room = &mut room[..super::receive::MAX_AUDIO];
                if self.encoder.is_none() {
                    self.encoder = Encoder::of(plan.codec);
                }
                self.encoder.as_mut()?.encode(samples, lost, room)?
            }
        };
        let header = self.outgoing.own(plan.payload_type, samples.len() as u32, now);
        Some(header.write_before(HEADER_LEN..HEADER_LEN + len, buffer))
    }

    /// Whether what it hears goes through an encoder of Opus, which costs more than all else.
    pub fn is_encoding_opus(&self) -> bool {
        matches!(self.encoder, Some(Encoder::Opus(_)))
    }

    /// A frame of audio that came over a link; [`Leg::poll_cut`] has packets.
    pub fn forward_frame(&mut self, received: &Received, samples: &[i16]) {
        if !self.can_send() || !self.keys.is_idle() {
            return;
        }
        let Some(plan) = &self.plan else { return };
        let law = plan.codec.waits_as();
        let mut encoded = [0; FRAME_SAMPLES];
        let len = law.encode(samples, &mut encoded);
        let received = Received { payload: 0..len, ..received.clone() };
        self.cut(law, &received, &mut encoded);
    }

    /// 20 ms that the session made for this leg; [`Leg::poll_cut`] has packets.
    pub fn append(&mut self, samples: &Samples) {
        if !self.can_send() || !self.keys.is_idle() {
            return;
        }
        let Some(plan) = &self.plan else { return };
        let mut encoded = [0; FRAME_SAMPLES];
        plan.codec.waits_as().encode(samples, &mut encoded);
        self.packetiser.get_or_insert_default().append(&encoded);
    }

    /// The next packet of the digits that wait, and the time to the one after it.
    ///
    /// `samples` is room for one packet of this leg's length.
    pub fn poll_key(&mut self, samples: &mut [i16], buffer: &mut [u8], now: Mono) -> (Option<Range<usize>>, Duration) {
        let event = self.plan.as_ref().and_then(|plan| Some((plan.event_type?, plan.event_ticks)));
        let Some((event_type, event_ticks)) = event else {
            self.keys.fill(samples);
            return (self.speak(samples, buffer, now), Duration::from_micros(samples.len() as u64 * 125));
        };
        let packet = self.keys.poll_event().filter(|_| self.can_send()).map(|event| {
            let end = HEADER_LEN + event.payload.len();
            buffer[HEADER_LEN..end].copy_from_slice(&event.payload);
            dtmf::stretch(&mut buffer[HEADER_LEN..end], event_ticks);
            self.outgoing.event(event_type, event.first, event.duration, now).write_before(HEADER_LEN..end, buffer)
        });
        (packet, EVENT_TIME)
    }

    /// What this leg heard is over; what comes next begins a talk spurt.
    pub fn pause(&mut self) {
        self.outgoing.pause();
    }
}

/// Events are sent every 20 ms, whatever the length of audio packets.
const EVENT_TIME: Duration = Duration::from_millis(20);
/// 60 ms.
const MAX_SAMPLES: usize = 480;
