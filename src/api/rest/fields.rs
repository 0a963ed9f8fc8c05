//! What a resource's parameters may be: a table for each resource, read from a form into the JSON that is stored and shown.

use std::ops::RangeInclusive;

use serde_json::{Map, Value, json};
use url::Url;

use super::fault::Fault;
use super::form::{Form, invalid};
use crate::store::Kind;

/// A parameter, and the key under which it is stored and shown.
pub struct Field {
    pub param: &'static str,
    pub key: &'static str,
    pub shape: Shape,
    /// What it is when it is not given; [`Usual::Required`]: it must be.
    pub usual: Usual,
    /// Whether it is kept and shown, and does nothing: a program that says it runs, and is told so in the API's description.
    pub is_idle: bool,
}

/// What a value may be.
pub enum Shape {
    /// Up to so many characters.
    Text(usize),
    Url,
    Method,
    Flag,
    Number(RangeInclusive<u32>),
    OneOf(&'static [&'static str]),
    /// The sid of another resource of the account, and the error number where there is no such one.
    Sid(Kind, u32),
}

/// The value of a parameter that is not given.
pub enum Usual {
    Required,
    Null,
    Text(&'static str),
    Flag(bool),
    Number(u32),
}

impl Usual {
    fn value(&self) -> Value {
        match self {
            Usual::Required | Usual::Null => Value::Null,
            Usual::Text(text) => json!(text),
            Usual::Flag(flag) => json!(flag),
            Usual::Number(number) => json!(number),
        }
    }
}

/// A field in one line of a table.
pub const fn field(param: &'static str, key: &'static str, shape: Shape, usual: Usual) -> Field {
    Field { param, key, shape, usual, is_idle: false }
}

/// A field that is kept and shown, and does nothing.
pub const fn idle(param: &'static str, key: &'static str, shape: Shape, usual: Usual) -> Field {
    Field { param, key, shape, usual, is_idle: true }
}

/// Reads a form. What it does not name stays as in `present`, or is the usual value of a new resource; a parameter that is
/// given and empty goes back to the usual value.
pub fn read(form: &Form, fields: &[Field], present: Option<Map<String, Value>>) -> Result<Map<String, Value>, Fault> {
    let is_new = present.is_none();
    let mut detail = present.unwrap_or_default();
    for field in fields {
        let value = match form.given(field.param) {
            None if is_new && matches!(field.usual, Usual::Required) => return Err(missing(field.param)),
            None if is_new || !detail.contains_key(field.key) => field.usual.value(),
            None => continue,
            Some("") if matches!(field.usual, Usual::Required) => return Err(missing(field.param)),
            Some("") => field.usual.value(),
            Some(text) => field.shape.read(field.param, text)?,
        };
        detail.insert(field.key.to_owned(), value);
    }
    Ok(detail)
}

pub fn missing(param: &str) -> Fault {
    Fault::parameter(20_001, format!("{param} is required"))
}

impl Shape {
    fn read(&self, param: &str, text: &str) -> Result<Value, Fault> {
        match self {
            Shape::Text(longest) if text.chars().count() > *longest => {
                Err(Fault::parameter(20_001, format!("{param} is longer than {longest} characters")))
            }
            Shape::Text(_) | Shape::Sid(..) => Ok(json!(text)),
            Shape::Url => {
                let is_http =
                    Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
                if is_http { Ok(json!(text)) } else { Err(invalid(param, text, "a URL with http or https")) }
            }
            Shape::Method => match text.to_ascii_uppercase().as_str() {
                method @ ("GET" | "POST") => Ok(json!(method)),
                _ => Err(invalid(param, text, "GET or POST")),
            },
            Shape::Flag => match text.to_ascii_lowercase().as_str() {
                "true" => Ok(json!(true)),
                "false" => Ok(json!(false)),
                _ => Err(invalid(param, text, "true or false")),
            },
            Shape::Number(range) => {
                let number = text.parse::<u32>().ok().filter(|number| range.contains(number));
                number
                    .map(|number| json!(number))
                    .ok_or_else(|| invalid(param, text, &format!("{} to {}", range.start(), range.end())))
            }
            Shape::OneOf(values) => match values.iter().find(|value| value.eq_ignore_ascii_case(text)) {
                Some(value) => Ok(json!(value)),
                None => Err(invalid(param, text, &values.join(" or "))),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIELDS: &[Field] = &[
        field("FriendlyName", "friendly_name", Shape::Text(4), Usual::Required),
        field("VoiceUrl", "voice_url", Shape::Url, Usual::Null),
        field("VoiceMethod", "voice_method", Shape::Method, Usual::Text("POST")),
        field("Secure", "secure", Shape::Flag, Usual::Flag(false)),
        field("Weight", "weight", Shape::Number(1..=9), Usual::Number(5)),
    ];

    fn object(value: Value) -> Map<String, Value> {
        value.as_object().cloned().unwrap()
    }

    #[test]
    fn new_resource_has_usual_values_and_a_change_touches_only_what_it_names() {
        let made = read(&Form::read(b"FriendlyName=abcd&VoiceMethod=get&Foo=1"), FIELDS, None).unwrap();
        let expected =
            json!({"friendly_name": "abcd", "voice_url": null, "voice_method": "GET", "secure": false, "weight": 5});
        assert_eq!(made, object(expected));
        let changed =
            read(&Form::read(b"VoiceUrl=http%3A%2F%2Fh%2F&VoiceMethod=&Secure=TRUE"), FIELDS, Some(made)).unwrap();
        let expected = json!({"friendly_name": "abcd", "voice_url": "http://h/", "voice_method": "POST", "secure": true, "weight": 5});
        assert_eq!(changed, object(expected));
    }

    #[test]
    fn wrong_values_are_refused() {
        for form in [
            "",
            "FriendlyName=",
            "FriendlyName=abcde",
            "FriendlyName=a&VoiceUrl=ftp%3A%2F%2Fh",
            "FriendlyName=a&VoiceMethod=PUT",
            "FriendlyName=a&Secure=1",
            "FriendlyName=a&Weight=0",
            "FriendlyName=a&Weight=x",
        ] {
            assert!(read(&Form::read(form.as_bytes()), FIELDS, None).is_err(), "{form}");
        }
    }
}
