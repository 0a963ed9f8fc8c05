//! The database's form, step by step: each start brings a database of any age to the newest one.
//!
//! A step is never changed once it was released: another one is added. All steps that are missing are made in one
//! transaction, by one server at a time.

use sqlx::{Any, Row, Transaction};

use super::database::{Backend, Database};
use super::{StoreError, wall_ms};

/// The steps, the oldest first. The version of a database is how many of them it has.
const STEPS: &[&[&str]] = &[
    CALLS_AND_LEDGER,
    RESOURCES,
    CALLS_BY_WHAT_IS_ASKED,
    RECORDS,
    NOTIFICATIONS,
    CHEAPER_TO_WRITE,
    DELETED_BY_TIME,
    HOLDS,
    USAGE,
    EVENT_LOG,
    CORRECTIONS,
    CREDIT,
];

/// The version of a database that has all of them.
pub(super) const NEWEST: usize = STEPS.len();

/// Databases of the time before versions have these.
const CALLS_AND_LEDGER: &[&str] = &[
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

const RESOURCES: &[&str] = &[
    "CREATE TABLE resources (
        kind TEXT NOT NULL, parent TEXT NOT NULL, sid TEXT NOT NULL, account TEXT NOT NULL, unique_name TEXT,
        detail TEXT NOT NULL, created_ms BIGINT NOT NULL, updated_ms BIGINT NOT NULL,
        PRIMARY KEY (kind, parent, sid))",
    "CREATE UNIQUE INDEX resources_by_name ON resources (kind, unique_name)",
    "CREATE INDEX resources_by_account ON resources (account, kind, parent, sid)",
    "CREATE INDEX resources_by_sid ON resources (sid)",
    "CREATE INDEX resources_by_parent ON resources (parent)",
];

const CALLS_BY_WHAT_IS_ASKED: &[&str] = &[
    "CREATE INDEX calls_by_to ON calls (account, to_address, sid)",
    "CREATE INDEX calls_by_from ON calls (account, from_address, sid)",
    "CREATE INDEX calls_by_status ON calls (account, status, sid)",
    "CREATE INDEX calls_by_parent ON calls (account, parent, sid) WHERE parent IS NOT NULL",
];

const RECORDS: &[&str] = &[
    "CREATE TABLE records (
        kind TEXT NOT NULL, sid TEXT NOT NULL, account TEXT NOT NULL, call TEXT NOT NULL, conference TEXT, name TEXT,
        status TEXT NOT NULL, created_ms BIGINT NOT NULL, told_ms BIGINT NOT NULL, detail TEXT NOT NULL,
        PRIMARY KEY (kind, sid))",
    "CREATE INDEX records_by_account ON records (account, kind, sid)",
    "CREATE INDEX records_by_call ON records (account, call, kind, sid)",
    "CREATE INDEX records_by_conference ON records (account, conference, kind, sid) WHERE conference IS NOT NULL",
    "CREATE INDEX records_by_name ON records (account, kind, name, sid) WHERE name IS NOT NULL",
    "CREATE INDEX records_by_age ON records (kind, created_ms)",
];

const NOTIFICATIONS: &[&str] = &[
    "CREATE TABLE notifications (
        sid TEXT NOT NULL PRIMARY KEY, account TEXT NOT NULL, call TEXT NOT NULL, severity BIGINT NOT NULL,
        at_ms BIGINT NOT NULL, detail TEXT NOT NULL)",
    "CREATE INDEX notifications_by_account ON notifications (account, sid)",
    "CREATE INDEX notifications_by_call ON notifications (call)",
];

/// What each call writes is found by fewer entries. Most calls complete: those are found by their account, all others by their
/// status. A line of the ledger is told apart where it lies, and not by an index of its own.
const CHEAPER_TO_WRITE: &[&str] = &[
    "DROP INDEX calls_by_status",
    "CREATE INDEX calls_by_status ON calls (account, status, sid) WHERE status <> 'completed'",
    "DROP INDEX ledger_by_account",
    "ALTER TABLE ledger RENAME TO ledger_before",
    "CREATE TABLE ledger (
        event TEXT NOT NULL, account TEXT NOT NULL, call TEXT NOT NULL, service TEXT NOT NULL,
        module TEXT NOT NULL, category TEXT NOT NULL, quantity BIGINT NOT NULL, unit TEXT NOT NULL, at_ms BIGINT NOT NULL,
        PRIMARY KEY (account, category, at_ms, event))",
    "INSERT INTO ledger SELECT event, account, call, service, module, category, quantity, unit, at_ms FROM ledger_before",
    "DROP TABLE ledger_before",
];

/// What was deleted is found by when.
const DELETED_BY_TIME: &[&str] = &["CREATE INDEX records_deleted ON records (kind, told_ms) WHERE status = 'deleted'"];

/// What edges hold of limits that they share.
const HOLDS: &[&str] = &[
    "CREATE TABLE holders (edge TEXT NOT NULL PRIMARY KEY, until_ms BIGINT NOT NULL)",
    "CREATE TABLE holds (scope TEXT NOT NULL, edge TEXT NOT NULL, count BIGINT NOT NULL, PRIMARY KEY (scope, edge))",
];

/// What lines cost, what they add up to each day, and which triggers have fired.
const USAGE: &[&str] = &[
    "ALTER TABLE ledger ADD COLUMN price BIGINT NOT NULL DEFAULT 0",
    "ALTER TABLE ledger ADD COLUMN rule TEXT NOT NULL DEFAULT ''",
    "CREATE TABLE usage_days (
        account TEXT NOT NULL, category TEXT NOT NULL, day BIGINT NOT NULL, count BIGINT NOT NULL, usage BIGINT NOT NULL,
        price BIGINT NOT NULL, PRIMARY KEY (account, category, day))",
    "INSERT INTO usage_days SELECT account, category, at_ms / 86400000, count(*), CAST(sum((quantity + 59) / 60) AS BIGINT), 0
        FROM ledger GROUP BY account, category, at_ms / 86400000",
    "CREATE TABLE trigger_fires (
        trigger_sid TEXT NOT NULL, period TEXT NOT NULL, account TEXT NOT NULL, value BIGINT NOT NULL, at_ms BIGINT NOT NULL,
        fired_ms BIGINT NOT NULL, next_ms BIGINT NOT NULL, tries BIGINT NOT NULL, told_ms BIGINT,
        PRIMARY KEY (trigger_sid, period))",
    "CREATE INDEX trigger_fires_untold ON trigger_fires (next_ms) WHERE told_ms IS NULL",
];

/// What customers are told as it happens, how far their sinks are, and who was said to be there.
const EVENT_LOG: &[&str] = &[
    "CREATE TABLE event_heads (account TEXT NOT NULL PRIMARY KEY, seq BIGINT NOT NULL)",
    "CREATE TABLE event_log (
        account TEXT NOT NULL, seq BIGINT NOT NULL, id TEXT NOT NULL, call TEXT, logged_ms BIGINT NOT NULL,
        detail TEXT NOT NULL, PRIMARY KEY (account, seq))",
    "CREATE UNIQUE INDEX event_log_by_id ON event_log (account, id)",
    "CREATE INDEX event_log_by_call ON event_log (call, seq) WHERE call IS NOT NULL",
    "CREATE TABLE sink_cursors (
        sink TEXT NOT NULL PRIMARY KEY, account TEXT NOT NULL, seq BIGINT NOT NULL, next_ms BIGINT NOT NULL,
        tries BIGINT NOT NULL, failing_ms BIGINT)",
    "CREATE TABLE presence (
        account TEXT NOT NULL, identity TEXT NOT NULL, available BIGINT NOT NULL, version BIGINT NOT NULL,
        changed_ms BIGINT NOT NULL, PRIMARY KEY (account, identity))",
];

/// What corrects the lines of a call is found by the call.
const CORRECTIONS: &[&str] = &[
    "CREATE INDEX ledger_corrections ON ledger (call) WHERE module = 'correction'",
    "CREATE UNIQUE INDEX ledger_corrections_once ON ledger (account, event) WHERE module = 'correction'",
];

/// What edges have set aside of budgets.
const CREDIT: &[&str] = &["CREATE TABLE credit (
        fund TEXT NOT NULL, edge TEXT NOT NULL, amount BIGINT NOT NULL, told_ms BIGINT NOT NULL,
        PRIMARY KEY (fund, edge))"];

/// From the first databases, which have a column `record`, to the second.
const RENAMED: &[&str] = &[
    // Its text holds the same, and more, under the same names.
    "ALTER TABLE calls RENAME COLUMN record TO detail",
    // Their columns were others.
    "DROP INDEX calls_by_time",
    "DROP INDEX calls_by_account",
];

/// Of all servers that start with one PostgreSQL, one migrates, and the others wait for it. The number is any that nobody
/// else takes.
const LOCK: &str = "SELECT CAST(count(*) AS BIGINT) FROM pg_advisory_xact_lock(4711001060)";

/// Brings the database to the newest form.
pub(super) async fn run(database: &Database) -> Result<(), StoreError> {
    let mut transaction = database.begin().await?;
    if database.backend == Backend::Postgres {
        sqlx::query(LOCK).execute(&mut *transaction).await?;
    }
    execute(
        &mut transaction,
        &["CREATE TABLE IF NOT EXISTS schema_version (version BIGINT NOT NULL PRIMARY KEY, applied_ms BIGINT NOT NULL)"],
    )
    .await?;
    let row = sqlx::query("SELECT CAST(coalesce(max(version), 0) AS BIGINT) FROM schema_version")
        .fetch_one(&mut *transaction)
        .await?;
    let version = usize::try_from(row.try_get::<i64, _>(0)?).unwrap_or(0);
    if version > STEPS.len() {
        return Err(StoreError::TooNew { version, known: STEPS.len() });
    }
    if version == 0 && database.backend == Backend::Sqlite && has_first_form(&mut transaction).await {
        execute(&mut transaction, RENAMED).await?;
    }
    for (step, number) in STEPS.iter().zip(1_i64..).skip(version) {
        execute(&mut transaction, step).await?;
        sqlx::query("INSERT INTO schema_version (version, applied_ms) VALUES ($1, $2)")
            .bind(number)
            .bind(wall_ms())
            .execute(&mut *transaction)
            .await?;
    }
    transaction.commit().await?;
    if version < STEPS.len() {
        tracing::info!(from = version, to = STEPS.len(), "the database has its newest form");
    }
    Ok(())
}

async fn has_first_form(transaction: &mut Transaction<'static, Any>) -> bool {
    sqlx::query("SELECT record FROM calls LIMIT 1").execute(&mut **transaction).await.is_ok()
}

async fn execute(transaction: &mut Transaction<'static, Any>, statements: &[&'static str]) -> Result<(), sqlx::Error> {
    for statement in statements {
        sqlx::query(*statement).execute(&mut **transaction).await?;
    }
    Ok(())
}
