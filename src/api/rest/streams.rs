//! `Streams` of a call: its sound to a WebSocket of its application, begun and stopped from outside.

use std::sync::LazyLock;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use url::Url;

use super::auth::Acting;
use super::calls;
use super::fault::Fault;
use super::form::{Form, invalid};
use crate::account::Account;
use crate::api::View;
use crate::call::{StreamChange, Update};
use crate::clock::wall_ms;
use crate::events::{CallRecord, rfc_2822};
use crate::ids::{CallSid, StreamSid};
use crate::twiml::{RecordingTrack, StreamSpec};

pub(super) const UPDATE: &[&str] = &["Status"];

/// What begins one: 99 parameters among it.
pub(super) static CREATE: LazyLock<Vec<&'static str>> = LazyLock::new(|| {
    let own = ["Url", "Name", "Track", "StatusCallback", "StatusCallbackMethod"];
    let parameters = (1..=99).flat_map(|number| ["Name", "Value"].map(|part| &*parameter(number, part).leak()));
    own.into_iter().chain(parameters).collect()
});

/// Twilio's number for a stream without a URL that it could go to.
const INVALID_URL: u32 = 31_941;
/// Of one parameter, name and value together, as at Twilio.
const MAX_PARAMETER_CHARS: usize = 500;

fn parameter(number: u32, part: &str) -> String {
    format!("Parameter{number}.{part}")
}

pub(super) async fn create(
    State(view): State<View>,
    Acting(account): Acting,
    Path((_, call)): Path<(String, String)>,
    form: Form,
) -> Result<Response, Fault> {
    let record = calls::find(&view, &account, &call).await?;
    let url = form.text("Url").ok_or_else(|| Fault::parameter(INVALID_URL, "Parameter Url is missing"))?;
    if !Url::parse(url).is_ok_and(|url| matches!(url.scheme(), "ws" | "wss") && url.has_host()) {
        return Err(Fault::parameter(INVALID_URL, format!("Url is no ws or wss URL: {url}")));
    }
    let track = match form.text("Track") {
        None | Some("inbound_track") => RecordingTrack::Inbound,
        Some("outbound_track") => RecordingTrack::Outbound,
        Some("both_tracks") => RecordingTrack::Both,
        Some(other) => return Err(invalid("Track", other, "inbound_track, outbound_track or both_tracks")),
    };
    let spec = StreamSpec {
        url: url.to_owned(),
        name: form.text("Name").map(str::to_owned),
        track,
        player: None,
        params: parameters(&form)?,
        callback: form.endpoint("StatusCallback", "StatusCallbackMethod", 20_001)?,
    };
    let sid = StreamSid::at(wall_ms(), crate::api::random());
    let name = spec.name.clone();
    change(&view, &account, &record, StreamChange::Start { sid, spec }).await?;
    let made = resource(&account, record.sid, sid, name.as_deref(), "in-progress");
    Ok((StatusCode::CREATED, Json(made)).into_response())
}

fn parameters(form: &Form) -> Result<Vec<(String, String)>, Fault> {
    let mut found = Vec::new();
    for number in 1..=99 {
        let Some(name) = form.text(&parameter(number, "Name")) else { continue };
        let value = form.given(&parameter(number, "Value")).unwrap_or_default();
        if name.chars().count() + value.chars().count() > MAX_PARAMETER_CHARS {
            let text = format!("Parameter{number} has more than {MAX_PARAMETER_CHARS} characters");
            return Err(Fault::parameter(20_001, text));
        }
        found.push((name.to_owned(), value.to_owned()));
    }
    Ok(found)
}

/// Stops one, by its sid or its name.
pub(super) async fn update(
    State(view): State<View>,
    Acting(account): Acting,
    Path((_, call, name)): Path<(String, String, String)>,
    form: Form,
) -> Result<Json<Value>, Fault> {
    let record = calls::find(&view, &account, &call).await?;
    let named = name.strip_suffix(".json").unwrap_or(&name).to_owned();
    let not_found = || Fault::not_found(&format!("{}/{name}", path(&account, record.sid)));
    view.publisher.catch_up().await;
    let is_it = |stream: &crate::events::Stream| {
        stream.call == record.sid
            && (stream.fact.sid.to_string() == named || stream.fact.name.as_deref() == Some(&*named))
    };
    let found = view.streams.find(account.sid, is_it).into_iter().next().ok_or_else(not_found)?;
    match form.text("Status") {
        Some("stopped") => {}
        Some(other) => return Err(invalid("Status", other, "stopped")),
        None => return Err(Fault::parameter(20_001, "Parameter Status is missing")),
    }
    let stop = StreamChange::Stop(found.fact.sid.to_string());
    change(&view, &account, &record, stop).await.map_err(|_| not_found())?;
    Ok(Json(resource(&account, record.sid, found.fact.sid, found.fact.name.as_deref(), "stopped")))
}

async fn change(view: &View, account: &Account, record: &CallRecord, change: StreamChange) -> Result<(), Fault> {
    calls::change(view, account, record, Update { stream: Some(Box::new(change)), ..Update::default() }).await
}

fn path(account: &Account, call: CallSid) -> String {
    format!("/2010-04-01/Accounts/{}/Calls/{call}/Streams", account.sid)
}

fn resource(account: &Account, call: CallSid, sid: StreamSid, name: Option<&str>, status: &str) -> Value {
    json!({
        "sid": sid,
        "account_sid": account.sid,
        "call_sid": call,
        "name": name,
        "status": status,
        "date_updated": rfc_2822(wall_ms()),
        "uri": format!("{}/{sid}.json", path(account, call)),
    })
}
