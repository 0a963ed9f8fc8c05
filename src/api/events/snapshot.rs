//! How things stand: what somebody is told who begins to listen.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::api::neighbours::calls_elsewhere;
use crate::api::{View, rest};
use crate::clock::wall_ms;
use crate::eventlog::Filter;
use crate::events::{CallRecord, ConferenceStatus};
use crate::ids::AccountSid;
use crate::presence::Record;

/// Calls and conferences that run, and clients, as far as the filter takes events of them, as the REST API shows them.
pub(super) async fn of(view: &View, account: AccountSid, filter: &Filter, cursor: u64) -> Value {
    view.publisher.catch_up().await;
    let takes = |record: &CallRecord| {
        record.account == account
            && !record.status.is_final()
            && is_one_of(filter, "CallSid", [record.sid.to_string().as_str()])
            && is_one_of(filter, "From", [record.from.as_str()])
            && is_one_of(filter, "To", [record.to.as_str()])
            && is_one_of(filter, "PhoneNumber", [record.from.as_str(), record.to.as_str()])
            && says_nothing_else(filter, &["ConferenceSid", "QueueSid", "MessageSid", "RecordingSid", "Identity"])
    };
    let mut calls = Vec::new();
    if filter.takes_group("call") {
        calls = view.live.find(takes);
        let elsewhere = calls_elsewhere(view, Some(account)).await;
        calls.extend(elsewhere.into_iter().filter(takes));
        calls.sort_by_key(|record| record.sid);
        calls.dedup_by_key(|record| record.sid);
    }
    let mut conferences = Vec::new();
    if filter.takes_group("conference")
        && says_nothing_else(
            filter,
            &["CallSid", "From", "To", "PhoneNumber", "QueueSid", "MessageSid", "RecordingSid", "Identity"],
        )
    {
        conferences = view.conferences.find(account, |conference| {
            conference.status != ConferenceStatus::Completed
                && is_one_of(filter, "ConferenceSid", [conference.sid.to_string().as_str()])
        });
        conferences.sort_by_key(|conference| conference.sid);
    }
    let mut presence: Vec<Value> = Vec::new();
    if filter.takes_group("presence")
        && says_nothing_else(
            filter,
            &["CallSid", "ConferenceSid", "From", "To", "PhoneNumber", "QueueSid", "MessageSid", "RecordingSid"],
        )
    {
        let now_ms = wall_ms();
        let mut clients = view.presence.of_account(account);
        clients.retain(|(identity, _)| is_one_of(filter, "Identity", [&**identity]));
        let shown = |(identity, record): &(Arc<str>, Record)| {
            json!({
                "identity": identity,
                "available": record.is_available(now_ms),
                "devices": record.devices(now_ms).count(),
                "version": record.version,
            })
        };
        presence = clients.iter().map(shown).collect();
    }
    json!({
        "cursor": cursor.to_string(),
        "calls": calls.iter().map(rest::shown_call).collect::<Vec<_>>(),
        "presence": presence,
        "conferences": conferences.iter().map(rest::shown_conference).collect::<Vec<_>>(),
    })
}

fn is_one_of<'a>(filter: &Filter, name: &str, values: impl IntoIterator<Item = &'a str>) -> bool {
    let Some(wanted) = filter.values(name) else { return true };
    values.into_iter().any(|value| wanted.iter().any(|wanted| wanted == value))
}

/// Whether a filter says nothing of what such a thing does not have.
fn says_nothing_else(filter: &Filter, names: &[&str]) -> bool {
    names.iter().all(|name| filter.values(name).is_none())
}
