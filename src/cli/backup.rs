//! `dialtone backup` and `dialtone restore`: a copy of the database, and the way back.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::find_config;
use crate::config::Config;
use crate::store;

#[derive(Args)]
pub struct Backup {
    /// The file to write; it must not be there yet
    to: PathBuf,
    /// The configuration of the server, which may run meanwhile
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Args)]
pub struct Restore {
    /// A file that `dialtone backup` has written
    from: PathBuf,
    /// The configuration of the server, which must not run
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Backup {
    pub(super) fn run(self) -> Result<ExitCode, String> {
        let url = url(self.config)?;
        wait(async { store::backup(&url, &self.to).await })?;
        println!("{}: written; recordings and the journal of running calls are not in it", self.to.display());
        Ok(ExitCode::SUCCESS)
    }
}

impl Restore {
    pub(super) fn run(self) -> Result<ExitCode, String> {
        let url = url(self.config)?;
        match wait(async { store::restore(&url, &self.from).await })? {
            Some(before) => println!("restored; the database of before is {}", before.display()),
            None => println!("restored"),
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn url(config: Option<PathBuf>) -> Result<String, String> {
    let config = Config::load(&find_config(config.as_deref())?).map_err(|error| error.to_string())?;
    Ok(config.store.url.expose().to_owned())
}

fn wait<T>(doing: impl Future<Output = Result<T, store::BackupError>>) -> Result<T, String> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())?;
    runtime.block_on(doing).map_err(|error| error.to_string())
}
