//! The place of an edge in a cluster: its certificate, what it shares with other edges, and what it takes up of one that
//! has died.

use std::collections::{HashMap, HashSet};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use dialtone_media::proto::link;
use dialtone_media::worker::link::endpoint;
use dialtone_sip::msg::Message;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

use super::mirror::{Slots, Writing};
use super::orders;
use dialtone_sip::flow::Transport;

use super::presence::News;
use super::restore::{self, Meanwhile, Restored};
use super::{Join, StartError, machine_name, registrations};
use crate::api::{self, RequestPlaces, View};
use crate::clock;
use crate::cluster::{Admission, Authority, ClusterError, Identity, Role, Through, join_cluster};
use crate::config::Config;
use crate::edges::{self, About, Adoption, Edges, Household, Inbound, Joined, Member, kind};
use crate::events::{
    Event, EventKind, Live, Publisher, States, delivered_of, end_of_lost_call, ends_of_lost_conferences,
};
use crate::hot::{Answer, Bindings, Command, Delta, EdgeId, Hot, KeptCall, Redis};
use crate::ids::EventSid;
use crate::presence::{ClientId, Record};
use crate::provision::Provisioning;
use crate::shard::{Checkpoint, Letter, Mail, MailBox, RoomQuestion};
use crate::store::Store;
use crate::workers::Placement;

/// What an edge is called in its cluster, and the edge that it has joined.
pub struct Seat {
    pub name: String,
    pub join: Option<Join>,
}

impl Default for Seat {
    fn default() -> Seat {
        Seat { name: machine_name(), join: None }
    }
}

/// The certificate of an edge, and who says who may join at it.
pub(super) struct Papers {
    pub(super) identity: Identity,
    admission: Admitting,
}

enum Admitting {
    Own(Box<Authority>),
    Through(SocketAddr),
}

impl Papers {
    /// Call inside a runtime.
    pub(super) async fn get(config: &Config, seat: &Seat) -> Result<Papers, StartError> {
        if let Some(join) = &seat.join {
            return Papers::join(config, seat, join).await;
        }
        let authority = match config.cluster.as_ref().map(|cluster| &cluster.dir) {
            Some(Some(dir)) => Authority::load(dir),
            Some(None) => return Err(StartError::Cluster(ClusterError::Refused(NO_DIR.to_owned()))),
            // Of this machine alone: made with the first start.
            None => Authority::load_or_init(&config.store.folder.join("cluster")),
        };
        let authority = authority.map_err(StartError::Cluster)?;
        let identity = authority.identity(Role::Edge, &seat.name).map_err(StartError::Cluster)?;
        Ok(Papers { identity, admission: Admitting::Own(Box::new(authority)) })
    }

    async fn join(config: &Config, seat: &Seat, join: &Join) -> Result<Papers, StartError> {
        if config.cluster.is_none() || config.store.hot.is_none() || !config.store.url.expose().starts_with("postgres")
        {
            return Err(StartError::Cluster(ClusterError::Refused(NOT_SHARED.to_owned())));
        }
        let file = config.store.folder.join("edge.pem");
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).and_then(|socket| endpoint(socket, None));
        let endpoint = socket.map_err(StartError::Worker)?;
        let joined = join_cluster(&endpoint, join.edge, join.token.as_ref(), Role::Edge, &seat.name, &file).await;
        Ok(Papers { identity: joined.map_err(StartError::Cluster)?, admission: Admitting::Through(join.edge) })
    }

    /// Who says who may join; call inside the runtime that is to answer them.
    pub(super) fn admission(self) -> Result<(Identity, Admission), StartError> {
        let admission = match self.admission {
            Admitting::Own(authority) => Admission::Own(authority),
            Admitting::Through(edge) => {
                let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).and_then(|socket| endpoint(socket, None));
                let endpoint = socket.map_err(StartError::Worker)?;
                Admission::Through(Box::new(Through::new(self.identity.clone(), edge, endpoint)))
            }
        };
        Ok((self.identity, admission))
    }
}

const NO_DIR: &str = "[cluster] needs `dir`, the folder that `dialtone cluster init` has made, or the edge needs --join, the edge to join";
const NOT_SHARED: &str = "several edges share [store] url = \"postgres://...\" and [store] hot = \"redis://...\", and find each other by [cluster] listen: give all three";

/// An edge among others.
pub(super) struct Shared {
    pub(super) hot: Hot,
    pub(super) edges: Edges,
    pub(super) slot: u16,
    pub(super) slots: Slots,
    inbound: mpsc::Receiver<Inbound>,
    identity: Arc<Identity>,
    left: Vec<Adoption>,
    /// The slots of other edges.
    others: Vec<u16>,
}

impl Shared {
    /// Takes a place, where there is a store that edges share.
    pub(super) async fn join(
        config: &Config,
        node: &str,
        epoch: u64,
        identity: Identity,
    ) -> Result<Option<Shared>, StartError> {
        let Some(url) = &config.store.hot else { return Ok(None) };
        let failed = |error: &dyn std::fmt::Display| StartError::Hot(error.to_string());
        let hot = Hot::Redis(Redis::open(url.expose()).await.map_err(|error| failed(&error))?);
        let identity = Arc::new(identity);
        let id = EdgeId { node: node.to_owned(), epoch };
        let member = Member { id, hot: hot.clone(), identity: identity.clone() };
        let Joined { edges, inbound, slot, left, others } =
            edges::join(&member).await.map_err(|error| failed(&error))?;
        let slots = Slots::new(slot);
        left.iter().for_each(|adoption| slots.take(adoption.slot, &adoption.calls));
        Ok(Some(Shared { hot, edges, slot, slots, inbound, identity, left, others }))
    }

    /// What may have become of the calls of an earlier life.
    pub(super) fn meanwhile(&self, store: Store, runtime: tokio::runtime::Handle) -> Meanwhile {
        Meanwhile {
            left: self.left.iter().map(|adoption| adoption.slot).collect(),
            others: self.others.clone(),
            // A database that is away now was there a moment ago: the call is then gone on with, and its CDR is the first's.
            is_over: Box::new(move |call| matches!(runtime.block_on(store.call(call)), Ok(Some(_)))),
        }
    }

    /// Lives among the others from now on.
    pub(super) fn start(
        self,
        about: About,
        household: Home,
        neighbours: Neighbours,
        dialled: mpsc::Receiver<(String, quinn::Connection)>,
        written: Writing,
    ) -> Membership {
        let Shared { hot, edges, slots, inbound, identity, .. } = self;
        tokio::spawn(neighbours.hear(inbound));
        let member = Member { id: edges.me().clone(), hot: hot.clone(), identity };
        let life = tokio::spawn(edges::run(member, edges.clone(), about, move || slots.all(), household, dialled));
        Membership { hot, edges, life, written }
    }

    pub(super) fn take_left(&mut self) -> Vec<Adoption> {
        std::mem::take(&mut self.left)
    }
}

/// A running edge among others.
pub(super) struct Membership {
    hot: Hot,
    edges: Edges,
    life: tokio::task::JoinHandle<()>,
    written: Writing,
}

impl Membership {
    /// Whether there is another edge to go on with what runs here.
    pub(super) fn has_others(&self) -> bool {
        !self.edges.linked().is_empty()
    }

    /// Lives no more: others take up what there is of this edge, which is all written when they do.
    pub(super) async fn leave(self) {
        if tokio::time::timeout(WRITTEN_IN, self.written.all_written()).await.is_err() {
            tracing::warn!("not everything could be written for the other edges in time");
        }
        self.life.abort();
        if let Err(error) = self.hot.ask(Command::Leave { edge: self.edges.me().clone() }).await {
            tracing::warn!(%error, "the other edges will notice only by and by that this one has left");
        }
        self.edges.close();
        // Until that is said.
        tokio::time::sleep(SAID_IN).await;
    }
}

const WRITTEN_IN: Duration = Duration::from_secs(5);
const SAID_IN: Duration = Duration::from_millis(50);

/// What other edges say, and who is concerned.
pub(super) struct Neighbours {
    pub(super) mail: MailBox,
    pub(super) bindings: Arc<Bindings>,
    pub(super) hot: Hot,
    pub(super) provisioning: Arc<Provisioning>,
    pub(super) view: View,
    pub(super) router: axum::Router,
    pub(super) news: mpsc::Sender<News>,
    /// Where this edge listens.
    pub(super) ours: Vec<(Transport, SocketAddr)>,
}

impl Neighbours {
    async fn hear(self, mut inbound: mpsc::Receiver<Inbound>) {
        while let Some(inbound) = inbound.recv().await {
            match inbound {
                Inbound::Received { flow, bytes } => {
                    if let Ok(message) = Message::parse(bytes) {
                        self.post(Mail::Received(flow, message)).await;
                    }
                }
                Inbound::Transmit(transmit) => self.post(Mail::Transmit(transmit)).await,
                Inbound::Letter { kind: kind::BINDINGS, body, .. } => {
                    if let Ok(delta) = serde_json::from_slice::<Delta>(&body) {
                        self.bindings.merge(delta);
                    }
                }
                Inbound::Letter { kind: kind::ROOM, from, body } => match serde_json::from_slice::<Letter>(&body) {
                    Ok(letter) => self.post(Mail::Letter(from, Box::new(letter))).await,
                    Err(error) => tracing::warn!(%error, edge = %from, "another edge's letter cannot be read"),
                },
                Inbound::Letter { kind: kind::RESOURCES, .. } => self.provisioning.others_wrote(),
                Inbound::Letter { kind: kind::PRESENCE, body, .. } => {
                    let read = serde_json::from_slice::<(ClientId, Record)>(&body);
                    // What finds no place is found where all of it is.
                    read.into_iter()
                        .for_each(|(client, record)| drop(self.news.try_send(News::Record(client, record))));
                }
                Inbound::Letter { kind: kind::DEVICE_REMOVED, body, .. } => {
                    let read = serde_json::from_slice::<(ClientId, String)>(&body);
                    read.into_iter().for_each(|(client, sid)| self.view.remove_device(&client, &sid));
                }
                Inbound::Letter { kind: kind::EVENTS, body, .. } => {
                    serde_json::from_slice(&body).into_iter().for_each(|accounts| self.view.hub.look(accounts));
                }
                Inbound::Letter { kind, .. } => tracing::debug!(kind, "another edge's letter is not understood"),
                // What was said while there was no link is read where all of it is.
                Inbound::Linked(edge) => {
                    self.post(Mail::EdgeLinked(edge)).await;
                    let _ = self.news.try_send(News::Everything);
                    let (bindings, hot) = (self.bindings.clone(), self.hot.clone());
                    let ours = self.ours.clone();
                    tokio::spawn(async move { registrations::read_shared(&bindings, &hot, &ours).await });
                    self.provisioning.others_wrote();
                }
                Inbound::Ask(ask) => {
                    let (view, router) = (self.view.clone(), self.router.clone());
                    tokio::spawn(async move {
                        if let Some(answer) = api::neighbours::answer(&view, router, ask.kind, &ask.body).await {
                            ask.answer(answer).await;
                        }
                    });
                }
            }
        }
    }

    async fn post(&self, letter: Mail) {
        // The shard ends with the process.
        let _ = self.mail.send(letter).await;
    }
}

/// Finds rooms: whoever claims a name first has it.
pub(super) async fn find_rooms(hot: Hot, edges: Edges, mail: MailBox, mut asked: mpsc::Receiver<RoomQuestion>) {
    let me = edges.me().clone();
    while let Some(question) = asked.recv().await {
        match question {
            RoomQuestion::Where(wish) => {
                let claim = Command::Claim { edge: me.clone(), name: wish.room(), value: String::new() };
                let owner = match hot.ask(claim).await {
                    Ok(Answer::Claimed { edge, .. }) => edge,
                    // Every edge comes to the same, as long as they know of each other.
                    _ => edges
                        .linked()
                        .into_iter()
                        .chain([me.clone()])
                        .max_by_key(|edge| rank(&wish.room(), edge))
                        .unwrap_or(me.clone()),
                };
                let owner = Some(owner).filter(|owner| *owner != me);
                if mail.send(Mail::RoomFound(wish, owner)).await.is_err() {
                    return;
                }
            }
            RoomQuestion::Keep(room) => {
                let claim = Command::Claim { edge: me.clone(), name: room, value: String::new() };
                if let Ok(Answer::Claimed { edge, .. }) = hot.ask(claim).await
                    && edge != me
                {
                    tracing::warn!(%edge, "another edge has made a room of the same name while the shared store had forgotten this one");
                }
            }
            RoomQuestion::GivenUp(room) => {
                let command = Command::Unclaim { edge: me.clone(), name: room, value: String::new() };
                // What is not given back is this edge's still, which makes the room anew when it is wanted.
                let _ = hot.ask(command).await;
            }
        }
    }
}

/// Where a room is while the store is away (rendezvous hashing).
fn rank(room: &str, edge: &EdgeId) -> [u8; 32] {
    Sha256::new_with_prefix(format!("{room} {edge}")).finalize().into()
}

/// Where calls of dead edges go on.
pub(super) struct Home {
    pub(super) hot: Hot,
    pub(super) me: EdgeId,
    pub(super) publisher: Publisher,
    pub(super) mail: MailBox,
    pub(super) slots: Slots,
    pub(super) bindings: Arc<Bindings>,
    pub(super) own: About,
    pub(super) store: Store,
    pub(super) live: Live,
    pub(super) requests: RequestPlaces,
    pub(super) news: mpsc::Sender<News>,
    /// Whether it was said which edges live.
    pub(super) has_seen_all: bool,
}

impl Home {
    /// Of an earlier life of this node: what is there of calls that its journal does not know to run. Some are over, and that was
    /// not told to the store of the cluster any more; others go on, from what is kept there.
    pub(super) async fn take_up_unknown(
        &mut self,
        kept: Vec<KeptCall>,
    ) -> Result<Vec<(Checkpoint, Option<Placement>)>, StartError> {
        let mut running = Vec::new();
        for kept in kept {
            if self.live.get(kept.call).is_some() {
                // The journal has told it again: what is left to do is done, and then it is forgotten.
            } else if self.store.call(kept.call).await.map_err(StartError::Store)?.is_some() {
                self.slots.forget(kept.call);
            } else {
                running.push(kept);
            }
        }
        Ok(self.take_up(running))
    }

    fn give_back_empty_slots(&self) {
        for slot in self.slots.take_empty() {
            let (hot, free) = (self.hot.clone(), Command::Free { edge: self.me.clone(), slot });
            // Where it is not given back whoever comes after this edge does so.
            tokio::spawn(async move { hot.ask(free).await });
        }
    }

    fn take_up(&self, kept: Vec<KeptCall>) -> Vec<(Checkpoint, Option<Placement>)> {
        let taken = Taken::read(kept);
        recovered("edge_lost", taken.calls.len(), taken.ends.len());
        // Their members join anew, wherever the rooms of these names are then.
        let ends = ends_of_lost_conferences(&taken.events, clock::wall_ms());
        tokio::task::block_in_place(|| self.publisher.adopt(taken.events, taken.delivered, taken.states));
        for end in taken.ends.into_iter().chain(ends) {
            self.publisher.publish(end);
        }
        self.give_back_empty_slots();
        taken.calls
    }
}

impl Household for Home {
    fn adopted(&mut self, adoption: Adoption) {
        let Adoption { slot, from, about, calls } = adoption;
        self.slots.take(slot, &calls);
        tracing::warn!(edge = %from, name = about.as_ref().map(|about| &about.name), calls = calls.len(), "an edge is dead: its calls go on here");
        if let Some(about) = about {
            self.bindings.bring_home(&about.sip, &self.own.sip);
        }
        let (mail, calls) = (self.mail.clone(), self.take_up(calls));
        let (store, live, me) = (self.store.clone(), self.live.clone(), self.me.to_string());
        tokio::spawn(async move {
            let _ = mail.send(Mail::Restore(calls)).await;
            let _ = mail.send(Mail::Settled(from.clone())).await;
            let orders = orders::taken_over(&store, &from.to_string(), &me).await;
            orders.iter().for_each(|(order, queued_ms)| live.expect(order.queued(*queued_ms)));
            let _ = mail.send(Mail::Resume(orders)).await;
        });
    }

    fn all(&mut self, all: &[(EdgeId, About)]) {
        if !std::mem::replace(&mut self.has_seen_all, true) {
            let alive = all.iter().map(|(edge, _)| edge.clone()).collect();
            let _ = self.news.try_send(News::Alive(alive));
        }
        let edge =
            |(id, about): &(EdgeId, About)| link::Edge { node: id.node.clone(), address: about.cluster.to_string() };
        let (mail, edges) = (self.mail.clone(), link::Edges { edges: all.iter().map(edge).collect() });
        tokio::spawn(async move { mail.send(Mail::Edges(edges)).await });
    }

    fn forgotten(&mut self) {
        tracing::warn!(
            "the shared store of [store] hot has forgotten everything: what this edge knows is written there again"
        );
        self.publisher.tell_again();
        self.bindings.tell_all();
        let _ = self.news.try_send(News::Forgotten);
        self.requests.tell_again();
        let mail = self.mail.clone();
        tokio::spawn(async move {
            let _ = mail.send(Mail::KeepRooms).await;
            let _ = mail.send(Mail::TellPlaces).await;
        });
    }

    fn gone(&mut self, edge: &EdgeId) {
        let _ = self.news.try_send(News::Gone(edge.clone()));
        let (mail, edge) = (self.mail.clone(), edge.clone());
        tokio::spawn(async move { mail.send(Mail::EdgeGone(edge)).await });
    }

    fn fenced(&mut self) {
        fenced();
    }
}

/// Others have our calls. Nothing is told of them any more, by us: the process ends as it stands, and the next one begins
/// without them.
pub(super) fn fenced() {
    tracing::error!(
        "other edges took this one for dead and have taken up its calls: it ends now, and starts anew without them"
    );
    std::process::exit(75);
}

/// Counts calls that go on, or cannot.
pub(super) fn recovered(cause: &'static str, resumed: usize, ended: usize) {
    for (outcome, count) in [("resumed", resumed), ("ended", ended)] {
        metrics::counter!("dialtone_calls_recovered_total", "cause" => cause, "outcome" => outcome)
            .increment(count as u64);
    }
}

/// What was kept of calls, read.
#[derive(Default)]
pub(super) struct Taken {
    pub(super) calls: Vec<(Checkpoint, Option<Placement>)>,
    events: Vec<Event>,
    delivered: HashSet<EventSid>,
    states: States,
    /// Of calls that cannot be gone on with.
    ends: Vec<Event>,
}

impl Taken {
    fn read(kept: Vec<KeptCall>) -> Taken {
        let mut taken = Taken::default();
        for kept in kept {
            // One may be there twice, where an answer of the store was lost.
            let lines = kept.events.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
            let mut seen = HashSet::new();
            taken.delivered.extend(lines.clone().filter_map(delivered_of));
            let read = lines.filter_map(|line| serde_json::from_slice::<Event>(line).ok());
            let events: Vec<Event> = read.filter(|event| seen.insert(event.id)).collect();
            if events.iter().any(|event| matches!(event.kind, EventKind::Completed(_))) {
                // It is over: what is left is to tell everybody.
                taken.events.extend(events);
                continue;
            }
            let state = kept.state.and_then(|state| Some((restore::read(kept.call, &state)?, state)));
            match state {
                Some((call, state)) => {
                    taken.calls.push(call);
                    taken.states.insert(kept.call, state);
                }
                None => {
                    let own = || events.iter().filter(|event| !event.kind.stands_alone());
                    let last = own().map(|event| event.sequence).max().unwrap_or_default();
                    taken.ends.extend(own().next().map(|first| end_of_lost_call(first, last + 1, clock::wall_ms())));
                }
            }
            taken.events.extend(events);
        }
        taken
    }
}

impl Restored {
    /// What the store of the cluster has of calls that the journal of this machine does not know.
    pub(super) fn unknown(&self, left: Vec<Adoption>) -> Vec<KeptCall> {
        let known: HashMap<_, ()> = self.seen().map(|call| (call, ())).collect();
        left.into_iter().flat_map(|adoption| adoption.calls).filter(|kept| !known.contains_key(&kept.call)).collect()
    }
}
