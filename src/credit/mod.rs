//! Budgets that hold: what a call may cost is set aside before it does.
//!
//! An edge takes credit of a budget from the store ([`grant`]: what is left once that is taken off what was used, and what edges
//! have set aside), and covers its calls with it, some seconds ahead each ([`Escrow`]). What a call has cost stays set aside until
//! its line is in the ledger: there it is counted by then, so that it is never counted by nobody. A call that cannot be covered any
//! longer hears a tone and ends before it costs more than is there.

mod escrow;
mod grant;

use std::fmt;

use crate::account::Directory;
use crate::ids::AccountSid;
use crate::usage::{Budget, Measure, Period, Rate, Recurring};

pub use escrow::{Decision, Escrow, Opened};
pub use grant::{Answer, Claim, Raise, Raised, Wanted, grant};

/// One budget of one period.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fund {
    pub account: AccountSid,
    pub measure: Measure,
    pub period: Period,
}

/// The name by which the store knows it.
impl fmt::Display for Fund {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.measure.as_str(), self.account, self.period.name)
    }
}

impl Fund {
    /// That of a budget at a time, milliseconds since 1970.
    pub fn at(account: AccountSid, measure: Measure, recurring: Recurring, at_ms: u64) -> Fund {
        Fund { account, measure, period: recurring.period(at_ms) }
    }
}

/// How much an account may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    pub account: AccountSid,
    pub measure: Measure,
    pub recurring: Recurring,
    /// Millionths, or minutes.
    pub amount: i64,
}

/// What a leg uses, and of which budgets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    pub limits: Vec<Limit>,
    pub rate: Option<Rate>,
}

/// Without a price by the second, time is counted in these, as minutes are.
const MINUTE_S: u64 = 60;

impl Terms {
    /// Of a leg of an account, that called this; `None`: nothing limits it.
    pub fn of(directory: &Directory, account: AccountSid, category: &str, called: &str, at_ms: u64) -> Option<Terms> {
        let own = directory.account(account)?;
        let owner = own.owner.and_then(|owner| directory.account(owner));
        let mut limits = Vec::new();
        for account in [Some(own), owner].into_iter().flatten() {
            let Some(budget) = &account.budget else { continue };
            limits.extend(limits_of(account.sid, budget));
        }
        if limits.is_empty() {
            return None;
        }
        let rate = directory.price_book(account).and_then(|book| book.rate(category, called, at_ms));
        // What costs nothing is of no budget of money.
        limits.retain(|limit| rate.is_some() || limit.measure != Measure::Price);
        (!limits.is_empty()).then_some(Terms { limits, rate })
    }

    /// How much of a budget so many seconds are.
    fn amount(&self, measure: Measure, seconds: u64) -> i64 {
        match measure {
            Measure::Price => self.rate.map_or(0, |rate| rate.cost(seconds)),
            Measure::Minutes => i64::try_from(seconds.div_ceil(MINUTE_S)).unwrap_or(i64::MAX),
        }
    }

    /// Up to when a second more is nothing more, once so many are covered.
    fn next(&self, covered: u64) -> u64 {
        let minute = (covered + 1).next_multiple_of(MINUTE_S);
        let counts_minutes = self.limits.iter().any(|limit| limit.measure == Measure::Minutes);
        match self.rate {
            Some(rate) if counts_minutes => rate.next(covered).min(minute),
            Some(rate) => rate.next(covered),
            None => minute,
        }
    }
}

/// What a budget limits.
pub fn limits_of(account: AccountSid, budget: &Budget) -> impl Iterator<Item = Limit> {
    let recurring = budget.recurring;
    let limits = Measure::ALL.map(|measure| (measure, budget.of(measure)));
    limits.into_iter().filter_map(move |(measure, amount)| Some(Limit { account, measure, recurring, amount: amount? }))
}

#[cfg(test)]
mod tests;
