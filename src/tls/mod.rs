//! TLS of our own listeners: as whom they are, and how connections are taken.
//!
//! The certificate is one of two files, read again at a reload, or one that this installation's [`Authority`] makes for whatever name
//! a client asks for.

mod authority;
mod listener;
mod sip;

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::ClientHello;
use rustls::{RootCertStore, ServerConfig};

pub use authority::{Authority, AuthorityError};
pub use listener::{Listener, Stream};
pub use sip::SipSecurity;

/// A certificate with its chain, and its key: PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// Why there is no TLS by those files. It names the file and never what is in it.
#[derive(Debug)]
pub enum FilesError {
    Read(PathBuf, io::Error),
    NoCertificate(PathBuf),
    /// One of its certificates cannot be an authority.
    NoAuthority(PathBuf, rustls::Error),
    NoKey(PathBuf),
    /// Key and certificate are not of each other, or of a kind that is not spoken.
    Unfit(Files, rustls::Error),
}

impl fmt::Display for FilesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FilesError::Read(path, error) => write!(f, "{} cannot be read: {error}", path.display()),
            FilesError::NoCertificate(path) => write!(f, "{} holds no certificate in PEM", path.display()),
            FilesError::NoAuthority(path, error) => {
                write!(f, "{} holds what is no authority's certificate: {error}", path.display())
            }
            FilesError::NoKey(path) => write!(f, "{} holds no private key in PEM", path.display()),
            FilesError::Unfit(Files { certificate, key }, error) => {
                write!(f, "{} and {} do not serve together: {error}", certificate.display(), key.display())
            }
        }
    }
}

impl std::error::Error for FilesError {}

impl Files {
    /// TLS 1.2 and 1.3 as who the certificate says.
    pub fn load(&self) -> Result<Arc<ServerConfig>, FilesError> {
        let chain = certificates(&self.certificate)?;
        let key = PrivateKeyDer::from_pem_slice(&read(&self.key)?).map_err(|_| FilesError::NoKey(self.key.clone()))?;
        server_config(chain, key).map_err(|error| FilesError::Unfit(self.clone(), error))
    }
}

fn read(path: &Path) -> Result<Vec<u8>, FilesError> {
    fs::read(path).map_err(|error| FilesError::Read(path.to_owned(), error))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, FilesError> {
    let found: Result<Vec<CertificateDer<'static>>, _> = CertificateDer::pem_slice_iter(&read(path)?).collect();
    found.ok().filter(|found| !found.is_empty()).ok_or_else(|| FilesError::NoCertificate(path.to_owned()))
}

/// By whom peers are trusted: those whom everybody trusts, and those of a PEM file.
pub fn authorities(more: Option<&Path>) -> Result<RootCertStore, FilesError> {
    let mut roots = RootCertStore::from_iter(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    let Some(path) = more else { return Ok(roots) };
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|error| FilesError::NoAuthority(path.to_owned(), error))?;
    }
    Ok(roots)
}

/// Without certificates of clients; HTTP/1.1 where a protocol is negotiated.
fn server_config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// As whom a listener is. Clones are the same.
#[derive(Clone)]
pub enum Identity {
    Files(Files, Arc<ArcSwap<ServerConfig>>),
    Own(Arc<Authority>),
}

impl Identity {
    pub fn of_files(files: Files) -> Result<Identity, FilesError> {
        let config = files.load()?;
        Ok(Identity::Files(files, Arc::new(ArcSwap::new(config))))
    }

    /// Reads the files again: connections from now on are taken by what they hold now.
    pub fn reload(&self) -> Result<(), FilesError> {
        if let Identity::Files(files, config) = self {
            config.store(files.load()?);
        }
        Ok(())
    }

    /// What a client is answered by; `address`: which of ours it came to, for one that names none.
    fn config_for(&self, hello: &ClientHello<'_>, address: &str) -> Result<Arc<ServerConfig>, AuthorityError> {
        match self {
            Identity::Files(_, config) => Ok(config.load_full()),
            Identity::Own(authority) => authority.server_config(hello.server_name().unwrap_or(address)),
        }
    }
}

#[cfg(test)]
mod tests;
