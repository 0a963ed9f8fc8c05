//! Who listens to the log of which account: entries are handed on as they are written, in their order and without a gap.
//!
//! One task knows how far each log was told. What this server has written comes by itself; of what others have written they say
//! that there is something, and it is read from the store. A listener that does not keep up with [`BUFFER`] events is cut off by that,
//! and goes on from the store when it comes back: nobody else waits for it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{broadcast, mpsc, oneshot};

use crate::account::Directory;
use crate::eventlog::Logged;
use crate::ids::AccountSid;
use crate::store::{Store, StoreError};

/// Events of an account that a listener may be behind.
pub const BUFFER: usize = 1_024;
/// Listeners of one account; one more is refused.
pub const MOST: usize = 10_000;
/// What waits for the task; where it is full the store is read instead.
const WAITING: usize = 4_096;
/// Entries that are read at once.
const PAGE: u32 = 1_000;
/// What was not said is found in the store, where others write there too.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What a listener is told.
#[derive(Clone, Debug)]
pub enum Told {
    Event(Arc<Logged>),
    /// Something about accounts and keys is another: whether one may listen still is to be looked at.
    Check,
}

/// Listens to an account.
pub struct Listening {
    pub told: broadcast::Receiver<Told>,
    /// The number of the last entry before what will be told.
    pub head: u64,
}

/// The way to the task. Clones are the same.
#[derive(Clone)]
pub struct Hub(mpsc::Sender<Letter>);

enum Letter {
    Written(Vec<Logged>),
    Look(Vec<AccountSid>),
    Listen(AccountSid, oneshot::Sender<Result<Listening, ListenError>>),
}

/// Why nobody can listen now.
#[derive(Debug)]
pub enum ListenError {
    /// [`MOST`] listen to that account.
    Full,
    Store(StoreError),
    /// The server ends.
    Ended,
}

impl Hub {
    /// The hub, and its task: `others` is told which accounts there is something new of.
    pub fn new(
        store: Store,
        directory: Arc<ArcSwap<Directory>>,
        others: impl Fn(&[AccountSid]) + Send + Sync + 'static,
    ) -> (Hub, impl Future<Output = ()> + Send) {
        let (hub, letters) = mpsc::channel(WAITING);
        let task = Task { store, others: Box::new(others), channels: HashMap::new(), is_behind: false };
        (Hub(hub), task.run(letters, directory))
    }

    /// This server has written these.
    pub fn written(&self, logged: Vec<Logged>) {
        if !logged.is_empty() {
            // What finds no place is found in the store.
            let _ = self.0.try_send(Letter::Written(logged));
        }
    }

    /// There is something new in the logs of these accounts.
    pub fn look(&self, accounts: Vec<AccountSid>) {
        let _ = self.0.try_send(Letter::Look(accounts));
    }

    pub async fn listen(&self, account: AccountSid) -> Result<Listening, ListenError> {
        let (reply, listening) = oneshot::channel();
        let _ = self.0.send(Letter::Listen(account, reply)).await;
        listening.await.unwrap_or(Err(ListenError::Ended))
    }
}

/// Tells other servers which accounts there is something new of.
type TellOthers = Box<dyn Fn(&[AccountSid]) + Send + Sync>;

struct Task {
    store: Store,
    others: TellOthers,
    channels: HashMap<AccountSid, Channel>,
    /// The store could not be read.
    is_behind: bool,
}

struct Channel {
    sender: broadcast::Sender<Told>,
    /// The number of the last entry that was told.
    head: u64,
}

impl Task {
    async fn run(mut self, mut letters: mpsc::Receiver<Letter>, directory: Arc<ArcSwap<Directory>>) {
        let mut seen = directory.load_full();
        let mut tick = tokio::time::interval(LOOK_EVERY);
        loop {
            tokio::select! {
                letter = letters.recv() => match letter {
                    Some(letter) => self.take(letter).await,
                    None => return,
                },
                _ = tick.tick() => {
                    self.channels.retain(|_, channel| channel.sender.receiver_count() > 0);
                    self.look_at_all().await;
                    let now = directory.load_full();
                    if !Arc::ptr_eq(&seen, &now) {
                        seen = now;
                        self.channels.values().for_each(|channel| drop(channel.sender.send(Told::Check)));
                    }
                }
            }
        }
    }

    async fn take(&mut self, letter: Letter) {
        match letter {
            Letter::Written(logged) => {
                let mut accounts = Vec::new();
                for entry in &logged {
                    let kind = entry.kind.map_or("other", |kind| kind.short);
                    metrics::counter!("dialtone_events_published_total", "type" => kind).increment(1);
                    if accounts.last() != Some(&entry.account) {
                        accounts.push(entry.account);
                    }
                }
                (self.others)(&accounts);
                for entry in logged {
                    self.hand_on(entry).await;
                }
            }
            Letter::Look(accounts) => {
                for account in accounts {
                    self.catch_up(account).await;
                }
            }
            Letter::Listen(account, reply) => {
                let _ = reply.send(self.listen(account).await);
            }
        }
    }

    async fn listen(&mut self, account: AccountSid) -> Result<Listening, ListenError> {
        if !self.channels.contains_key(&account) {
            let head = self.store.log_bounds(account).await.map_err(ListenError::Store)?.head;
            self.channels.insert(account, Channel { sender: broadcast::channel(BUFFER).0, head });
        }
        let channel = self.channels.get(&account).expect("it was added above");
        if channel.sender.receiver_count() >= MOST {
            return Err(ListenError::Full);
        }
        Ok(Listening { told: channel.sender.subscribe(), head: channel.head })
    }

    async fn hand_on(&mut self, entry: Logged) {
        let Some(channel) = self.channels.get_mut(&entry.account) else { return };
        if entry.seq == channel.head + 1 {
            channel.tell(entry);
        } else if entry.seq > channel.head {
            // Others have written before it.
            self.catch_up(entry.account).await;
        }
    }

    /// Tells what the store has of an account, and was not told.
    async fn catch_up(&mut self, account: AccountSid) {
        let Some(channel) = self.channels.get_mut(&account) else { return };
        loop {
            match self.store.log_after(account, channel.head, PAGE).await {
                Ok(page) => {
                    let is_last = page.len() < PAGE as usize;
                    page.into_iter().for_each(|entry| channel.tell(entry));
                    if is_last {
                        return;
                    }
                }
                Err(error) => {
                    if !std::mem::replace(&mut self.is_behind, true) {
                        tracing::error!(%error, "the event log cannot be read: streams stand still until it can");
                    }
                    return;
                }
            }
        }
    }

    async fn look_at_all(&mut self) {
        if self.channels.is_empty() {
            return;
        }
        let accounts: Vec<AccountSid> = self.channels.keys().copied().collect();
        let Ok(heads) = self.store.log_heads(&accounts).await else { return };
        self.is_behind = false;
        for (account, head) in heads {
            if self.channels.get(&account).is_some_and(|channel| channel.head < head) {
                self.catch_up(account).await;
            }
        }
    }
}

impl Channel {
    fn tell(&mut self, entry: Logged) {
        self.head = entry.seq;
        // Nobody listens any more: it is taken away a moment later.
        let _ = self.sender.send(Told::Event(Arc::new(entry)));
    }
}
