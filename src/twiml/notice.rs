//! Errors and warnings that a document or a verb gives rise to, with Twilio's numbers.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// An error or a warning for the customer's debugger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    pub code: u32,
    pub severity: Severity,
    /// For a person: lower case, names the thing.
    pub text: Cow<'static, str>,
    /// The URL that it is about, empty where there is none.
    pub url: String,
}

/// How bad it is: an error ends the document, a warning does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Severity {
    Error,
    Warning,
}

impl Notice {
    pub fn error(code: u32, text: impl Into<Cow<'static, str>>) -> Self {
        Self { code, severity: Severity::Error, text: text.into(), url: String::new() }
    }

    pub fn warning(code: u32, text: impl Into<Cow<'static, str>>) -> Self {
        Self { code, severity: Severity::Warning, text: text.into(), url: String::new() }
    }

    /// The same, about `url`.
    pub fn about(mut self, url: impl Into<String>) -> Self {
        self.url = url.into();
        self
    }
}

/// Twilio's numbers (twilio.com/docs/api/errors).
pub mod code {
    pub const INVALID_URL: u32 = 11100;
    pub const TOO_MANY_REDIRECTS: u32 = 11215;
    pub const DOCUMENT_TOO_LARGE: u32 = 11750;
    pub const MALFORMED_XML: u32 = 12100;
    pub const INVALID_MARKUP: u32 = 12101;
    pub const SCHEMA_WARNING: u32 = 12200;
    pub const INVALID_CONTENT_TYPE: u32 = 12300;
    pub const INTERNAL: u32 = 12400;
    pub const DIAL_INVALID_NOUN: u32 = 13201;
    pub const DIAL_INVALID_CALLER_ID: u32 = 13214;
    pub const DIAL_INVALID_NUMBER: u32 = 13223;
    pub const GATHER_INVALID_FINISH_ON_KEY: u32 = 13310;
    pub const SAY_INVALID_TEXT: u32 = 13520;
    /// A REFER on a call whose Dial has no referUrl.
    pub const DIAL_NO_REFER_URL: u32 = 13802;
    pub const SMS_BODY: u32 = 14103;
    /// A text is answered by more messages than may be.
    pub const MESSAGE_RATE: u32 = 14107;
    /// A stream without a URL that it could go to.
    pub const STREAM_INVALID_URL: u32 = 31941;
}
