//! What a node shows of itself, and whom it believes.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme};

use super::authority::write_secret;
use super::{ClusterError, JoinToken, Role};

/// The name under which every edge is dialled, wherever it is.
pub const EDGE_NAME: &str = "edge.dialtone.internal";
const URI: &str = "spiffe://dialtone/";

/// A node's certificate, its authority's, and its key.
#[derive(Clone)]
pub struct Identity {
    certificate: CertificateDer<'static>,
    authority: CertificateDer<'static>,
    /// PKCS #8, as PEM.
    key: String,
}

/// Who is at the other end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    pub role: Role,
    pub name: String,
}

pub(super) fn uri_of(role: Role, name: &str) -> String {
    format!("{URI}{}/{name}", role.name())
}

/// What the certificate says that a peer has shown.
pub fn peer_of(certificate: &CertificateDer<'_>) -> Option<Peer> {
    let certificate = webpki::EndEntityCert::try_from(certificate).ok()?;
    certificate.valid_uri_names().find_map(|uri| {
        let (role, name) = uri.strip_prefix(URI)?.split_once('/')?;
        Some(Peer { role: Role::named(role)?, name: name.to_owned() })
    })
}

/// The names that nodes may have: they stand in certificates, commands and metrics.
pub(super) fn is_name(name: &str) -> bool {
    (1..=63).contains(&name.len()) && name.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'.' | b'_'))
}

impl Identity {
    pub(super) fn new(
        certificate: CertificateDer<'static>,
        authority: CertificateDer<'static>,
        key: String,
    ) -> Identity {
        Identity { certificate, authority, key }
    }

    /// The identity that a file holds, if there is the file.
    pub fn load(path: &Path) -> Result<Option<Identity>, ClusterError> {
        let pem = match fs::read_to_string(path) {
            Ok(pem) => pem,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(ClusterError::File(path.to_owned(), error)),
        };
        let malformed = || ClusterError::Malformed(path.to_owned());
        let chain: Result<Vec<CertificateDer>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
        let [certificate, authority] =
            <[CertificateDer; 2]>::try_from(chain.map_err(|_| malformed())?).map_err(|_| malformed())?;
        let key = pem.find(KEY_BEGINS).map(|at| pem[at..].to_owned()).ok_or_else(malformed)?;
        Ok(Some(Identity { certificate, authority, key }))
    }

    /// Keeps it for the next start, for nobody else to read.
    pub fn save(&self, path: &Path) -> Result<(), ClusterError> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(|error| ClusterError::File(folder.to_owned(), error))?;
        }
        let pem = [pem_of(&self.certificate), pem_of(&self.authority), self.key.clone()].concat();
        write_secret(path, pem.as_bytes())
    }

    /// Whom it believes.
    pub(super) fn authority(&self) -> &CertificateDer<'static> {
        &self.authority
    }

    pub fn peer(&self) -> Option<Peer> {
        peer_of(&self.certificate)
    }

    /// Whether the token is of the authority that this identity is of.
    pub fn is_of(&self, token: &JoinToken) -> bool {
        token.is_from(&self.authority)
    }

    /// For an edge that listens. Who shows no certificate may still ask to join, and nothing else.
    pub fn server_config(&self, protocols: &[&[u8]]) -> Result<ServerConfig, ClusterError> {
        let provider = provider();
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(self.roots()?), provider.clone())
            .allow_unauthenticated()
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(verifier)
            .with_single_cert(self.chain(), self.private_key()?)?;
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        Ok(config)
    }

    /// For a node that dials an edge.
    pub fn client_config(&self, protocol: &[u8]) -> Result<ClientConfig, ClusterError> {
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(self.roots()?)
            .with_client_auth_cert(self.chain(), self.private_key()?)?;
        config.alpn_protocols = vec![protocol.to_vec()];
        Ok(config)
    }

    fn chain(&self) -> Vec<CertificateDer<'static>> {
        vec![self.certificate.clone(), self.authority.clone()]
    }

    fn roots(&self) -> Result<RootCertStore, ClusterError> {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.clone())?;
        Ok(roots)
    }

    fn private_key(&self) -> Result<PrivateKeyDer<'static>, ClusterError> {
        PrivateKeyDer::from_pem_slice(self.key.as_bytes())
            .map_err(|error| rustls::Error::General(error.to_string()).into())
    }
}

const KEY_BEGINS: &str = "-----BEGIN PRIVATE KEY-----";

fn pem_of(certificate: &CertificateDer<'_>) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(certificate);
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).expect("base64 is ascii")).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// For a machine that has nothing but a token: it believes the authority that the token names.
pub(super) fn joining_config(token: &JoinToken, protocol: &[u8]) -> Result<ClientConfig, ClusterError> {
    let verifier = Arc::new(Pinned { token: token.clone(), provider: provider() });
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    Ok(config)
}

/// Checks an edge as usual, with the one root that the token names by its fingerprint.
#[derive(Debug)]
struct Pinned {
    token: JoinToken,
    provider: Arc<CryptoProvider>,
}

impl Pinned {
    fn verifier(&self, authority: &CertificateDer<'_>) -> Result<Arc<WebPkiServerVerifier>, rustls::Error> {
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned())?;
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), self.provider.clone())
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))
    }
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let authority = intermediates.iter().find(|certificate| self.token.is_from(certificate));
        let authority = authority.ok_or(rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer))?;
        verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
        self.verifier(authority)?.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("only TLS 1.3 is spoken".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
