//! `Calls`: made, found, changed and deleted.

use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::oneshot;

use super::auth::Acting;
use super::fault::Fault;
use super::form::{Form, invalid};
use super::page::Page;
use super::recordings;
use super::resources;
use crate::account::Account;
use crate::api::{View, neighbours};
use crate::call::route::{self, Reach};
use crate::call::{Placing, Update};
use crate::clock::wall_ms;
use crate::events::{CallRecord, CallStatus, rfc_2822};
use crate::ids::CallSid;
use crate::provision::Voice;
use crate::shard::{Mail, PlaceOrder, Placement};
use crate::store::{CallFilter, Kind, Moment};
use crate::twiml::{
    AtEnd, CallbackEvent, DocumentSource, NewDocument, Notice, StatusCallback, Target, notice::code,
    parse::target as parse_target,
};
use crate::usage::money;

/// TwiML in a parameter.
const MAX_TWIML_CHARS: usize = 4_000;
const MAX_DIGITS: usize = 32;
const USUAL_RINGING: Duration = Duration::from_secs(60);
const LONGEST: Duration = Duration::from_secs(4 * 3600);
const DAY_MS: u64 = 24 * 3600 * 1000;
/// A shard answers within this time, or something is wrong with it.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// What a list of calls is filtered by.
pub(super) const FILTERS: &[&str] = &[
    "To",
    "From",
    "ParentCallSid",
    "Status",
    "StartTime",
    "StartTime<",
    "StartTime>",
    "EndTime",
    "EndTime<",
    "EndTime>",
];

/// What says what a call does.
pub(super) const PROGRAM: &[&str] = &["Url", "Method", "Twiml", "FallbackUrl", "FallbackMethod", "ApplicationSid"];

/// The same, of a call that is there.
pub(super) const PROGRAM_OF_A_CHANGE: &[&str] = &["Url", "Method", "Twiml", "FallbackUrl", "FallbackMethod"];

/// Who is called, and how.
pub(super) const PLACING: &[&str] = &[
    "To",
    "From",
    "CallerId",
    "CallToken",
    "SipAuthUsername",
    "SipAuthPassword",
    "Timeout",
    "TimeLimit",
    "SendDigits",
    "Record",
    "StatusCallback",
    "StatusCallbackMethod",
    "StatusCallbackEvent",
];

/// Parameters of a new call whose engine there is not yet: refused, so that nothing is accepted silently.
const NOT_YET: &[&str] = &["MachineDetection", "AsyncAmd", "Byoc"];

/// Parameters of a new call, or of a participant, that nothing here goes by: the call is made all the same, and its
/// notifications say so.
const PASSED_OVER: &[&str] = &[
    "EarlyMedia",
    "Region",
    "JitterBufferSize",
    "CallReason",
    "Passports",
    "ClientNotificationUrl",
    "RecordingConfigurationId",
    "CallerDisplayName",
];

fn notices(form: &Form) -> Vec<Notice> {
    let given = PASSED_OVER.iter().filter(|name| form.refused(name).is_some());
    let text = |name: &&str| format!("{name} is not available on this server: the call is made without it");
    given.map(|name| Notice::warning(code::SCHEMA_WARNING, text(name))).collect()
}

fn refuse_what_is_not_yet(form: &Form) -> Result<(), Fault> {
    match NOT_YET.iter().find(|name| form.refused(name).is_some_and(|value| value != "false")) {
        Some(name) => Err(Fault::parameter(20_001, format!("{name} is not available on this server yet"))),
        None => Ok(()),
    }
}

pub(super) async fn list(State(view): State<View>, Acting(account): Acting, page: Page) -> Result<Json<Value>, Fault> {
    let filter = filter(&page)?;
    let live = live(&view, &account, |record| filter.takes(record)).await?;
    let stored = view.store.find_calls(account.sid, &filter, page.wanted()).await;
    let stored = stored.map_err(|_| Fault::store_is_away())?;
    let (records, last) = page.newest(live, stored, |record| record.sid, |_| true);
    let path = format!("/2010-04-01/Accounts/{}/Calls.json", account.sid);
    let shown = with_prices(&view, &account, &records).await?;
    Ok(Json(page.envelope("calls", shown, last, &path)))
}

pub(super) async fn fetch(
    State(view): State<View>,
    Acting(account): Acting,
    Path((_, name)): Path<(String, String)>,
) -> Result<Json<Value>, Fault> {
    let record = find(&view, &account, &name).await?;
    with_prices(&view, &account, &[record]).await.map(|mut shown| Json(shown.pop().unwrap_or_default()))
}

/// 201 at once: the call is queued. What becomes of it is told by its status, and by callbacks.
pub(super) async fn create(State(view): State<View>, Acting(account): Acting, form: Form) -> Result<Response, Fault> {
    let (document, status_callback) = program(&view, &account, &form).await?;
    let order = order(&view, &account, &form, document, status_callback).await?;
    let body = place(&view, order).await?;
    Ok((StatusCode::CREATED, Json(body)).into_response())
}

/// The call that a form asks for, with the program that it is to run.
pub(super) async fn order(
    view: &View,
    account: &Account,
    form: &Form,
    document: NewDocument,
    status_callback: Option<StatusCallback>,
) -> Result<PlaceOrder, Fault> {
    refuse_what_is_not_yet(form)?;
    let to = form.text("To").ok_or_else(|| Fault::parameter(21_201, "No 'To' number is specified"))?;
    let from = form.text("From").ok_or_else(|| Fault::parameter(21_213, "No 'From' number is specified"))?;
    // Who the called party sees.
    let from = form.text("CallerId").unwrap_or(from);
    let target = parse_target(to, form.text("SipAuthUsername"), form.text("SipAuthPassword"))
        .ok_or_else(|| Fault::parameter(21_211, format!("The 'To' number {to} is not a valid phone number")))?;
    let forwards = forwards(view, account, form, from).await?;
    check_from(view, account, from, &target, forwards)?;
    Ok(PlaceOrder {
        sid: next_sid(view),
        account: account.sid,
        from: from.to_owned(),
        to: to.to_owned(),
        target,
        forwards,
        document,
        status_callback,
        placing: Placing {
            ring_for: form.seconds("Timeout", 1..=600)?.unwrap_or(USUAL_RINGING),
            time_limit: form.seconds("TimeLimit", 1..=86_400)?.unwrap_or(LONGEST),
            send_digits: digits(form)?,
            record: recordings::of_placed_call(form)?,
        },
        notices: notices(form),
    })
}

/// Has the call made; what is known of it already.
pub(super) async fn place(view: &View, order: PlaceOrder) -> Result<Value, Fault> {
    let mut record = order.queued(wall_ms());
    let sid = order.sid;
    // It can be asked for as soon as the answer is there, before its first event comes by.
    view.live.expect(record.clone());
    let (done, answer) = oneshot::channel();
    if let Err(error) = view.mail.try_send(Mail::Place(Box::new(order), done)) {
        view.live.forget(sid);
        return Err(match error {
            TrySendError::Full(_) => Fault::new(429, 20_429, "Too many calls wait to be made: please try again"),
            TrySendError::Closed(_) => Fault::unavailable("The server is shutting down"),
        });
    }
    match answer.await {
        Ok(Placement::Made) => {}
        Ok(Placement::Waits(wait_ms)) => {
            record.queue_ms = wait_ms;
            view.live.expect_later(&record);
            // It is made even if the server stops before it is its turn.
            view.publisher.catch_up().await;
        }
        Ok(Placement::Full) => {
            view.live.forget(sid);
            return Err(Fault::new(429, 22_005, "Call queue full: more calls wait than can be made in a day"));
        }
        Err(_) => {
            view.live.forget(sid);
            return Err(Fault::unavailable("The server is shutting down"));
        }
    }
    Ok(resource(&record))
}

/// Calls as they are shown, each with what its leg has cost: below zero, as at Twilio; once the ledger has it.
async fn with_prices(view: &View, account: &Account, records: &[CallRecord]) -> Result<Vec<Value>, Fault> {
    let mut shown: Vec<Value> = records.iter().map(resource).collect();
    let directory = view.directory.load_full();
    let Some(book) = directory.price_book(account.sid) else { return Ok(shown) };
    let prices = view.store.prices(account.sid, records).await.map_err(|_| Fault::store_is_away())?;
    for (record, shown) in records.iter().zip(&mut shown) {
        shown["price"] = json!(prices.get(&record.sid).map(|price| money::format(price.saturating_neg())));
        shown["price_unit"] = json!(book.currency.to_uppercase());
    }
    Ok(shown)
}

/// Changes a call that is not over: another document takes the place of what runs, at once, or the call ends.
pub(super) async fn update(
    State(view): State<View>,
    Acting(account): Acting,
    Path((_, name)): Path<(String, String)>,
    form: Form,
) -> Result<Json<Value>, Fault> {
    let mut record = find(&view, &account, &name).await?;
    let status = match form.text("Status") {
        None => None,
        Some("completed") => Some(CallStatus::Completed),
        Some("canceled") => Some(CallStatus::Canceled),
        Some(other) => return Err(invalid("Status", other, "completed or canceled")),
    };
    let change = Update {
        document: document(&form)?,
        hang_up: status.is_some(),
        only_unanswered: status == Some(CallStatus::Canceled),
        time_limit: form.seconds("TimeLimit", 1..=86_400)?,
        recording: None,
        user_message: None,
        stream: None,
        status_callback: form
            .endpoint("StatusCallback", "StatusCallbackMethod", 20_001)?
            .map(|endpoint| StatusCallback { endpoint, events: vec![CallbackEvent::Completed] }),
    };
    self::change(&view, &account, &record, change).await?;
    // It may have been answered while it was asked to end.
    view.publisher.catch_up().await;
    record = find(&view, &account, &name).await.unwrap_or(record);
    if status.is_some() && !record.status.is_final() {
        record.status = if record.answered_ms.is_some() { CallStatus::Completed } else { CallStatus::Canceled };
    }
    Ok(Json(resource(&record)))
}

/// Has the shard change a call, if that is in a state for it.
pub(super) async fn change(view: &View, account: &Account, record: &CallRecord, change: Update) -> Result<(), Fault> {
    let (done, answer) = oneshot::channel();
    let letter = Mail::Update { call: record.sid, account: account.sid, change, done };
    if record.status.is_final() || view.mail.send(letter).await.is_err() {
        return Err(not_in_progress(record));
    }
    match tokio::time::timeout(PATIENCE, answer).await {
        Ok(Ok(true)) => Ok(()),
        Ok(_) => Err(not_in_progress(record)),
        Err(_) => Err(Fault::unavailable("The call does not answer")),
    }
}

/// Deletes the record of a call that is over.
pub(super) async fn remove(
    State(view): State<View>,
    Acting(account): Acting,
    Path((_, name)): Path<(String, String)>,
) -> Result<StatusCode, Fault> {
    let record = find(&view, &account, &name).await?;
    if !record.status.is_final() {
        return Err(Fault::parameter(20_001, "A call that is in progress cannot be deleted: end it first"));
    }
    let deleted = view.store.delete_call(account.sid, record.sid).await.map_err(|_| Fault::store_is_away())?;
    match deleted {
        true => {
            // The outbox forgets what is stored a moment later.
            view.live.forget(record.sid);
            Ok(StatusCode::NO_CONTENT)
        }
        // Over, and not in the store yet: some seconds at most.
        false => Err(Fault::unavailable("The call has ended just now")),
    }
}

/// An account's calls that are not in the store yet.
pub(super) async fn live(
    view: &View,
    account: &Account,
    wanted: impl Fn(&CallRecord) -> bool + Copy,
) -> Result<Vec<CallRecord>, Fault> {
    let mut live = view.live.find(|record| record.account == account.sid && wanted(record));
    live.extend(neighbours::calls_elsewhere(view, Some(account.sid)).await.into_iter().filter(wanted));
    without_deleted(view, account, live).await
}

/// After a restart the journal tells some calls again: not those that were deleted.
async fn without_deleted(view: &View, account: &Account, mut live: Vec<CallRecord>) -> Result<Vec<CallRecord>, Fault> {
    let over = live.iter().filter(|record| record.status.is_final()).map(|record| record.sid);
    if let Some(oldest) = over.min() {
        let deleted = view.store.deleted_calls(account.sid, oldest).await.map_err(|_| Fault::store_is_away())?;
        live.retain(|record| !deleted.contains(&record.sid));
    }
    Ok(live)
}

/// An account's call, wherever it is by now.
pub(super) async fn find(view: &View, account: &Account, name: &str) -> Result<CallRecord, Fault> {
    let not_found = || Fault::not_found(&format!("/2010-04-01/Accounts/{}/Calls/{name}", account.sid));
    let sid: CallSid = name.strip_suffix(".json").unwrap_or(name).parse().map_err(|_| not_found())?;
    let live: Vec<CallRecord> = view.live.get(sid).into_iter().collect();
    let record = match without_deleted(view, account, live).await?.pop() {
        Some(record) => Some(record),
        None => view.store.call(sid).await.map_err(|_| Fault::store_is_away())?,
    };
    record.filter(|record| record.account == account.sid).ok_or_else(not_found)
}

fn not_in_progress(record: &CallRecord) -> Fault {
    let text =
        format!("Call {} is not in-progress, or not in a state for this change: cannot redirect or end it", record.sid);
    Fault::parameter(21_220, text)
}

/// Whether the call forwards one that came in, whose token says so: the name of that call.
async fn forwards(view: &View, account: &Account, form: &Form, from: &str) -> Result<bool, Fault> {
    let Some(token) = form.text("CallToken") else { return Ok(false) };
    let not_it = || {
        invalid(
            "CallToken",
            token,
            "the token of a call that came in today from that number, for which its carrier vouches",
        )
    };
    view.publisher.catch_up().await;
    let record = find(view, account, token).await.map_err(|fault| match fault.is_not_found() {
        true => not_it(),
        false => fault,
    })?;
    let is_it = record.is_attested() && record.from == from;
    if is_it && wall_ms().saturating_sub(record.started_ms) < DAY_MS { Ok(true) } else { Err(not_it()) }
}

/// Whoever is called by a trunk is shown a number of the account only, or that of a call that is forwarded; others are
/// shown what the program says.
fn check_from(view: &View, account: &Account, from: &str, target: &Target, forwards: bool) -> Result<(), Fault> {
    if from.chars().any(|letter| letter.is_control() || matches!(letter, '<' | '>' | '"')) || from.len() > 255 {
        return Err(Fault::parameter(
            21_212,
            format!("The 'From' number {from} is not a valid phone number or caller id"),
        ));
    }
    let directory = view.directory.load();
    match route::outbound(target, account.sid, &directory) {
        Ok(Reach::Trunk { .. }) if !forwards && !directory.owns_caller_id(account.sid, from) => Err(Fault::parameter(
            21_210,
            format!(
                "The source phone number {from} is not a number of this account: add it as a [[number]], or to a trunk's numbers"
            ),
        )),
        _ => Ok(()),
    }
}

/// What the call does, and who is told: an application's own say goes before what the form says of the same.
async fn program(view: &View, account: &Account, form: &Form) -> Result<(NewDocument, Option<StatusCallback>), Fault> {
    let Some(sid) = form.text("ApplicationSid") else {
        let document = document(form)?.ok_or_else(|| {
            Fault::parameter(21_205, "Url parameter is required: Url, Twiml or ApplicationSid says what the call does")
        })?;
        return Ok((document, status_callback(form)?));
    };
    let row = resources::find(view, account, Kind::Application, "", sid).await?;
    let voice = row.and_then(|row| serde_json::from_str::<Voice>(&row.detail).ok());
    let application = voice.and_then(|voice| voice.application()).ok_or_else(|| {
        Fault::parameter(21_218, format!("ApplicationSid {sid} is no application of this account with a VoiceUrl"))
    })?;
    Ok((application.document, application.status_callback))
}

/// What the call does: `Url` goes before `Twiml`.
fn document(form: &Form) -> Result<Option<NewDocument>, Fault> {
    let fallback = form.endpoint("FallbackUrl", "FallbackMethod", 21_205)?;
    let source = match (form.endpoint("Url", "Method", 21_205)?, form.text("Twiml")) {
        (Some(endpoint), _) => DocumentSource::Url(endpoint),
        (None, Some(twiml)) if twiml.chars().count() <= MAX_TWIML_CHARS => DocumentSource::Twiml(twiml.into()),
        (None, Some(_)) => {
            return Err(Fault::parameter(
                20_001,
                format!("Twiml is longer than {MAX_TWIML_CHARS} characters: use Url"),
            ));
        }
        (None, None) => return Ok(None),
    };
    Ok(Some(NewDocument { source, fallback, at_end: AtEnd::HangUp }))
}

pub(super) fn status_callback(form: &Form) -> Result<Option<StatusCallback>, Fault> {
    let Some(endpoint) = form.endpoint("StatusCallback", "StatusCallbackMethod", 20_001)? else { return Ok(None) };
    let mut events = Vec::new();
    for name in form.list("StatusCallbackEvent") {
        let event =
            [CallbackEvent::Initiated, CallbackEvent::Ringing, CallbackEvent::Answered, CallbackEvent::Completed]
                .into_iter()
                .find(|event| event.as_str() == name);
        events.push(
            event.ok_or_else(|| invalid("StatusCallbackEvent", name, "initiated, ringing, answered or completed"))?,
        );
    }
    if events.is_empty() {
        events.push(CallbackEvent::Completed);
    }
    Ok(Some(StatusCallback { endpoint, events }))
}

fn digits(form: &Form) -> Result<Option<String>, Fault> {
    let Some(digits) = form.text("SendDigits") else { return Ok(None) };
    let good = digits.len() <= MAX_DIGITS && digits.bytes().all(|byte| b"0123456789*#ABCDwW".contains(&byte));
    if good { Ok(Some(digits.to_owned())) } else { Err(invalid("SendDigits", digits, "up to 32 of 0-9 A-D * # w W")) }
}

fn filter(page: &Page) -> Result<CallFilter, Fault> {
    let query = &page.query;
    let parent = match query.text("ParentCallSid") {
        None => None,
        Some(text) => Some(text.parse().map_err(|_| invalid("ParentCallSid", text, "the sid of a call"))?),
    };
    let status = match query.text("Status") {
        None => None,
        Some(text) => Some(CallStatus::named(text).ok_or_else(|| invalid("Status", text, "a status of calls"))?),
    };
    Ok(CallFilter {
        to: query.text("To").map(str::to_owned),
        from: query.text("From").map(str::to_owned),
        status,
        parent,
        before: page.before()?,
        started: moment(query, "StartTime")?,
        ended: moment(query, "EndTime")?,
    })
}

/// `StartTime` is a whole day, whatever time it names; `StartTime<` and `StartTime>` are days or seconds.
pub(super) fn moment(query: &Form, name: &str) -> Result<Moment, Fault> {
    let read = |name: &str| span(query, name);
    let (exact, below, above) = (read(name)?, read(&format!("{name}<"))?, read(&format!("{name}>"))?);
    let exact = exact.map(|(start, _)| (start - start % DAY_MS, start - start % DAY_MS + DAY_MS));
    Ok(Moment {
        from_ms: exact.map(|(start, _)| start).or(above.map(|(start, _)| start)),
        below_ms: exact.map(|(_, end)| end).or(below.map(|(_, end)| end)),
    })
}

/// The first millisecond, and the one after the last.
fn day_or_second(text: &str) -> Option<(u64, u64)> {
    use time::format_description::well_known::Rfc3339;
    use time::macros::format_description;
    let millis =
        |moment: time::OffsetDateTime| u64::try_from(moment.unix_timestamp()).ok().map(|seconds| seconds * 1000);
    if let Ok(day) = time::Date::parse(text, format_description!("[year]-[month]-[day]")) {
        let start = millis(day.midnight().assume_utc())?;
        return Some((start, start + DAY_MS));
    }
    let second = millis(time::OffsetDateTime::parse(text, &Rfc3339).ok()?)?;
    Some((second, second + 1000))
}

/// A day or a second: its first millisecond, and the one after its last.
pub(super) fn span(query: &Form, name: &str) -> Result<Option<(u64, u64)>, Fault> {
    let Some(text) = query.text(name) else { return Ok(None) };
    let found = day_or_second(text);
    found.map(Some).ok_or_else(|| invalid(name, text, "YYYY-MM-DD or YYYY-MM-DDThh:mm:ssZ"))
}

fn next_sid(view: &View) -> CallSid {
    let mut last = view.last_order.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    *last = CallSid::behind(*last, wall_ms(), crate::api::random());
    *last
}

pub(in crate::api) fn resource(record: &CallRecord) -> Value {
    let uri = format!("/2010-04-01/Accounts/{}/Calls/{}", record.account, record.sid);
    let below = |name: &str| format!("{uri}/{name}.json");
    // What a caller's program knows as queued until it rings.
    let status = if record.status == CallStatus::Initiated { CallStatus::Queued } else { record.status };
    json!({
        "sid": record.sid.to_string(),
        "account_sid": record.account.to_string(),
        "parent_call_sid": record.parent.map(|parent| parent.to_string()),
        "to": record.to,
        "to_formatted": record.to,
        "from": record.from,
        "from_formatted": record.from,
        "phone_number_sid": Value::Null,
        "status": status.as_str(),
        "direction": record.direction.as_str(),
        "date_created": rfc_2822(record.created_ms()),
        "date_updated": rfc_2822(record.ended_ms.or(record.answered_ms).unwrap_or(record.started_ms)),
        "start_time": (record.status != CallStatus::Queued).then(|| rfc_2822(record.started_ms)),
        "end_time": record.ended_ms.map(rfc_2822),
        "duration": record.ended_ms.map(|_| record.duration_s().to_string()),
        "price": Value::Null,
        "price_unit": "USD",
        "answered_by": Value::Null,
        "api_version": "2010-04-01",
        "forwarded_from": Value::Null,
        "group_sid": Value::Null,
        "caller_name": Value::Null,
        "queue_time": record.queue_ms.to_string(),
        "stir_verstat": record.stir_verstat,
        "trunk_sid": Value::Null,
        "uri": format!("{uri}.json"),
        "subresource_uris": {
            "events": below("Events"),
            "notifications": below("Notifications"),
            "recordings": below("Recordings"),
            "payments": below("Payments"),
            "siprec": below("Siprec"),
            "streams": below("Streams"),
            "transcriptions": below("Transcriptions"),
            "user_defined_messages": below("UserDefinedMessages"),
            "user_defined_message_subscriptions": below("UserDefinedMessageSubscriptions"),
        },
    })
}
