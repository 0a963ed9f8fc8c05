//! Reads a session description: tolerant of what does not matter, strict about what does, and bounded.
//!
//! Lines end in CRLF or LF. Unknown lines and attributes are read over, a missing `o=`, `s=` or `t=` is forgiven,
//! an attribute that cannot be read is as if it were not there. What is malformed: no `v=0` at the start, a line
//! that is not `x=...`, an `m=` or `c=` line that cannot be read, and more than the limits allow.

use std::fmt;

use super::{Address, Direction, EVENT_NAME, Media, Name, Origin, RtcpAddress, RtpMap, Security, SessionDescription};
use crate::codec::Codec;

/// Why bytes are no session description.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// Longer than 64 kB.
    TooLong,
    /// The first line is not `v=0`.
    Version,
    /// This line, counted from 1, is not `x=...`, or cannot be read.
    Line(u32),
    /// More than 16 `m=` lines.
    TooManyMedia,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Malformed::TooLong => write!(f, "sdp longer than {MAX_BYTES} bytes"),
            Malformed::Version => f.write_str("sdp does not begin with v=0"),
            Malformed::Line(number) => write!(f, "sdp line {number} cannot be read"),
            Malformed::TooManyMedia => write!(f, "sdp with more than {MAX_MEDIA} media"),
        }
    }
}

/// Parses a description; never panics, and holds no more than the limits below allow.
pub fn parse(bytes: &[u8]) -> Result<SessionDescription, Malformed> {
    if bytes.len() > MAX_BYTES {
        return Err(Malformed::TooLong);
    }
    let text = String::from_utf8_lossy(bytes);
    let mut lines =
        text.split('\n').map(str::trim_ascii_end).zip(1..).filter(|(line, _)| !line.trim_ascii_start().is_empty());
    if !matches!(lines.next(), Some((line, _)) if line.trim_ascii_start() == "v=0") {
        return Err(Malformed::Version);
    }
    let mut sdp = SessionDescription { origin: None, connection: None, direction: None, media: Vec::new() };
    let mut common = Security::default();
    for (line, number) in lines {
        take_line(&mut sdp, &mut common, line).map_err(|fault| fault.unwrap_or(Malformed::Line(number)))?;
    }
    sdp.media.iter_mut().for_each(keep_known_formats);
    for Security { ice_ufrag, ice_pwd, fingerprint, setup, .. } in sdp.media.iter_mut().map(|media| &mut media.security)
    {
        *ice_ufrag = ice_ufrag.take().or_else(|| common.ice_ufrag.clone());
        *ice_pwd = ice_pwd.take().or_else(|| common.ice_pwd.clone());
        *fingerprint = fingerprint.or(common.fingerprint);
        *setup = setup.or(common.setup);
    }
    Ok(sdp)
}

/// `Err(None)` is a line that cannot be read.
fn take_line(sdp: &mut SessionDescription, common: &mut Security, line: &str) -> Result<(), Option<Malformed>> {
    let (&[kind, b'=', ..], Some(value)) = (line.as_bytes(), line.get(2..)) else {
        return Err(None);
    };
    let value = value.trim_ascii();
    let full = sdp.media.len() == MAX_MEDIA;
    match (kind, sdp.media.last_mut()) {
        (b'm', _) if full => return Err(Some(Malformed::TooManyMedia)),
        (b'm', _) => sdp.media.push(media(value).ok_or(None)?),
        (b'o', None) => sdp.origin = origin(value),
        // The first of several: a second one is an alternative at best.
        (b'c', None) => {
            let address = connection(value).ok_or(None)?;
            sdp.connection.get_or_insert(address);
        }
        (b'c', Some(media)) => {
            let address = connection(value).ok_or(None)?;
            if media.connections.len() < MAX_CONNECTIONS {
                media.connections.push(address);
            }
        }
        (b'a', None) => {
            let (name, rest) = attribute(value);
            if !common.take(name, rest) {
                sdp.direction = direction(value).or(sdp.direction);
            }
        }
        (b'a', Some(media)) => take_attribute(media, value),
        (b'a'..=b'z', _) => {}
        _ => return Err(None),
    }
    Ok(())
}

/// Its name and value.
fn attribute(attribute: &str) -> (&str, &str) {
    let (name, value) = attribute.split_once(':').unwrap_or((attribute, ""));
    (name.trim_ascii(), value.trim_ascii())
}

fn take_attribute(media: &mut Media, line: &str) {
    let (name, value) = attribute(line);
    match name {
        "rtpmap" if media.rtpmaps.len() < MAX_RTPMAPS => media.rtpmaps.extend(rtpmap(value)),
        "fmtp" => take_format(media, value),
        "rtcp-fb" => take_feedback(media, value),
        "ptime" => media.ptime_ms = milliseconds(value).or(media.ptime_ms),
        "maxptime" => media.maxptime_ms = milliseconds(value).or(media.maxptime_ms),
        "rtcp" => media.rtcp = rtcp(value).or(media.rtcp.take()),
        "rtcp-mux" => media.rtcp_mux = true,
        "mid" if is_token(value) => media.mid = Some(value.to_owned()),
        _ if media.security.take(name, value) => {}
        _ => media.direction = direction(line).or(media.direction),
    }
}

/// `audio 49170/1 RTP/AVP 0 8 101`
fn media(value: &str) -> Option<Media> {
    let (kind, rest) = word(value)?;
    let (port, rest) = word(rest)?;
    let (protocol, formats) = word(rest)?;
    let (port, _count) = port.split_once('/').unwrap_or((port, "1"));
    let formats = formats.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
    Some(Media::new(name(kind), port.parse().ok()?, name(protocol), formats))
}

/// Nearly every description has these words alone.
fn name(word: &str) -> Name {
    let usual = ["-", "audio", "RTP/AVP", "PCMU", "PCMA", EVENT_NAME].into_iter().find(|usual| *usual == word);
    usual.map_or_else(|| word.to_owned().into(), Name::Borrowed)
}

fn is_token(value: &str) -> bool {
    (1..=MAX_TOKEN).contains(&value.len()) && value.bytes().all(|byte| byte.is_ascii_graphic())
}

/// `- 3724394400 3724394405 IN IP4 198.51.100.1`
fn origin(value: &str) -> Option<Origin> {
    let (username, rest) = word(value)?;
    let (session_id, rest) = word(rest)?;
    let (version, rest) = word(rest)?;
    Some(Origin {
        username: name(username),
        session_id: session_id.parse().ok()?,
        version: version.parse().ok()?,
        address: connection(rest)?,
    })
}

/// `IN IP4 224.2.36.42/127`, also within `o=` and `a=rtcp`.
fn connection(value: &str) -> Option<Address> {
    let mut words = value.split_ascii_whitespace();
    if !words.next()?.eq_ignore_ascii_case("IN") {
        return None;
    }
    let family = words.next()?;
    if !family.eq_ignore_ascii_case("IP4") && !family.eq_ignore_ascii_case("IP6") {
        return None;
    }
    let host = words.next()?;
    let host = host.split_once('/').map_or(host, |(host, _)| host);
    // Some peers bracket an IPv6 address as in a URI.
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    match bare.parse() {
        Ok(ip) => Some(Address::Ip(ip)),
        Err(_) if host.is_empty() => None,
        Err(_) => Some(Address::Name(host.to_owned())),
    }
}

/// `101 telephone-event/8000`
fn rtpmap(value: &str) -> Option<RtpMap> {
    let (payload_type, rest) = word(value)?;
    let (encoding, rest) = word(rest)?.0.split_once('/')?;
    let (rate, channels) = rest.split_once('/').unwrap_or((rest, "1"));
    Some(RtpMap {
        payload_type: payload_type.parse().ok().filter(|pt| *pt < 128)?,
        encoding: name(encoding),
        rate_hz: rate.parse().ok()?,
        channels: channels.parse().ok().filter(|channels| *channels > 0).unwrap_or(1),
    })
}

/// `101 0-15`: the first of each payload type.
fn take_format(media: &mut Media, value: &str) {
    let Some((payload_type, parameters)) = word(value) else { return };
    let Ok(payload_type) = payload_type.parse() else { return };
    if media.parameters_of(payload_type).is_none() && media.parameters.len() < MAX_RTPMAPS {
        media.parameters.push((payload_type, parameters.trim_ascii().to_owned()));
    }
}

/// `111 nack`, or of all formats `* nack`; what else may be said is for video, or for other ways to send.
fn take_feedback(media: &mut Media, value: &str) {
    let Some((payload_type, "nack")) = word(value) else { return };
    let payload_types: Vec<u8> = match payload_type {
        "*" => media.payload_types().collect(),
        one => one.parse().into_iter().collect(),
    };
    for payload_type in payload_types {
        if !media.nacks.contains(&payload_type) && media.nacks.len() < MAX_RTPMAPS {
            media.nacks.push(payload_type);
        }
    }
}

/// Drops what is said of formats that are not spoken here. Firefox says it before it says what they are.
fn keep_known_formats(media: &mut Media) {
    let is_known = |map: &RtpMap| {
        map.encoding.eq_ignore_ascii_case(EVENT_NAME) || Codec::from_rtpmap(&map.encoding, map.rate_hz).is_some()
    };
    let known: Vec<u8> = media.rtpmaps.iter().filter(|map| is_known(map)).map(|map| map.payload_type).collect();
    media.parameters.retain(|(payload_type, _)| known.contains(payload_type));
    let is_opus = |map: &&RtpMap| Codec::from_rtpmap(&map.encoding, map.rate_hz) == Some(Codec::Opus);
    let opus: Vec<u8> = media.rtpmaps.iter().filter(is_opus).map(|map| map.payload_type).collect();
    media.nacks.retain(|payload_type| opus.contains(payload_type));
}

/// `53020 IN IP4 126.16.64.4`
fn rtcp(value: &str) -> Option<RtcpAddress> {
    let (port, rest) = word(value).unwrap_or((value, ""));
    Some(RtcpAddress { port: port.parse().ok()?, address: connection(rest) })
}

/// Fractions (`ptime:20.0`) are cut off; beyond 255 ms is as unreadable as no number.
fn milliseconds(value: &str) -> Option<u8> {
    value.split_once('.').map_or(value, |(whole, _)| whole).parse().ok()
}

fn direction(value: &str) -> Option<Direction> {
    Direction::ALL.into_iter().find(|direction| direction.name().eq_ignore_ascii_case(value.trim_ascii()))
}

/// The first word and the rest, which may be empty.
fn word(value: &str) -> Option<(&str, &str)> {
    let value = value.trim_ascii_start();
    let end = value.bytes().position(|byte| byte.is_ascii_whitespace()).unwrap_or(value.len());
    (end > 0).then(|| (&value[..end], value[end..].trim_ascii_start()))
}

/// A description on SIP over UDP is a tenth of this.
pub const MAX_BYTES: usize = 64 * 1024;
pub const MAX_MEDIA: usize = 16;
const MAX_CONNECTIONS: usize = 4;
const MAX_RTPMAPS: usize = 64;
/// Of a `mid`; browsers write one digit.
const MAX_TOKEN: usize = 64;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OFFER: &str = "v=0\r\no=alice 2890844526 2890844527 IN IP4 host.example.com\r\ns=\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n\
        a=sendonly\r\nm=audio 49170 RTP/AVP 0 8 97\r\na=rtpmap:97 iLBC/8000/1\r\na=ptime:30\r\na=maxptime:60\r\n\
        a=rtcp:53020 IN IP6 2001:db8::1\r\na=rtcp-mux\r\nm=video 51372/2 RTP/AVP 31\r\nc=IN IP4 224.2.1.1/127/3\r\n\
        c=IN IP6 [2001:db8::2]\r\na=inactive\r\n";

    #[test]
    fn offer_is_read_line_by_line() {
        let sdp = parse(OFFER.as_bytes()).unwrap();
        let origin = sdp.origin.unwrap();
        assert_eq!((origin.session_id, origin.version), (2890844526, 2890844527));
        assert_eq!(origin.address, Address::Name("host.example.com".into()));
        assert_eq!(sdp.connection, Some(Address::Ip([192, 0, 2, 1].into())));
        assert_eq!(sdp.direction, Some(Direction::SendOnly));
        let [audio, video] = &sdp.media[..] else { panic!("two media") };
        assert_eq!((&*audio.kind, audio.port, &*audio.protocol), ("audio", 49170, "RTP/AVP"));
        assert_eq!(audio.payload_types().collect::<Vec<_>>(), [0, 8, 97]);
        assert_eq!(audio.rtpmap(97).map(|map| (&*map.encoding, map.rate_hz)), Some(("iLBC", 8000)));
        assert_eq!((audio.ptime_ms, audio.maxptime_ms, audio.rtcp_mux), (Some(30), Some(60), true));
        let rtcp = audio.rtcp.as_ref().unwrap();
        assert_eq!((rtcp.port, rtcp.address.clone()), (53020, Some(Address::Ip("2001:db8::1".parse().unwrap()))));
        assert_eq!(audio.direction, None);
        assert_eq!((video.port, video.direction), (51372, Some(Direction::Inactive)));
        assert_eq!(
            video.connections,
            [Address::Ip([224, 2, 1, 1].into()), Address::Ip("2001:db8::2".parse().unwrap())]
        );
    }

    #[test]
    fn what_does_not_matter_is_forgiven() {
        let table: &[(&str, &str)] = &[
            ("bare line feeds", "v=0\no=- 1 1 IN IP4 1.1.1.1\ns=-\nm=audio 4 RTP/AVP 0\n"),
            ("no o, s and t", "v=0\r\nm=audio 4 RTP/AVP 0\r\n"),
            ("no line end at the end", "v=0\r\nm=audio 4 RTP/AVP 0"),
            ("empty lines", "\r\nv=0\r\n\r\nm=audio 4 RTP/AVP 0\r\n\r\n"),
            ("origin beyond 64 bits", "v=0\r\no=- 99999999999999999999 1 IN IP4 1.1.1.1\r\nm=audio 4 RTP/AVP 0\r\n"),
            ("unreadable attributes", "v=0\r\nm=audio 4 RTP/AVP 0\r\na=rtpmap:x\r\na=ptime:abc\r\na=rtcp:\r\na=\r\n"),
            ("more spaces than asked for", "v=0\r\nm=audio  4  RTP/AVP  0\r\n"),
        ];
        for (name, text) in table {
            let sdp = parse(text.as_bytes()).unwrap_or_else(|fault| panic!("{name}: {fault}"));
            assert_eq!(sdp.media.len(), 1, "{name}");
            assert_eq!((sdp.media[0].port, sdp.media[0].formats.as_str()), (4, "0"), "{name}");
        }
        assert!(parse(b"v=0\r\ns=caf\xE9\r\nm=audio 4 RTP/AVP 0\r\n").is_ok(), "latin-1 in a name");
    }

    #[test]
    fn threat_04_garbage_is_an_error_that_names_the_line() {
        let table: &[(&str, &[u8], Malformed)] = &[
            ("empty", b"", Malformed::Version),
            ("binary", &[0, 159, 146, 150], Malformed::Version),
            ("version 1", b"v=1\r\n", Malformed::Version),
            ("sip", b"v=0\r\nINVITE sip:a@b SIP/2.0\r\n", Malformed::Line(2)),
            ("m without port", b"v=0\r\nm=audio\r\n", Malformed::Line(2)),
            ("m with a port too large", b"v=0\r\nm=audio 65536 RTP/AVP 0\r\n", Malformed::Line(2)),
            ("m with a negative port", b"v=0\r\nm=audio -1 RTP/AVP 0\r\n", Malformed::Line(2)),
            ("c of another network", b"v=0\r\nc=TN RFC2543 +1-201-406-4090\r\n", Malformed::Line(2)),
            ("c without address", b"v=0\r\nm=audio 4 RTP/AVP 0\r\nc=IN IP4\r\n", Malformed::Line(3)),
        ];
        for (name, bytes, fault) in table {
            assert_eq!(parse(bytes).as_ref(), Err(fault), "{name}");
        }
    }

    #[test]
    fn threat_04_no_more_than_16_media_and_64_kb_are_held() {
        let with = |count| format!("v=0\r\n{}", "m=audio 4 RTP/AVP 0\r\n".repeat(count));
        assert_eq!(parse(with(16).as_bytes()).unwrap().media.len(), 16);
        assert_eq!(parse(with(17).as_bytes()), Err(Malformed::TooManyMedia));
        let long = format!("v=0\r\ns={}\r\n", "x".repeat(MAX_BYTES));
        assert_eq!(parse(long.as_bytes()), Err(Malformed::TooLong));
        let many =
            format!("v=0\r\nm=audio 4 RTP/AVP 0\r\n{}", "a=rtpmap:96 A/8000\r\nc=IN IP4 1.1.1.1\r\n".repeat(999));
        let media = &parse(many.as_bytes()).unwrap().media[0];
        assert_eq!((media.rtpmaps.len(), media.connections.len()), (MAX_RTPMAPS, MAX_CONNECTIONS));
    }

    proptest! {
        #[test]
        fn threat_04_any_bytes_parse_or_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn threat_04_mutated_offer_parses_or_is_refused_and_writes_back_equal(
            at in 0..OFFER.len(), byte in any::<u8>(), cut in 0..OFFER.len(),
        ) {
            let mut bytes = OFFER.as_bytes().to_vec();
            bytes[at] = byte;
            bytes.truncate(cut.max(at));
            if let Ok(sdp) = parse(&bytes) {
                prop_assert_eq!(parse(sdp.to_string().as_bytes()), Ok(sdp));
            }
        }
    }
}
