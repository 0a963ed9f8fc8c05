//! `Notifications` of a call: the errors and warnings that its documents and requests gave.

use axum::Json;
use axum::extract::{Path, State};
use serde_json::{Value, json};

use super::auth::Acting;
use super::calls::find;
use super::fault::Fault;
use super::page::Page;
use crate::api::View;
use crate::events::{CallRecord, EventKind, Told, rfc_2822};
use crate::ids::NotificationSid;
use crate::twiml::{Notice, Severity};

/// Filtered by `Log`: 0 are errors, 1 are warnings.
pub(super) async fn list(
    State(view): State<View>,
    Acting(account): Acting,
    Path((_, call)): Path<(String, String)>,
    page: Page,
) -> Result<Json<Value>, Fault> {
    let wanted = page.query.number("Log", 0..=1)?;
    let record = find(&view, &account, &call).await?;
    let all = notices(&record).filter(|(_, notice)| wanted.is_none_or(|log| log == level(notice)));
    let left = all.map(|(told, notice)| (sid(&record, told), resource(&record, told, notice)));
    let left = left.skip_while(|(sid, _)| page.after.as_ref().is_some_and(|after| after != sid));
    // The page begins behind the last entry of the one before.
    let mut left = left.skip(usize::from(page.after.is_some())).peekable();
    let (mut items, mut last) = (Vec::new(), None);
    while let Some((sid, item)) = left.next_if(|_| items.len() < page.size as usize) {
        items.push(item);
        last = Some(sid);
    }
    let last = left.peek().and(last);
    let path = format!("/2010-04-01/Accounts/{}/Calls/{}/Notifications.json", account.sid, record.sid);
    Ok(Json(page.envelope("notifications", items, last, &path)))
}

pub(super) async fn fetch(
    State(view): State<View>,
    Acting(account): Acting,
    Path((_, call, name)): Path<(String, String, String)>,
) -> Result<Json<Value>, Fault> {
    let record = find(&view, &account, &call).await?;
    let wanted = name.strip_suffix(".json").unwrap_or(&name);
    let found = notices(&record).find(|(told, _)| sid(&record, told) == wanted);
    let not_found =
        || Fault::not_found(&format!("/2010-04-01/Accounts/{}/Calls/{call}/Notifications/{name}", account.sid));
    found.map(|(told, notice)| Json(resource(&record, told, notice))).ok_or_else(not_found)
}

fn notices(record: &CallRecord) -> impl Iterator<Item = (&Told, &Notice)> {
    record.events.iter().filter_map(|told| match &told.kind {
        EventKind::Noticed(notice) => Some((told, notice)),
        _ => None,
    })
}

/// Made of the call's own and the event's number, so that it is the same each time.
fn sid(record: &CallRecord, told: &Told) -> String {
    NotificationSid::new(record.sid.bits() ^ u128::from(told.sequence + 1)).to_string()
}

fn level(notice: &Notice) -> u32 {
    match notice.severity {
        Severity::Error => 0,
        Severity::Warning => 1,
    }
}

fn resource(record: &CallRecord, told: &Told, notice: &Notice) -> Value {
    let sid = sid(record, told);
    let at = rfc_2822(told.at_ms);
    json!({
        "sid": sid,
        "account_sid": record.account.to_string(),
        "call_sid": record.sid.to_string(),
        "api_version": "2010-04-01",
        "log": level(notice).to_string(),
        "error_code": notice.code.to_string(),
        "message_text": notice.text,
        "more_info": format!("https://www.twilio.com/docs/errors/{}", notice.code),
        "message_date": at,
        "date_created": at,
        "date_updated": at,
        "request_method": Value::Null,
        "request_url": notice.url,
        "request_variables": Value::Null,
        "response_body": Value::Null,
        "response_headers": Value::Null,
        "uri": format!("/2010-04-01/Accounts/{}/Calls/{}/Notifications/{sid}.json", record.account, record.sid),
    })
}
