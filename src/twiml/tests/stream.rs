//! `<Connect>`, and `<Stream>` in `<Start>` and `<Stop>`.

use super::*;
use crate::ids::StreamSid;

fn connected(attributes: &str) -> Driver {
    let body = format!("<Connect{attributes}><Stream url=\"wss://app.example/media\"/></Connect><Pause/>");
    let (mut driver, effects) = Driver::new(&body);
    assert_eq!(effects, ["require MediaReady"]);
    let begun = driver.give(VerbInput::Ready);
    assert_eq!(begun, ["+Connect", "stream 1 wss://app.example/media - inbound Some(1)"]);
    driver
}

fn opened() -> VerbInput {
    VerbInput::StreamStarted { stream: 1, sid: StreamSid::new(7) }
}

fn over(error: Option<&str>) -> VerbInput {
    VerbInput::StreamEnded { stream: 1, error: error.map(str::to_owned) }
}

#[test]
fn connect_plays_what_comes_and_goes_on_when_the_application_leaves() {
    let mut driver = connected("");
    assert_eq!(driver.give(VerbInput::Digit('5')), ["tell stream 1 5"]);
    assert_eq!(driver.give(opened()), ["play 1 [live] x1"]);
    assert_eq!(driver.give(VerbInput::StreamEnded { stream: 2, error: None }), [""; 0], "another's");
    assert_eq!(driver.give(over(None)), ["stop", "-Connect", "+Pause", "timer 1s"]);
}

#[test]
fn action_is_told_of_the_stream_and_of_what_went_wrong() {
    let mut driver = connected(" action=\"/after\"");
    driver.give(opened());
    let told = driver.give(over(Some("broke")));
    let fetch =
        format!("fetch 2 POST https://app.example/after Action StreamSid={} StreamError=broke", StreamSid::new(7));
    assert_eq!(told, ["stop", "-Connect", fetch.as_str()]);
    let mut driver = connected(" action=\"/after\"");
    assert_eq!(
        driver.give(over(Some("refused"))),
        ["-Connect", "fetch 2 POST https://app.example/after Action StreamError=refused"]
    );
}

#[test]
fn caller_who_hangs_up_and_a_change_from_outside_end_the_stream() {
    let mut driver = connected("");
    driver.give(opened());
    assert_eq!(driver.give(VerbInput::HungUp), ["stop stream 1", "stop", "-Connect"]);
    assert!(driver.interpreter.is_finished());
    let mut driver = connected(" action=\"/after\"");
    driver.give(opened());
    let changed = driver.give(inline("<Hangup/>", AtEnd::HangUp));
    assert_eq!(changed, ["stop stream 1", "stop", "-Connect", "+Hangup", "-Hangup", "hangup Verb"]);
}

#[test]
fn start_listens_while_the_document_goes_on_and_stop_ends_it() {
    let (_, effects) = Driver::new(
        "<Start><Stream url=\"/media\" name=\"n\" track=\"both_tracks\" statusCallback=\"/told\">\
         <Parameter name=\"a\" value=\"1\"/><Parameter name=\"b\" value=\"2\"/></Stream></Start>\
         <Stop><Stream name=\"n\"/></Stop><Stop><Stream/></Stop><Pause/>",
    );
    let begun = "stream 1 wss://app.example/media n both None a=1 b=2 tells https://app.example/told";
    assert_eq!(
        effects,
        [
            "+Start",
            begun,
            "-Start",
            "+Stop",
            "stop streams Some(\"n\")",
            "-Stop",
            "+Stop",
            "stop streams None",
            "-Stop",
            "+Pause",
            "timer 1s"
        ]
    );
}

#[test]
fn what_cannot_be_streamed_is_told_and_the_document_goes_on() {
    for (body, first) in [
        ("<Start><Stream url=\"ftp://x\"/></Start>", vec!["+Start", "Error 31941", "-Start"]),
        ("<Start><Stream/></Start>", vec!["+Start", "Error 31941", "-Start"]),
        ("<Connect/>", vec!["Warning 12200"]),
        ("<Connect><ConversationRelay url=\"wss://x\"/></Connect>", vec!["Warning 12200", "Warning 12200"]),
    ] {
        let (_, effects) = Driver::new(&format!("{body}<Pause/>"));
        let expected: Vec<&str> = first.into_iter().chain(["+Pause", "timer 1s"]).collect();
        assert_eq!(effects, expected, "{body}");
    }
    let (mut driver, _) = Driver::new("<Connect><Stream url=\"nowhere://x\" track=\"both_tracks\"/></Connect><Pause/>");
    assert_eq!(driver.give(VerbInput::Ready), ["+Connect", "Error 31941", "-Connect", "+Pause", "timer 1s"]);
    let long = "x".repeat(500);
    let body = format!(
        "<Start><Stream url=\"wss://x/\"><Parameter name=\"n\" value=\"{long}\"/><Parameter value=\"1\"/></Stream></Start>"
    );
    let (_, effects) = Driver::new(&body);
    assert_eq!(effects[..2], ["Warning 12200", "Warning 12200"]);
}
