//! Who watches whom: SUBSCRIBE to `presence` and `dialog`, and PUBLISH (RFC 3856, RFC 4235, RFC 3903). What is told is what the
//! account's [`crate::presence::Record`] of the client says, wherever it is registered.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use dialtone_sip::dialog::DialogId;
use dialtone_sip::flow::Flow;
use dialtone_sip::msg::{HeaderName, Message};
use dialtone_sip::stack::{Notification, Reply, TransactionId};
use dialtone_sip::time::Mono;
use dialtone_sip::tokens::TokenMap;

use super::core::Core;
use crate::account::{Origin, User};
use crate::call::{Now, route};
use crate::events::EventKind;
use crate::ids::{AccountSid, CallSid};
use crate::presence::{ClientId, InCall, Package, Published, UnreadableState, read_state};

/// Subscriptions of one edge; one more is refused.
const MOST: usize = 50_000;
/// What a subscription, or a published state, may ask for, in seconds.
const USUAL_S: u32 = 3_600;
const LEAST_S: u32 = 60;
const LONGEST_S: u32 = 7_200;
/// States that a user's devices have published at this edge; one more takes the place of the oldest.
const PUBLISHED: usize = 10;
const MOST_NOTE: usize = 200;
const ALLOW_EVENTS: &str = "presence, dialog";

/// All subscriptions to clients, and the calls of clients.
#[derive(Default)]
pub(super) struct Watchers {
    subscriptions: TokenMap<DialogId, Watcher>,
    by_client: HashMap<ClientId, BTreeSet<DialogId>>,
    expiries: BTreeSet<(Mono, DialogId)>,
    /// NOTIFY requests that are not answered.
    open: TokenMap<u64, DialogId>,
    calls: HashMap<CallSid, (ClientId, InCall)>,
}

struct Watcher {
    client: ClientId,
    /// As it was subscribed to: `sip:USER@DOMAIN`.
    entity: String,
    package: Package,
    expires: Mono,
    /// How often it was told.
    version: u32,
    /// What it was told last.
    told: String,
    /// A NOTIFY is not answered yet; `true`: something new has come since.
    open: Option<bool>,
}

impl Watchers {
    pub(super) fn next_deadline(&self) -> Option<Mono> {
        self.expiries.first().map(|(at, _)| *at)
    }

    fn remove(&mut self, id: DialogId) -> Option<Watcher> {
        let watcher = self.subscriptions.remove(&id)?;
        self.expiries.remove(&(watcher.expires, id));
        if let Some(all) = self.by_client.get_mut(&watcher.client) {
            all.remove(&id);
            if all.is_empty() {
                self.by_client.remove(&watcher.client);
            }
        }
        Some(watcher)
    }

    fn expire_at(&mut self, id: DialogId, at: Mono) {
        if let Some(watcher) = self.subscriptions.get_mut(&id) {
            self.expiries.remove(&(watcher.expires, id));
            watcher.expires = at;
            self.expiries.insert((at, id));
        }
    }
}

impl Core {
    /// A user wants to know how somebody of its account is.
    pub(super) fn subscribed(&mut self, flow: Flow, request: &Message, origin: &Origin, now: Now) {
        let read = self.read_subscribe(request, origin);
        let (client, entity, package, expires_s) = match read {
            Ok(read) => read,
            Err(reply) => {
                let transaction = self.stack.accept_request(flow, request);
                return self.stack.reply(transaction, request, &reply, now.mono);
            }
        };
        let contact = self.settings.contact(flow);
        let (id, transaction) = self.stack.accept_subscribe(flow, request, contact);
        self.stack.answer_subscribe(id, transaction, request, expires_s, now.mono);
        let expires = now.mono + Duration::from_secs(expires_s.into());
        let watcher =
            Watcher { client: client.clone(), entity, package, expires, version: 0, told: String::new(), open: None };
        self.watchers.subscriptions.insert(id, watcher);
        self.watchers.by_client.entry(client).or_default().insert(id);
        self.watchers.expiries.insert((expires, id));
        // One that expires at once only asks.
        self.notify_watcher(id, expires_s == 0, now);
    }

    fn read_subscribe(&self, request: &Message, origin: &Origin) -> Result<(ClientId, String, Package, u32), Reply> {
        let Origin::User(user) = origin else { return Err(Reply::new(403)) };
        let event = request.header(HeaderName::Event).unwrap_or_default();
        let package = Package::named(event.split(';').next().unwrap_or_default().trim());
        let package = package.ok_or_else(|| Reply::new(489).named("Allow-Events", ALLOW_EVENTS.to_owned()))?;
        let accepts = |accept: &str| {
            let accept = accept.split(';').next().unwrap_or_default().trim();
            accept.eq_ignore_ascii_case(package.content_type()) || accept == "*/*" || accept == "application/*"
        };
        if request.header(HeaderName::Accept).is_some() && !request.values(HeaderName::Accept).any(accepts) {
            return Err(Reply::new(406));
        }
        if self.draining || self.watchers.subscriptions.len() >= MOST {
            return Err(Reply::new(503));
        }
        let (client, entity) = self.watched(request, user).ok_or_else(|| Reply::new(404))?;
        Ok((client, entity, package, expires_of(request)?))
    }

    /// Who is meant by the Request-URI: an identity of the sender's own account.
    fn watched(&self, request: &Message, sender: &User) -> Option<(ClientId, String)> {
        let called = route::called(request);
        let identity = called.strip_prefix("client:").unwrap_or(&called).to_owned();
        let known = self.settings.directory.client(sender.account, &identity);
        let domain = known.map_or(&sender.domain, |user| &user.domain);
        let entity = format!("sip:{identity}@{domain}");
        (!identity.is_empty()).then_some((ClientId { account: sender.account, identity: identity.into() }, entity))
    }

    /// A subscription goes on, or ends, as its subscriber says.
    pub(super) fn resubscribed(&mut self, id: DialogId, transaction: TransactionId, request: &Message, now: Now) {
        if !self.watchers.subscriptions.contains_key(&id) {
            return self.stack.reply(transaction, request, &Reply::new(481), now.mono);
        }
        let expires_s = match expires_of(request) {
            Ok(expires_s) => expires_s,
            Err(reply) => return self.stack.reply(transaction, request, &reply, now.mono),
        };
        self.stack.answer_subscribe(id, transaction, request, expires_s, now.mono);
        self.watchers.expire_at(id, now.mono + Duration::from_secs(expires_s.into()));
        if let Some(watcher) = self.watchers.subscriptions.get_mut(&id) {
            // Who asks is answered, whether there is something new or not (RFC 6665 s4.2.1.2).
            watcher.told.clear();
        }
        self.notify_watcher(id, expires_s == 0, now);
    }

    /// How a client can be reached is otherwise than before.
    pub fn handle_presence(&mut self, client: &ClientId, now: Now) {
        let watchers: Vec<DialogId> = self.watchers.by_client.get(client).into_iter().flatten().copied().collect();
        for id in watchers {
            self.notify_watcher(id, false, now);
        }
        self.work(now);
    }

    pub(super) fn watchers_due(&mut self, now: Now) {
        while let Some((at, id)) = self.watchers.expiries.first().copied()
            && at <= now.mono
        {
            self.notify_watcher(id, true, now);
        }
    }

    /// Tells a subscriber what is new, if something is; or for the last time.
    fn notify_watcher(&mut self, id: DialogId, is_last: bool, now: Now) {
        let Some(watcher) = self.watchers.subscriptions.get_mut(&id) else { return };
        if let Some(again) = &mut watcher.open
            && !is_last
        {
            *again = true;
            return;
        }
        let record = self.settings.presence.record(&watcher.client);
        let body = watcher.package.document(&watcher.entity, watcher.version, &record, now.wall_ms);
        // Documents of calls have a number in them, which makes none of them like another.
        let state = watcher.package.document(&watcher.entity, 0, &record, now.wall_ms);
        if state == watcher.told && !is_last {
            return;
        }
        watcher.told = state;
        watcher.version += 1;
        let left_s = watcher.expires.0.saturating_sub(now.mono.0) / 1_000_000;
        let state = if is_last { "terminated;reason=timeout".to_owned() } else { format!("active;expires={left_s}") };
        let notification = Notification { state, content_type: watcher.package.content_type(), body: body.into() };
        let sent = self.stack.notify(id, &notification, now.mono);
        match sent {
            Some(number) if !is_last => {
                watcher.open = Some(false);
                self.watchers.open.insert(number, id);
            }
            _ => self.end_watcher(id),
        }
    }

    fn end_watcher(&mut self, id: DialogId) {
        self.watchers.remove(id);
        self.stack.end_subscription(id);
    }

    /// A subscriber has answered, or did not; whether that number is one of a NOTIFY.
    pub(super) fn notify_answered(&mut self, request: u64, status: u16, now: Now) -> bool {
        let Some(id) = self.watchers.open.remove(&request) else { return false };
        let Some(watcher) = self.watchers.subscriptions.get_mut(&id) else { return true };
        let has_news = watcher.open.take() == Some(true);
        match status {
            300.. => self.end_watcher(id),
            _ if has_news => self.notify_watcher(id, false, now),
            _ => {}
        }
        true
    }

    /// A user's device says how its user is.
    pub(super) fn published(&mut self, flow: Flow, request: &Message, origin: &Origin, now: Now) {
        let transaction = self.stack.accept_request(flow, request);
        let reply = self.publish_state(request, origin, now).unwrap_or_else(|reply| reply);
        self.stack.reply(transaction, request, &reply, now.mono);
    }

    fn publish_state(&mut self, request: &Message, origin: &Origin, now: Now) -> Result<Reply, Reply> {
        let Origin::User(user) = origin else { return Err(Reply::new(403)) };
        if route::called(request) != user.username {
            return Err(Reply::new(403).reason("Not Your Address Of Record"));
        }
        let event = request.header(HeaderName::Event).unwrap_or_default();
        if event.split(';').next().unwrap_or_default().trim() != Package::Presence.as_str() {
            return Err(Reply::new(489).named("Allow-Events", Package::Presence.as_str().to_owned()));
        }
        let expires_s = expires_of(request)?;
        let client = ClientId { account: user.account, identity: self.settings.directory.identity_of(user).into() };
        let part = self.settings.presence.book().own(&client);
        let tag = request.other_header("SIP-If-Match").map(str::to_owned);
        let before = tag.as_ref().map(|tag| part.published.iter().find(|known| known.tag == *tag).cloned());
        // It was published at another edge, has expired, or never was (RFC 3903 s6).
        let before = match before {
            Some(None) => return Err(Reply::new(412)),
            Some(Some(known)) if known.expires_ms <= now.wall_ms => return Err(Reply::new(412)),
            other => other.flatten(),
        };
        let state = match (request.body().is_empty(), before) {
            (true, Some(known)) => Some((known.is_open, known.note)),
            (true, None) => return Err(Reply::new(400).reason("Nothing Published")),
            (false, _) if request.content_type().as_deref() != Some(Package::Presence.content_type()) => {
                let accept = Package::Presence.content_type().to_owned();
                return Err(Reply::new(415).header(HeaderName::Accept, accept));
            }
            (false, _) => {
                Some(read_state(&request.body()).map_err(|UnreadableState| Reply::new(400).reason("Unreadable PIDF"))?)
            }
        };
        let fresh = format!("{:016x}", self.tokens.next_u64());
        let published = state.filter(|_| expires_s > 0).map(|(is_open, note)| Published {
            tag: fresh.clone(),
            expires_ms: now.wall_ms + u64::from(expires_s) * 1000,
            is_open,
            note: note.chars().take(MOST_NOTE).collect(),
        });
        self.settings.presence.publish(&client, tag.as_deref(), published, PUBLISHED, now.wall_ms);
        Ok(Reply::new(200).named("SIP-ETag", fresh).header(HeaderName::Expires, expires_s.to_string()))
    }

    /// What a call tells may change what the lamps of its user show.
    pub(super) fn watch_call(&mut self, account: AccountSid, call: CallSid, kind: &EventKind) {
        let client = match kind {
            EventKind::Initiated(initiated) if !initiated.is_withdrawn => {
                let is_initiator = !initiated.direction.is_outbound();
                let remote = if is_initiator { &initiated.to } else { &initiated.from };
                self.lamp(account, call, &initiated.via, is_initiator, remote.clone())
            }
            EventKind::Answered => self.lamp_answered(call),
            EventKind::Completed(_) => self.watchers.calls.remove(&call).map(|(client, _)| client),
            _ => None,
        };
        client.into_iter().for_each(|client| self.show_lamps(&client));
    }

    /// A call that was taken up from an edge, or a life of this one, that is no more: it was answered there.
    pub(super) fn watch_restored(&mut self, sid: CallSid) {
        let Some(call) = self.calls.get(&sid).map(|slot| &slot.call) else { return };
        let is_initiator = !call.direction().is_outbound();
        let remote = if is_initiator { call.to() } else { call.from() }.to_owned();
        let (account, via) = (call.account(), call.via().to_owned());
        if self.lamp(account, sid, &via, is_initiator, remote).is_some()
            && let Some(client) = self.lamp_answered(sid)
        {
            self.show_lamps(&client);
        }
    }

    /// A call that comes or goes by a user of that name, if there is one.
    fn lamp(
        &mut self,
        account: AccountSid,
        call: CallSid,
        via: &str,
        is_initiator: bool,
        remote: String,
    ) -> Option<ClientId> {
        let user = self.settings.directory.client(account, via)?;
        let client = ClientId { account, identity: user.username.as_str().into() };
        let (id, contact) = (call.to_string(), String::new());
        self.watchers
            .calls
            .insert(call, (client.clone(), InCall { id, is_initiator, is_answered: false, remote, contact }));
        Some(client)
    }

    fn lamp_answered(&mut self, call: CallSid) -> Option<ClientId> {
        let contact = self.contact_of(call);
        let (client, in_call) = self.watchers.calls.get_mut(&call)?;
        (in_call.is_answered, in_call.contact) = (true, contact);
        Some(client.clone())
    }

    fn show_lamps(&self, client: &ClientId) {
        let own = self.watchers.calls.values().filter(|(of, _)| of == client);
        let mut calls: Vec<InCall> = own.map(|(_, in_call)| in_call.clone()).collect();
        calls.sort_by(|one, other| one.id.cmp(&other.id));
        self.settings.presence.has_calls(client, calls);
    }

    /// By which contact of its user the party of a call can be reached, where that is one that is registered.
    fn contact_of(&self, call: CallSid) -> String {
        let dialog = self.calls.get(&call).and_then(|slot| {
            let answered = usize::from(slot.call.answered_attempt().0);
            slot.dialogs.get(answered).copied().flatten()
        });
        dialog.and_then(|id| self.stack.dialog(id)).map(|dialog| dialog.remote_target.clone()).unwrap_or_default()
    }
}

/// How long something is to hold; 0: not any more.
fn expires_of(request: &Message) -> Result<u32, Reply> {
    match request.expires().unwrap_or(USUAL_S) {
        1..LEAST_S => Err(Reply::new(423).header(HeaderName::MinExpires, LEAST_S.to_string())),
        seconds => Ok(seconds.min(LONGEST_S)),
    }
}
