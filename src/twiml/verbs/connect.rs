//! `<Connect><Stream>`: the caller talks with the application, by a WebSocket, until one of them ends it.

use serde::{Deserialize, Serialize};

use crate::ids::StreamSid;
use crate::twiml::document::{ConnectSpec, Link, StreamVerb};
use crate::twiml::notice::{Notice, code};
use crate::twiml::port::{FetchReason, PlayPart, Precondition, StreamSpec, VerbEffect, VerbInput};
use crate::twiml::verbs::dial::endpoint;
use crate::twiml::verbs::{Context, Machine, Step, Transfer};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(in crate::twiml) struct Connect {
    spec: ConnectSpec,
    /// Its numbers, once it has begun.
    stream: u32,
    player: u32,
    sid: Option<StreamSid>,
}

impl Connect {
    pub fn new(spec: ConnectSpec) -> Self {
        Self { spec, stream: 0, player: 0, sid: None }
    }

    fn over(&mut self, error: Option<&str>, context: &mut Context<'_>) -> Step {
        if self.sid.is_some() {
            context.push(VerbEffect::StopPlay);
        }
        let Some(link) = self.spec.action.take() else { return Step::Next };
        let mut params = Vec::new();
        params.extend(self.sid.map(|sid| ("StreamSid".to_owned(), sid.to_string())));
        params.extend(self.spec.stream.name.take().map(|name| ("StreamName".to_owned(), name)));
        params.extend(error.map(|error| ("StreamError".to_owned(), error.to_owned())));
        Step::Transfer(Transfer { link, method: self.spec.method, params, reason: FetchReason::Action })
    }
}

impl StreamVerb {
    /// The stream that this asks for; `None`, with a notice, where it has nowhere to go.
    pub(super) fn spec(self, player: Option<u32>, context: &mut Context<'_>) -> Option<StreamSpec> {
        let url = match self.link {
            Link::Absolute(url) => url,
            Link::Unresolvable(url) => {
                let text = "the url of a Stream is no ws or wss url: there is no stream";
                context.notify(Notice::error(code::STREAM_INVALID_URL, text).about(url));
                return None;
            }
        };
        let callback = self.callback.and_then(|(link, method)| endpoint(link, method, context));
        Some(StreamSpec { url, name: self.name, track: self.track, player, params: self.params, callback })
    }
}

impl Machine for Connect {
    fn precondition(&self) -> Precondition {
        Precondition::MediaReady
    }

    fn start(&mut self, context: &mut Context<'_>) -> Step {
        self.player = context.next_player();
        self.stream = context.next_stream();
        match self.spec.stream.clone().spec(Some(self.player), context) {
            Some(spec) => {
                context.push(VerbEffect::StartStream { stream: self.stream, spec: Box::new(spec) });
                Step::Running
            }
            None => self.over(Some("invalid url"), context),
        }
    }

    fn handle(&mut self, input: &VerbInput, context: &mut Context<'_>) -> Step {
        match input {
            VerbInput::StreamStarted { stream, sid } if *stream == self.stream => {
                // After a restart of the edge it begins anew, and what was heard of it goes on.
                self.sid = Some(*sid);
                context.push(VerbEffect::Play { player: self.player, items: vec![PlayPart::Live], loops: 1 });
                Step::Running
            }
            VerbInput::StreamEnded { stream, error } if *stream == self.stream => self.over(error.as_deref(), context),
            VerbInput::Digit(digit) => {
                context.push(VerbEffect::TellStream { stream: self.stream, digit: *digit });
                Step::Running
            }
            _ => Step::Running,
        }
    }

    fn cancel(&mut self, context: &mut Context<'_>) {
        context.push(VerbEffect::StopStream(self.stream));
        if self.sid.is_some() {
            context.push(VerbEffect::StopPlay);
        }
    }

    /// The action is told even now.
    fn hung_up(&mut self, context: &mut Context<'_>) -> Step {
        context.push(VerbEffect::StopStream(self.stream));
        self.over(None, context)
    }
}
