//! `<Sms>`: sends a text and goes on.

use serde::{Deserialize, Serialize};

use crate::twiml::document::{Link, SmsVerb};
use crate::twiml::port::{Endpoint, FetchReason, Precondition, SmsSpec, VerbEffect, VerbInput};
use crate::twiml::verbs::{Context, Machine, Step, Transfer};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(in crate::twiml) struct Sms {
    verb: SmsVerb,
}

impl Sms {
    pub fn new(verb: SmsVerb) -> Self {
        Self { verb }
    }
}

impl Machine for Sms {
    fn precondition(&self) -> Precondition {
        Precondition::None
    }

    fn start(&mut self, context: &mut Context<'_>) -> Step {
        let callback = match self.verb.callback.clone() {
            Some((Link::Absolute(url), method)) => Some(Endpoint { url, method }),
            _ => None,
        };
        let SmsVerb { to, from, body, .. } = self.verb.clone();
        context.push(VerbEffect::SendMessage(Box::new(SmsSpec { to, from, body, callback })));
        Step::Running
    }

    fn handle(&mut self, input: &VerbInput, _: &mut Context<'_>) -> Step {
        let VerbInput::MessageTaken { sid } = input else { return Step::Running };
        let Some(link) = self.verb.action.clone() else { return Step::Next };
        let status = if sid.is_some() { "queued" } else { "failed" };
        let mut params = vec![("SmsStatus".to_owned(), status.to_owned())];
        params.extend(sid.map(|sid| ("SmsSid".to_owned(), sid.to_string())));
        Step::Transfer(Transfer { link, method: self.verb.method, params, reason: FetchReason::Action })
    }

    fn cancel(&mut self, _: &mut Context<'_>) {}
}
