//! `Usage/Records`: what an account has used, by category and by span of time, added up from the ledger. Days are UTC.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use axum::Json;
use axum::extract::State;
use axum::http::{Method, Uri};
use axum::response::Response;
use serde_json::{Value, json};
use time::{Date, Duration, Month, OffsetDateTime};

use super::auth::Acting;
use super::fault::Fault;
use super::form::{Form, invalid};
use super::page::Page;
use super::resources::iso_8601;
use super::table::Table;
use crate::account::{Account, Directory};
use crate::api::View;
use crate::api::health::text;
use crate::clock::wall_ms;
use crate::ids::AccountSid;
use crate::store::Moment;
use crate::telemetry::accounts::{self, Whose};
use crate::usage::{CATEGORIES, Category, DAY_MS, Sum, Used, money};

/// The lists, and how each cuts time.
const LISTS: &[(&str, Cut)] = &[
    ("", Cut::Whole),
    ("/AllTime", Cut::Whole),
    ("/Daily", Cut::Days),
    ("/Monthly", Cut::Months),
    ("/Yearly", Cut::Years),
    ("/Today", Cut::Named(Named::Today)),
    ("/Yesterday", Cut::Named(Named::Yesterday)),
    ("/ThisMonth", Cut::Named(Named::ThisMonth)),
    ("/LastMonth", Cut::Named(Named::LastMonth)),
];

#[derive(Clone, Copy)]
enum Cut {
    Whole,
    Days,
    Months,
    Years,
    /// One span, whatever dates are given.
    Named(Named),
}

#[derive(Clone, Copy)]
enum Named {
    Today,
    Yesterday,
    ThisMonth,
    LastMonth,
}

/// Days, both of them in it.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Span {
    first: Date,
    last: Date,
}

/// Adds all lists to the table.
pub fn routes(table: Table) -> Table {
    LISTS.iter().fold(table, |table, (name, cut)| {
        let path = format!("/2010-04-01/Accounts/{{account}}/Usage/Records{name}.json");
        table
            .on(Method::GET, &path, move |view: State<View>, acting: Acting, uri: Uri, page: Page| {
                list(view.0, acting, uri, page, *cut)
            })
            .lists(&["Category", "StartDate", "EndDate", "IncludeSubaccounts"])
    })
}

/// The newest span first, and in it by category. Filtered by `Category`, `StartDate` and `EndDate`; with the accounts that
/// this one has made, unless `IncludeSubaccounts` is false.
async fn list(view: View, Acting(account): Acting, uri: Uri, page: Page, cut: Cut) -> Result<Json<Value>, Fault> {
    let query = &page.query;
    let today =
        OffsetDateTime::from_unix_timestamp((wall_ms() / 1000).cast_signed()).map_or(Date::MIN, OffsetDateTime::date);
    let accounts = match query.text("IncludeSubaccounts") {
        Some("false") => vec![account.sid],
        _ => with_those_made(account.sid, &view.directory.load()),
    };
    let categories: Vec<&Category> = match query.text("Category") {
        None => CATEGORIES.iter().collect(),
        Some(name) => CATEGORIES.iter().filter(|category| category.name == name).collect(),
    };
    let spans = spans(&view, &accounts, cut, query, today).await?;
    let first: usize = match &page.after {
        None => 0,
        Some(key) => usize::from_str(key).map_err(|_| invalid("PageToken", key, "a token of ours"))?,
    };
    let all = spans.len() * categories.len();
    let end = all.min(first.saturating_add(page.size as usize));
    let shown: Vec<(Span, &Category)> =
        (first.min(end)..end).map(|at| (spans[at / categories.len()], categories[at % categories.len()])).collect();
    let used = match (shown.first(), shown.last()) {
        (Some((newest, _)), Some((oldest, _))) => {
            let moment = Moment { from_ms: Some(day_ms(oldest.first)), below_ms: Some(day_ms(newest.last) + DAY_MS) };
            view.store.used(&accounts, moment).await.map_err(|_| Fault::store_is_away())?
        }
        _ => Vec::new(),
    };
    let by_day = by_day(&used);
    let last = (end < all).then(|| end.to_string());
    let directory = view.directory.load();
    let currency = directory.price_book(account.sid).map_or("usd", |book| book.currency.as_str());
    let items = shown.iter().map(|(span, category)| record(&account, currency, *span, category, &by_day)).collect();
    Ok(Json(page.envelope("usage_records", items, last, uri.path())))
}

/// What is counted of an account and of those that it has made, for a Prometheus of its own.
pub(super) async fn metrics(State(view): State<View>, Acting(account): Acting) -> Response {
    text(accounts::page(&Whose::Of(&with_those_made(account.sid, &view.directory.load()))))
}

/// An account, and those that it has made.
pub(super) fn with_those_made(account: AccountSid, directory: &Directory) -> Vec<AccountSid> {
    let made = directory.accounts().filter(|one| one.owner == Some(account)).map(|one| one.sid);
    let all: BTreeSet<AccountSid> = made.chain([account]).collect();
    all.into_iter().collect()
}

/// The spans that a list has, the newest first.
async fn spans(view: &View, accounts: &[AccountSid], cut: Cut, query: &Form, today: Date) -> Result<Vec<Span>, Fault> {
    if let Cut::Named(named) = cut {
        return Ok(vec![named.span(today)]);
    }
    let last = date(query, "EndDate", today)?.unwrap_or(today);
    let first = match date(query, "StartDate", today)? {
        Some(first) => first,
        None => {
            let first = view.store.first_use(accounts).await.map_err(|_| Fault::store_is_away())?;
            first.map_or(last, date_of).min(last)
        }
    };
    if first > last {
        return Ok(Vec::new());
    }
    Ok(cut.spans(Span { first, last }))
}

impl Named {
    fn span(self, today: Date) -> Span {
        let month = today.replace_day(1).unwrap_or(today);
        let day_before = |day: Date| day.previous_day().unwrap_or(day);
        match self {
            Named::Today => Span { first: today, last: today },
            Named::Yesterday => Span { first: day_before(today), last: day_before(today) },
            Named::ThisMonth => Span { first: month, last: today },
            Named::LastMonth => {
                let last = day_before(month);
                Span { first: last.replace_day(1).unwrap_or(last), last }
            }
        }
    }
}

/// Spans of one list; more are nobody's question.
const SPANS: usize = 4_000;

impl Cut {
    /// The pieces of a span, the newest first; those at its ends are cut off there.
    fn spans(self, whole: Span) -> Vec<Span> {
        let mut found = Vec::new();
        let mut last = whole.last;
        while found.len() < SPANS {
            let begin = match self {
                Cut::Whole | Cut::Named(_) => whole.first,
                Cut::Days => last,
                Cut::Months => last.replace_day(1).unwrap_or(last),
                Cut::Years => Date::from_calendar_date(last.year(), Month::January, 1).unwrap_or(last),
            };
            let first = begin.max(whole.first);
            found.push(Span { first, last });
            match first.previous_day() {
                Some(before) if before >= whole.first => last = before,
                _ => break,
            }
        }
        found
    }
}

/// `YYYY-MM-DD`, or so many days before today: `-30days`.
fn date(query: &Form, name: &str, today: Date) -> Result<Option<Date>, Fault> {
    use time::macros::format_description;
    let Some(text) = query.text(name) else { return Ok(None) };
    let days = text.strip_suffix("days").or_else(|| text.strip_suffix("day")).and_then(|days| days.parse::<i64>().ok());
    let found = match days {
        Some(days) if days.abs() < 100_000 => today.checked_add(Duration::days(days)),
        Some(_) => None,
        None => Date::parse(text, format_description!("[year]-[month]-[day]")).ok(),
    };
    found.map(Some).ok_or_else(|| invalid(name, text, "YYYY-MM-DD, or days before today such as -30days"))
}

fn day_ms(date: Date) -> u64 {
    u64::try_from(date.midnight().assume_utc().unix_timestamp()).unwrap_or(0) * 1000
}

pub(super) fn date_of(at_ms: u64) -> Date {
    OffsetDateTime::from_unix_timestamp((at_ms / 1000).cast_signed()).map_or(Date::MIN, OffsetDateTime::date)
}

/// By the category of the ledger and the day.
type ByDay<'a> = BTreeMap<(&'a str, u64), Vec<&'a Used>>;

fn by_day(used: &[Used]) -> ByDay<'_> {
    let mut found = ByDay::new();
    for one in used {
        found.entry((one.category.as_str(), one.day)).or_default().push(one);
    }
    found
}

fn record(account: &Account, currency: &str, span: Span, category: &Category, used: &ByDay<'_>) -> Value {
    let days = day_ms(span.first) / DAY_MS..=day_ms(span.last) / DAY_MS;
    let own = category.of.iter().flat_map(|name| used.range((*name, *days.start())..=(*name, *days.end())));
    let Sum { count, usage, price } = category.sum(own.flat_map(|(_, used)| used.iter().copied()));
    // What all of it costs is its own measure.
    let usage = if category.usage_unit == "usd" { money::format(price) } else { usage.to_string() };
    let (first, last) = (span.first.to_string(), span.last.to_string());
    let path = format!("/2010-04-01/Accounts/{}/Usage/Records", account.sid);
    let uri = |list: &str| format!("{path}{list}.json?Category={}&StartDate={first}&EndDate={last}", category.name);
    let lists: BTreeMap<&str, String> = [
        ("all_time", "/AllTime"),
        ("daily", "/Daily"),
        ("last_month", "/LastMonth"),
        ("monthly", "/Monthly"),
        ("this_month", "/ThisMonth"),
        ("today", "/Today"),
        ("yearly", "/Yearly"),
        ("yesterday", "/Yesterday"),
    ]
    .into_iter()
    .map(|(name, list)| (name, format!("{path}{list}.json?Category={}", category.name)))
    .collect();
    json!({
        "account_sid": account.sid.to_string(),
        "api_version": "2010-04-01",
        "as_of": iso_8601(wall_ms()),
        "category": category.name,
        "description": category.description,
        "count": count.to_string(),
        "count_unit": category.count_unit,
        "usage": usage,
        "usage_unit": category.usage_unit,
        "price": money::format(price),
        "price_unit": currency,
        "start_date": first,
        "end_date": last,
        "subresource_uris": lists,
        "uri": uri(""),
    })
}

#[cfg(test)]
mod tests {
    use time::macros::date;

    use super::*;

    #[test]
    fn time_is_cut_from_its_end_and_pieces_at_the_ends_are_cut_off() {
        let whole = Span { first: date!(2025 - 12 - 30), last: date!(2026 - 02 - 03) };
        let span = |first, last| Span { first, last };
        assert_eq!(Cut::Whole.spans(whole), [whole]);
        assert_eq!(Cut::Days.spans(whole).len(), 36);
        assert_eq!(Cut::Days.spans(whole)[1], span(date!(2026 - 02 - 02), date!(2026 - 02 - 02)));
        let months = [
            span(date!(2026 - 02 - 01), date!(2026 - 02 - 03)),
            span(date!(2026 - 01 - 01), date!(2026 - 01 - 31)),
            span(date!(2025 - 12 - 30), date!(2025 - 12 - 31)),
        ];
        assert_eq!(Cut::Months.spans(whole), months);
        let years =
            [span(date!(2026 - 01 - 01), date!(2026 - 02 - 03)), span(date!(2025 - 12 - 30), date!(2025 - 12 - 31))];
        assert_eq!(Cut::Years.spans(whole), years);
    }

    #[test]
    fn named_spans_are_those_of_the_calendar() {
        let today = date!(2026 - 03 - 01);
        assert_eq!(Named::Yesterday.span(today).first, date!(2026 - 02 - 28));
        assert_eq!(Named::ThisMonth.span(today), Span { first: today, last: today });
        assert_eq!(Named::LastMonth.span(today), Span { first: date!(2026 - 02 - 01), last: date!(2026 - 02 - 28) });
    }

    #[test]
    fn dates_are_days_or_count_from_today() {
        let today = date!(2026 - 03 - 01);
        let read = |text: &str| date(&Form::read(format!("StartDate={text}").as_bytes()), "StartDate", today);
        assert_eq!(read("2026-02-03"), Ok(Some(date!(2026 - 02 - 03))));
        assert_eq!(read("-30days"), Ok(Some(date!(2026 - 01 - 30))));
        assert!(read("2026-02-30").is_err() && read("tomorrow").is_err() && read("-999999999days").is_err());
    }
}
