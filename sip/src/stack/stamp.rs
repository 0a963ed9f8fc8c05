//! The Vias of a response: as they came, the top one stamped with where its request really came from.

use std::fmt::Write as _;

use crate::flow::Flow;
use crate::msg::{HeaderName, Message, Via, Writer, split_commas};

/// Every Via as it came; the top one says where the request really came from (RFC 3261 s18.2.1, RFC 3581 s4).
pub(super) fn write_vias(writer: &mut Writer, request: &Message, source: Flow) {
    let mut seen_top = false;
    for line in request.headers(HeaderName::Via) {
        let top = split_commas(line).next();
        match top.and_then(|top| Via::parse(top).ok().map(|via| (top, via))) {
            // The top value may share its line with others, and with empty elements before it.
            Some((top, via)) if !seen_top => {
                let rest = &line[offset(line, top) + top.len()..];
                writer.header(HeaderName::Via, format_args!("{}{rest}", stamped(top, via, source)));
            }
            _ => {
                writer.header(HeaderName::Via, line);
            }
        }
        seen_top |= top.is_some();
    }
}

/// A Via with `received` and `rport` as we saw them, whatever it said itself.
fn stamped(text: &str, via: Via<'_>, source: Flow) -> String {
    let (ip, port) = (source.remote.ip(), source.remote.port());
    let asks = via.params.has("rport");
    let received = asks || via.needs_received(ip);
    if !asks && !received {
        return text.to_owned();
    }
    let replaced = |name: &str| {
        (asks && name.eq_ignore_ascii_case("rport")) || (received && name.eq_ignore_ascii_case("received"))
    };
    let mut stamped = text[..text.len() - via.params.0.len()].trim_end().to_owned();
    for (name, value) in via.params.iter().filter(|(name, _)| !replaced(name)) {
        let _ = match value {
            Some(value) => write!(stamped, ";{name}={value}"),
            None => write!(stamped, ";{name}"),
        };
    }
    if received {
        let _ = write!(stamped, ";received={ip}");
    }
    if asks {
        let _ = write!(stamped, ";rport={port}");
    }
    stamped
}

/// Where a part of a text begins in it.
fn offset(whole: &str, part: &str) -> usize {
    part.as_ptr() as usize - whole.as_ptr() as usize
}
