//! How much of something an account may have at once: calls, requests, streams, participants of conferences.
//!
//! What is held are slots, each by the name of what holds it: [`Slots`] has those of this process. Where edges share accounts each
//! says in a store that all read how much it holds ([`crate::hot::Claim`]), and takes more only as far as that grants it.
//! [`Ledger`] is that store, in memory, Redis or PostgreSQL.

mod ledger;
mod scope;
mod slots;

pub use ledger::Ledger;
pub use scope::{Resource, Scope, Want, account_and_owners};
pub use slots::{Acquired, Answer, Decision, Impede, InUse, OnLoss, Request, SlotId, Slots};

/// How often an edge says that it lives, where no other part of it does.
pub const BEAT: std::time::Duration = std::time::Duration::from_secs(1);
/// For how long it is believed.
pub const LEASE_MS: u64 = 3_000;
