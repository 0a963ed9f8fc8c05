//! `Queues`, and their `Members`: who waits, and how long.

use axum::Json;
use axum::extract::{Path, State};
use serde_json::{Map, Value, json};

use super::auth::Acting;
use super::calls;
use super::fault::Fault;
use super::fields::{Field, Shape, Usual, field};
use super::form::Form;
use super::page::Page;
use super::resources::{self, Api, FILTERS, Spec, read_nothing_more};
use crate::account::Account;
use crate::api::View;
use crate::call::Update;
use crate::clock::wall_ms;
use crate::events::{Queue, rfc_2822};
use crate::ids::{CallSid, QueueSid};
use crate::provision::queue_row;
use crate::store::{Kind, Resource};
use crate::twiml::{AtEnd, DocumentSource, NewDocument};

pub static SPEC: Spec = Spec {
    kind: Kind::Queue,
    prefix: "QU",
    path: "/Queues",
    key: "queues",
    fields: FIELDS,
    parent: None,
    uses: None,
    api: Api::Classic,
    filters: FILTERS,
    reads: &[],
    read: read_nothing_more,
    may_go,
    show,
    unique: Some((name, 22_003)),
};

const FIELDS: &[Field] = &[
    field("FriendlyName", "friendly_name", Shape::Text(64), Usual::Required),
    field("MaxSize", "max_size", Shape::Number(1..=5_000), Usual::Number(1_000)),
];

/// What stands for the member whose turn it is.
const FRONT: &str = "Front";

fn name(row: &Resource, detail: &Map<String, Value>) -> Option<String> {
    Some(format!("{} {}", row.account, detail.get("friendly_name")?.as_str()?))
}

fn show(view: &View, row: &Resource, shown: &mut Map<String, Value>) {
    let members = members(view, row);
    let now = wall_ms();
    let waited_s: u64 = members.iter().map(|(_, since)| now.saturating_sub(*since) / 1000).sum();
    shown.insert("current_size".into(), json!(members.len()));
    shown.insert("average_wait_time".into(), json!(waited_s.checked_div(members.len() as u64).unwrap_or(0)));
    let path = format!("/2010-04-01/Accounts/{}/Queues/{}", row.account, row.sid);
    shown.insert("subresource_uris".into(), json!({ "members": format!("{path}/Members.json") }));
}

/// Who waits in a queue since when, the first first.
fn members(view: &View, row: &Resource) -> Vec<(CallSid, u64)> {
    let (Ok(account), Ok(sid)) = (row.account.parse(), row.sid.parse::<QueueSid>()) else { return Vec::new() };
    view.queues.get(account, sid).map(|queue| queue.members).unwrap_or_default()
}

pub(super) async fn list_members(
    State(view): State<View>,
    Acting(account): Acting,
    Path((_, queue)): Path<(String, String)>,
    page: Page,
) -> Result<Json<Value>, Fault> {
    let row = find(&view, &account, &queue).await?;
    let all = members(&view, &row);
    let start = match &page.after {
        None => 0,
        Some(key) => all.iter().position(|(call, _)| call.to_string() == *key).map_or(all.len(), |at| at + 1),
    };
    let shown: Vec<Value> = (start..all.len()).take(page.size as usize).map(|at| resource(&row, at, all[at])).collect();
    let end = start + shown.len();
    let last = (end < all.len()).then(|| all[end - 1].0.to_string());
    let path = format!("/2010-04-01/Accounts/{}/Queues/{}/Members.json", account.sid, row.sid);
    Ok(Json(page.envelope("queue_members", shown, last, &path)))
}

pub(super) async fn fetch_member(
    State(view): State<View>,
    Acting(account): Acting,
    Path((_, queue, name)): Path<(String, String, String)>,
) -> Result<Json<Value>, Fault> {
    let row = find(&view, &account, &queue).await?;
    let (at, member) = member(&view, &row, &name)?;
    Ok(Json(resource(&row, at, member)))
}

/// Takes a member from the queue: this document runs for it.
pub(super) async fn update_member(
    State(view): State<View>,
    Acting(account): Acting,
    Path((_, queue, name)): Path<(String, String, String)>,
    form: Form,
) -> Result<Json<Value>, Fault> {
    let row = find(&view, &account, &queue).await?;
    let (at, member) = member(&view, &row, &name)?;
    let endpoint = form.endpoint("Url", "Method", 21_205)?;
    let endpoint = endpoint.ok_or_else(|| Fault::parameter(21_205, "Url is required: what runs for the member"))?;
    let document = NewDocument { source: DocumentSource::Url(endpoint), fallback: None, at_end: AtEnd::HangUp };
    let record = calls::find(&view, &account, &member.0.to_string()).await?;
    calls::change(&view, &account, &record, Update { document: Some(document), ..Update::default() }).await?;
    Ok(Json(resource(&row, at, member)))
}

/// Only one in which nobody waits: whoever does keeps the place.
fn may_go(view: &View, row: &Resource) -> Result<(), Fault> {
    match members(view, row).is_empty() {
        true => Ok(()),
        false => Err(Fault::parameter(20_001, "Calls wait in the queue: it can be deleted when it is empty")),
    }
}

/// Those that documents have named just now: somebody waits in them, and they are not in the store yet. The newest first.
pub(super) fn unwritten(view: &View, account: &Account) -> Vec<Resource> {
    let directory = view.directory.load();
    let is_new = |queue: &Queue| !queue.members.is_empty() && directory.queue(account.sid, &queue.name).is_none();
    let mut rows: Vec<Resource> = view.queues.find(account.sid, is_new).iter().map(queue_row).collect();
    rows.sort_by(|one, other| other.sid.cmp(&one.sid));
    rows
}

async fn find(view: &View, account: &Account, sid: &str) -> Result<Resource, Fault> {
    let row = resources::find(view, account, Kind::Queue, "", sid).await?;
    row.ok_or_else(|| Fault::not_found(&format!("/2010-04-01/Accounts/{}/Queues/{sid}", account.sid)))
}

/// A member by its call, or the first; with its place.
fn member(view: &View, row: &Resource, name: &str) -> Result<(usize, (CallSid, u64)), Fault> {
    let name = name.strip_suffix(".json").unwrap_or(name);
    let all = members(view, row);
    let at = match name {
        FRONT => (!all.is_empty()).then_some(0),
        name => all.iter().position(|(call, _)| call.to_string() == name),
    };
    let path = || format!("/2010-04-01/Accounts/{}/Queues/{}/Members/{name}", row.account, row.sid);
    at.map(|at| (at, all[at])).ok_or_else(|| Fault::not_found(&path()))
}

fn resource(row: &Resource, at: usize, (call, since_ms): (CallSid, u64)) -> Value {
    json!({
        "queue_sid": row.sid,
        "call_sid": call.to_string(),
        "date_enqueued": rfc_2822(since_ms),
        "position": at + 1,
        "wait_time": wall_ms().saturating_sub(since_ms) / 1000,
        "uri": format!("/2010-04-01/Accounts/{}/Queues/{}/Members/{call}.json", row.account, row.sid),
    })
}
