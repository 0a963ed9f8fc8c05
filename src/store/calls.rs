//! CDRs, and the ledger lines that are written with them.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;

use serde::de::{DeserializeOwned, IntoDeserializer};
use serde::{Deserialize, Serialize};
use sqlx::any::AnyRow;
use sqlx::{Any, AssertSqlSafe, Row, Transaction};

use super::database::Backend;
use super::filter::{CallFilter, Value};
use super::usage::Metered;
use super::{
    Batch, Finished, Store, StoreError, Written, from_millis, log, millis, notifications, records, unreadable,
};
use crate::events::{CallRecord, Completed, Told, is_zero};
use crate::ids::{AccountSid, CallSid};

/// The status of a row whose call was deleted: no call has it.
pub(super) const DELETED: &str = "deleted";

const CALL_COLUMNS: &str = "sid, account, direction, from_address, to_address, parent, via, sip_call_id, status, started_ms, answered_ms, ended_ms, duration_s, detail";
const LEDGER_COLUMNS: &str = "event, account, call, service, module, category, quantity, unit, at_ms, price, rule";

/// What of a call no query asks for, in one column.
#[derive(Serialize, Deserialize)]
struct Detail<'a> {
    completed: Option<Cow<'a, Completed>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stir_verstat: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "is_zero")]
    queue_ms: u64,
    events: Cow<'a, [Told]>,
}

impl Store {
    /// Writes calls and their ledger lines, and facts that stand for themselves, all or none; what comes of that. A
    /// call that is there already stays as it is.
    pub async fn write(&self, batch: &Batch) -> Result<Written, StoreError> {
        let mut known = HashSet::new();
        loop {
            let mut transaction = self.database.begin_batch().await?;
            self.write_calls(&mut transaction, batch).await?;
            if let Metered::Done(fires) = self.meter(&mut transaction, batch, &known).await? {
                for Finished { record, .. } in &batch.finished {
                    notifications::write(&mut transaction, record).await?;
                }
                records::write(&mut transaction, &batch.facts).await?;
                let logged = log::write(&mut transaction, &batch.entries, &fires).await?;
                transaction.commit().await?;
                let billed = batch.finished.iter().map(|finished| finished.record.sid).collect();
                return Ok(Written { fires, logged, billed });
            }
            // The journal has told some of them before.
            transaction.rollback().await?;
            known = self.known_lines(batch).await?;
        }
    }

    async fn write_calls(&self, transaction: &mut Transaction<'static, Any>, batch: &Batch) -> Result<(), StoreError> {
        let mut rest = batch.finished.as_slice();
        while !rest.is_empty() {
            let insert = self.inserts.for_rows(rest.len());
            let (chunk, later) = rest.split_at(insert.rows);
            rest = later;
            let mut query = sqlx::query(AssertSqlSafe(insert.calls.clone()));
            for Finished { record, .. } in chunk {
                let detail = Detail {
                    completed: record.completed.as_deref().map(Cow::Borrowed),
                    stir_verstat: record.stir_verstat.as_deref().map(Cow::Borrowed),
                    queue_ms: record.queue_ms,
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
            query.execute(&mut **transaction).await?;
        }
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
                query.fetch_all(&self.database.reader).await?
            }
            None => {
                let text =
                    format!("SELECT {CALL_COLUMNS} FROM calls WHERE status <> '{DELETED}' ORDER BY sid DESC LIMIT $1");
                sqlx::query(AssertSqlSafe(text)).bind(limit).fetch_all(&self.database.reader).await?
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
        if !filter.is_possible() {
            return Ok(Vec::new());
        }
        self.rows_found("", account, filter, limit).await?.iter().map(read_record).collect()
    }

    /// `before` stands before the statement: a test asks how the database would go about it.
    pub(super) async fn rows_found(
        &self,
        before: &str,
        account: AccountSid,
        filter: &CallFilter,
        limit: u32,
    ) -> Result<Vec<AnyRow>, StoreError> {
        let (conditions, values) = filter.conditions();
        let index = match self.database.backend {
            Backend::Sqlite => format!("INDEXED BY {}", filter.index()),
            Backend::Postgres => String::new(),
        };
        let text = format!(
            "{before} SELECT {CALL_COLUMNS} FROM calls {index} WHERE account = $1 AND status <> '{DELETED}'{conditions} ORDER BY sid DESC LIMIT {limit}"
        );
        let mut query = sqlx::query(AssertSqlSafe(text)).bind(account.to_string());
        for value in values {
            query = match value {
                Value::Text(text) => query.bind(text),
                Value::Number(number) => query.bind(number),
            };
        }
        Ok(query.fetch_all(&self.database.reader).await?)
    }

    /// Whether there was such a call of the account. Its line in the ledger stays.
    ///
    /// The row stays too, emptied: without it the call would be written anew from what the journal still has of it.
    pub async fn delete_call(&self, account: AccountSid, sid: CallSid) -> Result<bool, StoreError> {
        let text = "UPDATE calls SET status = $1, from_address = '', to_address = '', via = '', sip_call_id = '', detail = '' \
                    WHERE account = $2 AND sid = $3 AND status <> $1";
        let query = sqlx::query(text).bind(DELETED).bind(account.to_string()).bind(sid.to_string());
        let mut transaction = self.database.begin().await?;
        let done = query.execute(&mut *transaction).await?;
        if done.rows_affected() > 0 {
            let notifications = sqlx::query("DELETE FROM notifications WHERE call = $1").bind(sid.to_string());
            notifications.execute(&mut *transaction).await?;
            let logged = sqlx::query("DELETE FROM event_log WHERE call = $1").bind(sid.to_string());
            logged.execute(&mut *transaction).await?;
        }
        transaction.commit().await?;
        Ok(done.rows_affected() > 0)
    }

    /// An account's calls that were deleted, from this one on.
    pub async fn deleted_calls(&self, account: AccountSid, from: CallSid) -> Result<HashSet<CallSid>, StoreError> {
        let text = format!("SELECT sid FROM calls WHERE account = $1 AND status = '{DELETED}' AND sid >= $2");
        let query = sqlx::query(AssertSqlSafe(text)).bind(account.to_string()).bind(from.to_string());
        query.fetch_all(&self.database.reader).await?.iter().map(|row| read(row, "sid")).collect()
    }

    pub async fn call(&self, sid: CallSid) -> Result<Option<CallRecord>, StoreError> {
        let text = format!("SELECT {CALL_COLUMNS} FROM calls WHERE sid = $1 AND status <> '{DELETED}'");
        let row = sqlx::query(AssertSqlSafe(text)).bind(sid.to_string()).fetch_optional(&self.database.reader).await?;
        row.as_ref().map(read_record).transpose()
    }
}

/// Statements that insert some rows at once: each is prepared once for a connection.
pub(super) struct Inserts([Insert; ROWS.len()]);

pub(super) struct Insert {
    pub(super) rows: usize,
    calls: Arc<str>,
    pub(super) ledger: Arc<str>,
}

/// Rows of one statement, the largest first. Each halves the one before: a batch takes four statements on average and not
/// nine, and each statement is two threads to be woken.
const ROWS: [usize; 9] = [256, 128, 64, 32, 16, 8, 4, 2, 1];

impl Inserts {
    /// The largest statement that so many rows fill.
    pub(super) fn for_rows(&self, count: usize) -> &Insert {
        self.0.iter().find(|insert| insert.rows <= count).expect("the last is of one row")
    }

    pub(super) fn new(backend: Backend) -> Inserts {
        Inserts(ROWS.map(|rows| Insert {
            rows,
            calls: insert("calls", CALL_COLUMNS, "sid", rows, backend).into(),
            ledger: insert("ledger", LEDGER_COLUMNS, "account, category, at_ms, event", rows, backend).into(),
        }))
    }
}

/// For SQLite places without numbers: it looks each numbered one up by a linear search through all of them. PostgreSQL
/// knows no others.
fn insert(table: &str, columns: &str, key: &str, rows: usize, backend: Backend) -> String {
    let width = columns.split(',').count();
    let place = |number: usize| match backend {
        Backend::Sqlite => "?".to_owned(),
        Backend::Postgres => format!("${number}"),
    };
    let row = |row: usize| (1..=width).map(|column| place(row * width + column)).collect::<Vec<_>>().join(",");
    let rows = (0..rows).map(|number| format!("({})", row(number))).collect::<Vec<_>>().join(",");
    format!("INSERT INTO {table} ({columns}) VALUES {rows} ON CONFLICT ({key}) DO NOTHING")
}

/// Reads a row of [`CALL_COLUMNS`].
fn read_record(row: &AnyRow) -> Result<CallRecord, StoreError> {
    let detail: Detail = serde_json::from_str(row.try_get("detail")?).map_err(unreadable)?;
    Ok(CallRecord {
        sid: read(row, "sid")?,
        account: read(row, "account")?,
        direction: read(row, "direction")?,
        from: row.try_get("from_address")?,
        to: row.try_get("to_address")?,
        parent: row.try_get::<Option<&str>, _>("parent")?.map(read_text).transpose()?,
        via: row.try_get("via")?,
        sip_call_id: row.try_get("sip_call_id")?,
        stir_verstat: detail.stir_verstat.map(Cow::into_owned),
        queue_ms: detail.queue_ms,
        status: read(row, "status")?,
        started_ms: from_millis(row.try_get("started_ms")?),
        answered_ms: row.try_get::<Option<i64>, _>("answered_ms")?.map(from_millis),
        ended_ms: Some(from_millis(row.try_get("ended_ms")?)),
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
