//! How a machine gets its certificate: it shows a token and a public key, and is told its certificate or why not.

use std::fs::{self, File, OpenOptions};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prost::Message;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{Connection, Endpoint};
use rcgen::{KeyPair, PublicKeyData};
use rustls::pki_types::CertificateDer;

use super::identity::{EDGE_NAME, Identity, Peer, is_name, joining_config, peer_of};
use super::token::TokenKey;
use super::{Authority, ClusterError, JoinToken, Role};

/// The protocol's name in TLS.
pub const ALPN: &[u8] = b"dialtone-join/1";
const MAX_MESSAGE: usize = 8192;
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Clone, PartialEq, Message)]
struct Request {
    #[prost(string, tag = "1")]
    token: String,
    #[prost(string, tag = "2")]
    role: String,
    #[prost(string, tag = "3")]
    name: String,
    /// A P-256 point.
    #[prost(bytes = "vec", tag = "4")]
    public_key: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct Response {
    /// Empty where the answer is no.
    #[prost(bytes = "vec", tag = "1")]
    certificate: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    authority: Vec<u8>,
    /// For a person: why not.
    #[prost(string, tag = "3")]
    refusal: String,
}

/// The identity that a file holds, or else one that the edge at that address gives for the token; that is kept in the file.
pub async fn join(
    endpoint: &Endpoint,
    edge: SocketAddr,
    token: Option<&JoinToken>,
    role: Role,
    name: &str,
    file: &Path,
) -> Result<Identity, ClusterError> {
    let kept = || -> Result<Option<Identity>, ClusterError> {
        Ok(Identity::load(file)?.filter(|kept| {
            let is_this = kept.peer().is_some_and(|peer| peer.role == role && peer.name == name);
            is_this && token.is_none_or(|token| kept.is_of(token))
        }))
    };
    if let Some(kept) = kept()? {
        return Ok(kept);
    }
    // A machine has one certificate: of its processes that start together one asks, and the others find the answer.
    let _asking = lock(&file.with_extension("lock"))?;
    if let Some(kept) = kept()? {
        return Ok(kept);
    }
    let token = token.ok_or_else(|| {
        ClusterError::Refused("this machine has no certificate of a cluster yet: give --token once".into())
    })?;
    let asked = tokio::time::timeout(PATIENCE, ask(endpoint, edge, token, role, name)).await;
    let identity = asked.map_err(|_| ClusterError::Unreachable(format!("the edge at {edge} does not answer")))??;
    identity.save(file)?;
    Ok(identity)
}

/// Held as long as the file is open; whoever comes second waits, as a start may.
fn lock(path: &Path) -> Result<File, ClusterError> {
    let locked = || {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path)?;
        file.lock()?;
        Ok(file)
    };
    locked().map_err(|error| ClusterError::File(path.to_owned(), error))
}

async fn ask(
    endpoint: &Endpoint,
    edge: SocketAddr,
    token: &JoinToken,
    role: Role,
    name: &str,
) -> Result<Identity, ClusterError> {
    let unreachable = |error: &dyn std::fmt::Display| {
        ClusterError::Unreachable(format!(
            "the edge at {edge} cannot be reached, or is not of this token's cluster: {error}"
        ))
    };
    let tls = QuicClientConfig::try_from(joining_config(token, ALPN)?).map_err(|error| unreachable(&error))?;
    let config = quinn::ClientConfig::new(Arc::new(tls));
    let connecting = endpoint.connect_with(config, edge, EDGE_NAME).map_err(|error| unreachable(&error))?;
    let connection = connecting.await.map_err(|error| unreachable(&error))?;
    let key = KeyPair::generate()?;
    let request = Request {
        token: token.to_string(),
        role: role.name().into(),
        name: name.into(),
        public_key: key.der_bytes().to_vec(),
    };
    let response = exchange(&connection, &request).await.map_err(|error| unreachable(&error))?;
    if !response.refusal.is_empty() {
        return Err(ClusterError::Refused(format!(
            "the edge at {edge} does not admit this machine: {}",
            response.refusal
        )));
    }
    let authority = CertificateDer::from(response.authority);
    if !token.is_from(&authority) {
        return Err(unreachable(&"it speaks for another authority"));
    }
    Ok(Identity::new(CertificateDer::from(response.certificate), authority, key.serialize_pem()))
}

async fn exchange(
    connection: &Connection,
    request: &Request,
) -> Result<Response, Box<dyn std::error::Error + Send + Sync>> {
    let (mut send, mut receive) = connection.open_bi().await?;
    send.write_all(&request.encode_to_vec()).await?;
    send.finish()?;
    let response = receive.read_to_end(MAX_MESSAGE).await?;
    connection.close(0u32.into(), b"");
    Ok(Response::decode(response.as_slice())?)
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Who says at an edge who may join.
pub enum Admission {
    /// The edge itself, which holds the cluster's authority.
    Own(Box<Authority>),
    /// The edge that this one has joined itself, for which it vouches: for the workers of its own machine, and whoever has a
    /// token of the authority.
    Through(Box<Through>),
}

/// The way to the authority from an edge that does not hold it.
pub struct Through {
    identity: Identity,
    edge: SocketAddr,
    endpoint: Endpoint,
    /// Of tokens that only this edge accepts.
    key: TokenKey,
}

impl Through {
    /// `edge` is where the cluster's authority is; call inside the runtime that is to speak with it.
    pub fn new(identity: Identity, edge: SocketAddr, endpoint: Endpoint) -> Through {
        Through { identity, edge, endpoint, key: TokenKey::generate() }
    }

    async fn ask(&self, request: Request) -> Result<Response, ClusterError> {
        let failed = |error: &dyn std::fmt::Display| ClusterError::Unreachable(error.to_string());
        let tls = QuicClientConfig::try_from(self.identity.client_config(ALPN)?).map_err(|error| failed(&error))?;
        let config = quinn::ClientConfig::new(Arc::new(tls));
        let connecting = self.endpoint.connect_with(config, self.edge, EDGE_NAME).map_err(|error| failed(&error))?;
        let connection = connecting.await.map_err(|error| failed(&error))?;
        exchange(&connection, &request).await.map_err(|error| failed(&error))
    }
}

impl Admission {
    /// A token for the workers of this machine.
    pub fn worker_token(&self, expires: u64) -> JoinToken {
        match self {
            Admission::Own(authority) => authority.token(Some(Role::Worker), expires),
            Admission::Through(through) => {
                JoinToken::new(&through.key, through.identity.authority(), Some(Role::Worker), expires)
            }
        }
    }

    async fn answer(&self, request: &[u8], from: Option<Peer>) -> Response {
        let refused = |refusal: String| Response { refusal, ..Response::default() };
        match self {
            Admission::Own(authority) => match certify(request, authority, from) {
                Ok((peer, certificate)) => {
                    tracing::info!(node = peer, "a machine joined the cluster");
                    let authority = authority.certificate().to_vec();
                    Response { certificate: certificate.to_vec(), authority, refusal: String::new() }
                }
                Err(refusal) => refused(refusal.into()),
            },
            Admission::Through(through) => {
                let Ok(mut request) = Request::decode(request) else { return refused(MALFORMED.into()) };
                let token = request.token.parse::<JoinToken>();
                if token.is_ok_and(|token| token.is_of(&through.key) && token.admits(Role::Worker, now_s())) {
                    // We vouch for it.
                    request.token.clear();
                }
                through.ask(request).await.unwrap_or_else(|error| {
                    refused(format!("the edge with the cluster's authority cannot be asked: {error}"))
                })
            }
        }
    }
}

/// An edge's side: answers one request to join.
pub async fn admit(connection: Connection, admission: &Admission) {
    let answer = async {
        let (mut send, mut receive) = connection.accept_bi().await.ok()?;
        let request = receive.read_to_end(MAX_MESSAGE).await.ok()?;
        let response = admission.answer(&request, peer(&connection)).await;
        if !response.refusal.is_empty() {
            let (from, refusal) = (connection.remote_address(), &response.refusal);
            tracing::warn!(%from, refusal, "a machine may not join the cluster");
        }
        send.write_all(&response.encode_to_vec()).await.ok()?;
        send.finish().ok()?;
        // Until the answer is there.
        connection.closed().await;
        Some(())
    };
    let _ = tokio::time::timeout(PATIENCE, answer).await;
}

/// Who is at the other end, by the certificate that TLS has checked.
pub fn peer(connection: &Connection) -> Option<Peer> {
    peer_of(&certificate(connection)?)
}

/// Whether both have shown the same certificate: a machine keeps the one that it was given when it joined.
pub fn are_one_machine(one: &Connection, other: &Connection) -> bool {
    certificate(one).is_some_and(|shown| certificate(other) == Some(shown))
}

fn certificate(connection: &Connection) -> Option<CertificateDer<'static>> {
    let chain = connection.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    chain.into_iter().next()
}

const MALFORMED: &str = "the request is malformed";

fn certify(
    request: &[u8],
    authority: &Authority,
    from: Option<Peer>,
) -> Result<(String, CertificateDer<'static>), &'static str> {
    let Request { token, role, name, public_key } = Request::decode(request).map_err(|_| MALFORMED)?;
    let role = Role::named(&role).ok_or("its role is unknown here")?;
    // An edge of the cluster vouches for its own workers.
    let is_vouched_for = token.is_empty() && role == Role::Worker && from.is_some_and(|from| from.role == Role::Edge);
    if !is_vouched_for {
        let token: JoinToken = token.parse().map_err(|_| "its token is none")?;
        if !authority.accepts(&token, role, now_s()) {
            return Err(
                "its token is of another cluster, is for another role, or has expired; make a new one with `dialtone cluster join-token`",
            );
        }
    }
    if !is_name(&name) {
        return Err("its name is not 1 to 63 letters, digits, dots, dashes and underscores");
    }
    // An uncompressed point.
    if public_key.len() != 65 || public_key[0] != 4 {
        return Err("its key is no P-256 key");
    }
    let certificate = authority.certify(role, &name, &public_key).map_err(|_| "no certificate can be made")?;
    Ok((format!("{}/{name}", role.name()), certificate))
}
