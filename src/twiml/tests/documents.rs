//! How documents follow one another: redirects, failures, fallback, live updates, and the end.

use super::*;

#[test]
fn empty_document_hangs_up_without_an_answer() {
    let (driver, effects) = Driver::new("");
    assert_eq!(effects, ["hangup EndOfDocument"]);
    assert!(driver.interpreter.is_finished());
}

#[test]
fn verbs_that_do_not_answer() {
    assert_eq!(Driver::new("<Hangup/>").1, ["+Hangup", "-Hangup", "hangup Verb"]);
    let redirect = ["+Redirect", "-Redirect", "fetch 2 GET https://app.example/next Redirect"];
    assert_eq!(Driver::new("<Redirect method=\"GET\">next</Redirect>").1, redirect);
    assert_eq!(Driver::new("<Reject/>").1, ["require Unanswered"]);
}

#[test]
fn reject_refuses_or_comes_too_late() {
    let (mut driver, _) = Driver::new("<Reject reason=\"busy\"/>");
    assert_eq!(driver.give(VerbInput::Ready), ["+Reject", "-Reject", "reject Busy"]);
    let (mut driver, _) = Driver::new("<Reject/>");
    assert_eq!(driver.give(VerbInput::PreconditionFailed), ["Warning 12200", "hangup Verb"]);
}

#[test]
fn cr_04_document_executes_in_order() {
    let (mut driver, effects) = Driver::new("<Say>a</Say><Dance/><Gather/><Redirect>/b</Redirect>");
    assert_eq!(effects, ["Warning 12200", "prepare 0 say a", "require MediaReady"]);
    driver.audio(0);
    driver.give(VerbInput::Ready);
    assert_eq!(driver.played(1), ["-Say", "+Gather", "timer 5s"]);
    let redirected = ["-Gather", "+Redirect", "-Redirect", "fetch 2 POST https://app.example/b Redirect"];
    assert_eq!(driver.give(VerbInput::Timer), redirected);
}

#[test]
fn relative_urls_resolve_against_where_the_document_came_from() {
    let (mut driver, _) = Driver::new("<Redirect>/moved</Redirect>");
    let effects = driver.fetched(2, "<Response><Redirect>x</Redirect></Response>", "http://other.example/d/e?f");
    assert_eq!(effects[2], "fetch 3 POST http://other.example/d/x Redirect");
}

#[test]
fn cr_05_failed_fetch_asks_the_fallback_once_and_tells_why() {
    let (mut driver, _) = Driver::with_fallback("<Gather numDigits=\"1\"/>", Some("https://backup.example/"));
    driver.give(VerbInput::Ready);
    driver.digit('5');
    let params = format!("Digits=5 FinishedOnKey= ErrorCode=11200 ErrorUrl={URL}");
    let fallback = format!("fetch 3 POST https://backup.example/ Fallback {params}");
    assert_eq!(driver.fetch_failed(2, 11200), ["Error 11200".into(), fallback]);
    let apology = ["Error 11205", "prepare 0 prompt application-error", "+Say"];
    assert_eq!(driver.fetch_failed(3, 11205), apology);
    assert_eq!(driver.audio(0), ["play 1 [c0] x1"]);
    assert_eq!(driver.played(1), ["-Say", "hangup ApplicationError"]);
}

#[test]
fn cr_04_malformed_document_asks_the_fallback() {
    let (mut driver, _) = Driver::with_fallback("<Redirect/>", Some("https://backup.example/"));
    let effects = driver.fetched(2, "<Response><Say>", URL);
    let fallback = format!("fetch 3 POST https://backup.example/ Fallback ErrorCode=12100 ErrorUrl={URL}");
    assert_eq!(effects, ["Error 12100".to_owned(), fallback]);
    assert_eq!(driver.document(3, "<Hangup/>"), ["+Hangup", "-Hangup", "hangup Verb"]);
}

#[test]
fn failure_without_fallback_is_spoken() {
    let (mut driver, _) = Driver::new("<Redirect/>");
    let apology = ["Error 11205", "prepare 0 prompt application-error", "require MediaReady"];
    assert_eq!(driver.fetch_failed(2, 11205), apology);
    driver.give(VerbInput::Ready);
    assert_eq!(driver.no_audio(0, 13520), ["Warning 13520", "-Say", "hangup ApplicationError"]);
}

#[test]
fn relative_url_of_an_inline_document_is_an_error() {
    let (_, effects) = Driver::inline("<Redirect>next</Redirect>", AtEnd::HangUp);
    let apology = ["Error 11100", "prepare 0 prompt application-error", "require MediaReady"];
    assert_eq!(effects[2..], apology);
}

#[test]
fn malformed_inline_document_is_an_error() {
    let (_, effects) = Driver::inline("<Say>", AtEnd::HangUp);
    assert_eq!(effects, ["Error 12100", "prepare 0 prompt application-error", "require MediaReady"]);
}

#[test]
fn cr_06_live_update_interrupts_at_once() {
    let (mut driver, _) = Driver::new("<Play loop=\"0\">a.wav</Play>");
    driver.audio(0);
    driver.give(VerbInput::Ready);
    let effects = driver.give(inline("<Say>new</Say>", AtEnd::HangUp));
    assert_eq!(effects, ["stop", "-Play", "prepare 1 say new", "+Say"]);
    assert_eq!(driver.played(1), [""; 0]);
}

#[test]
fn live_update_drops_the_fetch_and_its_late_answer() {
    let (mut driver, _) = Driver::new("<Redirect/>");
    let source = DocumentSource::Url(Endpoint { url: "https://new.example/".into(), method: Method::Get });
    let update = NewDocument { source, fallback: None, at_end: AtEnd::HangUp };
    let effects = driver.give(VerbInput::Replace(update));
    assert_eq!(effects, ["cancel fetch 2", "fetch 3 GET https://new.example/ Document"]);
    assert_eq!(driver.document(2, "<Hangup/>"), [""; 0]);
    assert_eq!(driver.document(3, "<Hangup/>"), ["+Hangup", "-Hangup", "hangup Verb"]);
}

#[test]
fn cr_13_hang_up_during_a_fetch_ends_it() {
    let (mut driver, _) = Driver::new("<Redirect/>");
    assert_eq!(driver.give(VerbInput::HungUp), ["cancel fetch 2"]);
    assert!(driver.interpreter.is_finished());
    assert_eq!(driver.document(2, "<Say>a</Say>"), [""; 0]);
    assert_eq!(driver.give(inline("<Say>a</Say>", AtEnd::HangUp)), [""; 0], "a leg that is gone takes no update");
}

#[test]
fn media_that_cannot_be_had_ends_the_call() {
    let (mut driver, _) = Driver::new("<Say>a</Say>");
    assert_eq!(driver.give(VerbInput::PreconditionFailed), ["hangup Unavailable"]);
}

#[test]
fn threat_21_redirects_without_end_are_cut() {
    let (mut driver, mut effects) = Driver::new("<Redirect/>");
    let mut fetch = 2;
    while effects[0] == "+Redirect" {
        assert_eq!(driver.interpreter.documents(), fetch - 1);
        effects = driver.document(fetch, "<Redirect/>");
        fetch += 1;
    }
    assert_eq!(driver.interpreter.documents(), 1_000);
    assert_eq!(effects, ["Error 11215", "hangup ApplicationError"]);
}

#[test]
fn whisper_ends_in_acceptance_or_in_a_hang_up() {
    let (mut driver, _) =
        Driver::inline("<Gather numDigits=\"1\" action=\"https://h.example/\"/><Hangup/>", AtEnd::Accept);
    driver.give(VerbInput::Ready);
    assert_eq!(driver.digit('1')[2], "fetch 1 POST https://h.example/ Action Digits=1 FinishedOnKey=");
    assert_eq!(driver.document(1, ""), ["accept"]);
    assert!(driver.interpreter.is_finished());

    let (_, effects) = Driver::inline("<Hangup/>", AtEnd::Accept);
    assert_eq!(effects, ["+Hangup", "-Hangup", "hangup Verb"]);
    let (_, effects) = Driver::inline("<Dial>+15550001</Dial>", AtEnd::Accept);
    assert_eq!(effects, ["Warning 12200", "accept"]);
}

#[test]
fn caller_whom_nobody_answers_is_rescued_once() {
    const BODY: &str = "<Dial answerOnBridge=\"true\">+15550001</Dial>";
    let begin = || {
        let VerbInput::Replace(document) = inline(BODY, AtEnd::Rescue) else { unreachable!("it is made so") };
        let fallback = Some(Endpoint { url: "https://rescue.example/".into(), method: Method::Post });
        let mut driver = Driver { interpreter: Interpreter::new() };
        driver.give(VerbInput::Replace(NewDocument { fallback, ..document }));
        driver
    };
    let mut driver = begin();
    let effects = driver.branch(1, failed(BranchFailure::Failed));
    assert_eq!(effects, ["timer off", "-Dial", "fetch 1 POST https://rescue.example/ Fallback"]);
    driver.document(1, BODY);
    assert_eq!(driver.branch(2, failed(BranchFailure::Failed)), ["timer off", "-Dial", "hangup Unreached(480)"]);

    let mut driver = begin();
    driver.branch(1, BranchEvent::Answered);
    let effects = driver.branch(1, ended(5));
    assert_eq!(effects, ["unbridge", "timer off", "-Dial", "hangup EndOfDocument"]);
}

#[test]
fn bridged_callee_can_be_given_a_document_of_its_own() {
    let (mut driver, effects) = Driver::inline("", AtEnd::Accept);
    assert_eq!(effects, ["accept"]);
    assert_eq!(driver.give(inline("<Hangup/>", AtEnd::HangUp)), ["+Hangup", "-Hangup", "hangup Verb"]);
}
