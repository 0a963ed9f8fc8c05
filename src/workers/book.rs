//! What a session's media is to be, kept up to date from what was asked of its worker and what that told.
//!
//! A worker that is lost has nothing that this does not say: [`Book::spec`] opens the session anew, with playlists and
//! recordings going on where they are. It is plain data; the time comes with each input.

use bytes::Bytes;
use dialtone_media::proto::{
    CommandKind, Hears, LegKind, LegSpec, MediaEventKind, Negotiate, PauseMode, RecorderSpec, RtpLeg, SdpStep,
    SessionSpec, Source, TapSpec,
};
use dialtone_media::time::Mono;
use serde::{Deserialize, Serialize};

/// One session.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Book {
    legs: Vec<Leg>,
    recorders: Vec<Recorder>,
    #[serde(default)]
    taps: Vec<Tap>,
    /// Steps of offer and answer that were asked for and are not answered, in order.
    steps: Vec<Step>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Leg {
    spec: LegSpec,
    /// Since when its player plays, while nothing keeps it from that.
    plays_since: Option<Mono>,
    /// As it was before a step that may be taken back.
    before: Option<RtpLeg>,
    /// The call has been told of it.
    is_known: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Recorder {
    spec: RecorderSpec,
    /// Since when time counts, while it does.
    runs_since: Option<Mono>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Tap {
    spec: TapSpec,
    since: Mono,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Step {
    command_id: u64,
    leg_id: u32,
    step: SdpStep,
    #[serde(with = "dialtone_media::text")]
    sdp: Bytes,
}

impl Book {
    /// Something was asked of the worker.
    pub fn command(&mut self, command_id: u64, kind: &CommandKind, now: Mono) {
        match kind {
            CommandKind::Open(spec) => {
                spec.legs.iter().for_each(|leg| self.put(command_id, leg, now));
                spec.recorders.iter().for_each(|recorder| self.record(recorder, now));
            }
            CommandKind::PutLeg(leg) => self.put(command_id, leg, now),
            CommandKind::DropLeg(leg_id) => self.drop_leg(*leg_id),
            CommandKind::Negotiate(Negotiate { leg_id, step, sdp }) => {
                if let Ok(step) = SdpStep::try_from(*step) {
                    self.steps.push(Step { command_id, leg_id: *leg_id, step, sdp: sdp.clone() });
                }
            }
            CommandKind::Hear(hear) => {
                if let Some(leg) = self.leg(hear.leg_id) {
                    leg.hear(hear.source.clone());
                }
            }
            CommandKind::Play(play) => {
                if let (Some(leg), Some(player)) = (self.leg(play.leg_id), &play.player) {
                    leg.spec.hears = Some(Source { from: Some(Hears::Player(player.player_id)) });
                    leg.spec.players = vec![player.clone()];
                    leg.plays_since = Some(now);
                }
            }
            CommandKind::Mix(set) => {
                if let Some(leg) = self.leg(set.leg_id) {
                    leg.spec.mixing = set.mixing.clone();
                }
            }
            CommandKind::Record(spec) => self.record(spec, now),
            CommandKind::PauseRecording(pause) => {
                if let Some(recorder) = self.recorder(pause.recorder_id) {
                    let mode = PauseMode::try_from(pause.mode).unwrap_or(PauseMode::Silence);
                    recorder.set_paused(Some(mode), now);
                }
            }
            CommandKind::ResumeRecording(id) => {
                if let Some(recorder) = self.recorder(*id) {
                    recorder.set_paused(None, now);
                }
            }
            // What comes of it takes the recorder out.
            CommandKind::StopRecording(_) | CommandKind::Release(_) | CommandKind::Link(_) => {}
            CommandKind::Tap(spec) => {
                if self.taps.iter().all(|tap| tap.spec.tap_id != spec.tap_id) {
                    self.taps.push(Tap { spec: spec.clone(), since: now });
                }
            }
            CommandKind::StopTap(id) => self.taps.retain(|tap| tap.spec.tap_id != *id),
            // What a player was fed is gone with its worker, and what it is fed meanwhile waits for the next.
            CommandKind::Feed(_) => {}
            CommandKind::Audio(_) => {
                // Whoever waited for audio plays from now on.
                for leg in self.legs.iter_mut().filter(|leg| !leg.spec.players.is_empty()) {
                    leg.plays_since.get_or_insert(now);
                }
            }
        }
    }

    /// The worker told something.
    pub fn event(&mut self, kind: &MediaEventKind, now: Mono) {
        match kind {
            MediaEventKind::Negotiated(told) => {
                let Some(step) = self.take_step(told.command_id, told.leg_id) else { return };
                if let Some(leg) = self.leg(told.leg_id) {
                    leg.is_known = true;
                    leg.negotiated(step, &told.sdp);
                }
            }
            MediaEventKind::Refused(told) => {
                let step = self.take_step(told.command_id, told.leg_id);
                let was_made = self.leg(told.leg_id).is_some_and(|leg| leg.is_known);
                if step.is_some() && !was_made {
                    self.drop_leg(told.leg_id);
                }
            }
            MediaEventKind::PlayerEnded(ended) => {
                if let Some(leg) = self.leg(ended.leg_id).filter(|leg| leg.plays(ended.player_id)) {
                    leg.hear(None);
                }
            }
            MediaEventKind::AudioWanted(wanted) => {
                for leg in self.legs.iter_mut().filter(|leg| leg.wants(&wanted.hash)) {
                    leg.stand_still(now);
                }
            }
            MediaEventKind::LegClosed(closed) => self.drop_leg(closed.leg_id),
            MediaEventKind::RecorderEnded(ended) => {
                self.recorders.retain(|recorder| recorder.spec.recorder_id != ended.recorder_id);
            }
            MediaEventKind::Digit(_)
            | MediaEventKind::LegSilent(_)
            | MediaEventKind::LegFailed(_)
            | MediaEventKind::LegHeard(_)
            | MediaEventKind::Speaking(_)
            | MediaEventKind::RecorderStarted(_)
            | MediaEventKind::Tapped(_)
            | MediaEventKind::Marked(_)
            | MediaEventKind::Released(_) => {}
        }
    }

    /// Whether something of it is being recorded.
    pub fn is_recorded(&self) -> bool {
        !self.recorders.is_empty()
    }

    /// Whether something of it goes to an application by a stream.
    pub fn is_tapped(&self) -> bool {
        !self.taps.is_empty()
    }

    /// Everything, as it is to be from now on.
    pub fn spec(&self, session_id: u64, owner_epoch: u64, now: Mono) -> SessionSpec {
        SessionSpec {
            session_id,
            owner_epoch,
            legs: self.legs.iter().map(|leg| leg.at(now)).collect(),
            recorders: self.recorders.iter().map(|recorder| recorder.at(now)).collect(),
            taps: self.taps.iter().map(|tap| tap.at(now)).collect(),
        }
    }

    /// Steps that the worker has not answered, which another one must be asked for: all but those that opening a leg is.
    pub fn unanswered(&self) -> impl Iterator<Item = (u64, CommandKind)> + '_ {
        let is_known = |step: &&Step| self.legs.iter().any(|leg| leg.spec.leg_id == step.leg_id && leg.is_known);
        self.steps.iter().filter(is_known).map(|step| {
            let Step { leg_id, sdp, .. } = step.clone();
            (step.command_id, CommandKind::Negotiate(Negotiate { leg_id, step: step.step.into(), sdp }))
        })
    }

    /// The command by which a leg was opened that the call has not been told of.
    pub fn opened_by(&self, leg_id: u32) -> Option<u64> {
        let is_known = self.legs.iter().any(|leg| leg.spec.leg_id == leg_id && leg.is_known);
        let step = self.steps.iter().find(|step| step.leg_id == leg_id)?;
        (!is_known).then_some(step.command_id)
    }

    /// Whether the call knows of no leg yet: the session is only just being opened.
    pub fn is_fresh(&self) -> bool {
        self.legs.iter().all(|leg| !leg.is_known)
    }

    pub fn leg_ids(&self) -> impl Iterator<Item = u32> + '_ {
        self.legs.iter().map(|leg| leg.spec.leg_id)
    }

    /// What we have said last on a leg.
    pub fn local_sdp(&self, leg_id: u32) -> Option<&Bytes> {
        match &self.legs.iter().find(|leg| leg.spec.leg_id == leg_id)?.spec.kind {
            Some(LegKind::Rtp(rtp)) => Some(&rtp.local_sdp),
            _ => None,
        }
    }

    /// A worker goes on with a leg at another address: what it says of it takes the place of what we said.
    pub fn moved(&mut self, leg_id: u32, sdp: &Bytes) {
        if let Some(Leg { spec: LegSpec { kind: Some(LegKind::Rtp(rtp)), .. }, .. }) = self.leg(leg_id) {
            rtp.local_sdp = sdp.clone();
            rtp.is_offer = true;
        }
    }

    fn leg(&mut self, leg_id: u32) -> Option<&mut Leg> {
        self.legs.iter_mut().find(|leg| leg.spec.leg_id == leg_id)
    }

    fn recorder(&mut self, recorder_id: u32) -> Option<&mut Recorder> {
        self.recorders.iter_mut().find(|recorder| recorder.spec.recorder_id == recorder_id)
    }

    fn put(&mut self, command_id: u64, spec: &LegSpec, now: Mono) {
        let is_rtp = matches!(spec.kind, Some(LegKind::Rtp(_)));
        if let Some(LegKind::Rtp(rtp)) = &spec.kind {
            let step = match rtp.local_sdp.is_empty() && !rtp.remote_sdp.is_empty() {
                true => SdpStep::RemoteOffer,
                false => SdpStep::MakeOffer,
            };
            self.steps.push(Step { command_id, leg_id: spec.leg_id, step, sdp: rtp.remote_sdp.clone() });
        }
        self.legs.retain(|leg| leg.spec.leg_id != spec.leg_id);
        let plays_since = (!spec.players.is_empty()).then_some(now);
        self.legs.push(Leg { spec: spec.clone(), plays_since, before: None, is_known: !is_rtp });
    }

    fn drop_leg(&mut self, leg_id: u32) {
        self.taps.retain(|tap| tap.spec.leg_id != leg_id);
        self.legs.retain(|leg| leg.spec.leg_id != leg_id);
        self.steps.retain(|step| step.leg_id != leg_id);
    }

    fn record(&mut self, spec: &RecorderSpec, now: Mono) {
        if self.recorder(spec.recorder_id).is_none() {
            let runs_since = (spec.paused != Some(PauseMode::Skip.into())).then_some(now);
            self.recorders.push(Recorder { spec: spec.clone(), runs_since });
        }
    }

    fn take_step(&mut self, command_id: u64, leg_id: u32) -> Option<Step> {
        let at = self.steps.iter().position(|step| step.command_id == command_id && step.leg_id == leg_id)?;
        Some(self.steps.remove(at))
    }
}

impl Leg {
    fn hear(&mut self, source: Option<Source>) {
        let is_player = |source: &Source| matches!(source.from, Some(Hears::Player(_)));
        if !source.as_ref().is_some_and(is_player) {
            self.spec.players.clear();
            self.plays_since = None;
        }
        self.spec.hears = source;
    }

    fn plays(&self, player_id: u32) -> bool {
        self.spec.players.iter().any(|player| player.player_id == player_id)
    }

    fn wants(&self, hash: &Bytes) -> bool {
        use dialtone_media::proto::PlayKind;
        let is_it = |kind: &Option<PlayKind>| matches!(kind, Some(PlayKind::Audio(wanted)) if wanted == hash);
        self.spec.players.iter().any(|player| player.items.iter().any(|item| is_it(&item.kind)))
    }

    /// Its player waits for audio.
    fn stand_still(&mut self, now: Mono) {
        self.spec.players = self.at(now).players;
        self.plays_since = None;
    }

    fn negotiated(&mut self, step: Step, sdp: &Bytes) {
        let Some(LegKind::Rtp(rtp)) = &mut self.spec.kind else { return };
        match step.step {
            SdpStep::RemoteOffer => {
                self.before = Some(rtp.clone());
                rtp.remote_sdp = step.sdp;
                rtp.local_sdp = sdp.clone();
                rtp.is_offer = false;
            }
            SdpStep::MakeOffer => {
                self.before = Some(rtp.clone());
                rtp.local_sdp = sdp.clone();
                rtp.is_offer = true;
            }
            SdpStep::RemoteAnswer => {
                // With that it is agreed: there is nothing to take back.
                self.before = None;
                rtp.remote_sdp = step.sdp;
            }
            SdpStep::Rollback => match self.before.take() {
                Some(before) if !before.local_sdp.is_empty() => *rtp = before,
                Some(_) => rtp.remote_sdp = Bytes::new(),
                None => {}
            },
        }
    }

    /// As it is to be opened now.
    fn at(&self, now: Mono) -> LegSpec {
        let mut spec = self.spec.clone();
        let played = self.plays_since.map_or(0, |since| ms_between(since, now));
        spec.players.iter_mut().for_each(|player| player.offset_ms += played);
        spec
    }
}

impl Tap {
    fn at(&self, now: Mono) -> TapSpec {
        TapSpec { offset_ms: self.spec.offset_ms + ms_between(self.since, now), ..self.spec.clone() }
    }
}

impl Recorder {
    fn set_paused(&mut self, paused: Option<PauseMode>, now: Mono) {
        self.spec = self.at(now);
        self.spec.paused = paused.map(i32::from);
        self.runs_since = (paused != Some(PauseMode::Skip)).then_some(now);
    }

    fn at(&self, now: Mono) -> RecorderSpec {
        let mut spec = self.spec.clone();
        // Not 0: there is a file to go on with.
        spec.offset_ms += self.runs_since.map_or(0, |since| ms_between(since, now).max(1));
        spec
    }
}

fn ms_between(since: Mono, now: Mono) -> u64 {
    u64::try_from(now.since(since).as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
