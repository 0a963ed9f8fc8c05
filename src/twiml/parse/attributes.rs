//! Attributes of one element, taken one by one; what is left at the end was unknown.

use std::ops::RangeInclusive;

use crate::twiml::parse::xml::Element;
use crate::twiml::parse::{MAX_LOOPS, Notices, quote};
use crate::twiml::port::Method;

/// The attributes of an element that have not been asked for yet.
pub(super) struct Attributes<'a> {
    element: &'a str,
    left: Vec<(&'a str, &'a str)>,
}

impl<'a> Attributes<'a> {
    pub fn of(element: &'a Element) -> Self {
        let left = element.attributes.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        Self { element: &element.name, left }
    }

    /// The value as it stands.
    pub fn text(&mut self, name: &str) -> Option<&'a str> {
        let at = self.left.iter().position(|(present, _)| *present == name)?;
        Some(self.left.swap_remove(at).1)
    }

    /// Takes the attribute if it is present and says `word`.
    pub fn take_if(&mut self, name: &str, word: &str) -> bool {
        let at = self.left.iter().position(|(present, value)| *present == name && value.trim() == word);
        at.map(|at| self.left.swap_remove(at)).is_some()
    }

    /// A whole number; out of `range`, or no number: a notice and the nearest end, or the default.
    pub fn integer(
        &mut self,
        name: &'static str,
        range: RangeInclusive<u32>,
        default: u32,
        notices: &mut Notices,
    ) -> u32 {
        let Some(text) = self.text(name) else { return default };
        match text.trim().parse::<i64>() {
            Ok(number) => {
                let cut = number.clamp(i64::from(*range.start()), i64::from(*range.end()));
                if cut != number {
                    let (least, most) = (range.start(), range.end());
                    notices.schema(format!("{name} of {} is not in {least}..={most}: {number}", self.element));
                }
                u32::try_from(cut).unwrap_or(default)
            }
            Err(_) => {
                notices.schema(format!("{name} of {} is no whole number: {}", self.element, quote(text)));
                default
            }
        }
    }

    pub fn boolean(&mut self, name: &'static str, default: bool, notices: &mut Notices) -> bool {
        self.choice(name, &[("true", true), ("false", false)], default, notices)
    }

    pub fn method(&mut self, name: &'static str, default: Method, notices: &mut Notices) -> Method {
        self.choice(name, &[("GET", Method::Get), ("POST", Method::Post)], default, notices)
    }

    /// How often something plays. 0 is endless.
    pub fn loops(&mut self, notices: &mut Notices) -> u32 {
        self.integer("loop", 0..=MAX_LOOPS, 1, notices)
    }

    /// One of a few words, in any case.
    pub fn choice<T: Copy>(&mut self, name: &'static str, words: &[(&str, T)], default: T, notices: &mut Notices) -> T {
        let Some(text) = self.text(name) else { return default };
        let chosen = words.iter().find(|(word, _)| text.trim().eq_ignore_ascii_case(word));
        chosen.map_or_else(
            || {
                notices.schema(format!("{name} of {} cannot be {}", self.element, quote(text)));
                default
            },
            |(_, value)| *value,
        )
    }

    /// Attributes of Twilio that have no effect here yet: a notice for each that is present.
    pub fn not_yet(&mut self, names: &[&'static str], notices: &mut Notices) {
        for name in names {
            if self.text(name).is_some() {
                notices.schema(format!("{name} of {} has no effect yet", self.element));
            }
        }
    }

    /// Attributes that are known and change nothing that we do.
    pub fn accept(&mut self, names: &[&'static str]) {
        for name in names {
            let _ = self.text(name);
        }
    }

    /// Remarks on what nobody asked for.
    pub fn finish(self, notices: &mut Notices) {
        for (name, _) in self.left {
            // Namespaces are declared by some generators, to no effect.
            if name != "xmlns" && !name.starts_with("xmlns:") && !name.starts_with("xsi:") {
                notices.schema(format!("unknown attribute {} of {}: ignored", quote(name), quote(self.element)));
            }
        }
    }
}
