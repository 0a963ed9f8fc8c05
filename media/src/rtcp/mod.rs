//! RTCP on the wire: compound packets of reports, descriptions and goodbyes (RFC 3550 s6).
//!
//! Reading is tolerant of packet types that we do not know and of reduced-size packets (RFC 5506), and strict about
//! lengths. Knows nothing of when reports are sent; that is the leg's.

mod write;

use crate::rtp::{RtpTime, Seq, Ssrc};

pub use write::{Report, SenderInfo};

/// One packet of a compound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rtcp<'a> {
    SenderReport {
        ssrc: Ssrc,
        sender: SenderInfo,
        blocks: Blocks<'a>,
    },
    ReceiverReport {
        ssrc: Ssrc,
        blocks: Blocks<'a>,
    },
    /// Of the first source that leaves.
    Bye {
        ssrc: Ssrc,
    },
    /// Packets of a source that whoever sends this has not got (RFC 4585 s6.2.1).
    Nack {
        media: Ssrc,
        lost: Lost<'a>,
    },
    /// A description, other feedback, or something newer: we have no use for it.
    Other(u8),
}

/// What a receiver says of one source (RFC 3550 s6.4.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReportBlock {
    pub ssrc: Ssrc,
    /// In 1/256.
    pub fraction_lost: u8,
    /// 24 bits, signed.
    pub lost: i32,
    pub highest: u32,
    /// In samples.
    pub jitter: u32,
    /// The middle of the NTP time of the last sender report, and how long ago it came, in 1/65536 s.
    pub last_report: u32,
    pub delay: u32,
}

/// The report blocks of one report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocks<'a>(&'a [u8]);

/// The numbers of the packets of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost<'a> {
    items: &'a [u8],
    /// Those of the item that is read: its first number, and which of the 16 after it are left.
    first: Seq,
    mask: u16,
}

/// Why a datagram is no RTCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Junk;

/// The packets of a datagram, all of which are checked before the first is given out.
pub fn parse(datagram: &[u8]) -> Result<impl Iterator<Item = Rtcp<'_>>, Junk> {
    let mut rest = datagram;
    while !rest.is_empty() {
        (_, rest) = split(rest).ok_or(Junk)?;
    }
    if datagram.is_empty() {
        return Err(Junk);
    }
    let mut rest = datagram;
    Ok(std::iter::from_fn(move || {
        let (packet, after) = split(rest)?;
        rest = after;
        Some(packet)
    }))
}

/// The first packet and what follows it.
fn split(bytes: &[u8]) -> Option<(Rtcp<'_>, &[u8])> {
    let (header, _) = bytes.split_first_chunk::<4>()?;
    if header[0] >> 6 != 2 || !(192..=223).contains(&header[1]) {
        return None;
    }
    let len = 4 + usize::from(u16::from_be_bytes([header[2], header[3]])) * 4;
    let (packet, after) = bytes.split_at_checked(len)?;
    let count = usize::from(header[0] & 0x1F);
    let body = &packet[4..];
    let parsed = match header[1] {
        SENDER_REPORT => {
            let blocks = body.get(24..24 + count * BLOCK_LEN)?;
            Rtcp::SenderReport { ssrc: Ssrc(word(body, 0)?), sender: sender(body)?, blocks: Blocks(blocks) }
        }
        RECEIVER_REPORT => {
            Rtcp::ReceiverReport { ssrc: Ssrc(word(body, 0)?), blocks: Blocks(body.get(4..4 + count * BLOCK_LEN)?) }
        }
        FEEDBACK if count == usize::from(GENERIC_NACK) => {
            let lost = Lost { items: body.get(8..)?, first: Seq(0), mask: 0 };
            Rtcp::Nack { media: Ssrc(word(body, 1)?), lost }
        }
        BYE if count > 0 => Rtcp::Bye { ssrc: Ssrc(word(body, 0)?) },
        other => Rtcp::Other(other),
    };
    Some((parsed, after))
}

fn sender(body: &[u8]) -> Option<SenderInfo> {
    Some(SenderInfo {
        ntp: u64::from(word(body, 1)?) << 32 | u64::from(word(body, 2)?),
        timestamp: RtpTime(word(body, 3)?),
        packets: word(body, 4)?,
        octets: word(body, 5)?,
    })
}

/// The word of this index.
fn word(bytes: &[u8], index: usize) -> Option<u32> {
    let (word, _) = bytes.get(index * 4..)?.split_first_chunk::<4>()?;
    Some(u32::from_be_bytes(*word))
}

impl Iterator for Blocks<'_> {
    type Item = ReportBlock;

    fn next(&mut self) -> Option<ReportBlock> {
        let (block, rest) = self.0.split_at_checked(BLOCK_LEN)?;
        self.0 = rest;
        let loss = word(block, 1)?;
        Some(ReportBlock {
            ssrc: Ssrc(word(block, 0)?),
            fraction_lost: (loss >> 24) as u8,
            lost: ((loss << 8) as i32) >> 8,
            highest: word(block, 2)?,
            jitter: word(block, 3)?,
            last_report: word(block, 4)?,
            delay: word(block, 5)?,
        })
    }
}

impl Iterator for Lost<'_> {
    type Item = Seq;

    fn next(&mut self) -> Option<Seq> {
        if self.mask == 0 {
            let (item, rest) = self.items.split_first_chunk::<4>()?;
            self.items = rest;
            self.first = Seq(u16::from_be_bytes([item[0], item[1]]));
            self.mask = u16::from_be_bytes([item[2], item[3]]);
            return Some(self.first);
        }
        let after = self.mask.trailing_zeros() as u16;
        self.mask &= self.mask - 1;
        Some(self.first + (after + 1))
    }
}

const SENDER_REPORT: u8 = 200;
const RECEIVER_REPORT: u8 = 201;
const SOURCE_DESCRIPTION: u8 = 202;
const BYE: u8 = 203;
const FEEDBACK: u8 = 205;
const GENERIC_NACK: u8 = 1;
const BLOCK_LEN: usize = 24;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn report() -> Report<'static> {
        Report {
            ssrc: Ssrc(0xAABB_CCDD),
            sender: Some(SenderInfo { ntp: 0x0102_0304_0506_0708, timestamp: RtpTime(9), packets: 10, octets: 11 }),
            block: Some(ReportBlock {
                ssrc: Ssrc(1),
                fraction_lost: 25,
                lost: -3,
                highest: 70_000,
                jitter: 8,
                last_report: 0x0304_0506,
                delay: 65_536,
            }),
            cname: "dialtone",
            missing: &[],
            bye: true,
        }
    }

    fn written(report: &Report<'_>) -> Vec<u8> {
        let mut buffer = [0; 256];
        let len = report.write(&mut buffer).unwrap();
        buffer[..len].to_vec()
    }

    #[test]
    fn compound_that_we_write_reads_back() {
        let bytes = written(&report());
        let packets: Vec<_> = parse(&bytes).unwrap().collect();
        let [Rtcp::SenderReport { ssrc, sender, blocks }, Rtcp::Other(SOURCE_DESCRIPTION), Rtcp::Bye { ssrc: left }] =
            &packets[..]
        else {
            panic!("{packets:?}")
        };
        assert_eq!((*ssrc, *left), (Ssrc(0xAABB_CCDD), Ssrc(0xAABB_CCDD)));
        assert_eq!(Some(*sender), report().sender);
        assert_eq!(blocks.clone().collect::<Vec<_>>(), [report().block.unwrap()]);
    }

    #[test]
    fn report_of_a_leg_that_sent_and_heard_nothing_is_empty_but_described() {
        let bytes = written(&Report { sender: None, block: None, bye: false, ..report() });
        let packets: Vec<_> = parse(&bytes).unwrap().collect();
        assert!(matches!(
            &packets[..],
            [Rtcp::ReceiverReport { blocks: Blocks([]), .. }, Rtcp::Other(SOURCE_DESCRIPTION)]
        ));
    }

    #[test]
    fn numbers_that_are_missing_read_back_in_order_over_the_wrap() {
        let missing = [65_530, 65_535, 10, 11, 27, 300].map(Seq);
        let bytes = written(&Report { missing: &missing, bye: false, ..report() });
        let Some(Rtcp::Nack { media, lost }) = parse(&bytes).unwrap().last() else { panic!("no request") };
        assert_eq!((media, lost.collect::<Vec<_>>()), (Ssrc(1), missing.to_vec()));
        // 65,530 with 65,535 and 10; 11 with 27; 300.
        assert_eq!(bytes.len(), written(&Report { bye: false, ..report() }).len() + 12 + 3 * 4);
    }

    #[test]
    fn compounds_with_wrong_lengths_are_junk() {
        let good = written(&report());
        let table: &[(&str, Vec<u8>)] = &[
            ("empty", vec![]),
            ("rtp", vec![0x80, 0, 0, 0]),
            ("cut off", good[..good.len() - 1].to_vec()),
            ("rest of three bytes", [&good[..], &[0x80, 203, 0]].concat()),
            ("more blocks than bytes", vec![0x82, 201, 0, 1, 0, 0, 0, 1]),
            ("sender report without sender", vec![0x80, 200, 0, 1, 0, 0, 0, 1]),
            ("request without a source", vec![0x81, 205, 0, 1, 0, 0, 0, 1]),
            ("version 1", vec![0x41, 201, 0, 1, 0, 0, 0, 1]),
        ];
        for (name, bytes) in table {
            assert!(parse(bytes).is_err(), "{name}");
        }
        assert!(parse(&[0x81, 206, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2]).is_ok(), "feedback alone, as RFC 5506 has it");
    }

    proptest! {
        #[test]
        fn any_datagram_parses_or_is_junk(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(packets) = parse(&bytes) {
                for packet in packets {
                    if let Rtcp::SenderReport { blocks, .. } | Rtcp::ReceiverReport { blocks, .. } = packet {
                        prop_assert!(blocks.count() < 32);
                    }
                }
            }
        }
    }
}
