//! What an agreed pair of descriptions means for a leg: where to send what, and what to expect.
//!
//! A plan is derived from the two texts alone, so that whoever holds them can make it again. Payload types are
//! kept apart by direction: a peer sends with the numbers of our description, and we with those of its own
//! (RFC 3264 s5.1, s6.1).

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::{Address, Direction, EVENT_NAME, Media, Protected, RtpMap, SdpError, SessionDescription};
use crate::codec::Codec;

/// The media of a leg as both sides agreed on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MediaPlan {
    /// Where the peer receives; `None` while it says `0.0.0.0`.
    pub remote: Option<SocketAddr>,
    /// Where the peer receives RTCP; the same as `remote` with `rtcp-mux`.
    pub remote_rtcp: Option<SocketAddr>,
    pub rtcp_mux: bool,
    /// What we send, and the peer's number for it.
    pub codec: Codec,
    pub payload_type: u8,
    /// The peer's number for telephone-event, where both sides have it.
    pub event_type: Option<u8>,
    /// Ticks of the RTP clock in a sample, for audio and for events: those of an Opus leg go by its clock (RFC 7587 s4.1),
    /// unless its peer has only the others.
    pub audio_ticks: u32,
    pub event_ticks: u32,
    /// The peer can read a lost packet out of the next one.
    pub takes_fec: bool,
    /// Packets that are lost may be asked for, either way.
    pub repeats: bool,
    /// The length of the packets that we send: 10 to 60 ms, in samples.
    pub packet_samples: u16,
    pub may_send: bool,
    pub may_receive: bool,
    /// The peer lets us send nothing.
    pub held: bool,
    pub protected: Protected,
    ours: Formats,
    theirs: Formats,
}

/// What a payload type stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload {
    Audio(Codec),
    /// RFC 4733 telephone-event.
    Event,
    /// RFC 3389 comfort noise, payload type 13: tolerated even where nobody offered it.
    Noise,
}

/// The payload types of one description for the things that we speak.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Formats {
    /// In the order of the description.
    pub codecs: Vec<(Codec, u8)>,
    /// telephone-event by its clock, hertz.
    pub events: Vec<(u32, u8)>,
}

impl Formats {
    pub fn of(media: &Media) -> Formats {
        let mut formats = Formats { codecs: Vec::with_capacity(Codec::ALL.len()), events: Vec::with_capacity(1) };
        for payload_type in media.payload_types() {
            let (codec, event) = match media.rtpmap(payload_type) {
                Some(map) => (Codec::from_rtpmap(&map.encoding, map.rate_hz), is_event(map).then_some(map.rate_hz)),
                None => (Codec::from_static_payload_type(payload_type), None),
            };
            if let Some(rate_hz) = event.filter(|rate_hz| !formats.events.iter().any(|(known, _)| known == rate_hz)) {
                formats.events.push((rate_hz, payload_type));
            }
            if let Some(codec) = codec.filter(|codec| formats.number_of(*codec).is_none()) {
                formats.codecs.push((codec, payload_type));
            }
        }
        formats
    }

    pub fn number_of(&self, codec: Codec) -> Option<u8> {
        self.codecs.iter().find(|(known, _)| *known == codec).map(|(_, number)| *number)
    }

    /// telephone-event beside a codec: of the same clock, or the only one there is.
    pub fn event_beside(&self, codec: Codec) -> Option<(u32, u8)> {
        let same = self.events.iter().find(|(rate_hz, _)| *rate_hz == codec.clock_hz());
        same.or(self.events.iter().find(|(rate_hz, _)| *rate_hz == SAMPLES_HZ)).copied()
    }

    fn meaning_of(&self, payload_type: u8) -> Option<Payload> {
        if self.events.iter().any(|(_, number)| *number == payload_type) {
            return Some(Payload::Event);
        }
        self.codecs.iter().find(|(_, number)| *number == payload_type).map(|(codec, _)| Payload::Audio(*codec))
    }
}

impl MediaPlan {
    /// The plan of two descriptions whose audio stands at the same place.
    ///
    /// `local` is ours: its only audio line with a port is the one in use.
    pub(super) fn of(local: &SessionDescription, remote: &SessionDescription) -> Result<MediaPlan, SdpError> {
        let index = audio_index(local).ok_or(SdpError::NoAudio)?;
        let (ours, theirs) = (&local.media[index], remote.media.get(index).ok_or(SdpError::NoAudio)?);
        check_stream(theirs)?;
        let protected = Protected::of(ours, theirs)?;
        // Where ICE finds the peer its description need not say, and mostly does not.
        let is_ice = matches!(protected, Protected::Dtls { .. });
        let ip = if is_ice { None } else { Some(address_of(remote, theirs, family_of(local, ours))?) };
        let (local_formats, remote_formats) = (Formats::of(ours), Formats::of(theirs));
        let (codec, payload_type) = first_common(&remote_formats, &local_formats).ok_or(SdpError::NoCodec)?;
        let ours_has = |rate_hz: u32| local_formats.events.iter().any(|(known, _)| *known == rate_hz);
        let event = remote_formats.event_beside(codec).filter(|(rate_hz, _)| ours_has(*rate_hz));
        let (we, they) = (local.direction_of(ours), remote.direction_of(theirs));
        let rtcp_mux = is_ice || ours.rtcp_mux && theirs.rtcp_mux;
        let held = !they.receives() || ip.is_some_and(|ip| ip.is_unspecified());
        let ip = ip.filter(|ip| !ip.is_unspecified());
        Ok(MediaPlan {
            remote: ip.map(|ip| SocketAddr::new(ip, theirs.port)),
            remote_rtcp: ip.and_then(|ip| rtcp_of(theirs, ip, rtcp_mux)),
            rtcp_mux,
            codec,
            payload_type,
            event_type: event.map(|(_, number)| number),
            audio_ticks: codec.clock_hz() / SAMPLES_HZ,
            event_ticks: event.map_or(1, |(rate_hz, _)| rate_hz / SAMPLES_HZ),
            takes_fec: codec == Codec::Opus && theirs.parameters_of(payload_type).is_some_and(takes_fec),
            repeats: theirs.nacks.contains(&payload_type)
                && local_formats.number_of(codec).is_some_and(|number| ours.nacks.contains(&number)),
            packet_samples: u16::from(packet_time_ms(theirs, codec)) * 8,
            may_send: we.sends() && !held,
            may_receive: we.receives() && they.sends(),
            held,
            protected,
            ours: local_formats,
            theirs: remote_formats,
        })
    }

    /// What a packet that the peer sent carries, or `None` for a payload type that was never agreed.
    ///
    /// A peer that numbers as in its own description, against RFC 3264 s6.1, is understood where that is unambiguous.
    pub fn meaning_of(&self, payload_type: u8) -> Option<Payload> {
        match self.ours.meaning_of(payload_type).or_else(|| self.theirs.meaning_of(payload_type)) {
            Some(Payload::Audio(codec)) => self.ours.number_of(codec).map(|_| Payload::Audio(codec)),
            Some(Payload::Event) => self.event_type.map(|_| Payload::Event),
            None if payload_type == COMFORT_NOISE => Some(Payload::Noise),
            other => other,
        }
    }
}

impl SessionDescription {
    /// The direction of a medium: its own, the session's, or `sendrecv`.
    pub(super) fn direction_of(&self, media: &Media) -> Direction {
        media.direction.or(self.direction).unwrap_or_default()
    }
}

/// Where our audio is in a description of ours.
pub(super) fn audio_index(local: &SessionDescription) -> Option<usize> {
    local.media.iter().position(|media| media.kind == "audio" && media.port != 0)
}

/// The first of `preferred`'s codecs that `other` has too, with `preferred`'s number.
pub(super) fn first_common(preferred: &Formats, other: &Formats) -> Option<(Codec, u8)> {
    preferred.codecs.iter().copied().find(|(codec, _)| other.number_of(*codec).is_some())
}

/// Whether a peer's stream is audio that we can carry, apart from its codecs and address.
pub(super) fn check_stream(media: &Media) -> Result<(), SdpError> {
    if !media.kind.eq_ignore_ascii_case("audio") {
        return Err(SdpError::NoAudio);
    }
    if media.port == 0 {
        return Err(SdpError::Rejected);
    }
    media.protected_by().map(|_| ())
}

/// The address of a peer's stream: the first of our family, its own lines before the session's.
pub(super) fn address_of(sdp: &SessionDescription, media: &Media, is_v4: bool) -> Result<IpAddr, SdpError> {
    let usable = |address: &Address| match address {
        Address::Ip(ip) if ip.is_ipv4() == is_v4 || ip.is_unspecified() => Some(*ip),
        _ => None,
    };
    let ip = match media.connections.as_slice() {
        [] => sdp.connection.as_ref().and_then(usable),
        own => own.iter().find_map(usable),
    };
    match ip {
        Some(IpAddr::V4(ip)) if ip.is_broadcast() || ip.is_multicast() => Err(SdpError::Address),
        Some(ip) if ip.is_multicast() => Err(SdpError::Address),
        Some(ip) => Ok(ip),
        None => Err(SdpError::Address),
    }
}

/// 20 ms where nothing sensible is asked for; a multiple of 10 ms that the codec has, and no more than `maxptime`.
pub(super) fn packet_time_ms(media: &Media, codec: Codec) -> u8 {
    let asked = media.ptime_ms.filter(|ptime| (10..=60).contains(ptime) && ptime % 10 == 0).unwrap_or(20);
    let allowed = match media.maxptime_ms {
        Some(most) if most >= 10 => asked.min(most / 10 * 10),
        _ => asked,
    };
    match (codec, allowed) {
        // A frame of Opus has one of these lengths (RFC 6716 s2.1.4).
        (Codec::Opus, 30) => 20,
        (Codec::Opus, 50) => 40,
        _ => allowed,
    }
}

fn is_event(map: &RtpMap) -> bool {
    map.encoding.eq_ignore_ascii_case(EVENT_NAME) && [SAMPLES_HZ, Codec::Opus.clock_hz()].contains(&map.rate_hz)
}

/// By the parameters of Opus (RFC 7587 s6.1).
fn takes_fec(parameters: &str) -> bool {
    parameters.split(';').any(|parameter| parameter.trim_ascii() == "useinbandfec=1")
}

fn family_of(local: &SessionDescription, ours: &Media) -> bool {
    let address = ours.connections.first().or(local.connection.as_ref());
    matches!(address, Some(Address::Ip(ip)) if ip.is_ipv4())
}

fn rtcp_of(media: &Media, ip: IpAddr, rtcp_mux: bool) -> Option<SocketAddr> {
    if rtcp_mux {
        return Some(SocketAddr::new(ip, media.port));
    }
    match &media.rtcp {
        Some(rtcp) => match rtcp.address {
            Some(Address::Ip(own)) if own.is_ipv4() == ip.is_ipv4() && !own.is_unspecified() && !own.is_multicast() => {
                Some(SocketAddr::new(own, rtcp.port))
            }
            _ => Some(SocketAddr::new(ip, rtcp.port)),
        },
        None => media.port.checked_add(1).map(|port| SocketAddr::new(ip, port)),
    }
    .filter(|address| address.port() != 0)
}

/// Of the audio inside.
const SAMPLES_HZ: u32 = 8000;
/// RFC 3551 s6: static, 8 kHz.
const COMFORT_NOISE: u8 = 13;
