//! Calls for the operator: live ones and past ones.

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use super::operator::Operator;
use super::{View, error, neighbours};
use crate::ids::CallSid;

const DEFAULT_LIMIT: u32 = 50;
const MAX_LIMIT: u32 = 1_000;

#[derive(Deserialize)]
pub(super) struct ListQuery {
    limit: Option<u32>,
}

/// The newest calls, live ones first.
pub(super) async fn list(_: Operator, State(view): State<View>, Query(query): Query<ListQuery>) -> Response {
    let limit = query.limit.unwrap_or(DEFAULT_LIMIT).min(MAX_LIMIT);
    let mut calls = view.live.find(|_| true);
    calls.extend(neighbours::calls_elsewhere(&view, None).await);
    match view.store.calls(None, limit).await {
        Ok(past) => calls.extend(past),
        Err(_) => return unavailable(),
    }
    // A call may have reached the store since the live ones were read.
    let mut seen = std::collections::HashSet::new();
    calls.retain(|record| seen.insert(record.sid));
    calls.sort_by_key(|record| (record.status.is_final(), std::cmp::Reverse((record.started_ms, record.sid))));
    calls.truncate(limit as usize);
    calls.iter_mut().for_each(|record| record.events.clear());
    Json(serde_json::json!({ "calls": calls })).into_response()
}

/// One call with its events.
pub(super) async fn show(_: Operator, State(view): State<View>, Path(sid): Path<String>) -> Response {
    let not_found = || error(StatusCode::NOT_FOUND, 20_404, &format!("there is no call {sid}"));
    let Ok(call) = sid.parse::<CallSid>() else { return not_found() };
    let live = view.live.get(call);
    let record = match live {
        Some(record) => Some(record),
        None => match view.store.call(call).await {
            Ok(record) => record,
            Err(_) => return unavailable(),
        },
    };
    record.map_or_else(not_found, |record| Json(record).into_response())
}

fn unavailable() -> Response {
    error(StatusCode::SERVICE_UNAVAILABLE, 20_503, "the store does not answer")
}
