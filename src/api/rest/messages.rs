//! `Messages`: texts to the account's own SIP users, which go to their devices by SIP MESSAGE.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio::sync::mpsc::error::TrySendError;

use super::auth::Acting;
use super::calls::moment;
use super::fault::Fault;
use super::form::Form;
use super::page::Page;
use super::resources;
use crate::account::Account;
use crate::api::View;
use crate::call::route;
use crate::clock::wall_ms;
use crate::events::{Event, EventKind, Message, MessageDirection, MessageFact, MessageStatus, rfc_2822};
use crate::ids::{CallSid, EventSid, MessageSid};
use crate::shard::Mail;
use crate::store::{Kind, MessageFilter};
use crate::twiml::parse::target as parse_target;
use crate::twiml::{Endpoint, MAX_MESSAGE_CHARS, Method};

/// What a list of messages is filtered by.
pub(super) const FILTERS: &[&str] = &["To", "From", "DateSent", "DateSent<", "DateSent>"];

/// What a new message is, and who is told of it.
pub(super) const NEW: &[&str] = &["To", "From", "Body", "StatusCallback", "StatusCallbackMethod", "ApplicationSid"];

/// What would make another message of it than the program means, each with the value that changes nothing.
const NOT_HERE: &[(&str, &str)] = &[
    ("MediaUrl", ""),
    ("MessagingServiceSid", ""),
    ("ContentSid", ""),
    ("ScheduleType", ""),
    ("SendAt", ""),
    ("ContentRetention", "retain"),
    ("AddressRetention", "retain"),
];

pub(super) async fn list(State(view): State<View>, Acting(account): Acting, page: Page) -> Result<Json<Value>, Fault> {
    let filter = MessageFilter {
        to: page.query.text("To").map(str::to_owned),
        from: page.query.text("From").map(str::to_owned),
        before: page.before()?,
        created: moment(&page.query, "DateSent")?,
    };
    let live = view.messages.find(account.sid, |_| true);
    let stored = view.store.find_messages(account.sid, &filter, page.wanted()).await;
    let stored = stored.map_err(|_| Fault::store_is_away())?;
    let (shown, last) = page.newest(live, stored, |message| message.fact.sid, |message| filter.takes(message));
    let path = format!("/2010-04-01/Accounts/{}/Messages.json", account.sid);
    Ok(Json(page.envelope("messages", shown.iter().map(resource).collect(), last, &path)))
}

pub(super) async fn fetch(
    State(view): State<View>,
    Acting(account): Acting,
    Path((_, name)): Path<(String, String)>,
) -> Result<Json<Value>, Fault> {
    find(&view, &account, &name).await.map(|message| Json(resource(&message)))
}

/// 201 at once: the message is queued. What becomes of it is told by its status, and by callbacks.
pub(super) async fn create(State(view): State<View>, Acting(account): Acting, form: Form) -> Result<Response, Fault> {
    let to = form.text("To").ok_or_else(|| Fault::parameter(21_604, "A 'To' phone number is required"))?;
    let refused = |(name, harmless): &&(&str, &str)| form.refused(name).is_some_and(|value| value != *harmless);
    if let Some((name, _)) = NOT_HERE.iter().find(refused) {
        return Err(Fault::parameter(20_001, format!("{name} is not available on this server")));
    }
    let from = form.text("From").ok_or_else(|| Fault::parameter(21_603, "A 'From' phone number is required"))?;
    let body = form.text("Body").ok_or_else(|| Fault::parameter(21_602, "Message body is required"))?;
    if body.chars().count() > MAX_MESSAGE_CHARS {
        return Err(Fault::parameter(21_617, format!("The body is longer than {MAX_MESSAGE_CHARS} characters")));
    }
    let directory = view.directory.load();
    if !route::may_send_as(from, account.sid, &directory) {
        let text = format!("The 'From' phone number {from} is not a number or a user of this account");
        return Err(Fault::parameter(21_606, text));
    }
    let target = parse_target(to, None, None)
        .ok_or_else(|| Fault::parameter(21_211, format!("The 'To' number {to} is not a valid phone number")))?;
    if !route::takes_messages(&target, account.sid, &directory) {
        let text = format!("{to} is not reachable by message: only users of this account are, such as client:desk");
        return Err(Fault::parameter(21_612, text));
    }
    let now = wall_ms();
    let fact = MessageFact {
        sid: MessageSid::at(now, crate::api::random()),
        from: from.to_owned(),
        to: to.to_owned(),
        body: body.to_owned(),
        direction: MessageDirection::OutboundApi,
        status: MessageStatus::Queued,
        error_code: 0,
        created_ms: now,
        sent_ms: 0,
        callback: callback(&view, &account, &form).await?,
    };
    let message = Message { account: account.sid, fact };
    let letter = Mail::Message { account: account.sid, target, fact: Box::new(message.fact.clone()) };
    // It can be asked for as soon as the answer is there.
    tell(&view, &message);
    match view.mail.try_send(letter) {
        Ok(()) => Ok((StatusCode::CREATED, Json(resource(&message))).into_response()),
        Err(error) => {
            tell(&view, &Message { fact: MessageFact { status: MessageStatus::Failed, ..message.fact }, ..message });
            Err(match error {
                TrySendError::Full(_) => Fault::new(429, 20_429, "Too many requests wait: please try again"),
                TrySendError::Closed(_) => Fault::unavailable("The server is shutting down"),
            })
        }
    }
}

/// Who is told of its steps: an application's own say goes before what the form says.
async fn callback(view: &View, account: &Account, form: &Form) -> Result<Option<Endpoint>, Fault> {
    let given = form.endpoint("StatusCallback", "StatusCallbackMethod", 21_609)?;
    let Some(sid) = form.text("ApplicationSid") else { return Ok(given) };
    let row = resources::find(view, account, Kind::Application, "", sid).await?;
    let row =
        row.ok_or_else(|| Fault::parameter(21_218, format!("ApplicationSid {sid} is no application of this account")))?;
    let detail = resources::detail(&row);
    let urls = ["message_status_callback", "sms_status_callback"].map(|key| detail.get(key).and_then(Value::as_str));
    let own = urls.into_iter().flatten().find(|url| !url.is_empty());
    Ok(own.map(|url| Endpoint { url: url.to_owned(), method: Method::Post }).or(given))
}

/// An empty body takes the text away; nothing else of a message can be changed.
pub(super) async fn update(
    State(view): State<View>,
    Acting(account): Acting,
    Path((_, name)): Path<(String, String)>,
    form: Form,
) -> Result<Json<Value>, Fault> {
    let mut message = find(&view, &account, &name).await?;
    if let Some(status) = form.text("Status") {
        return Err(Fault::parameter(
            20_001,
            format!("Status {status}: only a scheduled message can be canceled, and there are none"),
        ));
    }
    match form.given("Body") {
        None => {}
        Some("") if message.fact.status.is_final() => {
            message.fact.body.clear();
            message.fact.callback = None;
            tell(&view, &message);
        }
        Some("") => {
            return Err(Fault::parameter(20_009, "The message is on its way: its text can be taken away later"));
        }
        Some(_) => return Err(Fault::parameter(20_001, "Body can only be made empty")),
    }
    Ok(Json(resource(&message)))
}

pub(super) async fn remove(
    State(view): State<View>,
    Acting(account): Acting,
    Path((_, name)): Path<(String, String)>,
) -> Result<StatusCode, Fault> {
    let message = find(&view, &account, &name).await?;
    if !message.fact.status.is_final() {
        return Err(Fault::parameter(20_009, "The message is on its way: it can be deleted later"));
    }
    view.store.delete_message(&message, wall_ms()).await.map_err(|_| Fault::store_is_away())?;
    view.messages.forget_if(message.fact.sid, |_| true);
    Ok(StatusCode::NO_CONTENT)
}

/// There is no media: texts only.
pub(super) async fn list_media(
    State(view): State<View>,
    Acting(account): Acting,
    Path((_, name)): Path<(String, String)>,
    page: Page,
) -> Result<Json<Value>, Fault> {
    let message = find(&view, &account, &name).await?;
    moment(&page.query, "DateCreated")?;
    let path = format!("/2010-04-01/Accounts/{}/Messages/{}/Media.json", account.sid, message.fact.sid);
    Ok(Json(page.envelope("media_list", Vec::new(), None, &path)))
}

async fn find(view: &View, account: &Account, name: &str) -> Result<Message, Fault> {
    let not_found = || Fault::not_found(&format!("/2010-04-01/Accounts/{}/Messages/{name}", account.sid));
    let sid: MessageSid = name.strip_suffix(".json").unwrap_or(name).parse().map_err(|_| not_found())?;
    match view.messages.get(account.sid, sid) {
        Some(message) => Ok(message),
        None => {
            let stored = view.store.message(account.sid, sid).await.map_err(|_| Fault::store_is_away())?;
            stored.ok_or_else(not_found)
        }
    }
}

fn tell(view: &View, message: &Message) {
    let now = wall_ms();
    let kind = EventKind::Message(Box::new(message.fact.clone()));
    let id = EventSid::at(now, crate::api::random());
    // It is about no call.
    let event = Event { id, account: message.account, call: CallSid::new(0), sequence: 0, at_ms: now, kind };
    view.messages.put(message.account, message.fact.sid, message.clone());
    if !view.publisher.publish(event) {
        tracing::error!("the outbox is full: a step of a message is lost");
    }
}

fn resource(Message { account, fact }: &Message) -> Value {
    let path = format!("/2010-04-01/Accounts/{account}/Messages/{}", fact.sid);
    let updated_ms = fact.sent_ms.max(fact.created_ms);
    json!({
        "sid": fact.sid.to_string(),
        "account_sid": account.to_string(),
        "api_version": "2010-04-01",
        "messaging_service_sid": Value::Null,
        "from": fact.from,
        "to": fact.to,
        "body": fact.body,
        "num_segments": fact.segments().to_string(),
        "num_media": "0",
        "direction": fact.direction.as_str(),
        "status": fact.status.as_str(),
        "error_code": (fact.error_code > 0).then_some(fact.error_code),
        "error_message": why(fact.error_code),
        "price": Value::Null,
        "price_unit": "USD",
        "date_created": rfc_2822(fact.created_ms),
        "date_updated": rfc_2822(updated_ms),
        "date_sent": (fact.sent_ms > 0).then(|| rfc_2822(fact.sent_ms)),
        "uri": format!("{path}.json"),
        "subresource_uris": { "media": format!("{path}/Media.json") },
    })
}

fn why(code: u32) -> Option<&'static str> {
    match code {
        0 => None,
        30_003 => Some("No device of the user is registered, or none answers"),
        30_005 => Some("The account has no such user any more"),
        30_008 => Some("The user's devices do not take the message"),
        _ => Some("What the application of the number answered could not be had, or not be carried out"),
    }
}
