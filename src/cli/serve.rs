//! `dialtone serve`: runs a server until it is told to stop.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use super::Logging;
use crate::cluster::{JoinToken, Role};
use crate::config::Config;
use crate::keeper;
use crate::server::{Join, Seat, Server, machine_name, run_worker};

#[derive(Args)]
pub struct Serve {
    /// The configuration file; SIGHUP reads it again
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// What this machine does: edge (calls), or worker (media, for an edge elsewhere)
    #[arg(long, value_parser = super::cluster::role, default_value = "edge", requires_if("worker", "join"))]
    role: Role,
    /// The edge whose cluster this machine joins: where its [cluster] listen is
    #[arg(long, value_name = "IP:PORT")]
    join: Option<SocketAddr>,
    /// What this machine is called in its cluster
    #[arg(long, value_name = "NAME", default_value_t = machine_name())]
    name: String,
    /// What `dialtone cluster join-token` has printed; needed until this machine has a certificate
    #[arg(long, value_name = "TOKEN", env = "DIALTONE_JOIN_TOKEN", hide_env_values = true)]
    token: Option<String>,
    #[command(flatten)]
    logging: Logging,
}

impl Serve {
    pub(super) fn run(self) -> Result<ExitCode, String> {
        let config = match self.role {
            Role::Edge => Config::load(&self.config),
            Role::Worker => Config::load_for_worker(&self.config),
        };
        let config = config.map_err(|error| error.to_string())?;
        let token =
            self.token.as_deref().map(str::parse::<JoinToken>).transpose().map_err(|error| error.to_string())?;
        let is_child = std::env::var_os(keeper::ENVIRONMENT).is_some();
        match self.role {
            _ if !is_child && config.media.workers > 0 => return self.keep(&config),
            Role::Worker => {
                let join = self.join.ok_or("--role worker needs --join: the edge's [cluster] listen, IP:PORT")?;
                return self.work(config, Some(Join { edge: join, token }));
            }
            Role::Edge if keeper::part().is_some_and(|part| part.is_worker) => return self.work(config, None),
            Role::Edge => {}
        }
        let seat = Seat { name: self.name, join: self.join.map(|edge| Join { edge, token }) };
        run(config, &self.config, self.logging, false, seat, |server| {
            for listen in server.listening() {
                tracing::info!("SIP {}://{}", listen.transport, listen.bind);
            }
            tracing::info!("HTTP {}", server.http_url());
        })
    }
}

impl Serve {
    /// The parent of the edge and its workers.
    fn keep(&self, config: &Config) -> Result<ExitCode, String> {
        self.logging.start(config)?;
        keeper::run(keeper::Plan {
            arguments: std::env::args_os().skip(1).collect(),
            has_edge: self.role == Role::Edge,
            workers: config.media.workers,
            ports: config.media.ports.clone(),
            memory: dialtone_media::worker::Memory::bytes_for,
            patience: config.server.drain_timeout,
        })
    }

    /// One of its workers.
    fn work(&self, config: Config, join: Option<Join>) -> Result<ExitCode, String> {
        self.logging.start(&config)?;
        let part = keeper::part().ok_or("a media worker needs its keeper: [media] workers is 0")?;
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())?;
        runtime.block_on(async {
            // The terminal interrupts all processes at once: what that means is for the keeper to say.
            let mut ignored = (
                signal(SignalKind::interrupt()).map_err(|error| error.to_string())?,
                signal(SignalKind::terminate()).map_err(|error| error.to_string())?,
                signal(SignalKind::hangup()).map_err(|error| error.to_string())?,
            );
            let ignoring = async {
                loop {
                    tokio::select! {
                        _ = ignored.0.recv() => {}
                        _ = ignored.1.recv() => {}
                        _ = ignored.2.recv() => {}
                    }
                }
            };
            let channel = keeper::inherited().ok_or("there is no keeper")?.map_err(|error| error.to_string())?;
            tokio::select! {
                ended = run_worker(config, &self.name, part.process, join, channel) => ended,
                () = ignoring => Ok(ExitCode::SUCCESS),
            }
        })
    }
}

/// Runs a server: `ready` is told when everything listens. SIGHUP reloads `path`; SIGTERM and SIGINT drain, a second one
/// ends at once.
pub(super) fn run(
    config: Config,
    path: &Path,
    logging: Logging,
    demo: bool,
    seat: Seat,
    ready: impl FnOnce(&Server),
) -> Result<ExitCode, String> {
    let log_level = logging.start(&config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    runtime.block_on(async {
        let signals = |kind| signal(kind).map_err(|error| format!("cannot take signals: {error}"));
        let (mut hangup, mut terminate, mut interrupt) =
            (signals(SignalKind::hangup())?, signals(SignalKind::terminate())?, signals(SignalKind::interrupt())?);
        let mut server = Server::start(config, Some(log_level), demo, seat).await.map_err(|error| error.to_string())?;
        ready(&server);
        loop {
            tokio::select! {
                _ = hangup.recv() => {
                    server.reload(Config::load(path), logging.log_level.as_deref()).await;
                }
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
            }
        }
        let (hurry, hurried) = oneshot::channel();
        let again = async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            let _ = hurry.send(());
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = server.drain_and_stop(hurried) => {}
            () = again => {}
        }
        Ok(ExitCode::SUCCESS)
    })
}
