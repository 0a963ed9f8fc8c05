//! Requests that open something new: who may, and what becomes of them.

use std::borrow::Cow;

use dialtone_media::proto::Encryption;
use dialtone_sip::flow::{Flow, Transport};
use dialtone_sip::msg::{Address, HeaderName, Message, Method, Text, Uri};
use dialtone_sip::registrar::{MIN_EXPIRES_S, Refusal};
use dialtone_sip::stack::{ALLOW, Reply};

use super::admission::{Admitted, Arrived};
use super::core::{Core, Output, Settings};
use super::credit::Leg;
use super::gate::Verdict;
use crate::account::{Aor, Client, Origin, Srtp, User};
use crate::call::route::{self, Inbound};
use crate::call::{Call, CallInput, Now, Opening};
use crate::events::{Direction, is_passed};
use crate::ids::{AccountSid, CallSid};

/// Extensions that we know of, for Supported.
const SUPPORTED: &str = "path";
/// How long a peer that was turned away for want of room is to wait, in seconds; jittered.
const RETRY_AFTER_S: u64 = 5;

impl Core {
    /// A request that belongs to nothing: judged in the order of RFC 3261 s8.2, strangers before any state exists.
    pub(super) fn fresh(&mut self, flow: Flow, request: Message, now: Now) {
        match request.method() {
            Some(Method::Options) => self.options(flow, &request, now),
            Some(Method::Register | Method::Invite | Method::Message | Method::Subscribe | Method::Publish) => {
                self.authenticated(flow, request, now)
            }
            Some(Method::Bye | Method::Info | Method::Update | Method::Prack | Method::Notify | Method::Refer) => {
                self.turn_away(flow, &request, Reply::new(481), 481, "no such dialog")
            }
            Some(Method::Other) | None => {
                let reply = Reply::new(501).header(HeaderName::Allow, ALLOW.to_owned());
                self.turn_away(flow, &request, reply, 501, "unknown method");
            }
            Some(_) => {
                let reply = Reply::new(405).header(HeaderName::Allow, ALLOW.to_owned());
                self.turn_away(flow, &request, reply, 405, "method not allowed");
            }
        }
    }

    fn options(&mut self, flow: Flow, request: &Message, now: Now) {
        if !self.gate.may_answer(flow, now) {
            return;
        }
        if let Some(reply) = unsupported(request) {
            return self.turn_away(flow, request, reply, 420, "unknown extension required");
        }
        let reply = if self.draining { self.unavailable() } else { Reply::new(200) };
        let reply = reply
            .header(HeaderName::Allow, ALLOW.to_owned())
            .header(HeaderName::Accept, "application/sdp".to_owned())
            .header(HeaderName::Supported, SUPPORTED.to_owned());
        self.stack.refuse(request, flow, &reply);
    }

    fn authenticated(&mut self, flow: Flow, request: Message, now: Now) {
        let directory = self.settings.directory.clone();
        let client = self.client_of(flow).cloned();
        let verdict = client.map(|client| Verdict::Known(Origin::Client(client)));
        let origin = match verdict.unwrap_or_else(|| self.gate.judge(&request, flow, &directory, now)) {
            Verdict::Known(origin) => origin,
            Verdict::Refuse(reply, status) => {
                return self.turn_away(flow, &request, reply, status, "not authenticated");
            }
            Verdict::Silence => return,
        };
        if let Some(reply) = unsupported(&request) {
            return self.turn_away(flow, &request, reply, 420, "unknown extension required");
        }
        if !directory.is_active(origin.account()) {
            return self.turn_away(
                flow,
                &request,
                Reply::new(403).reason("Account Not Active"),
                403,
                "account not active",
            );
        }
        match (request.method(), &origin) {
            (Some(Method::Register), Origin::User(user)) => self.register(flow, &request, user, now),
            (Some(Method::Register), Origin::Client(client)) => {
                let aor = Client::aor(client.account, &client.identity);
                self.register_at(client.account, aor, client.incoming, flow, &request, now);
            }
            (Some(Method::Register), Origin::Trunk(_) | Origin::Domain(_)) => {
                self.turn_away(flow, &request, Reply::new(403), 403, "trunks do not register")
            }
            (Some(Method::Message), _) => self.messaged(flow, &request, &origin, now),
            (Some(Method::Subscribe), _) => self.subscribed(flow, &request, &origin, now),
            (Some(Method::Publish), _) => self.published(flow, &request, &origin, now),
            _ => self.invited(flow, request, &origin, now),
        }
    }

    fn register(&mut self, flow: Flow, request: &Message, user: &User, now: Now) {
        let aor = Aor { username: user.username.clone(), domain: user.domain.clone() };
        self.register_at(user.account, aor, true, flow, request, now);
    }

    fn register_at(
        &mut self,
        account: AccountSid,
        aor: Aor,
        may_be_called: bool,
        flow: Flow,
        request: &Message,
        now: Now,
    ) {
        let transaction = self.stack.accept_request(flow, request);
        let own =
            request.to().ok().and_then(|to| to.parsed_uri().ok()).and_then(Uri::sip).and_then(|uri| uri.decoded_user());
        let reply = if own != Some(Cow::Borrowed(aor.username.as_str())) {
            Reply::new(403).reason("Not Your Address Of Record")
        } else if !may_be_called {
            Reply::new(403).reason("The token does not allow incoming calls")
        } else {
            match self.settings.bindings.register(aor.clone(), request, flow, now.wall_ms) {
                Ok(_) => {
                    self.follow_registered(account, &aor, flow, request);
                    self.registered(&aor, request, now)
                }
                Err(Refusal::Malformed) => Reply::new(400).reason("Malformed Contact"),
                Err(Refusal::TooBrief) => Reply::new(423).header(HeaderName::MinExpires, MIN_EXPIRES_S.to_string()),
                Err(Refusal::OutOfOrder) => Reply::new(500).reason("Registration Out Of Order"),
                Err(Refusal::TooMany) => Reply::new(403).reason("Too Many Contacts"),
            }
        };
        self.stack.reply(transaction, request, &reply, now.mono);
    }

    /// 200 with every binding and what is left of its time (RFC 3261 s10.3 step 8).
    fn registered(&self, aor: &Aor, request: &Message, now: Now) -> Reply {
        let mut reply = Reply::new(200);
        for binding in self.settings.bindings.of(aor, now.wall_ms) {
            let left = binding.expires_at_ms.saturating_sub(now.wall_ms).div_ceil(1000);
            reply = reply.header(HeaderName::Contact, format!("<{}>;expires={left}", binding.contact));
        }
        for path in request.headers(HeaderName::Path) {
            reply = reply.header(HeaderName::Path, path.to_owned());
        }
        reply
    }

    fn invited(&mut self, flow: Flow, invite: Message, origin: &Origin, now: Now) {
        if let Some((reply, status, why)) = unacceptable(&invite) {
            return self.turn_away(flow, &invite, reply, status, why);
        }
        if self.draining || !self.admits || self.calls.len() >= self.settings.max_calls {
            let reply = self.unavailable();
            let why = if self.draining { "draining" } else { "no room for another call" };
            return self.turn_away(flow, &invite, reply, 503, why);
        }
        match route::inbound(origin, &invite, &self.settings.directory) {
            Ok(inbound) => self.admit_inbound(flow, invite, inbound, now),
            Err(no_route) => {
                self.turn_away(flow, &invite, Reply::new(no_route.status()), no_route.status(), "no route")
            }
        }
    }

    /// A call that may come in, if there is a place for it.
    fn admit_inbound(&mut self, flow: Flow, invite: Message, inbound: Inbound, now: Now) {
        let settled = inbound.sid.filter(|sid| !self.calls.contains_key(sid));
        let sid = settled.unwrap_or_else(|| CallSid::at(now.wall_ms, self.tokens.next_u128()));
        let is_emergency = self.is_emergency(&inbound.to);
        let request = self.place_for(&[sid], inbound.account, &inbound.via, inbound.application.priority);
        let leg = Leg {
            sid,
            account: inbound.account,
            direction: Direction::Inbound,
            from: &inbound.from,
            to: &inbound.to,
            via: &inbound.via,
        };
        let terms = self.terms(&[leg], is_emergency, now);
        let admitted = self.admit(request, terms, is_emergency, now);
        if let Admitted::Not(obstacle) = &admitted
            && !self.admission.has_record(inbound.account, now.mono)
        {
            let reply = self.refusal(obstacle);
            self.obstructed(obstacle);
            let (account, status, why) = (Some(inbound.account), obstacle.status(), obstacle.why());
            return self.turn_away_of(account, flow, &invite, reply, status, why);
        }
        let (offer, sip_call_id) = (invite.body(), invite.call_id().to_owned());
        let contact = self.settings.contact(flow);
        let dialog = self.stack.accept_invite(flow, invite, contact);
        let arrived = Arrived { inbound, dialog, offer, sip_call_id, flow };
        match admitted {
            Admitted::Now => self.begin_inbound(sid, arrived),
            Admitted::Later(terms) => self.hold_arrived(sid, arrived, terms, now),
            // It has a transaction: an INVITE that comes again is answered again, and is no other.
            Admitted::Not(obstacle) => self.refuse_arrived(sid, arrived, &obstacle, now),
        }
    }

    /// Whether whoever is called there is called for help.
    pub(super) fn is_emergency(&self, called: &str) -> bool {
        let user = called.strip_prefix("sip:").and_then(|uri| uri.split('@').next()).unwrap_or(called);
        self.settings.emergency_numbers.iter().any(|number| number == user)
    }

    pub(super) fn begin_inbound(&mut self, sid: CallSid, arrived: Arrived) {
        let Arrived { inbound, dialog, offer, sip_call_id, flow } = arrived;
        let signalled_from = flow.remote.ip().to_string();
        let encryption = self.settings.encryption([flow], inbound.srtp);
        let mut params = inbound.params;
        params.push(("SipSourceIp".to_owned(), signalled_from.clone()));
        if inbound.stir_verstat.as_deref().is_some_and(is_passed) {
            // By this the caller's number may be shown to whom the call is forwarded.
            params.push(("CallToken".to_owned(), sid.to_string()));
        }
        let opening = Opening {
            sid,
            account: inbound.account,
            direction: Direction::Inbound,
            from: inbound.from,
            to: inbound.to,
            via: inbound.via,
            sip_call_id,
            params,
            stir_verstat: inbound.stir_verstat,
            queue_ms: 0,
            status_callback: inbound.application.status_callback,
            session_id: self.tokens.next_u64(),
            leg_id: 0,
            link: None,
            document: Some(inbound.application.document),
            answer_at_once: inbound.application.answer_at_once,
        };
        let sid = self.insert(Call::incoming(opening, offer.is_empty()), vec![Some(dialog)], Vec::new());
        self.inputs.push_back((sid, CallInput::Begin { offer, signalled_from, encryption, others: Vec::new() }));
    }

    pub(super) fn unavailable(&mut self) -> Reply {
        let seconds = RETRY_AFTER_S + self.tokens.below(RETRY_AFTER_S);
        Reply::new(503).header(HeaderName::RetryAfter, seconds.to_string())
    }

    fn turn_away(&mut self, flow: Flow, request: &Message, reply: Reply, status: u16, why: &'static str) {
        self.turn_away_of(None, flow, request, reply, status, why);
    }

    /// The same, where it is known whose it is.
    fn turn_away_of(
        &mut self,
        account: Option<AccountSid>,
        flow: Flow,
        request: &Message,
        reply: Reply,
        status: u16,
        why: &'static str,
    ) {
        self.stack.refuse(request, flow, &reply);
        self.out.push_back(Output::Refused { flow, method: request.method_text().to_owned(), status, why, account });
    }
}

impl Settings {
    /// What is asked of the media of whom we reach, or who has reached us, by these flows: where what is said is encrypted, what
    /// is heard is too. `of_trunk` is what a trunk has instead of what all have.
    pub(super) fn encryption(&self, flows: impl IntoIterator<Item = Flow>, of_trunk: Option<Srtp>) -> Encryption {
        let transports: Vec<Transport> = flows.into_iter().map(|flow| flow.transport).collect();
        let all_by = |transport| !transports.is_empty() && transports.iter().all(|own| *own == transport);
        match of_trunk.unwrap_or(self.srtp) {
            _ if all_by(Transport::Ws) => Encryption::Dtls,
            Srtp::Required if all_by(Transport::Tls) => Encryption::Sdes,
            Srtp::Required | Srtp::Offered => Encryption::AsOffered,
        }
    }

    /// Our Contact on a flow.
    pub(super) fn contact(&self, flow: Flow) -> String {
        let mut contact = Text::with_capacity(64);
        contact.put("<sip:dialtone@");
        match &self.contact {
            Some(host) => contact.put(host),
            None => contact.socket(flow.local),
        };
        contact.put(";transport=").put(flow.transport.uri_name()).put(">");
        contact.0
    }
}

/// 420 with what is required and not known (RFC 3261 s8.2.2.3).
fn unsupported(request: &Message) -> Option<Reply> {
    let required = request.values(HeaderName::Require).chain(request.values(HeaderName::ProxyRequire));
    let unknown: Vec<&str> = required.filter(|option| *option != SUPPORTED).collect();
    (!unknown.is_empty()).then(|| Reply::new(420).header(HeaderName::Unsupported, unknown.join(", ")))
}

/// What is wrong with an INVITE that could be read and whose sender is known.
fn unacceptable(invite: &Message) -> Option<(Reply, u16, &'static str)> {
    if invite.max_forwards() == Some(0) {
        return Some((Reply::new(483), 483, "max-forwards is zero"));
    }
    let accepts_sdp = |accept: &str| {
        matches!(accept.split(';').next().unwrap_or("").trim(), "application/sdp" | "application/*" | "*/*")
    };
    if invite.header(HeaderName::Accept).is_some() && !invite.values(HeaderName::Accept).any(accepts_sdp) {
        return Some((Reply::new(406), 406, "sdp is not accepted"));
    }
    let plain = |coding: &str| coding.eq_ignore_ascii_case("identity");
    let encoded = invite.values(HeaderName::ContentEncoding).any(|coding| !plain(coding));
    let foreign = !invite.body().is_empty() && invite.content_type().as_deref() != Some("application/sdp");
    if encoded || foreign {
        let reply = Reply::new(415)
            .header(HeaderName::Accept, "application/sdp".to_owned())
            .named("Accept-Encoding", "identity".to_owned());
        return Some((reply, 415, "body is not sdp"));
    }
    // A request that was sent through a URI of ours with a user that cannot be decoded hides control bytes.
    let hidden = invite
        .from()
        .ok()
        .and_then(|from: Address<'_>| from.parsed_uri().ok())
        .and_then(Uri::sip)
        .is_some_and(|uri| uri.decoded_user().is_none());
    hidden.then(|| (Reply::new(400).reason("Control Character In From"), 400, "control character in from"))
}
