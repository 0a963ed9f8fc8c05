//! `OutgoingCallerIds`: numbers of others that an account may show when it calls.
//!
//! Nobody is called to prove a number: whoever has the token of an account of the configuration file vouches for it, and an
//! account that was made by the API cannot vouch for itself.

use axum::Json;
use axum::extract::State;
use serde_json::{Map, Value, json};

use super::auth::{Acting, Authenticated};
use super::fault::Fault;
use super::fields::{self, Field, Shape, Usual, field};
use super::form::{Form, invalid};
use super::resources::{Api, FILTERS, Spec, may_always_go, read_nothing_more, show_nothing_more};
use crate::api::View;
use crate::clock::wall_ms;
use crate::events::{CallerIdFact, Event, EventKind};
use crate::ids::{CallSid, EventSid, NumberSid};
use crate::store::{Kind, Resource, StoreError};

pub static SPEC: Spec = Spec {
    kind: Kind::CallerId,
    prefix: "PN",
    path: "/OutgoingCallerIds",
    key: "outgoing_caller_ids",
    fields: FIELDS,
    parent: None,
    uses: None,
    api: Api::Classic,
    filters: FILTERS,
    reads: &[],
    read: read_nothing_more,
    may_go: may_always_go,
    show: show_nothing_more,
    unique: Some((name, 21_450)),
};

pub(super) const FIELDS: &[Field] = &[field("FriendlyName", "friendly_name", Shape::Text(64), Usual::Null)];

fn name(row: &Resource, detail: &Map<String, Value>) -> Option<String> {
    Some(format!("{} {}", row.account, detail.get("phone_number")?.as_str()?))
}

/// A validation request, which succeeds at once, as its callback says. Its answer has a code, as the SDKs expect; nobody asks for it.
pub(super) async fn validate(
    State(view): State<View>,
    asking: Authenticated,
    Acting(account): Acting,
    form: Form,
) -> Result<Json<Value>, Fault> {
    if asking.account.owner.is_some() {
        let why = "An account that was made by the API cannot vouch for a number: the account that made it can";
        return Err(Fault::denied(why));
    }
    let number = form.text("PhoneNumber").ok_or_else(|| fields::missing("PhoneNumber"))?;
    let digits = number.strip_prefix('+').unwrap_or(number);
    if digits.is_empty() || digits.len() > 20 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(invalid("PhoneNumber", number, "a number such as +15551234567"));
    }
    let callback = form.endpoint("StatusCallback", "StatusCallbackMethod", 20_001)?;
    let mut detail = fields::read(&form, FIELDS, None)?;
    if detail["friendly_name"].is_null() {
        detail.insert("friendly_name".into(), json!(number));
    }
    detail.insert("phone_number".into(), json!(number));
    let now = wall_ms();
    let sid = NumberSid::at(now, crate::api::random());
    let mut row = Resource {
        kind: Kind::CallerId,
        parent: String::new(),
        sid: sid.to_string(),
        account: account.sid.to_string(),
        unique_name: None,
        detail: Value::Object(detail.clone()).to_string(),
        created_ms: now,
        updated_ms: now,
    };
    row.unique_name = name(&row, &detail);
    let validated = callback.map(|callback| CallerIdFact { sid, number: number.to_owned(), callback });
    view.provisioning.create(row).await.map_err(|error| match error {
        StoreError::Taken => Fault::parameter(21_450, format!("{number} is a caller id of the account already")),
        _ => Fault::store_is_away(),
    })?;
    if let Some(fact) = validated {
        let (id, kind) = (EventSid::at(now, crate::api::random()), EventKind::CallerId(Box::new(fact)));
        // It is about no call.
        let event = Event { id, account: account.sid, call: CallSid::new(0), sequence: 0, at_ms: now, kind };
        if !view.publisher.publish(event) {
            tracing::error!("the outbox is full: nobody is told of a caller id");
        }
    }
    Ok(Json(json!({
        "account_sid": account.sid.to_string(),
        "call_sid": Value::Null,
        "friendly_name": detail["friendly_name"],
        "phone_number": number,
        "validation_code": format!("{:06}", crate::api::random() % 1_000_000),
    })))
}
