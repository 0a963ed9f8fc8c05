//! Executes documents: one verb at a time, until a hang-up.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::twiml::document::{Document, Link, SayPart, SaySpec, VerbSpec};
use crate::twiml::notice::{Notice, code};
use crate::twiml::parse::parse;
use crate::twiml::playlist::SEGMENTS_AHEAD;
use crate::twiml::port::{
    AtEnd, DocumentSource, Endpoint, FetchFailure, FetchOrder, FetchReason, Fetched, HangupReason, NewDocument,
    Precondition, VerbEffect, VerbInput,
};
use crate::twiml::shelf::Shelf;
use crate::twiml::verbs::{Context, Machine, Numbers, Reached, Step, Transfer, Verb};

/// Documents of one call; the next one ends it.
pub const MAX_DOCUMENTS: u32 = 1_000;

/// The name of the prompt that a caller hears when there is no document to go on with.
pub const APPLICATION_ERROR_PROMPT: &str = "application-error";

/// The program of one leg: its document, its running verb, and the effects that are waiting to be carried out.
///
/// Drive it so: [`handle`](Self::handle) an input, then [`poll_effect`](Self::poll_effect) until `None`. It begins
/// with [`VerbInput::Replace`] and has finished with `Hangup`, `Reject` or `Accept`, or some time after
/// [`VerbInput::HungUp`]: a `<Dial>` first waits for the end of its branch and then emits the `Fetch` that it owes.
/// [`is_finished`](Self::is_finished) tells. A finished interpreter ignores everything but `Replace`, which a leg
/// that still lives may get (a live update of a bridged callee).
///
/// Nothing here takes time of its own: a document is executed up to the first verb that waits, whatever it costs, and
/// a chain of documents is bounded by [`MAX_DOCUMENTS`]. How fast they follow one another is for the call to bound,
/// with [`documents`](Self::documents).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Interpreter {
    state: State,
    /// Verbs that have not begun.
    verbs: VecDeque<VerbSpec>,
    fallback: Option<Endpoint>,
    at_end: AtEnd,
    /// What the hang-up at the end of the document is put down to.
    end_reason: EndReason,
    documents: u32,
    /// The leg is gone; what still runs only winds up.
    is_leaving: bool,
    /// What the leg has come to: it is not asked for again, so that verbs that end at once need no answers in between.
    reached: Reached,
    /// What the last `<Dial>` that reached nobody leaves for the caller.
    refusal: Option<u16>,
    shelf: Shelf,
    numbers: Numbers,
    /// When the input that is handled came: wall clock, milliseconds since 1970.
    now_ms: u64,
    effects: VecDeque<VerbEffect>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
enum State {
    /// Nothing has been asked for yet.
    #[default]
    Idle,
    Fetching(FetchOrder),
    /// The verb's precondition was asked for.
    Waiting(Verb),
    Running(Verb),
    Finished,
}

impl Reached {
    fn holds(self, precondition: Precondition) -> bool {
        match precondition {
            Precondition::None => true,
            Precondition::Unanswered => false,
            Precondition::Answered => self >= Self::Answer,
            Precondition::MediaReady => self == Self::Media,
        }
    }

    fn with(self, precondition: Precondition) -> Self {
        match precondition {
            Precondition::None | Precondition::Unanswered => self,
            Precondition::Answered => self.max(Self::Answer),
            Precondition::MediaReady => Self::Media,
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
enum EndReason {
    #[default]
    Document,
    ApplicationError,
}

impl Interpreter {
    /// Nothing runs until the first `Replace`.
    pub fn new() -> Self {
        Self::default()
    }

    /// One that runs inside a verb of another: none of its numbers meets one of the other's.
    pub(super) fn beside(nested: u32) -> Self {
        Self { numbers: Numbers::beside(nested), shelf: Shelf::beside(nested), ..Self::default() }
    }

    /// Takes an input; what it brings about waits in [`poll_effect`](Self::poll_effect).
    pub fn handle(&mut self, input: VerbInput, now_ms: u64) {
        self.now_ms = now_ms;
        match input {
            VerbInput::Replace(document) => self.replace(document),
            VerbInput::HungUp => self.hung_up(),
            VerbInput::Document { fetch, result } => self.document(fetch, result),
            VerbInput::Ready => self.ready(),
            VerbInput::PreconditionFailed => self.precondition_failed(),
            VerbInput::Referred(_) if matches!(self.state, State::Idle | State::Fetching(_) | State::Waiting(_)) => {
                self.context().refuse_refer(None)
            }
            VerbInput::Audio { ticket, ref result } => {
                self.shelf.put(ticket, result.clone());
                self.tell_verb(&input);
            }
            input => self.tell_verb(&input),
        }
    }

    /// The next thing to be done, in order.
    pub fn poll_effect(&mut self) -> Option<VerbEffect> {
        self.effects.pop_front()
    }

    /// Documents executed so far in this call. The call delays fetches beyond 10 a second.
    pub fn documents(&self) -> u32 {
        self.documents
    }

    pub fn is_finished(&self) -> bool {
        matches!(self.state, State::Finished)
    }

    fn replace(&mut self, document: NewDocument) {
        if self.is_leaving {
            return;
        }
        self.interrupt();
        if document.fallback.is_some() {
            self.fallback = document.fallback;
        }
        self.at_end = document.at_end;
        self.end_reason = EndReason::Document;
        match document.source {
            DocumentSource::Url(endpoint) => self.fetch(endpoint, Vec::new(), FetchReason::Document),
            DocumentSource::Transfer { endpoint, params } => self.fetch(endpoint, params, FetchReason::Transfer),
            DocumentSource::Twiml(inline) => match inline.read() {
                Ok(document) => self.load(document),
                Err(error) => {
                    let failure = FetchFailure { code: error.code(), text: error.to_string(), url: String::new() };
                    self.fail(failure, Vec::new(), FetchReason::Document);
                }
            },
        }
    }

    /// Stops whatever is going on, without anything in its place.
    fn interrupt(&mut self) {
        match std::mem::take(&mut self.state) {
            State::Fetching(order) => self.effects.push_back(VerbEffect::CancelFetch(order.fetch)),
            State::Running(mut verb) => {
                let name = verb.name();
                verb.cancel(&mut self.context());
                self.effects.push_back(VerbEffect::VerbEnded(name));
            }
            State::Idle | State::Waiting(_) | State::Finished => {}
        }
        self.verbs.clear();
    }

    fn hung_up(&mut self) {
        self.verbs.clear();
        self.is_leaving = true;
        match std::mem::take(&mut self.state) {
            State::Running(mut verb) => {
                let step = verb.hung_up(&mut self.context());
                self.follow(verb, step);
            }
            State::Fetching(order) => {
                self.effects.push_back(VerbEffect::CancelFetch(order.fetch));
                self.state = State::Finished;
            }
            State::Idle | State::Waiting(_) | State::Finished => self.state = State::Finished,
        }
    }

    fn ready(&mut self) {
        match std::mem::take(&mut self.state) {
            State::Waiting(verb) => {
                self.reached = self.reached.with(verb.precondition());
                if self.start(verb) {
                    self.advance();
                }
            }
            other => self.state = other,
        }
    }

    fn precondition_failed(&mut self) {
        match std::mem::take(&mut self.state) {
            State::Waiting(mut verb) if verb.precondition() == Precondition::Unanswered => {
                let step = verb.handle(&VerbInput::PreconditionFailed, &mut self.context());
                if self.leave(step) {
                    self.advance();
                }
            }
            State::Waiting(_) => self.hang_up(HangupReason::Unavailable),
            other => self.state = other,
        }
    }

    fn tell_verb(&mut self, input: &VerbInput) {
        match std::mem::take(&mut self.state) {
            State::Running(mut verb) => {
                let step = verb.handle(input, &mut self.context());
                self.follow(verb, step);
            }
            other => self.state = other,
        }
    }

    /// Goes on with the next verb that waits for something, or with the end of the document.
    fn advance(&mut self) {
        loop {
            let Some(spec) = self.verbs.pop_front() else { return self.end_of_document() };
            self.order_audio(&spec);
            let verb = Verb::new(spec);
            let precondition = verb.precondition();
            if !self.reached.holds(precondition) {
                self.effects.push_back(VerbEffect::Require(precondition));
                self.order_next_audio();
                self.state = State::Waiting(verb);
                return;
            }
            if !self.start(verb) {
                return;
            }
        }
    }

    /// Starts a verb. True: it is over already, and the document goes on.
    fn start(&mut self, mut verb: Verb) -> bool {
        self.effects.push_back(VerbEffect::VerbStarted(verb.name()));
        let step = verb.start(&mut self.context());
        if step == Step::Running {
            self.order_next_audio();
            self.state = State::Running(verb);
            return false;
        }
        self.effects.push_back(VerbEffect::VerbEnded(verb.name()));
        self.leave(step)
    }

    fn follow(&mut self, verb: Verb, step: Step) {
        if step == Step::Running {
            self.state = State::Running(verb);
            return;
        }
        self.effects.push_back(VerbEffect::VerbEnded(verb.name()));
        if self.leave(step) {
            self.advance();
        }
    }

    /// Takes the last step of a verb. True: the document goes on.
    fn leave(&mut self, step: Step) -> bool {
        match step {
            Step::Running | Step::Next if self.is_leaving => self.state = State::Finished,
            Step::Running | Step::Next => return true,
            Step::Transfer(transfer) => self.transfer(transfer),
            Step::Hangup => self.hang_up(HangupReason::Verb),
            Step::Reject(reason) => {
                self.effects.push_back(VerbEffect::Reject(reason));
                self.state = State::Finished;
            }
        }
        false
    }

    fn transfer(&mut self, transfer: Transfer) {
        match transfer.link {
            Link::Absolute(url) => {
                let endpoint = Endpoint { url, method: transfer.method };
                self.fetch(endpoint, transfer.params, transfer.reason);
            }
            Link::Unresolvable(url) if self.is_leaving => {
                let notice = Notice::warning(code::INVALID_URL, "action url cannot be resolved");
                self.effects.push_back(VerbEffect::Notify(notice.about(url)));
                self.state = State::Finished;
            }
            Link::Unresolvable(url) => {
                let text = "url is not absolute, and the document has no url to resolve it against".to_owned();
                self.fail(FetchFailure { code: code::INVALID_URL, text, url }, transfer.params, transfer.reason);
            }
        }
    }

    fn fetch(&mut self, endpoint: Endpoint, params: Vec<(String, String)>, reason: FetchReason) {
        self.verbs.clear();
        let fetch = self.numbers.next_fetch();
        let order = FetchOrder { fetch, endpoint, params, reason, answer_wanted: !self.is_leaving };
        self.state = if self.is_leaving { State::Finished } else { State::Fetching(order.clone()) };
        self.effects.push_back(VerbEffect::Fetch(order));
    }

    fn document(&mut self, fetch: u32, result: Result<Fetched, FetchFailure>) {
        let order = match std::mem::take(&mut self.state) {
            State::Fetching(order) if order.fetch == fetch => order,
            other => {
                // Perhaps a verb's own program waits for it.
                self.state = other;
                return self.tell_verb(&VerbInput::Document { fetch, result });
            }
        };
        let parsed =
            result.and_then(|fetched| {
                parse(&fetched.body, fetched.content_type.as_deref(), Some(&fetched.url))
                    .map_err(|error| FetchFailure { code: error.code(), text: error.to_string(), url: fetched.url })
            });
        match parsed {
            Ok(document) => self.load(document),
            Err(failure) => self.fail(failure, order.params, order.reason),
        }
    }

    fn load(&mut self, document: Document) {
        if self.documents >= MAX_DOCUMENTS {
            let text = format!("more than {MAX_DOCUMENTS} documents in one call");
            self.effects.push_back(VerbEffect::Notify(Notice::error(code::TOO_MANY_REDIRECTS, text)));
            return self.hang_up(HangupReason::ApplicationError);
        }
        self.documents += 1;
        self.shelf.clear();
        self.effects.extend(document.notices.into_iter().map(VerbEffect::Notify));
        self.verbs = document.verbs.into();
        let (may_stand, why): (fn(&VerbSpec) -> bool, _) = match self.at_end {
            AtEnd::HangUp | AtEnd::Rescue => (|_| true, ""),
            AtEnd::Accept => (may_whisper, "Dial is not allowed before a dialled call is bridged: skipped"),
            AtEnd::Silence => (may_play, "a room hears Say, Play, Pause and Redirect only: other verbs are skipped"),
            AtEnd::Wait => (
                may_wait,
                "who waits hears Say, Play, Pause, Gather, Redirect, Leave and Hangup: other verbs are skipped",
            ),
        };
        if !self.verbs.iter().all(may_stand) {
            self.verbs.retain(may_stand);
            self.effects.push_back(VerbEffect::Notify(Notice::warning(code::SCHEMA_WARNING, why)));
        }
        self.advance();
    }

    /// There is no document: the fallback is asked once, and told why; else the caller is told, and that is the end.
    fn fail(&mut self, failure: FetchFailure, mut params: Vec<(String, String)>, reason: FetchReason) {
        let FetchFailure { code, text, url } = failure;
        self.effects.push_back(VerbEffect::Notify(Notice::error(code, text).about(url.clone())));
        match self.fallback.clone() {
            Some(fallback) if reason != FetchReason::Fallback => {
                params.push(("ErrorCode".to_owned(), code.to_string()));
                params.push(("ErrorUrl".to_owned(), url));
                self.fetch(fallback, params, FetchReason::Fallback);
            }
            _ => {
                self.end_reason = EndReason::ApplicationError;
                if matches!(self.at_end, AtEnd::Silence | AtEnd::Wait) {
                    // Who waits is not told of an application's faults.
                    return self.hang_up(HangupReason::ApplicationError);
                }
                self.at_end = AtEnd::HangUp;
                self.shelf.clear();
                let parts = vec![SayPart::Prompt(APPLICATION_ERROR_PROMPT.to_owned())];
                self.verbs = VecDeque::from([VerbSpec::Say(SaySpec { parts, loops: 1 })]);
                self.advance();
            }
        }
    }

    fn end_of_document(&mut self) {
        if self.end_reason == EndReason::ApplicationError {
            return self.hang_up(HangupReason::ApplicationError);
        }
        match self.at_end {
            AtEnd::Silence | AtEnd::Wait => self.hang_up(HangupReason::EndOfDocument),
            AtEnd::HangUp | AtEnd::Rescue => {
                let fallback = self.fallback.clone().filter(|_| self.at_end == AtEnd::Rescue);
                let refusal = self.refusal.filter(|_| self.reached == Reached::Nothing);
                match (refusal, fallback) {
                    (None, _) => self.hang_up(HangupReason::EndOfDocument),
                    (Some(status), None) => self.hang_up(HangupReason::Unreached(status)),
                    (Some(_), Some(fallback)) => {
                        // Once: what comes then ends as every other document.
                        self.at_end = AtEnd::HangUp;
                        self.fetch(fallback, Vec::new(), FetchReason::Fallback);
                    }
                }
            }
            AtEnd::Accept => {
                self.effects.push_back(VerbEffect::Accept);
                self.state = State::Finished;
            }
        }
    }

    fn hang_up(&mut self, reason: HangupReason) {
        self.verbs.clear();
        self.effects.push_back(VerbEffect::Hangup(reason));
        self.state = State::Finished;
    }

    /// Has the first audio of the verb after the current one made, so that no gap is heard between them.
    fn order_next_audio(&mut self) {
        if let Some(next) = self.verbs.pop_front() {
            self.order_audio(&next);
            self.verbs.push_front(next);
        }
    }

    fn order_audio(&mut self, spec: &VerbSpec) {
        for segment in spec.segments().iter().take(SEGMENTS_AHEAD) {
            self.shelf.order(segment, &mut self.effects);
        }
    }

    fn context(&mut self) -> Context<'_> {
        let Self { effects, shelf, numbers, reached, refusal, now_ms, .. } = self;
        Context::new(effects, shelf, numbers, reached, refusal, *now_ms)
    }
}

/// Verbs for the callee of a `<Dial>` before it is bridged.
fn may_whisper(verb: &VerbSpec) -> bool {
    !matches!(verb, VerbSpec::Dial(_))
}

/// Verbs that everybody in a room may hear.
fn may_play(verb: &VerbSpec) -> bool {
    matches!(verb, VerbSpec::Say(_) | VerbSpec::Play(_) | VerbSpec::Pause(_) | VerbSpec::Redirect(_))
}

/// Verbs for one who waits in a queue.
fn may_wait(verb: &VerbSpec) -> bool {
    may_play(verb) || matches!(verb, VerbSpec::Gather(_) | VerbSpec::Leave | VerbSpec::Hangup)
}
