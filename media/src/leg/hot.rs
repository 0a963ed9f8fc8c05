//! What only the worker knows of a leg, and whoever takes its place on the same machine must know: the numbers of the last
//! packets, where the peer turned out to be, and what was counted.
//!
//! It is written down before each packet leaves: a worker that dies between the two has used no number that is not written,
//! and no number is ever used twice. That costs a peer nothing now, and is what SRTP demands (RFC 3711 s9.1).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::time::Mono;

/// A leg's numbers, as words that are written one by one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hot {
    /// 0 where nothing was ever written.
    pub ssrc: u32,
    /// The sequence number of the next packet.
    pub next: u16,
    /// The timestamp of the last packet, where the audio after it begins, and when it left.
    pub last: u32,
    pub end: u32,
    pub last_at: Mono,
    pub packets_sent: u64,
    pub octets_sent: u64,
    pub packets_received: u64,
    pub octets_received: u64,
    pub lost: u64,
    pub late: u64,
    pub dropped: u64,
    /// Where the peer turned out to be, if that was learnt from its packets.
    pub locked: Option<SocketAddr>,
    /// Something came from where the peer's SDP said.
    pub is_confirmed: bool,
    /// Of our reports.
    pub cname: u64,
    /// The player that it hears, and how much that has played.
    pub player: u32,
    pub played_ms: u64,
}

impl Hot {
    pub const WORDS: usize = 18;

    pub fn to_words(&self) -> [u64; Hot::WORDS] {
        let (ip, port) = match self.locked {
            Some(at) => (at.ip(), u64::from(at.port())),
            None => (IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0),
        };
        let (is_v6, ip) = match ip {
            IpAddr::V4(ip) => (0, u128::from(u32::from(ip))),
            IpAddr::V6(ip) => (1, u128::from(ip)),
        };
        let flags = u64::from(self.is_confirmed) | is_v6 << 1;
        [
            u64::from(self.ssrc),
            u64::from(self.next),
            u64::from(self.last),
            u64::from(self.end),
            self.last_at.0,
            self.packets_sent,
            self.octets_sent,
            self.packets_received,
            self.octets_received,
            self.lost,
            self.late,
            self.dropped,
            (ip >> 64) as u64,
            ip as u64,
            port << 8 | flags,
            self.cname,
            u64::from(self.player),
            self.played_ms,
        ]
    }

    pub fn from_words(words: &[u64; Hot::WORDS]) -> Hot {
        let (flags, port) = (words[14] & 0xFF, (words[14] >> 8) as u16);
        let ip = match flags & 2 {
            0 => IpAddr::V4(Ipv4Addr::from(words[13] as u32)),
            _ => IpAddr::V6(Ipv6Addr::from(u128::from(words[12]) << 64 | u128::from(words[13]))),
        };
        Hot {
            ssrc: words[0] as u32,
            next: words[1] as u16,
            last: words[2] as u32,
            end: words[3] as u32,
            last_at: Mono(words[4]),
            packets_sent: words[5],
            octets_sent: words[6],
            packets_received: words[7],
            octets_received: words[8],
            lost: words[9],
            late: words[10],
            dropped: words[11],
            locked: (port != 0).then(|| SocketAddr::new(ip, port)),
            is_confirmed: flags & 1 != 0,
            cname: words[15],
            player: words[16] as u32,
            played_ms: words[17],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_read_back_as_they_were() {
        for locked in [None, Some("192.0.2.7:4000".parse().unwrap()), Some("[2001:db8::9]:65535".parse().unwrap())] {
            let hot = Hot {
                ssrc: u32::MAX,
                next: u16::MAX,
                last: 3,
                end: u32::MAX,
                last_at: Mono(u64::MAX),
                packets_sent: 6,
                octets_sent: 7,
                packets_received: 8,
                octets_received: 9,
                lost: 10,
                late: 11,
                dropped: 12,
                locked,
                is_confirmed: locked.is_none(),
                cname: u64::MAX,
                player: 16,
                played_ms: 17,
            };
            assert_eq!(Hot::from_words(&hot.to_words()), hot);
        }
    }
}
