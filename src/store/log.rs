//! The event log: of each account the events that somebody listens to, numbered in the order in which they are committed.
//!
//! Whoever adds to an account's log holds the row of its head until the commit, so numbers become visible in their order, also
//! where several servers write: who has read up to one has missed none before it.

use std::collections::{BTreeMap, HashMap, HashSet};

use sqlx::any::AnyRow;
use sqlx::{Any, AssertSqlSafe, Row, Transaction};

use super::usage::{Fire, places};
use super::{Store, StoreError, from_millis, millis, wall_ms};
use crate::eventlog::chain::Link;
use crate::eventlog::{Entry, Logged, entry_of_fire};
use crate::ids::{AccountSid, CallSid, EventSid};

/// Rows of one statement, and names that are asked for at once.
const ROWS: usize = 100;
const COLUMNS: &str = "account, seq, id, call, logged_ms, detail";

/// How far a log goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogBounds {
    /// The number of the last entry; 0: there was none.
    pub head: u64,
    /// The number of the oldest that is kept; above the head where none is.
    pub oldest: u64,
}

/// Adds entries that are not there, and the firings of triggers whose account has a log.
pub(super) async fn write(
    transaction: &mut Transaction<'static, Any>,
    entries: &[Entry],
    fires: &[Fire],
) -> Result<Vec<Logged>, StoreError> {
    let of_fire = |fire: &Fire| entry_of_fire(fire.account, &fire.trigger, &fire.period, fire.value, fire.fired_ms);
    write_all(transaction, entries.to_vec(), fires.iter().map(of_fire).collect()).await
}

/// Adds entries to the logs of accounts that have one: somebody has listened to them before.
pub(super) async fn write_where_heard(
    transaction: &mut Transaction<'static, Any>,
    entries: Vec<Entry>,
) -> Result<Vec<Logged>, StoreError> {
    write_all(transaction, Vec::new(), entries).await
}

async fn write_all(
    transaction: &mut Transaction<'static, Any>,
    heard: Vec<Entry>,
    others: Vec<Entry>,
) -> Result<Vec<Logged>, StoreError> {
    let listened: HashSet<AccountSid> = heard.iter().map(|entry| entry.account).collect();
    // In the order of their sids: two servers never wait for each other crosswise.
    let mut by_account: BTreeMap<AccountSid, Vec<Entry>> = BTreeMap::new();
    for entry in heard.into_iter().chain(others) {
        by_account.entry(entry.account).or_default().push(entry);
    }
    let mut logged = Vec::new();
    for (account, entries) in by_account {
        if let Some(head) = take_head(transaction, account, listened.contains(&account)).await? {
            logged.extend(append(transaction, account, head, entries).await?);
        }
    }
    Ok(logged)
}

/// The number of an account's last entry, which nobody else changes before the commit.
async fn take_head(
    transaction: &mut Transaction<'static, Any>,
    account: AccountSid,
    is_listened: bool,
) -> Result<Option<u64>, StoreError> {
    let text = match is_listened {
        true => {
            "INSERT INTO event_heads (account, seq) VALUES ($1, 0) \
             ON CONFLICT (account) DO UPDATE SET seq = event_heads.seq RETURNING seq"
        }
        false => "UPDATE event_heads SET seq = seq WHERE account = $1 RETURNING seq",
    };
    let row = sqlx::query(text).bind(account.to_string()).fetch_optional(&mut **transaction).await?;
    row.map(|row| Ok(from_millis(row.try_get(0)?))).transpose()
}

async fn append(
    transaction: &mut Transaction<'static, Any>,
    account: AccountSid,
    head: u64,
    mut entries: Vec<Entry>,
) -> Result<Vec<Logged>, StoreError> {
    let mut known = known(transaction, account, &entries).await?;
    entries.retain(|entry| known.insert(entry.id.to_string()));
    let logged_ms = from_millis(wall_ms());
    let mut links: HashMap<CallSid, Link> = HashMap::new();
    let mut rows = Vec::new();
    for (entry, seq) in entries.into_iter().zip(head + 1..) {
        let (id, call) = (entry.id, entry.call);
        let text = match call {
            None => entry.written(None),
            Some(call) => {
                let mut link = match links.remove(&call) {
                    Some(link) => link,
                    None => end_of_chain(transaction, account, call).await?,
                };
                let text = entry.written(Some(&mut link));
                links.insert(call, link);
                text
            }
        };
        rows.push((seq, id, call, text));
    }
    for chunk in rows.chunks(ROWS) {
        insert(transaction, account, logged_ms, chunk).await?;
    }
    if let Some((last, ..)) = rows.last() {
        let text = "UPDATE event_heads SET seq = $1 WHERE account = $2";
        sqlx::query(text).bind(millis(*last)).bind(account.to_string()).execute(&mut **transaction).await?;
    }
    Ok(rows.iter().filter_map(|(seq, _, _, text)| Logged::read(account, *seq, logged_ms, text)).collect())
}

async fn insert(
    transaction: &mut Transaction<'static, Any>,
    account: AccountSid,
    logged_ms: u64,
    rows: &[(u64, EventSid, Option<CallSid>, String)],
) -> Result<(), StoreError> {
    let width = COLUMNS.split(',').count();
    let values: Vec<String> = (0..rows.len()).map(|row| format!("({})", places(row * width + 1, width))).collect();
    let text = format!("INSERT INTO event_log ({COLUMNS}) VALUES {}", values.join(","));
    let mut query = sqlx::query(AssertSqlSafe(text));
    for (seq, id, call, text) in rows {
        query = query
            .bind(account.to_string())
            .bind(millis(*seq))
            .bind(id.to_string())
            .bind(call.map(|call| call.to_string()))
            .bind(millis(logged_ms))
            .bind(text.as_str());
    }
    query.execute(&mut **transaction).await?;
    Ok(())
}

/// Which of these are in the log.
async fn known(
    transaction: &mut Transaction<'static, Any>,
    account: AccountSid,
    entries: &[Entry],
) -> Result<HashSet<String>, StoreError> {
    let mut known = HashSet::new();
    for chunk in entries.chunks(ROWS) {
        let text = format!("SELECT id FROM event_log WHERE account = $1 AND id IN ({})", places(2, chunk.len()));
        let mut query = sqlx::query(AssertSqlSafe(text)).bind(account.to_string());
        for entry in chunk {
            query = query.bind(entry.id.to_string());
        }
        for row in query.fetch_all(&mut **transaction).await? {
            known.insert(row.try_get::<String, _>(0)?);
        }
    }
    Ok(known)
}

async fn end_of_chain(
    transaction: &mut Transaction<'static, Any>,
    account: AccountSid,
    call: CallSid,
) -> Result<Link, StoreError> {
    let text = "SELECT detail FROM event_log WHERE call = $1 AND account = $2 ORDER BY seq DESC LIMIT 1";
    let query = sqlx::query(text).bind(call.to_string()).bind(account.to_string());
    let Some(row) = query.fetch_optional(&mut **transaction).await? else { return Ok(Link::default()) };
    let last = serde_json::from_str(&row.try_get::<String, _>(0)?).ok();
    Ok(last.as_ref().and_then(Link::behind).unwrap_or_default())
}

impl Store {
    /// From now on an account has a log, to which is added also what nobody asks about: that a trigger fires, or that somebody comes.
    pub async fn begin_log(&self, account: AccountSid) -> Result<(), StoreError> {
        let text = "INSERT INTO event_heads (account, seq) VALUES ($1, 0) ON CONFLICT (account) DO NOTHING";
        sqlx::query(text).bind(account.to_string()).execute(&self.database.durable).await?;
        Ok(())
    }

    /// An account's entries behind one, the oldest first.
    pub async fn log_after(&self, account: AccountSid, seq: u64, limit: u32) -> Result<Vec<Logged>, StoreError> {
        let text =
            format!("SELECT {COLUMNS} FROM event_log WHERE account = $1 AND seq > $2 ORDER BY seq LIMIT {limit}");
        let query = sqlx::query(AssertSqlSafe(text)).bind(account.to_string()).bind(millis(seq));
        let rows = query.fetch_all(&self.database.reader).await?;
        rows.iter().filter_map(|row| read(account, row).transpose()).collect()
    }

    pub async fn log_bounds(&self, account: AccountSid) -> Result<LogBounds, StoreError> {
        let text = "SELECT h.seq, (SELECT CAST(min(l.seq) AS BIGINT) FROM event_log l WHERE l.account = h.account) \
                    FROM event_heads h WHERE h.account = $1";
        let row = sqlx::query(text).bind(account.to_string()).fetch_optional(&self.database.reader).await?;
        let Some(row) = row else { return Ok(LogBounds { head: 0, oldest: 1 }) };
        let head = from_millis(row.try_get(0)?);
        Ok(LogBounds { head, oldest: row.try_get::<Option<i64>, _>(1)?.map_or(head + 1, from_millis) })
    }

    /// The numbers of the last entries of all these.
    pub async fn log_heads(&self, accounts: &[AccountSid]) -> Result<Vec<(AccountSid, u64)>, StoreError> {
        let mut heads = Vec::new();
        for chunk in accounts.chunks(ROWS) {
            let text = format!("SELECT account, seq FROM event_heads WHERE account IN ({})", places(1, chunk.len()));
            let mut query = sqlx::query(AssertSqlSafe(text));
            for account in chunk {
                query = query.bind(account.to_string());
            }
            for row in query.fetch_all(&self.database.reader).await? {
                let (account, seq): (String, i64) = (row.try_get(0)?, row.try_get(1)?);
                heads.extend(account.parse().ok().map(|account| (account, from_millis(seq))));
            }
        }
        Ok(heads)
    }

    /// Forgets entries that were logged before a time; how many.
    pub async fn prune_log(&self, before_ms: u64) -> Result<u64, StoreError> {
        let rows = sqlx::query("SELECT account FROM event_heads").fetch_all(&self.database.reader).await?;
        let mut pruned = 0;
        for row in rows {
            let account: String = row.try_get(0)?;
            // Numbers and times go up together: only what is too old is looked at.
            let text = "DELETE FROM event_log WHERE account = $1 AND seq < coalesce( \
                        (SELECT min(seq) FROM event_log WHERE account = $1 AND logged_ms >= $2), \
                        (SELECT seq + 1 FROM event_heads WHERE account = $1))";
            let query = sqlx::query(text).bind(account).bind(millis(before_ms));
            pruned += query.execute(&self.database.durable).await?.rows_affected();
        }
        Ok(pruned)
    }
}

fn read(account: AccountSid, row: &AnyRow) -> Result<Option<Logged>, StoreError> {
    let text: String = row.try_get("detail")?;
    Ok(Logged::read(account, from_millis(row.try_get("seq")?), from_millis(row.try_get("logged_ms")?), &text))
}
