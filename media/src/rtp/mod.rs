//! RTP on the wire: the fixed header, read and written in place, and what a receiver counts of one stream.
//!
//! Knows nothing of addresses, codecs or who may send. RFC 3550 s5.1, A.1, A.3, A.8.

mod header;
mod statistics;

use std::ops::Add;

use serde::{Deserialize, Serialize};

pub use header::{HEADER_LEN, Header, Junk, Packet, is_rtcp};
pub use statistics::{Arrival, Stream};

/// A synchronisation source: one sender's stream (RFC 3550 s3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Ssrc(pub u32);

/// A sequence number; arithmetic and order wrap at 16 bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Seq(pub u16);

/// An RTP timestamp in samples at 8 kHz; arithmetic and order wrap at 32 bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RtpTime(pub u32);

impl Seq {
    /// How far `self` is ahead of `other`, negative when it is behind.
    pub fn ahead_of(self, other: Seq) -> i16 {
        self.0.wrapping_sub(other.0) as i16
    }
}

impl RtpTime {
    /// How many samples `self` is ahead of `other`, negative when it is behind.
    pub fn ahead_of(self, other: RtpTime) -> i32 {
        self.0.wrapping_sub(other.0) as i32
    }
}

impl Add<u16> for Seq {
    type Output = Seq;

    fn add(self, packets: u16) -> Seq {
        Seq(self.0.wrapping_add(packets))
    }
}

impl Add<u32> for RtpTime {
    type Output = RtpTime;

    fn add(self, samples: u32) -> RtpTime {
        RtpTime(self.0.wrapping_add(samples))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequence_and_timestamp_order_wraps() {
        assert_eq!(Seq(2).ahead_of(Seq(0xFFFF)), 3);
        assert_eq!(Seq(0xFFFF).ahead_of(Seq(2)), -3);
        assert_eq!((Seq(0xFFFF) + 1).0, 0);
        assert_eq!(RtpTime(100).ahead_of(RtpTime(u32::MAX - 59)), 160);
        assert_eq!((RtpTime(u32::MAX) + 160).0, 159);
    }
}
