//! Applications that fail, loop or say nonsense: the call always ends, and the customer learns why.

use std::time::Duration;

use dialtone::events::CallStatus;

use crate::phone::Saw;
use crate::world::{Says, World};

#[test]
fn threat_20_failed_fetch_goes_to_the_fallback_with_the_error() {
    let mut world = World::new(1, |asked| match asked.url.as_str() {
        "http://app/voice" => Says::Fails(11_205),
        _ => Says::Twiml("<Response><Say>sorry</Say></Response>"),
    });
    world.call("+15551000000");
    world.close_books();
    assert_eq!(world.asked_urls()[..2], ["http://app/voice", "http://app/fallback"]);
    let fallback = &world.asked[1];
    assert_eq!((fallback.get("ErrorCode"), fallback.get("ErrorUrl")), ("11205", "http://app/voice"));
    assert_eq!(world.notices(), [11_205]);
}

#[test]
fn threat_20_failed_fallback_is_spoken_and_ends_the_call() {
    let mut world = World::new(2, |_| Says::Fails(11_200));
    world.call("+15551000000");
    world.close_books();
    let saw = world.saw(0);
    assert!(saw.contains(&Saw::Answered), "the caller is told: {saw:?}");
    assert!(matches!(saw.last(), Some(Saw::Ended { reason }) if reason.contains("application error")));
    assert_eq!(world.notices(), [11_200, 11_200]);
}

#[test]
fn threat_11_nonsense_documents_have_their_numbers() {
    for (content_type, body, code) in [
        ("text/xml", "<Response><Say>no end", 12_100),
        ("text/xml", "<!DOCTYPE x [<!ENTITY a \"b\">]><Response/>", 12_100),
        ("text/xml", "<Other/>", 12_100),
        ("application/json", "{}", 12_300),
    ] {
        let mut world = World::new(3, move |asked| {
            if asked.url.ends_with("voice") {
                Says::Raw(content_type, body)
            } else {
                Says::Twiml("<Response><Hangup/></Response>")
            }
        });
        world.call("+15551000000");
        world.close_books();
        assert_eq!(world.notices()[0], code, "{body}");
    }
}

#[test]
fn threat_21_redirect_loop_is_slow_and_has_an_end() {
    let mut world = World::new(4, |_| Says::Twiml("<Response><Redirect>/voice</Redirect></Response>"));
    world.restarts = false;
    world.call("+15551000000");
    world.run_for(Duration::from_secs(10));
    let after_ten_seconds = world.asked.len();
    assert!((90..=125).contains(&after_ten_seconds), "ten documents a second after a burst, not {after_ten_seconds}");
    world.run_for(Duration::from_secs(200));
    world.close_books();
    assert!(world.asked.len() <= 1_002, "{}", world.asked.len());
    assert_eq!(world.records()[0].status, CallStatus::Completed);
}

#[test]
fn unknown_verbs_are_warnings_and_the_rest_goes_on() {
    let mut world = World::new(5, |_| Says::Twiml("<Response><Sing/><Say volume=\"11\">hello</Say></Response>"));
    world.call("+15551000000");
    world.close_books();
    assert_eq!(world.notices(), [12_200, 12_200]);
    assert!(world.saw(0).contains(&Saw::Answered));
}

#[test]
fn caller_hangs_up_while_a_document_is_awaited() {
    let mut world = World::new(6, |asked| {
        if asked.url.ends_with("voice") {
            Says::Twiml("<Response><Say>a</Say><Redirect>/next</Redirect></Response>")
        } else {
            Says::Nothing
        }
    });
    world.call("+15551000000");
    world.run_for(Duration::from_secs(3));
    assert_eq!(world.asked.len(), 2);
    world.hang_up(0);
    world.close_books();
    assert_eq!(world.records()[0].status, CallStatus::Completed);
}
