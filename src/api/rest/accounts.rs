//! `Accounts`: the account that asks, and those that it has made.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::auth::{Acting, Authenticated, Names};
use super::fault::Fault;
use super::form::{Form, invalid};
use super::page::Page;
use crate::account::{Account, AccountStatus};
use crate::api::View;
use crate::clock::wall_ms;
use crate::events::rfc_2822;
use crate::ids::{AccountSid, fresh_sid};
use crate::store::{Kind, Resource};

const LONGEST_NAME: usize = 64;

/// Filtered by `FriendlyName` and `Status`.
pub(super) async fn list(
    State(view): State<View>,
    Authenticated { account, .. }: Authenticated,
    page: Page,
) -> Result<Response, Fault> {
    let directory = view.directory.load();
    let wanted = |one: &Arc<Account>| {
        (one.sid == account.sid || one.owner == Some(account.sid))
            && page.query.text("FriendlyName").is_none_or(|name| name == one.name)
            && page.query.text("Status").is_none_or(|status| status == one.standing().as_str())
    };
    let before = page.before()?;
    let found = directory.accounts().filter(|one| before.is_none_or(|before| one.sid < before) && wanted(one));
    let (found, last) = page.newest(Vec::new(), found.collect(), |one| one.sid, |_| true);
    let items = found.into_iter().map(|one| resource(one, &account)).collect();
    Ok(Json(page.envelope("accounts", items, last, "/2010-04-01/Accounts.json")).into_response())
}

pub(super) async fn fetch(asking: Authenticated, Acting(account): Acting) -> Json<Value> {
    Json(resource(&account, &asking.account))
}

/// Makes an account below the one that asks.
pub(super) async fn create(State(view): State<View>, asking: Authenticated, form: Form) -> Result<Response, Fault> {
    if asking.account.owner.is_some() {
        return Err(Fault::denied("An account that was made by the API makes none itself"));
    }
    let now = wall_ms();
    let row = Resource {
        kind: Kind::Account,
        parent: String::new(),
        sid: fresh_sid(AccountSid::PREFIX, now, crate::api::random()),
        account: asking.account.sid.to_string(),
        unique_name: None,
        detail: detail(
            name(&form)?.unwrap_or("SubAccount"),
            AccountStatus::Active,
            &format!("{:032x}", crate::api::random()),
        ),
        created_ms: now,
        updated_ms: now,
    };
    let sid: AccountSid = row.sid.parse().map_err(|_| Fault::unavailable("The sid"))?;
    view.provisioning.create(row).await.map_err(|_| Fault::store_is_away())?;
    let made = view.directory.load().account(sid).cloned().ok_or_else(Fault::store_is_away)?;
    Ok((StatusCode::CREATED, Json(resource(&made, &asking.account))).into_response())
}

/// `FriendlyName`; and `Status` by its owner, of an account that is not closed.
pub(super) async fn update(
    State(view): State<View>,
    asking: Authenticated,
    names: Names,
    form: Form,
) -> Result<Json<Value>, Fault> {
    let directory = view.directory.load_full();
    let found = names.get("account").parse().ok().and_then(|sid| directory.account(sid));
    let own = |one: &&Arc<Account>| one.sid == asking.account.sid || one.owner == Some(asking.account.sid);
    let account = found.filter(own).ok_or_else(|| Fault::not_found(names.get("account")))?;
    let (Some(owner), Some(dated)) = (account.owner, account.dated) else {
        return Err(Fault::parameter(20_001, "The account stands in the configuration file: it is changed there"));
    };
    let status = match form.text("Status") {
        None => account.status,
        Some(text) => {
            AccountStatus::named(text).ok_or_else(|| invalid("Status", text, "active, suspended or closed"))?
        }
    };
    if status != account.status && owner != asking.account.sid {
        return Err(Fault::denied("The status of an account is changed by the one that made it"));
    }
    if account.status == AccountStatus::Closed {
        return Err(Fault::parameter(20_001, "A closed account stays as it is"));
    }
    let name = name(&form)?.unwrap_or(&account.name);
    let row = Resource {
        kind: Kind::Account,
        parent: String::new(),
        sid: account.sid.to_string(),
        account: owner.to_string(),
        unique_name: None,
        detail: detail(name, status, account.auth_token.expose()),
        created_ms: dated.created_ms,
        updated_ms: wall_ms(),
    };
    if form.text("Status") == Some("active") {
        let stopped = crate::api::accounts::let_go_on(&view, account.sid).await;
        stopped.map_err(|_| Fault::store_is_away())?;
    }
    let done = view.provisioning.update(&owner.to_string(), row).await.map_err(|_| Fault::store_is_away())?;
    let changed = view.directory.load().account(account.sid).cloned().filter(|_| done);
    changed.map(|one| Json(resource(&one, &asking.account))).ok_or_else(|| Fault::not_found(names.get("account")))
}

fn name(form: &Form) -> Result<Option<&str>, Fault> {
    match form.text("FriendlyName") {
        Some(name) if name.chars().count() > LONGEST_NAME => {
            Err(Fault::parameter(20_001, format!("FriendlyName is longer than {LONGEST_NAME} characters")))
        }
        name => Ok(name),
    }
}

/// The token stands there as it is: requests to the account's application are signed with it.
fn detail(name: &str, status: AccountStatus, auth_token: &str) -> String {
    json!({ "friendly_name": name, "status": status.as_str(), "auth_token": auth_token }).to_string()
}

/// The token is told to the account that made this one, and to nobody else: whoever asks for its own has it.
fn resource(account: &Account, asking: &Account) -> Value {
    let uri = format!("/2010-04-01/Accounts/{}", account.sid);
    let token = (account.owner == Some(asking.sid)).then(|| account.auth_token.expose());
    let below = |path: &str| format!("{uri}/{path}.json");
    json!({
        "sid": account.sid.to_string(),
        "owner_account_sid": account.owner.unwrap_or(account.sid).to_string(),
        "friendly_name": account.name,
        "status": account.standing().as_str(),
        "type": "Full",
        "auth_token": token,
        "date_created": account.dated.map(|dated| rfc_2822(dated.created_ms)),
        "date_updated": account.dated.map(|dated| rfc_2822(dated.updated_ms)),
        "subresource_uris": {
            "applications": below("Applications"),
            "balance": below("Balance"),
            "calls": below("Calls"),
            "incoming_phone_numbers": below("IncomingPhoneNumbers"),
            "keys": below("Keys"),
            "notifications": below("Notifications"),
            "outgoing_caller_ids": below("OutgoingCallerIds"),
            "sip": below("SIP"),
            "signing_keys": below("SigningKeys"),
            "tokens": below("Tokens"),
            "usage": below("Usage"),
        },
        "uri": format!("{uri}.json"),
    })
}
