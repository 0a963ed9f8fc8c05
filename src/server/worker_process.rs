//! A media worker as a process: its keeper gives it its place, its edges give it sessions.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dialtone_media::proto::link::{self, Edges, TookOver};
use dialtone_media::worker::Memory;
use dialtone_media::worker::link::{About, Driver, Node, endpoint, transport};
use quinn::Endpoint;
use quinn::crypto::rustls::QuicClientConfig;

use super::worker_plan::worker_config;
use crate::cluster::{ClusterError, EDGE_NAME, Identity, JoinToken, Role, join_cluster};
use crate::config::Config;
use crate::keeper::{Channel, FromChild, KeptSockets, Sender, ToChild};

/// Where a worker finds its edge.
#[derive(Clone, Debug)]
pub struct Join {
    pub edge: SocketAddr,
    /// Needed until this machine has a certificate.
    pub token: Option<JoinToken>,
}

/// Runs until the keeper ends, or the last session of a worker that is to drain.
pub async fn run(
    config: Config,
    name: &str,
    process: u32,
    join: Option<Join>,
    keeper: Channel,
) -> Result<ExitCode, String> {
    let frames = UdpSocket::bind((config.media.address, 0))
        .map_err(|error| format!("cannot listen for other workers on {}: {error}", config.media.address))?;
    let frames_port = frames.local_addr().map_err(|error| error.to_string())?.port();
    let about = About {
        build: env!("CARGO_PKG_VERSION").to_owned(),
        process,
        media_address: config.media.advertise.to_string(),
        frames_address: SocketAddr::new(config.media.advertise, frames_port).to_string(),
    };
    let frames = Arc::new(frames);
    let node = Node::new(about);
    let mut worker = Worker {
        config,
        name: name.to_owned(),
        frames,
        node: node.clone(),
        keeper: keeper.sender().map_err(|e| e.to_string())?,
        home: None,
        others: HashMap::new(),
    };
    if let Some(join) = join {
        worker.set_home(join);
    }
    let mut known = Edges::default();
    let mut inheriting: Option<Inheriting> = None;
    let patience = worker.config.server.drain_timeout;
    let drained = node.drained(patience);
    tokio::pin!(drained);
    loop {
        let message = tokio::select! {
            message = keeper.receive::<ToChild>() => message.map_err(|error| format!("the keeper cannot be heard: {error}"))?,
            () = &mut drained => {
                worker.part().await;
                return Ok(ExitCode::SUCCESS);
            }
            edges = node.other_edges(&known) => {
                worker.set_others(&edges);
                known = edges;
                continue;
            }
        };
        match message {
            // Whoever has no keeper is nobody's worker.
            None => return Ok(ExitCode::SUCCESS),
            Some((ToChild::EdgeAt { address, token }, _)) => {
                let token = token.parse().map_err(|error: crate::cluster::TokenError| error.to_string())?;
                worker.set_home(Join { edge: address, token: Some(token) });
            }
            Some((ToChild::Work { ports }, mut beside)) => {
                let memory = beside.pop().ok_or("the keeper sent no memory")?;
                worker.start(ports, memory, HashMap::new(), None)?;
            }
            Some((ToChild::TakeOver { process, ports, sockets }, mut beside)) => {
                let memory = beside.pop().ok_or("the keeper sent no memory")?;
                inheriting = Some(Inheriting { process, ports, awaited: sockets, memory, sockets: HashMap::new() });
            }
            Some((ToChild::Sockets { ports }, sockets)) => {
                if let Some(inheriting) = &mut inheriting {
                    inheriting.sockets.extend(ports.into_iter().zip(sockets));
                }
            }
            Some((ToChild::Drain, _)) => node.drain(),
            Some((message, _)) => tracing::error!(?message, "the keeper sent what is not for a worker"),
        }
        if inheriting.as_ref().is_some_and(|inheriting| inheriting.sockets.len() >= inheriting.awaited)
            && let Some(Inheriting { process, ports, memory, sockets, .. }) = inheriting.take()
        {
            worker.start(ports, memory, sockets, Some(process))?;
        }
    }
}

/// What comes from a worker that died, until all of it is there.
struct Inheriting {
    process: u32,
    ports: (u16, u16),
    awaited: usize,
    memory: OwnedFd,
    sockets: HashMap<u16, OwnedFd>,
}

struct Worker {
    config: Config,
    /// Of this machine.
    name: String,
    frames: Arc<UdpSocket>,
    node: Node,
    keeper: Sender,
    /// The link to the edge that it was told of first.
    home: Option<Dialling>,
    /// Those to the other edges of the cluster, of which that one tells.
    others: HashMap<SocketAddr, Dialling>,
}

/// A link that is kept up as long as this lives.
struct Dialling {
    task: tokio::task::JoinHandle<()>,
    up: Arc<Up>,
}

#[derive(Default)]
struct Up {
    /// The connection, to end it for all who have a part of it.
    connection: Mutex<Option<quinn::Connection>>,
    /// The node that the edge is, as it has said.
    edge: Mutex<Option<String>>,
}

impl Drop for Dialling {
    fn drop(&mut self) {
        self.task.abort();
        if let Some(before) = lock(&self.up.connection).take() {
            before.close(0u32.into(), b"linked elsewhere");
        }
    }
}

impl Worker {
    /// From now on it has sessions, in the place of that process if there was one.
    fn start(
        &self,
        ports: (u16, u16),
        memory: OwnedFd,
        sockets: HashMap<u16, OwnedFd>,
        took_over: Option<u32>,
    ) -> Result<(), String> {
        let failed = |error: std::io::Error| format!("cannot start the media worker: {error}");
        let range = ports.0..=ports.1;
        let memory = Memory::map(&memory, range.clone()).map_err(failed)?;
        let took_over = took_over.map(|process| TookOver { process, suspect: memory.working_for() });
        memory.set_working_for(0);
        let keeper = self.keeper.try_clone().map_err(failed)?;
        let config = dialtone_media::worker::Config {
            ports: range,
            memory: Some(memory),
            frames: Some(Arc::clone(&self.frames)),
            ..worker_config(&self.config)
        };
        let sockets = Box::new(KeptSockets::new(keeper, sockets));
        let shard = Driver::start(config, sockets, self.node.events()).map_err(failed)?;
        self.node.start(shard.clone(), took_over);
        tokio::spawn(async move {
            tokio::time::sleep(INHERITANCE).await;
            let _ = shard.forget_inherited();
        });
        Ok(())
    }

    /// Its edge is there from now on; what was linked to before is left.
    fn set_home(&mut self, join: Join) {
        self.home = None;
        self.home = Some(self.dial(join));
    }

    /// The edges of the cluster are these: one link to each.
    fn set_others(&mut self, edges: &Edges) {
        let Some(home) = self.home.as_ref().and_then(|home| lock(&home.up.edge).clone()) else { return };
        let others = edges.edges.iter().filter(|edge| edge.node != home);
        let addresses = others.filter_map(|edge| edge.address.parse::<SocketAddr>().ok());
        let mut before = std::mem::take(&mut self.others);
        for edge in addresses {
            let dialling = before.remove(&edge).unwrap_or_else(|| self.dial(Join { edge, token: None }));
            self.others.insert(edge, dialling);
        }
    }

    /// Takes leave of all edges: they give what still runs to others at once.
    async fn part(&mut self) {
        self.home = None;
        self.others.clear();
        tokio::time::sleep(SAID_IN).await;
    }

    /// Links to an edge, and again whenever the link is lost.
    fn dial(&self, join: Join) -> Dialling {
        let own = Arc::new(Up::default());
        let up = Arc::clone(&own);
        let (node, name, file) = (self.node.clone(), self.name.clone(), identity_file(&self.config));
        let task = tokio::spawn(async move {
            let mut told = false;
            loop {
                let error = match link_to(&node, &name, &join, &file, &up).await {
                    Ok(lost) => {
                        told = false;
                        lost
                    }
                    Err(error) => error.to_string(),
                };
                // Once is enough: it is tried again and again.
                if !std::mem::replace(&mut told, true) {
                    tracing::warn!(edge = %join.edge, error, "not linked to the edge; trying again");
                }
                tokio::time::sleep(AGAIN).await;
            }
        });
        Dialling { task, up: own }
    }
}

/// Speaks with the edge until the link is lost, and says why it was.
async fn link_to(
    node: &Node,
    name: &str,
    join: &Join,
    file: &std::path::Path,
    up: &Up,
) -> Result<String, ClusterError> {
    let any: IpAddr = if join.edge.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let unreachable = |error: &dyn std::fmt::Display| ClusterError::Unreachable(error.to_string());
    let socket = UdpSocket::bind((any, 0)).map_err(|error| unreachable(&error))?;
    let endpoint: Endpoint = endpoint(socket, None).map_err(|error| unreachable(&error))?;
    let identity = join_cluster(&endpoint, join.edge, join.token.as_ref(), Role::Worker, name, file).await?;
    let config = client_config(&identity)?;
    let connecting = endpoint.connect_with(config, join.edge, EDGE_NAME).map_err(|error| unreachable(&error))?;
    let connection = connecting.await.map_err(|error| unreachable(&error))?;
    tracing::info!(edge = %join.edge, "linked to an edge");
    *lock(&up.connection) = Some(connection.clone());
    let welcomed = |edge: &str| *lock(&up.edge) = Some(edge.to_owned());
    Ok(node.serve(connection, welcomed).await.to_string())
}

fn client_config(identity: &Identity) -> Result<quinn::ClientConfig, ClusterError> {
    let tls = QuicClientConfig::try_from(identity.client_config(link::ALPN)?)
        .map_err(|error| rustls::Error::General(error.to_string()))?;
    let mut config = quinn::ClientConfig::new(Arc::new(tls));
    config.transport_config(Arc::new(transport()));
    Ok(config)
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

fn identity_file(config: &Config) -> PathBuf {
    config.store.folder.join("worker.pem")
}

/// What this machine is called in its cluster.
pub fn machine_name() -> String {
    let system = rustix::system::uname();
    let name: String = system
        .nodename()
        .to_string_lossy()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_') { c } else { '-' })
        .take(48)
        .collect();
    if name.is_empty() { "node".to_owned() } else { name }
}

/// What nobody has taken up of what was inherited by then is closed.
const INHERITANCE: Duration = Duration::from_secs(60);
const AGAIN: Duration = Duration::from_millis(200);
/// A goodbye is on its way by then.
const SAID_IN: Duration = Duration::from_millis(50);

/// Tells the keeper where this edge listens for workers.
pub(super) fn announce(keeper: &Sender, address: SocketAddr, token: &JoinToken) -> std::io::Result<()> {
    keeper.send(&FromChild::EdgeAt { address, token: token.to_string() }, &[])
}
