//! `UserDefinedMessages` of a call, to the page of its browser, and `UserDefinedMessageSubscriptions`: who is told what that says.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::auth::Acting;
use super::calls;
use super::fault::Fault;
use super::form::{Form, invalid};
use crate::account::Account;
use crate::api::View;
use crate::call::browser::MAX_MESSAGE;
use crate::call::{Update, UserMessageChange};
use crate::clock::wall_ms;
use crate::events::{CallRecord, rfc_2822};
use crate::ids::{CallSid, SubscriptionSid, UserMessageSid};

pub(super) const MESSAGE: &[&str] = &["Content", "IdempotencyKey"];
pub(super) const SUBSCRIPTION: &[&str] = &["Callback", "Method", "IdempotencyKey"];

/// Sends the page a message.
pub(super) async fn create(
    State(view): State<View>,
    Acting(account): Acting,
    Path((_, call)): Path<(String, String)>,
    form: Form,
) -> Result<Response, Fault> {
    let record = calls::find(&view, &account, &call).await?;
    let content = form.text("Content").ok_or_else(|| Fault::parameter(20_001, "Parameter Content is missing"))?;
    if content.len() > MAX_MESSAGE || serde_json::from_str::<Value>(content).is_err() {
        return Err(invalid("Content", "what was given", &format!("JSON of at most {MAX_MESSAGE} bytes")));
    }
    let sid = UserMessageSid::new(named(&record, &form));
    let content = content.to_owned();
    change(&view, &account, &record, UserMessageChange::Send { sid, content }).await?;
    let made = resource(&account, &record, sid.to_string());
    Ok((StatusCode::CREATED, Json(made)).into_response())
}

/// Has a URL told what the page says.
pub(super) async fn subscribe(
    State(view): State<View>,
    Acting(account): Acting,
    Path((_, call)): Path<(String, String)>,
    form: Form,
) -> Result<Response, Fault> {
    let record = calls::find(&view, &account, &call).await?;
    let callback = form.endpoint("Callback", "Method", 20_001)?;
    let callback = callback.ok_or_else(|| Fault::parameter(20_001, "Parameter Callback is missing"))?;
    let sid = SubscriptionSid::new(named(&record, &form));
    change(&view, &account, &record, UserMessageChange::Subscribe { sid, callback }).await?;
    let mut made = resource(&account, &record, sid.to_string());
    made["uri"] = json!(format!("{}/{sid}.json", path(&account, record.sid)));
    Ok((StatusCode::CREATED, Json(made)).into_response())
}

pub(super) async fn unsubscribe(
    State(view): State<View>,
    Acting(account): Acting,
    Path((_, call, name)): Path<(String, String, String)>,
) -> Result<StatusCode, Fault> {
    let record = calls::find(&view, &account, &call).await?;
    let not_found = || Fault::not_found(&format!("{}/{name}", path(&account, record.sid)));
    let sid = name.strip_suffix(".json").unwrap_or(&name).parse().map_err(|_| not_found())?;
    let gone = change(&view, &account, &record, UserMessageChange::Unsubscribe { sid }).await;
    gone.map_err(|_| not_found())?;
    Ok(StatusCode::NO_CONTENT)
}

async fn change(view: &View, account: &Account, record: &CallRecord, change: UserMessageChange) -> Result<(), Fault> {
    calls::change(view, account, record, Update { user_message: Some(Box::new(change)), ..Update::default() }).await
}

/// What is asked for again under the same key is the same.
fn named(record: &CallRecord, form: &Form) -> u128 {
    let Some(key) = form.text("IdempotencyKey") else { return crate::api::random() };
    let digest = Sha256::new().chain_update(record.sid.bits().to_be_bytes()).chain_update(key).finalize();
    u128::from_be_bytes(digest[..16].try_into().expect("sixteen of thirty-two bytes"))
}

fn path(account: &Account, call: CallSid) -> String {
    format!("/2010-04-01/Accounts/{}/Calls/{call}/UserDefinedMessageSubscriptions", account.sid)
}

fn resource(account: &Account, record: &CallRecord, sid: String) -> Value {
    json!({ "account_sid": account.sid, "call_sid": record.sid, "sid": sid, "date_created": rfc_2822(wall_ms()) })
}
