//! The connections of media streams: what taps tell goes to them, and what comes of them to players and calls.
//!
//! Sound does not go through the call: fifty times a second nothing changes for it.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use dialtone_media::proto::{Clear, CommandKind, Fed, Feed, Marked, MediaEvent, MediaEventKind, Tapped};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::mail::{Heard, Mail, MailBox};
use super::streams::OpenStream;
use crate::account::Directory;
use crate::app::{Client, FromServer, StreamRequest, ToServer};
use crate::call::StreamEvent;
use crate::ids::{CallSid, StreamSid};
use crate::twiml::{Notice, RecordingTrack};

/// The streams of a shard.
#[derive(Default)]
pub(super) struct Sockets {
    open: HashMap<StreamSid, Socket>,
    /// By session and tap.
    by_tap: HashMap<(u64, u32), StreamSid>,
    /// Those that feed a player, by session and leg.
    by_leg: HashMap<(u64, u32), StreamSid>,
}

pub(super) struct Socket {
    /// Full, what is told is lost: whoever carries it takes all at once, whatever the server does.
    told: mpsc::Sender<ToServer>,
    session_id: u64,
    tap_id: u32,
    leg_id: u32,
    /// The player that it feeds.
    player: Option<u32>,
    /// Marks that were not played yet.
    marks: VecDeque<String>,
    /// Until when what the player was given lasts, on the shard's clock: what may wait is bounded, and the customer is told.
    fed_until_us: u64,
    has_overflowed: bool,
}

/// Words for one connection that may wait for whoever carries it.
const WORDS: usize = 512;
/// Words of one connection that may be in the shard's letters: one that says much leaves room for all others.
const UNDER_WAY: usize = 64;
const MAX_MARKS: usize = 1_000;
/// What the player of a worker keeps, ten minutes.
const MAX_AHEAD_US: u64 = 600_000_000;
const BYTE_US: u64 = 125;
/// Twilio's number for what a stream cannot do with a message.
const INVALID_MESSAGE: u32 = 31_951;
const OVERFLOW: &str =
    "more than ten minutes of sound, or a thousand marks, wait to be played: what is more is dropped";

impl Sockets {
    /// Connects, and carries the stream until it is over.
    pub fn open(
        &mut self,
        open: OpenStream,
        directory: &Directory,
        client: &Client,
        runtime: &tokio::runtime::Handle,
        mail: &MailBox,
    ) {
        let OpenStream { call, account, session_id, leg_id, order } = open;
        let (told, words) = mpsc::channel(WORDS);
        let (sid, player) = (order.sid, order.spec.player);
        let socket = Socket {
            told,
            session_id,
            tap_id: order.tap_id,
            leg_id,
            player,
            marks: VecDeque::new(),
            fed_until_us: 0,
            has_overflowed: false,
        };
        self.by_tap.insert((session_id, order.tap_id), sid);
        if player.is_some() {
            self.by_leg.insert((session_id, leg_id), sid);
        }
        self.open.insert(sid, socket);
        let tracks = match order.spec.track {
            RecordingTrack::Inbound => vec![INBOUND],
            RecordingTrack::Outbound => vec![OUTBOUND],
            RecordingTrack::Both => vec![INBOUND, OUTBOUND],
        };
        let token = directory.account(account).map(|account| account.auth_token.clone()).unwrap_or_default();
        let request = StreamRequest {
            account,
            call,
            sid,
            token,
            url: order.spec.url,
            tracks,
            params: order.spec.params,
            is_heard: player.is_some(),
        };
        let (client, mail) = (client.clone(), mail.clone());
        runtime.spawn(async move {
            let turns = Arc::new(Semaphore::new(UNDER_WAY));
            let tell = |word| {
                let (mail, turns) = (&mail, Arc::clone(&turns));
                async move {
                    if let Ok(turn) = turns.acquire_owned().await {
                        let _ = mail.send(letter(call, sid, word, turn)).await;
                    }
                }
            };
            client.stream(request, words, tell).await;
        });
    }

    /// Takes what taps and marks tell; gives anything else back.
    pub fn handle_media(&mut self, event: MediaEvent) -> Option<MediaEvent> {
        match event.kind {
            Some(MediaEventKind::Tapped(tapped)) => {
                self.tapped(event.session_id, tapped);
                None
            }
            Some(MediaEventKind::Marked(marked)) => {
                self.marked(event.session_id, &marked);
                None
            }
            kind => Some(MediaEvent { kind, ..event }),
        }
    }

    fn tapped(&mut self, session_id: u64, tapped: Tapped) {
        let sid = self.by_tap.get(&(session_id, tapped.tap_id));
        let Some(socket) = sid.and_then(|sid| self.open.get(sid)) else { return };
        for (track, payload) in [(INBOUND, tapped.inbound), (OUTBOUND, tapped.outbound)] {
            if !payload.is_empty() {
                socket.tell(ToServer::Media { track, at_ms: tapped.at_ms, payload });
            }
        }
    }

    fn marked(&mut self, session_id: u64, marked: &Marked) {
        let Some(sid) = self.by_leg.get(&(session_id, marked.leg_id)) else { return };
        if let Some(socket) = self.open.get_mut(sid).filter(|socket| socket.player == Some(marked.player_id)) {
            // One of a connection before is none of this one's.
            if let Some(at) = socket.marks.iter().position(|name| *name == marked.name) {
                socket.marks.remove(at);
                socket.tell(ToServer::Mark(marked.name.clone()));
            }
        }
    }

    /// The worker is lost that had what was to be played: nothing of it waits any more.
    pub fn emptied(&mut self, session_id: u64) {
        for socket in self.open.values_mut().filter(|socket| socket.session_id == session_id) {
            socket.fed_until_us = 0;
            for name in std::mem::take(&mut socket.marks) {
                socket.tell(ToServer::Mark(name));
            }
        }
    }

    /// What a stream has for its player, as a command for that player's session; and what the customer is to be told of it.
    pub fn heard(&mut self, sid: StreamSid, heard: Heard, now_us: u64) -> (Option<(u64, CommandKind)>, Option<Notice>) {
        let Some(socket) = self.open.get_mut(&sid) else { return (None, None) };
        let Some(player_id) = socket.player else { return (None, None) };
        let fed = match heard {
            Heard::Audio(audio) => {
                let until = socket.fed_until_us.max(now_us) + audio.len() as u64 * BYTE_US;
                if until - now_us > MAX_AHEAD_US {
                    return (None, socket.overflows());
                }
                socket.fed_until_us = until;
                Fed::Audio(audio)
            }
            Heard::Mark(name) => {
                if socket.marks.len() >= MAX_MARKS {
                    return (None, socket.overflows());
                }
                socket.marks.push_back(name.clone());
                Fed::Mark(name)
            }
            Heard::Clear => {
                socket.fed_until_us = 0;
                Fed::Clear(Clear {})
            }
        };
        let feed = Feed { leg_id: socket.leg_id, player_id, what: Some(fed) };
        (Some((socket.session_id, CommandKind::Feed(feed))), None)
    }

    pub fn tell_digit(&self, sid: StreamSid, digit: char) {
        if let Some(socket) = self.open.get(&sid) {
            socket.tell(ToServer::Digit(digit));
        }
    }

    /// It is over. Whoever carries it says goodbye, and tells nobody what came of that.
    pub fn close(&mut self, sid: StreamSid) {
        if let Some(socket) = self.forget(sid) {
            socket.tell(ToServer::Stop);
        }
    }

    /// Whoever has carried it is done.
    pub fn forget(&mut self, sid: StreamSid) -> Option<Socket> {
        let socket = self.open.remove(&sid)?;
        self.by_tap.remove(&(socket.session_id, socket.tap_id));
        let leg = (socket.session_id, socket.leg_id);
        if self.by_leg.get(&leg) == Some(&sid) {
            self.by_leg.remove(&leg);
        }
        Some(socket)
    }
}

impl Socket {
    /// More waits than may: told once.
    fn overflows(&mut self) -> Option<Notice> {
        let is_first = !std::mem::replace(&mut self.has_overflowed, true);
        is_first.then(|| Notice::warning(INVALID_MESSAGE, OVERFLOW))
    }

    fn tell(&self, word: ToServer) {
        let _ = self.told.try_send(word);
    }
}

/// What a connection has, as a letter to its shard.
fn letter(call: CallSid, sid: StreamSid, word: FromServer, turn: OwnedSemaphorePermit) -> Mail {
    let heard = |what, turn| Mail::StreamHeard { call, sid, what, turn };
    let became = |event| Mail::Stream { call, sid, event };
    match word {
        FromServer::Audio(audio) => heard(Heard::Audio(audio), turn),
        FromServer::Mark(name) => heard(Heard::Mark(name), turn),
        FromServer::Clear => heard(Heard::Clear, turn),
        FromServer::Opened => became(StreamEvent::Opened),
        FromServer::Closed => became(StreamEvent::Closed),
        FromServer::Noticed(code, text) => became(StreamEvent::Noticed(Notice::warning(code, text))),
        FromServer::Failed(code, text) => became(StreamEvent::Failed(Notice::error(code, text))),
    }
}

/// As Twilio calls the tracks.
const INBOUND: &str = "inbound";
const OUTBOUND: &str = "outbound";
