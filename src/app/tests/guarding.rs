//! The guard, through the whole client (threat 23, CR-15).

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};

use super::*;
use crate::app::guard::Resolve;

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn guarded() -> Client {
    Client::new(ClientConfig::default())
}

async fn cause_of(client: &Client, url: String) -> FetchError {
    client.fetch(post(url, &[])).await.expect_err("the guard forbids it").cause
}

#[tokio::test]
async fn threat_23_private_targets_are_not_connected_to() {
    let server = Server::start(|_, _| document("<Response/>")).await;
    let port = server.url.rsplit(':').next().expect("the url has a port").to_owned();
    let client = guarded();
    for host in
        ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "2130706433", "0x7f.1", "127.1", "0.0.0.0", "[::]"]
    {
        let cause = cause_of(&client, format!("http://{host}:{port}/")).await;
        let is_refused =
            matches!(cause, FetchError::ForbiddenAddress(_) | FetchError::UnknownHost | FetchError::CircuitOpen);
        assert!(is_refused, "{host}: {cause}");
    }
    assert_eq!((server.connections(), server.seen().len()), (0, 0));
}

#[tokio::test]
async fn threat_23_redirect_to_a_private_target_is_not_followed() {
    let inside = Server::start(|_, _| document("secret")).await;
    let outside = {
        let location = inside.url.replace("127.0.0.1", "127.0.0.2");
        Server::start(move |_, _| redirect(&location)).await
    };
    // Only the first hop is allowed.
    let net = "127.0.0.1/32".parse().expect("test network is good");
    let guard = Guard { allowed_targets: vec![net], ..Guard::default() };
    let client = Client::new(ClientConfig { guard, ..ClientConfig::default() });
    let cause = cause_of(&client, outside.at("/")).await;
    assert_eq!(cause, FetchError::ForbiddenAddress(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2))));
    assert_eq!((outside.seen().len(), inside.connections()), (1, 0));
}

/// A name server that gives each of these once, and the last from then on.
struct Changing {
    answers: Vec<Vec<IpAddr>>,
    asked: AtomicUsize,
    port: AtomicU16,
}

impl Changing {
    fn new(answers: Vec<Vec<IpAddr>>, server: &Server) -> Arc<Self> {
        let port = server.url.rsplit(':').next().and_then(|port| port.parse().ok()).expect("the url has a port");
        Arc::new(Self { answers, asked: AtomicUsize::new(0), port: AtomicU16::new(port) })
    }
}

impl Resolve for Changing {
    fn resolve(&self, _: String, _: u16) -> Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>> {
        let at = self.asked.fetch_add(1, Ordering::Relaxed).min(self.answers.len() - 1);
        let port = self.port.load(Ordering::Relaxed);
        let answer = self.answers[at].iter().map(|ip| SocketAddr::new(*ip, port)).collect();
        Box::pin(async move { Ok(answer) })
    }
}

#[tokio::test]
async fn threat_23_name_with_one_private_address_is_not_connected_to() {
    let server = Server::start(|_, _| document("<Response/>")).await;
    let public: IpAddr = "8.8.8.8".parse().expect("test address is good");
    let resolver = Changing::new(vec![vec![public, LOOPBACK]], &server);
    let client = Client::with_resolver(ClientConfig::default(), resolver);
    assert_eq!(cause_of(&client, "http://rebind.example/".into()).await, FetchError::ForbiddenAddress(LOOPBACK));
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn threat_23_name_is_resolved_once_for_a_connection() {
    let server = Server::start(|_, _| document("<Response/>")).await;
    let allowed: IpAddr = LOOPBACK;
    let other: IpAddr = "127.0.0.2".parse().expect("test address is good");
    let resolver = Changing::new(vec![vec![allowed], vec![other]], &server);
    let net = "127.0.0.1/32".parse().expect("test network is good");
    let config =
        ClientConfig { guard: Guard { allowed_targets: vec![net], ..Guard::default() }, ..ClientConfig::default() };
    let client = Client::with_resolver(config, resolver.clone());
    client.fetch(post("http://rebind.example/".into(), &[])).await.expect("the first answer is allowed");
    assert_eq!(resolver.asked.load(Ordering::Relaxed), 1);
    // Another connection is another judgement.
    let cause = cause_of(&client, "http://other.example/".into()).await;
    assert_eq!(cause, FetchError::ForbiddenAddress(other));
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn unknown_host_has_its_number() {
    let server = Server::start(|_, _| document("")).await;
    let client = Client::with_resolver(ClientConfig::default(), Changing::new(vec![vec![]], &server));
    let failure = client.fetch(post("http://nowhere.example/".into(), &[])).await.expect_err("it has no address");
    assert_eq!((failure.cause, failure.code()), (FetchError::UnknownHost, 11210));
    let failure = client.fetch(post("mailto:a@b".into(), &[])).await.expect_err("it is no http url");
    assert_eq!((failure.cause, failure.code()), (FetchError::InvalidUrl, 11100));
}

#[tokio::test]
async fn tls_to_what_is_no_tls_has_its_number() {
    let server = Server::start(|_, _| document("")).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("the loopback has a free port");
    let address = listener.local_addr().expect("a bound socket has an address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    let failure = client().fetch(post(format!("https://{address}/"), &[])).await.expect_err("it speaks no tls");
    assert_eq!((failure.cause, failure.code()), (FetchError::TlsFailed, 11220));
    drop(server);
}
