//! `<Sms>`: sends a text and goes on.

use serde::{Deserialize, Serialize};

use crate::twiml::document::SmsVerb;
use crate::twiml::port::{FetchReason, Precondition, SmsSpec, VerbEffect, VerbInput};
use crate::twiml::verbs::dial::endpoint;
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
        let callback = self.verb.callback.clone().and_then(|(link, method)| endpoint(link, method, context));
        let SmsVerb { to, from, body, .. } = self.verb.clone();
        context.push(VerbEffect::SendMessage(Box::new(SmsSpec { to, from, body, callback })));
        Step::Running
    }

    fn handle(&mut self, input: &VerbInput, _: &mut Context<'_>) -> Step {
        let VerbInput::MessageTaken { sid } = input else { return Step::Running };
        let Some(link) = self.verb.action.clone() else { return Step::Next };
        let status = if sid.is_some() { "sending" } else { "invalid" };
        let mut params = vec![("SmsStatus".to_owned(), status.to_owned())];
        params.extend(sid.map(|sid| ("SmsSid".to_owned(), sid.to_string())));
        Step::Transfer(Transfer { link, method: self.verb.method, params, reason: FetchReason::Action })
    }

    fn cancel(&mut self, _: &mut Context<'_>) {}
}
