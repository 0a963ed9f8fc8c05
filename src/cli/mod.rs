//! The command line: what each command takes, and what it says.

mod ask;
mod backup;
mod calls;
mod cluster;
mod dev;
mod env;
mod serve;
mod verify;
mod workers;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};

use crate::config::Config;
use crate::telemetry::{self, LogFormat, LogLevel};

/// What `dev` writes, and what other commands look for first.
const DEV_CONFIG: &str = ".dialtone/dialtone.toml";

#[derive(Subcommand)]
pub enum Command {
    /// Start a server to develop against: loopback only, two users, two demo numbers, your application on port 3000
    Dev(dev::Dev),
    /// Start the server of a configuration file
    Serve(serve::Serve),
    /// Check a configuration file, and say what is wrong with it
    Check(Check),
    /// List live and past calls of a running server
    Calls(calls::Calls),
    /// Show one call with its events
    Call(calls::Show),
    /// List the media workers of a running server
    Workers(workers::Workers),
    /// Have a media worker take no new calls, and end with its last one
    Drain(workers::Drain),
    /// Make a cluster of several machines
    Cluster(cluster::Cluster),
    /// Print what a shell needs so that unmodified Twilio programs reach this server
    Env(env::Env),
    /// Check that events which were received are all that were told
    Verify(verify::Verify),
    /// Copy the database while the server runs
    Backup(backup::Backup),
    /// Put a copy in the place of the database of a server that does not run
    Restore(backup::Restore),
}

#[derive(Args)]
pub struct Check {
    /// The configuration file
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

/// How a server logs.
#[derive(Args, Clone, Debug)]
struct Logging {
    /// error, warn, info, debug, trace, or directives such as info,dialtone::shard=debug; takes the place of [server] log_level
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
    /// How log lines are written
    #[arg(long, value_enum, default_value_t = LogFormat::Pretty)]
    log_format: LogFormat,
}

impl Logging {
    /// Starts this process' log, at the level asked for here or else the configuration's.
    fn start(&self, config: &Config) -> Result<LogLevel, String> {
        let level = self.log_level.as_deref().unwrap_or(&config.server.log_level);
        telemetry::start_logs(level, self.log_format)
    }
}

impl Command {
    /// Runs the command. An error is a message for a person.
    pub fn run(self) -> Result<ExitCode, String> {
        match self {
            Command::Dev(dev) => dev.run(),
            Command::Serve(serve) => serve.run(),
            Command::Check(check) => check.run(),
            Command::Calls(calls) => calls.run(),
            Command::Call(show) => show.run(),
            Command::Workers(workers) => workers.run(),
            Command::Drain(drain) => drain.run(),
            Command::Cluster(cluster) => cluster.run(),
            Command::Env(env) => env.run(),
            Command::Verify(verify) => verify.run(),
            Command::Backup(backup) => backup.run(),
            Command::Restore(restore) => restore.run(),
        }
    }
}

impl Check {
    fn run(&self) -> Result<ExitCode, String> {
        let config = Config::load(&self.config).map_err(|error| error.to_string())?;
        let accounts = config.directory.accounts().count();
        println!("{}: ok ({accounts} account{})", self.config.display(), if accounts == 1 { "" } else { "s" });
        Ok(ExitCode::SUCCESS)
    }
}

/// The file that is named, or the one of `dialtone dev` in this folder.
fn find_config(named: Option<&Path>) -> Result<PathBuf, String> {
    match named {
        Some(path) => Ok(path.to_owned()),
        None if Path::new(DEV_CONFIG).exists() => Ok(PathBuf::from(DEV_CONFIG)),
        None => {
            Err(format!("no configuration: give --config FILE, or run this where `dialtone dev` has made {DEV_CONFIG}"))
        }
    }
}
