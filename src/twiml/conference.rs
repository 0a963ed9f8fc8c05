//! What passes between a `<Dial><Conference>` and the conference: part of the contract of [`super::port`].

use serde::{Deserialize, Serialize};

use crate::ids::{CallSid, ConferenceSid};
use crate::twiml::port::{DocumentSource, Endpoint, RecordingCallback};

/// What is heard in a room that waits, unless the customer says otherwise.
pub const HOLD_MUSIC: &str = "<Response><Play loop=\"0\">dialtone:hold-music</Play></Response>";

/// Which conference to join, and how. What is said of the conference itself counts from its first member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConferenceSpec {
    /// Names it in its account.
    pub name: String,
    /// Not heard by the others.
    pub muted: bool,
    pub start_on_enter: bool,
    pub end_on_exit: bool,
    pub beep: Beep,
    /// What is heard until it begins; `None`: silence.
    pub wait: Option<DocumentSource>,
    pub max_participants: u32,
    pub record: Option<ConferenceRecording>,
    /// Heard by this member alone.
    pub coach: Option<CallSid>,
    /// Another name for the member, unique in the conference; or empty.
    pub label: String,
    pub callback: Option<ConferenceCallback>,
}

/// When the others hear a tone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beep {
    pub on_enter: bool,
    pub on_exit: bool,
}

/// That a conference is recorded from its beginning.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConferenceRecording {
    pub trim: bool,
    pub callback: Option<RecordingCallback>,
}

/// Where the steps of a conference are told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConferenceCallback {
    pub endpoint: Endpoint,
    pub events: Vec<ConferenceEvent>,
}

/// A kind of steps that a conference's callback may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ConferenceEvent {
    Start,
    End,
    Join,
    Leave,
    Mute,
    Hold,
    Modify,
    Speaker,
    Announcement,
}

impl ConferenceEvent {
    pub const ALL: [ConferenceEvent; 9] = [
        Self::Start,
        Self::End,
        Self::Join,
        Self::Leave,
        Self::Mute,
        Self::Hold,
        Self::Modify,
        Self::Speaker,
        Self::Announcement,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::End => "end",
            Self::Join => "join",
            Self::Leave => "leave",
            Self::Mute => "mute",
            Self::Hold => "hold",
            Self::Modify => "modify",
            Self::Speaker => "speaker",
            Self::Announcement => "announcement",
        }
    }
}

/// What a conference tells a member's verb.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Membership {
    Joined {
        conference: ConferenceSid,
    },
    /// It has as many members as it may have, or the label is another's.
    Refused {
        why: String,
    },
    /// No member any more: it left, was removed, or the conference has ended. The last.
    Left,
}
