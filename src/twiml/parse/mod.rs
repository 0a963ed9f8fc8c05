//! Bytes and their content type to a [`Document`]: Twilio's rules for documents.
//!
//! Total: any input gives a document or a [`MarkupError`], never a panic. What is wrong with the document as a
//! whole is an error; what is wrong with one element, attribute or value is a notice, and reading goes on as if it
//! were not there.

mod attributes;
mod conference;
mod dial;
mod gather;
mod link;
mod queue;
mod record;
mod refer;
mod reply;
mod say;
mod sms;
mod stream;
mod target;
mod xml;

pub use reply::reply;
pub use target::target;

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use crate::twiml::document::{
    Document, Link, PauseSpec, PlaySpec, Playable, PromptSpec, RedirectSpec, SayPart, SaySpec, VerbSpec,
};
use crate::twiml::notice::{Notice, code};
use crate::twiml::port::{Method, RejectReason};
use attributes::Attributes;
use xml::{Element, Node};

/// A document larger than this is error 11750.
pub const MAX_DOCUMENT_BYTES: usize = 64 * 1024;

/// Verbs and nouns of one document, nested ones included.
pub const MAX_VERBS: usize = 1_000;

/// Notices of one document; the rest of a very wrong document is not remarked on.
const MAX_NOTICES: usize = 50;

/// Twilio plays no list more often than this.
const MAX_LOOPS: u32 = 1_000;

/// Why a document cannot be executed at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MarkupError {
    TooLarge { len_bytes: usize },
    ContentTypeMissing,
    ContentTypeUnknown,
    Utf8,
    DocType,
    Entity,
    Character,
    Attribute,
    Syntax,
    Nesting,
    Unclosed,
    MisplacedDeclaration,
    TextOutsideRoot,
    SecondRoot,
    NoResponse,
    TooDeep,
    TooManyVerbs,
}

impl MarkupError {
    /// Twilio's number.
    pub const fn code(self) -> u32 {
        match self {
            Self::TooLarge { .. } => code::DOCUMENT_TOO_LARGE,
            Self::ContentTypeMissing | Self::ContentTypeUnknown => code::INVALID_CONTENT_TYPE,
            Self::TooDeep | Self::TooManyVerbs => code::INVALID_MARKUP,
            _ => code::MALFORMED_XML,
        }
    }
}

impl fmt::Display for MarkupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::TooLarge { len_bytes } => {
                return write!(f, "document larger than {MAX_DOCUMENT_BYTES} bytes: {len_bytes}");
            }
            Self::ContentTypeMissing => "document without a content type",
            Self::ContentTypeUnknown => "content type is neither xml, text nor audio",
            Self::Utf8 => "document is not utf-8",
            Self::DocType => "document has a doctype, which is not allowed",
            Self::Entity => "an entity or an ampersand that is not escaped as xml wants it",
            Self::Character => "a character that xml does not allow",
            Self::Attribute => "an attribute is malformed or occurs twice",
            Self::Syntax => "document is not well-formed xml",
            Self::Nesting => "an end tag does not match its start tag",
            Self::Unclosed => "an element is not closed",
            Self::MisplacedDeclaration => "something, be it white space, stands before the xml declaration",
            Self::TextOutsideRoot => "text outside of the response element",
            Self::SecondRoot => "more than one root element",
            Self::NoResponse => "document without a response element",
            Self::TooDeep => "elements nested deeper than 50",
            Self::TooManyVerbs => "more than 1000 verbs",
        };
        f.write_str(text)
    }
}

impl std::error::Error for MarkupError {}

/// Reads a document.
///
/// `url` is where it came from after redirects, `None` for text given in place: it is what relative URLs resolve
/// against, the default action of `<Gather>`, and what is played if the document is itself audio.
///
/// # Errors
/// [`MarkupError`], whose `code()` is Twilio's number for it. An empty body is an empty document, unless it is audio: of
/// that the type alone matters.
pub fn parse(body: &[u8], content_type: Option<&str>, url: Option<&str>) -> Result<Document, MarkupError> {
    let kind = match Kind::of(content_type) {
        Ok(Kind::Audio) => Kind::Audio,
        _ if body.is_empty() => return Ok(Document::default()),
        other => other?,
    };
    match kind {
        Kind::Audio => Ok(single(VerbSpec::Play(PlaySpec {
            what: Playable::Url(url.map_or(Link::Unresolvable(String::new()), |url| Link::Absolute(url.to_owned()))),
            loops: 1,
        }))),
        Kind::Text => {
            let text = text_of(body)?;
            // Twilio runs what is a valid document, and reads everything else out.
            if text.trim_start().starts_with('<')
                && let Ok(root) = xml::read(text)
                && root.name == "Response"
            {
                return response(&root, url);
            }
            let parts =
                vec![SayPart::Text { text: text.trim().to_owned(), voice: String::new(), language: String::new() }];
            let mut notices = Notices::default();
            let say = say::within_limit(SaySpec { parts, loops: 1 }, &mut notices);
            Ok(Document { verbs: say.into_iter().map(VerbSpec::Say).collect(), notices: notices.list })
        }
        Kind::Xml => {
            let root = xml::read(text_of(body)?)?;
            if root.name != "Response" {
                return Err(MarkupError::NoResponse);
            }
            response(&root, url)
        }
    }
}

/// What a content type makes of a body.
enum Kind {
    Xml,
    Text,
    Audio,
}

impl Kind {
    fn of(content_type: Option<&str>) -> Result<Self, MarkupError> {
        let full = content_type.ok_or(MarkupError::ContentTypeMissing)?;
        let essence = full.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        match essence.as_str() {
            "" => Err(MarkupError::ContentTypeMissing),
            "text/xml" | "application/xml" | "text/html" => Ok(Self::Xml),
            "text/plain" => Ok(Self::Text),
            audio if audio.starts_with("audio/") => Ok(Self::Audio),
            _ => Err(MarkupError::ContentTypeUnknown),
        }
    }
}

fn text_of(body: &[u8]) -> Result<&str, MarkupError> {
    if body.len() > MAX_DOCUMENT_BYTES {
        return Err(MarkupError::TooLarge { len_bytes: body.len() });
    }
    let text = std::str::from_utf8(body).map_err(|_| MarkupError::Utf8)?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}

fn single(verb: VerbSpec) -> Document {
    Document { verbs: vec![verb], notices: Vec::new() }
}

/// What every part of the reader shares: where URLs resolve, what has been remarked on, how many verbs there were.
struct Scope<'a> {
    base: Option<&'a str>,
    notices: Notices,
    verbs: usize,
}

impl Scope<'_> {
    fn count_verb(&mut self) -> Result<(), MarkupError> {
        self.verbs += 1;
        if self.verbs > MAX_VERBS { Err(MarkupError::TooManyVerbs) } else { Ok(()) }
    }

    fn link(&self, text: &str) -> Link {
        link::resolve(text, self.base)
    }

    /// The URL of the document itself: the default action.
    fn own_link(&self) -> Option<Link> {
        self.base.map(|base| Link::Absolute(base.to_owned()))
    }
}

/// What was remarked on, up to a limit.
#[derive(Default)]
struct Notices {
    list: Vec<Notice>,
}

impl Notices {
    fn push(&mut self, notice: Notice) {
        if self.list.len() < MAX_NOTICES {
            self.list.push(notice);
        }
    }

    fn schema(&mut self, text: impl Into<Cow<'static, str>>) {
        self.push(Notice::warning(code::SCHEMA_WARNING, text));
    }
}

fn response(root: &Element, url: Option<&str>) -> Result<Document, MarkupError> {
    let mut scope = Scope { base: url, notices: Notices::default(), verbs: 0 };
    Attributes::of(root).finish(&mut scope.notices);
    let mut verbs: Vec<VerbSpec> = Vec::new();
    for node in &root.children {
        match node {
            Node::Element(element) => {
                scope.count_verb()?;
                match element.name.as_str() {
                    "Start" | "Stop" => verbs.extend(record::start_or_stop(element, &mut scope)?),
                    _ => verbs.extend(verb(element, &mut scope)?),
                }
            }
            Node::Text(text) if text.trim().is_empty() => {}
            Node::Text(_) => scope.notices.schema("text directly inside Response is ignored"),
        }
    }
    Ok(Document { verbs, notices: scope.notices.list })
}

/// Reads a verb; `None` if it is unknown, not implemented, or has nothing to do.
fn verb(element: &Element, scope: &mut Scope<'_>) -> Result<Option<VerbSpec>, MarkupError> {
    let verb = match element.name.as_str() {
        "Say" => say::read(element, scope).map(VerbSpec::Say),
        "Play" => play(element, scope).map(VerbSpec::Play),
        "Pause" => Some(VerbSpec::Pause(pause(element, scope))),
        "Gather" => Some(VerbSpec::Gather(Box::new(gather::read(element, scope)?))),
        "Dial" => Some(VerbSpec::Dial(Box::new(dial::read(element, scope)?))),
        "Redirect" => Some(VerbSpec::Redirect(redirect(element, scope))),
        "Hangup" => {
            leaf(element, Attributes::of(element), scope);
            Some(VerbSpec::Hangup)
        }
        "Echo" => {
            leaf(element, Attributes::of(element), scope);
            Some(VerbSpec::Echo)
        }
        "Reject" => Some(VerbSpec::Reject(reject(element, scope))),
        "Enqueue" => queue::enqueue(element, scope).map(|verb| VerbSpec::Enqueue(Box::new(verb))),
        "Leave" => {
            leaf(element, Attributes::of(element), scope);
            Some(VerbSpec::Leave)
        }
        "Sms" => sms::read(element, scope).map(|sms| VerbSpec::Sms(Box::new(sms))),
        "Refer" => refer::read(element, scope).map(|refer| VerbSpec::Refer(Box::new(refer))),
        "Record" => Some(VerbSpec::Record(Box::new(record::read(element, scope)))),
        "Connect" => stream::connect(element, scope).map(|connect| VerbSpec::Connect(Box::new(connect))),
        name if NOT_YET.contains(&name) => {
            scope.notices.schema(format!("verb {name} is not implemented yet: skipped"));
            None
        }
        name => {
            scope.notices.schema(format!("unknown element {} in Response: skipped", quote(name)));
            None
        }
    };
    Ok(verb)
}

fn play(element: &Element, scope: &mut Scope<'_>) -> Option<PlaySpec> {
    let mut attributes = Attributes::of(element);
    let loops = attributes.loops(&mut scope.notices);
    let digits = attributes.text("digits").map(str::to_owned);
    leaf(element, attributes, scope);
    let text = element.text();
    let what = match digits {
        Some(digits) if !digits.is_empty() && digits.chars().all(|c| "0123456789*#ABCDwW".contains(c)) => {
            Playable::Digits(digits)
        }
        Some(_) => {
            scope.notices.schema("digits of Play are 0-9 * # w W: skipped");
            return None;
        }
        None if text.is_empty() => {
            scope.notices.schema("Play without a url: skipped");
            return None;
        }
        None => match text.strip_prefix("dialtone:") {
            Some(name) => Playable::Prompt(name.to_owned()),
            None => Playable::Url(scope.link(&text)),
        },
    };
    Some(PlaySpec { what, loops })
}

fn pause(element: &Element, scope: &mut Scope<'_>) -> PauseSpec {
    let mut attributes = Attributes::of(element);
    let seconds = attributes.integer("length", 1..=MAX_SECONDS, 1, &mut scope.notices);
    leaf(element, attributes, scope);
    PauseSpec { length: Duration::from_secs(u64::from(seconds)) }
}

fn redirect(element: &Element, scope: &mut Scope<'_>) -> RedirectSpec {
    let mut attributes = Attributes::of(element);
    let method = attributes.method("method", Method::Post, &mut scope.notices);
    leaf(element, attributes, scope);
    RedirectSpec { link: scope.link(&element.text()), method }
}

fn reject(element: &Element, scope: &mut Scope<'_>) -> RejectReason {
    let mut attributes = Attributes::of(element);
    let reasons = [("rejected", RejectReason::Rejected), ("busy", RejectReason::Busy)];
    let reason = attributes.choice("reason", &reasons, RejectReason::Rejected, &mut scope.notices);
    leaf(element, attributes, scope);
    reason
}

/// Remarks on attributes that nobody asked for, and on elements inside one that has none. `Parameter` is allowed.
fn leaf(element: &Element, attributes: Attributes<'_>, scope: &mut Scope<'_>) {
    attributes.finish(&mut scope.notices);
    for inner in element.elements().filter(|inner| inner.name != "Parameter") {
        scope.notices.schema(format!("element {} is not allowed in {}: ignored", quote(&inner.name), element.name));
    }
}

/// Reads what a `<Gather>` may hold.
fn prompt(element: &Element, scope: &mut Scope<'_>) -> Option<PromptSpec> {
    match element.name.as_str() {
        "Say" => say::read(element, scope).map(PromptSpec::Say),
        "Play" => play(element, scope).map(PromptSpec::Play),
        "Pause" => Some(PromptSpec::Pause(pause(element, scope))),
        name => {
            scope.notices.schema(format!("element {} is not allowed in Gather: skipped", quote(name)));
            None
        }
    }
}

/// A customer's word in a notice: cut to a length that a log can bear.
fn quote(text: &str) -> String {
    const MAX_CHARS: usize = 64;
    match text.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => format!("{:?}...", &text[..end]),
        None => format!("{text:?}"),
    }
}

/// A day: longer times in a document are cut to it.
const MAX_SECONDS: u32 = 86_400;

/// Verbs that Twilio has and Dialtone has not yet.
const NOT_YET: &[&str] = &["Pay", "Prompt", "Queue"];

#[cfg(test)]
mod tests;
