//! A track of a recording around now: audio goes in where it belongs in time, and comes out a fixed delay later.
//!
//! Two tracks of a recording must lie beside each other as they were spoken. A jitter buffer cannot do that: its delay
//! follows its own network. Here a packet's place is that of its timestamp, counted from where its stream began, so
//! that jitter and reordering move nothing; what did not come is silence. A packet that is early shows that the first
//! one was late, and the stream is moved at once; one whose clock is not ours drifts, and is moved back when all its
//! packets were late for two seconds.
//!
//! Positions are samples at 8 kHz since the track began. Knows nothing of files, legs or clocks.

use crate::received::StreamKey;
use crate::rtp::RtpTime;

/// The audio of the last second, by its place in time. 16 kB, and never allocates.
pub struct Timeline {
    samples: Box<[i16; RING]>,
    /// Everything before this was read.
    read: u64,
    anchor: Anchor,
}

/// Where the last audio belongs, and so the next.
enum Anchor {
    Nothing,
    /// Audio of our own, made in time: the next follows here.
    Own {
        end: u64,
    },
    Stream {
        stream: StreamKey,
        timestamp: RtpTime,
        position: u64,
        lateness: Lateness,
    },
}

/// How late the packets of a stream are at the least, over a window, against where they belong.
#[derive(Clone, Copy)]
struct Lateness {
    least: i64,
    until: u64,
    /// Since when every packet came too late to be written.
    behind_since: Option<u64>,
}

impl Default for Timeline {
    fn default() -> Self {
        Timeline { samples: Box::new([0; RING]), read: 0, anchor: Anchor::Nothing }
    }
}

impl Timeline {
    /// Takes the audio of a packet that comes when the track stands at `now`.
    ///
    /// What belongs before the place that was read last is too late, and left out.
    pub fn write_packet(&mut self, stream: StreamKey, timestamp: RtpTime, samples: &[i16], now: u64) {
        let position = match &mut self.anchor {
            Anchor::Stream { stream: known, timestamp: first, position, lateness } if *known == stream => {
                let place = position.wrapping_add_signed(i64::from(timestamp.ahead_of(*first)));
                let late = now as i64 - place as i64;
                let correction = lateness.correction(late, now);
                // The timestamp moves along, so that it never is too far off to be compared.
                (*first, *position) = (timestamp, place.wrapping_add_signed(correction));
                *position
            }
            anchor => {
                let lateness = Lateness::from(now);
                *anchor = Anchor::Stream { stream, timestamp, position: now, lateness };
                now
            }
        };
        self.write(position, samples);
    }

    /// Takes audio that we make, and that is heard from `now` on, or after what we made before.
    pub fn write_own(&mut self, samples: &[i16], now: u64) {
        let position = match self.anchor {
            Anchor::Own { end } if end.abs_diff(now) <= OWN_SLACK => end,
            _ => now,
        };
        self.anchor = Anchor::Own { end: position + samples.len() as u64 };
        self.write(position, samples);
    }

    /// The samples from where the last ones ended; silence where nothing was written.
    pub fn read(&mut self, out: &mut [i16]) {
        for sample in out {
            *sample = std::mem::take(&mut self.samples[self.read as usize % RING]);
            self.read += 1;
        }
    }

    fn write(&mut self, position: u64, samples: &[i16]) {
        for (sample, place) in samples.iter().zip(position..) {
            if place >= self.read && place - self.read < RING as u64 {
                self.samples[place as usize % RING] = *sample;
            }
        }
    }
}

impl Lateness {
    fn from(now: u64) -> Lateness {
        Lateness { least: i64::MAX, until: now + WINDOW, behind_since: None }
    }

    /// Takes how late a packet is; by how much its stream is to be moved.
    ///
    /// No network is faster than at its best: an early packet is proof at once, a late one is not. A network that stalled gives its packets all at once, and the last of them are in time: nothing is moved for
    /// them. A stream that stays behind has begun anew, or found a longer way.
    fn correction(&mut self, late: i64, now: u64) -> i64 {
        self.least = self.least.min(late);
        let since = *self.behind_since.get_or_insert(now);
        if late <= DELAY as i64 {
            self.behind_since = None;
        }
        let is_behind = late > DELAY as i64 && now >= since + PATIENCE;
        let correction = if late < -TOLERATED || is_behind {
            late
        } else if now >= self.until && self.least > TOLERATED {
            self.least
        } else {
            0
        };
        if now >= self.until || correction != 0 {
            *self = Lateness::from(now);
        }
        correction
    }
}

/// How long after a place it is read: packets that the network delays by less are in it.
pub const DELAY: u64 = 1600;
/// A second, so that a worker that stalls may come to it later.
const RING: usize = 8192;
/// 500 ms.
const PATIENCE: u64 = 4000;
/// 15 ms: below what is heard as one track ahead of another.
const TOLERATED: i64 = 120;
/// 60 ms, the longest packet of our own.
const OWN_SLACK: u64 = 480;
/// 2 s.
const WINDOW: u64 = 16_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::LegId;
    use crate::random::Random;

    const STREAM: StreamKey = StreamKey { leg: LegId(1), generation: 1 };

    /// A ramp, so that each sample tells its place in the stream.
    fn packet(index: u32) -> Vec<i16> {
        (0..160).map(|i| ((index * 160 + i) % 30_000 + 1) as i16).collect()
    }

    /// Writes packets of (index, arriving at ms); the track up to `ms`, as (value, place) where something begins.
    fn track(arrivals: &[(u32, u64)], ms: u64) -> Vec<i16> {
        let mut timeline = Timeline::default();
        let mut out = Vec::new();
        for now in 0..ms {
            for (index, _) in arrivals.iter().filter(|(_, at)| *at == now) {
                timeline.write_packet(STREAM, RtpTime(index.wrapping_mul(160)), &packet(*index), now * 8);
            }
            let mut samples = [0; 160];
            if now >= 200 && now % 20 == 0 {
                timeline.read(&mut samples);
                out.extend(samples);
            }
        }
        out
    }

    #[test]
    fn jitter_and_reordering_move_nothing_and_loss_is_silence() {
        let even = track(&[(0, 0), (1, 20), (2, 40), (3, 60), (4, 80)], 400);
        let uneven = track(&[(0, 0), (2, 25), (1, 140), (3, 61), (4, 150)], 400);
        assert_eq!(even, uneven);
        assert_eq!(even[..800], (0..5).flat_map(packet).collect::<Vec<_>>());
        let lossy = track(&[(0, 0), (2, 40), (3, 60)], 400);
        assert_eq!(lossy[..640], [packet(0), vec![0; 160], packet(2), packet(3)].concat());
    }

    #[test]
    fn packet_that_is_too_late_is_left_out() {
        let late = track(&[(0, 0), (1, 260), (2, 40)], 400);
        assert_eq!(late[..480], [packet(0), vec![0; 160], packet(2)].concat());
    }

    #[test]
    fn pause_of_the_stream_keeps_its_length() {
        // 340 ms without a packet, as a peer with silence suppression makes them.
        let spurts = track(&[(0, 0), (18, 361), (19, 380)], 700);
        assert_eq!(spurts[..160], packet(0));
        assert_eq!(spurts[18 * 160..20 * 160], [packet(18), packet(19)].concat());
    }

    #[test]
    fn stream_that_drifts_is_brought_back() {
        for drift in [0.998, 0.9999, 1.0001, 1.002] {
            let mut timeline = Timeline::default();
            let mut worst = 0;
            for index in 0..6000u32 {
                let now = (f64::from(index) * 160.0 * drift) as u64;
                timeline.write_packet(STREAM, RtpTime(index * 160), &packet(index), now);
                let Anchor::Stream { position, .. } = timeline.anchor else { panic!() };
                worst = worst.max(position.abs_diff(now));
            }
            // 2 ms a second, of two minutes.
            assert!(worst < 200, "{drift}: {worst} samples off");
        }
    }

    #[test]
    fn first_packet_that_was_late_is_found_out() {
        let mut random = Random::new(5, 5);
        let mut timeline = Timeline::default();
        for index in 0..400u32 {
            let late = if index == 0 { 150.0 } else { random.next_unit() * 30.0 };
            let now = u64::from(index) * 160 + (late * 8.0) as u64;
            timeline.write_packet(STREAM, RtpTime(index * 160), &packet(index), now);
        }
        let Anchor::Stream { position, .. } = timeline.anchor else { panic!() };
        assert!(position.abs_diff(399 * 160) <= TOLERATED as u64, "{position}");
    }

    #[test]
    fn stall_loses_what_is_too_late_and_a_longer_way_is_followed() {
        // Number 1 to 30 come at once, 600 ms late at most.
        let stalled: Vec<_> =
            (0..40).map(|index| (index, if (1..=30).contains(&index) { 601 } else { u64::from(index) * 20 })).collect();
        let track_of = |arrivals: &[(u32, u64)]| track(arrivals, 2000);
        let heard = track_of(&stalled);
        assert_eq!(heard[..160], packet(0));
        assert_eq!(heard[160..21 * 160], vec![0; 20 * 160]);
        assert_eq!(heard[21 * 160..40 * 160], (21..40).flat_map(packet).collect::<Vec<_>>());
        // From number 1 on every packet takes 300 ms longer.
        let longer: Vec<_> =
            (0..60).map(|index| (index, u64::from(index) * 20 + if index > 0 { 300 } else { 0 })).collect();
        let heard = track_of(&longer);
        let back = heard.iter().skip(160).position(|sample| *sample != 0).expect("it is heard again");
        assert_eq!((back + 160) / 160, 41, "after half a second, where it is heard");
        assert_eq!(heard[41 * 160..42 * 160], packet(26));
    }

    #[test]
    fn restart_of_the_stream_begins_where_it_is_heard() {
        let mut timeline = Timeline::default();
        timeline.write_packet(STREAM, RtpTime(9_999_999), &[1; 160], 0);
        timeline.write_packet(StreamKey { generation: 2, ..STREAM }, RtpTime(5), &[2; 160], 400);
        // The same stream, but its timestamps leap forward.
        timeline.write_packet(StreamKey { generation: 2, ..STREAM }, RtpTime(5_000_000), &[3; 160], 800);
        let mut out = [0; 960];
        timeline.read(&mut out);
        let runs: Vec<_> = out.chunk_by(|a, b| a == b).map(|run| (run[0], run.len())).collect();
        assert_eq!(runs, [(1, 160), (0, 240), (2, 160), (0, 240), (3, 160)]);
    }

    #[test]
    fn own_audio_follows_without_a_gap_though_its_tick_is_uneven() {
        let mut timeline = Timeline::default();
        for (now, value) in [(80, 1), (200, 2), (440, 3), (2000, 4)] {
            timeline.write_own(&[value; 160], now);
        }
        let mut out = [0; 2160];
        timeline.read(&mut out);
        let runs: Vec<_> = out.chunk_by(|a, b| a == b).map(|run| (run[0], run.len())).collect();
        assert_eq!(runs, [(0, 80), (1, 160), (2, 160), (3, 160), (0, 1440), (4, 160)]);
    }
}
