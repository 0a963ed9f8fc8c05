//! Plays segments one after another as their audio comes: the common part of `<Say>`, `<Play>` and `<Gather>`.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::twiml::document::{Segment, SegmentPart};
use crate::twiml::notice::{Notice, code};
use crate::twiml::port::{AudioFailure, ClipRef, PlayPart, VerbEffect, VerbName};
use crate::twiml::verbs::Context;

/// Segments whose audio is made ahead of the one that plays.
pub(super) const SEGMENTS_AHEAD: usize = 4;

/// What is still to be played, and the player that is at it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Playlist {
    waiting: VecDeque<Segment>,
    player: Option<u32>,
}

/// Where a playlist stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// A player is at work, or audio is on its way.
    Going,
    Ended,
}

impl Playlist {
    pub fn new(segments: Vec<Segment>) -> Self {
        Self { waiting: segments.into(), player: None }
    }

    /// Starts, or goes on when audio has come.
    ///
    /// Segments that are ready and play once go to the player together; one that is repeated goes alone. Audio that
    /// could not be had is remarked on and passed over.
    pub fn advance(&mut self, context: &mut Context<'_>) -> Progress {
        if self.player.is_some() {
            return Progress::Going;
        }
        loop {
            for segment in self.waiting.iter().take(SEGMENTS_AHEAD) {
                context.order(segment);
            }
            let Some(first) = self.take_ready(context) else {
                return if self.waiting.is_empty() { Progress::Ended } else { Progress::Going };
            };
            let mut batch = Batch::default();
            batch.add(&first, context);
            while first.loops == 1 && self.waiting.front().is_some_and(|next| next.loops == 1) {
                let Some(next) = self.take_ready(context) else { break };
                batch.add(&next, context);
            }
            // An endless loop over nothing would never end and never be heard.
            if batch.has_sound {
                let player = context.next_player();
                self.player = Some(player);
                context.push(VerbEffect::Play { player, items: batch.items, loops: first.loops });
                return Progress::Going;
            }
        }
    }

    /// A player has ended; another's number changes nothing.
    pub fn play_ended(&mut self, player: u32, finished: bool, context: &mut Context<'_>) -> Progress {
        if self.player != Some(player) {
            return Progress::Going;
        }
        self.player = None;
        if !finished {
            context.notify(Notice::warning(code::INTERNAL, "the media worker could not play the audio to its end"));
        }
        self.advance(context)
    }

    /// Nothing more is played.
    pub fn stop(&mut self, context: &mut Context<'_>) {
        self.waiting.clear();
        if self.player.take().is_some() {
            context.push(VerbEffect::StopPlay);
        }
    }

    fn take_ready(&mut self, context: &Context<'_>) -> Option<Segment> {
        self.waiting.pop_front_if(|segment| context.has_all(segment))
    }
}

/// What goes to the player in one effect.
#[derive(Default)]
struct Batch {
    items: Vec<PlayPart>,
    has_sound: bool,
}

impl Batch {
    fn add(&mut self, segment: &Segment, context: &mut Context<'_>) {
        for part in &segment.parts {
            match part {
                SegmentPart::Audio(source) => match context.audio(source) {
                    Some(Ok(ClipRef { hash, duration_ms })) => {
                        self.has_sound |= duration_ms > 0;
                        self.items.push(PlayPart::Clip(hash));
                    }
                    Some(Err(failure)) => context.notify(remark(segment.verb, failure)),
                    None => {}
                },
                SegmentPart::SilenceMs(length) => {
                    self.has_sound |= *length > 0;
                    self.items.push(PlayPart::SilenceMs(*length));
                }
                SegmentPart::Digits(digits) => {
                    self.has_sound = true;
                    self.items.push(PlayPart::Digits(digits.clone()));
                }
                SegmentPart::Unplayable(text) => {
                    let what = if text.is_empty() { "Play without a url" } else { "Play of what is no url" };
                    context.notify(Notice::warning(code::INVALID_URL, what).about(text.clone()));
                }
            }
        }
    }
}

fn remark(verb: VerbName, failure: AudioFailure) -> Notice {
    Notice::warning(failure.code, format!("{}: {}", verb.as_str(), failure.text))
}
