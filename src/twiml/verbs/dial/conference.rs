//! `<Dial><Conference>`: the caller is a member until it leaves, is removed, or the conference ends.

use serde::{Deserialize, Serialize};

use super::endpoint;
use crate::ids::ConferenceSid;
use crate::twiml::conference::{ConferenceCallback, ConferenceRecording, ConferenceSpec, HOLD_MUSIC, Membership};
use crate::twiml::document::{ConferenceNoun, DialSpec, WaitSpec};
use crate::twiml::notice::{Notice, code};
use crate::twiml::port::{DocumentSource, FetchReason, Precondition, RecordingCallback, VerbEffect, VerbInput};
use crate::twiml::verbs::{Context, Machine, Step, Transfer};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(in crate::twiml) struct DialConference {
    spec: DialSpec,
    noun: ConferenceNoun,
    conference: Option<ConferenceSid>,
    is_leaving: bool,
}

impl WaitSpec {
    /// What plays; `None` is silence.
    pub(in crate::twiml) fn source(self, context: &mut Context<'_>) -> Option<DocumentSource> {
        match self {
            WaitSpec::Music => Some(DocumentSource::Twiml(HOLD_MUSIC.into())),
            WaitSpec::Silence => None,
            WaitSpec::Document(link, method) => endpoint(link, method, context).map(DocumentSource::Url),
        }
    }
}

impl DialConference {
    pub fn new(spec: DialSpec, noun: ConferenceNoun) -> Self {
        Self { spec, noun, conference: None, is_leaving: false }
    }

    fn conference_spec(&self, context: &mut Context<'_>) -> ConferenceSpec {
        let noun = self.noun.clone();
        let record = noun.record.map(|kept| {
            let callback = kept.callback.and_then(|(link, method, events)| {
                endpoint(link, method, context).map(|endpoint| RecordingCallback { endpoint, events })
            });
            ConferenceRecording { trim: kept.trim, callback }
        });
        ConferenceSpec {
            name: noun.name,
            muted: noun.muted,
            start_on_enter: noun.start_on_enter,
            end_on_exit: noun.end_on_exit,
            beep: noun.beep,
            wait: noun.wait.source(context),
            max_participants: noun.max_participants,
            record,
            coach: noun.coach,
            label: noun.label,
            callback: noun.callback.and_then(|(link, method, events)| {
                endpoint(link, method, context).map(|endpoint| ConferenceCallback { endpoint, events })
            }),
        }
    }

    fn leave(&mut self, context: &mut Context<'_>) -> Step {
        if !self.is_leaving {
            self.is_leaving = true;
            context.clear_timer();
            context.push(VerbEffect::LeaveConference);
        }
        Step::Running
    }

    fn finish(&mut self, status: &str, context: &mut Context<'_>) -> Step {
        if !self.is_leaving {
            context.clear_timer();
        }
        let Some(link) = self.spec.action.clone() else { return Step::Next };
        let mut params = vec![
            ("DialCallStatus".to_owned(), status.to_owned()),
            ("DialBridged".to_owned(), (status == "answered").to_string()),
        ];
        params.extend(self.conference.map(|sid| ("ConferenceSid".to_owned(), sid.to_string())));
        Step::Transfer(Transfer { link, method: self.spec.method, params, reason: FetchReason::Action })
    }
}

impl Machine for DialConference {
    fn precondition(&self) -> Precondition {
        Precondition::MediaReady
    }

    fn start(&mut self, context: &mut Context<'_>) -> Step {
        let spec = self.conference_spec(context);
        context.set_timer(self.spec.time_limit);
        context.push(VerbEffect::JoinConference(Box::new(spec)));
        Step::Running
    }

    fn handle(&mut self, input: &VerbInput, context: &mut Context<'_>) -> Step {
        match input {
            VerbInput::Conference(Membership::Joined { conference }) => {
                self.conference = Some(*conference);
                Step::Running
            }
            VerbInput::Conference(Membership::Refused { why }) => {
                context.notify(Notice::error(code::DIAL_INVALID_NOUN, why.clone()));
                self.finish("failed", context)
            }
            VerbInput::Conference(Membership::Left) => self.finish("answered", context),
            VerbInput::Restored if self.is_leaving => self.finish("answered", context),
            // The time that it may last counts on.
            VerbInput::Restored => {
                let spec = self.conference_spec(context);
                context.push(VerbEffect::JoinConference(Box::new(spec)));
                Step::Running
            }
            VerbInput::Timer => self.leave(context),
            VerbInput::Digit('*') if self.spec.hangup_on_star => self.leave(context),
            _ => Step::Running,
        }
    }

    fn cancel(&mut self, context: &mut Context<'_>) {
        self.leave(context);
    }

    /// Its action is owed to the customer even now.
    fn hung_up(&mut self, context: &mut Context<'_>) -> Step {
        self.leave(context)
    }
}
