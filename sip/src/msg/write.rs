//! Writes messages into one buffer.
//!
//! Values are checked at the last moment: a CR or LF in a value would begin a header of its own, so such a byte is
//! written as a space (or a peer could inject headers). Callers refuse bad input earlier; this is the second lock.

use std::fmt::{self, Write as _};

use bytes::{BufMut, Bytes, BytesMut};

use super::header::HeaderName;
use super::message::Message;

/// What a header may hold. Texts and numbers, which nearly all of them are, go without formatting.
pub trait Value {
    fn write_to(&self, buffer: &mut BytesMut);
}

impl Value for &str {
    fn write_to(&self, buffer: &mut BytesMut) {
        buffer.put_slice(self.as_bytes());
    }
}

impl Value for &String {
    fn write_to(&self, buffer: &mut BytesMut) {
        self.as_str().write_to(buffer);
    }
}

impl Value for String {
    fn write_to(&self, buffer: &mut BytesMut) {
        self.as_str().write_to(buffer);
    }
}

impl Value for u64 {
    fn write_to(&self, buffer: &mut BytesMut) {
        itoa::Buffer::new().format(*self).write_to(buffer);
    }
}

impl Value for fmt::Arguments<'_> {
    fn write_to(&self, buffer: &mut BytesMut) {
        let _ = buffer.write_fmt(*self);
    }
}

/// A message being written.
pub struct Writer {
    buffer: BytesMut,
}

impl Writer {
    /// Begins a request with its start line.
    pub fn request(method: &str, uri: &str) -> Writer {
        let mut writer = Writer { buffer: BytesMut::with_capacity(1024) };
        writer.put(method).put(" ").put(uri).put(" SIP/2.0\r\n");
        writer
    }

    /// Begins a response with its status line; an empty reason is the usual one.
    pub fn response(status: u16, reason: &str) -> Writer {
        let mut writer = Writer { buffer: BytesMut::with_capacity(1024) };
        let reason = if reason.is_empty() { reason_phrase(status) } else { reason };
        writer.put("SIP/2.0 ").put(itoa::Buffer::new().format(status)).put(" ").put(reason).put("\r\n");
        writer
    }

    pub fn header(&mut self, name: HeaderName, value: impl Value) -> &mut Writer {
        self.named(name.as_str(), value)
    }

    /// A header by its text.
    pub fn named(&mut self, name: &str, value: impl Value) -> &mut Writer {
        self.put(name).put(": ");
        let start = self.buffer.len();
        value.write_to(&mut self.buffer);
        for byte in &mut self.buffer[start..] {
            if *byte < 0x20 && *byte != b'\t' {
                *byte = b' ';
            }
        }
        self.put("\r\n")
    }

    /// Every line of a header of `from`, in order and as they were written.
    pub fn copy(&mut self, name: HeaderName, from: &Message) -> &mut Writer {
        for value in from.headers(name) {
            self.put(name.as_str()).put(": ").put(value).put("\r\n");
        }
        self
    }

    /// The first line of a header of `from` that may stand once only: what a bad request repeats is not repeated.
    pub fn copy_first(&mut self, name: HeaderName, from: &Message) -> &mut Writer {
        if let Some(value) = from.header(name) {
            self.put(name.as_str()).put(": ").put(value).put("\r\n");
        }
        self
    }

    /// Ends the head, adds the body, and gives the message.
    pub fn finish(mut self, content_type: &str, body: &[u8]) -> Bytes {
        if !body.is_empty() {
            self.header(HeaderName::ContentType, content_type);
        }
        self.header(HeaderName::ContentLength, body.len() as u64);
        self.put("\r\n");
        self.buffer.put_slice(body);
        // A copy of the right size: responses are kept for half a minute, and the rest of the buffer with them.
        Bytes::copy_from_slice(&self.buffer)
    }

    fn put(&mut self, text: &str) -> &mut Writer {
        self.buffer.put_slice(text.as_bytes());
        self
    }
}

/// The usual reason phrase (RFC 3261 s21 and the RFCs that added codes).
pub fn reason_phrase(status: u16) -> &'static str {
    match status {
        100 => "Trying",
        180 => "Ringing",
        181 => "Call Is Being Forwarded",
        182 => "Queued",
        183 => "Session Progress",
        200 => "OK",
        202 => "Accepted",
        302 => "Moved Temporarily",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        407 => "Proxy Authentication Required",
        408 => "Request Timeout",
        410 => "Gone",
        412 => "Conditional Request Failed",
        413 => "Request Entity Too Large",
        415 => "Unsupported Media Type",
        416 => "Unsupported URI Scheme",
        420 => "Bad Extension",
        421 => "Extension Required",
        423 => "Interval Too Brief",
        480 => "Temporarily Unavailable",
        481 => "Call/Transaction Does Not Exist",
        482 => "Loop Detected",
        483 => "Too Many Hops",
        484 => "Address Incomplete",
        486 => "Busy Here",
        487 => "Request Terminated",
        488 => "Not Acceptable Here",
        489 => "Bad Event",
        491 => "Request Pending",
        500 => "Server Internal Error",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        504 => "Server Time-out",
        505 => "Version Not Supported",
        513 => "Message Too Large",
        600 => "Busy Everywhere",
        603 => "Decline",
        604 => "Does Not Exist Anywhere",
        606 => "Not Acceptable",
        _ => match status / 100 {
            1 => "Progress",
            2 => "OK",
            3 => "Redirection",
            4 => "Request Failure",
            5 => "Server Failure",
            _ => "Global Failure",
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threat_13_a_line_break_in_a_value_begins_no_header() {
        let mut writer = Writer::response(200, "");
        writer.named("X-Name", "a\r\nInjected: yes");
        let message = Message::parse(writer.finish("", b"")).unwrap();
        assert_eq!(message.other_header("Injected"), None);
        assert_eq!(message.other_header("X-Name"), Some("a  Injected: yes"));
    }

    #[test]
    fn response_carries_the_copied_headers_and_its_body() {
        let request = Message::parse(Bytes::from_static(
            b"OPTIONS sip:a SIP/2.0\r\nVia: SIP/2.0/UDP a\r\nv: SIP/2.0/UDP b\r\n\r\n",
        ))
        .unwrap();
        let mut writer = Writer::response(200, "");
        writer.copy(HeaderName::Via, &request);
        let response = Message::parse(writer.finish("application/sdp", b"v=0\r\n")).unwrap();
        assert_eq!(response.headers(HeaderName::Via).collect::<Vec<_>>(), ["SIP/2.0/UDP a", "SIP/2.0/UDP b"]);
        assert_eq!((response.status(), response.body().as_ref()), (200, b"v=0\r\n".as_ref()));
    }
}
