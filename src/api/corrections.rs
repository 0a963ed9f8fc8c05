//! What the operator takes back of what an account has paid, or adds: a line of the ledger, as the others are never changed.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::operator::Operator;
use super::{View, error};
use crate::clock::wall_ms;
use crate::ids::{AccountSid, CallSid, EventSid};
use crate::store::{Batch, StoreError};
use crate::usage::{Correction, LEAVES, correction, money};

const LONGEST_REASON: usize = 200;

/// `Category`, `Price` (below zero for a refund), `Reason`; `CallSid` where it is about a call; `IdempotencyKey`: the same key makes one
/// line, however often it is sent.
pub(super) async fn create(_: Operator, State(view): State<View>, Path(sid): Path<String>, form: String) -> Response {
    let given = |name: &str| {
        url::form_urlencoded::parse(form.as_bytes()).find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
    };
    let wrong = |text: String| error(StatusCode::BAD_REQUEST, 20_001, &text);
    let account = sid.parse::<AccountSid>().ok().filter(|sid| view.directory.load().account(*sid).is_some());
    let Some(account) = account else {
        return error(StatusCode::NOT_FOUND, 20_404, &format!("there is no account {sid}"));
    };
    let category = given("Category").unwrap_or_default();
    let Some(category) = LEAVES.iter().copied().find(|leaf| *leaf == category) else {
        return wrong(format!("Category {category} is none of {}", LEAVES.join(", ")));
    };
    let price = given("Price").unwrap_or_default();
    let Some(amount) = money::parse(&price).filter(|amount| *amount != 0) else {
        return wrong(format!("Price {price} is no amount such as -0.05, with six digits behind the point at most"));
    };
    let reason = given("Reason").unwrap_or_default();
    if reason.trim().is_empty() || reason.chars().count() > LONGEST_REASON {
        return wrong(format!("Reason is to say why, in {LONGEST_REASON} characters at most"));
    }
    let call = match given("CallSid").filter(|sid| !sid.is_empty()) {
        None => CallSid::new(0),
        Some(sid) => {
            let call = match sid.parse::<CallSid>() {
                Ok(call) => view.store.call(call).await,
                Err(_) => Ok(None),
            };
            match call {
                Ok(Some(record)) if record.account == account => record.sid,
                Ok(_) => {
                    return error(
                        StatusCode::NOT_FOUND,
                        20_404,
                        &format!("the account has no call {sid} that is over"),
                    );
                }
                Err(_) => return away(),
            }
        }
    };
    let now = wall_ms();
    let event = match given("IdempotencyKey") {
        None => EventSid::at(now, super::random()),
        Some(key) => {
            let digest = Sha256::digest(format!("{account} correction {key}"));
            EventSid::new(u128::from_be_bytes(digest[..16].try_into().expect("sixteen of thirty-two bytes")))
        }
    };
    // A key is of one correction: what it said first holds.
    match view.store.correction(account, event).await {
        Ok(None) => {}
        Ok(Some(_)) => return known(&sid, event),
        Err(_) => return away(),
    }
    let line = correction(event, account, call, category, Correction { amount, reason: reason.clone() }, now);
    match view.store.write(&Batch { lines: vec![line], ..Batch::default() }).await {
        Ok(written) => {
            written.fires.into_iter().for_each(|fire| drop(view.fires.try_send(fire)));
            view.hub.written(written.logged);
        }
        // Somebody else has sent it at the same time.
        Err(StoreError::Taken) => return known(&sid, event),
        Err(_) => return away(),
    }
    tracing::info!(%account, category, price, reason, "the operator has corrected what an account pays");
    let shown = json!({
        "event_sid": event,
        "account_sid": sid,
        "call_sid": (call.bits() != 0).then_some(call),
        "category": category,
        "price": money::format(amount),
        "reason": reason,
    });
    (StatusCode::CREATED, Json(shown)).into_response()
}

fn known(account: &str, event: EventSid) -> Response {
    (StatusCode::OK, Json(json!({ "event_sid": event, "account_sid": account }))).into_response()
}

fn away() -> Response {
    error(
        StatusCode::SERVICE_UNAVAILABLE,
        20_503,
        "the store does not answer: send it again with the same IdempotencyKey",
    )
}
