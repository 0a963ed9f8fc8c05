//! `<Sms>`.

use crate::twiml::document::SmsVerb;
use crate::twiml::notice::{Notice, code};
use crate::twiml::parse::attributes::Attributes;
use crate::twiml::parse::xml::Element;
use crate::twiml::parse::{Scope, leaf, link};
use crate::twiml::port::Method;

/// Twilio's limit.
const MAX_BODY_CHARS: usize = 1_600;

/// Reads it; `None`, with a notice, if it says nothing, or too much.
pub(super) fn read(element: &Element, scope: &mut Scope<'_>) -> Option<SmsVerb> {
    let mut attributes = Attributes::of(element);
    let method = attributes.method("method", Method::Post, &mut scope.notices);
    let (to, from) = (attributes.text("to"), attributes.text("from"));
    let action = attributes.text("action");
    let callback = attributes.text("statusCallback").filter(|text| !text.trim().is_empty());
    leaf(element, attributes, scope);
    let body = element.text();
    if !(1..=MAX_BODY_CHARS).contains(&body.chars().count()) {
        let text = format!("Sms needs a text of up to {MAX_BODY_CHARS} characters: it is skipped");
        scope.notices.push(Notice::warning(code::SMS_BODY, text));
        return None;
    }
    Some(SmsVerb {
        to: to.map(|text| text.trim().to_owned()),
        from: from.map(|text| text.trim().to_owned()),
        body,
        action: action.map(|text| scope.link(text)),
        method,
        callback: callback.map(|text| (link::resolve(text, scope.base), Method::Post)),
    })
}
