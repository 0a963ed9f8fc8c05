//! From what is written to what is meant: types, defaults, and everything that must fit together.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};
use std::time::Duration;

use dialtone_sip::digest::Algorithm;
use dialtone_sip::flow::Transport;
use dialtone_sip::transport::Listen;
use toml::Spanned;

use super::file::{self, File};
use super::{Cluster, Config, ConfigError, Hep, Latching, Media, Server, Sip, SipTls, Store, Turn};
use crate::account::Srtp;
use crate::concurrency::OnLoss;
use crate::secret::Secret;

/// Whoever is called so does not wait for a turn, unless the file says otherwise.
const EMERGENCY_NUMBERS: &[&str] = &["112", "911", "999", "000"];
const DEFAULT_WORKERS: u16 = 1;
const DEFAULT_WORKER_TIMEOUT: Duration = Duration::from_millis(600);
/// Workers say ten times a second that they are alive.
const LEAST_WORKER_TIMEOUT: Duration = Duration::from_millis(300);
const MAX_WORKERS: u16 = 64;
const DEFAULT_PORTS: RangeInclusive<u16> = 20_000..=29_999;
const DEFAULT_STORE: &str = "sqlite://dialtone.db";
const DEFAULT_DRAIN: Duration = Duration::from_secs(300);
const DEFAULT_LOG_LEVEL: &str = "info";
const DEFAULT_REALM: &str = "dialtone";

/// Makes faults of one file.
pub(super) struct Reader<'a> {
    text: &'a str,
    name: &'a str,
}

pub(super) fn config(file: File, text: &str, name: &str) -> Result<Config, ConfigError> {
    let reader = Reader { text, name };
    let realm = file
        .sip
        .realm
        .clone()
        .or_else(|| file.sip.domains.first().cloned())
        .unwrap_or_else(|| DEFAULT_REALM.to_owned());
    let sip = reader.sip(&file, &realm)?;
    let directory = reader.directory(&file, &realm)?;
    let store = reader.store(&file.store)?;
    let cluster = file.cluster.as_ref().map(|cluster| reader.cluster(cluster)).transpose()?;
    if let (Some(hot), Some(_)) = (&file.store.hot, &store.hot)
        && cluster.as_ref().is_none_or(|cluster| cluster.listen.ip().is_unspecified())
    {
        let text =
            "`hot` is what edges share: it needs [cluster] listen, the address by which the others find this one";
        return Err(reader.fault(hot, text));
    }
    Ok(Config {
        sip,
        http: reader.http(&file.http)?,
        media: reader.media(&file.media, &file.sip)?,
        cluster,
        recordings: reader.recordings(&file.recordings, &store)?,
        store,
        server: reader.server(&file.server)?,
        traces: file.traces.as_ref().map(|traces| super::traces::traces(&reader, traces)).transpose()?,
        directory,
    })
}

impl Reader<'_> {
    fn error(&self, span: Range<usize>, message: impl Into<String>) -> ConfigError {
        ConfigError::at(self.name, self.text, span, message)
    }

    pub(super) fn fault<T>(&self, at: &Spanned<T>, message: impl Into<String>) -> ConfigError {
        self.error(at.span(), message)
    }

    pub(super) fn parse<T: std::str::FromStr>(
        &self,
        written: &Spanned<String>,
        key: &str,
        wanted: &str,
    ) -> Result<T, ConfigError> {
        written.get_ref().parse().map_err(|_| {
            self.fault(written, format!("wrong value of `{key}`: \"{}\" is not {wanted}", written.get_ref()))
        })
    }

    pub(super) fn secret(&self, written: &Spanned<String>, key: &str) -> Result<Secret, ConfigError> {
        let secret = Secret::resolve(written.get_ref())
            .map_err(|error| self.fault(written, format!("wrong value of `{key}`: {error}")))?;
        if secret.is_empty() { Err(self.fault(written, format!("`{key}` is empty"))) } else { Ok(secret) }
    }

    fn sip(&self, file: &File, realm: &str) -> Result<Sip, ConfigError> {
        let sip = &file.sip;
        let public = sip
            .public_address
            .as_ref()
            .map(|address| self.parse::<IpAddr>(address, "public_address", "an ip address"))
            .transpose()?;
        let listen: Vec<Listen> =
            sip.listen.iter().map(|written| self.listen(written, public)).collect::<Result<_, _>>()?;
        let tls = self.sip_tls(file, &listen)?;
        let digest = match &sip.digest {
            None => vec![Algorithm::Sha256, Algorithm::Md5],
            Some(names) => names.iter().map(|name| self.algorithm(name)).collect::<Result<_, _>>()?,
        };
        if digest.is_empty() {
            return Err(ConfigError::general(self.name, "[sip] digest is empty: name SHA-256, MD5 or both"));
        }
        if !fits_quotes(realm) {
            return Err(ConfigError::general(
                self.name,
                "[sip] realm must not hold quotes, backslashes or control characters",
            ));
        }
        let name_servers = sip
            .name_servers
            .iter()
            .map(|server| self.parse(server, "name_servers", "IP:PORT"))
            .collect::<Result<_, _>>()?;
        let emergency_numbers = sip.emergency_numbers.clone();
        let emergency_numbers =
            emergency_numbers.unwrap_or_else(|| EMERGENCY_NUMBERS.iter().map(|number| (*number).to_owned()).collect());
        let hep = sip.hep.as_ref().map(|hep| self.hep(hep)).transpose()?;
        let origins = sip.origins.as_ref().map(|origins| origins.iter().map(|origin| self.origin(origin)).collect());
        let (realm, origins) = (realm.to_owned(), origins.transpose()?);
        Ok(Sip { listen, tls, realm, digest, name_servers, emergency_numbers, hep, origins })
    }

    fn turn(&self, turn: &file::Turn) -> Result<Turn, ConfigError> {
        for written in &turn.urls {
            let (scheme, rest) = written.get_ref().split_once(':').unwrap_or_default();
            let is_turn = matches!(scheme, "turn" | "turns");
            if !(is_turn || scheme == "stun") || rest.is_empty() || rest.starts_with('/') {
                let message = format!(
                    "wrong value of `urls`: \"{}\" is not turn:HOST:PORT, turns:HOST:PORT or stun:HOST:PORT",
                    written.get_ref()
                );
                return Err(self.fault(written, message));
            }
            if is_turn && turn.secret.is_none() {
                let message =
                    "`secret` is missing: what [media] turn shares with the server (coturn: static-auth-secret)";
                return Err(self.fault(written, message));
            }
        }
        let secret = turn.secret.as_ref().map(|secret| self.secret(secret, "secret")).transpose()?;
        Ok(Turn { urls: turn.urls.iter().map(|url| url.get_ref().clone()).collect(), secret })
    }

    /// As browsers write it: scheme, host, and a port that is not the usual one.
    fn origin(&self, written: &Spanned<String>) -> Result<String, ConfigError> {
        let text = written.get_ref();
        let parsed = url::Url::parse(text).ok().map(|url| url.origin().ascii_serialization());
        match parsed.filter(|origin| origin.eq_ignore_ascii_case(text)) {
            Some(origin) => Ok(origin),
            None => Err(self.fault(
                written,
                format!("wrong value of `origins`: \"{text}\" is no origin, such as https://app.example.com (no path, no slash at the end)"),
            )),
        }
    }

    /// The certificate of SIP's listeners: that of HTTPS where it has none of its own.
    fn sip_tls(&self, file: &File, listen: &[Listen]) -> Result<Option<SipTls>, ConfigError> {
        let secure = listen.iter().position(|listen| listen.transport == Transport::Tls);
        let authorities = file.sip.tls_authorities.as_ref();
        if let Some(written) = authorities {
            let read = crate::tls::authorities(Some(Path::new(written.get_ref())));
            read.map_err(|error| self.fault(written, format!("wrong value of `tls_authorities`: {error}")))?;
        }
        match (file.sip.tls.as_ref().or(file.http.tls.as_ref()), secure) {
            (Some(tls), Some(_)) => Ok(Some(SipTls {
                certificate: self.certificate(tls)?,
                authorities: authorities.map(|written| PathBuf::from(written.get_ref())),
            })),
            (None, Some(at)) => {
                let message = "a tls:// listener wants a certificate: give [sip] tls = { cert = \"PATH\", key = \"PATH\" }, or \
                               [http] tls, which then serves both";
                Err(self.fault(&file.sip.listen[at], message))
            }
            (_, None) => match &file.sip.tls {
                Some(tls) => Err(self.fault(tls, "[sip] tls serves nothing: `listen` has no tls://IP:PORT")),
                None => Ok(None),
            },
        }
    }

    fn algorithm(&self, name: &Spanned<String>) -> Result<Algorithm, ConfigError> {
        Algorithm::from_name(Some(name.get_ref())).ok_or_else(|| {
            self.fault(name, format!("wrong value of `digest`: \"{}\" is neither SHA-256 nor MD5", name.get_ref()))
        })
    }

    fn listen(&self, written: &Spanned<String>, public: Option<IpAddr>) -> Result<Listen, ConfigError> {
        let fault = || {
            self.fault(
                written,
                format!(
                    "wrong value of `listen`: \"{}\" is not udp://IP:PORT, tcp://IP:PORT or tls://IP:PORT",
                    written.get_ref()
                ),
            )
        };
        let (scheme, address) = written.get_ref().split_once("://").ok_or_else(fault)?;
        let transport = Transport::from_uri_name(scheme).ok_or_else(fault)?;
        let bind: SocketAddr = address.parse().map_err(|_| fault())?;
        let public = public.filter(|public| public.is_ipv4() == bind.is_ipv4());
        let advertised = if bind.ip().is_unspecified() {
            public.unwrap_or_else(|| outward_address(bind.is_ipv4()))
        } else {
            public.unwrap_or(bind.ip())
        };
        Ok(Listen { transport, bind, advertise: SocketAddr::new(advertised, bind.port()) })
    }

    fn media(&self, media: &file::Media, sip: &file::Sip) -> Result<Media, ConfigError> {
        let public = sip.public_address.as_ref().and_then(|address| address.get_ref().parse().ok());
        let listening =
            sip.listen.first().and_then(|listen| listen.get_ref().split_once("://")?.1.parse::<SocketAddr>().ok());
        let address = match &media.address {
            Some(written) => self.parse(written, "address", "an ip address")?,
            None => listening.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |listen| listen.ip()),
        };
        let advertise = match &media.advertise {
            Some(written) => self.parse(written, "advertise", "an ip address")?,
            None if address.is_unspecified() => public.unwrap_or_else(|| outward_address(address.is_ipv4())),
            None => public.filter(|_| media.address.is_none()).unwrap_or(address),
        };
        let ports = media.ports.as_ref().map_or(Ok(DEFAULT_PORTS), |written| self.ports(written))?;
        let latching = match &media.latching {
            None => Latching::default(),
            Some(written) => match written.get_ref().as_str() {
                "off" => Latching::Off,
                "nat" => Latching::Nat,
                other => {
                    return Err(self.fault(
                        written,
                        format!("wrong value of `latching`: \"{other}\" is neither \"off\" nor \"nat\""),
                    ));
                }
            },
        };
        let srtp = media.srtp.as_ref().map_or(Ok(Srtp::default()), |written| self.srtp(written))?;
        let turn = media.turn.as_ref().map(|turn| self.turn(turn)).transpose()?;
        let workers = match &media.workers {
            None => DEFAULT_WORKERS,
            Some(written) if *written.get_ref() <= MAX_WORKERS => *written.get_ref(),
            Some(written) => {
                return Err(self.fault(
                    written,
                    format!("wrong value of `workers`: {} is more than {MAX_WORKERS}", written.get_ref()),
                ));
            }
        };
        if usize::from(workers) * 2 > ports.len()
            && let Some(written) = &media.ports
        {
            return Err(self.fault(written, format!("wrong value of `ports`: too few for {workers} workers")));
        }
        let worker_timeout = match &media.worker_timeout {
            None => DEFAULT_WORKER_TIMEOUT,
            Some(written) => {
                duration(written.get_ref()).filter(|time| *time >= LEAST_WORKER_TIMEOUT).ok_or_else(|| {
                    self.fault(
                        written,
                        "wrong value of `worker_timeout`: it is not a time such as \"600ms\" of 300 ms or more",
                    )
                })?
            }
        };
        Ok(Media { address, advertise, ports, latching, srtp, turn, workers, worker_timeout })
    }

    fn cluster(&self, cluster: &file::Cluster) -> Result<Cluster, ConfigError> {
        let listen = match &cluster.listen {
            Some(written) => self.parse(written, "listen", "IP:PORT")?,
            None => {
                return Err(ConfigError::general(
                    self.name,
                    "[cluster] needs `listen`: where nodes find this edge, IP:PORT",
                ));
            }
        };
        let contact = cluster.contact.as_ref().map(|written| self.contact(written)).transpose()?;
        let on_store_loss = match &cluster.on_store_loss {
            None => OnLoss::default(),
            Some(written) => self.choice("on_store_loss", written, ON_STORE_LOSS)?,
        };
        Ok(Cluster { listen, dir: cluster.dir.clone().map(PathBuf::from), contact, on_store_loss })
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(
        &self,
        key: &str,
        written: &Spanned<String>,
        words: &[(&str, T)],
    ) -> Result<T, ConfigError> {
        let known = words.iter().find(|(word, _)| word == written.get_ref()).map(|(_, value)| *value);
        known.ok_or_else(|| {
            let words: Vec<String> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
            self.fault(
                written,
                format!("wrong value of `{key}`: \"{}\" is not {}", written.get_ref(), words.join(" or ")),
            )
        })
    }

    fn contact(&self, written: &Spanned<String>) -> Result<String, ConfigError> {
        let uri = format!("sip:dialtone@{}", written.get_ref());
        match dialtone_sip::msg::Uri::parse(&uri).ok().and_then(dialtone_sip::msg::Uri::sip) {
            Some(read) if read.params.0.is_empty() && !written.get_ref().is_empty() => Ok(written.get_ref().clone()),
            _ => Err(self.fault(
                written,
                format!("wrong value of `contact`: \"{}\" is not HOST or HOST:PORT", written.get_ref()),
            )),
        }
    }

    fn ports(&self, written: &Spanned<String>) -> Result<RangeInclusive<u16>, ConfigError> {
        let fault = || {
            self.fault(written, format!("wrong value of `ports`: \"{}\" is not a range such as \"20000-29999\" of at least two ports above 1023", written.get_ref()))
        };
        let (first, last) = written.get_ref().split_once('-').ok_or_else(fault)?;
        let (first, last): (u16, u16) =
            (first.trim().parse().map_err(|_| fault())?, last.trim().parse().map_err(|_| fault())?);
        if first >= 1024 && first < last { Ok(first..=last) } else { Err(fault()) }
    }

    fn store(&self, store: &file::Store) -> Result<Store, ConfigError> {
        let url = match &store.url {
            None => Secret::new(DEFAULT_STORE),
            Some(written) => self.secret(written, "url")?,
        };
        let (scheme, rest) = url.expose().split_once("://").unwrap_or_default();
        let beside = match scheme {
            "sqlite" if !rest.is_empty() => PathBuf::from(rest).parent().map(PathBuf::from).unwrap_or_default(),
            "postgres" | "postgresql" if !rest.is_empty() => PathBuf::new(),
            // What stands there may be a password.
            _ => {
                let wanted = "wrong value of `url`: it is neither sqlite://PATH nor postgres://USER@HOST:PORT/DATABASE";
                return Err(match &store.url {
                    Some(written) => self.fault(written, wanted),
                    None => ConfigError::general(self.name, wanted),
                });
            }
        };
        let folder = store.folder.clone().map_or(beside, PathBuf::from);
        let folder = if folder.as_os_str().is_empty() { PathBuf::from(".") } else { folder };
        let hot = store.hot.as_ref().map(|written| self.hot(written)).transpose()?.flatten();
        Ok(Store { url, hot, folder })
    }

    /// `None` for `memory`.
    fn hot(&self, written: &Spanned<String>) -> Result<Option<Secret>, ConfigError> {
        let url = self.secret(written, "hot")?;
        match url.expose().split_once("://") {
            None if url.expose() == "memory" => Ok(None),
            Some(("redis" | "rediss", rest)) if !rest.is_empty() => Ok(Some(url)),
            // What stands there may be a password.
            _ => Err(self.fault(written, "wrong value of `hot`: it is neither memory nor redis://HOST:PORT")),
        }
    }

    fn server(&self, server: &file::Server) -> Result<Server, ConfigError> {
        let drain_timeout = match &server.drain_timeout {
            None => DEFAULT_DRAIN,
            Some(written) => duration(written.get_ref()).ok_or_else(|| {
                self.fault(
                    written,
                    "wrong value of `drain_timeout`: give seconds, or a text such as \"90s\", \"10m\" or \"1h\"",
                )
            })?,
        };
        let log_level = match &server.log_level {
            None => DEFAULT_LOG_LEVEL.to_owned(),
            Some(written) => {
                tracing_subscriber::EnvFilter::try_new(written.get_ref())
                    .map_err(|_| self.fault(written, format!("wrong value of `log_level`: \"{}\" is not error, warn, info, debug, trace or a list of TARGET=LEVEL", written.get_ref())))?;
                written.get_ref().clone()
            }
        };
        Ok(Server { drain_timeout, log_level, calls: server.calls, metrics_accounts: server.metrics_accounts })
    }

    fn hep(&self, hep: &file::Hep) -> Result<Hep, ConfigError> {
        let password = hep.password.as_ref().map(|password| self.secret(password, "password")).transpose()?;
        let password = password.unwrap_or_else(|| Secret::new(String::new()));
        Ok(Hep {
            collector: self.parse(&hep.collector, "collector", "IP:PORT")?,
            node: hep.node.unwrap_or(1),
            password,
        })
    }
}

/// Whether a realm can stand in the quotes of a challenge as it is.
pub(super) fn fits_quotes(realm: &str) -> bool {
    !realm.contains(['"', '\\']) && !realm.chars().any(char::is_control)
}

const ON_STORE_LOSS: &[(&str, OnLoss)] =
    &[("share", OnLoss::Share), ("closed", OnLoss::Closed), ("open", OnLoss::Open)];

pub(super) fn duration(value: &toml::Value) -> Option<Duration> {
    match value {
        toml::Value::Integer(seconds) => u64::try_from(*seconds).ok().map(Duration::from_secs),
        toml::Value::String(text) => {
            let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
            let seconds = match unit.trim() {
                "ms" => return number.parse().ok().map(Duration::from_millis),
                "" | "s" => 1,
                "m" => 60,
                "h" => 3600,
                _ => return None,
            };
            Some(Duration::from_secs(number.parse::<u64>().ok()?.checked_mul(seconds)?))
        }
        _ => None,
    }
}

/// The address by which this machine reaches others; loopback where it has none. Nothing is sent to find out.
fn outward_address(ipv4: bool) -> IpAddr {
    let (any, other) = if ipv4 { ("0.0.0.0:0", "192.0.2.1:9") } else { ("[::]:0", "[2001:db8::1]:9") };
    let found = UdpSocket::bind(any).and_then(|socket| socket.connect(other).and_then(|()| socket.local_addr()));
    let loopback = if ipv4 { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { IpAddr::V6(std::net::Ipv6Addr::LOCALHOST) };
    found.map_or(loopback, |address| address.ip())
}
