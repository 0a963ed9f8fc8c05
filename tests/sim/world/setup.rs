//! What a world is made with: its configuration, and how its edge is started.

use std::net::SocketAddr;
use std::sync::Arc;

use dialtone::app::Guard;
use dialtone::config::Config;
use dialtone::edges::EdgeId;
use dialtone::hot::Bindings;
use dialtone::presence::Presence;
use dialtone::shard::{core, gate};
use dialtone_sip::flow::Transport;
use dialtone_sip::stack;
use dialtone_sip::transport::Listen;

use super::{ACCOUNT, SERVER};

/// Numbers and users of every world. A line of `extra` that begins with `own_` is about the first account, which has more of everything
/// than any test wants where none says `own_limits`.
pub(super) fn config(extra: &str) -> Config {
    let (own, extra): (Vec<&str>, Vec<&str>) = extra.lines().partition(|line| line.starts_with("own_"));
    let mut own: Vec<&str> = own.into_iter().filter_map(|line| line.strip_prefix("own_")).collect();
    if !own.iter().any(|line| line.starts_with("limits")) {
        own.push(AMPLE);
    }
    let own = own.join("\n");
    let extra = extra.join("\n");
    let text = format!(
        r#"
[sip]
listen = ["udp://{SERVER}"]
realm = "dialtone"
[http]
operator_token = "op"
[[account]]
sid = "{ACCOUNT}"
auth_token = "token"
{own}
[[trunk]]
account = "{ACCOUNT}"
name = "carrier"
from = ["198.51.100.0/24"]
uri = "sip:198.51.100.9:5060"
numbers = ["+15551000000"]
[[number]]
account = "{ACCOUNT}"
number = "+15551000000"
voice_url = "http://app/voice"
voice_fallback_url = "http://app/fallback"
status_callback = "http://app/status"
[[number]]
account = "{ACCOUNT}"
number = "+15552000000"
twiml = "<Response><Echo/></Response>"
sms_url = "http://app/sms"
sms_fallback_url = "http://app/instead"
[[user]]
account = "{ACCOUNT}"
username = "desk"
password = "secret"
[[user]]
account = "{ACCOUNT}"
username = "mobile"
password = "secret"
{extra}"#
    );
    Config::parse(&text, "world").unwrap()
}

const AMPLE: &str = "limits = { calls = 100000, conference_participants = 100000 }";

/// What an edge is started with, and the seed of its pool.
pub(super) fn settings(
    seed: u64,
    extra: &str,
    max_calls: usize,
    bindings: Arc<Bindings>,
) -> (core::Settings, [u8; 32]) {
    let config = config(extra);
    let address: SocketAddr = SERVER.parse().unwrap();
    let mut bytes = [9; 32];
    bytes[..8].copy_from_slice(&seed.to_be_bytes());
    let settings = core::Settings {
        stack: stack::Config { product: "Dialtone".into(), slot: 0, seed: bytes },
        gate: gate::Settings { realm: config.sip.realm.clone(), algorithms: config.sip.digest.clone() },
        directory: Arc::new(config.directory.clone()),
        bindings,
        presence: Presence::new(EdgeId { node: "sim".into(), epoch: 1 }),
        listening: vec![Listen { transport: Transport::Udp, bind: address, advertise: address }],
        public_url: "https://api.example.com".into(),
        outbound: Guard::default(),
        srtp: config.media.srtp,
        max_calls,
        all_calls: config.server.calls,
        shares_limits: None,
        node: String::new(),
        emergency_numbers: config.sip.emergency_numbers.clone(),
        me: None,
        contact: None,
        writes_down: true,
    };
    (settings, bytes)
}
