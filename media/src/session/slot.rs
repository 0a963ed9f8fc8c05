//! A leg's place in the session: what it is, what it hears, and the tick of what is made for it.

use std::ops::Range;
use std::time::Duration;

use super::Frame;
use super::listeners::Listeners;
use super::room::{Announcer, Voice};
use crate::codec::Codec;
use crate::ids::{LegId, LinkKey, PlayerId};
use crate::leg::Leg;
use crate::player::{Played, Player};
use crate::playout::{FRAME_SAMPLES, FramePlayout};
use crate::proto;
use crate::received::{Received, StreamKey};
use crate::recorder::Side;
use crate::rtp::RtpTime;
use crate::sdp::Payload;
use crate::time::{Mono, sooner};

pub(super) struct Slot {
    pub id: LegId,
    pub kind: Kind,
    pub hears: Hearing,
    /// Some leg hears this one, by [`Hearing::Leg`].
    pub is_heard: bool,
    /// What it hears began just now.
    pub is_fresh: bool,
    /// Its part in the mix.
    pub voice: Option<Box<Voice>>,
    /// The player that `hears` names.
    pub player: Option<Player>,
    /// How the last player ended, for a command that comes again.
    pub ended: Option<proto::PlayerEnded>,
    /// The next packet time of a player, of digits or of a remote leg; `None` while nothing is made here.
    tick_at: Option<Mono>,
}

pub(super) enum Kind {
    Rtp(Box<Leg>),
    Remote(Box<RemoteLeg>),
    Announcer(Box<Announcer>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hearing {
    Silence,
    Player(PlayerId),
    Leg(LegId),
    Mix,
}

/// The end of a link to another session.
pub(super) struct RemoteLeg {
    pub key: LinkKey,
    /// What an RTP leg says, evened out for the link; made when the first packet comes.
    pub playout: Option<Box<FramePlayout>>,
    /// The frames that came over the link, numbered as a stream.
    arrived: u32,
    arrived_at: Mono,
    generation: u32,
}

/// What a packet time came to.
#[derive(Default)]
pub(super) struct Ticked {
    pub packet: Option<Range<usize>>,
    pub frame: Option<Frame>,
    pub ended: Option<proto::PlayerEnded>,
}

impl Slot {
    pub fn new(id: LegId, kind: Kind) -> Slot {
        Slot {
            id,
            kind,
            hears: Hearing::Silence,
            is_heard: false,
            is_fresh: false,
            voice: None,
            player: None,
            ended: None,
            tick_at: None,
        }
    }

    pub fn next_deadline(&self) -> Option<Mono> {
        sooner(self.tick_at, self.kind.leg().and_then(Leg::next_deadline))
    }

    /// There may be something to make: the next packet time is now, unless the tick runs already.
    pub fn wake(&mut self, now: Mono) {
        let has_work = match &self.kind {
            Kind::Rtp(leg) => leg.plan().is_some() && (self.player.is_some() || leg.is_pressing()),
            Kind::Remote(remote) => self.player.is_some() || remote.playout.is_some(),
            // It speaks on the time of the room.
            Kind::Announcer(_) => false,
        };
        if has_work {
            self.tick_at.get_or_insert(now);
        }
    }

    pub fn is_due(&self, now: Mono) -> bool {
        self.tick_at.is_some_and(|at| at <= now)
    }

    /// Ends the player that runs, if one does.
    pub fn stop_player(&mut self) -> Option<proto::PlayerEnded> {
        let player = self.player.take()?;
        Some(self.player_ended(&player, false))
    }

    /// The player is over by itself.
    pub fn end_player(&mut self, finished: bool) -> Option<proto::PlayerEnded> {
        let player = self.player.take()?;
        self.hears = Hearing::Silence;
        Some(self.player_ended(&player, finished))
    }

    fn player_ended(&mut self, player: &Player, finished: bool) -> proto::PlayerEnded {
        let ended =
            proto::PlayerEnded { leg_id: self.id.0, player_id: player.id().0, finished, offset_ms: player.offset_ms() };
        self.ended = Some(ended.clone());
        ended
    }

    /// Makes what one packet time asks for, and sets the next one.
    pub fn tick(&mut self, buffer: &mut [u8], listeners: &mut Listeners, now: Mono) -> Ticked {
        let due = self.tick_at.take().unwrap_or(now);
        let mut ticked = Ticked::default();
        let next = match &self.kind {
            Kind::Rtp(_) => self.tick_rtp(buffer, listeners, now, &mut ticked),
            Kind::Remote(_) => self.tick_remote(listeners, now, &mut ticked),
            Kind::Announcer(_) => None,
        };
        // After a stall of the whole worker what was missed is not sent all at once.
        let due = if now.since(due) > MAX_CATCH_UP { now } else { due };
        self.tick_at = next.map(|span| due + span);
        ticked
    }

    /// The time to the next packet, or `None` where nothing more is to be made.
    fn tick_rtp(
        &mut self,
        buffer: &mut [u8],
        listeners: &mut Listeners,
        now: Mono,
        ticked: &mut Ticked,
    ) -> Option<Duration> {
        let mut samples = [0; MAX_SAMPLES];
        loop {
            let Kind::Rtp(leg) = &mut self.kind else { return None };
            let samples = &mut samples[..usize::from(leg.plan()?.packet_samples).min(MAX_SAMPLES)];
            let packet_time = Duration::from_micros(samples.len() as u64 * 125);
            if leg.is_pressing() {
                let (packet, span) = leg.poll_key(samples, buffer, now);
                ticked.packet = packet;
                return Some(span);
            }
            let player = self.player.as_mut()?;
            match player.fill(samples) {
                Played::Samples => {
                    ticked.packet = leg.speak(samples, buffer, now);
                    listeners.hear_own(self.id, Side::Hears, samples, now);
                    return Some(packet_time);
                }
                Played::Key(key) => leg.press(key),
                Played::Waiting => {
                    leg.pause();
                    return None;
                }
                Played::Ended { finished } => {
                    leg.pause();
                    ticked.ended = self.end_player(finished);
                    return None;
                }
            }
        }
    }

    fn tick_remote(&mut self, listeners: &mut Listeners, now: Mono, ticked: &mut Ticked) -> Option<Duration> {
        let Kind::Remote(remote) = &mut self.kind else { return None };
        let mut samples = [0; FRAME_SAMPLES];
        if let Some(player) = &mut self.player {
            match player.fill(&mut samples) {
                Played::Samples => {
                    listeners.hear_own(self.id, Side::Hears, &samples, now);
                    ticked.frame = Some(Frame { samples: Some(samples), key: None });
                }
                Played::Key(key) => {
                    ticked.frame = Some(Frame { samples: None, key: Some(key) });
                    return Some(Duration::from_millis(u64::from(crate::dtmf::KEY_MS)));
                }
                Played::Waiting => return None,
                Played::Ended { finished } => {
                    ticked.ended = self.end_player(finished);
                    return None;
                }
            }
            return Some(FRAME_TIME);
        }
        let playout = remote.playout.as_mut()?;
        if playout.poll_frame(&mut samples, now) {
            ticked.frame = Some(Frame { samples: Some(samples), key: None });
        }
        (!playout.is_idle()).then_some(FRAME_TIME)
    }
}

impl Kind {
    pub fn leg(&self) -> Option<&Leg> {
        match self {
            Kind::Rtp(leg) => Some(leg),
            Kind::Remote(_) | Kind::Announcer(_) => None,
        }
    }

    pub fn leg_mut(&mut self) -> Option<&mut Leg> {
        match self {
            Kind::Rtp(leg) => Some(leg),
            Kind::Remote(_) | Kind::Announcer(_) => None,
        }
    }

    pub fn link(&self) -> Option<LinkKey> {
        match self {
            Kind::Rtp(_) | Kind::Announcer(_) => None,
            Kind::Remote(remote) => Some(remote.key),
        }
    }
}

impl RemoteLeg {
    pub fn new(key: LinkKey) -> RemoteLeg {
        RemoteLeg { key, playout: None, arrived: 0, arrived_at: Mono(0), generation: 0 }
    }

    /// The description of a frame that came over the link, as of a packet of its leg.
    pub fn arrived(&mut self, leg: LegId, now: Mono) -> Received {
        if now.since(self.arrived_at) > MAX_GAP {
            // After a pause it is a new talk spurt.
            self.generation = self.generation.wrapping_add(1);
        }
        self.arrived_at = now;
        self.arrived = self.arrived.wrapping_add(1);
        Received {
            carries: Payload::Audio(Codec::Pcmu),
            marker: false,
            timestamp: RtpTime(self.arrived.wrapping_mul(FRAME_SAMPLES as u32)),
            seq: self.arrived,
            stream: StreamKey { leg, generation: self.generation },
            payload: 0..0,
            tone: false,
        }
    }
}

pub(super) const FRAME_TIME: Duration = Duration::from_millis(20);
const MAX_GAP: Duration = Duration::from_millis(100);
pub(super) const MAX_CATCH_UP: Duration = Duration::from_millis(200);
/// 60 ms.
const MAX_SAMPLES: usize = 480;
