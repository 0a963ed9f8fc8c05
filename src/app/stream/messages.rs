//! The messages of a media stream, as Twilio has them: JSON, in which numbers are texts.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio_tungstenite::tungstenite::protocol::Message;

use super::{StreamRequest, ToServer};

/// What the server says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// Mu-law at 8 kHz.
    Audio(Bytes),
    Mark(String),
    Clear,
}

#[derive(Deserialize)]
struct Incoming {
    event: String,
    #[serde(default)]
    media: Option<Media>,
    #[serde(default)]
    mark: Option<Mark>,
}

#[derive(Deserialize)]
struct Media {
    payload: String,
}

#[derive(Deserialize)]
struct Mark {
    name: String,
}

/// Reads what the server says; the text tells what is wrong with it.
pub(super) fn read(text: &str) -> Result<Said, String> {
    let Incoming { event, media, mark } =
        serde_json::from_str(text).map_err(|error| format!("a message that is no json of a stream: {error}"))?;
    match (event.as_str(), media, mark) {
        ("media", Some(media), _) => {
            let audio = STANDARD.decode(media.payload.as_bytes());
            audio.map(|audio| Said::Audio(audio.into())).map_err(|_| "media whose payload is no base64".to_owned())
        }
        ("media", None, _) => Err("media without a payload".to_owned()),
        ("mark", _, Some(mark)) if mark.name.len() > MAX_NAME => {
            Err(format!("a mark whose name is longer than {MAX_NAME} bytes"))
        }
        ("mark", _, Some(mark)) => Ok(Said::Mark(mark.name)),
        ("mark", _, None) => Err("a mark without a name".to_owned()),
        ("clear", ..) => Ok(Said::Clear),
        (other, ..) => Err(format!("a message of an unknown event: {other:.40}")),
    }
}

/// What a server is told, with its numbers.
pub(super) struct Script {
    account: String,
    call: String,
    stream: String,
    tracks: Vec<&'static str>,
    params: Map<String, Value>,
    sequence: u64,
    chunk: u64,
}

impl Script {
    pub fn new(request: &StreamRequest) -> Script {
        Script {
            account: request.account.to_string(),
            call: request.call.to_string(),
            stream: request.sid.to_string(),
            tracks: request.tracks.clone(),
            params: request.params.iter().map(|(name, value)| (name.clone(), json!(value))).collect(),
            sequence: 0,
            chunk: 0,
        }
    }

    /// Who sends, and what the stream is: frameworks read exactly two messages before anything else.
    pub fn opening(&mut self) -> Vec<Message> {
        let connected = json!({ "event": "connected", "protocol": "Call", "version": "1.0.0" });
        let start = json!({
            "event": "start",
            "sequenceNumber": self.next_sequence(),
            "start": {
                "accountSid": self.account,
                "streamSid": self.stream,
                "callSid": self.call,
                "tracks": self.tracks,
                "mediaFormat": { "encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1 },
                "customParameters": self.params,
            },
            "streamSid": self.stream,
        });
        vec![Message::text(connected.to_string()), Message::text(start.to_string())]
    }

    pub fn message(&mut self, word: &ToServer) -> Message {
        let sequence = self.next_sequence();
        match word {
            ToServer::Media { track, at_ms, payload } => {
                self.chunk += 1;
                // Fifty times a second, and nothing in it needs escaping.
                let mut text = format!(
                    "{SOUND}\"sequenceNumber\":\"{sequence}\",\"media\":{{\"track\":\"{track}\",\"chunk\":\"{}\",\"timestamp\":\"{at_ms}\",\"payload\":\"",
                    self.chunk
                );
                STANDARD.encode_string(payload, &mut text);
                text.push_str("\"},\"streamSid\":\"");
                text.push_str(&self.stream);
                text.push_str("\"}");
                Message::text(text)
            }
            ToServer::Digit(digit) => self.told(json!({
                "event": "dtmf",
                "sequenceNumber": sequence,
                "dtmf": { "track": "inbound_track", "digit": digit.to_string() },
            })),
            ToServer::Mark(name) => {
                self.told(json!({ "event": "mark", "sequenceNumber": sequence, "mark": { "name": name } }))
            }
            ToServer::Stop => self.told(json!({
                "event": "stop",
                "sequenceNumber": sequence,
                "stop": { "accountSid": self.account, "callSid": self.call },
            })),
        }
    }

    pub fn stop(&mut self) -> Message {
        self.message(&ToServer::Stop)
    }

    fn told(&self, mut message: Value) -> Message {
        message["streamSid"] = json!(self.stream);
        Message::text(message.to_string())
    }

    fn next_sequence(&mut self) -> String {
        self.sequence += 1;
        self.sequence.to_string()
    }
}

pub(super) fn is_sound(message: &Message) -> bool {
    matches!(message, Message::Text(text) if text.as_str().starts_with(SOUND))
}

/// Of a mark.
const MAX_NAME: usize = 1024;
/// How messages of sound begin, and no others.
const SOUND: &str = "{\"event\":\"media\",";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{AccountSid, CallSid, StreamSid};
    use crate::secret::Secret;

    fn script() -> Script {
        Script::new(&StreamRequest {
            account: AccountSid::new(1),
            call: CallSid::new(2),
            sid: StreamSid::new(3),
            token: Secret::new("x"),
            url: "wss://h/".into(),
            tracks: vec!["inbound"],
            params: vec![("k".into(), "v\"".into())],
            is_heard: true,
        })
    }

    fn value(message: &Message) -> Value {
        serde_json::from_str(message.to_text().expect("a text")).expect("json")
    }

    #[test]
    fn messages_are_as_twilio_has_them() {
        let (mut script, stream) = (script(), StreamSid::new(3).to_string());
        let opening = script.opening();
        assert_eq!(value(&opening[0]), json!({ "event": "connected", "protocol": "Call", "version": "1.0.0" }));
        let start = value(&opening[1]);
        assert_eq!((&start["event"], &start["sequenceNumber"]), (&json!("start"), &json!("1")));
        assert_eq!(start["start"]["customParameters"], json!({ "k": "v\"" }));
        assert_eq!(start["start"]["streamSid"], json!(stream));
        let sound = ToServer::Media { track: "inbound", at_ms: 40, payload: Bytes::from_static(&[0xFF; 160]) };
        let sound = script.message(&sound);
        assert!(is_sound(&sound));
        let expected = json!({
            "event": "media",
            "sequenceNumber": "2",
            "media": { "track": "inbound", "chunk": "1", "timestamp": "40", "payload": STANDARD.encode([0xFF; 160]) },
            "streamSid": stream,
        });
        assert_eq!(value(&sound), expected);
        let digit = script.message(&ToServer::Digit('#'));
        assert!(!is_sound(&digit));
        assert_eq!(value(&digit)["dtmf"], json!({ "track": "inbound_track", "digit": "#" }));
        let mark = value(&script.message(&ToServer::Mark("a \"b\"".into())));
        assert_eq!((&mark["mark"]["name"], &mark["sequenceNumber"]), (&json!("a \"b\""), &json!("4")));
        let stop = value(&script.stop());
        assert_eq!(stop["stop"]["callSid"], json!(CallSid::new(2).to_string()));
    }

    #[test]
    fn what_a_server_says_is_read_and_nonsense_named() {
        assert_eq!(
            read(r#"{"event":"media","streamSid":"MZ1","media":{"payload":"//8="}}"#),
            Ok(Said::Audio(Bytes::from_static(&[0xFF, 0xFF])))
        );
        assert_eq!(read(r#"{"event":"mark","mark":{"name":"x"}}"#), Ok(Said::Mark("x".into())));
        assert_eq!(read(r#"{"event":"clear"}"#), Ok(Said::Clear));
        for (text, why) in [
            ("{", "no json"),
            ("[]", "no json"),
            (r#"{"event":"media"}"#, "without a payload"),
            (r#"{"event":"media","media":{"payload":"*"}}"#, "no base64"),
            (r#"{"event":"mark"}"#, "without a name"),
            (r#"{"event":"stop"}"#, "unknown event"),
            (&format!(r#"{{"event":"mark","mark":{{"name":"{}"}}}}"#, "x".repeat(1025)), "longer than 1024"),
        ] {
            assert!(read(text).is_err_and(|text| text.contains(why)), "{text}");
        }
    }
}
