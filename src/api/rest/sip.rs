//! `SIP`: domains, the lists of users and addresses that may call there, and which list is put to use where.

use std::net::IpAddr;

use dialtone_sip::digest::Hashes;
use serde_json::{Map, Value, json};

use super::fault::Fault;
use super::fields::{self, Field, Shape, Usual, field, idle};
use super::form::{Form, invalid};
use super::resources::{Api, FILTERS, Spec, may_always_go, parts, read_nothing_more};
use crate::api::View;
use crate::store::{Kind, Resource};

/// All of it.
pub static SPECS: [&Spec; 10] = [
    &DOMAINS,
    &CREDENTIAL_LISTS,
    &CREDENTIALS,
    &ACCESS_LISTS,
    &ADDRESSES,
    &CALL_CREDENTIALS,
    &CALL_ADDRESSES,
    // The paths of before `Auth`.
    &OLD_CALL_CREDENTIALS,
    &OLD_CALL_ADDRESSES,
    &REGISTRATION_CREDENTIALS,
];

static DOMAINS: Spec = Spec {
    kind: Kind::Domain,
    prefix: "SD",
    path: "/SIP/Domains",
    key: "domains",
    fields: &[
        field("DomainName", "domain_name", Shape::Text(253), Usual::Required),
        field("FriendlyName", "friendly_name", Shape::Text(64), Usual::Null),
        field("VoiceUrl", "voice_url", Shape::Url, Usual::Null),
        field("VoiceMethod", "voice_method", Shape::Method, Usual::Text("POST")),
        field("VoiceFallbackUrl", "voice_fallback_url", Shape::Url, Usual::Null),
        field("VoiceFallbackMethod", "voice_fallback_method", Shape::Method, Usual::Text("POST")),
        field("VoiceStatusCallbackUrl", "voice_status_callback_url", Shape::Url, Usual::Null),
        field("VoiceStatusCallbackMethod", "voice_status_callback_method", Shape::Method, Usual::Text("POST")),
        field("SipRegistration", "sip_registration", Shape::Flag, Usual::Flag(false)),
        idle("EmergencyCallingEnabled", "emergency_calling_enabled", Shape::Flag, Usual::Flag(false)),
        idle("Secure", "secure", Shape::Flag, Usual::Flag(false)),
        idle("ByocTrunkSid", "byoc_trunk_sid", Shape::Text(34), Usual::Null),
        idle("EmergencyCallerSid", "emergency_caller_sid", Shape::Text(34), Usual::Null),
    ],
    parent: None,
    uses: None,
    api: Api::Classic,
    filters: FILTERS,
    reads: &[],
    read: read_domain,
    may_go: may_always_go,
    show: show_domain,
    unique: Some((domain_name, 21_232)),
};

static CREDENTIAL_LISTS: Spec = Spec {
    kind: Kind::CredentialList,
    prefix: "CL",
    path: "/SIP/CredentialLists",
    key: "credential_lists",
    fields: NAMED,
    parent: None,
    uses: None,
    api: Api::Classic,
    filters: FILTERS,
    reads: &[],
    read: read_nothing_more,
    may_go: may_always_go,
    show: |_, row, shown| {
        let parts = parts(row, "/SIP/CredentialLists", &[("credentials", "Credentials")]);
        shown.insert("subresource_uris".into(), parts);
    },
    unique: None,
};

static CREDENTIALS: Spec = Spec {
    kind: Kind::Credential,
    prefix: "CR",
    path: "/SIP/CredentialLists/{sid}/Credentials",
    key: "credentials",
    fields: &[],
    parent: Some(Kind::CredentialList),
    uses: None,
    api: Api::Classic,
    filters: FILTERS,
    reads: &["Username", "Password"],
    read: read_credential,
    may_go: may_always_go,
    show: |_, row, shown| {
        shown.remove("hashes");
        shown.remove("realm");
        shown.insert("credential_list_sid".into(), json!(row.parent));
    },
    unique: Some((|row, detail| Some(format!("{} {}", row.parent, detail.get("username")?.as_str()?)), 21_240)),
};

static ACCESS_LISTS: Spec = Spec {
    kind: Kind::AccessList,
    prefix: "AL",
    path: "/SIP/IpAccessControlLists",
    key: "ip_access_control_lists",
    show: |_, row, shown| {
        let parts = parts(row, "/SIP/IpAccessControlLists", &[("ip_addresses", "IpAddresses")]);
        shown.insert("subresource_uris".into(), parts);
    },
    ..CREDENTIAL_LISTS
};

static ADDRESSES: Spec = Spec {
    kind: Kind::Address,
    prefix: "IP",
    path: "/SIP/IpAccessControlLists/{sid}/IpAddresses",
    key: "ip_addresses",
    fields: &[
        field("FriendlyName", "friendly_name", Shape::Text(255), Usual::Required),
        field("IpAddress", "ip_address", Shape::Text(45), Usual::Required),
        field("CidrPrefixLength", "cidr_prefix_length", Shape::Number(0..=128), Usual::Null),
    ],
    parent: Some(Kind::AccessList),
    uses: None,
    api: Api::Classic,
    filters: FILTERS,
    reads: &[],
    read: read_address,
    may_go: may_always_go,
    show: |_, row, shown| {
        shown.insert("ip_access_control_list_sid".into(), json!(row.parent));
    },
    unique: None,
};

static CALL_CREDENTIALS: Spec = Spec {
    kind: Kind::CallCredentials,
    prefix: "CL",
    path: "/SIP/Domains/{sid}/Auth/Calls/CredentialListMappings",
    key: "contents",
    fields: &[],
    parent: Some(Kind::Domain),
    uses: Some(("CredentialListSid", Kind::CredentialList)),
    api: Api::Classic,
    filters: FILTERS,
    reads: &[],
    read: read_nothing_more,
    may_go: may_always_go,
    show: |_, row, shown| {
        shown.insert("domain_sid".into(), json!(row.parent));
    },
    unique: None,
};

static CALL_ADDRESSES: Spec = Spec {
    kind: Kind::CallAddresses,
    prefix: "AL",
    path: "/SIP/Domains/{sid}/Auth/Calls/IpAccessControlListMappings",
    uses: Some(("IpAccessControlListSid", Kind::AccessList)),
    ..CALL_CREDENTIALS
};

static OLD_CALL_CREDENTIALS: Spec =
    Spec { path: "/SIP/Domains/{sid}/CredentialListMappings", key: "credential_list_mappings", ..CALL_CREDENTIALS };

static OLD_CALL_ADDRESSES: Spec = Spec {
    path: "/SIP/Domains/{sid}/IpAccessControlListMappings",
    key: "ip_access_control_list_mappings",
    ..CALL_ADDRESSES
};

static REGISTRATION_CREDENTIALS: Spec = Spec {
    kind: Kind::RegistrationCredentials,
    path: "/SIP/Domains/{sid}/Auth/Registrations/CredentialListMappings",
    ..CALL_CREDENTIALS
};

const NAMED: &[Field] = &[field("FriendlyName", "friendly_name", Shape::Text(64), Usual::Required)];

fn domain_name(_: &Resource, detail: &Map<String, Value>) -> Option<String> {
    Some(detail.get("domain_name")?.as_str()?.to_owned())
}

fn read_domain(
    view: &View,
    _: &Form,
    present: Option<&Resource>,
    detail: &mut Map<String, Value>,
) -> Result<(), Fault> {
    let name = host_name(detail, "DomainName", "domain_name")?.ok_or_else(|| fields::missing("DomainName"))?;
    check_free(view, present, &name)?;
    if detail["friendly_name"].is_null() {
        detail.insert("friendly_name".into(), json!(name));
    }
    Ok(())
}

/// A host name, in small letters.
pub(super) fn host_name(detail: &mut Map<String, Value>, param: &str, key: &str) -> Result<Option<String>, Fault> {
    let Some(name) = detail.get(key).and_then(Value::as_str).map(str::to_ascii_lowercase) else { return Ok(None) };
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    if !name.contains('.') || !name.split('.').all(label) || name.parse::<IpAddr>().is_ok() {
        return Err(invalid(param, &name, "a host name such as office.sip.example.com"));
    }
    detail.insert(key.to_owned(), json!(name));
    Ok(Some(name))
}

/// Nobody else answers at that name: no domain, no trunk, and not this server itself.
pub(super) fn check_free(view: &View, present: Option<&Resource>, name: &str) -> Result<(), Fault> {
    let before = present.map(super::resources::detail);
    let keeps = before.is_some_and(|before| before.get("domain_name").and_then(Value::as_str) == Some(name));
    match keeps || !view.directory.load().is_own_domain(name) {
        true => Ok(()),
        false => Err(Fault::parameter(21_232, format!("The domain name {name} is taken"))),
    }
}

fn show_domain(view: &View, row: &Resource, shown: &mut Map<String, Value>) {
    let directory = view.directory.load();
    let name = shown.get("domain_name").and_then(Value::as_str).unwrap_or_default();
    let domain = directory.sip_domain(name).filter(|domain| domain.account.to_string() == row.account);
    let kinds = domain.map(|domain| {
        let by_address = domain.addresses.is_some().then_some("IP_ACL");
        by_address
            .into_iter()
            .chain(domain.wants_credentials.then_some("CREDENTIAL_LIST"))
            .collect::<Vec<_>>()
            .join(",")
    });
    shown.insert("auth_type".into(), json!(kinds.unwrap_or_default()));
    shown.insert("api_version".into(), json!("2010-04-01"));
    let names = [
        ("credential_list_mappings", "CredentialListMappings"),
        ("ip_access_control_list_mappings", "IpAccessControlListMappings"),
    ];
    shown.insert("subresource_uris".into(), parts(row, "/SIP/Domains", &names));
}

const LONGEST_USERNAME: usize = 32;
const SHORTEST_PASSWORD: usize = 12;

/// The password is not kept: only what a digest needs, for this server's realm.
fn read_credential(
    view: &View,
    form: &Form,
    present: Option<&Resource>,
    detail: &mut Map<String, Value>,
) -> Result<(), Fault> {
    if present.is_none() {
        let username = form.text("Username").ok_or_else(|| fields::missing("Username"))?;
        let good = |byte: u8| byte.is_ascii_alphanumeric() || b"+-_.".contains(&byte);
        if username.len() > LONGEST_USERNAME || !username.bytes().all(good) {
            return Err(invalid("Username", username, "up to 32 letters, digits and + - _ ."));
        }
        detail.insert("username".into(), json!(username));
    }
    let password = form.text("Password").ok_or_else(|| fields::missing("Password"))?;
    let has = |wanted: fn(&char) -> bool| password.chars().any(|letter| wanted(&letter));
    let good = password.chars().count() >= SHORTEST_PASSWORD
        && has(char::is_ascii_digit)
        && has(char::is_ascii_lowercase)
        && has(char::is_ascii_uppercase);
    if !good {
        let wanted = "Password must have at least 12 characters, among them a digit, a small and a capital letter";
        return Err(Fault::parameter(20_001, wanted));
    }
    let realm = view.provisioning.realm();
    let username = detail.get("username").and_then(Value::as_str).unwrap_or_default();
    let hashes = Hashes::new(username, realm, password);
    detail.insert("hashes".into(), json!(hashes));
    detail.insert("realm".into(), json!(realm));
    Ok(())
}

fn read_address(_: &View, _: &Form, _: Option<&Resource>, detail: &mut Map<String, Value>) -> Result<(), Fault> {
    let text = detail.get("ip_address").and_then(Value::as_str).unwrap_or_default().to_owned();
    let address: IpAddr = text.parse().map_err(|_| invalid("IpAddress", &text, "an IPv4 or IPv6 address"))?;
    let longest = if address.is_ipv4() { 32 } else { 128 };
    match detail.get("cidr_prefix_length").and_then(Value::as_u64) {
        None => detail.insert("cidr_prefix_length".into(), json!(longest)),
        Some(length) if length > longest => {
            return Err(invalid("CidrPrefixLength", &length.to_string(), &format!("0 to {longest}")));
        }
        Some(_) => None,
    };
    Ok(())
}
