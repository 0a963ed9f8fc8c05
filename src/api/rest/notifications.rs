//! `Notifications` of a call and of an account, and `Alerts` of `monitor.v1`: the errors and warnings that documents and
//! requests gave, in two forms.

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use super::auth::{Acting, Names};
use super::calls::{self, moment};
use super::fault::Fault;
use super::form::invalid;
use super::page::{Base, Page};
use super::resources::iso_8601;
use crate::account::Account;
use crate::api::View;
use crate::events::{Notification, rfc_2822};
use crate::ids::{CallSid, NotificationSid};
use crate::store::{Moment, NotificationFilter};
use crate::twiml::Severity;

/// What a list of notifications is filtered by.
pub(super) const FILTERS: &[&str] = &["Log", "MessageDate", "MessageDate<", "MessageDate>"];

pub(super) async fn list(State(view): State<View>, Acting(account): Acting, page: Page) -> Result<Json<Value>, Fault> {
    let (found, last) = find(&view, &account, &filter(&page)?, &page).await?;
    let path = format!("/2010-04-01/Accounts/{}/Notifications.json", account.sid);
    let items = found.iter().map(|one| resource(one, &format!("/2010-04-01/Accounts/{}", one.account))).collect();
    Ok(Json(page.envelope("notifications", items, last, &path)))
}

pub(super) async fn list_of_call(
    State(view): State<View>,
    Acting(account): Acting,
    names: Names,
    page: Page,
) -> Result<Json<Value>, Fault> {
    let record = calls::find(&view, &account, names.get("sid")).await?;
    let filter = filter(&page)?;
    let all = record.notifications().filter(|one| filter.takes(one)).collect();
    let (found, last) = page.newest(Vec::new(), all, |one| one.sid, |_| true);
    let path = format!("/2010-04-01/Accounts/{}/Calls/{}", account.sid, record.sid);
    let items = found.iter().map(|one| resource(one, &path)).collect();
    Ok(Json(page.envelope("notifications", items, last, &format!("{path}/Notifications.json"))))
}

pub(super) async fn fetch(
    State(view): State<View>,
    Acting(account): Acting,
    names: Names,
) -> Result<Json<Value>, Fault> {
    let found = find_one(&view, &account, names.get("sid")).await?;
    Ok(Json(resource(&found, &format!("/2010-04-01/Accounts/{}", account.sid))))
}

pub(super) async fn fetch_of_call(
    State(view): State<View>,
    Acting(account): Acting,
    names: Names,
) -> Result<Json<Value>, Fault> {
    let record = calls::find(&view, &account, names.get("sid")).await?;
    let found = record.notifications().find(|one| one.sid.to_string() == names.get("name"));
    let path = format!("/2010-04-01/Accounts/{}/Calls/{}", account.sid, record.sid);
    found.map(|one| Json(resource(&one, &path))).ok_or_else(|| Fault::not_found(names.get("name")))
}

/// Filtered by `LogLevel`, `StartDate` and `EndDate`.
pub(super) async fn list_alerts(
    State(view): State<View>,
    Acting(account): Acting,
    base: Base,
    page: Page,
) -> Result<Json<Value>, Fault> {
    let severity = match page.query.text("LogLevel") {
        None => None,
        Some("error") => Some(Severity::Error),
        Some("warning") => Some(Severity::Warning),
        // Levels that nothing here has.
        Some("notice" | "debug") => {
            return Ok(Json(page.envelope_v1("alerts", Vec::new(), None, &format!("{base}/v1/Alerts"))));
        }
        Some(other) => return Err(invalid("LogLevel", other, "error, warning, notice or debug")),
    };
    let at = Moment {
        from_ms: calls::span(&page.query, "StartDate")?.map(|(first, _)| first),
        below_ms: calls::span(&page.query, "EndDate")?.map(|(_, end)| end),
    };
    let filter = NotificationFilter { severity, before: page.before()?, at };
    let (found, last) = find(&view, &account, &filter, &page).await?;
    let items = found.iter().map(|one| alert(one, &base)).collect();
    Ok(Json(page.envelope_v1("alerts", items, last, &format!("{base}/v1/Alerts"))))
}

pub(super) async fn fetch_alert(
    State(view): State<View>,
    Acting(account): Acting,
    names: Names,
    base: Base,
) -> Result<Json<Value>, Fault> {
    Ok(Json(alert(&find_one(&view, &account, names.get("sid")).await?, &base)))
}

fn filter(page: &Page) -> Result<NotificationFilter, Fault> {
    let severity = page.query.number("Log", 0..=1)?;
    let severity = severity.map(|log| if log == 0 { Severity::Error } else { Severity::Warning });
    Ok(NotificationFilter { severity, before: page.before()?, at: moment(&page.query, "MessageDate")? })
}

/// Those of the store and of calls that it does not have yet: what the page holds, and the key of its last if more follow.
async fn find(
    view: &View,
    account: &Account,
    filter: &NotificationFilter,
    page: &Page,
) -> Result<(Vec<Notification>, Option<String>), Fault> {
    let live = calls::live(view, account, |record| record.notifications().next().is_some()).await?;
    let stored = view.store.find_notifications(account.sid, filter, page.wanted()).await;
    let stored = stored.map_err(|_| Fault::store_is_away())?;
    let live = live.iter().flat_map(|record| record.notifications()).collect();
    Ok(page.newest(live, stored, |one| one.sid, |one| filter.takes(one)))
}

async fn find_one(view: &View, account: &Account, name: &str) -> Result<Notification, Fault> {
    let sid: NotificationSid = name.parse().map_err(|_| Fault::not_found(name))?;
    let live = calls::live(view, account, |record| record.notifications().any(|one| one.sid == sid)).await?;
    if let Some(found) = live.iter().flat_map(|record| record.notifications()).find(|one| one.sid == sid) {
        return Ok(found);
    }
    let stored = view.store.notification(account.sid, sid).await.map_err(|_| Fault::store_is_away())?;
    stored.ok_or_else(|| Fault::not_found(name))
}

/// `path` is that of what it is shown below.
fn resource(notification: &Notification, path: &str) -> Value {
    let Notification { sid, account, call, at_ms, notice } = notification;
    let at = rfc_2822(*at_ms);
    json!({
        "sid": sid,
        "account_sid": account,
        "call_sid": call_of(*call),
        "api_version": "2010-04-01",
        "log": if notice.severity == Severity::Error { "0" } else { "1" },
        "error_code": notice.code.to_string(),
        "message_text": notice.text,
        "more_info": more_info(notice.code),
        "message_date": at,
        "date_created": at,
        "date_updated": at,
        "request_method": Value::Null,
        "request_url": notice.url,
        "request_variables": Value::Null,
        "response_body": Value::Null,
        "response_headers": Value::Null,
        "uri": format!("{path}/Notifications/{sid}.json"),
    })
}

fn alert(notification: &Notification, base: &Base) -> Value {
    let Notification { sid, account, call, at_ms, notice } = notification;
    let at = iso_8601(*at_ms);
    json!({
        "sid": sid,
        "account_sid": account,
        "resource_sid": call_of(*call),
        "service_sid": Value::Null,
        "api_version": "2010-04-01",
        "log_level": if notice.severity == Severity::Error { "error" } else { "warning" },
        "error_code": notice.code.to_string(),
        "alert_text": notice.text,
        "more_info": more_info(notice.code),
        "date_generated": at,
        "date_created": at,
        "date_updated": at,
        "request_method": Value::Null,
        "request_url": notice.url,
        "request_variables": Value::Null,
        "request_headers": Value::Null,
        "response_body": Value::Null,
        "response_headers": Value::Null,
        "url": format!("{base}/v1/Alerts/{sid}"),
    })
}

/// What is told of a sink is of no call.
fn call_of(call: CallSid) -> Option<CallSid> {
    (call.bits() != 0).then_some(call)
}

fn more_info(code: u32) -> String {
    format!("https://www.twilio.com/docs/errors/{code}")
}
