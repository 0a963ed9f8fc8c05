//! A browser's leg, from its offer to what it hears, and on through what happens to browsers.

use std::net::SocketAddr;

use bytes::BytesMut;
use rtc_dtls::endpoint::EndpointEvent;

use super::*;
use crate::rtcp::Report;
use crate::sdp::{Fingerprint, Transport, parse};
use crate::srtp::{MasterKey, Profile, Sender};
use crate::webrtc::tests::{AT, Client, PEER_UFRAG, US, check, identity};

/// What Chromium 156 offers, but for what differs each time.
fn offer(ufrag: &str, theirs: Fingerprint) -> String {
    format!(
        "v=0\r\no=- 827012583 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\na=extmap-allow-mixed\r\na=msid-semantic: WMS s\r\n\
         m=audio 9 UDP/TLS/RTP/SAVPF 111 63 9 0 8 13 110 126\r\nc=IN IP4 0.0.0.0\r\na=rtcp:9 IN IP4 0.0.0.0\r\na=ice-ufrag:{ufrag}\r\n\
         a=ice-pwd:0123456789012345678901\r\na=ice-options:trickle\r\na=fingerprint:sha-256 {theirs}\r\na=setup:actpass\r\na=mid:0\r\n\
         a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level\r\na=sendrecv\r\na=msid:s t\r\na=rtcp-mux\r\na=rtcp-rsize\r\n\
         a=rtpmap:111 opus/48000/2\r\na=rtcp-fb:111 transport-cc\r\na=fmtp:111 minptime=10;useinbandfec=1\r\na=rtpmap:63 red/48000/2\r\n\
         a=rtpmap:9 G722/8000\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:13 CN/8000\r\n\
         a=rtpmap:110 telephone-event/48000\r\na=rtpmap:126 telephone-event/8000\r\na=ssrc:3924610687 cname:x\r\n"
    )
}

struct Page {
    client: Client,
    theirs: Fingerprint,
    from: SocketAddr,
    sender: Option<Sender>,
    payload_type: u8,
    seq: u16,
}

/// What the page says in each packet.
const SAID: [u8; 160] = [0x55; 160];

impl Page {
    fn new() -> Page {
        let (client, theirs) = Client::new();
        Page { client, theirs, from: AT.parse().unwrap(), sender: None, payload_type: 111, seq: 0 }
    }

    /// Checks, shakes hands, and takes the keys.
    fn connect(&mut self, world: &mut World, ours: &Transport) {
        assert!(world.transport(self.from, &check(ours, true)));
        for _ in 0..20 {
            while let Some(transmit) = self.client.endpoint.poll_transmit() {
                world.transport(self.from, &transmit.message);
            }
            for datagram in std::mem::take(&mut world.transports) {
                let at = self.client.origin + Duration::from_micros(world.now.0);
                // Answers to checks are none of its business.
                let Ok(events) =
                    self.client.endpoint.read(at, US.parse().unwrap(), None, BytesMut::from(&datagram[..]))
                else {
                    continue;
                };
                if events.iter().any(|event| matches!(event, EndpointEvent::HandshakeComplete)) {
                    let state = self.client.endpoint.get_connection_state(US.parse().unwrap()).unwrap();
                    let material = state.export_keying_material("EXTRACTOR-dtls_srtp", &[], 60).unwrap();
                    let material = material.as_ref();
                    let key = |end: usize| {
                        let bytes = [&material[end * 16..][..16], &material[32 + end * 14..][..14]].concat();
                        MasterKey::new(Profile::AesCm128HmacSha1_80, &bytes).unwrap()
                    };
                    self.sender = Some(Sender::new(&key(0)));
                    world.keys.insert(self.from, Receiver::new(&key(1)));
                    return;
                }
            }
        }
        panic!("no handshake");
    }

    fn say(&mut self, world: &mut World) -> Result<(), Dropped> {
        self.seq += 1;
        let (seq, timestamp) = (Seq(self.seq), RtpTime(u32::from(self.seq) * 960));
        let header = Header { marker: false, payload_type: self.payload_type, seq, timestamp, ssrc: Ssrc(77) };
        let mut buffer = [&header.to_bytes()[..], &SAID, &[0; MAX_OVERHEAD]].concat();
        let sealed = self.sender.as_mut().unwrap().seal_rtp(&mut buffer, 0..172).unwrap();
        world.arrive(1, self.from, &buffer[sealed])
    }

    /// Asks for a packet again.
    fn ask(&mut self, world: &mut World, of: Ssrc, lost: Seq) {
        let block = Some(ReportBlock { ssrc: of, ..ReportBlock::default() });
        let report = Report { ssrc: Ssrc(77), sender: None, block, cname: "x", missing: &[lost], bye: false };
        let mut datagram = [0; 256];
        let len = report.write(&mut datagram).unwrap();
        let len = self.sender.as_mut().unwrap().seal_rtcp(&mut datagram, len).unwrap();
        assert!(world.sessions[0].handle_rtcp(LegId(1), self.from, &mut datagram[..len], world.now));
        world.flush();
    }
}

fn world() -> World {
    let mut world = World::new();
    let settings =
        Settings { advertise: [198, 51, 100, 1].into(), latching: Latching::Off, seed: 9, identity: Some(identity()) };
    world.sessions = vec![Session::new(SessionId(1), 1, settings, Mono(0))];
    world
}

fn rtp(sdp: &str) -> RtpLeg {
    RtpLeg { remote_sdp: Bytes::from(sdp.to_owned()), encryption: Encryption::Dtls as i32, ..RtpLeg::default() }
}

/// An echo.
fn open(world: &mut World, rtp: RtpLeg) -> MediaEventKind {
    let leg = LegSpec { kind: Some(LegKind::Rtp(rtp)), ..rtp_leg(1, "", Hears::Leg(1)) };
    world.command(CommandKind::Open(SessionSpec { session_id: 1, legs: vec![leg], ..SessionSpec::default() })).remove(0)
}

fn transport_of(sdp: &Bytes) -> Transport {
    let security = parse(sdp).unwrap().media.remove(0).security;
    Transport {
        ufrag: security.ice_ufrag.unwrap(),
        pwd: security.ice_pwd.unwrap(),
        fingerprint: security.fingerprint.unwrap(),
    }
}

#[test]
fn offer_of_a_browser_is_answered_with_all_that_it_needs() {
    let mut world = world();
    let told = negotiated(open(&mut world, rtp(&offer(PEER_UFRAG, Fingerprint([3; 32])))));
    assert_eq!((told.codec.as_str(), told.encryption.as_str(), told.held), ("opus", "", false));
    let text = String::from_utf8(told.sdp.to_vec()).unwrap();
    let ours = transport_of(&told.sdp);
    assert!(ours.ufrag.starts_with("AAB") && ours.ufrag.len() == 7 && ours.pwd.len() == 24);
    for line in [
        "a=ice-lite",
        "a=group:BUNDLE 0",
        "m=audio 50000 UDP/TLS/RTP/SAVPF 111 110",
        "a=rtpmap:111 opus/48000/2",
        "a=fmtp:111 minptime=10;useinbandfec=1",
        "a=rtpmap:110 telephone-event/48000",
        "a=mid:0",
        "a=setup:passive",
        "a=rtcp-mux",
        "a=candidate:1 1 udp 2130706431 198.51.100.1 50000 typ host",
        "a=candidate:2 1 tcp 1520435199 198.51.100.1 50000 typ host tcptype passive",
        "a=end-of-candidates",
        "a=sendrecv",
    ] {
        assert!(text.contains(&format!("{line}\r\n")), "{line} in {text}");
    }
    // With `a=msid:- ...` the official SDK plays nothing: it is left out.
    assert!(!text.contains("msid"));
    assert!(
        matches!(open(&mut World::new(), rtp(&offer(PEER_UFRAG, Fingerprint([3; 32])))), MediaEventKind::Refused(_)),
        "a worker that has no certificate"
    );
    let plain = super::offer(1, "0");
    assert_eq!(refused(open(&mut self::world(), rtp(&plain))), Refusal::NotAcceptable, "plain RTP of a browser");
}

#[test]
fn browser_hears_itself_and_nothing_moves_before_its_keys() {
    let mut world = world();
    let mut page = Page::new();
    let told = negotiated(open(&mut world, rtp(&offer(PEER_UFRAG, page.theirs))));
    let packet = [&[0x80, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 7][..], &SAID].concat();
    assert_eq!(world.arrive(1, page.from, &packet), Err(Dropped::Source), "before ICE");
    page.connect(&mut world, &transport_of(&told.sdp));
    assert_eq!(world.arrive(1, page.from, &packet), Err(Dropped::Forged), "in the clear");
    for _ in 0..400 {
        page.say(&mut world).unwrap();
        world.run_for(20);
    }
    let sent = world.take_sent();
    assert_eq!(sent.len(), 400);
    assert!(sent.iter().all(|packet| packet.payload == SAID && packet.to == page.from));
    assert!(world.reports > 0);
    // It moves to another network: where it nominates next, and from there alone.
    let before = std::mem::replace(&mut page.from, "192.0.2.77:1234".parse().unwrap());
    let keys = world.keys.remove(&before).unwrap();
    world.keys.insert(page.from, keys);
    assert_eq!(page.say(&mut world), Err(Dropped::Source));
    assert!(world.transport(page.from, &check(&transport_of(&told.sdp), true)));
    page.say(&mut world).unwrap();
    assert_eq!(world.take_sent()[0].to, page.from);
}

#[test]
fn packet_that_a_browser_misses_goes_again_under_its_own_index() {
    let mut world = world();
    let mut page = Page::new();
    let offer = offer(PEER_UFRAG, page.theirs).replace("a=rtcp-fb:111 transport-cc", "a=rtcp-fb:111 nack");
    let told = negotiated(open(&mut world, rtp(&offer)));
    page.connect(&mut world, &transport_of(&told.sdp));
    for _ in 0..10 {
        page.say(&mut world).unwrap();
    }
    let lost = world.take_sent()[6].header;
    page.ask(&mut world, lost.ssrc, lost.seq);
    // The same bytes, so that it is no other packet under the same index.
    assert_eq!(world.again.len(), 1);
    page.say(&mut world).unwrap();
    assert_eq!(world.take_sent().len(), 1, "the sequence goes on");
}

#[test]
fn hold_keeps_the_transport_and_an_ice_restart_gives_it_another_name() {
    let mut world = world();
    let mut page = Page::new();
    let first = negotiated(open(&mut world, rtp(&offer(PEER_UFRAG, page.theirs))));
    page.connect(&mut world, &transport_of(&first.sdp));
    let held = offer(PEER_UFRAG, page.theirs).replace("a=sendrecv", "a=sendonly");
    let told = negotiated(world.negotiate(1, SdpStep::RemoteOffer, &held));
    assert_eq!(transport_of(&told.sdp), transport_of(&first.sdp));
    assert!(told.held && told.encryption == "AES_CM_128_HMAC_SHA1_80");
    let told = negotiated(world.negotiate(1, SdpStep::RemoteOffer, &offer("anew", page.theirs)));
    let restarted = transport_of(&told.sdp);
    let before = transport_of(&first.sdp);
    assert!(restarted.ufrag != before.ufrag && restarted.pwd != before.pwd && restarted.ufrag.starts_with("AAB"));
    assert_eq!(restarted.fingerprint, before.fingerprint, "the association goes on");
    page.say(&mut world).unwrap();
    assert_eq!(world.take_sent().len(), 1);
    // The step is taken back: what was agreed before is what it is known by.
    world.negotiate(1, SdpStep::Rollback, "");
    let told = negotiated(world.negotiate(1, SdpStep::RemoteOffer, &held));
    assert_eq!(transport_of(&told.sdp), before);
}

#[test]
fn our_offer_is_one_that_a_browser_answers() {
    let mut world = world();
    let mut page = Page::new();
    let told = negotiated(open(&mut world, rtp("")));
    let text = String::from_utf8(told.sdp.to_vec()).unwrap();
    assert!(
        text.contains("m=audio 50000 UDP/TLS/RTP/SAVPF 0 8 111 9 101 110\r\n") && text.contains("a=setup:actpass\r\n"),
        "{text}"
    );
    let answer = offer(PEER_UFRAG, page.theirs)
        .replace("actpass", "active")
        .replace("111 63 9 0 8 13 110 126", "0 101")
        .replace("126 telephone-event", "101 telephone-event");
    let passive = answer.replace("a=setup:active", "a=setup:passive");
    assert_eq!(refused(world.negotiate(1, SdpStep::RemoteAnswer, &passive)), Refusal::NotAcceptable);
    assert_eq!(negotiated(world.negotiate(1, SdpStep::RemoteAnswer, &answer)).codec, "PCMU");
    page.payload_type = 0;
    page.connect(&mut world, &transport_of(&told.sdp));
    page.say(&mut world).unwrap();
    assert_eq!(world.take_sent().len(), 1);
}

#[test]
fn browser_that_is_gone_is_told_once_and_may_come_back() {
    let mut world = world();
    let mut page = Page::new();
    let told = negotiated(open(&mut world, rtp(&offer(PEER_UFRAG, page.theirs))));
    page.connect(&mut world, &transport_of(&told.sdp));
    world.take_events();
    world.run_for(31_000);
    let failed = |events: Vec<MediaEventKind>| {
        events
            .iter()
            .filter(|event| matches!(event, MediaEventKind::LegFailed(failed) if failed.why.contains("30 s")))
            .count()
    };
    assert_eq!(failed(world.take_events()), 1);
    assert_eq!(page.say(&mut world), Err(Dropped::Source));
    assert!(world.transport(page.from, &check(&transport_of(&told.sdp), false)));
    page.say(&mut world).unwrap();
    assert_eq!(world.take_sent().len(), 1);
}

#[test]
fn another_worker_in_its_place_goes_on_without_a_word_to_the_browser() {
    let mut before = world();
    let mut page = Page::new();
    let told = negotiated(open(&mut before, rtp(&offer(PEER_UFRAG, page.theirs))));
    page.connect(&mut before, &transport_of(&told.sdp));
    for _ in 0..10 {
        page.say(&mut before).unwrap();
    }
    let hot = before.sessions[0].hot(LegId(1)).unwrap();
    let mut next = world();
    next.now = before.now;
    next.hot = Some(Hot::from_words(&hot.to_words()));
    next.keys = std::mem::take(&mut before.keys);
    let spec = RtpLeg { local_sdp: told.sdp.clone(), ..rtp(&offer(PEER_UFRAG, page.theirs)) };
    let again = negotiated(open(&mut next, spec));
    assert_eq!(again.sdp, told.sdp);
    page.say(&mut next).unwrap();
    assert_eq!(next.take_sent()[0].payload, SAID);
    assert!(next.transport(page.from, &check(&transport_of(&told.sdp), false)), "it answers by the same name");
    // Without ICE restart nothing changes; with one the other certificate makes the browser shake hands anew.
    let held = offer(PEER_UFRAG, page.theirs).replace("a=sendrecv", "a=sendonly");
    let told_held = negotiated(next.negotiate(1, SdpStep::RemoteOffer, &held));
    assert_eq!(transport_of(&told_held.sdp), transport_of(&told.sdp));
    let (client, theirs) = Client::new();
    page = Page { client, theirs, ..page };
    let told_anew = negotiated(next.negotiate(1, SdpStep::RemoteOffer, &offer("anew", theirs)));
    assert_ne!(transport_of(&told_anew.sdp).fingerprint, transport_of(&told.sdp).fingerprint);
    let mut by_new_name = check(&transport_of(&told_anew.sdp), true);
    assert!(!next.transport(page.from, &by_new_name), "from another browser than the one that offered");
    by_new_name = crate::webrtc::tests::check_from("anew", &transport_of(&told_anew.sdp));
    assert!(next.transport(page.from, &by_new_name));
}
