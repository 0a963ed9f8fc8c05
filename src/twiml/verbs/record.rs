//! `<Record>`: a beep, then what the caller says, until a key, silence, the longest length or the end of the call.
//!
//! Nothing said is no recording: the document goes on, and the action is not asked for.

use serde::{Deserialize, Serialize};

use crate::ids::RecordingSid;
use crate::twiml::document::{KeptSpec, RecordSpec};
use crate::twiml::notice::{Notice, code};
use crate::twiml::port::{
    FetchReason, PlayPart, Precondition, RecordingCallback, RecordingEnd, RecordingEnded, RecordingSource,
    RecordingSpec, VerbEffect, VerbInput,
};
use crate::twiml::verbs::dial::endpoint;
use crate::twiml::verbs::{Context, Machine, Step, Transfer};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(in crate::twiml) struct Record {
    spec: RecordSpec,
    phase: Phase,
    named: Option<(RecordingSid, String)>,
    /// What ended it, as `Digits` tells.
    ended_by: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Phase {
    Beeping { player: u32 },
    Recording { recording: u32 },
}

impl KeptSpec {
    /// The recording that this asks for.
    pub(super) fn spec(self, source: RecordingSource, context: &mut Context<'_>) -> RecordingSpec {
        let callback = self.callback.and_then(|(link, method, events)| {
            endpoint(link, method, context).map(|endpoint| RecordingCallback { endpoint, events })
        });
        RecordingSpec {
            source,
            track: self.track,
            channels: self.channels,
            trim: self.trim,
            max_length: None,
            silence_timeout: None,
            callback,
        }
    }
}

impl Record {
    pub fn new(spec: RecordSpec) -> Self {
        Self { spec, phase: Phase::Beeping { player: 0 }, named: None, ended_by: None }
    }

    fn begin(&mut self, context: &mut Context<'_>) -> Step {
        let recording = context.next_recording();
        let spec = RecordingSpec {
            max_length: Some(self.spec.max_length),
            silence_timeout: self.spec.timeout,
            ..self.spec.kept.clone().spec(RecordingSource::RecordVerb, context)
        };
        self.phase = Phase::Recording { recording };
        context.push(VerbEffect::StartRecording { recording, spec: Box::new(spec) });
        Step::Running
    }

    fn stop(&mut self, recording: u32, by: &str, context: &mut Context<'_>) -> Step {
        if self.ended_by.is_none() {
            self.ended_by = Some(by.to_owned());
            context.push(VerbEffect::StopRecording(recording));
        }
        Step::Running
    }

    fn ended(&mut self, ended: &RecordingEnded, context: &mut Context<'_>) -> Step {
        let is_kept = ended.how != RecordingEnd::Failed && !ended.is_empty();
        let (true, Some((sid, url))) = (is_kept, self.named.take()) else { return Step::Next };
        let Some(link) = self.spec.action.clone() else {
            let text = "Record without an action in a document that has no url: nobody is told of the recording";
            context.notify(Notice::warning(code::INVALID_URL, text));
            return Step::Next;
        };
        let mut params = vec![
            ("RecordingUrl".to_owned(), url),
            ("RecordingSid".to_owned(), sid.to_string()),
            ("RecordingDuration".to_owned(), ended.duration.as_secs_f64().ceil().to_string()),
        ];
        params.extend(self.ended_by.take().map(|by| ("Digits".to_owned(), by)));
        Step::Transfer(Transfer { link, method: self.spec.method, params, reason: FetchReason::Action })
    }
}

/// What `Digits` tells when the caller hung up.
const HANGUP: &str = "hangup";

impl Machine for Record {
    fn precondition(&self) -> Precondition {
        Precondition::MediaReady
    }

    fn start(&mut self, context: &mut Context<'_>) -> Step {
        if !self.spec.play_beep {
            return self.begin(context);
        }
        let player = context.next_player();
        self.phase = Phase::Beeping { player };
        context.push(VerbEffect::Play { player, items: vec![PlayPart::Beep], loops: 1 });
        Step::Running
    }

    fn handle(&mut self, input: &VerbInput, context: &mut Context<'_>) -> Step {
        match (input, self.phase) {
            (VerbInput::PlayEnded { player, .. }, Phase::Beeping { player: own }) if *player == own => {
                self.begin(context)
            }
            (VerbInput::RecordingNamed { recording, sid, url }, Phase::Recording { recording: own })
                if *recording == own =>
            {
                self.named = Some((*sid, url.clone()));
                Step::Running
            }
            (VerbInput::Digit(key), Phase::Recording { recording }) if self.spec.finish_on_key.contains(*key) => {
                self.stop(recording, &key.to_string(), context)
            }
            (VerbInput::RecordingEnded { recording, ended }, Phase::Recording { recording: own })
                if *recording == own =>
            {
                self.ended(ended, context)
            }
            _ => Step::Running,
        }
    }

    fn cancel(&mut self, context: &mut Context<'_>) {
        context.push(match self.phase {
            Phase::Beeping { .. } => VerbEffect::StopPlay,
            Phase::Recording { recording } => VerbEffect::StopRecording(recording),
        });
    }

    /// What was said is told to the customer even now.
    fn hung_up(&mut self, context: &mut Context<'_>) -> Step {
        match self.phase {
            Phase::Beeping { .. } => Step::Next,
            Phase::Recording { recording } => self.stop(recording, HANGUP, context),
        }
    }
}
