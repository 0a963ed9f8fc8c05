//! The sockets of a shard: one or two for each RTP leg, by place in a slab that the poll tokens name.

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

/// The sockets of an RTP leg, and whose they are.
pub(super) struct Endpoint {
    pub session: usize,
    pub leg: LegId,
    pub port: u16,
    rtp: UdpSocket,
    rtcp: Rtcp,
}

/// The RTCP socket is made when the first packet comes or goes: every second leg that a telephone exchange opens is never
/// answered, and a socket costs as much as two packets.
enum Rtcp {
    Unopened,
    Open(UdpSocket),
    /// Another program holds the port. The leg has its sound, and no reports.
    Unavailable,
}

impl Endpoint {
    /// `None` for RTCP that is not open.
    pub fn socket(&self, port: Port) -> Option<&UdpSocket> {
        match (port, &self.rtcp) {
            (Port::Rtp, _) => Some(&self.rtp),
            (Port::Rtcp, Rtcp::Open(rtcp)) => Some(rtcp),
            (Port::Rtcp, Rtcp::Unopened | Rtcp::Unavailable) => None,
        }
    }
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

    /// Binds the next free port and has it polled; the odd port above it is for RTCP.
    fn open(&mut self, session: usize, leg: LegId, now: Mono) -> Option<(u16, usize)> {
        let Net { address, sockets, ports, registry, endpoints } = self;
        let entry = endpoints.vacant_entry();
        let index = entry.key();
        let bind =
            |port| open(sockets.as_mut(), SocketAddr::new(*address, port), registry, token(index, Port::Rtp)).ok();
        let (port, rtp) = ports.take(now, bind)?;
        entry.insert(Endpoint { session, leg, port, rtp, rtcp: Rtcp::Unopened });
        Some((port, index))
    }

    /// Opens the leg's RTCP port, if it is not.
    pub fn open_rtcp(&mut self, index: usize) {
        let Net { address, sockets, registry, endpoints, .. } = self;
        let Some(endpoint) = endpoints.get_mut(index).filter(|endpoint| matches!(endpoint.rtcp, Rtcp::Unopened)) else {
            return;
        };
        let at = SocketAddr::new(*address, endpoint.port + 1);
        endpoint.rtcp = match open(sockets.as_mut(), at, registry, token(index, Port::Rtcp)) {
            Ok(rtcp) => Rtcp::Open(rtcp),
            Err(fault) => {
                tracing::warn!(%at, %fault, "a leg has no RTCP: its port is held by another program; give [media] ports to this server alone");
                Rtcp::Unavailable
            }
        };
    }

    /// Closes a pair; its port goes to rest.
    pub fn close(&mut self, index: usize, now: Mono) {
        if let Some(endpoint) = self.endpoints.try_remove(index) {
            // Closing the sockets ends their polling (epoll(7)): no call is spent on that.
            self.ports.give_back(endpoint.port, now);
        }
    }

    /// Sends a packet; what the kernel does not take now is lost, as on a network.
    pub fn send(&mut self, index: usize, from: Port, to: SocketAddr, packet: &[u8]) -> bool {
        self.open_rtcp(index);
        let socket = self.endpoints.get(index).and_then(|endpoint| endpoint.socket(from));
        socket.is_some_and(|socket| socket.send_to(packet, to).is_ok())
    }
}

fn open(sockets: &mut dyn Sockets, at: SocketAddr, registry: &Registry, token: Token) -> io::Result<UdpSocket> {
    let mut socket = sockets.bind(at)?;
    registry.register(&mut socket, token, Interest::READABLE)?;
    Ok(socket)
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
