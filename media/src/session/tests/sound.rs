//! Parties that say a tone, what each of them hears, and how much of whose tone is in it.

use super::*;
use crate::codec::Codec;
use crate::playout::FRAME_SAMPLES;

/// The loudness of every tone here.
pub(in crate::session) const LOUD: f64 = 6000.0;

/// `count` samples of a tone, from a place on.
pub(in crate::session) fn tone(hz: u32, amplitude: f64, from: usize, count: usize) -> Vec<i16> {
    let phase = |index: usize| std::f64::consts::TAU * f64::from(hz) * index as f64 / 8000.0;
    (from..from + count).map(|index| (amplitude * phase(index).sin()) as i16).collect()
}

/// The amplitude of one frequency in the samples (Goertzel).
pub(in crate::session) fn level(samples: &[i16], hz: u32) -> f64 {
    let coefficient = 2.0 * (std::f64::consts::TAU * f64::from(hz) / 8000.0).cos();
    let (mut last, mut before) = (0.0, 0.0);
    for sample in samples {
        (last, before) = (f64::from(*sample) + coefficient * last - before, last);
    }
    let power: f64 = last * last + before * before - coefficient * last * before;
    power.max(0.0).sqrt() * 2.0 / samples.len() as f64
}

/// The greatest step from one sample to the next.
pub(in crate::session) fn steepest(samples: &[i16]) -> i32 {
    samples.windows(2).map(|pair| (i32::from(pair[0]) - i32::from(pair[1])).abs()).max().unwrap_or(0)
}

/// A party of session 0 that says its tone without a pause.
pub(in crate::session) struct Party {
    pub leg: u32,
    pub hz: u32,
    pub amplitude: f64,
    pub says: bool,
    at: usize,
    line: Line,
    heard: Vec<i16>,
}

enum Line {
    Rtp { phone: Phone, codec: Codec, samples: usize },
    Link(LinkKey),
}

impl Party {
    pub fn on_phone(leg: u32, hz: u32, codec: Codec) -> Party {
        let phone = Phone::of_leg(leg, codec.payload_type());
        Party::new(leg, hz, Line::Rtp { phone, codec, samples: FRAME_SAMPLES })
    }

    pub fn on_link(leg: u32, hz: u32) -> Party {
        Party::new(leg, hz, Line::Link(LinkKey(u64::from(leg) + 100)))
    }

    fn new(leg: u32, hz: u32, line: Line) -> Party {
        Party { leg, hz, amplitude: LOUD, says: true, at: 0, line, heard: Vec::new() }
    }

    /// Its packets are of 30 ms, both ways.
    pub fn with_long_packets(mut self) -> Party {
        if let Line::Rtp { samples, .. } = &mut self.line {
            *samples = 240;
        }
        self
    }

    pub fn spec(&self, hears: Hears, mixing: Option<Mixing>) -> LegSpec {
        let spec = match &self.line {
            Line::Link(key) => remote_leg(self.leg, key.0, hears),
            Line::Rtp { codec, samples, .. } => {
                let sdp = format!("{}\r\na=ptime:{}", codec.payload_type(), samples / 8);
                rtp_leg(self.leg, &offer(self.leg, &sdp), hears)
            }
        };
        LegSpec { mixing, ..spec }
    }

    /// What of its tone the millisecond is for, if the leg is there.
    fn say(&mut self, world: &mut World, ms: u64) {
        if world.sessions[0].slots.iter().all(|slot| slot.id.0 != self.leg) {
            return;
        }
        let samples = match self.line {
            Line::Rtp { samples, .. } => samples,
            Line::Link(_) => FRAME_SAMPLES,
        };
        if !ms.is_multiple_of(samples as u64 / 8) {
            return;
        }
        let audio = tone(self.hz, self.amplitude, self.at, samples);
        self.at += samples;
        match &mut self.line {
            Line::Link(key) if self.says => {
                let frame = Frame { samples: audio.try_into().ok(), key: None };
                world.sessions[0].handle_frame(*key, &frame, world.now);
                world.flush();
            }
            Line::Link(_) => {}
            Line::Rtp { phone, codec, .. } => {
                let mut payload = vec![0; samples];
                codec.encode(&audio, &mut payload);
                let packet = phone.packet(false, codec.payload_type(), &payload);
                phone.seq = phone.seq.wrapping_add(1);
                phone.timestamp = phone.timestamp.wrapping_add(samples as u32);
                if self.says {
                    world.arrive(self.leg, phone.from, &packet).expect("taken");
                }
            }
        }
    }

    /// Takes what it heard since the last time.
    pub fn hear(&mut self) -> Vec<i16> {
        std::mem::take(&mut self.heard)
    }
}

/// Lets everybody speak for so long; what they hear waits in [`Party::hear`].
pub(in crate::session) fn talk(world: &mut World, parties: &mut [Party], ms: u64) {
    for _ in 0..ms {
        let at = world.now.0 / 1000;
        parties.iter_mut().for_each(|party| party.say(world, at));
        world.run_for(1);
        let (sent, frames) = (world.take_sent(), std::mem::take(&mut world.frames));
        for party in parties.iter_mut() {
            match &party.line {
                Line::Rtp { phone, codec, samples } => {
                    for sent in sent.iter().filter(|sent| sent.to == phone.from) {
                        assert_eq!(sent.payload.len(), *samples);
                        let mut audio = vec![0; sent.payload.len()];
                        codec.decode(&sent.payload, &mut audio);
                        party.heard.extend(audio);
                    }
                }
                Line::Link(key) => {
                    let heard = frames.iter().filter(|(link, _)| link == key).filter_map(|(_, frame)| frame.samples);
                    heard.for_each(|samples| party.heard.extend(samples));
                }
            }
        }
    }
}
