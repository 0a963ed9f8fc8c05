//! Tokens that customers' servers make for their clients, as the official SDKs write them: JSON Web Tokens (RFC 7519), signed by
//! HMAC with SHA-256 and nothing else.
//!
//! - a *capability token* is signed with an account's token and carries scopes: [`capability`]
//! - an *access token* is signed with the secret of an API key and carries grants: [`access`]
//! - those of the console's page are made here: [`console`]
//! - so are those by which a browser's call goes on by another connection: [`reconnect`]
//!
//! What a token says counts only as far as its signature is right and its account may do anything; which of that is wrong is told
//! to whoever shows it, as the SDKs have an error for each.

pub mod access;
pub mod capability;
pub mod console;
pub mod reconnect;

use std::fmt;
use std::sync::Arc;

use hmac::{Hmac, Mac};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::account::{Account, AccountStatus, Directory};

/// The clock of whoever made a token may be so much ahead of ours.
const AHEAD_S: u64 = 60;
/// A token that is valid for longer is none that an SDK makes.
const LONGEST_S: u64 = 24 * 3600;

/// Why a token is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenError {
    /// It is no token, or one of another form than this place takes.
    Malformed,
    /// Its issuer is not known, or has not signed it.
    Signature,
    Expired,
    /// It is valid later.
    NotYet,
    /// It is valid for longer than a day.
    TooLong,
    /// Its account is suspended or closed.
    Inactive,
    /// It does not allow this.
    Scope,
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TokenError::Malformed => "the token is not one of the form that is needed here",
            TokenError::Signature => "the token is not signed by an account or a key of this server",
            TokenError::Expired => "the token has expired",
            TokenError::NotYet => "the token is not valid yet: look at the clock of the server that made it",
            TokenError::TooLong => "the token is valid for longer than 24 hours",
            TokenError::Inactive => "the account is not active",
            TokenError::Scope => "the token does not allow this",
        })
    }
}

impl std::error::Error for TokenError {}

/// What stands in each.
#[derive(Deserialize)]
struct Times {
    exp: u64,
    #[serde(default)]
    nbf: u64,
    #[serde(default)]
    iat: Option<u64>,
}

/// Reads what a token claims, without any proof of it: only to find who is to have signed it.
fn claims<T: DeserializeOwned>(token: &str) -> Result<T, TokenError> {
    jsonwebtoken::dangerous::insecure_decode::<T>(token).map(|data| data.claims).map_err(|_| TokenError::Malformed)
}

/// Whether that secret has signed it, with the one algorithm that is taken.
fn is_signed(token: &str, key: &[u8]) -> Result<(), TokenError> {
    let mut validation = Validation::new(Algorithm::HS256);
    // Times are looked at with a clock that is given.
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.validate_aud = false;
    validation.required_spec_claims.clear();
    let key = DecodingKey::from_secret(key);
    jsonwebtoken::decode::<Times>(token, &key, &validation).map(drop).map_err(|_| TokenError::Signature)
}

/// By what tokens of ours are signed: it is made of the account's own, and ends with it.
fn own_key(account: &Account, purpose: &str) -> [u8; 32] {
    let mut mac =
        Hmac::<Sha256>::new_from_slice(account.auth_token.expose().as_bytes()).expect("HMAC takes a key of any length");
    mac.update(b"dialtone ");
    mac.update(purpose.as_bytes());
    mac.finalize().into_bytes().into()
}

fn signed(claims: &impl Serialize, key: &[u8]) -> String {
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &EncodingKey::from_secret(key))
        .expect("claims of ours can be written, and HMAC takes a key of any length")
}

fn check_times(token: &str, now_s: u64) -> Result<u64, TokenError> {
    let Times { exp, nbf, iat } = claims(token)?;
    let since = iat.unwrap_or(nbf).max(now_s.saturating_sub(LONGEST_S));
    match () {
        () if exp <= now_s => Err(TokenError::Expired),
        () if nbf > now_s + AHEAD_S => Err(TokenError::NotYet),
        () if exp > since.min(now_s) + LONGEST_S + AHEAD_S => Err(TokenError::TooLong),
        () => Ok(exp),
    }
}

fn active(directory: &Directory, account: &Arc<Account>) -> Result<(), TokenError> {
    match directory.is_active(account.sid) && account.standing() == AccountStatus::Active {
        true => Ok(()),
        false => Err(TokenError::Inactive),
    }
}

#[cfg(test)]
mod tests;
