//! `dialtone cluster`: the authority of a cluster, and who may join it.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::{Args, Subcommand};

use crate::cluster::{Authority, Role};

#[derive(Args)]
pub struct Cluster {
    #[command(subcommand)]
    command: ClusterCommand,
}

#[derive(Subcommand)]
enum ClusterCommand {
    /// Make the authority of a new cluster: the keys that admit its nodes
    Init(Init),
    /// Print a token that admits a machine: give it to `dialtone serve --role worker --join IP:PORT --token TOKEN` there
    JoinToken(Token),
}

#[derive(Args)]
struct Init {
    /// The folder; as [cluster] dir has it
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
}

#[derive(Args)]
struct Token {
    /// The folder that `dialtone cluster init` has made
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// How long it admits machines
    #[arg(long, value_name = "HOURS", default_value_t = 24)]
    hours: u64,
    /// Admit machines in this role only: edge or worker
    #[arg(long, value_parser = role)]
    role: Option<Role>,
}

impl Cluster {
    pub(super) fn run(self) -> Result<ExitCode, String> {
        match self.command {
            ClusterCommand::Init(Init { dir }) => {
                Authority::init(&dir).map_err(|error| error.to_string())?;
                println!(
                    "{} holds the authority of a new cluster. Keep it as you keep a password: who has it can admit anybody.",
                    dir.display()
                );
            }
            ClusterCommand::JoinToken(Token { dir, hours, role }) => {
                let authority = Authority::load(&dir).map_err(|error| error.to_string())?;
                let life = Duration::from_secs(hours.saturating_mul(3600));
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                println!("{}", authority.token(role, now.saturating_add(life).as_secs()));
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// A role as it is written on the command line.
pub(super) fn role(text: &str) -> Result<Role, String> {
    Role::named(text).ok_or_else(|| "a node is an edge or a worker".to_owned())
}
