//! Writes a session description: CRLF, in the order of RFC 4566 s5, and with what the model holds.

use std::fmt;
use std::net::IpAddr;

use super::{Address, Media, SessionDescription};

impl fmt::Display for SessionDescription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("v=0\r\n")?;
        if let Some(origin) = &self.origin {
            write!(f, "o={} {} {} {}\r\n", origin.username, origin.session_id, origin.version, origin.address)?;
        }
        f.write_str("s=-\r\n")?;
        if let Some(address) = &self.connection {
            write!(f, "c={address}\r\n")?;
        }
        f.write_str("t=0 0\r\n")?;
        if let Some(direction) = self.direction {
            write!(f, "a={}\r\n", direction.name())?;
        }
        self.media.iter().try_for_each(|media| media.fmt(f))
    }
}

impl fmt::Display for Media {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "m={} {} {} {}\r\n", self.kind, self.port, self.protocol, self.formats)?;
        for address in &self.connections {
            write!(f, "c={address}\r\n")?;
        }
        for map in &self.rtpmaps {
            write!(f, "a=rtpmap:{} {}/{}\r\n", map.payload_type, map.encoding, map.rate_hz)?;
        }
        if let Some((payload_type, events)) = &self.events {
            write!(f, "a=fmtp:{payload_type} {events}\r\n")?;
        }
        if let Some(ptime) = self.ptime_ms {
            write!(f, "a=ptime:{ptime}\r\n")?;
        }
        if let Some(maxptime) = self.maxptime_ms {
            write!(f, "a=maxptime:{maxptime}\r\n")?;
        }
        if let Some(rtcp) = &self.rtcp {
            write!(f, "a=rtcp:{}", rtcp.port)?;
            if let Some(address) = &rtcp.address {
                write!(f, " {address}")?;
            }
            f.write_str("\r\n")?;
        }
        if self.rtcp_mux {
            f.write_str("a=rtcp-mux\r\n")?;
        }
        if let Some(direction) = self.direction {
            write!(f, "a={}\r\n", direction.name())?;
        }
        Ok(())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Ip(IpAddr::V4(ip)) => write!(f, "IN IP4 {ip}"),
            Address::Ip(IpAddr::V6(ip)) => write!(f, "IN IP6 {ip}"),
            Address::Name(name) => write!(f, "IN IP4 {name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse;

    #[test]
    fn description_is_written_in_order_and_reads_back_equal() {
        let text = "v=0\r\no=- 7 8 IN IP6 2001:db8::1\r\ns=-\r\nc=IN IP6 2001:db8::1\r\nt=0 0\r\na=recvonly\r\n\
            m=audio 40000 RTP/AVP 0 101\r\nc=IN IP4 192.0.2.9\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:101 telephone-event/8000\r\n\
            a=fmtp:101 0-16\r\na=ptime:20\r\na=maxptime:60\r\na=rtcp:40009 IN IP4 192.0.2.10\r\na=rtcp-mux\r\na=sendrecv\r\n\
            m=video 0 RTP/AVP 31\r\n";
        let sdp = parse(text.as_bytes()).unwrap();
        assert_eq!(sdp.to_string(), text);
        assert_eq!(parse(sdp.to_string().as_bytes()).unwrap(), sdp);
    }
}
