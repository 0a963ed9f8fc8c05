//! `<Gather>`: collects digits while its prompts play and a while after.
//!
//! The first digit silences the prompts. The timeout runs from the end of the prompts, and anew from each digit.
//! Digits are asked for only once the verb has started: what was typed before is nobody's.

use serde::{Deserialize, Serialize};

use crate::twiml::document::{GatherSpec, Segment};
use crate::twiml::notice::{Notice, code};
use crate::twiml::playlist::{Playlist, Progress};
use crate::twiml::port::{FetchReason, Precondition, VerbInput};
use crate::twiml::verbs::{Context, Machine, Step, Transfer};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(in crate::twiml) struct Gather {
    spec: GatherSpec,
    playlist: Playlist,
    phase: Phase,
    digits: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Phase {
    /// Prompts play or are on their way; no timer runs.
    Prompting,
    /// The timer runs.
    Listening,
    /// The timer has run out.
    Over,
}

impl Gather {
    pub fn new(mut spec: GatherSpec, segments: Vec<Segment>) -> Self {
        // They live on as segments.
        spec.prompts = Vec::new();
        Self { spec, playlist: Playlist::new(segments), phase: Phase::Prompting, digits: String::new() }
    }

    fn prompted(&mut self, progress: Progress, context: &mut Context<'_>) -> Step {
        if self.phase == Phase::Prompting && progress == Progress::Ended {
            self.listen(context);
        }
        Step::Running
    }

    fn listen(&mut self, context: &mut Context<'_>) {
        self.phase = Phase::Listening;
        context.set_timer(self.spec.timeout);
    }

    fn digit(&mut self, digit: char, context: &mut Context<'_>) -> Step {
        if !self.spec.dtmf || !matches!(digit, '0'..='9' | '*' | '#') {
            return Step::Running;
        }
        self.playlist.stop(context);
        if self.spec.finish_on_key == Some(digit) {
            return self.finish(Some(digit), context);
        }
        self.digits.push(digit);
        if self.digits.len() as u64 >= u64::from(self.spec.num_digits) {
            return self.finish(None, context);
        }
        self.listen(context);
        Step::Running
    }

    /// The input is over: by a key, by its length, or by silence.
    fn finish(&mut self, key: Option<char>, context: &mut Context<'_>) -> Step {
        if self.phase == Phase::Listening {
            context.clear_timer();
        }
        if self.digits.is_empty() && !self.spec.action_on_empty_result {
            return Step::Next;
        }
        let Some(link) = self.spec.action.clone() else {
            let text = "Gather without an action in a document that has no url: its input is lost";
            context.notify(Notice::warning(code::INVALID_URL, text));
            return Step::Next;
        };
        let digits = std::mem::take(&mut self.digits);
        let key = key.map(String::from).unwrap_or_default();
        let params = vec![("Digits".to_owned(), digits), ("FinishedOnKey".to_owned(), key)];
        Step::Transfer(Transfer { link, method: self.spec.method, params, reason: FetchReason::Action })
    }
}

impl Machine for Gather {
    fn precondition(&self) -> Precondition {
        Precondition::MediaReady
    }

    fn start(&mut self, context: &mut Context<'_>) -> Step {
        let progress = self.playlist.advance(context);
        self.prompted(progress, context)
    }

    fn handle(&mut self, input: &VerbInput, context: &mut Context<'_>) -> Step {
        match input {
            VerbInput::Audio { .. } if self.phase == Phase::Prompting => {
                let progress = self.playlist.advance(context);
                self.prompted(progress, context)
            }
            VerbInput::PlayEnded { player, finished } => {
                let progress = self.playlist.play_ended(*player, *finished, context);
                self.prompted(progress, context)
            }
            VerbInput::Digit(digit) => self.digit(*digit, context),
            VerbInput::Timer if self.phase == Phase::Listening => {
                self.phase = Phase::Over;
                self.finish(None, context)
            }
            _ => Step::Running,
        }
    }

    fn cancel(&mut self, context: &mut Context<'_>) {
        self.playlist.stop(context);
        if self.phase == Phase::Listening {
            context.clear_timer();
        }
    }
}
