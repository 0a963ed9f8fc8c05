//! `Accounts`: the account that asks.

use axum::Json;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::auth::{Acting, Authenticated};
use super::fault::Fault;
use super::page::Page;
use crate::account::Account;

pub(super) async fn list(Authenticated(account): Authenticated, page: Page) -> Result<Response, Fault> {
    let wanted = page.query.text("FriendlyName").is_none_or(|name| name == account.name)
        && page.query.text("Status").is_none_or(|status| status == "active");
    let items = if wanted && page.after.is_none() { vec![resource(&account)] } else { Vec::new() };
    Ok(Json(page.envelope("accounts", items, None, "/2010-04-01/Accounts.json")).into_response())
}

pub(super) async fn fetch(Acting(account): Acting) -> Json<Value> {
    Json(resource(&account))
}

/// The token is not told: whoever asks has it, and a log of answers must not.
fn resource(account: &Account) -> Value {
    let uri = format!("/2010-04-01/Accounts/{}", account.sid);
    json!({
        "sid": account.sid.to_string(),
        "owner_account_sid": account.sid.to_string(),
        "friendly_name": account.name,
        "status": "active",
        "type": "Full",
        "auth_token": Value::Null,
        "date_created": Value::Null,
        "date_updated": Value::Null,
        "subresource_uris": {
            "calls": format!("{uri}/Calls.json"),
            "incoming_phone_numbers": format!("{uri}/IncomingPhoneNumbers.json"),
        },
        "uri": format!("{uri}.json"),
    })
}
