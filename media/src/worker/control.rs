//! What commands do to a shard: sessions come and go, and with them their sockets, links and places.

use std::collections::HashMap;
use std::sync::Arc;

use super::net::Opener;
use super::recordings::RecordingKey;
use super::shard::{Entry, Panicked, Shard, guarded, mark};
use super::timers::Place;
use crate::clips::{Clip, ClipHash};
use crate::ids::{LegId, LinkKey, SessionId};
use crate::proto::{self, Command, CommandKind, LegKind, MediaEvent, MediaEventKind, Refusal};
use crate::session::{Session, Settings, unknown};
use crate::time::Mono;

/// What other threads ask of a shard.
pub(super) enum Control {
    Command(Command),
    EdgeLost(SessionId),
    EdgeBack(SessionId),
    Drain,
    ForgetInherited,
}

impl Shard {
    pub fn take_controls(&mut self, now: Mono) {
        while let Ok(control) = self.queue.try_recv() {
            self.take_control(control, now);
        }
    }

    pub fn take_control(&mut self, control: Control, now: Mono) {
        match control {
            Control::Command(command) => self.take_command(&command, now),
            Control::EdgeLost(session) => self.call_id(session, now, |session| session.handle_edge_lost(now)),
            Control::EdgeBack(session) => self.call_id(session, now, |session| session.handle_edge_back(now)),
            Control::ForgetInherited => self.net.forget_inherited(),
            // What is refused for want of room is tried elsewhere.
            Control::Drain => self.config.max_sessions = 0,
        }
    }

    fn call_id(&mut self, session: SessionId, now: Mono, input: impl FnOnce(&mut Session)) {
        if let Some(index) = self.by_id.get(&session).copied() {
            self.call(index, now, input);
        }
    }

    pub fn take_command(&mut self, command: &Command, now: Mono) {
        self.is_stale = true;
        match &command.kind {
            Some(CommandKind::Audio(audio)) => return self.take_audio(command, audio, now),
            Some(CommandKind::Link(route)) => return self.far.iter_mut().for_each(|far| far.set(route)),
            _ => {}
        }
        let id = SessionId(command.session_id);
        let index = match (self.by_id.get(&id), &command.kind) {
            (Some(index), _) => *index,
            (None, Some(CommandKind::Open(spec))) if self.sessions.len() >= self.config.max_sessions => {
                return self.refuse_all(command, spec);
            }
            (None, Some(CommandKind::Open(_))) => self.insert(id, command.owner_epoch, now),
            (None, _) => return unknown(command).into_iter().for_each(&mut self.events),
        };
        mark(self.config.memory.as_ref(), command.session_id);
        let Shard { sessions, net, clips, .. } = self;
        let Entry { session, endpoints, .. } = &mut sessions[index];
        let mut opener = Opener { net, session: index, id, now, opened: Vec::new() };
        let outcome = guarded(|| session.handle_command(command, &mut opener, clips, now));
        endpoints.append(&mut opener.opened);
        match outcome {
            Ok(()) => {
                // Goodbyes leave by sockets that are about to close.
                self.transmit(index, now);
                self.reconcile(index, now);
                self.tell(index, now);
                if let Some(CommandKind::Open(spec)) = &command.kind {
                    self.forget_if_refused(index, spec, now);
                }
            }
            Err(Panicked) => self.bury(index, now),
        }
    }

    /// A session of whose legs none could be made was refused: there is nothing to release.
    fn forget_if_refused(&mut self, index: usize, spec: &proto::SessionSpec, now: Mono) {
        let has_legs = self.sessions.get(index).is_some_and(|entry| entry.session.leg_count() > 0);
        if !has_legs && !spec.legs.is_empty() {
            self.remove(index, now);
        }
    }

    /// No capacity: every RTP leg of the spec is refused, and there is no session.
    fn refuse_all(&mut self, command: &Command, spec: &proto::SessionSpec) {
        for leg in spec.legs.iter().filter(|leg| matches!(leg.kind, Some(LegKind::Rtp(_)))) {
            let refused = proto::Refused {
                command_id: command.command_id,
                leg_id: leg.leg_id,
                reason: Refusal::NoCapacity as i32,
                text: format!("no more than {} sessions", self.config.max_sessions),
            };
            (self.events)(MediaEvent { session_id: command.session_id, kind: Some(MediaEventKind::Refused(refused)) });
        }
    }

    /// Audio is for every session that waits for it; that there is none is for the session that asked.
    fn take_audio(&mut self, command: &Command, audio: &proto::Audio, now: Mono) {
        let Some(hash) = ClipHash::from_bytes(&audio.hash) else { return };
        match Clip::new(audio.samples.clone(), audio.rate_hz) {
            Some(clip) => {
                self.clips.insert(hash, clip.clone());
                self.for_each_session(now, |session| session.handle_clip(hash, Some(&clip), now));
            }
            None => {
                if let Some(index) = self.by_id.get(&SessionId(command.session_id)).copied() {
                    self.call(index, now, |session| session.handle_clip(hash, None, now));
                }
            }
        }
    }

    /// What became of the files of recordings.
    pub fn take_outcomes(&mut self, now: Mono) {
        while let Some((RecordingKey { place, recorder }, outcome)) = self.recordings.poll_outcome() {
            // The session may be over, and another one in its place.
            if self.sessions.get(place.index).is_some_and(|entry| entry.generation == place.generation) {
                self.call(place.index, now, |session| session.handle_file(recorder, outcome, now));
            }
        }
    }

    fn for_each_session(&mut self, now: Mono, mut input: impl FnMut(&mut Session)) {
        let indices: Vec<usize> = self.sessions.iter().map(|(index, _)| index).collect();
        for index in indices {
            self.call(index, now, &mut input);
        }
    }

    fn call(&mut self, index: usize, now: Mono, input: impl FnOnce(&mut Session)) {
        let Some(entry) = self.sessions.get_mut(index) else { return };
        match guarded(|| input(&mut entry.session)) {
            Ok(()) => self.flush(index, now),
            Err(Panicked) => self.bury(index, now),
        }
    }

    fn insert(&mut self, id: SessionId, owner_epoch: u64, now: Mono) -> usize {
        let settings = Settings {
            advertise: self.config.advertise,
            latching: self.config.latching,
            seed: self.config.seed,
            identity: Some(Arc::clone(&self.identity)),
        };
        self.generations += 1;
        let index = self.sessions.insert(Entry {
            session: Session::new(id, owner_epoch, settings, now),
            generation: self.generations,
            endpoints: Vec::new(),
            links: Vec::new(),
            timer: None,
        });
        self.by_id.insert(id, index);
        index
    }

    /// After a command: sockets and links are those of the legs that there are.
    fn reconcile(&mut self, index: usize, now: Mono) {
        let Shard { sessions, net, links, far, .. } = self;
        let Some(Entry { session, endpoints, links: linked, .. }) = sessions.get_mut(index) else { return };
        endpoints.retain(|(leg, endpoint)| {
            let kept = session.leg(*leg).is_some_and(|leg| net.has(*endpoint, leg));
            if !kept {
                net.close(*endpoint, now);
            }
            kept
        });
        let before = std::mem::replace(linked, session.links().collect());
        for link in linked.iter() {
            let ends = links.entry(*link).or_default();
            if !ends.contains(&index) {
                ends.push(index);
            }
        }
        for link in before.into_iter().filter(|link| !linked.contains(link)) {
            if unlink(links, link, index) {
                far.iter_mut().for_each(|far| far.forget(link));
            }
        }
    }

    pub fn remove(&mut self, index: usize, now: Mono) {
        let Some(entry) = self.sessions.try_remove(index) else { return };
        self.by_id.remove(&entry.session.id());
        for ended in self.recordings.abandon(Place { index, generation: entry.generation }) {
            let kind = Some(MediaEventKind::RecorderEnded(ended));
            (self.events)(MediaEvent { session_id: entry.session.id().0, kind });
        }
        for (_, endpoint) in entry.endpoints {
            self.net.close(endpoint, now);
        }
        for link in entry.links {
            if unlink(&mut self.links, link, index) {
                self.far.iter_mut().for_each(|far| far.forget(link));
            }
        }
    }

    /// Ends a session that panicked. What it holds may be in any state, so nothing is asked of it any more.
    pub fn bury(&mut self, index: usize, now: Mono) {
        let Some(entry) = self.sessions.get(index) else { return };
        let session_id = entry.session.id().0;
        let legs: Vec<LegId> = entry.endpoints.iter().map(|(leg, _)| *leg).collect();
        tracing::error!(session_id, "media session panicked");
        self.tally.panics += 1;
        self.remove(index, now);
        for leg in legs {
            let closed = proto::LegClosed { leg_id: leg.0, statistics: None };
            (self.events)(MediaEvent { session_id, kind: Some(MediaEventKind::LegClosed(closed)) });
        }
        (self.events)(MediaEvent { session_id, kind: Some(MediaEventKind::Released(proto::Release {})) });
    }

    /// Every leg says goodbye, and every recording is complete; nobody is told.
    pub fn release_all(&mut self, now: Mono) {
        self.events = Box::new(|_| {});
        let ids: Vec<SessionId> = self.by_id.keys().copied().collect();
        for id in ids {
            let kind = Some(CommandKind::Release(proto::Release {}));
            self.take_command(&Command { command_id: 0, session_id: id.0, owner_epoch: u64::MAX, kind }, now);
        }
        self.recordings.finish();
    }
}

/// True where that was the last end here.
fn unlink(links: &mut HashMap<LinkKey, Vec<usize>>, link: LinkKey, index: usize) -> bool {
    let Some(ends) = links.get_mut(&link) else { return false };
    ends.retain(|end| *end != index);
    let was_last = ends.is_empty();
    if was_last {
        links.remove(&link);
    }
    was_last
}
