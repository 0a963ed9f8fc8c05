//! What goes into a call and what comes out: all that it can learn of the world and do to it.

use bytes::Bytes;
use dialtone_media::proto::{CommandKind, Encryption, MediaEventKind};
use serde::{Deserialize, Serialize};

use super::{ChildLeg, StreamEvent, StreamOrder, Update};
use crate::events::EventKind;
use crate::ids::{BranchId, CallSid, MessageSid, RecordingSid, StreamSid, UserMessageSid};
use crate::twiml::{
    AudioFailure, AudioSource, BranchEvent, BranchSpec, ClipRef, ConferenceSpec, DequeueSpec, Endpoint, EnqueueSpec,
    FetchFailure, FetchOrder, Fetched, Membership, NewDocument, Notice, Referral, Taking, Waiting,
};

/// One of the INVITEs that a dialled call sends at once; an incoming call has only the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AttemptId(pub u8);

impl AttemptId {
    pub const FIRST: AttemptId = AttemptId(0);
}

/// Media that some of the attempts are offered, by a leg of their own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Offered {
    pub leg_id: u32,
    pub encryption: Encryption,
    pub attempts: Vec<AttemptId>,
}

/// What happens to a call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum CallInput {
    /// The first input. `offer` is the caller's SDP, empty for a late offer and for a dialled call.
    Begin {
        offer: Bytes,
        signalled_from: String,
        encryption: Encryption,
        /// Attempts whose media is of another kind than that, or a browser's, each of which wants its own.
        others: Vec<Offered>,
    },
    Sip {
        attempt: AttemptId,
        event: SipEvent,
    },
    Media(MediaEventKind),
    /// The worker is gone, or never took the leg.
    MediaLost,
    /// The worker is gone, and another goes on with the leg at another address: our new offer.
    MediaMoved {
        sdp: Bytes,
    },
    Document {
        fetch: u32,
        outcome: FetchOutcome,
    },
    Audio {
        ticket: u32,
        result: Result<ClipRef, AudioFailure>,
    },
    /// A child tells its parent.
    Branch {
        branch: BranchId,
        event: BranchEvent,
    },
    /// Something that the customer must know, found while the call's wish was carried out.
    Notice(Notice),
    /// A text is queued, or cannot be sent.
    MessageTaken {
        sid: Option<MessageSid>,
    },
    /// The shard has named a recording: this is its file, and where the customer finds it.
    RecordingNamed {
        number: u16,
        sid: RecordingSid,
        url: String,
    },
    /// The shard has named a stream.
    StreamNamed {
        number: u16,
        sid: StreamSid,
    },
    /// What became of [`Effect::OpenStream`].
    Stream {
        sid: StreamSid,
        event: StreamEvent,
    },
    /// A conference has a place for the call: its media goes by the link of that key.
    Linked {
        key: u64,
    },
    /// What the link led to is gone.
    Unlinked,
    /// What the conference tells its member.
    Membership(Membership),
    /// What a queue tells who waits in it.
    Waiting(Waiting),
    /// What a queue tells who takes from it.
    Taking(Taking),
    /// The child has another leg in the session of both: that of the device that has answered.
    ChildMoved {
        branch: BranchId,
        leg_id: u32,
    },
    /// A parent tells its child.
    Parent(ParentInput),
    /// The child of a branch exists.
    ChildStarted {
        branch: BranchId,
        leg: ChildLeg,
    },
    /// Somebody outside changes the running call.
    Update(Update),
    /// Its edge has started anew: the peer is asked whether it is there still, and what was lost with the edge is asked for again.
    Restored,
    /// The edge that has the conference or the queue is gone, and with it what was there.
    RoomLost,
    /// In a moment nobody pays for it any more: its party is to hear that.
    RunsOut,
    /// Nobody pays for it any more.
    OutOfCredit,
    /// The server ends now.
    Shutdown,
    Deadline,
}

/// What became of a fetch, with what the event tells of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FetchOutcome {
    pub result: Result<Fetched, FetchFailure>,
    pub url: String,
    /// Why it was fetched: `document`, `action`, `redirect`, `fallback`.
    pub reason: String,
    pub duration_ms: u64,
}

/// What a leg's SIP dialog brings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum SipEvent {
    /// The caller took its INVITE back.
    Canceled,
    /// Our 200 is acknowledged; with an SDP answer where we made the offer.
    Acked {
        sdp: Bytes,
    },
    AckMissing,
    Progress {
        status: u16,
        sdp: Bytes,
    },
    Answered {
        sdp: Bytes,
        sip_call_id: String,
    },
    /// Our INVITE failed; `sip_call_id` is empty if it was never sent.
    Refused {
        status: u16,
        sip_call_id: String,
    },
    /// The peer offers anew; an empty SDP asks us to offer.
    Reoffered {
        sdp: Bytes,
    },
    /// The peer took its new offer back before we answered: it has its refusal.
    ReofferCanceled,
    Reanswered {
        status: u16,
        sdp: Bytes,
    },
    /// The peer hung up, or is lost.
    Ended {
        lost: bool,
    },
    /// A digit by SIP INFO.
    Digit(char),
    /// The page of a browser has something for the application.
    UserMessage {
        sid: UserMessageSid,
        content: String,
    },
    /// The peer wants to be replaced; it waits for [`SipCommand::NotifyRefer`].
    Referred(Referral),
    /// Our REFER got its final response, or none.
    ReferAnswered {
        status: u16,
    },
    /// The peer tells of the call that it makes for our REFER.
    ReferNotified {
        status: u16,
        is_last: bool,
    },
}

/// What a parent wants of its child.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ParentInput {
    /// End, in whatever state.
    Cancel(CancelCause),
    /// What becomes of the REFER that the child told of.
    NotifyRefer { status: u16 },
    /// Leave, and go on with this.
    GoOn(NewDocument),
}

/// Why a branch is taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CancelCause {
    /// Another branch has answered.
    Elsewhere,
    /// It rang long enough.
    NoAnswer,
    CallerLeft,
}

/// All that a call can do to the world.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Effect {
    Sip {
        attempt: AttemptId,
        command: SipCommand,
    },
    /// For the call's media session.
    Media(CommandKind),
    Fetch {
        order: FetchOrder,
        params: Vec<(String, String)>,
    },
    CancelFetch(u32),
    /// Answered by [`CallInput::Audio`].
    Prepare {
        ticket: u32,
        source: AudioSource,
    },
    /// Start a child; answered by [`CallInput::ChildStarted`], or by [`CallInput::Branch`] with `Failed`.
    Originate(Box<BranchOrder>),
    ToParent {
        parent: CallSid,
        branch: BranchId,
        event: BranchEvent,
    },
    ToChild {
        child: CallSid,
        input: ParentInput,
    },
    Publish {
        sequence: u32,
        kind: EventKind,
    },
    /// A fact that stands for itself.
    Note(EventKind),
    /// Answered by [`CallInput::Linked`] and [`CallInput::Membership`].
    JoinConference(Box<ConferenceSpec>),
    LeaveConference {
        hung_up: bool,
    },
    /// Answered by [`CallInput::Waiting`].
    Enqueue(Box<EnqueueSpec>),
    AskQueue,
    QueueReady,
    /// Answered by [`CallInput::Taking`].
    Dequeue(Box<DequeueSpec>),
    LeaveQueue,
    /// Answered by [`CallInput::MessageTaken`].
    SendMessage {
        from: String,
        to: String,
        body: String,
        callback: Option<Endpoint>,
    },
    /// Answered by [`CallInput::RecordingNamed`].
    NameRecording {
        number: u16,
    },
    /// Answered by [`CallInput::StreamNamed`].
    NameStream {
        number: u16,
    },
    /// Connect to the application, and tell it what the tap tells; answered by [`CallInput::Stream`].
    OpenStream(Box<StreamOrder>),
    /// Tell the application of a key.
    TellStream {
        sid: StreamSid,
        digit: char,
    },
    /// The application is told that it is over; not answered.
    CloseStream(StreamSid),
    /// The call is over: nothing of it is left, and no input is wanted any more.
    Finished,
}

/// What a leg wants of its SIP dialog.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum SipCommand {
    Progress {
        status: u16,
        sdp: Bytes,
    },
    /// Answers the INVITE, the first or a later one.
    Answer {
        sdp: Bytes,
    },
    /// Refuses the INVITE, the first or a later one. `reason` is a Reason value, or empty.
    Decline {
        status: u16,
        reason: String,
    },
    Invite {
        sdp: Bytes,
    },
    Cancel {
        reason: String,
    },
    Bye {
        reason: String,
    },
    Reinvite {
        sdp: Bytes,
    },
    Refer {
        uri: String,
        headers: Vec<(String, String)>,
    },
    /// Has something for the page of a browser.
    UserMessage {
        sid: UserMessageSid,
        content: String,
    },
    /// Tells the peer, by a final status, what became of its REFER.
    NotifyRefer {
        status: u16,
    },
}

/// A branch of a `<Dial>` to be started, with what the parent's leg adds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BranchOrder {
    pub spec: BranchSpec,
    /// The parent's own caller, for the default caller id.
    pub parent_from: String,
    pub parent_to: String,
}
