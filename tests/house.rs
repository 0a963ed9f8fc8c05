//! The house rules that a compiler does not know: which room may know which, and what the pure ones may not touch.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The arrows between the rooms of `src/`. `server` and `main` wire everything and are not listed.
const ARROWS: &[(&str, &[&str])] = &[
    ("account", &["ids", "secret", "twiml", "usage"]),
    ("allocator", &[]),
    (
        "api",
        &[
            "account",
            "call",
            "clock",
            "concurrency",
            "credit",
            "edges",
            "eventlog",
            "events",
            "hot",
            "ids",
            "presence",
            "provision",
            "recordings",
            "secret",
            "shard",
            "signal",
            "store",
            "streams",
            "telemetry",
            "tls",
            "tokens",
            "twiml",
            "usage",
            "workers",
        ],
    ),
    ("app", &["account", "events", "ids", "secret", "telemetry", "twiml"]),
    ("call", &["account", "events", "ids", "twiml"]),
    (
        "cli",
        &["cluster", "config", "eventlog", "events", "ids", "keeper", "server", "speech", "store", "telemetry", "tls"],
    ),
    ("clock", &[]),
    ("cluster", &[]),
    ("concurrency", &["account", "hot", "ids", "store"]),
    ("credit", &["account", "ids", "usage"]),
    ("config", &["account", "concurrency", "ids", "recordings", "secret", "tls", "twiml", "usage"]),
    ("edges", &["clock", "cluster", "hot"]),
    ("eventlog", &["events", "ids", "presence", "twiml", "usage"]),
    ("events", &["ids", "twiml"]),
    ("hot", &["account", "ids"]),
    ("https", &[]),
    ("ids", &[]),
    ("keeper", &["clock"]),
    // What customers make is in the database, then in the directory, then with the shard.
    ("provision", &["account", "concurrency", "events", "ids", "secret", "shard", "store", "twiml", "usage"]),
    ("presence", &["hot", "ids"]),
    ("proxy", &["api", "tls"]),
    ("recordings", &["call", "events", "https", "ids", "secret", "twiml"]),
    ("secret", &[]),
    (
        "shard",
        &[
            "account",
            "app",
            "call",
            "clock",
            "concurrency",
            "credit",
            "edges",
            "events",
            "hot",
            "ids",
            "presence",
            "speech",
            "telemetry",
            "twiml",
            "usage",
            "workers",
        ],
    ),
    ("signal", &["call", "ids", "tokens"]),
    ("speech", &["app", "twiml"]),
    ("store", &["credit", "eventlog", "events", "hot", "ids", "presence", "twiml", "usage"]),
    ("streams", &["account", "eventlog", "ids", "store"]),
    ("telemetry", &["events", "https", "ids", "twiml", "usage"]),
    ("tls", &[]),
    ("tokens", &["account", "ids", "secret"]),
    ("twiml", &["ids"]),
    ("usage", &["events", "ids"]),
    ("workers", &["clock", "cluster", "ids"]),
];

/// What decides is pure: no clock, no lock, no task, no socket.
const PURE: &[&str] = &[
    "src/call",
    "src/twiml",
    "src/usage",
    "src/eventlog",
    "src/presence/book.rs",
    "src/presence/record.rs",
    "src/tokens",
    "src/credit",
    "src/concurrency/scope.rs",
    "src/concurrency/slots.rs",
    "src/hot/holds.rs",
    "src/hot/memory.rs",
    "src/signal",
    "src/shard/browsers.rs",
    "src/shard/core.rs",
    "src/shard/gate.rs",
    "src/shard/neighbours.rs",
    "src/shard/outbound.rs",
    "src/shard/effects.rs",
    "src/shard/fresh.rs",
    "src/shard/orders.rs",
    "src/shard/streams.rs",
    "src/workers/balancer.rs",
    "src/workers/book.rs",
    "src/workers/pool.rs",
    "src/workers/pool/links.rs",
    "src/workers/selection.rs",
];
const IMPURE: &[&str] = &[
    "tokio::",
    "Instant::now",
    "SystemTime",
    "Mutex",
    "RwLock",
    "thread::",
    "std::net::UdpSocket",
    "std::fs",
    "getrandom",
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn sources(under: &Path) -> Vec<PathBuf> {
    if under.is_file() {
        return vec![under.to_owned()];
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(under).unwrap_or_else(|error| panic!("{}: {error}", under.display())) {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

/// The lines of code: comments say what they like.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

fn room_of(path: &Path) -> String {
    let inside = path.strip_prefix(root().join("src")).unwrap();
    let first = inside.components().next().unwrap().as_os_str().to_str().unwrap();
    first.trim_end_matches(".rs").to_owned()
}

/// The rooms that a text names as `crate::ROOM`.
fn named_rooms(text: &str) -> BTreeSet<String> {
    let names = text
        .split("crate::")
        .skip(1)
        .map(|rest| rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>());
    names.filter(|name| !name.is_empty()).collect()
}

#[test]
fn rooms_know_only_the_rooms_that_they_may() {
    let mut real: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for path in sources(&root().join("src")) {
        real.entry(room_of(&path)).or_default().extend(named_rooms(&code(&path)));
    }
    let allowed: BTreeMap<&str, &[&str]> = ARROWS.iter().copied().collect();
    let mut wrong = Vec::new();
    for (room, targets) in real.iter().filter(|(room, _)| !["main", "lib", "server"].contains(&room.as_str())) {
        let may = allowed.get(room.as_str()).unwrap_or_else(|| panic!("the room {room} has no line in ARROWS"));
        wrong.extend(
            targets
                .iter()
                .filter(|target| *target != room && !may.contains(&target.as_str()))
                .map(|target| format!("{room} -> {target}")),
        );
    }
    assert!(wrong.is_empty(), "arrows that the design does not have: {wrong:?}");
}

#[test]
fn arrows_in_the_table_exist() {
    for (room, targets) in ARROWS {
        let folder = root().join("src").join(room);
        let path = if folder.is_dir() { folder } else { root().join("src").join(format!("{room}.rs")) };
        let named: BTreeSet<String> = sources(&path).iter().flat_map(|path| named_rooms(&code(path))).collect();
        for target in *targets {
            assert!(named.contains(*target), "{room} -> {target} stands in the table, but no source has it");
        }
    }
}

#[test]
fn what_decides_touches_no_clock_lock_task_or_socket() {
    let mut wrong = Vec::new();
    for path in PURE.iter().flat_map(|pure| sources(&root().join(pure))) {
        let text = code(&path);
        wrong.extend(
            IMPURE.iter().filter(|word| text.contains(**word)).map(|word| format!("{}: {word}", path.display())),
        );
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn sip_and_media_know_nothing_of_each_other_or_of_the_server() {
    for (name, forbidden) in [("sip", ["dialtone-media", "dialtone"]), ("media", ["dialtone-sip", "dialtone"])] {
        let manifest: toml::Table = fs::read_to_string(root().join(name).join("Cargo.toml")).unwrap().parse().unwrap();
        for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
            let Some(table) = manifest.get(section).and_then(toml::Value::as_table) else { continue };
            for crate_name in forbidden {
                assert!(!table.contains_key(crate_name), "{name} depends on {crate_name}");
            }
        }
    }
}

#[test]
fn clocks_are_allowed_in_transport_and_worker_only() {
    for (name, room) in [("sip", "transport"), ("media", "worker")] {
        let lint = fs::read_to_string(root().join(name).join("clippy.toml")).unwrap();
        for banned in
            ["std::time::Instant::now", "std::time::SystemTime::now", "std::thread::sleep", "std::sync::Mutex"]
        {
            assert!(lint.contains(banned), "{name}/clippy.toml does not ban {banned}");
        }
        let source = root().join(name).join("src");
        let lifted = sources(&source)
            .into_iter()
            .filter(|path| fs::read_to_string(path).unwrap().contains("#![allow(clippy::disallowed"));
        let outside: Vec<_> = lifted.filter(|path| !path.starts_with(source.join(room))).collect();
        assert!(outside.is_empty(), "the ban is lifted in {outside:?}");
    }
}
