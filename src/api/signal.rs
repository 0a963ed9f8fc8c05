//! `/signal`: browsers by the official voice SDK, each by a WebSocket.
//!
//! What is said there is `signal`'s; here are the connections. A line outlives its connection for as long as the SDK asked for, if
//! there are calls: another connection that knows a call's token goes on with it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::extract::ws::{Message, WebSocket};
use axum::extract::{ConnectInfo, State, WebSocketUpgrade};
use axum::http::{HeaderMap, header};
use axum::response::Response;
use dialtone_sip::flow::Flow;
use dialtone_sip::msg;
use dialtone_sip::time::Mono;
use dialtone_sip::transport::{Brought, Door, OpenedBy};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, interval, sleep, sleep_until, timeout_at};

use super::View;
use crate::account::{Client, Directory};
use crate::call::Now;
use crate::clock::{mono_us, wall_ms};
use crate::edges::Whose;
use crate::ids::CallSid;
use crate::shard::Mail;
use crate::signal::frames::{self, HEARTBEAT, Said};
use crate::signal::line::{Line, NOT_REATTACHED, Output, Setup};
use crate::tokens::reconnect::{self, Kept};
use crate::tokens::{TokenError, access};

/// Who has connected says who it is within this time.
const LISTENS_WITHIN: Duration = Duration::from_secs(10);
/// The SDK gives a connection up that is silent for 15 s, and so do we.
const HEARTBEAT_EVERY: Duration = Duration::from_secs(5);
const SILENT: Duration = Duration::from_secs(15);
/// An SDP is a tenth of it.
const MAX_FRAME: usize = 64 * 1024;
/// Of each connection, whether anything comes or not: what is longer is read in pieces.
const READ_BUFFER: usize = 4 * 1024;
/// Frames that wait for a browser. One that takes none is as one that is gone.
const FRAMES: usize = 64;
/// What may be said to a line before it has taken it.
const SAID: usize = 64;
/// However little patience the SDK asks for: it tries to come back all the same.
const LEAST_PATIENCE_S: u64 = 10;
/// A line without a connection says its goodbyes, and is over.
const GOODBYE: Duration = Duration::from_secs(5);
/// A registration is as long as its connection; this is only the end that SIP wants.
const REGISTERED_S: u64 = 3_600;

/// An edge that is lost has been taken over within this time, and its calls within that.
const TAKEN_OVER: Duration = Duration::from_secs(10);
const TAKEN_UP: Duration = Duration::from_secs(1);
const ASKED_AGAIN: Duration = Duration::from_millis(200);

/// The SDK's errors.
const INVALID: u32 = 31_204;
const EXPIRED: u32 = 31_205;
const TOO_LONG: u32 = 31_207;
const REFUSED: u32 = 31_201;

/// The lines of this process.
#[derive(Clone)]
pub struct Lines(Arc<Inner>);

struct Inner {
    door: Door,
    /// The listener that their connections belong to.
    local: Option<SocketAddr>,
    realm: String,
    /// Whose pages may speak SIP; `None`: everybody's.
    origins: Option<Vec<String>>,
    /// Which line has that call.
    by_call: Mutex<HashMap<CallSid, mpsc::Sender<ToLine>>>,
}

impl Lines {
    pub fn new(door: Door, local: Option<SocketAddr>, realm: String, origins: Option<Vec<String>>) -> Lines {
        Lines(Arc::new(Inner { door, local, realm, origins, by_call: Mutex::default() }))
    }

    /// A connection of a browser; `None` where there are too many.
    pub(super) fn bring(&self, remote: SocketAddr, opened_by: OpenedBy) -> Option<Brought> {
        self.0.door.bring(self.0.local?, remote, opened_by)
    }

    /// Whether pages of that origin may speak SIP. What is no page says none, and could say any.
    pub(super) fn lets_in(&self, origin: Option<&[u8]>) -> bool {
        let (Some(origins), Some(origin)) = (&self.0.origins, origin) else { return true };
        origins.iter().any(|known| known.as_bytes().eq_ignore_ascii_case(origin))
    }

    fn by_call(&self) -> MutexGuard<'_, HashMap<CallSid, mpsc::Sender<ToLine>>> {
        self.0.by_call.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a connection has for a line.
enum ToLine {
    Said(Said),
    /// A call of it goes on by this connection; tells whether there is that call.
    Reattach {
        call: CallSid,
        frames: mpsc::Sender<String>,
        done: oneshot::Sender<bool>,
    },
    /// A call of a line that is no more, and how the browser has described itself.
    TakeUp(Box<Kept>, String),
    /// Whether this edge has that call.
    TakenUp(CallSid, bool),
    /// The connection is gone that takes these frames.
    Lost(mpsc::Sender<String>),
}

pub(super) async fn open(
    State(view): State<View>,
    ConnectInfo(remote): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Response {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default().to_owned();
    upgrade
        .read_buffer_size(READ_BUFFER)
        .max_message_size(MAX_FRAME)
        .on_upgrade(move |socket| serve(view, remote, host, socket))
}

/// A token, as the SDK knows what may be wrong with it.
fn client_of(token: &str, directory: &Directory) -> Result<(Client, u64), (u32, String)> {
    let access = access::read(token, directory, wall_ms() / 1000).map_err(|error| {
        let code = match error {
            TokenError::Expired => EXPIRED,
            TokenError::TooLong => TOO_LONG,
            TokenError::Inactive | TokenError::Scope => REFUSED,
            TokenError::Malformed | TokenError::Signature | TokenError::NotYet => INVALID,
        };
        (code, error.to_string())
    })?;
    let client = Client {
        account: access.account.sid,
        identity: access.identity,
        incoming: access.incoming,
        application: access.application,
        parameters: access.parameters,
    };
    Ok((client, access.expires_s))
}

/// One connection, from its first frame to its end.
async fn serve(view: View, remote: SocketAddr, host: String, mut socket: WebSocket) {
    let Some((token, patience_s)) = first_frame(&mut socket).await else { return };
    let looked_at = view.directory.load_full();
    let (client, expires_s) = match client_of(&token, &looked_at) {
        Ok(known) => known,
        Err((code, why)) => return refuse(socket, code, &why).await,
    };
    let client = Arc::new(client);
    let Some(line) = begin_line(&view, remote, &client, patience_s).await else {
        return refuse(socket, REFUSED, "there is no room for another browser").await;
    };
    let connection = Connection {
        told: connected(&client, expires_s, &host),
        view,
        host,
        client,
        token,
        expires_s,
        looked_at,
        others: HashMap::new(),
        heard_at: Instant::now(),
        line,
    };
    connection.run(socket).await;
}

async fn first_frame(socket: &mut WebSocket) -> Option<(String, u64)> {
    let until = Instant::now() + LISTENS_WITHIN;
    loop {
        match timeout_at(until, socket.recv()).await {
            Ok(Some(Ok(Message::Text(text)))) => match frames::read(&text) {
                Some(Said::Listen { token, patience_s }) => return Some((token, patience_s)),
                _ => continue,
            },
            Ok(Some(Ok(_))) => {}
            Ok(Some(Err(_)) | None) | Err(_) => return None,
        }
    }
}

async fn refuse(mut socket: WebSocket, code: u32, why: &str) {
    // Who does not take it is gone, and needs it no more.
    let _ = socket.send(Message::Text(frames::error(code, why, "").into())).await;
    let _ = socket.send(Message::Close(None)).await;
}

/// What the SDK measures it sends here, and not to its maker: to `eventgw.` before the host that the browser has come by.
fn connected(client: &Client, expires_s: u64, host: &str) -> String {
    let ttl_s = expires_s.saturating_sub(wall_ms() / 1000);
    frames::connected(&client.account.to_string(), &client.identity, ttl_s, &format!("{host}/ev?h="))
}

struct Connection {
    view: View,
    host: String,
    client: Arc<Client>,
    token: String,
    expires_s: u64,
    /// The directory that the token was good by.
    looked_at: Arc<Directory>,
    /// The first frame.
    told: String,
    line: Own,
    /// Calls that other lines have, which have lost their connections.
    others: HashMap<String, mpsc::Sender<ToLine>>,
    heard_at: Instant,
}

/// A call of a line that is no more, until it is known which edge has it.
struct Sought {
    view: View,
    call: CallSid,
    /// Of the edge at which it began.
    slot: Option<u16>,
    flow: Flow,
    line: mpsc::Sender<ToLine>,
}

impl Sought {
    /// It is here; or at an edge that lives, which the line finds by its dialog. Where its edge is lost, which may not be known
    /// yet, another goes on with its calls in a few seconds, and it may be this one.
    async fn find(self) {
        let (began, mut ours_since, mut is_asked) = (Instant::now(), None, false);
        loop {
            if self.is_here().await {
                return self.tell(true).await;
            }
            let (edges, is_over) = (self.view.edges.as_ref(), began.elapsed() >= TAKEN_OVER);
            let is_settled = match edges.zip(self.slot).map_or(Whose::Ours, |(edges, slot)| edges.has_slot(slot)) {
                Whose::Linked => true,
                // What is taken over is taken up one after another.
                Whose::Ours => edges.is_none() || ours_since.get_or_insert_with(Instant::now).elapsed() >= TAKEN_UP,
                Whose::Nobodys => false,
            };
            if (is_settled || is_over) && !std::mem::replace(&mut is_asked, true) {
                self.tell(false).await;
            }
            if is_over {
                return;
            }
            sleep(ASKED_AGAIN).await;
        }
    }

    async fn tell(&self, is_here: bool) {
        let _ = self.line.send(ToLine::TakenUp(self.call, is_here)).await;
    }

    async fn is_here(&self) -> bool {
        let (done, is_here) = oneshot::channel();
        self.view.mail.send(Mail::Follow(self.call, self.flow, done)).await.is_ok() && is_here.await.unwrap_or_default()
    }
}

/// The line that began with a connection.
struct Own {
    flow: Flow,
    said: mpsc::Sender<ToLine>,
    frames: mpsc::Sender<String>,
    told: mpsc::Receiver<String>,
}

impl Connection {
    async fn run(mut self, mut socket: WebSocket) {
        let mut beat = interval(HEARTBEAT_EVERY);
        let told = std::mem::take(&mut self.told);
        if socket.send(Message::Text(told.into())).await.is_err() {
            return self.lost().await;
        }
        loop {
            let sent = tokio::select! {
                Some(frame) = self.line.told.recv() => socket.send(Message::Text(frame.into())).await,
                // The line is over: the SDK comes back for another.
                () = self.line.said.closed() => break,
                _ = beat.tick() => {
                    if self.heard_at.elapsed() > SILENT {
                        break;
                    }
                    if let Err((code, why)) = self.look() {
                        refuse(socket, code, &why).await;
                        return self.lost().await;
                    }
                    socket.send(Message::Text(HEARTBEAT.into())).await
                }
                said = socket.recv() => match said {
                    Some(Ok(Message::Text(text))) => {
                        self.heard_at = Instant::now();
                        match self.take(&text).await {
                            Some(frame) => socket.send(Message::Text(frame.into())).await,
                            None => continue,
                        }
                    }
                    Some(Ok(Message::Close(_)) | Err(_)) | None => break,
                    Some(Ok(_)) => continue,
                },
            };
            if sent.is_err() {
                break;
            }
        }
        self.lost().await;
    }

    /// Whether the token is still good: only its time, where no key and no account is another than before.
    fn look(&mut self) -> Result<(), (u32, String)> {
        let directory = self.view.directory.load_full();
        if !Arc::ptr_eq(&directory, &self.looked_at) || self.expires_s <= wall_ms() / 1000 {
            client_of(&self.token, &directory)?;
            self.looked_at = directory;
        }
        Ok(())
    }

    /// Takes a frame; what is said to it at once.
    async fn take(&mut self, text: &str) -> Option<String> {
        let said = frames::read(text)?;
        let to = match &said {
            Said::Listen { token, .. } => return Some(self.listen(token)),
            Said::Reattach { call, token, sdp } => {
                let is_done = self.reattach(token, sdp.clone()).await;
                let why = (NOT_REATTACHED, "the call is over, or is another client's");
                return (!is_done).then(|| frames::hangup(call, Some(why)));
            }
            Said::Register { .. } | Said::Invite { .. } => &self.line.said,
            Said::Answer { call, .. }
            | Said::Reinvite { call, .. }
            | Said::Hangup { call }
            | Said::Reject { call }
            | Said::Digits { call, .. }
            | Said::Message { call, .. } => self.others.get(call).unwrap_or(&self.line.said),
        };
        // A line that is over has said so.
        let _ = to.send(ToLine::Said(said)).await;
        None
    }

    /// A newer token, of the same client.
    fn listen(&mut self, token: &str) -> String {
        match client_of(token, &self.view.directory.load()) {
            Ok((client, expires_s))
                if client.account == self.client.account && client.identity == self.client.identity =>
            {
                token.clone_into(&mut self.token);
                self.expires_s = expires_s;
                connected(&client, expires_s, &self.host)
            }
            Ok(_) => frames::error(REFUSED, "the token is another client's", ""),
            Err((code, why)) => frames::error(code, &why, ""),
        }
    }

    /// Goes on with a call of another line, or of one that went with its process; whether there is such a call.
    async fn reattach(&mut self, token: &str, sdp: String) -> bool {
        let is_own = |kept: &Kept| (kept.account, &kept.identity) == (self.client.account, &self.client.identity);
        let kept = reconnect::open(token, &self.view.directory.load(), wall_ms() / 1000).ok().filter(is_own);
        let Some(kept) = kept else { return false };
        let call = kept.call;
        let owner = self.view.lines.by_call().get(&call).cloned();
        let Some(owner) = owner else { return self.take_up(kept, sdp).await };
        let (done, is_done) = oneshot::channel();
        let frames = self.line.frames.clone();
        let is_done =
            owner.send(ToLine::Reattach { call, frames, done }).await.is_ok() && is_done.await.unwrap_or_default();
        if is_done {
            self.others.insert(call.to_string(), owner);
        }
        is_done
    }

    /// The line knows the call before the server sends anything of it. Whether this is heard of: what becomes of the call the line
    /// tells the page.
    async fn take_up(&mut self, kept: Kept, sdp: String) -> bool {
        let sought = Sought {
            view: self.view.clone(),
            call: kept.call,
            slot: kept.dialog.remote_tag.get(..3).and_then(|slot| u16::from_str_radix(slot, 16).ok()),
            flow: self.line.flow,
            line: self.line.said.clone(),
        };
        let is_heard = self.line.said.send(ToLine::TakeUp(Box::new(kept), sdp)).await.is_ok();
        if is_heard {
            tokio::spawn(sought.find());
        }
        is_heard
    }

    async fn lost(self) {
        for line in self.others.values().chain([&self.line.said]) {
            let _ = line.send(ToLine::Lost(self.line.frames.clone())).await;
        }
    }
}

/// What of a line is not its calls: its ways out.
struct Running {
    view: View,
    line: Line,
    brought: Brought,
    own: mpsc::Sender<ToLine>,
    frames: Option<mpsc::Sender<String>>,
    patience: Duration,
    /// When it gives its calls up.
    given_up_at: Option<Instant>,
    calls: Vec<CallSid>,
}

async fn begin_line(view: &View, remote: SocketAddr, client: &Arc<Client>, patience_s: u64) -> Option<Own> {
    let Lines(inner) = &view.lines;
    let brought = view.lines.bring(remote, OpenedBy::Known)?;
    let flow = brought.flow();
    let (done, is_known) = oneshot::channel();
    view.mail.send(Mail::Client(flow, client.clone(), done)).await.ok()?;
    is_known.await.ok()?;
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).ok()?;
    let key = reconnect::key(view.directory.load().account(client.account)?);
    let (account, identity, realm) = (client.account, client.identity.clone(), inner.realm.clone());
    let line = Line::new(Setup { flow, account, identity, realm, key, seed });
    let (said, to_take) = mpsc::channel(SAID);
    let (frames, told) = mpsc::channel(FRAMES);
    let running = Running {
        view: view.clone(),
        line,
        brought,
        own: said.clone(),
        frames: Some(frames.clone()),
        patience: Duration::from_secs(patience_s.max(LEAST_PATIENCE_S)),
        given_up_at: None,
        calls: Vec::new(),
    };
    tokio::spawn(running.run(to_take));
    Some(Own { flow, said, frames, told })
}

fn now() -> Now {
    Now { mono: Mono(mono_us()), wall_ms: wall_ms() }
}

impl Running {
    async fn run(mut self, mut said: mpsc::Receiver<ToLine>) {
        loop {
            self.tell().await;
            if self.frames.is_none() && self.line.is_idle() {
                break;
            }
            let due = self
                .line
                .next_deadline()
                .map(|at| Instant::now() + Duration::from_micros(at.0.saturating_sub(mono_us())));
            let wake = [due, self.given_up_at].into_iter().flatten().min();
            tokio::select! {
                // A call is taken up before anything comes of it.
                biased;
                said = said.recv() => match said {
                    Some(said) => self.take(said),
                    None => break,
                },
                bytes = self.brought.to_send() => match bytes {
                    Some(bytes) => {
                        if let Ok(message) = msg::Message::parse(bytes) {
                            self.line.handle_message(message, now());
                        }
                    }
                    // The shard takes nothing of it any more.
                    None => break,
                },
                () = sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => {
                    self.line.handle_timeout(now());
                    if self.given_up_at.is_some_and(|at| at <= Instant::now()) {
                        match self.line.has_calls() {
                            true => {
                                self.line.hang_up(now());
                                self.given_up_at = Some(Instant::now() + GOODBYE);
                            }
                            false => break,
                        }
                    }
                }
            }
        }
        self.know_calls(Vec::new());
    }

    fn take(&mut self, said: ToLine) {
        match said {
            ToLine::Said(Said::Register { is_there }) => {
                self.line.register(if is_there { REGISTERED_S } else { 0 });
            }
            ToLine::Said(said) => self.line.handle_said(said, now()),
            ToLine::Reattach { call, frames, done } => {
                let told = self.line.reattach(call, now());
                let is_done = told.is_some();
                if let Some(told) = told {
                    // A page that comes by another connection has another line by now, and is found by that.
                    if !self.frames.as_ref().is_some_and(|own| own.same_channel(&frames)) {
                        self.line.leave();
                    }
                    (self.frames, self.given_up_at) = (Some(frames), None);
                    self.send(told);
                }
                let _ = done.send(is_done);
            }
            ToLine::TakeUp(kept, sdp) => self.line.take_up(*kept, sdp),
            ToLine::TakenUp(call, is_here) => self.line.taken_up(call, is_here, now()),
            // It may go on by another already: that a connection is gone is often found out later than that there is a new one.
            ToLine::Lost(of) if self.frames.as_ref().is_some_and(|frames| frames.same_channel(&of)) => self.lost(),
            ToLine::Lost(_) => {}
        }
    }

    fn lost(&mut self) {
        self.frames = None;
        self.line.leave();
        let patience = if self.line.has_calls() { self.patience } else { GOODBYE };
        self.given_up_at = Some(Instant::now() + patience);
    }

    /// Carries out what the line wants.
    async fn tell(&mut self) {
        while let Some(output) = self.line.poll_output() {
            match output {
                Output::Frame(frame) => self.send(frame),
                Output::Sip(bytes) => {
                    if let Ok(message) = msg::Message::parse(bytes) {
                        self.brought.received(message).await;
                    }
                }
            }
        }
        let calls: Vec<CallSid> = self.line.calls().collect();
        if calls != self.calls {
            self.know_calls(calls);
        }
    }

    fn send(&mut self, frame: String) {
        if let Some(frames) = &self.frames
            && frames.try_send(frame).is_err()
        {
            self.lost();
        }
    }

    fn know_calls(&mut self, calls: Vec<CallSid>) {
        let mut known = self.view.lines.by_call();
        for call in self.calls.drain(..) {
            known.remove(&call);
        }
        known.extend(calls.iter().map(|call| (*call, self.own.clone())));
        drop(known);
        self.calls = calls;
    }
}
