//! How many calls and participants an account may have at once, whatever happens to them.

use std::time::Duration;

use dialtone::concurrency::Resource;
use dialtone::edges::EdgeId;
use dialtone::events::{CallStatus, Direction};
use dialtone::hot::{Answer, Command};
use dialtone_sip::msg::HeaderName;

use crate::phone::{Saw, Script};
use crate::world::{Says, SharedHot, World, header};

const CARRIER: &str = "198.51.100.9:5060";
const ECHO: &str = "+15552000000";

fn world(limits: &str) -> World {
    World::with_config(1, &format!("own_limits = {limits}"), |asked| match asked.url.as_str() {
        "http://app/voice" => Says::Twiml("<Response><Dial action=\"/after\">+15553334444</Dial></Response>"),
        _ => Says::Twiml("<Response><Hangup/></Response>"),
    })
}

fn call_all(world: &mut World, callers: &[usize]) {
    for caller in callers {
        world.call_from(*caller, ECHO);
    }
}

fn second(world: &mut World) {
    world.run_for(Duration::from_secs(1));
}

#[test]
fn cc_15_one_too_many_gets_503_with_the_reason_and_has_a_record() {
    let mut world = world("{ calls = 3 }");
    let callers: Vec<usize> = (0..5).map(|_| world.add_caller()).collect();
    call_all(&mut world, &callers);
    second(&mut world);
    let answered = callers.iter().filter(|caller| world.saw(**caller).contains(&Saw::Answered)).count();
    let refused = callers.iter().filter(|caller| world.saw(**caller).contains(&Saw::Refused(503))).count();
    assert_eq!((answered, refused), (3, 2));
    let told = world.sent("503");
    assert_eq!(told.len(), 2);
    assert!(told.iter().all(|message| header(message, HeaderName::RetryAfter).parse::<u32>().is_ok()));
    assert!(told.iter().all(|message| header(message, HeaderName::Reason).contains("as many calls at once as it may")));
    assert_eq!(world.notices(), [10_004, 10_004]);
    let failed: Vec<_> = world.records().into_iter().filter(|record| record.status == CallStatus::Failed).collect();
    assert_eq!(failed.len(), 2);
    assert!(failed.iter().all(|record| record.completed.as_ref().is_some_and(|end| end.sip_status == 503)));
    // As soon as one has ended there is room again.
    world.hang_up(callers[0]);
    second(&mut world);
    let next = world.add_caller();
    world.call_from(next, ECHO);
    second(&mut world);
    assert!(world.saw(next).contains(&Saw::Answered));
    callers[1..3].iter().chain([&next]).for_each(|caller| world.hang_up(*caller));
    world.close_books();
    assert_eq!(world.held(Resource::Calls), 0);
}

#[test]
fn a_flood_of_refused_calls_leaves_few_records() {
    let mut world = world("{ calls = 0 }");
    for _ in 0..100 {
        let caller = world.add_caller();
        world.call_from(caller, ECHO);
    }
    second(&mut world);
    assert_eq!(world.sent("503").len(), 100);
    assert_eq!(world.records().len(), 10, "of one second");
    world.close_books();
}

#[test]
fn cc_07_bye_of_both_sides_at_once_and_cancel_that_meets_the_answer_give_one_place_back() {
    for seed in 0..20 {
        let mut world = World::with_config(seed, "own_limits = { calls = 4 }", |asked| match asked.url.as_str() {
            "http://app/voice" => Says::Twiml("<Response><Dial timeLimit=\"1\">+15553334444</Dial></Response>"),
            _ => Says::Nothing,
        });
        world.network.jitter = Duration::from_millis(seed);
        world.network.duplicates = 0.3;
        let carrier = world.add_phone(CARRIER, Script::Answer(Duration::from_millis(500)));
        let caller = world.add_caller();
        world.call_from(caller, "+15551000000");
        world.run_for(Duration::from_millis(495 + seed));
        assert_eq!(world.held(Resource::Calls), 2, "the call and the one that it has dialled");
        if seed % 2 == 0 {
            // It takes its INVITE back as the callee answers.
            world.take_back(caller);
        } else {
            // The time limit of the <Dial> ends what both hang up.
            world.run_for(Duration::from_millis(1_005));
            world.hang_up(caller);
            if !world.phones[carrier].dialogs.is_empty() {
                world.hang_up(carrier);
            }
        }
        world.close_books();
        assert_eq!(world.held(Resource::Calls), 0, "seed {seed}");
    }
}

#[test]
fn what_a_dial_may_not_call_is_told_to_its_document() {
    let mut world = world("{ calls = 1 }");
    world.add_phone(CARRIER, Script::AnswerAtOnce);
    world.call("+15551000000");
    second(&mut world);
    let after = world.asked.iter().find(|asked| asked.url == "http://app/after").expect("the <Dial> is over");
    assert_eq!(after.get("DialCallStatus"), "failed");
    assert_eq!(world.notices(), [10_004]);
    world.close_books();
}

#[test]
fn a_number_of_our_own_that_is_dialled_takes_a_place_too() {
    for (limit, is_called) in [(2, false), (3, true)] {
        let limits = format!("own_limits = {{ calls = {limit} }}");
        let mut world = World::with_config(3, &limits, |asked| match asked.url.as_str() {
            "http://app/voice" => Says::Twiml("<Response><Dial action=\"/after\">+15552000000</Dial></Response>"),
            _ => Says::Twiml("<Response><Hangup/></Response>"),
        });
        world.call("+15551000000");
        second(&mut world);
        assert_eq!(world.held(Resource::Calls), if is_called { 3 } else { 0 });
        let inbound = world.records().iter().filter(|record| record.direction == Direction::Inbound).count();
        assert_eq!(inbound, if is_called { 2 } else { 1 });
        if is_called {
            world.hang_up(0);
        }
        world.close_books();
    }
}

#[test]
fn cc_14_who_may_wait_is_answered_when_another_has_ended_or_leaves_or_is_refused_in_time() {
    let mut world = world("{ calls = 1, when_full = \"delay\", wait = \"5s\" }");
    let callers: Vec<usize> = (0..4).map(|_| world.add_caller()).collect();
    call_all(&mut world, &callers);
    second(&mut world);
    assert_eq!(world.sent("100").len(), 3, "who waits is told to");
    world.take_back(callers[1]);
    world.hang_up(callers[0]);
    second(&mut world);
    assert!(world.saw(callers[1]).contains(&Saw::Refused(487)));
    assert!(world.saw(callers[2]).contains(&Saw::Answered), "the first of those who wait");
    world.run_for(Duration::from_secs(4));
    assert!(world.saw(callers[3]).contains(&Saw::Refused(503)), "it has waited for five seconds");
    world.hang_up(callers[2]);
    world.close_books();
}

#[test]
fn cc_13_limits_that_change_count_at_once() {
    let mut world = world("{ calls = 1, when_full = \"delay\", wait = \"60s\" }");
    let callers: Vec<usize> = (0..3).map(|_| world.add_caller()).collect();
    call_all(&mut world, &callers);
    second(&mut world);
    world.set_limits("{ calls = 2, when_full = \"delay\", wait = \"60s\" }");
    world.run_for(Duration::from_millis(100));
    assert!(world.saw(callers[1]).contains(&Saw::Answered));
    world.set_limits("{ calls = 1, when_full = \"delay\", wait = \"60s\" }");
    world.hang_up(callers[0]);
    second(&mut world);
    assert!(!world.saw(callers[2]).contains(&Saw::Answered), "one of one");
    world.hang_up(callers[1]);
    second(&mut world);
    assert!(world.saw(callers[2]).contains(&Saw::Answered));
    world.hang_up(callers[2]);
    world.close_books();
}

#[test]
fn calls_that_began_while_there_was_no_limit_count_when_one_is_set() {
    let mut world = world("{}");
    let callers: Vec<usize> = (0..4).map(|_| world.add_caller()).collect();
    call_all(&mut world, &callers[..2]);
    second(&mut world);
    assert_eq!(world.held(Resource::Calls), 0, "nobody counts what has no limit");
    world.set_limits("{ calls = 2 }");
    assert_eq!(world.held(Resource::Calls), 2);
    call_all(&mut world, &callers[2..3]);
    second(&mut world);
    assert!(world.saw(callers[2]).contains(&Saw::Refused(503)), "two of two");
    world.hang_up(callers[0]);
    second(&mut world);
    call_all(&mut world, &callers[3..]);
    second(&mut world);
    assert!(world.saw(callers[3]).contains(&Saw::Answered));
    world.hang_up(callers[1]);
    world.hang_up(callers[3]);
    world.close_books();
}

#[test]
fn a_number_of_more_priority_ends_another_call_and_help_is_always_reached() {
    let important = r#"
[[number]]
account = "AC00000000000000000000000000000001"
number = "+15553000000"
twiml = "<Response><Echo/></Response>"
priority = 5
[[number]]
account = "AC00000000000000000000000000000001"
number = "911"
twiml = "<Response><Echo/></Response>"
"#;
    let config = format!("own_limits = {{ calls = 1, when_full = \"preempt\" }}{important}");
    let mut world = World::with_config(5, &config, |_| Says::Nothing);
    let (first, urgent, last, help) = (world.add_caller(), world.add_caller(), world.add_caller(), world.add_caller());
    world.call_from(first, ECHO);
    second(&mut world);
    world.call_from(urgent, "+15553000000");
    second(&mut world);
    assert!(matches!(world.saw(first).last(), Some(Saw::Ended { .. })));
    assert!(world.saw(urgent).contains(&Saw::Answered));
    world.call_from(last, "+15553000000");
    second(&mut world);
    assert!(world.saw(last).contains(&Saw::Refused(503)), "it has no more priority than the other");
    assert_eq!(world.notices(), [10_004, 10_004], "of the one that was ended, and of the one that was refused");
    world.call_from(help, "911");
    second(&mut world);
    assert!(world.saw(help).contains(&Saw::Answered));
    assert_eq!(world.held(Resource::Calls), 2);
    world.hang_up(urgent);
    world.hang_up(help);
    world.close_books();
}

#[test]
fn a_conference_has_no_more_participants_than_its_account() {
    let limits = "own_limits = { conference_participants = 2 }";
    let mut world = World::with_config(6, limits, |asked| match asked.url.as_str() {
        "http://app/voice" => {
            Says::Twiml("<Response><Dial action=\"/after\"><Conference>room</Conference></Dial></Response>")
        }
        _ => Says::Twiml("<Response><Hangup/></Response>"),
    });
    let callers: Vec<usize> = (0..3).map(|_| world.add_caller()).collect();
    for caller in &callers {
        world.call_from(*caller, "+15551000000");
        second(&mut world);
    }
    assert_eq!(world.held(Resource::ConferenceParticipants), 2);
    assert!(matches!(world.saw(callers[2]).last(), Some(Saw::Ended { .. })), "its document went on");
    world.hang_up(callers[0]);
    second(&mut world);
    assert_eq!(world.held(Resource::ConferenceParticipants), 1);
    world.hang_up(callers[1]);
    world.close_books();
    assert_eq!(world.held(Resource::ConferenceParticipants), 0);
}

#[test]
fn participants_that_joined_while_there_was_no_limit_count_when_one_is_set() {
    let mut world = World::with_config(6, "own_limits = {}", |_| {
        Says::Twiml("<Response><Dial><Conference>room</Conference></Dial></Response>")
    });
    let callers: Vec<usize> = (0..2).map(|_| world.add_caller()).collect();
    for caller in &callers {
        world.call_from(*caller, "+15551000000");
        second(&mut world);
    }
    world.set_limits("{ conference_participants = 2 }");
    assert_eq!(world.held(Resource::ConferenceParticipants), 2);
    world.hang_up(callers[0]);
    world.hang_up(callers[1]);
    world.close_books();
    assert_eq!(world.held(Resource::ConferenceParticipants), 0);
}

#[test]
fn an_edge_that_starts_anew_knows_who_holds_its_places() {
    let mut world = world("{ calls = 3 }");
    let callers: Vec<usize> = (0..3).map(|_| world.add_caller()).collect();
    call_all(&mut world, &callers);
    second(&mut world);
    world.restart_edge();
    assert_eq!(world.held(Resource::Calls), 3);
    second(&mut world);
    let fourth = world.add_caller();
    world.call_from(fourth, ECHO);
    second(&mut world);
    assert!(world.saw(fourth).contains(&Saw::Refused(503)));
    callers.iter().for_each(|caller| world.hang_up(*caller));
    world.close_books();
    assert_eq!(world.held(Resource::Calls), 0);
}

#[test]
fn two_edges_have_as_many_as_one() {
    let hot = SharedHot::default();
    let mut worlds = ["left", "right"].map(|node| {
        let world = world("{ calls = 5 }");
        world.join(EdgeId { node: node.into(), epoch: 1 }, hot.clone())
    });
    worlds.iter_mut().for_each(|world| world.restarts = false);
    let mut answered = [Vec::new(), Vec::new()];
    for (world, answered) in worlds.iter_mut().zip(&mut answered) {
        let callers: Vec<usize> = (0..4).map(|_| world.add_caller()).collect();
        call_all(world, &callers);
        second(world);
        answered.extend(callers.into_iter().filter(|caller| world.saw(*caller).contains(&Saw::Answered)));
    }
    assert_eq!(answered.each_ref().map(Vec::len), [4, 1]);
    let holders = |hot: &SharedHot| {
        let scope = format!("calls:{}", crate::world::ACCOUNT);
        match hot.borrow_mut().handle(Command::Holders { scope }, 0) {
            Answer::Holders(holders) => holders.into_iter().map(|(edge, count)| (edge.node, count)).collect::<Vec<_>>(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(holders(&hot), [("left".to_owned(), 4), ("right".to_owned(), 1)]);
    let [left, right] = &mut worlds;
    answered[0].iter().for_each(|caller| left.hang_up(*caller));
    second(left);
    assert_eq!(holders(&hot), [("right".to_owned(), 1)]);
    let next = right.add_caller();
    right.call_from(next, ECHO);
    second(right);
    assert!(right.saw(next).contains(&Saw::Answered));
    answered[1].iter().chain([&next]).for_each(|caller| right.hang_up(*caller));
    worlds.iter_mut().for_each(World::close_books);
    assert_eq!(holders(&hot), []);
}

#[test]
fn an_invite_that_comes_again_while_it_is_refused_is_no_other_call() {
    let mut world = world("{ calls = 1 }");
    let (first, second_caller) = (world.add_caller(), world.add_caller());
    world.call_from(first, ECHO);
    second(&mut world);
    // Every datagram comes twice, and what is lost is sent again.
    world.network.duplicates = 1.0;
    world.network.loss = 0.3;
    world.call_from(second_caller, ECHO);
    world.run_for(Duration::from_secs(20));
    world.network = Default::default();
    assert!(world.saw(second_caller).contains(&Saw::Refused(503)));
    assert_eq!(world.records().len(), 2, "one record for each call");
    world.hang_up(first);
    world.close_books();
    assert_eq!(world.records().len(), 2);
}
