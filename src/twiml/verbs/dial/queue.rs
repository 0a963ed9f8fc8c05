//! `<Dial><Queue>`: joins the caller with the first who waits, or with the next who comes within the ring time.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::endpoint;
use crate::ids::CallSid;
use crate::twiml::document::{DialSpec, QueueNoun};
use crate::twiml::port::{FetchReason, Precondition, VerbEffect, VerbInput};
use crate::twiml::queue::{DequeueSpec, Taking};
use crate::twiml::verbs::{Context, Machine, Step, Transfer};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(in crate::twiml) struct DialQueue {
    spec: DialSpec,
    noun: QueueNoun,
    member: Option<CallSid>,
    is_leaving: bool,
}

impl DialQueue {
    pub fn new(spec: DialSpec, noun: QueueNoun) -> Self {
        Self { spec, noun, member: None, is_leaving: false }
    }

    /// Parts from the member; how long it was comes with the queue's last word.
    fn leave(&mut self, context: &mut Context<'_>) -> Step {
        if self.is_leaving {
            return Step::Running;
        }
        self.is_leaving = true;
        context.clear_timer();
        context.push(VerbEffect::LeaveQueue);
        if self.member.is_some() { Step::Running } else { self.finish("no-answer", Duration::ZERO, context) }
    }

    fn finish(&mut self, status: &str, duration: Duration, context: &mut Context<'_>) -> Step {
        if !self.is_leaving {
            context.clear_timer();
        }
        let Some(link) = self.spec.action.clone() else { return Step::Next };
        let mut params = vec![
            ("DialCallStatus".to_owned(), status.to_owned()),
            ("DialBridged".to_owned(), self.member.is_some().to_string()),
        ];
        if let Some(member) = self.member {
            params.push(("DialCallDuration".to_owned(), duration.as_secs().to_string()));
            params.push(("DialCallSid".to_owned(), member.to_string()));
        }
        Step::Transfer(Transfer { link, method: self.spec.method, params, reason: FetchReason::Action })
    }
}

impl Machine for DialQueue {
    fn precondition(&self) -> Precondition {
        Precondition::MediaReady
    }

    fn start(&mut self, context: &mut Context<'_>) -> Step {
        let whisper = self.noun.whisper.clone().and_then(|(link, method)| endpoint(link, method, context));
        context.set_timer(self.spec.timeout);
        context.push(VerbEffect::Dequeue(Box::new(DequeueSpec { name: self.noun.name.clone(), whisper })));
        Step::Running
    }

    fn handle(&mut self, input: &VerbInput, context: &mut Context<'_>) -> Step {
        match input {
            VerbInput::Taking(Taking::Bridged { member }) => {
                self.member = Some(*member);
                context.set_timer(self.spec.time_limit);
                Step::Running
            }
            VerbInput::Taking(Taking::Over { duration, .. }) => self.finish("completed", *duration, context),
            VerbInput::Restored if self.member.is_some() => self.finish("completed", Duration::ZERO, context),
            VerbInput::Restored => self.start(context),
            VerbInput::Timer => self.leave(context),
            VerbInput::Digit('*') if self.spec.hangup_on_star && self.member.is_some() => self.leave(context),
            _ => Step::Running,
        }
    }

    fn cancel(&mut self, context: &mut Context<'_>) {
        context.clear_timer();
        context.push(VerbEffect::LeaveQueue);
    }

    /// Its action is owed to the customer even now.
    fn hung_up(&mut self, context: &mut Context<'_>) -> Step {
        self.leave(context)
    }
}
