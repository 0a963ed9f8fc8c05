//! Connections as they are taken: a handshake that takes its time holds up nobody else.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustls::server::Acceptor;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use super::Identity;

/// For a handshake, or the first byte of one.
const PATIENCE: Duration = Duration::from_secs(10);
/// Handshakes at once; one more connection waits to be accepted.
const HANDSHAKES: usize = 256;
/// The type of the record that a handshake begins with (RFC 8446 s5.1).
const HANDSHAKE: u8 = 22;

/// A listener that gives connections once they are what they should be.
pub struct Listener {
    ready: mpsc::Receiver<(Stream, SocketAddr)>,
    address: SocketAddr,
}

/// A connection, encrypted or not.
pub enum Stream {
    Tls(Box<TlsStream<TcpStream>>),
    Plain(TcpStream),
}

impl Listener {
    /// Call inside the runtime. `plain`: others than programs of this machine may leave TLS out too.
    pub fn new(listener: TcpListener, identity: Identity, plain: bool) -> io::Result<Listener> {
        let address = listener.local_addr()?;
        let (taken, ready) = mpsc::channel(HANDSHAKES);
        let places = Arc::new(Semaphore::new(HANDSHAKES));
        tokio::spawn(async move {
            while let Ok(place) = places.clone().acquire_owned().await {
                let (stream, peer) = match listener.accept().await {
                    Ok(accepted) => accepted,
                    Err(error) => {
                        tracing::warn!(%error, "a connection cannot be taken");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                        continue;
                    }
                };
                let (identity, taken) = (identity.clone(), taken.clone());
                tokio::spawn(async move {
                    match timeout(PATIENCE, begin(stream, &identity, plain)).await {
                        Ok(Ok(stream)) => {
                            drop(place);
                            let _ = taken.send((stream, peer)).await;
                        }
                        Ok(Err(error)) => tracing::debug!(%peer, %error, "a handshake failed"),
                        Err(_) => tracing::debug!(%peer, "a handshake took too long"),
                    }
                });
            }
        });
        Ok(Listener { ready, address })
    }
}

async fn begin(mut stream: TcpStream, identity: &Identity, plain: bool) -> io::Result<Stream> {
    let mut first = [0];
    let is_tls = stream.peek(&mut first).await? == 1 && first[0] == HANDSHAKE;
    let (own, peer) = (stream.local_addr()?.ip().to_canonical(), stream.peer_addr()?.ip().to_canonical());
    // Nobody listens in on what a program of this machine says to us: the command line, a probe.
    if !is_tls && (plain || peer.is_loopback() || peer == own) {
        return Ok(Stream::Plain(stream));
    }
    if !is_tls {
        let text = "this port speaks HTTPS: begin the URL with https://\n";
        let answer = format!(
            "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{text}",
            text.len()
        );
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await?;
        return Err(io::Error::other("it was begun without TLS"));
    }
    let started = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
    let config = identity.config_for(&started.client_hello(), &own.to_string()).map_err(io::Error::other)?;
    Ok(Stream::Tls(Box::new(started.into_stream(config).await?)))
}

impl axum::serve::Listener for Listener {
    type Io = Stream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Stream, SocketAddr) {
        match self.ready.recv().await {
            Some(accepted) => accepted,
            // The task that takes connections ends with the runtime.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

impl Stream {
    pub fn tcp(&self) -> &TcpStream {
        match self {
            Stream::Tls(stream) => stream.get_ref().0,
            Stream::Plain(stream) => stream,
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tls(stream) => {
                let read = ready!(Pin::new(stream).poll_read(context, buffer));
                // Browsers close without a word of TLS: that is the end, as where nothing is encrypted.
                Poll::Ready(read.or_else(|error| match error.kind() {
                    io::ErrorKind::UnexpectedEof => Ok(()),
                    _ => Err(error),
                }))
            }
            Stream::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
            Stream::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tls(stream) => Pin::new(stream).poll_flush(context),
            Stream::Plain(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(context),
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
