//! Parameters (`;name=value`) and comma lists, with quoted strings and angle brackets respected.

use super::scan;

/// A view of `;name=value;flag` text. Values keep their quotes; [`Params::get`] takes them off where nothing is escaped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Params<'a>(pub &'a str);

impl<'a> Params<'a> {
    /// Name and value of each parameter, white space taken off; a flag's value is `None`.
    pub fn iter(self) -> impl Iterator<Item = (&'a str, Option<&'a str>)> {
        split_outside_quotes(self.0, b';').map(str::trim_ascii).filter(|part| !part.is_empty()).map(|part| {
            match scan::split_once(part, b'=') {
                Some((name, value)) => (name.trim_ascii(), Some(value.trim_ascii())),
                None => (part, None),
            }
        })
    }

    /// The parameter's value, without quotes; an empty text for a flag.
    pub fn get(self, name: &str) -> Option<&'a str> {
        let mut rest = self.0;
        loop {
            rest = rest.trim_ascii_start();
            let end = find_outside_quotes(rest, b';');
            // Most that are passed over differ in their first letter: they are not read any further.
            let first = rest.as_bytes().first().map(u8::to_ascii_lowercase);
            if first == name.as_bytes().first().map(u8::to_ascii_lowercase) {
                let part = rest[..end.unwrap_or(rest.len())].trim_ascii_end();
                let (found, value) = scan::split_once(part, b'=').unwrap_or((part, ""));
                if found.trim_ascii_end().eq_ignore_ascii_case(name) {
                    return Some(unquoted(value.trim_ascii_start()));
                }
            }
            rest = &rest[end? + 1..];
        }
    }

    pub fn has(self, name: &str) -> bool {
        self.get(name).is_some()
    }
}

/// Takes the quotes off; a quoted pair inside stays as it is written.
pub fn unquoted(value: &str) -> &str {
    value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(value)
}

/// The values of a comma-separated header (RFC 3261 s7.3.1); commas in quotes and in `<...>` do not separate.
pub fn split_commas(text: &str) -> impl Iterator<Item = &str> {
    split_outside_quotes(text, b',').map(str::trim_ascii).filter(|value| !value.is_empty())
}

fn split_outside_quotes(text: &str, separator: u8) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let current = rest?;
        let Some(at) = find_outside_quotes(current, separator) else {
            rest = None;
            return Some(current);
        };
        rest = Some(&current[at + 1..]);
        Some(&current[..at])
    })
}

/// The place of an ASCII byte outside quoted strings and angle brackets.
///
/// Runs several times for every message: the common texts have no quote and no bracket before it, or no such byte at all.
pub fn find_outside_quotes(text: &str, wanted: u8) -> Option<usize> {
    let first = text.bytes().position(|byte| byte == wanted || byte == b'"' || byte == b'<')?;
    if text.as_bytes()[first] == wanted {
        return Some(first);
    }
    let (mut quoted, mut escaped, mut angle) = (false, false, false);
    for (at, byte) in text.bytes().enumerate() {
        if escaped {
            escaped = false;
        } else if quoted {
            match byte {
                b'\\' => escaped = true,
                b'"' => quoted = false,
                _ => {}
            }
        } else if byte == wanted && (!angle || wanted == b'>') {
            return Some(at);
        } else {
            match byte {
                b'"' => quoted = true,
                b'<' => angle = true,
                b'>' => angle = false,
                _ => {}
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn separators_in_quotes_and_brackets_do_not_separate() {
        let values: Vec<_> = split_commas(r#""a, b" <sip:x@y;p=1,2>;q=0.7, <sip:z>, "#).collect();
        assert_eq!(values, [r#""a, b" <sip:x@y;p=1,2>;q=0.7"#, "<sip:z>"]);
        let params = Params(r#";tag=1;+sip.instance="<urn:uuid:1;2>";lr"#);
        assert_eq!(params.get("TAG"), Some("1"));
        assert_eq!(params.get("+sip.instance"), Some("<urn:uuid:1;2>"));
        assert_eq!(params.get("lr"), Some(""));
        assert!(!params.has("maddr"));
    }
}
