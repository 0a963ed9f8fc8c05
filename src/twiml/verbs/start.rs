//! `<Start>` and `<Stop>`: begin to record or to stream and end it, and the document goes on at once.

use serde::{Deserialize, Serialize};

use crate::twiml::document::{KeptSpec, StreamVerb};
use crate::twiml::port::{Precondition, RecordingSource, VerbEffect, VerbInput, VerbName};
use crate::twiml::verbs::{Context, Machine, Step};

/// One noun of a `<Start>` or a `<Stop>`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(in crate::twiml) enum Start {
    Recording(KeptSpec),
    StopRecording,
    Stream(StreamVerb),
    /// Of that name, or all.
    StopStreams(Option<String>),
}

impl Start {
    pub const fn name(&self) -> VerbName {
        match self {
            Self::Recording(_) | Self::Stream(_) => VerbName::Start,
            Self::StopRecording | Self::StopStreams(_) => VerbName::Stop,
        }
    }
}

impl Machine for Start {
    /// It answers nothing; where the leg is not answered yet, there is silence until its media comes.
    fn precondition(&self) -> Precondition {
        Precondition::None
    }

    fn start(&mut self, context: &mut Context<'_>) -> Step {
        match self {
            Self::Recording(kept) => {
                let recording = context.next_recording();
                let spec = kept.clone().spec(RecordingSource::StartCallRecordingTwiML, context);
                context.push(VerbEffect::StartRecording { recording, spec: Box::new(spec) });
            }
            Self::StopRecording => context.push(VerbEffect::StopStartedRecordings),
            Self::Stream(stream) => {
                if let Some(spec) = stream.clone().spec(None, context) {
                    let stream = context.next_stream();
                    context.push(VerbEffect::StartStream { stream, spec: Box::new(spec) });
                }
            }
            Self::StopStreams(name) => context.push(VerbEffect::StopStreams(name.take())),
        }
        Step::Next
    }

    fn handle(&mut self, _: &VerbInput, _: &mut Context<'_>) -> Step {
        Step::Next
    }

    fn cancel(&mut self, _: &mut Context<'_>) {}
}
