//! A call between Opus and PCMU without a worker, and the codec's part of it.

use std::net::SocketAddr;

use dialtone_media::clips::Clips;
use dialtone_media::codec::Law;
use dialtone_media::codec::opus::{Decoder, Encoder, MAX_SAMPLES};
use dialtone_media::ids::{LegId, SessionId};
use dialtone_media::leg::Latching;
use dialtone_media::proto::*;
use dialtone_media::rtp::{Header, RtpTime, Seq, Ssrc};
use dialtone_media::session::{MIN_BUFFER, Session, Settings};
use dialtone_media::time::Mono;

use super::relay::Counter;

const FRAME: usize = 160;

/// What both sides say, 20 ms by 20 ms: a voice that rises and falls, with some breath.
pub struct Speech {
    samples: Vec<[i16; FRAME]>,
    opus: Vec<Vec<u8>>,
}

impl Speech {
    pub fn new(frames: usize) -> Speech {
        let mut seed = 1u32;
        let mut sample = |at: usize| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let time = at as f64 / 8000.0;
            let voice = (std::f64::consts::TAU * 180.0 * time + 6.0 * (3.0 * time).sin()).sin();
            let breath = f64::from(seed >> 16) / 65_536.0 - 0.5;
            (voice * 6000.0 * (1.0 + (5.0 * time).sin()) + breath * 1500.0) as i16
        };
        let samples: Vec<[i16; FRAME]> =
            (0..frames).map(|frame| std::array::from_fn(|at| sample(frame * FRAME + at))).collect();
        let mut encoder = Encoder::default();
        let mut encode = |samples: &[i16; FRAME]| {
            let mut payload = vec![0; 1200];
            let len = encoder.encode(samples, 0, &mut payload).expect("20 ms are a packet");
            payload.truncate(len);
            payload
        };
        let opus = samples.iter().map(&mut encode).collect();
        Speech { samples, opus }
    }
}

/// The codec alone; samples and bytes that came of it.
pub fn codec(speech: &Speech) -> usize {
    let (mut decoder, mut encoder, mut came) = (Decoder::default(), Encoder::default(), 0);
    for (packet, samples) in speech.opus.iter().zip(&speech.samples) {
        came += decoder.decode(packet, &mut [0; MAX_SAMPLES]).expect("a packet of ours");
        came += encoder.encode(samples, 0, &mut [0; 1200]).expect("20 ms are a packet");
    }
    came
}

/// A call whose legs are on Opus and PCMU, both of which speak; bytes that went out.
pub fn call(speech: &Speech) -> usize {
    let settings = Settings { advertise: super::LOCAL, latching: Latching::Off, seed: 1, identity: None };
    let mut session = Session::new(SessionId(1), 1, settings, Mono(0));
    let formats = [
        "111 110\r\na=rtpmap:111 opus/48000/2\r\na=rtpmap:110 telephone-event/48000",
        "0 101\r\na=rtpmap:101 telephone-event/8000",
    ];
    let leg = |leg_id: u32| {
        let (port, formats) = (4998 + leg_id * 2, formats[leg_id as usize - 1]);
        let sdp = format!("v=0\r\nc=IN IP4 203.0.113.5\r\nm=audio {port} RTP/AVP {formats}\r\n");
        super::leg(leg_id, sdp, Hears::Leg(3 - leg_id))
    };
    let spec = SessionSpec { session_id: 1, owner_epoch: 1, legs: vec![leg(1), leg(2)], ..SessionSpec::default() };
    let command = Command { command_id: 1, session_id: 1, owner_epoch: 1, kind: Some(CommandKind::Open(spec)) };
    session.handle_command(&command, &mut Counter(40_000), &mut Clips::new(0), Mono(0));
    let mut bytes = 0;
    let mut buffer = [0; MIN_BUFFER];
    for (index, (packet, samples)) in speech.opus.iter().zip(&speech.samples).enumerate() {
        let now = Mono(1_000_000 + index as u64 * 20_000);
        let mut law = [0; FRAME];
        Law::Mu.encode(samples, &mut law);
        for (leg, payload_type, ticks, payload) in [(1, 111, 960, &packet[..]), (2, 0, 160, &law[..])] {
            let header = Header {
                marker: false,
                payload_type,
                seq: Seq(index as u16),
                timestamp: RtpTime(index as u32 * ticks),
                ssrc: Ssrc(leg),
            };
            buffer[..12].copy_from_slice(&header.to_bytes());
            buffer[12..12 + payload.len()].copy_from_slice(payload);
            let from = SocketAddr::from(([203, 0, 113, 5], 4998 + 2 * leg as u16));
            let sent = session.handle_rtp(LegId(leg), from, &mut buffer, 12 + payload.len(), now).expect("taken");
            bytes += sent.map_or(0, |sent| sent.packet.len());
            while let Some(transmit) = session.poll_transmit(&mut buffer) {
                bytes += transmit.packet.len();
            }
        }
        if session.next_deadline().is_some_and(|at| at <= now) {
            session.handle_timeout(now);
        }
        while session.poll_event().is_some() {}
    }
    bytes
}
