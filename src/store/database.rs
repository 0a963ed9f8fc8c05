//! The database behind the store: SQLite in a file, or PostgreSQL; what each wants of its connections.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::str::FromStr;
use std::time::Duration;

use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::{Any, AnyPool, Transaction};

use super::StoreError;

/// Which database it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    Sqlite,
    Postgres,
}

impl Backend {
    /// By the scheme of a URL; `None` of one that is neither `sqlite:` nor `postgres:`.
    pub fn of(url: &str) -> Option<Backend> {
        match url.split_once("://")?.0 {
            "sqlite" => Some(Backend::Sqlite),
            "postgres" | "postgresql" => Some(Backend::Postgres),
            _ => None,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Backend::Sqlite => "sqlite",
            Backend::Postgres => "postgres",
        }
    }
}

/// The connections to one database.
#[derive(Clone)]
pub(super) struct Database {
    pub(super) backend: Backend,
    /// Writes in batches. SQLite has one writer, whose pages and statements are kept once.
    pub(super) writer: AnyPool,
    /// Writes what somebody waits for: a commit is on the disk, whatever becomes of the machine.
    pub(super) durable: AnyPool,
    pub(super) reader: AnyPool,
}

impl Database {
    pub(super) async fn connect(url: &str) -> Result<Database, StoreError> {
        sqlx::any::install_default_drivers();
        let backend = Backend::of(url).ok_or(StoreError::Scheme)?;
        match backend {
            Backend::Sqlite => {
                make_private(url)?;
                let separator = if url.contains('?') { '&' } else { '?' };
                let options = AnyConnectOptions::from_str(&format!("{url}{separator}mode=rwc"))?;
                Ok(Database {
                    backend,
                    writer: sqlite(&options, BATCHES).await?,
                    durable: sqlite(&options, DURABLE).await?,
                    reader: sqlite(&options, BATCHES).await?,
                })
            }
            Backend::Postgres => {
                let options = AnyConnectOptions::from_str(url)?;
                let pool = usual(POSTGRES_CONNECTIONS)
                    .after_connect(|connection, _| {
                        Box::pin(async move { sqlx::query(POSTGRES).execute(connection).await.map(drop) })
                    })
                    .connect_with(options)
                    .await?;
                Ok(Database { backend, writer: pool.clone(), durable: pool.clone(), reader: pool })
            }
        }
    }

    /// A transaction that will write: with SQLite the lock is taken first, so that what is read in it still holds when it
    /// writes.
    pub(super) async fn begin(&self) -> Result<Transaction<'static, Any>, sqlx::Error> {
        self.begin_with(&self.durable).await
    }

    /// The same of a batch.
    pub(super) async fn begin_batch(&self) -> Result<Transaction<'static, Any>, sqlx::Error> {
        self.begin_with(&self.writer).await
    }

    async fn begin_with(&self, pool: &AnyPool) -> Result<Transaction<'static, Any>, sqlx::Error> {
        match self.backend {
            Backend::Sqlite => pool.begin_with("BEGIN IMMEDIATE").await,
            Backend::Postgres => pool.begin().await,
        }
    }

    pub(super) async fn close(&self) {
        self.writer.close().await;
        self.durable.close().await;
        self.reader.close().await;
    }
}

/// Makes the file of a new database readable by its owner only: accounts' tokens are in it. One that is there keeps its
/// rights.
fn make_private(url: &str) -> Result<(), StoreError> {
    let path = url.trim_start_matches("sqlite://").split('?').next().unwrap_or_default();
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(StoreError::Database(sqlx::Error::Io(error))),
    }
}

const POSTGRES_CONNECTIONS: u32 = 8;
/// For a connection, also where the database is away.
const PATIENCE: Duration = Duration::from_secs(5);

/// A commit is written at once, and forced to the disk when the log is taken over into the database: the journal tells
/// again what a loss of power takes away.
const BATCHES: &str = "PRAGMA synchronous = NORMAL";
/// Each commit is forced to the disk.
const DURABLE: &str = "PRAGMA synchronous = FULL";

const SQLITE: &[&str] = &[
    // Of a new database: a batch is written by fewer calls.
    "PRAGMA page_size = 16384",
    "PRAGMA journal_mode = WAL",
    "PRAGMA busy_timeout = 5000",
    "PRAGMA cache_size = -1024",
    // A page that is written often goes to the database once for all of it.
    "PRAGMA wal_autocheckpoint = 1000",
    // What is deleted is overwritten.
    "PRAGMA secure_delete = FAST",
];

/// A statement is planned for the values that it comes with: a status that a thousandth of the calls have wants another
/// way than one that all have.
const POSTGRES: &str = "SET plan_cache_mode = force_custom_plan";

/// A pool of one connection, set up as it must be.
async fn sqlite(options: &AnyConnectOptions, synchronous: &'static str) -> Result<AnyPool, sqlx::Error> {
    usual(1)
        .after_connect(move |connection, _| {
            Box::pin(async move {
                for statement in SQLITE.iter().chain([&synchronous]) {
                    sqlx::query(*statement).execute(&mut *connection).await?;
                }
                Ok(())
            })
        })
        .connect_with(options.clone())
        .await
}

fn usual(connections: u32) -> AnyPoolOptions {
    AnyPoolOptions::new().max_connections(connections).acquire_timeout(PATIENCE)
}
