//! Links between sessions: a member and its conference, or the two that a queue has joined. Where both are on one worker they meet
//! by the link's key; else their workers are told of each other, whichever edges the sessions are of.

use bytes::Bytes;
use dialtone_media::proto::{Command, CommandKind, LinkRoute};
use hmac::{Hmac, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use super::{Output, Pool, Told};
use crate::workers::balancer::WorkerId;

/// Where one end of a link is whose other end another edge has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkEnd {
    worker: String,
    frames_address: String,
    /// Fresh whenever the end has moved: its part of the link's secret.
    nonce: [u8; 32],
}

/// A link between two sessions. Where they are on one worker they meet by its key; else their workers are told of each other.
#[derive(Default)]
pub(super) struct Link {
    pub(super) ends: Vec<u64>,
    /// The workers that were told.
    told: Option<(WorkerId, WorkerId)>,
    /// The other end is another edge's.
    away: Option<Away>,
}

struct Away {
    peer: String,
    /// Of the two ends, for both of them.
    is_first: bool,
    own: Option<LinkEnd>,
    far: Option<LinkEnd>,
    /// A route was told to the worker here.
    is_routed: bool,
}

impl Pool {
    /// The other end of that link is with another edge, which is known to whoever asks as `peer`.
    pub fn link_to(&mut self, key: u64, peer: String, is_first: bool) {
        self.links.entry(key).or_default().away = Some(Away { peer, is_first, own: None, far: None, is_routed: false });
    }

    /// Tells another edge anew where the ends of its links are: it may have missed that.
    pub fn tell_link_ends(&mut self, peer: &str) {
        let its = self.links.iter().filter(|(_, link)| link.away.as_ref().is_some_and(|away| away.peer == peer));
        let mut keys: Vec<u64> = its.map(|(key, _)| *key).collect();
        keys.sort_unstable();
        keys.into_iter().for_each(|key| self.connect_away(key));
    }

    /// The other edge tells where its end of a link is.
    pub fn far_end(&mut self, key: u64, end: LinkEnd) {
        if let Some(away) = self.links.get_mut(&key).and_then(|link| link.away.as_mut()) {
            away.far = Some(end);
            self.route(key);
        }
    }

    /// The end here has a worker, perhaps another than before: the other edge is told so.
    fn connect_away(&mut self, key: u64) {
        let Some(session) = self.links.get(&key).and_then(|link| link.ends.first()) else { return };
        let Some(placed) = self.sessions.get(session).filter(|placed| placed.homeless_since.is_none()) else { return };
        let Some(worker) = self.workers.get(&placed.worker) else { return };
        let (worker, frames_address) = (worker.name.clone(), worker.frames_address.clone());
        let nonce = self.fresh_secret();
        let Some(away) = self.links.get_mut(&key).and_then(|link| link.away.as_mut()) else { return };
        let end = LinkEnd { worker, frames_address, nonce };
        away.own = Some(end.clone());
        self.out.push_back(Output::Told(Told::LinkEnd { peer: away.peer.clone(), key, end }));
        self.route(key);
    }

    /// Tells the worker here of the other one, if both are known and are two. The secret is of both ends' parts, in an order
    /// that both know: whenever one of them moves it is another.
    fn route(&mut self, key: u64) {
        let Some(Link { ends, away: Some(away), .. }) = self.links.get_mut(&key) else { return };
        let (Some(own), Some(far), Some(session_id)) = (&away.own, &away.far, ends.first().copied()) else { return };
        let is_here = own.worker == far.worker;
        if is_here && !away.is_routed {
            return;
        }
        away.is_routed = !is_here;
        let is_first = away.is_first;
        let (first, second) = if is_first { (own, far) } else { (far, own) };
        let mut mac = Hmac::<Sha256>::new_from_slice(&first.nonce).expect("a key of any length is one");
        mac.update(&second.nonce);
        let secret = Bytes::copy_from_slice(&mac.finalize().into_bytes());
        let address = if is_here { String::new() } else { far.frames_address.clone() };
        let Some(placed) = self.sessions.get(&session_id) else { return };
        let worker = placed.worker;
        self.next_command += 1;
        let kind = CommandKind::Link(LinkRoute { key, address, secret, is_first });
        let command = Command { command_id: self.next_command, session_id, owner_epoch: self.epoch, kind: Some(kind) };
        self.out.push_back(Output::Command { worker, command });
    }

    /// Both ends of a link may have a worker by now: if they are two, each is told of the other, with a fresh secret.
    pub(super) fn connect(&mut self, key: u64) {
        let Some(link) = self.links.get_mut(&key) else { return };
        if link.away.is_some() {
            return self.connect_away(key);
        }
        let [one, other] = link.ends[..] else { return };
        let home = |session| {
            self.sessions.get(&session).filter(|placed| placed.homeless_since.is_none()).map(|placed| placed.worker)
        };
        let (Some(first), Some(second)) = (home(one), home(other)) else { return };
        let is_here = first == second;
        if is_here && link.told.is_none() {
            return;
        }
        link.told = (!is_here).then_some((first, second));
        let secret = Bytes::copy_from_slice(&self.fresh_secret());
        // An empty address: they meet by the key.
        let address_of = |id| match self.workers.get(&id) {
            Some(worker) if !is_here => worker.frames_address.clone(),
            _ => String::new(),
        };
        let ends = [(one, first, address_of(second), true), (other, second, address_of(first), false)];
        for (session_id, worker, address, is_first) in ends {
            self.next_command += 1;
            let kind = CommandKind::Link(LinkRoute { key, address, secret: secret.clone(), is_first });
            let command =
                Command { command_id: self.next_command, session_id, owner_epoch: self.epoch, kind: Some(kind) };
            self.out.push_back(Output::Command { worker, command });
        }
    }

    fn fresh_secret(&mut self) -> [u8; 32] {
        self.secrets += 1;
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.secret).expect("a key of any length is one");
        mac.update(&self.secrets.to_be_bytes());
        mac.finalize().into_bytes().into()
    }
}
