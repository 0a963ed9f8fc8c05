//! One open stream: what it tells next.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, sleep_until};

use super::grant::{Credentials, Grant};
use super::snapshot;
use crate::api::View;
use crate::api::rest::Fault;
use crate::clock::wall_ms;
use crate::edges::kind;
use crate::eventlog::{Filter, Logged};
use crate::ids::AccountSid;
use crate::streams::{ListenError, Listening, MOST, Told};

/// Nothing else was said for so long.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// A reader that is [`crate::streams::BUFFER`] events behind, and is so again and again for this long, is cut off.
const CATCHES_UP: Duration = Duration::from_secs(30);
/// Entries that are read at once, of those that were missed.
const PAGE: u32 = 500;

/// What a stream tells.
pub(super) enum Frame {
    Opened,
    Event(Arc<Logged>),
    /// Of the stream itself; `body` is JSON, and `cursor` what it goes on from.
    Notice {
        name: &'static str,
        cursor: Option<u64>,
        body: String,
    },
    KeepAlive,
}

/// A stream.
pub(super) struct Reader {
    view: View,
    credentials: Credentials,
    account: AccountSid,
    filter: Filter,
    listening: Listening,
    /// Everything up to this entry was told, or is not wanted.
    cursor: u64,
    /// There is something in the store that comes before what is heard now.
    catches_up: bool,
    waiting: VecDeque<Frame>,
    /// Since when it has been too far behind to be told.
    behind_since: Option<Instant>,
    expires: Option<Instant>,
    is_over: bool,
}

/// Counts among the open streams until it is dropped.
pub(super) struct Counted(metrics::Gauge);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

impl Reader {
    pub(super) async fn open(
        view: View,
        credentials: Credentials,
        grant: Grant,
        filter: Filter,
        last: Option<u64>,
    ) -> Result<Reader, Fault> {
        let Grant { account, expires_s, .. } = grant;
        // From now on the calls of this account are logged, at every edge.
        let is_new = view.provisioning.hear(account, wall_ms()).await.map_err(|_| Fault::store_is_away())?;
        if let Some(edges) = view.edges.as_ref().filter(|_| is_new) {
            edges.ask_all(kind::READ_AGAIN, Bytes::new()).await;
        }
        let listening = view.hub.listen(account).await.map_err(|error| match error {
            ListenError::Full => Fault::new(429, 20_429, format!("{MOST} streams of this account are open already")),
            ListenError::Store(_) | ListenError::Ended => Fault::store_is_away(),
        })?;
        // Whatever changed before it listened it was not told of.
        if let Err(refusal) = credentials.grant(&view.directory.load(), wall_ms() / 1000) {
            return Err(refusal.into());
        }
        let left = expires_s.map(|at| Duration::from_millis((at * 1000).saturating_sub(wall_ms())));
        let mut reader = Reader {
            view,
            credentials,
            account,
            filter,
            cursor: listening.head,
            listening,
            catches_up: false,
            waiting: VecDeque::from([Frame::Opened]),
            behind_since: None,
            expires: left.map(|left| Instant::now() + left),
            is_over: false,
        };
        match last {
            Some(last) => reader.resume(last).await?,
            None => reader.tell_snapshot().await,
        }
        Ok(reader)
    }

    pub(super) fn count(&self, kind: &'static str) -> Counted {
        let gauge = metrics::gauge!("dialtone_event_clients", "kind" => kind);
        gauge.increment(1.0);
        Counted(gauge)
    }

    /// The stream is over, for that reason.
    pub(super) fn ended(&mut self, reason: &'static str) {
        if !std::mem::replace(&mut self.is_over, true) {
            metrics::counter!("dialtone_event_disconnects_total", "reason" => reason).increment(1);
        }
    }

    /// Goes on behind an entry; where that is not kept any more, it is said, and how things stand now.
    async fn resume(&mut self, last: u64) -> Result<(), Fault> {
        let bounds = self.view.store.log_bounds(self.account).await.map_err(|_| Fault::store_is_away())?;
        if last <= bounds.head && last + 1 >= bounds.oldest {
            self.cursor = last;
            self.catches_up = true;
            return Ok(());
        }
        let reason = if last > bounds.head { "unknown" } else { "retention" };
        let body = json!({ "reason": reason, "last": last, "oldest": bounds.oldest }).to_string();
        self.waiting.push_back(Frame::Notice { name: "reset", cursor: None, body });
        self.tell_snapshot().await;
        Ok(())
    }

    async fn tell_snapshot(&mut self) {
        // Of the entries behind it some are in the snapshot already: what they say is the same.
        let body = snapshot::of(&self.view, self.account, &self.filter, self.cursor).await.to_string();
        self.waiting.push_back(Frame::Notice { name: "snapshot", cursor: Some(self.cursor), body });
    }

    /// What is told next, when there is something; `None`: nothing more will come. What was taken is lost where this is given up while
    /// it waits, and nothing else is.
    pub(super) async fn next(&mut self) -> Option<Frame> {
        let quiet = Instant::now() + KEEP_ALIVE;
        loop {
            if let Some(frame) = self.waiting.pop_front() {
                return Some(frame);
            }
            if self.is_over {
                return None;
            }
            if self.expires.is_some_and(|at| at <= Instant::now()) {
                return Some(self.end("token-expired", "expired"));
            }
            if self.catches_up {
                self.read_page().await;
                continue;
            }
            let expires = self.expires.unwrap_or(quiet + KEEP_ALIVE);
            tokio::select! {
                told = self.listening.told.recv() => match told {
                    Ok(Told::Event(event)) if event.seq <= self.cursor => {}
                    Ok(Told::Event(event)) => {
                        self.cursor = event.seq;
                        self.behind_since = None;
                        if self.filter.takes(&event) {
                            let lag_ms = wall_ms().saturating_sub(event.logged_ms);
                            metrics::histogram!("dialtone_event_lag_seconds").record(lag_ms as f64 / 1000.0);
                            return Some(Frame::Event(event));
                        }
                    }
                    Ok(Told::Check) => {
                        if self.credentials.grant(&self.view.directory.load(), wall_ms() / 1000).is_err() {
                            return Some(self.end("revoked", "revoked"));
                        }
                    }
                    // Much has come at once: it is read where all of it is.
                    Err(RecvError::Lagged(_)) if self.behind_since.is_none_or(|since| since.elapsed() < CATCHES_UP) => {
                        self.behind_since.get_or_insert_with(Instant::now);
                        self.listening.told = self.listening.told.resubscribe();
                        self.catches_up = true;
                    }
                    Err(RecvError::Lagged(_)) => return Some(self.end("cut-off", "slow")),
                    Err(RecvError::Closed) => return Some(self.end("cut-off", "server")),
                },
                () = sleep_until(expires.min(quiet)) => {
                    if expires > quiet {
                        return Some(Frame::KeepAlive);
                    }
                }
            }
        }
    }

    /// The last that the stream says, with what it goes on from when it is opened again.
    fn end(&mut self, name: &'static str, reason: &'static str) -> Frame {
        self.ended(reason);
        Frame::Notice { name, cursor: None, body: json!({ "cursor": self.cursor.to_string() }).to_string() }
    }

    async fn read_page(&mut self) {
        match self.view.store.log_after(self.account, self.cursor, PAGE).await {
            Ok(page) => {
                self.catches_up = page.len() == PAGE as usize;
                for event in page {
                    self.cursor = event.seq;
                    if self.filter.takes(&event) {
                        self.waiting.push_back(Frame::Event(Arc::new(event)));
                    }
                }
            }
            Err(error) => {
                tracing::error!(%error, "the event log cannot be read: a stream ends, and can be opened again");
                let end = self.end("cut-off", "server");
                self.waiting.push_back(end);
            }
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.ended("closed");
    }
}
