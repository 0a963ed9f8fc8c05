//! Cuts SIP messages out of a byte stream by Content-Length (RFC 3261 s18.3, s20.14).

use bytes::{Buf, Bytes, BytesMut};
use memchr::memmem;

use crate::msg::{Malformed, Message, limits};

/// The bytes of a stream that are not a whole message yet.
#[derive(Default)]
pub(crate) struct Framer {
    buffer: BytesMut,
    /// How far the end of the head was searched for, so that a slow sender costs no quadratic time.
    searched: usize,
    /// How long the message at the front is, once its head was read; zero before.
    needed: usize,
}

/// What a stream holds next.
#[derive(Debug)]
pub(crate) enum Frame {
    Message(Message),
    /// A double CRLF: to be answered by a single one (RFC 5626 s4.4.1).
    Ping,
    /// Where the next message begins is lost. The message, if it can be answered; then the connection closes.
    Broken(Option<Message>, Malformed),
}

impl Framer {
    pub(crate) fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// Whether a message has begun and not ended. A CRLF alone is none: it may be a keep-alive, or half of one.
    pub(crate) fn is_partial(&self) -> bool {
        !b"\r\n\r\n".starts_with(&self.buffer)
    }

    pub(crate) fn next_frame(&mut self) -> Option<Frame> {
        if self.buffer.len() < self.needed {
            return None;
        }
        if self.buffer.starts_with(b"\r\n\r\n") {
            self.buffer.advance(4);
            return Some(Frame::Ping);
        }
        while self.buffer.starts_with(b"\r\n") && self.buffer.len() > 2 && self.buffer[2] != b'\r' {
            self.buffer.advance(2);
        }
        let from = self.searched.saturating_sub(3);
        let Some(end) = memmem::find(&self.buffer[from..], b"\r\n\r\n").map(|found| from + found) else {
            self.searched = self.buffer.len();
            // The longest head may be there but for a part of its end.
            let too_long = self.buffer.len() > limits::HEAD_BYTES + 3;
            return too_long.then_some(Frame::Broken(None, Malformed::HeadTooLong));
        };
        self.searched = end;
        let head = Bytes::copy_from_slice(&self.buffer[..end + 4]);
        let message = match Message::parse_head(head, end) {
            Ok(message) => message,
            Err(error) => return Some(Frame::Broken(None, error)),
        };
        let length = match message.content_length() {
            Ok(Some(length)) if length > limits::BODY_BYTES => {
                return Some(self.broken(message, Malformed::BodyTooLong));
            }
            Ok(Some(length)) => length,
            Ok(None) => return Some(self.broken(message, Malformed::ContentLengthMissing)),
            Err(error) => return Some(self.broken(message, error)),
        };
        self.needed = end + 4 + length;
        if self.buffer.len() < self.needed {
            return None;
        }
        let raw = self.buffer.split_to(self.needed);
        (self.needed, self.searched) = (0, 0);
        // A copy of its own size: a slice would keep the whole read buffer alive as long as the message.
        match Message::parse_framed(Bytes::copy_from_slice(&raw)) {
            Ok(message) => Some(Frame::Message(message)),
            Err(error) => Some(Frame::Broken(None, error)),
        }
    }

    /// What is wrong with the framing is what the sender is told, whatever else is wrong.
    fn broken(&mut self, message: Message, error: Malformed) -> Frame {
        self.buffer.clear();
        (self.needed, self.searched) = (0, 0);
        Frame::Broken(Some(message.broken(error)), error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "OPTIONS sip:a SIP/2.0\r\nCall-ID: 1\r\nContent-Length: 5\r\n\r\nhello";

    fn messages(framer: &mut Framer) -> usize {
        std::iter::from_fn(|| framer.next_frame())
            .filter(|frame| matches!(frame, Frame::Message(message) if message.body() == "hello"))
            .count()
    }

    #[test]
    fn message_is_found_however_it_is_split() {
        let stream = format!("\r\n\r\n{ONE}{ONE}\r\n\r\n{ONE}");
        for split in 0..stream.len() {
            let mut framer = Framer::default();
            let (before, after) = stream.as_bytes().split_at(split);
            framer.buffer().extend_from_slice(before);
            let first = messages(&mut framer);
            framer.buffer().extend_from_slice(after);
            assert_eq!(first + messages(&mut framer), 3, "split at {split}");
            assert!(!framer.is_partial());
        }
    }

    #[test]
    fn crlf_alone_is_no_message_that_has_begun() {
        let mut framer = Framer::default();
        for (read, partial) in [("\r", false), ("\n", false), ("\r", false), ("OPTIONS", true)] {
            framer.buffer().extend_from_slice(read.as_bytes());
            assert!(framer.next_frame().is_none());
            assert_eq!(framer.is_partial(), partial, "{read:?}");
        }
    }

    #[test]
    fn long_body_in_many_reads_costs_one_look_at_the_head() {
        let mut framer = Framer::default();
        framer.buffer().extend_from_slice(b"OPTIONS sip:a SIP/2.0\r\nContent-Length: 1000\r\n\r\n");
        assert!(framer.next_frame().is_none());
        let needed = framer.needed;
        for _ in 0..999 {
            framer.buffer().extend_from_slice(b"x");
            assert!(framer.next_frame().is_none());
        }
        assert_eq!((needed, framer.buffer().len()), (needed, needed - 1));
        framer.buffer().extend_from_slice(b"x");
        assert!(matches!(framer.next_frame(), Some(Frame::Message(message)) if message.body().len() == 1000));
        assert_eq!(framer.needed, 0);
    }

    #[test]
    fn lost_framing_is_told_with_the_message_to_answer() {
        for (text, error, answerable) in [
            ("OPTIONS sip:a SIP/2.0\r\nCall-ID: 1\r\n\r\n", Malformed::ContentLengthMissing, true),
            ("OPTIONS sip:a SIP/2.0\r\nl: -5\r\n\r\n", Malformed::ContentLength, true),
            ("OPTIONS sip:a SIP/2.0\r\nl: 2000000\r\n\r\n", Malformed::BodyTooLong, true),
            ("GET / HTTP/1.1\r\n\r\n", Malformed::StartLine, false),
        ] {
            let mut framer = Framer::default();
            framer.buffer().extend_from_slice(text.as_bytes());
            match framer.next_frame() {
                Some(Frame::Broken(message, found)) => {
                    assert_eq!((found, message.is_some()), (error, answerable));
                    // Its answer is told by what is wrong with it: 413 of a body that is too long.
                    assert!(message.is_none_or(|message| message.malformed() == Some(error)));
                }
                other => panic!("{text:?} gave {other:?}"),
            }
        }
    }

    #[test]
    fn threat_02_head_without_an_end_is_given_up() {
        let mut framer = Framer::default();
        framer.buffer().extend_from_slice(&vec![b'a'; limits::HEAD_BYTES + 4]);
        assert!(matches!(framer.next_frame(), Some(Frame::Broken(None, Malformed::HeadTooLong))));
    }
}
