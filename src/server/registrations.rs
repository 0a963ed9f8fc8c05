//! Who is registered, in a file beside the journal: phones stay reachable when the edge starts anew.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::clock::wall_ms;
use crate::hot::Bindings;

const FILE: &str = "registrations.json";
/// A phone that registered less than this before a crash may have to do so again.
const EVERY: Duration = Duration::from_secs(1);

/// Takes up what an earlier run has written down.
pub(super) fn restore(bindings: &Bindings, folder: &Path) {
    let path = folder.join(FILE);
    let written = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return,
        Err(error) => {
            return tracing::warn!(%error, path = %path.display(), "registrations cannot be read: phones must register anew");
        }
    };
    match serde_json::from_slice(&written) {
        Ok(written) => bindings.restore(written, wall_ms()),
        Err(error) => {
            tracing::warn!(%error, path = %path.display(), "registrations cannot be read: phones must register anew")
        }
    }
}

/// Writes them down when they have changed, until the process ends.
pub(super) async fn run(bindings: Arc<Bindings>, folder: PathBuf) {
    loop {
        tokio::time::sleep(EVERY).await;
        if let Some(all) = bindings.changed(wall_ms()) {
            let folder = folder.clone();
            let written = tokio::task::spawn_blocking(move || write(&folder, &serde_json::to_vec(&all)?)).await;
            if let Ok(Err(error)) = written {
                tracing::warn!(%error, "registrations cannot be written down: after a crash phones must register anew");
            }
        }
    }
}

/// Whole or not at all.
fn write(folder: &Path, bytes: &[u8]) -> io::Result<()> {
    let beside = folder.join(format!("{FILE}.new"));
    let mut file = fs::OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(bytes)?;
    fs::rename(beside, folder.join(FILE))
}
