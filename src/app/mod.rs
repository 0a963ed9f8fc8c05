//! The customers' application servers: everything that goes out to a URL which a customer named.
//!
//! One guarded [`client::Client`] makes all connections; [`fetch`] brings documents, [`callback`] delivers status
//! callbacks, [`audio`] brings what is to be played, [`stream`] has its sound heard by a customer's server. The room knows no TwiML, no call and no database: it is given
//! URLs and parameters, and gives back bytes or a [`failure::FetchFailure`] with Twilio's number.

mod connect;
mod cookies;
mod destination;
mod hosts;
mod request;

pub mod audio;
pub mod callback;
pub mod client;
pub mod failure;
pub mod fetch;
pub mod guard;
pub mod overrides;
pub mod post;
pub mod signature;
pub mod status;
pub mod stream;

pub use audio::clip::{Clip, ClipHash, Clips};
pub use audio::{AudioCache, AudioLimits, AudioRequest};
pub use callback::{CallbackLimits, CallbackRefused, CallbackRequest, Callbacks};
pub use client::{Client, ClientConfig};
pub use failure::{FetchError, FetchFailure};
pub use fetch::{FetchRequest, Fetched};
pub use guard::Guard;
pub use hosts::HostLimits;
pub use hyper::Method;
pub use overrides::Overrides;
pub use post::JsonPost;
pub use request::RequestKind;
pub use stream::{FromServer, StreamRequest, ToServer};

#[cfg(test)]
mod tests;
