//! `<Refer>`: what its action is told, whatever becomes of it.

use super::*;

fn refer() -> Driver {
    let (mut driver, _) = Driver::new("<Refer action=\"/done\"><Sip>sip:bob@pbx.example?X-Id=7</Sip></Refer><Hangup/>");
    assert_eq!(driver.give(VerbInput::Ready), ["+Refer", "refer sip:bob@pbx.example [(\"X-Id\", \"7\")]"]);
    driver
}

fn answered(status: u16) -> VerbInput {
    VerbInput::ReferAnswered { status }
}

fn notified(status: u16, is_last: bool) -> VerbInput {
    VerbInput::ReferNotified { status, is_last }
}

fn told(params: &str) -> String {
    format!("fetch 2 POST https://app.example/done Action {params}")
}

#[test]
fn last_notify_says_what_became_of_it() {
    for (status, is_last, outcome) in [
        (200, true, "completed"),
        (200, false, "completed"),
        (486, true, "busy"),
        (480, true, "no-answer"),
        (487, true, "canceled"),
        (503, true, "failed"),
        (180, true, "failed"),
    ] {
        let mut driver = refer();
        assert_eq!(driver.give(answered(202)), ["timer 60s"]);
        assert_eq!(driver.give(notified(100, false)), [""; 0]);
        let params =
            told(&format!("ReferCallStatus={outcome} ReferSipResponseCode=202 NotifySipResponseCode={status}"));
        assert_eq!(driver.give(notified(status, is_last)), ["timer off", "-Refer", params.as_str()], "{status}");
    }
}

#[test]
fn refused_and_unanswered_refers_have_failed() {
    for status in [403, 408, 603] {
        let params = told(&format!("ReferCallStatus=failed ReferSipResponseCode={status}"));
        assert_eq!(refer().give(answered(status)), ["-Refer", params.as_str()]);
    }
}

#[test]
fn notify_may_overtake_the_answer_and_may_never_come() {
    let mut driver = refer();
    assert_eq!(driver.give(notified(200, true)), [""; 0]);
    let params = told("ReferCallStatus=completed ReferSipResponseCode=202 NotifySipResponseCode=200");
    assert_eq!(driver.give(answered(202)), ["timer 60s", "timer off", "-Refer", params.as_str()]);
    let mut driver = refer();
    driver.give(answered(202));
    let params = told("ReferCallStatus=no-answer ReferSipResponseCode=202");
    assert_eq!(driver.give(VerbInput::Timer), ["timer off", "-Refer", params.as_str()]);
}

#[test]
fn caller_that_hangs_up_after_it_took_the_refer_has_gone_where_it_was_sent() {
    let mut driver = refer();
    driver.give(answered(202));
    let params = told("ReferCallStatus=completed ReferSipResponseCode=202 ignored");
    assert_eq!(driver.give(VerbInput::HungUp), ["timer off", "-Refer", params.as_str()]);
    let params = told("ReferCallStatus=failed ignored");
    assert_eq!(refer().give(VerbInput::HungUp), ["-Refer", params.as_str()]);
}

#[test]
fn without_an_action_the_document_goes_on_and_without_a_target_the_verb_is_skipped() {
    let (mut driver, _) = Driver::new("<Refer><Sip>sip:bob@pbx.example</Sip></Refer><Hangup/>");
    driver.give(VerbInput::Ready);
    assert_eq!(driver.give(answered(603)), ["-Refer", "+Hangup", "-Hangup", "hangup Verb"]);
    for body in ["<Refer><Sip>bob</Sip></Refer><Hangup/>", "<Refer/><Hangup/>"] {
        let (_, effects) = Driver::new(body);
        assert_eq!(effects, ["Warning 13201", "+Hangup", "-Hangup", "hangup Verb"]);
    }
}

/// What a party asks for that wants to be replaced.
pub(super) fn referral() -> Referral {
    let params = vec![("SipHeader_X-Id".to_owned(), "7".to_owned())];
    Referral { target: "sip:carol@pbx.example".to_owned(), params }
}

/// A Dial that has joined the caller with branch 1.
fn joined(attributes: &str) -> Driver {
    let (mut driver, _) = Driver::new(&format!("<Dial action=\"/after\" {attributes}>+15550001</Dial><Echo/>"));
    driver.give(VerbInput::Ready);
    driver.started(1);
    let joined = driver.branch(1, BranchEvent::Answered);
    assert!(joined.contains(&"bridge 1".to_owned()), "{joined:?}");
    driver
}

const TOLD: &str = "ReferTransferTarget=sip:carol@pbx.example SipHeader_X-Id=7";

#[test]
fn callee_that_is_replaced_leaves_the_caller_with_the_new_document() {
    let mut driver = joined("referUrl=\"/on\" referMethod=\"GET\" record=\"true\"");
    let on = format!("fetch 2 GET https://app.example/on Transfer {TOLD}");
    assert_eq!(
        driver.branch(1, BranchEvent::Referred(referral())),
        ["notify Some(1) 200", "stop recording 1", "unbridge", "timer off", "cancel 1", "-Dial", on.as_str()]
    );
    assert_eq!(driver.branch(1, ended(3)), [""; 0], "its action is not asked");
    assert_eq!(driver.document(2, "<Hangup/>"), ["+Hangup", "-Hangup", "hangup Verb"]);
}

#[test]
fn caller_that_is_replaced_leaves_the_callee_with_the_new_document() {
    let mut driver = joined("referUrl=\"/on\"");
    let effects = driver.give(VerbInput::Referred(referral()));
    assert_eq!(effects[..3], ["notify None 200", "unbridge", "timer off"]);
    assert!(effects[3].starts_with("hand over 1 Transfer { endpoint: Endpoint { url: \"https://app.example/on\""));
    assert!(effects[3].contains("(\"ReferTransferTarget\", \"sip:carol@pbx.example\"), (\"SipHeader_X-Id\", \"7\")"));
    assert_eq!(effects[4..], ["-Dial", "hangup Verb"]);
}

#[test]
fn nobody_is_replaced_where_nobody_is_joined_or_no_url_says_what_then() {
    let refused = |of: &str| vec!["Error 13802".to_owned(), format!("notify {of} 603")];
    let mut driver = joined("");
    assert_eq!(driver.branch(1, BranchEvent::Referred(referral())), refused("Some(1)"));
    assert_eq!(driver.give(VerbInput::Referred(referral())), refused("None"));
    assert_eq!(driver.branch(1, ended(3))[..2], ["unbridge", "timer off"], "they talk on");
    let (mut driver, _) = Driver::new("<Dial referUrl=\"/on\"><Number url=\"/w\">+15550001</Number></Dial>");
    assert_eq!(driver.give(VerbInput::Referred(referral())), refused("None"), "it waits to be answered");
    driver.give(VerbInput::Ready);
    assert_eq!(driver.give(VerbInput::Referred(referral())), refused("None"), "it rings");
    driver.started(1);
    driver.branch(1, BranchEvent::Answered);
    assert_eq!(driver.branch(1, BranchEvent::Referred(referral())), refused("Some(1)"), "it hears its whisper");
    let (mut driver, _) = Driver::new("<Echo/>");
    driver.give(VerbInput::Ready);
    assert_eq!(driver.give(VerbInput::Referred(referral())), refused("None"), "there is no Dial");
}
