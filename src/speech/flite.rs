//! flite, a small engine that every Debian has (`apt-get install flite`).
//!
//! The command is run directly, never through a shell, with arguments that are all our own: the text is handed over in
//! a file. It gets no environment and no input, and is killed when it takes too long or nobody waits for it.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::process::Command;

use crate::speech::error::SpeechError;
use crate::speech::speaking::Phrase;
use crate::speech::voices::flite_voice;
use crate::speech::wav;

/// The voice that is asked for when the command names none.
const ANY_VOICE: &str = "kal";

/// The command and the voices that it has.
#[derive(Clone, Debug)]
pub struct Flite {
    command: PathBuf,
    voices: Vec<String>,
}

impl Flite {
    /// Asks the command for its voices. Blocks until it has told them.
    pub(super) fn new(command: PathBuf) -> Result<Self, SpeechError> {
        let mut listing = std::process::Command::new(&command);
        let output = listing.arg("-lv").env_clear().stdin(Stdio::null()).stderr(Stdio::null()).output();
        let text = output.map_err(unavailable)?.stdout;
        let text = String::from_utf8_lossy(&text);
        let list = text.split_once(':').map_or("", |(_, list)| list);
        let voices = list.split_whitespace().map(str::to_owned).collect();
        Ok(Self { command, voices })
    }

    pub(super) fn voice(&self, phrase: &Phrase) -> &str {
        flite_voice(&phrase.voice, &phrase.language, &self.voices).unwrap_or(ANY_VOICE)
    }

    pub(super) async fn speak(
        &self,
        text: &str,
        voice: &str,
        folder: &Path,
        limit: Duration,
    ) -> Result<Vec<i16>, SpeechError> {
        let files = Files::new(folder);
        tokio::fs::write(&files.text, plain(text)).await.map_err(unavailable)?;
        let mut command = clean(&self.command);
        command.arg("-voice").arg(voice).arg("-f").arg(&files.text).arg("-o").arg(&files.audio);
        let status = tokio::time::timeout(limit, command.status()).await.map_err(|_| SpeechError::TimedOut)?;
        let status = status.map_err(unavailable)?;
        if !status.success() {
            return Err(SpeechError::EngineFailed(status.code()));
        }
        let audio = tokio::fs::read(&files.audio).await.map_err(|error| match error.kind() {
            ErrorKind::NotFound => SpeechError::NoAudio,
            kind => SpeechError::Unavailable(kind),
        })?;
        drop(files);
        let read = tokio::task::spawn_blocking(move || wav::read(&audio)).await;
        read.ok().flatten().filter(|samples| !samples.is_empty()).ok_or(SpeechError::NoAudio)
    }
}

/// The files of one run; removed when dropped, however it ended.
struct Files {
    text: PathBuf,
    audio: PathBuf,
}

impl Files {
    fn new(folder: &Path) -> Self {
        static RUNS: AtomicU64 = AtomicU64::new(0);
        let name = format!("{}-{}", std::process::id(), RUNS.fetch_add(1, Ordering::Relaxed));
        Self { text: folder.join(format!("{name}.txt")), audio: folder.join(format!("{name}.wav")) }
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        // Either may not have come to be.
        let _ = std::fs::remove_file(&self.text);
        let _ = std::fs::remove_file(&self.audio);
    }
}

/// A command with nothing of ours about it.
fn clean(command: &Path) -> Command {
    let mut command = Command::new(command);
    command.env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    command
}

/// The text with the typography that the engine would spell out, or stumble over, in plain characters.
fn plain(text: &str) -> String {
    let mut plain: String = text
        .chars()
        .map(|character| match character {
            '\u{2018}' | '\u{2019}' | '\u{201b}' => '\'',
            '\u{201c}' | '\u{201d}' | '\u{201e}' => '"',
            '\u{2013}' | '\u{2014}' => '-',
            '\u{2026}' => '.',
            other if other.is_control() || other.is_whitespace() => ' ',
            other => other,
        })
        .collect();
    plain.push('\n');
    plain
}

fn unavailable(error: std::io::Error) -> SpeechError {
    SpeechError::Unavailable(error.kind())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_made_plain() {
        assert_eq!(plain("It’s “on”\u{0}\n\u{2014} ok…"), "It's \"on\"  - ok.\n");
    }
}
