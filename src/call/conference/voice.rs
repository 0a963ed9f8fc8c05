//! What plays in a conference: music for those who wait or are held, and announcements. Each is a document of its own that
//! runs beside the others, and plays to one leg.

use dialtone_media::proto::{self, CommandKind, Play, PlayItem, PlayerEnded, PlayerSpec};
use dialtone_sip::time::Mono;
use serde::{Deserialize, Serialize};
use std::time::Duration;

use super::{Conference, ConferenceEffect, media};
use crate::call::Now;
use crate::call::effect::FetchOutcome;
use crate::call::program::play_kind;
use crate::events::{ConferenceReason, ConferenceStatus, ConferenceStep};
use crate::ids::CallSid;
use crate::twiml::{
    AtEnd, AudioFailure, ClipRef, DocumentSource, Endpoint, HOLD_MUSIC, HangupReason, Interpreter, NewDocument,
    VerbEffect, VerbInput,
};

/// A document that plays.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Voice {
    number: u32,
    /// Where it plays.
    pub(super) leg_id: u32,
    pub(super) purpose: Purpose,
    source: DocumentSource,
    interpreter: Interpreter,
    timer: Option<Mono>,
    /// When it begins anew.
    again: Option<Mono>,
    /// Something was played since it began.
    has_played: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Purpose {
    /// Over and over to one who waits, until the conference begins.
    Waiting,
    /// Over and over, until the member is not held any more.
    Held,
    /// Once; to one member, or to all.
    Announcement { to: Option<CallSid>, url: String },
}

/// A document that played nothing does not begin anew sooner than this.
const EMPTY_ROUND: Duration = Duration::from_secs(5);
/// Numbers of fetches, tickets and players that one voice may use up.
const NUMBERS: u32 = 1 << 16;

impl Voice {
    pub(super) fn deadline(&self) -> Option<Mono> {
        self.timer.into_iter().chain(self.again).min()
    }
}

impl Conference {
    /// Music for a member that is held, be it the customer's or ours; or that waits for the beginning.
    pub(super) fn play_alone(&mut self, call: CallSid, now: Now, effects: &mut Vec<ConferenceEffect>) {
        let Some(member) = self.members.iter().find(|member| member.call == call) else { return };
        let (leg_id, held, waiting) = (member.leg_id, member.hold_source.clone(), member.wait.clone());
        if member.hold {
            let source = held.unwrap_or_else(|| DocumentSource::Twiml(HOLD_MUSIC.into()));
            self.play(leg_id, Purpose::Held, source, now, effects);
        } else if let Some(source) = waiting.filter(|_| self.status == ConferenceStatus::Init) {
            self.play(leg_id, Purpose::Waiting, source, now, effects);
        }
    }

    pub(super) fn announce(
        &mut self,
        leg_id: u32,
        endpoint: Endpoint,
        to: Option<CallSid>,
        now: Now,
        effects: &mut Vec<ConferenceEffect>,
    ) {
        // One after another takes the place of the one that plays.
        self.silence(|voice| voice.leg_id == leg_id, effects);
        let purpose = Purpose::Announcement { to, url: endpoint.url.clone() };
        self.play(leg_id, purpose, DocumentSource::Url(endpoint), now, effects);
    }

    fn play(
        &mut self,
        leg_id: u32,
        purpose: Purpose,
        source: DocumentSource,
        now: Now,
        effects: &mut Vec<ConferenceEffect>,
    ) {
        let number = self.next_number() % NUMBERS;
        let interpreter = Interpreter::new();
        self.voices.push(Voice {
            number,
            leg_id,
            purpose,
            source,
            interpreter,
            timer: None,
            again: None,
            has_played: false,
        });
        self.begin_voice(number, now, effects);
    }

    fn begin_voice(&mut self, number: u32, now: Now, effects: &mut Vec<ConferenceEffect>) {
        let Some(voice) = self.voices.iter_mut().find(|voice| voice.number == number) else { return };
        (voice.has_played, voice.again) = (false, None);
        let document = NewDocument { source: voice.source.clone(), fallback: None, at_end: AtEnd::Silence };
        self.run_voice(number, VerbInput::Replace(document), now, effects);
    }

    /// Ends what plays, without a word of it.
    pub(super) fn silence(&mut self, which: impl Fn(&Voice) -> bool, effects: &mut Vec<ConferenceEffect>) {
        let (ended, kept) = std::mem::take(&mut self.voices).into_iter().partition(|voice| which(voice));
        self.voices = kept;
        for mut voice in ended {
            // What is silenced has no time to tell of.
            voice.interpreter.handle(VerbInput::HungUp, 0);
            while let Some(effect) = voice.interpreter.poll_effect() {
                match effect {
                    VerbEffect::CancelFetch(fetch) => {
                        effects.push(ConferenceEffect::CancelFetch(outer(voice.number, fetch)));
                    }
                    VerbEffect::StopPlay => self.quiet(voice.leg_id, effects),
                    _ => {}
                }
            }
        }
    }

    /// A leg hears again what it hears when nothing is played to it.
    fn quiet(&self, leg_id: u32, effects: &mut Vec<ConferenceEffect>) {
        match self.members.iter().find(|member| member.leg_id == leg_id).map(|member| member.call) {
            Some(call) => self.set_hearing(call, effects),
            None => {
                let source = Some(proto::Source { from: Some(proto::Hears::Silence(proto::Silence {})) });
                effects.push(media(CommandKind::Hear(proto::Hear { leg_id, source })));
            }
        }
    }

    fn run_voice(&mut self, number: u32, input: VerbInput, now: Now, effects: &mut Vec<ConferenceEffect>) {
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            let Some(at) = self.voices.iter().position(|voice| voice.number == number) else { return };
            self.voices[at].interpreter.handle(input, now.wall_ms);
            let mut ended = None;
            while let Some(effect) = self.voices[at].interpreter.poll_effect() {
                match effect {
                    VerbEffect::Require(_) => inputs.push(VerbInput::Ready),
                    VerbEffect::Hangup(reason) => ended = Some(reason),
                    effect => self.carry_out_voice(at, effect, now, effects),
                }
            }
            if let Some(reason) = ended {
                return self.voice_ended(at, reason, now, effects);
            }
        }
    }

    fn carry_out_voice(&mut self, at: usize, effect: VerbEffect, now: Now, effects: &mut Vec<ConferenceEffect>) {
        let voice = &mut self.voices[at];
        let number = voice.number;
        match effect {
            VerbEffect::Prepare { ticket, source } => {
                effects.push(ConferenceEffect::Prepare { ticket: outer(number, ticket), source });
            }
            VerbEffect::Play { player, items, loops } => {
                voice.has_played = true;
                let items = items.into_iter().map(|item| PlayItem { kind: Some(play_kind(item)) }).collect();
                let player_id = outer(number, player);
                let player = Some(PlayerSpec { player_id, items, loops, offset_ms: 0 });
                effects.push(media(CommandKind::Play(Play { leg_id: voice.leg_id, player })));
            }
            VerbEffect::StopPlay => {
                let leg_id = voice.leg_id;
                self.quiet(leg_id, effects);
            }
            VerbEffect::SetTimer(after) => voice.timer = after.map(|after| now.mono + after),
            VerbEffect::Fetch(mut order) => {
                order.fetch = outer(number, order.fetch);
                let mut params = vec![
                    ("ConferenceSid".to_owned(), self.sid.to_string()),
                    ("FriendlyName".to_owned(), self.name.clone()),
                ];
                params.extend(order.params.iter().cloned());
                effects.push(ConferenceEffect::Fetch { order, params });
            }
            VerbEffect::CancelFetch(fetch) => effects.push(ConferenceEffect::CancelFetch(outer(number, fetch))),
            VerbEffect::Notify(notice) => {
                if let Some(member) = self.members.first() {
                    effects.push(ConferenceEffect::Notice { call: member.call, notice });
                }
            }
            // Verbs that would ask for anything else are skipped.
            _ => {}
        }
    }

    fn voice_ended(&mut self, at: usize, reason: HangupReason, now: Now, effects: &mut Vec<ConferenceEffect>) {
        let voice = &mut self.voices[at];
        voice.timer = None;
        let failed = reason == HangupReason::ApplicationError;
        match voice.purpose.clone() {
            Purpose::Waiting | Purpose::Held if !failed && voice.has_played => {
                voice.again = Some(now.mono);
                voice.interpreter = Interpreter::new();
            }
            Purpose::Waiting | Purpose::Held => {
                voice.again = Some(now.mono + EMPTY_ROUND);
                voice.interpreter = Interpreter::new();
            }
            Purpose::Announcement { to, url } => {
                let leg_id = self.voices.remove(at).leg_id;
                self.quiet(leg_id, effects);
                let step = if failed { ConferenceStep::AnnouncementFail } else { ConferenceStep::AnnouncementEnd };
                let member = to.and_then(|to| self.members.iter().find(|member| member.call == to));
                let participant = member.map(|member| member.participant());
                let Some(call) = to.or(self.members.first().map(|member| member.call)) else { return };
                self.note(step, call, participant, Some(ConferenceReason::Announcement { url }), effects);
                if let Some(to) = to {
                    self.play_alone(to, now, effects);
                }
            }
        }
    }

    pub(super) fn voices_due(&mut self, now: Now, effects: &mut Vec<ConferenceEffect>) {
        for number in self.voices.iter().map(|voice| voice.number).collect::<Vec<_>>() {
            let Some(voice) = self.voices.iter_mut().find(|voice| voice.number == number) else { continue };
            if voice.timer.is_some_and(|at| at <= now.mono) {
                voice.timer = None;
                self.run_voice(number, VerbInput::Timer, now, effects);
            } else if voice.again.is_some_and(|at| at <= now.mono) {
                // Under another number: the worker knows the players of each as its own.
                let fresh = self.next_number() % NUMBERS;
                self.voices.iter_mut().filter(|voice| voice.number == number).for_each(|voice| voice.number = fresh);
                self.begin_voice(fresh, now, effects);
            }
        }
    }

    pub(super) fn player_ended(&mut self, ended: &PlayerEnded, now: Now, effects: &mut Vec<ConferenceEffect>) {
        let (voice, player) = (ended.player_id / NUMBERS, ended.player_id % NUMBERS);
        self.run_voice(voice, VerbInput::PlayEnded { player, finished: ended.finished }, now, effects);
    }

    pub(super) fn document(
        &mut self,
        fetch: u32,
        outcome: FetchOutcome,
        now: Now,
        effects: &mut Vec<ConferenceEffect>,
    ) {
        let (voice, fetch) = (fetch / NUMBERS, fetch % NUMBERS);
        self.run_voice(voice, VerbInput::Document { fetch, result: outcome.result }, now, effects);
    }

    pub(super) fn audio(
        &mut self,
        ticket: u32,
        result: Result<ClipRef, AudioFailure>,
        now: Now,
        effects: &mut Vec<ConferenceEffect>,
    ) {
        let (voice, ticket) = (ticket / NUMBERS, ticket % NUMBERS);
        self.run_voice(voice, VerbInput::Audio { ticket, result }, now, effects);
    }
}

/// A number of a voice's own, as all others know it.
fn outer(voice: u32, number: u32) -> u32 {
    voice * NUMBERS + number % NUMBERS
}
