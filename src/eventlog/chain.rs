//! What links the events of a call: each tells its number, from 0, and a hash over itself and the hash before it.
//!
//! The hash is SHA-256, in small hexadecimal digits, over the text of the hash before (empty for the first) followed by the event
//! as JSON with sorted names and no spaces, without `chain` and `sequence`. Whoever has all events of a call sees whether
//! one is missing, was added, changed, or stands elsewhere.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

/// Where a call's chain ends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// The number of the next event.
    pub next: u64,
    pub hash: String,
}

impl Link {
    /// Links an event to what came before it: its `callsequence` and its `chain` are written into it.
    pub fn add(&mut self, event: &mut Map<String, Value>) {
        event.insert(NUMBER.into(), json!(self.next));
        self.hash = hash(&self.hash, event);
        self.next += 1;
        event.insert(HASH.into(), json!(self.hash));
    }

    /// Where a chain stands behind an event of it.
    pub fn behind(event: &Map<String, Value>) -> Option<Link> {
        Some(Link { next: event.get(NUMBER)?.as_u64()? + 1, hash: event.get(HASH)?.as_str()?.to_owned() })
    }
}

const NUMBER: &str = "callsequence";
const HASH: &str = "chain";
/// Where it stands in its account's log: numbered by whoever gives it out.
pub const SEQUENCE: &str = "sequence";

fn hash(before: &str, event: &Map<String, Value>) -> String {
    // The names of a map are sorted.
    let told: Map<String, Value> = event
        .iter()
        .filter(|(name, _)| *name != HASH && *name != SEQUENCE)
        .map(|(n, v)| (n.clone(), v.clone()))
        .collect();
    let digest = Sha256::new().chain_update(before).chain_update(Value::Object(told).to_string()).finalize();
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What is to be said of the events of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The CallSid that the events name.
    pub call: String,
    pub events: usize,
    /// The number of the first: above 0 something came before it.
    pub first: u64,
    /// Whether its first event is its beginning: else nobody had listened to the account before.
    pub is_whole: bool,
    /// Whether its last event is its end.
    pub is_complete: bool,
    pub broken: Option<Broken>,
}

/// What is wrong with a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Broken {
    /// Between these two numbers.
    Missing { from: u64, to: u64 },
    /// The event of that number is another than the one that was told.
    Changed { number: u64 },
    /// Two events have that number.
    Twice { number: u64 },
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Broken::Missing { from, to } if from == to => write!(f, "event {from} is missing"),
            Broken::Missing { from, to } => write!(f, "events {from} to {to} are missing"),
            Broken::Changed { number } => {
                write!(f, "event {number} is not the one that was told, or what came before it is another")
            }
            Broken::Twice { number } => write!(f, "two different events have the number {number}"),
        }
    }
}

/// Checks events of any number of calls, in any order; those of no call are passed over. The same event may be there several times,
/// as a sink that asks again gets it.
pub fn verify(events: impl IntoIterator<Item = Map<String, Value>>) -> Vec<Verdict> {
    let mut calls: BTreeMap<String, BTreeMap<u64, Vec<Map<String, Value>>>> = BTreeMap::new();
    for mut event in events {
        event.remove(SEQUENCE);
        let Some(number) = event.get(NUMBER).and_then(Value::as_u64) else { continue };
        let call = event.get("callsid").and_then(Value::as_str).unwrap_or_default().to_owned();
        let same = calls.entry(call).or_default().entry(number).or_default();
        if !same.contains(&event) {
            same.push(event);
        }
    }
    calls.into_iter().map(|(call, events)| verdict(call, &events)).collect()
}

fn verdict(call: String, events: &BTreeMap<u64, Vec<Map<String, Value>>>) -> Verdict {
    let first = events.keys().next().copied().unwrap_or_default();
    let mut broken = None;
    // Of the first of those that are there the hash before it is not known, unless it is the first of all.
    let mut link = (first == 0).then(Link::default);
    let mut expected = first;
    let mut is_complete = false;
    for (number, same) in events {
        let event = &same[0];
        let told = event.get(HASH).and_then(Value::as_str).unwrap_or_default();
        broken = match &link {
            _ if *number != expected => Some(Broken::Missing { from: expected, to: number - 1 }),
            _ if same.len() > 1 => Some(Broken::Twice { number: *number }),
            Some(link) if hash(&link.hash, event) != told => Some(Broken::Changed { number: *number }),
            _ => None,
        };
        if broken.is_some() {
            break;
        }
        link = Link::behind(event);
        expected = number + 1;
        is_complete |= event.get("type").and_then(Value::as_str).is_some_and(|kind| kind.ends_with(".call.completed"));
    }
    let is = |event: &Map<String, Value>, name: &str| {
        event.get("type").and_then(Value::as_str).is_some_and(|kind| kind.ends_with(name))
    };
    let is_whole = first == 0 && events.get(&0).is_some_and(|same| is(&same[0], ".call.initiated"));
    Verdict { call, events: events.len(), first, is_whole, is_complete, broken }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(call: &str, count: u64) -> Vec<Map<String, Value>> {
        let mut link = Link::default();
        (0..count)
            .map(|number| {
                let kind = match number {
                    0 => "x.call.initiated",
                    _ if number + 1 == count => "x.call.completed",
                    _ => "x.call.ringing",
                };
                let mut event = json!({ "callsid": call, "type": kind, "data": { "b": number, "a": "ü" } });
                let event = event.as_object_mut().expect("an object");
                link.add(event);
                event.clone()
            })
            .collect()
    }

    #[test]
    fn whole_chains_are_whole_in_any_order_and_told_twice() {
        let mut events = told("CA1", 5);
        events.extend(told("CA2", 3));
        events.reverse();
        events.push(events[2].clone());
        events[0].insert(SEQUENCE.into(), json!("77"));
        let verdicts = verify(events);
        assert_eq!(
            verdicts.iter().map(|it| (it.call.as_str(), it.events)).collect::<Vec<_>>(),
            [("CA1", 5), ("CA2", 3)]
        );
        assert!(verdicts.iter().all(|it| it.broken.is_none() && it.is_complete && it.is_whole));
    }

    #[test]
    fn every_loss_and_every_change_is_found() {
        let whole = told("CA1", 6);
        for lost in 1..5 {
            let mut events = whole.clone();
            events.remove(lost);
            let number = lost as u64;
            assert_eq!(verify(events)[0].broken, Some(Broken::Missing { from: number, to: number }));
        }
        // The end alone tells that nothing follows, and the first that nothing came before.
        assert!(!verify(whole[..5].to_vec())[0].is_complete);
        assert_eq!(verify(whole[2..].to_vec())[0].first, 2);
        assert!(!verify(whole[2..].to_vec())[0].is_whole);
        assert_eq!(verify(whole[2..].to_vec())[0].broken, None);
        for changed in 0..6 {
            let mut events = whole.clone();
            events[changed]["data"]["b"] = json!(99);
            assert_eq!(verify(events)[0].broken, Some(Broken::Changed { number: changed as u64 }));
        }
        let mut events = whole.clone();
        let mut other = whole[3].clone();
        other["data"]["b"] = json!(99);
        events.push(other);
        assert_eq!(verify(events)[0].broken, Some(Broken::Twice { number: 3 }));
    }
}
