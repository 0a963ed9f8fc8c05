//! Who sends a request, before any state exists for it: trunks by address, users by digest, strangers by a challenge.
//!
//! Order (DESIGN): a trunk that names the very address; credentials in the request; a trunk by its network; else a
//! stateless 401. A call to a domain that the API has made goes by what the domain wants: addresses, credentials, or both. What a stranger costs is bounded: a bucket for each source in a table of fixed size.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use dialtone_sip::digest::{self, Algorithm, Denied, Guard};
use dialtone_sip::flow::{Flow, Transport};
use dialtone_sip::msg::{AuthParams, HeaderName, Message, Method};
use dialtone_sip::stack::Reply;
use dialtone_sip::time::Mono;
use dialtone_sip::tokens::Tokens;

use crate::account::{Directory, Origin, User};
use crate::call::{Now, route};

/// What the gate needs to know.
#[derive(Clone, Debug)]
pub struct Settings {
    pub realm: String,
    /// Offered in this order.
    pub algorithms: Vec<Algorithm>,
}

/// Challenges answered per source: a burst, and then so many a second.
const CHALLENGES: f64 = 200.0;
const CHALLENGES_PER_S: f64 = 20.0;
/// Wrong passwords of one source before it is met with silence for [`SILENCE_S`].
const FAILURES: u32 = 10;
const SILENCE_S: u64 = 60;
/// Sources remembered; when full, all are forgotten and begin anew.
const SOURCES: usize = 16_384;

/// What the gate says of a request.
pub(super) enum Verdict {
    Known(Origin),
    Refuse(Reply, u16),
    /// Not even an answer.
    Silence,
}

pub(super) struct Gate {
    guard: Guard,
    salts: Tokens,
    sources: HashMap<IpAddr, Source>,
}

struct Source {
    tokens: f64,
    filled: Mono,
    failures: u32,
    window: Mono,
}

impl Gate {
    pub(super) fn new(settings: &Settings, tokens: &mut Tokens) -> Gate {
        Gate {
            guard: Guard::new(settings.realm.clone(), tokens.next_seed(), settings.algorithms.clone()),
            salts: Tokens::new(tokens.next_seed()),
            sources: HashMap::new(),
        }
    }

    /// Whether the source of a request may send it.
    pub(super) fn judge(&mut self, request: &Message, flow: Flow, directory: &Directory, now: Now) -> Verdict {
        let is_register = request.method() == Some(Method::Register);
        // Trunks place calls; they do not register. A page is none, wherever it is.
        let may_be_trunk = !is_register && flow.transport != Transport::Ws;
        let called = route::called(request);
        if may_be_trunk && let Some(trunk) = directory.trunk_from(flow.remote, &called, false) {
            return Verdict::Known(Origin::Trunk(trunk.clone()));
        }
        if self.is_silenced(flow.remote.ip(), now.mono) {
            return Verdict::Silence;
        }
        let domain = directory.sip_domain(host_called(request)).filter(|_| !is_register);
        if let Some(domain) = domain {
            if !domain.lets_in(flow.remote.ip()) {
                return self.forbid(flow, "Source Not Allowed", now);
            }
            if !domain.wants_credentials {
                return match domain.addresses {
                    Some(_) => Verdict::Known(Origin::Domain(domain.clone())),
                    None => self.forbid(flow, "Domain Takes No Calls", now),
                };
            }
        }
        let host = if domain.is_some() { host_called(request) } else { host_of(request) };
        match self.credentials(request, directory.domain_of(host), directory, now) {
            Some(Ok(user)) if !(if is_register { user.may_register } else { user.may_call }) => {
                return self.forbid(flow, "Not For This User", now);
            }
            Some(Ok(user)) => return Verdict::Known(Origin::User(user)),
            Some(Err(Denied::Malformed)) => {
                return Verdict::Refuse(Reply::new(400).reason("Malformed Credentials"), 400);
            }
            Some(Err(Denied::Wrong)) => {
                self.failed(flow.remote.ip(), now.mono);
                return self.challenge(flow, false, now);
            }
            Some(Err(Denied::Stale)) => return self.challenge(flow, true, now),
            Some(Err(Denied::Missing)) | None => {}
        }
        if may_be_trunk
            && domain.is_none()
            && let Some(trunk) = directory.trunk_from(flow.remote, &called, true)
        {
            return Verdict::Known(Origin::Trunk(trunk.clone()));
        }
        self.challenge(flow, false, now)
    }

    /// The user whose credentials the request carries; `None` without any.
    fn credentials(
        &mut self,
        request: &Message,
        domain: &str,
        directory: &Directory,
        now: Now,
    ) -> Option<Result<Arc<User>, Denied>> {
        let mut denied = None;
        for value in request.headers(HeaderName::Authorization) {
            let Some(auth) = AuthParams::parse(value).filter(AuthParams::is_digest) else { continue };
            let user = digest::username(&auth).and_then(|name| directory.user(name, domain));
            let proof = user.map(|user| user.password.proof());
            let wall_s = now.wall_ms / 1000;
            match self.guard.check_proof(&auth, request.method_text(), request.request_uri(), proof, wall_s) {
                Ok(()) => return user.cloned().map(Ok),
                Err(error) => denied = Some(Err(error)),
            }
        }
        denied
    }

    /// 403, as far as the source may be answered at all.
    fn forbid(&mut self, flow: Flow, reason: &'static str, now: Now) -> Verdict {
        match self.source(flow.remote.ip(), now.mono).take(now.mono) {
            true => Verdict::Refuse(Reply::new(403).reason(reason), 403),
            false => Verdict::Silence,
        }
    }

    fn challenge(&mut self, flow: Flow, stale: bool, now: Now) -> Verdict {
        if !self.source(flow.remote.ip(), now.mono).take(now.mono) {
            return Verdict::Silence;
        }
        let mut reply = Reply::new(401);
        for challenge in self.guard.challenges(now.wall_ms / 1000, self.salts.next_u64(), stale) {
            reply = reply.header(HeaderName::WwwAuthenticate, challenge);
        }
        Verdict::Refuse(reply, 401)
    }

    /// Whether anybody may be answered at this source now: for OPTIONS, which need no account.
    pub(super) fn may_answer(&mut self, flow: Flow, now: Now) -> bool {
        !self.is_silenced(flow.remote.ip(), now.mono) && self.source(flow.remote.ip(), now.mono).take(now.mono)
    }

    fn failed(&mut self, ip: IpAddr, now: Mono) {
        let source = self.source(ip, now);
        if now.since(source.window).as_secs() >= SILENCE_S {
            source.window = now;
            source.failures = 0;
        }
        source.failures += 1;
        if source.failures == FAILURES {
            // Silence counts from the last straw.
            source.window = now;
            tracing::warn!(source = %ip, "10 wrong passwords in a minute: the source is ignored for a minute");
        }
    }

    fn is_silenced(&self, ip: IpAddr, now: Mono) -> bool {
        self.sources
            .get(&ip)
            .is_some_and(|source| source.failures >= FAILURES && now.since(source.window).as_secs() < SILENCE_S)
    }

    fn source(&mut self, ip: IpAddr, now: Mono) -> &mut Source {
        if self.sources.len() >= SOURCES && !self.sources.contains_key(&ip) {
            self.sources.clear();
        }
        self.sources.entry(ip).or_insert(Source { tokens: CHALLENGES, filled: now, failures: 0, window: now })
    }
}

impl Source {
    fn take(&mut self, now: Mono) -> bool {
        self.tokens = (self.tokens + now.since(self.filled).as_secs_f64() * CHALLENGES_PER_S).min(CHALLENGES);
        self.filled = now;
        let ok = self.tokens >= 1.0;
        if ok {
            self.tokens -= 1.0;
        }
        ok
    }
}

/// The host that is called.
fn host_called(request: &Message) -> &str {
    let uri = dialtone_sip::msg::Uri::parse(request.request_uri()).ok().and_then(dialtone_sip::msg::Uri::sip);
    uri.map_or("", |uri| uri.host.host)
}

/// The host whose user sends the request: the To of a REGISTER, the From of others.
fn host_of(request: &Message) -> &str {
    let address = if request.method() == Some(Method::Register) { request.to() } else { request.from() };
    let uri = address.ok().and_then(|address| address.parsed_uri().ok()).and_then(dialtone_sip::msg::Uri::sip);
    uri.map_or("", |uri| uri.host.host)
}
