//! The folder of a server is one server's: two that wrote its journal would each lose what the other wrote.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

const FILE: &str = "lock";
/// For an earlier server that was killed: until it has left the processor and the disk, its files and ports are taken.
const PATIENCE: Duration = Duration::from_secs(5);
const ASKED_EACH: Duration = Duration::from_millis(20);

/// Holds the folder until it is dropped, or the process is gone.
#[derive(Debug)]
pub(super) struct FolderLock {
    _file: File,
}

#[derive(Debug)]
pub enum FolderError {
    /// `process` is what the other has written down.
    Taken {
        folder: PathBuf,
        process: String,
    },
    File {
        folder: PathBuf,
        error: io::Error,
    },
}

impl FolderLock {
    /// Makes the folder where there is none, and waits for the server before to be gone.
    pub(super) async fn take(folder: &Path) -> Result<FolderLock, FolderError> {
        FolderLock::take_within(PATIENCE, folder).await
    }

    async fn take_within(patience: Duration, folder: &Path) -> Result<FolderLock, FolderError> {
        let fault = |error| FolderError::File { folder: folder.to_owned(), error };
        let mut file = open(folder).map_err(fault)?;
        let began = tokio::time::Instant::now();
        let mut is_told = false;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::Error(error)) => return Err(fault(error)),
                Err(TryLockError::WouldBlock) => {}
            }
            if began.elapsed() >= patience {
                let mut process = String::new();
                file.read_to_string(&mut process).map_err(fault)?;
                return Err(FolderError::Taken { folder: folder.to_owned(), process: process.trim().to_owned() });
            }
            if !is_told {
                tracing::info!(folder = %folder.display(), "waiting for the server that has this folder to be gone");
                is_told = true;
            }
            tokio::time::sleep(ASKED_EACH).await;
        }
        write(&mut file).map_err(fault)?;
        Ok(FolderLock { _file: file })
    }
}

fn open(folder: &Path) -> io::Result<File> {
    fs::create_dir_all(folder)?;
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(folder.join(FILE))
}

fn write(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
}

impl std::fmt::Display for FolderError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            FolderError::Taken { folder, process } => write!(
                f,
                "another server has the folder {} (process {process}): stop it, or give this one a folder of its own, \
                 [store] folder",
                folder.display()
            ),
            FolderError::File { folder, error } => {
                write!(f, "cannot write in the folder {}: {error}", folder.display())
            }
        }
    }
}

impl std::error::Error for FolderError {}

#[cfg(test)]
mod tests {
    use super::*;

    struct Scratch(PathBuf);

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn scratch(name: &str) -> Scratch {
        Scratch(std::env::temp_dir().join(format!("dialtone-folder-{name}-{}", std::process::id())))
    }

    #[tokio::test]
    async fn who_comes_second_is_told_who_came_first() {
        let folder = scratch("second");
        let _held = FolderLock::take(&folder.0).await.unwrap();
        let refused = FolderLock::take_within(Duration::ZERO, &folder.0).await.unwrap_err();
        let told = refused.to_string();
        assert!(told.contains(&format!("process {}", std::process::id())), "{told}");
        assert!(told.contains(&folder.0.display().to_string()), "{told}");
    }

    #[tokio::test]
    async fn what_is_about_to_end_is_waited_for() {
        let folder = scratch("wait");
        let held = FolderLock::take(&folder.0).await.unwrap();
        let ending = tokio::spawn(async move {
            // The other has asked once by now: both run on one thread.
            drop(held);
        });
        FolderLock::take_within(Duration::from_secs(600), &folder.0).await.unwrap();
        ending.await.unwrap();
    }

    #[tokio::test]
    async fn a_folder_that_cannot_be_written_is_named() {
        let file = scratch("file");
        fs::write(&file.0, "").unwrap();
        let told = FolderLock::take(&file.0).await.unwrap_err().to_string();
        fs::remove_file(&file.0).unwrap();
        assert!(told.starts_with(&format!("cannot write in the folder {}: ", file.0.display())), "{told}");
    }
}
