//! Audio for `<Play>`: fetched once, decoded once, found again by URL and by content.
//!
//! A response is used again as long as it says so, then the server is asked whether it has changed (CR-12). However
//! many calls want a URL at once, it is fetched once. What was fetched is known to one account only, since the
//! answer may depend on who asks; clips are named by content and shared.

pub mod clip;
mod decode;
mod freshness;
mod g711;
mod resample;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use hyper::{Method, StatusCode, header};
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

use crate::app::client::{Answer, Client};
use crate::app::failure::{FetchError, FetchFailure};
use crate::app::request::{Asker, Outgoing, RequestKind};
use crate::ids::{AccountSid, CallSid};
use crate::secret::Secret;
use clip::{Clip, ClipHash, Clips};
use decode::decode;
use freshness::Freshness;

/// URLs remembered at most; then the ones that have gone stale are forgotten, or all.
const MAX_ENTRIES: usize = 10_000;

/// How much audio is fetched and kept.
#[derive(Clone, Copy, Debug)]
pub struct AudioLimits {
    /// Of one file as it is fetched.
    pub max_file_bytes: usize,
    /// Files that are decoded at once; further ones wait.
    pub decoders: usize,
}

impl Default for AudioLimits {
    fn default() -> Self {
        Self { max_file_bytes: 32 * 1024 * 1024, decoders: 2 }
    }
}

/// Audio that a call wants.
#[derive(Clone, Debug)]
pub struct AudioRequest {
    pub account: AccountSid,
    pub call: CallSid,
    pub token: Secret,
    pub url: String,
}

/// A cheap handle; all clones share what was fetched.
#[derive(Clone)]
pub struct AudioCache {
    inner: Arc<Inner>,
}

struct Inner {
    client: Client,
    clips: Arc<Clips>,
    limits: AudioLimits,
    decoders: Semaphore,
    urls: Mutex<Urls>,
}

type Key = (AccountSid, String);

/// What a fetch came to, for all that wait for it.
type Outcome = Option<Result<Clip, FetchFailure>>;

#[derive(Default)]
struct Urls {
    known: HashMap<Key, Known>,
    /// Being fetched.
    pending: HashMap<Key, watch::Receiver<Outcome>>,
}

#[derive(Clone)]
struct Known {
    hash: ClipHash,
    freshness: Freshness,
    fresh_until: Instant,
}

/// What is to be done about a request.
enum Way {
    Here(Clip),
    Wait(watch::Receiver<Outcome>),
}

impl AudioCache {
    /// Keeps its clips in `clips`, where a worker's questions are answered from.
    pub fn new(client: Client, clips: Arc<Clips>, limits: AudioLimits) -> Self {
        let decoders = Semaphore::new(limits.decoders);
        Self { inner: Arc::new(Inner { client, clips, limits, decoders, urls: Mutex::default() }) }
    }

    /// The audio of a URL, as a clip that the store has too.
    ///
    /// # Errors
    /// As for a document; 12300 if what came is no audio.
    pub async fn clip(&self, request: AudioRequest) -> Result<Clip, FetchFailure> {
        let failure = FetchFailure::new(FetchError::Broken, &request.url);
        let mut outcome = match self.way(request) {
            Way::Here(clip) => {
                metrics::counter!("dialtone_media_cache_total", "result" => "hit").increment(1);
                return Ok(clip);
            }
            Way::Wait(outcome) => outcome,
        };
        // The sender lives as long as the fetch, which ends in an outcome unless it panics.
        let result = outcome.wait_for(Option::is_some).await.map(|outcome| outcome.clone());
        result.ok().flatten().unwrap_or(Err(failure))
    }

    /// Finds out without waiting; where a fetch is needed and not under way, it is begun. It goes on even if nobody
    /// waits for it any more.
    fn way(&self, request: AudioRequest) -> Way {
        let key = (request.account, request.url.clone());
        let mut urls = self.inner.urls();
        if let Some(pending) = urls.pending.get(&key) {
            return Way::Wait(pending.clone());
        }
        let known = urls.known.get(&key).cloned();
        let clip = known.as_ref().and_then(|known| self.inner.clips.find(known.hash));
        let known = match (known, clip) {
            (Some(known), Some(clip)) if Instant::now() < known.fresh_until => return Way::Here(clip),
            (Some(known), Some(clip)) => Some((known, clip)),
            // The clip had to go: there is nothing to compare with.
            _ => None,
        };
        let (sender, receiver) = watch::channel(None);
        urls.pending.insert(key.clone(), receiver.clone());
        let inner = self.inner.clone();
        tokio::spawn(async move {
            let unfinished = Unfinished { inner: &inner, key: &key };
            let result = inner.bring(request, known, &key).await;
            drop(unfinished);
            let _ = sender.send(Some(result));
        });
        Way::Wait(receiver)
    }
}

/// Takes a fetch off the list however it ends.
struct Unfinished<'a> {
    inner: &'a Inner,
    key: &'a Key,
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        self.inner.urls().pending.remove(self.key);
    }
}

impl Inner {
    async fn bring(
        &self,
        request: AudioRequest,
        known: Option<(Known, Clip)>,
        key: &Key,
    ) -> Result<Clip, FetchFailure> {
        let AudioRequest { account, call, token, url } = request;
        let mut outgoing =
            Outgoing::new(Asker { account, call, token }, url, Method::GET, Vec::new(), RequestKind::Audio);
        outgoing.max_body_bytes = self.limits.max_file_bytes;
        if let Some((known, _)) = &known {
            outgoing.conditions = known.freshness.conditions();
        }
        let answer = self.client.send_counted(&outgoing).await?;
        let now = SystemTime::now();
        let (clip, freshness, result) = match known {
            Some((known, clip)) if answer.status == StatusCode::NOT_MODIFIED => {
                (clip, known.freshness.renewed(&answer.headers, now), "revalidated")
            }
            _ => {
                let freshness = Freshness::of(&answer.headers, now);
                let clip = self.decode(answer).await.map_err(|cause| FetchFailure::new(cause, &outgoing.url))?;
                (clip, freshness, "miss")
            }
        };
        metrics::counter!("dialtone_media_cache_total", "result" => result).increment(1);
        self.clips.insert(clip.clone());
        self.remember(key, &clip, freshness);
        Ok(clip)
    }

    async fn decode(&self, answer: Answer) -> Result<Clip, FetchError> {
        let content_type = answer.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let content_type = content_type.map(str::to_owned);
        let _turn = self.decoders.acquire().await;
        let work = move || decode(answer.body, content_type.as_deref()).map(Clip::new);
        // A decoder that panicked on a file has no audio of it.
        tokio::task::spawn_blocking(work).await.unwrap_or(Err(FetchError::NoAudio))
    }

    fn remember(&self, key: &Key, clip: &Clip, freshness: Freshness) {
        let mut urls = self.urls();
        if !freshness.is_stored {
            urls.known.remove(key);
            return;
        }
        if urls.known.len() >= MAX_ENTRIES && !urls.known.contains_key(key) {
            let now = Instant::now();
            urls.known.retain(|_, known| now < known.fresh_until);
            if urls.known.len() >= MAX_ENTRIES {
                urls.known.clear();
            }
        }
        let fresh_until = Instant::now() + freshness.fresh_for;
        urls.known.insert(key.clone(), Known { hash: clip.hash, freshness, fresh_until });
    }

    fn urls(&self) -> std::sync::MutexGuard<'_, Urls> {
        self.urls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
