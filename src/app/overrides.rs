//! Connection overrides in the fragment of a URL: `https://host/path#rc=2&rp=5xx,ct`, as Twilio has them.
//!
//! The fragment is ours alone: it is neither signed nor sent.

use std::time::Duration;

/// How patiently a URL is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overrides {
    /// Time for name, TCP and TLS together (`ct`).
    pub connect: Duration,
    /// Time from the sent request to the head of the response (`rt`).
    pub first_byte: Duration,
    /// Time for everything, all tries included (`tt`).
    pub total: Duration,
    /// Tries after the first (`rc`).
    pub retries: u32,
    /// What is tried again (`rp`).
    pub retry_on: RetryOn,
}

/// The retry policy, as a set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RetryOn {
    /// No connection came about, or it broke before anything was answered (`ct`).
    pub connect: bool,
    /// The connection stood, but no response began in time (`rt`).
    pub read: bool,
    /// Statuses 400-499 (`4xx`).
    pub client_error: bool,
    /// Statuses 500-599 (`5xx`).
    pub server_error: bool,
}

impl Default for Overrides {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            first_byte: Duration::from_secs(15),
            total: Duration::from_secs(15),
            retries: 1,
            retry_on: RetryOn { connect: true, ..RetryOn::default() },
        }
    }
}

impl Overrides {
    /// Takes the overrides off a URL: the rest, and what `base` becomes by them.
    ///
    /// Keys that are unknown (`sni`, `e`, a customer's own anchor) change nothing; numbers out of range are cut.
    pub fn split(url: &str, base: Self) -> (&str, Self) {
        let Some((rest, fragment)) = url.split_once('#') else { return (url, base) };
        let mut overrides = base;
        for pair in fragment.split('&') {
            if let Some((key, value)) = pair.split_once('=') {
                overrides.set(key, value);
            }
        }
        (rest, overrides)
    }

    fn set(&mut self, key: &str, value: &str) {
        match (key, value.parse::<u64>()) {
            ("ct", Ok(ms)) => self.connect = millis(ms, 10_000),
            ("rt", Ok(ms)) => self.first_byte = millis(ms, 15_000),
            ("tt", Ok(ms)) => self.total = millis(ms, 15_000),
            ("rc", Ok(count)) => self.retries = count.min(5) as u32,
            ("rp", _) => self.retry_on = RetryOn::parse(value),
            _ => {}
        }
    }
}

impl RetryOn {
    fn parse(list: &str) -> Self {
        let mut set = Self::default();
        for word in list.split(',') {
            match word.trim() {
                "ct" => set.connect = true,
                "rt" => set.read = true,
                "4xx" => set.client_error = true,
                "5xx" => set.server_error = true,
                "all" => set = Self { connect: true, read: true, client_error: true, server_error: true },
                _ => {}
            }
        }
        set
    }
}

const fn millis(ms: u64, most: u64) -> Duration {
    let ms = if ms < 100 { 100 } else { ms };
    Duration::from_millis(if ms > most { most } else { ms })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cr_03_fragment_is_taken_off() {
        let (rest, overrides) = Overrides::split("https://h/p?q=1#rc=2&rp=all", Overrides::default());
        assert_eq!(rest, "https://h/p?q=1");
        let all = RetryOn { connect: true, read: true, client_error: true, server_error: true };
        assert_eq!((overrides.retries, overrides.retry_on), (2, all));
        assert_eq!(Overrides::split("https://h/p", Overrides::default()), ("https://h/p", Overrides::default()));
    }

    #[test]
    fn every_key_within_its_range() {
        let ms = Duration::from_millis;
        let base = Overrides::default();
        let cases: &[(&str, Overrides)] = &[
            ("ct=250", Overrides { connect: ms(250), ..base }),
            ("ct=1", Overrides { connect: ms(100), ..base }),
            ("ct=99999999999", Overrides { connect: ms(10_000), ..base }),
            ("rt=99999", Overrides { first_byte: ms(15_000), ..base }),
            ("tt=700", Overrides { total: ms(700), ..base }),
            ("rc=0", Overrides { retries: 0, ..base }),
            ("rc=9", Overrides { retries: 5, ..base }),
            ("rc=-1", base),
            ("rc=x", base),
            ("sni=y&e=ashburn,dublin", base),
            ("section-2", base),
            ("", base),
            ("rp=", Overrides { retry_on: RetryOn::default(), ..base }),
            (
                "rp=4xx,rt",
                Overrides { retry_on: RetryOn { read: true, client_error: true, ..RetryOn::default() }, ..base },
            ),
        ];
        for (fragment, expected) in cases {
            let url = format!("https://h/#{fragment}");
            assert_eq!(Overrides::split(&url, base), ("https://h/", *expected), "{fragment}");
        }
    }
}
