//! `<Refer>`: asks the caller's side to call somebody else instead (RFC 3515).
//!
//! ```text
//!  Asked ---- refused, or no answer --------------------------> over (failed)
//!    | 2xx
//!  Accepted -- the last NOTIFY, or nothing for a minute ------> over (as it says)
//!          \-- the caller hangs up, as one that was referred does -> over (completed)
//! ```

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::twiml::document::ReferSpec;
use crate::twiml::port::{FetchReason, Precondition, VerbEffect, VerbInput};
use crate::twiml::verbs::{Context, Machine, Step, Transfer};

/// After the REFER was accepted: the new call rings and is answered, or not, within this time.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(in crate::twiml) struct Refer {
    spec: ReferSpec,
    /// The answer to the REFER.
    answered: Option<u16>,
    /// What became of the new call, as the peer tells it.
    notified: Option<u16>,
}

impl Refer {
    pub fn new(spec: ReferSpec) -> Self {
        Self { spec, answered: None, notified: None }
    }

    fn is_accepted(&self) -> bool {
        self.answered.is_some_and(|status| status < 300)
    }

    fn finish(&mut self, status: &str, context: &mut Context<'_>) -> Step {
        if self.is_accepted() {
            context.clear_timer();
        }
        let Some(link) = self.spec.action.clone() else { return Step::Next };
        let mut params = vec![("ReferCallStatus".to_owned(), status.to_owned())];
        let codes = [("ReferSipResponseCode", self.answered), ("NotifySipResponseCode", self.notified)];
        params.extend(codes.into_iter().filter_map(|(name, code)| Some((name.to_owned(), code?.to_string()))));
        Step::Transfer(Transfer { link, method: self.spec.method, params, reason: FetchReason::Action })
    }
}

/// What a final response to the new call's INVITE means.
fn call_status(code: u16) -> &'static str {
    match code {
        200..=299 => "completed",
        486 | 600 => "busy",
        408 | 480 => "no-answer",
        487 => "canceled",
        _ => "failed",
    }
}

impl Machine for Refer {
    /// A REFER goes by a dialog that the caller has confirmed.
    fn precondition(&self) -> Precondition {
        Precondition::Answered
    }

    fn start(&mut self, context: &mut Context<'_>) -> Step {
        context.push(VerbEffect::Refer { uri: self.spec.uri.clone(), headers: self.spec.headers.clone() });
        Step::Running
    }

    fn handle(&mut self, input: &VerbInput, context: &mut Context<'_>) -> Step {
        match input {
            VerbInput::ReferAnswered { status } if self.answered.is_none() => {
                self.answered = Some(*status);
                if !self.is_accepted() {
                    return self.finish("failed", context);
                }
                context.set_timer(PATIENCE);
                match self.notified {
                    Some(code) if code >= 200 => self.finish(call_status(code), context),
                    _ => Step::Running,
                }
            }
            VerbInput::ReferNotified { status, is_last } => {
                self.notified = Some(*status);
                match self.is_accepted() && (*is_last || *status >= 200) {
                    true => self.finish(call_status(*status), context),
                    false => Step::Running,
                }
            }
            VerbInput::Timer if self.is_accepted() => self.finish("no-answer", context),
            _ => Step::Running,
        }
    }

    fn cancel(&mut self, context: &mut Context<'_>) {
        if self.is_accepted() {
            context.clear_timer();
        }
    }

    fn hung_up(&mut self, context: &mut Context<'_>) -> Step {
        let status = if self.is_accepted() { "completed" } else { "failed" };
        self.finish(status, context)
    }
}
