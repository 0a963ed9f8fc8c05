//! Stream connections, encrypted or not: accepted and opened, one reading task and one writing task each.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout, timeout_at};

use super::framing::{Frame, Framer};
use super::security::{Securing, Security, receiver};
use super::{Inbound, Writers};
use crate::flow::{ConnectionId, Flow, Transport};
use crate::msg::Message;

/// Messages that may wait for a peer that reads slowly; with one more the connection is closed.
pub const WRITE_QUEUE: usize = 256;
/// Connections that strangers of one address have opened.
const PER_ADDRESS: usize = 256;
/// Connections of a shard.
const CONNECTIONS: usize = 16_384;
/// A message that has begun must end within this time (slowloris).
const PARTIAL: Duration = Duration::from_secs(10);
/// A connection that says nothing at all: clients refresh their registration at least every two hours.
const IDLE: Duration = Duration::from_secs(7_500);
const CONNECT: Duration = Duration::from_secs(5);
/// From the first byte of a handshake to its last.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// After a framing fault: time for the 400 to leave.
const LINGER: Duration = Duration::from_millis(500);

/// Who has opened a connection.
#[derive(Clone, Copy, PartialEq)]
pub enum OpenedBy {
    /// It takes one of the places of its address.
    Stranger,
    /// Has proved who it is before the connection got here: takes nothing from its neighbours.
    Known,
    Us,
}

/// The way to a connection's writing task.
pub(super) struct Writer {
    queue: mpsc::Sender<Bytes>,
    transport: Transport,
    remote: SocketAddr,
    opened_by: OpenedBy,
    /// Whom the peer has proved to be: nobody, where it opened the connection or nothing is encrypted.
    host: Option<String>,
}

#[derive(Clone)]
pub(super) struct Connections {
    /// Of one thread: the lock is never waited for.
    shared: Arc<Mutex<Shared>>,
    inbound: mpsc::Sender<Inbound>,
    security: Option<Arc<dyn Security>>,
}

#[derive(Default)]
struct Shared {
    next: u64,
    writers: Writers,
    /// How many connections they have, by address.
    strangers: HashMap<IpAddr, usize>,
}

impl Shared {
    fn has_room(&self, ip: IpAddr, opened_by: OpenedBy) -> bool {
        let crowds =
            opened_by == OpenedBy::Stranger && self.strangers.get(&ip).is_some_and(|count| *count >= PER_ADDRESS);
        self.writers.len() < CONNECTIONS && !crowds
    }
}

pub(super) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket2::Socket::new(
        socket2::Domain::for_address(address),
        socket2::Type::STREAM,
        Some(socket2::Protocol::TCP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(1024)?;
    TcpListener::from_std(socket.into())
}

/// Where connections come in that are no sockets of ours.
#[derive(Clone)]
pub struct Door(pub(super) Connections);

/// A connection that somebody else has taken, and whose messages come whole.
pub struct Brought {
    connections: Connections,
    flow: Flow,
    outgoing: mpsc::Receiver<Bytes>,
}

impl Door {
    /// `local` names the listener that the connection is to belong to. `None` where there are too many.
    pub fn bring(&self, local: SocketAddr, remote: SocketAddr, opened_by: OpenedBy) -> Option<Brought> {
        let has_room = self.0.shared().has_room(remote.ip(), opened_by);
        let (flow, outgoing) = has_room.then(|| self.0.register(Transport::Ws, local, remote, opened_by, None))?;
        Some(Brought { connections: self.0.clone(), flow, outgoing })
    }
}

impl Brought {
    pub fn flow(&self) -> Flow {
        self.flow
    }

    /// A message has come; false once nobody takes any. Waits while the shard has enough.
    pub async fn received(&self, message: Message) -> bool {
        self.connections.inbound.send(Inbound::Message { flow: self.flow, message }).await.is_ok()
    }

    /// The next message to send; `None` where the connection is to be closed. Cancel-safe.
    pub async fn to_send(&mut self) -> Option<Bytes> {
        self.outgoing.recv().await
    }
}

impl Drop for Brought {
    fn drop(&mut self) {
        self.connections.close(&self.flow);
        let (inbound, flow) = (self.connections.inbound.clone(), self.flow);
        let closed = Inbound::Closed { flow, fault: None };
        if let Err(mpsc::error::TrySendError::Full(closed)) = inbound.try_send(closed)
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(async move { inbound.send(closed).await });
        }
    }
}

impl Connections {
    pub(super) fn new(inbound: mpsc::Sender<Inbound>, security: Option<Arc<dyn Security>>) -> Connections {
        Connections { shared: Arc::default(), inbound, security }
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn len(&self) -> usize {
        self.shared().writers.len()
    }

    /// Accepts connections as long as the runtime lives.
    pub(super) fn listen(&self, listener: TcpListener, transport: Transport, local: SocketAddr) {
        let connections = self.clone();
        tokio::spawn(async move {
            loop {
                match listener.accept().await {
                    Ok((stream, remote)) => connections.accepted(stream, transport, local, remote),
                    // Out of descriptors: others may close some meanwhile, and UDP goes on.
                    Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
                }
            }
        });
    }

    fn accepted(&self, stream: TcpStream, transport: Transport, local: SocketAddr, remote: SocketAddr) {
        let has_room = self.shared().has_room(remote.ip(), OpenedBy::Stranger);
        if has_room {
            let (flow, queue) = self.register(transport, local, remote, OpenedBy::Stranger, None);
            self.begin(stream, flow, queue, |security, stream| security.accept(stream));
        }
    }

    /// Encrypts it where that is wanted, and lets messages come and go.
    fn begin(
        &self,
        stream: TcpStream,
        flow: Flow,
        queue: mpsc::Receiver<Bytes>,
        secure: impl FnOnce(&dyn Security, TcpStream) -> Securing,
    ) {
        let _ = stream.set_nodelay(true);
        if flow.transport != Transport::Tls {
            let (reader, writer) = stream.into_split();
            return self.run(reader, writer, flow, queue);
        }
        let securing = self.security.as_ref().map(|security| secure(&**security, stream));
        let securing = securing.unwrap_or_else(|| Box::pin(async { Err(io::Error::other("nothing here speaks TLS")) }));
        let connections = self.clone();
        tokio::spawn(async move {
            let fault = match timeout(HANDSHAKE, securing).await {
                Ok(Ok(stream)) => {
                    let (reader, writer) = tokio::io::split(stream);
                    return connections.run(reader, writer, flow, queue);
                }
                Ok(Err(fault)) => fault,
                Err(_) => io::Error::other("the handshake took too long"),
            };
            connections.failed(flow, fault).await;
        });
    }

    /// Of a connection that a stranger opened nothing is told but that it is gone.
    async fn failed(&self, flow: Flow, fault: io::Error) {
        let is_ours = self.close(&flow).is_some_and(|writer| writer.opened_by == OpenedBy::Us);
        let _ = self.inbound.send(Inbound::Closed { flow, fault: is_ours.then_some(fault) }).await;
    }

    /// Gives a connection its number and its queue.
    fn register(
        &self,
        transport: Transport,
        local: SocketAddr,
        remote: SocketAddr,
        opened_by: OpenedBy,
        host: Option<String>,
    ) -> (Flow, mpsc::Receiver<Bytes>) {
        let (queue, receiver) = mpsc::channel(WRITE_QUEUE);
        let mut shared = self.shared();
        shared.next += 1;
        let id = ConnectionId(shared.next);
        shared.writers.insert(id, Writer { queue, transport, remote, opened_by, host });
        if opened_by == OpenedBy::Stranger {
            *shared.strangers.entry(remote.ip()).or_default() += 1;
        }
        (Flow { transport, local, remote, connection: Some(id) }, receiver)
    }

    fn run<R, W>(&self, reader: R, writer: W, flow: Flow, queue: mpsc::Receiver<Bytes>)
    where
        R: AsyncRead + Send + Unpin + 'static,
        W: AsyncWrite + Send + Unpin + 'static,
    {
        let connections = self.clone();
        let writing = tokio::spawn(write(writer, queue));
        tokio::spawn(async move {
            connections.read(reader, flow).await;
            // Dropping the queue lets the writing task finish what it holds.
            connections.close(&flow);
            let _ = timeout(LINGER, writing).await;
            let _ = connections.inbound.send(Inbound::Closed { flow, fault: None }).await;
        });
    }

    async fn read(&self, mut reader: impl AsyncRead + Unpin, flow: Flow) {
        let mut framer = Framer::default();
        // When the message that has begun must be whole; a drip of bytes does not move it.
        let mut begun = None;
        loop {
            while let Some(frame) = framer.next_frame() {
                match frame {
                    Frame::Message(message) => {
                        begun = None;
                        if self.inbound.send(Inbound::Message { flow, message }).await.is_err() {
                            return;
                        }
                    }
                    Frame::Ping => self.send(flow, Bytes::from_static(b"\r\n")),
                    Frame::Broken(message, error) => {
                        let inbound = match message {
                            Some(message) => Inbound::Message { flow, message },
                            None => Inbound::Malformed { flow, error },
                        };
                        let _ = self.inbound.send(inbound).await;
                        tokio::time::sleep(LINGER).await;
                        return;
                    }
                }
            }
            let until = if framer.is_partial() {
                *begun.get_or_insert_with(|| Instant::now() + PARTIAL)
            } else {
                Instant::now() + IDLE
            };
            match timeout_at(until, reader.read_buf(framer.buffer())).await {
                Ok(Ok(0)) | Ok(Err(_)) | Err(_) => return,
                Ok(Ok(_)) => {}
            }
        }
    }

    /// Sends by the flow's connection, by another one to the same address, or by a new one. An encrypted one is another's only if its
    /// peer has proved to be whom the message is for.
    pub(super) fn send(&self, flow: Flow, bytes: Bytes) {
        let mut host = None;
        let existing = {
            let shared = self.shared();
            let own = flow.connection.and_then(|id| shared.writers.get_key_value(&id));
            if own.is_none() && flow.transport == Transport::Tls {
                host = receiver(&bytes);
            }
            let serves = |writer: &Writer| {
                (writer.remote, writer.transport) == (flow.remote, flow.transport)
                    && (flow.transport != Transport::Tls || (host.is_some() && writer.host == host))
            };
            let found = own.or_else(|| shared.writers.iter().find(|(_, writer)| serves(writer)));
            found.map(|(id, writer)| (*id, writer.queue.try_send(bytes.clone()).is_ok()))
        };
        match existing {
            Some((_, true)) => {}
            Some((id, false)) => drop(self.close(&Flow { connection: Some(id), ..flow })),
            // Nobody listens at a browser: what is gone is gone.
            None if flow.transport == Transport::Ws => {}
            None => self.connect(flow, bytes, host),
        }
    }

    fn connect(&self, flow: Flow, bytes: Bytes, host: Option<String>) {
        let (opened, queue) = self.register(flow.transport, flow.local, flow.remote, OpenedBy::Us, host.clone());
        self.send(opened, bytes);
        let connections = self.clone();
        tokio::spawn(async move {
            match timeout(CONNECT, TcpStream::connect(flow.remote)).await {
                Ok(Ok(stream)) => {
                    let host = host.unwrap_or_else(|| flow.remote.ip().to_string());
                    connections.begin(stream, opened, queue, |security, stream| security.connect(stream, &host));
                }
                Ok(Err(fault)) => connections.failed(opened, fault).await,
                Err(_) => connections.failed(opened, io::Error::other("nobody answers")).await,
            }
        });
    }

    fn close(&self, flow: &Flow) -> Option<Writer> {
        let id = flow.connection?;
        let mut shared = self.shared();
        let writer = shared.writers.remove(&id)?;
        let ip = writer.remote.ip();
        if writer.opened_by == OpenedBy::Stranger
            && let Some(count) = shared.strangers.get_mut(&ip)
        {
            *count -= 1;
            if *count == 0 {
                shared.strangers.remove(&ip);
            }
        }
        Some(writer)
    }

    pub(super) fn forget(&self, flow: &Flow) {
        self.close(flow);
    }
}

async fn write(mut writer: impl AsyncWrite + Unpin, mut queue: mpsc::Receiver<Bytes>) {
    while let Some(bytes) = queue.recv().await {
        // Encryption keeps what its socket had no room for until it is flushed: without that the message waits for the next one.
        if writer.write_all(&bytes).await.is_err() || writer.flush().await.is_err() {
            return;
        }
    }
    let _ = writer.shutdown().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn message_does_not_wait_for_the_next_one() {
        let (ours, mut theirs) = tokio::io::duplex(64);
        let (queue, messages) = mpsc::channel(1);
        // It keeps what it has until it is flushed or full.
        tokio::spawn(write(tokio::io::BufWriter::new(ours), messages));
        queue.send(Bytes::from_static(b"BYE sip:b SIP/2.0\r\n\r\n")).await.unwrap();
        let mut received = [0; 21];
        timeout(Duration::from_secs(10), theirs.read_exact(&mut received)).await.expect("it is sent at once").unwrap();
        assert_eq!(&received, b"BYE sip:b SIP/2.0\r\n\r\n");
    }

    #[test]
    fn strangers_of_one_address_keep_out_neither_others_nor_who_is_known() {
        let (inbound, _messages) = mpsc::channel(1);
        let door = Door(Connections::new(inbound, None));
        let bring =
            |remote: &str, opened_by| door.bring("192.0.2.1:5060".parse().unwrap(), remote.parse().unwrap(), opened_by);
        let (crowd, other) = ("203.0.113.5:4000", "203.0.113.6:4000");
        let known: Vec<_> = (0..300).map(|_| bring(crowd, OpenedBy::Known).expect("takes no place")).collect();
        let mut strangers: Vec<_> = (0..PER_ADDRESS).map(|_| bring(crowd, OpenedBy::Stranger).expect("room")).collect();
        assert!(bring(crowd, OpenedBy::Stranger).is_none());
        assert!(bring(crowd, OpenedBy::Known).is_some());
        assert!(bring(other, OpenedBy::Stranger).is_some());
        drop(known);
        assert!(bring(crowd, OpenedBy::Stranger).is_none(), "those that left had no place");
        strangers.pop();
        assert!(bring(crowd, OpenedBy::Stranger).is_some(), "a place that is left is free");
    }
}
