//! The workers of this edge, for whoever looks: commands, metrics, the API.

use std::sync::Arc;

use arc_swap::ArcSwap;
use dialtone_media::proto::{LoadReport, Totals};
use dialtone_media::worker::Meter;

use super::pool::State;

/// A worker as it is seen from here.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Of its machine, and which of its processes.
    pub name: String,
    pub pid: u32,
    /// Where its media is.
    pub address: String,
    pub state: State,
    /// As it last said.
    pub load: LoadReport,
}

/// Always of now. Clones are the same.
#[derive(Clone)]
pub struct Roster(Source);

#[derive(Clone)]
enum Source {
    /// The worker of this process.
    Here {
        meter: Meter,
        address: String,
    },
    Linked(Arc<ArcSwap<(Vec<Seen>, Totals)>>),
}

impl Roster {
    pub(super) fn here(meter: Meter, address: String) -> Roster {
        Roster(Source::Here { meter, address })
    }

    pub(super) fn linked() -> Roster {
        Roster(Source::Linked(Arc::default()))
    }

    pub(super) fn set(&self, workers: Vec<Seen>, totals: Totals) {
        if let Source::Linked(seen) = &self.0 {
            seen.store(Arc::new((workers, totals)));
        }
    }

    /// What all of them have counted, those too that are gone.
    pub fn totals(&self) -> Totals {
        match &self.0 {
            Source::Here { meter, .. } => meter.counters().totals(),
            Source::Linked(seen) => seen.load().1.clone(),
        }
    }

    pub fn workers(&self) -> Vec<Seen> {
        match &self.0 {
            Source::Here { meter, address } => vec![Seen {
                name: "here".to_owned(),
                pid: std::process::id(),
                address: address.clone(),
                state: State::Active,
                load: meter.load(),
            }],
            Source::Linked(seen) => seen.load().0.clone(),
        }
    }
}

/// Adds what a worker has counted.
pub(super) fn add(all: &mut Totals, totals: &Totals) {
    all.packets_in += totals.packets_in;
    all.packets_out += totals.packets_out;
    all.bytes_in += totals.bytes_in;
    all.bytes_out += totals.bytes_out;
    all.lost += totals.lost;
    all.late += totals.late;
    all.panics += totals.panics;
    all.tick_lateness_sum_us += totals.tick_lateness_sum_us;
    add_each(&mut all.tick_lateness, &totals.tick_lateness);
    add_each(&mut all.dropped, &totals.dropped);
    add_each(&mut all.legs_by_codec, &totals.legs_by_codec);
}

fn add_each(all: &mut Vec<u64>, counts: &[u64]) {
    all.resize(all.len().max(counts.len()), 0);
    all.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
}
