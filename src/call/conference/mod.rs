//! A conference: its members, who hears whom, and what all of them hear.
//!
//! As a [`Call`](super::Call) it is a plain state machine: inputs and the time in, effects out. It has a media session of its
//! own, in which each member is the far end of a link; the near end is in the session of the member's call, wherever that
//! is. It begins when there are two members of whom one may begin it, and ends with its last member, by one whose leaving
//! ends it, or from outside; its session is released then, and it is over when the worker has said so.
//!
//! - `recording`: what is recorded of it
//! - `voice`: what plays: music for those who wait or are held, announcements

mod recording;
mod voice;

use std::time::Duration;

use dialtone_media::proto::{
    self, Announcer, CommandKind, Hear, Hears, LegKind, LegSpec, MediaEventKind, Mixing, Play, PlayItem, PlayKind,
    PlayerSpec, RecorderEnd, RemoteLeg, SessionSpec, SetMixing, Source,
};
use dialtone_sip::time::Mono;
use serde::{Deserialize, Serialize};

use super::effect::FetchOutcome;
use super::{Now, tones};
use crate::events::{ConferenceFact, ConferenceReason, ConferenceStatus, ConferenceStep, EventKind, Participant};
use crate::ids::{CallSid, ConferenceSid, RecordingSid};
use crate::twiml::{
    AudioFailure, AudioSource, ClipRef, ConferenceCallback, ConferenceEvent, ConferenceRecording, ConferenceSpec,
    DocumentSource, Endpoint, FetchOrder, Membership, Notice, RecordingCallback,
};
use recording::Recording;
use voice::{Purpose, Voice};

/// What happens to a conference.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ConferenceInput {
    /// A call wants to be a member; its media comes by the link of that key.
    Join {
        call: CallSid,
        key: u64,
        spec: Box<ConferenceSpec>,
    },
    /// A member goes; `hung_up`: its party has.
    Leave {
        call: CallSid,
        hung_up: bool,
    },
    /// Somebody outside changes a member.
    Change {
        call: CallSid,
        change: Box<ParticipantChange>,
    },
    /// Somebody outside has all of them hear something.
    Announce(Endpoint),
    /// Somebody outside ends it.
    End,
    Record(ConferenceRecord),
    /// What [`ConferenceEffect::Record`] asked for has a name.
    StartRecording {
        sid: RecordingSid,
        trim: bool,
        callback: Option<RecordingCallback>,
    },
    Media(MediaEventKind),
    MediaLost,
    Document {
        fetch: u32,
        outcome: FetchOutcome,
    },
    Audio {
        ticket: u32,
        result: Result<ClipRef, AudioFailure>,
    },
    Deadline,
}

/// A change to a member; what is `None` stays.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ParticipantChange {
    pub muted: Option<bool>,
    pub hold: Option<bool>,
    /// What a held member hears; without it, music of our own.
    pub hold_document: Option<Endpoint>,
    /// What it hears until the conference begins; `Some(None)`: silence.
    pub wait: Option<Option<Endpoint>>,
    pub announce: Option<Endpoint>,
    pub end_on_exit: Option<bool>,
    pub beep_on_exit: Option<bool>,
    /// `Some(None)`: it coaches nobody any more.
    pub coach: Option<Option<CallSid>>,
    /// Out of the conference.
    pub remove: bool,
}

/// Recordings of a conference, ordered from outside; a stop without a sid is of the newest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ConferenceRecord {
    Stop(Option<RecordingSid>),
    Pause { sid: Option<RecordingSid>, silent: bool },
    Resume(Option<RecordingSid>),
}

/// All that a conference can do to the world.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ConferenceEffect {
    /// For its media session.
    Media(CommandKind),
    /// To a member, or to one that could not be.
    Tell {
        call: CallSid,
        membership: Membership,
    },
    /// A fact that stands for itself, with the call that it names.
    Note {
        call: CallSid,
        kind: EventKind,
    },
    /// Something that the customer must know, among the notifications of a member.
    Notice {
        call: CallSid,
        notice: Notice,
    },
    Fetch {
        order: FetchOrder,
        params: Vec<(String, String)>,
    },
    CancelFetch(u32),
    Prepare {
        ticket: u32,
        source: AudioSource,
    },
    /// Answered by [`ConferenceInput::StartRecording`].
    Record {
        trim: bool,
        callback: Option<RecordingCallback>,
    },
    /// Nothing is left of it.
    Finished,
}

/// A room of one account, known by its name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Conference {
    sid: ConferenceSid,
    name: String,
    session_id: u64,
    status: ConferenceStatus,
    created_ms: u64,
    members: Vec<Member>,
    /// Its first member: what is told of all is told of this one.
    founder: CallSid,
    voices: Vec<Voice>,
    max_participants: u32,
    callback: Option<ConferenceCallback>,
    /// From its beginning.
    record: Option<ConferenceRecording>,
    recordings: Vec<Recording>,
    /// Facts told so far.
    sequence: u32,
    /// Numbers given out, to legs, voices and recorders.
    numbers: u32,
    /// Without a word of the worker by then, it is over all the same.
    released_by: Option<Mono>,
    is_over: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Member {
    call: CallSid,
    leg_id: u32,
    muted: bool,
    hold: bool,
    /// What it hears while it is held; `None`: our music.
    hold_source: Option<DocumentSource>,
    /// What it hears until the conference begins; `None`: silence.
    wait: Option<DocumentSource>,
    coach: Option<CallSid>,
    start_on_enter: bool,
    end_on_exit: bool,
    beep_on_exit: bool,
    label: String,
    joined_ms: u64,
}

/// What everybody hears who is not held: announcements.
const ANNOUNCER: u32 = 1;
/// The tones at comings and goings.
const BELL: u32 = 2;
const FIRST_MEMBER: u32 = 16;
/// The worker answers a release within this time, or is taken for lost.
const PATIENCE: Duration = Duration::from_secs(10);

impl Conference {
    /// For a first member; say [`ConferenceInput::Join`] of it next.
    pub fn new(sid: ConferenceSid, session_id: u64, founder: CallSid, spec: &ConferenceSpec, now: Now) -> Conference {
        Conference {
            sid,
            name: spec.name.clone(),
            session_id,
            status: ConferenceStatus::Init,
            created_ms: now.wall_ms,
            members: Vec::new(),
            founder,
            voices: Vec::new(),
            max_participants: spec.max_participants,
            callback: spec.callback.clone(),
            record: spec.record.clone(),
            recordings: Vec::new(),
            sequence: 0,
            numbers: FIRST_MEMBER,
            released_by: None,
            is_over: false,
        }
    }

    pub fn sid(&self) -> ConferenceSid {
        self.sid
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn session_id(&self) -> u64 {
        self.session_id
    }

    /// Nobody can join it any more; another of its name may begin.
    pub fn is_completed(&self) -> bool {
        self.status == ConferenceStatus::Completed
    }

    /// The member of that sid or label.
    pub fn member_named(&self, name: &str) -> Option<CallSid> {
        let sid: Option<CallSid> = name.parse().ok();
        let is_it = |member: &&Member| Some(member.call) == sid || (!name.is_empty() && member.label == name);
        self.members.iter().find(is_it).map(|member| member.call)
    }

    pub fn participants(&self) -> impl Iterator<Item = Participant> {
        self.members.iter().map(Member::participant)
    }

    /// Whether there is such a recording to be changed.
    pub fn takes_record(&self, record: &ConferenceRecord) -> bool {
        let (ConferenceRecord::Stop(sid) | ConferenceRecord::Pause { sid, .. } | ConferenceRecord::Resume(sid)) =
            record;
        self.recording(*sid).is_some()
    }

    pub fn next_deadline(&self) -> Option<Mono> {
        self.voices.iter().filter_map(Voice::deadline).chain(self.released_by.filter(|_| !self.is_over)).min()
    }

    /// Takes an input; what it brings about is appended to `effects`, in order. The last is
    /// [`ConferenceEffect::Finished`].
    pub fn handle(&mut self, input: ConferenceInput, now: Now, effects: &mut Vec<ConferenceEffect>) {
        match input {
            ConferenceInput::Join { call, key, spec } => self.join(call, key, *spec, now, effects),
            ConferenceInput::Leave { call, hung_up } => {
                let why = if hung_up {
                    ConferenceReason::ParticipantHungUp
                } else {
                    ConferenceReason::ParticipantUpdatedViaApi
                };
                self.leave(call, why, now, effects);
            }
            ConferenceInput::Change { call, change } => self.change(call, *change, now, effects),
            ConferenceInput::Announce(endpoint) => self.announce(ANNOUNCER, endpoint, None, now, effects),
            ConferenceInput::End => {
                if let Some(first) = self.members.first().map(|member| member.call) {
                    self.end(first, ConferenceReason::ConferenceEndedViaApi, now, effects);
                }
            }
            ConferenceInput::Record(record) => self.change_recording(record, effects),
            ConferenceInput::StartRecording { sid, trim, callback } => self.record(sid, trim, callback, effects),
            ConferenceInput::Media(event) => self.media_event(event, now, effects),
            ConferenceInput::MediaLost => self.media_lost(now, effects),
            ConferenceInput::Document { fetch, outcome } => self.document(fetch, outcome, now, effects),
            ConferenceInput::Audio { ticket, result } => self.audio(ticket, result, now, effects),
            ConferenceInput::Deadline => self.deadline(now, effects),
        }
    }

    fn next_number(&mut self) -> u32 {
        self.numbers += 1;
        self.numbers
    }

    fn join(&mut self, call: CallSid, key: u64, spec: ConferenceSpec, now: Now, effects: &mut Vec<ConferenceEffect>) {
        let refused = if self.members.len() >= self.max_participants as usize {
            Some(format!("conference {} has {} participants, as many as it may have", self.name, self.members.len()))
        } else if !spec.label.is_empty() && self.member_named(&spec.label).is_some() {
            Some(format!("participantLabel {} is another's in conference {}", spec.label, self.name))
        } else {
            None
        };
        if let Some(why) = refused {
            effects.push(ConferenceEffect::Tell { call, membership: Membership::Refused { why } });
            return;
        }
        if self.members.is_empty() {
            effects.push(media(CommandKind::Open(SessionSpec {
                session_id: self.session_id,
                legs: vec![announcer(ANNOUNCER), announcer(BELL)],
                ..SessionSpec::default()
            })));
        }
        if spec.beep.on_enter && self.status == ConferenceStatus::InProgress {
            self.ring(effects);
        }
        let leg_id = self.next_number();
        self.members.push(Member {
            call,
            leg_id,
            muted: spec.muted,
            hold: false,
            hold_source: None,
            wait: spec.wait,
            coach: spec.coach,
            start_on_enter: spec.start_on_enter,
            end_on_exit: spec.end_on_exit,
            beep_on_exit: spec.beep.on_exit,
            label: spec.label,
            joined_ms: now.wall_ms,
        });
        let member = self.members.last().expect("it was just added");
        let remote = RemoteLeg { worker: String::new(), session_id: self.session_id, key };
        effects.push(media(CommandKind::PutLeg(LegSpec {
            leg_id,
            kind: Some(LegKind::Remote(remote)),
            hears: Some(Source { from: Some(self.hears(member)) }),
            mixing: self.mixing(member),
            ..LegSpec::default()
        })));
        let participant = member.participant();
        effects.push(ConferenceEffect::Tell { call, membership: Membership::Joined { conference: self.sid } });
        self.note(ConferenceStep::ParticipantJoin, call, Some(participant), None, effects);
        if let Some(coach) = self.members.iter().find(|member| member.coach == Some(call)).map(|coach| coach.call) {
            // Whom it coaches is there now.
            self.set_mixing(coach, effects);
        }
        if self.status == ConferenceStatus::Init {
            let may_begin = self.members.len() > 1 && self.members.iter().any(|member| member.start_on_enter);
            if may_begin {
                self.begin(call, effects);
            } else {
                self.play_alone(call, now, effects);
            }
        }
    }

    /// Everybody is heard from now on.
    fn begin(&mut self, by: CallSid, effects: &mut Vec<ConferenceEffect>) {
        self.status = ConferenceStatus::InProgress;
        self.silence(|voice| voice.purpose == Purpose::Waiting, effects);
        for (call, leg_id) in self.members.iter().map(|member| (member.call, member.leg_id)).collect::<Vec<_>>() {
            self.set_mixing(call, effects);
            // Whoever is played something hears it to its end.
            if self.voices.iter().all(|voice| voice.leg_id != leg_id) {
                self.set_hearing(call, effects);
            }
        }
        self.note(ConferenceStep::ConferenceStart, by, None, None, effects);
        if let Some(ConferenceRecording { trim, callback }) = self.record.clone() {
            effects.push(ConferenceEffect::Record { trim, callback });
        }
    }

    fn leave(&mut self, call: CallSid, why: ConferenceReason, now: Now, effects: &mut Vec<ConferenceEffect>) {
        let Some(at) = self.members.iter().position(|member| member.call == call) else { return };
        let member = self.members.remove(at);
        self.silence(|voice| voice.leg_id == member.leg_id, effects);
        effects.push(media(CommandKind::DropLeg(member.leg_id)));
        let kicked = why == ConferenceReason::ParticipantRemovedViaApi;
        self.note(ConferenceStep::ParticipantLeave, call, Some(member.participant()), Some(why), effects);
        effects.push(ConferenceEffect::Tell { call, membership: Membership::Left });
        if member.end_on_exit && !self.members.is_empty() {
            self.end(call, ConferenceReason::ParticipantWithEndConferenceOnExitLeft, now, effects);
        } else if self.members.is_empty() {
            let why =
                if kicked { ConferenceReason::LastParticipantKicked } else { ConferenceReason::LastParticipantLeft };
            self.end(call, why, now, effects);
        } else if member.beep_on_exit && self.status == ConferenceStatus::InProgress {
            self.ring(effects);
        }
    }

    /// Everybody is out, and the session is released.
    fn end(&mut self, by: CallSid, why: ConferenceReason, now: Now, effects: &mut Vec<ConferenceEffect>) {
        if self.is_completed() {
            return;
        }
        for member in std::mem::take(&mut self.members) {
            let call = member.call;
            let reason = Some(why.clone());
            self.note(ConferenceStep::ParticipantLeave, call, Some(member.participant()), reason, effects);
            effects.push(ConferenceEffect::Tell { call, membership: Membership::Left });
        }
        self.status = ConferenceStatus::Completed;
        self.silence(|_| true, effects);
        self.note(ConferenceStep::ConferenceEnd, by, None, Some(why), effects);
        effects.push(media(CommandKind::Release(proto::Release {})));
        self.released_by = Some(now.mono + PATIENCE);
    }

    fn change(&mut self, call: CallSid, change: ParticipantChange, now: Now, effects: &mut Vec<ConferenceEffect>) {
        if change.remove {
            return self.leave(call, ConferenceReason::ParticipantRemovedViaApi, now, effects);
        }
        let Some(at) = self.members.iter().position(|member| member.call == call) else { return };
        let before = self.members[at].clone();
        let member = &mut self.members[at];
        member.muted = change.muted.unwrap_or(member.muted);
        member.hold = change.hold.unwrap_or(member.hold);
        member.end_on_exit = change.end_on_exit.unwrap_or(member.end_on_exit);
        member.beep_on_exit = change.beep_on_exit.unwrap_or(member.beep_on_exit);
        member.coach = change.coach.unwrap_or(member.coach);
        let after = member.clone();
        let mut steps = Vec::new();
        if before.muted != after.muted {
            let step = if after.muted { ConferenceStep::ParticipantMute } else { ConferenceStep::ParticipantUnmute };
            steps.push(step);
        }
        if before.hold != after.hold {
            steps.push(if after.hold { ConferenceStep::ParticipantHold } else { ConferenceStep::ParticipantUnhold });
        }
        if before.end_on_exit != after.end_on_exit
            || before.beep_on_exit != after.beep_on_exit
            || before.coach != after.coach
        {
            steps.push(ConferenceStep::ParticipantModify);
        }
        if before != after {
            self.set_mixing(call, effects);
        }
        // Other music for one that is held: it hears that from now on.
        let has_other_music = after.hold && change.hold_document.is_some();
        let waits_with_other_music = self.status == ConferenceStatus::Init && change.wait.is_some() && !after.hold;
        if let Some(wait) = change.wait {
            self.members[at].wait = wait.map(DocumentSource::Url);
        }
        if before.hold != after.hold || has_other_music || waits_with_other_music {
            self.silence(|voice| voice.leg_id == after.leg_id, effects);
            self.set_hearing(call, effects);
            if after.hold {
                self.members[at].hold_source = change.hold_document.map(DocumentSource::Url);
            }
            self.play_alone(call, now, effects);
        }
        for step in steps {
            self.note(step, call, Some(after.participant()), None, effects);
        }
        if let Some(endpoint) = change.announce {
            self.announce(after.leg_id, endpoint, Some(call), now, effects);
        }
    }

    /// What a member hears now, but for what is played to it alone.
    fn hears(&self, member: &Member) -> Hears {
        match self.status {
            ConferenceStatus::InProgress if !member.hold => Hears::Mix(proto::Mix {}),
            _ => Hears::Silence(proto::Silence {}),
        }
    }

    /// How a member is heard now.
    fn mixing(&self, member: &Member) -> Option<Mixing> {
        let heard = self.status == ConferenceStatus::InProgress && !member.muted && !member.hold;
        let tells_speaking =
            self.callback.as_ref().is_some_and(|callback| callback.events.contains(&ConferenceEvent::Speaker));
        let whispers_to = match member.coach {
            None => None,
            Some(coached) => match self.members.iter().find(|other| other.call == coached) {
                Some(coached) => Some(coached.leg_id),
                // Nobody hears a coach whose pupil is not there.
                None => return None,
            },
        };
        Some(Mixing { heard, whispers_to, tells_speaking })
    }

    fn set_mixing(&self, call: CallSid, effects: &mut Vec<ConferenceEffect>) {
        let Some(member) = self.members.iter().find(|member| member.call == call) else { return };
        let mixing = SetMixing { leg_id: member.leg_id, mixing: self.mixing(member) };
        effects.push(media(CommandKind::Mix(mixing)));
    }

    fn set_hearing(&self, call: CallSid, effects: &mut Vec<ConferenceEffect>) {
        let Some(member) = self.members.iter().find(|member| member.call == call) else { return };
        let source = Some(Source { from: Some(self.hears(member)) });
        effects.push(media(CommandKind::Hear(Hear { leg_id: member.leg_id, source })));
    }

    fn ring(&mut self, effects: &mut Vec<ConferenceEffect>) {
        let items = vec![PlayItem { kind: Some(PlayKind::Tone(tones::bell())) }];
        let player = PlayerSpec { player_id: self.next_number(), items, loops: 1, offset_ms: 0 };
        effects.push(media(CommandKind::Play(Play { leg_id: BELL, player: Some(player) })));
    }

    fn note(
        &mut self,
        step: ConferenceStep,
        call: CallSid,
        participant: Option<Participant>,
        reason: Option<ConferenceReason>,
        effects: &mut Vec<ConferenceEffect>,
    ) {
        self.sequence += 1;
        let callback = self.callback.as_ref().filter(|callback| callback.events.contains(&step.kind()));
        let fact = ConferenceFact {
            sid: self.sid,
            name: self.name.clone(),
            step,
            sequence: self.sequence,
            status: self.status,
            created_ms: self.created_ms,
            participant,
            callback: callback.map(|callback| callback.endpoint.clone()),
            reason,
        };
        effects.push(ConferenceEffect::Note { call, kind: EventKind::Conference(Box::new(fact)) });
    }

    fn media_event(&mut self, event: MediaEventKind, now: Now, effects: &mut Vec<ConferenceEffect>) {
        match event {
            MediaEventKind::PlayerEnded(ended) => self.player_ended(&ended, now, effects),
            MediaEventKind::Speaking(speaking) => {
                let Some(member) = self.members.iter().find(|member| member.leg_id == speaking.leg_id) else { return };
                let (call, participant) = (member.call, member.participant());
                let step = if speaking.speaking {
                    ConferenceStep::ParticipantSpeechStart
                } else {
                    ConferenceStep::ParticipantSpeechStop
                };
                self.note(step, call, Some(participant), None, effects);
            }
            MediaEventKind::RecorderStarted(started) => self.recorder_started(started.recorder_id, now, effects),
            MediaEventKind::RecorderEnded(ended) => self.recorder_ended(&ended, now, effects),
            MediaEventKind::Released(_) => self.finish(effects),
            _ => {}
        }
    }

    fn media_lost(&mut self, now: Now, effects: &mut Vec<ConferenceEffect>) {
        if let Some(first) = self.members.first().map(|member| member.call) {
            self.end(first, ConferenceReason::MediaLost, now, effects);
        }
        for recorder_id in self.recordings.iter().map(|recording| recording.number).collect::<Vec<_>>() {
            let reason = RecorderEnd::Failed.into();
            let text = "the media worker is lost".to_owned();
            let ended = proto::RecorderEnded { recorder_id, reason, text, ..proto::RecorderEnded::default() };
            self.recorder_ended(&ended, now, effects);
        }
        self.finish(effects);
    }

    fn finish(&mut self, effects: &mut Vec<ConferenceEffect>) {
        if self.is_completed() && !std::mem::replace(&mut self.is_over, true) {
            effects.push(ConferenceEffect::Finished);
        }
    }

    fn deadline(&mut self, now: Now, effects: &mut Vec<ConferenceEffect>) {
        if self.released_by.is_some_and(|at| at <= now.mono) {
            return self.media_lost(now, effects);
        }
        self.voices_due(now, effects);
    }
}

impl Member {
    fn participant(&self) -> Participant {
        Participant {
            call: self.call,
            label: self.label.clone(),
            muted: self.muted,
            hold: self.hold,
            coach: self.coach,
            start_on_enter: self.start_on_enter,
            end_on_exit: self.end_on_exit,
            joined_ms: self.joined_ms,
        }
    }
}

/// What a conference is called where only calls have names: its fetches and audio come back under this one.
pub fn actor(conference: ConferenceSid) -> CallSid {
    CallSid::new(conference.bits())
}

fn media(command: CommandKind) -> ConferenceEffect {
    ConferenceEffect::Media(command)
}

fn announcer(leg_id: u32) -> LegSpec {
    let mixing = Some(Mixing { heard: true, whispers_to: None, tells_speaking: false });
    LegSpec { leg_id, kind: Some(LegKind::Announcer(Announcer {})), mixing, ..LegSpec::default() }
}
