//! `events.v1`: sinks, to which events are sent as they happen, and subscriptions, which say which of them.

use axum::Json;
use axum::extract::State;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};
use url::Url;

use super::auth::{Acting, Names};
use super::fault::Fault;
use super::fields::{Shape, Usual, field, missing};
use super::form::{Form, invalid};
use super::page::{Base, Page};
use super::resources::{Api, Spec, detail, find, may_always_go};
use super::table::Table;
use crate::account::Account;
use crate::api::View;
use crate::clock::wall_ms;
use crate::eventlog::{EventType, TYPES, named};
use crate::store::{Kind, Resource};

static SINKS: Spec = Spec {
    kind: Kind::Sink,
    prefix: "DG",
    path: "/Sinks",
    key: "sinks",
    fields: &[field("Description", "description", Shape::Text(255), Usual::Text(""))],
    parent: None,
    uses: None,
    api: Api::V1,
    filters: &[("Status", "status")],
    reads: &["SinkType", "SinkConfiguration"],
    read: read_sink,
    may_go: not_while_in_use,
    show: show_sink,
    unique: None,
};

static SUBSCRIPTIONS: Spec = Spec {
    kind: Kind::Subscription,
    prefix: "DF",
    path: "/Subscriptions",
    key: "subscriptions",
    fields: &[
        field("Description", "description", Shape::Text(255), Usual::Text("")),
        field("SinkSid", "sink_sid", Shape::Sid(Kind::Sink, 20_001), Usual::Required),
    ],
    filters: &[("SinkSid", "sink_sid")],
    reads: &["Types"],
    read: read_subscription,
    may_go: may_always_go,
    show: show_subscription,
    ..SINKS
};

/// Every kind has one form so far.
const SCHEMA_VERSION: u32 = 1;

/// A sink that wants to know whether an event reaches it.
pub struct SinkTest {
    pub account: crate::ids::AccountSid,
    pub url: String,
    pub test_id: String,
}

pub fn routes(table: Table) -> Table {
    let table = SUBSCRIPTIONS.routes(SINKS.routes(table));
    let events = "/v1/Subscriptions/{sid}/SubscribedEvents";
    let event = format!("{events}/{{name}}");
    table
        .on(Method::POST, "/v1/Sinks/{sid}/Test", test)
        .on(Method::POST, "/v1/Sinks/{sid}/Validate", validate)
        .reads(&["TestId"])
        .on(Method::GET, events, list_subscribed)
        .lists(&[])
        .on(Method::POST, events, subscribe)
        .reads(&["Type", "SchemaVersion"])
        .on(Method::GET, &event, fetch_subscribed)
        .on(Method::POST, &event, update_subscribed)
        .reads(&["SchemaVersion"])
        .on(Method::DELETE, &event, unsubscribe)
        .on(Method::GET, "/v1/Types", list_types)
        .lists(&["SchemaId"])
        .on(Method::GET, "/v1/Types/{name}", fetch_type)
}

fn read_sink(_: &View, form: &Form, present: Option<&Resource>, sink: &mut Map<String, Value>) -> Result<(), Fault> {
    if present.is_some() {
        return Ok(());
    }
    match form.text("SinkType").ok_or_else(|| missing("SinkType"))? {
        "webhook" => sink.insert("sink_type".into(), json!("webhook")),
        other => return Err(invalid("SinkType", other, "webhook: there are no other sinks on this server")),
    };
    let text = form.text("SinkConfiguration").ok_or_else(|| missing("SinkConfiguration"))?;
    let Ok(Value::Object(given)) = serde_json::from_str(text) else {
        return Err(invalid("SinkConfiguration", text, "an object of JSON"));
    };
    let of = |names: [&str; 2]| names.into_iter().find_map(|name| given.get(name));
    let url = of(["destination", "Destination"]).and_then(Value::as_str).unwrap_or_default();
    if !Url::parse(url).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host()) {
        return Err(Fault::parameter(20_001, format!("SinkConfiguration: destination {url} is not a valid URL")));
    }
    let method = of(["method", "Method"]).and_then(Value::as_str).unwrap_or("POST");
    if !method.eq_ignore_ascii_case("POST") {
        return Err(Fault::parameter(
            20_001,
            format!("SinkConfiguration: method {method} cannot carry events; POST does"),
        ));
    }
    let batch = match of(["batch_events", "batchEvents"]) {
        None => true,
        Some(Value::Bool(batch)) => *batch,
        Some(Value::String(text)) if text == "true" || text == "false" => text == "true",
        Some(other) => return Err(invalid("SinkConfiguration: batch_events", &other.to_string(), "true or false")),
    };
    let configuration = json!({ "destination": url, "method": "POST", "batch_events": batch });
    sink.insert("sink_configuration".into(), configuration);
    sink.insert("status".into(), json!("initialized"));
    Ok(())
}

fn not_while_in_use(view: &View, sink: &Resource) -> Result<(), Fault> {
    match view.directory.load().has_subscription(&sink.sid) {
        true => Err(Fault::new(400, 20_001, format!("Sink {} has subscriptions: delete those first", sink.sid))),
        false => Ok(()),
    }
}

fn show_sink(_: &View, sink: &Resource, shown: &mut Map<String, Value>) {
    shown.remove("account_sid");
    shown.remove("test_id");
    let url = shown.get("url").and_then(Value::as_str).unwrap_or_default();
    let links = json!({ "sink_test": format!("{url}/Test"), "sink_validate": format!("{url}/Validate") });
    debug_assert!(url.ends_with(&sink.sid));
    shown.insert("links".into(), links);
}

/// Sends an event that says its own name, which whoever reads the sink brings back to [`validate`].
async fn test(State(view): State<View>, Acting(account): Acting, names: Names) -> Result<Response, Fault> {
    let sid = names.get("sid");
    let mut sink = sink_of(&view, &account, sid).await?;
    let mut said = detail(&sink);
    let test_id = format!("{:032x}", crate::api::random());
    let url =
        said.get("sink_configuration").and_then(|it| it.get("destination")).and_then(Value::as_str).unwrap_or_default();
    let test = SinkTest { account: account.sid, url: url.to_owned(), test_id: test_id.clone() };
    said.insert("test_id".into(), json!(test_id));
    said.insert("status".into(), json!("validating"));
    change(&view, &mut sink, said).await?;
    view.sink_tests.try_send(test).map_err(|_| Fault::unavailable("Too many sinks are tested at once"))?;
    Ok((StatusCode::CREATED, Json(json!({ "result": "submitted" }))).into_response())
}

async fn validate(
    State(view): State<View>,
    Acting(account): Acting,
    names: Names,
    form: Form,
) -> Result<Response, Fault> {
    let mut sink = sink_of(&view, &account, names.get("sid")).await?;
    let given = form.text("TestId").ok_or_else(|| missing("TestId"))?;
    let mut said = detail(&sink);
    if said.get("test_id").and_then(Value::as_str) != Some(given) {
        return Err(Fault::parameter(20_001, "TestId is not that of the last test event of this sink"));
    }
    said.insert("status".into(), json!("active"));
    said.remove("test_id");
    change(&view, &mut sink, said).await?;
    Ok((StatusCode::CREATED, Json(json!({ "result": "valid" }))).into_response())
}

async fn sink_of(view: &View, account: &Account, sid: &str) -> Result<Resource, Fault> {
    find(view, account, Kind::Sink, "", sid).await?.ok_or_else(|| Fault::not_found(sid))
}

async fn change(view: &View, row: &mut Resource, said: Map<String, Value>) -> Result<(), Fault> {
    row.detail = Value::Object(said).to_string();
    row.updated_ms = wall_ms();
    let done = view.provisioning.update(&row.account.clone(), row.clone()).await.map_err(|_| Fault::store_is_away())?;
    if done { Ok(()) } else { Err(Fault::not_found(&row.sid)) }
}

/// `Types`: of each the name and perhaps a version, as JSON; one or an array.
fn read_subscription(
    _: &View,
    form: &Form,
    present: Option<&Resource>,
    subscription: &mut Map<String, Value>,
) -> Result<(), Fault> {
    if let Some(row) = present {
        // Only its description can be changed.
        let before = detail(row);
        subscription.insert("sink_sid".into(), before.get("sink_sid").cloned().unwrap_or_default());
        return Ok(());
    }
    let mut types = Map::new();
    for text in form.values("Types") {
        let wrong = || invalid("Types", text, "an object of JSON with a type and a schema_version");
        let given: Value = serde_json::from_str(text).map_err(|_| wrong())?;
        let given = if let Value::Array(all) = given { all } else { vec![given] };
        for one in given {
            let name = one.get("type").and_then(Value::as_str).ok_or_else(wrong)?;
            types.insert(known(name)?.name.to_owned(), json!(version(one.get("schema_version"))?));
        }
    }
    if types.is_empty() {
        return Err(missing("Types"));
    }
    subscription.insert("types".into(), Value::Object(types));
    Ok(())
}

fn known(name: &str) -> Result<&'static EventType, Fault> {
    named(name).ok_or_else(|| {
        let all: Vec<&str> = TYPES.iter().map(|kind| kind.name).collect();
        Fault::parameter(20_001, format!("There are no events of the type {name}; there are {}", all.join(", ")))
    })
}

fn version(given: Option<&Value>) -> Result<u32, Fault> {
    let number = match given {
        None | Some(Value::Null) => return Ok(SCHEMA_VERSION),
        Some(Value::String(text)) => text.parse().ok(),
        Some(other) => other.as_u64(),
    };
    match number {
        Some(number) if number == u64::from(SCHEMA_VERSION) => Ok(SCHEMA_VERSION),
        _ => Err(Fault::parameter(20_001, format!("schema_version: there is only {SCHEMA_VERSION}"))),
    }
}

fn show_subscription(_: &View, _: &Resource, shown: &mut Map<String, Value>) {
    shown.remove("types");
    let url = shown.get("url").and_then(Value::as_str).unwrap_or_default();
    shown.insert("links".into(), json!({ "subscribed_events": format!("{url}/SubscribedEvents") }));
}

async fn subscription_of(view: &View, account: &Account, sid: &str) -> Result<(Resource, Map<String, Value>), Fault> {
    let row = find(view, account, Kind::Subscription, "", sid).await?.ok_or_else(|| Fault::not_found(sid))?;
    let types = detail(&row).get("types").and_then(Value::as_object).cloned().unwrap_or_default();
    Ok((row, types))
}

async fn with_types(view: &View, mut row: Resource, types: Map<String, Value>) -> Result<(), Fault> {
    let mut said = detail(&row);
    said.insert("types".into(), Value::Object(types));
    change(view, &mut row, said).await
}

fn subscribed(row: &Resource, kind: &str, base: &Base) -> Value {
    json!({
        "account_sid": row.account,
        "subscription_sid": row.sid,
        "type": kind,
        "schema_version": SCHEMA_VERSION,
        "url": format!("{base}/v1/Subscriptions/{}/SubscribedEvents/{kind}", row.sid),
    })
}

async fn list_subscribed(
    State(view): State<View>,
    Acting(account): Acting,
    names: Names,
    base: Base,
    page: Page,
) -> Result<Json<Value>, Fault> {
    let (row, types) = subscription_of(&view, &account, names.get("sid")).await?;
    let url = format!("{base}/v1/Subscriptions/{}/SubscribedEvents", row.sid);
    Ok(Json(by_name(&page, "types", types.keys().map(|kind| (kind.as_str(), subscribed(&row, kind, &base))), &url)))
}

async fn subscribe(
    State(view): State<View>,
    Acting(account): Acting,
    names: Names,
    base: Base,
    form: Form,
) -> Result<Response, Fault> {
    let (row, mut types) = subscription_of(&view, &account, names.get("sid")).await?;
    let kind = known(form.text("Type").ok_or_else(|| missing("Type"))?)?;
    version(form.text("SchemaVersion").map(|text| json!(text)).as_ref())?;
    types.insert(kind.name.to_owned(), json!(SCHEMA_VERSION));
    let shown = subscribed(&row, kind.name, &base);
    with_types(&view, row, types).await?;
    Ok((StatusCode::CREATED, Json(shown)).into_response())
}

async fn fetch_subscribed(
    State(view): State<View>,
    Acting(account): Acting,
    names: Names,
    base: Base,
) -> Result<Json<Value>, Fault> {
    let (row, types) = subscription_of(&view, &account, names.get("sid")).await?;
    match types.contains_key(names.get("name")) {
        true => Ok(Json(subscribed(&row, names.get("name"), &base))),
        false => Err(Fault::not_found(names.get("name"))),
    }
}

async fn update_subscribed(
    State(view): State<View>,
    Acting(account): Acting,
    names: Names,
    base: Base,
    form: Form,
) -> Result<Json<Value>, Fault> {
    let shown = fetch_subscribed(State(view), Acting(account), names, base).await?;
    version(form.text("SchemaVersion").map(|text| json!(text)).as_ref())?;
    Ok(shown)
}

async fn unsubscribe(State(view): State<View>, Acting(account): Acting, names: Names) -> Result<StatusCode, Fault> {
    let (row, mut types) = subscription_of(&view, &account, names.get("sid")).await?;
    if types.remove(names.get("name")).is_none() {
        return Err(Fault::not_found(names.get("name")));
    }
    with_types(&view, row, types).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn list_types(Acting(_): Acting, base: Base, page: Page) -> Result<Json<Value>, Fault> {
    let wanted = page.query.text("SchemaId");
    let kinds = TYPES.iter().filter(|kind| wanted.is_none_or(|wanted| kind.short == wanted));
    let shown = kinds.map(|kind| (kind.name, event_type(kind, &base)));
    Ok(Json(by_name(&page, "types", shown, &format!("{base}/v1/Types"))))
}

async fn fetch_type(Acting(_): Acting, names: Names, base: Base) -> Result<Json<Value>, Fault> {
    let kind = TYPES.iter().find(|kind| kind.name == names.get("name"));
    kind.map(|kind| Json(event_type(kind, &base))).ok_or_else(|| Fault::not_found(names.get("name")))
}

fn event_type(kind: &EventType, base: &Base) -> Value {
    json!({
        "type": kind.name,
        "schema_id": kind.short,
        "description": kind.description,
        "status": "GA",
        "public": true,
        "date_created": "2026-11-26T00:00:00Z",
        "date_updated": "2026-11-26T00:00:00Z",
        "documentation_url": Value::Null,
        "url": format!("{base}/v1/Types/{}", kind.name),
        "links": {},
    })
}

/// A page of a list that is known whole, by its names.
fn by_name<'a>(page: &Page, key: &str, all: impl Iterator<Item = (&'a str, Value)>, url: &str) -> Value {
    let mut all: Vec<(&str, Value)> = all.collect();
    all.sort_by_key(|(name, _)| *name);
    all.retain(|(name, _)| page.after.as_deref().is_none_or(|after| *name > after));
    let follows = all.len() > page.size as usize;
    all.truncate(page.size as usize);
    let last = all.last().filter(|_| follows).map(|(name, _)| (*name).to_owned());
    page.envelope_v1(key, all.into_iter().map(|(_, shown)| shown).collect(), last, url)
}
