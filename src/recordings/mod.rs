//! The audio of recordings: where it lies, in which forms it is given out, and what becomes of files that nobody finished.
//!
//! The media worker writes `SID.wav` while a call runs. Other forms are made of it when they are first asked for, by a
//! program of the system, and lie beside it.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use dialtone_media::worker;
use tokio::process::Command;
use tokio::time::timeout;

use crate::call::RECORDING_FILE;
use crate::events::{Event, EventKind, RecordingFact, RecordingStatus, Subscriber};
use crate::ids::RecordingSid;

/// The folder with the audio of all recordings.
#[derive(Clone, Debug)]
pub struct Archive {
    folder: PathBuf,
}

/// A form in which audio is given out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// As it was recorded.
    Wav,
    Mp3,
}

impl Form {
    /// As a request's suffix names it.
    pub fn named(name: &str) -> Option<Form> {
        match name {
            "wav" => Some(Form::Wav),
            "mp3" => Some(Form::Mp3),
            _ => None,
        }
    }

    /// As HTTP names it.
    pub fn content_type(self) -> &'static str {
        match self {
            Form::Wav => "audio/x-wav",
            Form::Mp3 => "audio/mpeg",
        }
    }
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
            ArchiveError::NoEncoder => {
                f.write_str("mp3 needs lame or ffmpeg on the server: install one (apt install lame), or ask for .wav")
            }
            ArchiveError::Encoder(text) => write!(f, "the mp3 encoder failed: {text}"),
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

/// For the longest recording on a slow machine.
const ENCODING: Duration = Duration::from_secs(300);

impl Archive {
    pub fn new(folder: PathBuf) -> Archive {
        Archive { folder }
    }

    /// Where the media worker is to write.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn path(&self, sid: RecordingSid, suffix: &str) -> PathBuf {
        self.folder.join(format!("{sid}{suffix}"))
    }

    /// A file with the audio in that form; it is made if need be.
    pub async fn file(&self, sid: RecordingSid, form: Form) -> Result<PathBuf, ArchiveError> {
        let wav = self.path(sid, RECORDING_FILE);
        if form == Form::Wav {
            tokio::fs::metadata(&wav).await?;
            return Ok(wav);
        }
        let mp3 = self.path(sid, ".mp3");
        if tokio::fs::try_exists(&mp3).await? {
            return Ok(mp3);
        }
        tokio::fs::metadata(&wav).await?;
        // Under a name of its own until it is whole: two that ask at once each make one, and the last stays.
        let half = self.path(sid, &format!(".{}.part", std::process::id() ^ u32::from_ne_bytes(chance())));
        let made = encode(&wav, &half).await;
        if made.is_err() {
            let _ = tokio::fs::remove_file(&half).await;
        }
        made?;
        tokio::fs::rename(&half, &mp3).await?;
        Ok(mp3)
    }

    /// Deletes every form; what is not there is no error.
    pub async fn delete(&self, sid: RecordingSid) -> io::Result<()> {
        for suffix in [RECORDING_FILE, ".mp3"] {
            match tokio::fs::remove_file(self.path(sid, suffix)).await {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// The end of a recording whose process died: what was written until then is kept, and its file is made whole.
    pub fn finish(&self, mut fact: RecordingFact) -> RecordingFact {
        match worker::repair(&self.path(fact.sid, RECORDING_FILE)) {
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

fn chance() -> [u8; 4] {
    let mut bytes = [0; 4];
    getrandom::fill(&mut bytes).expect("the operating system has a source of randomness");
    bytes
}

/// Makes an MP3 with whichever program there is.
async fn encode(wav: &Path, mp3: &Path) -> Result<(), ArchiveError> {
    let words = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<_>>();
    let (from, to) = (OsString::from(wav), OsString::from(mp3));
    let lame = [words(&["--silent", "-V", "4"]), vec![from.clone(), to.clone()]].concat();
    let ffmpeg = [
        words(&["-nostdin", "-loglevel", "error", "-y", "-i"]),
        vec![from],
        words(&["-f", "mp3", "-q:a", "4"]),
        vec![to],
    ]
    .concat();
    for (program, arguments) in [("lame", lame), ("ffmpeg", ffmpeg)] {
        let running = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .output();
        match timeout(ENCODING, running).await {
            Err(_) => return Err(ArchiveError::Encoder(format!("{program} took too long"))),
            Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => {}
            Ok(Err(error)) => return Err(error.into()),
            Ok(Ok(done)) if done.status.success() => return Ok(()),
            Ok(Ok(done)) => {
                let told = String::from_utf8_lossy(&done.stderr);
                return Err(ArchiveError::Encoder(format!("{program}: {}", told.trim())));
            }
        }
    }
    Err(ArchiveError::NoEncoder)
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
