//! `<Say>` and `<Play>`: play one segment, and end with it.

use serde::{Deserialize, Serialize};

use crate::twiml::document::Segment;
use crate::twiml::playlist::{Playlist, Progress};
use crate::twiml::port::{Precondition, VerbInput};
use crate::twiml::verbs::{Context, Machine, Step};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(in crate::twiml) struct Player {
    playlist: Playlist,
}

impl Player {
    pub fn new(segments: Vec<Segment>) -> Self {
        Self { playlist: Playlist::new(segments) }
    }
}

impl Machine for Player {
    fn precondition(&self) -> Precondition {
        Precondition::MediaReady
    }

    fn start(&mut self, context: &mut Context<'_>) -> Step {
        step(self.playlist.advance(context))
    }

    fn handle(&mut self, input: &VerbInput, context: &mut Context<'_>) -> Step {
        match input {
            VerbInput::Audio { .. } => step(self.playlist.advance(context)),
            VerbInput::PlayEnded { player, finished } => step(self.playlist.play_ended(*player, *finished, context)),
            _ => Step::Running,
        }
    }

    fn cancel(&mut self, context: &mut Context<'_>) {
        self.playlist.stop(context);
    }
}

fn step(progress: Progress) -> Step {
    match progress {
        Progress::Going => Step::Running,
        Progress::Ended => Step::Next,
    }
}
