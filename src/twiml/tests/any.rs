//! Any inputs in any order: nothing panics, everything can be continued elsewhere, and a finished program is silent.

use proptest::prelude::*;

use super::*;
use crate::ids::MessageSid;

const BODIES: &[&str] = &[
    "",
    "<Say>a</Say><Pause/><Play>b.wav</Play>",
    "<Gather numDigits=\"2\" actionOnEmptyResult=\"true\"><Say loop=\"2\">c</Say><Pause/><Play>d</Play></Gather><Echo/>",
    "<Dial action=\"x\" hangupOnStar=\"true\"><Number url=\"w\">+1555</Number><Client>bob</Client></Dial><Redirect/>",
    "<Dial sequential=\"true\" answerOnBridge=\"true\"><Sip>sip:a@b</Sip><Number>+1555</Number></Dial><Reject/>",
    "<Dial referUrl=\"/on\" record=\"true\">+1555</Dial><Echo/>",
    "<Redirect>y</Redirect>",
    "<Reject/>",
    "<Refer action=\"z\"><Sip>sip:c@d</Sip></Refer><Echo/>",
    "<Sms action=\"s\">e</Sms><Say>f</Say>",
    "<Say>",
];

fn branch_event() -> impl Strategy<Value = BranchEvent> {
    prop_oneof![
        Just(BranchEvent::Started { call: CallSid::new(5) }),
        Just(BranchEvent::Ringing),
        Just(BranchEvent::EarlyMedia),
        Just(BranchEvent::Answered),
        Just(BranchEvent::Accepted),
        Just(BranchEvent::Referred(super::refer::referral())),
        Just(failed(BranchFailure::Busy)),
        Just(ended(3)),
    ]
}

fn input() -> impl Strategy<Value = VerbInput> {
    let document = (0..6u32, 0..BODIES.len()).prop_map(|(fetch, body)| VerbInput::Document {
        fetch,
        result: Ok(Fetched {
            body: format!("<Response>{}</Response>", BODIES[body]).into(),
            content_type: Some("text/xml".into()),
            url: URL.into(),
        }),
    });
    let audio = (0..6u32, any::<bool>()).prop_map(|(ticket, good)| VerbInput::Audio {
        ticket,
        result: if good {
            Ok(ClipRef { hash: [1; 32], duration_ms: 10 })
        } else {
            Err(AudioFailure { code: 12300, text: String::new() })
        },
    });
    prop_oneof![
        4 => Just(VerbInput::Ready),
        1 => Just(VerbInput::PreconditionFailed),
        4 => audio,
        3 => (0..4u32, any::<bool>()).prop_map(|(player, finished)| VerbInput::PlayEnded { player, finished }),
        3 => prop::sample::select(vec!['1', '2', '#', '*', 'A']).prop_map(VerbInput::Digit),
        3 => Just(VerbInput::Timer),
        2 => any::<bool>().prop_map(|good| VerbInput::MessageTaken { sid: good.then(|| MessageSid::new(3)) }),
        1 => Just(VerbInput::Referred(super::refer::referral())),
        2 => (100..600u16).prop_map(|status| VerbInput::ReferAnswered { status }),
        2 => (100..600u16, any::<bool>()).prop_map(|(status, is_last)| VerbInput::ReferNotified { status, is_last }),
        6 => (1..4u32, branch_event()).prop_map(|(id, event)| VerbInput::Branch { branch: BranchId(id), event }),
        4 => document,
        1 => Just(VerbInput::Resumed { offset_ms: 7 }),
        1 => Just(VerbInput::HungUp),
        2 => (0..BODIES.len()).prop_map(|body| super::inline(BODIES[body], AtEnd::HangUp)),
        1 => (0..BODIES.len()).prop_map(|body| super::inline(BODIES[body], AtEnd::Accept)),
    ]
}

proptest! {
    #[test]
    fn inputs_in_any_order_keep_the_books(start in 0..BODIES.len(), inputs in prop::collection::vec(input(), 0..40)) {
        let (mut driver, effects) = Driver::with_fallback(BODIES[start], Some("https://backup.example/"));
        let mut books = Books::default();
        books.enter(&effects);
        for input in inputs {
            let was_finished = driver.interpreter.is_finished();
            let is_update = matches!(input, VerbInput::Replace(_));
            let effects = driver.give(input);
            prop_assert!(!was_finished || is_update || effects.is_empty(), "{effects:?}");
            books.enter(&effects);
        }
        books.enter(&driver.give(VerbInput::HungUp));
        for branch in 1..20 {
            books.enter(&driver.branch(branch, ended(1)));
        }
        prop_assert!(driver.interpreter.is_finished());
        prop_assert_eq!(books.open, 0, "verbs that started and did not end");
        prop_assert!(!books.has_timer && !books.plays, "a timer or a player is left");
    }
}

/// What has been started and not been ended.
#[derive(Debug, Default)]
struct Books {
    open: i32,
    has_timer: bool,
    plays: bool,
}

impl Books {
    fn enter(&mut self, effects: &[String]) {
        for effect in effects {
            match effect.split(' ').next() {
                Some("timer") => self.has_timer = effect != "timer off",
                Some("play") => self.plays = true,
                Some("stop") => self.plays = false,
                Some(name) if name.starts_with('+') => self.open += 1,
                Some(name) if name.starts_with('-') => {
                    self.open -= 1;
                    // A player that came to its end by itself is not stopped.
                    self.plays = false;
                    self.has_timer &= !matches!(name, "-Pause" | "-Gather");
                }
                _ => {}
            }
        }
    }
}
