//! Sessions in virtual time: commands and packets in, packets and events out, to the millisecond.

mod audio;
mod browser;
mod codecs;
mod control;
mod digits;
mod faults;
mod mix;
mod recording;
mod repeats;
mod secure;
mod sound;
mod taps;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;

use super::*;
use crate::clips::{Clip, ClipHash, Clips};
use crate::proto::*;
use crate::recorder::{FileLength, FileOutcome, FileStep};
use crate::rtcp::{ReportBlock, Rtcp};
use crate::rtp::{Header, Packet, RtpTime, Seq, Ssrc};
use crate::srtp::{MAX_OVERHEAD, Receiver};
use crate::time::Mono;

/// Some sessions of one worker, the time, and what came out.
pub(super) struct World {
    pub sessions: Vec<Session>,
    pub clips: Clips,
    pub now: Mono,
    next_port: u16,
    secrets: u8,
    pub hot: Option<Hot>,
    /// RTP that was sent since it was last taken.
    pub sent: Vec<Sent>,
    pub reports: usize,
    /// RTP as it left, what left again, and what was asked for again.
    left: Vec<Vec<u8>>,
    pub again: Vec<(SocketAddr, Vec<u8>)>,
    pub asked: Vec<(SocketAddr, Vec<Seq>)>,
    /// What goes to browsers besides.
    pub transports: Vec<Vec<u8>>,
    /// The keys of those who are sent encrypted media.
    pub keys: BTreeMap<SocketAddr, Receiver>,
    pub events: Vec<MediaEventKind>,
    /// Frames for links whose other end is nowhere here.
    pub frames: Vec<(LinkKey, Frame)>,
    /// The recordings of session 0, by recorder.
    pub files: BTreeMap<u32, File>,
    /// Files are made and finished at once; else they never are.
    pub disk_answers: bool,
    commands: u64,
}

/// An RTP packet that a session sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sent {
    pub at_ms: u64,
    pub to: SocketAddr,
    pub header: Header,
    pub payload: Vec<u8>,
}

/// A file of a recording, as it is so far.
#[derive(Default)]
pub(super) struct File {
    pub name: String,
    pub channels: u8,
    pub goes_on: bool,
    pub samples: Vec<i16>,
    pub writes: usize,
    pub is_finished: bool,
}

impl File {
    /// One channel of it.
    pub fn channel(&self, channel: usize) -> Vec<i16> {
        self.samples.iter().skip(channel).step_by(self.channels.into()).copied().collect()
    }
}

/// The ports of a worker.
struct WorldPorts<'a> {
    next: &'a mut u16,
    secrets: &'a mut u8,
    /// What the worker before has written down.
    hot: &'a Option<Hot>,
}

impl Ports for WorldPorts<'_> {
    fn open(&mut self, _: LegId) -> Option<u16> {
        if *self.next >= 65_000 {
            return None;
        }
        *self.next += 2;
        Some(*self.next)
    }

    fn open_shared(&mut self, _: LegId) -> Option<(u16, String)> {
        Some((50_000, "AAB".into()))
    }

    fn reopen_shared(&mut self, _: LegId, port: u16, ufrag: &str) -> Option<Hot> {
        assert!(port == 50_000 && ufrag.starts_with("AAB"));
        self.hot.clone()
    }

    fn reopen(&mut self, _: LegId, _: u16) -> Option<Hot> {
        self.hot.clone()
    }

    fn fill_secret(&mut self, secret: &mut [u8]) {
        *self.secrets += 1;
        secret.fill(*self.secrets);
    }
}

impl World {
    pub fn new() -> World {
        World::with(Latching::Off, 1)
    }

    pub fn with(latching: Latching, sessions: u64) -> World {
        let settings = Settings { advertise: [198, 51, 100, 1].into(), latching, seed: 9, identity: None };
        World {
            sessions: (1..=sessions).map(|id| Session::new(SessionId(id), 1, settings.clone(), Mono(0))).collect(),
            clips: Clips::new(1 << 20),
            now: Mono(1_000_000),
            next_port: 40_000,
            secrets: 100,
            hot: None,
            sent: Vec::new(),
            reports: 0,
            left: Vec::new(),
            again: Vec::new(),
            asked: Vec::new(),
            transports: Vec::new(),
            keys: BTreeMap::new(),
            events: Vec::new(),
            frames: Vec::new(),
            files: BTreeMap::new(),
            disk_answers: true,
            commands: 0,
        }
    }

    /// Commands session 0 and takes the events that this leads to.
    pub fn command(&mut self, kind: CommandKind) -> Vec<MediaEventKind> {
        self.command_to(0, 1, kind)
    }

    pub fn command_to(&mut self, session: usize, owner_epoch: u64, kind: CommandKind) -> Vec<MediaEventKind> {
        self.commands += 1;
        let command =
            Command { command_id: self.commands, session_id: session as u64 + 1, owner_epoch, kind: Some(kind) };
        let before = self.events.len();
        let mut ports = WorldPorts { next: &mut self.next_port, secrets: &mut self.secrets, hot: &self.hot };
        self.sessions[session].handle_command(&command, &mut ports, &mut self.clips, self.now);
        self.flush();
        self.events.split_off(before)
    }

    pub fn no_ports_left(&mut self) {
        self.next_port = 65_000;
    }

    /// Opens session 0 with legs of these offers, which hear what is said.
    pub fn open(&mut self, legs: &[(&str, Hears)]) -> Vec<Negotiated> {
        let legs = legs.iter().zip(1..).map(|((sdp, hears), id)| rtp_leg(id, sdp, hears.clone())).collect();
        let events = self.command(CommandKind::Open(SessionSpec {
            session_id: 1,
            owner_epoch: 1,
            legs,
            ..SessionSpec::default()
        }));
        events
            .into_iter()
            .map(|event| match event {
                MediaEventKind::Negotiated(negotiated) => negotiated,
                other => panic!("{other:?}"),
            })
            .collect()
    }

    pub fn negotiate(&mut self, leg_id: u32, step: SdpStep, sdp: &str) -> MediaEventKind {
        let negotiate = Negotiate { leg_id, step: step as i32, sdp: Bytes::from(sdp.to_owned()) };
        let mut events = self.command(CommandKind::Negotiate(negotiate));
        assert_eq!(events.len(), 1, "{events:?}");
        events.remove(0)
    }

    pub fn hear(&mut self, leg_id: u32, hears: Hears) -> Vec<MediaEventKind> {
        self.command(CommandKind::Hear(Hear { leg_id, source: Some(Source { from: Some(hears) }) }))
    }

    pub fn play(&mut self, leg_id: u32, player_id: u32, items: Vec<PlayKind>) -> Vec<MediaEventKind> {
        let items = items.into_iter().map(|kind| PlayItem { kind: Some(kind) }).collect();
        let player = Some(PlayerSpec { player_id, items, loops: 1, offset_ms: 0 });
        self.command(CommandKind::Play(Play { leg_id, player }))
    }

    /// A packet arrives at a leg of session 0.
    pub fn arrive(&mut self, leg: u32, from: SocketAddr, packet: &[u8]) -> Result<(), Dropped> {
        let mut buffer = packet.to_vec();
        buffer.resize(packet.len() + MAX_OVERHEAD, 0);
        let sent = self.sessions[0].handle_rtp(LegId(leg), from, &mut buffer, packet.len(), self.now)?;
        if let Some(transmit) = sent {
            self.note(&transmit, &buffer);
        }
        self.flush();
        Ok(())
    }

    /// A datagram of a browser's transport arrives at leg 1 of session 0.
    pub fn transport(&mut self, from: SocketAddr, datagram: &[u8]) -> bool {
        let is_proved = self.sessions[0].handle_transport(LegId(1), from, datagram, self.now);
        self.flush();
        is_proved
    }

    fn flush(&mut self) {
        for index in 0..self.sessions.len() {
            let mut buffer = [0; MIN_BUFFER];
            while let Some(transmit) = self.sessions[index].poll_transmit(&mut buffer) {
                self.note(&transmit, &buffer);
            }
            while let Some((link, frame)) = self.sessions[index].poll_frame() {
                match (0..self.sessions.len()).find(|other| *other != index) {
                    Some(other) => self.sessions[other].handle_frame(link, &frame, self.now),
                    None => self.frames.push((link, frame)),
                }
            }
        }
        for index in 0..self.sessions.len() {
            let mut buffer = [0; MIN_BUFFER];
            while let Some(transmit) = self.sessions[index].poll_transmit(&mut buffer) {
                self.note(&transmit, &buffer);
            }
            while let Some(event) = self.sessions[index].poll_event() {
                assert_eq!(event.session_id, index as u64 + 1);
                self.events.extend(event.kind);
            }
        }
        self.write_files();
    }

    fn write_files(&mut self) {
        while let Some((recorder, step)) = self.sessions[0].poll_file() {
            let file = self.files.entry(recorder.0).or_default();
            let outcome = match step {
                FileStep::Create { file: name, channels, goes_on } => {
                    (file.name, file.channels, file.goes_on) = (name.as_str().to_owned(), channels, goes_on.is_some());
                    Some(FileOutcome::Created)
                }
                FileStep::Write(samples) => {
                    assert!(!samples.is_empty() && samples.len().is_multiple_of(file.channels.into()));
                    file.samples.extend(samples);
                    file.writes += 1;
                    None
                }
                FileStep::Finish { cut } => {
                    assert!(!file.is_finished);
                    let channels = u64::from(file.channels);
                    file.samples.truncate(file.samples.len() - (cut * channels) as usize);
                    file.is_finished = true;
                    let bytes = 44 + file.samples.len() as u64 * 2;
                    Some(FileOutcome::Finished(FileLength { bytes, samples: file.samples.len() as u64 / channels }))
                }
            };
            if let Some(outcome) = outcome.filter(|_| self.disk_answers) {
                self.sessions[0].handle_file(recorder, outcome, self.now);
                while let Some(event) = self.sessions[0].poll_event() {
                    self.events.extend(event.kind);
                }
            }
        }
    }

    fn note(&mut self, transmit: &Transmit, buffer: &[u8]) {
        let mut bytes = buffer[transmit.packet.clone()].to_vec();
        if crate::webrtc::Sort::of(&bytes) != crate::webrtc::Sort::Media {
            return self.transports.push(bytes);
        }
        let is_rtcp = crate::rtp::is_rtcp(&bytes);
        if !is_rtcp {
            if self.left.contains(&bytes) {
                return self.again.push((transmit.to, bytes));
            }
            self.left.push(bytes.clone());
        }
        // Reports go to the port above.
        let media = SocketAddr::new(transmit.to.ip(), transmit.to.port() - u16::from(transmit.from == Port::Rtcp));
        if let Some(keys) = self.keys.get_mut(&media) {
            let opened = if is_rtcp { keys.open_rtcp(&mut bytes) } else { keys.open_rtp(&mut bytes) };
            bytes.truncate(opened.expect("sealed with the key of our description, and never twice"));
        }
        if is_rtcp {
            for packet in crate::rtcp::parse(&bytes).expect("a compound") {
                if let Rtcp::Nack { lost, .. } = packet {
                    self.asked.push((transmit.to, lost.collect()));
                }
            }
            self.reports += 1;
            return;
        }
        let packet = Packet::parse(&bytes).expect("rtp");
        let payload = bytes[packet.payload].to_vec();
        self.sent.push(Sent { at_ms: self.now.0 / 1000, to: transmit.to, header: packet.header, payload });
    }

    /// Lets the time pass, deadline by deadline.
    pub fn run_for(&mut self, ms: u64) {
        let until = self.now + Duration::from_millis(ms);
        loop {
            let deadlines = self.sessions.iter().map(Session::next_deadline);
            let Some(next) = deadlines.fold(None, crate::time::sooner).filter(|at| *at <= until) else { break };
            self.now = self.now.max(next);
            for session in &mut self.sessions {
                if session.next_deadline().is_some_and(|at| at <= self.now) {
                    session.handle_timeout(self.now);
                }
            }
            self.flush();
        }
        self.now = until;
    }

    pub fn take_sent(&mut self) -> Vec<Sent> {
        std::mem::take(&mut self.sent)
    }

    pub fn take_events(&mut self) -> Vec<MediaEventKind> {
        std::mem::take(&mut self.events)
    }
}

/// The stream of a phone.
pub(super) struct Phone {
    pub leg: u32,
    pub from: SocketAddr,
    pub ssrc: u32,
    pub payload_type: u8,
    pub seq: u16,
    pub timestamp: u32,
}

impl Phone {
    /// The phone of leg 1, 2, ... whose media is at 203.0.113.5, port 5000, 5002, ...
    pub fn of_leg(leg: u32, payload_type: u8) -> Phone {
        let from = SocketAddr::from(([203, 0, 113, 5], 4998 + 2 * leg as u16));
        Phone { leg, from, ssrc: leg * 1000, payload_type, seq: 65_530, timestamp: 8000 * leg }
    }

    pub fn packet(&self, marker: bool, payload_type: u8, payload: &[u8]) -> Vec<u8> {
        let header = Header {
            marker,
            payload_type,
            seq: Seq(self.seq),
            timestamp: RtpTime(self.timestamp),
            ssrc: Ssrc(self.ssrc),
        };
        [&header.to_bytes()[..], payload].concat()
    }

    /// The next packet of audio: so many samples of this byte.
    pub fn audio(&mut self, byte: u8, samples: usize) -> Vec<u8> {
        let packet = self.packet(false, self.payload_type, &vec![byte; samples]);
        self.seq = self.seq.wrapping_add(1);
        self.timestamp = self.timestamp.wrapping_add(samples as u32);
        packet
    }

    pub fn say(&mut self, world: &mut World, byte: u8) {
        let packet = self.audio(byte, 160);
        world.arrive(self.leg, self.from, &packet).expect("taken");
        world.run_for(20);
    }

    /// A digit as a phone sends it: five packets and three ends; `lost` says which of them do not arrive.
    pub fn press(&mut self, world: &mut World, event_type: u8, code: u8, lost: impl Fn(usize) -> bool) {
        for step in 0..8usize {
            let duration = ((step + 1) * 160).min(800) as u16;
            let [high, low] = duration.to_be_bytes();
            let end = u8::from(step >= 5) << 7;
            let packet = self.packet(step == 0, event_type, &[code, end | 10, high, low]);
            self.seq = self.seq.wrapping_add(1);
            if !lost(step) {
                world.arrive(self.leg, self.from, &packet).expect("taken");
            }
            world.run_for(20);
        }
        self.timestamp = self.timestamp.wrapping_add(1280);
    }
}

/// An offer of the phone of this leg, with the rest of its `m=` line and its attributes.
pub(super) fn offer(leg: u32, formats: &str) -> String {
    let port = 4998 + 2 * leg;
    format!(
        "v=0\r\no=- 1 1 IN IP4 203.0.113.5\r\ns=-\r\nc=IN IP4 203.0.113.5\r\nt=0 0\r\nm=audio {port} RTP/AVP {formats}\r\n"
    )
}

pub(super) fn rtp_leg(leg_id: u32, sdp: &str, hears: Hears) -> LegSpec {
    let rtp =
        RtpLeg { remote_sdp: Bytes::from(sdp.to_owned()), signalled_from: "203.0.113.5".into(), ..RtpLeg::default() };
    let hears = Some(Source { from: Some(hears) });
    LegSpec { leg_id, kind: Some(LegKind::Rtp(rtp)), hears, ..LegSpec::default() }
}

pub(super) fn remote_leg(leg_id: u32, key: u64, hears: Hears) -> LegSpec {
    let remote = RemoteLeg { worker: String::new(), session_id: 0, key };
    let hears = Some(Source { from: Some(hears) });
    LegSpec { leg_id, kind: Some(LegKind::Remote(remote)), hears, ..LegSpec::default() }
}

pub(super) fn silence() -> Hears {
    Hears::Silence(Silence {})
}

pub(super) fn negotiated(event: MediaEventKind) -> Negotiated {
    match event {
        MediaEventKind::Negotiated(negotiated) => negotiated,
        other => panic!("{other:?}"),
    }
}

pub(super) fn refused(event: MediaEventKind) -> Refusal {
    match event {
        MediaEventKind::Refused(refused) => refused.reason(),
        other => panic!("{other:?}"),
    }
}

/// Payload type and the first byte of each packet.
pub(super) fn shapes(sent: &[Sent]) -> Vec<(u8, u8)> {
    sent.iter().map(|sent| (sent.header.payload_type, sent.payload[0])).collect()
}

/// Sequence numbers and timestamps, counted from the first packet.
pub(super) fn numbers(sent: &[Sent]) -> Vec<(i16, i32)> {
    let first = sent[0].header;
    sent.iter()
        .map(|sent| (sent.header.seq.ahead_of(first.seq), sent.header.timestamp.ahead_of(first.timestamp)))
        .collect()
}

const PCMU: &str = "0 101\r\na=rtpmap:101 telephone-event/8000";
const PCMA: &str = "8 96\r\na=rtpmap:96 telephone-event/8000";
