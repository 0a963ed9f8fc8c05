//! Offer and answer for one audio stream (RFC 3264): what we say, and what it led to.
//!
//! The state is the texts that were exchanged: from our last description and the peer's a [`Negotiation`] can be
//! made again, on this worker or another. It does not know why an offer is made, nor when one is in flight in
//! SIP terms; two offers that cross are SIP's to resolve (491), and here the peer's simply replaces ours.

use std::fmt::{self, Write};
use std::net::SocketAddr;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::plan::{Formats, MediaPlan, address_of, audio_index, check_stream, first_common, packet_time_ms};
use super::security::{Demand, Kind, Protected, Protection};
use super::{
    Address, Direction, EVENT_NAME, Malformed, Media, Name, Origin, RtpMap, Security, SessionDescription, Setup, parse,
};
use crate::codec::Codec;
use crate::proto::Refusal;

/// Offer and answer of one leg.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Negotiation {
    /// Where we receive, as the peer is to see it.
    endpoint: SocketAddr,
    /// The session id of our `o=` line.
    session_id: u64,
    protection: Protection,
    agreed: Option<Exchange>,
    /// Our last description, agreed or not: `o=` counts on from it.
    last_sent: Bytes,
    step: Step,
    /// What `agreed` comes to, while it is known from the step that led to it; else it is read again.
    #[serde(skip)]
    planned: Option<MediaPlan>,
    /// What our offer says, while it need not be read again.
    #[serde(skip)]
    offered: Option<SessionDescription>,
}

/// A pair of descriptions that both sides stand by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Exchange {
    local: Bytes,
    remote: Bytes,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Step {
    Stable,
    /// Our offer waits for its answer.
    Offered {
        offer: Bytes,
    },
    /// We answered; the answer may still come to nothing.
    Answered {
        before: Option<Exchange>,
    },
    /// The peer answered. Another answer to the same offer replaces it: early media before the final answer, or a fork.
    Accepted {
        offer: Bytes,
    },
}

/// Why a description leads to no media.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SdpError {
    Malformed(Malformed),
    /// No audio line, or not where we had it.
    NoAudio,
    /// The audio line has port 0.
    Rejected,
    /// A transport that we do not speak, or not to such a peer.
    Protocol,
    /// Plain RTP where the media is to be encrypted.
    Unencrypted,
    /// No key or fingerprint of a kind that we have too.
    NoKey,
    /// The peer wants us to open the DTLS connection.
    Setup,
    /// No codec in common; telephone-event alone is not enough.
    NoCodec,
    /// No unicast address of our family, or our own.
    Address,
    /// An answer where we have offered nothing.
    NoOffer,
}

impl SdpError {
    pub fn refusal(self) -> Refusal {
        match self {
            SdpError::Malformed(_) => Refusal::MalformedSdp,
            _ => Refusal::NotAcceptable,
        }
    }
}

impl fmt::Display for SdpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SdpError::Malformed(fault) => return fault.fmt(f),
            SdpError::NoAudio => "no audio line",
            SdpError::Rejected => "audio line with port 0",
            SdpError::Protocol => "transport is none that is spoken here",
            SdpError::Unencrypted => "media must be encrypted: rtp/savp with a=crypto",
            SdpError::NoKey => {
                "no key in common: AES_CM_128_HMAC_SHA1_80 and AEAD_AES_128_GCM are spoken, and sha-256 fingerprints"
            }
            SdpError::Setup => "setup:passive: the peer must open the dtls connection",
            SdpError::NoCodec => "no codec in common: pcmu, pcma, g722 and opus are spoken",
            SdpError::Address => "no unicast address of our family",
            SdpError::NoOffer => "answer without an offer",
        })
    }
}

/// Two that stand at the same place are equal, whether the plan is at hand or to be read.
impl PartialEq for Negotiation {
    fn eq(&self, other: &Negotiation) -> bool {
        let place = |of: &Negotiation| (of.endpoint, of.session_id);
        place(self) == place(other)
            && self.agreed == other.agreed
            && self.last_sent == other.last_sent
            && self.step == other.step
    }
}

impl Eq for Negotiation {}

impl Negotiation {
    /// Before anything was said. `endpoint` is the address and RTP port to advertise.
    pub fn new(endpoint: SocketAddr, session_id: u64) -> Negotiation {
        Negotiation {
            endpoint,
            session_id,
            protection: Protection::default(),
            agreed: None,
            last_sent: Bytes::new(),
            step: Step::Stable,
            planned: None,
            offered: None,
        }
    }

    /// The same, for media that is protected so.
    pub fn protected(endpoint: SocketAddr, session_id: u64, protection: Protection) -> Negotiation {
        Negotiation { protection, ..Negotiation::new(endpoint, session_id) }
    }

    /// Goes on from the last descriptions of both sides, either of which may be empty.
    ///
    /// `self` is where nothing was said yet. Its endpoint may differ from the one in `local`: then the next offer says so.
    pub fn restored(self, local: Bytes, remote: Bytes) -> Result<Negotiation, SdpError> {
        let mut negotiation = self;
        if local.is_empty() {
            return Ok(negotiation);
        }
        let ours = parse(&local).map_err(SdpError::Malformed)?;
        if let Some(origin) = &ours.origin {
            negotiation.session_id = origin.session_id;
        }
        if let Some(media) = ours.media.iter().find(|media| media.port != 0) {
            negotiation.protection.keep(&media.security);
        }
        if !remote.is_empty() {
            MediaPlan::of(&ours, &parse(&remote).map_err(SdpError::Malformed)?)?;
            negotiation.agreed = Some(Exchange { local: local.clone(), remote });
        }
        negotiation.last_sent = local;
        Ok(negotiation)
    }

    /// Goes on where another worker was: `is_offer` says that our last description was one, so that an answer to it may come.
    pub fn resume(&mut self, is_offer: bool) {
        self.keep_transport();
        let offer = self.last_sent.clone();
        self.step = match (is_offer, &self.agreed) {
            (true, Some(_)) => Step::Accepted { offer },
            (true, None) => Step::Offered { offer },
            (false, _) => Step::Stable,
        };
    }

    /// The peer offers: our answer. The same offer again gives the same answer, and rolled back leaves it in force.
    pub fn handle_offer(&mut self, sdp: &Bytes) -> Result<Bytes, SdpError> {
        let offer = parse(sdp).map_err(SdpError::Malformed)?;
        let transport = self.protection.transport.clone();
        self.restart_if_asked(&offer);
        let answer = match self.answer_to(&offer) {
            Ok(answer) => self.numbered(answer),
            Err(fault) => {
                self.protection.transport = transport;
                return Err(fault);
            }
        };
        let plan = MediaPlan::of(&answer, &offer)?;
        let exchange = Exchange { local: answer.text().into(), remote: sdp.clone() };
        let answer = exchange.local.clone();
        self.step = Step::Answered { before: self.agreed.replace(exchange) };
        self.last_sent = answer.clone();
        self.planned = Some(plan);
        Ok(answer)
    }

    /// A browser that has another name than before begins anew with ICE, and so do we (RFC 8839 s4.4.3.1.1).
    fn restart_if_asked(&mut self, offer: &SessionDescription) {
        let Some(MediaPlan { protected: Protected::Dtls { peer_ufrag, .. }, .. }) = self.plan() else { return };
        let asks =
            offer.media.iter().any(|media| media.security.ice_ufrag.as_ref().is_some_and(|new| *new != peer_ufrag));
        if let (true, Some(transport), Some(identity)) = (asks, &self.protection.transport, self.protection.identity) {
            self.protection.transport = Some(transport.restarted(identity));
        }
    }

    /// The peer answers our offer, for the first time or anew.
    pub fn handle_answer(&mut self, sdp: &Bytes) -> Result<(), SdpError> {
        let (Step::Offered { offer } | Step::Accepted { offer }) = &self.step else {
            return Err(SdpError::NoOffer);
        };
        let answer = parse(sdp).map_err(SdpError::Malformed)?;
        let ours = match self.offered.take() {
            Some(ours) => ours,
            None => parse(offer).map_err(SdpError::Malformed)?,
        };
        let plan = MediaPlan::of(&ours, &answer)?;
        self.check_not_ourselves(plan.remote)?;
        let offer = offer.clone();
        self.agreed = Some(Exchange { local: offer.clone(), remote: sdp.clone() });
        self.step = Step::Accepted { offer };
        self.planned = Some(plan);
        Ok(())
    }

    /// Our offer: what we had, or everything that we speak with `preferred` first. Made twice it is the same.
    pub fn make_offer(&mut self, preferred: Option<Codec>) -> Bytes {
        let offered = self.numbered(self.offer(preferred));
        let offer = Bytes::from(offered.text());
        self.offered = Some(offered);
        self.last_sent = offer.clone();
        self.step = Step::Offered { offer: offer.clone() };
        offer
    }

    /// Our offer, or our answer, came to nothing: what was agreed before holds again.
    pub fn rollback(&mut self) {
        if let Step::Answered { before } = std::mem::replace(&mut self.step, Step::Stable) {
            self.agreed = before;
            self.planned = None;
            self.keep_transport();
        }
    }

    /// A browser's transport is what was agreed on.
    fn keep_transport(&mut self) {
        if let Some(MediaPlan { protected: Protected::Dtls { ours, .. }, .. }) = self.plan() {
            self.protection.transport = Some(ours);
        }
    }

    /// What is agreed, as a plan. May have to read both descriptions; for once per step, not per packet.
    pub fn plan(&self) -> Option<MediaPlan> {
        if self.planned.is_some() {
            return self.planned.clone();
        }
        plan_of(self.agreed.as_ref()?).ok()
    }

    /// By what name a browser knows our transport.
    pub fn ufrag(&self) -> Option<&str> {
        self.protection.transport.as_ref().map(|transport| transport.ufrag.as_str())
    }

    /// Our last description; empty before the first.
    pub fn local_sdp(&self) -> &Bytes {
        &self.last_sent
    }

    /// The peer's last description that was agreed on; empty before the first.
    pub fn remote_sdp(&self) -> Bytes {
        self.agreed.as_ref().map(|exchange| exchange.remote.clone()).unwrap_or_default()
    }

    /// Where the peer sends to.
    pub fn endpoint(&self) -> SocketAddr {
        self.endpoint
    }

    fn answer_to(&self, offer: &SessionDescription) -> Result<SessionDescription, SdpError> {
        let mut fault = SdpError::NoAudio;
        let mut accepted = None;
        for (index, media) in offer.media.iter().enumerate() {
            match (self.acceptable(offer, media), accepted) {
                // Of two ways to carry the same the one that others cannot hear.
                (Ok(Kind::Sdes), Some((_, Kind::Nothing))) => accepted = Some((index, Kind::Sdes)),
                (Ok(kind), None) => accepted = Some((index, kind)),
                (Ok(_), Some(_)) => {}
                // What is wrong with the audio says more than that there is a video.
                (Err(found), _) => fault = if found == SdpError::NoAudio { fault } else { found },
            }
        }
        let (accepted, _) = accepted.ok_or(fault)?;
        let media = offer
            .media
            .iter()
            .enumerate()
            .map(|(index, media)| if index == accepted { self.accepted(offer, media) } else { refused(media) });
        Ok(self.description(media.collect()))
    }

    /// By what the stream is protected, if we can carry it.
    fn acceptable(&self, offer: &SessionDescription, media: &Media) -> Result<Kind, SdpError> {
        check_stream(media)?;
        let kind = media.protected_by()?;
        match (kind, self.protection.demand) {
            (Kind::Dtls, Demand::Dtls) => {}
            (Kind::Nothing, Demand::AsOffered) | (Kind::Sdes, Demand::AsOffered | Demand::Sdes) => {
                let ip = address_of(offer, media, self.endpoint.is_ipv4())?;
                self.check_not_ourselves(Some(SocketAddr::new(ip, media.port)))?;
            }
            (Kind::Nothing, Demand::Sdes) => return Err(SdpError::Unencrypted),
            _ => return Err(SdpError::Protocol),
        }
        if kind == Kind::Sdes && self.protection.answering(&media.security.crypto).is_none() {
            return Err(SdpError::NoKey);
        }
        // Others than we speak are not read: any of them will do.
        if Formats::of(media).codecs.is_empty() { Err(SdpError::NoCodec) } else { Ok(kind) }
    }

    /// A leg that is its own peer would send to itself for ever.
    fn check_not_ourselves(&self, remote: Option<SocketAddr>) -> Result<(), SdpError> {
        if remote == Some(self.endpoint) { Err(SdpError::Address) } else { Ok(()) }
    }

    /// The answering line: one codec, so that nobody has to re-offer to settle on one, with the offer's numbers.
    fn accepted(&self, offer: &SessionDescription, media: &Media) -> Media {
        let theirs = Formats::of(media);
        let codec = theirs.codecs.first().copied();
        let event = codec.and_then(|(codec, _)| theirs.event_beside(codec));
        let direction = offer.direction_of(media);
        let is_ice = media.protected_by() == Ok(Kind::Dtls);
        let unspecified =
            !is_ice && address_of(offer, media, self.endpoint.is_ipv4()).is_ok_and(|ip| ip.is_unspecified());
        let mut audio = audio_line(self.endpoint.port(), media.protocol.clone(), codec.as_slice(), event.as_slice());
        // A peer without an address can hear nothing, whatever it says (RFC 3264 s8.4).
        audio.direction = Some(Direction::new(direction.sends(), direction.receives() && !unspecified).reversed());
        audio.ptime_ms = codec.map(|(codec, _)| packet_time_ms(media, codec));
        audio.rtcp_mux = media.rtcp_mux || is_ice;
        audio.mid = media.mid.clone();
        audio.nacks =
            codec.map(|(_, number)| number).filter(|number| media.nacks.contains(number)).into_iter().collect();
        audio.security = match is_ice {
            true => self.transport(Setup::Passive),
            false => {
                let crypto = self.protection.answering(&media.security.crypto).into_iter().collect();
                Security { crypto, ..Security::default() }
            }
        };
        audio
    }

    /// What a browser is told of our end.
    fn transport(&self, setup: Setup) -> Security {
        let Some(own) = &self.protection.transport else { return Security::default() };
        Security {
            ice_ufrag: Some(own.ufrag.clone()),
            ice_pwd: Some(own.pwd.clone()),
            fingerprint: Some(own.fingerprint),
            setup: Some(setup),
            ..Security::default()
        }
    }

    fn offer(&self, preferred: Option<Codec>) -> SessionDescription {
        let mut codecs = Codec::ALL.map(|codec| (codec, codec.payload_type())).to_vec();
        // A telephone is asked to speak Opus or G.722 only where somebody is there to hear it as it is: all else is G.711 inside.
        let is_browser = self.protection.demand == Demand::Dtls;
        codecs.retain(|(codec, _)| is_browser || codec.law().is_some() || preferred == Some(*codec));
        let agreed = self
            .agreed
            .as_ref()
            .and_then(|exchange| Some((parse(&exchange.local).ok()?, parse(&exchange.remote).ok()?)));
        let Some((local, remote)) = agreed else {
            prefer(&mut codecs, preferred);
            return self.description(vec![self.first_offered(&codecs)]);
        };
        let index = audio_index(&local).unwrap_or(0);
        let media = local.media.iter().zip(&remote.media).enumerate().map(|(at, (ours, theirs))| {
            if at == index { self.offered_again(ours, theirs, &codecs) } else { refused(ours) }
        });
        self.description(media.collect())
    }

    fn first_offered(&self, codecs: &[(Codec, u8)]) -> Media {
        let events = events_beside(codecs);
        let line = |protocol: &'static str| audio_line(self.endpoint.port(), protocol.into(), codecs, &events);
        match self.protection.demand {
            Demand::AsOffered => line("RTP/AVP"),
            Demand::Sdes => {
                let security = Security { crypto: self.protection.offering(), ..Security::default() };
                Media { security, ..line("RTP/SAVP") }
            }
            Demand::Dtls => Media {
                nacks: nacks_of(codecs),
                security: self.transport(Setup::ActPass),
                mid: Some("0".into()),
                rtcp_mux: true,
                ..line("UDP/TLS/RTP/SAVPF")
            },
        }
    }

    /// The numbers of a payload type do not change their meaning within a session (RFC 3264 s8.3.2).
    fn offered_again(&self, ours: &Media, theirs: &Media, all: &[(Codec, u8)]) -> Media {
        let (local, remote) = (Formats::of(ours), Formats::of(theirs));
        let agreed = first_common(&remote, &local).map(|(codec, _)| codec);
        let mut taken: Vec<u8> = ours.rtpmaps.iter().chain(&theirs.rtpmaps).map(|map| map.payload_type).collect();
        let mut number = |known: Option<u8>, usual: u8| {
            let free = || [usual].into_iter().chain(96..128).find(|number| !taken.contains(number));
            let number = known.or_else(free).unwrap_or(usual);
            taken.push(number);
            number
        };
        let known = |codec| local.number_of(codec).or(remote.number_of(codec));
        let offered = Codec::ALL
            .into_iter()
            .filter(|codec| all.iter().any(|(named, _)| named == codec) || agreed == Some(*codec));
        let mut codecs: Vec<_> = offered.map(|codec| (codec, number(known(codec), codec.payload_type()))).collect();
        prefer(&mut codecs, agreed);
        let event = |rate_hz: u32| {
            let events = local.events.iter().chain(&remote.events);
            events.into_iter().find(|(known, _)| *known == rate_hz).map(|(_, number)| *number)
        };
        let events =
            events_beside(&codecs).into_iter().map(|(rate_hz, usual)| (rate_hz, number(event(rate_hz), usual)));
        let events: Vec<_> = events.collect();
        let mut audio = audio_line(self.endpoint.port(), ours.protocol.clone(), &codecs, &events);
        audio.ptime_ms = ours.ptime_ms;
        audio.rtcp_mux = ours.rtcp_mux;
        audio.mid = ours.mid.clone();
        audio.nacks = if ours.nacks.is_empty() { Vec::new() } else { nacks_of(&codecs) };
        audio.security = match ours.security.ice_ufrag {
            Some(_) => self.transport(Setup::ActPass),
            None => ours.security.clone(),
        };
        audio
    }

    fn description(&self, media: Vec<Media>) -> SessionDescription {
        let address = Address::Ip(self.endpoint.ip());
        let origin = Origin { username: "-".into(), session_id: self.session_id, version: 1, address: address.clone() };
        SessionDescription { origin: Some(origin), connection: Some(address), direction: None, media }
    }

    /// Gives our description its version: the last one's, or one more where anything changed (RFC 3264 s8).
    fn numbered(&self, mut sdp: SessionDescription) -> SessionDescription {
        let Ok(last) = parse(&self.last_sent) else { return sdp };
        let version = last.origin.as_ref().map_or(0, |origin| origin.version);
        if let Some(origin) = &mut sdp.origin {
            origin.version = version;
        }
        if sdp != last
            && let Some(origin) = &mut sdp.origin
        {
            origin.version = version.wrapping_add(1);
        }
        sdp
    }
}

/// May have to read both descriptions.
fn plan_of(exchange: &Exchange) -> Result<MediaPlan, SdpError> {
    let read = |sdp| parse(sdp).map_err(SdpError::Malformed);
    MediaPlan::of(&read(&exchange.local)?, &read(&exchange.remote)?)
}

/// Events by the clock of each codec, under our numbers for them (RFC 4733 s2.1: they share the clock of the audio).
fn events_beside(codecs: &[(Codec, u8)]) -> Vec<(u32, u8)> {
    EVENTS.into_iter().filter(|(rate_hz, _)| codecs.iter().any(|(codec, _)| codec.clock_hz() == *rate_hz)).collect()
}

/// The payload types whose lost packets we ask for, and send again.
fn nacks_of(codecs: &[(Codec, u8)]) -> Vec<u8> {
    codecs.iter().filter(|(codec, _)| *codec == Codec::Opus).map(|(_, number)| *number).collect()
}

fn prefer(codecs: &mut [(Codec, u8)], first: Option<Codec>) {
    codecs.sort_by_key(|(codec, _)| Some(*codec) != first);
}

fn audio_line(port: u16, protocol: Name, codecs: &[(Codec, u8)], events: &[(u32, u8)]) -> Media {
    let audio = codecs.iter().map(|(codec, number)| RtpMap {
        payload_type: *number,
        encoding: codec.name().into(),
        rate_hz: codec.clock_hz(),
        channels: codec.channels(),
    });
    let rtpmaps: Vec<_> = audio
        .chain(events.iter().map(|(rate_hz, number)| RtpMap {
            payload_type: *number,
            encoding: EVENT_NAME.into(),
            rate_hz: *rate_hz,
            channels: 1,
        }))
        .collect();
    let mut formats = String::with_capacity(rtpmaps.len() * 4);
    for RtpMap { payload_type, .. } in &rtpmaps {
        let _ = write!(formats, "{}{payload_type}", if formats.is_empty() { "" } else { " " });
    }
    let wanted = codecs.iter().filter_map(|(codec, number)| Some((*number, codec.parameters()?.into())));
    Media {
        direction: Some(Direction::SendRecv),
        rtpmaps,
        ptime_ms: Some(20),
        parameters: wanted.chain(events.iter().map(|(_, number)| (*number, "0-15".into()))).collect(),
        ..Media::new("audio".into(), port, protocol, formats)
    }
}

/// The line with port 0 and nothing else (RFC 3264 s6).
fn refused(media: &Media) -> Media {
    let formats = if media.formats.is_empty() { "0".into() } else { media.formats.clone() };
    Media { mid: media.mid.clone(), ..Media::new(media.kind.clone(), 0, media.protocol.clone(), formats) }
}

/// Our payload types for telephone-event: everybody's, and browsers' for that beside Opus.
const EVENTS: [(u32, u8); 2] = [(Codec::Pcmu.clock_hz(), 101), (Codec::Opus.clock_hz(), 110)];
