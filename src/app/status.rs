//! Status callbacks: a subscriber that turns a call's steps into requests to the customer.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::runtime::Handle;

use crate::account::Directory;
use crate::app::{CallbackRequest, Callbacks};
use crate::events::{
    CallRecord, Event, EventKind, MessageStatus, StreamStep, Subscriber, Telling, call_params, caller_id_params,
    conference_params, message_params, recording_params, stream_params, user_message_params,
};
use crate::ids::CallSid;
use crate::twiml;

/// Tells customers what their calls go through, as far as they asked.
pub struct StatusCallbacks {
    callbacks: Callbacks,
    /// For the tokens that requests are signed with.
    directory: Arc<ArcSwap<Directory>>,
    /// Where customers reach the API.
    public_url: String,
    runtime: Handle,
    /// A callback is under way since it was last asked.
    has_begun: bool,
}

impl StatusCallbacks {
    pub fn new(callbacks: Callbacks, directory: Arc<ArcSwap<Directory>>, public_url: String, runtime: Handle) -> Self {
        Self { callbacks, directory, public_url, runtime, has_begun: false }
    }

    /// `queue`: what is given under one name is delivered in that order.
    fn deliver(&mut self, event: &Event, queue: CallSid, endpoint: &twiml::Endpoint, params: Vec<(String, String)>) {
        let Some(account) = self.directory.load().account(event.account).cloned() else { return };
        let request = CallbackRequest {
            event: Some((event.call, event.id)),
            account: event.account,
            call: queue,
            token: account.auth_token.clone(),
            url: endpoint.url.clone(),
            method: endpoint.method.into(),
            params,
        };
        let _inside = self.runtime.enter();
        // What is refused is logged and counted there.
        self.has_begun |= self.callbacks.deliver(request).is_ok();
    }
}

impl Subscriber for StatusCallbacks {
    fn told(&mut self, event: &Event, record: &mut CallRecord, telling: Telling) {
        let (Some(step), Some(callback)) = (event.kind.callback_step(), record.status_callback.clone()) else { return };
        if !callback.events.contains(&step) {
            return;
        }
        let number = record.callbacks;
        record.callbacks += 1;
        if telling != Telling::Done {
            let params = call_params(event, record, number, &self.public_url);
            self.deliver(event, event.call, &callback.endpoint, params);
        }
    }

    fn takes_time(&mut self) -> bool {
        std::mem::take(&mut self.has_begun)
    }

    fn noted(&mut self, event: &Event, telling: Telling) {
        if telling == Telling::Done {
            return;
        }
        match &event.kind {
            EventKind::Recording(fact) => {
                let (Some(step), Some(callback)) = (fact.callback_step(), fact.callback.as_ref()) else {
                    return;
                };
                if callback.events.contains(&step) {
                    let params = recording_params(event, fact, &self.public_url);
                    self.deliver(event, event.call, &callback.endpoint, params);
                }
            }
            EventKind::Conference(fact) => {
                if let Some(endpoint) = &fact.callback {
                    // One after another in their conference, whichever calls they are about.
                    self.deliver(event, CallSid::new(fact.sid.bits()), endpoint, conference_params(event, fact));
                }
            }
            // The answer to its request has told that it is queued.
            EventKind::Message(fact) if fact.status != MessageStatus::Queued => {
                if let Some(endpoint) = &fact.callback {
                    // One after another, as the steps of a call are.
                    self.deliver(event, CallSid::new(fact.sid.bits()), endpoint, message_params(event, fact));
                }
            }
            EventKind::UserMessage(fact) => {
                self.deliver(event, event.call, &fact.callback, user_message_params(event, fact));
            }
            EventKind::Stream(fact) if fact.step != StreamStep::Resumed => {
                if let Some(endpoint) = &fact.callback {
                    self.deliver(event, event.call, endpoint, stream_params(event, fact));
                }
            }
            EventKind::CallerId(fact) => {
                self.deliver(event, CallSid::new(fact.sid.bits()), &fact.callback, caller_id_params(event, fact));
            }
            _ => {}
        }
    }
}
