//! Join tokens: which authority to believe, until when and as what one may join, and the authority's seal on it.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use rustls::pki_types::CertificateDer;
use sha2::{Digest, Sha256};

use super::Role;

const PREFIX: &str = "dtj1.";
const SEALED: usize = 32 + 8 + 1;

/// The key of an authority's tokens.
pub(super) struct TokenKey([u8; 32]);

impl TokenKey {
    pub(super) fn generate() -> TokenKey {
        let mut key = [0; 32];
        getrandom::fill(&mut key).expect("the operating system has a source of randomness");
        TokenKey(key)
    }

    pub(super) fn text(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.0)
    }

    pub(super) fn parse(text: &str) -> Option<TokenKey> {
        URL_SAFE_NO_PAD.decode(text.trim()).ok()?.try_into().ok().map(TokenKey)
    }

    fn mac(&self, sealed: &[u8; SEALED]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("a key of any length is one");
        mac.update(sealed);
        mac
    }
}

/// A token as it is handed to a machine: `dtj1.` and base64.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    /// SHA-256 of the authority's certificate.
    fingerprint: [u8; 32],
    /// Seconds since 1970.
    expires: u64,
    role: Option<Role>,
    seal: [u8; 32],
}

/// Why a text is no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenError;

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("this is no join token: make one with `dialtone cluster join-token --dir DIR` where the cluster's authority is")
    }
}

impl std::error::Error for TokenError {}

impl JoinToken {
    pub(super) fn new(key: &TokenKey, authority: &CertificateDer<'_>, role: Option<Role>, expires: u64) -> JoinToken {
        let mut token = JoinToken { fingerprint: fingerprint(authority), expires, role, seal: [0; 32] };
        token.seal = key.mac(&token.sealed()).finalize().into_bytes().into();
        token
    }

    pub(super) fn is_of(&self, key: &TokenKey) -> bool {
        key.mac(&self.sealed()).verify_slice(&self.seal).is_ok()
    }

    pub(super) fn admits(&self, role: Role, now: u64) -> bool {
        now < self.expires && self.role.is_none_or(|only| only == role)
    }

    /// Whether that is the certificate of the authority that made the token.
    pub fn is_from(&self, authority: &CertificateDer<'_>) -> bool {
        self.fingerprint == fingerprint(authority)
    }

    fn sealed(&self) -> [u8; SEALED] {
        let mut sealed = [0; SEALED];
        sealed[..32].copy_from_slice(&self.fingerprint);
        sealed[32..40].copy_from_slice(&self.expires.to_be_bytes());
        sealed[40] = match self.role {
            None => 0,
            Some(Role::Edge) => 1,
            Some(Role::Worker) => 2,
        };
        sealed
    }
}

impl fmt::Display for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = [&self.sealed()[..], &self.seal].concat();
        write!(f, "{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes))
    }
}

/// It is a secret.
impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JoinToken(..)")
    }
}

impl FromStr for JoinToken {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<JoinToken, TokenError> {
        let bytes = text.trim().strip_prefix(PREFIX).and_then(|rest| URL_SAFE_NO_PAD.decode(rest).ok());
        let bytes: [u8; SEALED + 32] = bytes.and_then(|bytes| bytes.try_into().ok()).ok_or(TokenError)?;
        let role = match bytes[40] {
            0 => None,
            1 => Some(Role::Edge),
            2 => Some(Role::Worker),
            _ => return Err(TokenError),
        };
        let part = |from: usize| bytes[from..from + 32].try_into().expect("thirty-two bytes");
        let expires = u64::from_be_bytes(bytes[32..40].try_into().expect("eight bytes"));
        Ok(JoinToken { fingerprint: part(0), expires, role, seal: part(SEALED) })
    }
}

fn fingerprint(certificate: &CertificateDer<'_>) -> [u8; 32] {
    Sha256::digest(certificate).into()
}
