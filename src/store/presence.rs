//! Whether each client is said to be there: told once for each change, whichever edges tell it.

use sqlx::Row;

use super::{Store, StoreError, log, millis};
use crate::eventlog::{Logged, entry_of_presence};
use crate::presence::{ClientId, Transition};

/// What came of transitions that edges have told.
#[derive(Debug, Default)]
pub struct ToldPresence {
    /// Those that changed something.
    pub changed: Vec<Transition>,
    pub logged: Vec<Logged>,
}

impl Store {
    /// Takes transitions, all or none. One that says what was said before, or that is older, changes nothing and is not logged.
    pub async fn tell_presence(&self, transitions: &[Transition]) -> Result<ToldPresence, StoreError> {
        let mut transaction = self.database.begin().await?;
        let mut told = ToldPresence::default();
        for transition in transitions {
            let Transition { client, is_available, version, at_ms, .. } = transition;
            // Nobody was told that a client is there which has never been: its first word is that it is.
            let text = match is_available {
                true => {
                    "INSERT INTO presence (available, version, changed_ms, account, identity) VALUES ($1, $2, $3, $4, $5) \
                     ON CONFLICT (account, identity) DO UPDATE SET \
                     available = excluded.available, version = excluded.version, changed_ms = excluded.changed_ms \
                     WHERE presence.version < excluded.version AND presence.available <> excluded.available"
                }
                false => {
                    "UPDATE presence SET available = $1, version = $2, changed_ms = $3 \
                     WHERE account = $4 AND identity = $5 AND version < $2 AND available <> $1"
                }
            };
            let query = sqlx::query(text)
                .bind(i64::from(*is_available))
                .bind(millis(*version))
                .bind(millis(*at_ms))
                .bind(client.account.to_string())
                .bind(&*client.identity);
            if query.execute(&mut *transaction).await?.rows_affected() > 0 {
                told.changed.push(transition.clone());
                continue;
            }
            let text = "UPDATE presence SET version = $1 WHERE account = $2 AND identity = $3 AND version < $1";
            let query = sqlx::query(text).bind(millis(*version)).bind(client.account.to_string());
            query.bind(&*client.identity).execute(&mut *transaction).await?;
        }
        let entries: Vec<_> = told.changed.iter().map(entry_of_presence).collect();
        told.logged = log::write_where_heard(&mut transaction, entries).await?;
        transaction.commit().await?;
        Ok(told)
    }

    /// The clients that were said to be there last.
    pub async fn present_clients(&self) -> Result<Vec<ClientId>, StoreError> {
        let text = "SELECT account, identity FROM presence WHERE available = 1";
        let rows = sqlx::query(text).fetch_all(&self.database.reader).await?;
        let read = |row: &sqlx::any::AnyRow| -> Result<Option<ClientId>, StoreError> {
            let (account, identity): (String, String) = (row.try_get(0)?, row.try_get(1)?);
            Ok(account.parse().ok().map(|account| ClientId { account, identity: identity.into() }))
        };
        rows.iter().filter_map(|row| read(row).transpose()).collect()
    }
}
