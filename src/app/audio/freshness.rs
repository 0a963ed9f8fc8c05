//! How long a response may be used again without asking (RFC 9111), and how to ask whether it has changed.

use std::time::{Duration, SystemTime};

use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};

/// Nothing is trusted longer than this unasked.
const MAX_AGE: Duration = Duration::from_secs(30 * 24 * 3_600);

/// What a response says of its use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Freshness {
    /// Not to be remembered at all.
    pub is_stored: bool,
    /// For so long it may be used unasked.
    pub fresh_for: Duration,
    etag: Option<HeaderValue>,
    last_modified: Option<HeaderValue>,
}

impl Freshness {
    /// Reads the headers of a response that came at `now`.
    pub fn of(headers: &HeaderMap, now: SystemTime) -> Self {
        let directives = Directives::of(headers);
        let fresh_for = if directives.no_cache {
            Duration::ZERO
        } else {
            let age = seconds(headers, header::AGE).unwrap_or_default();
            let lifetime = directives.max_age.or_else(|| until_expiry(headers, now)).unwrap_or_default();
            lifetime.saturating_sub(age).min(MAX_AGE)
        };
        Self {
            is_stored: !directives.no_store,
            fresh_for,
            etag: headers.get(header::ETAG).cloned(),
            last_modified: headers.get(header::LAST_MODIFIED).cloned(),
        }
    }

    /// Headers that ask only for what has changed; none if the response had no mark to compare.
    pub fn conditions(&self) -> Vec<(HeaderName, HeaderValue)> {
        let etag = self.etag.clone().map(|value| (header::IF_NONE_MATCH, value));
        let modified = self.last_modified.clone().map(|value| (header::IF_MODIFIED_SINCE, value));
        etag.into_iter().chain(modified).collect()
    }

    /// What a 304 says anew, with the marks that it leaves out.
    pub fn renewed(self, headers: &HeaderMap, now: SystemTime) -> Self {
        let new = Self::of(headers, now);
        Self { etag: new.etag.or(self.etag), last_modified: new.last_modified.or(self.last_modified), ..new }
    }
}

#[derive(Default)]
struct Directives {
    no_store: bool,
    no_cache: bool,
    max_age: Option<Duration>,
}

impl Directives {
    fn of(headers: &HeaderMap) -> Self {
        let mut found = Self::default();
        let lists = headers.get_all(header::CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
        for directive in lists.flat_map(|list| list.split(',')) {
            let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
            match name.trim().to_ascii_lowercase().as_str() {
                "no-store" => found.no_store = true,
                "no-cache" => found.no_cache = true,
                "max-age" => {
                    let seconds = value.trim().trim_matches('"').parse().unwrap_or(0);
                    found.max_age = Some(Duration::from_secs(seconds));
                }
                _ => {}
            }
        }
        found
    }
}

fn until_expiry(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let date = |name| httpdate::parse_http_date(headers.get(name)?.to_str().ok()?).ok();
    let expires = date(header::EXPIRES)?;
    expires.duration_since(date(header::DATE).unwrap_or(now)).ok()
}

fn seconds(headers: &HeaderMap, name: HeaderName) -> Option<Duration> {
    headers.get(name)?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn headers_say_how_long() {
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").expect("test date is good");
        let later = "Sun, 06 Nov 1994 08:50:37 GMT";
        type Case<'a> = (&'a [(&'static str, &'static str)], bool, u64);
        let cases: &[Case<'_>] = &[
            (&[], true, 0),
            (&[("cache-control", "max-age=60")], true, 60),
            (&[("cache-control", "public, Max-Age=\"60\"")], true, 60),
            (&[("cache-control", "max-age=60"), ("age", "45")], true, 15),
            (&[("cache-control", "max-age=60"), ("age", "90")], true, 0),
            (&[("cache-control", "max-age=60, no-cache")], true, 0),
            (&[("cache-control", "no-store")], false, 0),
            (&[("cache-control", "max-age=x")], true, 0),
            (&[("cache-control", "max-age=99999999999")], true, MAX_AGE.as_secs()),
            (&[("expires", later)], true, 60),
            (&[("expires", later), ("date", "Sun, 06 Nov 1994 08:50:07 GMT")], true, 30),
            (&[("expires", "0")], true, 0),
            (&[("expires", later), ("cache-control", "max-age=5")], true, 5),
        ];
        for (pairs, is_stored, fresh_for) in cases {
            let found = Freshness::of(&headers(pairs), now);
            assert_eq!((found.is_stored, found.fresh_for.as_secs()), (*is_stored, *fresh_for), "{pairs:?}");
        }
    }

    #[test]
    fn marks_are_sent_back_and_kept_by_a_304() {
        let now = SystemTime::UNIX_EPOCH;
        let first = Freshness::of(&headers(&[("etag", "\"a\""), ("last-modified", "x")]), now);
        let expected = [(header::IF_NONE_MATCH, "\"a\""), (header::IF_MODIFIED_SINCE, "x")]
            .map(|(name, value)| (name, HeaderValue::from_static(value)));
        assert_eq!(first.conditions(), expected);
        let renewed = first.renewed(&headers(&[("cache-control", "max-age=9")]), now);
        assert_eq!((renewed.conditions(), renewed.fresh_for.as_secs()), (expected.to_vec(), 9));
        assert_eq!(Freshness::of(&headers(&[]), now).conditions(), []);
    }
}
