//! The transport of a browser's leg: the lite side of ICE (RFC 8445) and DTLS for the keys of its media (RFC 5764).
//!
//! One datagram in, some out, and at its end two keys: of RTP it knows nothing. A browser finds us by the candidates of our
//! description, and we find it by its checks: an address is the browser's once a check from there has shown that whoever sends
//! knows our password, and nothing else is answered. We never send a check, and open no connection.

mod dtls;
mod stun;

#[cfg(test)]
pub(crate) mod tests;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::sdp::{Fingerprint, Transport};
use crate::srtp::MasterKey;
use crate::time::{Mono, sooner};

use dtls::Association;
pub use dtls::Identity;
pub use stun::ufrag_of;

/// The transport of one leg.
pub struct Browser {
    identity: Arc<Identity>,
    /// What the browser knows us by and we it, and before that: until it has nominated anew, its media goes by the old one.
    names: Option<Names>,
    before: Option<Names>,
    /// Of the certificate that it must show.
    theirs: Option<Fingerprint>,
    association: Option<Association>,
    /// Where it has nominated us to send, by what priority, and when it was last heard of from there.
    selected: Option<SocketAddr>,
    selected_priority: u32,
    selected_at: Mono,
    /// When it last said that it wants to be sent to (RFC 7675).
    consented_at: Mono,
    out: VecDeque<(SocketAddr, Bytes)>,
}

/// By what the two ends know each other.
#[derive(Clone, PartialEq)]
struct Names {
    ours: Transport,
    theirs: String,
}

/// What became of a transport.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happened {
    /// It is to be sent to there, and was elsewhere, or nowhere.
    Selected(SocketAddr),
    /// Keys for both directions.
    Keys { ours: MasterKey, theirs: MasterKey },
    /// There will be no media under these keys any more; why, for a person.
    Failed(String),
    /// It is nowhere any more, and may come back.
    Lost,
}

/// What a datagram is, by its first byte (RFC 7983).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    Stun,
    Dtls,
    Media,
    Unknown,
}

impl Sort {
    pub fn of(datagram: &[u8]) -> Sort {
        match datagram.first() {
            Some(0..=3) => Sort::Stun,
            Some(20..=63) => Sort::Dtls,
            Some(128..=191) => Sort::Media,
            _ => Sort::Unknown,
        }
    }
}

impl Browser {
    pub fn new(identity: Arc<Identity>) -> Browser {
        Browser {
            identity,
            names: None,
            before: None,
            theirs: None,
            association: None,
            selected: None,
            selected_priority: 0,
            selected_at: Mono(0),
            consented_at: Mono(0),
            out: VecDeque::new(),
        }
    }

    /// What both descriptions say. Another certificate, of either side, is another association: its keys come with its
    /// handshake, and those of the one before are good until then.
    pub fn agree(&mut self, ours: &Transport, theirs: Fingerprint, peer_ufrag: &str, now: Mono) {
        let names = Names { ours: ours.clone(), theirs: peer_ufrag.to_owned() };
        if self.names.as_ref() != Some(&names) {
            self.before = self.names.replace(names);
            // What is nominated by the new ones stands.
            self.selected_priority = 0;
        }
        self.consented_at = now;
        let is_ours = ours.fingerprint == self.identity.fingerprint();
        if self.theirs != Some(theirs) || (is_ours && self.association.is_none()) {
            self.theirs = Some(theirs);
            // One that another worker has shown a certificate for is that worker's: its keys are all that we have of it.
            self.association = is_ours.then(|| Association::new(&self.identity, theirs)).flatten();
        }
    }

    /// Goes on where another worker was.
    pub fn take_up(&mut self, selected: Option<SocketAddr>, now: Mono) {
        self.selected = selected;
        self.consented_at = now;
    }

    /// Takes a check. True where whoever sent it knows our password: what else comes from there is the browser's.
    pub fn handle_stun(
        &mut self,
        from: SocketAddr,
        datagram: &[u8],
        now: Mono,
        happened: impl FnMut(Happened),
    ) -> bool {
        let mut happened = happened;
        let Some(check) = stun::Check::parse(datagram) else { return false };
        let is_for = |names: &&Names| (names.ours.ufrag.as_str(), names.theirs.as_str()) == (check.ours, check.theirs);
        let is_current = self.names.as_ref().is_some_and(|names| is_for(&names));
        let Some(names) = [&self.names, &self.before].into_iter().flatten().find(is_for) else { return false };
        if !check.is_by(&names.ours.pwd) {
            return false;
        }
        self.consented_at = now;
        let answer = check.answer(from, &names.ours.pwd);
        self.send(from, answer.into());
        // Some browsers nominate all that works, and send where the priority is highest (RFC 5245 s8.1.1.2).
        let is_better =
            check.priority >= self.selected_priority || now.since(self.selected_at) >= SELECTED_IS_HEARD_OF_WITHIN;
        let is_wanted = self.selected.is_none() || (check.nominates && is_better);
        if is_current && is_wanted && self.selected != Some(from) {
            (self.selected, self.selected_priority) = (Some(from), if check.nominates { check.priority } else { 0 });
            happened(Happened::Selected(from));
        }
        if self.selected == Some(from) {
            self.selected_at = now;
        }
        true
    }

    /// Takes a datagram of DTLS, which is to be from an address that a check came from.
    pub fn handle_dtls(&mut self, from: SocketAddr, datagram: &[u8], now: Mono, happened: impl FnMut(Happened)) {
        let mut happened = happened;
        let Some(association) = &mut self.association else { return };
        let outcome = association.handle(datagram, now);
        if std::mem::take(&mut association.is_closed) {
            // The signalling tells what that means. Where it tells nothing the page is gone.
            self.consented_at = Mono(now.0.saturating_sub((CONSENT - CLOSED).as_micros() as u64));
        }
        let to = self.selected.unwrap_or(from);
        self.flush(to);
        match outcome {
            Ok(Some(keys)) => happened(Happened::Keys { ours: keys.ours, theirs: keys.theirs }),
            Ok(None) => {}
            Err(why) => happened(Happened::Failed(why)),
        }
    }

    /// When to call [`Browser::handle_timeout`].
    pub fn next_deadline(&self) -> Option<Mono> {
        let expires = self.selected.map(|_| self.consented_at + CONSENT);
        sooner(self.association.as_ref().and_then(Association::next_deadline), expires)
    }

    pub fn handle_timeout(&mut self, now: Mono, happened: impl FnMut(Happened)) {
        let mut happened = happened;
        if let (Some(association), Some(to)) = (&mut self.association, self.selected) {
            association.handle_timeout(now);
            self.flush(to);
        }
        if self.selected.is_some() && now.since(self.consented_at) >= CONSENT {
            self.selected = None;
            happened(Happened::Lost);
        }
    }

    /// The next datagram to send, and where to.
    pub fn poll_transmit(&mut self) -> Option<(SocketAddr, Bytes)> {
        self.out.pop_front()
    }

    fn flush(&mut self, to: SocketAddr) {
        while let Some(datagram) = self.association.as_mut().and_then(Association::poll_transmit) {
            self.send(to, datagram);
        }
    }

    /// What is not sent in time is sent again by who wants an answer.
    fn send(&mut self, to: SocketAddr, datagram: Bytes) {
        if self.out.len() < MAX_OUT {
            self.out.push_back((to, datagram));
        }
    }
}

/// How long a browser that has closed its transport is waited for.
const CLOSED: Duration = Duration::from_secs(2);
/// Longer than the pause between two checks of a way that is in use (RFC 7675 s5.1: 4 to 6 s).
const SELECTED_IS_HEARD_OF_WITHIN: Duration = Duration::from_secs(7);
/// RFC 7675 s5.1.
const CONSENT: Duration = Duration::from_secs(30);
/// A flight has five datagrams.
const MAX_OUT: usize = 16;
