//! What is told of a text message.

use serde::{Deserialize, Serialize};

use crate::ids::{AccountSid, MessageSid};
use crate::twiml::Endpoint;

/// A message as it stands: what each step of it tells. It stands for itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MessageFact {
    pub sid: MessageSid,
    /// As the customer wrote them.
    pub from: String,
    pub to: String,
    /// Empty when it was redacted.
    pub body: String,
    #[serde(default)]
    pub direction: MessageDirection,
    pub status: MessageStatus,
    /// Why it was not delivered, by Twilio's number; 0: nothing is wrong.
    pub error_code: u32,
    /// Wall clock, milliseconds since 1970; `sent_ms` is 0 until then.
    pub created_ms: u64,
    pub sent_ms: u64,
    /// Whom to tell of each step.
    pub callback: Option<Endpoint>,
}

/// What one segment of a text holds; one of many holds seven less. With letters beyond ASCII: 70 and 67.
const SEGMENT_CHARS: usize = 160;
const WIDE_SEGMENT_CHARS: usize = 70;

impl MessageFact {
    /// Twilio's number for a message of which nothing more is known.
    pub const UNKNOWN_ERROR: u32 = 30_008;

    /// How many messages of a mobile network it would be.
    pub fn segments(&self) -> usize {
        segments(&self.body)
    }
}

fn segments(body: &str) -> usize {
    let (whole, part) = match body.is_ascii() {
        true => (SEGMENT_CHARS, SEGMENT_CHARS - 7),
        false => (WIDE_SEGMENT_CHARS, WIDE_SEGMENT_CHARS - 3),
    };
    let units = if body.is_ascii() { body.len() } else { body.encode_utf16().count() };
    if units <= whole { 1 } else { units.div_ceil(part) }
}

/// Who had it sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MessageDirection {
    #[default]
    OutboundApi,
    /// The document of a call.
    OutboundCall,
    /// What an application answers to a text.
    OutboundReply,
    /// A user's device.
    Inbound,
}

impl MessageDirection {
    pub fn as_str(self) -> &'static str {
        match self {
            MessageDirection::OutboundApi => "outbound-api",
            MessageDirection::OutboundCall => "outbound-call",
            MessageDirection::OutboundReply => "outbound-reply",
            MessageDirection::Inbound => "inbound",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MessageStatus {
    Queued,
    /// It is on its way to the devices of its user.
    Sent,
    /// A device has it.
    Delivered,
    /// No device took it.
    Undelivered,
    /// It was never sent.
    Failed,
    /// It came to a number, whose application is asked about it.
    Receiving,
    /// It came to a number, and what its application answered was carried out; or it says why not.
    Received,
}

impl MessageStatus {
    pub fn as_str(self) -> &'static str {
        match self {
            MessageStatus::Queued => "queued",
            MessageStatus::Sent => "sent",
            MessageStatus::Delivered => "delivered",
            MessageStatus::Undelivered => "undelivered",
            MessageStatus::Failed => "failed",
            MessageStatus::Receiving => "receiving",
            MessageStatus::Received => "received",
        }
    }

    pub fn is_final(self) -> bool {
        !matches!(self, MessageStatus::Queued | MessageStatus::Sent | MessageStatus::Receiving)
    }
}

/// An account's message.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    pub account: AccountSid,
    pub fact: MessageFact,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_counted_as_in_gsm() {
        for (body, count) in [
            ("a".repeat(160), 1),
            ("a".repeat(161), 2),
            ("a".repeat(306), 2),
            ("a".repeat(307), 3),
            ("ж".repeat(70), 1),
            ("ж".repeat(71), 2),
            ("ж".repeat(134), 2),
            ("ж".repeat(135), 3),
            ("😀".repeat(35), 1),
            ("😀".repeat(36), 2),
        ] {
            assert_eq!(segments(&body), count, "{}", body.chars().count());
        }
    }
}
