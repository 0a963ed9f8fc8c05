//! The frames of the SDK: JSON texts of a type and a payload, in its version 1.6, read and written. A heartbeat is a line feed.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::call::browser::decode;

/// What a browser says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// The first; again with a newer token.
    Listen {
        token: String,
        /// How long a call may be without its connection.
        patience_s: u64,
    },
    /// Whether it can be called from now on.
    Register {
        is_there: bool,
    },
    Invite {
        call: String,
        sdp: String,
        parameters: Vec<(String, String)>,
    },
    /// A call that has lost its connection goes on by this one.
    Reattach {
        call: String,
        token: String,
        /// As the browser has described itself before.
        sdp: String,
    },
    Answer {
        call: String,
        sdp: String,
    },
    /// An ICE restart.
    Reinvite {
        call: String,
        sdp: String,
    },
    Hangup {
        call: String,
    },
    Reject {
        call: String,
    },
    Digits {
        call: String,
        digits: String,
    },
    /// Something for the application, in words of its own.
    Message {
        call: String,
        id: String,
        kind: String,
        /// JSON.
        content: String,
    },
}

#[derive(Deserialize)]
struct Frame {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    payload: Payload,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Payload {
    token: String,
    #[serde(rename = "reconnectTimeout")]
    reconnect_timeout: Option<f64>,
    media: Option<Media>,
    callsid: String,
    sdp: String,
    twilio: Option<Twilio>,
    reconnect: Option<String>,
    dtmf: String,
    voiceeventsid: String,
    messagetype: String,
    content: Option<Value>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Media {
    audio: bool,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Twilio {
    params: String,
}

/// Reads a frame; `None` for one that cannot be read, or that means nothing here.
pub fn read(text: &str) -> Option<Said> {
    let Frame { kind, payload } = serde_json::from_str(text).ok()?;
    let Payload { token, reconnect_timeout, media, callsid: call, sdp, twilio, reconnect, dtmf, .. } = payload;
    let Payload { voiceeventsid: id, messagetype, content, .. } = payload;
    let needs_call = !matches!(kind.as_str(), "listen" | "register");
    if needs_call && !is_name(&call) {
        return None;
    }
    Some(match kind.as_str() {
        "listen" => {
            Said::Listen { token, patience_s: reconnect_timeout.unwrap_or(0.0).clamp(0.0, LONGEST_PATIENCE_S) as u64 }
        }
        "register" => Said::Register { is_there: media.unwrap_or_default().audio },
        "invite" => match reconnect {
            Some(token) => Said::Reattach { call, token, sdp },
            None => Said::Invite { call, sdp, parameters: decode(&twilio.unwrap_or_default().params) },
        },
        "answer" => Said::Answer { call, sdp },
        "reinvite" => Said::Reinvite { call, sdp },
        "hangup" => Said::Hangup { call },
        "reject" => Said::Reject { call },
        "dtmf" => Said::Digits { call, digits: dtmf },
        "message" => Said::Message { call, id, kind: messagetype, content: content.unwrap_or_default().to_string() },
        _ => return None,
    })
}

/// What the SDK names calls by, and we.
fn is_name(call: &str) -> bool {
    (1..=LONGEST_NAME).contains(&call.len()) && call.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

fn frame(kind: &str, payload: Value) -> String {
    json!({ "payload": payload, "type": kind, "version": "1.6" }).to_string()
}

/// `home` is where the SDK sends what it measures: `https://eventgw.` before it and `.twilio.com/v4/...` behind it.
pub fn connected(account: &str, identity: &str, ttl_s: u64, home: &str) -> String {
    let token = json!({ "accountSid": account, "identity": identity, "ttl": ttl_s });
    frame("connected", json!({ "region": "US_EAST_VIRGINIA", "home": home, "token": token }))
}

pub fn ready() -> String {
    frame("ready", json!({}))
}

pub fn offline() -> String {
    frame("offline", json!({}))
}

/// About a call, or the connection where `call` is empty.
pub fn error(code: u32, message: &str, call: &str) -> String {
    let error = json!({ "code": code, "message": message });
    match call {
        "" => frame("error", json!({ "error": error })),
        call => frame("error", json!({ "error": error, "callsid": call })),
    }
}

/// About a message of a call.
pub fn message_error(code: u32, message: &str, call: &str, id: &str) -> String {
    let error = json!({ "code": code, "message": message });
    frame("error", json!({ "error": error, "callsid": call, "voiceeventsid": id }))
}

/// A message has arrived here.
pub fn message_ack(call: &str, id: &str) -> String {
    frame("ack", json!({ "acktype": "message", "callsid": call, "voiceeventsid": id }))
}

/// Something of the application's, which is JSON.
pub fn message(call: &str, id: &str, content: &str) -> String {
    let content: Value = serde_json::from_str(content).unwrap_or_default();
    let (kind, form) = (MESSAGE_KIND, "application/json");
    frame(
        "message",
        json!({ "callsid": call, "voiceeventsid": id, "messagetype": kind, "contenttype": form, "content": content }),
    )
}

pub fn invite(call: &str, sdp: &str, parameters: &[(String, String)], reconnect: &str) -> String {
    let parameters: serde_json::Map<String, Value> =
        parameters.iter().map(|(name, value)| (name.clone(), Value::from(value.clone()))).collect();
    frame("invite", json!({ "callsid": call, "sdp": sdp, "parameters": parameters, "reconnect": reconnect }))
}

pub fn ringing(call: &str, sdp: Option<&str>) -> String {
    frame("ringing", with_sdp(json!({ "callsid": call }), sdp))
}

pub fn answer(call: &str, sdp: Option<&str>, reconnect: &str) -> String {
    frame("answer", with_sdp(json!({ "callsid": call, "reconnect": reconnect }), sdp))
}

pub fn cancel(call: &str) -> String {
    frame("cancel", json!({ "callsid": call }))
}

pub fn hangup(call: &str, error: Option<(u32, &str)>) -> String {
    match error {
        Some((code, message)) => {
            frame("hangup", json!({ "callsid": call, "error": { "code": code, "message": message } }))
        }
        None => frame("hangup", json!({ "callsid": call })),
    }
}

fn with_sdp(mut payload: Value, sdp: Option<&str>) -> Value {
    if let Some(sdp) = sdp {
        payload["sdp"] = sdp.into();
    }
    payload
}

/// The only kind of message that there is.
pub const MESSAGE_KIND: &str = "user-defined-message";
pub const HEARTBEAT: &str = "\n";
/// The SDK asks for no more.
const LONGEST_PATIENCE_S: f64 = 30.0;
const LONGEST_NAME: usize = 64;
