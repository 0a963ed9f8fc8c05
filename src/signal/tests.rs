//! A browser's line against a server's SIP stack, in virtual time.

use std::collections::VecDeque;

use dialtone_sip::dialog::DialogId;
use dialtone_sip::flow::{ConnectionId, Flow, Transport};
use dialtone_sip::msg::{HeaderName, Message, Method};
use dialtone_sip::stack::{self, Event, Invitation, Received, Reply, Stack};
use dialtone_sip::time::Mono;
use serde_json::{Value, json};

use super::frames::{self, Said};
use super::line::{Line, Output, Setup};
use crate::call::Now;
use crate::call::browser::{CALL, MESSAGE, PARAMETERS, decode, encode};
use crate::ids::{AccountSid, CallSid};
use crate::tokens::reconnect::{self, Kept, Key};

const NOW: Now = Now { mono: Mono(1_000_000), wall_ms: 1_790_000_000_000 };

fn flow() -> Flow {
    Flow {
        transport: Transport::Ws,
        local: "192.0.2.1:5060".parse().unwrap(),
        remote: "203.0.113.5:40000".parse().unwrap(),
        connection: Some(ConnectionId(7)),
    }
}

/// The same browser, by another connection.
fn later_flow() -> Flow {
    Flow { connection: Some(ConnectionId(8)), ..flow() }
}

fn line(flow: Flow) -> Line {
    let (account, key) = (AccountSid::new(1), Key::of_test());
    let identity = "anna@example.com (é)".to_owned();
    Line::new(Setup { flow, account, identity, realm: "dialtone".into(), key, seed: [1; 32] })
}

/// What a browser has of a call that goes on elsewhere.
fn kept(token: &str) -> Kept {
    reconnect::open_with(token, &Key::of_test(), NOW.wall_ms / 1000).unwrap()
}

/// A line, the server that it speaks to, and what each has heard.
struct World {
    line: Line,
    server: Stack,
    frames: Vec<Value>,
    fresh: VecDeque<Message>,
    events: Vec<Event>,
    responses: Vec<Message>,
}

impl World {
    fn new() -> World {
        let line = line(flow());
        let server = Stack::new(stack::Config { product: "test".into(), slot: 0, seed: [2; 32] });
        World { line, server, frames: Vec::new(), fresh: VecDeque::new(), events: Vec::new(), responses: Vec::new() }
    }

    fn say(&mut self, said: Said) {
        self.line.handle_said(said, NOW);
        self.settle();
    }

    /// Lets everything reach the other side.
    fn settle(&mut self) {
        loop {
            let mut moved = false;
            while let Some(output) = self.line.poll_output() {
                moved = true;
                match output {
                    Output::Frame(frame) => self.frames.push(serde_json::from_str(&frame).unwrap()),
                    Output::Sip(bytes) => {
                        let message = Message::parse(bytes).expect("sip");
                        if let Received::Fresh(request) = self.server.receive(flow(), message, NOW.mono) {
                            self.fresh.push_back(request);
                        }
                    }
                }
            }
            while let Some(output) = self.server.poll_output() {
                moved = true;
                match output {
                    stack::Output::Transmit(transmit) => {
                        let message = Message::parse(transmit.bytes).expect("sip");
                        if !message.is_request() {
                            self.responses.push(message.clone());
                        }
                        self.line.handle_message(message, NOW);
                    }
                    stack::Output::Event(event) => self.events.push(event),
                }
            }
            if !moved {
                return;
            }
        }
    }

    fn take_frames(&mut self) -> Vec<(String, Value)> {
        let frames = std::mem::take(&mut self.frames).into_iter();
        frames.map(|frame| (frame["type"].as_str().unwrap().to_owned(), frame["payload"].clone())).collect()
    }

    /// The browser calls; its dialog at the server, and the sid.
    fn outgoing(&mut self) -> (DialogId, String) {
        let parameters = vec![("To".to_owned(), "+1 555".to_owned()), ("Farbe".to_owned(), "grün & blau".to_owned())];
        self.say(Said::Invite { call: "TJSone".into(), sdp: "v=0 browser".into(), parameters });
        let invite = self.fresh.pop_front().expect("an INVITE");
        assert_eq!(invite.body(), "v=0 browser");
        let given = decode(invite.other_header(PARAMETERS).unwrap());
        assert_eq!(given, [("To".into(), "+1 555".into()), ("Farbe".into(), "grün & blau".into())]);
        let from = invite.from().unwrap().parsed_uri().unwrap().sip().unwrap().decoded_user().unwrap().into_owned();
        assert_eq!(from, "anna@example.com (é)");
        let sid = invite.other_header(CALL).unwrap().to_owned();
        (self.server.accept_invite(flow(), invite, "<sip:us@192.0.2.1>".into()), sid)
    }

    /// The browser is called; the server's dialog, and the token of the call.
    fn incoming(&mut self, sid: CallSid) -> (DialogId, String) {
        let told = encode([("From", "client:bob"), ("Params", "a=b%20c")]);
        let dialog = self.server.invite(
            Invitation {
                flow: flow(),
                request_uri: "sip:anna@x.invalid;transport=ws".into(),
                from: "<sip:bob@dialtone>".into(),
                to: "<sip:anna@dialtone>".into(),
                contact: "<sip:us@192.0.2.1>".into(),
                alternatives: Vec::new(),
                routes: Vec::new(),
                headers: vec![(CALL.into(), sid.to_string()), (PARAMETERS.into(), told)],
                sdp: "v=0 server".into(),
                credentials: None,
            },
            NOW.mono,
        );
        self.settle();
        let frames = self.take_frames();
        let [(kind, invite)] = &frames[..] else { panic!("{frames:?}") };
        assert_eq!(
            (kind.as_str(), &invite["callsid"], &invite["sdp"]),
            ("invite", &json!(sid.to_string()), &json!("v=0 server"))
        );
        assert_eq!(invite["parameters"]["From"], "client:bob");
        assert_eq!(invite["parameters"]["Params"], "a=b%20c");
        assert_eq!(invite["parameters"]["CallSid"], json!(sid.to_string()));
        (dialog, invite["reconnect"].as_str().unwrap().to_owned())
    }
}

#[test]
fn frames_are_read_as_the_sdk_writes_them_and_others_mean_nothing() {
    let read = |kind: &str, payload: Value| {
        frames::read(&json!({"type": kind, "payload": payload, "version": "1.6"}).to_string())
    };
    let token = || "a.b.c".to_owned();
    assert_eq!(
        read("listen", json!({"token": "a.b.c", "reconnectTimeout": 5, "browserinfo": {}})),
        Some(Said::Listen { token: token(), patience_s: 5 })
    );
    assert_eq!(
        read("listen", json!({"token": "a.b.c", "reconnectTimeout": 1e9})),
        Some(Said::Listen { token: token(), patience_s: 30 })
    );
    assert_eq!(read("register", json!({"media": {"audio": true}})), Some(Said::Register { is_there: true }));
    assert_eq!(read("register", json!({})), Some(Said::Register { is_there: false }));
    let invite = json!({"callsid": "TJS1", "sdp": "v=0", "twilio": {"params": "To=%2B1&a=b%26c"}});
    let parameters = vec![("To".to_owned(), "+1".to_owned()), ("a".to_owned(), "b&c".to_owned())];
    assert_eq!(read("invite", invite), Some(Said::Invite { call: "TJS1".into(), sdp: "v=0".into(), parameters }));
    let again = json!({"callsid": "CA1", "sdp": "v=0", "reconnect": "t", "twilio": {}});
    assert_eq!(
        read("invite", again),
        Some(Said::Reattach { call: "CA1".into(), token: "t".into(), sdp: "v=0".into() })
    );
    assert_eq!(
        read("dtmf", json!({"callsid": "CA1", "dtmf": "5#"})),
        Some(Said::Digits { call: "CA1".into(), digits: "5#".into() })
    );
    let message =
        json!({"callsid": "CA1", "voiceeventsid": "KX1", "messagetype": "user-defined-message", "content": {"a": [1]}});
    let (id, kind) = ("KX1".to_owned(), "user-defined-message".to_owned());
    let content = r#"{"a":[1]}"#.to_owned();
    assert_eq!(read("message", message), Some(Said::Message { call: "CA1".into(), id, kind, content }));
    for (kind, payload) in [
        ("hangup", json!({})),
        ("hangup", json!({"callsid": "a\r\nb"})),
        ("other", json!({"callsid": "CA1"})),
        ("invite", json!([])),
    ] {
        assert_eq!(read(kind, payload), None, "{kind}");
    }
    assert_eq!(frames::read("\n"), None);
}

#[test]
fn call_of_a_browser_rings_is_answered_and_hung_up() {
    let mut world = World::new();
    let (dialog, sid) = world.outgoing();
    world.server.progress(dialog, 180, "".into(), NOW.mono);
    world.settle();
    assert_eq!(world.take_frames(), [("ringing".to_owned(), json!({"callsid": sid}))]);
    world.server.answer(dialog, "v=0 server".into(), NOW.mono);
    world.settle();
    let frames = world.take_frames();
    assert_eq!((frames[0].0.as_str(), &frames[0].1["sdp"]), ("answer", &json!("v=0 server")));
    let token = frames[0].1["reconnect"].as_str().unwrap().to_owned();
    let Kept { call, number, .. } = kept(&token);
    assert_eq!((call.to_string(), world.line.dialogs().collect::<Vec<_>>()), (sid.clone(), vec![number]));
    // Another connection that has shown the token has it from now on.
    assert!(world.line.reattach(CallSid::new(1), NOW).is_none());
    assert!(world.line.reattach(call, NOW).unwrap().contains(&sid));
    world.say(Said::Digits { call: sid.clone(), digits: "5w#".into() });
    let digits = world
        .events
        .iter()
        .filter(|event| matches!(event, Event::InDialog { request, .. } if request.method() == Some(Method::Info)));
    assert_eq!(digits.count(), 2);
    world.say(Said::Hangup { call: sid });
    assert!(world.events.iter().any(|event| matches!(event, Event::Ended { bye: Some(_), .. })));
    assert!(!world.line.has_calls());
}

#[test]
fn early_media_is_told_once() {
    let mut world = World::new();
    let (dialog, _) = world.outgoing();
    world.server.progress(dialog, 183, "v=0 early".into(), NOW.mono);
    world.server.answer(dialog, "v=0 early".into(), NOW.mono);
    world.settle();
    let frames = world.take_frames();
    assert_eq!(frames[0].1["sdp"], "v=0 early");
    assert_eq!((frames[1].0.as_str(), frames[1].1.get("sdp")), ("answer", None));
}

#[test]
fn refusal_is_told_by_the_number_that_the_sdk_has_for_it() {
    for (status, code) in
        [(486, Some(31_486)), (404, Some(31_404)), (603, Some(31_603)), (503, Some(31_000)), (480, Some(31_480))]
    {
        let mut world = World::new();
        let (dialog, _) = world.outgoing();
        world.server.decline(dialog, &Reply::new(status), NOW.mono);
        world.settle();
        let frames = world.take_frames();
        assert_eq!(frames.len(), 1);
        assert_eq!((frames[0].0.as_str(), frames[0].1["callsid"].as_str()), ("hangup", Some("TJSone")));
        assert_eq!(frames[0].1["error"]["code"].as_u64(), code);
    }
}

#[test]
fn call_that_is_withdrawn_before_its_answer_is_cancelled_or_hung_up_if_that_was_faster() {
    let mut world = World::new();
    let (dialog, _) = world.outgoing();
    world.server.progress(dialog, 180, "".into(), NOW.mono);
    world.settle();
    world.say(Said::Hangup { call: "TJSone".into() });
    assert!(world.events.iter().any(|event| matches!(event, Event::Canceled { .. })));
    assert!(!world.line.has_calls());
    // The 200 and the CANCEL cross.
    let mut world = World::new();
    let (dialog, _) = world.outgoing();
    world.server.progress(dialog, 180, "".into(), NOW.mono);
    world.settle();
    world.server.answer(dialog, "v=0 server".into(), NOW.mono);
    world.line.handle_said(Said::Hangup { call: "TJSone".into() }, NOW);
    world.settle();
    assert!(world.events.iter().any(|event| matches!(event, Event::Ended { bye: Some(_), .. })), "{:?}", world.events);
}

#[test]
fn browser_that_is_called_answers_rejects_or_is_spared() {
    let sid = CallSid::new(9);
    let mut world = World::new();
    let (dialog, _) = world.incoming(sid);
    world.say(Said::Answer { call: sid.to_string(), sdp: "v=0 browser".into() });
    assert!(
        world
            .events
            .iter()
            .any(|event| matches!(event, Event::Answered { response, .. } if response.body() == "v=0 browser"))
    );
    world.take_frames();
    world.server.bye(dialog, "", NOW.mono);
    world.settle();
    assert_eq!(world.take_frames(), [("hangup".to_owned(), json!({"callsid": sid.to_string()}))]);

    let mut world = World::new();
    world.incoming(sid);
    world.say(Said::Reject { call: sid.to_string() });
    assert!(world.events.iter().any(|event| matches!(event, Event::Refused { status: 603, .. })));

    let mut world = World::new();
    let (dialog, _) = world.incoming(sid);
    world.server.cancel(dialog, "", NOW.mono);
    world.settle();
    assert_eq!(world.take_frames(), [("cancel".to_owned(), json!({"callsid": sid.to_string()}))]);
    // What is said of a call that is over changes nothing.
    world.say(Said::Answer { call: sid.to_string(), sdp: "v=0".into() });
    assert!(world.take_frames().is_empty());
}

#[test]
fn ice_restart_of_the_browser_is_a_new_offer_and_the_servers_question_is_answered_as_before() {
    let sid = CallSid::new(9);
    let mut world = World::new();
    let (dialog, _) = world.incoming(sid);
    world.say(Said::Answer { call: sid.to_string(), sdp: "v=0 browser".into() });
    world.take_frames();
    world.say(Said::Reinvite { call: sid.to_string(), sdp: "v=0 restarted".into() });
    assert!(
        world
            .events
            .iter()
            .any(|event| matches!(event, Event::Reoffered { invite, .. } if invite.body() == "v=0 restarted"))
    );
    world.server.answer(dialog, "v=0 restarted too".into(), NOW.mono);
    world.settle();
    assert_eq!(world.take_frames()[0].1["sdp"], "v=0 restarted too");
    // Is it there still?
    world.server.reinvite(dialog, "v=0 restarted too".into(), NOW.mono);
    world.settle();
    let answered = |event: &Event| matches!(event, Event::Reanswered { status: 200, response: Some(response), .. } if response.body() == "v=0 restarted");
    assert!(world.events.iter().any(answered), "{:?}", world.events);
}

#[test]
fn media_that_is_elsewhere_waits_until_the_browser_begins_anew() {
    let sid = CallSid::new(9);
    let mut world = World::new();
    let (dialog, _) = world.incoming(sid);
    world.say(Said::Answer { call: sid.to_string(), sdp: "v=0 browser".into() });
    world.take_frames();
    world.server.reinvite(dialog, "v=0\r\na=ice-ufrag:elsewhere\r\n".into(), NOW.mono);
    world.settle();
    // The SDK has no frame for that.
    assert!(world.take_frames().is_empty());
    assert!(!world.events.iter().any(|event| matches!(event, Event::Reanswered { .. })));
    world.say(Said::Reinvite { call: sid.to_string(), sdp: "v=0 anew".into() });
    assert!(
        world
            .events
            .iter()
            .any(|event| matches!(event, Event::Reoffered { invite, .. } if invite.body() == "v=0 anew"))
    );
    world.server.answer(dialog, "v=0\r\na=ice-ufrag:elsewhere2\r\n".into(), NOW.mono);
    world.settle();
    assert_eq!(world.take_frames()[0].0, "answer");
    // The offer that it was to answer is not made again.
    let later = Mono(NOW.mono.0 + 10_000_000);
    world.server.handle_timeout(later);
    world.settle();
    assert!(!world.events.iter().any(|event| matches!(event, Event::Reanswered { .. })), "{:?}", world.events);
    assert!(world.take_frames().is_empty());

    // One that never does is given up.
    world.server.reinvite(dialog, "v=0\r\na=ice-ufrag:again\r\n".into(), later);
    world.settle();
    let by = world.line.next_deadline().unwrap();
    world.line.handle_timeout(Now { mono: Mono(by.0 + 30_000_000), ..NOW });
    world.settle();
    assert!(world.events.iter().any(|event| matches!(event, Event::Reanswered { status: 488, .. })));
}

#[test]
fn call_goes_on_by_a_line_that_knows_only_its_token() {
    for is_outgoing in [true, false] {
        let mut world = World::new();
        let sdp = "v=0\r\na=ice-ufrag:server\r\n";
        let (dialog, sid) = match is_outgoing {
            true => {
                let (dialog, sid) = world.outgoing();
                world.server.answer(dialog, sdp.into(), NOW.mono);
                (dialog, sid)
            }
            false => {
                let sid = CallSid::new(9);
                let (dialog, _) = world.incoming(sid);
                world.say(Said::Answer { call: sid.to_string(), sdp: "v=0 browser".into() });
                (dialog, sid.to_string())
            }
        };
        world.settle();
        let (_, answer) = world.take_frames().pop().unwrap();
        // More is said by the line that will be gone.
        world.say(Said::Digits { call: sid.clone(), digits: "123".into() });
        world.server.info_digit(dialog, '4', NOW.mono);
        world.settle();
        world.line = line(later_flow());
        // The server asks whether it is there, and nobody is.
        world.server.reinvite(dialog, if is_outgoing { sdp.into() } else { "v=0 server".into() }, NOW.mono);
        while world.server.poll_output().is_some() {}
        world.events.clear();
        let kept = kept(answer["reconnect"].as_str().unwrap());
        let call = kept.call;
        world.line.take_up(kept, "v=0 as before".into());
        assert!(world.line.reattach(call, NOW).is_none(), "nobody has said yet that there is that call");
        world.server.follow(dialog, later_flow());
        world.settle();
        let answered = |event: &Event| matches!(event, Event::Reanswered { status: 200, response: Some(response), .. } if response.body() == "v=0 as before");
        assert!(world.events.iter().any(answered), "{:?}", world.events);
        world.line.taken_up(call, true, NOW);
        world.settle();
        let (kind, told) = world.take_frames().pop().unwrap();
        assert_eq!((kind.as_str(), &told["callsid"]), ("answer", &json!(sid)));
        assert!(told["sdp"].is_null());
        world.say(Said::Hangup { call: sid });
        assert!(world.events.iter().any(|event| matches!(event, Event::Ended { bye: Some(_), .. })));
    }
}

#[test]
fn registration_is_told_as_the_server_answers_it() {
    let mut world = World::new();
    for (expires, wanted) in [(3600, "ready"), (0, "offline")] {
        world.line.register(expires);
        world.settle();
        let register = world.fresh.pop_front().unwrap();
        let contact = register.header(HeaderName::Contact).unwrap().to_owned();
        assert!(contact.ends_with(&format!(";expires={expires}")) && contact.contains("transport=ws"));
        let mut reply = Reply::new(200);
        if expires > 0 {
            reply = reply.header(HeaderName::Contact, contact);
        }
        world.server.refuse(&register, flow(), &reply);
        world.settle();
        assert_eq!(world.take_frames()[0].0, wanted);
    }
    // One whose connection is gone leaves without a word to the page; who was not there need not.
    world.line.leave();
    world.settle();
    assert!(world.fresh.is_empty());
    world.line.register(3600);
    world.settle();
    world.fresh.pop_front().unwrap();
    world.line.leave();
    world.settle();
    let register = world.fresh.pop_front().unwrap();
    assert!(register.header(HeaderName::Contact).unwrap().ends_with(";expires=0"));
    world.server.refuse(&register, flow(), &Reply::new(200));
    world.settle();
    assert!(world.take_frames().is_empty());
    world.line.register(3600);
    world.settle();
    let register = world.fresh.pop_front().unwrap();
    world.server.refuse(&register, flow(), &Reply::new(403).reason("Too Many Contacts"));
    world.settle();
    let frames = world.take_frames();
    assert_eq!((frames[0].0.as_str(), frames[0].1["error"]["message"].as_str()), ("error", Some("Too Many Contacts")));
}

#[test]
fn messages_go_both_ways_in_a_call_that_is_up_and_not_too_many() {
    let mut world = World::new();
    let sid = CallSid::new(9);
    let (dialog, _) = world.incoming(sid);
    let id = |number: u32| format!("KX{number:032x}");
    let say = |world: &mut World, id: String, kind: &str, content: &str| {
        let (kind, content) = (kind.to_owned(), content.to_owned());
        world.say(Said::Message { call: sid.to_string(), id, kind, content });
        let (kind, payload) = world.take_frames().pop().unwrap();
        (kind, payload["error"]["code"].as_u64().unwrap_or_default() as u32)
    };
    let ours = frames::MESSAGE_KIND;
    assert_eq!(say(&mut world, id(0), ours, "1"), ("error".into(), 31_000), "it rings");
    world.say(Said::Answer { call: sid.to_string(), sdp: "v=0 browser".into() });
    world.take_frames();
    assert_eq!(say(&mut world, id(1), "another", "1"), ("error".into(), 31_210));
    assert_eq!(say(&mut world, "KX1\r\nX: y".into(), ours, "1"), ("error".into(), 31_210));
    assert_eq!(say(&mut world, id(1), ours, &"1".repeat(8193)), ("error".into(), 31_212));
    let longest = "1".repeat(8192);
    for number in 0..20 {
        assert_eq!(say(&mut world, id(number), ours, &longest), ("ack".into(), 0), "{number}");
    }
    assert_eq!(say(&mut world, id(20), ours, "1"), ("error".into(), 31_206));
    let heard: Vec<_> = world
        .events
        .iter()
        .filter_map(|event| match event {
            Event::InDialog { request, .. } => Some((request.other_header(MESSAGE)?.to_owned(), request.body().len())),
            _ => None,
        })
        .collect();
    assert_eq!(heard, (0..20).map(|number| (id(number), 8192)).collect::<Vec<_>>());

    let (name, content) = (id(99), r#"{"from":"the application"}"#);
    world.server.message_inside(dialog, &[(MESSAGE, &name)], ("application/json", content.as_bytes()), NOW.mono);
    world.settle();
    let (kind, payload) = world.take_frames().pop().unwrap();
    assert_eq!(
        (kind.as_str(), &payload["voiceeventsid"], &payload["content"]["from"]),
        ("message", &json!(name), &json!("the application"))
    );
    assert_eq!((&payload["messagetype"], &payload["callsid"]), (&json!(ours), &json!(sid.to_string())));
}

#[test]
fn call_that_this_edge_has_not_is_looked_for_by_its_dialog() {
    for is_over in [false, true] {
        let mut world = World::new();
        let (dialog, sid) = world.outgoing();
        world.server.answer(dialog, "v=0 server".into(), NOW.mono);
        world.settle();
        let (_, answer) = world.take_frames().pop().unwrap();
        world.line = line(later_flow());
        if is_over {
            world.server.bye(dialog, "", NOW.mono);
            while world.server.poll_output().is_some() {}
            world.server = Stack::new(stack::Config { product: "test".into(), slot: 0, seed: [3; 32] });
        }
        world.events.clear();
        let kept = kept(answer["reconnect"].as_str().unwrap());
        let call = kept.call;
        world.line.take_up(kept, "v=0 as before".into());
        world.line.taken_up(call, false, NOW);
        world.settle();
        if is_over {
            let (kind, told) = world.take_frames().pop().unwrap();
            assert_eq!((kind.as_str(), &told["error"]["code"]), ("hangup", &json!(31_209)));
            assert!(!world.line.has_calls());
            continue;
        }
        let asked =
            |event: &Event| matches!(event, Event::Reoffered { invite, .. } if invite.body() == "v=0 as before");
        assert!(world.events.iter().any(asked), "{:?}", world.events);
        world.server.answer(dialog, "v=0 server".into(), NOW.mono);
        world.settle();
        let (kind, told) = world.take_frames().pop().unwrap();
        assert_eq!((kind.as_str(), &told["callsid"]), ("answer", &json!(sid)));
        assert!(world.line.reattach(call, NOW).is_some());
    }
}
