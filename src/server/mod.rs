//! Builds the server from its configuration, starts it, reloads it, drains it and stops it.

mod expiry;
mod observe;
mod orders;
mod registrations;
mod restore;
mod triggers;
mod uploads;
mod worker_process;

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use dialtone_media::worker;
use dialtone_sip::stack;
use dialtone_sip::transport::{Listen, Transports};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::api;
use crate::app::status::StatusCallbacks;
use crate::app::{AudioCache, AudioLimits, CallbackLimits, Callbacks, Client, ClientConfig, Clips, Guard};
use crate::cluster::{Authority as ClusterAuthority, ClusterError, JoinToken, Role};
use crate::config::{Config, ConfigError, Latching};
use crate::events::{Outbox, Shelves, Subscriber};
use crate::hot::Bindings;
use crate::ids::CallSid;
use crate::keeper::{self, Listeners};
use crate::provision::{Provisioning, QueueKeeper};
use crate::proxy::{self, Authority, AuthorityError};
use crate::recordings::{Archive, Sweeper};
use crate::shard::{self, Mail, MailBox, Names, Outside, core, gate, mail_box};
use crate::speech::Speech;
use crate::store::{self, Store, StoreError};
use crate::telemetry::{self, CallLog, CallMetrics, LogLevel};
use crate::workers::{Listening, Roster, Workers};

pub use worker_process::{Join, machine_name, run as run_worker};

/// Calls at once on one edge; RTP ports are the other bound.
const MAX_CALLS: usize = 50_000;
/// Audio kept for workers, and by the worker for its players.
const CLIP_BYTES: usize = 256 << 20;
/// How long callbacks and rows may take when the last call is over.
const WIND_UP: Duration = Duration::from_secs(10);
/// How long the workers of this machine may take to be there.
const PATIENCE: Duration = Duration::from_secs(10);
/// A token for the workers of this machine is never written down, and holds as long as their keeper lives.
const FOR_EVER: u64 = u64::MAX;

/// Why the server does not start. Each says what to do.
#[derive(Debug)]
pub enum StartError {
    Listen {
        what: String,
        error: io::Error,
    },
    Journal {
        folder: PathBuf,
        error: io::Error,
    },
    Store(StoreError),
    Worker(io::Error),
    Keeper(io::Error),
    Runtime(io::Error),
    Metrics(String),
    Authority(AuthorityError),
    Cluster(ClusterError),
    /// No worker of this machine has linked to the edge in time.
    NoWorker,
}

impl std::fmt::Display for StartError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            StartError::Listen { what, error } if error.kind() == io::ErrorKind::AddrInUse => {
                write!(f, "cannot listen on {what}: another program does already; stop it, or choose another port")
            }
            StartError::Listen { what, error } => write!(f, "cannot listen on {what}: {error}"),
            StartError::Journal { folder, error } => {
                write!(f, "cannot write the journal in {}: {error}", folder.display())
            }
            StartError::Store(error) => write!(f, "cannot open the store: {error}"),
            StartError::Worker(error) => write!(f, "cannot start the media worker: {error}"),
            StartError::Keeper(error) => write!(f, "cannot speak with the keeper, the parent of this process: {error}"),
            StartError::Runtime(error) => write!(f, "cannot start a thread: {error}"),
            StartError::Authority(error) => {
                write!(f, "cannot make a certificate authority for [http] sdk_proxy: {error}")
            }
            StartError::Cluster(error) => write!(f, "cannot listen for media workers: {error}"),
            StartError::NoWorker => {
                write!(
                    f,
                    "no media worker of this machine is ready within {} s; what it says is above",
                    PATIENCE.as_secs()
                )
            }
            StartError::Metrics(error) => write!(f, "cannot start the metrics: {error}"),
        }
    }
}

impl std::error::Error for StartError {}

/// A running server.
pub struct Server {
    config: Config,
    provisioning: Arc<Provisioning>,
    mail: MailBox,
    shard: Option<thread::JoinHandle<()>>,
    outbox: Outbox,
    callbacks: Callbacks,
    store: Store,
    writer: tokio::task::JoinHandle<()>,
    draining: Arc<AtomicBool>,
    log_level: Option<LogLevel>,
    listening: Vec<Listen>,
    http: SocketAddr,
}

impl Server {
    /// Starts everything, or nothing.
    pub async fn start(config: Config, log_level: Option<LogLevel>, demo: bool) -> Result<Server, StartError> {
        let metrics = telemetry::start_metrics().map_err(StartError::Metrics)?;
        let runtime = tokio::runtime::Handle::current();
        let guard = Guard { allow_private_targets: config.http.allow_private_targets, ..Guard::default() };
        let client = Client::new(ClientConfig { guard: guard.clone(), ..ClientConfig::default() });
        let callbacks = Callbacks::new(client.clone(), CallbackLimits::default());
        let store = Store::open(config.store.url.expose()).await.map_err(StartError::Store)?;

        let (mail, letters) = mail_box();
        let realm = config.sip.realm.clone();
        let provisioning = Provisioning::start(store.clone(), config.directory.clone(), mail.clone(), realm);
        let provisioning = Arc::new(provisioning.await.map_err(StartError::Store)?);
        let directory = provisioning.directory().clone();
        let (subscriber, writer) = store::subscriber();
        let public_url = config.http.public_url.clone();
        let status = StatusCallbacks::new(callbacks.clone(), directory.clone(), public_url, runtime.clone());
        let archive = Archive::new(config.recordings.folder.clone(), config.recordings.bucket.as_ref());
        let (complete, to_upload) = uploads::queue();
        let deleted = store.deleted_recordings().await.map_err(StartError::Store)?;
        let (shelves, sweeper) = (Shelves::default(), Sweeper::new(archive.clone(), runtime.clone()));
        let journal = config.store.folder.join("journal");
        let node = orders::node(&config.store.folder)
            .map_err(|error| StartError::Journal { folder: config.store.folder.clone(), error })?;
        let wall_ms = shard::wall_ms();
        let mut subscribers: Vec<Box<dyn Subscriber>> = vec![
            Box::new(shelves.clone()),
            Box::new(subscriber),
            Box::new(status),
            Box::new(CallMetrics::default()),
            Box::new(CallLog),
            Box::new(sweeper),
            Box::new(QueueKeeper::new(provisioning.clone(), runtime.clone())),
        ];
        if archive.has_bucket() {
            subscribers.push(Box::new(complete));
        }
        let mut restored = restore::Restored::of(keeper::life());
        let mut outbox = tokio::task::block_in_place(|| {
            Outbox::start(
                &journal,
                wall_ms,
                subscribers,
                &deleted,
                |recording| archive.finish(recording),
                |call, state| restored.take(call, state),
            )
        })
        .map_err(|error| StartError::Journal { folder: journal, error })?;
        let restored = restored.into_calls();
        let left = orders::left(&store, &node, outbox.take_orders()).await.map_err(StartError::Store)?;
        left.iter().for_each(|(order, queued_ms)| outbox.live().expect(order.queued(*queued_ms)));
        let writer = tokio::spawn(writer.run(store.clone(), outbox.publisher(), shelves.clone()));

        let mut listeners = Listeners::receive().await.map_err(StartError::Keeper)?;
        let keeper = listeners.keeper().map_err(StartError::Keeper)?;
        let http = bind_http(config.http.listen, &mut listeners).await?;
        let sdk_proxy = match config.http.sdk_proxy {
            Some(address) => {
                let authority = Authority::load_or_make(&config.store.folder).map_err(StartError::Authority)?;
                Some((bind_http(address, &mut listeners).await?, authority))
            }
            None => None,
        };
        let metrics_http = match config.http.metrics_listen {
            Some(address) => Some(bind_http(address, &mut listeners).await?),
            None => None,
        };
        let clips = Arc::new(Clips::new(CLIP_BYTES));
        let outside = Outside {
            runtime: runtime.clone(),
            audio: AudioCache::new(client.clone(), clips.clone(), AudioLimits::default()),
            speech: Arc::new(Speech::detect(clips.clone(), &config.store.folder.join("speech"))),
            client,
            clips,
            names: Names::new(config.sip.name_servers.clone()),
            publisher: outbox.publisher(),
            life: keeper::life(),
        };
        let bindings = Arc::new(Bindings::default());
        registrations::restore(&bindings, &config.store.folder);
        let settings = core::Settings {
            stack: stack::Config {
                product: format!("Dialtone/{}", env!("CARGO_PKG_VERSION")),
                slot: 0,
                seed: random_seed(),
            },
            gate: gate::Settings { realm: config.sip.realm.clone(), algorithms: config.sip.digest.clone() },
            directory: directory.load_full(),
            bindings: bindings.clone(),
            listening: Vec::new(),
            public_url: config.http.public_url.clone(),
            outbound: guard,
            max_calls: MAX_CALLS,
            node: node.clone(),
            emergency_numbers: config.sip.emergency_numbers.clone(),
            writes_down: keeper::part().is_some() || config.cluster.is_some(),
        };
        let (shard, listening, roster) =
            start_shard(&config, settings, letters, mail.clone(), outside, listeners).await?;

        // The queue has room: nobody else has its end yet.
        if !restored.is_empty() {
            let _ = mail.try_send(Mail::Restore(restored));
        }
        let _ = mail.try_send(Mail::Resume(left));
        let draining = Arc::new(AtomicBool::new(false));
        let view = api::View {
            store: store.clone(),
            live: outbox.live(),
            recordings: shelves.recordings.clone(),
            conferences: shelves.conferences.clone(),
            messages: shelves.messages.clone(),
            queues: shelves.queues.clone(),
            archive: archive.clone(),
            publisher: outbox.publisher(),
            public_url: config.http.public_url.clone(),
            directory: directory.clone(),
            provisioning: provisioning.clone(),
            last_order: Arc::new(Mutex::new(CallSid::new(0))),
            mail: mail.clone(),
            workers: roster.clone(),
            operator_token: config.http.operator_token.clone(),
            is_named: config.http.is_named,
            draining: draining.clone(),
            metrics: metrics.clone(),
            demo,
        };
        let http_address =
            http.local_addr().map_err(|error| StartError::Listen { what: config.http.listen.to_string(), error })?;
        let router = api::router(view.clone());
        if let Some((listener, authority)) = sdk_proxy {
            let tunnels = config.http.sdk_proxy_tunnels;
            tokio::spawn(proxy::serve(listener, proxy::Settings { authority, router: router.clone(), tunnels }));
        }
        tokio::spawn(api::serve(http, router));
        if let Some(listener) = metrics_http {
            tokio::spawn(api::serve(listener, api::metrics_router(view.clone())));
        }
        if archive.has_bucket() {
            uploads::start(to_upload, store.clone(), archive.clone());
        }
        tokio::spawn(registrations::run(bindings.clone(), config.store.folder.clone()));
        tokio::spawn(expiry::run(config.recordings.keep, store.clone(), archive.clone()));
        tokio::spawn(triggers::run(provisioning.clone(), callbacks.clone()));
        tokio::spawn(observe::run(observe::Observed {
            roster: roster.clone(),
            live: outbox.live(),
            bindings,
            directory: directory.clone(),
            store: store.clone(),
            publisher: outbox.publisher(),
            draining: draining.clone(),
            metrics,
        }));
        if let Some(keeper) = keeper {
            keeper.send(&keeper::FromChild::Ready, &[]).map_err(StartError::Keeper)?;
        }
        Ok(Server {
            config,
            provisioning,
            mail,
            shard: Some(shard),
            outbox,
            callbacks,
            store,
            writer,
            draining,
            log_level,
            listening,
            http: http_address,
        })
    }

    /// What SIP listens on, with the ports that were given.
    pub fn listening(&self) -> &[Listen] {
        &self.listening
    }

    pub fn http(&self) -> SocketAddr {
        self.http
    }

    /// Takes accounts, numbers, users, trunks and the log level of another configuration; `log_level` is the one that
    /// the command line insists on. What needs a restart is named in the log.
    pub async fn reload(&mut self, fresh: Result<Config, ConfigError>, log_level: Option<&str>) {
        let fresh = match fresh {
            Ok(fresh) => fresh,
            Err(error) => {
                tracing::error!(%error, "the new configuration is refused; the old one stays");
                return;
            }
        };
        if let Err(error) = self.provisioning.reload(fresh.directory.clone()).await {
            tracing::error!(%error, "what was made by the API stays as this server knew it");
        }
        if fresh.sip.listen != self.config.sip.listen
            || fresh.sip.name_servers != self.config.sip.name_servers
            || fresh.http.listen != self.config.http.listen
            || fresh.store.url != self.config.store.url
        {
            tracing::warn!("listeners, name servers and the store change only with a restart");
        }
        let level = log_level.unwrap_or(&fresh.server.log_level);
        if let Some(Err(error)) = self.log_level.as_ref().map(|handle| handle.set(level)) {
            tracing::error!(%error, "the log level stays");
        }
        tracing::info!("accounts, numbers, users, trunks and the log level are reloaded");
    }

    /// Takes no new calls, waits for the running ones up to the drain time-out or until `hurry` is told, ends the rest, and stops.
    pub async fn drain_and_stop(mut self, mut hurry: oneshot::Receiver<()>) {
        self.draining.store(true, Ordering::Relaxed);
        let (drained, done) = oneshot::channel();
        let _ = self.mail.send(Mail::Drain(drained)).await;
        let limit = self.config.server.drain_timeout;
        tracing::info!(seconds = limit.as_secs(), "draining: no new calls; running calls may go on for this long");
        let mut done = done;
        let all_over = tokio::select! {
            _ = &mut done => true,
            () = tokio::time::sleep(limit) => false,
            _ = &mut hurry => false,
        };
        if !all_over {
            tracing::warn!("ending the calls that still run");
            let _ = self.mail.send(Mail::EndAll).await;
            let _ = tokio::time::timeout(WIND_UP, done).await;
        }
        self.stop().await;
    }

    async fn stop(&mut self) {
        let _ = self.mail.send(Mail::Stop).await;
        if let Some(shard) = self.shard.take() {
            let _ = tokio::task::spawn_blocking(move || shard.join()).await;
        }
        tokio::task::block_in_place(|| self.outbox.stop());
        // The outbox is gone and with it the writer's queue: it ends when all is written.
        if tokio::time::timeout(WIND_UP, &mut self.writer).await.is_err() {
            tracing::error!("the last calls could not be written in time; the journal has them for the next start");
        }
        if tokio::time::timeout(WIND_UP, self.callbacks.drain()).await.is_err() {
            tracing::warn!("some status callbacks could not be delivered in time");
        }
        self.store.close().await;
        tracing::info!("stopped");
    }
}

async fn bind_http(address: SocketAddr, listeners: &mut Listeners) -> Result<TcpListener, StartError> {
    let what = format!("http://{address}");
    let listener = match listeners.take(&what) {
        Some(listener) => TcpListener::from_std(listener.into()),
        None => TcpListener::bind(address).await,
    };
    let listener = listener.map_err(|error| StartError::Listen { what: what.clone(), error })?;
    listeners.hold(what, listener.as_fd());
    Ok(listener)
}

fn worker_config(config: &Config) -> worker::Config {
    worker::Config {
        address: config.media.address,
        advertise: config.media.advertise,
        ports: config.media.ports.clone(),
        kept_sockets: keeper::raise_open_files() / 4,
        latching: match config.media.latching {
            Latching::Off => worker::Latching::Off,
            Latching::Nat => worker::Latching::Nat,
        },
        clip_cache_bytes: CLIP_BYTES,
        max_sessions: MAX_CALLS,
        recordings: config.recordings.folder.clone(),
        memory: None,
        frames: None,
        seed: u64::from_be_bytes(random_seed()[..8].try_into().expect("eight of thirty-two bytes")),
    }
}

/// Starts the shard's thread; what it listens on comes back when it does.
async fn start_shard(
    config: &Config,
    mut settings: core::Settings,
    letters: tokio::sync::mpsc::Receiver<Mail>,
    own: MailBox,
    outside: Outside,
    mut listeners: Listeners,
) -> Result<(thread::JoinHandle<()>, Vec<Listen>, Roster), StartError> {
    let (ready, bound) = oneshot::channel();
    let listen = config.sip.listen.clone();
    let address = config.media.advertise.to_string();
    let plan = WorkerPlan::of(config, &listeners)?;
    let directory = settings.directory.clone();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(StartError::Runtime)?;
    let body = move || {
        runtime.block_on(async move {
            let transports = Transports::bind(&listen, &mut listeners).map_err(|(listen, error)| StartError::Listen {
                what: format!("{}://{}", listen.transport, listen.bind),
                error,
            });
            let started = match transports {
                Ok(transports) => plan.start().await.map(|workers| (transports, workers)),
                Err(error) => Err(error),
            };
            match started {
                Ok((transports, workers)) => {
                    settings.listening = transports.listening().to_vec();
                    let _ = ready.send(Ok((transports.listening().to_vec(), workers.roster(&address))));
                    shard::run(core::Core::new(settings), transports, workers, letters, own, outside, directory).await;
                }
                Err(error) => {
                    let _ = ready.send(Err(error));
                }
            }
        });
    };
    let thread = thread::Builder::new().name("shard".into()).spawn(body).map_err(StartError::Runtime)?;
    match bound.await {
        Ok(Ok((listening, roster))) => Ok((thread, listening, roster)),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(StartError::Runtime(io::Error::other("the shard's thread ended"))),
    }
}

/// Where an edge's media is moved.
enum WorkerPlan {
    Here(worker::Config),
    Linked { listening: Box<Listening>, epoch: u64, keeper: Option<(keeper::Sender, JoinToken)> },
}

impl WorkerPlan {
    fn of(config: &Config, listeners: &Listeners) -> Result<WorkerPlan, StartError> {
        let keeper = listeners.keeper().map_err(StartError::Keeper)?;
        if keeper.is_none() && config.cluster.is_none() {
            return Ok(WorkerPlan::Here(worker_config(config)));
        }
        let (address, authority) = match &config.cluster {
            Some(cluster) => (cluster.listen, ClusterAuthority::load(&cluster.dir)),
            // Of this machine alone: made with the first start.
            None => {
                let any_port = SocketAddr::from((std::net::Ipv4Addr::LOCALHOST, 0));
                (any_port, ClusterAuthority::load_or_init(&config.store.folder.join("cluster")))
            }
        };
        let authority = authority.map_err(StartError::Cluster)?;
        let identity = authority.identity(Role::Edge, &worker_process::machine_name()).map_err(StartError::Cluster)?;
        let socket = std::net::UdpSocket::bind(address)
            .map_err(|error| StartError::Listen { what: format!("[cluster] {address}"), error })?;
        let keeper = keeper.map(|keeper| (keeper, authority.token(Some(Role::Worker), FOR_EVER)));
        let listening =
            Box::new(Listening { socket, identity, authority: Some(authority), patience: config.media.worker_timeout });
        Ok(WorkerPlan::Linked { listening, epoch: shard::wall_ms(), keeper })
    }

    /// Call inside the shard's runtime.
    async fn start(self) -> Result<Workers, StartError> {
        match self {
            WorkerPlan::Here(media) => Workers::here(media).map_err(StartError::Worker),
            WorkerPlan::Linked { listening, epoch, keeper } => {
                let mut workers = Workers::linked(*listening, epoch, random_seed()).map_err(StartError::Cluster)?;
                let address = workers.address();
                if let (Some((keeper, token)), Some(mut address)) = (keeper, address) {
                    if address.ip().is_unspecified() {
                        address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
                    }
                    worker_process::announce(&keeper, address, &token).map_err(StartError::Keeper)?;
                    if !workers.settled(PATIENCE).await {
                        return Err(StartError::NoWorker);
                    }
                }
                Ok(workers)
            }
        }
    }
}

fn random_seed() -> [u8; 32] {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).expect("the operating system has a source of randomness");
    seed
}
