//! What a REFER asks for, and what a NOTIFY tells of the call that it led to (RFC 3515).

use crate::msg::{Address, HeaderName, Message, Method, Uri};

/// Whom a REFER wants called: a URI, with what its `?` brings. Otherwise the status that refuses it: 400 where it names
/// nobody or several (s2.4.1), 603 for what is not a call to somebody, or takes the place of another dialog (RFC 3891).
pub fn refer_target(refer: &Message) -> Result<&str, u16> {
    let mut targets = refer.headers(HeaderName::ReferTo);
    let (Some(target), None) = (targets.next(), targets.next()) else { return Err(400) };
    let address = Address::parse(target).map_err(|_| 400_u16)?;
    match address.parsed_uri().map_err(|_| 400_u16)? {
        Uri::Sip(uri) => {
            let is_invite = uri.params.get("method").is_none_or(|method| Method::from_text(method) == Method::Invite);
            let mut names = uri.headers.unwrap_or("").split('&').filter_map(|header| header.split('=').next());
            if is_invite && !names.any(|name| name.eq_ignore_ascii_case("Replaces")) {
                Ok(address.uri)
            } else {
                Err(603)
            }
        }
        Uri::Other { scheme, .. } if scheme.eq_ignore_ascii_case("tel") => Ok(address.uri),
        Uri::Other { .. } => Err(603),
    }
}

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
    fn target_is_one_uri_to_call_and_nothing_else() {
        for (headers, target) in [
            ("Refer-To: <sip:c@d?User-to-User=1%3Bencoding%3Dhex>", Ok("sip:c@d?User-to-User=1%3Bencoding%3Dhex")),
            ("r: \"Carol\" <sip:c@d;transport=tcp>;early", Ok("sip:c@d;transport=tcp")),
            ("Refer-To: sip:c@d", Ok("sip:c@d")),
            ("Refer-To: <tel:+1555>", Ok("tel:+1555")),
            ("Refer-To: <sip:c@d;method=INVITE>", Ok("sip:c@d;method=INVITE")),
            ("Subject: none", Err(400)),
            ("Refer-To: <sip:c@d>\r\nr: <sip:e@f>", Err(400)),
            ("Refer-To: <sip:c@d", Err(400)),
            ("Refer-To: <c d>", Err(400)),
            ("Refer-To: <sip:c@d;method=BYE>", Err(603)),
            ("Refer-To: <sip:c@d?X-a=1&Replaces=1%40h%3Bto-tag%3Da>", Err(603)),
            ("Refer-To: <http://d/>", Err(603)),
        ] {
            let refer = Message::parse(Bytes::from(format!("REFER sip:a SIP/2.0\r\n{headers}\r\n\r\n"))).unwrap();
            assert_eq!(refer_target(&refer), target, "{headers}");
        }
    }

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
