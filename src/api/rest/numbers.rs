//! `IncomingPhoneNumbers`: the numbers of the configuration file and those that the API has made, in one list.
//!
//! A number of the file can be changed here too; what was changed counts until the file says something else of it. Such a
//! number is not deleted here, since the next start would bring it back.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

use super::auth::{Acting, Authenticated, Names};
use super::fault::Fault;
use super::fields::{self, Field, Shape, Usual, field, idle};
use super::form::{Form, invalid};
use super::page::Page;
use super::resources::check_sids;
use crate::account::{Account, Number};
use crate::api::View;
use crate::clock::wall_ms;
use crate::events::rfc_2822;
use crate::ids::{AccountSid, NumberSid, fresh_sid};
use crate::store::{Kind, Resource, StoreError};
use crate::twiml::{DocumentSource, Endpoint, Method};

pub(super) const FIELDS: &[Field] = &[
    field("FriendlyName", "friendly_name", Shape::Text(64), Usual::Null),
    field("ApiVersion", "api_version", Shape::OneOf(&["2010-04-01"]), Usual::Text("2010-04-01")),
    field("VoiceUrl", "voice_url", Shape::Url, Usual::Null),
    field("VoiceMethod", "voice_method", Shape::Method, Usual::Text("POST")),
    field("VoiceFallbackUrl", "voice_fallback_url", Shape::Url, Usual::Null),
    field("VoiceFallbackMethod", "voice_fallback_method", Shape::Method, Usual::Text("POST")),
    field("StatusCallback", "status_callback", Shape::Url, Usual::Null),
    field("StatusCallbackMethod", "status_callback_method", Shape::Method, Usual::Text("POST")),
    field("VoiceApplicationSid", "voice_application_sid", Shape::Sid(Kind::Application, 21_218), Usual::Null),
    idle("VoiceCallerIdLookup", "voice_caller_id_lookup", Shape::Flag, Usual::Flag(false)),
    field("VoiceReceiveMode", "voice_receive_mode", Shape::OneOf(&["voice"]), Usual::Text("voice")),
    field("TrunkSid", "trunk_sid", Shape::Sid(Kind::Trunk, 20_001), Usual::Null),
    field("SmsApplicationSid", "sms_application_sid", Shape::Sid(Kind::Application, 21_218), Usual::Null),
    field("SmsUrl", "sms_url", Shape::Url, Usual::Null),
    field("SmsMethod", "sms_method", Shape::Method, Usual::Text("POST")),
    field("SmsFallbackUrl", "sms_fallback_url", Shape::Url, Usual::Null),
    field("SmsFallbackMethod", "sms_fallback_method", Shape::Method, Usual::Text("POST")),
    idle("EmergencyStatus", "emergency_status", Shape::OneOf(&["Active", "Inactive"]), Usual::Text("Inactive")),
    idle("EmergencyAddressSid", "emergency_address_sid", Shape::Text(34), Usual::Null),
    idle("AddressSid", "address_sid", Shape::Text(34), Usual::Null),
    idle("IdentitySid", "identity_sid", Shape::Text(34), Usual::Null),
    idle("BundleSid", "bundle_sid", Shape::Text(34), Usual::Null),
];

const LONGEST_NUMBER: usize = 64;
/// Every number is brought along from elsewhere.
const ORIGIN: &str = "hosted";

/// The newest first, those of the file behind them; filtered by `PhoneNumber` (with `*` for any digits) and
/// `FriendlyName`. None is in beta, and all are
/// hosted.
pub(super) async fn list(State(view): State<View>, Acting(account): Acting, page: Page) -> Result<Json<Value>, Fault> {
    let (pattern, name) = (page.query.text("PhoneNumber"), page.query.text("FriendlyName"));
    let directory = view.directory.load();
    let has_any =
        !page.query.flag("Beta")?.unwrap_or(false) && page.query.text("Origin").is_none_or(|origin| origin == ORIGIN);
    let wanted = |number: &Arc<Number>| {
        has_any
            && pattern.is_none_or(|pattern| matches(pattern, &number.number))
            && name.is_none_or(|name| detail(number).get("friendly_name").is_some_and(|known| known == name))
    };
    let before = page.before()?;
    let found = directory
        .numbers(account.sid)
        .filter(|number| before.is_none_or(|before| number.sid < before) && wanted(number));
    let (found, last) = page.newest(Vec::new(), found.collect(), |number| number.sid, |_| true);
    let path = format!("/2010-04-01/Accounts/{}/IncomingPhoneNumbers.json", account.sid);
    let items = found.iter().map(|number| resource(number)).collect();
    Ok(Json(page.envelope("incoming_phone_numbers", items, last, &path)))
}

pub(super) async fn fetch(
    State(view): State<View>,
    Acting(account): Acting,
    names: Names,
) -> Result<Json<Value>, Fault> {
    find(&view, &account, &names).map(|number| Json(resource(&number)))
}

pub(super) async fn create(State(view): State<View>, Acting(account): Acting, form: Form) -> Result<Response, Fault> {
    let number = match (form.text("PhoneNumber"), form.text("AreaCode")) {
        (Some(number), _) => number.trim(),
        (None, Some(_)) => {
            return Err(Fault::parameter(20_001, "AreaCode: this server has no stock of numbers; say PhoneNumber"));
        }
        (None, None) => return Err(fields::missing("PhoneNumber")),
    };
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"+-_.*#".contains(&byte);
    if number.len() > LONGEST_NUMBER || !number.bytes().all(good) {
        return Err(invalid("PhoneNumber", number, "a number such as +15551234567, or a SIP user"));
    }
    let mut detail = fields::read(&form, FIELDS, None)?;
    check_sids(&view, &account, &form, FIELDS).await?;
    detail.insert("phone_number".into(), json!(number));
    if detail["friendly_name"].is_null() {
        detail.insert("friendly_name".into(), json!(number));
    }
    if view.directory.load().is_number(number) {
        return Err(taken(number));
    }
    let now = wall_ms();
    let row = Resource {
        kind: Kind::Number,
        parent: String::new(),
        sid: fresh_sid(NumberSid::PREFIX, now, crate::api::random()),
        account: account.sid.to_string(),
        unique_name: Some(number.to_owned()),
        detail: Value::Object(detail).to_string(),
        created_ms: now,
        updated_ms: now,
    };
    let sid: NumberSid = row.sid.parse().map_err(|_| Fault::unavailable("The sid"))?;
    view.provisioning.create(row).await.map_err(|error| fault(&error, number))?;
    let made = view.directory.load().number_of_sid(account.sid, sid).cloned();
    // The file may have brought the same number in just now.
    let made = made.ok_or_else(|| taken(number))?;
    Ok((StatusCode::CREATED, Json(resource(&made))).into_response())
}

/// With `AccountSid` the number goes to another account of whoever asks.
pub(super) async fn update(
    State(view): State<View>,
    asking: Authenticated,
    Acting(account): Acting,
    names: Names,
    form: Form,
) -> Result<Json<Value>, Fault> {
    let number = find(&view, &account, &names)?;
    let mut detail = fields::read(&form, FIELDS, Some(detail(&number)))?;
    let to = match form.text("AccountSid") {
        None => account.sid,
        Some(text) => receiver(&view, &asking.account, text)?,
    };
    if to != account.sid {
        // What it named stays behind.
        for key in ["voice_application_sid", "sms_application_sid", "trunk_sid"] {
            detail.insert(key.into(), Value::Null);
        }
    }
    check_sids(&view, &account, &form, FIELDS).await?;
    write(&view, &account, to, &number, detail).await.map(|number| Json(resource(&number)))
}

/// Writes what a number is to say from now on, and gives it to an account, mostly the one that has it.
///
/// A number of the file has no row until it is changed, and may have one that no longer counts.
pub(super) async fn write(
    view: &View,
    account: &Account,
    to: AccountSid,
    number: &Number,
    mut detail: Map<String, Value>,
) -> Result<Arc<Number>, Fault> {
    let over = match &number.row {
        Some(_) => detail.get("over").filter(|over| over.is_string()).cloned(),
        None => Some(json!(number.fingerprint())),
    };
    if over.is_some() && to != account.sid {
        return Err(in_the_file("moved"));
    }
    detail.insert("phone_number".into(), json!(number.number));
    let unique_name = over.is_none().then(|| number.number.clone());
    detail.insert("over".into(), over.unwrap_or(Value::Null));
    let now = wall_ms();
    let row = Resource {
        kind: Kind::Number,
        parent: String::new(),
        sid: number.sid.to_string(),
        account: to.to_string(),
        unique_name,
        detail: Value::Object(detail).to_string(),
        created_ms: number.row.as_ref().map_or(now, |row| row.dated.created_ms),
        updated_ms: now,
    };
    let told = |error: StoreError| fault(&error, &number.number);
    if !view.provisioning.update(&account.sid.to_string(), row.clone()).await.map_err(told)? {
        if number.row.is_some() {
            return Err(Fault::not_found(&row.sid));
        }
        view.provisioning.create(row).await.map_err(told)?;
    }
    let written = view.directory.load().number_of_sid(to, number.sid).cloned();
    written.ok_or_else(|| Fault::not_found(&number.sid.to_string()))
}

/// The trunk that the number's calls go to.
pub(super) fn trunk_of(number: &Number) -> Option<String> {
    // Most numbers have none: their text need not be read.
    number.row.as_ref().filter(|row| row.detail.contains("\"TK"))?;
    detail(number).get("trunk_sid").and_then(Value::as_str).map(str::to_owned)
}

pub(super) async fn remove(
    State(view): State<View>,
    Acting(account): Acting,
    names: Names,
) -> Result<StatusCode, Fault> {
    let number = find(&view, &account, &names)?;
    if number.row.is_none() || detail(&number).get("over").is_some_and(Value::is_string) {
        return Err(in_the_file("deleted"));
    }
    let (of, sid) = (account.sid.to_string(), number.sid.to_string());
    match view.provisioning.delete(&of, Kind::Number, "", &sid).await.map_err(|_| Fault::store_is_away())? {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(not_found(&names)),
    }
}

pub(super) fn find(view: &View, account: &Account, names: &Names) -> Result<Arc<Number>, Fault> {
    let directory = view.directory.load();
    let found = names.get("sid").parse().ok().and_then(|sid| directory.number_of_sid(account.sid, sid));
    found.cloned().ok_or_else(|| not_found(names))
}

fn not_found(names: &Names) -> Fault {
    Fault::not_found(names.get("sid"))
}

fn taken(number: &str) -> Fault {
    Fault::parameter(21_422, format!("{number} is not available: an account has it"))
}

fn in_the_file(what: &str) -> Fault {
    Fault::parameter(20_001, format!("The number stands in the configuration file: it is {what} there"))
}

fn fault(error: &StoreError, number: &str) -> Fault {
    match error {
        StoreError::Taken => taken(number),
        _ => Fault::store_is_away(),
    }
}

/// Numbers go between an account and those that it has made.
fn receiver(view: &View, asking: &Account, text: &str) -> Result<AccountSid, Fault> {
    let directory = view.directory.load();
    let found = text.parse().ok().and_then(|sid| directory.account(sid));
    let own = |account: &Arc<Account>| account.sid == asking.sid || account.owner == Some(asking.sid);
    match found.filter(|account| own(account)) {
        Some(account) if directory.is_active(account.sid) => Ok(account.sid),
        Some(_) => Err(Fault::inactive()),
        None => Err(Fault::parameter(20_001, format!("AccountSid {text} is no account of yours"))),
    }
}

/// A pattern of Twilio's: `*` stands for any digits; without one, the text may stand anywhere.
fn matches(pattern: &str, number: &str) -> bool {
    let mut pieces = pattern.split('*');
    let (first, mut rest) = (pieces.next().unwrap_or(""), number);
    if !pattern.contains('*') {
        return number.contains(pattern);
    }
    let Some(after) = rest.strip_prefix(first) else { return false };
    rest = after;
    let pieces: Vec<&str> = pieces.collect();
    for (at, piece) in pieces.iter().enumerate() {
        if at + 1 == pieces.len() {
            return rest.ends_with(piece);
        }
        match rest.find(piece) {
            Some(found) => rest = &rest[found + piece.len()..],
            None => return false,
        }
    }
    true
}

/// What the API wrote of it, or what the file says in the same words.
pub(super) fn detail(number: &Number) -> Map<String, Value> {
    if let Some(row) = &number.row {
        return serde_json::from_str(&row.detail).unwrap_or_default();
    }
    let document = match &number.application.document.source {
        DocumentSource::Url(endpoint) => Some(endpoint),
        DocumentSource::Twiml(_) | DocumentSource::Transfer { .. } => None,
    };
    let (fallback, callback) =
        (number.application.fallback(), number.application.status_callback.as_ref().map(|callback| &callback.endpoint));
    let messaging = number.messaging.as_ref();
    let mut detail = fields::read(&Form::default(), FIELDS, None).unwrap_or_default();
    let mut put = |key: &str, value: Value| detail.insert(key.to_owned(), value);
    put("friendly_name", json!(number.number));
    for (endpoint, url, method) in [
        (document, "voice_url", "voice_method"),
        (fallback, "voice_fallback_url", "voice_fallback_method"),
        (callback, "status_callback", "status_callback_method"),
        (messaging.map(|messaging| &messaging.asks), "sms_url", "sms_method"),
        (messaging.and_then(|messaging| messaging.fallback.as_ref()), "sms_fallback_url", "sms_fallback_method"),
    ] {
        let Some(Endpoint { url: text, method: by }) = endpoint else { continue };
        put(url, json!(text));
        put(method, json!(if *by == Method::Get { "GET" } else { "POST" }));
    }
    detail
}

pub(super) fn resource(number: &Number) -> Value {
    let (sid, account) = (number.sid.to_string(), number.account);
    let mut shown = detail(number);
    shown.remove("over");
    let dates = number.row.as_ref().map(|row| row.dated);
    let more = json!({
        "sid": sid,
        "account_sid": account.to_string(),
        "phone_number": number.number,
        "capabilities": { "voice": true, "sms": true, "mms": false, "fax": false },
        "address_requirements": "none",
        "emergency_address_status": "unregistered",
        "beta": false,
        "origin": ORIGIN,
        "status": "in-use",
        "type": Value::Null,
        "date_created": dates.map(|dated| rfc_2822(dated.created_ms)),
        "date_updated": dates.map(|dated| rfc_2822(dated.updated_ms)),
        "subresource_uris": {},
        "uri": format!("/2010-04-01/Accounts/{account}/IncomingPhoneNumbers/{sid}.json"),
    });
    if let Value::Object(more) = more {
        shown.extend(more);
    }
    Value::Object(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pattern_is_a_part_or_has_stars() {
        for (pattern, number, expected) in [
            ("555", "+15551234", true),
            ("556", "+15551234", false),
            ("+1555*", "+15551234", true),
            ("*1234", "+15551234", true),
            ("+1*12*4", "+15551234", true),
            ("+1*13*4", "+15551234", false),
            ("+2*", "+15551234", false),
            ("*", "echo", true),
        ] {
            assert_eq!(matches(pattern, number), expected, "{pattern} {number}");
        }
    }
}
