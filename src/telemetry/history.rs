//! What customers' servers were asked lately, and what they said: kept in memory for accounts that somebody looks at.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::ids::{AccountSid, CallSid};

/// One request with its answer, or with why there is none.
#[derive(Clone, Debug, Serialize)]
pub struct Exchange {
    /// Counts on; newer ones are higher.
    pub id: u64,
    /// When it was sent, milliseconds since 1970.
    pub at_ms: u64,
    pub call: Option<CallSid>,
    pub method: String,
    /// Without the password that may be in it.
    pub url: String,
    pub status: Option<u16>,
    pub took_ms: u64,
    pub error: Option<String>,
    pub sent: Vec<(String, String)>,
    /// The beginning of what came.
    pub response: String,
}

/// Clones are the same. Of each account that is looked at the last [`KEPT`], for [`LOOKED_AT`] after the last look.
#[derive(Clone, Debug, Default)]
pub struct History(Arc<Mutex<Watched>>);

#[derive(Debug, Default)]
struct Watched {
    accounts: HashMap<AccountSid, Lately>,
    last: u64,
}

#[derive(Debug)]
struct Lately {
    /// `None` is for ever.
    until: Option<Instant>,
    exchanges: VecDeque<Exchange>,
}

impl History {
    /// From here on what is asked of that account's servers is kept, as long as the process lives.
    pub fn keep(&self, account: AccountSid) {
        let lately = Lately { until: None, exchanges: VecDeque::new() };
        self.lock().accounts.insert(account, lately);
    }

    /// The newest first; from here on, and for a while, it is kept. Where too many are looked at already there is nothing.
    pub fn look(&self, account: AccountSid, now: Instant) -> Vec<Exchange> {
        let mut watched = self.lock();
        watched.forget(now);
        if watched.accounts.len() >= ACCOUNTS && !watched.accounts.contains_key(&account) {
            return Vec::new();
        }
        let fresh = || Lately { until: Some(now), exchanges: VecDeque::new() };
        let lately = watched.accounts.entry(account).or_insert_with(fresh);
        lately.until = lately.until.map(|_| now + LOOKED_AT);
        lately.exchanges.iter().rev().cloned().collect()
    }

    /// Whether anybody looks at what that account's servers are asked.
    pub fn is_watched(&self, account: AccountSid) -> bool {
        self.lock().accounts.contains_key(&account)
    }

    /// Keeps one; its number is given here, and what is long is cut.
    pub fn note(&self, account: AccountSid, exchange: Exchange, now: Instant) {
        let mut watched = self.lock();
        watched.forget(now);
        watched.last += 1;
        let id = watched.last;
        let Some(lately) = watched.accounts.get_mut(&account) else { return };
        if lately.exchanges.len() >= KEPT {
            lately.exchanges.pop_front();
        }
        let cut = |text: String, most: usize| text.chars().take(most).collect::<String>();
        let pairs = exchange.sent.into_iter().take(PAIRS);
        let sent = pairs.map(|(name, value)| (cut(name, PAIR_CHARS), cut(value, PAIR_CHARS))).collect();
        let (url, response) = (cut(exchange.url, CHARS), cut(exchange.response, CHARS));
        lately.exchanges.push_back(Exchange { id, sent, url, response, ..exchange });
    }

    fn lock(&self) -> MutexGuard<'_, Watched> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watched {
    fn forget(&mut self, now: Instant) {
        self.accounts.retain(|_, lately| lately.until.is_none_or(|until| until >= now));
    }
}

const KEPT: usize = 50;
const LOOKED_AT: Duration = Duration::from_secs(600);
/// With the bounds below some 500 MB of ASCII at the very most, and some 10 MB as applications are.
const ACCOUNTS: usize = 100;
const PAIRS: usize = 50;
const PAIR_CHARS: usize = 1_000;
const CHARS: usize = 4_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn exchange(url: &str) -> Exchange {
        Exchange {
            id: 0,
            at_ms: 1,
            call: None,
            method: "POST".into(),
            url: url.into(),
            status: Some(200),
            took_ms: 3,
            error: None,
            sent: vec![("From".into(), "x".repeat(9_000))],
            response: "é".repeat(9_000),
        }
    }

    #[test]
    fn what_nobody_looks_at_is_not_kept() {
        let (history, began) = (History::default(), Instant::now());
        let (mine, other) = (AccountSid::new(1), AccountSid::new(2));
        history.note(mine, exchange("before"), began);
        assert!(history.look(mine, began).is_empty());
        assert!(history.is_watched(mine) && !history.is_watched(other));
        for number in 0..60 {
            history.note(mine, exchange(&number.to_string()), began);
            history.note(other, exchange("another's"), began);
        }
        let kept = history.look(mine, began);
        assert_eq!(kept.iter().map(|one| one.url.as_str()).collect::<Vec<_>>()[..2], ["59", "58"]);
        assert_eq!(kept.len(), KEPT);
        assert!(kept.windows(2).all(|pair| pair[0].id > pair[1].id));
        assert_eq!((kept[0].sent[0].1.len(), kept[0].response.chars().count()), (PAIR_CHARS, CHARS));
        assert!(history.look(mine, began + LOOKED_AT * 2).is_empty(), "nobody has looked for long");
    }

    #[test]
    fn what_is_to_be_kept_for_ever_is_and_watchers_are_bounded() {
        let (history, began) = (History::default(), Instant::now());
        history.keep(AccountSid::new(7));
        for number in 100..400 {
            history.look(AccountSid::new(number), began);
        }
        history.note(AccountSid::new(7), exchange("a"), began + LOOKED_AT * 9);
        history.note(AccountSid::new(399), exchange("b"), began);
        assert_eq!(history.look(AccountSid::new(7), began + LOOKED_AT * 9).len(), 1);
        assert!(history.look(AccountSid::new(399), began).is_empty());
    }
}
