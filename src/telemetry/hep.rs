//! SIP messages for a collector, encapsulated by HEPv3 (the Homer Encapsulation Protocol, revision 36 of 2014), one datagram each.
//!
//! What the network does not take at once is not sent: a call never waits for who looks at it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A message as it was on the wire.
#[derive(Clone, Copy, Debug)]
pub struct Captured<'a> {
    pub source: SocketAddr,
    pub destination: SocketAddr,
    pub is_udp: bool,
    /// Since 1970.
    pub at: Duration,
    pub bytes: &'a [u8],
}

/// The way to a collector.
pub struct Hep {
    socket: UdpSocket,
    node: u32,
    password: String,
}

// Chunks of the generic vendor.
const FAMILY: u16 = 1;
const PROTOCOL: u16 = 2;
const SOURCE_V4: u16 = 3;
const DESTINATION_V4: u16 = 4;
const SOURCE_V6: u16 = 5;
const DESTINATION_V6: u16 = 6;
const SOURCE_PORT: u16 = 7;
const DESTINATION_PORT: u16 = 8;
const SECONDS: u16 = 9;
const MICROSECONDS: u16 = 10;
const KIND: u16 = 11;
const NODE: u16 = 12;
const PASSWORD: u16 = 14;
const PAYLOAD: u16 = 15;

const SIP: u8 = 1;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const UDP: u8 = 17;
const TCP: u8 = 6;
/// A longer message finds no place in a datagram.
const LONGEST: usize = 65_000;

impl Hep {
    /// `node` tells servers apart at the collector.
    pub fn open(collector: SocketAddr, node: u32, password: String) -> io::Result<Hep> {
        let any = match collector.ip() {
            IpAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            IpAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
        };
        let socket = UdpSocket::bind(any)?;
        socket.connect(collector)?;
        socket.set_nonblocking(true)?;
        Ok(Hep { socket, node, password })
    }

    pub fn capture(&self, source: SocketAddr, destination: SocketAddr, is_udp: bool, bytes: &[u8]) {
        let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let packet = encode(&Captured { source, destination, is_udp, at, bytes }, self.node, &self.password);
        let sent = packet.is_some_and(|packet| self.socket.send(&packet).is_ok());
        let outcome = if sent { "sent" } else { "dropped" };
        metrics::counter!("dialtone_hep_packets_total", "outcome" => outcome).increment(1);
    }
}

/// `None`: the message is too long.
pub fn encode(captured: &Captured<'_>, node: u32, password: &str) -> Option<Vec<u8>> {
    let Captured { source, destination, is_udp, at, bytes } = captured;
    if bytes.len() > LONGEST {
        return None;
    }
    let mut packet = Vec::with_capacity(bytes.len() + 128);
    packet.extend(b"HEP3\0\0");
    let mut chunk = |kind: u16, value: &[u8]| {
        packet.extend([0, 0]);
        packet.extend(kind.to_be_bytes());
        packet.extend((value.len() as u16 + 6).to_be_bytes());
        packet.extend(value);
    };
    chunk(PROTOCOL, &[if *is_udp { UDP } else { TCP }]);
    match (source.ip(), destination.ip()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            chunk(FAMILY, &[AF_INET]);
            chunk(SOURCE_V4, &source.octets());
            chunk(DESTINATION_V4, &destination.octets());
        }
        (source, destination) => {
            chunk(FAMILY, &[AF_INET6]);
            chunk(SOURCE_V6, &v6(source).octets());
            chunk(DESTINATION_V6, &v6(destination).octets());
        }
    }
    chunk(SOURCE_PORT, &source.port().to_be_bytes());
    chunk(DESTINATION_PORT, &destination.port().to_be_bytes());
    chunk(SECONDS, &u32::try_from(at.as_secs()).unwrap_or(u32::MAX).to_be_bytes());
    chunk(MICROSECONDS, &at.subsec_micros().to_be_bytes());
    chunk(KIND, &[SIP]);
    chunk(NODE, &node.to_be_bytes());
    if !password.is_empty() {
        chunk(PASSWORD, password.as_bytes());
    }
    chunk(PAYLOAD, bytes);
    let length = u16::try_from(packet.len()).ok()?;
    packet[4..6].copy_from_slice(&length.to_be_bytes());
    Some(packet)
}

fn v6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// The chunks by kind, as the specification has them read.
    fn chunks(packet: &[u8]) -> BTreeMap<u16, Vec<u8>> {
        assert_eq!(&packet[..4], b"HEP3");
        let number = |at: usize| u16::from_be_bytes([packet[at], packet[at + 1]]);
        assert_eq!(usize::from(number(4)), packet.len());
        let (mut found, mut at) = (BTreeMap::new(), 6);
        while at < packet.len() {
            let length = usize::from(number(at + 4));
            assert_eq!(number(at), 0, "the generic vendor");
            found.insert(number(at + 2), packet[at + 6..at + length].to_vec());
            at += length;
        }
        found
    }

    fn captured(source: &str, destination: &str, bytes: &'static [u8]) -> Captured<'static> {
        let at = Duration::from_micros(1_795_700_000_000_017);
        Captured { source: source.parse().unwrap(), destination: destination.parse().unwrap(), is_udp: true, at, bytes }
    }

    #[test]
    fn message_is_in_chunks_with_where_it_came_from_and_went() {
        let packet =
            encode(&captured("192.0.2.1:5060", "198.51.100.7:40000", b"OPTIONS sip:x SIP/2.0"), 7, "key").unwrap();
        let chunks = chunks(&packet);
        assert_eq!(chunks[&FAMILY], [2]);
        assert_eq!(chunks[&PROTOCOL], [17]);
        assert_eq!(
            (&chunks[&SOURCE_V4][..], &chunks[&DESTINATION_V4][..]),
            (&[192, 0, 2, 1][..], &[198, 51, 100, 7][..])
        );
        assert_eq!((&chunks[&SOURCE_PORT][..], &chunks[&DESTINATION_PORT][..]), (&[0x13, 0xc4][..], &[0x9c, 0x40][..]));
        assert_eq!(chunks[&SECONDS], 1_795_700_000_u32.to_be_bytes());
        assert_eq!(chunks[&MICROSECONDS], 17_u32.to_be_bytes());
        assert_eq!((chunks[&KIND][0], &chunks[&NODE][..], &chunks[&PASSWORD][..]), (1, &[0, 0, 0, 7][..], &b"key"[..]));
        assert_eq!(chunks[&PAYLOAD], b"OPTIONS sip:x SIP/2.0");
    }

    #[test]
    fn addresses_of_both_families_are_told_as_the_longer() {
        let packet = encode(&captured("[2001:db8::1]:5060", "192.0.2.9:5060", b"x"), 1, "").unwrap();
        let chunks = chunks(&packet);
        assert_eq!((chunks[&FAMILY][0], chunks[&SOURCE_V6].len()), (10, 16));
        assert_eq!(&chunks[&DESTINATION_V6][10..], [255, 255, 192, 0, 2, 9]);
        assert!(!chunks.contains_key(&PASSWORD) && !chunks.contains_key(&SOURCE_V4));
    }

    #[test]
    fn message_that_finds_no_place_is_left_out() {
        let bytes: &'static [u8] = Box::leak(vec![b'x'; 65_001].into_boxed_slice());
        assert_eq!(encode(&captured("192.0.2.1:1", "192.0.2.2:2", bytes), 1, ""), None);
    }
}
