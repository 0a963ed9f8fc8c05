//! `<Refer>`: a phone that is asked to call somebody else.

use std::time::Duration;

use crate::phone::Saw;
use crate::world::{Says, World};

const TWIML: &str =
    "<Response><Say>one moment</Say><Refer action=\"/after\"><Sip>sip:bob@pbx.example.com</Sip></Refer></Response>";

fn refer() -> World {
    let mut world = World::new(1, |asked| match asked.url.as_str() {
        "http://app/voice" => Says::Twiml(TWIML),
        _ => Says::Twiml("<Response><Hangup/></Response>"),
    });
    world.call("+15551000000");
    world
}

fn told(world: &World) -> [&str; 3] {
    let after = world.asked.iter().find(|asked| asked.url == "http://app/after").expect("the action");
    ["ReferCallStatus", "ReferSipResponseCode", "NotifySipResponseCode"].map(|name| after.get(name))
}

#[test]
fn phone_that_takes_it_tells_what_became_of_it() {
    for (line, status) in [("SIP/2.0 200 OK", "completed"), ("SIP/2.0 486 Busy Here", "busy")] {
        let mut world = refer();
        world.run_for(Duration::from_secs(4));
        let asked = Saw::Referred { to: "<sip:bob@pbx.example.com>".into() };
        assert!(world.phones[0].seen().contains(&asked), "{:?}", world.phones[0].seen());
        world.notify(0, "SIP/2.0 100 Trying", "active;expires=60");
        world.run_for(Duration::from_secs(1));
        world.notify(0, line, "terminated;reason=noresource");
        world.run_for(Duration::from_secs(2));
        assert_eq!(told(&world), [status, "202", &line[8..11]]);
        world.close_books();
    }
}

#[test]
fn phone_that_refuses_it_goes_on_with_the_action() {
    let mut world = refer();
    world.phones[0].refer_status = 603;
    world.run_for(Duration::from_secs(6));
    assert_eq!(told(&world), ["failed", "603", ""]);
    world.close_books();
}

#[test]
fn phone_that_goes_where_it_was_sent_hangs_up_here() {
    let mut world = refer();
    world.run_for(Duration::from_secs(4));
    world.hang_up(0);
    world.run_for(Duration::from_secs(2));
    assert_eq!(told(&world), ["completed", "202", ""]);
    world.close_books();
}
