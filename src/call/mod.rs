//! A call: one leg, as the customer sees it, with the program that runs on it.
//!
//! [`Call`] is a plain state machine: `handle(input, now, effects)`. It opens no socket, reads no clock and holds only
//! ids and plain data, so that it can be written down at any step and go on elsewhere. What it wants done leaves as
//! [`Effect`]s; whatever has an answer gets it as a [`CallInput`].
//!
//! - `leg`: the signalling and the media of the leg: rings, answers, is refused, ends
//! - `program`: carries out what the document's verbs want
//! - `children`: the legs that a `<Dial>` calls, and bridging
//! - `room`: its place in a conference or a pair; `conference`, `queue`: the rooms themselves
//! - `recording`: what is recorded of the leg
//! - `stream`: what of it is told to a WebSocket, and what comes back
//! - `params`: what every request to the application says
//! - `route`: who answers a call, and how a number is reached
//! - `tones`: ringing as countries know it

pub mod browser;
mod children;
mod conference;
mod effect;
mod leg;
mod params;
mod program;
mod queue;
mod recording;
mod room;
pub mod route;
mod stream;
mod tones;
mod user_message;

use std::time::Duration;

use dialtone_media::proto::{self, Encryption, MediaEventKind};
use dialtone_sip::time::Mono;
use serde::{Deserialize, Serialize};

use crate::events::{CallStatus, Completed, Direction, EndedBy, EventKind, Initiated, LastRecording, Media};
use crate::ids::{AccountSid, BranchId, CallSid};
use crate::twiml::{
    AtEnd, BranchEvent, BranchSpec, DocumentSource, Endpoint, FetchOrder, Interpreter, NewDocument, Notice,
    Precondition, RecordingSpec, StatusCallback, VerbInput,
};

use children::Child;
pub use children::ChildLeg;
pub use conference::{Conference, ConferenceEffect, ConferenceInput, ConferenceRecord, ParticipantChange, actor};
pub use effect::{
    AttemptId, BranchOrder, CallInput, CancelCause, Effect, FetchOutcome, Offered, ParentInput, SipCommand, SipEvent,
};
use leg::{Leg, MediaState, Signalling};
use program::RUNS_OUT_PLAYER;
pub use queue::{Queue, QueueEffect, QueueInput};
pub use recording::{RECORDING_FILE, RecordingChange};
pub use stream::{StreamChange, StreamEvent, StreamOrder};
pub use user_message::UserMessageChange;
use user_message::UserMessages;

/// The time of one wake-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Now {
    pub mono: Mono,
    /// Milliseconds since 1970.
    pub wall_ms: u64,
}

/// What is known of a call when it begins.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Opening {
    pub sid: CallSid,
    pub account: AccountSid,
    pub direction: Direction,
    /// As the customer sees them.
    pub from: String,
    pub to: String,
    /// The trunk or user by which it comes or goes.
    pub via: String,
    pub sip_call_id: String,
    /// Further parameters of each request to the application: `SipDomain`, `SipHeader_X-...`, `CallerName`.
    pub params: Vec<(String, String)>,
    /// What the carrier says of the caller's number.
    pub stir_verstat: Option<String>,
    /// How long it waited for its turn.
    pub queue_ms: u64,
    pub status_callback: Option<StatusCallback>,
    pub session_id: u64,
    pub leg_id: u32,
    /// The far end is another call of ours: its media is linked by this key instead of RTP.
    pub link: Option<u64>,
    /// The program; `None` of a dialled leg without one.
    pub document: Option<NewDocument>,
    /// Answer before the document is fetched.
    pub answer_at_once: bool,
}

/// How a call that the API makes goes on until its document runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Placing {
    /// How long it may ring.
    pub ring_for: Duration,
    /// How long it may last once it is answered.
    pub time_limit: Duration,
    /// DTMF that is sent when it is answered, before the document.
    pub send_digits: Option<String>,
    /// From the answer to the end.
    pub record: Option<RecordingSpec>,
}

/// A change that somebody outside makes to a running call; what is `None` stays.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Update {
    /// Takes the place of what runs, at once.
    pub document: Option<NewDocument>,
    /// Ends the leg.
    pub hang_up: bool,
    /// Only if it is not answered yet.
    pub only_unanswered: bool,
    /// From the answer.
    pub time_limit: Option<Duration>,
    pub recording: Option<RecordingChange>,
    /// Takes the place of whoever is told.
    pub status_callback: Option<StatusCallback>,
    pub user_message: Option<Box<UserMessageChange>>,
    #[serde(default)]
    pub stream: Option<Box<StreamChange>>,
}

/// One leg of a conversation, and what runs on it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Call {
    opening: Opening,
    parent: Option<ParentLink>,
    placing: Option<Placing>,
    leg: Leg,
    interpreter: Interpreter,
    /// The running verb's precondition that does not hold yet.
    required: Option<Precondition>,
    children: Vec<Child>,
    bridged: Option<BranchId>,
    /// The leg by which it is in a room.
    link: Option<u32>,
    /// Those that are not over.
    recordings: Vec<recording::Recording>,
    recordings_begun: u16,
    /// Those that are not over.
    #[serde(default)]
    streams: Vec<stream::Stream>,
    #[serde(default)]
    streams_begun: u16,
    #[serde(default)]
    user_messages: UserMessages,
    /// The last that is over.
    recorded: Option<LastRecording>,
    /// How its media came out, while recordings are not over.
    statistics: Option<Media>,
    /// The deadline of the running verb.
    verb_timer: Option<Mono>,
    /// Fetches that wait because documents follow one another too fast.
    throttle: program::Throttle,
    /// What is to be asked once the end of the call is told: whoever is asked may look the call up.
    #[serde(default)]
    asked_at_end: Vec<FetchOrder>,
    sequence: u32,
    answered_ms: Option<u64>,
    /// When a call that the API makes has rung long enough.
    ring_until: Option<Mono>,
    /// When a caller that is to be answered at once is told that it rings, as the answer has not come (RFC 3261 s17.2.1).
    ring_at: Option<Mono>,
    answered_at: Option<Mono>,
    /// A leg whose peer has vanished without a word must not live for ever.
    longest: Option<Mono>,
    /// How the leg ended, until its media statistics make the event complete.
    ending: Option<Ending>,
    is_published: bool,
    is_released: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct ParentLink {
    sid: CallSid,
    branch: BranchId,
    /// What it hears before anything else, and then before it is bridged.
    send_digits: Option<String>,
    whisper: Option<Endpoint>,
    /// The leg has been given a program of its own: the parent has nothing to do with it any more.
    is_left: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Ending {
    status: CallStatus,
    ended_by: EndedBy,
    sip_status: u16,
    /// Without statistics by then, the event is published without them.
    publish_by: Mono,
    /// For the parent, once the end is published: what its application is told then is true already.
    for_parent: Option<BranchEvent>,
}

/// The longest that an answered leg may last, as at Twilio.
const LONGEST: Duration = Duration::from_secs(4 * 3600);
/// What a leg goes on with that is about to be ended.
const NOTHING_MORE: &str = "<Response><Pause length=\"60\"/></Response>";
/// In time for the 200 ms after which a caller without a provisional answer is to have 100.
const RING_AFTER: Duration = Duration::from_millis(150);
/// A worker answers within this time, or is taken for lost.
const MEDIA_PATIENCE: Duration = Duration::from_secs(2);
/// Twilio's number for a browser whose media cannot be had, or is lost.
const NO_MEDIA: u32 = 53_405;

/// Tells the caller that it rings.
fn ring(effects: &mut Vec<Effect>) {
    let command = SipCommand::Progress { status: 180, sdp: bytes::Bytes::new() };
    effects.push(Effect::Sip { attempt: AttemptId::FIRST, command });
}

/// The leg that an event is of, where it is none of offer and answer.
fn told_of(event: &MediaEventKind) -> Option<u32> {
    match event {
        MediaEventKind::Digit(digit) => Some(digit.leg_id),
        MediaEventKind::PlayerEnded(ended) => Some(ended.leg_id),
        MediaEventKind::LegSilent(silent) => Some(silent.leg_id),
        MediaEventKind::LegFailed(failed) => Some(failed.leg_id),
        MediaEventKind::LegClosed(closed) => Some(closed.leg_id),
        _ => None,
    }
}

impl Call {
    /// A call that somebody makes to us. Begin it with [`CallInput::Begin`].
    pub fn incoming(opening: Opening, late_offer: bool) -> Call {
        let leg = Leg::incoming(late_offer);
        Call::new(opening, leg)
    }

    /// A call that a parent's `<Dial>` makes: to `attempts` contacts at once. Begin it with [`CallInput::Begin`].
    pub fn dialled(opening: Opening, parent: CallSid, spec: BranchSpec, attempts: u8) -> Call {
        let BranchSpec { branch, send_digits, whisper, .. } = spec;
        let link = ParentLink { sid: parent, branch, send_digits, whisper, is_left: false };
        Call { parent: Some(link), ..Call::new(opening, Leg::outgoing(attempts)) }
    }

    /// A call that the API makes: to `attempts` contacts at once. Its document runs when it is answered. Begin it with
    /// [`CallInput::Begin`].
    pub fn placed(opening: Opening, placing: Placing, attempts: u8) -> Call {
        Call { placing: Some(placing), ..Call::new(opening, Leg::outgoing(attempts)) }
    }

    fn new(opening: Opening, leg: Leg) -> Call {
        Call {
            opening,
            parent: None,
            placing: None,
            leg,
            interpreter: Interpreter::new(),
            required: None,
            children: Vec::new(),
            bridged: None,
            link: None,
            recordings: Vec::new(),
            recordings_begun: 0,
            streams: Vec::new(),
            streams_begun: 0,
            user_messages: UserMessages::default(),
            recorded: None,
            statistics: None,
            verb_timer: None,
            throttle: program::Throttle::default(),
            asked_at_end: Vec::new(),
            sequence: 0,
            answered_ms: None,
            ring_until: None,
            ring_at: None,
            answered_at: None,
            longest: None,
            ending: None,
            is_published: false,
            is_released: false,
        }
    }

    pub fn sid(&self) -> CallSid {
        self.opening.sid
    }

    pub fn account(&self) -> AccountSid {
        self.opening.account
    }

    pub fn session_id(&self) -> u64 {
        self.opening.session_id
    }

    pub fn leg_id(&self) -> u32 {
        self.opening.leg_id
    }

    /// The call whose `<Dial>` made this one, and its branch there.
    pub fn parent(&self) -> Option<(CallSid, BranchId)> {
        self.parent.as_ref().map(|parent| (parent.sid, parent.branch))
    }

    /// Answered, and not over: it can go on elsewhere.
    pub fn is_settled(&self) -> bool {
        self.leg.is_answered() && self.ending.is_none()
    }

    /// What its `<Dial>` has called, and the calls that came of it.
    pub fn branches(&self) -> impl Iterator<Item = (BranchId, Option<CallSid>)> + '_ {
        self.children.iter().map(|child| (child.branch(), child.sid()))
    }

    /// When it was answered.
    pub fn answered_at(&self) -> Option<Mono> {
        self.answered_at
    }

    /// The number of its next event.
    pub fn next_sequence(&self) -> u32 {
        self.sequence
    }

    pub fn direction(&self) -> Direction {
        self.opening.direction
    }

    pub fn from(&self) -> &str {
        &self.opening.from
    }

    pub fn to(&self) -> &str {
        &self.opening.to
    }

    /// The trunk or user by which it comes or goes.
    pub fn via(&self) -> &str {
        &self.opening.via
    }

    /// When the call wants [`CallInput::Deadline`].
    pub fn next_deadline(&self) -> Option<Mono> {
        let publish_by = self.ending.as_ref().filter(|_| !self.is_published).map(|ending| ending.publish_by);
        let longest = self.longest.filter(|_| self.ending.is_none());
        let ring_until = self.ring_until.filter(|_| self.leg.is_outgoing());
        let ring_at = self.ring_at.filter(|_| self.leg.is_unanswered_incoming());
        [self.verb_timer, publish_by, self.leg.media_patience(), self.throttle.deadline(), longest, ring_until, ring_at]
            .into_iter()
            .flatten()
            .min()
    }

    /// Takes an input; what it brings about is appended to `effects`, in order. The last is [`Effect::Finished`].
    pub fn handle(&mut self, input: CallInput, now: Now, effects: &mut Vec<Effect>) {
        match input {
            CallInput::Begin { offer, signalled_from, encryption, others } => {
                self.leg.offer_besides(others);
                self.begin(offer, signalled_from, encryption, now, effects);
            }
            CallInput::ChildMoved { branch, leg_id } => self.child_moved(branch, leg_id),
            CallInput::Sip { attempt, event } => self.sip_event(attempt, event, now, effects),
            CallInput::Media(event) => self.media_event(event, now, effects),
            CallInput::MediaLost => self.media_lost(now, effects),
            CallInput::MediaMoved { sdp } => self.media_moved(sdp, now, effects),
            CallInput::Document { fetch, outcome } => self.document(fetch, outcome, now, effects),
            CallInput::Audio { ticket, result } => self.run(VerbInput::Audio { ticket, result }, now, effects),
            CallInput::Branch { branch, event } => self.branch_event(branch, event, now, effects),
            CallInput::RecordingNamed { number, sid, url } => self.recording_named(number, sid, url, now, effects),
            CallInput::StreamNamed { number, sid } => self.stream_named(number, sid, effects),
            CallInput::Stream { sid, event } => self.stream_event(sid, event, now, effects),
            CallInput::Linked { key } => self.linked(key, effects),
            CallInput::Unlinked => self.part(effects),
            CallInput::Waiting(event) => self.run(VerbInput::Waiting(event), now, effects),
            CallInput::MessageTaken { sid } => self.run(VerbInput::MessageTaken { sid }, now, effects),
            CallInput::Taking(event) => self.run(VerbInput::Taking(event), now, effects),
            CallInput::Membership(membership) => self.membership(membership, now, effects),
            CallInput::ChildStarted { branch, leg } => self.child_started(branch, leg, now, effects),
            CallInput::Parent(input) => self.parent_input(input, now, effects),
            CallInput::Notice(notice) => self.publish(EventKind::Noticed(notice), effects),
            CallInput::Update(update) => self.update(update, now, effects),
            CallInput::Restored => self.restored(now, effects),
            CallInput::RoomLost => self.room_lost(now, effects),
            CallInput::RunsOut => self.runs_out(now, effects),
            CallInput::OutOfCredit => {
                self.hang_up(EndedBy::Server, 403, "SIP;cause=403;text=\"the budget is used up\"", now, effects);
            }
            CallInput::Shutdown => self.shut_down(now, effects),
            CallInput::Deadline => self.deadline(now, effects),
        }
        self.finish_if_over(effects);
    }

    fn begin(
        &mut self,
        offer: bytes::Bytes,
        signalled_from: String,
        encryption: Encryption,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        let initiated = Initiated {
            direction: self.opening.direction,
            from: self.opening.from.clone(),
            to: self.opening.to.clone(),
            parent: self.parent.as_ref().map(|parent| parent.sid),
            via: self.opening.via.clone(),
            sip_call_id: self.opening.sip_call_id.clone(),
            stir_verstat: self.opening.stir_verstat.clone(),
            queue_ms: self.opening.queue_ms,
            is_withdrawn: false,
            status_callback: self.opening.status_callback.clone(),
        };
        self.publish(EventKind::Initiated(Box::new(initiated)), effects);
        self.open_media(offer, signalled_from, encryption, now, effects);
        if let Some(placing) = &self.placing {
            self.ring_until = Some(now.mono + placing.ring_for);
        }
        if self.leg.is_unanswered_incoming() {
            self.leg.wants_answer = self.opening.answer_at_once;
            if self.opening.answer_at_once {
                // The 200 that comes with the media needs no 180 before it.
                self.ring_at = Some(now.mono + RING_AFTER);
            } else {
                ring(effects);
                self.start_document(now, effects);
            }
        }
    }

    /// Runs the call's first document; one that is answered at once has it when it is.
    fn start_document(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if let Some(document) = self.opening.document.take() {
            self.run(VerbInput::Replace(document), now, effects);
        }
    }

    fn media_event(&mut self, event: MediaEventKind, now: Now, effects: &mut Vec<Effect>) {
        if told_of(&event).is_some_and(|leg_id| leg_id != self.opening.leg_id) {
            // Of what was offered to a device that has not answered.
            return;
        }
        match event {
            MediaEventKind::Negotiated(negotiated) => self.negotiated(negotiated, now, effects),
            MediaEventKind::Refused(refused) => self.media_refused(&refused, now, effects),
            MediaEventKind::Digit(digit) => {
                if let Some(digit) = char::from_u32(digit.digit) {
                    self.run(VerbInput::Digit(digit), now, effects);
                }
            }
            MediaEventKind::PlayerEnded(ended) => self.player_ended(&ended, now, effects),
            // Before the answer nothing needs to be heard.
            MediaEventKind::LegSilent(silent) if self.leg.is_answered() => {
                self.publish(
                    EventKind::Silent { expected_from: silent.expected_from, dropped_from: silent.dropped_from },
                    effects,
                );
            }
            MediaEventKind::LegFailed(failed) => {
                self.publish(EventKind::Noticed(Notice::warning(NO_MEDIA, failed.why)), effects);
                self.hang_up(EndedBy::Server, 503, "SIP;cause=503;text=\"media lost\"", now, effects);
            }
            MediaEventKind::LegClosed(closed) => {
                self.leg_closed(media_totals(closed.statistics.unwrap_or_default()), effects);
            }
            MediaEventKind::Released(_) => self.is_released = true,
            // Audio is handed over by the shard, which has it; the first packet is news to nobody yet.
            MediaEventKind::AudioWanted(_) | MediaEventKind::LegHeard(_) | MediaEventKind::LegSilent(_) => {}
            MediaEventKind::RecorderStarted(started) => self.recorder_started(started.recorder_id, now, effects),
            MediaEventKind::RecorderEnded(ended) => self.recorder_ended(&ended, now, effects),
            // No call asks for it; what taps and players tell goes to the connection of its stream.
            MediaEventKind::Speaking(_) | MediaEventKind::Tapped(_) | MediaEventKind::Marked(_) => {}
        }
    }

    fn deadline(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if self.ending.as_ref().is_some_and(|ending| ending.publish_by <= now.mono) {
            let media = self.statistics.take().unwrap_or_default();
            self.complete(media, effects);
        }
        if self.leg.media_patience().is_some_and(|at| at <= now.mono) {
            self.media_lost(now, effects);
        }
        if self.leg.is_outgoing() && self.ring_until.is_some_and(|at| at <= now.mono) {
            self.cancel_attempts(None, "", effects);
            self.leg_ended(CallStatus::NoAnswer, EndedBy::Application, 487, now, effects);
        }
        if self.ring_at.take_if(|at| *at <= now.mono).is_some() && self.leg.is_unanswered_incoming() {
            ring(effects);
        }
        if self.longest.is_some_and(|at| at <= now.mono) {
            self.hang_up(EndedBy::Server, 480, "SIP;cause=480;text=\"longest duration of a call\"", now, effects);
        }
        self.release_throttled(now, effects);
        if self.verb_timer.is_some_and(|at| at <= now.mono) {
            self.verb_timer = None;
            self.run(VerbInput::Timer, now, effects);
        }
    }

    /// Whether the call is in a state for this change: it is not over, and not answered where that matters.
    pub fn takes(&self, update: &Update) -> bool {
        self.leg.signalling != Signalling::Ended
            && !(update.only_unanswered && self.leg.is_answered())
            && update.recording.as_ref().is_none_or(|change| self.takes_recording(change))
            && update.stream.as_ref().is_none_or(|change| self.takes_stream(change))
            && update.user_message.as_ref().is_none_or(|change| self.user_messages.takes(change, &self.leg))
    }

    /// A live change. The leg of a `<Dial>` that gets a document leaves the parent, and goes on by itself.
    fn update(&mut self, update: Update, now: Now, effects: &mut Vec<Effect>) {
        if !self.takes(&update) {
            return;
        }
        if let Some(limit) = update.time_limit {
            self.longest = self.answered_at.map(|at| at + limit.min(LONGEST));
            if let Some(placing) = &mut self.placing {
                placing.time_limit = limit;
            }
        }
        if let Some(change) = update.recording {
            self.change_recording(change, effects);
        }
        if let Some(change) = update.user_message {
            self.change_user_messages(*change, effects);
        }
        if let Some(change) = update.stream {
            self.change_stream(*change, now, effects);
        }
        if let Some(callback) = update.status_callback {
            self.publish(EventKind::CallbackChanged(Box::new(callback)), effects);
        }
        if update.hang_up {
            return self.hang_up(EndedBy::Application, 200, "", now, effects);
        }
        let Some(document) = update.document else { return };
        if self.leg.is_outgoing() {
            self.opening.document = Some(document);
            return;
        }
        self.go_on(document, now, effects);
    }

    /// The leg is answered.
    fn note_answer(&mut self, now: Now) {
        self.answered_ms = Some(now.wall_ms);
        self.answered_at = Some(now.mono);
        let limit = self.placing.as_ref().map_or(LONGEST, |placing| placing.time_limit);
        self.longest = Some(now.mono + limit.min(LONGEST));
    }

    /// The leg hears a tone, whatever it was doing, and then nothing until it is ended.
    fn runs_out(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if !self.is_settled() {
            return;
        }
        let source = DocumentSource::Twiml(NOTHING_MORE.into());
        self.go_on(NewDocument { source, fallback: None, at_end: AtEnd::HangUp }, now, effects);
        self.play(RUNS_OUT_PLAYER, vec![proto::PlayKind::Tone(tones::runs_out())], 1, effects);
    }

    /// The server ends: the leg is told why, and everything winds up.
    fn shut_down(&mut self, now: Now, effects: &mut Vec<Effect>) {
        self.hang_up(EndedBy::Server, 503, "SIP;cause=503;text=\"server is shutting down\"", now, effects);
    }

    /// Ends the leg from our side, in whatever state it is.
    fn hang_up(&mut self, ended_by: EndedBy, sip_status: u16, reason: &str, now: Now, effects: &mut Vec<Effect>) {
        let (status, sip_status) = match &self.leg.signalling {
            Signalling::Ended => return,
            Signalling::Incoming => {
                let command = SipCommand::Decline { status: sip_status, reason: reason.to_owned() };
                effects.push(Effect::Sip { attempt: AttemptId::FIRST, command });
                let status = if sip_status == 486 {
                    CallStatus::Busy
                } else if ended_by == EndedBy::Application {
                    CallStatus::Completed
                } else {
                    CallStatus::Failed
                };
                (status, sip_status)
            }
            Signalling::Outgoing { .. } => {
                self.cancel_attempts(None, reason, effects);
                match ended_by {
                    // No media for it, or a shutdown: that is not what anybody wanted.
                    EndedBy::Server => (CallStatus::Failed, sip_status),
                    EndedBy::Application | EndedBy::Peer => (CallStatus::Canceled, 487),
                }
            }
            Signalling::Answered { attempt } => {
                effects.push(Effect::Sip { attempt: *attempt, command: SipCommand::Bye { reason: reason.to_owned() } });
                // The INVITE's final response, whatever comes after it.
                (CallStatus::Completed, 200)
            }
        };
        self.leg_ended(status, ended_by, sip_status, now, effects);
    }

    /// The leg is over: its media closes, its program winds up, its parent learns of it.
    fn leg_ended(
        &mut self,
        status: CallStatus,
        ended_by: EndedBy,
        sip_status: u16,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        if self.ending.is_some() {
            return;
        }
        if self.leg.answer_is_untold() {
            // It was answered, whatever its media would have come to.
            self.publish(EventKind::Answered, effects);
        }
        self.leg.signalling = Signalling::Ended;
        let for_parent = Some(self.end_for_parent(status, sip_status, now));
        self.ending = Some(Ending { status, ended_by, sip_status, publish_by: now.mono + MEDIA_PATIENCE, for_parent });
        self.verb_timer = None;
        self.required = None;
        if self.leg.media == MediaState::Lost {
            self.leg_closed(Media::default(), effects);
        } else {
            effects.push(Effect::Media(proto::CommandKind::DropLeg(self.opening.leg_id)));
        }
        self.drop_other_offers(effects);
        self.run(VerbInput::HungUp, now, effects);
        self.stop_all_streams(effects);
    }

    fn leg_closed(&mut self, media: Media, effects: &mut Vec<Effect>) {
        self.leg.media = MediaState::Lost;
        match self.recordings.is_empty() {
            true => self.complete(media, effects),
            // They end with the leg: its last event tells of the last of them.
            false => self.statistics = Some(media),
        }
    }

    /// The recordings of a closed leg are over.
    fn complete_if_closed(&mut self, effects: &mut Vec<Effect>) {
        if self.recordings.is_empty()
            && let Some(media) = self.statistics.take()
        {
            self.complete(media, effects);
        }
    }

    fn complete(&mut self, media: Media, effects: &mut Vec<Effect>) {
        let Some(ending) = self.ending.as_mut().filter(|_| !self.is_published) else { return };
        let for_parent = ending.for_parent.take();
        let completed = Completed {
            status: ending.status,
            sip_status: ending.sip_status,
            ended_by: ending.ended_by,
            media,
            recorded: self.recorded,
        };
        self.publish(EventKind::Completed(Box::new(completed)), effects);
        self.is_published = true;
        for order in std::mem::take(&mut self.asked_at_end) {
            let params = self.params(&order.params);
            effects.push(Effect::Fetch { order, params });
        }
        if let Some(end) = for_parent {
            self.tell_parent(end, effects);
        }
    }

    fn finish_if_over(&mut self, effects: &mut Vec<Effect>) {
        let over = self.is_published
            && !self.is_released
            && self.children.is_empty()
            && self.recordings.is_empty()
            && self.interpreter.is_finished();
        if over {
            self.is_released = true;
            effects.push(Effect::Finished);
        }
    }

    fn publish(&mut self, kind: EventKind, effects: &mut Vec<Effect>) {
        effects.push(Effect::Publish { sequence: self.sequence, kind });
        self.sequence += 1;
    }

    /// As the customer sees the call now.
    fn status(&self) -> CallStatus {
        match (&self.ending, &self.leg.signalling) {
            (Some(ending), _) => ending.status,
            (None, Signalling::Answered { .. }) => CallStatus::InProgress,
            (None, Signalling::Outgoing { .. }) if self.placing.is_some() && !self.leg.has_rung => CallStatus::Queued,
            (None, _) => CallStatus::Ringing,
        }
    }
}

fn media_totals(statistics: proto::LegStatistics) -> Media {
    Media {
        codec: statistics.codec,
        packets_received: statistics.packets_received,
        packets_sent: statistics.packets_sent,
        packets_lost: statistics.packets_lost,
        packets_late: statistics.packets_late,
        packets_dropped: statistics.packets_dropped,
        jitter_us: statistics.jitter_us,
        round_trip_us: statistics.round_trip_us,
    }
}
