//! What is recorded of calls: by verbs, by the API, and with the call; and that no recording ever holds a call.

use std::time::Duration;

use dialtone::call::{Placing, RecordingChange, Update};
use dialtone::events::{EventKind, RecordingFact, RecordingStatus};
use dialtone::ids::{CallSid, RecordingSid};
use dialtone::shard::PlaceOrder;
use dialtone::twiml::parse::target;
use dialtone::twiml::{AtEnd, DocumentSource, NewDocument, RecordingSource, RecordingSpec, RecordingTrack};

use crate::phone::Script;
use crate::world::{ACCOUNT, Says, World};

const CARRIER: &str = "198.51.100.9:5060";
const SID: CallSid = CallSid::new(7);
const RECORDING: RecordingSid = RecordingSid::new(9);

fn facts(world: &World) -> Vec<&RecordingFact> {
    let facts = world.events.iter().filter_map(|event| match &event.kind {
        EventKind::Recording(fact) => Some(fact.as_ref()),
        _ => None,
    });
    facts.collect()
}

fn statuses(world: &World) -> Vec<RecordingStatus> {
    facts(world).iter().map(|fact| fact.status).collect()
}

fn spec() -> RecordingSpec {
    RecordingSpec {
        source: RecordingSource::StartCallRecordingAPI,
        track: RecordingTrack::Both,
        channels: 2,
        trim: false,
        max_length: None,
        silence_timeout: None,
        callback: None,
    }
}

fn order(record: Option<RecordingSpec>) -> PlaceOrder {
    PlaceOrder {
        sid: SID,
        account: ACCOUNT.parse().unwrap(),
        from: "+15551000000".into(),
        to: "+15553334444".into(),
        target: target("+15553334444", None, None).expect("somebody"),
        forwards: false,
        notices: Vec::new(),
        document: NewDocument {
            source: DocumentSource::Twiml("<Response><Pause length=\"20\"/></Response>".into()),
            fallback: None,
            at_end: AtEnd::HangUp,
        },
        status_callback: None,
        placing: Placing {
            ring_for: Duration::from_secs(20),
            time_limit: Duration::from_secs(3600),
            send_digits: None,
            record,
        },
    }
}

fn placed(record: Option<RecordingSpec>) -> World {
    let mut world = World::new(1, |_| Says::Twiml("<Response/>"));
    world.restarts = true;
    world.add_phone(CARRIER, Script::Answer(Duration::from_secs(1)));
    world.place(order(record));
    world
}

fn change(world: &mut World, change: RecordingChange) -> bool {
    world.update(SID, Update { recording: Some(change), ..Update::default() })
}

#[test]
fn nothing_said_is_no_recording_and_the_document_goes_on() {
    let mut world = World::new(1, |asked| match asked.url.as_str() {
        "http://app/voice" => Says::Twiml(
            "<Response><Record action=\"/done\" timeout=\"3\" finishOnKey=\"#\"/><Redirect>/next</Redirect></Response>",
        ),
        _ => Says::Twiml("<Response/>"),
    });
    world.restarts = true;
    world.call("+15551000000");
    world.run_for(Duration::from_secs(8));
    let asked: Vec<&str> = world.asked.iter().map(|asked| asked.url.as_str()).collect();
    assert_eq!(asked, ["http://app/voice", "http://app/next"], "and not /done");
    assert_eq!(statuses(&world), [RecordingStatus::InProgress, RecordingStatus::Absent]);
    world.close_books();
}

#[test]
fn dial_is_recorded_from_the_answer_and_its_action_is_told_where() {
    for (record, channels) in [("record-from-answer", 1), ("record-from-ringing-dual", 2)] {
        let text = format!(
            "<Response><Dial action=\"/after\" record=\"{record}\" trim=\"do-not-trim\">+15553334444</Dial></Response>"
        );
        let text: &'static str = text.leak();
        let mut world = World::new(1, move |asked| match asked.url.as_str() {
            "http://app/voice" => Says::Twiml(text),
            _ => Says::Twiml("<Response/>"),
        });
        world.restarts = true;
        let callee = world.add_phone(CARRIER, Script::Answer(Duration::from_secs(4)));
        world.call("+15551000000");
        world.run_for(Duration::from_secs(10));
        world.hang_up(callee);
        world.run_for(Duration::from_secs(2));
        let after = world.asked.iter().find(|asked| asked.url == "http://app/after").expect("the action");
        let [begun, ended] = facts(&world)[..] else { panic!("{:?}", facts(&world)) };
        assert_eq!((ended.source, ended.channels), (RecordingSource::DialVerb, channels));
        assert_eq!((begun.status, ended.status), (RecordingStatus::InProgress, RecordingStatus::Completed));
        assert_eq!(after.get("RecordingSid"), ended.sid.to_string());
        let url = format!("https://api.example.com/2010-04-01/Accounts/{ACCOUNT}/Recordings/{}", ended.sid);
        assert_eq!(after.get("RecordingUrl"), url);
        // From the answer it is 6 s; with the ringing before it 4 s more.
        let least = if record.contains("ringing") { 9_000 } else { 5_000 };
        assert!((least..least + 2_000).contains(&ended.duration_ms), "{record}: {} ms", ended.duration_ms);
        let file = &world.files[&format!("{}.wav", ended.sid)];
        assert_eq!(file.len() as u64 / u64::from(channels) / 8, ended.duration_ms);
        world.close_books();
    }
}

#[test]
fn stop_ends_what_start_began_and_only_that() {
    for (pause, wanted) in [
        (0, &[RecordingStatus::InProgress, RecordingStatus::Completed][..]),
        (
            4,
            &[
                RecordingStatus::InProgress,
                RecordingStatus::InProgress,
                RecordingStatus::Completed,
                RecordingStatus::Completed,
            ],
        ),
    ] {
        let recording = "<Recording trim=\"do-not-trim\"/>";
        let between = if pause > 0 { format!("<Pause length=\"{pause}\"/>") } else { String::new() };
        let text = format!(
            "<Response><Start>{recording}</Start>{between}<Stop>{recording}</Stop><Pause length=\"3\"/></Response>"
        );
        let mut world = World::new(1, |_| Says::Twiml("<Response/>"));
        world.restarts = true;
        world.add_phone(CARRIER, Script::Answer(Duration::from_secs(1)));
        let source = DocumentSource::Twiml(text.into());
        world.place(PlaceOrder {
            document: NewDocument { source, fallback: None, at_end: AtEnd::HangUp },
            ..order(Some(RecordingSpec { trim: false, ..spec() }))
        });
        world.close_books();
        assert_eq!(statuses(&world), wanted, "{pause} s between");
        let lengths: Vec<u64> = facts(&world)
            .iter()
            .filter(|fact| fact.source == RecordingSource::StartCallRecordingTwiML && fact.status.is_final())
            .map(|fact| fact.duration_ms / 1000)
            .collect();
        assert_eq!(lengths, if pause > 0 { vec![pause] } else { Vec::new() });
    }
}

#[test]
fn api_starts_pauses_resumes_and_stops() {
    let mut world = placed(None);
    assert!(!change(&mut world, RecordingChange::Start { sid: RECORDING, spec: spec() }), "nobody has answered");
    world.run_for(Duration::from_secs(3));
    assert!(!change(&mut world, RecordingChange::Stop(None)), "nothing is recorded");
    assert!(change(&mut world, RecordingChange::Start { sid: RECORDING, spec: spec() }));
    world.run_for(Duration::from_secs(2));
    assert!(change(&mut world, RecordingChange::Pause { sid: None, silent: false }));
    world.run_for(Duration::from_secs(5));
    assert!(change(&mut world, RecordingChange::Resume(Some(RECORDING))));
    world.run_for(Duration::from_secs(1));
    assert!(!change(&mut world, RecordingChange::Stop(Some(RecordingSid::new(1)))), "another one");
    assert!(change(&mut world, RecordingChange::Stop(Some(RECORDING))));
    world.run_for(Duration::from_secs(1));
    use RecordingStatus::{Completed, InProgress, Paused};
    assert_eq!(statuses(&world), [InProgress, Paused, InProgress, Completed]);
    let ended = facts(&world)[3];
    assert_eq!((ended.sid, ended.channels), (RECORDING, 2));
    assert!((2_900..3_300).contains(&ended.duration_ms), "without the pause: {} ms", ended.duration_ms);
    assert!(!change(&mut world, RecordingChange::Resume(Some(RECORDING))), "it is over");
    world.close_books();
}

#[test]
fn call_that_is_placed_to_be_recorded_is_so_from_its_answer_to_its_end() {
    let source = RecordingSource::OutboundAPI;
    let mut world = placed(Some(RecordingSpec { source, ..spec() }));
    world.run_for(Duration::from_secs(40));
    assert_eq!(statuses(&world), [RecordingStatus::InProgress, RecordingStatus::Completed]);
    let ended = facts(&world)[1];
    assert_eq!(ended.source, source);
    assert!((19_500..20_500).contains(&ended.duration_ms), "{} ms", ended.duration_ms);
    world.close_books();
}

#[test]
fn recording_that_its_worker_loses_ends_as_failed_with_the_call() {
    let mut world = placed(Some(spec()));
    world.run_for(Duration::from_secs(5));
    world.lose_media();
    world.run_for(Duration::from_secs(5));
    assert_eq!(statuses(&world), [RecordingStatus::InProgress, RecordingStatus::Failed]);
    assert!(!facts(&world)[1].error.is_empty());
    world.close_books();
}
