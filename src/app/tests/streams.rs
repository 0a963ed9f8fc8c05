//! Media streams against a server of the tests' own: the guard, the signature, and a server that takes nothing.

use futures_util::{SinkExt, StreamExt};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};

use super::*;
use crate::app::signature::sign_url;
use crate::ids::StreamSid;

fn request(url: &str) -> StreamRequest {
    StreamRequest {
        account: AccountSid::new(1),
        call: CallSid::new(2),
        sid: StreamSid::new(3),
        token: Secret::new("token"),
        url: url.to_owned(),
        tracks: vec!["inbound"],
        params: Vec::new(),
        is_heard: true,
    }
}

/// Opens a stream: the way to its server, and what comes of it.
fn open(client: &Client, url: &str) -> (mpsc::Sender<ToServer>, mpsc::Receiver<FromServer>) {
    let (told, words) = mpsc::channel(512);
    let (tell, came) = mpsc::channel(512);
    let (client, request) = (client.clone(), request(url));
    tokio::spawn(async move {
        let tell = |word| {
            let tell = tell.clone();
            async move { tell.send(word).await.expect("the test listens") }
        };
        client.stream(request, words, tell).await;
    });
    (told, came)
}

fn sound(at_ms: u64) -> ToServer {
    ToServer::Media { track: "inbound", at_ms, payload: Bytes::from(vec![0xFF; 160]) }
}

#[tokio::test]
async fn threat_23_stream_to_a_private_target_is_not_connected_to() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("the loopback has a free port");
    let port = listener.local_addr().expect("it is bound").port();
    let guarded = Client::new(ClientConfig::default());
    for host in ["127.0.0.1", "localhost", "[::1]", "0.0.0.0"] {
        let (_told, mut came) = open(&guarded, &format!("ws://{host}:{port}/"));
        let last = came.recv().await;
        assert!(matches!(last, Some(FromServer::Failed(31_920, _))), "{host}: {last:?}");
    }
    let nobody = tokio::time::timeout(Duration::from_millis(50), listener.accept()).await;
    assert!(nobody.is_err(), "the guard let one through");
}

#[tokio::test]
#[expect(clippy::result_large_err, reason = "the type of the handshake's callback is the library's")]
async fn handshake_is_signed_and_what_both_say_arrives() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("the loopback has a free port");
    let url = format!("ws://{}/a/b?c=d", listener.local_addr().expect("it is bound"));
    let signature = sign_url(&Secret::new("token"), &url);
    let (told, mut came) = open(&client(), &url);
    let (stream, _) = listener.accept().await.expect("the client connects");
    let check = move |asked: &Request, answer: Response| {
        assert_eq!(asked.headers()["x-twilio-signature"], signature.as_str());
        assert_eq!(asked.uri(), "/a/b?c=d");
        assert!(!asked.headers().contains_key("origin"));
        Ok(answer)
    };
    let mut socket = tokio_tungstenite::accept_hdr_async(stream, check).await.expect("a handshake");
    assert_eq!(came.recv().await, Some(FromServer::Opened));
    told.send(sound(0)).await.expect("it is carried");
    for event in ["connected", "start", "media"] {
        let text = socket.next().await.expect("a message").expect("is whole").into_text().expect("is text");
        assert!(text.as_str().contains(&format!("\"event\":\"{event}\"")), "{text}");
    }
    socket.send(Message::text(r#"{"event":"media","media":{"payload":"AAA="}}"#)).await.expect("it is taken");
    assert_eq!(came.recv().await, Some(FromServer::Audio(Bytes::from_static(&[0, 0]))));
    told.send(ToServer::Stop).await.expect("it is carried");
    let last = socket.next().await.expect("a message").expect("is whole");
    assert!(last.to_text().expect("is text").contains("\"event\":\"stop\""), "{last}");
    assert!(matches!(socket.next().await, Some(Ok(Message::Close(_)))));
    assert!(socket.next().await.is_none());
    assert_eq!(came.recv().await, Some(FromServer::Closed));
}

#[tokio::test]
async fn threat_12_server_that_takes_nothing_loses_the_oldest_sound_and_no_mark() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("the loopback has a free port");
    let url = format!("ws://{}/", listener.local_addr().expect("it is bound"));
    let (told, mut came) = open(&client(), &url);
    let (stream, _) = listener.accept().await.expect("the client connects");
    let mut socket = tokio_tungstenite::accept_async(stream).await.expect("a handshake");
    assert_eq!(came.recv().await, Some(FromServer::Opened));
    // Some 40 MB: more than the buffers of both sockets have room for.
    let frames: u64 = 120_000;
    for at in 0..frames {
        told.send(sound(at * 20)).await.expect("it is carried, whatever the server does");
        if at % 60_000 == 30_000 {
            told.send(ToServer::Mark(at.to_string())).await.expect("it is carried");
        }
    }
    told.send(ToServer::Stop).await.expect("it is carried");
    let (mut last, mut count, mut marks) = (0, 0, Vec::new());
    while let Some(Ok(Message::Text(text))) = socket.next().await {
        let message: serde_json::Value = serde_json::from_str(text.as_str()).expect("json");
        match message["event"].as_str() {
            Some("media") => {
                let at: u64 = message["media"]["timestamp"].as_str().expect("a text").parse().expect("a number");
                assert!(at >= last, "in order");
                (last, count) = (at, count + 1);
            }
            Some("mark") => marks.push(message["mark"]["name"].as_str().expect("a name").to_owned()),
            _ => {}
        }
    }
    assert!(count < frames, "all {count} were taken: the server was not slow");
    assert_eq!(last, (frames - 1) * 20, "the newest is there");
    assert_eq!(marks, ["30000", "90000"]);
}

#[tokio::test]
async fn threat_12_huge_message_and_a_refusal_end_the_stream_with_their_numbers() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("the loopback has a free port");
    let url = format!("ws://{}/", listener.local_addr().expect("it is bound"));
    let (_told, mut came) = open(&client(), &url);
    let (stream, _) = listener.accept().await.expect("the client connects");
    let mut socket = tokio_tungstenite::accept_async(stream).await.expect("a handshake");
    assert_eq!(came.recv().await, Some(FromServer::Opened));
    let _ = socket.send(Message::text("x".repeat(3 << 20))).await;
    let last = came.recv().await;
    assert!(matches!(last, Some(FromServer::Failed(31_924, _))), "{last:?}");
    let (_told, mut came) = open(&client(), &url);
    let (mut stream, _) = listener.accept().await.expect("the client connects");
    stream.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n").await.expect("it is read");
    let last = came.recv().await;
    assert!(matches!(&last, Some(FromServer::Failed(31_920, text)) if text.contains("403")), "{last:?}");
}
