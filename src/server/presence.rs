//! Carries on what the book of clients decides: to where all edges look, to the other edges, to the database, to the event log.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};

use crate::account::{Aor, Client, Directory};
use crate::clock::wall_ms;
use crate::edges::{Edges, kind};
use crate::hot::{Answer, Bindings, Command, EdgeId, Hot, Touch, versioned};
use crate::presence::{ClientId, Device, DeviceKind, Presence, Record, Swap, Transition, device_sid};
use crate::shard::{Mail, MailBox};
use crate::store::Store;
use crate::streams::Hub;

const MAP: &str = "presence";
/// The store does not answer: it is asked again after this.
const AGAIN: Duration = Duration::from_millis(500);
const SWEEP_EVERY: Duration = Duration::from_secs(60);
/// Letters of other edges that wait; what finds no place is read where all of it is.
pub(super) const LETTERS: usize = 4_096;
/// Transitions of one write.
const BATCH: usize = 500;

/// What other edges say.
pub(super) enum News {
    /// A record, as it is kept: its name, and what stands behind that.
    Record(ClientId, Record),
    /// All of them are to be read.
    Everything,
    /// These edges live, when this one comes.
    Alive(Vec<EdgeId>),
    Gone(EdgeId),
    /// The shared store has forgotten everything.
    Forgotten,
}

pub(super) struct Keeper {
    pub(super) presence: Presence,
    pub(super) bindings: Arc<Bindings>,
    pub(super) directory: Arc<ArcSwap<Directory>>,
    /// Where the edges of a cluster look. One that stands alone knows it all.
    pub(super) shared: Option<(Hot, Edges)>,
    pub(super) store: Store,
    pub(super) hub: Hub,
    pub(super) mail: MailBox,
    /// Where this edge listens: what was registered there is its own.
    pub(super) listening: Vec<std::net::SocketAddr>,
}

impl Keeper {
    pub(super) async fn run(self, mut news: mpsc::Receiver<News>) {
        self.read_everything().await;
        match self.store.present_clients().await {
            Ok(clients) => self.presence.book().handle_earlier(clients, wall_ms()),
            Err(error) => tracing::error!(%error, "who was there before cannot be read: they are not said to be gone"),
        }
        let mut swept = Instant::now();
        loop {
            let is_away = self.carry_on().await;
            if swept.elapsed() > SWEEP_EVERY {
                swept = Instant::now();
                self.sweep().await;
            }
            let deadline = self.presence.book().next_deadline();
            let wait = deadline.map_or(SWEEP_EVERY, |at| Duration::from_millis(at.saturating_sub(wall_ms())));
            let wait = if is_away { AGAIN } else { wait.max(Duration::from_millis(1)) };
            tokio::select! {
                touched = self.bindings.touched() => self.touched(touched),
                () = self.presence.changed() => {}
                // An edge alone hears nothing.
                Some(said) = news.recv() => self.hear(said).await,
                () = sleep_until(Instant::now() + wait) => {}
            }
        }
    }

    /// Does what is to be done; whether some of it must wait for a store that is away.
    async fn carry_on(&self) -> bool {
        let now_ms = wall_ms();
        self.presence.book().handle_timeout(now_ms);
        loop {
            let swap = self.presence.book().poll_swap(now_ms);
            let Some(swap) = swap else { break };
            let outcome = self.swap(&swap).await;
            let is_away = outcome.is_none();
            self.presence.book().handle_swapped(swap, outcome, now_ms);
            if is_away {
                return true;
            }
        }
        self.tell_news().await;
        !self.tell_transitions().await
    }

    async fn swap(&self, swap: &Swap) -> Option<Result<(), Record>> {
        let Swap { client, seen, record } = swap;
        let Some((hot, _)) = &self.shared else { return Some(Ok(())) };
        let value = serde_json::to_vec(record).unwrap_or_default();
        let (map, field) = (MAP.to_owned(), client.to_string());
        match hot.ask(Command::Swap { map, field, seen: *seen, version: record.version, value }).await {
            Ok(Answer::Swapped(None)) => Some(Ok(())),
            Ok(Answer::Swapped(Some((version, value)))) => Some(Err(read(version, &value))),
            Ok(_) => None,
            Err(error) => {
                tracing::warn!(%error, %client, "who can be reached cannot be shared now: tried again");
                None
            }
        }
    }

    /// Lets the other edges know, and whoever watches here.
    async fn tell_news(&self) {
        loop {
            let news = self.presence.book().poll_news();
            let Some((client, record)) = news else { return };
            if let Some((_, edges)) = &self.shared
                && let Ok(body) = serde_json::to_vec(&(&client, &record))
            {
                edges.letter_to_all(kind::PRESENCE, &body.into());
            }
            let _ = self.mail.send(Mail::Presence(client)).await;
        }
    }

    /// Whether all that is due was told.
    async fn tell_transitions(&self) -> bool {
        let mut due: Vec<Transition> = Vec::new();
        loop {
            let transition = self.presence.book().poll_transition(wall_ms());
            due.extend(transition.clone());
            if due.is_empty() {
                return true;
            }
            if transition.is_some() && due.len() < BATCH {
                continue;
            }
            match self.store.tell_presence(&due).await {
                Ok(told) => {
                    for transition in &told.changed {
                        let to = if transition.is_available { "available" } else { "unavailable" };
                        metrics::counter!("dialtone_presence_transitions_total", "to" => to).increment(1);
                    }
                    self.hub.written(told.logged);
                    due.clear();
                }
                Err(error) => {
                    tracing::error!(%error, clients = due.len(), "who is there and who is gone cannot be written: tried again");
                    let mut book = self.presence.book();
                    due.into_iter().for_each(|transition| book.handle_untold(transition));
                    return false;
                }
            }
        }
    }

    /// Users' bindings have changed: which of them are this edge's own devices.
    fn touched(&self, touched: HashMap<Aor, Touch>) {
        let (directory, now_ms) = (self.directory.load(), wall_ms());
        for (aor, how) in touched {
            let client = match (directory.user(&aor.username, &aor.domain), Client::of_aor(&aor)) {
                (Some(user), _) => ClientId { account: user.account, identity: directory.identity_of(user).into() },
                (None, Some((account, identity))) => ClientId { account, identity: identity.into() },
                (None, None) => continue,
            };
            let user = directory.user_of(client.account, &client.identity);
            let telephones = user.map(|user| Aor { username: user.username.clone(), domain: user.domain.clone() });
            let telephones = telephones.map_or_else(Vec::new, |aor| self.bindings.of(&aor, now_ms));
            let browsers = self.bindings.of(&Client::aor(client.account, &client.identity), now_ms);
            let bindings = telephones
                .into_iter()
                .map(|binding| (DeviceKind::Sip, binding))
                .chain(browsers.into_iter().map(|binding| (DeviceKind::Browser, binding)));
            let before = self.presence.book().own(&client);
            let own = bindings.filter(|(_, binding)| self.listening.contains(&binding.flow.local));
            let devices = own.map(|(kind, binding)| {
                let instance = binding.instance.as_deref().unwrap_or(&binding.contact);
                let sid = device_sid(&client, instance);
                let since_ms =
                    before.devices.iter().find(|known| known.sid == sid).map_or(now_ms, |known| known.since_ms);
                Device {
                    sid,
                    kind,
                    user_agent: binding.user_agent,
                    contact: binding.contact,
                    since_ms,
                    expires_ms: binding.expires_at_ms,
                    is_closed: false,
                    call_waiting: user.is_none_or(|user| user.call_waiting),
                }
            });
            self.presence.has_sip_devices(&client, devices.collect(), how == Touch::Lost);
        }
    }

    async fn hear(&self, news: News) {
        let now_ms = wall_ms();
        match news {
            News::Record(client, record) => {
                self.presence.book().handle_record(client.clone(), record);
                let _ = self.mail.send(Mail::Presence(client)).await;
            }
            News::Everything => self.read_everything().await,
            News::Alive(alive) => self.presence.book().handle_alive(&alive, now_ms),
            News::Gone(edge) => self.presence.book().handle_gone(&edge, now_ms),
            News::Forgotten => self.presence.book().handle_forgotten(),
        }
    }

    async fn read_everything(&self) {
        let Some((hot, _)) = &self.shared else { return };
        let values = match hot.ask(Command::All { map: MAP.to_owned() }).await {
            Ok(Answer::Values(values)) => values,
            Ok(_) => return,
            Err(error) => return tracing::warn!(%error, "who can be reached at other edges cannot be read now"),
        };
        let mut book = self.presence.book();
        for (field, value) in values {
            let (version, value) = versioned(&value);
            if let Some(client) = ClientId::parse(&field) {
                book.handle_record(client, read(version, value));
            }
        }
    }

    async fn sweep(&self) {
        let old = self.presence.book().sweep(wall_ms());
        let Some((hot, _)) = &self.shared else { return };
        for (client, seen) in old {
            let (map, field) = (MAP.to_owned(), client.to_string());
            let _ = hot.ask(Command::Swap { map, field, seen, version: 0, value: Vec::new() }).await;
            // As many as they are, they take no time from what is to be told now.
            sleep(Duration::ZERO).await;
        }
    }
}

/// A record of its version and of what stands behind that.
fn read(version: u64, value: &[u8]) -> Record {
    Record { version, ..serde_json::from_slice(value).unwrap_or_default() }
}
