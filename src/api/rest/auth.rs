//! Who asks: HTTP Basic with an account's sid and token, for that account's own path.

use std::collections::HashMap;
use std::sync::Arc;

use axum::RequestPartsExt;
use axum::extract::{FromRequestParts, Path};
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::fault::Fault;
use crate::account::{Account, Directory};
use crate::api::View;
use crate::ids::AccountSid;

/// The account that the credentials are of.
pub struct Authenticated(pub Arc<Account>);

/// The account of the path, whose credentials were given.
pub struct Acting(pub Arc<Account>);

impl FromRequestParts<View> for Authenticated {
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, view: &View) -> Result<Self, Fault> {
        authenticate(&parts.headers, &view.directory.load()).map(Authenticated)
    }
}

impl FromRequestParts<View> for Acting {
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, view: &View) -> Result<Self, Fault> {
        let account = authenticate(&parts.headers, &view.directory.load())?;
        let path = parts.uri.path().to_owned();
        let names: Path<HashMap<String, String>> = parts.extract().await.map_err(|_| Fault::not_found(&path))?;
        let named = names.get("account").map(|name| name.strip_suffix(".json").unwrap_or(name));
        match named.and_then(|name| name.parse::<AccountSid>().ok()) {
            Some(named) if named == account.sid => Ok(Acting(account)),
            _ => Err(Fault::not_found(&path)),
        }
    }
}

fn authenticate(headers: &HeaderMap, directory: &Directory) -> Result<Arc<Account>, Fault> {
    let (sid, token) = basic(headers).ok_or_else(Fault::unauthenticated)?;
    let account = sid.parse().ok().and_then(|sid| directory.account(sid).cloned());
    // The token is compared, in constant time, whether there is such an account or not.
    match account {
        Some(account) if account.auth_token.matches(&token) => Ok(account),
        _ => Err(Fault::unauthenticated()),
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
