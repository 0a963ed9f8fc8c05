//! `<Dial>`: calls somebody and joins the caller with whoever answers first.
//!
//! ```text
//!            all failed, timeout                      whisper hung up, callee left
//!  Ringing ----------------------> over     Whispering -----------------------> next noun, or over
//!     | first answer: others canceled            | accepted
//!     +--------- has a whisper ------------------+
//!     +--------- else ----------> Bridged <------+
//!                                    | callee left: over
//!                                    | caller left, `*`, time limit
//!                                    +-----------> Ending -- callee's end told --> over
//! ```
//!
//! The one timer is the ring time first and the limit of the joined call afterwards. A branch that was canceled after
//! its answer is always told as `Ended`, so that its duration is known.

mod branch;
pub(in crate::twiml) mod conference;
pub(in crate::twiml) mod queue;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::{BranchId, CallSid, RecordingSid};
use crate::twiml::document::{DialSpec, Link, NounSpec};
use crate::twiml::notice::{Notice, code};
use crate::twiml::port::{
    AtEnd, BranchEvent, BranchFailure, BranchSpec, DocumentSource, Endpoint, FetchReason, Method, NewDocument,
    Precondition, RecordingSource, Referral, Ringback, StatusCallback, VerbEffect, VerbInput,
};
use crate::twiml::verbs::{Context, Machine, Step, Transfer};
use branch::{BranchState, Branches};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(in crate::twiml) struct Dial {
    spec: DialSpec,
    /// Nouns of `spec` that have been started.
    started: usize,
    branches: Branches,
    phase: Phase,
    /// The caller hears ringing, or its leg has been told of it.
    ringing: bool,
    recording: Option<Recording>,
}

/// The recording of a `<Dial>`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Recording {
    number: u32,
    named: Option<(RecordingSid, String)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Phase {
    Ringing,
    /// One has answered and hears its whisper.
    Whispering(BranchId),
    Bridged(BranchId),
    /// The joined branch has been told to end.
    Ending(BranchId),
}

/// How a `<Dial>` came out.
enum Outcome {
    Completed { branch: BranchId, duration: Option<Duration> },
    Failed(BranchFailure),
}

impl Dial {
    pub fn new(spec: DialSpec) -> Self {
        Self { spec, started: 0, branches: Branches::default(), phase: Phase::Ringing, ringing: false, recording: None }
    }

    /// Starts all branches, or the next one when they go one after another. False: there is none left.
    fn ring(&mut self, context: &mut Context<'_>) -> bool {
        let count = if self.spec.sequential { 1 } else { self.spec.nouns.len() };
        let end = self.spec.nouns.len().min(self.started + count);
        if self.started == end {
            return false;
        }
        self.phase = Phase::Ringing;
        context.set_timer(self.spec.timeout);
        for at in self.started..end {
            let spec = self.branch_spec(at, context);
            self.branches.add(spec.branch, spec.whisper.is_some());
            context.push(VerbEffect::StartBranch(Box::new(spec)));
        }
        self.started = end;
        self.record(true, context);
        true
    }

    fn branch_spec(&self, at: usize, context: &mut Context<'_>) -> BranchSpec {
        let NounSpec { target, whisper, status_callback, send_digits } = self.spec.nouns[at].clone();
        let whisper = whisper.and_then(|(link, method)| endpoint(link, method, context));
        let status_callback = status_callback.and_then(|(link, method, events)| {
            endpoint(link, method, context).map(|endpoint| StatusCallback { endpoint, events })
        });
        BranchSpec {
            branch: context.next_branch(),
            target,
            caller_id: self.spec.caller_id.clone(),
            timeout: self.spec.timeout,
            whisper,
            status_callback,
            send_digits,
        }
    }

    fn branch_event(&mut self, id: BranchId, event: &BranchEvent, context: &mut Context<'_>) -> Step {
        let Some(branch) = self.branches.find(id) else { return Step::Running };
        if let BranchEvent::Failed { sip: Some(sip), .. } | BranchEvent::Ended { sip: Some(sip), .. } = event {
            branch.sip = Some(sip.clone());
        }
        if let BranchEvent::Started { call } = event {
            branch.call = Some(*call);
        }
        if matches!(branch.state, BranchState::Over(_)) {
            return Step::Running;
        }
        match event {
            BranchEvent::Started { .. } => Step::Running,
            BranchEvent::Ringing => self.callee_rings(context),
            BranchEvent::EarlyMedia => self.early_media(id, context),
            BranchEvent::Answered => self.answered(id, context),
            BranchEvent::Accepted => self.accepted(id, context),
            BranchEvent::Referred(referral) => self.callee_refers(id, referral, context),
            BranchEvent::Failed { status, .. } => self.branch_failed(id, *status, context),
            BranchEvent::Ended { duration, .. } => self.branch_ended(id, *duration, context),
        }
    }

    /// A caller that has been answered hears ringing from the start; another is told once somebody rings.
    fn callee_rings(&mut self, context: &mut Context<'_>) -> Step {
        if self.phase == Phase::Ringing && !self.ringing {
            self.ringback(context);
        }
        Step::Running
    }

    fn ringback(&mut self, context: &mut Context<'_>) {
        self.ringing = true;
        context.push(VerbEffect::Ringback(self.spec.ringback.clone()));
    }

    fn end_ringback(&mut self, context: &mut Context<'_>) {
        if std::mem::take(&mut self.ringing) {
            context.push(VerbEffect::Ringback(Ringback::Off));
        }
    }

    /// The callee's own ringing or announcement, unless several ring or a tone was asked for.
    fn early_media(&mut self, id: BranchId, context: &mut Context<'_>) -> Step {
        let is_only_one = self.branches.alive(Some(id)).is_empty();
        if self.phase == Phase::Ringing && is_only_one && self.spec.ringback == Ringback::Automatic {
            // It takes the place of our tone, and there is none to end later.
            self.ringing = true;
            context.push(VerbEffect::EarlyMedia(id));
        }
        Step::Running
    }

    fn answered(&mut self, id: BranchId, context: &mut Context<'_>) -> Step {
        match self.phase {
            Phase::Ringing => {}
            Phase::Whispering(winner) | Phase::Bridged(winner) | Phase::Ending(winner) if winner == id => {
                return Step::Running;
            }
            // Two answered at once; the other was first.
            _ => return self.cancel_branch(id, BranchFailure::Canceled, context),
        }
        for other in self.branches.alive(Some(id)) {
            self.cancel_branch(other, BranchFailure::Canceled, context);
        }
        let has_whisper = self.branches.find(id).is_some_and(|branch| {
            branch.state = BranchState::Answered;
            branch.has_whisper
        });
        if !has_whisper {
            return self.bridge(id, context);
        }
        self.phase = Phase::Whispering(id);
        context.set_timer(self.spec.time_limit);
        Step::Running
    }

    fn accepted(&mut self, id: BranchId, context: &mut Context<'_>) -> Step {
        if self.phase == Phase::Whispering(id) { self.bridge(id, context) } else { Step::Running }
    }

    fn bridge(&mut self, id: BranchId, context: &mut Context<'_>) -> Step {
        self.phase = Phase::Bridged(id);
        self.end_ringback(context);
        context.bridge(id);
        context.set_timer(self.spec.time_limit);
        self.record(false, context);
        Step::Running
    }

    /// The callee wants to be replaced: it goes, and the caller goes on with what the application says.
    fn callee_refers(&mut self, id: BranchId, referral: &Referral, context: &mut Context<'_>) -> Step {
        let Some(Endpoint { url, method }) = self.transfer(context).filter(|_| self.phase == Phase::Bridged(id)) else {
            context.refuse_refer(Some(id));
            return Step::Running;
        };
        context.push(VerbEffect::NotifyRefer { of: Some(id), status: 200 });
        self.cancel(context);
        let (link, params) = (Link::Absolute(url), transfer_params(referral));
        Step::Transfer(Transfer { link, method, params, reason: FetchReason::Transfer })
    }

    /// Who is asked what comes after a transfer, if two are joined.
    fn transfer(&self, context: &mut Context<'_>) -> Option<Endpoint> {
        let (link, method) = self.spec.refer.clone().filter(|_| matches!(self.phase, Phase::Bridged(_)))?;
        endpoint(link, method, context)
    }

    /// Begins to record, if this is the moment for it.
    fn record(&mut self, ringing: bool, context: &mut Context<'_>) {
        let wanted = self.spec.record.as_ref().filter(|record| record.from_ringing == ringing);
        let Some(record) = wanted.filter(|_| self.recording.is_none()) else { return };
        let number = context.next_recording();
        let spec = record.kept.clone().spec(RecordingSource::DialVerb, context);
        self.recording = Some(Recording { number, named: None });
        context.push(VerbEffect::StartRecording { recording: number, spec: Box::new(spec) });
    }

    fn stop_recording(&mut self, context: &mut Context<'_>) {
        if let Some(recording) = &self.recording {
            context.push(VerbEffect::StopRecording(recording.number));
        }
    }

    fn branch_failed(&mut self, id: BranchId, failure: BranchFailure, context: &mut Context<'_>) -> Step {
        self.branches.end(id, failure);
        match self.phase {
            Phase::Ringing if self.branches.alive(None).is_empty() => self.nobody(context),
            Phase::Ringing => Step::Running,
            Phase::Whispering(winner) if winner == id => self.nobody(context),
            Phase::Bridged(winner) | Phase::Ending(winner) if winner == id => {
                self.finish(Outcome::Completed { branch: id, duration: None }, context)
            }
            Phase::Whispering(_) | Phase::Bridged(_) | Phase::Ending(_) => Step::Running,
        }
    }

    fn branch_ended(&mut self, id: BranchId, duration: Option<Duration>, context: &mut Context<'_>) -> Step {
        match self.phase {
            Phase::Bridged(winner) | Phase::Ending(winner) if winner == id => {
                self.finish(Outcome::Completed { branch: id, duration }, context)
            }
            // It was answered, but the caller never got through to it.
            _ => self.branch_failed(id, BranchFailure::NoAnswer, context),
        }
    }

    /// All that were called are over: on to the next, or the end.
    fn nobody(&mut self, context: &mut Context<'_>) -> Step {
        if self.spec.sequential && self.ring(context) {
            return Step::Running;
        }
        let failure = self.branches.failure();
        context.refuse(refusal(failure, self.branches.last().and_then(|branch| branch.sip.as_ref()?.response_code)));
        self.finish(Outcome::Failed(failure), context)
    }

    fn timer(&mut self, context: &mut Context<'_>) -> Step {
        match self.phase {
            Phase::Ringing => {
                for id in self.branches.alive(None) {
                    self.cancel_branch(id, BranchFailure::NoAnswer, context);
                }
                self.nobody(context)
            }
            Phase::Whispering(id) => {
                self.cancel_branch(id, BranchFailure::NoAnswer, context);
                self.nobody(context)
            }
            Phase::Bridged(id) => self.end_bridged(id, context),
            Phase::Ending(_) => Step::Running,
        }
    }

    /// Ends the joined branch; its duration comes with its last event.
    fn end_bridged(&mut self, id: BranchId, context: &mut Context<'_>) -> Step {
        self.phase = Phase::Ending(id);
        context.push(VerbEffect::Unbridge);
        context.clear_timer();
        context.push(VerbEffect::CancelBranch(id));
        Step::Running
    }

    fn cancel_branch(&mut self, id: BranchId, failure: BranchFailure, context: &mut Context<'_>) -> Step {
        self.branches.end(id, failure);
        context.push(VerbEffect::CancelBranch(id));
        Step::Running
    }

    fn finish(&mut self, outcome: Outcome, context: &mut Context<'_>) -> Step {
        self.end_ringback(context);
        self.stop_recording(context);
        if matches!(self.phase, Phase::Bridged(_)) {
            context.push(VerbEffect::Unbridge);
        }
        if !matches!(self.phase, Phase::Ending(_)) && self.started > 0 {
            context.clear_timer();
        }
        let Some(link) = self.spec.action.clone() else { return Step::Next };
        let params = self.action_params(&outcome);
        Step::Transfer(Transfer { link, method: self.spec.method, params, reason: FetchReason::Action })
    }

    fn action_params(&mut self, outcome: &Outcome) -> Vec<(String, String)> {
        let mut params = Vec::new();
        let mut add = |name: &str, value: String| params.push((name.to_owned(), value));
        let branch = match outcome {
            Outcome::Completed { branch, duration } => {
                add("DialCallStatus", "completed".to_owned());
                if let Some(duration) = duration {
                    add("DialCallDuration", duration.as_secs().to_string());
                }
                add("DialBridged", "true".to_owned());
                self.branches.find(*branch).map(|branch| &*branch)
            }
            Outcome::Failed(failure) => {
                add("DialCallStatus", failure.as_str().to_owned());
                add("DialBridged", "false".to_owned());
                self.branches.last()
            }
        };
        if let Some(call) = branch.and_then(|branch| branch.call) {
            add("DialCallSid", CallSid::to_string(&call));
        }
        if let Some(sip) = branch.and_then(|branch| branch.sip.as_ref()) {
            add("DialSipCallId", sip.call_id.clone());
            if let Some(code) = sip.response_code {
                add("DialSipResponseCode", code.to_string());
            }
        }
        if let Some((sid, url)) = self.recording.as_ref().and_then(|recording| recording.named.as_ref()) {
            add("RecordingUrl", url.clone());
            add("RecordingSid", sid.to_string());
        }
        params
    }
}

impl Machine for Dial {
    fn precondition(&self) -> Precondition {
        if self.spec.answer_on_bridge || self.spec.nouns.is_empty() {
            Precondition::None
        } else {
            Precondition::Answered
        }
    }

    fn start(&mut self, context: &mut Context<'_>) -> Step {
        if self.spec.nouns.is_empty() {
            return self.finish(Outcome::Failed(BranchFailure::Failed), context);
        }
        if !self.spec.answer_on_bridge {
            self.ringback(context);
        }
        self.ring(context);
        Step::Running
    }

    fn handle(&mut self, input: &VerbInput, context: &mut Context<'_>) -> Step {
        match (input, self.phase) {
            (VerbInput::Branch { branch, event }, _) => self.branch_event(*branch, event, context),
            (VerbInput::Timer, _) => self.timer(context),
            (VerbInput::RecordingNamed { recording, sid, url }, _) => {
                if let Some(own) = self.recording.as_mut().filter(|own| own.number == *recording) {
                    own.named = Some((*sid, url.clone()));
                }
                Step::Running
            }
            (VerbInput::Digit('*'), Phase::Bridged(id)) if self.spec.hangup_on_star => self.end_bridged(id, context),
            _ => Step::Running,
        }
    }

    /// The caller wants to be replaced: it goes, and the callee goes on with what the application says.
    fn referred(&mut self, referral: &Referral, context: &mut Context<'_>) -> Step {
        let (Phase::Bridged(branch), Some(endpoint)) = (self.phase, self.transfer(context)) else {
            context.refuse_refer(None);
            return Step::Running;
        };
        context.push(VerbEffect::NotifyRefer { of: None, status: 200 });
        self.stop_recording(context);
        context.push(VerbEffect::Unbridge);
        context.clear_timer();
        let source = DocumentSource::Transfer { endpoint, params: transfer_params(referral) };
        let document = NewDocument { source, fallback: None, at_end: AtEnd::HangUp };
        context.push(VerbEffect::HandOver { branch, document });
        Step::Hangup
    }

    fn cancel(&mut self, context: &mut Context<'_>) {
        self.end_ringback(context);
        self.stop_recording(context);
        if matches!(self.phase, Phase::Bridged(_)) {
            context.push(VerbEffect::Unbridge);
        }
        if !matches!(self.phase, Phase::Ending(_)) {
            context.clear_timer();
            for id in self.branches.alive(None) {
                self.cancel_branch(id, BranchFailure::Canceled, context);
            }
        }
    }

    /// Its action is owed to the customer even now, with the duration of the joined call.
    fn hung_up(&mut self, context: &mut Context<'_>) -> Step {
        match self.phase {
            Phase::Bridged(id) => self.end_bridged(id, context),
            Phase::Ending(_) => Step::Running,
            Phase::Ringing | Phase::Whispering(_) => {
                for id in self.branches.alive(None) {
                    self.cancel_branch(id, BranchFailure::Canceled, context);
                }
                self.finish(Outcome::Failed(BranchFailure::Canceled), context)
            }
        }
    }
}

/// The SIP status that says to a caller what became of whom it called.
fn refusal(failure: BranchFailure, status: Option<u16>) -> u16 {
    match (failure, status) {
        (BranchFailure::Busy, _) => 486,
        // What concerned our own request (its credentials, its body) would mislead the caller.
        (BranchFailure::Failed, Some(status @ (404 | 410 | 480 | 484 | 500 | 502..=504 | 603 | 604))) => status,
        (BranchFailure::NoAnswer | BranchFailure::Failed | BranchFailure::Canceled, _) => 480,
    }
}

/// What the application is told of a transfer.
fn transfer_params(referral: &Referral) -> Vec<(String, String)> {
    let target = ("ReferTransferTarget".to_owned(), referral.target.clone());
    std::iter::once(target).chain(referral.params.iter().cloned()).collect()
}

/// An endpoint, or a notice that its URL is none.
pub(in crate::twiml) fn endpoint(link: Link, method: Method, context: &mut Context<'_>) -> Option<Endpoint> {
    match link {
        Link::Absolute(url) => Some(Endpoint { url, method }),
        Link::Unresolvable(text) => {
            let notice = Notice::warning(code::INVALID_URL, "url of a noun cannot be resolved: ignored");
            context.notify(notice.about(text));
            None
        }
    }
}
