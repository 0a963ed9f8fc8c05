//! The sockets of a shard: a pair for each RTP leg, by place in a slab that the poll tokens name.

use std::io;
use std::net::{IpAddr, SocketAddr};

use mio::net::UdpSocket;
use mio::{Interest, Registry, Token};
use slab::Slab;

use super::ports::PortPool;
use super::socket::Sockets;
use crate::ids::LegId;
use crate::session::{Port, Ports};
use crate::time::Mono;

/// The two sockets of an RTP leg, and whose they are.
pub(super) struct Endpoint {
    pub session: usize,
    pub leg: LegId,
    pub port: u16,
    pub rtp: UdpSocket,
    pub rtcp: UdpSocket,
}

/// All sockets of a shard.
///
/// None is ever connected: a connected one costs a microsecond less a packet, but the kernel drops what strangers send to
/// it without a word, and a leg whose peer is behind a NAT would look like one that nobody sends to.
pub(super) struct Net {
    address: IpAddr,
    sockets: Box<dyn Sockets>,
    ports: PortPool,
    registry: Registry,
    endpoints: Slab<Endpoint>,
}

impl Net {
    pub fn new(address: IpAddr, sockets: Box<dyn Sockets>, ports: PortPool, registry: Registry) -> Net {
        Net { address, sockets, ports, registry, endpoints: Slab::new() }
    }

    pub fn free_legs(&self) -> usize {
        self.ports.free()
    }

    /// `None` for a socket that was closed while its event was on the way.
    pub fn endpoint(&self, index: usize) -> Option<&Endpoint> {
        self.endpoints.get(index)
    }

    /// Binds a pair on the next free port and has it polled.
    fn open(&mut self, session: usize, leg: LegId, now: Mono) -> Option<(u16, usize)> {
        let Net { address, sockets, ports, registry, endpoints } = self;
        let entry = endpoints.vacant_entry();
        let index = entry.key();
        let mut bind = |port: u16| -> io::Result<(UdpSocket, UdpSocket)> {
            let mut rtp = sockets.bind(SocketAddr::new(*address, port))?;
            let mut rtcp = sockets.bind(SocketAddr::new(*address, port + 1))?;
            registry.register(&mut rtp, token(index, Port::Rtp), Interest::READABLE)?;
            registry.register(&mut rtcp, token(index, Port::Rtcp), Interest::READABLE)?;
            Ok((rtp, rtcp))
        };
        let (port, (rtp, rtcp)) = ports.take(now, |port| bind(port).ok())?;
        entry.insert(Endpoint { session, leg, port, rtp, rtcp });
        Some((port, index))
    }

    /// Closes a pair; its port goes to rest.
    pub fn close(&mut self, index: usize, now: Mono) {
        if let Some(endpoint) = self.endpoints.try_remove(index) {
            // Closing the sockets ends their polling (epoll(7)): no call is spent on that.
            self.ports.give_back(endpoint.port, now);
        }
    }

    /// Sends a packet; what the kernel does not take now is lost, as on a network.
    pub fn send(&self, index: usize, from: Port, to: SocketAddr, packet: &[u8]) -> bool {
        let Some(endpoint) = self.endpoints.get(index) else { return false };
        let sent = match from {
            Port::Rtp => endpoint.rtp.send_to(packet, to),
            Port::Rtcp => endpoint.rtcp.send_to(packet, to),
        };
        sent.is_ok()
    }
}

/// Opens ports for one session, and remembers which.
pub(super) struct Opener<'a> {
    pub net: &'a mut Net,
    pub session: usize,
    pub now: Mono,
    pub opened: Vec<(LegId, usize)>,
}

impl Ports for Opener<'_> {
    fn open(&mut self, leg: LegId) -> Option<u16> {
        let (port, index) = self.net.open(self.session, leg, self.now)?;
        self.opened.push((leg, index));
        Some(port)
    }
}

/// The token of one socket of a pair.
fn token(index: usize, port: Port) -> Token {
    Token(index * 2 + usize::from(port == Port::Rtcp))
}

/// The pair, and the socket of it, that a token names.
pub(super) fn of_token(token: Token) -> (usize, Port) {
    (token.0 / 2, if token.0.is_multiple_of(2) { Port::Rtp } else { Port::Rtcp })
}
