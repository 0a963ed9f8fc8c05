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
    let archive = Archive::new(folder.0.clone(), None);
    let (there, gone) = (RecordingSid::new(1), RecordingSid::new(2));
    std::fs::write(archive.path(there, Form::Wav), unfinished_wav()).unwrap();
    let finished = archive.finish(fact(there));
    assert_eq!((finished.status, finished.duration_ms, finished.channels), (RecordingStatus::Completed, 1000, 1));
    let failed = archive.finish(fact(gone));
    assert_eq!(failed.status, RecordingStatus::Failed);
    assert!(failed.error.contains("nothing of it is left"));
}

fn made(audio: Audio) -> PathBuf {
    match audio {
        Audio::File(path) => path,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn other_forms_are_made_once_and_deleted_with_the_rest() {
    let folder = Folder::new("forms");
    let archive = Archive::new(folder.0.clone(), None);
    let sid = RecordingSid::new(3);
    for form in Form::ALL {
        assert!(matches!(archive.audio(sid, form).await, Err(ArchiveError::NotFound)), "{form:?}");
    }
    std::fs::write(archive.path(sid, Form::Wav), unfinished_wav()).unwrap();
    archive.finish(fact(sid));
    for (form, magic) in [(Form::Mp3, [&b"ID3"[..], b"\xFF"]), (Form::Opus, [b"OggS", b"OggS"])] {
        let file = made(archive.audio(sid, form).await.expect("lame is installed by tests/run"));
        let bytes = std::fs::read(&file).unwrap();
        assert!(bytes.len() > 1000 && magic.iter().any(|magic| bytes.starts_with(magic)), "{form:?}");
        let at = std::fs::metadata(&file).unwrap().modified().unwrap();
        assert_eq!(made(archive.audio(sid, form).await.unwrap()), file);
        assert_eq!(std::fs::metadata(&file).unwrap().modified().unwrap(), at, "not made again");
    }
    archive.delete(sid).await.unwrap();
    archive.delete(sid).await.unwrap();
    assert_eq!(std::fs::read_dir(&folder.0).unwrap().count(), 0);
}

#[tokio::test]
async fn what_is_no_recording_becomes_no_opus_file_and_leaves_none() {
    let folder = Folder::new("no-opus");
    let archive = Archive::new(folder.0.clone(), None);
    let sid = RecordingSid::new(4);
    for wrong in [&b"RIFF"[..], &[b'x'; 200]] {
        std::fs::write(archive.path(sid, Form::Wav), wrong).unwrap();
        assert!(matches!(archive.audio(sid, Form::Opus).await, Err(ArchiveError::Encoder(_))));
        assert_eq!(std::fs::read_dir(&folder.0).unwrap().count(), 1, "the wav alone");
    }
}
