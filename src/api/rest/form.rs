//! What a request asks for: the fields of a form or a query, read one by one. Unknown ones are passed over, as at Twilio.

use std::time::Duration;

use axum::extract::{FromRequest, Request};
use bytes::Bytes;
use url::Url;

use super::fault::Fault;
use super::table::Route;
use crate::twiml::{Endpoint, Method};

/// Fields in the order in which they came; a name may stand several times.
#[derive(Default)]
pub struct Form {
    fields: Vec<(String, String)>,
    /// What it was sent to, where that is known.
    route: Option<&'static Route>,
}

impl<S: Send + Sync> FromRequest<S> for Form {
    type Rejection = Fault;

    async fn from_request(request: Request, state: &S) -> Result<Form, Fault> {
        let route = Route::of(request.extensions(), request.method());
        let body = Bytes::from_request(request, state)
            .await
            .map_err(|_| Fault::new(413, 20_001, "The body is longer than 256 kB, or was cut off"))?;
        Ok(Form { route, ..Form::read(&body) })
    }
}

impl Form {
    /// The query of a request by this route.
    pub fn of_query(query: Option<&str>, route: Option<&'static Route>) -> Form {
        Form { route, ..Form::read(query.unwrap_or_default().as_bytes()) }
    }

    pub fn read(encoded: &[u8]) -> Form {
        Form { fields: url::form_urlencoded::parse(encoded).into_owned().collect(), route: None }
    }

    /// The field, if it is there and not empty.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.given(name).filter(|value| !value.is_empty())
    }

    /// The field as it was given, which may be empty.
    pub fn given(&self, name: &str) -> Option<&str> {
        self.check(name);
        self.find(name)
    }

    fn find(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The field, of which only is wanted whether it is there: it is refused then.
    pub fn refused(&self, name: &str) -> Option<&str> {
        self.find(name).filter(|value| !value.is_empty())
    }

    /// Every value that is given under a name, as it is.
    pub fn values(&self, name: &str) -> impl Iterator<Item = &str> {
        self.check(name);
        self.fields.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The values of a list: the name repeated, or one value with spaces between.
    pub fn list(&self, name: &str) -> impl Iterator<Item = &str> {
        self.check(name);
        self.fields.iter().filter(move |(known, _)| known == name).flat_map(|(_, value)| value.split_ascii_whitespace())
    }

    /// As it came, but for these.
    pub fn encoded_without(&self, names: &[&str]) -> String {
        let left = self.fields.iter().filter(|(name, _)| !names.contains(&name.as_str()));
        url::form_urlencoded::Serializer::new(String::new()).extend_pairs(left).finish()
    }

    /// What is read stands in the table of routes, and so in `/openapi.json`.
    fn check(&self, name: &str) {
        debug_assert!(
            self.route.is_none_or(|route| route.reads(name)),
            "{name} is read by {} and not said in the table of routes",
            self.route.map(Route::to_string).unwrap_or_default()
        );
    }

    pub fn number(&self, name: &str, range: std::ops::RangeInclusive<u32>) -> Result<Option<u32>, Fault> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let number = text.parse().ok().filter(|number| range.contains(number));
        number.map(Some).ok_or_else(|| invalid(name, text, &format!("{} to {}", range.start(), range.end())))
    }

    pub fn flag(&self, name: &str) -> Result<Option<bool>, Fault> {
        match self.text(name) {
            None => Ok(None),
            Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some(other) => Err(invalid(name, other, "true or false")),
        }
    }

    pub fn seconds(&self, name: &str, range: std::ops::RangeInclusive<u32>) -> Result<Option<Duration>, Fault> {
        Ok(self.number(name, range)?.map(|seconds| Duration::from_secs(seconds.into())))
    }

    /// A URL with the method of another field; POST where that is not said.
    pub fn endpoint(&self, url: &str, method: &str, code: u32) -> Result<Option<Endpoint>, Fault> {
        let method = match self.text(method) {
            None => Method::Post,
            Some(text) if text.eq_ignore_ascii_case("POST") => Method::Post,
            Some(text) if text.eq_ignore_ascii_case("GET") => Method::Get,
            Some(text) => return Err(invalid(method, text, "GET or POST")),
        };
        let Some(text) = self.text(url) else { return Ok(None) };
        let is_http = Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        match is_http {
            true => Ok(Some(Endpoint { url: text.to_owned(), method })),
            false => Err(Fault::parameter(code, format!("{url} is not a valid URL: {text}"))),
        }
    }
}

/// 20001, with what would have been right.
pub fn invalid(name: &str, value: &str, wanted: &str) -> Fault {
    Fault::parameter(20_001, format!("Invalid parameter {name}: {value} is not {wanted}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_and_lists_come_in_both_forms() {
        let form = Form::read(b"To=%2B1555&Event=initiated&Event=answered+completed&Empty=&Timeout=60");
        assert_eq!((form.text("To"), form.text("Empty"), form.text("Nothing")), (Some("+1555"), None, None));
        assert_eq!(form.list("Event").collect::<Vec<_>>(), ["initiated", "answered", "completed"]);
        assert_eq!(form.seconds("Timeout", 1..=600), Ok(Some(Duration::from_secs(60))));
    }

    #[test]
    fn wrong_values_are_refused_with_what_would_be_right() {
        let form = Form::read(b"Timeout=601&Url=ftp%3A%2F%2Fhost&Method=PUT&Good=http%3A%2F%2Fhost");
        assert_eq!(form.number("Timeout", 1..=600), Err(invalid("Timeout", "601", "1 to 600")));
        assert!(form.endpoint("Url", "Nothing", 21_205).is_err());
        assert_eq!(form.endpoint("Good", "Method", 21_205), Err(invalid("Method", "PUT", "GET or POST")));
    }
}
