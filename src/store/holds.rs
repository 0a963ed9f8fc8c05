//! What edges hold of scopes that have a limit, where they share a PostgreSQL and nothing quicker.
//!
//! The rule is that of [`crate::hot::Holds`]: the rows of the scopes are read, the rule is followed, and what is other than before is
//! written. A lock for each scope, taken by a statement of its own, lets the next see what the last has written.

use std::collections::HashSet;

use sqlx::{Any, AssertSqlSafe, Row, Transaction};

use super::{Store, StoreError, from_millis, millis};
use crate::hot::{Claim, EdgeId, Held, Holder, Holds};

/// Milliseconds since 1970, by the database's clock.
const NOW: &str = "CAST(floor(extract(epoch FROM clock_timestamp()) * 1000) AS BIGINT)";

impl Store {
    /// The edge lives, for so long; how many do.
    pub async fn holder_lives(&self, edge: &EdgeId, lease_ms: u64) -> Result<usize, StoreError> {
        let text = format!(
            "INSERT INTO holders (edge, until_ms) VALUES ($1, {NOW} + $2)
             ON CONFLICT (edge) DO UPDATE SET until_ms = excluded.until_ms"
        );
        let query = sqlx::query(AssertSqlSafe(text)).bind(edge.to_string()).bind(millis(lease_ms));
        query.execute(&self.database.durable).await?;
        let text = format!("SELECT CAST(count(*) AS BIGINT) AS living FROM holders WHERE until_ms > {NOW}");
        let row = sqlx::query(AssertSqlSafe(text)).fetch_one(&self.database.durable).await?;
        Ok(usize::try_from(from_millis(row.try_get("living")?)).unwrap_or(usize::MAX))
    }

    /// The edge lives no more; what it held is free.
    pub async fn holder_leaves(&self, edge: &EdgeId) -> Result<(), StoreError> {
        let mut transaction = self.database.begin().await?;
        for text in ["DELETE FROM holders WHERE edge = $1", "DELETE FROM holds WHERE edge = $1"] {
            sqlx::query(text).bind(edge.to_string()).execute(&mut *transaction).await?;
        }
        Ok(transaction.commit().await?)
    }

    pub async fn claim(&self, edge: &EdgeId, claim: &Claim) -> Result<Held, StoreError> {
        let mut transaction = self.database.begin().await?;
        let mut scopes: Vec<&str> = claim.have.iter().map(|(scope, _)| scope.as_str()).collect();
        // In one order, so that no two wait for each other.
        scopes.sort_unstable();
        for scope in &scopes {
            let lock = "SELECT CAST(count(*) AS BIGINT) FROM pg_advisory_xact_lock(hashtextextended($1, 4711))";
            sqlx::query(lock).bind((*scope).to_owned()).execute(&mut *transaction).await?;
        }
        if !claim.settled.is_empty() {
            forget_earlier_lives(&mut transaction, edge).await?;
        }
        let living = living(&mut transaction).await?;
        if !living.contains(edge) {
            return Ok(Held::Fenced);
        }
        let mut holds = Holds::default();
        for scope in &scopes {
            for (holder, count) in read(&mut transaction, scope).await? {
                holds.set(scope, Holder { edge: holder, of: None }, count);
            }
        }
        let before = holds.clone();
        let raised = holds.claim(edge, claim, |holder| living.contains(holder));
        for scope in scopes {
            write(&mut transaction, scope, &before, &holds).await?;
        }
        transaction.commit().await?;
        Ok(Held::Done(raised))
    }

    pub async fn holders(&self, scope: &str) -> Result<Vec<(EdgeId, u32)>, StoreError> {
        let mut transaction = self.database.begin().await?;
        let living = living(&mut transaction).await?;
        let mut holders = read(&mut transaction, scope).await?;
        holders.retain(|(edge, _)| living.contains(edge));
        holders.sort_unstable();
        Ok(holders)
    }
}

/// What an edge has taken up of its node's earlier lives it holds by now; and what has been dead for an hour is nobody's.
async fn forget_earlier_lives(transaction: &mut Transaction<'static, Any>, edge: &EdgeId) -> Result<(), StoreError> {
    let text = format!("DELETE FROM holders WHERE (edge LIKE $1 AND edge <> $2) OR until_ms < {NOW} - 3600000");
    let query = sqlx::query(AssertSqlSafe(text)).bind(format!("{}@%", edge.node)).bind(edge.to_string());
    query.execute(&mut **transaction).await?;
    let text = "DELETE FROM holds WHERE edge NOT IN (SELECT edge FROM holders)";
    sqlx::query(text).execute(&mut **transaction).await?;
    Ok(())
}

async fn living(transaction: &mut Transaction<'static, Any>) -> Result<HashSet<EdgeId>, StoreError> {
    let text = format!("SELECT edge FROM holders WHERE until_ms > {NOW}");
    let rows = sqlx::query(AssertSqlSafe(text)).fetch_all(&mut **transaction).await?;
    let names: Vec<&str> = rows.iter().map(|row| row.try_get("edge")).collect::<Result<_, _>>()?;
    Ok(names.into_iter().filter_map(EdgeId::parse).collect())
}

async fn read(transaction: &mut Transaction<'static, Any>, scope: &str) -> Result<Vec<(EdgeId, u32)>, StoreError> {
    let query = sqlx::query("SELECT edge, count FROM holds WHERE scope = $1").bind(scope.to_owned());
    let rows = query.fetch_all(&mut **transaction).await?;
    let count = |row: &sqlx::any::AnyRow| Ok::<_, StoreError>(from_millis(row.try_get("count")?));
    let mut found = Vec::new();
    for row in &rows {
        if let Some(edge) = EdgeId::parse(row.try_get("edge")?) {
            found.push((edge, u32::try_from(count(row)?).unwrap_or(u32::MAX)));
        }
    }
    Ok(found)
}

async fn write(
    transaction: &mut Transaction<'static, Any>,
    scope: &str,
    before: &Holds,
    after: &Holds,
) -> Result<(), StoreError> {
    for (holder, _) in before.of(scope).filter(|(holder, _)| !after.of(scope).any(|(other, _)| other == *holder)) {
        let query = sqlx::query("DELETE FROM holds WHERE scope = $1 AND edge = $2");
        query.bind(scope.to_owned()).bind(holder.edge.to_string()).execute(&mut **transaction).await?;
    }
    for (holder, count) in after.of(scope).filter(|told| !before.of(scope).any(|other| other == *told)) {
        let text = "INSERT INTO holds (scope, edge, count) VALUES ($1, $2, $3)
                    ON CONFLICT (scope, edge) DO UPDATE SET count = excluded.count";
        let query = sqlx::query(text).bind(scope.to_owned()).bind(holder.edge.to_string()).bind(i64::from(count));
        query.execute(&mut **transaction).await?;
    }
    Ok(())
}
