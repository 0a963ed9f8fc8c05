//! Whether a message makes sense, beyond its form: the checks that every request and response must pass before any
//! state is made for it. RFC 3261 s8.1.1, s8.2, s16.3; verdicts as RFC 4475 asks.

use super::header::HeaderName as H;
use super::limits;
use super::message::{Malformed, Message, parse_number};
use super::method::Method;
use super::uri::Uri;
use super::{Address, Via};

/// Why a request is refused: the SIP status, and a reason phrase that names the fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    pub status: u16,
    pub reason: &'static str,
}

const fn bad(reason: &'static str) -> Fault {
    Fault { status: 400, reason }
}

/// Checks a request's form, mandatory headers and Request-URI.
///
/// A message whose Via cannot be read has nowhere to be answered to: the caller drops it.
pub fn request(message: &Message) -> Result<(), Fault> {
    match message.malformed() {
        Some(Malformed::Version) => return Err(Fault { status: 505, reason: "Version Not Supported" }),
        Some(Malformed::BodyTooLong) => return Err(Fault { status: 413, reason: "Request Entity Too Large" }),
        Some(malformed) => return Err(malformed_reason(malformed)),
        None => {}
    }
    mandatory_headers(message)?;
    let (_, cseq_method) = message.cseq().ok_or(bad("Malformed CSeq"))?;
    if cseq_method != message.method_text() {
        return Err(bad("CSeq Method Differs From Request"));
    }
    if message.header(H::MaxForwards).is_some_and(|value| parse_number(value).is_none_or(|hops| hops > 255)) {
        return Err(bad("Malformed Max-Forwards"));
    }
    scalar(message, H::Expires, "Malformed Expires")?;
    request_uri(message)?;
    contacts(message)
}

/// Whether a response may be given to the transaction it names. What fails is dropped: a response is never answered.
pub fn response(message: &Message) -> bool {
    message.malformed().is_none()
        && message.status() >= 100
        && mandatory_headers(message).is_ok()
        && message.cseq().is_some()
}

fn malformed_reason(malformed: Malformed) -> Fault {
    bad(match malformed {
        Malformed::StartLine => "Malformed Request Line",
        Malformed::HeaderLine => "Malformed Header Line",
        Malformed::StrayLineBreak | Malformed::ControlByte => "Control Character In Header",
        Malformed::TooManyHeaders => "Too Many Headers",
        Malformed::ContentLength | Malformed::ContentLengthRepeated => "Malformed Content-Length",
        Malformed::ContentLengthMissing => "Missing Content-Length",
        Malformed::BodyShort => "Body Shorter Than Content-Length",
        _ => "Malformed Message",
    })
}

fn mandatory_headers(message: &Message) -> Result<(), Fault> {
    for (name, missing, repeated) in [
        (H::From, "Missing From", "Repeated From"),
        (H::To, "Missing To", "Repeated To"),
        (H::CallId, "Missing Call-ID", "Repeated Call-ID"),
        (H::CSeq, "Missing CSeq", "Repeated CSeq"),
    ] {
        match message.count(name) {
            0 => return Err(bad(missing)),
            1 => {}
            _ => return Err(bad(repeated)),
        }
    }
    if message.count(H::MaxForwards) > 1 {
        return Err(bad("Repeated Max-Forwards"));
    }
    vias(message)?;
    address(message, H::From, "Malformed From")?;
    address(message, H::To, "Malformed To")?;
    if message.call_id().len() > limits::IDENTIFIER_BYTES || message.call_id().is_empty() {
        return Err(bad("Malformed Call-ID"));
    }
    Ok(())
}

fn vias(message: &Message) -> Result<(), Fault> {
    let mut vias = message.values(H::Via);
    let top = vias.next().ok_or(bad("Missing Via"))?;
    let via = Via::parse(top).ok().filter(|via| via.version == "2.0").ok_or(bad("Malformed Via"))?;
    if via.branch().is_some_and(|branch| branch.len() > limits::IDENTIFIER_BYTES) {
        return Err(bad("Via Branch Too Long"));
    }
    let mut below = 0;
    for value in vias {
        below += 1;
        if below >= limits::VIAS {
            return Err(bad("Too Many Via Headers"));
        }
        // Not ours to use, but stray separators are (RFC 4475 s3.1.2.1).
        Via::parse(value).map_err(|_| bad("Malformed Via"))?;
    }
    Ok(())
}

fn address(message: &Message, name: H, reason: &'static str) -> Result<(), Fault> {
    let address = Address::parse(message.header(name).unwrap_or("")).map_err(|_| bad(reason))?;
    address.parsed_uri().map_err(|_| bad(reason))?;
    if address.tag().is_some_and(|tag| tag.len() > limits::IDENTIFIER_BYTES) { Err(bad(reason)) } else { Ok(()) }
}

fn scalar(message: &Message, name: H, reason: &'static str) -> Result<(), Fault> {
    match message.header(name) {
        Some(value) if parse_number(value).is_none() => Err(bad(reason)),
        _ => Ok(()),
    }
}

fn request_uri(message: &Message) -> Result<(), Fault> {
    match Uri::parse(message.request_uri()) {
        Ok(Uri::Sip(uri)) if uri.headers.is_some() => Err(bad("Headers In Request-URI")),
        Ok(Uri::Sip(_)) => Ok(()),
        Ok(Uri::Other { scheme, .. }) if scheme.eq_ignore_ascii_case("tel") => Ok(()),
        Ok(Uri::Other { .. }) => Err(Fault { status: 416, reason: "Unsupported URI Scheme" }),
        Err(_) => Err(bad("Malformed Request-URI")),
    }
}

fn contacts(message: &Message) -> Result<(), Fault> {
    let malformed = bad("Malformed Contact");
    for (at, contact) in message.values(H::Contact).filter(|contact| *contact != "*").enumerate() {
        if at >= limits::CONTACTS {
            return Err(bad("Too Many Contacts"));
        }
        let address = Address::parse(contact).map_err(|_| malformed)?;
        address.parsed_uri().map_err(|_| malformed)?;
        if address.params.get("expires").is_some_and(|expires| parse_number(expires).is_none()) {
            return Err(malformed);
        }
    }
    if message.method() != Some(Method::Invite) {
        return Ok(());
    }
    // RFC 2543 let it be left out; then the From is the target (RFC 4475 s3.4.1).
    let may_lack = message.top_via().is_some_and(|via| via.transaction_branch().is_none());
    match message.values(H::Contact).next() {
        None if may_lack => Ok(()),
        None => Err(bad("Missing Contact")),
        Some("*") => Err(malformed),
        Some(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    const GOOD: &str = "INVITE sip:a@h SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nMax-Forwards: 70\r\n\
                        From: <sip:b@h>;tag=1\r\nTo: <sip:a@h>\r\nCall-ID: c\r\nCSeq: 1 INVITE\r\n\
                        Contact: <sip:b@h>\r\nContent-Length: 0\r\n\r\n";

    fn check(text: &str) -> Result<(), Fault> {
        request(&Message::parse(Bytes::copy_from_slice(text.as_bytes())).unwrap())
    }

    #[test]
    fn every_fault_has_its_status_and_names_itself() {
        assert_eq!(check(GOOD), Ok(()));
        let long = "x".repeat(limits::IDENTIFIER_BYTES + 1);
        let long_branch = format!("branch=z9hG4bK{long}");
        let long_call_id = format!("Call-ID: {long}\r\n");
        let long_tag = format!(";tag={long}");
        let long_uri = format!("INVITE sip:{}@h SIP", "x".repeat(limits::URI_BYTES));
        for (from, to, status, reason) in [
            ("SIP/2.0\r\nVia", "SIP/3.0\r\nVia", 505, "Version Not Supported"),
            ("INVITE sip", "INVITE  sip", 400, "Malformed Request Line"),
            ("Max-Forwards: 70", "no colon", 400, "Malformed Header Line"),
            ("Call-ID: c", "Call-ID: c\rd", 400, "Control Character In Header"),
            ("Content-Length: 0", "Content-Length: x", 400, "Malformed Content-Length"),
            ("Content-Length: 0", "Content-Length: 1", 400, "Body Shorter Than Content-Length"),
            ("From: <sip:b@h>;tag=1\r\n", "", 400, "Missing From"),
            ("To: <sip:a@h>\r\n", "t: <sip:a@h>\r\nTo: <sip:a@h>\r\n", 400, "Repeated To"),
            ("Call-ID: c\r\n", "", 400, "Missing Call-ID"),
            ("Call-ID: c\r\n", "Call-ID:\r\n", 400, "Malformed Call-ID"),
            ("Call-ID: c\r\n", long_call_id.as_str(), 400, "Malformed Call-ID"),
            ("CSeq: 1 INVITE\r\n", "", 400, "Missing CSeq"),
            ("CSeq: 1 INVITE", "CSeq: 2147483648 INVITE", 400, "Malformed CSeq"),
            ("CSeq: 1 INVITE", "CSeq: 1", 400, "Malformed CSeq"),
            ("CSeq: 1 INVITE", "CSeq: 1 BYE", 400, "CSeq Method Differs From Request"),
            ("CSeq: 1 INVITE", "CSeq: 1 invite", 400, "CSeq Method Differs From Request"),
            ("Max-Forwards: 70", "Max-Forwards: 256", 400, "Malformed Max-Forwards"),
            ("Max-Forwards: 70", "Max-Forwards: -1", 400, "Malformed Max-Forwards"),
            ("Max-Forwards: 70", "Max-Forwards: 70\r\nMax-Forwards: 70", 400, "Repeated Max-Forwards"),
            ("Max-Forwards: 70", "Max-Forwards: 70\r\nExpires: x", 400, "Malformed Expires"),
            ("SIP/2.0/UDP h", "SIP/2.0/UDP", 400, "Malformed Via"),
            ("SIP/2.0/UDP h", "SIP/3.0/UDP h", 400, "Malformed Via"),
            ("Via: SIP/2.0/UDP h;branch=z9hG4bK1\r\n", "", 400, "Missing Via"),
            ("branch=z9hG4bK1", long_branch.as_str(), 400, "Via Branch Too Long"),
            ("<sip:b@h>;tag=1", "<sip:b@>;tag=1", 400, "Malformed From"),
            (";tag=1", long_tag.as_str(), 400, "Malformed From"),
            ("To: <sip:a@h>", "To: \"a <sip:a@h>", 400, "Malformed To"),
            ("INVITE sip:a@h", "INVITE sip:a@", 400, "Malformed Request-URI"),
            ("INVITE sip:a@h SIP", long_uri.as_str(), 400, "Malformed Request-URI"),
            ("INVITE sip:a@h", "INVITE sip:a@h?Route=x", 400, "Headers In Request-URI"),
            ("INVITE sip:a@h", "INVITE mailto:a@h", 416, "Unsupported URI Scheme"),
            ("Contact: <sip:b@h>\r\n", "", 400, "Missing Contact"),
            ("Contact: <sip:b@h>", "Contact: <sip:b@>", 400, "Malformed Contact"),
            ("Contact: <sip:b@h>", "Contact: <sip:b@h>;expires=-1", 400, "Malformed Contact"),
            ("Contact: <sip:b@h>", "Contact: *", 400, "Malformed Contact"),
        ] {
            let text = GOOD.replacen(from, to, 1);
            assert_ne!(text, GOOD, "{from}");
            assert_eq!(check(&text), Err(Fault { status, reason }), "{to}");
        }
    }

    #[test]
    fn what_looks_odd_and_is_right_passes() {
        for (from, to) in [
            ("INVITE sip:a@h", "INVITE tel:+14155550100"),
            ("Max-Forwards: 70\r\n", ""),
            ("Max-Forwards: 70", "Max-Forwards: 0"),
            ("CSeq: 1 INVITE", "CSeq: 2147483647   INVITE"),
            ("Content-Length: 0\r\n", ""),
            (";tag=1", ""),
            ("Contact: <sip:b@h>", "m: <sip:b@h>, <tel:+1>"),
            ("Content-Length: 0", "Contact: <sip:c@h>;q=0.5;expires=4294967295\r\nContent-Length: 0"),
        ] {
            assert_eq!(check(&GOOD.replacen(from, to, 1)), Ok(()), "{to}");
        }
    }
}
