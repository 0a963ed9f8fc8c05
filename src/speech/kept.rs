//! What has been spoken, in a folder: one file for each voice and text, bounded by bytes, the oldest go first.

use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use bytes::Bytes;
use sha2::{Digest, Sha256};

/// Names what a voice makes of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Spoken([u8; 32]);

impl Spoken {
    pub fn new(voice: &str, text: &str) -> Self {
        let mut hash = Sha256::new();
        hash.update(voice.as_bytes());
        hash.update([0]);
        hash.update(text.as_bytes());
        Self(hash.finalize().into())
    }

    fn file_name(self) -> String {
        let mut name: String = self.0.iter().map(|byte| format!("{byte:02x}")).collect();
        name.push_str(".s16");
        name
    }
}

/// Samples in a folder, one file each. All of it blocks.
pub(super) struct OnDisk {
    folder: PathBuf,
    limit_bytes: u64,
}

impl OnDisk {
    pub fn new(folder: PathBuf, limit_bytes: u64) -> Self {
        Self { folder, limit_bytes }
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Whatever cannot be read is not there.
    pub fn find(&self, name: Spoken) -> Option<Bytes> {
        let samples = std::fs::read(self.folder.join(name.file_name())).ok()?;
        (!samples.is_empty() && samples.len() % 2 == 0).then(|| samples.into())
    }

    /// Writes the file beside its place and moves it there, so that nobody reads half of it; then the oldest files go
    /// until the rest is within the limit.
    pub fn keep(&self, name: Spoken, samples: &[u8]) -> io::Result<()> {
        let place = self.folder.join(name.file_name());
        let beside = place.with_extension(format!("{}.new", std::process::id()));
        std::fs::write(&beside, samples)?;
        std::fs::rename(&beside, &place)?;
        self.make_room()
    }

    fn make_room(&self) -> io::Result<()> {
        let mut files: Vec<(SystemTime, u64, PathBuf)> = Vec::new();
        for entry in std::fs::read_dir(&self.folder)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "s16")
                && let Ok(metadata) = path.metadata()
            {
                files.push((metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH), metadata.len(), path));
            }
        }
        let mut len_bytes: u64 = files.iter().map(|(_, len, _)| len).sum();
        files.sort_unstable();
        for (_, len, path) in files {
            if len_bytes <= self.limit_bytes {
                break;
            }
            std::fs::remove_file(path)?;
            len_bytes -= len;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(text: &str) -> Spoken {
        Spoken::new("slt", text)
    }

    #[test]
    fn voice_and_text_both_name() {
        assert_eq!(named("a"), named("a"));
        assert_ne!(named("a"), named("b"));
        assert_ne!(Spoken::new("ab", "c"), Spoken::new("a", "bc"));
    }

    #[test]
    fn oldest_leaves_the_disk_first() {
        let folder = std::env::temp_dir().join(format!("dialtone-kept-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("the temporary folder is writable");
        let kept = OnDisk::new(folder.clone(), 8);
        for text in ["a", "b", "c"] {
            kept.keep(named(text), b"1234").expect("the temporary folder is writable");
            // Files of one instant have no order: make each older than the next.
            let age = std::time::Duration::from_secs(u64::from(b'z' - text.as_bytes()[0]));
            let file = std::fs::File::options().write(true).open(folder.join(named(text).file_name()));
            if let Ok(file) = file {
                file.set_modified(SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000) - age)
                    .expect("times can be set");
            }
        }
        let found = ["a", "b", "c"].map(|text| kept.find(named(text)));
        assert_eq!(found, [None, Some(Bytes::from_static(b"1234")), Some(Bytes::from_static(b"1234"))]);
        std::fs::remove_dir_all(folder).expect("the folder is ours");
    }
}
