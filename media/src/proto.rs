//! The schema of the worker link: what an edge may ask of a media worker, and what a worker tells.
//!
//! Every message is a protobuf message (prost, no build step), so that an edge and a worker of neighbouring
//! versions understand each other. In one process the same values go over channels; debug builds encode and
//! decode each of them on the way.
//!
//! An edge owns the truth: a [`SessionSpec`] is the complete desired media of one call, and a worker that has
//! lost everything can be given the spec again. Commands are idempotent: a command whose effect already holds
//! answers as it did the first time. A session ends only by [`Release`], or as an orphan 60 s after its edge
//! was lost.
//!
//! A conference is a session of its own: each member's call has a leg over a link to it, and the leg at this end is the
//! member, which hears the mix. The mix is of legs and not of calls, so that nothing else is special about it.
//!
//! Units: milliseconds in `*_ms`, samples at 8 kHz where a name says `samples`. Identifiers are chosen by the
//! edge: `session_id` is unique in a cluster, `leg_id`, `player_id` and `recorder_id` in their session.

pub mod link;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// The desired media of a call: everything that a worker needs to make it real.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
pub struct SessionSpec {
    #[prost(uint64, tag = "1")]
    pub session_id: u64,
    /// Grows when another edge takes the session over; a command with a lower epoch is ignored.
    #[prost(uint64, tag = "2")]
    pub owner_epoch: u64,
    #[prost(message, repeated, tag = "3")]
    pub legs: Vec<LegSpec>,
    #[prost(message, repeated, tag = "4")]
    pub recorders: Vec<RecorderSpec>,
    #[prost(message, repeated, tag = "5")]
    pub taps: Vec<TapSpec>,
}

/// One party of a session: where its media goes and what it hears.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
pub struct LegSpec {
    #[prost(uint32, tag = "1")]
    pub leg_id: u32,
    #[prost(oneof = "LegKind", tags = "2, 3, 6")]
    pub kind: Option<LegKind>,
    #[prost(message, optional, tag = "4")]
    pub hears: Option<Source>,
    /// The playlist that `hears` names, with the place it has reached.
    #[prost(message, repeated, tag = "5")]
    pub players: Vec<PlayerSpec>,
    /// Its part in the mix of the session; none says nothing into it.
    #[prost(message, optional, tag = "7")]
    pub mixing: Option<Mixing>,
}

#[derive(Clone, PartialEq, prost::Oneof, Serialize, Deserialize)]
pub enum LegKind {
    #[prost(message, tag = "2")]
    Rtp(RtpLeg),
    #[prost(message, tag = "3")]
    Remote(RemoteLeg),
    /// A leg without a party, which says what its player plays: into the mix, or to the legs that hear it.
    #[prost(message, tag = "6")]
    Announcer(Announcer),
}

/// A leg over RTP, negotiated by SDP offer and answer (RFC 3264). The SDP is opaque to the edge.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
pub struct RtpLeg {
    /// The last SDP that the peer sent, empty while there is none (late offer, or an offer of ours without answer).
    #[prost(bytes = "bytes", tag = "1")]
    #[serde(with = "crate::text")]
    pub remote_sdp: Bytes,
    /// The last SDP that we sent, empty while there is none. Given back to a worker that reopens the session.
    #[prost(bytes = "bytes", tag = "2")]
    #[serde(with = "crate::text")]
    pub local_sdp: Bytes,
    /// The address that signals, an IP without port: NAT latching compares with it.
    #[prost(string, tag = "3")]
    pub signalled_from: String,
    /// `local_sdp` was an offer: an answer to it may still come, or come again.
    #[prost(bool, tag = "4")]
    pub is_offer: bool,
    #[prost(enumeration = "Encryption", tag = "5")]
    pub encryption: i32,
}

/// What is asked of a leg's media.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, prost::Enumeration, Serialize, Deserialize)]
pub enum Encryption {
    /// Encrypted where the peer offers that; we offer none.
    AsOffered = 0,
    /// SRTP by keys in the SDP (RFC 4568), or no media: offered so, and other offers and answers are refused.
    Sdes = 1,
    /// As browsers have it: ICE, and SRTP by keys of DTLS (RFC 5764).
    Dtls = 2,
}

/// A leg whose media is another session's: 20 ms frames between workers, a loopback inside one.
///
/// Two remote legs with the same `key` are the two ends of one link. In one worker they meet by the key alone.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
pub struct RemoteLeg {
    #[prost(string, tag = "1")]
    pub worker: String,
    #[prost(uint64, tag = "2")]
    pub session_id: u64,
    #[prost(uint64, tag = "3")]
    pub key: u64,
}

#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
pub struct Announcer {}

/// A leg's part in the mix of its session. What it hears is another matter: a member that is to hear the others
/// hears [`Hears::Mix`].
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
pub struct Mixing {
    /// The others hear it; false is muted.
    #[prost(bool, tag = "1")]
    pub heard: bool,
    /// Only this leg hears it, as a coach is heard, and only while that leg hears the mix.
    #[prost(uint32, optional, tag = "2")]
    pub whispers_to: Option<u32>,
    /// Tell by [`Speaking`] when it begins and ceases to speak. One that is muted does not speak.
    #[prost(bool, tag = "3")]
    pub tells_speaking: bool,
}

/// What a leg hears.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
pub struct Source {
    #[prost(oneof = "Hears", tags = "1, 2, 3, 4")]
    pub from: Option<Hears>,
}

#[derive(Clone, PartialEq, prost::Oneof, Serialize, Deserialize)]
pub enum Hears {
    /// Nothing is sent.
    #[prost(message, tag = "1")]
    Silence(Silence),
    /// A player of this leg.
    #[prost(uint32, tag = "2")]
    Player(u32),
    /// Another leg of this session, or the leg itself: an echo.
    #[prost(uint32, tag = "3")]
    Leg(u32),
    /// Every leg that is heard in the mix, but not itself. Sent without a pause, silence too.
    #[prost(message, tag = "4")]
    Mix(Mix),
}

#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
pub struct Silence {}

#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
pub struct Mix {}

/// A playlist with the place it has reached, so that another worker goes on there.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
pub struct PlayerSpec {
    #[prost(uint32, tag = "1")]
    pub player_id: u32,
    #[prost(message, repeated, tag = "2")]
    pub items: Vec<PlayItem>,
    /// How often the whole list plays; 0 plays until it is stopped.
    #[prost(uint32, tag = "3")]
    pub loops: u32,
    /// Milliseconds of audio already played, over all loops.
    #[prost(uint64, tag = "4")]
    pub offset_ms: u64,
}

#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
pub struct PlayItem {
    #[prost(oneof = "PlayKind", tags = "1, 2, 3, 4, 5")]
    pub kind: Option<PlayKind>,
}

#[derive(Clone, PartialEq, prost::Oneof, Serialize, Deserialize)]
pub enum PlayKind {
    /// Audio named by the SHA-256 of its 16-bit samples: the worker asks for it with [`AudioWanted`].
    #[prost(bytes = "bytes", tag = "1")]
    Audio(Bytes),
    #[prost(message, tag = "2")]
    Tone(Tone),
    #[prost(uint32, tag = "3")]
    SilenceMs(u32),
    /// DTMF digits `0-9 * # A-D`, with `w` for a pause of 0.5 s and `W` for one of 1 s.
    #[prost(string, tag = "4")]
    Digits(String),
    /// What comes by [`Feed`], and silence while there is nothing; until the player is stopped.
    #[prost(message, tag = "5")]
    Live(Live),
}

#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
pub struct Live {}

/// A call-progress tone: up to four frequencies, and a cadence of on and off milliseconds that repeats.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
pub struct Tone {
    #[prost(uint32, repeated, tag = "1")]
    pub frequencies_hz: Vec<u32>,
    /// On, off, on, off ...; empty is a steady tone.
    #[prost(uint32, repeated, tag = "2")]
    pub cadence_ms: Vec<u32>,
    /// How long this item lasts; 0 until the player is stopped.
    #[prost(uint32, tag = "3")]
    pub duration_ms: u32,
}

/// A recording that runs: a WAV file of 16-bit samples at 8 kHz in the worker's folder, written while it runs.
///
/// Its tracks are aligned in time by the session's clock; what did not arrive is silence. The file can be played
/// whenever the worker dies; the server then repairs its header.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
pub struct RecorderSpec {
    #[prost(uint32, tag = "1")]
    pub recorder_id: u32,
    #[prost(oneof = "Recorded", tags = "2, 3")]
    pub source: Option<Recorded>,
    /// 2 puts what the party says on the left and what it hears on the right, where both are recorded. Anything else
    /// is 1, the sum of both.
    #[prost(uint32, tag = "4")]
    pub channels: u32,
    /// At most 128 of `A-Z a-z 0-9 . _ -`, and no dot at the beginning. A file of that name must not exist.
    #[prost(string, tag = "5")]
    pub file: String,
    /// Ends the recording; 0, like anything longer, is a day. Time that a pause skips does not count.
    #[prost(uint64, tag = "6")]
    pub max_length_ms: u64,
    /// Ends the recording when nothing that it records was a voice for so long; 0 never. Pauses do not count.
    #[prost(uint64, tag = "7")]
    pub silence_timeout_ms: u64,
    /// Leaves out the silence before the first word and after the last, but for 200 ms.
    #[prost(bool, tag = "8")]
    pub trim_silence: bool,
    /// Paused from the start, or since.
    #[prost(enumeration = "PauseMode", optional, tag = "9")]
    pub paused: Option<i32>,
    /// Milliseconds recorded already, by a worker that was lost: they count towards `max_length_ms`. Where it is not
    /// 0 the file is gone on with if it is here.
    #[prost(uint64, tag = "10")]
    pub offset_ms: u64,
}

#[derive(Clone, PartialEq, prost::Oneof, Serialize, Deserialize)]
pub enum Recorded {
    #[prost(message, tag = "2")]
    Leg(RecordedLeg),
    /// Everybody who is heard in the mix.
    #[prost(message, tag = "3")]
    Mix(Mix),
}

#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
pub struct RecordedLeg {
    #[prost(uint32, tag = "1")]
    pub leg_id: u32,
    #[prost(enumeration = "Track", tag = "2")]
    pub track: i32,
}

/// What of a leg is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, prost::Enumeration, Serialize, Deserialize)]
pub enum Track {
    Both = 0,
    /// What its party says.
    Inbound = 1,
    /// What its party hears.
    Outbound = 2,
}

/// What is said and heard on a leg, told every 20 ms by [`Tapped`] from now on, silence too.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
pub struct TapSpec {
    #[prost(uint32, tag = "1")]
    pub tap_id: u32,
    #[prost(uint32, tag = "2")]
    pub leg_id: u32,
    #[prost(enumeration = "Track", tag = "3")]
    pub track: i32,
    /// What another worker has told already: the time that is told counts on.
    #[prost(uint64, tag = "4")]
    pub offset_ms: u64,
}

/// What becomes of the time of a pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, prost::Enumeration, Serialize, Deserialize)]
pub enum PauseMode {
    /// It is left out of the file.
    Skip = 0,
    /// It is silent in the file.
    Silence = 1,
}

/// What an edge asks of a worker.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
pub struct Command {
    /// Names the answer; unique for the edge.
    #[prost(uint64, tag = "1")]
    pub command_id: u64,
    #[prost(uint64, tag = "2")]
    pub session_id: u64,
    #[prost(uint64, tag = "3")]
    pub owner_epoch: u64,
    #[prost(oneof = "CommandKind", tags = "10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26")]
    pub kind: Option<CommandKind>,
}

#[derive(Clone, PartialEq, prost::Oneof, Serialize, Deserialize)]
pub enum CommandKind {
    /// Makes a whole session. Each RTP leg is answered by one [`Negotiated`] or [`Refused`], as by [`Negotiate`].
    #[prost(message, tag = "10")]
    Open(SessionSpec),
    /// Adds a leg, or replaces one of the same id. Answered as `Open`.
    #[prost(message, tag = "11")]
    PutLeg(LegSpec),
    /// A step of offer and answer on an existing leg.
    #[prost(message, tag = "12")]
    Negotiate(Negotiate),
    /// Ends a leg; answered by [`LegClosed`].
    #[prost(uint32, tag = "13")]
    DropLeg(u32),
    #[prost(message, tag = "14")]
    Hear(Hear),
    /// Starts a player and makes the leg hear it; a player that runs on the leg is replaced.
    #[prost(message, tag = "15")]
    Play(Play),
    /// Audio that the worker asked for.
    #[prost(message, tag = "16")]
    Audio(Audio),
    /// Ends the session; answered by one [`LegClosed`] for each leg, one [`RecorderEnded`] for each recorder, and then
    /// [`MediaEventKind::Released`].
    #[prost(message, tag = "17")]
    Release(Release),
    /// Mutes, unmutes, or makes a coach.
    #[prost(message, tag = "18")]
    Mix(SetMixing),
    /// Starts a recorder; answered by [`RecorderStarted`] once its file is there, or by [`RecorderEnded`].
    #[prost(message, tag = "19")]
    Record(RecorderSpec),
    /// Ends a recorder; answered by [`RecorderEnded`] once its file is complete.
    #[prost(uint32, tag = "20")]
    StopRecording(u32),
    #[prost(message, tag = "21")]
    PauseRecording(PauseRecording),
    #[prost(uint32, tag = "22")]
    ResumeRecording(u32),
    /// The other end of a link is at another worker, or is here again. No session has it: a worker takes it for the link.
    #[prost(message, tag = "23")]
    Link(LinkRoute),
    /// Begins to tell what is said and heard on a leg. It ends with the leg, or by `StopTap`; neither is answered.
    #[prost(message, tag = "24")]
    Tap(TapSpec),
    #[prost(uint32, tag = "25")]
    StopTap(u32),
    /// Not answered: what comes for a player that is over is dropped.
    #[prost(message, tag = "26")]
    Feed(Feed),
}

/// Something for a player of [`PlayKind::Live`].
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
pub struct Feed {
    #[prost(uint32, tag = "1")]
    pub leg_id: u32,
    #[prost(uint32, tag = "2")]
    pub player_id: u32,
    #[prost(oneof = "Fed", tags = "3, 4, 5")]
    pub what: Option<Fed>,
}

#[derive(Clone, PartialEq, prost::Oneof, Serialize, Deserialize)]
pub enum Fed {
    /// Mu-law at 8 kHz, behind what waits already. Ten minutes may wait; what is more is dropped.
    #[prost(bytes = "bytes", tag = "3")]
    Audio(Bytes),
    /// Told by [`Marked`] once all before it has been played.
    #[prost(string, tag = "4")]
    Mark(String),
    /// Drops the audio that waits; all marks in it are told at once.
    #[prost(message, tag = "5")]
    Clear(Clear),
}

#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
pub struct Clear {}

/// Where the frames of a link go, whose other end is a session of another worker.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
pub struct LinkRoute {
    #[prost(uint64, tag = "1")]
    pub key: u64,
    /// Of the other worker, as its `Hello` had it; empty where the link is inside this one.
    #[prost(string, tag = "2")]
    pub address: String,
    /// 32 bytes that nobody but the two workers has, fresh each time.
    #[prost(bytes = "bytes", tag = "3")]
    pub secret: Bytes,
    /// Which of the two ends this is.
    #[prost(bool, tag = "4")]
    pub is_first: bool,
}

#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
pub struct Negotiate {
    #[prost(uint32, tag = "1")]
    pub leg_id: u32,
    #[prost(enumeration = "SdpStep", tag = "2")]
    pub step: i32,
    /// The peer's SDP for `RemoteOffer` and `RemoteAnswer`; empty for `MakeOffer` and `Rollback`.
    #[prost(bytes = "bytes", tag = "3")]
    pub sdp: Bytes,
}

/// A step of offer and answer, as the worker sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, prost::Enumeration, Serialize, Deserialize)]
pub enum SdpStep {
    /// The peer offers: the worker answers with [`Negotiated`] holding our answer.
    RemoteOffer = 0,
    /// The peer answers our offer: [`Negotiated`] with an empty SDP.
    RemoteAnswer = 1,
    /// We are to offer: [`Negotiated`] holding our offer.
    MakeOffer = 2,
    /// Our offer, or our answer, came to nothing: back to what was agreed before.
    Rollback = 3,
}

#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
pub struct Hear {
    #[prost(uint32, tag = "1")]
    pub leg_id: u32,
    #[prost(message, optional, tag = "2")]
    pub source: Option<Source>,
}

#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
pub struct Play {
    #[prost(uint32, tag = "1")]
    pub leg_id: u32,
    #[prost(message, optional, tag = "2")]
    pub player: Option<PlayerSpec>,
}

#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
pub struct SetMixing {
    #[prost(uint32, tag = "1")]
    pub leg_id: u32,
    /// None says nothing into the mix.
    #[prost(message, optional, tag = "2")]
    pub mixing: Option<Mixing>,
}

#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
pub struct PauseRecording {
    #[prost(uint32, tag = "1")]
    pub recorder_id: u32,
    #[prost(enumeration = "PauseMode", tag = "2")]
    pub mode: i32,
}

/// Audio for the worker's cache: 16-bit little-endian samples, mono, at `rate_hz`. Empty where there is none to be had.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
pub struct Audio {
    #[prost(bytes = "bytes", tag = "1")]
    pub hash: Bytes,
    #[prost(uint32, tag = "2")]
    pub rate_hz: u32,
    #[prost(bytes = "bytes", tag = "3")]
    pub samples: Bytes,
}

#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
pub struct Release {}

/// What a worker tells the edge that owns a session.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
pub struct MediaEvent {
    #[prost(uint64, tag = "1")]
    pub session_id: u64,
    #[prost(oneof = "MediaEventKind", tags = "10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24")]
    pub kind: Option<MediaEventKind>,
}

#[derive(Clone, PartialEq, prost::Oneof, Serialize, Deserialize)]
pub enum MediaEventKind {
    #[prost(message, tag = "10")]
    Negotiated(Negotiated),
    #[prost(message, tag = "11")]
    Refused(Refused),
    #[prost(message, tag = "12")]
    Digit(Digit),
    #[prost(message, tag = "13")]
    PlayerEnded(PlayerEnded),
    #[prost(message, tag = "14")]
    AudioWanted(AudioWanted),
    #[prost(message, tag = "15")]
    LegSilent(LegSilent),
    #[prost(message, tag = "16")]
    LegClosed(LegClosed),
    #[prost(message, tag = "17")]
    Released(Release),
    /// The leg's first packet arrived here, or the first since this worker has taken another's place: its media flows.
    #[prost(uint32, tag = "18")]
    LegHeard(u32),
    #[prost(message, tag = "19")]
    Speaking(Speaking),
    #[prost(message, tag = "20")]
    RecorderStarted(RecorderStarted),
    #[prost(message, tag = "21")]
    RecorderEnded(RecorderEnded),
    #[prost(message, tag = "22")]
    LegFailed(LegFailed),
    #[prost(message, tag = "23")]
    Tapped(Tapped),
    #[prost(message, tag = "24")]
    Marked(Marked),
}

/// 20 ms of a leg, as its tap has it: mu-law, 160 bytes; empty of a track that is not tapped.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
pub struct Tapped {
    #[prost(uint32, tag = "1")]
    pub tap_id: u32,
    #[prost(uint32, tag = "2")]
    pub leg_id: u32,
    /// Since the tap began.
    #[prost(uint64, tag = "3")]
    pub at_ms: u64,
    #[prost(bytes = "bytes", tag = "4")]
    pub inbound: Bytes,
    #[prost(bytes = "bytes", tag = "5")]
    pub outbound: Bytes,
}

/// All that was fed to a player before this mark has been played, or was cleared.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
pub struct Marked {
    #[prost(uint32, tag = "1")]
    pub leg_id: u32,
    #[prost(uint32, tag = "2")]
    pub player_id: u32,
    #[prost(string, tag = "3")]
    pub name: String,
}

/// There will be no media on a browser's leg any more: it has shown another certificate than its SDP has, has closed the
/// connection, or is gone. It may still begin anew, by an offer.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
pub struct LegFailed {
    #[prost(uint32, tag = "1")]
    pub leg_id: u32,
    /// For a person.
    #[prost(string, tag = "2")]
    pub why: String,
}

/// A step of offer and answer succeeded; `sdp` is ours to send, empty after `RemoteAnswer` and `Rollback`.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
pub struct Negotiated {
    #[prost(uint64, tag = "1")]
    pub command_id: u64,
    #[prost(uint32, tag = "2")]
    pub leg_id: u32,
    #[prost(bytes = "bytes", tag = "3")]
    pub sdp: Bytes,
    /// The codec in use, as in `rtpmap` (`PCMU`); empty until both sides have spoken.
    #[prost(string, tag = "4")]
    pub codec: String,
    /// The peer holds: its SDP lets us send nothing, or says address 0.0.0.0.
    #[prost(bool, tag = "5")]
    pub held: bool,
    /// By what it is encrypted, as in `a=crypto` (`AES_CM_128_HMAC_SHA1_80`); empty where it is not, or not yet.
    #[prost(string, tag = "6")]
    pub encryption: String,
}

#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
pub struct Refused {
    #[prost(uint64, tag = "1")]
    pub command_id: u64,
    #[prost(uint32, tag = "2")]
    pub leg_id: u32,
    #[prost(enumeration = "Refusal", tag = "3")]
    pub reason: i32,
    /// For a person: what in the SDP, or what of the worker, is the cause.
    #[prost(string, tag = "4")]
    pub text: String,
}

/// Why a worker did not do what it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, prost::Enumeration, Serialize, Deserialize)]
pub enum Refusal {
    /// The SDP cannot be read: SIP 400.
    MalformedSdp = 0,
    /// The SDP has nothing that we speak: SIP 488.
    NotAcceptable = 1,
    /// No port, or no capacity, is left: SIP 503.
    NoCapacity = 2,
    /// No such session or leg.
    Unknown = 3,
}

#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
pub struct Digit {
    #[prost(uint32, tag = "1")]
    pub leg_id: u32,
    /// One of `0-9 * # A-D`, as its character code.
    #[prost(uint32, tag = "2")]
    pub digit: u32,
    #[prost(uint32, tag = "3")]
    pub duration_ms: u32,
    /// Found in the audio, not signalled by RFC 4733.
    #[prost(bool, tag = "4")]
    pub in_band: bool,
}

#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
pub struct PlayerEnded {
    #[prost(uint32, tag = "1")]
    pub leg_id: u32,
    #[prost(uint32, tag = "2")]
    pub player_id: u32,
    /// False where audio could not be had, or the player was replaced.
    #[prost(bool, tag = "3")]
    pub finished: bool,
    /// Milliseconds played, over all loops.
    #[prost(uint64, tag = "4")]
    pub offset_ms: u64,
}

#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
pub struct AudioWanted {
    #[prost(bytes = "bytes", tag = "1")]
    pub hash: Bytes,
}

/// Nothing was heard for 2 s from a leg that hears something and whose SDP lets it send: told once, for the log.
///
/// A worker does not know whether a call is answered: before that, silence is no fault.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
pub struct LegSilent {
    #[prost(uint32, tag = "1")]
    pub leg_id: u32,
    /// Where the peer's SDP says that its media comes from.
    #[prost(string, tag = "2")]
    pub expected_from: String,
    /// The stranger whose packets were dropped, empty if nothing came at all.
    #[prost(string, tag = "3")]
    pub dropped_from: String,
}

#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
pub struct LegClosed {
    #[prost(uint32, tag = "1")]
    pub leg_id: u32,
    #[prost(message, optional, tag = "2")]
    pub statistics: Option<LegStatistics>,
}

/// RTP totals of a leg's life (RFC 3550 s6.4).
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
pub struct LegStatistics {
    #[prost(uint64, tag = "1")]
    pub packets_received: u64,
    #[prost(uint64, tag = "2")]
    pub bytes_received: u64,
    #[prost(uint64, tag = "3")]
    pub packets_sent: u64,
    #[prost(uint64, tag = "4")]
    pub bytes_sent: u64,
    #[prost(uint64, tag = "5")]
    pub packets_lost: u64,
    /// Interarrival jitter at the end, in units of the RTP clock turned into microseconds.
    #[prost(uint32, tag = "6")]
    pub jitter_us: u32,
    /// Packets that came too late for the jitter buffer.
    #[prost(uint64, tag = "7")]
    pub packets_late: u64,
    /// Packets from elsewhere than the negotiated address, or with a wrong payload type or SSRC.
    #[prost(uint64, tag = "8")]
    pub packets_dropped: u64,
    /// Last round trip by RTCP, 0 if never measured.
    #[prost(uint32, tag = "9")]
    pub round_trip_us: u32,
    #[prost(string, tag = "10")]
    pub codec: String,
}

/// A leg of the mix began to speak, or has been silent for 800 ms.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
pub struct Speaking {
    #[prost(uint32, tag = "1")]
    pub leg_id: u32,
    #[prost(bool, tag = "2")]
    pub speaking: bool,
}

#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
pub struct RecorderStarted {
    #[prost(uint32, tag = "1")]
    pub recorder_id: u32,
    /// The leg that it records, 0 for the mix.
    #[prost(uint32, tag = "2")]
    pub leg_id: u32,
    #[prost(uint32, tag = "3")]
    pub channels: u32,
}

/// A recorder is over, and its file is as it will stay.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
pub struct RecorderEnded {
    #[prost(uint32, tag = "1")]
    pub recorder_id: u32,
    /// The leg that it records, 0 for the mix.
    #[prost(uint32, tag = "2")]
    pub leg_id: u32,
    #[prost(enumeration = "RecorderEnd", tag = "3")]
    pub reason: i32,
    /// For a person: why it failed.
    #[prost(string, tag = "4")]
    pub text: String,
    /// Of the file.
    #[prost(uint64, tag = "5")]
    pub duration_ms: u64,
    /// Of the file, with its header.
    #[prost(uint64, tag = "6")]
    pub bytes: u64,
    /// Silence that was left out.
    #[prost(uint64, tag = "7")]
    pub trimmed_ms: u64,
    #[prost(uint32, tag = "8")]
    pub channels: u32,
    /// Somebody spoke in it.
    #[prost(bool, tag = "9")]
    pub voiced: bool,
}

/// Why a recorder ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, prost::Enumeration, Serialize, Deserialize)]
pub enum RecorderEnd {
    Stopped = 0,
    MaxLength = 1,
    Silence = 2,
    /// The leg that it recorded is over, or the session.
    LegClosed = 3,
    /// There is no file, or it is not complete. The call is not touched by it.
    Failed = 4,
}

/// A worker's load, for the balancer and for whoever looks.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
pub struct LoadReport {
    #[prost(uint32, tag = "1")]
    pub sessions: u32,
    #[prost(uint32, tag = "2")]
    pub legs: u32,
    /// Legs that still find a port.
    #[prost(uint32, tag = "3")]
    pub free_legs: u32,
    /// Worst lateness of a 20 ms tick since the last report.
    #[prost(uint32, tag = "4")]
    pub tick_lateness_us: u32,
    /// What its legs take, in units of one leg of G.711.
    #[prost(uint32, tag = "5")]
    pub used: u32,
    /// And what it can take, in the same units.
    #[prost(uint32, tag = "6")]
    pub capacity: u32,
    /// It takes no new sessions.
    #[prost(bool, tag = "7")]
    pub is_draining: bool,
    /// It waits to take the place of a worker of its machine that dies.
    #[prost(bool, tag = "8")]
    pub is_standby: bool,
    #[prost(message, optional, tag = "9")]
    pub totals: Option<Totals>,
}

/// What a worker has counted since it started.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
pub struct Totals {
    #[prost(uint64, tag = "1")]
    pub packets_in: u64,
    #[prost(uint64, tag = "2")]
    pub packets_out: u64,
    #[prost(uint64, tag = "3")]
    pub bytes_in: u64,
    #[prost(uint64, tag = "4")]
    pub bytes_out: u64,
    #[prost(uint64, tag = "5")]
    pub lost: u64,
    #[prost(uint64, tag = "6")]
    pub late: u64,
    /// By reason, in the order of [`crate::leg::Dropped::ALL`].
    #[prost(uint64, repeated, tag = "7")]
    pub dropped: Vec<u64>,
    /// Legs now by codec, in the order of [`crate::codec::Codec::ALL`].
    #[prost(uint64, repeated, tag = "8")]
    pub legs_by_codec: Vec<u64>,
    /// Legs that there are ports for.
    #[prost(uint32, tag = "9")]
    pub all_legs: u32,
    /// Sessions that a bug ended.
    #[prost(uint64, tag = "10")]
    pub panics: u64,
    /// Ticks by how late they were, in the order of [`crate::worker::LATENESS_BOUNDS_US`] and one above; not cumulative.
    #[prost(uint64, repeated, tag = "11")]
    pub tick_lateness: Vec<u64>,
    #[prost(uint64, tag = "12")]
    pub tick_lateness_sum_us: u64,
}
