//! Looking through short texts, byte by byte.
//!
//! What stands in a header is seldom longer than forty bytes: a plain loop over them beats a vectorised search, and
//! `str`'s own searches and `trim`, which decode characters. White space is ASCII here, as in RFC 3261 s25.1.

/// The place of an ASCII byte.
pub(crate) fn find(text: &str, byte: u8) -> Option<usize> {
    text.bytes().position(|found| found == byte)
}

/// The last place of an ASCII byte.
pub(crate) fn rfind(text: &str, byte: u8) -> Option<usize> {
    text.bytes().rposition(|found| found == byte)
}

/// What is before and after an ASCII byte.
pub(crate) fn split_once(text: &str, byte: u8) -> Option<(&str, &str)> {
    find(text, byte).map(|at| (&text[..at], &text[at + 1..]))
}

/// Takes spaces, tabs and line breaks off both ends: linear white space and nothing else (RFC 3261 s25.1 `LWS`).
pub(crate) fn trim_lws(text: &str) -> &str {
    let is_lws = |byte: u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
    let start = text.bytes().position(|byte| !is_lws(byte)).unwrap_or(text.len());
    let end = text.bytes().rposition(|byte| !is_lws(byte)).map_or(start, |last| last + 1);
    &text[start..end]
}

pub(crate) fn has_white_space(text: &str) -> bool {
    text.bytes().any(|byte| byte.is_ascii_whitespace())
}

/// What a token is made of: methods, header names, transports (RFC 3261 s25.1).
pub(crate) const TOKEN: ByteSet = ByteSet::alphanumeric_and(b"-.!%*_+`'~");

/// A set of bytes, looked up by one read.
pub(crate) struct ByteSet([bool; 256]);

impl ByteSet {
    /// ASCII letters and digits, and these.
    pub(crate) const fn alphanumeric_and(others: &[u8]) -> ByteSet {
        let mut set = [false; 256];
        let mut byte = 0;
        while byte < 128 {
            set[byte] = (byte as u8).is_ascii_alphanumeric();
            byte += 1;
        }
        let mut at = 0;
        while at < others.len() {
            set[others[at] as usize] = true;
            at += 1;
        }
        ByteSet(set)
    }

    /// These, and every byte of a character beyond ASCII.
    pub(crate) const fn or_beyond_ascii(mut self) -> ByteSet {
        let mut byte = 128;
        while byte < 256 {
            self.0[byte] = true;
            byte += 1;
        }
        self
    }

    pub(crate) fn has(&self, byte: u8) -> bool {
        self.0[usize::from(byte)]
    }

    pub(crate) fn has_all_of(&self, text: &str) -> bool {
        text.bytes().all(|byte| self.has(byte))
    }
}
