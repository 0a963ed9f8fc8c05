//! Looks once a minute at what was used, and tells the URLs of usage triggers that have come to their value.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::time::sleep;

use crate::app::{CallbackRequest, Callbacks, Method};
use crate::edges::Edges;
use crate::events::rfc_2822;
use crate::ids::{AccountSid, CallSid};
use crate::provision::Provisioning;
use crate::store::{Kind, Moment, Resource};
use crate::usage::{Category, Recurring, TriggerBy};

/// Soon after a start, so that nothing waits for a minute that a restart began anew.
const FIRST: Duration = Duration::from_secs(3);
const EVERY: Duration = Duration::from_secs(60);

/// Of several edges one looks, so that nobody is told twice.
pub(super) async fn run(provisioning: Arc<Provisioning>, callbacks: Callbacks, edges: Option<Edges>) {
    sleep(FIRST).await;
    loop {
        if edges.as_ref().is_some_and(|edges| edges.linked().iter().any(|other| other < edges.me())) {
            sleep(EVERY).await;
            continue;
        }
        for row in provisioning.rows(Kind::UsageTrigger).await {
            look(&provisioning, &callbacks, row, crate::clock::wall_ms()).await;
        }
        sleep(EVERY).await;
    }
}

#[derive(Deserialize)]
struct Trigger {
    callback_url: String,
    callback_method: String,
    recurring: Option<String>,
    trigger_by: String,
    usage_category: String,
    trigger_value: String,
    fired_ms: Option<u64>,
}

/// Tells it when it is so, once in each period; what cannot be asked now is asked a minute later.
async fn look(provisioning: &Provisioning, callbacks: &Callbacks, row: Resource, now_ms: u64) {
    let Ok(trigger) = serde_json::from_str::<Trigger>(&row.detail) else { return };
    let recurring = trigger.recurring.as_deref().and_then(Recurring::named);
    let began_ms = recurring.unwrap_or(Recurring::AllTime).began(now_ms);
    let directory = provisioning.directory().load_full();
    let account = row.account.parse::<AccountSid>().ok().filter(|sid| directory.is_active(*sid));
    let (Some(account), Some(category), Some(by), Ok(value)) = (
        account.and_then(|sid| directory.account(sid)),
        Category::named(&trigger.usage_category),
        TriggerBy::named(&trigger.trigger_by),
        trigger.trigger_value.parse::<f64>(),
    ) else {
        return;
    };
    if trigger.fired_ms.is_some_and(|fired| fired >= began_ms) {
        return;
    }
    let made = directory.accounts().filter(|one| one.owner == Some(account.sid)).map(|one| one.sid);
    let accounts: Vec<AccountSid> = made.chain([account.sid]).collect();
    let span = Moment { from_ms: Some(began_ms), below_ms: None };
    let Ok(used) = provisioning.store().used(&accounts, span).await else { return };
    let current = by.value(category, &used);
    if (current as f64) < value {
        return;
    }
    let mut detail: Map<String, Value> = serde_json::from_str(&row.detail).unwrap_or_default();
    detail.insert("fired_ms".into(), json!(now_ms));
    let fired = Resource { detail: Value::Object(detail).to_string(), ..row.clone() };
    // Without the row it would be told again and again.
    if !matches!(provisioning.update(&row.account, fired).await, Ok(true)) {
        return;
    }
    let text = |text: &str| text.to_owned();
    let request = CallbackRequest {
        event: None,
        account: account.sid,
        // A trigger's requests wait for each other as those of a call do.
        call: CallSid::new(u128::from_str_radix(row.sid.trim_start_matches("UT"), 16).unwrap_or(0)),
        token: account.auth_token.clone(),
        url: trigger.callback_url,
        method: if trigger.callback_method == "GET" { Method::GET } else { Method::POST },
        params: vec![
            (text("AccountSid"), row.account.clone()),
            (text("UsageTriggerSid"), row.sid.clone()),
            (text("Recurring"), trigger.recurring.unwrap_or_default()),
            (text("TriggerBy"), trigger.trigger_by),
            (text("TriggerValue"), trigger.trigger_value),
            (text("CurrentValue"), current.to_string()),
            (text("UsageCategory"), trigger.usage_category.clone()),
            (
                text("UsageRecordUri"),
                format!("/2010-04-01/Accounts/{}/Usage/Records.json?Category={}", row.account, trigger.usage_category),
            ),
            (text("DateFired"), rfc_2822(now_ms)),
            (text("IdempotencyToken"), format!("{}-{began_ms}", row.sid)),
        ],
    };
    // What is refused is logged and counted there.
    let _ = callbacks.deliver(request);
}
