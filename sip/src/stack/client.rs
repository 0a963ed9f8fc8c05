//! Responses to what we sent, and what else becomes of our transactions.

use std::collections::VecDeque;

use bytes::Bytes;

use super::api::repeat_invite;
use super::table::{Key, Owner, TransactionId};
use super::usage::{Cancel, Challenge, Outgoing, Phase, SentAck};
use super::{Event, Received, Stack};
use crate::dialog::{Dialog, DialogId};
use crate::digest;
use crate::flow::Flow;
use crate::msg::{Message, Method};
use crate::time::Mono;
use crate::transaction::{Input, Tell};

/// Answers to challenges in one INVITE and those that follow it: a server's, a proxy's with it, and stale nonces.
const ATTEMPTS: u32 = 6;
/// Branches of a fork that are acknowledged and ended; more are not answered, and give up by themselves.
const BRANCHES: usize = 16;

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

    /// The ACK of a failure, written from the INVITE itself: the dialog may be gone (RFC 3261 s17.1.1.3).
    fn failure_ack(&self, id: TransactionId, response: &Message) -> Bytes {
        if response.status() < 300 {
            return Bytes::new();
        }
        let invite = self.table.open_invite(id).and_then(|bytes| Message::parse(bytes).ok());
        invite.map_or_else(Bytes::new, |invite| repeat_invite(Method::Ack, &invite, response).finish("", b""))
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
            (Owner::InviteServer(dialog), Tell::TransportFailed) => self.incoming_unreachable(dialog, id),
            (Owner::InviteClient(dialog), Tell::Response) => {
                if let Some(response) = response {
                    self.invite_response(dialog, id, response, now);
                }
            }
            (Owner::InviteClient(dialog), Tell::TimedOut) => self.invite_failed(dialog, id, 408, None, now),
            (Owner::InviteClient(dialog), Tell::TransportFailed) => self.invite_failed(dialog, id, 503, None, now),
            (Owner::Request(request), Tell::Response) => {
                if let Some(status) = response.map(|response| response.status()).filter(|status| *status >= 200) {
                    self.tell(Event::Responded { request, status });
                }
            }
            (Owner::Request(request), Tell::TimedOut) => self.tell(Event::Responded { request, status: 408 }),
            (Owner::Request(request), Tell::TransportFailed) => self.tell(Event::Responded { request, status: 503 }),
            (Owner::Refer(dialog), Tell::Response) => {
                if let Some(status) = response.map(|response| response.status()).filter(|status| *status >= 200) {
                    self.tell(Event::ReferAnswered { dialog, status });
                }
            }
            (Owner::Refer(dialog), Tell::TimedOut) => self.tell(Event::ReferAnswered { dialog, status: 408 }),
            (Owner::Refer(dialog), Tell::TransportFailed) => self.tell(Event::ReferAnswered { dialog, status: 503 }),
            (Owner::Bye(dialog), Tell::Response) => self.bye_response(dialog, response, now),
            (Owner::Bye(dialog), _) => self.forget(dialog, now),
        }
    }

    fn incoming_unreachable(&mut self, dialog: DialogId, id: TransactionId) {
        let Some(usage) = self.usages.get_mut(&dialog) else { return };
        if usage.incoming.take_if(|incoming| incoming.transaction == id).is_some() && usage.phase == Phase::Early {
            self.usages.remove(&dialog);
            self.tell(Event::Ended { dialog, bye: None });
        }
    }

    fn invite_response(&mut self, dialog: DialogId, id: TransactionId, response: Message, now: Mono) {
        let status = response.status();
        let success = (200..300).contains(&status);
        let Some(usage) = self.usages.get_mut(&dialog) else {
            if success {
                self.end_late_branch(id, &response, now);
            }
            return;
        };
        let Some(outgoing) = usage.open_invite_mut().filter(|outgoing| outgoing.transaction == id) else {
            if success {
                self.success_repeated(dialog, id, response, now);
            }
            return;
        };
        match status {
            100..=199 => {
                outgoing.provisional = true;
                match outgoing.canceled {
                    Cancel::Wanted(_) => self.send_cancel(dialog, now),
                    Cancel::No if status > 100 => self.tell(Event::Progress { dialog, response }),
                    _ => {}
                }
            }
            200..=299 => self.success(dialog, id, response, now),
            status => self.invite_failed(dialog, id, status, Some(response), now),
        }
    }

    /// The first 2xx: the dialog is made of it, and it is acknowledged.
    fn success(&mut self, dialog: DialogId, id: TransactionId, response: Message, now: Mono) {
        let token = self.tokens.next_u64();
        let Some(usage) = self.usages.get_mut(&dialog) else { return };
        let Some(outgoing) = usage.outgoing.as_mut() else { return };
        outgoing.settled = true;
        outgoing.sdp = Bytes::new();
        outgoing.headers = Vec::new();
        usage.alternatives = VecDeque::new();
        let (cseq, canceled) = (outgoing.cseq, outgoing.canceled != Cancel::No);
        let flow = self.table.flow(id).unwrap_or(usage.dialog.flow);
        let phase = usage.phase;
        if phase == Phase::Early {
            usage.dialog.take_response(&response, flow);
            usage.phase = Phase::Confirmed;
        } else {
            usage.dialog.take_target(&response, flow);
        }
        self.send_ack(dialog, id, None, cseq, token);
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
            Phase::Ending => self.forget_ended(dialog),
        }
    }

    /// A 2xx after the first of its INVITE: the same one again, or another branch of a fork, which is acknowledged and
    /// ended (RFC 3261 s13.2.2.4).
    fn success_repeated(&mut self, dialog: DialogId, id: TransactionId, response: Message, now: Mono) {
        let Some(usage) = self.usages.get(&dialog) else { return };
        let tag = response.to_tag().unwrap_or("");
        if let Some(ack) = usage.acks.iter().find(|ack| ack.transaction == id && ack.remote_tag == tag) {
            let (flow, bytes) = (ack.flow, ack.bytes.clone());
            self.counts.retransmitted_requests += 1;
            self.transmit(flow, bytes);
        } else if usage.acks.len() < BRANCHES {
            let mut branch = usage.dialog.clone();
            branch.take_response(&response, self.table.flow(id).unwrap_or(branch.flow));
            let (token, cseq) = (self.tokens.next_u64(), response.cseq().map_or(0, |(number, _)| number));
            self.send_ack(dialog, id, Some(&branch), cseq, token);
            self.end_by_bye(branch, cseq, now);
        }
    }

    /// A 2xx whose dialog is gone already, of a branch that answered late: it is acknowledged and ended.
    fn end_late_branch(&mut self, id: TransactionId, response: &Message, now: Mono) {
        let Some(flow) = self.table.flow(id) else { return };
        let mut branch = Dialog::from_success(response, flow);
        branch.take_response(response, flow);
        let (token, cseq) = (self.tokens.next_u64(), branch.local_cseq);
        let ack = branch.request(Method::Ack, cseq, &self.via(branch.flow, token)).finish("", b"");
        self.transmit(branch.flow, ack);
        self.end_by_bye(branch, cseq, now);
    }

    fn end_by_bye(&mut self, branch: Dialog, cseq: u32, now: Mono) {
        let token = self.tokens.next_u64();
        let bye = branch.request(Method::Bye, cseq + 1, &self.via(branch.flow, token)).finish("", b"");
        self.open_client(branch.flow, bye, Key::Client { token, method: Method::Bye }, Owner::Nobody, now);
    }

    /// Sends the ACK of a 2xx, in the dialog or in another branch of its fork, with the INVITE's credentials (RFC 3261
    /// s13.2.2.4), and keeps it for repetitions.
    fn send_ack(&mut self, dialog: DialogId, id: TransactionId, branch: Option<&Dialog>, cseq: u32, token: u64) {
        let Some(usage) = self.usages.get(&dialog) else { return };
        let inside = branch.unwrap_or(&usage.dialog);
        let flow = inside.flow;
        let mut writer = inside.request(Method::Ack, cseq, &self.via(flow, token));
        if let Some(outgoing) = usage.outgoing.as_ref().filter(|outgoing| outgoing.transaction == id) {
            for (name, value) in &outgoing.authorization {
                writer.header(*name, value);
            }
        }
        let bytes = writer.finish("", b"");
        let ack = SentAck { transaction: id, remote_tag: inside.remote_tag.clone(), flow, bytes: bytes.clone() };
        if let Some(usage) = self.usages.get_mut(&dialog) {
            usage.acks.push(ack);
        }
        self.transmit(flow, bytes);
    }

    fn invite_failed(
        &mut self,
        dialog: DialogId,
        id: TransactionId,
        status: u16,
        response: Option<Message>,
        now: Mono,
    ) {
        if let Some(response) = &response
            && self.answer_challenge(dialog, id, response, now)
        {
            return;
        }
        if (response.is_none() || status == 503) && self.try_next_server(dialog, id, status, response.as_ref(), now) {
            return;
        }
        let Some(usage) = self.usages.get_mut(&dialog) else { return };
        let Some(outgoing) = usage.outgoing.take_if(|outgoing| outgoing.transaction == id && !outgoing.settled) else {
            return;
        };
        match usage.phase {
            Phase::Early => {
                self.usages.remove(&dialog);
                self.tell(Event::Refused { dialog, status, response });
            }
            Phase::Confirmed if status == 491 => self.retry_later(dialog, outgoing.sdp, true, now),
            // The peer knows the dialog no more, or does not answer: it is over (RFC 3261 s12.2.1.2).
            Phase::Confirmed if matches!(status, 408 | 481) => {
                self.bye(dialog, "", now);
                self.tell(Event::Ended { dialog, bye: None });
            }
            Phase::Confirmed => self.tell(Event::Reanswered { dialog, status, response }),
            Phase::Ending => self.forget_ended(dialog),
        }
    }

    /// Sends our first INVITE to the next server that it may go to: the same one, with a branch of its own
    /// (RFC 3263 s4.3).
    fn try_next_server(
        &mut self,
        dialog: DialogId,
        id: TransactionId,
        status: u16,
        response: Option<&Message>,
        now: Mono,
    ) -> bool {
        let Some(usage) = self.usages.get_mut(&dialog) else { return false };
        let wanted = |outgoing: &&mut Outgoing| {
            outgoing.transaction == id && !outgoing.settled && outgoing.canceled == Cancel::No
        };
        let Some(outgoing) = usage.outgoing.as_mut().filter(wanted) else { return false };
        let Some(next) = usage.alternatives.pop_front() else { return false };
        let (headers, sdp) = (std::mem::take(&mut outgoing.headers), std::mem::take(&mut outgoing.sdp));
        let failed = std::mem::replace(&mut usage.dialog.flow, next.flow);
        usage.dialog.contact = next.contact;
        // The same number: should a silent server have passed it on, whoever gets it twice can tell (RFC 3261 s8.2.2.2).
        usage.dialog.local_cseq -= 1;
        self.send_invite(dialog, headers, sdp, Vec::new(), now);
        self.tell(Event::Diverted { dialog, failed, next: next.flow, status, response: response.cloned() });
        true
    }

    /// Sends the INVITE again with credentials, if we have some that answer the challenge.
    ///
    /// A server and a proxy may ask one after the other, and each once more where its nonce was stale; one that asks
    /// again without that did not like what it got (RFC 3261 s22.2).
    fn answer_challenge(&mut self, dialog: DialogId, id: TransactionId, response: &Message, now: Mono) -> bool {
        let Some(usage) = self.usages.get_mut(&dialog).filter(|usage| usage.phase != Phase::Ending) else {
            return false;
        };
        let Some(credentials) = &usage.credentials else { return false };
        let Some(outgoing) = usage
            .outgoing
            .as_mut()
            .filter(|outgoing| outgoing.transaction == id && !outgoing.settled && outgoing.canceled == Cancel::No)
        else {
            return false;
        };
        let Some((asks, answer)) = digest::challenge_headers(response.status()) else { return false };
        let stale = digest::own_challenges(response.headers(asks), credentials)
            .any(|challenge| challenge.get("stale").is_some_and(|stale| stale.eq_ignore_ascii_case("true")));
        let before = outgoing.challenges.iter().position(|challenge| challenge.answer == answer);
        let attempts: u32 = outgoing.challenges.iter().map(|challenge| challenge.uses).sum();
        let answerable = digest::answer(response.headers(asks), credentials, "INVITE", "", "", 1).is_some();
        if !answerable || attempts >= ATTEMPTS || (before.is_some() && !stale) {
            return false;
        }
        let mut challenges = std::mem::take(&mut outgoing.challenges);
        let values = response.headers(asks).map(str::to_owned).collect();
        match before {
            Some(at) => challenges[at].values = values,
            None => challenges.push(Challenge { answer, values, uses: 0 }),
        }
        let (headers, sdp) = (std::mem::take(&mut outgoing.headers), std::mem::take(&mut outgoing.sdp));
        self.send_invite(dialog, headers, sdp, challenges, now);
        true
    }

    fn bye_response(&mut self, dialog: DialogId, response: Option<Message>, now: Mono) {
        let Some(response) = response else { return };
        match response.status() {
            100..=199 => {}
            401 | 407 if self.bye_with_credentials(dialog, &response, now) => {}
            _ => self.forget(dialog, now),
        }
    }

    /// Sends the BYE again with credentials, once.
    fn bye_with_credentials(&mut self, dialog: DialogId, response: &Message, now: Mono) -> bool {
        let cnonce = format!("{:016x}", self.tokens.next_u64());
        let Some(usage) = self.usages.get_mut(&dialog) else { return false };
        let (Some(credentials), Some(bye)) = (&usage.credentials, usage.bye.take_if(|bye| !bye.authorized)) else {
            return false;
        };
        let Some((challenge, answer)) = digest::challenge_headers(response.status()) else { return false };
        let uri = usage.dialog.request_uri();
        let Some(value) = digest::answer(response.headers(challenge), credentials, "BYE", uri, &cnonce, 1) else {
            return false;
        };
        self.send_bye(dialog, bye.reason, Some((answer, value)), now);
        true
    }
}
