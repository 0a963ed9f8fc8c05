//! A proxy for programs that think they talk to Twilio: with nothing but its environment changed, an unmodified SDK reaches
//! this server.
//!
//! It takes `CONNECT` alone. For `*.twilio.com` it answers itself: TLS with a certificate of this installation's own
//! authority, and the API inside. Any other host is refused, or in a developer's `dev` tunnelled to unread.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::upgrade::Upgraded;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::api;
use crate::tls::Authority;

/// Connections at once; one more waits to be accepted.
const CONNECTIONS: usize = 256;
/// For a handshake, and for a host that is tunnelled to.
const PATIENCE: Duration = Duration::from_secs(10);
/// Of these hosts we are every one.
const OURS: &str = "twilio.com";

/// What the proxy needs.
pub struct Settings {
    pub authority: Arc<Authority>,
    /// What is served as `*.twilio.com`.
    pub router: Router,
    /// Whether other hosts are tunnelled to; and then for this machine alone.
    pub tunnels: bool,
}

/// Serves until the process ends.
pub async fn serve(listener: TcpListener, settings: Settings) {
    let (settings, places) = (Arc::new(settings), Arc::new(Semaphore::new(CONNECTIONS)));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "the proxy cannot take a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let settings = settings.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| answer(request, peer, settings.clone()));
            let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%peer, %error, "a connection to the proxy ended");
            }
            drop(place);
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    peer: SocketAddr,
    settings: Arc<Settings>,
) -> Result<Response<Body>, Infallible> {
    let Some(authority) = request.uri().authority().filter(|_| request.method() == Method::CONNECT).cloned() else {
        let text = "this proxy takes CONNECT only: programs reach the API by HTTPS through it, or directly by HTTP";
        return Ok(refusal(StatusCode::NOT_IMPLEMENTED, text));
    };
    let host = authority.host().to_ascii_lowercase();
    if host == OURS || host.strip_suffix(OURS).is_some_and(|rest| rest.ends_with('.')) {
        tokio::spawn(async move {
            match hyper::upgrade::on(request).await {
                Ok(upgraded) => serve_as(&host, upgraded, peer, &settings).await,
                Err(error) => tracing::debug!(%peer, %error, "a tunnel was not used"),
            }
        });
        return Ok(Response::new(Body::empty()));
    }
    if !settings.tunnels || !peer.ip().is_loopback() {
        let text = format!("this proxy stands for *.{OURS} and reaches nothing else: add {host} to NO_PROXY");
        return Ok(refusal(StatusCode::FORBIDDEN, &text));
    }
    let address = format!("{}:{}", authority.host(), authority.port_u16().unwrap_or(443));
    match timeout(PATIENCE, TcpStream::connect(&address)).await {
        Ok(Ok(mut stream)) => {
            tokio::spawn(async move {
                if let Ok(upgraded) = hyper::upgrade::on(request).await {
                    let _ = tokio::io::copy_bidirectional(&mut TokioIo::new(upgraded), &mut stream).await;
                }
            });
            Ok(Response::new(Body::empty()))
        }
        _ => Ok(refusal(StatusCode::BAD_GATEWAY, &format!("{address} cannot be reached"))),
    }
}

fn refusal(status: StatusCode, text: &str) -> Response<Body> {
    let mut response = Response::new(Body::from(format!("{text}\n")));
    *response.status_mut() = status;
    response
}

/// Ends TLS as that host, and serves the API inside.
async fn serve_as(host: &str, upgraded: Upgraded, peer: SocketAddr, settings: &Settings) {
    let config = match settings.authority.server_config(host) {
        Ok(config) => config,
        Err(error) => return tracing::error!(host, %error, "no certificate can be made"),
    };
    let stream = match timeout(PATIENCE, TlsAcceptor::from(config).accept(TokioIo::new(upgraded))).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            let advice = "the program does not trust the authority of this installation: see `dialtone env`";
            return tracing::warn!(%peer, host, %error, advice, "a handshake failed");
        }
        Err(_) => return tracing::debug!(%peer, host, "a handshake took too long"),
    };
    api::serve_connection(stream, peer, settings.router.clone()).await;
}
