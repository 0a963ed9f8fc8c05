//! The forms in which audio is given out, and how they are made of a WAV file: Opus by ourselves, MP3 by a program of the
//! system.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

use super::{ArchiveError, opus};
use crate::call::RECORDING_FILE;

/// A form in which audio is given out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// As it was recorded.
    Wav,
    Mp3,
    /// In Ogg.
    Opus,
}

impl Form {
    pub(super) const ALL: [Form; 3] = [Form::Wav, Form::Mp3, Form::Opus];

    /// As a request's suffix names it.
    pub fn named(name: &str) -> Option<Form> {
        Form::ALL.into_iter().find(|form| form.suffix()[1..] == *name)
    }

    /// What its file's name ends with.
    pub(super) fn suffix(self) -> &'static str {
        match self {
            Form::Wav => RECORDING_FILE,
            Form::Mp3 => ".mp3",
            Form::Opus => ".opus",
        }
    }

    /// As HTTP names it.
    pub fn content_type(self) -> &'static str {
        match self {
            Form::Wav => "audio/x-wav",
            Form::Mp3 => "audio/mpeg",
            Form::Opus => "audio/ogg",
        }
    }
}

/// For the longest recording on a slow machine.
const ENCODING: Duration = Duration::from_secs(300);

/// Makes an Opus file, on a thread that may block.
pub(super) async fn make_opus(wav: File, to: &Path) -> Result<(), ArchiveError> {
    let opus = File::create(to)?;
    let made = tokio::task::spawn_blocking(|| opus::encode(wav, opus)).await;
    made.map_err(|_| ArchiveError::Encoder("the opus encoder panicked".into()))?
        .map_err(|error| ArchiveError::Encoder(format!("opus: {error}")))
}

/// Makes an MP3 file with whichever program there is.
pub(super) async fn make_mp3(wav: File, to: &Path) -> Result<(), ArchiveError> {
    let to = to.as_os_str();
    let lame = ["--silent", "-V", "4", "-"].map(OsStr::new);
    let ffmpeg = ["-loglevel", "error", "-y", "-i", "pipe:0", "-f", "mp3", "-q:a", "4"].map(OsStr::new);
    for (program, arguments) in [("lame", lame.as_slice()), ("ffmpeg", ffmpeg.as_slice())] {
        let running = Command::new(program)
            .args(arguments)
            .arg(to)
            .stdin(wav.try_clone()?)
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
