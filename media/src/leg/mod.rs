//! One RTP leg: a party's media as a state machine, from its SDP to its packets.
//!
//! A leg knows its peer, its two streams and its reports. It does not know what it hears, who hears it, or that
//! other legs exist: that is [`crate::session`]. Nothing here opens a socket; a packet comes in as bytes with its
//! source, and goes out as bytes for an address that [`Leg::rtp_target`] names.

mod bridge;
mod decode;
mod encode;
mod gate;
mod hot;
mod outgoing;
mod packetise;
mod receive;
mod repeat;
mod report;
mod secure;

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::codec::Codec;
use crate::dtmf::{Detector, EventReceiver, Key, KeyEvent, KeySender};
use crate::ids::LegId;
use crate::proto;
use crate::random::Random;
use crate::sdp::{MediaPlan, Negotiation, Protected, Protection, SdpError};
use crate::time::{Mono, sooner};
use crate::webrtc::{Browser, Happened, Identity, Sort};

pub use bridge::Forwarded;
pub use gate::Latching;
pub use hot::Hot;
pub use outgoing::Outgoing;
pub use receive::{Dropped, MAX_AUDIO};

use decode::StreamDecoder;
use encode::Encoder;
use gate::Gate;
use packetise::Packetiser;
use receive::Incoming;
use repeat::Repeats;
use report::Reports;
use secure::Secure;

/// One RTP leg.
pub struct Leg {
    id: LegId,
    negotiation: Negotiation,
    /// What the negotiation says, worked out once per step.
    plan: Option<MediaPlan>,
    gate: Gate,
    secure: Secure,
    /// Of a browser's leg.
    browser: Option<Box<Browser>>,
    incoming: Incoming,
    events: EventReceiver,
    /// Only where the peer has no telephone-event: digits are then tones in its audio.
    detector: Option<Box<Detector>>,
    outgoing: Outgoing,
    packetiser: Option<Box<Packetiser>>,
    /// Of a leg that is not on G.711, from when somebody hears it whose codec is another, or it hears somebody like that.
    decoder: Option<Box<StreamDecoder>>,
    encoder: Option<Encoder>,
    /// Digits that we send.
    keys: KeySender,
    reports: Reports,
    /// Of a leg whose packets may go again, and be asked for again.
    repeats: Option<Box<Repeats>>,
    /// As the edge described the leg when it was made.
    opened_as: proto::RtpLeg,
    /// When silence is news; `None` once heard, once told, and while nothing is to be expected.
    silent_at: Option<Mono>,
    heard: bool,
    happened: VecDeque<LegEvent>,
    /// What the worker before has written down of the player that the leg heard: which, and how much it had played.
    written_player: Option<(u32, u64)>,
}

/// What a leg tells the session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LegEvent {
    /// The first packet arrived.
    Heard,
    /// Nothing arrived for 2 s, though something was to be expected.
    Silent { expected: SocketAddr, stranger: Option<SocketAddr> },
    /// There will be no media any more; why, for a person.
    Failed(String),
    /// A digit has begun, or ended.
    Key { event: KeyEvent, in_band: bool },
}

/// What a leg is made of, and what it goes on from.
pub struct LegSetup<'a> {
    pub id: LegId,
    /// Our address and RTP port as the peer is to see them.
    pub endpoint: SocketAddr,
    /// What another worker has written down of the leg, whose place at this endpoint it takes.
    pub goes_on: Option<Hot>,
    pub latching: Latching,
    pub rtp: &'a proto::RtpLeg,
    pub protection: Protection,
    /// Who we are to a browser, where the leg is one's.
    pub identity: Option<Arc<Identity>>,
    /// The codec to offer first: another leg's, so that nothing has to be transcoded.
    pub preferred: Option<Codec>,
}

impl Leg {
    /// Makes a leg and takes its first step of offer and answer: the SDP to send comes with it.
    ///
    /// With both descriptions given, the leg goes on from them, and the SDP is a new offer of ours. Where it goes on at the
    /// same endpoint there is nothing new to say, and the SDP is what was said last.
    pub fn open(setup: LegSetup<'_>, random: &mut Random, now: Mono) -> Result<(Leg, Bytes), SdpError> {
        let rtp = setup.rtp;
        let session_id = random.next_u64() >> 2;
        let mut leg = Leg {
            id: setup.id,
            negotiation: Negotiation::protected(setup.endpoint, session_id, setup.protection)
                .restored(rtp.local_sdp.clone(), rtp.remote_sdp.clone())?,
            plan: None,
            secure: Secure::Plain,
            browser: setup.identity.map(|identity| Box::new(Browser::new(identity))),
            gate: Gate::new(setup.latching, rtp.signalled_from.parse::<IpAddr>().ok()),
            incoming: Incoming::new(setup.id),
            events: EventReceiver::default(),
            detector: None,
            outgoing: Outgoing::new(random),
            packetiser: None,
            decoder: None,
            encoder: None,
            keys: KeySender::default(),
            reports: Reports::new(random),
            repeats: None,
            opened_as: rtp.clone(),
            silent_at: None,
            heard: false,
            happened: VecDeque::new(),
            written_player: None,
        };
        if let Some(hot) = &setup.goes_on {
            leg.negotiation.resume(rtp.is_offer);
            leg.replan(now);
            leg.take_up(hot, now);
            return Ok((leg, rtp.local_sdp.clone()));
        }
        let first_step = if rtp.local_sdp.is_empty() && !rtp.remote_sdp.is_empty() {
            leg.handle_offer(&rtp.remote_sdp, now)?
        } else {
            leg.replan(now);
            leg.negotiation.make_offer(setup.preferred)
        };
        Ok((leg, first_step))
    }

    pub fn id(&self) -> LegId {
        self.id
    }

    /// What whoever takes this worker's place must know. About 10 ns.
    pub fn hot(&self) -> Hot {
        let mut hot = Hot { cname: self.reports.cname(), ..Hot::default() };
        self.outgoing.write_down(&mut hot);
        hot.srtp = self.secure.write_down();
        self.gate.write_down(&mut hot);
        let received = self.incoming.totals();
        Hot {
            packets_received: received.packets,
            octets_received: received.octets,
            lost: received.lost,
            late: received.late,
            dropped: received.dropped,
            ..hot
        }
    }

    fn take_up(&mut self, hot: &Hot, now: Mono) {
        if let Some(browser) = &mut self.browser {
            browser.take_up(hot.locked, now);
        }
        if hot.ssrc == 0 {
            // Nothing was written yet: nothing has left.
            return;
        }
        self.outgoing.take_up(hot);
        if let Some(srtp) = &hot.srtp {
            self.secure.take_up(srtp);
        }
        self.gate.take_up(hot);
        self.incoming.take_up(hot);
        self.reports.take_up(hot.cname);
        self.written_player = Some((hot.player, hot.played_ms));
    }

    /// How much of that player the worker before had played, if this is the first time that it is asked for.
    pub fn take_played(&mut self, player_id: u32) -> Option<u64> {
        self.written_player.take().filter(|(written, _)| *written == player_id).map(|(_, played_ms)| played_ms)
    }

    /// The peer offers: our answer.
    pub fn handle_offer(&mut self, sdp: &Bytes, now: Mono) -> Result<Bytes, SdpError> {
        let answer = self.negotiation.handle_offer(sdp)?;
        self.replan(now);
        Ok(answer)
    }

    /// The peer answers our offer.
    pub fn handle_answer(&mut self, sdp: &Bytes, now: Mono) -> Result<(), SdpError> {
        self.negotiation.handle_answer(sdp)?;
        self.replan(now);
        Ok(())
    }

    /// Our offer; the media stays as it was until the answer.
    pub fn make_offer(&mut self, preferred: Option<Codec>) -> Bytes {
        self.negotiation.make_offer(preferred)
    }

    /// Back to what was agreed before.
    pub fn rollback(&mut self, now: Mono) {
        self.negotiation.rollback();
        self.replan(now);
    }

    fn replan(&mut self, now: Mono) {
        let plan = self.negotiation.plan();
        if let Some(plan) = &plan {
            // A worker that was given both descriptions has not heard what came before.
            let rtp = &self.opened_as;
            self.secure.agree(&plan.protected, !rtp.local_sdp.is_empty() && !rtp.remote_sdp.is_empty());
            if let (Some(browser), Protected::Dtls { ours, theirs, peer_ufrag }) = (&mut self.browser, &plan.protected)
            {
                browser.agree(ours, *theirs, peer_ufrag, now);
            }
        }
        let moved = self.gate.expect(plan.as_ref());
        if moved {
            // Another address is another sender: its SSRC need not wait for the old one to fall silent.
            self.incoming.forget_stream();
            self.silent_at = None;
        }
        match &plan {
            Some(plan) if plan.event_type.is_none() => {
                self.detector.get_or_insert_default();
            }
            _ => self.detector = None,
        }
        let shape = |plan: &Option<MediaPlan>| plan.as_ref().map(|plan| (plan.codec, plan.packet_samples));
        if shape(&self.plan) != shape(&plan) {
            self.packetiser = None;
            (self.decoder, self.encoder) = (None, None);
        }
        match plan.as_ref().is_some_and(|plan| plan.repeats) {
            true => drop(self.repeats.get_or_insert_default()),
            false => self.repeats = None,
        }
        if let Some(plan) = &plan {
            self.reports.begin(now);
            self.outgoing.set_ticks(plan.audio_ticks);
        }
        if plan.as_ref().is_none_or(|plan| !plan.may_send) {
            // What comes after a hold is a new talk spurt, and not after a loss.
            self.outgoing.pause();
        }
        self.plan = plan;
    }

    /// What is agreed, once both sides have spoken.
    pub fn plan(&self) -> Option<&MediaPlan> {
        self.plan.as_ref()
    }

    pub fn negotiation(&self) -> &Negotiation {
        &self.negotiation
    }

    /// Whether packets may go out: agreed, not held, and with somewhere to go.
    pub fn can_send(&self) -> bool {
        self.plan.as_ref().is_some_and(|plan| plan.may_send)
            && self.secure.is_ready()
            && self.gate.rtp_target().is_some()
    }

    /// Where our RTP goes.
    pub fn rtp_target(&self) -> Option<SocketAddr> {
        self.gate.rtp_target()
    }

    /// Where our RTCP goes, and whether it goes out of the RTP port.
    pub fn rtcp_target(&self) -> Option<(SocketAddr, bool)> {
        let mux = self.plan.as_ref()?.rtcp_mux;
        self.gate.rtcp_target().map(|target| (target, mux))
    }

    /// The one address that RTP comes from, once that is certain.
    pub fn settled_peer(&self) -> Option<SocketAddr> {
        self.gate.settled()
    }

    /// The session expects to hear this leg from now on: from here, 2 s without a packet are news.
    pub fn expect_media(&mut self, now: Mono) {
        let expects = self.plan.as_ref().is_some_and(|plan| plan.may_receive) && self.gate.rtp_target().is_some();
        if expects && self.silent_at.is_none() && self.gate.settled().is_none() && !self.gate.told_silent() {
            self.silent_at = Some(now + SILENT_AFTER);
        }
    }

    /// Whether a spec describes this leg as it was made, or as it stands now.
    pub fn is_as(&self, rtp: &proto::RtpLeg) -> bool {
        let stands =
            || rtp.local_sdp == self.negotiation.local_sdp() && rtp.remote_sdp == self.negotiation.remote_sdp();
        *rtp == self.opened_as || stands()
    }

    /// Queues a digit to be sent; one over the bound is dropped.
    pub fn press(&mut self, key: Key) {
        self.keys.push(key);
    }

    /// Whether digits are on their way out, beside which nothing else is.
    pub fn is_pressing(&self) -> bool {
        !self.keys.is_idle()
    }

    /// A packet of this leg came too late to be played.
    pub fn count_late(&mut self) {
        self.incoming.late += 1;
    }

    /// Whether [`Leg::poll_event`] has anything.
    pub fn has_events(&self) -> bool {
        !self.happened.is_empty()
    }

    pub fn next_deadline(&self) -> Option<Mono> {
        let own = sooner(sooner(self.events.next_deadline(), self.silent_at), self.reports.next_deadline());
        let own = sooner(own, self.repeats.as_ref().and_then(|repeats| repeats.missing.next_deadline()));
        sooner(own, self.browser.as_ref().and_then(|browser| browser.next_deadline()))
    }

    /// Takes the time; a report that became due is then in [`Leg::poll_report`].
    pub fn handle_timeout(&mut self, now: Mono) {
        let happened = &mut self.happened;
        self.events.handle_timeout(now, |event| happened.push_back(LegEvent::Key { event, in_band: false }));
        if self.silent_at.is_some_and(|at| at <= now) {
            self.silent_at = None;
            self.gate.tell_silent();
            if let Some(expected) = self.plan.as_ref().and_then(|plan| plan.remote).or(self.gate.rtp_target()) {
                happened.push_back(LegEvent::Silent { expected, stranger: self.gate.last_stranger() });
            }
        }
        if let Some(browser) = &mut self.browser {
            let mut transport = Vec::new();
            browser.handle_timeout(now, |happened| transport.push(happened));
            transport.into_iter().for_each(|happened| self.take(happened));
        }
        let moved = self.outgoing.totals().packets + self.incoming.totals().packets;
        self.reports.handle_timeout(moved, now);
    }

    /// Takes a datagram of a browser's transport, STUN or DTLS; true where it proves that what comes from there is the
    /// browser's. What is to be sent is in [`Leg::poll_transport`].
    pub fn handle_transport(&mut self, from: SocketAddr, datagram: &[u8], now: Mono) -> bool {
        let Some(browser) = &mut self.browser else { return false };
        let mut transport = Vec::new();
        let is_proved = match Sort::of(datagram) {
            Sort::Stun => browser.handle_stun(from, datagram, now, |happened| transport.push(happened)),
            Sort::Dtls => {
                browser.handle_dtls(from, datagram, now, |happened| transport.push(happened));
                false
            }
            Sort::Media | Sort::Unknown => false,
        };
        transport.into_iter().for_each(|happened| self.take(happened));
        is_proved
    }

    fn take(&mut self, happened: Happened) {
        match happened {
            Happened::Selected(at) => self.gate.nominate(at),
            Happened::Keys { ours, theirs } => self.secure.set_keys(&ours, &theirs, false),
            Happened::Lost => {
                self.gate.forget_peer();
                let why = "the browser has said nothing for 30 s: it is gone, or its network is";
                self.happened.push_back(LegEvent::Failed(why.into()));
            }
            Happened::Failed(why) => {
                self.secure.lock();
                self.happened.push_back(LegEvent::Failed(why));
            }
        }
    }

    /// The next datagram of a browser's transport, and where it goes.
    pub fn poll_transport(&mut self) -> Option<(SocketAddr, Bytes)> {
        self.browser.as_mut()?.poll_transmit()
    }

    /// Whether a browser knows the leg by a name that begins so.
    pub fn is_named(&self, name: &str) -> bool {
        self.browser.is_some() && self.negotiation.ufrag().is_some_and(|ufrag| ufrag.starts_with(name))
    }

    pub fn poll_event(&mut self) -> Option<LegEvent> {
        self.happened.pop_front()
    }

    /// Packets lost, and packets too late to be played, so far.
    pub fn losses(&self) -> (u64, u64) {
        let totals = self.incoming.totals();
        (totals.lost, totals.late)
    }

    /// The totals of the leg's life so far.
    pub fn statistics(&self) -> proto::LegStatistics {
        let (received, sent) = (self.incoming.totals(), self.outgoing.totals());
        proto::LegStatistics {
            packets_received: received.packets,
            bytes_received: received.octets,
            packets_sent: sent.packets,
            bytes_sent: sent.octets,
            packets_lost: received.lost,
            jitter_us: u32::try_from(received.jitter.as_micros()).unwrap_or(u32::MAX),
            packets_late: received.late,
            packets_dropped: received.dropped,
            round_trip_us: self
                .reports
                .round_trip()
                .map_or(0, |time| u32::try_from(time.as_micros()).unwrap_or(u32::MAX)),
            codec: self.plan.as_ref().map_or(String::new(), |plan| plan.codec.name().to_owned()),
        }
    }
}

/// How long an answered leg may say nothing before we say so.
const SILENT_AFTER: Duration = Duration::from_secs(2);
