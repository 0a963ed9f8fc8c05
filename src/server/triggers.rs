//! Tells the URLs of usage triggers that have fired, until they know of it: at least once each, every time by the same token.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::app::{CallbackRequest, Callbacks, Method};
use crate::clock::wall_ms;
use crate::events::rfc_2822;
use crate::ids::{CallSid, EventSid};
use crate::provision::Provisioning;
use crate::store::{Fire, Kind};
use crate::usage::money;

/// Firings that may wait here; what finds no place is found in the database a little later.
const WAITING: usize = 10_000;
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// A callback tries for about half a minute by itself; then it is tried again after these times, and others.
const FIRST_PAUSE_MS: u64 = 60_000;
const LONGEST_PAUSE_MS: u64 = 3_600_000;
/// After a day it is given up.
const GIVEN_UP_AFTER_MS: u64 = 24 * 3600 * 1000;

/// The way to those who tell.
pub(super) type Fires = mpsc::Sender<Fire>;

/// Firings that are being told, by the event that stands for each.
#[derive(Clone)]
pub(super) struct Told {
    telling: Arc<Mutex<HashMap<EventSid, (String, String)>>>,
    told: mpsc::Sender<(String, String)>,
}

impl Told {
    /// A callback was delivered. False: it was none of a trigger.
    pub(super) fn delivered(&self, event: EventSid) -> bool {
        let found = self.telling.lock().unwrap_or_else(PoisonError::into_inner).remove(&event);
        // Where it is not heard it is told once more, by the same token.
        found.map(|fire| drop(self.told.try_send(fire))).is_some()
    }
}

/// Tells of firings; [`Teller::run`] does it.
pub(super) struct Teller {
    fires: mpsc::Receiver<Fire>,
    told: mpsc::Receiver<(String, String)>,
    telling: Arc<Mutex<HashMap<EventSid, (String, String)>>>,
}

pub(super) fn teller() -> (Fires, Told, Teller) {
    let (fires, waiting) = mpsc::channel(WAITING);
    let (told, heard) = mpsc::channel(WAITING);
    let telling = Arc::default();
    (fires, Told { telling: Arc::clone(&telling), told }, Teller { fires: waiting, told: heard, telling })
}

#[derive(Deserialize)]
struct Detail {
    callback_url: String,
    callback_method: String,
    recurring: Option<String>,
    trigger_by: String,
    usage_category: String,
    trigger_value: String,
}

impl Teller {
    pub(super) async fn run(mut self, provisioning: Arc<Provisioning>, callbacks: Callbacks) {
        loop {
            tokio::select! {
                fire = self.fires.recv() => match fire {
                    Some(fire) => self.tell(&provisioning, &callbacks, fire).await,
                    None => return,
                },
                told = self.told.recv() => {
                    if let Some((trigger, period)) = told
                        && let Err(error) = provisioning.store().fire_told(&trigger, &period, wall_ms()).await
                    {
                        tracing::warn!(%error, trigger, "a usage trigger will be told again, by the same token");
                    }
                }
                _ = tokio::time::sleep(LOOK_EVERY) => {
                    // What a server that died has not told, and what nobody has taken yet.
                    let looked = timeout(LOOK_EVERY, provisioning.store().untold_fires(wall_ms())).await;
                    for fire in looked.ok().and_then(Result::ok).unwrap_or_default() {
                        self.tell(&provisioning, &callbacks, fire).await;
                    }
                }
            }
        }
    }

    async fn tell(&self, provisioning: &Provisioning, callbacks: &Callbacks, fire: Fire) {
        if fire.has_acted {
            // The account is another by now.
            provisioning.store_wrote();
        }
        let (store, now_ms) = (provisioning.store(), wall_ms());
        let pause_ms = (FIRST_PAUSE_MS << fire.tries.min(10)).min(LONGEST_PAUSE_MS);
        if !store.claim_fire(&fire, now_ms + pause_ms).await.unwrap_or(false) {
            return;
        }
        let row = provisioning.row(Kind::UsageTrigger, &fire.trigger).await;
        let detail = row.and_then(|row| serde_json::from_str::<Detail>(&row.detail).ok());
        let directory = provisioning.directory().load_full();
        let (Some(detail), Some(account)) = (detail, directory.account(fire.account)) else {
            // It was deleted meanwhile.
            let _ = store.fire_told(&fire.trigger, &fire.period, now_ms).await;
            return;
        };
        if now_ms > fire.fired_ms + GIVEN_UP_AFTER_MS {
            tracing::error!(trigger = fire.trigger, account = %fire.account, "the URL of a usage trigger did not answer for a day: it is not told of this");
            let _ = store.fire_told(&fire.trigger, &fire.period, now_ms).await;
            return;
        }
        metrics::counter!("dialtone_usage_triggers_fired_total", "category" => detail.usage_category.clone())
            .increment(u64::from(fire.tries == 0));
        let (call, event) = names(&fire);
        let known = (fire.trigger.clone(), fire.period.clone());
        self.telling.lock().unwrap_or_else(PoisonError::into_inner).insert(event, known);
        let text = |text: &str| text.to_owned();
        let path =
            format!("/2010-04-01/Accounts/{}/Usage/Records.json?Category={}", fire.account, detail.usage_category);
        let request = CallbackRequest {
            event: Some((call, event)),
            account: account.sid,
            call,
            token: account.auth_token.clone(),
            url: detail.callback_url,
            method: if detail.callback_method == "GET" { Method::GET } else { Method::POST },
            params: vec![
                (text("AccountSid"), fire.account.to_string()),
                (text("UsageTriggerSid"), fire.trigger.clone()),
                (text("Recurring"), detail.recurring.unwrap_or_default()),
                (text("TriggerBy"), detail.trigger_by),
                (text("TriggerValue"), detail.trigger_value),
                (text("CurrentValue"), money::format(fire.value)),
                (text("UsageCategory"), detail.usage_category),
                (text("UsageRecordUri"), path),
                (text("DateFired"), rfc_2822(fire.fired_ms)),
                (text("IdempotencyToken"), format!("{}-{}", fire.trigger, fire.period)),
            ],
        };
        if callbacks.deliver(request).is_err() {
            self.telling.lock().unwrap_or_else(PoisonError::into_inner).remove(&event);
        }
    }
}

/// What stands for a firing among callbacks: a trigger's wait for each other as those of a call do, and each has a token of its
/// own that stays the same.
fn names(fire: &Fire) -> (CallSid, EventSid) {
    let digest = Sha256::digest(format!("{} {}", fire.trigger, fire.period));
    let event = digest.iter().take(16).fold(0, |bits: u128, byte| bits << 8 | u128::from(*byte));
    let call = u128::from_str_radix(fire.trigger.trim_start_matches("UT"), 16).unwrap_or(0);
    (CallSid::new(call), EventSid::new(event))
}
