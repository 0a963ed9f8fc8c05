//! Connectivity checks: binding requests of STUN (RFC 8489) as ICE has them (RFC 8445 s7.3), and their answers.
//!
//! Only requests that prove to know our password are answered, so that nothing is sent to where a stranger points.

use std::net::{IpAddr, SocketAddr};

use hmac::{Hmac, Mac};
use sha1::Sha1;

/// A binding request, whose sender is not proved yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Check<'a> {
    /// The user fragment that we have given, and the sender's own.
    pub ours: &'a str,
    pub theirs: &'a str,
    /// The sender wants media to go there.
    pub nominates: bool,
    /// Of the sender's candidate: the higher, the rather.
    pub priority: u32,
    transaction: [u8; 12],
    /// What is authenticated, and by what.
    message: &'a [u8],
    integrity: &'a [u8],
}

/// Whom a datagram is for, by the user fragment that we have given, if it is a check.
pub fn ufrag_of(datagram: &[u8]) -> Option<&str> {
    Check::parse(datagram).map(|check| check.ours)
}

impl<'a> Check<'a> {
    /// `None` for anything but a binding request with all that a check must have (RFC 8445 s7.1): so it is longer than its
    /// answer.
    pub fn parse(datagram: &'a [u8]) -> Option<Check<'a>> {
        let header = datagram.first_chunk::<HEADER_LEN>()?;
        let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
        if header[..2] != BINDING_REQUEST || header[4..8] != COOKIE || datagram.len() != HEADER_LEN + length {
            return None;
        }
        let transaction = *header[8..].first_chunk()?;
        let (mut user, mut nominates, mut priority, mut has_role, mut at) = (None, false, None, false, HEADER_LEN);
        loop {
            let head = datagram.get(at..)?.first_chunk::<4>()?;
            let len = usize::from(u16::from_be_bytes([head[2], head[3]]));
            let value = datagram.get(at + 4..at + 4 + len)?;
            match u16::from_be_bytes([head[0], head[1]]) {
                USERNAME => user = std::str::from_utf8(value).ok()?.split_once(':'),
                USE_CANDIDATE => nominates = true,
                PRIORITY => priority = Some(u32::from_be_bytes(value.try_into().ok()?)),
                ICE_CONTROLLED | ICE_CONTROLLING => has_role = true,
                // What follows it is not authenticated (RFC 8489 s14.5).
                MESSAGE_INTEGRITY => {
                    let (ours, theirs) = user.filter(|_| has_role)?;
                    let priority = priority?;
                    return Some(Check {
                        ours,
                        theirs,
                        nominates,
                        priority,
                        transaction,
                        message: &datagram[..at],
                        integrity: value,
                    });
                }
                _ => {}
            }
            at += 4 + len.next_multiple_of(4);
        }
    }

    /// Whether its sender knows this password.
    pub fn is_by(&self, password: &str) -> bool {
        integrity_over(self.message, password).verify_slice(self.integrity).is_ok()
    }

    /// The answer: where we see the sender.
    pub fn answer(&self, from: SocketAddr, password: &str) -> Vec<u8> {
        let mut answer = Vec::with_capacity(96);
        answer.extend(BINDING_SUCCESS);
        answer.extend([0, 0]);
        answer.extend(COOKIE);
        answer.extend(self.transaction);
        attribute(&mut answer, XOR_MAPPED_ADDRESS, &self.mapped(from));
        let integrity: [u8; 20] = integrity_over(&answer, password).finalize().into_bytes().into();
        attribute(&mut answer, MESSAGE_INTEGRITY, &integrity);
        set_length(&mut answer, FINGERPRINT_LEN);
        let fingerprint = crc32fast::hash(&answer) ^ FINGERPRINT_XOR;
        attribute(&mut answer, FINGERPRINT, &fingerprint.to_be_bytes());
        answer
    }

    /// RFC 8489 s14.2.
    fn mapped(&self, from: SocketAddr) -> Vec<u8> {
        let key = [&COOKIE[..], &self.transaction].concat();
        let (family, address) = match from.ip().to_canonical() {
            IpAddr::V4(ip) => (1, ip.octets().to_vec()),
            IpAddr::V6(ip) => (2, ip.octets().to_vec()),
        };
        let port = from.port() ^ u16::from_be_bytes([COOKIE[0], COOKIE[1]]);
        let mut mapped = vec![0, family];
        mapped.extend(port.to_be_bytes());
        mapped.extend(address.iter().zip(&key).map(|(byte, key)| byte ^ key));
        mapped
    }
}

/// Over a message up to its integrity, whose length counts that already.
fn integrity_over(message: &[u8], password: &str) -> Hmac<Sha1> {
    let mut hmac = <Hmac<Sha1> as Mac>::new_from_slice(password.as_bytes()).expect("HMAC takes a key of any length");
    let length = u16::try_from(message.len() - HEADER_LEN + INTEGRITY_LEN).unwrap_or(u16::MAX);
    hmac.update(&message[..2]);
    hmac.update(&length.to_be_bytes());
    hmac.update(&message[4..]);
    hmac
}

/// Adds one whose length needs no padding.
fn attribute(message: &mut Vec<u8>, kind: u16, value: &[u8]) {
    message.extend(kind.to_be_bytes());
    message.extend((value.len() as u16).to_be_bytes());
    message.extend(value);
    set_length(message, 0);
}

/// The length of a message that is to have so much more.
fn set_length(message: &mut [u8], more: usize) {
    let length = (message.len() - HEADER_LEN + more) as u16;
    message[2..4].copy_from_slice(&length.to_be_bytes());
}

const HEADER_LEN: usize = 20;
const INTEGRITY_LEN: usize = 24;
const FINGERPRINT_LEN: usize = 8;
const BINDING_REQUEST: [u8; 2] = [0, 1];
const BINDING_SUCCESS: [u8; 2] = [1, 1];
const COOKIE: [u8; 4] = [0x21, 0x12, 0xA4, 0x42];
const USERNAME: u16 = 0x0006;
const MESSAGE_INTEGRITY: u16 = 0x0008;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;
const PRIORITY: u16 = 0x0024;
const USE_CANDIDATE: u16 = 0x0025;
const ICE_CONTROLLED: u16 = 0x8029;
const ICE_CONTROLLING: u16 = 0x802A;
const FINGERPRINT: u16 = 0x8028;
const FINGERPRINT_XOR: u32 = 0x5354_554E;

#[cfg(test)]
pub(super) fn request(user: &str, password: &str, nominates: bool, priority: u32) -> Vec<u8> {
    let transaction = [7; 12];
    let mut message = [&BINDING_REQUEST[..], &[0, 0], &COOKIE, &transaction].concat();
    let mut padded = user.as_bytes().to_vec();
    message.extend(USERNAME.to_be_bytes());
    message.extend((user.len() as u16).to_be_bytes());
    padded.resize(user.len().next_multiple_of(4), 0);
    message.extend(padded);
    attribute(&mut message, PRIORITY, &priority.to_be_bytes());
    attribute(&mut message, ICE_CONTROLLING, &[0; 8]);
    if nominates {
        attribute(&mut message, USE_CANDIDATE, &[]);
    }
    let integrity: [u8; 20] = integrity_over(&message, password).finalize().into_bytes().into();
    attribute(&mut message, MESSAGE_INTEGRITY, &integrity);
    message
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// RFC 5769 s2.1 and s2.2.
    const REQUEST: &str = "000100582112a442b7e7a701bc34d686fa87dfae802200105354554e207465737420636c69656e74002400046e0001ff\
                           80290008932ff9b151263b36000600096576746a3a68367659202020000800149aeaa70cbfd8cb56781ef2b5b2d3f249\
                           c1b571a280280004e57a3bcf";
    const PASSWORD: &str = "VOkJxbRl1RmTxUk/WvJxBt";

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
        digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
    }

    #[test]
    fn request_of_rfc_5769_is_read_and_proved() {
        let request = bytes(REQUEST);
        let check = Check::parse(&request).unwrap();
        assert_eq!((check.ours, check.theirs, check.nominates), ("evtj", "h6vY", false));
        assert!(check.is_by(PASSWORD) && !check.is_by("VOkJxbRl1RmTxUk/WvJxBu"));
        assert_eq!(ufrag_of(&request), Some("evtj"));
        for at in 0..request.len() - 8 {
            let mut changed = request.clone();
            changed[at] ^= 1;
            assert!(!Check::parse(&changed).is_some_and(|check| check.is_by(PASSWORD)), "byte {at}");
        }
    }

    #[test]
    fn answer_is_that_of_rfc_5769_but_for_its_name() {
        let request = bytes(REQUEST);
        let check = Check::parse(&request).unwrap();
        let v4 = check.answer("192.0.2.1:32853".parse().unwrap(), PASSWORD);
        // The mapped address as s2.2 has it.
        assert_eq!(v4[20..32], bytes("00200008 0001a147 e112a643")[..]);
        let v6 = check.answer("[2001:db8:1234:5678:11:2233:4455:6677]:32853".parse().unwrap(), PASSWORD);
        assert_eq!(v6[20..44], bytes("00200014 0002a147 0113a9faa5d3f179bc25f4b5bed2b9d9")[..]);
        for (answer, length) in [(v4, 44), (v6, 56)] {
            assert!(answer.len() < request.len());
            assert_eq!(answer[..8], [1, 1, 0, length, 0x21, 0x12, 0xA4, 0x42]);
            assert_eq!(answer[8..20], request[8..20]);
            let at = answer.len() - 32;
            assert!(integrity_over(&answer[..at], PASSWORD).verify_slice(&answer[at + 4..at + 24]).is_ok());
            let crc = crc32fast::hash(&answer[..answer.len() - 8]) ^ FINGERPRINT_XOR;
            assert_eq!(answer[answer.len() - 4..], crc.to_be_bytes());
        }
    }

    proptest! {
        #[test]
        fn never_panics(mut datagram in proptest::collection::vec(any::<u8>(), 0..120), is_framed in any::<bool>()) {
            if is_framed && datagram.len() >= HEADER_LEN {
                datagram[..2].copy_from_slice(&BINDING_REQUEST);
                datagram[4..8].copy_from_slice(&COOKIE);
                set_length(&mut datagram, 0);
            }
            let _ = Check::parse(&datagram).map(|check| check.is_by("x"));
        }
    }
}
