//! Sends events to sinks: to each one after another, in the order of the log, until it has them.
//!
//! Of several servers one at a time sends to a sink. What a sink was sent and has not acknowledged it is sent again, with the same
//! ids: at least once each. A sink that does not answer is tried again after growing pauses; its account is told at once and every
//! 20 minutes after.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use crate::account::Directory;
use crate::api::SinkTest;
use crate::app::{Client, FetchFailure, JsonPost};
use crate::clock::wall_ms;
use crate::eventlog::Logged;
use crate::events::Notification;
use crate::events::iso_8601_ms;
use crate::ids::{AccountSid, CallSid, NotificationSid};
use crate::provision::Provisioning;
use crate::store::{Kind, SinkCursor, StoreError};
use crate::streams::{Hub, Told};
use crate::twiml::Notice;

/// Events of one request.
const BATCH: u32 = 100;
/// Longer than a request may take: whoever sends is dead after this.
const CLAIMED_MS: u64 = 8_000;
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Something that was not said is found after this time.
const IDLE: Duration = Duration::from_secs(5);
const FIRST_PAUSE_MS: u64 = 1_000;
const LONGEST_PAUSE_MS: u64 = 300_000;
const ALERT_EVERY_MS: u64 = 20 * 60_000;
/// After that time a sink is `failed`; it is tried still, as events are kept for longer.
const FAILED_AFTER_MS: u64 = 24 * 3_600_000;
/// Twilio's number for a sink that does not take events.
const SINK_FAILED: u32 = 93_201;
const TEST_TYPE: &str = "com.twilio.eventstreams.test-event";

#[derive(Clone)]
pub(super) struct Sinks {
    pub(super) provisioning: Arc<Provisioning>,
    pub(super) directory: Arc<ArcSwap<Directory>>,
    pub(super) hub: Hub,
    pub(super) client: Client,
}

/// A sink that somebody has subscribed.
#[derive(Clone, Debug, PartialEq)]
struct Sink {
    sid: String,
    account: AccountSid,
    url: String,
    batch: u32,
    status: String,
    /// Since when somebody has subscribed it.
    since_ms: u64,
    types: HashSet<String>,
}

/// What whoever sends to a sink remembers.
#[derive(Default)]
struct Task {
    alerted_ms: Option<u64>,
    /// Behind which entry, and up to which, something was sent last.
    sent: Option<(u64, u64)>,
}

type InUse = Arc<Mutex<HashMap<String, Sink>>>;

#[derive(Deserialize)]
struct SinkDetail {
    status: String,
    sink_configuration: Configuration,
}

#[derive(Deserialize)]
struct Configuration {
    destination: String,
    batch_events: bool,
}

#[derive(Deserialize)]
struct SubscriptionDetail {
    sink_sid: String,
    types: Map<String, Value>,
}

impl Sinks {
    pub(super) async fn run(self, mut tests: mpsc::Receiver<SinkTest>) {
        let in_use = InUse::default();
        let mut seen = None;
        loop {
            let now = self.directory.load_full();
            if !seen.as_ref().is_some_and(|seen| Arc::ptr_eq(seen, &now)) {
                seen = Some(now);
                self.look(&in_use).await;
            }
            if let Ok(test) = timeout(LOOK_EVERY, tests.recv()).await {
                let Some(test) = test else { return };
                tokio::spawn(self.clone().test(test));
            }
        }
    }

    /// Begins to send to the sinks that are in use since; those that are not any more end by themselves.
    async fn look(&self, in_use: &InUse) {
        let mut sinks: HashMap<String, Sink> = HashMap::new();
        for row in self.provisioning.rows(Kind::Sink).await {
            let (Ok(detail), Ok(account)) = (serde_json::from_str::<SinkDetail>(&row.detail), row.account.parse())
            else {
                continue;
            };
            let Configuration { destination, batch_events } = detail.sink_configuration;
            let batch = if batch_events { BATCH } else { 1 };
            let sink = Sink {
                sid: row.sid,
                account,
                url: destination,
                batch,
                status: detail.status,
                since_ms: u64::MAX,
                types: HashSet::new(),
            };
            sinks.insert(sink.sid.clone(), sink);
        }
        for row in self.provisioning.rows(Kind::Subscription).await {
            let Ok(detail) = serde_json::from_str::<SubscriptionDetail>(&row.detail) else { continue };
            // Of the same account, as was seen when it was made.
            if let Some(sink) = sinks.get_mut(&detail.sink_sid).filter(|sink| sink.account.to_string() == row.account) {
                sink.types.extend(detail.types.keys().cloned());
                sink.since_ms = sink.since_ms.min(row.created_ms);
            }
        }
        sinks.retain(|_, sink| !sink.types.is_empty());
        let mut known = in_use.lock().unwrap_or_else(PoisonError::into_inner);
        for sid in sinks.keys().filter(|sid| !known.contains_key(*sid)) {
            tokio::spawn(self.clone().serve(sid.clone(), in_use.clone()));
        }
        *known = sinks;
    }

    async fn serve(self, sid: String, in_use: InUse) {
        let find = || in_use.lock().unwrap_or_else(PoisonError::into_inner).get(&sid).cloned();
        let Some(mut listening) = self.listen(find).await else { return };
        let mut task = Task::default();
        while let Some(sink) = find() {
            let wait = match self.step(&sink, &mut task).await {
                Ok(wait) => wait,
                Err(error) => {
                    tracing::error!(%error, sink = sid, "events cannot be read for a sink: tried again");
                    IDLE
                }
            };
            // What is told wakes it; how much that was does not matter.
            let woken = async { while !matches!(listening.told.recv().await, Ok(Told::Event(_)) | Err(_)) {} };
            if wait >= IDLE { drop(timeout(wait, woken).await) } else { sleep(wait).await }
        }
    }

    async fn listen(&self, find: impl Fn() -> Option<Sink>) -> Option<crate::streams::Listening> {
        loop {
            match self.hub.listen(find()?.account).await {
                Ok(listening) => return Some(listening),
                Err(_) => sleep(IDLE).await,
            }
        }
    }

    /// Sends what comes next; how long to wait before the next time.
    async fn step(&self, sink: &Sink, task: &mut Task) -> Result<Duration, StoreError> {
        let (store, now_ms) = (self.provisioning.store(), wall_ms());
        let cursor = store.sink_cursor(&sink.sid, sink.account, sink.since_ms).await?;
        if cursor.next_ms > now_ms {
            return Ok(Duration::from_millis(cursor.next_ms - now_ms).min(IDLE - Duration::from_millis(1)));
        }
        let mut page = store.log_after(sink.account, cursor.seq, sink.batch).await?;
        // What was sent before is sent again as it was.
        if let Some((_, last)) = task.sent.filter(|(behind, _)| *behind == cursor.seq) {
            page.retain(|event| event.seq <= last);
        }
        let Some(last) = page.last() else { return Ok(IDLE) };
        let (last, claimed_ms) = (last.seq, now_ms + CLAIMED_MS);
        task.sent = Some((cursor.seq, last));
        if !store.claim_sink(&sink.sid, &cursor, claimed_ms).await? {
            return Ok(Duration::from_millis(100));
        }
        let wanted: Vec<&Logged> =
            page.iter().filter(|event| event.kind.is_some_and(|kind| sink.types.contains(kind.name))).collect();
        let sent = if wanted.is_empty() { Ok(()) } else { self.send(sink, &wanted).await };
        let outcome = if sent.is_ok() { "ok" } else { "failed" };
        metrics::counter!("dialtone_sink_deliveries_total", "outcome" => outcome)
            .increment(u64::from(!wanted.is_empty()));
        let after = match sent {
            Ok(()) => SinkCursor { seq: last, ..SinkCursor::default() },
            Err(failure) => {
                self.failed(sink, &cursor, failure, &mut task.alerted_ms).await?;
                let pause_ms = (FIRST_PAUSE_MS << cursor.tries.min(20)).min(LONGEST_PAUSE_MS);
                let failing_ms = Some(cursor.failing_ms.unwrap_or(now_ms));
                SinkCursor { next_ms: wall_ms() + pause_ms, tries: cursor.tries + 1, failing_ms, ..cursor }
            }
        };
        if !store.put_sink(&sink.sid, claimed_ms, &after).await? {
            tracing::warn!(sink = sink.sid, "another server sends to a sink meanwhile: some events come twice");
        }
        if after.tries == 0 && !wanted.is_empty() && sink.status != "active" {
            self.has_status(sink, "active").await?;
        }
        Ok(Duration::ZERO)
    }

    async fn send(&self, sink: &Sink, events: &[&Logged]) -> Result<(), FetchFailure> {
        let mut body = vec![b'['];
        for event in events {
            body.extend_from_slice(&event.text);
            body.push(b',');
        }
        *body.last_mut().expect("it begins with a bracket") = b']';
        // Of the same events the same.
        let (first, last) = (events[0].seq, events[events.len() - 1].seq);
        let idempotency_token = format!("{}-{first}-{last}", sink.sid);
        self.post(sink.account, &sink.url, body.into(), idempotency_token).await
    }

    async fn post(
        &self,
        account: AccountSid,
        url: &str,
        body: Bytes,
        idempotency_token: String,
    ) -> Result<(), FetchFailure> {
        let token = self.directory.load().account(account).map(|account| account.auth_token.clone());
        let post = JsonPost { account, token: token.unwrap_or_default(), url: url.to_owned(), body, idempotency_token };
        self.client.post_json(post).await
    }

    async fn failed(
        &self,
        sink: &Sink,
        cursor: &SinkCursor,
        failure: FetchFailure,
        alerted_ms: &mut Option<u64>,
    ) -> Result<(), StoreError> {
        let now_ms = wall_ms();
        let since_ms = now_ms - cursor.failing_ms.unwrap_or(now_ms).min(now_ms);
        if since_ms >= FAILED_AFTER_MS && sink.status != "failed" {
            self.has_status(sink, "failed").await?;
        }
        let is_due = match *alerted_ms {
            Some(last) => now_ms >= last + ALERT_EVERY_MS,
            // Whoever sent before has told of it.
            None => cursor.failing_ms.is_none() || since_ms >= ALERT_EVERY_MS,
        };
        if !is_due {
            return Ok(());
        }
        *alerted_ms = Some(now_ms);
        let text = format!("sink {} does not take events: {}", sink.sid, failure.text());
        tracing::warn!(account = %sink.account, sink = sink.sid, url = failure.url, "a sink does not take events: {}", failure.text());
        self.provisioning
            .store()
            .notify(&Notification {
                sid: NotificationSid::at(now_ms, rand_bits()),
                account: sink.account,
                call: CallSid::new(0),
                at_ms: now_ms,
                notice: Notice::error(SINK_FAILED, text).about(failure.url),
            })
            .await
    }

    async fn has_status(&self, sink: &Sink, status: &str) -> Result<(), StoreError> {
        let Some(mut row) = self.provisioning.row(Kind::Sink, &sink.sid).await else { return Ok(()) };
        let mut detail: Map<String, Value> = serde_json::from_str(&row.detail).unwrap_or_default();
        detail.insert("status".into(), json!(status));
        row.detail = Value::Object(detail).to_string();
        row.updated_ms = wall_ms();
        self.provisioning.update(&row.account.clone(), row).await.map(drop)
    }

    async fn test(self, test: SinkTest) {
        let now_ms = wall_ms();
        let event = json!([{
            "specversion": "1.0",
            "id": format!("EV{}", test.test_id),
            "type": TEST_TYPE,
            "source": "/v1/Sinks",
            "time": iso_8601_ms(now_ms),
            "datacontenttype": "application/json",
            "accountsid": test.account,
            "data": { "test_id": test.test_id },
        }]);
        if let Err(failure) = self.post(test.account, &test.url, event.to_string().into(), test.test_id).await {
            tracing::warn!(account = %test.account, url = failure.url, "a test event does not reach its sink: {}", failure.text());
        }
    }
}

fn rand_bits() -> u128 {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("the operating system gives random numbers");
    u128::from_be_bytes(bytes)
}
