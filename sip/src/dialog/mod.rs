//! Dialogs (RFC 3261 s12): what two parties agree on beyond one transaction, and how a request inside is written.
//!
//! A [`Dialog`] is plain data that serialises; the retransmissions and states of an INVITE's usage are the stack's.

mod digits;
mod refer;

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::flow::{Flow, Transport};
use crate::msg::{Address, HeaderName, Message, Method, Uri, Writer};

pub use digits::info_digit;
pub use refer::{refer_progress, refer_target};

/// Names a dialog inside its stack: the number in our tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct DialogId(pub u64);

/// A peer-to-peer relation: Call-ID and two tags, the route between, and the sequence numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dialog {
    pub call_id: String,
    pub local_tag: String,
    /// Empty until the peer has named one.
    pub remote_tag: String,
    /// Name and URI of our side, as in From or To without the tag.
    pub local_address: String,
    pub remote_address: String,
    /// Where requests are aimed: the peer's Contact.
    pub remote_target: String,
    /// In the order of Route headers.
    pub route_set: Vec<String>,
    pub local_cseq: u32,
    /// `None` until the peer has sent a request.
    pub remote_cseq: Option<u32>,
    pub flow: Flow,
    /// Our Contact, a whole header value.
    pub contact: String,
    /// Whether we sent the INVITE that opened it: decides who waits longer after a glare (RFC 3261 s14.1).
    pub outgoing: bool,
}

impl Dialog {
    /// The dialog that a received INVITE opens (RFC 3261 s12.1.1).
    ///
    /// The message has passed `check::request`, so its addresses can be read.
    pub fn from_invite(invite: &Message, flow: Flow, local_tag: String, contact: String) -> Dialog {
        let mut dialog = Dialog {
            call_id: invite.call_id().to_owned(),
            local_tag,
            remote_tag: invite.from_tag().unwrap_or("").to_owned(),
            local_address: without_tag(invite.header(HeaderName::To).unwrap_or("")),
            remote_address: without_tag(invite.header(HeaderName::From).unwrap_or("")),
            // A peer of RFC 2543 may send no Contact: then its From is where to reach it.
            remote_target: invite.from().map_or("", |from| from.uri).to_owned(),
            route_set: invite.values(HeaderName::RecordRoute).map(one_line).collect(),
            local_cseq: 0,
            remote_cseq: invite.cseq().map(|(number, _)| number),
            flow,
            contact,
            outgoing: false,
        };
        dialog.take_target(invite, flow);
        dialog
    }

    /// The dialog that a 2xx to an INVITE of ours opened of which nothing else is known any more.
    ///
    /// Give it to [`Dialog::take_response`] next.
    pub(crate) fn from_success(response: &Message, flow: Flow) -> Dialog {
        let cseq = response.cseq().map_or(0, |(number, _)| number);
        Dialog {
            call_id: response.call_id().to_owned(),
            local_tag: response.from_tag().unwrap_or("").to_owned(),
            remote_tag: String::new(),
            local_address: without_tag(response.header(HeaderName::From).unwrap_or("")),
            remote_address: without_tag(response.header(HeaderName::To).unwrap_or("")),
            remote_target: response.to().map_or("", |to| to.uri).to_owned(),
            route_set: Vec::new(),
            local_cseq: cseq,
            remote_cseq: None,
            flow,
            contact: String::new(),
            outgoing: true,
        }
    }

    /// Takes what a response to our INVITE fixes (RFC 3261 s12.1.2): the peer's tag, target and route set.
    pub fn take_response(&mut self, response: &Message, flow: Flow) {
        self.remote_tag = response.to_tag().unwrap_or("").to_owned();
        self.route_set = response.values(HeaderName::RecordRoute).map(one_line).collect();
        self.route_set.reverse();
        // What an early branch of a fork counted does not bind the one that answered.
        self.remote_cseq = None;
        self.take_target(response, flow);
    }

    /// Takes the target of a request or response that may refresh it (RFC 3261 s12.2), and with it the flow.
    pub fn take_target(&mut self, message: &Message, flow: Flow) {
        let contact = message.values(HeaderName::Contact).next().and_then(|contact| Address::parse(contact).ok());
        // A target that is no URI is not taken: it would be written into a start line.
        if let Some(contact) = contact.filter(|contact| contact.parsed_uri().is_ok()) {
            self.remote_target = contact.uri.to_owned();
        }
        self.flow = next_hop(self.route_set.first().map_or(self.remote_target.as_str(), String::as_str), flow);
    }

    /// Whether the request's CSeq is above the last one (RFC 3261 s12.2.2); remembers it.
    pub fn take_cseq(&mut self, number: u32) -> bool {
        let fresh = self.remote_cseq.is_none_or(|last| number > last);
        if fresh {
            self.remote_cseq = Some(number);
        }
        fresh
    }

    /// Takes the next CSeq number for a request of ours.
    pub fn next_cseq(&mut self) -> u32 {
        self.local_cseq += 1;
        self.local_cseq
    }

    /// The Request-URI of requests inside the dialog: the target, or a strict router (RFC 3261 s12.2.1.1).
    pub fn request_uri(&self) -> &str {
        match self.route_set.first().filter(|route| !is_loose(route)) {
            Some(route) => Address::parse(route).map_or(self.remote_target.as_str(), |route| route.uri),
            None => &self.remote_target,
        }
    }

    /// Begins a request inside the dialog (RFC 3261 s12.2.1.1): everything but Via's end and the body.
    pub fn request(&self, method: Method, cseq: u32, via: &str) -> Writer {
        let mut routes: Vec<&str> = self.route_set.iter().map(String::as_str).collect();
        let uri = self.request_uri();
        let bracketed;
        if routes.first().is_some_and(|route| !is_loose(route)) {
            // A strict router wants itself as Request-URI, and the target as the last Route.
            routes.remove(0);
            bracketed = format!("<{}>", self.remote_target);
            routes.push(&bracketed);
        }
        let mut writer = Writer::request(method.as_str(), uri);
        writer.header(HeaderName::Via, via).header(HeaderName::MaxForwards, 70);
        for route in routes {
            writer.header(HeaderName::Route, route);
        }
        writer.header(HeaderName::From, format_args!("{};tag={}", self.local_address, self.local_tag));
        if self.remote_tag.is_empty() {
            writer.header(HeaderName::To, &self.remote_address);
        } else {
            writer.header(HeaderName::To, format_args!("{};tag={}", self.remote_address, self.remote_tag));
        }
        writer.header(HeaderName::CallId, &self.call_id);
        writer.header(HeaderName::CSeq, format_args!("{cseq} {}", method.as_str()));
        writer
    }
}

/// An address without its tag: what From and To repeat.
fn without_tag(value: &str) -> String {
    let value = one_line(value);
    match Address::parse(&value) {
        Ok(address) if address.tag().is_some() => {
            // Not by searching for it: the display name may hold the same text.
            let end = address.uri.as_ptr() as usize - value.as_ptr() as usize + address.uri.len();
            let bracket = value[end..].starts_with('>') as usize;
            value[..end + bracket].to_owned()
        }
        _ => value,
    }
}

fn one_line(value: &str) -> String {
    crate::msg::unfold(value).into_owned()
}

fn is_loose(route: &str) -> bool {
    let uri = Address::parse(route).ok().and_then(|address| address.parsed_uri().ok()).and_then(Uri::sip);
    uri.is_none_or(|uri| uri.params.has("lr"))
}

/// Where requests inside a dialog go, given the URI they are aimed at and the flow its message came by.
///
/// An address in the URI is used if it can be reached; a name, and a private address behind a public source (a phone
/// behind NAT that wrote what it sees), mean the flow. A stream connection is kept while it lives.
pub fn next_hop(target: &str, flow: Flow) -> Flow {
    let target = target.trim_ascii();
    let uri = if target.contains('<') { Address::parse(target).map_or("", |address| address.uri) } else { target };
    let Some(uri) = Uri::parse(uri).ok().and_then(Uri::sip) else { return flow };
    let Some(address) = uri.socket_addr() else { return flow };
    let hidden = is_private(address.ip()) && !is_private(flow.remote.ip());
    let other_family = address.is_ipv4() != flow.remote.is_ipv4();
    if hidden || other_family || address.ip().is_unspecified() {
        return flow;
    }
    let named = uri.transport().and_then(Transport::from_uri_name).unwrap_or(flow.transport);
    let wanted = if uri.wants_tls() { Transport::Tls } else { named };
    match wanted == flow.transport {
        true if wanted.is_reliable() => Flow { remote: address, ..flow },
        true => flow.to(address),
        false => flow,
    }
}

/// Addresses that cannot be reached across a NAT.
pub fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, ..] = ip.octets();
            ip.is_private() || ip.is_loopback() || ip.is_link_local() || (a == 100 && (64..128).contains(&b))
        }
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}

/// The address that a URI names, where it is one.
pub fn uri_address(uri: &str) -> Option<SocketAddr> {
    Uri::parse(uri).ok()?.sip()?.socket_addr()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn flow(remote: &str) -> Flow {
        Flow {
            transport: Transport::Udp,
            local: "127.0.0.1:5060".parse().unwrap(),
            remote: remote.parse().unwrap(),
            connection: None,
        }
    }

    fn invite(contact: &str, record_route: &str) -> Message {
        let text = format!(
            "INVITE sip:b@h SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nFrom: \"A\" <sip:a@h>;tag=ft\r\nTo: <sip:b@h>\r\n\
             Call-ID: c\r\nCSeq: 7 INVITE\r\nContact: <{contact}>\r\n{record_route}\r\n"
        );
        Message::parse(Bytes::from(text)).unwrap()
    }

    #[test]
    fn request_follows_the_route_set_and_the_target() {
        let invite =
            invite("sip:a@198.51.100.4:5070", "Record-Route: <sip:198.51.100.1;lr>, <sip:198.51.100.2;lr>\r\n");
        let mut dialog = Dialog::from_invite(&invite, flow("198.51.100.1:5060"), "lt".into(), "<sip:us@h>".into());
        assert_eq!(dialog.flow.remote, "198.51.100.1:5060".parse().unwrap());
        let cseq = dialog.next_cseq();
        let bye = Message::parse(dialog.request(Method::Bye, cseq, "SIP/2.0/UDP us;branch=z9hG4bK2").finish("", b""))
            .unwrap();
        assert_eq!(bye.request_uri(), "sip:a@198.51.100.4:5070");
        assert_eq!(
            bye.values(HeaderName::Route).collect::<Vec<_>>(),
            ["<sip:198.51.100.1;lr>", "<sip:198.51.100.2;lr>"]
        );
        assert_eq!(bye.header(HeaderName::To), Some("\"A\" <sip:a@h>;tag=ft"));
        assert_eq!(bye.header(HeaderName::From), Some("<sip:b@h>;tag=lt"));
        assert_eq!(bye.cseq(), Some((1, "BYE")));
    }

    #[test]
    fn strict_router_becomes_the_request_uri() {
        let invite = invite("sip:a@198.51.100.4", "Record-Route: <sip:198.51.100.1>\r\n");
        let dialog = Dialog::from_invite(&invite, flow("198.51.100.1:5060"), "lt".into(), String::new());
        let bye = Message::parse(dialog.request(Method::Bye, 1, "v").finish("", b"")).unwrap();
        assert_eq!(bye.request_uri(), "sip:198.51.100.1");
        assert_eq!(bye.values(HeaderName::Route).collect::<Vec<_>>(), ["<sip:a@198.51.100.4>"]);
    }

    #[test]
    fn phone_behind_nat_is_reached_by_its_flow() {
        for (contact, remote, goes_to) in [
            ("sip:a@192.168.1.5:5060", "203.0.113.9:61000", "203.0.113.9:61000"),
            ("sip:a@198.51.100.4:5070", "203.0.113.9:61000", "198.51.100.4:5070"),
            ("sip:a@phone.example", "203.0.113.9:61000", "203.0.113.9:61000"),
            ("sip:a@127.0.0.1:7000", "127.0.0.1:7001", "127.0.0.1:7000"),
            ("sip:a@0.0.0.0", "127.0.0.1:7001", "127.0.0.1:7001"),
        ] {
            let dialog = Dialog::from_invite(&invite(contact, ""), flow(remote), "t".into(), String::new());
            assert_eq!(dialog.flow.remote, goes_to.parse().unwrap(), "{contact}");
        }
    }

    #[test]
    fn cseq_must_grow() {
        let mut dialog = Dialog::from_invite(&invite("sip:a@h", ""), flow("127.0.0.1:1"), "t".into(), String::new());
        assert!(!dialog.take_cseq(7));
        assert!(dialog.take_cseq(8));
    }
}
