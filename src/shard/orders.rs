//! What the API orders of a shard: calls to be made, and changes to running ones.

use super::core::{Core, Output};
use super::outbound::Whom;
use crate::call::{Call, CallInput, Now, Opening, Placing, Update};
use crate::events::{CallStatus, Completed, Direction, EndedBy, Event, EventKind, Initiated, Media};
use crate::ids::{AccountSid, CallSid, EventSid};
use crate::twiml::{NewDocument, Notice, StatusCallback, Target};

/// A call that the API makes.
#[derive(Clone, Debug, PartialEq)]
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
}

impl Core {
    /// Makes a call; where that cannot be, its record says so: it has an end all the same.
    pub fn place(&mut self, order: PlaceOrder, now: Now) {
        if let Some(notice) = self.refuses_orders() {
            return self.never_placed(order, notice, now);
        }
        let whom = Whom {
            target: &order.target,
            caller_id: Some(order.from.clone()),
            parent_from: &order.from,
            parent_to: &order.to,
            forwards: order.forwards,
        };
        let plan = match self.plan(order.account, &whom, now) {
            Ok(plan) => plan,
            Err(notice) => return self.never_placed(order, notice, now),
        };
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
            status_callback: order.status_callback,
            session_id: self.tokens.next_u64(),
            leg_id: 0,
            link: plan.link(),
            document: Some(order.document),
            answer_at_once: false,
        };
        let placing = order.placing;
        self.launch(plan, |attempts| Call::placed(opening, placing, attempts));
        self.work(now);
    }

    /// Changes a running call. False: there is none of that account, or it is not in a state for this.
    pub fn update(&mut self, sid: CallSid, account: AccountSid, change: Update, now: Now) -> bool {
        let is_taken =
            self.calls.get(&sid).is_some_and(|slot| slot.call.account() == account && slot.call.takes(&change));
        if !is_taken {
            return false;
        }
        self.inputs.push_back((sid, CallInput::Update(change)));
        self.work(now);
        true
    }

    fn refuses_orders(&self) -> Option<Notice> {
        let why = if self.draining {
            "the server is shutting down: make the call at another one, or when it is back"
        } else if !self.admits || self.calls.len() >= self.settings.max_calls {
            "the server has no room for another call: make it later"
        } else {
            return None;
        };
        Some(Notice::error(super::outbound::UNREACHABLE, why))
    }

    fn never_placed(&mut self, order: PlaceOrder, notice: Notice, now: Now) {
        let initiated = Initiated {
            direction: Direction::OutboundApi,
            from: order.from,
            to: order.to,
            parent: None,
            via: String::new(),
            sip_call_id: String::new(),
            stir_verstat: None,
            status_callback: order.status_callback,
        };
        let completed = Completed {
            status: CallStatus::Failed,
            sip_status: 0,
            ended_by: EndedBy::Server,
            media: Media::default(),
            recorded: None,
        };
        let kinds = [
            EventKind::Initiated(Box::new(initiated)),
            EventKind::Noticed(notice),
            EventKind::Completed(Box::new(completed)),
        ];
        for (sequence, kind) in (0..).zip(kinds) {
            let id = EventSid::at(now.wall_ms, self.tokens.next_u128());
            let (account, call, at_ms) = (order.account, order.sid, now.wall_ms);
            self.out.push_back(Output::Publish(Event { id, account, call, sequence, at_ms, kind }));
        }
    }
}
