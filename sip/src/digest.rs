//! Digest authentication (RFC 3261 s22, RFC 8760): both sides.
//!
//! A [`Guard`] challenges and checks. Its nonces are an HMAC over the time, so a stranger costs no memory; only after
//! the first success is a nonce remembered, with the window of nonce counts seen, until it expires. An unknown user and
//! a wrong password take the same path.

use std::collections::HashMap;
use std::fmt::Write as _;

use hmac::{Hmac, Mac};
use md5::Md5;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq;

use crate::msg::{AuthParams, HeaderName, Message};

/// A hash that digest authentication may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Algorithm {
    Sha256,
    Md5,
}

impl Algorithm {
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::Sha256 => "SHA-256",
            Algorithm::Md5 => "MD5",
        }
    }

    /// By name, in any case; a missing parameter means MD5 (RFC 8760 s2.1).
    pub fn from_name(name: Option<&str>) -> Option<Algorithm> {
        let name = name.unwrap_or("MD5");
        [Algorithm::Sha256, Algorithm::Md5].into_iter().find(|algorithm| algorithm.name().eq_ignore_ascii_case(name))
    }

    /// H(A1) of RFC 2617 s3.2.2.2, in hexadecimal digits.
    fn hash_of_password(self, user: &str, realm: &str, password: &str) -> String {
        self.hex_hash(&format!("{user}:{realm}:{password}"))
    }

    fn hex_hash(self, text: &str) -> String {
        match self {
            Algorithm::Sha256 => hex(&Sha256::digest(text)),
            Algorithm::Md5 => hex(&Md5::digest(text)),
        }
    }
}

/// What stands for a password where it is not kept: good for one user in one realm.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hashes {
    sha256: String,
    md5: String,
}

impl Hashes {
    pub fn new(user: &str, realm: &str, password: &str) -> Hashes {
        let hash = |algorithm: Algorithm| algorithm.hash_of_password(user, realm, password);
        Hashes { sha256: hash(Algorithm::Sha256), md5: hash(Algorithm::Md5) }
    }

    fn of(&self, algorithm: Algorithm) -> &str {
        match algorithm {
            Algorithm::Sha256 => &self.sha256,
            Algorithm::Md5 => &self.md5,
        }
    }
}

impl std::fmt::Debug for Hashes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hashes(***)")
    }
}

/// What credentials are checked against.
#[derive(Clone, Copy)]
pub enum Proof<'a> {
    Password(&'a str),
    Hashes(&'a Hashes),
}

/// How long a nonce is good for.
const NONCE_SECONDS: u64 = 300;
/// Nonces with a success behind them; when full, all are forgotten, and their users are told `stale` once.
const REMEMBERED_NONCES: usize = 65_536;

/// Why credentials are not good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// No credentials for this realm, or ones that do not fit: challenge.
    Missing,
    /// The nonce is ours but has ended, or its count was seen: challenge with `stale=true`.
    Stale,
    /// A wrong response: challenge again, and count a failure.
    Wrong,
    /// The `uri` is not the Request-URI, or a field is malformed: 400.
    Malformed,
}

/// Challenges and checks for one realm.
pub struct Guard {
    realm: String,
    secret: [u8; 32],
    algorithms: Vec<Algorithm>,
    used: HashMap<Nonce, Window>,
    /// How many of these at once.
    remembers: usize,
}

/// What a nonce of ours says under its seal.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Nonce {
    /// Wall clock, seconds.
    issued: u64,
    salt: u64,
}

/// The nonce counts seen: the highest, and a bit for each of the 64 below it.
struct Window {
    highest: u32,
    seen: u64,
}

impl Guard {
    pub fn new(realm: String, secret: [u8; 32], algorithms: Vec<Algorithm>) -> Guard {
        Guard { realm, secret, algorithms, used: HashMap::new(), remembers: REMEMBERED_NONCES }
    }

    pub fn realm(&self) -> &str {
        &self.realm
    }

    /// The values of WWW-Authenticate to send, the preferred one first (RFC 8760 s2.2).
    ///
    /// `salt` is drawn anew for each request: two clients with one nonce would use up each other's counts.
    pub fn challenges(&self, wall_s: u64, salt: u64, stale: bool) -> Vec<String> {
        let nonce = self.nonce(wall_s, salt);
        let stale = if stale { ", stale=true" } else { "" };
        let challenge = |algorithm: &Algorithm| {
            format!(
                "Digest realm=\"{}\", nonce=\"{nonce}\", algorithm={}, qop=\"auth\"{stale}",
                self.realm,
                algorithm.name()
            )
        };
        self.algorithms.iter().map(challenge).collect()
    }

    /// Checks the credentials of a request.
    ///
    /// `password` is the user's, `None` if there is no such user; the caller looks it up by [`username`]. The time is
    /// wall-clock seconds, to be the same on every edge.
    pub fn check(
        &mut self,
        auth: &AuthParams<'_>,
        method: &str,
        request_uri: &str,
        password: Option<&str>,
        wall_s: u64,
    ) -> Result<(), Denied> {
        self.check_proof(auth, method, request_uri, password.map(Proof::Password), wall_s)
    }

    /// As [`Guard::check`], where the password itself may not be known.
    pub fn check_proof(
        &mut self,
        auth: &AuthParams<'_>,
        method: &str,
        request_uri: &str,
        proof: Option<Proof<'_>>,
        wall_s: u64,
    ) -> Result<(), Denied> {
        let algorithm = Algorithm::from_name(auth.get("algorithm"))
            .filter(|algorithm| self.algorithms.contains(algorithm))
            .ok_or(Denied::Missing)?;
        if auth.get("realm") != Some(self.realm.as_str()) {
            return Err(Denied::Missing);
        }
        let (Some(nonce), Some(uri), Some(response), Some(user)) =
            (auth.get("nonce"), auth.get("uri"), auth.get("response"), auth.get("username"))
        else {
            return Err(Denied::Malformed);
        };
        if !same_uri(uri, request_uri) {
            return Err(Denied::Malformed);
        }
        let own = self.open(nonce).ok_or(Denied::Stale)?;
        if own.is_over(wall_s) || own.issued > wall_s + 60 {
            return Err(Denied::Stale);
        }
        let (cnonce, count) = match (auth.get("qop"), auth.get("cnonce"), auth.get("nc")) {
            (Some(qop), Some(cnonce), Some(nc)) if qop.eq_ignore_ascii_case("auth") => (cnonce, nc),
            _ => return Err(Denied::Malformed),
        };
        let number = u32::from_str_radix(count, 16).ok().filter(|_| count.len() == 8).ok_or(Denied::Malformed)?;
        // A user that does not exist is checked against a password that nobody can know: the same work either way.
        let unknown = hex(&self.secret);
        let a1 = match proof.unwrap_or(Proof::Password(&unknown)) {
            Proof::Password(password) => algorithm.hash_of_password(user, &self.realm, password),
            Proof::Hashes(hashes) => hashes.of(algorithm).to_owned(),
        };
        let expected = response_value(algorithm, &a1, method, uri, nonce, count, cnonce);
        let equal = bool::from(expected.as_bytes().ct_eq(response.to_ascii_lowercase().as_bytes()));
        if !equal || proof.is_none() {
            return Err(Denied::Wrong);
        }
        self.take_count(own, number, wall_s)
    }

    /// Takes a nonce count once: a repeated one is a replay.
    fn take_count(&mut self, nonce: Nonce, count: u32, wall_s: u64) -> Result<(), Denied> {
        if let Some(window) = self.used.get_mut(&nonce) {
            return if window.take(count) { Ok(()) } else { Err(Denied::Stale) };
        }
        if self.used.len() >= self.remembers {
            self.used.retain(|nonce, _| !nonce.is_over(wall_s));
            if self.used.len() >= self.remembers {
                // What is forgotten must not be accepted afresh: a new secret makes every old nonce stale, so none need be remembered.
                self.used.clear();
                self.secret = Sha256::digest(self.secret).into();
            }
        }
        self.used.insert(nonce, Window { highest: count, seen: 0 });
        Ok(())
    }

    /// Time and salt in the open, sealed by an HMAC.
    fn nonce(&self, wall_s: u64, salt: u64) -> String {
        let (time, salt) = (hex(&wall_s.to_be_bytes()[3..]), hex(&salt.to_be_bytes()));
        let seal = self.seal(&time, &salt);
        format!("{time}{salt}{seal}")
    }

    /// `None`: it is none of ours.
    fn open(&self, nonce: &str) -> Option<Nonce> {
        let (time, rest) = nonce.split_at_checked(10)?;
        let (salt, seal) = rest.split_at_checked(16)?;
        let own = Nonce { issued: u64::from_str_radix(time, 16).ok()?, salt: u64::from_str_radix(salt, 16).ok()? };
        bool::from(self.seal(time, salt).as_bytes().ct_eq(seal.as_bytes())).then_some(own)
    }

    fn seal(&self, time: &str, salt: &str) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.secret).expect("hmac takes a key of any length");
        mac.update(self.realm.as_bytes());
        mac.update(time.as_bytes());
        mac.update(salt.as_bytes());
        hex(&mac.finalize().into_bytes()[..16])
    }
}

impl Nonce {
    fn is_over(self, wall_s: u64) -> bool {
        wall_s.saturating_sub(self.issued) > NONCE_SECONDS
    }
}

impl Window {
    fn take(&mut self, count: u32) -> bool {
        if count > self.highest {
            let shift = count - self.highest;
            self.seen = if shift > 64 { 0 } else { self.seen.checked_shl(shift).unwrap_or(0) | 1 << (shift - 1) };
            self.highest = count;
            return true;
        }
        let below = self.highest - count;
        if below == 0 || below > 64 || self.seen & (1 << (below - 1)) != 0 {
            return false;
        }
        self.seen |= 1 << (below - 1);
        true
    }
}

/// Whose credentials these are.
pub fn username<'a>(auth: &AuthParams<'a>) -> Option<&'a str> {
    auth.get("username")
}

/// A client's secret, and the realm that may ask for it.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    pub username: String,
    pub password: String,
    /// `None`: whichever realm asks. For credentials that were given together with the one URI that they are for.
    pub realm: Option<String>,
}

impl Credentials {
    /// Whether a challenge of this realm is answered with them.
    ///
    /// Any case will do: a realm is a host name as a rule, and two that differ in case alone are nobody's.
    pub fn are_for(&self, realm: &str) -> bool {
        self.realm.as_ref().is_none_or(|own| own.eq_ignore_ascii_case(realm))
    }
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("username", &self.username).finish_non_exhaustive()
    }
}

/// The digest challenges that the credentials are for.
pub fn own_challenges<'a>(
    challenges: impl Iterator<Item = &'a str>,
    credentials: &Credentials,
) -> impl Iterator<Item = AuthParams<'a>> {
    let own = |challenge: &AuthParams<'_>| challenge.get("realm").is_some_and(|realm| credentials.are_for(realm));
    challenges.filter_map(AuthParams::parse).filter(AuthParams::is_digest).filter(own)
}

/// The realm that a 401 or 407 asks for, where it asks for none that the credentials are for.
///
/// Whoever set the credentials is to be told of it: the request fails as with a wrong password.
pub fn foreign_realm<'a>(response: &'a Message, credentials: &Credentials) -> Option<&'a str> {
    let (challenge, _) = challenge_headers(response.status())?;
    if own_challenges(response.headers(challenge), credentials).next().is_some() {
        return None;
    }
    let mut digests = response.headers(challenge).filter_map(AuthParams::parse).filter(AuthParams::is_digest);
    digests.find_map(|challenge| challenge.get("realm"))
}

/// The header of a challenge and the one that answers it; `None` of a response that asks for nothing.
pub fn challenge_headers(status: u16) -> Option<(HeaderName, HeaderName)> {
    match status {
        401 => Some((HeaderName::WwwAuthenticate, HeaderName::Authorization)),
        407 => Some((HeaderName::ProxyAuthenticate, HeaderName::ProxyAuthorization)),
        _ => None,
    }
}

/// Answers one of the challenges: of those that the credentials are for the strongest that we know; `None` where there
/// is none.
pub fn answer<'a>(
    challenges: impl Iterator<Item = &'a str>,
    credentials: &Credentials,
    method: &str,
    uri: &str,
    cnonce: &str,
    count: u32,
) -> Option<String> {
    let (algorithm, challenge) = own_challenges(challenges, credentials)
        .filter_map(|challenge| Some((Algorithm::from_name(challenge.get("algorithm"))?, challenge)))
        .min_by_key(|(algorithm, _)| *algorithm != Algorithm::Sha256)?;
    let (realm, nonce) = (challenge.get("realm")?, challenge.get("nonce")?);
    let user = &credentials.username;
    let opaque = challenge.get("opaque");
    if ![realm, nonce, user, opaque.unwrap_or("")].into_iter().all(fits_quotes) {
        return None;
    }
    let mut value = format!(
        "Digest username=\"{user}\", realm=\"{realm}\", nonce=\"{nonce}\", uri=\"{uri}\", algorithm={}",
        algorithm.name()
    );
    let nc = format!("{count:08x}");
    let wants_qop = challenge.get("qop").is_some_and(|qop| qop.split(',').any(|one| one.trim() == "auth"));
    let response = if wants_qop {
        let _ = write!(value, ", qop=auth, nc={nc}, cnonce=\"{cnonce}\"");
        let a1 = algorithm.hash_of_password(user, realm, &credentials.password);
        response_value(algorithm, &a1, method, uri, nonce, &nc, cnonce)
    } else {
        let (a1, a2) = (format!("{user}:{realm}:{}", credentials.password), format!("{method}:{uri}"));
        algorithm.hex_hash(&format!("{}:{nonce}:{}", algorithm.hex_hash(&a1), algorithm.hex_hash(&a2)))
    };
    let _ = write!(value, ", response=\"{response}\"");
    if let Some(opaque) = opaque {
        let _ = write!(value, ", opaque=\"{opaque}\"");
    }
    Some(value)
}

fn response_value(
    algorithm: Algorithm,
    a1: &str,
    method: &str,
    uri: &str,
    nonce: &str,
    nc: &str,
    cnonce: &str,
) -> String {
    let a2 = algorithm.hex_hash(&format!("{method}:{uri}"));
    algorithm.hex_hash(&format!("{a1}:{nonce}:{nc}:{cnonce}:auth:{a2}"))
}

/// The digest's `uri` names the Request-URI; phones differ in whether they repeat its parameters.
fn same_uri(uri: &str, request_uri: &str) -> bool {
    let bare = |uri: &str| uri.split(';').next().unwrap_or("").to_ascii_lowercase();
    bare(uri) == bare(request_uri)
}

/// Whether a text, its escapes as they are, can stand in quotes.
fn fits_quotes(text: &str) -> bool {
    let mut escaped = false;
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return false,
            _ => {}
        }
    }
    !escaped
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const URI: &str = "sip:dialtone";

    fn guard() -> Guard {
        Guard::new("dialtone".into(), [3; 32], vec![Algorithm::Sha256, Algorithm::Md5])
    }

    fn credentials(password: &str) -> Credentials {
        Credentials { username: "desk".into(), password: password.into(), realm: None }
    }

    fn try_once(guard: &mut Guard, challenge: &str, password: &str, count: u32, wall_s: u64) -> Result<(), Denied> {
        let value = answer([challenge].into_iter(), &credentials(password), "REGISTER", URI, "c0ffee", count).unwrap();
        guard.check(&AuthParams::parse(&value).unwrap(), "REGISTER", URI, Some("secret"), wall_s)
    }

    #[test]
    fn right_password_passes_by_either_algorithm() {
        let mut guard = guard();
        for challenge in guard.challenges(1000, 7, false) {
            assert_eq!(
                try_once(&mut guard, &challenge, "secret", if challenge.contains("MD5") { 2 } else { 1 }, 1010),
                Ok(()),
                "{challenge}"
            );
        }
    }

    #[test]
    fn more_phones_than_nonces_that_are_remembered_register_in_one_moment() {
        let mut guard = Guard { remembers: 100, ..guard() };
        let registers = |guard: &mut Guard, salt: u64| {
            let challenge = guard.challenges(1000, salt, false).remove(1);
            (try_once(guard, &challenge, "secret", 1, 1000), challenge)
        };
        let before = registers(&mut guard, 0).1;
        for salt in 1..100 {
            assert_eq!(registers(&mut guard, salt).0, Ok(()));
        }
        // The next finds no room: it is let in, and those of before are told to ask again.
        let salt = 100;
        assert_eq!(registers(&mut guard, salt).0, Ok(()));
        assert_eq!(try_once(&mut guard, &before, "secret", 2, 1000), Err(Denied::Stale));
        // They do, all at once, and are not told so again.
        let challenges: Vec<String> =
            (0..90).map(|more| guard.challenges(1000, salt + 1 + more, true).remove(1)).collect();
        assert!(challenges.iter().all(|challenge| try_once(&mut guard, challenge, "secret", 1, 1000) == Ok(())));
    }

    #[test]
    fn threat_37_replayed_invented_and_old_nonces_are_stale() {
        let mut guard = guard();
        let challenge = guard.challenges(1000, 7, false).remove(0);
        assert_eq!(try_once(&mut guard, &challenge, "secret", 3, 1001), Ok(()));
        assert_eq!(try_once(&mut guard, &challenge, "secret", 3, 1001), Err(Denied::Stale), "replay");
        assert_eq!(try_once(&mut guard, &challenge, "secret", 2, 1001), Ok(()), "reordered, not seen before");
        assert_eq!(try_once(&mut guard, &challenge, "secret", 2, 1001), Err(Denied::Stale));
        assert_eq!(try_once(&mut guard, &challenge, "secret", 4, 1301), Err(Denied::Stale), "expired");
        let invented = "Digest realm=\"dialtone\", nonce=\"00000003e80123456789abcdef0123456789abcdef\", algorithm=MD5, qop=\"auth\"";
        assert_eq!(try_once(&mut guard, invented, "secret", 1, 1001), Err(Denied::Stale));
    }

    #[test]
    fn two_clients_of_one_second_do_not_use_up_each_others_counts() {
        let mut guard = guard();
        let (one, other) = (guard.challenges(1000, 1, false).remove(0), guard.challenges(1000, 2, false).remove(0));
        assert_eq!(try_once(&mut guard, &one, "secret", 1, 1000), Ok(()));
        assert_eq!(try_once(&mut guard, &other, "secret", 1, 1000), Ok(()));
    }

    #[test]
    fn threat_37_wrong_password_uri_realm_and_user_are_told_apart_from_nothing() {
        let mut guard = guard();
        let challenge = guard.challenges(1000, 7, false).remove(0);
        assert_eq!(try_once(&mut guard, &challenge, "guess", 1, 1001), Err(Denied::Wrong));
        let value =
            answer([challenge.as_str()].into_iter(), &credentials("secret"), "REGISTER", "sip:elsewhere", "c", 1)
                .unwrap();
        assert_eq!(
            guard.check(&AuthParams::parse(&value).unwrap(), "REGISTER", URI, Some("secret"), 1001),
            Err(Denied::Malformed)
        );
        let value = answer([challenge.as_str()].into_iter(), &credentials("secret"), "REGISTER", URI, "c", 1).unwrap();
        assert_eq!(
            guard.check(&AuthParams::parse(&value).unwrap(), "REGISTER", URI, None, 1001),
            Err(Denied::Wrong),
            "no such user"
        );
        let other = value.replace("realm=\"dialtone\"", "realm=\"other\"");
        assert_eq!(
            guard.check(&AuthParams::parse(&other).unwrap(), "REGISTER", URI, Some("secret"), 1001),
            Err(Denied::Missing)
        );
    }

    #[test]
    fn threat_37_an_algorithm_that_is_not_offered_is_not_accepted() {
        let mut strict = Guard::new("dialtone".into(), [3; 32], vec![Algorithm::Sha256]);
        let md5 = guard().challenges(1000, 7, false).remove(1);
        assert!(md5.contains("MD5"));
        assert_eq!(try_once(&mut strict, &md5, "secret", 1, 1001), Err(Denied::Missing));
    }

    #[test]
    fn challenge_whose_quotes_do_not_end_is_not_answered() {
        for challenge in
            ["Digest realm=\"r, nonce=\"n\"", "Digest realm=\"r\", nonce=\"n", "Digest realm=r, nonce=\"n\\\""]
        {
            assert_eq!(answer([challenge].into_iter(), &credentials("p"), "INVITE", URI, "c", 1), None, "{challenge}");
        }
    }

    #[test]
    fn threat_43_only_the_own_realm_is_answered_and_another_is_named() {
        let challenge =
            |realm: &str, algorithm: &str| format!("Digest realm=\"{realm}\", nonce=\"n\", algorithm={algorithm}");
        let (own_md5, own_sha, other) =
            (challenge("Carrier", "MD5"), challenge("Carrier", "SHA-256"), challenge("other", "SHA-256"));
        let basic = "Basic realm=\"third\"".to_owned();
        let carrier = Credentials { realm: Some("carrier".into()), ..credentials("p") };
        let whoever = credentials("p");
        for (credentials, challenges, answered, foreign) in [
            (&carrier, vec![&own_md5], Some(("Carrier", "MD5")), None),
            (&carrier, vec![&other, &own_md5], Some(("Carrier", "MD5")), None),
            (&carrier, vec![&own_md5, &other, &own_sha], Some(("Carrier", "SHA-256")), None),
            (&carrier, vec![&other], None, Some("other")),
            (&carrier, vec![&basic, &other], None, Some("other")),
            (&carrier, vec![&basic], None, None),
            (&carrier, vec![], None, None),
            (&whoever, vec![&other], Some(("other", "SHA-256")), None),
        ] {
            let values = challenges.iter().map(|value| value.as_str());
            let value = answer(values, credentials, "INVITE", URI, "c", 1);
            let auth = value.as_deref().and_then(AuthParams::parse);
            let found = auth.and_then(|auth| auth.get("realm").zip(auth.get("algorithm")));
            assert_eq!(found, answered, "{challenges:?}");
            for (status, name) in [(401, "WWW-Authenticate"), (407, "Proxy-Authenticate")] {
                let lines: String = challenges.iter().map(|value| format!("{name}: {value}\r\n")).collect();
                let response = Message::parse(format!("SIP/2.0 {status} No\r\n{lines}\r\n").into()).unwrap();
                assert_eq!(foreign_realm(&response, credentials), foreign, "{status} {challenges:?}");
            }
        }
    }

    #[test]
    fn rfc_8760_style_answer_matches_rfc_7616_example() {
        // RFC 7616 s3.9.1: user Mufasa, password "Circle of Life".
        let response = response_value(
            Algorithm::Sha256,
            &Algorithm::Sha256.hash_of_password("Mufasa", "http-auth@example.org", "Circle of Life"),
            "GET",
            "/dir/index.html",
            "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v",
            "00000001",
            "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ",
        );
        assert_eq!(response, "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1");
    }
}
