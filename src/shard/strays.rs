//! Requests of calls whose edge is lost: they wait until it is known who goes on with those.
//!
//! Whoever is told that there is no such call (481) takes it for over, and it is not: another edge takes it up in a few seconds.

use std::collections::VecDeque;

use dialtone_sip::flow::Flow;
use dialtone_sip::msg::Message;
use dialtone_sip::time::Mono;

/// Requests that wait at once; one more is told that there is no such call.
const MOST: usize = 1_024;
/// Longer than it takes to know that an edge is dead and to take up its calls.
const PATIENCE_US: u64 = 10_000_000;

/// Those of a shard, in the order in which they came.
#[derive(Default)]
pub(super) struct Strays {
    waiting: VecDeque<Stray>,
}

pub(super) struct Stray {
    pub(super) slot: u16,
    pub(super) flow: Flow,
    pub(super) request: Message,
    until: Mono,
}

impl Strays {
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Keeps a request; gives it back where too many wait.
    pub(super) fn keep(&mut self, slot: u16, flow: Flow, request: Message, now: Mono) -> Option<Message> {
        if self.waiting.len() >= MOST {
            return Some(request);
        }
        self.waiting.push_back(Stray { slot, flow, request, until: Mono(now.0 + PATIENCE_US) });
        None
    }

    /// Those that need not wait any more: of slots that somebody has again, or never will.
    pub(super) fn take(&mut self, is_lost: impl Fn(u16) -> bool, now: Mono) -> VecDeque<Stray> {
        let waits = |stray: &Stray| is_lost(stray.slot) && now < stray.until;
        let ready;
        (self.waiting, ready) = self.waiting.drain(..).partition(waits);
        ready
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use dialtone_sip::flow::Transport;

    use super::*;

    fn flow() -> Flow {
        let [local, remote] = ["192.0.2.1:5060", "192.0.2.2:5060"].map(|address| address.parse().unwrap());
        Flow { transport: Transport::Udp, local, remote, connection: None }
    }

    fn request(number: u32) -> Message {
        Message::parse(Bytes::from(format!("BYE sip:b SIP/2.0\r\nCSeq: {number} BYE\r\n\r\n"))).unwrap()
    }

    fn numbers(taken: VecDeque<Stray>) -> Vec<u32> {
        taken.iter().map(|stray| stray.request.cseq().unwrap().0).collect()
    }

    #[test]
    fn request_waits_until_somebody_has_its_call_or_nobody_will() {
        let mut strays = Strays::default();
        for (slot, number) in [(7, 1), (8, 2), (7, 3)] {
            assert!(strays.keep(slot, flow(), request(number), Mono(u64::from(number))).is_none());
        }
        assert!(strays.take(|_| true, Mono(PATIENCE_US)).is_empty());
        assert_eq!(numbers(strays.take(|slot| slot != 7, Mono(PATIENCE_US))), [1, 3], "in their order");
        assert!(!strays.is_empty());
        assert_eq!(numbers(strays.take(|_| true, Mono(PATIENCE_US + 2))), [2]);
        assert!(strays.is_empty());
    }

    #[test]
    fn one_more_than_may_wait_is_given_back() {
        let mut strays = Strays::default();
        assert!((0..MOST).all(|_| strays.keep(7, flow(), request(1), Mono(0)).is_none()));
        assert!(strays.keep(7, flow(), request(2), Mono(0)).is_some());
    }
}
