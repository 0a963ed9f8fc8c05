//! The signalling of `@twilio/voice-sdk`, translated: to the rest of the house each browser is a SIP client on a connection of its
//! own, inside this process.
//!
//! So a browser registers, calls, is called, holds and is found by the other edges as a telephone is, by the same code. What is here
//! knows the frames of the SDK ([`frames`]) and one browser's calls ([`line`]); the WebSocket is `api/signal/`'s.

pub mod frames;
pub mod line;

#[cfg(test)]
mod tests;
