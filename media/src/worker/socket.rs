//! Sockets, and who makes them.
//!
//! They are made behind a trait, so that a keeper process may hold them too and hand them to the worker that takes over.

use std::io;
use std::net::SocketAddr;

use mio::net::UdpSocket;
use socket2::{Domain, Protocol, Socket, Type};

/// Makes a bound, non-blocking UDP socket.
pub trait Sockets: Send {
    fn bind(&mut self, address: SocketAddr) -> io::Result<UdpSocket>;

    /// Whether the socket of that port was inherited, and [`Sockets::bind`] will give it.
    fn holds(&self, _port: u16) -> bool {
        false
    }

    /// A socket that [`Sockets::bind`] gave is closed here.
    fn closed(&mut self, _port: u16) {}

    /// What was inherited and not asked for is not wanted.
    fn forget_inherited(&mut self) {}

    /// Whether somebody else holds the sockets too: closing them here then does not end their polling.
    fn are_shared(&self) -> bool {
        false
    }
}

/// Sockets of this process.
pub struct UdpSockets;

impl Sockets for UdpSockets {
    fn bind(&mut self, address: SocketAddr) -> io::Result<UdpSocket> {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        // The kernel's usual receive buffer holds a second of packets and more: no call is spent on another size.
        socket.bind(&address.into())?;
        Ok(UdpSocket::from_std(socket.into()))
    }
}
