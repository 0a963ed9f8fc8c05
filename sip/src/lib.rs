//! SIP without I/O (RFC 3261): messages, transactions, dialogs, digest and registrar as plain state machines.
//!
//! This crate knows nothing of calls, media or accounts. It reads no clock, opens no socket and takes no lock:
//! inputs come by `handle_*` with the time as a parameter, outputs leave by `poll_*`, and `next_deadline` tells
//! when to call `handle_timeout`. The one exception is [`transport`], behind the feature `net`.

pub mod dialog;
pub mod digest;
pub mod flow;
#[cfg(any(feature = "fuzzing", all(test, feature = "net")))]
pub mod fuzzing;
pub mod msg;
pub mod registrar;
pub mod resolve;
#[cfg(feature = "rsip")]
pub mod rsip_conversions;
pub mod stack;
pub mod time;
pub mod tokens;
pub mod transaction;
#[cfg(feature = "net")]
pub mod transport;
