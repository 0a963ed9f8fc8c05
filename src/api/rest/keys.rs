//! `Keys` and `SigningKeys`, which are the same here, and what else opens or pays for something: `Tokens`, `Balance`.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

use super::auth::Acting;
use super::fault::Fault;
use super::fields::{self, Field, Shape, Usual, field};
use super::form::Form;
use super::resources::{Api, FILTERS, Spec, may_always_go, read_nothing_more};
use crate::account::SecretHash;
use crate::api::View;
use crate::api::turn::{IceServers, ice_servers};
use crate::clock::wall_ms;
use crate::events::rfc_2822;
use crate::ids::fresh_sid;
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
    let secret = format!("{:032x}{:032x}{:032x}", crate::api::random(), crate::api::random(), crate::api::random());
    detail.insert("secret_hash".into(), json!(SecretHash::of(&secret).as_str()));
    let now = wall_ms();
    let row = Resource {
        kind: Kind::Key,
        parent: String::new(),
        sid: fresh_sid(KEYS.prefix, now, crate::api::random()),
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
    let IceServers { servers, username, password } = ice_servers(view.turn.as_deref(), account.sid, u64::from(ttl));
    let token = json!({
        "account_sid": account.sid.to_string(),
        "date_created": now,
        "date_updated": now,
        "ice_servers": servers,
        "username": username,
        "password": password,
        "ttl": ttl.to_string(),
    });
    Ok((StatusCode::CREATED, Json(token)).into_response())
}
