//! Conversions from and to the types of the crate `rsip` 0.4.0, for who works with those elsewhere.
//!
//! rsip is not our parser. It refuses folded lines, compact header names, IPv6, quoted parameters and most of the valid
//! messages of RFC 4475 that use them; it ignores Content-Length, so it cannot frame a stream; it rewrites what it
//! prints (`transport=ws`, reason phrases, binary bodies); and it takes five times as long and 47 allocations for an
//! INVITE. In our tests it is the second opinion (`tests/torture.rs`).
//!
//! From ours to rsip, therefore, what it cannot represent is an error and nothing is bent: another method, another URI
//! scheme, IPv6, headers in a URI; only `transport=tcp` may come out as `TCP`. Header values are taken over as text,
//! unfolded and by their full names, so that rsip's typed views find them. From rsip to ours everything is written by
//! our own writer, bodies byte for byte, and read by our own parser, which may refuse it: rsip's types can hold a line
//! break in a header, and more.

use std::fmt;

use bytes::Bytes;

use crate::msg::{HeaderName, Malformed, Message, SipUri, StartLine, Writer, unfold};

/// What rsip cannot represent, or we do not take from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConversionError {
    /// The message's form is broken.
    Malformed(Malformed),
    /// A request where a response was wanted, or the other way round.
    OtherKind,
    /// A method that rsip does not know.
    Method,
    /// A Request-URI that rsip cannot read, or would print as another.
    Uri,
    /// Not SIP/2.0.
    Version,
}

impl fmt::Display for ConversionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConversionError::Malformed(malformed) => malformed.fmt(f),
            ConversionError::OtherKind => f.write_str("request instead of response, or response instead of request"),
            ConversionError::Method => f.write_str("method unknown to rsip"),
            ConversionError::Uri => f.write_str("request-uri that rsip cannot represent"),
            ConversionError::Version => f.write_str("version other than sip/2.0"),
        }
    }
}

impl std::error::Error for ConversionError {}

impl TryFrom<&Message> for rsip::Request {
    type Error = ConversionError;

    fn try_from(message: &Message) -> Result<Self, ConversionError> {
        well_formed(message)?;
        if !message.is_request() {
            return Err(ConversionError::OtherKind);
        }
        let method: rsip::Method = message.method_text().parse().map_err(|_| ConversionError::Method)?;
        // rsip takes any case; methods are case-sensitive.
        if method.to_string() != message.method_text() {
            return Err(ConversionError::Method);
        }
        let uri = rsip::Uri::try_from(message.request_uri()).map_err(|_| ConversionError::Uri)?;
        if !means_the_same(&uri, message.request_uri()) {
            return Err(ConversionError::Uri);
        }
        let body = message.body().to_vec();
        Ok(rsip::Request { method, uri, version: rsip::Version::V2, headers: headers(message), body })
    }
}

impl TryFrom<&Message> for rsip::Response {
    type Error = ConversionError;

    fn try_from(message: &Message) -> Result<Self, ConversionError> {
        well_formed(message)?;
        if message.is_request() {
            return Err(ConversionError::OtherKind);
        }
        // The reason phrase is kept only where rsip has none of its own.
        let status_code = match rsip::StatusCode::from(message.status()) {
            rsip::StatusCode::Other(code, _) => rsip::StatusCode::Other(code, message.reason_phrase().to_owned()),
            known => known,
        };
        let body = message.body().to_vec();
        Ok(rsip::Response { status_code, version: rsip::Version::V2, headers: headers(message), body })
    }
}

impl TryFrom<&Message> for rsip::SipMessage {
    type Error = ConversionError;

    fn try_from(message: &Message) -> Result<Self, ConversionError> {
        if message.is_request() {
            rsip::Request::try_from(message).map(rsip::SipMessage::Request)
        } else {
            rsip::Response::try_from(message).map(rsip::SipMessage::Response)
        }
    }
}

impl TryFrom<&rsip::Request> for Message {
    type Error = ConversionError;

    fn try_from(request: &rsip::Request) -> Result<Self, ConversionError> {
        is_version_2(&request.version)?;
        let writer = Writer::request(&request.method.to_string(), &request.uri.to_string());
        finish(writer, &request.headers, &request.body)
    }
}

impl TryFrom<&rsip::Response> for Message {
    type Error = ConversionError;

    fn try_from(response: &rsip::Response) -> Result<Self, ConversionError> {
        is_version_2(&response.version)?;
        // Other than rsip's own names of reasons (`SessionProgress`), ours are those of the RFCs.
        let reason = match &response.status_code {
            rsip::StatusCode::Other(_, reason) => reason.as_str(),
            _ => "",
        };
        finish(Writer::response(response.status_code.code(), reason), &response.headers, &response.body)
    }
}

impl TryFrom<&rsip::SipMessage> for Message {
    type Error = ConversionError;

    fn try_from(message: &rsip::SipMessage) -> Result<Self, ConversionError> {
        match message {
            rsip::SipMessage::Request(request) => Message::try_from(request),
            rsip::SipMessage::Response(response) => Message::try_from(response),
        }
    }
}

fn well_formed(message: &Message) -> Result<(), ConversionError> {
    match (message.malformed(), message.start()) {
        (Some(Malformed::Version), _) => Err(ConversionError::Version),
        (Some(malformed), _) => Err(ConversionError::Malformed(malformed)),
        (None, StartLine::Response(0)) => Err(ConversionError::Malformed(Malformed::StartLine)),
        (None, _) => Ok(()),
    }
}

/// Whether rsip took a URI apart as we do. It prints `transport=tcp` as `TCP`, which is the same.
fn means_the_same(theirs: &rsip::Uri, text: &str) -> bool {
    let Ok(ours) = SipUri::parse(text) else { return false };
    theirs.to_string().eq_ignore_ascii_case(text)
        && theirs.user() == ours.user
        && theirs.host_with_port.to_string() == ours.host.to_string()
}

fn is_version_2(version: &rsip::Version) -> Result<(), ConversionError> {
    if *version == rsip::Version::V2 { Ok(()) } else { Err(ConversionError::Version) }
}

/// Every header line with its full name, its folds taken out.
fn headers(message: &Message) -> rsip::Headers {
    let mut headers = rsip::Headers::default();
    for (name, value) in message.all_headers() {
        headers.push(header(name, unfold(value).into_owned()));
    }
    headers
}

/// The variants that we have a number for; rsip's views of others look into `Other`, or do not exist.
fn header(name: &str, value: String) -> rsip::Header {
    use rsip::Header as R;
    match HeaderName::from_text(name) {
        HeaderName::Via => R::Via(value.into()),
        HeaderName::From => R::From(value.into()),
        HeaderName::To => R::To(value.into()),
        HeaderName::CallId => R::CallId(value.into()),
        HeaderName::CSeq => R::CSeq(value.into()),
        HeaderName::Contact => R::Contact(value.into()),
        HeaderName::MaxForwards => R::MaxForwards(value.into()),
        HeaderName::ContentLength => R::ContentLength(value.into()),
        HeaderName::ContentType => R::ContentType(value.into()),
        HeaderName::ContentEncoding => R::ContentEncoding(value.into()),
        HeaderName::ContentDisposition => R::ContentDisposition(value.into()),
        HeaderName::Route => R::Route(value.into()),
        HeaderName::RecordRoute => R::RecordRoute(value.into()),
        HeaderName::Require => R::Require(value.into()),
        HeaderName::ProxyRequire => R::ProxyRequire(value.into()),
        HeaderName::Supported => R::Supported(value.into()),
        HeaderName::Unsupported => R::Unsupported(value.into()),
        HeaderName::Allow => R::Allow(value.into()),
        HeaderName::Accept => R::Accept(value.into()),
        HeaderName::Authorization => R::Authorization(value.into()),
        HeaderName::ProxyAuthorization => R::ProxyAuthorization(value.into()),
        HeaderName::WwwAuthenticate => R::WwwAuthenticate(value.into()),
        HeaderName::ProxyAuthenticate => R::ProxyAuthenticate(value.into()),
        HeaderName::Expires => R::Expires(value.into()),
        HeaderName::MinExpires => R::MinExpires(value.into()),
        HeaderName::RetryAfter => R::RetryAfter(value.into()),
        HeaderName::Date => R::Date(value.into()),
        HeaderName::Subject => R::Subject(value.into()),
        HeaderName::UserAgent => R::UserAgent(value.into()),
        HeaderName::Server => R::Server(value.into()),
        HeaderName::Event => R::Event(value.into()),
        HeaderName::Warning => R::Warning(value.into()),
        known @ (HeaderName::Path
        | HeaderName::Reason
        | HeaderName::ReferTo
        | HeaderName::SessionExpires
        | HeaderName::PAssertedIdentity) => R::Other(known.as_str().to_owned(), value),
        HeaderName::Other => R::Other(name.to_owned(), value),
    }
}

/// Writes headers and body; Content-Length is what the body is, whatever a header says.
fn finish(mut writer: Writer, headers: &rsip::Headers, body: &[u8]) -> Result<Message, ConversionError> {
    let mut content_type = String::new();
    for header in headers.iter() {
        let line = header.to_string();
        let (name, value) = line.split_once(": ").unwrap_or((line.as_str(), ""));
        match HeaderName::from_text(name) {
            HeaderName::ContentLength => {}
            HeaderName::ContentType if !body.is_empty() => value.clone_into(&mut content_type),
            _ => {
                writer.named(name, value);
            }
        }
    }
    let raw: Bytes = writer.finish(&content_type, body);
    let message = Message::parse(raw).map_err(ConversionError::Malformed)?;
    well_formed(&message).map(|()| message)
}

#[cfg(test)]
mod tests {
    use rsip::headers::ToTypedHeader;
    use rsip::message::{HasHeaders, HeadersExt};

    use super::*;

    fn parse(text: &str) -> Message {
        Message::parse(Bytes::copy_from_slice(text.as_bytes())).unwrap()
    }

    const COMPACT: &str = "INVITE sip:bob@biloxi.example;transport=tcp SIP/2.0\r\nv: SIP/2.0/UDP h:5060;branch=z9hG4bK1\r\n\
                           f: \"A\"\r\n <sip:a@h>;tag=1\r\nt: <sip:bob@biloxi.example>\r\ni: c@h\r\nCSeq: 7 INVITE\r\n\
                           m: <sip:a@h:5060>\r\nX-Other: 1\r\nc: application/sdp\r\nl: 5\r\n\r\nv=0\r\n";

    #[test]
    fn request_goes_there_with_names_that_rsip_finds() {
        let ours = parse(COMPACT);
        let theirs = rsip::Request::try_from(&ours).unwrap();
        assert_eq!((theirs.method, theirs.body.as_slice()), (rsip::Method::Invite, b"v=0\r\n".as_slice()));
        assert_eq!(theirs.uri.to_string(), "sip:bob@biloxi.example;transport=TCP");
        let cseq = theirs.cseq_header().unwrap().typed().unwrap();
        assert_eq!((cseq.seq, cseq.method), (7, rsip::Method::Invite));
        assert_eq!(
            theirs.via_header().unwrap().typed().unwrap().branch().map(|branch| branch.to_string()),
            Some("z9hG4bK1".into())
        );
        assert_eq!(theirs.from_header().unwrap().typed().unwrap().tag().map(|tag| tag.to_string()), Some("1".into()));
        assert_eq!(theirs.headers().iter().count(), ours.all_headers().count());
    }

    #[test]
    fn request_comes_back_as_it_went() {
        let ours = parse(COMPACT);
        let back = Message::try_from(&rsip::SipMessage::try_from(&ours).unwrap()).unwrap();
        assert_eq!((back.method_text(), back.body()), ("INVITE", ours.body()));
        assert!(back.request_uri().eq_ignore_ascii_case(ours.request_uri()));
        for name in [HeaderName::Via, HeaderName::From, HeaderName::To, HeaderName::CallId, HeaderName::CSeq] {
            assert_eq!(back.header(name), ours.header(name).map(unfold).as_deref(), "{name:?}");
        }
        assert_eq!(
            (back.other_header("x-other"), back.content_type().as_deref()),
            (Some("1"), Some("application/sdp"))
        );
    }

    #[test]
    fn binary_body_and_reason_phrase_survive() {
        let mut writer = Writer::response(183, "");
        writer.header(HeaderName::CallId, "c");
        let body = [0, 255, 13, 10, 128];
        let ours = Message::parse(writer.finish("application/octet-stream", &body)).unwrap();
        let theirs = rsip::Response::try_from(&ours).unwrap();
        assert_eq!(theirs.status_code, rsip::StatusCode::SessionProgress);
        let back = Message::try_from(&theirs).unwrap();
        assert_eq!((back.status(), back.reason_phrase()), (183, "Session Progress"));
        assert_eq!(back.body().as_ref(), body);
        let novel = rsip::Response::try_from(&parse("SIP/2.0 299 So To Say\r\nl: 0\r\n\r\n")).unwrap();
        assert_eq!(Message::try_from(&novel).unwrap().reason_phrase(), "So To Say");
    }

    #[test]
    fn what_rsip_cannot_represent_is_an_error() {
        for (text, error) in [
            ("RE%47IST%45R sip:a@h SIP/2.0\r\n\r\n", ConversionError::Method),
            ("invite sip:a@h SIP/2.0\r\n\r\n", ConversionError::Method),
            ("INVITE sip:a@[2001:db8::1] SIP/2.0\r\n\r\n", ConversionError::Uri),
            ("INVITE tel:+14155550100 SIP/2.0\r\n\r\n", ConversionError::Uri),
            ("INVITE sip:a@h?x=y SIP/2.0\r\n\r\n", ConversionError::Uri),
            ("INVITE sip:a@h SIP/3.0\r\n\r\n", ConversionError::Version),
            ("INVITE sip:a@h SIP/2.0\r\nno colon\r\n\r\n", ConversionError::Malformed(Malformed::HeaderLine)),
            ("SIP/2.0 200 OK\r\n\r\n", ConversionError::OtherKind),
        ] {
            assert_eq!(rsip::Request::try_from(&parse(text)), Err(error), "{text}");
        }
        assert_eq!(rsip::Response::try_from(&parse(COMPACT)), Err(ConversionError::OtherKind));
    }

    #[test]
    fn threat_13_line_break_in_a_value_of_rsip_begins_no_header() {
        let mut theirs = rsip::Request::try_from(&parse(COMPACT)).unwrap();
        theirs.headers.push(rsip::Header::Other("X-A".into(), "1\r\nInjected: yes".into()));
        assert_eq!(Message::try_from(&theirs).unwrap().other_header("Injected"), None);
        theirs.headers.push(rsip::Header::Other("X-B\r\nInjected".into(), "yes".into()));
        let taken = Message::try_from(&theirs);
        assert!(taken.is_err() || taken.unwrap().other_header("Injected").is_none());
        theirs.version = rsip::Version::V1;
        assert_eq!(Message::try_from(&theirs), Err(ConversionError::Version));
    }
}
