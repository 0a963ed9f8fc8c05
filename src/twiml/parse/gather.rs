//! `<Gather>`: what ends the input, and the prompts that play meanwhile.

use std::time::Duration;

use crate::twiml::document::GatherSpec;
use crate::twiml::notice::{Notice, code};
use crate::twiml::parse::attributes::Attributes;
use crate::twiml::parse::xml::Element;
use crate::twiml::parse::{MAX_SECONDS, MarkupError, Notices, Scope, prompt, quote};
use crate::twiml::port::Method;

/// More digits than anybody types; the end of an unlimited `<Gather>`.
const MAX_DIGITS: u32 = 1_024;

const DEFAULT_TIMEOUT_SECONDS: u32 = 5;

/// Attributes that matter to speech only.
const SPEECH_ONLY: &[&str] = &[
    "partialResultCallback",
    "partialResultCallbackMethod",
    "language",
    "hints",
    "profanityFilter",
    "speechTimeout",
    "speechModel",
    "enhanced",
    "maxSpeechTime",
    "bargeIn",
    "debug",
];

/// Reads a `<Gather>`.
pub(super) fn read(element: &Element, scope: &mut Scope<'_>) -> Result<GatherSpec, MarkupError> {
    let mut attributes = Attributes::of(element);
    let notices = &mut scope.notices;
    let dtmf = input(attributes.text("input"), notices);
    let method = attributes.method("method", Method::Post, notices);
    let timeout = timeout(&mut attributes, notices);
    let finish_on_key = finish_on_key(attributes.text("finishOnKey"), notices);
    let num_digits = attributes.integer("numDigits", 1..=MAX_DIGITS, MAX_DIGITS, notices);
    let action_on_empty_result = attributes.boolean("actionOnEmptyResult", false, notices);
    let action = attributes.text("action");
    attributes.accept(SPEECH_ONLY);
    attributes.finish(notices);
    let action = match action {
        Some(text) => Some(scope.link(text)),
        None => scope.own_link(),
    };
    let mut prompts = Vec::new();
    for inner in element.elements() {
        scope.count_verb()?;
        prompts.extend(prompt(inner, scope));
    }
    Ok(GatherSpec { dtmf, action, method, timeout, finish_on_key, num_digits, action_on_empty_result, prompts })
}

/// Whether keys count. Speech needs an engine that is not there yet.
fn input(text: Option<&str>, notices: &mut Notices) -> bool {
    let mut dtmf = false;
    let mut speech = false;
    for word in text.unwrap_or("dtmf").split_whitespace() {
        match word {
            "dtmf" => dtmf = true,
            "speech" => speech = true,
            other => notices.schema(format!("input of Gather cannot be {}", quote(other))),
        }
    }
    if speech {
        let text = "no speech recognition engine: Gather hears keys only";
        notices.push(Notice::warning(code::SCHEMA_WARNING, text));
    }
    dtmf || !speech
}

fn timeout(attributes: &mut Attributes<'_>, notices: &mut Notices) -> Duration {
    let seconds = if attributes.take_if("timeout", "auto") {
        DEFAULT_TIMEOUT_SECONDS
    } else {
        attributes.integer("timeout", 1..=MAX_SECONDS, DEFAULT_TIMEOUT_SECONDS, notices)
    };
    Duration::from_secs(u64::from(seconds))
}

/// The key that ends the input: `#`, unless another or none (empty) is named.
fn finish_on_key(text: Option<&str>, notices: &mut Notices) -> Option<char> {
    let Some(text) = text else { return Some('#') };
    let mut keys = text.trim().chars();
    match (keys.next(), keys.next()) {
        (None, _) => None,
        (Some(key), None) if matches!(key, '0'..='9' | '*' | '#') => Some(key),
        _ => {
            let text = format!("finishOnKey of Gather is one of 0-9 * # or empty: {}", quote(text));
            notices.push(Notice::warning(code::GATHER_INVALID_FINISH_ON_KEY, text));
            Some('#')
        }
    }
}
