//! The file of a recording: a WAV file whose header is true from the first byte on.
//!
//! Samples go to its end, and about once a second the header is told of them: whoever reads the file at any moment
//! finds a recording that ends a second ago at most, and after a crash [`repair`] gives it the rest. Nothing is forced
//! to the disk: a machine that loses its power loses what its kernel had not written.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use crate::recorder::FileLength;
use crate::wav::{RATE_HZ, WavHeader};

/// An open recording.
pub(super) struct WavFile {
    file: File,
    channels: u8,
    data_bytes: u64,
    /// What the header says.
    told_bytes: u64,
}

/// What [`repair`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repaired {
    pub channels: u32,
    pub duration_ms: u64,
    pub bytes: u64,
}

/// Makes the header of a recording say what is in it, for one whose worker died before it was finished.
///
/// Harmless where nothing is wrong. `InvalidData` for anything that is no recording of ours; of one that died with its
/// first byte there is nothing to be had.
pub fn repair(path: &Path) -> io::Result<Repaired> {
    let mut file = WavFile::open(path)?;
    let length = file.finish(0)?;
    let duration_ms = length.samples * 1000 / u64::from(RATE_HZ);
    Ok(Repaired { channels: u32::from(file.channels), duration_ms, bytes: length.bytes })
}

impl WavFile {
    /// Makes a file that only its owner may read; one of that name must not exist.
    pub fn create(path: &Path, channels: u8) -> io::Result<WavFile> {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        let file = WavFile { file, channels, data_bytes: 0, told_bytes: 0 };
        file.write_header()?;
        Ok(file)
    }

    /// Opens a file to go on at its end, whatever its header says of that.
    pub fn open(path: &Path) -> io::Result<WavFile> {
        // A link could lead anywhere.
        if !fs::symlink_metadata(path)?.is_file() {
            return Err(no_recording());
        }
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let mut header = [0; WavHeader::LEN];
        let read = file.read_exact_at(&mut header, 0);
        let header = read.ok().and_then(|()| WavHeader::parse(&header)).ok_or_else(no_recording)?;
        let data_bytes = file.metadata()?.len() - HEADER_LEN;
        let data_bytes = data_bytes - data_bytes % header.frame_bytes();
        Ok(WavFile { file, channels: header.channels, data_bytes, told_bytes: u64::from(header.data_bytes) })
    }

    pub fn channels(&self) -> u8 {
        self.channels
    }

    pub fn length(&self) -> FileLength {
        FileLength { bytes: HEADER_LEN + self.data_bytes, samples: self.data_bytes / self.header().frame_bytes() }
    }

    /// Appends samples as they are in the file.
    pub fn write(&mut self, samples: &[u8]) -> io::Result<()> {
        self.file.write_all_at(samples, HEADER_LEN + self.data_bytes)?;
        self.data_bytes += samples.len() as u64;
        if self.data_bytes - self.told_bytes.min(self.data_bytes) >= u64::from(RATE_HZ) * self.header().frame_bytes() {
            self.write_header()?;
            self.told_bytes = self.data_bytes;
        }
        Ok(())
    }

    /// Puts silence behind what there is, up to so many samples of each channel, but no more than is lost between two workers.
    pub fn fill_to(&mut self, samples: u64) -> io::Result<()> {
        let missing = samples.saturating_sub(self.length().samples).min(LONGEST_GAP);
        self.write(&vec![0; usize::try_from(missing * self.header().frame_bytes()).unwrap_or(0)])
    }

    /// Cuts so many samples of each channel off the end, and whatever else is there, and makes the header final.
    pub fn finish(&mut self, cut: u64) -> io::Result<FileLength> {
        self.data_bytes = self.data_bytes.saturating_sub(cut * self.header().frame_bytes());
        let length = self.length();
        if self.file.metadata()?.len() != length.bytes {
            self.file.set_len(length.bytes)?;
        }
        self.write_header()?;
        Ok(length)
    }

    fn header(&self) -> WavHeader {
        WavHeader { channels: self.channels, data_bytes: u32::try_from(self.data_bytes).unwrap_or(u32::MAX) }
    }

    fn write_header(&self) -> io::Result<()> {
        self.file.write_all_at(&self.header().to_bytes(), 0)
    }
}

fn no_recording() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "no recording of ours")
}

/// A minute: as long as a session lives without its edge.
const LONGEST_GAP: u64 = 60 * RATE_HZ as u64;
const HEADER_LEN: u64 = WavHeader::LEN as u64;
