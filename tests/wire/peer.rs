//! A server, and a peer of it with plain sockets.

use std::net::{SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use dialtone::config::Config;
use dialtone::server::{Seat, Server};
use dialtone_sip::flow::Transport;
use dialtone_sip::msg::Message;

/// Longer than anything takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(20);
pub const ACCOUNT: &str = "AC00000000000000000000000000000001";

/// A running server with a folder of its own.
pub struct House {
    pub runtime: tokio::runtime::Runtime,
    pub server: Option<Server>,
    pub folder: PathBuf,
    /// The configuration.
    text: String,
    hurries: bool,
    pub udp: SocketAddr,
    pub tcp: SocketAddr,
    pub http: SocketAddr,
}

impl House {
    pub fn start() -> House {
        House::with("", "")
    }

    /// With further keys of `[sip]`, and further tables.
    pub fn with(sip: &str, more: &str) -> House {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let folder = std::env::temp_dir().join(format!(
            "dialtone-wire-{}-{}",
            std::process::id(),
            NUMBER.fetch_add(1, Ordering::Relaxed)
        ));
        std::fs::create_dir_all(&folder).unwrap();
        let text = format!(
            r#"
[sip]
listen = ["udp://127.0.0.1:0", "tcp://127.0.0.1:0"]
{sip}
[http]
listen = "127.0.0.1:0"
operator_token = "operator"
[media]
ports = "32300-32699"
[store]
url = "sqlite://{}/d.db"
[[account]]
sid = "{ACCOUNT}"
auth_token = "token"
[[trunk]]
account = "{ACCOUNT}"
name = "house"
from = ["127.0.0.1"]
[[number]]
account = "{ACCOUNT}"
number = "echo"
twiml = "<Response><Echo/></Response>"
{more}"#,
            folder.display()
        );
        House::open(folder, text)
    }

    /// With further keys of `[http]`.
    pub fn with_http(http: &str) -> House {
        let mut house = House::start();
        house.stop();
        house.text = house.text.replace("[http]\n", &format!("[http]\n{http}\n"));
        house.restart()
    }

    /// With an empty database of the PostgreSQL that `tests/run` starts.
    pub fn on_postgres() -> House {
        let server = std::env::var("DIALTONE_TEST_POSTGRES").expect(
            "DIALTONE_TEST_POSTGRES names no server: tests/run starts one, and so does tests/postgres start FOLDER",
        );
        let name = format!("wire_{}", std::process::id());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            sqlx::any::install_default_drivers();
            let mut admin = <sqlx::AnyConnection as sqlx::Connection>::connect(&server).await.unwrap();
            let text = sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"));
            sqlx::query(text).execute(&mut admin).await.unwrap();
        });
        let mut house = House::start();
        house.stop();
        let file = format!("url = \"sqlite://{}/d.db\"", house.folder.display());
        let url = format!("{}/{name}", server.rsplit_once('/').unwrap().0);
        house.text = house.text.replace(&file, &format!("url = \"{url}\"\nfolder = \"{}\"", house.folder.display()));
        assert!(house.text.contains(&url));
        std::fs::remove_file(house.folder.join("d.db")).unwrap();
        house.restart()
    }

    fn open(folder: PathBuf, text: String) -> House {
        let config = Config::parse(&text, "wire").unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let server = runtime
            .block_on(Server::start(config, None, false, Seat::default()))
            .unwrap_or_else(|error| panic!("{error}"));
        let bound =
            |transport| server.listening().iter().find(|listen| listen.transport == transport).unwrap().advertise;
        House {
            udp: bound(Transport::Udp),
            tcp: bound(Transport::Tcp),
            http: server.http(),
            runtime,
            server: Some(server),
            folder,
            text,
            hurries: false,
        }
    }

    /// Waits for no call when it stops.
    pub fn hurrying(mut self) -> House {
        self.hurries = true;
        self
    }

    /// Stops the server and starts another on the same folder, at other ports.
    pub fn restart(mut self) -> House {
        self.stop();
        let house = House::open(self.folder.clone(), self.text.clone());
        // Its folder is the new one's now.
        self.folder = PathBuf::new();
        house
    }

    /// Has the server read a configuration with this text at its end.
    pub fn reload(&mut self, more: &str) {
        let config = Config::parse(&format!("{}{more}", self.text), "wire");
        let server = self.server.as_mut().unwrap();
        self.runtime.block_on(server.reload(config, None));
    }

    /// Asks the HTTP side; status line and body.
    pub fn get(&self, path: &str, token: Option<&str>) -> (String, String) {
        use std::io::{Read, Write};
        let mut socket = std::net::TcpStream::connect(self.http).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let authorization = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
        write!(socket, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{authorization}\r\n").unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.lines().next().unwrap().to_owned(), body.to_owned())
    }

    /// Stops the server; what is left must be on the disk.
    pub fn stop(&mut self) {
        if let Some(server) = self.server.take() {
            let (hurry_up, hurry) = tokio::sync::oneshot::channel();
            let mut never = Some(hurry_up);
            // A test that has failed waits for no call that it left.
            if std::thread::panicking() || self.hurries {
                let _ = never.take().map(|hurry_up| hurry_up.send(()));
            }
            self.runtime.block_on(server.drain_and_stop(hurry));
        }
    }
}

impl Drop for House {
    fn drop(&mut self) {
        self.stop();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// A peer over UDP.
pub struct Peer {
    pub socket: UdpSocket,
    pub rtp: UdpSocket,
    server: SocketAddr,
}

impl Peer {
    pub fn new(house: &House) -> Peer {
        let bind = || {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            socket
        };
        Peer { socket: bind(), rtp: bind(), server: house.udp }
    }

    pub fn send(&self, text: &str) {
        self.socket.send_to(text.as_bytes(), self.server).unwrap();
    }

    pub fn receive(&self) -> Message {
        let mut buffer = [0; 65_536];
        let (length, _) = self.socket.recv_from(&mut buffer).expect("the server says something");
        Message::parse(Bytes::copy_from_slice(&buffer[..length])).unwrap()
    }

    /// The next message with this status.
    pub fn expect(&self, status: u16) -> Message {
        loop {
            let message = self.receive();
            if message.status() == status {
                return message;
            }
            assert!(message.status() < 200 || message.is_request(), "expected {status}, got {message:?}");
        }
    }

    pub fn invite(&self, call_id: &str, to: &str) -> String {
        let (own, rtp) = (self.socket.local_addr().unwrap(), self.rtp.local_addr().unwrap());
        let sdp = format!(
            "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio {} RTP/AVP 0\r\n",
            rtp.port()
        );
        let head = head("INVITE", own, self.server, call_id, to, "", 1);
        format!(
            "{head}Contact: <sip:peer@{own}>\r\nContent-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{sdp}",
            sdp.len()
        )
    }

    pub fn inside(&self, method: &str, call_id: &str, to: &str, tag: &str, cseq: u32) -> String {
        let own = self.socket.local_addr().unwrap();
        format!(
            "{}Content-Length: 0\r\n\r\n",
            head(method, own, self.server, call_id, to, &format!(";tag={tag}"), cseq)
        )
    }
}

pub fn head(
    method: &str,
    own: SocketAddr,
    server: SocketAddr,
    call_id: &str,
    to: &str,
    tag: &str,
    cseq: u32,
) -> String {
    format!(
        "{method} sip:{to}@{server} SIP/2.0\r\nVia: SIP/2.0/UDP {own};rport;branch=z9hG4bK{call_id}{method}{cseq}\r\nMax-Forwards: 70\r\n\
         From: <sip:peer@{own}>;tag=from\r\nTo: <sip:{to}@{server}>{tag}\r\nCall-ID: {call_id}\r\nCSeq: {cseq} {method}\r\n"
    )
}
