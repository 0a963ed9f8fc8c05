//! Who may send to a leg: the address of its SDP, or, where NAT latching allows it, one that took its place.
//!
//! A stranger's packet goes nowhere and nothing is sent to a stranger. Latching is off by default. Where it is on
//! it happens once, only while nothing has come from the SDP's address, only where that address is private or is
//! not the one that signals, and only to a packet whose IP is the one that signals: then it is locked, and RTCP
//! follows the lock. Knows nothing of packets but their source.

use std::net::{IpAddr, SocketAddr};

use super::hot::Hot;
use crate::sdp::MediaPlan;

/// Whether a leg may learn its peer's address from packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Latching {
    /// Only the address of the SDP counts.
    #[default]
    Off,
    /// Peers behind a NAT that does not rewrite SDP are found by their first packet.
    Nat,
}

/// The source check of one leg.
pub struct Gate {
    latching: Latching,
    signalled_from: Option<IpAddr>,
    expected: Option<SocketAddr>,
    expected_rtcp: Option<SocketAddr>,
    rtcp_mux: bool,
    source: Source,
    /// Where RTCP came from after a lock: its port cannot be known before.
    rtcp_source: Option<SocketAddr>,
    last_stranger: Option<SocketAddr>,
    told_silent: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// Nothing has come yet.
    Unheard,
    /// The SDP's address sent: it is the only one for good.
    Confirmed,
    /// Locked to where the first packet came from.
    Locked(SocketAddr),
}

impl Gate {
    pub fn new(latching: Latching, signalled_from: Option<IpAddr>) -> Gate {
        Gate {
            latching,
            signalled_from: signalled_from.map(|ip| ip.to_canonical()),
            expected: None,
            expected_rtcp: None,
            rtcp_mux: false,
            source: Source::Unheard,
            rtcp_source: None,
            last_stranger: None,
            told_silent: false,
        }
    }

    pub(super) fn write_down(&self, hot: &mut Hot) {
        hot.is_confirmed = self.source == Source::Confirmed;
        hot.locked = match self.source {
            Source::Locked(peer) => Some(peer),
            Source::Unheard | Source::Confirmed => None,
        };
    }

    /// The peer is where it was found before.
    pub(super) fn take_up(&mut self, hot: &Hot) {
        self.source = match hot.locked {
            Some(peer) => Source::Locked(peer),
            None if hot.is_confirmed => Source::Confirmed,
            None => Source::Unheard,
        };
    }

    /// Takes what was agreed; true where the peer's address is another one, which opens a lock.
    ///
    /// A hold at `0.0.0.0` does not: the peer comes back to where it was, or says where else.
    pub fn expect(&mut self, plan: Option<&MediaPlan>) -> bool {
        let Some(plan) = plan else { return false };
        self.rtcp_mux = plan.rtcp_mux;
        self.expected_rtcp = plan.remote_rtcp;
        let Some(remote) = plan.remote else {
            return false;
        };
        if self.expected == Some(remote) {
            return false;
        }
        self.expected = Some(remote);
        self.source = Source::Unheard;
        self.rtcp_source = None;
        self.last_stranger = None;
        self.told_silent = false;
        true
    }

    /// Whether an RTP packet from there is the peer's. About 2 ns.
    pub fn admit_rtp(&mut self, from: SocketAddr) -> bool {
        let admitted = self.may_be_peer(from);
        match self.source {
            _ if !admitted => self.note_stranger(from),
            Source::Unheard if Some(from) == self.expected => self.source = Source::Confirmed,
            Source::Unheard => self.source = Source::Locked(from),
            Source::Confirmed | Source::Locked(_) => {}
        }
        admitted
    }

    /// Whether a packet from there may settle who the peer is, or is from whom that is settled to be.
    pub fn may_be_peer(&self, from: SocketAddr) -> bool {
        match self.source {
            Source::Locked(peer) => from == peer,
            Source::Confirmed => Some(from) == self.expected,
            Source::Unheard => Some(from) == self.expected || self.may_latch(from.ip()),
        }
    }

    /// ICE has found the peer there.
    pub fn nominate(&mut self, at: SocketAddr) {
        self.source = Source::Locked(at);
    }

    /// The peer is nowhere, until it is found again.
    pub fn forget_peer(&mut self) {
        self.source = Source::Unheard;
    }

    pub fn note_stranger(&mut self, from: SocketAddr) {
        self.last_stranger = Some(from);
    }

    /// Whether packets from there would be the peer's, as far as is known; settles nothing.
    pub fn is_peer(&self, from: SocketAddr) -> bool {
        self.rtp_target() == Some(from)
    }

    /// Whether RTCP from there is the peer's: the SDP's RTCP address, or the IP that RTP is locked to.
    pub fn admit_rtcp(&mut self, from: SocketAddr) -> bool {
        match self.source {
            Source::Locked(peer) if self.rtcp_mux => from == peer,
            Source::Locked(peer) => from.ip() == peer.ip() && *self.rtcp_source.get_or_insert(from) == from,
            _ => Some(from) == self.expected_rtcp,
        }
    }

    /// Where RTP goes: the lock, else the SDP's address.
    pub fn rtp_target(&self) -> Option<SocketAddr> {
        match self.source {
            Source::Locked(peer) => Some(peer),
            _ => self.expected,
        }
    }

    /// Where RTCP goes; after a lock to where it came from, or to the port above while nothing came.
    pub fn rtcp_target(&self) -> Option<SocketAddr> {
        match self.source {
            Source::Locked(peer) if self.rtcp_mux => Some(peer),
            Source::Locked(peer) => {
                let above = peer.port().checked_add(1).map(|port| SocketAddr::new(peer.ip(), port));
                self.rtcp_source.or(above)
            }
            _ => self.expected_rtcp,
        }
    }

    /// The peer, once a packet has settled who it is.
    pub fn settled(&self) -> Option<SocketAddr> {
        match self.source {
            Source::Unheard => None,
            Source::Confirmed => self.expected,
            Source::Locked(peer) => Some(peer),
        }
    }

    pub fn last_stranger(&self) -> Option<SocketAddr> {
        self.last_stranger
    }

    /// Silence from this address was told; it is not told again.
    pub fn tell_silent(&mut self) {
        self.told_silent = true;
    }

    pub fn told_silent(&self) -> bool {
        self.told_silent
    }

    fn may_latch(&self, from: IpAddr) -> bool {
        let (Latching::Nat, Some(expected), Some(signals)) = (self.latching, self.expected, self.signalled_from) else {
            return false;
        };
        from == signals && (is_private(expected.ip()) || expected.ip() != signals)
    }
}

/// An address that means nothing outside its network: RFC 1918, RFC 6598, RFC 3927, RFC 4193, loopback.
fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, ..] = ip.octets();
            ip.is_private() || ip.is_loopback() || ip.is_link_local() || (a == 100 && b & 0xC0 == 64)
        }
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::sdp::Negotiation;

    fn plan(address: &str, port: u16) -> MediaPlan {
        let offer = format!("v=0\r\nc=IN IP4 {address}\r\nm=audio {port} RTP/AVP 0\r\n");
        let mut negotiation = Negotiation::new(SocketAddr::from(([198, 51, 100, 1], 4000)), 1);
        negotiation.handle_offer(&Bytes::from(offer)).unwrap();
        negotiation.plan().unwrap()
    }

    fn gate(latching: Latching, signals: &str, sdp: &str) -> Gate {
        let mut gate = Gate::new(latching, signals.parse().ok());
        assert!(gate.expect(Some(&plan(sdp, 5000))));
        gate
    }

    fn at(address: &str) -> SocketAddr {
        address.parse().unwrap()
    }

    #[test]
    fn threat_05_who_is_let_in_first() {
        use Latching::{Nat, Off};
        // latching, who signals, address in the SDP, source of the first packet, let in
        let table = [
            (Off, "203.0.113.5", "203.0.113.5", "203.0.113.5:5000", true),
            (Off, "203.0.113.5", "203.0.113.5", "203.0.113.5:5002", false),
            (Off, "203.0.113.5", "10.0.0.5", "203.0.113.5:5000", false),
            (Nat, "203.0.113.5", "10.0.0.5", "203.0.113.5:61000", true),
            (Nat, "203.0.113.5", "100.64.1.1", "203.0.113.5:61000", true),
            (Nat, "203.0.113.5", "198.51.100.7", "203.0.113.5:61000", true),
            (Nat, "203.0.113.5", "10.0.0.5", "203.0.113.6:5000", false),
            // A public address that also signals is what it says: another port of it is a stranger.
            (Nat, "203.0.113.5", "203.0.113.5", "203.0.113.5:61000", false),
            (Nat, "", "10.0.0.5", "203.0.113.5:61000", false),
        ];
        for (latching, signals, sdp, from, admitted) in table {
            let mut gate = gate(latching, signals, sdp);
            assert_eq!(gate.admit_rtp(at(from)), admitted, "{latching:?} {signals} {sdp} {from}");
            assert_eq!(gate.settled().is_some(), admitted);
            assert_eq!(gate.last_stranger().is_some(), !admitted);
        }
    }

    #[test]
    fn threat_05_lock_is_taken_once_and_rtcp_follows_it() {
        let mut gate = gate(Latching::Nat, "203.0.113.5", "10.0.0.5");
        assert_eq!(gate.rtp_target(), Some(at("10.0.0.5:5000")));
        assert!(!gate.admit_rtcp(at("203.0.113.5:61001")), "before the lock");
        assert!(gate.admit_rtp(at("203.0.113.5:61000")));
        assert!(!gate.admit_rtp(at("203.0.113.5:61002")), "a second port of the same host");
        assert!(!gate.admit_rtp(at("10.0.0.5:5000")), "the address of the sdp, too late");
        assert_eq!(gate.rtp_target(), Some(at("203.0.113.5:61000")));
        assert_eq!(gate.rtcp_target(), Some(at("203.0.113.5:61001")));
        assert!(!gate.admit_rtcp(at("203.0.113.6:61001")));
        assert!(gate.admit_rtcp(at("203.0.113.5:61007")));
        assert!(!gate.admit_rtcp(at("203.0.113.5:61001")), "rtcp is locked too");
        assert_eq!(gate.rtcp_target(), Some(at("203.0.113.5:61007")));
    }

    #[test]
    fn threat_05_address_of_the_sdp_heard_first_closes_the_gate() {
        let mut gate = gate(Latching::Nat, "203.0.113.5", "10.0.0.5");
        assert!(gate.admit_rtp(at("10.0.0.5:5000")));
        assert!(!gate.admit_rtp(at("203.0.113.5:61000")));
        assert!(gate.admit_rtcp(at("10.0.0.5:5001")));
    }

    #[test]
    fn lock_outlives_a_hold_and_a_refresh_but_not_a_new_address() {
        let mut gate = gate(Latching::Nat, "203.0.113.5", "10.0.0.5");
        gate.admit_rtp(at("203.0.113.5:61000"));
        assert!(!gate.expect(Some(&plan("10.0.0.5", 5000))));
        assert!(!gate.expect(Some(&plan("0.0.0.0", 5000))));
        assert_eq!(gate.settled(), Some(at("203.0.113.5:61000")));
        assert!(gate.expect(Some(&plan("10.0.0.5", 5004))));
        assert_eq!(gate.settled(), None);
        assert!(gate.admit_rtp(at("203.0.113.5:61004")));
    }
}
