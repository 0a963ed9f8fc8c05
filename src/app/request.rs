//! A request to a customer's server, before it is sent: who asks, what for, and how it is signed.

use bytes::Bytes;
use hyper::Method;
use hyper::header::{HeaderName, HeaderValue};
use url::form_urlencoded;

use crate::app::signature::{body_sha256, sign_form, sign_url};
use crate::ids::{AccountSid, CallSid};
use crate::secret::Secret;
use crate::twiml;

/// What a request is for: the `kind` label of the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RequestKind {
    /// The first document of a call, or a live update.
    Voice,
    Action,
    Redirect,
    Fallback,
    /// The document that a callee hears before it is bridged.
    Whisper,
    StatusCallback,
    /// Audio of a `<Play>`.
    Audio,
    /// Events for a sink.
    Sink,
}

impl From<twiml::Method> for Method {
    fn from(method: twiml::Method) -> Method {
        match method {
            twiml::Method::Get => Method::GET,
            twiml::Method::Post => Method::POST,
        }
    }
}

impl RequestKind {
    /// Whether the answer is a document.
    pub const fn wants_document(self) -> bool {
        !matches!(self, Self::StatusCallback | Self::Audio | Self::Sink)
    }

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Voice => "voice",
            Self::Action => "action",
            Self::Redirect => "redirect",
            Self::Fallback => "fallback",
            Self::Whisper => "whisper",
            Self::StatusCallback => "status_callback",
            Self::Audio => "audio",
            Self::Sink => "sink",
        }
    }
}

/// One request; all its tries and hops are made from it, with the same idempotency token.
pub(super) struct Outgoing {
    pub account: AccountSid,
    pub call: CallSid,
    pub token: Secret,
    pub url: String,
    pub method: Method,
    params: Vec<(String, String)>,
    /// The body, in the place of a form.
    pub json: Option<Bytes>,
    pub kind: RequestKind,
    pub max_body_bytes: usize,
    /// Headers that make it conditional.
    pub conditions: Vec<(HeaderName, HeaderValue)>,
    pub idempotency_token: String,
    /// By which the receiver makes what it does a part of the call's trace (W3C Trace Context).
    pub traceparent: Option<String>,
}

/// Who asks.
pub(super) struct Asker {
    pub account: AccountSid,
    pub call: CallSid,
    pub token: Secret,
}

impl Outgoing {
    /// Of parameters with the same name only the first is kept: no framework is sent a name twice.
    pub fn new(asker: Asker, url: String, method: Method, params: Vec<(String, String)>, kind: RequestKind) -> Self {
        let mut kept: Vec<(String, String)> = Vec::with_capacity(params.len());
        for (name, value) in params {
            if !kept.iter().any(|(present, _)| *present == name) {
                kept.push((name, value));
            }
        }
        let Asker { account, call, token } = asker;
        Self {
            account,
            call,
            token,
            url,
            method,
            params: kept,
            json: None,
            kind,
            max_body_bytes: 0,
            conditions: Vec::new(),
            idempotency_token: random_uuid(),
            traceparent: None,
        }
    }

    pub fn params(&self) -> &[(String, String)] {
        &self.params
    }

    /// The parameters as a form or a query: spaces as `+`.
    pub fn form(&self) -> String {
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.extend_pairs(&self.params);
        form.finish()
    }

    /// What it adds to the query of its URL.
    pub fn query(&self) -> String {
        match &self.json {
            Some(body) => format!("bodySHA256={}", body_sha256(body)),
            None if self.method == Method::GET => self.form(),
            None => String::new(),
        }
    }

    /// The signature of this request to `url`; a form is part of it only if it is sent as one.
    pub fn signature(&self, url: &str, is_form: bool) -> String {
        if is_form && self.json.is_none() {
            sign_form(&self.token, url, &self.params)
        } else {
            sign_url(&self.token, url)
        }
    }
}

/// A random UUID (RFC 9562 s5.4).
///
/// # Panics
/// If the operating system gives no random numbers; nothing could be secure then.
fn random_uuid() -> String {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("the operating system gives random numbers");
    uuid_of(u128::from_be_bytes(bytes))
}

/// A UUID of these bits, but for the six that say which kind it is.
pub(super) fn uuid_of(bits: u128) -> String {
    let number = bits & !(0xf << 76) | (4 << 76);
    let number = number & !(0b11 << 62) | (0b10 << 62);
    let hex = format!("{number:032x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outgoing(params: &[(&str, &str)]) -> Outgoing {
        let asker = Asker { account: AccountSid::new(1), call: CallSid::new(2), token: Secret::new("12345") };
        let params = params.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Outgoing::new(asker, "https://h/".into(), Method::POST, params, RequestKind::Voice)
    }

    #[test]
    fn name_that_comes_twice_is_sent_once() {
        assert_eq!(outgoing(&[("A", "1"), ("B", "x y&é"), ("A", "2")]).form(), "A=1&B=x+y%26%C3%A9");
    }

    #[test]
    fn idempotency_tokens_are_random_uuids() {
        let (one, two) = (outgoing(&[]).idempotency_token, outgoing(&[]).idempotency_token);
        assert_ne!(one, two);
        assert_eq!(one.len(), 36);
        assert_eq!(one.as_bytes()[14], b'4');
        assert!(b"89ab".contains(&one.as_bytes()[19]));
    }
}
