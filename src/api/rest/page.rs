//! Lists in pages, and how the `2010-04-01` API writes them.
//!
//! The SDKs follow `next_page_uri` as it is and refuse an envelope with a key that they do not know.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

use axum::extract::FromRequestParts;
use axum::http::header::HOST;
use axum::http::request::Parts;
use serde_json::{Map, Value, json};

use super::fault::Fault;
use super::form::{Form, invalid};
use super::table::{PAGING, Route};
use crate::api::View;

const USUAL_SIZE: u32 = 50;
/// The SDKs ask for as many as the program wants: more than this is cut, not refused.
const MAX_SIZE: u32 = 1_000;

/// Which part of a list is asked for, and what it is filtered by.
pub struct Page {
    pub size: u32,
    number: u32,
    /// The key of the last entry of the page before; `None` for the first page.
    pub after: Option<String>,
    pub query: Form,
}

impl<S: Sync> FromRequestParts<S> for Page {
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Page, Fault> {
        Page::read(Form::of_query(parts.uri.query(), Route::of(&parts.extensions, &parts.method)))
    }
}

impl Page {
    fn read(query: Form) -> Result<Page, Fault> {
        let size = query.number("PageSize", 0..=u32::MAX)?.unwrap_or(USUAL_SIZE).clamp(1, MAX_SIZE);
        let number = query.number("Page", 0..=u32::MAX)?.unwrap_or(0);
        let after = match query.text("PageToken") {
            None => None,
            Some(token) => {
                Some(token.strip_prefix("PA").ok_or_else(|| invalid("PageToken", token, "a token of ours"))?.to_owned())
            }
        };
        Ok(Page { size, number, after, query })
    }

    /// The sid that the last entry of the page before has; `None` for the first page.
    pub fn before<K: FromStr>(&self) -> Result<Option<K>, Fault> {
        let read = |key: &String| key.parse().map_err(|_| invalid("PageToken", key, "a token of ours"));
        self.after.as_ref().map(read).transpose()
    }

    /// How many are looked for: one more than the page holds says whether another page follows.
    pub fn wanted(&self) -> u32 {
        self.size + 1
    }

    /// The things of a page, the newest first, and the key of the last if more follow.
    ///
    /// `live` is read before `stored`: what goes to the store meanwhile is in both, and in none it is not. What is live goes
    /// before its row, and may by now be none that is asked for, which `takes` says.
    pub fn newest<K: Ord + fmt::Display, T>(
        &self,
        live: Vec<T>,
        stored: Vec<T>,
        sid: impl Fn(&T) -> K,
        takes: impl Fn(&T) -> bool,
    ) -> (Vec<T>, Option<String>) {
        let has_more_rows = stored.len() >= self.wanted() as usize;
        let mut found: BTreeMap<Reverse<K>, T> = stored.into_iter().map(|one| (Reverse(sid(&one)), one)).collect();
        for one in live {
            found.remove(&Reverse(sid(&one)));
            if takes(&one) {
                found.insert(Reverse(sid(&one)), one);
            }
        }
        let follows = has_more_rows || found.len() > self.size as usize;
        let shown: Vec<T> = found.into_values().take(self.size as usize).collect();
        let last = shown.last().filter(|_| follows).map(|one| sid(one).to_string());
        (shown, last)
    }

    /// The envelope. `last` is the key of the last entry if more follow; `path` is the list's own.
    pub fn envelope(&self, key: &str, items: Vec<Value>, last: Option<String>, path: &str) -> Value {
        let uri = |number: u32, token: Option<&str>| self.uri(path, number, token);
        let start = u64::from(self.number) * u64::from(self.size);
        let mut envelope = Map::new();
        envelope.insert("page".into(), json!(self.number));
        envelope.insert("page_size".into(), json!(self.size));
        envelope.insert("start".into(), json!(start));
        envelope.insert("end".into(), json!((start + items.len() as u64).saturating_sub(1).max(start)));
        envelope.insert("uri".into(), json!(uri(self.number, self.after.as_deref())));
        envelope.insert("first_page_uri".into(), json!(uri(0, None)));
        envelope.insert("next_page_uri".into(), json!(last.map(|last| uri(self.number + 1, Some(&last)))));
        // A page is found from the end of the one before it; the way back is not kept.
        envelope.insert("previous_page_uri".into(), Value::Null);
        envelope.insert(key.into(), Value::Array(items));
        Value::Object(envelope)
    }

    /// The envelope of the `v1` APIs; `url` is the list's own, with scheme and host.
    pub fn envelope_v1(&self, key: &str, items: Vec<Value>, last: Option<String>, url: &str) -> Value {
        json!({
            key: items,
            "meta": {
                "key": key,
                "page": self.number,
                "page_size": self.size,
                "url": self.uri(url, self.number, self.after.as_deref()),
                "first_page_url": self.uri(url, 0, None),
                "next_page_url": last.map(|last| self.uri(url, self.number + 1, Some(&last))),
                "previous_page_url": Value::Null,
            },
        })
    }

    fn uri(&self, path: &str, number: u32, token: Option<&str>) -> String {
        let filters = self.query.encoded_without(PAGING);
        let encoded = |token: &str| url::form_urlencoded::byte_serialize(token.as_bytes()).collect::<String>();
        let token = token.map(|token| format!("&PageToken=PA{}", encoded(token))).unwrap_or_default();
        let filters = if filters.is_empty() { String::new() } else { format!("{filters}&") };
        format!("{path}?{filters}PageSize={}&Page={number}{token}", self.size)
    }
}

/// Scheme and host of absolute URLs: `[http] public_url`, else what the request was sent to.
pub struct Base(String);

impl FromRequestParts<View> for Base {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, view: &View) -> Result<Base, Infallible> {
        if view.is_named {
            return Ok(Base(view.public_url.clone()));
        }
        let host = parts.headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or("localhost");
        let scheme = view.public_url.split("://").next().unwrap_or("http");
        Ok(Base(format!("{scheme}://{host}")))
    }
}

impl fmt::Display for Base {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a page of two shows of things that are a sid and a state each, if `done` ones are asked for.
    fn newest(live: &[(u32, &'static str)], stored: &[u32]) -> (Vec<u32>, Option<String>) {
        let page = Page::read(Form::read(b"PageSize=2")).unwrap();
        let stored = stored.iter().map(|sid| (*sid, "done")).collect();
        let (shown, last) = page.newest(live.to_vec(), stored, |one| one.0, |one| one.1 == "done");
        (shown.into_iter().map(|(sid, _)| sid).collect(), last)
    }

    #[test]
    fn newest_of_store_and_memory_come_once_and_say_whether_more_follow() {
        assert_eq!(newest(&[], &[3, 1]), (vec![3, 1], None));
        assert_eq!(newest(&[], &[3, 2, 1]), (vec![3, 2], Some("2".into())));
        assert_eq!(newest(&[(4, "done"), (3, "done")], &[3, 1]), (vec![4, 3], Some("3".into())), "3 is in both");
        assert_eq!(newest(&[(9, "runs")], &[3]), (vec![3], None), "one that runs was not asked for");
        assert_eq!(newest(&[(3, "runs")], &[3, 2, 1]), (vec![2, 1], Some("1".into())), "there may be more rows");
    }

    #[test]
    fn page_is_cut_to_what_is_allowed_and_carries_its_filters_on() {
        let query = "PageSize=5000&Status=completed&Page=2&PageToken=PACA1";
        let page = Page::read(Form::read(query.as_bytes())).unwrap();
        assert_eq!((page.size, page.number, page.after.as_deref()), (1000, 2, Some("CA1")));
        let envelope = page.envelope("calls", vec![json!({})], Some("CA2".into()), "/Calls.json");
        assert_eq!(envelope["next_page_uri"], "/Calls.json?Status=completed&PageSize=1000&Page=3&PageToken=PACA2");
        assert_eq!(envelope["first_page_uri"], "/Calls.json?Status=completed&PageSize=1000&Page=0");
        assert_eq!((&envelope["start"], &envelope["end"]), (&json!(2000), &json!(2000)));
        let mut keys: Vec<_> = envelope.as_object().unwrap().keys().map(String::as_str).collect();
        keys.sort_unstable();
        // What the Python SDK accepts, to the letter.
        let known = [
            "calls",
            "end",
            "first_page_uri",
            "next_page_uri",
            "page",
            "page_size",
            "previous_page_uri",
            "start",
            "uri",
        ];
        assert_eq!(keys, known);
    }

    #[test]
    fn token_of_somebody_else_is_refused() {
        assert!(Page::read(Form::read(b"PageToken=x")).is_err());
    }
}
