//! What facts tell that stand for themselves, one row each: recordings, conferences and messages. Written with the calls' batches; a
//! fact that is told again, or late, changes nothing.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use serde::de::DeserializeOwned;
use sqlx::any::AnyRow;
use sqlx::{Any, AssertSqlSafe, Row, Transaction};

use super::filter::{Moment, Value};
use super::{Store, StoreError, from_millis, millis, unreadable};
use crate::events::{
    Conference, ConferenceFact, ConferenceStatus, Event, EventKind, Message, OrderFact, Recording, RecordingFact,
    RecordingStatus,
};
use crate::ids::{AccountSid, CallSid, ConferenceSid, MessageSid, RecordingSid};

/// Which recordings a list is to hold: the same rule for rows and for those that are not stored yet.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RecordingFilter {
    pub call: Option<CallSid>,
    pub conference: Option<ConferenceSid>,
    /// Only those older than this one: the next page.
    pub before: Option<RecordingSid>,
    pub created: Moment,
    /// Those too that were deleted within [`DELETED_ARE_KNOWN`].
    pub with_deleted: bool,
}

impl RecordingFilter {
    pub fn takes(&self, recording: &Recording) -> bool {
        self.call.is_none_or(|call| call == recording.call)
            && self.conference.is_none_or(|conference| Some(conference) == recording.fact.conference)
            && self.before.is_none_or(|before| recording.fact.sid < before)
            && self.created.takes(Some(recording.fact.started_ms))
    }
}

/// Which conferences a list is to hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ConferenceFilter {
    pub name: Option<String>,
    pub status: Option<ConferenceStatus>,
    /// Only those older than this one: the next page.
    pub before: Option<ConferenceSid>,
    pub created: Moment,
    pub updated: Moment,
}

impl ConferenceFilter {
    pub fn takes(&self, conference: &Conference) -> bool {
        self.name.as_ref().is_none_or(|name| *name == conference.name)
            && self.status.is_none_or(|status| status == conference.status)
            && self.before.is_none_or(|before| conference.sid < before)
            && self.created.takes(Some(conference.created_ms))
            && self.updated.takes(Some(conference.updated_ms))
    }
}

/// Which messages a list is to hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MessageFilter {
    pub to: Option<String>,
    pub from: Option<String>,
    /// Only those older than this one: the next page.
    pub before: Option<MessageSid>,
    pub created: Moment,
}

impl MessageFilter {
    pub fn takes(&self, message: &Message) -> bool {
        let Message { fact, .. } = message;
        self.to.as_ref().is_none_or(|to| *to == fact.to)
            && self.from.as_ref().is_none_or(|from| *from == fact.from)
            && self.before.is_none_or(|before| fact.sid < before)
            && self.created.takes(Some(fact.created_ms))
    }
}

/// The status of a row that was deleted: what the journal tells again must find it taken.
const DELETED: &str = "deleted";

/// What is known of a recording that was deleted is forgotten after this time.
pub const DELETED_ARE_KNOWN: Duration = Duration::from_secs(40 * 24 * 3600);

const COLUMNS: &str = "kind, sid, account, call, conference, name, status, created_ms, told_ms, detail";
const RECORDING: &str = "recording";
const CONFERENCE: &str = "conference";
const MESSAGE: &str = "message";
const ORDER: &str = "order";
const QUEUED: &str = "queued";
/// The status of an order that waits at another edge than it came to.
const TAKEN: &str = "taken";

/// A row, but for its account, call and time of telling, which are the event's.
struct Told {
    kind: &'static str,
    sid: String,
    conference: Option<String>,
    name: Option<String>,
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
            name: None,
            status: fact.status.as_str(),
            created_ms: fact.started_ms,
            detail: serde_json::to_string(fact).unwrap_or_default(),
        }),
        EventKind::Conference(fact) => Some(Told {
            kind: CONFERENCE,
            sid: fact.sid.to_string(),
            conference: None,
            name: Some(fact.name.clone()),
            status: fact.status.as_str(),
            created_ms: fact.created_ms,
            detail: serde_json::to_string(fact).unwrap_or_default(),
        }),
        EventKind::Message(fact) => Some(Told {
            kind: MESSAGE,
            sid: fact.sid.to_string(),
            conference: None,
            // Found by who gets it: most lists are of one's messages.
            name: Some(fact.to.clone()),
            status: fact.status.as_str(),
            created_ms: fact.created_ms,
            detail: serde_json::to_string(fact).unwrap_or_default(),
        }),
        EventKind::Order(fact) => Some(Told {
            kind: ORDER,
            sid: event.call.to_string(),
            conference: None,
            name: Some(fact.node.clone()),
            status: if fact.waits() { QUEUED } else { DELETED },
            created_ms: fact.queued_ms,
            detail: serde_json::to_string(fact).unwrap_or_default(),
        }),
        _ => None,
    }
}

/// Writes what the facts tell, each in the place of what is known.
pub(super) async fn write(transaction: &mut Transaction<'static, Any>, facts: &[Event]) -> Result<(), StoreError> {
    let text = format!(
        "INSERT INTO records ({COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
         ON CONFLICT (kind, sid) DO UPDATE SET call = excluded.call, conference = excluded.conference,
         status = excluded.status, created_ms = excluded.created_ms, told_ms = excluded.told_ms, detail = excluded.detail
         WHERE records.status <> '{DELETED}' AND records.told_ms <= excluded.told_ms"
    );
    for (event, row) in facts.iter().filter_map(|event| Some((event, told(event)?))) {
        if row.kind == ORDER && row.status == DELETED {
            // The journal tells it after the order itself, however often it tells both: no sign need stay, but of what another
            // edge has taken over.
            let gone = format!("DELETE FROM records WHERE kind = '{ORDER}' AND sid = $1 AND status = '{QUEUED}'");
            sqlx::query(AssertSqlSafe(gone)).bind(row.sid.clone()).execute(&mut **transaction).await?;
            let gone = format!(
                "UPDATE records SET status = '{DELETED}', detail = '' WHERE kind = '{ORDER}' AND sid = $1 AND status = '{TAKEN}'"
            );
            sqlx::query(AssertSqlSafe(gone)).bind(row.sid).execute(&mut **transaction).await?;
            continue;
        }
        sqlx::query(AssertSqlSafe(text.clone()))
            .bind(row.kind)
            .bind(row.sid)
            .bind(event.account.to_string())
            .bind(event.call.to_string())
            .bind(row.conference)
            .bind(row.name)
            .bind(row.status)
            .bind(millis(row.created_ms))
            .bind(millis(event.at_ms))
            .bind(row.detail)
            .execute(&mut **transaction)
            .await?;
    }
    Ok(())
}

/// What is left of a row that was deleted.
struct Deleted {
    kind: &'static str,
    sid: String,
    account: AccountSid,
    call: CallSid,
    created_ms: u64,
    now_ms: u64,
    detail: String,
}

impl Store {
    /// An account's recordings that the filter takes, the newest first.
    pub async fn find_recordings(
        &self,
        account: AccountSid,
        filter: &RecordingFilter,
        limit: u32,
    ) -> Result<Vec<Recording>, StoreError> {
        let tests = [
            text("call =", filter.call),
            text("conference =", filter.conference),
            text("sid <", filter.before),
            time("created_ms >=", filter.created.from_ms),
            time("created_ms <", filter.created.below_ms),
            // A deleted row of which nothing is known says nothing.
            if filter.with_deleted { text("detail <>", Some("")) } else { text("status <>", Some(DELETED)) },
        ];
        self.find(RECORDING, account, tests, limit).await?.iter().map(read_recording).collect()
    }

    /// An account's conferences that the filter takes, the newest first; without their members.
    pub async fn find_conferences(
        &self,
        account: AccountSid,
        filter: &ConferenceFilter,
        limit: u32,
    ) -> Result<Vec<Conference>, StoreError> {
        let tests = [
            text("name =", filter.name.as_ref()),
            text("status =", filter.status.map(|status| status.as_str())),
            text("sid <", filter.before),
            time("created_ms >=", filter.created.from_ms),
            time("created_ms <", filter.created.below_ms),
            time("told_ms >=", filter.updated.from_ms),
            time("told_ms <", filter.updated.below_ms),
            text("status <>", Some(DELETED)),
        ];
        self.find(CONFERENCE, account, tests, limit).await?.iter().map(read_conference).collect()
    }

    /// An account's messages that the filter takes, the newest first. By sender they are read one after another.
    pub async fn find_messages(
        &self,
        account: AccountSid,
        filter: &MessageFilter,
        limit: u32,
    ) -> Result<Vec<Message>, StoreError> {
        let (mut found, mut before) = (Vec::new(), filter.before);
        loop {
            let tests = [
                text("name =", filter.to.as_ref()),
                text("sid <", before),
                time("created_ms >=", filter.created.from_ms),
                time("created_ms <", filter.created.below_ms),
                text("status <>", Some(DELETED)),
            ];
            let rows = self.find(MESSAGE, account, tests, limit).await?;
            let read: Vec<Message> = rows.iter().map(read_message).collect::<Result<_, _>>()?;
            before = read.last().map(|message| message.fact.sid);
            let ends = read.len() < limit as usize;
            found.extend(read.into_iter().filter(|message| filter.takes(message)));
            if ends || found.len() >= limit as usize {
                found.truncate(limit as usize);
                return Ok(found);
            }
        }
    }

    /// An account's message.
    pub async fn message(&self, account: AccountSid, sid: MessageSid) -> Result<Option<Message>, StoreError> {
        self.one(MESSAGE, account, sid.to_string()).await?.as_ref().map(read_message).transpose()
    }

    async fn find(
        &self,
        kind: &str,
        account: AccountSid,
        tests: impl IntoIterator<Item = Option<(&'static str, Value)>>,
        limit: u32,
    ) -> Result<Vec<AnyRow>, StoreError> {
        let mut text = format!("SELECT {COLUMNS} FROM records WHERE account = $1 AND kind = '{kind}'");
        let mut values = Vec::new();
        for ((test, value), place) in tests.into_iter().flatten().zip(2..) {
            text.push_str(&format!(" AND {test} ${place}"));
            values.push(value);
        }
        text.push_str(&format!(" ORDER BY sid DESC LIMIT {limit}"));
        let mut query = sqlx::query(AssertSqlSafe(text)).bind(account.to_string());
        for value in values {
            query = match value {
                Value::Text(text) => query.bind(text),
                Value::Number(number) => query.bind(number),
            };
        }
        Ok(query.fetch_all(&self.database.reader).await?)
    }

    async fn one(&self, kind: &str, account: AccountSid, sid: String) -> Result<Option<AnyRow>, StoreError> {
        let text = format!(
            "SELECT {COLUMNS} FROM records WHERE account = $1 AND kind = '{kind}' AND sid = $2 AND status <> '{DELETED}'"
        );
        let query = sqlx::query(AssertSqlSafe(text)).bind(account.to_string()).bind(sid);
        Ok(query.fetch_optional(&self.database.reader).await?)
    }

    /// An account's conference, without its members.
    pub async fn conference(&self, account: AccountSid, sid: ConferenceSid) -> Result<Option<Conference>, StoreError> {
        self.one(CONFERENCE, account, sid.to_string()).await?.as_ref().map(read_conference).transpose()
    }

    /// An account's recording.
    pub async fn recording(&self, account: AccountSid, sid: RecordingSid) -> Result<Option<Recording>, StoreError> {
        self.one(RECORDING, account, sid.to_string()).await?.as_ref().map(read_recording).transpose()
    }

    /// What it was is known for a while; not its audio.
    pub async fn delete_recording(&self, recording: &Recording, now_ms: u64) -> Result<(), StoreError> {
        let Recording { account, call, fact } = recording;
        let known = RecordingFact { status: RecordingStatus::Deleted, callback: None, ..fact.clone() };
        let detail = serde_json::to_string(&known).unwrap_or_default();
        let (sid, created_ms) = (fact.sid.to_string(), fact.started_ms);
        self.delete_record(Deleted { kind: RECORDING, sid, account: *account, call: *call, created_ms, now_ms, detail })
            .await
    }

    /// Forgets what is known of recordings that were deleted before a time.
    pub async fn forget_deleted_recordings(&self, before_ms: u64) -> Result<(), StoreError> {
        let text = format!(
            "UPDATE records SET detail = '' WHERE kind = '{RECORDING}' AND status = '{DELETED}' AND told_ms < $1
             AND detail <> ''"
        );
        sqlx::query(AssertSqlSafe(text)).bind(millis(before_ms)).execute(&self.database.durable).await?;
        Ok(())
    }

    pub async fn delete_message(&self, message: &Message, now_ms: u64) -> Result<(), StoreError> {
        let (sid, created_ms) = (message.fact.sid.to_string(), message.fact.created_ms);
        let (account, call, detail) = (message.account, CallSid::new(0), String::new());
        self.delete_record(Deleted { kind: MESSAGE, sid, account, call, created_ms, now_ms, detail }).await
    }

    /// Deletes a row, be it there yet or not: it stays as a sign that there is none.
    async fn delete_record(&self, row: Deleted) -> Result<(), StoreError> {
        let text = format!(
            "INSERT INTO records ({COLUMNS}) VALUES ($1, $2, $3, $4, NULL, NULL, '{DELETED}', $5, $6, $7)
             ON CONFLICT (kind, sid) DO UPDATE SET status = '{DELETED}', name = NULL, told_ms = excluded.told_ms,
             detail = excluded.detail"
        );
        sqlx::query(AssertSqlSafe(text))
            .bind(row.kind)
            .bind(row.sid)
            .bind(row.account.to_string())
            .bind(row.call.to_string())
            .bind(millis(row.created_ms))
            .bind(millis(row.now_ms))
            .bind(row.detail)
            .execute(&self.database.durable)
            .await?;
        Ok(())
    }

    /// Those that were deleted last: the journal may still tell of them.
    pub async fn deleted_recordings(&self) -> Result<HashSet<RecordingSid>, StoreError> {
        let text = format!(
            "SELECT sid FROM records WHERE kind = '{RECORDING}' AND status = '{DELETED}' ORDER BY told_ms DESC LIMIT 10000"
        );
        let rows = sqlx::query(AssertSqlSafe(text)).fetch_all(&self.database.reader).await?;
        rows.iter().map(|row| sid(row, "sid")).collect()
    }

    /// Takes the orders that wait for their turn at `from`, or waited at an earlier life of its node: they are those of `me`
    /// from now on. Of several who do so at once one gets each.
    pub async fn claim_orders(&self, from: &str, me: &str) -> Result<HashMap<CallSid, OrderFact>, StoreError> {
        let node = |life: &str| life.split('@').next().unwrap_or_default().to_owned();
        let status = if node(from) == node(me) { "status" } else { "'taken'" };
        // The lives of a node begin with its name, and the later is the greater.
        let text = format!(
            "UPDATE records SET name = $1, status = {status}, told_ms = CASE WHEN status = {status} THEN told_ms ELSE $2 END
             WHERE kind = '{ORDER}' AND status <> '{DELETED}' AND name >= $3 AND name <= $4 RETURNING call, detail"
        );
        let query = sqlx::query(AssertSqlSafe(text))
            .bind(me.to_owned())
            .bind(super::wall_ms())
            .bind(node(from))
            .bind(from.to_owned());
        let rows = query.fetch_all(&self.database.durable).await?;
        rows.iter().map(|row| Ok((sid(row, "call")?, detail(row)?))).collect()
    }

    /// Whether an order is known, wherever it waits, or was taken over and has been carried out.
    pub async fn has_order(&self, call: CallSid) -> Result<bool, StoreError> {
        let text = format!("SELECT sid FROM records WHERE kind = '{ORDER}' AND sid = $1");
        let query = sqlx::query(AssertSqlSafe(text)).bind(call.to_string());
        Ok(query.fetch_optional(&self.database.reader).await?.is_some())
    }

    /// Whether a recording of any account is over and was not deleted.
    pub async fn has_complete_recording(&self, sid: RecordingSid) -> Result<bool, StoreError> {
        let text = format!(
            "SELECT sid FROM records WHERE kind = '{RECORDING}' AND sid = $1 AND status IN ('completed', 'failed')"
        );
        let query = sqlx::query(AssertSqlSafe(text)).bind(sid.to_string());
        Ok(query.fetch_optional(&self.database.reader).await?.is_some())
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

fn read_message(row: &AnyRow) -> Result<Message, StoreError> {
    Ok(Message { account: sid(row, "account")?, fact: detail(row)? })
}

fn read_conference(row: &AnyRow) -> Result<Conference, StoreError> {
    let told_ms = from_millis(row.try_get("told_ms")?);
    Ok(Conference::told(sid(row, "account")?, sid(row, "call")?, told_ms, &detail::<ConferenceFact>(row)?))
}

fn text(test: &'static str, value: Option<impl ToString>) -> Option<(&'static str, Value)> {
    value.map(|value| (test, Value::Text(value.to_string())))
}

fn time(test: &'static str, value: Option<u64>) -> Option<(&'static str, Value)> {
    value.map(|value| (test, Value::Number(millis(value))))
}

fn sid<T: std::str::FromStr<Err = crate::ids::SidError>>(row: &AnyRow, column: &str) -> Result<T, StoreError> {
    row.try_get::<&str, _>(column)?.parse().map_err(unreadable)
}

fn detail<T: DeserializeOwned>(row: &AnyRow) -> Result<T, StoreError> {
    serde_json::from_str(row.try_get("detail")?).map_err(unreadable)
}
