//! TLS of SIP's connections: as the server by our certificate, as the client by that of whoever is called.

use std::io;
use std::sync::Arc;

use dialtone_sip::transport::{Duplex, Securing, Security};
use rustls::pki_types::ServerName;
use rustls::server::Acceptor;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::{LazyConfigAcceptor, TlsConnector};

use super::Identity;

/// What a shard's connections are encrypted by.
pub struct SipSecurity {
    identity: Identity,
    connector: TlsConnector,
}

impl SipSecurity {
    /// Peers prove who they are to `roots`.
    ///
    /// # Panics
    /// If the ring provider of rustls did not offer TLS 1.2 and 1.3, which it always does.
    pub fn new(identity: Identity, roots: RootCertStore) -> SipSecurity {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the ring provider has the cipher suites of tls 1.2 and 1.3")
            .with_root_certificates(roots)
            .with_no_client_auth();
        SipSecurity { identity, connector: TlsConnector::from(Arc::new(config)) }
    }
}

impl Security for SipSecurity {
    fn accept(&self, stream: TcpStream) -> Securing {
        let identity = self.identity.clone();
        Box::pin(async move {
            let own = stream.local_addr()?.ip().to_canonical().to_string();
            let started = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
            let config = identity.config_for(&started.client_hello(), &own).map_err(io::Error::other)?;
            // The protocols that are negotiated are HTTP's.
            let mut config = (*config).clone();
            config.alpn_protocols.clear();
            let stream: Box<dyn Duplex> = Box::new(started.into_stream(Arc::new(config)).await?);
            Ok(stream)
        })
    }

    fn connect(&self, stream: TcpStream, host: &str) -> Securing {
        let connector = self.connector.clone();
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other);
        Box::pin(async move {
            let stream: Box<dyn Duplex> = Box::new(connector.connect(name?, stream).await?);
            Ok(stream)
        })
    }
}
