//! `<Record>`, `<Start><Recording>`, `<Stop><Recording>`, and what `<Dial record>` shares with them.

use std::time::Duration;

use crate::twiml::document::{DialRecordSpec, KeptSpec, RecordSpec, VerbSpec};
use crate::twiml::parse::attributes::Attributes;
use crate::twiml::parse::xml::Element;
use crate::twiml::parse::{MAX_SECONDS, MarkupError, Notices, Scope, leaf, link, quote, stream};
use crate::twiml::port::{Method, RecordingEvent, RecordingTrack};

const DEFAULT_TIMEOUT_SECONDS: u32 = 5;
const DEFAULT_MAX_LENGTH_SECONDS: u32 = 3_600;
const MAX_LENGTH_SECONDS: u32 = 14_400;
const ANY_KEY: &str = "1234567890*#";

/// Reads a `<Record>`.
pub(super) fn read(element: &Element, scope: &mut Scope<'_>) -> RecordSpec {
    let mut attributes = Attributes::of(element);
    let notices = &mut scope.notices;
    let method = attributes.method("method", Method::Post, notices);
    let timeout = attributes.integer("timeout", 0..=MAX_SECONDS, DEFAULT_TIMEOUT_SECONDS, notices);
    let finish_on_key = finish_on_key(attributes.text("finishOnKey"), notices);
    let max_length = attributes.integer("maxLength", 1..=MAX_LENGTH_SECONDS, DEFAULT_MAX_LENGTH_SECONDS, notices);
    let play_beep = attributes.boolean("playBeep", true, notices);
    let kept = KeptSpec { track: RecordingTrack::Inbound, ..kept(&mut attributes, scope.base, notices) };
    let action = attributes.text("action");
    if !attributes.take_if("transcribe", "false") {
        attributes.not_yet(&["transcribe"], notices);
    }
    attributes.accept(&["transcribeCallback"]);
    leaf(element, attributes, scope);
    RecordSpec {
        action: action.map(|text| scope.link(text)).or_else(|| scope.own_link()),
        method,
        timeout: (timeout > 0).then(|| Duration::from_secs(u64::from(timeout))),
        finish_on_key,
        max_length: Duration::from_secs(u64::from(max_length)),
        play_beep,
        kept,
    }
}

/// Reads a `<Start>` or a `<Stop>`: its nouns, one after another.
pub(super) fn start_or_stop(element: &Element, scope: &mut Scope<'_>) -> Result<Vec<VerbSpec>, MarkupError> {
    let verb = element.name.as_str();
    let mut attributes = Attributes::of(element);
    attributes.accept(&["action", "method"]);
    attributes.finish(&mut scope.notices);
    let mut verbs = Vec::new();
    for inner in element.elements() {
        scope.count_verb()?;
        match inner.name.as_str() {
            "Recording" if verb == "Stop" => {
                leaf(inner, Attributes::of(inner), scope);
                verbs.push(VerbSpec::StopRecording);
            }
            "Recording" => verbs.push(VerbSpec::StartRecording(Box::new(recording(inner, scope)))),
            "Stream" if verb == "Stop" => verbs.push(VerbSpec::StopStreams(stream::stop(inner, scope))),
            "Stream" => verbs.push(VerbSpec::StartStream(Box::new(stream::read(inner, scope)))),
            "Siprec" | "Transcription" => {
                scope.notices.schema(format!("noun {} of {verb} is not implemented yet: skipped", inner.name))
            }
            name => scope.notices.schema(format!("unknown element {} in {verb}: skipped", quote(name))),
        }
    }
    Ok(verbs)
}

fn recording(element: &Element, scope: &mut Scope<'_>) -> KeptSpec {
    let mut attributes = Attributes::of(element);
    let notices = &mut scope.notices;
    let channels = attributes.choice("channels", &[("mono", 1), ("dual", 2)], 2, notices);
    let track = track(&mut attributes, "track", notices);
    let kept = KeptSpec { channels, track, ..kept(&mut attributes, scope.base, notices) };
    leaf(element, attributes, scope);
    kept
}

/// What of a `<Dial>` is recorded, if anything.
pub(super) fn of_dial(
    attributes: &mut Attributes<'_>,
    base: Option<&str>,
    notices: &mut Notices,
) -> Option<DialRecordSpec> {
    // From ringing, and on two channels.
    const WORDS: &[(&str, Option<(bool, u32)>)] = &[
        ("do-not-record", None),
        ("false", None),
        ("true", Some((false, 1))),
        ("record-from-answer", Some((false, 1))),
        ("record-from-ringing", Some((true, 1))),
        ("record-from-answer-dual", Some((false, 2))),
        ("record-from-ringing-dual", Some((true, 2))),
    ];
    let wanted = attributes.choice("record", WORDS, None, notices);
    let track = track(attributes, "recordingTrack", notices);
    let kept = kept(attributes, base, notices);
    let (from_ringing, channels) = wanted?;
    Some(DialRecordSpec { from_ringing, kept: KeptSpec { channels, track, ..kept } })
}

/// Whether a conference is recorded, and how.
pub(super) fn of_conference(
    attributes: &mut Attributes<'_>,
    base: Option<&str>,
    notices: &mut Notices,
) -> Option<KeptSpec> {
    let words = [("do-not-record", false), ("false", false), ("record-from-start", true), ("true", true)];
    let wanted = attributes.choice("record", &words, false, notices);
    let kept = kept(attributes, base, notices);
    wanted.then_some(kept)
}

/// The attributes that everything which records has.
fn kept(attributes: &mut Attributes<'_>, base: Option<&str>, notices: &mut Notices) -> KeptSpec {
    let trim = attributes.choice("trim", &[("trim-silence", true), ("do-not-trim", false)], true, notices);
    let method = attributes.method("recordingStatusCallbackMethod", Method::Post, notices);
    let callback = attributes.text("recordingStatusCallback").filter(|text| !text.trim().is_empty());
    let events = events(attributes.text("recordingStatusCallbackEvent"), notices);
    attributes.accept(&["recordingConfigurationId"]);
    KeptSpec {
        track: RecordingTrack::Both,
        channels: 1,
        trim,
        callback: callback.map(|text| (link::resolve(text, base), method, events)),
    }
}

fn track(attributes: &mut Attributes<'_>, name: &'static str, notices: &mut Notices) -> RecordingTrack {
    use RecordingTrack::{Both, Inbound, Outbound};
    attributes.choice(name, &[("both", Both), ("inbound", Inbound), ("outbound", Outbound)], Both, notices)
}

/// The steps that a callback asks for; `completed` if it names none.
fn events(text: Option<&str>, notices: &mut Notices) -> Vec<RecordingEvent> {
    const ALL: [RecordingEvent; 3] = [RecordingEvent::InProgress, RecordingEvent::Completed, RecordingEvent::Absent];
    let mut events = Vec::new();
    for word in text.unwrap_or_default().split([' ', ',']).filter(|word| !word.is_empty()) {
        match ALL.iter().find(|event| event.as_str() == word) {
            Some(event) if events.contains(event) => {}
            Some(event) => events.push(*event),
            None => notices.schema(format!("recordingStatusCallbackEvent cannot be {}", quote(word))),
        }
    }
    if events.is_empty() {
        events.push(RecordingEvent::Completed);
    }
    events
}

fn finish_on_key(text: Option<&str>, notices: &mut Notices) -> String {
    let Some(text) = text else { return ANY_KEY.to_owned() };
    if text.chars().all(|key| ANY_KEY.contains(key)) {
        return text.to_owned();
    }
    notices.schema(format!("finishOnKey of Record is 0-9 * #, or empty for no key: {}", quote(text)));
    ANY_KEY.to_owned()
}
