//! An entry of the log as it is read: with its number, and with what filters go by.

use std::collections::HashSet;

use bytes::Bytes;
use serde_json::{Map, Value};

use super::chain::SEQUENCE;
use super::types::{EventType, named};
use crate::ids::AccountSid;

/// An entry with its number.
#[derive(Clone, Debug)]
pub struct Logged {
    pub account: AccountSid,
    /// Counts from 1 in its account's log; what is written later has a greater one.
    pub seq: u64,
    pub id: String,
    /// `None`: of a newer program.
    pub kind: Option<&'static EventType>,
    /// When it was logged, milliseconds since 1970.
    pub logged_ms: u64,
    /// The whole event: JSON.
    pub text: Bytes,
    facets: HashSet<(&'static str, String)>,
}

/// Where in an event stands what filters know by that name: below `data`, or below the parameters that it told.
const FACETS: &[(&str, &[&str], &[&str])] = &[
    ("CallSid", &[], &["CallSid"]),
    ("ConferenceSid", &[], &["ConferenceSid"]),
    ("QueueSid", &[], &["QueueSid"]),
    ("MessageSid", &[], &["MessageSid"]),
    ("RecordingSid", &[], &["RecordingSid"]),
    ("From", &["from"], &["From"]),
    ("To", &["to"], &["To"]),
    ("PhoneNumber", &["from", "to"], &["From", "To"]),
    ("Identity", &["identity"], &[]),
];

/// The names that filters know, besides `Type`.
pub(super) fn facet_names() -> impl Iterator<Item = &'static str> {
    FACETS.iter().map(|(name, _, _)| *name)
}

impl Logged {
    /// Of what the store has; `None` where that is no event.
    pub fn read(account: AccountSid, seq: u64, logged_ms: u64, text: &str) -> Option<Logged> {
        let event: Map<String, Value> = serde_json::from_str(text).ok()?;
        let of = |name: &str| event.get(name).and_then(Value::as_str);
        let (id, kind) = (of("id")?.to_owned(), named(of("type")?));
        let mut facets = HashSet::new();
        let data = event.get("data");
        let params = data.and_then(|data| data.pointer("/request/parameters"));
        for (name, own, told) in FACETS {
            let own = own.iter().filter_map(|key| data?.get(key)?.as_str());
            let told = told.iter().filter_map(|key| params?.get(key)?.as_str());
            facets.extend(own.chain(told).map(|value| (*name, value.to_owned())));
        }
        facets.extend(of("callsid").map(|call| ("CallSid", call.to_owned())));
        // The number is part of what is given out, and no part of the chain.
        let text = format!("{{\"{SEQUENCE}\":\"{seq}\",{}", &text[1..]);
        Some(Logged { account, seq, id, kind, logged_ms, text: text.into(), facets })
    }

    pub(super) fn has(&self, facet: &'static str, value: &str) -> bool {
        self.facets.contains(&(facet, value.to_owned()))
    }
}
