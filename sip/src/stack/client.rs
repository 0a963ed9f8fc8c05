//! Responses to what we sent, and what else becomes of our transactions.

use bytes::Bytes;

use super::table::{Key, Owner, TransactionId};
use super::usage::{Cancel, Phase};
use super::{Event, Received, Stack};
use crate::dialog::{Dialog, DialogId};
use crate::digest;
use crate::flow::Flow;
use crate::msg::{HeaderName, MAGIC_COOKIE, Message, Method};
use crate::time::Mono;
use crate::transaction::{Input, State, Tell};

/// A challenge is answered this often: once, and once more where the nonce was stale or a proxy asks as well.
const CHALLENGES: u8 = 2;

impl Stack {
    pub(super) fn client_response(&mut self, id: TransactionId, response: Message, flow: Flow, now: Mono) -> Received {
        let status = response.status();
        let ack = self.failure_ack(id, &response);
        // What the dialog learns of the peer's address comes by the flow of its response.
        if let Some(entry) = self.table.get_mut(id)
            && flow.connection.is_some()
        {
            entry.flow.connection = flow.connection;
        }
        let Some((to, step)) = self.table.handle(id, Input::ResponseReceived { status, ack }, now) else {
            return Received::Handled;
        };
        if let Some(bytes) = step.send {
            self.transmit(to, bytes);
        }
        self.after_step(id, step.tell, Some(response), now);
        Received::Handled
    }

    /// The ACK of a failure: the INVITE's own Via and Request-URI, the response's To (RFC 3261 s17.1.1.3).
    fn failure_ack(&mut self, id: TransactionId, response: &Message) -> Bytes {
        let Some(Owner::InviteClient(dialog)) = self.table.owner(id) else { return Bytes::new() };
        if response.status() < 300 || !matches!(self.table.state(id), Some(State::Calling | State::Proceeding)) {
            return Bytes::new();
        }
        let (Some(usage), Some(token), Some(flow)) =
            (self.usages.get(&dialog), self.table.client_token(id), self.table.flow(id))
        else {
            return Bytes::new();
        };
        let mut original = usage.dialog.clone();
        original.remote_tag = response.to_tag().unwrap_or("").to_owned();
        if usage.phase == Phase::Early
            && let Some(outgoing) = &usage.outgoing
        {
            original.remote_target = outgoing.invitation.request_uri.clone();
            original.route_set = outgoing.invitation.routes.clone();
        }
        let cseq = response.cseq().map_or(0, |(number, _)| number);
        original.request(Method::Ack, cseq, &self.via(flow, token)).finish("", b"")
    }

    /// What a transaction tells its owner.
    pub(super) fn transaction_tells(
        &mut self,
        id: TransactionId,
        owner: Owner,
        tell: Tell,
        response: Option<Message>,
        now: Mono,
    ) {
        match (owner, tell) {
            (Owner::Nobody, _) | (Owner::InviteServer(_), Tell::Response | Tell::TimedOut) => {}
            (Owner::InviteServer(dialog), Tell::TransportFailed) => self.incoming_unreachable(dialog),
            (Owner::InviteClient(dialog), Tell::Response) => {
                if let Some(response) = response {
                    self.invite_response(dialog, id, response, now);
                }
            }
            (Owner::InviteClient(dialog), Tell::TimedOut) => self.invite_failed(dialog, 408, None, now),
            (Owner::InviteClient(dialog), Tell::TransportFailed) => self.invite_failed(dialog, 503, None, now),
            (Owner::Bye(dialog), Tell::Response) => self.bye_response(dialog, response, now),
            (Owner::Bye(dialog), _) => self.forget(dialog),
        }
    }

    fn incoming_unreachable(&mut self, dialog: DialogId) {
        let Some(usage) = self.usages.get_mut(&dialog) else { return };
        usage.incoming = None;
        if usage.phase == Phase::Early {
            self.usages.remove(&dialog);
            self.tell(Event::Ended { dialog, bye: None });
        }
    }

    fn invite_response(&mut self, dialog: DialogId, id: TransactionId, response: Message, now: Mono) {
        let Some(outgoing) = self.usages.get_mut(&dialog).and_then(|usage| usage.outgoing.as_mut()) else { return };
        if outgoing.transaction != id {
            return;
        }
        match response.status() {
            100..=199 => {
                outgoing.provisional = true;
                match outgoing.canceled {
                    Cancel::Wanted(_) => self.send_cancel(dialog, now),
                    Cancel::No if response.status() > 100 => self.tell(Event::Progress { dialog, response }),
                    _ => {}
                }
            }
            200..=299 if outgoing.settled => self.success_repeated(dialog, response, now),
            200..=299 => self.success(dialog, response, now),
            status => self.invite_failed(dialog, status, Some(response), now),
        }
    }

    /// The first 2xx: the dialog is made of it, and it is acknowledged.
    fn success(&mut self, dialog: DialogId, response: Message, now: Mono) {
        let Some(usage) = self.usages.get_mut(&dialog) else { return };
        let Some(outgoing) = usage.outgoing.as_mut() else { return };
        outgoing.settled = true;
        outgoing.invitation.sdp = Bytes::new();
        outgoing.invitation.headers = Vec::new();
        let (cseq, canceled) = (outgoing.cseq, outgoing.canceled != Cancel::No);
        let flow = self.table.flow(outgoing.transaction).unwrap_or(usage.dialog.flow);
        let phase = usage.phase;
        if phase == Phase::Early {
            usage.dialog.take_response(&response, flow);
            usage.phase = Phase::Confirmed;
        } else {
            usage.dialog.take_target(&response, flow);
        }
        let (ack_flow, ack) = self.write_ack(dialog, cseq);
        self.transmit(ack_flow, ack.clone());
        if let Some(usage) = self.usages.get_mut(&dialog) {
            usage.last_ack = Some((cseq, ack));
        }
        match phase {
            // The peer answered while our CANCEL was under way: end what it opened (RFC 3261 s15).
            Phase::Early if canceled => {
                self.bye(dialog, "", now);
                self.tell(Event::Refused { dialog, status: 487, response: None });
            }
            Phase::Early => self.tell(Event::Answered { dialog, response }),
            Phase::Confirmed => {
                self.tell(Event::Reanswered { dialog, status: response.status(), response: Some(response) })
            }
            Phase::Ending => {
                if !self.bye_is_open(dialog) {
                    self.forget(dialog);
                }
            }
        }
    }

    /// A 2xx after the first: the same one again, or another branch of a fork, which is answered and ended
    /// (RFC 3261 s13.2.2.4).
    fn success_repeated(&mut self, dialog: DialogId, response: Message, now: Mono) {
        let Some(usage) = self.usages.get(&dialog) else { return };
        let cseq = response.cseq().map_or(0, |(number, _)| number);
        if response.to_tag() == Some(usage.dialog.remote_tag.as_str()) {
            if let Some((_, ack)) = usage.last_ack.clone().filter(|(acknowledged, _)| *acknowledged == cseq) {
                self.counts.retransmitted_requests += 1;
                self.transmit(usage.dialog.flow, ack);
            }
            return;
        }
        let mut fork: Dialog = usage.dialog.clone();
        let flow =
            usage.outgoing.as_ref().and_then(|outgoing| self.table.flow(outgoing.transaction)).unwrap_or(fork.flow);
        fork.take_response(&response, flow);
        let (ack_token, bye_token) = (self.tokens.next_u64(), self.tokens.next_u64());
        let ack = fork.request(Method::Ack, cseq, &self.via(fork.flow, ack_token)).finish("", b"");
        self.transmit(fork.flow, ack);
        let bye = fork.request(Method::Bye, cseq + 1, &self.via(fork.flow, bye_token)).finish("", b"");
        self.open_client(fork.flow, bye, Key::Client { token: bye_token, cancel: false }, Owner::Nobody, now);
    }

    fn write_ack(&mut self, dialog: DialogId, cseq: u32) -> (Flow, Bytes) {
        let token = self.tokens.next_u64();
        let dialog = &self.usages[&dialog].dialog;
        let via = format!(
            "SIP/2.0/{} {};rport;branch={MAGIC_COOKIE}{:03x}{token:016x}",
            dialog.flow.transport.via_name(),
            dialog.flow.local,
            self.config.slot
        );
        (dialog.flow, dialog.request(Method::Ack, cseq, &via).finish("", b""))
    }

    fn invite_failed(&mut self, dialog: DialogId, status: u16, response: Option<Message>, now: Mono) {
        let Some(usage) = self.usages.get_mut(&dialog) else { return };
        if usage.outgoing.as_ref().is_none_or(|outgoing| outgoing.settled) {
            return;
        }
        if matches!(status, 401 | 407)
            && let Some(response) = &response
            && self.answer_challenge(dialog, response, now)
        {
            return;
        }
        let Some(usage) = self.usages.get_mut(&dialog) else { return };
        let sdp = usage.outgoing.take().map(|outgoing| outgoing.invitation.sdp).unwrap_or_default();
        match usage.phase {
            Phase::Early => {
                self.usages.remove(&dialog);
                self.tell(Event::Refused { dialog, status, response });
            }
            Phase::Confirmed if status == 491 => self.retry_later(dialog, sdp, now),
            // The peer knows the dialog no more, or does not answer: it is over (RFC 3261 s12.2.1.2).
            Phase::Confirmed if matches!(status, 408 | 481) => {
                self.bye(dialog, "", now);
                self.tell(Event::Ended { dialog, bye: None });
            }
            Phase::Confirmed => self.tell(Event::Reanswered { dialog, status, response }),
            Phase::Ending => {}
        }
    }

    /// Sends the INVITE again with credentials, if we have some that answer the challenge.
    fn answer_challenge(&mut self, dialog: DialogId, response: &Message, now: Mono) -> bool {
        let cnonce = format!("{:016x}", self.tokens.next_u64());
        let Some(outgoing) = self.usages.get_mut(&dialog).and_then(|usage| usage.outgoing.as_mut()) else {
            return false;
        };
        if outgoing.canceled != Cancel::No || outgoing.challenges_answered >= CHALLENGES {
            return false;
        }
        let Some(credentials) = &outgoing.invitation.credentials else { return false };
        let (challenge, answer) = challenge_headers(response.status());
        let uri = outgoing.invitation.request_uri.clone();
        let Some(value) = digest::answer(response.headers(challenge), credentials, "INVITE", &uri, &cnonce, 1) else {
            return false;
        };
        let (invitation, answered) = (outgoing.invitation.clone(), outgoing.challenges_answered + 1);
        self.send_invite(dialog, invitation, Some((answer, value)), answered, now);
        true
    }

    fn bye_response(&mut self, dialog: DialogId, response: Option<Message>, now: Mono) {
        let Some(response) = response else { return };
        match response.status() {
            100..=199 => {}
            401 | 407 if self.bye_with_credentials(dialog, &response, now) => {}
            _ => self.forget(dialog),
        }
    }

    /// Sends the BYE again with credentials, once.
    fn bye_with_credentials(&mut self, dialog: DialogId, response: &Message, now: Mono) -> bool {
        let (cnonce, token) = (format!("{:016x}", self.tokens.next_u64()), self.tokens.next_u64());
        let Some(usage) = self.usages.get_mut(&dialog) else { return false };
        let Some(credentials) = usage.outgoing.as_mut().and_then(|outgoing| outgoing.invitation.credentials.take())
        else {
            return false;
        };
        let (challenge, answer) = challenge_headers(response.status());
        let uri = usage.dialog.remote_target.clone();
        let Some(value) = digest::answer(response.headers(challenge), &credentials, "BYE", &uri, &cnonce, 1) else {
            return false;
        };
        let (cseq, flow) = (usage.dialog.next_cseq(), usage.dialog.flow);
        let via = self.via(flow, token);
        let Some(usage) = self.usages.get(&dialog) else { return false };
        let mut writer = usage.dialog.request(Method::Bye, cseq, &via);
        writer.header(answer, value);
        let bytes = writer.finish("", b"");
        self.open_client(flow, bytes, Key::Client { token, cancel: false }, Owner::Bye(dialog), now);
        true
    }

    fn bye_is_open(&self, dialog: DialogId) -> bool {
        self.table.has_owner(Owner::Bye(dialog))
    }

    fn forget(&mut self, dialog: DialogId) {
        self.usages.remove(&dialog);
    }
}

fn challenge_headers(status: u16) -> (HeaderName, HeaderName) {
    if status == 401 {
        (HeaderName::WwwAuthenticate, HeaderName::Authorization)
    } else {
        (HeaderName::ProxyAuthenticate, HeaderName::ProxyAuthorization)
    }
}
