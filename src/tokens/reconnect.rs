//! The token by which a browser's call goes on by another connection, at this edge or at one that has taken the call up.
//!
//! What the line of a browser knows of a call is in it, signed with what is made of the account's own token: so nothing of a line
//! is to be kept anywhere, and the process in which it was may be gone.

use dialtone_sip::dialog::{Dialog, DialogId};
use serde::{Deserialize, Serialize};

use super::{TokenError, active, check_times, claims, is_signed, own_key, signed};
use crate::account::{Account, Directory};
use crate::ids::{AccountSid, CallSid};

/// No call is longer, seconds.
const HOLDS_S: u64 = 24 * 3600;

/// A call of a browser, as its line knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    #[serde(rename = "sub")]
    pub account: AccountSid,
    pub identity: String,
    pub call: CallSid,
    pub number: DialogId,
    pub dialog: Dialog,
    /// Of the server's description that the browser has.
    pub ufrag: String,
}

#[derive(Serialize)]
struct Sealed<'a> {
    #[serde(flatten)]
    kept: &'a Kept,
    iat: u64,
    exp: u64,
}

/// By what the tokens of an account's browsers are signed.
#[derive(Clone)]
pub struct Key([u8; 32]);

#[cfg(test)]
impl Key {
    pub(crate) fn of_test() -> Key {
        Key([7; 32])
    }
}

pub fn key(account: &Account) -> Key {
    Key(own_key(account, "call of a browser"))
}

pub fn seal(kept: &Kept, key: &Key, now_s: u64) -> String {
    signed(&Sealed { kept, iat: now_s, exp: now_s + HOLDS_S }, &key.0)
}

pub fn open(token: &str, directory: &Directory, now_s: u64) -> Result<Kept, TokenError> {
    let Kept { account, .. } = claims(token)?;
    let account = directory.account(account).ok_or(TokenError::Signature)?;
    let kept = open_with(token, &key(account), now_s)?;
    active(directory, account)?;
    Ok(kept)
}

pub(crate) fn open_with(token: &str, key: &Key, now_s: u64) -> Result<Kept, TokenError> {
    is_signed(token, &key.0)?;
    check_times(token, now_s)?;
    claims(token)
}
