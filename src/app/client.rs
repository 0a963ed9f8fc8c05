//! The one HTTP client for everything that a customer can name.
//!
//! It owns the connections, their guard and their limits; it follows redirects, signs every hop and keeps cookies. It
//! knows neither documents nor audio: see `fetch`, `callback` and `audio`. Connections are kept alive and shared by
//! all accounts, so a request to a known host costs no handshake. Compression is not offered: what comes is as long as
//! it says.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::client::legacy::Client as Pool;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tower::Service;

use crate::app::connect::{self, Connection, Connector, Watch};
use crate::app::cookies::CookieJars;
use crate::app::destination::{Destination, Masked};
use crate::app::failure::{FetchError, FetchFailure};
use crate::app::guard::{Guard, Resolve, SystemResolver};
use crate::app::hosts::{HostLimits, Hosts};
use crate::app::overrides::Overrides;
use crate::app::request::{Outgoing, RequestKind};
use crate::ids::CallSid;
use crate::telemetry::history::{Exchange, History};

const MAX_REDIRECTS: u32 = 10;

/// The head of a response; hyper may read as much again before it refuses.
const MAX_HEAD_BYTES: usize = 64 * 1024;

/// How the client behaves; the defaults are Twilio's.
#[derive(Clone, Debug, Default)]
pub struct ClientConfig {
    pub guard: Guard,
    pub hosts: HostLimits,
    /// Where a URL's fragment says nothing else.
    pub patience: Overrides,
    /// Whether requests for documents name the span of the call's trace that they are.
    pub traces: bool,
    /// Where what is asked is kept for whoever looks.
    pub history: History,
    /// Root certificates besides those of the web, DER.
    pub extra_roots: Vec<rustls::pki_types::CertificateDer<'static>>,
}

/// A cheap handle; all clones share connections, cookies, circuits and lanes.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    pool: Pool<Connector, Full<Bytes>>,
    /// For what is no request.
    connections: Connector,
    hosts: Hosts,
    cookies: CookieJars,
    patience: Overrides,
    traces: bool,
    history: History,
}

/// A response that was read to its end.
#[derive(Debug)]
pub(super) struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// Where it came from: the destination of the request, or that of the last redirect.
    pub url: String,
}

/// One request with all its hops, for the length of one try.
struct Try<'a> {
    outgoing: &'a Outgoing,
    patience: Overrides,
    deadline: Instant,
}

impl Client {
    /// A client with the resolver of the operating system.
    ///
    /// # Panics
    /// If the ring provider of rustls did not offer TLS 1.2 and 1.3, which it always does.
    pub fn new(config: ClientConfig) -> Self {
        Self::with_resolver(config, Arc::new(SystemResolver::default()))
    }

    /// A client that finds addresses in its own way.
    pub fn with_resolver(config: ClientConfig, resolver: Arc<dyn Resolve>) -> Self {
        let connector = connect::connector(config.guard, resolver, config.extra_roots);
        let connections = connector.clone();
        let pool = Pool::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(30))
            .pool_max_idle_per_host(64)
            .http1_max_buf_size(MAX_HEAD_BYTES)
            .http1_max_headers(128)
            .build(connector);
        let hosts = Hosts::new(config.hosts);
        let ClientConfig { patience, traces, history, .. } = config;
        let inner = Inner { pool, connections, hosts, cookies: CookieJars::default(), patience, traces, history };
        Self { inner: Arc::new(inner) }
    }

    /// A connection of its own, guarded as those of requests are.
    pub(super) async fn connection(&self, uri: Uri) -> Result<Connection, connect::ConnectError> {
        self.inner.connections.clone().call(uri).await
    }

    pub(super) fn traces(&self) -> bool {
        self.inner.traces
    }

    /// Forgets what servers had remembered in cookies. To be called when a call is over and its last request is done.
    pub fn end_call(&self, call: CallSid) {
        self.inner.cookies.forget(call);
    }

    /// Asks until there is an answer, or the tries or the time are spent.
    ///
    /// The URL's fragment says how patiently. An answer is a complete response of status 2xx, or 304 for a conditional
    /// request.
    pub(super) async fn send(&self, outgoing: &Outgoing) -> Result<Answer, FetchFailure> {
        let history = &self.inner.history;
        if !history.is_watched(outgoing.account) {
            return self.send_unwatched(outgoing).await;
        }
        let (began, at) = (Instant::now(), SystemTime::now());
        let answer = self.send_unwatched(outgoing).await;
        history.note(outgoing.account, exchange(outgoing, &answer, at, began.elapsed()), Instant::now());
        answer
    }

    async fn send_unwatched(&self, outgoing: &Outgoing) -> Result<Answer, FetchFailure> {
        let fail = |cause| FetchFailure::new(cause, &outgoing.url);
        let (url, patience) = Overrides::split(&outgoing.url, self.inner.patience);
        let destination = Destination::parse(url).map_err(fail)?;
        let first = Try { outgoing, patience, deadline: Instant::now() + patience.total };
        let tries = self.inner.tries(&first, destination);
        match tokio::time::timeout(patience.total, tries).await {
            Ok(answer) => answer,
            Err(_) => Err(fail(FetchError::TotalTimeout)),
        }
    }
}

impl Inner {
    async fn tries(&self, first: &Try<'_>, destination: Destination) -> Result<Answer, FetchFailure> {
        let mut left = first.patience.retries;
        loop {
            let failure = match self.hops(first, destination.clone()).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            if left == 0 || !is_retried(failure.cause, first.patience) || Instant::now() >= first.deadline {
                return Err(failure);
            }
            left -= 1;
        }
    }

    /// Follows redirects to an answer, as browsers do: 307 and 308 ask for the same again, all others for a GET without the
    /// form (RFC 9110 s15.4).
    async fn hops(&self, first: &Try<'_>, destination: Destination) -> Result<Answer, FetchFailure> {
        let outgoing = first.outgoing;
        let own_url = destination.url.clone();
        let mut destination =
            destination.with_query(&outgoing.query()).map_err(|cause| FetchFailure::new(cause, &own_url))?;
        let (mut is_redirected, mut has_form) = (false, outgoing.method == Method::POST);
        for _ in 0..=MAX_REDIRECTS {
            let fail = |cause| FetchFailure::new(cause, &destination.url);
            let _turn = self.hosts.turn(outgoing.account, destination.authority()).await.map_err(fail)?;
            let response = self.hop(first, &destination, has_form).await.map_err(fail)?;
            match redirect_of(&response) {
                Some(location) => {
                    destination = destination.redirect(location).map_err(fail)?;
                    is_redirected = true;
                    has_form &= keeps_form(response.status());
                }
                None => {
                    check_status(response.status(), outgoing).map_err(fail)?;
                    let url = if is_redirected { destination.url.clone() } else { own_url };
                    return read(response, outgoing, url).await.map_err(fail);
                }
            }
        }
        Err(FetchFailure::new(FetchError::TooManyRedirects, &destination.url))
    }

    /// One request and the head of its response.
    async fn hop(
        &self,
        first: &Try<'_>,
        destination: &Destination,
        has_form: bool,
    ) -> Result<Response<Incoming>, FetchError> {
        let authority = destination.authority();
        if !self.hosts.may_try(authority, Instant::now()) {
            return Err(FetchError::CircuitOpen);
        }
        let outgoing = first.outgoing;
        let request = self.request(outgoing, destination, has_form)?;
        let watch = Watch::new(first.patience.connect);
        let sent = watch.during(self.pool.request(request));
        let response = match until_first_byte(sent, &watch, first.patience.first_byte).await {
            Ok(response) => {
                self.hosts.connected(authority);
                response
            }
            Err(error) => {
                if error.is_connect() {
                    self.hosts.failed(authority, Instant::now());
                } else if error.was_connected() {
                    self.hosts.connected(authority);
                }
                return Err(error);
            }
        };
        let path = destination.uri.path();
        for header in response.headers().get_all(header::SET_COOKIE) {
            if let Ok(text) = header.to_str() {
                self.cookies.store(outgoing.call, destination.host(), path, text);
            }
        }
        Ok(response)
    }

    fn request(
        &self,
        outgoing: &Outgoing,
        destination: &Destination,
        has_form: bool,
    ) -> Result<Request<Full<Bytes>>, FetchError> {
        let method = if has_form { Method::POST } else { Method::GET };
        let (body, content_type) = match &outgoing.json {
            _ if !has_form => (Bytes::new(), None),
            Some(json) => (json.clone(), Some(JSON_TYPE)),
            None => (outgoing.form().into(), Some(FORM_TYPE)),
        };
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = destination.uri.clone();
        let headers = request.headers_mut();
        let value = |text: &str| HeaderValue::from_str(text).map_err(|_| FetchError::InvalidUrl);
        headers.insert(SIGNATURE, value(&outgoing.signature(&destination.url, has_form))?);
        headers.insert(IDEMPOTENCY_TOKEN, value(&outgoing.idempotency_token)?);
        headers.insert(header::USER_AGENT, HeaderValue::from_static("TwilioProxy/1.1"));
        headers.insert(header::ACCEPT, HeaderValue::from_static("*/*"));
        if let Some(content_type) = content_type {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        }
        if let Some(authorization) = &destination.authorization {
            headers.insert(header::AUTHORIZATION, authorization.clone());
        }
        let is_https = destination.is_https();
        let cookie = self.cookies.header(outgoing.call, destination.host(), destination.uri.path(), is_https);
        if let Some(cookie) = cookie.and_then(|cookie| HeaderValue::try_from(cookie).ok()) {
            headers.insert(header::COOKIE, cookie);
        }
        if let Some(traceparent) = &outgoing.traceparent {
            headers.insert(TRACEPARENT, value(traceparent)?);
        }
        for (name, text) in &outgoing.conditions {
            headers.insert(name.clone(), text.clone());
        }
        Ok(request)
    }
}

/// Waits for the head of a response: `limit` from the moment that the connection stands.
async fn until_first_byte<F>(sent: F, watch: &Watch, limit: Duration) -> Result<Response<Incoming>, FetchError>
where
    F: Future<Output = Result<Response<Incoming>, hyper_util::client::legacy::Error>>,
{
    let mut sent = std::pin::pin!(sent);
    let mut wait = limit;
    loop {
        match tokio::time::timeout(wait, &mut sent).await {
            Ok(result) => return result.map_err(|error| connect::classify(&error, watch)),
            Err(_) => wait = watch.left_of(limit).ok_or(FetchError::ReadTimeout)?,
        }
    }
}

/// What was asked and what came of it, for people.
fn exchange(outgoing: &Outgoing, answer: &Result<Answer, FetchFailure>, at: SystemTime, took: Duration) -> Exchange {
    let (url, status, error, response) = match answer {
        // Audio is no text.
        Ok(answer) if outgoing.kind == RequestKind::Audio => {
            (&answer.url, Some(answer.status.as_u16()), None, String::new())
        }
        Ok(answer) => {
            let text = String::from_utf8_lossy(&answer.body).into_owned();
            (&answer.url, Some(answer.status.as_u16()), None, text)
        }
        Err(failure) => {
            let status = if let FetchError::Status(status) = failure.cause { Some(status) } else { None };
            (&failure.url, status, Some(format!("{}: {}", failure.code(), failure.text())), String::new())
        }
    };
    Exchange {
        id: 0,
        at_ms: at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64),
        call: (outgoing.call != CallSid::new(0)).then_some(outgoing.call),
        method: outgoing.method.to_string(),
        url: Masked(url).to_string(),
        status,
        took_ms: took.as_millis() as u64,
        error,
        sent: outgoing.params().to_vec(),
        response,
    }
}

fn is_retried(cause: FetchError, patience: Overrides) -> bool {
    let on = patience.retry_on;
    match cause {
        FetchError::IdleClosed => on.connect,
        FetchError::ReadTimeout => on.read,
        FetchError::Status(400..=499) => on.client_error,
        FetchError::Status(500..) => on.server_error,
        cause => cause.is_connect() && on.connect,
    }
}

/// Where a response leads, if it is a redirect.
fn redirect_of<B>(response: &Response<B>) -> Option<&str> {
    match response.status() {
        StatusCode::MOVED_PERMANENTLY
        | StatusCode::FOUND
        | StatusCode::SEE_OTHER
        | StatusCode::TEMPORARY_REDIRECT
        | StatusCode::PERMANENT_REDIRECT => response.headers().get(header::LOCATION)?.to_str().ok(),
        _ => None,
    }
}

fn keeps_form(status: StatusCode) -> bool {
    matches!(status, StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT)
}

fn check_status(status: StatusCode, outgoing: &Outgoing) -> Result<(), FetchError> {
    let is_known = status == StatusCode::NOT_MODIFIED && !outgoing.conditions.is_empty();
    if status.is_success() || is_known {
        return Ok(());
    }
    Err(FetchError::Status(status.as_u16()))
}

/// Reads a body to its end, or to the limit: then the connection is closed.
async fn read(response: Response<Incoming>, outgoing: &Outgoing, url: String) -> Result<Answer, FetchError> {
    let limit_bytes = outgoing.max_body_bytes;
    let too_large = FetchError::TooLarge { limit_bytes };
    let (head, mut body) = response.into_parts();
    if outgoing.kind.wants_document() && is_audio(&head.headers) {
        return Ok(Answer { status: head.status, headers: head.headers, body: Bytes::new(), url });
    }
    if body.size_hint().lower() > limit_bytes as u64 {
        return Err(too_large);
    }
    let mut collected = BytesMut::new();
    let mut only = Bytes::new();
    while let Some(frame) = body.frame().await {
        let Ok(piece) = frame.map_err(|_| FetchError::Broken)?.into_data() else { continue };
        if only.len() + collected.len() + piece.len() > limit_bytes {
            return Err(too_large);
        }
        // Most documents come in one piece and are not copied.
        if only.is_empty() && collected.is_empty() {
            only = piece;
        } else {
            collected.extend_from_slice(&std::mem::take(&mut only));
            collected.extend_from_slice(&piece);
        }
    }
    let body = if collected.is_empty() { only } else { collected.freeze() };
    Ok(Answer { status: head.status, headers: head.headers, body, url })
}

/// A document that is audio is played from its URL: its body would only be fetched twice.
fn is_audio(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    content_type.is_some_and(|text| text.get(..6).is_some_and(|start| start.eq_ignore_ascii_case("audio/")))
}

const JSON_TYPE: &str = "application/json";
const FORM_TYPE: &str = "application/x-www-form-urlencoded; charset=UTF-8";
const SIGNATURE: HeaderName = HeaderName::from_static("x-twilio-signature");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const IDEMPOTENCY_TOKEN: HeaderName = HeaderName::from_static("i-twilio-idempotency-token");
