//! Who is registered, in a file beside the journal: phones stay reachable when the edge starts anew.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
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

const FILE: &str = "registrations.jsonl";
/// What changes in this time is written down together: a phone that registered less than this before a crash may have to do so again.
const TOGETHER: Duration = Duration::from_millis(100);
/// Lines that are out of date, beyond as many as there are users, until the file is written anew.
const OUTDATED: usize = 1_024;

/// Takes up what an earlier run has written down.
pub(super) fn restore(bindings: &Bindings, folder: &Path) {
    let path = folder.join(FILE);
    let read = match fs::File::open(&path) {
        Ok(file) => restore_lines(bindings, BufReader::new(file), wall_ms()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return,
        Err(error) => Err(error),
    };
    if let Err(error) = read {
        tracing::warn!(%error, path = %path.display(), "registrations cannot be read: phones must register anew");
    }
}

fn restore_lines(bindings: &Bindings, file: impl BufRead, wall_ms: u64) -> io::Result<()> {
    for line in file.lines() {
        // Of the last line a crash may have left a part.
        if let Ok((aor, written)) = serde_json::from_str(&line?) {
            bindings.restore(aor, written, wall_ms);
        }
    }
    Ok(())
}

/// Writes down what changes, until the process ends.
pub(super) async fn run(bindings: Arc<Bindings>, folder: PathBuf) {
    let mut log = None;
    loop {
        match &log {
            Some(_) => {
                bindings.changed().await;
                tokio::time::sleep(TOGETHER).await;
            }
            None => tokio::time::sleep(AGAIN).await,
        }
        let (bindings, folder) = (bindings.clone(), folder.clone());
        let written = tokio::task::spawn_blocking(move || write(&bindings, &folder, log)).await;
        log = match written {
            Ok(Ok(log)) => Some(log),
            Ok(Err(error)) => {
                tracing::warn!(%error, "registrations cannot be written down: after a crash phones must register anew");
                None
            }
            Err(_) => None,
        };
    }
}

/// The file of this run: a line for each user whose bindings have changed, and the last of a user holds.
struct Log {
    file: fs::File,
    lines: usize,
    /// It is written anew with more.
    most: usize,
}

/// Adds what has changed; all of it, in the place of the file, where there is no log yet or it has grown long.
fn write(bindings: &Bindings, folder: &Path, log: Option<Log>) -> io::Result<Log> {
    let changed = bindings.unwritten();
    match log {
        Some(mut log) if log.lines + changed.len() <= log.most => {
            log.lines += changed.len();
            write_users(bindings, changed, &log.file)?;
            Ok(log)
        }
        _ => write_all(bindings, folder),
    }
}

/// Whole or not at all.
fn write_all(bindings: &Bindings, folder: &Path) -> io::Result<Log> {
    let beside = folder.join(format!("{FILE}.new"));
    let file = fs::OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&beside)?;
    let users = bindings.users();
    let lines = users.len();
    write_users(bindings, users, &file)?;
    fs::rename(beside, folder.join(FILE))?;
    Ok(Log { file, lines, most: 2 * lines + OUTDATED })
}

fn write_users(bindings: &Bindings, users: impl IntoIterator<Item = Aor>, file: &fs::File) -> io::Result<()> {
    let (mut file, wall_ms) = (BufWriter::new(file), wall_ms());
    for aor in users {
        let current = bindings.of(&aor, wall_ms);
        serde_json::to_writer(&mut file, &(aor, current))?;
        file.write_all(b"\n")?;
    }
    file.flush()
}

/// Shares them with the other edges, each contact by itself: the last word on it holds.
pub(super) async fn share(bindings: Arc<Bindings>, hot: Hot, edges: Edges) {
    let mut cleaned = Instant::now();
    let mut unwritten: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    loop {
        // While the store is away the others are told all the same.
        let news = tokio::time::timeout(AGAIN, bindings.deltas()).await;
        for delta in news.ok().flatten().into_iter().flatten() {
            if let Ok(body) = serde_json::to_vec(&delta) {
                edges.letter_to_all(kind::BINDINGS, &body.into());
            }
            unwritten.extend(entries(delta, wall_ms()));
        }
        while let Some(entry) = unwritten.first_entry() {
            let put = Command::Put { map: MAP.to_owned(), field: entry.key().clone(), value: entry.get().clone() };
            if hot.ask(put).await.is_err() {
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

/// What the store is to have of it, by contact. Of what is gone it has a word as long as somebody may believe in it: an edge that
/// was away has it written down still, and reads this when it is back.
fn entries(delta: Delta, wall_ms: u64) -> Vec<(String, Vec<u8>)> {
    let Delta { aor, put, gone, until_ms } = delta;
    let gone = gone.into_iter().map(|contact| {
        let alone = Delta { gone: vec![contact.clone()], until_ms, ..Delta::put(aor.clone(), Vec::new()) };
        (contact, alone)
    });
    let put = put.into_iter().map(|binding| (binding.contact.clone(), Delta::put(aor.clone(), vec![binding])));
    let live = gone.chain(put).filter(|(_, alone)| is_live(alone, wall_ms));
    live.filter_map(|(contact, alone)| Some((field(&aor, &contact), serde_json::to_vec(&alone).ok()?))).collect()
}

/// Forgets of what was restored what edges have said to be gone since it was written.
pub(super) async fn forget_gone(bindings: &Bindings, hot: &Hot) {
    let gone = all_shared(hot).await.into_iter().filter(|delta| delta.put.is_empty());
    gone.for_each(|delta| bindings.merge_shared(delta, &[]));
}

/// Takes up all that the edges know; `ours` is where this one listens.
pub(super) async fn read_shared(bindings: &Bindings, hot: &Hot, ours: &[(Transport, SocketAddr)]) {
    all_shared(hot).await.into_iter().for_each(|delta| bindings.merge_shared(delta, ours));
}

async fn all_shared(hot: &Hot) -> Vec<Delta> {
    match hot.ask(Command::All { map: MAP.to_owned() }).await {
        Ok(Answer::Values(values)) => {
            let wall_ms = wall_ms();
            let read = values.iter().filter_map(|(_, value)| serde_json::from_slice::<Delta>(value).ok());
            read.filter(|delta| is_live(delta, wall_ms)).collect()
        }
        Ok(_) => Vec::new(),
        Err(error) => {
            tracing::warn!(%error, "registrations at other edges cannot be read now");
            Vec::new()
        }
    }
}

/// Nobody believes in it any more.
async fn forget_expired(hot: &Hot) {
    let Ok(Answer::Values(values)) = hot.ask(Command::All { map: MAP.to_owned() }).await else { return };
    let wall_ms = wall_ms();
    for (field, value) in values {
        if serde_json::from_slice::<Delta>(&value).map_or(true, |delta| !is_live(&delta, wall_ms)) {
            let _ = hot.ask(Command::Remove { map: MAP.to_owned(), field, value }).await;
        }
    }
}

fn is_live(delta: &Delta, wall_ms: u64) -> bool {
    delta.until_ms > wall_ms || delta.put.iter().any(|binding| binding.expires_at_ms > wall_ms)
}

fn field(aor: &Aor, contact: &str) -> String {
    format!("{}@{} {contact}", aor.username, aor.domain)
}

const MAP: &str = "bindings";
/// What could not be written is tried again.
const AGAIN: Duration = Duration::from_secs(1);
/// Contacts that are over, and what was said of such.
const CLEAN_EVERY: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use dialtone_sip::flow::Flow;
    use dialtone_sip::msg::Message;

    use super::*;

    fn register(bindings: &Bindings, user: &str, expires: u32) {
        let aor = Aor { username: user.to_owned(), domain: "d".to_owned() };
        let text = format!(
            "REGISTER sip:d SIP/2.0\r\nCall-ID: {user}-{expires}\r\nCSeq: 1 REGISTER\r\nContact: <sip:{user}@192.0.2.1>\r\nExpires: {expires}\r\n\r\n"
        );
        let (local, remote) = ("127.0.0.1:5060".parse().unwrap(), "192.0.2.1:5060".parse().unwrap());
        let flow = Flow { transport: Transport::Udp, local, remote, connection: None };
        bindings.register(aor, &Message::parse(Bytes::from(text)).unwrap(), flow, wall_ms()).unwrap();
    }

    fn registered(bindings: &Bindings) -> Vec<String> {
        let mut users: Vec<String> = bindings.users().into_iter().map(|aor| aor.username).collect();
        users.sort();
        users
    }

    #[test]
    fn what_was_written_last_of_each_user_is_taken_up_though_the_last_line_is_torn() {
        let folder = std::env::temp_dir().join(format!("dialtone-registrations-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        let taken_up = || {
            let bindings = Bindings::new(false);
            restore(&bindings, &folder);
            bindings
        };
        let bindings = taken_up();
        ["ann", "ben", "cat"].into_iter().for_each(|user| register(&bindings, user, 3600));
        let mut log = write(&bindings, &folder, None).unwrap();
        assert_eq!(registered(&taken_up()), ["ann", "ben", "cat"]);
        register(&bindings, "ben", 0);
        register(&bindings, "dan", 3600);
        log = write(&bindings, &folder, Some(log)).unwrap();
        assert_eq!(log.lines, 5, "only what has changed is added");
        assert_eq!(registered(&taken_up()), ["ann", "cat", "dan"]);
        log.file.write_all(b"[{\"username\":\"ann\",\"doma").unwrap();
        assert_eq!(registered(&taken_up()), ["ann", "cat", "dan"]);
        // After a start, and where it has grown long, it is written anew.
        let again = taken_up();
        log = write(&again, &folder, None).unwrap();
        assert_eq!((log.lines, registered(&taken_up())), (3, registered(&again)));
        for turn in 0..OUTDATED as u32 {
            register(&again, "ann", 1_000 + turn);
            log = write(&again, &folder, Some(log)).unwrap();
        }
        assert!(fs::read_to_string(folder.join(FILE)).unwrap().lines().count() <= log.most);
        log.most = 0;
        assert_eq!(write(&again, &folder, Some(log)).unwrap().lines, 3);
        assert_eq!(registered(&taken_up()), ["ann", "cat", "dan"]);
        fs::remove_dir_all(&folder).unwrap();
    }

    /// An edge wrote down who was registered and was lost; what the others say of them meanwhile holds when it is back.
    #[tokio::test]
    async fn pr_07_who_went_while_an_edge_was_away_is_not_taken_up_by_it() {
        let folder = std::env::temp_dir().join(format!("dialtone-registrations-gone-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        let (hot, other) = (Hot::memory(), Bindings::new(true));
        let store = async |bindings: &Bindings| {
            for (field, value) in
                bindings.deltas().await.unwrap().into_iter().flat_map(|delta| entries(delta, wall_ms()))
            {
                hot.ask(Command::Put { map: MAP.to_owned(), field, value }).await.unwrap();
            }
        };
        ["ann", "ben", "cat"].into_iter().for_each(|user| register(&other, user, 600));
        store(&other).await;
        write(&other, &folder, None).unwrap();
        register(&other, "ann", 0);
        register(&other, "ben", 0);
        store(&other).await;
        // One of them came again, and the store has not heard of it.
        let back = Bindings::new(true);
        restore(&back, &folder);
        register(&back, "ben", 3600);
        assert_eq!(registered(&back), ["ann", "ben", "cat"]);
        forget_gone(&back, &hot).await;
        assert_eq!(registered(&back), ["ben", "cat"]);
        // Nor does an edge take her back that has her still, having missed it; and who comes again is known to all.
        register(&other, "ann", 600);
        store(&other).await;
        forget_gone(&back, &hot).await;
        read_shared(&back, &hot, &[]).await;
        assert_eq!(registered(&back), ["ann", "ben", "cat"]);
        // What nobody can believe any more needs no word.
        let known = other.of(&Aor { username: "ann".to_owned(), domain: "d".to_owned() }, 0);
        let delta = Delta::gone(Aor { username: "ann".to_owned(), domain: "d".to_owned() }, &known);
        assert_eq!([wall_ms(), u64::MAX].map(|at| entries(delta.clone(), at).len()), [1, 0]);
        let past = Delta { until_ms: 1, ..delta };
        let value = serde_json::to_vec(&past).unwrap();
        hot.ask(Command::Put { map: MAP.to_owned(), field: "past".to_owned(), value }).await.unwrap();
        let fields = async || match hot.ask(Command::All { map: MAP.to_owned() }).await {
            Ok(Answer::Values(values)) => values.into_iter().map(|(field, _)| field).collect::<Vec<_>>(),
            other => panic!("{other:?}"),
        };
        let before = fields().await;
        forget_expired(&hot).await;
        assert_eq!(fields().await, before.iter().filter(|field| *field != "past").cloned().collect::<Vec<_>>());
        assert_eq!(before.len(), 4);
        fs::remove_dir_all(&folder).unwrap();
    }
}
