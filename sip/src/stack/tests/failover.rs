//! INVITEs of ours that go to the next server (RFC 3263 s4.3).

use super::*;

fn second() -> Flow {
    Flow {
        local: "198.51.100.2:5070".parse().unwrap(),
        remote: "203.0.113.10:5080".parse().unwrap(),
        connection: None,
        ..udp()
    }
}

fn third() -> Flow {
    Flow { transport: Transport::Tcp, ..second() }
}

fn hops(flows: &[Flow]) -> Vec<Hop> {
    flows.iter().map(|flow| Hop { flow: *flow, contact: format!("<sip:us@{}>", flow.local) }).collect()
}

/// How a server fails.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    Busy,
    Silent,
    Unreachable,
}

const FAULTS: [Fault; 3] = [Fault::Busy, Fault::Silent, Fault::Unreachable];

impl World {
    fn fail(&mut self, fault: Fault, invite: &Message, flow: Flow) {
        match fault {
            Fault::Busy => drop(self.receive_by(flow, answer(invite, 503, "st"))),
            Fault::Silent => self.run_until(self.now + 32_000),
            Fault::Unreachable => {
                self.command(|stack, now| stack.handle_flow_failed(|of| of.remote == flow.remote, now))
            }
        }
    }

    /// The INVITE that was sent by this flow, other than as a retransmission.
    fn take_invite(&mut self, flow: Flow) -> Option<Message> {
        let sent = self.sent.drain(..).filter(|(_, transmit)| transmit.flow == flow);
        let mut invites = sent.map(|(_, transmit)| Message::parse(transmit.bytes).unwrap());
        invites.find(|message| line(message) == "INVITE")
    }
}

#[test]
fn same_invite_goes_to_the_next_server_with_a_branch_of_its_own() {
    for fault in FAULTS {
        let mut world = World::new(udp());
        let (dialog, invite) = world.inviting_by(None, hops(&[second()]));
        world.fail(fault, &invite, udp());
        let again = world.take_invite(second()).expect("it goes on");
        for name in [HeaderName::From, HeaderName::To, HeaderName::CallId, HeaderName::CSeq, HeaderName::MaxForwards] {
            assert_eq!(header(&again, name), header(&invite, name), "{fault:?} {name:?}");
        }
        assert_eq!(
            (again.request_uri(), again.body(), again.other_header("X-Ours")),
            (invite.request_uri(), invite.body(), invite.other_header("X-Ours"))
        );
        let (before, after) = (invite.top_via().unwrap(), again.top_via().unwrap());
        assert_ne!(before.branch(), after.branch());
        let sent_by = (after.sent_by.ip().unwrap(), after.sent_by.port.unwrap());
        assert_eq!(sent_by, (second().local.ip(), second().local.port()));
        assert_eq!(header(&again, HeaderName::Contact), "<sip:us@198.51.100.2:5070>");
        let status = if fault == Fault::Silent { 408 } else { 503 };
        match world.take_event() {
            Event::Diverted { dialog: of, failed, next, status: told, response } => {
                assert_eq!((of, failed, next, told), (dialog, udp(), second(), status));
                assert_eq!(response.is_some(), fault == Fault::Busy);
            }
            other => panic!("{fault:?}: {other:?}"),
        }
        // The call goes on there.
        world.receive_by(second(), answer(&again, 200, "bt"));
        assert!(matches!(world.take_event(), Event::Answered { .. }));
        assert_eq!(world.take_lines(), ["ACK"]);
        assert_eq!(world.stack.dialog(dialog).unwrap().flow.local, second().local);
        world.command(|stack, now| stack.bye(dialog, "", now));
        assert_eq!(world.take_one().cseq(), Some((2, "BYE")));
        world.finish();
    }
}

#[test]
fn servers_are_tried_in_order_and_the_last_failure_is_told() {
    for fault in FAULTS {
        let mut world = World::new(udp());
        let (dialog, invite) = world.inviting_by(None, hops(&[second(), third()]));
        let mut flow = udp();
        let mut invite = invite;
        for next in [second(), third()] {
            world.fail(fault, &invite, flow);
            invite = world.take_invite(next).unwrap_or_else(|| panic!("{fault:?}: {next}"));
            assert!(matches!(world.take_event(), Event::Diverted { .. }));
            flow = next;
        }
        world.fail(fault, &invite, flow);
        assert!(world.take_invite(udp()).is_none());
        let status = if fault == Fault::Silent { 408 } else { 503 };
        assert!(
            matches!(world.take_event(), Event::Refused { dialog: of, status: told, .. } if of == dialog && told == status)
        );
        world.finish();
    }
}

#[test]
fn answer_of_the_peer_is_no_reason_to_go_on() {
    for status in [300, 404, 408, 480, 486, 500, 504, 600] {
        let mut world = World::new(udp());
        let (_, invite) = world.inviting_by(None, hops(&[second()]));
        world.receive(answer(&invite, status, "bt"));
        assert_eq!(world.take_lines(), ["ACK"], "{status}");
        assert!(matches!(world.take_event(), Event::Refused { status: told, .. } if told == status));
        world.finish();
    }
}

#[test]
fn invite_that_is_no_more_wanted_does_not_go_on() {
    for fault in FAULTS {
        for provisional in [false, true] {
            let mut world = World::new(udp());
            let (dialog, invite) = world.inviting_by(None, hops(&[second()]));
            if provisional {
                world.receive(answer(&invite, 180, "bt"));
                world.events.clear();
            }
            world.command(|stack, now| stack.cancel(dialog, "", now));
            world.fail(fault, &invite, udp());
            assert!(world.take_invite(second()).is_none(), "{fault:?} {provisional}");
            assert!(matches!(world.take_event(), Event::Refused { .. }));
            world.finish();
        }
    }
}

#[test]
fn answered_dialog_does_not_go_elsewhere() {
    let mut world = World::new(udp());
    let (dialog, invite) = world.inviting_by(None, hops(&[second()]));
    world.receive(answer(&invite, 200, "bt"));
    world.command(|stack, now| stack.reinvite(dialog, Bytes::from_static(OFFER), now));
    let reinvite = world.take_sent().pop().unwrap().1;
    world.events.clear();
    world.receive(answer(&reinvite, 503, ""));
    assert_eq!(world.take_lines(), ["ACK"]);
    assert!(matches!(world.take_event(), Event::Reanswered { status: 503, .. }));
    assert!(world.stack.usages[&dialog].alternatives.is_empty(), "nothing of them is kept");
    world.command(|stack, now| stack.bye(dialog, "", now));
    world.finish();
}

#[test]
fn next_server_gets_no_credentials_before_it_asks() {
    const CHALLENGE: &str = "WWW-Authenticate: Digest realm=\"carrier\", nonce=\"n\", qop=\"auth\"\r\n";
    let mut world = World::new(udp());
    let (dialog, invite) = world.inviting_by(Some(credentials_for("carrier")), hops(&[second()]));
    world.receive(answer_with(&invite, 401, "bt", CHALLENGE));
    let authorized = world.take_invite(udp()).unwrap();
    assert!(authorized.header(HeaderName::Authorization).is_some());
    world.receive(answer(&authorized, 503, "bt"));
    let again = world.take_invite(second()).unwrap();
    assert_eq!((again.header(HeaderName::Authorization), again.cseq()), (None, Some((2, "INVITE"))));
    assert!(matches!(world.take_event(), Event::Diverted { .. }));
    world.receive_by(second(), answer_with(&again, 401, "bt", CHALLENGE));
    let authorized = world.take_invite(second()).unwrap();
    assert!(authorized.header(HeaderName::Authorization).is_some());
    world.receive_by(second(), answer(&authorized, 200, "bt"));
    assert!(matches!(world.take_event(), Event::Answered { .. }));
    world.command(|stack, now| stack.bye(dialog, "", now));
    world.finish();
}
