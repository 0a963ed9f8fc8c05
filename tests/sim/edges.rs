//! Rooms whose members are at two edges: they meet, whoever goes first leaves nothing behind, and when an edge dies at any moment
//! the others go on.

use std::time::Duration;

use dialtone::edges::EdgeId;
use dialtone::events::{ConferenceStatus, EventKind, QueueStep};
use dialtone_sip::msg::HeaderName;
use dialtone_sip::time::Mono;

use crate::world::{Says, SharedHot, World, header};

/// Two worlds that share what edges share.
struct Cluster {
    worlds: [Option<World>; 2],
    edges: [EdgeId; 2],
    hot: SharedHot,
}

const STEP: Duration = Duration::from_micros(500);

impl Cluster {
    fn new(document: &'static str, other: &'static str) -> Cluster {
        let hot = SharedHot::default();
        let edges = ["left", "right"].map(|node| EdgeId { node: node.into(), epoch: 1 });
        let world = |seed, document: &'static str| {
            let mut world = World::new(seed, move |asked| match asked.url.as_str() {
                "http://app/voice" => Says::Twiml(document),
                _ => Says::Twiml("<Response><Hangup/></Response>"),
            });
            world.restarts = false;
            world
        };
        let worlds = [
            Some(world(21, document).join(edges[0].clone(), hot.clone())),
            Some(world(22, other).join(edges[1].clone(), hot.clone())),
        ];
        Cluster { worlds, edges, hot }
    }

    fn world(&mut self, at: usize) -> &mut World {
        self.worlds[at].as_mut().expect("it lives")
    }

    /// A caller at that edge.
    fn call(&mut self, at: usize) -> usize {
        let phone = self.world(at).add_caller();
        self.world(at).call_from(phone, "+15551000000");
        phone
    }

    fn run_for(&mut self, time: Duration) {
        let until = self.now() + time;
        while self.now() < until {
            let to = (self.now() + STEP).min(until);
            for at in 0..2 {
                let Some(world) = &mut self.worlds[at] else { continue };
                world.run_until(to);
                for (edge, letter) in std::mem::take(&mut world.letters) {
                    let other = self.edges.iter().position(|known| *known == edge).expect("one of the two");
                    match &mut self.worlds[other] {
                        Some(other) => other.hear(&self.edges[at], Some(letter)),
                        None => self.world(at).hear_of_loss(edge, letter),
                    }
                }
            }
        }
    }

    fn now(&self) -> Mono {
        self.worlds.iter().flatten().map(|world| world.now).max().expect("one lives")
    }

    /// An edge dies with all that it has; the other learns of it a little later.
    fn die(&mut self, at: usize) {
        self.worlds[at] = None;
        let edge = self.edges[at].clone();
        self.hot.borrow_mut().handle(dialtone::hot::Command::Leave { edge: edge.clone() }, 0);
        self.run_for(Duration::from_millis(20));
        self.world(1 - at).hear(&edge, None);
    }

    /// What conferences were told of, at either edge, by step.
    fn steps(&self) -> Vec<&'static str> {
        let events = self.worlds.iter().flatten().flat_map(|world| &world.events);
        let facts = events.filter_map(|event| match &event.kind {
            EventKind::Conference(fact) => Some(fact.step.as_str()),
            _ => None,
        });
        facts.collect()
    }

    /// Members of the one conference that runs.
    fn members(&self) -> usize {
        let mut members = std::collections::BTreeSet::new();
        for event in self.worlds.iter().flatten().flat_map(|world| &world.events) {
            if let EventKind::Conference(fact) = &event.kind {
                match (fact.step.as_str(), &fact.participant, fact.status) {
                    ("participant-join", Some(member), _) => drop(members.insert((fact.sid, member.call))),
                    ("participant-leave", Some(member), _) => drop(members.remove(&(fact.sid, member.call))),
                    (_, _, ConferenceStatus::Completed) => members.retain(|(sid, _)| *sid != fact.sid),
                    _ => {}
                }
            }
        }
        members.len()
    }

    fn close_books(&mut self) {
        self.run_for(Duration::from_secs(2));
        self.worlds.iter_mut().flatten().for_each(World::close_books);
    }
}

const ROOM: &str = "<Response><Dial><Conference statusCallback=\"/cb\" statusCallbackEvent=\"start end join leave\">\
                    room</Conference></Dial></Response>";

#[test]
fn members_of_two_edges_meet_in_one_conference_and_nothing_of_it_is_left() {
    for first in [0, 1] {
        let mut cluster = Cluster::new(ROOM, ROOM);
        let phones = [first, 1 - first, first].map(|at| {
            let phone = cluster.call(at);
            cluster.run_for(Duration::from_millis(300));
            (at, phone)
        });
        cluster.run_for(Duration::from_secs(1));
        assert_eq!(cluster.members(), 3);
        let starts = cluster.steps().iter().filter(|step| **step == "conference-start").count();
        assert_eq!(starts, 1, "one conference: {:?}", cluster.steps());
        for (at, phone) in phones {
            cluster.world(at).hang_up(phone);
            cluster.run_for(Duration::from_millis(300));
        }
        assert_eq!(cluster.members(), 0);
        assert_eq!(cluster.steps().last(), Some(&"conference-end"), "{:?}", cluster.steps());
        // The name is free again, for whoever asks first.
        let again = cluster.call(1 - first);
        cluster.run_for(Duration::from_secs(1));
        assert_eq!(cluster.members(), 1);
        cluster.world(1 - first).hang_up(again);
        cluster.close_books();
    }
}

#[test]
fn edge_dies_at_any_moment_and_the_members_at_the_other_go_on() {
    for dying in [0, 1] {
        for ms in (0..900).step_by(25) {
            let mut cluster = Cluster::new(ROOM, ROOM);
            let left = 1 - dying;
            cluster.call(dying);
            let stays = cluster.call(left);
            cluster.call(dying);
            let also = cluster.call(left);
            cluster.run_for(Duration::from_millis(ms));
            cluster.die(dying);
            cluster.run_for(Duration::from_secs(3));
            assert_eq!(cluster.members(), 2, "edge {dying} dies after {ms} ms: {:?}", cluster.steps());
            let talking = [stays, also].map(|phone| cluster.world(left).phones[phone].dialogs.len());
            assert_eq!(talking, [1, 1], "edge {dying} dies after {ms} ms: {:?}", cluster.steps());
            for phone in [stays, also] {
                cluster.world(left).hang_up(phone);
            }
            cluster.close_books();
        }
    }
}

#[test]
fn who_waits_at_one_edge_is_taken_at_the_other() {
    let mut cluster = Cluster::new(
        "<Response><Enqueue waitUrl=\"\">line</Enqueue></Response>",
        "<Response><Dial><Queue>line</Queue></Dial></Response>",
    );
    let waiting = cluster.call(0);
    cluster.run_for(Duration::from_secs(1));
    let taking = cluster.call(1);
    cluster.run_for(Duration::from_secs(1));
    let queue_steps = |cluster: &Cluster| {
        let events = cluster.worlds.iter().flatten().flat_map(|world| &world.events);
        let facts = events.filter_map(|event| match &event.kind {
            EventKind::Queue(fact) => Some(fact.step),
            _ => None,
        });
        facts.collect::<Vec<_>>()
    };
    assert_eq!(queue_steps(&cluster), [QueueStep::Entered, QueueStep::Left], "it was taken");
    cluster.world(1).hang_up(taking);
    cluster.run_for(Duration::from_secs(2));
    let ended = cluster.world(0).records();
    assert_eq!(ended.len(), 1);
    assert!(ended[0].ended_ms.is_some(), "who was taken is not left alone: its document is over");
    let _ = waiting;
    cluster.close_books();
}

#[test]
fn phones_are_told_the_host_by_which_they_reach_whichever_edge_there_is() {
    let mut world = World::new(23, |_| Says::Twiml("<Response><Echo/></Response>")).reached_by("sip.example.com");
    world.call("+15551000000");
    world.run_for(Duration::from_secs(1));
    let answers = world.sent("200");
    let contact = header(answers[0], HeaderName::Contact);
    assert_eq!(contact, "<sip:dialtone@sip.example.com;transport=udp>");
    world.hang_up(0);
    world.close_books();
}
