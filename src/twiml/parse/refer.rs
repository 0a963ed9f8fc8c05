//! `<Refer>`.

use crate::twiml::document::ReferSpec;
use crate::twiml::notice::{Notice, code};
use crate::twiml::parse::attributes::Attributes;
use crate::twiml::parse::xml::Element;
use crate::twiml::parse::{Scope, quote, target};
use crate::twiml::port::Method;

/// Reads it; `None`, with a notice, if it names nobody.
pub(super) fn read(element: &Element, scope: &mut Scope<'_>) -> Option<ReferSpec> {
    let mut attributes = Attributes::of(element);
    let method = attributes.method("method", Method::Post, &mut scope.notices);
    let action = attributes.text("action");
    attributes.finish(&mut scope.notices);
    let (mut found, mut is_named) = (None, false);
    for inner in element.elements() {
        match inner.name.as_str() {
            "Sip" if !is_named => {
                is_named = true;
                Attributes::of(inner).finish(&mut scope.notices);
                found = target::sip(inner, None, None, &mut scope.notices);
            }
            name => scope.notices.schema(format!("unknown element {} in Refer: skipped", quote(name))),
        }
    }
    if !is_named {
        let text = "Refer needs one Sip with a sip uri: it is skipped";
        scope.notices.push(Notice::warning(code::DIAL_INVALID_NOUN, text));
    }
    let target = found?;
    Some(ReferSpec { uri: target.uri, headers: target.headers, action: action.map(|text| scope.link(text)), method })
}
