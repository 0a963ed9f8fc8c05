//! Zones and what they come to. What is asked is part of each expectation: every question costs the caller time.

use std::collections::HashMap;

use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::Question::{A, Aaaa, Naptr as NaptrOf, Srv as SrvOf};
use super::*;

const UDP4: Outlet = Outlet { transport: Transport::Udp, family: Family::V4 };
const UDP6: Outlet = Outlet { transport: Transport::Udp, family: Family::V6 };
const TCP4: Outlet = Outlet { transport: Transport::Tcp, family: Family::V4 };
const TLS4: Outlet = Outlet { transport: Transport::Tls, family: Family::V4 };
const BOTH: &[Outlet] = &[UDP4, TCP4];
const ALL: &[Outlet] = &[UDP4, TCP4, TLS4];

type Zone = HashMap<Question, Answer>;

fn naptr(name: &str, records: &[(u16, u16, &str, &str, &str)]) -> (Question, Answer) {
    let record = |(order, preference, flags, services, replacement): &(u16, u16, &str, &str, &str)| Naptr {
        order: *order,
        preference: *preference,
        flags: (*flags).into(),
        services: (*services).into(),
        replacement: (*replacement).into(),
    };
    (NaptrOf(name.into()), Answer::Naptr(records.iter().map(record).collect()))
}

fn srv(name: &str, records: &[(u16, u16, u16, &str)]) -> (Question, Answer) {
    let record = |(priority, weight, port, target): &(u16, u16, u16, &str)| Srv {
        priority: *priority,
        weight: *weight,
        port: *port,
        target: (*target).into(),
    };
    (SrvOf(name.into()), Answer::Srv(records.iter().map(record).collect()))
}

fn a(name: &str, addresses: &[&str]) -> (Question, Answer) {
    (A(name.into()), Answer::Addresses(addresses.iter().map(|ip| ip.parse().unwrap()).collect()))
}

fn aaaa(name: &str, addresses: &[&str]) -> (Question, Answer) {
    (Aaaa(name.into()), a(name, addresses).1)
}

/// Asks until nothing is left; the questions as `NAPTR name`, and the destinations.
fn resolve(uri: &str, outlets: &[Outlet], zone: &Zone, seed: u8) -> (Vec<String>, Vec<String>) {
    let mut resolution = Resolution::new(&SipUri::parse(uri).unwrap(), outlets);
    let (mut random, mut asked) = (Tokens::new([seed; 32]), Vec::new());
    while let Some(question) = resolution.poll_question() {
        assert!(asked.len() < MAX_QUESTIONS && !resolution.is_over());
        asked.push(match &question {
            NaptrOf(name) => format!("NAPTR {name}"),
            SrvOf(name) => format!("SRV {name}"),
            A(name) => format!("A {name}"),
            Aaaa(name) => format!("AAAA {name}"),
        });
        resolution.handle_answer(&question, zone.get(&question).cloned().unwrap_or(Answer::Nothing), &mut random);
    }
    assert!(resolution.is_over());
    (asked, texts(&resolution))
}

fn texts(resolution: &Resolution) -> Vec<String> {
    resolution.destinations().iter().map(|found| format!("{} {}", found.transport, found.address)).collect()
}

/// A URI, our outlets, what is asked, and what is found.
type Case<'a> = (&'a str, &'a [Outlet], &'a [&'a str], &'a [&'a str]);

#[track_caller]
fn check(zone: &Zone, cases: &[Case<'_>]) {
    for (uri, outlets, asked, found) in cases {
        let (really_asked, really_found) = resolve(uri, outlets, zone, 1);
        assert_eq!(really_asked, *asked, "{uri}");
        assert_eq!(really_found, *found, "{uri}");
    }
}

/// The zone of RFC 3263 s4.1 and s4.2, without and with addresses for all that it names.
fn example() -> Zone {
    Zone::from([
        naptr(
            "example.com",
            &[
                (50, 50, "s", "SIPS+D2T", "_sips._tcp.example.com."),
                (90, 50, "s", "SIP+D2T", "_sip._tcp.example.com."),
                (100, 50, "s", "SIP+D2U", "_sip._udp.example.com."),
            ],
        ),
        srv("_sips._tcp.example.com", &[(0, 0, 5061, "server4.example.com.")]),
        srv("_sip._tcp.example.com", &[(0, 1, 5060, "server1.example.com."), (1, 2, 5060, "server2.example.com.")]),
        srv("_sip._udp.example.com", &[(0, 0, 5070, "server3.example.com.")]),
        a("server1.example.com", &["192.0.2.1"]),
        a("server2.example.com", &["192.0.2.2"]),
        a("server3.example.com", &["192.0.2.3"]),
        a("server4.example.com", &["192.0.2.4"]),
        a("example.com", &["192.0.2.9"]),
        aaaa("example.com", &["2001:db8::9"]),
    ])
}

#[test]
fn example_of_the_rfc() {
    check(
        &example(),
        &[
            (
                "sip:user@Example.com",
                BOTH,
                &["NAPTR example.com", "SRV _sip._tcp.example.com", "A server1.example.com", "A server2.example.com"],
                &["tcp 192.0.2.1:5060", "tcp 192.0.2.2:5060"],
            ),
            // What we do not listen on is not spoken: the next order is ours.
            (
                "sip:user@example.com.",
                &[UDP4],
                &["NAPTR example.com", "SRV _sip._udp.example.com", "A server3.example.com"],
                &["udp 192.0.2.3:5070"],
            ),
        ],
    );
}

/// `sips:`, and `transport=tls`, are TLS and nothing else (RFC 3263 s4.1), on a port of its own.
#[test]
fn tls_where_it_is_wanted_and_where_the_domain_prefers_it() {
    let asked: &[&str] = &["NAPTR example.com", "SRV _sips._tcp.example.com", "A server4.example.com"];
    check(
        &example(),
        &[
            ("sips:192.0.2.7", ALL, &[], &["tls 192.0.2.7:5061"]),
            ("sip:192.0.2.7;transport=tls", ALL, &[], &["tls 192.0.2.7:5061"]),
            ("sips:192.0.2.7:5071;transport=tcp", ALL, &[], &["tls 192.0.2.7:5071"]),
            ("sips:192.0.2.7;transport=udp", ALL, &[], &[]),
            ("sip:192.0.2.7", ALL, &[], &["udp 192.0.2.7:5060"]),
            ("sip:192.0.2.7", &[TLS4], &[], &["tls 192.0.2.7:5061"]),
            ("sips:example.com", ALL, asked, &["tls 192.0.2.4:5061"]),
            ("sip:example.com", ALL, asked, &["tls 192.0.2.4:5061"]),
            ("sip:example.com;transport=tls", ALL, &asked[1..], &["tls 192.0.2.4:5061"]),
            ("sips:example.com:5071", ALL, &["A example.com"], &["tls 192.0.2.9:5071"]),
        ],
    );
    let bare = Zone::from([a("h.test", &["192.0.2.1"])]);
    check(
        &bare,
        &[
            ("sips:h.test", ALL, &["NAPTR h.test", "SRV _sips._tcp.h.test", "A h.test"], &["tls 192.0.2.1:5061"]),
            (
                "sip:h.test",
                ALL,
                &["NAPTR h.test", "SRV _sip._udp.h.test", "SRV _sip._tcp.h.test", "A h.test"],
                &["udp 192.0.2.1:5060"],
            ),
        ],
    );
}

#[test]
fn numbers_ports_and_transports_skip_rounds() {
    check(
        &example(),
        &[
            ("sip:192.0.2.7", BOTH, &[], &["udp 192.0.2.7:5060"]),
            ("sip:192.0.2.7:5090;transport=tcp", BOTH, &[], &["tcp 192.0.2.7:5090"]),
            ("sip:[2001:db8::7]", &[UDP4, UDP6], &[], &["udp [2001:db8::7]:5060"]),
            ("sip:192.0.2.7", &[TCP4], &[], &["tcp 192.0.2.7:5060"]),
            ("sip:example.com:5090", BOTH, &["A example.com"], &["udp 192.0.2.9:5090"]),
            ("sip:example.com:5060", &[TCP4], &["A example.com"], &["tcp 192.0.2.9:5060"]),
            ("sip:example.com:5090;transport=tcp", &[UDP4, TCP4, UDP6], &["A example.com"], &["tcp 192.0.2.9:5090"]),
            (
                "sip:example.com;transport=UDP",
                BOTH,
                &["SRV _sip._udp.example.com", "A server3.example.com"],
                &["udp 192.0.2.3:5070"],
            ),
        ],
    );
}

#[test]
fn what_we_cannot_send_by_is_not_asked_for() {
    check(
        &example(),
        &[
            ("sips:example.com", BOTH, &[], &[]),
            ("sips:192.0.2.7", BOTH, &[], &[]),
            ("sip:example.com;transport=tls", BOTH, &[], &[]),
            ("sip:192.0.2.7;transport=ws", BOTH, &[], &[]),
            ("sip:example.com;transport=tcp", &[UDP4], &[], &[]),
            ("sip:[2001:db8::7]", BOTH, &[], &[]),
            ("sip:example.com", &[], &[], &[]),
        ],
    );
}

#[test]
fn maddr_is_not_followed() {
    check(&example(), &[("sip:192.0.2.7;maddr=198.51.100.1", BOTH, &[], &["udp 192.0.2.7:5060"])]);
}

#[test]
fn addresses_of_each_family_come_in_the_order_of_our_listeners() {
    check(
        &example(),
        &[
            (
                "sip:example.com:5060",
                &[UDP6, UDP4],
                &["AAAA example.com", "A example.com"],
                &["udp [2001:db8::9]:5060", "udp 192.0.2.9:5060"],
            ),
            ("sip:example.com:5060", &[UDP4, UDP4], &["A example.com"], &["udp 192.0.2.9:5060"]),
        ],
    );
}

#[test]
fn without_naptr_every_transport_of_ours_has_its_usual_name() {
    let zone = Zone::from([
        srv("_sip._udp.h.test", &[(1, 0, 5060, "u.h.test")]),
        srv("_sip._tcp.h.test", &[(1, 0, 5061, "t.h.test")]),
        a("u.h.test", &["192.0.2.1"]),
        a("t.h.test", &["192.0.2.2"]),
    ]);
    let (udp, tcp) = ("SRV _sip._udp.h.test", "SRV _sip._tcp.h.test");
    check(
        &zone,
        &[
            (
                "sip:h.test",
                BOTH,
                &["NAPTR h.test", udp, tcp, "A u.h.test", "A t.h.test"],
                &["udp 192.0.2.1:5060", "tcp 192.0.2.2:5061"],
            ),
            (
                "sip:h.test",
                &[TCP4, UDP4],
                &["NAPTR h.test", tcp, udp, "A t.h.test", "A u.h.test"],
                &["tcp 192.0.2.2:5061", "udp 192.0.2.1:5060"],
            ),
        ],
    );
}

#[test]
fn without_srv_it_is_the_domain_itself() {
    let mut zone = Zone::from([a("h.test", &["192.0.2.1"])]);
    let (naptr_, udp, tcp) = ("NAPTR h.test", "SRV _sip._udp.h.test", "SRV _sip._tcp.h.test");
    check(
        &zone,
        &[
            ("sip:h.test", BOTH, &[naptr_, udp, tcp, "A h.test"], &["udp 192.0.2.1:5060"]),
            ("sip:h.test", &[TCP4, UDP4], &[naptr_, tcp, udp, "A h.test"], &["udp 192.0.2.1:5060"]),
            ("sip:h.test", &[TCP4], &[naptr_, tcp, "A h.test"], &["tcp 192.0.2.1:5060"]),
            ("sip:h.test;transport=tcp", BOTH, &[tcp, "A h.test"], &["tcp 192.0.2.1:5060"]),
        ],
    );
    // By the transport that NAPTR says, though.
    zone.extend([naptr("h.test", &[(1, 1, "S", "sip+d2t", "_sip._tcp.h.test")])]);
    check(&zone, &[("sip:h.test", BOTH, &[naptr_, tcp, "A h.test"], &["tcp 192.0.2.1:5060"])]);
}

#[test]
fn preference_ranks_within_the_lowest_order_that_is_for_us() {
    let zone = Zone::from([
        naptr(
            "h.test",
            &[
                (20, 1, "s", "SIP+D2U", "_late._udp.h.test"),
                (10, 9, "s", "SIP+D2U", "_sip._udp.h.test"),
                (10, 2, "s", "SIP+D2T", "_own._tcp.h.test"),
                (1, 1, "s", "SIP+D2W", "_sip._ws.h.test"),
                (1, 1, "s", "SIPS+D2T", "_sips._tcp.h.test"),
                (1, 1, "u", "E2U+sip", "."),
                (1, 1, "s", "SIP+D2U", "."),
                (1, 1, "", "SIP+D2U", "h.test"),
                (1, 1, "a", "SIP+D2U", "a.h.test"),
            ],
        ),
        srv("_sip._udp.h.test", &[(1, 0, 1, "s.h.test")]),
        srv("_own._tcp.h.test", &[(1, 0, 2, "s.h.test")]),
        a("s.h.test", &["192.0.2.1"]),
    ]);
    check(
        &zone,
        &[(
            "sip:h.test",
            BOTH,
            &["NAPTR h.test", "SRV _own._tcp.h.test", "SRV _sip._udp.h.test", "A s.h.test"],
            &["tcp 192.0.2.1:2", "udp 192.0.2.1:1"],
        )],
    );
}

#[test]
fn naptr_without_a_service_of_ours_is_as_none() {
    let zone = Zone::from([
        naptr("h.test", &[(1, 1, "s", "SIPS+D2T", "_sips._tcp.h.test"), (1, 1, "u", "E2U+sip", ".")]),
        a("h.test", &["192.0.2.1"]),
    ]);
    check(
        &zone,
        &[("sip:h.test", &[UDP4], &["NAPTR h.test", "SRV _sip._udp.h.test", "A h.test"], &["udp 192.0.2.1:5060"])],
    );
}

#[test]
fn point_as_target_says_that_there_is_no_server() {
    let mut zone = Zone::from([
        srv("_sip._udp.h.test", &[(0, 0, 0, ".")]),
        a("h.test", &["192.0.2.1"]),
        a("t.h.test", &["192.0.2.2"]),
    ]);
    let (naptr_, udp, tcp) = ("NAPTR h.test", "SRV _sip._udp.h.test", "SRV _sip._tcp.h.test");
    check(&zone, &[("sip:h.test", BOTH, &[naptr_, udp, tcp], &[]), ("sip:h.test;transport=udp", BOTH, &[udp], &[])]);
    zone.extend([srv("_sip._tcp.h.test", &[(0, 0, 5060, "t.h.test")])]);
    check(&zone, &[("sip:h.test", BOTH, &[naptr_, udp, tcp, "A t.h.test"], &["tcp 192.0.2.2:5060"])]);
}

#[test]
fn servers_come_by_priority_and_one_name_is_asked_for_once() {
    let zone = Zone::from([
        srv(
            "_sip._udp.h.test",
            &[
                (30, 0, 5060, "c.h.test"),
                (10, 0, 5060, "A.h.test."),
                (20, 0, 5070, "a.h.test"),
                (20, 0, 1, "gone.test"),
                (20, 0, 0, "a.h.test"),
            ],
        ),
        a("a.h.test", &["192.0.2.1", "192.0.2.2", "192.0.2.1"]),
        a("c.h.test", &["192.0.2.3"]),
    ]);
    let (_, found) = resolve("sip:h.test;transport=udp", BOTH, &zone, 1);
    let expected = ["192.0.2.1:5060", "192.0.2.2:5060", "192.0.2.1:5070", "192.0.2.2:5070", "192.0.2.3:5060"]
        .map(|at| format!("udp {at}"));
    assert_eq!(found, expected);
    let (asked, _) = resolve("sip:h.test;transport=udp", BOTH, &zone, 1);
    assert_eq!(asked.iter().filter(|question| *question == "A a.h.test").count(), 1);
}

/// How often each server is the first of 4,000 calls.
fn firsts(records: &[(u16, u16, u16, &str)]) -> HashMap<String, i32> {
    let zone = Zone::from([
        srv("_sip._udp.h.test", records),
        a("one", &["192.0.2.1"]),
        a("two", &["192.0.2.2"]),
        a("three", &["192.0.2.3"]),
    ]);
    let mut firsts = HashMap::new();
    let mut random = Tokens::new([5; 32]);
    for _ in 0..4_000 {
        let mut resolution = Resolution::new(&SipUri::parse("sip:h.test;transport=udp").unwrap(), BOTH);
        while let Some(question) = resolution.poll_question() {
            resolution.handle_answer(&question, zone[&question].clone(), &mut random);
        }
        let found = resolution.destinations();
        assert_eq!(found.len(), records.len(), "each once");
        *firsts.entry(found[0].address.ip().to_string()).or_default() += 1;
    }
    firsts
}

#[test]
fn weights_share_the_calls_out() {
    // The number drawn is one of 0 to the sum of the weights, and 0 is for the first without a weight.
    for (records, expected) in [
        (
            &[(1, 30, 5060, "one"), (1, 0, 5060, "two"), (1, 10, 5060, "three")][..],
            [("192.0.2.1", 2_927), ("192.0.2.2", 98), ("192.0.2.3", 976)].as_slice(),
        ),
        (&[(1, 1, 5060, "one"), (1, 0, 5060, "two")], &[("192.0.2.1", 2_000), ("192.0.2.2", 2_000)]),
        (&[(1, 0, 5060, "one"), (1, 0, 5060, "two")], &[("192.0.2.1", 4_000), ("192.0.2.2", 0)]),
        (&[(2, 9, 5060, "one"), (1, 1, 5060, "two")], &[("192.0.2.1", 0), ("192.0.2.2", 4_000)]),
    ] {
        let firsts = firsts(records);
        for (address, expected) in expected {
            let off = firsts.get(*address).unwrap_or(&0) - expected;
            // Three standard deviations either way.
            assert!(off.pow(2) <= 9 * expected, "{records:?}: {firsts:?}");
        }
    }
}

#[test]
fn servers_and_questions_beyond_the_bounds_are_left_out() {
    let names: Vec<String> = (0..40).map(|number| format!("s{number}")).collect();
    let records: Vec<_> = names.iter().map(|name| (1, 0, 5060, name.as_str())).collect();
    let mut zone = Zone::from([srv("_sip._udp.h.test", &records)]);
    zone.extend(names.iter().map(|name| a(name, &["192.0.2.1"])));
    let (asked, found) = resolve("sip:h.test;transport=udp", &[UDP4, UDP6], &zone, 1);
    assert_eq!((asked.len(), asked.last().unwrap().as_str()), (MAX_QUESTIONS, "A s15"));
    assert_eq!(found, ["udp 192.0.2.1:5060"]);
    // However many transports a domain claims to have, questions are left for addresses.
    let offers: Vec<_> = names.iter().map(|name| (1, 1, "s", "SIP+D2U", name.as_str())).collect();
    let mut zone = Zone::from([naptr("h.test", &offers), a("server", &["192.0.2.1"])]);
    zone.extend(names.iter().map(|name| srv(name, &[(1, 0, 5060, "server")])));
    assert_eq!(resolve("sip:h.test", BOTH, &zone, 1).1, ["udp 192.0.2.1:5060"]);
    let many: Vec<String> = (1..40).map(|number| format!("192.0.2.{number}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let zone = Zone::from([a("h.test", &many)]);
    assert_eq!(resolve("sip:h.test:5060", BOTH, &zone, 1).1.len(), MAX_DESTINATIONS);
}

#[test]
fn questions_of_a_round_are_open_together_and_answered_in_any_order() {
    let zone = example();
    let mut random = Tokens::new([1; 32]);
    let mut resolution = Resolution::new(&SipUri::parse("sip:example.com;transport=tcp").unwrap(), BOTH);
    let servers = resolution.poll_question().unwrap();
    assert_eq!(resolution.poll_question(), None, "the next round needs the answer");
    // Neither an answer that nobody asked for, nor one of another kind, changes anything.
    resolution.handle_answer(&A("example.com".into()), a("", &["192.0.2.66"]).1, &mut random);
    assert!(!resolution.is_over());
    resolution.handle_answer(&servers, zone[&servers].clone(), &mut random);
    let (one, two) = (resolution.poll_question().unwrap(), resolution.poll_question().unwrap());
    assert!(resolution.destinations().is_empty());
    resolution.handle_answer(&two, zone[&two].clone(), &mut random);
    assert_eq!(texts(&resolution), ["tcp 192.0.2.2:5060"], "what is known by now can be used");
    resolution.handle_answer(&one, zone[&one].clone(), &mut random);
    resolution.handle_answer(&one, zone[&one].clone(), &mut random);
    assert_eq!(texts(&resolution), ["tcp 192.0.2.1:5060", "tcp 192.0.2.2:5060"]);
}

#[test]
fn name_that_leads_back_to_itself_ends() {
    let zone = Zone::from([
        naptr("h.test", &[(1, 1, "s", "SIP+D2U", "h.test"), (1, 1, "s", "SIP+D2T", "h.test")]),
        srv("h.test", &[(1, 1, 5060, "h.test")]),
    ]);
    check(&zone, &[("sip:h.test", BOTH, &["NAPTR h.test", "SRV h.test", "A h.test"], &[])]);
}

fn any_answer() -> impl Strategy<Value = Answer> {
    let known = ["h.test", "_sip._udp.h.test", "a", ".", ""].map(str::to_owned);
    let name = move || prop_oneof![select(known.to_vec()), ".{0,9}"];
    let services = select(["SIP+D2U", "SIP+D2T", "SIPS+D2T", "sip"].map(str::to_owned).to_vec());
    let flags = select(["s", "S", "a", ""].map(str::to_owned).to_vec());
    let naptr =
        (0u16..3, 0u16..3, flags, services, name()).prop_map(|(order, preference, flags, services, replacement)| {
            Naptr { order, preference, flags, services, replacement }
        });
    let srv = (0u16..3, any::<u16>(), any::<u16>(), name()).prop_map(|(priority, weight, port, target)| Srv {
        priority,
        weight,
        port,
        target,
    });
    prop_oneof![
        proptest::collection::vec(naptr, 0..12).prop_map(Answer::Naptr),
        proptest::collection::vec(srv, 0..24).prop_map(Answer::Srv),
        proptest::collection::vec(any::<IpAddr>(), 0..24).prop_map(Answer::Addresses),
        Just(Answer::Nothing),
    ]
}

proptest! {
    /// Whatever a name service says: it ends, within the bounds, and only what we can send by comes out.
    #[test]
    fn any_zone_is_bounded(
        answers in proptest::collection::vec(any_answer(), 40),
        uri in select(vec!["sip:h.test", "sip:h.test;transport=udp", "sip:h.test:9", "sip:h.test;transport=tcp"]),
        outlets in subsequence(vec![UDP4, TCP4, UDP6], 0..=3),
        seed in any::<u8>(),
    ) {
        let mut resolution = Resolution::new(&SipUri::parse(uri).unwrap(), &outlets);
        let (mut random, mut asked, mut answers) = (Tokens::new([seed; 32]), 0, answers.into_iter());
        while let Some(question) = resolution.poll_question() {
            asked += 1;
            prop_assert!(asked <= MAX_QUESTIONS);
            resolution.handle_answer(&question, answers.next().unwrap(), &mut random);
        }
        prop_assert!(resolution.is_over());
        let found = resolution.destinations();
        prop_assert!(found.len() <= MAX_DESTINATIONS);
        for Destination { transport, address } in &found {
            let by = Outlet { transport: *transport, family: Family::of(address.ip()) };
            prop_assert!(outlets.contains(&by));
        }
    }
}
