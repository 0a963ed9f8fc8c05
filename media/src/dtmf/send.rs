//! Digits that we send: 100 ms of tone and 100 ms of nothing each, as events or as audio.
//!
//! As events (RFC 4733 s2.5.1): a packet every 20 ms under one timestamp, the marker on the first, the duration
//! growing, and the end three times.

use std::collections::VecDeque;

use super::Key;
use crate::tone;

/// The keys that wait to be sent, and how far the first of them is.
#[derive(Clone, Debug, Default)]
pub struct KeySender {
    keys: VecDeque<Key>,
    /// In samples, within the first key's 200 ms.
    position: u32,
}

/// One packet of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventPacket {
    /// It begins a digit: marker, and a new timestamp.
    pub first: bool,
    pub duration: u16,
    pub payload: [u8; 4],
}

impl KeySender {
    /// Queues a key; false where 32 wait already.
    pub fn push(&mut self, key: Key) -> bool {
        let fits = self.keys.len() < MAX_KEYS;
        if fits {
            self.keys.push_back(key);
        }
        fits
    }

    pub fn is_idle(&self) -> bool {
        self.keys.is_empty()
    }

    /// The next 20 ms as an event: a packet, or nothing in the gap after a digit.
    pub fn poll_event(&mut self) -> Option<EventPacket> {
        let key = *self.keys.front()?;
        let position = self.position;
        self.advance(PACKET);
        let end = position >= TONE;
        if position >= TONE + 3 * PACKET {
            return None;
        }
        let duration = (position + PACKET).min(TONE) as u16;
        let [high, low] = duration.to_be_bytes();
        let payload = [key.event_code(), u8::from(end) << 7 | VOLUME, high, low];
        Some(EventPacket { first: position == 0, duration, payload })
    }

    /// The next samples as audio, for a peer without telephone-event.
    pub fn fill(&mut self, samples: &mut [i16]) {
        for sample in samples {
            *sample = match self.keys.front() {
                Some(key) if self.position < TONE => tone::pair(key.frequencies_hz(), self.position, TONE),
                _ => 0,
            };
            self.advance(1);
        }
    }

    fn advance(&mut self, samples: u32) {
        if self.keys.is_empty() {
            return;
        }
        self.position += samples;
        if self.position >= KEY_SAMPLES {
            self.position = 0;
            self.keys.pop_front();
        }
    }
}

/// The time that one key takes, in milliseconds: tone and gap.
pub const KEY_MS: u32 = 200;
const KEY_SAMPLES: u32 = KEY_MS * 8;
const TONE: u32 = 800;
const PACKET: u32 = 160;
/// -10 dBm0.
const VOLUME: u8 = 10;
/// Twilio's limit of `sendDigits` is 32 characters.
pub const MAX_KEYS: usize = 32;

#[cfg(test)]
mod tests {
    use super::super::{Detector, KeyEvent};
    use super::*;

    fn sender(keys: &str) -> KeySender {
        let mut sender = KeySender::default();
        keys.chars().for_each(|key| assert!(sender.push(Key::from_char(key).unwrap())));
        sender
    }

    #[test]
    fn event_grows_ends_three_times_and_leaves_a_gap() {
        let mut sender = sender("5#");
        let ticks: Vec<_> = (0..20).map(|_| sender.poll_event()).collect();
        let shape = |packet: &Option<EventPacket>| {
            packet.map(|p| (p.first, p.payload[0], p.payload[1] & 0x80 != 0, p.duration))
        };
        let expected = |code| {
            [
                Some((true, code, false, 160)),
                Some((false, code, false, 320)),
                Some((false, code, false, 480)),
                Some((false, code, false, 640)),
                Some((false, code, false, 800)),
                Some((false, code, true, 800)),
                Some((false, code, true, 800)),
                Some((false, code, true, 800)),
                None,
                None,
            ]
        };
        assert_eq!(ticks.iter().map(shape).collect::<Vec<_>>(), [expected(5), expected(11)].concat());
        assert!(sender.is_idle());
        assert_eq!(sender.poll_event(), None);
    }

    #[test]
    fn audio_is_heard_by_our_own_detector() {
        let mut sender = sender("159D");
        let mut detector = Detector::default();
        let mut keys = String::new();
        while !sender.is_idle() {
            let mut samples = [0; 160];
            sender.fill(&mut samples);
            detector.handle_samples(&samples, |event| {
                if let KeyEvent::Pressed(key) = event {
                    keys.push(key.symbol());
                }
            });
        }
        assert_eq!(keys, "159D");
    }

    #[test]
    fn queue_is_bounded() {
        let mut sender = sender(&"1".repeat(MAX_KEYS));
        assert!(!sender.push(Key(1)));
    }
}
