//! The sockets of a worker that has a keeper: each is told to the keeper, which holds another descriptor of it, so that it
//! outlives the worker; and those of a worker that died are taken up where they are asked for.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};

use dialtone_media::worker::{Sockets, UdpSocket, UdpSockets};

use super::channel::{FromChild, Sender};

/// Makes sockets, and takes up those that were inherited.
pub struct KeptSockets {
    keeper: Sender,
    inherited: HashMap<u16, OwnedFd>,
}

impl KeptSockets {
    pub fn new(keeper: Sender, inherited: HashMap<u16, OwnedFd>) -> KeptSockets {
        KeptSockets { keeper, inherited }
    }
}

impl Sockets for KeptSockets {
    fn bind(&mut self, address: SocketAddr) -> io::Result<UdpSocket> {
        if let Some(inherited) = self.inherited.remove(&address.port()) {
            return Ok(UdpSocket::from_std(inherited.into()));
        }
        let socket = UdpSockets.bind(address)?;
        if let Err(error) = self.keeper.send(&FromChild::Opened { port: address.port() }, &[socket.as_fd()]) {
            // The leg works; it would not outlive this process.
            tracing::warn!(%error, port = address.port(), "the keeper did not take a socket");
        }
        Ok(socket)
    }

    fn holds(&self, port: u16) -> bool {
        self.inherited.contains_key(&port)
    }

    fn closed(&mut self, port: u16) {
        // What the keeper holds too long keeps a port busy, and nothing else.
        let _ = self.keeper.send(&FromChild::Closed { port }, &[]);
    }

    fn forget_inherited(&mut self) {
        let ports: Vec<u16> = self.inherited.drain().map(|(port, _)| port).collect();
        ports.into_iter().for_each(|port| self.closed(port));
    }

    fn are_shared(&self) -> bool {
        true
    }
}
