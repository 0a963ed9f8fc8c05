//! Speech: texts to audio for `<Say>`, through one interface to engines, and prompts that need none.
//!
//! Engines are a closed set ([`engine::Engine`]); the first is a command of the machine, flite. What one has spoken is
//! kept, as a clip in memory and on disk, so that a prompt costs an engine's time once. The room knows no call and no HTTP.

pub mod engine;
pub mod error;
mod flite;
mod kept;
pub mod prompts;
mod speaking;
mod voices;
mod wav;

pub use engine::Engine;
pub use error::SpeechError;
pub use speaking::{Phrase, Speech, SpeechConfig};

#[cfg(test)]
mod tests;
