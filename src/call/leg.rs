//! The leg itself: its signalling, and its media as far as offer and answer go.

use std::collections::VecDeque;

use bytes::Bytes;
use dialtone_media::proto::{
    self, CommandKind, Encryption, LegKind, LegSpec, Negotiate, Negotiated, Refusal, Refused, SdpStep, SessionSpec,
};
use dialtone_sip::time::Mono;
use serde::{Deserialize, Serialize};

use super::effect::{AttemptId, Effect, Offered, SipCommand, SipEvent};
use super::{Call, MEDIA_PATIENCE, Now};
use crate::events::{CallStatus, EndedBy, EventKind};
use crate::twiml::{BranchEvent, Precondition, VerbInput};

/// A party's side of a call: a dialog and a media leg.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Leg {
    pub(super) signalling: Signalling,
    pub(super) media: MediaState,
    /// What we sent last: the answer that a 183 and a 200 carry.
    #[serde(with = "dialtone_media::text")]
    local_sdp: Bytes,
    /// The caller made no offer: ours goes out with the 200, its answer comes with the ACK (RFC 3261 s13.2.1).
    late_offer: bool,
    /// Answer as soon as the media is ready.
    pub(super) wants_answer: bool,
    /// Steps of offer and answer that the worker has not answered; it answers in order.
    pending: VecDeque<Step>,
    waits_since: Option<Mono>,
    held: bool,
    /// The party was told that its media is elsewhere, and has not said yes.
    is_moving: bool,
    /// The party was asked whether it is there.
    is_refreshing: bool,
    /// A worker of a version before this one does not know how: then there is no media, rather than some that others hear.
    #[serde(default)]
    must_be_encrypted: bool,
    /// What is offered to attempts that want other media than the leg itself, until one is answered.
    #[serde(default)]
    others: Vec<Other>,
    pub(super) has_rung: bool,
    pub(super) sip_call_id: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Signalling {
    /// Their INVITE waits for our answer.
    Incoming,
    /// Our INVITEs wait for theirs.
    Outgoing {
        attempts: Vec<Attempt>,
        /// The best failure so far.
        failure: u16,
    },
    Answered {
        attempt: AttemptId,
    },
    Ended,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Attempt {
    Unsent,
    Sent,
    Over,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum MediaState {
    /// The worker was asked.
    Opening,
    /// Our SDP is known; nothing can be heard yet.
    Ready,
    /// Both sides have spoken: audio flows.
    Active,
    /// There is no media, or none any more.
    Lost,
}

/// What a step of offer and answer was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Step {
    Open,
    EarlyAnswer,
    Answer,
    /// The answer in the ACK of a late offer, the first or a later one.
    LateAnswer,
    /// The peer's re-INVITE with an offer.
    Reoffer,
    /// The peer's re-INVITE without one.
    ReofferWanted,
    /// Either of these, of a re-INVITE that the peer has taken back since.
    Withdrawn,
    /// What came of one that was taken back is undone.
    Rollback,
    /// A re-INVITE of ours that changes nothing: it tells the peer where we are, and us whether it is there.
    Refresh,
}

/// A leg beside the call's own, and what it offers once that is known.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Other {
    offered: Offered,
    #[serde(with = "dialtone_media::text")]
    sdp: Bytes,
}

impl Other {
    fn is_for(&self, attempt: AttemptId) -> bool {
        self.offered.attempts.contains(&attempt)
    }
}

impl Leg {
    pub(super) fn incoming(late_offer: bool) -> Leg {
        Leg::new(Signalling::Incoming, late_offer)
    }

    pub(super) fn outgoing(attempts: u8) -> Leg {
        Leg::new(Signalling::Outgoing { attempts: vec![Attempt::Unsent; usize::from(attempts)], failure: 0 }, false)
    }

    fn new(signalling: Signalling, late_offer: bool) -> Leg {
        Leg {
            signalling,
            media: MediaState::Opening,
            local_sdp: Bytes::new(),
            late_offer,
            wants_answer: false,
            pending: VecDeque::new(),
            waits_since: None,
            held: false,
            is_moving: false,
            is_refreshing: false,
            must_be_encrypted: false,
            others: Vec::new(),
            has_rung: false,
            sip_call_id: String::new(),
        }
    }

    /// When the worker is taken for lost.
    pub(super) fn media_patience(&self) -> Option<Mono> {
        self.waits_since.map(|since| since + MEDIA_PATIENCE)
    }

    pub(super) fn is_answered(&self) -> bool {
        matches!(self.signalling, Signalling::Answered { .. })
    }

    /// The callee has answered, and the worker is still to take its description: only then it is told.
    pub(super) fn answer_is_untold(&self) -> bool {
        self.is_answered() && self.pending.contains(&Step::Answer)
    }

    /// Some attempts want other media than the rest.
    pub(super) fn offer_besides(&mut self, offered: Vec<Offered>) {
        self.others = offered.into_iter().map(|offered| Other { offered, sdp: Bytes::new() }).collect();
    }

    /// Our INVITEs wait for an answer.
    pub(super) fn is_outgoing(&self) -> bool {
        matches!(self.signalling, Signalling::Outgoing { .. })
    }

    pub(super) fn is_unanswered_incoming(&self) -> bool {
        self.signalling == Signalling::Incoming
    }
}

impl Call {
    /// Asks the worker for the leg: a session for a call of its own, a leg in the parent's for a dialled one.
    pub(super) fn open_media(
        &mut self,
        offer: Bytes,
        signalled_from: String,
        encryption: Encryption,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        self.leg.must_be_encrypted = encryption == Encryption::Sdes;
        let kind = match self.opening.link {
            Some(key) => {
                LegKind::Remote(proto::RemoteLeg { worker: String::new(), session_id: self.opening.session_id, key })
            }
            None => LegKind::Rtp(proto::RtpLeg {
                remote_sdp: offer,
                local_sdp: Bytes::new(),
                signalled_from,
                is_offer: false,
                encryption: encryption as i32,
            }),
        };
        let leg = LegSpec { leg_id: self.opening.leg_id, kind: Some(kind), ..LegSpec::default() };
        let others = self.leg.others.iter().map(|Other { offered, .. }| {
            let rtp = proto::RtpLeg { encryption: offered.encryption.into(), ..proto::RtpLeg::default() };
            LegSpec { leg_id: offered.leg_id, kind: Some(LegKind::Rtp(rtp)), ..LegSpec::default() }
        });
        let legs: Vec<LegSpec> = [leg].into_iter().chain(others).collect();
        // Each is answered, in order.
        self.leg.pending.extend(legs.iter().skip(1).map(|_| Step::Open));
        if self.parent.is_some() {
            effects.extend(legs.into_iter().map(|leg| Effect::Media(CommandKind::PutLeg(leg))));
        } else {
            let session_id = self.opening.session_id;
            effects.push(Effect::Media(CommandKind::Open(SessionSpec { session_id, legs, ..SessionSpec::default() })));
        }
        if self.opening.link.is_some() {
            // A link needs no negotiation.
            self.leg.media = MediaState::Ready;
            self.send_invites(effects);
        } else {
            self.leg.pending.push_back(Step::Open);
            self.leg.waits_since = Some(now.mono);
        }
    }

    fn negotiate(&mut self, step: SdpStep, sdp: Bytes, purpose: Step, now: Now, effects: &mut Vec<Effect>) {
        self.leg.pending.push_back(purpose);
        self.leg.waits_since.get_or_insert(now.mono);
        let negotiate = Negotiate { leg_id: self.opening.leg_id, step: step.into(), sdp };
        effects.push(Effect::Media(CommandKind::Negotiate(negotiate)));
    }

    fn next_step(&mut self) -> Option<Step> {
        let step = self.leg.pending.pop_front();
        if self.leg.pending.is_empty() {
            self.leg.waits_since = None;
        }
        step
    }

    /// The worker did a step of offer and answer.
    pub(super) fn negotiated(&mut self, negotiated: Negotiated, now: Now, effects: &mut Vec<Effect>) {
        let is_agreed = !negotiated.codec.is_empty();
        if is_agreed && negotiated.encryption.is_empty() && self.leg.must_be_encrypted {
            let refused = Refused { reason: Refusal::NoCapacity.into(), ..Refused::default() };
            return self.media_refused(&refused, now, effects);
        }
        let Some(step) = self.next_step() else { return };
        if self.leg.signalling == Signalling::Ended {
            return;
        }
        if step == Step::Withdrawn {
            return self.negotiate(SdpStep::Rollback, Bytes::new(), Step::Rollback, now, effects);
        }
        if let Some(other) = self.leg.others.iter_mut().find(|other| other.offered.leg_id == negotiated.leg_id) {
            other.sdp = negotiated.sdp;
        } else if !negotiated.sdp.is_empty() {
            self.leg.local_sdp = negotiated.sdp;
        }
        match step {
            // All devices ring at once.
            Step::Open if self.leg.pending.contains(&Step::Open) => return,
            Step::Open => {
                self.leg.media = MediaState::Ready;
                self.send_invites(effects);
                if self.leg.wants_answer {
                    self.answer(now, effects);
                }
            }
            Step::EarlyAnswer => self.tell_parent(BranchEvent::EarlyMedia, effects),
            Step::Answer => {
                self.leg.media = MediaState::Active;
                self.callee_answered(now, effects);
            }
            Step::LateAnswer => {
                self.leg.media = MediaState::Active;
                self.satisfy(now, effects);
            }
            Step::Reoffer | Step::ReofferWanted => {
                let command = SipCommand::Answer { sdp: self.leg.local_sdp.clone() };
                effects.push(Effect::Sip { attempt: self.answered_attempt(), command });
                self.leg.late_offer = step == Step::ReofferWanted;
                // What it was to be told it is told by this.
                (self.leg.is_moving, self.leg.is_refreshing) = (false, false);
            }
            Step::Refresh => {
                let command = SipCommand::Reinvite { sdp: self.leg.local_sdp.clone() };
                effects.push(Effect::Sip { attempt: self.answered_attempt(), command });
                self.leg.is_refreshing = true;
            }
            Step::Withdrawn | Step::Rollback => {}
        }
        self.note_hold(negotiated.held, effects);
    }

    fn note_hold(&mut self, held: bool, effects: &mut Vec<Effect>) {
        if held != self.leg.held {
            self.leg.held = held;
            self.publish(EventKind::Held { held }, effects);
        }
    }

    /// The worker refused a step. The first one decides the call; a later one leaves the call as it was.
    pub(super) fn media_refused(&mut self, refused: &Refused, now: Now, effects: &mut Vec<Effect>) {
        let Some(step) = self.next_step() else { return };
        let status = match Refusal::try_from(refused.reason) {
            Ok(Refusal::MalformedSdp) => 400,
            Ok(Refusal::NotAcceptable) => 488,
            _ => 503,
        };
        match step {
            Step::Open => {
                self.leg.media = MediaState::Lost;
                self.hang_up(EndedBy::Server, status, "", now, effects);
            }
            Step::Answer | Step::LateAnswer => self.hang_up(EndedBy::Server, status, "SIP;cause=488", now, effects),
            Step::Reoffer | Step::ReofferWanted => {
                let command = SipCommand::Decline { status, reason: String::new() };
                effects.push(Effect::Sip { attempt: self.answered_attempt(), command });
            }
            // What was refused changed nothing: there is nothing to undo.
            Step::EarlyAnswer | Step::Withdrawn | Step::Rollback | Step::Refresh => {}
        }
    }

    pub(super) fn media_lost(&mut self, now: Now, effects: &mut Vec<Effect>) {
        self.leg.media = MediaState::Lost;
        self.leg.pending.clear();
        self.leg.waits_since = None;
        self.recordings_lost(now, effects);
        self.hang_up(EndedBy::Server, 503, "SIP;cause=503;text=\"media lost\"", now, effects);
    }

    /// Tells the party where its media is from now on. A call that is not answered yet is not worth that: its caller tries
    /// again.
    pub(super) fn media_moved(&mut self, sdp: Bytes, now: Now, effects: &mut Vec<Effect>) {
        match self.leg.signalling {
            Signalling::Answered { attempt } => {
                self.leg.local_sdp = sdp.clone();
                self.leg.is_moving = true;
                effects.push(Effect::Sip { attempt, command: SipCommand::Reinvite { sdp } });
            }
            Signalling::Incoming | Signalling::Outgoing { .. } => self.media_lost(now, effects),
            Signalling::Ended => {}
        }
    }

    /// The room is gone, and with it the link to it.
    pub(super) fn room_lost(&mut self, now: Now, effects: &mut Vec<Effect>) {
        self.part(effects);
        self.run(VerbInput::Restored, now, effects);
    }

    /// The edge has started anew.
    pub(super) fn restored(&mut self, now: Now, effects: &mut Vec<Effect>) {
        // The rooms are gone with the edge.
        self.room_lost(now, effects);
        self.streams_restored(effects);
        if self.leg.is_answered() && self.opening.link.is_none() && self.leg.media == MediaState::Active {
            self.negotiate(SdpStep::MakeOffer, Bytes::new(), Step::Refresh, now, effects);
        }
    }

    /// Sends 200 as soon as our SDP is known.
    pub(super) fn answer(&mut self, now: Now, effects: &mut Vec<Effect>) {
        self.leg.wants_answer = true;
        if !self.leg.is_unanswered_incoming() || self.leg.media != MediaState::Ready {
            return;
        }
        let command = SipCommand::Answer { sdp: self.leg.local_sdp.clone() };
        effects.push(Effect::Sip { attempt: AttemptId::FIRST, command });
        self.leg.signalling = Signalling::Answered { attempt: AttemptId::FIRST };
        if !self.leg.late_offer {
            self.leg.media = MediaState::Active;
        }
        self.note_answer(now);
        self.publish(EventKind::Answered, effects);
        if self.opening.answer_at_once {
            self.start_document(now, effects);
        }
        self.satisfy(now, effects);
    }

    /// Lets the caller hear what comes before the answer (183).
    pub(super) fn progress_with_media(&mut self, effects: &mut Vec<Effect>) {
        if self.leg.is_unanswered_incoming() && self.leg.media == MediaState::Ready && !self.leg.late_offer {
            let command = SipCommand::Progress { status: 183, sdp: self.leg.local_sdp.clone() };
            effects.push(Effect::Sip { attempt: AttemptId::FIRST, command });
        }
    }

    /// Brings the leg where a verb needs it, and says so when it is there.
    pub(super) fn require(&mut self, precondition: Precondition, now: Now, effects: &mut Vec<Effect>) {
        self.required = Some(precondition);
        if matches!(precondition, Precondition::Answered | Precondition::MediaReady)
            && self.leg.is_unanswered_incoming()
        {
            self.answer(now, effects);
        }
        self.satisfy(now, effects);
    }

    /// Tells the verb that waits, if what it waits for has come, or cannot come any more.
    fn satisfy(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let Some(required) = self.required else { return };
        let ended = self.leg.signalling == Signalling::Ended;
        let holds = match required {
            Precondition::None => true,
            Precondition::Unanswered => self.leg.is_unanswered_incoming(),
            Precondition::Answered => self.leg.is_answered(),
            Precondition::MediaReady => self.leg.is_answered() && self.leg.media == MediaState::Active,
        };
        let hopeless = ended || (required == Precondition::Unanswered && !holds);
        if holds || hopeless {
            self.required = None;
            self.run(if holds { VerbInput::Ready } else { VerbInput::PreconditionFailed }, now, effects);
        }
    }

    pub(super) fn sip_event(&mut self, attempt: AttemptId, event: SipEvent, now: Now, effects: &mut Vec<Effect>) {
        match event {
            SipEvent::Canceled => self.leg_ended(CallStatus::Canceled, EndedBy::Peer, 487, now, effects),
            SipEvent::Acked { sdp } => self.acked(sdp, now, effects),
            SipEvent::AckMissing => self.hang_up(EndedBy::Server, 408, "SIP;cause=408;text=\"no ACK\"", now, effects),
            SipEvent::Progress { status, sdp } => self.callee_progress(attempt, status, sdp, now, effects),
            SipEvent::Answered { sdp, sip_call_id } => self.callee_accepts(attempt, sdp, sip_call_id, now, effects),
            SipEvent::Refused { status, sip_call_id } => {
                self.attempt_refused(attempt, status, sip_call_id, now, effects)
            }
            SipEvent::Reoffered { sdp } => self.reoffered(sdp, now, effects),
            SipEvent::ReofferCanceled => self.withdraw_reoffer(),
            SipEvent::Reanswered { status, sdp } => {
                let was_moving = std::mem::take(&mut self.leg.is_moving);
                let was_refreshing = std::mem::take(&mut self.leg.is_refreshing);
                if (200..300).contains(&status) {
                    // Where it is neither, the peer has offered anew since, and that stands.
                    if was_moving || was_refreshing {
                        self.negotiate(SdpStep::RemoteAnswer, sdp, Step::LateAnswer, now, effects);
                    }
                } else if was_moving {
                    // It goes on sending to where nobody is.
                    self.media_lost(now, effects);
                } else if was_refreshing {
                    self.negotiate(SdpStep::Rollback, Bytes::new(), Step::Rollback, now, effects);
                }
            }
            SipEvent::Ended { lost } => {
                let status = if self.leg.is_answered() { CallStatus::Completed } else { CallStatus::Failed };
                let ended_by = if lost { EndedBy::Server } else { EndedBy::Peer };
                self.leg_ended(status, ended_by, if lost { 408 } else { 200 }, now, effects);
            }
            SipEvent::UserMessage { sid, content } => self.user_message(sid, &content, effects),
            SipEvent::Digit(digit) => self.run(VerbInput::Digit(digit), now, effects),
            SipEvent::Referred(referral) => self.referred(referral, now, effects),
            SipEvent::ReferAnswered { status } => self.run(VerbInput::ReferAnswered { status }, now, effects),
            SipEvent::ReferNotified { status, is_last } => {
                self.run(VerbInput::ReferNotified { status, is_last }, now, effects)
            }
        }
    }

    fn acked(&mut self, sdp: Bytes, now: Now, effects: &mut Vec<Effect>) {
        if !std::mem::take(&mut self.leg.late_offer) {
            return;
        }
        if sdp.is_empty() {
            // The ACK had to answer our offer (RFC 3261 s13.2.1).
            self.hang_up(EndedBy::Server, 488, "SIP;cause=488;text=\"no SDP answer in ACK\"", now, effects);
        } else {
            self.negotiate(SdpStep::RemoteAnswer, sdp, Step::LateAnswer, now, effects);
        }
    }

    fn reoffered(&mut self, sdp: Bytes, now: Now, effects: &mut Vec<Effect>) {
        if self.opening.link.is_some() {
            return;
        }
        if self.leg.pending.iter().any(|step| matches!(step, Step::Withdrawn | Step::Rollback)) {
            // Until the last one is undone, a rollback would undo this one: the peer tries again (RFC 3261 s14.1).
            let command = SipCommand::Decline { status: 491, reason: String::new() };
            effects.push(Effect::Sip { attempt: self.answered_attempt(), command });
            return;
        }
        let (step, purpose) = if sdp.is_empty() {
            (SdpStep::MakeOffer, Step::ReofferWanted)
        } else {
            (SdpStep::RemoteOffer, Step::Reoffer)
        };
        self.negotiate(step, sdp, purpose, now, effects);
    }

    /// The peer took back its re-INVITE, which the worker has at hand. It is rolled back once it is known to be taken:
    /// had the worker refused it, that would undo what was agreed before.
    fn withdraw_reoffer(&mut self) {
        let reoffer = |step: &&mut Step| matches!(step, Step::Reoffer | Step::ReofferWanted);
        if let Some(step) = self.leg.pending.iter_mut().rev().find(reoffer) {
            *step = Step::Withdrawn;
        }
    }

    /// Which of the attempts to reach its party is the one that goes on; of an incoming call there is one.
    pub fn answered_attempt(&self) -> AttemptId {
        match self.leg.signalling {
            Signalling::Answered { attempt } => attempt,
            _ => AttemptId::FIRST,
        }
    }

    fn send_invites(&mut self, effects: &mut Vec<Effect>) {
        let Leg { signalling, local_sdp, others, .. } = &mut self.leg;
        let Signalling::Outgoing { attempts, .. } = signalling else { return };
        for (number, state) in attempts.iter_mut().enumerate().filter(|(_, attempt)| **attempt == Attempt::Unsent) {
            *state = Attempt::Sent;
            let attempt = AttemptId(number as u8);
            let sdp = others.iter().find(|other| other.is_for(attempt)).map_or(&*local_sdp, |other| &other.sdp).clone();
            effects.push(Effect::Sip { attempt, command: SipCommand::Invite { sdp } });
        }
    }

    /// Before it answers only a device is heard that has the call's own leg: one of several browsers is not.
    fn callee_progress(&mut self, attempt: AttemptId, status: u16, sdp: Bytes, now: Now, effects: &mut Vec<Effect>) {
        if !matches!(self.leg.signalling, Signalling::Outgoing { .. }) {
            return;
        }
        if status == 180 && !self.leg.has_rung {
            self.leg.has_rung = true;
            self.publish(EventKind::Ringing, effects);
            self.tell_parent(BranchEvent::Ringing, effects);
        }
        if !sdp.is_empty() && !self.leg.others.iter().any(|other| other.is_for(attempt)) {
            self.negotiate(SdpStep::RemoteAnswer, sdp, Step::EarlyAnswer, now, effects);
        }
    }

    fn callee_accepts(
        &mut self,
        attempt: AttemptId,
        sdp: Bytes,
        sip_call_id: String,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        if !matches!(self.leg.signalling, Signalling::Outgoing { .. }) {
            // Another device was faster: this one is answered already, so it is hung up.
            effects.push(Effect::Sip { attempt, command: SipCommand::Bye { reason: ELSEWHERE.to_owned() } });
            return;
        }
        self.cancel_attempts(Some(attempt), ELSEWHERE, effects);
        self.settle_on(attempt, effects);
        self.leg.signalling = Signalling::Answered { attempt };
        self.leg.sip_call_id = sip_call_id;
        self.note_answer(now);
        if self.opening.link.is_some() || (sdp.is_empty() && self.leg.media == MediaState::Active) {
            self.leg.media = MediaState::Active;
            self.callee_answered(now, effects);
        } else {
            self.negotiate(SdpStep::RemoteAnswer, sdp, Step::Answer, now, effects);
        }
    }

    /// The leg of the device that has answered is the call's from now on, and the others are over.
    fn settle_on(&mut self, attempt: AttemptId, effects: &mut Vec<Effect>) {
        if let Some(at) = self.leg.others.iter().position(|other| other.is_for(attempt)) {
            let Other { offered, sdp } = self.leg.others.swap_remove(at);
            effects.push(Effect::Media(CommandKind::DropLeg(self.opening.leg_id)));
            self.opening.leg_id = offered.leg_id;
            self.leg.local_sdp = sdp;
            self.leg.must_be_encrypted = offered.encryption == Encryption::Sdes;
            self.leg.media = MediaState::Ready;
        }
        self.drop_other_offers(effects);
    }

    pub(super) fn drop_other_offers(&mut self, effects: &mut Vec<Effect>) {
        let others = self.leg.others.drain(..);
        effects.extend(others.map(|other| Effect::Media(CommandKind::DropLeg(other.offered.leg_id))));
    }

    fn attempt_refused(
        &mut self,
        attempt: AttemptId,
        status: u16,
        sip_call_id: String,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        let Signalling::Outgoing { attempts, failure } = &mut self.leg.signalling else { return };
        if let Some(state) = attempts.get_mut(usize::from(attempt.0)) {
            *state = Attempt::Over;
        }
        if rank(status) >= rank(*failure) {
            *failure = status;
            self.leg.sip_call_id = sip_call_id;
        }
        let (failure, all_over) = (*failure, attempts.iter().all(|state| *state == Attempt::Over));
        if all_over {
            self.leg_ended(refused(failure), EndedBy::Peer, failure, now, effects);
        }
    }

    /// Takes back every INVITE but one.
    pub(super) fn cancel_attempts(&mut self, but: Option<AttemptId>, reason: &str, effects: &mut Vec<Effect>) {
        let Signalling::Outgoing { attempts, .. } = &self.leg.signalling else { return };
        for (number, state) in attempts.iter().enumerate() {
            let attempt = AttemptId(number as u8);
            if *state == Attempt::Sent && Some(attempt) != but {
                effects.push(Effect::Sip { attempt, command: SipCommand::Cancel { reason: reason.to_owned() } });
            }
        }
    }
}

/// How a leg ended that was refused with this.
pub(super) fn refused(status: u16) -> CallStatus {
    match status {
        486 | 600 | 603 => CallStatus::Busy,
        408 | 480 | 487 => CallStatus::NoAnswer,
        _ => CallStatus::Failed,
    }
}

/// Which failure of several stands for all: a refusal by everyone, then busy, then whatever came (RFC 3261 s16.7).
fn rank(status: u16) -> u8 {
    match status {
        600.. => 3,
        486 => 2,
        1.. => 1,
        0 => 0,
    }
}

/// Tells a phone that it missed nothing (RFC 3326).
pub(super) const ELSEWHERE: &str = "SIP;cause=200;text=\"Call completed elsewhere\"";
