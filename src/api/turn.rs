//! Servers that help browsers to reach us (RFC 8656), and credentials for them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, Mac};
use serde_json::{Value, json};
use sha1::Sha1;

use crate::clock::wall_ms;
use crate::ids::AccountSid;
use crate::secret::Secret;

/// The servers of `[media] turn`.
pub struct Turn {
    pub urls: Vec<String>,
    /// What credentials for them are made of; `None` where they want none.
    pub secret: Option<Secret>,
}

/// What a browser is given of them.
pub(super) struct IceServers {
    pub servers: Vec<Value>,
    pub username: String,
    pub password: String,
}

/// The servers with credentials that hold so long. Without any there are no servers, and the credentials open nothing.
pub(super) fn ice_servers(turn: Option<&Turn>, account: AccountSid, ttl_s: u64) -> IceServers {
    let (urls, secret) = turn.map_or((&[][..], None), |turn| (&turn.urls[..], turn.secret.as_ref()));
    let (username, password) = match secret {
        Some(secret) => credentials(secret, wall_ms() / 1000 + ttl_s, account),
        None => (format!("{:032x}", super::random()), format!("{:032x}", super::random())),
    };
    let servers = urls.iter().map(|url| match url.starts_with("stun:") {
        true => json!({ "url": url, "urls": url }),
        false => json!({ "url": url, "urls": url, "username": username, "credential": password }),
    });
    IceServers { servers: servers.collect(), username, password }
}

/// What a TURN server takes that shares a secret with us: a name that says until when, and what only who has the secret can make of it
/// (draft-uberti-behave-turn-rest, as coturn has it).
fn credentials(secret: &Secret, until_s: u64, account: AccountSid) -> (String, String) {
    let username = format!("{until_s}:{account}");
    let mut hmac =
        <Hmac<Sha1> as Mac>::new_from_slice(secret.expose().as_bytes()).expect("HMAC takes a key of any length");
    hmac.update(username.as_bytes());
    let password = BASE64.encode(hmac.finalize().into_bytes());
    (username, password)
}
