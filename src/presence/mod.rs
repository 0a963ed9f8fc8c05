//! Who can be reached: the devices of each client of an account, whichever edge they are registered at, as one state.
//!
//! A client is an identity of an account. Each edge writes the [`Part`] of what is registered at it into the client's [`Record`], which
//! all edges share, by compare-and-set: so each change of a record has one author and one version, and whoever makes it sees
//! what it changes. [`Book`] decides, and does nothing itself; [`Presence`] is where others look.

mod book;
mod documents;
mod parts;
mod record;
mod shared;

pub use book::{Book, Swap, Transition};
pub use documents::{Package, UnreadableState, read_state};
pub use record::{ClientId, Device, DeviceKind, InCall, Part, Published, Record, Status, device_sid};
pub use shared::{Presence, Registering};
