//! When to wake which session: a heap of deadlines, in which an outdated one is found out when it comes up.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::time::Mono;

/// Names a session's place, and which of the sessions that had that place it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Place {
    pub index: usize,
    pub generation: u64,
}

/// The deadlines of a shard.
#[derive(Default)]
pub(super) struct Timers {
    heap: BinaryHeap<Reverse<(Mono, Place)>>,
}

impl Timers {
    pub fn set(&mut self, at: Mono, place: Place) {
        self.heap.push(Reverse((at, place)));
    }

    /// The earliest, with whose it is.
    pub fn first(&self) -> Option<(Mono, Place)> {
        self.heap.peek().map(|Reverse(first)| *first)
    }

    pub fn drop_first(&mut self) {
        self.heap.pop();
    }
}
