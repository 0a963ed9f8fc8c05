//! `<Enqueue>`, and `<Dial><Queue>`.

use crate::twiml::document::{EnqueueVerb, QueueNoun, WaitSpec};
use crate::twiml::notice::{Notice, code};
use crate::twiml::parse::attributes::Attributes;
use crate::twiml::parse::xml::Element;
use crate::twiml::parse::{Scope, leaf, link};
use crate::twiml::port::Method;

/// As many may wait in a queue that nobody made before.
const USUAL_SIZE: u32 = 1_000;
const MAX_SIZE: u32 = 5_000;
const MAX_NAME_CHARS: usize = 64;

/// Reads an `<Enqueue>`; `None`, with a notice, if it names no queue.
pub(super) fn enqueue(element: &Element, scope: &mut Scope<'_>) -> Option<EnqueueVerb> {
    let mut attributes = Attributes::of(element);
    let notices = &mut scope.notices;
    let method = attributes.method("method", Method::Post, notices);
    // The official builders write the one, the reference has the other.
    let wait_method = attributes.method("waitUrlMethod", Method::Post, notices);
    let wait = match attributes.text("waitUrl").map(str::trim) {
        None => WaitSpec::Music,
        Some("") => WaitSpec::Silence,
        Some(url) => WaitSpec::Document(link::resolve(url, scope.base), wait_method),
    };
    let max_size = attributes.integer("maxQueueSize", 1..=MAX_SIZE, USUAL_SIZE, notices);
    let action = attributes.text("action");
    attributes.not_yet(&["workflowSid"], notices);
    leaf(element, attributes, scope);
    let name = name(element, "Enqueue", scope)?;
    Some(EnqueueVerb { name, action: action.map(|text| scope.link(text)), method, wait, max_size })
}

/// Reads the noun; `None`, with a notice, if it names no queue.
pub(super) fn noun(element: &Element, scope: &mut Scope<'_>) -> Option<QueueNoun> {
    let mut attributes = Attributes::of(element);
    let method = attributes.method("method", Method::Post, &mut scope.notices);
    let whisper = attributes.text("url").filter(|text| !text.trim().is_empty());
    attributes.not_yet(&["reservationSid", "postWorkActivitySid"], &mut scope.notices);
    leaf(element, attributes, scope);
    let name = name(element, "Queue", scope)?;
    Some(QueueNoun { name, whisper: whisper.map(|text| (link::resolve(text, scope.base), method)) })
}

fn name(element: &Element, of: &str, scope: &mut Scope<'_>) -> Option<String> {
    let name = element.text();
    if (1..=MAX_NAME_CHARS).contains(&name.chars().count()) {
        return Some(name);
    }
    let text = format!("{of} needs the name of a queue, of up to {MAX_NAME_CHARS} characters");
    scope.notices.push(Notice::warning(code::DIAL_INVALID_NOUN, text));
    None
}
