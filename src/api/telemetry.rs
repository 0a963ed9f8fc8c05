//! `/ev`: what the official voice SDK measures and tells of its calls. It is told to come here by the first frame of `/signal`.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::Value;

use super::View;
use crate::clock::wall_ms;
use crate::tokens::access;

const TOKEN: HeaderName = HeaderName::from_static("x-twilio-token");

/// As far as it is looked at.
#[derive(Deserialize)]
pub(super) struct Told {
    #[serde(default)]
    group: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    payload: Value,
}

/// Pages of every origin have the SDK, and what it sends opens nothing.
pub(super) async fn preflight() -> Response {
    allowed(StatusCode::NO_CONTENT)
}

pub(super) async fn take(State(view): State<View>, headers: HeaderMap, Json(told): Json<Told>) -> Response {
    let token = headers.get(TOKEN).and_then(|token| token.to_str().ok()).unwrap_or_default();
    if access::read(token, &view.directory.load(), wall_ms() / 1000).is_err() {
        return allowed(StatusCode::UNAUTHORIZED);
    }
    match (told.group.as_str(), &told.payload) {
        ("quality-metrics-samples", Value::Array(samples)) => samples.iter().for_each(count_sample),
        (group, _) if is_warning(group) => {
            metrics::counter!("dialtone_client_warnings_total", "name" => known_warning(&told.name)).increment(1);
        }
        _ => {}
    }
    allowed(StatusCode::OK)
}

/// One of each second of a call, as its browser has measured it.
fn count_sample(sample: &Value) {
    let number =
        |name: &str| sample.get(name).and_then(Value::as_f64).filter(|value| value.is_finite() && *value >= 0.0);
    if let Some(mos) = number("mos") {
        metrics::histogram!("dialtone_client_mos_score").record(mos);
    }
    if let Some(ms) = number("rtt") {
        metrics::histogram!("dialtone_client_rtt_seconds").record(ms / 1000.0);
    }
    if let Some(ms) = number("jitter") {
        metrics::histogram!("dialtone_client_jitter_seconds").record(ms / 1000.0);
    }
}

fn is_warning(group: &str) -> bool {
    matches!(group, "network-quality-warning-raised" | "audio-level-warning-raised")
}

/// Only the names that the SDK has become labels.
fn known_warning(name: &str) -> &'static str {
    const KNOWN: [&str; 8] = [
        "high-rtt",
        "low-mos",
        "high-jitter",
        "high-packet-loss",
        "high-packets-lost-fraction",
        "low-bytes-received",
        "low-bytes-sent",
        "constant-audio-input-level",
    ];
    KNOWN.into_iter().find(|known| *known == name).unwrap_or("other")
}

fn allowed(status: StatusCode) -> Response {
    let mut response = status.into_response();
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("POST"));
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("content-type, x-twilio-token"));
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("86400"));
    response
}
