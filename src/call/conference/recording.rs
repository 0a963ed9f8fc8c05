//! What is recorded of a conference: the voices of all, from its beginning or as somebody outside wishes.

use dialtone_media::proto::{self, CommandKind, Recorded, RecorderEnd};
use serde::{Deserialize, Serialize};

use super::{Conference, ConferenceEffect, ConferenceRecord, media};
use crate::call::{Now, RECORDING_FILE};
use crate::events::{EventKind, RecordingFact, RecordingStatus};
use crate::ids::{ConferenceSid, RecordingSid};
use crate::twiml::{RecordingCallback, RecordingSource, RecordingTrack};

/// A recording that is not over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Recording {
    pub(super) number: u32,
    sid: RecordingSid,
    status: RecordingStatus,
    started_ms: u64,
    callback: Option<RecordingCallback>,
}

impl Conference {
    /// Records all that is heard, under a name that the shard gives.
    pub(super) fn record(
        &mut self,
        sid: RecordingSid,
        trim: bool,
        callback: Option<RecordingCallback>,
        effects: &mut Vec<ConferenceEffect>,
    ) {
        let number = self.next_number();
        let status = RecordingStatus::InProgress;
        self.recordings.push(Recording { number, sid, status, started_ms: 0, callback });
        effects.push(media(CommandKind::Record(proto::RecorderSpec {
            recorder_id: number,
            source: Some(Recorded::Mix(proto::Mix {})),
            channels: 1,
            file: format!("{sid}{RECORDING_FILE}"),
            max_length_ms: 0,
            silence_timeout_ms: 0,
            trim_silence: trim,
            paused: None,
            offset_ms: 0,
        })));
    }

    pub(super) fn recording(&self, sid: Option<RecordingSid>) -> Option<&Recording> {
        self.recordings.iter().rev().find(|recording| sid.is_none_or(|sid| recording.sid == sid))
    }

    pub(super) fn change_recording(&mut self, record: ConferenceRecord, effects: &mut Vec<ConferenceEffect>) {
        let (ConferenceRecord::Stop(sid) | ConferenceRecord::Pause { sid, .. } | ConferenceRecord::Resume(sid)) =
            record;
        let Some(recorder_id) = self.recording(sid).map(|recording| recording.number) else { return };
        let (command, status) = match record {
            ConferenceRecord::Stop(_) => (CommandKind::StopRecording(recorder_id), None),
            ConferenceRecord::Pause { silent, .. } => {
                let mode = if silent { proto::PauseMode::Silence } else { proto::PauseMode::Skip }.into();
                let pause = proto::PauseRecording { recorder_id, mode };
                (CommandKind::PauseRecording(pause), Some(RecordingStatus::Paused))
            }
            ConferenceRecord::Resume(_) => {
                (CommandKind::ResumeRecording(recorder_id), Some(RecordingStatus::InProgress))
            }
        };
        effects.push(media(command));
        if let Some(status) = status {
            self.note_recording(recorder_id, |recording| recording.status = status, effects);
        }
    }

    pub(super) fn recorder_started(&mut self, recorder_id: u32, now: Now, effects: &mut Vec<ConferenceEffect>) {
        self.note_recording(recorder_id, |recording| recording.started_ms = now.wall_ms, effects);
    }

    fn note_recording(
        &mut self,
        number: u32,
        change: impl FnOnce(&mut Recording),
        effects: &mut Vec<ConferenceEffect>,
    ) {
        let Some(recording) = self.recordings.iter_mut().find(|recording| recording.number == number) else { return };
        let was_paused = recording.status == RecordingStatus::Paused;
        change(recording);
        let is_resumed = was_paused && recording.status == RecordingStatus::InProgress;
        let fact = RecordingFact { is_resumed, ..recording.fact(self.sid) };
        self.tell_of_recording(fact, effects);
    }

    fn tell_of_recording(&self, fact: RecordingFact, effects: &mut Vec<ConferenceEffect>) {
        effects.push(ConferenceEffect::Note { call: self.founder, kind: EventKind::Recording(Box::new(fact)) });
    }

    pub(super) fn recorder_ended(
        &mut self,
        ended: &proto::RecorderEnded,
        now: Now,
        effects: &mut Vec<ConferenceEffect>,
    ) {
        let Some(at) = self.recordings.iter().position(|recording| recording.number == ended.recorder_id) else {
            return;
        };
        let recording = self.recordings.remove(at);
        let failed = !matches!(
            RecorderEnd::try_from(ended.reason),
            Ok(RecorderEnd::Stopped | RecorderEnd::LegClosed | RecorderEnd::MaxLength | RecorderEnd::Silence)
        );
        let mut fact = recording.fact(self.sid);
        fact.status = if failed { RecordingStatus::Failed } else { RecordingStatus::Completed };
        fact.started_ms = if fact.started_ms == 0 { now.wall_ms } else { fact.started_ms };
        (fact.duration_ms, fact.bytes) = (ended.duration_ms, ended.bytes);
        fact.error = if failed { ended.text.clone() } else { String::new() };
        self.tell_of_recording(fact, effects);
    }
}

impl Recording {
    fn fact(&self, conference: ConferenceSid) -> RecordingFact {
        RecordingFact {
            sid: self.sid,
            conference: Some(conference),
            source: RecordingSource::Conference,
            track: RecordingTrack::Both,
            channels: 1,
            status: self.status,
            started_ms: self.started_ms,
            duration_ms: 0,
            bytes: 0,
            error: String::new(),
            callback: self.callback.clone(),
            is_resumed: false,
        }
    }
}
