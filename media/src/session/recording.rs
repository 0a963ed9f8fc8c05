//! The recorders of a session: what commands and their files do to them.

use crate::ids::{LegId, RecorderId};
use crate::proto::{self, MediaEventKind, PauseMode, RecorderEnd, RecorderEnded, RecorderSpec};
use crate::recorder::{FileOutcome, FileStep, Recorder};
use crate::time::Mono;

use super::Session;

/// The answer for a recorder that does not run, and never did as far as is known.
pub(super) fn unknown(recorder_id: u32, leg_id: u32, text: String) -> MediaEventKind {
    let reason = RecorderEnd::Failed as i32;
    MediaEventKind::RecorderEnded(RecorderEnded { recorder_id, leg_id, reason, text, ..RecorderEnded::default() })
}

/// The leg that a spec records, 0 for the mix.
pub(super) fn leg_of(spec: &RecorderSpec) -> u32 {
    match &spec.source {
        Some(proto::Recorded::Leg(leg)) => leg.leg_id,
        Some(proto::Recorded::Mix(_)) | None => 0,
    }
}

impl Session {
    /// What is to be done with the file of a recording: in the order of the answers, file by file.
    ///
    /// Call until there is none, after every input. What became of it comes back by [`Session::handle_file`]; a step
    /// that cannot be taken is answered by a failure.
    pub fn poll_file(&mut self) -> Option<(RecorderId, FileStep<'_>)> {
        let recorder = self.listeners.recorders.iter_mut().find(|recorder| recorder.has_step())?;
        Some((recorder.id(), recorder.poll_step()?))
    }

    /// Takes what became of a recording's file. The call goes on whatever it is.
    pub fn handle_file(&mut self, recorder: RecorderId, outcome: FileOutcome, now: Mono) {
        self.now = now;
        self.deadline = None;
        // One that took too long is gone.
        let Some(index) = self.listeners.recorders.iter().position(|known| known.id() == recorder) else { return };
        let event = self.listeners.recorders[index].handle_outcome(outcome);
        self.tell_of_recorder(index, event);
    }

    /// Starts a recorder, unless it runs already, or has ended already.
    pub(super) fn record(&mut self, spec: &RecorderSpec) {
        let id = RecorderId(spec.recorder_id);
        if let Some(recorder) = self.listeners.recorders.iter().find(|recorder| recorder.id() == id) {
            if let Some(started) = recorder.answer_again() {
                self.tell(started);
            }
            return;
        }
        if let Some(ended) = self.ended_recorder(id) {
            return self.tell(ended);
        }
        let recorder = match Recorder::new(spec, self.now) {
            Ok(recorder) if recorder.leg().is_none_or(|leg| self.slots.iter().any(|slot| slot.id == leg)) => recorder,
            Ok(_) => return self.tell(unknown(id.0, leg_of(spec), "no such leg".into())),
            Err(text) => return self.tell(unknown(id.0, leg_of(spec), text)),
        };
        self.listeners.recorders.push(recorder);
    }

    pub(super) fn stop_recording(&mut self, id: u32) {
        let now = self.now;
        if let Some(recorder) = self.recorder(id) {
            recorder.stop(RecorderEnd::Stopped, now);
        }
    }

    pub(super) fn pause_recording(&mut self, pause: &proto::PauseRecording) {
        let now = self.now;
        // A mode that a later version knows keeps at least what was said out of the file.
        let mode = PauseMode::try_from(pause.mode).unwrap_or(PauseMode::Silence);
        if let Some(recorder) = self.recorder(pause.recorder_id) {
            recorder.pause(mode, now);
        }
    }

    pub(super) fn resume_recording(&mut self, id: u32) {
        let now = self.now;
        if let Some(recorder) = self.recorder(id) {
            recorder.resume(now);
        }
    }

    /// The recorder of that name; where there is none, that is told.
    fn recorder(&mut self, id: u32) -> Option<&mut Recorder> {
        let Some(index) = self.listeners.recorders.iter().position(|recorder| recorder.id().0 == id) else {
            let ended = self.ended_recorder(RecorderId(id));
            self.tell(ended.unwrap_or_else(|| unknown(id, 0, "no such recorder".into())));
            return None;
        };
        Some(&mut self.listeners.recorders[index])
    }

    fn ended_recorder(&self, id: RecorderId) -> Option<MediaEventKind> {
        let ended = self.ended_recorders.iter().find(|ended| ended.recorder_id == id.0)?;
        Some(MediaEventKind::RecorderEnded(ended.clone()))
    }

    /// A leg is over, or with `None` the whole session.
    pub(super) fn stop_recorders_of(&mut self, leg: Option<LegId>) {
        let now = self.now;
        for recorder in self.listeners.recorders.iter_mut().filter(|recorder| leg.is_none() || recorder.leg() == leg) {
            recorder.stop(RecorderEnd::LegClosed, now);
        }
    }

    /// Ends the recorders that none of these specs names.
    pub(super) fn stop_recorders_but(&mut self, specs: &[RecorderSpec]) {
        let now = self.now;
        for recorder in &mut self.listeners.recorders {
            if specs.iter().all(|spec| spec.recorder_id != recorder.id().0) {
                recorder.stop(RecorderEnd::Stopped, now);
            }
        }
    }

    pub(super) fn time_out_recorders(&mut self) {
        for index in (0..self.listeners.recorders.len()).rev() {
            if let Some(event) = self.listeners.recorders[index].handle_timeout(self.now) {
                self.tell_of_recorder(index, event);
            }
        }
    }

    fn tell_of_recorder(&mut self, index: usize, event: MediaEventKind) {
        if let MediaEventKind::RecorderEnded(ended) = &event {
            self.listeners.recorders.remove(index);
            if self.ended_recorders.len() == MAX_ENDED {
                self.ended_recorders.pop_front();
            }
            self.ended_recorders.push_back(ended.clone());
        }
        self.tell(event);
        self.end_if_released();
    }
}

/// Recorders whose end is remembered, for commands that come again.
const MAX_ENDED: usize = 32;
