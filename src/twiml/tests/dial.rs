//! Dial: who is called, who is joined, and what the action is told.

use super::*;

const ONE: &str = "<Number>+15550001</Number>";
const TWO: &str = "<Number>+15550001</Number><Client>bob</Client>";

/// A running dial with `attributes` and `nouns`, and the effects of its start after `+Dial`.
fn dialling(attributes: &str, nouns: &str) -> (Driver, Vec<String>) {
    let (mut driver, mut effects) = Driver::new(&format!("<Dial {attributes}>{nouns}</Dial><Hangup/>"));
    if effects == ["require Answered"] {
        effects = driver.give(VerbInput::Ready);
    }
    let start = effects.iter().position(|effect| effect == "+Dial").expect("the dial starts") + 1;
    (driver, effects.split_off(start))
}

/// One whose branch 1 is joined with the caller.
fn bridged(attributes: &str) -> Driver {
    let (mut driver, _) = dialling(attributes, ONE);
    driver.started(1);
    driver.branch(1, BranchEvent::Ringing);
    let bridged = driver.branch(1, BranchEvent::Answered);
    assert_eq!(bridged[bridged.len() - 2..], ["bridge 1", "timer 14400s"]);
    driver
}

fn action(params: &str) -> String {
    format!("fetch 2 POST https://app.example/a Action {params}")
}

#[test]
fn dial_answers_rings_and_joins() {
    let (mut driver, effects) = dialling("", "<Number>+15550001</Number>");
    assert_eq!(effects, ["ringback Automatic", "timer 30s", "call 1 +15550001"]);
    driver.started(1);
    assert_eq!(driver.branch(1, BranchEvent::Ringing), [""; 0]);
    assert_eq!(driver.branch(1, BranchEvent::Answered), ["ringback Off", "bridge 1", "timer 14400s"]);
    assert_eq!(driver.branch(1, ended(7)), ["unbridge", "timer off", "-Dial", "+Hangup", "-Hangup", "hangup Verb"]);
}

#[test]
fn answer_on_bridge_passes_the_ringing_on() {
    let (mut driver, effects) = dialling("answerOnBridge=\"true\"", ONE);
    assert_eq!(effects, ["timer 30s", "call 1 +15550001"]);
    assert_eq!(driver.branch(1, BranchEvent::Ringing), ["ringback Automatic"]);
    assert_eq!(driver.branch(1, BranchEvent::Ringing), [""; 0]);
    assert_eq!(driver.branch(1, BranchEvent::Answered), ["ringback Off", "bridge 1", "timer 14400s"]);
}

#[test]
fn early_media_of_a_single_callee_is_heard() {
    let (mut driver, _) = dialling("", ONE);
    assert_eq!(driver.branch(1, BranchEvent::EarlyMedia), ["early media 1"]);
    let (mut driver, _) = dialling("", TWO);
    assert_eq!(driver.branch(1, BranchEvent::EarlyMedia), [""; 0]);
    let (mut driver, effects) = dialling("ringTone=\"de\"", ONE);
    assert_eq!(effects[0], "ringback Country(\"de\")");
    assert_eq!(driver.branch(1, BranchEvent::EarlyMedia), [""; 0]);
}

#[test]
fn action_is_told_how_it_came_out() {
    let mut driver = bridged("action=\"a\"");
    let params = "DialCallStatus=completed DialCallDuration=65 DialBridged=true \
        DialCallSid=CA00000000000000000000000000000001";
    assert_eq!(driver.branch(1, ended(65)), ["unbridge".into(), "timer off".into(), "-Dial".into(), action(params)]);
}

#[test]
fn every_failure_has_its_status() {
    let statuses = [
        (BranchFailure::Busy, "busy"),
        (BranchFailure::NoAnswer, "no-answer"),
        (BranchFailure::Failed, "failed"),
        (BranchFailure::Canceled, "canceled"),
    ];
    for (status, word) in statuses {
        let (mut driver, _) = dialling("action=\"a\"", ONE);
        let params = action(&format!("DialCallStatus={word} DialBridged=false"));
        let effects = driver.branch(1, failed(status));
        assert_eq!(effects, ["ringback Off".into(), "timer off".into(), "-Dial".into(), params]);
    }
}

#[test]
fn sip_side_is_told_to_the_action() {
    let (mut driver, effects) = dialling("action=\"a\"", "<Sip>sip:bob@h.example</Sip>");
    assert_eq!(effects[2], "call 1 sip:bob@h.example");
    driver.started(1);
    let sip = Some(SipOutcome { call_id: "x@y".into(), response_code: Some(486) });
    let effects = driver.branch(1, BranchEvent::Failed { status: BranchFailure::Busy, sip });
    let params = "DialCallStatus=busy DialBridged=false DialCallSid=CA00000000000000000000000000000001 \
        DialSipCallId=x@y DialSipResponseCode=486";
    assert_eq!(effects[3], action(params));
}

#[test]
fn nobody_to_call_is_a_failed_dial() {
    for nouns in ["<WhatsApp>q</WhatsApp>", "<Number>none</Number>", "", "<Sim>q</Sim><Number>+1555</Number>"] {
        let (_, effects) = dialling("action=\"a\"", nouns);
        assert_eq!(effects, ["-Dial".into(), action("DialCallStatus=failed DialBridged=false")], "{nouns}");
    }
    let (_, effects) = dialling("action=\"a\" callerId=\"me!\"", ONE);
    assert_eq!(effects[1], action("DialCallStatus=failed DialBridged=false"));
}

#[test]
fn first_answer_wins_and_the_others_are_canceled() {
    let (mut driver, effects) = dialling("", TWO);
    assert_eq!(effects[2..], ["call 1 +15550001", "call 2 client:bob"]);
    assert_eq!(driver.branch(2, BranchEvent::Answered), ["cancel 1", "ringback Off", "bridge 2", "timer 14400s"]);
    assert_eq!(driver.branch(1, failed(BranchFailure::Canceled)), [""; 0]);
}

#[test]
fn second_of_two_answers_is_hung_up() {
    let (mut driver, _) = dialling("", TWO);
    driver.branch(1, BranchEvent::Answered);
    // Its CANCEL crossed the 200.
    assert_eq!(driver.branch(2, BranchEvent::Answered), [""; 0], "it has been told to end already");
    assert_eq!(driver.branch(2, ended(0)), [""; 0]);
    assert_eq!(driver.branch(1, ended(3))[..2], ["unbridge", "timer off"]);
}

#[test]
fn answer_that_is_told_twice_changes_nothing() {
    let (mut driver, _) = dialling("", TWO);
    driver.branch(2, BranchEvent::Answered);
    assert_eq!(driver.branch(2, BranchEvent::Answered), [""; 0]);
    assert_eq!(driver.branch(2, ended(3))[0], "unbridge");
}

#[test]
fn all_that_failed_give_the_status_that_says_most() {
    let (mut driver, _) = dialling("action=\"a\"", TWO);
    assert_eq!(driver.branch(1, failed(BranchFailure::Busy)), [""; 0]);
    let effects = driver.branch(2, failed(BranchFailure::Failed));
    assert_eq!(effects[3], action("DialCallStatus=busy DialBridged=false"));
}

#[test]
fn timeout_cancels_all() {
    let (mut driver, _) = dialling("action=\"a\" timeout=\"10\"", TWO);
    let params = action("DialCallStatus=no-answer DialBridged=false");
    let expected = ["cancel 1", "cancel 2", "ringback Off", "timer off", "-Dial", &params];
    assert_eq!(driver.give(VerbInput::Timer), expected);
}

#[test]
fn sequential_calls_one_after_another() {
    let (mut driver, effects) = dialling("sequential=\"true\" timeout=\"10\"", TWO);
    assert_eq!(effects, ["ringback Automatic", "timer 10s", "call 1 +15550001"]);
    assert_eq!(driver.give(VerbInput::Timer), ["cancel 1", "timer 10s", "call 2 client:bob"]);
    assert_eq!(driver.branch(1, BranchEvent::Answered), [""; 0], "too late");
    assert_eq!(driver.branch(2, BranchEvent::Answered)[1], "bridge 2");
}

#[test]
fn whisper_is_heard_before_the_bridge() {
    let noun = "<Number url=\"w\">+15550001</Number><Number>+15550002</Number>";
    let (mut driver, effects) = dialling("", noun);
    assert_eq!(effects[2], "call 1 +15550001 whisper https://app.example/w");
    assert_eq!(driver.branch(1, BranchEvent::Answered), ["cancel 2", "timer 14400s"]);
    assert_eq!(driver.branch(1, BranchEvent::Accepted), ["ringback Off", "bridge 1", "timer 14400s"]);
}

#[test]
fn whisper_that_hangs_up_rejects_the_branch() {
    let (mut driver, _) = dialling("action=\"a\"", "<Number url=\"w\">+15550001</Number>");
    driver.branch(1, BranchEvent::Answered);
    let effects = driver.branch(1, ended(4));
    assert_eq!(effects[3], action("DialCallStatus=no-answer DialBridged=false"));

    let nouns = "<Number url=\"w\">+15550001</Number><Number>+15550002</Number>";
    let (mut driver, _) = dialling("sequential=\"true\"", nouns);
    driver.branch(1, BranchEvent::Answered);
    assert_eq!(driver.branch(1, ended(4)), ["timer 30s", "call 2 +15550002"]);
}

#[test]
fn star_ends_the_callee_only_where_it_is_asked_for() {
    let mut driver = bridged("hangupOnStar=\"true\"");
    assert_eq!(driver.digit('1'), [""; 0]);
    assert_eq!(driver.digit('*'), ["unbridge", "timer off", "cancel 1"]);
    assert_eq!(driver.branch(1, ended(9)), ["-Dial", "+Hangup", "-Hangup", "hangup Verb"]);
    assert_eq!(bridged("").digit('*'), [""; 0]);
}

#[test]
fn time_limit_ends_the_callee() {
    let mut driver = bridged("action=\"a\"");
    assert_eq!(driver.give(VerbInput::Timer), ["unbridge", "timer off", "cancel 1"]);
    assert_eq!(driver.branch(1, ended(14_400))[0], "-Dial");
}

#[test]
fn action_is_owed_to_a_caller_that_left() {
    let mut driver = bridged("action=\"a\"");
    assert_eq!(driver.give(VerbInput::HungUp), ["unbridge", "timer off", "cancel 1"]);
    assert!(!driver.interpreter.is_finished());
    let params = "DialCallStatus=completed DialCallDuration=12 DialBridged=true \
        DialCallSid=CA00000000000000000000000000000001 ignored";
    assert_eq!(driver.branch(1, ended(12)), ["-Dial".into(), action(params)]);
    assert!(driver.interpreter.is_finished());
}

#[test]
fn caller_that_left_while_it_rang_cancels_all() {
    let (mut driver, _) = dialling("action=\"a\"", TWO);
    let params = action("DialCallStatus=canceled DialBridged=false ignored");
    let expected = ["cancel 1", "cancel 2", "ringback Off", "timer off", "-Dial", &params];
    assert_eq!(driver.give(VerbInput::HungUp), expected);
}

#[test]
fn caller_that_left_without_an_action_owes_nothing() {
    let mut driver = bridged("");
    driver.give(VerbInput::HungUp);
    assert_eq!(driver.branch(1, ended(1)), ["-Dial"]);
    assert!(driver.interpreter.is_finished());
}

#[test]
fn live_update_ends_the_children() {
    let mut driver = bridged("");
    let effects = driver.give(inline("<Say>new</Say>", AtEnd::HangUp));
    assert_eq!(effects, ["unbridge", "timer off", "cancel 1", "-Dial", "prepare 0 say new", "require MediaReady"]);
    assert_eq!(driver.branch(1, ended(1)), [""; 0]);
    let (mut driver, _) = dialling("", TWO);
    let effects = driver.give(inline("<Hangup/>", AtEnd::HangUp));
    assert_eq!(effects[..5], ["ringback Off", "timer off", "cancel 1", "cancel 2", "-Dial"]);
}

#[test]
fn branches_are_numbered_through_the_call() {
    let (mut driver, effects) =
        Driver::new(&format!("<Dial answerOnBridge=\"true\">{ONE}</Dial><Dial answerOnBridge=\"true\">{ONE}</Dial>"));
    assert_eq!(effects[2], "call 1 +15550001");
    let effects = driver.branch(1, failed(BranchFailure::Busy));
    assert_eq!(effects, ["timer off", "-Dial", "+Dial", "timer 30s", "call 2 +15550001"]);
}

#[test]
fn whisper_url_that_is_none_is_a_warning() {
    let (_, effects) = Driver::inline(
        "<Dial answerOnBridge=\"true\"><Number url=\"w\" statusCallback=\"s\">+15550001</Number></Dial>",
        AtEnd::HangUp,
    );
    assert_eq!(effects, ["+Dial", "timer 30s", "Warning 11100", "Warning 11100", "call 1 +15550001"]);
}
