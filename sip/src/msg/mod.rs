//! SIP messages: received bytes with a header index, typed views that parse on demand, and a writer.
//!
//! A [`Message`] that exists is framed and indexed; whether it *makes sense* (the mandatory headers, matching CSeq,
//! known version) is told by [`check`], which knows the SIP status of every fault, so that a bad request can still be
//! answered. Nothing here panics on a peer's bytes. RFC 3261 s7, s19, s20, s25; verdicts as RFC 4475 asks.

mod address;
mod auth;
pub mod check;
mod header;
mod message;
mod method;
mod param;
mod scan;
mod text;
mod uri;
mod via;
mod write;

pub use address::Address;
pub use auth::AuthParams;
pub use header::HeaderName;
pub use message::{Malformed, Message, StartLine, unfold};
pub use method::Method;
pub use param::{Params, split_commas};
pub use text::Text;
pub use uri::{HostPort, SipUri, Uri, UriError, decode};
pub use via::{MAGIC_COOKIE, Via};
pub use write::{Value, Writer, reason_phrase};

/// Limits of a received message. What is over is refused with 400, or 413 where only the body is too long.
pub mod limits {
    /// Start line and headers together.
    pub const HEAD_BYTES: usize = 65_000;
    pub const HEADERS: usize = 200;
    pub const VIAS: usize = 70;
    pub const CONTACTS: usize = 70;
    pub const BODY_BYTES: usize = 1_048_576;
    /// A Call-ID, a tag or a branch.
    pub const IDENTIFIER_BYTES: usize = 256;
    /// A URI.
    pub const URI_BYTES: usize = 2_048;
}
