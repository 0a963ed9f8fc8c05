//! What only the worker knows of a leg, and whoever takes its place on the same machine must know: the numbers of the last
//! packets, where the peer turned out to be, and what was counted.
//!
//! It is written down before each packet leaves: a worker that dies between the two has used no number that is not written,
//! and no number is ever used twice. That costs a peer nothing now, and is what SRTP demands (RFC 3711 s9.1).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::srtp::{MasterKey, Profile};
use crate::time::Mono;

/// A leg's numbers, as words that are written one by one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
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
    /// Where it is encrypted.
    pub srtp: Option<HotSrtp>,
}

/// The state of SRTP (RFC 3711 s3.2.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HotSrtp {
    pub ours: MasterKey,
    pub theirs: MasterKey,
    /// The highest packet index that we have used, and that of SRTCP.
    pub sent: Option<u64>,
    pub sent_rtcp: u32,
    /// Of the stream that was heard last: its SSRC, its highest index, and that of its SRTCP.
    pub heard: Option<(u32, u64, u32)>,
}

impl Hot {
    pub const WORDS: usize = OWN + HotSrtp::WORDS;

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
        let own: [u64; OWN] = [
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
        ];
        let mut words = [0; Hot::WORDS];
        words[..OWN].copy_from_slice(&own);
        if let Some(srtp) = &self.srtp {
            words[OWN..].copy_from_slice(&srtp.to_words());
        }
        words
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
            srtp: words.last_chunk().and_then(HotSrtp::from_words),
        }
    }
}

impl HotSrtp {
    const WORDS: usize = 4 + 2 * KEY_WORDS;

    fn to_words(&self) -> [u64; HotSrtp::WORDS] {
        let mut words = [0; HotSrtp::WORDS];
        let (ssrc, index, rtcp_index) = self.heard.unwrap_or_default();
        let profile = 1 + u64::from(self.ours.profile() == Profile::AeadAes128Gcm);
        let flags = u64::from(self.sent.is_some()) | u64::from(self.heard.is_some()) << 1;
        words[0] = profile | flags << 8 | u64::from(ssrc) << 32;
        words[1] = self.sent.unwrap_or_default();
        words[2] = index;
        words[3] = u64::from(self.sent_rtcp) | u64::from(rtcp_index) << 32;
        for (key, words) in [&self.ours, &self.theirs].into_iter().zip(words[4..].chunks_mut(KEY_WORDS)) {
            for (bytes, word) in key.bytes().chunks(8).zip(words) {
                let mut whole = [0; 8];
                whole[..bytes.len()].copy_from_slice(bytes);
                *word = u64::from_be_bytes(whole);
            }
        }
        words
    }

    fn from_words(words: &[u64; HotSrtp::WORDS]) -> Option<HotSrtp> {
        let profile = match words[0] & 0xFF {
            1 => Profile::AesCm128HmacSha1_80,
            2 => Profile::AeadAes128Gcm,
            _ => return None,
        };
        let key = |words: &[u64]| {
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
            MasterKey::new(profile, &bytes[..profile.key_len()])
        };
        let flag = |number: u64| words[0] >> 8 & number != 0;
        Some(HotSrtp {
            ours: key(&words[4..4 + KEY_WORDS])?,
            theirs: key(&words[4 + KEY_WORDS..])?,
            sent: flag(1).then_some(words[1]),
            sent_rtcp: words[3] as u32,
            heard: flag(2).then_some(((words[0] >> 32) as u32, words[2], (words[3] >> 32) as u32)),
        })
    }
}

/// Words of a leg that is not encrypted.
const OWN: usize = 18;
/// 30 bytes.
const KEY_WORDS: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_indices_read_back_as_they_were() {
        for (profile, heard) in
            [(Profile::AesCm128HmacSha1_80, None), (Profile::AeadAes128Gcm, Some((u32::MAX, 1 << 47, (1 << 31) - 1)))]
        {
            let key = |first: u8| {
                let bytes: Vec<u8> = (first..).take(profile.key_len()).collect();
                MasterKey::new(profile, &bytes).unwrap()
            };
            let srtp = HotSrtp { ours: key(1), theirs: key(101), sent: heard.map(|_| 7), sent_rtcp: 9, heard };
            let hot = Hot { ssrc: 3, srtp: Some(srtp), ..Hot::default() };
            assert_eq!(Hot::from_words(&hot.to_words()), hot);
        }
    }

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
                srtp: None,
            };
            assert_eq!(Hot::from_words(&hot.to_words()), hot);
        }
    }
}
