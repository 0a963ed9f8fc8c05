//! The audio of recordings: where it lies, in which forms it is given out, and what becomes of files that nobody finished.
//!
//! The media worker writes `SID.wav` into a folder while a call runs. Other forms are made of it when they are first asked
//! for, and lie beside it. Where there is a bucket, the WAV file is moved there when it is complete, and other forms are
//! made for each request: whoever asks need not know where a recording is.

mod bucket;
mod form;
mod http;
mod opus;
mod temporary;
mod upload;

use std::fmt;
use std::fs::File;
use std::io;
use std::io::Seek;
use std::ops::Range;
use std::path::PathBuf;

use axum::body::Body;
use dialtone_media::worker;
use http_body_util::BodyExt;
use tokio::io::AsyncWriteExt;

use crate::events::{Event, EventKind, RecordingFact, RecordingStatus, Subscriber, Telling};
use crate::ids::RecordingSid;
use bucket::{Bucket, BucketError};
use temporary::Temporary;
use upload::{Upload, Uploads};

pub use bucket::BucketSettings;
pub use form::Form;

/// The audio of all recordings; a cheap handle.
#[derive(Clone, Debug)]
pub struct Archive {
    folder: PathBuf,
    bucket: Option<Bucket>,
    uploads: Uploads,
}

/// Where the audio of a recording is, in the form that was asked for.
#[derive(Debug)]
pub enum Audio {
    File(PathBuf),
    /// For this request alone.
    Made(Temporary),
    /// See [`Archive::stored`].
    InBucket,
}

/// Why there is no audio.
#[derive(Debug)]
pub enum ArchiveError {
    NotFound,
    /// Nothing on this machine makes that form.
    NoEncoder,
    Encoder(String),
    Io(io::Error),
    /// The bucket does not answer. The log has said why.
    Away,
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
            ArchiveError::Away => BucketError::Away.fmt(f),
        }
    }
}

impl std::error::Error for ArchiveError {}

impl From<io::Error> for ArchiveError {
    fn from(error: io::Error) -> ArchiveError {
        if error.kind() == io::ErrorKind::NotFound { ArchiveError::NotFound } else { ArchiveError::Io(error) }
    }
}

impl From<BucketError> for ArchiveError {
    fn from(error: BucketError) -> ArchiveError {
        match error {
            BucketError::NotFound => ArchiveError::NotFound,
            BucketError::Away => ArchiveError::Away,
        }
    }
}

impl Archive {
    pub fn new(folder: PathBuf, bucket: Option<&BucketSettings>) -> Archive {
        temporary::sweep(&folder);
        Archive { folder, bucket: bucket.map(Bucket::new), uploads: Uploads::default() }
    }

    /// Whether what is complete belongs into a bucket.
    pub fn has_bucket(&self) -> bool {
        self.bucket.is_some()
    }

    fn path(&self, sid: RecordingSid, form: Form) -> PathBuf {
        self.folder.join(format!("{sid}{}", form.suffix()))
    }

    /// The audio in that form; it is made if need be.
    pub async fn audio(&self, sid: RecordingSid, form: Form) -> Result<Audio, ArchiveError> {
        let path = self.path(sid, form);
        if tokio::fs::try_exists(&path).await? {
            return Ok(Audio::File(path));
        }
        let made = Temporary::new(&self.folder, sid);
        match form {
            Form::Wav => return if self.has_bucket() { Ok(Audio::InBucket) } else { Err(ArchiveError::NotFound) },
            Form::Mp3 => form::make_mp3(self.wav(sid).await?, made.path()).await?,
            Form::Opus => form::make_opus(self.wav(sid).await?, made.path()).await?,
        }
        if self.has_bucket() {
            return Ok(Audio::Made(made));
        }
        tokio::fs::rename(made.path(), &path).await?;
        Ok(Audio::File(path))
    }

    /// The WAV file, wherever it is; open, so that it may be moved meanwhile.
    async fn wav(&self, sid: RecordingSid) -> Result<File, ArchiveError> {
        match (File::open(self.path(sid, Form::Wav)), &self.bucket) {
            (Err(error), Some(bucket)) if error.kind() == io::ErrorKind::NotFound => self.fetch(sid, bucket).await,
            (opened, _) => Ok(opened?),
        }
    }

    /// A copy of an object, in a file that has no name.
    async fn fetch(&self, sid: RecordingSid, bucket: &Bucket) -> Result<File, ArchiveError> {
        let (_, mut body) = bucket.read(sid, None).await?;
        let mut copy = tokio::fs::File::from_std(Temporary::new(&self.folder, sid).without_name()?);
        while let Some(frame) = body.frame().await {
            let piece = frame.map_err(|_| ArchiveError::Away)?.into_data().unwrap_or_default();
            copy.write_all(&piece).await?;
        }
        copy.flush().await?;
        let mut copy = copy.into_std().await;
        copy.rewind()?;
        Ok(copy)
    }

    /// How many bytes the WAV file of a recording in the bucket has.
    pub async fn stored_bytes(&self, sid: RecordingSid) -> Result<u64, ArchiveError> {
        Ok(self.bucket()?.bytes(sid).await?)
    }

    /// The WAV file of a recording in the bucket, or a part of it that is there: how many bytes, and which.
    pub async fn stored(&self, sid: RecordingSid, part: Option<Range<u64>>) -> Result<(u64, Body), ArchiveError> {
        Ok(self.bucket()?.read(sid, part).await?)
    }

    fn bucket(&self) -> Result<&Bucket, ArchiveError> {
        self.bucket.as_ref().ok_or(ArchiveError::NotFound)
    }

    /// Recordings whose WAV file is in the folder, the oldest first; those that run are among them.
    pub async fn in_folder(&self) -> io::Result<Vec<RecordingSid>> {
        let mut entries = match tokio::fs::read_dir(&self.folder).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut found = Vec::new();
        while let Some(entry) = entries.next_entry().await? {
            let name = entry.file_name();
            let sid = name.to_str().and_then(|name| name.strip_suffix(Form::Wav.suffix()));
            found.extend(sid.and_then(|sid| sid.parse::<RecordingSid>().ok()));
        }
        found.sort_unstable();
        Ok(found)
    }

    /// Moves a recording that is complete into the bucket, if it is not there yet: the file goes when the object is there.
    pub async fn upload(&self, sid: RecordingSid) -> Result<(), ArchiveError> {
        let (Some(bucket), Some(upload)) = (&self.bucket, self.uploads.begin(sid)) else { return Ok(()) };
        self.carry(sid, bucket, &upload).await?;
        upload.end();
        Ok(())
    }

    async fn carry(&self, sid: RecordingSid, bucket: &Bucket, upload: &Upload) -> Result<(), ArchiveError> {
        if upload.is_unwanted() {
            return Ok(bucket.delete(sid).await?);
        }
        let wav = match tokio::fs::File::open(self.path(sid, Form::Wav)).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            wav => wav?,
        };
        let stored = bucket.put(sid, wav).await;
        // Stored or not: the storage may have it for all that we know.
        if upload.is_unwanted() {
            return Ok(bucket.delete(sid).await?);
        }
        stored?;
        Ok(self.discard(sid).await?)
    }

    /// Deletes every form, wherever it is; what is not there is no error.
    pub async fn delete(&self, sid: RecordingSid) -> Result<(), ArchiveError> {
        self.discard(sid).await?;
        if let Some(bucket) = &self.bucket {
            self.uploads.deleted(sid);
            bucket.delete(sid).await?;
        }
        Ok(())
    }

    /// Deletes what is in the folder.
    async fn discard(&self, sid: RecordingSid) -> io::Result<()> {
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
    fn told(&mut self, _: &Event, _: &mut crate::events::CallRecord, _: Telling) {}

    fn noted(&mut self, event: &Event, _: Telling) {
        let EventKind::Recording(fact) = &event.kind else { return };
        if fact.status == RecordingStatus::Absent {
            let (archive, sid) = (self.archive.clone(), fact.sid);
            self.runtime.spawn(async move {
                if let Err(error) = archive.discard(sid).await {
                    tracing::warn!(recording = %sid, %error, "the file of an empty recording cannot be deleted");
                }
            });
        }
    }
}

#[cfg(test)]
mod tests;
