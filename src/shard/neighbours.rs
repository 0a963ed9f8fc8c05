//! Rooms that have members at several edges: a conference or a queue is at one of them, and calls of others are its guests.
//!
//! Which edge has a room is found by its name, in the store that the edges share; whoever asks first has it. What a call and its room say to
//! each other goes by letters between their edges. Their media goes from worker to worker, whichever edges these sessions
//! are of: the ends of such a link tell each other where they are.

use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};

use super::core::{Core, Output};
use crate::call::{CallInput, Now, QueueInput};
use crate::edges::EdgeId;
use crate::ids::{AccountSid, CallSid};
use crate::twiml::{ConferenceSpec, DequeueSpec, EnqueueSpec, Membership, Taking, Waiting};
use crate::workers::LinkEnd;

/// What a call wants of a room, wherever that is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Wish {
    pub call: CallSid,
    pub account: AccountSid,
    /// The edge that has the call; `None` at that edge itself.
    pub edge: Option<EdgeId>,
    pub what: What,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum What {
    Join(Box<ConferenceSpec>),
    Enqueue(EnqueueSpec),
    Dequeue(DequeueSpec),
}

/// What edges tell each other of rooms and their guests.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Letter {
    /// To the edge that has the room.
    Wish(Wish),
    LeaveConference {
        call: CallSid,
        hung_up: bool,
    },
    /// The queue that a call is in is asked, told that its member is ready, or left.
    Queue(QueueInput),
    /// To the edge that has the call. `far` has the other end of its link, where the input is about one.
    Tell {
        call: CallSid,
        input: Box<CallInput>,
        far: Option<EdgeId>,
    },
    /// When two edges are linked again: the calls that are in rooms over there, as far as this edge knows.
    Present(Vec<CallSid>),
    /// And the calls from over there that are in rooms here.
    Hosted(Vec<CallSid>),
    /// To the edge that has the other end of a link.
    LinkEnd {
        key: u64,
        end: LinkEnd,
    },
}

/// The rooms' neighbours.
#[derive(Default)]
pub(super) struct Neighbours {
    /// Calls of other edges that are in rooms here.
    guests: HashMap<CallSid, EdgeId>,
    /// Calls here that are in rooms of other edges, and whether that is a conference.
    abroad: HashMap<CallSid, (EdgeId, bool)>,
    /// Whose wish waits until it is known where its room is.
    seeking: HashSet<CallSid>,
}

impl Neighbours {
    pub(super) fn is_empty(&self) -> bool {
        self.guests.is_empty() && self.abroad.is_empty() && self.seeking.is_empty()
    }
}

impl Wish {
    /// Names the room among all that there are.
    pub fn room(&self) -> String {
        match &self.what {
            What::Join(spec) => conference_name(self.account, &spec.name),
            What::Enqueue(EnqueueSpec { name, .. }) | What::Dequeue(DequeueSpec { name, .. }) => {
                queue_name(self.account, name)
            }
        }
    }

    fn is_of_conference(&self) -> bool {
        matches!(self.what, What::Join(_))
    }
}

fn conference_name(account: AccountSid, name: &str) -> String {
    format!("conference {account} {name}")
}

fn queue_name(account: AccountSid, name: &str) -> String {
    format!("queue {account} {name}")
}

impl Core {
    /// The rooms that are here, by the names that all edges know them by.
    pub fn room_names(&self) -> Vec<String> {
        let conferences = self.rooms.names().map(|(account, name)| conference_name(*account, name));
        let queues = self.queues.names().map(|(account, name)| queue_name(*account, name));
        conferences.chain(queues).collect()
    }

    /// A call here wants something of a room.
    pub(super) fn wish(&mut self, call: CallSid, account: AccountSid, what: What, now: Now) {
        self.leave_conference(call, false, now);
        self.leave_queue(call, now);
        self.place_wish(Wish { call, account, edge: None, what }, now);
    }

    /// A room that is here takes it; else it is asked where that is.
    fn place_wish(&mut self, wish: Wish, now: Now) {
        let is_here = match &wish.what {
            What::Join(spec) => self.rooms.has(wish.account, &spec.name),
            What::Enqueue(EnqueueSpec { name, .. }) | What::Dequeue(DequeueSpec { name, .. }) => {
                self.queues.has(wish.account, name)
            }
        };
        if is_here || self.settings.me.is_none() {
            return self.grant(wish, now);
        }
        self.neighbours.seeking.insert(wish.call);
        self.out.push_back(Output::FindRoom(Box::new(wish)));
    }

    /// Whether a call is in a conference of another edge.
    pub(super) fn is_member_abroad(&self, call: CallSid) -> bool {
        self.neighbours.abroad.get(&call).is_some_and(|(_, is_conference)| *is_conference)
    }

    /// The room of a wish is at that edge; `None`: it is here, or is to be made here.
    pub fn handle_room_found(&mut self, wish: Wish, owner: Option<EdgeId>, now: Now) {
        if !self.neighbours.seeking.remove(&wish.call) {
            // It has left meanwhile.
            return;
        }
        match owner {
            None => self.grant(wish, now),
            Some(owner) => {
                if wish.edge.is_none() {
                    self.neighbours.abroad.insert(wish.call, (owner.clone(), wish.is_of_conference()));
                }
                let edge = wish.edge.clone().or_else(|| self.settings.me.clone());
                self.write(owner, Letter::Wish(Wish { edge, ..wish }));
            }
        }
        self.work(now);
    }

    /// A room here has it.
    fn grant(&mut self, wish: Wish, now: Now) {
        let Wish { call, account, edge, what } = wish;
        if let Some(edge) = edge {
            self.neighbours.guests.insert(call, edge);
        }
        match what {
            What::Join(spec) => self.join_conference(call, account, *spec, now),
            What::Enqueue(spec) => self.enqueue(call, account, spec, now),
            What::Dequeue(spec) => self.dequeue(call, account, spec, now),
        }
    }

    /// Another edge has written.
    pub fn handle_letter(&mut self, from: EdgeId, letter: Letter, now: Now) {
        match letter {
            Letter::Wish(wish) => {
                let edge = wish.edge.clone().unwrap_or(from);
                if self.settings.me.as_ref() == Some(&edge) {
                    // A call of ours came back here: the room was given up over there, and is to be found again.
                    self.place_wish(Wish { edge: None, ..wish }, now);
                } else {
                    self.leave_conference(wish.call, false, now);
                    self.leave_queue(wish.call, now);
                    self.place_wish(Wish { edge: Some(edge), ..wish }, now);
                }
            }
            Letter::LeaveConference { call, hung_up } => self.leave_conference(call, hung_up, now),
            Letter::Queue(QueueInput::Leave(call)) => self.leave_queue(call, now),
            Letter::Queue(input) => self.give_queue_of(call_of(&input), input, now),
            Letter::Tell { call, input, far } => {
                if let (CallInput::Linked { key }, Some(far)) = (&*input, far) {
                    self.link_to(*key, far);
                }
                if is_last(&input) {
                    self.neighbours.abroad.remove(&call);
                }
                self.inputs.push_back((call, *input));
            }
            Letter::Present(calls) => {
                let of_it = self.neighbours.guests.iter().filter(|(call, at)| **at == from && !calls.contains(call));
                let gone: Vec<CallSid> = of_it.map(|(call, _)| *call).collect();
                gone.into_iter().for_each(|call| self.guest_gone(call, now));
            }
            Letter::Hosted(calls) => {
                let at_it = self.neighbours.abroad.iter();
                let lost = at_it.filter(|(call, (at, _))| *at == from && !calls.contains(call));
                let lost: Vec<CallSid> = lost.map(|(call, _)| *call).collect();
                lost.into_iter().for_each(|call| self.room_lost(call));
            }
            // For the workers.
            Letter::LinkEnd { .. } => {}
        }
        self.work(now);
    }

    /// Tells a call of something, wherever it is; `far` is the edge of the call that a link leads to, if that is not here.
    pub(super) fn tell_call(&mut self, call: CallSid, input: CallInput, far: Option<&EdgeId>) {
        let Some(edge) = self.neighbours.guests.get(&call).cloned() else {
            if let (CallInput::Linked { key }, Some(far)) = (&input, far) {
                self.link_to(*key, far.clone());
            }
            return self.inputs.push_back((call, input));
        };
        let far = match (far, &self.settings.me) {
            (Some(far), _) => Some(far.clone()),
            (None, me) => me.clone(),
        };
        // Both of its ends may be over there.
        let far = far.filter(|far| *far != edge);
        self.write(edge, Letter::Tell { call, input: Box::new(input), far });
    }

    /// The edge of a guest; `None` of a call here.
    pub(super) fn edge_of(&self, call: CallSid) -> Option<EdgeId> {
        self.neighbours.guests.get(&call).cloned()
    }

    /// One end of a link is here, and the other at that edge.
    pub(super) fn link_to(&mut self, key: u64, edge: EdgeId) {
        let is_first = self.settings.me.as_ref() < Some(&edge);
        self.out.push_back(Output::LinkTo { key, edge, is_first });
    }

    /// A guest is in no room here any more.
    pub(super) fn see_off(&mut self, call: CallSid) {
        self.neighbours.guests.remove(&call);
    }

    /// A call of this edge is in no conference, or no queue, of others any more; whoever has it is told so.
    pub(super) fn come_back(&mut self, call: CallSid, letter: Letter) {
        self.neighbours.seeking.remove(&call);
        let of_conference = matches!(letter, Letter::LeaveConference { .. });
        if self.neighbours.abroad.get(&call).is_some_and(|(_, is_conference)| *is_conference == of_conference)
            && let Some((edge, _)) = self.neighbours.abroad.remove(&call)
        {
            self.write(edge, letter);
        }
    }

    /// To the queue that a call of this edge is in, which another one has.
    pub(super) fn write_to_queue_of(&mut self, call: CallSid, input: QueueInput) {
        if let Some((edge, false)) = self.neighbours.abroad.get(&call).cloned() {
            self.write(edge, Letter::Queue(input));
        }
    }

    /// An edge is dead: its calls are in no rooms here any more, unless they have come again from another; and its rooms are
    /// no more.
    pub fn handle_edge_gone(&mut self, edge: &EdgeId, now: Now) {
        let of_it = self.neighbours.guests.iter().filter(|(_, at)| *at == edge);
        let guests: Vec<CallSid> = of_it.map(|(call, _)| *call).collect();
        guests.into_iter().for_each(|call| self.guest_gone(call, now));
        let lost = self.neighbours.abroad.iter().filter(|(_, (at, _))| at == edge);
        let lost: Vec<CallSid> = lost.map(|(call, _)| *call).collect();
        lost.into_iter().for_each(|call| self.room_lost(call));
        self.work(now);
    }

    /// An edge is linked, perhaps again: letters may have been lost meanwhile.
    pub fn handle_edge_linked(&mut self, edge: &EdgeId) {
        let abroad = self.neighbours.abroad.iter().filter(|(_, (at, _))| at == edge).map(|(call, _)| *call).collect();
        let guests = self.neighbours.guests.iter().filter(|(_, at)| *at == edge).map(|(call, _)| *call).collect();
        self.write(edge.clone(), Letter::Present(abroad));
        self.write(edge.clone(), Letter::Hosted(guests));
    }

    /// A call is over.
    pub(super) fn forget_neighbour(&mut self, call: CallSid) {
        self.neighbours.abroad.remove(&call);
        self.neighbours.seeking.remove(&call);
    }

    fn guest_gone(&mut self, call: CallSid, now: Now) {
        self.leave_conference(call, true, now);
        self.leave_queue(call, now);
        self.see_off(call);
    }

    /// A letter to that edge could not be sent, a moment ago. A call whose wish it was, and that waits for that still, asks
    /// again; whatever else it was about, the other edge finds out when it is linked again, or not at all.
    pub fn handle_letter_lost(&mut self, to: &EdgeId, letter: &Letter, now: Now) {
        if let Letter::Wish(Wish { call, .. }) = letter
            && self.neighbours.abroad.get(call).is_some_and(|(at, _)| at == to)
        {
            self.room_lost(*call);
        }
        self.work(now);
    }

    /// Too many ask where their rooms are: this call asks again.
    pub fn handle_wish_lost(&mut self, call: CallSid, now: Now) {
        if self.neighbours.seeking.remove(&call) {
            self.room_lost(call);
        }
        self.work(now);
    }

    fn room_lost(&mut self, call: CallSid) {
        self.neighbours.abroad.remove(&call);
        self.inputs.push_back((call, CallInput::RoomLost));
    }

    /// The conference or the queue of that name is not here any more: another edge may have it.
    pub(super) fn give_up_conference(&mut self, account: AccountSid, name: &str) {
        self.give_up(conference_name(account, name));
    }

    pub(super) fn give_up_queue(&mut self, account: AccountSid, name: &str) {
        self.give_up(queue_name(account, name));
    }

    fn give_up(&mut self, room: String) {
        if self.settings.me.is_some() {
            self.out.push_back(Output::GiveUpRoom(room));
        }
    }

    fn write(&mut self, to: EdgeId, letter: Letter) {
        self.out.push_back(Output::Letter { to, letter: Box::new(letter) });
    }
}

/// Whether a room has no more to say to that call.
fn is_last(input: &CallInput) -> bool {
    matches!(
        input,
        CallInput::Membership(Membership::Refused { .. } | Membership::Left)
            | CallInput::Waiting(Waiting::Full(_) | Waiting::Over)
            | CallInput::Taking(Taking::Over { .. })
    )
}

fn call_of(input: &QueueInput) -> CallSid {
    match input {
        QueueInput::Enter(call)
        | QueueInput::Ask(call)
        | QueueInput::Take { by: call, .. }
        | QueueInput::Ready(call)
        | QueueInput::Leave(call) => *call,
    }
}
