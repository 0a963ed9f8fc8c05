//! The store on databases of its own, of both kinds: each test runs with SQLite and with PostgreSQL.

use std::collections::HashSet;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use sqlx::AssertSqlSafe;
use sqlx::any::AnyPoolOptions;

use super::migrations::NEWEST;
use super::writer::write_until_done;
use super::*;
use crate::events::{
    CallStatus, Completed, Direction, EndedBy, Event, EventKind, Media, Notification, OrderFact, Told,
};
use crate::ids::{AccountSid, CallSid, EventSid};
use crate::twiml::{Notice, Severity};
use crate::usage::{Unit, Used};

const ACCOUNT: AccountSid = AccountSid::new(1);

/// Runs a test with a database of either kind. Without a PostgreSQL the half that wants one fails.
macro_rules! on_both {
    ($($name:ident($url:ident) $body:block)*) => {
        $(mod $name {
            use super::*;

            async fn test($url: &str) $body

            #[tokio::test]
            async fn sqlite() {
                let file = File::new();
                test(&file.url()).await;
            }

            #[tokio::test]
            async fn postgres() {
                test(&postgres_database().await).await;
            }
        })*
    };
}

mod credit;
mod holds;
mod log;
mod plans;
mod usage;

/// A database file, gone with the test.
struct File(PathBuf);

static NUMBER: AtomicU32 = AtomicU32::new(0);

impl File {
    fn new() -> File {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        File(std::env::temp_dir().join(format!("dialtone-store-{}-{number}.db", std::process::id())))
    }

    fn url(&self) -> String {
        format!("sqlite://{}", self.0.display())
    }
}

impl Drop for File {
    fn drop(&mut self) {
        for suffix in ["", "-wal", "-shm"] {
            let _ = std::fs::remove_file(format!("{}{suffix}", self.0.display()));
        }
    }
}

/// The URL of an empty database. They go with the whole PostgreSQL, which is made for the tests.
async fn postgres_database() -> String {
    let server = std::env::var("DIALTONE_TEST_POSTGRES").expect(
        "DIALTONE_TEST_POSTGRES names no server: tests/run starts one, and so does tests/postgres start FOLDER",
    );
    let name = format!("store_{}_{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
    let admin = connect(&server).await;
    // A server that is used again may have one of a process of the same number.
    for text in [format!("DROP DATABASE IF EXISTS {name}"), format!("CREATE DATABASE {name}")] {
        sqlx::query(AssertSqlSafe(text)).execute(&admin).await.unwrap();
    }
    admin.close().await;
    format!("{}/{name}", server.rsplit_once('/').unwrap().0)
}

/// A connection beside the store's.
async fn connect(url: &str) -> sqlx::AnyPool {
    sqlx::any::install_default_drivers();
    let mode = if url.starts_with("sqlite") { "?mode=rwc" } else { "" };
    AnyPoolOptions::new().max_connections(1).connect(&format!("{url}{mode}")).await.unwrap()
}

fn calls(finished: &[Finished]) -> Batch {
    Batch { finished: finished.to_vec(), ..Batch::default() }
}

fn finished(number: u128) -> Finished {
    let completed = Completed {
        status: CallStatus::Completed,
        sip_status: 200,
        ended_by: EndedBy::Peer,
        media: Media::default(),
        recorded: None,
    };
    let record = CallRecord {
        sid: CallSid::new(number),
        account: ACCOUNT,
        direction: Direction::Inbound,
        from: "+15551".into(),
        to: "+15552".into(),
        parent: None,
        via: "carrier".into(),
        sip_call_id: "a@b".into(),
        stir_verstat: Some("TN-Validation-Passed-A".into()),
        queue_ms: 1_500,
        status: CallStatus::Completed,
        started_ms: 1_000,
        answered_ms: Some(2_000),
        ended_ms: Some(4_500),
        completed: Some(Box::new(completed)),
        status_callback: None,
        callbacks: 0,
        events: Vec::new(),
    };
    let line = LedgerLine {
        event: EventSid::new(number),
        account: ACCOUNT,
        call: record.sid,
        service: "voice",
        module: "",
        category: "calls-inbound",
        quantity: 3,
        unit: Unit::Seconds,
        at_ms: 4_500,
        called: String::new(),
        correction: None,
    };
    Finished { record, line }
}

fn row(kind: Kind, parent: &str, sid: &str, name: Option<&str>) -> Resource {
    Resource {
        kind,
        parent: parent.into(),
        sid: sid.into(),
        account: ACCOUNT.to_string(),
        unique_name: name.map(str::to_owned),
        detail: r#"{"a":1}"#.into(),
        created_ms: 5,
        updated_ms: 6,
    }
}

const STRANGER: &str = "AC00000000000000000000000000000002";

fn order(call: u128, node: &str, text: &str) -> Event {
    let fact = OrderFact { node: node.into(), queued_ms: 5, order: text.into() };
    let kind = EventKind::Order(Box::new(fact));
    let id = EventSid::new(call * 10 + u128::from(text.is_empty()));
    Event { id, account: ACCOUNT, call: CallSid::new(call), sequence: 0, at_ms: 7, kind }
}

on_both! {
    calls_of_every_batch_size_are_read_back_as_they_were_and_written_once(url) {
        let store = Store::open(url).await.unwrap();
        let all: Vec<Finished> = (1..=256 + 64 + 2 * 8 + 3).map(finished).collect();
        store.write(&calls(&all)).await.unwrap();
        store.write(&calls(&all[40..])).await.unwrap();
        let read = store.calls(Some(ACCOUNT), 1_000).await.unwrap();
        assert!(read.iter().eq(all.iter().rev().map(|finished| &finished.record)), "the newest first");
        assert_eq!(store.ledger_lines().await.unwrap(), all.len() as u64);
        assert_eq!(store.calls(Some(AccountSid::new(2)), 10).await.unwrap(), []);
    }

    orders_wait_in_the_store_of_their_server_until_their_turn(url) {
        let store = Store::open(url).await.unwrap();
        let facts = |facts: &[Event]| Batch { facts: facts.to_vec(), ..Batch::default() };
        let (first, second, other) = (order(1, "here", "one"), order(2, "here", "two"), order(3, "there", "three"));
        store.write(&facts(&[first.clone(), second.clone(), other])).await.unwrap();
        let waiting = store.claim_orders("here", "here").await.unwrap();
        assert_eq!((waiting.len(), waiting[&CallSid::new(2)].order.as_str()), (2, "two"));
        // Its turn has come; the journal tells all of it again.
        let gone = order(1, "here", "");
        store.write(&facts(std::slice::from_ref(&gone))).await.unwrap();
        store.write(&facts(&[first, second, gone])).await.unwrap();
        let waiting = store.claim_orders("here", "here").await.unwrap();
        assert_eq!(waiting.keys().copied().collect::<Vec<_>>(), [CallSid::new(2)]);
        assert_eq!(store.claim_orders("there", "there").await.unwrap().len(), 1);
    }

    orders_of_a_dead_edge_are_taken_over_by_one_other_and_never_come_back(url) {
        let store = Store::open(url).await.unwrap();
        let facts = |facts: &[Event]| Batch { facts: facts.to_vec(), ..Batch::default() };
        let (early, late, later) = (order(1, "aa@100", "one"), order(2, "aa@200", "two"), order(3, "aa@300", "three"));
        store.write(&facts(&[early.clone(), late, later, order(4, "bb@150", "four")])).await.unwrap();
        let (one, other) = tokio::join!(store.claim_orders("aa@200", "bb@150"), store.claim_orders("aa@200", "cc@150"));
        let mut taken = [one.unwrap().len(), other.unwrap().len()];
        taken.sort_unstable();
        assert_eq!(taken, [0, 2], "one has both of this life and an earlier one; what is of a later life is another's");
        let waiting = store.claim_orders("aa@400", "aa@400").await.unwrap();
        assert_eq!(waiting.keys().copied().collect::<Vec<_>>(), [CallSid::new(3)], "the node that is back has what is left");
        // What its journal tells again changes nothing, and is known to be another's, whether that has made the call or not.
        store.write(&facts(std::slice::from_ref(&early))).await.unwrap();
        assert!(store.has_order(CallSid::new(1)).await.unwrap());
        store.write(&facts(&[order(1, "bb@150", "")])).await.unwrap();
        store.write(&facts(&[early])).await.unwrap();
        assert!(store.has_order(CallSid::new(1)).await.unwrap());
        for (from, me) in [("aa@400", "aa@400"), ("bb@150", "bb@150"), ("cc@150", "cc@150")] {
            let waiting = store.claim_orders(from, me).await.unwrap();
            assert!(!waiting.contains_key(&CallSid::new(1)), "it was made");
        }
    }

    deleted_call_stays_deleted_though_the_journal_tells_it_again(url) {
        let store = Store::open(url).await.unwrap();
        store.write(&calls(&[finished(1), finished(2)])).await.unwrap();
        assert!(!store.delete_call(AccountSid::new(2), CallSid::new(1)).await.unwrap(), "of another account");
        assert!(store.delete_call(ACCOUNT, CallSid::new(1)).await.unwrap());
        assert!(!store.delete_call(ACCOUNT, CallSid::new(1)).await.unwrap(), "only once");
        store.write(&calls(&[finished(1)])).await.unwrap();
        assert_eq!(store.call(CallSid::new(1)).await.unwrap(), None);
        assert_eq!(store.calls(None, 10).await.unwrap().len(), 1);
        assert_eq!(store.calls(Some(ACCOUNT), 10).await.unwrap().len(), 1);
        assert_eq!(store.find_calls(ACCOUNT, &CallFilter::default(), 10).await.unwrap().len(), 1);
        assert_eq!(store.deleted_calls(ACCOUNT, CallSid::new(1)).await.unwrap(), HashSet::from([CallSid::new(1)]));
        assert_eq!(store.deleted_calls(ACCOUNT, CallSid::new(2)).await.unwrap(), HashSet::new());
        assert_eq!(store.ledger_lines().await.unwrap(), 2, "what was used was used");
        store.close().await;
        if let Some(path) = url.strip_prefix("sqlite://") {
            let bytes = std::fs::read(path).unwrap();
            // In the row, and in the index of callers.
            let left = bytes.windows(6).filter(|text| *text == b"+15551").count();
            assert_eq!(left, 2, "nothing of it is left in the file");
        }
    }

    every_filter_finds_what_it_names_and_nothing_else(url) {
        let store = Store::open(url).await.unwrap();
        let hour = 3_600_000;
        let mut all: Vec<Finished> = (0..30).map(|number| at(100 * hour + number * hour)).collect();
        all[3].record.to = "+15553".into();
        all[4].record.from = "sip:a@b".into();
        all[5].record.status = CallStatus::Busy;
        all[6].record.parent = Some(all[0].record.sid);
        // The longest that there may be.
        all[7].record.ended_ms = Some(all[7].record.started_ms + 24 * hour);
        store.write(&calls(&all)).await.unwrap();
        let between = |from: u64, below: u64| Moment { from_ms: Some(from * hour), below_ms: Some(below * hour) };
        let any = CallFilter::default;
        for (name, filter) in [
            ("all", any()),
            ("to", CallFilter { to: Some("+15553".into()), ..any() }),
            ("from", CallFilter { from: Some("sip:a@b".into()), ..any() }),
            ("nobody", CallFilter { to: Some("a\0b".into()), ..any() }),
            ("status", CallFilter { status: Some(CallStatus::Busy), ..any() }),
            ("parent", CallFilter { parent: Some(all[0].record.sid), ..any() }),
            ("page", CallFilter { before: Some(all[9].record.sid), ..any() }),
            ("started", CallFilter { started: between(103, 107), ..any() }),
            ("started later", CallFilter { started: Moment { from_ms: Some(110 * hour), below_ms: None }, ..any() }),
            ("ended", CallFilter { ended: between(131, 132), ..any() }),
            ("ended before", CallFilter { ended: Moment { from_ms: None, below_ms: Some(103 * hour) }, ..any() }),
            ("both", CallFilter { started: between(100, 110), to: Some("+15553".into()), ..any() }),
        ] {
            let expected: Vec<CallRecord> =
                all.iter().rev().map(|one| one.record.clone()).filter(|record| filter.takes(record)).collect();
            assert_eq!(store.find_calls(ACCOUNT, &filter, 1_000).await.unwrap(), expected, "{name}");
            assert!(name == "nobody" || !expected.is_empty(), "{name} shows nothing");
            assert_eq!(store.find_calls(AccountSid::new(2), &filter, 1_000).await.unwrap(), [], "{name} of a stranger");
        }
    }

    resource_is_found_changed_and_deleted_by_its_account_only(url) {
        let store = Store::open(url).await.unwrap();
        let mine = ACCOUNT.to_string();
        let made = row(Kind::Number, "", "PN1", Some("+1555"));
        store.create(&made).await.unwrap();
        assert_eq!(store.fetch(&mine, Kind::Number, "", "PN1").await.unwrap(), Some(made.clone()));
        assert_eq!(store.fetch(STRANGER, Kind::Number, "", "PN1").await.unwrap(), None);
        assert_eq!(store.fetch(&mine, Kind::Domain, "", "PN1").await.unwrap(), None, "of another kind");
        let changed = Resource { detail: "{}".into(), updated_ms: 7, unique_name: None, ..made.clone() };
        assert!(!store.update(STRANGER, &changed).await.unwrap());
        assert!(store.update(&mine, &changed).await.unwrap());
        assert_eq!(store.fetch(&mine, Kind::Number, "", "PN1").await.unwrap(), Some(changed.clone()));
        assert!(!store.delete(STRANGER, Kind::Number, "", "PN1").await.unwrap());
        let moved = Resource { account: STRANGER.into(), ..changed };
        assert!(store.update(&mine, &moved).await.unwrap());
        assert_eq!(store.fetch(&mine, Kind::Number, "", "PN1").await.unwrap(), None, "it is another's now");
        assert!(store.delete(STRANGER, Kind::Number, "", "PN1").await.unwrap());
        assert!(!store.delete(STRANGER, Kind::Number, "", "PN1").await.unwrap(), "only once");
        assert_eq!(store.all_resources().await.unwrap(), []);
    }

    name_is_taken_once_in_its_kind(url) {
        let store = Store::open(url).await.unwrap();
        store.create(&row(Kind::Domain, "", "SD1", Some("a.example"))).await.unwrap();
        let again = store.create(&row(Kind::Domain, "", "SD2", Some("a.example"))).await;
        assert!(matches!(again, Err(StoreError::Taken)), "{again:?}");
        store.create(&row(Kind::Trunk, "", "TK1", Some("a.example"))).await.unwrap();
        store.create(&row(Kind::Domain, "", "SD3", Some("b.example"))).await.unwrap();
        let renamed = store.update(&ACCOUNT.to_string(), &row(Kind::Domain, "", "SD3", Some("a.example"))).await;
        assert!(matches!(renamed, Err(StoreError::Taken)), "{renamed:?}");
        for sid in ["CL1", "CL2"] {
            store.create(&row(Kind::CredentialList, "", sid, None)).await.unwrap();
        }
        let twice = store.create(&row(Kind::CredentialList, "", "CL2", None)).await;
        assert!(matches!(twice, Err(StoreError::Taken)), "the same key");
    }

    list_with_its_members_and_uses_is_deleted_as_one(url) {
        let store = Store::open(url).await.unwrap();
        for row in [
            row(Kind::CredentialList, "", "CL1", None),
            row(Kind::Credential, "CL1", "CR1", Some("CL1 bob")),
            row(Kind::CallCredentials, "SD1", "CL1", None),
            row(Kind::CredentialList, "", "CL2", None),
        ] {
            store.create(&row).await.unwrap();
        }
        assert!(!store.delete_with_uses(STRANGER, "CL1").await.unwrap());
        assert_eq!(store.all_resources().await.unwrap().len(), 4);
        assert!(store.delete_with_uses(&ACCOUNT.to_string(), "CL1").await.unwrap());
        let left: Vec<String> = store.all_resources().await.unwrap().into_iter().map(|row| row.sid).collect();
        assert_eq!(left, ["CL2"]);
    }

    pages_follow_one_another_the_newest_first(url) {
        let store = Store::open(url).await.unwrap();
        for number in 0..7 {
            store.create(&row(Kind::Application, "", &format!("AP{number}"), None)).await.unwrap();
        }
        store.create(&Resource { account: STRANGER.into(), ..row(Kind::Application, "", "AP9", None) }).await.unwrap();
        let account = ACCOUNT.to_string();
        let (mut seen, mut before) = (Vec::new(), None);
        loop {
            let listed =
                Listed { account: &account, kind: Kind::Application, parent: "", before: before.as_deref(), limit: 3 };
            let page = store.list(&listed).await.unwrap();
            let Some(last) = page.last() else { break };
            before = Some(last.sid.clone());
            seen.extend(page.into_iter().map(|row| row.sid));
        }
        assert_eq!(seen, ["AP6", "AP5", "AP4", "AP3", "AP2", "AP1", "AP0"]);
    }

    notifications_are_written_with_their_call_and_go_with_it(url) {
        let store = Store::open(url).await.unwrap();
        let day = 24 * 3_600_000;
        let mut all: Vec<Finished> = (100..106).map(|number| at(number * day)).collect();
        for (number, one) in all.iter_mut().enumerate() {
            let severity = if number % 2 == 0 { Severity::Error } else { Severity::Warning };
            let notice = Notice { code: 11_200, severity, text: "no".into(), url: "http://h/".into() };
            // The last is told as late as a call can be.
            let at_ms = one.record.started_ms + if number == 5 { day } else { 5 };
            one.record.events = vec![
                Told { sequence: 1, at_ms, kind: EventKind::Ringing },
                Told { sequence: 2, at_ms, kind: EventKind::Noticed(notice) },
            ];
        }
        store.write(&Batch { finished: all.clone(), ..Batch::default() }).await.unwrap();
        store.write(&Batch { finished: all.clone(), ..Batch::default() }).await.unwrap();
        let mut expected: Vec<Notification> = all.iter().flat_map(|one| one.record.notifications()).collect();
        expected.reverse();
        assert_eq!(expected.len(), 6);
        let any = NotificationFilter::default;
        for filter in [
            any(),
            NotificationFilter { severity: Some(Severity::Warning), ..any() },
            NotificationFilter { before: Some(expected[2].sid), ..any() },
            NotificationFilter { at: Moment { from_ms: Some(106 * day), below_ms: None }, ..any() },
            NotificationFilter { at: Moment { from_ms: Some(102 * day), below_ms: Some(103 * day) }, ..any() },
        ] {
            let expected: Vec<_> = expected.iter().filter(|one| filter.takes(one)).cloned().collect();
            assert!(!expected.is_empty(), "{filter:?} shows nothing");
            assert_eq!(store.find_notifications(ACCOUNT, &filter, 100).await.unwrap(), expected, "{filter:?}");
            assert_eq!(store.find_notifications(AccountSid::new(2), &filter, 100).await.unwrap(), []);
        }
        let one = &expected[0];
        assert_eq!(store.notification(ACCOUNT, one.sid).await.unwrap().as_ref(), Some(one));
        assert_eq!(store.notification(AccountSid::new(2), one.sid).await.unwrap(), None);
        assert!(store.delete_call(ACCOUNT, one.call).await.unwrap());
        store.write(&Batch { finished: all, ..Batch::default() }).await.unwrap();
        assert_eq!(store.notification(ACCOUNT, one.sid).await.unwrap(), None, "though the journal told the call again");
    }

    ledger_is_added_up_by_category_and_day(url) {
        let store = Store::open(url).await.unwrap();
        let day = 24 * 3_600_000;
        let mut all: Vec<Finished> = (1..=7).map(finished).collect();
        for (number, one) in (0_u64..).zip(&mut all) {
            one.line.at_ms = (10 + number / 3) * day + number;
            one.line.quantity = 60 * number + 1;
        }
        all[1].line.category = "calls-outbound";
        all[2].line.account = AccountSid::new(2);
        store.write(&Batch { finished: all, ..Batch::default() }).await.unwrap();
        let span = Moment { from_ms: Some(10 * day), below_ms: Some(12 * day) };
        let mut used = store.used(&[ACCOUNT, AccountSid::new(2)], span).await.unwrap();
        used.sort_by(|one, other| (&one.category, one.day, one.usage).cmp(&(&other.category, other.day, other.usage)));
        let expected = |category: &str, day, count, usage| Used { category: category.into(), day, count, usage, price: 0 };
        assert_eq!(
            used,
            [
                expected("calls-inbound", 10, 1, 1),
                expected("calls-inbound", 10, 1, 3),
                expected("calls-inbound", 11, 3, 4 + 5 + 6),
                expected("calls-outbound", 10, 1, 2),
            ]
        );
        assert_eq!(store.used(&[AccountSid::new(2)], span).await.unwrap().len(), 1);
        assert_eq!(store.first_use(&[ACCOUNT, AccountSid::new(3)]).await.unwrap(), Some(10 * day));
        assert_eq!(store.first_use(&[AccountSid::new(3)]).await.unwrap(), None);
    }

    servers_that_start_at_once_migrate_once(url) {
        let opened: Vec<_> = (0..6).map(|_| tokio::spawn({ let url = url.to_owned(); async move { Store::open(&url).await.map(drop) } })).collect();
        for one in opened {
            one.await.unwrap().unwrap();
        }
        let database = connect(url).await;
        let row = sqlx::query("SELECT CAST(count(*) AS BIGINT), CAST(max(version) AS BIGINT) FROM schema_version")
            .fetch_one(&database)
            .await
            .unwrap();
        assert_eq!((row.get::<i64, _>(0), row.get::<i64, _>(1)), (NEWEST as i64, NEWEST as i64));
    }

    database_of_a_newer_program_is_refused(url) {
        Store::open(url).await.unwrap().close().await;
        let database = connect(url).await;
        sqlx::query("INSERT INTO schema_version (version, applied_ms) VALUES (99, 0)").execute(&database).await.unwrap();
        let error = Store::open(url).await.err().unwrap();
        assert!(matches!(error, StoreError::TooNew { version: 99, known: NEWEST }), "{error}");
    }

    database_without_a_version_is_taken_over_with_its_calls(url) {
        let store = Store::open(url).await.unwrap();
        store.write(&calls(&[finished(1)])).await.unwrap();
        store.close().await;
        let database = connect(url).await;
        for statement in [
            "DROP TABLE schema_version",
            "DROP TABLE resources",
            "DROP TABLE records",
            "DROP TABLE notifications",
            "DROP TABLE usage_days",
            "DROP TABLE trigger_fires",
            "DROP INDEX ledger_corrections",
            "DROP INDEX ledger_corrections_once",
            "DROP TABLE event_heads",
            "DROP TABLE event_log",
            "DROP TABLE sink_cursors",
            "DROP TABLE presence",
            "DROP TABLE credit",
            "ALTER TABLE ledger DROP COLUMN price",
            "ALTER TABLE ledger DROP COLUMN rule",
            "DROP TABLE holders",
            "DROP TABLE holds",
            "DROP INDEX calls_by_to",
            "DROP INDEX calls_by_from",
            "DROP INDEX calls_by_status",
            "DROP INDEX calls_by_parent",
        ] {
            sqlx::query(statement).execute(&database).await.unwrap();
        }
        let store = Store::open(url).await.unwrap();
        assert_eq!(store.calls(Some(ACCOUNT), 10).await.unwrap(), [finished(1).record]);
        store.create(&row(Kind::Number, "", "PN1", None)).await.unwrap();
    }

    interrupted_migration_leaves_nothing_and_is_made_by_the_next_start(url) {
        let database = connect(url).await;
        // Stands in the way of the second step.
        sqlx::query("CREATE TABLE resources (sid TEXT)").execute(&database).await.unwrap();
        assert!(Store::open(url).await.is_err());
        let calls = sqlx::query("SELECT sid FROM calls").execute(&database).await;
        assert!(calls.is_err(), "the first step was made and kept");
        sqlx::query("DROP TABLE resources").execute(&database).await.unwrap();
        Store::open(url).await.unwrap();
    }
}

/// A call of one second that began then.
fn at(started_ms: u64) -> Finished {
    let mut made = finished(u128::from(started_ms));
    made.record.sid = CallSid::at(started_ms, 7);
    made.record.started_ms = started_ms;
    made.record.answered_ms = Some(started_ms);
    made.record.ended_ms = Some(started_ms + 1_000);
    made
}

/// A PostgreSQL that a test may stop, gone with it.
struct Server {
    folder: PathBuf,
    url: String,
}

impl Server {
    fn start() -> Server {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("dialtone-postgres-{}-{number}", std::process::id()));
        let mut server = Server { folder, url: String::new() };
        server.url = server.control("start");
        server
    }

    fn control(&self, verb: &str) -> String {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/postgres");
        let done = Command::new(script).arg(verb).arg(&self.folder).output().unwrap();
        assert!(done.status.success(), "{verb}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap().trim().to_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/postgres");
        let _ = Command::new(script).arg("stop").arg(&self.folder).output();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

#[tokio::test]
async fn postgres_that_stops_and_comes_back_loses_and_doubles_nothing() {
    let server = Server::start();
    let store = Store::open(&server.url).await.unwrap();
    store.write(&calls(&[finished(1)])).await.unwrap();
    server.control("stop");
    assert!(!store.is_up().await);
    assert!(store.create(&row(Kind::Number, "", "PN1", None)).await.is_err(), "nobody is told that it was written");
    let writing = tokio::spawn({
        let store = store.clone();
        async move { write_until_done(&store, &calls(&[finished(1), finished(2)])).await }
    });
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    assert!(!writing.is_finished());
    server.control("start");
    writing.await.unwrap();
    assert!(store.is_up().await);
    assert_eq!(store.calls(Some(ACCOUNT), 10).await.unwrap(), [finished(2).record, finished(1).record]);
    assert_eq!(store.ledger_lines().await.unwrap(), 2);
    store.create(&row(Kind::Number, "", "PN1", None)).await.unwrap();
    store.close().await;
}

/// The sids of everything that customers have made.
async fn sids(store: &Store) -> Vec<String> {
    store.all_resources().await.unwrap().into_iter().map(|row| row.sid).collect()
}

#[tokio::test]
async fn backup_of_a_store_in_use_is_whole_and_comes_back() {
    let (file, copy) = (File::new(), File::new());
    let store = Store::open(&file.url()).await.unwrap();
    let calls = |from: u128| Batch { finished: (from..from + 500).map(finished).collect(), ..Batch::default() };
    store.write(&calls(1)).await.unwrap();
    store.create(&row(Kind::Number, "", "PN1", None)).await.unwrap();
    // Others go on writing.
    let writing = tokio::spawn({
        let (store, more) = (store.clone(), calls(1_000));
        async move { store.write(&more).await.unwrap() }
    });
    let waiting = Batch { facts: vec![order(77, "here", "one")], ..Batch::default() };
    store.write(&waiting).await.unwrap();
    backup(&file.url(), &copy.0).await.unwrap();
    writing.await.unwrap();
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(std::fs::metadata(&copy.0).unwrap().permissions().mode() & 0o777, 0o600, "there are tokens in it");
    assert!(matches!(backup(&file.url(), &copy.0).await, Err(BackupError::Exists(_))));

    store.create(&row(Kind::Number, "", "PN2", None)).await.unwrap();
    assert!(matches!(restore(&file.url(), &copy.0).await, Err(BackupError::InUse(_))), "the store is open");
    store.close().await;
    let before = File(restore(&file.url(), &copy.0).await.unwrap().unwrap());
    let store = Store::open(&file.url()).await.unwrap();
    assert_eq!(sids(&store).await, ["PN1"]);
    assert!(store.claim_orders("here", "here").await.unwrap().is_empty(), "what waited then is not made again");
    let found = store.calls(Some(ACCOUNT), 2_000).await.unwrap().len();
    assert!(found == 500 || found == 1_000, "all of a transaction or nothing: {found}");
    assert_eq!(store.ledger_lines().await.unwrap(), found as u64);
    store.close().await;
    let store = Store::open(&before.url()).await.unwrap();
    assert_eq!(sids(&store).await, ["PN1", "PN2"], "the database of before is kept");
    store.close().await;
    assert!(matches!(restore(&file.url(), &copy.0).await, Err(BackupError::Exists(_))), "it is not overwritten");
}

#[tokio::test]
async fn new_database_is_readable_by_its_owner_only_and_an_old_one_keeps_its_rights() {
    use std::os::unix::fs::PermissionsExt;
    let file = File::new();
    let store = Store::open(&file.url()).await.unwrap();
    store.create(&row(Kind::Account, "", "AC1", None)).await.unwrap();
    let mode =
        |end: &str| std::fs::metadata(format!("{}{end}", file.0.display())).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(""), mode("-wal")), (0o600, 0o600), "there are tokens in it");
    store.close().await;
    std::fs::set_permissions(&file.0, std::fs::Permissions::from_mode(0o640)).unwrap();
    Store::open(&file.url()).await.unwrap();
    assert_eq!(mode(""), 0o640);
}

#[tokio::test]
async fn what_is_no_backup_is_not_restored() {
    let (file, other) = (File::new(), File::new());
    Store::open(&file.url()).await.unwrap().close().await;
    let refused = async |why: &str| {
        let told = restore(&file.url(), &other.0).await.unwrap_err().to_string();
        assert!(told.contains(why), "{told}");
    };
    refused("not found").await;
    std::fs::write(&other.0, "this is a text, and no database at all").unwrap();
    refused("is no backup").await;
    std::fs::remove_file(&other.0).unwrap();
    let database = connect(&other.url()).await;
    sqlx::query("CREATE TABLE schema_version (version BIGINT)").execute(&database).await.unwrap();
    refused("version").await;
    sqlx::query("INSERT INTO schema_version VALUES (99)").execute(&database).await.unwrap();
    refused("newer program").await;
    database.close().await;
    Store::open(&file.url()).await.unwrap().close().await;
    let told = backup("postgres://me:s3cret@host/dialtone", &other.0).await.unwrap_err().to_string();
    assert!(told.contains("pg_dump") && !told.contains("s3cret"), "{told}");
}

#[tokio::test]
async fn password_of_a_url_is_not_told() {
    for url in [
        "postgres://me:s3cret@127.0.0.1:1/none",
        "postgres://me:s3cret@127.0.0.1:99999/none",
        "postgres://me:s3cret@[::/none",
        "postgres://me:s3cret@127.0.0.1/none?sslmode=s3cret-no",
        "mysql://me:s3cret@127.0.0.1/none",
    ] {
        let error = Store::open(url).await.err().unwrap();
        assert!(!format!("{error} {error:?}").contains("me:s3cret"), "{error:?}");
    }
}

#[tokio::test]
async fn database_of_the_first_form_is_taken_over_with_its_calls() {
    let file = File::new();
    {
        let old = connect(&file.url()).await;
        for statement in [
            "CREATE TABLE calls (
                sid TEXT NOT NULL PRIMARY KEY, account TEXT NOT NULL, direction TEXT NOT NULL, from_address TEXT NOT NULL,
                to_address TEXT NOT NULL, parent TEXT, via TEXT NOT NULL, sip_call_id TEXT NOT NULL, status TEXT NOT NULL,
                started_ms BIGINT NOT NULL, answered_ms BIGINT, ended_ms BIGINT NOT NULL, duration_s BIGINT NOT NULL,
                record TEXT NOT NULL)",
            "CREATE INDEX calls_by_account ON calls (account, started_ms)",
            "CREATE INDEX calls_by_time ON calls (started_ms)",
        ] {
            sqlx::query(statement).execute(&old).await.unwrap();
        }
        let Finished { record, .. } = finished(1);
        sqlx::query("INSERT INTO calls VALUES (?,?,'inbound','+15551','+15552',NULL,'carrier','a@b','completed',1000,2000,4500,3,?)")
            .bind(record.sid.to_string())
            .bind(ACCOUNT.to_string())
            .bind(serde_json::to_string(&record).unwrap())
            .execute(&old)
            .await
            .unwrap();
        old.close().await;
    }
    for _ in 0..2 {
        let store = Store::open(&file.url()).await.unwrap();
        store.write(&calls(&[finished(2)])).await.unwrap();
        let read = store.calls(Some(ACCOUNT), 10).await.unwrap();
        assert_eq!(read, [finished(2).record, finished(1).record]);
        store.close().await;
    }
}
