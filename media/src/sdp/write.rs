//! Writes a session description: CRLF, in the order of RFC 4566 s5, and with what the model holds.

use std::fmt::{self, Write};
use std::net::IpAddr;

use super::{Address, Media, Security, SessionDescription};

/// What one audio line and its maps take.
const USUAL_BYTES: usize = 320;

impl SessionDescription {
    /// Its text. Piece by piece: formatting machinery costs more than all the rest of an answer.
    pub fn text(&self) -> String {
        let mut text = Text(String::with_capacity(USUAL_BYTES));
        text.put("v=0\r\n");
        if let Some(origin) = &self.origin {
            text.put("o=").put(&origin.username).put(" ").number(origin.session_id).put(" ").number(origin.version);
            text.put(" ").address(&origin.address).put("\r\n");
        }
        text.put("s=-\r\n");
        if let Some(address) = &self.connection {
            text.put("c=").address(address).put("\r\n");
        }
        text.put("t=0 0\r\n");
        if let Some(direction) = self.direction {
            text.put("a=").put(direction.name()).put("\r\n");
        }
        // What a browser bundles is what its transport carries (RFC 8843); ours is the lite side of ICE (RFC 8445 s2.5).
        let bundled: Vec<&str> =
            self.media.iter().filter(|media| media.has_transport()).filter_map(|m| m.mid.as_deref()).collect();
        if self.media.iter().any(Media::has_transport) {
            text.put("a=ice-lite\r\n");
        }
        if !bundled.is_empty() {
            text.put("a=group:BUNDLE ").put(&bundled.join(" ")).put("\r\n");
        }
        for media in &self.media {
            let address = media.connections.first().or(self.connection.as_ref());
            text.media(media);
            if let Some(Address::Ip(address)) = address.filter(|_| media.has_transport()) {
                text.candidates(*address, media.port);
            }
        }
        text.0
    }
}

impl fmt::Display for SessionDescription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}

struct Text(String);

impl Text {
    fn put(&mut self, text: &str) -> &mut Text {
        self.0.push_str(text);
        self
    }

    fn number(&mut self, number: impl Into<u64>) -> &mut Text {
        self.put(itoa::Buffer::new().format(number.into()))
    }

    fn address(&mut self, address: &Address) -> &mut Text {
        match address {
            Address::Ip(IpAddr::V4(ip)) => {
                let [a, b, c, d] = ip.octets();
                self.put("IN IP4 ").number(a).put(".").number(b).put(".").number(c).put(".").number(d)
            }
            Address::Ip(IpAddr::V6(ip)) => {
                write!(self.put("IN IP6 ").0, "{ip}").expect("a string takes all that is written");
                self
            }
            Address::Name(name) => self.put("IN IP4 ").put(name),
        }
    }

    fn media(&mut self, media: &Media) {
        self.put("m=").put(&media.kind).put(" ").number(media.port).put(" ").put(&media.protocol);
        self.put(" ").put(&media.formats).put("\r\n");
        for address in &media.connections {
            self.put("c=").address(address).put("\r\n");
        }
        for map in &media.rtpmaps {
            self.put("a=rtpmap:").number(map.payload_type).put(" ").put(&map.encoding).put("/").number(map.rate_hz);
            if map.channels != 1 {
                self.put("/").number(map.channels);
            }
            self.put("\r\n");
        }
        for (payload_type, parameters) in &media.parameters {
            self.put("a=fmtp:").number(*payload_type).put(" ").put(parameters).put("\r\n");
        }
        for payload_type in &media.nacks {
            self.put("a=rtcp-fb:").number(*payload_type).put(" nack\r\n");
        }
        if let Some(ptime) = media.ptime_ms {
            self.put("a=ptime:").number(ptime).put("\r\n");
        }
        if let Some(maxptime) = media.maxptime_ms {
            self.put("a=maxptime:").number(maxptime).put("\r\n");
        }
        if let Some(rtcp) = &media.rtcp {
            self.put("a=rtcp:").number(rtcp.port);
            if let Some(address) = &rtcp.address {
                self.put(" ").address(address);
            }
            self.put("\r\n");
        }
        if media.rtcp_mux {
            self.put("a=rtcp-mux\r\n");
        }
        if let Some(direction) = media.direction {
            self.put("a=").put(direction.name()).put("\r\n");
        }
        if let Some(mid) = &media.mid {
            self.put("a=mid:").put(mid).put("\r\n");
        }
        self.security(&media.security);
    }

    fn security(&mut self, security: &Security) {
        for crypto in &security.crypto {
            self.put("a=crypto:").number(crypto.tag).put(" ").put(crypto.key.profile().name());
            self.put(" inline:").put(&crypto.inline()).put("\r\n");
        }
        let setup = security.setup.map(|setup| setup.name().to_owned());
        let fingerprint = security.fingerprint.map(|fingerprint| format!("sha-256 {fingerprint}"));
        for (name, value) in [
            ("ice-ufrag", &security.ice_ufrag),
            ("ice-pwd", &security.ice_pwd),
            ("fingerprint", &fingerprint),
            ("setup", &setup),
        ] {
            if let Some(value) = value {
                self.put("a=").put(name).put(":").put(value).put("\r\n");
            }
        }
    }

    /// Our candidates: one port by UDP, and by TCP for networks without UDP (RFC 6544 s4.5). A browser learns of no other, and
    /// we learn of its own by its checks.
    fn candidates(&mut self, address: IpAddr, port: u16) {
        let address = address.to_string();
        let mut candidate = |head: &str, priority: u32, tail: &str| {
            self.put(head).number(priority).put(" ").put(&address).put(" ").number(port).put(tail);
        };
        candidate("a=candidate:1 1 udp ", HOST_PRIORITY, " typ host\r\n");
        candidate("a=candidate:2 1 tcp ", TCP_PRIORITY, " typ host tcptype passive\r\n");
        self.put("a=end-of-candidates\r\n");
    }
}

impl Media {
    /// Whether it has a browser's transport, and a port.
    fn has_transport(&self) -> bool {
        self.port != 0 && self.security.ice_ufrag.is_some()
    }
}

/// Of the only host candidate of a component (RFC 8445 s5.1.2).
const HOST_PRIORITY: u32 = (126 << 24) | (65_535 << 8) | 255;
/// Below all of UDP; passive, as one of a host is (RFC 6544 s4.2).
const TCP_PRIORITY: u32 = (90 << 24) | (((4 << 13) | 8_191) << 8) | 255;

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
