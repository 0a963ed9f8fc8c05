//! Builds the server from its configuration, starts it, reloads it, drains it and stops it.

mod certificates;
mod cluster;
mod credit;
mod expiry;
mod folder;
mod limits;
mod mirror;
mod observe;
mod orders;
mod presence;
mod registrations;
mod restore;
mod sinks;
mod triggers;
mod uploads;
mod worker_plan;
mod worker_process;

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::Duration;

use dialtone_sip::flow::Transport;
use dialtone_sip::stack;
use dialtone_sip::transport::{Door, Listen, Security, Transports};
use hyper::header::{HeaderName, HeaderValue};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::api;
use crate::app::status::StatusCallbacks;
use crate::app::{AudioCache, AudioLimits, CallbackLimits, Callbacks, Client, ClientConfig, Clips, Guard};
use crate::clock;
use crate::cluster::ClusterError;
use crate::config::{self, Config, ConfigError};
use crate::edges::{About, EdgeId, Edges, kind};
use crate::events::{Outbox, Shelves, Subscriber};
use crate::hot::Bindings;
use crate::ids::CallSid;
use crate::keeper::{self, Listeners};
use crate::presence::Presence;
use crate::provision::{Provisioning, QueueKeeper};
use crate::proxy;
use crate::recordings::{Archive, Sweeper};
use crate::shard::{self, Mail, MailBox, Names, Outside, core, gate, mail_box};
use crate::speech::Speech;
use crate::store::{self, Gathering, Store, StoreError, Written};
use crate::streams::Hub;
use crate::telemetry::history::History;
use crate::telemetry::{self, CallLog, CallMetrics, LogLevel};
use crate::tls::{self, AuthorityError, FilesError};
use crate::workers::Roster;

use certificates::Certificates;
pub use cluster::Seat;
use cluster::{Home, Membership, Neighbours, Papers, Shared};
use folder::{FolderError, FolderLock};
use sinks::Sinks;
use worker_plan::WorkerPlan;
pub use worker_process::{Join, machine_name, run as run_worker};

/// Calls at once on one edge; RTP ports are the other bound.
const MAX_CALLS: usize = 50_000;
/// Audio kept for workers, and by the worker for its players.
const CLIP_BYTES: usize = 256 << 20;
/// How long callbacks and rows may take when the last call is over.
const WIND_UP: Duration = Duration::from_secs(10);
/// How long the workers of this machine may take to be there.
const PATIENCE: Duration = Duration::from_secs(10);
/// Calls that wait to know where a room is; one more is told that it has none, and asks again.
const ROOM_QUESTIONS: usize = 16_384;
/// Sinks that are tested at once.
const SINK_TESTS: usize = 100;
/// Other edges that link at once.
const DIALLING: usize = 64;

/// Why the server does not start. Each says what to do.
#[derive(Debug)]
pub enum StartError {
    Listen {
        what: String,
        error: io::Error,
    },
    Folder(FolderError),
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
    Tls(FilesError),
    Cluster(ClusterError),
    /// What edges share cannot be reached, or has no place for another.
    Hot(String),
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
            StartError::Folder(error) => error.fmt(f),
            StartError::Journal { folder, error } => {
                write!(f, "cannot write the journal in {}: {error}", folder.display())
            }
            StartError::Store(error) => write!(f, "cannot open the store: {error}"),
            StartError::Worker(error) => write!(f, "cannot start the media worker: {error}"),
            StartError::Keeper(error) => write!(f, "cannot speak with the keeper, the parent of this process: {error}"),
            StartError::Runtime(error) => write!(f, "cannot start a thread: {error}"),
            StartError::Authority(error) => {
                write!(f, "cannot make this installation's own certificate authority: {error}")
            }
            StartError::Tls(error) => write!(f, "cannot speak TLS: {error}"),
            StartError::Cluster(error) => write!(f, "cannot take a place in the cluster: {error}"),
            StartError::Hot(error) => write!(f, "cannot use [store] hot, which edges share: {error}"),
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
    /// Of traces.
    exporter: Option<tokio::task::JoinHandle<()>>,
    draining: Arc<AtomicBool>,
    membership: Option<Membership>,
    sharing: Option<limits::Sharing>,
    id: EdgeId,
    log_level: Option<LogLevel>,
    listening: Vec<Listen>,
    http: SocketAddr,
    certificates: Certificates,
    /// Held until the server is gone.
    _folder: FolderLock,
}

impl Server {
    /// Starts everything, or nothing.
    pub async fn start(
        config: Config,
        log_level: Option<LogLevel>,
        demo: bool,
        seat: Seat,
    ) -> Result<Server, StartError> {
        let metrics = telemetry::start_metrics().map_err(StartError::Metrics)?;
        let runtime = tokio::runtime::Handle::current();
        let guard = Guard { allow_private_targets: config.http.allow_private_targets, ..Guard::default() };
        let history = History::default();
        let client = Client::new(ClientConfig {
            guard: guard.clone(),
            history: history.clone(),
            traces: config.traces.is_some(),
            ..ClientConfig::default()
        });
        let callbacks = Callbacks::new(client.clone(), CallbackLimits::default());
        let sink_client = client.clone();
        let folder = FolderLock::take(&config.store.folder).await.map_err(StartError::Folder)?;
        let store = Store::open(config.store.url.expose()).await.map_err(StartError::Store)?;

        let (mail, letters) = mail_box();
        let realm = config.sip.realm.clone();
        let others: Arc<OnceLock<Edges>> = Arc::default();
        let told = others.clone();
        let wrote = Box::new(move || {
            if let Some(edges) = told.get() {
                edges.letter_to_all(kind::RESOURCES, &bytes::Bytes::new());
            }
        });
        let provisioning = Provisioning::start(store.clone(), config.directory.clone(), mail.clone(), realm, wrote);
        let provisioning = Arc::new(provisioning.await.map_err(StartError::Store)?);
        let directory = provisioning.directory().clone();
        let (subscriber, writer) = store::subscriber(Gathering {
            is_shared: config.store.hot.is_some(),
            book: {
                let directory = directory.clone();
                Box::new(move |account| directory.load().price_book(account).cloned())
            },
            is_watched: {
                let directory = directory.clone();
                Box::new(move |account| directory.load().is_watched(account))
            },
            is_heard: {
                let directory = directory.clone();
                Box::new(move |account, at_ms| directory.load().is_heard(account, at_ms))
            },
            public_url: config.http.public_url.clone(),
        });
        let public_url = config.http.public_url.clone();
        let status = StatusCallbacks::new(callbacks.clone(), directory.clone(), public_url, runtime.clone());
        let archive = Archive::new(config.recordings.folder.clone(), config.recordings.bucket.as_ref());
        let (complete, to_upload) = uploads::queue();
        let deleted = store.deleted_recordings().await.map_err(StartError::Store)?;
        let (shelves, sweeper) = (Shelves::default(), Sweeper::new(archive.clone(), runtime.clone()));
        let journal = config.store.folder.join("journal");
        let node = orders::node(&config.store.folder)
            .map_err(|error| StartError::Journal { folder: config.store.folder.clone(), error })?;
        let wall_ms = clock::wall_ms();
        let is_alone = keeper::part().is_none() && config.cluster.is_none();
        let papers = if is_alone { None } else { Some(Papers::get(&config, &seat).await?) };
        let mut shared = match &papers {
            Some(papers) => Shared::join(&config, &node, wall_ms, papers.identity.clone()).await?,
            None => None,
        };
        if let Some(shared) = &shared {
            let _ = others.set(shared.edges.clone());
        }
        if let Some(most) = config.server.metrics_accounts {
            telemetry::accounts::set_most_named(most as usize);
        }
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
        let exporter = config.traces.as_ref().map(|traces| {
            let (tracer, exporter) = telemetry::traces(collector(traces, &seat.name));
            subscribers.push(Box::new(tracer));
            tokio::spawn(exporter.run())
        });
        let kept = shared.as_ref().map(|shared| {
            let (mirror, writer) = mirror::mirror(shared.hot.clone(), shared.edges.me().clone(), shared.slots.clone());
            subscribers.push(Box::new(mirror));
            writer
        });
        let meanwhile = shared.as_ref().map(|shared| shared.meanwhile(store.clone(), runtime.clone()));
        let mut restored = restore::Restored::of(keeper::life(), meanwhile);
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
        let publisher = outbox.publisher();
        let (fires, told, teller) = triggers::teller();
        callbacks.when_delivered(move |call, event| {
            if !told.delivered(event) {
                publisher.delivered(call, event);
            }
        });
        let earlier_lives = shared.as_mut().map(Shared::take_left).unwrap_or_default();
        let earlier: Vec<EdgeId> = earlier_lives.iter().map(|adoption| adoption.from.clone()).collect();
        let unknown = restored.unknown(earlier_lives);
        let mut restored = restored.into_calls();
        cluster::recovered("edge_restart", restored.len(), 0);
        let me = shared.as_ref().map_or(node.clone(), |shared| shared.edges.me().to_string());
        let hot = shared.as_ref().map(|shared| (&shared.hot, shared.edges.me()));
        let sharing = limits::Sharing::of(&config, &store, hot, &node, wall_ms).await;
        let left = orders::left(&store, &me, outbox.take_orders()).await.map_err(StartError::Store)?;
        left.iter().for_each(|(order, queued_ms)| outbox.live().expect(order.queued(*queued_ms)));
        let (hub, streams) = {
            let others = others.clone();
            Hub::new(store.clone(), directory.clone(), move |accounts| {
                if let (Some(edges), Ok(body)) = (others.get(), serde_json::to_vec(accounts)) {
                    edges.letter_to_all(kind::EVENTS, &body.into());
                }
            })
        };
        tokio::spawn(streams);
        let (sink_tests, tests) = tokio::sync::mpsc::channel(SINK_TESTS);
        let written = {
            let (fires, hub, directory, mail) = (fires.clone(), hub.clone(), directory.clone(), mail.clone());
            move |written: Written| {
                // One that finds no place is found in the database.
                written.fires.into_iter().for_each(|fire| drop(fires.try_send(fire)));
                hub.written(written.logged);
                if !written.billed.is_empty() && directory.load().has_budgets() {
                    let mail = mail.clone();
                    tokio::spawn(async move { mail.send(Mail::Billed(written.billed)).await });
                }
            }
        };
        let writer = tokio::spawn(writer.run(store.clone(), outbox.publisher(), shelves.clone(), written));

        let mut listeners = Listeners::receive().await.map_err(StartError::Keeper)?;
        let keeper = listeners.keeper().map_err(StartError::Keeper)?;
        let http = bind_http(config.http.listen, &mut listeners).await?;
        let certificates = Certificates::get(&config)?;
        let sdk_proxy = match (config.http.sdk_proxy, &certificates.authority) {
            (Some(address), Some(authority)) => Some((bind_http(address, &mut listeners).await?, authority.clone())),
            _ => None,
        };
        let metrics_http = match config.http.metrics_listen {
            Some(address) => Some(bind_http(address, &mut listeners).await?),
            None => None,
        };
        let clips = Arc::new(Clips::new(CLIP_BYTES));
        let (claims, claimed) = tokio::sync::mpsc::channel(1);
        let (credit, credit_claims) = tokio::sync::mpsc::channel(1);
        let (rooms, room_questions) = tokio::sync::mpsc::channel(ROOM_QUESTIONS);
        let outside = Outside {
            runtime: runtime.clone(),
            audio: AudioCache::new(client.clone(), clips.clone(), AudioLimits::default()),
            speech: Arc::new(Speech::detect(clips.clone(), &config.store.folder.join("speech"))),
            client,
            clips,
            names: Names::new(config.sip.name_servers.clone()),
            publisher: outbox.publisher(),
            edges: shared.as_ref().map(|shared| shared.edges.clone()),
            rooms: shared.as_ref().map(|_| rooms),
            hep: config.sip.hep.as_ref().map(open_hep).transpose()?,
            credit,
            claims: sharing.as_ref().map(|_| claims),
            life: keeper::life().into(),
        };
        let bindings = Arc::new(Bindings::new(shared.is_some()));
        registrations::restore(&bindings, &config.store.folder);
        if let Some(shared) = &shared {
            registrations::forget_gone(&bindings, &shared.hot).await;
        }
        let id = match &shared {
            Some(shared) => shared.edges.me().clone(),
            None => EdgeId { node: node.clone(), epoch: wall_ms },
        };
        let presence = Presence::new(id.clone());
        let settings = core::Settings {
            stack: stack::Config {
                product: format!("Dialtone/{}", env!("CARGO_PKG_VERSION")),
                slot: shared.as_ref().map_or(0, |shared| shared.slot),
                seed: random_seed(),
            },
            gate: gate::Settings { realm: config.sip.realm.clone(), algorithms: config.sip.digest.clone() },
            directory: directory.load_full(),
            bindings: bindings.clone(),
            presence: presence.clone(),
            listening: Vec::new(),
            public_url: config.http.public_url.clone(),
            outbound: guard,
            srtp: config.media.srtp,
            max_calls: MAX_CALLS,
            all_calls: config.server.calls,
            shares_limits: sharing.as_ref().map(|sharing| sharing.on_loss),
            node: me,
            emergency_numbers: config.sip.emergency_numbers.clone(),
            me: shared.as_ref().map(|shared| shared.edges.me().clone()),
            contact: config.cluster.as_ref().and_then(|cluster| cluster.contact.clone()),
            writes_down: !is_alone,
        };
        let (dialling, dialled) = tokio::sync::mpsc::channel(DIALLING);
        let plan = WorkerPlan::of(&config, &listeners, papers, &node, wall_ms, shared.is_some().then_some(dialling))?;
        let entrance = Entrance { listeners, security: certificates.security.clone() };
        let (shard, listening, roster, door) =
            start_shard(&config, plan, settings, letters, mail.clone(), outside, entrance).await?;

        let draining = Arc::new(AtomicBool::new(false));
        let local = listening.first().map(|listen| listen.advertise);
        let lines = api::Lines::new(door, local, config.sip.realm.clone(), config.sip.origins.clone());
        let view = api::View {
            lines,
            // In development there is one account, and whoever is at the machine has it.
            console: api::Console::new(history, directory.load().accounts().next().map(|own| own.sid).filter(|_| demo)),
            turn: config.media.turn.clone().map(|turn| Arc::new(api::Turn { urls: turn.urls, secret: turn.secret })),
            store: store.clone(),
            live: outbox.live(),
            recordings: shelves.recordings.clone(),
            streams: shelves.streams.clone(),
            conferences: shelves.conferences.clone(),
            messages: shelves.messages.clone(),
            queues: shelves.queues.clone(),
            archive: archive.clone(),
            publisher: outbox.publisher(),
            edges: shared.as_ref().map(|shared| shared.edges.clone()),
            public_url: config.http.public_url.clone(),
            directory: directory.clone(),
            hub: hub.clone(),
            presence: presence.clone(),
            bindings: bindings.clone(),
            requests: api::RequestPlaces::new(sharing.as_ref().map(|sharing| sharing.on_loss)),
            name: seat.name.clone(),
            sink_tests,
            fires,
            ledger: sharing.as_ref().map(|sharing| sharing.ledger.clone()),
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
        let (news, said) = tokio::sync::mpsc::channel(presence::LETTERS);
        tokio::spawn(
            presence::Keeper {
                presence,
                bindings: bindings.clone(),
                directory: directory.clone(),
                shared: shared.as_ref().map(|shared| (shared.hot.clone(), shared.edges.clone())),
                store: store.clone(),
                hub: hub.clone(),
                mail: mail.clone(),
                listening: listening.iter().map(|listen| listen.advertise).collect(),
            }
            .run(said),
        );
        let mut joining = None;
        if let (Some(shared), Some(writer), Some(cluster)) = (shared, kept, &config.cluster) {
            let writing = writer.writing();
            tokio::spawn(writer.run(cluster::fenced));
            let own = About {
                name: seat.name,
                cluster: cluster.listen,
                // WebSockets come in beside the first listener.
                sip: (listening.iter().map(|listen| (listen.transport, listen.advertise)))
                    .chain(local.map(|local| (Transport::Ws, local)))
                    .collect(),
            };
            let mut home = Home {
                hot: shared.hot.clone(),
                me: shared.edges.me().clone(),
                publisher: outbox.publisher(),
                mail: mail.clone(),
                slots: shared.slots.clone(),
                bindings: bindings.clone(),
                own: own.clone(),
                store: store.clone(),
                live: outbox.live(),
                requests: view.requests.clone(),
                news: news.clone(),
                has_seen_all: false,
            };
            restored.extend(home.take_up_unknown(unknown).await?);
            registrations::read_shared(&bindings, &shared.hot, &own.sip).await;
            let (hot, edges) = (shared.hot.clone(), shared.edges.clone());
            tokio::spawn(cluster::find_rooms(hot, edges, mail.clone(), room_questions));
            tokio::spawn(registrations::share(bindings.clone(), shared.hot.clone(), shared.edges.clone()));
            let neighbours = Neighbours {
                mail: mail.clone(),
                bindings: bindings.clone(),
                hot: shared.hot.clone(),
                provisioning: provisioning.clone(),
                view: view.clone(),
                router: router.clone(),
                news: news.clone(),
                ours: own.sip.clone(),
            };
            joining = Some((shared, own, home, neighbours, writing));
        }
        // Before anybody else has a word for these calls.
        if !restored.is_empty() {
            let _ = mail.send(Mail::Restore(restored)).await;
        }
        let _ = mail.send(Mail::Open).await;
        let membership = joining
            .map(|(shared, own, home, neighbours, writing)| shared.start(own, home, neighbours, dialled, writing));
        tokio::spawn(credit::serve(store.clone(), id.clone(), credit_claims, mail.clone()));
        tokio::spawn(credit::forget(store.clone(), id.clone()));
        if let Some(sharing) = &sharing {
            sharing.settled(earlier).into_iter().for_each(|life| drop(mail.try_send(Mail::Settled(life))));
            tokio::spawn(sharing.clone().serve(claimed, mail.clone()));
            tokio::spawn(sharing.clone().live(mail.clone()));
            let (edges, requests) = (view.edges.clone(), view.requests.clone());
            let edges = move || edges.as_ref().map(|edges| edges.linked().len() + 1);
            tokio::spawn(requests.share(sharing.ledger.clone(), sharing.me.clone(), edges));
        }
        let _ = mail.try_send(Mail::Resume(left));
        if let Some((listener, authority)) = sdk_proxy {
            let tunnels = config.http.sdk_proxy_tunnels;
            tokio::spawn(proxy::serve(listener, proxy::Settings { authority, router: router.clone(), tunnels }));
        }
        match (&certificates.http, &config.http.tls) {
            (Some(identity), Some(settings)) => {
                let listening = tls::Listener::new(http, identity.clone(), settings.plain);
                let what = config.http.listen.to_string();
                let listener = listening.map_err(|error| StartError::Listen { what, error })?;
                tokio::spawn(api::serve_tls(listener, router));
            }
            _ => drop(tokio::spawn(api::serve(http, router))),
        }
        if let Some(listener) = metrics_http {
            tokio::spawn(api::serve(listener, api::metrics_router(view.clone())));
        }
        if archive.has_bucket() {
            uploads::start(to_upload, store.clone(), archive.clone());
        }
        tokio::spawn(registrations::run(bindings.clone(), config.store.folder.clone()));
        tokio::spawn(expiry::run(config.recordings.keep, store.clone(), archive.clone()));
        tokio::spawn(expiry::prune_log(store.clone()));
        let (hub, client) = (hub.clone(), sink_client);
        let sinks = Sinks { provisioning: provisioning.clone(), directory: directory.clone(), hub, client };
        tokio::spawn(sinks.run(tests));
        tokio::spawn(teller.run(provisioning.clone(), callbacks.clone()));
        tokio::spawn({
            let provisioning = provisioning.clone();
            async move { provisioning.follow_others().await }
        });
        tokio::spawn(observe::run(observe::Observed {
            roster: roster.clone(),
            live: outbox.live(),
            bindings,
            presence: view.presence.clone(),
            directory: directory.clone(),
            store: store.clone(),
            publisher: outbox.publisher(),
            draining: draining.clone(),
            mail: mail.clone(),
            requests: view.requests.clone(),
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
            exporter,
            draining,
            membership,
            sharing,
            id,
            log_level,
            listening,
            http: http_address,
            certificates,
            _folder: folder,
        })
    }

    /// What SIP listens on, with the ports that were given.
    pub fn listening(&self) -> &[Listen] {
        &self.listening
    }

    pub fn http(&self) -> SocketAddr {
        self.http
    }

    /// As a client of this machine writes it.
    pub fn http_url(&self) -> String {
        format!("{}://{}", if self.config.http.tls.is_some() { "https" } else { "http" }, self.http)
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
        self.certificates.reload();
        let level = log_level.unwrap_or(&fresh.server.log_level);
        if let Some(Err(error)) = self.log_level.as_ref().map(|handle| handle.set(level)) {
            tracing::error!(%error, "the log level stays");
        }
        tracing::info!("accounts, numbers, users, trunks and the log level are reloaded");
    }

    /// Takes no new calls, waits for the running ones up to the drain time-out or until `hurry` is told, leaves the rest to other
    /// edges or ends it, and stops.
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
        if !all_over && self.membership.as_ref().is_some_and(Membership::has_others) {
            tracing::info!("other edges go on with the calls that still run");
        } else if !all_over {
            tracing::warn!("ending the calls that still run");
            let _ = self.mail.send(Mail::EndAll).await;
            let _ = tokio::time::timeout(WIND_UP, done).await;
        }
        self.stop().await;
    }

    async fn stop(&mut self) {
        // Its thread has the links too, by which there is something to be said still.
        let (still, stands_still) = oneshot::channel();
        let _ = self.mail.send(Mail::StandStill(true, still)).await;
        let _ = stands_still.await;
        tokio::task::block_in_place(|| self.outbox.stop());
        if let Some(sharing) = self.sharing.take() {
            sharing.leave().await;
        }
        if let Some(membership) = self.membership.take() {
            membership.leave().await;
        }
        let _ = self.mail.send(Mail::Stop).await;
        if let Some(shard) = self.shard.take() {
            let _ = tokio::task::spawn_blocking(move || shard.join()).await;
        }
        // The outbox is gone and with it the writer's queue: it ends when all is written.
        if tokio::time::timeout(WIND_UP, &mut self.writer).await.is_err() {
            tracing::error!("the last calls could not be written in time; the journal has them for the next start");
        } else {
            credit::leave(&self.store, &self.id).await;
        }
        if let Some(exporter) = self.exporter.take()
            && tokio::time::timeout(WIND_UP, exporter).await.is_err()
        {
            tracing::warn!("the collector of [traces] did not take the last traces in time");
        }
        if tokio::time::timeout(WIND_UP, self.callbacks.drain()).await.is_err() {
            tracing::warn!("some status callbacks could not be delivered in time");
        }
        self.store.close().await;
        tracing::info!("stopped");
    }
}

fn collector(traces: &config::Traces, instance: &str) -> telemetry::Collector {
    let headers = traces.headers.iter().filter_map(|(name, secret)| {
        let mut value = HeaderValue::try_from(secret.expose()).ok()?;
        value.set_sensitive(true);
        Some((HeaderName::try_from(name.as_str()).ok()?, value))
    });
    telemetry::Collector {
        endpoint: traces.endpoint.parse().expect("the configuration has read it"),
        headers: headers.collect(),
        share: traces.share,
        instance: instance.to_owned(),
    }
}

fn open_hep(hep: &config::Hep) -> Result<Arc<telemetry::Hep>, StartError> {
    let opened = telemetry::Hep::open(hep.collector, hep.node, hep.password.expose().to_owned());
    let what = format!("a socket for the collector {}", hep.collector);
    opened.map(Arc::new).map_err(|error| StartError::Listen { what, error })
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

/// What a shard listens with.
struct Entrance {
    listeners: Listeners,
    /// For TLS.
    security: Option<Arc<dyn Security>>,
}

/// Starts the shard's thread; what it listens on comes back when it does.
async fn start_shard(
    config: &Config,
    plan: WorkerPlan,
    mut settings: core::Settings,
    letters: tokio::sync::mpsc::Receiver<Mail>,
    own: MailBox,
    outside: Outside,
    mut entrance: Entrance,
) -> Result<(thread::JoinHandle<()>, Vec<Listen>, Roster, Door), StartError> {
    let (ready, bound) = oneshot::channel();
    let listen = config.sip.listen.clone();
    let address = config.media.advertise.to_string();
    let directory = settings.directory.clone();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(StartError::Runtime)?;
    let body = move || {
        runtime.block_on(async move {
            let transports =
                Transports::bind(&listen, &mut entrance.listeners, entrance.security).map_err(|(listen, error)| {
                    StartError::Listen { what: format!("{}://{}", listen.transport, listen.bind), error }
                });
            let started = match transports {
                Ok(transports) => plan.start().await.map(|workers| (transports, workers)),
                Err(error) => Err(error),
            };
            match started {
                Ok((transports, workers)) => {
                    settings.listening = transports.listening().to_vec();
                    let door = transports.door();
                    let _ = ready.send(Ok((transports.listening().to_vec(), workers.roster(&address), door)));
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
        Ok(Ok((listening, roster, door))) => Ok((thread, listening, roster, door)),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(StartError::Runtime(io::Error::other("the shard's thread ended"))),
    }
}

fn random_seed() -> [u8; 32] {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).expect("the operating system has a source of randomness");
    seed
}
