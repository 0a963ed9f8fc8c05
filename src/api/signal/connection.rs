//! One connection of a browser: its frames to lines, and theirs to it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{Message, WebSocket};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, interval, timeout_at};

use super::running::{self, Own};
use super::sought::Sought;
use super::{ToLine, View};
use crate::account::{Client, Directory};
use crate::clock::wall_ms;
use crate::signal::frames::{self, HEARTBEAT, Said};
use crate::signal::line::NOT_REATTACHED;
use crate::tokens::reconnect::{self, Kept};
use crate::tokens::{TokenError, access};

/// Who has connected says who it is within this time.
const LISTENS_WITHIN: Duration = Duration::from_secs(10);
/// The SDK gives a connection up that is silent for 15 s, and so do we.
const HEARTBEAT_EVERY: Duration = Duration::from_secs(5);
const SILENT: Duration = Duration::from_secs(15);

/// The SDK's errors.
const INVALID: u32 = 31_204;
const EXPIRED: u32 = 31_205;
const TOO_LONG: u32 = 31_207;
const REFUSED: u32 = 31_201;

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
pub(super) async fn serve(view: View, remote: SocketAddr, host: String, mut socket: WebSocket) {
    let Some((token, patience_s)) = first_frame(&mut socket).await else { return };
    let looked_at = view.directory.load_full();
    let (client, expires_s) = match client_of(&token, &looked_at) {
        Ok(known) => known,
        Err((code, why)) => return refuse(socket, code, &why).await,
    };
    let client = Arc::new(client);
    let Some(line) = running::begin(&view, remote, &client, patience_s).await else {
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
        let owner = self.view.lines.by_dialog().get(&kept.number).cloned();
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
        let sought = Sought::new(&self.view, &kept, &self.line);
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
