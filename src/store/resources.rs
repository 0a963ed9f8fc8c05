//! What customers make by the REST API, one row each: applications, numbers, domains, lists, keys.
//!
//! A row is known by its kind, its parent and its sid, and is found by its account only. What it says is JSON that only its
//! owner reads. A write is on the disk when it returns.

use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Row};

use super::{Store, StoreError, from_millis, millis};

/// Defines the kinds with the texts that stand in the database.
macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// What a row is.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Kind {
            $($(#[$doc])* $name,)*
        }

        impl Kind {
            pub const ALL: &'static [Kind] = &[$(Kind::$name),*];

            pub fn as_str(self) -> &'static str {
                match self {
                    $(Kind::$name => $text,)*
                }
            }
        }
    };
}

kinds! {
    /// A sub-account. Its row belongs to the account that made it.
    Account = "account",
    Key = "key",
    Application = "application",
    Number = "number",
    CallerId = "caller-id",
    Queue = "queue",
    Domain = "domain",
    CredentialList = "credential-list",
    /// Below a credential list.
    Credential = "credential",
    AccessList = "access-list",
    /// Below an access list.
    Address = "address",
    /// Below a domain, with the sid of a credential list whose users may call.
    CallCredentials = "call-credentials",
    /// Below a domain, with the sid of an access list whose addresses may call.
    CallAddresses = "call-addresses",
    /// Below a domain, with the sid of a credential list whose users may register.
    RegistrationCredentials = "registration-credentials",
    UsageTrigger = "usage-trigger",
    /// How much an account may have at once, with the sid of the account and what it is of.
    Limit = "limit",
    /// How much an account may use, with its sid.
    Budget = "budget",
    /// Somebody listens to the events of the account of that sid, or did so lately.
    Listening = "listening",
    /// Where events are sent.
    Sink = "sink",
    /// Which events a sink gets.
    Subscription = "subscription",
    /// A usage trigger has stopped the account of that sid.
    Suspension = "suspension",
    Trunk = "trunk",
    /// Below a trunk.
    OriginationUrl = "origination-url",
    /// Below a trunk, with the sid of a credential list.
    TrunkCredentials = "trunk-credentials",
    /// Below a trunk, with the sid of an access list.
    TrunkAddresses = "trunk-addresses",
}

/// A row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    pub kind: Kind,
    /// The sid of what it is below; empty of what is below the account itself.
    pub parent: String,
    pub sid: String,
    pub account: String,
    /// No two rows of a kind have the same; those without one are not compared.
    pub unique_name: Option<String>,
    /// JSON.
    pub detail: String,
    /// Milliseconds since 1970.
    pub created_ms: u64,
    pub updated_ms: u64,
}

/// Which rows a list is to hold.
#[derive(Clone, Debug)]
pub struct Listed<'a> {
    pub account: &'a str,
    pub kind: Kind,
    pub parent: &'a str,
    /// Only those older than this sid: the next page.
    pub before: Option<&'a str>,
    pub limit: u32,
}

const COLUMNS: &str = "kind, parent, sid, account, unique_name, detail, created_ms, updated_ms";

impl Store {
    /// Adds a row. [`StoreError::Taken`] where its name or its key is another's.
    pub async fn create(&self, resource: &Resource) -> Result<(), StoreError> {
        let text = format!("INSERT INTO resources ({COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)");
        sqlx::query(AssertSqlSafe(text))
            .bind(resource.kind.as_str())
            .bind(&resource.parent)
            .bind(&resource.sid)
            .bind(&resource.account)
            .bind(&resource.unique_name)
            .bind(&resource.detail)
            .bind(millis(resource.created_ms))
            .bind(millis(resource.updated_ms))
            .execute(&self.database.durable)
            .await?;
        Ok(())
    }

    /// Writes a row's new state, if the account `of` has the row; `resource.account` may be another, to which it goes.
    pub async fn update(&self, of: &str, resource: &Resource) -> Result<bool, StoreError> {
        let text = "UPDATE resources SET account = $1, unique_name = $2, detail = $3, updated_ms = $4 \
                    WHERE account = $5 AND kind = $6 AND parent = $7 AND sid = $8";
        let done = sqlx::query(text)
            .bind(&resource.account)
            .bind(&resource.unique_name)
            .bind(&resource.detail)
            .bind(millis(resource.updated_ms))
            .bind(of)
            .bind(resource.kind.as_str())
            .bind(&resource.parent)
            .bind(&resource.sid)
            .execute(&self.database.durable)
            .await?;
        Ok(done.rows_affected() > 0)
    }

    /// Deletes one row and nothing else. Whether the account had it.
    pub async fn delete(&self, account: &str, kind: Kind, parent: &str, sid: &str) -> Result<bool, StoreError> {
        let text = "DELETE FROM resources WHERE account = $1 AND kind = $2 AND parent = $3 AND sid = $4";
        let query = sqlx::query(text).bind(account).bind(kind.as_str()).bind(parent).bind(sid);
        Ok(query.execute(&self.database.durable).await?.rows_affected() > 0)
    }

    /// Deletes whatever has this sid or is below it: a list with its members, and its uses elsewhere. All or nothing.
    pub async fn delete_with_uses(&self, account: &str, sid: &str) -> Result<bool, StoreError> {
        let mut transaction = self.database.begin().await?;
        let mut deleted = 0;
        for text in [
            "DELETE FROM resources WHERE account = $1 AND sid = $2",
            "DELETE FROM resources WHERE account = $1 AND parent = $2",
        ] {
            deleted += sqlx::query(text).bind(account).bind(sid).execute(&mut *transaction).await?.rows_affected();
        }
        transaction.commit().await?;
        Ok(deleted > 0)
    }

    /// An account's row.
    pub async fn fetch(
        &self,
        account: &str,
        kind: Kind,
        parent: &str,
        sid: &str,
    ) -> Result<Option<Resource>, StoreError> {
        let text =
            format!("SELECT {COLUMNS} FROM resources WHERE account = $1 AND kind = $2 AND parent = $3 AND sid = $4");
        let query = sqlx::query(AssertSqlSafe(text)).bind(account).bind(kind.as_str()).bind(parent).bind(sid);
        query.fetch_optional(&self.database.reader).await?.as_ref().map(read).transpose()
    }

    /// An account's rows of a kind, the newest first.
    pub async fn list(&self, listed: &Listed<'_>) -> Result<Vec<Resource>, StoreError> {
        let behind = if listed.before.is_some() { " AND sid < $4" } else { "" };
        let text = format!(
            "SELECT {COLUMNS} FROM resources WHERE account = $1 AND kind = $2 AND parent = $3{behind} \
             ORDER BY sid DESC LIMIT {}",
            listed.limit
        );
        let query =
            sqlx::query(AssertSqlSafe(text)).bind(listed.account).bind(listed.kind.as_str()).bind(listed.parent);
        let query = match listed.before {
            Some(before) => query.bind(before),
            None => query,
        };
        query.fetch_all(&self.database.reader).await?.iter().map(read).collect()
    }

    /// Every row of every account, to build a directory of: the one query without an account.
    pub async fn all_resources(&self) -> Result<Vec<Resource>, StoreError> {
        let text = format!("SELECT {COLUMNS} FROM resources ORDER BY sid");
        sqlx::query(AssertSqlSafe(text)).fetch_all(&self.database.reader).await?.iter().map(read).collect()
    }
}

/// Reads a row of [`COLUMNS`].
fn read(row: &AnyRow) -> Result<Resource, StoreError> {
    let kind: String = row.try_get("kind")?;
    let kind = Kind::ALL.iter().copied().find(|known| known.as_str() == kind);
    Ok(Resource {
        kind: kind.ok_or_else(|| StoreError::Database(sqlx::Error::Decode("a kind of a newer program".into())))?,
        parent: row.try_get("parent")?,
        sid: row.try_get("sid")?,
        account: row.try_get("account")?,
        unique_name: row.try_get("unique_name")?,
        detail: row.try_get("detail")?,
        created_ms: from_millis(row.try_get("created_ms")?),
        updated_ms: from_millis(row.try_get("updated_ms")?),
    })
}
