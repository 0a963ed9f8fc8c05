//! A received message: its bytes, and an index of its start line and headers made in one pass.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use bytestring::ByteString;
use memchr::memmem;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::address::Address;
use super::header::HeaderName;
use super::limits;
use super::method::Method;
use super::param::split_commas;
use super::scan;
use super::uri::UriError;
use super::via::Via;

/// What the start line says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartLine {
    Request(Method),
    /// The status code; 0 where it is no number from 100 to 699.
    Response(u16),
}

/// What is wrong with the form of a message.
///
/// Most of these leave a message that can be indexed and answered: see [`Message::malformed`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    Empty,
    NotUtf8,
    HeadTooLong,
    NoEndOfHead,
    StartLine,
    Version,
    StrayLineBreak,
    HeaderLine,
    ControlByte,
    TooManyHeaders,
    ContentLength,
    ContentLengthRepeated,
    ContentLengthMissing,
    BodyShort,
    BodyTooLong,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Malformed::Empty => "empty message",
            Malformed::NotUtf8 => "head is not utf-8",
            Malformed::HeadTooLong => "head longer than 65000 bytes",
            Malformed::NoEndOfHead => "no empty line after the headers",
            Malformed::StartLine => "malformed start line",
            Malformed::Version => "unknown sip version",
            Malformed::StrayLineBreak => "cr or lf outside a line end",
            Malformed::HeaderLine => "header line without a name",
            Malformed::ControlByte => "control byte in a header",
            Malformed::TooManyHeaders => "more than 200 headers",
            Malformed::ContentLength => "malformed content-length",
            Malformed::ContentLengthRepeated => "content-length stands twice",
            Malformed::ContentLengthMissing => "no content-length on a stream",
            Malformed::BodyShort => "body shorter than its content-length",
            Malformed::BodyTooLong => "body longer than 1048576 bytes",
        })
    }
}

impl std::error::Error for Malformed {}

/// A span of the head; a head is never longer than 65,000 bytes.
#[derive(Clone, Copy)]
struct Span {
    start: u16,
    end: u16,
}

#[derive(Clone, Copy)]
struct Field {
    name: HeaderName,
    name_text: Span,
    value: Span,
}

/// A received message.
///
/// Cheap to clone: the bytes are shared. Indexing makes one allocation for up to 24 headers.
#[derive(Clone)]
pub struct Message {
    raw: Bytes,
    /// The start line and the headers: the same bytes, known to be UTF-8, so that no view has to look again.
    head: ByteString,
    start: StartLine,
    /// The Request-URI, or the reason phrase.
    start_text: Span,
    /// The method's text.
    method_text: Span,
    fields: Vec<Field>,
    body: (usize, usize),
    malformed: Option<Malformed>,
}

impl Message {
    /// Indexes a message that is a datagram: what follows the body is dropped (RFC 3261 s18.3).
    ///
    /// # Errors
    /// Only for bytes that cannot be indexed at all, and so not be answered; everything else that is wrong with the
    /// form is kept in [`Message::malformed`].
    pub fn parse(raw: Bytes) -> Result<Message, Malformed> {
        let end = match memmem::find(&raw, b"\r\n\r\n") {
            Some(end) => end,
            None if raw.iter().all(|byte| b"\r\n\0 ".contains(byte)) => return Err(Malformed::Empty),
            None => return Err(Malformed::NoEndOfHead),
        };
        let mut message = Message::parse_head(raw, end)?;
        message.frame_body(false);
        Ok(message)
    }

    /// Indexes one whole message cut from a stream, where a Content-Length is needed (RFC 3261 s20.14).
    pub fn parse_framed(raw: Bytes) -> Result<Message, Malformed> {
        let end = memmem::find(&raw, b"\r\n\r\n").ok_or(Malformed::NoEndOfHead)?;
        let mut message = Message::parse_head(raw, end)?;
        message.frame_body(true);
        Ok(message)
    }

    /// Indexes a head that ends at `end`, before the empty line, leaving the body open.
    pub(crate) fn parse_head(raw: Bytes, end: usize) -> Result<Message, Malformed> {
        if end > limits::HEAD_BYTES {
            return Err(Malformed::HeadTooLong);
        }
        let text = ByteString::try_from(raw.slice(..end)).map_err(|_| Malformed::NotUtf8)?;
        let head = &*text;
        let mut lines = Lines { head, at: 0 };
        let (line_start, line_end) =
            lines.next_line().filter(|(start, end)| start < end).ok_or(Malformed::StartLine)?;
        let (start, method_text, start_text, mut malformed) = parse_start_line(head, line_start, line_end)?;
        let mut fields = Vec::with_capacity(24);
        while let Some((from, to)) = lines.next_line() {
            match parse_field(head, from, to) {
                Ok(_) if fields.len() >= limits::HEADERS => malformed = malformed.or(Some(Malformed::TooManyHeaders)),
                Ok(field) => fields.push(field),
                Err(error) => malformed = malformed.or(Some(error)),
            }
        }
        let body = (end + 4, raw.len());
        Ok(Message { raw, head: text, start, start_text, method_text, fields, body, malformed })
    }

    fn frame_body(&mut self, stream: bool) {
        let available = self.raw.len().saturating_sub(self.body.0);
        match self.content_length() {
            Ok(None) if stream => self.note(Malformed::ContentLengthMissing),
            Ok(None) => {}
            Ok(Some(length)) if length > available => self.note(Malformed::BodyShort),
            Ok(Some(length)) => self.body.1 = self.body.0 + length,
            Err(error) => self.note(error),
        }
        if self.body.1.saturating_sub(self.body.0) > limits::BODY_BYTES {
            self.note(Malformed::BodyTooLong);
        }
    }

    /// This head without a body, with what is wrong with its framing.
    #[cfg(feature = "net")]
    pub(crate) fn broken(mut self, error: Malformed) -> Message {
        self.malformed = Some(error);
        self
    }

    fn note(&mut self, error: Malformed) {
        self.malformed = self.malformed.or(Some(error));
    }

    /// What is wrong with the form, if the message could be indexed all the same.
    pub fn malformed(&self) -> Option<Malformed> {
        self.malformed
    }

    pub fn start(&self) -> StartLine {
        self.start
    }

    /// The method of a request.
    pub fn method(&self) -> Option<Method> {
        match self.start {
            StartLine::Request(method) => Some(method),
            StartLine::Response(_) => None,
        }
    }

    pub fn is_request(&self) -> bool {
        self.method().is_some()
    }

    /// The status code of a response; 0 of a request.
    pub fn status(&self) -> u16 {
        match self.start {
            StartLine::Response(code) => code,
            StartLine::Request(_) => 0,
        }
    }

    /// The method as it is written, also one that we do not know.
    pub fn method_text(&self) -> &str {
        self.text(self.method_text)
    }

    /// The Request-URI; the reason phrase of a response.
    pub fn request_uri(&self) -> &str {
        self.text(self.start_text)
    }

    pub fn reason_phrase(&self) -> &str {
        self.text(self.start_text)
    }

    /// The first value of a header, line folds and all.
    pub fn header(&self, name: HeaderName) -> Option<&str> {
        self.headers(name).next()
    }

    /// Every line of a header, in order. A line may hold several values: see [`Message::values`].
    pub fn headers(&self, name: HeaderName) -> impl Iterator<Item = &str> {
        self.fields.iter().filter(move |field| field.name == name).map(|field| self.text(field.value))
    }

    /// Every value of a comma-separated header, in order.
    pub fn values(&self, name: HeaderName) -> impl Iterator<Item = &str> {
        self.headers(name).flat_map(split_commas)
    }

    /// Name and value of every header line, in order.
    pub fn all_headers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.fields.iter().map(|field| (self.text(field.name_text), self.text(field.value)))
    }

    /// The first value of a header that we have no number for.
    pub fn other_header(&self, name: &str) -> Option<&str> {
        self.all_headers().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    pub(crate) fn count(&self, name: HeaderName) -> usize {
        self.fields.iter().filter(|field| field.name == name).count()
    }

    pub fn top_via(&self) -> Option<Via<'_>> {
        Via::parse(self.values(HeaderName::Via).next()?).ok()
    }

    pub fn from(&self) -> Result<Address<'_>, UriError> {
        Address::parse(self.header(HeaderName::From).unwrap_or(""))
    }

    pub fn to(&self) -> Result<Address<'_>, UriError> {
        Address::parse(self.header(HeaderName::To).unwrap_or(""))
    }

    pub fn from_tag(&self) -> Option<&str> {
        super::address::tag_of(self.header(HeaderName::From)?)
    }

    pub fn to_tag(&self) -> Option<&str> {
        super::address::tag_of(self.header(HeaderName::To)?)
    }

    /// Empty where there is none.
    pub fn call_id(&self) -> &str {
        self.header(HeaderName::CallId).unwrap_or("")
    }

    /// Number and method of the CSeq; the number is below 2^31 (RFC 3261 s8.1.1.5).
    pub fn cseq(&self) -> Option<(u32, &str)> {
        let text = self.header(HeaderName::CSeq)?;
        let (number, method) = text.split_at(text.bytes().position(|byte| byte.is_ascii_whitespace())?);
        let number = parse_number(number).filter(|number| *number < 1 << 31)?;
        Some((number, method.trim_ascii()))
    }

    pub fn max_forwards(&self) -> Option<u32> {
        self.header(HeaderName::MaxForwards).and_then(parse_number)
    }

    pub fn expires(&self) -> Option<u32> {
        self.header(HeaderName::Expires).and_then(parse_number)
    }

    /// Media type of the body without parameters, in lower case.
    pub fn content_type(&self) -> Option<String> {
        let value = self.header(HeaderName::ContentType)?;
        Some(
            value
                .split(';')
                .next()
                .unwrap_or("")
                .chars()
                .filter(|c| !c.is_whitespace())
                .collect::<String>()
                .to_ascii_lowercase(),
        )
    }

    pub fn body(&self) -> Bytes {
        if self.body.0 >= self.body.1 { Bytes::new() } else { self.raw.slice(self.body.0..self.body.1) }
    }

    /// The bytes as they came.
    pub fn raw(&self) -> &Bytes {
        &self.raw
    }

    /// The Content-Length, if there is one.
    pub(crate) fn content_length(&self) -> Result<Option<usize>, Malformed> {
        let Some(value) = self.header(HeaderName::ContentLength) else { return Ok(None) };
        if self.count(HeaderName::ContentLength) > 1 {
            return Err(Malformed::ContentLengthRepeated);
        }
        parse_number(value).map(|length| Some(length as usize)).ok_or(Malformed::ContentLength)
    }

    fn text(&self, span: Span) -> &str {
        // Spans begin and end at ASCII bytes.
        self.head.get(span.start as usize..span.end as usize).unwrap_or("")
    }
}

/// Digits only: no sign, no white space but around it.
pub(crate) fn parse_number(text: &str) -> Option<u32> {
    let text = text.trim_ascii();
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) { None } else { text.parse().ok() }
}

/// Puts a header value on one line: a fold is a single space (RFC 3261 s7.3.1).
pub fn unfold(value: &str) -> Cow<'_, str> {
    if value.contains("\r\n") {
        Cow::Owned(value.split("\r\n").map(str::trim_ascii).collect::<Vec<_>>().join(" "))
    } else {
        Cow::Borrowed(value)
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.start {
            StartLine::Request(_) => write!(f, "{} {}", self.method_text(), self.request_uri()),
            StartLine::Response(code) => write!(f, "{code} {}", self.reason_phrase()),
        }
    }
}

impl PartialEq for Message {
    fn eq(&self, other: &Message) -> bool {
        self.raw == other.raw
    }
}

impl Serialize for Message {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.raw.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Message {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Message::parse(Bytes::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// Logical lines of a head: a line that begins with white space continues the one before.
struct Lines<'a> {
    head: &'a str,
    at: usize,
}

impl Lines<'_> {
    fn next_line(&mut self) -> Option<(usize, usize)> {
        let bytes = self.head.as_bytes();
        if self.at > bytes.len() || (self.at == bytes.len() && self.at > 0) {
            return None;
        }
        let start = self.at;
        let mut search = start;
        loop {
            match memchr::memchr(b'\n', &bytes[search..]).map(|found| search + found) {
                Some(end) if matches!(bytes.get(end + 1), Some(b' ' | b'\t')) && start > 0 => search = end + 1,
                Some(end) => {
                    self.at = end + 1;
                    let line_end = if end > start && bytes[end - 1] == b'\r' { end - 1 } else { end };
                    return Some((start, line_end));
                }
                None => {
                    self.at = bytes.len() + 1;
                    return Some((start, bytes.len()));
                }
            }
        }
    }
}

type Start = (StartLine, Span, Span, Option<Malformed>);

fn parse_start_line(head: &str, from: usize, to: usize) -> Result<Start, Malformed> {
    let line = &head[from..to];
    if line.bytes().any(|byte| byte.is_ascii_control() && byte != b'\t') {
        return Err(Malformed::StartLine);
    }
    let (first, rest) = scan::split_once(line, b' ').ok_or(Malformed::StartLine)?;
    let span = |text: &str| span_of(head, text);
    if first.get(..4).is_some_and(|name| name.eq_ignore_ascii_case("SIP/")) {
        let (code, reason) = scan::split_once(rest, b' ').unwrap_or((rest, &rest[rest.len()..]));
        let number = if code.len() == 3 { parse_number(code).filter(|code| (100..700).contains(code)) } else { None };
        let fault = if !first.eq_ignore_ascii_case("SIP/2.0") {
            Some(Malformed::Version)
        } else {
            number.is_none().then_some(Malformed::StartLine)
        };
        return Ok((StartLine::Response(number.unwrap_or(0) as u16), span(code), span(reason), fault));
    }
    if first.is_empty() || !scan::TOKEN.has_all_of(first) {
        return Err(Malformed::StartLine);
    }
    let trimmed = rest.trim_ascii_end();
    let last = scan::rfind(trimmed, b' ').ok_or(Malformed::StartLine)?;
    let (uri, version) = (&trimmed[..last], &trimmed[last + 1..]);
    if !version.get(..4).is_some_and(|name| name.eq_ignore_ascii_case("SIP/")) {
        return Err(Malformed::StartLine);
    }
    let fault = if trimmed.len() < rest.len()
        || uri.is_empty()
        || uri.bytes().any(|byte| matches!(byte, b' ' | b'\t' | b'<' | b'>'))
    {
        Some(Malformed::StartLine)
    } else if !version.eq_ignore_ascii_case("SIP/2.0") {
        Some(Malformed::Version)
    } else {
        None
    };
    Ok((StartLine::Request(Method::from_text(first)), span(first), span(uri), fault))
}

fn parse_field(head: &str, from: usize, to: usize) -> Result<Field, Malformed> {
    let line = &head[from..to];
    let (name, value) = scan::split_once(line, b':').ok_or(Malformed::HeaderLine)?;
    // Before the colon there may be spaces and tabs, but no fold.
    let end = name.bytes().rposition(|byte| !matches!(byte, b' ' | b'\t')).map_or(0, |last| last + 1);
    let (name, value) = (&name[..end], scan::trim_lws(value));
    if name.is_empty() || !scan::TOKEN.has_all_of(name) {
        return Err(Malformed::HeaderLine);
    }
    // Without an early end, so that the compiler takes many bytes at a time.
    if value.bytes().fold(false, |found, byte| found | (byte < 0x20 && byte != b'\t')) {
        check_control_bytes(value)?;
    }
    Ok(Field { name: HeaderName::from_text(name), name_text: span_of(head, name), value: span_of(head, value) })
}

/// Line breaks only as folds, other control bytes only as quoted pairs in a quoted string (RFC 3261 s25.1).
fn check_control_bytes(value: &str) -> Result<(), Malformed> {
    let bytes = value.as_bytes();
    let mut quoted = false;
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'\r' if bytes[at..].starts_with(b"\r\n ") || bytes[at..].starts_with(b"\r\n\t") => at += 2,
            b'\r' | b'\n' => return Err(Malformed::StrayLineBreak),
            b'\\' if quoted => at += 1,
            b'"' => quoted = !quoted,
            byte if byte < 0x20 && byte != b'\t' => return Err(Malformed::ControlByte),
            _ => {}
        }
        at += 1;
    }
    Ok(())
}

fn span_of(head: &str, part: &str) -> Span {
    let start = part.as_ptr() as usize - head.as_ptr() as usize;
    // A head is at most 65,000 bytes, so both fit.
    Span { start: start as u16, end: (start + part.len()) as u16 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Message, Malformed> {
        Message::parse(Bytes::copy_from_slice(text.as_bytes()))
    }

    #[test]
    fn headers_are_found_long_compact_and_folded() {
        let message = parse(
            "OPTIONS sip:a@b SIP/2.0\r\nv: SIP/2.0/UDP h;branch=z9hG4bK1\r\nSUBJECT : one\r\n two\r\nX-A: 1\r\n\r\n",
        )
        .unwrap();
        assert_eq!(message.method(), Some(Method::Options));
        assert_eq!(message.request_uri(), "sip:a@b");
        assert_eq!(message.top_via().unwrap().branch(), Some("z9hG4bK1"));
        assert_eq!(unfold(message.header(HeaderName::Subject).unwrap()), "one two");
        assert_eq!(message.other_header("x-a"), Some("1"));
        assert_eq!(message.malformed(), None);
    }

    #[test]
    fn body_is_cut_at_content_length() {
        let message = parse("SIP/2.0 200 OK\r\nl: 2\r\n\r\nabcd").unwrap();
        assert_eq!((message.status(), message.body().as_ref()), (200, b"ab".as_ref()));
    }

    #[test]
    fn faults_of_form_are_kept_and_the_rest_is_read() {
        for (text, fault) in [
            ("INVITE  sip:a@b SIP/2.0\r\nTo: x\r\n\r\n", Malformed::StartLine),
            ("INVITE sip:a@b SIP/2.0 \r\nTo: x\r\n\r\n", Malformed::StartLine),
            ("INVITE sip:a@b SIP/2.0\t\r\nTo: x\r\n\r\n", Malformed::StartLine),
            ("INVITE sip:a@b SIP/7.0\r\nTo: x\r\n\r\n", Malformed::Version),
            ("INVITE sip:a@b SIP/2.0\r\nTo: x\r\nno colon here\r\n\r\n", Malformed::HeaderLine),
            ("INVITE sip:a@b SIP/2.0\r\nTo: x\r\nl: -1\r\n\r\n", Malformed::ContentLength),
            (
                "INVITE sip:a@b SIP/2.0\r\nTo: x\r\nl: 1\r\nContent-Length: 1\r\n\r\nab",
                Malformed::ContentLengthRepeated,
            ),
            ("INVITE sip:a@b SIP/2.0\r\nTo: x\r\nl: 9\r\n\r\nab", Malformed::BodyShort),
            ("INVITE sip:a@b SIP/2.0\r\nTo: x\r\nSubject: a\rb\r\n\r\n", Malformed::StrayLineBreak),
        ] {
            let message = parse(text).unwrap();
            assert_eq!(message.malformed(), Some(fault), "{text:?}");
            assert_eq!(message.header(HeaderName::To), Some("x"));
        }
    }

    #[test]
    fn what_cannot_be_indexed_is_an_error() {
        for (text, error) in [
            ("", Malformed::Empty),
            ("\r\n\r\n", Malformed::StartLine),
            ("\r\n", Malformed::Empty),
            ("hello", Malformed::NoEndOfHead),
            ("GET / HTTP/1.1\r\n\r\n", Malformed::StartLine),
        ] {
            assert_eq!(parse(text).err(), Some(error), "{text:?}");
        }
    }
}
