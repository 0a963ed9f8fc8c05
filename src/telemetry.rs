//! Logs and metrics: set up once, described once.

use std::io::IsTerminal;
use std::sync::Mutex;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt, reload};

use crate::events::{CallRecord, CallStatus, Direction, Event, EventKind, Subscriber};

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

/// Starts the metrics registry; what it holds is read through the handle.
pub fn start_metrics() -> Result<PrometheusHandle, String> {
    let seconds = [0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0];
    let durations = [1.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0];
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Full("dialtone_call_duration_seconds".to_owned()), &durations)
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
    ("dialtone_media_sessions", "Media legs anchored on this worker."),
    ("dialtone_store_up", "Whether the shared store answered the last probe."),
    ("dialtone_store_backlog", "Writes waiting in the local journal for the shared store."),
];

const HISTOGRAMS: &[(&str, &str)] = &[
    ("dialtone_call_duration_seconds", "Answered duration of ended calls."),
    ("dialtone_post_dial_delay_seconds", "INVITE to first 180, 183 or 2xx on outbound legs."),
    ("dialtone_rtp_jitter_seconds", "Interarrival jitter (RFC 3550) of each leg at its end."),
    ("dialtone_webhook_duration_seconds", "Time from request sent to response body read."),
];

/// Logs what an operator wants to see of each call: its begin and end, errors, and silence.
pub struct CallLog;

impl Subscriber for CallLog {
    fn told(&mut self, event: &Event, record: &mut CallRecord, again: bool) {
        if again {
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
pub struct CallMetrics;

impl Subscriber for CallMetrics {
    fn told(&mut self, event: &Event, record: &mut CallRecord, again: bool) {
        if again {
            return;
        }
        let (account, direction) = (record.account.to_string(), record.direction.as_str());
        match &event.kind {
            EventKind::Initiated(_) => {
                metrics::counter!("dialtone_calls_started_total", "account" => account, "direction" => direction, "leg" => "sip").increment(1);
            }
            EventKind::Ringing | EventKind::Answered if record.direction == Direction::OutboundDial => {
                let first = record
                    .events
                    .iter()
                    .filter(|told| matches!(told.kind, EventKind::Ringing | EventKind::Answered))
                    .count()
                    == 1;
                if first {
                    let delay = event.at_ms.saturating_sub(record.started_ms) as f64 / 1000.0;
                    metrics::histogram!("dialtone_post_dial_delay_seconds", "trunk" => record.via.clone())
                        .record(delay);
                }
            }
            EventKind::Completed(completed) => {
                let status = completed.status.as_str();
                if completed.media.packets_received > 0 {
                    let jitter = f64::from(completed.media.jitter_us) / 1e6;
                    metrics::histogram!("dialtone_rtp_jitter_seconds", "kind" => "sip").record(jitter);
                }
                if record.direction == Direction::OutboundDial {
                    let outcome = outcome(record);
                    metrics::counter!("dialtone_outbound_attempts_total", "trunk" => record.via.clone(), "outcome" => outcome).increment(1);
                }
                if record.answered_ms.is_some() {
                    let seconds = record.duration_s();
                    metrics::histogram!("dialtone_call_duration_seconds", "direction" => direction)
                        .record(seconds as f64);
                    let category = if direction == "inbound" { "calls-inbound" } else { "calls-outbound" };
                    metrics::counter!("dialtone_usage_units_total", "account" => account.clone(), "category" => category, "unit" => "minutes")
                        .increment(seconds.div_ceil(60));
                }
                metrics::counter!("dialtone_calls_ended_total", "account" => account, "direction" => direction, "status" => status).increment(1);
            }
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
