//! Routing: who answers an incoming call, and how somebody is reached.
//!
//! Pure look-ups over the directory; who a request comes from was decided before.

use std::sync::Arc;

use dialtone_sip::msg::{Address, HeaderName, Message, SipUri, Uri, decode, unfold};

use super::browser;
use crate::account::{Application, Client, Directory, Domain, DomainAnswer, Number, Origin, Srtp, Trunk, User};
use crate::ids::{AccountSid, CallSid};
use crate::twiml::{SipTarget, Target, parse};

/// An incoming call with its application.
#[derive(Clone, Debug, PartialEq)]
pub struct Inbound {
    /// That it is to have, if that is settled.
    pub sid: Option<CallSid>,
    pub account: AccountSid,
    pub from: String,
    pub to: String,
    pub via: String,
    pub params: Vec<(String, String)>,
    /// What the carrier says of the caller's number: `verstat` of 3GPP TS 24.229.
    pub stir_verstat: Option<String>,
    pub application: Application,
    /// Of the trunk that it comes by, if that has its own.
    pub srtp: Option<Srtp>,
}

/// Why an incoming call is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoRoute {
    /// 404: nobody has that number.
    NotFound,
    /// 484: no number was dialled.
    Incomplete,
}

impl NoRoute {
    pub fn status(self) -> u16 {
        match self {
            NoRoute::NotFound => 404,
            NoRoute::Incomplete => 484,
        }
    }
}

/// Finds the application of an INVITE from a known origin.
pub fn inbound(origin: &Origin, invite: &Message, directory: &Directory) -> Result<Inbound, NoRoute> {
    if let Origin::Client(client) = origin {
        return browser::inbound(client, invite, directory);
    }
    let called = called(invite);
    if called.is_empty() {
        return Err(NoRoute::Incomplete);
    }
    let (application, number) = application(origin, &called, directory).ok_or(NoRoute::NotFound)?;
    let mut params = sip_params(invite);
    let mut stir_verstat = None;
    let (from, via) = match origin {
        Origin::Trunk(trunk) => {
            stir_verstat = verdict(invite);
            params.extend(stir_verstat.iter().map(|verdict| ("StirVerstat".to_owned(), verdict.clone())));
            params.extend(passport(invite).map(|token| ("StirPassportToken".to_owned(), token)));
            (caller(invite), trunk.name.clone())
        }
        Origin::User(user) => {
            params.push(("SipUsername".to_owned(), user.username.clone()));
            (format!("sip:{}@{}", user.username, user.domain), user.username.clone())
        }
        Origin::Domain(domain) => (caller(invite), domain.name.clone()),
        Origin::Client(client) => (browser::address(&client.identity), client.identity.clone()),
    };
    let to = match (number, origin) {
        (Some(number), _) => number.number.clone(),
        (None, Origin::Trunk(_) | Origin::Client(_)) => called,
        (None, Origin::User(user)) => format!("sip:{called}@{}", user.domain),
        (None, Origin::Domain(domain)) => format!("sip:{called}@{}", domain.name),
    };
    let srtp = if let Origin::Trunk(trunk) = origin { trunk.srtp } else { None };
    Ok(Inbound { sid: None, account: origin.account(), from, to, via, params, stir_verstat, application, srtp })
}

/// From a trunk: the account's number, else the trunk's own application. From a user: the account's number, else the
/// user's own, else another user of the account, who is rung directly. At a domain that the API has made: what the domain
/// says, whatever is called.
fn application(origin: &Origin, called: &str, directory: &Directory) -> Option<(Application, Option<Arc<Number>>)> {
    let account = origin.account();
    let domain = match origin {
        Origin::Domain(domain) => Some(domain),
        Origin::User(user) => user.sip_domain.as_ref(),
        Origin::Trunk(_) | Origin::Client(_) => None,
    };
    if let Some(domain) = domain {
        return of_domain(domain, called).map(|application| (application, None));
    }
    if let Some(number) = directory.number(account, called) {
        return Some((number.application.clone(), Some(number.clone())));
    }
    match origin {
        Origin::Trunk(trunk) => trunk.application.clone().map(|application| (application, None)),
        Origin::User(user) => {
            let direct = || directory.client(account, called).map(|callee| (ring_directly(callee), None));
            user.application.clone().map(|application| (application, None)).or_else(direct)
        }
        // A phone of the console, whose name no user has.
        Origin::Client(_) => directory.client(account, called).map(|callee| (ring_directly(callee), None)),
        Origin::Domain(_) => None,
    }
}

/// What a phone of the console reaches: what a user of its name would, and by `client:NAME` everybody of that name.
pub(super) fn from_console(
    client: &Arc<Client>,
    called: &str,
    directory: &Directory,
) -> Option<(Application, Option<Arc<Number>>)> {
    if let Some(identity) = called.strip_prefix("client:") {
        return Some((ring(identity), None));
    }
    let user = directory.user_of(client.account, &client.identity).cloned();
    application(&user.map_or_else(|| Origin::Client(client.clone()), Origin::User), called, directory)
}

fn of_domain(domain: &Domain, called: &str) -> Option<Application> {
    match &domain.answer {
        DomainAnswer::Application(application) => Some(application.clone()),
        DomainAnswer::Dial if is_number(called) => Some(Application::of_twiml(format!(
            "<Response><Dial answerOnBridge=\"true\"><Number>{called}</Number></Dial></Response>"
        ))),
        DomainAnswer::Dial | DomainAnswer::Nothing => None,
    }
}

fn ring_directly(callee: &User) -> Application {
    ring(&callee.username)
}

fn ring(identity: &str) -> Application {
    let identity = quick_xml::escape::escape(identity);
    Application::of_twiml(format!(
        "<Response><Dial answerOnBridge=\"true\"><Client>{identity}</Client></Dial></Response>"
    ))
}

/// The number or user that is called, escapes decoded; empty if the URI has none or hides control bytes.
pub fn called(invite: &Message) -> String {
    let Ok(uri) = Uri::parse(invite.request_uri()) else { return String::new() };
    let user = uri.user();
    let user = user.split(';').next().unwrap_or("");
    decode(user).map(|user| user.into_owned()).unwrap_or_default()
}

/// Who calls: the number where the From has one, else its whole URI.
fn caller(invite: &Message) -> String {
    let asserted = invite.values(HeaderName::PAssertedIdentity).next().and_then(|value| Address::parse(value).ok());
    let from = asserted.or_else(|| invite.from().ok());
    let Some(uri) = from.and_then(|from| from.parsed_uri().ok()) else { return String::new() };
    let user = decode(uri.user()).unwrap_or_default();
    if is_number(&user) {
        return user.into_owned();
    }
    match uri {
        Uri::Sip(uri) if user.is_empty() => format!("sip:{}", uri.host.host),
        Uri::Sip(uri) => format!("sip:{user}@{}", uri.host.host),
        Uri::Other { text, .. } => text.to_owned(),
    }
}

/// The carrier's verdict on the caller's number.
fn verdict(invite: &Message) -> Option<String> {
    let asserted = invite.values(HeaderName::PAssertedIdentity).next();
    let (_, rest) = asserted.or_else(|| invite.header(HeaderName::From))?.split_once("verstat=")?;
    let word: String = rest.chars().take_while(|letter| letter.is_ascii_alphanumeric() || *letter == '-').collect();
    (!word.is_empty()).then_some(word)
}

/// The signature of the caller's number (RFC 8224).
fn passport(invite: &Message) -> Option<String> {
    let token = unfold(invite.other_header("Identity")?.split(';').next().unwrap_or_default());
    Some(token.trim().chars().take(PASSPORT_CHARS).collect())
}

pub fn is_number(text: &str) -> bool {
    let digits = text.strip_prefix('+').unwrap_or(text);
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

/// Headers that a customer may see; a header longer than this is cut.
const HEADER_CHARS: usize = 1_024;
/// So is a signature.
const PASSPORT_CHARS: usize = 4_096;

fn sip_params(invite: &Message) -> Vec<(String, String)> {
    let mut params = vec![("SipCallId".to_owned(), invite.call_id().to_owned())];
    if let Ok(Uri::Sip(uri)) = Uri::parse(invite.request_uri()) {
        params.push(("SipDomain".to_owned(), uri.host.host.to_owned()));
    }
    let name = invite.from().map(|from| from.display_name().into_owned()).unwrap_or_default();
    if !name.is_empty() {
        params.push(("CallerName".to_owned(), name));
    }
    let diversion = invite
        .other_header("Diversion")
        .and_then(|value| Address::parse(value).ok())
        .and_then(|address| address.parsed_uri().ok());
    if let Some(user) = diversion.map(|uri| uri.user()).filter(|user| !user.is_empty()) {
        params.push(("ForwardedFrom".to_owned(), user.to_owned()));
    }
    params.extend(custom_headers(invite));
    params
}

/// The headers of a request that the application is told of: `X-...` and User-to-User, each the first time.
pub fn custom_headers(request: &Message) -> Vec<(String, String)> {
    let mut params: Vec<(String, String)> = Vec::new();
    for (name, value) in request.all_headers() {
        let custom = name.get(..2).is_some_and(|prefix| prefix.eq_ignore_ascii_case("X-"))
            || name.eq_ignore_ascii_case("User-to-User");
        if !custom {
            continue;
        }
        let param = format!("SipHeader_{name}");
        if !params.iter().any(|(known, _)| *known == param) {
            params.push((param, unfold(value).chars().take(HEADER_CHARS).collect()));
        }
    }
    params
}

/// How somebody is reached.
#[derive(Clone, Debug)]
pub enum Reach {
    /// The best trunk, and the number in its form.
    Trunk { trunk: Arc<Trunk>, uri: String },
    /// A number of our own: a new inbound call inside.
    Number(Arc<Number>),
    /// An application of the account: a new inbound call inside.
    Application(Arc<Application>),
    /// Every device of a user.
    User(Arc<User>),
    /// Every browser of an identity that is no user's.
    Browsers(String),
    /// Any SIP host that the outbound guard allows.
    Uri(SipTarget),
}

/// Why nobody is reached; told as a notice of the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreachable {
    NoTrunk,
    NoUser,
    NoApplication,
    BadUri,
}

impl Unreachable {
    pub fn text(self) -> &'static str {
        match self {
            Unreachable::NoTrunk => {
                "no trunk of the account reaches this number: add a [[trunk]] with a uri and matching prefixes"
            }
            Unreachable::NoUser => "the account has no such user, and no browser of that name is connected",
            Unreachable::NoApplication => "the account has no such application with a VoiceUrl",
            Unreachable::BadUri => "the sip uri cannot be read",
        }
    }
}

/// Finds the way to a `<Dial>` noun.
pub fn outbound(target: &Target, account: AccountSid, directory: &Directory) -> Result<Reach, Unreachable> {
    match target {
        Target::Number(number) => match directory.number(account, number) {
            Some(own) => Ok(Reach::Number(own.clone())),
            None => to_trunk(number, account, directory),
        },
        Target::Client { identity, .. } => {
            Ok(directory.client(account, identity).cloned().map_or(Reach::Browsers(identity.clone()), Reach::User))
        }
        Target::Sip(target) => to_sip(target, account, directory),
        Target::Application { sid, .. } => {
            directory.application(account, sid).cloned().map(Reach::Application).ok_or(Unreachable::NoApplication)
        }
    }
}

/// Whether a text can be sent to it: users have devices that take some.
pub fn takes_messages(target: &Target, account: AccountSid, directory: &Directory) -> bool {
    matches!(outbound(target, account, directory), Ok(Reach::User(_)))
}

/// Whether a text may be from it: a number or a user of the account.
pub fn may_send_as(from: &str, account: AccountSid, directory: &Directory) -> bool {
    let is_user = || parse::target(from, None, None).is_some_and(|user| takes_messages(&user, account, directory));
    directory.owns_caller_id(account, from) || directory.number(account, from).is_some() || is_user()
}

fn to_trunk(number: &str, account: AccountSid, directory: &Directory) -> Result<Reach, Unreachable> {
    let trunk = directory.trunks_to(account, number).first().copied().cloned().ok_or(Unreachable::NoTrunk)?;
    let uri = trunk.uri.as_deref().and_then(|uri| with_user(uri, number)).ok_or(Unreachable::BadUri)?;
    Ok(Reach::Trunk { trunk, uri })
}

fn to_sip(target: &SipTarget, account: AccountSid, directory: &Directory) -> Result<Reach, Unreachable> {
    let uri = SipUri::parse(&target.uri).map_err(|_| Unreachable::BadUri)?;
    if directory.is_own_domain(uri.host.host) {
        let user = uri.decoded_user().unwrap_or_default();
        if let Some(number) = directory.number(account, &user) {
            return Ok(Reach::Number(number.clone()));
        }
        let own = directory.user(&user, directory.domain_of(uri.host.host)).filter(|found| found.account == account);
        return own.cloned().map(Reach::User).ok_or(Unreachable::NoUser);
    }
    match directory.trunk_with_host(account, uri.host.host) {
        Some(trunk) => Ok(Reach::Trunk { trunk: trunk.clone(), uri: target.uri.clone() }),
        None => Ok(Reach::Uri(target.clone())),
    }
}

/// A trunk's URI with the number as its user part.
fn with_user(uri: &str, number: &str) -> Option<String> {
    let parsed = SipUri::parse(uri).ok()?;
    let scheme = if parsed.secure { "sips" } else { "sip" };
    Some(format!("{scheme}:{number}@{}{}", parsed.host, parsed.params.0))
}
