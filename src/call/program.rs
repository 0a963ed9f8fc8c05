//! Carries out what the verbs of the document want.

use std::time::Duration;

use bytes::Bytes;
use dialtone_media::proto::{self, CommandKind, Hear, Hears, Play, PlayItem, PlayKind, PlayerSpec};
use dialtone_sip::time::Mono;
use serde::{Deserialize, Serialize};

use super::effect::{Effect, FetchOutcome, ParentInput, SipCommand};
use super::leg::refused;
use super::{AttemptId, Call, Now, tones};
use crate::events::{CallStatus, Direction, EndedBy, EventKind};
use crate::twiml::{
    BranchEvent, FetchOrder, HangupReason, PlayPart, RejectReason, Ringback, SmsSpec, VerbEffect, VerbInput,
};

/// Players of our own, apart from the verbs' numbers.
const RINGBACK_PLAYER: u32 = u32::MAX;
pub(super) const DIGITS_PLAYER: u32 = u32::MAX - 1;
pub(super) const RUNS_OUT_PLAYER: u32 = u32::MAX - 2;

impl Call {
    /// Gives an input to the program and carries out what it wants.
    pub(super) fn run(&mut self, input: VerbInput, now: Now, effects: &mut Vec<Effect>) {
        self.interpreter.handle(input, now.wall_ms);
        while let Some(effect) = self.interpreter.poll_effect() {
            self.carry_out(effect, now, effects);
        }
    }

    fn carry_out(&mut self, effect: VerbEffect, now: Now, effects: &mut Vec<Effect>) {
        match effect {
            VerbEffect::Require(precondition) => self.require(precondition, now, effects),
            VerbEffect::Prepare { ticket, source } => effects.push(Effect::Prepare { ticket, source }),
            VerbEffect::Play { player, items, loops } => {
                let items = items.into_iter().map(play_kind).collect();
                self.play(player, items, loops, effects);
            }
            VerbEffect::StopPlay | VerbEffect::Echo(false) => self.hear(Hears::Silence(proto::Silence {}), effects),
            VerbEffect::Echo(true) => self.hear(Hears::Leg(self.opening.leg_id), effects),
            VerbEffect::SetTimer(after) => self.verb_timer = after.map(|after| now.mono + after),
            VerbEffect::Ringback(ringback) => self.ringback(&ringback, effects),
            VerbEffect::EarlyMedia(branch) => self.early_media(branch, effects),
            VerbEffect::StartBranch(spec) => self.start_branch(*spec, effects),
            VerbEffect::CancelBranch(branch) => self.cancel_branch(branch, effects),
            VerbEffect::Bridge(branch) => self.bridge(branch, now, effects),
            VerbEffect::Unbridge => self.unbridge(effects),
            VerbEffect::StartRecording { recording, spec } => self.start_recording(Some(recording), *spec, effects),
            VerbEffect::StopRecording(recording) => self.stop_recording(recording, effects),
            VerbEffect::StopStartedRecordings => self.stop_started_recordings(effects),
            VerbEffect::StartStream { stream, spec } => self.start_stream(stream, *spec, now, effects),
            VerbEffect::StopStream(stream) => self.stop_stream(stream, effects),
            VerbEffect::StopStreams(name) => self.stop_started_streams(name.as_deref(), effects),
            VerbEffect::TellStream { stream, digit } => self.tell_stream(stream, digit, effects),
            VerbEffect::JoinConference(spec) => effects.push(Effect::JoinConference(spec)),
            VerbEffect::LeaveConference => self.leave_conference(effects),
            VerbEffect::Enqueue(spec) => effects.push(Effect::Enqueue(spec)),
            VerbEffect::AskQueue => effects.push(Effect::AskQueue),
            VerbEffect::QueueReady => effects.push(Effect::QueueReady),
            VerbEffect::Dequeue(spec) => effects.push(Effect::Dequeue(spec)),
            VerbEffect::SendMessage(spec) => {
                let SmsSpec { to, from, body, callback } = *spec;
                // As seen from the leg: an outgoing one has called whom it talks to.
                let (own, other) = match self.opening.direction {
                    Direction::Inbound => (&self.opening.to, &self.opening.from),
                    _ => (&self.opening.from, &self.opening.to),
                };
                let (from, to) = (from.unwrap_or_else(|| own.clone()), to.unwrap_or_else(|| other.clone()));
                effects.push(Effect::SendMessage { from, to, body, callback });
            }
            VerbEffect::Refer { uri, headers } => {
                let command = SipCommand::Refer { uri, headers };
                effects.push(Effect::Sip { attempt: self.answered_attempt(), command });
            }
            VerbEffect::NotifyRefer { of: None, status } => self.notify_refer(status, effects),
            VerbEffect::NotifyRefer { of: Some(branch), status } => {
                self.to_child(branch, ParentInput::NotifyRefer { status }, effects)
            }
            VerbEffect::HandOver { branch, document } => self.to_child(branch, ParentInput::GoOn(document), effects),
            VerbEffect::LeaveQueue => effects.push(Effect::LeaveQueue),
            VerbEffect::Fetch(order) => self.fetch(order, now, effects),
            VerbEffect::CancelFetch(fetch) => {
                let held = self.asked_at_end.len();
                self.asked_at_end.retain(|order| order.fetch != fetch);
                if self.asked_at_end.len() == held && self.throttle.forget(fetch).is_none() {
                    effects.push(Effect::CancelFetch(fetch));
                }
            }
            VerbEffect::Reject(reason) => self.reject(reason, now, effects),
            VerbEffect::Hangup(reason) => self.program_ended(reason, now, effects),
            VerbEffect::Accept => self.tell_parent(BranchEvent::Accepted, effects),
            VerbEffect::Notify(notice) => self.publish(EventKind::Noticed(notice), effects),
            VerbEffect::VerbStarted(verb) => {
                self.publish(EventKind::VerbStarted { verb: verb.as_str().to_owned() }, effects)
            }
            VerbEffect::VerbEnded(_) => {}
        }
    }

    fn program_ended(&mut self, reason: HangupReason, now: Now, effects: &mut Vec<Effect>) {
        let (status, text) = match reason {
            HangupReason::Verb | HangupReason::EndOfDocument => (603, ""),
            HangupReason::Unreached(status) => return self.refuse(status, refused(status), now, effects),
            HangupReason::ApplicationError => (500, "SIP;cause=500;text=\"application error\""),
            HangupReason::Unavailable => (503, ""),
        };
        self.hang_up(EndedBy::Application, status, text, now, effects);
    }

    fn reject(&mut self, reason: RejectReason, now: Now, effects: &mut Vec<Effect>) {
        let (sip_status, status) = match reason {
            RejectReason::Busy => (486, CallStatus::Busy),
            RejectReason::Rejected => (603, CallStatus::Failed),
        };
        self.refuse(sip_status, status, now, effects);
    }

    fn refuse(&mut self, sip_status: u16, status: CallStatus, now: Now, effects: &mut Vec<Effect>) {
        if self.leg.is_unanswered_incoming() {
            let command = SipCommand::Decline { status: sip_status, reason: String::new() };
            effects.push(Effect::Sip { attempt: AttemptId::FIRST, command });
            self.leg_ended(status, EndedBy::Application, sip_status, now, effects);
        } else {
            self.hang_up(EndedBy::Application, sip_status, "", now, effects);
        }
    }

    /// The application's answer, or why there is none.
    pub(super) fn document(&mut self, fetch: u32, outcome: FetchOutcome, now: Now, effects: &mut Vec<Effect>) {
        let error = outcome.result.as_ref().err().map(|failure| failure.code);
        let FetchOutcome { result, url, reason, duration_ms } = outcome;
        let requested = EventKind::Requested { url, reason, error, duration_ms, number: fetch };
        self.publish(requested, effects);
        self.run(VerbInput::Document { fetch, result }, now, effects);
    }

    fn fetch(&mut self, order: FetchOrder, now: Now, effects: &mut Vec<Effect>) {
        if let Some(order) = self.throttle.take(order, now.mono) {
            self.ask(order, effects);
        }
    }

    /// Of a call that has ended it is told first: its statistics are on their way.
    fn ask(&mut self, order: FetchOrder, effects: &mut Vec<Effect>) {
        if self.ending.is_some() && !self.is_published {
            self.asked_at_end.push(order);
            return;
        }
        let params = self.params(&order.params);
        effects.push(Effect::Fetch { order, params });
    }

    /// Sends a fetch that had to wait.
    pub(super) fn release_throttled(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if let Some(order) = self.throttle.due(now.mono) {
            self.ask(order, effects);
        }
    }

    pub(super) fn player_ended(&mut self, ended: &proto::PlayerEnded, now: Now, effects: &mut Vec<Effect>) {
        match ended.player_id {
            DIGITS_PLAYER => self.callee_ready(now, effects),
            RINGBACK_PLAYER | RUNS_OUT_PLAYER => {}
            player => self.run(VerbInput::PlayEnded { player, finished: ended.finished }, now, effects),
        }
    }

    /// What the caller is told of the callee's ringing: 180 before the answer, a tone after it.
    fn ringback(&mut self, ringback: &Ringback, effects: &mut Vec<Effect>) {
        match tones::ringback(ringback) {
            Some(tone) if self.leg.is_answered() => self.play(RINGBACK_PLAYER, vec![PlayKind::Tone(tone)], 1, effects),
            Some(_) => {}
            // Also where it is a callee's own that was heard before the answer.
            None => self.hear(Hears::Silence(proto::Silence {}), effects),
        }
    }

    pub(super) fn play(&mut self, player_id: u32, items: Vec<PlayKind>, loops: u32, effects: &mut Vec<Effect>) {
        let items = items.into_iter().map(|kind| PlayItem { kind: Some(kind) }).collect();
        let player = PlayerSpec { player_id, items, loops, offset_ms: 0 };
        effects.push(Effect::Media(CommandKind::Play(Play { leg_id: self.opening.leg_id, player: Some(player) })));
    }

    fn hear(&mut self, what: Hears, effects: &mut Vec<Effect>) {
        hear(self.opening.leg_id, what, effects);
    }
}

pub(super) fn hear(leg_id: u32, what: Hears, effects: &mut Vec<Effect>) {
    let source = Some(proto::Source { from: Some(what) });
    effects.push(Effect::Media(CommandKind::Hear(Hear { leg_id, source })));
}

pub(super) fn play_kind(part: PlayPart) -> PlayKind {
    match part {
        PlayPart::Clip(hash) => PlayKind::Audio(Bytes::copy_from_slice(&hash)),
        PlayPart::SilenceMs(length) => PlayKind::SilenceMs(length),
        PlayPart::Digits(digits) => PlayKind::Digits(digits),
        PlayPart::Beep => PlayKind::Tone(tones::beep()),
        PlayPart::Live => PlayKind::Live(proto::Live {}),
    }
}

/// Keeps a program that only redirects from spinning: after a burst, ten documents a second.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Throttle {
    /// When the bucket will be full again; each fetch moves it by [`INTERVAL`].
    full_at: Mono,
    waiting: Option<(Mono, FetchOrder)>,
}

const INTERVAL: Duration = Duration::from_millis(100);
const BURST: u32 = 10;

impl Throttle {
    /// Gives the order back if it may go now; else keeps it until [`Throttle::deadline`].
    fn take(&mut self, order: FetchOrder, now: Mono) -> Option<FetchOrder> {
        self.full_at = self.full_at.max(now) + INTERVAL;
        let ahead = self.full_at.since(now);
        if ahead <= INTERVAL * BURST || !order.answer_wanted {
            return Some(order);
        }
        self.waiting = Some((now + (ahead - INTERVAL * BURST), order));
        None
    }

    pub(super) fn deadline(&self) -> Option<Mono> {
        self.waiting.as_ref().map(|(at, _)| *at)
    }

    fn due(&mut self, now: Mono) -> Option<FetchOrder> {
        self.waiting.take_if(|(at, _)| *at <= now).map(|(_, order)| order)
    }

    fn forget(&mut self, fetch: u32) -> Option<FetchOrder> {
        self.waiting.take_if(|(_, order)| order.fetch == fetch).map(|(_, order)| order)
    }
}
