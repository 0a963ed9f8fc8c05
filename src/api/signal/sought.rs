//! A call whose line is no more: at which edge it is.

use std::time::Duration;

use dialtone_sip::flow::Flow;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep};

use super::running::Own;
use super::{ToLine, View};
use crate::edges::Whose;
use crate::ids::CallSid;
use crate::shard::Mail;
use crate::tokens::reconnect::Kept;

/// An edge that is lost has been taken over within this time, and its calls within that.
const TAKEN_OVER: Duration = Duration::from_secs(10);
const TAKEN_UP: Duration = Duration::from_secs(1);
const ASKED_AGAIN: Duration = Duration::from_millis(200);

/// A call of a line that is no more, until it is known which edge has it.
pub(super) struct Sought {
    view: View,
    call: CallSid,
    /// The server's, which begins with the slot of the edge at which the call began.
    tag: String,
    flow: Flow,
    line: mpsc::Sender<ToLine>,
}

impl Sought {
    /// `line` has the call from now on.
    pub fn new(view: &View, kept: &Kept, line: &Own) -> Sought {
        let tag = kept.dialog.remote_tag.clone();
        Sought { view: view.clone(), call: kept.call, tag, flow: line.flow, line: line.said.clone() }
    }

    /// It is here; or at an edge that lives, which the line finds by its dialog. Where its edge is lost, which may not be known
    /// yet, another goes on with its calls in a few seconds, and it may be this one.
    pub async fn find(self) {
        let slot = self.tag.get(..3).and_then(|slot| u16::from_str_radix(slot, 16).ok());
        let (began, mut ours_since, mut is_asked) = (Instant::now(), None, false);
        loop {
            if self.is_here().await {
                return self.tell(true).await;
            }
            let (edges, is_over) = (self.view.edges.as_ref(), began.elapsed() >= TAKEN_OVER);
            let is_settled = match edges.zip(slot).map_or(Whose::Ours, |(edges, slot)| edges.has_slot(slot)) {
                Whose::Linked => true,
                // What is taken over is taken up one after another.
                Whose::Ours => edges.is_none() || ours_since.get_or_insert_with(Instant::now).elapsed() >= TAKEN_UP,
                Whose::Lost | Whose::Nobodys => false,
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
        let letter = Mail::Follow(self.call, self.tag.clone(), self.flow, done);
        self.view.mail.send(letter).await.is_ok() && is_here.await.unwrap_or_default()
    }
}
