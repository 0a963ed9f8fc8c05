//! What is wrong with a configuration, and where.

use std::fmt;
use std::ops::Range;
use std::path::Path;

/// A fault in a configuration, for a person: file, line, key, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    file: String,
    line: Option<usize>,
    message: String,
}

impl ConfigError {
    pub(super) fn unreadable(path: &Path, error: &std::io::Error) -> ConfigError {
        ConfigError { file: path.display().to_string(), line: None, message: format!("cannot be read: {error}") }
    }

    /// A fault at a place in the text.
    pub(super) fn at(name: &str, text: &str, span: Range<usize>, message: impl Into<String>) -> ConfigError {
        let line = text.get(..span.start).map(|before| before.matches('\n').count() + 1);
        ConfigError { file: name.to_owned(), line, message: message.into() }
    }

    pub(super) fn general(name: &str, message: impl Into<String>) -> ConfigError {
        ConfigError { file: name.to_owned(), line: None, message: message.into() }
    }

    /// Turns the TOML reader's words into ours: an unknown key gets the nearest right name.
    pub(super) fn from_toml(name: &str, text: &str, error: &toml::de::Error) -> ConfigError {
        let span = error.span().unwrap_or(0..0);
        let message = error.message();
        let message = match unknown_key(message) {
            Some((key, known)) => match nearest(key, &known) {
                Some(right) => format!("unknown key `{key}`: did you mean `{right}`?"),
                None => format!("unknown key `{key}`: known here are {}", known.join(", ")),
            },
            None => match text.get(span.clone()).zip(key_at(text, span.start)) {
                Some((_, key)) => format!("wrong value of `{key}`: {message}"),
                None => message.to_owned(),
            },
        };
        ConfigError::at(name, text, span, message)
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", self.file, self.message),
            None => write!(f, "{}: {}", self.file, self.message),
        }
    }
}

impl std::error::Error for ConfigError {}

/// Takes ``unknown field `x`, expected one of `a`, `b` `` apart.
fn unknown_key(message: &str) -> Option<(&str, Vec<&str>)> {
    let mut quoted = message.strip_prefix("unknown field ")?.split('`').skip(1).step_by(2);
    Some((quoted.next()?, quoted.collect()))
}

fn nearest<'a>(key: &str, known: &[&'a str]) -> Option<&'a str> {
    let scored = known.iter().map(|name| (strsim::normalized_damerau_levenshtein(key, name), *name));
    scored.max_by(|one, other| one.0.total_cmp(&other.0)).filter(|(score, _)| *score >= 0.5).map(|(_, name)| name)
}

/// The key of the line on which a value stands.
fn key_at(text: &str, at: usize) -> Option<&str> {
    let start = text.get(..at)?.rfind('\n').map_or(0, |newline| newline + 1);
    let (key, _) = text[start..].lines().next()?.split_once('=')?;
    Some(key.trim()).filter(|key| !key.is_empty())
}
