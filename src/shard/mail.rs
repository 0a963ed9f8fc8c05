//! What others send to a shard.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use dialtone_media::proto::link::Edges;
use dialtone_sip::flow::Flow;
use dialtone_sip::msg::Message;
use dialtone_sip::resolve::Destination;
use dialtone_sip::stack::Transmit;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use super::checkpoint::Checkpoint;
use super::neighbours::{Letter, Wish};
use super::orders::{PlaceOrder, Placement as OrderPlacement};
use super::rooms::{ConferenceChange, ConferenceChanged};
use crate::account::{Client, Directory};
use crate::call::{FetchOutcome, StreamEvent, Update};
use crate::concurrency::{Answer, InUse};
use crate::credit;
use crate::edges::EdgeId;
use crate::events::MessageFact;
use crate::ids::{AccountSid, CallSid, ConferenceSid, StreamSid};
use crate::presence::ClientId;
use crate::twiml::{AudioFailure, ClipRef, Target};
use crate::workers::Placement;

/// A letter to a shard.
pub enum Mail {
    Document {
        call: CallSid,
        fetch: u32,
        outcome: FetchOutcome,
        /// When the last byte of the answer was there.
        answered: Instant,
    },
    Audio {
        call: CallSid,
        ticket: u32,
        result: Result<ClipRef, AudioFailure>,
    },
    /// What became of a media stream.
    Stream {
        call: CallSid,
        sid: StreamSid,
        event: StreamEvent,
    },
    /// What a media stream has for its player.
    StreamHeard {
        call: CallSid,
        sid: StreamSid,
        what: Heard,
        /// So many of one stream are under way: it goes with the letter.
        turn: OwnedSemaphorePermit,
    },
    Resolved {
        ticket: u64,
        destinations: Vec<Destination>,
    },
    /// Send a message that is queued.
    Message {
        account: AccountSid,
        target: Target,
        fact: Box<MessageFact>,
    },
    /// Make a call, when it is its turn; tell what becomes of it.
    Place(Box<PlaceOrder>, oneshot::Sender<OrderPlacement>),
    /// Calls that ran when the edge last died, each with what is known of its media.
    Restore(Vec<(Checkpoint, Option<Placement>)>),
    /// Whatever ran before is restored: the network is listened to from now on.
    Open,
    /// Orders that waited when the server last stopped, and since when.
    Resume(Vec<(PlaceOrder, u64)>),
    /// Change a running call; tell whether it is in a state for that.
    Update {
        call: CallSid,
        account: AccountSid,
        change: Update,
        done: oneshot::Sender<bool>,
    },
    /// Change a conference; tell what came of it.
    Conference {
        conference: ConferenceSid,
        account: AccountSid,
        change: ConferenceChange,
        done: oneshot::Sender<ConferenceChanged>,
    },
    /// What came of the shard's claim to places.
    Held(Answer),
    /// What came of the shard's claim to credit.
    Credit(credit::Answer),
    /// The ledger has the lines of these calls.
    Billed(Vec<CallSid>),
    /// What was taken up of that edge is known here by now.
    Settled(EdgeId),
    /// The store by which edges share limits has forgotten what this one holds.
    TellPlaces,
    /// So many edges share the limits.
    SharedBy(usize),
    /// What is held of each limit, and whether the store by which edges share them is away.
    Places(oneshot::Sender<(Vec<InUse>, bool)>),
    /// Go by this directory from now on; tell when that is so.
    Directory(Arc<Directory>, oneshot::Sender<()>),
    /// A SIP message that came to another edge, for us.
    Received(Flow, Message),
    /// Send it, for another edge.
    Transmit(Transmit),
    /// How that client can be reached is otherwise than before.
    Presence(ClientId),
    /// Another edge has that for the rooms here, or for calls that are in its.
    Letter(EdgeId, Box<Letter>),
    /// The room of a wish is at that edge; `None`: here.
    RoomFound(Box<Wish>, Option<EdgeId>),
    /// A letter to that edge could not be sent, a moment ago.
    LetterLost(EdgeId, Box<Letter>),
    /// Nobody could be asked where the room of a call's wish is, a moment ago.
    WishLost(CallSid),
    /// An edge is linked, perhaps again.
    EdgeLinked(EdgeId),
    /// The store that edges share has forgotten which rooms are here.
    KeepRooms,
    /// An edge is dead.
    EdgeGone(EdgeId),
    /// The answered calls of that turn are kept elsewhere too, or are waited for no longer: what waited for that may leave.
    Kept(u64),
    /// From now on requests of that connection are this client's; tell when that is so.
    Client(Flow, Arc<Client>, oneshot::Sender<()>),
    /// A call of that connection's client, in which our tag is, goes on by it; tell whether there is such a call.
    Follow(CallSid, String, Flow, oneshot::Sender<bool>),
    /// All edges of the cluster, as workers are to know them.
    Edges(Edges),
    /// Ask a media worker to take no new sessions; tell whether there is one of that name.
    DrainWorker {
        name: String,
        done: oneshot::Sender<bool>,
    },
    /// Stand still, whatever comes, or go on; tell when that is so. Sound goes on meanwhile, and what waits is taken later.
    StandStill(bool, oneshot::Sender<()>),
    /// Take no new calls; tell when the last is over.
    Drain(oneshot::Sender<()>),
    /// End every call now.
    EndAll,
    /// The loop ends.
    Stop,
}

/// What a media stream has for its player.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Mu-law at 8 kHz.
    Audio(Bytes),
    Mark(String),
    Clear,
}

/// Letters that may wait. When it is full, a document
/// or audio waits in the task that brings it.
const LETTERS: usize = 65_536;

/// The way to a shard.
pub type MailBox = mpsc::Sender<Mail>;

pub fn mail_box() -> (MailBox, mpsc::Receiver<Mail>) {
    mpsc::channel(LETTERS)
}
