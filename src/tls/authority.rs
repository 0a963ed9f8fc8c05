//! The certificate authority of an installation: made on first use, trusted by nobody but who is told to.

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use time::{Duration, OffsetDateTime};

const CERTIFICATE: &str = "ca.pem";
const KEY: &str = "ca.key";
/// Our certificate, and those that the system trusts: for programs that take one file for all.
const BUNDLE: &str = "ca-bundle.pem";
const NAME: &str = "Dialtone, this installation's own";
/// Where systems keep what they trust.
const SYSTEM_BUNDLES: &[&str] =
    &["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];
/// Hosts whose certificate is kept; with more, all are made anew.
const HOSTS: usize = 64;

/// An authority with its key.
pub struct Authority {
    folder: PathBuf,
    issuer: Issuer<'static, KeyPair>,
    made: Mutex<HashMap<String, Arc<ServerConfig>>>,
}

/// Why there is no authority, or no certificate.
#[derive(Debug)]
pub enum AuthorityError {
    File(PathBuf, io::Error),
    Certificate(rcgen::Error),
    Tls(rustls::Error),
}

impl fmt::Display for AuthorityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AuthorityError::File(path, error) => write!(f, "{}: {error}", path.display()),
            AuthorityError::Certificate(error) => write!(f, "certificate: {error}"),
            AuthorityError::Tls(error) => write!(f, "tls: {error}"),
        }
    }
}

impl std::error::Error for AuthorityError {}

impl From<rcgen::Error> for AuthorityError {
    fn from(error: rcgen::Error) -> AuthorityError {
        AuthorityError::Certificate(error)
    }
}

impl From<rustls::Error> for AuthorityError {
    fn from(error: rustls::Error) -> AuthorityError {
        AuthorityError::Tls(error)
    }
}

impl Authority {
    /// The authority whose files are in that folder; it is made if there is none. Its key is for its owner alone to read.
    pub fn load_or_make(folder: &Path) -> Result<Authority, AuthorityError> {
        let at = |name: &str| folder.join(name);
        let key = match fs::read_to_string(at(KEY)) {
            Ok(pem) => KeyPair::from_pem(&pem)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::create_dir_all(folder).map_err(|error| AuthorityError::File(folder.to_owned(), error))?;
                let key = KeyPair::generate()?;
                write(&at(KEY), key.serialize_pem().as_bytes(), 0o600)?;
                key
            }
            Err(error) => return Err(AuthorityError::File(at(KEY), error)),
        };
        if !at(CERTIFICATE).exists() {
            let certificate = params().self_signed(&key)?.pem();
            write(&at(CERTIFICATE), certificate.as_bytes(), 0o644)?;
            let system = SYSTEM_BUNDLES.iter().find_map(|path| fs::read_to_string(path).ok()).unwrap_or_default();
            write(&at(BUNDLE), format!("{certificate}\n{system}").as_bytes(), 0o644)?;
        }
        Ok(Authority { folder: folder.to_owned(), issuer: Issuer::new(params(), key), made: Mutex::default() })
    }

    /// What a program must trust to reach us as Twilio.
    pub fn certificate(&self) -> PathBuf {
        self.folder.join(CERTIFICATE)
    }

    /// That, and what the system trusts.
    pub fn bundle(&self) -> PathBuf {
        self.folder.join(BUNDLE)
    }

    /// TLS as that host.
    pub fn server_config(&self, host: &str) -> Result<Arc<ServerConfig>, AuthorityError> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(config) = made.get(host) {
            return Ok(config.clone());
        }
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(vec![host.to_owned()])?;
        params.distinguished_name.push(DnType::CommonName, host);
        validity(&mut params, Duration::days(365));
        let certificate: CertificateDer = params.signed_by(&key, &self.issuer)?.der().clone();
        let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(|text| rustls::Error::General(text.into()))?;
        let config = super::server_config(vec![certificate], key)?;
        if made.len() >= HOSTS {
            made.clear();
        }
        made.insert(host.to_owned(), config.clone());
        Ok(config)
    }
}

/// Of the authority itself: the same each time, so that its key is all there is to keep.
fn params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, NAME);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    validity(&mut params, Duration::days(3650));
    params
}

/// From yesterday: clocks differ.
fn validity(params: &mut CertificateParams, length: Duration) {
    let now = OffsetDateTime::now_utc();
    params.not_before = now - Duration::days(1);
    params.not_after = now + length;
}

fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), AuthorityError> {
    let write = || {
        let mut file = fs::OpenOptions::new().create(true).write(true).truncate(true).mode(mode).open(path)?;
        file.write_all(bytes)
    };
    write().map_err(|error| AuthorityError::File(path.to_owned(), error))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn authority_is_made_once_and_its_key_is_its_owners() {
        let folder = std::env::temp_dir().join(format!("dialtone-authority-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        let first = Authority::load_or_make(&folder).unwrap();
        let read = |name: &str| fs::read(folder.join(name)).unwrap();
        let (key, certificate) = (read(KEY), read(CERTIFICATE));
        assert_eq!(fs::metadata(folder.join(KEY)).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(read(BUNDLE).starts_with(&certificate));
        let again = Authority::load_or_make(&folder).unwrap();
        assert_eq!((read(KEY), read(CERTIFICATE)), (key, certificate), "kept");
        let config = again.server_config("api.dublin.ie1.twilio.com").unwrap();
        assert!(Arc::ptr_eq(&config, &again.server_config("api.dublin.ie1.twilio.com").unwrap()), "made once");
        drop(first);
        fs::remove_dir_all(&folder).unwrap();
    }
}
