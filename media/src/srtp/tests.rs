use proptest::prelude::*;

use super::*;

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// The master key of RFC 3711 B.3, with its salt cut for the other profile.
fn key(profile: Profile) -> MasterKey {
    let all = bytes("E1F97A0D3E018BE0D64FA32C06DE4139 0EC675AD498AFEEBB6960B3AABE6");
    MasterKey::new(profile, &all[..profile.key_len()]).unwrap()
}

fn pair(profile: Profile) -> (Sender, Receiver) {
    (Sender::new(&key(profile)), Receiver::new(&key(profile)))
}

fn packet(seq: u16, ssrc: u32, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x80, 0];
    packet.extend(seq.to_be_bytes());
    packet.extend(160u32.to_be_bytes());
    packet.extend(ssrc.to_be_bytes());
    packet.extend(payload);
    packet
}

fn sealed(sender: &mut Sender, plain: &[u8]) -> Option<Vec<u8>> {
    let mut buffer = plain.to_vec();
    buffer.resize(plain.len() + MAX_OVERHEAD, 0xEE);
    sender.seal_rtp(&mut buffer, 0..plain.len()).map(|range| buffer[range].to_vec())
}

fn opened(receiver: &mut Receiver, sealed: &[u8]) -> Result<Vec<u8>, Fault> {
    let mut packet = sealed.to_vec();
    receiver.open_rtp(&mut packet).map(|len| packet[..len].to_vec())
}

#[test]
fn session_keys_are_those_of_rfc_3711_b3() {
    // They are private; this packet, which other implementations make of that key, is not.
    let (mut sender, _) = pair(Profile::AesCm128HmacSha1_80);
    let plain = bytes("800f1234 decafbad cafebabe abababababababababababababababab");
    let expected = bytes("800f1234 decafbad cafebabe 4e55dc4ce79978d88ca4d215949d2402 b78d6acc99ea179b8dbb");
    assert_eq!(sealed(&mut sender, &plain), Some(expected));
}

#[test]
fn reports_are_sealed_as_other_implementations_do() {
    let (mut sender, mut receiver) = pair(Profile::AesCm128HmacSha1_80);
    let plain = bytes("81c8000b cafebabe abababababababababababababababab");
    let expected = bytes("81c8000b cafebabe 7128035be487b9bdbef89041f977a5a8 80000001 993e08cd54d6c1230798");
    let mut buffer = [plain.clone(), vec![0; MAX_OVERHEAD]].concat();
    let len = sender.seal_rtcp(&mut buffer, plain.len()).unwrap();
    assert_eq!(buffer[..len], expected);
    assert_eq!(receiver.open_rtcp(&mut buffer[..len]), Ok(plain.len()));
    assert_eq!(buffer[..plain.len()], plain);
}

#[test]
fn both_profiles_carry_packets_and_reports_over_the_wrap() {
    for profile in Profile::ALL {
        let (mut sender, mut receiver) = pair(profile);
        for number in 65_000..134_000u32 {
            let plain = packet(number as u16, 7, &number.to_be_bytes());
            let sealed = sealed(&mut sender, &plain).unwrap();
            assert_ne!(sealed[12..16], plain[12..], "{profile:?}");
            assert_eq!(opened(&mut receiver, &sealed), Ok(plain), "{profile:?} {number}");
        }
        assert_eq!(receiver.heard(), Some((Ssrc(7), 133_999, 0)));
        assert_eq!(sender.index(), (Some(133_999), 0));
        let plain = bytes("81c90001 00000007 0102030405060708");
        for number in 1..=3 {
            let mut buffer = [plain.clone(), vec![0; MAX_OVERHEAD]].concat();
            let len = sender.seal_rtcp(&mut buffer, plain.len()).unwrap();
            let again = buffer[..len].to_vec();
            assert_eq!(receiver.open_rtcp(&mut buffer[..len]), Ok(plain.len()), "{profile:?}");
            assert_eq!(buffer[..plain.len()], plain);
            assert_eq!(receiver.open_rtcp(&mut again.clone()), Err(Fault::Replayed));
            assert_eq!(receiver.heard(), Some((Ssrc(7), 133_999, number)));
        }
    }
}

#[test]
fn threat_06_packet_that_was_changed_or_comes_again_is_refused_and_changes_nothing() {
    for profile in Profile::ALL {
        let (mut sender, mut receiver) = pair(profile);
        let mut packets: Vec<_> = (0..200).map(|seq| sealed(&mut sender, &packet(seq, 7, b"audio")).unwrap()).collect();
        for at in 0..packets[150].len() {
            let mut forged = packets[150].clone();
            forged[at] ^= 1;
            assert!(opened(&mut receiver, &forged).is_err(), "{profile:?} byte {at}");
        }
        assert_eq!(receiver.heard(), None, "a forged packet is nobody's");
        // 128 in any order, each once, and none older than that.
        packets[72..].reverse();
        for sealed in &packets[72..] {
            assert!(opened(&mut receiver, sealed).is_ok());
            assert_eq!(opened(&mut receiver, sealed), Err(Fault::Replayed));
        }
        assert_eq!(opened(&mut receiver, &packets[71]), Err(Fault::Replayed), "beyond the window");
    }
}

#[test]
fn threat_06_stream_that_comes_back_replays_nothing() {
    let (mut sender, mut receiver) = pair(Profile::AesCm128HmacSha1_80);
    let first = sealed(&mut sender, &packet(10, 7, b"audio")).unwrap();
    let mut other = Sender::new(&key(Profile::AesCm128HmacSha1_80));
    assert!(opened(&mut receiver, &first).is_ok());
    assert!(opened(&mut receiver, &sealed(&mut other, &packet(99, 8, b"audio")).unwrap()).is_ok());
    assert_eq!(opened(&mut receiver, &first), Err(Fault::Replayed));
}

#[test]
fn number_is_never_sealed_twice_not_even_by_whoever_goes_on() {
    for profile in Profile::ALL {
        let (mut sender, _) = pair(profile);
        for seq in [65_534, 65_535, 0, 1] {
            assert!(sealed(&mut sender, &packet(seq, 7, b"one")).is_some());
        }
        assert_eq!(sealed(&mut sender, &packet(65_535, 7, b"two")), None);
        assert!(sealed(&mut sender, &packet(3, 7, b"one")).is_some());
        assert!(sealed(&mut sender, &packet(2, 7, b"late")).is_some());
        let (index, rtcp_index) = sender.index();
        assert_eq!(index, Some(65_536 + 3));
        let mut next = Sender::new(&key(profile));
        next.resume(index, rtcp_index);
        assert_eq!(sealed(&mut next, &packet(2, 7, b"again")), None);
        let on = sealed(&mut next, &packet(4, 7, b"on")).unwrap();
        let mut receiver = Receiver::new(&key(profile));
        receiver.resume(Ssrc(7), 65_536 + 3, 0);
        assert!(opened(&mut receiver, &on).is_ok());
    }
}

#[test]
fn stream_that_has_gone_round_is_found_by_who_joins_late() {
    for profile in Profile::ALL {
        let (mut sender, _) = pair(profile);
        sender.resume(Some((5 << 16) + 100), 0);
        let packets: Vec<_> = (101..104).map(|seq| sealed(&mut sender, &packet(seq, 7, b"audio")).unwrap()).collect();
        let mut punctual = Receiver::new(&key(profile));
        assert_eq!(opened(&mut punctual, &packets[0]), Err(Fault::Forged));
        let mut late = Receiver::new(&key(profile));
        late.joins_late();
        for sealed in &packets {
            assert!(opened(&mut late, sealed).is_ok(), "{profile:?}");
        }
        assert_eq!(late.heard(), Some((Ssrc(7), (5 << 16) + 103, 0)));
    }
}

#[test]
fn keys_read_back_and_are_not_shown() {
    for profile in Profile::ALL {
        let key = key(profile);
        assert_eq!(MasterKey::new(profile, &key.to_bytes()), Some(key.clone()));
        assert_eq!(format!("{key:?}"), format!("MasterKey({}, ..)", profile.name()));
        assert_eq!(MasterKey::new(profile, &key.to_bytes()[1..]), None);
        assert_eq!(MasterKey::new(profile, &[0; 31]), None);
    }
}

proptest! {
    #[test]
    fn never_panics(mut packet in proptest::collection::vec(any::<u8>(), 0..80)) {
        for profile in Profile::ALL {
            let (_, mut receiver) = pair(profile);
            let _ = receiver.open_rtp(&mut packet);
            let _ = receiver.open_rtcp(&mut packet);
        }
    }
}
