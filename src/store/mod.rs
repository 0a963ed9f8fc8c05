//! Durable rows: CDRs and ledger lines, written in batches, exactly once each. All SQL of the server is here.
//!
//! One portable text (`$N` placeholders, TEXT and BIGINT only), so that another database needs no second one.

mod writer;

use std::str::FromStr;
use std::time::Duration;

use sqlx::any::{AnyConnectOptions, AnyPoolOptions, AnyRow};
use sqlx::{AnyPool, Row};

use crate::events::CallRecord;
use crate::ids::{AccountSid, CallSid};
use crate::usage::LedgerLine;

pub use writer::{StoreWriter, subscriber};

const SCHEMA: &[&str] = &[
    "CREATE TABLE IF NOT EXISTS calls (
        sid TEXT NOT NULL PRIMARY KEY, account TEXT NOT NULL, direction TEXT NOT NULL,
        from_address TEXT NOT NULL, to_address TEXT NOT NULL, parent TEXT, via TEXT NOT NULL, sip_call_id TEXT NOT NULL,
        status TEXT NOT NULL, started_ms BIGINT NOT NULL, answered_ms BIGINT, ended_ms BIGINT NOT NULL,
        duration_s BIGINT NOT NULL, record TEXT NOT NULL)",
    "CREATE INDEX IF NOT EXISTS calls_by_account ON calls (account, started_ms)",
    "CREATE INDEX IF NOT EXISTS calls_by_time ON calls (started_ms)",
    "CREATE TABLE IF NOT EXISTS ledger (
        event TEXT NOT NULL PRIMARY KEY, account TEXT NOT NULL, call TEXT NOT NULL, service TEXT NOT NULL,
        module TEXT NOT NULL, category TEXT NOT NULL, quantity BIGINT NOT NULL, unit TEXT NOT NULL, at_ms BIGINT NOT NULL)",
    "CREATE INDEX IF NOT EXISTS ledger_by_account ON ledger (account, category, at_ms)",
];

const CALL_COLUMNS: &str = "sid, account, direction, from_address, to_address, parent, via, sip_call_id, status, started_ms, answered_ms, ended_ms, duration_s, record";
const LEDGER_COLUMNS: &str = "event, account, call, service, module, category, quantity, unit, at_ms";

/// A call that is over, with its line in the ledger: written together.
#[derive(Clone, Debug)]
pub struct Finished {
    pub record: CallRecord,
    pub line: LedgerLine,
}

/// The database.
#[derive(Clone)]
pub struct Store {
    pool: AnyPool,
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
        let setup = [
            "PRAGMA journal_mode = WAL",
            "PRAGMA synchronous = NORMAL",
            "PRAGMA busy_timeout = 5000",
            "PRAGMA cache_size = -1024",
        ];
        let pool = AnyPoolOptions::new()
            // One writes, one reads.
            .max_connections(2)
            .acquire_timeout(Duration::from_secs(10))
            .after_connect(move |connection, _| {
                Box::pin(async move {
                    for statement in setup {
                        sqlx::query(statement).execute(&mut *connection).await?;
                    }
                    Ok(())
                })
            })
            .connect_with(options)
            .await?;
        for statement in SCHEMA {
            sqlx::query(*statement).execute(&pool).await?;
        }
        Ok(Store { pool })
    }

    /// Writes calls and their ledger lines, all or none. What is there already stays as it is.
    pub async fn write(&self, finished: &[Finished]) -> Result<(), StoreError> {
        let mut transaction = self.pool.begin().await?;
        for chunk in finished.chunks(ROWS_A_STATEMENT) {
            let text = insert("calls", CALL_COLUMNS, "sid", chunk.len());
            let mut query = sqlx::query(sqlx::AssertSqlSafe(text));
            for Finished { record, .. } in chunk {
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
                    .bind(serde_json::to_string(record).unwrap_or_default());
            }
            query.execute(&mut *transaction).await?;
            let text = insert("ledger", LEDGER_COLUMNS, "event", chunk.len());
            let mut query = sqlx::query(sqlx::AssertSqlSafe(text));
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
        let account = account.map(|account| account.to_string()).unwrap_or_default();
        let rows =
            sqlx::query("SELECT record FROM calls WHERE $1 = '' OR account = $2 ORDER BY started_ms DESC LIMIT $3")
                .bind(account.clone())
                .bind(account)
                .bind(i64::from(limit))
                .fetch_all(&self.pool)
                .await?;
        Ok(rows.iter().filter_map(read_record).collect())
    }

    pub async fn call(&self, sid: CallSid) -> Result<Option<CallRecord>, StoreError> {
        let row = sqlx::query("SELECT record FROM calls WHERE sid = $1")
            .bind(sid.to_string())
            .fetch_optional(&self.pool)
            .await?;
        Ok(row.as_ref().and_then(read_record))
    }

    /// How many lines the ledger has.
    pub async fn ledger_lines(&self) -> Result<u64, StoreError> {
        let row = sqlx::query("SELECT CAST(count(*) AS BIGINT) FROM ledger").fetch_one(&self.pool).await?;
        Ok(row.try_get::<i64, _>(0)?.try_into().unwrap_or(0))
    }

    /// Whether the database answers.
    pub async fn is_up(&self) -> bool {
        sqlx::query("SELECT 1").execute(&self.pool).await.is_ok()
    }

    pub async fn close(&self) {
        self.pool.close().await;
    }
}

/// Rows of one statement. SQLite finds each named parameter by a linear search, so more rows cost more, not less.
const ROWS_A_STATEMENT: usize = 8;

fn insert(table: &str, columns: &str, key: &str, rows: usize) -> String {
    let width = columns.split(',').count();
    let row = |row: usize| {
        let places: Vec<String> = (1..=width).map(|column| format!("${}", row * width + column)).collect();
        format!("({})", places.join(","))
    };
    let rows: Vec<String> = (0..rows).map(row).collect();
    format!("INSERT INTO {table} ({columns}) VALUES {} ON CONFLICT ({key}) DO NOTHING", rows.join(","))
}

fn read_record(row: &AnyRow) -> Option<CallRecord> {
    serde_json::from_str(row.try_get::<&str, _>(0).ok()?).ok()
}

fn millis(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
