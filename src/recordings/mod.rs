//! The audio of recordings: where it lies, in which forms it is given out, and what becomes of files that nobody finished.
//!
//! The media worker writes `SID.wav` while a call runs. Other forms are made of it when they are first asked for, and lie
//! beside it.

mod form;
mod opus;

use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use dialtone_media::worker;

use crate::events::{Event, EventKind, RecordingFact, RecordingStatus, Subscriber};
use crate::ids::RecordingSid;

pub use form::Form;

/// The folder with the audio of all recordings.
#[derive(Clone, Debug)]
pub struct Archive {
    folder: PathBuf,
}

/// Why there is no audio.
#[derive(Debug)]
pub enum ArchiveError {
    NotFound,
    /// Nothing on this machine makes that form.
    NoEncoder,
    Encoder(String),
    Io(io::Error),
}

impl fmt::Display for ArchiveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ArchiveError::NotFound => f.write_str("there is no such file"),
            ArchiveError::NoEncoder => f.write_str(
                "mp3 needs lame or ffmpeg on the server: install one (apt install lame), or ask for .wav or .opus",
            ),
            ArchiveError::Encoder(text) => write!(f, "the encoder failed: {text}"),
            ArchiveError::Io(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ArchiveError {}

impl From<io::Error> for ArchiveError {
    fn from(error: io::Error) -> ArchiveError {
        if error.kind() == io::ErrorKind::NotFound { ArchiveError::NotFound } else { ArchiveError::Io(error) }
    }
}

impl Archive {
    pub fn new(folder: PathBuf) -> Archive {
        Archive { folder }
    }

    /// Where the media worker is to write.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn path(&self, sid: RecordingSid, form: Form) -> PathBuf {
        self.folder.join(format!("{sid}{}", form.suffix()))
    }

    /// A file with the audio in that form; it is made if need be.
    pub async fn file(&self, sid: RecordingSid, form: Form) -> Result<PathBuf, ArchiveError> {
        let path = self.path(sid, form);
        if tokio::fs::try_exists(&path).await? {
            return Ok(path);
        }
        let wav = || File::open(self.path(sid, Form::Wav));
        let half = Half::new(&self.folder, sid);
        match form {
            Form::Wav => return Err(ArchiveError::NotFound),
            Form::Mp3 => form::make_mp3(wav()?, half.path()).await?,
            Form::Opus => form::make_opus(wav()?, half.path()).await?,
        }
        tokio::fs::rename(half.path(), &path).await?;
        Ok(path)
    }

    /// Deletes every form; what is not there is no error.
    pub async fn delete(&self, sid: RecordingSid) -> io::Result<()> {
        for form in Form::ALL {
            match tokio::fs::remove_file(self.path(sid, form)).await {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// The end of a recording whose process died: what was written until then is kept, and its file is made whole.
    pub fn finish(&self, mut fact: RecordingFact) -> RecordingFact {
        match worker::repair(&self.path(fact.sid, Form::Wav)) {
            Ok(repaired) => {
                fact.status = RecordingStatus::Completed;
                (fact.duration_ms, fact.bytes, fact.channels) =
                    (repaired.duration_ms, repaired.bytes, repaired.channels);
            }
            Err(error) => {
                fact.status = RecordingStatus::Failed;
                fact.error = format!("the server stopped in the middle of it, and nothing of it is left: {error}");
            }
        }
        fact
    }
}

/// A file under a name of its own until it is whole: two that ask at once each make one, and the last stays. What nobody
/// waits for any more is deleted.
struct Half(PathBuf);

impl Half {
    fn new(folder: &Path, sid: RecordingSid) -> Half {
        let mut chance = [0; 8];
        getrandom::fill(&mut chance).expect("the operating system has a source of randomness");
        Half(folder.join(format!("{sid}.{:x}.part", u64::from_ne_bytes(chance))))
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Half {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Deletes the file of a recording in which nobody spoke.
pub struct Sweeper {
    archive: Archive,
    runtime: tokio::runtime::Handle,
}

impl Sweeper {
    pub fn new(archive: Archive, runtime: tokio::runtime::Handle) -> Sweeper {
        Sweeper { archive, runtime }
    }
}

impl Subscriber for Sweeper {
    fn told(&mut self, _: &Event, _: &mut crate::events::CallRecord, _: bool) {}

    fn noted(&mut self, event: &Event, _again: bool) {
        let EventKind::Recording(fact) = &event.kind else { return };
        if fact.status == RecordingStatus::Absent {
            let (archive, sid) = (self.archive.clone(), fact.sid);
            self.runtime.spawn(async move {
                if let Err(error) = archive.delete(sid).await {
                    tracing::warn!(recording = %sid, %error, "the file of an empty recording cannot be deleted");
                }
            });
        }
    }
}

#[cfg(test)]
mod tests;
