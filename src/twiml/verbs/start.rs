//! `<Start>` and `<Stop>`: begin to record or to stream and end it, and the document goes on at once.

use serde::{Deserialize, Serialize};

use crate::twiml::document::{KeptSpec, StreamVerb};
use crate::twiml::port::{Precondition, RecordingSource, VerbEffect, VerbInput};
use crate::twiml::verbs::{Context, Machine, Step};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(in crate::twiml) struct StartRecording {
    kept: KeptSpec,
}

impl StartRecording {
    pub fn new(kept: KeptSpec) -> Self {
        Self { kept }
    }
}

impl Machine for StartRecording {
    /// It answers nothing; where the leg is not answered yet, the recording begins with its media.
    fn precondition(&self) -> Precondition {
        Precondition::None
    }

    fn start(&mut self, context: &mut Context<'_>) -> Step {
        let recording = context.next_recording();
        let spec = self.kept.clone().spec(RecordingSource::StartCallRecordingTwiML, context);
        context.push(VerbEffect::StartRecording { recording, spec: Box::new(spec) });
        Step::Next
    }

    fn handle(&mut self, _: &VerbInput, _: &mut Context<'_>) -> Step {
        Step::Next
    }

    fn cancel(&mut self, _: &mut Context<'_>) {}
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(in crate::twiml) struct StopRecording;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(in crate::twiml) struct StartStream {
    stream: StreamVerb,
}

impl StartStream {
    pub fn new(stream: StreamVerb) -> Self {
        Self { stream }
    }
}

impl Machine for StartStream {
    /// It answers nothing; where the leg is not answered yet, the application hears silence until its media comes.
    fn precondition(&self) -> Precondition {
        Precondition::None
    }

    fn start(&mut self, context: &mut Context<'_>) -> Step {
        if let Some(spec) = self.stream.clone().spec(None, context) {
            let stream = context.next_stream();
            context.push(VerbEffect::StartStream { stream, spec: Box::new(spec) });
        }
        Step::Next
    }

    fn handle(&mut self, _: &VerbInput, _: &mut Context<'_>) -> Step {
        Step::Next
    }

    fn cancel(&mut self, _: &mut Context<'_>) {}
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(in crate::twiml) struct StopStreams {
    name: Option<String>,
}

impl StopStreams {
    pub fn new(name: Option<String>) -> Self {
        Self { name }
    }
}

impl Machine for StopStreams {
    fn precondition(&self) -> Precondition {
        Precondition::None
    }

    fn start(&mut self, context: &mut Context<'_>) -> Step {
        context.push(VerbEffect::StopStreams(self.name.take()));
        Step::Next
    }

    fn handle(&mut self, _: &VerbInput, _: &mut Context<'_>) -> Step {
        Step::Next
    }

    fn cancel(&mut self, _: &mut Context<'_>) {}
}

impl Machine for StopRecording {
    fn precondition(&self) -> Precondition {
        Precondition::None
    }

    fn start(&mut self, context: &mut Context<'_>) -> Step {
        context.push(VerbEffect::StopStartedRecordings);
        Step::Next
    }

    fn handle(&mut self, _: &VerbInput, _: &mut Context<'_>) -> Step {
        Step::Next
    }

    fn cancel(&mut self, _: &mut Context<'_>) {}
}
