//! `Applications`: a set of URLs under one sid, for numbers and calls to name.

use super::fields::{Field, Shape, Usual, field, idle};
use super::resources::{Api, FILTERS, Spec, may_always_go, read_nothing_more, show_nothing_more};
use crate::store::Kind;

pub static SPEC: Spec = Spec {
    kind: Kind::Application,
    prefix: "AP",
    path: "/Applications",
    key: "applications",
    fields: FIELDS,
    parent: None,
    uses: None,
    api: Api::Classic,
    filters: FILTERS,
    reads: &[],
    read: read_nothing_more,
    may_go: may_always_go,
    show: show_nothing_more,
    unique: None,
};

const FIELDS: &[Field] = &[
    field("FriendlyName", "friendly_name", Shape::Text(64), Usual::Text("")),
    field("ApiVersion", "api_version", Shape::OneOf(&["2010-04-01"]), Usual::Text("2010-04-01")),
    field("VoiceUrl", "voice_url", Shape::Url, Usual::Null),
    field("VoiceMethod", "voice_method", Shape::Method, Usual::Text("POST")),
    field("VoiceFallbackUrl", "voice_fallback_url", Shape::Url, Usual::Null),
    field("VoiceFallbackMethod", "voice_fallback_method", Shape::Method, Usual::Text("POST")),
    field("StatusCallback", "status_callback", Shape::Url, Usual::Null),
    field("StatusCallbackMethod", "status_callback_method", Shape::Method, Usual::Text("POST")),
    idle("VoiceCallerIdLookup", "voice_caller_id_lookup", Shape::Flag, Usual::Flag(false)),
    field("SmsUrl", "sms_url", Shape::Url, Usual::Null),
    field("SmsMethod", "sms_method", Shape::Method, Usual::Text("POST")),
    field("SmsFallbackUrl", "sms_fallback_url", Shape::Url, Usual::Null),
    field("SmsFallbackMethod", "sms_fallback_method", Shape::Method, Usual::Text("POST")),
    field("SmsStatusCallback", "sms_status_callback", Shape::Url, Usual::Null),
    field("MessageStatusCallback", "message_status_callback", Shape::Url, Usual::Null),
    idle("PublicApplicationConnectEnabled", "public_application_connect_enabled", Shape::Flag, Usual::Flag(false)),
];
