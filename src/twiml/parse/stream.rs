//! `<Connect>`, and the nouns `<Stream>` of `<Start>` and `<Stop>`.

use crate::twiml::document::{ConnectSpec, StreamVerb};
use crate::twiml::notice::{Notice, code};
use crate::twiml::parse::attributes::Attributes;
use crate::twiml::parse::xml::Element;
use crate::twiml::parse::{Notices, Scope, leaf, link, quote};
use crate::twiml::port::{Method, RecordingTrack};

/// Of one parameter, name and value together, as at Twilio.
const MAX_PARAMETER_CHARS: usize = 500;
const MAX_PARAMETERS: usize = 99;

/// Reads a `<Connect>`; `None`, with a notice, if nothing of it can be connected.
pub(super) fn connect(element: &Element, scope: &mut Scope<'_>) -> Option<ConnectSpec> {
    let mut attributes = Attributes::of(element);
    let method = attributes.method("method", Method::Post, &mut scope.notices);
    let action = attributes.text("action");
    attributes.finish(&mut scope.notices);
    let mut found = None;
    for inner in element.elements() {
        match inner.name.as_str() {
            "Stream" if found.is_none() => {
                let stream = read(inner, scope);
                if stream.track != RecordingTrack::Inbound {
                    let text = "a Stream of Connect has the inbound_track only";
                    scope.notices.push(Notice::warning(code::STREAM_INVALID_URL, text));
                }
                found = Some(StreamVerb { track: RecordingTrack::Inbound, ..stream });
            }
            "Stream" => scope.notices.schema("Connect takes one Stream: the others are skipped"),
            name if NOT_YET.contains(&name) => {
                scope.notices.schema(format!("noun {name} of Connect is not implemented yet: skipped"))
            }
            name => scope.notices.schema(format!("unknown element {} in Connect: skipped", quote(name))),
        }
    }
    if found.is_none() {
        scope.notices.schema("Connect without a Stream: skipped");
    }
    Some(ConnectSpec { action: action.map(|text| scope.link(text)), method, stream: found? })
}

/// Reads a `<Stream>` that begins something.
pub(super) fn read(element: &Element, scope: &mut Scope<'_>) -> StreamVerb {
    let mut attributes = Attributes::of(element);
    let url = attributes.text("url").unwrap_or_default();
    let name = name(&mut attributes);
    let tracks = [
        ("inbound_track", RecordingTrack::Inbound),
        ("outbound_track", RecordingTrack::Outbound),
        ("both_tracks", RecordingTrack::Both),
    ];
    let track = attributes.choice("track", &tracks, RecordingTrack::Inbound, &mut scope.notices);
    let method = attributes.method("statusCallbackMethod", Method::Post, &mut scope.notices);
    let callback = attributes.text("statusCallback").filter(|text| !text.trim().is_empty());
    attributes.not_yet(&["connectorName", "audioFormat", "sampleRate"], &mut scope.notices);
    leaf(element, attributes, scope);
    StreamVerb {
        link: link::resolve_stream(url, scope.base),
        name,
        track,
        params: parameters(element, &mut scope.notices),
        callback: callback.map(|text| (scope.link(text), method)),
    }
}

/// Reads a `<Stream>` of `<Stop>`: its name.
pub(super) fn stop(element: &Element, scope: &mut Scope<'_>) -> Option<String> {
    let mut attributes = Attributes::of(element);
    let name = name(&mut attributes);
    attributes.accept(&["url", "track"]);
    leaf(element, attributes, scope);
    name
}

fn name(attributes: &mut Attributes<'_>) -> Option<String> {
    attributes.text("name").map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned)
}

fn parameters(element: &Element, notices: &mut Notices) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for inner in element.elements().filter(|inner| inner.name == "Parameter") {
        let mut attributes = Attributes::of(inner);
        let name = attributes.text("name").unwrap_or_default().to_owned();
        let value = attributes.text("value").unwrap_or_default().to_owned();
        attributes.finish(notices);
        let fits = name.chars().count() + value.chars().count() <= MAX_PARAMETER_CHARS && found.len() < MAX_PARAMETERS;
        match (name.is_empty(), fits) {
            (true, _) => notices.schema("Parameter of Stream without a name: skipped"),
            (false, false) => notices.schema(format!(
                "a Stream takes {MAX_PARAMETERS} parameters of {MAX_PARAMETER_CHARS} characters: {} is skipped",
                quote(&name)
            )),
            (false, true) => found.push((name, value)),
        }
    }
    found
}

/// Nouns that Twilio has and Dialtone has not yet.
const NOT_YET: &[&str] = &[
    "ConversationRelay",
    "VirtualAgent",
    "AiSession",
    "ConversationRelaySession",
    "Conversation",
    "Room",
    "Autopilot",
];
