//! Reads the WAV files that engines write: PCM, 16 bits, mono.

use dialtone_media::resample::{Rate, to_8k};

/// The samples of a file at 8 kHz; `None` if it is nothing that an engine of ours writes.
pub(super) fn read(file: &[u8]) -> Option<Vec<i16>> {
    if !file.starts_with(b"RIFF") || file.get(8..12) != Some(b"WAVE") {
        return None;
    }
    let mut rest = file.get(12..)?;
    let mut rate = None;
    while rest.len() >= 8 {
        let (head, body) = rest.split_at(8);
        let length = u32::from_le_bytes(head[4..].try_into().ok()?) as usize;
        let chunk = &body[..length.min(body.len())];
        match &head[..4] {
            b"fmt " => rate = Some(format(chunk)?),
            b"data" => {
                let samples: Vec<i16> =
                    chunk.chunks_exact(2).map(|pair| i16::from_le_bytes([pair[0], pair[1]])).collect();
                return Some(to_8k(&samples, rate?));
            }
            _ => {}
        }
        rest = body.get(length.checked_add(length % 2)?..)?;
    }
    None
}

/// The rate, if the format is the one that we read.
fn format(chunk: &[u8]) -> Option<Rate> {
    let short = |at: usize| chunk.get(at..at + 2)?.try_into().ok().map(u16::from_le_bytes);
    let is_known = (short(0)?, short(2)?, short(14)?) == (1, 1, 16);
    let hz = u32::from_le_bytes(chunk.get(4..8)?.try_into().ok()?);
    Rate::from_hz(hz).filter(|_| is_known)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(rate_hz: u32, bits: u16, samples: &[i16]) -> Vec<u8> {
        let mut file = b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0".to_vec();
        file.extend(rate_hz.to_le_bytes());
        file.extend([0; 6]);
        file.extend(bits.to_le_bytes());
        file.extend(b"data");
        file.extend((2 * samples.len() as u32).to_le_bytes());
        file.extend(samples.iter().flat_map(|sample| sample.to_le_bytes()));
        file
    }

    #[test]
    fn files_come_out_at_8_khz() {
        assert_eq!(read(&file(8_000, 16, &[1, -2, 3])), Some(vec![1, -2, 3]));
        assert_eq!(read(&file(16_000, 16, &[0; 320])).map(|samples| samples.len()), Some(160));
    }

    #[test]
    fn other_files_are_refused() {
        for bytes in [b"".as_slice(), b"RIFF", b"RIFF\0\0\0\0WAVE", b"RIFF\0\0\0\0WAVEdata\x02\0\0\0\x01\0"] {
            assert_eq!(read(bytes), None, "{bytes:?}");
        }
        assert_eq!(read(&file(8_000, 8, &[1])), None);
        assert_eq!(read(&file(11_025, 16, &[1])), None);
    }
}
