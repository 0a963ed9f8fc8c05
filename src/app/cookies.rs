//! Cookies of customers' servers, kept for the life of a call (CR-11).
//!
//! A jar belongs to one call, and a cookie in it to the host that set it. Full jars take no further cookie; when too
//! many calls have one, the jar that was made first is dropped, since its call has most likely ended unnoticed.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cookie::Cookie;

use crate::ids::CallSid;

const MAX_JARS: usize = 50_000;
const MAX_COOKIES: usize = 50;
const MAX_COOKIE_BYTES: usize = 4_096;

/// The jars of all calls.
#[derive(Default)]
pub(super) struct CookieJars {
    jars: Mutex<Jars>,
}

#[derive(Default)]
struct Jars {
    by_call: HashMap<CallSid, Vec<Stored>>,
    /// Oldest first; may name calls whose jar is gone.
    order: VecDeque<CallSid>,
}

struct Stored {
    host: String,
    path: String,
    name: String,
    value: String,
    is_secure: bool,
    expires: Option<SystemTime>,
}

impl CookieJars {
    /// The `Cookie` header for a request of `call`; `None` if there is nothing to send.
    pub fn header(&self, call: CallSid, host: &str, path: &str, is_https: bool) -> Option<String> {
        let jars = self.lock();
        let jar = jars.by_call.get(&call)?;
        let now = SystemTime::now();
        let mut header = String::new();
        for stored in jar.iter().filter(|stored| stored.is_for(host, path, is_https, now)) {
            if !header.is_empty() {
                header.push_str("; ");
            }
            header.push_str(&stored.name);
            header.push('=');
            header.push_str(&stored.value);
        }
        Some(header).filter(|header| !header.is_empty())
    }

    /// Takes a `Set-Cookie` header that a response to `call` brought. What cannot be read is ignored.
    pub fn store(&self, call: CallSid, host: &str, path: &str, header: &str) {
        if header.len() > MAX_COOKIE_BYTES {
            return;
        }
        let Ok(cookie) = Cookie::parse(header) else { return };
        let now = SystemTime::now();
        let stored = Stored::new(&cookie, host, path, now);
        let mut jars = self.lock();
        let jar = jars.jar(call);
        jar.retain(|old| (old.name != stored.name) || (old.host != stored.host) || (old.path != stored.path));
        if jar.len() < MAX_COOKIES && stored.expires.is_none_or(|expires| expires > now) {
            jar.push(stored);
        }
    }

    /// The call is over.
    pub fn forget(&self, call: CallSid) {
        self.lock().by_call.remove(&call);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Jars> {
        self.jars.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Jars {
    fn jar(&mut self, call: CallSid) -> &mut Vec<Stored> {
        if !self.by_call.contains_key(&call) {
            while self.by_call.len() >= MAX_JARS {
                let Some(oldest) = self.order.pop_front() else { break };
                self.by_call.remove(&oldest);
            }
            if self.order.len() >= 2 * MAX_JARS {
                self.order.retain(|call| self.by_call.contains_key(call));
            }
            self.order.push_back(call);
        }
        self.by_call.entry(call).or_default()
    }
}

impl Stored {
    fn new(cookie: &Cookie<'_>, host: &str, request_path: &str, now: SystemTime) -> Self {
        let by_age = cookie.max_age().map(|age| {
            let seconds = u64::try_from(age.whole_seconds()).unwrap_or(0);
            now.checked_add(Duration::from_secs(seconds)).unwrap_or(now)
        });
        let by_date = || {
            let seconds = cookie.expires_datetime()?.unix_timestamp();
            UNIX_EPOCH.checked_add(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
        };
        let path = match cookie.path() {
            Some(path) if path.starts_with('/') => path.to_owned(),
            _ => default_path(request_path).to_owned(),
        };
        Self {
            host: host.to_ascii_lowercase(),
            path,
            name: cookie.name().to_owned(),
            value: cookie.value().to_owned(),
            is_secure: cookie.secure() == Some(true),
            expires: by_age.or_else(by_date),
        }
    }

    fn is_for(&self, host: &str, path: &str, is_https: bool, now: SystemTime) -> bool {
        self.host.eq_ignore_ascii_case(host)
            && (is_https || !self.is_secure)
            && self.expires.is_none_or(|expires| expires > now)
            && path_matches(path, &self.path)
    }
}

/// RFC 6265 s5.1.4: up to the last slash of the request's path.
fn default_path(path: &str) -> &str {
    match path.rfind('/') {
        None | Some(0) => "/",
        Some(end) => &path[..end],
    }
}

fn path_matches(path: &str, of_cookie: &str) -> bool {
    match path.strip_prefix(of_cookie) {
        Some(rest) => rest.is_empty() || of_cookie.ends_with('/') || rest.starts_with('/'),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALL: CallSid = CallSid::new(1);

    fn after(header: &str) -> impl Fn(&str, &str, bool) -> Option<String> {
        let jars = CookieJars::default();
        jars.store(CALL, "h.example", "/voice/start", header);
        move |host, path, is_https| jars.header(CALL, host, path, is_https)
    }

    #[test]
    fn cr_11_cookie_goes_back_to_its_host_and_path() {
        let sent = after("sid=abc; Path=/; HttpOnly");
        assert_eq!(sent("H.example", "/other", false), Some("sid=abc".into()));
        assert_eq!(sent("other.example", "/", false), None);
        let sent = after("sid=abc");
        assert_eq!(sent("h.example", "/voice/next", false), Some("sid=abc".into()));
        assert_eq!(sent("h.example", "/voicemail", false), None);
        let sent = after("sid=abc; Secure; Path=/");
        assert_eq!((sent("h.example", "/", false), sent("h.example", "/", true)), (None, Some("sid=abc".into())));
    }

    #[test]
    fn cookie_ends_by_age_and_by_date() {
        for header in
            ["a=1; Max-Age=0; Path=/", "a=1; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Path=/", "a=1; Max-Age=-5"]
        {
            assert_eq!(after(header)("h.example", "/voice/x", false), None, "{header}");
        }
        let sent = after("a=1; Max-Age=99999999999999; Path=/");
        assert!(sent("h.example", "/", false).is_some());
    }

    #[test]
    fn newer_cookie_replaces_and_deletes() {
        let jars = CookieJars::default();
        for (header, expected) in [
            ("a=1; Path=/", Some("a=1")),
            ("a=2; Path=/", Some("a=2")),
            ("b=3; Path=/", Some("a=2; b=3")),
            ("a=; Max-Age=0; Path=/", Some("b=3")),
        ] {
            jars.store(CALL, "h", "/", header);
            assert_eq!(jars.header(CALL, "h", "/", false).as_deref(), expected, "{header}");
        }
        assert_eq!(jars.header(CallSid::new(2), "h", "/", false), None);
        jars.forget(CALL);
        assert_eq!(jars.header(CALL, "h", "/", false), None);
    }

    #[test]
    fn jars_are_bounded() {
        let jars = CookieJars::default();
        for at in 0..100 {
            jars.store(CALL, "h", "/", &format!("c{at}=1"));
        }
        assert_eq!(jars.header(CALL, "h", "/", false).map(|header| header.split("; ").count()), Some(MAX_COOKIES));
        jars.store(CallSid::new(2), "h", "/", &format!("big={}", "x".repeat(MAX_COOKIE_BYTES)));
        assert_eq!(jars.header(CallSid::new(2), "h", "/", false), None);
        for call in 0..=MAX_JARS as u128 {
            jars.store(CallSid::new(call + 10), "h", "/", "a=1");
        }
        assert!(jars.lock().by_call.len() <= MAX_JARS);
        assert_eq!(jars.header(CALL, "h", "/", false), None);
    }
}
