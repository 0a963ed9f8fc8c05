//! HTTPS: certificates that are trusted, and those that are not. `tls/make.sh` made them.

use std::future::Future;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::pin::Pin;

use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::*;
use crate::app::guard::Resolve;

const GOOD: &[u8] = include_bytes!("tls/good.der");
const OTHER: &[u8] = include_bytes!("tls/other.der");
const EXPIRED: &[u8] = include_bytes!("tls/expired.der");
const KEY: &[u8] = include_bytes!("tls/key.der");

/// Every name is this server.
struct Here(SocketAddr);

impl Resolve for Here {
    fn resolve(&self, _: String, _: u16) -> Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>> {
        let address = self.0;
        Box::pin(async move { Ok(vec![address]) })
    }
}

/// A server with `certificate` that answers one request of each connection, on a thread of its own.
fn serve(certificate: &'static [u8]) -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("the loopback has a free port");
    let address = listener.local_addr().expect("a bound socket has an address");
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(KEY));
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the ring provider has cipher suites")
        .with_no_client_auth()
        .with_single_cert(vec![CertificateDer::from(certificate)], key)
        .expect("the key is the certificate's");
    let config = Arc::new(config);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let connection = ServerConnection::new(config.clone()).expect("the configuration is complete");
            let mut tls = StreamOwned::new(connection, stream);
            let mut request = [0; 4_096];
            // A client that does not trust us closes here.
            if tls.read(&mut request).is_ok_and(|length| length > 0) {
                let _ = tls
                    .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\nContent-Type: text/xml\r\n\r\n<Response/>");
            }
        }
    });
    address
}

/// What comes of a request to `https://app.example/` where that is a server with `certificate`, which is a root too if
/// it is trusted.
async fn outcome(certificate: &'static [u8], is_trusted: bool) -> Result<Bytes, FetchFailure> {
    let roots = if is_trusted { vec![CertificateDer::from(certificate)] } else { Vec::new() };
    let config = ClientConfig { extra_roots: roots, ..open_config() };
    let client = Client::with_resolver(config, Arc::new(Here(serve(certificate))));
    client.fetch(post("https://app.example/".into(), &[])).await.map(|fetched| fetched.body)
}

#[tokio::test]
async fn trusted_certificate_is_accepted() {
    assert_eq!(outcome(GOOD, true).await, Ok(Bytes::from_static(b"<Response/>")));
}

#[tokio::test]
async fn certificates_that_are_not_good_have_their_numbers() {
    let cases = [
        (GOOD, false, FetchError::TlsUntrusted, 11237),
        (OTHER, true, FetchError::TlsNameMismatch, 11235),
        (EXPIRED, true, FetchError::TlsExpired, 11236),
    ];
    for (certificate, is_trusted, cause, code) in cases {
        let failure = outcome(certificate, is_trusted).await.expect_err("the certificate is not good");
        assert_eq!((failure.cause, failure.code()), (cause, code));
    }
}
