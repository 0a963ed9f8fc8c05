//! `/2010-04-01/Events`: what happens in an account, as it happens, by server-sent events (HTML, section 9.2) or a WebSocket.
//!
//! Who may listen is said by a capability token of the official SDKs, or by the account's own credentials. A token's filters can
//! be narrowed by the query and never widened. What was missed is told first, from `Last-Event-ID` on.

mod grant;
mod reader;
mod snapshot;

use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use axum::extract::ws::{Message, WebSocket};
use axum::extract::{FromRequestParts, Request, State, WebSocketUpgrade};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream::unfold;

use super::View;
use super::rest::Fault;
use crate::clock::wall_ms;
use crate::eventlog::{Filter, FilterError};
use grant::{Credentials, Refusal};
use reader::{Frame, Reader};

/// A message that a client of a WebSocket does not take within this time ends it.
const PATIENCE: Duration = Duration::from_secs(30);
/// What a client may say: nothing of it is read.
const MAX_MESSAGE: usize = 4_096;
/// In the query, besides filters.
const TOKEN: &str = "AccessToken";
const LAST: &str = "LastEventId";

/// Opens a stream.
pub(super) async fn open(State(view): State<View>, request: Request) -> Response {
    let (mut parts, _) = request.into_parts();
    let query = parts.uri.query().unwrap_or_default();
    let pairs: Vec<(String, String)> = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    let last = last_event_id(&parts.headers, &pairs);
    let credentials = Credentials::of(&parts.headers, &pairs);
    let wanted = pairs.iter().filter(|(name, _)| name != TOKEN && name != LAST);
    let wanted = Filter::read(wanted.map(|(name, value)| (name.as_str(), value.as_str())));
    let opened = match (credentials.grant(&view.directory.load(), wall_ms() / 1000), wanted, last) {
        (Err(refusal), ..) => return refused(refusal.into()),
        (_, Err(error), _) => return refused(error.into()),
        (.., Err(text)) => {
            return refused(Fault::parameter(20_001, format!("Last-Event-ID {text} is not a number of this stream")));
        }
        (Ok(grant), Ok(wanted), Ok(last)) => match grant.filter.narrowed(wanted) {
            Ok(filter) => Reader::open(view, credentials, grant, filter, last).await,
            Err(error) => return refused(error.into()),
        },
    };
    let reader = match opened {
        Ok(reader) => reader,
        Err(fault) => return refused(fault),
    };
    match WebSocketUpgrade::from_request_parts(&mut parts, &()).await {
        Ok(upgrade) => upgrade.max_message_size(MAX_MESSAGE).on_upgrade(|socket| by_web_socket(socket, reader)),
        Err(_) => by_server_sent_events(reader),
    }
}

/// A page of another origin may read the stream: its token is the proof, and nothing that a browser sends by itself.
fn readable_anywhere(mut response: Response) -> Response {
    response.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    response
}

fn refused(fault: Fault) -> Response {
    readable_anywhere(fault.into_response())
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Fault {
        match refusal {
            Refusal::Nothing => Fault::unauthenticated(),
            Refusal::Inactive => Fault::inactive(),
            Refusal::Token(error) => Fault::new(401, 20_003, format!("Authenticate: {error}")),
        }
    }
}

impl From<FilterError> for Fault {
    fn from(error: FilterError) -> Fault {
        match error {
            FilterError::Wider(_) => Fault::denied(&error.to_string()),
            FilterError::Unknown(_) | FilterError::NoSuchType(_) => Fault::parameter(20_001, error.to_string()),
        }
    }
}

/// The number of the last event that a client has: a browser says it by itself when it connects again.
fn last_event_id(headers: &HeaderMap, pairs: &[(String, String)]) -> Result<Option<u64>, String> {
    let of_header = headers.get("last-event-id").and_then(|value| value.to_str().ok());
    let of_query = pairs.iter().find(|(name, _)| name == LAST).map(|(_, value)| value.as_str());
    match of_header.or(of_query).filter(|text| !text.is_empty()) {
        None => Ok(None),
        Some(text) => text.parse().map(Some).map_err(|_| text.to_owned()),
    }
}

fn by_server_sent_events(reader: Reader) -> Response {
    let _counted = reader.count("sse");
    let frames = unfold((reader, _counted), |(mut reader, counted)| async move {
        let frame = reader.next().await?;
        Some((Ok::<Bytes, Infallible>(event_stream(&frame)), (reader, counted)))
    });
    let mut response = Response::new(Body::from_stream(frames));
    *response.status_mut() = StatusCode::OK;
    for (name, value) in [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
        // A proxy in between must not collect what is to be told now.
        (header::HeaderName::from_static("x-accel-buffering"), "no"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    readable_anywhere(response)
}

/// A frame as it is written for an EventSource. Ordinary events have no name, so that `onmessage` gets them all.
fn event_stream(frame: &Frame) -> Bytes {
    match frame {
        Frame::Event(event) => {
            let mut text = Vec::with_capacity(event.text.len() + 40);
            text.extend_from_slice(format!("id: {}\ndata: ", event.seq).as_bytes());
            text.extend_from_slice(&event.text);
            text.extend_from_slice(b"\n\n");
            text.into()
        }
        Frame::Notice { name, cursor: Some(cursor), body } => {
            format!("event: {name}\nid: {cursor}\ndata: {body}\n\n").into()
        }
        Frame::Notice { name, cursor: None, body } => format!("event: {name}\ndata: {body}\n\n").into(),
        Frame::Opened => Bytes::from_static(b"retry: 2000\n\n"),
        Frame::KeepAlive => Bytes::from_static(b": keep-alive\n\n"),
    }
}

async fn by_web_socket(mut socket: WebSocket, mut reader: Reader) {
    let _counted = reader.count("websocket");
    loop {
        let frame = tokio::select! {
            frame = reader.next() => frame,
            said = socket.recv() => match said {
                Some(Ok(Message::Close(_)) | Err(_)) | None => return reader.ended("closed"),
                Some(Ok(_)) => continue,
            },
        };
        let message = match frame {
            None => break,
            Some(Frame::Opened) => continue,
            Some(Frame::Event(event)) => Message::Text(String::from_utf8_lossy(&event.text).into_owned().into()),
            Some(Frame::KeepAlive) => Message::Ping(Bytes::new()),
            Some(Frame::Notice { name, body, .. }) => {
                Message::Text(format!("{{\"control\":\"{name}\",{}", &body[1..]).into())
            }
        };
        match tokio::time::timeout(PATIENCE, socket.send(message)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return reader.ended("closed"),
            Err(_) => return reader.ended("slow"),
        }
    }
    let _ = tokio::time::timeout(PATIENCE, socket.send(Message::Close(None))).await;
}
