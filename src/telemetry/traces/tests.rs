use super::otlp::{Kind, StatusCode, Value};
use super::*;
use crate::events::{
    CallStatus, Completed, Direction, EndedBy, Initiated, Media, SpanOf, span_id, trace_id, traceparent,
};
use crate::ids::{AccountSid, EventSid};
use crate::twiml::Notice;

const CALL: CallSid = CallSid::new(0xabc);
const BEGUN_MS: u64 = 1_795_694_400_000;

/// What a call tells, each so many milliseconds after it began.
fn events(kinds: Vec<(u64, EventKind)>) -> Vec<Event> {
    let initiated = Initiated {
        direction: Direction::Inbound,
        from: "+15550001".into(),
        to: "+15550002".into(),
        parent: Some(CallSid::new(0xdef)),
        via: "carrier".into(),
        sip_call_id: "call@example".into(),
        stir_verstat: None,
        queue_ms: 0,
        is_withdrawn: false,
        status_callback: None,
    };
    let first = (0, EventKind::Initiated(Box::new(initiated)));
    let all = [first].into_iter().chain(kinds).zip(0..);
    all.map(|((after_ms, kind), sequence)| Event {
        id: EventSid::new(u128::from(sequence) + 1),
        account: AccountSid::new(1),
        call: CALL,
        sequence,
        at_ms: BEGUN_MS + after_ms,
        kind,
    })
    .collect()
}

fn end(status: CallStatus, packets_lost: u64) -> EventKind {
    let media = Media { codec: "PCMU".into(), packets_received: 1_000, packets_lost, ..Media::default() };
    let ended_by = EndedBy::Peer;
    EventKind::Completed(Box::new(Completed { status, sip_status: 200, ended_by, media, recorded: None }))
}

fn asked(error: Option<u32>) -> EventKind {
    let url = "https://me:secret@app.example/voice?token=1".into();
    EventKind::Requested { url, reason: "document".into(), error, duration_ms: 40, number: 3 }
}

/// The traces of a call that has told this, the way that the outbox tells.
fn told(share: f64, events: Vec<Event>, again: usize) -> Vec<Vec<Span>> {
    let collector = Collector {
        endpoint: Uri::from_static("http://127.0.0.1/"),
        headers: HeaderMap::new(),
        share,
        instance: String::new(),
    };
    let (mut tracer, mut exporter) = traces(collector);
    let mut record = None;
    for (at, event) in events.iter().enumerate() {
        match &mut record {
            None => record = CallRecord::begin(event),
            Some(record) => record.apply(event),
        }
        let telling = if at < again { Telling::Done } else { Telling::First };
        tracer.told(event, record.as_mut().unwrap(), telling);
    }
    std::iter::from_fn(|| exporter.traces.try_recv().ok()).collect()
}

fn value<'a>(span: &'a Span, key: &str) -> Option<&'a Value> {
    span.attributes.iter().find(|pair| pair.key == key)?.value.as_ref()?.value.as_ref()
}

#[tokio::test]
async fn a_call_has_one_trace_of_its_name_with_what_it_went_through() {
    let verb = |verb: &str| EventKind::VerbStarted { verb: verb.into() };
    let kinds = vec![
        (60, asked(None)),
        (70, verb("Say")),
        (80, EventKind::Answered),
        (2_000, verb("Gather")),
        (9_000, end(CallStatus::Completed, 0)),
    ];
    let traces = told(1.0, events(kinds), 0);
    let [spans] = &traces[..] else { panic!("{} traces", traces.len()) };
    assert!(spans.iter().all(|span| span.trace_id == trace_id(CALL)));
    let (call, rest) = spans.split_first().unwrap();
    assert!(call.parent_span_id.is_empty() && rest.iter().all(|span| span.parent_span_id == call.span_id));
    let found: Vec<(&str, i32, u64, u64)> = spans
        .iter()
        .map(|span| {
            let after = |at: u64| (at - BEGUN_MS * 1_000_000) / 1_000_000;
            (span.name.as_str(), span.kind, after(span.start_time_unix_nano), after(span.end_time_unix_nano))
        })
        .collect();
    let (server, client, internal) = (Kind::Server as i32, Kind::Client as i32, Kind::Internal as i32);
    assert_eq!(
        found,
        [
            ("call inbound", server, 0, 9_000),
            ("sip INVITE", server, 0, 80),
            ("twiml Say", internal, 70, 2_000),
            ("twiml Gather", internal, 2_000, 9_000),
            ("webhook document", client, 20, 60),
        ]
    );
    assert_eq!(value(&spans[4], "url.full"), Some(&Value::from("https://app.example/voice")), "without secrets");
    assert_eq!(call.links[0].trace_id, trace_id(CallSid::new(0xdef)), "the call whose <Dial> made it");
    assert_eq!(call.events.iter().map(|event| event.name.as_str()).collect::<Vec<_>>(), ["answered"]);
    // What the application was told is that span.
    let named = u64::from_be_bytes(span_id(CALL, SpanOf::Request(3)));
    assert_eq!(traceparent(CALL, 3).split('-').nth(2), Some(format!("{named:016x}").as_str()));
    assert_eq!(spans[4].span_id, named.to_be_bytes());
}

#[tokio::test]
async fn of_ordinary_calls_a_share_is_sent_and_all_of_those_that_are_worth_a_look() {
    let with = |kinds: Vec<(u64, EventKind)>| told(0.0, events(kinds), 0).pop();
    assert_eq!(with(vec![(9, end(CallStatus::Completed, 0))]), None, "an ordinary one");
    assert!(with(vec![(9, end(CallStatus::Failed, 0))]).is_some(), "one that failed");
    assert!(with(vec![(9, end(CallStatus::Completed, 900))]).is_some(), "one that sounded poor");
    let error = EventKind::Noticed(Notice::error(11_200, "the application does not answer"));
    let spans = with(vec![(5, error), (9, end(CallStatus::Completed, 0))]).expect("one with an error");
    let status = spans[0].status.as_ref().unwrap();
    assert_eq!((status.code, status.message.contains("11200")), (StatusCode::Error as i32, true));
    let warning = EventKind::Noticed(Notice::warning(12_200, "an attribute that nobody knows"));
    assert_eq!(with(vec![(5, warning), (9, end(CallStatus::Completed, 0))]), None, "a warning is none");
    let spans = told(0.0, events(vec![(5, EventKind::Answered), (9, end(CallStatus::Completed, 0))]), 2).pop();
    let spans = spans.expect("one that the edge has found when it began");
    assert_eq!(value(&spans[0], "dialtone.recovered"), Some(&Value::from(true)));
    assert!(told(1.0, events(vec![(9, end(CallStatus::Failed, 0))]), 9).is_empty(), "nor one that was sent before");
    let sent = (0..10_000).filter(|call| is_in_share(CallSid::new(call * 0x9e37_79b9), 0.25)).count();
    assert!((2_300..2_700).contains(&sent), "{sent} of 10,000");
}
