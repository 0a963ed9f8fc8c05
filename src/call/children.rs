//! The legs that a `<Dial>` calls: the parent's side, the child's side, and their bridge.

use std::time::Duration;

use dialtone_media::proto::{self, Hears, PlayKind};
use serde::{Deserialize, Serialize};

use super::effect::{BranchOrder, CancelCause, Effect, ParentInput, SipCommand};
use super::leg::{ELSEWHERE, Signalling};
use super::program::{DIGITS_PLAYER, hear};
use super::{Call, Now};
use crate::events::{CallStatus, EndedBy, EventKind};
use crate::ids::{BranchId, CallSid};
use crate::twiml::{
    AtEnd, BranchEvent, BranchFailure, BranchSpec, DocumentSource, NewDocument, Referral, SipOutcome, VerbInput,
};

/// A leg that the parent's `<Dial>` has called.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Child {
    branch: BranchId,
    /// `None` until it exists.
    leg: Option<ChildLeg>,
    is_answered: bool,
}

impl Child {
    pub(super) fn branch(&self) -> BranchId {
        self.branch
    }

    pub(super) fn sid(&self) -> Option<CallSid> {
        self.leg.map(|leg| leg.sid)
    }
}

/// The call of a child, and its leg in the session of both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChildLeg {
    pub sid: CallSid,
    pub leg_id: u32,
}

impl Call {
    pub(super) fn start_branch(&mut self, spec: BranchSpec, effects: &mut Vec<Effect>) {
        self.children.push(Child { branch: spec.branch, leg: None, is_answered: false });
        effects.push(Effect::Originate(Box::new(BranchOrder {
            spec,
            parent_from: self.opening.from.clone(),
            parent_to: self.opening.to.clone(),
        })));
    }

    /// The child of a branch exists.
    pub(super) fn child_started(&mut self, branch: BranchId, leg: ChildLeg, now: Now, effects: &mut Vec<Effect>) {
        if let Some(child) = self.children.iter_mut().find(|child| child.branch == branch) {
            child.leg = Some(leg);
            self.run(VerbInput::Branch { branch, event: BranchEvent::Started { call: leg.sid } }, now, effects);
        }
    }

    /// Another device of it has answered than the one whose leg was known.
    pub(super) fn child_moved(&mut self, branch: BranchId, leg_id: u32) {
        let child = self.children.iter_mut().find(|child| child.branch == branch);
        if let Some(leg) = child.and_then(|child| child.leg.as_mut()) {
            leg.leg_id = leg_id;
        }
    }

    /// A child tells what became of it.
    pub(super) fn branch_event(&mut self, branch: BranchId, event: BranchEvent, now: Now, effects: &mut Vec<Effect>) {
        let Some(at) = self.children.iter().position(|child| child.branch == branch) else { return };
        match &event {
            BranchEvent::Answered => self.children[at].is_answered = true,
            BranchEvent::Failed { .. } | BranchEvent::Ended { .. } => {
                self.children.remove(at);
                if self.bridged == Some(branch) {
                    self.bridged = None;
                    hear(self.opening.leg_id, Hears::Silence(proto::Silence {}), effects);
                }
            }
            BranchEvent::Started { .. }
            | BranchEvent::Ringing
            | BranchEvent::EarlyMedia
            | BranchEvent::Accepted
            | BranchEvent::Referred(_) => {}
        }
        self.run(VerbInput::Branch { branch, event }, now, effects);
    }

    pub(super) fn cancel_branch(&mut self, branch: BranchId, effects: &mut Vec<Effect>) {
        let cause = if self.leg.signalling == Signalling::Ended {
            CancelCause::CallerLeft
        } else if self.children.iter().any(|child| child.is_answered && child.branch != branch) {
            CancelCause::Elsewhere
        } else {
            CancelCause::NoAnswer
        };
        self.to_child(branch, ParentInput::Cancel(cause), effects);
    }

    pub(super) fn to_child(&self, branch: BranchId, input: ParentInput, effects: &mut Vec<Effect>) {
        if let Some(leg) = self.child(branch) {
            effects.push(Effect::ToChild { child: leg.sid, input });
        }
    }

    /// The leg's peer wants somebody else to be called in its place: that is for the `<Dial>` that joined it with another
    /// to decide.
    pub(super) fn referred(&mut self, referral: Referral, now: Now, effects: &mut Vec<Effect>) {
        match self.parent.as_ref().filter(|parent| !parent.is_left) {
            Some(_) => self.tell_parent(BranchEvent::Referred(referral), effects),
            None => self.run(VerbInput::Referred(referral), now, effects),
        }
    }

    pub(super) fn notify_refer(&self, status: u16, effects: &mut Vec<Effect>) {
        let command = SipCommand::NotifyRefer { status };
        effects.push(Effect::Sip { attempt: self.answered_attempt(), command });
    }

    /// Lets the caller hear what the callee sends before it answers.
    pub(super) fn early_media(&mut self, branch: BranchId, effects: &mut Vec<Effect>) {
        let Some(ChildLeg { leg_id, .. }) = self.child(branch) else { return };
        self.progress_with_media(effects);
        hear(self.opening.leg_id, Hears::Leg(leg_id), effects);
    }

    pub(super) fn bridge(&mut self, branch: BranchId, now: Now, effects: &mut Vec<Effect>) {
        let Some(ChildLeg { leg_id, .. }) = self.child(branch) else { return };
        self.answer(now, effects);
        self.bridged = Some(branch);
        hear(self.opening.leg_id, Hears::Leg(leg_id), effects);
        hear(leg_id, Hears::Leg(self.opening.leg_id), effects);
    }

    pub(super) fn unbridge(&mut self, effects: &mut Vec<Effect>) {
        let Some(branch) = self.bridged.take() else { return };
        hear(self.opening.leg_id, Hears::Silence(proto::Silence {}), effects);
        if let Some(ChildLeg { leg_id, .. }) = self.child(branch) {
            hear(leg_id, Hears::Silence(proto::Silence {}), effects);
        }
    }

    fn child(&self, branch: BranchId) -> Option<ChildLeg> {
        self.children.iter().find(|child| child.branch == branch)?.leg
    }

    pub(super) fn parent_input(&mut self, input: ParentInput, now: Now, effects: &mut Vec<Effect>) {
        let cause = match input {
            ParentInput::Cancel(cause) => cause,
            ParentInput::NotifyRefer { status } => return self.notify_refer(status, effects),
            ParentInput::GoOn(document) => return self.go_on(document, now, effects),
        };
        if !matches!(self.leg.signalling, Signalling::Outgoing { .. }) {
            self.hang_up(EndedBy::Application, 487, "", now, effects);
            return;
        }
        let (reason, status) = match cause {
            CancelCause::Elsewhere => (ELSEWHERE, CallStatus::Canceled),
            CancelCause::NoAnswer => ("", CallStatus::NoAnswer),
            CancelCause::CallerLeft => ("", CallStatus::Canceled),
        };
        self.cancel_attempts(None, reason, effects);
        self.leg_ended(status, EndedBy::Application, 487, now, effects);
    }

    /// The callee has answered and can be heard: first its digits, then its whisper and the bridge, or its own document.
    pub(super) fn callee_answered(&mut self, now: Now, effects: &mut Vec<Effect>) {
        self.publish(EventKind::Answered, effects);
        if let Some(spec) = self.placing.as_mut().and_then(|placing| placing.record.take()) {
            self.start_recording(None, spec, effects);
        }
        let dialled = self.parent.as_mut().and_then(|parent| parent.send_digits.take());
        let placed = self.placing.as_mut().and_then(|placing| placing.send_digits.take());
        match dialled.or(placed) {
            Some(digits) => self.play(DIGITS_PLAYER, vec![PlayKind::Digits(digits)], 1, effects),
            None => self.callee_ready(now, effects),
        }
    }

    pub(super) fn callee_ready(&mut self, now: Now, effects: &mut Vec<Effect>) {
        self.tell_parent(BranchEvent::Answered, effects);
        if let Some(whisper) = self.parent.as_mut().and_then(|parent| parent.whisper.take()) {
            let document = NewDocument { source: DocumentSource::Url(whisper), fallback: None, at_end: AtEnd::Accept };
            self.run(VerbInput::Replace(document), now, effects);
        }
        self.start_document(now, effects);
    }

    /// The leg goes on with a document of its own: for the parent it is as if it had hung up.
    pub(super) fn go_on(&mut self, document: NewDocument, now: Now, effects: &mut Vec<Effect>) {
        self.leave_parent(now, effects);
        self.run(VerbInput::Replace(document), now, effects);
    }

    fn leave_parent(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let event = match self.end_for_parent(CallStatus::Completed, 200, now) {
            BranchEvent::Ended { sip, .. } => BranchEvent::Ended { duration: None, sip },
            event => event,
        };
        self.tell_parent(event, effects);
        if let Some(parent) = &mut self.parent {
            parent.is_left = true;
        }
    }

    pub(super) fn tell_parent(&mut self, event: BranchEvent, effects: &mut Vec<Effect>) {
        if let Some(parent) = self.parent.as_ref().filter(|parent| !parent.is_left) {
            effects.push(Effect::ToParent { parent: parent.sid, branch: parent.branch, event });
        }
    }

    /// How the call's end looks to its parent.
    pub(super) fn end_for_parent(&self, status: CallStatus, sip_status: u16, now: Now) -> BranchEvent {
        let response_code =
            if self.answered_ms.is_some() { Some(200) } else { Some(sip_status).filter(|code| *code > 0) };
        let sip = (!self.leg.sip_call_id.is_empty())
            .then(|| SipOutcome { call_id: self.leg.sip_call_id.clone(), response_code });
        match self.answered_ms {
            Some(answered) => {
                let duration = Duration::from_millis(now.wall_ms.saturating_sub(answered));
                BranchEvent::Ended { duration: Some(duration), sip }
            }
            None => BranchEvent::Failed { status: branch_failure(status), sip },
        }
    }
}

fn branch_failure(status: CallStatus) -> BranchFailure {
    match status {
        CallStatus::Busy => BranchFailure::Busy,
        CallStatus::NoAnswer => BranchFailure::NoAnswer,
        CallStatus::Canceled => BranchFailure::Canceled,
        _ => BranchFailure::Failed,
    }
}
