//! DTMF digits in INFO requests: `application/dtmf-relay` (`Signal=5`) and `application/dtmf` (`5`).
//!
//! No RFC describes them; both forms are what phones and carriers send.

use crate::msg::Message;

/// The digit that an INFO carries, if it carries one.
pub fn info_digit(info: &Message) -> Option<char> {
    let body = info.body();
    let text = std::str::from_utf8(&body).ok()?;
    let written = match info.content_type()?.as_str() {
        "application/dtmf-relay" => text
            .lines()
            .filter_map(|line| line.split_once('='))
            .find(|(key, _)| key.trim().eq_ignore_ascii_case("signal"))?
            .1
            .trim(),
        "application/dtmf" => text.trim(),
        _ => return None,
    };
    match written {
        "10" => Some('*'),
        "11" => Some('#'),
        _ => {
            let digit = written.chars().next().filter(|_| written.len() == 1)?.to_ascii_uppercase();
            matches!(digit, '0'..='9' | '*' | '#' | 'A'..='D').then_some(digit)
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn both_forms_are_read() {
        for (content_type, body, digit) in [
            ("application/dtmf-relay", "Signal=5\r\nDuration=160\r\n", Some('5')),
            ("application/dtmf-relay", "Signal= *\n", Some('*')),
            ("application/dtmf-relay", "Duration=160\r\n", None),
            ("application/dtmf", "11", Some('#')),
            ("application/dtmf", "x", None),
            ("text/plain", "5", None),
        ] {
            let text = format!("INFO sip:a SIP/2.0\r\nContent-Type: {content_type}\r\n\r\n{body}");
            assert_eq!(info_digit(&Message::parse(Bytes::from(text)).unwrap()), digit, "{body}");
        }
    }
}
