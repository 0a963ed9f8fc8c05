//! The jitter buffer: packets in as the network brings them, packets out one each packet time.
//!
//! The playout delay follows the network. It starts at 40 ms; an underrun stretches it by what was made up; when
//! packets have waited longer than the network asks for a while, one is left out. A slot is a buffer that is used
//! again, so that nothing is allocated once every slot has held a packet. Knows nothing of codecs: the payload
//! comes out as it went in.

use std::time::Duration;

use crate::received::StreamKey;
use crate::rtp::RtpTime;
use crate::time::Mono;

/// Puts the packets of one source in order and in time.
pub struct JitterBuffer {
    slots: [Slot; SLOTS],
    stream: Option<StreamKey>,
    /// The number that plays next, and the highest that is here.
    next: u32,
    highest: u32,
    state: State,
    /// Packet times made up while nothing was here: those packets, if they are lost, are not made up again.
    stretched: u32,
    /// Consecutive packet times with more here than the network asks for.
    too_deep: u32,
    spread: Spread,
    /// The playout delay where the network asks for none.
    shortest: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing to play.
    Idle,
    /// Filling up to the playout delay.
    Filling {
        until: Mono,
    },
    Playing,
}

#[derive(Default)]
struct Slot {
    seq: u32,
    filled: bool,
    noise: bool,
    payload: Vec<u8>,
}

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    Taken,
    /// Its time is over, or it is here already.
    Late,
}

/// What is due.
#[derive(Debug, PartialEq, Eq)]
pub enum Playout<'a> {
    Packet(&'a [u8]),
    /// The source pauses, and says so (RFC 3389).
    Noise,
    /// A packet is missing: to be concealed.
    Lost,
}

impl Default for JitterBuffer {
    fn default() -> Self {
        JitterBuffer::with_shortest(SHORTEST)
    }
}

impl JitterBuffer {
    /// A buffer whose playout delay may come down to this.
    pub fn with_shortest(shortest: Duration) -> JitterBuffer {
        JitterBuffer {
            slots: std::array::from_fn(|_| Slot::default()),
            stream: None,
            next: 0,
            highest: 0,
            state: State::Idle,
            stretched: 0,
            too_deep: 0,
            spread: Spread::default(),
            shortest,
        }
    }

    /// Takes a packet. One that is too far ahead makes the buffer begin anew with it.
    pub fn push(
        &mut self,
        stream: StreamKey,
        seq: u32,
        timestamp: RtpTime,
        payload: Option<&[u8]>,
        now: Mono,
    ) -> Pushed {
        if self.stream.replace(stream) != Some(stream) {
            self.clear();
            self.spread.restart();
        }
        self.spread.handle_arrival(timestamp, now);
        match self.state {
            State::Idle => self.begin(seq, now),
            _ if seq.wrapping_sub(self.next) as i32 >= SLOTS as i32 => {
                self.clear();
                self.begin(seq, now);
            }
            // Nothing has played yet: an older packet may still be the first.
            State::Filling { .. } if self.highest.wrapping_sub(seq) < SLOTS as u32 => self.next = self.next.min(seq),
            _ if (seq.wrapping_sub(self.next) as i32) < 0 => return Pushed::Late,
            _ => {}
        }
        let slot = &mut self.slots[seq as usize % SLOTS];
        if slot.filled {
            return Pushed::Late;
        }
        (slot.seq, slot.filled, slot.noise) = (seq, true, payload.is_none());
        slot.payload.clear();
        slot.payload.extend_from_slice(payload.unwrap_or_default());
        if seq.wrapping_sub(self.highest) as i32 > 0 {
            self.highest = seq;
        }
        Pushed::Taken
    }

    /// What is due at `now`, or `None` while there is nothing to play, or the buffer is still filling.
    ///
    /// Call once per packet time. Never allocates.
    pub fn pop(&mut self, packet_time: Duration, now: Mono) -> Option<Playout<'_>> {
        match self.state {
            State::Idle => return None,
            State::Filling { until } if until > now => return None,
            State::Filling { .. } => self.state = State::Playing,
            State::Playing => {}
        }
        self.leave_out_if_deep(packet_time);
        while self.stretched > 0 && !self.has(self.next) && self.waiting() > 0 {
            self.stretched -= 1;
            self.next = self.next.wrapping_add(1);
        }
        if !self.has(self.next) {
            if self.waiting() == 0 {
                self.stretched += 1;
                if packet_time * self.stretched > STRETCH_FOR {
                    self.clear();
                    return None;
                }
            } else {
                self.next = self.next.wrapping_add(1);
            }
            return Some(Playout::Lost);
        }
        self.stretched = 0;
        let slot = &mut self.slots[self.next as usize % SLOTS];
        self.next = self.next.wrapping_add(1);
        slot.filled = false;
        Some(if slot.noise { Playout::Noise } else { Playout::Packet(&slot.payload) })
    }

    /// Whether anything is here, or being made up.
    pub fn is_idle(&self) -> bool {
        self.state == State::Idle
    }

    /// The playout delay that the network asks for.
    pub fn target(&self) -> Duration {
        self.spread.target(self.shortest)
    }

    fn begin(&mut self, seq: u32, now: Mono) {
        self.next = seq;
        self.highest = seq;
        self.state = State::Filling { until: now + self.target() };
    }

    fn clear(&mut self) {
        self.slots.iter_mut().for_each(|slot| slot.filled = false);
        (self.state, self.stretched, self.too_deep) = (State::Idle, 0, 0);
    }

    fn has(&self, seq: u32) -> bool {
        let slot = &self.slots[seq as usize % SLOTS];
        slot.filled && slot.seq == seq
    }

    /// Packet times between the next packet and the newest, with both, or 0 where that one has played.
    fn waiting(&self) -> u32 {
        let ahead = self.highest.wrapping_sub(self.next) as i32 + 1;
        if ahead > 0 && self.has(self.highest) { ahead as u32 } else { 0 }
    }

    /// Shortens a delay that has been longer than need be for a second.
    fn leave_out_if_deep(&mut self, packet_time: Duration) {
        let depth = packet_time * self.waiting();
        if depth > self.target() + packet_time * 2 {
            self.too_deep += 1;
        } else {
            self.too_deep = 0;
        }
        if packet_time * self.too_deep >= DEEP_FOR || self.waiting() as usize >= SLOTS - 2 {
            self.slots[self.next as usize % SLOTS].filled = false;
            self.next = self.next.wrapping_add(1);
            self.too_deep = 0;
        }
    }
}

/// How unevenly packets arrive: the recent worst against the recent best, in samples.
#[derive(Clone, Copy, Debug, Default)]
struct Spread {
    /// The earliest arrival of this window and of the one before, against the timestamps.
    best: Option<(u32, u32)>,
    window_began: Mono,
    /// Sixteenths of a sample, so that it can fade.
    worst: u32,
}

impl Spread {
    fn restart(&mut self) {
        self.best = None;
    }

    fn handle_arrival(&mut self, timestamp: RtpTime, now: Mono) {
        let transit = ((now.0 / 125) as u32).wrapping_sub(timestamp.0);
        let earlier = |a: u32, b: u32| if (a.wrapping_sub(b) as i32) < 0 { a } else { b };
        let (this, before) = self.best.unwrap_or((transit, transit));
        let best = if now.since(self.window_began) > WINDOW {
            self.window_began = now;
            (transit, this)
        } else {
            (earlier(this, transit), before)
        };
        self.best = Some(best);
        let late = transit.wrapping_sub(earlier(best.0, best.1)).min(MAX_LATE_SAMPLES) * 16;
        self.worst = late.max(self.worst - self.worst / 256);
    }

    fn target(&self, shortest: Duration) -> Duration {
        let worst = Duration::from_micros(u64::from(self.worst / 16) * 125);
        (worst + MARGIN).clamp(shortest, LONGEST)
    }
}

/// 640 ms of 20 ms packets.
const SLOTS: usize = 32;
/// So long without any packet, and the source has paused.
const STRETCH_FOR: Duration = Duration::from_millis(100);
const DEEP_FOR: Duration = Duration::from_secs(1);
const MARGIN: Duration = Duration::from_millis(20);
const SHORTEST: Duration = Duration::from_millis(40);
const LONGEST: Duration = Duration::from_millis(200);
const WINDOW: Duration = Duration::from_secs(5);
const MAX_LATE_SAMPLES: u32 = 4000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::LegId;
    use crate::random::Random;

    const STREAM: StreamKey = StreamKey { leg: LegId(1), generation: 1 };
    const PACKET: Duration = Duration::from_millis(20);

    /// Runs packets of (sent as number, arriving at ms) against a pop every 20 ms; what comes out, `.` for nothing.
    fn run(arrivals: &[(u32, u64)], pops: u64) -> String {
        let mut buffer = JitterBuffer::default();
        let mut arrivals = arrivals.to_vec();
        arrivals.sort_by_key(|(_, at)| *at);
        let mut arrivals = arrivals.into_iter().peekable();
        let mut out = Vec::new();
        for tick in 0..pops {
            while let Some((seq, at)) = arrivals.next_if(|(_, at)| *at <= tick * 20) {
                buffer.push(STREAM, 1000 + seq, RtpTime(seq * 160), Some(&[seq as u8]), Mono(at * 1000));
            }
            out.push(match buffer.pop(PACKET, Mono(tick * 20_000)) {
                Some(Playout::Packet(payload)) => payload[0].to_string(),
                Some(Playout::Noise) => "noise".into(),
                Some(Playout::Lost) => "lost".into(),
                None => ".".into(),
            });
        }
        out.join(" ")
    }

    fn even(numbers: impl IntoIterator<Item = u32>) -> Vec<(u32, u64)> {
        numbers.into_iter().map(|seq| (seq, u64::from(seq) * 20)).collect()
    }

    #[test]
    fn packets_come_out_in_order_after_the_delay() {
        let table = [
            ("even", even(0..4), 6, ". . 0 1 2 3"),
            ("reordered", vec![(0, 0), (2, 20), (1, 40), (3, 60)], 6, ". . 0 1 2 3"),
            ("first two swapped", vec![(1, 0), (0, 20), (2, 40), (3, 60)], 6, ". . 0 1 2 3"),
            ("one lost", even([0, 1, 3, 4]), 7, ". . 0 1 lost 3 4"),
            ("duplicate", vec![(0, 0), (0, 5), (1, 20), (1, 25), (2, 40)], 5, ". . 0 1 2"),
            ("too late to play", vec![(0, 0), (1, 20), (3, 60), (4, 80), (2, 95), (5, 100)], 8, ". . 0 1 lost 3 4 5"),
            ("source pauses", even([0, 1]), 11, ". . 0 1 lost lost lost lost lost . ."),
        ];
        for (name, arrivals, pops, expected) in table {
            assert_eq!(run(&arrivals, pops), expected, "{name}");
        }
    }

    #[test]
    fn stall_stretches_the_delay_and_loses_nothing() {
        // Everything from number 3 on comes 60 ms late.
        let arrivals: Vec<_> = (0..8).map(|seq| (seq, u64::from(seq) * 20 + if seq >= 3 { 60 } else { 0 })).collect();
        assert_eq!(run(&arrivals, 11), ". . 0 1 2 lost 3 4 5 6 7");
    }

    #[test]
    fn lost_packet_after_an_underrun_is_made_up_once() {
        assert_eq!(run(&[(0, 0), (1, 20), (4, 110), (5, 115)], 9), ". . 0 1 lost lost 4 5 lost");
    }

    #[test]
    fn comfort_noise_is_no_loss() {
        let mut buffer = JitterBuffer::default();
        buffer.push(STREAM, 1, RtpTime(0), None, Mono(0));
        assert_eq!(buffer.pop(PACKET, Mono(40_000)), Some(Playout::Noise));
    }

    #[test]
    fn another_stream_and_a_far_jump_begin_anew() {
        let mut buffer = JitterBuffer::default();
        buffer.push(STREAM, 1, RtpTime(0), Some(&[1]), Mono(0));
        buffer.push(StreamKey { generation: 2, ..STREAM }, 9, RtpTime(0), Some(&[9]), Mono(0));
        assert_eq!(buffer.pop(PACKET, Mono(100_000)), Some(Playout::Packet(&[9])));
        buffer.push(StreamKey { generation: 2, ..STREAM }, 500, RtpTime(0), Some(&[5]), Mono(100_000));
        assert_eq!(buffer.pop(PACKET, Mono(400_000)), Some(Playout::Packet(&[5])));
    }

    #[test]
    fn threat_30_loss_jitter_and_reordering_leave_an_even_stream() {
        let mut random = Random::new(30, 0);
        let packets = 3000u32;
        let arrivals: Vec<_> = (0..packets)
            .filter_map(|seq| {
                let lost = random.next_unit() < 0.05;
                let delay = (random.next_unit() * 50.0) as u64;
                (!lost).then_some((seq, u64::from(seq) * 20 + delay))
            })
            .collect();
        let arrived = arrivals.len();
        let out = run(&arrivals, u64::from(packets) + 20);
        let played: Vec<&str> = out.split(' ').filter(|item| item.parse::<u32>().is_ok()).collect();
        assert!(played.len() * 100 >= arrived * 98, "{} of {arrived} played", played.len());
        let silent = out.split(' ').skip(10).take(packets as usize - 20).filter(|item| *item == ".").count();
        assert_eq!(silent, 0, "holes in the stream");
    }

    #[test]
    fn delay_shrinks_again_after_a_burst() {
        let mut buffer = JitterBuffer::default();
        let mut depth_at_end = 0;
        for tick in 0..1500u32 {
            let now = Mono(u64::from(tick) * 20_000);
            // For the first second everything waits and comes at once.
            if tick >= 25 || tick == 24 {
                let first = if tick == 24 { 0 } else { tick };
                for seq in first..=tick {
                    buffer.push(STREAM, 1 + seq, RtpTime(seq * 160), Some(&[1]), now);
                }
            }
            buffer.pop(PACKET, now);
            depth_at_end = buffer.waiting();
        }
        assert!(depth_at_end <= 6, "{depth_at_end} packets still wait");
    }
}
