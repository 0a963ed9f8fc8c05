//! What must hold for any bytes at all: no panic, and what is accepted is written back equivalent.
//!
//! Each function takes a fuzzer's input and panics where an invariant is broken. `fuzz/` runs them for hours; the tests
//! here run them on arbitrary bytes and on seeded mutations of the torture messages.

use std::fmt::Write as _;

use bytes::Bytes;

use crate::dialog::{self, Dialog};
use crate::digest::{self, Algorithm, Credentials, Guard};
use crate::flow::{Flow, Transport};
use crate::msg::{
    Address, AuthParams, HeaderName, HostPort, Malformed, Message, Method, Params, SipUri, StartLine, Uri, Via, Writer,
    check, decode, split_commas, unfold,
};
use crate::stack::{Config, Output, Received, Reply, Stack};
use crate::time::Mono;
use crate::transport::framing::{Frame, Framer};

/// A message: every view of it, writing it again, and a stack that takes it.
pub fn message(bytes: &[u8]) {
    let Ok(message) = Message::parse(Bytes::copy_from_slice(bytes)) else { return };
    views(&message);
    if message.malformed().is_none() {
        written_again(&message);
    }
    taken_by_a_stack(message);
}

fn views(message: &Message) {
    let _ = (check::request(message), check::response(message), format!("{message:?}"));
    let _ = (message.cseq(), message.max_forwards(), message.expires(), message.content_type(), message.call_id());
    let _ = (message.from_tag(), message.to_tag(), message.top_via(), dialog::info_digit(message));
    assert!(message.body().len() <= message.raw().len());
    for (name, value) in message.all_headers() {
        assert!(!name.is_empty() && !unfold(value).contains("\r\n"));
        addresses(value.as_bytes());
    }
}

/// Start line, headers and body survive being written by our writer.
fn written_again(message: &Message) {
    // What is near a limit may be over it once it is written with its spaces and its Content-Length.
    if message.raw().len() > 60_000 || message.all_headers().count() > 190 {
        return;
    }
    let mut writer = match message.start() {
        StartLine::Request(_) => Writer::request(message.method_text(), message.request_uri()),
        StartLine::Response(status) => Writer::response(status, message.reason_phrase()),
    };
    let own = |name: &str| matches!(HeaderName::from_text(name), HeaderName::ContentLength | HeaderName::ContentType);
    for (name, value) in message.all_headers().filter(|(name, _)| !own(name)) {
        writer.named(name, unfold(value).as_ref());
    }
    let content_type = message.header(HeaderName::ContentType).map(unfold).unwrap_or_default();
    let again = Message::parse(writer.finish(&content_type, &message.body())).expect("what we write can be indexed");
    assert_eq!(again.malformed(), None);
    assert_eq!(
        (again.start(), again.method_text(), again.body()),
        (message.start(), message.method_text(), message.body())
    );
    if message.is_request() || !message.reason_phrase().is_empty() {
        assert_eq!(again.request_uri(), message.request_uri());
    }
    let headers = |message: &Message| {
        let kept = message.all_headers().filter(|(name, _)| !own(name));
        kept.map(|(name, value)| (name.to_owned(), on_one_line(value))).collect::<Vec<_>>()
    };
    assert_eq!(headers(&again), headers(message));
}

/// A value as the writer leaves it.
fn on_one_line(value: &str) -> String {
    let plain = |letter: char| if letter < ' ' && letter != '\t' { ' ' } else { letter };
    unfold(value).chars().map(plain).collect::<String>().trim_matches([' ', '\t']).to_owned()
}

/// Whatever a stack sends because of a message is well formed, a response is never answered, and nothing is left.
fn taken_by_a_stack(message: Message) {
    let flow = Flow {
        transport: Transport::Udp,
        local: "198.51.100.1:5060".parse().expect("an address"),
        remote: "203.0.113.9:40000".parse().expect("an address"),
        connection: None,
    };
    let mut stack = Stack::new(Config { product: "fuzz".into(), slot: 1, seed: [1; 32] });
    let is_request = message.is_request();
    let request = match stack.receive(flow, message, Mono(0)) {
        Received::Fresh(request) => request,
        Received::Handled | Received::Dropped(_) => {
            let sent = sent(&mut stack);
            assert!(sent <= usize::from(is_request), "at most one answer to a request, none to a response");
            assert!(stack.is_idle());
            return;
        }
    };
    if request.method() == Some(Method::Invite) {
        let inside = Dialog::from_invite(&request, flow, "tag".into(), "<sip:us@h>".into());
        let bye = inside.request(Method::Bye, 1, "SIP/2.0/UDP us;branch=z9hG4bK1").finish("", b"");
        assert_eq!(Message::parse(bye).expect("can be indexed").malformed(), None);
        let dialog = stack.accept_invite(flow, request.clone(), "<sip:us@h>".into());
        assert!(matches!(stack.receive(flow, request, Mono(1)), Received::Handled), "a retransmission is known");
        stack.progress(dialog, 180, Bytes::new(), Mono(2));
        stack.answer(dialog, Bytes::from_static(b"v=0"), Mono(3));
        stack.bye(dialog, "SIP;cause=200", Mono(4));
    } else {
        let transaction = stack.accept_request(flow, &request);
        stack.reply(transaction, &request, &Reply::new(200), Mono(1));
    }
    assert!(sent(&mut stack) > 0);
    for _ in 0..1_000 {
        let Some(deadline) = stack.next_deadline() else { break };
        stack.handle_timeout(deadline);
        sent(&mut stack);
    }
    assert!(stack.is_idle() && stack.next_deadline().is_none());
}

/// Takes what a stack sends, and holds it against our own parser.
fn sent(stack: &mut Stack) -> usize {
    let mut sent = 0;
    while let Some(output) = stack.poll_output() {
        if let Output::Transmit(transmit) = output {
            sent += 1;
            let message = Message::parse(transmit.bytes).expect("what we send can be indexed");
            assert_eq!(message.malformed(), None, "{message:?}");
        }
    }
    sent
}

/// URIs, addresses, Vias, parameters: what is accepted means the same once written again.
pub fn addresses(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let _ = (Params(text).iter().count(), Params(text).get("tag"), decode(text), HostPort::parse_spaced(text));
    if let Some(decoded) = decode(text).filter(|_| text.contains('%')) {
        assert!(
            text.bytes().any(|byte| byte.is_ascii_control()) || !decoded.bytes().any(|byte| byte.is_ascii_control())
        );
    }
    for value in split_commas(text).chain([text]) {
        if let Ok(uri) = Uri::parse(value) {
            let _ = (uri.user(), dialog::uri_address(value));
            if let Uri::Sip(uri) = uri {
                let _ = (uri.decoded_user(), uri.transport(), uri.socket_addr());
                assert_eq!(Uri::parse(&uri_text(&uri)), Ok(Uri::Sip(uri)), "{value:?}");
            }
        }
        if let Ok(via) = Via::parse(value) {
            let _ = (via.branch(), via.transaction_branch(), via.sent_by.ip());
            let text = format!("SIP/{}/{} {}{}", via.version, via.transport, via.sent_by, via.params.0);
            assert_eq!(Via::parse(&text), Ok(via), "{value:?}");
        }
        if let Ok(address) = Address::parse(value) {
            let name = address.display_name();
            let quoted = name.replace('\\', "\\\\").replace('"', "\\\"");
            let text = format!("\"{quoted}\" <{}>{}", address.uri, address.params.0);
            let again = Address::parse(&text).unwrap_or_else(|error| panic!("{value:?} as {text:?}: {error}"));
            assert_eq!(
                (again.uri, again.params, again.tag()),
                (address.uri, address.params, address.tag()),
                "{value:?}"
            );
            assert_eq!(again.display_name(), name, "{value:?}");
        }
    }
}

fn uri_text(uri: &SipUri<'_>) -> String {
    let mut text = String::from(if uri.secure { "sips:" } else { "sip:" });
    if let Some(user) = uri.user {
        text.push_str(user);
        let _ = uri.password.map_or(Ok(()), |password| write!(text, ":{password}"));
        text.push('@');
    }
    let _ = write!(text, "{}{}", uri.host, uri.params.0);
    let _ = uri.headers.map_or(Ok(()), |headers| write!(text, "?{headers}"));
    text
}

/// A stream: however it is cut into reads, the same messages come out of it.
///
/// The first byte of the input says how it is cut.
pub fn framer(bytes: &[u8]) {
    let Some((cut, stream)) = bytes.split_first() else { return };
    let whole = frames([stream].into_iter());
    let size = usize::from(*cut) % 97 + 1;
    assert_eq!(frames(stream.chunks(size)), whole, "cut every {size} bytes");
}

#[derive(Debug, PartialEq)]
enum Found {
    Message(Bytes),
    Ping,
    Broken(bool, Malformed),
}

fn frames<'a>(reads: impl Iterator<Item = &'a [u8]>) -> Vec<Found> {
    let mut framer = Framer::default();
    let mut found = Vec::new();
    for read in reads {
        framer.buffer().extend_from_slice(read);
        while let Some(frame) = framer.next_frame() {
            match frame {
                Frame::Message(message) => found.push(Found::Message(message.raw().clone())),
                Frame::Ping => found.push(Found::Ping),
                Frame::Broken(message, error) => {
                    assert!(message.is_none_or(|message| message.malformed() == Some(error)));
                    found.push(Found::Broken(false, error));
                    // The connection closes here.
                    return found;
                }
            }
        }
    }
    found
}

/// Credentials and challenges of a stranger: lines of the input in turn.
pub fn digest(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mut guard = Guard::new("realm".into(), [3; 32], vec![Algorithm::Sha256, Algorithm::Md5]);
    let ours = Credentials { username: "user".into(), password: "password".into(), realm: None };
    for line in text.lines() {
        let Some(auth) = AuthParams::parse(line) else { continue };
        let _ = (auth.is_digest(), digest::username(&auth));
        let uri = auth.get("uri").unwrap_or("sip:h");
        assert!(guard.check(&auth, "REGISTER", uri, Some("password"), 1_000).is_err(), "an invented nonce passed");
        assert!(guard.check(&auth, "REGISTER", uri, None, 1_000).is_err());
        if let Some(value) = digest::answer([line].into_iter(), &ours, "INVITE", "sip:h", "cnonce", 1) {
            assert!(AuthParams::parse(&value).is_some_and(|auth| auth.get("response").is_some()), "{line:?}");
        }
    }
}

#[cfg(test)]
mod tests;
