//! Bad networks: with a fifth of all datagrams lost, and others late, doubled and out of order, every call still comes
//! to one end, and nothing is left.

use std::time::Duration;

use dialtone::events::CallStatus;

use crate::phone::{Saw, Script};
use crate::world::{Network, Says, World};

#[test]
fn threat_30_calls_survive_loss_jitter_and_duplicates() {
    for seed in 0..40 {
        let mut world = World::new(seed, |asked| match asked.url.as_str() {
            "http://app/voice" => Says::Twiml("<Response><Dial timeout=\"60\">+15553334444</Dial></Response>"),
            _ => Says::Twiml("<Response><Hangup/></Response>"),
        });
        world.network =
            Network { loss: 0.2, delay: Duration::from_millis(30), jitter: Duration::from_millis(50), duplicates: 0.1 };
        let callee = world.add_phone("198.51.100.9:5060", Script::Answer(Duration::from_secs(2)));
        world.call("+15551000000");
        world.run_for(Duration::from_secs(45));
        assert!(world.saw(0).contains(&Saw::Answered), "seed {seed}: the caller is answered");
        assert!(world.saw(callee).contains(&Saw::Acked), "seed {seed}: the callee is acknowledged");
        world.hang_up(0);
        world.close_books();
        assert!(world.records().iter().all(|record| record.status == CallStatus::Completed), "seed {seed}");
    }
}

#[test]
fn caller_that_vanishes_after_the_answer_is_given_up() {
    let mut world = World::new(3, |_| Says::Twiml("<Response><Echo/></Response>"));
    world.call("+15551000000");
    world.run_for(Duration::from_millis(27));
    world.network.loss = 1.0;
    world.run_for(Duration::from_secs(80));
    world.close_books();
    assert_eq!(world.records().len(), 1);
}

#[test]
fn caller_that_vanishes_in_the_middle_is_ended_after_four_hours() {
    let mut world = World::new(4, |_| Says::Twiml("<Response><Echo/></Response>"));
    world.restarts = false;
    world.call("+15551000000");
    world.run_for(Duration::from_secs(1));
    world.network.loss = 1.0;
    world.run_for(Duration::from_secs(4 * 3600 - 10));
    assert!(!world.core.has_no_calls());
    world.close_books();
    assert_eq!(world.records()[0].duration_s(), 4 * 3600);
}
