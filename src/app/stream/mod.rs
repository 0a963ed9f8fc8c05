//! Media streams: a WebSocket to a customer's server, by which it is told what is said in a call and may answer.
//!
//! The connection is guarded as all others are, and its handshake signed. What the server does not take in time is left out,
//! oldest first; the call does not notice. What it sends is handed on as it comes. The messages are in [`messages`].

mod messages;

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{Sink, StreamExt};
use hyper::Request;
use hyper::header::{self, HeaderValue};
use hyper_rustls::MaybeHttpsStream;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Error as WsError;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::protocol::{Message, WebSocketConfig};

use crate::app::client::Client;
use crate::app::connect::Watch;
use crate::app::destination::Destination;
use crate::app::failure::FetchError;
use crate::app::signature::sign_url;
use crate::ids::{AccountSid, CallSid, StreamSid};
use crate::secret::Secret;

use messages::{Said, Script};

/// A stream to be opened.
pub struct StreamRequest {
    pub account: AccountSid,
    pub call: CallSid,
    pub sid: StreamSid,
    pub token: Secret,
    /// `ws` or `wss`.
    pub url: String,
    /// `inbound`, `outbound`.
    pub tracks: Vec<&'static str>,
    pub params: Vec<(String, String)>,
    /// Whether what the server sends is heard.
    pub is_heard: bool,
}

/// What the server is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToServer {
    /// 20 ms of mu-law, so long after the stream began.
    Media {
        track: &'static str,
        at_ms: u64,
        payload: Bytes,
    },
    Digit(char),
    /// What it has sent before its mark has been played.
    Mark(String),
    /// It is over.
    Stop,
}

/// What comes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromServer {
    /// The server has taken it, and was told what it is.
    Opened,
    /// Mu-law at 8 kHz.
    Audio(Bytes),
    Mark(String),
    Clear,
    /// A message that means nothing: Twilio's number, and why.
    Noticed(u32, String),
    /// The last: the server has closed it, or it was stopped.
    Closed,
    /// The last: it did not come about, or broke.
    Failed(u32, String),
}

type Socket = WebSocketStream<TokioIo<MaybeHttpsStream<TokioIo<TcpStream>>>>;

impl Client {
    /// Opens a stream and carries it until it is over. `tell` is awaited in order; its last is `Closed` or `Failed`.
    pub async fn stream<F>(
        &self,
        request: StreamRequest,
        told: mpsc::Receiver<ToServer>,
        tell: impl Fn(FromServer) -> F,
    ) where
        F: Future<Output = ()>,
    {
        let last = match tokio::time::timeout(PATIENCE, self.open(&request)).await {
            Ok(Ok(socket)) => carry(socket, &request, told, &tell).await,
            Ok(Err((code, text))) => FromServer::Failed(code, text),
            Err(_) => FromServer::Failed(HANDSHAKE_FAILED, "the server did not take the stream in time".into()),
        };
        tell(last).await;
    }

    async fn open(&self, request: &StreamRequest) -> Result<Socket, (u32, String)> {
        let failed = |cause: FetchError| (HANDSHAKE_FAILED, format!("the server did not take the stream: {cause}"));
        let invalid = || (INVALID_URL, "no ws or wss url".to_owned());
        let web = request.url.strip_prefix("ws").ok_or_else(invalid)?;
        let destination = Destination::parse(&format!("http{web}")).map_err(|_| invalid())?;
        let signed = format!("ws{}", &destination.url["http".len()..]);
        let watch = Watch::new(PATIENCE);
        let stream = watch.during(self.connection(destination.uri.clone())).await;
        let stream = stream.map_err(|error| failed(crate::app::connect::classify_connect(error.as_ref())))?;
        let asked = format!("ws{}", &destination.uri.to_string()["http".len()..]);
        let mut handshake = Request::get(asked).body(()).map_err(|_| invalid())?;
        let host = destination.uri.authority().map_or("", |authority| authority.as_str());
        let headers = handshake.headers_mut();
        for (name, text) in [
            (header::HOST, host),
            (header::CONNECTION, "Upgrade"),
            (header::UPGRADE, "websocket"),
            (header::SEC_WEBSOCKET_VERSION, "13"),
            (header::SEC_WEBSOCKET_KEY, &generate_key()),
            (header::USER_AGENT, "Twilio.TmeWs/1.0"),
            (header::HeaderName::from_static("x-twilio-signature"), &sign_url(&request.token, &signed)),
        ] {
            headers.insert(name, HeaderValue::from_str(text).map_err(|_| invalid())?);
        }
        headers.extend(destination.authorization.map(|value| (header::AUTHORIZATION, value)));
        let limits = WebSocketConfig::default().max_message_size(Some(MAX_MESSAGE)).max_frame_size(Some(MAX_MESSAGE));
        match tokio_tungstenite::client_async_with_config(handshake, TokioIo::new(stream), Some(limits)).await {
            Ok((socket, _)) => Ok(socket),
            Err(WsError::Http(answer)) => Err(failed(FetchError::Status(answer.status().as_u16()))),
            Err(error) => Err((HANDSHAKE_FAILED, format!("the server did not take the stream: {error}"))),
        }
    }
}

/// What a server has not taken yet.
struct Waiting {
    messages: VecDeque<Message>,
    /// How many of them are sound.
    sound: usize,
    /// One is on its way still: the next must not be given to the socket, which would keep any number.
    is_sending: bool,
}

/// Carries an open stream; how it ended.
async fn carry<F>(
    socket: Socket,
    request: &StreamRequest,
    mut told: mpsc::Receiver<ToServer>,
    tell: &impl Fn(FromServer) -> F,
) -> FromServer
where
    F: Future<Output = ()>,
{
    let (mut sink, mut stream) = socket.split();
    let mut script = Script::new(request);
    let mut waiting = Waiting { messages: script.opening().into(), sound: 0, is_sending: false };
    let mut listening = Listening { is_heard: request.is_heard, notices: 0 };
    let mut pace = Pace { left: MESSAGES_AT_ONCE, renewed: Instant::now() };
    tell(FromServer::Opened).await;
    // Since when nothing was taken of what waits.
    let mut stuck_since = Instant::now();
    let mut is_over = false;
    loop {
        if is_over && waiting.is_empty() {
            return farewell(sink, stream).await;
        }
        let stuck = stuck_since + TAKEN_IN;
        tokio::select! {
            biased;
            () = tokio::time::sleep_until(pace.renewed + EACH), if pace.left == 0 => pace.renew(),
            said = stream.next(), if pace.left > 0 => {
                pace.take();
                match listening.hear(said) {
                    Heard::Nothing => {}
                    Heard::Last(last) => return last,
                    Heard::Word(word) => tell(word).await,
                }
            }
            word = told.recv(), if !is_over => match word {
                Some(ToServer::Stop) | None => {
                    waiting.messages.push_back(script.stop());
                    is_over = true;
                }
                Some(word) => waiting.put(&word, &mut script),
            },
            taken = send_next(&mut sink, &mut waiting), if !waiting.is_empty() => match taken {
                Ok(()) => stuck_since = Instant::now(),
                Err(error) => return broke(&error),
            },
            () = tokio::time::sleep_until(stuck), if !waiting.is_empty() => {
                let text = format!("the server took nothing for {} s", TAKEN_IN.as_secs());
                return FromServer::Failed(CLOSED, text);
            }
        }
        if waiting.is_empty() {
            stuck_since = Instant::now();
        }
    }
}

impl Waiting {
    fn is_empty(&self) -> bool {
        self.messages.is_empty() && !self.is_sending
    }

    /// What is too much for the server is left out, the oldest sound first.
    fn put(&mut self, word: &ToServer, script: &mut Script) {
        let is_sound = matches!(word, ToServer::Media { .. });
        if is_sound && self.sound >= MAX_SOUND {
            // Before it is what was told first, and is not sound.
            if let Some(oldest) = self.messages.iter().position(messages::is_sound) {
                self.messages.remove(oldest);
                self.sound -= 1;
            }
        }
        if !is_sound && self.messages.len() >= MAX_SOUND + MAX_WORDS {
            return;
        }
        self.sound += usize::from(is_sound);
        self.messages.push_back(script.message(word));
    }
}

/// Sends the first that waits, and waits until it has left. Dropped midway, the next call goes on with it.
async fn send_next(sink: &mut SplitSink<Socket, Message>, waiting: &mut Waiting) -> Result<(), WsError> {
    let mut sink = pin!(sink);
    if !waiting.is_sending {
        poll_fn(|context| sink.as_mut().poll_ready(context)).await?;
        let Some(next) = waiting.messages.pop_front() else { return Ok(()) };
        waiting.sound -= usize::from(messages::is_sound(&next));
        waiting.is_sending = true;
        sink.as_mut().start_send(next)?;
    }
    poll_fn(|context| sink.as_mut().poll_flush(context)).await?;
    waiting.is_sending = false;
    Ok(())
}

/// Closes the connection from our side, as far as the server lets us.
async fn farewell(mut sink: SplitSink<Socket, Message>, mut stream: SplitStream<Socket>) -> FromServer {
    let closed = async {
        let mut sink = pin!(&mut sink);
        poll_fn(|context| sink.as_mut().poll_close(context)).await?;
        while let Some(said) = stream.next().await {
            said?;
        }
        Ok::<(), WsError>(())
    };
    let _ = tokio::time::timeout(FAREWELL, closed).await;
    FromServer::Closed
}

/// Keeps a server that says too much from what others wait for: it is read so often, and not sooner again.
struct Pace {
    left: u32,
    renewed: Instant,
}

impl Pace {
    fn take(&mut self) {
        if self.renewed.elapsed() >= EACH {
            self.renew();
        }
        self.left -= 1;
    }

    fn renew(&mut self) {
        (self.left, self.renewed) = (MESSAGES_AT_ONCE, Instant::now());
    }
}

/// What is made of what a server says.
struct Listening {
    is_heard: bool,
    notices: u32,
}

enum Heard {
    Nothing,
    Word(FromServer),
    Last(FromServer),
}

impl Listening {
    fn hear(&mut self, said: Option<Result<Message, WsError>>) -> Heard {
        let said = match said {
            None | Some(Ok(Message::Close(_))) | Some(Err(WsError::ConnectionClosed)) => {
                return Heard::Last(FromServer::Closed);
            }
            Some(Err(error)) => return Heard::Last(broke(&error)),
            Some(Ok(message)) => message,
        };
        let word = match said {
            Message::Text(text) => messages::read(text.as_str()),
            Message::Binary(_) => Err("a binary message".to_owned()),
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) | Message::Close(_) => return Heard::Nothing,
        };
        match word {
            Ok(_) if !self.is_heard => self.notice("nothing that is sent by this stream is heard".into()),
            Ok(Said::Audio(audio)) if audio.is_empty() => Heard::Nothing,
            Ok(Said::Audio(audio)) => Heard::Word(FromServer::Audio(audio)),
            Ok(Said::Mark(name)) => Heard::Word(FromServer::Mark(name)),
            Ok(Said::Clear) => Heard::Word(FromServer::Clear),
            Err(text) => self.notice(text),
        }
    }

    /// The first few are told.
    fn notice(&mut self, text: String) -> Heard {
        self.notices += 1;
        if self.notices > MAX_NOTICES {
            Heard::Nothing
        } else {
            Heard::Word(FromServer::Noticed(INVALID_MESSAGE, text))
        }
    }
}

fn broke(error: &WsError) -> FromServer {
    match error {
        WsError::Capacity(_) | WsError::Protocol(_) | WsError::Utf8(_) => {
            FromServer::Failed(PROTOCOL, format!("what the server sent is no message of a stream: {error}"))
        }
        _ => FromServer::Failed(CLOSED, format!("the connection to the server broke: {error}")),
    }
}

/// Twilio's numbers.
const HANDSHAKE_FAILED: u32 = 31_920;
const CLOSED: u32 = 31_921;
const PROTOCOL: u32 = 31_924;
const INVALID_URL: u32 = 31_941;
const INVALID_MESSAGE: u32 = 31_951;

/// For name, TCP, TLS and the handshake together.
const PATIENCE: Duration = Duration::from_secs(5);
/// A server that takes nothing for so long is gone.
const TAKEN_IN: Duration = Duration::from_secs(10);
const FAREWELL: Duration = Duration::from_secs(2);
/// Of what a server sends at once; three minutes of sound.
const MAX_MESSAGE: usize = 2 << 20;
/// Five seconds of sound of one track.
const MAX_SOUND: usize = 250;
/// Digits and marks that may wait besides.
const MAX_WORDS: usize = 1024;
const MAX_NOTICES: u32 = 10;
/// A hundred times what a call's sound needs.
const MESSAGES_AT_ONCE: u32 = 500;
const EACH: Duration = Duration::from_millis(100);
