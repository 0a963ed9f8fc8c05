//! `<Dial>` and its nouns: whom to call and how.

use std::time::Duration;

use crate::twiml::document::{ConferenceNoun, DialSpec, NounSpec, QueueNoun};
use crate::twiml::notice::{Notice, code};
use crate::twiml::parse::attributes::Attributes;
use crate::twiml::parse::xml::Element;
use crate::twiml::parse::{MAX_SECONDS, MarkupError, Notices, Scope, conference, link, queue, quote, record, target};
use crate::twiml::port::{CallbackEvent, Method, Ringback, Target};

/// Nouns of one `<Dial>`; further ones are not called.
pub const MAX_BRANCHES: usize = 10;

const DEFAULT_TIMEOUT_SECONDS: u32 = 30;
const DEFAULT_TIME_LIMIT_SECONDS: u32 = 14_400;

/// Reads a `<Dial>`. A noun that cannot be called is left out; one of a kind that Dialtone has not yet, or a bad
/// `callerId`, leaves nobody to call, so that the verb fails when it runs.
pub(super) fn read(element: &Element, scope: &mut Scope<'_>) -> Result<DialSpec, MarkupError> {
    let mut attributes = Attributes::of(element);
    let notices = &mut scope.notices;
    let method = attributes.method("method", Method::Post, notices);
    let timeout = attributes.integer("timeout", 5..=600, DEFAULT_TIMEOUT_SECONDS, notices);
    let time_limit = attributes.integer("timeLimit", 1..=MAX_SECONDS, DEFAULT_TIME_LIMIT_SECONDS, notices);
    let answer_on_bridge = attributes.boolean("answerOnBridge", false, notices);
    let hangup_on_star = attributes.boolean("hangupOnStar", false, notices);
    let sequential = attributes.boolean("sequential", false, notices);
    let ringback = ringback(attributes.text("ringTone"), notices);
    let caller_id = attributes.text("callerId").map(str::trim).filter(|text| !text.is_empty());
    let action = attributes.text("action");
    let record = record::of_dial(&mut attributes, scope.base, notices);
    let refer_method = attributes.method("referMethod", Method::Post, notices);
    let refer = attributes.text("referUrl").filter(|text| !text.trim().is_empty());
    attributes.accept(&["events", "passports"]);
    attributes.finish(notices);

    let Nouns { mut nouns, conference, queue } = nouns(element, scope)?;
    if let Some(bad) = caller_id.filter(|text| !is_caller_id(text, &nouns)) {
        let text = format!("callerId of Dial is neither a number nor client:name: {}", quote(bad));
        scope.notices.push(Notice::warning(code::DIAL_INVALID_CALLER_ID, text));
        nouns.clear();
    }
    Ok(DialSpec {
        action: action.map(|text| scope.link(text)),
        method,
        refer: refer.map(|text| (scope.link(text), refer_method)),
        timeout: Duration::from_secs(u64::from(timeout)),
        time_limit: Duration::from_secs(u64::from(time_limit)),
        caller_id: caller_id.map(str::to_owned),
        answer_on_bridge,
        hangup_on_star,
        ringback,
        sequential,
        record,
        conference: conference.map(Box::new),
        queue: queue.map(Box::new),
        nouns,
    })
}

/// Whom a `<Dial>` joins the caller with: others that are called, or a room.
#[derive(Default)]
struct Nouns {
    nouns: Vec<NounSpec>,
    conference: Option<ConferenceNoun>,
    queue: Option<QueueNoun>,
}

fn nouns(element: &Element, scope: &mut Scope<'_>) -> Result<Nouns, MarkupError> {
    let (mut nouns, mut conference, mut queue) = (Vec::new(), None, None);
    let mut refused = false;
    let text = element.text();
    if !text.is_empty() {
        nouns.extend(target::number(&text, &mut scope.notices).map(NounSpec::plain));
    }
    for inner in element.elements() {
        scope.count_verb()?;
        match inner.name.as_str() {
            "Number" | "Client" | "Sip" | "Application" => nouns.extend(noun(inner, scope)),
            "Conference" if conference.is_none() && queue.is_none() => conference = conference::read(inner, scope),
            "Queue" if conference.is_none() && queue.is_none() => queue = queue::noun(inner, scope),
            name @ ("Conference" | "Queue") => {
                let text = format!("{name} must be the only noun of Dial: it is skipped");
                scope.notices.push(Notice::warning(code::DIAL_INVALID_NOUN, text));
            }
            "WhatsApp" | "Sim" => {
                let text = format!("noun {} of Dial is not implemented yet: the Dial fails", inner.name);
                scope.notices.push(Notice::warning(code::DIAL_INVALID_NOUN, text));
                refused = true;
            }
            name => scope.notices.schema(format!("unknown element {} in Dial: skipped", quote(name))),
        }
    }
    if refused {
        return Ok(Nouns::default());
    }
    if (conference.is_some() || queue.is_some()) && !nouns.is_empty() {
        let text = "a room must be the only noun of Dial: nobody else is called";
        scope.notices.push(Notice::warning(code::DIAL_INVALID_NOUN, text));
        nouns.clear();
    }
    if nouns.len() > MAX_BRANCHES {
        scope.notices.schema(format!("more than {MAX_BRANCHES} nouns in Dial: {}", nouns.len()));
        nouns.truncate(MAX_BRANCHES);
    }
    // It lives as long as the call.
    nouns.shrink_to_fit();
    Ok(Nouns { nouns, conference, queue })
}

/// Reads a noun; `None`, with a notice, if nobody can be called by it.
fn noun(element: &Element, scope: &mut Scope<'_>) -> Option<NounSpec> {
    let mut attributes = Attributes::of(element);
    let base = scope.base;
    let notices = &mut scope.notices;
    let whisper_method = attributes.method("method", Method::Post, notices);
    let whisper = attributes.text("url").filter(|text| !text.trim().is_empty());
    let callback_method = attributes.method("statusCallbackMethod", Method::Post, notices);
    let callback = attributes.text("statusCallback").filter(|text| !text.trim().is_empty());
    let events = events(attributes.text("statusCallbackEvent"), notices);
    let send_digits = send_digits(attributes.text("sendDigits"), notices);
    attributes.not_yet(&["machineDetection", "byoc"], notices);
    attributes.accept(MACHINE_DETECTION);
    let target = match element.name.as_str() {
        "Number" => target::number(&element.text(), notices),
        "Client" => target::client(element, notices),
        "Application" => {
            let copies_to = attributes.boolean("copyParentTo", false, notices);
            attributes.accept(&["customerId"]);
            target::application(element, copies_to, notices)
        }
        _ => {
            let (username, password) = (attributes.text("username"), attributes.text("password"));
            target::sip(element, username, password, notices).map(Target::Sip)
        }
    };
    attributes.finish(notices);
    Some(NounSpec {
        target: target?,
        whisper: whisper.map(|text| (link::resolve(text, base), whisper_method)),
        status_callback: callback.map(|text| (link::resolve(text, base), callback_method, events)),
        send_digits,
    })
}

/// The steps that a status callback asks for; `completed` if it names none.
fn events(text: Option<&str>, notices: &mut Notices) -> Vec<CallbackEvent> {
    let mut events = Vec::new();
    for word in text.unwrap_or_default().split([' ', ',']).filter(|word| !word.is_empty()) {
        match ALL_EVENTS.iter().find(|event| event.as_str() == word) {
            Some(event) if events.contains(event) => {}
            Some(event) => events.push(*event),
            None => notices.schema(format!("statusCallbackEvent cannot be {}", quote(word))),
        }
    }
    if events.is_empty() {
        events.push(CallbackEvent::Completed);
    }
    events
}

fn send_digits(text: Option<&str>, notices: &mut Notices) -> Option<String> {
    const MAX_DIGITS: usize = 128;
    let text = text?.trim();
    if text.len() <= MAX_DIGITS && text.chars().all(|c| "0123456789*#ABCDwW".contains(c)) {
        return Some(text.to_owned()).filter(|digits| !digits.is_empty());
    }
    notices.schema(format!("sendDigits is not 0-9 * # w W: {}", quote(text)));
    None
}

fn ringback(text: Option<&str>, notices: &mut Notices) -> Ringback {
    match text.map(|text| text.trim().to_ascii_lowercase()) {
        None => Ringback::Automatic,
        Some(text) if text == "automatic" => Ringback::Automatic,
        Some(text) if RING_TONES.contains(&text.as_str()) => Ringback::Country(text),
        Some(text) => {
            notices.schema(format!("ringTone of Dial cannot be {}", quote(&text)));
            Ringback::Automatic
        }
    }
}

/// A number or `client:NAME`; towards SIP anything that a URI's user part can hold.
fn is_caller_id(text: &str, nouns: &[NounSpec]) -> bool {
    let digits = text.strip_prefix('+').unwrap_or(text);
    if (3..=20).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return true;
    }
    let free = |text: &str| (1..=121).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    match text.strip_prefix("client:") {
        Some(name) => free(name),
        None => !nouns.is_empty() && nouns.iter().all(|noun| noun.sip().is_some()) && free(text),
    }
}

const ALL_EVENTS: &[CallbackEvent] =
    &[CallbackEvent::Initiated, CallbackEvent::Ringing, CallbackEvent::Answered, CallbackEvent::Completed];

/// Attributes that say how to detect a machine; they mean nothing without the detection.
const MACHINE_DETECTION: &[&str] = &[
    "machineDetectionTimeout",
    "machineDetectionSpeechThreshold",
    "machineDetectionSpeechEndThreshold",
    "machineDetectionSilenceTimeout",
    "amdStatusCallback",
    "amdStatusCallbackMethod",
];

const RING_TONES: &[&str] = &[
    "at", "au", "be", "bg", "br", "ch", "cl", "cn", "cz", "de", "dk", "ee", "es", "fi", "fr", "gr", "hu", "il", "in",
    "it", "jp", "lt", "mx", "my", "nl", "no", "nz", "ph", "pl", "pt", "ru", "se", "sg", "th", "tw", "uk", "us",
    "us-old", "ve", "za",
];
