//! The audio of one document: what was asked for, and what has come.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::twiml::document::{Segment, SegmentPart};
use crate::twiml::port::{AudioFailure, AudioSource, ClipRef, VerbEffect};

/// Sources by ticket. Equal sources share one ticket while their document lasts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Shelf {
    entries: Vec<Entry>,
    /// Never starts again, so that late audio of a replaced document finds no entry.
    next_ticket: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Entry {
    ticket: u32,
    source: AudioSource,
    audio: Option<Result<ClipRef, AudioFailure>>,
}

impl Shelf {
    /// One whose tickets meet none of another's.
    pub fn beside(nested: u32) -> Self {
        Self { entries: Vec::new(), next_ticket: nested << 20 }
    }

    /// Orders whatever of `segment` has not been ordered yet.
    pub fn order(&mut self, segment: &Segment, effects: &mut VecDeque<VerbEffect>) {
        for part in &segment.parts {
            if let SegmentPart::Audio(source) = part
                && self.entry(source).is_none()
            {
                let ticket = self.next_ticket;
                self.next_ticket = self.next_ticket.wrapping_add(1);
                self.entries.push(Entry { ticket, source: source.clone(), audio: None });
                effects.push_back(VerbEffect::Prepare { ticket, source: source.clone() });
            }
        }
    }

    /// Takes what came for `ticket`.
    pub fn put(&mut self, ticket: u32, audio: Result<ClipRef, AudioFailure>) {
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.ticket == ticket) {
            entry.audio = Some(audio);
        }
    }

    /// What came for `source`; `None` while it is being made.
    pub fn audio(&self, source: &AudioSource) -> Option<&Result<ClipRef, AudioFailure>> {
        self.entry(source)?.audio.as_ref()
    }

    /// Everything of `segment` has come, good or bad.
    pub fn has_all(&self, segment: &Segment) -> bool {
        segment.parts.iter().all(|part| match part {
            SegmentPart::Audio(source) => self.audio(source).is_some(),
            SegmentPart::SilenceMs(_) | SegmentPart::Digits(_) | SegmentPart::Unplayable(_) => true,
        })
    }

    /// Another document begins.
    pub fn clear(&mut self) {
        self.entries.clear();
    }

    fn entry(&self, source: &AudioSource) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.source == *source)
    }
}
