//! Subscriptions to events, as their notifier (RFC 6665 s4.2): the dialog that a SUBSCRIBE opens, and the NOTIFY requests inside it.
//!
//! What is told of, to whom, and for how long is the caller's. One that is lost with its process is opened anew by the subscriber,
//! whose next SUBSCRIBE is answered by 481.

use bytes::Bytes;

use super::api::Reply;
use super::table::{Key, Owner, TransactionId};
use super::{Event, Stack};
use crate::dialog::{Dialog, DialogId};
use crate::flow::Flow;
use crate::msg::{HeaderName, Message, Method};
use crate::time::Mono;

/// A subscription's dialog, and the event that it is to.
#[derive(Clone, Debug)]
pub(super) struct Subscription {
    dialog: Dialog,
    /// The whole header: its `id` too.
    event: String,
}

/// A NOTIFY, but for what its dialog says.
#[derive(Clone, Debug)]
pub struct Notification {
    /// `active;expires=60`.
    pub state: String,
    pub content_type: &'static str,
    pub body: Bytes,
}

impl Stack {
    /// Takes a SUBSCRIBE: opens its dialog and its transaction. Answer it by [`Stack::answer_subscribe`], or by [`Stack::reply`] after
    /// [`Stack::end_subscription`].
    pub fn accept_subscribe(&mut self, flow: Flow, request: &Message, contact: String) -> (DialogId, TransactionId) {
        let (id, tag) = self.mint_tag();
        let dialog = Dialog::from_invite(request, flow, tag, contact);
        let event = request.header(HeaderName::Event).unwrap_or_default().to_owned();
        self.subscriptions.insert(id, Box::new(Subscription { dialog, event }));
        (id, self.accept_request(flow, request))
    }

    /// Answers the SUBSCRIBE that opened a subscription, or a later one of it, with 200; the caller notifies next.
    pub fn answer_subscribe(
        &mut self,
        id: DialogId,
        transaction: TransactionId,
        request: &Message,
        expires_s: u32,
        now: Mono,
    ) {
        let Some(subscription) = self.subscriptions.get(&id) else { return };
        let dialog = &subscription.dialog;
        let reply = Reply::new(200)
            .header(HeaderName::Contact, dialog.contact.clone())
            .header(HeaderName::Expires, expires_s.to_string());
        let tag = dialog.local_tag.clone();
        self.reply_tagged(transaction, request, &reply, Some(&tag), now);
    }

    /// Tells a subscriber how things stand. Its answer comes as [`Event::Responded`] with the number returned; send no other before.
    pub fn notify(&mut self, id: DialogId, notification: &Notification, now: Mono) -> Option<u64> {
        let (token, number) = (self.tokens.next_u64(), self.tokens.next_u64());
        let flow = self.subscriptions.get(&id)?.dialog.flow;
        let via = self.via(flow, token);
        let subscription = self.subscriptions.get_mut(&id)?;
        let cseq = subscription.dialog.next_cseq();
        let mut writer = subscription.dialog.request(Method::Notify, cseq, &via);
        writer.header(HeaderName::Contact, &subscription.dialog.contact);
        writer.header(HeaderName::Event, &subscription.event);
        writer.named("Subscription-State", &notification.state);
        writer.header(HeaderName::UserAgent, &self.config.product);
        let bytes = writer.finish(notification.content_type, &notification.body);
        let key = Key::Client { token, method: Method::Notify };
        self.open_client(flow, bytes, key, Owner::Request(number), now);
        Some(number)
    }

    /// Nothing more is told.
    pub fn end_subscription(&mut self, id: DialogId) {
        self.subscriptions.remove(&id);
    }

    /// A SUBSCRIBE inside a dialog: whether it is one of a subscription.
    pub(super) fn resubscribed(&mut self, flow: Flow, request: &Message) -> bool {
        let Some(id) = request.to_tag().and_then(Stack::tag_token) else { return false };
        let Some(subscription) = self.subscriptions.get_mut(&id) else { return false };
        let dialog = &mut subscription.dialog;
        let is_same = dialog.call_id == request.call_id()
            && Some(dialog.local_tag.as_str()) == request.to_tag()
            && dialog.remote_tag == request.from_tag().unwrap_or_default();
        if !is_same {
            return false;
        }
        if !dialog.take_cseq(request.cseq().map_or(0, |(number, _)| number)) {
            self.refuse(request, flow, &Reply::new(500).reason("CSeq Out Of Order"));
            return true;
        }
        dialog.take_target(request, flow);
        let transaction = self.accept_request(flow, request);
        self.tell(Event::Resubscribed { subscription: id, transaction, request: request.clone() });
        true
    }
}
