//! Digits out of RFC 4733 events: one press for one press, under loss, repetition and reordering.
//!
//! Every packet of an event carries the timestamp of its start, so packets of the same start are the same press,
//! whichever of them arrive. A press ends with its end bit, with the next press, or when no packet has come for a
//! while. Events longer than the duration field go on under a new timestamp (s2.5.1.3), and so does the digit of
//! a phone that stamps each packet anew: whatever begins before the press is over belongs to it.

use std::time::Duration;

use super::{Key, KeyEvent};
use crate::received::StreamKey;
use crate::rtp::RtpTime;
use crate::time::Mono;

/// The receive side of telephone-event.
#[derive(Clone, Debug, Default)]
pub struct EventReceiver {
    stream: Option<StreamKey>,
    sounding: Option<Press>,
    /// The start of the last press that is over; packets of it, and of older ones, are repetitions.
    last_over: Option<RtpTime>,
}

#[derive(Clone, Copy, Debug)]
struct Press {
    key: Key,
    /// Where the press began, and where the packets of now say that they begin.
    began: RtpTime,
    segment: RtpTime,
    ends: RtpTime,
    heard_at: Mono,
}

impl EventReceiver {
    /// Takes the payload of one event packet; `out` is called for what it tells, at most twice for a lost end.
    pub fn handle_event(
        &mut self,
        stream: StreamKey,
        timestamp: RtpTime,
        payload: &[u8],
        now: Mono,
        mut out: impl FnMut(KeyEvent),
    ) {
        let Some(([code, flags, high, low], _)) = payload.split_first_chunk::<4>() else {
            return;
        };
        let Some(key) = Key::from_event_code(*code) else { return };
        let ends = timestamp + u32::from(u16::from_be_bytes([*high, *low]));
        let is_end = flags & 0x80 != 0;
        if self.stream.replace(stream) != Some(stream) {
            // Timestamps of another stream cannot be compared.
            self.release(&mut out);
            self.last_over = None;
        }
        if self.last_over.is_some_and(|over| timestamp.ahead_of(over) <= 0) {
            return;
        }
        match &mut self.sounding {
            Some(press) if press.key == key && press.takes(timestamp) => {
                if timestamp.ahead_of(press.segment) > 0 {
                    press.segment = timestamp;
                }
                if ends.ahead_of(press.ends) > 0 {
                    press.ends = ends;
                }
                press.heard_at = now;
            }
            Some(press) if timestamp.ahead_of(press.segment) <= 0 => return,
            _ => {
                self.release(&mut out);
                self.sounding = Some(Press { key, began: timestamp, segment: timestamp, ends, heard_at: now });
                out(KeyEvent::Pressed(key));
            }
        }
        if is_end {
            self.release(&mut out);
        }
    }

    /// Ends a press whose end was lost.
    pub fn handle_timeout(&mut self, now: Mono, mut out: impl FnMut(KeyEvent)) {
        if self.next_deadline().is_some_and(|at| at <= now) {
            self.release(&mut out);
        }
    }

    pub fn next_deadline(&self) -> Option<Mono> {
        self.sounding.as_ref().map(|press| press.heard_at + LOST_AFTER)
    }

    fn release(&mut self, out: &mut impl FnMut(KeyEvent)) {
        if let Some(press) = self.sounding.take() {
            self.last_over = Some(press.segment);
            let samples = press.ends.ahead_of(press.began).max(0) as u32;
            out(KeyEvent::Released { key: press.key, duration_ms: samples / 8 });
        }
    }
}

impl Press {
    /// Whether a packet of this start is of this press: the same start, or one before the press is over.
    fn takes(&self, timestamp: RtpTime) -> bool {
        let ahead = timestamp.ahead_of(self.segment);
        ahead == 0 || (ahead > 0 && timestamp.ahead_of(self.ends) <= 0)
    }
}

/// A phone repeats an event every 20 to 50 ms while the key is down.
const LOST_AFTER: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::LegId;

    const STREAM: StreamKey = StreamKey { leg: LegId(1), generation: 1 };

    /// Packets of (timestamp, event code, end, duration), 20 ms apart, as a transcript: `+5` pressed, `-5/100`
    /// released after 100 ms.
    fn heard(packets: &[(u32, u8, bool, u16)]) -> String {
        let mut receiver = EventReceiver::default();
        let mut transcript = Vec::new();
        let mut now = Mono(0);
        for (timestamp, code, end, duration) in packets {
            let [high, low] = duration.to_be_bytes();
            let payload = [*code, u8::from(*end) << 7 | 10, high, low];
            receiver.handle_event(STREAM, RtpTime(*timestamp), &payload, now, |event| transcript.push(text(event)));
            now += Duration::from_millis(20);
        }
        receiver.handle_timeout(now + Duration::from_secs(1), |event| transcript.push(text(event)));
        assert_eq!(receiver.next_deadline(), None);
        transcript.join(" ")
    }

    fn text(event: KeyEvent) -> String {
        match event {
            KeyEvent::Pressed(key) => format!("+{}", key.symbol()),
            KeyEvent::Released { key, duration_ms } => format!("-{}/{duration_ms}", key.symbol()),
        }
    }

    #[test]
    fn one_press_is_one_digit_whatever_arrives_of_it() {
        let full = [(0, 5, false, 160), (0, 5, false, 480), (0, 5, true, 800), (0, 5, true, 800), (0, 5, true, 800)];
        assert_eq!(heard(&full), "+5 -5/100");
        // Any loss: every subset of the packets that is not empty.
        for subset in 1u32..32 {
            let some: Vec<_> = (0..5).filter(|i| subset & 1 << i != 0).map(|i| full[i]).collect();
            let transcript = heard(&some);
            assert_eq!(transcript.matches('+').count(), 1, "subset {subset:05b}: {transcript}");
            assert_eq!(transcript.matches('-').count(), 1, "subset {subset:05b}: {transcript}");
        }
        // Any order.
        for (a, b) in (0..5).flat_map(|a| (0..5).map(move |b| (a, b))) {
            let mut swapped = full;
            swapped.swap(a, b);
            assert_eq!(heard(&swapped).matches('+').count(), 1, "swapped {a} and {b}");
        }
    }

    #[test]
    fn presses_are_told_apart_and_joined_by_their_time() {
        type Packets = &'static [(u32, u8, bool, u16)];
        let table: &[(&str, Packets, &str)] = &[
            ("two digits", &[(0, 1, true, 800), (1600, 2, true, 800)], "+1 -1/100 +2 -2/100"),
            ("same digit twice", &[(0, 1, true, 800), (1600, 1, true, 800)], "+1 -1/100 +1 -1/100"),
            ("same digit twice, first end lost", &[(0, 1, false, 800), (1600, 1, true, 800)], "+1 -1/100 +1 -1/100"),
            (
                "late packet of the first during the second",
                &[(0, 1, false, 160), (1600, 2, false, 160), (0, 1, true, 800), (1600, 2, true, 800)],
                "+1 -1/20 +2 -2/100",
            ),
            (
                "long press in two segments",
                &[(0, 9, false, 0xFFFF), (0xFFFF, 9, false, 160), (0xFFFF, 9, true, 1600)],
                "+9 -9/8391",
            ),
            (
                "each packet stamped anew",
                &[(0, 7, false, 160), (160, 7, false, 160), (320, 7, false, 160), (480, 7, true, 160)],
                "+7 -7/80",
            ),
            ("first packet without duration", &[(0, 3, false, 0), (0, 3, true, 400)], "+3 -3/50"),
            (
                "star, pound and letters",
                &[(0, 10, true, 400), (900, 11, true, 400), (1800, 15, true, 400)],
                "+* -*/50 +# -#/50 +D -D/50",
            ),
            ("flash is no digit", &[(0, 16, true, 400)], ""),
            ("timestamp wraps", &[(u32::MAX - 99, 1, true, 400), (500, 2, true, 400)], "+1 -1/50 +2 -2/50"),
        ];
        for (name, packets, expected) in table {
            assert_eq!(heard(packets), *expected, "{name}");
        }
    }

    #[test]
    fn another_stream_begins_anew() {
        let mut receiver = EventReceiver::default();
        let mut transcript = Vec::new();
        let other = StreamKey { generation: 2, ..STREAM };
        for (stream, timestamp) in [(STREAM, 5000), (other, 100)] {
            receiver.handle_event(stream, RtpTime(timestamp), &[1, 0x80, 1, 0x90], Mono(0), |event| {
                transcript.push(text(event))
            });
        }
        assert_eq!(transcript.join(" "), "+1 -1/50 +1 -1/50");
    }

    #[test]
    fn payload_too_short_is_ignored() {
        EventReceiver::default().handle_event(STREAM, RtpTime(0), &[1, 0x80, 0], Mono(0), |event| panic!("{event:?}"));
    }
}
