//! Say, Play, Pause and Echo.

use super::*;

#[test]
fn say_answers_plays_and_hangs_up_at_the_end() {
    let (mut driver, effects) = Driver::new("<Say>hello</Say>");
    assert_eq!(effects, ["prepare 0 say hello", "require MediaReady"]);
    assert_eq!(driver.give(VerbInput::Ready), ["+Say"]);
    assert_eq!(driver.audio(0), ["play 1 [c0] x1"]);
    assert_eq!(driver.played(1), ["-Say", "hangup EndOfDocument"]);
    assert!(driver.interpreter.is_finished());
}

#[test]
fn audio_that_came_before_the_answer_plays_at_once() {
    let (mut driver, _) = Driver::new("<Say>hello</Say>");
    assert_eq!(driver.audio(0), [""; 0]);
    assert_eq!(driver.give(VerbInput::Ready), ["+Say", "play 1 [c0] x1"]);
}

#[test]
fn audio_of_the_next_verb_is_made_ahead() {
    let (mut driver, effects) = Driver::new("<Say>one</Say><Play>two.wav</Play><Say>three</Say><Say>one</Say>");
    assert_eq!(effects, ["prepare 0 say one", "require MediaReady", "prepare 1 url https://app.example/two.wav"]);
    assert_eq!(driver.give(VerbInput::Ready), ["+Say"]);
    assert_eq!(driver.audio(1), [""; 0]);
    assert_eq!(driver.audio(0), ["play 1 [c0] x1"]);
    assert_eq!(driver.played(1), ["-Say", "+Play", "play 2 [c1] x1", "prepare 2 say three"]);
    assert_eq!(driver.audio(2), [""; 0]);
    assert_eq!(driver.played(2), ["-Play", "+Say", "play 3 [c2] x1"], "the fourth verb's audio is the first's");
}

#[test]
fn loops_are_the_players_and_breaks_are_silence() {
    let (mut driver, _) = Driver::new("<Say loop=\"0\">a<break time=\"1s\"/>b</Say>");
    assert_eq!(driver.audio(0), [""; 0]);
    assert_eq!(driver.audio(1), [""; 0]);
    assert_eq!(driver.give(VerbInput::Ready), ["+Say", "play 1 [c0 1000ms c1] x0"]);
    assert_eq!(driver.give(VerbInput::HungUp), ["stop", "-Say"]);
    assert!(driver.interpreter.is_finished());
}

#[test]
fn endless_loop_over_nothing_is_skipped() {
    let (mut driver, _) = Driver::new("<Play loop=\"0\">empty.wav</Play>");
    assert_eq!(driver.audio_of(0, 0), [""; 0]);
    assert_eq!(driver.give(VerbInput::Ready), ["+Play", "-Play", "hangup EndOfDocument"]);
}

#[test]
fn audio_that_cannot_be_had_is_a_warning_and_the_next_verb_runs() {
    for (body, code) in [("<Say>a</Say>", 13520), ("<Play>a.mp3</Play>", 12300), ("<Play>a.mp3</Play>", 11200)] {
        let (mut driver, _) = Driver::new(&format!("{body}<Hangup/>"));
        driver.give(VerbInput::Ready);
        let ended = driver.no_audio(0, code);
        assert_eq!(ended[0], format!("Warning {code}"));
        assert_eq!(ended[2..], ["+Hangup", "-Hangup", "hangup Verb"]);
    }
}

#[test]
fn play_of_no_url_is_a_warning_and_the_next_verb_runs() {
    let (mut driver, effects) = Driver::inline("<Play>a.wav</Play><Play digits=\"1w2\"/>", AtEnd::HangUp);
    assert_eq!(effects, ["require MediaReady"]);
    let skipped = ["+Play", "Warning 11100", "-Play", "+Play", "play 1 [dtmf:1w2] x1"];
    assert_eq!(driver.give(VerbInput::Ready), skipped);
    assert_eq!(driver.played(1), ["-Play", "hangup EndOfDocument"]);
}

#[test]
fn player_that_could_not_go_on_is_a_warning() {
    let (mut driver, _) = Driver::new("<Say>a</Say>");
    driver.audio(0);
    driver.give(VerbInput::Ready);
    let ended = driver.give(VerbInput::PlayEnded { player: 1, finished: false });
    assert_eq!(ended, ["Warning 12400", "-Say", "hangup EndOfDocument"]);
}

#[test]
fn end_of_another_player_is_ignored() {
    let (mut driver, _) = Driver::new("<Say>a</Say>");
    driver.audio(0);
    driver.give(VerbInput::Ready);
    assert_eq!(driver.played(7), [""; 0]);
    assert_eq!(driver.give(VerbInput::Resumed { offset_ms: 400 }), [""; 0]);
    assert_eq!(driver.played(1), ["-Say", "hangup EndOfDocument"]);
}

#[test]
fn pause_as_first_verb_lets_the_call_ring() {
    let (mut driver, effects) = Driver::new("<Pause length=\"3\"/><Say>a</Say>");
    assert_eq!(effects, ["+Pause", "timer 3s", "prepare 0 say a"]);
    assert_eq!(driver.give(VerbInput::Timer), ["-Pause", "require MediaReady"]);
}

#[test]
fn echo_goes_on_until_the_caller_leaves_or_the_api_replaces_it() {
    let (mut driver, effects) = Driver::new("<Echo/><Say>never</Say>");
    assert_eq!(effects, ["require MediaReady", "prepare 0 say never"]);
    assert_eq!(driver.give(VerbInput::Ready), ["+Echo", "echo true"]);
    assert_eq!(driver.digit('1'), [""; 0]);
    let replaced = driver.give(inline("<Echo/>", AtEnd::HangUp));
    assert_eq!(replaced, ["echo false", "-Echo", "+Echo", "echo true"]);
    assert_eq!(driver.give(VerbInput::HungUp), ["echo false", "-Echo"]);
}

#[test]
fn thousand_verbs_that_end_at_once_need_no_stack() {
    let body = "<Play>x:</Play>".repeat(990);
    let (mut driver, _) = Driver::inline(&body, AtEnd::HangUp);
    let effects = driver.give(VerbInput::Ready);
    assert_eq!(effects.iter().filter(|effect| *effect == "-Play").count(), 990);
    assert!(driver.interpreter.is_finished());
}
