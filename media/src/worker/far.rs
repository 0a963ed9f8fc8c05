//! Links to sessions of other workers: their frames, encrypted, over one socket.
//!
//! An edge that places the two ends of a link on two workers gives both the same fresh key, by
//! [`LinkRoute`](crate::proto::LinkRoute). A frame is a header of 16 bytes in the clear (the link, and a count that no frame
//! of that key has had), 20 ms of 16-bit samples or none, a digit or none, and the tag of ChaCha20-Poly1305 (RFC 8439). What
//! does not open, or comes twice, is dropped and counted; what comes late is as lost.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;

use mio::net::UdpSocket;
use mio::{Interest, Registry, Token};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};

use crate::dtmf::Key;
use crate::ids::LinkKey;
use crate::playout::FRAME_SAMPLES;
use crate::proto::LinkRoute;
use crate::session::Frame;

const HEADER: usize = 16;
const NO_KEY: u8 = 0;
const MAX_FRAME: usize = HEADER + 1 + FRAME_SAMPLES * 2 + 16;

/// The links of a shard whose other ends are elsewhere.
pub(super) struct FarLinks {
    socket: UdpSocket,
    routes: HashMap<LinkKey, Route>,
    /// Frames that did not open, or came twice.
    pub dropped: u64,
}

struct Route {
    to: SocketAddr,
    key: LessSafeKey,
    is_first: bool,
    sent: u64,
    received: u64,
}

impl FarLinks {
    pub fn new(socket: &std::net::UdpSocket, registry: &Registry, token: Token) -> io::Result<FarLinks> {
        let socket = socket.try_clone()?;
        socket.set_nonblocking(true)?;
        let mut socket = UdpSocket::from_std(socket);
        registry.register(&mut socket, token, Interest::READABLE)?;
        Ok(FarLinks { socket, routes: HashMap::new(), dropped: 0 })
    }

    /// The other end of a link is there, or with an empty address here again.
    pub fn set(&mut self, route: &LinkRoute) {
        let link = LinkKey(route.key);
        let key = UnboundKey::new(&CHACHA20_POLY1305, &route.secret).map(LessSafeKey::new);
        match (route.address.parse(), key) {
            (Ok(to), Ok(key)) => {
                self.routes.insert(link, Route { to, key, is_first: route.is_first, sent: 0, received: 0 });
            }
            _ => {
                self.routes.remove(&link);
            }
        }
    }

    /// The last end of the link here is gone.
    pub fn forget(&mut self, link: LinkKey) {
        self.routes.remove(&link);
    }

    /// Sends a frame to the other end, if that is elsewhere; what the kernel does not take is lost, as on a network.
    pub fn send(&mut self, link: LinkKey, frame: &Frame) {
        let Some(route) = self.routes.get_mut(&link) else { return };
        route.sent += 1;
        let mut bytes = Vec::with_capacity(MAX_FRAME);
        bytes.extend_from_slice(&link.0.to_be_bytes());
        bytes.extend_from_slice(&route.sent.to_be_bytes());
        let header: [u8; HEADER] = bytes[..].try_into().expect("two numbers");
        bytes.push(frame.key.map_or(NO_KEY, |key| key.symbol() as u8));
        for sample in frame.samples.iter().flatten() {
            bytes.extend_from_slice(&sample.to_be_bytes());
        }
        let nonce = nonce(route.is_first, route.sent);
        let (clear, secret) = bytes.split_at_mut(HEADER);
        debug_assert_eq!(clear, header);
        if let Ok(tag) = route.key.seal_in_place_separate_tag(nonce, Aad::from(header), secret) {
            bytes.extend_from_slice(tag.as_ref());
            let _ = self.socket.send_to(&bytes, route.to);
        }
    }

    /// The next frame that came for a link.
    pub fn receive(&mut self) -> Option<(LinkKey, Frame)> {
        let mut buffer = [0; MAX_FRAME + 1];
        loop {
            match self.socket.recv_from(&mut buffer) {
                Ok((len, _)) => match self.open(&mut buffer[..len]) {
                    Some(opened) => return Some(opened),
                    None => self.dropped += 1,
                },
                Err(fault) if fault.kind() == io::ErrorKind::WouldBlock => return None,
                // An ICMP answer to something that we sent.
                Err(_) => {}
            }
        }
    }

    fn open(&mut self, bytes: &mut [u8]) -> Option<(LinkKey, Frame)> {
        let header: [u8; HEADER] = *bytes.first_chunk()?;
        let number = |at: usize| u64::from_be_bytes(header[at..at + 8].try_into().expect("eight bytes"));
        let (link, count) = (LinkKey(number(0)), number(8));
        let route = self.routes.get_mut(&link)?;
        if count <= route.received {
            return None;
        }
        let opened =
            route.key.open_in_place(nonce(!route.is_first, count), Aad::from(header), &mut bytes[HEADER..]).ok()?;
        route.received = count;
        let (key, samples) = opened.split_first()?;
        let samples = match samples.len() {
            0 => None,
            len if len == FRAME_SAMPLES * 2 => {
                let mut frame = [0; FRAME_SAMPLES];
                for (sample, pair) in frame.iter_mut().zip(samples.chunks_exact(2)) {
                    *sample = i16::from_be_bytes([pair[0], pair[1]]);
                }
                Some(frame)
            }
            _ => return None,
        };
        Some((link, Frame { samples, key: Key::from_char(char::from(*key)) }))
    }
}

/// The two ends count for themselves.
fn nonce(is_first: bool, count: u64) -> Nonce {
    let mut nonce = [0; 12];
    nonce[0] = u8::from(is_first);
    nonce[4..].copy_from_slice(&count.to_be_bytes());
    Nonce::assume_unique_for_key(nonce)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use mio::Poll;
    use std::net::Ipv4Addr;

    fn ends() -> (FarLinks, FarLinks, Poll, [SocketAddr; 2]) {
        let poll = Poll::new().unwrap();
        let socket = || std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let sockets = [socket(), socket()];
        let addresses = sockets.each_ref().map(|socket| socket.local_addr().unwrap());
        let end = |at: usize| FarLinks::new(&sockets[at], poll.registry(), Token(at)).unwrap();
        (end(0), end(1), poll, addresses)
    }

    fn route(to: SocketAddr, secret: u8, is_first: bool) -> LinkRoute {
        LinkRoute { key: 9, address: to.to_string(), secret: Bytes::from(vec![secret; 32]), is_first }
    }

    fn frame(level: i16) -> Frame {
        Frame { samples: Some([level; FRAME_SAMPLES]), key: None }
    }

    fn arrived(end: &mut FarLinks) -> Option<(LinkKey, Frame)> {
        (0..100).find_map(|_| {
            std::thread::sleep(std::time::Duration::from_millis(1));
            end.receive()
        })
    }

    #[test]
    fn frames_and_digits_go_both_ways() {
        let (mut one, mut two, _poll, [first, second]) = ends();
        one.set(&route(second, 1, true));
        two.set(&route(first, 1, false));
        one.send(LinkKey(9), &frame(7));
        assert_eq!(arrived(&mut two), Some((LinkKey(9), frame(7))));
        let digit = Frame { samples: None, key: Key::from_char('#') };
        assert!(digit.key.is_some());
        two.send(LinkKey(9), &digit);
        assert_eq!(arrived(&mut one), Some((LinkKey(9), digit)));
        one.send(LinkKey(8), &frame(1));
        assert!(arrived(&mut two).is_none(), "no route");
    }

    #[test]
    fn frame_of_another_key_or_that_came_before_is_dropped() {
        let (mut one, mut two, _poll, [first, second]) = ends();
        one.set(&route(second, 1, true));
        two.set(&route(first, 2, false));
        one.send(LinkKey(9), &frame(7));
        assert!(arrived(&mut two).is_none(), "another key");
        two.set(&route(first, 1, false));
        one.set(&route(second, 1, true));
        one.send(LinkKey(9), &frame(7));
        assert!(arrived(&mut two).is_some());
        // The same count again, as if it were recorded and sent anew.
        one.set(&route(second, 1, true));
        one.send(LinkKey(9), &frame(7));
        assert!(arrived(&mut two).is_none(), "it came before");
        // Its own frame, sent back.
        two.set(&route(second, 1, true));
        assert_eq!(two.dropped, 2);
    }
}
