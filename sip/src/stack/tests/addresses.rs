//! Where responses go and what is written into Via, Record-Route, Route.

use super::*;

/// Via lines of a request from 203.0.113.9:40000, and those of the response.
const VIAS: [(&[&str], &[&str]); 13] = [
    (&["SIP/2.0/UDP 203.0.113.9:5060;branch=z9hG4bKa"], &["SIP/2.0/UDP 203.0.113.9:5060;branch=z9hG4bKa"]),
    (
        &["SIP/2.0/UDP 203.0.113.9:5060;rport;branch=z9hG4bKa"],
        &["SIP/2.0/UDP 203.0.113.9:5060;branch=z9hG4bKa;received=203.0.113.9;rport=40000"],
    ),
    (
        &["SIP/2.0/UDP 10.0.0.1;branch=z9hG4bKa;rport=1"],
        &["SIP/2.0/UDP 10.0.0.1;branch=z9hG4bKa;received=203.0.113.9;rport=40000"],
    ),
    (
        &["SIP/2.0/UDP phone.example;branch=z9hG4bKa"],
        &["SIP/2.0/UDP phone.example;branch=z9hG4bKa;received=203.0.113.9"],
    ),
    // What the peer claims to have received itself is not believed.
    (
        &["SIP/2.0/UDP 10.0.0.1;received=192.0.2.1;branch=z9hG4bKa"],
        &["SIP/2.0/UDP 10.0.0.1;branch=z9hG4bKa;received=203.0.113.9"],
    ),
    // A parameter that only begins like it, and one inside quotes, stay.
    (
        &["SIP/2.0/UDP 203.0.113.9;rportal=1;x=\"a;rport;b\";branch=z9hG4bKa;RPORT"],
        &["SIP/2.0/UDP 203.0.113.9;rportal=1;x=\"a;rport;b\";branch=z9hG4bKa;received=203.0.113.9;rport=40000"],
    ),
    (
        &["SIP/2.0/UDP 10.0.0.1;rport;branch=z9hG4bKa, SIP/2.0/TCP 10.0.0.2;rport;branch=z9hG4bKb"],
        &[
            "SIP/2.0/UDP 10.0.0.1;branch=z9hG4bKa;received=203.0.113.9;rport=40000, SIP/2.0/TCP 10.0.0.2;rport;branch=z9hG4bKb",
        ],
    ),
    (
        &["SIP/2.0/UDP 10.0.0.1;branch=z9hG4bKa", "SIP/2.0/UDP 10.0.0.2;rport;branch=z9hG4bKb"],
        &["SIP/2.0/UDP 10.0.0.1;branch=z9hG4bKa;received=203.0.113.9", "SIP/2.0/UDP 10.0.0.2;rport;branch=z9hG4bKb"],
    ),
    // Empty elements and an empty line before the top value.
    (
        &[" , SIP/2.0/UDP 10.0.0.1;branch=z9hG4bKa , SIP/2.0/UDP 10.0.0.2;branch=z9hG4bKb"],
        &["SIP/2.0/UDP 10.0.0.1;branch=z9hG4bKa;received=203.0.113.9 , SIP/2.0/UDP 10.0.0.2;branch=z9hG4bKb"],
    ),
    (&["", "SIP/2.0/UDP 10.0.0.1;branch=z9hG4bKa"], &["", "SIP/2.0/UDP 10.0.0.1;branch=z9hG4bKa;received=203.0.113.9"]),
    (
        &["SIP / 2.0 / UDP\r\n 10.0.0.1 : 5070 ; rport\r\n ;branch=z9hG4bKa"],
        &["SIP / 2.0 / UDP   10.0.0.1 : 5070;branch=z9hG4bKa;received=203.0.113.9;rport=40000"],
    ),
    (
        &["SIP/2.0/UDP [2001:db8::1]:5070;maddr=192.0.2.9;branch=z9hG4bKa"],
        &["SIP/2.0/UDP [2001:db8::1]:5070;maddr=192.0.2.9;branch=z9hG4bKa;received=203.0.113.9"],
    ),
    (
        &["SIP/2.0/UDP 203.0.113.9;branch=z9hG4bKa;rport\r\n"],
        &["SIP/2.0/UDP 203.0.113.9;branch=z9hG4bKa;received=203.0.113.9;rport=40000"],
    ),
];

fn from(remote: &str, flow: Flow) -> Flow {
    Flow { remote: remote.parse().unwrap(), ..flow }
}

fn refused(flow: Flow, vias: &[&str]) -> (Message, Flow) {
    let mut world = World::new(flow);
    let text = Ask { method: "OPTIONS", body: b"", ..Ask::invite() }.text_by("@");
    let lines: Vec<String> = vias.iter().map(|via| format!("Via: {}\r\n", via.trim_end())).collect();
    let request = world.receive(text.replace("Via: @\r\n", &lines.concat())).expect("fresh");
    world.command(|stack, _| stack.refuse(&request, flow, &Reply::new(200)));
    let (_, transmit) = world.sent.remove(0);
    assert!(world.stack.is_idle());
    (Message::parse(transmit.bytes).unwrap(), transmit.flow)
}

#[test]
fn top_via_says_where_the_request_came_from() {
    for flow in [udp(), tcp()] {
        for (asked, told) in VIAS {
            let (response, _) = refused(from("203.0.113.9:40000", flow), asked);
            assert_eq!(response.headers(HeaderName::Via).collect::<Vec<_>>(), told, "{asked:?}");
        }
    }
}

#[test]
fn threat_39_response_goes_to_the_source_and_never_to_maddr_or_received() {
    let source = "203.0.113.9:40000";
    for (via, to) in [
        ("SIP/2.0/UDP 10.0.0.1:5070;branch=z9hG4bKa", "203.0.113.9:5070"),
        ("SIP/2.0/UDP 10.0.0.1;branch=z9hG4bKa", "203.0.113.9:5060"),
        ("SIP/2.0/UDP 10.0.0.1:5070;rport;branch=z9hG4bKa", source),
        ("SIP/2.0/UDP 10.0.0.1:5070;maddr=192.0.2.66;branch=z9hG4bKa", "203.0.113.9:5070"),
        ("SIP/2.0/UDP 10.0.0.1:5070;received=192.0.2.66;branch=z9hG4bKa", "203.0.113.9:5070"),
    ] {
        assert_eq!(refused(from(source, udp()), &[via]).1.remote, to.parse().unwrap(), "{via}");
    }
    // Over a connection it goes back by that.
    let back = refused(from(source, tcp()), &["SIP/2.0/TCP 10.0.0.1:5070;maddr=192.0.2.66;branch=z9hG4bKa"]).1;
    assert_eq!((back.remote, back.connection), (source.parse().unwrap(), tcp().connection));
}

#[test]
fn record_routes_are_echoed_and_make_the_route_set() {
    let mut world = World::new(udp());
    let more = "Contact: <sip:peer@198.18.0.7:5071>\r\nRecord-Route: <sip:198.18.0.1;lr>,\r\n <sip:198.18.0.2;lr>\r\n\
                Record-Route: <sip:198.18.0.3;lr>\r\n";
    let invite = world.receive(Ask { more, ..Ask::invite() }.text()).unwrap();
    let flow = world.flow;
    let dialog = world.command(|stack, _| stack.accept_invite(flow, invite.clone(), "<sip:us@h>".into()));
    world.command(|stack, now| stack.progress(dialog, 180, Bytes::new(), now));
    world.command(|stack, now| stack.answer(dialog, Bytes::from_static(ANSWER), now));
    let sent = world.take_sent();
    for (_, response) in &sent {
        let routes: Vec<_> = response.values(HeaderName::RecordRoute).collect();
        assert_eq!(routes, ["<sip:198.18.0.1;lr>", "<sip:198.18.0.2;lr>", "<sip:198.18.0.3;lr>"]);
        assert_eq!(header(response, HeaderName::Contact), "<sip:us@h>");
    }
    let tag = sent[0].1.to_tag().unwrap().to_owned();
    world.receive(Ask::inside("ACK", &tag, 10).text());
    world.events.clear();
    world.command(|stack, now| stack.bye(dialog, "", now));
    let (_, transmit) = world.sent.last().cloned().unwrap();
    assert_eq!(transmit.flow.remote, "198.18.0.1:5060".parse().unwrap());
    let bye = world.take_one();
    assert_eq!(bye.request_uri(), "sip:peer@198.18.0.7:5071");
    let routes: Vec<_> = bye.values(HeaderName::Route).collect();
    assert_eq!(routes, ["<sip:198.18.0.1;lr>", "<sip:198.18.0.2;lr>", "<sip:198.18.0.3;lr>"]);
    world.receive(answer(&bye, 200, ""));
    world.finish();
}

#[test]
fn answer_to_our_invite_gives_the_target_and_the_route_set_backwards() {
    let mut world = World::new(udp());
    let (dialog, invite) = world.inviting(None);
    let more = "Contact: <sip:bob@198.18.0.9:5075>\r\nRecord-Route: <sip:198.18.0.2;lr>, <sip:198.18.0.1;lr>\r\n";
    world.receive(answer_with(&invite, 200, "bt", more));
    let ack = world.take_one();
    assert_eq!(ack.request_uri(), "sip:bob@198.18.0.9:5075");
    assert_eq!(ack.values(HeaderName::Route).collect::<Vec<_>>(), ["<sip:198.18.0.1;lr>", "<sip:198.18.0.2;lr>"]);
    assert_ne!(ack.top_via().unwrap().branch(), invite.top_via().unwrap().branch(), "it is a transaction of its own");
    assert_eq!(ack.cseq(), Some((invite.cseq().unwrap().0, "ACK")));
    world.command(|stack, now| stack.bye(dialog, "", now));
    world.finish();
}

#[test]
fn strict_router_is_the_request_uri_also_of_a_digest() {
    let mut world = World::new(udp());
    let (dialog, invite) = world.inviting(Some(credentials()));
    let more = "Contact: <sip:bob@198.18.0.9>\r\nRecord-Route: <sip:198.18.0.1>\r\n";
    world.receive(answer_with(&invite, 200, "bt", more));
    let ack = world.take_one();
    assert_eq!(ack.request_uri(), "sip:198.18.0.1");
    assert_eq!(ack.values(HeaderName::Route).collect::<Vec<_>>(), ["<sip:bob@198.18.0.9>"]);
    world.command(|stack, now| stack.reinvite(dialog, Bytes::from_static(OFFER), now));
    let again = world.take_one();
    world.receive(answer_with(&again, 407, "", "Proxy-Authenticate: Digest realm=\"r\", nonce=\"n\"\r\n"));
    let authorized = world.take_sent().pop().unwrap().1;
    assert_eq!(authorized.request_uri(), "sip:198.18.0.1");
    assert!(header(&authorized, HeaderName::ProxyAuthorization).contains("uri=\"sip:198.18.0.1\""));
    world.receive(answer_with(&authorized, 200, "", ""));
    world.command(|stack, now| stack.bye(dialog, "", now));
    world.finish();
}

#[test]
fn threat_13_contact_with_a_line_break_is_no_target() {
    let mut world = World::new(udp());
    let (dialog, invite) = world.inviting(None);
    world.receive(answer_with(&invite, 200, "bt", "Contact: <sip:bob@203.0.113.9\r\n X-Injected:1>\r\n"));
    assert_eq!(world.take_one().request_uri(), "sip:bob@203.0.113.9");
    world.command(|stack, now| stack.bye(dialog, "", now));
    assert_eq!(world.take_one().request_uri(), "sip:bob@203.0.113.9");
    world.finish();
}

#[test]
fn display_name_that_holds_its_uri_is_repeated_whole() {
    let mut world = World::new(udp());
    let from = "\"sip:peer@203.0.113.9\" <sip:peer@203.0.113.9>";
    let invite = world.receive(Ask { from, ..Ask::invite() }.text()).unwrap();
    let flow = world.flow;
    let dialog = world.command(|stack, _| stack.accept_invite(flow, invite, "<sip:us@h>".into()));
    world.command(|stack, now| stack.answer(dialog, Bytes::from_static(ANSWER), now));
    let tag = world.take_one().to_tag().unwrap().to_owned();
    world.receive(Ask::inside("ACK", &tag, 10).text());
    world.command(|stack, now| stack.bye(dialog, "", now));
    let bye = world.take_one();
    assert_eq!(header(&bye, HeaderName::To), format!("{from};tag=pt"));
    world.receive(answer(&bye, 200, ""));
    world.finish();
}
