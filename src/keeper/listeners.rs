//! The sockets on which an edge listens, which its keeper holds too: what comes while no edge is there waits for the next.

use std::collections::HashMap;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use dialtone_sip::transport::{self, Listen};

use super::channel::{FromChild, Sender, ToChild, inherited};

/// The listeners of an edge, those of its predecessor among them.
#[derive(Default)]
pub struct Listeners {
    keeper: Option<Sender>,
    inherited: HashMap<String, OwnedFd>,
}

impl Listeners {
    /// Takes what the keeper has of an edge before. A process without a keeper has none.
    pub async fn receive() -> io::Result<Listeners> {
        let Some(channel) = inherited() else { return Ok(Listeners::default()) };
        let channel = channel?;
        let mut inherited = HashMap::new();
        let gone = || io::Error::other("the keeper is gone");
        let Some((ToChild::Listeners { count }, _)) = channel.receive().await? else { return Err(gone()) };
        while inherited.len() < count {
            match channel.receive().await?.map(|(message, mut beside)| (message, beside.pop())).ok_or_else(gone)? {
                (ToChild::Listener { name }, Some(socket)) => inherited.insert(name, socket),
                (message, _) => return Err(io::Error::other(format!("the keeper sent {message:?}"))),
            };
        }
        Ok(Listeners { keeper: Some(channel.sender()?), inherited })
    }

    /// The way to the keeper, if there is one.
    pub fn keeper(&self) -> io::Result<Option<Sender>> {
        self.keeper.as_ref().map(Sender::try_clone).transpose()
    }

    /// The socket of that name, if an edge before had it.
    pub fn take(&mut self, name: &str) -> Option<OwnedFd> {
        self.inherited.remove(name)
    }

    /// Has the keeper hold a socket.
    pub fn hold(&self, name: String, socket: BorrowedFd<'_>) {
        if let Some(keeper) = &self.keeper
            && let Err(error) = keeper.send(&FromChild::Listens { name }, &[socket])
        {
            tracing::warn!(%error, "the keeper did not take a listener: what comes while the edge is restarted is lost");
        }
    }
}

impl transport::Listeners for Listeners {
    fn inherited(&mut self, listen: &Listen) -> Option<OwnedFd> {
        self.take(&name(listen))
    }

    fn opened(&mut self, listen: &Listen, socket: BorrowedFd<'_>) {
        self.hold(name(listen), socket);
    }
}

fn name(listen: &Listen) -> String {
    format!("{}://{}", listen.transport, listen.bind)
}
