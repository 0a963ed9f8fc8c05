//! Who is admitted and who is believed, over real connections on loopback.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use quinn::Endpoint;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};

use super::*;

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("dialtone-cluster-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

const LATE: u64 = u64::MAX;

/// An edge that admits and does nothing else.
fn edge(authority: Authority) -> (Endpoint, SocketAddr) {
    let identity = authority.identity(Role::Edge, "e").unwrap();
    let tls = QuicServerConfig::try_from(identity.server_config(&[b"x", join::ALPN]).unwrap()).unwrap();
    let endpoint =
        Endpoint::server(quinn::ServerConfig::with_crypto(Arc::new(tls)), (Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let address = endpoint.local_addr().unwrap();
    let accepting = endpoint.clone();
    tokio::spawn(async move {
        let admission = Arc::new(Admission::Own(Box::new(authority)));
        while let Some(incoming) = accepting.accept().await {
            let admission = admission.clone();
            tokio::spawn(async move {
                if let Ok(connection) = incoming.await {
                    admit(connection, &admission).await;
                }
            });
        }
    });
    (endpoint, address)
}

fn client() -> Endpoint {
    Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).unwrap()
}

#[test]
fn authority_is_made_once_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new("init");
    Authority::init(&folder.0).unwrap();
    for file in std::fs::read_dir(&folder.0).unwrap() {
        assert_eq!(file.unwrap().metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
    assert!(matches!(Authority::init(&folder.0), Err(ClusterError::Exists(_))));
    let (first, again) = (Authority::load(&folder.0).unwrap(), Authority::load(&folder.0).unwrap());
    assert_eq!(first.certificate(), again.certificate());
    let empty = Folder::new("empty");
    assert!(matches!(Authority::load(&empty.0), Err(ClusterError::Missing(_))));
}

#[test]
fn token_is_read_back_and_holds_for_its_cluster_role_and_time() {
    let (here, elsewhere) = (Folder::new("token"), Folder::new("token-elsewhere"));
    let (authority, other) = (Authority::init(&here.0).unwrap(), Authority::init(&elsewhere.0).unwrap());
    let token = authority.token(Some(Role::Worker), 1000);
    let read: JoinToken = token.to_string().parse().unwrap();
    assert!(read == token);
    assert!(authority.accepts(&read, Role::Worker, 999));
    assert!(!authority.accepts(&read, Role::Worker, 1000), "its time is over");
    assert!(!authority.accepts(&read, Role::Edge, 999), "another role");
    assert!(!other.accepts(&read, Role::Worker, 999), "another cluster");
    let text = token.to_string();
    // The one sealed byte that says when it expires.
    let forged = text.replacen(&text[50..52], if &text[50..52] == "zz" { "yy" } else { "zz" }, 1);
    assert!(forged.parse().is_ok_and(|forged: JoinToken| !authority.accepts(&forged, Role::Worker, 0)));
    for text in ["", "dtj1.", "dtj1.AAAA", &text[1..], &text[..text.len() - 2]] {
        assert_eq!(text.parse::<JoinToken>(), Err(TokenError), "{text}");
    }
    assert_eq!(format!("{token:?}"), "JoinToken(..)", "it is a secret");
}

#[tokio::test]
async fn machine_joins_once_and_is_who_its_certificate_says() {
    let (here, home) = (Folder::new("join"), Folder::new("join-home"));
    let authority = Authority::init(&here.0).unwrap();
    let token = authority.token(None, LATE);
    let (_edge, address) = edge(authority);
    let file = home.0.join("node.pem");
    let client = client();
    let identity = join_cluster(&client, address, Some(&token), Role::Worker, "media-7", &file).await.unwrap();
    assert_eq!(identity.peer(), Some(Peer { role: Role::Worker, name: "media-7".into() }));
    let kept = join_cluster(&client, address, None, Role::Worker, "media-7", &file).await.unwrap();
    assert_eq!(kept.peer(), identity.peer(), "without a token from now on");
    let other = join_cluster(&client, address, None, Role::Worker, "media-8", &file).await;
    assert!(matches!(other, Err(ClusterError::Refused(_))), "another name wants another certificate");
}

#[tokio::test]
async fn stranger_is_not_admitted_and_no_worker_passes_for_an_edge() {
    let (here, elsewhere, home) = (Folder::new("refuse"), Folder::new("refuse-other"), Folder::new("refuse-home"));
    let (authority, other) = (Authority::init(&here.0).unwrap(), Authority::init(&elsewhere.0).unwrap());
    let expired = authority.token(None, 1);
    let worker = authority.identity(Role::Worker, "w").unwrap();
    let (_edge, address) = edge(authority);
    let client = client();
    let file = home.0.join("node.pem");
    let joined = join_cluster(&client, address, Some(&expired), Role::Worker, "m", &file).await;
    assert!(matches!(joined, Err(ClusterError::Refused(text)) if text.contains("expired")));
    // The edge of another cluster is not believed, though it would take anything.
    let joined = join_cluster(&client, address, Some(&other.token(None, LATE)), Role::Worker, "m", &file).await;
    assert!(matches!(joined, Err(ClusterError::Unreachable(_))));
    assert!(!file.exists());
    // A worker that listens as an edge is not spoken to.
    let tls = QuicServerConfig::try_from(worker.server_config(&[b"x"]).unwrap()).unwrap();
    let posing =
        Endpoint::server(quinn::ServerConfig::with_crypto(Arc::new(tls)), (Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let accepting = posing.clone();
    tokio::spawn(async move { accepting.accept().await.unwrap().await });
    let config = QuicClientConfig::try_from(worker.client_config(b"x").unwrap()).unwrap();
    let config = quinn::ClientConfig::new(Arc::new(config));
    let dialled = client.connect_with(config, posing.local_addr().unwrap(), EDGE_NAME).unwrap().await;
    assert!(dialled.is_err());
}
