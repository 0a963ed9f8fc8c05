//! Media streams of this shard's calls: their names, and the places that they take.

use super::admission::LIMIT_REACHED;
use super::core::{Core, Output};
use crate::call::{CallInput, Now, StreamEvent, StreamOrder};
use crate::concurrency::{Acquired, Impede, Request, Resource, Scope, SlotId, account_and_owners};
use crate::ids::{AccountSid, CallSid, StreamSid};
use crate::twiml::Notice;

/// What is to be opened, and whose it is.
#[derive(Clone, Debug, PartialEq)]
pub struct OpenStream {
    pub call: CallSid,
    pub account: AccountSid,
    pub session_id: u64,
    pub leg_id: u32,
    pub order: StreamOrder,
}

pub(super) fn stream_slot(sid: StreamSid) -> SlotId {
    (Resource::Streams, sid.bits())
}

impl Core {
    pub(super) fn name_stream(&mut self, call: CallSid, number: u16, now: Now) {
        let sid = StreamSid::at(now.wall_ms, self.tokens.next_u128());
        self.inputs.push_back((call, CallInput::StreamNamed { number, sid }));
    }

    /// Opens a stream when there is a place for it.
    pub(super) fn open_stream(&mut self, call: CallSid, order: StreamOrder, now: Now) {
        let Some(slot) = self.calls.get(&call) else { return };
        let (account, session_id, leg_id) = (slot.call.account(), slot.call.session_id(), slot.call.leg_id());
        let wants = account_and_owners(Resource::Streams, account, &self.settings.directory);
        let slots = vec![stream_slot(order.sid)];
        let request = Request { slots, wants, impede: Impede::Reject, priority: 0, account };
        let sid = order.sid;
        let open = OpenStream { call, account, session_id, leg_id, order };
        if open.order.is_again {
            self.keep_streams(call, now);
            return self.out.push_back(Output::OpenStream(Box::new(open)));
        }
        match self.admission.slots.acquire(request, now.mono) {
            Acquired::Granted => self.out.push_back(Output::OpenStream(Box::new(open))),
            Acquired::Waits => drop(self.admission.opening.insert(sid, open)),
            Acquired::Refused(scope) => self.refuse_stream(call, sid, &scope),
        }
    }

    /// One that waited has its place; where nobody wants it any more, the place is free again.
    pub(super) fn stream_granted(&mut self, sid: StreamSid, now: Now) {
        match self.admission.opening.remove(&sid) {
            Some(open) => self.out.push_back(Output::OpenStream(Box::new(open))),
            None => self.admission.slots.release(stream_slot(sid), now.mono),
        }
    }

    pub(super) fn stream_refused(&mut self, sid: StreamSid, scope: &Scope) {
        if let Some(open) = self.admission.opening.remove(&sid) {
            self.refuse_stream(open.call, sid, scope);
        }
    }

    fn refuse_stream(&mut self, call: CallSid, sid: StreamSid, scope: &Scope) {
        self.impeded(scope, "reject");
        let text = format!("no room for another stream: {}", super::admission::whose(scope));
        let event = StreamEvent::Failed(Notice::error(LIMIT_REACHED, text));
        self.inputs.push_back((call, CallInput::Stream { sid, event }));
    }

    /// A stream is over by the call's wish.
    pub(super) fn close_stream(&mut self, sid: StreamSid, now: Now) {
        self.free_stream(sid, now);
        self.out.push_back(Output::CloseStream(sid));
    }

    /// Those that run already have their places, whether there is room or not.
    pub(super) fn keep_streams(&mut self, call: CallSid, now: Now) {
        let Some(slot) = self.calls.get(&call) else { return };
        let open = slot.call.stream_sids().filter(|sid| !self.admission.opening.contains_key(sid));
        let slots: Vec<SlotId> = open.map(stream_slot).collect();
        let account = slot.call.account();
        let wants = account_and_owners(Resource::Streams, account, &self.settings.directory);
        if !wants.is_empty() && !slots.is_empty() {
            let request = Request { slots, wants, impede: Impede::Reject, priority: 0, account };
            self.admission.slots.take_anyway(&request, now.mono);
        }
    }

    fn free_stream(&mut self, sid: StreamSid, now: Now) {
        if self.admission.opening.remove(&sid).is_some() {
            self.admission.slots.withdraw(stream_slot(sid));
        }
        self.admission.slots.release(stream_slot(sid), now.mono);
    }

    /// What became of a stream.
    pub fn handle_stream(&mut self, call: CallSid, sid: StreamSid, event: StreamEvent, now: Now) {
        if matches!(event, StreamEvent::Closed | StreamEvent::Failed(_)) {
            self.free_stream(sid, now);
        }
        self.inputs.push_back((call, CallInput::Stream { sid, event }));
        self.work(now);
    }
}
