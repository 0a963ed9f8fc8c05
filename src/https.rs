//! Requests to hosts that the operator names, such as a bucket or a collector: by hyper, over TLS by rustls with ring. No guard keeps
//! them off private addresses, so nothing that a customer names goes by here: that is [`crate::app`]'s.

use std::sync::Arc;
use std::time::Duration;

use hyper::body::Body;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};

const CONNECT: Duration = Duration::from_secs(5);
/// A connection that is idle for longer may be closed by the other end under the next request.
const IDLE: Duration = Duration::from_secs(15);

/// Connections that are kept for the next request.
pub type Pool<B> = Client<HttpsConnector<HttpConnector>, B>;

/// `plain`: hosts may be asked without TLS too.
///
/// # Panics
/// If the ring provider of rustls did not offer TLS 1.2 and 1.3, which it always does.
pub fn pool<B>(plain: bool) -> Pool<B>
where
    B: Body + Send,
    B::Data: Send,
{
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_connect_timeout(Some(CONNECT));
    tcp.set_nodelay(true);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = HttpsConnectorBuilder::new()
        .with_provider_and_webpki_roots(provider)
        .expect("the ring provider has the cipher suites of tls 1.2 and 1.3");
    let schemes = if plain { tls.https_or_http() } else { tls.https_only() };
    Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE)
        .build(schemes.enable_http1().wrap_connector(tcp))
}
