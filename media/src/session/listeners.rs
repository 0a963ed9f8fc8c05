//! Who listens to the legs of a session without being one: recorders and taps, and what each is given.
//!
//! A session without them costs nothing here. With them a leg's packets are decoded a second time, beside the relay; the packets
//! that are relayed are not touched.

use crate::ids::LegId;
use crate::leg::MAX_AUDIO;
use crate::playout::Samples;
use crate::proto::{MediaEventKind, TapSpec};
use crate::received::Received;
use crate::recorder::{Recorder, Side};
use crate::sdp::Payload;
use crate::tap::Tap;
use crate::time::Mono;

use super::Session;

#[derive(Default)]
pub(super) struct Listeners {
    pub recorders: Vec<Recorder>,
    pub taps: Vec<Tap>,
}

impl Listeners {
    pub fn is_empty(&self) -> bool {
        self.recorders.is_empty() && self.taps.is_empty()
    }

    /// A leg hears, or says, audio that is made here.
    pub fn hear_own(&mut self, leg: LegId, side: Side, samples: &[i16], now: Mono) {
        for recorder in self.recorders.iter_mut().filter(|recorder| recorder.leg() == Some(leg)) {
            if let Some((track, position)) = recorder.track(side, now) {
                track.write_own(samples, position);
            }
        }
        for tap in self.taps.iter_mut().filter(|tap| tap.leg() == leg) {
            tap.handle_own(side, samples);
        }
    }

    /// Audio of a leg, for those who listen to what that says and to those who hear it: `hears` tells who does.
    pub fn hear(
        &mut self,
        source: LegId,
        hears: impl Fn(LegId) -> bool,
        received: &Received,
        audio: &Audio<'_>,
        now: Mono,
    ) {
        let is_heard = |leg: LegId, side: Side| if side == Side::Says { leg == source } else { hears(leg) };
        for tap in &mut self.taps {
            let leg = tap.leg();
            for side in [Side::Says, Side::Hears].into_iter().filter(|side| is_heard(leg, *side)) {
                match audio {
                    Audio::Packet(packet) => tap.handle_packet(side, received, packet, now),
                    Audio::Frame(frame) => tap.handle_frame(side, received, frame, now),
                }
            }
        }
        let mut samples = [0; MAX_AUDIO];
        let mut len = None;
        for recorder in &mut self.recorders {
            let Some(leg) = recorder.leg() else { continue };
            for side in [Side::Says, Side::Hears].into_iter().filter(|side| is_heard(leg, *side)) {
                if let Some((track, position)) = recorder.track(side, now) {
                    let len = *len.get_or_insert_with(|| audio.decode(received, &mut samples));
                    track.write_packet(received.stream, received.timestamp, &samples[..len], position);
                }
            }
        }
    }
}

/// What comes from elsewhere.
pub(super) enum Audio<'a> {
    Packet(&'a [u8]),
    Frame(&'a Samples),
}

impl Audio<'_> {
    /// The samples that it brings.
    fn decode(&self, received: &Received, samples: &mut [i16; MAX_AUDIO]) -> usize {
        match (self, received.carries) {
            (Audio::Frame(frame), _) => {
                samples[..frame.len()].copy_from_slice(*frame);
                frame.len()
            }
            (Audio::Packet(packet), Payload::Audio(codec)) => {
                codec.law().map_or(0, |law| law.decode(&packet[received.payload.clone()], samples))
            }
            // An event and comfort noise are silence.
            (Audio::Packet(_), _) => 0,
        }
    }
}

impl Session {
    /// Begins to tell of a leg, unless that is told already.
    pub(super) fn tap(&mut self, spec: &TapSpec) {
        let is_known = self.listeners.taps.iter().any(|tap| tap.id() == spec.tap_id);
        if !is_known && self.slots.iter().any(|slot| slot.id.0 == spec.leg_id) {
            self.listeners.taps.push(Tap::new(spec, self.now));
        }
    }

    pub(super) fn stop_tap(&mut self, id: u32) {
        self.listeners.taps.retain(|tap| tap.id() != id);
    }

    /// A leg is over, or with `None` the whole session.
    pub(super) fn stop_taps_of(&mut self, leg: Option<LegId>) {
        self.listeners.taps.retain(|tap| leg.is_some_and(|leg| tap.leg() != leg));
    }

    /// Ends the taps that none of these specs names.
    pub(super) fn stop_taps_but(&mut self, specs: &[TapSpec]) {
        self.listeners.taps.retain(|tap| specs.iter().any(|spec| spec.tap_id == tap.id()));
    }

    pub(super) fn tell_taps(&mut self) {
        for at in 0..self.listeners.taps.len() {
            let told = self.listeners.taps[at].poll(self.now);
            self.tell(MediaEventKind::Tapped(told));
        }
    }
}
