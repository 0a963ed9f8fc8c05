//! The two ciphers, under the session keys that follow from a master key (RFC 3711 s4, RFC 7714 s8 to s10).

use aes::Aes128;
use aes::cipher::{InnerIvInit, KeyInit, StreamCipher, StreamCipherCoreWrapper};
use ctr::CtrCore;
use ctr::flavors::Ctr128BE;
use hmac::{Hmac, Mac};
use ring::aead::{self, Aad, LessSafeKey, Nonce, UnboundKey};
use sha1::Sha1;

use super::{ENCRYPTED, INDEX_LEN, KEY_LEN, MAX_SALT, MasterKey, Profile, RTCP_HEADER_LEN};

/// What a session key is for.
#[derive(Clone, Copy)]
pub(super) enum Usage {
    Rtp = 0,
    Rtcp = 3,
}

/// A cipher under its session keys.
pub(super) enum Transform {
    CounterMode(Box<CounterMode>),
    Galois { key: Box<LessSafeKey>, salt: [u8; NONCE_LEN] },
}

pub(super) struct CounterMode {
    cipher: Aes128,
    salt: [u8; MAX_SALT],
    /// Of the key alone: each packet goes on from a copy.
    authentication: Hmac<Sha1>,
}

impl Transform {
    pub fn new(master: &MasterKey, usage: Usage) -> Transform {
        let derived = |label: u8, out: &mut [u8]| derive(master, usage as u8 + label, out);
        let (mut key, mut salt) = ([0; KEY_LEN], [0; MAX_SALT]);
        derived(0, &mut key);
        derived(2, &mut salt[..master.profile.salt_len()]);
        match master.profile {
            Profile::AesCm128HmacSha1_80 => {
                let mut authentication = [0; 20];
                derived(1, &mut authentication);
                Transform::CounterMode(Box::new(CounterMode {
                    cipher: Aes128::new(&key.into()),
                    salt,
                    authentication: <Hmac<Sha1> as Mac>::new_from_slice(&authentication)
                        .expect("HMAC takes a key of any length"),
                }))
            }
            Profile::AeadAes128Gcm => {
                let key = UnboundKey::new(&aead::AES_128_GCM, &key).expect("the key is as long as the cipher's");
                let mut short = [0; NONCE_LEN];
                short.copy_from_slice(&salt[..NONCE_LEN]);
                Transform::Galois { key: Box::new(LessSafeKey::new(key)), salt: short }
            }
        }
    }

    /// Seals `packet[..len]`, of which the header stays readable; the tag fills the rest.
    pub fn seal(&self, packet: &mut [u8], header_len: usize, len: usize, ssrc: u32, index: u64) {
        let (body, tag) = packet.split_at_mut(len);
        match self {
            Transform::CounterMode(mode) => {
                mode.apply(&mut body[header_len..], ssrc, index);
                tag.copy_from_slice(&mode.tag(&[body, &roc(index)])[..tag.len()]);
            }
            Transform::Galois { key, salt } => {
                let (header, payload) = body.split_at_mut(header_len);
                galois_seal(key, nonce(salt, ssrc, index), header, payload, tag);
            }
        }
    }

    /// Opens `packet[..len]` in place, whose tag is the rest; false, and the packet of no more use, where that is wrong.
    pub fn open(&self, packet: &mut [u8], header_len: usize, len: usize, ssrc: u32, index: u64) -> bool {
        match self {
            Transform::CounterMode(mode) => {
                let (body, tag) = packet.split_at_mut(len);
                let is_right = mode.is_tag(&[body, &roc(index)], tag);
                if is_right {
                    mode.apply(&mut body[header_len..], ssrc, index);
                }
                is_right
            }
            Transform::Galois { key, salt } => {
                let (header, sealed) = packet.split_at_mut(header_len);
                galois_open(key, nonce(salt, ssrc, index), header, sealed)
            }
        }
    }

    /// The same for SRTCP, whose index travels with it: behind the packet in counter mode, where the tag follows, and behind
    /// the tag in Galois mode.
    pub fn seal_rtcp(&self, packet: &mut [u8], len: usize, ssrc: u32, word: u32) {
        let index = u64::from(word & !ENCRYPTED);
        match self {
            Transform::CounterMode(mode) => {
                mode.apply(&mut packet[RTCP_HEADER_LEN..len], ssrc, index);
                let (body, tag) = packet.split_at_mut(len + INDEX_LEN);
                body[len..].copy_from_slice(&word.to_be_bytes());
                tag.copy_from_slice(&mode.tag(&[body])[..tag.len()]);
            }
            Transform::Galois { key, salt } => {
                let (body, rest) = packet.split_at_mut(len);
                let (tag, trailer) = rest.split_at_mut(rest.len() - INDEX_LEN);
                trailer.copy_from_slice(&word.to_be_bytes());
                let (header, payload) = body.split_at_mut(RTCP_HEADER_LEN);
                galois_seal(key, rtcp_nonce(salt, ssrc, word), &rtcp_aad(header, word), payload, tag);
            }
        }
    }

    /// Where the index of an SRTCP packet stands, with its flag.
    pub fn index_of(&self, packet: &[u8], len: usize) -> u32 {
        let at = match self {
            Transform::CounterMode(_) => len,
            Transform::Galois { .. } => packet.len() - INDEX_LEN,
        };
        packet.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |word| u32::from_be_bytes(*word))
    }

    /// Opens SRTCP. A packet that says that it is not encrypted is authentic or not as any other (RFC 3711 s3.4); in Galois
    /// mode we take none of those.
    pub fn open_rtcp(&self, packet: &mut [u8], len: usize, ssrc: u32, word: u32) -> bool {
        let is_encrypted = word & ENCRYPTED != 0;
        let index = u64::from(word & !ENCRYPTED);
        match self {
            Transform::CounterMode(mode) => {
                let (body, tag) = packet.split_at_mut(len + INDEX_LEN);
                let is_right = mode.is_tag(&[body], tag);
                if is_right && is_encrypted {
                    mode.apply(&mut body[RTCP_HEADER_LEN..len], ssrc, index);
                }
                is_right
            }
            Transform::Galois { key, salt } => {
                let end = packet.len() - INDEX_LEN;
                let (header, sealed) = packet[..end].split_at_mut(RTCP_HEADER_LEN);
                is_encrypted && galois_open(key, rtcp_nonce(salt, ssrc, word), &rtcp_aad(header, word), sealed)
            }
        }
    }
}

impl CounterMode {
    /// Encrypts or decrypts (RFC 3711 s4.1.1).
    fn apply(&self, bytes: &mut [u8], ssrc: u32, index: u64) {
        let mut iv = [0; 16];
        iv[..MAX_SALT].copy_from_slice(&self.salt);
        xor(&mut iv[4..8], &ssrc.to_be_bytes());
        xor(&mut iv[8..14], &index.to_be_bytes()[2..]);
        keystream(&self.cipher, &iv).apply_keystream(bytes);
    }

    fn tag(&self, parts: &[&[u8]]) -> [u8; 20] {
        self.over(parts).finalize().into_bytes().into()
    }

    /// In a time that does not depend on how much of it is right.
    fn is_tag(&self, parts: &[&[u8]], tag: &[u8]) -> bool {
        self.over(parts).verify_truncated_left(tag).is_ok()
    }

    fn over(&self, parts: &[&[u8]]) -> Hmac<Sha1> {
        let mut authentication = self.authentication.clone();
        parts.iter().for_each(|part| authentication.update(part));
        authentication
    }
}

/// A session key from a master key (RFC 3711 s4.3.1): the keystream at the label.
fn derive(master: &MasterKey, label: u8, out: &mut [u8]) {
    let mut iv = [0; 16];
    iv[..MAX_SALT].copy_from_slice(&master.salt);
    iv[7] ^= label;
    out.fill(0);
    keystream(&Aes128::new(&master.key.into()), &iv).apply_keystream(out);
}

fn keystream<'a>(cipher: &'a Aes128, iv: &[u8; 16]) -> StreamCipherCoreWrapper<CtrCore<&'a Aes128, Ctr128BE>> {
    StreamCipherCoreWrapper::from_core(CtrCore::inner_iv_init(cipher, iv.into()))
}

/// How often the sequence numbers have gone round, which is authenticated with each packet.
fn roc(index: u64) -> [u8; 4] {
    ((index >> 16) as u32).to_be_bytes()
}

/// RFC 7714 s8.1.
fn nonce(salt: &[u8; NONCE_LEN], ssrc: u32, index: u64) -> Nonce {
    let mut nonce = *salt;
    xor(&mut nonce[2..6], &ssrc.to_be_bytes());
    xor(&mut nonce[6..12], &index.to_be_bytes()[2..]);
    Nonce::assume_unique_for_key(nonce)
}

/// RFC 7714 s9.1.
fn rtcp_nonce(salt: &[u8; NONCE_LEN], ssrc: u32, word: u32) -> Nonce {
    let mut nonce = *salt;
    xor(&mut nonce[2..6], &ssrc.to_be_bytes());
    xor(&mut nonce[8..12], &(word & !ENCRYPTED).to_be_bytes());
    Nonce::assume_unique_for_key(nonce)
}

/// What is authenticated besides the report (RFC 7714 s9.2).
fn rtcp_aad(header: &[u8], word: u32) -> [u8; RTCP_HEADER_LEN + INDEX_LEN] {
    let mut aad = [0; RTCP_HEADER_LEN + INDEX_LEN];
    aad[..RTCP_HEADER_LEN].copy_from_slice(header);
    aad[RTCP_HEADER_LEN..].copy_from_slice(&word.to_be_bytes());
    aad
}

fn galois_seal(key: &LessSafeKey, nonce: Nonce, aad: &[u8], payload: &mut [u8], tag: &mut [u8]) {
    let made = key.seal_in_place_separate_tag(nonce, Aad::from(aad), payload).expect("a packet is short");
    tag.copy_from_slice(made.as_ref());
}

fn galois_open(key: &LessSafeKey, nonce: Nonce, aad: &[u8], sealed: &mut [u8]) -> bool {
    key.open_in_place(nonce, Aad::from(aad), sealed).is_ok()
}

fn xor(bytes: &mut [u8], with: &[u8]) {
    bytes.iter_mut().zip(with).for_each(|(byte, with)| *byte ^= with);
}

const NONCE_LEN: usize = 12;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn galois_mode_seals_as_rfc_7714_s16_has_it() {
        let key: [u8; 16] = std::array::from_fn(|at| at as u8);
        let key = UnboundKey::new(&aead::AES_128_GCM, &key).unwrap();
        let transform = Transform::Galois { key: Box::new(LessSafeKey::new(key)), salt: *b"Quid pro quo" };
        let mut packet = [0x80, 0x40, 0xF1, 0x7B, 0x80, 0x41, 0xF8, 0xD3, 0x55, 0x01, 0xA0, 0xB2].to_vec();
        packet.extend(b"Gallia est omnis divisa in partes tres");
        let len = packet.len();
        packet.resize(len + 16, 0);
        transform.seal(&mut packet, 12, len, 0x5501_A0B2, 0xF17B);
        let hex: String = packet[12..].iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            hex,
            "f24de3a3fb34de6cacba861c9d7e4bcabe633bd50d294e6f42a5f47a51c7d19b36de3adf8833\
             899d7f27beb16a9152cf765ee4390cce"
        );
        assert!(transform.open(&mut packet, 12, len, 0x5501_A0B2, 0xF17B));
        assert_eq!(&packet[12..len], b"Gallia est omnis divisa in partes tres");
    }
}
