//! SRTP and SRTCP (RFC 3711, RFC 7714): one direction of a leg's media, sealed or opened in place.
//!
//! Keys come from elsewhere, by SDES ([`crate::sdp`]) or DTLS. What a worker must know that takes another's place is a
//! few numbers ([`Sender::index`], [`Receiver::heard`]), which can be set: the keystream of a packet is never used a second time
//! (RFC 3711 s9.1), and a stream that has gone round its sequence numbers is still understood. No rekeying by MKI, no
//! key derivation rate.

mod index;
mod transform;

#[cfg(test)]
mod tests;

use std::fmt;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::rtp::{HEADER_LEN, Ssrc};

use index::Window;
use transform::{Transform, Usage};

/// How packets are encrypted and authenticated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Profile {
    /// AES in counter mode, 80 bits of HMAC-SHA1 (RFC 3711): what everybody speaks.
    AesCm128HmacSha1_80,
    /// AES in Galois/counter mode (RFC 7714).
    AeadAes128Gcm,
}

impl Profile {
    /// In the order in which we offer them.
    pub const ALL: [Profile; 2] = [Profile::AesCm128HmacSha1_80, Profile::AeadAes128Gcm];

    /// The name of the crypto suite (RFC 4568 s6.2, RFC 7714 s14.1).
    pub const fn name(self) -> &'static str {
        match self {
            Profile::AesCm128HmacSha1_80 => "AES_CM_128_HMAC_SHA1_80",
            Profile::AeadAes128Gcm => "AEAD_AES_128_GCM",
        }
    }

    pub fn from_name(name: &str) -> Option<Profile> {
        Profile::ALL.into_iter().find(|profile| profile.name() == name)
    }

    pub const fn salt_len(self) -> usize {
        match self {
            Profile::AesCm128HmacSha1_80 => 14,
            Profile::AeadAes128Gcm => 12,
        }
    }

    /// Of a master key with its salt.
    pub const fn key_len(self) -> usize {
        KEY_LEN + self.salt_len()
    }

    const fn tag_len(self) -> usize {
        match self {
            Profile::AesCm128HmacSha1_80 => 10,
            Profile::AeadAes128Gcm => 16,
        }
    }
}

/// A master key with its salt: everything that protects one direction.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MasterKey {
    profile: Profile,
    key: [u8; KEY_LEN],
    /// The rest is zero where the profile's salt is shorter.
    salt: [u8; MAX_SALT],
}

impl MasterKey {
    /// Of the key followed by its salt, [`Profile::key_len`] bytes.
    pub fn new(profile: Profile, key_and_salt: &[u8]) -> Option<MasterKey> {
        let (key, given) =
            key_and_salt.split_first_chunk::<KEY_LEN>().filter(|_| key_and_salt.len() == profile.key_len())?;
        let mut salt = [0; MAX_SALT];
        salt[..given.len()].copy_from_slice(given);
        Some(MasterKey { profile, key: *key, salt })
    }

    pub fn profile(&self) -> Profile {
        self.profile
    }

    /// The key followed by its salt; the rest of the room is zero where the profile's salt is shorter.
    pub fn bytes(&self) -> [u8; KEY_LEN + MAX_SALT] {
        let mut bytes = [0; KEY_LEN + MAX_SALT];
        bytes[..KEY_LEN].copy_from_slice(&self.key);
        bytes[KEY_LEN..].copy_from_slice(&self.salt);
        bytes
    }

    /// The key followed by its salt, [`Profile::key_len`] bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.bytes()[..self.profile.key_len()].to_vec()
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MasterKey({}, ..)", self.profile.name())
    }
}

/// Why a packet was not taken. What is in it then is no longer what came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Too short, or not the form of a packet.
    Form,
    /// The tag is wrong: a stranger's, or damaged.
    Forged,
    /// It was taken already, or is too old to tell.
    Replayed,
}

/// What we send, under one key. One SSRC.
pub struct Sender {
    rtp: Transform,
    rtcp: Transform,
    profile: Profile,
    sent: Window,
    /// Of the last SRTCP packet.
    rtcp_index: u32,
}

impl Sender {
    pub fn new(key: &MasterKey) -> Sender {
        Sender {
            rtp: Transform::new(key, Usage::Rtp),
            rtcp: Transform::new(key, Usage::Rtcp),
            profile: key.profile,
            sent: Window::default(),
            rtcp_index: 0,
        }
    }

    /// The highest packet index used, and the last of SRTCP. To be written down before a packet leaves.
    pub fn index(&self) -> (Option<u64>, u32) {
        (self.sent.highest(), self.rtcp_index)
    }

    /// Goes on after these: no index up to them is used again.
    pub fn resume(&mut self, index: Option<u64>, rtcp_index: u32) {
        self.sent = index.map_or_else(Window::default, Window::taken_up_to);
        self.rtcp_index = rtcp_index;
    }

    /// Seals a packet of ours, whose header has [`HEADER_LEN`] bytes; the tag follows it in the buffer.
    ///
    /// `None` where a packet of that number was sealed already, or the buffer has no room. About 250 ns for 20 ms of G.711.
    pub fn seal_rtp(&mut self, buffer: &mut [u8], packet: Range<usize>) -> Option<Range<usize>> {
        let end = packet.end + self.profile.tag_len();
        let packet_len = packet.len();
        let sealed = buffer.get_mut(packet.start..end)?;
        let (header, _) = sealed.split_first_chunk::<HEADER_LEN>()?;
        let (seq, ssrc) = (u16::from_be_bytes([header[2], header[3]]), ssrc_at(header, 8)?);
        let index = self.sent.guess(seq);
        if !self.sent.is_new(index) {
            return None;
        }
        self.sent.take(index);
        self.rtp.seal(sealed, HEADER_LEN, packet_len, ssrc, index);
        Some(packet.start..end)
    }

    /// Seals a report of `len` bytes at the start of the buffer; its length then.
    pub fn seal_rtcp(&mut self, buffer: &mut [u8], len: usize) -> Option<usize> {
        let end = len + self.profile.tag_len() + INDEX_LEN;
        let sealed = buffer.get_mut(..end)?;
        let ssrc = ssrc_at(sealed, 4)?;
        // 2^31 reports are 300 years of them.
        self.rtcp_index = (self.rtcp_index + 1) & !ENCRYPTED;
        self.rtcp.seal_rtcp(sealed, len, ssrc, self.rtcp_index | ENCRYPTED);
        Some(end)
    }
}

/// What the peer sends, under one key.
pub struct Receiver {
    rtp: Transform,
    rtcp: Transform,
    profile: Profile,
    /// The streams that were heard, the last one first.
    sources: Vec<Source>,
    /// How often the sequence numbers of a stream may have gone round before its first packet here.
    may_have_wrapped: u32,
}

#[derive(Clone, Copy)]
struct Source {
    ssrc: Ssrc,
    rtp: Window,
    rtcp: Window,
}

impl Receiver {
    pub fn new(key: &MasterKey) -> Receiver {
        Receiver {
            rtp: Transform::new(key, Usage::Rtp),
            rtcp: Transform::new(key, Usage::Rtcp),
            profile: key.profile,
            sources: Vec::new(),
            may_have_wrapped: 0,
        }
    }

    /// The stream that was heard last: its SSRC, its highest packet index, and that of its SRTCP.
    pub fn heard(&self) -> Option<(Ssrc, u64, u32)> {
        let source = self.sources.first()?;
        Some((source.ssrc, source.rtp.highest().unwrap_or(0), source.rtcp.highest().unwrap_or(0) as u32))
    }

    /// Goes on after what another worker has heard.
    pub fn resume(&mut self, ssrc: Ssrc, index: u64, rtcp_index: u32) {
        let (rtp, rtcp) = (Window::taken_up_to(index), Window::taken_up_to(u64::from(rtcp_index)));
        self.sources = vec![Source { ssrc, rtp, rtcp }];
    }

    /// The peer may have sent for long before anything comes here: its first packet is tried for each time that its numbers
    /// may have gone round, which nothing in a packet tells.
    pub fn joins_late(&mut self) {
        self.may_have_wrapped = MAX_WRAPS;
    }

    /// Opens a packet; its length without the tag.
    pub fn open_rtp(&mut self, packet: &mut [u8]) -> Result<usize, Fault> {
        let header_len = header_len(packet).ok_or(Fault::Form)?;
        let len =
            packet.len().checked_sub(self.profile.tag_len()).filter(|len| *len >= header_len).ok_or(Fault::Form)?;
        let (seq, ssrc) = (u16::from_be_bytes([packet[2], packet[3]]), ssrc_at(packet, 8).ok_or(Fault::Form)?);
        let known = self.sources.iter().position(|source| source.ssrc.0 == ssrc && source.rtp.highest().is_some());
        let index = match known {
            Some(at) => {
                let window = self.sources[at].rtp;
                let index = window.guess(seq);
                if !window.is_new(index) {
                    return Err(Fault::Replayed);
                }
                self.rtp.open(packet, header_len, len, ssrc, index).then_some(index)
            }
            None if self.may_have_wrapped == 0 => {
                let index = u64::from(seq);
                self.rtp.open(packet, header_len, len, ssrc, index).then_some(index)
            }
            None => {
                let sealed = packet.to_vec();
                (0..=u64::from(self.may_have_wrapped)).map(|wraps| wraps << 16 | u64::from(seq)).find(|index| {
                    packet.copy_from_slice(&sealed);
                    self.rtp.open(packet, header_len, len, ssrc, *index)
                })
            }
        };
        let index = index.ok_or(Fault::Forged)?;
        self.source(ssrc).rtp.take(index);
        Ok(len)
    }

    /// Opens SRTCP; its length without tag and index.
    pub fn open_rtcp(&mut self, packet: &mut [u8]) -> Result<usize, Fault> {
        let overhead = self.profile.tag_len() + INDEX_LEN;
        let len = packet.len().checked_sub(overhead).filter(|len| *len >= RTCP_HEADER_LEN).ok_or(Fault::Form)?;
        let ssrc = ssrc_at(packet, 4).ok_or(Fault::Form)?;
        let word = self.rtcp.index_of(packet, len);
        let index = u64::from(word & !ENCRYPTED);
        let known = self.sources.iter().find(|source| source.ssrc.0 == ssrc);
        if known.is_some_and(|source| !source.rtcp.is_new(index)) {
            return Err(Fault::Replayed);
        }
        if !self.rtcp.open_rtcp(packet, len, ssrc, word) {
            return Err(Fault::Forged);
        }
        self.source(ssrc).rtcp.take(index);
        Ok(len)
    }

    /// The stream of an authentic packet, brought to the front: who has none yet takes the place of the one that was heard
    /// the longest ago.
    fn source(&mut self, ssrc: u32) -> &mut Source {
        let at = self.sources.iter().position(|source| source.ssrc.0 == ssrc).unwrap_or_else(|| {
            self.sources.truncate(MAX_SOURCES - 1);
            self.sources.push(Source { ssrc: Ssrc(ssrc), rtp: Window::default(), rtcp: Window::default() });
            self.sources.len() - 1
        });
        self.sources[..=at].rotate_right(1);
        &mut self.sources[0]
    }
}

fn ssrc_at(packet: &[u8], at: usize) -> Option<u32> {
    let (word, _) = packet.get(at..)?.split_first_chunk::<4>()?;
    Some(u32::from_be_bytes(*word))
}

/// What of an RTP packet is not encrypted: its fixed header, contributing sources and extension.
fn header_len(packet: &[u8]) -> Option<usize> {
    let fixed = packet.first_chunk::<HEADER_LEN>()?;
    let sources = HEADER_LEN + usize::from(fixed[0] & 0x0F) * 4;
    if fixed[0] >> 6 != 2 {
        return None;
    }
    if fixed[0] & 0x10 == 0 {
        return Some(sources);
    }
    let words = packet.get(sources + 2..sources + 4)?;
    Some(sources + 4 + usize::from(u16::from_be_bytes([words[0], words[1]])) * 4)
}

/// What sealing adds to a packet at most.
pub const MAX_OVERHEAD: usize = 16 + INDEX_LEN;
const KEY_LEN: usize = 16;
const MAX_SALT: usize = 14;
/// Of SRTCP, with the flag that says that it is encrypted.
const INDEX_LEN: usize = 4;
const ENCRYPTED: u32 = 1 << 31;
const RTCP_HEADER_LEN: usize = 8;
/// A peer changes its SSRC when it begins anew, and has no other.
const MAX_SOURCES: usize = 4;
/// 16 times are six hours of packets of 20 ms.
const MAX_WRAPS: u32 = 16;
