//! Why a text was not spoken.

use std::fmt;

/// A text that was not spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SpeechError {
    /// No engine was found on this machine. The text of this error says how to get one.
    NoEngine,
    /// There is nothing to speak.
    NoText,
    /// More texts are waiting than are spoken in a reasonable time; try again.
    TooManyWaiting,
    /// The engine took too long and was stopped.
    TimedOut,
    /// The engine could not be started, or its files could not be written or read.
    Unavailable(std::io::ErrorKind),
    /// The engine gave up; `None` if a signal ended it.
    EngineFailed(Option<i32>),
    /// What the engine wrote is no audio that we read.
    NoAudio,
}

impl SpeechError {
    /// Twilio's number for all of them.
    pub const CODE: u32 = 13520;
}

impl fmt::Display for SpeechError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoEngine => {
                f.write_str("no speech engine: install flite (apt-get install flite) and restart, or play recordings")
            }
            Self::NoText => f.write_str("no text to speak"),
            Self::TooManyWaiting => f.write_str("too many texts are waiting to be spoken"),
            Self::TimedOut => f.write_str("speech engine took too long"),
            Self::Unavailable(kind) => write!(f, "speech engine cannot be run: {kind}"),
            Self::EngineFailed(Some(code)) => write!(f, "speech engine failed with exit code {code}"),
            Self::EngineFailed(None) => f.write_str("speech engine was ended by a signal"),
            Self::NoAudio => f.write_str("speech engine wrote no audio"),
        }
    }
}

impl std::error::Error for SpeechError {}
