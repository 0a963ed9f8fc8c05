//! What an edge may ask of a session, command by command.
//!
//! Commands are idempotent: one whose effect holds already answers as it did the first time. A command of a lower
//! owner epoch is ignored; one of a higher takes the session over.

use bytes::Bytes;

use super::slot::{Hearing, Kind, RemoteLeg, Slot};
use super::{Session, SocketAddr, recording};
use crate::clips::Clips;
use crate::codec::Codec;
use crate::ids::{LegId, LinkKey, PlayerId};
use crate::leg::{Hot, Leg, LegSetup};
use crate::player::Player;
use crate::proto::{
    self, Command, CommandKind, Encryption, LegKind, LegSpec, MediaEvent, MediaEventKind, Refusal, SdpStep, SessionSpec,
};
use crate::sdp::{Demand, Protection, SdpError, Transport};
use crate::srtp::{MasterKey, Profile};
use crate::time::Mono;

/// Whoever owns the ports: asked for one for each RTP leg that is made, in the order in which legs are made.
///
/// A port that was given belongs to the leg whose [`crate::sdp::Negotiation::endpoint`] names it; one that no leg
/// names after the command is to be closed.
pub trait Ports {
    /// The RTP port for a leg, `None` where none is left.
    fn open(&mut self, leg: LegId) -> Option<u16>;

    /// A place for a browser's leg at the port that all of them share: the port, and by what the leg's name is to begin, so
    /// that what comes for it is found.
    fn open_shared(&mut self, _leg: LegId) -> Option<(u16, String)> {
        None
    }

    /// That very place for a leg that another worker of this machine had there, found by its name.
    fn reopen_shared(&mut self, _leg: LegId, _port: u16, _ufrag: &str) -> Option<Hot> {
        None
    }

    /// Fills with bytes that nobody can guess: keys are made of them.
    fn fill_secret(&mut self, secret: &mut [u8]);

    /// That very port for a leg that another worker of this machine had there, with what that has written down of it;
    /// `None` where it is not to be had.
    fn reopen(&mut self, _leg: LegId, _port: u16) -> Option<Hot> {
        None
    }
}

/// The answers to a command for a session that does not exist.
pub fn unknown(command: &Command) -> Vec<MediaEvent> {
    let event = |kind| MediaEvent { session_id: command.session_id, kind: Some(kind) };
    let refused = |leg_id| {
        let reason = Refusal::Unknown as i32;
        event(MediaEventKind::Refused(proto::Refused {
            command_id: command.command_id,
            leg_id,
            reason,
            text: "no such session".into(),
        }))
    };
    let ended = |recorder_id, leg_id| event(recording::unknown(recorder_id, leg_id, "no such session".into()));
    match &command.kind {
        Some(CommandKind::Release(_)) => vec![event(MediaEventKind::Released(proto::Release {}))],
        Some(CommandKind::DropLeg(leg_id)) => {
            vec![event(MediaEventKind::LegClosed(proto::LegClosed { leg_id: *leg_id, statistics: None }))]
        }
        Some(CommandKind::PutLeg(leg)) => vec![refused(leg.leg_id)],
        Some(CommandKind::Negotiate(negotiate)) => vec![refused(negotiate.leg_id)],
        Some(CommandKind::Hear(hear)) => vec![refused(hear.leg_id)],
        Some(CommandKind::Play(play)) => vec![refused(play.leg_id)],
        Some(CommandKind::Mix(set)) => vec![refused(set.leg_id)],
        Some(CommandKind::Record(spec)) => vec![ended(spec.recorder_id, recording::leg_of(spec))],
        Some(CommandKind::StopRecording(id) | CommandKind::ResumeRecording(id)) => vec![ended(*id, 0)],
        Some(CommandKind::PauseRecording(pause)) => vec![ended(pause.recorder_id, 0)],
        Some(
            CommandKind::Open(_)
            | CommandKind::Audio(_)
            | CommandKind::Link(_)
            | CommandKind::Tap(_)
            | CommandKind::StopTap(_)
            | CommandKind::Feed(_),
        )
        | None => Vec::new(),
    }
}

impl Session {
    /// Takes a command for this session; `Audio` is the worker's to take, for all its sessions.
    pub fn handle_command(&mut self, command: &Command, ports: &mut dyn Ports, clips: &mut Clips, now: Mono) {
        if command.owner_epoch < self.owner_epoch || self.is_released {
            return;
        }
        self.owner_epoch = command.owner_epoch;
        self.orphan_until = None;
        self.now = now;
        self.pending = true;
        self.deadline = None;
        let id = command.command_id;
        match &command.kind {
            Some(CommandKind::Open(spec)) => self.open(id, spec, ports, clips),
            Some(CommandKind::PutLeg(leg)) => self.put_leg(id, leg, ports, clips),
            Some(CommandKind::Negotiate(negotiate)) => self.negotiate(id, negotiate),
            Some(CommandKind::DropLeg(leg)) => self.drop_leg(LegId(*leg)),
            Some(CommandKind::Hear(hear)) => self.hear(id, hear),
            Some(CommandKind::Play(play)) => self.play(id, play, clips),
            Some(CommandKind::Mix(set)) => self.mix(id, set),
            Some(CommandKind::Record(spec)) => self.record(spec),
            Some(CommandKind::StopRecording(recorder)) => self.stop_recording(*recorder),
            Some(CommandKind::PauseRecording(pause)) => self.pause_recording(pause),
            Some(CommandKind::ResumeRecording(recorder)) => self.resume_recording(*recorder),
            Some(CommandKind::Tap(spec)) => self.tap(spec),
            Some(CommandKind::StopTap(tap)) => self.stop_tap(*tap),
            Some(CommandKind::Feed(feed)) => self.feed(feed),
            Some(CommandKind::Release(_)) => self.release(),
            Some(CommandKind::Audio(_) | CommandKind::Link(_)) | None => {}
        }
        self.rewire();
        self.wake_room();
    }

    /// Makes legs, recorders and taps what the spec says; those that it does not name end.
    fn open(&mut self, command_id: u64, spec: &SessionSpec, ports: &mut dyn Ports, clips: &mut Clips) {
        let legs = &spec.legs;
        for index in (0..self.slots.len()).rev() {
            let id = self.slots[index].id.0;
            if legs.iter().all(|leg| leg.leg_id != id) {
                self.close(index);
            }
        }
        for leg in legs {
            self.put_leg(command_id, leg, ports, clips);
        }
        self.stop_recorders_but(&spec.recorders);
        for recorder in &spec.recorders {
            self.record(recorder);
        }
        self.stop_taps_but(&spec.taps);
        spec.taps.iter().for_each(|tap| self.tap(tap));
    }

    fn put_leg(&mut self, command_id: u64, spec: &LegSpec, ports: &mut dyn Ports, clips: &mut Clips) {
        let id = LegId(spec.leg_id);
        match self.index_of(id) {
            Some(index) if self.slots[index].is_as(spec) => self.answer_again(command_id, index),
            before => {
                if let Some(index) = before {
                    self.close(index);
                }
                if !self.make_leg(command_id, spec, ports) {
                    return;
                }
            }
        }
        if let Some(index) = self.index_of(id) {
            self.hear_source(index, spec.hears.as_ref(), &spec.players, clips);
            self.set_mixing(index, spec.mixing.as_ref());
        }
    }

    fn make_leg(&mut self, command_id: u64, spec: &LegSpec, ports: &mut dyn Ports) -> bool {
        let id = LegId(spec.leg_id);
        let kind = match &spec.kind {
            Some(LegKind::Remote(remote)) => Kind::Remote(Box::new(RemoteLeg::new(LinkKey(remote.key)))),
            Some(LegKind::Announcer(_)) => Kind::Announcer(Box::default()),
            Some(LegKind::Rtp(rtp)) => match self.make_rtp_leg(id, rtp, ports) {
                Ok((leg, sdp)) => {
                    self.tell_negotiated(command_id, &leg, sdp);
                    Kind::Rtp(Box::new(leg))
                }
                Err((reason, text)) => {
                    self.tell_refused(command_id, id, reason, text);
                    return false;
                }
            },
            None => return false,
        };
        self.slots.push(Slot::new(id, kind));
        true
    }

    fn make_rtp_leg(
        &mut self,
        id: LegId,
        rtp: &proto::RtpLeg,
        ports: &mut dyn Ports,
    ) -> Result<(Leg, Bytes), (Refusal, String)> {
        let no_port = || (Refusal::NoCapacity, "no port is left".to_owned());
        let demand = demand(rtp);
        let identity = self.settings.identity.clone().filter(|_| demand == Demand::Dtls);
        let before = crate::sdp::endpoint_of(&rtp.local_sdp).filter(|at| at.ip() == self.settings.advertise);
        let kept = before.and_then(|at| {
            let hot = match &identity {
                None => ports.reopen(id, at.port()),
                Some(_) => ports.reopen_shared(id, at.port(), &crate::sdp::ufrag_of(&rtp.local_sdp)?),
            };
            Some((at.port(), hot?))
        });
        let (port, hot, name) = match (kept, &identity) {
            (Some((port, hot)), _) => (port, Some(hot), String::new()),
            (None, None) => (ports.open(id).ok_or_else(no_port)?, None, String::new()),
            (None, Some(_)) => ports.open_shared(id).map(|(port, name)| (port, None, name)).ok_or_else(no_port)?,
        };
        let mut protection = protection(demand, rtp, ports);
        if let Some(identity) = &identity {
            let mut secret = [0; 21];
            ports.fill_secret(&mut secret);
            protection.identity = Some(identity.fingerprint());
            protection.transport = Some(Transport::new(&name, &secret, identity.fingerprint()));
        }
        let setup = LegSetup {
            id,
            endpoint: SocketAddr::new(self.settings.advertise, port),
            goes_on: hot,
            latching: self.settings.latching,
            rtp,
            protection,
            identity,
            preferred: self.codec_beside(id),
        };
        Leg::open(setup, &mut self.random, self.now).map_err(|fault| (fault.refusal(), fault.to_string()))
    }

    /// The codec of another leg, so that what we offer need not be transcoded.
    fn codec_beside(&self, id: LegId) -> Option<Codec> {
        self.legs().filter(|leg| leg.id() != id).find_map(|leg| leg.plan().map(|plan| plan.codec))
    }

    fn negotiate(&mut self, command_id: u64, negotiate: &proto::Negotiate) {
        let id = LegId(negotiate.leg_id);
        let preferred = self.codec_beside(id);
        let now = self.now;
        let Some(index) = self.index_of(id) else {
            return self.tell_refused(command_id, id, Refusal::Unknown, "no such leg".into());
        };
        let slot = &mut self.slots[index];
        let Kind::Rtp(leg) = &mut slot.kind else {
            return self.tell_refused(command_id, id, Refusal::Unknown, "the leg has no sdp".into());
        };
        let result: Result<Bytes, SdpError> = match SdpStep::try_from(negotiate.step) {
            Err(_) => return self.tell_refused(command_id, id, Refusal::NotAcceptable, "no such step".into()),
            Ok(step) => take_step(leg, step, &negotiate.sdp, preferred, now),
        };
        match result {
            Ok(sdp) => {
                slot.settle(now);
                let negotiated = negotiated(command_id, slot.kind.leg(), sdp);
                self.happened.extend(negotiated.map(|kind| MediaEvent { session_id: self.id.0, kind: Some(kind) }));
            }
            Err(fault) => self.tell_refused(command_id, id, fault.refusal(), fault.to_string()),
        }
    }

    fn drop_leg(&mut self, id: LegId) {
        match self.index_of(id) {
            Some(index) => self.close(index),
            None => self.tell(MediaEventKind::LegClosed(proto::LegClosed { leg_id: id.0, statistics: None })),
        }
    }

    fn hear(&mut self, command_id: u64, hear: &proto::Hear) {
        match self.index_of(LegId(hear.leg_id)) {
            Some(index) => {
                let hears = source(hear.source.as_ref());
                self.set_source(index, hears);
            }
            None => self.tell_refused(command_id, LegId(hear.leg_id), Refusal::Unknown, "no such leg".into()),
        }
    }

    fn mix(&mut self, command_id: u64, set: &proto::SetMixing) {
        match self.index_of(LegId(set.leg_id)) {
            Some(index) => self.set_mixing(index, set.mixing.as_ref()),
            None => self.tell_refused(command_id, LegId(set.leg_id), Refusal::Unknown, "no such leg".into()),
        }
    }

    fn set_mixing(&mut self, index: usize, mixing: Option<&proto::Mixing>) {
        let slot = &mut self.slots[index];
        if slot.set_mixing(mixing) {
            let leg_id = slot.id.0;
            self.tell(MediaEventKind::Speaking(proto::Speaking { leg_id, speaking: false }));
        }
    }

    fn play(&mut self, command_id: u64, play: &proto::Play, clips: &mut Clips) {
        let (Some(index), Some(spec)) = (self.index_of(LegId(play.leg_id)), &play.player) else {
            return self.tell_refused(command_id, LegId(play.leg_id), Refusal::Unknown, "no such leg".into());
        };
        self.play_on(index, spec, clips);
    }

    /// Gives a player what it is to play.
    fn feed(&mut self, feed: &proto::Feed) {
        let is_its = |player: &&mut Player| player.id().0 == feed.player_id;
        let Some(index) = self.index_of(LegId(feed.leg_id)) else { return };
        if let (Some(player), Some(what)) = (self.slots[index].player.as_mut().filter(is_its), &feed.what) {
            player.feed(what.clone());
            self.tell_marks(index);
        }
    }

    /// Starts a player, unless it plays already, or has ended already.
    fn play_on(&mut self, index: usize, spec: &proto::PlayerSpec, clips: &mut Clips) {
        let slot = &mut self.slots[index];
        // What the worker before has written down is later than what the edge reckons.
        let written = slot.kind.leg_mut().and_then(|leg| leg.take_played(spec.player_id));
        let spec = &proto::PlayerSpec { offset_ms: written.unwrap_or(spec.offset_ms), ..spec.clone() };
        let slot = &self.slots[index];
        if slot.player.as_ref().is_some_and(|player| player.id().0 == spec.player_id) {
            return;
        }
        match slot.ended.clone().filter(|ended| ended.player_id == spec.player_id) {
            Some(ended) => self.tell(MediaEventKind::PlayerEnded(ended)),
            None => self.start_player(index, spec, clips),
        }
    }

    /// What a leg of a spec hears, with the players that the spec has for it.
    fn hear_source(
        &mut self,
        index: usize,
        hears: Option<&proto::Source>,
        players: &[proto::PlayerSpec],
        clips: &mut Clips,
    ) {
        match source(hears) {
            Hearing::Player(id) => {
                if let Some(spec) = players.iter().find(|spec| spec.player_id == id.0) {
                    self.play_on(index, spec, clips);
                }
            }
            other => self.set_source(index, other),
        }
    }

    /// A player that is no longer heard is over.
    fn set_source(&mut self, index: usize, hears: Hearing) {
        let now = self.now;
        let slot = &mut self.slots[index];
        if slot.hears == hears {
            return;
        }
        if let Hearing::Player(id) = hears
            && slot.player.as_ref().is_none_or(|player| player.id() != id)
        {
            // Nothing of that name plays: it is over, or never was.
            return;
        }
        let ended = slot.stop_player();
        slot.hear(hears, now);
        if let Some(ended) = ended {
            self.tell(MediaEventKind::PlayerEnded(ended));
        }
    }

    fn start_player(&mut self, index: usize, spec: &proto::PlayerSpec, clips: &mut Clips) {
        let now = self.now;
        let slot = &mut self.slots[index];
        let replaced = slot.stop_player();
        let player = Player::new(spec, clips);
        let wanted = player.wanted();
        slot.player = Some(player);
        slot.hear(Hearing::Player(PlayerId(spec.player_id)), now);
        if let Some(ended) = replaced {
            self.tell(MediaEventKind::PlayerEnded(ended));
        }
        for hash in wanted {
            self.tell(MediaEventKind::AudioWanted(proto::AudioWanted { hash: hash.to_bytes() }));
        }
    }

    fn answer_again(&mut self, command_id: u64, index: usize) {
        if let Kind::Rtp(leg) = &self.slots[index].kind {
            let sdp = leg.negotiation().local_sdp().clone();
            let negotiated = negotiated(command_id, Some(leg), sdp);
            self.happened.extend(negotiated.map(|kind| MediaEvent { session_id: self.id.0, kind: Some(kind) }));
        }
    }

    fn tell_negotiated(&mut self, command_id: u64, leg: &Leg, sdp: Bytes) {
        if let Some(kind) = negotiated(command_id, Some(leg), sdp) {
            self.tell(kind);
        }
    }

    fn tell_refused(&mut self, command_id: u64, leg: LegId, reason: Refusal, text: String) {
        self.tell(MediaEventKind::Refused(proto::Refused { command_id, leg_id: leg.0, reason: reason as i32, text }));
    }
}

impl Slot {
    /// Whether a spec describes this leg as it was made, or as it is now.
    fn is_as(&self, spec: &LegSpec) -> bool {
        match (&self.kind, &spec.kind) {
            (Kind::Rtp(leg), Some(LegKind::Rtp(rtp))) => leg.is_as(rtp),
            (Kind::Remote(remote), Some(LegKind::Remote(spec))) => remote.key == LinkKey(spec.key),
            (Kind::Announcer(_), Some(LegKind::Announcer(_))) => true,
            _ => false,
        }
    }

    /// What it hears changes: the next packet begins a talk spurt.
    fn hear(&mut self, hears: Hearing, now: Mono) {
        self.hears = hears;
        self.is_fresh = true;
        if let Kind::Rtp(leg) = &mut self.kind {
            leg.pause();
        }
        self.settle(now);
    }

    /// Something about the leg changed: what is made for it may begin, and silence may become news.
    pub(super) fn settle(&mut self, now: Mono) {
        self.wake(now);
        if self.hears != Hearing::Silence
            && let Kind::Rtp(leg) = &mut self.kind
        {
            leg.expect_media(now);
        }
    }
}

fn demand(rtp: &proto::RtpLeg) -> Demand {
    match Encryption::try_from(rtp.encryption) {
        Ok(Encryption::Sdes) => Demand::Sdes,
        Ok(Encryption::Dtls) => Demand::Dtls,
        Ok(Encryption::AsOffered) | Err(_) => Demand::AsOffered,
    }
}

/// What is asked of a leg, with keys of its own.
fn protection(demand: Demand, rtp: &proto::RtpLeg, ports: &mut dyn Ports) -> Protection {
    // Most peers offer nothing, and need no key.
    let is_plain = demand != Demand::Sdes && !rtp.remote_sdp.windows(8).any(|part| part == b"a=crypto");
    let keys = Profile::ALL.into_iter().filter(|_| !is_plain).filter_map(|profile| {
        let mut key = [0; 32];
        let key = &mut key[..profile.key_len()];
        ports.fill_secret(key);
        MasterKey::new(profile, key)
    });
    Protection { demand, keys: keys.collect(), ..Protection::default() }
}

/// One step of offer and answer: the SDP to send, empty where there is none.
fn take_step(
    leg: &mut Leg,
    step: SdpStep,
    sdp: &Bytes,
    preferred: Option<Codec>,
    now: Mono,
) -> Result<Bytes, SdpError> {
    match step {
        SdpStep::RemoteOffer => leg.handle_offer(sdp, now),
        SdpStep::RemoteAnswer => leg.handle_answer(sdp, now).map(|()| Bytes::new()),
        SdpStep::MakeOffer => Ok(leg.make_offer(preferred)),
        SdpStep::Rollback => {
            leg.rollback(now);
            Ok(Bytes::new())
        }
    }
}

fn negotiated(command_id: u64, leg: Option<&Leg>, sdp: Bytes) -> Option<MediaEventKind> {
    let leg = leg?;
    let plan = leg.plan();
    Some(MediaEventKind::Negotiated(proto::Negotiated {
        command_id,
        leg_id: leg.id().0,
        sdp,
        codec: plan.map_or(String::new(), |plan| plan.codec.name().to_owned()),
        held: plan.is_some_and(|plan| plan.held),
        encryption: leg.encryption().to_owned(),
    }))
}

fn source(source: Option<&proto::Source>) -> Hearing {
    match source.and_then(|source| source.from.as_ref()) {
        Some(proto::Hears::Player(id)) => Hearing::Player(PlayerId(*id)),
        Some(proto::Hears::Leg(id)) => Hearing::Leg(LegId(*id)),
        Some(proto::Hears::Mix(_)) => Hearing::Mix,
        Some(proto::Hears::Silence(_)) | None => Hearing::Silence,
    }
}
