//! Carries out what a call wants.

use dialtone_sip::flow::Transport;
use dialtone_sip::msg::HeaderName;
use dialtone_sip::stack::Reply;

use super::core::{Core, Output};
use super::neighbours::What;
use crate::call::browser;
use crate::call::{AttemptId, CallInput, Effect, Now, QueueInput, SipCommand, SipEvent};
use crate::events::{Event, EventKind, recording_url};
use crate::ids::{AccountSid, CallSid, EventSid, RecordingSid};

/// A method that the peer does not take.
const NOT_ALLOWED: u16 = 405;

impl Core {
    pub(super) fn carry_out(&mut self, sid: CallSid, effect: Effect, now: Now) {
        let Some(slot) = self.calls.get(&sid) else { return };
        let (account, session_id) = (slot.call.account(), slot.call.session_id());
        match effect {
            Effect::Sip { attempt, command } if slot.is_inside() => self.inside_command(sid, attempt, command),
            Effect::Sip { attempt, command } => self.sip_command(sid, attempt, command, now),
            Effect::Media(command) => self.out.push_back(Output::Media { session_id, command }),
            Effect::Fetch { order, params } => {
                if let Some(slot) = self.calls.get_mut(&sid).filter(|_| self.settings.writes_down) {
                    slot.waits.document_wanted(&order, &params);
                }
                self.out.push_back(Output::Fetch { call: sid, account, order, params });
            }
            Effect::CancelFetch(fetch) => {
                if let Some(slot) = self.calls.get_mut(&sid) {
                    slot.waits.cancel(fetch);
                }
                self.out.push_back(Output::CancelFetch { call: sid, fetch });
            }
            Effect::Prepare { ticket, source } => {
                if let Some(slot) = self.calls.get_mut(&sid).filter(|_| self.settings.writes_down) {
                    slot.waits.audio_wanted(ticket, &source);
                }
                self.out.push_back(Output::Prepare { call: sid, account, ticket, source })
            }
            Effect::Originate(order) => self.originate(sid, *order, now),
            Effect::ToParent { parent, branch, event } => {
                self.inputs.push_back((parent, CallInput::Branch { branch, event }))
            }
            Effect::ToChild { child, input } => self.inputs.push_back((child, CallInput::Parent(input))),
            Effect::Publish { sequence, kind } => {
                self.watch_call(account, sid, &kind);
                match &kind {
                    EventKind::Answered => self.call_answered(sid, now),
                    EventKind::Completed(_) => self.escrow.close(sid),
                    _ => {}
                }
                let id = EventSid::at(now.wall_ms, self.tokens.next_u128());
                self.out.push_back(Output::Publish(Event {
                    id,
                    account,
                    call: sid,
                    sequence,
                    at_ms: now.wall_ms,
                    kind,
                }));
            }
            Effect::Note(kind) => self.note(account, sid, kind, now),
            Effect::JoinConference(spec) => self.join_when_there_is_room(sid, account, spec, now),
            Effect::LeaveConference { hung_up } => {
                self.leave_places(sid, now);
                self.leave_conference(sid, hung_up, now);
            }
            Effect::Enqueue(spec) => self.wish(sid, account, What::Enqueue(*spec), now),
            Effect::Dequeue(spec) => self.wish(sid, account, What::Dequeue(*spec), now),
            Effect::AskQueue => self.give_queue_of(sid, QueueInput::Ask(sid), now),
            Effect::QueueReady => self.give_queue_of(sid, QueueInput::Ready(sid), now),
            Effect::LeaveQueue => self.leave_queue(sid, now),
            Effect::SendMessage { from, to, body, callback } => {
                let sid_of_message = self.message_of_call(sid, account, (from, to), body, callback, now);
                self.inputs.push_back((sid, CallInput::MessageTaken { sid: sid_of_message }));
            }
            Effect::NameRecording { number } => {
                let recording = RecordingSid::at(now.wall_ms, self.tokens.next_u128());
                let url = recording_url(&self.settings.public_url, account, recording);
                self.inputs.push_back((sid, CallInput::RecordingNamed { number, sid: recording, url }));
            }
            Effect::NameStream { number } => self.name_stream(sid, number, now),
            Effect::OpenStream(order) => self.open_stream(sid, *order, now),
            Effect::TellStream { sid: stream, digit } => self.out.push_back(Output::TellStream { sid: stream, digit }),
            Effect::CloseStream(stream) => self.close_stream(stream, now),
            Effect::Finished => self.remove(sid, now),
        }
    }

    /// Publishes a fact that stands for itself.
    pub(super) fn note(&mut self, account: AccountSid, call: CallSid, kind: EventKind, now: Now) {
        let id = EventSid::at(now.wall_ms, self.tokens.next_u128());
        self.out.push_back(Output::Publish(Event { id, account, call, sequence: 0, at_ms: now.wall_ms, kind }));
    }

    fn sip_command(&mut self, sid: CallSid, attempt: AttemptId, command: SipCommand, now: Now) {
        if let SipCommand::Invite { sdp } = command {
            return self.send_invite(sid, attempt, sdp, now);
        }
        let Some(dialog) = self.calls.get(&sid).and_then(|slot| *slot.dialogs.get(usize::from(attempt.0))?) else {
            return;
        };
        match command {
            SipCommand::Progress { status, sdp } => self.stack.progress(dialog, status, sdp, now.mono),
            SipCommand::Answer { sdp } => self.stack.answer(dialog, sdp, now.mono),
            SipCommand::Decline { status, reason } => {
                let reply = if status == 503 { self.unavailable() } else { Reply::new(status) };
                let reply = if reason.is_empty() { reply } else { reply.header(HeaderName::Reason, reason) };
                self.stack.decline(dialog, &reply, now.mono);
            }
            SipCommand::Cancel { reason } => self.stack.cancel(dialog, &reason, now.mono),
            SipCommand::Bye { reason } => self.stack.bye(dialog, &reason, now.mono),
            SipCommand::Reinvite { sdp } => self.stack.reinvite(dialog, sdp, now.mono),
            SipCommand::UserMessage { sid, content } => {
                let body = ("application/json", content.as_bytes());
                self.stack.message_inside(dialog, &[(browser::MESSAGE, &sid.to_string())], body, now.mono);
            }
            SipCommand::Refer { uri, headers } => self.stack.refer(dialog, &uri, &headers, now.mono),
            SipCommand::NotifyRefer { status } => self.stack.notify_refer(dialog, status, now.mono),
            SipCommand::Invite { .. } => {}
        }
    }

    fn send_invite(&mut self, sid: CallSid, attempt: AttemptId, sdp: bytes::Bytes, now: Now) {
        let invitation = self.calls.get(&sid).and_then(|slot| slot.invitations.get(usize::from(attempt.0))).cloned();
        let Some(mut invitation) = invitation else { return };
        invitation.sdp = sdp;
        if invitation.flow.transport == Transport::Ws {
            invitation.headers.push((browser::CALL.to_owned(), sid.to_string()));
        }
        let dialog = self.stack.invite(invitation, now.mono);
        self.bind_dialog(sid, attempt, dialog);
    }

    /// A command of a call whose other end is a call of ours: it becomes the other end's event.
    fn inside_command(&mut self, sid: CallSid, attempt: AttemptId, command: SipCommand) {
        if matches!(command, SipCommand::Invite { .. }) {
            return self.begin_inside(sid);
        }
        let Some(peer) = self.calls.get(&sid).and_then(|slot| slot.peer) else { return };
        let event = match command {
            SipCommand::Progress { status, .. } => SipEvent::Progress { status, sdp: bytes::Bytes::new() },
            SipCommand::Answer { sdp } => SipEvent::Answered { sdp, sip_call_id: String::new() },
            SipCommand::Decline { status, .. } => SipEvent::Refused { status, sip_call_id: String::new() },
            SipCommand::Cancel { .. } => SipEvent::Canceled,
            SipCommand::Bye { .. } => SipEvent::Ended { lost: false },
            // Nobody is behind it who could call somebody else.
            SipCommand::Refer { .. } => {
                let event = SipEvent::ReferAnswered { status: NOT_ALLOWED };
                return self.inputs.push_back((sid, CallInput::Sip { attempt, event }));
            }
            SipCommand::Invite { .. }
            | SipCommand::Reinvite { .. }
            | SipCommand::UserMessage { .. }
            | SipCommand::NotifyRefer { .. } => return,
        };
        self.inputs.push_back((peer, CallInput::Sip { attempt, event }));
    }
}
