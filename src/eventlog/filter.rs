//! Which events somebody wants, or may have.

use std::fmt;

use super::logged::{Logged, facet_names};
use super::types::{EventType, TYPES};

/// All must hold that are there; of the values of one any.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filter {
    types: Option<Vec<&'static EventType>>,
    facets: Vec<(&'static str, Vec<String>)>,
}

/// What is wrong with a filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FilterError {
    Unknown(String),
    /// There are no such events.
    NoSuchType(String),
    /// A token allows less of that.
    Wider(&'static str),
}

impl fmt::Display for FilterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FilterError::Unknown(name) => {
                let known: Vec<&str> = ["Type"].into_iter().chain(facet_names()).collect();
                write!(f, "there is no filter {name}; there are {}", known.join(", "))
            }
            FilterError::NoSuchType(name) => {
                let known: Vec<&str> = TYPES.iter().map(|kind| kind.short).collect();
                write!(f, "there are no events of the type {name}; there are {}", known.join(", "))
            }
            FilterError::Wider(name) => write!(f, "the token does not allow as much as {name} asks for"),
        }
    }
}

impl Filter {
    /// Reads names and values, as they stand in a query; a name may be there several times, and `Type` may have several values
    /// with commas between.
    pub fn read<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Filter, FilterError> {
        let mut filter = Filter::default();
        for (name, value) in pairs {
            // The SDKs are said to write it in either way.
            if name.eq_ignore_ascii_case("type") {
                for name in value.split([',', ' ']).filter(|name| !name.is_empty()) {
                    let known = types(name);
                    if known.is_empty() {
                        return Err(FilterError::NoSuchType(name.to_owned()));
                    }
                    let types = filter.types.get_or_insert_default();
                    types.extend(known);
                    types.sort_by_key(|kind| kind.name);
                    types.dedup();
                }
                continue;
            }
            let facet = facet_names().find(|known| known.eq_ignore_ascii_case(name));
            let facet = facet.ok_or_else(|| FilterError::Unknown(name.to_owned()))?;
            match filter.facets.iter_mut().find(|(known, _)| *known == facet) {
                Some((_, values)) => values.push(value.to_owned()),
                None => filter.facets.push((facet, vec![value.to_owned()])),
            }
        }
        Ok(filter)
    }

    /// What a token allows, of which less is wanted: where both say something of a name, nothing may be wanted that the token does
    /// not allow.
    pub fn narrowed(&self, wanted: Filter) -> Result<Filter, FilterError> {
        let mut both = wanted;
        match (&self.types, &both.types) {
            (Some(allowed), Some(wanted)) if wanted.iter().any(|kind| !allowed.contains(kind)) => {
                return Err(FilterError::Wider("Type"));
            }
            (Some(allowed), None) => both.types = Some(allowed.clone()),
            _ => {}
        }
        for (name, allowed) in &self.facets {
            match both.facets.iter().find(|(known, _)| known == name) {
                Some((_, wanted)) if wanted.iter().any(|value| !allowed.contains(value)) => {
                    return Err(FilterError::Wider(name));
                }
                Some(_) => {}
                None => both.facets.push((name, allowed.clone())),
            }
        }
        Ok(both)
    }

    pub fn takes(&self, event: &Logged) -> bool {
        self.takes_type(event.kind)
            && self.facets.iter().all(|(name, values)| values.iter().any(|value| event.has(name, value)))
    }

    fn takes_type(&self, kind: Option<&'static EventType>) -> bool {
        self.types.as_ref().is_none_or(|types| kind.is_some_and(|kind| types.contains(&kind)))
    }

    /// Whether any event of a group, like `call`, would be taken.
    pub fn takes_group(&self, group: &str) -> bool {
        self.types.as_ref().is_none_or(|wanted| types(group).iter().any(|kind| wanted.contains(kind)))
    }

    /// The values that something must have for that name; `None`: any.
    pub fn values(&self, name: &str) -> Option<&[String]> {
        self.facets.iter().find(|(known, _)| *known == name).map(|(_, values)| values.as_slice())
    }
}

/// Those of a name, long or short, or of a group of short ones.
fn types(name: &str) -> Vec<&'static EventType> {
    let in_group = |kind: &EventType| kind.short.split('.').next() == Some(name);
    TYPES.iter().filter(|kind| kind.name == name || kind.short == name || in_group(kind)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::AccountSid;

    fn logged(kind: &str, call: &str, from: &str) -> Logged {
        let text = format!(
            r#"{{"id":"EV1","type":"{kind}","callsid":"{call}","data":{{"from":"{from}","to":"+2","request":{{"parameters":{{"From":"{from}"}}}}}}}}"#
        );
        Logged::read(AccountSid::new(1), 7, 0, &text).unwrap()
    }

    fn read(text: &str) -> Result<Filter, FilterError> {
        let pairs: Vec<(String, String)> = url::form_urlencoded::parse(text.as_bytes()).into_owned().collect();
        Filter::read(pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())))
    }

    #[test]
    fn events_are_taken_by_type_group_and_value() {
        let answered = logged("com.twilio.voice.status-callback.call.answered", "CA1", "+1");
        for (filter, takes) in [
            ("", true),
            ("Type=call", true),
            ("Type=call.answered", true),
            ("Type=com.twilio.voice.status-callback.call.answered", true),
            ("Type=call.ringing", false),
            ("Type=call.ringing,call.answered", true),
            ("Type=recording", false),
            ("CallSid=CA1", true),
            ("CallSid=CA2", false),
            ("CallSid=CA2&CallSid=CA1", true),
            ("From=%2B1", true),
            ("To=%2B1", false),
            ("PhoneNumber=%2B2", true),
            ("PhoneNumber=%2B3", false),
            ("Type=call&CallSid=CA1&From=%2B3", false),
            ("Identity=jenny", false),
        ] {
            assert_eq!(read(filter).unwrap().takes(&answered), takes, "{filter}");
        }
        assert_eq!(read("Type=call.unknown"), Err(FilterError::NoSuchType("call.unknown".into())));
        assert_eq!(read("Colour=red"), Err(FilterError::Unknown("Colour".into())));
    }

    #[test]
    fn query_only_narrows() {
        let token = read("Type=call&CallSid=CA1").unwrap();
        for (wanted, error) in [
            ("", None),
            ("Type=call.answered", None),
            ("CallSid=CA1&From=%2B1", None),
            ("Type=recording", Some(FilterError::Wider("Type"))),
            ("Type=call,recording", Some(FilterError::Wider("Type"))),
            ("CallSid=CA2", Some(FilterError::Wider("CallSid"))),
            ("CallSid=CA1&CallSid=CA2", Some(FilterError::Wider("CallSid"))),
        ] {
            let narrowed = token.narrowed(read(wanted).unwrap());
            assert_eq!(narrowed.as_ref().err(), error.as_ref(), "{wanted}");
            if let Ok(narrowed) = narrowed {
                let other = logged("com.twilio.voice.status-callback.call.answered", "CA2", "+1");
                assert!(!narrowed.takes(&other), "{wanted}: another call");
                assert!(
                    !narrowed.takes(&logged("com.twilio.voice.status-callback.recording.absent", "CA1", "+1")),
                    "{wanted}"
                );
            }
        }
    }

    #[test]
    fn every_type_is_found_by_both_names() {
        for kind in TYPES {
            assert_eq!(super::super::named(kind.name), Some(kind));
            assert_eq!(super::super::named(kind.short), Some(kind));
        }
    }
}
