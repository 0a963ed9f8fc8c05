//! `Calls/{CallSid}/Bill`: what a call costs, line by line, and why. Not of Twilio.

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use super::auth::{Acting, Names};
use super::calls;
use super::fault::Fault;
use super::resources::iso_8601;
use crate::api::View;
use crate::clock::wall_ms;
use crate::store::BilledLine;
use crate::usage::money;

/// What belongs to a call may come after its end: a recording that is completed.
const AFTER_MS: u64 = 3_600_000;

pub(super) async fn fetch(
    State(view): State<View>,
    Acting(account): Acting,
    names: Names,
) -> Result<Json<Value>, Fault> {
    let record = calls::find(&view, &account, names.get("sid")).await?;
    let until_ms = record.ended_ms.unwrap_or_else(wall_ms) + AFTER_MS;
    let lines = view.store.bill(account.sid, record.sid, record.started_ms, until_ms).await;
    let lines = lines.map_err(|_| Fault::store_is_away())?;
    let directory = view.directory.load();
    let currency = directory.price_book(account.sid).map_or("usd", |book| book.currency.as_str());
    let price = lines.iter().map(|line| line.price).fold(0_i64, i64::saturating_add);
    let call_line = lines.iter().any(|line| line.category.starts_with("calls-") && line.category != "calls-recordings");
    Ok(Json(json!({
        "account_sid": account.sid.to_string(),
        "call_sid": record.sid.to_string(),
        // The ledger has the line of a call a moment after its end.
        "status": if call_line { "final" } else { "open" },
        "price": money::format(price),
        "price_unit": currency,
        "lines": lines.iter().map(shown).collect::<Vec<_>>(),
        "uri": format!("/2010-04-01/Accounts/{}/Calls/{}/Bill.json", account.sid, record.sid),
    })))
}

fn shown(line: &BilledLine) -> Value {
    json!({
        "event_sid": line.event,
        "service": line.service,
        "module": line.module,
        "category": line.category,
        "quantity": line.quantity,
        "unit": line.unit,
        "price": money::format(line.price),
        "rule": serde_json::from_str::<Value>(&line.rule).unwrap_or(Value::Null),
        "at": iso_8601(line.at_ms),
    })
}
