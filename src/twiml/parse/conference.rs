//! `<Dial><Conference>`.

use crate::twiml::conference::{Beep, ConferenceEvent};
use crate::twiml::document::{ConferenceNoun, WaitSpec};
use crate::twiml::notice::{Notice, code};
use crate::twiml::parse::attributes::Attributes;
use crate::twiml::parse::xml::Element;
use crate::twiml::parse::{Notices, Scope, leaf, link, quote, record};
use crate::twiml::port::Method;

/// The most members that a conference may have.
const MAX_PARTICIPANTS: u32 = 250;
const MAX_NAME_CHARS: usize = 128;

/// Reads the noun; `None`, with a notice, if it names no conference.
pub(super) fn read(element: &Element, scope: &mut Scope<'_>) -> Option<ConferenceNoun> {
    let mut attributes = Attributes::of(element);
    let notices = &mut scope.notices;
    let muted = attributes.boolean("muted", false, notices);
    let start_on_enter = attributes.boolean("startConferenceOnEnter", true, notices);
    let end_on_exit = attributes.boolean("endConferenceOnExit", false, notices);
    let beep = beep(&mut attributes, notices);
    let wait_method = attributes.method("waitMethod", Method::Post, notices);
    let wait = match attributes.text("waitUrl").map(str::trim) {
        None => WaitSpec::Music,
        Some("") => WaitSpec::Silence,
        Some(url) => WaitSpec::Document(link::resolve(url, scope.base), wait_method),
    };
    let max_participants = attributes.integer("maxParticipants", 2..=MAX_PARTICIPANTS, MAX_PARTICIPANTS, notices);
    let record = record::of_conference(&mut attributes, scope.base, notices);
    let coach = match attributes.text("coach").filter(|text| !text.trim().is_empty()) {
        None => None,
        Some(text) => {
            let sid = text.trim().parse().ok();
            if sid.is_none() {
                notices.schema(format!("coach of Conference is no sid of a call: {}", quote(text)));
            }
            sid
        }
    };
    let label = attributes.text("participantLabel").unwrap_or_default().trim().to_owned();
    let method = attributes.method("statusCallbackMethod", Method::Post, notices);
    let events = events(attributes.text("statusCallbackEvent"), notices);
    let callback = attributes.text("statusCallback").filter(|text| !text.trim().is_empty());
    let callback = callback.map(|text| (link::resolve(text, scope.base), method, events));
    attributes.accept(&["jitterBufferSize", "region", "eventCallbackUrl"]);
    leaf(element, attributes, scope);
    let name = element.text();
    if name.is_empty() || name.chars().count() > MAX_NAME_CHARS {
        let text = format!("Conference needs a name of up to {MAX_NAME_CHARS} characters");
        scope.notices.push(Notice::warning(code::DIAL_INVALID_NOUN, text));
        return None;
    }
    Some(ConferenceNoun {
        name,
        muted,
        start_on_enter,
        end_on_exit,
        beep,
        wait,
        max_participants,
        record,
        coach,
        label,
        callback,
    })
}

fn beep(attributes: &mut Attributes<'_>, notices: &mut Notices) -> Beep {
    let both = Beep { on_enter: true, on_exit: true };
    let words = [
        ("true", both),
        ("false", Beep { on_enter: false, on_exit: false }),
        ("onEnter", Beep { on_enter: true, on_exit: false }),
        ("onExit", Beep { on_enter: false, on_exit: true }),
    ];
    attributes.choice("beep", &words, both, notices)
}

/// The steps that a callback asks for: none, if it names none.
fn events(text: Option<&str>, notices: &mut Notices) -> Vec<ConferenceEvent> {
    let mut events = Vec::new();
    for word in text.unwrap_or_default().split([' ', ',']).filter(|word| !word.is_empty()) {
        match ConferenceEvent::ALL.iter().find(|event| event.as_str() == word) {
            Some(event) if events.contains(event) => {}
            Some(event) => events.push(*event),
            None => notices.schema(format!("statusCallbackEvent of Conference cannot be {}", quote(word))),
        }
    }
    events
}
