//! Gather: what ends it, and what its action is told.

use super::*;

const PROMPT: &str = "<Say>press</Say>";

/// A gather with `attributes` whose prompt plays as player 1.
fn prompting(attributes: &str) -> Driver {
    let (mut driver, effects) = Driver::new(&format!("<Gather {attributes}>{PROMPT}</Gather><Hangup/>"));
    assert_eq!(effects, ["prepare 0 say press", "require MediaReady"]);
    assert_eq!(driver.give(VerbInput::Ready), ["+Gather"]);
    assert_eq!(driver.audio(0), ["play 1 [c0] x1"]);
    driver
}

/// One whose prompt has ended: the timer runs.
fn listening(attributes: &str) -> Driver {
    let mut driver = prompting(attributes);
    assert_eq!(driver.played(1), ["timer 5s"]);
    driver
}

#[test]
fn digit_silences_the_prompt_and_starts_the_timer() {
    let mut driver = prompting("action=\"/a\"");
    assert_eq!(driver.digit('1'), ["stop", "timer 5s"]);
    assert_eq!(driver.played(1), [""; 0]);
    assert_eq!(driver.digit('2'), ["timer 5s"]);
    let action = "fetch 2 POST https://app.example/a Action Digits=12 FinishedOnKey=";
    assert_eq!(driver.give(VerbInput::Timer), ["-Gather", action]);
}

#[test]
fn finish_key_ends_the_input_and_is_not_part_of_it() {
    let mut driver = listening("method=\"GET\"");
    driver.digit('4');
    driver.digit('2');
    let action = format!("fetch 2 GET {URL} Action Digits=42 FinishedOnKey=#");
    assert_eq!(driver.digit('#'), ["timer off".into(), "-Gather".into(), action]);
}

#[test]
fn other_finish_keys() {
    let mut star = listening("finishOnKey=\"*\"");
    star.digit('#');
    assert_eq!(star.digit('*')[2], format!("fetch 2 POST {URL} Action Digits=# FinishedOnKey=*"));
    let mut none = listening("finishOnKey=\"\"");
    none.digit('1');
    none.digit('#');
    assert_eq!(none.give(VerbInput::Timer)[1], format!("fetch 2 POST {URL} Action Digits=1# FinishedOnKey="));
}

#[test]
fn number_of_digits_ends_the_input_at_once() {
    let mut driver = prompting("numDigits=\"1\"");
    let action = format!("fetch 2 POST {URL} Action Digits=7 FinishedOnKey=");
    assert_eq!(driver.digit('7'), ["stop".into(), "-Gather".into(), action]);
}

#[test]
fn silence_goes_on_to_the_next_verb_or_tells_the_action() {
    let mut driver = listening("");
    assert_eq!(driver.give(VerbInput::Timer), ["-Gather", "+Hangup", "-Hangup", "hangup Verb"]);
    let mut driver = listening("actionOnEmptyResult=\"true\"");
    let action = format!("fetch 2 POST {URL} Action Digits= FinishedOnKey=");
    assert_eq!(driver.give(VerbInput::Timer), ["-Gather".into(), action]);
}

#[test]
fn finish_key_alone_is_an_empty_result() {
    let mut driver = listening("");
    assert_eq!(driver.digit('#')[..2], ["timer off", "-Gather"]);
    assert!(driver.interpreter.is_finished());
}

#[test]
fn no_timer_runs_while_prompts_play_or_are_made() {
    let (mut driver, _) = Driver::new("<Gather timeout=\"9\"><Say>a</Say><Pause length=\"2\"/><Say>b</Say></Gather>");
    assert_eq!(driver.give(VerbInput::Ready), ["+Gather"]);
    assert_eq!(driver.audio(0), ["play 1 [c0 2000ms] x1"]);
    assert_eq!(driver.played(1), [""; 0], "the second prompt is still being made");
    assert_eq!(driver.audio(1), ["play 2 [c1] x1"]);
    assert_eq!(driver.played(2), ["timer 9s"]);
}

#[test]
fn gather_without_prompts_listens_at_once() {
    let (mut driver, _) = Driver::new("<Gather/>");
    assert_eq!(driver.give(VerbInput::Ready), ["+Gather", "timer 5s"]);
}

#[test]
fn digits_before_the_gather_are_dropped() {
    let (mut driver, _) = Driver::new("<Say>long</Say><Gather numDigits=\"1\"/>");
    driver.audio(0);
    driver.give(VerbInput::Ready);
    assert_eq!(driver.digit('1'), [""; 0]);
    assert_eq!(driver.played(1), ["-Say", "+Gather", "timer 5s"]);
}

#[test]
fn prompts_that_cannot_be_had_leave_the_input() {
    let (mut driver, _) = Driver::new(&format!("<Gather>{PROMPT}</Gather>"));
    driver.give(VerbInput::Ready);
    assert_eq!(driver.no_audio(0, 13520), ["Warning 13520", "timer 5s"]);
}

#[test]
fn repeated_prompt_plays_alone() {
    let (mut driver, _) = Driver::new("<Gather><Say>a</Say><Say loop=\"3\">b</Say><Say>c</Say></Gather>");
    for ticket in 0..3 {
        driver.audio(ticket);
    }
    assert_eq!(driver.give(VerbInput::Ready), ["+Gather", "play 1 [c0] x1"]);
    assert_eq!(driver.played(1), ["play 2 [c1] x3"]);
    assert_eq!(driver.played(2), ["play 3 [c2] x1"]);
}

#[test]
fn speech_only_hears_no_keys_and_times_out() {
    let (mut driver, effects) = Driver::new("<Gather input=\"speech\"/>");
    assert_eq!(effects, ["Warning 12200", "require MediaReady"]);
    driver.give(VerbInput::Ready);
    assert_eq!(driver.digit('1'), [""; 0]);
    assert_eq!(driver.give(VerbInput::Timer), ["-Gather", "hangup EndOfDocument"]);
}

#[test]
fn speech_and_keys_hears_keys() {
    let (mut driver, effects) = Driver::new("<Gather input=\"dtmf speech\" numDigits=\"1\"/>");
    assert_eq!(effects, ["Warning 12200", "require MediaReady"]);
    driver.give(VerbInput::Ready);
    assert_eq!(driver.digit('1')[2], format!("fetch 2 POST {URL} Action Digits=1 FinishedOnKey="));
}

#[test]
fn action_is_not_owed_to_a_caller_that_left() {
    let mut driver = listening("");
    driver.digit('1');
    assert_eq!(driver.give(VerbInput::HungUp), ["timer off", "-Gather"]);
    assert!(driver.interpreter.is_finished());
}

#[test]
fn input_of_a_document_without_url_has_nowhere_to_go() {
    let (mut driver, _) = Driver::inline("<Gather numDigits=\"1\"/>", AtEnd::HangUp);
    driver.give(VerbInput::Ready);
    assert_eq!(driver.digit('1'), ["timer off", "Warning 11100", "-Gather", "hangup EndOfDocument"]);
}
