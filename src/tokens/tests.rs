use std::collections::HashMap;

use dialtone_sip::dialog::{Dialog, DialogId};
use dialtone_sip::flow::{Flow, Transport};
use dialtone_sip::msg::Message;
use jsonwebtoken::{EncodingKey, Header};
use serde_json::{Value, json};

use super::reconnect::Kept;
use super::*;
use crate::account::{ApiKey, Client, KeySecret, Limits, SecretHash};
use crate::ids::{AccountSid, CallSid};
use crate::secret::Secret;

const NOW: u64 = 1_800_000_000;
const ACCOUNT: AccountSid = AccountSid::new(1);
/// As long as those that the API makes: the secret itself is not kept.
const SECRET: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const STREAM: &str = "/2010-04-01/Events";

fn account(sid: u128, status: AccountStatus) -> Account {
    Account {
        sid: AccountSid::new(sid),
        auth_token: Secret::new(format!("token-{sid}")),
        name: String::new(),
        status,
        limits: Limits::default(),
        budget: None,
        owner: None,
        dated: None,
        is_stopped: false,
    }
}

fn directory() -> Directory {
    let mut directory = Directory::default();
    directory.add_account(account(1, AccountStatus::Active)).unwrap();
    directory.add_account(account(2, AccountStatus::Suspended)).unwrap();
    directory.add_key("SK1".into(), ApiKey { account: ACCOUNT, secret: KeySecret::Hashed(SecretHash::of(SECRET)) });
    directory
}

fn signed(claims: &Value, secret: &str) -> String {
    jsonwebtoken::encode(&Header::default(), claims, &EncodingKey::from_secret(secret.as_bytes())).unwrap()
}

fn capability(scope: &str) -> Value {
    json!({ "iss": ACCOUNT, "exp": NOW + 3600, "nbf": NOW, "scope": scope })
}

fn with(mut claims: Value, name: &str, value: Value) -> Value {
    claims[name] = value;
    claims
}

#[test]
fn ev_01_both_spellings_of_a_stream_scope_are_read() {
    for scope in [
        "scope:stream:subscribe?params=CallSid%3DCA1%26Type%3Dcall&path=%2F2010-04-01%2FEvents",
        "scope:stream:subscribe?path=/2010-04-01/Events&appParams=CallSid%3DCA1%26Type%3Dcall",
        "scope:client:incoming?clientName=jenny scope:stream:subscribe?path=/2010-04-01/Events&appParams=CallSid%3DCA1%26Type%3Dcall",
    ] {
        let read = capability::read(&signed(&capability(scope), "token-1"), &directory(), NOW).unwrap();
        let filters: HashMap<String, String> = read.stream(STREAM).unwrap().into_iter().collect();
        assert_eq!(
            filters,
            HashMap::from([("CallSid".into(), "CA1".into()), ("Type".into(), "call".into())]),
            "{scope}"
        );
        assert_eq!((read.account.sid, read.expires_s), (ACCOUNT, NOW + 3600));
    }
}

#[test]
fn ev_02_what_a_token_does_not_prove_is_refused() {
    let scope = "scope:stream:subscribe?path=%2F2010-04-01%2FEvents";
    let good = capability(scope);
    let read = |token: &str| capability::read(token, &directory(), NOW).map(|it| it.expires_s);
    assert_eq!(read(&signed(&good, "token-1")), Ok(NOW + 3600));
    for (name, token, error) in [
        ("another secret", signed(&good, "token-2"), TokenError::Signature),
        (
            "an unknown issuer",
            signed(&with(good.clone(), "iss", json!(AccountSid::new(9))), "token-1"),
            TokenError::Signature,
        ),
        (
            "an issuer that is no account",
            signed(&with(good.clone(), "iss", json!("me")), "token-1"),
            TokenError::Signature,
        ),
        (
            "another account's name",
            signed(&with(good.clone(), "iss", json!(AccountSid::new(2))), "token-1"),
            TokenError::Signature,
        ),
        (
            "a suspended account",
            signed(&with(good.clone(), "iss", json!(AccountSid::new(2))), "token-2"),
            TokenError::Inactive,
        ),
        ("expired now", signed(&with(good.clone(), "exp", json!(NOW)), "token-1"), TokenError::Expired),
        ("valid later", signed(&with(good.clone(), "nbf", json!(NOW + 600)), "token-1"), TokenError::NotYet),
        (
            "valid for a week",
            signed(&with(good.clone(), "exp", json!(NOW + 7 * 86_400)), "token-1"),
            TokenError::TooLong,
        ),
        ("no end", signed(&json!({ "iss": ACCOUNT, "scope": scope }), "token-1"), TokenError::Signature),
        ("no token", "a.b.c".into(), TokenError::Malformed),
        ("nothing", String::new(), TokenError::Malformed),
    ] {
        assert_eq!(read(&token), Err(error), "{name}");
    }
    // A token that says itself that it is not signed, and one of another algorithm.
    let plain = signed(&good, "token-1");
    let parts: Vec<&str> = plain.split('.').collect();
    use base64::Engine;
    let none = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(r#"{"alg":"none","typ":"JWT"}"#);
    for token in [format!("{none}.{}.", parts[1]), format!("{none}.{}.{}", parts[1], parts[2])] {
        assert!(matches!(read(&token), Err(TokenError::Malformed | TokenError::Signature)), "{token}");
    }
    let other = Header::new(Algorithm::HS512);
    let other = jsonwebtoken::encode(&other, &good, &EncodingKey::from_secret(b"token-1")).unwrap();
    assert_eq!(read(&other), Err(TokenError::Signature));
    // Signed well, for something else.
    for scope in [
        "",
        "scope:client:incoming?clientName=jenny",
        "scope:stream:subscribe?path=/2010-04-01/Other",
        "stream:subscribe",
    ] {
        let read = capability::read(&signed(&capability(scope), "token-1"), &directory(), NOW).unwrap();
        assert_eq!(read.stream(STREAM), Err(TokenError::Scope), "{scope}");
    }
}

#[test]
fn pr_01_pr_02_access_tokens_say_who_may_be_called() {
    let claims = json!({ "jti": "SK1-1", "iss": "SK1", "sub": ACCOUNT, "exp": NOW + 60, "grants": {
        "identity": "jenny", "voice": { "incoming": { "allow": true }, "outgoing": { "application_sid": "AP1" } } } });
    let read = |claims: &Value, secret| access::read(&signed(claims, secret), &directory(), NOW);
    let access = read(&claims, SECRET).unwrap();
    assert_eq!(
        (access.identity.as_str(), access.incoming, access.application.as_deref()),
        ("jenny", true, Some("AP1"))
    );
    let with_grants = |grants: Value| with(claims.clone(), "grants", grants);
    assert!(!read(&with_grants(json!({ "identity": "jenny", "voice": {} })), SECRET).unwrap().incoming);
    for (name, claims, secret, error) in [
        ("another secret", claims.clone(), "other", TokenError::Signature),
        ("another account's", with(claims.clone(), "sub", json!(AccountSid::new(2))), SECRET, TokenError::Signature),
        ("an unknown key", with(claims.clone(), "iss", json!("SK9")), SECRET, TokenError::Signature),
        ("the account's token", claims.clone(), "token-1", TokenError::Signature),
        ("expired", with(claims.clone(), "exp", json!(NOW)), SECRET, TokenError::Expired),
        ("no grant for voice", with_grants(json!({ "identity": "jenny" })), SECRET, TokenError::Scope),
        ("nobody", with_grants(json!({ "identity": "", "voice": {} })), SECRET, TokenError::Malformed),
        (
            "too long a name",
            with_grants(json!({ "identity": "j".repeat(122), "voice": {} })),
            SECRET,
            TokenError::Malformed,
        ),
    ] {
        assert_eq!(read(&claims, secret).map(|it| it.identity), Err(error), "{name}");
    }
}

#[test]
fn console_tokens_are_of_one_account_and_one_purpose_and_end_with_the_accounts_own() {
    let (mine, directory) = (account(1, AccountStatus::Active), directory());
    let session = console::session(&mine, NOW);
    assert_eq!(console::session_of(&session, &directory, NOW).unwrap().sid, ACCOUNT);
    let phone = console::phone(&mine, "desk", NOW);
    let access = access::read(&phone, &directory, NOW).unwrap();
    assert_eq!((access.account.sid, access.identity.as_str(), access.incoming), (ACCOUNT, "desk", true));
    assert_eq!(access.application.as_deref(), Some(Client::OF_CONSOLE));
    let refused = |token: &str, now_s| console::session_of(token, &directory, now_s).map(|account| account.sid);
    assert_eq!(refused(&session, NOW + console::SESSION_S), Err(TokenError::Expired));
    assert_eq!(refused(&phone, NOW), Err(TokenError::Signature), "a phone's token opens no console");
    assert!(access::read(&session, &directory, NOW).is_err(), "and a session rings no phone");
    let other = Account { auth_token: Secret::new("another"), ..account(1, AccountStatus::Active) };
    assert_eq!(
        refused(&console::session(&other, NOW), NOW),
        Err(TokenError::Signature),
        "the account has another token"
    );
    let suspended = account(2, AccountStatus::Suspended);
    assert_eq!(refused(&console::session(&suspended, NOW), NOW), Err(TokenError::Inactive));
    // Whoever has a key may not call as the console does, and the account's token itself signs nothing for a phone.
    let claims = |issuer: Value| {
        json!({ "iss": issuer, "sub": ACCOUNT, "exp": NOW + 60, "grants": {
        "identity": "jenny", "voice": { "outgoing": { "application_sid": Client::OF_CONSOLE } } } })
    };
    assert_eq!(
        access::read(&signed(&claims(json!("SK1")), SECRET), &directory, NOW).map(|_| ()),
        Err(TokenError::Malformed)
    );
    let by_token = signed(&claims(json!(ACCOUNT)), "token-1");
    assert_eq!(access::read(&by_token, &directory, NOW).map(|_| ()), Err(TokenError::Signature));
}

#[test]
fn token_of_a_browsers_call_is_opened_where_its_account_is_known_and_as_long_as_that_has_its_token() {
    let directory = directory();
    let mine = directory.account(ACCOUNT).unwrap().clone();
    let invite = "INVITE sip:a@b SIP/2.0\r\nVia: SIP/2.0/WS a.invalid;branch=z9hG4bK1\r\nMax-Forwards: 70\r\nFrom: <sip:c@d>;tag=1\r\n\
                  To: <sip:a@b>\r\nCall-ID: 5\r\nCSeq: 1 INVITE\r\nContact: <sip:c@e.invalid;transport=ws>\r\nContent-Length: 0\r\n\r\n";
    let flow = Flow {
        transport: Transport::Ws,
        local: "192.0.2.1:5060".parse().unwrap(),
        remote: "192.0.2.2:5060".parse().unwrap(),
        connection: None,
    };
    let invite = Message::parse(invite.into()).unwrap();
    let dialog = Dialog::from_invite(&invite, flow, "2".into(), "<sip:us@192.0.2.1>".into());
    let kept = Kept {
        account: ACCOUNT,
        identity: "jenny".into(),
        call: CallSid::new(7),
        number: DialogId(u64::MAX),
        dialog,
        ufrag: "abcd".into(),
    };
    let token = reconnect::seal(&kept, &reconnect::key(&mine), NOW);
    let opened = |token: &str, now_s| reconnect::open(token, &directory, now_s);
    assert_eq!(opened(&token, NOW + 3_600), Ok(kept.clone()));
    assert_eq!(opened(&token, NOW + 24 * 3_600), Err(TokenError::Expired));
    let other = Account { auth_token: Secret::new("another"), ..account(1, AccountStatus::Active) };
    assert_eq!(opened(&reconnect::seal(&kept, &reconnect::key(&other), NOW), NOW), Err(TokenError::Signature));
    let stranger = Kept { account: AccountSid::new(3), ..kept.clone() };
    assert_eq!(opened(&reconnect::seal(&stranger, &reconnect::key(&mine), NOW), NOW), Err(TokenError::Signature));
    let suspended = Kept { account: AccountSid::new(2), ..kept };
    let key = reconnect::key(&account(2, AccountStatus::Suspended));
    assert_eq!(opened(&reconnect::seal(&suspended, &key, NOW), NOW), Err(TokenError::Inactive));
    assert_eq!(opened(&console::session(&mine, NOW), NOW), Err(TokenError::Malformed));
    assert_eq!(opened("v=0", NOW), Err(TokenError::Malformed));
}
