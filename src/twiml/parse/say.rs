//! `<Say>` and the SSML inside it, flattened to texts and pauses.
//!
//! Engines differ in what SSML they take, if any. What every one can do is speak a text and be silent: breaks and
//! paragraphs become pauses, `sub` its alias, `lang` a text in another language, everything else the text inside.

use std::time::Duration;

use crate::twiml::document::{SayPart, SaySpec};
use crate::twiml::notice::{Notice, code};
use crate::twiml::parse::attributes::Attributes;
use crate::twiml::parse::xml::{Element, Node};
use crate::twiml::parse::{Notices, Scope, quote};

/// Characters of text in one `<Say>`.
const MAX_TEXT_CHARS: usize = 4_096;

/// Texts and pauses of one `<Say>`; further breaks are spaces.
const MAX_PARTS: usize = 64;

const MAX_BREAK: Duration = Duration::from_secs(10);
const PARAGRAPH_BREAK: Duration = Duration::from_millis(600);

/// Elements that say how to speak, with their attributes: the text is spoken as any other.
const MANNERS: &[(&str, &[&str])] = &[
    ("emphasis", &["level"]),
    ("phoneme", &["alphabet", "ph"]),
    ("prosody", &["volume", "rate", "pitch"]),
    ("say-as", &["interpret-as", "role", "format"]),
    ("w", &["role"]),
];

/// Reads a `<Say>`; `None`, with a notice, if there is nothing to say or too much.
pub(super) fn read(element: &Element, scope: &mut Scope<'_>) -> Option<SaySpec> {
    let mut attributes = Attributes::of(element);
    let loops = attributes.loops(&mut scope.notices);
    let voice = attributes.text("voice").unwrap_or_default().trim().to_owned();
    let language = attributes.text("language").unwrap_or_default().trim().to_owned();
    attributes.finish(&mut scope.notices);
    let mut flat = Flat { parts: Vec::new(), text: String::new(), voice, language };
    flat.children(element, &mut scope.notices);
    flat.flush();
    within_limit(SaySpec { parts: flat.parts, loops }, &mut scope.notices)
}

/// Holds a `<Say>` to the limit of its text.
pub(super) fn within_limit(say: SaySpec, notices: &mut Notices) -> Option<SaySpec> {
    let chars: usize = say.parts.iter().map(text_chars).sum();
    if chars > MAX_TEXT_CHARS {
        let text = format!("text of Say longer than {MAX_TEXT_CHARS} characters: {chars}");
        notices.push(Notice::warning(code::SAY_INVALID_TEXT, text));
        return None;
    }
    if chars == 0 {
        notices.push(Notice::warning(code::SAY_INVALID_TEXT, "Say without a text"));
        return None;
    }
    Some(say)
}

fn text_chars(part: &SayPart) -> usize {
    match part {
        SayPart::Text { text, .. } => text.chars().count(),
        SayPart::Break(_) | SayPart::Prompt(_) => 0,
    }
}

/// The parts so far, and the text that the next break or change of language will end.
struct Flat {
    parts: Vec<SayPart>,
    text: String,
    voice: String,
    language: String,
}

impl Flat {
    /// Recursion goes no deeper than the reader of the XML allows.
    fn children(&mut self, element: &Element, notices: &mut Notices) {
        for node in &element.children {
            match node {
                Node::Text(text) => self.text.push_str(text),
                Node::Element(inner) => self.element(inner, notices),
            }
        }
    }

    fn element(&mut self, element: &Element, notices: &mut Notices) {
        let mut attributes = Attributes::of(element);
        match element.name.as_str() {
            "break" => {
                let length = break_length(&mut attributes, notices);
                self.pause(length);
            }
            "p" => {
                self.children(element, notices);
                self.pause(PARAGRAPH_BREAK);
            }
            "s" => {
                self.children(element, notices);
                self.text.push(' ');
            }
            "sub" => match attributes.text("alias") {
                Some(alias) => self.text.push_str(alias),
                None => self.children(element, notices),
            },
            "lang" => {
                let language = attributes.text("xml:lang").unwrap_or_default().to_owned();
                self.flush();
                let outer = std::mem::replace(&mut self.language, language);
                self.children(element, notices);
                self.flush();
                self.language = outer;
            }
            name => {
                match MANNERS.iter().find(|(manner, _)| *manner == name) {
                    Some((_, known)) => attributes.accept(known),
                    None => notices.schema(format!("unknown element {} in Say: its text is spoken", quote(name))),
                }
                self.children(element, notices);
            }
        }
        attributes.finish(notices);
    }

    fn pause(&mut self, length: Duration) {
        if length.is_zero() || self.parts.len() + 2 > MAX_PARTS {
            self.text.push(' ');
            return;
        }
        self.flush();
        self.parts.push(SayPart::Break(length));
    }

    /// Ends the text: white space in it comes down to single spaces.
    fn flush(&mut self) {
        let words: Vec<&str> = self.text.split_whitespace().collect();
        let text = words.join(" ");
        self.text.clear();
        if !text.is_empty() {
            self.parts.push(SayPart::Text { text, voice: self.voice.clone(), language: self.language.clone() });
        }
    }
}

/// The length of a `<break>`: its `time`, or what its `strength` comes to.
fn break_length(attributes: &mut Attributes<'_>, notices: &mut Notices) -> Duration {
    const STRENGTHS: &[(&str, u64)] =
        &[("none", 0), ("x-weak", 0), ("weak", 200), ("medium", 400), ("strong", 600), ("x-strong", 1_000)];
    let strength = attributes.choice("strength", STRENGTHS, 400, notices);
    let Some(text) = attributes.text("time") else { return Duration::from_millis(strength) };
    match time(text.trim()) {
        Some(length) => length.min(MAX_BREAK),
        None => {
            notices.schema(format!("time of break is no time: {}", quote(text)));
            Duration::from_millis(strength)
        }
    }
}

/// `1.5s` or `250ms`.
fn time(text: &str) -> Option<Duration> {
    let (number, seconds_each) = match text.strip_suffix("ms") {
        Some(number) => (number, 0.001),
        None => (text.strip_suffix('s')?, 1.0),
    };
    let number: f64 = number.trim().parse().ok()?;
    Duration::try_from_secs_f64(number * seconds_each).ok()
}
