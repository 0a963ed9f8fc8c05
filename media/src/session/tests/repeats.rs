//! What is lost of Opus is asked for and sent again, where both sides have said so.

use super::*;
use crate::rtcp::Report;

const OPUS: &str = "111\r\na=rtpmap:111 opus/48000/2";
const NACK: &str = "111\r\na=rtpmap:111 opus/48000/2\r\na=rtcp-fb:111 nack";

/// A peer asks a leg for packets.
fn ask(world: &mut World, phone: &Phone, of: Ssrc, missing: &[Seq]) {
    let block = Some(ReportBlock { ssrc: of, ..ReportBlock::default() });
    let report = Report { ssrc: Ssrc(phone.ssrc), sender: None, block, cname: "x", missing, bye: false };
    let mut datagram = [0; 256];
    let len = report.write(&mut datagram).unwrap();
    let from = SocketAddr::new(phone.from.ip(), phone.from.port() + 1);
    assert!(world.sessions[0].handle_rtcp(LegId(phone.leg), from, &mut datagram[..len], world.now));
    world.flush();
}

/// 20 ms of Opus, of which only this byte differs.
fn say(world: &mut World, phone: &mut Phone, byte: u8, is_lost: bool) {
    let packet = phone.packet(false, 111, &[0x78, byte, 9, 9]);
    (phone.seq, phone.timestamp) = (phone.seq.wrapping_add(1), phone.timestamp.wrapping_add(960));
    if !is_lost {
        world.arrive(phone.leg, phone.from, &packet).expect("taken");
    }
    world.run_for(20);
}

#[test]
fn request_is_agreed_where_the_peer_makes_it_and_of_opus_alone() {
    let table = [
        (NACK, true),
        (OPUS, false),
        ("111\r\na=rtcp-fb:* nack\r\na=rtpmap:111 opus/48000/2", true),
        ("111\r\na=rtpmap:111 opus/48000/2\r\na=rtcp-fb:111 nack pli\r\na=rtcp-fb:111 transport-cc", false),
        ("0\r\na=rtcp-fb:0 nack", false),
    ];
    for (formats, agreed) in table {
        let told = World::new().open(&[(&offer(1, formats), Hears::Leg(1))]).remove(0);
        let answer = String::from_utf8(told.sdp.to_vec()).unwrap();
        assert_eq!(answer.contains("a=rtcp-fb:111 nack\r\n"), agreed, "{formats}: {answer}");
        assert_eq!(answer.contains("rtcp-fb"), agreed, "{answer}");
    }
}

#[test]
fn lost_packet_is_asked_for_and_relayed_when_it_comes() {
    for (formats, asks) in [(NACK, true), (OPUS, false)] {
        let mut world = World::new();
        world.open(&[(&offer(1, formats), Hears::Leg(2)), (&offer(2, OPUS), Hears::Leg(1))]);
        let mut a = Phone::of_leg(1, 111);
        for byte in 0..5 {
            say(&mut world, &mut a, byte, byte == 2);
        }
        let at = SocketAddr::new(a.from.ip(), a.from.port() + 1);
        let missing = (at, vec![Seq(65_532)]);
        assert_eq!(world.asked, vec![missing; if asks { 3 } else { 0 }], "at once, and twice more");
        let seq = std::mem::replace(&mut a.seq, 65_532);
        say(&mut world, &mut a, 2, false);
        a.seq = seq;
        world.asked.clear();
        say(&mut world, &mut a, 5, false);
        let sent = world.take_sent();
        assert_eq!(sent.iter().map(|sent| sent.payload[1]).collect::<Vec<_>>(), [0, 1, 3, 4, 2, 5]);
        assert_eq!(numbers(&sent).iter().map(|(seq, _)| *seq).collect::<Vec<_>>(), [0, 1, 3, 4, 2, 5], "in its place");
        assert!(world.asked.is_empty(), "nothing is missing any more");
    }
}

#[test]
fn what_is_decoded_is_not_asked_for() {
    let mut world = World::new();
    world.open(&[(&offer(1, NACK), Hears::Leg(2)), (&offer(2, PCMU), Hears::Leg(1))]);
    let mut a = Phone::of_leg(1, 111);
    for byte in 0..5 {
        say(&mut world, &mut a, byte, byte == 2);
    }
    assert!(world.asked.is_empty() && !world.take_sent().is_empty());
}

#[test]
fn peer_that_asks_gets_the_packet_again_as_it_was() {
    for (formats, repeats) in [(NACK, 1), (OPUS, 0)] {
        let mut world = World::new();
        world.open(&[(&offer(1, OPUS), Hears::Leg(2)), (&offer(2, formats), Hears::Leg(1))]);
        let (mut a, b) = (Phone::of_leg(1, 111), Phone::of_leg(2, 111));
        for byte in 0..5 {
            say(&mut world, &mut a, byte, false);
        }
        let sent = world.take_sent();
        let lost = sent[3].header;
        ask(&mut world, &b, lost.ssrc, &[lost.seq, lost.seq + 100]);
        assert_eq!(world.again.len(), repeats);
        assert!(world.again.iter().all(|(to, packet)| *to == b.from && packet[2..4] == lost.seq.0.to_be_bytes()));
        ask(&mut world, &b, Ssrc(lost.ssrc.0 ^ 1), &[lost.seq]);
        assert_eq!(world.again.len(), repeats, "of another source");
        // Three times, and no more: nobody is made to hear us louder than that.
        for _ in 0..9 {
            ask(&mut world, &b, lost.ssrc, &[lost.seq]);
        }
        assert_eq!((world.again.len(), world.take_sent().len()), (3 * repeats, 0));
        assert_eq!(world.sessions[0].leg(LegId(2)).unwrap().statistics().packets_sent, 5, "a packet is counted once");
    }
}
