//! Sockets, and who makes them.
//!
//! They are made behind a trait, so that a keeper process may own them one day and hand them to the worker that
//! takes over. Here too is the one thing that the standard library cannot do: to take a connection back.

use std::io;
use std::net::SocketAddr;

use mio::net::UdpSocket;
use socket2::{Domain, Protocol, SockAddr, SockAddrStorage, SockRef, Socket, Type};

/// Makes a bound, non-blocking UDP socket.
pub trait Sockets: Send {
    fn bind(&mut self, address: SocketAddr) -> io::Result<UdpSocket>;
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

/// Lets a connected socket receive from anyone again (POSIX `connect` with `AF_UNSPEC`).
pub(super) fn disconnect(socket: &UdpSocket) {
    let nowhere = SockAddrStorage::zeroed();
    let len = nowhere.size_of();
    // SAFETY: zeros are a valid address of family AF_UNSPEC, which is 0, and `len` is the length of all of it.
    let nowhere = unsafe { SockAddr::new(nowhere, len) };
    // Some systems disconnect and report EAFNOSUPPORT.
    let _ = SockRef::from(socket).connect(&nowhere);
}
