//! Errors and warnings of calls that are over, written with them.

use sqlx::any::AnyRow;
use sqlx::{Any, AssertSqlSafe, Row, Transaction};

use super::calls::DELETED;
use super::filter::{LONGEST_CALL_MS, Moment, ORDERED_BEFORE_MS};
use super::{Store, StoreError, millis, unreadable};
use crate::events::{CallRecord, Notification};
use crate::ids::{AccountSid, NotificationSid};
use crate::twiml::Severity;

/// Which notifications a list is to hold: the same rule for rows and for those of calls that are not stored yet.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NotificationFilter {
    pub severity: Option<Severity>,
    /// Only those before this one in the list: the next page.
    pub before: Option<NotificationSid>,
    pub at: Moment,
}

impl NotificationFilter {
    pub fn takes(&self, notification: &Notification) -> bool {
        self.severity.is_none_or(|severity| severity == notification.notice.severity)
            && self.before.is_none_or(|before| notification.sid < before)
            && self.at.takes(Some(notification.at_ms))
    }
}

/// Writes the notifications of a call. Those of a call that was deleted are not told again.
pub(super) async fn write(transaction: &mut Transaction<'static, Any>, record: &CallRecord) -> Result<(), StoreError> {
    for notification in record.notifications() {
        insert(&mut **transaction, &notification).await?;
    }
    Ok(())
}

pub(super) async fn insert<'a>(
    database: impl sqlx::Executor<'a, Database = Any>,
    notification: &Notification,
) -> Result<(), StoreError> {
    let text = format!(
        "INSERT INTO notifications (sid, account, call, severity, at_ms, detail)
         SELECT $1, $2, $3, CAST($4 AS BIGINT), CAST($5 AS BIGINT), $6
         WHERE NOT EXISTS (SELECT 1 FROM calls WHERE sid = $3 AND status = '{DELETED}')
         ON CONFLICT (sid) DO NOTHING"
    );
    sqlx::query(AssertSqlSafe(text))
        .bind(notification.sid.to_string())
        .bind(notification.account.to_string())
        .bind(notification.call.to_string())
        .bind(level(notification.notice.severity))
        .bind(millis(notification.at_ms))
        .bind(serde_json::to_string(notification).unwrap_or_default())
        .execute(database)
        .await?;
    Ok(())
}

impl Store {
    /// An account's notifications that the filter takes, those of the newest calls first.
    pub async fn find_notifications(
        &self,
        account: AccountSid,
        filter: &NotificationFilter,
        limit: u32,
    ) -> Result<Vec<Notification>, StoreError> {
        // A sid is its call's but for the last digits: a span of times is a span of sids too.
        let from = filter.at.from_ms.map(|from| from.saturating_sub(LONGEST_CALL_MS + ORDERED_BEFORE_MS));
        let below = filter.at.below_ms.map(|below| below.saturating_add(ORDERED_BEFORE_MS));
        let texts = [
            ("sid <", filter.before.map(|before| before.to_string())),
            ("sid >=", from.map(|from| NotificationSid::at(from, 0).to_string())),
            ("sid <", below.map(|below| NotificationSid::at(below, 0).to_string())),
        ];
        let numbers = [
            ("severity =", filter.severity.map(level)),
            ("at_ms >=", filter.at.from_ms.map(millis)),
            ("at_ms <", filter.at.below_ms.map(millis)),
        ];
        let texts: Vec<_> = texts.into_iter().filter_map(|(test, value)| Some((test, value?))).collect();
        let numbers: Vec<_> = numbers.into_iter().filter_map(|(test, value)| Some((test, value?))).collect();
        let mut text = "SELECT detail FROM notifications WHERE account = $1".to_owned();
        let tests = texts.iter().map(|(test, _)| *test).chain(numbers.iter().map(|(test, _)| *test));
        for (test, place) in tests.zip(2..) {
            text.push_str(&format!(" AND {test} ${place}"));
        }
        text.push_str(&format!(" ORDER BY sid DESC LIMIT {limit}"));
        let mut query = sqlx::query(AssertSqlSafe(text)).bind(account.to_string());
        for (_, value) in texts {
            query = query.bind(value);
        }
        for (_, value) in numbers {
            query = query.bind(value);
        }
        query.fetch_all(&self.database.reader).await?.iter().map(read).collect()
    }

    pub async fn notification(
        &self,
        account: AccountSid,
        sid: NotificationSid,
    ) -> Result<Option<Notification>, StoreError> {
        let query = sqlx::query("SELECT detail FROM notifications WHERE account = $1 AND sid = $2");
        let query = query.bind(account.to_string()).bind(sid.to_string());
        query.fetch_optional(&self.database.reader).await?.as_ref().map(read).transpose()
    }
}

fn level(severity: Severity) -> i64 {
    match severity {
        Severity::Error => 0,
        Severity::Warning => 1,
    }
}

fn read(row: &AnyRow) -> Result<Notification, StoreError> {
    serde_json::from_str(row.try_get("detail")?).map_err(unreadable)
}
