//! Tokens of the console: a session of who has signed in there, and an access token for a phone on its page.
//!
//! Both are signed with what is made of the account's own token: they hold at every edge and after a restart, and another token
//! for the account ends them.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{TokenError, active, check_times, claims, is_signed, own_key, signed};
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
    signed(&session, &session_key(account))
}

/// Whose session it is.
pub fn session_of(token: &str, directory: &Directory, now_s: u64) -> Result<Arc<Account>, TokenError> {
    let Session { sub, .. } = claims(token)?;
    let account = sub.parse().ok().and_then(|sid| directory.account(sid)).ok_or(TokenError::Signature)?;
    is_signed(token, &session_key(account))?;
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
    own_key(account, "console phone")
}

fn session_key(account: &Account) -> [u8; 32] {
    own_key(account, "console session")
}
