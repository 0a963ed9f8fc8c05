//! Which port a leg gets: the one that has been free the longest.
//!
//! A port that was just freed may still receive the last caller's packets. It goes to the end of the queue, so
//! that in a range that is not nearly used up it rests for minutes; in one that is, never less than 1 s. A port
//! that another program holds goes to the end as well. Knows nothing of sockets.

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::time::Mono;

/// The free even ports of a shard, in the order in which they were freed.
pub(super) struct PortPool {
    free: VecDeque<(u16, Option<Mono>)>,
}

impl PortPool {
    /// Pairs whose odd port lies in the range too.
    pub fn new(ports: RangeInclusive<u16>) -> PortPool {
        let is_pair = |port: &u16| port.is_multiple_of(2) && *port != 0 && *port < *ports.end();
        PortPool { free: ports.clone().filter(is_pair).map(|port| (port, None)).collect() }
    }

    /// How many legs still find a port, once it has rested.
    pub fn free(&self) -> usize {
        self.free.len()
    }

    /// Takes the next port for which `bind` succeeds, with what that made.
    ///
    /// A port that cannot be bound is as one that was just freed: it is not tried again for a second.
    pub fn take<T>(&mut self, now: Mono, mut bind: impl FnMut(u16) -> Option<T>) -> Option<(u16, T)> {
        loop {
            let (port, freed) = *self.free.front()?;
            if freed.is_some_and(|at| now.since(at) < SHORTEST_REST) {
                // Those behind it were freed later still.
                return None;
            }
            self.free.pop_front();
            match bind(port) {
                Some(bound) => return Some((port, bound)),
                None => self.give_back(port, now),
            }
        }
    }

    pub fn give_back(&mut self, port: u16, now: Mono) {
        self.free.push_back((port, Some(now)));
    }
}

const SHORTEST_REST: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn take(pool: &mut PortPool, seconds: u64) -> Option<u16> {
        pool.take(Mono(seconds * 1_000_000), |port| (port != 4004).then_some(())).map(|(port, ())| port)
    }

    #[test]
    fn port_freed_the_longest_ago_comes_first() {
        let mut pool = PortPool::new(4000..=4009);
        assert_eq!([0; 3].map(|_| take(&mut pool, 0)), [Some(4000), Some(4002), Some(4006)]);
        pool.give_back(4002, Mono(0));
        pool.give_back(4000, Mono(1));
        let next = [take(&mut pool, 60), take(&mut pool, 60), take(&mut pool, 60)];
        assert_eq!(next, [Some(4008), Some(4002), Some(4000)], "4004 is held by another program");
    }

    #[test]
    fn port_rests_for_a_second_even_where_none_other_is_left() {
        let mut pool = PortPool::new(4000..=4001);
        assert_eq!(take(&mut pool, 0), Some(4000));
        assert_eq!(take(&mut pool, 0), None);
        pool.give_back(4000, Mono(10_000_000));
        assert_eq!(take(&mut pool, 10), None);
        assert_eq!(take(&mut pool, 11), Some(4000));
    }

    #[test]
    fn range_is_cut_to_whole_pairs() {
        for (range, pairs) in
            [(4000..=4003, 2), (4001..=4003, 1), (4000..=4002, 1), (4000..=4000, 0), (65_534..=65_535, 1), (0..=3, 1)]
        {
            assert_eq!(PortPool::new(range.clone()).free(), pairs, "{range:?}");
        }
    }

    #[test]
    fn threat_19_range_that_another_program_holds_ends_the_search() {
        let mut pool = PortPool::new(4000..=4999);
        let mut tried = 0;
        assert!(
            pool.take(Mono(0), |_| {
                tried += 1;
                None::<()>
            })
            .is_none()
        );
        assert_eq!((tried, pool.free()), (500, 500));
    }
}
