//! Deletes recordings that have been kept for as long as `[recordings] keep_days` says, and forgets those that were deleted, and old
//! entries of the event log.

use std::time::Duration;

use crate::clock::wall_ms;
use crate::provision::HEARD;
use crate::recordings::Archive;
use crate::store::{DELETED_ARE_KNOWN, Store};

const EVERY: Duration = Duration::from_secs(3600);
/// Deleted at once; the rest a moment later.
const BATCH: u32 = 100;

pub(super) async fn run(keep: Option<Duration>, store: Store, archive: Archive) {
    loop {
        if let Some(keep) = keep {
            while delete_some(ago(keep), &store, &archive).await {}
        }
        if let Err(error) = store.forget_deleted_recordings(ago(DELETED_ARE_KNOWN)).await {
            tracing::error!(%error, "deleted recordings cannot be forgotten: tried again in an hour");
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// Forgets what was logged for those who listen, when it has been kept for long enough.
pub(super) async fn prune_log(store: Store) {
    loop {
        if let Err(error) = store.prune_log(ago(HEARD)).await {
            tracing::error!(%error, "old entries of the event log cannot be forgotten: tried again in an hour");
        }
        tokio::time::sleep(EVERY).await;
    }
}

fn ago(time: Duration) -> u64 {
    wall_ms().saturating_sub(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

/// True: there may be more.
async fn delete_some(before_ms: u64, store: &Store, archive: &Archive) -> bool {
    let expired = match store.recordings_before(before_ms, BATCH).await {
        Ok(expired) => expired,
        Err(error) => {
            tracing::error!(%error, "expired recordings cannot be found: they are looked for again in an hour");
            return false;
        }
    };
    for recording in &expired {
        let sid = recording.fact.sid;
        if let Err(error) = archive.delete(sid).await {
            tracing::error!(recording = %sid, %error, "an expired recording cannot be deleted: tried again in an hour");
            return false;
        }
        if let Err(error) = store.delete_recording(recording, wall_ms()).await {
            tracing::error!(recording = %sid, %error, "an expired recording cannot be deleted: tried again in an hour");
            return false;
        }
        tracing::info!(recording = %sid, account = %recording.account, "a recording has expired and is deleted");
    }
    expired.len() == BATCH as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::{Event, EventKind, RecordingFact, RecordingStatus};
    use crate::ids::{AccountSid, CallSid, EventSid, RecordingSid};
    use crate::store::{Batch, RecordingFilter};
    use crate::twiml::{RecordingSource, RecordingTrack};

    #[tokio::test]
    async fn what_is_too_old_is_deleted_with_its_audio_and_the_rest_stays() {
        let folder = std::env::temp_dir().join(format!("dialtone-expiry-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        let store = Store::open(&format!("sqlite://{}", folder.join("d.db").display())).await.unwrap();
        let account = AccountSid::new(1);
        // More than one batch is too old; one is not, and one is not over.
        let old = u64::from(BATCH) + 5;
        let facts = (0..old + 2).map(|number| Event {
            id: EventSid::new(number.into()),
            account,
            call: CallSid::new(9),
            sequence: 0,
            at_ms: 50,
            kind: EventKind::Recording(Box::new(RecordingFact {
                sid: RecordingSid::new(number.into()),
                conference: None,
                source: RecordingSource::RecordVerb,
                track: RecordingTrack::Inbound,
                channels: 1,
                status: if number == old { RecordingStatus::InProgress } else { RecordingStatus::Completed },
                started_ms: if number > old { 2_000 } else { 1_000 },
                duration_ms: 5,
                bytes: 44,
                error: String::new(),
                callback: None,
                is_resumed: false,
            })),
        });
        store.write(&Batch { facts: facts.collect(), ..Batch::default() }).await.unwrap();
        let archive = Archive::new(folder.clone(), None);
        let audio = |number: u128| folder.join(format!("{}.wav", RecordingSid::new(number)));
        std::fs::write(audio(0), "audio").unwrap();
        std::fs::write(audio(u128::from(old) + 1), "audio").unwrap();
        while delete_some(1_500, &store, &archive).await {}
        let left = store.find_recordings(account, &RecordingFilter::default(), 1_000).await.unwrap();
        let left: Vec<_> = left.iter().map(|recording| recording.fact.sid.bits()).collect();
        assert_eq!(left, [u128::from(old) + 1, u128::from(old)]);
        assert!(!audio(0).exists() && audio(u128::from(old) + 1).exists());
        std::fs::remove_dir_all(folder).unwrap();
    }
}
