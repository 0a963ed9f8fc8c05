//! The head of a WAV file: 16-bit PCM at 8 kHz, mono or stereo.
//!
//! RIFF as in the Multimedia Programming Interface and Data Specifications 1.0 (IBM and Microsoft, 1991): one `fmt `
//! chunk of 16 bytes and one `data` chunk, little-endian, so that the samples begin at byte 44.

/// What stands before the samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WavHeader {
    /// 1 or 2. Of two, the samples alternate, left first.
    pub channels: u8,
    /// Of samples, as far as the header says.
    pub data_bytes: u32,
}

impl WavHeader {
    pub const LEN: usize = 44;

    pub fn to_bytes(self) -> [u8; WavHeader::LEN] {
        let mut bytes = [0; WavHeader::LEN];
        let frame = self.frame_bytes() as u16;
        bytes[0..4].copy_from_slice(b"RIFF");
        bytes[4..8].copy_from_slice(&self.data_bytes.saturating_add(WavHeader::LEN as u32 - 8).to_le_bytes());
        bytes[8..16].copy_from_slice(b"WAVEfmt ");
        bytes[16..20].copy_from_slice(&16u32.to_le_bytes());
        bytes[20..22].copy_from_slice(&PCM.to_le_bytes());
        bytes[22..24].copy_from_slice(&u16::from(self.channels).to_le_bytes());
        bytes[24..28].copy_from_slice(&RATE_HZ.to_le_bytes());
        bytes[28..32].copy_from_slice(&(RATE_HZ * u32::from(frame)).to_le_bytes());
        bytes[32..34].copy_from_slice(&frame.to_le_bytes());
        bytes[34..36].copy_from_slice(&16u16.to_le_bytes());
        bytes[36..40].copy_from_slice(b"data");
        bytes[40..44].copy_from_slice(&self.data_bytes.to_le_bytes());
        bytes
    }

    /// `None` for anything that [`WavHeader::to_bytes`] did not write.
    pub fn parse(bytes: &[u8; WavHeader::LEN]) -> Option<WavHeader> {
        let channels = bytes[22];
        let data_bytes = u32::from_le_bytes([bytes[40], bytes[41], bytes[42], bytes[43]]);
        let header = WavHeader { channels, data_bytes };
        ((1..=2).contains(&channels) && header.to_bytes() == *bytes).then_some(header)
    }

    /// The bytes of one sample of every channel.
    pub fn frame_bytes(self) -> u64 {
        u64::from(self.channels) * 2
    }
}

pub const RATE_HZ: u32 = 8000;
const PCM: u16 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_is_as_other_programs_write_it() {
        // The head of a stereo file of one second, as sox and Audacity write it.
        let expected =
            b"RIFF\x24\x7D\0\0WAVEfmt \x10\0\0\0\x01\0\x02\0\x40\x1F\0\0\0\x7D\0\0\x04\0\x10\0data\0\x7D\0\0";
        let header = WavHeader { channels: 2, data_bytes: 32_000 };
        assert_eq!(header.to_bytes(), *expected);
        assert_eq!(WavHeader::parse(expected), Some(header));
    }

    #[test]
    fn what_is_no_header_of_ours_is_refused() {
        let good = WavHeader { channels: 1, data_bytes: 320 }.to_bytes();
        for at in 0..40 {
            let mut bad = good;
            bad[at] ^= 0x40;
            assert_eq!(WavHeader::parse(&bad), None, "{at}");
        }
        assert_eq!(WavHeader::parse(&[0; 44]), None);
    }
}
