//! Logs and metrics: set up once, described once.

use std::collections::HashMap;
use std::io::IsTerminal;
use std::sync::Mutex;

use metrics::{Counter, Histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt, reload};

use crate::events::{CallRecord, CallStatus, Completed, Direction, Event, EventKind, Subscriber, Telling, Told};
use crate::ids::AccountSid;

/// How logs are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For a person at a terminal.
    #[default]
    Pretty,
}

type Filter = reload::Handle<EnvFilter, Registry>;

/// Changes the log level while the server runs.
pub struct LogLevel {
    filter: Mutex<Filter>,
}

impl LogLevel {
    /// Sets another level: `info`, or directives such as `info,dialtone::shard=debug`.
    pub fn set(&self, level: &str) -> Result<(), String> {
        let filter = EnvFilter::try_new(level).map_err(|error| format!("wrong log level {level}: {error}"))?;
        let handle = self.filter.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        handle.reload(filter).map_err(|error| error.to_string())
    }
}

/// Starts logging to standard error. Each line is one event; control characters in values are escaped.
pub fn start_logs(level: &str, format: LogFormat) -> Result<LogLevel, String> {
    let filter = EnvFilter::try_new(level).map_err(|error| format!("wrong log level {level}: {error}"))?;
    let (filter, handle) = reload::Layer::new(filter);
    let layer: Box<dyn Layer<_> + Send + Sync> = match format {
        LogFormat::Json => fmt::layer().json().flatten_event(true).with_writer(std::io::stderr).boxed(),
        LogFormat::Pretty => {
            let colours = std::io::stderr().is_terminal();
            fmt::layer().compact().with_target(false).with_ansi(colours).with_writer(std::io::stderr).boxed()
        }
    };
    tracing_subscriber::registry().with(filter).with(layer).try_init().map_err(|error| error.to_string())?;
    Ok(LogLevel { filter: Mutex::new(handle) })
}

/// Starts the metrics registry; what it holds is read through the handle. A process has one, whichever of its servers asks.
pub fn start_metrics() -> Result<PrometheusHandle, String> {
    static STARTED: Mutex<Option<PrometheusHandle>> = Mutex::new(None);
    let mut started = STARTED.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    match &*started {
        Some(handle) => Ok(handle.clone()),
        None => Ok(started.insert(install_metrics()?).clone()),
    }
}

fn install_metrics() -> Result<PrometheusHandle, String> {
    let seconds = [0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0];
    let own_delays = [0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 1.0];
    let waits = [0.1, 1.0, 10.0, 60.0, 600.0, 3_600.0, 21_600.0];
    let durations = [1.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0];
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Full("dialtone_call_duration_seconds".to_owned()), &durations)
        .and_then(|builder| {
            builder.set_buckets_for_metric(Matcher::Full("dialtone_call_queue_wait_seconds".to_owned()), &waits)
        })
        .and_then(|builder| {
            builder
                .set_buckets_for_metric(Matcher::Full("dialtone_document_effect_delay_seconds".to_owned()), &own_delays)
        })
        .and_then(|builder| builder.set_buckets(&seconds))
        .map_err(|error| error.to_string())?
        .install_recorder()
        .map_err(|error| error.to_string())?;
    describe();
    metrics::gauge!("dialtone_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    Ok(handle)
}

fn describe() {
    for (name, help) in COUNTERS {
        metrics::describe_counter!(*name, *help);
    }
    for (name, help) in GAUGES {
        metrics::describe_gauge!(*name, *help);
    }
    for (name, help) in HISTOGRAMS {
        metrics::describe_histogram!(*name, *help);
    }
}

const COUNTERS: &[(&str, &str)] = &[
    ("dialtone_sip_requests_total", "SIP requests seen on the wire."),
    ("dialtone_sip_responses_total", "Final and provisional SIP responses by method and status code."),
    ("dialtone_sip_retransmissions_total", "SIP messages retransmitted by transaction timers."),
    ("dialtone_sip_parse_errors_total", "Datagrams or frames rejected by the SIP parser."),
    ("dialtone_calls_started_total", "Calls admitted."),
    ("dialtone_calls_ended_total", "Calls that reached a final status."),
    ("dialtone_calls_rejected_total", "Calls refused before admission."),
    ("dialtone_webhook_requests_total", "HTTP requests sent to application servers."),
    ("dialtone_rtp_packets_total", "RTP packets."),
    ("dialtone_rtp_bytes_total", "RTP bytes on the wire."),
    ("dialtone_rtp_packets_lost_total", "RTP packets never received (sequence gaps after reordering window)."),
    ("dialtone_rtp_packets_late_total", "RTP packets discarded by the jitter buffer as too late."),
    ("dialtone_rtp_dropped_packets_total", "RTP packets dropped on arrival by reason."),
    ("dialtone_store_operations_total", "Operations on the shared store."),
    (
        "dialtone_outbound_attempts_total",
        "Outbound legs by trunk and outcome class (answered, busy, no_answer, rejected, failed, canceled).",
    ),
    (
        "dialtone_recording_storage_requests_total",
        "What was asked of the bucket of recordings, by op (upload, download, delete) and outcome (ok, error).",
    ),
    (
        "dialtone_lb_decisions_total",
        "Where sessions went, by reason: drawn (the less full of two), beside (the other end of a link), elsewhere (the first had no room), moved (its worker was lost), nowhere.",
    ),
    (
        "dialtone_calls_recovered_total",
        "Calls that this edge has taken up, by cause (edge_lost, edge_restart) and outcome (resumed, ended).",
    ),
    (
        "dialtone_concurrency_impeded_total",
        "Calls, requests and participants that found no room, by what became of them.",
    ),
    ("dialtone_callbacks_lost_total", "Status callbacks that were given up."),
    ("dialtone_usage_units_total", "Metered usage in the unit of the category (minutes, messages, bytes)."),
];

const GAUGES: &[(&str, &str)] = &[
    ("dialtone_build_info", "Build information; value is always 1."),
    ("dialtone_node_state", "Node lifecycle state; 1 for the current state, 0 otherwise."),
    ("dialtone_sip_transactions", "Open SIP transactions."),
    ("dialtone_sip_connections", "Open stream connections."),
    ("dialtone_registrations", "Active contact bindings."),
    ("dialtone_calls", "Calls in progress on this node by state."),
    ("dialtone_call_queue_depth", "Calls that the API ordered and that wait for their turn."),
    ("dialtone_concurrency_used", "Concurrency slots held by this node."),
    ("dialtone_concurrency_limit", "Configured concurrency limit."),
    (
        "dialtone_concurrency_unsafe",
        "Whether the store by which edges share limits is away, and each goes by its share: 1 or 0.",
    ),
    ("dialtone_media_sessions", "Media legs anchored on this worker."),
    ("dialtone_media_capacity_ratio", "Used share of the worker's ports, 0 to 1."),
    ("dialtone_workers", "Media workers by state."),
    ("dialtone_workers_required", "Media workers of the present size that the present load would fill by four fifths."),
    ("dialtone_worker_sessions", "Media sessions of a machine's workers."),
    ("dialtone_worker_capacity", "What a machine's workers can take, in units of one leg of G.711."),
    ("dialtone_store_up", "Whether the shared store answered the last probe."),
    ("dialtone_store_backlog", "Writes waiting in the local journal for the shared store."),
];

const HISTOGRAMS: &[(&str, &str)] = &[
    ("dialtone_call_duration_seconds", "Answered duration of ended calls."),
    ("dialtone_call_queue_wait_seconds", "How long calls that the API ordered waited for their turn."),
    ("dialtone_post_dial_delay_seconds", "INVITE to first 180, 183 or 2xx on outbound legs."),
    ("dialtone_rtp_jitter_seconds", "Interarrival jitter (RFC 3550) of each leg at its end."),
    ("dialtone_webhook_duration_seconds", "Time from request sent to response body read."),
    (
        "dialtone_document_effect_delay_seconds",
        "From the last byte of an application's answer until what it has done at once is sent: a message, or a command to the media.",
    ),
];

/// Logs what an operator wants to see of each call: its begin and end, errors, and silence.
pub struct CallLog;

impl Subscriber for CallLog {
    fn told(&mut self, event: &Event, record: &mut CallRecord, telling: Telling) {
        if telling.is_again() {
            return;
        }
        let (call_sid, account) = (event.call, event.account);
        match &event.kind {
            EventKind::Initiated(initiated) => {
                let (direction, via) = (initiated.direction.as_str(), initiated.via.as_str());
                tracing::info!(%call_sid, %account, direction, via, from = initiated.from, to = initiated.to, "call");
            }
            EventKind::Noticed(notice) => {
                tracing::warn!(%call_sid, %account, code = notice.code, url = without_query(&notice.url), "{}", notice.text);
            }
            EventKind::Silent { expected_from, dropped_from } if dropped_from.is_empty() => tracing::warn!(
                %call_sid,
                expected_from,
                "nothing was heard from the peer for 2 s: a firewall before our [media] ports, or a peer that sends no sound"
            ),
            EventKind::Silent { expected_from, dropped_from } => tracing::warn!(
                %call_sid,
                expected_from,
                dropped_from,
                "nothing was heard from the address in the peer's SDP for 2 s, but its packets come from another: it is behind NAT; see [media] latching"
            ),
            EventKind::Completed(completed) => {
                let (status, ended_by) = (completed.status.as_str(), completed.ended_by.as_str());
                tracing::info!(%call_sid, %account, status, ended_by, sip_status = completed.sip_status, seconds = record.duration_s(), "call is over");
            }
            _ => {}
        }
    }
}

/// A customer's query may hold a secret.
fn without_query(url: &str) -> &str {
    url.split(['?', '#']).next().unwrap_or("")
}

/// Counts what calls go through.
///
/// Each series is looked up in the registry once: a look-up by labels costs more than all else that is done with an
/// event here.
#[derive(Default)]
pub struct CallMetrics {
    by_account: HashMap<(AccountSid, Direction), AccountSeries>,
    by_trunk: HashMap<String, TrunkSeries>,
    jitter: Option<Histogram>,
    queue_wait: Option<Histogram>,
}

struct AccountSeries {
    started: Counter,
    ended: HashMap<CallStatus, Counter>,
    duration: Histogram,
    minutes: Counter,
}

impl AccountSeries {
    fn new(account: AccountSid, direction: Direction) -> AccountSeries {
        let (account, direction) = (account.to_string(), direction.as_str());
        let category = if direction == Direction::Inbound.as_str() { "calls-inbound" } else { "calls-outbound" };
        AccountSeries {
            started: metrics::counter!("dialtone_calls_started_total", "account" => account.clone(), "direction" => direction, "leg" => "sip"),
            ended: HashMap::new(),
            duration: metrics::histogram!("dialtone_call_duration_seconds", "direction" => direction),
            minutes: metrics::counter!("dialtone_usage_units_total", "account" => account, "category" => category, "unit" => "minutes"),
        }
    }
}

struct TrunkSeries {
    post_dial_delay: Histogram,
    attempts: HashMap<&'static str, Counter>,
}

impl TrunkSeries {
    fn new(trunk: &str) -> TrunkSeries {
        let post_dial_delay = metrics::histogram!("dialtone_post_dial_delay_seconds", "trunk" => trunk.to_owned());
        TrunkSeries { post_dial_delay, attempts: HashMap::new() }
    }
}

impl CallMetrics {
    fn account(&mut self, record: &CallRecord) -> &mut AccountSeries {
        let (account, direction) = (record.account, record.direction);
        self.by_account.entry((account, direction)).or_insert_with(|| AccountSeries::new(account, direction))
    }

    fn trunk(&mut self, trunk: &str) -> &mut TrunkSeries {
        if !self.by_trunk.contains_key(trunk) {
            self.by_trunk.insert(trunk.to_owned(), TrunkSeries::new(trunk));
        }
        self.by_trunk.get_mut(trunk).expect("inserted above")
    }

    fn ended(&mut self, completed: &Completed, record: &CallRecord) {
        if completed.media.packets_received > 0 {
            let jitter =
                self.jitter.get_or_insert_with(|| metrics::histogram!("dialtone_rtp_jitter_seconds", "kind" => "sip"));
            jitter.record(f64::from(completed.media.jitter_us) / 1e6);
        }
        if record.direction.is_outbound() {
            let (trunk, outcome) = (record.via.clone(), outcome(record));
            let attempts = self.trunk(&trunk).attempts.entry(outcome);
            attempts
                .or_insert_with(
                    || metrics::counter!("dialtone_outbound_attempts_total", "trunk" => trunk, "outcome" => outcome),
                )
                .increment(1);
        }
        let series = self.account(record);
        if record.answered_ms.is_some() {
            let seconds = record.duration_s();
            series.duration.record(seconds as f64);
            series.minutes.increment(seconds.div_ceil(60));
        }
        let ended = series.ended.entry(completed.status).or_insert_with(|| {
            let (account, direction) = (record.account.to_string(), record.direction.as_str());
            metrics::counter!("dialtone_calls_ended_total", "account" => account, "direction" => direction, "status" => completed.status.as_str())
        });
        ended.increment(1);
    }
}

impl Subscriber for CallMetrics {
    fn told(&mut self, event: &Event, record: &mut CallRecord, telling: Telling) {
        if telling.is_again() {
            return;
        }
        match &event.kind {
            EventKind::Initiated(_) => {
                self.account(record).started.increment(1);
                if record.direction == Direction::OutboundApi {
                    let wait =
                        self.queue_wait.get_or_insert_with(|| metrics::histogram!("dialtone_call_queue_wait_seconds"));
                    wait.record(record.queue_ms as f64 / 1000.0);
                }
            }
            EventKind::Ringing | EventKind::Answered if record.direction.is_outbound() => {
                let progress = |told: &&Told| matches!(told.kind, EventKind::Ringing | EventKind::Answered);
                if record.events.iter().filter(progress).count() == 1 {
                    let delay = event.at_ms.saturating_sub(record.started_ms) as f64 / 1000.0;
                    self.trunk(&record.via).post_dial_delay.record(delay);
                }
            }
            EventKind::Completed(completed) => self.ended(completed, record),
            _ => {}
        }
    }
}

fn outcome(record: &CallRecord) -> &'static str {
    match record.status {
        _ if record.answered_ms.is_some() => "answered",
        CallStatus::Busy => "busy",
        CallStatus::NoAnswer => "no_answer",
        CallStatus::Canceled => "canceled",
        _ => "failed",
    }
}
