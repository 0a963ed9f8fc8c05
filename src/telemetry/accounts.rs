//! What is counted of each account, exactly; and who of them has a label of its own.
//!
//! A page of metrics must not grow with the number of customers: the first so many accounts that do something have series of their
//! own as long as the process runs, and all others are one, `account="other"`. What is known of any of them is told to who asks for
//! it: the operator for those with the most calls, an account for itself.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use crate::events::{CallStatus, Direction};
use crate::ids::AccountSid;

/// Accounts with series of their own, where nobody has said how many.
pub const USUAL_ACCOUNTS: usize = 50;

static TABLE: LazyLock<Mutex<Table>> = LazyLock::new(Mutex::default);

#[derive(Default)]
struct Table {
    rows: HashMap<AccountSid, Row>,
    named: usize,
    most_named: Option<usize>,
}

#[derive(Default)]
struct Row {
    is_named: bool,
    values: HashMap<Series, u64>,
}

/// One number of an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Series {
    Calls(Direction, &'static str),
    Started(Direction),
    Ended(Direction, CallStatus),
    Rejected(&'static str),
    Registrations(&'static str),
    /// By status.
    PresenceEndpoints(&'static str),
    Held(&'static str),
    Limit(&'static str),
    /// By category, in its unit.
    Used(&'static str, &'static str),
    /// By kind and outcome.
    Webhooks(&'static str, &'static str),
}

/// Name, type and help.
struct Family(&'static str, &'static str, &'static str);

const CALLS: Family = Family("dialtone_calls", "gauge", "Calls in progress on this node by state.");
const STARTED: Family = Family("dialtone_calls_started_total", "counter", "Calls admitted.");
const ENDED: Family = Family("dialtone_calls_ended_total", "counter", "Calls that reached a final status.");
const REJECTED: Family = Family("dialtone_calls_rejected_total", "counter", "Calls refused before admission.");
const REGISTRATIONS: Family = Family("dialtone_registrations", "gauge", "Active contact bindings.");
const ENDPOINTS: Family = Family("dialtone_presence_endpoints", "gauge", "Endpoints by presence status.");
const HELD: Family = Family("dialtone_concurrency_used", "gauge", "Concurrency slots held by this node.");
const LIMIT: Family = Family("dialtone_concurrency_limit", "gauge", "Configured concurrency limit.");
const USED: Family = Family(
    "dialtone_usage_units_total",
    "counter",
    "Metered usage in the unit of the category (minutes, messages, bytes).",
);
const WEBHOOKS: Family =
    Family("dialtone_webhook_requests_total", "counter", "HTTP requests sent to application servers.");

impl Series {
    fn family(self) -> &'static Family {
        match self {
            Series::Calls(..) => &CALLS,
            Series::Started(_) => &STARTED,
            Series::Ended(..) => &ENDED,
            Series::Rejected(_) => &REJECTED,
            Series::Registrations(_) => &REGISTRATIONS,
            Series::PresenceEndpoints(_) => &ENDPOINTS,
            Series::Held(_) => &HELD,
            Series::Limit(_) => &LIMIT,
            Series::Used(..) => &USED,
            Series::Webhooks(..) => &WEBHOOKS,
        }
    }

    /// The labels beside the account.
    fn labels(self) -> String {
        match self {
            Series::Calls(direction, state) => format!("direction=\"{}\",state=\"{state}\"", direction.as_str()),
            Series::Started(direction) => format!("direction=\"{}\",leg=\"sip\"", direction.as_str()),
            Series::Ended(direction, status) => {
                format!("direction=\"{}\",status=\"{}\"", direction.as_str(), status.as_str())
            }
            Series::Rejected(reason) => format!("reason=\"{}\"", reason.replace(' ', "_")),
            Series::Registrations(kind) => format!("kind=\"{kind}\""),
            Series::PresenceEndpoints(status) => format!("status=\"{status}\""),
            Series::Held(resource) | Series::Limit(resource) => format!("resource=\"{resource}\""),
            Series::Used(category, unit) => format!("category=\"{category}\",unit=\"{unit}\""),
            Series::Webhooks(kind, outcome) => format!("kind=\"{kind}\",outcome=\"{outcome}\""),
        }
    }
}

/// Who is shown.
pub enum Whose<'a> {
    /// Those with labels of their own, and all others together.
    Named,
    /// So many of those with the most calls.
    Busiest(usize),
    /// These and nobody else.
    Of(&'a [AccountSid]),
}

/// How many accounts may have series of their own; those that have some keep them.
pub fn set_most_named(count: usize) {
    table().most_named = Some(count);
}

/// Counts something.
pub fn add(account: AccountSid, series: Series, count: u64) {
    *table().row(account).values.entry(series).or_default() += count;
}

/// Says how much there is of something now, of every account; whoever is not told of has none.
pub fn set_all(told: impl IntoIterator<Item = (AccountSid, Series, u64)>, is_of: impl Fn(Series) -> bool) {
    let mut table = table();
    for row in table.rows.values_mut() {
        row.values.iter_mut().filter(|(series, _)| is_of(**series)).for_each(|(_, value)| *value = 0);
    }
    for (account, series, value) in told {
        table.row(account).values.insert(series, value);
    }
}

/// The page of these accounts, in Prometheus' text form.
pub fn page(whose: &Whose<'_>) -> String {
    let table = table();
    let mut lines = BTreeMap::<Series, BTreeMap<String, u64>>::new();
    let mut dropped = 0;
    for (account, row) in table.chosen(whose) {
        let name = match whose {
            _ if account.bits() == 0 => String::new(),
            Whose::Named if !row.is_named => {
                dropped += 1;
                "other".to_owned()
            }
            _ => account.to_string(),
        };
        for (series, value) in &row.values {
            *lines.entry(*series).or_default().entry(name.clone()).or_default() += value;
        }
    }
    let mut page = String::new();
    let mut last = "";
    for (series, values) in lines {
        let Family(name, kind, help) = series.family();
        if *name != last {
            let _ = write!(page, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
            last = name;
        }
        for (account, value) in values {
            let _ = writeln!(page, "{name}{{account=\"{account}\",{}}} {value}", series.labels());
        }
    }
    if matches!(whose, Whose::Named) {
        let name = "dialtone_metrics_accounts_dropped_total";
        let help = "Accounts folded into account=\"other\" by the cardinality limit.";
        let _ = write!(page, "# HELP {name} {help}\n# TYPE {name} counter\n{name} {dropped}\n");
    }
    page
}

fn table() -> MutexGuard<'static, Table> {
    TABLE.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Table {
    fn row(&mut self, account: AccountSid) -> &mut Row {
        let has_place = self.named < self.most_named.unwrap_or(USUAL_ACCOUNTS);
        let named = &mut self.named;
        self.rows.entry(account).or_insert_with(|| {
            *named += usize::from(has_place);
            Row { is_named: has_place, values: HashMap::new() }
        })
    }

    fn chosen(&self, whose: &Whose<'_>) -> Vec<(AccountSid, &Row)> {
        let all = self.rows.iter().map(|(account, row)| (*account, row));
        match whose {
            Whose::Named => all.collect(),
            Whose::Of(accounts) => all.filter(|(account, _)| accounts.contains(account)).collect(),
            Whose::Busiest(count) => {
                let mut all: Vec<(AccountSid, &Row)> = all.filter(|(account, _)| account.bits() != 0).collect();
                all.sort_by_key(|(account, row)| (std::cmp::Reverse(row.calls()), *account));
                all.truncate(*count);
                all
            }
        }
    }
}

impl Row {
    fn calls(&self) -> u64 {
        let started = self.values.iter().filter(|(series, _)| matches!(series, Series::Started(_)));
        started.map(|(_, count)| count).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The only test of the table, which is the process's.
    #[test]
    fn ten_thousand_accounts_have_few_series_and_each_is_known_exactly() {
        set_most_named(20);
        let account = |number: u128| AccountSid::new(number);
        for number in 0..10_000 {
            add(account(number), Series::Started(Direction::Inbound), number as u64 % 7 + 1);
            add(account(number), Series::Ended(Direction::Inbound, CallStatus::Completed), 1);
            add(account(number), Series::Used("calls-inbound", "minutes"), 2);
            add(account(number), Series::Webhooks("voice", "ok"), 3);
        }
        set_all([(account(1), Series::Registrations("sip"), 5)], |series| matches!(series, Series::Registrations(_)));
        let page_now = || page(&Whose::Named);
        let series = page_now().lines().filter(|line| !line.starts_with('#')).count();
        assert!(series <= 21 * 4 + 2, "{series} series");
        assert!(page_now().contains("dialtone_metrics_accounts_dropped_total 9980\n"));
        let sum = |name: &str| -> u64 {
            let page = page_now();
            let own = page.lines().filter(|line| line.starts_with(name));
            own.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
        };
        assert_eq!(sum("dialtone_usage_units_total"), 20_000, "nothing is lost");
        assert_eq!(sum("dialtone_registrations"), 5);
        set_all([], |series| matches!(series, Series::Registrations(_)));
        assert_eq!(sum("dialtone_registrations"), 0, "and what is gone is zero");

        let own = page(&Whose::Of(&[account(9_999)]));
        let line = format!(
            "dialtone_calls_started_total{{account=\"{}\",direction=\"inbound\",leg=\"sip\"}} 4\n",
            account(9_999)
        );
        assert!(own.contains(&line), "{own}");
        assert_eq!(own.lines().filter(|line| !line.starts_with('#')).count(), 4, "and nobody else's");
        let busiest = page(&Whose::Busiest(3));
        let started = busiest.lines().filter(|line| line.starts_with("dialtone_calls_started_total"));
        assert_eq!(started.map(|line| line.rsplit(' ').next().unwrap()).collect::<Vec<_>>(), ["7"; 3]);
    }
}
