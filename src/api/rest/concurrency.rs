//! `Concurrency`: how much of something an account may have at once, how much it has, and what that is. Not of Twilio.

use std::sync::Arc;

use axum::Json;
use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::auth::{Acting, Authenticated, Names};
use super::fault::Fault;
use super::form::{Form, invalid};
use crate::account::{Account, WhenFull};
use crate::api::View;
use crate::api::neighbours::calls_elsewhere;
use crate::api::operator::is_operator;
use crate::clock::wall_ms;
use crate::concurrency::{Resource, Scope};
use crate::edges::EdgeId;
use crate::events::rfc_2822;
use crate::provision::LimitDetail;
use crate::shard::Mail;
use crate::store::{self, Kind};

/// What sets a limit.
pub const SETTINGS: &[&str] = &["Limit", "WhenFull", "Wait"];
const LONGEST_WAIT_MS: u32 = 60_000;

/// Who may set the limits of an account: the operator, and the account that made it. Nobody raises its own.
pub struct Setting(pub(super) Arc<Account>);

impl FromRequestParts<View> for Setting {
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, view: &View) -> Result<Setting, Fault> {
        let directory = view.directory.load_full();
        if is_operator(view, &parts.headers) {
            let names = Names::from_request_parts(parts, view).await?;
            let named = names.get("account").parse().ok().and_then(|sid| directory.account(sid).cloned());
            return named.map(Setting).ok_or_else(|| Fault::not_found(parts.uri.path()));
        }
        let asking = Authenticated::from_request_parts(parts, view).await?;
        let Acting(account) = Acting::from_request_parts(parts, view).await?;
        match account.owner == Some(asking.account.sid) {
            true => Ok(Setting(account)),
            false => {
                Err(Fault::denied("The limits of an account are set by the operator, or by the account that made it"))
            }
        }
    }
}

pub(super) async fn list(State(view): State<View>, Acting(account): Acting) -> Result<Json<Value>, Fault> {
    let mut shown = Vec::new();
    for resource in Resource::ALL {
        shown.push(show(&view, &account, resource).await?);
    }
    Ok(Json(json!({ "concurrency": shown })))
}

pub(super) async fn fetch(
    State(view): State<View>,
    Acting(account): Acting,
    names: Names,
) -> Result<Json<Value>, Fault> {
    Ok(Json(show(&view, &account, named(&names)?).await?))
}

/// `Limit` is a number, or empty for what the configuration says.
pub(super) async fn update(
    State(view): State<View>,
    Setting(account): Setting,
    names: Names,
    form: Form,
) -> Result<Json<Value>, Fault> {
    let resource = named(&names)?;
    let account_sid = account.sid.to_string();
    let sid = format!("{account_sid}:{}", resource.as_str());
    let limit = match form.given("Limit") {
        None => resource.limit_of(&account),
        Some("") => None,
        Some(_) => form.number("Limit", if resource == Resource::Api { 1 } else { 0 }..=1_000_000)?,
    };
    let wait_ms = form.number("Wait", 1..=LONGEST_WAIT_MS)?;
    let full = match (form.text("WhenFull"), account.limits.full) {
        (None, WhenFull::Delay(usual)) => WhenFull::Delay(wait_ms.unwrap_or(usual)),
        (None, full) => full,
        (Some("reject"), _) => WhenFull::Reject,
        (Some("delay"), _) => WhenFull::Delay(wait_ms.unwrap_or(5_000)),
        (Some("preempt"), _) => WhenFull::Preempt,
        (Some(other), _) => return Err(invalid("WhenFull", other, "reject, delay or preempt")),
    };
    let away = |_| Fault::store_is_away();
    if form.given("Limit") == Some("") {
        view.provisioning.delete(&account_sid, Kind::Limit, "", &sid).await.map_err(away)?;
    } else {
        let detail = LimitDetail { resource: resource.as_str().to_owned(), limit, full };
        let now = wall_ms();
        let row = store::Resource {
            kind: Kind::Limit,
            parent: String::new(),
            sid,
            account: account_sid.clone(),
            unique_name: None,
            detail: serde_json::to_string(&detail).unwrap_or_default(),
            created_ms: now,
            updated_ms: now,
        };
        if !view.provisioning.update(&account_sid, row.clone()).await.map_err(away)? {
            view.provisioning.create(row).await.map_err(away)?;
        }
    }
    let changed = view.directory.load().account(account.sid).cloned();
    let changed = changed.ok_or_else(|| Fault::not_found(&account_sid))?;
    Ok(Json(show(&view, &changed, resource).await?))
}

/// The calls that hold the places of an account, those of accounts that it has made among them.
pub(super) async fn holders(
    State(view): State<View>,
    Acting(account): Acting,
    names: Names,
) -> Result<Json<Value>, Fault> {
    let resource = named(&names)?;
    if resource != Resource::Calls {
        return Err(Fault::parameter(20_001, "Only calls have names: Concurrency/Calls/Holders.json"));
    }
    let directory = view.directory.load_full();
    let mut calls = calls_elsewhere(&view, None).await;
    calls.extend(view.live.find(|_| true));
    calls.retain(|call| {
        let owner = directory.account(call.account).and_then(|account| account.owner);
        call.ended_ms.is_none() && (call.account == account.sid || owner == Some(account.sid))
    });
    calls.sort_by_key(|call| call.sid);
    let shown = calls.iter().map(|call| {
        json!({
            "call_sid": call.sid.to_string(),
            "account_sid": call.account.to_string(),
            "direction": call.direction.as_str(),
            "status": call.status.as_str(),
            "since": rfc_2822(call.started_ms),
        })
    });
    Ok(Json(json!({ "holders": shown.collect::<Vec<_>>() })))
}

fn named(names: &Names) -> Result<Resource, Fault> {
    let name = names.get("sid");
    Resource::named(name).ok_or_else(|| Fault::not_found(&format!("Concurrency/{name}")))
}

async fn show(view: &View, account: &Account, resource: Resource) -> Result<Value, Fault> {
    let scope = Scope::Account(resource, account.sid);
    let limit = resource.limit_of(account);
    let holders = match &view.ledger {
        Some(ledger) if limit.is_some() => {
            let holders = ledger.holders(scope.to_string()).await.ok_or_else(Fault::store_is_away)?;
            let name = |edge: &EdgeId| match &view.edges {
                Some(edges) if edges.me() != edge => edges.about(edge).map_or(edge.node.clone(), |about| about.name),
                _ => view.name.clone(),
            };
            holders.into_iter().map(|(edge, count)| (name(&edge), count)).collect()
        }
        _ => {
            let here = held_here(view, &scope, limit.is_some()).await;
            if here == 0 { Vec::new() } else { vec![(view.name.clone(), here)] }
        }
    };
    let (policy, wait_ms) = match account.limits.full {
        _ if resource != Resource::Calls => ("reject", None),
        WhenFull::Reject => ("reject", None),
        WhenFull::Delay(wait_ms) => ("delay", Some(wait_ms)),
        WhenFull::Preempt => ("preempt", None),
    };
    let shown = holders.iter().map(|(node, count)| json!({ "node": node, "count": count }));
    Ok(json!({
        "account_sid": account.sid.to_string(),
        "resource": resource.as_str(),
        "current_value": holders.iter().map(|(_, count)| count).sum::<u32>(),
        "limit": limit,
        "when_full": policy,
        "wait": wait_ms,
        "holders": shown.collect::<Vec<_>>(),
        "date_updated": rfc_2822(wall_ms()),
        "uri": format!("/2010-04-01/Accounts/{}/Concurrency/{}.json", account.sid, resource.as_str()),
    }))
}

/// Without a limit nothing is held: what there is is counted.
async fn held_here(view: &View, scope: &Scope, is_limited: bool) -> u32 {
    let Scope::Account(resource, account) = scope else { return 0 };
    let held = match resource {
        Resource::Api => view.requests.held(),
        Resource::Calls if !is_limited => {
            let live = view.live.find(|call| call.account == *account && call.ended_ms.is_none());
            return u32::try_from(live.len()).unwrap_or(u32::MAX);
        }
        _ => {
            let (done, held) = oneshot::channel();
            let _ = view.mail.send(Mail::Places(done)).await;
            held.await.map(|(held, _)| held).unwrap_or_default()
        }
    };
    held.into_iter().find(|in_use| in_use.scope == *scope).map_or(0, |in_use| in_use.held)
}
