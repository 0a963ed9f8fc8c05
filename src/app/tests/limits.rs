//! Servers that hang, drip, flood and talk nonsense (threats 20 and 22).

use super::*;

/// The failure of one POST to a server that replies so.
async fn failure_of(reply: impl Fn() -> Reply + Send + Sync + 'static, fragment: &str) -> (FetchError, u32) {
    let server = Server::start(move |_, _| reply()).await;
    let failure = client().fetch(post(server.at(fragment), &[])).await.expect_err("the server does not answer");
    (failure.cause, failure.code())
}

#[tokio::test]
async fn threat_20_server_that_says_nothing() {
    assert_eq!(failure_of(|| Reply::Hang(Vec::new()), "/#rt=100").await, (FetchError::ReadTimeout, 11200));
    assert_eq!(failure_of(|| Reply::Hang(Vec::new()), "/#tt=100").await, (FetchError::TotalTimeout, 11200));
}

#[tokio::test]
async fn threat_20_server_that_begins_and_never_ends() {
    let head = || Reply::Hang(b"HTTP/1.1 200 OK\r\nContent-Le".to_vec());
    assert_eq!(failure_of(head, "/#rt=100").await, (FetchError::ReadTimeout, 11200));
    let body = || Reply::Hang(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n<Resp".to_vec());
    assert_eq!(failure_of(body, "/#tt=150").await, (FetchError::TotalTimeout, 11200));
}

#[tokio::test]
async fn threat_20_server_that_breaks_off() {
    assert_eq!(failure_of(|| Reply::Last(Vec::new()), "/").await, (FetchError::Broken, 11200));
    let half = || Reply::Last(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n<Resp".to_vec());
    assert_eq!(failure_of(half, "/").await, (FetchError::Broken, 11200));
}

#[tokio::test]
async fn threat_20_server_that_speaks_no_http() {
    assert_eq!(failure_of(|| Reply::Last(b"SSH-2.0-OpenSSH_9\r\n".to_vec()), "/").await, (FetchError::Protocol, 11206));
    let head = || Reply::Last(format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "y".repeat(300_000)).into_bytes());
    assert_eq!(failure_of(head, "/").await, (FetchError::Protocol, 11206));
}

#[tokio::test]
async fn threat_20_nobody_listens() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("the loopback has a free port");
    let url = format!("http://{}/", listener.local_addr().expect("a bound socket has an address"));
    drop(listener);
    let client = client();
    let failure = client.fetch(post(url.clone(), &[])).await.expect_err("nobody listens");
    assert_eq!((failure.cause, failure.code()), (FetchError::ConnectFailed, 11205));
    // Two tries each: the third request meets an open circuit after its first.
    let mut causes = Vec::new();
    for _ in 0..3 {
        causes.extend(client.fetch(post(url.clone(), &[])).await.err().map(|failure| failure.cause));
    }
    assert_eq!(causes, [FetchError::ConnectFailed, FetchError::CircuitOpen, FetchError::CircuitOpen]);
}

#[tokio::test]
async fn threat_22_huge_body_is_cut() {
    let too_large = (FetchError::TooLarge { limit_bytes: 64 * 1024 }, 11750);
    let told = || Reply::Hang(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n".to_vec());
    assert_eq!(failure_of(told, "/").await, too_large);
    let endless = || {
        let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
        Reply::Hang(format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}{chunk}").into_bytes())
    };
    assert_eq!(failure_of(endless, "/").await, too_large);
}

#[tokio::test]
async fn document_of_just_the_limit_is_read() {
    let server = Server::start(|_, _| document(&"x".repeat(64 * 1024))).await;
    let fetched = client().fetch(post(server.at("/"), &[])).await.expect("it is not too large");
    assert_eq!(fetched.body.len(), 64 * 1024);
}
