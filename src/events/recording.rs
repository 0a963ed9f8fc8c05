//! What is told of a recording.

use serde::{Deserialize, Serialize};

use crate::ids::{AccountSid, CallSid, ConferenceSid, RecordingSid};
use crate::twiml::{RecordingCallback, RecordingEvent, RecordingSource, RecordingTrack};

/// A recording, and whose it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Recording {
    pub account: AccountSid,
    pub call: CallSid,
    pub fact: RecordingFact,
}

/// A recording as it stands. Each of its steps is told with all of it, so that the last one is enough.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecordingFact {
    pub sid: RecordingSid,
    /// Of a conference, and not of a call's leg.
    pub conference: Option<ConferenceSid>,
    pub source: RecordingSource,
    pub track: RecordingTrack,
    pub channels: u32,
    pub status: RecordingStatus,
    /// Wall clock, milliseconds since 1970.
    pub started_ms: u64,
    /// Of the file.
    pub duration_ms: u64,
    /// Of the file.
    pub bytes: u64,
    /// Why it failed; empty if it did not.
    pub error: String,
    pub callback: Option<RecordingCallback>,
    /// It goes on after a pause, of which no callback tells.
    #[serde(default)]
    pub is_resumed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RecordingStatus {
    InProgress,
    Paused,
    Completed,
    /// Nobody said a word.
    Absent,
    Failed,
    /// It was there.
    Deleted,
}

impl RecordingStatus {
    /// As the customer sees it.
    pub fn as_str(self) -> &'static str {
        match self {
            RecordingStatus::InProgress => "in-progress",
            RecordingStatus::Paused => "paused",
            RecordingStatus::Completed => "completed",
            RecordingStatus::Absent => "absent",
            RecordingStatus::Failed => "failed",
            RecordingStatus::Deleted => "deleted",
        }
    }

    pub fn is_final(self) -> bool {
        !matches!(self, RecordingStatus::InProgress | RecordingStatus::Paused)
    }

    /// The step that it is at first. A failure is told to whoever waits for the end.
    fn callback_step(self) -> Option<RecordingEvent> {
        match self {
            RecordingStatus::InProgress => Some(RecordingEvent::InProgress),
            RecordingStatus::Paused | RecordingStatus::Deleted => None,
            RecordingStatus::Completed | RecordingStatus::Failed => Some(RecordingEvent::Completed),
            RecordingStatus::Absent => Some(RecordingEvent::Absent),
        }
    }
}

impl RecordingFact {
    /// The step that a callback may ask for, if this is one.
    pub fn callback_step(&self) -> Option<RecordingEvent> {
        self.status.callback_step().filter(|_| !self.is_resumed)
    }

    /// Whether it is over and something of it is left: all of it, or what a full disk had room for.
    pub fn has_audio(&self) -> bool {
        self.status == RecordingStatus::Completed || (self.status == RecordingStatus::Failed && self.bytes > 0)
    }

    /// Whole seconds, as the customer is told them.
    pub fn duration_s(&self) -> u64 {
        self.duration_ms.div_ceil(1000)
    }
}

/// Where a recording is found, as the API serves it.
pub fn recording_url(public_url: &str, account: AccountSid, recording: RecordingSid) -> String {
    format!("{public_url}/2010-04-01/Accounts/{account}/Recordings/{recording}")
}
