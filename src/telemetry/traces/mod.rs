//! Traces for OpenTelemetry: one of each call, made when it is over, sent to a collector by OTLP over HTTP.
//!
//! Whether a trace is worth keeping is known at the end of its call: those that failed, had an error, sounded poor or outlived their
//! edge are sent all, of the others a share. A collector that is slow or away costs traces, and never a call.

mod otlp;
mod spans;

use std::collections::HashSet;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, Request, StatusCode, Uri};
use prost::Message;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use crate::events::{CallRecord, Event, EventKind, Subscriber, Telling};
use crate::https::{self, Pool};
use crate::ids::CallSid;
use otlp::{ExportTraceServiceRequest, Resource, ResourceSpans, Scope, ScopeSpans, Span, attribute};

/// Traces that may wait to be sent; with as many a further one is lost, and counted.
const WAITING: usize = 10_000;
/// Traces of one request, and how long the first of them waits for others.
const BATCH: usize = 200;
const GATHERS: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(10);
/// Until a request is given up that the collector does not take now.
const TRIES: u32 = 5;

/// Where traces go.
#[derive(Clone, Debug)]
pub struct Collector {
    /// With its path: `http://127.0.0.1:4318/v1/traces`.
    pub endpoint: Uri,
    pub headers: HeaderMap,
    /// Of the calls that went as they should, 0 to 1.
    pub share: f64,
    /// Of this server, among others.
    pub instance: String,
}

/// Makes traces of calls.
pub struct Tracer {
    traces: mpsc::Sender<Vec<Span>>,
    share: f64,
    /// Calls that run, and did so before this edge began.
    recovered: HashSet<CallSid>,
}

/// Sends them.
pub struct Exporter {
    traces: mpsc::Receiver<Vec<Span>>,
    collector: Collector,
    pool: Pool<Full<Bytes>>,
}

/// Both ends.
pub fn traces(collector: Collector) -> (Tracer, Exporter) {
    let (sender, receiver) = mpsc::channel(WAITING);
    let tracer = Tracer { traces: sender, share: collector.share, recovered: HashSet::new() };
    (tracer, Exporter { traces: receiver, collector, pool: https::pool(true) })
}

impl Subscriber for Tracer {
    fn told(&mut self, event: &Event, record: &mut CallRecord, telling: Telling) {
        if !matches!(event.kind, EventKind::Completed(_)) {
            if telling.is_again() {
                self.recovered.insert(event.call);
            }
            return;
        }
        let is_recovered = self.recovered.remove(&event.call);
        let is_kept = is_recovered || !spans::is_ordinary(record) || is_in_share(event.call, self.share);
        if is_kept && !telling.is_again() && self.traces.try_send(spans::spans(record, is_recovered)).is_err() {
            count("dropped", 1);
        }
    }
}

/// By the call's own name, so that all servers agree. Its last bits are chance; its first are the time.
fn is_in_share(call: CallSid, share: f64) -> bool {
    let chance = call.bits() as u32;
    f64::from(chance) < share * 2_f64.powi(32)
}

impl Exporter {
    /// Until the outbox has ended and everything is sent, or given up.
    pub async fn run(mut self) {
        while let Some(first) = self.traces.recv().await {
            let mut traces = vec![first];
            let _ = timeout(GATHERS, async {
                while traces.len() < BATCH
                    && let Some(next) = self.traces.recv().await
                {
                    traces.push(next);
                }
            })
            .await;
            self.send(traces).await;
        }
    }

    async fn send(&self, traces: Vec<Vec<Span>>) {
        let count_of = traces.len() as u64;
        let body = Bytes::from(self.request_of(traces).encode_to_vec());
        let mut pause = Duration::from_secs(1);
        for attempt in 1..=TRIES {
            let why = match timeout(PATIENCE, self.post(body.clone())).await {
                Ok(Ok(status)) if status.is_success() => return count("ok", count_of),
                // What it says to a request that it will never take (OTLP 1.0, failures).
                Ok(Ok(status)) if !is_retried(status) => {
                    tracing::warn!(%status, traces = count_of, "the collector of [traces] refuses traces: they are lost");
                    return count("refused", count_of);
                }
                Ok(Ok(status)) => status.to_string(),
                Ok(Err(error)) => error,
                Err(_) => format!("no answer within {} s", PATIENCE.as_secs()),
            };
            if attempt == TRIES {
                tracing::warn!(why, traces = count_of, "the collector of [traces] cannot be reached: traces are lost");
                return count("failed", count_of);
            }
            sleep(pause).await;
            pause *= 2;
        }
    }

    async fn post(&self, body: Bytes) -> Result<StatusCode, String> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.collector.endpoint.clone();
        *request.headers_mut() = self.collector.headers.clone();
        request.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
        let response = self.pool.request(request).await.map_err(|error| match std::error::Error::source(&error) {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        })?;
        let status = response.status();
        // Read to its end, so that the connection can be used again.
        let _ = response.into_body().collect().await;
        Ok(status)
    }

    fn request_of(&self, traces: Vec<Vec<Span>>) -> ExportTraceServiceRequest {
        let version = env!("CARGO_PKG_VERSION");
        let resource = Resource {
            attributes: vec![
                attribute("service.name", "dialtone"),
                attribute("service.version", version),
                attribute("service.instance.id", self.collector.instance.as_str()),
            ],
        };
        let scope = Scope { name: "dialtone".to_owned(), version: version.to_owned() };
        let spans = traces.into_iter().flatten().collect();
        let scope_spans = vec![ScopeSpans { scope: Some(scope), spans }];
        ExportTraceServiceRequest { resource_spans: vec![ResourceSpans { resource: Some(resource), scope_spans }] }
    }
}

fn is_retried(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 429 | 502..=504)
}

fn count(outcome: &'static str, traces: u64) {
    metrics::counter!("dialtone_traces_total", "outcome" => outcome).increment(traces);
}

#[cfg(test)]
mod tests;
