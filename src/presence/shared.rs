//! Where whoever wants to know looks, and where what has changed is said.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::book::Book;
use super::record::{ClientId, Device, DeviceKind, InCall, Part, Published, Record, Status};
use crate::hot::EdgeId;
use crate::ids::AccountSid;

/// Who can be reached, as this edge knows. Clones are the same. The lock is never held across anything that waits.
#[derive(Clone)]
pub struct Presence(Arc<Inner>);

struct Inner {
    book: Mutex<Book>,
    changed: Notify,
}

/// A device that is registered by its connection, for as long as this is kept.
pub struct Registering {
    presence: Presence,
    client: ClientId,
    device: Device,
}

impl Presence {
    pub fn new(me: EdgeId) -> Presence {
        Presence(Arc::new(Inner { book: Mutex::new(Book::new(me)), changed: Notify::new() }))
    }

    pub fn book(&self) -> MutexGuard<'_, Book> {
        self.0.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes something, and has that carried on.
    pub fn change<T>(&self, change: impl FnOnce(&mut Book) -> T) -> T {
        let changed = change(&mut self.book());
        self.0.changed.notify_one();
        changed
    }

    pub async fn changed(&self) {
        self.0.changed.notified().await;
    }

    pub fn record(&self, client: &ClientId) -> Record {
        self.book().record(client).cloned().unwrap_or_default()
    }

    pub fn status(&self, client: &ClientId, now_ms: u64) -> Status {
        self.book().record(client).map_or(Status::Offline, |record| record.status(now_ms))
    }

    /// The clients of an account that have anything, by name.
    pub fn of_account(&self, account: AccountSid) -> Vec<(Arc<str>, Record)> {
        let book = self.book();
        let own = book.records().filter(|(client, record)| client.account == account && !record.parts.is_empty());
        let mut own: Vec<(Arc<str>, Record)> =
            own.map(|(client, record)| (client.identity.clone(), record.clone())).collect();
        own.sort_by(|(one, _), (other, _)| one.cmp(other));
        own
    }

    /// The devices of this edge that a client has registered by SIP: all of them.
    pub fn has_sip_devices(&self, client: &ClientId, devices: Vec<Device>, gently: bool) {
        self.change(|book| {
            let mut part = Part::clone(&book.own(client));
            part.devices.retain(|device| device.kind == DeviceKind::Token);
            part.devices.extend(devices);
            book.handle_own(client, part, gently);
        });
    }

    /// A device that is there until what this gives is dropped; `None` where its client has `most` others. One that was there before
    /// under its name is another registration, and ends.
    pub fn register(&self, client: ClientId, mut device: Device, most: usize) -> Option<Registering> {
        self.change(|book| {
            let record = book.record(&client).cloned().unwrap_or_default();
            let mut part = Part::clone(&book.own(&client));
            let known = record.parts.values().flat_map(|part| &part.devices).chain(&part.devices);
            let live: Vec<&Device> = known.filter(|known| known.expires_ms > device.since_ms).collect();
            let others: HashSet<&str> =
                live.iter().map(|known| known.sid.as_str()).filter(|sid| *sid != device.sid).collect();
            if others.len() >= most {
                return None;
            }
            let last = live.iter().filter(|known| known.sid == device.sid).map(|known| known.since_ms).max();
            device.since_ms = device.since_ms.max(last.map_or(0, |last| last + 1));
            part.devices.retain(|known| known.sid != device.sid);
            part.devices.push(device.clone());
            book.handle_own(&client, part, false);
            Some(Registering { presence: self.clone(), client: client.clone(), device })
        })
    }

    /// A client has published a state in the place of that of a tag, or takes it back. Of more than `most` the oldest go.
    pub fn publish(&self, client: &ClientId, tag: Option<&str>, state: Option<Published>, most: usize, now_ms: u64) {
        self.change_part(client, false, |part| {
            part.published.retain(|known| Some(known.tag.as_str()) != tag && known.expires_ms > now_ms);
            part.published.extend(state);
            let more = part.published.len().saturating_sub(most);
            part.published.drain(..more);
        });
    }

    /// The calls that a client is in at this edge: all of them.
    pub fn has_calls(&self, client: &ClientId, calls: Vec<InCall>) {
        self.change_part(client, false, |part| part.calls = calls);
    }

    /// A device of this edge is none any more.
    pub fn remove(&self, client: &ClientId, sid: &str) {
        self.change_part(client, false, |part| part.devices.retain(|device| device.sid != sid));
    }

    fn change_part(&self, client: &ClientId, gently: bool, change: impl FnOnce(&mut Part)) {
        self.change(|book| {
            let mut part = Part::clone(&book.own(client));
            change(&mut part);
            book.handle_own(client, part, gently);
        });
    }
}

impl Registering {
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Whether it takes calls.
    pub fn set_closed(&mut self, is_closed: bool) {
        self.device.is_closed = is_closed;
        self.presence.change_part(&self.client, false, |part| {
            // It may be another's by now.
            let own = part.devices.iter_mut().filter(|known| is_same(known, &self.device));
            own.for_each(|known| known.is_closed = is_closed);
        });
    }

    /// Whether everybody who looks sees it.
    pub fn is_written(&self) -> bool {
        let book = self.presence.book();
        let written = book.record(&self.client).into_iter().flat_map(|record| record.parts.values());
        written.flat_map(|part| &part.devices).any(|known| is_same(known, &self.device))
    }

    /// Whether it is registered still.
    pub fn is_kept(&self) -> bool {
        self.presence.book().own(&self.client).devices.iter().any(|known| is_same(known, &self.device))
    }

    /// It takes its leave: nothing is waited for.
    pub fn leave(self) {
        self.remove(false);
    }

    fn remove(&self, gently: bool) {
        // One that came back meanwhile by another connection is another.
        self.presence.change_part(&self.client, gently, |part| {
            part.devices.retain(|known| !is_same(known, &self.device));
        });
    }
}

/// Whether both are one registration, and not two of one device.
fn is_same(one: &Device, other: &Device) -> bool {
    one.sid == other.sid && one.since_ms == other.since_ms
}

impl Drop for Registering {
    fn drop(&mut self) {
        self.remove(true);
    }
}
