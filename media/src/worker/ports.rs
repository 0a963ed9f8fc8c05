//! Which port a leg gets: of those that have rested, the one that was freed the longest ago.
//!
//! A port that was just freed may still receive the last caller's packets. It rests for 30 s while there are ports that
//! nobody has used yet; in a range that is used up, never less than 1 s. One that has rested is better than a new one:
//! its socket may still be open. A port that another program holds is as one that was just freed. Knows nothing of
//! sockets.

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::time::Mono;

/// The free even ports of a shard.
pub(super) struct PortPool {
    unused: VecDeque<u16>,
    /// In the order in which they were freed.
    freed: VecDeque<(u16, Mono)>,
    /// For legs of a worker before.
    reserved: Vec<u16>,
}

impl PortPool {
    /// Pairs whose odd port lies in the range too.
    pub fn new(ports: RangeInclusive<u16>) -> PortPool {
        let is_pair = |port: &u16| port.is_multiple_of(2) && *port != 0 && *port < *ports.end();
        PortPool { unused: ports.clone().filter(is_pair).collect(), freed: VecDeque::new(), reserved: Vec::new() }
    }

    /// Takes the first port of the range, for good.
    pub fn take_first(&mut self) -> Option<u16> {
        self.unused.pop_front()
    }

    /// How many legs still find a port, once it has rested.
    pub fn free(&self) -> usize {
        self.unused.len() + self.freed.len()
    }

    /// How many legs there are ports for, while none has any but those that are set aside.
    pub fn all(&self) -> usize {
        self.free() + self.reserved.len()
    }

    /// Takes the next port for which `bind` succeeds, with what that made.
    ///
    /// A port that cannot be bound is as one that was just freed: it is not tried again for a second.
    pub fn take<T>(&mut self, now: Mono, mut bind: impl FnMut(u16) -> Option<T>) -> Option<(u16, T)> {
        loop {
            let port = self
                .rested(LONG_REST, now)
                .or_else(|| self.unused.pop_front())
                .or_else(|| self.rested(SHORTEST_REST, now))?;
            match bind(port) {
                Some(bound) => return Some((port, bound)),
                None => self.give_back(port, now),
            }
        }
    }

    /// The ones that come next of those that nobody has used yet.
    pub fn next_unused(&self) -> impl Iterator<Item = u16> {
        self.unused.iter().copied()
    }

    /// Sets ports aside, for the legs that had them at a worker before.
    pub fn reserve(&mut self, is_reserved: impl Fn(u16) -> bool) {
        self.reserved.extend(self.unused.iter().copied().filter(|port| is_reserved(*port)));
        self.unused.retain(|port| !is_reserved(*port));
    }

    /// What was set aside and not taken, and is as any other from now on.
    pub fn release_reserved(&mut self) -> Vec<u16> {
        let released = std::mem::take(&mut self.reserved);
        self.unused.extend(&released);
        released
    }

    /// Takes that one, if it is set aside or free.
    pub fn take_this(&mut self, port: u16) -> bool {
        if let Some(at) = self.reserved.iter().position(|reserved| *reserved == port) {
            self.reserved.swap_remove(at);
            return true;
        }
        let Some(at) = self.unused.iter().position(|unused| *unused == port) else {
            let freed = self.freed.iter().position(|(freed, _)| *freed == port);
            return freed.and_then(|at| self.freed.remove(at)).is_some();
        };
        self.unused.remove(at).is_some()
    }

    /// The one that was freed the longest ago, if it has rested so long.
    fn rested(&mut self, rest: Duration, now: Mono) -> Option<u16> {
        self.freed.front().filter(|(_, freed)| now.since(*freed) >= rest)?;
        self.freed.pop_front().map(|(port, _)| port)
    }

    pub fn give_back(&mut self, port: u16, now: Mono) {
        self.freed.push_back((port, now));
    }
}

const LONG_REST: Duration = Duration::from_secs(30);
const SHORTEST_REST: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn take(pool: &mut PortPool, seconds: u64) -> Option<u16> {
        pool.take(Mono(seconds * 1_000_000), |port| (port != 4004).then_some(())).map(|(port, ())| port)
    }

    #[test]
    fn port_freed_the_longest_ago_comes_first_once_it_has_rested() {
        let mut pool = PortPool::new(4000..=4011);
        assert_eq!([0; 3].map(|_| take(&mut pool, 0)), [Some(4000), Some(4002), Some(4006)], "another holds 4004");
        pool.give_back(4002, Mono(0));
        pool.give_back(4000, Mono(1_000_000));
        assert_eq!(take(&mut pool, 29), Some(4008), "a new one while it rests");
        // The second look at the port that another program holds comes before its turn.
        let next = [take(&mut pool, 31), take(&mut pool, 31), take(&mut pool, 31)];
        assert_eq!(next, [Some(4002), Some(4000), Some(4010)]);
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
    fn reserved_port_is_for_who_had_it_until_it_is_released() {
        let mut pool = PortPool::new(4000..=4007);
        pool.reserve(|port| port < 4004);
        assert_eq!((pool.free(), pool.all()), (2, 4));
        assert_eq!(take(&mut pool, 0), Some(4006));
        assert_eq!(take(&mut pool, 0), None);
        assert!(pool.take_this(4002) && !pool.take_this(4002));
        assert_eq!(pool.release_reserved(), [4000]);
        assert_eq!(take(&mut pool, 0), Some(4000));
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
