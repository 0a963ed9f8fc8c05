//! An echo that is encrypted, without a worker: what a packet costs that is opened, sealed and written down.

use std::net::SocketAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use dialtone_media::clips::Clips;
use dialtone_media::ids::{LegId, SessionId};
use dialtone_media::leg::Latching;
use dialtone_media::proto::*;
use dialtone_media::rtp::{Header, RtpTime, Seq, Ssrc};
use dialtone_media::session::{MIN_BUFFER, Session, Settings};
use dialtone_media::srtp::{MasterKey, Profile, Sender};
use dialtone_media::time::Mono;

/// What comes back of so many packets, each of which the phone has sealed.
pub fn echo(profile: Profile, packets: u16) -> usize {
    let settings = Settings { advertise: super::LOCAL, latching: Latching::Off, seed: 1, identity: None };
    let mut session = Session::new(SessionId(1), 1, settings, Mono(0));
    let key = MasterKey::new(profile, &[9; 30][..profile.key_len()]).expect("of its length");
    let crypto = format!("a=crypto:1 {} inline:{}\r\n", profile.name(), BASE64.encode(key.to_bytes()));
    let sdp = format!("v=0\r\nc=IN IP4 203.0.113.5\r\nm=audio 5000 RTP/SAVP 0\r\n{crypto}");
    let legs = vec![super::leg(1, sdp, Hears::Leg(1))];
    let spec = SessionSpec { session_id: 1, owner_epoch: 1, legs, ..SessionSpec::default() };
    let command = Command { command_id: 1, session_id: 1, owner_epoch: 1, kind: Some(CommandKind::Open(spec)) };
    session.handle_command(&command, &mut super::relay::Counter(40_000), &mut Clips::new(0), Mono(0));
    while session.poll_event().is_some() {}
    let (from, mut phone, mut back) = (SocketAddr::from(([203, 0, 113, 5], 5000)), Sender::new(&key), 0);
    for index in 0..packets {
        let now = Mono(1_000_000 + u64::from(index) * 20_000);
        let timestamp = RtpTime(u32::from(index) * 160);
        let header = Header { marker: false, payload_type: 0, seq: Seq(index), timestamp, ssrc: Ssrc(9) };
        let mut buffer = [0x55; MIN_BUFFER];
        buffer[..12].copy_from_slice(&header.to_bytes());
        let sealed = phone.seal_rtp(&mut buffer, 0..172).expect("a new number");
        let sent = session.handle_rtp(LegId(1), from, &mut buffer, sealed.end, now).expect("authentic");
        back += usize::from(sent.is_some());
        // As before each packet that leaves.
        assert_ne!(session.hot(LegId(1)).expect("a leg").to_words()[0], 0);
        while session.poll_event().is_some() {}
    }
    back
}
