//! The ledger: its lines, what they add up to each day, and the triggers that fire by that, all in one transaction.
//!
//! A line that is there already changes nothing, however often it is told. A trigger fires once in each period of its kind, by the
//! time of the use and not by when that was heard of: the row of its firing is the proof, and is written with the lines that
//! brought it about.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use sqlx::any::AnyRow;
use sqlx::{Any, AssertSqlSafe, Row, Transaction};

use super::database::Backend;
use super::{Batch, Moment, Store, StoreError, from_millis, log, millis, unreadable, wall_ms};
use crate::events::CallRecord;
use crate::ids::{AccountSid, CallSid, EventSid};
use crate::usage::{Action, CORRECTION, DAY_MS, LedgerLine, Priced, Recurring, Sum, Trigger, Used, category_of};

/// Calls that are asked about at once.
const CALLS: usize = 100;
/// Accounts that are asked about at once.
const ACCOUNTS: usize = 500;

/// That a trigger has fired.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fire {
    pub trigger: String,
    pub period: String,
    pub account: AccountSid,
    /// What was used when it fired, in millionths.
    pub value: i64,
    /// When that was used, and when that was found, milliseconds since 1970.
    pub at_ms: u64,
    pub fired_ms: u64,
    pub tries: u32,
    /// Whether it has changed what the account may.
    pub has_acted: bool,
}

/// A line of the ledger as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BilledLine {
    pub event: String,
    pub service: String,
    pub module: String,
    pub category: String,
    pub quantity: u64,
    pub unit: String,
    /// Millionths.
    pub price: i64,
    /// How that came: JSON, or empty.
    pub rule: String,
    pub at_ms: u64,
}

/// What came of a try.
pub(super) enum Metered {
    Done(Vec<Fire>),
    /// Some of the lines are there already: nothing may be written before it is known which.
    SomeAreKnown,
}

impl Store {
    /// Writes those lines of a batch that are not known, with everything that follows from them.
    pub(super) async fn meter(
        &self,
        transaction: &mut Transaction<'static, Any>,
        batch: &Batch,
        known: &HashSet<EventSid>,
    ) -> Result<Metered, StoreError> {
        // What is told again may be there twice.
        let mut seen = HashSet::new();
        let lines: Vec<&LedgerLine> =
            batch.lines().filter(|line| !known.contains(&line.event) && seen.insert(line.event)).collect();
        if lines.is_empty() {
            return Ok(Metered::Done(Vec::new()));
        }
        let family = Family::of(transaction, &lines).await?;
        let triggers = family.triggers(transaction).await?;
        self.lock(transaction, &family, &triggers, batch).await?;
        let priced = price(transaction, batch, &lines).await?;
        if self.insert_lines(transaction, &lines, &priced).await? < lines.len() as u64 {
            return Ok(Metered::SomeAreKnown);
        }
        add_to_days(transaction, &lines, &priced).await?;
        let mut fires = Vec::new();
        for (trigger, at_ms) in due(&family, &triggers, &lines) {
            fires.extend(fire(transaction, trigger, at_ms).await?);
        }
        Ok(Metered::Done(fires))
    }

    async fn insert_lines(
        &self,
        transaction: &mut Transaction<'static, Any>,
        lines: &[&LedgerLine],
        priced: &[Priced],
    ) -> Result<u64, StoreError> {
        let (mut written, mut at) = (0, 0);
        while at < lines.len() {
            let insert = self.inserts.for_rows(lines.len() - at);
            let mut query = sqlx::query(AssertSqlSafe(insert.ledger.clone()));
            for (line, price) in lines[at..].iter().zip(&priced[at..]).take(insert.rows) {
                query = query
                    .bind(line.event.to_string())
                    .bind(line.account.to_string())
                    .bind(line.call.to_string())
                    .bind(line.service)
                    .bind(line.module)
                    .bind(line.category)
                    .bind(millis(line.quantity))
                    .bind(line.unit.as_str())
                    .bind(millis(line.at_ms))
                    .bind(price.amount)
                    .bind(price.rule.clone());
            }
            written += query.execute(&mut **transaction).await?.rows_affected();
            at += insert.rows;
        }
        Ok(written)
    }

    /// Of several servers one at a time adds to what a trigger or a tier goes by. SQLite has one writer.
    async fn lock(
        &self,
        transaction: &mut Transaction<'static, Any>,
        family: &Family,
        triggers: &[Trigger],
        batch: &Batch,
    ) -> Result<(), StoreError> {
        if self.database.backend == Backend::Sqlite {
            return Ok(());
        }
        let of_triggers = triggers.iter().map(|trigger| family.root(trigger.account));
        let roots: BTreeSet<AccountSid> = of_triggers.chain(batch.books.keys().map(|of| family.root(*of))).collect();
        for root in roots {
            let lock = "SELECT CAST(count(*) AS BIGINT) FROM pg_advisory_xact_lock(hashtextextended($1, 4712))";
            sqlx::query(lock).bind(root.to_string()).execute(&mut **transaction).await?;
        }
        Ok(())
    }

    /// Which lines of a batch the ledger has.
    pub(super) async fn known_lines(&self, batch: &Batch) -> Result<HashSet<EventSid>, StoreError> {
        let mut known = HashSet::new();
        for line in batch.lines() {
            let text = "SELECT event FROM ledger WHERE account = $1 AND category = $2 AND at_ms = $3 AND event = $4";
            let query = sqlx::query(text)
                .bind(line.account.to_string())
                .bind(line.category)
                .bind(millis(line.at_ms))
                .bind(line.event.to_string());
            if query.fetch_optional(&self.database.durable).await?.is_some() {
                known.insert(line.event);
            }
        }
        Ok(known)
    }

    /// Looks whether a trigger that was just made fires by what was used before.
    pub async fn look_at_trigger(&self, trigger: &Trigger, now_ms: u64) -> Result<Option<Fire>, StoreError> {
        let mut transaction = self.database.begin().await?;
        let fired = fire(&mut transaction, trigger, now_ms).await?;
        log::write(&mut transaction, &[], fired.as_slice()).await?;
        transaction.commit().await?;
        Ok(fired)
    }

    /// What these accounts have used in a span of time, by category and day, in no order; a pair may stand several times. A
    /// span begins and ends at midnight.
    pub async fn used(&self, accounts: &[AccountSid], span: Moment) -> Result<Vec<Used>, StoreError> {
        let (from, below) = (span.from_ms.unwrap_or(0) / DAY_MS, span.below_ms.unwrap_or(u64::MAX).div_ceil(DAY_MS));
        let mut found = Vec::new();
        for accounts in accounts.chunks(ACCOUNTS) {
            let text = format!(
                "SELECT category, day, count, usage, price FROM usage_days
                 WHERE account IN ({}) AND day >= $1 AND day < $2",
                places(3, accounts.len())
            );
            let mut query = sqlx::query(AssertSqlSafe(text)).bind(millis(from)).bind(millis(below));
            for account in accounts {
                query = query.bind(account.to_string());
            }
            for row in query.fetch_all(&self.database.reader).await? {
                found.push(read_used(&row)?);
            }
        }
        Ok(found)
    }

    /// When the first of these accounts used something, milliseconds since 1970, to the day.
    pub async fn first_use(&self, accounts: &[AccountSid]) -> Result<Option<u64>, StoreError> {
        let mut first = None;
        for account in accounts {
            let query =
                sqlx::query("SELECT min(day) AS first FROM usage_days WHERE account = $1").bind(account.to_string());
            let row = query.fetch_one(&self.database.reader).await?;
            let own = row.try_get::<Option<i64>, _>("first")?.map(|day| from_millis(day) * DAY_MS);
            first = first.into_iter().chain(own).min();
        }
        Ok(first)
    }

    /// The lines of a call that ran in that time, and what corrects them, whenever that was.
    pub async fn bill(
        &self,
        account: AccountSid,
        call: CallSid,
        from_ms: u64,
        until_ms: u64,
    ) -> Result<Vec<BilledLine>, StoreError> {
        let leaves = crate::usage::LEAVES;
        // By category: so the lines lie in the table.
        let text = format!(
            "SELECT event, service, module, category, quantity, unit, price, rule, at_ms FROM ledger
             WHERE account = $1 AND call = $2 AND at_ms >= $3 AND at_ms <= $4 AND category IN ({})
             UNION SELECT event, service, module, category, quantity, unit, price, rule, at_ms FROM ledger
             WHERE account = $1 AND call = $2 AND module = '{CORRECTION}' ORDER BY at_ms, event",
            places(5, leaves.len())
        );
        let mut query = sqlx::query(AssertSqlSafe(text))
            .bind(account.to_string())
            .bind(call.to_string())
            .bind(millis(from_ms))
            .bind(millis(until_ms));
        for leaf in leaves {
            query = query.bind((*leaf).to_owned());
        }
        let read = |row: &AnyRow| {
            let number = |column| Ok::<_, sqlx::Error>(from_millis(row.try_get(column)?));
            Ok(BilledLine {
                event: row.try_get("event")?,
                service: row.try_get("service")?,
                module: row.try_get("module")?,
                category: row.try_get("category")?,
                quantity: number("quantity")?,
                unit: row.try_get("unit")?,
                price: row.try_get("price")?,
                rule: row.try_get("rule")?,
                at_ms: number("at_ms")?,
            })
        };
        query.fetch_all(&self.database.reader).await?.iter().map(read).collect()
    }

    /// What a correction takes back or adds, if it was made.
    pub async fn correction(&self, account: AccountSid, event: EventSid) -> Result<Option<i64>, StoreError> {
        let text = format!("SELECT price FROM ledger WHERE account = $1 AND event = $2 AND module = '{CORRECTION}'");
        let query = sqlx::query(AssertSqlSafe(text)).bind(account.to_string()).bind(event.to_string());
        let row = query.fetch_optional(&self.database.reader).await?;
        row.map(|row| Ok(row.try_get(0)?)).transpose()
    }

    /// What the legs of an account's calls cost themselves, in millionths; of those that the ledger has.
    pub async fn prices(&self, account: AccountSid, calls: &[CallRecord]) -> Result<HashMap<CallSid, i64>, StoreError> {
        let mut prices = HashMap::new();
        // The line of a leg has the time of its end: so it is found by the table's own order.
        let over: Vec<(&CallRecord, u64)> = calls.iter().filter_map(|call| Some((call, call.ended_ms?))).collect();
        for chunk in over.chunks(CALLS) {
            let pairs: Vec<String> = (0..chunk.len()).map(|at| format!("({})", places(2 + 2 * at, 2))).collect();
            let text = format!(
                "SELECT call, price FROM ledger WHERE account = $1 AND module <> '{CORRECTION}' AND (category, at_ms) IN (VALUES {})",
                pairs.join(",")
            );
            let mut query = sqlx::query(AssertSqlSafe(text)).bind(account.to_string());
            for (call, ended_ms) in chunk {
                query = query.bind(category_of(call)).bind(millis(*ended_ms));
            }
            for row in query.fetch_all(&self.database.reader).await? {
                let call: String = row.try_get(0)?;
                if let Some(call) = call.parse().ok().filter(|sid| chunk.iter().any(|(call, _)| call.sid == *sid)) {
                    prices.insert(call, row.try_get(1)?);
                }
            }
        }
        Ok(prices)
    }

    /// When a trigger fired last, milliseconds since 1970.
    pub async fn last_fired(&self, trigger: &str) -> Result<Option<u64>, StoreError> {
        let query = sqlx::query("SELECT max(fired_ms) AS fired FROM trigger_fires WHERE trigger_sid = $1");
        let row = query.bind(trigger.to_owned()).fetch_one(&self.database.reader).await?;
        Ok(row.try_get::<Option<i64>, _>("fired")?.map(from_millis))
    }

    /// Firings of which nobody was told yet, and of which it is time to tell.
    pub async fn untold_fires(&self, now_ms: u64) -> Result<Vec<Fire>, StoreError> {
        let text = "SELECT trigger_sid, period, account, value, at_ms, fired_ms, tries FROM trigger_fires
                    WHERE told_ms IS NULL AND next_ms <= $1 ORDER BY next_ms LIMIT 1000";
        let rows = sqlx::query(text).bind(millis(now_ms)).fetch_all(&self.database.reader).await?;
        rows.iter().map(read_fire).collect()
    }

    /// Takes it upon this server to tell of a firing, until then. False: another has, or it was told.
    pub async fn claim_fire(&self, fire: &Fire, until_ms: u64) -> Result<bool, StoreError> {
        let text = "UPDATE trigger_fires SET tries = tries + 1, next_ms = $1
                    WHERE trigger_sid = $2 AND period = $3 AND told_ms IS NULL AND tries = $4";
        let query = sqlx::query(text)
            .bind(millis(until_ms))
            .bind(fire.trigger.clone())
            .bind(fire.period.clone())
            .bind(i64::from(fire.tries));
        Ok(query.execute(&self.database.durable).await?.rows_affected() == 1)
    }

    /// It was told; or it is given up.
    pub async fn fire_told(&self, trigger: &str, period: &str, now_ms: u64) -> Result<(), StoreError> {
        let query = sqlx::query("UPDATE trigger_fires SET told_ms = $1 WHERE trigger_sid = $2 AND period = $3");
        let query = query.bind(millis(now_ms)).bind(trigger.to_owned()).bind(period.to_owned());
        query.execute(&self.database.durable).await?;
        Ok(())
    }
}

/// The accounts of lines, and those that have made them.
struct Family {
    accounts: BTreeSet<AccountSid>,
    owners: HashMap<AccountSid, AccountSid>,
}

impl Family {
    async fn of(transaction: &mut Transaction<'static, Any>, lines: &[&LedgerLine]) -> Result<Family, StoreError> {
        let accounts: BTreeSet<AccountSid> = lines.iter().map(|line| line.account).collect();
        let mut owners = HashMap::new();
        for chunk in accounts.iter().collect::<Vec<_>>().chunks(ACCOUNTS) {
            let text = format!(
                "SELECT sid, account FROM resources WHERE kind = 'account' AND parent = '' AND sid IN ({})",
                places(1, chunk.len())
            );
            let mut query = sqlx::query(AssertSqlSafe(text));
            for account in chunk {
                query = query.bind(account.to_string());
            }
            for row in query.fetch_all(&mut **transaction).await? {
                owners.insert(account_of(&row, "sid")?, account_of(&row, "account")?);
            }
        }
        Ok(Family { accounts, owners })
    }

    fn root(&self, account: AccountSid) -> AccountSid {
        self.owners.get(&account).copied().unwrap_or(account)
    }

    /// Those of the accounts and of their owners.
    async fn triggers(&self, transaction: &mut Transaction<'static, Any>) -> Result<Vec<Trigger>, StoreError> {
        let all: BTreeSet<AccountSid> = self.accounts.iter().chain(self.owners.values()).copied().collect();
        let mut triggers = Vec::new();
        for chunk in all.into_iter().collect::<Vec<_>>().chunks(ACCOUNTS) {
            let text = format!(
                "SELECT sid, account, detail FROM resources WHERE kind = 'usage-trigger' AND account IN ({})",
                places(1, chunk.len())
            );
            let mut query = sqlx::query(AssertSqlSafe(text));
            for account in chunk {
                query = query.bind(account.to_string());
            }
            for row in query.fetch_all(&mut **transaction).await? {
                let account = account_of(&row, "account")?;
                triggers.extend(Trigger::read(row.try_get("sid")?, account, row.try_get("detail")?));
            }
        }
        Ok(triggers)
    }
}

/// What each line costs. What a tier goes by is read once, and counted on from there.
async fn price(
    transaction: &mut Transaction<'static, Any>,
    batch: &Batch,
    lines: &[&LedgerLine],
) -> Result<Vec<Priced>, StoreError> {
    let mut used_in_month = HashMap::<(AccountSid, &str, String), u64>::new();
    let mut priced = Vec::with_capacity(lines.len());
    for line in lines {
        if let Some(correction) = &line.correction {
            let rule = serde_json::json!({ "correction": correction.reason }).to_string();
            priced.push(Priced { amount: correction.amount, rule });
            continue;
        }
        let Some(book) = batch.books.get(&line.account) else {
            priced.push(Priced::default());
            continue;
        };
        if !book.has_tiers(line) {
            priced.push(book.price(line, 0));
            continue;
        }
        let month = Recurring::Monthly.period(line.at_ms);
        let key = (line.account, line.category, month.name.clone());
        let before = match used_in_month.get(&key) {
            Some(used) => *used,
            None => sum_of_account(transaction, line, month.first_day, month.last_day).await?,
        };
        priced.push(book.price(line, before));
        used_in_month.insert(key, before + line.usage());
    }
    Ok(priced)
}

async fn sum_of_account(
    transaction: &mut Transaction<'static, Any>,
    line: &LedgerLine,
    first_day: u64,
    last_day: u64,
) -> Result<u64, StoreError> {
    let text = "SELECT CAST(coalesce(sum(usage), 0) AS BIGINT) AS used FROM usage_days
                WHERE account = $1 AND category = $2 AND day >= $3 AND day <= $4";
    let query = sqlx::query(text)
        .bind(line.account.to_string())
        .bind(line.category)
        .bind(millis(first_day))
        .bind(millis(last_day));
    Ok(from_millis(query.fetch_one(&mut **transaction).await?.try_get("used")?))
}

/// In one order, so that no two servers wait for each other.
async fn add_to_days(
    transaction: &mut Transaction<'static, Any>,
    lines: &[&LedgerLine],
    priced: &[Priced],
) -> Result<(), StoreError> {
    let mut days = BTreeMap::<(AccountSid, &str, u64), (u64, u64, i64)>::new();
    for (line, price) in lines.iter().zip(priced) {
        let day = days.entry((line.account, line.category, line.day())).or_default();
        *day = (day.0 + u64::from(line.correction.is_none()), day.1 + line.usage(), day.2.saturating_add(price.amount));
    }
    let text = "INSERT INTO usage_days (account, category, day, count, usage, price) VALUES ($1, $2, $3, $4, $5, $6)
                ON CONFLICT (account, category, day) DO UPDATE SET count = usage_days.count + excluded.count,
                usage = usage_days.usage + excluded.usage, price = usage_days.price + excluded.price";
    for ((account, category, day), (count, usage, price)) in days {
        let query = sqlx::query(text)
            .bind(account.to_string())
            .bind(category)
            .bind(millis(day))
            .bind(millis(count))
            .bind(millis(usage))
            .bind(price);
        query.execute(&mut **transaction).await?;
    }
    Ok(())
}

/// The triggers that may fire by these lines, each once for a period, with the time of a use in it.
fn due<'a>(family: &Family, triggers: &'a [Trigger], lines: &[&LedgerLine]) -> Vec<(&'a Trigger, u64)> {
    let mut due = BTreeMap::new();
    for line in lines {
        for (number, trigger) in triggers.iter().enumerate() {
            let concerns = trigger.account == line.account || trigger.account == family.root(line.account);
            if concerns && trigger.category.of.contains(&line.category) {
                let at_ms = due.entry((number, trigger.recurring.period(line.at_ms).name)).or_insert(line.at_ms);
                *at_ms = line.at_ms.max(*at_ms);
            }
        }
    }
    due.into_iter().map(|((number, _), at_ms)| (&triggers[number], at_ms)).collect()
}

/// Lets a trigger fire if so much was used in the period of that time, and it has not fired in it.
async fn fire(
    transaction: &mut Transaction<'static, Any>,
    trigger: &Trigger,
    at_ms: u64,
) -> Result<Option<Fire>, StoreError> {
    let period = trigger.recurring.period(at_ms);
    if trigger.was_told(&period) {
        return Ok(None);
    }
    let text = "SELECT category, day, count, usage, price FROM usage_days WHERE day >= $1 AND day <= $2 AND
                (account = $3 OR account IN (SELECT sid FROM resources WHERE kind = 'account' AND account = $3))";
    let query = sqlx::query(text)
        .bind(millis(period.first_day))
        .bind(millis(period.last_day))
        .bind(trigger.account.to_string());
    let rows = query.fetch_all(&mut **transaction).await?;
    let used: Vec<Used> = rows.iter().map(read_used).collect::<Result<_, _>>()?;
    let sum: Sum = trigger.category.sum(&used);
    let value = sum.by(trigger.by);
    if value < trigger.value {
        return Ok(None);
    }
    let fired_ms = from_millis(wall_ms());
    let text = "INSERT INTO trigger_fires (trigger_sid, period, account, value, at_ms, fired_ms, next_ms, tries)
                VALUES ($1, $2, $3, $4, $5, $6, $7, 0) ON CONFLICT (trigger_sid, period) DO NOTHING";
    let query = sqlx::query(text)
        .bind(trigger.sid.clone())
        .bind(period.name.clone())
        .bind(trigger.account.to_string())
        .bind(value)
        .bind(millis(at_ms))
        .bind(millis(fired_ms))
        // Whoever writes it tells of it: others only if that does not.
        .bind(millis(fired_ms + TOLD_BY_OTHERS_MS));
    if query.execute(&mut **transaction).await?.rows_affected() == 0 {
        return Ok(None);
    }
    act(transaction, trigger).await?;
    let (account, period) = (trigger.account, period.name);
    let has_acted = trigger.action != Action::Callback;
    Ok(Some(Fire { trigger: trigger.sid.clone(), period, account, value, at_ms, fired_ms, tries: 0, has_acted }))
}

const TOLD_BY_OTHERS_MS: u64 = 30_000;

/// What a trigger does besides telling, in the same transaction.
async fn act(transaction: &mut Transaction<'static, Any>, trigger: &Trigger) -> Result<(), StoreError> {
    let account = trigger.account.to_string();
    let (kind, sid, detail) = match trigger.action {
        Action::Callback => return Ok(()),
        Action::Suspend => ("suspension", account.clone(), format!("{{\"trigger\":\"{}\"}}", trigger.sid)),
        Action::LimitCalls(calls) => {
            let detail = format!("{{\"resource\":\"calls\",\"limit\":{calls},\"full\":\"reject\"}}");
            ("limit", format!("{account}:calls"), detail)
        }
    };
    let text = "INSERT INTO resources (kind, parent, sid, account, unique_name, detail, created_ms, updated_ms)
                VALUES ($1, '', $2, $3, NULL, $4, $5, $5)
                ON CONFLICT (kind, parent, sid) DO UPDATE SET detail = excluded.detail, updated_ms = excluded.updated_ms";
    let query = sqlx::query(text).bind(kind).bind(sid).bind(account).bind(detail).bind(wall_ms());
    query.execute(&mut **transaction).await?;
    Ok(())
}

pub(super) fn places(first: usize, count: usize) -> String {
    (first..first + count).map(|place| format!("${place}")).collect::<Vec<_>>().join(", ")
}

fn account_of(row: &AnyRow, column: &str) -> Result<AccountSid, StoreError> {
    row.try_get::<&str, _>(column)?.parse().map_err(unreadable)
}

fn read_used(row: &AnyRow) -> Result<Used, StoreError> {
    let number = |column| Ok::<_, sqlx::Error>(from_millis(row.try_get(column)?));
    Ok(Used {
        category: row.try_get("category")?,
        day: number("day")?,
        count: number("count")?,
        usage: number("usage")?,
        price: row.try_get("price")?,
    })
}

fn read_fire(row: &AnyRow) -> Result<Fire, StoreError> {
    let number = |column| Ok::<_, sqlx::Error>(from_millis(row.try_get(column)?));
    Ok(Fire {
        trigger: row.try_get("trigger_sid")?,
        period: row.try_get("period")?,
        account: account_of(row, "account")?,
        value: row.try_get("value")?,
        at_ms: number("at_ms")?,
        fired_ms: number("fired_ms")?,
        tries: u32::try_from(number("tries")?).unwrap_or(u32::MAX),
        has_acted: false,
    })
}
