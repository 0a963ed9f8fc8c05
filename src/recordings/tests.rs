use super::*;
use crate::twiml::{RecordingSource, RecordingTrack};

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("dialtone-archive-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A second of a tone, whose header says that there is nothing: as a process leaves it that was killed.
fn unfinished_wav() -> Vec<u8> {
    let mut wav = Vec::new();
    wav.extend_from_slice(b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0");
    wav.extend_from_slice(&8000u32.to_le_bytes());
    wav.extend_from_slice(&16000u32.to_le_bytes());
    wav.extend_from_slice(b"\x02\0\x10\0data\0\0\0\0");
    let tone = (0..8000).map(|at| ((f64::from(at) * 0.3).sin() * 8000.0) as i16);
    wav.extend(tone.flat_map(i16::to_le_bytes));
    wav
}

fn fact(sid: RecordingSid) -> RecordingFact {
    RecordingFact {
        sid,
        conference: None,
        source: RecordingSource::RecordVerb,
        track: RecordingTrack::Inbound,
        channels: 1,
        status: RecordingStatus::InProgress,
        started_ms: 5,
        duration_ms: 0,
        bytes: 0,
        error: String::new(),
        callback: None,
        is_resumed: false,
    }
}

#[test]
fn recording_of_a_process_that_died_is_finished_with_what_there_is() {
    let folder = Folder::new("finish");
    let archive = Archive::new(folder.0.clone());
    let (there, gone) = (RecordingSid::new(1), RecordingSid::new(2));
    std::fs::write(archive.path(there, RECORDING_FILE), unfinished_wav()).unwrap();
    let finished = archive.finish(fact(there));
    assert_eq!((finished.status, finished.duration_ms, finished.channels), (RecordingStatus::Completed, 1000, 1));
    let failed = archive.finish(fact(gone));
    assert_eq!(failed.status, RecordingStatus::Failed);
    assert!(failed.error.contains("nothing of it is left"));
}

#[tokio::test]
async fn mp3_is_made_once_and_deleted_with_the_rest() {
    let folder = Folder::new("mp3");
    let archive = Archive::new(folder.0.clone());
    let sid = RecordingSid::new(3);
    assert!(matches!(archive.file(sid, Form::Mp3).await, Err(ArchiveError::NotFound)));
    std::fs::write(archive.path(sid, RECORDING_FILE), unfinished_wav()).unwrap();
    archive.finish(fact(sid));
    let mp3 = archive.file(sid, Form::Mp3).await.expect("lame is installed by tests/run");
    let bytes = std::fs::read(&mp3).unwrap();
    assert!(bytes.len() > 1000 && (bytes.starts_with(b"ID3") || bytes[0] == 0xFF), "an mp3");
    let made = std::fs::metadata(&mp3).unwrap().modified().unwrap();
    assert_eq!(archive.file(sid, Form::Mp3).await.unwrap(), mp3);
    assert_eq!(std::fs::metadata(&mp3).unwrap().modified().unwrap(), made, "not made again");
    archive.delete(sid).await.unwrap();
    archive.delete(sid).await.unwrap();
    assert_eq!(std::fs::read_dir(&folder.0).unwrap().count(), 0);
}
