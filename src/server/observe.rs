//! Gauges and the worker's counters, brought up to date every 5 s for whoever reads `/metrics`.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use dialtone_media::codec::Codec;
use dialtone_media::leg::Dropped;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::sync::oneshot;

use crate::account::Directory;
use crate::api::RequestPlaces;
use crate::concurrency::{Resource, Scope};
use crate::events::{Live, Publisher};
use crate::hot::Bindings;
use crate::ids::AccountSid;
use crate::presence::{DeviceKind, Presence, Status};
use crate::shard::{Mail, MailBox};
use crate::store::Store;
use crate::telemetry::accounts;
use crate::workers::Roster;

/// Well under the usual interval of a scrape.
const EVERY: Duration = Duration::from_secs(5);

pub(super) struct Observed {
    pub(super) roster: Roster,
    pub(super) live: Live,
    pub(super) bindings: Arc<Bindings>,
    pub(super) presence: Presence,
    pub(super) directory: Arc<ArcSwap<Directory>>,
    pub(super) store: Store,
    pub(super) publisher: Publisher,
    pub(super) draining: Arc<AtomicBool>,
    pub(super) mail: MailBox,
    pub(super) requests: RequestPlaces,
    pub(super) metrics: PrometheusHandle,
}

pub(super) async fn run(observed: Observed) {
    let mut series = Series::default();
    loop {
        observed.look(&mut series).await;
        observed.metrics.run_upkeep();
        observed.bindings.sweep(crate::clock::wall_ms());
        tokio::time::sleep(EVERY).await;
    }
}

/// Label sets that have been seen: one whose last member is gone must read 0, not its last value.
#[derive(Default)]
struct Series {
    /// Sessions and capacity of the workers of each machine.
    machines: HashMap<String, (u32, u32)>,
}

impl Observed {
    async fn look(&self, series: &mut Series) {
        self.media(series);
        self.calls();
        self.registrations();
        self.places().await;
        let draining = self.draining.load(Ordering::Relaxed);
        for (state, is) in [("serving", !draining), ("draining", draining)] {
            metrics::gauge!("dialtone_node_state", "role" => "edge", "state" => state).set(f64::from(u8::from(is)));
        }
        metrics::gauge!("dialtone_store_up", "backend" => self.store.backend().name())
            .set(f64::from(u8::from(self.store.is_up().await)));
        metrics::gauge!("dialtone_store_backlog", "backend" => "sqlite", "kind" => "event")
            .set(self.publisher.backlog() as f64);
    }

    fn media(&self, series: &mut Series) {
        let counters = self.roster.totals();
        for (direction, packets, bytes) in
            [("in", counters.packets_in, counters.bytes_in), ("out", counters.packets_out, counters.bytes_out)]
        {
            metrics::counter!("dialtone_rtp_packets_total", "direction" => direction, "kind" => "sip")
                .absolute(packets);
            metrics::counter!("dialtone_rtp_bytes_total", "direction" => direction, "kind" => "sip").absolute(bytes);
        }
        metrics::counter!("dialtone_rtp_packets_lost_total", "kind" => "sip").absolute(counters.lost);
        metrics::counter!("dialtone_rtp_packets_late_total", "kind" => "sip").absolute(counters.late);
        for (reason, dropped) in Dropped::ALL.into_iter().zip(counters.dropped) {
            metrics::counter!("dialtone_rtp_dropped_packets_total", "reason" => reason.name()).absolute(dropped);
        }
        let (mut used, mut all) = (0, 0);
        // By machine: its processes come and go.
        series.machines.values_mut().for_each(|load| *load = (0, 0));
        for worker in self.roster.workers() {
            let legs = worker.load.totals.as_ref().map_or(0, |totals| totals.all_legs);
            all += legs;
            used += legs.saturating_sub(worker.load.free_legs);
            let machine = worker.name.rsplit_once('-').map_or(worker.name.as_str(), |(machine, _)| machine);
            let (sessions, capacity) = series.machines.entry(machine.to_owned()).or_default();
            *sessions += worker.load.sessions;
            *capacity += worker.load.capacity;
        }
        for (machine, (sessions, capacity)) in &series.machines {
            metrics::gauge!("dialtone_worker_sessions", "worker" => machine.clone()).set(*sessions);
            metrics::gauge!("dialtone_worker_capacity", "worker" => machine.clone()).set(*capacity);
        }
        metrics::gauge!("dialtone_media_capacity_ratio").set(f64::from(used) / f64::from(all.max(1)));
        for (codec, legs) in Codec::ALL.into_iter().zip(counters.legs_by_codec) {
            metrics::gauge!("dialtone_media_sessions", "kind" => "sip", "codec" => codec.name().to_lowercase())
                .set(legs as f64);
        }
    }

    fn calls(&self) {
        let mut calls = HashMap::new();
        self.live.for_each(|record| {
            if record.ended_ms.is_none() {
                let state = if record.answered_ms.is_some() { "in_progress" } else { "ringing" };
                *calls.entry((record.account, accounts::Series::Calls(record.direction, state))).or_default() += 1;
            }
        });
        let told = calls.into_iter().map(|((account, series), count)| (account, series, count));
        accounts::set_all(told, |series| matches!(series, accounts::Series::Calls(..)));
    }

    /// Of accounts that have limits.
    async fn places(&self) {
        let (done, told) = oneshot::channel();
        let _ = self.mail.send(Mail::Places(done)).await;
        let Ok((mut held, is_lost)) = told.await else { return };
        metrics::gauge!("dialtone_concurrency_unsafe").set(f64::from(u8::from(is_lost)));
        held.extend(self.requests.held());
        let held = held.into_iter().filter_map(|in_use| match in_use.scope {
            Scope::Account(resource, account) => {
                Some((account, accounts::Series::Held(resource.as_str()), u64::from(in_use.held)))
            }
            Scope::Trunk(..) | Scope::Cluster => None,
        });
        accounts::set_all(held, |series| matches!(series, accounts::Series::Held(_)));
        let directory = self.directory.load();
        let limits = directory.accounts().flat_map(|account| {
            Resource::ALL.into_iter().filter_map(|resource| {
                let limit = resource.limit_of(account)?;
                Some((account.sid, accounts::Series::Limit(resource.as_str()), u64::from(limit)))
            })
        });
        accounts::set_all(limits, |series| matches!(series, accounts::Series::Limit(_)));
    }

    fn registrations(&self) {
        let mut registrations = HashMap::<AccountSid, u64>::new();
        let directory = self.directory.load();
        for (aor, count) in self.bindings.counts(crate::clock::wall_ms()) {
            if let Some(user) = directory.user(&aor.username, &aor.domain) {
                *registrations.entry(user.account).or_default() += count as u64;
            }
        }
        let now_ms = crate::clock::wall_ms();
        let mut endpoints = HashMap::<(AccountSid, Status), u64>::new();
        let mut others = HashMap::<(AccountSid, DeviceKind), u64>::new();
        let mut identities = HashMap::<Status, u64>::new();
        let book = self.presence.book();
        for (client, record) in book.records() {
            // Each edge counts what is registered at it.
            let own = &book.own(client).devices;
            let status = record.status(now_ms);
            *identities.entry(status).or_default() += u64::from(!own.is_empty());
            *endpoints.entry((client.account, status)).or_default() += own.len() as u64;
            // Telephones, and pages that log in as they do, are counted above.
            for device in own.iter().filter(|device| device.kind != DeviceKind::Sip) {
                *others.entry((client.account, device.kind)).or_default() += 1;
            }
        }
        drop(book);
        for status in [Status::Available, Status::Busy, Status::Away] {
            let count = identities.get(&status).copied().unwrap_or_default();
            metrics::gauge!("dialtone_presence_identities", "status" => status.as_str()).set(count as f64);
        }
        let told = endpoints.into_iter().filter(|(_, count)| *count > 0);
        let told = told
            .map(|((account, status), count)| (account, accounts::Series::PresenceEndpoints(status.as_str()), count));
        accounts::set_all(told, |series| matches!(series, accounts::Series::PresenceEndpoints(_)));
        let others = others
            .into_iter()
            .map(|((account, kind), count)| (account, accounts::Series::Registrations(kind.as_str()), count));
        let told = registrations
            .into_iter()
            .map(|(account, count)| (account, accounts::Series::Registrations("sip"), count))
            .chain(others);
        accounts::set_all(told, |series| matches!(series, accounts::Series::Registrations(_)));
    }
}
