//! Usage triggers: from which point on a customer wants to be told of what was used.

use time::{Date, OffsetDateTime};

use super::{Category, Used};

/// How often a trigger may fire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recurring {
    Daily,
    Monthly,
    Yearly,
    AllTime,
}

impl Recurring {
    pub const NAMES: &'static [&'static str] = &["daily", "monthly", "yearly", "alltime"];

    pub fn named(name: &str) -> Option<Recurring> {
        match name {
            "daily" => Some(Recurring::Daily),
            "monthly" => Some(Recurring::Monthly),
            "yearly" => Some(Recurring::Yearly),
            "alltime" => Some(Recurring::AllTime),
            _ => None,
        }
    }

    /// When the period began in which a time lies, UTC; both in milliseconds since 1970.
    pub fn began(self, now_ms: u64) -> u64 {
        let now =
            OffsetDateTime::from_unix_timestamp((now_ms / 1000).cast_signed()).map_or(Date::MIN, OffsetDateTime::date);
        let first = match self {
            Recurring::AllTime => return 0,
            Recurring::Daily => now,
            Recurring::Monthly => now.replace_day(1).unwrap_or(now),
            Recurring::Yearly => now.replace_ordinal(1).unwrap_or(now),
        };
        u64::try_from(first.midnight().assume_utc().unix_timestamp()).unwrap_or(0) * 1000
    }
}

/// What is compared with the trigger's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TriggerBy {
    Count,
    Usage,
    /// Nothing has a price.
    Price,
}

impl TriggerBy {
    pub const NAMES: &'static [&'static str] = &["count", "usage", "price"];

    pub fn named(name: &str) -> Option<TriggerBy> {
        match name {
            "count" => Some(TriggerBy::Count),
            "usage" => Some(TriggerBy::Usage),
            "price" => Some(TriggerBy::Price),
            _ => None,
        }
    }

    /// What was used of a category, in the measure of the trigger.
    pub fn value(self, category: &Category, used: &[Used]) -> u64 {
        let (count, usage) = category.sum(used);
        match self {
            TriggerBy::Count => count,
            TriggerBy::Usage => usage,
            TriggerBy::Price => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_begin_at_midnight_utc() {
        // 2026-11-26 01:46:40 UTC.
        let now = 1_795_657_600_000;
        let began = |recurring: Recurring| {
            let seconds = (recurring.began(now) / 1000).cast_signed();
            OffsetDateTime::from_unix_timestamp(seconds).unwrap().to_string()
        };
        assert_eq!(began(Recurring::Daily), "2026-11-26 0:00:00.0 +00:00:00");
        assert_eq!(began(Recurring::Monthly), "2026-11-01 0:00:00.0 +00:00:00");
        assert_eq!(began(Recurring::Yearly), "2026-01-01 0:00:00.0 +00:00:00");
        assert_eq!(Recurring::AllTime.began(now), 0);
    }

    #[test]
    fn value_is_that_of_all_parts_of_the_category() {
        let used =
            |category: &str, count, minutes| Used { category: category.into(), day: 1, count, quantity: 0, minutes };
        let used = [used("calls-inbound", 2, 5), used("calls-outbound", 1, 3), used("recordings", 9, 9)];
        let category = Category::named("calls").unwrap();
        assert_eq!(TriggerBy::Count.value(category, &used), 3);
        assert_eq!(TriggerBy::Usage.value(category, &used), 8);
        assert_eq!(TriggerBy::Price.value(category, &used), 0);
        assert_eq!(Category::named("nothing").map(|category| category.name), None);
    }
}
