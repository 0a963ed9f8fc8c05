//! Files of the folder that are no recordings: under names of their own, until they are whole or nobody needs them.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::ids::RecordingSid;

const SUFFIX: &str = ".part";

/// A name for a file that is deleted when this is dropped. Two that make the same at once have two.
#[derive(Debug)]
pub struct Temporary(PathBuf);

impl Temporary {
    pub(super) fn new(folder: &Path, sid: RecordingSid) -> Temporary {
        let mut chance = [0; 8];
        getrandom::fill(&mut chance).expect("the operating system has a source of randomness");
        Temporary(folder.join(format!("{sid}.{:x}{SUFFIX}", u64::from_ne_bytes(chance))))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Makes the file, which is gone when it is closed; and the folder, where nothing was recorded yet.
    pub(super) fn without_name(self) -> io::Result<File> {
        let folder = self.0.parent().expect("the file is in a folder");
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        OpenOptions::new().read(true).write(true).create_new(true).open(&self.0)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Deletes what an earlier run left.
pub(super) fn sweep(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry
            .file_name()
            .to_str()
            .is_some_and(|name| name.starts_with(RecordingSid::PREFIX) && name.ends_with(SUFFIX))
        {
            let _ = fs::remove_file(entry.path());
        }
    }
}
