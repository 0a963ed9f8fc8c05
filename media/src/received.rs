//! What a leg has taken off the network, as all see it that come after: who mixes it, plays it, records it or sends it on.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::ids::LegId;
use crate::rtp::RtpTime;
use crate::sdp::Payload;

/// A packet that was taken: everything but its payload, which stays where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    pub carries: Payload,
    pub marker: bool,
    /// By a clock of 8 kHz, whatever the sender's is.
    pub timestamp: RtpTime,
    /// Extended sequence number.
    pub seq: u32,
    pub stream: StreamKey,
    /// Where in the datagram.
    pub payload: Range<usize>,
    /// A digit is sounding in this audio: where it goes out as an event, the tone does not go out too.
    pub tone: bool,
}

/// Names one stretch of packets in which sequence numbers and timestamps belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct StreamKey {
    pub leg: LegId,
    pub generation: u32,
}
