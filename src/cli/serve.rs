//! `dialtone serve`: runs a server until it is told to stop.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use super::Logging;
use crate::config::Config;
use crate::server::Server;
use crate::telemetry;

#[derive(Args)]
pub struct Serve {
    /// The configuration file; SIGHUP reads it again
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    #[command(flatten)]
    logging: Logging,
}

impl Serve {
    pub(super) fn run(self) -> Result<ExitCode, String> {
        let config = Config::load(&self.config).map_err(|error| error.to_string())?;
        run(config, &self.config, self.logging, false, |server| {
            for listen in server.listening() {
                tracing::info!("SIP {}://{}", listen.transport, listen.bind);
            }
            tracing::info!("HTTP http://{}", server.http());
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
    ready: impl FnOnce(&Server),
) -> Result<ExitCode, String> {
    let level = logging.log_level.as_deref().unwrap_or(&config.server.log_level);
    let log_level = telemetry::start_logs(level, logging.log_format)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    runtime.block_on(async {
        let signals = |kind| signal(kind).map_err(|error| format!("cannot take signals: {error}"));
        let (mut hangup, mut terminate, mut interrupt) =
            (signals(SignalKind::hangup())?, signals(SignalKind::terminate())?, signals(SignalKind::interrupt())?);
        let mut server = Server::start(config, Some(log_level), demo).await.map_err(|error| error.to_string())?;
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
