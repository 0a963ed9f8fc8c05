//! DTLS 1.2 as a server, for the keys of SRTP (RFC 5764), by `rtc-dtls`: one association of one browser.
//!
//! The crate does not send a flight again that the network has lost, where the peer has repeated its own meanwhile: so we do,
//! byte for byte, until something new is to be said. A record that comes twice is a replay, and dropped.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use ring::digest;
use rtc_crypto::RTCCryptoProvider;
use rtc_dtls::config::{ClientAuthType, ConfigBuilder, ExtendedMasterSecretType, HandshakeConfig};
use rtc_dtls::crypto::Certificate;
use rtc_dtls::endpoint::{Endpoint, EndpointEvent};
use rtc_dtls::extension::extension_use_srtp::SrtpProtectionProfile;
use rtc_shared::TransportProtocol;

use crate::sdp::Fingerprint;
use crate::srtp::{MasterKey, Profile};
use crate::time::Mono;

/// Who a process is to browsers: a certificate that no other process has.
///
/// Were it another's, a browser whose call was moved here would see no reason for a handshake, and both would wait for ever.
pub struct Identity {
    provider: Arc<dyn RTCCryptoProvider>,
    certificate: Certificate,
    fingerprint: Fingerprint,
    /// The crate's clock, at 0 of ours.
    origin: Instant,
}

impl Identity {
    /// A new one. `at` is a moment on both clocks.
    pub fn new(at: (Instant, Mono)) -> Result<Identity, String> {
        let provider = rtc_crypto::default_provider().map_err(|error| error.to_string())?;
        let certificate = Certificate::generate_self_signed(vec!["dialtone".to_owned()], provider.crypto())
            .map_err(|error| error.to_string())?;
        let der = certificate.certificate.first().ok_or("a certificate without a certificate")?;
        let fingerprint = fingerprint_of(der);
        let origin = at.0.checked_sub(Duration::from_micros(at.1.0)).unwrap_or(at.0);
        Ok(Identity { provider, certificate, fingerprint, origin })
    }

    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// What an association is made of, whose peer shows the certificate of that fingerprint.
    fn config(&self, theirs: Fingerprint) -> Option<HandshakeConfig> {
        let is_theirs =
            move |certificates: &[Vec<u8>]| certificates.first().is_some_and(|der| fingerprint_of(der) == theirs);
        ConfigBuilder::default()
            .with_crypto_provider(Arc::clone(&self.provider))
            .with_certificates(vec![self.certificate.clone()])
            .with_srtp_protection_profiles(vec![
                SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm,
                SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80,
            ])
            .with_client_auth(ClientAuthType::RequireAnyClientCert)
            // No authority vouches for a browser: its fingerprint does, which came with the signalling.
            .with_insecure_skip_verify(true)
            .with_extended_master_secret(ExtendedMasterSecretType::Require)
            .with_verify_peer_certificate(Some(Arc::new(move |certificates, _| match is_theirs(certificates) {
                true => Ok(()),
                false => Err(rtc_shared::error::Error::ErrNoMatchingCertificateFingerprint),
            })))
            .build(false, None)
            .ok()
    }
}

/// The keys that a handshake has led to.
pub(super) struct Keys {
    pub ours: MasterKey,
    pub theirs: MasterKey,
}

pub(super) struct Association {
    /// The crate's clock, at 0 of ours.
    origin: Instant,
    endpoint: Endpoint,
    out: VecDeque<Bytes>,
    /// What was sent last, while the handshake goes on.
    flight: Vec<Bytes>,
    sent_again: u32,
    again_at: Option<Mono>,
    is_complete: bool,
    /// The browser has said that it is done.
    pub is_closed: bool,
}

impl Association {
    pub fn new(identity: &Identity, theirs: Fingerprint) -> Option<Association> {
        let config = Arc::new(identity.config(theirs)?);
        Some(Association {
            origin: identity.origin,
            endpoint: Endpoint::new(PEER, TransportProtocol::UDP, Some(config)),
            out: VecDeque::new(),
            flight: Vec::new(),
            sent_again: 0,
            again_at: None,
            is_complete: false,
            is_closed: false,
        })
    }

    /// Takes a datagram; the keys, once the handshake is complete. An error is the end of the association, for a person.
    pub fn handle(&mut self, datagram: &[u8], now: Mono) -> Result<Option<Keys>, String> {
        let outcome = self.endpoint.read(self.instant(now), PEER, None, BytesMut::from(datagram));
        self.take_flight(now);
        let mut keys = None;
        match outcome {
            Ok(events) => {
                for event in events {
                    match event {
                        EndpointEvent::HandshakeComplete => {
                            self.is_complete = true;
                            self.stop_repeating();
                            keys = Some(self.keys()?);
                        }
                        EndpointEvent::PeerClosed => self.is_closed = true,
                        _ => {}
                    }
                }
                Ok(keys)
            }
            // Of what a browser sends later nothing matters that cannot be read.
            Err(_) if self.is_complete => Ok(None),
            Err(error) => {
                self.stop_repeating();
                Err(format!("the DTLS handshake failed: {error}"))
            }
        }
    }

    pub fn next_deadline(&self) -> Option<Mono> {
        self.again_at
    }

    pub fn handle_timeout(&mut self, now: Mono) {
        if self.again_at.is_some_and(|at| at <= now) {
            self.out.extend(self.flight.iter().cloned());
            self.sent_again += 1;
            self.again_at = Some(now + (FIRST_AGAIN * 2u32.saturating_pow(self.sent_again)).min(LONGEST_AGAIN));
        }
    }

    pub fn poll_transmit(&mut self) -> Option<Bytes> {
        self.out.pop_front()
    }

    /// What the crate has to say now; while the handshake goes on, to be said again until it says something else.
    fn take_flight(&mut self, now: Mono) {
        let mut flight = Vec::new();
        while let Some(transmit) = self.endpoint.poll_transmit() {
            flight.push(transmit.message.freeze());
        }
        if flight.is_empty() {
            return;
        }
        self.out.extend(flight.iter().cloned());
        if !self.is_complete {
            (self.flight, self.sent_again, self.again_at) = (flight, 0, Some(now + FIRST_AGAIN));
        }
    }

    fn instant(&self, now: Mono) -> Instant {
        self.origin + Duration::from_micros(now.0)
    }

    fn stop_repeating(&mut self) {
        (self.flight, self.again_at) = (Vec::new(), None);
    }

    /// RFC 5764 s4.2: the client's key, the server's, the client's salt, the server's.
    fn keys(&self) -> Result<Keys, String> {
        let state = self.endpoint.get_connection_state(PEER).ok_or("no connection")?;
        let profile = match state.srtp_protection_profile() {
            SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm => Profile::AeadAes128Gcm,
            SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80 => Profile::AesCm128HmacSha1_80,
            _ => return Err("the browser has no profile of SRTP that is spoken here".into()),
        };
        let material = state
            .export_keying_material(LABEL, &[], 2 * profile.key_len())
            .map_err(|error| format!("no keys for SRTP: {error}"))?;
        let (keys, salts) = material.as_ref().split_at(32);
        let of = |end: usize| {
            let salt = &salts[end * profile.salt_len()..][..profile.salt_len()];
            MasterKey::new(profile, &[&keys[end * 16..][..16], salt].concat()).ok_or("a key of another length")
        };
        Ok(Keys { theirs: of(0)?, ours: of(1)? })
    }
}

fn fingerprint_of(der: &[u8]) -> Fingerprint {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest::digest(&digest::SHA256, der).as_ref());
    Fingerprint(bytes)
}

/// The crate tells associations apart by address; ours has one, wherever it moves to.
const PEER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9);
const LABEL: &str = "EXTRACTOR-dtls_srtp";
/// A browser repeats its own after 50 ms.
const FIRST_AGAIN: Duration = Duration::from_millis(60);
const LONGEST_AGAIN: Duration = Duration::from_secs(8);
