//! Price books of the file: what is written as text becomes exact amounts, and editions of one name one book.

use std::sync::Arc;

use time::Date;
use time::macros::format_description;
use toml::Spanned;

use super::ConfigError;
use super::file;
use super::read::Reader;
use crate::usage::{Budget, Edition, LEAVES, Price, PriceBook, Recurring, Tier, money};

/// Every book of the file, its editions in the order of their days.
pub(super) fn books(reader: &Reader<'_>, written: &[file::PriceBook]) -> Result<Vec<Arc<PriceBook>>, ConfigError> {
    let mut books: Vec<PriceBook> = Vec::new();
    for one in written {
        let edition = Edition { from_ms: from_ms(reader, one.from.as_ref())?, prices: prices(reader, &one.prices)? };
        let currency = currency(reader, one.currency.as_ref())?;
        let Some(book) = books.iter_mut().find(|book| book.name == *one.name.get_ref()) else {
            books.push(PriceBook { name: one.name.get_ref().clone(), currency, editions: vec![edition] });
            continue;
        };
        if book.currency != currency {
            return Err(reader.fault(&one.name, format!("price book {} has two currencies", book.name)));
        }
        if book.editions.iter().any(|other| other.from_ms == edition.from_ms) {
            return Err(reader.fault(&one.name, format!("price book {} stands twice from the same day on", book.name)));
        }
        book.editions.push(edition);
        book.editions.sort_by_key(|edition| edition.from_ms);
    }
    Ok(books.into_iter().map(Arc::new).collect())
}

fn currency(reader: &Reader<'_>, written: Option<&Spanned<String>>) -> Result<String, ConfigError> {
    let Some(written) = written else { return Ok("usd".to_owned()) };
    let code = written.get_ref().to_ascii_lowercase();
    match code.len() == 3 && code.bytes().all(|byte| byte.is_ascii_lowercase()) {
        true => Ok(code),
        false => {
            Err(reader.fault(written, "wrong value of `currency`: it is not a code of three letters such as \"usd\""))
        }
    }
}

fn from_ms(reader: &Reader<'_>, written: Option<&Spanned<String>>) -> Result<u64, ConfigError> {
    let Some(written) = written else { return Ok(0) };
    let day = Date::parse(written.get_ref(), format_description!("[year]-[month]-[day]")).ok();
    let seconds = day.and_then(|day| u64::try_from(day.midnight().assume_utc().unix_timestamp()).ok());
    let message = "wrong value of `from`: it is not a day such as \"2026-01-01\"";
    seconds.map(|seconds| seconds * 1000).ok_or_else(|| reader.fault(written, message))
}

fn prices(reader: &Reader<'_>, written: &[file::Price]) -> Result<Vec<Price>, ConfigError> {
    let mut prices: Vec<Price> = Vec::new();
    for one in written {
        let category = one.category.get_ref();
        if !LEAVES.contains(&category.as_str()) {
            let known = LEAVES.join(", ");
            let message =
                format!("wrong value of `category`: nothing is counted in \"{category}\" itself; there are {known}");
            return Err(reader.fault(&one.category, message));
        }
        if prices.iter().any(|other| other.category == *category && other.prefix == one.prefix) {
            let message = format!("{category} has two prices for the prefix \"{}\"", one.prefix);
            return Err(reader.fault(&one.category, message));
        }
        let is_of_messages = category.starts_with("sms-");
        let per_unit = |minute: Option<&Spanned<String>>, message: Option<&Spanned<String>>| {
            let (name, wanted, other) = match is_of_messages {
                true => ("per_message", message, minute),
                false => ("per_minute", minute, message),
            };
            match (wanted, other) {
                (_, Some(other)) => Err(reader.fault(other, format!("{category} has a price {name}, and no other"))),
                (None, None) => Err(reader.fault(&one.category, format!("{category} has no `{name}`"))),
                (Some(wanted), None) => amount(reader, name, wanted),
            }
        };
        let mut tiers = Vec::new();
        for tier in &one.tiers {
            let per_unit = per_unit(tier.per_minute.as_ref(), tier.per_message.as_ref())?;
            tiers.push(Tier { above: tier.above, per_unit });
        }
        tiers.sort_by_key(|tier| tier.above);
        let (first_increment, increment) = increment(reader, one.increment.as_ref())?;
        prices.push(Price {
            category: category.clone(),
            prefix: one.prefix.clone(),
            per_unit: per_unit(one.per_minute.as_ref(), one.per_message.as_ref())?,
            setup: one.setup.as_ref().map_or(Ok(0), |setup| amount(reader, "setup", setup))?,
            first_increment,
            increment,
            tiers,
        });
    }
    Ok(prices)
}

/// How much an account may use.
pub(super) fn budget(
    reader: &Reader<'_>,
    written: &Spanned<file::Budget>,
    has_prices: bool,
) -> Result<Budget, ConfigError> {
    let file::Budget { price, minutes, recurring } = written.get_ref();
    if let Some(price) = price.as_ref().filter(|_| !has_prices) {
        let message =
            "a budget of a price holds nothing back where nothing has a price: give the account a `price_book`";
        return Err(reader.fault(price, message));
    }
    if price.is_none() && minutes.is_none() {
        return Err(reader.fault(written, "`budget` limits nothing: give it a `price`, or `minutes`"));
    }
    let recurring = match recurring {
        None => Recurring::Monthly,
        Some(written) => Recurring::named(written.get_ref()).ok_or_else(|| {
            let known = Recurring::NAMES.join(", ");
            reader.fault(written, format!("wrong value of `recurring`: \"{}\" is none of {known}", written.get_ref()))
        })?,
    };
    let price = price.as_ref().map(|price| amount(reader, "price", price)).transpose()?;
    Ok(Budget { price, minutes: minutes.map(i64::from), recurring })
}

fn amount(reader: &Reader<'_>, name: &str, written: &Spanned<String>) -> Result<i64, ConfigError> {
    money::parse(written.get_ref()).filter(|amount| *amount >= 0).ok_or_else(|| {
        let message = format!(
            "wrong value of `{name}`: it is not an amount such as \"0.0130\", with six digits behind the point at most"
        );
        reader.fault(written, message)
    })
}

fn increment(reader: &Reader<'_>, written: Option<&Spanned<String>>) -> Result<(u64, u64), ConfigError> {
    let Some(written) = written else { return Ok((60, 60)) };
    let parts = written.get_ref().split_once('/');
    let read = parts.and_then(|(first, next)| Some((first.trim().parse().ok()?, next.trim().parse().ok()?)));
    read.filter(|(first, next): &(u64, u64)| (1..=3600).contains(first) && (1..=3600).contains(next)).ok_or_else(|| {
        let message =
            "wrong value of `increment`: it is not FIRST/NEXT in seconds, such as \"60/60\", \"30/6\" or \"1/1\"";
        reader.fault(written, message)
    })
}
