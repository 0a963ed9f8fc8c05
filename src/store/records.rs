//! What facts tell that stand for themselves, one row each: recordings. Written with the calls' batches; a fact that is told
//! again, or late, changes nothing.

use serde::de::DeserializeOwned;
use sqlx::any::AnyRow;
use sqlx::{Any, AssertSqlSafe, Row, Transaction};

use super::filter::Moment;
use super::{Store, StoreError, millis, unreadable};
use crate::events::{Event, EventKind, Recording};
use crate::ids::{AccountSid, CallSid, ConferenceSid, RecordingSid};

/// Which recordings a list is to hold: the same rule for rows and for those that are not stored yet.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RecordingFilter {
    pub call: Option<CallSid>,
    pub conference: Option<ConferenceSid>,
    /// Only those older than this one: the next page.
    pub before: Option<RecordingSid>,
    pub created: Moment,
}

impl RecordingFilter {
    pub fn takes(&self, recording: &Recording) -> bool {
        self.call.is_none_or(|call| call == recording.call)
            && self.conference.is_none_or(|conference| Some(conference) == recording.fact.conference)
            && self.before.is_none_or(|before| recording.fact.sid < before)
            && self.created.takes(Some(recording.fact.started_ms))
    }
}

/// The status of a row that was deleted: what the journal tells again must find it taken.
const DELETED: &str = "deleted";

const COLUMNS: &str = "kind, sid, account, call, conference, status, created_ms, told_ms, detail";
const RECORDING: &str = "recording";

/// A row, but for its account, call and time of telling, which are the event's.
struct Told {
    kind: &'static str,
    sid: String,
    conference: Option<String>,
    status: &'static str,
    created_ms: u64,
    detail: String,
}

fn told(event: &Event) -> Option<Told> {
    match &event.kind {
        EventKind::Recording(fact) => Some(Told {
            kind: RECORDING,
            sid: fact.sid.to_string(),
            conference: fact.conference.map(|conference| conference.to_string()),
            status: fact.status.as_str(),
            created_ms: fact.started_ms,
            detail: serde_json::to_string(fact).unwrap_or_default(),
        }),
        _ => None,
    }
}

/// Writes what the facts tell, each in the place of what is known.
pub(super) async fn write(transaction: &mut Transaction<'static, Any>, facts: &[Event]) -> Result<(), StoreError> {
    let text = format!(
        "INSERT INTO records ({COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
         ON CONFLICT (kind, sid) DO UPDATE SET conference = excluded.conference, status = excluded.status,
         created_ms = excluded.created_ms, told_ms = excluded.told_ms, detail = excluded.detail
         WHERE records.status <> '{DELETED}' AND records.told_ms <= excluded.told_ms"
    );
    for (event, row) in facts.iter().filter_map(|event| Some((event, told(event)?))) {
        sqlx::query(AssertSqlSafe(text.clone()))
            .bind(row.kind)
            .bind(row.sid)
            .bind(event.account.to_string())
            .bind(event.call.to_string())
            .bind(row.conference)
            .bind(row.status)
            .bind(millis(row.created_ms))
            .bind(millis(event.at_ms))
            .bind(row.detail)
            .execute(&mut **transaction)
            .await?;
    }
    Ok(())
}

impl Store {
    /// An account's recordings that the filter takes, the newest first.
    pub async fn find_recordings(
        &self,
        account: AccountSid,
        filter: &RecordingFilter,
        limit: u32,
    ) -> Result<Vec<Recording>, StoreError> {
        let mut text = format!(
            "SELECT {COLUMNS} FROM records WHERE account = $1 AND kind = '{RECORDING}' AND status <> '{DELETED}'"
        );
        let texts = [
            ("call =", filter.call.map(|call| call.to_string())),
            ("conference =", filter.conference.map(|conference| conference.to_string())),
            ("sid <", filter.before.map(|before| before.to_string())),
        ];
        let texts: Vec<_> = texts.into_iter().filter_map(|(test, value)| Some((test, value?))).collect();
        let times = [("created_ms >=", filter.created.from_ms), ("created_ms <", filter.created.below_ms)];
        let times: Vec<_> = times.into_iter().filter_map(|(test, value)| Some((test, value?))).collect();
        let tests = texts.iter().map(|(test, _)| *test).chain(times.iter().map(|(test, _)| *test));
        for (test, place) in tests.zip(2..) {
            text.push_str(&format!(" AND {test} ${place}"));
        }
        text.push_str(&format!(" ORDER BY sid DESC LIMIT {limit}"));
        let mut query = sqlx::query(AssertSqlSafe(text)).bind(account.to_string());
        for (_, value) in texts {
            query = query.bind(value);
        }
        for (_, value) in times {
            query = query.bind(millis(value));
        }
        query.fetch_all(&self.database.reader).await?.iter().map(read_recording).collect()
    }

    /// An account's recording.
    pub async fn recording(&self, account: AccountSid, sid: RecordingSid) -> Result<Option<Recording>, StoreError> {
        let text = format!(
            "SELECT {COLUMNS} FROM records WHERE account = $1 AND kind = '{RECORDING}' AND sid = $2 AND status <> '{DELETED}'"
        );
        let query = sqlx::query(AssertSqlSafe(text)).bind(account.to_string()).bind(sid.to_string());
        query.fetch_optional(&self.database.reader).await?.as_ref().map(read_recording).transpose()
    }

    /// Deletes a recording's row, be it there yet or not: it stays as a sign that there is none.
    pub async fn delete_recording(&self, recording: &Recording) -> Result<(), StoreError> {
        let text = format!(
            "INSERT INTO records ({COLUMNS}) VALUES ('{RECORDING}', $1, $2, $3, NULL, '{DELETED}', $4, $4, '')
             ON CONFLICT (kind, sid) DO UPDATE SET status = '{DELETED}', detail = ''"
        );
        sqlx::query(AssertSqlSafe(text))
            .bind(recording.fact.sid.to_string())
            .bind(recording.account.to_string())
            .bind(recording.call.to_string())
            .bind(millis(recording.fact.started_ms))
            .execute(&self.database.durable)
            .await?;
        Ok(())
    }

    /// Recordings of any account that began before a time and are over, the oldest first.
    pub async fn recordings_before(&self, created_ms: u64, limit: u32) -> Result<Vec<Recording>, StoreError> {
        let text = format!(
            "SELECT {COLUMNS} FROM records WHERE kind = '{RECORDING}' AND created_ms < $1
             AND status NOT IN ('{DELETED}', 'in-progress', 'paused') ORDER BY created_ms LIMIT {limit}"
        );
        let query = sqlx::query(AssertSqlSafe(text)).bind(millis(created_ms));
        query.fetch_all(&self.database.reader).await?.iter().map(read_recording).collect()
    }
}

fn read_recording(row: &AnyRow) -> Result<Recording, StoreError> {
    Ok(Recording { account: sid(row, "account")?, call: sid(row, "call")?, fact: detail(row)? })
}

fn sid<T: std::str::FromStr<Err = crate::ids::SidError>>(row: &AnyRow, column: &str) -> Result<T, StoreError> {
    row.try_get::<&str, _>(column)?.parse().map_err(unreadable)
}

fn detail<T: DeserializeOwned>(row: &AnyRow) -> Result<T, StoreError> {
    serde_json::from_str(row.try_get("detail")?).map_err(unreadable)
}
