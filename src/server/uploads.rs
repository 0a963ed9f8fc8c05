//! Moves complete recordings into the bucket of `[recordings] url`, in the background and until it is done.
//!
//! The folder is what must be moved; the queue only says what is new in it. It holds [`QUEUE`] recordings: one that finds
//! no room, and whatever an earlier run left, is found when the folder is looked through.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, mpsc};
use tokio::time::sleep;

use crate::events::{CallRecord, Event, EventKind, Subscriber, Telling};
use crate::ids::RecordingSid;
use crate::recordings::{Archive, ArchiveError};
use crate::store::Store;

const QUEUE: usize = 1_024;
/// Uploads at once.
const AT_ONCE: usize = 4;
/// The folder is looked through at the start, and then this often.
const LOOK_EVERY: Duration = Duration::from_secs(300);
/// Of an upload that failed: the pause grows by two with each that fails after it, up to the second.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(60));

/// Learns which recordings are complete.
pub(super) struct Complete(mpsc::Sender<RecordingSid>);

impl Subscriber for Complete {
    fn told(&mut self, _: &Event, _: &mut CallRecord, _: Telling) {}

    fn noted(&mut self, event: &Event, _: Telling) {
        if let EventKind::Recording(fact) = &event.kind
            && fact.has_audio()
        {
            let _ = self.0.try_send(fact.sid);
        }
    }
}

/// What waits to be uploaded.
pub(super) struct Queue {
    sender: mpsc::Sender<RecordingSid>,
    receiver: mpsc::Receiver<RecordingSid>,
}

pub(super) fn queue() -> (Complete, Queue) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    (Complete(sender.clone()), Queue { sender, receiver })
}

pub(super) fn start(queue: Queue, store: Store, archive: Archive) {
    let waiting = Arc::new(Mutex::new(queue.receiver));
    for _ in 0..AT_ONCE {
        tokio::spawn(upload(waiting.clone(), queue.sender.clone(), archive.clone()));
    }
    tokio::spawn(look(queue.sender, store, archive));
}

/// Uploads one after another. One that fails goes to the end of the queue.
async fn upload(
    waiting: Arc<Mutex<mpsc::Receiver<RecordingSid>>>,
    again: mpsc::Sender<RecordingSid>,
    archive: Archive,
) {
    let mut pause = PAUSES.0;
    loop {
        let Some(sid) = waiting.lock().await.recv().await else { return };
        match archive.upload(sid).await {
            Ok(()) => pause = PAUSES.0,
            Err(error) => {
                match error {
                    // The log has it already.
                    ArchiveError::Away => tracing::debug!(recording = %sid, "a recording is not uploaded yet"),
                    error => tracing::error!(
                        recording = %sid,
                        %error,
                        "a recording cannot be moved into the bucket: see that its file can be read and deleted; it is tried again"
                    ),
                }
                let _ = again.try_send(sid);
                sleep(pause).await;
                pause = (pause * 2).min(PAUSES.1);
            }
        }
    }
}

/// Queues what is complete in the folder, as there is room: the store says what is complete.
async fn look(queue: mpsc::Sender<RecordingSid>, store: Store, archive: Archive) {
    loop {
        match archive.in_folder().await {
            Ok(found) => {
                for sid in found {
                    if store.has_complete_recording(sid).await.unwrap_or_default() && queue.send(sid).await.is_err() {
                        return;
                    }
                }
            }
            Err(error) => tracing::error!(%error, "the folder of recordings cannot be read: nothing more is uploaded"),
        }
        sleep(LOOK_EVERY).await;
    }
}
