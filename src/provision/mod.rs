//! What customers make by the API, joined to what the configuration file says: one directory for everybody.
//!
//! A write is in the database first, then in the directory of this process, and then with the shard; only then is it told
//! to whoever asked. Other processes see it when they read the rows again, which a reload does.

mod merge;
mod queues;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{Mutex, Notify, oneshot};

use crate::account::Directory;
use crate::ids::AccountSid;
use crate::shard::{Mail, MailBox};
use crate::store::{Kind, Resource, Store, StoreError};
use merge::{ListeningDetail, ReadRow};

pub use merge::{BudgetDetail, LimitDetail, Voice};
pub use queues::{QueueKeeper, queue_row};

/// Writes resources, and keeps the directory as they say.
pub struct Provisioning {
    store: Store,
    directory: Arc<ArcSwap<Directory>>,
    mail: MailBox,
    realm: String,
    /// Told after each write, for those who read the same rows.
    wrote: Box<dyn Fn() + Send + Sync>,
    /// Others have written.
    stale: Notify,
    /// One write at a time: the directory must not go back to what was before another write.
    known: Mutex<Known>,
}

const AGAIN: Duration = Duration::from_secs(1);
/// How long events are logged after somebody has listened; entries are kept for as long.
pub const HEARD: Duration = Duration::from_secs(72 * 3600);

type Key = (Kind, String, String);

struct Known {
    configured: Directory,
    rows: HashMap<Key, ReadRow>,
}

impl Provisioning {
    /// Reads the rows, and makes the directory that the server starts with. `realm` is that of the digest challenge; `wrote` is
    /// called after each write.
    pub async fn start(
        store: Store,
        configured: Directory,
        mail: MailBox,
        realm: String,
        wrote: Box<dyn Fn() + Send + Sync>,
    ) -> Result<Provisioning, StoreError> {
        let known = Known { configured, rows: by_key(store.all_resources().await?) };
        let directory = Arc::new(ArcSwap::from_pointee(known.directory(&realm)));
        Ok(Provisioning { store, directory, mail, realm, wrote, stale: Notify::new(), known: Mutex::new(known) })
    }

    pub fn directory(&self) -> &Arc<ArcSwap<Directory>> {
        &self.directory
    }

    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Which realm the passwords of SIP users are hashed for.
    pub fn realm(&self) -> &str {
        &self.realm
    }

    /// Takes another configuration, and reads the rows again.
    pub async fn reload(&self, configured: Directory) -> Result<(), StoreError> {
        let mut known = self.known.lock().await;
        known.configured = configured;
        let rows = self.store.all_resources().await;
        let read = rows.map(|rows| known.rows = by_key(rows));
        // The new configuration counts also where the database is away.
        self.publish(&known).await;
        read
    }

    /// Another server has written rows: they are read again, by and by.
    pub fn others_wrote(&self) {
        self.stale.notify_one();
    }

    /// The database itself has written rows, as a trigger does: this server and all others read them again.
    pub fn store_wrote(&self) {
        self.others_wrote();
        (self.wrote)();
    }

    /// Reads the rows again whenever others have written, until the process ends.
    pub async fn follow_others(&self) {
        loop {
            self.stale.notified().await;
            match self.read_again().await {
                Ok(()) => {}
                Err(error) => {
                    tracing::error!(%error, "what another edge has written cannot be read now: it is tried again");
                    tokio::time::sleep(AGAIN).await;
                    self.stale.notify_one();
                }
            }
        }
    }

    /// Reads the rows again, now.
    pub async fn read_again(&self) -> Result<(), StoreError> {
        let mut known = self.known.lock().await;
        known.rows = by_key(self.store.all_resources().await?);
        self.publish(&known).await;
        Ok(())
    }

    /// Every row of a kind, of all accounts.
    pub async fn rows(&self, kind: Kind) -> Vec<Resource> {
        let known = self.known.lock().await;
        known.rows.values().map(|read| &read.row).filter(|row| row.kind == kind).cloned().collect()
    }

    /// One row of a kind, whoever's it is.
    pub async fn row(&self, kind: Kind, sid: &str) -> Option<Resource> {
        let known = self.known.lock().await;
        known.rows.values().map(|read| &read.row).find(|row| row.kind == kind && row.sid == sid).cloned()
    }

    pub async fn create(&self, row: Resource) -> Result<(), StoreError> {
        let mut known = self.known.lock().await;
        self.store.create(&row).await?;
        known.rows.insert(key(&row), ReadRow::new(row));
        self.publish(&known).await;
        (self.wrote)();
        Ok(())
    }

    /// Whether the account `of` has the row.
    pub async fn update(&self, of: &str, row: Resource) -> Result<bool, StoreError> {
        let mut known = self.known.lock().await;
        if !self.store.update(of, &row).await? {
            return Ok(false);
        }
        known.rows.insert(key(&row), ReadRow::new(row));
        self.publish(&known).await;
        (self.wrote)();
        Ok(true)
    }

    pub async fn delete(&self, account: &str, kind: Kind, parent: &str, sid: &str) -> Result<bool, StoreError> {
        let mut known = self.known.lock().await;
        if !self.store.delete(account, kind, parent, sid).await? {
            return Ok(false);
        }
        known.rows.remove(&(kind, parent.to_owned(), sid.to_owned()));
        self.publish(&known).await;
        (self.wrote)();
        Ok(true)
    }

    /// With everything below it, and its uses elsewhere.
    pub async fn delete_with_uses(&self, account: &str, sid: &str) -> Result<bool, StoreError> {
        let mut known = self.known.lock().await;
        if !self.store.delete_with_uses(account, sid).await? {
            return Ok(false);
        }
        known.rows.retain(|_, ReadRow { row, .. }| row.account != account || (row.sid != sid && row.parent != sid));
        self.publish(&known).await;
        (self.wrote)();
        Ok(true)
    }

    /// Somebody listens to an account's events now: they are logged from here on, and for [`HEARD`] after nobody does any more, so
    /// that whoever comes back within that time has missed nothing.
    /// Whether that is new: other servers are to know of it before anything is expected of them.
    pub async fn hear(&self, account: AccountSid, now_ms: u64) -> Result<bool, StoreError> {
        let heard_ms = u64::try_from(HEARD.as_millis()).unwrap_or(u64::MAX);
        // Written again when a quarter of the time is over.
        if self.directory.load().is_heard(account, now_ms + heard_ms / 4 * 3) {
            return Ok(false);
        }
        // What an earlier time tells again is not logged.
        let since_ms = if self.directory.load().is_heard(account, now_ms) { None } else { Some(now_ms) };
        self.store.begin_log(account).await?;
        let sid = account.to_string();
        let row = Resource {
            kind: Kind::Listening,
            parent: String::new(),
            sid: sid.clone(),
            account: sid.clone(),
            unique_name: None,
            detail: serde_json::to_string(&ListeningDetail { since_ms, until_ms: now_ms + heard_ms })
                .unwrap_or_default(),
            created_ms: now_ms,
            updated_ms: now_ms,
        };
        match self.create(row.clone()).await {
            Err(StoreError::Taken) => self.update(&sid, row).await.map(|_| since_ms.is_some()),
            other => other.map(|()| true),
        }
    }

    async fn publish(&self, known: &Known) {
        let directory = Arc::new(known.directory(&self.realm));
        self.directory.store(directory.clone());
        let (taken, done) = oneshot::channel();
        // A shard that has ended needs none.
        if self.mail.send(Mail::Directory(directory, taken)).await.is_ok() {
            let _ = done.await;
        }
    }
}

impl Known {
    fn directory(&self, realm: &str) -> Directory {
        merge::directory(&self.configured, self.rows.values(), realm)
    }
}

fn by_key(rows: Vec<Resource>) -> HashMap<Key, ReadRow> {
    rows.into_iter().map(|row| (key(&row), ReadRow::new(row))).collect()
}

fn key(row: &Resource) -> Key {
    (row.kind, row.parent.clone(), row.sid.clone())
}
