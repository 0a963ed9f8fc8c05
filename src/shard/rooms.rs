//! The conferences of a shard: found by account and name, joined and left by calls, changed from outside.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use dialtone_media::proto::MediaEventKind;
use dialtone_sip::time::Mono;
use dialtone_sip::tokens::TokenMap;

use super::core::{Core, Output};
use super::neighbours::Letter;
use crate::call::{
    CallInput, Conference, ConferenceEffect, ConferenceInput, ConferenceRecord, Now, ParticipantChange, actor,
};
use crate::events::Participant;
use crate::ids::{AccountSid, CallSid, ConferenceSid, RecordingSid};
use crate::twiml::{ConferenceSpec, Endpoint, Membership};

/// All conferences of a shard, and the ways to find one.
#[derive(Default)]
pub(super) struct Rooms {
    conferences: TokenMap<ConferenceSid, Room>,
    by_name: HashMap<(AccountSid, String), ConferenceSid>,
    by_session: TokenMap<u64, ConferenceSid>,
    by_call: TokenMap<CallSid, ConferenceSid>,
    deadlines: BinaryHeap<Reverse<(Mono, ConferenceSid)>>,
}

struct Room {
    account: AccountSid,
    conference: Conference,
    /// The deadline that stands in the queue.
    armed: Option<Mono>,
}

/// What somebody outside wants of a conference.
#[derive(Clone, Debug, PartialEq)]
pub enum ConferenceChange {
    End,
    Announce(Endpoint),
    /// Of the member of that sid or label.
    Participant {
        name: String,
        change: ParticipantChange,
    },
    Record(ConferenceRecord),
}

/// What came of it.
#[derive(Clone, Debug, PartialEq)]
pub enum ConferenceChanged {
    Done,
    /// The member as it stands now; gone, if it was removed.
    Participant(Participant),
    /// There is no such conference of the account, or it is over.
    NoConference,
    /// It has no such member, or no such recording.
    NotInIt,
}

impl Rooms {
    pub(super) fn is_empty(&self) -> bool {
        self.conferences.is_empty() && self.by_name.is_empty() && self.by_session.is_empty() && self.by_call.is_empty()
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &(AccountSid, String)> {
        self.by_name.keys()
    }

    pub(super) fn has(&self, account: AccountSid, name: &str) -> bool {
        self.by_name.contains_key(&(account, name.to_owned()))
    }

    pub(super) fn of_session(&self, session_id: u64) -> Option<ConferenceSid> {
        self.by_session.get(&session_id).copied()
    }

    /// Whether a call is in a conference that is here.
    pub(super) fn has_member(&self, call: CallSid) -> bool {
        self.by_call.contains_key(&call)
    }

    /// The conference whose fetches and audio have this name.
    pub(super) fn of_actor(&self, call: CallSid) -> Option<ConferenceSid> {
        let sid = ConferenceSid::new(call.bits());
        self.conferences.contains_key(&sid).then_some(sid)
    }

    pub(super) fn next_deadline(&mut self) -> Option<(Mono, ConferenceSid)> {
        loop {
            let Reverse((at, sid)) = *self.deadlines.peek()?;
            if let Some(room) = self.conferences.get_mut(&sid).filter(|room| room.armed == Some(at)) {
                if room.conference.next_deadline().is_some_and(|deadline| deadline <= at) {
                    return Some((at, sid));
                }
                room.armed = None;
            }
            self.deadlines.pop();
            self.arm(sid);
        }
    }

    fn arm(&mut self, sid: ConferenceSid) {
        let Some(room) = self.conferences.get_mut(&sid) else { return };
        let Some(deadline) = room.conference.next_deadline() else { return };
        if room.armed.is_none_or(|armed| deadline < armed) {
            room.armed = Some(deadline);
            self.deadlines.push(Reverse((deadline, sid)));
        }
    }

    /// Replaces each conference by what its serialised form reads back.
    pub(super) fn restart(&mut self) -> Result<(), serde_json::Error> {
        for room in self.conferences.values_mut() {
            room.conference = serde_json::from_slice(&serde_json::to_vec(&room.conference)?)?;
        }
        Ok(())
    }
}

impl Core {
    /// Makes a call a member of its account's conference of that name, which begins to exist with its first. It is in none.
    pub(super) fn join_conference(&mut self, call: CallSid, account: AccountSid, spec: ConferenceSpec, now: Now) {
        let name = (account, spec.name.clone());
        let sid = match self.rooms.by_name.get(&name) {
            Some(sid) => *sid,
            None => {
                let sid = ConferenceSid::at(now.wall_ms, self.tokens.next_u128());
                let session_id = self.tokens.next_u64();
                let conference = Conference::new(sid, session_id, call, &spec, now);
                self.rooms.conferences.insert(sid, Room { account, conference, armed: None });
                self.rooms.by_name.insert(name, sid);
                self.rooms.by_session.insert(session_id, sid);
                sid
            }
        };
        let key = self.tokens.next_u64();
        self.rooms.by_call.insert(call, sid);
        if let Some(edge) = self.edge_of(call) {
            self.link_to(key, edge);
        }
        self.tell_call(call, CallInput::Linked { key }, None);
        self.give_conference(sid, ConferenceInput::Join { call, key, spec: Box::new(spec) }, now);
    }

    pub(super) fn leave_conference(&mut self, call: CallSid, hung_up: bool, now: Now) {
        if let Some(sid) = self.rooms.by_call.remove(&call) {
            self.give_conference(sid, ConferenceInput::Leave { call, hung_up }, now);
            self.see_off(call);
        } else {
            self.come_back(call, Letter::LeaveConference { call, hung_up });
        }
    }

    pub(super) fn conference_media(&mut self, sid: ConferenceSid, event: MediaEventKind, now: Now) {
        self.give_conference(sid, ConferenceInput::Media(event), now);
    }

    pub(super) fn conferences_due(&mut self, now: Now) {
        while let Some((_, sid)) = self.rooms.next_deadline().filter(|(at, _)| *at <= now.mono) {
            self.rooms.deadlines.pop();
            if let Some(room) = self.rooms.conferences.get_mut(&sid) {
                room.armed = None;
            }
            self.give_conference(sid, ConferenceInput::Deadline, now);
        }
    }

    /// Changes an account's conference that is not over.
    pub fn change_conference(
        &mut self,
        account: AccountSid,
        sid: ConferenceSid,
        change: ConferenceChange,
        now: Now,
    ) -> ConferenceChanged {
        let running = |room: &&Room| room.account == account && !room.conference.is_completed();
        let Some(room) = self.rooms.conferences.get(&sid).filter(running) else {
            return ConferenceChanged::NoConference;
        };
        let mut about = None;
        let input = match change {
            ConferenceChange::End => ConferenceInput::End,
            ConferenceChange::Announce(endpoint) => ConferenceInput::Announce(endpoint),
            ConferenceChange::Record(record) if !room.conference.takes_record(&record) => {
                return ConferenceChanged::NotInIt;
            }
            ConferenceChange::Record(record) => ConferenceInput::Record(record),
            ConferenceChange::Participant { name, change } => {
                let Some(call) = room.conference.member_named(&name) else { return ConferenceChanged::NotInIt };
                about = room.conference.participants().find(|participant| participant.call == call);
                ConferenceInput::Change { call, change: Box::new(change) }
            }
        };
        self.give_conference(sid, input, now);
        let now_stands = about.as_ref().and_then(|about| {
            let room = self.rooms.conferences.get(&sid)?;
            room.conference.participants().find(|participant| participant.call == about.call)
        });
        self.work(now);
        match now_stands.or(about) {
            Some(participant) => ConferenceChanged::Participant(participant),
            None => ConferenceChanged::Done,
        }
    }

    pub(super) fn give_conference(&mut self, sid: ConferenceSid, input: ConferenceInput, now: Now) {
        let Some(room) = self.rooms.conferences.get_mut(&sid) else { return };
        let (account, session_id) = (room.account, room.conference.session_id());
        let mut effects = Vec::new();
        room.conference.handle(input, now, &mut effects);
        if room.conference.is_completed() {
            // Whoever wants a room of that name gets another one.
            let name = (account, room.conference.name().to_owned());
            if self.rooms.by_name.get(&name) == Some(&sid) {
                self.rooms.by_name.remove(&name);
                self.give_up_conference(account, &name.1);
            }
        }
        for effect in effects {
            match effect {
                ConferenceEffect::Media(command) => self.out.push_back(Output::Media { session_id, command }),
                ConferenceEffect::Tell { call, membership } => {
                    let is_over = matches!(membership, Membership::Refused { .. } | Membership::Left);
                    if is_over && self.rooms.by_call.get(&call) == Some(&sid) {
                        self.rooms.by_call.remove(&call);
                    }
                    self.tell_call(call, CallInput::Membership(membership), None);
                    if is_over {
                        self.see_off(call);
                    }
                }
                ConferenceEffect::Note { call, kind } => self.note(account, call, kind, now),
                ConferenceEffect::Notice { call, notice } => self.tell_call(call, CallInput::Notice(notice), None),
                ConferenceEffect::Fetch { order, mut params } => {
                    params.insert(0, ("AccountSid".to_owned(), account.to_string()));
                    self.out.push_back(Output::Fetch { call: actor(sid), account, order, params });
                }
                ConferenceEffect::CancelFetch(fetch) => {
                    self.out.push_back(Output::CancelFetch { call: actor(sid), fetch });
                }
                ConferenceEffect::Prepare { ticket, source } => {
                    self.out.push_back(Output::Prepare { call: actor(sid), account, ticket, source });
                }
                ConferenceEffect::Record { trim, callback } => {
                    let recording = RecordingSid::at(now.wall_ms, self.tokens.next_u128());
                    self.give_conference(sid, ConferenceInput::StartRecording { sid: recording, trim, callback }, now);
                }
                ConferenceEffect::Finished => {
                    self.rooms.conferences.remove(&sid);
                    self.rooms.by_session.remove(&session_id);
                    self.out.push_back(Output::Forget(actor(sid)));
                }
            }
        }
        self.rooms.arm(sid);
    }
}
