//! The engines: a closed set behind one interface.

use std::path::Path;
use std::time::Duration;

use crate::speech::error::SpeechError;
use crate::speech::flite::Flite;
use crate::speech::speaking::Phrase;

/// Something that speaks.
#[derive(Clone, Debug)]
pub enum Engine {
    /// The command `flite`.
    Flite(Flite),
}

impl Engine {
    /// Finds an engine on the `PATH` of this process. Runs it once, to ask for its voices, and blocks meanwhile.
    ///
    /// # Errors
    /// [`SpeechError::NoEngine`], whose text says how to get one; or the engine's own failure.
    pub fn detect() -> Result<Self, SpeechError> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let found = std::env::split_paths(&path).map(|folder| folder.join("flite")).find(|file| file.is_file());
        let command = found.ok_or(SpeechError::NoEngine)?;
        Flite::new(command).map(Self::Flite)
    }

    /// Which voice speaks a phrase. With the text it names what comes out: equal names have equal audio.
    pub(super) fn voice(&self, phrase: &Phrase) -> &str {
        match self {
            Self::Flite(flite) => flite.voice(phrase),
        }
    }

    /// Speaks a text: samples at 8 kHz. Its files are in `folder` while it works.
    pub(super) async fn speak(
        &self,
        text: &str,
        voice: &str,
        folder: &Path,
        limit: Duration,
    ) -> Result<Vec<i16>, SpeechError> {
        match self {
            Self::Flite(flite) => flite.speak(text, voice, folder, limit).await,
        }
    }
}
