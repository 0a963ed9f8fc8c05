//! How connections come about: guard, TCP, TLS, one limit of time over all three, and what their errors mean.

use std::error::Error;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::Uri;
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::Error as PoolError;
use hyper_util::rt::TokioIo;
use rustls::pki_types::CertificateDer;
use rustls::{CertificateError, ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tower::Service;

use crate::app::failure::FetchError;
use crate::app::guard::{Guard, GuardedConnector, Resolve};

/// The connector of the pool: bounds the time of the one inside.
#[derive(Clone)]
pub(super) struct Connector {
    inner: HttpsConnector<GuardedConnector>,
}

/// Makes a connector that trusts the roots of the web and `extra_roots`.
pub(super) fn connector(
    guard: Guard,
    resolver: Arc<dyn Resolve>,
    extra_roots: Vec<CertificateDer<'static>>,
) -> Connector {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    roots.add_parsable_certificates(extra_roots);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the ring provider has the cipher suites of tls 1.2 and 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    Connector { inner: HttpsConnector::from((GuardedConnector::new(guard, resolver), tls)) }
}

/// A connection, with or without TLS.
pub(super) type Connection = MaybeHttpsStream<TokioIo<TcpStream>>;
pub(super) type ConnectError = Box<dyn Error + Send + Sync>;

impl Service<Uri> for Connector {
    type Response = Connection;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        // Called while the request that wants the connection is polled: its limit is in reach.
        let watch = Watch::current();
        watch.set(Stage::Connecting);
        let connecting = self.inner.call(uri);
        Box::pin(async move {
            let result = match tokio::time::timeout(watch.limit, connecting).await {
                Ok(result) => result,
                Err(_) => Err(FetchError::ConnectTimeout.into()),
            };
            watch.set(Stage::Connected(Instant::now()));
            result
        })
    }
}

tokio::task_local! {
    static CURRENT: Watch;
}

/// Watches over the connection of one request, from outside of the pool.
#[derive(Clone)]
pub(super) struct Watch {
    limit: Duration,
    stage: Arc<Mutex<Stage>>,
}

#[derive(Clone, Copy)]
enum Stage {
    /// The pool had one.
    Reused,
    Connecting,
    Connected(Instant),
}

impl Watch {
    /// `limit` is for the connection to come about.
    pub fn new(limit: Duration) -> Self {
        Self { limit, stage: Arc::new(Mutex::new(Stage::Reused)) }
    }

    /// Runs a request so that its connector finds this watch.
    pub fn during<F: Future>(&self, request: F) -> impl Future<Output = F::Output> {
        CURRENT.scope(self.clone(), request)
    }

    /// What is left of `limit` since the connection stood, when it has run out since the request began.
    pub fn left_of(&self, limit: Duration) -> Option<Duration> {
        match self.stage() {
            Stage::Reused => None,
            Stage::Connecting => Some(limit),
            Stage::Connected(at) => limit.checked_sub(at.elapsed()).filter(|left| !left.is_zero()),
        }
    }

    fn current() -> Self {
        CURRENT.try_with(Self::clone).unwrap_or_else(|_| Self::new(Duration::from_secs(5)))
    }

    fn stage(&self) -> Stage {
        *self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, stage: Stage) {
        *self.stage.lock().unwrap_or_else(PoisonError::into_inner) = stage;
    }
}

/// What an error of the pool means.
///
/// A kept connection that breaks under a request was most likely closed by the server while it was idle.
pub(super) fn classify(error: &PoolError, watch: &Watch) -> FetchError {
    if let Some(known) = known(error) {
        return known;
    }
    match watch.stage() {
        Stage::Connecting => FetchError::ConnectFailed,
        _ if error.is_connect() => FetchError::ConnectFailed,
        Stage::Reused => FetchError::IdleClosed,
        Stage::Connected(_) => FetchError::Broken,
    }
}

/// What an error of [`Connector`] means.
pub(super) fn classify_connect(error: &(dyn Error + 'static)) -> FetchError {
    known(error).unwrap_or(FetchError::ConnectFailed)
}

/// The cause of an error, as far as it says.
fn known(error: &(dyn Error + 'static)) -> Option<FetchError> {
    let mut cause = Some(error);
    while let Some(inner) = cause {
        if let Some(known) = inner.downcast_ref::<FetchError>() {
            return Some(*known);
        }
        if let Some(tls) = inner.downcast_ref::<rustls::Error>() {
            return Some(classify_tls(tls));
        }
        if inner.downcast_ref::<hyper::Error>().is_some_and(|http| http.is_parse() || http.is_parse_too_large()) {
            return Some(FetchError::Protocol);
        }
        // An I/O error hides what it was made of from `source`.
        cause = match inner.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(hidden) => Some(hidden),
            None => inner.source(),
        };
    }
    None
}

fn classify_tls(error: &rustls::Error) -> FetchError {
    match error {
        rustls::Error::InvalidCertificate(reason) => match reason {
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                FetchError::TlsNameMismatch
            }
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => FetchError::TlsExpired,
            CertificateError::UnknownIssuer => FetchError::TlsUntrusted,
            _ => FetchError::TlsFailed,
        },
        _ => FetchError::TlsFailed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_of_a_certificate_has_its_number() {
        let cases = [
            (CertificateError::NotValidForName, 11235),
            (CertificateError::Expired, 11236),
            (CertificateError::NotValidYet, 11236),
            (CertificateError::UnknownIssuer, 11237),
            (CertificateError::BadSignature, 11220),
        ];
        for (fault, code) in cases {
            assert_eq!(classify_tls(&rustls::Error::InvalidCertificate(fault.clone())).code(), code, "{fault:?}");
        }
        assert_eq!(classify_tls(&rustls::Error::HandshakeNotComplete).code(), 11220);
    }

    #[test]
    fn first_byte_is_waited_for_from_the_connection_on() {
        let limit = Duration::from_secs(60);
        let watch = Watch::new(limit);
        assert_eq!(watch.left_of(limit), None, "a kept connection stood from the start");
        watch.set(Stage::Connecting);
        assert_eq!(watch.left_of(limit), Some(limit));
        watch.set(Stage::Connected(Instant::now()));
        assert!(watch.left_of(limit).is_some_and(|left| left <= limit));
        assert_eq!(watch.left_of(Duration::ZERO), None);
    }
}
