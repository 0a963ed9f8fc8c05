//! The edge's end of the links: listens for workers, and carries what the [`Pool`] decides.
//!
//! Everything runs on the shard's own runtime. Each session has a stream and a task of its own, so that none waits for
//! another; what they bring meets in one bounded queue, and a worker that fills it waits.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use dialtone_media::proto::link::{
    self, Drain, Edges, FromWorker, FromWorkerKind, Hello, ToWorker, ToWorkerKind, TookOver, Welcome,
};
use dialtone_media::proto::{Command, CommandKind, LoadReport, MediaEvent, MediaEventKind, Totals};
use dialtone_media::time::Mono;
use dialtone_media::worker::link::{Incoming, Outgoing, beat, endpoint, transport};
use prost::Message;
use quinn::crypto::rustls::{HandshakeData, QuicServerConfig};
use quinn::{Connection, Endpoint};
use tokio::sync::{Semaphore, mpsc};

use super::balancer::WorkerId;
use super::pool::{Decisions, LinkEnd, Output, Placement, Pool, State, Told, process_name};
use super::roster::{Roster, Seen, add};
use crate::clock::mono_us;
use crate::cluster::{self, Admission, ClusterError, Identity, Peer, Role};

/// What an edge listens with.
pub struct Listening {
    pub socket: std::net::UdpSocket,
    pub identity: Identity,
    /// The node that this edge is, whichever of its lives this is.
    pub node: String,
    /// Grows with each start of this node.
    pub epoch: u64,
    /// Who says who may join.
    pub admission: Admission,
    /// Where other edges of the cluster that link to this one are handed on; nowhere, and they are sent away.
    pub edges: Option<mpsc::Sender<(String, Connection)>>,
    /// A worker that says nothing for so long is lost.
    pub patience: Duration,
}

/// The links of an edge to its workers.
pub struct Links {
    pool: Pool,
    inbound: mpsc::Receiver<Inbound>,
    batch: Vec<Inbound>,
    /// Those that are up.
    links: HashMap<WorkerId, Link>,
    own: mpsc::Sender<Inbound>,
    roster: Roster,
    /// What each process has counted, by its name and pid: counts go on when it is gone.
    counted: HashMap<(String, u32), Totals>,
    address: SocketAddr,
    /// All edges, as workers are told.
    edges: Edges,
    /// Kept: with it the connections end.
    _endpoint: Endpoint,
}

struct Link {
    number: u64,
    machine: String,
    connection: Connection,
    orders: mpsc::Sender<ToWorker>,
    /// Boxed: a channel has room for many from its first on, and is a session's.
    streams: HashMap<u64, mpsc::Sender<Box<Command>>>,
    pid: u32,
    media_address: String,
}

/// What the tasks of the links bring.
enum Inbound {
    Joined { number: u64, machine: String, hello: Hello, connection: Connection, orders: mpsc::Sender<ToWorker> },
    Load { number: u64, load: LoadReport },
    TookOver { number: u64, took_over: TookOver },
    Event { number: u64, event: Box<MediaEvent> },
    StreamBroke { number: u64, session_id: u64 },
    Gone { number: u64 },
}

impl Links {
    /// Listens; call inside the shard's runtime.
    pub fn start(listening: Listening, seed: [u8; 32]) -> Result<Links, ClusterError> {
        let Listening { socket, identity, node, epoch, admission, edges, patience } = listening;
        let tls = identity.server_config(&[link::ALPN, cluster::join::ALPN])?;
        let tls = QuicServerConfig::try_from(tls).map_err(|error| rustls::Error::General(error.to_string()))?;
        let mut config = quinn::ServerConfig::with_crypto(Arc::new(tls));
        config.transport_config(Arc::new(transport()));
        let failed = |error: std::io::Error| ClusterError::Unreachable(format!("cannot listen for workers: {error}"));
        let endpoint = endpoint(socket, Some(config)).map_err(failed)?;
        let address = endpoint.local_addr().map_err(failed)?;
        let (own, inbound) = mpsc::channel(INBOUND);
        let accepting = Accepting { admission, node, edges, patience, own: own.clone() };
        tokio::spawn(accept(endpoint.clone(), Arc::new(accepting)));
        Ok(Links {
            pool: Pool::new(epoch, seed),
            inbound,
            batch: Vec::new(),
            links: HashMap::new(),
            own,
            roster: Roster::linked(),
            counted: HashMap::new(),
            address,
            edges: Edges::default(),
            _endpoint: endpoint,
        })
    }

    /// Where workers find this edge.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn roster(&self) -> Roster {
        self.roster.clone()
    }

    /// Waits until a worker takes sessions, but no longer than that; false where none does.
    pub async fn settled(&mut self, patience: Duration) -> bool {
        let until = tokio::time::Instant::now() + patience;
        while !self.pool.has_room() {
            if tokio::time::timeout_at(until, self.readable()).await.is_err() {
                return false;
            }
            self.turn();
        }
        true
    }

    pub fn have_room(&self) -> bool {
        self.pool.has_room()
    }

    pub fn send(&mut self, session_id: u64, kind: CommandKind) {
        let now = self.now();
        self.pool.command(session_id, kind, now);
    }

    pub fn placement(&self, session_id: u64) -> Option<Placement> {
        self.pool.placement(session_id)
    }

    pub fn restore(&mut self, session_id: u64, placement: Placement) {
        let now = self.now();
        self.pool.restore(session_id, placement, now);
    }

    /// Asks a worker to take no new sessions; false where there is none of that name.
    pub fn drain(&mut self, name: &str) -> bool {
        let id = self.pool.id_of(name);
        let Some(link) = id.and_then(|id| self.links.get(&id)) else { return false };
        link.orders.try_send(ToWorker { kind: Some(ToWorkerKind::Drain(Drain {})) }).is_ok()
    }

    pub fn link_to(&mut self, key: u64, peer: String, is_first: bool) {
        self.pool.link_to(key, peer, is_first);
    }

    pub fn tell_link_ends(&mut self, peer: &str) {
        self.pool.tell_link_ends(peer);
    }

    pub fn far_end(&mut self, key: u64, end: LinkEnd) {
        self.pool.far_end(key, end);
    }

    /// Tells the workers of all edges of the cluster.
    pub fn tell_edges(&mut self, edges: Edges) {
        self.edges = edges;
        for link in self.links.values() {
            // One that takes no order is full of them, and is lost soon.
            let _ = link.orders.try_send(edges_order(&self.edges));
        }
    }

    pub fn poll_told(&mut self) -> Option<Told> {
        loop {
            match self.pool.poll_output()? {
                Output::Told(told) => return Some(told),
                Output::Command { worker, command } => self.command(worker, command),
                Output::Close { worker, session_id } => {
                    if let Some(link) = self.links.get_mut(&worker) {
                        link.streams.remove(&session_id);
                    }
                }
            }
        }
    }

    /// Waits for what workers tell. Cancel-safe.
    pub async fn readable(&mut self) {
        // The sender is held here: the queue is never closed.
        self.inbound.recv_many(&mut self.batch, BATCH).await;
    }

    /// Takes what has come, and what is due.
    pub fn turn(&mut self) {
        let now = self.now();
        for inbound in std::mem::take(&mut self.batch) {
            self.take(inbound, now);
        }
        self.pool.handle_timeout(now);
    }

    /// When [`Links::turn`] is due, whatever comes.
    pub fn timeout(&mut self) -> Option<Duration> {
        let now = self.now();
        self.pool.next_deadline().map(|at| at.since(now))
    }

    fn now(&self) -> Mono {
        Mono(mono_us())
    }

    fn take(&mut self, inbound: Inbound, now: Mono) {
        match inbound {
            Inbound::Joined { number, machine, hello, connection, orders } => {
                let is_other =
                    |link: &Link| link.machine == machine && !cluster::are_one_machine(&link.connection, &connection);
                if self.links.values().any(is_other) {
                    tracing::error!(machine, from = %connection.remote_address(), "a machine of that name is linked already: each needs a name of its own (--name)");
                    return connection
                        .close(4u32.into(), b"a machine of this name is linked already: give it another (--name)");
                }
                let name = process_name(&machine, hello.process);
                let load = hello.load.clone().unwrap_or_default();
                let id = self.pool.joined(&name, &hello.frames_address, &load, now);
                tracing::info!(
                    worker = name,
                    pid = hello.pid,
                    address = hello.media_address,
                    "a media worker is linked"
                );
                if !self.edges.edges.is_empty() {
                    let _ = orders.try_send(edges_order(&self.edges));
                }
                let Hello { pid, media_address, .. } = hello;
                let link = Link { number, machine, connection, orders, streams: HashMap::new(), pid, media_address };
                if let Some(before) = self.links.insert(id, link) {
                    before.connection.close(0u32.into(), b"linked anew");
                }
                self.show();
            }
            Inbound::Load { number, load } => {
                let Some(id) = self.id_of(number) else { return };
                if let (Some(totals), Some(name)) = (&load.totals, self.pool.name_of(id)) {
                    let pid = self.links.get(&id).map_or(0, |link| link.pid);
                    self.counted.insert((name.to_owned(), pid), totals.clone());
                }
                self.pool.reported(id, &load);
                self.show();
            }
            Inbound::TookOver { number, took_over } => {
                let Some(id) = self.id_of(number) else { return };
                let name = self.pool.name_of(id).map(str::to_owned);
                let Some((machine, _)) = name.as_deref().and_then(|name| name.rsplit_once('-')) else { return };
                let dead = process_name(machine, took_over.process);
                // It says so to each edge that it links to, and again when a link was lost.
                if self.pool.id_of(&dead).is_some() {
                    tracing::warn!(worker = dead, by = name, "a media worker died; another is in its place");
                }
                if let Some(link) = self.pool.id_of(&dead).and_then(|dead| self.links.remove(&dead)) {
                    link.connection.close(0u32.into(), b"its process is dead");
                }
                self.pool.took_over(id, &dead, took_over.suspect, now);
                self.show();
            }
            Inbound::Event { number, event } => {
                let Some(id) = self.id_of(number) else { return };
                if let Some(MediaEventKind::Released(_)) = event.kind
                    && let Some(link) = self.links.get_mut(&id)
                {
                    link.streams.remove(&event.session_id);
                }
                self.pool.event(id, *event, now);
            }
            Inbound::StreamBroke { number, session_id } => {
                let Some(id) = self.id_of(number) else { return };
                if self.links.get_mut(&id).is_some_and(|link| link.streams.remove(&session_id).is_some()) {
                    self.pool.stream_broke(id, session_id, now);
                }
            }
            Inbound::Gone { number } => {
                let Some(id) = self.id_of(number) else { return };
                self.links.remove(&id);
                tracing::warn!(
                    worker = self.pool.name_of(id),
                    sessions = self.pool.sessions_of(id),
                    "the link to a media worker is lost"
                );
                self.pool.lost(id, now);
                self.show();
            }
        }
    }

    fn id_of(&self, number: u64) -> Option<WorkerId> {
        self.links.iter().find(|(_, link)| link.number == number).map(|(id, _)| *id)
    }

    fn command(&mut self, worker: WorkerId, command: Command) {
        // What is for a link that is down is in the session's book.
        let Some(link) = self.links.get_mut(&worker) else { return };
        let session_id = command.session_id;
        if matches!(command.kind, Some(CommandKind::Audio(_))) {
            tokio::spawn(send_audio(link.connection.clone(), command));
            return;
        }
        let (number, connection, own) = (link.number, &link.connection, &self.own);
        let stream = link.streams.entry(session_id).or_insert_with(|| {
            let (sender, commands) = mpsc::channel(COMMANDS_OF_A_SESSION);
            tokio::spawn(run_stream(connection.clone(), number, session_id, commands, own.clone()));
            sender
        });
        if stream.try_send(Box::new(command)).is_err() {
            // A worker that takes nothing of a session is asked anew, with all that was asked before.
            let _ = self.own.try_send(Inbound::StreamBroke { number, session_id });
        }
    }

    fn show(&self) {
        let seen = self.pool.workers().map(|worker| {
            let link = self.links.get(&worker.id);
            Seen {
                name: worker.name.clone(),
                pid: link.map_or(0, |link| link.pid),
                address: link.map(|link| link.media_address.clone()).unwrap_or_default(),
                state: worker.state,
                load: worker.load.clone(),
            }
        });
        let mut totals = Totals::default();
        self.counted.values().for_each(|counted| add(&mut totals, counted));
        // These are of now: a worker that is gone has none.
        let mut now = Totals::default();
        let linked = self.pool.workers().filter(|worker| worker.state != State::Lost);
        linked.filter_map(|worker| worker.load.totals.as_ref()).for_each(|counted| add(&mut now, counted));
        totals.legs_by_codec = now.legs_by_codec;
        self.roster.set(seen.collect(), totals);
        let states = [State::Active, State::Standby, State::Draining, State::Lost];
        for state in states {
            let count = self.pool.workers().filter(|worker| worker.state == state).count();
            metrics::gauge!("dialtone_control_workers", "state" => state.name()).set(count as f64);
        }
        let Decisions { drawn, beside, elsewhere, nowhere, moved } = self.pool.decisions();
        let reasons =
            [("drawn", drawn), ("beside", beside), ("elsewhere", elsewhere), ("nowhere", nowhere), ("moved", moved)];
        for (reason, count) in reasons {
            metrics::counter!("dialtone_lb_decisions_total", "reason" => reason).absolute(count);
        }
        let placements =
            [("accepted", drawn + beside), ("accepted_elsewhere", elsewhere), ("moved", moved), ("refused", nowhere)];
        for (result, count) in placements {
            metrics::counter!("dialtone_control_placements_total", "result" => result).absolute(count);
        }
        metrics::gauge!("dialtone_workers_required").set(f64::from(self.required()));
    }

    /// How many workers of the size of those that there are would be four fifths full of what runs now.
    fn required(&self) -> u32 {
        let active = || self.pool.workers().filter(|worker| worker.state == State::Active);
        let used: u64 = active().map(|worker| u64::from(worker.load.used)).sum();
        let capacity: u64 = active().map(|worker| u64::from(worker.load.capacity)).sum();
        let count = active().count() as u64;
        if capacity == 0 {
            return 1;
        }
        u32::try_from((used * count * 5).div_ceil(capacity * 4).max(1)).unwrap_or(u32::MAX)
    }
}

fn edges_order(edges: &Edges) -> ToWorker {
    ToWorker { kind: Some(ToWorkerKind::Edges(edges.clone())) }
}

/// What is done with whoever dials.
struct Accepting {
    admission: Admission,
    node: String,
    edges: Option<mpsc::Sender<(String, Connection)>>,
    patience: Duration,
    own: mpsc::Sender<Inbound>,
}

/// Takes in whoever dials.
async fn accept(endpoint: Endpoint, accepting: Arc<Accepting>) {
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES));
    let mut number = 0;
    while let Some(incoming) = endpoint.accept().await {
        let Ok(permit) = handshakes.clone().try_acquire_owned() else {
            incoming.refuse();
            continue;
        };
        number += 1;
        let accepting = accepting.clone();
        tokio::spawn(async move {
            let Ok(Ok(connection)) = tokio::time::timeout(HANDSHAKE, incoming).await else { return };
            let data = connection.handshake_data().and_then(|data| data.downcast::<HandshakeData>().ok());
            let protocol = data.and_then(|data| data.protocol);
            if protocol.as_deref() == Some(cluster::join::ALPN) {
                return cluster::admit(connection, &accepting.admission).await;
            }
            match cluster::peer(&connection) {
                Some(Peer { role: Role::Worker, name }) => {
                    drop(permit);
                    serve(connection, number, name, &accepting).await;
                }
                Some(Peer { role: Role::Edge, name }) => match &accepting.edges {
                    Some(edges) => drop(edges.send((name, connection)).await),
                    None => connection.close(2u32.into(), b"this edge stands alone: it has no [store] hot"),
                },
                None => {
                    let from = connection.remote_address();
                    tracing::warn!(%from, "who links to this edge without a certificate of its cluster is sent away");
                    connection.close(2u32.into(), b"not a node of this cluster");
                }
            }
        });
    }
}

/// One link, as long as it lasts.
async fn serve(connection: Connection, number: u64, machine: String, accepting: &Accepting) {
    let Accepting { patience, node, own, .. } = accepting;
    let error = tokio::select! {
        error = converse(&connection, number, machine, node, own) => error,
        error = beat(&connection, *patience) => error.to_string(),
    };
    tracing::debug!(number, error, "a link is over");
    connection.close(0u32.into(), b"");
    let _ = own.send(Inbound::Gone { number }).await;
}

async fn converse(
    connection: &Connection,
    number: u64,
    machine: String,
    node: &str,
    own: &mpsc::Sender<Inbound>,
) -> String {
    let (send, receive) = match connection.accept_bi().await {
        Ok(stream) => stream,
        Err(error) => return error.to_string(),
    };
    let (mut send, mut receive) = (Outgoing::new(send), Incoming::new(receive));
    let hello = match receive.next::<FromWorker>().await {
        Ok(Some(FromWorker { kind: Some(FromWorkerKind::Hello(hello)) })) => hello,
        Ok(_) => return "it did not say who it is".to_owned(),
        Err(error) => return error.to_string(),
    };
    let Some(version) = link::common_version(&hello) else {
        tracing::error!(
            machine,
            build = hello.build,
            "a media worker speaks no version of the link that is spoken here: install neighbouring releases"
        );
        connection.close(3u32.into(), b"no version in common");
        return "no version in common".to_owned();
    };
    let welcome = ToWorker { kind: Some(ToWorkerKind::Welcome(Welcome { version, node: node.to_owned() })) };
    if let Err(error) = send.send(&welcome).await {
        return error.to_string();
    }
    let (orders, mut queue) = mpsc::channel(ORDERS);
    let joined = Inbound::Joined { number, machine, hello, connection: connection.clone(), orders };
    if own.send(joined).await.is_err() {
        return "this edge ends".to_owned();
    }
    let reading = async {
        loop {
            let inbound = match receive.next::<FromWorker>().await {
                Ok(Some(FromWorker { kind: Some(FromWorkerKind::Load(load)) })) => {
                    metrics::histogram!("dialtone_control_rtt_seconds").record(connection.rtt().as_secs_f64());
                    Inbound::Load { number, load }
                }
                Ok(Some(FromWorker { kind: Some(FromWorkerKind::TookOver(took_over)) })) => {
                    Inbound::TookOver { number, took_over }
                }
                Ok(Some(_)) => continue,
                Ok(None) => return "it closed the link".to_owned(),
                Err(error) => return error.to_string(),
            };
            if own.send(inbound).await.is_err() {
                return "this edge ends".to_owned();
            }
        }
    };
    let writing = async {
        while let Some(order) = queue.recv().await {
            if let Err(error) = send.send(&order).await {
                return error.to_string();
            }
        }
        "another link took its place".to_owned()
    };
    tokio::select! {
        end = reading => end,
        end = writing => end,
    }
}

/// A session's stream.
async fn run_stream(
    connection: Connection,
    number: u64,
    session_id: u64,
    mut commands: mpsc::Receiver<Box<Command>>,
    own: mpsc::Sender<Inbound>,
) {
    // That the connection is lost is told once, for all.
    let Ok((send, receive)) = connection.open_bi().await else { return };
    let (mut send, mut receive) = (Outgoing::new(send), Incoming::new(receive));
    let writing = async {
        while let Some(command) = commands.recv().await {
            send.push(&*command);
            while let Ok(command) = commands.try_recv() {
                send.push(&*command);
            }
            if send.flush().await.is_err() {
                break;
            }
        }
        send.finish();
    };
    let reading = async {
        while let Ok(Some(event)) = receive.next::<MediaEvent>().await {
            if own.send(Inbound::Event { number, event: Box::new(event) }).await.is_err() {
                break;
            }
        }
    };
    tokio::join!(writing, async {
        reading.await;
        // Of a session that is over nobody knows any more.
        let _ = own.send(Inbound::StreamBroke { number, session_id }).await;
    });
}

async fn send_audio(connection: Connection, command: Command) {
    // Where it does not arrive the link is lost, and the session is opened anew.
    if let Ok(mut stream) = connection.open_uni().await
        && stream.write_all(&command.encode_to_vec()).await.is_ok()
    {
        let _ = stream.finish();
    }
}

/// Words of workers that wait for the shard: a worker whose words do not fit waits.
const INBOUND: usize = 16_384;
const BATCH: usize = 256;
const ORDERS: usize = 16;
/// More than a call can ask for between two answers.
const COMMANDS_OF_A_SESSION: usize = 256;
/// Strangers' handshakes at once.
const HANDSHAKES: usize = 256;
const HANDSHAKE: Duration = Duration::from_secs(5);
