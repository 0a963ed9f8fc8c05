//! The document rules, one by one.

use proptest::prelude::*;

use super::*;
use crate::twiml::document::{DialSpec, GatherSpec, NounSpec};
use crate::twiml::port::{CallbackEvent, Ringback, SipTarget, Target};

const URL: &str = "https://app.example/voice/start?x=1";

fn xml(body: &str) -> Result<Document, MarkupError> {
    parse(body.as_bytes(), Some("text/xml"), Some(URL))
}

/// The verbs of a document that gives no cause for remarks.
fn verbs(body: &str) -> Vec<VerbSpec> {
    let document = xml(&format!("<Response>{body}</Response>")).expect("test document is good");
    assert_eq!(document.notices, Vec::new(), "{body}");
    document.verbs
}

/// The codes of the remarks on a document.
fn remarks(body: &str) -> Vec<u32> {
    let document = xml(&format!("<Response>{body}</Response>")).expect("test document is good");
    document.notices.iter().map(|notice| notice.code).collect()
}

fn say(text: &str) -> SaySpec {
    let part = SayPart::Text { text: text.into(), voice: String::new(), language: String::new() };
    SaySpec { parts: vec![part], loops: 1 }
}

#[test]
fn content_type_decides_what_a_body_is() {
    let cases: &[(Option<&str>, Result<usize, u32>)] = &[
        (Some("text/xml"), Ok(1)),
        (Some("Application/XML; charset=utf-8"), Ok(1)),
        (Some("text/html"), Ok(1)),
        (Some("text/plain"), Ok(1)),
        (Some("audio/mpeg"), Ok(1)),
        (Some("application/json"), Err(12300)),
        (Some(""), Err(12300)),
        (None, Err(12300)),
    ];
    for (content_type, expected) in cases {
        let found = parse(b"<Response><Say>a</Say></Response>", *content_type, Some(URL));
        assert_eq!(
            found.map(|document| document.verbs.len()).map_err(MarkupError::code),
            *expected,
            "{content_type:?}"
        );
    }
}

#[test]
fn plain_text_is_spoken_and_audio_is_played_from_its_own_url() {
    let text = parse(b" Hello there\n", Some("text/plain"), Some(URL)).expect("text is a document");
    assert_eq!(text.verbs, vec![VerbSpec::Say(say("Hello there"))]);
    for body in [b"\0\x01".as_slice(), b""] {
        let audio = parse(body, Some("audio/x-wav"), Some(URL)).expect("audio is a document");
        let what = Playable::Url(Link::Absolute(URL.into()));
        assert_eq!(audio.verbs, vec![VerbSpec::Play(PlaySpec { what, loops: 1 })]);
    }
}

#[test]
fn empty_body_is_an_empty_document() {
    assert_eq!(parse(b"", None, Some(URL)), Ok(Document::default()));
    assert_eq!(xml("<Response/>"), Ok(Document::default()));
}

#[test]
fn threat_11_documents_that_are_refused() {
    let bomb = "<!DOCTYPE r [<!ENTITY a \"ha\"><!ENTITY b \"&a;&a;\">]><Response><Say>&b;</Say></Response>";
    let deep = format!("<Response><Say>{}{}</Say></Response>", "<p>".repeat(60), "</p>".repeat(60));
    let many = format!("<Response>{}</Response>", "<Echo/>".repeat(1_001));
    let large = format!("<Response><Say x=\"{}\">a</Say></Response>", "y".repeat(64 * 1024));
    let cases: &[(&str, u32)] = &[
        (bomb, 12100),
        ("<!DOCTYPE html><Response/>", 12100),
        ("<Response><Say>&nbsp;</Say></Response>", 12100),
        ("<Response><Play>https://h/a?b=1&c=2</Play></Response>", 12100),
        ("<Response><Say loop=\"&x;\">a</Say></Response>", 12100),
        ("<Response><Say>&#0;</Say></Response>", 12100),
        ("<Response><Say>&#x1;</Say></Response>", 12100),
        ("<Response><Say></Response></Say>", 12100),
        ("<Response><Say>", 12100),
        ("<Response></Response></Response>", 12100),
        ("<Response/><Response/>", 12100),
        ("<Response/>tail", 12100),
        ("<response/>", 12100),
        ("<Say>hello</Say>", 12100),
        ("hello", 12100),
        (" <?xml version=\"1.0\"?><Response/>", 12100),
        ("<Response><Say loop='1' loop='2'>a</Say></Response>", 12100),
        ("<Response><Say loop=1>a</Say></Response>", 12100),
        ("{\"a\": 1}", 12100),
        (&deep, 12101),
        (&many, 12101),
        (&large, 11750),
    ];
    for (body, code) in cases {
        let shown: String = body.chars().take(60).collect();
        assert_eq!(xml(body).map_err(MarkupError::code), Err(*code), "{shown}");
    }
    assert_eq!(parse(b"<Response>\xff</Response>", Some("text/xml"), None).map_err(MarkupError::code), Err(12100));
}

#[test]
fn what_generators_write_is_accepted() {
    for body in [
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Response><Say>a</Say></Response>",
        "\u{feff}<?xml version='1.0'?>\n<!-- note -->\n<Response>\n  <Say>a</Say>\n</Response>\n",
        "<Response xmlns:xsi=\"x\" xsi:noNamespaceSchemaLocation=\"y\"><Say><![CDATA[a]]></Say></Response>",
    ] {
        let document = xml(body).expect("document is good");
        assert_eq!((document.verbs, document.notices), (vec![VerbSpec::Say(say("a"))], Vec::new()), "{body}");
    }
}

#[test]
fn cr_04_unknown_parts_are_remarked_on_and_skipped() {
    let cases: &[(&str, &[u32])] = &[
        ("<Sing>la</Sing>", &[12200]),
        ("<say>a</say>", &[12200]),
        ("stray text", &[12200]),
        ("<Say voise=\"man\">a</Say>", &[12200]),
        ("<Say loop=\"many\">a</Say>", &[12200]),
        ("<Pause length=\"0\"/>", &[12200]),
        ("<Pay/>", &[12200]),
        ("<Gather><Dial>+1</Dial></Gather>", &[12200]),
        ("<Gather finishOnKey=\"ab\"/>", &[13310]),
        ("<Gather input=\"speech\"/>", &[12200]),
        ("<Play/>", &[12200]),
        ("<Play digits=\"x\"/>", &[12200]),
        ("<Say/>", &[13520]),
        ("<Dial>nobody</Dial>", &[13223]),
        ("<Dial callerId=\"bob\">+15550001</Dial>", &[13214]),
        ("<Dial><Queue/></Dial>", &[13201]),
        ("<Enqueue/>", &[13201]),
        ("<Dial><Sip>mailto:a@b</Sip></Dial>", &[13201]),
        ("<Dial ringTone=\"moon\">+15550001</Dial>", &[12200]),
    ];
    for (body, expected) in cases {
        assert_eq!(remarks(body), *expected, "{body}");
    }
}

#[test]
fn verbs_have_the_defaults_of_the_table() {
    let gather = GatherSpec {
        dtmf: true,
        action: Some(Link::Absolute(URL.into())),
        method: Method::Post,
        timeout: Duration::from_secs(5),
        finish_on_key: Some('#'),
        num_digits: 1_024,
        action_on_empty_result: false,
        prompts: Vec::new(),
    };
    let dial = DialSpec {
        refer: None,
        record: None,
        conference: None,
        queue: None,
        action: None,
        method: Method::Post,
        timeout: Duration::from_secs(30),
        time_limit: Duration::from_secs(14_400),
        caller_id: None,
        answer_on_bridge: false,
        hangup_on_star: false,
        ringback: Ringback::Automatic,
        sequential: false,
        nouns: vec![NounSpec::plain(Target::Number("+15550001111".into()))],
    };
    let expected = vec![
        VerbSpec::Say(say("a")),
        VerbSpec::Pause(PauseSpec { length: Duration::from_secs(1) }),
        VerbSpec::Gather(Box::new(gather)),
        VerbSpec::Dial(Box::new(dial)),
        VerbSpec::Reject(RejectReason::Rejected),
        VerbSpec::Hangup,
        VerbSpec::Echo,
    ];
    let body = "<Say>a</Say><Pause/><Gather/><Dial>+1 (555) 000-1111</Dial><Reject/><Hangup/><Echo/>";
    assert_eq!(verbs(body), expected);
}

#[test]
fn links_are_kept_or_resolved_against_the_document() {
    let link = |text: &str| match verbs(&format!("<Redirect>{text}</Redirect>")).pop() {
        Some(VerbSpec::Redirect(redirect)) => redirect.link,
        other => panic!("redirect is read as {other:?}"),
    };
    let absolute = |text: &str| Link::Absolute(text.into());
    assert_eq!(link("https://H.example:443/a%2fb?c=%20#rc=2"), absolute("https://H.example:443/a%2fb?c=%20#rc=2"));
    assert_eq!(link("next?d=1"), absolute("https://app.example/voice/next?d=1"));
    assert_eq!(link("/top"), absolute("https://app.example/top"));
    assert_eq!(link(""), absolute(URL));
    assert_eq!(link("ftp://h/x"), Link::Unresolvable("ftp://h/x".into()));
    assert_eq!(link("file:///etc/passwd"), Link::Unresolvable("file:///etc/passwd".into()));
    let inline = parse(b"<Response><Redirect>next</Redirect></Response>", Some("text/xml"), None);
    let expected = RedirectSpec { link: Link::Unresolvable("next".into()), method: Method::Post };
    assert_eq!(inline.map(|document| document.verbs), Ok(vec![VerbSpec::Redirect(expected)]));
}

#[test]
fn ssml_comes_down_to_texts_and_pauses() {
    let text = |text: &str, language: &str| SayPart::Text {
        text: text.into(),
        voice: "woman".into(),
        language: language.into(),
    };
    let body = "<Say voice=\"woman\" language=\"en-GB\">One <emphasis level=\"strong\">two</emphasis>\
        <break time=\"250ms\"/><sub alias=\"three\">3</sub> <lang xml:lang=\"fr-FR\">quatre</lang>\
        <p>five</p> <say-as interpret-as=\"digits\">6</say-as><break strength=\"none\"/></Say>";
    let expected = vec![
        text("One two", "en-GB"),
        SayPart::Break(Duration::from_millis(250)),
        text("three", "en-GB"),
        text("quatre", "fr-FR"),
        text("five", "en-GB"),
        SayPart::Break(Duration::from_millis(600)),
        text("6", "en-GB"),
    ];
    assert_eq!(verbs(body), vec![VerbSpec::Say(SaySpec { parts: expected, loops: 1 })]);
}

#[test]
fn say_over_the_limit_is_skipped() {
    let long = |chars: usize| format!("<Say>{}</Say>", "é".repeat(chars));
    assert_eq!(verbs(&long(4_096)).len(), 1);
    assert_eq!(remarks(&long(4_097)), [13520]);
}

#[test]
fn nouns_of_a_dial_are_read_with_their_attributes() {
    let body = "<Dial callerId=\"+15550009999\" sequential=\"true\"><Number url=\"w\" sendDigits=\"ww1\" \
        statusCallback=\"/s\" statusCallbackEvent=\"ringing completed\">+15550001111</Number><Client>\
        <Identity>jenny</Identity><Parameter name=\"a\" value=\"b\"/></Client><Sip username=\"u\" password=\"p\">\
        sip:bob@h.example:5070;transport=tcp?X-A=1%20b&amp;x-b=2</Sip></Dial>";
    let Some(VerbSpec::Dial(dial)) = verbs(body).pop() else { panic!("dial is read") };
    let number = NounSpec {
        target: Target::Number("+15550001111".into()),
        whisper: Some((Link::Absolute("https://app.example/voice/w".into()), Method::Post)),
        status_callback: Some((
            Link::Absolute("https://app.example/s".into()),
            Method::Post,
            vec![CallbackEvent::Ringing, CallbackEvent::Completed],
        )),
        send_digits: Some("ww1".into()),
    };
    let client = Target::Client { identity: "jenny".into(), parameters: vec![("a".into(), "b".into())] };
    let sip = Target::Sip(SipTarget {
        uri: "sip:bob@h.example:5070;transport=tcp".into(),
        headers: vec![("X-A".into(), "1 b".into()), ("x-b".into(), "2".into())],
        username: Some("u".into()),
        password: Some("p".into()),
    });
    assert_eq!(dial.nouns, vec![number, NounSpec::plain(client), NounSpec::plain(sip)]);
}

#[test]
fn threat_13_nothing_of_a_document_breaks_out_of_a_header() {
    for uri in [
        "sip:a%0d%0aVia:x@h",
        "sip:a@h\r\nVia: x",
        "sip:a b@h",
        "sip:&quot;a&quot;@h",
        "sip:&lt;a@h&gt;",
        "sip:",
        "tel:1",
    ] {
        assert_eq!(remarks(&format!("<Dial><Sip>{uri}</Sip></Dial>")), [13201], "{uri}");
    }
    for header in ["Via=x", "X-A=b%0d%0aVia:%20x", "X-%0d=b", "Contact=y"] {
        assert_eq!(remarks(&format!("<Dial><Sip>sip:a@h?{header}</Sip></Dial>")), [12200], "{header}");
    }
    assert_eq!(remarks("<Dial><Client>a&#13;&#10;b</Client></Dial>"), [13201]);
    assert_eq!(remarks("<Dial callerId=\"client:a&#10;b\">+15550001</Dial>"), [13214]);
}

#[test]
fn dial_calls_ten_at_most() {
    let body = format!("<Dial>{}</Dial>", "<Number>+15550001111</Number>".repeat(11));
    let document = xml(&format!("<Response>{body}</Response>")).expect("document is good");
    assert_eq!(document.notices.len(), 1);
    assert!(matches!(&document.verbs[..], [VerbSpec::Dial(dial)] if dial.nouns.len() == 10));
}

proptest! {
    #[test]
    fn any_bytes_give_a_document_or_an_error(body in prop::collection::vec(any::<u8>(), 0..2_000), kind in 0..4usize) {
        let kinds = ["text/xml", "text/plain", "audio/basic", "x"];
        let _ = parse(&body, Some(kinds[kind]), Some(URL));
    }

    #[test]
    fn any_markup_gives_a_document_or_an_error(pieces in prop::collection::vec(0..PIECES.len(), 0..60)) {
        let body: String = pieces.into_iter().map(|piece| PIECES[piece]).collect();
        let _ = xml(&body);
        let _ = xml(&format!("<Response>{body}</Response>"));
    }
}

/// What random documents are made of.
const PIECES: &[&str] = &[
    "<Response>",
    "</Response>",
    "<Say>",
    "</Say>",
    "<Say loop=\"-1\" voice='x'>",
    "<Gather numDigits=\"9999999999999\">",
    "</Gather>",
    "<Dial timeout=\"1e9\">",
    "</Dial>",
    "<Sip>",
    "</Sip>",
    "sip:a%zz@h?%=%&&=",
    "<Client>",
    "</Client>",
    "<break time=\"1e400s\"/>",
    "<break time=\"-1s\"/>",
    "<break time=\"NaNs\"/>",
    "<p>",
    "</p>",
    "<Play>",
    "</Play>",
    "http://[::1",
    "//h/%",
    "&amp;",
    "&#x110000;",
    "&",
    "é",
    "\u{0}",
    "<![CDATA[",
    "]]>",
    "<!--",
    "-->",
    "<?xml?>",
    "<?xml version=\"1.0\"?>",
    "<Pause length=\"-9223372036854775809\"/>",
    "<Redirect>",
    "</Redirect>",
    "\"",
    "'",
    "<",
    ">",
];
