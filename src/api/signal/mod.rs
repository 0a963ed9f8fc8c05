//! `/signal`: browsers by the official voice SDK, each by a WebSocket ([`connection`]).
//!
//! What is said there is `signal`'s; here are the connections, and what runs a line ([`running`]). A line outlives its connection
//! for as long as the SDK asked for, if there are calls: another connection that knows a call's token goes on with it. Where the
//! line is no more either, with its process or at another edge, its call is looked for ([`sought`]).

mod connection;
mod running;
mod sought;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::{ConnectInfo, State, WebSocketUpgrade};
use axum::http::{HeaderMap, header};
use axum::response::Response;
use dialtone_sip::dialog::DialogId;
use dialtone_sip::transport::{Brought, Door, OpenedBy};
use tokio::sync::{mpsc, oneshot};

use super::View;
use crate::ids::CallSid;
use crate::signal::frames::Said;
use crate::tokens::reconnect::Kept;

/// An SDP is a tenth of it.
const MAX_FRAME: usize = 64 * 1024;
/// Of each connection, whether anything comes or not: what is longer is read in pieces.
const READ_BUFFER: usize = 4 * 1024;

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
    /// Which line has that dialog: several devices may have one call.
    by_dialog: Mutex<HashMap<DialogId, mpsc::Sender<ToLine>>>,
}

impl Lines {
    pub fn new(door: Door, local: Option<SocketAddr>, realm: String, origins: Option<Vec<String>>) -> Lines {
        Lines(Arc::new(Inner { door, local, realm, origins, by_dialog: Mutex::default() }))
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

    fn by_dialog(&self) -> MutexGuard<'_, HashMap<DialogId, mpsc::Sender<ToLine>>> {
        self.0.by_dialog.lock().unwrap_or_else(PoisonError::into_inner)
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
        .on_upgrade(move |socket| connection::serve(view, remote, host, socket))
}
