//! Who is registered, in a file beside the journal: phones stay reachable when the edge starts anew.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use dialtone_sip::flow::Transport;

use crate::account::Aor;
use crate::clock::wall_ms;
use crate::edges::{Edges, kind};
use crate::hot::{Answer, Bindings, Command, Delta, Hot};

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

/// Shares them with the other edges, each contact by itself: the last word on it holds.
pub(super) async fn share(bindings: Arc<Bindings>, hot: Hot, edges: Edges) {
    let mut cleaned = Instant::now();
    let mut unwritten: BTreeMap<String, Option<Vec<u8>>> = BTreeMap::new();
    loop {
        // While the store is away the others are told all the same.
        let news = tokio::time::timeout(AGAIN, bindings.deltas()).await;
        for delta in news.ok().flatten().into_iter().flatten() {
            if let Ok(body) = serde_json::to_vec(&delta) {
                edges.letter_to_all(kind::BINDINGS, &body.into());
            }
            unwritten.extend(delta.gone.iter().map(|contact| (field(&delta.aor, contact), None)));
            for binding in delta.put {
                let field = field(&delta.aor, &binding.contact);
                let alone = Delta { aor: delta.aor.clone(), put: vec![binding], gone: Vec::new() };
                unwritten.insert(field, serde_json::to_vec(&alone).ok());
            }
        }
        while let Some(entry) = unwritten.first_entry() {
            let (map, field) = (MAP.to_owned(), entry.key().clone());
            let command = match entry.get().clone() {
                Some(value) => Command::Put { map, field, value },
                None => Command::Remove { map, field },
            };
            if hot.ask(command).await.is_err() {
                break;
            }
            entry.remove();
        }
        if cleaned.elapsed() > CLEAN_EVERY {
            cleaned = Instant::now();
            forget_expired(&hot).await;
        }
    }
}

/// Takes up all that the edges know; `ours` is where this one listens.
pub(super) async fn read_shared(bindings: &Bindings, hot: &Hot, ours: &[(Transport, SocketAddr)]) {
    match hot.ask(Command::All { map: MAP.to_owned() }).await {
        Ok(Answer::Values(values)) => {
            let wall_ms = wall_ms();
            let read = values.iter().filter_map(|(_, value)| serde_json::from_slice::<Delta>(value).ok());
            read.filter(|delta| is_live(delta, wall_ms)).for_each(|delta| bindings.merge_shared(delta, ours));
        }
        Ok(_) => {}
        Err(error) => tracing::warn!(%error, "registrations at other edges cannot be read now"),
    }
}

async fn forget_expired(hot: &Hot) {
    let Ok(Answer::Values(values)) = hot.ask(Command::All { map: MAP.to_owned() }).await else { return };
    let wall_ms = wall_ms();
    for (field, value) in values {
        if serde_json::from_slice::<Delta>(&value).map_or(true, |delta| !is_live(&delta, wall_ms)) {
            let _ = hot.ask(Command::Remove { map: MAP.to_owned(), field }).await;
        }
    }
}

fn is_live(delta: &Delta, wall_ms: u64) -> bool {
    delta.put.iter().any(|binding| binding.expires_at_ms > wall_ms)
}

fn field(aor: &Aor, contact: &str) -> String {
    format!("{}@{} {contact}", aor.username, aor.domain)
}

const MAP: &str = "bindings";
/// What could not be written is tried again.
const AGAIN: Duration = Duration::from_secs(1);
/// Contacts that nobody has taken back, and that are over.
const CLEAN_EVERY: Duration = Duration::from_secs(600);

/// Whole or not at all.
fn write(folder: &Path, bytes: &[u8]) -> io::Result<()> {
    let beside = folder.join(format!("{FILE}.new"));
    let mut file = fs::OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(bytes)?;
    fs::rename(beside, folder.join(FILE))
}
