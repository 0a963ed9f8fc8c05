//! What of a call must outlive its edge, and how an edge takes such calls up.
//!
//! An answered call is written down at the end of each turn in which it has got on, behind what it has told: an edge that starts
//! anew finds both or neither. What was only under way is asked for again: documents, audio, offer and answer. Calls that nobody has answered
//! yet are not written down; their callers try again.

use std::collections::HashSet;

use dialtone_sip::dialog::{Dialog, DialogId};
use dialtone_sip::transport::Listen;
use serde::{Deserialize, Serialize};

use super::core::{Core, Output};
use super::outbound::trunk_credentials;
use crate::call::{Call, CallInput, Now};
use crate::ids::CallSid;
use crate::twiml::{AudioSource, BranchEvent, BranchFailure, FetchOrder};

/// An answered call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Checkpoint {
    call: Call,
    dialogs: Vec<Option<(DialogId, Dialog)>>,
    peer: Option<CallSid>,
    waits: Waits,
    /// Whether it has not been written down before: its caller may be told of the answer when it is.
    #[serde(skip)]
    is_first: bool,
}

/// What a call has asked the world for, and has no answer to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Waits {
    document: Option<(FetchOrder, Vec<(String, String)>)>,
    audio: Vec<(u32, AudioSource)>,
}

impl Waits {
    pub(super) fn document_wanted(&mut self, order: &FetchOrder, params: &[(String, String)]) {
        self.document = Some((order.clone(), params.to_vec()));
    }

    pub(super) fn audio_wanted(&mut self, ticket: u32, source: &AudioSource) {
        self.audio.push((ticket, source.clone()));
    }

    pub(super) fn cancel(&mut self, fetch: u32) {
        self.document.take_if(|(order, _)| order.fetch == fetch);
    }

    /// An input came that may be the answer.
    pub(super) fn answered(&mut self, input: &CallInput) {
        match input {
            CallInput::Document { fetch, .. } => self.cancel(*fetch),
            CallInput::Audio { ticket, .. } => self.audio.retain(|(wanted, _)| wanted != ticket),
            _ => {}
        }
    }
}

impl Checkpoint {
    pub fn sid(&self) -> CallSid {
        self.call.sid()
    }

    /// The slot of the edge that it began at; `None` of a call that is inside.
    pub fn slot(&self) -> Option<u16> {
        let (_, dialog) = self.dialogs.iter().flatten().next()?;
        u16::from_str_radix(dialog.local_tag.get(..3)?, 16).ok()
    }

    /// Whether it is the first of its call.
    pub fn is_first(&self) -> bool {
        self.is_first
    }

    /// The media session that it is in.
    pub fn session_id(&self) -> u64 {
        self.call.session_id()
    }
}

impl Core {
    /// Writes down each call that has got on in this turn.
    pub(super) fn write_down(&mut self) {
        let mut unwritten = std::mem::take(&mut self.unwritten);
        unwritten.sort_unstable();
        unwritten.dedup();
        for sid in unwritten {
            let Some(slot) = self.calls.get_mut(&sid).filter(|slot| slot.call.is_settled()) else { continue };
            let is_first = !std::mem::replace(&mut slot.is_written, true);
            let dialogs = slot.dialogs.iter().map(|dialog| {
                let id = (*dialog)?;
                Some((id, self.stack.dialog(id)?.clone()))
            });
            let checkpoint = Checkpoint {
                call: slot.call.clone(),
                dialogs: dialogs.collect(),
                peer: slot.peer,
                waits: slot.waits.clone(),
                is_first,
            };
            self.out.push_back(Output::WriteDown(Box::new(checkpoint)));
        }
    }

    /// Takes up the calls of an edge that is no more. Their media is where it was; whoever is missing of those that belong
    /// together has left.
    pub fn restore(&mut self, checkpoints: Vec<Checkpoint>, now: Now) {
        let restored: HashSet<CallSid> = checkpoints.iter().map(Checkpoint::sid).collect();
        let mut waiting = Vec::new();
        for Checkpoint { call, dialogs, peer, waits, .. } in checkpoints {
            // Those of a trunk are in the configuration, and are not written down.
            let trunk = self.settings.directory.trunk(call.account(), call.via());
            let credentials =
                trunk.and_then(|trunk| trunk_credentials(trunk)).filter(|_| call.direction().is_outbound());
            let ids = dialogs.iter().map(|dialog| dialog.as_ref().map(|(id, _)| *id)).collect();
            for (id, mut dialog) in dialogs.into_iter().flatten() {
                self.bring_home(&mut dialog);
                self.stack.restore(id, dialog, credentials.clone());
            }
            let sid = self.insert(call, ids, Vec::new());
            if let Some(slot) = self.calls.get_mut(&sid) {
                slot.peer = peer;
            }
            self.keep_place(sid, now);
            self.keep_credit(sid, now);
            self.watch_restored(sid);
            waiting.push((sid, waits));
        }
        for (sid, waits) in waiting {
            self.take_up(sid, waits, &restored);
        }
        self.work(now);
    }

    /// What was the listener of another edge becomes one of ours, and the party is told so by the next offer.
    fn bring_home(&self, dialog: &mut Dialog) {
        let flow = dialog.flow;
        let is_like =
            |listen: &&Listen| listen.transport == flow.transport && listen.advertise.is_ipv4() == flow.local.is_ipv4();
        let alike: Vec<&Listen> = self.settings.listening.iter().filter(is_like).collect();
        if let Some(first) = alike.first()
            && !alike.iter().any(|listen| listen.advertise == flow.local)
        {
            dialog.flow.local = first.advertise;
            dialog.contact = self.settings.contact(dialog.flow);
        }
    }

    fn take_up(&mut self, sid: CallSid, waits: Waits, restored: &HashSet<CallSid>) {
        let Some(slot) = self.calls.get_mut(&sid) else { return };
        let account = slot.call.account();
        let is_missing = |sid: &CallSid| !restored.contains(sid);
        for (branch, _) in slot.call.branches().filter(|(_, child)| child.as_ref().is_none_or(is_missing)) {
            let event = BranchEvent::Failed { status: BranchFailure::Failed, sip: None };
            self.inputs.push_back((sid, CallInput::Branch { branch, event }));
        }
        if slot.call.parent().is_some_and(|(parent, _)| is_missing(&parent))
            || slot.peer.as_ref().is_some_and(is_missing)
        {
            self.inputs.push_back((sid, CallInput::Shutdown));
        }
        slot.waits = waits.clone();
        let Waits { document, audio } = waits;
        if let Some((order, params)) = document {
            self.out.push_back(Output::Fetch { call: sid, account, order, params });
        }
        for (ticket, source) in audio {
            self.out.push_back(Output::Prepare { call: sid, account, ticket, source });
        }
        self.inputs.push_back((sid, CallInput::Restored));
        self.arm(sid);
    }
}
