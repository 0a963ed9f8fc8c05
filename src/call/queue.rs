//! A queue: who waits in it, who takes from it, and whom it has joined. First come, first served, on both sides.
//!
//! As a [`Call`](super::Call) it is a plain state machine. It has no media of its own: a pair that it joins is linked by the
//! shard, session to session.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Now;
use crate::events::{EventKind, QueueFact, QueueStep};
use crate::ids::{CallSid, QueueSid};
use crate::twiml::{Endpoint, QueueView, Taking, Waiting};

/// What happens to a queue.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum QueueInput {
    /// A call wants to wait.
    Enter(CallSid),
    /// A call wants to know how it stands.
    Ask(CallSid),
    /// A call wants the first, who is to hear this before.
    Take { by: CallSid, whisper: Option<Endpoint> },
    /// A member has heard what it was to hear.
    Ready(CallSid),
    /// A call neither waits nor takes any more.
    Leave(CallSid),
}

/// All that a queue can do to the world.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum QueueEffect {
    TellMember {
        call: CallSid,
        event: Waiting,
    },
    TellTaker {
        call: CallSid,
        event: Taking,
    },
    /// The two hear each other from now on.
    Link {
        member: CallSid,
        taker: CallSid,
    },
    /// No more: neither is linked.
    Part {
        member: CallSid,
        taker: CallSid,
    },
    /// A fact that stands for itself.
    Note {
        call: CallSid,
        kind: EventKind,
    },
}

/// A line of one account, known by its name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Queue {
    sid: QueueSid,
    name: String,
    max_size: u32,
    created_ms: u64,
    waiting: VecDeque<Member>,
    takers: VecDeque<Taker>,
    pairs: Vec<Pair>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Member {
    call: CallSid,
    since_ms: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Taker {
    call: CallSid,
    whisper: Option<Endpoint>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Pair {
    member: CallSid,
    taker: Taker,
    since_ms: u64,
    taken_ms: u64,
    /// `None` while the member hears its whisper.
    joined_ms: Option<u64>,
}

impl Pair {
    fn waited(&self) -> Duration {
        Duration::from_millis(self.taken_ms.saturating_sub(self.since_ms))
    }
}

impl Queue {
    pub fn new(sid: QueueSid, name: String, max_size: u32, now: Now) -> Queue {
        Queue {
            sid,
            name,
            max_size,
            created_ms: now.wall_ms,
            waiting: VecDeque::new(),
            takers: VecDeque::new(),
            pairs: Vec::new(),
        }
    }

    pub fn sid(&self) -> QueueSid {
        self.sid
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// A change from outside; those who wait stay.
    pub fn set_max_size(&mut self, max_size: u32) {
        self.max_size = max_size;
    }

    /// Nobody waits, takes, or is joined.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.takers.is_empty() && self.pairs.is_empty()
    }

    /// Who waits, in order.
    pub fn members(&self) -> impl Iterator<Item = CallSid> {
        self.waiting.iter().map(|member| member.call)
    }

    /// Takes an input; what it brings about is appended to `effects`, in order.
    pub fn handle(&mut self, input: QueueInput, now: Now, effects: &mut Vec<QueueEffect>) {
        match input {
            QueueInput::Enter(call) => self.enter(call, now, effects),
            QueueInput::Ask(call) => {
                let event = Waiting::Stands(self.view(call, now));
                effects.push(QueueEffect::TellMember { call, event });
            }
            QueueInput::Take { by, whisper } => {
                self.takers.push_back(Taker { call: by, whisper });
                self.pair_up(now, effects);
            }
            QueueInput::Ready(call) => self.join(call, now, effects),
            QueueInput::Leave(call) => self.leave(call, now, effects),
        }
    }

    fn enter(&mut self, call: CallSid, now: Now, effects: &mut Vec<QueueEffect>) {
        if self.waiting.len() >= self.max_size as usize {
            effects.push(QueueEffect::TellMember { call, event: Waiting::Full(self.view(call, now)) });
            return;
        }
        self.waiting.push_back(Member { call, since_ms: now.wall_ms });
        self.note(QueueStep::Entered, call, now.wall_ms, effects);
        effects.push(QueueEffect::TellMember { call, event: Waiting::Entered(self.view(call, now)) });
        self.pair_up(now, effects);
    }

    /// The first who waits, for the first who takes.
    fn pair_up(&mut self, now: Now, effects: &mut Vec<QueueEffect>) {
        while !self.waiting.is_empty() && !self.takers.is_empty() {
            let (Some(member), Some(taker)) = (self.waiting.pop_front(), self.takers.pop_front()) else { return };
            self.note(QueueStep::Left, member.call, member.since_ms, effects);
            let pair =
                Pair { member: member.call, taker, since_ms: member.since_ms, taken_ms: now.wall_ms, joined_ms: None };
            match pair.taker.whisper.clone() {
                Some(whisper) => {
                    let event = Waiting::Taken { by: pair.taker.call, whisper, waited: pair.waited() };
                    effects.push(QueueEffect::TellMember { call: member.call, event });
                    self.pairs.push(pair);
                }
                None => {
                    self.pairs.push(pair);
                    self.join(member.call, now, effects);
                }
            }
        }
    }

    fn join(&mut self, member: CallSid, now: Now, effects: &mut Vec<QueueEffect>) {
        let waits = |pair: &&mut Pair| pair.member == member && pair.joined_ms.is_none();
        let Some(pair) = self.pairs.iter_mut().find(waits) else { return };
        pair.joined_ms = Some(now.wall_ms);
        let (taker, waited) = (pair.taker.call, pair.waited());
        effects.push(QueueEffect::TellMember { call: member, event: Waiting::Bridged { waited } });
        effects.push(QueueEffect::TellTaker { call: taker, event: Taking::Bridged { member } });
        effects.push(QueueEffect::Link { member, taker });
    }

    fn leave(&mut self, call: CallSid, now: Now, effects: &mut Vec<QueueEffect>) {
        if let Some(at) = self.waiting.iter().position(|member| member.call == call) {
            if let Some(member) = self.waiting.remove(at) {
                self.note(QueueStep::Left, call, member.since_ms, effects);
            }
            return;
        }
        self.takers.retain(|taker| taker.call != call);
        let Some(at) = self.pairs.iter().position(|pair| pair.member == call || pair.taker.call == call) else {
            return;
        };
        let pair = self.pairs.remove(at);
        let (member, taker) = (pair.member, pair.taker.call);
        if let Some(joined_ms) = pair.joined_ms {
            let duration = Duration::from_millis(now.wall_ms.saturating_sub(joined_ms));
            effects.push(QueueEffect::Part { member, taker });
            effects.push(QueueEffect::TellTaker { call: taker, event: Taking::Over { member, duration } });
            if call == taker {
                effects.push(QueueEffect::TellMember { call: member, event: Waiting::Over });
            }
        } else if call == taker {
            // It heard its whisper for nothing: it is the first again.
            self.waiting.push_front(Member { call: member, since_ms: pair.since_ms });
            self.note(QueueStep::Entered, member, pair.since_ms, effects);
            effects.push(QueueEffect::TellMember { call: member, event: Waiting::Entered(self.view(member, now)) });
            self.pair_up(now, effects);
        } else {
            // The member is gone before it was joined: the next is taken.
            self.takers.push_front(pair.taker);
            self.pair_up(now, effects);
        }
    }

    fn view(&self, call: CallSid, now: Now) -> QueueView {
        let at = self.waiting.iter().position(|member| member.call == call);
        let taken = self.pairs.iter().find(|pair| pair.member == call).map(|pair| pair.since_ms);
        let all_ms: u64 = self.waiting.iter().map(|member| now.wall_ms.saturating_sub(member.since_ms)).sum();
        QueueView {
            sid: self.sid,
            position: at.map_or(0, |at| at as u32 + 1),
            size: self.waiting.len() as u32,
            since_ms: at.map(|at| self.waiting[at].since_ms).or(taken).unwrap_or(now.wall_ms),
            average_wait: Duration::from_millis(all_ms.checked_div(self.waiting.len() as u64).unwrap_or(0)),
        }
    }

    fn note(&self, step: QueueStep, call: CallSid, since_ms: u64, effects: &mut Vec<QueueEffect>) {
        let fact = QueueFact {
            sid: self.sid,
            name: self.name.clone(),
            max_size: self.max_size,
            created_ms: self.created_ms,
            step,
            since_ms,
        };
        effects.push(QueueEffect::Note { call, kind: EventKind::Queue(Box::new(fact)) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dialtone_sip::time::Mono;

    struct Line(Queue, u64);

    impl Line {
        fn new(max_size: u32) -> Line {
            Line(Queue::new(QueueSid::new(1), "support".into(), max_size, at(0)), 0)
        }

        /// A second later: what the calls are told, and who is linked.
        fn give(&mut self, input: QueueInput) -> Vec<String> {
            self.1 += 1_000;
            let mut effects = Vec::new();
            self.0 = serde_json::from_slice(&serde_json::to_vec(&self.0).unwrap()).unwrap();
            self.0.handle(input, at(self.1), &mut effects);
            effects.iter().filter_map(|effect| show(effect, self.1)).collect()
        }
    }

    fn at(wall_ms: u64) -> Now {
        Now { mono: Mono(wall_ms * 1000), wall_ms }
    }

    fn show(effect: &QueueEffect, now_ms: u64) -> Option<String> {
        Some(match effect {
            QueueEffect::TellMember { call, event } => format!(
                "{:x}: {}",
                call.bits(),
                match event {
                    Waiting::Entered(view) => format!("entered {}/{}", view.position, view.size),
                    Waiting::Stands(view) => format!(
                        "{}/{} {}s ~{}s",
                        view.position,
                        view.size,
                        Duration::from_millis(now_ms - view.since_ms).as_secs(),
                        view.average_wait.as_secs()
                    ),
                    Waiting::Full(view) => format!("full {}", view.size),
                    Waiting::Taken { by, waited, .. } =>
                        format!("taken by {:x} after {}s", by.bits(), waited.as_secs()),
                    Waiting::Bridged { waited } => format!("bridged after {}s", waited.as_secs()),
                    Waiting::Over => "over".into(),
                }
            ),
            QueueEffect::TellTaker { call, event: Taking::Bridged { member } } => {
                format!("{:x}: has {:x}", call.bits(), member.bits())
            }
            QueueEffect::TellTaker { call, event: Taking::Over { duration, .. } } => {
                format!("{:x}: over after {}s", call.bits(), duration.as_secs())
            }
            QueueEffect::Link { member, taker } => format!("link {:x} {:x}", member.bits(), taker.bits()),
            QueueEffect::Part { member, taker } => format!("part {:x} {:x}", member.bits(), taker.bits()),
            QueueEffect::Note { .. } => return None,
        })
    }

    fn enter(call: u128) -> QueueInput {
        QueueInput::Enter(CallSid::new(call))
    }

    fn take(by: u128) -> QueueInput {
        QueueInput::Take { by: CallSid::new(by), whisper: None }
    }

    fn leave(call: u128) -> QueueInput {
        QueueInput::Leave(CallSid::new(call))
    }

    #[test]
    fn first_come_is_first_served_on_both_sides() {
        let mut line = Line::new(10);
        assert_eq!(line.give(enter(1)), ["1: entered 1/1"]);
        assert_eq!(line.give(enter(2)), ["2: entered 2/2"]);
        assert_eq!(line.give(take(0xa)), ["1: bridged after 2s", "a: has 1", "link 1 a"]);
        assert_eq!(line.give(QueueInput::Ask(CallSid::new(2))), ["2: 1/1 2s ~2s"]);
        assert_eq!(line.give(take(0xb)), ["2: bridged after 3s", "b: has 2", "link 2 b"]);
        assert_eq!(line.give(take(0xc)), [""; 0], "nobody waits: it does");
        assert_eq!(line.give(take(0xd)), [""; 0]);
        assert_eq!(line.give(enter(3)), ["3: entered 1/1", "3: bridged after 0s", "c: has 3", "link 3 c"]);
        assert_eq!(line.give(leave(0xd)), [""; 0]);
        assert_eq!(line.give(enter(4)), ["4: entered 1/1"], "nobody takes any more");
    }

    #[test]
    fn either_side_may_end_it() {
        let mut line = Line::new(10);
        line.give(enter(1));
        line.give(take(0xa));
        assert_eq!(line.give(leave(0xa)), ["part 1 a", "a: over after 1s", "1: over"]);
        line.give(enter(2));
        line.give(take(0xb));
        assert_eq!(line.give(leave(2)), ["part 2 b", "b: over after 1s"]);
        assert!(line.0.is_empty());
        assert_eq!(line.give(leave(2)), [""; 0]);
    }

    #[test]
    fn full_is_full_and_who_leaves_makes_room() {
        let mut line = Line::new(1);
        line.give(enter(1));
        assert_eq!(line.give(enter(2)), ["2: full 1"]);
        line.give(leave(1));
        assert_eq!(line.give(enter(2)), ["2: entered 1/1"]);
    }

    #[test]
    fn whisper_is_heard_before_and_nobody_is_lost_when_one_side_goes_meanwhile() {
        let whisper = || Some(Endpoint { url: "http://app/w".into(), method: crate::twiml::Method::Post });
        let mut line = Line::new(10);
        line.give(enter(1));
        line.give(enter(2));
        let taken = line.give(QueueInput::Take { by: CallSid::new(0xa), whisper: whisper() });
        assert_eq!(taken, ["1: taken by a after 2s"]);
        assert_eq!(line.give(leave(0xa)), ["1: entered 1/2"], "before the other, as it was");
        line.give(QueueInput::Take { by: CallSid::new(0xb), whisper: whisper() });
        assert_eq!(line.give(leave(1)), ["2: taken by b after 4s"], "and hears the whisper that the other heard");
        let joined = line.give(QueueInput::Ready(CallSid::new(2)));
        assert_eq!(joined, ["2: bridged after 4s", "b: has 2", "link 2 b"], "the whisper is no waiting");
        line.give(enter(3));
        line.give(QueueInput::Take { by: CallSid::new(0xc), whisper: whisper() });
        let joined = line.give(QueueInput::Ready(CallSid::new(3)));
        assert_eq!(joined, ["3: bridged after 1s", "c: has 3", "link 3 c"]);
        assert_eq!(line.give(QueueInput::Ready(CallSid::new(3))), [""; 0], "once");
    }
}
