//! What the lines of the ledger add up to.

use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Row};

use super::{Moment, Store, StoreError, from_millis, millis};
use crate::ids::AccountSid;
use crate::usage::Used;

const DAY_MS: u64 = 24 * 3600 * 1000;
/// Accounts that are asked about at once.
const ACCOUNTS: usize = 500;

impl Store {
    /// What these accounts have used in a span of time, by category and day, in no order; a pair may stand several times.
    pub async fn used(&self, accounts: &[AccountSid], span: Moment) -> Result<Vec<Used>, StoreError> {
        let (from, below) = (span.from_ms.unwrap_or(0), span.below_ms.unwrap_or(u64::MAX));
        let mut found = Vec::new();
        for accounts in accounts.chunks(ACCOUNTS) {
            let text = format!(
                "SELECT category, at_ms / {DAY_MS} AS day, CAST(count(*) AS BIGINT) AS lines,
                 CAST(sum(quantity) AS BIGINT) AS quantity, CAST(sum((quantity + 59) / 60) AS BIGINT) AS minutes
                 FROM ledger WHERE account IN ({}) AND at_ms >= $1 AND at_ms < $2 GROUP BY category, at_ms / {DAY_MS}",
                places(accounts.len())
            );
            let mut query = sqlx::query(AssertSqlSafe(text)).bind(millis(from)).bind(millis(below));
            for account in accounts {
                query = query.bind(account.to_string());
            }
            for row in query.fetch_all(&self.database.reader).await? {
                found.push(read(&row)?);
            }
        }
        Ok(found)
    }

    /// When the first of these accounts used something, milliseconds since 1970.
    pub async fn first_use(&self, accounts: &[AccountSid]) -> Result<Option<u64>, StoreError> {
        let mut first = None;
        for account in accounts {
            let query =
                sqlx::query("SELECT min(at_ms) AS first FROM ledger WHERE account = $1").bind(account.to_string());
            let row = query.fetch_one(&self.database.reader).await?;
            let own = row.try_get::<Option<i64>, _>("first")?.map(from_millis);
            first = first.into_iter().chain(own).min();
        }
        Ok(first)
    }
}

fn places(count: usize) -> String {
    (3..count + 3).map(|place| format!("${place}")).collect::<Vec<_>>().join(", ")
}

fn read(row: &AnyRow) -> Result<Used, StoreError> {
    let number = |column| Ok::<_, sqlx::Error>(from_millis(row.try_get(column)?));
    Ok(Used {
        category: row.try_get("category")?,
        day: number("day")?,
        count: number("lines")?,
        quantity: number("quantity")?,
        minutes: number("minutes")?,
    })
}
