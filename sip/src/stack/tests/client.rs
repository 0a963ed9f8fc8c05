//! INVITEs of ours: answers, forks, CANCEL, challenges, faults.

use super::*;
use crate::digest::{Algorithm, Guard, answer as digest_answer};
use crate::msg::AuthParams;

#[test]
fn invite_is_retransmitted_and_given_up() {
    let mut world = World::new(udp());
    let (dialog, _) = world.inviting(None);
    world.run_until(32_000);
    assert_eq!(world.take_times("INVITE"), [500, 1_500, 3_500, 7_500, 15_500, 31_500]);
    assert_eq!(world.take_event(), Event::Refused { dialog, status: 408, response: None });
    world.finish();
}

#[test]
fn failure_ack_repeats_the_invite_and_has_its_branch() {
    let mut world = World::new(udp());
    let flow = world.flow;
    let invitation = Invitation {
        flow,
        request_uri: "sip:bob@203.0.113.9".into(),
        from: "<sip:us@h>".into(),
        to: "<sip:bob@h>".into(),
        contact: "<sip:us@h>".into(),
        alternatives: Vec::new(),
        routes: vec!["<sip:198.18.0.1;lr>".into()],
        headers: Vec::new(),
        sdp: Bytes::from_static(OFFER),
        credentials: None,
    };
    let dialog = world.command(|stack, now| stack.invite(invitation, now));
    let invite = world.take_one();
    world.receive(answer(&invite, 180, "bt"));
    assert!(matches!(world.take_event(), Event::Progress { .. }));
    let busy = answer(&invite, 486, "bt");
    world.receive(busy.clone());
    let ack = world.take_one();
    assert_eq!((ack.method_text(), ack.request_uri()), ("ACK", invite.request_uri()));
    for name in [HeaderName::Via, HeaderName::From, HeaderName::CallId, HeaderName::Route] {
        assert_eq!(header(&ack, name), header(&invite, name), "{name:?}");
    }
    assert_eq!((ack.to_tag(), ack.cseq()), (Some("bt"), Some((invite.cseq().unwrap().0, "ACK"))));
    assert!(
        matches!(world.take_event(), Event::Refused { dialog: of, status: 486, response: Some(_) } if of == dialog)
    );
    // The failure again: the same ACK, and nothing more is told.
    world.receive(busy);
    assert_eq!(world.take_one(), ack);
    assert!(world.events.is_empty());
    world.finish();
}

#[test]
fn answer_that_comes_again_gets_its_ack_again() {
    let mut world = World::new(udp());
    let (dialog, invite) = world.inviting(None);
    let ok = answer(&invite, 200, "bt");
    world.receive(ok.clone());
    let ack = world.take_one();
    world.receive(ok.clone());
    assert_eq!(world.take_one(), ack);
    // Also when a re-INVITE is on its way, and after that was answered.
    world.command(|stack, now| stack.reinvite(dialog, Bytes::from_static(OFFER), now));
    let reinvite = world.take_one();
    world.receive(ok.clone());
    assert_eq!(world.take_one(), ack);
    world.receive(answer(&reinvite, 200, ""));
    let second = world.take_one();
    assert_eq!(second.cseq().unwrap().0, 2);
    world.receive(ok);
    assert_eq!(world.take_one(), ack);
    world.receive(answer(&reinvite, 200, ""));
    assert_eq!(world.take_one(), second);
    assert_eq!(world.events.len(), 2, "one answer each: {:?}", world.events);
    world.command(|stack, now| stack.bye(dialog, "", now));
    world.finish();
}

#[test]
fn second_branch_of_a_fork_is_acknowledged_and_ended_once() {
    let mut world = World::new(udp());
    let (dialog, invite) = world.outgoing(None);
    let other = answer_with(&invite, 200, "other", "Contact: <sip:carol@203.0.113.8:5070>\r\n");
    world.receive(other.clone());
    let sent = world.take_sent();
    let (ack, bye) = (&sent[0].1, &sent[1].1);
    assert_eq!((line(ack).as_str(), line(bye).as_str(), sent.len()), ("ACK", "BYE", 2));
    for request in [ack, bye] {
        assert_eq!((request.request_uri(), request.to_tag()), ("sip:carol@203.0.113.8:5070", Some("other")));
    }
    assert_eq!((ack.cseq(), bye.cseq()), (Some((1, "ACK")), Some((2, "BYE"))));
    world.receive(other);
    assert_eq!(world.take_lines(), ["ACK"], "no second BYE");
    world.receive(answer(bye, 200, ""));
    assert!(world.events.is_empty());
    assert_eq!(world.stack.dialog(dialog).unwrap().remote_tag, "bt", "the first stays");
    world.command(|stack, now| stack.bye(dialog, "", now));
    world.finish();
}

#[test]
fn branch_that_answers_after_the_call_is_over_is_acknowledged_and_ended() {
    let mut world = World::new(udp());
    let (dialog, invite) = world.outgoing(None);
    world.command(|stack, now| stack.bye(dialog, "", now));
    let bye = world.take_one();
    world.receive(answer(&bye, 200, ""));
    assert!(world.stack.dialog(dialog).is_none());
    world.receive(answer_with(&invite, 200, "late", "Contact: <sip:carol@203.0.113.8>\r\n"));
    let sent = world.take_sent();
    assert_eq!(sent.iter().map(|(_, message)| line(message)).collect::<Vec<_>>(), ["ACK", "BYE"]);
    for (_, request) in sent {
        assert_eq!((request.call_id(), request.from_tag()), (invite.call_id(), invite.from_tag()));
        assert_eq!((request.to_tag(), request.request_uri()), (Some("late"), "sip:carol@203.0.113.8"));
    }
    assert!(world.events.is_empty());
    world.finish();
}

#[test]
fn cancel_waits_for_a_provisional_response_and_repeats_the_invite() {
    let mut world = World::new(udp());
    let (dialog, invite) = world.inviting(None);
    world.command(|stack, now| stack.cancel(dialog, "SIP;cause=200", now));
    assert!(world.take_lines().is_empty());
    world.receive(answer(&invite, 100, ""));
    let cancel = world.take_one();
    assert_eq!((cancel.method_text(), cancel.request_uri()), ("CANCEL", invite.request_uri()));
    for name in [HeaderName::Via, HeaderName::From, HeaderName::To, HeaderName::CallId] {
        assert_eq!(header(&cancel, name), header(&invite, name), "{name:?}");
    }
    assert_eq!(cancel.cseq(), Some((invite.cseq().unwrap().0, "CANCEL")));
    assert_eq!(header(&cancel, HeaderName::Reason), "SIP;cause=200");
    world.receive(answer(&cancel, 200, "bt"));
    world.receive(answer(&invite, 487, "bt"));
    assert_eq!(world.take_lines(), ["ACK"]);
    assert!(matches!(world.take_event(), Event::Refused { status: 487, .. }));
    world.finish();
}

#[test]
fn cancel_without_a_final_response_is_given_up_after_32_s() {
    let mut world = World::new(udp());
    let (dialog, invite) = world.inviting(None);
    world.receive(answer(&invite, 180, "bt"));
    world.events.clear();
    world.run_until(10_000);
    world.command(|stack, now| stack.cancel(dialog, "", now));
    world.command(|stack, now| stack.cancel(dialog, "", now));
    let cancel = world.take_one();
    world.receive(answer(&cancel, 200, "bt"));
    world.run_until(41_999);
    assert!(world.events.is_empty());
    world.run_until(42_000);
    assert_eq!(world.take_event(), Event::Refused { dialog, status: 487, response: None });
    // What comes now belongs to nothing.
    world.receive(answer(&invite, 200, "bt"));
    assert!(world.take_lines().is_empty());
    assert_eq!(world.stack.counts().stray_responses, 1);
    world.finish();
}

#[test]
fn answer_that_met_our_cancel_is_acknowledged_and_ended() {
    for bye_is_answered in [true, false] {
        let mut world = World::new(udp());
        let (dialog, invite) = world.inviting(None);
        world.receive(answer(&invite, 180, "bt"));
        world.events.clear();
        world.command(|stack, now| stack.cancel(dialog, "", now));
        world.take_sent();
        world.run_until(1_000);
        world.take_sent();
        world.receive(answer(&invite, 200, "bt"));
        let sent = world.take_sent();
        assert_eq!(sent.iter().map(|(_, message)| line(message)).collect::<Vec<_>>(), ["ACK", "BYE"]);
        assert_eq!(world.take_event(), Event::Refused { dialog, status: 487, response: None });
        if bye_is_answered {
            world.receive(answer(&sent[1].1, 200, ""));
            assert!(world.stack.dialog(dialog).is_none());
        }
        world.finish();
    }
}

#[test]
fn answer_to_a_canceled_reinvite_is_taken_and_no_timer_runs_on() {
    let mut world = World::new(udp());
    let (dialog, _) = world.outgoing(None);
    world.command(|stack, now| stack.reinvite(dialog, Bytes::from_static(OFFER), now));
    let reinvite = world.take_one();
    world.receive(answer(&reinvite, 100, ""));
    world.command(|stack, now| stack.cancel(dialog, "", now));
    let cancel = world.take_one();
    assert_eq!(cancel.to_tag(), Some("bt"), "a CANCEL has the To of what it cancels");
    assert_eq!(cancel.request_uri(), reinvite.request_uri());
    world.receive(answer(&reinvite, 200, ""));
    assert_eq!(world.take_lines(), ["ACK"]);
    assert!(matches!(world.take_event(), Event::Reanswered { status: 200, .. }));
    world.run_until(120_000);
    assert!(world.stack.dialog(dialog).is_some());
    world.command(|stack, now| stack.bye(dialog, "", now));
    world.finish();
}

#[test]
fn canceled_reinvite_without_a_final_response_is_told_and_the_dialog_lives() {
    let mut world = World::new(udp());
    let (dialog, _) = world.outgoing(None);
    world.command(|stack, now| stack.reinvite(dialog, Bytes::from_static(OFFER), now));
    let reinvite = world.take_one();
    world.receive(answer(&reinvite, 180, ""));
    world.events.clear();
    world.command(|stack, now| stack.cancel(dialog, "", now));
    world.run_until(40_000);
    assert_eq!(world.take_event(), Event::Reanswered { dialog, status: 487, response: None });
    world.command(|stack, now| stack.bye(dialog, "", now));
    world.finish();
}

#[test]
fn bye_before_the_answer_is_a_cancel() {
    let mut world = World::new(udp());
    let (dialog, invite) = world.inviting(None);
    world.receive(answer(&invite, 180, "bt"));
    world.events.clear();
    world.command(|stack, now| stack.bye(dialog, "", now));
    assert_eq!(world.take_lines(), ["CANCEL"]);
    world.receive(answer(&invite, 487, "bt"));
    assert!(matches!(world.take_event(), Event::Refused { status: 487, .. }));
    world.finish();
}

#[test]
fn bye_of_the_callee_before_its_answer_gets_481_and_changes_nothing() {
    let mut world = World::new(udp());
    let (dialog, invite) = world.inviting(None);
    world.receive(answer(&invite, 180, "bt"));
    world.events.clear();
    let (tag, call_id) = (invite.from_tag().unwrap(), invite.call_id());
    world.receive(Ask { from_tag: "bt", call_id, ..Ask::inside("BYE", tag, 1) }.text());
    world.receive(Ask { from_tag: "bt", call_id, to_tag: tag, ..Ask::invite() }.text());
    assert_eq!(world.take_lines(), ["481 BYE", "491 INVITE"]);
    assert!(world.events.is_empty());
    world.receive(answer(&invite, 200, "bt"));
    assert!(matches!(world.take_event(), Event::Answered { .. }));
    world.command(|stack, now| stack.bye(dialog, "", now));
    world.finish();
}

#[test]
fn response_to_another_method_is_not_taken() {
    let mut world = World::new(udp());
    let (dialog, invite) = world.inviting(None);
    world.receive(answer(&invite, 200, "bt").replace("CSeq: 1 INVITE", "CSeq: 1 BYE"));
    assert!(world.events.is_empty() && world.take_lines().is_empty());
    assert_eq!(world.stack.counts().stray_responses, 1);
    world.command(|stack, now| stack.cancel(dialog, "", now));
    world.finish();
}

#[test]
fn connection_lost_fails_what_waits_on_it() {
    let lost = |flow: &Flow| flow.connection == tcp().connection;
    let mut world = World::new(tcp());
    let (dialog, _) = world.inviting(None);
    world.command(|stack, now| stack.handle_flow_failed(lost, now));
    assert_eq!(world.take_event(), Event::Refused { dialog, status: 503, response: None });
    world.finish();

    let mut world = World::new(tcp());
    let (dialog, invite) = world.outgoing(None);
    world.command(|stack, now| stack.reinvite(dialog, Bytes::from_static(OFFER), now));
    world.take_sent();
    world.command(|stack, now| stack.handle_flow_failed(lost, now));
    assert_eq!(world.take_event(), Event::Reanswered { dialog, status: 503, response: None });
    // The first answer may come again, by another connection.
    world.receive(answer(&invite, 200, "bt"));
    assert_eq!(world.take_lines(), ["ACK"]);
    world.command(|stack, now| stack.bye(dialog, "", now));
    world.command(|stack, now| stack.handle_flow_failed(lost, now));
    assert!(world.stack.dialog(dialog).is_none(), "a BYE that cannot be sent ends it all the same");
    assert!(world.events.is_empty());
    world.finish();
}

#[test]
fn credentials_answer_the_challenge_with_the_next_cseq() {
    let mut world = World::new(udp());
    let mut guard = Guard::new("carrier".into(), [1; 32], vec![Algorithm::Sha256, Algorithm::Md5]);
    let (dialog, invite) = world.inviting(Some(credentials()));
    let challenges: Vec<String> =
        guard.challenges(1_000, 7, false).iter().map(|value| format!("WWW-Authenticate: {value}\r\n")).collect();
    world.receive(answer_with(&invite, 401, "bt", &challenges.concat()));
    let sent = world.take_sent();
    assert_eq!(sent.iter().map(|(_, message)| line(message)).collect::<Vec<_>>(), ["ACK", "INVITE"]);
    assert!(world.events.is_empty(), "the owner waits on");
    let again = &sent[1].1;
    assert_eq!(again.cseq(), Some((2, "INVITE")));
    assert_eq!((again.call_id(), again.from_tag(), again.to_tag()), (invite.call_id(), invite.from_tag(), None));
    assert_ne!(again.top_via().unwrap().branch(), invite.top_via().unwrap().branch());
    assert_eq!((again.body(), again.other_header("X-Ours")), (invite.body(), Some("1")));
    let auth = AuthParams::parse(header(again, HeaderName::Authorization)).unwrap();
    assert_eq!(auth.get("algorithm"), Some("SHA-256"), "the stronger one");
    assert_eq!(guard.check(&auth, "INVITE", again.request_uri(), Some("secret"), 1_001), Ok(()));
    // The ACK of its answer has the same credentials.
    world.receive(answer(again, 200, "bt"));
    let ack = world.take_one();
    assert_eq!(header(&ack, HeaderName::Authorization), header(again, HeaderName::Authorization));
    world.command(|stack, now| stack.bye(dialog, "", now));
    world.finish();
}

const PROXY: &str = "Proxy-Authenticate: Digest realm=\"proxy\", nonce=\"np\", qop=\"auth\"\r\n";
const SERVER: &str = "WWW-Authenticate: Digest realm=\"server\", nonce=\"ns\", qop=\"auth\"\r\n";
const STALE: &str = "WWW-Authenticate: Digest realm=\"server\", nonce=\"n2\", qop=\"auth\", stale=true\r\n";

#[test]
fn challenge_that_comes_again_is_a_refusal_unless_its_nonce_was_stale() {
    let mut world = World::new(udp());
    let (dialog, invite) = world.inviting(Some(credentials()));
    world.receive(answer_with(&invite, 401, "bt", SERVER));
    let second = world.take_sent().pop().unwrap().1;
    world.receive(answer_with(&second, 401, "bt", STALE));
    let third = world.take_sent().pop().unwrap().1;
    assert!(header(&third, HeaderName::Authorization).contains("nonce=\"n2\""));
    world.receive(answer_with(&third, 401, "bt", SERVER));
    assert_eq!(world.take_lines(), ["ACK"]);
    assert!(matches!(world.take_event(), Event::Refused { dialog: of, status: 401, .. } if of == dialog));
    world.finish();
}

#[test]
fn stale_challenges_without_end_are_given_up() {
    let mut world = World::new(udp());
    let (_, mut invite) = world.inviting(Some(credentials()));
    for _ in 0..20 {
        if !world.events.is_empty() {
            break;
        }
        world.receive(answer_with(&invite, 401, "bt", STALE));
        invite = world.take_sent().pop().unwrap().1;
    }
    assert!(matches!(world.take_event(), Event::Refused { status: 401, .. }));
    world.finish();
}

#[test]
fn proxy_and_server_are_answered_together() {
    let mut world = World::new(udp());
    let (dialog, invite) = world.inviting(Some(credentials()));
    world.receive(answer_with(&invite, 407, "p", PROXY));
    let second = world.take_sent().pop().unwrap().1;
    assert!(second.header(HeaderName::Authorization).is_none());
    world.receive(answer_with(&second, 401, "s", SERVER));
    let third = world.take_sent().pop().unwrap().1;
    let proxy = AuthParams::parse(header(&third, HeaderName::ProxyAuthorization)).unwrap();
    let server = AuthParams::parse(header(&third, HeaderName::Authorization)).unwrap();
    assert_eq!((proxy.get("realm"), proxy.get("nc")), (Some("proxy"), Some("00000002")), "the nonce is used again");
    assert_eq!((server.get("realm"), server.get("nc")), (Some("server"), Some("00000001")));
    let challenge = PROXY.split_once(": ").unwrap().1.trim();
    let cnonce = proxy.get("cnonce").unwrap();
    let expected = digest_answer([challenge].into_iter(), &credentials(), "INVITE", third.request_uri(), cnonce, 2);
    assert_eq!(expected.as_deref(), third.header(HeaderName::ProxyAuthorization));
    world.receive(answer(&third, 200, "bt"));
    world.command(|stack, now| stack.bye(dialog, "", now));
    world.finish();
}

#[test]
fn threat_43_challenge_is_not_answered_without_credentials_or_after_a_cancel() {
    for (credentials, canceled, challenge) in [
        (None, false, SERVER),
        (Some(credentials()), true, SERVER),
        (Some(credentials()), false, "WWW-Authenticate: Basic realm=\"server\"\r\n"),
        (Some(credentials()), false, "WWW-Authenticate: Digest realm=\"server\", nonce=\"n\", algorithm=SHA-512\r\n"),
        (Some(credentials()), false, PROXY),
        (Some(credentials()), false, ""),
        (Some(credentials_for("carrier")), false, SERVER),
    ] {
        let mut world = World::new(udp());
        let (dialog, invite) = world.inviting(credentials);
        if canceled {
            world.command(|stack, now| stack.cancel(dialog, "", now));
        }
        world.receive(answer_with(&invite, 401, "bt", challenge));
        assert_eq!(world.take_lines(), ["ACK"], "{challenge}");
        assert!(matches!(world.take_event(), Event::Refused { status: 401, .. }));
        world.finish();
    }
}

#[test]
fn threat_43_of_two_challenges_that_of_the_own_realm_is_answered() {
    let mut world = World::new(udp());
    let (dialog, invite) = world.inviting(Some(credentials_for("server")));
    let other = "WWW-Authenticate: Digest realm=\"other\", nonce=\"no\", qop=\"auth\", algorithm=SHA-256\r\n";
    world.receive(answer_with(&invite, 401, "bt", &format!("{other}{SERVER}")));
    let again = world.take_sent().pop().unwrap().1;
    let auth = AuthParams::parse(header(&again, HeaderName::Authorization)).unwrap();
    assert_eq!((auth.get("realm"), auth.get("nonce")), (Some("server"), Some("ns")));
    assert_eq!(again.headers(HeaderName::Authorization).count(), 1);
    // Another's stale nonce is no reason to try again.
    let stale = other.replace("qop=\"auth\"", "stale=true");
    world.receive(answer_with(&again, 401, "bt", &format!("{stale}{SERVER}")));
    assert_eq!(world.take_lines(), ["ACK"]);
    assert!(matches!(world.take_event(), Event::Refused { dialog: of, status: 401, .. } if of == dialog));
    world.finish();
}

#[test]
fn threat_43_inside_the_dialog_too_another_realm_is_not_answered() {
    let mut world = World::new(udp());
    let (dialog, _) = world.outgoing(Some(credentials_for("carrier")));
    world.command(|stack, now| stack.reinvite(dialog, Bytes::from_static(OFFER), now));
    let reinvite = world.take_one();
    world.receive(answer_with(&reinvite, 407, "", PROXY));
    assert_eq!(world.take_lines(), ["ACK"]);
    assert!(matches!(world.take_event(), Event::Reanswered { status: 407, .. }));
    world.command(|stack, now| stack.bye(dialog, "", now));
    let bye = world.take_one();
    world.receive(answer_with(&bye, 407, "", PROXY));
    assert!(world.take_lines().is_empty() && world.stack.dialog(dialog).is_none());
    world.finish();
}

#[test]
fn reinvite_and_bye_are_authorized_also_after_one_that_failed() {
    let mut world = World::new(udp());
    let (dialog, _) = world.outgoing(Some(credentials()));
    world.command(|stack, now| stack.reinvite(dialog, Bytes::from_static(OFFER), now));
    let first = world.take_one();
    world.receive(answer(&first, 500, ""));
    assert!(matches!(world.take_event(), Event::Reanswered { status: 500, .. }));
    world.take_sent();

    world.command(|stack, now| stack.reinvite(dialog, Bytes::from_static(OFFER), now));
    let second = world.take_one();
    world.receive(answer_with(&second, 407, "", PROXY));
    let third = world.take_sent().pop().unwrap().1;
    assert_eq!((line(&third).as_str(), third.to_tag()), ("INVITE", Some("bt")));
    assert_eq!(third.cseq().unwrap().0, second.cseq().unwrap().0 + 1);
    assert!(third.header(HeaderName::ProxyAuthorization).is_some());
    world.receive(answer(&third, 200, ""));
    assert!(matches!(world.take_event(), Event::Reanswered { status: 200, .. }));
    world.take_sent();

    world.command(|stack, now| stack.bye(dialog, "SIP;cause=200", now));
    let bye = world.take_one();
    world.receive(answer_with(&bye, 407, "", PROXY));
    let authorized = world.take_one();
    assert_eq!(authorized.cseq(), Some((bye.cseq().unwrap().0 + 1, "BYE")));
    assert_eq!(header(&authorized, HeaderName::Reason), "SIP;cause=200");
    let auth = AuthParams::parse(header(&authorized, HeaderName::ProxyAuthorization)).unwrap();
    assert_eq!(auth.get("uri"), Some(authorized.request_uri()));
    // Once only.
    world.receive(answer_with(&authorized, 407, "", PROXY));
    assert!(world.take_lines().is_empty() && world.stack.dialog(dialog).is_none());
    world.finish();
}
