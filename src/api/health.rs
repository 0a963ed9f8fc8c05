//! Liveness, readiness, metrics.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;

use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::View;
use super::{error, is_operator};

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
        return error(StatusCode::UNAUTHORIZED, 20_003, "metrics need the operator token, or a request from loopback");
    }
    open_metrics(State(view)).await
}

pub(super) async fn open_metrics(State(view): State<View>) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], view.metrics.render()).into_response()
}
