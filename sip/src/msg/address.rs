//! Addresses: `"Name" <uri>;params` or `uri;params` (From, To, Contact, Route; RFC 3261 s20.10).

use std::borrow::Cow;

use super::param::{Params, find_outside_quotes};
use super::scan::{self, ByteSet};
use super::uri::{Uri, UriError};

/// A name-addr or addr-spec, with the parameters of its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address<'a> {
    /// As written, with its quotes; empty where there is none.
    display: &'a str,
    /// The URI's text.
    pub uri: &'a str,
    pub params: Params<'a>,
}

impl<'a> Address<'a> {
    pub fn parse(text: &'a str) -> Result<Address<'a>, UriError> {
        let text = text.trim_ascii();
        if has_open_quote(text) {
            return Err(UriError::Quote);
        }
        match find_outside_quotes(text, b'<') {
            Some(open) => Address::parse_bracketed(text, open),
            None => Address::parse_bare(text),
        }
    }

    fn parse_bracketed(text: &'a str, open: usize) -> Result<Address<'a>, UriError> {
        let display = text[..open].trim_ascii();
        if !is_display_name(display) {
            return Err(UriError::DisplayName);
        }
        let close = scan::find(&text[open..], b'>').ok_or(UriError::Bracket)? + open;
        let rest = text[close + 1..].trim_ascii_start();
        if !rest.is_empty() && !rest.starts_with(';') {
            return Err(UriError::Bracket);
        }
        Ok(Address { display, uri: &text[open + 1..close], params: Params(rest) })
    }

    /// Without brackets every parameter is the header's, and the URI may hold no `?` or `,` (RFC 3261 s20.10).
    fn parse_bare(text: &'a str) -> Result<Address<'a>, UriError> {
        let (uri, params) = match scan::find(text, b';') {
            Some(at) => text.split_at(at),
            None => (text, ""),
        };
        let uri = uri.trim_ascii_end();
        if uri.bytes().any(|byte| matches!(byte, b'?' | b',' | b'"' | b'>')) {
            return Err(UriError::Bracket);
        }
        if scan::has_white_space(uri) {
            return Err(UriError::Space);
        }
        Ok(Address { display: "", uri, params: Params(params) })
    }

    pub fn parsed_uri(&self) -> Result<Uri<'a>, UriError> {
        Uri::parse(self.uri)
    }

    pub fn tag(&self) -> Option<&'a str> {
        self.params.get("tag").filter(|tag| !tag.is_empty())
    }

    /// The display name without quotes and escapes; line folds and other control bytes become spaces.
    pub fn display_name(&self) -> Cow<'a, str> {
        let inner = super::param::unquoted(self.display);
        if !inner.bytes().any(|byte| byte == b'\\' || byte.is_ascii_control()) {
            return Cow::Borrowed(inner);
        }
        let mut name = String::with_capacity(inner.len());
        let mut escaped = false;
        for letter in inner.chars() {
            match letter {
                '\\' if !escaped => escaped = true,
                letter => {
                    name.push(if letter.is_ascii_control() { ' ' } else { letter });
                    escaped = false;
                }
            }
        }
        Cow::Owned(name)
    }
}

/// The tag of an address, with as little reading as that takes: it is asked for several times of each message.
pub(super) fn tag_of(text: &str) -> Option<&str> {
    // Without quotes nothing hides a bracket, and all that stands behind the last is parameters.
    if scan::find(text, b'"').is_none()
        && let Some(close) = scan::rfind(text, b'>')
        && scan::find(&text[..close], b'<').is_some_and(|open| scan::find(&text[open + 1..close], b'>').is_none())
    {
        let params = text[close + 1..].trim_ascii_start();
        let is_well_formed = params.is_empty() || params.starts_with(';');
        return Params(params).get("tag").filter(|tag| is_well_formed && !tag.is_empty());
    }
    Address::parse(text).ok()?.tag()
}

fn has_open_quote(text: &str) -> bool {
    if scan::find(text, b'"').is_none() {
        return false;
    }
    let (mut quoted, mut escaped) = (false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ => {}
        }
    }
    quoted
}

/// A quoted string, or tokens with white space between (RFC 3261 s25.1 `display-name`).
fn is_display_name(text: &str) -> bool {
    if let Some(rest) = text.strip_prefix('"') {
        let mut escaped = false;
        let end = rest.bytes().position(|byte| {
            let ends = byte == b'"' && !escaped;
            escaped = byte == b'\\' && !escaped;
            ends
        });
        return end == rest.len().checked_sub(1);
    }
    DISPLAY.has_all_of(text)
}

/// Token bytes, the white space between tokens, and what is no ASCII.
const DISPLAY: ByteSet = ByteSet::alphanumeric_and(b"-.!%*_+`'~ \t\r\n\x0c").or_beyond_ascii();

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read() {
        let address = Address::parse(r#""J \"Rock\" D" <sip:j@h;lr>;tag=9"#).unwrap();
        assert_eq!(address.display_name(), r#"J "Rock" D"#);
        assert_eq!((address.uri, address.tag()), ("sip:j@h;lr", Some("9")));
        let bare = Address::parse("sip:j@h;tag=9").unwrap();
        assert_eq!((bare.uri, bare.tag()), ("sip:j@h", Some("9")));
        assert_eq!(Address::parse("caller<sip:a@b>").unwrap().display_name(), "caller");
        assert_eq!(Address::parse("\"a\0b\" <sip:a@b>").unwrap().display_name(), "a b");
    }

    #[test]
    fn malformed_addresses_are_refused() {
        for (text, error) in [
            (r#""Mr. J <sip:j@h>"#, UriError::Quote),
            ("Bell, A <sip:a@h>", UriError::DisplayName),
            ("sip:user@example.com?Route=%3Csip%3E", UriError::Bracket),
            ("<sip:a@h", UriError::Bracket),
            ("sip:a@h>", UriError::Bracket),
            (r#""a" b "c" <sip:a@h>"#, UriError::DisplayName),
            (r#""a"b <sip:a@h>"#, UriError::DisplayName),
            ("sip:a b@h", UriError::Space),
        ] {
            assert_eq!(Address::parse(text), Err(error), "{text}");
        }
    }
}
