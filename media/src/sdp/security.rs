//! What a description says of how its media is protected: keys for SRTP (RFC 4568), or how a browser's transport proves who it
//! is (RFC 8839, RFC 8842, RFC 8122).

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD as BASE64, STANDARD_NO_PAD as ICE_TEXT};
use hmac::{Hmac, Mac};
use serde::{Deserialize, Serialize};
use sha1::Sha1;

use super::{Media, SdpError};
use crate::srtp::{MasterKey, Profile};

/// The attributes of one medium, or of the session for each medium that has none of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Security {
    /// `a=crypto`, at most 16: of those that we speak.
    pub crypto: Vec<Crypto>,
    pub ice_ufrag: Option<String>,
    pub ice_pwd: Option<String>,
    pub fingerprint: Option<Fingerprint>,
    pub setup: Option<Setup>,
}

/// `a=crypto`: a key for what the description's sender will send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Crypto {
    pub tag: u32,
    pub key: MasterKey,
}

/// `a=fingerprint`: SHA-256 of the certificate that its sender shows. Other hashes are as none.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint(pub [u8; 32]);

/// `a=setup`: who opens the DTLS connection (RFC 4145).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Setup {
    Active,
    Passive,
    ActPass,
}

/// By what a medium is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Nothing,
    Sdes,
    Dtls,
}

/// How a leg's media is to be protected, and what of ours that takes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Protection {
    pub demand: Demand,
    /// Our key for each profile. Without one an encrypted offer cannot be answered.
    pub keys: Vec<MasterKey>,
    /// What a browser is to know of us.
    pub transport: Option<Transport>,
    /// Of the certificate of this process, for what begins anew.
    pub identity: Option<Fingerprint>,
}

/// What is asked of a leg's media.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Demand {
    /// Encrypted where the peer offers that; we offer none.
    #[default]
    AsOffered,
    /// Encrypted, by keys in the description, or not at all.
    Sdes,
    /// As browsers have it: ICE, and keys by DTLS.
    Dtls,
}

/// Our end of a browser's transport.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transport {
    pub ufrag: String,
    pub pwd: String,
    pub fingerprint: Fingerprint,
}

/// What protects the media that both sides agreed on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Protected {
    Nothing,
    Sdes {
        /// For what we send.
        ours: MasterKey,
        theirs: MasterKey,
    },
    Dtls {
        ours: Transport,
        /// Of the certificate that the peer must show.
        theirs: Fingerprint,
        peer_ufrag: String,
    },
}

impl Transport {
    /// How many characters of the name stay for as long as the transport lives.
    pub const NAME_CHARS: usize = 3;

    /// A name that begins so, and a password, of 21 bytes that nobody can guess.
    pub fn new(name: &str, secret: &[u8; 21], fingerprint: Fingerprint) -> Transport {
        let text = ICE_TEXT.encode(secret);
        let (ufrag, pwd) = text.split_at(4);
        Transport { ufrag: format!("{name}{ufrag}"), pwd: pwd.to_owned(), fingerprint }
    }

    /// Another name and password, that whoever knows these can know and nobody else.
    pub(super) fn restarted(&self, fingerprint: Fingerprint) -> Transport {
        let mut hmac =
            <Hmac<Sha1> as Mac>::new_from_slice(self.pwd.as_bytes()).expect("HMAC takes a key of any length");
        hmac.update(self.ufrag.as_bytes());
        let mut secret = [0; 21];
        secret[..20].copy_from_slice(&hmac.finalize().into_bytes());
        Transport::new(&self.ufrag[..Self::NAME_CHARS], &secret, fingerprint)
    }
}

impl Security {
    /// Takes an attribute if it is one of these; a value that cannot be read is as if it were not there.
    pub(super) fn take(&mut self, name: &str, value: &str) -> bool {
        match name {
            "crypto" if self.crypto.len() < MAX_CRYPTO => self.crypto.extend(crypto(value)),
            "ice-ufrag" => self.ice_ufrag = ice_text(value, 4..=256).or(self.ice_ufrag.take()),
            "ice-pwd" => self.ice_pwd = ice_text(value, 22..=256).or(self.ice_pwd.take()),
            "fingerprint" => self.fingerprint = self.fingerprint.or(fingerprint(value)),
            "setup" => self.setup = Setup::from_name(value).or(self.setup),
            _ => return false,
        }
        true
    }
}

impl Media {
    /// By what its protocol and attributes say that it is protected.
    pub(super) fn protected_by(&self) -> Result<Kind, SdpError> {
        let is_one_of = |names: [&str; 2]| names.iter().any(|name| self.protocol.eq_ignore_ascii_case(name));
        if is_one_of(["RTP/AVP", "RTP/AVPF"]) {
            // Some offer encryption as a wish: a plain protocol, and keys besides.
            Ok(if self.security.crypto.is_empty() { Kind::Nothing } else { Kind::Sdes })
        } else if is_one_of(["RTP/SAVP", "RTP/SAVPF"]) {
            Ok(Kind::Sdes)
        } else if is_one_of(["UDP/TLS/RTP/SAVP", "UDP/TLS/RTP/SAVPF"]) {
            Ok(Kind::Dtls)
        } else {
            Err(SdpError::Protocol)
        }
    }
}

impl Protection {
    /// The key that answers the first offered one that we speak.
    pub(super) fn answering(&self, offered: &[Crypto]) -> Option<Crypto> {
        offered.iter().find_map(|theirs| {
            let ours = self.keys.iter().find(|ours| ours.profile() == theirs.key.profile())?;
            Some(Crypto { tag: theirs.tag, key: ours.clone() })
        })
    }

    /// What was said already stays: a key that a peer has is used for as long as it may be.
    pub(super) fn keep(&mut self, said: &Security) {
        for Crypto { key, .. } in &said.crypto {
            match self.keys.iter_mut().find(|own| own.profile() == key.profile()) {
                Some(own) => *own = key.clone(),
                None => self.keys.push(key.clone()),
            }
        }
    }

    pub(super) fn offering(&self) -> Vec<Crypto> {
        (1..).zip(&self.keys).map(|(tag, key)| Crypto { tag, key: key.clone() }).collect()
    }
}

impl Protected {
    /// What two descriptions of one stream agree on.
    pub(super) fn of(ours: &Media, theirs: &Media) -> Result<Protected, SdpError> {
        match (ours.protected_by()?, theirs.protected_by()?) {
            (Kind::Nothing, Kind::Nothing) => Ok(Protected::Nothing),
            (Kind::Sdes, Kind::Sdes) => ours
                .security
                .crypto
                .iter()
                .find_map(|own| {
                    let is_it = |peer: &&Crypto| peer.tag == own.tag && peer.key.profile() == own.key.profile();
                    let peer = theirs.security.crypto.iter().find(is_it)?;
                    Some(Protected::Sdes { ours: own.key.clone(), theirs: peer.key.clone() })
                })
                .ok_or(SdpError::NoKey),
            (Kind::Dtls, Kind::Dtls) => {
                let (own, peer) = (&ours.security, &theirs.security);
                let transport = Transport {
                    ufrag: own.ice_ufrag.clone().ok_or(SdpError::NoKey)?,
                    pwd: own.ice_pwd.clone().ok_or(SdpError::NoKey)?,
                    fingerprint: own.fingerprint.ok_or(SdpError::NoKey)?,
                };
                if peer.setup == Some(Setup::Passive) {
                    // We open no connection, as we have no way to where browsers are.
                    return Err(SdpError::Setup);
                }
                Ok(Protected::Dtls {
                    ours: transport,
                    theirs: peer.fingerprint.ok_or(SdpError::NoKey)?,
                    peer_ufrag: peer.ice_ufrag.clone().ok_or(SdpError::NoKey)?,
                })
            }
            _ => Err(SdpError::Unencrypted),
        }
    }
}

impl Crypto {
    /// The key as the attribute has it.
    pub(super) fn inline(&self) -> String {
        BASE64.encode(self.key.to_bytes())
    }
}

/// `1 AES_CM_128_HMAC_SHA1_80 inline:BASE64|2^20 WSH=64`; `None` for what we do not do: other suites, several keys and
/// their index (MKI), and parameters that change what is encrypted.
fn crypto(value: &str) -> Option<Crypto> {
    let mut words = value.split_ascii_whitespace();
    let tag = words.next()?.parse().ok()?;
    let profile = Profile::from_name(words.next()?)?;
    let key = words.next()?.strip_prefix("inline:")?;
    let (key, rest) = key.split_once('|').unwrap_or((key, ""));
    if rest.contains(':') || rest.contains(';') || key.contains(';') {
        return None;
    }
    if words.any(|parameter| !parameter.starts_with("WSH=") && !parameter.starts_with('-')) {
        return None;
    }
    Some(Crypto { tag, key: MasterKey::new(profile, &BASE64.decode(key).ok()?)? })
}

fn ice_text(value: &str, lengths: std::ops::RangeInclusive<usize>) -> Option<String> {
    let is_ice = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/';
    (lengths.contains(&value.len()) && value.bytes().all(is_ice)).then(|| value.to_owned())
}

/// `sha-256 4A:AD:...`
fn fingerprint(value: &str) -> Option<Fingerprint> {
    let (hash, hex) = value.split_once(' ')?;
    if !hash.eq_ignore_ascii_case("sha-256") {
        return None;
    }
    let mut bytes = [0; 32];
    let mut pairs = hex.trim().split(':');
    for byte in &mut bytes {
        *byte = pairs.next().filter(|pair| pair.len() == 2).and_then(|pair| u8::from_str_radix(pair, 16).ok())?;
    }
    pairs.next().is_none().then_some(Fingerprint(bytes))
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits: Vec<String> = self.0.iter().map(|byte| format!("{byte:02X}")).collect();
        f.write_str(&digits.join(":"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

impl Setup {
    const ALL: [Setup; 3] = [Setup::Active, Setup::Passive, Setup::ActPass];

    pub const fn name(self) -> &'static str {
        match self {
            Setup::Active => "active",
            Setup::Passive => "passive",
            Setup::ActPass => "actpass",
        }
    }

    fn from_name(name: &str) -> Option<Setup> {
        Setup::ALL.into_iter().find(|setup| setup.name().eq_ignore_ascii_case(name))
    }
}

const MAX_CRYPTO: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    const INLINE: &str = "inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz";

    #[test]
    fn keys_are_read_but_for_what_we_do_not_do() {
        let good = crypto(&format!("1 AES_CM_128_HMAC_SHA1_80 {INLINE}")).unwrap();
        assert_eq!((good.tag, good.key.profile()), (1, Profile::AesCm128HmacSha1_80));
        assert_eq!(format!("inline:{}", good.inline()), INLINE);
        let read = |rest: &str| crypto(&format!("1 AES_CM_128_HMAC_SHA1_80 {INLINE}{rest}")).is_some();
        assert!(read("|2^20") && read(" WSH=128") && read("|2^31 -UNKNOWN"));
        assert!(!read("|2^20|1:4") && !read("|1:4") && !read(" UNENCRYPTED_SRTP") && !read(" KDR=1"));
        assert!(!read(&format!("|2^20;{INLINE}|2^20|2:4")));
        assert!(crypto("1 AES_CM_128_HMAC_SHA1_32 inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz").is_none());
        assert!(crypto("1 AES_CM_128_HMAC_SHA1_80 inline:WVNfX19z").is_none(), "a key that is too short");
        assert!(crypto("1 AEAD_AES_128_GCM inline:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA==").is_some());
    }

    #[test]
    fn fingerprint_reads_back() {
        let text = (0..32).map(|byte| format!("{:02X}", byte * 7)).collect::<Vec<_>>().join(":");
        let read = fingerprint(&format!("SHA-256 {text}")).unwrap();
        assert_eq!(read.to_string(), text);
        assert_eq!(fingerprint(&format!("sha-256 {}", text.to_lowercase())), Some(read));
        for wrong in [format!("sha-1 {text}"), format!("sha-256 {text}:00"), format!("sha-256 {}", &text[3..])] {
            assert_eq!(fingerprint(&wrong), None);
        }
    }
}
