//! What the page of a browser's call says to its application, in words of their own (Twilio's user-defined messages).

use serde::{Deserialize, Serialize};

use crate::ids::UserMessageSid;
use crate::twiml::Endpoint;

/// A message on its way to one who has subscribed to those of its call. It stands for itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UserMessageFact {
    pub sid: UserMessageSid,
    /// JSON.
    pub content: String,
    /// Which of its call it is, from 0.
    pub number: u32,
    pub callback: Endpoint,
}
