//! The connections between edges: one for each two, dialled by the one with the lower name.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dialtone_media::proto::link::ALPN;
use dialtone_media::worker::link::{Incoming, Outgoing, beat, endpoint, transport};
use dialtone_sip::stack::Transmit;
use prost::Message;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{Connection, Endpoint, RecvStream, SendStream};
use tokio::sync::mpsc;

use super::proto::{Frame, Kind, Letter};
use super::{Ask, Edges, FRAMES, Inbound, Link};
use crate::cluster::{ClusterError, EDGE_NAME, Identity};
use crate::hot::EdgeId;

/// An edge that says nothing for so long is not linked any more.
const SILENCE: Duration = Duration::from_millis(2000);
const HANDSHAKE: Duration = Duration::from_secs(2);
/// A question that is not answered by then has no answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Of a question, and of an answer.
const MAX_BODY: usize = 16 << 20;

/// The way to an answer.
#[derive(Debug)]
pub(super) struct Reply(SendStream);

impl Reply {
    pub(super) async fn send(mut self, body: Bytes) {
        // Who asked may have gone.
        if self.0.write_chunk(body).await.is_ok() {
            let _ = self.0.finish();
        }
    }
}

pub(super) async fn dial(
    identity: &Identity,
    address: SocketAddr,
) -> Result<Connection, Box<dyn std::error::Error + Send + Sync>> {
    let any: IpAddr = if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let endpoint: Endpoint = endpoint(UdpSocket::bind((any, 0))?, None)?;
    let config = client_config(identity)?;
    Ok(tokio::time::timeout(HANDSHAKE, endpoint.connect_with(config, address, EDGE_NAME)?).await??)
}

fn client_config(identity: &Identity) -> Result<quinn::ClientConfig, ClusterError> {
    let tls = QuicClientConfig::try_from(identity.client_config(ALPN)?)
        .map_err(|error| rustls::Error::General(error.to_string()))?;
    let mut config = quinn::ClientConfig::new(Arc::new(tls));
    config.transport_config(Arc::new(transport()));
    Ok(config)
}

/// Speaks with another edge until the connection is lost. Whoever dialled opens the stream.
pub(super) async fn run(edges: Edges, connection: Connection, dialled: bool) {
    let opened = async {
        match dialled {
            true => connection.open_bi().await,
            false => connection.accept_bi().await,
        }
    };
    let Ok(Ok((send, receive))) = tokio::time::timeout(HANDSHAKE, opened).await else { return };
    let (mut send, mut receive) = (Outgoing::new(send), Incoming::new(receive));
    if send.send(&Frame::hello(edges.me().to_string())).await.is_err() {
        return;
    }
    let hello = tokio::time::timeout(HANDSHAKE, receive.next::<Frame>()).await;
    let Ok(Ok(Some(Frame { kind: Some(Kind::Hello(hello)) }))) = hello else { return };
    let Some(peer) = EdgeId::parse(&hello.edge) else { return };
    let (frames, mut queue) = mpsc::channel(FRAMES);
    let number = connection.stable_id();
    let before = edges.links().insert(peer.clone(), Link { connection: connection.clone(), frames });
    if let Some(before) = before {
        before.connection.close(0u32.into(), b"linked anew");
    }
    tracing::info!(edge = %peer, "linked to another edge");
    let _ = edges.inner.inbound.send(Inbound::Linked(peer.clone())).await;

    let writing = async {
        while let Some(frame) = queue.recv().await {
            send.push(&frame);
            while let Ok(frame) = queue.try_recv() {
                send.push(&frame);
            }
            if send.flush().await.is_err() {
                return;
            }
        }
    };
    let reading = async {
        while let Ok(Some(frame)) = receive.next::<Frame>().await {
            if let Some(inbound) = inbound(&peer, frame)
                && edges.inner.inbound.send(inbound).await.is_err()
            {
                return;
            }
        }
    };
    let questions = async {
        while let Ok((send, receive)) = connection.accept_bi().await {
            tokio::spawn(take_question(edges.clone(), peer.clone(), send, receive));
        }
    };
    tokio::select! {
        () = writing => {}
        () = reading => {}
        () = questions => {}
        _ = beat(&connection, SILENCE) => {}
    }
    connection.close(0u32.into(), b"");
    let mut links = edges.links();
    if links.get(&peer).is_some_and(|link| link.connection.stable_id() == number) {
        links.remove(&peer);
        drop(links);
        tracing::warn!(edge = %peer, "the link to another edge is lost");
        edges.inner.lost.notify_one();
    }
}

fn inbound(from: &EdgeId, frame: Frame) -> Option<Inbound> {
    match frame.kind? {
        Kind::Hello(_) => None,
        Kind::Received(packet) => packet.open().map(|(flow, bytes)| Inbound::Received { flow, bytes }),
        Kind::Transmit(packet) => packet.open().map(|(flow, bytes)| Inbound::Transmit(Transmit { flow, bytes })),
        Kind::Letter(Letter { kind, body }) => Some(Inbound::Letter { from: from.clone(), kind, body }),
    }
}

async fn take_question(edges: Edges, from: EdgeId, send: SendStream, mut receive: RecvStream) {
    let Ok(Ok(question)) = tokio::time::timeout(PATIENCE, receive.read_to_end(MAX_BODY)).await else { return };
    let Ok(Letter { kind, body }) = Letter::decode(Bytes::from(question)) else { return };
    let ask = Ask { from, kind, body, answer: Reply(send) };
    let _ = edges.inner.inbound.send(Inbound::Ask(ask)).await;
}

/// A question on a stream of its own; `None` where nobody answers it.
pub(super) async fn ask(connection: &Connection, kind: u32, body: Bytes) -> Option<Bytes> {
    let asked = async {
        let (mut send, mut receive) = connection.open_bi().await.ok()?;
        send.write_chunk(Letter { kind, body }.encode_to_vec().into()).await.ok()?;
        send.finish().ok()?;
        receive.read_to_end(MAX_BODY).await.ok().map(Bytes::from)
    };
    tokio::time::timeout(PATIENCE, asked).await.ok().flatten()
}
