//! What is told of a conference.

use serde::{Deserialize, Serialize};

use crate::ids::{AccountSid, CallSid, ConferenceSid};
use crate::twiml::{ConferenceEvent, Endpoint};

/// A step of a conference. It stands for itself; the call that it names is the member whom it is about, or by whom it
/// came about.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConferenceFact {
    pub sid: ConferenceSid,
    pub name: String,
    pub step: ConferenceStep,
    /// Counts from 1 in its conference.
    pub sequence: u32,
    pub status: ConferenceStatus,
    /// Wall clock, milliseconds since 1970.
    pub created_ms: u64,
    /// The member as it stands, unless the step is about all.
    pub participant: Option<Participant>,
    /// Where this step is to be told, if anywhere.
    pub callback: Option<Endpoint>,
    /// Why a member left, or the conference ended; or what was announced.
    pub reason: Option<ConferenceReason>,
}

/// A member of a conference.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Participant {
    pub call: CallSid,
    pub label: String,
    pub muted: bool,
    pub hold: bool,
    /// The member that this one coaches.
    pub coach: Option<CallSid>,
    pub start_on_enter: bool,
    pub end_on_exit: bool,
    pub joined_ms: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConferenceStatus {
    /// Not begun: one member alone, or none who may begin it.
    Init,
    InProgress,
    Completed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConferenceStep {
    ConferenceStart,
    ConferenceEnd,
    ParticipantJoin,
    ParticipantLeave,
    ParticipantMute,
    ParticipantUnmute,
    ParticipantHold,
    ParticipantUnhold,
    ParticipantModify,
    ParticipantSpeechStart,
    ParticipantSpeechStop,
    AnnouncementEnd,
    AnnouncementFail,
}

/// Why something in a conference happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConferenceReason {
    /// The member hung up.
    ParticipantHungUp,
    /// Its document went on, or another took the place of it.
    ParticipantUpdatedViaApi,
    ConferenceEndedViaApi,
    ParticipantRemovedViaApi,
    ParticipantWithEndConferenceOnExitLeft,
    LastParticipantLeft,
    LastParticipantKicked,
    /// The server lost the media of it.
    MediaLost,
    /// What was to be announced.
    Announcement {
        url: String,
    },
}

impl ConferenceStatus {
    /// As the customer sees it.
    pub fn as_str(self) -> &'static str {
        match self {
            ConferenceStatus::Init => "init",
            ConferenceStatus::InProgress => "in-progress",
            ConferenceStatus::Completed => "completed",
        }
    }
}

impl ConferenceStep {
    /// As `StatusCallbackEvent` names it.
    pub fn as_str(self) -> &'static str {
        match self {
            ConferenceStep::ConferenceStart => "conference-start",
            ConferenceStep::ConferenceEnd => "conference-end",
            ConferenceStep::ParticipantJoin => "participant-join",
            ConferenceStep::ParticipantLeave => "participant-leave",
            ConferenceStep::ParticipantMute => "participant-mute",
            ConferenceStep::ParticipantUnmute => "participant-unmute",
            ConferenceStep::ParticipantHold => "participant-hold",
            ConferenceStep::ParticipantUnhold => "participant-unhold",
            ConferenceStep::ParticipantModify => "participant-modify",
            ConferenceStep::ParticipantSpeechStart => "participant-speech-start",
            ConferenceStep::ParticipantSpeechStop => "participant-speech-stop",
            ConferenceStep::AnnouncementEnd => "announcement-end",
            ConferenceStep::AnnouncementFail => "announcement-fail",
        }
    }

    /// The kind of steps that a callback asks for.
    pub fn kind(self) -> ConferenceEvent {
        match self {
            ConferenceStep::ConferenceStart => ConferenceEvent::Start,
            ConferenceStep::ConferenceEnd => ConferenceEvent::End,
            ConferenceStep::ParticipantJoin => ConferenceEvent::Join,
            ConferenceStep::ParticipantLeave => ConferenceEvent::Leave,
            ConferenceStep::ParticipantMute | ConferenceStep::ParticipantUnmute => ConferenceEvent::Mute,
            ConferenceStep::ParticipantHold | ConferenceStep::ParticipantUnhold => ConferenceEvent::Hold,
            ConferenceStep::ParticipantModify => ConferenceEvent::Modify,
            ConferenceStep::ParticipantSpeechStart | ConferenceStep::ParticipantSpeechStop => ConferenceEvent::Speaker,
            ConferenceStep::AnnouncementEnd | ConferenceStep::AnnouncementFail => ConferenceEvent::Announcement,
        }
    }
}

impl ConferenceReason {
    /// As the customer sees it: the announced URL, or a word.
    pub fn as_str(&self) -> &str {
        match self {
            ConferenceReason::ParticipantHungUp => "participant_hung_up",
            ConferenceReason::ParticipantUpdatedViaApi => "participant_updated_via_api",
            ConferenceReason::ConferenceEndedViaApi => "conference-ended-via-api",
            ConferenceReason::ParticipantRemovedViaApi => "participant_kicked",
            ConferenceReason::ParticipantWithEndConferenceOnExitLeft => "participant-with-end-conference-on-exit-left",
            ConferenceReason::LastParticipantLeft => "last-participant-left",
            ConferenceReason::LastParticipantKicked => "last-participant-kicked",
            ConferenceReason::MediaLost => "conference-failed",
            ConferenceReason::Announcement { url } => url,
        }
    }

    /// The same for people to read.
    pub fn text(&self) -> &str {
        match self {
            ConferenceReason::ParticipantHungUp => "The participant hung up",
            ConferenceReason::ParticipantUpdatedViaApi => "The participant's call went on with another document",
            ConferenceReason::ConferenceEndedViaApi => "The conference was ended via API",
            ConferenceReason::ParticipantRemovedViaApi => "The participant was removed via API",
            ConferenceReason::ParticipantWithEndConferenceOnExitLeft => "A participant with endConferenceOnExit left",
            ConferenceReason::LastParticipantLeft => "The last participant left",
            ConferenceReason::LastParticipantKicked => "The last participant was removed via API",
            ConferenceReason::MediaLost => "The server lost the media of the conference",
            ConferenceReason::Announcement { url } => url,
        }
    }
}

/// A conference, folded from its steps.
#[derive(Clone, Debug, PartialEq)]
pub struct Conference {
    pub account: AccountSid,
    pub sid: ConferenceSid,
    pub name: String,
    pub status: ConferenceStatus,
    pub created_ms: u64,
    pub updated_ms: u64,
    /// Who was the last, or ended it.
    pub ending_call: Option<CallSid>,
    pub reason: Option<ConferenceReason>,
    /// In the order in which they joined.
    pub participants: Vec<Participant>,
}

impl Conference {
    /// The conference that a step tells of, without its members.
    pub fn told(account: AccountSid, call: CallSid, at_ms: u64, fact: &ConferenceFact) -> Conference {
        let is_over = fact.status == ConferenceStatus::Completed;
        Conference {
            account,
            sid: fact.sid,
            name: fact.name.clone(),
            status: fact.status,
            created_ms: fact.created_ms,
            updated_ms: at_ms,
            ending_call: is_over.then_some(call),
            reason: fact.reason.clone().filter(|_| is_over),
            participants: Vec::new(),
        }
    }

    /// What this step makes of the members.
    pub fn apply(mut self, before: Option<Conference>, fact: &ConferenceFact) -> Conference {
        self.participants = before.map(|before| before.participants).unwrap_or_default();
        if let Some(participant) = &fact.participant {
            let gone = fact.step == ConferenceStep::ParticipantLeave;
            match self.participants.iter().position(|known| known.call == participant.call) {
                Some(at) if gone => drop(self.participants.remove(at)),
                Some(at) => self.participants[at] = participant.clone(),
                None if gone => {}
                None => self.participants.push(participant.clone()),
            }
        }
        if self.status == ConferenceStatus::Completed {
            self.participants.clear();
        }
        self
    }
}
