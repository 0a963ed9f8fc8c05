//! INVITEs of the peer, and requests of strangers.

use super::*;

#[test]
fn request_in_an_unknown_dialog_gets_481_and_an_ack_nothing() {
    let mut world = World::new(udp());
    for method in ["INVITE", "BYE", "INFO", "OPTIONS", "UPDATE", "NOTIFY", "CANCEL", "FOO"] {
        let ask = Ask { more: Ask::invite().more, ..Ask::inside(method, "0050123456789abcdef", 1) };
        assert!(world.receive(ask.text()).is_none(), "{method}");
        assert_eq!(world.take_lines(), [format!("481 {method}")]);
    }
    for tag in ["0050123456789abcdef", "fff0123456789abcdef", "x", "", "ééééééé"] {
        assert!(world.receive(Ask::inside("ACK", tag, 1).text()).is_none());
    }
    assert!(world.take_lines().is_empty());
    world.finish();
}

#[test]
fn merged_invite_gets_482_while_the_first_is_handled() {
    let mut world = World::new(udp());
    let dialog = world.ringing();
    world.take_sent();
    let by_another_way = Ask { branch: "z9hG4bKother", ..Ask::invite() }.text();
    assert!(world.receive(by_another_way.clone()).is_none());
    assert_eq!(world.take_lines(), ["482 INVITE"]);
    // A later INVITE of the same call is none.
    assert!(world.receive(Ask { cseq: 11, branch: "z9hG4bKlater", ..Ask::invite() }.text()).is_some());
    world.command(|stack, now| stack.decline(dialog, &Reply::new(486), now));
    world.run_until(40_000);
    assert!(world.receive(by_another_way).is_some(), "the first is over");
    world.finish();
}

#[test]
fn invite_retransmitted_gets_the_last_response_again() {
    let mut world = World::new(udp());
    let dialog = world.ringing();
    let ringing = world.take_one();
    assert!(world.receive(Ask::invite().text()).is_none());
    assert_eq!(world.take_one(), ringing);
    world.command(|stack, now| stack.decline(dialog, &Reply::new(486), now));
    let busy = world.take_one();
    assert!(world.receive(Ask::invite().text()).is_none());
    assert_eq!(world.take_one(), busy);
    assert_eq!(busy.to_tag(), ringing.to_tag());
    world.finish();
}

#[test]
fn failure_is_retransmitted_until_its_ack() {
    let mut world = World::new(udp());
    let dialog = world.ringing();
    world.take_sent();
    world.command(|stack, now| stack.decline(dialog, &Reply::new(486), now));
    world.run_until(4_000);
    let ack = Ask { method: "ACK", ..Ask::invite() }.text();
    assert_eq!(world.take_times("486 INVITE"), [0, 500, 1_500, 3_500]);
    assert!(world.receive(ack).is_none());
    world.run_until(60_000);
    assert!(world.take_lines().is_empty());
    world.finish();
}

#[test]
fn answer_is_retransmitted_until_its_ack_over_any_transport() {
    for flow in [udp(), tcp()] {
        let mut world = World::new(flow);
        let dialog = world.ringing();
        world.take_sent();
        world.command(|stack, now| stack.answer(dialog, Bytes::from_static(ANSWER), now));
        world.run_until(31_999);
        let at = [0, 500, 1_500, 3_500, 7_500, 11_500, 15_500, 19_500, 23_500, 27_500, 31_500];
        assert_eq!(world.take_times("200 INVITE"), at);
        assert!(world.events.is_empty());
        world.run_until(32_000);
        assert_eq!(world.take_event(), Event::AckMissing { dialog });
        world.command(|stack, now| stack.bye(dialog, "", now));
        let bye = world.take_one();
        assert_eq!(line(&bye), "BYE");
        world.receive(answer(&bye, 200, ""));
        world.finish();
    }
}

#[test]
fn ack_of_the_answer_stops_it_and_is_told_once() {
    let mut world = World::new(udp());
    let dialog = world.ringing();
    world.command(|stack, now| stack.answer(dialog, Bytes::from_static(ANSWER), now));
    let tag = world.take_sent().pop().unwrap().1.to_tag().unwrap().to_owned();
    world.run_until(600);
    assert_eq!(world.take_lines(), ["200 INVITE"]);
    let ack = Ask { body: ANSWER, ..Ask::inside("ACK", &tag, 10) }.text();
    // An ACK of another INVITE is not it.
    world.receive(Ask::inside("ACK", &tag, 9).text());
    assert!(world.events.is_empty());
    world.receive(ack.clone());
    match world.take_event() {
        Event::Acked { dialog: of, ack } => assert_eq!((of, ack.body().as_ref()), (dialog, ANSWER)),
        other => panic!("{other:?}"),
    }
    world.receive(ack);
    world.run_until(30_000);
    assert!(world.events.is_empty() && world.take_lines().is_empty());
    // An INVITE that comes again is absorbed: its answer was acknowledged.
    world.receive(Ask::invite().text());
    assert!(world.take_lines().is_empty());
    world.receive(Ask::inside("BYE", &tag, 11).text());
    assert_eq!(world.take_lines(), ["200 BYE"]);
    world.finish();
}

#[test]
fn ack_of_the_answer_is_taken_with_the_branch_of_its_invite() {
    let mut world = World::new(udp());
    let dialog = world.ringing();
    world.command(|stack, now| stack.answer(dialog, Bytes::from_static(ANSWER), now));
    let tag = world.take_sent().pop().unwrap().1.to_tag().unwrap().to_owned();
    world.receive(Ask { method: "ACK", to_tag: &tag, ..Ask::invite() }.text());
    assert!(matches!(world.take_event(), Event::Acked { .. }));
    world.receive(Ask::inside("BYE", &tag, 11).text());
    world.finish();
}

#[test]
fn bye_waits_for_the_ack_of_our_answer() {
    let mut world = World::new(udp());
    let dialog = world.ringing();
    world.command(|stack, now| stack.answer(dialog, Bytes::from_static(ANSWER), now));
    let tag = world.take_sent().pop().unwrap().1.to_tag().unwrap().to_owned();
    world.command(|stack, now| stack.bye(dialog, "SIP;cause=200", now));
    assert!(world.take_lines().is_empty());
    world.receive(Ask::inside("ACK", &tag, 10).text());
    let bye = world.take_one();
    assert_eq!((line(&bye).as_str(), header(&bye, HeaderName::Reason)), ("BYE", "SIP;cause=200"));
    assert!(world.events.is_empty(), "its owner is done with the call");
    world.receive(answer(&bye, 200, ""));
    world.finish();
}

#[test]
fn bye_that_waits_for_an_ack_in_vain_is_sent_after_32_s() {
    let mut world = World::new(udp());
    let dialog = world.ringing();
    world.command(|stack, now| stack.answer(dialog, Bytes::from_static(ANSWER), now));
    world.command(|stack, now| stack.bye(dialog, "", now));
    world.run_until(32_000);
    assert_eq!(world.take_times("BYE"), [32_000]);
    assert!(world.events.is_empty());
    world.finish();
}

#[test]
fn cancel_of_a_ringing_invite_ends_it_with_487() {
    let mut world = World::new(udp());
    let dialog = world.ringing();
    let tag = world.take_one().to_tag().unwrap().to_owned();
    let cancel = Ask { method: "CANCEL", more: "Reason: SIP;cause=200\r\n", body: b"", ..Ask::invite() };
    world.receive(cancel.text());
    let sent = world.take_sent();
    assert_eq!(sent.iter().map(|(_, message)| line(message)).collect::<Vec<_>>(), ["200 CANCEL", "487 INVITE"]);
    assert!(sent.iter().all(|(_, message)| message.to_tag() == Some(&tag)));
    match world.take_event() {
        Event::Canceled { dialog: of, cancel } => {
            assert_eq!((of, header(&cancel, HeaderName::Reason)), (dialog, "SIP;cause=200"));
        }
        other => panic!("{other:?}"),
    }
    // Again, and too late: only its own answer comes again.
    world.receive(cancel.text());
    assert_eq!(world.take_lines(), ["200 CANCEL"]);
    world.command(|stack, now| stack.answer(dialog, Bytes::from_static(ANSWER), now));
    assert!(world.take_lines().is_empty() && world.events.is_empty());
    world.finish();
}

#[test]
fn cancel_without_an_invite_gets_481() {
    let mut world = World::new(udp());
    world.receive(Ask { method: "CANCEL", more: "", body: b"", ..Ask::invite() }.text());
    assert_eq!(world.take_lines(), ["481 CANCEL"]);
    world.finish();
}

#[test]
fn cancel_of_an_answered_invite_gets_200_and_does_nothing() {
    let mut world = World::new(udp());
    let (dialog, tag) = world.incoming();
    world.receive(Ask { method: "CANCEL", more: "", body: b"", ..Ask::invite() }.text());
    assert_eq!(world.take_lines(), ["200 CANCEL"]);
    assert!(world.events.is_empty() && world.stack.dialog(dialog).is_some());
    world.receive(Ask::inside("BYE", &tag, 11).text());
    world.finish();
}

#[test]
fn bye_of_the_caller_in_an_early_dialog_ends_it_with_487() {
    let mut world = World::new(udp());
    let dialog = world.ringing();
    let tag = world.take_one().to_tag().unwrap().to_owned();
    world.receive(Ask::inside("BYE", &tag, 11).text());
    assert_eq!(world.take_lines(), ["200 BYE", "487 INVITE"]);
    assert!(matches!(world.take_event(), Event::Ended { dialog: of, bye: Some(_) } if of == dialog));
    world.finish();
}

#[test]
fn refer_before_the_answer_is_refused() {
    let mut world = World::new(udp());
    let dialog = world.ringing();
    let tag = world.take_one().to_tag().unwrap().to_owned();
    world.receive(Ask::inside("REFER", &tag, 11).text());
    assert_eq!(world.take_lines(), ["403 REFER"]);
    assert!(world.events.is_empty(), "nobody is told");
    world.command(|stack, now| stack.notify_refer(dialog, 200, now));
    assert!(world.take_sent().is_empty());
    world.command(|stack, now| stack.decline(dialog, &Reply::new(486), now));
    world.finish();
}

#[test]
fn bye_of_ours_before_the_answer_is_a_refusal() {
    let mut world = World::new(udp());
    let dialog = world.ringing();
    world.take_sent();
    world.command(|stack, now| stack.bye(dialog, "", now));
    assert_eq!(world.take_lines(), ["487 INVITE"]);
    assert!(world.stack.dialog(dialog).is_none());
    world.finish();
}

#[test]
fn threat_15_stateless_refusal_is_the_same_for_a_retransmission_and_its_ack_is_absorbed() {
    let mut world = World::new(udp());
    let mut refusals = Vec::new();
    for _ in 0..2 {
        let invite = world.receive(Ask::invite().text()).unwrap();
        let flow = world.flow;
        world.command(|stack, _| stack.refuse(&invite, flow, &Reply::new(401)));
        refusals.push(world.take_one());
    }
    assert_eq!(refusals[0], refusals[1]);
    let tag = refusals[0].to_tag().unwrap();
    assert!(world.receive(Ask { method: "ACK", to_tag: tag, ..Ask::invite() }.text()).is_none());
    assert!(world.take_lines().is_empty() && world.stack.is_idle());
    // Another call gets another tag.
    let other = world.receive(Ask { call_id: "call-2", ..Ask::invite() }.text()).unwrap();
    let flow = world.flow;
    world.command(|stack, _| stack.refuse(&other, flow, &Reply::new(401)));
    assert_ne!(world.take_one().to_tag(), Some(tag));
    world.finish();
}

#[test]
fn ack_is_never_answered() {
    let mut world = World::new(udp());
    for text in [
        Ask::inside("ACK", "", 1).text(),
        Ask::inside("ACK", "unknown", 1).text(),
        Ask::inside("ACK", "unknown", 1).text().replace("CSeq: 1 ACK", "CSeq: 1 INVITE"),
        Ask::inside("ACK", "unknown", 1).text().replace("Max-Forwards: 70", "Max-Forwards: -1"),
        Ask::inside("ACK", "unknown", 1).text().replace("SIP/2.0\r\nVia", "SIP/7.0\r\nVia"),
        Ask::inside("ACK", "unknown", 1).text().replace("Call-ID: call-1@peer\r\n", ""),
    ] {
        assert!(world.receive(text).is_none());
    }
    let ack = Message::parse(Bytes::from(Ask::inside("ACK", "", 1).text())).unwrap();
    let flow = world.flow;
    world.command(|stack, _| stack.refuse(&ack, flow, &Reply::new(400)));
    assert!(world.take_lines().is_empty());
    world.finish();
}

#[test]
fn peer_of_rfc_2543_without_branch_tag_or_contact_is_served() {
    let mut world = World::new(udp());
    let ask = Ask { from_tag: "", more: "", ..Ask::invite() };
    let via = "SIP/2.0/UDP 203.0.113.9:5060";
    let invite = world.receive(ask.text_by(via)).unwrap();
    let flow = world.flow;
    let dialog = world.command(|stack, _| stack.accept_invite(flow, invite, "<sip:us@h>".into()));
    world.command(|stack, now| stack.progress(dialog, 180, Bytes::new(), now));
    let ringing = world.take_one();
    world.receive(ask.text_by(via));
    assert_eq!(world.take_one(), ringing, "a retransmission is known by its fields");
    world.command(|stack, now| stack.answer(dialog, Bytes::from_static(ANSWER), now));
    let tag = world.take_one().to_tag().unwrap().to_owned();
    world.receive(Ask { method: "ACK", to_tag: &tag, body: b"", ..ask }.text_by(via));
    assert!(matches!(world.take_event(), Event::Acked { .. }));
    world.command(|stack, now| stack.bye(dialog, "", now));
    let bye = world.take_one();
    assert_eq!(bye.request_uri(), "sip:peer@203.0.113.9", "without a Contact the From is the target");
    assert_eq!(bye.to_tag(), None);
    world.receive(answer(&bye, 200, ""));
    world.finish();
}

#[test]
fn peer_of_rfc_2543_may_cancel_and_acknowledge() {
    let mut world = World::new(udp());
    let via = "SIP/2.0/UDP 203.0.113.9:5060;branch=1";
    let invite = world.receive(Ask::invite().text_by(via)).unwrap();
    let flow = world.flow;
    let dialog = world.command(|stack, _| stack.accept_invite(flow, invite, "<sip:us@h>".into()));
    world.command(|stack, now| stack.progress(dialog, 180, Bytes::new(), now));
    let tag = world.take_one().to_tag().unwrap().to_owned();
    world.receive(Ask { method: "CANCEL", more: "", body: b"", ..Ask::invite() }.text_by(via));
    assert_eq!(world.take_lines(), ["200 CANCEL", "487 INVITE"]);
    world.events.clear();
    world.receive(Ask { method: "ACK", to_tag: &tag, more: "", body: b"", ..Ask::invite() }.text_by(via));
    world.run_until(30_000);
    assert!(world.take_lines().is_empty(), "the failure is acknowledged");
    world.finish();
}

#[test]
fn connection_lost_while_it_rings_ends_the_call() {
    let mut world = World::new(tcp());
    let dialog = world.ringing();
    world.command(|stack, now| stack.handle_flow_failed(|flow| flow.connection == tcp().connection, now));
    assert_eq!(world.take_event(), Event::Ended { dialog, bye: None });
    assert!(world.stack.dialog(dialog).is_none());
    world.finish();
}

#[test]
fn connection_lost_after_a_refused_overlap_leaves_the_other_invite_open() {
    let mut world = World::new(udp());
    let (dialog, tag) = world.incoming();
    world.receive(Ask { branch: "one", cseq: 11, to_tag: &tag, ..Ask::invite() }.text());
    world.receive_by(tcp(), Ask { branch: "two", cseq: 12, to_tag: &tag, ..Ask::invite() }.text());
    assert_eq!(world.take_lines(), ["100 INVITE", "500 INVITE"]);
    world.events.clear();
    world.command(|stack, now| stack.handle_flow_failed(|flow| flow.connection.is_some(), now));
    world.command(|stack, now| stack.answer(dialog, Bytes::from_static(ANSWER), now));
    assert_eq!(world.take_lines(), ["200 INVITE"], "the first waits for its answer still");
    world.receive(Ask { to_tag: &tag, ..Ask::inside("ACK", &tag, 11) }.text());
    world.receive(Ask::inside("BYE", &tag, 13).text());
    world.finish();
}

#[test]
fn contact_star_in_an_invite_is_malformed() {
    let mut world = World::new(udp());
    assert!(world.receive(Ask { more: "Contact: *\r\n", ..Ask::invite() }.text()).is_none());
    assert_eq!(world.take_lines(), ["400 INVITE"]);
    world.finish();
}

#[test]
fn threat_01_more_contacts_or_vias_than_anyone_needs_are_refused() {
    let mut world = World::new(udp());
    let contacts = format!("Contact: {}\r\n", ["<sip:a@h>"; 71].join(","));
    assert!(world.receive(Ask { more: &contacts, ..Ask::invite() }.text()).is_none());
    let vias = ["SIP/2.0/UDP h;branch=z9hG4bK1"; 71].join(",");
    assert!(world.receive(Ask::invite().text_by(&vias)).is_none());
    let reasons: Vec<String> =
        world.take_sent().iter().map(|(_, refusal)| refusal.reason_phrase().to_owned()).collect();
    assert_eq!(reasons, ["Too Many Contacts", "Too Many Via Headers"]);
    let vias = ["SIP/2.0/UDP h;branch=z9hG4bK1"; 70].join(",");
    assert!(world.receive(Ask::invite().text_by(&vias)).is_some());
    world.finish();
}

#[test]
fn request_with_its_own_transaction_is_answered_and_its_retransmission_too() {
    let mut world = World::new(udp());
    let text = Ask { method: "REGISTER", body: b"", ..Ask::invite() }.text();
    let register = world.receive(text.clone()).unwrap();
    let flow = world.flow;
    let id = world.command(|stack, _| stack.accept_request(flow, &register));
    assert!(world.receive(text.clone()).is_none(), "a retransmission waits with it");
    assert!(world.take_lines().is_empty());
    world.command(|stack, now| stack.reply(id, &register, &Reply::new(200), now));
    let ok = world.take_one();
    assert!(ok.to_tag().is_some());
    assert!(world.receive(text).is_none());
    assert_eq!(world.take_one(), ok);
    world.finish();
}

#[test]
fn nobody_wakes_up_for_a_timer_that_means_nothing_any_more() {
    let mut world = World::new(udp());
    let (_, _) = world.incoming();
    let (_, _) = world.outgoing(None);
    // The 2xx is acknowledged and the INVITEs are answered: what is left is to absorb repetitions, until timers L and M.
    assert_eq!(world.stack.next_deadline(), Some(Mono(32_000_000)));
    // They end together, however little apart they began.
    world.run_until(100);
    let (_, _) = world.outgoing(None);
    let open = |world: &World| world.stack.open_transactions().map(|(_, open)| open).sum::<usize>();
    world.run_until(32_499);
    assert_eq!(open(&world), 1);
    world.run_until(32_500);
    assert_eq!(open(&world), 0);
}
