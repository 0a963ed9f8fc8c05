//! Header names: the ones that we read by number, with their compact forms (RFC 3261 s7.3.3).

/// A header that we know; `Other` keeps its name in the message only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum HeaderName {
    Via,
    From,
    To,
    CallId,
    CSeq,
    Contact,
    MaxForwards,
    ContentLength,
    ContentType,
    ContentEncoding,
    ContentDisposition,
    Route,
    RecordRoute,
    Require,
    ProxyRequire,
    Supported,
    Unsupported,
    Allow,
    Accept,
    Authorization,
    ProxyAuthorization,
    WwwAuthenticate,
    ProxyAuthenticate,
    Expires,
    MinExpires,
    Path,
    RetryAfter,
    Reason,
    Date,
    Subject,
    UserAgent,
    Server,
    Event,
    ReferTo,
    SessionExpires,
    PAssertedIdentity,
    Warning,
    Other,
}

use HeaderName as H;

/// Canonical names, in the order of the enum.
const NAMES: [&str; 37] = [
    "Via",
    "From",
    "To",
    "Call-ID",
    "CSeq",
    "Contact",
    "Max-Forwards",
    "Content-Length",
    "Content-Type",
    "Content-Encoding",
    "Content-Disposition",
    "Route",
    "Record-Route",
    "Require",
    "Proxy-Require",
    "Supported",
    "Unsupported",
    "Allow",
    "Accept",
    "Authorization",
    "Proxy-Authorization",
    "WWW-Authenticate",
    "Proxy-Authenticate",
    "Expires",
    "Min-Expires",
    "Path",
    "Retry-After",
    "Reason",
    "Date",
    "Subject",
    "User-Agent",
    "Server",
    "Event",
    "Refer-To",
    "Session-Expires",
    "P-Asserted-Identity",
    "Warning",
];

impl HeaderName {
    /// The canonical name; empty for `Other`.
    pub fn as_str(self) -> &'static str {
        NAMES.get(self as usize).copied().unwrap_or("")
    }

    /// Reads a name, long or compact, in any case.
    ///
    /// A match on length and first letter first: this runs once for every header line of every message.
    pub fn from_text(name: &str) -> HeaderName {
        let bytes = name.as_bytes();
        let Some(first) = bytes.first() else { return H::Other };
        let candidates: &[HeaderName] = match (bytes.len(), first.to_ascii_lowercase()) {
            (1, letter) => return compact(letter),
            (2, b't') => &[H::To],
            (3, b'v') => &[H::Via],
            (4, b'f') => &[H::From],
            (4, b'c') => &[H::CSeq],
            (4, b'd') => &[H::Date],
            (4, b'p') => &[H::Path],
            (5, b'r') => &[H::Route],
            (5, b'a') => &[H::Allow],
            (5, b'e') => &[H::Event],
            (6, b'a') => &[H::Accept],
            (6, b'r') => &[H::Reason],
            (6, b's') => &[H::Server],
            (7, b'c') => &[H::CallId, H::Contact],
            (7, b'r') => &[H::Require],
            (7, b'e') => &[H::Expires],
            (7, b's') => &[H::Subject],
            (7, b'w') => &[H::Warning],
            (8, b'r') => &[H::ReferTo],
            (9, b's') => &[H::Supported],
            (10, b'u') => &[H::UserAgent],
            (11, b'u') => &[H::Unsupported],
            (11, b'm') => &[H::MinExpires],
            (11, b'r') => &[H::RetryAfter],
            (12, b'c') => &[H::ContentType],
            (12, b'm') => &[H::MaxForwards],
            (12, b'r') => &[H::RecordRoute],
            (13, b'a') => &[H::Authorization],
            (13, b'p') => &[H::ProxyRequire],
            (14, b'c') => &[H::ContentLength],
            (15, b's') => &[H::SessionExpires],
            (16, b'c') => &[H::ContentEncoding],
            (16, b'w') => &[H::WwwAuthenticate],
            (18, b'p') => &[H::ProxyAuthenticate],
            (19, b'c') => &[H::ContentDisposition],
            (19, b'p') => &[H::ProxyAuthorization, H::PAssertedIdentity],
            _ => &[],
        };
        candidates.iter().copied().find(|candidate| candidate.as_str().eq_ignore_ascii_case(name)).unwrap_or(H::Other)
    }
}

fn compact(letter: u8) -> HeaderName {
    match letter {
        b'v' => H::Via,
        b'f' => H::From,
        b't' => H::To,
        b'i' => H::CallId,
        b'm' => H::Contact,
        b'l' => H::ContentLength,
        b'c' => H::ContentType,
        b'e' => H::ContentEncoding,
        b'k' => H::Supported,
        b's' => H::Subject,
        b'o' => H::Event,
        b'r' => H::ReferTo,
        b'x' => H::SessionExpires,
        _ => H::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_found_in_any_case() {
        for name in NAMES {
            let found = HeaderName::from_text(&name.to_ascii_uppercase());
            assert_eq!(found.as_str(), name);
        }
    }
}
