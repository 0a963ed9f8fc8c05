//! What edges have set aside of budgets, beside the ledger that says what was used.
//!
//! What an edge has set aside it takes back only when the ledger has it. So what is set aside is read first, and then what was used:
//! an amount may be seen in both, and never in neither.

use std::collections::BTreeSet;

use sqlx::{Any, AssertSqlSafe, Row, Transaction};

use super::database::Backend;
use super::usage::places;
use super::{Store, StoreError, millis, wall_ms};
use crate::credit::{Claim, Fund, Raised, grant};
use crate::hot::EdgeId;
use crate::usage::{Category, Measure};

/// What an edge has set aside counts for so long without a word of it: by then its journal has told what it was for.
const DEAD_AFTER_MS: i64 = 24 * 3600 * 1000;

/// How much of a budget is gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    /// In the ledger.
    pub used: i64,
    /// Set aside for calls that run, or are not in the ledger yet.
    pub set_aside: i64,
}

impl Store {
    /// What an edge has set aside, and wants: the rule is [`grant`].
    pub async fn claim_credit(&self, edge: &EdgeId, claim: &Claim) -> Result<Vec<Raised>, StoreError> {
        let mut transaction = self.database.begin().await?;
        let names: Vec<String> = claim.have.iter().map(|(fund, _)| fund.to_string()).collect();
        if self.database.backend == Backend::Postgres {
            // In one order, so that no two wait for each other.
            for name in names.iter().collect::<BTreeSet<_>>() {
                let lock = "SELECT CAST(count(*) AS BIGINT) FROM pg_advisory_xact_lock(hashtextextended($1, 4713))";
                sqlx::query(lock).bind(name.clone()).execute(&mut *transaction).await?;
            }
        }
        let mut used = Vec::with_capacity(names.len());
        for ((fund, _), name) in claim.have.iter().zip(&names) {
            let others = set_aside(&mut transaction, name, Some(edge)).await?;
            used.push(others.saturating_add(used_of(&mut transaction, fund).await?));
        }
        let (raised, have) = grant(claim, &used);
        for (name, amount) in names.iter().zip(have) {
            write(&mut transaction, name, edge, amount).await?;
        }
        transaction.commit().await?;
        Ok(raised)
    }

    /// How much of a budget is gone.
    pub async fn spent(&self, fund: &Fund) -> Result<Spent, StoreError> {
        let mut transaction = self.database.reader.begin().await?;
        let set_aside = set_aside(&mut transaction, &fund.to_string(), None).await?;
        Ok(Spent { set_aside, used: used_of(&mut transaction, fund).await? })
    }

    /// What an edge's earlier lives had set aside is nobody's: what it was for is in the ledger, or set aside anew. And so is what was
    /// not heard of for a day.
    pub async fn forget_credit(&self, edge: &EdgeId) -> Result<(), StoreError> {
        let query = sqlx::query("DELETE FROM credit WHERE (edge LIKE $1 AND edge <> $2) OR told_ms < $3")
            .bind(format!("{}@%", edge.node))
            .bind(edge.to_string())
            .bind(wall_ms() - DEAD_AFTER_MS);
        query.execute(&self.database.durable).await?;
        Ok(())
    }

    /// The edge lives no more, and everything is in the ledger.
    pub async fn credit_left(&self, edge: &EdgeId) -> Result<(), StoreError> {
        let query = sqlx::query("DELETE FROM credit WHERE edge = $1").bind(edge.to_string());
        query.execute(&self.database.durable).await?;
        Ok(())
    }
}

async fn set_aside(
    transaction: &mut Transaction<'static, Any>,
    fund: &str,
    but_of: Option<&EdgeId>,
) -> Result<i64, StoreError> {
    let text = "SELECT CAST(coalesce(sum(amount), 0) AS BIGINT) AS amount FROM credit WHERE fund = $1 AND edge <> $2 AND told_ms > $3";
    let query = sqlx::query(text)
        .bind(fund.to_owned())
        .bind(but_of.map(EdgeId::to_string).unwrap_or_default())
        .bind(wall_ms() - DEAD_AFTER_MS);
    Ok(query.fetch_one(&mut **transaction).await?.try_get("amount")?)
}

async fn used_of(transaction: &mut Transaction<'static, Any>, fund: &Fund) -> Result<i64, StoreError> {
    let (what, of) = match fund.measure {
        Measure::Price => ("price", &[][..]),
        Measure::Minutes => ("usage", Category::named("calls").map_or(&[][..], |category| category.of)),
    };
    let only = if of.is_empty() { String::new() } else { format!("AND category IN ({})", places(4, of.len())) };
    let text = format!(
        "SELECT CAST(coalesce(sum({what}), 0) AS BIGINT) AS used FROM usage_days WHERE day >= $1 AND day <= $2 AND
         (account = $3 OR account IN (SELECT sid FROM resources WHERE kind = 'account' AND account = $3)) {only}"
    );
    let mut query = sqlx::query(AssertSqlSafe(text))
        .bind(millis(fund.period.first_day))
        .bind(millis(fund.period.last_day))
        .bind(fund.account.to_string());
    for category in of {
        query = query.bind(*category);
    }
    Ok(query.fetch_one(&mut **transaction).await?.try_get("used")?)
}

async fn write(
    transaction: &mut Transaction<'static, Any>,
    fund: &str,
    edge: &EdgeId,
    amount: i64,
) -> Result<(), StoreError> {
    let query = match amount {
        0 => {
            sqlx::query("DELETE FROM credit WHERE fund = $1 AND edge = $2").bind(fund.to_owned()).bind(edge.to_string())
        }
        _ => {
            let text = "INSERT INTO credit (fund, edge, amount, told_ms) VALUES ($1, $2, $3, $4)
                        ON CONFLICT (fund, edge) DO UPDATE SET amount = excluded.amount, told_ms = excluded.told_ms";
            sqlx::query(text).bind(fund.to_owned()).bind(edge.to_string()).bind(amount).bind(wall_ms())
        }
    };
    query.execute(&mut **transaction).await?;
    Ok(())
}
