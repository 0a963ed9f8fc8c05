//! Who asks: HTTP Basic with an account's sid and token, or with a key and its secret, for the account's own path or that of
//! an account which it has made.

use std::collections::HashMap;
use std::sync::Arc;

use axum::RequestPartsExt;
use axum::extract::{FromRequestParts, Path};
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::fault::Fault;
use crate::account::{Account, AccountStatus, Directory};
use crate::api::View;
use crate::ids::AccountSid;

/// The account that the credentials are of, and whether they are its token.
pub struct Authenticated {
    pub account: Arc<Account>,
    pub by_token: bool,
}

/// The account that the request is about: that of the path, or where the path has none, that of the credentials.
pub struct Acting(pub Arc<Account>);

/// What the path names, without `.json`.
pub struct Names(HashMap<String, String>);

impl Names {
    /// Empty where the path has no such part.
    pub fn get(&self, name: &str) -> &str {
        self.0.get(name).map_or("", |text| text.strip_suffix(".json").unwrap_or(text))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Names {
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Names, Fault> {
        let names: Path<HashMap<String, String>> =
            parts.extract().await.map_err(|_| Fault::not_found(parts.uri.path()))?;
        Ok(Names(names.0))
    }
}

impl FromRequestParts<View> for Authenticated {
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, view: &View) -> Result<Self, Fault> {
        let asking = authenticate(&parts.headers, &view.directory.load())?;
        if !asking.by_token && needs_token(parts) {
            return Err(Fault::denied("This needs the account's token, not a key"));
        }
        if asking.account.standing() != AccountStatus::Active {
            return Err(Fault::inactive());
        }
        // Whoever asks has perhaps just been told of something by a webhook: the answer knows of it too. A new call asks
        // for nothing, but by its token.
        if parts.method != Method::POST || !parts.uri.path().ends_with("/Calls.json") {
            view.publisher.catch_up().await;
        }
        Ok(asking)
    }
}

impl FromRequestParts<View> for Acting {
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, view: &View) -> Result<Self, Fault> {
        let directory = view.directory.load();
        let asking = Authenticated::from_request_parts(parts, view).await?.account;
        let names: Names = parts.extract().await?;
        let named = match names.get("account") {
            "" => return Ok(Acting(asking)),
            named => named.parse::<AccountSid>().ok().and_then(|sid| directory.account(sid)),
        };
        match named {
            Some(named) if named.sid == asking.sid => Ok(Acting(asking)),
            Some(named) if named.owner == Some(asking.sid) => {
                // Its owner may look at what a suspended account has.
                let may = named.standing() == AccountStatus::Active || parts.method == Method::GET;
                if may { Ok(Acting(named.clone())) } else { Err(Fault::inactive()) }
            }
            _ => Err(Fault::not_found(parts.uri.path())),
        }
    }
}

pub(super) fn authenticate(headers: &HeaderMap, directory: &Directory) -> Result<Authenticated, Fault> {
    let (sid, secret) = basic(headers).ok_or_else(Fault::unauthenticated)?;
    if sid.starts_with("SK") {
        let key = directory.key(&sid).filter(|key| key.secret.matches(&secret));
        let account = key.and_then(|key| directory.account(key.account)).cloned();
        return account.map(|account| Authenticated { account, by_token: false }).ok_or_else(Fault::unauthenticated);
    }
    let account = sid.parse().ok().and_then(|sid| directory.account(sid).cloned());
    // The token is compared, in constant time, whether there is such an account or not.
    match account {
        Some(account) if account.auth_token.matches(&secret) => Ok(Authenticated { account, by_token: true }),
        _ => Err(Fault::unauthenticated()),
    }
}

/// Whose credentials a request claims to have: an account that there is.
pub fn claimed(headers: &HeaderMap, directory: &Directory) -> Option<AccountSid> {
    let (sid, _) = basic(headers)?;
    let account = match directory.key(&sid) {
        Some(key) => key.account,
        None => sid.parse().ok()?,
    };
    directory.account(account).map(|account| account.sid)
}

/// What opens more than it was given for: keys, and accounts that are made or changed.
fn needs_token(parts: &Parts) -> bool {
    let Some(path) = parts.uri.path().strip_prefix("/2010-04-01/Accounts") else { return false };
    match path.trim_start_matches('/').split_once('/') {
        Some((_, below)) => {
            let list = below.split('/').next().unwrap_or_default();
            ["Keys", "SigningKeys"].contains(&list.trim_end_matches(".json"))
        }
        None => parts.method != Method::GET,
    }
}

fn basic(headers: &HeaderMap) -> Option<(String, String)> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, encoded) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("Basic") {
        return None;
    }
    let text = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    text.split_once(':').map(|(sid, token)| (sid.to_owned(), token.to_owned()))
}
