//! The RTP header, parsed from and written to bytes in place (RFC 3550 s5.1, s5.3.1).
//!
//! A packet is relayed without being copied: [`Packet::parse`] tells where the payload is, and
//! [`Header::write_before`] puts a plain header right in front of it, over whatever stood there.

use std::ops::Range;

use super::{RtpTime, Seq, Ssrc};

/// The length of a header without CSRCs and extension.
pub const HEADER_LEN: usize = 12;

/// The fields of the fixed header that we read and write; version is 2, and we send no CSRC and no extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub marker: bool,
    /// 0 to 127.
    pub payload_type: u8,
    pub seq: Seq,
    pub timestamp: RtpTime,
    pub ssrc: Ssrc,
}

/// A datagram that is a well-formed RTP packet: its header, and where in the datagram the payload is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    pub header: Header,
    /// Without padding; starts at [`HEADER_LEN`] or later, so that a plain header fits in front of it.
    pub payload: Range<usize>,
}

/// Why a datagram is no RTP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Junk {
    /// Shorter than its own header says.
    Truncated,
    /// Another version than 2: STUN, DTLS, or noise.
    Version,
    /// The padding is longer than the payload, or zero.
    Padding,
}

/// Whether a datagram on a port that RTP and RTCP share is RTCP (RFC 5761 s4).
pub fn is_rtcp(datagram: &[u8]) -> bool {
    matches!(datagram, [_, 192..=223, ..])
}

impl Packet {
    /// Reads a datagram; about 5 ns, no allocation.
    pub fn parse(datagram: &[u8]) -> Result<Packet, Junk> {
        let Some((fixed, _)) = datagram.split_first_chunk::<HEADER_LEN>() else {
            return Err(Junk::Truncated);
        };
        if fixed[0] >> 6 != 2 {
            return Err(Junk::Version);
        }
        let mut start = HEADER_LEN + usize::from(fixed[0] & 0x0F) * 4;
        if fixed[0] & 0x10 != 0 {
            let words = datagram.get(start + 2..start + 4).ok_or(Junk::Truncated)?;
            start += 4 + usize::from(u16::from_be_bytes([words[0], words[1]])) * 4;
        }
        let mut end = datagram.len();
        if start > end {
            return Err(Junk::Truncated);
        }
        if fixed[0] & 0x20 != 0 {
            let padding = usize::from(datagram[end - 1]);
            if padding == 0 || padding > end - start {
                return Err(Junk::Padding);
            }
            end -= padding;
        }
        Ok(Packet { header: Header::read(fixed), payload: start..end })
    }
}

impl Header {
    fn read(fixed: &[u8; HEADER_LEN]) -> Header {
        let [_, second, s0, s1, t0, t1, t2, t3, i0, i1, i2, i3] = *fixed;
        Header {
            marker: second & 0x80 != 0,
            payload_type: second & 0x7F,
            seq: Seq(u16::from_be_bytes([s0, s1])),
            timestamp: RtpTime(u32::from_be_bytes([t0, t1, t2, t3])),
            ssrc: Ssrc(u32::from_be_bytes([i0, i1, i2, i3])),
        }
    }

    /// The header's twelve bytes.
    pub fn to_bytes(self) -> [u8; HEADER_LEN] {
        let second = u8::from(self.marker) << 7 | self.payload_type & 0x7F;
        let [s0, s1] = self.seq.0.to_be_bytes();
        let [t0, t1, t2, t3] = self.timestamp.0.to_be_bytes();
        let [i0, i1, i2, i3] = self.ssrc.0.to_be_bytes();
        [0x80, second, s0, s1, t0, t1, t2, t3, i0, i1, i2, i3]
    }

    /// Writes the header right before `payload` in `buffer`; the packet to send is the returned range.
    ///
    /// `payload` is what [`Packet::parse`] found in the same buffer, or starts at [`HEADER_LEN`].
    pub fn write_before(self, payload: Range<usize>, buffer: &mut [u8]) -> Range<usize> {
        let start = payload.start - HEADER_LEN;
        buffer[start..payload.start].copy_from_slice(&self.to_bytes());
        start..payload.end
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header() -> Header {
        Header { marker: true, payload_type: 101, seq: Seq(0xFFFE), timestamp: RtpTime(0xDEAD_BEEF), ssrc: Ssrc(7) }
    }

    fn packet(first: u8, rest: &[u8]) -> Vec<u8> {
        let mut bytes = header().to_bytes().to_vec();
        bytes[0] = first;
        bytes.extend_from_slice(rest);
        bytes
    }

    #[test]
    fn packets_with_csrc_extension_and_padding_give_the_bare_payload() {
        type Row = (&'static str, u8, &'static [u8], Result<Range<usize>, Junk>);
        let table: &[Row] = &[
            ("plain", 0x80, &[1, 2, 3], Ok(12..15)),
            ("no payload", 0x80, &[], Ok(12..12)),
            ("two csrc", 0x82, &[0, 0, 0, 1, 0, 0, 0, 2, 9], Ok(20..21)),
            ("csrc cut off", 0x82, &[0, 0, 0, 1, 0, 0, 0], Err(Junk::Truncated)),
            ("extension of one word", 0x90, &[0xBE, 0xDE, 0, 1, 0, 0, 0, 0, 9, 9], Ok(20..22)),
            ("extension header cut off", 0x90, &[0xBE, 0xDE, 0], Err(Junk::Truncated)),
            ("extension longer than datagram", 0x90, &[0xBE, 0xDE, 0xFF, 0xFF], Err(Junk::Truncated)),
            ("padding of two", 0xA0, &[5, 6, 0, 2], Ok(12..14)),
            ("padding of all", 0xA0, &[0, 2], Ok(12..12)),
            ("padding too long", 0xA0, &[0, 3], Err(Junk::Padding)),
            ("padding of zero", 0xA0, &[5, 0], Err(Junk::Padding)),
            ("padding without payload", 0xA0, &[], Err(Junk::Padding)),
            ("version 1", 0x40, &[1], Err(Junk::Version)),
            ("stun", 0x00, &[1], Err(Junk::Version)),
        ];
        for (name, first, rest, expected) in table {
            assert_eq!(Packet::parse(&packet(*first, rest)).map(|p| p.payload), *expected, "{name}");
        }
        assert_eq!(Packet::parse(&[0x80; 11]), Err(Junk::Truncated));
    }

    #[test]
    fn header_written_over_csrc_and_extension_parses_back() {
        let mut buffer = packet(0x91, &[0, 0, 0, 1, 0xBE, 0xDE, 0, 1, 0, 0, 0, 0, 42, 43]);
        let payload = Packet::parse(&buffer).unwrap().payload;
        let ours = Header { marker: false, payload_type: 0, seq: Seq(1), timestamp: RtpTime(2), ssrc: Ssrc(3) };
        let range = ours.write_before(payload, &mut buffer);
        let sent = &buffer[range];
        assert_eq!(sent.len(), 14);
        assert_eq!(Packet::parse(sent), Ok(Packet { header: ours, payload: 12..14 }));
        assert_eq!(&sent[12..], &[42, 43]);
    }

    #[test]
    fn rtcp_is_told_from_rtp_on_a_shared_port() {
        assert!(is_rtcp(&[0x80, 200, 0, 0]));
        assert!(is_rtcp(&[0x81, 201]));
        assert!(!is_rtcp(&[0x80, 0]));
        assert!(!is_rtcp(&[0x80, 0x80 | 101]));
        assert!(!is_rtcp(&[0x80]));
    }

    proptest! {
        #[test]
        fn any_datagram_parses_or_is_junk_and_the_payload_lies_inside(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            if let Ok(packet) = Packet::parse(&bytes) {
                prop_assert!(packet.payload.start >= HEADER_LEN);
                prop_assert!(packet.payload.start <= packet.payload.end);
                prop_assert!(packet.payload.end <= bytes.len());
                prop_assert_eq!(&packet.header.to_bytes()[1..], &bytes[1..12]);
            }
        }
    }
}
