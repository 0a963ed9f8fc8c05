//! Liveness, readiness, metrics.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;

use axum::extract::{ConnectInfo, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};

use dialtone_media::worker::LATENESS_BOUNDS_US;
use serde::Deserialize;

use super::View;
use super::error;
use super::operator::is_operator;
use crate::telemetry::accounts::{self, Whose};
use crate::telemetry::page;

/// The process works. Not whether it takes calls: see [`readyz`].
pub(super) async fn livez() -> &'static str {
    "ok\n"
}

/// New calls are taken; 503 says why not.
pub(super) async fn readyz(State(view): State<View>) -> Response {
    if view.draining.load(Ordering::Relaxed) {
        return (StatusCode::SERVICE_UNAVAILABLE, "draining\n").into_response();
    }
    if !view.store.is_up().await {
        return (StatusCode::SERVICE_UNAVAILABLE, "the store does not answer\n").into_response();
    }
    "ready\n".into_response()
}

/// On the main listener: from loopback, or with the operator's token.
pub(super) async fn guarded_metrics(
    State(view): State<View>,
    ConnectInfo(source): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
) -> Response {
    if !source.ip().is_loopback() && !is_operator(&view, &headers) {
        return denied();
    }
    open_metrics(State(view)).await
}

pub(super) async fn open_metrics(State(view): State<View>) -> Response {
    let totals = view.workers.totals();
    let ticks = page::ticks(&LATENESS_BOUNDS_US, &totals.tick_lateness, totals.tick_lateness_sum_us);
    text([view.metrics.render(), accounts::page(&Whose::Named), ticks].concat())
}

#[derive(Deserialize)]
pub(super) struct Top {
    top: Option<usize>,
}

const USUAL_TOP: usize = 100;
const MOST_TOP: usize = 1_000;

/// Those accounts that have made the most calls, each by itself.
pub(super) async fn account_metrics(
    State(view): State<View>,
    ConnectInfo(source): ConnectInfo<SocketAddr>,
    Query(Top { top }): Query<Top>,
    headers: HeaderMap,
) -> Response {
    if !source.ip().is_loopback() && !is_operator(&view, &headers) {
        return denied();
    }
    text(accounts::page(&Whose::Busiest(top.unwrap_or(USUAL_TOP).min(MOST_TOP))))
}

fn denied() -> Response {
    error(StatusCode::UNAUTHORIZED, 20_003, "metrics need the operator token, or a request from loopback")
}

/// In Prometheus' text form.
pub(super) fn text(page: String) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], page).into_response()
}
