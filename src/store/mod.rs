//! Durable rows. All SQL of the server is here.
//!
//! CDRs and ledger lines are written in batches, exactly once each; resources one by one, and lost never. One portable text
//! serves SQLite and PostgreSQL: `$N`, TEXT and BIGINT only, sums cast; but for the places of the long inserts, which SQLite
//! wants without numbers.

mod backup;
mod calls;
mod credit;
mod database;
mod filter;
mod holds;
mod log;
mod migrations;
mod notifications;
mod presence;
mod records;
mod resources;
mod sinks;
mod usage;
mod writer;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sqlx::Row;

use crate::eventlog::{Entry, Logged};
use crate::events::{CallRecord, Event};
use crate::ids::{AccountSid, CallSid};
use crate::usage::{LedgerLine, PriceBook};

use calls::Inserts;
use database::Database;

pub use backup::{BackupError, backup, restore};
pub use credit::Spent;
pub use database::Backend;
pub use filter::{CallFilter, Moment};
pub use log::LogBounds;
pub use notifications::NotificationFilter;
pub use presence::ToldPresence;
pub use records::{ConferenceFilter, DELETED_ARE_KNOWN, MessageFilter, RecordingFilter};
pub use resources::{Kind, Listed, Resource};
pub use sinks::SinkCursor;
pub use usage::{BilledLine, Fire};
pub use writer::{Gathering, StoreWriter, subscriber};

/// What is written in one transaction.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    pub finished: Vec<Finished>,
    /// Facts that stand for themselves.
    pub facts: Vec<Event>,
    /// What of those has a line in the ledger.
    pub lines: Vec<LedgerLine>,
    /// The prices of those accounts that have some.
    pub books: HashMap<AccountSid, Arc<PriceBook>>,
    /// What is to be told to those who listen.
    pub entries: Vec<Entry>,
}

/// What came of a batch that was written.
#[derive(Debug, Default)]
pub struct Written {
    /// Triggers that fire by it.
    pub fires: Vec<Fire>,
    pub logged: Vec<Logged>,
    /// Calls whose lines are in the ledger.
    pub billed: Vec<CallSid>,
}

impl Batch {
    pub fn len(&self) -> usize {
        self.finished.len() + self.facts.len() + self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds what has come later.
    fn extend(&mut self, later: Batch) {
        self.finished.extend(later.finished);
        self.facts.extend(later.facts);
        self.lines.extend(later.lines);
        self.books.extend(later.books);
        self.entries.extend(later.entries);
    }

    /// Every line of the ledger that it brings.
    fn lines(&self) -> impl Iterator<Item = &LedgerLine> {
        self.finished.iter().map(|finished| &finished.line).chain(&self.lines)
    }
}

/// A call that is over, with its line in the ledger: written together.
#[derive(Clone, Debug)]
pub struct Finished {
    pub record: CallRecord,
    pub line: LedgerLine,
}

/// The database.
#[derive(Clone)]
pub struct Store {
    database: Database,
    inserts: Arc<Inserts>,
}

/// What went wrong with the database. Never tells its URL, which may hold a password.
#[derive(Debug)]
pub enum StoreError {
    /// The URL begins with neither `sqlite://` nor `postgres://`.
    Scheme,
    /// A newer program has made steps that this one does not know.
    TooNew {
        version: usize,
        known: usize,
    },
    /// Another row has that name, or that key.
    Taken,
    Database(sqlx::Error),
}

impl std::fmt::Display for StoreError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            StoreError::Scheme => f.write_str("the url is neither sqlite://PATH nor postgres://USER@HOST/DATABASE"),
            StoreError::TooNew { version, known } => {
                write!(f, "the database has version {version}, made by a newer program; this one knows up to {known}")
            }
            StoreError::Taken => f.write_str("the name is taken"),
            StoreError::Database(error) => write!(f, "database: {error}"),
        }
    }
}

impl std::error::Error for StoreError {}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> StoreError {
        match error.as_database_error() {
            Some(told) if told.is_unique_violation() => StoreError::Taken,
            _ => StoreError::Database(error),
        }
    }
}

/// How long the database may take to say that it is there.
const SIGN_OF_LIFE: Duration = Duration::from_secs(2);

impl Store {
    /// Opens the database, and makes it or brings it to its newest form if need be.
    pub async fn open(url: &str) -> Result<Store, StoreError> {
        let database = Database::connect(url).await?;
        migrations::run(&database).await?;
        let inserts = Arc::new(Inserts::new(database.backend));
        Ok(Store { database, inserts })
    }

    pub fn backend(&self) -> Backend {
        self.database.backend
    }

    /// How many lines the ledger has.
    pub async fn ledger_lines(&self) -> Result<u64, StoreError> {
        let row = sqlx::query("SELECT CAST(count(*) AS BIGINT) FROM ledger").fetch_one(&self.database.reader).await?;
        Ok(row.try_get::<i64, _>(0)?.try_into().unwrap_or(0))
    }

    /// Whether the database answers.
    pub async fn is_up(&self) -> bool {
        let sign = sqlx::query("SELECT 1").execute(&self.database.reader);
        tokio::time::timeout(SIGN_OF_LIFE, sign).await.is_ok_and(|sign| sign.is_ok())
    }

    pub async fn close(&self) {
        self.database.close().await;
    }
}

/// How times are stored.
fn millis(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn from_millis(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

fn wall_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

fn unreadable(error: impl std::error::Error + Send + Sync + 'static) -> StoreError {
    StoreError::Database(sqlx::Error::Decode(Box::new(error)))
}

#[cfg(test)]
mod tests;
