//! `Keys` and `SigningKeys`, which are the same here, and what else opens or pays for something: `Tokens`, `Balance`.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, Mac};
use serde_json::{Map, Value, json};
use sha1::Sha1;

use super::auth::Acting;
use super::fault::Fault;
use super::fields::{self, Field, Shape, Usual, field};
use super::form::Form;
use super::resources::{Api, FILTERS, Spec, may_always_go, read_nothing_more};
use crate::account::SecretHash;
use crate::api::View;
use crate::clock::wall_ms;
use crate::events::rfc_2822;
use crate::ids::{AccountSid, fresh_sid};
use crate::secret::Secret;
use crate::store::{Kind, Resource};

pub static KEYS: Spec = Spec {
    kind: Kind::Key,
    prefix: "SK",
    path: "/Keys",
    key: "keys",
    fields: FIELDS,
    parent: None,
    uses: None,
    api: Api::Classic,
    filters: FILTERS,
    reads: &[],
    read: read_nothing_more,
    may_go: may_always_go,
    show,
    unique: None,
};

pub static SIGNING_KEYS: Spec = Spec { path: "/SigningKeys", key: "signing_keys", ..KEYS };

pub(super) const FIELDS: &[Field] = &[field("FriendlyName", "friendly_name", Shape::Text(64), Usual::Text(""))];

/// Never the hash of the secret.
fn show(_: &View, _: &Resource, shown: &mut Map<String, Value>) {
    shown.retain(|key, _| ["sid", "friendly_name", "date_created", "date_updated"].contains(&key.as_str()));
}

/// The one answer that tells the secret.
pub(super) async fn create(State(view): State<View>, Acting(account): Acting, form: Form) -> Result<Response, Fault> {
    let mut detail = fields::read(&form, FIELDS, None)?;
    // Longer than a block of SHA-256: see [`crate::account::KeySecret`].
    let secret = format!("{:032x}{:032x}{:032x}", super::random(), super::random(), super::random());
    detail.insert("secret_hash".into(), json!(SecretHash::of(&secret).as_str()));
    let now = wall_ms();
    let row = Resource {
        kind: Kind::Key,
        parent: String::new(),
        sid: fresh_sid(KEYS.prefix, now, super::random()),
        account: account.sid.to_string(),
        unique_name: None,
        detail: Value::Object(detail.clone()).to_string(),
        created_ms: now,
        updated_ms: now,
    };
    let made = json!({
        "sid": row.sid,
        "friendly_name": detail["friendly_name"],
        "date_created": rfc_2822(now),
        "date_updated": rfc_2822(now),
        "secret": secret,
    });
    view.provisioning.create(row).await.map_err(|_| Fault::store_is_away())?;
    Ok((StatusCode::CREATED, Json(made)).into_response())
}

/// The servers of `[media] turn`, with credentials that hold for the time that is asked for. Without any there are no servers, and the
/// credentials open nothing.
pub(super) async fn token(State(view): State<View>, Acting(account): Acting, form: Form) -> Result<Response, Fault> {
    let ttl = form.number("Ttl", 1..=86_400)?.unwrap_or(86_400);
    let now = rfc_2822(wall_ms());
    let (urls, secret) = view.turn.as_deref().map_or((&[][..], None), |turn| (&turn.urls[..], turn.secret.as_ref()));
    let (username, password) = match secret {
        Some(secret) => turn_credentials(secret, wall_ms() / 1000 + u64::from(ttl), account.sid),
        None => (format!("{:032x}", super::random()), format!("{:032x}", super::random())),
    };
    let servers = urls.iter().map(|url| match url.starts_with("stun:") {
        true => json!({ "url": url, "urls": url }),
        false => json!({ "url": url, "urls": url, "username": username, "credential": password }),
    });
    let token = json!({
        "account_sid": account.sid.to_string(),
        "date_created": now,
        "date_updated": now,
        "ice_servers": servers.collect::<Vec<Value>>(),
        "username": username,
        "password": password,
        "ttl": ttl.to_string(),
    });
    Ok((StatusCode::CREATED, Json(token)).into_response())
}

/// What a TURN server takes that shares a secret with us: a name that says until when, and what only who has the secret can make of it
/// (draft-uberti-behave-turn-rest, as coturn has it).
fn turn_credentials(secret: &Secret, until_s: u64, account: AccountSid) -> (String, String) {
    let username = format!("{until_s}:{account}");
    let mut hmac =
        <Hmac<Sha1> as Mac>::new_from_slice(secret.expose().as_bytes()).expect("HMAC takes a key of any length");
    hmac.update(username.as_bytes());
    let password = BASE64.encode(hmac.finalize().into_bytes());
    (username, password)
}
