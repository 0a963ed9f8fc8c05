//! How requests go to the bucket: by hyper, over TLS by rustls with ring, as the server's other requests do.
//!
//! The operator names the storage, so no guard keeps it off private addresses.

use std::error::Error;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody, HttpResponse, HttpResponseBody, HttpService,
};
use tokio::time::timeout;
use tower_http::timeout::TimeoutBody;

const CONNECT: Duration = Duration::from_secs(5);
/// Until the head of the response, and so for all that is sent.
const ANSWER: Duration = Duration::from_secs(30);
/// Between two pieces of a response.
const PIECE: Duration = Duration::from_secs(30);
/// A connection that is idle for longer may be closed by the storage under the next request.
const IDLE: Duration = Duration::from_secs(15);

/// Makes the one client of a bucket.
#[derive(Clone, Copy, Debug)]
pub(super) struct Connector {
    /// Whether the storage is asked without TLS.
    pub plain: bool,
}

impl object_store::client::HttpConnector for Connector {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(CONNECT));
        tcp.set_nodelay(true);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = HttpsConnectorBuilder::new()
            .with_provider_and_webpki_roots(provider)
            .expect("the ring provider has the cipher suites of tls 1.2 and 1.3");
        let schemes = if self.plain { tls.https_or_http() } else { tls.https_only() };
        let pool = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .build(schemes.enable_http1().wrap_connector(tcp));
        Ok(HttpClient::new(Pool(pool)))
    }
}

#[derive(Debug)]
struct Pool(Client<HttpsConnector<HttpConnector>, HttpRequestBody>);

type Answer<'a> = Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'a>>;

impl HttpService for Pool {
    fn call<'a, 'b>(&'a self, request: HttpRequest) -> Answer<'b>
    where
        'a: 'b,
    {
        Box::pin(async move {
            let answered = timeout(ANSWER, self.0.request(request)).await;
            let answered = answered.map_err(|late| HttpError::new(HttpErrorKind::Timeout, late))?;
            let response = answered.map_err(|error| {
                let kind = if error.is_connect() { HttpErrorKind::Connect } else { HttpErrorKind::Request };
                HttpError::new(kind, error)
            })?;
            Ok(response.map(|body| HttpResponseBody::new(TimeoutBody::new(PIECE, body).map_err(broken))))
        })
    }
}

fn broken(error: Box<dyn Error + Send + Sync>) -> HttpError {
    HttpError::new_boxed(HttpErrorKind::Interrupted, error)
}
