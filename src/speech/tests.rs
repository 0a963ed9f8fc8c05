//! The speaker with a scripted engine in flite's place, and with flite itself where it is installed.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::*;
use crate::app::Clips;
use crate::speech::flite::Flite;

/// A folder of one test, removed at its end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("dialtone-speech-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).expect("the temporary folder is writable");
        Self(path)
    }

    fn config(&self) -> SpeechConfig {
        SpeechConfig { time_limit: Duration::from_secs(5), ..SpeechConfig::in_folder(self.0.join("kept")) }
    }

    /// How often the scripted engine has spoken.
    fn runs(&self) -> usize {
        std::fs::read_to_string(self.0.join("runs")).map_or(0, |text| text.lines().count())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// An engine that runs `body` in a shell for each phrase: `$text` and `$audio` are its files, `$voice` its voice.
fn scripted(folder: &Folder, body: &str) -> Engine {
    let command = folder.0.join("flite");
    let script = format!(
        "#!/bin/sh\nPATH=/usr/bin:/bin\nif [ \"$1\" = -lv ]; then echo 'Voices available: kal slt rms'; exit; fi\n\
         voice=$2 text=$4 audio=$6\necho \"$voice\" >> '{}'\n{body}\n",
        folder.0.join("runs").display()
    );
    write_command(&command, &script);
    Engine::Flite(Flite::new(command).expect("the script lists voices"))
}

/// Written beside its place and moved there: a file that is open for writing, by this process or a child that another
/// test has just forked, cannot be run.
fn write_command(place: &Path, script: &str) {
    let status = std::process::Command::new("/bin/sh")
        .args(["-c", "printf '%s' \"$1\" > \"$2\"", "sh", script])
        .arg(place)
        .status();
    assert!(status.is_ok_and(|status| status.success()));
    std::fs::set_permissions(place, std::fs::Permissions::from_mode(0o755)).expect("the file is ours");
}

/// Writes a WAV of 8 kHz whose samples are the bytes of the text.
const SPEAK: &str = "size=$(wc -c < \"$text\")\n\
    printf 'RIFF\\0\\0\\0\\0WAVEfmt \\020\\0\\0\\0\\001\\0\\001\\0\\100\\037\\0\\0\\0\\0\\0\\0\\0\\0\\020\\0data\\377\\377\\377\\177' > \"$audio\"\n\
    cat \"$text\" >> \"$audio\"";

fn speech_with(engine: Result<Engine, SpeechError>, config: SpeechConfig) -> Speech {
    Speech::new(engine, config, Arc::new(Clips::new(10_000_000)))
}

fn phrase(text: &str) -> Phrase {
    Phrase { text: text.into(), ..Phrase::default() }
}

#[tokio::test]
async fn phrase_is_spoken_once_and_kept() {
    let folder = Folder::new();
    let speech = speech_with(Ok(scripted(&folder, SPEAK)), folder.config());
    let spoken = speech.speak(&phrase("-o /etc/passwd; $(reboot)")).await.expect("the script speaks");
    assert_eq!(&spoken.samples[..], b"-o /etc/passwd; $(reboot)\n", "the text is data to the end");
    assert_eq!(speech.speak(&phrase(" -o /etc/passwd; $(reboot) ")).await, Ok(spoken.clone()));
    assert_eq!(folder.runs(), 1);
    let later = speech_with(Ok(scripted(&folder, "exit 1")), folder.config());
    assert_eq!(later.speak(&phrase("-o /etc/passwd; $(reboot)")).await, Ok(spoken), "the disk has it");
    let left: Vec<_> = std::fs::read_dir(folder.0.join("kept")).expect("the folder is there").collect();
    assert_eq!(left.len(), 1, "the engine's own files are gone");
}

#[tokio::test]
async fn voice_is_part_of_what_is_kept() {
    let folder = Folder::new();
    let speech = speech_with(Ok(scripted(&folder, SPEAK)), folder.config());
    for voice in ["man", "woman", "alice", "Polly.Joanna"] {
        speech.speak(&Phrase { voice: voice.into(), ..phrase("even") }).await.expect("the script speaks");
    }
    let runs = std::fs::read_to_string(folder.0.join("runs")).expect("it has run");
    assert_eq!(runs, "rms\nslt\n");
}

#[tokio::test]
async fn hundred_that_want_the_same_run_the_engine_once() {
    let folder = Folder::new();
    let speech = speech_with(Ok(scripted(&folder, SPEAK)), folder.config());
    let tasks: Vec<_> = (0..100)
        .map(|_| {
            let speech = speech.clone();
            tokio::spawn(async move { speech.speak(&phrase("once")).await })
        })
        .collect();
    for task in tasks {
        assert!(task.await.expect("the task ends").is_ok());
    }
    assert_eq!(folder.runs(), 1);
}

#[tokio::test]
async fn engines_fail_in_their_ways() {
    let cases = [
        ("exit 3", SpeechError::EngineFailed(Some(3))),
        ("kill -9 $$", SpeechError::EngineFailed(None)),
        ("exit 0", SpeechError::NoAudio),
        ("echo hello > \"$audio\"", SpeechError::NoAudio),
    ];
    for (body, expected) in cases {
        let folder = Folder::new();
        let speech = speech_with(Ok(scripted(&folder, body)), folder.config());
        assert_eq!(speech.speak(&phrase("text")).await, Err(expected), "{body}");
        let failed_again = speech.speak(&phrase("text")).await;
        assert_eq!((failed_again, folder.runs()), (Err(expected), 2), "a failure is not kept");
    }
}

#[tokio::test]
async fn engine_that_hangs_is_stopped() {
    let folder = Folder::new();
    let config = SpeechConfig { time_limit: Duration::from_millis(100), ..folder.config() };
    let speech = speech_with(Ok(scripted(&folder, "exec sleep 60")), config);
    assert_eq!(speech.speak(&phrase("text")).await, Err(SpeechError::TimedOut));
}

#[tokio::test]
async fn too_many_waiting_phrases_fail_at_once() {
    let folder = Folder::new();
    let config = SpeechConfig { waiting: 0, ..folder.config() };
    let speech = speech_with(Ok(scripted(&folder, SPEAK)), config);
    assert_eq!(speech.speak(&phrase("text")).await, Err(SpeechError::TooManyWaiting));
}

#[tokio::test]
async fn without_an_engine_the_error_says_how_to_get_one() {
    let folder = Folder::new();
    let speech = speech_with(Err(SpeechError::NoEngine), folder.config());
    let error = speech.speak(&phrase("text")).await.expect_err("there is no engine");
    assert!(error.to_string().contains("apt-get install flite"), "{error}");
    let engine = scripted(&folder, SPEAK);
    assert_eq!(speech_with(Ok(engine), folder.config()).speak(&phrase(" \n")).await, Err(SpeechError::NoText));
}

#[tokio::test]
async fn flite_speaks_where_it_is_installed() {
    let Ok(engine) = Engine::detect() else { return };
    let folder = Folder::new();
    let speech = speech_with(Ok(engine), folder.config());
    let one = speech.speak(&phrase("One.")).await.expect("flite speaks");
    let more = speech.speak(&phrase("One, two, three, four, five.")).await.expect("flite speaks");
    let (one, more) = (one.duration_ms(), more.duration_ms());
    assert!(one > 200 && more > one, "{one} {more}");
}

#[test]
fn prompts_need_no_engine() {
    let folder = Folder::new();
    let clips = Arc::new(Clips::new(10_000_000));
    let speech = Speech::new(Err(SpeechError::NoEngine), folder.config(), clips.clone());
    let clip = speech.prompt("demo-menu").expect("it is part of the binary");
    assert_eq!(clips.find(clip.hash), Some(clip));
    assert_eq!(speech.prompt("nothing").map_err(|failure| failure.code), Err(13520));
}
