//! How far each sink has the log of its account: one server at a time sends to it.

use sqlx::Row;

use super::{Store, StoreError, from_millis, millis};
use crate::events::Notification;
use crate::ids::AccountSid;

/// How far a sink is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SinkCursor {
    /// The number of the last entry that it has, or does not want.
    pub seq: u64,
    /// Nobody sends to it before, milliseconds since 1970: somebody does, or it is given a rest.
    pub next_ms: u64,
    /// In a row that came to nothing, and since when.
    pub tries: u32,
    pub failing_ms: Option<u64>,
}

impl Store {
    /// A sink's cursor; one that has none yet begins with what was logged since a time.
    pub async fn sink_cursor(&self, sink: &str, account: AccountSid, since_ms: u64) -> Result<SinkCursor, StoreError> {
        let text = "SELECT seq, next_ms, tries, failing_ms FROM sink_cursors WHERE sink = $1";
        if let Some(row) = sqlx::query(text).bind(sink).fetch_optional(&self.database.reader).await? {
            return Ok(SinkCursor {
                seq: from_millis(row.try_get(0)?),
                next_ms: from_millis(row.try_get(1)?),
                tries: row.try_get::<i64, _>(2)?.try_into().unwrap_or(0),
                failing_ms: row.try_get::<Option<i64>, _>(3)?.map(from_millis),
            });
        }
        self.begin_log(account).await?;
        let text = "SELECT CAST(min(seq) AS BIGINT) FROM event_log WHERE account = $1 AND logged_ms >= $2";
        let query = sqlx::query(text).bind(account.to_string()).bind(millis(since_ms));
        let first: Option<i64> = query.fetch_one(&self.database.reader).await?.try_get(0)?;
        let seq = match first {
            Some(first) => from_millis(first).saturating_sub(1),
            None => self.log_bounds(account).await?.head,
        };
        let text = "INSERT INTO sink_cursors (sink, account, seq, next_ms, tries) VALUES ($1, $2, $3, 0, 0) \
                    ON CONFLICT (sink) DO NOTHING";
        let query = sqlx::query(text).bind(sink).bind(account.to_string()).bind(millis(seq));
        query.execute(&self.database.durable).await?;
        Ok(SinkCursor { seq, ..SinkCursor::default() })
    }

    /// Takes a sink until a time, unless somebody else has since `seen`.
    pub async fn claim_sink(&self, sink: &str, seen: &SinkCursor, until_ms: u64) -> Result<bool, StoreError> {
        let text = "UPDATE sink_cursors SET next_ms = $1 WHERE sink = $2 AND next_ms = $3 AND seq = $4";
        let query = sqlx::query(text).bind(millis(until_ms)).bind(sink).bind(millis(seen.next_ms));
        Ok(query.bind(millis(seen.seq)).execute(&self.database.durable).await?.rows_affected() > 0)
    }

    /// What came of it; whether it was still ours, until `claimed_ms`.
    pub async fn put_sink(&self, sink: &str, claimed_ms: u64, cursor: &SinkCursor) -> Result<bool, StoreError> {
        let text = "UPDATE sink_cursors SET seq = $1, next_ms = $2, tries = $3, failing_ms = $4 \
                    WHERE sink = $5 AND next_ms = $6";
        let query = sqlx::query(text)
            .bind(millis(cursor.seq))
            .bind(millis(cursor.next_ms))
            .bind(i64::from(cursor.tries))
            .bind(cursor.failing_ms.map(millis))
            .bind(sink)
            .bind(millis(claimed_ms));
        Ok(query.execute(&self.database.durable).await?.rows_affected() > 0)
    }

    /// Tells a customer of something that is no call's.
    pub async fn notify(&self, notification: &Notification) -> Result<(), StoreError> {
        super::notifications::insert(&self.database.durable, notification).await
    }
}
