//! One API for all edges of a cluster: what runs at another edge is asked there.
//!
//! A request about something that runs elsewhere goes there as it came, with its credentials, and is answered as if it had come
//! there; lists have what runs everywhere. What is over is in the database, which all share.

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use prost::Message;
use tower::ServiceExt;

use super::View;
use crate::edges::{EdgeId, kind};
use crate::events::{CallRecord, ConferenceStatus};
use crate::ids::{AccountSid, CallSid, ConferenceSid, QueueSid};

/// Of a request, and of a response.
const MAX_BODY: usize = 8 << 20;

#[derive(Clone, PartialEq, prost::Message)]
struct HttpRequest {
    #[prost(string, tag = "1")]
    method: String,
    /// Path and query.
    #[prost(string, tag = "2")]
    uri: String,
    #[prost(message, repeated, tag = "3")]
    headers: Vec<Header>,
    #[prost(bytes = "bytes", tag = "4")]
    body: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
struct HttpResponse {
    #[prost(uint32, tag = "1")]
    status: u32,
    #[prost(message, repeated, tag = "2")]
    headers: Vec<Header>,
    #[prost(bytes = "bytes", tag = "3")]
    body: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Header {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// Marks a request that another edge has handed on: it is answered here, whatever that says.
#[derive(Clone, Copy)]
struct HandedOn;

/// Hands a request on that is about something which runs at another edge.
pub(super) async fn hand_on(State(view): State<View>, request: Request, next: Next) -> Response {
    let is_handed_on = request.extensions().get::<HandedOn>().is_some();
    let elsewhere = match (&view.edges, subject(request.uri().path())) {
        (Some(edges), Some(sid)) if !is_handed_on && !runs_here(&view, sid) && is_known(&view, &request) => {
            let body = Bytes::copy_from_slice(sid.as_bytes());
            let answers = edges.ask_all(kind::RUNS, body).await;
            answers.into_iter().find(|(_, answer)| !answer.is_empty()).map(|(edge, _)| (edges.clone(), edge))
        }
        _ => None,
    };
    let Some((edges, edge)) = elsewhere else { return next.run(request).await };
    let Some(asked) = pack(request).await else { return StatusCode::PAYLOAD_TOO_LARGE.into_response() };
    match edges.ask(&edge, kind::HTTP, asked).await.and_then(|answer| HttpResponse::decode(answer).ok()) {
        Some(answer) => unpack(answer),
        None => away(&edge),
    }
}

/// Whether whoever asks may ask for anything: strangers have nothing asked of others.
fn is_known(view: &View, request: &Request) -> bool {
    super::operator::is_operator(view, request.headers()) || super::rest::is_authentic(view, request.headers())
}

fn away(edge: &EdgeId) -> Response {
    tracing::warn!(%edge, "an edge does not answer what was asked of something that runs there");
    super::error(
        StatusCode::SERVICE_UNAVAILABLE,
        20_503,
        "the server where this runs does not answer: please try again",
    )
}

/// The sid of what a path is about, if that is something that runs at one edge.
fn subject(path: &str) -> Option<&str> {
    let mut parts = path.split('/').skip_while(|part| !matches!(*part, "Calls" | "Conferences" | "Queues" | "calls"));
    let (collection, sid) = (parts.next()?, parts.next()?);
    let sid = sid.strip_suffix(".json").unwrap_or(sid);
    // A queue is a row of the database; its members run.
    (collection != "Queues" || parts.next().is_some()).then_some(sid)
}

fn runs_here(view: &View, sid: &str) -> bool {
    if let Ok(call) = sid.parse::<CallSid>() {
        return view.live.get(call).is_some();
    }
    if let Ok(conference) = sid.parse::<ConferenceSid>() {
        return view.conferences.any(conference, |it| it.status != ConferenceStatus::Completed);
    }
    sid.parse::<QueueSid>().is_ok_and(|queue| view.queues.any(queue, |it| !it.members.is_empty()))
}

/// Calls that run at other edges, of one account or of all.
pub(super) async fn calls_elsewhere(view: &View, account: Option<AccountSid>) -> Vec<CallRecord> {
    let Some(edges) = &view.edges else { return Vec::new() };
    let Ok(body) = serde_json::to_vec(&account) else { return Vec::new() };
    let answers = edges.ask_all(kind::CALLS, body.into()).await;
    answers
        .iter()
        .flat_map(|(_, answer)| serde_json::from_slice::<Vec<CallRecord>>(answer).unwrap_or_default())
        .collect()
}

/// What this edge answers to another.
pub async fn answer(view: &View, router: Router, kind: u32, body: &Bytes) -> Option<Bytes> {
    match kind {
        kind::RUNS => {
            // Who asks has perhaps just been told of it.
            view.publisher.catch_up().await;
            let sid = std::str::from_utf8(body).ok()?;
            Some(if runs_here(view, sid) { Bytes::from_static(b"yes") } else { Bytes::new() })
        }
        kind::READ_AGAIN => {
            view.provisioning.read_again().await.ok()?;
            Some(Bytes::from_static(b"yes"))
        }
        kind::CALLS => {
            let account: Option<AccountSid> = serde_json::from_slice(body).ok()?;
            view.publisher.catch_up().await;
            let calls = view.live.find(|record| account.is_none_or(|account| record.account == account));
            serde_json::to_vec(&calls).ok().map(Bytes::from)
        }
        kind::HTTP => {
            let HttpRequest { method, uri, headers, body } = HttpRequest::decode(body.clone()).ok()?;
            let mut request = Request::new(Body::from(body));
            *request.method_mut() = Method::from_bytes(method.as_bytes()).ok()?;
            *request.uri_mut() = uri.parse::<Uri>().ok()?;
            request.headers_mut().extend(headers.into_iter().filter_map(Header::open));
            request.extensions_mut().insert(HandedOn);
            let response = router.oneshot(request).await.ok()?;
            let (parts, body) = response.into_parts();
            let body = to_bytes(body, MAX_BODY).await.ok()?;
            let headers = parts.headers.iter().map(Header::of).collect();
            let answer = HttpResponse { status: parts.status.as_u16().into(), headers, body };
            Some(answer.encode_to_vec().into())
        }
        _ => None,
    }
}

async fn pack(request: Request) -> Option<Bytes> {
    let (parts, body) = request.into_parts();
    let request = HttpRequest {
        method: parts.method.to_string(),
        uri: parts.uri.path_and_query().map_or_else(|| parts.uri.path().to_owned(), ToString::to_string),
        headers: parts.headers.iter().map(Header::of).collect(),
        body: to_bytes(body, MAX_BODY).await.ok()?,
    };
    Some(request.encode_to_vec().into())
}

fn unpack(answer: HttpResponse) -> Response {
    let mut response = Response::new(Body::from(answer.body));
    *response.status_mut() =
        u16::try_from(answer.status).ok().and_then(|status| StatusCode::from_u16(status).ok()).unwrap_or_default();
    response.headers_mut().extend(answer.headers.into_iter().filter_map(Header::open));
    response
}

impl Header {
    fn of((name, value): (&HeaderName, &HeaderValue)) -> Header {
        Header { name: name.to_string(), value: value.as_bytes().to_vec() }
    }

    fn open(self) -> Option<(HeaderName, HeaderValue)> {
        Some((self.name.parse().ok()?, HeaderValue::from_bytes(&self.value).ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_is_about_what_runs_at_one_edge() {
        let account = "/2010-04-01/Accounts/AC0";
        for (path, wanted) in [
            ("/Calls/CA1.json", Some("CA1")),
            ("/Calls/CA1/Recordings.json", Some("CA1")),
            ("/Calls.json", None),
            ("/Conferences/CF1/Participants.json", Some("CF1")),
            ("/Queues/QU1.json", None),
            ("/Queues/QU1/Members/Front.json", Some("QU1")),
            ("/Recordings/RE1.json", None),
        ] {
            assert_eq!(subject(&format!("{account}{path}")), wanted, "{path}");
        }
        assert_eq!(subject("/dialtone/v1/calls/CA1"), Some("CA1"));
        assert_eq!(subject("/dialtone/v1/calls"), None);
    }
}
