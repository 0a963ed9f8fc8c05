//! What a NOTIFY tells of the call that a REFER asked for (RFC 3515 s2.4.4).

use crate::msg::{HeaderName, Message};

/// The status of the response that the peer has, and whether nothing more will come. `None`: the NOTIFY is of something
/// else, or cannot be read.
pub fn refer_progress(notify: &Message) -> Option<(u16, bool)> {
    let event = notify.header(HeaderName::Event)?.split(';').next()?.trim();
    // The body begins with a status line; what peers call its type differs.
    let body = notify.body();
    let line = std::str::from_utf8(&body).ok()?.lines().next()?;
    let code = line.trim_start().strip_prefix("SIP/2.0 ")?.get(..3)?;
    let status = code.parse().ok().filter(|status| (100..700).contains(status))?;
    let state = notify.other_header("Subscription-State").unwrap_or("").split(';').next()?.trim();
    event.eq_ignore_ascii_case("refer").then_some((status, state.eq_ignore_ascii_case("terminated")))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn status_line_and_end_are_read_and_other_events_are_not() {
        for (event, state, body, told) in [
            ("refer", "active;expires=60", "SIP/2.0 100 Trying\r\n", Some((100, false))),
            ("refer;id=2", "Terminated;reason=noresource", "SIP/2.0 486 Busy Here", Some((486, true))),
            ("refer", "terminated", "SIP/2.0 200 OK\r\nTo: <sip:a@b>\r\n", Some((200, true))),
            ("presence", "active", "SIP/2.0 200 OK\r\n", None),
            ("refer", "active", "", None),
            ("refer", "active", "SIP/2.0 2", None),
            ("refer", "active", "SIP/2.0 999 No", None),
        ] {
            let text = format!("NOTIFY sip:a SIP/2.0\r\nEvent: {event}\r\nSubscription-State: {state}\r\n\r\n{body}");
            assert_eq!(refer_progress(&Message::parse(Bytes::from(text)).unwrap()), told, "{event} {state} {body}");
        }
    }
}
