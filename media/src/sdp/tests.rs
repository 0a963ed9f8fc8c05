//! Offer and answer, as a peer sees them: what it sent, and what came back.

use std::net::SocketAddr;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::codec::Codec;

fn negotiation() -> Negotiation {
    Negotiation::new(SocketAddr::from(([198, 51, 100, 1], 40_000)), 7)
}

fn text(sdp: &Bytes) -> &str {
    std::str::from_utf8(sdp).unwrap()
}

/// An offer whose lines after `c=` are given.
fn offer(lines: &str) -> Bytes {
    Bytes::from(format!("v=0\r\no=- 1 1 IN IP4 203.0.113.5\r\ns=-\r\nc=IN IP4 203.0.113.5\r\nt=0 0\r\n{lines}"))
}

fn answer_to(lines: &str) -> Result<String, SdpError> {
    negotiation().handle_offer(&offer(lines)).map(|answer| text(&answer).to_owned())
}

/// The lines of an answer from the first `m=` on, joined by `|`.
fn media_of(sdp: &str) -> String {
    let from = sdp.find("m=").unwrap_or(sdp.len());
    sdp[from..].trim_end().replace("\r\n", "|")
}

/// The version of our description.
fn version(sdp: &Bytes) -> u64 {
    parse(sdp).unwrap().origin.unwrap().version
}

fn plan_of(lines: &str) -> MediaPlan {
    let mut negotiation = negotiation();
    negotiation.handle_offer(&offer(lines)).unwrap();
    negotiation.plan().unwrap()
}

#[test]
fn answer_has_the_first_common_codec_under_the_offers_numbers() {
    let table = [
        ("m=audio 5000 RTP/AVP 0 8\r\n", "m=audio 40000 RTP/AVP 0|a=rtpmap:0 PCMU/8000|a=ptime:20|a=sendrecv"),
        ("m=audio 5000 RTP/AVP 8 0\r\n", "m=audio 40000 RTP/AVP 8|a=rtpmap:8 PCMA/8000|a=ptime:20|a=sendrecv"),
        (
            "m=audio 5000 RTP/AVP 18 0 96\r\na=rtpmap:96 telephone-event/8000\r\na=fmtp:96 0-16\r\n",
            "m=audio 40000 RTP/AVP 0 96|a=rtpmap:0 PCMU/8000|a=rtpmap:96 telephone-event/8000|a=fmtp:96 0-15|a=ptime:20|a=sendrecv",
        ),
        (
            "m=audio 5000 RTP/AVPF 111 100\r\na=rtpmap:111 opus/48000/2\r\na=rtpmap:100 pcma/8000\r\na=ptime:30\r\n",
            "m=audio 40000 RTP/AVPF 111|a=rtpmap:111 opus/48000/2|a=fmtp:111 minptime=10;useinbandfec=1|a=ptime:20|a=sendrecv",
        ),
        (
            "m=audio 5000 RTP/AVP 96 97 0 98\r\na=rtpmap:96 opus/48000/2\r\na=rtpmap:97 telephone-event/8000\r\na=rtpmap:98 telephone-event/48000\r\na=ptime:60\r\n",
            "m=audio 40000 RTP/AVP 96 98|a=rtpmap:96 opus/48000/2|a=rtpmap:98 telephone-event/48000|a=fmtp:96 minptime=10;useinbandfec=1|a=fmtp:98 0-15|a=ptime:60|a=sendrecv",
        ),
        (
            "m=audio 5000 RTP/AVP 96 97\r\na=rtpmap:96 opus/48000/2\r\na=rtpmap:97 telephone-event/8000\r\n",
            "m=audio 40000 RTP/AVP 96 97|a=rtpmap:96 opus/48000/2|a=rtpmap:97 telephone-event/8000|a=fmtp:96 minptime=10;useinbandfec=1|a=fmtp:97 0-15|a=ptime:20|a=sendrecv",
        ),
        (
            "m=audio 5000 RTP/AVPF 111 100\r\na=rtpmap:111 opus/16000\r\na=rtpmap:100 pcma/8000\r\na=ptime:30\r\n",
            "m=audio 40000 RTP/AVPF 100|a=rtpmap:100 PCMA/8000|a=ptime:30|a=sendrecv",
        ),
        (
            "m=audio 5000 RTP/AVP 0 97 98\r\na=rtpmap:97 telephone-event/48000\r\na=rtpmap:98 telephone-event/8000\r\na=rtcp-mux\r\n",
            "m=audio 40000 RTP/AVP 0 98|a=rtpmap:0 PCMU/8000|a=rtpmap:98 telephone-event/8000|a=fmtp:98 0-15|a=ptime:20|a=rtcp-mux|a=sendrecv",
        ),
    ];
    for (offered, answered) in table {
        assert_eq!(answer_to(offered).map(|sdp| media_of(&sdp)), Ok(answered.to_owned()), "{offered}");
    }
}

#[test]
fn threat_04_what_cannot_be_accepted_is_refused_with_its_reason() {
    let table = [
        ("m=audio 5000 RTP/AVP 18 3\r\n", SdpError::NoCodec),
        ("m=audio 5000 RTP/AVP 101\r\na=rtpmap:101 telephone-event/8000\r\n", SdpError::NoCodec),
        ("m=audio 5000 RTP/AVP 96\r\na=rtpmap:96 PCMU/16000\r\n", SdpError::NoCodec),
        ("m=audio 5000 RTP/AVP 0\r\na=rtpmap:0 G729/8000\r\n", SdpError::NoCodec),
        ("m=audio 5000 RTP/SAVP 0\r\n", SdpError::NoKey),
        ("m=audio 5000 UDP/TLS/RTP/SAVPF 0\r\n", SdpError::Protocol),
        ("m=audio 0 RTP/AVP 0\r\n", SdpError::Rejected),
        ("m=video 5000 RTP/AVP 31\r\n", SdpError::NoAudio),
        ("", SdpError::NoAudio),
        ("m=audio 5000 RTP/AVP 0\r\nc=IN IP4 224.2.1.1/127\r\n", SdpError::Address),
        ("m=audio 5000 RTP/AVP 0\r\nc=IN IP4 255.255.255.255\r\n", SdpError::Address),
        ("m=audio 5000 RTP/AVP 0\r\nc=IN IP6 2001:db8::1\r\n", SdpError::Address),
        ("m=audio 5000 RTP/AVP 0\r\nc=IN IP4 phone.example.com\r\n", SdpError::Address),
        // Ourselves: a leg that sends to itself would never stop.
        ("m=audio 40000 RTP/AVP 0\r\nc=IN IP4 198.51.100.1\r\n", SdpError::Address),
    ];
    for (offered, fault) in table {
        assert_eq!(answer_to(offered), Err(fault), "{offered}");
        assert_eq!(fault.refusal(), crate::proto::Refusal::NotAcceptable);
    }
    let garbage = negotiation().handle_offer(&Bytes::from_static(b"hello")).unwrap_err();
    assert_eq!(garbage.refusal(), crate::proto::Refusal::MalformedSdp);
}

#[test]
fn threat_04_answer_has_as_many_media_as_the_offer() {
    let answer = answer_to(
        "m=video 6000 RTP/AVP 31 32\r\nm=audio 5000 RTP/SAVP 0\r\nm=audio 5002 RTP/AVP 0\r\nm=application 9 TCP/BFCP *\r\nm=audio 5004 RTP/AVP 8\r\n",
    );
    let expected = "m=video 0 RTP/AVP 31 32|m=audio 0 RTP/SAVP 0|m=audio 40000 RTP/AVP 0|a=rtpmap:0 PCMU/8000|a=ptime:20|a=sendrecv|\
                    m=application 0 TCP/BFCP *|m=audio 0 RTP/AVP 8";
    assert_eq!(answer.map(|sdp| media_of(&sdp)), Ok(expected.to_owned()));
}

#[test]
fn direction_is_mirrored_and_a_hold_is_seen() {
    let at_zero = "m=audio 5000 RTP/AVP 0\r\nc=IN IP4 0.0.0.0\r\n";
    // offer, answered direction, may we send, may we receive, held
    let table = [
        ("m=audio 5000 RTP/AVP 0\r\n".to_owned(), "sendrecv", true, true, false),
        ("m=audio 5000 RTP/AVP 0\r\na=sendonly\r\n".into(), "recvonly", false, true, true),
        ("m=audio 5000 RTP/AVP 0\r\na=recvonly\r\n".into(), "sendonly", true, false, false),
        ("m=audio 5000 RTP/AVP 0\r\na=inactive\r\n".into(), "inactive", false, false, true),
        ("a=sendonly\r\nm=audio 5000 RTP/AVP 0\r\n".into(), "recvonly", false, true, true),
        ("a=inactive\r\nm=audio 5000 RTP/AVP 0\r\na=sendrecv\r\n".into(), "sendrecv", true, true, false),
        (at_zero.into(), "recvonly", false, true, true),
        (format!("{at_zero}a=recvonly\r\n"), "inactive", false, false, true),
    ];
    for (offered, direction, sends, receives, held) in table {
        assert!(answer_to(&offered).unwrap().contains(&format!("a={direction}\r\n")), "{offered}");
        let plan = plan_of(&offered);
        assert_eq!((plan.may_send, plan.may_receive, plan.held), (sends, receives, held), "{offered}");
    }
    assert_eq!((plan_of(at_zero).remote, plan_of(at_zero).remote_rtcp), (None, None));
}

#[test]
fn addresses_come_from_the_line_that_counts() {
    let audio = "m=audio 5000 RTP/AVP 0\r\n";
    let table = [
        (audio.to_owned(), "203.0.113.5:5000", "203.0.113.5:5001"),
        (format!("{audio}c=IN IP4 203.0.113.9\r\n"), "203.0.113.9:5000", "203.0.113.9:5001"),
        (format!("{audio}c=IN IP6 2001:db8::1\r\nc=IN IP4 203.0.113.9\r\n"), "203.0.113.9:5000", "203.0.113.9:5001"),
        (format!("{audio}a=rtcp:6001\r\n"), "203.0.113.5:5000", "203.0.113.5:6001"),
        (format!("{audio}a=rtcp:6001 IN IP4 203.0.113.8\r\n"), "203.0.113.5:5000", "203.0.113.8:6001"),
        (format!("{audio}a=rtcp:6001 IN IP4 224.0.0.1\r\n"), "203.0.113.5:5000", "203.0.113.5:6001"),
        (format!("{audio}a=rtcp-mux\r\na=rtcp:5000\r\n"), "203.0.113.5:5000", "203.0.113.5:5000"),
    ];
    for (lines, rtp, rtcp) in table {
        let plan = plan_of(&lines);
        assert_eq!((plan.remote, plan.remote_rtcp), (rtp.parse().ok(), rtcp.parse().ok()), "{lines}");
    }
    assert_eq!(plan_of("m=audio 65535 RTP/AVP 0\r\n").remote_rtcp, None, "there is no port above");
}

#[test]
fn ipv6_is_answered_in_ipv6() {
    let mut negotiation = Negotiation::new("[2001:db8::99]:40000".parse().unwrap(), 7);
    // RFC 5118 s4.8: the session speaks IPv4, the medium IPv6.
    let offer = "v=0\r\no=bob 280744730 28977631 IN IP4 host.example.com\r\ns=\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n\
        m=audio 49170 RTP/AVP 0\r\nc=IN IP6 2001:db8::9\r\n";
    let answer = negotiation.handle_offer(&Bytes::from_static(offer.as_bytes())).unwrap();
    assert!(text(&answer).contains("o=- 7 1 IN IP6 2001:db8::99\r\n"));
    assert!(text(&answer).contains("c=IN IP6 2001:db8::99\r\n"));
    assert_eq!(negotiation.plan().unwrap().remote, "[2001:db8::9]:49170".parse().ok());
}

#[test]
fn packet_time_is_the_offers_within_limits() {
    let table =
        [("", 160), ("a=ptime:30\r\n", 240), ("a=ptime:60\r\n", 480), ("a=ptime:10\r\n", 80), ("a=ptime:100\r\n", 160)];
    let more = [
        ("a=ptime:25\r\n", 160),
        ("a=ptime:40\r\na=maxptime:30\r\n", 240),
        ("a=maxptime:15\r\n", 80),
        ("a=maxptime:0\r\n", 160),
    ];
    for (lines, samples) in table.into_iter().chain(more) {
        assert_eq!(plan_of(&format!("m=audio 5000 RTP/AVP 0\r\n{lines}")).packet_samples, samples, "{lines}");
    }
}

#[test]
fn payload_types_mean_what_either_side_said() {
    let mut negotiation = negotiation();
    negotiation.make_offer(None);
    // The peer answers with numbers of its own.
    let answer = offer("m=audio 5000 RTP/AVP 100 96\r\na=rtpmap:100 PCMA/8000\r\na=rtpmap:96 telephone-event/8000\r\n");
    negotiation.handle_answer(&answer).unwrap();
    let plan = negotiation.plan().unwrap();
    assert_eq!((plan.codec, plan.payload_type, plan.event_type), (Codec::Pcma, 100, Some(96)));
    let meanings = [8, 101, 100, 96, 13, 0, 18].map(|number| plan.meaning_of(number));
    let (pcma, pcmu) = (Some(Payload::Audio(Codec::Pcma)), Some(Payload::Audio(Codec::Pcmu)));
    assert_eq!(meanings, [pcma, Some(Payload::Event), pcma, Some(Payload::Event), Some(Payload::Noise), pcmu, None]);
}

#[test]
fn our_first_offer_has_everything_with_the_preferred_codec_first() {
    let sdp = negotiation().make_offer(None);
    assert_eq!(
        media_of(text(&sdp)),
        "m=audio 40000 RTP/AVP 0 8 101|a=rtpmap:0 PCMU/8000|a=rtpmap:8 PCMA/8000|a=rtpmap:101 telephone-event/8000|\
         a=fmtp:101 0-15|a=ptime:20|a=sendrecv"
    );
    let sdp = negotiation().make_offer(Some(Codec::Pcma));
    assert!(text(&sdp).contains("m=audio 40000 RTP/AVP 8 0 101\r\n"));
}

#[test]
fn version_counts_changes_and_nothing_else() {
    let mut negotiation = negotiation();
    let first = offer("m=audio 5000 RTP/AVP 0\r\n");
    let held = offer("m=audio 5000 RTP/AVP 0\r\na=sendonly\r\n");
    let versions =
        [&first, &first, &held, &held, &first].map(|offer| version(&negotiation.handle_offer(offer).unwrap()));
    assert_eq!(versions, [1, 1, 2, 2, 3]);
    // Our own offer has more codecs than the answer had.
    let ours = negotiation.make_offer(None);
    assert_eq!((version(&ours), negotiation.make_offer(None)), (4, ours));
    negotiation.rollback();
    assert_eq!(version(&negotiation.handle_offer(&first).unwrap()), 5, "what was rolled back had been sent");
}

#[test]
fn offer_in_a_session_keeps_lines_and_numbers() {
    let mut negotiation = negotiation();
    let lines = "m=video 6000 RTP/AVP 31\r\nm=audio 5000 RTP/AVPF 100 96\r\na=rtpmap:100 PCMA/8000\r\n\
        a=rtpmap:96 telephone-event/8000\r\na=rtpmap:101 speex/8000\r\na=rtcp-mux\r\n";
    negotiation.handle_offer(&offer(lines)).unwrap();
    assert_eq!(
        media_of(text(&negotiation.make_offer(None))),
        "m=video 0 RTP/AVP 31|m=audio 40000 RTP/AVPF 100 0 96|a=rtpmap:100 PCMA/8000|a=rtpmap:0 PCMU/8000|\
         a=rtpmap:96 telephone-event/8000|a=fmtp:96 0-15|a=ptime:20|a=rtcp-mux|a=sendrecv"
    );
    let without_events = lines.replace(" 96\r\n", "\r\n");
    let mut negotiation = super::tests::negotiation();
    negotiation.handle_offer(&offer(&without_events)).unwrap();
    assert!(
        text(&negotiation.make_offer(None)).contains("RTP/AVPF 100 0 97\r\n"),
        "101 means speex, 96 events, to the peer"
    );
}

#[test]
fn late_offer_goes_out_first_and_is_answered() {
    let mut negotiation = negotiation();
    assert_eq!(negotiation.handle_answer(&offer("m=audio 5000 RTP/AVP 0\r\n")), Err(SdpError::NoOffer));
    negotiation.make_offer(None);
    assert_eq!(negotiation.plan(), None);
    assert_eq!(negotiation.handle_answer(&offer("m=audio 5000 RTP/AVP 8\r\n")), Ok(()));
    assert_eq!(negotiation.plan().map(|plan| plan.codec), Some(Codec::Pcma));
    // Early media first, then the party that answers elsewhere.
    assert_eq!(negotiation.handle_answer(&offer("m=audio 7000 RTP/AVP 0\r\n")), Ok(()));
    assert_eq!(negotiation.plan().and_then(|plan| plan.remote).map(|remote| remote.port()), Some(7000));
    assert_eq!(negotiation.handle_answer(&offer("m=audio 0 RTP/AVP 0\r\n")), Err(SdpError::Rejected));
    assert_eq!(negotiation.plan().and_then(|plan| plan.remote).map(|remote| remote.port()), Some(7000));
}

#[test]
fn rollback_restores_what_was_agreed() {
    let mut negotiation = negotiation();
    let first = offer("m=audio 5000 RTP/AVP 0\r\n");
    negotiation.handle_offer(&first).unwrap();
    let agreed = negotiation.plan();
    negotiation.make_offer(None);
    assert_eq!(negotiation.plan(), agreed, "an offer alone changes nothing");
    negotiation.rollback();
    assert_eq!(negotiation.handle_answer(&first), Err(SdpError::NoOffer));
    negotiation.handle_offer(&offer("m=audio 5002 RTP/AVP 8\r\na=inactive\r\n")).unwrap();
    assert_ne!(negotiation.plan(), agreed);
    negotiation.rollback();
    assert_eq!(negotiation.plan(), agreed);
    negotiation.rollback();
    assert_eq!(negotiation.plan(), agreed, "twice is once");
}

#[test]
fn rollback_of_an_offer_that_repeats_what_is_agreed_changes_nothing() {
    let mut negotiation = negotiation();
    for lines in ["m=audio 5000 RTP/AVP 0\r\n", "m=audio 5002 RTP/AVP 8\r\n"] {
        negotiation.handle_offer(&offer(lines)).unwrap();
        let agreed = negotiation.plan();
        negotiation.handle_offer(&offer(lines)).unwrap();
        negotiation.rollback();
        assert_eq!(negotiation.plan(), agreed, "a refresh that came to nothing");
    }
}

#[test]
fn refused_offer_changes_nothing() {
    let mut negotiation = negotiation();
    negotiation.handle_offer(&offer("m=audio 5000 RTP/AVP 0\r\n")).unwrap();
    let before = negotiation.clone();
    assert!(negotiation.handle_offer(&offer("m=audio 5000 RTP/AVP 18\r\n")).is_err());
    assert_eq!(negotiation, before);
}

#[test]
fn session_goes_on_elsewhere_from_its_two_descriptions() {
    let mut here = negotiation();
    let remote = offer("m=audio 5000 RTP/AVP 8 96\r\na=rtpmap:96 telephone-event/8000\r\na=ptime:30\r\n");
    here.handle_offer(&remote).unwrap();
    let local = here.local_sdp().clone();
    let elsewhere = SocketAddr::from(([198, 51, 100, 2], 50_000));
    let mut there = Negotiation::new(elsewhere, 99).restored(local.clone(), remote.clone()).unwrap();
    assert_eq!(there.plan(), here.plan());
    let moved = there.make_offer(None);
    assert!(text(&moved).contains("o=- 7 2 IN IP4 198.51.100.2\r\n"), "{}", text(&moved));
    assert!(text(&moved).contains("m=audio 50000 RTP/AVP 8 0 96\r\n"), "{}", text(&moved));
    let serialised = serde_json::to_string(&here).unwrap();
    assert_eq!(serde_json::from_str::<Negotiation>(&serialised).unwrap(), here);
    assert!(Negotiation::new(elsewhere, 99).restored(local, Bytes::from_static(b"junk")).is_err());
}

proptest! {
    /// Whatever is offered: an answer has its number of lines, at most one of them in use, and agrees with itself.
    #[test]
    fn threat_04_any_answer_fits_its_offer(
        lines in proptest::collection::vec(
            (
                prop_oneof!["audio", "video", "application"],
                prop_oneof![Just(0u16), Just(5000), any::<u16>()],
                prop_oneof!["RTP/AVP", "RTP/SAVP", "RTP/AVPF"],
                proptest::collection::vec(0u8..128, 0..6),
                prop_oneof!["", "a=sendonly\r\n", "a=inactive\r\n", "c=IN IP4 0.0.0.0\r\n", "a=ptime:40\r\n", "a=rtcp-mux\r\n"],
            ),
            0..18,
        )
    ) {
        let lines: String = lines
            .iter()
            .map(|(kind, port, protocol, formats, rest)| {
                let formats: Vec<_> = formats.iter().map(u8::to_string).collect();
                format!("m={kind} {port} {protocol} {}\r\n{rest}", formats.join(" "))
            })
            .collect();
        let sdp = offer(&lines);
        let mut negotiation = negotiation();
        if let Ok(answer) = negotiation.handle_offer(&sdp) {
            let (offered, answered) = (parse(&sdp).unwrap(), parse(&answer).unwrap());
            prop_assert_eq!(offered.media.len(), answered.media.len());
            prop_assert_eq!(answered.media.iter().filter(|media| media.port != 0).count(), 1);
            prop_assert!(negotiation.plan().is_some());
            prop_assert_eq!(negotiation.handle_offer(&sdp), Ok(answer));
        }
    }
}

#[test]
fn opus_is_offered_to_a_telephone_where_somebody_speaks_it_and_stays_agreed() {
    let formats = |sdp: &Bytes| parse(sdp).unwrap().media[0].formats.clone();
    let mut negotiation = negotiation();
    assert_eq!(formats(&negotiation.make_offer(None)), "0 8 101");
    assert_eq!(formats(&negotiation.make_offer(Some(Codec::Pcma))), "8 0 101");
    assert_eq!(formats(&negotiation.make_offer(Some(Codec::Opus))), "111 0 8 101 110");
    let answer = "m=audio 5000 RTP/AVP 111 110\r\na=rtpmap:111 opus/48000/2\r\na=fmtp:111 useinbandfec=1; stereo=0\r\na=rtpmap:110 telephone-event/48000\r\n";
    negotiation.handle_answer(&offer(answer)).unwrap();
    let plan = negotiation.plan().unwrap();
    assert_eq!((plan.codec, plan.payload_type, plan.event_type), (Codec::Opus, 111, Some(110)));
    assert_eq!((plan.audio_ticks, plan.event_ticks, plan.takes_fec, plan.packet_samples), (6, 6, true, 160));
    assert_eq!(formats(&negotiation.make_offer(None)), "111 0 8 101 110", "what is agreed is offered again");
    // A number that means something else to the peer is not ours to use.
    let mut negotiation = self::negotiation();
    let theirs = "m=audio 5000 RTP/AVP 0\r\na=rtpmap:111 G726-32/8000\r\n";
    negotiation.handle_offer(&offer(theirs)).unwrap();
    assert_eq!(formats(&negotiation.make_offer(Some(Codec::Opus))), "0 8 96 101 110");
    assert!(
        !plan_of("m=audio 5000 RTP/AVP 111\r\na=rtpmap:111 opus/48000/2\r\na=fmtp:111 useinbandfec=0\r\n").takes_fec
    );
    // As Firefox has it: what it wants of a format before what the format is.
    let early = "m=audio 5000 RTP/AVP 109\r\na=fmtp:96 x\r\na=fmtp:109 stereo=1;useinbandfec=1\r\na=rtpmap:109 opus/48000/2\r\n";
    assert!(plan_of(early).takes_fec);
}
