//! How lists of calls are found among many: by an index, whatever they are filtered by, and soon.
//!
//! With `DIALTONE_TEST_CALLS=1000000` there are as many calls, and half of all lists must come within 5 ms:
//!
//!     DIALTONE_TEST_CALLS=1000000 cargo nextest run --release -E 'test(plans)' --no-capture

use std::time::{Duration, Instant};

use super::*;

/// Enough that a database does not read all of them because they are few.
const USUAL: u64 = 20_000;
const MONTH_MS: u64 = 30 * 24 * 3_600_000;
const BEGAN_MS: u64 = 1_790_000_000_000;
const GOAL: Duration = Duration::from_millis(5);

/// The sid of the n-th call, as the database makes it.
fn sid_text(backend: Backend, n: &str, step: u64) -> String {
    let (at, rest) = (format!("{BEGAN_MS} + ({n}) * {step}"), format!("({n}) * 7919"));
    match backend {
        Backend::Sqlite => format!("printf('CA%012x%020x', {at}, {rest})"),
        Backend::Postgres => format!("'CA' || lpad(to_hex({at}), 12, '0') || lpad(to_hex({rest}), 20, '0')"),
    }
}

/// One of ten calls is another account's; one of ten has a parent; one of a thousand was busy.
fn fill(backend: Backend, calls: u64) -> String {
    let step = MONTH_MS / calls;
    let numbers = match backend {
        Backend::Sqlite => {
            format!("WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {calls})")
        }
        Backend::Postgres => {
            format!("WITH numbers AS (SELECT CAST(n AS BIGINT) AS n FROM generate_series(1, {calls}) AS n)")
        }
    };
    let (own, parent) = (sid_text(backend, "n", step), sid_text(backend, "n - 1", step));
    let detail = r#"{"completed":{"status":"completed","sip_status":200,"ended_by":"peer","media":{"codec":"PCMU","packets_received":1500,"packets_sent":1500,"packets_lost":0,"packets_late":0,"packets_dropped":0,"jitter_us":120,"round_trip_us":900}},"events":[]}"#;
    // The last digits say which of some numbers it is.
    let number = |of: u64| format!("'+1555' || CAST(1000000 + n % {of} AS TEXT)");
    format!(
        "INSERT INTO calls {numbers} SELECT {own},
         CASE WHEN n % 10 = 9 THEN '{OTHERS}' ELSE '{ACCOUNT}' END, 'inbound', {from}, {to},
         CASE WHEN n % 10 = 1 THEN {parent} ELSE NULL END, 'carrier', 'call-' || CAST(n AS TEXT),
         CASE WHEN n % 1000 = 500 THEN 'busy' ELSE 'completed' END,
         {BEGAN_MS} + n * {step}, {BEGAN_MS} + n * {step} + 2000, {BEGAN_MS} + n * {step} + 32000, 30, '{detail}' FROM numbers",
        from = number(5_003),
        to = number(997),
    )
}

const OTHERS: AccountSid = AccountSid::new(2);

/// What a list may be filtered by, alone and together. `n` picks among calls.
fn filters(n: u64, calls: u64) -> Vec<(&'static str, CallFilter)> {
    let any = CallFilter::default;
    let number = |of: u64| Some(format!("+1555{}", 1_000_000 + n % of));
    let time = |share: u64| BEGAN_MS + MONTH_MS / 100 * share;
    let (early, late) = (time(n % 50), time(n % 50 + 2));
    let span = Moment { from_ms: Some(early), below_ms: Some(late) };
    let after = Moment { from_ms: Some(late), below_ms: None };
    let before = Moment { from_ms: None, below_ms: Some(late) };
    let step = MONTH_MS / calls;
    let sid = |n: u64| CallSid::new(u128::from(BEGAN_MS + n * step) << 80 | u128::from(n * 7919));
    let other_nobody = Some("+49".to_owned());
    vec![
        ("none", any()),
        ("page", CallFilter { before: Some(sid(n % calls)), ..any() }),
        ("To", CallFilter { to: number(997), ..any() }),
        ("To nobody", CallFilter { to: other_nobody.clone(), ..any() }),
        ("From", CallFilter { from: number(5_003), ..any() }),
        ("Status", CallFilter { status: Some(CallStatus::Completed), ..any() }),
        ("Status, few", CallFilter { status: Some(CallStatus::Busy), ..any() }),
        ("Status, no one", CallFilter { status: Some(CallStatus::Canceled), ..any() }),
        ("ParentCallSid", CallFilter { parent: Some(sid(n % calls / 10 * 10)), ..any() }),
        ("StartTime", CallFilter { started: span, ..any() }),
        ("StartTime>", CallFilter { started: after, ..any() }),
        ("StartTime<", CallFilter { started: before, ..any() }),
        ("EndTime", CallFilter { ended: span, ..any() }),
        ("EndTime>", CallFilter { ended: after, ..any() }),
        ("EndTime<", CallFilter { ended: before, ..any() }),
        ("To, StartTime>", CallFilter { to: number(997), started: after, ..any() }),
        ("From, Status", CallFilter { from: number(5_003), status: Some(CallStatus::Busy), ..any() }),
        ("To nobody, EndTime", CallFilter { to: other_nobody, ended: span, ..any() }),
    ]
}

/// How the database would find a list.
async fn plan(store: &Store, filter: &CallFilter) -> String {
    let (before, column) = match store.backend() {
        Backend::Sqlite => ("EXPLAIN QUERY PLAN", "detail"),
        Backend::Postgres => ("EXPLAIN", "QUERY PLAN"),
    };
    let rows = store.rows_found(before, ACCOUNT, filter, 51).await.unwrap();
    rows.iter().map(|row| row.get::<String, _>(column)).collect::<Vec<_>>().join("\n")
}

on_both! {
    list_of_calls_is_found_by_an_index_whatever_it_is_filtered_by(url) {
        let calls = std::env::var("DIALTONE_TEST_CALLS").map_or(USUAL, |calls| calls.parse().unwrap());
        let store = Store::open(url).await.unwrap();
        let began = Instant::now();
        let database = connect(url).await;
        sqlx::query(AssertSqlSafe(fill(store.backend(), calls))).execute(&database).await.unwrap();
        if store.backend() == Backend::Postgres {
            // The server does so by itself, after a while.
            sqlx::query("ANALYZE calls").execute(&database).await.unwrap();
        }
        println!("{}: {calls} calls in {:.1} s", store.backend().name(), began.elapsed().as_secs_f64());
        let mut all = Vec::new();
        for (at, (name, filter)) in filters(3, calls).into_iter().enumerate() {
            let plan = plan(&store, &filter).await;
            for scan in ["SCAN", "TEMP B-TREE", "Seq Scan"] {
                assert!(!plan.contains(scan), "{name}: {plan}");
            }
            let mut times = Vec::new();
            for n in (0..40).map(|turn| turn * 7_907 + 3) {
                let filter = &filters(n, calls)[at].1;
                let began = Instant::now();
                let found = store.find_calls(ACCOUNT, filter, 51).await.unwrap();
                times.push(began.elapsed());
                assert!(found.iter().all(|record| record.account == ACCOUNT && filter.takes(record)), "{name}");
                assert!(!found.is_empty() || name.contains("no") || name.contains(','), "{name} {filter:?} finds nothing");
            }
            times.sort();
            if std::env::var_os("DIALTONE_TEST_PLANS").is_some() {
                println!("{plan}");
            }
            println!("  {name:20} p50 {:6.2} ms   most {:6.2} ms", millis_of(times[20]), millis_of(times[39]));
            assert!(times[20] < GOAL || calls == USUAL, "{name}: {:?}\n{plan}", times[20]);
            all.extend(times);
        }
        all.sort();
        println!("  all                  p50 {:6.2} ms   p99 {:6.2} ms", millis_of(all[all.len() / 2]), millis_of(all[all.len() * 99 / 100]));
    }
}

fn millis_of(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
