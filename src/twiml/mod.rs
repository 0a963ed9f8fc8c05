//! TwiML: reads a document and executes it, verb by verb.
//!
//! Pure: bytes and events in, effects out. It knows no SIP, no media session and no HTTP; [`port`] is all that
//! passes between it and the call that drives it. See [`interpreter::Interpreter`] for how to drive one.

pub mod conference;
pub mod document;
mod inline;
pub mod interpreter;
pub mod notice;
pub mod parse;
mod playlist;
pub mod port;
mod queue;
mod shelf;
mod verbs;

pub use conference::*;
pub use inline::InlineDocument;
pub use interpreter::Interpreter;
pub use notice::{Notice, Severity};
pub use port::*;
pub use queue::*;

#[cfg(test)]
mod tests;
