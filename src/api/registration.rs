//! `/2010-04-01/Registration`: a client registers a device by an access token, for as long as its connection is open.
//!
//! By server-sent events or by a WebSocket. The device is gone when the connection is, when the token expires, or when it is taken
//! away by the API; by a WebSocket it may say itself that it takes no calls for a while.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use axum::extract::ws::{Message, WebSocket};
use axum::extract::{FromRequestParts, Request, State, WebSocketUpgrade};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream::unfold;
use serde::Deserialize;
use serde_json::json;
use tokio::time::{Instant, interval, sleep, sleep_until};

use super::View;
use super::rest::Fault;
use crate::account::Directory;
use crate::clock::wall_ms;
use crate::ids::AccountSid;
use crate::presence::{ClientId, Device, DeviceKind, Registering, device_sid};
use crate::tokens::{TokenError, access, capability};

/// How often a connection is used, and whether the device is still registered is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// How long it takes as a rule until everybody sees a device.
const WRITTEN_SOON: Duration = Duration::from_millis(5);
/// Clocks that are read one after the other do not tell more apart.
const NEARLY: Duration = Duration::from_millis(50);
/// A WebSocket from which nothing has come for so long, though it was asked, is gone.
const SILENT: Duration = Duration::from_secs(12);
/// Devices of one client: as many as it may register by SIP.
const MOST: usize = dialtone_sip::registrar::BINDINGS;
const MAX_MESSAGE: usize = 4_096;
const LONGEST_NAME: usize = 128;

/// Twilio's numbers.
const INVALID_TOKEN: u32 = 20_101;
const EXPIRED_TOKEN: u32 = 20_104;
const NOT_ALLOWED: u32 = 31_201;

/// What a token lets somebody be.
struct Grant {
    account: AccountSid,
    identity: String,
    expires_s: u64,
}

/// A registration that is open.
struct Open {
    view: View,
    token: String,
    registering: Option<Registering>,
    client: ClientId,
    expires: Instant,
    looked: tokio::time::Interval,
    said_at: Instant,
    is_told: bool,
}

enum Frame {
    Registered(String),
    KeepAlive,
    /// The last.
    Ended(&'static str),
}

/// What a client says by a WebSocket.
#[derive(Deserialize)]
struct Said {
    available: bool,
}

pub(super) async fn open(State(view): State<View>, request: Request) -> Response {
    let (mut parts, _) = request.into_parts();
    let query = parts.uri.query().unwrap_or_default();
    let pairs: Vec<(String, String)> = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    let given = |name: &str| pairs.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    let bearer =
        parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    let token = given("AccessToken").or(bearer).unwrap_or_default().to_owned();
    let grant = match grant(&token, &view.directory.load(), wall_ms() / 1000) {
        Ok(grant) => grant,
        Err(fault) => return readable_anywhere(fault.into_response()),
    };
    let is_closed = given("Available") == Some("false");
    let open = match Open::new(view, token, grant, given("DeviceId"), is_closed, &parts.headers) {
        Ok(open) => open,
        Err(fault) => return readable_anywhere(fault.into_response()),
    };
    match WebSocketUpgrade::from_request_parts(&mut parts, &()).await {
        Ok(upgrade) => upgrade.max_message_size(MAX_MESSAGE).on_upgrade(|socket| by_web_socket(socket, open)),
        Err(_) => by_server_sent_events(open),
    }
}

/// An access token whose voice grant lets it be called, or a capability token that does.
fn grant(token: &str, directory: &Directory, now_s: u64) -> Result<Grant, Fault> {
    let refused = |error: TokenError| match error {
        TokenError::Inactive => Fault::inactive(),
        TokenError::Expired => Fault::new(401, EXPIRED_TOKEN, error.to_string()),
        TokenError::Scope => Fault::new(403, NOT_ALLOWED, error.to_string()),
        _ => Fault::new(401, INVALID_TOKEN, error.to_string()),
    };
    let not_incoming = || refused(TokenError::Scope);
    match access::read(token, directory, now_s) {
        Ok(access) if access.incoming => {
            Ok(Grant { account: access.account.sid, identity: access.identity, expires_s: access.expires_s })
        }
        Ok(_) => Err(not_incoming()),
        // It has no subject, as access tokens do.
        Err(TokenError::Malformed) => {
            let capability = capability::read(token, directory, now_s).map_err(refused)?;
            let identity = capability.incoming().ok_or_else(not_incoming)?.to_owned();
            Ok(Grant { account: capability.account.sid, identity, expires_s: capability.expires_s })
        }
        Err(error) => Err(refused(error)),
    }
}

impl Open {
    fn new(
        view: View,
        token: String,
        grant: Grant,
        instance: Option<&str>,
        is_closed: bool,
        headers: &HeaderMap,
    ) -> Result<Open, Fault> {
        let now_ms = wall_ms();
        let client = ClientId { account: grant.account, identity: grant.identity.into() };
        let instance = instance.filter(|name| !name.is_empty()).map(|name| name.chars().take(LONGEST_NAME).collect());
        let instance: String = instance.unwrap_or_else(|| format!("{:032x}", super::random()));
        let user_agent = headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let device = Device {
            sid: device_sid(&client, &instance),
            kind: DeviceKind::Token,
            user_agent: user_agent.chars().take(LONGEST_NAME).collect(),
            contact: String::new(),
            since_ms: now_ms,
            expires_ms: grant.expires_s * 1000,
            is_closed,
            call_waiting: true,
        };
        let left = Duration::from_millis((grant.expires_s * 1000).saturating_sub(now_ms));
        let registering = view.presence.register(client.clone(), device, MOST).ok_or_else(|| {
            Fault::new(403, NOT_ALLOWED, format!("{MOST} devices of this client are registered already"))
        })?;
        Ok(Open {
            view,
            token,
            registering: Some(registering),
            client,
            expires: Instant::now() + left,
            looked: interval(LOOK_EVERY),
            said_at: Instant::now(),
            is_told: false,
        })
    }

    /// What is said next; `None` behind the last.
    async fn next(&mut self) -> Option<Frame> {
        if !std::mem::replace(&mut self.is_told, true) {
            // Whoever is told of it finds it; where it cannot be written now, it is registered here all the same.
            let until = Instant::now() + LOOK_EVERY;
            while !self.registering.as_ref()?.is_written() && Instant::now() < until {
                sleep(WRITTEN_SOON).await;
            }
            let body = json!({
                "identity": self.client.identity,
                "device_sid": self.registering.as_ref()?.device().sid,
                "account_sid": self.client.account,
            });
            return Some(Frame::Registered(body.to_string()));
        }
        loop {
            tokio::select! {
                biased;
                () = sleep_until(self.expires) => return self.end("token-expired", true),
                _ = self.looked.tick() => {
                    // Where its time is over by a breath, that is the reason.
                    let is_over = self.expires <= Instant::now() + NEARLY;
                    let is_refused = grant(&self.token, &self.view.directory.load(), wall_ms() / 1000).is_err();
                    match self.registering.as_ref()?.is_kept() {
                        _ if is_over => {}
                        false => return self.end("removed", true),
                        true if is_refused => return self.end("revoked", true),
                        true => {}
                    }
                    if self.said_at.elapsed() >= KEEP_ALIVE {
                        self.said_at = Instant::now();
                        return Some(Frame::KeepAlive);
                    }
                }
            }
        }
    }

    /// `leaves`: nobody waits whether it comes back.
    fn end(&mut self, name: &'static str, leaves: bool) -> Option<Frame> {
        let registering = self.registering.take()?;
        if leaves {
            registering.leave();
        }
        Some(Frame::Ended(name))
    }
}

fn readable_anywhere(mut response: Response) -> Response {
    response.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    response
}

fn by_server_sent_events(open: Open) -> Response {
    let frames = unfold(open, |mut open| async move {
        let text = match open.next().await? {
            Frame::Registered(body) => format!("event: registered\ndata: {body}\n\n"),
            Frame::KeepAlive => ": keep-alive\n\n".to_owned(),
            Frame::Ended(name) => format!("event: {name}\ndata: {{}}\n\n"),
        };
        Some((Ok::<Bytes, Infallible>(text.into()), open))
    });
    let mut response = Response::new(Body::from_stream(frames));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    readable_anywhere(response)
}

async fn by_web_socket(mut socket: WebSocket, mut open: Open) {
    let mut heard_at = Instant::now();
    loop {
        let frame = tokio::select! {
            frame = open.next() => frame,
            said = socket.recv() => match said {
                // It says that it goes.
                Some(Ok(Message::Close(_))) => return drop(open.end("closed", true)),
                Some(Err(_)) | None => return,
                Some(Ok(message)) => {
                    heard_at = Instant::now();
                    if let Message::Text(text) = message {
                        let Ok(Said { available }) = serde_json::from_str(&text) else { continue };
                        if let Some(registering) = &mut open.registering {
                            registering.set_closed(!available);
                        }
                    }
                    continue;
                }
            },
        };
        let message = match frame {
            None => return,
            Some(Frame::Registered(body)) => Message::Text(format!("{{\"event\":\"registered\",{}", &body[1..]).into()),
            Some(Frame::KeepAlive) if heard_at.elapsed() > SILENT => return,
            Some(Frame::KeepAlive) => Message::Ping(Bytes::new()),
            Some(Frame::Ended(name)) => Message::Text(json!({ "event": name }).to_string().into()),
        };
        if socket.send(message).await.is_err() {
            return;
        }
    }
}
