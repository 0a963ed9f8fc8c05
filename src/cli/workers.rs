//! `dialtone workers` and `dialtone drain`: asks a running server over its HTTP address.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde::Deserialize;

use super::ask::{ask, tell};

#[derive(Args)]
pub struct Workers {
    /// The configuration of the running server
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub struct Drain {
    /// The worker, as `dialtone workers` names it
    node: String,
    /// The configuration of the running server
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Deserialize)]
struct WorkerList {
    workers: Vec<Worker>,
}

#[derive(Deserialize)]
struct Worker {
    id: String,
    pid: u32,
    address: String,
    state: String,
    sessions: u32,
    used: u32,
    capacity: u32,
}

impl Workers {
    pub(super) fn run(self) -> Result<ExitCode, String> {
        let body = ask(self.config, "/dialtone/v1/Workers")?;
        if self.json {
            println!("{}", String::from_utf8_lossy(&body));
            return Ok(ExitCode::SUCCESS);
        }
        let list: WorkerList =
            serde_json::from_slice(&body).map_err(|error| format!("the server's answer cannot be read: {error}"))?;
        println!("{:<24} {:>7}  {:<15} {:<8} {:>8}  used / capacity", "id", "pid", "address", "state", "sessions");
        for Worker { id, pid, address, state, sessions, used, capacity } in &list.workers {
            println!("{id:<24} {pid:>7}  {address:<15} {state:<8} {sessions:>8}  {used} / {capacity}");
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Drain {
    pub(super) fn run(self) -> Result<ExitCode, String> {
        tell(self.config, &format!("/dialtone/v1/Workers/{}", self.node), "Drain=true")?;
        println!("{} takes no new calls, and ends when its last one is over", self.node);
        Ok(ExitCode::SUCCESS)
    }
}
