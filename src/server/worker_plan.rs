//! Where an edge's media is moved: in its own process, or by workers that link to it.

use std::net::SocketAddr;
use std::time::Duration;

use dialtone_media::worker;

use super::cluster::Papers;
use super::{CLIP_BYTES, MAX_CALLS, PATIENCE, StartError, random_seed, worker_process};
use crate::config::{Config, Latching};
use crate::keeper::{self, Listeners};
use crate::workers::{Listening, Workers};

/// A token for the workers of this machine is never written down, and holds as long as their keeper lives.
const FOR_EVER: u64 = u64::MAX;

/// Where an edge's media is moved.
pub(super) enum WorkerPlan {
    Here(worker::Config),
    Linked(Box<LinkedPlan>),
}

pub(super) struct LinkedPlan {
    socket: std::net::UdpSocket,
    papers: Papers,
    node: String,
    epoch: u64,
    edges: Option<tokio::sync::mpsc::Sender<(String, quinn::Connection)>>,
    patience: Duration,
    keeper: Option<keeper::Sender>,
}

impl WorkerPlan {
    /// `edges`: where other edges that link to this one are handed on.
    pub(super) fn of(
        config: &Config,
        listeners: &Listeners,
        papers: Option<Papers>,
        node: &str,
        epoch: u64,
        edges: Option<tokio::sync::mpsc::Sender<(String, quinn::Connection)>>,
    ) -> Result<WorkerPlan, StartError> {
        let Some(papers) = papers else { return Ok(WorkerPlan::Here(worker_config(config))) };
        let any_port = SocketAddr::from((std::net::Ipv4Addr::LOCALHOST, 0));
        let address = config.cluster.as_ref().map_or(any_port, |cluster| cluster.listen);
        let socket = std::net::UdpSocket::bind(address)
            .map_err(|error| StartError::Listen { what: format!("[cluster] {address}"), error })?;
        let keeper = listeners.keeper().map_err(StartError::Keeper)?;
        let patience = config.media.worker_timeout;
        let node = node.to_owned();
        Ok(WorkerPlan::Linked(Box::new(LinkedPlan { socket, papers, node, epoch, edges, patience, keeper })))
    }

    /// Call inside the shard's runtime.
    pub(super) async fn start(self) -> Result<Workers, StartError> {
        match self {
            WorkerPlan::Here(media) => Workers::here(media).map_err(StartError::Worker),
            WorkerPlan::Linked(plan) => plan.start().await,
        }
    }
}

impl LinkedPlan {
    async fn start(self) -> Result<Workers, StartError> {
        let LinkedPlan { socket, papers, node, epoch, edges, patience, keeper } = self;
        let (identity, admission) = papers.admission()?;
        let token = admission.worker_token(FOR_EVER);
        let listening = Listening { socket, identity, node, epoch, admission, edges, patience };
        let mut workers = Workers::linked(listening, random_seed()).map_err(StartError::Cluster)?;
        let address = workers.address();
        if let (Some(keeper), Some(mut address)) = (keeper, address) {
            if address.ip().is_unspecified() {
                address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
            }
            worker_process::announce(&keeper, address, &token).map_err(StartError::Keeper)?;
            if !workers.settled(PATIENCE).await {
                return Err(StartError::NoWorker);
            }
        }
        Ok(workers)
    }
}

pub(super) fn worker_config(config: &Config) -> worker::Config {
    worker::Config {
        address: config.media.address,
        advertise: config.media.advertise,
        ports: config.media.ports.clone(),
        kept_sockets: keeper::raise_open_files() / 4,
        latching: match config.media.latching {
            Latching::Off => worker::Latching::Off,
            Latching::Nat => worker::Latching::Nat,
        },
        clip_cache_bytes: CLIP_BYTES,
        max_sessions: MAX_CALLS,
        recordings: config.recordings.folder.clone(),
        memory: None,
        frames: None,
        seed: u64::from_be_bytes(random_seed()[..8].try_into().expect("eight of thirty-two bytes")),
    }
}
