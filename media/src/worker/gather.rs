//! Where many packets come, a shard rests before it looks again, so that one wake-up takes several of them.
//!
//! A thread that sleeps until the next packet is woken for nearly each of them, where the machine has a processor for it:
//! that costs more than all that is done with the packet. And nobody hears half a millisecond.

use std::time::Duration;

use crate::time::Mono;

/// How fast packets come to a shard, and until when they gather.
#[derive(Debug, Default)]
pub(super) struct Gather {
    /// From then on they are counted.
    since: Mono,
    packets: u64,
    are_many: bool,
    turned: Mono,
}

impl Gather {
    /// So many packets were taken in the turn that began then.
    pub fn taken(&mut self, packets: u64, now: Mono) {
        self.turned = now;
        self.packets += packets;
        let counted = now.since(self.since);
        if counted >= COUNTED {
            self.are_many = u128::from(self.packets) * 1_000_000 >= MANY_PER_SECOND * counted.as_micros();
            (self.since, self.packets) = (now, 0);
        }
    }

    /// How long the shard may rest before its next turn: not at all where its last one took as long as that.
    pub fn rest(&self, now: Mono) -> Option<Duration> {
        let rest = REST.saturating_sub(now.since(self.turned));
        (self.are_many && !rest.is_zero()).then_some(rest)
    }
}

/// Those of a hundred relayed calls. With fewer there is less to gather, and the time that a packet takes is worth more.
const MANY_PER_SECOND: u128 = 10_000;
/// From one turn to the next.
const REST: Duration = Duration::from_micros(500);
/// The rate is of this time: that of a telephone's packet.
const COUNTED: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;

    /// After turns that took so many packets each, so far apart.
    fn after(turns: u64, packets: u64, apart_us: u64) -> (Gather, Mono) {
        let mut gather = Gather::default();
        let mut now = Mono(5_000_000);
        for _ in 0..turns {
            gather.taken(packets, now);
            now = Mono(now.0 + apart_us);
        }
        (gather, now)
    }

    fn rests_us(gather: &Gather, now: Mono) -> Option<u128> {
        gather.rest(now).map(|rest| rest.as_micros())
    }

    #[test]
    fn many_packets_gather_for_half_a_millisecond_from_turn_to_turn() {
        let (mut gather, now) = after(1000, 1, 100);
        gather.taken(1, now);
        assert_eq!(rests_us(&gather, now), Some(500));
        assert_eq!(rests_us(&gather, now + Duration::from_micros(200)), Some(300), "the turn itself took 200");
        assert_eq!(rests_us(&gather, now + Duration::from_micros(500)), None, "it is due");
    }

    #[test]
    fn few_packets_are_taken_as_they_come() {
        let (mut gather, now) = after(1000, 1, 101);
        gather.taken(1, now);
        assert_eq!(rests_us(&gather, now), None);
    }

    #[test]
    fn gathered_packets_are_as_many_as_they_were() {
        let (mut gather, now) = after(200, 5, 500);
        gather.taken(5, now);
        assert_eq!(rests_us(&gather, now), Some(500));
    }

    #[test]
    fn those_that_have_become_few_gather_no_more() {
        let (mut gather, now) = after(1000, 1, 100);
        let later = now + Duration::from_millis(30);
        gather.taken(1, later);
        assert_eq!(rests_us(&gather, later), None);
    }
}
