//! A whole call: signalling, sound, and what is left behind.

use crate::peer::{House, Peer};

/// An RTP packet of 20 ms of one sample value.
fn packet(sequence: u16, sample: u8) -> Vec<u8> {
    let mut packet = vec![0x80, 0];
    packet.extend(sequence.to_be_bytes());
    packet.extend((u32::from(sequence) * 160).to_be_bytes());
    packet.extend(0xfeed_u32.to_be_bytes());
    packet.extend([sample; 160]);
    packet
}

#[test]
fn echo_is_heard_and_the_call_leaves_one_record_and_one_ledger_line() {
    let mut house = House::start();
    let peer = Peer::new(&house);
    peer.send(&peer.invite("call-1", "echo"));
    let answer = peer.expect(200);
    let tag = answer.to_tag().unwrap().to_owned();
    peer.send(&peer.inside("ACK", "call-1", "echo", &tag, 1));

    let body = answer.body();
    let sdp = std::str::from_utf8(&body).unwrap();
    let port: u16 = sdp.split("m=audio ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    let mut heard = Vec::new();
    for sequence in 0..20 {
        peer.rtp.send_to(&packet(sequence, 0x55), ("127.0.0.1", port)).unwrap();
        let mut buffer = [0; 1500];
        let (length, _) = peer.rtp.recv_from(&mut buffer).expect("the echo is heard");
        heard.extend_from_slice(&buffer[12..length]);
    }
    assert!(heard.iter().all(|sample| *sample == 0x55), "what was said comes back as it was");

    peer.send(&peer.inside("BYE", "call-1", "echo", &tag, 2));
    peer.expect(200);
    let sid = loop {
        let (status, body) = house.get("/dialtone/v1/calls", Some("operator"));
        assert_eq!(status, "HTTP/1.1 200 OK");
        let list: serde_json::Value =
            serde_json::from_str(&body[body.find('{').unwrap()..=body.rfind('}').unwrap()]).unwrap();
        let call = &list["calls"][0];
        if call["status"] == "completed" {
            assert_eq!((&call["direction"], &call["to"]), (&"inbound".into(), &"echo".into()));
            assert_eq!(call["completed"]["media"]["packets_received"], 20);
            break call["sid"].as_str().unwrap().to_owned();
        }
        std::thread::yield_now();
    };
    assert_eq!(house.get(&format!("/dialtone/v1/calls/{sid}"), None).0, "HTTP/1.1 401 Unauthorized");
    assert_eq!(
        house.get("/dialtone/v1/calls/CA00000000000000000000000000000000", Some("operator")).0,
        "HTTP/1.1 404 Not Found"
    );

    house.stop();
    let url = format!("sqlite://{}/d.db", house.folder.display());
    let (calls, lines) = house.runtime.block_on(async {
        let store = dialtone::store::Store::open(&url).await.unwrap();
        (store.calls(None, 10).await.unwrap(), store.ledger_lines().await.unwrap())
    });
    assert_eq!(calls.len(), 1);
    assert_eq!(lines, 1);
    assert_eq!(calls[0].sid.to_string(), sid);
}
