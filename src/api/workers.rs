//! Media workers for the operator: which there are, and which are to take no more.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tokio::sync::oneshot;

use super::operator::Operator;
use super::{View, error};
use crate::shard::Mail;
use crate::workers::Seen;

/// A worker as it is told.
#[derive(Serialize)]
struct Worker {
    id: String,
    pid: u32,
    address: String,
    state: &'static str,
    sessions: u32,
    legs: u32,
    /// In units of one leg of G.711.
    used: u32,
    capacity: u32,
}

impl From<Seen> for Worker {
    fn from(seen: Seen) -> Worker {
        let Seen { name, pid, address, state, load } = seen;
        Worker {
            id: name,
            pid,
            address,
            state: state.name(),
            sessions: load.sessions,
            legs: load.legs,
            used: load.used,
            capacity: load.capacity,
        }
    }
}

pub(super) async fn list(_: Operator, State(view): State<View>) -> Response {
    let workers: Vec<Worker> = view.workers.workers().into_iter().map(Worker::from).collect();
    Json(serde_json::json!({ "workers": workers })).into_response()
}

/// `Drain=true` is all that can be changed.
pub(super) async fn change(_: Operator, State(view): State<View>, Path(id): Path<String>, form: String) -> Response {
    if !url::form_urlencoded::parse(form.as_bytes()).any(|(key, value)| key == "Drain" && value == "true") {
        return error(
            StatusCode::BAD_REQUEST,
            20_001,
            "only Drain=true can be asked of a worker: one that drains ends",
        );
    }
    let (done, asked) = oneshot::channel();
    if view.mail.send(Mail::DrainWorker { name: id.clone(), done }).await.is_err() {
        return error(StatusCode::SERVICE_UNAVAILABLE, 20_503, "the server is stopping");
    }
    match asked.await {
        Ok(true) => StatusCode::ACCEPTED.into_response(),
        _ => error(StatusCode::NOT_FOUND, 20_404, &format!("there is no worker process {id} to drain")),
    }
}
