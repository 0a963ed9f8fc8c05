//! Access tokens: grants for one identity, signed by an API key.

use std::sync::Arc;

use serde::Deserialize;

use super::{TokenError, active, check_times, claims, console, is_signed};
use crate::account::{Account, Client, Directory};

/// What an access token allows.
#[derive(Clone, Debug)]
pub struct Access {
    pub account: Arc<Account>,
    /// The key that has signed it; the account's sid where the console has.
    pub key: String,
    /// Seconds since 1970.
    pub expires_s: u64,
    pub identity: String,
    /// Whether its holder may be called.
    pub incoming: bool,
    /// The application that answers what its holder calls.
    pub application: Option<String>,
    /// What the token gives along to that.
    pub parameters: Vec<(String, String)>,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    #[serde(default)]
    grants: Grants,
}

#[derive(Default, Deserialize)]
struct Grants {
    #[serde(default)]
    identity: String,
    voice: Option<Voice>,
}

#[derive(Deserialize)]
struct Voice {
    incoming: Option<Incoming>,
    outgoing: Option<Outgoing>,
}

#[derive(Deserialize)]
struct Incoming {
    #[serde(default)]
    allow: bool,
}

#[derive(Deserialize)]
struct Outgoing {
    application_sid: Option<String>,
    #[serde(default)]
    params: serde_json::Map<String, serde_json::Value>,
}

/// Longer identities are refused, as at Twilio.
const LONGEST_IDENTITY: usize = 121;

/// Reads a token and checks which key has signed it.
pub fn read(token: &str, directory: &Directory, now_s: u64) -> Result<Access, TokenError> {
    let Claims { iss, sub, grants } = claims(token)?;
    let key = directory.key(&iss);
    let issuer = key.map(|key| key.account).or_else(|| iss.parse().ok()).ok_or(TokenError::Signature)?;
    let account = directory.account(issuer).ok_or(TokenError::Signature)?;
    match key {
        Some(key) => is_signed(token, &key.secret.signing_key())?,
        None => is_signed(token, &console::phone_key(account))?,
    }
    // A key opens its own account, whatever a token of it says.
    if account.sid.to_string() != sub {
        return Err(TokenError::Signature);
    }
    let expires_s = check_times(token, now_s)?;
    active(directory, account)?;
    let is_name = !grants.identity.is_empty()
        && grants.identity.len() <= LONGEST_IDENTITY
        && !grants.identity.chars().any(char::is_control);
    let voice = grants.voice.ok_or(TokenError::Scope)?;
    let (application, params) =
        voice.outgoing.map_or_else(Default::default, |outgoing| (outgoing.application_sid, outgoing.params));
    let text = |value: serde_json::Value| match value {
        serde_json::Value::String(text) => text,
        other => other.to_string(),
    };
    // That of the console is in no token but its own.
    let is_foreign = key.is_some() && application.as_deref() == Some(Client::OF_CONSOLE);
    if !is_name || is_foreign {
        return Err(TokenError::Malformed);
    }
    Ok(Access {
        account: account.clone(),
        key: iss,
        expires_s,
        identity: grants.identity,
        incoming: voice.incoming.is_some_and(|incoming| incoming.allow),
        application,
        parameters: params.into_iter().map(|(name, value)| (name, text(value))).collect(),
    })
}
