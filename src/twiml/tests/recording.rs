//! `<Record>`, `<Start><Recording>` and the recording of a `<Dial>`: what is asked for, and what is told of it.

use super::*;

const NAMED: &str = "https://api.example.com/RE1";

impl Driver {
    fn named(&mut self, recording: u32) -> Vec<String> {
        self.give(VerbInput::RecordingNamed { recording, sid: RecordingSid::new(1), url: NAMED.into() })
    }

    fn recorded(&mut self, recording: u32, how: RecordingEnd, ms: u64, voiced: bool) -> Vec<String> {
        let ended = RecordingEnded { how, duration: Duration::from_millis(ms), voiced };
        self.give(VerbInput::RecordingEnded { recording, ended })
    }
}

fn recording(attributes: &str) -> Driver {
    let (mut driver, _) = Driver::new(&format!("<Record {attributes}/><Hangup/>"));
    assert_eq!(driver.give(VerbInput::Ready), ["+Record", "play 1 [beep] x1"]);
    driver
}

const SID: &str = "RE00000000000000000000000000000001";

#[test]
fn record_beeps_and_tells_its_action_what_ended_it() {
    let mut driver = recording("action=\"/done\" maxLength=\"20\"");
    assert_eq!(driver.give(VerbInput::Digit('1')), [""; 0], "not yet");
    let played = driver.give(VerbInput::PlayEnded { player: 1, finished: true });
    assert_eq!(played, ["record 1 RecordVerb inbound x1 trim=true 20s/5s"]);
    assert_eq!(driver.named(1), [""; 0]);
    assert_eq!(driver.give(VerbInput::Digit('A')), [""; 0], "no key of ours");
    assert_eq!(driver.give(VerbInput::Digit('#')), ["stop recording 1"]);
    assert_eq!(driver.give(VerbInput::Digit('1')), [""; 0], "it is ending");
    let told = format!(
        "fetch 2 POST https://app.example/done Action RecordingUrl={NAMED} RecordingSid={SID} RecordingDuration=3 Digits=#"
    );
    assert_eq!(driver.recorded(1, RecordingEnd::Stopped, 2_100, true), ["-Record", told.as_str()]);
}

#[test]
fn record_without_an_answer_or_a_disk_goes_on_with_the_document() {
    for (how, ms, voiced) in
        [(RecordingEnd::Silence, 0, false), (RecordingEnd::Stopped, 0, false), (RecordingEnd::Failed, 900, true)]
    {
        let mut driver = recording("action=\"/done\"");
        driver.give(VerbInput::PlayEnded { player: 1, finished: true });
        driver.named(1);
        assert_eq!(driver.recorded(1, how, ms, voiced), ["-Record", "+Hangup", "-Hangup", "hangup Verb"], "{how:?}");
    }
}

#[test]
fn caller_that_hangs_up_has_said_what_it_said() {
    let mut driver = recording("playBeep=\"true\" timeout=\"0\" finishOnKey=\"\" trim=\"do-not-trim\"");
    let played = driver.give(VerbInput::PlayEnded { player: 1, finished: true });
    assert_eq!(played, ["record 1 RecordVerb inbound x1 trim=false 3600s/0s"]);
    driver.named(1);
    assert_eq!(driver.give(VerbInput::Digit('#')), [""; 0], "no key ends it");
    assert_eq!(driver.give(VerbInput::HungUp), ["stop recording 1"]);
    let told = format!(
        "fetch 2 POST {URL} Action RecordingUrl={NAMED} RecordingSid={SID} RecordingDuration=60 Digits=hangup ignored"
    );
    assert_eq!(driver.recorded(1, RecordingEnd::Stopped, 60_000, true), ["-Record", told.as_str()]);
    assert!(driver.interpreter.is_finished());
}

#[test]
fn change_from_outside_ends_a_recording_and_nobody_is_asked() {
    let mut driver = recording("action=\"/done\"");
    driver.give(VerbInput::PlayEnded { player: 1, finished: true });
    driver.named(1);
    let changed = driver.give(inline("<Hangup/>", AtEnd::HangUp));
    assert_eq!(changed, ["stop recording 1", "-Record", "+Hangup", "-Hangup", "hangup Verb"]);
    assert_eq!(driver.recorded(1, RecordingEnd::Stopped, 2_000, true), [""; 0]);
}

#[test]
fn start_records_while_the_document_goes_on() {
    let body = "<Start><Recording channels=\"mono\" track=\"outbound\" trim=\"do-not-trim\"/></Start><Pause/>";
    let (_, effects) = Driver::new(body);
    let begun = "record 1 StartCallRecordingTwiML outbound x1 trim=false 0s/0s";
    assert_eq!(effects, ["+Start", begun, "-Start", "+Pause", "timer 1s"]);
}

#[test]
fn stop_ends_what_start_began_and_warns_of_what_it_cannot_stop() {
    let (_, effects) = Driver::new("<Stop><Recording/><Siprec name=\"a\"/></Stop><Pause/>");
    assert_eq!(effects, ["Warning 12200", "+Stop", "stop started", "-Stop", "+Pause", "timer 1s"]);
}

#[test]
fn dial_stops_its_recording_and_tells_where_it_is() {
    let (mut driver, _) = Driver::new("<Dial action=\"/after\" record=\"record-from-answer-dual\">+15551</Dial>");
    driver.give(VerbInput::Ready);
    driver.started(1);
    let answered = driver.branch(1, BranchEvent::Answered);
    assert!(answered.contains(&"record 1 DialVerb both x2 trim=true 0s/0s".to_owned()), "{answered:?}");
    driver.named(1);
    let over = driver.branch(1, ended(7));
    assert!(over.contains(&"stop recording 1".to_owned()), "{over:?}");
    let fetch = over.last().expect("the action");
    assert!(fetch.ends_with(&format!("RecordingUrl={NAMED} RecordingSid={SID}")), "{fetch}");
}
