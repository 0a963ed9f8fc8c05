//! A browser of the same crate against us, in virtual time, over a network that loses and repeats.

use std::time::Instant;

use bytes::BytesMut;
use rtc_dtls::config::ConfigBuilder;
use rtc_dtls::config::{ClientAuthType, ExtendedMasterSecretType};
use rtc_dtls::endpoint::{Endpoint, EndpointEvent};
use rtc_dtls::extension::extension_use_srtp::SrtpProtectionProfile;
use rtc_shared::TransportProtocol;

use super::*;
use crate::random::Random;

pub(crate) const AT: &str = "203.0.113.5:4000";
pub(crate) const US: &str = "198.51.100.1:5000";
pub(crate) const PEER_UFRAG: &str = "thrs";

/// The other side: a client, which repeats its flights by its own timer.
pub(crate) struct Client {
    pub endpoint: Endpoint,
    pub origin: Instant,
    is_complete: bool,
}

/// The crate for DTLS counts from an `Instant`, and none can be had but by reading the clock: which one is all the same, for
/// time goes on from it as the test says.
#[allow(clippy::disallowed_methods)]
pub(crate) fn identity() -> Arc<Identity> {
    Arc::new(Identity::new((Instant::now(), Mono(0))).unwrap())
}

impl Client {
    #[allow(clippy::disallowed_methods)]
    pub fn new() -> (Client, Fingerprint) {
        let origin = Instant::now();
        let provider = rtc_crypto::default_provider().unwrap();
        let certificate =
            rtc_dtls::crypto::Certificate::generate_self_signed(vec!["browser".to_owned()], provider.crypto()).unwrap();
        let mut fingerprint = [0; 32];
        fingerprint.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, &certificate.certificate[0]).as_ref());
        let config = ConfigBuilder::default()
            .with_crypto_provider(provider)
            .with_certificates(vec![certificate])
            .with_srtp_protection_profiles(vec![SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80])
            .with_client_auth(ClientAuthType::RequireAnyClientCert)
            .with_insecure_skip_verify(true)
            .with_flight_interval(Duration::from_millis(50))
            .with_extended_master_secret(ExtendedMasterSecretType::Require)
            .build(true, None)
            .unwrap();
        let mut endpoint = Endpoint::new(AT.parse().unwrap(), TransportProtocol::UDP, None);
        endpoint.connect(origin, US.parse().unwrap(), Arc::new(config), None).unwrap();
        (Client { endpoint, origin, is_complete: false }, Fingerprint(fingerprint))
    }

    fn at(&self, now: Mono) -> Instant {
        self.origin + Duration::from_micros(now.0)
    }
}

fn transport(identity: &Identity, name: &str) -> Transport {
    Transport { ufrag: name.into(), pwd: format!("password-of-{name}-0123456789"), fingerprint: identity.fingerprint() }
}

pub(crate) fn check(ours: &Transport, nominates: bool) -> Vec<u8> {
    stun::request(&format!("{}:{PEER_UFRAG}", ours.ufrag), &ours.pwd, nominates, 0)
}

pub(crate) fn check_from(ufrag: &str, ours: &Transport) -> Vec<u8> {
    stun::request(&format!("{}:{ufrag}", ours.ufrag), &ours.pwd, true, 0)
}

/// What a transport told.
fn told(action: impl FnOnce(&mut dyn FnMut(Happened))) -> Vec<Happened> {
    let mut all = Vec::new();
    action(&mut |happened| all.push(happened));
    all
}

fn browser(identity: &Arc<Identity>, theirs: Fingerprint) -> (Browser, Transport) {
    let mut browser = Browser::new(Arc::clone(identity));
    let ours = transport(identity, "ours");
    browser.agree(&ours, theirs, PEER_UFRAG, Mono(0));
    (browser, ours)
}

/// Runs a handshake over a network that loses a share of the datagrams; what was told, and when it was over.
fn handshake(browser: &mut Browser, client: &mut Client, loss: f64, seed: u64) -> (Vec<Happened>, u64) {
    let mut random = Random::new(seed, 0);
    let mut all = Vec::new();
    for step in 0..20_000u64 {
        let now = Mono(step * 1000);
        let _ = client.endpoint.handle_timeout(US.parse().unwrap(), client.at(now));
        while let Some(transmit) = client.endpoint.poll_transmit() {
            if random.next_unit() >= loss {
                browser.handle_dtls(AT.parse().unwrap(), &transmit.message, now, |happened| all.push(happened));
            }
        }
        browser.handle_timeout(now, |happened| all.push(happened));
        while let Some((to, datagram)) = browser.poll_transmit() {
            assert_eq!(to.to_string(), AT);
            if random.next_unit() >= loss && Sort::of(&datagram) == Sort::Dtls {
                let at = client.at(now);
                let events = client.endpoint.read(at, US.parse().unwrap(), None, BytesMut::from(&datagram[..]));
                client.is_complete |= events
                    .is_ok_and(|events| events.iter().any(|event| matches!(event, EndpointEvent::HandshakeComplete)));
            }
        }
        if client.is_complete && !all.is_empty() || all.iter().any(|one| matches!(one, Happened::Failed(_))) {
            return (all, step);
        }
    }
    (all, u64::MAX)
}

fn connect(loss: f64, seed: u64) -> (Vec<Happened>, u64) {
    let identity = identity();
    let (mut client, theirs) = Client::new();
    let (mut browser, ours) = browser(&identity, theirs);
    let from = AT.parse().unwrap();
    assert_eq!(
        told(|tell| assert!(browser.handle_stun(from, &check(&ours, true), Mono(0), tell))),
        [Happened::Selected(from)]
    );
    browser.poll_transmit();
    handshake(&mut browser, &mut client, loss, seed)
}

#[test]
fn handshake_gives_keys_of_a_profile_that_both_speak() {
    let (happened, _) = connect(0.0, 1);
    let [Happened::Keys { ours, theirs }] = &happened[..] else { panic!("{happened:?}") };
    assert_ne!(ours, theirs);
    assert_eq!(ours.profile(), crate::srtp::Profile::AesCm128HmacSha1_80);
}

#[test]
fn threat_07_handshake_ends_on_a_network_that_loses_a_fifth() {
    for seed in 0..40 {
        let (happened, ms) = connect(0.2, seed);
        assert!(matches!(&happened[..], [Happened::Keys { .. }]), "seed {seed}: {happened:?} after {ms} ms");
    }
}

#[test]
fn threat_07_other_certificate_than_the_description_has_is_refused() {
    let identity = identity();
    let (mut client, _) = Client::new();
    let (mut browser, ours) = browser(&identity, Fingerprint([3; 32]));
    browser.handle_stun(AT.parse().unwrap(), &check(&ours, true), Mono(0), |_| {});
    let (happened, _) = handshake(&mut browser, &mut client, 0.0, 1);
    assert!(matches!(&happened[..], [Happened::Failed(why)] if why.contains("handshake")), "{happened:?}");
}

#[test]
fn threat_09_only_who_knows_the_password_is_answered() {
    let identity = identity();
    let (mut browser, ours) = browser(&identity, Fingerprint([3; 32]));
    let from = AT.parse().unwrap();
    let mut wrong = ours.clone();
    wrong.pwd.push('x');
    let stranger = Transport { ufrag: "else".into(), ..ours.clone() };
    for bad in [check(&wrong, true), check(&stranger, true), b"\0\x01junk".to_vec()] {
        assert_eq!(told(|tell| assert!(!browser.handle_stun(from, &bad, Mono(0), tell))), []);
    }
    assert!(browser.poll_transmit().is_none());
    let good = check(&ours, false);
    assert!(browser.handle_stun(from, &good, Mono(0), |_| {}));
    let (to, answer) = browser.poll_transmit().unwrap();
    assert!(to == from && answer.len() <= good.len());
}

#[test]
fn browser_is_where_it_nominates_last() {
    let identity = identity();
    let (mut browser, ours) = browser(&identity, Fingerprint([3; 32]));
    let [first, second]: [SocketAddr; 2] = ["192.0.2.1:1000", "192.0.2.2:2000"].map(|at| at.parse().unwrap());
    let at = |from, transport: &Transport, nominates, browser: &mut Browser| {
        told(|tell| assert!(browser.handle_stun(from, &check(transport, nominates), Mono(0), tell)))
    };
    assert_eq!(at(first, &ours, false, &mut browser), [Happened::Selected(first)], "the first that is valid");
    assert_eq!(at(second, &ours, false, &mut browser), []);
    assert_eq!(at(second, &ours, true, &mut browser), [Happened::Selected(second)]);
    // An ICE restart: the old one holds until there is a check by the new name.
    let restarted = transport(&identity, "next");
    browser.agree(&restarted, Fingerprint([3; 32]), PEER_UFRAG, Mono(0));
    assert_eq!(at(first, &ours, true, &mut browser), [], "by the old name");
    assert_eq!(at(first, &restarted, true, &mut browser), [Happened::Selected(first)]);
}

#[test]
fn of_several_ways_that_are_nominated_the_browser_is_at_the_best_that_works() {
    let identity = identity();
    let (mut browser, ours) = browser(&identity, Fingerprint([3; 32]));
    let [udp, tcp]: [SocketAddr; 2] = ["192.0.2.1:1000", "192.0.2.1:2000"].map(|at| at.parse().unwrap());
    let user = format!("{}:{PEER_UFRAG}", ours.ufrag);
    let mut at = |from, priority, seconds: u64| {
        let check = stun::request(&user, &ours.pwd, true, priority);
        told(|tell| assert!(browser.handle_stun(from, &check, Mono(seconds * 1_000_000), tell)))
    };
    assert_eq!(at(tcp, 90 << 24, 0), [Happened::Selected(tcp)]);
    assert_eq!(at(udp, 110 << 24, 0), [Happened::Selected(udp)]);
    // Firefox nominates whatever answers, and sends by the best.
    assert_eq!(at(tcp, 90 << 24, 1), []);
    assert_eq!(at(udp, 110 << 24, 6), []);
    assert_eq!(at(tcp, 90 << 24, 12), []);
    assert_eq!(at(tcp, 90 << 24, 13), [Happened::Selected(tcp)], "nothing has come by the better one for long");
}

#[test]
fn threat_09_browser_that_says_nothing_for_30_s_is_gone() {
    let identity = identity();
    let (mut browser, ours) = browser(&identity, Fingerprint([3; 32]));
    let from = AT.parse().unwrap();
    let seconds = |seconds: u64| Mono(seconds * 1_000_000);
    assert_eq!(browser.next_deadline(), None);
    browser.handle_stun(from, &check(&ours, true), seconds(5), |_| {});
    browser.handle_stun(from, &check(&ours, false), seconds(20), |_| {});
    assert_eq!(told(|tell| browser.handle_timeout(seconds(49), tell)), []);
    assert_eq!(browser.next_deadline(), Some(seconds(50)));
    assert_eq!(told(|tell| browser.handle_timeout(seconds(50), tell)), [Happened::Lost]);
    assert_eq!(browser.next_deadline(), None);
    assert_eq!(
        told(|tell| assert!(browser.handle_stun(from, &check(&ours, false), seconds(60), tell))),
        [Happened::Selected(from)]
    );
}

#[test]
fn call_that_is_moved_never_meets_the_same_fingerprint() {
    // Two processes: what a browser of the first hears of the second makes it shake hands again.
    let (first, second) = (identity(), identity());
    assert_ne!(first.fingerprint(), second.fingerprint());
    let (mut client, theirs) = Client::new();
    let (_, ours) = browser(&first, theirs);
    let mut there = Browser::new(second);
    there.agree(&ours, theirs, PEER_UFRAG, Mono(0));
    // With what the first has said the second cannot: it has the keys, or nothing.
    there.handle_stun(AT.parse().unwrap(), &check(&ours, true), Mono(0), |_| {});
    there.poll_transmit();
    let hello = client.endpoint.poll_transmit().unwrap();
    assert_eq!(told(|tell| there.handle_dtls(AT.parse().unwrap(), &hello.message, Mono(0), tell)), []);
    assert!(there.poll_transmit().is_none());
}
