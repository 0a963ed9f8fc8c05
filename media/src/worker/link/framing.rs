//! Messages on a stream: four bytes of length, most significant first, and that many of protobuf.

use std::fmt;

use bytes::{Buf, Bytes, BytesMut};
use prost::Message;
use quinn::{ReadError, RecvStream, SendStream, WriteError};

/// What is longer is no message of ours.
const MAX_MESSAGE: usize = 1 << 20;
/// Audio: ten minutes at 48 kHz and more.
pub(super) const MAX_AUDIO: usize = 64 << 20;
/// Read from the connection at once.
const CHUNK: usize = 64 << 10;
const PREFIX: usize = 4;

/// Why a stream gives no more messages.
#[derive(Debug)]
pub enum FramingError {
    Read(ReadError),
    /// The stream ended inside a message.
    Cut,
    TooLong(usize),
    Malformed(prost::DecodeError),
}

impl fmt::Display for FramingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FramingError::Read(error) => error.fmt(f),
            FramingError::Cut => f.write_str("the stream ended inside a message"),
            FramingError::TooLong(len) => write!(f, "a message of {len} bytes"),
            FramingError::Malformed(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for FramingError {}

/// The messages that come by a stream.
pub struct Incoming {
    stream: RecvStream,
    buffer: BytesMut,
}

impl Incoming {
    pub fn new(stream: RecvStream) -> Incoming {
        Incoming { stream, buffer: BytesMut::new() }
    }

    /// The next message, `None` where the stream is over. Cancel-safe.
    pub async fn next<M: Message + Default>(&mut self) -> Result<Option<M>, FramingError> {
        loop {
            if let Some(message) = cut(&mut self.buffer)? {
                return M::decode(message).map(Some).map_err(FramingError::Malformed);
            }
            match self.stream.read_chunk(CHUNK, true).await.map_err(FramingError::Read)? {
                Some(chunk) => self.buffer.extend_from_slice(&chunk.bytes),
                None if self.buffer.is_empty() => return Ok(None),
                None => return Err(FramingError::Cut),
            }
        }
    }
}

/// Takes a whole message off the front.
fn cut(buffer: &mut BytesMut) -> Result<Option<Bytes>, FramingError> {
    let Some(prefix) = buffer.first_chunk::<PREFIX>() else { return Ok(None) };
    let len = u32::from_be_bytes(*prefix) as usize;
    if len > MAX_MESSAGE {
        return Err(FramingError::TooLong(len));
    }
    if buffer.len() < PREFIX + len {
        return Ok(None);
    }
    buffer.advance(PREFIX);
    Ok(Some(buffer.split_to(len).freeze()))
}

/// The messages that go out by a stream.
pub struct Outgoing {
    stream: SendStream,
    buffer: BytesMut,
}

impl Outgoing {
    pub fn new(stream: SendStream) -> Outgoing {
        Outgoing { stream, buffer: BytesMut::new() }
    }

    /// Puts a message behind those that wait for [`Outgoing::flush`].
    pub fn push(&mut self, message: &impl Message) {
        let len = message.encoded_len();
        self.buffer.reserve(PREFIX + len);
        self.buffer.extend_from_slice(&u32::try_from(len).unwrap_or(u32::MAX).to_be_bytes());
        message.encode(&mut self.buffer).expect("the buffer grows as it must");
    }

    /// Waits until the connection has taken everything. Not cancel-safe.
    pub async fn flush(&mut self) -> Result<(), WriteError> {
        let all = self.buffer.split().freeze();
        self.stream.write_chunk(all).await
    }

    pub async fn send(&mut self, message: &impl Message) -> Result<(), WriteError> {
        self.push(message);
        self.flush().await
    }

    /// Nothing more comes.
    pub fn finish(&mut self) {
        // An error means that it is over already.
        let _ = self.stream.finish();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::{Command, CommandKind};

    #[test]
    fn message_is_cut_off_where_it_ends_and_not_before_it_is_whole() {
        let command = Command { command_id: 7, session_id: 9, owner_epoch: 1, kind: Some(CommandKind::DropLeg(3)) };
        let encoded = command.encode_to_vec();
        let mut whole = BytesMut::from(&(encoded.len() as u32).to_be_bytes()[..]);
        whole.extend_from_slice(&encoded);
        let mut buffer = BytesMut::new();
        for byte in &whole[..whole.len() - 1] {
            buffer.extend_from_slice(&[*byte]);
            assert!(cut(&mut buffer).unwrap().is_none());
        }
        buffer.extend_from_slice(&whole[whole.len() - 1..]);
        buffer.extend_from_slice(&whole);
        for _ in 0..2 {
            assert_eq!(Command::decode(cut(&mut buffer).unwrap().unwrap()).unwrap(), command);
        }
        assert!(cut(&mut buffer).unwrap().is_none());
    }

    #[test]
    fn length_that_no_message_has_is_an_error_at_once() {
        let mut buffer = BytesMut::from(&0x7FFF_FFFFu32.to_be_bytes()[..]);
        assert!(matches!(cut(&mut buffer), Err(FramingError::TooLong(_))));
    }
}
