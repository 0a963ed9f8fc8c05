//! Logs and metrics: set up once, described once.

pub mod accounts;
mod calls;
mod hep;
pub mod history;
pub mod page;
mod traces;

use std::io::IsTerminal;
use std::sync::Mutex;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt, reload};

use crate::events::{CallRecord, Event, EventKind, Subscriber, Telling};

pub use calls::CallMetrics;
pub use hep::Hep;
pub use traces::{Collector, traces};

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
    let gaps = [0.02, 0.04, 0.06, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0];
    let scores = [1.5, 2.0, 2.5, 3.0, 3.5, 3.8, 4.0, 4.2, 4.3, 4.4];
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Full("dialtone_call_duration_seconds".to_owned()), &durations)
        .and_then(|builder| {
            builder.set_buckets_for_metric(Matcher::Full("dialtone_call_queue_wait_seconds".to_owned()), &waits)
        })
        .and_then(|builder| {
            builder
                .set_buckets_for_metric(Matcher::Full("dialtone_document_effect_delay_seconds".to_owned()), &own_delays)
        })
        .and_then(|builder| builder.set_buckets_for_metric(Matcher::Suffix("_rtt_seconds".to_owned()), &own_delays))
        .and_then(|builder| builder.set_buckets_for_metric(Matcher::Suffix("_jitter_seconds".to_owned()), &own_delays))
        .and_then(|builder| {
            builder.set_buckets_for_metric(Matcher::Suffix("_operation_duration_seconds".to_owned()), &own_delays)
        })
        .and_then(|builder| builder.set_buckets_for_metric(Matcher::Suffix("_mos_score".to_owned()), &scores))
        .and_then(|builder| builder.set_buckets_for_metric(Matcher::Full("dialtone_rtp_gap_seconds".to_owned()), &gaps))
        .and_then(|builder| builder.set_buckets(&seconds))
        .map_err(|error| error.to_string())?
        .install_recorder()
        .map_err(|error| error.to_string())?;
    describe();
    let labels = [
        ("version", env!("CARGO_PKG_VERSION")),
        ("revision", env!("DIALTONE_REVISION")),
        ("rustc", env!("DIALTONE_RUSTC")),
    ];
    metrics::gauge!("dialtone_build_info", &labels).set(1.0);
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
    ("dialtone_client_warnings_total", "Warnings of browsers about their calls, by name."),
    ("dialtone_sip_requests_total", "SIP requests seen on the wire."),
    ("dialtone_sip_responses_total", "Final and provisional SIP responses by method and status code."),
    ("dialtone_sip_retransmissions_total", "SIP messages retransmitted by transaction timers."),
    ("dialtone_sip_parse_errors_total", "Datagrams or frames rejected by the SIP parser."),
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
    ("dialtone_control_placements_total", "Session placements by policy result."),
    ("dialtone_traces_total", "Traces of calls for the collector, by outcome (ok, refused, failed, dropped)."),
    ("dialtone_hep_packets_total", "SIP messages for the HEP collector, by outcome."),
    ("dialtone_usage_triggers_fired_total", "Usage triggers fired."),
    (
        "dialtone_budget_impeded_total",
        "Calls that no budget paid for, by what became of them: reject (not begun), end (ended).",
    ),
    ("dialtone_events_published_total", "Events that somebody listens to, by type, as this edge has logged them."),
    (
        "dialtone_event_disconnects_total",
        "Event streams that ended, by reason (closed, slow, expired, revoked, server).",
    ),
    ("dialtone_sink_deliveries_total", "Requests to sinks, by outcome (ok, failed)."),
    ("dialtone_presence_transitions_total", "Clients that came (available) or went (unavailable), as it was told."),
    ("dialtone_callbacks_lost_total", "Status callbacks that were given up."),
];

const GAUGES: &[(&str, &str)] = &[
    ("dialtone_build_info", "Build information; value is always 1."),
    ("dialtone_node_state", "Node lifecycle state; 1 for the current state, 0 otherwise."),
    ("dialtone_sip_transactions", "Open SIP transactions."),
    ("dialtone_sip_connections", "Open stream connections."),
    ("dialtone_call_queue_depth", "Calls that the API ordered and that wait for their turn."),
    (
        "dialtone_queue_depth",
        "Items waiting per destination gateway: calls that the API ordered (kind call) by trunk, and texts that their devices have not answered (kind message).",
    ),
    (
        "dialtone_concurrency_unsafe",
        "Whether the store by which edges share limits is away, and each goes by its share: 1 or 0.",
    ),
    ("dialtone_media_sessions", "Media legs anchored on this worker."),
    ("dialtone_media_capacity_ratio", "Used share of the worker's ports, 0 to 1."),
    ("dialtone_control_workers", "Workers known to this edge by state."),
    ("dialtone_workers_required", "Media workers of the present size that the present load would fill by four fifths."),
    ("dialtone_worker_sessions", "Media sessions of a machine's workers."),
    ("dialtone_worker_capacity", "What a machine's workers can take, in units of one leg of G.711."),
    ("dialtone_event_clients", "Open event streams of this edge, by kind (sse, websocket)."),
    ("dialtone_presence_identities", "Clients with a device at this edge, by status."),
    ("dialtone_store_up", "Whether the shared store answered the last probe."),
    ("dialtone_store_backlog", "Writes waiting in the local journal for the shared store."),
];

const HISTOGRAMS: &[(&str, &str)] = &[
    ("dialtone_call_duration_seconds", "Answered duration of ended calls."),
    ("dialtone_call_queue_wait_seconds", "How long calls that the API ordered waited for their turn."),
    ("dialtone_post_dial_delay_seconds", "INVITE to first 180, 183 or 2xx on outbound legs."),
    ("dialtone_client_mos_score", "Estimated MOS of browsers' calls, as they measure it, one each second."),
    ("dialtone_client_rtt_seconds", "Round trips of browsers' media, as they measure them, one each second."),
    ("dialtone_client_jitter_seconds", "Jitter of what browsers receive, as they measure it, one each second."),
    ("dialtone_call_mos_score", "Estimated listening MOS (E-model) per ended leg."),
    ("dialtone_store_operation_duration_seconds", "Latency of shared store operations."),
    ("dialtone_control_rtt_seconds", "Round trip between edge and worker."),
    ("dialtone_rtp_jitter_seconds", "Interarrival jitter (RFC 3550) of each leg at its end."),
    (
        "dialtone_rtp_gap_seconds",
        "From the loss of a media worker until a leg is heard again, by cause: worker_crash (another process has its sockets), worker_lost (the leg goes on elsewhere).",
    ),
    ("dialtone_event_lag_seconds", "From the logging of an event until it is handed to a stream."),
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
