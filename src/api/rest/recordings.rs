//! `Recordings`: those of an account and of a call; started, paused, stopped and deleted; and their audio.

use axum::Json;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::audio;
use super::auth::Acting;
use super::calls::{self, moment};
use super::conferences;
use super::fault::Fault;
use super::form::{Form, invalid};
use super::page::Page;
use crate::account::Account;
use crate::api::View;
use crate::call::{ConferenceRecord, RecordingChange, Update};
use crate::clock::wall_ms;
use crate::events::{Recording, RecordingFact, RecordingStatus, rfc_2822};
use crate::ids::{CallSid, ConferenceSid, RecordingSid};
use crate::shard::{ConferenceChange, ConferenceChanged};
use crate::store::RecordingFilter;
use crate::twiml::{RecordingCallback, RecordingEvent, RecordingSource, RecordingSpec, RecordingTrack};

/// What stands for the newest recording of a call that runs.
const CURRENT: &str = "Twilio.CURRENT";

/// What a list of recordings is filtered by.
pub(super) const FILTERS: &[&str] = &["DateCreated", "DateCreated<", "DateCreated>"];

/// How something is recorded, and who is told.
pub(super) const OPTIONS: &[&str] = &[
    "RecordingChannels",
    "RecordingTrack",
    "Trim",
    "RecordingStatusCallback",
    "RecordingStatusCallbackMethod",
    "RecordingStatusCallbackEvent",
];

pub(super) async fn list(State(view): State<View>, Acting(account): Acting, page: Page) -> Result<Json<Value>, Fault> {
    let call = match page.query.text("CallSid") {
        None => None,
        Some(text) => Some(text.parse().map_err(|_| invalid("CallSid", text, "the sid of a call"))?),
    };
    let path = format!("/2010-04-01/Accounts/{}/Recordings.json", account.sid);
    let conference = match page.query.text("ConferenceSid") {
        None => None,
        Some(text) => Some(text.parse().map_err(|_| invalid("ConferenceSid", text, "the sid of a conference"))?),
    };
    let with_deleted = page.query.flag("IncludeSoftDeleted")?.unwrap_or(false);
    let filter = RecordingFilter { call, conference, with_deleted, ..RecordingFilter::default() };
    found(&view, &account, filter, &page, &path).await
}

pub(super) async fn list_of_call(
    State(view): State<View>,
    Acting(account): Acting,
    Path((_, call)): Path<(String, String)>,
    page: Page,
) -> Result<Json<Value>, Fault> {
    let call = calls::find(&view, &account, &call).await?.sid;
    let path = format!("/2010-04-01/Accounts/{}/Calls/{call}/Recordings.json", account.sid);
    found(&view, &account, RecordingFilter { call: Some(call), ..RecordingFilter::default() }, &page, &path).await
}

pub(super) async fn list_of_conference(
    State(view): State<View>,
    Acting(account): Acting,
    Path((_, conference)): Path<(String, String)>,
    page: Page,
) -> Result<Json<Value>, Fault> {
    let conference = conferences::find(&view, &account, &conference).await?.sid;
    let path = format!("/2010-04-01/Accounts/{}/Conferences/{conference}/Recordings.json", account.sid);
    let filter = RecordingFilter { conference: Some(conference), ..RecordingFilter::default() };
    found(&view, &account, filter, &page, &path).await
}

/// There are none: nobody transcribes here.
pub(super) async fn list_transcriptions(
    State(view): State<View>,
    Acting(account): Acting,
    Path((_, name)): Path<(String, String)>,
    page: Page,
) -> Result<Json<Value>, Fault> {
    let sid = find(&view, &account, &name, Of::Account).await?.fact.sid;
    let path = format!("/2010-04-01/Accounts/{}/Recordings/{sid}/Transcriptions.json", account.sid);
    Ok(Json(page.envelope("transcriptions", Vec::new(), None, &path)))
}

async fn found(
    view: &View,
    account: &Account,
    of: RecordingFilter,
    page: &Page,
    path: &str,
) -> Result<Json<Value>, Fault> {
    let filter = RecordingFilter { before: page.before()?, created: moment(&page.query, "DateCreated")?, ..of };
    let live = view.recordings.find(account.sid, |_| true);
    let stored = view.store.find_recordings(account.sid, &filter, page.wanted()).await;
    let stored = stored.map_err(|_| Fault::store_is_away())?;
    let (shown, last) = page.newest(live, stored, |recording| recording.fact.sid, |recording| filter.takes(recording));
    Ok(Json(page.envelope("recordings", shown.iter().map(|it| resource(view, it)).collect(), last, path)))
}

pub(super) async fn fetch(
    State(view): State<View>,
    Acting(account): Acting,
    Path((_, name)): Path<(String, String)>,
    request: Request,
) -> Result<Response, Fault> {
    let (sid, kind) = match name.split_once('.') {
        None => (name.as_str(), ""),
        Some((sid, kind)) => (sid, kind),
    };
    let recording = find(&view, &account, sid, Of::Account).await?;
    if kind == "json" {
        return Ok(Json(resource(&view, &recording)).into_response());
    }
    audio::serve(&view, &recording, if kind.is_empty() { "wav" } else { kind }, request).await
}

pub(super) async fn remove(
    State(view): State<View>,
    Acting(account): Acting,
    Path((_, name)): Path<(String, String)>,
) -> Result<StatusCode, Fault> {
    delete(&view, &account, &name, Of::Account).await
}

pub(super) async fn remove_of_call(
    State(view): State<View>,
    Acting(account): Acting,
    Path((_, call, name)): Path<(String, String, String)>,
) -> Result<StatusCode, Fault> {
    let call = calls::find(&view, &account, &call).await?.sid;
    delete(&view, &account, &name, Of::Call(call)).await
}

pub(super) async fn remove_of_conference(
    State(view): State<View>,
    Acting(account): Acting,
    Path((_, conference, name)): Path<(String, String, String)>,
) -> Result<StatusCode, Fault> {
    let conference = conferences::find(&view, &account, &conference).await?.sid;
    delete(&view, &account, &name, Of::Conference(conference)).await
}

async fn delete(view: &View, account: &Account, name: &str, of: Of) -> Result<StatusCode, Fault> {
    let recording = find(view, account, name.strip_suffix(".json").unwrap_or(name), of).await?;
    let sid = recording.fact.sid;
    if !recording.fact.status.is_final() {
        return Err(Fault::parameter(20_001, "A recording that is in progress cannot be deleted: stop it first"));
    }
    // Its audio first: a row without audio is a nuisance, audio without a row nobody would ever delete.
    view.archive.delete(sid).await.map_err(|_| audio::storage_is_away())?;
    view.store.delete_recording(&recording, wall_ms()).await.map_err(|_| Fault::store_is_away())?;
    view.recordings.forget_if(sid, |_| true);
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn fetch_of_call(
    State(view): State<View>,
    Acting(account): Acting,
    Path((_, call, name)): Path<(String, String, String)>,
) -> Result<Json<Value>, Fault> {
    let call = calls::find(&view, &account, &call).await?.sid;
    let name = name.strip_suffix(".json").unwrap_or(&name);
    find(&view, &account, name, Of::Call(call)).await.map(|recording| Json(resource(&view, &recording)))
}

pub(super) async fn fetch_of_conference(
    State(view): State<View>,
    Acting(account): Acting,
    Path((_, conference, name)): Path<(String, String, String)>,
) -> Result<Json<Value>, Fault> {
    let conference = conferences::find(&view, &account, &conference).await?.sid;
    let name = name.strip_suffix(".json").unwrap_or(&name);
    find(&view, &account, name, Of::Conference(conference)).await.map(|recording| Json(resource(&view, &recording)))
}

/// Starts a recording of a running call.
pub(super) async fn create_of_call(
    State(view): State<View>,
    Acting(account): Acting,
    Path((_, call)): Path<(String, String)>,
    form: Form,
) -> Result<Response, Fault> {
    let record = calls::find(&view, &account, &call).await?;
    let spec = spec(&form, RecordingSource::StartCallRecordingAPI)?;
    let sid = RecordingSid::at(wall_ms(), crate::api::random());
    let recording = Recording { account: account.sid, call: record.sid, fact: begun(sid, &spec) };
    let change = Update { recording: Some(RecordingChange::Start { sid, spec }), ..Update::default() };
    // It can be asked for as soon as the answer is there, before its first fact comes by.
    view.recordings.put(account.sid, sid, recording.clone());
    if let Err(fault) = calls::change(&view, &account, &record, change).await {
        view.recordings.forget_if(sid, |_| true);
        return Err(fault);
    }
    Ok((StatusCode::CREATED, Json(resource(&view, &recording))).into_response())
}

/// Pauses, resumes or stops a recording of a running call.
pub(super) async fn update_of_call(
    State(view): State<View>,
    Acting(account): Acting,
    Path((_, call, name)): Path<(String, String, String)>,
    form: Form,
) -> Result<Json<Value>, Fault> {
    let record = calls::find(&view, &account, &call).await?;
    let name = name.strip_suffix(".json").unwrap_or(&name);
    let mut recording = find(&view, &account, name, Of::Call(record.sid)).await?;
    let (sid, wanted) = (Some(recording.fact.sid), Wanted::read(&form)?);
    let change = match wanted {
        Wanted::Stopped => RecordingChange::Stop(sid),
        Wanted::Paused { silent } => RecordingChange::Pause { sid, silent },
        Wanted::InProgress => RecordingChange::Resume(sid),
    };
    calls::change(&view, &account, &record, Update { recording: Some(change), ..Update::default() }).await?;
    Ok(Json(wanted.show(&view, &mut recording)))
}

/// Pauses, resumes or stops a recording of a running conference.
pub(super) async fn update_of_conference(
    State(view): State<View>,
    Acting(account): Acting,
    Path((_, conference, name)): Path<(String, String, String)>,
    form: Form,
) -> Result<Json<Value>, Fault> {
    let conference = conferences::find(&view, &account, &conference).await?;
    let name = name.strip_suffix(".json").unwrap_or(&name);
    let mut recording = find(&view, &account, name, Of::Conference(conference.sid)).await?;
    let (sid, wanted) = (Some(recording.fact.sid), Wanted::read(&form)?);
    let record = match wanted {
        Wanted::Stopped => ConferenceRecord::Stop(sid),
        Wanted::Paused { silent } => ConferenceRecord::Pause { sid, silent },
        Wanted::InProgress => ConferenceRecord::Resume(sid),
    };
    match conferences::change(&view, &account, &conference, ConferenceChange::Record(record)).await? {
        ConferenceChanged::NotInIt => {
            Err(Fault::parameter(21_220, format!("Recording {} is over: it cannot be changed", recording.fact.sid)))
        }
        _ => Ok(Json(wanted.show(&view, &mut recording))),
    }
}

/// What a change of a recording asks for.
#[derive(Clone, Copy)]
enum Wanted {
    Stopped,
    Paused { silent: bool },
    InProgress,
}

impl Wanted {
    fn read(form: &Form) -> Result<Wanted, Fault> {
        let silent = match form.text("PauseBehavior") {
            None | Some("silence") => true,
            Some("skip") => false,
            Some(other) => return Err(invalid("PauseBehavior", other, "skip or silence")),
        };
        match form.text("Status").unwrap_or_default() {
            "stopped" => Ok(Wanted::Stopped),
            "paused" => Ok(Wanted::Paused { silent }),
            "in-progress" => Ok(Wanted::InProgress),
            other => Err(invalid("Status", other, "in-progress, paused or stopped")),
        }
    }

    /// The recording as it is with the change.
    fn show(self, view: &View, recording: &mut Recording) -> Value {
        match self {
            // It is stopped when its file is complete.
            Wanted::Stopped => {
                let mut shown = resource(view, recording);
                shown["status"] = json!("stopped");
                return shown;
            }
            Wanted::Paused { .. } => recording.fact.status = RecordingStatus::Paused,
            Wanted::InProgress => recording.fact.status = RecordingStatus::InProgress,
        }
        // Whoever asks next sees it so, before the fact comes by.
        view.recordings.put(recording.account, recording.fact.sid, recording.clone());
        resource(view, recording)
    }
}

/// What a recording is looked for below.
#[derive(Clone, Copy)]
enum Of {
    Account,
    Call(CallSid),
    Conference(ConferenceSid),
}

impl Of {
    fn has(self, recording: &Recording) -> bool {
        match self {
            Of::Account => true,
            Of::Call(call) => recording.call == call,
            Of::Conference(conference) => recording.fact.conference == Some(conference),
        }
    }
}

/// An account's recording, wherever it is by now.
async fn find(view: &View, account: &Account, name: &str, of: Of) -> Result<Recording, Fault> {
    if name == CURRENT && !matches!(of, Of::Account) {
        let running = |it: &Recording| of.has(it) && !it.fact.status.is_final();
        let newest = view.recordings.find(account.sid, running).into_iter().max_by_key(|it| it.fact.sid);
        return newest.ok_or_else(|| not_found(account, name));
    }
    let sid: RecordingSid = name.parse().map_err(|_| not_found(account, name))?;
    let recording = match view.recordings.get(account.sid, sid) {
        Some(recording) => Some(recording),
        None => view.store.recording(account.sid, sid).await.map_err(|_| Fault::store_is_away())?,
    };
    recording.filter(|recording| of.has(recording)).ok_or_else(|| not_found(account, name))
}

fn not_found(account: &Account, name: &str) -> Fault {
    Fault::not_found(&format!("/2010-04-01/Accounts/{}/Recordings/{name}", account.sid))
}

/// What `Record` of a new call asks for.
pub(super) fn of_placed_call(form: &Form) -> Result<Option<RecordingSpec>, Fault> {
    match form.text("Record") {
        None | Some("false") => Ok(None),
        Some("true") => spec(form, RecordingSource::OutboundAPI).map(Some),
        Some(other) => Err(invalid("Record", other, "true or false")),
    }
}

fn spec(form: &Form, source: RecordingSource) -> Result<RecordingSpec, Fault> {
    let channels = match form.text("RecordingChannels") {
        None | Some("mono") => 1,
        Some("dual") => 2,
        Some(other) => return Err(invalid("RecordingChannels", other, "mono or dual")),
    };
    let track = match form.text("RecordingTrack") {
        None | Some("both") => RecordingTrack::Both,
        Some("inbound") => RecordingTrack::Inbound,
        Some("outbound") => RecordingTrack::Outbound,
        Some(other) => return Err(invalid("RecordingTrack", other, "inbound, outbound or both")),
    };
    let trim = match form.text("Trim") {
        None => source == RecordingSource::OutboundAPI,
        Some("do-not-trim") => false,
        Some("trim-silence") => true,
        Some(other) => return Err(invalid("Trim", other, "trim-silence or do-not-trim")),
    };
    let mut events = Vec::new();
    for name in form.list("RecordingStatusCallbackEvent") {
        let all = [RecordingEvent::InProgress, RecordingEvent::Completed, RecordingEvent::Absent];
        let event = all.into_iter().find(|event| event.as_str() == name);
        events.push(
            event.ok_or_else(|| invalid("RecordingStatusCallbackEvent", name, "in-progress, completed or absent"))?,
        );
    }
    if events.is_empty() {
        events.push(RecordingEvent::Completed);
    }
    let endpoint = form.endpoint("RecordingStatusCallback", "RecordingStatusCallbackMethod", 20_001)?;
    let callback = endpoint.map(|endpoint| RecordingCallback { endpoint, events });
    Ok(RecordingSpec { source, track, channels, trim, max_length: None, silence_timeout: None, callback })
}

/// As it is before its first fact.
fn begun(sid: RecordingSid, spec: &RecordingSpec) -> RecordingFact {
    RecordingFact {
        sid,
        conference: None,
        source: spec.source,
        track: spec.track,
        channels: spec.channels,
        status: RecordingStatus::InProgress,
        started_ms: wall_ms(),
        duration_ms: 0,
        bytes: 0,
        error: String::new(),
        callback: None,
        is_resumed: false,
    }
}

/// Twilio's number of a recording that could not be kept.
const RECORDING_FAILED: u32 = 12_400;

fn resource(view: &View, Recording { account, call, fact }: &Recording) -> Value {
    let uri = format!("/2010-04-01/Accounts/{account}/Recordings/{}", fact.sid);
    let started = rfc_2822(fact.started_ms);
    json!({
        "sid": fact.sid.to_string(),
        "account_sid": account.to_string(),
        "call_sid": call.to_string(),
        "conference_sid": fact.conference.map(|conference| conference.to_string()),
        "api_version": "2010-04-01",
        "date_created": started,
        "date_updated": rfc_2822(fact.started_ms + fact.duration_ms),
        "start_time": started,
        "duration": if fact.status.is_final() { json!(fact.duration_s().to_string()) } else { json!("-1") },
        "channels": fact.channels,
        "source": fact.source.as_str(),
        "track": fact.track.as_str(),
        "status": fact.status.as_str(),
        "error_code": (fact.status == RecordingStatus::Failed).then_some(RECORDING_FAILED),
        "price": Value::Null,
        "price_unit": "USD",
        "encryption_details": Value::Null,
        "uri": format!("{uri}.json"),
        "media_url": format!("{}{uri}", view.public_url),
        "subresource_uris": {
            "add_on_results": format!("{uri}/AddOnResults.json"),
            "transcriptions": format!("{uri}/Transcriptions.json"),
        },
    })
}
