//! RTP and audio without I/O: the media of Dialtone's calls, and behind feature `daemon` the worker that runs them.
//!
//! Everything here that decides is a plain state machine: it takes inputs and `now`, it is asked for its outputs,
//! and it opens no socket, reads no clock, spawns nothing and locks nothing. A [`session::Session`] is the media of
//! one call: its [`leg::Leg`]s, what each of them hears, and the players that they hear. [`proto`] is the contract
//! with the edge that owns the call; [`worker`] is the only part that touches the world.
//!
//! The crate knows nothing of SIP, calls or accounts. SDP is read and written here and nowhere else (RFC 4566,
//! RFC 3264); audio is G.711 at 8 kHz (RFC 3551), and Opus (RFC 6716) and G.722, which become that where whoever hears them has
//! another codec; digits are RFC 4733 events or tones, reports are RFC 3550.
//! What is encrypted is SRTP by keys in the SDP (RFC 3711, RFC 4568, RFC 7714), or of a browser by DTLS (RFC 5764) behind
//! ICE-lite (RFC 8445).

pub mod activity;
pub mod clips;
pub mod codec;
pub mod conceal;
pub mod dtmf;
pub mod ids;
pub mod jitter;
pub mod leg;
pub mod mixer;
pub mod player;
pub mod playout;
pub mod proto;
pub mod random;
pub mod received;
pub mod recorder;
pub mod resample;
pub mod rtcp;
pub mod rtp;
pub mod sdp;
pub mod session;
pub mod srtp;
pub mod tap;
pub mod text;
pub mod time;
pub mod timeline;
pub mod tone;
pub mod wav;
pub mod webrtc;
#[cfg(feature = "daemon")]
pub mod worker;
