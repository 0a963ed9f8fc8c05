//! The queues of a shard: found by account and name, entered, taken from and left by calls.

use std::collections::HashMap;

use dialtone_sip::tokens::TokenMap;

use super::core::Core;
use super::neighbours::Letter;
use crate::call::{CallInput, Now, Queue, QueueEffect, QueueInput};
use crate::ids::{AccountSid, CallSid, QueueSid};
use crate::twiml::{DequeueSpec, EnqueueSpec, Taking, Waiting};

/// All queues in which somebody is.
#[derive(Default)]
pub(super) struct Queues {
    queues: TokenMap<QueueSid, (AccountSid, Queue)>,
    by_name: HashMap<(AccountSid, String), QueueSid>,
    by_call: TokenMap<CallSid, QueueSid>,
}

/// As many may wait in a queue that only takers have asked for.
const USUAL_SIZE: u32 = 1_000;

impl Queues {
    pub(super) fn is_empty(&self) -> bool {
        self.queues.is_empty() && self.by_name.is_empty() && self.by_call.is_empty()
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &(AccountSid, String)> {
        self.by_name.keys()
    }

    pub(super) fn has(&self, account: AccountSid, name: &str) -> bool {
        self.by_name.contains_key(&(account, name.to_owned()))
    }

    /// Replaces each queue by what its serialised form reads back.
    pub(super) fn restart(&mut self) -> Result<(), serde_json::Error> {
        for (_, queue) in self.queues.values_mut() {
            *queue = serde_json::from_slice(&serde_json::to_vec(queue)?)?;
        }
        Ok(())
    }
}

impl Core {
    pub(super) fn enqueue(&mut self, call: CallSid, account: AccountSid, spec: EnqueueSpec, now: Now) {
        self.be_in_queue(call, account, spec.name, spec.max_size, now);
        self.give_queue_of(call, QueueInput::Enter(call), now);
    }

    pub(super) fn dequeue(&mut self, call: CallSid, account: AccountSid, spec: DequeueSpec, now: Now) {
        self.be_in_queue(call, account, spec.name, USUAL_SIZE, now);
        self.give_queue_of(call, QueueInput::Take { by: call, whisper: spec.whisper }, now);
    }

    /// Finds or makes the queue; a call is in one at a time, and is in none.
    fn be_in_queue(&mut self, call: CallSid, account: AccountSid, name: String, max_size: u32, now: Now) {
        let made = self.settings.directory.queue(account, &name).map(|queue| (queue.sid, queue.max_size));
        let key = (account, name);
        let sid = match self.queues.by_name.get(&key) {
            Some(sid) => *sid,
            None => {
                let (mut sid, max_size) = made.unwrap_or((QueueSid::of_name(account, &key.1), max_size));
                if self.queues.queues.contains_key(&sid) {
                    // A queue that has another name by now had this one when it was made.
                    sid = QueueSid::at(now.wall_ms, self.tokens.next_u128());
                }
                self.queues.queues.insert(sid, (account, Queue::new(sid, key.1.clone(), max_size, now)));
                self.queues.by_name.insert(key, sid);
                sid
            }
        };
        if let (Some((_, max_size)), Some((_, queue))) = (made, self.queues.queues.get_mut(&sid)) {
            queue.set_max_size(max_size);
        }
        self.queues.by_call.insert(call, sid);
    }

    pub(super) fn leave_queue(&mut self, call: CallSid, now: Now) {
        if self.queues.by_call.contains_key(&call) {
            self.give_queue_of(call, QueueInput::Leave(call), now);
            self.queues.by_call.remove(&call);
            self.see_off(call);
        } else {
            self.come_back(call, Letter::Queue(QueueInput::Leave(call)));
        }
    }

    /// Gives an input to the queue that a call is in.
    pub(super) fn give_queue_of(&mut self, call: CallSid, input: QueueInput, now: Now) {
        let Some(sid) = self.queues.by_call.get(&call).copied() else { return self.write_to_queue_of(call, input) };
        let Some((account, queue)) = self.queues.queues.get_mut(&sid) else { return };
        let account = *account;
        let mut effects = Vec::new();
        queue.handle(input, now, &mut effects);
        for effect in effects {
            match effect {
                QueueEffect::TellMember { call, event } => {
                    let is_over = matches!(event, Waiting::Full(_) | Waiting::Over);
                    self.tell_call(call, CallInput::Waiting(event), None);
                    if is_over {
                        self.queues.by_call.remove(&call);
                        self.see_off(call);
                    }
                }
                QueueEffect::TellTaker { call, event } => {
                    let is_over = matches!(event, Taking::Over { .. });
                    self.tell_call(call, CallInput::Taking(event), None);
                    if is_over {
                        self.queues.by_call.remove(&call);
                        self.see_off(call);
                    }
                }
                QueueEffect::Link { member, taker } => {
                    let key = self.tokens.next_u64();
                    for (call, other) in [(member, taker), (taker, member)] {
                        let far = self.edge_of(other);
                        self.tell_call(call, CallInput::Linked { key }, far.as_ref());
                    }
                }
                QueueEffect::Part { member, taker } => {
                    [member, taker].into_iter().for_each(|call| self.tell_call(call, CallInput::Unlinked, None));
                }
                QueueEffect::Note { call, kind } => self.note(account, call, kind, now),
            }
        }
        self.forget_empty_queue(sid);
    }

    /// A queue without anybody is made anew when it is wanted, under the same sid.
    fn forget_empty_queue(&mut self, sid: QueueSid) {
        if self.queues.queues.get(&sid).is_some_and(|(_, queue)| queue.is_empty())
            && let Some((account, queue)) = self.queues.queues.remove(&sid)
        {
            self.queues.by_name.remove(&(account, queue.name().to_owned()));
            self.give_up_queue(account, queue.name());
        }
    }
}
