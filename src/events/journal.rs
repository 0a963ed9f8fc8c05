//! The journal: events on disk, one JSON line each, in numbered segments that are deleted when the store has their calls; and
//! among them the states of calls that are to outlive the edge.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use super::Event;
use super::outbox::Line;
use crate::ids::{CallSid, EventSid};

/// A segment is closed at this size.
const SEGMENT_BYTES: u64 = 16 << 20;

/// The last state of each call that has one, as JSON.
pub type States = HashMap<CallSid, Vec<u8>>;

/// What a journal has: of earlier runs when it is opened.
#[derive(Default)]
pub struct Left {
    /// The oldest first.
    pub events: Vec<Event>,
    pub states: States,
    /// Those for which everything was done outside that was to be.
    pub delivered: HashSet<EventSid>,
}

/// Where events are appended.
pub(super) struct Journal {
    folder: PathBuf,
    number: u64,
    file: File,
    bytes: u64,
    buffer: Vec<u8>,
    syncer: Option<Syncer>,
}

/// Puts files on the disk, on a thread of its own: who appends waits for none of that, and what is appended meanwhile is with the
/// kernel, and not in a process that may be killed.
struct Syncer {
    files: SyncSender<File>,
    thread: JoinHandle<()>,
}

impl Journal {
    /// Opens a folder; gives what earlier runs left in it, and begins a new segment.
    pub(super) fn open(folder: &Path) -> io::Result<(Journal, Left)> {
        fs::create_dir_all(folder)?;
        let left = read(folder)?;
        let segments = segments(folder)?;
        let number = segments.last().map_or(1, |last| last + 1);
        let file = segment(folder, number)?;
        let syncer = Some(Syncer::start()?);
        Ok((Journal { folder: folder.to_owned(), number, file, bytes: 0, buffer: Vec::new(), syncer }, left))
    }

    /// All that is there now.
    pub(super) fn read(&self) -> io::Result<Left> {
        read(&self.folder)
    }

    /// Appends lines by one write. They are with the kernel when this returns: a crash of the process loses none, or all.
    pub(super) fn append(&mut self, lines: &[Line]) -> io::Result<()> {
        if self.bytes >= SEGMENT_BYTES {
            self.roll()?;
        }
        self.buffer.clear();
        for line in lines {
            match line {
                Line::Event(event, _) => serde_json::to_writer(&mut self.buffer, event)?,
                Line::State(call, state, _) => {
                    write!(self.buffer, "{STATE}{call} ")?;
                    self.buffer.extend_from_slice(state);
                }
                Line::Delivered(_, event) => write!(self.buffer, "{DELIVERED}{event}")?,
            }
            self.buffer.push(b'\n');
        }
        self.file.write_all(&self.buffer)?;
        self.bytes += self.buffer.len() as u64;
        Ok(())
    }

    /// The segment that is being written.
    pub(super) fn segment(&self) -> u64 {
        self.number
    }

    /// Puts what is written on the disk.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Has what is written put on the disk; whether that is under way now. It is not while what came before is.
    pub(super) fn sync_soon(&self) -> io::Result<bool> {
        let Some(syncer) = &self.syncer else { return self.sync().map(|()| true) };
        Ok(syncer.files.try_send(self.file.try_clone()?).is_ok())
    }

    /// Deletes every segment before `oldest`: the store has all their calls.
    pub(super) fn release(&self, oldest: u64) -> io::Result<()> {
        for number in segments(&self.folder)?.into_iter().filter(|number| *number < oldest.min(self.number)) {
            fs::remove_file(path(&self.folder, number))?;
        }
        Ok(())
    }

    fn roll(&mut self) -> io::Result<()> {
        if let Some(syncer) = &self.syncer {
            // The next segment is written when this one is on its way.
            let _ = syncer.files.send(self.file.try_clone()?);
        }
        self.number += 1;
        self.file = segment(&self.folder, self.number)?;
        self.bytes = 0;
        Ok(())
    }
}

impl Syncer {
    fn start() -> io::Result<Syncer> {
        let (files, waiting) = sync_channel::<File>(1);
        let thread = thread::Builder::new().name("journal-sync".into()).spawn(move || {
            for file in waiting {
                if let Err(error) = file.sync_data() {
                    tracing::error!(%error, "the journal cannot be synchronised to disk");
                }
            }
        })?;
        Ok(Syncer { files, thread })
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        if let Some(Syncer { files, thread }) = self.syncer.take() {
            drop(files);
            let _ = thread.join();
        }
    }
}

/// A last line that was cut by a crash is dropped: it was never acknowledged to anyone. Of the states of a call the last is given.
fn read(folder: &Path) -> io::Result<Left> {
    let mut left = Left::default();
    for number in segments(folder)? {
        let reader = BufReader::new(File::open(path(folder, number))?);
        for line in reader.split(b'\n').map_while(Result::ok) {
            if let Some((call, state)) = state_of(&line) {
                left.states.insert(call, state.to_vec());
            } else if let Some(event) = delivered_of(&line) {
                left.delivered.insert(event);
            } else {
                left.events.extend(serde_json::from_slice::<Event>(&line).ok());
            }
        }
    }
    Ok(left)
}

/// What a line says that is the state of a call and no event.
fn state_of(line: &[u8]) -> Option<(CallSid, &[u8])> {
    let rest = line.strip_prefix(STATE.as_bytes())?;
    let (sid, state) = rest.split_at_checked(34)?;
    Some((std::str::from_utf8(sid).ok()?.parse().ok()?, state.strip_prefix(b" ")?))
}

/// Which event a line says is done for, if it says that. Others than the journal write such lines too.
pub fn delivered_of(line: &[u8]) -> Option<EventSid> {
    std::str::from_utf8(line.strip_prefix(DELIVERED.as_bytes())?).ok()?.parse().ok()
}

/// A segment to append to, for nobody else to read: calls hold what their documents say, secrets too.
fn segment(folder: &Path, number: u64) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path(folder, number))
}

/// Before the sid of an event.
pub const DELIVERED: &str = "delivered ";
/// Before the state of a call.
const STATE: &str = "state ";

fn path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:010}.jsonl"))
}

fn segments(folder: &Path) -> io::Result<Vec<u64>> {
    let mut numbers: Vec<u64> = fs::read_dir(folder)?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.strip_suffix(".jsonl")?.parse().ok())
        .collect();
    numbers.sort_unstable();
    Ok(numbers)
}
