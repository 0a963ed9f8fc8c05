//! Messages between the page of a browser's call and its application: who has subscribed to them, and what was sent already.

use serde::{Deserialize, Serialize};

use super::effect::{Effect, SipCommand};
use super::{Call, Leg};
use crate::events::{EventKind, UserMessageFact};
use crate::ids::{SubscriptionSid, UserMessageSid};
use crate::twiml::Endpoint;

/// What the API wants with a call's messages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum UserMessageChange {
    /// From now on; the same again changes nothing.
    Subscribe {
        sid: SubscriptionSid,
        callback: Endpoint,
    },
    Unsubscribe {
        sid: SubscriptionSid,
    },
    /// To the page; what has its sid was sent already, and is not sent again. JSON.
    Send {
        sid: UserMessageSid,
        content: String,
    },
}

/// What a call knows of its messages.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct UserMessages {
    subscriptions: Vec<(SubscriptionSid, Endpoint)>,
    /// So many have come.
    received: u32,
    /// The last ones.
    sent: Vec<UserMessageSid>,
}

impl UserMessages {
    pub fn takes(&self, change: &UserMessageChange, leg: &Leg) -> bool {
        let has = |sid: &SubscriptionSid| self.subscriptions.iter().any(|(own, _)| own == sid);
        match change {
            UserMessageChange::Subscribe { sid, .. } => has(sid) || self.subscriptions.len() < MAX_SUBSCRIPTIONS,
            UserMessageChange::Unsubscribe { sid } => has(sid),
            UserMessageChange::Send { .. } => leg.is_answered(),
        }
    }
}

impl Call {
    pub(super) fn change_user_messages(&mut self, change: UserMessageChange, effects: &mut Vec<Effect>) {
        let UserMessages { subscriptions, sent, .. } = &mut self.user_messages;
        match change {
            UserMessageChange::Subscribe { sid, callback } => {
                subscriptions.retain(|(own, _)| *own != sid);
                subscriptions.push((sid, callback));
            }
            UserMessageChange::Unsubscribe { sid } => subscriptions.retain(|(own, _)| *own != sid),
            UserMessageChange::Send { sid, .. } if sent.contains(&sid) => {}
            UserMessageChange::Send { sid, content } => {
                if sent.len() == MAX_KNOWN {
                    sent.remove(0);
                }
                sent.push(sid);
                let command = SipCommand::UserMessage { sid, content };
                effects.push(Effect::Sip { attempt: self.answered_attempt(), command });
            }
        }
    }

    /// The page has said something: who has subscribed is told, each for itself.
    pub(super) fn user_message(&mut self, sid: UserMessageSid, content: &str, effects: &mut Vec<Effect>) {
        let UserMessages { subscriptions, received, .. } = &mut self.user_messages;
        let number = *received;
        *received += 1;
        effects.extend(subscriptions.iter().map(|(_, callback)| {
            let (content, callback) = (content.to_owned(), callback.clone());
            Effect::Note(EventKind::UserMessage(Box::new(UserMessageFact { sid, content, number, callback })))
        }));
    }
}

const MAX_SUBSCRIPTIONS: usize = 10;
/// As many as an application may have under way when it does not know what became of them.
const MAX_KNOWN: usize = 32;
