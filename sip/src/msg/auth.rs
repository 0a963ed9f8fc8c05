//! Credentials and challenges: a scheme with comma-separated parameters (RFC 3261 s20.7, s20.44).

use super::param::{split_commas, unquoted};

/// `Digest realm="...", nonce="..."`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuthParams<'a> {
    pub scheme: &'a str,
    params: &'a str,
}

impl<'a> AuthParams<'a> {
    pub fn parse(text: &'a str) -> Option<AuthParams<'a>> {
        let text = text.trim();
        let (scheme, params) = text.split_once(char::is_whitespace)?;
        Some(AuthParams { scheme, params })
    }

    pub fn is_digest(&self) -> bool {
        self.scheme.eq_ignore_ascii_case("Digest")
    }

    /// A parameter without its quotes; `None` where it is missing or stands twice (one of them would be a lie).
    pub fn get(&self, name: &str) -> Option<&'a str> {
        let mut found = split_commas(self.params)
            .filter_map(|param| param.split_once('='))
            .filter(|(key, _)| key.trim().eq_ignore_ascii_case(name));
        let value = found.next()?.1.trim();
        if found.next().is_some() { None } else { Some(unquoted(value)) }
    }
}
