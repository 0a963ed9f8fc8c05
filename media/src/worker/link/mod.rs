//! The worker's end of the link to an edge: streams of commands into the shard, and its events back.
//!
//! Whoever dials, and with which certificates, is the server's business: a connection comes in here as it is. A worker may
//! be linked to several edges. A session belongs to the edge whose stream commanded it last; where that stream is lost the
//! session is an orphan, which another stream may take up.

mod driver;
mod framing;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use quinn::{Connection, RecvStream, SendStream};
use tokio::sync::{mpsc, watch};

use super::Events;
use crate::proto::link::{self, Edges, FromWorker, FromWorkerKind, Hello, ToWorker, ToWorkerKind, TookOver};
use crate::proto::{Command, LoadReport, MediaEvent, MediaEventKind};

pub use driver::Driver;
pub use framing::{FramingError, Incoming, Outgoing};

/// What a worker says of itself.
#[derive(Clone, Debug)]
pub struct About {
    /// The version of the program.
    pub build: String,
    /// Which of the workers of its machine, counted from 1.
    pub process: u32,
    /// Where its media is.
    pub media_address: String,
    /// Where frames of other workers reach it.
    pub frames_address: String,
}

/// Why an edge is not spoken with any more.
#[derive(Debug)]
pub enum LinkError {
    Connection(quinn::ConnectionError),
    Framing(FramingError),
    Write(quinn::WriteError),
    /// It said nothing where it had to answer.
    NoWelcome,
}

impl std::fmt::Display for LinkError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            LinkError::Connection(error) => error.fmt(f),
            LinkError::Framing(error) => error.fmt(f),
            LinkError::Write(error) => error.fmt(f),
            LinkError::NoWelcome => f.write_str("the edge did not answer"),
        }
    }
}

impl std::error::Error for LinkError {}

impl From<quinn::ConnectionError> for LinkError {
    fn from(error: quinn::ConnectionError) -> LinkError {
        LinkError::Connection(error)
    }
}

impl From<FramingError> for LinkError {
    fn from(error: FramingError) -> LinkError {
        LinkError::Framing(error)
    }
}

impl From<quinn::WriteError> for LinkError {
    fn from(error: quinn::WriteError) -> LinkError {
        LinkError::Write(error)
    }
}

/// A worker as its edges see it. Clones are the same worker.
#[derive(Clone)]
pub struct Node {
    inner: Arc<Inner>,
}

struct Inner {
    about: About,
    /// The shard; a standby has none before it takes a worker's place.
    shard: OnceLock<Driver>,
    routes: Arc<Routes>,
    /// Whose place it took.
    took_over: watch::Sender<Option<TookOver>>,
    draining: watch::Sender<bool>,
    /// The edges of the cluster, as one has told.
    edges: watch::Sender<Edges>,
}

/// Which stream a session's events go to.
#[derive(Default)]
struct Routes {
    by_session: Mutex<HashMap<u64, Route>>,
}

/// The way to whoever has a session.
enum Route {
    Stream(Stream),
    /// The edge is lost: what it has not heard waits for the next, the last of it if there is much.
    Orphan {
        node: Arc<str>,
        unheard: VecDeque<MediaEvent>,
    },
}

/// A stream that a session's events go by.
#[derive(Clone)]
struct Stream {
    /// No two of a worker have the same.
    number: u64,
    /// The edge at its other end.
    node: Arc<str>,
    /// Boxed: a channel has room for many from its first on, and is a session's.
    events: mpsc::Sender<Box<MediaEvent>>,
}

impl Routes {
    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Route>> {
        self.by_session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on this stream has the session; what waited for it goes first.
    fn take(&self, session_id: u64, stream: &Stream) {
        let before = self.lock().insert(session_id, Route::Stream(stream.clone()));
        if let Some(Route::Orphan { unheard, .. }) = before {
            // There is room: it is new.
            unheard.into_iter().for_each(|event| drop(stream.events.try_send(Box::new(event))));
        }
    }

    /// The sessions that an edge has left behind.
    fn orphans_of(&self, node: &str) -> Vec<u64> {
        let routes = self.lock();
        let orphans =
            routes.iter().filter(|(_, route)| matches!(route, Route::Orphan { node: of, .. } if **of == *node));
        orphans.map(|(session_id, _)| *session_id).collect()
    }

    /// Hands an event on and never waits. A stream that takes no more is given up: its edge opens
    /// another, and asks anew.
    fn tell(&self, event: MediaEvent) {
        let mut routes = self.lock();
        let session_id = event.session_id;
        let is_over = matches!(event.kind, Some(MediaEventKind::Released(_)));
        match routes.get_mut(&session_id) {
            None => return,
            Some(Route::Stream(stream)) => {
                if let Err(unsent) = stream.events.try_send(Box::new(event)) {
                    let event = match unsent {
                        mpsc::error::TrySendError::Full(event) | mpsc::error::TrySendError::Closed(event) => event,
                    };
                    let node = Arc::clone(&stream.node);
                    routes.insert(session_id, Route::Orphan { node, unheard: VecDeque::from([*event]) });
                }
            }
            Some(Route::Orphan { unheard, .. }) => {
                if unheard.len() == UNHEARD {
                    unheard.pop_front();
                }
                unheard.push_back(event);
            }
        }
        if is_over {
            routes.remove(&session_id);
        }
    }
}

impl Node {
    /// A worker without a shard yet.
    pub fn new(about: About) -> Node {
        let inner = Inner {
            about,
            shard: OnceLock::new(),
            routes: Arc::default(),
            took_over: watch::Sender::new(None),
            draining: watch::Sender::new(false),
            edges: watch::Sender::new(Edges::default()),
        };
        Node { inner: Arc::new(inner) }
    }

    /// Waits until it is told that the edges of its cluster are others than these.
    pub async fn other_edges(&self, known: &Edges) -> Edges {
        let mut edges = self.inner.edges.subscribe();
        let told = edges.wait_for(|edges| edges != known).await.map(|edges| edges.clone());
        // The sender lives as long as this.
        told.unwrap_or_default()
    }

    /// Where the shard that this worker is to run tells its events.
    pub fn events(&self) -> Events {
        let routes = Arc::clone(&self.inner.routes);
        Box::new(move |event| routes.tell(event))
    }

    /// From now on it has sessions: `took_over` names the worker that it stands in for.
    pub fn start(&self, shard: Driver, took_over: Option<TookOver>) {
        if self.inner.shard.set(shard).is_ok() {
            self.inner.took_over.send_replace(took_over);
        }
    }

    /// Takes no new sessions any more.
    pub fn drain(&self) {
        self.inner.draining.send_replace(true);
        if let Some(shard) = self.inner.shard.get() {
            // A queue that is full is read by and by: what it refuses then is refused by its load report.
            let _ = shard.drain();
        }
    }

    /// Waits until it is to drain, and then until nothing runs any more, but no longer than that.
    pub async fn drained(&self, patience: Duration) {
        let mut draining = self.inner.draining.subscribe();
        // The sender lives as long as this.
        let _ = draining.wait_for(|draining| *draining).await;
        let _ = tokio::time::timeout(patience, async {
            while self.inner.shard.get().is_some_and(|shard| shard.load().sessions > 0) {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        })
        .await;
    }

    fn load(&self) -> LoadReport {
        let is_draining = *self.inner.draining.borrow();
        match self.inner.shard.get() {
            Some(shard) => LoadReport { is_draining, ..shard.load() },
            None => LoadReport { is_standby: true, is_draining, ..LoadReport::default() },
        }
    }

    /// Speaks with one edge until the link is lost, and says why it was. Its sessions are orphans then.
    /// `welcomed` is told which node that edge is.
    pub async fn serve(&self, connection: Connection, welcomed: impl Fn(&str)) -> LinkError {
        let edge = OnceLock::new();
        let streams = self.take_streams(&connection, &edge);
        let audio = self.take_audio(&connection);
        let control = self.control(&connection, &edge, welcomed);
        let beats = beat(&connection, SILENCE);
        let error = tokio::select! {
            error = streams => error,
            error = audio => error,
            Err(error) = control => error,
            error = beats => error,
        };
        connection.close(0u32.into(), b"");
        error
    }

    async fn control(
        &self,
        connection: &Connection,
        edge: &OnceLock<Arc<str>>,
        welcomed: impl Fn(&str),
    ) -> Result<(), LinkError> {
        let (send, receive) = connection.open_bi().await?;
        let (mut send, mut receive) = (Outgoing::new(send), Incoming::new(receive));
        let About { build, process, media_address, frames_address } = self.inner.about.clone();
        let hello = Hello {
            oldest: link::OLDEST,
            newest: link::NEWEST,
            build,
            process,
            pid: std::process::id(),
            media_address,
            frames_address,
            load: Some(self.load()),
        };
        send.send(&FromWorker { kind: Some(FromWorkerKind::Hello(hello)) }).await?;
        let Some(ToWorkerKind::Welcome(welcome)) = receive.next::<ToWorker>().await?.and_then(|message| message.kind)
        else {
            return Err(LinkError::NoWelcome);
        };
        let node = edge.get_or_init(|| welcome.node.into());
        welcomed(node);
        if let Some(shard) = self.inner.shard.get() {
            // What the edge has given to others meanwhile is to fall silent here.
            for session_id in self.inner.routes.orphans_of(node) {
                let _ = shard.edge_back(session_id);
            }
        }
        tokio::select! {
            end = self.obey(&mut receive) => end,
            end = self.report(&mut send) => end,
        }
    }

    async fn obey(&self, edge: &mut Incoming) -> Result<(), LinkError> {
        while let Some(message) = edge.next::<ToWorker>().await? {
            match message.kind {
                Some(ToWorkerKind::Drain(_)) => self.drain(),
                Some(ToWorkerKind::Edges(edges)) => drop(self.inner.edges.send_replace(edges)),
                Some(ToWorkerKind::Welcome(_)) | None => {}
            }
        }
        // The edge has nothing more to say; the connection tells when it is gone.
        std::future::pending().await
    }

    async fn report(&self, edge: &mut Outgoing) -> Result<(), LinkError> {
        let mut took_over = self.inner.took_over.subscribe();
        let mut is_new = true;
        let mut told = LoadReport::default();
        // Looks until the next report is due, whatever it says.
        let mut rounds = 0;
        loop {
            let news = took_over.borrow_and_update().clone();
            if let Some(news) = news.filter(|_| std::mem::take(&mut is_new)) {
                edge.push(&FromWorker { kind: Some(FromWorkerKind::TookOver(news)) });
                rounds = 0;
            }
            let load = self.load();
            if rounds == 0 || has_changed(&told, &load) {
                told = load.clone();
                rounds = REPORT_ROUNDS;
                edge.send(&FromWorker { kind: Some(FromWorkerKind::Load(load)) }).await?;
            }
            rounds -= 1;
            tokio::select! {
                _ = took_over.changed() => is_new = true,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
    }

    /// Each stream that the edge opens is a session's.
    async fn take_streams(&self, connection: &Connection, edge: &OnceLock<Arc<str>>) -> LinkError {
        let mut number = 0u64;
        loop {
            let (send, receive) = match connection.accept_bi().await {
                Ok(stream) => stream,
                Err(error) => return error.into(),
            };
            // No two streams of a worker have the same number, whoever opened them.
            number += 1;
            let key = (connection.stable_id() as u64) << 32 | number;
            // It has said who it is before.
            let node = edge.get().cloned().unwrap_or_else(|| "".into());
            tokio::spawn(self.clone().run_session(key, node, send, receive));
        }
    }

    async fn run_session(self, number: u64, node: Arc<str>, send: SendStream, receive: RecvStream) {
        let (sender, mut events) = mpsc::channel(EVENTS_OF_A_SESSION);
        let stream = Stream { number, node, events: sender };
        let mut send = Outgoing::new(send);
        let mut of_session = None;
        let commands = async {
            let mut receive = Incoming::new(receive);
            while let Some(command) = receive.next::<Command>().await? {
                if of_session.is_none() {
                    of_session = Some(command.session_id);
                    self.inner.routes.take(command.session_id, &stream);
                }
                self.command(command).await;
            }
            // The edge closes its side when the session is released; what that brings still comes.
            Ok::<(), LinkError>(())
        };
        let telling = async {
            while let Some(event) = events.recv().await {
                let is_over = matches!(event.kind, Some(MediaEventKind::Released(_)));
                send.push(&*event);
                while let Ok(event) = events.try_recv() {
                    send.push(&*event);
                }
                send.flush().await?;
                if is_over {
                    break;
                }
            }
            send.finish();
            Ok::<(), LinkError>(())
        };
        let (commands, told) = {
            tokio::pin!(commands, telling);
            tokio::select! {
                told = &mut telling => (Ok(()), told),
                commands = &mut commands => match commands {
                    Ok(()) => (Ok(()), telling.await),
                    Err(error) => (Err(error), Ok(())),
                }
            }
        };
        if let Some(session_id) = of_session {
            self.forget(session_id, &stream, commands.is_ok() && told.is_ok());
        }
    }

    /// The stream is over: unless the session is, or another stream has it, it is an orphan.
    fn forget(&self, session_id: u64, stream: &Stream, is_over: bool) {
        {
            let mut routes = self.inner.routes.lock();
            match routes.get(&session_id) {
                Some(Route::Stream(owner)) if owner.number != stream.number => return,
                Some(Route::Stream(_)) if is_over => drop(routes.remove(&session_id)),
                Some(Route::Stream(_)) => {
                    let orphan = Route::Orphan { node: Arc::clone(&stream.node), unheard: VecDeque::new() };
                    routes.insert(session_id, orphan);
                }
                Some(Route::Orphan { .. }) | None => {}
            }
        }
        if !is_over && let Some(shard) = self.inner.shard.get() {
            // One that is not told lives on until it is released.
            let _ = shard.edge_lost(session_id);
        }
    }

    async fn command(&self, command: Command) {
        let Some(shard) = self.inner.shard.get() else {
            return crate::session::unknown(&command).into_iter().for_each(|event| self.inner.routes.tell(event));
        };
        // Where the shard is behind the stream waits, and with it whoever writes to it.
        shard.send(command).await;
    }

    async fn take_audio(&self, connection: &Connection) -> LinkError {
        loop {
            let mut stream = match connection.accept_uni().await {
                Ok(stream) => stream,
                Err(error) => return error.into(),
            };
            let node = self.clone();
            tokio::spawn(async move {
                let Ok(bytes) = stream.read_to_end(framing::MAX_AUDIO).await else { return };
                if let Ok(command) = Command::decode(Bytes::from(bytes)) {
                    node.command(command).await;
                }
            });
        }
    }
}

/// Tells the other end ten times a second that this one is alive, and ends when it says nothing for so long itself.
pub async fn beat(connection: &Connection, patience: Duration) -> LinkError {
    let sending = async {
        loop {
            if let Err(error) = connection.send_datagram(Bytes::from_static(BEAT))
                && let quinn::SendDatagramError::ConnectionLost(error) = error
            {
                return LinkError::Connection(error);
            }
            tokio::time::sleep(BEAT_EVERY).await;
        }
    };
    let hearing = async {
        match silence(patience, || connection.read_datagram()).await {
            Err(error) => LinkError::Connection(error),
            Ok(()) => LinkError::Connection(quinn::ConnectionError::TimedOut),
        }
    };
    tokio::select! {
        error = sending => error,
        error = hearing => error,
    }
}

/// Waits until nothing was heard for so long. Time in which this process did not run itself is not counted: who has slept
/// has heard nobody, and what came meanwhile is still to be read.
async fn silence<T, E, H>(patience: Duration, mut hear: impl FnMut() -> H) -> Result<(), E>
where
    H: Future<Output = Result<T, E>>,
{
    let mut parts = 0;
    while parts < PARTS {
        match tokio::time::timeout(patience / PARTS, hear()).await {
            Ok(heard) => {
                heard?;
                parts = 0;
            }
            Err(_) => parts += 1,
        }
    }
    Ok(())
}

/// Whether it is told before its time: a twentieth more or less is.
fn has_changed(told: &LoadReport, load: &LoadReport) -> bool {
    told.is_draining != load.is_draining
        || told.is_standby != load.is_standby
        || told.capacity != load.capacity
        || told.used.abs_diff(load.used) * 20 > load.capacity
}

/// Events of a session without an edge that are kept for the next.
const UNHEARD: usize = 64;
/// Events of a session that its stream has not taken: a minute of digits and more.
const EVENTS_OF_A_SESSION: usize = 256;
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// A report each second.
const REPORT_ROUNDS: u32 = 10;
const BEAT_EVERY: Duration = Duration::from_millis(100);
const BEAT: &[u8] = b"alive";
/// Of a silence: a stall takes one of them, however long it is.
const PARTS: u32 = 4;
/// After which an edge that says nothing is lost: its sessions go on meanwhile, and for a minute after.
const SILENCE: Duration = Duration::from_millis(2000);

/// How a link's connections are: beats instead of keep-alives, and windows that fit a session's messages.
pub fn transport() -> quinn::TransportConfig {
    let mut transport = quinn::TransportConfig::default();
    // A session's messages answer one another: an acknowledgement alone is a datagram and a wake-up that nobody needs at once.
    let mut acknowledged = quinn::AckFrequencyConfig::default();
    acknowledged.ack_eliciting_threshold(ACKNOWLEDGED_TOGETHER.into()).max_ack_delay(Some(Duration::from_millis(20)));
    let idle = quinn::IdleTimeout::try_from(2 * SILENCE).expect("a few seconds fit");
    transport
        .max_idle_timeout(Some(idle))
        .max_concurrent_bidi_streams(MAX_SESSIONS.into())
        .max_concurrent_uni_streams(64u32.into())
        .stream_receive_window((64u32 << 10).into())
        .receive_window((8u32 << 20).into())
        .datagram_receive_buffer_size(Some(4096))
        .ack_frequency_config(Some(acknowledged))
        .initial_rtt(Duration::from_millis(10));
    transport
}

const ACKNOWLEDGED_TOGETHER: u32 = 16;
/// Streams of one connection.
const MAX_SESSIONS: u32 = 100_000;

/// A socket that an endpoint is made of.
pub fn endpoint(socket: std::net::UdpSocket, server: Option<quinn::ServerConfig>) -> io::Result<quinn::Endpoint> {
    let runtime = Arc::new(quinn::TokioRuntime);
    quinn::Endpoint::new(quinn::EndpointConfig::default(), server, socket, runtime)
}

#[cfg(test)]
mod tests {
    use tokio::sync::Mutex;

    use super::*;

    #[tokio::test]
    async fn stall_of_this_process_is_no_silence_of_the_other() {
        const PATIENCE: Duration = Duration::from_millis(200);
        let (tell, told) = mpsc::channel::<()>(1);
        let told = Arc::new(Mutex::new(told));
        let hear = move || {
            let told = told.clone();
            async move { told.lock().await.recv().await.ok_or("closed") }
        };
        let listening = tokio::spawn(silence(PATIENCE, hear));
        let other = tell.clone();
        let beats = tokio::spawn(async move {
            while other.send(()).await.is_ok() {
                tokio::time::sleep(PATIENCE / 8).await;
            }
        });
        tokio::time::sleep(PATIENCE / 4).await;
        // Nothing runs here meanwhile, the other end's beats no more than the ear.
        std::thread::sleep(PATIENCE * 3);
        tokio::time::sleep(PATIENCE / 4).await;
        assert!(!listening.is_finished(), "taken for lost");
        beats.abort();
        assert_eq!(listening.await.unwrap(), Ok(()));
        drop(tell);
    }
}
