//! What is told of a media stream.

use serde::{Deserialize, Serialize};

use crate::ids::{CallSid, StreamSid};
use crate::twiml::Endpoint;

/// A stream that runs, and whose it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Stream {
    pub call: CallSid,
    pub fact: StreamFact,
}

/// A step of a stream. It stands for itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StreamFact {
    pub sid: StreamSid,
    pub name: Option<String>,
    pub step: StreamStep,
    /// Why it failed; empty if it did not.
    pub error: String,
    pub callback: Option<Endpoint>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StreamStep {
    Started,
    /// Its edge has started anew, and it goes on by another connection: for those who look at what runs, and for nobody else.
    Resumed,
    Stopped,
    Error,
}

impl StreamStep {
    /// As the customer sees it.
    pub fn as_str(self) -> &'static str {
        match self {
            StreamStep::Started | StreamStep::Resumed => "stream-started",
            StreamStep::Stopped => "stream-stopped",
            StreamStep::Error => "stream-error",
        }
    }
}
