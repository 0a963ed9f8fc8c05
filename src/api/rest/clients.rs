//! `Clients`: who can be reached, and by which devices. An identity has no more to it: one that has never been anywhere is offline.

use axum::Json;
use axum::extract::State;
use axum::http::{Method, StatusCode};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use super::auth::{Acting, Names};
use super::fault::Fault;
use super::page::Page;
use super::table::Table;
use crate::account::Account;
use crate::api::View;
use crate::clock::wall_ms;
use crate::edges::kind;
use crate::events::rfc_2822;
use crate::presence::{ClientId, Device, Record};

pub fn routes(table: Table) -> Table {
    let below = |path: &str| format!("/2010-04-01/Accounts/{{account}}/Clients{path}");
    table
        .on(Method::GET, &below(".json"), list)
        .lists(&["Available"])
        .on(Method::GET, &below("/{sid}"), fetch)
        .on(Method::GET, &below("/{sid}/Devices.json"), list_devices)
        .lists(&[])
        .on(Method::DELETE, &below("/{sid}/Devices/{name}"), remove_device)
}

/// Those who have any device, or said something of themselves; by name.
async fn list(State(view): State<View>, Acting(account): Acting, page: Page) -> Result<Json<Value>, Fault> {
    let (now_ms, wanted) = (wall_ms(), page.query.flag("Available")?);
    let mut found = view.presence.of_account(account.sid);
    found.retain(|(_, record)| wanted.is_none_or(|wanted| wanted == record.is_available(now_ms)));
    found.retain(|(identity, _)| page.after.as_ref().is_none_or(|after| **identity > **after));
    let follows = found.len() > page.size as usize;
    found.truncate(page.size as usize);
    let last = found.last().filter(|_| follows).map(|(identity, _)| identity.to_string());
    let items = found.iter().map(|(identity, record)| resource(&account, identity, record, now_ms)).collect();
    Ok(Json(page.envelope("clients", items, last, &format!("/2010-04-01/Accounts/{}/Clients.json", account.sid))))
}

async fn fetch(State(view): State<View>, Acting(account): Acting, names: Names) -> Json<Value> {
    let client = client_of(&account, &names);
    Json(resource(&account, &client.identity, &view.presence.record(&client), wall_ms()))
}

async fn list_devices(
    State(view): State<View>,
    Acting(account): Acting,
    names: Names,
    page: Page,
) -> Result<Json<Value>, Fault> {
    let (client, now_ms) = (client_of(&account, &names), wall_ms());
    let record = view.presence.record(&client);
    let path = path(&account, &client.identity);
    let mut found: Vec<&Device> = record.devices(now_ms).collect();
    found.sort_by(|one, other| one.sid.cmp(&other.sid));
    found.retain(|device| page.after.as_ref().is_none_or(|after| device.sid > *after));
    let follows = found.len() > page.size as usize;
    found.truncate(page.size as usize);
    let last = found.last().filter(|_| follows).map(|device| device.sid.clone());
    let items = found.iter().map(|one| device(&account, &client, &record, one, now_ms)).collect();
    Ok(Json(page.envelope("devices", items, last, &format!("{path}/Devices.json"))))
}

/// Takes a device's registration away, at whichever edge it is. It may register again.
async fn remove_device(State(view): State<View>, Acting(account): Acting, names: Names) -> Result<StatusCode, Fault> {
    let (client, sid) = (client_of(&account, &names), names.get("name").to_owned());
    if !view.presence.record(&client).devices(wall_ms()).any(|device| device.sid == sid) {
        return Err(Fault::not_found(&sid));
    }
    if let (Some(edges), Ok(body)) = (&view.edges, serde_json::to_vec(&(&client, &sid))) {
        edges.letter_to_all(kind::DEVICE_REMOVED, &body.into());
    }
    view.remove_device(&client, &sid);
    Ok(StatusCode::NO_CONTENT)
}

fn client_of(account: &Account, names: &Names) -> ClientId {
    ClientId { account: account.sid, identity: names.get("sid").into() }
}

fn path(account: &Account, identity: &str) -> String {
    format!("/2010-04-01/Accounts/{}/Clients/{}", account.sid, utf8_percent_encode(identity, NON_ALPHANUMERIC))
}

fn resource(account: &Account, identity: &str, record: &Record, now_ms: u64) -> Value {
    let path = path(account, identity);
    let changed = record.version;
    json!({
        "account_sid": account.sid.to_string(),
        "identity": identity,
        "available": record.is_available(now_ms),
        "status": record.status(now_ms).as_str(),
        "note": record.published(now_ms).map(|published| &published.note).filter(|note| !note.is_empty()),
        "devices": record.devices(now_ms).count(),
        "version": changed,
        "date_updated": (changed > 0).then(|| rfc_2822(changed)),
        "uri": format!("{path}.json"),
        "subresource_uris": { "devices": format!("{path}/Devices.json") },
    })
}

fn device(account: &Account, client: &ClientId, record: &Record, device: &Device, now_ms: u64) -> Value {
    json!({
        "sid": device.sid,
        "account_sid": account.sid.to_string(),
        "identity": client.identity,
        "kind": device.kind.as_str(),
        "user_agent": device.user_agent,
        "contact": (!device.contact.is_empty()).then_some(&device.contact),
        "available": record.takes_calls(device, now_ms),
        "in_call": record.is_in_call(device),
        "date_created": rfc_2822(device.since_ms),
        "date_expires": rfc_2822(device.expires_ms),
        "uri": format!("{}/Devices/{}.json", path(account, &client.identity), device.sid),
    })
}
