//! `Usage/Triggers`: a URL that is told when so much was used. Whether it is so, the server looks at by itself.

use axum::Json;
use axum::extract::State;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

use super::auth::{Acting, Names};
use super::fault::Fault;
use super::fields::{self, Field, Shape, Usual, field};
use super::form::{Form, invalid};
use super::page::Page;
use super::resources::{detail, find};
use super::table::Table;
use super::usage::with_those_made;
use crate::account::Account;
use crate::api::View;
use crate::clock::wall_ms;
use crate::events::rfc_2822;
use crate::ids::{fresh_sid, is_sid};
use crate::store::{Kind, Listed, Moment, Resource};
use crate::usage::{Action, Category, DAY_MS, Recurring, Trigger, TriggerBy, money};

const PREFIX: &str = "UT";

/// What may be changed later.
const CHANGEABLE: &[Field] = &[
    field("FriendlyName", "friendly_name", Shape::Text(64), Usual::Text("")),
    field("CallbackUrl", "callback_url", Shape::Url, Usual::Required),
    field("CallbackMethod", "callback_method", Shape::Method, Usual::Text("POST")),
];

const FIXED: &[Field] = &[
    field("Recurring", "recurring", Shape::OneOf(Recurring::NAMES), Usual::Null),
    field("TriggerBy", "trigger_by", Shape::OneOf(TriggerBy::NAMES), Usual::Text("usage")),
    field("UsageCategory", "usage_category", Shape::Text(64), Usual::Required),
    field("TriggerValue", "trigger_value", Shape::Text(20), Usual::Required),
    // Ours, not Twilio's.
    field("Action", "action", Shape::Text(40), Usual::Text("callback")),
];

/// Adds all of it to the table.
pub fn routes(table: Table) -> Table {
    let list_path = "/2010-04-01/Accounts/{account}/Usage/Triggers.json";
    let path = "/2010-04-01/Accounts/{account}/Usage/Triggers/{sid}";
    table
        .on(Method::GET, list_path, list)
        .lists(&["Recurring", "TriggerBy", "UsageCategory"])
        .on(Method::POST, list_path, create)
        .reads_fields(CHANGEABLE)
        .reads_fields(FIXED)
        .on(Method::GET, path, fetch)
        .on(Method::POST, path, update)
        .reads_fields(CHANGEABLE)
        .on(Method::DELETE, path, remove)
}

/// Filtered by `Recurring`, `TriggerBy` and `UsageCategory`.
async fn list(State(view): State<View>, Acting(account): Acting, page: Page) -> Result<Json<Value>, Fault> {
    if let Some(before) = page.after.as_ref().filter(|before| !is_sid(before, PREFIX)) {
        return Err(invalid("PageToken", before, "a token of ours"));
    }
    let sid = account.sid.to_string();
    let filters = [("Recurring", "recurring"), ("TriggerBy", "trigger_by"), ("UsageCategory", "usage_category")];
    let filters: Vec<_> =
        filters.into_iter().filter_map(|(name, key)| Some((key, json!(page.query.text(name)?)))).collect();
    let (mut found, mut before) = (Vec::new(), page.after.clone());
    loop {
        let limit = page.size + 1;
        let listed = Listed { account: &sid, kind: Kind::UsageTrigger, parent: "", before: before.as_deref(), limit };
        let rows = view.store.list(&listed).await.map_err(|_| Fault::store_is_away())?;
        let ends = rows.len() < limit as usize;
        before = rows.last().map(|row| row.sid.clone());
        let takes = |row: &Resource| {
            let detail = detail(row);
            filters.iter().all(|(key, value)| detail.get(*key) == Some(value))
        };
        found.extend(rows.into_iter().filter(takes));
        if ends || found.len() > page.size as usize {
            break;
        }
    }
    let follows = found.len() > page.size as usize;
    found.truncate(page.size as usize);
    let last = found.last().filter(|_| follows).map(|row| row.sid.clone());
    let mut items = Vec::new();
    for row in &found {
        items.push(shown(&view, &account, row).await?);
    }
    let path = format!("/2010-04-01/Accounts/{sid}/Usage/Triggers.json");
    Ok(Json(page.envelope("usage_triggers", items, last, &path)))
}

/// `TriggerValue` is a number, or with a plus before it so much more than was used by now.
async fn create(State(view): State<View>, Acting(account): Acting, form: Form) -> Result<Response, Fault> {
    let mut detail = fields::read(&form, FIXED, None)?;
    detail.extend(fields::read(&form, CHANGEABLE, None)?);
    let text = detail["trigger_value"].as_str().unwrap_or_default().to_owned();
    let number = money::parse(text.strip_prefix('+').unwrap_or(&text))
        .filter(|number| *number >= 0)
        .ok_or_else(|| invalid("TriggerValue", &text, "a number, or +NUMBER for so much more than now"))?;
    let action = detail["action"].as_str().unwrap_or_default();
    if Action::named(action).is_none() {
        return Err(invalid("Action", action, "callback, suspend or limit:calls=NUMBER"));
    }
    let category = detail["usage_category"].as_str().unwrap_or_default();
    if Category::named(category).is_none() {
        return Err(invalid("UsageCategory", category, "a category that is counted here"));
    }
    if text.starts_with('+') {
        let now = current(&view, &account, &detail).await?;
        detail.insert("trigger_value".into(), json!(money::format(number.saturating_add(now))));
    }
    let now = wall_ms();
    let row = Resource {
        kind: Kind::UsageTrigger,
        parent: String::new(),
        sid: fresh_sid(PREFIX, now, crate::api::random()),
        account: account.sid.to_string(),
        unique_name: None,
        detail: Value::Object(detail).to_string(),
        created_ms: now,
        updated_ms: now,
    };
    let trigger = Trigger::read(&row.sid, account.sid, &row.detail);
    view.provisioning.create(row.clone()).await.map_err(|_| Fault::store_is_away())?;
    // What was used before may be enough.
    if let Some(trigger) = trigger
        && let Some(fire) = view.store.look_at_trigger(&trigger, now).await.map_err(|_| Fault::store_is_away())?
    {
        let _ = view.fires.try_send(fire);
        view.hub.look(vec![account.sid]);
    }
    let shown = shown(&view, &account, &row).await?;
    Ok((StatusCode::CREATED, Json(shown)).into_response())
}

async fn fetch(State(view): State<View>, Acting(account): Acting, names: Names) -> Result<Json<Value>, Fault> {
    let row = row_of(&view, &account, &names).await?;
    shown(&view, &account, &row).await.map(Json)
}

async fn update(
    State(view): State<View>,
    Acting(account): Acting,
    names: Names,
    form: Form,
) -> Result<Json<Value>, Fault> {
    let mut row = row_of(&view, &account, &names).await?;
    row.detail = Value::Object(fields::read(&form, CHANGEABLE, Some(detail(&row)))?).to_string();
    row.updated_ms = wall_ms();
    let shown = shown(&view, &account, &row).await?;
    match view.provisioning.update(&account.sid.to_string(), row).await.map_err(|_| Fault::store_is_away())? {
        true => Ok(Json(shown)),
        false => Err(Fault::not_found(names.get("sid"))),
    }
}

async fn remove(State(view): State<View>, Acting(account): Acting, names: Names) -> Result<StatusCode, Fault> {
    let (of, sid) = (account.sid.to_string(), names.get("sid"));
    let deleted = view.provisioning.delete(&of, Kind::UsageTrigger, "", sid).await;
    match deleted.map_err(|_| Fault::store_is_away())? {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(Fault::not_found(sid)),
    }
}

async fn row_of(view: &View, account: &Account, names: &Names) -> Result<Resource, Fault> {
    let found = find(view, account, Kind::UsageTrigger, "", names.get("sid")).await?;
    found.ok_or_else(|| Fault::not_found(names.get("sid")))
}

/// What was used by now, in the measure of a trigger.
async fn current(view: &View, account: &Account, detail: &Map<String, Value>) -> Result<i64, Fault> {
    let text = |key: &str| detail.get(key).and_then(Value::as_str).unwrap_or_default();
    let (Some(category), Some(by)) = (Category::named(text("usage_category")), TriggerBy::named(text("trigger_by")))
    else {
        return Ok(0);
    };
    let recurring = Recurring::named(text("recurring")).unwrap_or(Recurring::AllTime);
    let period = recurring.period(wall_ms());
    let span = Moment { from_ms: Some(period.first_day * DAY_MS), below_ms: None };
    let accounts = with_those_made(account.sid, &view.directory.load());
    let used = view.store.used(&accounts, span).await.map_err(|_| Fault::store_is_away())?;
    Ok(category.sum(&used).by(by))
}

async fn shown(view: &View, account: &Account, row: &Resource) -> Result<Value, Fault> {
    let mut shown = detail(row);
    let current = current(view, account, &shown).await?;
    let fired = shown.remove("fired_ms").and_then(|at| at.as_u64());
    let fired = view.store.last_fired(&row.sid).await.map_err(|_| Fault::store_is_away())?.or(fired);
    let path = format!("/2010-04-01/Accounts/{}/Usage", row.account);
    let category = shown.get("usage_category").and_then(Value::as_str).unwrap_or_default();
    let more = json!({
        "sid": row.sid,
        "account_sid": row.account,
        "api_version": "2010-04-01",
        "current_value": money::format(current),
        "date_created": rfc_2822(row.created_ms),
        "date_updated": rfc_2822(row.updated_ms),
        "date_fired": fired.map(rfc_2822),
        "usage_record_uri": format!("{path}/Records.json?Category={category}"),
        "uri": format!("{path}/Triggers/{}.json", row.sid),
    });
    if let Value::Object(more) = more {
        shown.extend(more);
    }
    Ok(Value::Object(shown))
}
