//! The connections of HTTP: taken as they come, and closed where they are of no use any more.
//!
//! A page opens a dozen at once for its sounds, and keeps them; each takes some 40 kB.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::serve::Listener;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tower::ServiceExt;

use crate::tls;

/// How long a connection may be of no use.
#[derive(Clone, Copy)]
struct Patience {
    /// From its beginning until the head of its first request is there.
    first: Duration,
    /// From an answer until the head of the next request is there. Longer than what programs commonly let pass between two.
    next: Duration,
}

const PATIENCE: Patience = Patience { first: Duration::from_secs(10), next: Duration::from_secs(20) };

/// A connection whose other end acknowledges nothing of what waits for it is closed after this time.
const TAKES_NOTHING: Duration = Duration::from_secs(30);

/// Serves until the process ends.
pub async fn serve(listener: TcpListener, router: Router) {
    serve_all(listener, router, |connection| connection).await;
}

/// The same over TLS.
pub async fn serve_tls(listener: tls::Listener, router: Router) {
    serve_all(listener, router, tls::Stream::tcp).await;
}

async fn serve_all<L>(mut listener: L, router: Router, tcp: fn(&L::Io) -> &TcpStream)
where
    L: Listener<Addr = SocketAddr>,
{
    loop {
        let (connection, peer) = listener.accept().await;
        tune(tcp(&connection));
        tokio::spawn(serve_connection(connection, peer, router.clone()));
    }
}

fn tune(connection: &TcpStream) {
    // A stream's client that takes nothing any more is no client. An address that has gone takes neither option, and needs none.
    let _ = SockRef::from(connection).set_tcp_user_timeout(Some(TAKES_NOTHING));
    let _ = connection.set_nodelay(true);
}

/// One connection, until either end closes it.
pub async fn serve_connection<C>(connection: C, peer: SocketAddr, router: Router)
where
    C: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    serve_patiently(connection, peer, router, PATIENCE).await;
}

async fn serve_patiently<C>(connection: C, peer: SocketAddr, router: Router, patience: Patience)
where
    C: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let has_asked = AtomicBool::new(false);
    let service = service_fn(|request| {
        has_asked.store(true, Ordering::Relaxed);
        answer(router.clone(), peer, request)
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(patience.next);
    let mut served = pin!(http.serve_connection(TokioIo::new(connection), service).with_upgrades());
    let ended = match timeout(patience.first, &mut served).await {
        Ok(ended) => ended,
        Err(_) if has_asked.load(Ordering::Relaxed) => served.await,
        Err(_) => return,
    };
    if let Err(error) = ended {
        tracing::trace!(%peer, %error, "an HTTP connection ended");
    }
}

async fn answer(
    router: Router,
    peer: SocketAddr,
    mut request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    request.extensions_mut().insert(ConnectInfo(peer));
    router.oneshot(request.map(Body::new)).await
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const SHORT: Duration = Duration::from_millis(50);
    const LONG: Duration = Duration::from_secs(3600);

    /// What comes until the server closes, after this was said.
    async fn told(said: &str, patience: Patience) -> String {
        let slow = || async {
            tokio::time::sleep(SHORT * 4).await;
            "slow"
        };
        let quick = |ConnectInfo(_): ConnectInfo<SocketAddr>| async { "quick" };
        let router = Router::new().route("/quick", get(quick)).route("/slow", get(slow));
        let (mut ours, theirs) = tokio::io::duplex(4096);
        let serving = tokio::spawn(serve_patiently(theirs, SocketAddr::from(([127, 0, 0, 1], 9)), router, patience));
        ours.write_all(said.as_bytes()).await.unwrap();
        let mut told = String::new();
        ours.read_to_string(&mut told).await.unwrap();
        serving.await.unwrap();
        told
    }

    #[tokio::test]
    async fn threat_17_connection_that_says_nothing_or_half_a_head_is_closed() {
        let patience = Patience { first: SHORT, next: LONG };
        assert_eq!(told("", patience).await, "");
        assert_eq!(told("GET /quick HTTP/1.1\r\nHost: x", patience).await, "");
    }

    #[tokio::test]
    async fn threat_17_connection_is_kept_for_the_next_request_whose_answer_may_take_its_time() {
        let both = "GET /quick HTTP/1.1\r\nHost: x\r\n\r\nGET /slow HTTP/1.1\r\nHost: x\r\n\r\n";
        let told = told(both, Patience { first: SHORT, next: SHORT }).await;
        assert!(told.matches("HTTP/1.1 200 OK").count() == 2 && told.ends_with("slow"), "{told}");
    }
}
