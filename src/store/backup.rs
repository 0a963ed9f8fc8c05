//! A copy of a SQLite database while it is in use, and the way back. PostgreSQL has its own programs for both.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use sqlx::any::AnyConnectOptions;
use sqlx::{AnyConnection, Connection, Row};

use super::StoreError;
use super::database::Backend;
use super::migrations;

/// Why there is no copy, or no way back. Each says what to do.
#[derive(Debug)]
pub enum BackupError {
    /// The store is PostgreSQL.
    Postgres,
    Exists(PathBuf),
    /// The database that is to be replaced is open somewhere.
    InUse(PathBuf),
    /// The file is no whole database of ours.
    Damaged(PathBuf, String),
    File(PathBuf, io::Error),
    Store(StoreError),
}

impl fmt::Display for BackupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BackupError::Postgres => f.write_str(
                "the store is PostgreSQL: `pg_dump --format=custom --file=FILE DATABASE` copies it while it is in use, and \
                 `pg_restore --clean --if-exists --dbname=DATABASE FILE` brings it back",
            ),
            BackupError::Exists(path) => write!(f, "{} is there already: choose another name, or move it away", path.display()),
            BackupError::InUse(path) => write!(f, "{} is in use: stop the server first", path.display()),
            BackupError::Damaged(path, why) => write!(f, "{} is no backup that this program can use: {why}", path.display()),
            BackupError::File(path, error) => write!(f, "{}: {error}", path.display()),
            BackupError::Store(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for BackupError {}

impl From<sqlx::Error> for BackupError {
    fn from(error: sqlx::Error) -> BackupError {
        BackupError::Store(error.into())
    }
}

/// Copies the database of a URL to a file that is not there yet, readable by its owner only: it has tokens in it.
///
/// What is committed before is in it, what is committed meanwhile is not. The file has its name only when it is whole and on
/// the disk.
pub async fn backup(url: &str, to: &Path) -> Result<(), BackupError> {
    let from = file_of(url)?;
    if to.exists() {
        return Err(BackupError::Exists(to.to_owned()));
    }
    let mut database = open(&from, "rw").await?;
    let part = beside(to, ".part");
    // VACUUM writes into an empty file as well as into none: this one has its rights from the beginning.
    let made = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&part);
    made.map_err(|error| BackupError::File(part.clone(), error))?;
    sqlx::query("VACUUM INTO $1").bind(part.display().to_string()).execute(&mut database).await?;
    database.close().await?;
    settle(&part, to)
}

/// Puts a copy in the place of the database of a URL, which is kept beside it as `NAME.before-restore`; the name of that.
///
/// Calls that waited for their turn when the copy was made are not made again.
pub async fn restore(url: &str, from: &Path) -> Result<Option<PathBuf>, BackupError> {
    let to = file_of(url)?;
    check(from).await?;
    let before = beside(&to, ".before-restore");
    if before.exists() {
        return Err(BackupError::Exists(before));
    }
    let replaced = to.exists();
    if replaced {
        close_for_good(&to).await?;
    }
    let part = beside(&to, ".part");
    let copied = fs::copy(from, &part);
    copied.map_err(|error| BackupError::File(part.clone(), error))?;
    let mut copy = open(&part, "rw").await?;
    // A copy of before there were orders has no such rows, nor their table.
    let _ = sqlx::query("DELETE FROM records WHERE kind = 'order'").execute(&mut copy).await;
    copy.close().await?;
    if replaced {
        fs::rename(&to, &before).map_err(|error| BackupError::File(before.clone(), error))?;
    }
    settle(&part, &to)?;
    Ok(replaced.then_some(before))
}

fn file_of(url: &str) -> Result<PathBuf, BackupError> {
    match (Backend::of(url), url.split_once("://")) {
        (Some(Backend::Sqlite), Some((_, path))) => Ok(PathBuf::from(path.split('?').next().unwrap_or(path))),
        (Some(Backend::Postgres), _) => Err(BackupError::Postgres),
        _ => Err(BackupError::Store(StoreError::Scheme)),
    }
}

fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    PathBuf::from(name)
}

async fn open(path: &Path, mode: &str) -> Result<AnyConnection, BackupError> {
    sqlx::any::install_default_drivers();
    if !path.exists() {
        return Err(BackupError::File(path.to_owned(), io::ErrorKind::NotFound.into()));
    }
    let options = AnyConnectOptions::from_str(&format!("sqlite://{}?mode={mode}", path.display()))?;
    Ok(AnyConnection::connect_with(&options).await?)
}

/// Whether a file is a whole database of ours, of a form that this program knows.
async fn check(path: &Path) -> Result<(), BackupError> {
    let damaged = |why: String| BackupError::Damaged(path.to_owned(), why);
    let mut database = open(path, "ro").await?;
    let told = sqlx::query("PRAGMA integrity_check(1)").fetch_one(&mut database).await;
    let told: String = told.and_then(|row| row.try_get(0)).map_err(|error| damaged(error.to_string()))?;
    if told != "ok" {
        return Err(damaged(told));
    }
    let version = sqlx::query("SELECT CAST(max(version) AS BIGINT) FROM schema_version").fetch_one(&mut database).await;
    let version: Option<i64> =
        version.and_then(|row| row.try_get(0)).map_err(|_| damaged("it has no version".into()))?;
    database.close().await?;
    match usize::try_from(version.unwrap_or(0)) {
        Ok(version) if (1..=migrations::NEWEST).contains(&version) => Ok(()),
        Ok(version) => {
            let error = StoreError::TooNew { version, known: migrations::NEWEST };
            Err(damaged(error.to_string()))
        }
        Err(_) => Err(damaged("it has no version".into())),
    }
}

/// Brings everything that was committed from the log into the file, and makes sure that nobody else has it open.
async fn close_for_good(path: &Path) -> Result<(), BackupError> {
    let mut database = open(path, "rw").await?;
    // A server that was told to stop is not gone at once.
    for statement in ["PRAGMA busy_timeout = 1000", "PRAGMA locking_mode = EXCLUSIVE", "BEGIN EXCLUSIVE", "COMMIT"] {
        let done = sqlx::query(statement).execute(&mut database).await;
        done.map_err(|_| BackupError::InUse(path.to_owned()))?;
    }
    database.close().await?;
    Ok(())
}

/// Makes a whole file durable under its name.
fn settle(part: &Path, to: &Path) -> Result<(), BackupError> {
    let done = File::open(part).and_then(|file| file.sync_all()).and_then(|()| fs::rename(part, to)).and_then(|()| {
        let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder)?.sync_all()
    });
    done.map_err(|error| BackupError::File(to.to_owned(), error))
}
