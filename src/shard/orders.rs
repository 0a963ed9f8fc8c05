//! What the API orders of a shard: calls to be made, and changes to running ones.
//!
//! An order that cannot be carried out at once waits for its turn ([`Selection`]): until its account and trunk may make another
//! call, and until there is room. What waits is told as a fact of its own, so that it is made after a restart too.

use std::collections::BTreeMap;
use std::time::Duration;

use dialtone_sip::time::Mono;
use serde::{Deserialize, Serialize};

use super::admission::Admitted;
use super::core::{Core, Output};
use super::outbound::{NoPlan, Whom};
use crate::account::Directory;
use crate::call::route::{self, Reach};
use crate::call::{Call, CallInput, Now, Opening, Placing, Update};
use crate::events::{
    CallRecord, CallStatus, Completed, Direction, EndedBy, Event, EventKind, Initiated, Media, OrderFact,
};
use crate::ids::{AccountSid, CallSid, EventSid};
use crate::twiml::{NewDocument, Notice, StatusCallback, Target};
use crate::workers::selection::Limits;

/// A call that the API makes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlaceOrder {
    pub sid: CallSid,
    pub account: AccountSid,
    /// As the customer wrote them.
    pub from: String,
    pub to: String,
    pub target: Target,
    /// `from` is that of a call that came in, which is forwarded: it may be shown, whosever number it is.
    pub forwards: bool,
    pub document: NewDocument,
    pub status_callback: Option<StatusCallback>,
    pub placing: Placing,
    /// What the customer is to know of the order, among the notifications of the call.
    #[serde(default)]
    pub notices: Vec<Notice>,
}

impl PlaceOrder {
    /// The record of the call before its first event.
    pub fn queued(&self, queued_ms: u64) -> CallRecord {
        CallRecord {
            sid: self.sid,
            account: self.account,
            direction: Direction::OutboundApi,
            from: self.from.clone(),
            to: self.to.clone(),
            parent: None,
            via: String::new(),
            sip_call_id: String::new(),
            stir_verstat: None,
            queue_ms: 0,
            status: CallStatus::Queued,
            started_ms: queued_ms,
            answered_ms: None,
            ended_ms: None,
            completed: None,
            status_callback: None,
            callbacks: 0,
            events: Vec::new(),
        }
    }
}

/// What became of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// The call is being made, or has ended already.
    Made,
    /// It waits for about so long, in milliseconds, as far as the rates say.
    Waits(u64),
    Full,
}

/// An order that waits.
#[derive(Debug)]
pub(super) struct Queued {
    order: PlaceOrder,
    queued_ms: u64,
    /// It was told as a fact.
    is_told: bool,
}

/// An order that has not had its turn in this time is given up.
const LONGEST_WAIT_MS: u64 = 24 * 3600 * 1000;
const SEEK_OLD_EVERY: Duration = Duration::from_secs(60);
/// Twilio's number of a queue that is too long, or too slow.
const QUEUE_FULL: u32 = 22_005;
/// Twilio's number of an account that is not active.
const INACTIVE: u32 = 10_001;

impl Limits for Directory {
    fn of_account(&self, account: AccountSid) -> Option<u32> {
        self.account(account)?.limits.calls_per_second
    }

    fn of_trunk(&self, account: AccountSid, trunk: &str) -> Option<u32> {
        self.trunk(account, trunk)?.calls_per_second
    }
}

impl Core {
    /// Takes an order in. The call is made at once where it need not wait; one that cannot be made has an end all the same.
    pub fn place(&mut self, order: PlaceOrder, now: Now) -> Placement {
        if self.is_emergency(&order.to) {
            self.make(order, 0, now);
            self.work(now);
            return Placement::Made;
        }
        let (sid, account) = (order.sid, order.account);
        let trunk = self.trunk_of(&order);
        if !self.selection.has_place(account, self.settings.directory.as_ref()) {
            return Placement::Full;
        }
        self.selection.offer(account, &trunk, sid, Queued { order, queued_ms: now.wall_ms, is_told: false });
        self.work(now);
        let Some(text) = self.order_that_waits(account, sid) else { return Placement::Made };
        self.tell_order(account, sid, now.wall_ms, text, now);
        let directory = self.settings.directory.as_ref();
        Placement::Waits(self.selection.wait_ms(account, &trunk, now.mono, directory))
    }

    /// Orders that waited when the server last stopped, the oldest first: each has the age that it had.
    pub fn resume(&mut self, orders: Vec<(PlaceOrder, u64)>, now: Now) {
        for (order, queued_ms) in orders {
            let trunk = self.trunk_of(&order);
            let (account, sid) = (order.account, order.sid);
            self.selection.offer(account, &trunk, sid, Queued { order, queued_ms, is_told: true });
        }
        self.work(now);
    }

    /// How many orders wait for their turn.
    pub fn orders_waiting(&self) -> usize {
        self.selection.len()
    }

    /// How many orders wait for each trunk; those that go by none have the empty name.
    pub fn orders_waiting_by_trunk(&self) -> BTreeMap<&str, usize> {
        self.selection.waiting()
    }

    /// By which trunk an order goes; empty if by none.
    fn trunk_of(&self, order: &PlaceOrder) -> String {
        match route::outbound(&order.target, order.account, &self.settings.directory) {
            Ok(Reach::Trunk { trunk, .. }) => trunk.name.clone(),
            _ => String::new(),
        }
    }

    /// An order that was just taken in and not carried out, to be written down.
    fn order_that_waits(&mut self, account: AccountSid, sid: CallSid) -> Option<String> {
        let queued = self.selection.newest_mut(account).filter(|queued| queued.order.sid == sid)?;
        queued.is_told = true;
        Some(serde_json::to_string(&queued.order).unwrap_or_default())
    }

    fn tell_order(&mut self, account: AccountSid, call: CallSid, queued_ms: u64, order: String, now: Now) {
        let id = EventSid::at(now.wall_ms, self.tokens.next_u128());
        let node = self.settings.node.clone();
        let kind = EventKind::Order(Box::new(OrderFact { node, queued_ms, order }));
        self.out.push_back(Output::Publish(Event { id, account, call, sequence: 0, at_ms: now.wall_ms, kind }));
    }

    /// Makes the next call whose turn it is. False: there is none.
    pub(super) fn dispatch(&mut self, now: Now) -> bool {
        if self.selection.is_empty() {
            return false;
        }
        self.give_up_old_orders(now);
        if !self.has_room_for_orders() {
            return false;
        }
        let directory = self.settings.directory.clone();
        let Some(queued) = self.selection.next(now.mono, directory.as_ref()) else { return false };
        let queue_ms = now.wall_ms.saturating_sub(queued.queued_ms);
        let order = self.leaves(queued, now);
        match directory.is_active(order.account) {
            true => self.make(order, queue_ms, now),
            false => {
                let notice = Notice::error(INACTIVE, "the account was suspended or closed while the call waited");
                self.never_placed(order, CallStatus::Failed, queue_ms, Some(notice), now);
            }
        }
        true
    }

    /// Looked for once a minute: there may be many.
    fn give_up_old_orders(&mut self, now: Now) {
        if now.mono.since(self.old_orders_sought) < SEEK_OLD_EVERY {
            return;
        }
        self.old_orders_sought = now.mono;
        let too_old = |queued: &Queued| now.wall_ms.saturating_sub(queued.queued_ms) > LONGEST_WAIT_MS;
        for queued in self.selection.remove_while(too_old) {
            let order = self.leaves(queued, now);
            let notice =
                Notice::error(QUEUE_FULL, "the call waited for a day: the rates of its account and trunk are too low");
            self.never_placed(order, CallStatus::Failed, LONGEST_WAIT_MS, Some(notice), now);
        }
    }

    /// When [`Core::dispatch`] may have something to do; without room it is the end of a call that gives some.
    pub(super) fn next_dispatch(&self) -> Option<Mono> {
        self.selection.next_deadline().filter(|_| self.has_room_for_orders())
    }

    /// Calls that come in have the last places for themselves.
    fn has_room_for_orders(&self) -> bool {
        !self.draining && self.admits && self.calls.len() < self.settings.max_calls / 20 * 19
    }

    fn leaves(&mut self, queued: Queued, now: Now) -> PlaceOrder {
        let Queued { order, queued_ms, is_told } = queued;
        if is_told {
            self.tell_order(order.account, order.sid, queued_ms, String::new(), now);
        }
        order
    }

    fn make(&mut self, order: PlaceOrder, queue_ms: u64, now: Now) {
        let whom = Whom {
            target: &order.target,
            caller_id: Some(order.from.clone()),
            parent_from: &order.from,
            parent_to: &order.to,
            forwards: order.forwards,
        };
        let plan = match self.plan(order.account, &whom, now) {
            Ok(plan) => plan,
            Err(NoPlan { notice, .. }) => {
                return self.never_placed(order, CallStatus::Failed, queue_ms, Some(notice), now);
            }
        };
        let request = self.place_for(&plan.calls(order.sid), order.account, &plan.via, 0);
        let is_emergency = self.is_emergency(&order.to);
        let terms = self.terms_of_plan(&plan, order.sid, order.account, Direction::OutboundApi, &order.to, now);
        let admitted = self.admit(request, terms, is_emergency, now);
        if let Admitted::Not(obstacle) = admitted {
            self.obstructed(&obstacle);
            let notice = obstacle.notice(Direction::OutboundApi);
            return self.never_placed(order, CallStatus::Failed, queue_ms, Some(notice), now);
        }
        let opening = Opening {
            sid: order.sid,
            account: order.account,
            direction: Direction::OutboundApi,
            from: plan.from.clone(),
            to: order.to,
            via: plan.via.clone(),
            sip_call_id: String::new(),
            params: Vec::new(),
            stir_verstat: None,
            queue_ms,
            status_callback: order.status_callback,
            session_id: self.tokens.next_u64(),
            leg_id: 0,
            link: plan.link(),
            document: Some(order.document),
            answer_at_once: false,
        };
        let placing = order.placing;
        self.launch(plan, admitted, |attempts| Call::placed(opening, placing, attempts));
        for notice in order.notices {
            self.notice(order.sid, notice);
        }
    }

    /// Changes a running call. False: there is none of that account, or it is not in a state for this.
    pub fn update(&mut self, sid: CallSid, account: AccountSid, change: Update, now: Now) -> bool {
        if change.hang_up
            && let Some(queued) = self.selection.withdraw(account, sid)
        {
            let queue_ms = now.wall_ms.saturating_sub(queued.queued_ms);
            let order = self.leaves(queued, now);
            self.never_placed(order, CallStatus::Canceled, queue_ms, None, now);
            return true;
        }
        let is_taken = self.calls.get(&sid).is_some_and(|slot| {
            slot.call.account() == account && slot.call.takes(&change) && self.hears_messages(slot, &change)
        });
        if !is_taken {
            return false;
        }
        self.inputs.push_back((sid, CallInput::Update(change)));
        self.work(now);
        true
    }

    /// The record of a call that was never dialled.
    fn never_placed(&mut self, order: PlaceOrder, status: CallStatus, queue_ms: u64, notice: Option<Notice>, now: Now) {
        let initiated = Initiated {
            direction: Direction::OutboundApi,
            from: order.from,
            to: order.to,
            parent: None,
            via: String::new(),
            sip_call_id: String::new(),
            stir_verstat: None,
            queue_ms,
            is_withdrawn: status == CallStatus::Canceled,
            status_callback: order.status_callback,
        };
        let completed = Completed {
            status,
            sip_status: 0,
            ended_by: if status == CallStatus::Canceled { EndedBy::Application } else { EndedBy::Server },
            media: Media::default(),
            recorded: None,
        };
        let begin = EventKind::Initiated(Box::new(initiated));
        let end = EventKind::Completed(Box::new(completed));
        let notices = order.notices.into_iter().chain(notice).map(EventKind::Noticed);
        for (sequence, kind) in (0..).zip([begin].into_iter().chain(notices).chain([end])) {
            let id = EventSid::at(now.wall_ms, self.tokens.next_u128());
            let (account, call, at_ms) = (order.account, order.sid, now.wall_ms);
            self.out.push_back(Output::Publish(Event { id, account, call, sequence, at_ms, kind }));
        }
    }
}
