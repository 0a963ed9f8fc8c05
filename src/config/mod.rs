//! The configuration: a TOML file, read strictly into types that the rest of the program trusts.
//!
//! An unknown or wrong key names file, line, key and what was probably meant; nothing starts half. Defaults are here
//! and nowhere else. The contract of the keys is in docs/configuration.md.

mod directory;
mod error;
mod file;
mod http;
mod prices;
mod read;
mod recordings;
mod traces;

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use dialtone_sip::digest::Algorithm;
use dialtone_sip::transport::Listen;

use crate::account::{Directory, Srtp};
use crate::concurrency::OnLoss;
use crate::recordings::BucketSettings;
use crate::secret::Secret;
use crate::tls::Files;

pub use error::ConfigError;

/// Everything that a configuration says.
#[derive(Clone, Debug)]
pub struct Config {
    pub sip: Sip,
    pub http: Http,
    pub media: Media,
    pub cluster: Option<Cluster>,
    pub store: Store,
    pub recordings: Recordings,
    pub server: Server,
    /// Where traces of calls go.
    pub traces: Option<Traces>,
    /// What a reload may change.
    pub directory: Directory,
}

#[derive(Clone, Debug)]
pub struct Sip {
    pub listen: Vec<Listen>,
    pub tls: Option<SipTls>,
    pub realm: String,
    /// Offered in this order.
    pub digest: Vec<Algorithm>,
    /// Asked for the servers of a host; empty: those of the system.
    pub name_servers: Vec<SocketAddr>,
    /// Whoever is called so does not wait for a turn.
    pub emergency_numbers: Vec<String>,
    /// Who is sent a copy of each SIP message.
    pub hep: Option<Hep>,
    /// Whose pages may speak SIP by WebSocket; `None`: everybody's.
    pub origins: Option<Vec<String>>,
}

/// A collector of traces.
#[derive(Clone, Debug)]
pub struct Traces {
    /// With its path.
    pub endpoint: String,
    pub headers: Vec<(String, Secret)>,
    /// Of the calls that went as they should, 0 to 1.
    pub share: f64,
}

/// A collector of SIP messages.
#[derive(Clone, Debug)]
pub struct Hep {
    pub collector: SocketAddr,
    /// Tells servers apart there.
    pub node: u32,
    pub password: Secret,
}

#[derive(Clone, Debug)]
pub struct Http {
    pub listen: SocketAddr,
    /// `None`: nothing is encrypted here.
    pub tls: Option<Tls>,
    /// Where others reach `listen`, without a slash at the end.
    /// Where programs of the SDKs find us as Twilio, by their environment alone.
    pub sdk_proxy: Option<SocketAddr>,
    /// Whether that proxy reaches other hosts too, for programs of this machine.
    pub sdk_proxy_tunnels: bool,
    pub public_url: String,
    /// Whether the file says that; where it does not, a request says by which name it came.
    pub is_named: bool,
    /// Lifts the guard that keeps the application's URLs off private addresses.
    pub allow_private_targets: bool,
    pub operator_token: Secret,
    pub metrics_listen: Option<SocketAddr>,
}

/// TLS of SIP's listeners, and of connections to peers.
#[derive(Clone, Debug)]
pub struct SipTls {
    pub certificate: Certificate,
    /// Authorities that peers are trusted by, beside those that everybody trusts: a PEM file.
    pub authorities: Option<PathBuf>,
}

/// TLS of the HTTP listener.
#[derive(Clone, Debug)]
pub struct Tls {
    pub certificate: Certificate,
    /// HTTP without TLS is taken by the same port too, also of other machines.
    pub plain: bool,
}

#[derive(Clone, Debug)]
pub enum Certificate {
    Files(Files),
    /// Of this installation's own authority.
    Own,
}

#[derive(Clone, Debug)]
pub struct Media {
    /// RTP is sent and received here.
    pub address: IpAddr,
    /// Written into SDP.
    pub advertise: IpAddr,
    pub ports: RangeInclusive<u16>,
    pub latching: Latching,
    pub srtp: Srtp,
    pub turn: Option<Turn>,
    /// Worker processes of this machine; none: the edge moves media itself.
    pub workers: u16,
    /// A worker that says nothing for so long is lost.
    pub worker_timeout: Duration,
}

/// Servers of others that help browsers to reach us (RFC 8656), with what opens them.
#[derive(Clone, Debug)]
pub struct Turn {
    /// `turn:HOST:PORT?transport=udp`, `turns:...`, `stun:...`
    pub urls: Vec<String>,
    /// What they share with us: credentials are made of it that hold for a while. `None` where all are `stun:`.
    pub secret: Option<Secret>,
}

/// What an edge is to nodes of other machines.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// Where nodes find this edge.
    pub listen: SocketAddr,
    /// The folder of the cluster's authority; none at an edge that has joined another.
    pub dir: Option<PathBuf>,
    /// The host, perhaps with a port, by which phones reach whichever edge there is: what they are told in Contact.
    pub contact: Option<String>,
    /// How many more calls and requests an account gets while the store that edges share is away.
    pub on_store_loss: OnLoss,
}

/// Whether media may come from another address than the SDP names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Latching {
    Off,
    /// Only where the SDP's address is private or differs from the one that signals; once, then locked.
    #[default]
    Nat,
}

#[derive(Clone, Debug)]
pub struct Store {
    /// `sqlite://PATH` or `postgres://...`, which may hold a password.
    pub url: Secret,
    /// The Redis that edges share, `redis://...` or `rediss://...`, which may hold a password.
    pub hot: Option<Secret>,
    /// Journal, caches and recordings.
    pub folder: PathBuf,
}

/// Where the audio of recordings is kept, and for how long.
#[derive(Clone, Debug)]
pub struct Recordings {
    /// They are written here while they run, and stay here where there is no bucket.
    pub folder: PathBuf,
    pub bucket: Option<BucketSettings>,
    /// `None`: until somebody deletes it.
    pub keep: Option<Duration>,
}

#[derive(Clone, Debug)]
pub struct Server {
    pub drain_timeout: Duration,
    /// Calls at once, of all accounts and at all edges; `None` is any number.
    pub calls: Option<u32>,
    /// Accounts that have series of their own.
    pub metrics_accounts: Option<u32>,
    /// As `--log-level` has it; a reload takes it again.
    pub log_level: String,
}

impl Config {
    /// Whether any listener is who this installation's own authority says.
    pub fn has_own_certificate(&self) -> bool {
        let certificates = self.http.tls.iter().map(|tls| &tls.certificate);
        let certificates = certificates.chain(self.sip.tls.iter().map(|tls| &tls.certificate));
        certificates.into_iter().any(|certificate| matches!(certificate, Certificate::Own))
    }

    /// Reads and checks a file.
    pub fn load(path: &std::path::Path) -> Result<Config, ConfigError> {
        Config::parse(&read_file(path)?, &path.display().to_string())
    }

    /// As [`Config::load`], for a machine that only moves media: it needs no SIP.
    pub fn load_for_worker(path: &std::path::Path) -> Result<Config, ConfigError> {
        Config::parse_for_worker(&read_file(path)?, &path.display().to_string())
    }

    /// Reads and checks a text; `name` is for messages.
    pub fn parse(text: &str, name: &str) -> Result<Config, ConfigError> {
        let config = Config::parse_for_worker(text, name)?;
        if config.sip.listen.is_empty() {
            let text = "[sip] listen is missing: for example listen = [\"udp://0.0.0.0:5060\", \"tcp://0.0.0.0:5060\"]";
            return Err(ConfigError::general(name, text));
        }
        Ok(config)
    }

    fn parse_for_worker(text: &str, name: &str) -> Result<Config, ConfigError> {
        let file = file::File::parse(text, name)?;
        read::config(file, text, name)
    }
}

fn read_file(path: &std::path::Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|error| ConfigError::unreadable(path, &error))
}
