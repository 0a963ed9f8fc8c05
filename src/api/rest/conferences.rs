//! `Conferences` and their `Participants`: found, changed, ended; called, muted, held, coached and removed.

use std::fmt::Write as _;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::auth::Acting;
use super::calls::{self, moment};
use super::fault::Fault;
use super::form::{Form, invalid};
use super::page::Page;
use crate::account::Account;
use crate::api::View;
use crate::call::ParticipantChange;
use crate::clock::wall_ms;
use crate::events::{Conference, ConferenceStatus, Participant, rfc_2822};
use crate::ids::{CallSid, ConferenceSid};
use crate::shard::{ConferenceChange, ConferenceChanged, Mail};
use crate::store::ConferenceFilter;
use crate::twiml::{AtEnd, DocumentSource, NewDocument};

/// What a list of conferences is filtered by.
pub(super) const FILTERS: &[&str] = &[
    "FriendlyName",
    "Status",
    "DateCreated",
    "DateCreated<",
    "DateCreated>",
    "DateUpdated",
    "DateUpdated<",
    "DateUpdated>",
];

/// What may be changed of a participant.
pub(super) const CHANGES: &[&str] = &[
    "Muted",
    "Hold",
    "HoldUrl",
    "HoldMethod",
    "WaitUrl",
    "WaitMethod",
    "AnnounceUrl",
    "AnnounceMethod",
    "Coaching",
    "CallSidToCoach",
    "EndConferenceOnExit",
    "BeepOnExit",
];

/// What a new participant is to be, and what its conference, if that begins with it.
pub(super) const MEMBERSHIP: &[&str] = &[
    "Label",
    "Muted",
    "Beep",
    "StartConferenceOnEnter",
    "EndConferenceOnExit",
    "WaitUrl",
    "WaitMethod",
    "MaxParticipants",
    "CallSidToCoach",
    "Coaching",
    "ConferenceRecord",
    "ConferenceTrim",
    "ConferenceStatusCallback",
    "ConferenceStatusCallbackMethod",
    "ConferenceStatusCallbackEvent",
    "ConferenceRecordingStatusCallback",
    "ConferenceRecordingStatusCallbackMethod",
    "ConferenceRecordingStatusCallbackEvent",
];

pub(super) async fn list(State(view): State<View>, Acting(account): Acting, page: Page) -> Result<Json<Value>, Fault> {
    let status = match page.query.text("Status") {
        None => None,
        Some(text) => {
            let all = [ConferenceStatus::Init, ConferenceStatus::InProgress, ConferenceStatus::Completed];
            let status = all.into_iter().find(|status| status.as_str() == text);
            Some(status.ok_or_else(|| invalid("Status", text, "init, in-progress or completed"))?)
        }
    };
    let filter = ConferenceFilter {
        name: page.query.text("FriendlyName").map(str::to_owned),
        status,
        before: page.before()?,
        created: moment(&page.query, "DateCreated")?,
        updated: moment(&page.query, "DateUpdated")?,
    };
    let live = view.conferences.find(account.sid, |_| true);
    let stored = view.store.find_conferences(account.sid, &filter, page.wanted()).await;
    let stored = stored.map_err(|_| Fault::store_is_away())?;
    let (shown, last) = page.newest(live, stored, |conference| conference.sid, |conference| filter.takes(conference));
    let path = format!("/2010-04-01/Accounts/{}/Conferences.json", account.sid);
    Ok(Json(page.envelope("conferences", shown.iter().map(resource).collect(), last, &path)))
}

pub(super) async fn fetch(
    State(view): State<View>,
    Acting(account): Acting,
    Path((_, name)): Path<(String, String)>,
) -> Result<Json<Value>, Fault> {
    find(&view, &account, &name).await.map(|conference| Json(resource(&conference)))
}

/// Ends a conference, or has all of it hear something.
pub(super) async fn update(
    State(view): State<View>,
    Acting(account): Acting,
    Path((_, name)): Path<(String, String)>,
    form: Form,
) -> Result<Json<Value>, Fault> {
    let mut conference = find(&view, &account, &name).await?;
    if let Some(endpoint) = form.endpoint("AnnounceUrl", "AnnounceMethod", 21_205)? {
        change(&view, &account, &conference, ConferenceChange::Announce(endpoint)).await?;
    }
    match form.text("Status") {
        None => {}
        Some("completed") => {
            change(&view, &account, &conference, ConferenceChange::End).await?;
            conference.status = ConferenceStatus::Completed;
        }
        Some(other) => return Err(invalid("Status", other, "completed")),
    }
    Ok(Json(resource(&conference)))
}

pub(super) async fn list_participants(
    State(view): State<View>,
    Acting(account): Acting,
    Path((_, name)): Path<(String, String)>,
    page: Page,
) -> Result<Json<Value>, Fault> {
    let conference = find(&view, &account, &name).await?;
    let (muted, hold, coaching) = (page.query.flag("Muted")?, page.query.flag("Hold")?, page.query.flag("Coaching")?);
    let wanted = |member: &&Participant| {
        muted.is_none_or(|muted| muted == member.muted)
            && hold.is_none_or(|hold| hold == member.hold)
            && coaching.is_none_or(|coaching| coaching == member.coach.is_some())
    };
    let all: Vec<&Participant> = conference.participants.iter().rev().filter(wanted).collect();
    let start = match &page.after {
        None => 0,
        Some(key) => all.iter().position(|member| member.call.to_string() == *key).map_or(all.len(), |at| at + 1),
    };
    let shown: Vec<&Participant> = all[start..].iter().take(page.size as usize).copied().collect();
    let last = shown.last().filter(|_| start + shown.len() < all.len()).map(|member| member.call.to_string());
    let items = shown.iter().map(|member| participant(&conference, member, "connected")).collect();
    let path = format!("/2010-04-01/Accounts/{}/Conferences/{}/Participants.json", account.sid, conference.sid);
    Ok(Json(page.envelope("participants", items, last, &path)))
}

pub(super) async fn fetch_participant(
    State(view): State<View>,
    Acting(account): Acting,
    Path((_, conference, name)): Path<(String, String, String)>,
) -> Result<Json<Value>, Fault> {
    let conference = find(&view, &account, &conference).await?;
    let name = name.strip_suffix(".json").unwrap_or(&name);
    let member = member(&conference, name).ok_or_else(|| no_participant(&conference, name))?;
    Ok(Json(participant(&conference, member, "connected")))
}

pub(super) async fn update_participant(
    State(view): State<View>,
    Acting(account): Acting,
    Path((_, conference, name)): Path<(String, String, String)>,
    form: Form,
) -> Result<Json<Value>, Fault> {
    let conference = find(&view, &account, &conference).await?;
    let name = name.strip_suffix(".json").unwrap_or(&name);
    let coaching = form.flag("Coaching")?;
    let coached = match form.text("CallSidToCoach") {
        None => None,
        Some(text) => Some(text.parse().map_err(|_| invalid("CallSidToCoach", text, "the sid of a call"))?),
    };
    let coach = match (coaching, coached) {
        (Some(false), _) => Some(None),
        (Some(true), None) => {
            return Err(Fault::parameter(20_001, "Coaching needs CallSidToCoach: who is to be coached"));
        }
        (_, Some(coached)) => Some(Some(coached)),
        (None, None) => None,
    };
    let wanted = ParticipantChange {
        muted: form.flag("Muted")?,
        hold: form.flag("Hold")?,
        hold_document: form.endpoint("HoldUrl", "HoldMethod", 21_205)?,
        wait: match form.given("WaitUrl") {
            None => None,
            Some(_) => Some(form.endpoint("WaitUrl", "WaitMethod", 21_205)?),
        },
        announce: form.endpoint("AnnounceUrl", "AnnounceMethod", 21_205)?,
        end_on_exit: form.flag("EndConferenceOnExit")?,
        beep_on_exit: form.flag("BeepOnExit")?,
        coach,
        remove: false,
    };
    let member = change_participant(&view, &account, &conference, name, wanted).await?;
    Ok(Json(participant(&conference, &member, "connected")))
}

/// Out of the conference: the member's own document goes on.
pub(super) async fn remove_participant(
    State(view): State<View>,
    Acting(account): Acting,
    Path((_, conference, name)): Path<(String, String, String)>,
) -> Result<StatusCode, Fault> {
    let conference = find(&view, &account, &conference).await?;
    let name = name.strip_suffix(".json").unwrap_or(&name);
    let remove = ParticipantChange { remove: true, ..ParticipantChange::default() };
    change_participant(&view, &account, &conference, name, remove).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Calls somebody, whose call is a member from its answer on. The conference may be named by its name: it need not exist
/// yet.
pub(super) async fn create_participant(
    State(view): State<View>,
    Acting(account): Acting,
    Path((_, conference)): Path<(String, String)>,
    form: Form,
) -> Result<Response, Fault> {
    let name = match conference.parse::<ConferenceSid>() {
        Ok(_) => match find(&view, &account, &conference).await? {
            over if over.status == ConferenceStatus::Completed => return Err(no_participant(&over, "")),
            running => running.name,
        },
        Err(_) => conference,
    };
    let source = DocumentSource::Twiml(document(&name, &form)?.into());
    let document = NewDocument { source, fallback: None, at_end: AtEnd::HangUp };
    let order = calls::order(&view, &account, &form, document, calls::status_callback(&form)?).await?;
    let known = view.conferences.find(account.sid, |it| it.name == name && it.status != ConferenceStatus::Completed);
    let made = Participant {
        call: order.sid,
        label: form.text("Label").unwrap_or_default().to_owned(),
        muted: form.flag("Muted")?.unwrap_or(false),
        hold: false,
        coach: form.text("CallSidToCoach").and_then(|sid| sid.parse().ok()),
        start_on_enter: form.flag("StartConferenceOnEnter")?.unwrap_or(true),
        end_on_exit: form.flag("EndConferenceOnExit")?.unwrap_or(false),
        joined_ms: wall_ms(),
    };
    calls::place(&view, order).await?;
    // One that does not exist yet gets its sid with its first member.
    let body = match known.first() {
        Some(conference) => participant(conference, &made, "queued"),
        None => {
            let mut body = participant(&unborn(&account, &name), &made, "queued");
            body["conference_sid"] = Value::Null;
            body
        }
    };
    Ok((StatusCode::CREATED, Json(body)).into_response())
}

/// The document by which the call becomes a member.
fn document(name: &str, form: &Form) -> Result<String, Fault> {
    const ATTRIBUTES: &[(&str, &str)] = &[
        ("Label", "participantLabel"),
        ("Muted", "muted"),
        ("Beep", "beep"),
        ("StartConferenceOnEnter", "startConferenceOnEnter"),
        ("EndConferenceOnExit", "endConferenceOnExit"),
        ("WaitUrl", "waitUrl"),
        ("WaitMethod", "waitMethod"),
        ("MaxParticipants", "maxParticipants"),
        ("ConferenceRecord", "record"),
        ("ConferenceTrim", "trim"),
        ("ConferenceStatusCallback", "statusCallback"),
        ("ConferenceStatusCallbackMethod", "statusCallbackMethod"),
        ("ConferenceRecordingStatusCallback", "recordingStatusCallback"),
        ("ConferenceRecordingStatusCallbackMethod", "recordingStatusCallbackMethod"),
        ("CallSidToCoach", "coach"),
    ];
    let listed = [
        ("ConferenceStatusCallbackEvent", "statusCallbackEvent", "start end"),
        ("ConferenceRecordingStatusCallbackEvent", "recordingStatusCallbackEvent", ""),
    ];
    // A document in place has no URL of its own: none of its URLs can be relative.
    for (url, method) in [
        ("WaitUrl", "WaitMethod"),
        ("ConferenceStatusCallback", "ConferenceStatusCallbackMethod"),
        ("ConferenceRecordingStatusCallback", "ConferenceRecordingStatusCallbackMethod"),
    ] {
        form.endpoint(url, method, 21_205)?;
    }
    let mut text = "<Response><Dial><Conference".to_owned();
    let mut attribute = |name: &str, value: &str| {
        write!(text, " {name}=\"{}\"", quick_xml::escape::escape(value)).expect("a string takes all that is written");
    };
    for (parameter, name) in ATTRIBUTES {
        if let Some(value) = form.text(parameter) {
            attribute(name, value);
        }
    }
    for (parameter, name, usual) in listed {
        let value = form.list(parameter).collect::<Vec<_>>().join(" ");
        if !value.is_empty() || !usual.is_empty() {
            attribute(name, if value.is_empty() { usual } else { &value });
        }
    }
    write!(text, ">{}</Conference></Dial></Response>", quick_xml::escape::escape(name)).expect("as above");
    let parsed = crate::twiml::parse::parse(text.as_bytes(), Some("text/xml"), None);
    match parsed.as_ref().map(|document| document.notices.first()) {
        Ok(None) => Ok(text),
        // What a document is only warned of is refused here: the program is there to be told.
        Ok(Some(notice)) => Err(Fault::parameter(20_001, notice.text.clone())),
        Err(error) => Err(Fault::parameter(20_001, error.to_string())),
    }
}

async fn change_participant(
    view: &View,
    account: &Account,
    conference: &Conference,
    name: &str,
    wanted: ParticipantChange,
) -> Result<Participant, Fault> {
    let wanted = ConferenceChange::Participant { name: name.to_owned(), change: wanted };
    match change(view, account, conference, wanted).await {
        Ok(ConferenceChanged::Participant(member)) => Ok(member),
        Ok(_) => Err(no_participant(conference, name)),
        // Over since it was looked up: nobody is in it.
        Err(_) if conference.status == ConferenceStatus::Completed => Err(no_participant(conference, name)),
        Err(fault) => Err(fault),
    }
}

pub(super) async fn change(
    view: &View,
    account: &Account,
    conference: &Conference,
    change: ConferenceChange,
) -> Result<ConferenceChanged, Fault> {
    let (done, answer) = oneshot::channel();
    let letter = Mail::Conference { conference: conference.sid, account: account.sid, change, done };
    let over = || Fault::parameter(20_001, format!("Conference {} is over: it cannot be changed", conference.sid));
    if view.mail.send(letter).await.is_err() {
        return Err(over());
    }
    match tokio::time::timeout(calls::PATIENCE, answer).await {
        Ok(Ok(ConferenceChanged::NoConference)) => Err(over()),
        Ok(Ok(changed)) => Ok(changed),
        Ok(Err(_)) | Err(_) => Err(Fault::unavailable("The conference does not answer")),
    }
}

/// An account's conference, wherever it is by now.
pub(super) async fn find(view: &View, account: &Account, name: &str) -> Result<Conference, Fault> {
    let not_found = || Fault::not_found(&format!("/2010-04-01/Accounts/{}/Conferences/{name}", account.sid));
    let sid: ConferenceSid = name.strip_suffix(".json").unwrap_or(name).parse().map_err(|_| not_found())?;
    match view.conferences.get(account.sid, sid) {
        Some(conference) => Ok(conference),
        None => {
            let stored = view.store.conference(account.sid, sid).await.map_err(|_| Fault::store_is_away())?;
            stored.ok_or_else(not_found)
        }
    }
}

fn member<'a>(conference: &'a Conference, name: &str) -> Option<&'a Participant> {
    let sid: Option<CallSid> = name.parse().ok();
    let is_it = |member: &&Participant| Some(member.call) == sid || (!name.is_empty() && member.label == name);
    conference.participants.iter().find(is_it)
}

fn no_participant(conference: &Conference, name: &str) -> Fault {
    let Conference { account, sid, .. } = conference;
    Fault::not_found(&format!("/2010-04-01/Accounts/{account}/Conferences/{sid}/Participants/{name}"))
}

/// A conference that begins to exist with the call that is being made.
fn unborn(account: &Account, name: &str) -> Conference {
    Conference {
        account: account.sid,
        sid: ConferenceSid::new(0),
        name: name.to_owned(),
        status: ConferenceStatus::Init,
        created_ms: wall_ms(),
        updated_ms: wall_ms(),
        ending_call: None,
        reason: None,
        participants: Vec::new(),
    }
}

pub(in crate::api) fn resource(conference: &Conference) -> Value {
    let uri = format!("/2010-04-01/Accounts/{}/Conferences/{}", conference.account, conference.sid);
    json!({
        "sid": conference.sid.to_string(),
        "account_sid": conference.account.to_string(),
        "api_version": "2010-04-01",
        "friendly_name": conference.name,
        "region": "us1",
        "status": conference.status.as_str(),
        "date_created": rfc_2822(conference.created_ms),
        "date_updated": rfc_2822(conference.updated_ms),
        "reason_conference_ended": conference.reason.as_ref().map(|reason| reason.as_str()),
        "call_sid_ending_conference": conference.ending_call.map(|call| call.to_string()),
        "uri": format!("{uri}.json"),
        "subresource_uris": {
            "participants": format!("{uri}/Participants.json"),
            "recordings": format!("{uri}/Recordings.json"),
        },
    })
}

fn participant(conference: &Conference, member: &Participant, status: &str) -> Value {
    let uri = format!("/2010-04-01/Accounts/{}/Conferences/{}", conference.account, conference.sid);
    let joined = rfc_2822(member.joined_ms);
    json!({
        "account_sid": conference.account.to_string(),
        "call_sid": member.call.to_string(),
        "conference_sid": conference.sid.to_string(),
        "label": (!member.label.is_empty()).then_some(&member.label),
        "muted": member.muted,
        "hold": member.hold,
        "coaching": member.coach.is_some(),
        "call_sid_to_coach": member.coach.map(|coached| coached.to_string()),
        "start_conference_on_enter": member.start_on_enter,
        "end_conference_on_exit": member.end_on_exit,
        "status": status,
        "queue_time": Value::Null,
        "date_created": joined,
        "date_updated": joined,
        "uri": format!("{uri}/Participants/{}.json", member.call),
    })
}
