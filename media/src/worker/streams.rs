//! The connections of browsers that reach no UDP port: their datagrams framed in TCP (RFC 6544, RFC 4571).
//!
//! The browser opens the connection, to the port that all browsers share; what a datagram is for is told as by UDP. One whose
//! first datagrams prove nothing is closed, and so is one that breaks the framing. What the peer takes too slowly is dropped
//! packet by packet, as on a network.

use std::collections::{HashMap, VecDeque};
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};
use slab::Slab;
use socket2::{Domain, Protocol, Socket, Type};

use crate::time::Mono;

/// All connections of a shard.
#[derive(Default)]
pub(super) struct Streams {
    listener: Option<TcpListener>,
    open: Slab<Stream>,
    by_address: HashMap<SocketAddr, usize>,
    /// Those from which nothing has proved to be a browser's, the oldest first; some are over, or have proved it since.
    strangers: VecDeque<(usize, Mono)>,
}

struct Stream {
    socket: TcpStream,
    from: SocketAddr,
    since: Mono,
    is_stranger: bool,
    /// What has come of frames that are not whole, and what the kernel has not taken of ours.
    input: Vec<u8>,
    output: Vec<u8>,
}

impl Streams {
    /// Listens there, if it does not yet.
    pub fn listen(&mut self, at: SocketAddr, registry: &Registry) -> io::Result<()> {
        if self.listener.is_none() {
            let socket = Socket::new(Domain::for_address(at), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
            if at.is_ipv6() {
                socket.set_only_v6(true)?;
            }
            // The connections of a worker before are over, and their ends may be remembered still.
            socket.set_reuse_address(true)?;
            socket.bind(&at.into())?;
            socket.listen(BACKLOG)?;
            let mut listener = TcpListener::from_std(socket.into());
            registry.register(&mut listener, LISTENER, Interest::READABLE)?;
            self.listener = Some(listener);
        }
        Ok(())
    }

    /// Takes who waits to be let in, some of them; whether there may be more.
    pub fn accept(&mut self, registry: &Registry, now: Mono) -> bool {
        for _ in 0..ACCEPTED_A_TURN {
            let Some(Ok((mut socket, from))) = self.listener.as_ref().map(TcpListener::accept) else { return false };
            if self.strangers.len() >= 2 * MAX_STRANGERS {
                // Those that came and went.
                self.strangers = self.strangers().collect();
            }
            if self.open.len() >= MAX_OPEN {
                continue;
            }
            let oldest = self.strangers().next().filter(|_| self.strangers().count() >= MAX_STRANGERS);
            if let Some((oldest, _)) = oldest {
                self.close(oldest);
            }
            // A packet waits for no other.
            let _ = socket.set_nodelay(true);
            let entry = self.open.vacant_entry();
            let key = entry.key();
            if registry.register(&mut socket, token(key), Interest::READABLE | Interest::WRITABLE).is_err() {
                continue;
            }
            let (input, output) = (Vec::new(), Vec::new());
            entry.insert(Stream { socket, from, since: now, is_stranger: true, input, output });
            self.by_address.insert(from, key);
            self.strangers.push_back((key, now));
        }
        true
    }

    /// The next datagram of a connection, and whose it is; `None` when nothing more is there.
    pub fn receive(&mut self, key: usize, into: &mut [u8]) -> Option<(usize, SocketAddr)> {
        let stream = self.open.get_mut(key)?;
        match stream.receive(into) {
            Ok(len) => Some((len?, stream.from)),
            Err(_) => {
                self.close(key);
                None
            }
        }
    }

    /// Sends what the kernel had no room for.
    pub fn writable(&mut self, key: usize) {
        if self.open.get_mut(key).is_some_and(|stream| stream.flush().is_err()) {
            self.close(key);
        }
    }

    /// Sends a datagram, where that is one of ours; whether it is on its way.
    pub fn send(&mut self, to: SocketAddr, datagram: &[u8]) -> Option<bool> {
        let key = *self.by_address.get(&to)?;
        let sent = self.open.get_mut(key)?.send(datagram);
        if sent.is_err() {
            self.close(key);
        }
        Some(sent.unwrap_or(false))
    }

    /// What comes from there is a browser's.
    pub fn prove(&mut self, from: SocketAddr) {
        if let Some(stream) = self.by_address.get(&from).and_then(|key| self.open.get_mut(*key)) {
            stream.is_stranger = false;
        }
    }

    /// Nobody is there any more whose connection it is.
    pub fn close_from(&mut self, from: SocketAddr) {
        if let Some(key) = self.by_address.get(&from) {
            self.close(*key);
        }
    }

    fn close(&mut self, key: usize) {
        if let Some(stream) = self.open.try_remove(key)
            && self.by_address.get(&stream.from) == Some(&key)
        {
            self.by_address.remove(&stream.from);
        }
    }

    fn strangers(&self) -> impl Iterator<Item = (usize, Mono)> + '_ {
        let is_one = |(key, since): &&(usize, Mono)| {
            self.open.get(*key).is_some_and(|stream| stream.is_stranger && stream.since == *since)
        };
        self.strangers.iter().filter(is_one).copied()
    }

    /// When [`Streams::close_outdated`] is next due.
    pub fn next_deadline(&self) -> Option<Mono> {
        self.strangers().next().map(|(_, since)| since + PROVES_WITHIN)
    }

    /// Closes those that have proved nothing in time.
    pub fn close_outdated(&mut self, now: Mono) {
        while let Some((key, since)) = self.strangers.front().copied() {
            let is_one = self.strangers().next() == Some((key, since));
            if is_one && now.since(since) < PROVES_WITHIN {
                return;
            }
            self.strangers.pop_front();
            if is_one {
                self.close(key);
            }
        }
    }
}

impl Stream {
    /// `None` until a frame is whole. An error where the peer has closed, or means nothing that could be a frame.
    fn receive(&mut self, into: &mut [u8]) -> io::Result<Option<usize>> {
        loop {
            if let Some((head, rest)) = self.input.split_at_checked(2) {
                let len = usize::from(u16::from_be_bytes([head[0], head[1]]));
                if len > MAX_FRAME.min(into.len()) {
                    return Err(io::ErrorKind::InvalidData.into());
                }
                if let Some(frame) = rest.get(..len) {
                    into[..len].copy_from_slice(frame);
                    self.input.drain(..2 + len);
                    return Ok(Some(len));
                }
            }
            let mut piece = [0; 2 + MAX_FRAME];
            match self.socket.read(&mut piece) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(len) => self.input.extend_from_slice(&piece[..len]),
                Err(fault) if fault.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(fault) if fault.kind() == io::ErrorKind::Interrupted => {}
                Err(fault) => return Err(fault),
            }
        }
    }

    /// False where the peer takes too slowly what came before.
    fn send(&mut self, datagram: &[u8]) -> io::Result<bool> {
        let Ok(len) = u16::try_from(datagram.len()) else { return Ok(false) };
        if self.output.len() + 2 + datagram.len() > MAX_OUTPUT {
            return Ok(false);
        }
        self.output.extend_from_slice(&len.to_be_bytes());
        self.output.extend_from_slice(datagram);
        self.flush().map(|()| true)
    }

    fn flush(&mut self) -> io::Result<()> {
        while !self.output.is_empty() {
            match self.socket.write(&self.output) {
                Ok(len) => drop(self.output.drain(..len)),
                Err(fault) if fault.kind() == io::ErrorKind::WouldBlock => break,
                Err(fault) if fault.kind() == io::ErrorKind::Interrupted => {}
                Err(fault) => return Err(fault),
            }
        }
        Ok(())
    }
}

/// A check, a flight of DTLS and a packet of audio are shorter.
const MAX_FRAME: usize = 1500;
/// A second of audio: what waits longer nobody wants to hear.
const MAX_OUTPUT: usize = 16 * 1024;
const MAX_OPEN: usize = 4096;
const MAX_STRANGERS: usize = 256;
const BACKLOG: i32 = 256;
/// Who has media waits for no crowd at the door.
const ACCEPTED_A_TURN: usize = 16;
/// As long as the browser has to come back with its check.
const PROVES_WITHIN: Duration = Duration::from_secs(10);

pub(super) const LISTENER: Token = Token(usize::MAX - 3);
/// Above those of all ports, and below those of the shard.
const FIRST: usize = 1 << 20;

fn token(key: usize) -> Token {
    Token(FIRST + key)
}

/// The connection that a token names.
pub(super) fn of_token(token: Token) -> Option<usize> {
    token.0.checked_sub(FIRST).filter(|key| *key < MAX_OPEN)
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream as Peer;

    use mio::{Events, Poll};

    use super::*;

    struct World {
        poll: Poll,
        streams: Streams,
        at: SocketAddr,
    }

    impl World {
        fn new() -> World {
            let poll = Poll::new().unwrap();
            let mut streams = Streams::default();
            streams.listen("127.0.0.1:0".parse().unwrap(), poll.registry()).unwrap();
            let at = streams.listener.as_ref().unwrap().local_addr().unwrap();
            World { poll, streams, at }
        }

        fn connect(&mut self, now: Mono) -> Peer {
            let peer = Peer::connect(self.at).unwrap();
            while !self.has(&peer) {
                self.poll.poll(&mut Events::with_capacity(16), None).unwrap();
                self.streams.accept(self.poll.registry(), now);
            }
            peer
        }

        /// The next datagram of a peer, whenever it comes.
        fn receive(&mut self, peer: &Peer) -> Option<Vec<u8>> {
            let mut buffer = [0; 2048];
            let from = peer.local_addr().unwrap();
            loop {
                let key = *self.streams.by_address.get(&from)?;
                match self.streams.receive(key, &mut buffer) {
                    Some((len, told)) => {
                        assert_eq!(told, from);
                        return Some(buffer[..len].to_vec());
                    }
                    None if self.streams.by_address.contains_key(&from) => {
                        self.poll.poll(&mut Events::with_capacity(16), None).unwrap();
                    }
                    None => return None,
                }
            }
        }

        fn has(&self, peer: &Peer) -> bool {
            self.streams.by_address.contains_key(&peer.local_addr().unwrap())
        }
    }

    #[test]
    fn frames_are_found_however_they_are_cut() {
        let mut world = World::new();
        let mut peer = world.connect(Mono(0));
        peer.set_nodelay(true).unwrap();
        let said: Vec<Vec<u8>> = [1usize, 160, 0, 1_500].map(|len| vec![7; len]).into();
        let bytes: Vec<u8> =
            said.iter().flat_map(|frame| [&(frame.len() as u16).to_be_bytes()[..], frame].concat()).collect();
        for cut in [1, 3, 170, bytes.len()] {
            for piece in bytes.chunks(cut) {
                peer.write_all(piece).unwrap();
            }
            for frame in &said {
                assert_eq!(world.receive(&peer).as_ref(), Some(frame), "in pieces of {cut}");
            }
        }
        assert_eq!(world.streams.send(peer.local_addr().unwrap(), b"answer"), Some(true));
        let mut answer = [0; 8];
        peer.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"\0\x06answer");
        assert_eq!(world.streams.send("192.0.2.1:9".parse().unwrap(), b"answer"), None, "there is no such connection");
        drop(peer.shutdown(std::net::Shutdown::Write));
        assert_eq!(world.receive(&peer), None);
        assert!(!world.has(&peer));
    }

    #[test]
    fn threat_09_what_is_no_frame_closes_its_connection_only() {
        let mut world = World::new();
        let (mut bad, mut good) = (world.connect(Mono(0)), world.connect(Mono(0)));
        bad.write_all(&[0x05, 0xDD]).unwrap();
        assert_eq!(world.receive(&bad), None);
        good.write_all(&[0, 1, 9]).unwrap();
        assert_eq!(world.receive(&good), Some(vec![9]));
        assert!(!world.has(&bad) && world.has(&good));
    }

    #[test]
    fn threat_09_strangers_go_when_their_time_is_over_or_others_come() {
        let mut world = World::new();
        let (first, known) = (world.connect(Mono(0)), world.connect(Mono(0)));
        world.streams.prove(known.local_addr().unwrap());
        assert_eq!(world.streams.next_deadline(), Some(Mono(10_000_000)));
        let second = world.connect(Mono(5_000_000));
        world.streams.close_outdated(Mono(9_999_999));
        assert!(world.has(&first));
        world.streams.close_outdated(Mono(10_000_000));
        assert!(!world.has(&first) && world.has(&second) && world.has(&known));
        assert_eq!(world.streams.next_deadline(), Some(Mono(15_000_000)));
        let others: Vec<Peer> = (0..MAX_STRANGERS).map(|_| world.connect(Mono(6_000_000))).collect();
        assert!(!world.has(&second) && world.has(&known) && others.iter().all(|other| world.has(other)));
        world.streams.close_outdated(Mono(60_000_000));
        assert_eq!((world.streams.open.len(), world.streams.next_deadline()), (1, None));
        assert!(world.has(&known));
    }

    #[test]
    fn what_a_peer_takes_too_slowly_is_left_out_and_the_rest_is_whole() {
        let mut world = World::new();
        let mut peer = world.connect(Mono(0));
        let (at, key) = (peer.local_addr().unwrap(), 0);
        let mut sent = 0u32;
        while world.streams.send(at, &[&sent.to_be_bytes()[..], &[0; 1_000]].concat()) == Some(true) {
            sent += 1;
        }
        assert!(world.has(&peer), "it is slow, and not gone");
        assert!(world.streams.open[key].output.len() <= MAX_OUTPUT);
        peer.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        let (mut told, mut frame) = (Vec::new(), [0; 4096]);
        while told.len() < sent as usize * 1_006 {
            if let Ok(len) = peer.read(&mut frame) {
                told.extend_from_slice(&frame[..len]);
            }
            world.streams.writable(key);
        }
        for (number, frame) in (0..sent).zip(told.chunks(1_006)) {
            assert_eq!(frame[..6], [&1_004u16.to_be_bytes()[..], &number.to_be_bytes()].concat());
        }
        assert_eq!(world.streams.send(at, b"again"), Some(true));
    }
}
