//! A conference without a worker: what a packet time of it costs in allocations, instructions and time.

use std::net::SocketAddr;

use dialtone_media::clips::Clips;
use dialtone_media::ids::{LegId, LinkKey, SessionId};
use dialtone_media::leg::Latching;
use dialtone_media::proto::*;
use dialtone_media::rtp::{Header, RtpTime, Seq, Ssrc};
use dialtone_media::session::{Frame, MIN_BUFFER, Ports, Session, Settings};
use dialtone_media::time::Mono;

/// A conference: how many members, how many of them speak, and whether they are on links or have phones of their own.
pub struct Case {
    pub name: &'static str,
    pub members: usize,
    pub speaking: usize,
    pub has_phones: bool,
    pub is_recorded: bool,
}

const fn case(name: &'static str, members: usize, speaking: usize) -> Case {
    Case { name, members, speaking, has_phones: false, is_recorded: false }
}

pub const CASES: [Case; 6] = [
    case("3 members, all speak", 3, 3),
    case("250 members, nobody speaks", 250, 0),
    case("250 members, 3 speak", 250, 3),
    case("250 members, all speak", 250, 250),
    Case { is_recorded: true, ..case("250 members, 3 speak, recorded", 250, 3) },
    Case { has_phones: true, ..case("250 phones, all send", 250, 250) },
];

struct Counter(u16);

impl Ports for Counter {
    fn open(&mut self, _: LegId) -> Option<u16> {
        self.0 += 2;
        Some(self.0)
    }

    fn fill_secret(&mut self, secret: &mut [u8]) {
        secret.fill(7);
    }
}

/// The conference for so long; how many packets, or frames, its members were sent.
pub fn mix(case: &Case, seconds: u64) -> usize {
    let settings = Settings { advertise: super::LOCAL, latching: Latching::Off, seed: 1, identity: None };
    let mut session = Session::new(SessionId(1), 1, settings, Mono(0));
    let command = Command { command_id: 1, session_id: 1, owner_epoch: 1, kind: Some(CommandKind::Open(spec(case))) };
    session.handle_command(&command, &mut Counter(20_000), &mut Clips::new(0), Mono(0));
    let samples = std::array::from_fn(|index| (index as i16 % 32 - 16) * 500);
    let frame = Frame { samples: Some(samples), key: None };
    let mut buffer = [0; MIN_BUFFER];
    let mut out = 0;
    for tick in 0..seconds * 50 {
        let now = Mono(tick * 20_000);
        for member in 1..=case.speaking as u32 {
            if case.has_phones {
                say(&mut session, member, tick, &mut buffer, now);
            } else {
                session.handle_frame(LinkKey(u64::from(member)), &frame, now);
            }
            out += flush(&mut session, &mut buffer);
        }
        session.handle_timeout(now);
        out += flush(&mut session, &mut buffer);
    }
    out
}

fn spec(case: &Case) -> SessionSpec {
    let leg = |leg_id: u32| {
        let mixing = Some(Mixing { heard: true, whispers_to: None, tells_speaking: false });
        let hears = Hears::Mix(Mix {});
        if case.has_phones {
            let port = 4998 + leg_id * 2;
            let sdp = format!(
                "v=0\r\nc=IN IP4 203.0.113.5\r\nm=audio {port} RTP/AVP 0 101\r\na=rtpmap:101 telephone-event/8000\r\n"
            );
            return LegSpec { mixing, ..super::leg(leg_id, sdp, hears) };
        }
        let link = RemoteLeg { worker: String::new(), session_id: 0, key: u64::from(leg_id) };
        let hears = Some(Source { from: Some(hears) });
        LegSpec { leg_id, kind: Some(LegKind::Remote(link)), hears, mixing, ..LegSpec::default() }
    };
    let recorder = RecorderSpec {
        recorder_id: 1,
        source: Some(Recorded::Mix(Mix {})),
        channels: 1,
        file: "a.wav".into(),
        ..RecorderSpec::default()
    };
    SessionSpec {
        session_id: 1,
        owner_epoch: 1,
        legs: (1..=case.members as u32).map(leg).collect(),
        recorders: if case.is_recorded { vec![recorder] } else { Vec::new() },
        taps: Vec::new(),
    }
}

fn say(session: &mut Session, member: u32, tick: u64, buffer: &mut [u8; MIN_BUFFER], now: Mono) {
    let header = Header {
        marker: false,
        payload_type: 0,
        seq: Seq(tick as u16),
        timestamp: RtpTime(tick as u32 * 160),
        ssrc: Ssrc(member),
    };
    buffer[..12].copy_from_slice(&header.to_bytes());
    buffer[12..172].fill(0x55);
    let from = SocketAddr::from(([203, 0, 113, 5], 4998 + member as u16 * 2));
    session.handle_rtp(LegId(member), from, &mut buffer[..], 172, now).expect("taken");
}

/// As a worker does after every input.
fn flush(session: &mut Session, buffer: &mut [u8; MIN_BUFFER]) -> usize {
    let mut out = 0;
    while let Some(transmit) = session.poll_transmit(buffer) {
        // Reports are shorter.
        out += usize::from(transmit.packet.len() > 150);
    }
    while session.poll_frame().is_some() {
        out += 1;
    }
    while session.poll_file().is_some() {}
    while session.poll_event().is_some() {}
    std::hint::black_box(session.next_deadline());
    out
}
