//! Secrets: never shown by `Debug`; written as they are, or as a reference to a file or the environment.

use std::fmt;

use subtle::ConstantTimeEq;

/// A text that must not be seen.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    /// The text itself, for where it is used.
    pub fn expose(&self) -> &str {
        &self.0
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Compares in a time that does not depend on where the texts differ.
    pub fn matches(&self, other: &str) -> bool {
        !self.is_empty() && bool::from(self.0.as_bytes().ct_eq(other.as_bytes()))
    }

    /// Reads `file:PATH` (without the line end) and `${ENV}`; any other text is the secret itself.
    pub fn resolve(written: &str) -> Result<Secret, String> {
        if let Some(path) = written.strip_prefix("file:") {
            let text =
                std::fs::read_to_string(path).map_err(|error| format!("cannot read the secret in {path}: {error}"))?;
            return Ok(Secret(text.trim_end_matches(['\r', '\n']).to_owned()));
        }
        match written.strip_prefix("${").and_then(|rest| rest.strip_suffix('}')) {
            Some(name) => {
                std::env::var(name).map(Secret).map_err(|_| format!("the environment has no variable {name}"))
            }
            None => Ok(Secret(written.to_owned())),
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}
