//! `Budget`: how much an account may use in each period, and how much of that is gone. Not of Twilio.

use axum::Json;
use axum::extract::State;
use serde_json::{Map, Value, json};

use super::auth::Acting;
use super::concurrency::Setting;
use super::fault::Fault;
use super::form::{Form, invalid};
use super::usage::date_of;
use crate::account::Account;
use crate::api::View;
use crate::clock::wall_ms;
use crate::credit::Fund;
use crate::provision::BudgetDetail;
use crate::store::{self, Kind};
use crate::usage::{Budget, DAY_MS, Measure, Recurring, money};

/// What sets a budget.
pub const SETTINGS: &[&str] = &["Price", "Minutes", "Recurring"];
const MOST_MINUTES: u32 = 1_000_000_000;

pub(super) async fn fetch(State(view): State<View>, Acting(account): Acting) -> Result<Json<Value>, Fault> {
    Ok(Json(show(&view, &account).await?))
}

/// `Price` and `Minutes` are amounts, or empty for any; what is not given stays.
pub(super) async fn update(
    State(view): State<View>,
    Setting(account): Setting,
    form: Form,
) -> Result<Json<Value>, Fault> {
    let before = account.budget.unwrap_or(Budget { price: None, minutes: None, recurring: Recurring::Monthly });
    let price = match form.given("Price") {
        None => before.price,
        Some("") => None,
        Some(text) => Some(money::parse(text).filter(|price| *price >= 0).ok_or_else(|| {
            invalid("Price", text, "an amount such as 50.00, with six digits behind the point at most")
        })?),
    };
    if price.is_some() && view.directory.load().price_book(account.sid).is_none() {
        return Err(Fault::parameter(
            20_001,
            "Price limits nothing where nothing has a price: the account, or the one that made it, needs a price_book",
        ));
    }
    let minutes = match form.given("Minutes") {
        None => before.minutes,
        Some("") => None,
        Some(_) => form.number("Minutes", 0..=MOST_MINUTES)?.map(i64::from),
    };
    let recurring = match form.text("Recurring") {
        None => before.recurring,
        Some(text) => Recurring::named(text).ok_or_else(|| invalid("Recurring", text, &Recurring::NAMES.join(", ")))?,
    };
    let sid = account.sid.to_string();
    let now = wall_ms();
    let row = store::Resource {
        kind: Kind::Budget,
        parent: String::new(),
        sid: sid.clone(),
        account: sid.clone(),
        unique_name: None,
        detail: serde_json::to_string(&BudgetDetail { price, minutes, recurring }).unwrap_or_default(),
        created_ms: now,
        updated_ms: now,
    };
    let away = |_| Fault::store_is_away();
    if !view.provisioning.update(&sid, row.clone()).await.map_err(away)? {
        view.provisioning.create(row).await.map_err(away)?;
    }
    let changed = view.directory.load().account(account.sid).cloned();
    let changed = changed.ok_or_else(|| Fault::not_found(&sid))?;
    Ok(Json(show(&view, &changed).await?))
}

/// What is left of a budget of money; without one nobody pays.
pub(super) async fn balance(State(view): State<View>, Acting(account): Acting) -> Result<Json<Value>, Fault> {
    let currency =
        view.directory.load().price_book(account.sid).map_or("USD".to_owned(), |book| book.currency.to_uppercase());
    let left = match account.budget.and_then(|budget| Some((budget.price?, budget.recurring))) {
        None => "0.00".to_owned(),
        Some((price, recurring)) => {
            let fund = Fund::at(account.sid, Measure::Price, recurring, wall_ms());
            let spent = view.store.spent(&fund).await.map_err(|_| Fault::store_is_away())?;
            money::format(price - spent.used)
        }
    };
    Ok(Json(json!({ "account_sid": account.sid.to_string(), "balance": left, "currency": currency })))
}

async fn show(view: &View, account: &Account) -> Result<Value, Fault> {
    let mut shown = Map::new();
    let now = wall_ms();
    let recurring = account.budget.map_or(Recurring::Monthly, |budget| budget.recurring);
    for measure in Measure::ALL {
        let limit = account.budget.and_then(|budget| budget.of(measure));
        let fund = Fund::at(account.sid, measure, recurring, now);
        let spent = view.store.spent(&fund).await.map_err(|_| Fault::store_is_away())?;
        let written = |amount: i64| match measure {
            Measure::Price => json!(money::format(amount)),
            Measure::Minutes => json!(amount),
        };
        let left = limit.map(|limit| (limit - spent.used - spent.set_aside).max(0));
        shown.insert(
            measure.as_str().to_owned(),
            json!({
                "limit": limit.map(written),
                "used": written(spent.used),
                "set_aside": written(spent.set_aside),
                "left": left.map(written),
            }),
        );
    }
    let period = recurring.period(now);
    let is_bounded = recurring != Recurring::AllTime;
    let day = |day: u64| is_bounded.then(|| date_of(day * DAY_MS).to_string());
    let rest = json!({
        "account_sid": account.sid.to_string(),
        "recurring": recurring.as_str(),
        "start_date": day(period.first_day),
        "end_date": day(period.last_day),
        "price_unit": view.directory.load().price_book(account.sid).map(|book| book.currency.clone()),
        "uri": format!("/2010-04-01/Accounts/{}/Budget.json", account.sid),
    });
    shown.extend(rest.as_object().cloned().unwrap_or_default());
    Ok(Value::Object(shown))
}
