//! Whether a call's account can pay for it: asks [`crate::credit::Escrow`], before the call, while it lasts, and until the ledger
//! has it.

use dialtone_sip::stack::Reply;

use super::core::{Core, Output};
use crate::call::{CallInput, Now};
use crate::credit::{Answer, Decision, Opened, Terms};
use crate::events::Direction;
use crate::ids::{AccountSid, CallSid};
use crate::twiml::Notice;
use crate::usage::category_of_leg;

/// Twilio's numbers for an account that is not active, as one without funds is: of calls that it makes or has, and of those that
/// come in.
const NOT_ACTIVE: u32 = 10_001;
const INCOMING_REJECTED: u32 = 10_003;

/// A leg, as far as its price goes by it.
pub(super) struct Leg<'a> {
    pub(super) sid: CallSid,
    pub(super) account: AccountSid,
    pub(super) direction: Direction,
    pub(super) from: &'a str,
    pub(super) to: &'a str,
    pub(super) via: &'a str,
}

impl Core {
    /// What limits legs that are to begin; nothing, where nothing does. Whoever calls for help is never kept waiting, nor ended.
    pub(super) fn terms(&self, legs: &[Leg<'_>], is_emergency: bool, now: Now) -> Vec<(CallSid, Terms)> {
        let directory = &self.settings.directory;
        if is_emergency || !directory.has_budgets() {
            return Vec::new();
        }
        let of = |leg: &Leg<'_>| {
            let category = category_of_leg(leg.direction, leg.from, leg.to, leg.via);
            Some((leg.sid, Terms::of(directory, leg.account, category, leg.to, now.wall_ms)?))
        };
        legs.iter().filter_map(of).collect()
    }

    /// The same of a call that exists.
    fn terms_of_call(&self, sid: CallSid, now: Now) -> Option<Terms> {
        let call = &self.calls.get(&sid)?.call;
        let (account, direction) = (call.account(), call.direction());
        let leg = Leg { sid, account, direction, from: call.from(), to: call.to(), via: call.via() };
        self.terms(&[leg], self.is_emergency(call.to()), now).pop().map(|(_, terms)| terms)
    }

    pub(super) fn open_credit(&mut self, terms: Vec<(CallSid, Terms)>, now: Now) -> Opened {
        self.escrow.open(terms, now.mono, now.wall_ms)
    }

    /// A call is answered. One that nobody has covered before, as its account had no budget then, is from now on.
    pub(super) fn call_answered(&mut self, sid: CallSid, now: Now) {
        if self.escrow.has(sid) {
            self.escrow.begin(sid, now.mono, now.wall_ms);
        } else {
            self.keep_credit(sid, now);
        }
    }

    /// A call that runs already is covered, whether there is credit or not.
    pub(super) fn keep_credit(&mut self, sid: CallSid, now: Now) {
        let Some(terms) = self.terms_of_call(sid, now) else { return };
        let answered = self.calls.get(&sid).and_then(|slot| slot.call.answered_at());
        if let Some(began) = answered {
            self.escrow.take_up(sid, terms, began, now.mono, now.wall_ms);
        }
    }

    /// Budgets, or prices, are those of another directory.
    pub(super) fn budgets_changed(&mut self, now: Now) {
        if self.escrow.is_empty() && !self.settings.directory.has_budgets() {
            return;
        }
        let terms: std::collections::HashMap<CallSid, Terms> =
            self.calls.keys().filter_map(|sid| Some((*sid, self.terms_of_call(*sid, now)?))).collect();
        self.escrow.change(|sid| terms.get(&sid).cloned(), now.mono, now.wall_ms);
        terms.keys().for_each(|sid| self.keep_credit(*sid, now));
    }

    /// Carries out what became of calls. False: nothing has become of any.
    pub(super) fn spend(&mut self, now: Now) -> bool {
        let Some(decision) = self.escrow.poll_decision() else {
            if let Some(claim) = self.escrow.poll_claim(now.mono, now.wall_ms) {
                self.out.push_back(Output::ClaimCredit(claim));
            }
            return false;
        };
        match decision {
            Decision::Granted(sid) => {
                if !self.begin_held(sid) {
                    self.escrow.close(sid);
                }
            }
            Decision::Refused(sid) => self.refuse_held(sid, &super::admission::Obstacle::NoCredit, now),
            Decision::RunsOut(sid) => self.inputs.push_back((sid, CallInput::RunsOut)),
            Decision::End(sid) => {
                self.out.push_back(Output::OutOfCredit { action: "end" });
                self.notice(sid, Notice::error(NOT_ACTIVE, ENDED));
                self.inputs.push_back((sid, CallInput::OutOfCredit));
            }
        }
        true
    }

    /// What came of a claim to credit.
    pub fn handle_credit(&mut self, answer: Answer, now: Now) {
        self.escrow.handle_answer(answer, now.mono, now.wall_ms);
        self.work(now);
    }

    /// The ledger has the lines of these calls.
    pub fn handle_billed(&mut self, calls: &[CallSid], now: Now) {
        calls.iter().for_each(|sid| self.escrow.settled(*sid));
        self.work(now);
    }
}

const ENDED: &str =
    "the call was ended: the budget of its account is used up, or that of the account that made this one";
const REFUSED: &str = "the budget of the account is used up, or that of the account that made it";

/// What the customer is told of a call that was not begun.
pub(super) fn no_credit_notice(direction: Direction) -> Notice {
    Notice::error(if direction == Direction::Inbound { INCOMING_REJECTED } else { NOT_ACTIVE }, REFUSED)
}

/// Nobody's next try would find more (RFC 3261 s21.4.4).
pub(super) fn no_credit_reply() -> Reply {
    Reply::new(403).reason("Budget Used Up")
}
