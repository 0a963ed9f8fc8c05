//! `<Enqueue>`: waits in a queue while a program of its own plays, until somebody takes the call from it.
//!
//! ```text
//!  Entering -- full --> over (queue-full)
//!     | entered
//!  Waiting ---- <Leave>, hung up, replaced ----> over (leave, hangup, redirected)
//!     | taken with a whisper: Whispering, until its document ends
//!     | bridged
//!  Bridged ---- the other is gone, hung up, replaced --> over (bridged, hangup, redirected-from-bridged)
//! ```

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::twiml::document::{EnqueueVerb, Link, WaitSpec};
use crate::twiml::interpreter::Interpreter;
use crate::twiml::port::{
    AtEnd, DocumentSource, Endpoint, FetchOrder, FetchReason, HangupReason, NewDocument, Precondition, VerbEffect,
    VerbInput,
};
use crate::twiml::queue::{EnqueueSpec, QueueView, Waiting};
use crate::twiml::verbs::{Context, Machine, Step, Transfer};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(in crate::twiml) struct Enqueue {
    spec: EnqueueVerb,
    phase: Phase,
    view: Option<QueueView>,
    /// How long it waited until it was taken.
    taken_after: Option<Duration>,
    /// What plays meanwhile; `None`: silence.
    program: Option<Box<Interpreter>>,
    /// The fetch that waits to be told how the queue stands.
    asking: Option<FetchOrder>,
    has_played: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Phase {
    Entering,
    Waiting,
    /// The program is over; it begins anew when the timer rings.
    Resting,
    Whispering,
    Bridged,
    Over,
}

/// A program that played nothing does not begin anew sooner than this.
const EMPTY_ROUND: Duration = Duration::from_secs(5);

impl Enqueue {
    pub fn new(spec: EnqueueVerb) -> Self {
        Self {
            spec,
            phase: Phase::Entering,
            view: None,
            taken_after: None,
            program: None,
            asking: None,
            has_played: false,
        }
    }

    /// Begins the program that plays while the call waits.
    fn play(&mut self, context: &mut Context<'_>) -> Step {
        self.phase = Phase::Waiting;
        let Some(source) = self.wait_source(context) else { return Step::Running };
        self.run_document(source, AtEnd::Wait, context)
    }

    fn wait_source(&self, context: &mut Context<'_>) -> Option<DocumentSource> {
        WaitSpec::clone(&self.spec.wait).source(context)
    }

    fn run_document(&mut self, source: DocumentSource, at_end: AtEnd, context: &mut Context<'_>) -> Step {
        self.has_played = false;
        self.program = Some(Box::new(Interpreter::beside(context.next_nested())));
        self.run(VerbInput::Replace(NewDocument { source, fallback: None, at_end }), context)
    }

    /// Gives an input to the program, and takes over what it wants.
    fn run(&mut self, input: VerbInput, context: &mut Context<'_>) -> Step {
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            let Some(program) = self.program.as_mut() else { return Step::Running };
            program.handle(input, context.now_ms());
            let mut ended = None;
            while let Some(effect) = self.program.as_mut().and_then(|program| program.poll_effect()) {
                match effect {
                    VerbEffect::Require(_) => inputs.push(VerbInput::Ready),
                    // The queue is asked first, so that the request can tell how it stands.
                    VerbEffect::Fetch(order) => {
                        self.asking = Some(order);
                        context.push(VerbEffect::AskQueue);
                    }
                    VerbEffect::CancelFetch(fetch) if self.asking.as_ref().is_some_and(|it| it.fetch == fetch) => {
                        self.asking = None;
                    }
                    VerbEffect::LeaveQueue => return self.leave("leave", context),
                    VerbEffect::Hangup(reason) => ended = Some(reason),
                    VerbEffect::Accept => ended = Some(HangupReason::EndOfDocument),
                    VerbEffect::VerbStarted(_) | VerbEffect::VerbEnded(_) | VerbEffect::Reject(_) => {}
                    effect => {
                        self.has_played |= matches!(effect, VerbEffect::Play { .. });
                        context.push(effect);
                    }
                }
            }
            if let Some(reason) = ended {
                return self.program_ended(reason, context);
            }
        }
        Step::Running
    }

    fn program_ended(&mut self, reason: HangupReason, context: &mut Context<'_>) -> Step {
        self.program = None;
        match self.phase {
            // In its whisper: it does not want to be joined, as a callee that hangs up there.
            Phase::Whispering | Phase::Waiting if reason == HangupReason::Verb => {
                self.tell_action("hangup", context);
                self.phase = Phase::Over;
                Step::Hangup
            }
            Phase::Whispering => {
                context.push(VerbEffect::QueueReady);
                Step::Running
            }
            Phase::Waiting if reason == HangupReason::EndOfDocument && self.has_played => self.play(context),
            _ => {
                self.phase = Phase::Resting;
                context.set_timer(EMPTY_ROUND);
                Step::Running
            }
        }
    }

    /// Ends what plays.
    fn quiet(&mut self, context: &mut Context<'_>) {
        if self.phase == Phase::Resting {
            context.clear_timer();
        }
        let Some(mut program) = self.program.take() else { return };
        program.handle(VerbInput::HungUp, context.now_ms());
        while let Some(effect) = program.poll_effect() {
            if matches!(effect, VerbEffect::StopPlay | VerbEffect::SetTimer(None) | VerbEffect::CancelFetch(_)) {
                context.push(effect);
            }
        }
    }

    fn queue_event(&mut self, event: &Waiting, context: &mut Context<'_>) -> Step {
        match event {
            Waiting::Entered(view) => {
                (self.view, self.taken_after) = (Some(*view), None);
                self.play(context)
            }
            Waiting::Stands(view) => {
                self.view = Some(*view);
                if let Some(mut order) = self.asking.take() {
                    let mut params = queue_params(view, context.now_ms());
                    params.append(&mut order.params);
                    context.push(VerbEffect::Fetch(FetchOrder { params, ..order }));
                }
                Step::Running
            }
            Waiting::Full(view) => {
                self.view = Some(*view);
                self.finish("queue-full", context)
            }
            Waiting::Taken { by, whisper, waited } => {
                self.quiet(context);
                (self.phase, self.taken_after) = (Phase::Whispering, Some(*waited));
                let step = self.run_document(DocumentSource::Url(whisper.clone()), AtEnd::Accept, context);
                if let Some(order) = self.asking.as_mut() {
                    order.params.push(("DequeingCallSid".to_owned(), by.to_string()));
                    order.params.push(("QueueTime".to_owned(), waited.as_secs().to_string()));
                }
                step
            }
            Waiting::Bridged { waited } => {
                self.quiet(context);
                (self.phase, self.taken_after) = (Phase::Bridged, Some(*waited));
                Step::Running
            }
            Waiting::Over => self.finish("bridged", context),
        }
    }

    fn waited(&self, now_ms: u64) -> Duration {
        let until_now = || self.view.map_or(Duration::ZERO, |view| waited(&view, now_ms));
        self.taken_after.unwrap_or_else(until_now)
    }

    /// Out of the queue by the call's own wish.
    fn leave(&mut self, result: &str, context: &mut Context<'_>) -> Step {
        context.push(VerbEffect::LeaveQueue);
        self.finish(result, context)
    }

    fn finish(&mut self, result: &str, context: &mut Context<'_>) -> Step {
        self.quiet(context);
        self.phase = Phase::Over;
        let Some(link) = self.spec.action.clone() else { return Step::Next };
        let params = self.result_params(result, context.now_ms());
        Step::Transfer(Transfer { link, method: self.spec.method, params, reason: FetchReason::Action })
    }

    /// Out of the queue, and something else goes on: the action is told so, and not obeyed.
    fn tell_action(&mut self, result: &str, context: &mut Context<'_>) {
        let params = self.result_params(result, context.now_ms());
        self.quiet(context);
        context.push(VerbEffect::LeaveQueue);
        if let Some(Link::Absolute(url)) = self.spec.action.clone() {
            let endpoint = Endpoint { url, method: self.spec.method };
            let fetch = context.next_fetch();
            let reason = FetchReason::Action;
            context.push(VerbEffect::Fetch(FetchOrder { fetch, endpoint, params, reason, answer_wanted: false }));
        }
    }

    fn result_params(&self, result: &str, now_ms: u64) -> Vec<(String, String)> {
        let waited = self.waited(now_ms).as_secs().to_string();
        let mut params = vec![("QueueResult".to_owned(), result.to_owned()), ("QueueTime".to_owned(), waited)];
        params.extend(self.view.map(|view| ("QueueSid".to_owned(), view.sid.to_string())));
        params
    }
}

/// What a request tells of the queue.
fn queue_params(view: &QueueView, now_ms: u64) -> Vec<(String, String)> {
    [
        ("QueueSid", view.sid.to_string()),
        ("QueuePosition", view.position.to_string()),
        ("QueueTime", waited(view, now_ms).as_secs().to_string()),
        ("AvgQueueTime", view.average_wait.as_secs().to_string()),
        ("CurrentQueueSize", view.size.to_string()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .to_vec()
}

fn waited(view: &QueueView, now_ms: u64) -> Duration {
    Duration::from_millis(now_ms.saturating_sub(view.since_ms))
}

impl Machine for Enqueue {
    fn precondition(&self) -> Precondition {
        Precondition::MediaReady
    }

    fn start(&mut self, context: &mut Context<'_>) -> Step {
        let spec = EnqueueSpec { name: self.spec.name.clone(), max_size: self.spec.max_size };
        context.push(VerbEffect::Enqueue(Box::new(spec)));
        Step::Running
    }

    fn handle(&mut self, input: &VerbInput, context: &mut Context<'_>) -> Step {
        match input {
            VerbInput::Waiting(event) => self.queue_event(event, context),
            // Who it was joined with is lost to the queue; who waits goes to its end, and hears the beginning again.
            VerbInput::Restored if self.phase == Phase::Bridged => self.queue_event(&Waiting::Over, context),
            VerbInput::Restored => {
                self.quiet(context);
                self.phase = Phase::Entering;
                self.start(context)
            }
            VerbInput::Timer if self.phase == Phase::Resting => self.play(context),
            VerbInput::Audio { .. }
            | VerbInput::PlayEnded { .. }
            | VerbInput::Digit(_)
            | VerbInput::Timer
            | VerbInput::Document { .. } => self.run(input.clone(), context),
            _ => Step::Running,
        }
    }

    /// Another document takes its place.
    fn cancel(&mut self, context: &mut Context<'_>) {
        let is_bridged = self.phase == Phase::Bridged;
        self.tell_action(if is_bridged { "redirected-from-bridged" } else { "redirected" }, context);
    }

    fn hung_up(&mut self, context: &mut Context<'_>) -> Step {
        self.leave(if self.phase == Phase::Bridged { "bridged" } else { "hangup" }, context)
    }
}
