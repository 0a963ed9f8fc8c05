//! The mix of a session: every 20 ms what its legs say is added up, and each that hears the mix gets the others.
//!
//! The room has one tick for all: who speaks is heard by everybody in the same packet time, and recorders and taps are
//! read on it. It runs only while somebody hears the mix, an announcer speaks, one of those runs, or it is asked who speaks.

use crate::activity::Speech;
use crate::dtmf::KeySender;
use crate::ids::LegId;
use crate::mixer::{self, Mix};
use crate::player::{Played, Player};
use crate::playout::{FRAME_SAMPLES, FramePlayout, Samples};
use crate::proto::{self, MediaEvent, MediaEventKind, Mixing};
use crate::recorder::{Recorder, Side};
use crate::time::Mono;

use super::slot::{FRAME_TIME, Hearing, Kind, MAX_CATCH_UP, Slot};
use super::{Frame, Session, push_frame};

/// The mix, and who says what in the present packet time.
#[derive(Default)]
pub(super) struct Room {
    mix: Mix,
    pub tick_at: Option<Mono>,
    /// To whom is whispered, and the places of those who do.
    whispers: Vec<(LegId, usize)>,
    /// The announcers that say something, and their places.
    announcing: Vec<(LegId, usize)>,
}

/// What one leg says into the mix.
pub(super) struct Voice {
    /// The packets or frames of its party.
    pub intake: FramePlayout,
    /// What it says in this packet time, if it says anything.
    samples: Samples,
    says: bool,
    /// By whom it is heard, and by whom it is to be: a change waits until what it said has faded.
    route: Option<Route>,
    wanted: Option<Route>,
    edges: Edges,
    speech: Option<Speech>,
}

/// Who hears a voice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Route {
    Everybody,
    Only(LegId),
}

/// A leg without a party: its player is its voice.
pub(super) struct Announcer {
    samples: Samples,
    says: bool,
    edges: Edges,
    /// There is nobody who could be sent an event, so digits are heard as tones.
    keys: KeySender,
}

impl Default for Announcer {
    fn default() -> Self {
        Announcer { samples: [0; FRAME_SAMPLES], says: false, edges: Edges::default(), keys: KeySender::default() }
    }
}

impl Announcer {
    /// Says the next 20 ms of the player; how it ended, if it did. One that `begins` waits for the end of another.
    fn tick(&mut self, player: Option<&mut Player>, begins: bool) -> Option<bool> {
        let player = player.filter(|_| !begins || !self.edges.flows);
        let mut ended = None;
        let says = if self.keys.is_idle() {
            match player.map(|player| player.fill(&mut self.samples)) {
                Some(Played::Samples) => true,
                Some(Played::Key(key)) => {
                    self.keys.push(key);
                    self.keys.fill(&mut self.samples);
                    true
                }
                Some(Played::Ended { finished }) => {
                    ended = Some(finished);
                    false
                }
                Some(Played::Waiting) | None => false,
            }
        } else {
            self.keys.fill(&mut self.samples);
            true
        };
        self.says = self.edges.soften(says, &mut self.samples);
        ended
    }

    fn has_more(&self) -> bool {
        !self.edges.are_over() || !self.keys.is_idle()
    }
}

/// Where some audio stands, and whether it flows: what breaks off fades out, and what begins fades in.
#[derive(Default)]
struct Edges {
    last: i16,
    flows: bool,
}

impl Edges {
    /// Takes the next 20 ms, or that there are none; true where something is to be heard.
    fn soften(&mut self, says: bool, samples: &mut Samples) -> bool {
        let flowed = std::mem::replace(&mut self.flows, says);
        if !says {
            let last = std::mem::take(&mut self.last);
            *samples = mixer::fade_out(last);
            return last != 0;
        }
        if !flowed {
            mixer::fade_in(samples);
        }
        self.last = samples[FRAME_SAMPLES - 1];
        true
    }

    fn are_over(&self) -> bool {
        self.last == 0
    }
}

impl Voice {
    fn new(intake: FramePlayout) -> Voice {
        Voice {
            intake,
            samples: [0; FRAME_SAMPLES],
            says: false,
            route: None,
            wanted: None,
            edges: Edges::default(),
            speech: None,
        }
    }

    /// Takes the next 20 ms, which are in `samples` if it `said` anything; the new state where it begins or ceases to
    /// speak.
    fn tick(&mut self, said: bool) -> Option<bool> {
        let speech = self.speech.as_mut();
        let speaking = speech.and_then(|speech| speech.handle_samples(said.then_some(&self.samples[..])));
        if self.route != self.wanted && self.edges.are_over() {
            (self.route, self.edges) = (self.wanted, Edges::default());
        }
        self.says = self.edges.soften(said && self.route == self.wanted, &mut self.samples);
        speaking
    }

    /// It is heard by nobody, and nothing of it fades.
    fn is_over(&self) -> bool {
        self.wanted.is_none() && self.edges.are_over()
    }

    fn heard_by_everybody(&self) -> Option<&Samples> {
        (self.says && self.route == Some(Route::Everybody)).then_some(&self.samples)
    }
}

impl Slot {
    /// What the leg brings to the mix from now on; true where it no longer speaks by that.
    pub(super) fn set_mixing(&mut self, mixing: Option<&Mixing>) -> bool {
        let route = mixing.filter(|mixing| mixing.heard).map(|mixing| match mixing.whispers_to {
            Some(to) => Route::Only(LegId(to)),
            None => Route::Everybody,
        });
        if route.is_some() {
            self.voice.get_or_insert_with(|| {
                let is_link = matches!(self.kind, Kind::Remote(_));
                Box::new(Voice::new(if is_link { FramePlayout::of_link() } else { FramePlayout::default() }))
            });
        }
        let Some(voice) = &mut self.voice else { return false };
        voice.wanted = route;
        let tells = route.is_some() && mixing.is_some_and(|mixing| mixing.tells_speaking);
        let ceased = !tells && voice.speech.take().is_some_and(|speech| speech.is_speaking());
        if tells {
            voice.speech.get_or_insert_default();
        }
        if voice.is_over() {
            self.voice = None;
        }
        ceased
    }
}

impl Room {
    pub(super) fn is_due(&self, now: Mono) -> bool {
        self.tick_at.is_some_and(|at| at <= now)
    }

    /// A leg is gone; what it said last fades.
    pub(super) fn part(&mut self, slot: &Slot) {
        if let Some(voice) = &slot.voice
            && voice.route == Some(Route::Everybody)
        {
            self.mix.part(voice.edges.last);
        }
    }
}

impl Session {
    /// There may be something to mix: the next packet time is now, unless the tick runs already.
    pub(super) fn wake_room(&mut self) {
        if self.room_has_work() {
            self.room.tick_at.get_or_insert(self.now);
        }
    }

    fn room_has_work(&self) -> bool {
        let is_needed = |slot: &Slot| {
            let announces = match &slot.kind {
                Kind::Announcer(announcer) => slot.player.is_some() || announcer.has_more(),
                _ => false,
            };
            announces || slot.hears == Hearing::Mix || slot.voice.as_ref().is_some_and(|voice| voice.speech.is_some())
        };
        self.listeners.recorders.iter().any(Recorder::is_running)
            || !self.listeners.taps.is_empty()
            || self.slots.iter().any(is_needed)
    }

    /// Lets one packet time of the room pass.
    pub(super) fn tick_room(&mut self) {
        let due = self.room.tick_at.take().unwrap_or(self.now);
        self.gather();
        self.hand_out();
        let now = self.now;
        self.listeners.recorders.iter_mut().for_each(|recorder| recorder.handle_tick(now));
        self.tell_taps();
        if self.room_has_work() {
            let due = if now.since(due) > MAX_CATCH_UP { now } else { due };
            self.room.tick_at = Some(due + FRAME_TIME);
        }
    }

    /// Adds up what everybody says.
    fn gather(&mut self) {
        let Session { slots, room, listeners, happened, now, id, .. } = self;
        let mut tell = |kind| happened.push_back(MediaEvent { session_id: id.0, kind: Some(kind) });
        room.mix.begin();
        room.whispers.clear();
        room.announcing.clear();
        for (index, slot) in slots.iter_mut().enumerate() {
            if let Kind::Announcer(announcer) = &mut slot.kind {
                let begins = std::mem::take(&mut slot.is_fresh);
                let ended = announcer.tick(slot.player.as_mut(), begins);
                if announcer.says {
                    room.announcing.push((slot.id, index));
                    listeners.hear_own(slot.id, Side::Says, &announcer.samples, *now);
                }
                if let Some(ended) = ended.and_then(|finished| slot.end_player(finished)) {
                    tell(MediaEventKind::PlayerEnded(ended));
                }
            }
            let Some(voice) = &mut slot.voice else { continue };
            let said = match &slot.kind {
                Kind::Announcer(announcer) => {
                    voice.samples = announcer.samples;
                    announcer.says
                }
                _ => voice.intake.poll_frame(&mut voice.samples, *now),
            };
            if let Some(speaking) = voice.tick(said) {
                tell(MediaEventKind::Speaking(proto::Speaking { leg_id: slot.id.0, speaking }));
            }
            match voice.route {
                Some(Route::Everybody) if voice.says => room.mix.add(&voice.samples),
                Some(Route::Only(to)) if voice.says => room.whispers.push((to, index)),
                _ if voice.is_over() => slot.voice = None,
                _ => {}
            }
        }
    }

    /// Gives each leg that hears the mix, or an announcer, what it hears of this packet time.
    fn hand_out(&mut self) {
        // Most say nothing most of the time, and all of those hear the same.
        let mut whole = None;
        for index in 0..self.slots.len() {
            let slot = &self.slots[index];
            let mut samples = match slot.hears {
                Hearing::Mix => self.mix_for(slot, &mut whole),
                Hearing::Leg(source) => {
                    let Some((_, at)) = self.room.announcing.iter().find(|(id, _)| *id == source) else { continue };
                    let Kind::Announcer(announcer) = &self.slots[*at].kind else { continue };
                    announcer.samples
                }
                Hearing::Silence | Hearing::Player(_) => continue,
            };
            if std::mem::take(&mut self.slots[index].is_fresh) {
                mixer::fade_in(&mut samples);
            }
            self.hand_to(index, samples);
        }
        let now = self.now;
        for recorder in &mut self.listeners.recorders {
            if let Some((track, position)) = recorder.track(Side::Mix, now) {
                track.write_own(whole.get_or_insert_with(|| self.room.mix.whole()), position);
            }
        }
    }

    fn mix_for(&self, slot: &Slot, whole: &mut Option<Samples>) -> Samples {
        let own = slot.voice.as_ref().and_then(|voice| voice.heard_by_everybody());
        let mut whispers = self.room.whispers.iter().filter(|(to, _)| *to == slot.id).peekable();
        if own.is_none() && whispers.peek().is_none() {
            return *whole.get_or_insert_with(|| self.room.mix.whole());
        }
        let samples = |(_, at): &(LegId, usize)| self.slots[*at].voice.as_ref().map(|voice| &voice.samples);
        self.room.mix.heard_by(own, whispers.filter_map(samples))
    }

    fn hand_to(&mut self, index: usize, samples: Samples) {
        let max_frames = self.max_frames();
        let slot = &mut self.slots[index];
        self.listeners.hear_own(slot.id, Side::Hears, &samples, self.now);
        match &mut slot.kind {
            Kind::Rtp(leg) => leg.append(&samples),
            Kind::Remote(remote) => {
                push_frame(&mut self.frames, max_frames, remote.key, Frame { samples: Some(samples), key: None });
            }
            Kind::Announcer(_) => {}
        }
    }
}
