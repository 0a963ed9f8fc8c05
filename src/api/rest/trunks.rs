//! `trunking.v1`: elastic trunks. Calls that arrive at a trunk's domain are dialled; calls to its numbers go to its URLs.

use axum::Json;
use axum::extract::State;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use dialtone_sip::msg::SipUri;
use serde_json::{Map, Value, json};

use super::auth::{Acting, Names};
use super::fault::Fault;
use super::fields::{self, Field, Shape, Usual, field, idle};
use super::form::{Form, invalid};
use super::page::{Base, Page};
use super::resources::{Api, FILTERS, Spec, detail, find, iso_8601, may_always_go, read_nothing_more};
use super::table::Table;
use super::{numbers, sip};
use crate::account::{Account, Number};
use crate::api::View;
use crate::clock::wall_ms;
use crate::ids::NumberSid;
use crate::store::{Kind, Resource};

static TRUNKS: Spec = Spec {
    kind: Kind::Trunk,
    prefix: "TK",
    path: "/Trunks",
    key: "trunks",
    fields: &[
        field("FriendlyName", "friendly_name", Shape::Text(64), Usual::Null),
        field("DomainName", "domain_name", Shape::Text(253), Usual::Null),
        field("DisasterRecoveryUrl", "disaster_recovery_url", Shape::Url, Usual::Null),
        field("DisasterRecoveryMethod", "disaster_recovery_method", Shape::Method, Usual::Text("POST")),
        idle("TransferMode", "transfer_mode", TRANSFER_MODES, Usual::Text("disable-all")),
        idle("TransferCallerId", "transfer_caller_id", TRANSFER_CALLER_IDS, Usual::Text("from-transferor")),
        idle("Secure", "secure", Shape::Flag, Usual::Flag(false)),
        idle("CnamLookupEnabled", "cnam_lookup_enabled", Shape::Flag, Usual::Flag(false)),
    ],
    parent: None,
    uses: None,
    api: Api::V1,
    filters: FILTERS,
    reads: &[],
    read: read_trunk,
    may_go: may_always_go,
    show: show_trunk,
    unique: Some((|_, detail| Some(detail.get("domain_name")?.as_str()?.to_owned()), 21_232)),
};

static ORIGINATION_URLS: Spec = Spec {
    kind: Kind::OriginationUrl,
    prefix: "OU",
    path: "/Trunks/{sid}/OriginationUrls",
    key: "origination_urls",
    fields: &[
        field("FriendlyName", "friendly_name", Shape::Text(64), Usual::Required),
        field("SipUrl", "sip_url", Shape::Text(255), Usual::Required),
        field("Weight", "weight", Shape::Number(1..=65_535), Usual::Number(1)),
        field("Priority", "priority", Shape::Number(0..=65_535), Usual::Number(1)),
        field("Enabled", "enabled", Shape::Flag, Usual::Flag(true)),
    ],
    parent: Some(Kind::Trunk),
    reads: &[],
    read: read_origination_url,
    may_go: may_always_go,
    show: show_parent,
    unique: None,
    ..TRUNKS
};

static CREDENTIAL_LISTS: Spec = Spec {
    kind: Kind::TrunkCredentials,
    prefix: "CL",
    path: "/Trunks/{sid}/CredentialLists",
    key: "credential_lists",
    fields: &[],
    parent: Some(Kind::Trunk),
    uses: Some(("CredentialListSid", Kind::CredentialList)),
    reads: &[],
    read: read_nothing_more,
    may_go: may_always_go,
    show: show_parent,
    unique: None,
    ..TRUNKS
};

static ACCESS_LISTS: Spec = Spec {
    kind: Kind::TrunkAddresses,
    prefix: "AL",
    path: "/Trunks/{sid}/IpAccessControlLists",
    key: "ip_access_control_lists",
    uses: Some(("IpAccessControlListSid", Kind::AccessList)),
    ..CREDENTIAL_LISTS
};

const TRANSFER_MODES: Shape = Shape::OneOf(&["disable-all", "enable-all", "sip-only"]);
const TRANSFER_CALLER_IDS: Shape = Shape::OneOf(&["from-transferee", "from-transferor"]);

const RECORDING: &[Field] = &[
    field("Mode", "mode", Shape::OneOf(RECORDING_MODES), Usual::Text("do-not-record")),
    field("Trim", "trim", Shape::OneOf(&["trim-silence", "do-not-trim"]), Usual::Text("do-not-trim")),
];

const RECORDING_MODES: &[&str] = &[
    "do-not-record",
    "record-from-ringing",
    "record-from-answer",
    "record-from-ringing-dual",
    "record-from-answer-dual",
];

/// Adds all of it to the table.
pub fn routes(table: Table) -> Table {
    let specs = [&TRUNKS, &ORIGINATION_URLS, &CREDENTIAL_LISTS, &ACCESS_LISTS];
    specs
        .into_iter()
        .fold(table, |table, spec| spec.routes(table))
        .on(Method::GET, "/v1/Trunks/{sid}/PhoneNumbers", list_numbers)
        .lists(&[])
        .on(Method::POST, "/v1/Trunks/{sid}/PhoneNumbers", add_number)
        .reads(&["PhoneNumberSid"])
        .on(Method::GET, "/v1/Trunks/{sid}/PhoneNumbers/{name}", fetch_number)
        .on(Method::DELETE, "/v1/Trunks/{sid}/PhoneNumbers/{name}", remove_number)
        .on(Method::GET, "/v1/Trunks/{sid}/Recording", fetch_recording)
        .on(Method::POST, "/v1/Trunks/{sid}/Recording", update_recording)
        .reads_fields(RECORDING)
}

fn read_trunk(view: &View, _: &Form, present: Option<&Resource>, detail: &mut Map<String, Value>) -> Result<(), Fault> {
    if let Some(name) = sip::host_name(detail, "DomainName", "domain_name")? {
        sip::check_free(view, present, &name)?;
    }
    if present.is_none() {
        detail.insert("recording".into(), Value::Object(fields::read(&Form::default(), RECORDING, None)?));
    }
    Ok(())
}

fn show_trunk(view: &View, row: &Resource, shown: &mut Map<String, Value>) {
    let directory = view.directory.load();
    let name = shown.get("domain_name").and_then(Value::as_str).unwrap_or_default();
    let domain = directory.sip_domain(name).filter(|domain| domain.account.to_string() == row.account);
    let kinds: Vec<&str> = domain.map_or(Vec::new(), |domain| {
        let by_address = domain.addresses.is_some().then_some("IP_ACL");
        by_address.into_iter().chain(domain.wants_credentials.then_some("CREDENTIAL_LIST")).collect()
    });
    shown.insert("auth_type".into(), json!(kinds.join(",")));
    shown.insert("auth_type_set".into(), json!(kinds));
    shown.insert("symmetric_rtp_enabled".into(), json!(false));
    let url = shown.get("url").and_then(Value::as_str).unwrap_or_default().to_owned();
    let links = json!({
        "origination_urls": format!("{url}/OriginationUrls"),
        "credential_lists": format!("{url}/CredentialLists"),
        "ip_access_control_lists": format!("{url}/IpAccessControlLists"),
        "phone_numbers": format!("{url}/PhoneNumbers"),
    });
    shown.insert("links".into(), links);
}

fn show_parent(_: &View, row: &Resource, shown: &mut Map<String, Value>) {
    shown.insert("trunk_sid".into(), json!(row.parent));
}

fn read_origination_url(
    _: &View,
    _: &Form,
    _: Option<&Resource>,
    detail: &mut Map<String, Value>,
) -> Result<(), Fault> {
    let url = detail.get("sip_url").and_then(Value::as_str).unwrap_or_default();
    match SipUri::parse(url) {
        Ok(_) => Ok(()),
        Err(_) => Err(invalid("SipUrl", url, "a SIP URI such as sip:pbx.example.com")),
    }
}

async fn trunk(view: &View, account: &Account, names: &Names) -> Result<Resource, Fault> {
    let sid = names.get("sid");
    find(view, account, Kind::Trunk, "", sid).await?.ok_or_else(|| Fault::not_found(sid))
}

async fn list_numbers(
    State(view): State<View>,
    Acting(account): Acting,
    names: Names,
    base: Base,
    page: Page,
) -> Result<Json<Value>, Fault> {
    let trunk = trunk(&view, &account, &names).await?.sid;
    let directory = view.directory.load();
    let before = page.before()?;
    let found = directory.numbers(account.sid).filter(|number| {
        before.is_none_or(|before| number.sid < before) && numbers::trunk_of(number).as_deref() == Some(&trunk)
    });
    let (found, last) = page.newest(Vec::new(), found.collect(), |number| number.sid, |_| true);
    let items = found.into_iter().map(|number| shown_number(number, &trunk, &base)).collect();
    Ok(Json(page.envelope_v1("phone_numbers", items, last, &format!("{base}/v1/Trunks/{trunk}/PhoneNumbers"))))
}

async fn add_number(
    State(view): State<View>,
    Acting(account): Acting,
    names: Names,
    base: Base,
    form: Form,
) -> Result<Response, Fault> {
    let trunk = trunk(&view, &account, &names).await?.sid;
    let sid = form.text("PhoneNumberSid").ok_or_else(|| fields::missing("PhoneNumberSid"))?;
    let changed = set_trunk(&view, &account, sid, Some(&trunk)).await?;
    let changed = changed
        .ok_or_else(|| Fault::parameter(20_001, format!("PhoneNumberSid {sid} is not a number of this account")))?;
    Ok((StatusCode::CREATED, Json(shown_number(&changed, &trunk, &base))).into_response())
}

async fn fetch_number(
    State(view): State<View>,
    Acting(account): Acting,
    names: Names,
    base: Base,
) -> Result<Json<Value>, Fault> {
    let trunk = trunk(&view, &account, &names).await?.sid;
    let number = number_of(&view, &account, &trunk, names.get("name"))?;
    Ok(Json(shown_number(&number, &trunk, &base)))
}

async fn remove_number(State(view): State<View>, Acting(account): Acting, names: Names) -> Result<StatusCode, Fault> {
    let trunk = trunk(&view, &account, &names).await?.sid;
    let sid = number_of(&view, &account, &trunk, names.get("name"))?.sid.to_string();
    match set_trunk(&view, &account, &sid, None).await? {
        Some(_) => Ok(StatusCode::NO_CONTENT),
        None => Err(Fault::not_found(&sid)),
    }
}

fn number_of(view: &View, account: &Account, trunk: &str, sid: &str) -> Result<std::sync::Arc<Number>, Fault> {
    let directory = view.directory.load();
    let found = sid.parse().ok().and_then(|sid| directory.number_of_sid(account.sid, sid));
    let own = found.filter(|number| numbers::trunk_of(number).as_deref() == Some(trunk));
    own.cloned().ok_or_else(|| Fault::not_found(sid))
}

async fn set_trunk(
    view: &View,
    account: &Account,
    sid: &str,
    trunk: Option<&str>,
) -> Result<Option<std::sync::Arc<Number>>, Fault> {
    let Ok(sid) = sid.parse::<NumberSid>() else { return Ok(None) };
    let Some(number) = view.directory.load().number_of_sid(account.sid, sid).cloned() else { return Ok(None) };
    let mut detail = numbers::detail(&number);
    detail.insert("trunk_sid".into(), json!(trunk));
    numbers::write(view, account, account.sid, &number, detail).await.map(Some)
}

/// As `trunking.v1` shows a number.
fn shown_number(number: &Number, trunk: &str, base: &Base) -> Value {
    let Value::Object(mut shown) = numbers::resource(number) else { return Value::Null };
    for key in ["uri", "subresource_uris"] {
        shown.remove(key);
    }
    for (key, at_ms) in number
        .row
        .iter()
        .flat_map(|row| [("date_created", row.dated.created_ms), ("date_updated", row.dated.updated_ms)])
    {
        shown.insert(key.into(), json!(iso_8601(at_ms)));
    }
    shown.insert("url".into(), json!(format!("{base}/v1/Trunks/{trunk}/PhoneNumbers/{}", number.sid)));
    shown.insert("links".into(), json!({}));
    Value::Object(shown)
}

async fn fetch_recording(
    State(view): State<View>,
    Acting(account): Acting,
    names: Names,
) -> Result<Json<Value>, Fault> {
    let row = trunk(&view, &account, &names).await?;
    Ok(Json(detail(&row).remove("recording").unwrap_or_default()))
}

async fn update_recording(
    State(view): State<View>,
    Acting(account): Acting,
    names: Names,
    form: Form,
) -> Result<Json<Value>, Fault> {
    let mut row = trunk(&view, &account, &names).await?;
    let mut detail = detail(&row);
    let present = detail.get("recording").and_then(Value::as_object).cloned().unwrap_or_default();
    let recording = Value::Object(fields::read(&form, RECORDING, Some(present))?);
    detail.insert("recording".into(), recording.clone());
    row.detail = Value::Object(detail).to_string();
    row.updated_ms = wall_ms();
    let sid = row.sid.clone();
    match view.provisioning.update(&account.sid.to_string(), row).await.map_err(|_| Fault::store_is_away())? {
        true => Ok(Json(recording)),
        false => Err(Fault::not_found(&sid)),
    }
}
