//! Browsers, as far as they are other than telephones: whose connection it is, calls that go on by another one, and what pages say.

use std::sync::Arc;

use dialtone_sip::dialog::DialogId;
use dialtone_sip::flow::{Flow, Transport};
use dialtone_sip::msg::{Address, HeaderName, Message};

use super::core::{Core, Slot};
use crate::account::{Aor, Client};
use crate::call::{Now, SipEvent, Update, UserMessageChange, browser};
use crate::ids::{AccountSid, CallSid};

impl Core {
    /// Requests of that connection are this client's, who has shown a token.
    pub fn set_client(&mut self, flow: Flow, client: Arc<Client>) {
        if let Some(connection) = flow.connection {
            self.clients.insert((flow.local, connection), client);
        }
    }

    /// Whose connection it is, if it is a browser's that has shown a token.
    pub(super) fn client_of(&self, flow: Flow) -> Option<&Arc<Client>> {
        self.clients.get(&(flow.local, flow.connection?)).filter(|_| flow.transport == Transport::Ws)
    }

    /// The dialog of a call in which our tag is that goes on by another connection of the same client; whether there is one.
    pub fn follow(&mut self, call: CallSid, tag: &str, flow: Flow, now: Now) -> bool {
        let Some(client) = self.client_of(flow) else { return false };
        let is_its = |account| self.settings.directory.may_call_for(account, client.account);
        let slot = self.calls.get(&call).filter(|slot| is_its(slot.call.account()));
        let found = slot.and_then(|slot| slot.dialogs.iter().flatten().find(|id| self.is_pages(**id, tag)).copied());
        let Some(dialog) = found else { return false };
        self.stack.follow(dialog, flow);
        self.work(now);
        true
    }

    fn is_pages(&self, dialog: DialogId, tag: &str) -> bool {
        self.stack.dialog(dialog).is_some_and(|own| own.local_tag == tag && own.flow.transport == Transport::Ws)
    }

    /// A browser that comes by another WebSocket, under the address that its calls know, has its calls there too: nobody could open
    /// a connection to it (RFC 7118 s5).
    pub(super) fn follow_registered(&mut self, account: AccountSid, aor: &Aor, flow: Flow, request: &Message) {
        let contact = request.values(HeaderName::Contact).next().and_then(|contact| Address::parse(contact).ok());
        let Some(contact) = contact.filter(|_| flow.transport == Transport::Ws) else { return };
        let left_behind: Vec<DialogId> = self
            .stack
            .reached_at(contact.uri, flow)
            .filter(|dialog| self.is_with(*dialog, account, &aor.username))
            .collect();
        for dialog in left_behind {
            self.stack.follow(dialog, flow);
        }
    }

    /// Whether the dialog is of that account, or of the one that has made it, and with that user.
    fn is_with(&self, dialog: DialogId, account: AccountSid, username: &str) -> bool {
        let call = self.by_dialog.get(&dialog).and_then(|(sid, _)| self.calls.get(sid));
        let address = self.stack.dialog(dialog).and_then(|dialog| Address::parse(&dialog.remote_address).ok());
        let uri = address.and_then(|address| address.parsed_uri().ok()?.sip());
        call.is_some_and(|slot| self.settings.directory.may_call_for(slot.call.account(), account))
            && uri.and_then(|uri| uri.decoded_user()).is_some_and(|user| user == username)
    }

    /// What the page of a browser says, by its line.
    pub(super) fn user_message(&self, dialog: DialogId, request: &Message) -> Option<SipEvent> {
        self.stack.dialog(dialog).filter(|dialog| dialog.flow.transport == Transport::Ws)?;
        let sid = request.other_header(browser::MESSAGE)?.parse().ok()?;
        let content = String::from_utf8(request.body().to_vec()).ok()?;
        Some(SipEvent::UserMessage { sid, content })
    }

    /// Only the page of a browser has a use for messages.
    pub(super) fn hears_messages(&self, slot: &Slot, change: &Update) -> bool {
        let Some(UserMessageChange::Send { .. }) = change.user_message.as_deref() else { return true };
        let dialog = slot.dialogs.get(usize::from(slot.call.answered_attempt().0)).copied().flatten();
        dialog.and_then(|id| self.stack.dialog(id)).is_some_and(|dialog| dialog.flow.transport == Transport::Ws)
    }
}
