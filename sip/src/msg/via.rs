//! The Via header (RFC 3261 s20.42, RFC 3581).

use std::net::{IpAddr, SocketAddr};

use super::param::{Params, find_outside_quotes};
use super::scan;
use super::uri::{HostPort, UriError};

/// One Via value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Via<'a> {
    /// `2.0`, or another one: who speaks it is told 505, and that needs its Via.
    pub version: &'a str,
    /// As written: `UDP`.
    pub transport: &'a str,
    pub sent_by: HostPort<'a>,
    pub params: Params<'a>,
}

impl<'a> Via<'a> {
    /// Reads `SIP/2.0/UDP host:port;params`, with white space wherever the grammar allows it.
    pub fn parse(text: &'a str) -> Result<Via<'a>, UriError> {
        let (name, rest) = scan::split_once(text, b'/').ok_or(UriError::Via)?;
        let (version, rest) = scan::split_once(rest, b'/').ok_or(UriError::Via)?;
        let version = version.trim_ascii();
        let is_version =
            |text: &str| scan::split_once(text, b'.').is_some_and(|(one, two)| is_digits(one) && is_digits(two));
        if !name.trim_ascii().eq_ignore_ascii_case("SIP") || !is_version(version) {
            return Err(UriError::Via);
        }
        let rest = rest.trim_ascii_start();
        let end = rest.bytes().position(|byte| byte.is_ascii_whitespace()).ok_or(UriError::Via)?;
        let (transport, rest) = rest.split_at(end);
        if !scan::TOKEN.has_all_of(transport) {
            return Err(UriError::Via);
        }
        let (sent_by, params) = match find_outside_quotes(rest, b';') {
            Some(at) => (&rest[..at], &rest[at..]),
            None => (rest, ""),
        };
        Ok(Via { version, transport, sent_by: HostPort::parse_spaced(sent_by.trim_ascii())?, params: Params(params) })
    }

    pub fn branch(&self) -> Option<&'a str> {
        self.params.get("branch").filter(|branch| !branch.is_empty())
    }

    /// The branch, if it names a transaction as RFC 3261 s8.1.1.7 asks: the magic cookie with something behind it.
    pub fn transaction_branch(&self) -> Option<&'a str> {
        self.branch().filter(|branch| branch.len() > MAGIC_COOKIE.len() && branch.starts_with(MAGIC_COOKIE))
    }

    /// Where a response goes that came over UDP from `source` (RFC 3261 s18.2.2, RFC 3581 s4).
    ///
    /// A peer's `maddr` is not honoured: a stranger could aim our responses at anyone with it. `received` is what we
    /// saw ourselves, so the source's address is used always, and its port where the peer asks for it by `rport`.
    pub fn response_address(&self, source: SocketAddr) -> SocketAddr {
        let port = if self.params.has("rport") { source.port() } else { self.sent_by.port.unwrap_or(5060) };
        SocketAddr::new(source.ip(), port)
    }

    /// Whether `received` must be added (RFC 3261 s18.2.1): the host is a name, or another address than the source.
    pub fn needs_received(&self, source: IpAddr) -> bool {
        self.sent_by.ip() != Some(source)
    }
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Marks a branch of RFC 3261, as against RFC 2543.
pub const MAGIC_COOKIE: &str = "z9hG4bK";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_space_is_allowed_where_the_grammar_has_it() {
        let via = Via::parse("SIP  / 2.0\r\n / UDP\r\n   192.0.2.2 : 5060 ;branch=z9hG4bK390skdjuw").unwrap();
        assert_eq!((via.transport, via.sent_by.host, via.sent_by.port), ("UDP", "192.0.2.2", Some(5060)));
        assert_eq!(via.transaction_branch(), Some("z9hG4bK390skdjuw"));
    }

    #[test]
    fn port_is_digits_only() {
        assert!(Via::parse("SIP/2.0/UDP h : +5060").is_err());
        assert!(Via::parse("SIP/2.0/UDP h:").is_err());
    }

    #[test]
    fn response_goes_to_the_source_whatever_maddr_says() {
        let source = "198.51.100.7:40000".parse().unwrap();
        let plain = Via::parse("SIP/2.0/UDP 10.0.0.1:5062;maddr=203.0.113.9;branch=z9hG4bKa").unwrap();
        assert_eq!(plain.response_address(source), "198.51.100.7:5062".parse().unwrap());
        let rport = Via::parse("SIP/2.0/UDP 10.0.0.1:5062;rport;branch=z9hG4bKa").unwrap();
        assert_eq!(rport.response_address(source), source);
        assert!(rport.needs_received(source.ip()));
    }
}
