//! Price books: what a line of the ledger costs, and why.
//!
//! A book has editions, each from a day on; an edition has prices, found by category and by the longest prefix of the number that
//! was called. Time is billed in increments, `60/60`: the first so many seconds as a whole, then so many at a time. A tier is
//! another price once so much of the category was used in the month, UTC; a call has the price that it began with.

use serde::Serialize;

use super::money;
use super::{LedgerLine, Unit};

/// The prices of some accounts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PriceBook {
    pub name: String,
    /// ISO 4217, in small letters.
    pub currency: String,
    /// The oldest first.
    pub editions: Vec<Edition>,
}

/// The prices from a moment on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edition {
    /// Milliseconds since 1970.
    pub from_ms: u64,
    pub prices: Vec<Price>,
}

/// What one unit costs: a minute, or a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Price {
    /// A category that lines of the ledger have.
    pub category: String,
    /// Of the number that was called; empty for every number.
    pub prefix: String,
    pub per_unit: i64,
    /// For each that was answered, or sent.
    pub setup: i64,
    /// Seconds.
    pub first_increment: u64,
    pub increment: u64,
    /// By how much of the category was used in the month before, the least first.
    pub tiers: Vec<Tier>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tier {
    /// In units of the category.
    pub above: u64,
    pub per_unit: i64,
}

/// What a leg costs as long as it lasts, at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Millionths, as is `per_minute`.
    pub setup: i64,
    pub per_minute: i64,
    /// Seconds, as is `increment`.
    pub first_increment: u64,
    pub increment: u64,
}

/// What a line costs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Priced {
    /// Millionths.
    pub amount: i64,
    /// How that came: JSON, shown in bills. Empty where there is no price.
    pub rule: String,
}

/// How a price came.
#[derive(Serialize)]
struct Rule<'a> {
    price_book: &'a str,
    currency: &'a str,
    prefix: &'a str,
    increment: String,
    billed: u64,
    billed_unit: &'static str,
    per_unit: String,
    setup: String,
    /// What of the category was used in the month before, where that counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    used_before: Option<u64>,
}

impl PriceBook {
    /// The price of a line: of the newest edition that there was then.
    pub fn find(&self, line: &LedgerLine) -> Option<&Price> {
        self.price_of(line.category, &line.called, line.at_ms)
    }

    fn price_of(&self, category: &str, called: &str, at_ms: u64) -> Option<&Price> {
        let edition = self.editions.iter().rev().find(|edition| edition.from_ms <= at_ms)?;
        let fits = |price: &&Price| price.category == category && called.starts_with(&price.prefix);
        edition.prices.iter().filter(fits).max_by_key(|price| price.prefix.len())
    }

    /// What a leg costs as long as it lasts, at most; `None`: nothing.
    pub fn rate(&self, category: &str, called: &str, at_ms: u64) -> Option<Rate> {
        let price = self.price_of(category, called, at_ms)?;
        // Which tier it will be is known when it has ended.
        let per_minute = price.tiers.iter().map(|tier| tier.per_unit).fold(price.per_unit, i64::max);
        let Price { setup, first_increment, increment, .. } = *price;
        (per_minute != 0 || setup != 0).then_some(Rate { setup, per_minute, first_increment, increment })
    }

    /// Whether what a category's lines cost depends on what was used before.
    pub fn has_tiers(&self, line: &LedgerLine) -> bool {
        self.find(line).is_some_and(|price| !price.tiers.is_empty())
    }

    /// `used_before`: of the line's category in its month, in units.
    pub fn price(&self, line: &LedgerLine, used_before: u64) -> Priced {
        let Some(price) = self.find(line) else { return Priced::default() };
        let tier = price.tiers.iter().rev().find(|tier| tier.above <= used_before);
        let per_unit = tier.map_or(price.per_unit, |tier| tier.per_unit);
        let (billed, billed_unit, amount) = match line.unit {
            Unit::Seconds => {
                let seconds = price.billed_seconds(line.quantity);
                (seconds, "seconds", of_seconds(per_unit, seconds))
            }
            Unit::Messages => (line.quantity, "messages", i128::from(per_unit) * i128::from(line.quantity)),
        };
        let setup = if line.quantity == 0 { 0 } else { price.setup };
        let rule = Rule {
            price_book: &self.name,
            currency: &self.currency,
            prefix: &price.prefix,
            increment: format!("{}/{}", price.first_increment, price.increment),
            billed,
            billed_unit,
            per_unit: money::format(per_unit),
            setup: money::format(setup),
            used_before: (!price.tiers.is_empty()).then_some(used_before),
        };
        let amount = i64::try_from(amount).unwrap_or(i64::MAX).saturating_add(setup);
        Priced { amount, rule: serde_json::to_string(&rule).unwrap_or_default() }
    }
}

impl Price {
    fn billed_seconds(&self, seconds: u64) -> u64 {
        billed(seconds, self.first_increment, self.increment)
    }
}

impl Rate {
    /// What so many seconds cost, in millionths.
    pub fn cost(&self, seconds: u64) -> i64 {
        match billed(seconds, self.first_increment, self.increment) {
            0 => 0,
            seconds => {
                i64::try_from(of_seconds(self.per_minute, seconds)).unwrap_or(i64::MAX).saturating_add(self.setup)
            }
        }
    }

    /// Up to when a second more costs nothing more, once so many are paid.
    pub fn next(&self, paid: u64) -> u64 {
        billed(paid + 1, self.first_increment, self.increment)
    }
}

fn billed(seconds: u64, first: u64, increment: u64) -> u64 {
    match seconds {
        0 => 0,
        _ if seconds <= first => first,
        _ => first + (seconds - first).next_multiple_of(increment.max(1)),
    }
}

/// Half a millionth and more is one.
fn of_seconds(per_minute: i64, seconds: u64) -> i128 {
    (i128::from(per_minute) * i128::from(seconds) * 2 + 60).div_euclid(120)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{AccountSid, CallSid, EventSid};

    fn line(quantity: u64, called: &str, at_ms: u64) -> LedgerLine {
        LedgerLine {
            event: EventSid::new(1),
            account: AccountSid::new(1),
            call: CallSid::new(1),
            service: "voice",
            module: "",
            category: "calls-outbound",
            quantity,
            unit: Unit::Seconds,
            at_ms,
            called: called.into(),
            correction: None,
        }
    }

    fn price(prefix: &str, per_unit: &str) -> Price {
        Price {
            category: "calls-outbound".into(),
            prefix: prefix.into(),
            per_unit: money::parse(per_unit).unwrap(),
            setup: 0,
            first_increment: 60,
            increment: 60,
            tiers: Vec::new(),
        }
    }

    fn book(prices: Vec<Price>) -> PriceBook {
        PriceBook { name: "retail".into(), currency: "usd".into(), editions: vec![Edition { from_ms: 100, prices }] }
    }

    #[test]
    fn time_is_billed_in_increments() {
        let of = |first_increment, increment, seconds| {
            Price { first_increment, increment, ..price("", "1") }.billed_seconds(seconds)
        };
        assert_eq!([0, 1, 60, 61, 120].map(|seconds| of(60, 60, seconds)), [0, 60, 60, 120, 120]);
        assert_eq!([1, 30, 31, 36, 37].map(|seconds| of(30, 6, seconds)), [30, 30, 36, 36, 42]);
        assert_eq!([1, 2, 3].map(|seconds| of(1, 1, seconds)), [1, 2, 3]);
    }

    #[test]
    fn longest_prefix_counts_and_the_edition_of_that_day() {
        let mut book = book(vec![price("", "0.5"), price("+1", "0.01"), price("+1900", "2")]);
        book.editions.push(Edition { from_ms: 200, prices: vec![price("", "0.6")] });
        let amount = |called, at_ms| book.price(&line(61, called, at_ms), 0).amount;
        assert_eq!(amount("+19001", 150), 4_000_000);
        assert_eq!(amount("+1201", 150), 20_000);
        assert_eq!(amount("+49", 199), 1_000_000);
        assert_eq!(amount("+19001", 200), 1_200_000);
        assert_eq!(book.price(&line(61, "+49", 99), 0), Priced::default(), "there was no edition yet");
    }

    #[test]
    fn fractions_are_rounded_once_and_unanswered_calls_cost_nothing() {
        let second = Price { first_increment: 1, increment: 1, setup: 1000, ..price("", "0.01") };
        let book = book(vec![second]);
        // A seventh of a minute and less: 0.01 * 7 / 60 = 0.0011666...
        assert_eq!(book.price(&line(7, "+1", 150), 0).amount, 1_167 + 1000);
        assert_eq!(book.price(&line(0, "+1", 150), 0).amount, 0);
    }

    #[test]
    fn tiers_count_what_was_used_before() {
        let tiers = [(1000, "0.8"), (5000, "0.5")]
            .map(|(above, per_unit)| Tier { above, per_unit: money::parse(per_unit).unwrap() });
        let book = book(vec![Price { tiers: tiers.to_vec(), ..price("", "1") }]);
        let amount = |used| book.price(&line(60, "+1", 150), used).amount;
        assert_eq!([0, 999, 1000, 4999, 5000].map(amount), [1_000_000, 1_000_000, 800_000, 800_000, 500_000]);
        assert!(book.price(&line(60, "+1", 150), 1000).rule.contains("\"used_before\":1000"));
    }
}
