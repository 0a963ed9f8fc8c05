//! Calls that a `<Dial>` or the API makes: finding the way, finding the servers of the host, sending the INVITEs.

use std::net::SocketAddr;

use bytes::Bytes;
use dialtone_media::proto::Encryption;
use dialtone_sip::digest::{self, Credentials};
use dialtone_sip::flow::{Flow, Transport};
use dialtone_sip::msg::{Message, SipUri};
use dialtone_sip::resolve::{Destination, Family, Outlet, Resolution};
use dialtone_sip::stack::{Hop, Invitation};

use super::admission::{Admitted, call_slot};
use super::core::{Core, Output, Slot};
use super::credit::Leg;
use crate::account::{Aor, Application, Client, Srtp, Trunk, User};
use crate::call::browser;
use crate::call::route::{self, Reach, Unreachable};
use crate::call::{AttemptId, BranchOrder, Call, CallInput, ChildLeg, Now, Offered, Opening, SipEvent};
use crate::credit::Terms;
use crate::events::Direction;
use crate::ids::{AccountSid, CallSid};
use crate::presence::{ClientId, Device};
use crate::twiml::{BranchEvent, BranchFailure, Notice, SipTarget, Target};

/// Twilio's numbers for a `<Dial>` that cannot be carried out.
const INVALID_CALLER_ID: u32 = 13_214;
pub(super) const UNREACHABLE: u32 = 13_223;
/// Twilio's number for a trunk that answers with an error.
const TRUNK_FAILED: u32 = 32_011;
/// A stranger's realm is told up to here.
const REALM_CHARS: usize = 128;
/// The status of an INVITE that could not be sent, because its host has no address we may use.
const NOT_SENT: u16 = 503;

const PRIVATE: &str = "the address is private: only `[http] allow_private_targets = true` lets documents call it";
const TLS_WANTED: &str = "it wants TLS, and nothing in `[sip] listen` speaks that: add a listener tls://IP:PORT";
const NO_LISTENER: &str = "nothing in `[sip] listen` sends by the transport and address family that it wants: add a \
                           listener, or name another `transport=`";
const NO_SERVER: &str = "the name service knows no server of this host for a transport and address family of \
                         `[sip] listen`: check the name, and `[sip] name_servers`";

/// Why there is nobody to call, and what that is to whoever calls.
pub(super) struct NoPlan {
    pub(super) notice: Notice,
    pub(super) status: BranchFailure,
}

impl From<Notice> for NoPlan {
    fn from(notice: Notice) -> NoPlan {
        NoPlan { notice, status: BranchFailure::Failed }
    }
}

/// Servers that are being looked up for an INVITE.
pub(super) struct Resolving {
    pub(super) child: CallSid,
    guarded: bool,
}

/// What is yet to be looked up for an INVITE.
pub(super) struct Search {
    resolution: Resolution,
    /// Set where the host is the customer's choice: then it must be public.
    guarded: bool,
}

/// The inbound call that answers inside: one of our own numbers was dialled.
pub(super) struct Inside {
    sid: CallSid,
    account: AccountSid,
    from: String,
    to: String,
    params: Vec<(String, String)>,
    application: Application,
    key: u64,
}

impl Inside {
    /// Of the call that it will be.
    pub(super) fn sid(&self) -> CallSid {
        self.sid
    }
}

/// Who is to be called, and as whom.
pub(super) struct Whom<'a> {
    pub(super) target: &'a Target,
    /// The caller id that was asked for.
    pub(super) caller_id: Option<String>,
    /// The default one.
    pub(super) parent_from: &'a str,
    /// Whom the calling call has called.
    pub(super) parent_to: &'a str,
    /// The caller id is that of a call that came in, which is forwarded.
    pub(super) forwards: bool,
}

/// What the outgoing leg is to look like, before it exists.
pub(super) struct Plan {
    pub(super) from: String,
    to: String,
    pub(super) via: String,
    invitations: Vec<Invitation>,
    /// Before the INVITE can be sent.
    search: Option<Search>,
    inside: Option<Inside>,
    /// Of the trunk that it goes by, if that has its own.
    srtp: Option<Srtp>,
}

impl Plan {
    /// The calls that it makes, each of which wants a place.
    pub(super) fn calls(&self, sid: CallSid) -> Vec<CallSid> {
        [Some(sid), self.inside.as_ref().map(Inside::sid)].into_iter().flatten().collect()
    }

    /// The key of the link to the call of ours that is called, if it is one.
    pub(super) fn link(&self) -> Option<u64> {
        self.inside.as_ref().map(|inside| inside.key)
    }
}

impl Slot {
    pub(super) fn is_inside(&self) -> bool {
        self.peer.is_some() || self.inside.is_some()
    }
}

impl Core {
    /// Makes the child of a branch, or tells the parent why there is none.
    pub(super) fn originate(&mut self, parent: CallSid, order: BranchOrder, now: Now) {
        let branch = order.spec.branch;
        let Some((account, session_id)) =
            self.calls.get(&parent).map(|slot| (slot.call.account(), slot.call.session_id()))
        else {
            return;
        };
        let BranchOrder { spec, parent_from, parent_to, .. } = &order;
        let caller_id = spec.caller_id.clone();
        let whom = Whom { target: &spec.target, caller_id, parent_from, parent_to, forwards: false };
        let plan = match self.plan(account, &whom, now) {
            Ok(plan) => plan,
            Err(NoPlan { notice, status }) => {
                self.notice(parent, notice);
                let event = BranchEvent::Failed { status, sip: None };
                self.inputs.push_back((parent, CallInput::Branch { branch, event }));
                return;
            }
        };
        let sid = CallSid::at(now.wall_ms, self.tokens.next_u128());
        let priority = self.admission.slots.priority_of(call_slot(parent));
        let request = self.place_for(&plan.calls(sid), account, &plan.via, priority);
        let is_emergency = self.is_emergency(&plan.to);
        let terms = self.terms_of_plan(&plan, sid, account, Direction::OutboundDial, &plan.to, now);
        let admitted = self.admit(request, terms, is_emergency, now);
        if let Admitted::Not(obstacle) = admitted {
            self.obstructed(&obstacle);
            self.notice(parent, obstacle.notice(Direction::OutboundDial));
            let event = BranchEvent::Failed { status: BranchFailure::Failed, sip: None };
            self.inputs.push_back((parent, CallInput::Branch { branch, event }));
            return;
        }
        let opening = Opening {
            sid,
            account,
            direction: Direction::OutboundDial,
            from: plan.from.clone(),
            to: plan.to.clone(),
            via: plan.via.clone(),
            sip_call_id: String::new(),
            params: Vec::new(),
            stir_verstat: None,
            queue_ms: 0,
            status_callback: order.spec.status_callback.clone(),
            session_id,
            leg_id: self.sessions.get(&session_id).map_or(0, |session| session.given),
            link: plan.link(),
            document: None,
            answer_at_once: false,
        };
        let leg = ChildLeg { sid: opening.sid, leg_id: opening.leg_id };
        self.inputs.push_back((parent, CallInput::ChildStarted { branch, leg }));
        self.launch(plan, admitted, |attempts| Call::dialled(opening, parent, order.spec, attempts));
    }

    /// What limits the calls of a plan: the one that is made, and the one of ours that it calls, if any. `to` is as the customer
    /// sees it.
    pub(super) fn terms_of_plan(
        &self,
        plan: &Plan,
        sid: CallSid,
        account: AccountSid,
        direction: Direction,
        to: &str,
        now: Now,
    ) -> Vec<(CallSid, Terms)> {
        let own = Leg { sid, account, direction, from: &plan.from, to, via: &plan.via };
        let inside = plan.inside.as_ref().map(|inside| Leg {
            sid: inside.sid,
            account: inside.account,
            direction: Direction::Inbound,
            from: &inside.from,
            to: &inside.to,
            via: "",
        });
        let legs: Vec<Leg<'_>> = [Some(own), inside].into_iter().flatten().collect();
        self.terms(&legs, self.is_emergency(to), now)
    }

    /// Takes an outgoing call in and begins it, once it has its place and its servers are known.
    pub(super) fn launch(&mut self, plan: Plan, admitted: Admitted, call: impl FnOnce(u8) -> Call) {
        let attempts = plan.invitations.len().max(1);
        let sid = self.insert(call(attempts as u8), vec![None; attempts], plan.invitations);
        if let Some(slot) = self.calls.get_mut(&sid) {
            slot.inside = plan.inside.map(Box::new);
            slot.srtp = plan.srtp;
        }
        match admitted {
            Admitted::Later(terms) => self.hold_outgoing(sid, plan.search, terms),
            _ => self.begin_outgoing(sid, plan.search),
        }
    }

    pub(super) fn begin_outgoing(&mut self, sid: CallSid, search: Option<Search>) {
        match search {
            Some(Search { resolution, guarded }) => {
                let (ticket, seed) = (self.tokens.next_u64(), self.tokens.next_seed());
                self.resolving.insert(ticket, Resolving { child: sid, guarded });
                self.out.push_back(Output::Resolve { ticket, resolution: Box::new(resolution), seed });
            }
            None => self.begin_child(sid),
        }
    }

    pub(super) fn begin_child(&mut self, sid: CallSid) {
        let Some(slot) = self.calls.get(&sid) else { return };
        // The address that will signal: NAT latching compares the media's source with it.
        let address = slot.invitations.first().map(|invitation| invitation.flow.remote.ip().to_string());
        let flows: Vec<Flow> = slot.invitations.iter().map(|invitation| invitation.flow).collect();
        let (encryption, mut others) = self.offers(&flows, slot.srtp);
        let (signalled_from, session_id) = (address.unwrap_or_default(), slot.call.session_id());
        let session = self.sessions.entry(session_id).or_default();
        for other in &mut others {
            other.leg_id = session.given;
            session.given += 1;
            session.legs.push((other.leg_id, sid));
        }
        let offer = Bytes::new();
        self.inputs.push_back((sid, CallInput::Begin { offer, signalled_from, encryption, others }));
    }

    /// What the first attempt's media is to be, which it shares with those that want the same, and what others want: each browser has a
    /// transport of its own.
    fn offers(&self, flows: &[Flow], srtp: Option<Srtp>) -> (Encryption, Vec<Offered>) {
        let mut offers: Vec<Offered> = Vec::new();
        for (number, flow) in flows.iter().enumerate() {
            let (attempt, encryption) = (AttemptId(number as u8), self.settings.encryption([*flow], srtp));
            let shared =
                offers.iter_mut().find(|offer| offer.encryption == encryption && encryption != Encryption::Dtls);
            match shared {
                Some(offer) => offer.attempts.push(attempt),
                None => offers.push(Offered { leg_id: 0, encryption, attempts: vec![attempt] }),
            }
        }
        if offers.is_empty() {
            return (Encryption::AsOffered, Vec::new());
        }
        let first = offers.remove(0);
        (first.encryption, offers)
    }

    /// The servers of an INVITE were looked up; the first is the first to try.
    pub fn handle_resolved(&mut self, ticket: u64, destinations: &[Destination], now: Now) {
        let Some(Resolving { child, guarded }) = self.resolving.remove(&ticket) else { return };
        let hops = if destinations.is_empty() { Err(NO_SERVER) } else { self.hops(destinations, guarded) };
        let invitation = self.calls.get_mut(&child).and_then(|slot| slot.invitations.first_mut());
        match (hops, invitation) {
            (Ok(hops), Some(invitation)) => {
                send_by(invitation, hops);
                self.begin_child(child);
            }
            (Err(why), Some(invitation)) => {
                let notice = Notice::error(UNREACHABLE, why).about(&invitation.request_uri);
                self.begin_child(child);
                self.notice(child, notice);
                let event = SipEvent::Refused { status: NOT_SENT, sip_call_id: String::new() };
                self.inputs.push_back((child, CallInput::Sip { attempt: AttemptId::FIRST, event }));
            }
            (_, None) => {}
        }
        self.work(now);
    }

    pub(super) fn plan(&mut self, account: AccountSid, whom: &Whom<'_>, now: Now) -> Result<Plan, NoPlan> {
        let directory = self.settings.directory.clone();
        let Whom { target, caller_id, parent_from, parent_to, forwards } = whom;
        let reach = route::outbound(target, account, &directory).map_err(|why| NoPlan {
            notice: unreachable(why, target),
            // Who has never been anywhere does not answer, as one who is nowhere now.
            status: if matches!(target, Target::Client { .. }) {
                BranchFailure::NoAnswer
            } else {
                BranchFailure::Failed
            },
        })?;
        let caller_id = caller_id.clone();
        match reach {
            Reach::Trunk { trunk, uri } => {
                let from = match caller_id {
                    Some(forwarded) if *forwards => forwarded,
                    wanted => self.caller_id(account, wanted, parent_from, &trunk)?,
                };
                Ok(self.plan_trunk(&trunk, &uri, from, target)?)
            }
            Reach::Number(number) => {
                let from = caller_id.unwrap_or_else(|| (*parent_from).to_owned());
                let (to, application) = (number.number.clone(), number.application.clone());
                let sid = CallSid::at(now.wall_ms, self.tokens.next_u128());
                Ok(self.plan_inside(Inside { sid, account, from, to, params: Vec::new(), application, key: 0 }))
            }
            Reach::Application(application) => {
                let from = caller_id.unwrap_or_else(|| (*parent_from).to_owned());
                let Target::Application { sid, parameters, copies_to } = target else {
                    return Err(unreachable(Unreachable::NoApplication, target).into());
                };
                let to = if *copies_to { (*parent_to).to_owned() } else { format!("app:{sid}") };
                let mut params = vec![("ApplicationSid".to_owned(), sid.clone())];
                params.extend(parameters.iter().cloned());
                let application = Application::clone(&application);
                let sid = CallSid::at(now.wall_ms, self.tokens.next_u128());
                Ok(self.plan_inside(Inside { sid, account, from, to, params, application, key: 0 }))
            }
            Reach::User(user) => {
                let from = caller_id.unwrap_or_else(|| (*parent_from).to_owned());
                let identity = directory.identity_of(&user);
                self.plan_devices(account, &identity, Some(&user), from, target, now)
            }
            Reach::Browsers(identity) => {
                let from = caller_id.unwrap_or_else(|| (*parent_from).to_owned());
                self.plan_devices(account, &identity, None, from, target, now)
            }
            Reach::Uri(target) => {
                let from = caller_id.unwrap_or_else(|| (*parent_from).to_owned());
                let (mut invitation, search) =
                    self.invitation(&target.uri, &from, document_credentials(&target), true)?;
                invitation.headers = target.headers.clone();
                Ok(Plan {
                    from,
                    to: target.uri,
                    via: String::new(),
                    invitations: vec![invitation],
                    search,
                    inside: None,
                    srtp: None,
                })
            }
        }
    }

    /// A call at the other end of a link.
    fn plan_inside(&mut self, inside: Inside) -> Plan {
        let inside = Inside { key: self.tokens.next_u64(), ..inside };
        Plan {
            from: inside.from.clone(),
            to: inside.to.clone(),
            via: String::new(),
            invitations: Vec::new(),
            search: None,
            inside: Some(inside),
            srtp: None,
        }
    }

    /// The number to show: the one that the document names if the account owns it, else the caller's if the account
    /// owns that, else the trunk's first.
    fn caller_id(
        &self,
        account: AccountSid,
        wanted: Option<String>,
        parent_from: &str,
        trunk: &Trunk,
    ) -> Result<String, Notice> {
        let owns = |number: &str| self.settings.directory.owns_caller_id(account, number);
        match wanted {
            Some(wanted) if owns(&wanted) => Ok(wanted),
            Some(wanted) => {
                let text = format!(
                    "callerId {wanted} is no number of the account: add it as a [[number]] or to a trunk's `numbers`"
                );
                Err(Notice::error(INVALID_CALLER_ID, text))
            }
            None if owns(parent_from) => Ok(parent_from.to_owned()),
            None => Ok(trunk.numbers.first().cloned().unwrap_or_else(|| parent_from.to_owned())),
        }
    }

    fn plan_trunk(&mut self, trunk: &Trunk, uri: &str, from: String, target: &Target) -> Result<Plan, Notice> {
        let document = if let Target::Sip(target) = target { document_credentials(target) } else { None };
        let credentials = document.or_else(|| trunk_credentials(trunk));
        let (mut invitation, search) = self.invitation(uri, &from, credentials, false)?;
        let to = match target {
            Target::Sip(target) => {
                invitation.headers = target.headers.clone();
                target.uri.clone()
            }
            Target::Number(number) => number.clone(),
            Target::Client { identity, .. } => format!("client:{identity}"),
            Target::Application { sid, .. } => format!("app:{sid}"),
        };
        Ok(Plan {
            from,
            to,
            via: trunk.name.clone(),
            invitations: vec![invitation],
            search,
            inside: None,
            srtp: trunk.srtp,
        })
    }

    /// The devices of an identity: the account's own, or where none of them can be called those of the first account that it has
    /// made, by their sids, with one that can.
    fn plan_devices(
        &mut self,
        account: AccountSid,
        identity: &str,
        user: Option<&User>,
        from: String,
        target: &Target,
        now: Now,
    ) -> Result<Plan, NoPlan> {
        let own = self.plan_devices_of(account, identity, user, from.clone(), target, now);
        let (Err(_), Target::Client { .. }) = (&own, target) else { return own };
        let directory = self.settings.directory.clone();
        let mut made: Vec<AccountSid> = directory.made_by(account).collect();
        made.sort_unstable();
        let of = |made: AccountSid| {
            let user = directory.user_of(made, identity).map(|user| &**user);
            self.plan_devices_of(made, identity, user, from.clone(), target, now).ok()
        };
        made.into_iter().find_map(of).map_or(own, Ok)
    }

    /// One INVITE for each of the devices that an identity has at an account: its telephones, if it is a user's, and its browsers.
    fn plan_devices_of(
        &mut self,
        account: AccountSid,
        identity: &str,
        user: Option<&User>,
        from: String,
        target: &Target,
        now: Now,
    ) -> Result<Plan, NoPlan> {
        let no_one = |status, why: &str| {
            let notice = Notice::warning(UNREACHABLE, format!("{identity} {why}"));
            Err(NoPlan { notice, status })
        };
        let aors = user.map(|user| Aor { username: user.username.clone(), domain: user.domain.clone() });
        let aors = aors.into_iter().chain([Client::aor(account, identity)]);
        let bindings: Vec<_> = aors.flat_map(|aor| self.settings.bindings.of(&aor, now.wall_ms)).collect();
        if bindings.is_empty() && user.is_none() {
            let notice = unreachable(Unreachable::NoUser, target);
            return Err(NoPlan { notice, status: BranchFailure::NoAnswer });
        }
        if bindings.is_empty() {
            return no_one(BranchFailure::NoAnswer, "has no registered device");
        }
        // Who does not want to be called is not; nor is a device that is in a call and knows no other.
        let client = ClientId { account, identity: identity.into() };
        let record = self.settings.presence.record(&client);
        let is_busy = |contact: &str| {
            let is_it = |device: &&Device| device.contact == contact;
            record.devices(now.wall_ms).find(is_it).is_some_and(|device| !record.takes_calls(device, now.wall_ms))
        };
        let is_away = record.published(now.wall_ms).is_some_and(|published| !published.is_open);
        let bindings: Vec<_> = bindings.into_iter().filter(|binding| !is_away && !is_busy(&binding.contact)).collect();
        if bindings.is_empty() {
            return match is_away {
                true => no_one(BranchFailure::NoAnswer, "does not want to be called"),
                false => no_one(BranchFailure::Busy, "is in a call on each of its devices"),
            };
        }
        let headers: Vec<(String, String)> = match target {
            Target::Client { parameters, .. } => {
                parameters.iter().filter_map(|(name, value)| Some((custom_header(name)?, value.clone()))).collect()
            }
            Target::Sip(target) => target.headers.clone(),
            Target::Number(_) | Target::Application { .. } => Vec::new(),
        };
        let to = match target {
            Target::Sip(target) => target.uri.clone(),
            _ => browser::address(identity),
        };
        let (name, domain) = match user {
            Some(user) => (user.username.clone(), user.domain.clone()),
            None => ("client".to_owned(), self.settings.gate.realm.clone()),
        };
        let told = told_browser(account, &from, &to, target);
        let invitations = bindings.iter().map(|binding| {
            let flow = binding.next_hop();
            let is_browser = flow.transport == Transport::Ws;
            Invitation {
                flow,
                request_uri: binding.contact.clone(),
                from: from_header(&from, &domain),
                to: format!("<sip:{name}@{domain}>"),
                contact: self.settings.contact(flow),
                alternatives: Vec::new(),
                routes: binding.path.clone(),
                headers: if is_browser { [&headers[..], &told[..]].concat() } else { headers.clone() },
                sdp: Bytes::new(),
                credentials: None,
            }
        });
        let invitations = invitations.collect();
        let via = user.map_or(identity, |user| &user.username).to_owned();
        Ok(Plan { from, to, via, invitations, search: None, inside: None, srtp: None })
    }

    /// An INVITE to a URI, and the search for its servers where that takes the name service.
    fn invitation(
        &self,
        uri: &str,
        from: &str,
        credentials: Option<Credentials>,
        guarded: bool,
    ) -> Result<(Invitation, Option<Search>), Notice> {
        let cannot = |why: &'static str| Notice::error(UNREACHABLE, why).about(uri);
        let parsed = SipUri::parse(uri).map_err(|_| cannot(Unreachable::BadUri.text()))?;
        let resolution = Resolution::new(&parsed, &self.outlets());
        let mut hops = Vec::new();
        if resolution.is_over() {
            let destinations = resolution.destinations();
            let unspoken = if parsed.wants_tls() { TLS_WANTED } else { NO_LISTENER };
            let found = if destinations.is_empty() { Err(unspoken) } else { self.hops(&destinations, guarded) };
            hops = found.map_err(cannot)?;
        }
        let own_host = hops.first().map_or(self.settings.gate.realm.clone(), |hop| hop.flow.local.ip().to_string());
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        let mut invitation = Invitation {
            flow: Flow { transport: Transport::Udp, local: nowhere, remote: nowhere, connection: None },
            request_uri: uri.to_owned(),
            from: from_header(from, &own_host),
            to: format!("<{uri}>"),
            contact: String::new(),
            alternatives: Vec::new(),
            routes: Vec::new(),
            headers: Vec::new(),
            sdp: Bytes::new(),
            credentials,
        };
        send_by(&mut invitation, hops);
        Ok((invitation, (!resolution.is_over()).then_some(Search { resolution, guarded })))
    }

    /// What we can send by, as the listeners have it.
    fn outlets(&self) -> Vec<Outlet> {
        let listening = self.settings.listening.iter();
        listening.map(|one| Outlet { transport: one.transport, family: Family::of(one.advertise.ip()) }).collect()
    }

    /// The ways to those servers that may be called, each by its listener; why there is none.
    fn hops(&self, destinations: &[Destination], guarded: bool) -> Result<Vec<Hop>, &'static str> {
        let may_be_called = |to: &&Destination| !guarded || self.settings.outbound.permits(to.address.ip());
        let allowed: Vec<&Destination> = destinations.iter().filter(may_be_called).collect();
        let flows = allowed.iter().filter_map(|to| self.flow_to(to.transport, to.address));
        let hops: Vec<Hop> = flows.map(|flow| Hop { flow, contact: self.settings.contact(flow) }).collect();
        match hops.is_empty() {
            false => Ok(hops),
            true if allowed.is_empty() => Err(PRIVATE),
            true => Err(NO_LISTENER),
        }
    }

    /// The flow to a peer that we have none to yet: by the listener of its transport and address family.
    fn flow_to(&self, transport: Transport, remote: SocketAddr) -> Option<Flow> {
        let fits = |listen: &&dialtone_sip::transport::Listen| {
            listen.transport == transport && listen.advertise.is_ipv4() == remote.is_ipv4()
        };
        let local = self.settings.listening.iter().find(fits)?.advertise;
        Some(Flow { transport, local, remote, connection: None })
    }

    /// The call at the other end of a link begins: one of our numbers was dialled from inside.
    pub(super) fn begin_inside(&mut self, child: CallSid) {
        let Some(inside) = self.calls.get_mut(&child).and_then(|slot| slot.inside.take()) else { return };
        let opening = Opening {
            sid: inside.sid,
            account: inside.account,
            direction: Direction::Inbound,
            from: inside.from,
            to: inside.to,
            via: String::new(),
            sip_call_id: String::new(),
            params: inside.params,
            stir_verstat: None,
            queue_ms: 0,
            status_callback: inside.application.status_callback,
            session_id: self.tokens.next_u64(),
            leg_id: 0,
            link: Some(inside.key),
            document: Some(inside.application.document),
            answer_at_once: inside.application.answer_at_once,
        };
        let sid = self.insert(Call::incoming(opening, false), vec![None], Vec::new());
        for (one, other) in [(sid, child), (child, sid)] {
            if let Some(slot) = self.calls.get_mut(&one) {
                slot.peer = Some(other);
            }
        }
        let (offer, signalled_from, encryption) = (Bytes::new(), String::new(), Encryption::AsOffered);
        self.inputs.push_back((sid, CallInput::Begin { offer, signalled_from, encryption, others: Vec::new() }));
    }

    /// Tells the customer where a refused INVITE was challenged for another realm than its credentials are for.
    pub(super) fn note_foreign_realm(&mut self, sid: CallSid, attempt: AttemptId, response: &Message) {
        let Some(slot) = self.calls.get(&sid) else { return };
        let invitation = slot.invitations.get(usize::from(attempt.0));
        let Some(credentials) = invitation.and_then(|invitation| invitation.credentials.as_ref()) else { return };
        let Some(asked) = digest::foreign_realm(response, credentials) else { return };
        let asked: String = asked.chars().filter(|c| !c.is_control()).take(REALM_CHARS).collect();
        let text = format!(
            "trunk {} asked for credentials of the realm \"{asked}\" ({}), but its own are for \"{}\" and were not \
             sent: if they are meant for it, set `realm = \"{asked}\"` in that [[trunk]]",
            slot.call.via(),
            response.status(),
            credentials.realm.as_deref().unwrap_or_default(),
        );
        self.notice(sid, Notice::warning(TRUNK_FAILED, text));
    }

    /// Tells the customer which server did not take the call.
    pub(super) fn note_diverted(
        &mut self,
        sid: CallSid,
        failed: Flow,
        next: Flow,
        status: u16,
        response: Option<&Message>,
    ) {
        let text = match (response, status) {
            (Some(_), _) => format!("{failed} answered {status}: {next} is tried"),
            (None, 408) => format!("{failed} did not answer in 32 s: {next} is tried"),
            (None, _) => format!("{failed} cannot be reached: {next} is tried"),
        };
        self.notice(sid, Notice::warning(TRUNK_FAILED, text));
    }

    pub(super) fn notice(&mut self, call: CallSid, notice: Notice) {
        self.inputs.push_back((call, CallInput::Notice(notice)));
    }
}

/// Sends the INVITE by the first of these ways, and by the others if that does not take it.
fn send_by(invitation: &mut Invitation, hops: Vec<Hop>) {
    let mut hops = hops.into_iter();
    if let Some(Hop { flow, contact }) = hops.next() {
        (invitation.flow, invitation.contact) = (flow, contact);
    }
    invitation.alternatives = hops.collect();
}

/// What a document gives with a URI answers whichever realm asks there.
fn document_credentials(target: &SipTarget) -> Option<Credentials> {
    let (username, password) = target.username.clone().zip(target.password.clone())?;
    Some(Credentials { username, password, realm: None })
}

pub(super) fn trunk_credentials(trunk: &Trunk) -> Option<Credentials> {
    let (username, password) = trunk.username.clone().zip(trunk.password.as_ref())?;
    Some(Credentials { username, password: password.expose().to_owned(), realm: Some(trunk.realm.clone()) })
}

fn unreachable(why: Unreachable, target: &Target) -> Notice {
    let whom = match target {
        Target::Number(number) => number.clone(),
        Target::Client { identity, .. } => format!("client:{identity}"),
        Target::Sip(target) => target.uri.clone(),
        Target::Application { sid, .. } => sid.clone(),
    };
    Notice::error(UNREACHABLE, format!("{whom} cannot be called: {}", why.text()))
}

/// A From value for a caller id: a number, `client:NAME`, or a SIP URI.
pub(super) fn from_header(caller_id: &str, host: &str) -> String {
    let host = if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host.to_owned() };
    if SipUri::parse(caller_id).is_ok() {
        return format!("<{caller_id}>");
    }
    let user = caller_id.strip_prefix("client:").unwrap_or(caller_id);
    match user.is_empty() || !user.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-_.".contains(&byte)) {
        true => format!("\"Anonymous\" <sip:anonymous@{host}>"),
        false => format!("<sip:{user}@{host}>"),
    }
}

/// What a browser is told of who calls it.
fn told_browser(account: AccountSid, from: &str, to: &str, target: &Target) -> Vec<(String, String)> {
    let given = match target {
        Target::Client { parameters, .. } => {
            browser::encode(parameters.iter().map(|(name, value)| (name.as_str(), value.as_str())))
        }
        Target::Sip(_) | Target::Number(_) | Target::Application { .. } => String::new(),
    };
    let sid = account.to_string();
    let pairs = [("AccountSid", &*sid), ("ApiVersion", "2010-04-01"), ("From", from), ("To", to), ("Params", &*given)];
    vec![(browser::PARAMETERS.to_owned(), browser::encode(pairs))]
}

/// A `<Parameter>` of a `<Client>` reaches a phone as `X-NAME`; a name that is no header name is left out.
fn custom_header(name: &str) -> Option<String> {
    let ok = !name.is_empty()
        && name.len() <= 64
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    ok.then(|| format!("X-{name}"))
}
