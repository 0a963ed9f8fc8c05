//! Whom a noun names: numbers, clients and SIP URIs, checked so that nothing in them can break out of a SIP header.

use percent_encoding::percent_decode_str;

use crate::ids::is_sid;
use crate::twiml::notice::{Notice, code};
use crate::twiml::parse::attributes::Attributes;
use crate::twiml::parse::xml::Element;
use crate::twiml::parse::{Notices, quote};
use crate::twiml::port::{SipTarget, Target};

/// Twilio's limit for the text of a `<Sip>`.
const MAX_SIP_URI_BYTES: usize = 255;

const MAX_IDENTITY_CHARS: usize = 256;
const MAX_PARAMETERS: usize = 100;
const MAX_HEADERS: usize = 50;
const MAX_HEADER_BYTES: usize = 1_024;

/// A telephone number: its digits, without the punctuation that people write.
pub(super) fn number(text: &str, notices: &mut Notices) -> Option<Target> {
    let number: String = text.chars().filter(|c| !matches!(c, ' ' | '-' | '(' | ')' | '.')).collect();
    let digits = number.strip_prefix('+').unwrap_or(&number);
    if (1..=32).contains(&digits.len()) && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'*' | b'#')) {
        return Some(Target::Number(number));
    }
    let text = format!("no telephone number: {}", quote(text.trim()));
    notices.push(Notice::warning(code::DIAL_INVALID_NUMBER, text));
    None
}

/// A client: its name as text or in `<Identity>`, and what its application is to be told.
pub(super) fn client(element: &Element, notices: &mut Notices) -> Option<Target> {
    let mut identity = element.text();
    let mut parameters = Vec::new();
    for inner in element.elements() {
        match inner.name.as_str() {
            "Identity" => identity = inner.text(),
            "Parameter" if parameters.len() < MAX_PARAMETERS => parameters.extend(pair(inner, notices)),
            "Parameter" => {}
            name => notices.schema(format!("unknown element {} in Client: ignored", quote(name))),
        }
    }
    let good = !identity.is_empty()
        && identity.chars().count() <= MAX_IDENTITY_CHARS
        && !identity.chars().any(|c| c.is_control() || c.is_whitespace());
    if !good {
        notices.push(Notice::warning(code::DIAL_INVALID_NOUN, format!("no client name: {}", quote(&identity))));
        return None;
    }
    Some(Target::Client { identity, parameters })
}

/// An application: its sid as text or in `<ApplicationSid>`, and what it is to be told.
pub(super) fn application(element: &Element, copies_to: bool, notices: &mut Notices) -> Option<Target> {
    let mut sid = element.text();
    let mut parameters = Vec::new();
    for inner in element.elements() {
        match inner.name.as_str() {
            "ApplicationSid" => sid = inner.text(),
            "Parameter" if parameters.len() < MAX_PARAMETERS => parameters.extend(pair(inner, notices)),
            "Parameter" => {}
            name => notices.schema(format!("unknown element {} in Application: ignored", quote(name))),
        }
    }
    if !is_sid(&sid, "AP") {
        notices.push(Notice::warning(code::DIAL_INVALID_NOUN, format!("no sid of an application: {}", quote(&sid))));
        return None;
    }
    Some(Target::Application { sid, parameters, copies_to })
}

/// A SIP URI: the text of a `<Sip>`, or its first `<Uri>` with its `<Headers>`.
pub(super) fn sip(
    element: &Element,
    username: Option<&str>,
    password: Option<&str>,
    notices: &mut Notices,
) -> Option<SipTarget> {
    let mut text = element.text();
    let (mut username, mut password) = (username.map(str::to_owned), password.map(str::to_owned));
    let mut headers = Vec::new();
    for inner in element.elements() {
        match inner.name.as_str() {
            "Uri" if text.is_empty() => {
                text = inner.text();
                let mut attributes = Attributes::of(inner);
                username = attributes.text("username").map(str::to_owned).or(username);
                password = attributes.text("password").map(str::to_owned).or(password);
                attributes.accept(&["priority", "weight"]);
                attributes.finish(notices);
            }
            "Uri" => notices.schema("further Uri of Sip: ignored"),
            "Headers" => headers.extend(inner.elements().filter_map(|header| pair(header, notices))),
            name => notices.schema(format!("unknown element {} in Sip: ignored", quote(name))),
        }
    }
    let (uri, query) = text.split_once('?').unwrap_or((&text, ""));
    if text.len() > MAX_SIP_URI_BYTES || !is_sip_uri(uri) {
        let text = format!("no sip uri, or longer than {MAX_SIP_URI_BYTES} bytes: {}", quote(&text));
        notices.push(Notice::warning(code::DIAL_INVALID_NOUN, text));
        return None;
    }
    let mut all = uri_headers(query, notices);
    all.append(&mut headers);
    all.retain(|(name, value)| is_passed_on(name, value, notices));
    all.truncate(MAX_HEADERS);
    Some(SipTarget { uri: uri.to_owned(), headers: all, username, password })
}

/// `sip:` or `sips:` and something; no space, quote or bracket; no control character, not even an escaped one.
fn is_sip_uri(uri: &str) -> bool {
    let rest = ["sip:", "sips:"].iter().find_map(|scheme| {
        uri.get(..scheme.len()).filter(|start| start.eq_ignore_ascii_case(scheme)).map(|_| &uri[scheme.len()..])
    });
    let Some(rest) = rest else { return false };
    !rest.is_empty()
        && rest.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'<' | b'>' | b'"'))
        && !percent_decode_str(rest).any(|byte| byte.is_ascii_control())
}

/// The headers after a URI's `?`, decoded.
fn uri_headers(query: &str, notices: &mut Notices) -> Vec<(String, String)> {
    let mut headers = Vec::new();
    for piece in query.split('&').filter(|piece| !piece.is_empty()) {
        let (name, value) = piece.split_once('=').unwrap_or((piece, ""));
        let decode = |text: &str| percent_decode_str(text).decode_utf8().map(|text| text.into_owned());
        match (decode(name), decode(value)) {
            (Ok(name), Ok(value)) => headers.push((name, value)),
            _ => notices.schema("header of a sip uri is not utf-8: ignored"),
        }
    }
    headers
}

/// Customers' headers only, and only such as fit into one line.
fn is_passed_on(name: &str, value: &str, notices: &mut Notices) -> bool {
    let prefix = name.get(..2).unwrap_or_default();
    let known = prefix.eq_ignore_ascii_case("x-") || name.eq_ignore_ascii_case("user-to-user");
    let is_token = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
    let fits = name.len() + value.len() <= MAX_HEADER_BYTES && !value.chars().any(char::is_control);
    let good = known && is_token && fits;
    if !good {
        notices.schema(format!("sip header {} is not passed on", quote(name)));
    }
    good
}

/// The `name` and `value` of a `<Parameter>` or `<Header>`.
fn pair(element: &Element, notices: &mut Notices) -> Option<(String, String)> {
    let mut attributes = Attributes::of(element);
    let name = attributes.text("name").unwrap_or_default().to_owned();
    let value = attributes.text("value").unwrap_or_default().to_owned();
    attributes.finish(notices);
    if name.is_empty() {
        notices.schema(format!("{} without a name: ignored", quote(&element.name)));
        return None;
    }
    Some((name, value))
}

/// Whom a text names, as the API writes it: a number, `sip:...`, or `client:NAME?parameter=value`. `None` if nobody.
pub fn target(text: &str, username: Option<&str>, password: Option<&str>) -> Option<Target> {
    let mut notices = Notices::default();
    let element = |text: &str| Element::of_text(text);
    if text.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case("client:")) {
        let (identity, query) = text[7..].split_once('?').unwrap_or((&text[7..], ""));
        let Target::Client { identity, mut parameters } = client(&element(identity), &mut notices)? else {
            return None;
        };
        parameters.extend(url::form_urlencoded::parse(query.as_bytes()).into_owned().take(MAX_PARAMETERS));
        return Some(Target::Client { identity, parameters });
    }
    if text.get(..3).is_some_and(|scheme| scheme.eq_ignore_ascii_case("sip")) {
        return sip(&element(text), username, password, &mut notices).map(Target::Sip);
    }
    number(text, &mut notices)
}
