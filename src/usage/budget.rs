//! Budgets: how much an account may use in each period, and not more.

use super::Recurring;

/// What an account may use in each period, with the accounts that it has made; `None` is any amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Of everything that has a price, in millionths.
    pub price: Option<i64>,
    /// Of all legs of calls.
    pub minutes: Option<i64>,
    pub recurring: Recurring,
}

/// What is counted against a budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Measure {
    /// Millionths.
    Price,
    Minutes,
}

impl Measure {
    pub const ALL: [Measure; 2] = [Measure::Price, Measure::Minutes];

    pub fn as_str(self) -> &'static str {
        match self {
            Measure::Price => "price",
            Measure::Minutes => "minutes",
        }
    }
}

impl Budget {
    pub fn of(&self, measure: Measure) -> Option<i64> {
        match measure {
            Measure::Price => self.price,
            Measure::Minutes => self.minutes,
        }
    }

    /// Whether it allows any amount of everything.
    pub fn is_boundless(&self) -> bool {
        self.price.is_none() && self.minutes.is_none()
    }
}
