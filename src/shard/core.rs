//! What a shard decides, without sockets and clocks: the SIP of its calls, the calls, and everything between them.
//!
//! Driven by its rim ([`super::run`]) or by a simulated world: inputs by `handle_*`, outputs by `poll_output`, time by
//! `next_deadline` and `handle_timeout`.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use dialtone_media::proto::{CommandKind, MediaEvent, MediaEventKind};
use dialtone_sip::dialog::DialogId;
use dialtone_sip::flow::{ConnectionId, Flow};
use dialtone_sip::msg::{HeaderName, Message, Method};
use dialtone_sip::resolve::Resolution;
use dialtone_sip::stack::{self, Event as StackEvent, Invitation, Received, Reply, Stack, Transmit};
use dialtone_sip::time::Mono;
use dialtone_sip::tokens::{TokenMap, Tokens};

use super::admission::Admission;
use super::gate::Gate;
use super::messages::Sending;
use super::neighbours::{Letter, Neighbours, Wish};
use super::orders::Queued;
use super::outbound::Resolving;
use super::queues::Queues;
use super::replies::Asking;
use super::rooms::Rooms;
use super::streams::OpenStream;
use super::watchers::Watchers;
use crate::account::{Client, Directory, Srtp};
use crate::app::Guard;
use crate::call::route;
use crate::call::{AttemptId, Call, CallInput, ConferenceInput, FetchOutcome, Now, SipEvent};
use crate::concurrency::{OnLoss, Resource, Slots};
use crate::credit::{self, Escrow};
use crate::edges::EdgeId;
use crate::events::{CallStatus, Completed, EndedBy, Event, EventKind, Media};
use crate::hot::{Bindings, Claim};
use crate::ids::{AccountSid, CallSid, EventSid, StreamSid};
use crate::presence::Presence;
use crate::twiml::{
    AudioFailure, AudioSource, BranchEvent, BranchFailure, ClipRef, FetchOrder, Membership, Notice, Referral, notice,
};
use crate::workers::selection::Selection;

/// What a shard needs to know.
pub struct Settings {
    pub stack: stack::Config,
    pub gate: super::gate::Settings,
    pub directory: Arc<Directory>,
    pub bindings: Arc<Bindings>,
    /// Who can be reached, and wants to be.
    pub presence: Presence,
    /// The listeners, to choose the one that reaches a peer.
    pub listening: Vec<dialtone_sip::transport::Listen>,
    /// Where customers reach the API, without a slash at the end.
    pub public_url: String,
    /// Where `<Dial><Sip>` may go.
    pub outbound: Guard,
    /// Of calls by TLS, but for trunks that have their own.
    pub srtp: Srtp,
    /// Calls at once; one more is refused with 503.
    pub max_calls: usize,
    /// Calls at once of all accounts, at all edges; `None` is any number.
    pub all_calls: Option<u32>,
    /// Whether limits are shared with other edges, and what they are while the store by which they are is away.
    pub shares_limits: Option<OnLoss>,
    /// This server among those that share its database.
    pub node: String,
    /// Whoever is called so does not wait for a turn.
    pub emergency_numbers: Vec<String>,
    /// This edge among others that it shares rooms with, if there are any.
    pub me: Option<EdgeId>,
    /// The host that is written into Contact instead of the listener's address.
    pub contact: Option<String>,
    /// Whether answered calls are written down, so that they go on when the edge starts anew: where their media does.
    pub writes_down: bool,
}

/// What leaves a shard, in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    Transmit(Transmit),
    Media {
        session_id: u64,
        command: CommandKind,
    },
    Fetch {
        call: CallSid,
        account: crate::ids::AccountSid,
        order: FetchOrder,
        params: Vec<(String, String)>,
    },
    CancelFetch {
        call: CallSid,
        fetch: u32,
    },
    Prepare {
        call: CallSid,
        account: crate::ids::AccountSid,
        ticket: u32,
        source: AudioSource,
    },
    /// Answered by [`Core::handle_stream`].
    OpenStream(Box<OpenStream>),
    TellStream {
        sid: StreamSid,
        digit: char,
    },
    CloseStream(StreamSid),
    /// A worker wants audio that was prepared.
    AudioWanted {
        session_id: u64,
        hash: Bytes,
    },
    /// Answered by [`Core::handle_resolved`].
    Resolve {
        ticket: u64,
        resolution: Box<Resolution>,
        /// Of the chance by which servers share calls.
        seed: [u8; 32],
    },
    Publish(Event),
    /// An answered call as it is to be taken up by an edge that starts anew, behind what it has published.
    WriteDown(Box<super::Checkpoint>),
    /// Answered by [`Core::handle_held`].
    Claim(Claim),
    /// Answered by [`Core::handle_credit`].
    ClaimCredit(credit::Claim),
    /// A budget is used up.
    OutOfCredit {
        action: &'static str,
    },
    /// Something found no room.
    Impeded {
        resource: Resource,
        action: &'static str,
    },
    /// Answered by [`Core::handle_room_found`].
    FindRoom(Box<Wish>),
    /// A room that was here is no more.
    GiveUpRoom(String),
    /// For another edge.
    Letter {
        to: EdgeId,
        letter: Box<Letter>,
    },
    /// The other end of that link is at another edge. Comes before the command that makes the end here.
    LinkTo {
        key: u64,
        edge: EdgeId,
        is_first: bool,
    },
    /// Nothing of the call is left: forget its cookies and caches.
    Forget(CallSid),
    /// For the log: a request was refused.
    Refused {
        flow: Flow,
        method: String,
        status: u16,
        why: &'static str,
        /// Where it was known.
        account: Option<AccountSid>,
    },
}

/// One call and what ties it to the world.
pub(super) struct Slot {
    pub(super) call: Call,
    /// By attempt; an incoming call has one.
    pub(super) dialogs: Vec<Option<DialogId>>,
    /// INVITEs to send, by attempt.
    pub(super) invitations: Vec<Invitation>,
    /// The call at the other end of a link inside.
    pub(super) peer: Option<CallSid>,
    /// What the peer is to be when it is made.
    pub(super) inside: Option<Box<super::outbound::Inside>>,
    /// Of the trunk that it goes by, if that has its own.
    pub(super) srtp: Option<Srtp>,
    /// What it has asked for and has no answer to.
    pub(super) waits: super::checkpoint::Waits,
    /// Whether it has been written down.
    pub(super) is_written: bool,
    /// The deadline that stands in the queue.
    armed: Option<Mono>,
}

pub struct Core {
    pub(super) settings: Settings,
    pub(super) stack: Stack,
    pub(super) gate: Gate,
    pub(super) tokens: Tokens,
    /// Boxed: a table has up to twice the places that it needs, and is copied when it grows.
    pub(super) calls: TokenMap<CallSid, Box<Slot>>,
    pub(super) by_dialog: TokenMap<DialogId, (CallSid, AttemptId)>,
    /// Which call each leg of a session belongs to.
    pub(super) sessions: TokenMap<u64, SessionLegs>,
    pub(super) resolving: TokenMap<u64, Resolving>,
    pub(super) sending: Sending,
    pub(super) asked: Asking,
    pub(super) rooms: Rooms,
    pub(super) queues: Queues,
    pub(super) neighbours: Neighbours,
    pub(super) admission: Admission,
    pub(super) escrow: Escrow,
    pub(super) watchers: Watchers,
    /// Browsers, by the connections inside this process that they have.
    pub(super) clients: HashMap<(SocketAddr, ConnectionId), Arc<Client>>,
    /// Calls that were ordered and wait for their turn.
    pub(super) selection: Selection<Queued>,
    pub(super) old_orders_sought: Mono,
    deadlines: BinaryHeap<Reverse<(Mono, CallSid)>>,
    pub(super) inputs: VecDeque<(CallSid, CallInput)>,
    /// Calls that are to be written down at the end of the turn.
    pub(super) unwritten: Vec<CallSid>,
    pub(super) out: VecDeque<Output>,
    /// The call that is being worked on: what a panic belongs to.
    current: Option<CallSid>,
    pub(super) draining: bool,
    /// Whether the outbox has room for another call.
    pub(super) admits: bool,
}

impl Core {
    pub fn new(settings: Settings) -> Core {
        let mut tokens = Tokens::new(settings.stack.seed);
        // The stack draws from a seed of its own, so that neither's names say anything of the other's.
        let seed = tokens.next_seed();
        let slots = settings.shares_limits.map_or_else(Slots::alone, Slots::shared);
        Core {
            admission: Admission::new(slots, settings.all_calls),
            escrow: Escrow::default(),
            stack: Stack::new(stack::Config { seed, ..settings.stack.clone() }),
            gate: Gate::new(&settings.gate, &mut tokens),
            tokens,
            settings,
            calls: TokenMap::default(),
            by_dialog: TokenMap::default(),
            sessions: TokenMap::default(),
            resolving: TokenMap::default(),
            sending: Sending::default(),
            asked: Asking::default(),
            rooms: Rooms::default(),
            queues: Queues::default(),
            neighbours: Neighbours::default(),
            watchers: Watchers::default(),
            clients: HashMap::new(),
            selection: Selection::default(),
            old_orders_sought: Mono(0),
            deadlines: BinaryHeap::new(),
            inputs: VecDeque::new(),
            unwritten: Vec::new(),
            out: VecDeque::new(),
            current: None,
            draining: false,
            admits: true,
        }
    }

    pub fn poll_output(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    pub fn next_deadline(&mut self) -> Option<Mono> {
        let call = self.next_call_deadline().map(|(at, _)| at);
        let room = self.rooms.next_deadline().map(|(at, _)| at);
        let place = self.admission.slots.next_deadline();
        let credit = self.escrow.next_deadline();
        let watcher = self.watchers.next_deadline();
        [call, room, place, credit, watcher, self.stack.next_deadline(), self.next_dispatch()]
            .into_iter()
            .flatten()
            .min()
    }

    /// The head of the queue. What stands before it for calls that have got on, or are over, is dropped, so that nobody
    /// wakes up for it.
    fn next_call_deadline(&mut self) -> Option<(Mono, CallSid)> {
        loop {
            let Reverse((at, sid)) = *self.deadlines.peek()?;
            if let Some(slot) = self.calls.get_mut(&sid).filter(|slot| slot.armed == Some(at)) {
                if slot.call.next_deadline().is_some_and(|deadline| deadline <= at) {
                    return Some((at, sid));
                }
                slot.armed = None;
            }
            self.deadlines.pop();
            self.arm(sid);
        }
    }

    pub fn stack(&self) -> &Stack {
        &self.stack
    }

    pub fn calls(&self) -> impl Iterator<Item = &Call> {
        self.calls.values().map(|slot| &slot.call)
    }

    /// Whether nothing is left of any call, nor of a text that an application is asked about.
    pub fn has_no_calls(&self) -> bool {
        self.calls.is_empty() && self.rooms.is_empty() && self.queues.is_empty() && self.asked.is_empty()
    }

    /// Whether no look-up is under way and no session is known: with no calls, nothing at all is left.
    pub fn is_settled(&self) -> bool {
        self.resolving.is_empty()
            && self.sending.is_empty()
            && self.sessions.is_empty()
            && self.by_dialog.is_empty()
            && self.inputs.is_empty()
            && self.neighbours.is_empty()
            && self.admission.is_empty()
            && self.escrow.is_empty()
    }

    /// Whether somebody waits to hear of this.
    pub fn is_heard(&self, event: &Event) -> bool {
        self.settings.directory.is_heard(event.account, event.at_ms)
    }

    /// A reload: calls that run keep what they began with.
    pub fn set_directory(&mut self, directory: Arc<Directory>, now: Now) {
        self.settings.directory = directory;
        self.limits_changed(now);
        self.work(now);
    }

    /// From now on new calls are refused with 503.
    pub fn drain(&mut self) {
        self.draining = true;
    }

    /// Whether new calls are taken, as far as the outbox is concerned.
    pub fn set_admits(&mut self, admits: bool) {
        self.admits = admits;
    }

    /// Ends every call, with BYE and a Reason.
    pub fn end_all(&mut self, now: Now) {
        let all: Vec<CallSid> = self.calls.keys().copied().collect();
        self.inputs.extend(all.into_iter().map(|sid| (sid, CallInput::Shutdown)));
        self.work(now);
    }

    /// Replaces every call by what its serialised form reads back: nothing may depend on more than that.
    pub fn restart_calls(&mut self) -> Result<(), serde_json::Error> {
        for slot in self.calls.values_mut() {
            slot.call = serde_json::from_slice(&serde_json::to_vec(&slot.call)?)?;
        }
        self.rooms.restart()?;
        self.queues.restart()
    }

    pub fn handle_message(&mut self, flow: Flow, message: Message, now: Now) -> Option<&'static str> {
        let dropped = match self.stack.receive(flow, message, now.mono) {
            Received::Handled => None,
            Received::Fresh(request) => {
                self.fresh(flow, request, now);
                None
            }
            Received::Dropped(why) => Some(why),
        };
        self.work(now);
        dropped
    }

    pub fn handle_connection_closed(&mut self, flow: Flow, now: Now) {
        let closed: Option<ConnectionId> = flow.connection;
        self.stack.handle_flow_failed(
            |of| {
                (closed.is_some() && of.connection == closed && of.local == flow.local)
                    || (of.connection.is_none() && of.remote == flow.remote && of.transport == flow.transport)
            },
            now.mono,
        );
        if let Some(connection) = closed {
            self.clients.remove(&(flow.local, connection));
            self.settings.bindings.connection_closed(flow);
        }
        self.work(now);
    }

    pub fn handle_media(&mut self, event: MediaEvent, now: Now) {
        let Some(kind) = event.kind else { return };
        if let MediaEventKind::AudioWanted(wanted) = kind {
            self.out.push_back(Output::AudioWanted { session_id: event.session_id, hash: wanted.hash });
            return;
        }
        if let Some(conference) = self.rooms.of_session(event.session_id) {
            self.conference_media(conference, kind, now);
            self.work(now);
        } else if let Some(sid) = self.call_of_leg(event.session_id, leg_of(&kind)) {
            self.inputs.push_back((sid, CallInput::Media(kind)));
            self.work(now);
        }
    }

    /// A leg goes on at another address, and its party must be told.
    pub fn handle_media_moved(&mut self, session_id: u64, leg_id: u32, sdp: Bytes, now: Now) {
        if let Some(sid) = self.call_of_leg(session_id, leg_id) {
            self.inputs.push_back((sid, CallInput::MediaMoved { sdp }));
        }
        self.work(now);
    }

    /// The worker took nothing of this: the call is told so.
    pub fn handle_media_lost(&mut self, session_id: u64, now: Now) {
        let legs = self.sessions.get(&session_id).into_iter().flat_map(|session| &session.legs);
        self.inputs.extend(legs.map(|(_, sid)| (*sid, CallInput::MediaLost)));
        if let Some(conference) = self.rooms.of_session(session_id) {
            self.give_conference(conference, ConferenceInput::MediaLost, now);
        }
        self.work(now);
    }

    /// A worker was lost that recorded calls: their customers are told of the gap.
    pub fn handle_media_interrupted(&mut self, session_id: u64, now: Now) {
        let legs = self.sessions.get(&session_id).into_iter().flat_map(|session| &session.legs);
        let notice = Notice::warning(notice::code::INTERNAL, RECORDING_GAP);
        self.inputs.extend(legs.map(|(_, sid)| (*sid, CallInput::Notice(notice.clone()))));
        self.work(now);
    }

    pub fn handle_document(&mut self, call: CallSid, fetch: u32, outcome: FetchOutcome, now: Now) {
        let Some(outcome) = self.answered(call, fetch, outcome, now) else { return self.work(now) };
        match self.rooms.of_actor(call) {
            Some(conference) => {
                self.give_conference(conference, ConferenceInput::Document { fetch, outcome }, now);
            }
            None => self.inputs.push_back((call, CallInput::Document { fetch, outcome })),
        }
        self.work(now);
    }

    pub fn handle_audio(&mut self, call: CallSid, ticket: u32, result: Result<ClipRef, AudioFailure>, now: Now) {
        match self.rooms.of_actor(call) {
            Some(conference) => self.give_conference(conference, ConferenceInput::Audio { ticket, result }, now),
            None => self.inputs.push_back((call, CallInput::Audio { ticket, result })),
        }
        self.work(now);
    }

    pub fn handle_timeout(&mut self, now: Now) {
        self.stack.handle_timeout(now.mono);
        while let Some((_, sid)) = self.next_call_deadline().filter(|(at, _)| *at <= now.mono) {
            self.deadlines.pop();
            if let Some(slot) = self.calls.get_mut(&sid) {
                slot.armed = None;
            }
            self.inputs.push_back((sid, CallInput::Deadline));
        }
        self.conferences_due(now);
        self.watchers_due(now);
        self.admission.slots.handle_timeout(now.mono);
        if self.escrow.handle_timeout(now.mono, now.wall_ms) {
            self.budgets_changed(now);
        }
        self.work(now);
    }

    /// Goes on until nothing is left to do: what the stack tells becomes inputs, what calls want is carried out.
    pub(super) fn work(&mut self, now: Now) {
        loop {
            while let Some(output) = self.stack.poll_output() {
                match output {
                    stack::Output::Transmit(transmit) => self.out.push_back(Output::Transmit(transmit)),
                    stack::Output::Event(event) => self.stack_event(event, now),
                }
            }
            match self.inputs.pop_front() {
                Some((sid, input)) => self.give(sid, input, now),
                None if self.decide(now) || self.spend(now) || self.dispatch(now) => {}
                None => return self.write_down(),
            }
        }
    }

    fn give(&mut self, sid: CallSid, input: CallInput, now: Now) {
        if !self.calls.contains_key(&sid) {
            return;
        }
        self.current = Some(sid);
        if matches!(input, CallInput::Membership(Membership::Left | Membership::Refused { .. })) {
            self.leave_places(sid, now);
        }
        let Some(slot) = self.calls.get_mut(&sid) else { return };
        let mut effects = Vec::new();
        slot.waits.answered(&input);
        let digit = digit_of(&input);
        let (deadline, leg_id) = (slot.call.next_deadline(), slot.call.leg_id());
        slot.call.handle(input, now, &mut effects);
        if let Some((parent, branch)) = slot.call.parent().filter(|_| slot.call.leg_id() != leg_id) {
            let moved = CallInput::ChildMoved { branch, leg_id: slot.call.leg_id() };
            self.inputs.push_back((parent, moved));
        }
        let account = slot.call.account();
        // What it no longer waits for must not be waited for by whoever takes it up.
        let has_got_on = digit.is_some() || !effects.is_empty() || slot.call.next_deadline() != deadline;
        if let Some(digit) = digit.filter(|_| self.settings.directory.is_heard(account, now.wall_ms)) {
            self.note(account, sid, EventKind::Dtmf { digit }, now);
        }
        for effect in effects {
            self.carry_out(sid, effect, now);
        }
        if has_got_on && self.settings.writes_down && self.unwritten.last() != Some(&sid) {
            self.unwritten.push(sid);
        }
        self.arm(sid);
        self.current = None;
    }

    /// After a panic: ends the call that it happened in, as well as that can be done from outside.
    ///
    /// Its record still gets its one end; its parent or child ends as if the party had left.
    pub fn end_failed_call(&mut self, now: Now) -> Option<CallSid> {
        let sid = self.current.take()?;
        let slot = self.calls.get(&sid)?;
        let (account, session_id) = (slot.call.account(), slot.call.session_id());
        let (dialogs, parent, peer, sequence) =
            (slot.dialogs.clone(), slot.call.parent(), slot.peer, slot.call.next_sequence());
        for dialog in dialogs.into_iter().flatten() {
            self.stack.decline(dialog, &Reply::new(500), now.mono);
            self.stack.cancel(dialog, "", now.mono);
            self.stack.bye(dialog, "SIP;cause=500", now.mono);
        }
        // It may have several, where several devices ring.
        let legs = self.sessions.get(&session_id).into_iter().flat_map(|session| &session.legs);
        let own = legs.filter(|(_, owner)| *owner == sid).map(|(leg_id, _)| CommandKind::DropLeg(*leg_id));
        self.out.extend(own.map(|command| Output::Media { session_id, command }));
        let completed = Completed {
            status: CallStatus::Failed,
            sip_status: 500,
            ended_by: EndedBy::Server,
            media: Media::default(),
            recorded: None,
        };
        let id = EventSid::at(now.wall_ms, self.tokens.next_u128());
        let kind = EventKind::Completed(Box::new(completed));
        self.out.push_back(Output::Publish(Event { id, account, call: sid, sequence, at_ms: now.wall_ms, kind }));
        if let Some((parent, branch)) = parent {
            let event = BranchEvent::Failed { status: BranchFailure::Failed, sip: None };
            self.inputs.push_back((parent, CallInput::Branch { branch, event }));
        }
        if let Some(peer) = peer {
            self.inputs
                .push_back((peer, CallInput::Sip { attempt: AttemptId::FIRST, event: SipEvent::Ended { lost: true } }));
        }
        let orphans = self
            .calls
            .values()
            .filter(|slot| slot.call.parent().is_some_and(|(parent, _)| parent == sid))
            .map(|slot| slot.call.sid());
        let orphans: Vec<CallSid> = orphans.collect();
        self.inputs.extend(orphans.into_iter().map(|child| (child, CallInput::Shutdown)));
        self.leave_conference(sid, true, now);
        self.leave_queue(sid, now);
        self.remove(sid, now);
        self.work(now);
        Some(sid)
    }

    pub(super) fn arm(&mut self, sid: CallSid) {
        let Some(slot) = self.calls.get_mut(&sid) else { return };
        let Some(deadline) = slot.call.next_deadline() else { return };
        if slot.armed.is_none_or(|armed| deadline < armed) {
            slot.armed = Some(deadline);
            self.deadlines.push(Reverse((deadline, sid)));
        }
    }

    /// Takes a call in; its first input is up to the caller.
    pub(super) fn insert(
        &mut self,
        call: Call,
        dialogs: Vec<Option<DialogId>>,
        invitations: Vec<Invitation>,
    ) -> CallSid {
        let sid = call.sid();
        let session = self.sessions.entry(call.session_id()).or_default();
        session.legs.push((call.leg_id(), sid));
        session.given = session.given.max(call.leg_id() + 1);
        for (attempt, dialog) in dialogs.iter().enumerate() {
            if let Some(dialog) = dialog {
                self.by_dialog.insert(*dialog, (sid, AttemptId(attempt as u8)));
            }
        }
        let slot = Slot {
            call,
            dialogs,
            invitations,
            peer: None,
            inside: None,
            srtp: None,
            waits: Default::default(),
            is_written: false,
            armed: None,
        };
        self.calls.insert(sid, Box::new(slot));
        sid
    }

    pub(super) fn remove(&mut self, sid: CallSid, now: Now) {
        let Some(slot) = self.calls.remove(&sid) else { return };
        // Of one that a panic has ended.
        for stream in slot.call.stream_sids() {
            self.close_stream(stream, now);
        }
        self.give_places_back(sid, now);
        if let Some(inside) = &slot.inside {
            self.give_places_back(inside.sid(), now);
        }
        for dialog in slot.dialogs.into_iter().flatten() {
            self.by_dialog.remove(&dialog);
        }
        let session = slot.call.session_id();
        if let Some(known) = self.sessions.get_mut(&session) {
            known.legs.retain(|(_, owner)| *owner != sid);
            if known.legs.is_empty() {
                self.sessions.remove(&session);
                let command = CommandKind::Release(dialtone_media::proto::Release {});
                self.out.push_back(Output::Media { session_id: session, command });
            }
        }
        self.resolving.retain(|_, resolving| resolving.child != sid);
        self.forget_neighbour(sid);
        self.out.push_back(Output::Forget(sid));
    }

    pub(super) fn bind_dialog(&mut self, sid: CallSid, attempt: AttemptId, dialog: DialogId) {
        self.by_dialog.insert(dialog, (sid, attempt));
        if let Some(place) = self.calls.get_mut(&sid).and_then(|slot| slot.dialogs.get_mut(usize::from(attempt.0))) {
            *place = Some(dialog);
        }
    }

    fn call_of_leg(&self, session_id: u64, leg_id: u32) -> Option<CallSid> {
        self.sessions.get(&session_id)?.legs.iter().find(|(leg, _)| *leg == leg_id).map(|(_, sid)| *sid)
    }

    fn stack_event(&mut self, event: StackEvent, now: Now) {
        let (dialog, event) = match event {
            StackEvent::Canceled { dialog, .. } if self.arrived_left(dialog, now) => return,
            StackEvent::Canceled { dialog, .. } => (dialog, SipEvent::Canceled),
            StackEvent::Acked { dialog, ack } => (dialog, SipEvent::Acked { sdp: sdp_of(&ack) }),
            StackEvent::AckMissing { dialog } => (dialog, SipEvent::AckMissing),
            StackEvent::Progress { dialog, response } => {
                (dialog, SipEvent::Progress { status: response.status(), sdp: sdp_of(&response) })
            }
            StackEvent::Answered { dialog, response } => {
                (dialog, SipEvent::Answered { sdp: sdp_of(&response), sip_call_id: response.call_id().to_owned() })
            }
            StackEvent::Diverted { dialog, failed, next, status, response } => {
                if let Some((sid, _)) = self.by_dialog.get(&dialog).copied() {
                    self.note_diverted(sid, failed, next, status, response.as_ref());
                }
                return;
            }
            StackEvent::Refused { dialog, status, response } => {
                if let (Some(response), Some((sid, attempt))) = (&response, self.by_dialog.get(&dialog).copied()) {
                    self.note_foreign_realm(sid, attempt, response);
                }
                let sip_call_id = response.map(|response| response.call_id().to_owned()).unwrap_or_default();
                (dialog, SipEvent::Refused { status, sip_call_id })
            }
            StackEvent::Reoffered { dialog, invite } => (dialog, SipEvent::Reoffered { sdp: sdp_of(&invite) }),
            StackEvent::ReofferCanceled { dialog } => (dialog, SipEvent::ReofferCanceled),
            StackEvent::Reanswered { dialog, status, response } => {
                (dialog, SipEvent::Reanswered { status, sdp: response.as_ref().map(sdp_of).unwrap_or_default() })
            }
            StackEvent::Ended { dialog, bye } => (dialog, SipEvent::Ended { lost: bye.is_none() }),
            StackEvent::Responded { request, status } if self.notify_answered(request, status, now) => return,
            StackEvent::Responded { request, status } => return self.message_answered(request, status, now),
            StackEvent::Resubscribed { subscription, transaction, request } => {
                return self.resubscribed(subscription, transaction, &request, now);
            }
            StackEvent::ReferAnswered { dialog, status } => (dialog, SipEvent::ReferAnswered { status }),
            StackEvent::InDialog { dialog, transaction, request } => {
                return self.in_dialog(dialog, transaction, &request, now);
            }
        };
        if let Some((sid, attempt)) = self.by_dialog.get(&dialog).copied() {
            self.inputs.push_back((sid, CallInput::Sip { attempt, event }));
        }
    }

    /// A request inside a dialog other than INVITE, ACK and BYE.
    fn in_dialog(&mut self, dialog: DialogId, transaction: stack::TransactionId, request: &Message, now: Now) {
        let event = match request.method() {
            Some(Method::Info) => dialtone_sip::dialog::info_digit(request).map(SipEvent::Digit),
            Some(Method::Notify) => dialtone_sip::dialog::refer_progress(request)
                .map(|(status, is_last)| SipEvent::ReferNotified { status, is_last }),
            Some(Method::Refer) => return self.referred(dialog, transaction, request, now),
            Some(Method::Message) => self.user_message(dialog, request),
            _ => None,
        };
        let reply = match request.method() {
            Some(_) if event.is_some() => Reply::new(200),
            // Texts are taken outside of calls.
            Some(Method::Message) => Reply::new(403),
            // Of REFER only (RFC 6665 s8.3.1).
            Some(Method::Notify) => Reply::new(489).named("Allow-Events", "refer".to_owned()),
            Some(Method::Options) => Reply::new(200).header(HeaderName::Allow, stack::ALLOW.to_owned()),
            Some(Method::Info) if request.body().is_empty() => Reply::new(200),
            Some(Method::Info) => {
                Reply::new(415).header(HeaderName::Accept, "application/dtmf-relay, application/dtmf".to_owned())
            }
            Some(Method::Other) => Reply::new(501).header(HeaderName::Allow, stack::ALLOW.to_owned()),
            _ => Reply::new(405).header(HeaderName::Allow, stack::ALLOW.to_owned()),
        };
        self.stack.reply(transaction, request, &reply, now.mono);
        if let (Some(event), Some((sid, attempt))) = (event, self.by_dialog.get(&dialog).copied()) {
            self.inputs.push_back((sid, CallInput::Sip { attempt, event }));
        }
    }

    /// What becomes of a REFER is told by NOTIFY; here it is only whether it can be read (RFC 3515 s2.4.2).
    fn referred(&mut self, dialog: DialogId, transaction: stack::TransactionId, request: &Message, now: Now) {
        let target = dialtone_sip::dialog::refer_target(request);
        let mut reply = Reply::new(target.err().unwrap_or(202));
        if let (Ok(_), Some(own)) = (target, self.stack.dialog(dialog)) {
            reply = reply.header(HeaderName::Contact, own.contact.clone());
        }
        self.stack.reply(transaction, request, &reply, now.mono);
        if let (Ok(target), Some((sid, attempt))) = (target, self.by_dialog.get(&dialog).copied()) {
            let referral = Referral { target: target.to_owned(), params: route::custom_headers(request) };
            self.inputs.push_back((sid, CallInput::Sip { attempt, event: SipEvent::Referred(referral) }));
        }
    }
}

const RECORDING_GAP: &str = "the media worker that recorded this call was lost: for a moment there is silence in the recording, where another had not taken over yet";

/// The legs of a media session.
#[derive(Default)]
pub(super) struct SessionLegs {
    /// And whose they are.
    pub(super) legs: Vec<(u32, CallSid)>,
    /// The number of the next. None is given twice: others may still hear by the number of one that is over.
    pub(super) given: u32,
}

fn sdp_of(message: &Message) -> Bytes {
    match message.content_type().as_deref() {
        Some("application/sdp") => message.body(),
        _ => Bytes::new(),
    }
}

/// The key that an input tells of.
fn digit_of(input: &CallInput) -> Option<char> {
    match input {
        CallInput::Media(MediaEventKind::Digit(pressed)) => char::from_u32(pressed.digit),
        CallInput::Sip { event: SipEvent::Digit(digit), .. } => Some(*digit),
        _ => None,
    }
}

fn leg_of(kind: &MediaEventKind) -> u32 {
    match kind {
        MediaEventKind::Negotiated(event) => event.leg_id,
        MediaEventKind::Refused(event) => event.leg_id,
        MediaEventKind::Digit(event) => event.leg_id,
        MediaEventKind::PlayerEnded(event) => event.leg_id,
        MediaEventKind::LegSilent(event) => event.leg_id,
        MediaEventKind::LegClosed(event) => event.leg_id,
        MediaEventKind::LegFailed(event) => event.leg_id,
        MediaEventKind::LegHeard(leg_id) => *leg_id,
        MediaEventKind::Speaking(event) => event.leg_id,
        MediaEventKind::RecorderStarted(event) => event.leg_id,
        MediaEventKind::RecorderEnded(event) => event.leg_id,
        MediaEventKind::Tapped(event) => event.leg_id,
        MediaEventKind::Marked(event) => event.leg_id,
        // The session as a whole: its first leg's call owns it.
        MediaEventKind::AudioWanted(_) | MediaEventKind::Released(_) => 0,
    }
}
