//! What calls may use, and what becomes of those that may use no more.

use std::time::Duration;

use dialtone::events::{CallStatus, EndedBy};
use dialtone_sip::msg::HeaderName;

use crate::phone::{Saw, Script};
use crate::world::{Says, World, header};

const CARRIER: &str = "198.51.100.9:5060";
const ECHO: &str = "+15552000000";

fn world(budget: &str, twiml: &'static str) -> World {
    World::with_config(1, &format!("own_budget = {budget}"), move |asked| match asked.url.as_str() {
        "http://app/voice" => Says::Twiml(twiml),
        _ => Says::Twiml("<Response><Hangup/></Response>"),
    })
}

#[test]
fn a_call_that_nobody_pays_any_longer_hears_a_tone_and_ends_within_its_minute() {
    let mut world = world("{ minutes = 1 }", "");
    let caller = world.add_caller();
    world.call_from(caller, ECHO);
    world.run_for(Duration::from_secs(56));
    assert_eq!(world.saw(caller).last(), Some(&Saw::Answered));
    // It hears itself, then the tone, and then nothing.
    let heard = |world: &mut World, seconds| {
        let before: u32 = world.media.values().sum();
        world.run_for(Duration::from_secs(seconds));
        world.media.values().sum::<u32>() - before
    };
    assert_eq!(heard(&mut world, 1), 0, "nobody says anything");
    let tone = heard(&mut world, 2);
    assert!((80..=100).contains(&tone), "{tone} packets of a tone");
    world.run_for(Duration::from_secs(2));
    let bye = world.sent("BYE").pop().expect("it was ended");
    assert!(header(bye, HeaderName::Reason).contains("the budget is used up"));
    world.close_books();
    let record = world.records().pop().unwrap();
    assert_eq!((record.status, record.duration_s().div_ceil(60)), (CallStatus::Completed, 1));
    assert_eq!(record.completed.as_ref().map(|end| end.ended_by), Some(EndedBy::Server));
    assert_eq!(world.notices(), [10_001]);
    assert_eq!(world.minutes, 1);
    // The next is not taken: it has nothing.
    let next = world.add_caller();
    world.call_from(next, ECHO);
    world.run_for(Duration::from_secs(1));
    assert!(world.saw(next).contains(&Saw::Refused(403)));
    world.close_books();
    assert_eq!(world.notices(), [10_001, 10_003]);
    let refused = world.records().pop().unwrap();
    assert_eq!((refused.status, refused.duration_s()), (CallStatus::Failed, 0));
    assert_eq!(world.minutes, 1, "one that was refused is of no minutes");
}

#[test]
fn both_legs_of_a_dial_are_paid_and_the_document_is_told_of_one_that_is_not() {
    let mut world = world("{ minutes = 1 }", "<Response><Dial action=\"/after\">+15553334444</Dial></Response>");
    world.add_phone(CARRIER, Script::AnswerAtOnce);
    world.call("+15551000000");
    world.run_for(Duration::from_secs(5));
    world.close_books();
    let after = world.asked.iter().find(|asked| asked.url == "http://app/after").expect("the action is asked");
    assert_eq!(after.get("DialCallStatus"), "failed");
    assert_eq!(world.notices(), [10_001]);
}

#[test]
fn a_bridged_pair_ends_in_its_time_and_everything_is_told() {
    let mut world = world("{ minutes = 2 }", "<Response><Dial action=\"/after\">+15553334444</Dial></Response>");
    let callee = world.add_phone(CARRIER, Script::AnswerAtOnce);
    world.call("+15551000000");
    world.run_for(Duration::from_secs(55));
    assert!(world.saw(callee).contains(&Saw::Answered) || world.sessions() == 1);
    world.run_for(Duration::from_secs(10));
    world.close_books();
    let records = world.records();
    assert_eq!(records.len(), 2);
    assert!(records.iter().all(|record| record.duration_s() <= 60 && record.status == CallStatus::Completed));
    assert_eq!(world.minutes, 2);
}

#[test]
fn more_is_had_in_time_where_there_is_more() {
    let mut world = world("{ minutes = 1000 }", "");
    let caller = world.add_caller();
    world.call_from(caller, ECHO);
    world.run_for(Duration::from_secs(600));
    assert_eq!(world.saw(caller).last(), Some(&Saw::Answered));
    // A minute, a few ahead, and so on; given back at the end.
    assert!(world.credit_claims <= 12, "{} questions in ten minutes", world.credit_claims);
    world.hang_up(caller);
    world.close_books();
    assert_eq!(world.minutes, 10);
}

#[test]
fn whoever_calls_for_help_is_not_asked_for_money() {
    let mut world = World::with_config(
        1,
        "own_budget = { minutes = 0 }\n[[number]]\naccount = \"AC00000000000000000000000000000001\"\nnumber = \"112\"\ntwiml = \"<Response><Echo/></Response>\"",
        |_| Says::Nothing,
    );
    let caller = world.add_caller();
    world.call_from(caller, "112");
    world.run_for(Duration::from_secs(100));
    assert_eq!(world.saw(caller).last(), Some(&Saw::Answered));
    assert_eq!(world.notices(), [0; 0]);
    world.hang_up(caller);
    world.close_books();
}

#[test]
fn without_the_database_nothing_begins_and_what_is_paid_goes_on() {
    let mut world = world("{ minutes = 3 }", "");
    let first = world.add_caller();
    world.call_from(first, ECHO);
    world.run_for(Duration::from_secs(10));
    world.store_is_away = true;
    let second = world.add_caller();
    world.call_from(second, ECHO);
    world.run_for(Duration::from_secs(5));
    assert!(world.saw(second).contains(&Saw::Refused(403)));
    assert_eq!(world.saw(first).last(), Some(&Saw::Answered));
    // It is back in time.
    world.run_for(Duration::from_secs(40));
    world.store_is_away = false;
    world.run_for(Duration::from_secs(30));
    assert_eq!(world.saw(first).last(), Some(&Saw::Answered));
    world.hang_up(first);
    world.close_books();
}

#[test]
fn a_budget_that_is_set_while_calls_run_counts_for_them_and_one_that_is_raised_keeps_them() {
    let mut world = World::with_config(1, "", |_| Says::Nothing);
    let caller = world.add_caller();
    world.call_from(caller, ECHO);
    world.run_for(Duration::from_secs(70));
    world.set_budget("{ minutes = 2 }");
    world.run_for(Duration::from_secs(35));
    world.set_budget("{ minutes = 3 }");
    world.run_for(Duration::from_secs(50));
    assert_eq!(world.saw(caller).last(), Some(&Saw::Answered), "it is in its third minute");
    world.run_for(Duration::from_secs(30));
    world.close_books();
    assert_eq!(world.minutes, 3);
    assert_eq!(world.notices(), [10_001]);
}

#[test]
fn a_call_that_waits_for_the_database_is_not_forgotten_when_budgets_change_meanwhile() {
    let mut world = world("{ minutes = 5 }", "");
    let caller = world.add_caller();
    world.call_from(caller, ECHO);
    // The INVITE is there, and the answer of the database is not.
    world.run_for(Duration::from_millis(6));
    world.set_budget("{ minutes = 6 }");
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.saw(caller).last(), Some(&Saw::Answered));
    world.hang_up(caller);
    world.close_books();
}

#[test]
fn an_edge_that_starts_anew_goes_on_paying() {
    let mut world = world("{ minutes = 2 }", "");
    let caller = world.add_caller();
    world.call_from(caller, ECHO);
    world.run_for(Duration::from_secs(30));
    world.restart_edge();
    world.run_for(Duration::from_secs(80));
    assert_eq!(world.core.calls().count(), 1, "in its second minute");
    world.run_for(Duration::from_secs(20));
    world.close_books();
    assert_eq!(world.minutes, 2, "and no longer");
}
