//! TLS of stream connections, as whoever listens has it: this crate knows when it is wanted and of whom, and no more.

use std::io;
use std::pin::Pin;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::msg::{Address, HeaderName, Message, Uri};

/// A connection both ways.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// A handshake under way.
pub type Securing = Pin<Box<dyn Future<Output = io::Result<Box<dyn Duplex>>> + Send>>;

/// Encrypts connections.
pub trait Security: Send + Sync {
    /// As the server.
    fn accept(&self, stream: TcpStream) -> Securing;

    /// As the client of a server that proves to be `host`: a name, or an address without brackets.
    fn connect(&self, stream: TcpStream, host: &str) -> Securing;
}

/// Whom the receiver of a message must prove to be (RFC 5922 s4): the host that the URI names by which it was looked up, which is the
/// first of its route, else the one that it is for. Of a response it is the host of its topmost Via.
pub(super) fn receiver(bytes: &Bytes) -> Option<String> {
    let message = Message::parse(bytes.clone()).ok()?;
    if !message.is_request() {
        return message.top_via().map(|via| via.sent_by.host.to_owned());
    }
    let route = message.values(HeaderName::Route).next();
    let route = route.and_then(|route| Address::parse(route).ok()).map(|address| address.uri);
    let uri = Uri::parse(route.unwrap_or(message.request_uri())).ok()?.sip()?;
    Some(uri.host.host.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn receiver_is_whom_the_message_goes_to_next() {
        for (text, wanted) in [
            ("INVITE sip:b@carrier.example;transport=tls SIP/2.0\r\n\r\n", Some("carrier.example")),
            (
                "INVITE sip:b@c.example SIP/2.0\r\nRoute: <sip:edge.example;lr>, <sip:x;lr>\r\n\r\n",
                Some("edge.example"),
            ),
            ("BYE sips:[2001:db8::1]:5061 SIP/2.0\r\n\r\n", Some("2001:db8::1")),
            ("SIP/2.0 200 OK\r\nVia: SIP/2.0/TLS phone.example:5061;branch=z9hG4bK1\r\n\r\n", Some("phone.example")),
            ("INVITE tel:+15550100 SIP/2.0\r\n\r\n", None),
        ] {
            assert_eq!(receiver(&Bytes::from(text)).as_deref(), wanted, "{text}");
        }
    }
}
