//! Newtypes of every identifier: what a customer sees (sids) and what only we use.
//!
//! A sid is two letters and 32 hexadecimal digits, as the official SDKs check. Newtypes keep an account from
//! being passed where a call is meant; they serialise as their text.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

/// Defines a sid: its type, its two letters.
macro_rules! sid {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(u128);

        impl $name {
            pub const PREFIX: &'static str = $prefix;

            /// The sid that these bits name: all 128 are shown.
            pub const fn new(bits: u128) -> Self {
                Self(bits)
            }

            pub const fn bits(self) -> u128 {
                self.0
            }

            /// A fresh sid: 48 bits of time, so that what is made together lies together in an index, and 80 of chance.
            pub const fn at(wall_ms: u64, random: u128) -> Self {
                Self((wall_ms as u128) << 80 | random & ((1 << 80) - 1))
            }

            /// A fresh sid that sorts behind another, also within one millisecond: no easier to guess for that.
            pub fn behind(last: Self, wall_ms: u64, random: u128) -> Self {
                Self::at(wall_ms, random).max(Self(last.0 + 1 + (random & u128::from(u64::MAX))))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(SidText::new($prefix, self.0).as_str())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = SidError;

            fn from_str(text: &str) -> Result<Self, SidError> {
                parse_sid(text, $prefix).map(Self)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(SidText::new($prefix, self.0).as_str())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

sid!(
    /// A customer's account.
    AccountSid,
    "AC"
);
sid!(
    /// A call: one leg, as the customer sees it.
    CallSid,
    "CA"
);
sid!(
    /// A recording.
    RecordingSid,
    "RE"
);
sid!(
    /// A conference.
    ConferenceSid,
    "CF"
);
sid!(
    /// A text message.
    MessageSid,
    "SM"
);
sid!(
    /// A message between the page of a browser's call and its application.
    UserMessageSid,
    "KX"
);
sid!(
    /// Who is told what the page of a call says.
    SubscriptionSid,
    "ZY"
);
sid!(
    /// A media stream: a call's sound to a WebSocket of its application.
    StreamSid,
    "MZ"
);
sid!(
    /// A queue.
    QueueSid,
    "QU"
);
sid!(
    /// A telephone number.
    NumberSid,
    "PN"
);
sid!(
    /// A notification: an error or a warning in a call.
    NotificationSid,
    "NO"
);
sid!(
    /// An event in the outbox; the idempotency key of everything that is made of it.
    EventSid,
    "EV"
);

impl QueueSid {
    /// Of a queue that nobody made before it was named: the same each time.
    pub fn of_name(account: AccountSid, name: &str) -> QueueSid {
        let digest = Sha256::new().chain_update(account.bits().to_be_bytes()).chain_update(name).finalize();
        QueueSid::new(u128::from_be_bytes(digest[..16].try_into().expect("sixteen of thirty-two bytes")))
    }
}

/// A fresh sid of a kind that has no type of its own: what only the API and the database name.
pub fn fresh_sid(prefix: &str, wall_ms: u64, random: u128) -> String {
    SidText::new(prefix, u128::from(wall_ms) << 80 | random & ((1 << 80) - 1)).as_str().to_owned()
}

/// Whether a text is a sid of that kind, written as we write them.
pub fn is_sid(text: &str, prefix: &'static str) -> bool {
    parse_sid(text, prefix).is_ok_and(|bits| SidText::new(prefix, bits).as_str() == text)
}

/// A sid as text, made without an allocation: each call writes some dozens of them.
struct SidText([u8; 34]);

impl SidText {
    fn new(prefix: &str, bits: u128) -> SidText {
        let mut text = [0; 34];
        text[..2].copy_from_slice(prefix.as_bytes());
        for (pair, byte) in text[2..].chunks_exact_mut(2).zip(bits.to_be_bytes()) {
            pair[0] = HEX[usize::from(byte >> 4)];
            pair[1] = HEX[usize::from(byte & 15)];
        }
        SidText(text)
    }

    fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("a prefix and hexadecimal digits are ASCII")
    }
}

const HEX: &[u8; 16] = b"0123456789abcdef";

/// A text that is no sid of the wanted kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SidError {
    prefix: &'static str,
}

impl fmt::Display for SidError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected {} and 32 hexadecimal digits", self.prefix)
    }
}

impl std::error::Error for SidError {}

fn parse_sid(text: &str, prefix: &'static str) -> Result<u128, SidError> {
    let digits = text.strip_prefix(prefix).filter(|digits| digits.len() == 32 && !digits.starts_with('+'));
    digits.and_then(|digits| u128::from_str_radix(digits, 16).ok()).ok_or(SidError { prefix })
}

/// A branch of a `<Dial>`: one noun that is being called. Numbered in its verb.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct BranchId(pub u32);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sid_is_written_and_read_back() {
        let sid = CallSid::new(0x1234);
        assert_eq!(sid.to_string(), "CA00000000000000000000000000001234");
        assert_eq!(sid.to_string().parse(), Ok(sid));
    }

    #[test]
    fn fresh_sids_sort_by_time() {
        assert!(CallSid::at(1, u128::MAX) < CallSid::at(2, 0));
        assert_eq!(CallSid::at(0x123, 7).to_string(), "CA00000000012300000000000000000007");
    }

    #[test]
    fn sids_of_one_millisecond_keep_their_order() {
        let mut last = CallSid::at(5, u128::MAX);
        for random in [0, u128::MAX, 1, u128::MAX / 3] {
            let next = CallSid::behind(last, 5, random);
            assert!(next > last);
            last = next;
        }
        assert_eq!(CallSid::behind(last, 9, 7), CallSid::at(9, 7));
    }

    #[test]
    fn sid_of_another_kind_or_length_is_refused() {
        for text in ["AC00000000000000000000000000001234", "CA1234", "CA+0000000000000000000000000001234", ""] {
            assert!(text.parse::<CallSid>().is_err(), "{text}");
        }
    }
}
