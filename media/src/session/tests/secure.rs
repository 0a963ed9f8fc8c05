//! Legs that are encrypted by keys in their SDP: what is agreed, what is refused, and that nothing goes in the clear.

use super::*;
use crate::leg::Hot;
use crate::sdp::{Crypto, parse};
use crate::srtp::{MasterKey, Profile, Sender};

/// A phone with keys of its own.
struct SecurePhone {
    from: SocketAddr,
    key: MasterKey,
    sender: Sender,
    seq: u16,
}

impl SecurePhone {
    fn new(profile: Profile) -> SecurePhone {
        let key = MasterKey::new(profile, &[9; 30][..profile.key_len()]).unwrap();
        let from = "203.0.113.5:5000".parse().unwrap();
        SecurePhone { from, sender: Sender::new(&key), key, seq: 0 }
    }

    fn offer(&self, protocol: &str) -> String {
        offer(1, "0").replace("RTP/AVP", protocol) + &self.crypto(1)
    }

    fn crypto(&self, tag: u32) -> String {
        use base64::Engine;
        let key = base64::engine::general_purpose::STANDARD.encode(self.key.to_bytes());
        format!("a=crypto:{tag} {} inline:{key}|2^31\r\n", self.key.profile().name())
    }

    fn packet(&mut self) -> Vec<u8> {
        self.seq = self.seq.wrapping_add(1);
        let header = Header {
            marker: false,
            payload_type: 0,
            seq: Seq(self.seq),
            timestamp: RtpTime(u32::from(self.seq) * 160),
            ssrc: Ssrc(77),
        };
        let mut buffer = [&header.to_bytes()[..], &[0x55; 160], &[0; MAX_OVERHEAD]].concat();
        let sealed = self.sender.seal_rtp(&mut buffer, 0..172).unwrap();
        buffer[sealed].to_vec()
    }

    fn say(&mut self, world: &mut World) -> Result<(), Dropped> {
        let packet = self.packet();
        world.arrive(1, self.from, &packet)
    }
}

fn crypto_of(sdp: &Bytes) -> Vec<Crypto> {
    parse(sdp).unwrap().media.remove(0).security.crypto
}

/// An echo to itself.
fn open(world: &mut World, rtp: RtpLeg) -> Vec<MediaEventKind> {
    let leg = LegSpec { kind: Some(LegKind::Rtp(rtp)), ..rtp_leg(1, "", Hears::Leg(1)) };
    world.command(CommandKind::Open(SessionSpec { session_id: 1, legs: vec![leg], ..SessionSpec::default() }))
}

fn demanding(encryption: Encryption, sdp: &str) -> RtpLeg {
    RtpLeg { remote_sdp: Bytes::from(sdp.to_owned()), encryption: encryption as i32, ..RtpLeg::default() }
}

/// Opens a leg with the phone's offer, so that what is sent to it can be read.
fn answered(world: &mut World, phone: &SecurePhone, encryption: Encryption, protocol: &str) -> Negotiated {
    let told = negotiated(open(world, demanding(encryption, &phone.offer(protocol))).remove(0));
    let ours = crypto_of(&told.sdp);
    assert_eq!(ours.len(), 1);
    assert_eq!(ours[0].key.profile(), phone.key.profile());
    assert_ne!(ours[0].key, phone.key);
    world.keys.insert(phone.from, Receiver::new(&ours[0].key));
    told
}

#[test]
fn encrypted_offer_is_answered_with_a_key_and_both_ways_are_sealed() {
    for profile in Profile::ALL {
        for (encryption, protocol) in
            [(Encryption::AsOffered, "RTP/SAVP"), (Encryption::Sdes, "RTP/SAVPF"), (Encryption::Sdes, "RTP/AVP")]
        {
            let mut world = World::new();
            let mut phone = SecurePhone::new(profile);
            let told = answered(&mut world, &phone, encryption, protocol);
            assert_eq!(told.encryption, profile.name());
            assert!(told.sdp.windows(protocol.len()).any(|part| part == protocol.as_bytes()));
            for _ in 0..400 {
                phone.say(&mut world).unwrap();
                world.run_for(20);
            }
            let sent = world.take_sent();
            assert_eq!(sent.len(), 400);
            assert!(sent.iter().all(|packet| packet.payload == [0x55; 160]));
            assert!(world.reports > 0, "reports are sealed too");
        }
    }
}

#[test]
fn threat_08_what_must_be_encrypted_is_refused_in_the_clear() {
    let mut world = World::new();
    let plain = offer(1, "0");
    let told = open(&mut world, demanding(Encryption::Sdes, &plain));
    assert!(
        matches!(&told[..], [MediaEventKind::Refused(refused)]
        if refused.reason() == Refusal::NotAcceptable && refused.text.contains("encrypted")),
        "{told:?}"
    );
    // Our own offer has keys, and an answer without one is none.
    let told = negotiated(open(&mut world, demanding(Encryption::Sdes, "")).remove(0));
    assert!(told.sdp.windows(8).any(|part| part == b"RTP/SAVP"));
    let ours = crypto_of(&told.sdp);
    assert_eq!(
        ours.iter().map(|one| (one.tag, one.key.profile())).collect::<Vec<_>>(),
        [(1, Profile::AesCm128HmacSha1_80), (2, Profile::AeadAes128Gcm),]
    );
    let answer = |sdp: &str, world: &mut World| world.negotiate(1, SdpStep::RemoteAnswer, sdp);
    assert_eq!(refused(answer(&plain, &mut world)), Refusal::NotAcceptable);
    let savp = plain.replace("RTP/AVP", "RTP/SAVP");
    assert_eq!(refused(answer(&savp, &mut world)), Refusal::NotAcceptable, "without a key");
    let gcm = SecurePhone::new(Profile::AeadAes128Gcm);
    assert_eq!(refused(answer(&(savp.clone() + &gcm.crypto(1)), &mut world)), Refusal::NotAcceptable, "another tag's");
    assert_eq!(negotiated(answer(&(savp + &gcm.crypto(2)), &mut world)).encryption, "AEAD_AES_128_GCM");
}

#[test]
fn offer_of_both_is_taken_encrypted_and_one_that_we_cannot_read_is_refused() {
    let mut world = World::new();
    let phone = SecurePhone::new(Profile::AesCm128HmacSha1_80);
    let both = offer(1, "0") + phone.offer("RTP/SAVP").split_once("t=0 0\r\n").unwrap().1;
    let told = negotiated(open(&mut world, demanding(Encryption::AsOffered, &both)).remove(0));
    let answer = parse(&told.sdp).unwrap();
    assert_eq!(answer.media.iter().map(|media| media.port != 0).collect::<Vec<_>>(), [false, true]);
    let unknown = phone.offer("RTP/SAVP").replace("_SHA1_80", "_SHA1_32");
    let told = open(&mut World::new(), demanding(Encryption::AsOffered, &unknown));
    assert!(matches!(&told[..], [MediaEventKind::Refused(refused)] if refused.text.contains("AES_CM_128")), "{told:?}");
}

#[test]
fn threat_06_call_survives_ten_thousand_bad_packets() {
    let mut world = World::new();
    let mut phone = SecurePhone::new(Profile::AesCm128HmacSha1_80);
    answered(&mut world, &phone, Encryption::Sdes, "RTP/SAVP");
    let mut forger = SecurePhone::new(Profile::AesCm128HmacSha1_80);
    forger.sender = Sender::new(&MasterKey::new(forger.key.profile(), &[8; 30]).unwrap());
    for _ in 0..10_000 {
        assert_eq!(forger.say(&mut world), Err(Dropped::Forged));
    }
    let plain = [&phone.packet()[..12], &[0x55; 160]].concat();
    assert_eq!(world.arrive(1, phone.from, &plain), Err(Dropped::Forged), "in the clear");
    let packet = phone.packet();
    assert_eq!(world.arrive(1, phone.from, &packet), Ok(()));
    assert_eq!(world.arrive(1, phone.from, &packet), Err(Dropped::Replayed));
    assert_eq!(world.arrive(1, "203.0.113.6:5000".parse().unwrap(), &phone.packet()), Err(Dropped::Source));
    assert_eq!(world.take_sent().len(), 1);
}

#[test]
fn another_worker_goes_on_under_the_same_keys() {
    // In this worker's place, with what it has written down, after the numbers have gone round.
    let mut world = World::new();
    let mut phone = SecurePhone::new(Profile::AesCm128HmacSha1_80);
    let told = answered(&mut world, &phone, Encryption::Sdes, "RTP/SAVP");
    phone.seq = 64_000;
    for _ in 0..3_000 {
        phone.say(&mut world).unwrap();
        world.now += Duration::from_millis(20);
    }
    let last = world.take_sent().last().cloned().unwrap();
    let hot = world.sessions[0].hot(LegId(1)).unwrap();
    let spec = RtpLeg { local_sdp: told.sdp, ..demanding(Encryption::Sdes, &phone.offer("RTP/SAVP")) };
    let mut next = World::new();
    next.now = world.now;
    next.keys = std::mem::take(&mut world.keys);
    next.hot = Some(Hot::from_words(&hot.to_words()));
    open(&mut next, spec.clone());
    next.run_for(20);
    phone.say(&mut next).unwrap();
    let sent = next.take_sent();
    assert_eq!(sent[0].header.ssrc, last.header.ssrc);
    assert_eq!(sent[0].header.seq, last.header.seq + 1);
    assert_eq!(sent[0].payload, [0x55; 160]);
    // Elsewhere, with nothing but the descriptions: the same keys, another SSRC, and the phone is still understood.
    let mut elsewhere = World::new();
    let settings = Settings { advertise: [198, 51, 100, 1].into(), latching: Latching::Off, seed: 10, identity: None };
    elsewhere.sessions = vec![Session::new(SessionId(1), 1, settings, Mono(0))];
    elsewhere.keys = std::mem::take(&mut next.keys);
    let told = negotiated(open(&mut elsewhere, spec).remove(0));
    assert_eq!(crypto_of(&told.sdp).len(), 1);
    phone.say(&mut elsewhere).unwrap();
    phone.say(&mut elsewhere).unwrap();
    let sent = elsewhere.take_sent();
    assert_ne!(sent[0].header.ssrc, last.header.ssrc);
    assert_eq!(sent[1].payload, [0x55; 160]);
}
