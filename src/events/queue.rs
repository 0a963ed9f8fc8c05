//! What is told of a queue.

use serde::{Deserialize, Serialize};

use crate::ids::{AccountSid, CallSid, QueueSid};

/// A call came into a queue, or left it. It stands for itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QueueFact {
    pub sid: QueueSid,
    pub name: String,
    pub max_size: u32,
    /// Wall clock, milliseconds since 1970.
    pub created_ms: u64,
    pub step: QueueStep,
    /// When the call came.
    pub since_ms: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum QueueStep {
    Entered,
    Left,
}

/// A queue as it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Queue {
    pub account: AccountSid,
    pub sid: QueueSid,
    pub name: String,
    pub max_size: u32,
    pub created_ms: u64,
    pub updated_ms: u64,
    /// Who waits since when, the first first.
    pub members: Vec<(CallSid, u64)>,
}

impl Queue {
    /// What a step makes of a queue.
    pub fn told(before: Option<Queue>, account: AccountSid, call: CallSid, at_ms: u64, fact: &QueueFact) -> Queue {
        let mut members = before.map(|before| before.members).unwrap_or_default();
        members.retain(|(member, _)| *member != call);
        if fact.step == QueueStep::Entered {
            // One that comes back is where it was.
            let at = members.partition_point(|(_, since)| *since <= fact.since_ms);
            members.insert(at, (call, fact.since_ms));
        }
        Queue {
            account,
            sid: fact.sid,
            name: fact.name.clone(),
            max_size: fact.max_size,
            created_ms: fact.created_ms,
            updated_ms: at_ms,
            members,
        }
    }
}
