//! `Events` of a call: what its application was asked, and how that went.

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use super::auth::{Acting, Names};
use super::calls;
use super::fault::Fault;
use super::form::invalid;
use super::page::Page;
use crate::api::View;
use crate::events::{CallRecord, EventKind, rfc_2822};

/// The oldest first.
pub(super) async fn list(
    State(view): State<View>,
    Acting(account): Acting,
    names: Names,
    page: Page,
) -> Result<Json<Value>, Fault> {
    let record = calls::find(&view, &account, names.get("sid")).await?;
    let after: Option<u32> = match &page.after {
        None => None,
        Some(key) => Some(key.parse().map_err(|_| invalid("PageToken", key, "a token of ours"))?),
    };
    let mut found: Vec<(u32, Value)> =
        requests(&record).filter(|(sequence, _)| after.is_none_or(|after| *sequence > after)).collect();
    let follows = found.len() > page.size as usize;
    found.truncate(page.size as usize);
    let last = found.last().filter(|_| follows).map(|(sequence, _)| sequence.to_string());
    let path = format!("/2010-04-01/Accounts/{}/Calls/{}/Events.json", account.sid, record.sid);
    Ok(Json(page.envelope("events", found.into_iter().map(|(_, event)| event).collect(), last, &path)))
}

fn requests(record: &CallRecord) -> impl Iterator<Item = (u32, Value)> {
    record.events.iter().filter_map(|told| match &told.kind {
        EventKind::Requested { url, reason, error, duration_ms, .. } => Some((
            told.sequence,
            json!({
                "request": { "url": url, "method": Value::Null, "parameters": { "reason": reason } },
                "response": {
                    "date_created": rfc_2822(told.at_ms),
                    "request_duration": duration_ms,
                    "error_code": error,
                },
            }),
        )),
        _ => None,
    })
}
