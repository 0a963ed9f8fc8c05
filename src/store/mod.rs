//! Durable rows: CDRs and ledger lines, written in batches, exactly once each. All SQL of the server is here.
//!
//! One portable text (TEXT and BIGINT only), so that another database needs no second one; but for the places of the long
//! inserts, which SQLite wants without numbers.

mod filter;
mod writer;

use std::borrow::Cow;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use serde::de::{DeserializeOwned, IntoDeserializer};
use serde::{Deserialize, Serialize};
use sqlx::any::{AnyConnectOptions, AnyPoolOptions, AnyRow};
use sqlx::{AnyPool, AssertSqlSafe, Row};

use crate::events::{CallRecord, Completed, Told};
use crate::ids::{AccountSid, CallSid};
use crate::usage::LedgerLine;

use filter::Value;
pub use filter::{CallFilter, Moment};
pub use writer::{StoreWriter, subscriber};

/// From the first databases, which have a column `record`, to these.
const RENAMED: &[&str] = &[
    // Its text holds the same, and more, under the same names.
    "ALTER TABLE calls RENAME COLUMN record TO detail",
    // Their columns were others.
    "DROP INDEX calls_by_time",
    "DROP INDEX calls_by_account",
];

const SCHEMA: &[&str] = &[
    "CREATE TABLE IF NOT EXISTS calls (
        sid TEXT NOT NULL PRIMARY KEY, account TEXT NOT NULL, direction TEXT NOT NULL,
        from_address TEXT NOT NULL, to_address TEXT NOT NULL, parent TEXT, via TEXT NOT NULL, sip_call_id TEXT NOT NULL,
        status TEXT NOT NULL, started_ms BIGINT NOT NULL, answered_ms BIGINT, ended_ms BIGINT NOT NULL,
        duration_s BIGINT NOT NULL, detail TEXT NOT NULL)",
    // A sid begins with the time, so its order is that of the calls.
    "CREATE INDEX IF NOT EXISTS calls_by_account ON calls (account, sid)",
    "CREATE TABLE IF NOT EXISTS ledger (
        event TEXT NOT NULL PRIMARY KEY, account TEXT NOT NULL, call TEXT NOT NULL, service TEXT NOT NULL,
        module TEXT NOT NULL, category TEXT NOT NULL, quantity BIGINT NOT NULL, unit TEXT NOT NULL, at_ms BIGINT NOT NULL)",
    "CREATE INDEX IF NOT EXISTS ledger_by_account ON ledger (account, category, at_ms)",
];

/// The status of a row whose call was deleted: no call has it.
const DELETED: &str = "deleted";

const CALL_COLUMNS: &str = "sid, account, direction, from_address, to_address, parent, via, sip_call_id, status, started_ms, answered_ms, ended_ms, duration_s, detail";
const LEDGER_COLUMNS: &str = "event, account, call, service, module, category, quantity, unit, at_ms";

/// What of a call no query asks for, in one column.
#[derive(Serialize, Deserialize)]
struct Detail<'a> {
    completed: Option<Cow<'a, Completed>>,
    events: Cow<'a, [Told]>,
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
    /// One connection that writes: SQLite has one writer, and its pages and statements are kept once.
    writer: AnyPool,
    reader: AnyPool,
    inserts: Arc<[Insert; ROWS.len()]>,
}

/// What went wrong with the database.
#[derive(Debug)]
pub struct StoreError(sqlx::Error);

impl std::fmt::Display for StoreError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "database: {}", self.0)
    }
}

impl std::error::Error for StoreError {}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> StoreError {
        StoreError(error)
    }
}

impl Store {
    /// Opens the database, and makes it and its tables if need be.
    pub async fn open(url: &str) -> Result<Store, StoreError> {
        sqlx::any::install_default_drivers();
        let separator = if url.contains('?') { '&' } else { '?' };
        let options = AnyConnectOptions::from_str(&format!("{url}{separator}mode=rwc"))?;
        let writer = connect(&options).await?;
        if sqlx::query("SELECT record FROM calls LIMIT 1").execute(&writer).await.is_ok() {
            for statement in RENAMED {
                sqlx::query(*statement).execute(&writer).await?;
            }
        }
        for statement in SCHEMA {
            sqlx::query(*statement).execute(&writer).await?;
        }
        let reader = connect(&options).await?;
        Ok(Store { writer, reader, inserts: Arc::new(ROWS.map(Insert::new)) })
    }

    /// Writes calls and their ledger lines, all or none. What is there already stays as it is.
    pub async fn write(&self, finished: &[Finished]) -> Result<(), StoreError> {
        let mut transaction = self.writer.begin().await?;
        let mut rest = finished;
        while !rest.is_empty() {
            let insert = self.inserts.iter().find(|insert| insert.rows <= rest.len()).expect("the last is of one row");
            let (chunk, later) = rest.split_at(insert.rows);
            rest = later;
            let mut query = sqlx::query(AssertSqlSafe(insert.calls.clone()));
            for Finished { record, .. } in chunk {
                let detail = Detail {
                    completed: record.completed.as_deref().map(Cow::Borrowed),
                    events: Cow::Borrowed(&record.events),
                };
                query = query
                    .bind(record.sid.to_string())
                    .bind(record.account.to_string())
                    .bind(record.direction.as_str())
                    .bind(&record.from)
                    .bind(&record.to)
                    .bind(record.parent.map(|parent| parent.to_string()))
                    .bind(&record.via)
                    .bind(&record.sip_call_id)
                    .bind(record.status.as_str())
                    .bind(millis(record.started_ms))
                    .bind(record.answered_ms.map(millis))
                    .bind(millis(record.ended_ms.unwrap_or(record.started_ms)))
                    .bind(millis(record.duration_s()))
                    .bind(serde_json::to_string(&detail).unwrap_or_default());
            }
            query.execute(&mut *transaction).await?;
            let mut query = sqlx::query(AssertSqlSafe(insert.ledger.clone()));
            for Finished { line, .. } in chunk {
                query = query
                    .bind(line.event.to_string())
                    .bind(line.account.to_string())
                    .bind(line.call.to_string())
                    .bind(line.service)
                    .bind(line.module)
                    .bind(line.category)
                    .bind(millis(line.quantity))
                    .bind(line.unit)
                    .bind(millis(line.at_ms));
            }
            query.execute(&mut *transaction).await?;
        }
        transaction.commit().await?;
        Ok(())
    }

    /// Calls that are over, the newest first; of one account, or of all for the operator.
    pub async fn calls(&self, account: Option<AccountSid>, limit: u32) -> Result<Vec<CallRecord>, StoreError> {
        let limit = i64::from(limit);
        let rows = match account {
            Some(account) => {
                let text = format!(
                    "SELECT {CALL_COLUMNS} FROM calls WHERE account = $1 AND status <> '{DELETED}' ORDER BY sid DESC LIMIT $2"
                );
                let query = sqlx::query(AssertSqlSafe(text)).bind(account.to_string()).bind(limit);
                query.fetch_all(&self.reader).await?
            }
            None => {
                let text =
                    format!("SELECT {CALL_COLUMNS} FROM calls WHERE status <> '{DELETED}' ORDER BY sid DESC LIMIT $1");
                sqlx::query(AssertSqlSafe(text)).bind(limit).fetch_all(&self.reader).await?
            }
        };
        rows.iter().map(read_record).collect()
    }

    /// An account's calls that are over and that the filter takes, the newest first.
    pub async fn find_calls(
        &self,
        account: AccountSid,
        filter: &CallFilter,
        limit: u32,
    ) -> Result<Vec<CallRecord>, StoreError> {
        let (conditions, values) = filter.conditions();
        let text = format!(
            "SELECT {CALL_COLUMNS} FROM calls WHERE account = $1 AND status <> '{DELETED}'{conditions} ORDER BY sid DESC LIMIT {limit}"
        );
        let mut query = sqlx::query(AssertSqlSafe(text)).bind(account.to_string());
        for value in values {
            query = match value {
                Value::Text(text) => query.bind(text),
                Value::Number(number) => query.bind(number),
            };
        }
        query.fetch_all(&self.reader).await?.iter().map(read_record).collect()
    }

    /// Whether there was such a call of the account. Its line in the ledger stays.
    ///
    /// The row stays too, emptied: without it the call would be written anew from what the journal still has of it.
    pub async fn delete_call(&self, account: AccountSid, sid: CallSid) -> Result<bool, StoreError> {
        let text = "UPDATE calls SET status = $1, from_address = '', to_address = '', via = '', sip_call_id = '', detail = '' \
                    WHERE account = $2 AND sid = $3 AND status <> $1";
        let query = sqlx::query(text).bind(DELETED).bind(account.to_string()).bind(sid.to_string());
        let done = query.execute(&self.writer).await?;
        Ok(done.rows_affected() > 0)
    }

    pub async fn call(&self, sid: CallSid) -> Result<Option<CallRecord>, StoreError> {
        let text = format!("SELECT {CALL_COLUMNS} FROM calls WHERE sid = $1 AND status <> '{DELETED}'");
        let row = sqlx::query(AssertSqlSafe(text)).bind(sid.to_string()).fetch_optional(&self.reader).await?;
        row.as_ref().map(read_record).transpose()
    }

    /// How many lines the ledger has.
    pub async fn ledger_lines(&self) -> Result<u64, StoreError> {
        let row = sqlx::query("SELECT CAST(count(*) AS BIGINT) FROM ledger").fetch_one(&self.reader).await?;
        Ok(row.try_get::<i64, _>(0)?.try_into().unwrap_or(0))
    }

    /// Whether the database answers.
    pub async fn is_up(&self) -> bool {
        sqlx::query("SELECT 1").execute(&self.reader).await.is_ok()
    }

    pub async fn close(&self) {
        self.writer.close().await;
        self.reader.close().await;
    }
}

const SETUP: &[&str] = &[
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = NORMAL",
    "PRAGMA busy_timeout = 5000",
    "PRAGMA cache_size = -1024",
    // A page that is written often goes to the database once for all of it.
    "PRAGMA wal_autocheckpoint = 4000",
    // What is deleted is overwritten.
    "PRAGMA secure_delete = FAST",
];

/// A pool of one connection, set up as it must be.
async fn connect(options: &AnyConnectOptions) -> Result<AnyPool, sqlx::Error> {
    AnyPoolOptions::new()
        .max_connections(1)
        .acquire_timeout(Duration::from_secs(10))
        .after_connect(|connection, _| {
            Box::pin(async move {
                for statement in SETUP {
                    sqlx::query(*statement).execute(&mut *connection).await?;
                }
                Ok(())
            })
        })
        .connect_with(options.clone())
        .await
}

/// Statements that insert some rows at once: each is prepared once for a connection.
struct Insert {
    rows: usize,
    calls: Arc<str>,
    ledger: Arc<str>,
}

/// Rows of one statement, the largest first.
const ROWS: [usize; 3] = [64, 8, 1];

impl Insert {
    fn new(rows: usize) -> Insert {
        Insert {
            rows,
            calls: insert("calls", CALL_COLUMNS, "sid", rows).into(),
            ledger: insert("ledger", LEDGER_COLUMNS, "event", rows).into(),
        }
    }
}

/// Places without numbers: SQLite looks each numbered one up by a linear search through all of them.
fn insert(table: &str, columns: &str, key: &str, rows: usize) -> String {
    let places = vec!["?"; columns.split(',').count()].join(",");
    let rows = vec![format!("({places})"); rows].join(",");
    format!("INSERT INTO {table} ({columns}) VALUES {rows} ON CONFLICT ({key}) DO NOTHING")
}

/// Reads a row of [`CALL_COLUMNS`].
fn read_record(row: &AnyRow) -> Result<CallRecord, StoreError> {
    let detail: Detail = serde_json::from_str(row.try_get("detail")?).map_err(unreadable)?;
    let wall_ms = |value: i64| u64::try_from(value).unwrap_or(0);
    Ok(CallRecord {
        sid: read(row, "sid")?,
        account: read(row, "account")?,
        direction: read(row, "direction")?,
        from: row.try_get("from_address")?,
        to: row.try_get("to_address")?,
        parent: row.try_get::<Option<&str>, _>("parent")?.map(read_text).transpose()?,
        via: row.try_get("via")?,
        sip_call_id: row.try_get("sip_call_id")?,
        status: read(row, "status")?,
        started_ms: wall_ms(row.try_get("started_ms")?),
        answered_ms: row.try_get::<Option<i64>, _>("answered_ms")?.map(wall_ms),
        ended_ms: Some(wall_ms(row.try_get("ended_ms")?)),
        completed: detail.completed.map(|completed| Box::new(completed.into_owned())),
        status_callback: None,
        callbacks: 0,
        events: detail.events.into_owned(),
    })
}

/// A column whose text is what a value serialises to.
fn read<T: DeserializeOwned>(row: &AnyRow, column: &str) -> Result<T, StoreError> {
    read_text(row.try_get(column)?)
}

fn read_text<T: DeserializeOwned>(text: &str) -> Result<T, StoreError> {
    T::deserialize(text.into_deserializer()).map_err(|error: serde::de::value::Error| unreadable(error))
}

fn unreadable(error: impl std::error::Error + Send + Sync + 'static) -> StoreError {
    StoreError(sqlx::Error::Decode(Box::new(error)))
}

fn millis(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
