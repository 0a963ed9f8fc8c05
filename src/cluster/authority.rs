//! The authority of a cluster: a folder with its certificate, its key, and the key that join tokens are made with.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PublicKeyData, SanType, SignatureAlgorithm,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use time::{Duration, OffsetDateTime};

use super::identity::{EDGE_NAME, Identity, uri_of};
use super::token::{JoinToken, TokenKey};
use super::{ClusterError, Role};

const CERTIFICATE: &str = "cluster-ca.pem";
const KEY: &str = "cluster-ca.key";
const TOKEN_KEY: &str = "cluster-join.key";
const LIFE_OF_AUTHORITY: Duration = Duration::days(3650);
const LIFE_OF_NODE: Duration = Duration::days(3650);

/// An authority with its keys.
pub struct Authority {
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
    token_key: TokenKey,
}

impl Authority {
    /// Makes an authority in a folder that has none. What it holds is for its owner alone to read.
    pub fn init(folder: &Path) -> Result<Authority, ClusterError> {
        if folder.join(KEY).exists() {
            return Err(ClusterError::Exists(folder.to_owned()));
        }
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(|error| ClusterError::File(folder.to_owned(), error))?;
        let key = KeyPair::generate()?;
        write_secret(&folder.join(TOKEN_KEY), TokenKey::generate().text().as_bytes())?;
        write_secret(&folder.join(CERTIFICATE), params().self_signed(&key)?.pem().as_bytes())?;
        // The last of them: with it the authority is there.
        write_secret(&folder.join(KEY), key.serialize_pem().as_bytes())?;
        Authority::load(folder)
    }

    /// The authority of a folder.
    pub fn load(folder: &Path) -> Result<Authority, ClusterError> {
        let read = |name: &str| {
            let path = folder.join(name);
            fs::read_to_string(&path).map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => ClusterError::Missing(folder.to_owned()),
                _ => ClusterError::File(path, error),
            })
        };
        let pem = read(CERTIFICATE)?;
        let malformed = || ClusterError::Malformed(folder.join(CERTIFICATE));
        let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|_| malformed())?;
        let issuer = Issuer::new(params(), KeyPair::from_pem(&read(KEY)?)?);
        let token_key =
            TokenKey::parse(&read(TOKEN_KEY)?).ok_or_else(|| ClusterError::Malformed(folder.join(TOKEN_KEY)))?;
        Ok(Authority { certificate, issuer, token_key })
    }

    pub fn load_or_init(folder: &Path) -> Result<Authority, ClusterError> {
        match Authority::load(folder) {
            Err(ClusterError::Missing(_)) => Authority::init(folder),
            loaded => loaded,
        }
    }

    /// Who shows this certificate is believed.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// A token that admits nodes until then (seconds since 1970), in any role or in one.
    pub fn token(&self, role: Option<Role>, expires: u64) -> JoinToken {
        JoinToken::new(&self.token_key, &self.certificate, role, expires)
    }

    /// Whether a token of ours admits a node in that role now.
    pub fn accepts(&self, token: &JoinToken, role: Role, now: u64) -> bool {
        token.is_of(&self.token_key) && token.admits(role, now)
    }

    /// A node of this machine, with a key of its own.
    pub fn identity(&self, role: Role, name: &str) -> Result<Identity, ClusterError> {
        let key = KeyPair::generate()?;
        let certificate = self.certify(role, name, key.der_bytes())?;
        Ok(Identity::new(certificate, self.certificate.clone(), key.serialize_pem()))
    }

    /// A certificate for a node whose P-256 public key that is.
    pub fn certify(&self, role: Role, name: &str, public_key: &[u8]) -> Result<CertificateDer<'static>, ClusterError> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.subject_alt_names.push(SanType::URI(uri_of(role, name).try_into()?));
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth);
        if role == Role::Edge {
            // Whoever dials an edge asks for this name: no worker can pass for one.
            params.subject_alt_names.push(SanType::DnsName(EDGE_NAME.try_into()?));
            params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        }
        validity(&mut params, LIFE_OF_NODE);
        Ok(params.signed_by(&NodeKey(public_key), &self.issuer)?.der().clone())
    }
}

/// The public key of a node.
struct NodeKey<'a>(&'a [u8]);

impl PublicKeyData for NodeKey<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

/// Of the authority itself: the same each time.
fn params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "Dialtone cluster");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    validity(&mut params, LIFE_OF_AUTHORITY);
    params
}

/// From yesterday: clocks differ.
fn validity(params: &mut CertificateParams, length: Duration) {
    let now = OffsetDateTime::now_utc();
    params.not_before = now - Duration::days(1);
    params.not_after = now + length;
}

/// Writes a file that only its owner may read, whole or not at all.
pub(super) fn write_secret(path: &Path, bytes: &[u8]) -> Result<(), ClusterError> {
    let beside = PathBuf::from(format!("{}.{}", path.display(), std::process::id()));
    let write = || {
        let mut file = fs::OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&beside, path)
    };
    write().map_err(|error| ClusterError::File(path.to_owned(), error))
}
