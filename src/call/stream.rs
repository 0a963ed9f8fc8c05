//! Media streams of the leg: its sound to a WebSocket of its application, begun by a verb or by the API, and what comes back.

use dialtone_media::proto::{Clear, CommandKind, Fed, Feed, TapSpec, Track};
use serde::{Deserialize, Serialize};

use super::effect::Effect;
use super::{Call, Now};
use crate::events::{EventKind, StreamFact, StreamStep};
use crate::ids::StreamSid;
use crate::twiml::{Notice, RecordingTrack, StreamSpec, VerbInput};

/// A stream that is not over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Stream {
    /// Its number in the call, which the worker knows it by.
    number: u16,
    /// `None` until the shard has named it.
    sid: Option<StreamSid>,
    /// The number that the verb knows it by; `None` of one that the API has begun.
    of_verb: Option<u32>,
    spec: StreamSpec,
    /// The application has taken it.
    is_open: bool,
}

/// A change that the API makes to the streams of a call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum StreamChange {
    Start {
        sid: StreamSid,
        spec: StreamSpec,
    },
    /// By its sid, or by its name.
    Stop(String),
}

/// What is to be opened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StreamOrder {
    pub sid: StreamSid,
    pub tap_id: u32,
    pub spec: StreamSpec,
    /// It was open before its edge started anew.
    pub is_again: bool,
}

/// What becomes of a stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum StreamEvent {
    Opened,
    /// The application has closed it.
    Closed,
    /// It did not come about, or broke.
    Failed(Notice),
    /// The application has sent something that means nothing, and is told so.
    Noticed(Notice),
}

/// Streams of one call at once.
const MAX_STREAMS: usize = 4;
const TOO_MANY: &str = "a call has four streams at most: there is no other";

impl Call {
    /// A verb wants a stream. The shard gives it its name.
    pub(super) fn start_stream(&mut self, of_verb: u32, spec: StreamSpec, now: Now, effects: &mut Vec<Effect>) {
        if self.streams.len() >= MAX_STREAMS {
            self.publish(EventKind::Noticed(Notice::error(TOO_MANY_STREAMS, TOO_MANY)), effects);
            return self.run(
                VerbInput::StreamEnded { stream: of_verb, error: Some(TOO_MANY.to_owned()) },
                now,
                effects,
            );
        }
        let number = self.add_stream(None, Some(of_verb), spec);
        effects.push(Effect::NameStream { number });
    }

    fn add_stream(&mut self, sid: Option<StreamSid>, of_verb: Option<u32>, spec: StreamSpec) -> u16 {
        self.streams_begun = self.streams_begun.wrapping_add(1);
        let number = self.streams_begun;
        self.streams.push(Stream { number, sid, of_verb, spec, is_open: false });
        number
    }

    pub(super) fn stream_named(&mut self, number: u16, sid: StreamSid, effects: &mut Vec<Effect>) {
        let Some(stream) = self.streams.iter_mut().find(|stream| stream.number == number) else { return };
        stream.sid = Some(sid);
        self.open_stream(number, false, effects);
    }

    fn open_stream(&self, number: u16, is_again: bool, effects: &mut Vec<Effect>) {
        let Some(stream) = self.streams.iter().find(|stream| stream.number == number) else { return };
        if let Some(sid) = stream.sid {
            let order = StreamOrder { sid, tap_id: self.tap_id(number), spec: stream.spec.clone(), is_again };
            effects.push(Effect::OpenStream(Box::new(order)));
        }
    }

    /// Taps are numbered in their session, which several calls may share: each leg has its own numbers.
    fn tap_id(&self, number: u16) -> u32 {
        self.opening.leg_id << 16 | u32::from(number)
    }

    /// The streams that are not over.
    pub fn stream_sids(&self) -> impl Iterator<Item = StreamSid> + '_ {
        self.streams.iter().filter_map(|stream| stream.sid)
    }

    pub(super) fn stream_event(&mut self, sid: StreamSid, event: StreamEvent, now: Now, effects: &mut Vec<Effect>) {
        let Some(at) = self.streams.iter().position(|stream| stream.sid == Some(sid)) else { return };
        let of_verb = self.streams[at].of_verb;
        match event {
            StreamEvent::Opened => {
                let stream = &mut self.streams[at];
                let is_first = !std::mem::replace(&mut stream.is_open, true);
                let (number, track) = (stream.number, stream.spec.track);
                let track = match track {
                    RecordingTrack::Both => Track::Both,
                    RecordingTrack::Inbound => Track::Inbound,
                    RecordingTrack::Outbound => Track::Outbound,
                };
                let tap = TapSpec {
                    tap_id: self.tap_id(number),
                    leg_id: self.opening.leg_id,
                    track: track.into(),
                    offset_ms: 0,
                };
                effects.push(Effect::Media(CommandKind::Tap(tap)));
                if !is_first && let Some(player_id) = self.streams[at].spec.player {
                    // What the application had said by the connection before it says again, or says no more.
                    let what = Some(Fed::Clear(Clear {}));
                    let feed = Feed { leg_id: self.opening.leg_id, player_id, what };
                    effects.push(Effect::Media(CommandKind::Feed(feed)));
                }
                let step = if is_first { StreamStep::Started } else { StreamStep::Resumed };
                self.streams[at].tell(step, String::new(), effects);
                if let Some(stream) = of_verb {
                    self.run(VerbInput::StreamStarted { stream, sid }, now, effects);
                }
            }
            StreamEvent::Noticed(notice) => self.publish(EventKind::Noticed(notice), effects),
            StreamEvent::Closed => self.stream_over(at, None, now, effects),
            StreamEvent::Failed(notice) => self.stream_over(at, Some(notice), now, effects),
        }
    }

    fn stream_over(&mut self, at: usize, fault: Option<Notice>, now: Now, effects: &mut Vec<Effect>) {
        let stream = self.streams.remove(at);
        effects.push(Effect::Media(CommandKind::StopTap(self.tap_id(stream.number))));
        let error = fault.as_ref().map(|notice| notice.text.to_string());
        let step = if fault.is_some() { StreamStep::Error } else { StreamStep::Stopped };
        stream.tell(step, error.clone().unwrap_or_default(), effects);
        if let Some(notice) = fault {
            self.publish(EventKind::Noticed(notice), effects);
        }
        if let Some(stream) = stream.of_verb {
            self.run(VerbInput::StreamEnded { stream, error }, now, effects);
        }
    }

    /// Ends those that are like that from our side; no verb is told.
    fn stop_streams_that(&mut self, is_like: impl Fn(&Stream) -> bool, effects: &mut Vec<Effect>) {
        let (ended, left) = std::mem::take(&mut self.streams).into_iter().partition(|stream| is_like(stream));
        self.streams = left;
        let ended: Vec<Stream> = ended;
        for stream in ended {
            effects.push(Effect::Media(CommandKind::StopTap(self.tap_id(stream.number))));
            effects.extend(stream.sid.map(Effect::CloseStream));
            stream.tell(StreamStep::Stopped, String::new(), effects);
        }
    }

    pub(super) fn stop_stream(&mut self, of_verb: u32, effects: &mut Vec<Effect>) {
        self.stop_streams_that(|stream| stream.of_verb == Some(of_verb), effects);
    }

    /// Those that only listen, of that name or all.
    pub(super) fn stop_started_streams(&mut self, name: Option<&str>, effects: &mut Vec<Effect>) {
        let is_named = |stream: &Stream| name.is_none_or(|name| stream.spec.name.as_deref() == Some(name));
        self.stop_streams_that(|stream| stream.spec.player.is_none() && is_named(stream), effects);
    }

    /// The leg is over.
    pub(super) fn stop_all_streams(&mut self, effects: &mut Vec<Effect>) {
        self.stop_streams_that(|_| true, effects);
    }

    /// Their connections were those of an edge that is no more: they are made again.
    pub(super) fn streams_restored(&self, effects: &mut Vec<Effect>) {
        for stream in &self.streams {
            self.open_stream(stream.number, true, effects);
        }
    }

    pub(super) fn tell_stream(&self, of_verb: u32, digit: char, effects: &mut Vec<Effect>) {
        let stream = self.streams.iter().find(|stream| stream.of_verb == Some(of_verb) && stream.is_open);
        effects.extend(stream.and_then(|stream| stream.sid).map(|sid| Effect::TellStream { sid, digit }));
    }

    pub(super) fn takes_stream(&self, change: &StreamChange) -> bool {
        match change {
            StreamChange::Start { spec, .. } => {
                let is_taken = |stream: &Stream| spec.name.is_some() && stream.spec.name == spec.name;
                self.leg.is_answered() && self.streams.len() < MAX_STREAMS && !self.streams.iter().any(is_taken)
            }
            StreamChange::Stop(named) => self.streams.iter().any(|stream| stream.is_called(named)),
        }
    }

    pub(super) fn change_stream(&mut self, change: StreamChange, now: Now, effects: &mut Vec<Effect>) {
        match change {
            StreamChange::Start { sid, spec } => {
                let number = self.add_stream(Some(sid), None, spec);
                self.open_stream(number, false, effects);
            }
            StreamChange::Stop(named) => {
                let verbs: Vec<u32> =
                    self.streams.iter().filter(|it| it.is_called(&named)).filter_map(|it| it.of_verb).collect();
                self.stop_streams_that(|stream| stream.is_called(&named), effects);
                for stream in verbs {
                    self.run(VerbInput::StreamEnded { stream, error: None }, now, effects);
                }
            }
        }
    }
}

impl Stream {
    fn is_called(&self, named: &str) -> bool {
        self.sid.is_some_and(|sid| sid.to_string() == named) || self.spec.name.as_deref() == Some(named)
    }

    /// A step of it; of one that has no name yet there is nothing to tell.
    fn tell(&self, step: StreamStep, error: String, effects: &mut Vec<Effect>) {
        let Some(sid) = self.sid else { return };
        let (name, callback) = (self.spec.name.clone(), self.spec.callback.clone());
        effects.push(Effect::Note(EventKind::Stream(Box::new(StreamFact { sid, name, step, error, callback }))));
    }
}

/// Twilio's number for a stream that cannot be had as it is asked for.
const TOO_MANY_STREAMS: u32 = 31_941;
