//! Placement and repair, with workers that are real media sessions without sockets.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};

use dialtone_media::clips::Clips;
use dialtone_media::ids::{LegId, SessionId};
use dialtone_media::leg::{Hot, Latching};
use dialtone_media::proto::{
    Clear, Fed, Feed, Hear, Hears, LinkRoute, Negotiate, Play, PlayItem, PlayKind, PlayerSpec, RemoteLeg, RtpLeg,
    SdpStep, Source, TapSpec, Tone,
};
use dialtone_media::session::{Ports, Session, Settings, unknown};

use super::*;

const OFFER: &str =
    "v=0\r\no=- 1 1 IN IP4 192.0.2.9\r\ns=-\r\nc=IN IP4 192.0.2.9\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n";

/// A worker: its sessions, and the ports that they may have.
struct Machine {
    sessions: HashMap<u64, Session>,
    ports: Range,
    room: usize,
}

struct Range {
    address: IpAddr,
    next: u16,
    /// Ports whose sockets a worker before has left.
    inherited: Vec<u16>,
}

impl Ports for Range {
    fn fill_secret(&mut self, secret: &mut [u8]) {
        secret.fill(7);
    }

    fn open(&mut self, _: LegId) -> Option<u16> {
        self.next += 2;
        Some(self.next)
    }

    fn reopen(&mut self, _: LegId, port: u16) -> Option<Hot> {
        let at = self.inherited.iter().position(|inherited| *inherited == port)?;
        self.inherited.remove(at);
        Some(Hot::default())
    }
}

impl Machine {
    fn new(host: u8) -> Machine {
        let address = Ipv4Addr::new(198, 51, 100, host).into();
        Machine { sessions: HashMap::new(), ports: Range { address, next: 20_000, inherited: Vec::new() }, room: 100 }
    }

    fn command(&mut self, command: &Command, now: Mono) -> Vec<MediaEvent> {
        let id = command.session_id;
        let mut clips = Clips::new(0);
        let is_open = matches!(command.kind, Some(CommandKind::Open(_)));
        if is_open && !self.sessions.contains_key(&id) {
            if self.sessions.len() >= self.room {
                let refused = Refused {
                    command_id: command.command_id,
                    leg_id: 1,
                    reason: Refusal::NoCapacity.into(),
                    text: "full".into(),
                };
                return vec![MediaEvent { session_id: id, kind: Some(MediaEventKind::Refused(refused)) }];
            }
            let settings = Settings { advertise: self.ports.address, latching: Latching::Off, seed: 1, identity: None };
            self.sessions.insert(id, Session::new(SessionId(id), command.owner_epoch, settings, now));
        }
        let Some(session) = self.sessions.get_mut(&id) else { return unknown(command) };
        session.handle_command(command, &mut self.ports, &mut clips, now);
        let mut buffer = [0; 2048];
        while session.poll_transmit(&mut buffer).is_some() {}
        let told = std::iter::from_fn(|| session.poll_event()).collect();
        if session.is_over() {
            self.sessions.remove(&id);
        }
        told
    }
}

struct World {
    pool: Pool,
    machines: HashMap<WorkerId, Machine>,
    commands: Vec<(WorkerId, Command)>,
    now: Mono,
}

impl World {
    fn new(workers: u8) -> World {
        let pool = Pool::new(7, [3; 32]);
        let mut world = World { pool, machines: HashMap::new(), commands: Vec::new(), now: Mono(1_000_000) };
        for number in 1..=workers {
            world.join(&format!("m-{number}"), number, false);
        }
        world
    }

    fn join(&mut self, name: &str, host: u8, is_standby: bool) -> WorkerId {
        let load = LoadReport { capacity: 100, is_standby, ..LoadReport::default() };
        let id = self.pool.joined(name, &format!("198.51.100.{host}:9"), &load, self.now);
        self.machines.insert(id, Machine::new(host));
        id
    }

    /// Carries everything out; what the calls are told.
    fn run(&mut self) -> Vec<Told> {
        let mut told = Vec::new();
        while let Some(output) = self.pool.poll_output() {
            match output {
                Output::Told(what) => told.push(what),
                Output::Close { .. } => {}
                Output::Command { worker, command } => {
                    self.commands.push((worker, command.clone()));
                    let Some(machine) = self.machines.get_mut(&worker) else { continue };
                    for event in machine.command(&command, self.now) {
                        self.pool.event(worker, event, self.now);
                    }
                }
            }
        }
        told
    }

    fn ask(&mut self, session: u64, kind: CommandKind) -> Vec<Told> {
        self.pool.command(session, kind, self.now);
        self.run()
    }

    fn home(&self, session: u64) -> WorkerId {
        self.pool.sessions[&session].worker
    }

    fn wait(&mut self, ms: u64) -> Vec<Told> {
        self.now += Duration::from_millis(ms);
        while self.pool.next_deadline().is_some_and(|at| at <= self.now) {
            self.pool.handle_timeout(self.now);
            self.now += PACE;
        }
        self.run()
    }

    /// A worker dies, and the standby that joined before has what it left.
    fn take_over(&mut self, dead: WorkerId, by: WorkerId, suspect: u64) -> Vec<Told> {
        let before = self.machines.remove(&dead).unwrap();
        let machine = self.machines.get_mut(&by).unwrap();
        machine.ports = Range { inherited: (20_000..=before.ports.next).collect(), ..before.ports };
        let name = self.pool.name_of(dead).unwrap().to_owned();
        self.pool.took_over(by, &name, suspect, self.now);
        self.run()
    }
}

fn leg(leg_id: u32) -> LegSpec {
    let rtp = RtpLeg { remote_sdp: Bytes::from(OFFER), signalled_from: "192.0.2.9".into(), ..RtpLeg::default() };
    LegSpec { leg_id, kind: Some(LegKind::Rtp(rtp)), ..LegSpec::default() }
}

fn link(leg_id: u32, key: u64) -> LegSpec {
    let remote = RemoteLeg { worker: String::new(), session_id: 0, key };
    LegSpec { leg_id, kind: Some(LegKind::Remote(remote)), ..LegSpec::default() }
}

fn open(session_id: u64, legs: Vec<LegSpec>) -> CommandKind {
    CommandKind::Open(SessionSpec { session_id, legs, ..SessionSpec::default() })
}

fn hear(leg_id: u32, from: Hears) -> CommandKind {
    CommandKind::Hear(Hear { leg_id, source: Some(Source { from: Some(from) }) })
}

fn tone(player_id: u32) -> CommandKind {
    let tone = Tone { frequencies_hz: vec![440], cadence_ms: vec![], duration_ms: 60_000 };
    let items = vec![PlayItem { kind: Some(PlayKind::Tone(tone)) }];
    CommandKind::Play(Play { leg_id: 1, player: Some(PlayerSpec { player_id, items, loops: 1, offset_ms: 0 }) })
}

fn negotiated(told: &[Told]) -> Vec<Bytes> {
    let sdp = |told: &Told| match told {
        Told::Event(MediaEvent { kind: Some(MediaEventKind::Negotiated(negotiated)), .. }) => {
            Some(negotiated.sdp.clone())
        }
        _ => None,
    };
    told.iter().filter_map(sdp).collect()
}

#[test]
fn session_stays_where_it_was_placed_and_is_forgotten_with_its_release() {
    let mut world = World::new(3);
    assert_eq!(negotiated(&world.ask(5, open(5, vec![leg(1)]))).len(), 1);
    let home = world.home(5);
    world.ask(5, hear(1, Hears::Leg(1)));
    assert!(world.commands.iter().all(|(worker, command)| *worker == home && command.owner_epoch == 7));
    let told = world.ask(5, CommandKind::Release(Release {}));
    assert!(matches!(
        told.last(),
        Some(Told::Event(MediaEvent { session_id: 5, kind: Some(MediaEventKind::Released(_)) }))
    ));
    assert_eq!((world.pool.session_count(), world.machines[&home].sessions.len()), (0, 0));
    let told = world.ask(5, CommandKind::DropLeg(1));
    assert!(
        matches!(&told[..], [Told::Event(MediaEvent { kind: Some(MediaEventKind::LegClosed(_)), .. })]),
        "what is asked of nobody is answered"
    );
}

#[test]
fn worker_that_is_full_after_all_is_passed_over_and_the_call_hears_only_of_the_last() {
    let mut world = World::new(4);
    let ids: Vec<WorkerId> = world.machines.keys().copied().collect();
    for (number, id) in ids.iter().enumerate() {
        world.machines.get_mut(id).unwrap().room = usize::from(number == 0);
    }
    // Three are tried for each: with four, one session may be unlucky, but not one of many for long.
    let told: Vec<Told> = (1..=20).flat_map(|session| world.ask(session, open(session, vec![leg(1)]))).collect();
    assert_eq!(negotiated(&told).len(), 1, "the one place is found");
    let opened = |session| world.commands.iter().filter(|(_, command)| command.session_id == session).count();
    assert!((1..=20).all(|session| opened(session) <= TRIES));
    let refused = |told: &&Told| matches!(told, Told::Event(MediaEvent { kind: Some(MediaEventKind::Refused(_)), .. }));
    assert_eq!(told.iter().filter(refused).count(), 19);
}

#[test]
fn standby_with_the_sockets_goes_on_and_no_call_is_told() {
    let mut world = World::new(1);
    let dead = WorkerId(1);
    let said = negotiated(&world.ask(5, open(5, vec![leg(1)])));
    world.ask(5, tone(3));
    let standby = world.join("m-2", 1, true);
    world.now += Duration::from_millis(1500);
    world.commands.clear();
    assert_eq!(world.take_over(dead, standby, 0), []);
    let [(worker, Command { kind: Some(CommandKind::Open(spec)), .. })] = &world.commands[..] else { panic!() };
    assert_eq!((*worker, spec.owner_epoch), (standby, 7));
    assert_eq!(spec.legs[0].players[0].offset_ms, 1500, "the tone goes on where it was");
    let session = &world.machines[&standby].sessions[&5];
    assert_eq!(session.leg(LegId(1)).unwrap().negotiation().local_sdp(), &said[0]);
    assert_eq!(world.pool.workers().count(), 1, "the dead one is forgotten");
    // A later step is as before.
    let offered = world
        .ask(5, CommandKind::Negotiate(Negotiate { leg_id: 1, step: SdpStep::MakeOffer.into(), sdp: Bytes::new() }));
    assert_eq!(negotiated(&offered).len(), 1);
}

#[test]
fn what_a_player_was_fed_is_told_as_gone_with_its_worker() {
    let mut world = World::new(1);
    world.ask(1, open(1, vec![leg(1)]));
    world.ask(2, open(2, vec![leg(1)]));
    world.ask(2, CommandKind::Tap(TapSpec { tap_id: 5, leg_id: 1, ..TapSpec::default() }));
    let standby = world.join("standby", 9, true);
    let (dead, now) = (world.home(1), world.now);
    world.pool.lost(dead, now);
    let feed = Feed { leg_id: 1, player_id: 3, what: Some(Fed::Clear(Clear {})) };
    world.ask(2, CommandKind::Feed(feed.clone()));
    let told = world.take_over(dead, standby, 0);
    let asked = world.commands.iter().filter(|(worker, command)| *worker == standby && command.session_id == 2);
    let last = asked.last().and_then(|(_, command)| command.kind.clone());
    assert_eq!(last, Some(CommandKind::Feed(feed)), "what it is fed while there is no worker waits for the next");
    let emptied: Vec<&Told> = told.iter().filter(|told| matches!(told, Told::Emptied { .. })).collect();
    assert_eq!(emptied, [&Told::Emptied { session_id: 2 }]);
}

#[test]
fn leg_that_is_heard_again_says_how_long_it_was_not() {
    let mut world = World::new(1);
    world.ask(5, open(5, vec![leg(1), leg(2)]));
    let standby = world.join("m-2", 1, true);
    let heard = |leg_id| MediaEvent { session_id: 5, kind: Some(MediaEventKind::LegHeard(leg_id)) };
    world.pool.event(WorkerId(1), heard(1), world.now);
    world.run();
    world.take_over(WorkerId(1), standby, 0);
    world.now += Duration::from_millis(30);
    let gaps = |world: &mut World| {
        let told = world.run();
        told.into_iter()
            .filter_map(|told| match told {
                Told::HeardAgain { cause, after } => Some((cause, after.as_millis())),
                _ => None,
            })
            .collect::<Vec<_>>()
    };
    world.pool.event(standby, heard(1), world.now);
    assert_eq!(gaps(&mut world), [("worker_crash", 30)]);
    world.pool.event(standby, heard(1), world.now);
    assert_eq!(gaps(&mut world), [], "once");
    // The other says nothing for long, and not because of that.
    world.now += Duration::from_secs(20);
    world.pool.event(standby, heard(2), world.now);
    assert_eq!(gaps(&mut world), []);
    // Lost with its machine.
    world.join("n-1", 9, false);
    world.pool.lost(standby, world.now);
    world.wait(100);
    world.now += Duration::from_millis(50);
    let home = world.home(5);
    world.pool.event(home, heard(2), world.now);
    let found = gaps(&mut world);
    assert!(matches!(found[..], [("worker_lost", 150..400)]), "{found:?}");
}

#[test]
fn step_that_the_dead_worker_did_not_answer_is_asked_of_the_next() {
    let mut world = World::new(1);
    world.ask(5, open(5, vec![leg(1)]));
    let standby = world.join("m-2", 1, true);
    let step = Negotiate { leg_id: 1, step: SdpStep::MakeOffer.into(), sdp: Bytes::new() };
    world.pool.command(5, CommandKind::Negotiate(step), world.now);
    world.pool.command(6, open(6, vec![leg(1)]), world.now);
    // Both are lost on the way.
    while world.pool.poll_output().is_some() {}
    let told = world.take_over(WorkerId(1), standby, 0);
    assert_eq!(negotiated(&told).len(), 2, "the offer, and the answer of the call that was just opened: {told:?}");
    assert!(!told.iter().any(|told| matches!(told, Told::Moved { .. } | Told::Lost { .. })));
}

#[test]
fn worker_of_another_machine_takes_sessions_after_a_moment_and_the_calls_are_told_of_the_address() {
    let mut world = World::new(1);
    let said = negotiated(&world.ask(5, open(5, vec![leg(1), leg(2)])));
    world.ask(5, hear(1, Hears::Leg(2)));
    world.join("n-1", 9, false);
    world.machines.remove(&WorkerId(1));
    world.pool.lost(WorkerId(1), world.now);
    assert_eq!(world.wait(99), []);
    assert_eq!(world.ask(5, hear(2, Hears::Leg(1))), [], "what is asked meanwhile holds there too");
    let told = world.wait(1);
    let moved: Vec<&Bytes> = told
        .iter()
        .filter_map(|told| match told {
            Told::Moved { session_id: 5, sdp, .. } => Some(sdp),
            _ => None,
        })
        .collect();
    assert_eq!((told.len(), moved.len()), (2, 2));
    assert!(moved.iter().all(|sdp| !said.contains(sdp) && sdp.windows(11).any(|text| text == b"198.51.100.")));
    let home = world.home(5);
    assert_eq!(world.pool.name_of(home), Some("n-1"));
    let Some((_, Command { kind: Some(CommandKind::Open(spec)), .. })) = world.commands.last() else { panic!() };
    assert_eq!(spec.legs[1].hears, Some(Source { from: Some(Hears::Leg(1)) }));
    // The party's answer to the new offer is taken.
    let answer = Negotiate { leg_id: 1, step: SdpStep::RemoteAnswer.into(), sdp: Bytes::from(OFFER) };
    assert_eq!(negotiated(&world.ask(5, CommandKind::Negotiate(answer))), [Bytes::new()]);
}

#[test]
fn link_that_comes_back_in_time_keeps_its_sessions() {
    let mut world = World::new(2);
    world.ask(5, open(5, vec![leg(1)]));
    let home = world.home(5);
    let name = world.pool.name_of(home).unwrap().to_owned();
    world.pool.lost(home, world.now);
    world.now += Duration::from_millis(90);
    let load = LoadReport { capacity: 100, ..LoadReport::default() };
    assert_eq!(world.pool.joined(&name, "", &load, world.now), home);
    assert_eq!(world.run(), [], "its leg is as it was");
    assert_eq!(world.wait(1000), []);
    assert_eq!(world.home(5), home);
}

#[test]
fn call_that_hangs_up_while_its_worker_is_lost_is_answered() {
    let mut world = World::new(1);
    world.ask(5, open(5, vec![leg(1), leg(2)]));
    world.pool.lost(WorkerId(1), world.now);
    let told = world.ask(5, CommandKind::Release(Release {}));
    let kinds: Vec<bool> = told
        .iter()
        .map(|told| matches!(told, Told::Event(MediaEvent { kind: Some(MediaEventKind::Released(_)), .. })))
        .collect();
    assert_eq!(kinds, [false, false, true]);
    assert_eq!(world.wait(10_000), []);
}

#[test]
fn session_let_go_of_while_its_worker_was_away_ends_when_that_is_back() {
    let mut world = World::new(1);
    world.ask(5, open(5, vec![leg(1)]));
    world.pool.lost(WorkerId(1), world.now);
    world.ask(5, CommandKind::Release(Release {}));
    assert_eq!(world.machines[&WorkerId(1)].sessions.len(), 1);
    let load = LoadReport { capacity: 100, ..LoadReport::default() };
    world.pool.joined("m-1", "", &load, world.now);
    assert_eq!(world.run(), [], "its call is gone");
    assert_eq!(world.machines[&WorkerId(1)].sessions.len(), 0);
}

#[test]
fn sessions_that_nobody_takes_are_lost_and_the_calls_are_told() {
    let mut world = World::new(1);
    world.ask(5, open(5, vec![leg(1)]));
    world.pool.lost(WorkerId(1), world.now);
    assert_eq!(world.wait(2900), [], "somebody may come");
    assert_eq!(world.wait(300), [Told::Lost { session_id: 5 }]);
    assert_eq!(world.pool.session_count(), 0);
}

#[test]
fn sessions_are_opened_anew_at_a_pace() {
    let mut world = World::new(1);
    world.machines.get_mut(&WorkerId(1)).unwrap().room = 1000;
    let load = LoadReport { capacity: 1000, ..LoadReport::default() };
    world.pool.reported(WorkerId(1), &load);
    for session in 1..=100 {
        world.ask(session, open(session, vec![leg(1)]));
    }
    let other = world.join("n-1", 9, false);
    world.pool.reported(other, &load);
    world.pool.lost(WorkerId(1), world.now);
    world.commands.clear();
    world.now += GRACE;
    world.pool.handle_timeout(world.now);
    world.pool.handle_timeout(world.now);
    world.run();
    assert_eq!(world.commands.len(), PACE_SESSIONS, "once in that time");
    world.now += PACE;
    world.pool.handle_timeout(world.now);
    world.run();
    assert_eq!(world.commands.len(), 2 * PACE_SESSIONS);
}

#[test]
fn call_that_kills_two_workers_within_a_minute_is_not_given_a_third() {
    let mut world = World::new(1);
    world.ask(5, open(5, vec![leg(1)]));
    world.ask(6, open(6, vec![leg(1)]));
    let second = world.join("m-2", 1, true);
    assert_eq!(world.take_over(WorkerId(1), second, 5), [], "once may be chance");
    let third = world.join("m-3", 1, true);
    world.now += Duration::from_secs(59);
    assert_eq!(world.take_over(second, third, 5), [Told::Lost { session_id: 5 }]);
    assert_eq!(world.home(6), third, "the other goes on");
    let fourth = world.join("m-4", 1, true);
    world.take_over(third, fourth, 6);
    let fifth = world.join("m-5", 1, true);
    world.now += Duration::from_secs(61);
    assert_eq!(world.take_over(fourth, fifth, 6), [], "twice in more than a minute");
}

#[test]
fn ends_of_a_link_on_two_workers_are_told_of_each_other_with_a_fresh_secret_each_time() {
    let mut world = World::new(2);
    world.ask(5, open(5, vec![leg(1), link(2, 77)]));
    // The worker of the first has no room: the second is elsewhere.
    let first = world.home(5);
    world.pool.reported(first, &LoadReport { capacity: 1, used: 1, ..LoadReport::default() });
    world.ask(6, open(6, vec![leg(1), link(2, 77)]));
    let second = world.home(6);
    assert_ne!(first, second);
    let routes = |world: &World| -> Vec<(WorkerId, LinkRoute)> {
        let route = |(worker, command): &(WorkerId, Command)| match &command.kind {
            Some(CommandKind::Link(route)) => Some((*worker, route.clone())),
            _ => None,
        };
        world.commands.iter().filter_map(route).collect()
    };
    let told = routes(&world);
    let [(one, to_second), (other, to_first)] = &told[..] else { panic!("{told:?}") };
    assert_eq!((*one, *other), (first, second));
    assert_eq!(to_second.address, world.pool.workers[&second].frames_address);
    assert_eq!(to_first.address, world.pool.workers[&first].frames_address);
    assert_eq!((to_second.is_first, to_first.is_first), (true, false));
    assert!(to_second.secret.len() == 32 && to_second.secret == to_first.secret);
    // One of them dies: both ends have another key.
    world.machines.remove(&second);
    world.pool.lost(second, world.now);
    world.pool.reported(first, &LoadReport { capacity: 100, ..LoadReport::default() });
    world.commands.clear();
    world.wait(300);
    assert_eq!(world.home(6), first);
    let told = routes(&world);
    assert_eq!(told.iter().map(|(_, route)| route.address.as_str()).collect::<Vec<_>>(), ["", ""], "they meet here");
}

#[test]
fn other_end_of_a_link_comes_to_the_same_worker() {
    let mut world = World::new(4);
    for session in (2..40).step_by(2) {
        world.ask(session, open(session, vec![leg(1), link(2, session)]));
        world.ask(session + 1, open(session + 1, vec![leg(1), link(2, session)]));
        assert_eq!(world.home(session), world.home(session + 1));
    }
    assert!(!world.commands.iter().any(|(_, command)| matches!(command.kind, Some(CommandKind::Link(_)))));
}

/// Two edges and the same two machines: what one tells of its end of a link the other hears.
fn tell_each_other(worlds: &mut [World; 2]) -> Vec<Vec<(WorkerId, LinkRoute)>> {
    worlds.iter_mut().for_each(|world| world.commands.clear());
    loop {
        let told: Vec<Vec<Told>> = worlds.iter_mut().map(World::run).collect();
        let mut is_over = true;
        for (at, told) in told.into_iter().enumerate() {
            for told in told {
                if let Told::LinkEnd { peer, key, end } = told {
                    assert_eq!(peer, ["left", "right"][1 - at]);
                    worlds[1 - at].pool.far_end(key, end);
                    is_over = false;
                }
            }
        }
        if is_over {
            break;
        }
    }
    let route = |(worker, command): &(WorkerId, Command)| match &command.kind {
        Some(CommandKind::Link(route)) => Some((*worker, route.clone())),
        _ => None,
    };
    worlds.iter().map(|world| world.commands.iter().filter_map(route).collect()).collect()
}

#[test]
fn ends_of_a_link_at_two_edges_are_told_of_each_other_with_a_fresh_secret_each_time() {
    let mut worlds = [World::new(2), World::new(2)];
    let full = LoadReport { capacity: 1, used: 1, ..LoadReport::default() };
    // Each edge has one of the machines for its session.
    worlds[0].pool.reported(WorkerId(2), &full);
    worlds[1].pool.reported(WorkerId(1), &full);
    worlds[0].pool.link_to(77, "right".to_owned(), true);
    worlds[1].pool.link_to(77, "left".to_owned(), false);
    for (world, session) in worlds.iter_mut().zip([5, 6]) {
        world.pool.command(session, open(session, vec![leg(1), link(2, 77)]), world.now);
    }
    let mut secrets = std::collections::HashSet::new();
    let mut check = |told: Vec<Vec<(WorkerId, LinkRoute)>>| {
        let [(one, to_second)] = [told[0].last().expect("a route at the one end").clone()];
        let [(other, to_first)] = [told[1].last().expect("a route at the other").clone()];
        assert_eq!((one, other), (WorkerId(1), WorkerId(2)));
        assert_eq!((to_second.address.as_str(), to_first.address.as_str()), ("198.51.100.2:9", "198.51.100.1:9"));
        assert_eq!((to_second.is_first, to_first.is_first), (true, false));
        assert_eq!(to_second.secret, to_first.secret);
        assert!(told.iter().flatten().map(|(_, route)| &route.secret).all(|secret| secret.len() == 32));
        assert!(secrets.insert(to_second.secret), "no secret comes twice: its counters begin anew");
    };
    check(tell_each_other(&mut worlds));
    // One of the edges tells its end anew, as it does when the link between them was lost.
    worlds[0].pool.tell_link_ends("right");
    check(tell_each_other(&mut worlds));
    worlds[1].pool.tell_link_ends("somebody else");
    assert_eq!(tell_each_other(&mut worlds), [vec![], vec![]]);

    // The machine of the one is lost, and its session comes to where the other's is: they meet there by their key.
    worlds[1].pool.reported(WorkerId(2), &LoadReport { capacity: 100, ..LoadReport::default() });
    worlds[0].pool.reported(WorkerId(2), &LoadReport { capacity: 100, ..LoadReport::default() });
    let now = worlds[0].now;
    worlds[0].pool.lost(WorkerId(1), now);
    worlds[0].commands.clear();
    worlds[0].now += Duration::from_millis(300);
    let now = worlds[0].now;
    worlds[0].pool.handle_timeout(now);
    let told = tell_each_other(&mut worlds);
    assert_eq!(worlds[0].home(5), WorkerId(2));
    let addresses = |at: usize| told[at].iter().map(|(_, route)| route.address.clone()).collect::<Vec<_>>();
    assert_eq!((addresses(0), addresses(1)), (vec![String::new()], vec![String::new()]));
}
