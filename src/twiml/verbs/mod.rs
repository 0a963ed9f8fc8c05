//! The verbs: one state machine each, with the same four questions.
//!
//! A verb is told what happened and answers with a [`Step`]; what it wants done it pushes to its [`Context`]. It
//! knows neither the document that it stands in nor the verbs around it.

mod connect;
pub(super) mod dial;
mod echo;
mod enqueue;
mod gather;
mod hangup;
mod leave;
mod pause;
mod play;
mod record;
mod redirect;
mod refer;
mod reject;
mod sms;
mod start;

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::BranchId;
use crate::twiml::document::{Link, Segment, VerbSpec};
use crate::twiml::notice::{Notice, code};
use crate::twiml::port::{
    AudioFailure, AudioSource, ClipRef, FetchReason, Method, Precondition, Referral, RejectReason, VerbEffect,
    VerbInput, VerbName,
};
use crate::twiml::shelf::Shelf;
use connect::Connect;
use dial::Dial;
use dial::conference::DialConference;
use dial::queue::DialQueue;
use echo::Echo;
use enqueue::Enqueue;
use gather::Gather;
use hangup::Hangup;
use leave::Leave;
use pause::Pause;
use play::Player;
use record::Record;
use redirect::Redirect;
use refer::Refer;
use reject::Reject;
use sms::Sms;
use start::Start;

/// What the peer of a REFER is told that came to nothing.
const DECLINED: u16 = 603;

/// A verb that waits for its precondition or runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Verb {
    Say(Player),
    Play(Player),
    Pause(Pause),
    Gather(Box<Gather>),
    Dial(Box<Dial>),
    DialConference(Box<DialConference>),
    DialQueue(Box<DialQueue>),
    Enqueue(Box<Enqueue>),
    Leave(Leave),
    Refer(Box<Refer>),
    Sms(Box<Sms>),
    Redirect(Redirect),
    Hangup(Hangup),
    Reject(Reject),
    Echo(Echo),
    Record(Box<Record>),
    Start(Box<Start>),
    Connect(Box<Connect>),
}

/// What every verb is.
pub(super) trait Machine {
    /// What must hold before `start`.
    fn precondition(&self) -> Precondition;

    fn start(&mut self, context: &mut Context<'_>) -> Step;

    /// Takes an input that the interpreter has not taken itself. One that means nothing to the verb is `Running`.
    fn handle(&mut self, input: &VerbInput, context: &mut Context<'_>) -> Step;

    /// The leg's peer wants to be replaced: only where it is joined with somebody is there anybody to hand over.
    fn referred(&mut self, _referral: &Referral, context: &mut Context<'_>) -> Step {
        context.refuse_refer(None);
        Step::Running
    }

    /// Undoes what still goes on. The verb is dropped afterwards.
    fn cancel(&mut self, context: &mut Context<'_>);

    /// The caller has left. `Running`: something is still owed; the verb goes on until another step.
    fn hung_up(&mut self, context: &mut Context<'_>) -> Step {
        self.cancel(context);
        Step::Next
    }
}

/// What comes after an input.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Step {
    Running,
    /// The verb is over; the document goes on.
    Next,
    /// The verb is over; another document takes the place of this one.
    Transfer(Transfer),
    Hangup,
    Reject(RejectReason),
}

/// A document to go on with.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Transfer {
    pub link: Link,
    pub method: Method,
    pub params: Vec<(String, String)>,
    pub reason: FetchReason,
}

/// What a verb may use of its interpreter.
pub(super) struct Context<'a> {
    effects: &'a mut VecDeque<VerbEffect>,
    shelf: &'a mut Shelf,
    numbers: &'a mut Numbers,
    reached: &'a mut Reached,
    refusal: &'a mut Option<u16>,
    now_ms: u64,
}

/// How far a leg has come. It never goes back: an answered leg stays answered, and where its media is lost the call sees
/// to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) enum Reached {
    #[default]
    Nothing,
    Answer,
    Media,
}

/// Numbers given out once in the life of an interpreter.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Numbers {
    player: u32,
    branch: u32,
    fetch: u32,
    recording: u32,
    #[serde(default)]
    stream: u32,
    /// Programs that run inside a verb.
    nested: u32,
}

impl Numbers {
    /// Those of a program that runs inside a verb: no number meets one of the program around it.
    pub fn beside(nested: u32) -> Self {
        let base = nested << 20;
        Self { player: base, branch: base, fetch: base, recording: base, stream: base, nested: 0 }
    }

    pub fn next_fetch(&mut self) -> u32 {
        self.fetch += 1;
        self.fetch
    }
}

impl<'a> Context<'a> {
    pub fn new(
        effects: &'a mut VecDeque<VerbEffect>,
        shelf: &'a mut Shelf,
        numbers: &'a mut Numbers,
        reached: &'a mut Reached,
        refusal: &'a mut Option<u16>,
        now_ms: u64,
    ) -> Self {
        Self { effects, shelf, numbers, reached, refusal, now_ms }
    }

    /// When the input that is handled came: wall clock, milliseconds since 1970.
    pub fn now_ms(&self) -> u64 {
        self.now_ms
    }

    pub fn push(&mut self, effect: VerbEffect) {
        self.effects.push_back(effect);
    }

    pub fn notify(&mut self, notice: Notice) {
        self.push(VerbEffect::Notify(notice));
    }

    /// Nobody who was called answers: what a caller who waits for that is refused with.
    pub fn refuse(&mut self, status: u16) {
        *self.refusal = Some(status);
    }

    /// Joins the leg with a branch, which answers it.
    pub fn bridge(&mut self, branch: BranchId) {
        *self.reached = Reached::max(*self.reached, Reached::Answer);
        self.push(VerbEffect::Bridge(branch));
    }

    /// Nobody is handed over to somebody else, and the application is told why.
    pub fn refuse_refer(&mut self, of: Option<BranchId>) {
        let text = "a REFER came to a call that is joined with nobody by a Dial with referUrl: refused";
        self.notify(Notice::error(code::DIAL_NO_REFER_URL, text));
        self.push(VerbEffect::NotifyRefer { of, status: DECLINED });
    }

    pub fn set_timer(&mut self, after: Duration) {
        self.push(VerbEffect::SetTimer(Some(after)));
    }

    pub fn clear_timer(&mut self) {
        self.push(VerbEffect::SetTimer(None));
    }

    pub fn next_player(&mut self) -> u32 {
        self.numbers.player += 1;
        self.numbers.player
    }

    pub fn next_branch(&mut self) -> BranchId {
        self.numbers.branch += 1;
        BranchId(self.numbers.branch)
    }

    pub fn next_recording(&mut self) -> u32 {
        self.numbers.recording += 1;
        self.numbers.recording
    }

    pub fn next_stream(&mut self) -> u32 {
        self.numbers.stream += 1;
        self.numbers.stream
    }

    pub fn next_fetch(&mut self) -> u32 {
        self.numbers.next_fetch()
    }

    /// Names a program that runs inside the verb.
    pub fn next_nested(&mut self) -> u32 {
        self.numbers.nested = self.numbers.nested % 4_000 + 1;
        self.numbers.nested
    }

    /// Orders audio that has not been ordered yet.
    pub fn order(&mut self, segment: &Segment) {
        self.shelf.order(segment, self.effects);
    }

    pub fn has_all(&self, segment: &Segment) -> bool {
        self.shelf.has_all(segment)
    }

    pub fn audio(&self, source: &AudioSource) -> Option<Result<ClipRef, AudioFailure>> {
        self.shelf.audio(source).cloned()
    }
}

impl Verb {
    pub fn new(spec: VerbSpec) -> Self {
        let segments = spec.segments();
        match spec {
            VerbSpec::Say(_) => Self::Say(Player::new(segments)),
            VerbSpec::Play(_) => Self::Play(Player::new(segments)),
            VerbSpec::Pause(pause) => Self::Pause(Pause::new(pause)),
            VerbSpec::Gather(gather) => Self::Gather(Box::new(Gather::new(*gather, segments))),
            VerbSpec::Dial(mut dial) => match (dial.conference.take(), dial.queue.take()) {
                (Some(noun), _) => Self::DialConference(Box::new(DialConference::new(*dial, *noun))),
                (None, Some(noun)) => Self::DialQueue(Box::new(DialQueue::new(*dial, *noun))),
                (None, None) => Self::Dial(Box::new(Dial::new(*dial))),
            },
            VerbSpec::Enqueue(verb) => Self::Enqueue(Box::new(Enqueue::new(*verb))),
            VerbSpec::Leave => Self::Leave(Leave),
            VerbSpec::Sms(verb) => Self::Sms(Box::new(Sms::new(*verb))),
            VerbSpec::Refer(refer) => Self::Refer(Box::new(Refer::new(*refer))),
            VerbSpec::Redirect(redirect) => Self::Redirect(Redirect::new(redirect)),
            VerbSpec::Hangup => Self::Hangup(Hangup),
            VerbSpec::Reject(reason) => Self::Reject(Reject::new(reason)),
            VerbSpec::Echo => Self::Echo(Echo),
            VerbSpec::Record(record) => Self::Record(Box::new(Record::new(*record))),
            VerbSpec::StartRecording(kept) => Self::Start(Box::new(Start::Recording(*kept))),
            VerbSpec::StopRecording => Self::Start(Box::new(Start::StopRecording)),
            VerbSpec::StartStream(stream) => Self::Start(Box::new(Start::Stream(*stream))),
            VerbSpec::StopStreams(name) => Self::Start(Box::new(Start::StopStreams(name))),
            VerbSpec::Connect(connect) => Self::Connect(Box::new(Connect::new(*connect))),
        }
    }

    pub const fn name(&self) -> VerbName {
        match self {
            Self::Say(_) => VerbName::Say,
            Self::Play(_) => VerbName::Play,
            Self::Pause(_) => VerbName::Pause,
            Self::Gather(_) => VerbName::Gather,
            Self::Dial(_) | Self::DialConference(_) | Self::DialQueue(_) => VerbName::Dial,
            Self::Enqueue(_) => VerbName::Enqueue,
            Self::Leave(_) => VerbName::Leave,
            Self::Refer(_) => VerbName::Refer,
            Self::Sms(_) => VerbName::Sms,
            Self::Redirect(_) => VerbName::Redirect,
            Self::Hangup(_) => VerbName::Hangup,
            Self::Reject(_) => VerbName::Reject,
            Self::Echo(_) => VerbName::Echo,
            Self::Record(_) => VerbName::Record,
            Self::Start(verb) => verb.name(),
            Self::Connect(_) => VerbName::Connect,
        }
    }

    fn machine(&mut self) -> &mut dyn Machine {
        match self {
            Self::Say(verb) | Self::Play(verb) => verb,
            Self::Pause(verb) => verb,
            Self::Gather(verb) => verb.as_mut(),
            Self::Dial(verb) => verb.as_mut(),
            Self::DialConference(verb) => verb.as_mut(),
            Self::DialQueue(verb) => verb.as_mut(),
            Self::Enqueue(verb) => verb.as_mut(),
            Self::Leave(verb) => verb,
            Self::Refer(verb) => verb.as_mut(),
            Self::Sms(verb) => verb.as_mut(),
            Self::Redirect(verb) => verb,
            Self::Hangup(verb) => verb,
            Self::Reject(verb) => verb,
            Self::Echo(verb) => verb,
            Self::Record(verb) => verb.as_mut(),
            Self::Start(verb) => verb.as_mut(),
            Self::Connect(verb) => verb.as_mut(),
        }
    }
}

impl Machine for Verb {
    fn precondition(&self) -> Precondition {
        match self {
            Self::Say(verb) | Self::Play(verb) => verb.precondition(),
            Self::Pause(verb) => verb.precondition(),
            Self::Gather(verb) => verb.precondition(),
            Self::Dial(verb) => verb.precondition(),
            Self::DialConference(verb) => verb.precondition(),
            Self::DialQueue(verb) => verb.precondition(),
            Self::Enqueue(verb) => verb.precondition(),
            Self::Leave(verb) => verb.precondition(),
            Self::Refer(verb) => verb.precondition(),
            Self::Sms(verb) => verb.precondition(),
            Self::Redirect(verb) => verb.precondition(),
            Self::Hangup(verb) => verb.precondition(),
            Self::Reject(verb) => verb.precondition(),
            Self::Echo(verb) => verb.precondition(),
            Self::Record(verb) => verb.precondition(),
            Self::Start(verb) => verb.precondition(),
            Self::Connect(verb) => verb.precondition(),
        }
    }

    fn start(&mut self, context: &mut Context<'_>) -> Step {
        self.machine().start(context)
    }

    fn handle(&mut self, input: &VerbInput, context: &mut Context<'_>) -> Step {
        match input {
            VerbInput::Referred(referral) => self.machine().referred(referral, context),
            _ => self.machine().handle(input, context),
        }
    }

    fn cancel(&mut self, context: &mut Context<'_>) {
        self.machine().cancel(context);
    }

    fn hung_up(&mut self, context: &mut Context<'_>) -> Step {
        self.machine().hung_up(context)
    }
}
