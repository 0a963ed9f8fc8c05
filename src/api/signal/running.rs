//! What runs a line: its SIP to the shard, its frames to whatever connection it has, and its end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use dialtone_sip::dialog::DialogId;
use dialtone_sip::flow::Flow;
use dialtone_sip::msg;
use dialtone_sip::time::Mono;
use dialtone_sip::transport::{Brought, OpenedBy};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use super::{Lines, ToLine, View};
use crate::account::Client;
use crate::call::Now;
use crate::clock::{mono_us, wall_ms};
use crate::shard::Mail;
use crate::signal::frames::Said;
use crate::signal::line::{Line, Output, Setup};
use crate::tokens::reconnect;

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

/// The line that began with a connection.
pub(super) struct Own {
    pub flow: Flow,
    pub said: mpsc::Sender<ToLine>,
    pub frames: mpsc::Sender<String>,
    pub told: mpsc::Receiver<String>,
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
    dialogs: Vec<DialogId>,
}

/// Begins one, for a connection; `None` where there is no room.
pub(super) async fn begin(view: &View, remote: SocketAddr, client: &Arc<Client>, patience_s: u64) -> Option<Own> {
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
        dialogs: Vec::new(),
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
        self.know_dialogs(Vec::new());
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
        let dialogs: Vec<DialogId> = self.line.dialogs().collect();
        if dialogs != self.dialogs {
            self.know_dialogs(dialogs);
        }
    }

    fn send(&mut self, frame: String) {
        if let Some(frames) = &self.frames
            && frames.try_send(frame).is_err()
        {
            self.lost();
        }
    }

    fn know_dialogs(&mut self, dialogs: Vec<DialogId>) {
        let mut known = self.view.lines.by_dialog();
        for dialog in self.dialogs.drain(..) {
            known.remove(&dialog);
        }
        known.extend(dialogs.iter().map(|dialog| (*dialog, self.own.clone())));
        drop(known);
        self.dialogs = dialogs;
    }
}
