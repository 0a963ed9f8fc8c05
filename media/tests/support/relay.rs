//! A bridged session without a worker: what a relayed packet costs in allocations and in time.

use std::net::SocketAddr;

use dialtone_media::clips::Clips;
use dialtone_media::ids::{LegId, SessionId};
use dialtone_media::leg::Latching;
use dialtone_media::proto::*;
use dialtone_media::rtp::{Header, RtpTime, Seq, Ssrc};
use dialtone_media::session::{MIN_BUFFER, Ports, Session, Settings};
use dialtone_media::time::Mono;

const EVENTS: &str = "0 101\r\na=rtpmap:101 telephone-event/8000";

const OPUS: &str = "111 110\r\na=rtpmap:111 opus/48000/2\r\na=rtpmap:110 telephone-event/48000";

/// The ways of a packet: a name, the formats of both legs, and samples in a packet.
pub const CASES: [(&str, [&str; 2], usize); 8] = [
    ("as it is", [EVENTS, EVENTS], 160),
    ("transcoded", [EVENTS, "8 101\r\na=rtpmap:101 telephone-event/8000"], 160),
    ("with a detector of tones", ["0", EVENTS], 160),
    ("opus as it is", [OPUS, OPUS], 160),
    ("opus with a detector", ["111\r\na=rtpmap:111 opus/48000/2", OPUS], 160),
    ("g722 as it is", ["9", "9"], 160),
    ("g722 transcoded", ["9", EVENTS], 160),
    ("cut anew", [EVENTS, "0\r\na=ptime:30"], 160),
];

pub struct Counter(pub u16);

impl Ports for Counter {
    fn open(&mut self, _: LegId) -> Option<u16> {
        self.0 += 2;
        Some(self.0)
    }

    fn fill_secret(&mut self, secret: &mut [u8]) {
        secret.fill(7);
    }
}

/// A bridged session, and packets of `samples` from leg 1 for as long as `seconds`; the packets that came out.
pub fn relay(formats: [&str; 2], samples: usize, seconds: u64) -> usize {
    let settings = Settings { advertise: super::LOCAL, latching: Latching::Off, seed: 1, identity: None };
    let mut session = Session::new(SessionId(1), 1, settings, Mono(0));
    let leg = |leg_id: u32, formats: &str| {
        let port = 4998 + leg_id * 2;
        let sdp = format!("v=0\r\nc=IN IP4 203.0.113.5\r\nm=audio {port} RTP/AVP {formats}\r\n");
        super::leg(leg_id, sdp, Hears::Leg(3 - leg_id))
    };
    let spec = SessionSpec {
        session_id: 1,
        owner_epoch: 1,
        legs: vec![leg(1, formats[0]), leg(2, formats[1])],
        ..SessionSpec::default()
    };
    let command = Command { command_id: 1, session_id: 1, owner_epoch: 1, kind: Some(CommandKind::Open(spec)) };
    session.handle_command(&command, &mut Counter(40_000), &mut Clips::new(0), Mono(0));
    while session.poll_event().is_some() {}
    let from = SocketAddr::from(([203, 0, 113, 5], 5000));
    let payload_type =
        formats[0].split_ascii_whitespace().next().and_then(|number| number.parse().ok()).expect("a number");
    let mut out = 0;
    let packet_us = samples as u64 * 125;
    for index in 0..seconds * 1_000_000 / packet_us {
        let now = Mono(1_000_000 + index * packet_us);
        let header = Header {
            marker: false,
            payload_type,
            seq: Seq(index as u16),
            timestamp: RtpTime(index as u32 * samples as u32),
            ssrc: Ssrc(9),
        };
        let mut buffer = [0x55; MIN_BUFFER];
        buffer[..12].copy_from_slice(&header.to_bytes());
        let sent = session.handle_rtp(LegId(1), from, &mut buffer[..], 12 + samples, now).expect("taken");
        out += usize::from(sent.is_some());
        if session.next_deadline().is_some_and(|at| at <= now) {
            session.handle_timeout(now);
        }
        while let Some(transmit) = session.poll_transmit(&mut buffer) {
            // Reports are shorter.
            out += usize::from(transmit.packet.len() > 150);
        }
        // The first packet is news to the edge.
        while session.poll_event().is_some() {}
    }
    out
}
