//! Which addresses a customer may make us connect to, and the connector that holds to it (threat 23).
//!
//! A name is resolved once, every address that it has is judged, and only a judged address is connected to: a second
//! answer of the name server has nobody to deceive. Since the judgement is the connector's, it holds for each
//! redirect, each retry, and everything else that goes through the client.

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::Uri;
use hyper_util::rt::TokioIo;
use ipnet::IpNet;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tower::Service;

use crate::app::failure::FetchError;

/// Judges addresses.
#[derive(Clone, Debug, Default)]
pub struct Guard {
    /// Lifts the guard but for addresses that nobody can be meant by: multicast, broadcast, unspecified.
    pub allow_private_targets: bool,
    /// Networks that are allowed besides the public ones.
    pub allowed_targets: Vec<IpNet>,
}

impl Guard {
    /// Whether a customer's request may go to `address`.
    pub fn permits(&self, address: IpAddr) -> bool {
        let address = canonical(address);
        if is_nobody(address) {
            return false;
        }
        self.allow_private_targets
            || is_public(address)
            || self.allowed_targets.iter().any(|net| net.contains(&address))
    }

    /// All of `addresses`, or the first that is not permitted.
    fn judge(&self, addresses: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, FetchError> {
        match addresses.iter().find(|address| !self.permits(address.ip())) {
            Some(forbidden) => Err(FetchError::ForbiddenAddress(forbidden.ip())),
            None if addresses.is_empty() => Err(FetchError::UnknownHost),
            None => Ok(addresses),
        }
    }
}

/// An IPv4 address that is wrapped in an IPv6 one comes out: mapped, NAT64 (RFC 6052) and 6to4 (RFC 3056).
fn canonical(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else { return address };
    if let Some(mapped) = v6.to_ipv4_mapped() {
        return IpAddr::V4(mapped);
    }
    let octets = v6.octets();
    let v4_at = |at: usize| IpAddr::V4(Ipv4Addr::new(octets[at], octets[at + 1], octets[at + 2], octets[at + 3]));
    match v6.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, ..] => v4_at(12),
        [0x2002, ..] => v4_at(2),
        _ => address,
    }
}

/// Addresses that are no host's.
fn is_nobody(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.octets()[0] == 0 || v4.octets()[0] >= 224,
        IpAddr::V6(v6) => v6.is_unspecified() || v6.is_multicast(),
    }
}

fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => !SPECIAL_V4.iter().any(|(net, bits)| in_v4(v4, *net, *bits)),
        // Only 2000::/3 is given out at all; some of it is special.
        IpAddr::V6(v6) => in_v6(v6, 0x2000 << 112, 3) && !SPECIAL_V6.iter().any(|(net, bits)| in_v6(v6, *net, *bits)),
    }
}

fn in_v4(address: Ipv4Addr, net: [u8; 4], bits: u32) -> bool {
    let mask = u32::MAX << (32 - bits);
    u32::from(address) & mask == u32::from_be_bytes(net)
}

fn in_v6(address: Ipv6Addr, net: u128, bits: u32) -> bool {
    let mask = u128::MAX << (128 - bits);
    u128::from(address) & mask == net
}

/// Networks that are not the public Internet (RFC 6890 and its registry).
const SPECIAL_V4: &[([u8; 4], u32)] = &[
    ([0, 0, 0, 0], 8),       // this network
    ([10, 0, 0, 0], 8),      // private
    ([100, 64, 0, 0], 10),   // carrier-grade NAT
    ([127, 0, 0, 0], 8),     // loopback
    ([169, 254, 0, 0], 16),  // link-local, and the clouds' metadata
    ([172, 16, 0, 0], 12),   // private
    ([192, 0, 0, 0], 24),    // protocol assignments
    ([192, 0, 2, 0], 24),    // documentation
    ([192, 88, 99, 0], 24),  // 6to4 relays
    ([192, 168, 0, 0], 16),  // private
    ([198, 18, 0, 0], 15),   // benchmarks
    ([198, 51, 100, 0], 24), // documentation
    ([203, 0, 113, 0], 24),  // documentation
    ([224, 0, 0, 0], 4),     // multicast
    ([240, 0, 0, 0], 4),     // reserved, broadcast
];

const SPECIAL_V6: &[(u128, u32)] = &[
    (0x2001 << 112, 23),     // protocol assignments, Teredo
    (0x2001_0db8 << 96, 32), // documentation
    (0x3fff << 112, 20),     // documentation
];

/// Finds the addresses of a name.
pub trait Resolve: Send + Sync {
    fn resolve(&self, host: String, port: u16) -> Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>>;
}

/// Threads that look names up at once. A name server that hangs holds these and no other.
const LOOKUPS: usize = 128;

/// The resolver of the operating system, on blocking threads.
#[derive(Clone, Debug)]
pub struct SystemResolver {
    lookups: Arc<Semaphore>,
}

impl Default for SystemResolver {
    fn default() -> Self {
        Self { lookups: Arc::new(Semaphore::new(LOOKUPS)) }
    }
}

impl Resolve for SystemResolver {
    fn resolve(&self, host: String, port: u16) -> Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>> {
        let lookups = self.lookups.clone();
        Box::pin(async move {
            let turn = lookups.acquire_owned().await.map_err(io::Error::other)?;
            // The thread goes on when nobody waits any more, and keeps its turn so long.
            let work = move || {
                let found = (host, port).to_socket_addrs().map(Iterator::collect);
                drop(turn);
                found
            };
            tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
        })
    }
}

/// Connects to permitted addresses only. Sets no limit of time itself.
#[derive(Clone)]
pub struct GuardedConnector {
    guard: Arc<Guard>,
    resolver: Arc<dyn Resolve>,
}

impl GuardedConnector {
    pub fn new(guard: Guard, resolver: Arc<dyn Resolve>) -> Self {
        Self { guard: Arc::new(guard), resolver }
    }
}

impl Service<Uri> for GuardedConnector {
    type Response = TokioIo<TcpStream>;
    type Error = FetchError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, FetchError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), FetchError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let Self { guard, resolver } = self.clone();
        Box::pin(async move {
            let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
            let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") { 443 } else { 80 });
            let addresses = match host.parse::<IpAddr>() {
                Ok(address) => vec![SocketAddr::new(address, port)],
                Err(_) => resolver.resolve(host, port).await.map_err(|_| FetchError::UnknownHost)?,
            };
            connect(&guard.judge(addresses)?).await.map(TokioIo::new)
        })
    }
}

/// Tries the addresses in the resolver's order; one that does not answer is given up for the next after a while.
async fn connect(addresses: &[SocketAddr]) -> Result<TcpStream, FetchError> {
    const EACH: Duration = Duration::from_millis(1_500);
    let Some((last, before)) = addresses.split_last() else { return Err(FetchError::UnknownHost) };
    for address in before {
        if let Ok(Ok(stream)) = tokio::time::timeout(EACH, TcpStream::connect(address)).await {
            return ready(stream);
        }
    }
    ready(TcpStream::connect(last).await.map_err(|_| FetchError::ConnectFailed)?)
}

fn ready(stream: TcpStream) -> Result<TcpStream, FetchError> {
    stream.set_nodelay(true).map_err(|_| FetchError::ConnectFailed)?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("test address is good")
    }

    const FORBIDDEN: &[&str] = &[
        "127.0.0.1",
        "127.255.255.255",
        "0.0.0.0",
        "0.1.2.3",
        "10.0.0.1",
        "100.64.0.1",
        "100.127.255.255",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.1.1",
        "192.0.0.8",
        "192.0.2.1",
        "198.18.0.1",
        "198.19.255.255",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "239.1.1.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::127.0.0.1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::1",
        "2002:7f00:1::",
        "2002:c0a8:101::1",
        "2001::1",
        "2001:db8::1",
        "3fff::1",
        "fc00::1",
        "fd12::1",
        "fe80::1",
        "fec0::1",
        "ff02::1",
        "100::1",
    ];

    const PUBLIC: &[&str] = &[
        "1.1.1.1",
        "8.8.8.8",
        "100.63.255.255",
        "100.128.0.1",
        "172.15.0.1",
        "172.32.0.1",
        "192.167.1.1",
        "198.20.0.1",
        "223.255.255.255",
        "2606:4700::1111",
        "2a00:1450::1",
        "::ffff:8.8.8.8",
        "64:ff9b::808:808",
        "2002:808:808::1",
    ];

    #[test]
    fn threat_23_addresses_that_are_not_public_are_forbidden() {
        let guard = Guard::default();
        for text in FORBIDDEN {
            assert!(!guard.permits(address(text)), "{text}");
        }
        for text in PUBLIC {
            assert!(guard.permits(address(text)), "{text}");
        }
    }

    #[test]
    fn cr_15_private_targets_can_be_allowed_as_a_whole_or_by_network() {
        let open = Guard { allow_private_targets: true, ..Guard::default() };
        for text in ["127.0.0.1", "10.1.2.3", "::1", "fd00::1", "::ffff:127.0.0.1"] {
            assert!(open.permits(address(text)), "{text}");
        }
        for text in ["0.0.0.0", "::", "255.255.255.255", "224.0.0.1", "ff02::1"] {
            assert!(!open.permits(address(text)), "{text}");
        }
        let net = "10.1.0.0/16".parse().expect("test network is good");
        let some = Guard { allowed_targets: vec![net], ..Guard::default() };
        for (text, permitted) in
            [("10.1.2.3", true), ("::ffff:10.1.2.3", true), ("10.2.0.1", false), ("127.0.0.1", false)]
        {
            assert_eq!(some.permits(address(text)), permitted, "{text}");
        }
    }

    #[test]
    fn threat_23_one_forbidden_address_of_a_name_forbids_the_name() {
        let of = |texts: &[&str]| texts.iter().map(|text| SocketAddr::new(address(text), 80)).collect();
        let guard = Guard::default();
        assert_eq!(guard.judge(of(&["8.8.8.8", "1.1.1.1"])).map(|found| found.len()), Ok(2));
        let expected = Err(FetchError::ForbiddenAddress(address("127.0.0.1")));
        assert_eq!(guard.judge(of(&["8.8.8.8", "127.0.0.1"])), expected);
        assert_eq!(guard.judge(Vec::new()), Err(FetchError::UnknownHost));
    }
}
