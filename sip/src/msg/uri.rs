//! URIs: SIP and SIPS in full (RFC 3261 s19.1), other schemes as text.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use super::param::Params;
use super::scan::{self, ByteSet};
use crate::flow::Transport;

/// What is wrong with a URI, an address or a Via.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UriError {
    Scheme,
    Host,
    Port,
    User,
    Escape,
    Space,
    Quote,
    Bracket,
    DisplayName,
    Via,
    TooLong,
}

impl fmt::Display for UriError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            UriError::Scheme => "uri without a scheme",
            UriError::Host => "malformed host",
            UriError::Port => "malformed port",
            UriError::User => "malformed user part",
            UriError::Escape => "malformed percent escape",
            UriError::Space => "white space inside a uri",
            UriError::Quote => "unbalanced quotes",
            UriError::Bracket => "unbalanced or missing angle brackets",
            UriError::DisplayName => "malformed display name",
            UriError::Via => "malformed via",
            UriError::TooLong => "uri longer than 2048 bytes",
        })
    }
}

impl std::error::Error for UriError {}

/// Any URI: one of ours, or a scheme and its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Uri<'a> {
    Sip(SipUri<'a>),
    Other { scheme: &'a str, text: &'a str },
}

impl<'a> Uri<'a> {
    pub fn parse(text: &'a str) -> Result<Uri<'a>, UriError> {
        if text.len() > super::limits::URI_BYTES {
            return Err(UriError::TooLong);
        }
        let (mut space, mut bracket) = (false, false);
        for byte in text.bytes() {
            space |= byte <= b' ' || byte == 0x7f;
            bracket |= byte == b'<' || byte == b'>';
        }
        if space {
            return Err(UriError::Space);
        }
        if bracket {
            return Err(UriError::Bracket);
        }
        let (scheme, rest) = scan::split_once(text, b':').ok_or(UriError::Scheme)?;
        if scheme.is_empty() || !SCHEME.has_all_of(scheme) {
            return Err(UriError::Scheme);
        }
        let secure = scheme.eq_ignore_ascii_case("sips");
        if secure || scheme.eq_ignore_ascii_case("sip") {
            SipUri::parse_after_scheme(rest, secure).map(Uri::Sip)
        } else {
            Ok(Uri::Other { scheme, text })
        }
    }

    pub fn sip(self) -> Option<SipUri<'a>> {
        match self {
            Uri::Sip(uri) => Some(uri),
            Uri::Other { .. } => None,
        }
    }

    /// The user part, or the number of a `tel:` URI; empty where there is none.
    pub fn user(&self) -> &'a str {
        match *self {
            Uri::Sip(uri) => uri.user.unwrap_or(""),
            Uri::Other { scheme, text } if scheme.eq_ignore_ascii_case("tel") => {
                scan::split_once(&text[scheme.len() + 1..], b';')
                    .map_or(&text[scheme.len() + 1..], |(number, _)| number)
            }
            Uri::Other { .. } => "",
        }
    }
}

/// A `sip:` or `sips:` URI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SipUri<'a> {
    pub secure: bool,
    /// As written, escapes and all, without a password.
    pub user: Option<&'a str>,
    pub password: Option<&'a str>,
    pub host: HostPort<'a>,
    pub params: Params<'a>,
    /// What follows `?`.
    pub headers: Option<&'a str>,
}

impl<'a> SipUri<'a> {
    /// Reads a whole URI; `None` of another scheme.
    pub fn parse(text: &'a str) -> Result<SipUri<'a>, UriError> {
        Uri::parse(text)?.sip().ok_or(UriError::Scheme)
    }

    fn parse_after_scheme(rest: &'a str, secure: bool) -> Result<SipUri<'a>, UriError> {
        // The user part may hold `;` and `?`: the last `@` before the headers' values ends it (RFC 3261 s25.1).
        let (userinfo, hostpart) = match scan::rfind(rest, b'@') {
            Some(at) => (Some(&rest[..at]), &rest[at + 1..]),
            None => (None, rest),
        };
        let (user, password) = match userinfo {
            None => (None, None),
            Some("") => return Err(UriError::User),
            Some(info) => match scan::split_once(info, b':') {
                Some((user, password)) => (Some(user), Some(password)),
                None => (Some(info), None),
            },
        };
        if user.is_some_and(|user| !USER.has_all_of(user)) {
            return Err(UriError::User);
        }
        check_escapes(rest)?;
        let (hostpart, headers) = match scan::split_once(hostpart, b'?') {
            Some((before, headers)) => (before, Some(headers)),
            None => (hostpart, None),
        };
        let (host, params) = match scan::find(hostpart, b';') {
            Some(at) => hostpart.split_at(at),
            None => (hostpart, ""),
        };
        Ok(SipUri { secure, user, password, host: HostPort::parse(host)?, params: Params(params), headers })
    }

    /// The user part with its escapes decoded; `None` if the result holds control bytes.
    pub fn decoded_user(&self) -> Option<Cow<'a, str>> {
        decode(self.user.unwrap_or(""))
    }

    /// The transport that the URI names.
    pub fn transport(&self) -> Option<&'a str> {
        self.params.get("transport")
    }

    /// Whether only TLS will do: over TCP, whichever way that is written.
    pub fn wants_tls(&self) -> bool {
        self.secure || self.transport().is_some_and(|transport| transport.eq_ignore_ascii_case("tls"))
    }

    /// The address, if the host is one.
    pub fn socket_addr(&self) -> Option<SocketAddr> {
        let transport = if self.wants_tls() { Transport::Tls } else { Transport::Udp };
        Some(SocketAddr::new(self.host.ip()?, self.host.port.unwrap_or(transport.default_port())))
    }
}

/// A host with an optional port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostPort<'a> {
    /// Without the brackets of an IPv6 reference.
    pub host: &'a str,
    pub port: Option<u16>,
}

impl<'a> HostPort<'a> {
    pub fn parse(text: &'a str) -> Result<HostPort<'a>, UriError> {
        let (host, port) = if let Some(rest) = text.strip_prefix('[') {
            let (host, after) = scan::split_once(rest, b']').ok_or(UriError::Host)?;
            parse_ipv6(host).ok_or(UriError::Host)?;
            (host, after)
        } else {
            let end = scan::find(text, b':').unwrap_or(text.len());
            let (host, after) = text.split_at(end);
            if host.is_empty() || !HOST.has_all_of(host) {
                return Err(UriError::Host);
            }
            (host, after)
        };
        Ok(HostPort { host, port: parse_port(port)? })
    }

    /// As [`HostPort::parse`], with white space around the colon, as a Via allows it.
    pub fn parse_spaced(text: &'a str) -> Result<HostPort<'a>, UriError> {
        let Some(colon) = scan::rfind(text, b':').filter(|_| scan::has_white_space(text)) else {
            return HostPort::parse(text);
        };
        if text[colon..].contains(']') {
            return HostPort::parse(text);
        }
        let host = HostPort::parse(text[..colon].trim_ascii_end())?;
        let port = parse_digits(text[colon + 1..].trim_ascii_start())?;
        Ok(HostPort { port: Some(port), ..host })
    }

    pub fn ip(&self) -> Option<IpAddr> {
        if self.host.contains(':') { parse_ipv6(self.host).map(IpAddr::V6) } else { self.host.parse().ok() }
    }
}

impl fmt::Display for HostPort<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]", self.host)?
        } else {
            f.write_str(self.host)?
        }
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

fn parse_port(text: &str) -> Result<Option<u16>, UriError> {
    let Some(digits) = text.strip_prefix(':') else {
        return if text.is_empty() { Ok(None) } else { Err(UriError::Host) };
    };
    parse_digits(digits).map(Some)
}

fn parse_digits(digits: &str) -> Result<u16, UriError> {
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(UriError::Port);
    }
    digits.parse().map_err(|_| UriError::Port)
}

/// Also with three colons before an IPv4 part: the grammar of RFC 3261 has it so by mistake, and such a reference
/// must be tolerated (RFC 5118 s4.10).
fn parse_ipv6(text: &str) -> Option<Ipv6Addr> {
    match text.parse() {
        Ok(address) => Some(address),
        Err(_) if text.contains(":::") && text.contains('.') => text.replacen(":::", "::", 1).parse().ok(),
        Err(_) => None,
    }
}

const SCHEME: ByteSet = ByteSet::alphanumeric_and(b"+-.");
const HOST: ByteSet = ByteSet::alphanumeric_and(b"-._");
const USER: ByteSet = ByteSet::alphanumeric_and(b"-_.!~*'()&=+$,;?/%#[]{}^|`\\\"").or_beyond_ascii();

fn check_escapes(text: &str) -> Result<(), UriError> {
    let bytes = text.as_bytes();
    if scan::find(text, b'%').is_none() {
        return Ok(());
    }
    let ok = bytes
        .iter()
        .enumerate()
        .filter(|(_, byte)| **byte == b'%')
        .all(|(at, _)| bytes.get(at + 1..at + 3).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)));
    if ok { Ok(()) } else { Err(UriError::Escape) }
}

/// Decodes percent escapes. `None` where that yields a control byte (CR, LF, NUL: header injection) or bad UTF-8.
pub fn decode(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains('%') {
        return Some(Cow::Borrowed(text));
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let hex = [bytes.next()?, bytes.next()?];
        let value = u8::from_str_radix(std::str::from_utf8(&hex).ok()?, 16).ok()?;
        if value.is_ascii_control() {
            return None;
        }
        decoded.push(value);
    }
    String::from_utf8(decoded).ok().map(Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uri_is_taken_apart() {
        let uri = SipUri::parse("sips:alice;day=tue:pw@[2001:db8::1]:5061;transport=tcp;lr?subject=x").unwrap();
        assert!(uri.secure);
        assert_eq!((uri.user, uri.password), (Some("alice;day=tue"), Some("pw")));
        assert_eq!((uri.host.host, uri.host.port), ("2001:db8::1", Some(5061)));
        assert_eq!((uri.transport(), uri.headers), (Some("tcp"), Some("subject=x")));
        assert_eq!(Uri::parse("tel:+15550001;phone-context=x").unwrap().user(), "+15550001");
    }

    #[test]
    fn malformed_uris_are_refused() {
        for (text, error) in [
            ("alice@example.com", UriError::Scheme),
            ("sip:", UriError::Host),
            ("sip:alice@", UriError::Host),
            ("sip:a@h:", UriError::Port),
            ("sip:a@h:70000", UriError::Port),
            ("sip:a@h:-1", UriError::Port),
            ("sip:a b@h", UriError::Space),
            ("sip:a%4@h", UriError::Escape),
            ("sip:a@[2001:db8::1", UriError::Host),
            ("sip:a@2001:db8::1", UriError::Port),
            ("sip:a@[2001:db8:::1]", UriError::Host),
            ("<sip:a@h>", UriError::Bracket),
        ] {
            assert_eq!(Uri::parse(text), Err(error), "{text}");
        }
    }

    #[test]
    fn third_colon_before_an_ipv4_part_is_tolerated() {
        let uri = SipUri::parse("sip:user@[2001:db8:::192.0.2.1]").unwrap();
        assert_eq!(uri.host.ip(), "2001:db8::192.0.2.1".parse().ok());
    }

    #[test]
    fn threat_13_an_escaped_line_break_is_refused() {
        assert_eq!(decode("a%0d%0aVia"), None);
        assert_eq!(decode("a%00"), None);
        assert_eq!(decode("caf%C3%A9").as_deref(), Some("café"));
    }
}
