//! Tokens of the console: a session of who has signed in there, and an access token for a phone on its page.
//!
//! Both are signed with what is made of the account's own token: they hold at every edge and after a restart, and another token
//! for the account ends them.

use std::sync::Arc;

use hmac::{Hmac, Mac};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::Sha256;

use super::{TokenError, active, check_times, claims, is_signed};
use crate::account::{Account, Client, Directory};

/// How long who has signed in stays so, seconds.
pub const SESSION_S: u64 = 12 * 3600;
/// How long a phone's token holds, seconds.
pub const PHONE_S: u64 = 3600;

#[derive(Serialize, Deserialize)]
struct Session {
    sub: String,
    iat: u64,
    exp: u64,
}

/// What shows that somebody has signed in with the account's token.
pub fn session(account: &Account, now_s: u64) -> String {
    let session = Session { sub: account.sid.to_string(), iat: now_s, exp: now_s + SESSION_S };
    signed(&session, &key(account, "session"))
}

/// Whose session it is.
pub fn session_of(token: &str, directory: &Directory, now_s: u64) -> Result<Arc<Account>, TokenError> {
    let Session { sub, .. } = claims(token)?;
    let account = sub.parse().ok().and_then(|sid| directory.account(sid)).ok_or(TokenError::Signature)?;
    is_signed(token, &key(account, "session"))?;
    check_times(token, now_s)?;
    active(directory, account)?;
    Ok(account.clone())
}

/// An access token for a phone of the console.
pub fn phone(account: &Account, identity: &str, now_s: u64) -> String {
    let sid = account.sid.to_string();
    let claims = json!({
        "iss": sid,
        "sub": sid,
        "iat": now_s,
        "exp": now_s + PHONE_S,
        "grants": {
            "identity": identity,
            "voice": { "incoming": { "allow": true }, "outgoing": { "application_sid": Client::OF_CONSOLE } },
        },
    });
    signed(&claims, &phone_key(account))
}

/// By what a phone's token is signed.
pub(super) fn phone_key(account: &Account) -> [u8; 32] {
    key(account, "phone")
}

fn key(account: &Account, purpose: &str) -> [u8; 32] {
    let mut mac =
        Hmac::<Sha256>::new_from_slice(account.auth_token.expose().as_bytes()).expect("HMAC takes a key of any length");
    mac.update(b"dialtone console ");
    mac.update(purpose.as_bytes());
    mac.finalize().into_bytes().into()
}

fn signed(claims: &impl Serialize, key: &[u8]) -> String {
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &EncodingKey::from_secret(key))
        .expect("claims of ours can be written, and HMAC takes a key of any length")
}
