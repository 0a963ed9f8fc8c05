//! `<Sms>`, and what it has in common with the `<Message>` of an answer.

use crate::twiml::MAX_MESSAGE_CHARS;
use crate::twiml::document::SmsVerb;
use crate::twiml::notice::{Notice, code};
use crate::twiml::parse::attributes::Attributes;
use crate::twiml::parse::xml::Element;
use crate::twiml::parse::{Notices, Scope, link, quote};
use crate::twiml::port::Method;

/// Reads it; `None`, with a notice, if it says nothing, or too much.
pub(super) fn read(element: &Element, scope: &mut Scope<'_>) -> Option<SmsVerb> {
    let verb = attributes(element, scope);
    for inner in element.elements() {
        scope.notices.schema(format!("element {} is not allowed in Sms: ignored", quote(&inner.name)));
    }
    with_body(&element.text(), verb, &mut scope.notices)
}

/// All but the text.
pub(super) fn attributes(element: &Element, scope: &mut Scope<'_>) -> SmsVerb {
    let mut attributes = Attributes::of(element);
    let method = attributes.method("method", Method::Post, &mut scope.notices);
    let (to, from) = (attributes.text("to"), attributes.text("from"));
    let action = attributes.text("action").filter(|text| !text.trim().is_empty());
    let callback = attributes.text("statusCallback").filter(|text| !text.trim().is_empty());
    attributes.finish(&mut scope.notices);
    SmsVerb {
        to: to.map(|text| text.trim().to_owned()),
        from: from.map(|text| text.trim().to_owned()),
        body: String::new(),
        action: action.map(|text| scope.link(text)),
        method,
        callback: callback.map(|text| (link::resolve(text, scope.base), Method::Post)),
    }
}

pub(super) fn with_body(body: &str, verb: SmsVerb, notices: &mut Notices) -> Option<SmsVerb> {
    if !(1..=MAX_MESSAGE_CHARS).contains(&body.chars().count()) {
        let text = format!("a message needs a text of up to {MAX_MESSAGE_CHARS} characters: it is skipped");
        notices.push(Notice::warning(code::SMS_BODY, text));
        return None;
    }
    Some(SmsVerb { body: body.to_owned(), ..verb })
}
