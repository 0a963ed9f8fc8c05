//! The book beside a real session: whatever was asked, it says what the session has.

use std::net::Ipv4Addr;

use dialtone_media::clips::Clips;
use dialtone_media::ids::{LegId, SessionId};
use dialtone_media::leg::{Hot, Latching};
use dialtone_media::proto::{
    Announcer, Command, Hear, MediaEvent, Mixing, Play, PlayItem, PlayKind, PlayerSpec, SetMixing, Silence,
};
use dialtone_media::session::{Ports, Session, Settings};
use proptest::prelude::*;

use super::*;

struct Sockets(u16);

impl Ports for Sockets {
    fn fill_secret(&mut self, secret: &mut [u8]) {
        secret.fill(7);
    }

    fn open(&mut self, _: LegId) -> Option<u16> {
        self.0 += 2;
        Some(self.0)
    }

    fn reopen(&mut self, _: LegId, _: u16) -> Option<Hot> {
        Some(Hot::default())
    }
}

fn session() -> Session {
    let settings =
        Settings { advertise: Ipv4Addr::new(198, 51, 100, 1).into(), latching: Latching::Off, seed: 1, identity: None };
    Session::new(SessionId(1), 0, settings, Mono(0))
}

fn sdp(port: u16) -> Bytes {
    let text = format!(
        "v=0\r\no=- 1 {port} IN IP4 192.0.2.9\r\ns=-\r\nc=IN IP4 192.0.2.9\r\nt=0 0\r\nm=audio {port} RTP/AVP 0\r\n"
    );
    text.into()
}

fn leg(leg_id: u32, port: u16) -> LegSpec {
    let remote_sdp = if port == 4000 { Bytes::new() } else { sdp(port) };
    let kind = match leg_id {
        3 | 9 => LegKind::Announcer(Announcer {}),
        _ => LegKind::Rtp(RtpLeg { remote_sdp, ..RtpLeg::default() }),
    };
    LegSpec { leg_id, kind: Some(kind), ..LegSpec::default() }
}

fn player(player_id: u32) -> PlayerSpec {
    let items = vec![PlayItem { kind: Some(PlayKind::SilenceMs(10_000)) }];
    PlayerSpec { player_id, items, loops: 1, offset_ms: 0 }
}

/// A command for one of the legs that there are, or one more: no number is ever given twice.
fn any_command() -> impl Strategy<Value = (u8, u8, u16)> {
    (0u8..8, any::<u8>(), (2000u16..2010).prop_map(|half| half * 2))
}

fn command((kind, which, port): (u8, u8, u16), legs: &mut u32) -> CommandKind {
    let leg_id = u32::from(which) % legs.saturating_sub(1).max(1) + 1;
    let hear = |from| CommandKind::Hear(Hear { leg_id, source: Some(Source { from: Some(from) }) });
    let negotiate = |step: SdpStep, sdp| CommandKind::Negotiate(Negotiate { leg_id, step: step.into(), sdp });
    match kind {
        0 => {
            *legs += 1;
            CommandKind::PutLeg(leg(*legs - 1, port))
        }
        1 => CommandKind::DropLeg(leg_id),
        2 => negotiate(SdpStep::RemoteOffer, sdp(port)),
        3 => negotiate(SdpStep::RemoteAnswer, sdp(port)),
        4 if which.is_multiple_of(2) => negotiate(SdpStep::Rollback, Bytes::new()),
        4 => negotiate(SdpStep::MakeOffer, Bytes::new()),
        5 => hear(Hears::Leg(u32::from(which) / 2 % *legs)),
        6 if which.is_multiple_of(3) => hear(Hears::Silence(Silence {})),
        6 => CommandKind::Play(Play { leg_id, player: Some(player(u32::from(which % 5) + 1)) }),
        _ => CommandKind::Mix(SetMixing {
            leg_id,
            mixing: Some(Mixing { heard: which.is_multiple_of(2), whispers_to: None, tells_speaking: false }),
        }),
    }
}

/// Gives a command to both, and what the session tells to the book.
fn give(session: &mut Session, book: &mut Book, command_id: u64, kind: CommandKind) {
    book.command(command_id, &kind, Mono(0));
    let command = Command { command_id, session_id: 1, owner_epoch: 0, kind: Some(kind) };
    session.handle_command(&command, &mut Sockets(30_000 + 20 * command_id as u16), &mut Clips::new(0), Mono(0));
    for MediaEvent { kind, .. } in told(session) {
        book.event(&kind.unwrap(), Mono(0));
    }
}

fn told(session: &mut Session) -> Vec<MediaEvent> {
    let mut buffer = [0; 2048];
    while session.poll_transmit(&mut buffer).is_some() {}
    std::iter::from_fn(|| session.poll_event()).collect()
}

/// What can be seen of a session's RTP legs: where they are, where their peers are, and what is agreed.
///
/// While an offer of ours waits for its answer, the next session may take more formats than this one.
fn seen(session: &Session) -> Vec<(LegId, String)> {
    let leg = |leg: &dialtone_media::leg::Leg| {
        let agreed = leg.plan().map(|plan| (plan.remote, plan.codec, plan.may_send, plan.may_receive, plan.held));
        (leg.id(), format!("{} {agreed:?}", leg.negotiation().endpoint()))
    };
    let mut legs: Vec<_> = session.legs().map(leg).collect();
    legs.sort_by_key(|(id, ..)| id.0);
    legs
}

proptest! {
    #[test]
    fn session_opened_from_the_book_is_the_session(commands in prop::collection::vec(any_command(), 1..30)) {
        let (mut session, mut book) = (session(), Book::default());
        give(&mut session, &mut book, 1, CommandKind::Open(SessionSpec::default()));
        let mut legs = 1;
        for (number, chosen) in commands.into_iter().enumerate() {
            give(&mut session, &mut book, number as u64 + 2, command(chosen, &mut legs));
        }
        prop_assert_eq!(book.unanswered().count(), 0);
        let mut ids: Vec<u32> = book.leg_ids().collect();
        ids.retain(|id| !matches!(id, 3 | 9));
        ids.sort_unstable();
        prop_assert_eq!(ids, seen(&session).into_iter().map(|(id, ..)| id.0).collect::<Vec<_>>());
        let mut next = super::tests::session();
        let open = CommandKind::Open(book.spec(1, 0, Mono(0)));
        let command = Command { command_id: 99, session_id: 1, owner_epoch: 0, kind: Some(open) };
        next.handle_command(&command, &mut Sockets(40_000), &mut Clips::new(0), Mono(0));
        prop_assert_eq!(seen(&next), seen(&session));
        // Who hears what is told by what the next spec of the same session would be.
        for event in told(&mut next) {
            let refused = matches!(event.kind, Some(MediaEventKind::Refused(_)));
            prop_assert!(!refused, "{event:?}");
        }
    }
}

#[test]
fn playlist_stands_still_while_it_waits_for_audio() {
    let mut book = Book::default();
    let at = |ms: u64| Mono(ms * 1000);
    book.command(1, &CommandKind::PutLeg(leg(9, 4002)), at(0));
    let mut spec = player(3);
    spec.items = vec![PlayItem { kind: Some(PlayKind::Audio(Bytes::from_static(b"hash"))) }];
    book.command(2, &CommandKind::Play(Play { leg_id: 9, player: Some(spec) }), at(0));
    let hash = Bytes::from_static(b"hash");
    book.event(&MediaEventKind::AudioWanted(dialtone_media::proto::AudioWanted { hash }), at(5));
    let played = |book: &Book, ms| book.spec(1, 0, at(ms)).legs[0].players[0].offset_ms;
    assert_eq!(played(&book, 500), 5);
    book.command(3, &CommandKind::Audio(dialtone_media::proto::Audio::default()), at(1000));
    assert_eq!(played(&book, 1500), 505);
    let ended = dialtone_media::proto::PlayerEnded { leg_id: 9, player_id: 3, finished: true, offset_ms: 0 };
    book.event(&MediaEventKind::PlayerEnded(ended), at(1600));
    let leg = &book.spec(1, 0, at(1700)).legs[0];
    assert_eq!((leg.players.len(), &leg.hears), (0, &None));
}

#[test]
fn recording_goes_on_where_it_was_and_a_pause_that_is_left_out_does_not_count() {
    let mut book = Book::default();
    let at = |ms: u64| Mono(ms * 1000);
    let spec = RecorderSpec { recorder_id: 4, ..RecorderSpec::default() };
    book.command(1, &CommandKind::Record(spec), at(0));
    let offset = |book: &Book, ms| book.spec(1, 0, at(ms)).recorders[0].offset_ms;
    assert_eq!((offset(&book, 0), offset(&book, 2000)), (1, 2000), "there is a file from the start");
    let pause = |mode: PauseMode| dialtone_media::proto::PauseRecording { recorder_id: 4, mode: mode.into() };
    book.command(2, &CommandKind::PauseRecording(pause(PauseMode::Skip)), at(3000));
    assert_eq!(offset(&book, 9000), 3000);
    assert_eq!(book.spec(1, 0, at(9000)).recorders[0].paused, Some(PauseMode::Skip.into()));
    book.command(3, &CommandKind::ResumeRecording(4), at(9000));
    book.command(4, &CommandKind::PauseRecording(pause(PauseMode::Silence)), at(10_000));
    assert_eq!(offset(&book, 11_000), 5000, "silence is in the file");
    let ended = dialtone_media::proto::RecorderEnded { recorder_id: 4, ..Default::default() };
    book.event(&MediaEventKind::RecorderEnded(ended), at(12_000));
    assert!(book.spec(1, 0, at(12_000)).recorders.is_empty());
}

#[test]
fn tap_goes_on_with_its_time_until_it_is_stopped_or_its_leg_is_over() {
    let at = |ms: u64| Mono(ms * 1000);
    let spec = |tap_id, leg_id| TapSpec { tap_id, leg_id, ..TapSpec::default() };
    let mut book = Book::default();
    assert!(!book.is_tapped());
    for (command, tap) in [(1, spec(7, 1)), (2, spec(8, 2)), (3, spec(7, 1))] {
        book.command(command, &CommandKind::Tap(tap), at(1000 * command));
    }
    let taps = |book: &Book, ms| {
        let taps = book.spec(1, 0, at(ms)).taps;
        taps.into_iter().map(|tap| (tap.tap_id, tap.offset_ms)).collect::<Vec<_>>()
    };
    assert_eq!(taps(&book, 5000), [(7, 4000), (8, 3000)], "asked for twice it is the same");
    book.command(4, &CommandKind::StopTap(7), at(5000));
    assert_eq!(taps(&book, 6000), [(8, 4000)]);
    book.command(5, &CommandKind::DropLeg(2), at(6000));
    assert!(!book.is_tapped());
}
