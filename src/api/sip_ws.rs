//! `/sip`: SIP over WebSocket (RFC 7118), for pages with JsSIP, SIP.js and the like. Each message is one of SIP; who may do what is for
//! the shard, as with any other connection.

use std::net::SocketAddr;
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket, close_code};
use axum::extract::{ConnectInfo, State, WebSocketUpgrade};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use dialtone_sip::msg;
use dialtone_sip::transport::{Brought, OpenedBy};
use tokio::time::{Instant, interval};

use super::View;

/// What pages must ask for (s4.1).
const PROTOCOL: &str = "sip";
/// As long as SIP by streams may have it.
const MAX_MESSAGE: usize = 64 * 1024;
/// Of each connection, whether anything comes or not: what is longer is read in pieces.
const READ_BUFFER: usize = 4 * 1024;
/// So that what stands between knows the connection to be in use, and we know whether the page is there.
const PING_EVERY: Duration = Duration::from_secs(20);
const SILENT: Duration = Duration::from_secs(60);
/// A ping of SIP's own (RFC 5626 s3.5.1), and its answer.
const PING: &[u8] = b"\r\n\r\n";
const PONG: &str = "\r\n";

pub(super) async fn open(
    State(view): State<View>,
    ConnectInfo(remote): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Response {
    let upgrade = upgrade.protocols([PROTOCOL]).read_buffer_size(READ_BUFFER).max_message_size(MAX_MESSAGE);
    if upgrade.selected_protocol().is_none() {
        return (StatusCode::BAD_REQUEST, "ask for the subprotocol sip (RFC 7118)\n").into_response();
    }
    let origin = headers.get(header::ORIGIN).map(|origin| origin.as_bytes());
    if !view.lines.lets_in(origin) {
        return (StatusCode::FORBIDDEN, "pages of this origin are not let in: see [sip] origins\n").into_response();
    }
    match view.lines.bring(remote, OpenedBy::Stranger) {
        Some(brought) => upgrade.on_upgrade(move |socket| serve(socket, brought)),
        None => (StatusCode::SERVICE_UNAVAILABLE, "there is no room for another connection\n").into_response(),
    }
}

async fn serve(mut socket: WebSocket, mut brought: Brought) {
    let (mut ping, mut heard_at) = (interval(PING_EVERY), Instant::now());
    loop {
        let sent = tokio::select! {
            bytes = brought.to_send() => match bytes {
                Some(bytes) => socket.send(message_of(bytes)).await,
                // The shard takes nothing of it any more.
                None => break,
            },
            _ = ping.tick() => {
                if heard_at.elapsed() > SILENT {
                    return;
                }
                socket.send(Message::Ping(Bytes::new())).await
            }
            said = socket.recv() => {
                let bytes = match said {
                    Some(Ok(Message::Text(text))) => Bytes::from(text),
                    Some(Ok(Message::Binary(bytes))) => bytes,
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => Bytes::new(),
                    Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                };
                heard_at = Instant::now();
                match bytes {
                    bytes if bytes.is_empty() => continue,
                    bytes if &bytes[..] == PING => socket.send(Message::Text(PONG.into())).await,
                    bytes => match msg::Message::parse(bytes) {
                        Ok(message) => match brought.received(message).await {
                            true => continue,
                            false => break,
                        },
                        // s5: what cannot be read is no message of this protocol.
                        Err(error) => {
                            let frame = CloseFrame { code: close_code::INVALID, reason: format!("{error:?}").into() };
                            let _ = socket.send(Message::Close(Some(frame))).await;
                            return;
                        }
                    },
                }
            }
        };
        if sent.is_err() {
            return;
        }
    }
    // Who does not take it is gone already.
    let _ = socket.send(Message::Close(None)).await;
}

/// Text, as far as it is text (s5).
fn message_of(bytes: Bytes) -> Message {
    match std::str::from_utf8(&bytes) {
        Ok(text) => Message::Text(text.into()),
        Err(_) => Message::Binary(bytes),
    }
}
