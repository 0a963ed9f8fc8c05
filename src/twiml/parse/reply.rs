//! What an application answers to a text that came in: `<Message>`, `<Redirect>`, or the plain text of an answer.

use crate::twiml::document::{Reply, ReplyVerb, SmsVerb};
use crate::twiml::parse::attributes::Attributes;
use crate::twiml::parse::xml::{self, Element};
use crate::twiml::parse::{Kind, MarkupError, Notices, Scope, quote, redirect, sms, text_of};

/// Reads an answer. `url` is where it came from after redirects: relative URLs resolve against it.
///
/// # Errors
/// [`MarkupError`], whose `code()` is Twilio's number for it. An empty body is no answer, and no error.
pub fn reply(body: &[u8], content_type: Option<&str>, url: Option<&str>) -> Result<Reply, MarkupError> {
    if body.is_empty() {
        return Ok(Reply::default());
    }
    let mut scope = Scope { base: url, notices: Notices::default(), verbs: 0 };
    let text = text_of(body)?;
    let root = match Kind::of(content_type)? {
        Kind::Audio => return Err(MarkupError::ContentTypeUnknown),
        // Twilio runs what is a valid document, and sends everything else.
        Kind::Text => Some(text)
            .filter(|text| text.trim_start().starts_with('<'))
            .and_then(|text| xml::read(text).ok())
            .filter(|root| root.name == "Response"),
        Kind::Xml => Some(xml::read(text)?),
    };
    let mut verbs = Vec::new();
    match root {
        None => {
            let message = sms::with_body(text.trim(), SmsVerb::default(), &mut scope.notices);
            verbs.extend(message.map(|message| ReplyVerb::Message(Box::new(message))));
        }
        Some(root) if root.name != "Response" => return Err(MarkupError::NoResponse),
        Some(root) => {
            Attributes::of(&root).finish(&mut scope.notices);
            for element in root.elements() {
                scope.count_verb()?;
                verbs.extend(verb(element, &mut scope)?);
            }
        }
    }
    Ok(Reply { verbs, notices: scope.notices.list })
}

fn verb(element: &Element, scope: &mut Scope<'_>) -> Result<Option<ReplyVerb>, MarkupError> {
    Ok(match element.name.as_str() {
        // `Sms` is its name of old.
        "Message" | "Sms" => {
            let message = sms::attributes(element, scope);
            let body = body(element, scope)?;
            sms::with_body(&body, message, &mut scope.notices).map(|message| ReplyVerb::Message(Box::new(message)))
        }
        "Redirect" => Some(ReplyVerb::Redirect(redirect(element, scope))),
        name => {
            scope.notices.schema(format!("unknown element {} in the answer to a message: skipped", quote(name)));
            None
        }
    })
}

/// The text of a `<Message>`: its own, and that of each `<Body>`.
fn body(element: &Element, scope: &mut Scope<'_>) -> Result<String, MarkupError> {
    let mut text = element.text();
    for inner in element.elements() {
        scope.count_verb()?;
        match inner.name.as_str() {
            "Body" => text.push_str(&inner.text()),
            name => scope.notices.schema(format!("element {} of Message is not available: skipped", quote(name))),
        }
    }
    Ok(text)
}
