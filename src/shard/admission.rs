//! Who may have another call, another participant, or another stream: asks [`Slots`], and then for credit, and holds what waits for the answer.
//!
//! A call that comes in and has to wait is no call yet; one that we make is one that has not begun. What is refused has its
//! record all the same, with the reason, but for a flood of those that come in.

use dialtone_sip::dialog::DialogId;
use dialtone_sip::flow::Flow;
use dialtone_sip::msg::HeaderName;
use dialtone_sip::stack::Reply;
use dialtone_sip::time::Mono;
use dialtone_sip::tokens::TokenMap;

use super::core::{Core, Output};
use super::credit::{no_credit_notice, no_credit_reply};
use super::neighbours::What;
use super::outbound::Search;
use super::streams::OpenStream;
use crate::account::{Directory, WhenFull};
use crate::call::route::Inbound;
use crate::call::{AttemptId, CallInput, Now, SipEvent};
use crate::concurrency::{
    Acquired, Answer, Decision, Impede, InUse, Request, Resource, Scope, SlotId, Slots, Want, account_and_owners,
};
use crate::credit::{Opened, Terms};
use crate::edges::EdgeId;
use crate::events::{CallStatus, Completed, Direction, EndedBy, Event, EventKind, Initiated, Media};
use crate::ids::{AccountSid, CallSid, EventSid, StreamSid};
use crate::twiml::{ConferenceSpec, Membership, Notice};

/// Twilio's number for a call that its account has no room for.
pub(super) const LIMIT_REACHED: u32 = 10_004;
/// Calls refused in one second that have records, of each account: a flood is to cost little.
const RECORDS_OF_REFUSED: u32 = 10;
const SECOND_US: u64 = 1_000_000;

/// What a shard's calls hold and wait for.
pub(super) struct Admission {
    pub(super) slots: Slots,
    /// Calls of all accounts together; `None` is any number.
    all_calls: Option<u32>,
    /// With what is to be paid once there is a place.
    held: TokenMap<CallSid, (Held, Vec<(CallSid, Terms)>)>,
    joining: TokenMap<CallSid, (AccountSid, Box<ConferenceSpec>)>,
    /// Streams that wait for the answer.
    pub(super) opening: TokenMap<StreamSid, OpenStream>,
    /// How many of an account were refused in the second that began then.
    refused: TokenMap<AccountSid, (Mono, u32)>,
}

/// Why a call cannot be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Obstacle {
    /// There is no place for it.
    Full(Scope),
    /// Its account has used up its budget.
    NoCredit,
}

/// What comes of wanting a call to be.
pub(super) enum Admitted {
    Now,
    /// It waits; with what is to be paid once there is a place.
    Later(Vec<(CallSid, Terms)>),
    Not(Obstacle),
}

/// A call that waits for its place, or for credit.
enum Held {
    /// It came in.
    Arrived(Box<Arrived>),
    /// It exists, and has not begun: what is looked up for it then.
    Outgoing(Option<Search>),
}

/// A call that came in.
pub(super) struct Arrived {
    pub(super) inbound: Inbound,
    pub(super) dialog: DialogId,
    pub(super) offer: bytes::Bytes,
    pub(super) sip_call_id: String,
    pub(super) flow: Flow,
}

impl Admission {
    pub(super) fn new(slots: Slots, all_calls: Option<u32>) -> Admission {
        let (held, joining, refused) = Default::default();
        Admission { slots, all_calls, held, joining, opening: TokenMap::default(), refused }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty() && self.held.is_empty() && self.joining.is_empty() && self.opening.is_empty()
    }

    /// Whether another of those that were refused in this second has a record.
    pub(super) fn has_record(&mut self, account: AccountSid, now: Mono) -> bool {
        let (since, count) = self.refused.entry(account).or_insert((now, 0));
        if now.0 >= since.0 + SECOND_US {
            (*since, *count) = (now, 0);
        }
        *count += 1;
        *count <= RECORDS_OF_REFUSED
    }
}

pub(super) fn call_slot(sid: CallSid) -> SlotId {
    (Resource::Calls, sid.bits())
}

fn member_slot(sid: CallSid) -> SlotId {
    (Resource::ConferenceParticipants, sid.bits())
}

impl Core {
    /// A place for calls of an account; `trunk` is the name of that by which they go or come, or empty.
    pub(super) fn place_for(&self, calls: &[CallSid], account: AccountSid, trunk: &str, priority: u8) -> Request {
        let directory = &self.settings.directory;
        let mut wants = account_and_owners(Resource::Calls, account, directory);
        let of_trunk = (!trunk.is_empty()).then(|| directory.trunk(account, trunk)?.calls).flatten();
        wants.extend(of_trunk.map(|limit| Want { scope: Scope::Trunk(account, trunk.to_owned()), limit }));
        wants.extend(self.admission.all_calls.map(|limit| Want { scope: Scope::Cluster, limit }));
        let impede = match directory.account(account).map(|account| account.limits.full).unwrap_or_default() {
            WhenFull::Reject => Impede::Reject,
            WhenFull::Delay(wait_ms) => Impede::Delay { wait_us: u64::from(wait_ms) * 1000 },
            WhenFull::Preempt => Impede::Preempt,
        };
        Request { slots: calls.iter().copied().map(call_slot).collect(), wants, impede, priority, account }
    }

    /// Takes a place and has the beginning paid, or waits for that. Whoever calls for help has a place whether there is room or not.
    pub(super) fn admit(
        &mut self,
        mut request: Request,
        terms: Vec<(CallSid, Terms)>,
        is_emergency: bool,
        now: Now,
    ) -> Admitted {
        if is_emergency {
            request.priority = u8::MAX;
            self.admission.slots.take_anyway(&request, now.mono);
            return Admitted::Now;
        }
        let slots = request.slots.clone();
        match self.admission.slots.acquire(request, now.mono) {
            Acquired::Refused(scope) => return Admitted::Not(Obstacle::Full(scope)),
            Acquired::Waits => return Admitted::Later(terms),
            Acquired::Granted => {}
        }
        match self.open_credit(terms, now) {
            Opened::Granted => Admitted::Now,
            Opened::Waits => Admitted::Later(Vec::new()),
            Opened::Refused => {
                slots.into_iter().for_each(|slot| self.admission.slots.release(slot, now.mono));
                Admitted::Not(Obstacle::NoCredit)
            }
        }
    }

    pub(super) fn hold_arrived(&mut self, sid: CallSid, arrived: Arrived, terms: Vec<(CallSid, Terms)>, now: Now) {
        self.stack.progress(arrived.dialog, 100, bytes::Bytes::new(), now.mono);
        self.admission.held.insert(sid, (Held::Arrived(Box::new(arrived)), terms));
    }

    pub(super) fn hold_outgoing(&mut self, sid: CallSid, search: Option<Search>, terms: Vec<(CallSid, Terms)>) {
        self.admission.held.insert(sid, (Held::Outgoing(search), terms));
    }

    /// A call that has waited begins. False: none waits by that name.
    pub(super) fn begin_held(&mut self, sid: CallSid) -> bool {
        match self.admission.held.remove(&sid) {
            Some((Held::Arrived(arrived), _)) => self.begin_inbound(sid, *arrived),
            Some((Held::Outgoing(search), _)) => self.begin_outgoing(sid, search),
            None => return false,
        }
        true
    }

    /// A call that has waited cannot be.
    pub(super) fn refuse_held(&mut self, sid: CallSid, obstacle: &Obstacle, now: Now) {
        match self.admission.held.remove(&sid) {
            Some((Held::Arrived(arrived), _)) => {
                self.admission.slots.release(call_slot(sid), now.mono);
                self.refuse_arrived(sid, *arrived, obstacle, now);
            }
            Some((Held::Outgoing(_), _)) => self.refuse_outgoing(sid, obstacle),
            None => {}
        }
    }

    /// A call that has waited has its place now, and is to be paid.
    fn pay_held(&mut self, sid: CallSid, now: Now) {
        let Some((_, terms)) = self.admission.held.get_mut(&sid) else {
            return self.give_places_back(sid, now);
        };
        let terms = std::mem::take(terms);
        match self.open_credit(terms, now) {
            Opened::Granted => drop(self.begin_held(sid)),
            Opened::Waits => {}
            Opened::Refused => self.refuse_held(sid, &Obstacle::NoCredit, now),
        }
    }

    /// A caller that waits takes its INVITE back. False: none waits with that dialog.
    pub(super) fn arrived_left(&mut self, dialog: DialogId, now: Now) -> bool {
        let waits = |held: &Held| matches!(held, Held::Arrived(arrived) if arrived.dialog == dialog);
        let Some(sid) = self.admission.held.iter().find(|(_, (held, _))| waits(held)).map(|(sid, _)| *sid) else {
            return false;
        };
        self.give_places_back(sid, now);
        self.stack.decline(dialog, &Reply::new(487), now.mono);
        true
    }

    /// Everything that a call held is free.
    pub(super) fn give_places_back(&mut self, sid: CallSid, now: Now) {
        if self.admission.held.remove(&sid).is_some() {
            self.admission.slots.withdraw(call_slot(sid));
        }
        self.admission.slots.release(call_slot(sid), now.mono);
        self.escrow.close(sid);
        self.leave_places(sid, now);
    }

    /// A call is in no conference any more.
    pub(super) fn leave_places(&mut self, sid: CallSid, now: Now) {
        if self.admission.joining.remove(&sid).is_some() {
            self.admission.slots.withdraw(member_slot(sid));
        }
        self.admission.slots.release(member_slot(sid), now.mono);
    }

    /// A call that runs already has its place, whether there is room or not. It is ended for no other: nobody knows any more
    /// whether it calls for help.
    pub(super) fn keep_place(&mut self, sid: CallSid, now: Now) {
        let Some(slot) = self.calls.get(&sid) else { return };
        let calls: Vec<CallSid> = [sid].into_iter().chain(slot.inside.as_ref().map(|inside| inside.sid())).collect();
        let request = self.place_for(&calls, slot.call.account(), slot.call.via(), u8::MAX);
        if !request.wants.is_empty() {
            self.admission.slots.take_anyway(&request, now.mono);
        }
    }

    /// The same of a participant.
    fn keep_member_place(&mut self, sid: CallSid, now: Now) {
        if !self.rooms.has_member(sid) && !self.is_member_abroad(sid) {
            return;
        }
        let Some(slot) = self.calls.get(&sid) else { return };
        let account = slot.call.account();
        let wants = account_and_owners(Resource::ConferenceParticipants, account, &self.settings.directory);
        let slots = vec![member_slot(sid)];
        if !wants.is_empty() {
            let request = Request { slots, wants, impede: Impede::Reject, priority: 0, account };
            self.admission.slots.take_anyway(&request, now.mono);
        }
    }

    pub(super) fn join_when_there_is_room(
        &mut self,
        sid: CallSid,
        account: AccountSid,
        spec: Box<ConferenceSpec>,
        now: Now,
    ) {
        let wants = account_and_owners(Resource::ConferenceParticipants, account, &self.settings.directory);
        let slots = vec![member_slot(sid)];
        match self
            .admission
            .slots
            .acquire(Request { slots, wants, impede: Impede::Reject, priority: 0, account }, now.mono)
        {
            Acquired::Granted => self.wish(sid, account, What::Join(spec), now),
            Acquired::Waits => drop(self.admission.joining.insert(sid, (account, spec))),
            Acquired::Refused(scope) => self.refuse_member(sid, &scope),
        }
    }

    fn refuse_member(&mut self, sid: CallSid, scope: &Scope) {
        self.impeded(scope, "reject");
        let why = whose(scope);
        self.inputs.push_back((sid, CallInput::Membership(Membership::Refused { why })));
    }

    /// Carries out what became of those that waited. False: nothing has become of any.
    pub(super) fn decide(&mut self, now: Now) -> bool {
        let Some(decision) = self.admission.slots.poll_decision() else {
            if let Some(claim) = self.admission.slots.poll_claim(now.mono) {
                self.out.push_back(Output::Claim(claim));
            }
            return false;
        };
        match decision {
            Decision::Granted((Resource::ConferenceParticipants, bits)) => {
                let sid = CallSid::new(bits);
                match self.admission.joining.remove(&sid) {
                    Some((account, spec)) => self.wish(sid, account, What::Join(spec), now),
                    None => self.leave_places(sid, now),
                }
            }
            Decision::Refused((Resource::ConferenceParticipants, bits), scope) => {
                if self.admission.joining.remove(&CallSid::new(bits)).is_some() {
                    self.refuse_member(CallSid::new(bits), &scope);
                }
            }
            Decision::Granted((Resource::Streams, bits)) => self.stream_granted(StreamSid::new(bits), now),
            Decision::Refused((Resource::Streams, bits), scope) => self.stream_refused(StreamSid::new(bits), &scope),
            Decision::Granted((_, bits)) => self.pay_held(CallSid::new(bits), now),
            Decision::Refused((_, bits), scope) => self.refuse_held(CallSid::new(bits), &Obstacle::Full(scope), now),
            Decision::End((_, bits)) => {
                let sid = CallSid::new(bits);
                self.notice(sid, Notice::error(LIMIT_REACHED, ENDED_FOR_ANOTHER));
                self.inputs.push_back((sid, CallInput::Shutdown));
            }
        }
        true
    }

    /// A call of ours that exists ends before it has begun.
    fn refuse_outgoing(&mut self, sid: CallSid, obstacle: &Obstacle) {
        self.obstructed(obstacle);
        let (attempts, direction) = self
            .calls
            .get(&sid)
            .map_or((0, Direction::OutboundDial), |slot| (slot.dialogs.len(), slot.call.direction()));
        self.begin_child(sid);
        self.notice(sid, obstacle.notice(direction));
        for attempt in 0..attempts {
            let event = SipEvent::Refused { status: obstacle.status(), sip_call_id: String::new() };
            self.inputs.push_back((sid, CallInput::Sip { attempt: AttemptId(attempt as u8), event }));
        }
    }

    /// 503 with the reason, and when to come again; or 403.
    pub(super) fn refusal(&mut self, obstacle: &Obstacle) -> Reply {
        match obstacle {
            Obstacle::Full(scope) => {
                let reason = format!("SIP;cause=503;text=\"{}\"", whose(scope));
                self.unavailable().header(HeaderName::Reason, reason)
            }
            Obstacle::NoCredit => no_credit_reply(),
        }
    }

    /// Counts what was refused.
    pub(super) fn obstructed(&mut self, obstacle: &Obstacle) {
        match obstacle {
            Obstacle::Full(scope) => self.impeded(scope, "reject"),
            Obstacle::NoCredit => self.out.push_back(Output::OutOfCredit { action: "reject" }),
        }
    }

    /// Refuses what came in, with a record that has the reason.
    pub(super) fn refuse_arrived(&mut self, sid: CallSid, arrived: Arrived, obstacle: &Obstacle, now: Now) {
        self.obstructed(obstacle);
        let reply = self.refusal(obstacle);
        self.stack.decline(arrived.dialog, &reply, now.mono);
        let Arrived { inbound, sip_call_id, flow, .. } = arrived;
        let (account, status, why) = (Some(inbound.account), obstacle.status(), obstacle.why());
        self.out.push_back(Output::Refused { flow, method: "INVITE".to_owned(), status, why, account });
        let initiated = Initiated {
            direction: Direction::Inbound,
            from: inbound.from,
            to: inbound.to,
            parent: None,
            via: inbound.via,
            sip_call_id,
            stir_verstat: inbound.stir_verstat,
            queue_ms: 0,
            is_withdrawn: false,
            status_callback: inbound.application.status_callback,
        };
        let completed = Completed {
            status: CallStatus::Failed,
            sip_status: status,
            ended_by: EndedBy::Server,
            media: Media::default(),
            recorded: None,
        };
        let kinds = [
            EventKind::Initiated(Box::new(initiated)),
            EventKind::Noticed(obstacle.notice(Direction::Inbound)),
            EventKind::Completed(Box::new(completed)),
        ];
        for (sequence, kind) in (0..).zip(kinds) {
            let id = EventSid::at(now.wall_ms, self.tokens.next_u128());
            let (account, call, at_ms) = (inbound.account, sid, now.wall_ms);
            self.out.push_back(Output::Publish(Event { id, account, call, sequence, at_ms, kind }));
        }
    }

    pub(super) fn impeded(&mut self, scope: &Scope, action: &'static str) {
        self.out.push_back(Output::Impeded { resource: scope.resource(), action });
    }

    /// What came of a claim.
    pub fn handle_held(&mut self, answer: Answer, now: Now) {
        self.admission.slots.handle_answer(answer, now.mono);
        self.work(now);
    }

    /// What was taken up of that edge has its places here by now.
    pub fn handle_settled(&mut self, of: EdgeId, now: Now) {
        self.admission.slots.settled(of);
        self.work(now);
    }

    /// The store that edges share has forgotten what this one holds.
    pub fn tell_places_again(&mut self, now: Now) {
        self.admission.slots.tell_again();
        self.work(now);
    }

    /// How many edges share the limits.
    pub fn set_edges(&mut self, count: usize) {
        self.admission.slots.set_edges(count);
    }

    /// What is held of each limit.
    pub fn places(&self) -> (Vec<InUse>, bool) {
        let slots = &self.admission.slots;
        let held = Resource::ALL.into_iter().flat_map(|resource| slots.held(resource));
        (held.collect(), slots.is_lost())
    }

    /// The limits are those of another directory. Calls that began while there was none have their places too.
    pub(super) fn limits_changed(&mut self, now: Now) {
        self.budgets_changed(now);
        let begun = self.calls.keys().filter(|sid| !self.admission.held.contains_key(sid));
        for sid in begun.copied().collect::<Vec<_>>() {
            self.keep_place(sid, now);
            self.keep_member_place(sid, now);
            self.keep_streams(sid, now);
        }
        let directory = self.settings.directory.clone();
        let all_calls = self.admission.all_calls;
        self.admission.slots.set_limits(|scope| limit_of(scope, &directory, all_calls), now.mono);
    }
}

fn limit_of(scope: &Scope, directory: &Directory, all_calls: Option<u32>) -> Option<u32> {
    match scope {
        Scope::Account(resource, account) => resource.limit_of(directory.account(*account)?),
        Scope::Trunk(account, trunk) => directory.trunk(*account, trunk)?.calls,
        Scope::Cluster => all_calls,
    }
}

const ENDED_FOR_ANOTHER: &str = "the call was ended for one of more priority: the account has as many calls as it may";

impl Obstacle {
    /// What the customer is told.
    pub(super) fn notice(&self, direction: Direction) -> Notice {
        match self {
            Obstacle::Full(scope) => Notice::error(LIMIT_REACHED, whose(scope)),
            Obstacle::NoCredit => no_credit_notice(direction),
        }
    }

    pub(super) fn status(&self) -> u16 {
        match self {
            Obstacle::Full(_) => 503,
            Obstacle::NoCredit => 403,
        }
    }

    /// For the log, and as a label.
    pub(super) fn why(&self) -> &'static str {
        match self {
            Obstacle::Full(_) => "concurrency",
            Obstacle::NoCredit => "budget",
        }
    }
}

pub(super) fn whose(scope: &Scope) -> String {
    match scope {
        Scope::Account(resource, account) => {
            let what = match resource {
                Resource::Calls => "calls",
                Resource::Api => "requests",
                Resource::Streams => "streams",
                Resource::ConferenceParticipants => "participants of conferences",
            };
            format!("account {account} has as many {what} at once as it may")
        }
        Scope::Trunk(_, trunk) => format!("trunk {trunk} has as many calls at once as it may"),
        Scope::Cluster => "the server has as many calls at once as it may".to_owned(),
    }
}
