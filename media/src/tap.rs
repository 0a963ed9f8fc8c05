//! What is said and heard on a leg, evened out to 20 ms, for whoever listens to it elsewhere.
//!
//! Unlike a recording, which waits until what is late has come, a tap is read as soon as a jitter buffer would be played:
//! somebody answers to what it tells. Each track is silence where there is nothing, so that it never stands still.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::codec::Law;
use crate::ids::LegId;
use crate::playout::{FRAME_SAMPLES, FramePlayout, Samples};
use crate::proto::{TapSpec, Tapped, Track};
use crate::received::Received;
use crate::recorder::Side;
use crate::time::Mono;

/// One tap.
pub struct Tap {
    id: u32,
    leg: LegId,
    began: Mono,
    /// What was told before it began here.
    offset_ms: u64,
    /// 20 ms that were read, those of before among them.
    frames: u64,
    says: Option<Box<Line>>,
    hears: Option<Box<Line>>,
}

/// One track, around now.
#[derive(Default)]
struct Line {
    /// What comes from elsewhere.
    playout: FramePlayout,
    /// What is made here, in time.
    own: VecDeque<i16>,
}

impl Tap {
    pub fn new(spec: &TapSpec, now: Mono) -> Tap {
        let line = |track| (spec.track() == track || spec.track() == Track::Both).then(Box::default);
        Tap {
            id: spec.tap_id,
            leg: LegId(spec.leg_id),
            began: now,
            frames: spec.offset_ms / FRAME_MS,
            offset_ms: spec.offset_ms / FRAME_MS * FRAME_MS,
            says: line(Track::Inbound),
            hears: line(Track::Outbound),
        }
    }

    pub fn id(&self) -> u32 {
        self.id
    }

    pub fn leg(&self) -> LegId {
        self.leg
    }

    /// A packet of that side's audio.
    pub fn handle_packet(&mut self, side: Side, received: &Received, packet: &[u8], now: Mono) {
        if let Some(line) = self.line(side) {
            line.playout.handle_packet(received, packet, now);
        }
    }

    /// A frame of a link.
    pub fn handle_frame(&mut self, side: Side, received: &Received, samples: &Samples, now: Mono) {
        if let Some(line) = self.line(side) {
            line.playout.handle_frame(received, samples, now);
        }
    }

    /// Audio that is made here.
    pub fn handle_own(&mut self, side: Side, samples: &[i16]) {
        if let Some(line) = self.line(side) {
            line.own.extend(samples);
            let over = line.own.len().saturating_sub(MAX_OWN);
            line.own.drain(..over);
        }
    }

    /// The next 20 ms; call every 20 ms.
    pub fn poll(&mut self, now: Mono) -> Tapped {
        let passed =
            u64::try_from(now.since(self.began).as_millis()).unwrap_or(u64::MAX).saturating_add(self.offset_ms);
        let mut at_ms = self.frames * FRAME_MS;
        // After a stall of the whole worker what was missed is not there.
        if passed > at_ms + MAX_BEHIND_MS {
            at_ms = passed / FRAME_MS * FRAME_MS;
        }
        self.frames = at_ms / FRAME_MS + 1;
        let read = |line: &mut Option<Box<Line>>| line.as_mut().map_or(Bytes::new(), |line| line.read(now));
        let (inbound, outbound) = (read(&mut self.says), read(&mut self.hears));
        Tapped { tap_id: self.id, leg_id: self.leg.0, at_ms, inbound, outbound }
    }

    fn line(&mut self, side: Side) -> Option<&mut Line> {
        match side {
            Side::Says => self.says.as_deref_mut(),
            Side::Hears => self.hears.as_deref_mut(),
            Side::Mix => None,
        }
    }
}

impl Line {
    fn read(&mut self, now: Mono) -> Bytes {
        let mut samples = [0; FRAME_SAMPLES];
        // What came from elsewhere before ours began is not heard any more, but it goes on being taken out.
        let is_heard = self.playout.poll_frame(&mut samples, now);
        if self.own.len() >= FRAME_SAMPLES {
            samples.iter_mut().zip(self.own.drain(..FRAME_SAMPLES)).for_each(|(sample, own)| *sample = own);
        } else if !is_heard {
            samples.fill(0);
        }
        let mut payload = vec![0; FRAME_SAMPLES];
        Law::Mu.encode(&samples, &mut payload);
        payload.into()
    }
}

const FRAME_MS: u64 = 20;
/// Ticks that are late are made up for so far.
const MAX_BEHIND_MS: u64 = 220;
/// The longest packet of our own, and what comes while a tick is late.
const MAX_OWN: usize = 480 + 2 * FRAME_SAMPLES;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Codec;
    use crate::received::StreamKey;
    use crate::rtp::RtpTime;
    use crate::sdp::Payload;

    const LOUD: u8 = 0x00;

    fn received(index: u32) -> Received {
        Received {
            carries: Payload::Audio(Codec::Pcmu),
            marker: false,
            timestamp: RtpTime(index * 160),
            seq: index,
            stream: StreamKey { leg: LegId(1), generation: 1 },
            payload: 0..160,
            tone: false,
        }
    }

    fn tap(track: Track) -> Tap {
        Tap::new(&TapSpec { tap_id: 7, leg_id: 1, track: track.into(), offset_ms: 0 }, Mono(0))
    }

    fn is_loud(frame: &Bytes) -> bool {
        frame.iter().all(|byte| *byte == LOUD)
    }

    #[test]
    fn both_tracks_are_told_each_20_ms_and_silence_too() {
        let mut tap = tap(Track::Both);
        let mut told = Vec::new();
        for index in 0..50u64 {
            let now = Mono(index * 20_000);
            if (10..30).contains(&index) {
                tap.handle_packet(Side::Says, &received(index as u32), &[LOUD; 160], now);
            }
            if index >= 40 {
                tap.handle_own(Side::Hears, &[-32_124; 160]);
            }
            told.push(tap.poll(now));
        }
        assert!(told.iter().enumerate().all(|(index, it)| it.at_ms == index as u64 * 20));
        let said: Vec<usize> = (0..50).filter(|index| is_loud(&told[*index].inbound)).collect();
        assert!((19..=20).contains(&said.len()), "{said:?}");
        assert!((10..=14).contains(&said[0]), "told within 80 ms: {said:?}");
        let heard: Vec<usize> = (0..50).filter(|index| is_loud(&told[*index].outbound)).collect();
        assert_eq!(heard, (40..50).collect::<Vec<_>>());
        assert!(told[0].inbound.iter().all(|byte| *byte == 0xFF) && told[0].inbound.len() == 160);
    }

    #[test]
    fn time_goes_on_at_another_worker() {
        let spec = TapSpec { tap_id: 7, leg_id: 1, track: Track::Inbound.into(), offset_ms: 1234 };
        let mut tap = Tap::new(&spec, Mono(5_000_000));
        assert_eq!([0, 20, 40].map(|ms| tap.poll(Mono(5_000_000 + ms * 1000)).at_ms), [1220, 1240, 1260]);
    }

    #[test]
    fn track_that_is_not_tapped_is_empty() {
        let mut tap = tap(Track::Inbound);
        tap.handle_own(Side::Hears, &[1000; 160]);
        let told = tap.poll(Mono(0));
        assert_eq!((told.inbound.len(), told.outbound.len()), (160, 0));
    }

    #[test]
    fn stall_moves_the_time_and_leaves_nothing_behind() {
        let mut tap = tap(Track::Outbound);
        assert_eq!(tap.poll(Mono(0)).at_ms, 0);
        (0..100).for_each(|_| tap.handle_own(Side::Hears, &[1000; 160]));
        assert_eq!(tap.poll(Mono(2_010_000)).at_ms, 2000);
        assert_eq!(tap.poll(Mono(2_020_000)).at_ms, 2020);
        let told: Vec<_> = (0..9).map(|_| tap.poll(Mono(2_040_000)).outbound[0] != 0xFF).collect();
        assert_eq!(told.iter().filter(|is_heard| **is_heard).count(), MAX_OWN / 160 - 2, "{told:?}");
    }
}
