//! Whole documents, input by input: what each brings about, written out.
//!
//! Before and after every input the interpreter is written to JSON and read back, so that each step of each test is
//! also one of a call that was continued elsewhere.

mod any;
mod dial;
mod documents;
mod gather;
mod playing;
mod recording;
mod refer;
mod stream;

use std::time::Duration;

use bytes::Bytes;

use crate::ids::{BranchId, CallSid, RecordingSid};
use crate::twiml::*;

const URL: &str = "https://app.example/voice";

/// An interpreter under test.
struct Driver {
    interpreter: Interpreter,
}

impl Driver {
    /// One whose first document was fetched from [`URL`] and holds `body`.
    fn new(body: &str) -> (Self, Vec<String>) {
        Self::with_fallback(body, None)
    }

    fn with_fallback(body: &str, fallback: Option<&str>) -> (Self, Vec<String>) {
        let mut driver = Self { interpreter: Interpreter::new() };
        let fallback = fallback.map(|url| Endpoint { url: url.into(), method: Method::Post });
        let source = DocumentSource::Url(Endpoint { url: URL.into(), method: Method::Post });
        let first = driver.give(VerbInput::Replace(NewDocument { source, fallback, at_end: AtEnd::HangUp }));
        assert_eq!(first, [format!("fetch 1 POST {URL} Document")]);
        let effects = driver.document(1, body);
        (driver, effects)
    }

    /// One that was given `body` in place.
    fn inline(body: &str, at_end: AtEnd) -> (Self, Vec<String>) {
        let mut driver = Self { interpreter: Interpreter::new() };
        let effects = driver.give(inline(body, at_end));
        (driver, effects)
    }

    fn give(&mut self, input: VerbInput) -> Vec<String> {
        self.move_elsewhere();
        self.interpreter.handle(input, 0);
        self.move_elsewhere();
        std::iter::from_fn(|| self.interpreter.poll_effect()).map(|effect| show(&effect)).collect()
    }

    fn move_elsewhere(&mut self) {
        let text = serde_json::to_string(&self.interpreter).expect("an interpreter can be written");
        let back: Interpreter = serde_json::from_str(&text).expect("an interpreter can be read back");
        assert_eq!(back, self.interpreter);
        self.interpreter = back;
    }

    fn document(&mut self, fetch: u32, body: &str) -> Vec<String> {
        self.fetched(fetch, &format!("<Response>{body}</Response>"), URL)
    }

    fn fetched(&mut self, fetch: u32, body: &str, url: &str) -> Vec<String> {
        let body = Bytes::copy_from_slice(body.as_bytes());
        let fetched = Fetched { body, content_type: Some("text/xml".into()), url: url.into() };
        self.give(VerbInput::Document { fetch, result: Ok(fetched) })
    }

    fn fetch_failed(&mut self, fetch: u32, code: u32) -> Vec<String> {
        let failure = FetchFailure { code, text: "no".into(), url: URL.into() };
        self.give(VerbInput::Document { fetch, result: Err(failure) })
    }

    /// Audio for a ticket; its hash is the ticket all over.
    fn audio(&mut self, ticket: u32) -> Vec<String> {
        self.audio_of(ticket, 1_000)
    }

    fn audio_of(&mut self, ticket: u32, duration_ms: u64) -> Vec<String> {
        let hash = [u8::try_from(ticket).expect("tests use few tickets"); 32];
        self.give(VerbInput::Audio { ticket, result: Ok(ClipRef { hash, duration_ms }) })
    }

    fn no_audio(&mut self, ticket: u32, code: u32) -> Vec<String> {
        self.give(VerbInput::Audio { ticket, result: Err(AudioFailure { code, text: "no".into() }) })
    }

    fn played(&mut self, player: u32) -> Vec<String> {
        self.give(VerbInput::PlayEnded { player, finished: true })
    }

    fn digit(&mut self, digit: char) -> Vec<String> {
        self.give(VerbInput::Digit(digit))
    }

    fn branch(&mut self, branch: u32, event: BranchEvent) -> Vec<String> {
        self.give(VerbInput::Branch { branch: BranchId(branch), event })
    }

    fn started(&mut self, branch: u32) {
        let call = CallSid::new(u128::from(branch));
        assert_eq!(self.branch(branch, BranchEvent::Started { call }), [""; 0]);
    }
}

fn inline(body: &str, at_end: AtEnd) -> VerbInput {
    let source = DocumentSource::Twiml(format!("<Response>{body}</Response>").into());
    VerbInput::Replace(NewDocument { source, fallback: None, at_end })
}

fn ended(seconds: u64) -> BranchEvent {
    BranchEvent::Ended { duration: Some(Duration::from_secs(seconds)), sip: None }
}

fn failed(status: BranchFailure) -> BranchEvent {
    BranchEvent::Failed { status, sip: None }
}

/// An effect in one line. A clip is `cN` with the ticket that it was made for.
fn show(effect: &VerbEffect) -> String {
    match effect {
        VerbEffect::Require(precondition) => format!("require {precondition:?}"),
        VerbEffect::Prepare { ticket, source } => format!("prepare {ticket} {}", show_source(source)),
        VerbEffect::Play { player, items, loops } => {
            let items: Vec<String> = items.iter().map(show_item).collect();
            format!("play {player} [{}] x{loops}", items.join(" "))
        }
        VerbEffect::StopPlay => "stop".into(),
        VerbEffect::SetTimer(Some(after)) => format!("timer {}s", after.as_secs_f64()),
        VerbEffect::SetTimer(None) => "timer off".into(),
        VerbEffect::Echo(on) => format!("echo {on}"),
        VerbEffect::Ringback(ringback) => format!("ringback {ringback:?}"),
        VerbEffect::EarlyMedia(branch) => format!("early media {}", branch.0),
        VerbEffect::StartBranch(spec) => show_branch(spec),
        VerbEffect::CancelBranch(branch) => format!("cancel {}", branch.0),
        VerbEffect::Bridge(branch) => format!("bridge {}", branch.0),
        VerbEffect::Unbridge => "unbridge".into(),
        VerbEffect::StartRecording { recording, spec } => {
            let RecordingSpec { source, track, channels, trim, max_length, silence_timeout, .. } = spec.as_ref();
            let seconds = |length: &Option<Duration>| length.map_or(0, |length| length.as_secs());
            let (longest, silence) = (seconds(max_length), seconds(silence_timeout));
            let source = source.as_str();
            format!("record {recording} {source} {} x{channels} trim={trim} {longest}s/{silence}s", track.as_str())
        }
        VerbEffect::StopStartedRecordings => "stop started".into(),
        VerbEffect::StopRecording(recording) => format!("stop recording {recording}"),
        VerbEffect::StartStream { stream, spec } => show_stream(*stream, spec),
        VerbEffect::StopStream(stream) => format!("stop stream {stream}"),
        VerbEffect::StopStreams(name) => format!("stop streams {name:?}"),
        VerbEffect::TellStream { stream, digit } => format!("tell stream {stream} {digit}"),
        VerbEffect::JoinConference(spec) => format!("join {}", spec.name),
        VerbEffect::LeaveConference => "leave".into(),
        VerbEffect::Enqueue(spec) => format!("enqueue {} of {}", spec.name, spec.max_size),
        VerbEffect::AskQueue => "ask queue".into(),
        VerbEffect::QueueReady => "ready".into(),
        VerbEffect::Dequeue(spec) => format!("dequeue {}", spec.name),
        VerbEffect::LeaveQueue => "leave queue".into(),
        VerbEffect::SendMessage(spec) => format!("sms {:?} {:?} {}", spec.to, spec.from, spec.body),
        VerbEffect::Refer { uri, headers } => format!("refer {uri} {headers:?}"),
        VerbEffect::NotifyRefer { of, status } => format!("notify {:?} {status}", of.map(|branch| branch.0)),
        VerbEffect::HandOver { branch, document } => format!("hand over {} {:?}", branch.0, document.source),
        VerbEffect::Fetch(order) => show_fetch(order),
        VerbEffect::CancelFetch(fetch) => format!("cancel fetch {fetch}"),
        VerbEffect::Reject(reason) => format!("reject {reason:?}"),
        VerbEffect::Hangup(reason) => format!("hangup {reason:?}"),
        VerbEffect::Accept => "accept".into(),
        VerbEffect::Notify(notice) => format!("{:?} {}", notice.severity, notice.code),
        VerbEffect::VerbStarted(name) => format!("+{}", name.as_str()),
        VerbEffect::VerbEnded(name) => format!("-{}", name.as_str()),
    }
}

fn show_source(source: &AudioSource) -> String {
    match source {
        AudioSource::Say { text, .. } => format!("say {text}"),
        AudioSource::Url { url } => format!("url {url}"),
        AudioSource::Prompt { name } => format!("prompt {name}"),
    }
}

fn show_item(item: &PlayPart) -> String {
    match item {
        PlayPart::Clip(hash) => format!("c{}", hash[0]),
        PlayPart::SilenceMs(length) => format!("{length}ms"),
        PlayPart::Digits(digits) => format!("dtmf:{digits}"),
        PlayPart::Beep => "beep".into(),
        PlayPart::Live => "live".into(),
    }
}

fn show_stream(stream: u32, spec: &StreamSpec) -> String {
    let StreamSpec { url, name, track, player, params, callback } = spec;
    let params: String = params.iter().map(|(name, value)| format!(" {name}={value}")).collect();
    let callback = callback.as_ref().map(|callback| format!(" tells {}", callback.url)).unwrap_or_default();
    let name = name.as_deref().unwrap_or("-");
    format!("stream {stream} {url} {name} {} {player:?}{params}{callback}", track.as_str())
}

fn show_branch(spec: &BranchSpec) -> String {
    let target = match &spec.target {
        Target::Number(number) => number.clone(),
        Target::Client { identity, .. } => format!("client:{identity}"),
        Target::Application { sid, .. } => format!("app:{sid}"),
        Target::Sip(sip) => sip.uri.clone(),
    };
    let whisper = spec.whisper.as_ref().map(|whisper| format!(" whisper {}", whisper.url)).unwrap_or_default();
    format!("call {} {target}{whisper}", spec.branch.0)
}

fn show_fetch(order: &FetchOrder) -> String {
    let params: String = order.params.iter().map(|(name, value)| format!(" {name}={value}")).collect();
    let FetchOrder { fetch, endpoint, reason, .. } = order;
    let ignored = if order.answer_wanted { "" } else { " ignored" };
    format!("fetch {fetch} {} {} {reason:?}{params}{ignored}", endpoint.method.as_str(), endpoint.url)
}
