//! What passes between `<Enqueue>`, `<Dial><Queue>` and the queue: part of the contract of [`super::port`].

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::{CallSid, QueueSid};
use crate::twiml::port::Endpoint;

/// Which queue a call is to wait in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnqueueSpec {
    /// Names it in its account.
    pub name: String,
    /// Of one that nobody made before.
    pub max_size: u32,
}

/// Which queue a call is to be joined with the first of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DequeueSpec {
    pub name: String,
    /// What the member hears before it is joined.
    pub whisper: Option<Endpoint>,
}

/// What a queue tells of itself to those who wait in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueView {
    pub sid: QueueSid,
    /// Of the call, from 1.
    pub position: u32,
    pub size: u32,
    /// When the call came: wall clock, milliseconds since 1970.
    pub since_ms: u64,
    /// How long those who wait have waited, on average.
    pub average_wait: Duration,
}

/// What a queue tells a call that waits in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Waiting {
    /// It is in the queue.
    Entered(QueueView),
    /// How it stands: the answer to [`super::port::VerbEffect::AskQueue`].
    Stands(QueueView),
    /// It has as many as it may have.
    Full(QueueView),
    /// Somebody takes it: this is to be heard first, and then [`super::port::VerbEffect::QueueReady`].
    Taken { by: CallSid, whisper: Endpoint, waited: Duration },
    /// It is joined with who took it.
    Bridged { waited: Duration },
    /// Who took it is gone.
    Over,
}

/// What a queue tells a call that takes from it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Taking {
    Bridged {
        member: CallSid,
    },
    /// The member is gone.
    Over {
        member: CallSid,
        duration: Duration,
    },
}
