//! Bytes that are text, as SDP is, written down as text: as a list of numbers they take four times the room.

use std::fmt;

use bytes::Bytes;
use serde::de::{SeqAccess, Visitor};
use serde::{Deserializer, Serialize, Serializer};

pub fn serialize<S: Serializer>(bytes: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
    match std::str::from_utf8(bytes) {
        Ok(text) => serializer.serialize_str(text),
        // A peer may write what it likes.
        Err(_) => bytes.serialize(serializer),
    }
}

pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
    deserializer.deserialize_any(Text)
}

struct Text;

impl<'de> Visitor<'de> for Text {
    type Value = Bytes;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text, or a list of bytes")
    }

    fn visit_str<E>(self, text: &str) -> Result<Bytes, E> {
        Ok(Bytes::copy_from_slice(text.as_bytes()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Bytes, A::Error> {
        let mut bytes = Vec::new();
        while let Some(byte) = list.next_element()? {
            bytes.push(byte);
        }
        Ok(bytes.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, serde::Deserialize)]
    struct Written(#[serde(with = "super")] Bytes);

    #[test]
    fn text_is_text_and_what_is_none_survives_too() {
        for (bytes, json) in [(&b"v=0\r\n"[..], r#""v=0\r\n""#), (&[118, 255][..], "[118,255]"), (&[][..], r#""""#)] {
            let written = Written(Bytes::copy_from_slice(bytes));
            assert_eq!(serde_json::to_string(&written).unwrap(), json);
            assert_eq!(serde_json::from_str::<Written>(json).unwrap(), written);
        }
    }
}
