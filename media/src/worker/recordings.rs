//! The recordings of a shard, and the thread that writes them.
//!
//! The shard never waits for a disk. Samples go to the thread in buffers that come back when they are written; there
//! are only so many, and when a disk has stalled for so long that none is left, the recording that wants one fails, and
//! no call. The thread starts with the first recording, and is joined when the worker ends.

use std::collections::HashMap;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use mio::Waker;

use super::timers::Place;
use super::wav_file::WavFile;
use crate::ids::RecorderId;
use crate::proto::{RecorderEnd, RecorderEnded};
use crate::recorder::{FileLength, FileName, FileOutcome, FileStep};
use crate::wav::WavHeader;

/// Names a recording: no other of this shard ever has the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct RecordingKey {
    pub place: Place,
    pub recorder: RecorderId,
}

/// The recordings of a shard.
pub(super) struct Recordings {
    folder: PathBuf,
    waker: Arc<Waker>,
    writer: Option<Writer>,
    /// Those whose last outcome has not come.
    open: HashMap<RecordingKey, Open>,
    spare: Vec<Vec<u8>>,
    /// Buffers that were made; those that are not spare are at the writer.
    buffers: usize,
}

struct Open {
    channels: u8,
    /// As it will be, once all is written.
    length: FileLength,
    is_finishing: bool,
}

/// The thread, from the shard's side.
struct Writer {
    jobs: SyncSender<Job>,
    outcomes: Receiver<(RecordingKey, FileOutcome)>,
    written: Receiver<Vec<u8>>,
    thread: JoinHandle<()>,
}

enum Job {
    Create { key: RecordingKey, file: FileName, channels: u8, goes_on: Option<u64> },
    Write { key: RecordingKey, samples: Vec<u8> },
    Finish { key: RecordingKey, cut: u64 },
}

impl Recordings {
    pub fn new(folder: PathBuf, waker: Arc<Waker>) -> Recordings {
        Recordings { folder, waker, writer: None, open: HashMap::new(), spare: Vec::new(), buffers: 0 }
    }

    /// Takes a step for a file; an error is its outcome, and nothing more need be asked for it.
    pub fn take(&mut self, key: RecordingKey, step: FileStep<'_>) -> Result<(), FileOutcome> {
        match step {
            FileStep::Create { file, channels, goes_on } => self.create(key, file, channels, goes_on),
            FileStep::Write(samples) => self.write(key, samples),
            FileStep::Finish { cut } => {
                self.send_finish(key, cut);
                Ok(())
            }
        }
    }

    /// What became of a file.
    pub fn poll_outcome(&mut self) -> Option<(RecordingKey, FileOutcome)> {
        let (key, outcome) = self.writer.as_ref()?.outcomes.try_recv().ok()?;
        if outcome != FileOutcome::Created {
            self.open.remove(&key);
        }
        Some((key, outcome))
    }

    /// The session in this place is gone: its recordings end as they are.
    pub fn abandon(&mut self, place: Place) -> Vec<RecorderEnded> {
        let is_left = |(key, open): &(&RecordingKey, &Open)| key.place == place && !open.is_finishing;
        let left: Vec<RecordingKey> = self.open.iter().filter(is_left).map(|(key, _)| *key).collect();
        let ended = |key: RecordingKey| {
            self.send_finish(key, 0);
            RecorderEnded {
                recorder_id: key.recorder.0,
                reason: RecorderEnd::Failed as i32,
                text: "its session is gone".into(),
                ..RecorderEnded::default()
            }
        };
        left.into_iter().map(ended).collect()
    }

    /// Waits until everything is written.
    pub fn finish(&mut self) {
        if let Some(Writer { jobs, outcomes, written, thread }) = self.writer.take() {
            // Nobody takes what it would tell: it must not wait for that.
            drop((jobs, outcomes, written));
            if thread.join().is_err() {
                tracing::error!("the writer of recordings panicked");
            }
        }
    }

    fn create(
        &mut self,
        key: RecordingKey,
        file: &FileName,
        channels: u8,
        goes_on: Option<u64>,
    ) -> Result<(), FileOutcome> {
        if self.open.len() >= MAX_OPEN {
            return Err(failed(format!("no more than {MAX_OPEN} recordings"), FileLength::default()));
        }
        if self.writer.is_none() {
            let writer = Writer::start(self.folder.clone(), Arc::clone(&self.waker));
            self.writer = Some(writer.map_err(|fault| failed(format!("no thread: {fault}"), FileLength::default()))?);
        }
        let length = FileLength { bytes: WavHeader::LEN as u64, samples: 0 };
        self.open.insert(key, Open { channels, length, is_finishing: false });
        self.send(Job::Create { key, file: file.clone(), channels, goes_on });
        Ok(())
    }

    fn write(&mut self, key: RecordingKey, samples: &[i16]) -> Result<(), FileOutcome> {
        let Some(mut buffer) = self.buffer() else {
            let length = self.open.get(&key).map(|open| open.length).unwrap_or_default();
            self.send_finish(key, 0);
            return Err(failed("the disk is too slow".into(), length));
        };
        // One that failed is told so on its way; until then it goes on.
        let Some(open) = self.open.get_mut(&key) else {
            self.spare.push(buffer);
            return Ok(());
        };
        buffer.clear();
        buffer.extend(samples.iter().flat_map(|sample| sample.to_le_bytes()));
        open.length.bytes += buffer.len() as u64;
        open.length.samples += samples.len() as u64 / u64::from(open.channels);
        let length = open.length;
        if self.send(Job::Write { key, samples: buffer }) {
            return Ok(());
        }
        self.open.remove(&key);
        Err(failed("the writer of recordings is gone".into(), length))
    }

    fn send_finish(&mut self, key: RecordingKey, cut: u64) {
        if let Some(open) = self.open.get_mut(&key).filter(|open| !open.is_finishing) {
            open.is_finishing = true;
            self.send(Job::Finish { key, cut });
        }
    }

    /// A buffer that is not in use; `None` where all of them wait for the disk.
    fn buffer(&mut self) -> Option<Vec<u8>> {
        if let Some(writer) = &self.writer {
            self.spare.extend(writer.written.try_iter());
        }
        if self.spare.is_empty() && self.buffers < MAX_BUFFERS {
            self.buffers += 1;
            self.spare.push(Vec::new());
        }
        self.spare.pop()
    }

    /// False where the thread is gone. There is room for every buffer, and for the beginning and the end of every
    /// recording that is open.
    fn send(&self, job: Job) -> bool {
        self.writer.as_ref().is_some_and(|writer| writer.jobs.try_send(job).is_ok())
    }
}

impl Writer {
    fn start(folder: PathBuf, waker: Arc<Waker>) -> io::Result<Writer> {
        let (jobs, queue) = sync_channel(MAX_BUFFERS + 2 * MAX_OPEN);
        let (told, outcomes) = sync_channel(2 * MAX_OPEN);
        let (used, written) = sync_channel(MAX_BUFFERS);
        let disk = Disk { folder, files: HashMap::new(), told, used, waker };
        let thread = std::thread::Builder::new().name("recordings".into()).spawn(move || disk.run(&queue))?;
        Ok(Writer { jobs, outcomes, written, thread })
    }
}

/// The thread, from its own side.
struct Disk {
    folder: PathBuf,
    files: HashMap<RecordingKey, (FileName, WavFile)>,
    told: SyncSender<(RecordingKey, FileOutcome)>,
    used: SyncSender<Vec<u8>>,
    waker: Arc<Waker>,
}

impl Disk {
    fn run(mut self, queue: &Receiver<Job>) {
        for job in queue {
            match job {
                Job::Create { key, file, channels, goes_on } => self.create(key, file, channels, goes_on),
                Job::Write { key, samples } => {
                    self.write(key, &samples);
                    // Where nobody wants it back the shard is gone.
                    let _ = self.used.try_send(samples);
                }
                Job::Finish { key, cut } => self.finish(key, cut),
            }
        }
        let left: Vec<RecordingKey> = self.files.keys().copied().collect();
        left.into_iter().for_each(|key| self.finish(key, 0));
    }

    fn create(&mut self, key: RecordingKey, file: FileName, channels: u8, goes_on: Option<u64>) {
        match opened(&self.folder, &file, channels, goes_on) {
            Ok(opened) => {
                self.files.insert(key, (file, opened));
                self.tell(key, FileOutcome::Created);
            }
            Err(fault) => {
                let text = format!("cannot make {}: {fault}", file.as_str());
                self.tell(key, failed(text, FileLength::default()));
            }
        }
    }

    /// What comes for a recording that has failed is on its way since before it did.
    fn write(&mut self, key: RecordingKey, samples: &[u8]) {
        if let Some((name, file)) = self.files.get_mut(&key)
            && let Err(fault) = file.write(samples)
        {
            let text = format!("cannot write {}: {fault}", name.as_str());
            // What there is stays as good as it can be.
            let length = file.finish(0).unwrap_or(file.length());
            self.files.remove(&key);
            self.tell(key, failed(text, length));
        }
    }

    fn finish(&mut self, key: RecordingKey, cut: u64) {
        let Some((name, mut file)) = self.files.remove(&key) else { return };
        let outcome = match file.finish(cut) {
            Ok(length) => FileOutcome::Finished(length),
            Err(fault) => failed(format!("cannot finish {}: {fault}", name.as_str()), file.length()),
        };
        self.tell(key, outcome);
    }

    fn tell(&self, key: RecordingKey, outcome: FileOutcome) {
        if self.told.send((key, outcome)).is_ok() {
            // An error means that the shard is gone.
            let _ = self.waker.wake();
        }
    }
}

fn opened(folder: &Path, name: &FileName, channels: u8, goes_on: Option<u64>) -> io::Result<WavFile> {
    let path = folder.join(name.as_str());
    if let Some(samples) = goes_on.filter(|_| path.exists()) {
        let mut file = WavFile::open(&path)?;
        if file.channels() != channels {
            return Err(io::Error::other("it has other channels"));
        }
        file.fill_to(samples)?;
        return Ok(file);
    }
    match WavFile::create(&path, channels) {
        Err(fault) if fault.kind() == io::ErrorKind::NotFound => {
            DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
            WavFile::create(&path, channels)
        }
        made => made,
    }
}

fn failed(text: String, length: FileLength) -> FileOutcome {
    FileOutcome::Failed { text, length }
}

/// Open at once in a shard.
const MAX_OPEN: usize = 1024;
/// Of 200 ms: eight seconds of a hundred recordings, in 26 MB at most.
const MAX_BUFFERS: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;
    use mio::Poll;

    fn key(recorder: u32) -> RecordingKey {
        RecordingKey { place: Place { index: 0, generation: 1 }, recorder: RecorderId(recorder) }
    }

    fn recordings() -> (Recordings, Poll) {
        let poll = Poll::new().unwrap();
        let waker = Arc::new(Waker::new(poll.registry(), mio::Token(0)).unwrap());
        let folder = std::env::temp_dir().join(format!("dialtone-recordings-{}", std::process::id()));
        (Recordings::new(folder, waker), poll)
    }

    fn create(recordings: &mut Recordings, recorder: u32) -> Result<(), FileOutcome> {
        let file = FileName::parse(&format!("RE{recorder}.wav")).unwrap();
        recordings.take(key(recorder), FileStep::Create { file: &file, channels: 2, goes_on: None })
    }

    /// A writer that takes nothing: a disk that has stalled.
    fn stalled(recordings: &mut Recordings) -> (Receiver<Job>, SyncSender<Vec<u8>>) {
        let (jobs, queue) = sync_channel(MAX_BUFFERS + 2 * MAX_OPEN);
        let (_, outcomes) = sync_channel(1);
        let (used, written) = sync_channel(MAX_BUFFERS);
        recordings.writer = Some(Writer { jobs, outcomes, written, thread: std::thread::spawn(|| {}) });
        (queue, used)
    }

    #[test]
    fn threat_32_disk_that_stalls_fails_the_recording_when_no_buffer_is_left() {
        let (mut recordings, _poll) = recordings();
        let (queue, used) = stalled(&mut recordings);
        create(&mut recordings, 1).unwrap();
        create(&mut recordings, 2).unwrap();
        let samples = [7; 3200];
        for _ in 0..MAX_BUFFERS {
            recordings.take(key(1), FileStep::Write(&samples)).unwrap();
        }
        let length = FileLength { bytes: 44 + 6400 * MAX_BUFFERS as u64, samples: 1600 * MAX_BUFFERS as u64 };
        let full = Err(failed("the disk is too slow".into(), length));
        assert_eq!(recordings.take(key(1), FileStep::Write(&samples)), full);
        let length = FileLength { bytes: 44, samples: 0 };
        assert_eq!(
            recordings.take(key(2), FileStep::Write(&samples)),
            Err(failed("the disk is too slow".into(), length))
        );
        // The end of both is in the queue all the same, once.
        recordings.take(key(1), FileStep::Finish { cut: 0 }).unwrap();
        let finishes = queue.try_iter().filter(|job| matches!(job, Job::Finish { .. })).count();
        assert_eq!(finishes, 2);
        // A buffer that comes back is used again.
        create(&mut recordings, 3).unwrap();
        used.send(vec![1; 10]).unwrap();
        recordings.take(key(3), FileStep::Write(&samples)).unwrap();
        assert_eq!(recordings.buffers, MAX_BUFFERS);
        let Some(Job::Write { samples, .. }) = queue.try_iter().last() else { panic!() };
        assert_eq!(samples, [7, 0].repeat(3200));
    }

    #[test]
    fn recordings_are_counted_until_their_last_outcome() {
        let (mut recordings, _poll) = recordings();
        let _queue = stalled(&mut recordings);
        for recorder in 0..MAX_OPEN as u32 {
            create(&mut recordings, recorder).unwrap();
        }
        let text = "no more than 1024 recordings".to_owned();
        assert_eq!(create(&mut recordings, 5000), Err(failed(text.clone(), FileLength::default())));
        assert_eq!(recordings.abandon(key(0).place).len(), MAX_OPEN);
        assert_eq!(recordings.abandon(key(0).place), []);
        assert_eq!(create(&mut recordings, 5000), Err(failed(text, FileLength::default())), "not written yet");
    }
}
