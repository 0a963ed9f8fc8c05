//! Who of the edges lives: each says so once a second, and whoever has not for three is dead. Its slots, and its calls with
//! them, go to the first that takes them; one that is merely cut off from the store, and still linked to the others, is left alone.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use quinn::Connection;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::{About, Edges, Inbound, Known, link};
use crate::clock::mono_us;
use crate::cluster::Identity;
use crate::hot::{Alive, Answer, Command, EdgeId, Hot, HotError, KeptCall};

const BEAT: Duration = Duration::from_secs(1);
const LEASE_MS: u64 = 3_000;
/// By its own clock an edge has less, so that it stands still before others take its calls.
const LEASE_US: u64 = (LEASE_MS - 200) * 1000;
/// What it takes to start, before anything runs.
const STARTS_IN_US: u64 = 30_000_000;
/// Others tell a store that has forgotten everything of themselves within this time.
const BARRIER: Duration = Duration::from_millis(1_500);
/// What other edges tell and the shard has not taken: they wait.
const INBOUND: usize = 4096;

/// This edge in its cluster.
pub struct Member {
    pub id: EdgeId,
    pub hot: Hot,
    pub identity: Arc<Identity>,
}

/// What was found when this edge came.
pub struct Joined {
    pub edges: Edges,
    pub inbound: mpsc::Receiver<Inbound>,
    /// That its new calls are minted with.
    pub slot: u16,
    /// What an earlier life of this node has left: its slots are this one's now.
    pub left: Vec<Adoption>,
    /// The slots of others.
    pub others: Vec<u16>,
}

/// A slot that this edge has taken, with its calls.
pub struct Adoption {
    pub slot: u16,
    pub from: EdgeId,
    /// What that edge had let others know of itself, if it is remembered.
    pub about: Option<About>,
    pub calls: Vec<KeptCall>,
}

/// Why an edge has no place in its cluster.
#[derive(Debug)]
pub enum JoinError {
    Hot(HotError),
    /// Each of the 4,096 slots has an owner.
    NoSlot,
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            JoinError::Hot(error) => error.fmt(f),
            JoinError::NoSlot => f.write_str("no slot is free: 4,096 edges have one each"),
        }
    }
}

impl From<HotError> for JoinError {
    fn from(error: HotError) -> JoinError {
        JoinError::Hot(error)
    }
}

/// Takes a place among the edges: what earlier lives of this node have left, and a slot of its own.
pub async fn join(member: &Member) -> Result<Joined, JoinError> {
    let Member { id, hot, .. } = member;
    // What it listens on is known later; until then nobody has a reason to ask.
    let beat = Command::Beat {
        edge: id.clone(),
        lease_ms: LEASE_MS,
        about: String::new(),
        slots: Vec::new(),
        barrier_ms: LEASE_MS,
    };
    let mut alive = alive(hot.ask(beat.clone()).await?);
    if alive.slots.is_empty() {
        // A store that is new, or has just forgotten who has which slot.
        tokio::time::sleep(BARRIER).await;
        alive = self::alive(hot.ask(beat).await?);
    }
    let (mut left, mut others, mut owners) = (Vec::new(), Vec::new(), HashMap::new());
    for (slot, owner) in alive.slots {
        if owner.node == id.node && owner.epoch != id.epoch {
            // Two lives of a node are never at once: its keeper sees to that.
            hot.ask(Command::Leave { edge: owner.clone() }).await?;
            left.extend(adopt(hot, id, slot, owner, None).await?);
        } else {
            others.push(slot);
            owners.insert(slot, owner);
        }
    }
    let began_us = mono_us();
    let taken = hot.ask(Command::TakeFree { edge: id.clone() }).await?;
    let Answer::Slot(Some(slot)) = taken else { return Err(JoinError::NoSlot) };
    let (inbound_sender, inbound) = mpsc::channel(INBOUND);
    owners.extend(left.iter().map(|adoption: &Adoption| adoption.slot).chain([slot]).map(|slot| (slot, id.clone())));
    let edges = Edges::new(id.clone(), owners, inbound_sender);
    // What was told before the slot was taken is a moment older; the first beat comes as soon as everything is there.
    edges.extend_lease(began_us + STARTS_IN_US);
    Ok(Joined { edges, inbound, slot, left, others })
}

fn alive(answer: Answer) -> Alive {
    match answer {
        Answer::Alive(alive) => alive,
        _ => Alive::default(),
    }
}

async fn adopt(
    hot: &Hot,
    me: &EdgeId,
    slot: u16,
    from: EdgeId,
    about: Option<About>,
) -> Result<Option<Adoption>, HotError> {
    let answer = hot.ask(Command::Adopt { edge: me.clone(), slot, from: from.clone() }).await?;
    let Answer::Adopted(Some(calls)) = answer else { return Ok(None) };
    Ok(Some(Adoption { slot, from, about, calls }))
}

/// What a member needs of whoever runs it.
pub trait Household: Send {
    /// Takes up what a dead edge has left.
    fn adopted(&mut self, adoption: Adoption);

    /// All edges are these from now on, this one among them.
    fn all(&mut self, all: &[(EdgeId, About)]);

    /// That edge is dead.
    fn gone(&mut self, edge: &EdgeId);

    /// The shared store has forgotten everything: what this edge knows is to be written there again.
    fn forgotten(&mut self);

    /// Others have this edge's slots by now: what runs here is not its any more.
    fn fenced(&mut self);
}

/// Beats, keeps the links up, and takes up what is left, until the process ends.
pub async fn run(
    member: Member,
    edges: Edges,
    about: About,
    slots: impl Fn() -> Vec<u16> + Send,
    mut household: impl Household,
    mut dialled: mpsc::Receiver<(String, Connection)>,
) {
    let me = member.id.clone();
    let told = serde_json::to_string(&about).unwrap_or_default();
    let mut ticks = tokio::time::interval(BEAT);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut abouts: HashMap<EdgeId, About> = HashMap::new();
    let mut all: Vec<(EdgeId, About)> = Vec::new();
    let mut dialling = HashMap::new();
    // Those that do not beat any more.
    let mut gone: Vec<EdgeId> = Vec::new();
    let (mut is_away, mut is_cut_off) = (false, false);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            // One that has taken its leave is known to have done so.
            () = edges.inner.lost.notified() => {}
            Some((name, connection)) = dialled.recv() => {
                tracing::debug!(name, "an edge dials");
                tokio::spawn(link::run(edges.clone(), connection, false));
                continue;
            }
        }
        let beat = Command::Beat {
            edge: me.clone(),
            lease_ms: LEASE_MS,
            about: told.clone(),
            slots: slots(),
            barrier_ms: LEASE_MS,
        };
        let asked_us = mono_us();
        let alive = match member.hot.ask(beat).await {
            Ok(answer) => alive(answer),
            Err(error) => {
                metrics::gauge!("dialtone_store_up", "backend" => "redis").set(0.0);
                // Whoever is linked to others, or has none, is not cut off: they leave its calls alone.
                if all.len() < 2 || !edges.linked().is_empty() {
                    edges.extend_lease(mono_us() + LEASE_US);
                } else if !edges.holds_lease() && !std::mem::replace(&mut is_cut_off, true) {
                    tracing::error!(
                        "this edge reaches neither the shared store nor any other edge, which may take up its calls: it stands still until it does"
                    );
                }
                if !std::mem::replace(&mut is_away, true) {
                    tracing::error!(%error, "the shared store of [store] hot does not answer: calls go on, and are not taken up by others meanwhile");
                }
                continue;
            }
        };
        metrics::gauge!("dialtone_store_up", "backend" => "redis").set(1.0);
        if std::mem::replace(&mut is_away, false) {
            tracing::info!("the shared store of [store] hot answers again");
        }
        // One that was given back while this was on its way is no loss.
        let has = slots();
        if alive.lost.iter().any(|lost| has.contains(lost)) {
            household.fenced();
            return;
        }
        edges.extend_lease(asked_us + LEASE_US);
        if std::mem::replace(&mut is_cut_off, false) {
            tracing::warn!("this edge has its calls still, and goes on");
        }
        if !alive.forgotten.is_empty() {
            household.forgotten();
        }
        for (edge, text) in &alive.edges {
            if let Ok(about) = serde_json::from_str::<About>(text) {
                abouts.insert(edge.clone(), about);
            }
        }
        know(&edges, &alive, &abouts);
        let now = alive.edges.iter().filter_map(|(edge, _)| Some((edge.clone(), abouts.get(edge)?.clone())));
        let now: Vec<(EdgeId, About)> = now.collect();
        if now != all {
            household.all(&now);
            let has_gone = |(edge, _): &&(EdgeId, About)| !now.iter().any(|(lives, _)| lives == edge);
            gone.extend(all.iter().filter(has_gone).map(|(edge, _)| edge.clone()));
            all = now;
        }
        dial_others(&member, &edges, &all, &mut dialling);
        let linked = edges.linked();
        gone.retain(|edge| {
            // Who is cut off from the store alone lives all the same.
            let is_dead = !alive.lives(edge) && !linked.contains(edge);
            if is_dead {
                household.gone(edge);
            }
            !is_dead && !alive.lives(edge)
        });
        let is_dead = |owner: &EdgeId| *owner != me && !alive.lives(owner) && !linked.contains(owner);
        for (slot, owner) in alive.slots.iter().filter(|(_, owner)| is_dead(owner)) {
            match adopt(&member.hot, &me, *slot, owner.clone(), abouts.get(owner).cloned()).await {
                Ok(Some(adoption)) => household.adopted(adoption),
                Ok(None) => {}
                Err(error) => {
                    tracing::error!(%error, edge = %owner, "what a dead edge has left cannot be taken up now")
                }
            }
        }
    }
}

fn know(edges: &Edges, alive: &Alive, abouts: &HashMap<EdgeId, About>) {
    let living = || alive.edges.iter().filter_map(|(edge, _)| Some((edge, abouts.get(edge)?)));
    let listeners = living().flat_map(|(edge, about)| about.sip.iter().map(|listener| (*listener, edge.clone())));
    let known = Known {
        owners: alive.slots.iter().cloned().collect(),
        listeners: listeners.collect(),
        abouts: living().map(|(edge, about)| (edge.clone(), about.clone())).collect(),
    };
    edges.inner.known.store(Arc::new(known));
}

/// Of two the one with the lower name dials.
fn dial_others(
    member: &Member,
    edges: &Edges,
    all: &[(EdgeId, About)],
    dialling: &mut HashMap<EdgeId, JoinHandle<()>>,
) {
    dialling.retain(|_, link| !link.is_finished());
    for (edge, about) in all.iter().filter(|(edge, _)| member.id < *edge) {
        let dial = || {
            let (identity, edges) = (Arc::clone(&member.identity), edges.clone());
            let (edge, address) = (edge.clone(), about.cluster);
            tokio::spawn(async move {
                match link::dial(&identity, address).await {
                    Ok(connection) => link::run(edges, connection, true).await,
                    Err(error) => tracing::debug!(%edge, %address, %error, "another edge cannot be reached"),
                }
            })
        };
        dialling.entry(edge.clone()).or_insert_with(dial);
    }
}
