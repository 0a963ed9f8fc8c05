//! `IncomingPhoneNumbers`: the numbers of the configuration file, to be read.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::auth::Acting;
use super::fault::Fault;
use super::page::Page;
use crate::account::Number;
use crate::api::View;
use crate::ids::NumberSid;
use crate::twiml::{DocumentSource, Endpoint, Method};

/// By number, filtered by `PhoneNumber` (with `*` for any digits) and `FriendlyName`.
pub(super) async fn list(State(view): State<View>, Acting(account): Acting, page: Page) -> Result<Json<Value>, Fault> {
    let wanted = |number: &Number| {
        page.query.text("PhoneNumber").is_none_or(|pattern| matches(pattern, &number.number))
            && page.query.text("FriendlyName").is_none_or(|name| name == number.number)
            && page.after.as_ref().is_none_or(|after| *after < number.number)
    };
    let directory = view.directory.load();
    let mut found: Vec<&Arc<Number>> = directory.numbers(account.sid).filter(|number| wanted(number)).collect();
    found.sort_by(|one, other| one.number.cmp(&other.number));
    let follows = found.len() > page.size as usize;
    found.truncate(page.size as usize);
    let last = found.last().filter(|_| follows).map(|number| number.number.clone());
    let path = format!("/2010-04-01/Accounts/{}/IncomingPhoneNumbers.json", account.sid);
    let items = found.into_iter().map(|number| resource(number)).collect();
    Ok(Json(page.envelope("incoming_phone_numbers", items, last, &path)))
}

pub(super) async fn fetch(
    State(view): State<View>,
    Acting(account): Acting,
    Path((_, name)): Path<(String, String)>,
) -> Result<Json<Value>, Fault> {
    let wanted = name.strip_suffix(".json").unwrap_or(&name);
    let directory = view.directory.load();
    let found = directory.numbers(account.sid).find(|number| sid(number) == wanted);
    let not_found = || Fault::not_found(&format!("/2010-04-01/Accounts/{}/IncomingPhoneNumbers/{name}", account.sid));
    found.map(|number| Json(resource(number))).ok_or_else(not_found)
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

/// Made of the account and the number: a number of the configuration file has no other name.
fn sid(number: &Number) -> String {
    let hash = Sha256::digest(format!("{} {}", number.account, number.number));
    let bits = hash.iter().take(16).fold(0, |bits: u128, byte| bits << 8 | u128::from(*byte));
    NumberSid::new(bits).to_string()
}

fn resource(number: &Number) -> Value {
    let (sid, account) = (sid(number), number.account);
    let document = match &number.application.document.source {
        DocumentSource::Url(endpoint) => Some(endpoint),
        DocumentSource::Twiml(_) => None,
    };
    let url = |endpoint: Option<&Endpoint>| endpoint.map(|endpoint| endpoint.url.clone());
    let method = |endpoint: Option<&Endpoint>| match endpoint.map(|endpoint| endpoint.method) {
        Some(Method::Get) => "GET",
        Some(Method::Post) | None => "POST",
    };
    let (fallback, callback) =
        (number.application.fallback(), number.application.status_callback.as_ref().map(|callback| &callback.endpoint));
    json!({
        "sid": sid,
        "account_sid": account.to_string(),
        "phone_number": number.number,
        "friendly_name": number.number,
        "api_version": "2010-04-01",
        "voice_url": url(document),
        "voice_method": method(document),
        "voice_fallback_url": url(fallback),
        "voice_fallback_method": method(fallback),
        "status_callback": url(callback),
        "status_callback_method": method(callback),
        "voice_application_sid": Value::Null,
        "voice_caller_id_lookup": false,
        "voice_receive_mode": "voice",
        "capabilities": { "voice": true, "sms": false, "mms": false, "fax": false },
        "sms_application_sid": Value::Null,
        "sms_url": Value::Null,
        "sms_method": Value::Null,
        "sms_fallback_url": Value::Null,
        "sms_fallback_method": Value::Null,
        "trunk_sid": Value::Null,
        "address_sid": Value::Null,
        "address_requirements": "none",
        "identity_sid": Value::Null,
        "bundle_sid": Value::Null,
        "emergency_status": "Inactive",
        "emergency_address_sid": Value::Null,
        "emergency_address_status": "unregistered",
        "beta": false,
        "origin": "hosted",
        "status": "in-use",
        "type": Value::Null,
        "date_created": Value::Null,
        "date_updated": Value::Null,
        "subresource_uris": {},
        "uri": format!("/2010-04-01/Accounts/{account}/IncomingPhoneNumbers/{sid}.json"),
    })
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
