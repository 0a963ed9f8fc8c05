//! SIP on real sockets: framing, refusals, and who is answered at all.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::peer::{House, PATIENCE, Peer, head};

fn options(own: &str, call_id: &str) -> String {
    format!(
        "OPTIONS sip:x SIP/2.0\r\nVia: SIP/2.0/TCP {own};branch=z9hG4bK{call_id}\r\nMax-Forwards: 70\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:x>\r\n\
         Call-ID: {call_id}\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
    )
}

/// Reads until so many responses are there.
fn responses(stream: &mut TcpStream, count: usize) -> String {
    let mut text = String::new();
    let mut buffer = [0; 4096];
    while text.lines().filter(|line| line.starts_with("SIP/2.0 ")).count() < count || !text.ends_with("\r\n\r\n") {
        let length = stream.read(&mut buffer).expect("the server answers");
        assert!(length > 0, "the server closed after {text}");
        text += std::str::from_utf8(&buffer[..length]).unwrap();
    }
    text
}

#[test]
fn tcp_messages_are_found_split_at_every_byte_and_pipelined() {
    let house = House::start();
    let mut stream = TcpStream::connect(house.tcp).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    for byte in options("127.0.0.1:1", "split").into_bytes() {
        stream.write_all(&[byte]).unwrap();
    }
    assert!(responses(&mut stream, 1).starts_with("SIP/2.0 200 OK"));
    let both = format!("{}{}", options("127.0.0.1:1", "one"), options("127.0.0.1:1", "two"));
    stream.write_all(both.as_bytes()).unwrap();
    let text = responses(&mut stream, 2);
    assert!(text.find("Call-ID: one").unwrap() < text.find("Call-ID: two").unwrap());
    stream.write_all(b"\r\n\r\n").unwrap();
    let mut pong = [0; 2];
    stream.read_exact(&mut pong).unwrap();
    assert_eq!(&pong, b"\r\n");
}

#[test]
fn threat_02_lost_framing_gets_400_and_closes_that_connection_only() {
    let house = House::start();
    let (mut bad, mut good) = (TcpStream::connect(house.tcp).unwrap(), TcpStream::connect(house.tcp).unwrap());
    for stream in [&bad, &good] {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
    }
    bad.write_all(options("127.0.0.1:1", "bad").replace("Content-Length: 0", "Content-Length: -1").as_bytes()).unwrap();
    let mut text = String::new();
    bad.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("SIP/2.0 400 "), "{text}");
    good.write_all(options("127.0.0.1:1", "good").as_bytes()).unwrap();
    assert!(responses(&mut good, 1).starts_with("SIP/2.0 200 OK"));
}

#[test]
fn refusals_have_the_status_that_the_rfcs_say() {
    let house = House::start();
    let peer = Peer::new(&house);
    let own = peer.socket.local_addr().unwrap();
    let invite = peer.invite("x", "echo");
    let cases = [
        (invite.replace("sip:echo@", "sip:nobody@"), 404),
        (invite.replace("Max-Forwards: 70", "Max-Forwards: 0"), 483),
        (invite.replace("Max-Forwards: 70", "Max-Forwards: 70\r\nRequire: precondition"), 420),
        (invite.replace("application/sdp", "text/plain"), 415),
        (invite.replace("SIP/2.0\r\nVia", "SIP/3.0\r\nVia"), 505),
        (invite.replace(&format!("sip:echo@{} SIP", house.udp), "gopher:echo SIP"), 416),
        (invite.replace("RTP/AVP 0", "RTP/AVP 18"), 488),
        (invite.replace("CSeq: 1 INVITE", "CSeq: 1 OPTIONS"), 400),
        (invite.replace("From: ", "Frm: "), 400),
        (peer.inside("BYE", "x", "echo", "0000000000000000000", 2), 481),
        (peer.inside("CANCEL", "x", "echo", "", 1).replace(";tag=\r", "\r"), 481),
        (format!("{}Content-Length: 0\r\n\r\n", head("DANCE", own, house.udp, "x", "echo", "", 1)), 501),
        (format!("{}Content-Length: 0\r\n\r\n", head("UPDATE", own, house.udp, "x", "echo", "", 1)), 481),
        (format!("{}Content-Length: 0\r\n\r\n", head("REGISTER", own, house.udp, "x", "echo", "", 1)), 401),
    ];
    for (number, (text, status)) in cases.into_iter().enumerate() {
        let text = text
            .replace("z9hG4bKx", &format!("z9hG4bKx{number}"))
            .replace("Call-ID: x", &format!("Call-ID: x{number}"));
        peer.send(&text);
        let answer = loop {
            let answer = peer.receive();
            if answer.status() >= 200 {
                break answer;
            }
        };
        assert_eq!(answer.status(), status, "{text}");
        if status == 405 || status == 501 {
            assert!(answer.header(dialtone_sip::msg::HeaderName::Allow).is_some());
        }
        if text.starts_with("INVITE") {
            let tag = answer.to_tag().unwrap_or_default().to_owned();
            let ack = peer.inside("ACK", &format!("x{number}"), "echo", &tag, 1);
            peer.send(&ack.replace(&format!("z9hG4bKx{number}ACK1"), &format!("z9hG4bKx{number}INVITE1")));
        }
    }
}

#[test]
fn health_and_metrics_tell_the_state() {
    let house = House::start();
    assert_eq!(house.get("/livez", None).0, "HTTP/1.1 200 OK");
    assert_eq!(house.get("/readyz", None).0, "HTTP/1.1 200 OK");
    let (status, metrics) = house.get("/metrics", None);
    assert_eq!(status, "HTTP/1.1 200 OK", "from loopback no token is needed");
    assert!(metrics.contains("dialtone_build_info{"), "{metrics}");
    assert_eq!(house.get("/dialtone/v1/calls", Some("wrong")).0, "HTTP/1.1 401 Unauthorized");
}
