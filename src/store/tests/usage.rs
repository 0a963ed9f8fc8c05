//! What lines add up to and which triggers fire by that: exactly once, whoever writes, however often, and whatever breaks off.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::*;
use crate::usage::{DAY_MS, Edition, Price, PriceBook, Tier, Trigger, money};

const CHILD: AccountSid = AccountSid::new(77);
/// 2026-11-26 23:00 UTC.
const EVENING_MS: u64 = 1_795_734_000_000;

fn used_line(number: u128, account: AccountSid, category: &'static str, seconds: u64, at_ms: u64) -> LedgerLine {
    LedgerLine {
        event: EventSid::new(number),
        account,
        call: CallSid::new(number),
        service: "voice",
        module: "",
        category,
        quantity: seconds,
        unit: Unit::Seconds,
        at_ms,
        called: "+15550000001".into(),
        correction: None,
    }
}

fn batch(lines: Vec<LedgerLine>) -> Batch {
    Batch { lines, ..Batch::default() }
}

fn trigger(sid: &str, account: AccountSid, detail: &str) -> Resource {
    Resource { account: account.to_string(), detail: detail.into(), ..row(Kind::UsageTrigger, "", sid, None) }
}

fn detail(category: &str, by: &str, value: &str, recurring: &str) -> String {
    format!(
        "{{\"usage_category\":\"{category}\",\"trigger_by\":\"{by}\",\"trigger_value\":\"{value}\",\"recurring\":{recurring}}}"
    )
}

/// Every firing that there is a row of.
async fn fired(store: &Store) -> BTreeSet<(String, String)> {
    let fires = store.untold_fires(u64::MAX / 4).await.unwrap();
    fires.into_iter().map(|fire| (fire.trigger, fire.period)).collect()
}

async fn with_a_child(store: &Store) {
    let child = Resource { sid: CHILD.to_string(), ..row(Kind::Account, "", "", None) };
    store.create(&child).await.unwrap();
}

/// The sums of the ledger itself, as nobody else reads them.
async fn sums_of_ledger(url: &str) -> BTreeMap<(String, String, i64), (i64, i64, i64)> {
    let database = connect(url).await;
    let rows =
        sqlx::query("SELECT account, category, at_ms, quantity, price FROM ledger").fetch_all(&database).await.unwrap();
    let mut sums = BTreeMap::new();
    for row in rows {
        let (account, category): (String, String) = (row.get("account"), row.get("category"));
        let (at, quantity, price): (i64, i64, i64) = (row.get("at_ms"), row.get("quantity"), row.get("price"));
        let sum: &mut (i64, i64, i64) = sums.entry((account, category, at / DAY_MS as i64)).or_default();
        *sum = (sum.0 + 1, sum.1 + (quantity + 59) / 60, sum.2 + price);
    }
    sums
}

async fn sums_of_days(url: &str) -> BTreeMap<(String, String, i64), (i64, i64, i64)> {
    let database = connect(url).await;
    let rows = sqlx::query("SELECT account, category, day, count, usage, price FROM usage_days")
        .fetch_all(&database)
        .await
        .unwrap();
    let read = |row: sqlx::any::AnyRow| {
        (
            (row.get("account"), row.get("category"), row.get("day")),
            (row.get("count"), row.get("usage"), row.get("price")),
        )
    };
    rows.into_iter().map(read).collect()
}

/// A minute of a call that goes out costs a cent.
fn retail() -> Arc<PriceBook> {
    let price = Price {
        category: "calls-outbound".into(),
        prefix: String::new(),
        per_unit: money::parse("0.01").unwrap(),
        setup: 0,
        first_increment: 60,
        increment: 60,
        tiers: Vec::new(),
    };
    let editions = vec![Edition { from_ms: 0, prices: vec![price] }];
    Arc::new(PriceBook { name: "retail".into(), currency: "usd".into(), editions })
}

/// Lines of two days, of an account and one that it has made, written by several at once, a fifth of them twice; now and then a
/// writer is broken off and begins again. Each trigger of every kind fires in each period that comes to its value, and once.
async fn storm(url: &str, events: u128, writers: u128) {
    let store = Store::open(url).await.unwrap();
    with_a_child(&store).await;
    let book = retail();
    // Of each value as many as the first day has of that, so that the crossing is somewhere in the middle.
    let (half, tenth) = (events / 2, events / 10);
    let mut expected = BTreeSet::new();
    for (number, (category, by, value, recurring, periods)) in [
        ("calls", "count", half * 9 / 10, "\"daily\"", vec!["2026-11-26", "2026-11-27"]),
        ("calls", "count", half + 1, "\"daily\"", vec![]),
        ("calls", "count", half + 1, "\"monthly\"", vec!["2026-11"]),
        ("calls-outbound", "count", tenth, "null", vec!["alltime"]),
        ("calls-outbound", "usage", half + 3, "\"yearly\"", vec!["2026"]),
        ("totalprice", "price", events / 200, "\"alltime\"", vec!["alltime"]),
        ("totalprice", "price", events, "\"alltime\"", vec![]),
    ]
    .into_iter()
    .enumerate()
    {
        let sid = format!("UT{number}");
        store.create(&trigger(&sid, ACCOUNT, &detail(category, by, &value.to_string(), recurring))).await.unwrap();
        expected.extend(periods.into_iter().map(|period| (sid.clone(), period.to_owned())));
    }
    let line = |number: u128| {
        let account = if number.is_multiple_of(3) { CHILD } else { ACCOUNT };
        let category = if number.is_multiple_of(2) { "calls-outbound" } else { "calls-inbound" };
        let at_ms = EVENING_MS + if number < half { 0 } else { 3_600_000 } + number as u64 % 1000;
        used_line(number, account, category, 61, at_ms)
    };
    let told = std::sync::Mutex::new(Vec::new());
    let write = async |writer: u128| {
        let mut random = writer as u64 + 1;
        let mut below = |bound: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % bound
        };
        let own: Vec<u128> = (0..events).filter(|number| number % writers == writer).collect();
        for chunk in own.chunks(100) {
            let mut lines: Vec<LedgerLine> = chunk.iter().map(|number| line(*number)).collect();
            // What another writer has, or had before.
            for _ in 0..20 {
                let number = u128::from(below(events as u64)).min(chunk[0]);
                if !chunk.contains(&number) && !lines.iter().any(|known| known.event == EventSid::new(number)) {
                    lines.push(line(number));
                }
            }
            let books = [ACCOUNT, CHILD].map(|account| (account, book.clone())).into();
            let whole = Batch { books, ..batch(lines) };
            if below(5) == 0 {
                // It is broken off somewhere, perhaps behind the commit.
                let broken = tokio::time::timeout(Duration::from_micros(below(20_000)), store.write(&whole)).await;
                told.lock().unwrap().extend(broken.ok().and_then(Result::ok).unwrap_or_default().fires);
            }
            let fires = loop {
                match store.write(&whole).await {
                    Ok(written) => break written.fires,
                    Err(StoreError::Taken) => continue,
                    Err(error) => panic!("{error}"),
                }
            };
            told.lock().unwrap().extend(fires);
        }
    };
    futures_of(writers, write).await;
    assert_eq!(fired(&store).await, expected);
    let told = told.into_inner().unwrap();
    let names: BTreeSet<(String, String)> =
        told.iter().map(|fire| (fire.trigger.clone(), fire.period.clone())).collect();
    assert_eq!(names.len(), told.len(), "nobody is told twice of one");
    assert!(names.is_subset(&expected));
    let overshoot = told.iter().filter(|fire| fire.trigger == "UT0").map(|fire| fire.value / money::ONE);
    assert!(overshoot.into_iter().all(|value| value as u128 >= half * 9 / 10));
    let (ledger, days) = (sums_of_ledger(url).await, sums_of_days(url).await);
    assert_eq!(ledger, days);
    assert_eq!(days.values().map(|sum| sum.0).sum::<i64>(), events as i64);
    assert_eq!(
        days.values().map(|sum| sum.2).sum::<i64>(),
        events as i64 / 2 * 20_000,
        "two minutes of each second call"
    );
    store.close().await;
}

/// All writers at once, on this task.
pub(super) async fn futures_of(writers: u128, write: impl AsyncFn(u128)) {
    use std::future::Future;
    use std::pin::Pin;
    let mut all: Vec<Pin<Box<dyn Future<Output = ()> + '_>>> = Vec::new();
    for writer in 0..writers {
        all.push(Box::pin(write(writer)));
    }
    std::future::poll_fn(|context| {
        all.retain_mut(|one| one.as_mut().poll(context).is_pending());
        if all.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
}

on_both! {
    ut_03_to_07_and_13_triggers_fire_once_in_each_period_whoever_writes(url) {
        storm(url, 4_000, 4).await;
    }

    ut_04_and_10_a_trigger_that_is_made_too_late_fires_at_once(url) {
        let store = Store::open(url).await.unwrap();
        store.write(&batch(vec![used_line(1, ACCOUNT, "calls-inbound", 600, EVENING_MS)])).await.unwrap();
        let made = trigger("UT1", ACCOUNT, &detail("calls", "usage", "10", "null"));
        store.create(&made).await.unwrap();
        let read = Trigger::read(&made.sid, ACCOUNT, &made.detail).unwrap();
        let fire = store.look_at_trigger(&read, EVENING_MS).await.unwrap().expect("ten of ten minutes");
        assert_eq!((fire.value, fire.period.as_str()), (10 * money::ONE, "alltime"));
        assert_eq!(store.look_at_trigger(&read, EVENING_MS).await.unwrap(), None, "once");
        let more = store.write(&batch(vec![used_line(2, ACCOUNT, "calls-inbound", 600, EVENING_MS)])).await.unwrap();
        assert_eq!(more.fires, [], "and not again");
    }

    ut_13_a_refund_is_a_line_of_its_own_and_lets_no_trigger_fire_again(url) {
        let store = Store::open(url).await.unwrap();
        let priced = |lines: Vec<LedgerLine>| Batch { books: [(ACCOUNT, retail())].into(), ..batch(lines) };
        let refund = |number, amount, at_ms| {
            let correction = crate::usage::Correction { amount, reason: "it was silent".into() };
            crate::usage::correction(EventSid::new(number), ACCOUNT, CallSid::new(1), "calls-outbound", correction, at_ms)
        };
        store.create(&trigger("UT1", ACCOUNT, &detail("calls", "price", "0.03", "null"))).await.unwrap();
        let used = |number| used_line(number, ACCOUNT, "calls-outbound", 61, EVENING_MS);
        assert_eq!(store.write(&priced(vec![used(1)])).await.unwrap().fires, []);
        assert_eq!(store.write(&priced(vec![used(2)])).await.unwrap().fires.len(), 1, "two calls of 0.02");
        assert_eq!(store.write(&priced(vec![refund(100, -20_000, EVENING_MS + 1)])).await.unwrap().fires, []);
        assert_eq!(store.write(&priced(vec![used(3)])).await.unwrap().fires, [], "up again in the same period");
        assert_eq!(sums_of_ledger(url).await.values().map(|sum| sum.2).sum::<i64>(), 40_000);
        let days = sums_of_days(url).await;
        assert_eq!((days.values().map(|sum| sum.0).sum::<i64>(), days.values().map(|sum| sum.2).sum::<i64>()), (3, 40_000));
        // Told again, at another time too, it is one line.
        store.write(&priced(vec![refund(100, -20_000, EVENING_MS + 1)])).await.unwrap();
        assert!(matches!(store.write(&priced(vec![refund(100, -20_000, EVENING_MS + 9)])).await, Err(StoreError::Taken)));
        assert_eq!(store.correction(ACCOUNT, EventSid::new(100)).await.unwrap(), Some(-20_000));
        let bill = store.bill(ACCOUNT, CallSid::new(1), EVENING_MS, EVENING_MS).await.unwrap();
        assert_eq!(bill.iter().map(|line| line.price).collect::<Vec<_>>(), [20_000, -20_000], "whenever it was made");
        assert_eq!(bill[1].rule, "{\"correction\":\"it was silent\"}");
    }

    ut_05_what_is_heard_of_late_counts_for_its_own_day(url) {
        let store = Store::open(url).await.unwrap();
        store.create(&trigger("UT1", ACCOUNT, &detail("calls", "count", "2", "\"daily\""))).await.unwrap();
        let midnight = EVENING_MS + 3_600_000;
        let write = async |number, at_ms| store.write(&batch(vec![used_line(number, ACCOUNT, "calls-inbound", 1, at_ms)])).await.unwrap().fires;
        assert_eq!(write(1, midnight - 1).await, []);
        assert_eq!(write(2, midnight).await, []);
        let late = write(3, midnight - 1).await;
        assert_eq!(late.iter().map(|fire| fire.period.as_str()).collect::<Vec<_>>(), ["2026-11-26"]);
        assert_eq!(write(4, midnight + 5).await[0].period, "2026-11-27");
        assert_eq!(write(5, midnight - 5).await, []);
    }

    ut_17_an_account_is_stopped_in_the_same_transaction(url) {
        let store = Store::open(url).await.unwrap();
        let detail = detail("calls", "count", "1", "null");
        for (sid, action) in [("UT1", "suspend"), ("UT2", "limit:calls=3")] {
            let detail = detail.replace('}', &format!(",\"action\":\"{action}\"}}"));
            store.create(&trigger(sid, ACCOUNT, &detail)).await.unwrap();
        }
        let fires = store.write(&batch(vec![used_line(1, ACCOUNT, "calls-inbound", 1, EVENING_MS)])).await.unwrap().fires;
        assert!(fires.len() == 2 && fires.iter().all(|fire| fire.has_acted));
        let rows = store.all_resources().await.unwrap();
        let find = |kind| rows.iter().find(|row| row.kind == kind).map(|row| row.sid.clone());
        assert_eq!(find(Kind::Suspension), Some(ACCOUNT.to_string()));
        assert_eq!(find(Kind::Limit), Some(format!("{ACCOUNT}:calls")));
    }

    a_firing_is_told_by_one_and_until_it_is_known(url) {
        let store = Store::open(url).await.unwrap();
        store.create(&trigger("UT1", ACCOUNT, &detail("calls", "count", "1", "null"))).await.unwrap();
        let fires = store.write(&batch(vec![used_line(1, ACCOUNT, "calls-inbound", 1, EVENING_MS)])).await.unwrap().fires;
        let fire = &fires[0];
        assert_eq!(store.untold_fires(fire.fired_ms).await.unwrap(), [], "who wrote it has some time to tell");
        assert!(store.claim_fire(fire, fire.fired_ms + 100_000).await.unwrap());
        assert!(!store.claim_fire(fire, fire.fired_ms + 100_000).await.unwrap(), "it is told already");
        let again = store.untold_fires(fire.fired_ms + 100_000).await.unwrap();
        assert_eq!((again.len(), again[0].tries), (1, 1));
        assert!(store.claim_fire(&again[0], fire.fired_ms + 200_000).await.unwrap());
        store.fire_told("UT1", "alltime", 5).await.unwrap();
        assert_eq!(store.untold_fires(u64::MAX / 4).await.unwrap(), []);
        assert_eq!(store.last_fired("UT1").await.unwrap(), Some(fire.fired_ms));
    }

    a_bill_is_the_sum_of_its_lines_by_the_tier_of_that_moment(url) {
        let store = Store::open(url).await.unwrap();
        let price = Price {
            category: "calls-outbound".into(),
            prefix: "+1".into(),
            per_unit: money::parse("0.0130").unwrap(),
            setup: money::parse("0.001").unwrap(),
            first_increment: 60,
            increment: 6,
            tiers: vec![Tier { above: 3, per_unit: money::parse("0.01").unwrap() }],
        };
        let book = PriceBook { name: "retail".into(), currency: "usd".into(), editions: vec![Edition { from_ms: 0, prices: vec![price] }] };
        let books: HashMap<_, _> = [(ACCOUNT, Arc::new(book))].into();
        let lines = (1..=3).map(|number| used_line(number, ACCOUNT, "calls-outbound", 61, EVENING_MS + number as u64));
        let whole = Batch { books, ..batch(lines.collect()) };
        store.write(&whole).await.unwrap();
        store.write(&whole).await.unwrap();
        let mut prices = Vec::new();
        for number in 1..=3 {
            let bill = store.bill(ACCOUNT, CallSid::new(number), EVENING_MS, EVENING_MS + 10).await.unwrap();
            assert_eq!((bill.len(), bill[0].quantity, bill[0].category.as_str()), (1, 61, "calls-outbound"));
            assert!(bill[0].rule.contains("\"billed\":66"), "{}", bill[0].rule);
            prices.push(bill[0].price);
            assert_eq!(store.bill(AccountSid::new(2), CallSid::new(number), 0, u64::MAX).await.unwrap(), []);
        }
        // 66 seconds at 0.013 and 0.001 for each; from the fourth minute on at 0.01.
        assert_eq!(prices, [15_300, 15_300, 12_000]);
        let used = store.used(&[ACCOUNT], Moment::default()).await.unwrap();
        assert_eq!((used[0].price, used[0].usage, used[0].count), (15_300 * 2 + 12_000, 6, 3));
    }
}

/// By hand: `cargo test --release --lib a_million -- --ignored`, with `DIALTONE_TEST_POSTGRES`.
#[tokio::test]
#[ignore = "takes minutes: by hand, in its release form"]
async fn a_million_events_with_crashes_and_duplicates_miss_and_double_nothing() {
    storm(&postgres_database().await, 1_000_000, 8).await;
    let file = File::new();
    storm(&file.url(), 1_000_000, 8).await;
}
