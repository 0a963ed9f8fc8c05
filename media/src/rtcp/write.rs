//! Writes a compound packet: a report, our description, what is to be sent again, and a goodbye where the leg ends (RFC 3550 s6.1).

use super::{BLOCK_LEN, BYE, FEEDBACK, GENERIC_NACK, RECEIVER_REPORT, ReportBlock, SENDER_REPORT, SOURCE_DESCRIPTION};
use crate::rtp::{RtpTime, Seq, Ssrc};

/// What goes into one compound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report<'a> {
    pub ssrc: Ssrc,
    /// Only where something was sent since the last report: else it is a receiver report.
    pub sender: Option<SenderInfo>,
    pub block: Option<ReportBlock>,
    /// At most 255 bytes.
    pub cname: &'a str,
    /// Packets of the source of `block` that are to be sent again, in their order.
    pub missing: &'a [Seq],
    pub bye: bool,
}

/// What a sender says of its stream (RFC 3550 s6.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SenderInfo {
    /// Seconds and fraction, 32 bits each.
    pub ntp: u64,
    /// The same moment on the RTP clock.
    pub timestamp: RtpTime,
    pub packets: u32,
    pub octets: u32,
}

impl Report<'_> {
    /// Writes the compound to the start of `buffer`; its length, or `None` where it does not fit.
    pub fn write(&self, buffer: &mut [u8]) -> Option<usize> {
        let mut out = Writer { buffer, len: 0 };
        let kind = if self.sender.is_some() { SENDER_REPORT } else { RECEIVER_REPORT };
        out.packet(kind, u8::from(self.block.is_some()), |out| {
            out.word(self.ssrc.0)?;
            if let Some(sender) = &self.sender {
                out.sender(sender)?;
            }
            self.block.as_ref().map_or(Some(()), |block| out.block(block))
        })?;
        out.packet(SOURCE_DESCRIPTION, 1, |out| {
            out.word(self.ssrc.0)?;
            out.bytes(&[CNAME, u8::try_from(self.cname.len()).ok()?])?;
            out.bytes(self.cname.as_bytes())?;
            // At least one zero ends the items of a source.
            out.bytes(&[0])
        })?;
        if let (Some(block), [_, ..]) = (&self.block, self.missing) {
            out.packet(FEEDBACK, GENERIC_NACK, |out| {
                out.word(self.ssrc.0)?;
                out.word(block.ssrc.0)?;
                out.missing(self.missing)
            })?;
        }
        if self.bye {
            out.packet(BYE, 1, |out| out.word(self.ssrc.0))?;
        }
        Some(out.len)
    }
}

struct Writer<'a> {
    buffer: &'a mut [u8],
    len: usize,
}

impl Writer<'_> {
    /// A packet whose body is padded with zeros to whole words.
    fn packet(&mut self, kind: u8, count: u8, body: impl FnOnce(&mut Self) -> Option<()>) -> Option<()> {
        let start = self.len;
        self.bytes(&[0x80 | count, kind, 0, 0])?;
        body(self)?;
        while !(self.len - start).is_multiple_of(4) {
            self.bytes(&[0])?;
        }
        let words = u16::try_from((self.len - start) / 4 - 1).ok()?;
        self.buffer[start + 2..start + 4].copy_from_slice(&words.to_be_bytes());
        Some(())
    }

    fn sender(&mut self, sender: &SenderInfo) -> Option<()> {
        self.bytes(&sender.ntp.to_be_bytes())?;
        self.word(sender.timestamp.0)?;
        self.word(sender.packets)?;
        self.word(sender.octets)
    }

    fn block(&mut self, block: &ReportBlock) -> Option<()> {
        let start = self.len;
        self.word(block.ssrc.0)?;
        self.word(u32::from(block.fraction_lost) << 24 | block.lost as u32 & 0x00FF_FFFF)?;
        self.word(block.highest)?;
        self.word(block.jitter)?;
        self.word(block.last_report)?;
        self.word(block.delay)?;
        debug_assert_eq!(self.len - start, BLOCK_LEN);
        Some(())
    }

    /// A number, and which of the 16 after it, in each word.
    fn missing(&mut self, missing: &[Seq]) -> Option<()> {
        let mut rest = missing;
        while let Some((first, others)) = rest.split_first() {
            let near = others.iter().take_while(|seq| (1..=16).contains(&seq.ahead_of(*first)));
            let mask = near.clone().fold(0, |mask, seq| mask | 1 << (seq.ahead_of(*first) - 1));
            rest = &others[near.count()..];
            self.word(u32::from(first.0) << 16 | mask)?;
        }
        Some(())
    }

    fn word(&mut self, word: u32) -> Option<()> {
        self.bytes(&word.to_be_bytes())
    }

    fn bytes(&mut self, bytes: &[u8]) -> Option<()> {
        self.buffer.get_mut(self.len..self.len + bytes.len())?.copy_from_slice(bytes);
        self.len += bytes.len();
        Some(())
    }
}

const CNAME: u8 = 1;
