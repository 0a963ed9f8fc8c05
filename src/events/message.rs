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

/// Who had it sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MessageDirection {
    OutboundApi,
    /// The document of a call.
    OutboundCall,
    /// A user's device.
    Inbound,
}

impl MessageDirection {
    pub fn as_str(self) -> &'static str {
        match self {
            MessageDirection::OutboundApi => "outbound-api",
            MessageDirection::OutboundCall => "outbound-call",
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
}

impl MessageStatus {
    pub fn as_str(self) -> &'static str {
        match self {
            MessageStatus::Queued => "queued",
            MessageStatus::Sent => "sent",
            MessageStatus::Delivered => "delivered",
            MessageStatus::Undelivered => "undelivered",
            MessageStatus::Failed => "failed",
        }
    }

    pub fn is_final(self) -> bool {
        !matches!(self, MessageStatus::Queued | MessageStatus::Sent)
    }
}

/// An account's message.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    pub account: AccountSid,
    pub fact: MessageFact,
}
