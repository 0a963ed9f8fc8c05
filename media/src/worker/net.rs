//! The sockets of a shard: one or two for each RTP leg, by their port, which the poll tokens name, and one for all browsers.
//!
//! The socket of a leg that is over stays open while its port rests, for the next leg that gets the port: a socket that is
//! made, polled and closed costs as much as five packets. It is closed when something still comes to it, so that whoever
//! sends is told by ICMP; after [`KEPT`], so that a quiet server holds few; and where [`super::Config::kept_sockets`]
//! allows no more. New sockets are made with a [`STOCK`] of the next ports': one alone costs three times as much, as
//! between two calls the processor has forgotten how it is done.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use mio::net::UdpSocket;
use mio::{Interest, Registry, Token};
use ring::rand::{SecureRandom, SystemRandom};

use super::memory::Memory;
use super::ports::PortPool;
use super::socket::Sockets;
use super::streams::Streams;
use crate::ids::{LegId, SessionId};
use crate::leg::{Hot, Leg};
use crate::sdp::Transport;
use crate::session::{Port, Ports};
use crate::time::{Mono, sooner};

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

/// How long the socket of a free port is kept.
const KEPT: Duration = Duration::from_secs(60);
/// How many new sockets are made with one that is needed.
const STOCK: usize = 15;

/// A port pair of the range.
enum Pair {
    Closed,
    /// Free or in stock since then, with an open socket that nothing came to.
    Kept(UdpSocket, Mono),
    Taken(Box<Endpoint>),
    /// A browser's leg, which needs the place and not its ports.
    Shared(Box<Sharer>),
}

/// A leg that has its media by the port that all browsers share.
pub(super) struct Sharer {
    pub session: usize,
    pub leg: LegId,
    /// Where its browser has proved to be; the last ones.
    addresses: VecDeque<SocketAddr>,
}

/// The socket of all browsers, made for the first of them.
struct Shared {
    port: u16,
    socket: Option<UdpSocket>,
    /// Those that come by TCP.
    streams: Streams,
    /// Whose what comes from there is.
    by_address: HashMap<SocketAddr, usize>,
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
    /// By half the port.
    pairs: Vec<Pair>,
    first_pair: usize,
    /// The kept ones, without the stock, in the order in which they will be taken. What came to one has closed it before its
    /// turn.
    kept: VecDeque<(usize, Mono)>,
    max_kept: usize,
    /// Of the first port of the range; `None` where the range has no pair.
    shared: Option<Shared>,
    /// Which pairs have legs, and their last numbers, for whoever takes this worker's place.
    memory: Option<Memory>,
}

impl Net {
    /// `max_kept`: sockets of free ports.
    pub fn new(
        address: IpAddr,
        range: RangeInclusive<u16>,
        max_kept: usize,
        sockets: Box<dyn Sockets>,
        registry: Registry,
        memory: Option<Memory>,
    ) -> Net {
        let (first_pair, last_pair) = (usize::from(*range.start()) / 2, usize::from(*range.end()) / 2);
        let pairs = (first_pair..=last_pair).map(|_| Pair::Closed).collect();
        let mut ports = PortPool::new(range);
        let shared = ports.take_first().map(|port| Shared {
            port,
            socket: None,
            streams: Streams::default(),
            by_address: HashMap::new(),
        });
        // Those of the worker before that no leg had are as any other, though their sockets may be here.
        if let Some(memory) = &memory {
            ports.reserve(|port| memory.is_taken(usize::from(port) / 2 - first_pair));
        }
        Net { address, sockets, ports, registry, pairs, first_pair, kept: VecDeque::new(), max_kept, shared, memory }
    }

    /// A leg has the pair from now on.
    fn occupy(&mut self, index: usize, pair: Pair) {
        self.pairs[index] = pair;
        if let Some(memory) = &self.memory {
            memory.set_taken(index, true);
        }
    }

    /// The leg that had the pair has it no more.
    fn vacate(&mut self, index: usize) -> Pair {
        if let Some(memory) = &self.memory {
            memory.set_taken(index, false);
        }
        std::mem::replace(&mut self.pairs[index], Pair::Closed)
    }

    pub fn free_legs(&self) -> usize {
        self.ports.free()
    }

    /// With those that legs of the worker before have; asked before the first leg.
    pub fn all_legs(&self) -> usize {
        self.ports.all()
    }

    /// `None` for a socket that was closed while its event was on the way.
    pub fn endpoint(&self, index: usize) -> Option<&Endpoint> {
        match self.pairs.get(index) {
            Some(Pair::Taken(endpoint)) => Some(endpoint),
            _ => None,
        }
    }

    /// Binds the next free port and has it polled; the odd port above it is for RTCP.
    fn open(&mut self, session: usize, leg: LegId, now: Mono) -> Option<(u16, usize)> {
        let Net { address, sockets, ports, registry, pairs, first_pair, .. } = self;
        let mut is_new = false;
        let bind = |port: u16| {
            let index = usize::from(port) / 2 - *first_pair;
            let kept = match std::mem::replace(&mut pairs[index], Pair::Closed) {
                Pair::Kept(socket, _) => Some(socket),
                _ => None,
            };
            // The worker before may have kept one too.
            let is_used = kept.is_some() || sockets.holds(port);
            is_new = !is_used;
            let at = SocketAddr::new(*address, port);
            let socket = kept.or_else(|| open(sockets.as_mut(), at, registry, token(index, Port::Rtp)).ok())?;
            if is_used {
                discard_received(&socket);
            }
            Some(socket)
        };
        let (port, rtp) = ports.take(now, bind)?;
        let index = usize::from(port) / 2 - *first_pair;
        if is_new {
            self.stock(now);
        }
        self.occupy(index, Pair::Taken(Box::new(Endpoint { session, leg, port, rtp, rtcp: Rtcp::Unopened })));
        self.forget_taken();
        Some((port, index))
    }

    /// Makes the sockets of the ports that come next. They stay until their turn comes, or something comes to them.
    fn stock(&mut self, now: Mono) {
        let Net { address, sockets, ports, registry, pairs, first_pair, max_kept, .. } = self;
        for port in ports.next_unused().take(STOCK.min(*max_kept)) {
            let index = usize::from(port) / 2 - *first_pair;
            // Where it cannot be made, that is found again, and dealt with, at its turn.
            if matches!(pairs[index], Pair::Closed)
                && let Ok(socket) =
                    open(sockets.as_mut(), SocketAddr::new(*address, port), registry, token(index, Port::Rtp))
            {
                pairs[index] = Pair::Kept(socket, now);
            }
        }
    }

    /// A place for a browser's leg, and the port that all of them share.
    fn share(&mut self, session: usize, leg: LegId, now: Mono) -> Option<(u16, usize)> {
        let port = self.open_shared()?;
        let (pair, ()) = self.ports.take(now, |_| Some(()))?;
        let index = usize::from(pair) / 2 - self.first_pair;
        self.close_kept(index);
        self.occupy(index, Pair::Shared(Box::new(Sharer { session, leg, addresses: VecDeque::new() })));
        self.forget_taken();
        Some((port, index))
    }

    /// The place that this name has, for a leg of a worker that died.
    fn reshare(&mut self, session: usize, leg: LegId, port: u16, ufrag: &str) -> Option<usize> {
        let index = index_of_name(ufrag)?;
        let pair = u16::try_from((self.first_pair + index) * 2).ok()?;
        if self.shared.as_ref()?.port != port || index >= self.pairs.len() || !self.ports.take_this(pair) {
            return None;
        }
        self.open_shared()?;
        self.occupy(index, Pair::Shared(Box::new(Sharer { session, leg, addresses: VecDeque::new() })));
        Some(index)
    }

    /// Opens the shared port, if it is not.
    fn open_shared(&mut self) -> Option<u16> {
        let Net { address, sockets, registry, shared, .. } = self;
        let shared = shared.as_mut()?;
        if shared.socket.is_none() {
            let at = SocketAddr::new(*address, shared.port);
            match open(sockets.as_mut(), at, registry, SHARED) {
                Ok(socket) => shared.socket = Some(socket),
                Err(fault) => {
                    tracing::error!(%at, %fault, "browsers have no media: their port cannot be opened; give [media] ports to this server alone, and [media] address one of this machine's");
                    return None;
                }
            }
            if let Err(fault) = shared.streams.listen(at, registry) {
                tracing::warn!(%at, %fault, "browsers on networks without UDP have no media: the TCP port cannot be opened; give [media] ports to this server alone");
            }
        }
        Some(shared.port)
    }

    /// The next datagram of the shared port.
    pub fn receive_shared(&self, buffer: &mut [u8]) -> Option<io::Result<(usize, SocketAddr)>> {
        Some(self.shared.as_ref()?.socket.as_ref()?.recv_from(buffer))
    }

    /// Takes connections that wait; whether there may be more.
    pub fn accept(&mut self, now: Mono) -> bool {
        self.shared.as_mut().is_some_and(|shared| shared.streams.accept(&self.registry, now))
    }

    /// The next datagram of a connection.
    pub fn receive_stream(&mut self, key: usize, buffer: &mut [u8]) -> Option<(usize, SocketAddr)> {
        self.shared.as_mut()?.streams.receive(key, buffer)
    }

    pub fn stream_is_writable(&mut self, key: usize) {
        if let Some(shared) = &mut self.shared {
            shared.streams.writable(key);
        }
    }

    /// The place of whom a check is for.
    pub fn sharer_named(&self, ufrag: &str) -> Option<(usize, &Sharer)> {
        let index = index_of_name(ufrag)?;
        Some((index, self.sharer(index)?))
    }

    /// Whose is what comes from there.
    pub fn sharer_at(&self, from: SocketAddr) -> Option<&Sharer> {
        self.sharer(*self.shared.as_ref()?.by_address.get(&from)?)
    }

    fn sharer(&self, index: usize) -> Option<&Sharer> {
        match self.pairs.get(index) {
            Some(Pair::Shared(sharer)) => Some(sharer),
            _ => None,
        }
    }

    /// What comes from there is that leg's from now on.
    pub fn learn(&mut self, index: usize, from: SocketAddr) {
        let (Some(shared), Some(Pair::Shared(sharer))) = (&mut self.shared, self.pairs.get_mut(index)) else { return };
        shared.streams.prove(from);
        if shared.by_address.insert(from, index) == Some(index) {
            return;
        }
        if sharer.addresses.len() == MAX_ADDRESSES
            && let Some(oldest) = sharer.addresses.pop_front()
        {
            shared.by_address.remove(&oldest);
            shared.streams.close_from(oldest);
        }
        sharer.addresses.push_back(from);
    }

    /// Whether that place is still this leg's, whose media goes by that port.
    pub fn has(&self, index: usize, leg: &Leg) -> bool {
        match self.pairs.get(index) {
            Some(Pair::Taken(endpoint)) => endpoint.port == leg.negotiation().endpoint().port(),
            Some(Pair::Shared(_)) => leg.is_named(&name_of(index)),
            _ => false,
        }
    }

    /// Takes up the socket of that port, if it was inherited from a worker that died.
    fn reopen(&mut self, session: usize, leg: LegId, port: u16) -> Option<usize> {
        let Net { address, sockets, ports, registry, pairs, first_pair, .. } = self;
        let index = usize::from(port / 2).checked_sub(*first_pair)?;
        if index >= pairs.len() || !sockets.holds(port) || !ports.take_this(port) {
            return None;
        }
        let rtp = open(sockets.as_mut(), SocketAddr::new(*address, port), registry, token(index, Port::Rtp)).ok()?;
        self.occupy(index, Pair::Taken(Box::new(Endpoint { session, leg, port, rtp, rtcp: Rtcp::Unopened })));
        if self.sockets.holds(port + 1) {
            self.open_rtcp(index);
        }
        Some(index)
    }

    /// What was inherited and nobody took up is closed.
    pub fn forget_inherited(&mut self) {
        self.sockets.forget_inherited();
        for port in self.ports.release_reserved() {
            self.vacate(usize::from(port) / 2 - self.first_pair);
        }
    }

    /// Opens the leg's RTCP port, if it is not.
    pub fn open_rtcp(&mut self, index: usize) {
        let Net { address, sockets, registry, pairs, .. } = self;
        let Some(Pair::Taken(endpoint)) = pairs.get_mut(index) else { return };
        if !matches!(endpoint.rtcp, Rtcp::Unopened) {
            return;
        }
        let at = SocketAddr::new(*address, endpoint.port + 1);
        endpoint.rtcp = match open(sockets.as_mut(), at, registry, token(index, Port::Rtcp)) {
            Ok(rtcp) => Rtcp::Open(rtcp),
            Err(fault) => {
                tracing::warn!(%at, %fault, "a leg has no RTCP: its port cannot be opened; give [media] ports to this server alone");
                Rtcp::Unavailable
            }
        };
    }

    /// Ends a leg's use of a pair; its port goes to rest.
    pub fn close(&mut self, index: usize, now: Mono) {
        if self.sharer(index).is_some() {
            return self.close_shared(index, now);
        }
        let Some(Pair::Taken(_)) = self.pairs.get(index) else { return };
        let Pair::Taken(endpoint) = self.vacate(index) else { return };
        let Endpoint { port, rtp, rtcp, .. } = *endpoint;
        self.ports.give_back(port, now);
        if let Rtcp::Open(rtcp) = rtcp {
            close(self.sockets.as_mut(), &self.registry, rtcp, port + 1);
        }
        if self.kept.len() < self.max_kept {
            self.pairs[index] = Pair::Kept(rtp, now);
            self.kept.push_back((index, now));
        } else {
            close(self.sockets.as_mut(), &self.registry, rtp, port);
        }
    }

    fn close_shared(&mut self, index: usize, now: Mono) {
        let Pair::Shared(sharer) = self.vacate(index) else { return };
        if let Some(shared) = &mut self.shared {
            for address in sharer.addresses {
                // Another leg may have it meanwhile.
                if shared.by_address.get(&address) == Some(&index) {
                    shared.by_address.remove(&address);
                    shared.streams.close_from(address);
                }
            }
        }
        self.ports.give_back(((self.first_pair + index) * 2) as u16, now);
    }

    /// Something came to a socket that no leg has: it is closed, and the next leg gets another.
    pub fn close_kept(&mut self, index: usize) {
        if let Some(pair @ Pair::Kept(..)) = self.pairs.get_mut(index)
            && let Pair::Kept(socket, _) = std::mem::replace(pair, Pair::Closed)
        {
            let port = (self.first_pair + index) * 2;
            close(self.sockets.as_mut(), &self.registry, socket, u16::try_from(port).unwrap_or(0));
        }
    }

    /// When [`Net::close_outdated`] is next due.
    pub fn next_deadline(&self) -> Option<Mono> {
        // A second late is soon enough, and one wake-up closes many.
        let kept = self.kept.front().map(|(_, since)| *since + KEPT + Duration::from_secs(1));
        sooner(kept, self.shared.as_ref().and_then(|shared| shared.streams.next_deadline()))
    }

    /// Closes the sockets that no leg took for a while, and the connections of strangers.
    pub fn close_outdated(&mut self, now: Mono) {
        if let Some(shared) = &mut self.shared {
            shared.streams.close_outdated(now);
        }
        while let Some((index, _)) = self.kept.front().filter(|(_, since)| now.since(*since) >= KEPT).copied() {
            self.close_kept(index);
            self.forget_taken();
        }
    }

    /// Drops what is outdated at the head of the queue.
    fn forget_taken(&mut self) {
        while let Some((index, since)) = self.kept.front()
            && !matches!(&self.pairs[*index], Pair::Kept(_, kept_since) if kept_since == since)
        {
            self.kept.pop_front();
        }
    }

    /// Sends a packet; what the kernel does not take now is lost, as on a network.
    pub fn send(&mut self, index: usize, from: Port, to: SocketAddr, packet: &[u8]) -> bool {
        self.open_rtcp(index);
        let socket = match (self.pairs.get(index), &mut self.shared) {
            (Some(Pair::Taken(endpoint)), _) => endpoint.socket(from),
            (Some(Pair::Shared(_)), Some(shared)) => {
                if let Some(is_sent) = shared.streams.send(to, packet) {
                    return is_sent;
                }
                shared.socket.as_ref()
            }
            _ => None,
        };
        socket.is_some_and(|socket| socket.send_to(packet, to).is_ok())
    }
}

/// Drops what has come to a socket for the leg that had it. From a flood the rest is for the next leg, which knows its peer.
fn discard_received(socket: &UdpSocket) {
    let _ = (0..MAX_DISCARDED).find(|_| socket.recv_from(&mut []).is_err());
}

fn open(sockets: &mut dyn Sockets, at: SocketAddr, registry: &Registry, token: Token) -> io::Result<UdpSocket> {
    let mut socket = sockets.bind(at)?;
    registry.register(&mut socket, token, Interest::READABLE)?;
    Ok(socket)
}

/// Closing a socket ends its polling (epoll(7)), and no call is spent on that: but for one that a keeper holds too.
fn close(sockets: &mut dyn Sockets, registry: &Registry, mut socket: UdpSocket, port: u16) {
    if sockets.are_shared() {
        let _ = registry.deregister(&mut socket);
        drop(socket);
        sockets.closed(port);
    }
}

/// Opens ports for one session, and remembers which.
pub(super) struct Opener<'a> {
    pub net: &'a mut Net,
    pub session: usize,
    pub id: SessionId,
    pub now: Mono,
    pub opened: Vec<(LegId, usize)>,
}

impl Ports for Opener<'_> {
    fn open(&mut self, leg: LegId) -> Option<u16> {
        let (port, index) = self.net.open(self.session, leg, self.now)?;
        self.opened.push((leg, index));
        Some(port)
    }

    fn open_shared(&mut self, leg: LegId) -> Option<(u16, String)> {
        let (port, index) = self.net.share(self.session, leg, self.now)?;
        self.opened.push((leg, index));
        Some((port, name_of(index)))
    }

    fn reopen_shared(&mut self, leg: LegId, port: u16, ufrag: &str) -> Option<Hot> {
        let index = self.net.reshare(self.session, leg, port, ufrag)?;
        self.opened.push((leg, index));
        let hot = self.written(index, leg);
        if let Some(at) = hot.locked {
            self.net.learn(index, at);
        }
        Some(hot)
    }

    fn fill_secret(&mut self, secret: &mut [u8]) {
        // Without entropy there is nothing that could be kept secret: better no call than one that everybody hears.
        SystemRandom::new().fill(secret).expect("the system has random numbers");
    }

    fn reopen(&mut self, leg: LegId, port: u16) -> Option<Hot> {
        let index = self.net.reopen(self.session, leg, port)?;
        self.opened.push((leg, index));
        Some(self.written(index, leg))
    }
}

impl Opener<'_> {
    /// What the worker before has written down.
    fn written(&self, index: usize, leg: LegId) -> Hot {
        self.net.memory.as_ref().and_then(|memory| memory.read(index, self.id, leg)).unwrap_or_default()
    }
}

/// By what the name of a browser's leg begins that has that place.
fn name_of(index: usize) -> String {
    (0..Transport::NAME_CHARS).rev().map(|digit| char::from(ICE_CHARS[index >> (6 * digit) & 63])).collect()
}

fn index_of_name(ufrag: &str) -> Option<usize> {
    let digits = ufrag.as_bytes().get(..Transport::NAME_CHARS)?;
    digits
        .iter()
        .try_fold(0, |index, digit| Some(index << 6 | ICE_CHARS.iter().position(|character| character == digit)?))
}

const ICE_CHARS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
/// Of one browser at once: it has several networks, and changes them.
const MAX_ADDRESSES: usize = 8;
const MAX_DISCARDED: usize = 1000;
pub(super) const SHARED: Token = Token(usize::MAX - 2);

/// The token of one socket of a pair.
fn token(index: usize, port: Port) -> Token {
    Token(index * 2 + usize::from(port == Port::Rtcp))
}

/// The pair, and the socket of it, that a token names.
pub(super) fn of_token(token: Token) -> (usize, Port) {
    (token.0 / 2, if token.0.is_multiple_of(2) { Port::Rtp } else { Port::Rtcp })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_of_a_place_leads_back_to_it() {
        for index in [0, 1, 63, 64, 4_095, 4_096, 32_767] {
            let name = name_of(index);
            assert_eq!(name.len(), Transport::NAME_CHARS);
            assert_eq!(index_of_name(&format!("{name}rest")), Some(index));
        }
        for other in ["", "AA", "A A1", "AÄA"] {
            assert_eq!(index_of_name(other), None, "{other}");
        }
    }
}
