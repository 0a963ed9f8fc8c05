//! From packets that come as they may to 20 ms that come evenly: jitter buffer, decoder, concealment.
//!
//! For a leg whose audio leaves its session or is mixed. A leg that is only relayed has none of this.

use std::time::Duration;

use crate::codec::Law;
use crate::conceal::Concealer;
use crate::jitter::{JitterBuffer, Playout, Pushed};
use crate::received::Received;
use crate::sdp::Payload;
use crate::time::Mono;

/// 20 ms at 8 kHz.
pub const FRAME_SAMPLES: usize = 160;

/// 20 ms of audio.
pub type Samples = [i16; FRAME_SAMPLES];

/// The even side of one leg's audio. Some 8 kB, and never allocates in a steady state.
pub struct FramePlayout {
    buffer: JitterBuffer,
    concealer: Concealer,
    format: Format,
    /// Decoded samples that no frame has taken yet.
    samples: [i16; FRAME_SAMPLES + MAX_PACKET],
    len: usize,
    /// The length of the source's packets.
    packet: usize,
}

/// What the buffer holds.
#[derive(Clone, Copy)]
enum Format {
    Packets(Law),
    /// Frames of a link: 16-bit samples, little-endian.
    Frames,
}

impl Default for FramePlayout {
    fn default() -> Self {
        FramePlayout::with_buffer(JitterBuffer::default())
    }
}

impl FramePlayout {
    /// For frames of a link, which between two sessions of one worker come as evenly as they are played.
    pub fn of_link() -> FramePlayout {
        FramePlayout::with_buffer(JitterBuffer::with_shortest(LINK_DELAY))
    }

    fn with_buffer(buffer: JitterBuffer) -> FramePlayout {
        FramePlayout {
            buffer,
            concealer: Concealer::default(),
            format: Format::Packets(Law::Mu),
            samples: [0; FRAME_SAMPLES + MAX_PACKET],
            len: 0,
            packet: FRAME_SAMPLES,
        }
    }

    /// Takes a packet of the leg; false where it came too late.
    pub fn handle_packet(&mut self, received: &Received, datagram: &[u8], now: Mono) -> bool {
        let payload = match received.carries {
            Payload::Audio(codec) => {
                // What is no G.711 is decoded before it comes here.
                let Some(law) = codec.law() else { return true };
                let payload = &datagram[received.payload.clone()];
                (self.format, self.packet) = (Format::Packets(law), payload.len().clamp(MIN_PACKET, MAX_PACKET));
                Some(&payload[..payload.len().min(MAX_PACKET)])
            }
            // An event is no audio: in its place there is silence.
            Payload::Noise | Payload::Event => None,
        };
        self.buffer.push(received.stream, received.seq, received.timestamp, payload, now) == Pushed::Taken
    }

    /// Takes a frame that came over the leg's link; false where it came too late.
    pub fn handle_frame(&mut self, received: &Received, samples: &Samples, now: Mono) -> bool {
        (self.format, self.packet) = (Format::Frames, FRAME_SAMPLES);
        let mut payload = [0; FRAME_SAMPLES * 2];
        for (bytes, sample) in payload.chunks_exact_mut(2).zip(samples) {
            bytes.copy_from_slice(&sample.to_le_bytes());
        }
        self.buffer.push(received.stream, received.seq, received.timestamp, Some(&payload), now) == Pushed::Taken
    }

    /// The next frame, due every 20 ms; false while there is nothing to hear.
    pub fn poll_frame(&mut self, frame: &mut Samples, now: Mono) -> bool {
        let packet_time = Duration::from_micros(self.packet as u64 * 125);
        while self.len < FRAME_SAMPLES {
            let room = &mut self.samples[self.len..];
            let count = match self.buffer.pop(packet_time, now) {
                Some(Playout::Packet(payload)) => {
                    let count = self.format.decode(payload, room);
                    self.concealer.handle_samples(&mut room[..count]);
                    count
                }
                Some(Playout::Noise) => {
                    room[..self.packet].fill(0);
                    self.packet
                }
                Some(Playout::Lost) => {
                    self.concealer.conceal(&mut room[..self.packet]);
                    self.packet
                }
                None if self.len == 0 => return false,
                None => {
                    let count = FRAME_SAMPLES - self.len;
                    room[..count].fill(0);
                    count
                }
            };
            self.len += count;
        }
        frame.copy_from_slice(&self.samples[..FRAME_SAMPLES]);
        self.samples.copy_within(FRAME_SAMPLES..self.len, 0);
        self.len -= FRAME_SAMPLES;
        true
    }

    /// Nothing to play: the next packet begins anew.
    pub fn is_idle(&self) -> bool {
        self.len == 0 && self.buffer.is_idle()
    }
}

impl Format {
    fn decode(self, payload: &[u8], samples: &mut [i16]) -> usize {
        match self {
            Format::Packets(law) => law.decode(payload, samples),
            Format::Frames => {
                for (sample, bytes) in samples.iter_mut().zip(payload.chunks_exact(2)) {
                    *sample = i16::from_le_bytes([bytes[0], bytes[1]]);
                }
                samples.len().min(payload.len() / 2)
            }
        }
    }
}

const LINK_DELAY: Duration = Duration::from_millis(20);
const MIN_PACKET: usize = 40;
/// 60 ms.
const MAX_PACKET: usize = 480;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Codec;
    use crate::ids::LegId;
    use crate::received::StreamKey;
    use crate::rtp::RtpTime;

    /// Feeds packets of `len` samples and counts the frames that are not silent.
    fn frames_of(len: u32) -> (usize, usize) {
        let mut playout = FramePlayout::default();
        let (mut frames, mut loud) = (0, 0);
        let per_packet = u64::from(len) / 8;
        for ms in (0..1200u64).step_by(10) {
            if ms < 960 && ms % per_packet == 0 {
                let index = (ms / per_packet) as u32;
                let received = Received {
                    carries: Payload::Audio(Codec::Pcmu),
                    marker: false,
                    timestamp: RtpTime(index * len),
                    seq: 100 + index,
                    stream: StreamKey { leg: LegId(1), generation: 1 },
                    payload: 0..len as usize,
                    tone: false,
                };
                assert!(playout.handle_packet(&received, &vec![0x00; len as usize], Mono(ms * 1000)));
            }
            let mut frame = [0; FRAME_SAMPLES];
            if ms % 20 == 0 && playout.poll_frame(&mut frame, Mono(ms * 1000)) {
                frames += 1;
                loud += usize::from(frame.iter().all(|sample| *sample < -30_000));
            }
        }
        assert!(playout.is_idle());
        (frames, loud)
    }

    #[test]
    fn packets_of_any_length_become_frames_of_20_ms() {
        for len in [80, 160, 240, 320, 480] {
            let (frames, loud) = frames_of(len);
            assert!((46..=48).contains(&loud), "{len}: {loud} loud of {frames}");
        }
    }
}
