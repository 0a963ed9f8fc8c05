//! The wire between the keeper and its children: small messages on a socket pair, some with a descriptor beside them.
//!
//! A message is one datagram of JSON, so that none is cut and none runs into another (`SOCK_SEQPACKET`, unix(7)).

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use serde::Deserialize;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Names the descriptor that a child has its end by.
pub const ENVIRONMENT: &str = "DIALTONE_KEEPER_FD";
const MAX_MESSAGE: usize = 4096;
/// Descriptors beside one message; the kernel takes 253. In so few messages thousands fit into the socket's buffer.
pub const MAX_BESIDE: usize = 200;

/// What a child tells its keeper.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromChild {
    /// An edge listens for workers: they find it there, and are admitted for that.
    EdgeAt { address: SocketAddr, token: String },
    /// An edge takes calls.
    Ready,
    /// An edge listens: the descriptor beside this is another one of its socket.
    Listens { name: String },
    /// A worker has opened a socket on that port: the descriptor beside this is another one of it.
    Opened { port: u16 },
    /// And has closed it.
    Closed { port: u16 },
}

/// What a keeper tells its children.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToChild {
    /// For an edge, at once: so many listeners of the edge before it follow.
    Listeners { count: usize },
    /// One of them, beside this.
    Listener { name: String },
    /// For workers: where their edge is.
    EdgeAt { address: SocketAddr, token: String },
    /// Be a worker, with these ports. The descriptor beside this is the memory in which it writes down what whoever takes
    /// its place must know.
    Work { ports: (u16, u16) },
    /// Take the place of a worker that died. Its memory is beside this; its sockets follow, so many.
    TakeOver { process: u32, ports: (u16, u16), sockets: usize },
    /// Sockets of that worker, beside this, in this order.
    Sockets { ports: Vec<u16> },
    /// Take no new sessions, and end when there are none.
    Drain,
}

/// One end.
pub struct Channel(AsyncFd<OwnedFd>);

/// Both ends: the second is a child's.
pub fn pair() -> io::Result<(Channel, OwnedFd)> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    Ok((Channel::new(ours)?, theirs))
}

/// The end that this process was given, if it has a keeper. To be called once.
pub fn inherited() -> Option<io::Result<Channel>> {
    let number = std::env::var(ENVIRONMENT).ok()?;
    Some(match number.parse() {
        Ok(number) => {
            // SAFETY: whoever sets the variable gives the descriptor with it, and nobody else takes it.
            let end = unsafe { OwnedFd::from_raw_fd(number) };
            // What this process starts in its turn is no child of the keeper.
            rustix::io::fcntl_setfd(&end, rustix::io::FdFlags::CLOEXEC)
                .map_err(io::Error::from)
                .and_then(|()| Channel::new(end))
        }
        Err(_) => Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{ENVIRONMENT} is no descriptor"))),
    })
}

impl Channel {
    fn new(end: OwnedFd) -> io::Result<Channel> {
        // SAFETY: the descriptor is owned by the `AsyncFd` alone, and open as long as that lives.
        unsafe { AsyncFd::register_with_interest(end, Interest::READABLE) }.map(Channel).map_err(io::Error::from)
    }

    /// Another descriptor of this end, to send by from elsewhere.
    pub fn sender(&self) -> io::Result<Sender> {
        self.0.get_ref().try_clone().map(Sender)
    }

    /// Sends at once or not at all: what a peer does not read is not kept for it.
    pub fn send(&self, message: &impl Serialize, beside: &[BorrowedFd<'_>]) -> io::Result<()> {
        send(self.0.get_ref().as_fd(), message, beside)
    }

    /// The next message, with what is beside it; `None` where the other end is gone. Cancel-safe.
    pub async fn receive<M: DeserializeOwned>(&self) -> io::Result<Option<(M, Vec<OwnedFd>)>> {
        loop {
            let mut ready = self.0.readable().await?;
            match ready.try_io(|end| receive(end.get_ref().as_fd())) {
                Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
                Ok(received) => {
                    let Some((bytes, beside)) = received? else { return Ok(None) };
                    return Ok(Some((serde_json::from_slice(&bytes)?, beside)));
                }
                Err(_) => {}
            }
        }
    }
}

/// Sends by an end that is read elsewhere.
pub struct Sender(OwnedFd);

impl Sender {
    pub fn try_clone(&self) -> io::Result<Sender> {
        self.0.try_clone().map(Sender)
    }

    pub fn send(&self, message: &impl Serialize, beside: &[BorrowedFd<'_>]) -> io::Result<()> {
        send(self.0.as_fd(), message, beside)
    }
}

fn send(end: BorrowedFd<'_>, message: &impl Serialize, beside: &[BorrowedFd<'_>]) -> io::Result<()> {
    let bytes = serde_json::to_vec(message)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_BESIDE))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !beside.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(beside)) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many descriptors for one message"));
    }
    sendmsg(end, &[IoSlice::new(&bytes)], &mut ancillary, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)?;
    Ok(())
}

fn receive(end: BorrowedFd<'_>) -> io::Result<Option<(Vec<u8>, Vec<OwnedFd>)>> {
    let mut bytes = vec![0; MAX_MESSAGE];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_BESIDE))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(
        end,
        &mut [IoSliceMut::new(&mut bytes)],
        &mut ancillary,
        RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT,
    )?;
    if received.bytes == 0 {
        return Ok(None);
    }
    let mut beside = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            beside.extend(descriptors);
        }
    }
    bytes.truncate(received.bytes);
    Ok(Some((bytes, beside)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    #[tokio::test]
    async fn socket_that_is_handed_over_is_the_same_one() {
        let (ours, theirs) = pair().unwrap();
        let theirs = Channel::new(theirs).unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        theirs.send(&FromChild::Opened { port: address.port() }, &[socket.as_fd()]).unwrap();
        drop(socket);
        let (message, mut beside) = ours.receive::<FromChild>().await.unwrap().unwrap();
        assert_eq!(message, FromChild::Opened { port: address.port() });
        let kept = UdpSocket::from(beside.remove(0));
        assert_eq!(kept.local_addr().unwrap(), address);
        assert!(UdpSocket::bind(address).is_err(), "it was never closed");
        ours.send(&ToChild::Drain, &[]).unwrap();
        assert!(matches!(theirs.receive().await.unwrap(), Some((ToChild::Drain, beside)) if beside.is_empty()));
        drop(theirs);
        assert!(ours.receive::<FromChild>().await.unwrap().is_none(), "the other end is gone");
    }

    #[tokio::test]
    async fn sockets_of_a_large_worker_are_handed_over_before_anybody_reads() {
        let (ours, theirs) = pair().unwrap();
        let theirs = Channel::new(theirs).unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let beside = vec![socket.as_fd(); MAX_BESIDE];
        let ports: Vec<u16> = (50_000..).take(MAX_BESIDE).collect();
        for _ in 0..50 {
            ours.send(&ToChild::Sockets { ports: ports.clone() }, &beside).unwrap();
        }
        for _ in 0..50 {
            let (message, beside) = theirs.receive::<ToChild>().await.unwrap().unwrap();
            assert_eq!((message, beside.len()), (ToChild::Sockets { ports: ports.clone() }, MAX_BESIDE));
        }
        assert!(ours.send(&ToChild::Drain, &vec![socket.as_fd(); 300]).is_err());
    }
}
