//! The event log: what customers are told of as it happens, in one form for streams, sinks and files.
//!
//! A fact of the outbox becomes an [`Entry`]: an event of CloudEvents 1.0, whose `data` holds what a callback would have said. The
//! store numbers the entries of each account and links those of each call to a [`chain`], so that whoever keeps them can
//! show that none is missing. Nothing here knows who reads.

pub mod chain;
mod entry;
mod filter;
mod logged;
mod types;

pub use entry::{Entry, entry, entry_of_fact, entry_of_fire, entry_of_presence};
pub use filter::{Filter, FilterError};
pub use logged::Logged;
pub use types::{EventType, TYPES, named, type_of};
