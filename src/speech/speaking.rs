//! Speaks phrases: from the clips in memory, from disk, or by the engine; each phrase once, however many want it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Semaphore, watch};

use crate::app::{Clip, ClipHash, Clips};
use crate::speech::engine::Engine;
use crate::speech::error::SpeechError;
use crate::speech::kept::{OnDisk, Spoken};
use crate::speech::prompts;
use crate::twiml::AudioFailure;

/// Phrases whose clips are remembered; then all are forgotten, and found on disk again.
const MAX_KNOWN: usize = 100_000;

/// What is to be spoken, with voice and language as `<Say>` has them; empty where it names none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Phrase {
    pub text: String,
    pub voice: String,
    pub language: String,
}

/// How much is spoken at once and kept.
#[derive(Clone, Debug)]
pub struct SpeechConfig {
    /// Where spoken texts are kept; made if it is not there.
    pub folder: PathBuf,
    pub disk_bytes: u64,
    /// Engines at work at once.
    pub at_once: usize,
    /// Phrases that wait for an engine; further ones fail.
    pub waiting: usize,
    /// For one phrase.
    pub time_limit: Duration,
}

impl SpeechConfig {
    /// The usual limits, with spoken texts kept in `folder`.
    pub fn in_folder(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
            disk_bytes: 256 * 1024 * 1024,
            at_once: 2,
            waiting: 256,
            time_limit: Duration::from_secs(10),
        }
    }
}

/// A cheap handle; all clones share the engine and what it has spoken. Needs a tokio runtime around it.
#[derive(Clone)]
pub struct Speech {
    inner: Arc<Inner>,
}

/// What speaking came to, for all that wait for it.
type Outcome = Option<Result<Clip, SpeechError>>;

struct Inner {
    engine: Result<Engine, SpeechError>,
    clips: Arc<Clips>,
    disk: Arc<OnDisk>,
    turns: Semaphore,
    waiting: AtomicUsize,
    max_waiting: usize,
    time_limit: Duration,
    shared: Mutex<Shared>,
}

#[derive(Default)]
struct Shared {
    known: HashMap<Spoken, ClipHash>,
    pending: HashMap<Spoken, watch::Receiver<Outcome>>,
}

impl Speech {
    /// The engine of this machine, if it has one, with its spoken texts kept in `folder`.
    pub fn detect(clips: Arc<Clips>, folder: &Path) -> Self {
        Self::new(Engine::detect(), SpeechConfig::in_folder(folder), clips)
    }

    /// Takes what [`Engine::detect`] found; without an engine every phrase fails with that error. What is spoken is put
    /// into `clips`.
    pub fn new(engine: Result<Engine, SpeechError>, config: SpeechConfig, clips: Arc<Clips>) -> Self {
        let inner = Inner {
            engine,
            clips,
            disk: Arc::new(OnDisk::new(config.folder, config.disk_bytes)),
            turns: Semaphore::new(config.at_once),
            waiting: AtomicUsize::new(0),
            max_waiting: config.waiting,
            time_limit: config.time_limit,
            shared: Mutex::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Speaks a `<Say>`, with voice and language as it has them, empty where it names none.
    pub async fn say(&self, text: &str, voice: &str, language: &str) -> Result<Clip, AudioFailure> {
        let phrase = Phrase { text: text.to_owned(), voice: voice.to_owned(), language: language.to_owned() };
        self.speak(&phrase).await.map_err(|error| AudioFailure { code: SpeechError::CODE, text: error.to_string() })
    }

    /// A prompt of our own. Needs no engine.
    pub fn prompt(&self, name: &str) -> Result<Clip, AudioFailure> {
        let prompt = prompts::find(name).ok_or_else(|| AudioFailure {
            code: SpeechError::CODE,
            text: format!("no such prompt: dialtone:{}", name.chars().take(64).collect::<String>()),
        })?;
        let clip = Clip::new(prompt.samples());
        self.inner.clips.insert(clip.clone());
        Ok(clip)
    }

    /// Speaks a phrase to its end, even if the caller stops waiting, since somebody will want it again.
    pub async fn speak(&self, phrase: &Phrase) -> Result<Clip, SpeechError> {
        let engine = self.inner.engine.as_ref().map_err(|error| *error)?;
        let text = phrase.text.trim();
        if text.is_empty() {
            return Err(SpeechError::NoText);
        }
        let voice = engine.voice(phrase);
        let name = Spoken::new(voice, text);
        let mut outcome = {
            let mut shared = self.inner.shared();
            if let Some(clip) = shared.known.get(&name).and_then(|hash| self.inner.clips.find(*hash)) {
                return Ok(clip);
            }
            match shared.pending.get(&name) {
                Some(pending) => pending.clone(),
                None => {
                    let (sender, receiver) = watch::channel(None);
                    shared.pending.insert(name, receiver.clone());
                    tokio::spawn(self.inner.clone().bring(name, text.to_owned(), voice.to_owned(), sender));
                    receiver
                }
            }
        };
        let result = outcome.wait_for(Option::is_some).await.map(|outcome| outcome.clone());
        // The sender is dropped without an outcome only by a panic, which is not the caller's.
        result.ok().flatten().unwrap_or(Err(SpeechError::EngineFailed(None)))
    }
}

/// Takes a phrase off the list however its speaking ends.
struct Unfinished<'a> {
    inner: &'a Inner,
    name: Spoken,
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        self.inner.shared().pending.remove(&self.name);
    }
}

impl Inner {
    async fn bring(self: Arc<Self>, name: Spoken, text: String, voice: String, sender: watch::Sender<Outcome>) {
        let unfinished = Unfinished { inner: &self, name };
        let result = match self.find_or_speak(name, &text, &voice).await {
            Ok(samples) => self.remember(name, samples).await,
            Err(error) => Err(error),
        };
        drop(unfinished);
        let _ = sender.send(Some(result));
    }

    /// Makes a clip of samples, which costs a hash over them.
    async fn remember(&self, name: Spoken, samples: Bytes) -> Result<Clip, SpeechError> {
        let clip = tokio::task::spawn_blocking(|| Clip::new(samples)).await.map_err(|_| SpeechError::NoAudio)?;
        self.clips.insert(clip.clone());
        let mut shared = self.shared();
        if shared.known.len() >= MAX_KNOWN {
            shared.known.clear();
        }
        shared.known.insert(name, clip.hash);
        Ok(clip)
    }

    async fn find_or_speak(&self, name: Spoken, text: &str, voice: &str) -> Result<Bytes, SpeechError> {
        let disk = self.disk.clone();
        let on_disk =
            tokio::task::spawn_blocking(move || std::fs::create_dir_all(disk.folder()).map(|()| disk.find(name)));
        let on_disk = on_disk.await.map_err(|_| SpeechError::EngineFailed(None))?;
        if let Some(samples) = on_disk.map_err(|error| SpeechError::Unavailable(error.kind()))? {
            return Ok(samples);
        }
        let samples = self.speak(text, voice).await?;
        let samples: Bytes = samples.iter().flat_map(|sample| sample.to_le_bytes()).collect::<Vec<u8>>().into();
        let (disk, kept) = (self.disk.clone(), samples.clone());
        let kept = tokio::task::spawn_blocking(move || disk.keep(name, &kept)).await;
        if let Ok(Err(error)) = kept {
            // It is spoken all the same, and will be spoken again.
            tracing::warn!(%error, "spoken text could not be kept on disk");
        }
        Ok(samples)
    }

    async fn speak(&self, text: &str, voice: &str) -> Result<Vec<i16>, SpeechError> {
        let engine = self.engine.as_ref().map_err(|error| *error)?;
        let waiting = Waiting(&self.waiting);
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= self.max_waiting {
            return Err(SpeechError::TooManyWaiting);
        }
        let _turn = self.turns.acquire().await.map_err(|_| SpeechError::TooManyWaiting)?;
        drop(waiting);
        engine.speak(text, voice, self.disk.folder(), self.time_limit).await
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Gives a place in the queue back when dropped; made before the place is taken, so that every way out gives it back.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
