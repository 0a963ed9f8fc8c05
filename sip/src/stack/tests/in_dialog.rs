//! Requests inside a dialog: order, overlap, glare, the end.

use super::*;
use crate::stack::usage::Phase;

#[test]
fn threat_39_right_tags_with_another_call_id_get_481() {
    let mut world = World::new(udp());
    let (dialog, tag) = world.incoming();
    for ask in [
        Ask { call_id: "another", ..Ask::inside("BYE", &tag, 11) },
        Ask { from_tag: "another", ..Ask::inside("BYE", &tag, 12) },
        Ask { from_tag: "", ..Ask::inside("BYE", &tag, 13) },
        Ask::inside("BYE", &tag.to_ascii_uppercase(), 14),
    ] {
        world.receive(ask.text());
        assert_eq!(world.take_lines(), ["481 BYE"]);
    }
    assert!(world.events.is_empty() && world.stack.dialog(dialog).is_some());
    world.receive(Ask::inside("BYE", &tag, 15).text());
    assert_eq!(world.take_lines(), ["200 BYE"]);
    world.finish();
}

#[test]
fn cseq_that_does_not_grow_gets_500() {
    let mut world = World::new(udp());
    let (_, tag) = world.incoming();
    for (method, cseq) in [("INFO", 10), ("INFO", 9), ("BYE", 10), ("INVITE", 10)] {
        let more = Ask::invite().more;
        world.receive(Ask { branch: "late", more, ..Ask::inside(method, &tag, cseq) }.text());
        assert_eq!(world.take_lines(), [format!("500 {method}")]);
    }
    assert!(world.events.is_empty());
    // Gaps are allowed.
    world.receive(Ask::inside("BYE", &tag, 5_000).text());
    assert_eq!(world.take_lines(), ["200 BYE"]);
    world.finish();
}

#[test]
fn info_is_told_and_answered_by_the_owner() {
    let mut world = World::new(udp());
    let (dialog, tag) = world.incoming();
    let info = Ask::inside("INFO", &tag, 11).text();
    world.receive(info.clone());
    let Event::InDialog { dialog: of, transaction, request } = world.take_event() else { panic!("not told") };
    assert_eq!(of, dialog);
    world.receive(info.clone());
    assert!(world.events.is_empty(), "a retransmission is not told");
    world.command(|stack, now| stack.reply(transaction, &request, &Reply::new(200), now));
    let ok = world.take_one();
    world.receive(info);
    assert_eq!(world.take_one(), ok);
    world.receive(Ask::inside("BYE", &tag, 12).text());
    world.finish();
}

#[test]
fn reinvite_is_told_answered_and_acknowledged() {
    let mut world = World::new(udp());
    let (dialog, tag) = world.incoming();
    let more = "Contact: <sip:peer@203.0.113.9:5099>\r\n";
    world.receive(Ask { cseq: 11, to_tag: &tag, more, ..Ask::invite() }.text());
    assert_eq!(world.take_lines(), ["100 INVITE"]);
    assert!(matches!(world.take_event(), Event::Reoffered { .. }));
    world.command(|stack, now| stack.answer(dialog, Bytes::from_static(ANSWER), now));
    let ok = world.take_one();
    assert_eq!((ok.to_tag(), ok.body().as_ref()), (Some(tag.as_str()), ANSWER));
    world.receive(Ask::inside("ACK", &tag, 11).text());
    assert!(matches!(world.take_event(), Event::Acked { .. }));
    // It refreshed the target.
    world.command(|stack, now| stack.bye(dialog, "", now));
    assert_eq!(world.sent[0].1.flow.remote, "203.0.113.9:5099".parse().unwrap());
    let bye = world.take_one();
    world.receive(answer(&bye, 200, ""));
    world.finish();
}

#[test]
fn reinvite_refused_leaves_the_dialog() {
    let mut world = World::new(udp());
    let (dialog, tag) = world.incoming();
    world.receive(Ask { cseq: 11, to_tag: &tag, ..Ask::invite() }.text());
    world.events.clear();
    world.command(|stack, now| stack.decline(dialog, &Reply::new(488), now));
    assert_eq!(world.take_lines(), ["100 INVITE", "488 INVITE"]);
    assert!(world.stack.dialog(dialog).is_some());
    world.receive(Ask::inside("BYE", &tag, 12).text());
    world.finish();
}

#[test]
fn overlapping_reinvite_gets_500_with_retry_after() {
    let mut world = World::new(udp());
    let (dialog, tag) = world.incoming();
    world.receive(Ask { branch: "one", cseq: 11, to_tag: &tag, ..Ask::invite() }.text());
    let overlaps = |world: &mut World, cseq: u32| {
        world.take_sent();
        world.receive(Ask { branch: "two", cseq, to_tag: &tag, ..Ask::invite() }.text());
        let refusal = world.take_one();
        let seconds: u32 = header(&refusal, HeaderName::RetryAfter).parse().unwrap();
        assert!(refusal.status() == 500 && (1..=9).contains(&seconds), "{refusal:?}");
    };
    overlaps(&mut world, 12);
    world.command(|stack, now| stack.answer(dialog, Bytes::from_static(ANSWER), now));
    // Until its ACK the first is not settled.
    overlaps(&mut world, 13);
    world.receive(Ask::inside("ACK", &tag, 11).text());
    world.receive(Ask { branch: "three", cseq: 14, to_tag: &tag, ..Ask::invite() }.text());
    assert_eq!(world.take_lines(), ["100 INVITE"]);
    world.receive(Ask::inside("BYE", &tag, 15).text());
    assert_eq!(world.take_lines(), ["200 BYE", "487 INVITE"]);
    world.finish();
}

#[test]
fn reinvite_while_ours_is_open_gets_491() {
    let mut world = World::new(udp());
    let (dialog, tag) = world.incoming();
    world.command(|stack, now| stack.reinvite(dialog, Bytes::from_static(OFFER), now));
    let ours = world.take_one();
    world.receive(Ask { cseq: 11, to_tag: &tag, ..Ask::invite() }.text());
    assert_eq!(world.take_lines(), ["491 INVITE"]);
    assert!(world.events.is_empty());
    world.receive(answer(&ours, 200, ""));
    assert!(matches!(world.take_event(), Event::Reanswered { status: 200, .. }));
    assert_eq!(world.take_lines(), ["ACK"]);
    world.receive(Ask { cseq: 12, to_tag: &tag, ..Ask::invite() }.text());
    assert_eq!(world.take_lines(), ["100 INVITE"], "settled: the peer's turn");
    world.receive(Ask::inside("BYE", &tag, 13).text());
    world.finish();
}

#[test]
fn reinvite_that_got_491_is_tried_again_within_the_window_of_its_role() {
    for (ours, from, to) in [(true, 2_100, 4_000), (false, 0, 2_000)] {
        let mut world = World::new(udp());
        let dialog = if ours { world.outgoing(None).0 } else { world.incoming().0 };
        world.command(|stack, now| stack.reinvite(dialog, Bytes::from_static(OFFER), now));
        let first = world.take_one();
        world.receive(answer(&first, 491, ""));
        assert_eq!(world.take_lines(), ["ACK"]);
        assert!(world.events.is_empty(), "the owner waits on");
        world.run_until(to);
        let again = world.take_sent();
        let cseq = again[0].1.cseq();
        assert!(again.iter().all(|(_, invite)| invite.cseq() == cseq), "one, and its retransmissions: {again:?}");
        assert!((from..=to).contains(&again[0].0), "{}", again[0].0);
        assert_eq!(again[0].1.body(), first.body());
        assert_eq!(again[0].1.cseq().unwrap().0, first.cseq().unwrap().0 + 1);
        world.receive(answer(&again[0].1, 200, ""));
        assert!(matches!(world.take_event(), Event::Reanswered { status: 200, .. }));
        world.command(|stack, now| stack.bye(dialog, "", now));
        world.finish();
    }
}

#[test]
fn offer_that_met_the_peers_own_is_not_made_again_once_that_is_answered() {
    let mut world = World::new(udp());
    let (dialog, tag) = world.incoming();
    world.command(|stack, now| stack.reinvite(dialog, Bytes::from_static(OFFER), now));
    let first = world.take_one();
    world.receive(answer(&first, 491, ""));
    world.receive(Ask { cseq: 11, to_tag: &tag, ..Ask::invite() }.text());
    world.command(|stack, now| stack.answer(dialog, Bytes::from_static(ANSWER), now));
    world.receive(Ask::inside("ACK", &tag, 11).text());
    world.take_sent();
    world.run_until(10_000);
    assert!(world.take_lines().is_empty(), "the answer was newer than the offer");
    world.receive(Ask::inside("BYE", &tag, 12).text());
    world.finish();
}

#[test]
fn what_waits_for_an_answer_follows_the_peer_to_another_connection() {
    let gone = Flow { transport: Transport::Ws, ..tcp() };
    let mut world = World::new(gone);
    let (dialog, tag) = world.incoming();
    world.command(|stack, now| stack.reinvite(dialog, Bytes::from_static(OFFER), now));
    let first = world.take_one();
    let later = Flow { connection: Some(ConnectionId(8)), ..gone };
    assert_eq!(world.stack.reached_at("sip:peer@203.0.113.9;transport=ws", later).collect::<Vec<_>>(), [dialog]);
    assert_eq!(world.stack.reached_at("sip:another@203.0.113.9", later).next(), None);
    assert_eq!(world.stack.reached_at("sip:peer@203.0.113.9", tcp()).next(), None);
    world.command(|stack, _| stack.follow(dialog, later));
    let sent = std::mem::take(&mut world.sent);
    assert!(sent.iter().all(|(_, transmit)| transmit.flow == later) && sent.len() == 1);
    assert_eq!(world.stack.reached_at("sip:peer@203.0.113.9", later).next(), None);
    world.receive_by(later, answer_with(&first, 200, "", "Contact: <sip:peer@203.0.113.9;transport=ws>\r\n"));
    assert!(matches!(world.take_event(), Event::Reanswered { status: 200, .. }));
    assert!(world.sent.iter().all(|(_, transmit)| transmit.flow == later));
    world.take_sent();
    // The connection that is gone takes nothing with it.
    world.command(|stack, now| stack.handle_flow_failed(|flow| *flow == gone, now));
    assert!(world.events.is_empty());
    world.receive_by(later, Ask::inside("BYE", &tag, 12).text());
    world.finish();
}

#[test]
fn reinvite_while_busy_waits_and_a_later_offer_takes_its_place() {
    let mut world = World::new(udp());
    let (dialog, tag) = world.incoming();
    world.receive(Ask { cseq: 11, to_tag: &tag, ..Ask::invite() }.text());
    world.take_sent();
    world.command(|stack, now| stack.reinvite(dialog, Bytes::from_static(b"old"), now));
    world.command(|stack, now| stack.answer(dialog, Bytes::from_static(ANSWER), now));
    world.receive(Ask::inside("ACK", &tag, 11).text());
    assert_eq!(world.take_lines(), ["200 INVITE"]);
    world.command(|stack, now| stack.reinvite(dialog, Bytes::from_static(b"new"), now));
    let offer = world.take_one();
    assert_eq!(offer.body().as_ref(), b"new");
    world.receive(answer(&offer, 200, ""));
    assert_eq!(world.take_lines(), ["ACK"]);
    world.run_until(10_000);
    assert!(world.take_lines().is_empty(), "the old offer is not sent after the new one");
    world.receive(Ask::inside("BYE", &tag, 12).text());
    world.finish();
}

#[test]
fn cancel_of_a_reinvite_ends_that_alone() {
    let mut world = World::new(udp());
    let (dialog, tag) = world.incoming();
    let reinvite = Ask { cseq: 11, to_tag: &tag, ..Ask::invite() };
    world.receive(reinvite.text());
    world.take_sent();
    assert!(matches!(world.take_event(), Event::Reoffered { .. }));
    let cancel = Ask { method: "CANCEL", more: "", body: b"", ..reinvite }.text();
    world.receive(cancel.clone());
    let sent = world.take_sent();
    assert_eq!(sent.iter().map(|(_, message)| line(message)).collect::<Vec<_>>(), ["200 CANCEL", "487 INVITE"]);
    assert!(sent.iter().all(|(_, message)| message.to_tag() == Some(&tag)), "{sent:?}");
    assert_eq!(world.take_event(), Event::ReofferCanceled { dialog });
    // It comes again, and its owner answers after all: neither changes anything.
    world.receive(cancel);
    world.command(|stack, now| stack.answer(dialog, Bytes::from_static(ANSWER), now));
    assert_eq!(world.take_lines(), ["200 CANCEL"]);
    assert!(world.events.is_empty() && world.stack.dialog(dialog).is_some());
    world.receive(Ask { method: "ACK", more: "", body: b"", ..reinvite }.text());
    world.receive(Ask { branch: "next", cseq: 12, to_tag: &tag, ..Ask::invite() }.text());
    assert!(matches!(world.take_event(), Event::Reoffered { .. }));
    world.command(|stack, now| stack.decline(dialog, &Reply::new(488), now));
    world.take_sent();
    world.receive(Ask::inside("BYE", &tag, 13).text());
    assert_eq!(world.take_lines(), ["200 BYE"]);
    world.finish();
}

#[test]
fn cancel_of_a_reinvite_that_is_answered_changes_nothing() {
    for accept in [true, false] {
        let mut world = World::new(udp());
        let (dialog, tag) = world.incoming();
        let reinvite = Ask { cseq: 11, to_tag: &tag, ..Ask::invite() };
        world.receive(reinvite.text());
        world.events.clear();
        if accept {
            world.command(|stack, now| stack.answer(dialog, Bytes::from_static(ANSWER), now));
        } else {
            world.command(|stack, now| stack.decline(dialog, &Reply::new(488), now));
        }
        world.take_sent();
        world.receive(Ask { method: "CANCEL", more: "", body: b"", ..reinvite }.text());
        assert_eq!(world.take_lines(), ["200 CANCEL"]);
        assert!(world.events.is_empty(), "{:?}", world.events);
        world.receive(Ask { method: "ACK", branch: "ack", more: "", body: b"", ..reinvite }.text());
        world.receive(Ask::inside("BYE", &tag, 12).text());
        world.finish();
    }
}

#[test]
fn cancel_of_a_reinvite_that_was_refused_leaves_the_one_that_waits() {
    let mut world = World::new(udp());
    let (dialog, tag) = world.incoming();
    world.receive(Ask { branch: "one", cseq: 11, to_tag: &tag, ..Ask::invite() }.text());
    let overlapping = Ask { branch: "two", cseq: 12, to_tag: &tag, ..Ask::invite() };
    world.receive(overlapping.text());
    world.take_sent();
    world.events.clear();
    world.receive(Ask { method: "CANCEL", more: "", body: b"", ..overlapping }.text());
    assert_eq!(world.take_lines(), ["200 CANCEL"]);
    assert!(world.events.is_empty(), "{:?}", world.events);
    world.command(|stack, now| stack.answer(dialog, Bytes::from_static(ANSWER), now));
    assert_eq!(world.take_lines(), ["200 INVITE"]);
    world.receive(Ask::inside("ACK", &tag, 11).text());
    world.receive(Ask::inside("BYE", &tag, 13).text());
    world.finish();
}

#[test]
fn crossing_byes_are_both_answered() {
    let mut world = World::new(udp());
    let (dialog, tag) = world.incoming();
    world.command(|stack, now| stack.bye(dialog, "", now));
    let ours = world.take_one();
    let theirs = Ask::inside("BYE", &tag, 11).text();
    world.receive(theirs.clone());
    assert_eq!(world.take_lines(), ["200 BYE"]);
    world.receive(theirs);
    assert_eq!(world.take_lines(), ["200 BYE"], "a retransmission gets its answer again");
    assert!(world.events.is_empty(), "the owner ended it itself");
    world.receive(answer(&ours, 481, ""));
    assert!(world.events.is_empty() && world.stack.dialog(dialog).is_none());
    world.finish();
}

#[test]
fn what_comes_after_our_bye_gets_481() {
    let mut world = World::new(udp());
    let (dialog, tag) = world.incoming();
    world.command(|stack, now| stack.bye(dialog, "", now));
    world.take_sent();
    for (method, cseq) in [("INFO", 11), ("INVITE", 12)] {
        world.receive(Ask { more: Ask::invite().more, ..Ask::inside(method, &tag, cseq) }.text());
        assert_eq!(world.take_lines(), [format!("481 {method}")]);
    }
    assert!(world.events.is_empty());
    world.finish();
}

#[test]
fn bye_without_an_answer_is_given_up_after_32_s() {
    let mut world = World::new(udp());
    let (dialog, _) = world.incoming();
    world.command(|stack, now| stack.bye(dialog, "", now));
    world.run_until(31_999);
    assert_eq!(world.stack.open_dialogs(), 1);
    let at = [0, 500, 1_500, 3_500, 7_500, 11_500, 15_500, 19_500, 23_500, 27_500, 31_500];
    assert_eq!(world.take_times("BYE"), at);
    world.run_until(32_000);
    assert_eq!(world.stack.open_dialogs(), 0);
    world.finish();
}

#[test]
fn bye_ends_a_reinvite_of_the_peer_that_waits_for_its_answer() {
    let mut world = World::new(udp());
    let (dialog, tag) = world.incoming();
    world.receive(Ask { cseq: 11, to_tag: &tag, ..Ask::invite() }.text());
    world.take_sent();
    world.command(|stack, now| stack.bye(dialog, "", now));
    assert_eq!(world.take_lines(), ["487 INVITE", "BYE"]);
    world.finish();
}

/// However our re-INVITE ends after the dialog did, by whom ever, it is acknowledged and nothing is left.
#[test]
fn end_of_the_dialog_while_our_reinvite_is_open_leaves_nothing() {
    for by_us in [true, false] {
        for provisional in [true, false] {
            for outcome in [0, 200, 481, 487, 491, 500] {
                let mut world = World::new(udp());
                let (dialog, tag) = world.incoming();
                world.command(|stack, now| stack.reinvite(dialog, Bytes::from_static(OFFER), now));
                let reinvite = world.take_one();
                if provisional {
                    world.receive(answer(&reinvite, 100, ""));
                }
                if by_us {
                    world.command(|stack, now| stack.bye(dialog, "", now));
                    let bye = world.take_one();
                    world.receive(answer(&bye, 200, ""));
                    assert!(world.events.is_empty());
                } else {
                    world.receive(Ask::inside("BYE", &tag, 11).text());
                    assert_eq!(world.take_lines(), ["200 BYE"]);
                    assert!(matches!(world.take_event(), Event::Ended { bye: Some(_), .. }));
                }
                if outcome > 0 {
                    world.receive(answer(&reinvite, outcome, ""));
                    let ack = world.take_one();
                    assert_eq!((line(&ack).as_str(), ack.cseq()), ("ACK", Some((reinvite.cseq().unwrap().0, "ACK"))));
                    assert_eq!(world.stack.open_dialogs(), 0, "{by_us} {provisional} {outcome}");
                }
                assert!(world.events.is_empty(), "{:?}", world.events);
                world.finish();
            }
        }
    }
}

/// The same while our BYE has no answer yet.
#[test]
fn outcome_of_our_reinvite_before_that_of_our_bye_leaves_nothing() {
    for outcome in [200, 481, 487, 491] {
        let mut world = World::new(udp());
        let (dialog, _) = world.incoming();
        world.command(|stack, now| stack.reinvite(dialog, Bytes::from_static(OFFER), now));
        let reinvite = world.take_one();
        world.command(|stack, now| stack.bye(dialog, "", now));
        let bye = world.take_one();
        world.receive(answer(&reinvite, outcome, ""));
        assert_eq!(world.take_lines(), ["ACK"]);
        assert_eq!(world.stack.open_dialogs(), 1, "the BYE is open");
        world.receive(answer(&bye, 200, ""));
        assert_eq!(world.stack.open_dialogs(), 0);
        assert!(world.events.is_empty());
        world.finish();
    }
}

#[test]
fn peer_that_knows_the_dialog_no_more_ends_it() {
    for status in [408, 481] {
        let mut world = World::new(udp());
        let (dialog, _) = world.incoming();
        world.command(|stack, now| stack.reinvite(dialog, Bytes::from_static(OFFER), now));
        let reinvite = world.take_one();
        world.receive(answer(&reinvite, status, ""));
        assert_eq!(world.take_lines(), ["ACK", "BYE"]);
        assert_eq!(world.take_event(), Event::Ended { dialog, bye: None });
        world.finish();
    }
}

#[test]
fn other_failures_of_a_reinvite_leave_the_dialog() {
    let mut world = World::new(udp());
    let (dialog, tag) = world.incoming();
    for status in [488, 500, 603] {
        world.command(|stack, now| stack.reinvite(dialog, Bytes::from_static(OFFER), now));
        let reinvite = world.take_one();
        world.receive(answer(&reinvite, status, ""));
        assert_eq!(world.take_lines(), ["ACK"]);
        match world.take_event() {
            Event::Reanswered { status: told, .. } => assert_eq!(told, status),
            other => panic!("{other:?}"),
        }
    }
    world.receive(Ask::inside("BYE", &tag, 11).text());
    world.finish();
}

#[test]
fn long_dialog_keeps_nothing_of_its_invites_but_what_it_needs() {
    let mut world = World::new(udp());
    let (dialog, invite) = world.outgoing(Some(credentials()));
    for round in 0..5 {
        world.command(|stack, now| stack.reinvite(dialog, Bytes::from_static(OFFER), now));
        let reinvite = world.take_one();
        world.receive(answer(&reinvite, 200, ""));
        world.take_sent();
        let from_tag = invite.to_tag().unwrap_or("bt");
        let theirs = Ask {
            cseq: 20 + round,
            to_tag: invite.from_tag().unwrap(),
            from_tag,
            call_id: invite.call_id(),
            ..Ask::invite()
        };
        world.receive(theirs.text());
        world.command(|stack, now| stack.answer(dialog, Bytes::from_static(ANSWER), now));
        world.receive(Ask { method: "ACK", branch: "ack", body: b"", more: "", ..theirs }.text());
        world.take_sent();
    }
    assert_eq!(world.stack.usages[&dialog].acks.len(), 6, "each until its INVITE is settled");
    world.run_until(40_000);
    let usage = &world.stack.usages[&dialog];
    assert_eq!(usage.phase, Phase::Confirmed);
    assert!(usage.acks.is_empty() && usage.outgoing.is_none() && usage.incoming.is_none());
    assert!(usage.unacknowledged.is_none() && usage.retry.is_none());
    assert!(world.stack.table.is_empty() && world.stack.merging.is_empty());
    assert_eq!(world.stack.table.queued(), 0, "no timer runs for a quiet dialog");
    world.events.clear();
    world.command(|stack, now| stack.reinvite(dialog, Bytes::from_static(OFFER), now));
    assert_eq!(world.take_lines(), ["INVITE"], "its transaction gone, the next may begin");
    world.command(|stack, now| stack.bye(dialog, "", now));
    world.finish();
}

#[test]
fn dialog_has_one_timer_in_the_queue_however_often_it_is_armed() {
    let mut world = World::new(udp());
    let (dialog, tag) = world.incoming();
    world.run_until(60_000);
    world.receive(Ask { cseq: 11, to_tag: &tag, ..Ask::invite() }.text());
    let before = world.stack.table.queued();
    for _ in 0..10 {
        world.command(|stack, now| stack.reinvite(dialog, Bytes::from_static(OFFER), now));
    }
    // An earlier deadline is queued besides a later one; never the same twice.
    assert!(world.stack.table.queued() - before <= 5, "{}", world.stack.table.queued());
    world.run_until(100_000);
    assert!(world.stack.table.queued() <= 1, "{}", world.stack.table.queued());
    world.receive(Ask::inside("BYE", &tag, 12).text());
    world.finish();
}

#[test]
fn what_became_of_a_refer_is_told_by_notify_and_of_a_later_one_by_its_number() {
    let mut world = World::new(udp());
    let (dialog, tag) = world.incoming();
    world.command(|stack, now| stack.notify_refer(dialog, 200, now));
    assert!(world.take_sent().is_empty(), "nobody asked");
    for (cseq, status, event, line) in
        [(11, 603, "refer", "SIP/2.0 603 Decline\r\n"), (12, 200, "refer;id=12", "SIP/2.0 200 OK\r\n")]
    {
        world.receive(Ask::inside("REFER", &tag, cseq).text());
        let Event::InDialog { transaction, request, .. } = world.take_event() else { panic!("not told") };
        world.command(|stack, now| stack.reply(transaction, &request, &Reply::new(202), now));
        assert_eq!(world.take_lines(), ["202 REFER"]);
        world.command(|stack, now| stack.notify_refer(dialog, status, now));
        let notify = world.take_one();
        assert_eq!((header(&notify, HeaderName::Event), notify.body().as_ref()), (event, line.as_bytes()));
        assert_eq!(notify.other_header("Subscription-State"), Some("terminated;reason=noresource"));
        assert_eq!(notify.content_type().as_deref(), Some("message/sipfrag"));
        assert!(header(&notify, HeaderName::Contact).starts_with("<sip:"));
        world.receive(answer(&notify, 200, &tag));
    }
    world.receive(Ask::inside("BYE", &tag, 13).text());
    world.finish();
}
