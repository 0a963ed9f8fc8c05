//! Parties that say a tone, what each of them hears, and how much of whose tone is in it.

use opus_pure::OpusDecoder;

use super::*;
use crate::codec::Codec;
use crate::codec::{g722, opus};
use crate::playout::FRAME_SAMPLES;
use crate::random::Random;

/// The loudness of every tone here.
pub(in crate::session) const LOUD: f64 = 6000.0;

/// `count` samples of a tone, from a place on.
pub(in crate::session) fn tone(hz: u32, amplitude: f64, from: usize, count: usize) -> Vec<i16> {
    let phase = |index: usize| std::f64::consts::TAU * f64::from(hz) * index as f64 / 8000.0;
    (from..from + count).map(|index| (amplitude * phase(index).sin()) as i16).collect()
}

/// `count` samples of noise, from a place on: no two seeds are alike, and no place is like another.
pub(in crate::session) fn noise(seed: u64, amplitude: f64, from: usize, count: usize) -> Vec<i16> {
    let sample = |index: usize| (Random::new(seed, index as u64).next_unit() * 2.0 - 1.0) * amplitude;
    (from..from + count).map(|index| sample(index) as i16).collect()
}

/// How much of `original` is in `copy`, 1 for all and 0 for nothing, and how many samples later.
pub(in crate::session) fn likeness(original: &[i16], copy: &[i16], most_late: usize) -> (f64, usize) {
    let dot = |a: &[i16], b: &[i16]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    let at = |late: usize| {
        let (copy, original) = (&copy[late..], &original[..original.len().min(copy.len() - late)]);
        let copy = &copy[..original.len()];
        dot(original, copy) / (dot(original, original) * dot(copy, copy)).sqrt().max(1.0)
    };
    (0..most_late.min(copy.len()))
        .map(|late| (at(late), late))
        .fold((0.0, 0), |best, this| if this.0 > best.0 { this } else { best })
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
    /// What it says is noise of this seed, and not its tone.
    pub seed: Option<u64>,
    /// Everything that it said.
    pub said: Vec<i16>,
    at: usize,
    line: Line,
    heard: Vec<i16>,
}

enum Line {
    Rtp { phone: Phone, codec: Codec, samples: usize, own: Box<Own> },
    Link(LinkKey),
}

/// What a party on another codec than G.711 speaks and hears with.
struct Own {
    opus: (opus::Encoder, OpusDecoder),
    g722: (g722::Encoder, g722::Decoder),
}

impl Party {
    pub fn on_phone(leg: u32, hz: u32, codec: Codec) -> Party {
        let phone = Phone::of_leg(leg, codec.payload_type());
        let opus = (opus::Encoder::default(), OpusDecoder::new(8000, 1).unwrap());
        let own = Own { opus, g722: Default::default() };
        Party::new(leg, hz, Line::Rtp { phone, codec, samples: FRAME_SAMPLES, own: Box::new(own) })
    }

    pub fn on_link(leg: u32, hz: u32) -> Party {
        Party::new(leg, hz, Line::Link(LinkKey(u64::from(leg) + 100)))
    }

    fn new(leg: u32, hz: u32, line: Line) -> Party {
        Party { leg, hz, amplitude: LOUD, says: true, seed: None, said: Vec::new(), at: 0, line, heard: Vec::new() }
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
                let (number, name, rate_hz) = (codec.payload_type(), codec.name(), codec.clock_hz());
                let sdp = format!(
                    "{number}\r\na=rtpmap:{number} {name}/{rate_hz}/{}\r\na=ptime:{}",
                    codec.channels(),
                    samples / 8
                );
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
        let audio = match self.seed {
            Some(seed) => noise(seed, self.amplitude, self.at, samples),
            None => tone(self.hz, self.amplitude, self.at, samples),
        };
        self.at += samples;
        if self.says {
            self.said.extend(&audio);
        } else {
            self.said.extend(vec![0; samples]);
        }
        match &mut self.line {
            Line::Link(key) if self.says => {
                let frame = Frame { samples: audio.try_into().ok(), key: None };
                world.sessions[0].handle_frame(*key, &frame, world.now);
                world.flush();
            }
            Line::Link(_) => {}
            Line::Rtp { phone, codec, own, .. } => {
                let mut payload = vec![0; samples];
                let len = match codec {
                    Codec::Pcmu | Codec::Pcma => codec.law().unwrap().encode(&audio, &mut payload),
                    Codec::Opus => own.opus.0.encode(&audio, 0, &mut payload).unwrap(),
                    Codec::G722 => own.g722.0.encode(&audio, &mut payload),
                };
                payload.truncate(len);
                let packet = phone.packet(false, codec.payload_type(), &payload);
                phone.seq = phone.seq.wrapping_add(1);
                phone.timestamp = phone.timestamp.wrapping_add(samples as u32 * codec.clock_hz() / 8000);
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
            match &mut party.line {
                Line::Rtp { phone, codec, samples, own } => {
                    for sent in sent.iter().filter(|sent| sent.to == phone.from) {
                        let mut audio = vec![0; *samples];
                        assert_eq!(codec.samples_in(&sent.payload), *samples);
                        let count = match codec {
                            Codec::Pcmu | Codec::Pcma => codec.law().unwrap().decode(&sent.payload, &mut audio),
                            Codec::Opus => own.opus.1.decode_s16(&sent.payload, *samples, &mut audio).unwrap(),
                            Codec::G722 => own.g722.1.decode(&sent.payload, &mut audio),
                        };
                        party.heard.extend(&audio[..count]);
                    }
                }
                Line::Link(key) => {
                    let heard = frames.iter().filter(|(link, _)| *link == *key).filter_map(|(_, frame)| frame.samples);
                    heard.for_each(|samples| party.heard.extend(samples));
                }
            }
        }
    }
}
