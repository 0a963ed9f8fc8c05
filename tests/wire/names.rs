//! Servers of a host by a name server of our own: what it is asked, and calls that follow its answers.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use bytes::Bytes;
use dialtone::shard::Names;
use dialtone_sip::flow::Transport;
use dialtone_sip::msg::{HeaderName, Message, SipUri};
use dialtone_sip::resolve::{Family, Outlet, Resolution};
use hickory_resolver::proto::op::{Message as Dns, OpCode, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, CNAME, NAPTR, SRV};
use hickory_resolver::proto::rr::{Name, RData, Record};

use crate::peer::{ACCOUNT, House, PATIENCE, Peer};

const OUTLETS: [Outlet; 2] = [
    Outlet { transport: Transport::Udp, family: Family::V4 },
    Outlet { transport: Transport::Tcp, family: Family::V4 },
];
const IPV6: Outlet = Outlet { transport: Transport::Udp, family: Family::V6 };

/// A name server with a small zone, that remembers what it was asked. It lives as long as the process.
struct NameServer {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl NameServer {
    /// Knows these records; a question of the type `silent_on` gets no answer.
    fn start(zone: Vec<(&'static str, RData)>, silent_on: &'static str) -> NameServer {
        let zone: Vec<(Name, RData)> = zone.into_iter().map(|(owner, data)| (name(owner), data)).collect();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = asked.clone();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                let query = Dns::from_vec(&buffer[..length]).expect("a resolver asks well-formed questions");
                let question = query.queries[0].clone();
                log.lock().unwrap().push(format!("{} {}", question.query_type(), question.name()));
                if question.query_type().to_string() == silent_on {
                    continue;
                }
                let mut answer = Dns::response(query.metadata.id, OpCode::Query);
                answer.metadata.recursion_available = true;
                // An alias stands in the zone before what it stands for.
                let mut name = question.name().clone();
                for (owner, data) in &zone {
                    let is_alias = matches!(data, RData::CNAME(_));
                    if *owner != name || (!is_alias && data.record_type() != question.query_type()) {
                        continue;
                    }
                    answer.add_answer(Record::from_rdata(owner.clone(), 60, data.clone()));
                    if let RData::CNAME(CNAME(to)) = data {
                        name = to.clone();
                    }
                }
                answer.add_query(question);
                if answer.answers.is_empty() {
                    answer.metadata.response_code = ResponseCode::NXDomain;
                }
                let _ = socket.send_to(&answer.to_vec().unwrap(), from);
            }
        });
        NameServer { address, asked }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

fn naptr(order: u16, services: &str, replacement: &str) -> RData {
    let text = |text: &str| text.as_bytes().to_vec().into_boxed_slice();
    RData::NAPTR(NAPTR::new(order, 1, text("s"), text(services), text(""), name(replacement)))
}

fn srv(priority: u16, port: u16, target: &str) -> RData {
    RData::SRV(SRV::new(priority, 1, port, name(target)))
}

fn loopback() -> RData {
    RData::A(A(Ipv4Addr::LOCALHOST))
}

/// Finds the servers of a URI by this name server.
fn find(server: &NameServer, uri: &str, outlets: &[Outlet]) -> Vec<String> {
    find_by(&Names::new(vec![server.address]), uri, outlets)
}

fn find_by(names: &Names, uri: &str, outlets: &[Outlet]) -> Vec<String> {
    let resolution = Resolution::new(&SipUri::parse(uri).unwrap(), outlets);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let found = runtime.block_on(names.find(resolution, [1; 32]));
    found.iter().map(|found| format!("{} {}", found.transport, found.address)).collect()
}

#[test]
fn records_are_read_and_aliases_followed() {
    let zone = vec![
        ("carrier.test.", naptr(5, "SIPS+D2T", "_sips._tcp.carrier.test.")),
        ("carrier.test.", naptr(10, "SIP+D2T", "_sip._tcp.carrier.test.")),
        ("_sip._tcp.carrier.test.", srv(20, 5062, "b.carrier.test.")),
        ("_sip._tcp.carrier.test.", srv(10, 5061, "a.carrier.test.")),
        ("a.carrier.test.", RData::CNAME(CNAME(name("b.carrier.test.")))),
        ("b.carrier.test.", loopback()),
    ];
    let server = NameServer::start(zone, "");
    assert_eq!(find(&server, "sip:x@Carrier.test", &OUTLETS), ["tcp 127.0.0.1:5061", "tcp 127.0.0.1:5062"]);
    let mut asked = server.asked();
    asked[2..].sort_unstable();
    let expected = ["NAPTR carrier.test.", "SRV _sip._tcp.carrier.test.", "A a.carrier.test.", "A b.carrier.test."];
    assert_eq!(asked, expected);
}

#[test]
fn name_that_stands_in_the_hosts_file_is_asked_of_nobody() {
    let server = NameServer::start(Vec::new(), "");
    let outlets = [OUTLETS[0], OUTLETS[1], IPV6];
    let found = find(&server, "sip:x@localhost", &outlets);
    assert!(found.contains(&"udp 127.0.0.1:5060".to_owned()), "{found:?}");
    // And whatever else this machine's file has.
    let file = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
    let entries = file.lines().map(|line| line.split('#').next().unwrap_or_default());
    for name in entries.flat_map(|line| line.split_whitespace().skip(1)) {
        let found = find(&server, &format!("sip:x@{name}"), &outlets);
        assert!(found.iter().all(|at| at.starts_with("udp ")) && !found.is_empty(), "{name}: {found:?}");
    }
    assert!(server.asked().is_empty(), "{:?}", server.asked());
    // The same without name servers of our own: this machine's are not asked either.
    let found = find_by(&Names::new(Vec::new()), "sip:x@localhost", &outlets);
    assert!(found.contains(&"udp 127.0.0.1:5060".to_owned()), "{found:?}");
}

#[test]
fn name_server_that_ignores_naptr_costs_no_call() {
    let server = NameServer::start(vec![("carrier.test.", loopback())], "NAPTR");
    let began = Instant::now();
    assert_eq!(find(&server, "sip:x@carrier.test", &OUTLETS), ["udp 127.0.0.1:5060"]);
    assert!(began.elapsed().as_secs() < 5, "{:?}", began.elapsed());
}

/// The next message of a stream.
fn read(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Message {
    loop {
        let text = String::from_utf8_lossy(buffer).into_owned();
        if let Some(head) = text.find("\r\n\r\n").map(|at| at + 4) {
            let length = text[..head].lines().find_map(|line| line.strip_prefix("Content-Length: ")).unwrap();
            let whole = head + length.trim().parse::<usize>().unwrap();
            if buffer.len() >= whole {
                return Message::parse(Bytes::from(buffer.drain(..whole).collect::<Vec<u8>>())).unwrap();
            }
        }
        let mut part = [0; 4096];
        let length = stream.read(&mut part).expect("the server says something");
        assert!(length > 0, "the server closed after {text}");
        buffer.extend_from_slice(&part[..length]);
    }
}

fn respond(stream: &mut TcpStream, request: &Message, status: u16, more: &str, body: &str) {
    let mut text = format!("SIP/2.0 {status} Whatever\r\n");
    for name in [HeaderName::Via, HeaderName::From, HeaderName::CallId, HeaderName::CSeq] {
        text += &format!("{}: {}\r\n", name.as_str(), request.header(name).unwrap());
    }
    let tag = if request.to_tag().is_some() { "" } else { ";tag=callee" };
    text += &format!("To: {}{tag}\r\n{more}", request.header(HeaderName::To).unwrap());
    text += &format!("Content-Length: {}\r\n\r\n{body}", body.len());
    stream.write_all(text.as_bytes()).unwrap();
}

/// NAPTR, SRV, A; the first server's port is dead, and the second takes the call.
#[test]
fn call_goes_by_the_records_of_the_trunk_from_a_dead_server_to_a_live_one() {
    // Bound, so that nobody else takes the port, and not listening.
    let dead = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    dead.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
    let dead_port = dead.local_addr().unwrap().as_socket_ipv4().unwrap().port();
    let live = TcpListener::bind("127.0.0.1:0").unwrap();
    let live_port = live.local_addr().unwrap().port();
    socket2::SockRef::from(&live).set_read_timeout(Some(PATIENCE)).unwrap();
    let zone = vec![
        ("carrier.test.", naptr(10, "SIP+D2T", "_sip._tcp.carrier.test.")),
        ("_sip._tcp.carrier.test.", srv(1, dead_port, "a.carrier.test.")),
        ("_sip._tcp.carrier.test.", srv(2, live_port, "b.carrier.test.")),
        ("a.carrier.test.", loopback()),
        ("b.carrier.test.", loopback()),
    ];
    let name_server = NameServer::start(zone, "");
    let house = House::with(
        &format!("name_servers = [\"{}\"]", name_server.address),
        &format!(
            "[[trunk]]\naccount = \"{ACCOUNT}\"\nname = \"carrier\"\nuri = \"sip:carrier.test\"\n\
             [[number]]\naccount = \"{ACCOUNT}\"\nnumber = \"out\"\n\
             twiml = \"<Response><Dial answerOnBridge='true'><Number>+442071838750</Number></Dial></Response>\"\n"
        ),
    );
    let caller = Peer::new(&house);
    caller.send(&caller.invite("out-1", "out"));

    let (mut stream, _) = live.accept().expect("the call comes to the second server");
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut buffer = Vec::new();
    let invite = read(&mut stream, &mut buffer);
    assert_eq!((invite.method_text(), invite.request_uri()), ("INVITE", "sip:+442071838750@carrier.test"));
    assert_eq!(invite.top_via().unwrap().transport, "TCP");
    let sdp = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 9 RTP/AVP 0\r\n";
    let more =
        format!("Contact: <sip:callee@127.0.0.1:{live_port};transport=tcp>\r\nContent-Type: application/sdp\r\n");
    respond(&mut stream, &invite, 200, &more, sdp);
    assert_eq!(read(&mut stream, &mut buffer).method_text(), "ACK");

    let answer = caller.expect(200);
    let tag = answer.to_tag().unwrap().to_owned();
    caller.send(&caller.inside("ACK", "out-1", "out", &tag, 1));
    caller.send(&caller.inside("BYE", "out-1", "out", &tag, 2));
    let bye = read(&mut stream, &mut buffer);
    assert_eq!(bye.method_text(), "BYE");
    respond(&mut stream, &bye, 200, "", "");
    assert_eq!(name_server.asked()[..2], ["NAPTR carrier.test.", "SRV _sip._tcp.carrier.test."]);
}
