//! Usage triggers: from which point on a customer wants to be told of what was used, or something is to happen.

use serde::{Deserialize, Serialize};
use time::{Date, OffsetDateTime};

use super::{Category, DAY_MS, money};
use crate::ids::AccountSid;

/// How often a trigger may fire, or a budget begins anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Recurring {
    Daily,
    Monthly,
    Yearly,
    AllTime,
}

/// A span of days in which a trigger fires once.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Period {
    /// The same for every moment in it.
    pub name: String,
    /// Days since 1970, UTC; both are in it.
    pub first_day: u64,
    pub last_day: u64,
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

    pub fn as_str(self) -> &'static str {
        match self {
            Recurring::Daily => "daily",
            Recurring::Monthly => "monthly",
            Recurring::Yearly => "yearly",
            Recurring::AllTime => "alltime",
        }
    }

    /// The period in which a time lies, UTC; milliseconds since 1970.
    pub fn period(self, at_ms: u64) -> Period {
        let day = at_ms / DAY_MS;
        let seconds = i64::try_from(at_ms / 1000).unwrap_or(i64::MAX);
        let date = OffsetDateTime::from_unix_timestamp(seconds).map_or(Date::MIN, OffsetDateTime::date);
        let (name, first_day, days) = match self {
            Recurring::AllTime => return Period { name: "alltime".into(), first_day: 0, last_day: u64::MAX },
            Recurring::Daily => (date.to_string(), day, 1),
            Recurring::Monthly => {
                let days = u64::from(date.month().length(date.year()));
                (format!("{:04}-{:02}", date.year(), u8::from(date.month())), day + 1 - u64::from(date.day()), days)
            }
            Recurring::Yearly => {
                let days = if time::util::is_leap_year(date.year()) { 366 } else { 365 };
                (format!("{:04}", date.year()), day + 1 - u64::from(date.ordinal()), days)
            }
        };
        Period { name, first_day, last_day: first_day + days - 1 }
    }
}

/// What is compared with the trigger's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TriggerBy {
    Count,
    Usage,
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
}

/// What happens besides that the URL is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    Callback,
    /// The account makes and takes no calls, and asks for nothing, until somebody makes it active again.
    Suspend,
    /// The account has so many calls at once and no more.
    LimitCalls(u32),
}

impl Action {
    /// `callback`, `suspend`, `limit:calls=N`.
    pub fn named(text: &str) -> Option<Action> {
        match text {
            "callback" => Some(Action::Callback),
            "suspend" => Some(Action::Suspend),
            _ => text.strip_prefix("limit:calls=")?.parse().ok().map(Action::LimitCalls),
        }
    }
}

/// A trigger, as far as it is to be decided whether it fires.
#[derive(Clone, Debug)]
pub struct Trigger {
    pub sid: String,
    pub account: AccountSid,
    pub category: &'static Category,
    pub by: TriggerBy,
    pub recurring: Recurring,
    /// Millionths.
    pub value: i64,
    pub action: Action,
    /// When it was told last by a version that kept no list of that, milliseconds since 1970.
    fired_ms: Option<u64>,
}

#[derive(Deserialize)]
struct Detail {
    usage_category: String,
    trigger_by: String,
    recurring: Option<String>,
    trigger_value: String,
    #[serde(default)]
    action: Option<String>,
    fired_ms: Option<u64>,
}

impl Trigger {
    /// Of its row; `None`: that is unreadable.
    pub fn read(sid: &str, account: AccountSid, detail: &str) -> Option<Trigger> {
        let detail: Detail = serde_json::from_str(detail).ok()?;
        Some(Trigger {
            sid: sid.to_owned(),
            account,
            category: Category::named(&detail.usage_category)?,
            by: TriggerBy::named(&detail.trigger_by)?,
            recurring: detail.recurring.as_deref().and_then(Recurring::named).unwrap_or(Recurring::AllTime),
            value: money::parse(&detail.trigger_value)?,
            action: detail.action.as_deref().and_then(Action::named).unwrap_or(Action::Callback),
            fired_ms: detail.fired_ms,
        })
    }

    /// Whether it was told of that period before anybody kept a list of that.
    pub fn was_told(&self, period: &Period) -> bool {
        self.fired_ms.is_some_and(|fired| (period.first_day..=period.last_day).contains(&(fired / DAY_MS)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> u64 {
        let format = &time::format_description::well_known::Rfc3339;
        let at = OffsetDateTime::parse(text, format).unwrap();
        u64::try_from(at.unix_timestamp_nanos() / 1_000_000).unwrap()
    }

    #[test]
    fn ut_05_periods_begin_at_midnight_utc_and_follow_each_other() {
        let before = at("2026-11-26T23:59:59.999Z");
        let after = at("2026-11-27T00:00:00Z");
        let daily = |at_ms| Recurring::Daily.period(at_ms);
        assert_eq!((daily(before).name.as_str(), daily(after).name.as_str()), ("2026-11-26", "2026-11-27"));
        assert_eq!(daily(before).last_day + 1, daily(after).first_day);
        let leap = at("2028-02-29T12:00:00Z");
        let monthly = Recurring::Monthly.period(leap);
        assert_eq!((monthly.name.as_str(), monthly.last_day - monthly.first_day + 1), ("2028-02", 29));
        assert_eq!(monthly.last_day + 1, Recurring::Monthly.period(at("2028-03-01T00:00:00Z")).first_day);
        let yearly = Recurring::Yearly.period(leap);
        assert_eq!((yearly.name.as_str(), yearly.last_day - yearly.first_day + 1), ("2028", 366));
        assert_eq!(yearly.first_day, at("2028-01-01T00:00:00Z") / DAY_MS);
        assert_eq!(Recurring::AllTime.period(leap), Recurring::AllTime.period(0));
    }

    #[test]
    fn every_day_is_in_one_period_of_each_kind() {
        for recurring in [Recurring::Daily, Recurring::Monthly, Recurring::Yearly] {
            let mut period = recurring.period(0);
            for day in 1..40_000 {
                let next = recurring.period(day * DAY_MS);
                if day > period.last_day {
                    assert_eq!(next.first_day, day);
                    period = next;
                } else {
                    assert_eq!(next, period);
                }
            }
        }
    }

    #[test]
    fn actions_are_read() {
        assert_eq!(Action::named("limit:calls=3"), Some(Action::LimitCalls(3)));
        assert_eq!(Action::named("suspend"), Some(Action::Suspend));
        assert!(
            ["", "limit:calls=", "limit:calls=-1", "limit:api=1"].iter().all(|wrong| Action::named(wrong).is_none())
        );
    }
}
