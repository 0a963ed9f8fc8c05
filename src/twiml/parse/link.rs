//! URLs of a document: absolute as they are, relative against the document's own.

use url::Url;

use crate::twiml::document::Link;

/// Longer URLs are refused.
const MAX_URL_BYTES: usize = 8 * 1024;

/// Resolves `text`. An absolute URL is kept byte for byte, since the customer's server checks a signature over it.
pub(super) fn resolve(text: &str, base: Option<&str>) -> Link {
    let text = text.trim();
    let unresolvable = || Link::Unresolvable(text.to_owned());
    if text.len() > MAX_URL_BYTES || text.chars().any(char::is_control) {
        return unresolvable();
    }
    match Url::parse(text) {
        Ok(url) if is_http(&url) => Link::Absolute(text.to_owned()),
        Ok(_) => unresolvable(),
        Err(url::ParseError::RelativeUrlWithoutBase) => base
            .and_then(|base| Url::parse(base).ok())
            .and_then(|base| base.join(text).ok())
            .filter(is_http)
            .map_or_else(unresolvable, |url| Link::Absolute(url.into())),
        Err(_) => unresolvable(),
    }
}

/// Resolves the URL of a stream: one of HTTP is that of a WebSocket at the same place.
pub(super) fn resolve_stream(text: &str, base: Option<&str>) -> Link {
    if Url::parse(text.trim()).is_ok_and(|url| matches!(url.scheme(), "ws" | "wss") && url.has_host()) {
        let text = text.trim();
        return match text.len() > MAX_URL_BYTES || text.chars().any(char::is_control) {
            true => Link::Unresolvable(text.to_owned()),
            false => Link::Absolute(text.to_owned()),
        };
    }
    match resolve(text, base.filter(|_| !text.trim().is_empty())) {
        Link::Absolute(http) => Link::Absolute(format!("ws{}", &http["http".len()..])),
        other => other,
    }
}

fn is_http(url: &Url) -> bool {
    matches!(url.scheme(), "http" | "https") && url.has_host()
}
