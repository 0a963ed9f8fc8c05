//! SIP over sockets: UDP, TCP and TLS (RFC 3261 s18). The only async code of this crate.
//!
//! [`Transports`] belongs to one shard. Datagrams are read and written by the shard itself; each stream connection is a
//! small task that cuts messages out of its bytes and hands them over by a bounded queue.
//!
//! What is full: a datagram that the kernel does not take is dropped (SIP retransmits); a connection whose peer reads
//! too slowly for [`streams::WRITE_QUEUE`] messages is closed; the inbound queue makes connections wait, never UDP.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod datagrams;
pub(crate) mod framing;
mod security;
mod streams;

use std::collections::HashMap;
use std::future::poll_fn;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::flow::{ConnectionId, Flow, Transport};
use crate::msg::{Malformed, Message};
use crate::stack::Transmit;
use datagrams::{Datagrams, PLACES};
pub use security::{Duplex, Securing, Security};
use streams::Connections;
pub use streams::{Brought, Door, OpenedBy};

/// Where to listen, and the address to write into Via and Contact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listen {
    pub transport: Transport,
    pub bind: SocketAddr,
    /// Names this listener in [`Flow::local`]; port 0 takes the bound one.
    pub advertise: SocketAddr,
}

/// What arrives.
#[derive(Debug)]
pub enum Inbound {
    Message {
        flow: Flow,
        message: Message,
    },
    /// Bytes that are no message; for a metric.
    Malformed {
        flow: Flow,
        error: Malformed,
    },
    /// A connection ended, or could not be opened; nothing more comes or goes by it.
    Closed {
        flow: Flow,
        /// Why it could not be opened.
        fault: Option<io::Error>,
    },
}

/// What is read before the shard does other work: messages of a stream, and so many rounds of datagrams.
const BATCH: usize = 64;
const ROUNDS: usize = BATCH / PLACES;
const INBOUND_QUEUE: usize = 1024;
/// Room for a burst at the kernel.
const SOCKET_BUFFER: usize = 4 << 20;

/// Whoever may have a listener's socket from a process before this one, and may hold it for the next.
pub trait Listeners {
    fn inherited(&mut self, listen: &Listen) -> Option<OwnedFd>;

    fn opened(&mut self, listen: &Listen, socket: BorrowedFd<'_>);
}

/// Every socket is this process's own.
pub struct OwnListeners;

impl Listeners for OwnListeners {
    fn inherited(&mut self, _: &Listen) -> Option<OwnedFd> {
        None
    }

    fn opened(&mut self, _: &Listen, _: BorrowedFd<'_>) {}
}

/// The sockets of one shard.
pub struct Transports {
    udp: Vec<Udp>,
    connections: Connections,
    inbound: mpsc::Receiver<Inbound>,
    datagrams: Datagrams,
    listening: Vec<Listen>,
}

struct Udp {
    /// Waited for to be readable, and for nothing else: a socket that is also waited for to be writable is told of at each
    /// datagram that its peer has read.
    socket: AsyncFd<UdpSocket>,
    local: SocketAddr,
}

impl Transports {
    /// Opens every listener; call inside the shard's runtime. TLS takes a `security`.
    ///
    /// # Errors
    /// The first address that cannot be bound, with the system's reason.
    pub fn bind(
        listen: &[Listen],
        listeners: &mut dyn Listeners,
        security: Option<Arc<dyn Security>>,
    ) -> Result<Transports, (Listen, io::Error)> {
        let (inbound_sender, inbound) = mpsc::channel(INBOUND_QUEUE);
        let mut transports = Transports {
            udp: Vec::new(),
            connections: Connections::new(inbound_sender, security),
            inbound,
            datagrams: Datagrams::new(),
            listening: Vec::new(),
        };
        for one in listen {
            let listening = transports.open(*one, listeners).map_err(|error| (*one, error))?;
            transports.listening.push(listening);
        }
        Ok(transports)
    }

    fn open(&mut self, listen: Listen, listeners: &mut dyn Listeners) -> io::Result<Listen> {
        let inherited = listeners.inherited(&listen);
        match listen.transport {
            Transport::Udp => {
                let socket = match inherited {
                    Some(socket) => UdpSocket::from(socket),
                    None => bind_udp(listen.bind)?,
                };
                listeners.opened(&listen, socket.as_fd());
                let bound = named(listen, socket.local_addr()?);
                // SAFETY: the descriptor is owned by the `AsyncFd` alone, and open as long as that lives.
                let socket = unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) }?;
                self.udp.push(Udp { socket, local: bound.advertise });
                Ok(bound)
            }
            Transport::Ws => Err(io::Error::other("WebSockets come by HTTP")),
            Transport::Tcp | Transport::Tls => {
                let listener = match inherited {
                    Some(listener) => TcpListener::from_std(listener.into())?,
                    None => streams::bind(listen.bind)?,
                };
                listeners.opened(&listen, listener.as_fd());
                let bound = named(listen, listener.local_addr()?);
                self.connections.listen(listener, listen.transport, bound.advertise);
                Ok(bound)
            }
        }
    }

    /// What is listened on, with the ports that were given.
    pub fn listening(&self) -> &[Listen] {
        &self.listening
    }

    /// The local address to use toward a peer by a transport.
    pub fn local_for(&self, transport: Transport, remote: SocketAddr) -> Option<SocketAddr> {
        let same = |listen: &&Listen| listen.transport == transport && listen.advertise.is_ipv4() == remote.is_ipv4();
        self.listening.iter().find(same).map(|listen| listen.advertise)
    }

    /// Waits for something to arrive, and adds up to a batch of it to `batch`. Cancel-safe.
    pub async fn receive(&mut self, batch: &mut Vec<Inbound>) {
        poll_fn(|context| self.poll_receive(context, batch)).await;
    }

    fn poll_receive(&mut self, context: &mut Context<'_>, batch: &mut Vec<Inbound>) -> Poll<()> {
        let datagrams = &mut self.datagrams;
        for Udp { socket, local } in &self.udp {
            for _ in 0..ROUNDS {
                let Poll::Ready(Ok(mut ready)) = socket.poll_read_ready(context) else { break };
                // An emptied socket is none that is ready: the next round waits for it. An ICMP error of an earlier datagram is
                // passed over.
                let _ = ready.try_io(|socket| match datagrams.take(socket)? {
                    PLACES => Ok(()),
                    _ => Err(io::Error::from(io::ErrorKind::WouldBlock)),
                });
                batch.extend(datagrams.iter().filter_map(|(source, bytes)| read_datagram(*local, source, bytes)));
            }
        }
        for _ in 0..BATCH {
            match self.inbound.poll_recv(context) {
                Poll::Ready(Some(inbound)) => {
                    if let Inbound::Closed { flow, .. } = &inbound {
                        self.connections.forget(flow);
                    }
                    batch.push(inbound);
                }
                Poll::Ready(None) | Poll::Pending => break,
            }
        }
        if batch.is_empty() { Poll::Pending } else { Poll::Ready(()) }
    }

    /// Sends a message, or drops it where it cannot go: a transaction's timer notices.
    pub fn send(&mut self, transmit: Transmit) {
        let Transmit { flow, bytes } = transmit;
        match flow.transport {
            Transport::Udp => self.send_datagram(flow, &bytes),
            Transport::Tcp | Transport::Tls | Transport::Ws => self.connections.send(flow, bytes),
        }
    }

    fn send_datagram(&self, flow: Flow, bytes: &Bytes) {
        let by_family = || self.udp.iter().find(|udp| udp.local.is_ipv4() == flow.remote.is_ipv4());
        if let Some(udp) = self.udp.iter().find(|udp| udp.local == flow.local).or_else(by_family) {
            // A full socket buffer drops the datagram, as the network may; SIP's timers send it again.
            let _ = udp.socket.get_ref().send_to(bytes, flow.remote);
        }
    }

    /// The way in for connections that others have taken, as WebSockets are by HTTP.
    pub fn door(&self) -> Door {
        Door(self.connections.clone())
    }

    /// Open stream connections.
    pub fn connections(&self) -> usize {
        self.connections.len()
    }
}

/// A keep-alive of CRLFs or NULs is no message (RFC 5626 s3.5.1); a datagram of one is dropped.
fn read_datagram(local: SocketAddr, source: SocketAddr, bytes: &[u8]) -> Option<Inbound> {
    if bytes.iter().all(|byte| b"\r\n\0 ".contains(byte)) {
        return None;
    }
    let flow = Flow { transport: Transport::Udp, local, remote: source, connection: None };
    Some(match Message::parse(Bytes::copy_from_slice(bytes)) {
        Ok(message) => Inbound::Message { flow, message },
        Err(error) => Inbound::Malformed { flow, error },
    })
}

fn named(listen: Listen, bound: SocketAddr) -> Listen {
    let port = if listen.advertise.port() == 0 { bound.port() } else { listen.advertise.port() };
    Listen { bind: bound, advertise: SocketAddr::new(listen.advertise.ip(), port), ..listen }
}

fn bind_udp(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = socket2::Socket::new(
        socket2::Domain::for_address(address),
        socket2::Type::DGRAM,
        Some(socket2::Protocol::UDP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // What the kernel allows is enough to start with; more helps against bursts.
    let _ = socket.set_recv_buffer_size(SOCKET_BUFFER);
    let _ = socket.set_send_buffer_size(SOCKET_BUFFER);
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

type Writers = HashMap<ConnectionId, streams::Writer>;
