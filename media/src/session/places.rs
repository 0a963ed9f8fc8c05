//! Where a session's legs and links are, so that a packet of one member of a large conference does not look for its leg
//! among all of them.
//!
//! In a small session looking is as fast, and nothing is kept.

use crate::ids::{LegId, LinkKey};

use super::Session;
use super::slot::{Hearing, Slot};

/// Legs and links by name, as they were after the last command: a place is a hint, and looked at before it is used.
#[derive(Default)]
pub(super) struct Places {
    legs: Vec<(LegId, usize)>,
    links: Vec<(LinkKey, usize)>,
}

impl Places {
    fn of(slots: &[Slot]) -> Places {
        let mut places = Places::default();
        if slots.len() > FEW {
            let links = slots.iter().enumerate().filter_map(|(index, slot)| Some((slot.kind.link()?, index)));
            places.legs = slots.iter().enumerate().map(|(index, slot)| (slot.id, index)).collect();
            places.links = links.collect();
            places.legs.sort_unstable();
            places.links.sort_unstable();
        }
        places
    }
}

impl Session {
    /// Legs came, went, or hear something else.
    pub(super) fn rewire(&mut self) {
        self.places = Places::of(&self.slots);
        self.slots.iter_mut().for_each(|slot| slot.is_heard = false);
        for index in 0..self.slots.len() {
            if let Hearing::Leg(source) = self.slots[index].hears
                && let Some(source) = self.index_of(source)
            {
                self.slots[source].is_heard = true;
            }
        }
    }

    pub(super) fn index_of(&self, id: LegId) -> Option<usize> {
        find(&self.slots, &self.places.legs, id, |slot| slot.id == id)
    }

    pub(super) fn index_of_link(&self, link: LinkKey) -> Option<usize> {
        find(&self.slots, &self.places.links, link, |slot| slot.kind.link() == Some(link))
    }
}

fn find<N: Ord + Copy>(slots: &[Slot], places: &[(N, usize)], name: N, is_it: impl Fn(&Slot) -> bool) -> Option<usize> {
    if !places.is_empty()
        && let Ok(at) = places.binary_search_by_key(&name, |(name, _)| *name)
        && slots.get(places[at].1).is_some_and(&is_it)
    {
        return Some(places[at].1);
    }
    slots.iter().position(is_it)
}

const FEW: usize = 8;
