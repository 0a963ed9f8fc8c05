//! A customer's URL, taken apart: what is signed, what is asked, and what may be shown.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::Uri;
use hyper::header::HeaderValue;
use percent_encoding::percent_decode_str;
use url::Url;

use crate::app::failure::FetchError;

/// Where a request goes.
///
/// The customer's escaping is kept: what is signed, what is sent and what the customer wrote are the same bytes, but
/// for characters that HTTP does not allow, which are escaped in all three.
#[derive(Clone, Debug)]
pub(super) struct Destination {
    /// The whole URL with userinfo and without fragment: signed, and the base of relative URLs.
    pub url: String,
    /// The same without userinfo: sent.
    pub uri: Uri,
    /// `Authorization` for the userinfo.
    pub authorization: Option<HeaderValue>,
}

impl Destination {
    /// Takes `url` apart. Its fragment is dropped.
    pub fn parse(url: &str) -> Result<Self, FetchError> {
        let url = url.split_once('#').map_or(url, |(rest, _)| rest).trim();
        if url.bytes().all(|byte| byte.is_ascii_graphic())
            && let Ok(destination) = Self::plain(url)
        {
            return Ok(destination);
        }
        // The URL standard would take the path for a host.
        if url.split_once("://").is_none_or(|(_, rest)| rest.starts_with(['/', '\\'])) {
            return Err(FetchError::InvalidUrl);
        }
        let mut normal = Url::parse(url).map_err(|_| FetchError::InvalidUrl)?;
        normal.set_fragment(None);
        Self::plain(normal.as_str())
    }

    /// Where a redirect leads, from here.
    pub fn redirect(&self, location: &str) -> Result<Self, FetchError> {
        let base = Url::parse(&self.url).map_err(|_| FetchError::InvalidUrl)?;
        let next = base.join(location).map_err(|_| FetchError::InvalidUrl)?;
        Self::parse(next.as_str())
    }

    /// The same with `query` after what is there already.
    pub fn with_query(&self, query: &str) -> Result<Self, FetchError> {
        if query.is_empty() {
            return Ok(self.clone());
        }
        let joint = match self.url.split_once('?') {
            None => "?",
            Some((_, present)) if present.is_empty() || present.ends_with('&') => "",
            Some(_) => "&",
        };
        Self::plain(&format!("{}{joint}{query}", self.url))
    }

    /// Host and port: what connections, circuits and queues are kept by.
    pub fn authority(&self) -> &str {
        self.uri.authority().map_or("", |authority| authority.as_str())
    }

    pub fn host(&self) -> &str {
        self.uri.host().unwrap_or_default()
    }

    pub fn is_https(&self) -> bool {
        self.uri.scheme_str() == Some("https")
    }

    fn plain(url: &str) -> Result<Self, FetchError> {
        let (scheme, rest) = url.split_once("://").ok_or(FetchError::InvalidUrl)?;
        if !(scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https")) {
            return Err(FetchError::InvalidUrl);
        }
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let slash = if path.starts_with('/') { "" } else { "/" };
        let (userinfo, host) = match authority.rsplit_once('@') {
            Some((userinfo, host)) => (Some(userinfo), host),
            None => (None, authority),
        };
        let uri = Uri::from_str(&format!("{scheme}://{host}{slash}{path}")).map_err(|_| FetchError::InvalidUrl)?;
        // A port that is no number from 0 to 65535 is one of the authority only.
        let has_bad_port = uri.port_u16().is_none() && uri.authority().map(|all| all.as_str()) != uri.host();
        if uri.host().is_none_or(str::is_empty) || has_bad_port {
            return Err(FetchError::InvalidUrl);
        }
        let authorization = userinfo.map(basic).transpose()?;
        Ok(Self { url: format!("{scheme}://{authority}{slash}{path}"), uri, authorization })
    }
}

/// `Authorization: Basic` for the userinfo of a URL.
fn basic(userinfo: &str) -> Result<HeaderValue, FetchError> {
    let (user, password) = userinfo.split_once(':').unwrap_or((userinfo, ""));
    let mut pair: Vec<u8> = percent_decode_str(user).collect();
    pair.push(b':');
    pair.extend(percent_decode_str(password));
    let mut value =
        HeaderValue::try_from(format!("Basic {}", STANDARD.encode(pair))).map_err(|_| FetchError::InvalidUrl)?;
    value.set_sensitive(true);
    Ok(value)
}

/// A URL as it may be shown: without the userinfo.
pub struct Masked<'a>(pub &'a str);

impl fmt::Display for Masked<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((scheme, rest)) = self.0.split_once("://") else { return f.write_str(self.0) };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        match rest[..end].rfind('@') {
            Some(at) => write!(f, "{scheme}://***{}", &rest[at..]),
            None => f.write_str(self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> (String, String) {
        let destination = Destination::parse(url).expect("test url is good");
        (destination.url, destination.uri.to_string())
    }

    #[test]
    fn customers_bytes_are_kept() {
        for url in [
            "https://h.example:443/v",
            "http://H/a%2fb%20c?x=%2B&y=a+b",
            "https://h/{id}|x?q=[1]",
            "http://[2001:db8::1]:80/",
        ] {
            assert_eq!(parse(url), (url.to_owned(), url.to_owned()));
        }
    }

    #[test]
    fn what_http_cannot_carry_is_escaped() {
        assert_eq!(parse("https://h/a b?é").0, "https://h/a%20b?%C3%A9");
        assert_eq!(parse("https://h").0, "https://h/");
        assert_eq!(parse("https://h?a=1").0, "https://h/?a=1");
        assert_eq!(parse(" https://h/x#rc=2").0, "https://h/x");
    }

    #[test]
    fn cr_03_userinfo_is_signed_but_not_sent() {
        let destination = Destination::parse("https://user:p%40ss@h.example/v").expect("url is good");
        assert_eq!(destination.url, "https://user:p%40ss@h.example/v");
        assert_eq!(destination.uri.to_string(), "https://h.example/v");
        let authorization = destination.authorization.expect("userinfo is present");
        assert_eq!(authorization.as_bytes(), b"Basic dXNlcjpwQHNz");
        assert_eq!(format!("{authorization:?}"), "Sensitive");
    }

    #[test]
    fn what_is_no_http_url_is_refused() {
        for url in [
            "",
            "h.example/v",
            "ftp://h/v",
            "file:///etc/passwd",
            "http://",
            "http:///x",
            "gopher://h",
            "http://h:99999/",
        ] {
            assert_eq!(Destination::parse(url).err(), Some(FetchError::InvalidUrl), "{url}");
        }
    }

    #[test]
    fn query_is_appended_after_the_customers() {
        let with = |url: &str| Destination::parse(url).and_then(|d| d.with_query("A=1+2")).map(|d| d.url);
        assert_eq!(with("https://h/v"), Ok("https://h/v?A=1+2".into()));
        assert_eq!(with("https://h/v?b=1"), Ok("https://h/v?b=1&A=1+2".into()));
        assert_eq!(with("https://h/v?"), Ok("https://h/v?A=1+2".into()));
    }

    #[test]
    fn redirects_resolve_and_passwords_do_not_show() {
        let from = Destination::parse("https://u:p@h/a/b?c").expect("url is good");
        assert_eq!(from.redirect("../x").map(|d| d.url), Ok("https://u:p@h/x".into()));
        assert_eq!(from.redirect("//other/x").map(|d| d.url), Ok("https://other/x".into()));
        assert_eq!(from.redirect("javascript:1").err(), Some(FetchError::InvalidUrl));
        assert_eq!(Masked("https://u:p@h/a?b@c").to_string(), "https://***@h/a?b@c");
        assert_eq!(Masked("https://h/a?b@c").to_string(), "https://h/a?b@c");
    }
}
