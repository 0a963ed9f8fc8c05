//! The client against real sockets: a scripted server in this process, on the loopback.

mod audio;
mod callbacks;
mod documents;
mod guarding;
mod limits;
mod streams;
mod tls;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::app::guard::Guard;
use crate::app::*;
use crate::ids::{AccountSid, CallSid};
use crate::secret::Secret;

/// A request as the server saw it.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    pub method: String,
    pub target: String,
    head: String,
    pub body: String,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (present, value) = line.split_once(':')?;
            present.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// What the server does with a request.
pub(super) enum Reply {
    /// A whole response, written at once; the connection is kept.
    Whole(String),
    /// These bytes, and then the connection is closed.
    Last(Vec<u8>),
    /// These bytes, and then nothing more ever comes.
    Hang(Vec<u8>),
}

/// A server that answers every request by a function.
pub(super) struct Server {
    pub url: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    connections: Arc<Mutex<usize>>,
}

impl Server {
    pub async fn start(reply: impl Fn(&Seen, usize) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("the loopback has a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let server = Self { url: format!("http://{address}"), seen: Arc::default(), connections: Arc::default() };
        let (seen, connections, reply) = (server.seen.clone(), server.connections.clone(), Arc::new(reply));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                *connections.lock().expect("no test panics with the lock") += 1;
                tokio::spawn(serve(stream, seen.clone(), reply.clone()));
            }
        });
        server
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().expect("no test panics with the lock").clone()
    }

    pub fn connections(&self) -> usize {
        *self.connections.lock().expect("no test panics with the lock")
    }

    pub fn at(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }
}

async fn serve(
    mut stream: TcpStream,
    seen: Arc<Mutex<Vec<Seen>>>,
    reply: Arc<impl Fn(&Seen, usize) -> Reply + Send + Sync + 'static>,
) {
    let mut buffer = Vec::new();
    while let Some(request) = read_request(&mut stream, &mut buffer).await {
        let count = {
            let mut seen = seen.lock().expect("no test panics with the lock");
            seen.push(request.clone());
            seen.len()
        };
        let (bytes, is_last) = match reply(&request, count) {
            Reply::Whole(text) => (text.into_bytes(), false),
            Reply::Last(bytes) => (bytes, true),
            Reply::Hang(bytes) => {
                let _ = stream.write_all(&bytes).await;
                std::future::pending::<()>().await;
                return;
            }
        };
        if stream.write_all(&bytes).await.is_err() || is_last {
            return;
        }
    }
}

async fn read_request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Seen> {
    let end = loop {
        if let Some(at) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(buffer.drain(..end).collect()).ok()?;
    let mut words = head.split(' ');
    let mut seen = Seen {
        method: words.next()?.to_owned(),
        target: words.next()?.to_owned(),
        head: head.clone(),
        body: String::new(),
    };
    let length = seen.header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    while buffer.len() < length {
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
    seen.body = String::from_utf8(buffer.drain(..length).collect()).ok()?;
    Some(seen)
}

/// A response with a body.
pub(super) fn response(status: &str, headers: &str, body: &str) -> Reply {
    Reply::Whole(format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n{headers}\r\n{body}", body.len()))
}

pub(super) fn document(body: &str) -> Reply {
    response("200 OK", "Content-Type: text/xml\r\n", body)
}

pub(super) fn redirect(location: &str) -> Reply {
    response("302 Found", &format!("Location: {location}\r\n"), "")
}

/// A client that may reach the loopback.
pub(super) fn client() -> Client {
    Client::new(open_config())
}

pub(super) fn open_config() -> ClientConfig {
    let guard = Guard { allow_private_targets: true, ..Guard::default() };
    let patience = Overrides { connect: Duration::from_secs(2), ..Overrides::default() };
    ClientConfig { guard, patience, ..ClientConfig::default() }
}

pub(super) const CALL: CallSid = CallSid::new(7);

pub(super) fn post(url: String, params: &[(&str, &str)]) -> FetchRequest {
    FetchRequest {
        number: None,
        account: AccountSid::new(1),
        call: CALL,
        token: Secret::new("12345"),
        url,
        method: Method::POST,
        params: params.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        kind: RequestKind::Voice,
    }
}

pub(super) fn get(url: String, params: &[(&str, &str)]) -> FetchRequest {
    FetchRequest { method: Method::GET, ..post(url, params) }
}
