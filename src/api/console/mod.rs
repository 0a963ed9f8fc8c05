//! The console: a page with two browser phones, the calls that are under way, and what the application was asked lately.
//!
//! Its files are part of the program. Who opens it signs in with an account's SID and token and sees that account; `dialtone dev`
//! asks nobody who comes from this machine. What changes something is taken only with a header of its own, which no page of another
//! site can send, and what is read is no other site's to read.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::{ConnectInfo, FromRequestParts, Json, Path, State};
use axum::http::request::Parts;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{RequestPartsExt, Router};
use serde::Deserialize;
use serde_json::json;
use url::Host;

use super::turn::ice_servers;
use super::{View, error, neighbours};
use crate::account::{Account, AccountStatus};
use crate::clock::wall_ms;
use crate::ids::AccountSid;
use crate::telemetry::history::History;
use crate::tokens::console::{self as tokens, PHONE_S, SESSION_S};

/// What the console knows besides. Clones are the same.
#[derive(Clone)]
pub struct Console {
    /// What customers' servers were asked.
    pub history: History,
    /// Whose console it is for whoever comes from this machine, without signing in.
    pub own: Option<AccountSid>,
    tries: Tries,
}

impl Console {
    pub fn new(history: History, own: Option<AccountSid>) -> Console {
        if let Some(own) = own {
            history.keep(own);
        }
        Console { history, own, tries: Tries::default() }
    }
}

pub(super) fn router() -> Router<View> {
    Router::new()
        .route("/", get(async || Redirect::to("/console/")))
        .route("/console", get(async || Redirect::to("/console/")))
        .route("/console/", get(async || file("index.html")))
        .route("/console/{file}", get(async |Path(name): Path<String>| file(&name)))
        .route("/console/session", get(session).post(sign_in).delete(sign_out))
        .route("/console/token", post(token))
        .route("/console/overview", get(overview))
}

const FILES: [(&str, &str, &str); 6] = [
    ("index.html", "text/html; charset=utf-8", include_str!("page/index.html")),
    ("console.css", "text/css; charset=utf-8", include_str!("page/console.css")),
    ("console.js", JAVASCRIPT, include_str!("page/console.js")),
    ("phone.js", JAVASCRIPT, include_str!("page/phone.js")),
    ("signal.js", JAVASCRIPT, include_str!("page/signal.js")),
    ("sound.js", JAVASCRIPT, include_str!("page/sound.js")),
];
const JAVASCRIPT: &str = "text/javascript; charset=utf-8";

/// Nothing of it comes from elsewhere, and no other page shows it. It is asked for anew each time, so that its parts are of one version.
const HEADERS: [(HeaderName, &str); 5] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; media-src 'self' blob:; \
         base-uri 'none'; frame-ancestors 'none'; form-action 'self'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CACHE_CONTROL, "no-store"),
    (HeaderName::from_static("permissions-policy"), "microphone=(self)"),
];

fn file(name: &str) -> Response {
    match FILES.iter().find(|(known, _, _)| *known == name) {
        Some((_, kind, text)) => (HEADERS, [(header::CONTENT_TYPE, *kind)], *text).into_response(),
        None => error(StatusCode::NOT_FOUND, 20_404, &format!("the console has no file {name}")),
    }
}

/// Who is signed in: the first argument of every handler that shows or does something.
struct SignedIn {
    account: Arc<Account>,
    /// Without having signed in.
    is_own: bool,
}

impl FromRequestParts<View> for SignedIn {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, view: &View) -> Result<SignedIn, Response> {
        let remote: ConnectInfo<SocketAddr> = parts.extract().await.map_err(IntoResponse::into_response)?;
        let directory = view.directory.load();
        let by_cookie = cookie(&parts.headers)
            .and_then(|token| tokens::session_of(token, &directory, wall_ms() / 1000).ok())
            .map(|account| SignedIn { account, is_own: false });
        let own = || {
            let own = view.console.own.filter(|_| is_of_this_machine(remote.ip(), &parts.headers))?;
            Some(SignedIn { account: directory.account(own)?.clone(), is_own: true })
        };
        by_cookie.or_else(own).ok_or_else(|| denied("sign in with the SID and the auth token of an account"))
    }
}

/// From this machine, and by a name that only this machine can have given it: a name of somebody's that leads here too is another
/// site's page.
fn is_of_this_machine(remote: IpAddr, headers: &HeaderMap) -> bool {
    let host =
        headers.get(header::HOST).and_then(|host| host.to_str().ok()).and_then(|host| host.parse::<Authority>().ok());
    let is_own_name = host.and_then(|host| Host::parse(host.host()).ok()).is_some_and(|host| match host {
        Host::Domain(name) => name == "localhost",
        Host::Ipv4(ip) => ip.is_loopback(),
        Host::Ipv6(ip) => ip.is_loopback(),
    });
    remote.to_canonical().is_loopback() && is_own_name
}

/// Something is to be changed by the console's own page.
struct ByPage;

impl<S: Send + Sync> FromRequestParts<S> for ByPage {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<ByPage, Response> {
        let is_said = parts.headers.get(BY_PAGE).is_some_and(|value| value == "1");
        is_said.then_some(ByPage).ok_or_else(|| {
            error(
                StatusCode::FORBIDDEN,
                20_006,
                "this is for the console's own page, which sends X-Dialtone-Console: 1",
            )
        })
    }
}

async fn session(SignedIn { account, is_own }: SignedIn, State(view): State<View>) -> Response {
    let directory = view.directory.load();
    let mut identities: Vec<&str> = directory.users_of(account.sid).map(|user| user.username.as_str()).collect();
    identities.sort_unstable();
    identities.truncate(IDENTITIES);
    let name = if account.name.is_empty() { "Account" } else { &account.name };
    Json(json!({ "account": account.sid, "name": name, "identities": identities, "dev": is_own })).into_response()
}

#[derive(Deserialize)]
struct Credentials {
    account: String,
    token: String,
}

async fn sign_in(
    _: ByPage,
    State(view): State<View>,
    ConnectInfo(remote): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    Json(given): Json<Credentials>,
) -> Response {
    let now = Instant::now();
    if view.console.tries.are_spent(remote.ip(), now) {
        let text = "wrong too often: try again in a minute";
        return error(StatusCode::TOO_MANY_REQUESTS, 20_429, text);
    }
    let directory = view.directory.load();
    let account = given.account.trim().parse().ok().and_then(|sid| directory.account(sid));
    let account = account.filter(|account| account.auth_token.matches(given.token.trim()));
    match account {
        Some(account) if account.standing() != AccountStatus::Active => {
            error(StatusCode::FORBIDDEN, 20_005, "the account is not active")
        }
        Some(account) => {
            let token = tokens::session(account, wall_ms() / 1000);
            (
                StatusCode::NO_CONTENT,
                [(header::SET_COOKIE, set_cookie(&token, SESSION_S, is_by_https(&view, &headers)))],
            )
                .into_response()
        }
        None => {
            view.console.tries.note(remote.ip(), now);
            denied("no account has this SID and this auth token")
        }
    }
}

async fn sign_out(_: ByPage, State(view): State<View>, headers: HeaderMap) -> Response {
    (StatusCode::NO_CONTENT, [(header::SET_COOKIE, set_cookie("", 0, is_by_https(&view, &headers)))]).into_response()
}

#[derive(Deserialize)]
struct Wanted {
    identity: String,
}

/// A token for a phone on the page.
async fn token(
    _: ByPage,
    SignedIn { account, .. }: SignedIn,
    State(view): State<View>,
    Json(Wanted { identity }): Json<Wanted>,
) -> Response {
    let is_name = !identity.is_empty() && identity.len() <= LONGEST_IDENTITY && !identity.chars().any(char::is_control);
    if !is_name {
        let text = "a phone's name has 1 to 121 characters, and none that cannot be seen";
        return error(StatusCode::BAD_REQUEST, 20_001, text);
    }
    let token = tokens::phone(&account, &identity, wall_ms() / 1000);
    let ice = ice_servers(view.turn.as_deref(), account.sid, PHONE_S);
    Json(json!({ "token": token, "ttl": PHONE_S, "ice_servers": ice.servers })).into_response()
}

/// The calls that are under way, wherever, and what the account's servers were asked lately at this edge.
async fn overview(SignedIn { account, .. }: SignedIn, State(view): State<View>) -> Response {
    let mut calls = view.live.find(|record| record.account == account.sid && !record.status.is_final());
    calls.extend(neighbours::calls_elsewhere(&view, Some(account.sid)).await);
    calls.retain(|record| !record.status.is_final());
    calls.sort_by_key(|record| std::cmp::Reverse((record.started_ms, record.sid)));
    calls.truncate(CALLS);
    let calls = calls.iter().map(|record| {
        json!({
            "sid": record.sid,
            "direction": record.direction.as_str(),
            "from": record.from,
            "to": record.to,
            "status": record.status.as_str(),
            "started_ms": record.started_ms,
            "answered_ms": record.answered_ms,
            "parent": record.parent,
        })
    });
    let calls: Vec<_> = calls.collect();
    let webhooks = view.console.history.look(account.sid, Instant::now());
    Json(json!({ "calls": calls, "webhooks": webhooks })).into_response()
}

fn denied(why: &str) -> Response {
    error(StatusCode::UNAUTHORIZED, 20_003, why)
}

fn cookie(headers: &HeaderMap) -> Option<&str> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    cookies.flat_map(|line| line.split(';')).find_map(|pair| pair.trim().strip_prefix(COOKIE)?.strip_prefix('='))
}

/// Out of reach of scripts and of other sites' pages.
fn set_cookie(token: &str, age_s: u64, is_https: bool) -> HeaderValue {
    let secure = if is_https { "; Secure" } else { "" };
    HeaderValue::try_from(format!(
        "{COOKIE}={token}; Path=/console; Max-Age={age_s}; HttpOnly; SameSite=Strict{secure}"
    ))
    .expect("a token and numbers")
}

/// Whether the page came by HTTPS, from here or from what stands before us.
fn is_by_https(view: &View, headers: &HeaderMap) -> bool {
    let origin = headers.get(header::ORIGIN).and_then(|origin| origin.to_str().ok());
    origin.unwrap_or(&view.public_url).starts_with("https://")
}

/// Wrong tokens by address: after [`MOST_TRIES`] in a minute nothing more of it is looked at in that minute.
#[derive(Clone, Default)]
struct Tries(Arc<Mutex<HashMap<IpAddr, (u32, Instant)>>>);

impl Tries {
    fn are_spent(&self, ip: IpAddr, now: Instant) -> bool {
        let mut tries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if tries.len() >= ADDRESSES {
            tries.retain(|_, (_, began)| now.duration_since(*began) < MINUTE);
        }
        match tries.get(&ip) {
            Some((count, began)) => *count >= MOST_TRIES && now.duration_since(*began) < MINUTE,
            // Whose tries could not be counted has none.
            None => tries.len() >= ADDRESSES,
        }
    }

    fn note(&self, ip: IpAddr, now: Instant) {
        let mut tries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (count, began) = tries.entry(ip).or_insert((0, now));
        if now.duration_since(*began) >= MINUTE {
            (*count, *began) = (0, now);
        }
        *count += 1;
    }
}

const COOKIE: &str = "dialtone_console";
const BY_PAGE: &str = "x-dialtone-console";
const IDENTITIES: usize = 50;
const CALLS: usize = 200;
/// As access tokens have it.
const LONGEST_IDENTITY: usize = 121;
const MOST_TRIES: u32 = 10;
const MINUTE: Duration = Duration::from_secs(60);
const ADDRESSES: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_tokens_are_counted_by_address_and_minute() {
        let (tries, began) = (Tries::default(), Instant::now());
        let (one, other) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        for _ in 0..MOST_TRIES {
            assert!(!tries.are_spent(one, began));
            tries.note(one, began);
        }
        assert!(tries.are_spent(one, began) && !tries.are_spent(other, began));
        assert!(!tries.are_spent(one, began + MINUTE));
        tries.note(one, began + MINUTE);
        assert!(!tries.are_spent(one, began + MINUTE));
        for number in 0..ADDRESSES as u128 {
            tries.note(IpAddr::from(number.to_be_bytes()), began + MINUTE);
        }
        assert!(tries.are_spent(other, began + MINUTE), "a crowd makes no room for guessing");
        assert!(!tries.are_spent(other, began + MINUTE * 2));
    }

    #[test]
    fn only_this_machine_by_its_own_name_is_let_in_unasked() {
        let here = IpAddr::from([127, 0, 0, 1]);
        for (remote, host, is_own) in [
            (here, Some("localhost:4040"), true),
            (here, Some("127.0.0.1:4040"), true),
            (here, Some("[::1]:4040"), true),
            (here, Some("rebound.example:4040"), false),
            (here, Some("localhost.example"), false),
            (here, Some("192.168.1.2:4040"), false),
            (here, None, false),
            (IpAddr::from([192, 168, 1, 7]), Some("localhost:4040"), false),
        ] {
            let headers = host.map(|host| (header::HOST, HeaderValue::from_static(host)));
            assert_eq!(is_of_this_machine(remote, &headers.into_iter().collect()), is_own, "{remote} {host:?}");
        }
    }

    #[test]
    fn cookie_is_found_among_others_and_kept_from_scripts() {
        let headers =
            |line: &'static str| [(header::COOKIE, HeaderValue::from_static(line))].into_iter().collect::<HeaderMap>();
        assert_eq!(cookie(&headers("a=b; dialtone_console=x.y.z; c=d")), Some("x.y.z"));
        assert_eq!(cookie(&headers("dialtone_console2=x")), None);
        let text = set_cookie("t", 60, true);
        assert_eq!(text, "dialtone_console=t; Path=/console; Max-Age=60; HttpOnly; SameSite=Strict; Secure");
    }
}
