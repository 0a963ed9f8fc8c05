//! The file as it is written: every key, before anything is checked against anything else.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::Spanned;

use super::ConfigError;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    #[serde(default)]
    pub(super) sip: Sip,
    #[serde(default)]
    pub(super) http: Http,
    #[serde(default)]
    pub(super) media: Media,
    pub(super) cluster: Option<Cluster>,
    #[serde(default)]
    pub(super) store: Store,
    #[serde(default)]
    pub(super) recordings: Recordings,
    #[serde(default)]
    pub(super) server: Server,
    pub(super) traces: Option<Traces>,
    #[serde(default)]
    pub(super) account: Vec<Account>,
    #[serde(default)]
    pub(super) number: Vec<Number>,
    #[serde(default)]
    pub(super) user: Vec<User>,
    #[serde(default)]
    pub(super) trunk: Vec<Trunk>,
    #[serde(default)]
    pub(super) price_book: Vec<PriceBook>,
    #[serde(default)]
    pub(super) application: Vec<Application>,
    #[serde(default)]
    pub(super) key: Vec<Key>,
}

impl File {
    pub(super) fn parse(text: &str, name: &str) -> Result<File, ConfigError> {
        toml::from_str(text).map_err(|error| ConfigError::from_toml(name, text, &error))
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Sip {
    #[serde(default)]
    pub(super) listen: Vec<Spanned<String>>,
    pub(super) tls: Option<Spanned<Tls>>,
    /// PEM: authorities that peers are trusted by, beside those that everybody trusts.
    pub(super) tls_authorities: Option<Spanned<String>>,
    pub(super) origins: Option<Vec<Spanned<String>>>,
    pub(super) public_address: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) domains: Vec<String>,
    pub(super) realm: Option<String>,
    pub(super) digest: Option<Vec<Spanned<String>>>,
    #[serde(default)]
    pub(super) name_servers: Vec<Spanned<String>>,
    pub(super) emergency_numbers: Option<Vec<String>>,
    pub(super) hep: Option<Hep>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Traces {
    pub(super) endpoint: Spanned<String>,
    #[serde(default)]
    pub(super) headers: BTreeMap<Spanned<String>, Spanned<String>>,
    pub(super) share: Option<Spanned<f64>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Hep {
    pub(super) collector: Spanned<String>,
    pub(super) node: Option<u32>,
    pub(super) password: Option<Spanned<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Http {
    pub(super) listen: Option<Spanned<String>>,
    pub(super) tls: Option<Spanned<Tls>>,
    pub(super) public_url: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) allow_private_targets: bool,
    pub(super) operator_token: Option<Spanned<String>>,
    pub(super) metrics_listen: Option<Spanned<String>>,
    pub(super) sdk_proxy: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) sdk_proxy_tunnels: bool,
}

/// A certificate: of two files, or of the installation's own authority.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Tls {
    pub(super) cert: Option<Spanned<String>>,
    pub(super) key: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) own: bool,
    #[serde(default)]
    pub(super) plain: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Turn {
    pub(super) urls: Vec<Spanned<String>>,
    pub(super) secret: Option<Spanned<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Media {
    pub(super) address: Option<Spanned<String>>,
    pub(super) advertise: Option<Spanned<String>>,
    pub(super) ports: Option<Spanned<String>>,
    pub(super) latching: Option<Spanned<String>>,
    pub(super) turn: Option<Turn>,
    pub(super) srtp: Option<Spanned<String>>,
    pub(super) workers: Option<Spanned<u16>>,
    pub(super) worker_timeout: Option<Spanned<toml::Value>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Cluster {
    pub(super) listen: Option<Spanned<String>>,
    pub(super) dir: Option<String>,
    pub(super) contact: Option<Spanned<String>>,
    pub(super) on_store_loss: Option<Spanned<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Store {
    pub(super) url: Option<Spanned<String>>,
    pub(super) hot: Option<Spanned<String>>,
    pub(super) folder: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Recordings {
    pub(super) folder: Option<Spanned<String>>,
    pub(super) url: Option<Spanned<String>>,
    pub(super) endpoint: Option<Spanned<String>>,
    pub(super) region: Option<Spanned<String>>,
    pub(super) access_key_id: Option<Spanned<String>>,
    pub(super) secret_access_key: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) allow_http: bool,
    pub(super) keep_days: Option<u32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Server {
    /// Seconds, or a text such as `90s`, `10m`, `1h`.
    pub(super) drain_timeout: Option<Spanned<toml::Value>>,
    pub(super) calls: Option<u32>,
    pub(super) metrics_accounts: Option<u32>,
    pub(super) log_level: Option<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Account {
    pub(super) sid: Spanned<String>,
    pub(super) auth_token: Spanned<String>,
    #[serde(default)]
    pub(super) name: String,
    #[serde(default)]
    pub(super) limits: Limits,
    pub(super) price_book: Option<Spanned<String>>,
    pub(super) budget: Option<Spanned<Budget>>,
}

/// How much an account may use in each period.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Budget {
    pub(super) price: Option<Spanned<String>>,
    pub(super) minutes: Option<u32>,
    pub(super) recurring: Option<Spanned<String>>,
}

/// An edition of a price book: several of one name follow each other.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PriceBook {
    pub(super) name: Spanned<String>,
    pub(super) currency: Option<Spanned<String>>,
    /// A day, `YYYY-MM-DD`; without one it has always been.
    pub(super) from: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) prices: Vec<Price>,
}

/// Amounts are texts, so that they are exact.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Price {
    pub(super) category: Spanned<String>,
    #[serde(default)]
    pub(super) prefix: String,
    pub(super) per_minute: Option<Spanned<String>>,
    pub(super) per_message: Option<Spanned<String>>,
    pub(super) setup: Option<Spanned<String>>,
    pub(super) increment: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) tiers: Vec<Tier>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Tier {
    pub(super) above: u64,
    pub(super) per_minute: Option<Spanned<String>>,
    pub(super) per_message: Option<Spanned<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Limits {
    pub(super) cps: Option<Spanned<u32>>,
    pub(super) calls: Option<u32>,
    pub(super) api: Option<Spanned<u32>>,
    pub(super) streams: Option<u32>,
    pub(super) conference_participants: Option<u32>,
    pub(super) when_full: Option<Spanned<String>>,
    /// Seconds, or a text such as `500ms`, `10s`.
    pub(super) wait: Option<Spanned<toml::Value>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Number {
    pub(super) number: Spanned<String>,
    pub(super) account: Spanned<String>,
    pub(super) voice_url: Option<Spanned<String>>,
    pub(super) twiml: Option<Spanned<String>>,
    pub(super) answer: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) priority: u8,
    pub(super) voice_method: Option<Spanned<String>>,
    pub(super) voice_fallback_url: Option<Spanned<String>>,
    pub(super) voice_fallback_method: Option<Spanned<String>>,
    pub(super) status_callback: Option<Spanned<String>>,
    pub(super) status_callback_method: Option<Spanned<String>>,
    pub(super) sms_url: Option<Spanned<String>>,
    pub(super) sms_method: Option<Spanned<String>>,
    pub(super) sms_fallback_url: Option<Spanned<String>>,
    pub(super) sms_fallback_method: Option<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct User {
    pub(super) account: Spanned<String>,
    pub(super) call_waiting: Option<bool>,
    pub(super) username: Spanned<String>,
    pub(super) password: Spanned<String>,
    pub(super) domain: Option<String>,
    pub(super) voice_url: Option<Spanned<String>>,
    pub(super) twiml: Option<Spanned<String>>,
    pub(super) answer: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) priority: u8,
    pub(super) voice_method: Option<Spanned<String>>,
    pub(super) voice_fallback_url: Option<Spanned<String>>,
    pub(super) voice_fallback_method: Option<Spanned<String>>,
    pub(super) status_callback: Option<Spanned<String>>,
    pub(super) status_callback_method: Option<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Application {
    pub(super) account: Spanned<String>,
    pub(super) sid: Spanned<String>,
    pub(super) voice_url: Option<Spanned<String>>,
    pub(super) twiml: Option<Spanned<String>>,
    pub(super) answer: Option<Spanned<String>>,
    pub(super) voice_method: Option<Spanned<String>>,
    pub(super) voice_fallback_url: Option<Spanned<String>>,
    pub(super) voice_fallback_method: Option<Spanned<String>>,
    pub(super) status_callback: Option<Spanned<String>>,
    pub(super) status_callback_method: Option<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Key {
    pub(super) account: Spanned<String>,
    pub(super) sid: Spanned<String>,
    pub(super) secret: Spanned<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Trunk {
    pub(super) account: Spanned<String>,
    pub(super) name: Spanned<String>,
    pub(super) uri: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) from: Vec<Spanned<String>>,
    pub(super) username: Option<String>,
    pub(super) password: Option<Spanned<String>>,
    pub(super) realm: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) numbers: Vec<Spanned<String>>,
    pub(super) prefixes: Option<Vec<String>>,
    #[serde(default)]
    pub(super) priority: u32,
    pub(super) cps: Option<Spanned<u32>>,
    pub(super) calls: Option<u32>,
    pub(super) srtp: Option<Spanned<String>>,
    pub(super) voice_url: Option<Spanned<String>>,
    pub(super) twiml: Option<Spanned<String>>,
    pub(super) answer: Option<Spanned<String>>,
    pub(super) voice_method: Option<Spanned<String>>,
    pub(super) voice_fallback_url: Option<Spanned<String>>,
    pub(super) voice_fallback_method: Option<Spanned<String>>,
    pub(super) status_callback: Option<Spanned<String>>,
    pub(super) status_callback_method: Option<Spanned<String>>,
}
