//! What edges set aside of budgets: by one rule, whatever writes beside it.

use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use super::*;
use crate::credit::{Claim, Fund, Raise, Raised, Wanted};
use crate::hot::EdgeId;
use crate::usage::{Measure, Recurring};

const NOW_MS: u64 = 1_795_734_000_000;

fn edge(node: &str, epoch: u64) -> EdgeId {
    EdgeId { node: node.into(), epoch }
}

fn fund(measure: Measure) -> Fund {
    Fund::at(ACCOUNT, measure, Recurring::Daily, NOW_MS)
}

fn claim(measure: Measure, have: i64, limit: i64, more: Option<i64>) -> Claim {
    let want = |more| Raise { wants: vec![Wanted { place: 0, limit, at_least: more, at_most: more }] };
    Claim { have: vec![(fund(measure), have)], raises: more.into_iter().map(want).collect() }
}

fn minutes(number: u128, account: AccountSid, category: &'static str, minutes: u64) -> Batch {
    let line = LedgerLine {
        event: EventSid::new(number),
        account,
        call: CallSid::new(number),
        service: "voice",
        module: "",
        category,
        quantity: minutes * 60,
        unit: Unit::Seconds,
        at_ms: NOW_MS,
        called: String::new(),
        correction: None,
    };
    Batch { lines: vec![line], ..Batch::default() }
}

on_both! {
    credit_is_what_the_ledger_and_others_leave(url) {
        let store = Store::open(url).await.unwrap();
        let (one, two) = (edge("one", 1), edge("two", 1));
        let asked = async |edge, have, more| {
            store.claim_credit(edge, &claim(Measure::Minutes, have, 10, more)).await.unwrap()
        };
        assert_eq!(asked(&one, 0, Some(6)).await, [Raised::By(vec![6])]);
        assert_eq!(asked(&two, 0, Some(5)).await, [Raised::Short(0)]);
        assert_eq!(asked(&two, 0, Some(4)).await, [Raised::By(vec![4])]);
        // What was used is in the ledger, and is set aside no longer: it is not had again.
        store.write(&minutes(1, ACCOUNT, "calls-inbound", 6)).await.unwrap();
        let spent = store.spent(&fund(Measure::Minutes)).await.unwrap();
        assert_eq!((spent.used, spent.set_aside), (6, 10), "seen twice for a moment, never not at all");
        assert_eq!(asked(&one, 0, Some(1)).await, [Raised::Short(0)]);
        asked(&two, 0, None).await;
        assert_eq!(asked(&one, 0, Some(4)).await, [Raised::By(vec![4])]);
        // Recordings are no minutes of calls, and what a sub-account uses is.
        store.write(&minutes(2, ACCOUNT, "calls-recordings", 50)).await.unwrap();
        let child = AccountSid::new(77);
        store.create(&Resource { sid: child.to_string(), ..row(Kind::Account, "", "", None) }).await.unwrap();
        store.write(&minutes(3, child, "calls-sip-outbound", 3)).await.unwrap();
        assert_eq!(store.spent(&fund(Measure::Minutes)).await.unwrap().used, 9);
        // A later life of the first edge, whose calls were taken up: what the earlier one had is gone.
        let again = edge("one", 2);
        asked(&again, 1, None).await;
        assert_eq!(store.spent(&fund(Measure::Minutes)).await.unwrap().set_aside, 5);
        store.forget_credit(&again).await.unwrap();
        assert_eq!(store.spent(&fund(Measure::Minutes)).await.unwrap().set_aside, 1);
        store.credit_left(&again).await.unwrap();
        assert_eq!(store.spent(&fund(Measure::Minutes)).await.unwrap().set_aside, 0);
    }

    an_edge_that_is_never_heard_of_again_holds_nothing_back_for_ever(url) {
        let store = Store::open(url).await.unwrap();
        store.claim_credit(&edge("gone", 1), &claim(Measure::Minutes, 7, 10, None)).await.unwrap();
        let database = connect(url).await;
        let day_ago = "UPDATE credit SET told_ms = told_ms - 90000000";
        sqlx::query(day_ago).execute(&database).await.unwrap();
        let raised = store.claim_credit(&edge("new", 1), &claim(Measure::Minutes, 0, 10, Some(10))).await.unwrap();
        assert_eq!(raised, [Raised::By(vec![10])]);
    }

    edges_that_claim_and_write_at_once_never_have_more_than_there_is(url) {
        const MOST: i64 = 40;
        let held = Arc::new(AtomicI64::new(0));
        let mut edges = Vec::new();
        for number in 0..4_u128 {
            let (store, held) = (Store::open(url).await.unwrap(), held.clone());
            edges.push(tokio::spawn(async move {
                let me = edge(&format!("edge-{number}"), 1);
                let mut used = 0;
                for call in 0..30 {
                    let asked = store.claim_credit(&me, &claim(Measure::Minutes, 0, MOST, Some(1))).await.unwrap();
                    if asked != [Raised::By(vec![1])] {
                        continue;
                    }
                    used += 1;
                    let now = held.fetch_add(1, Ordering::SeqCst) + 1;
                    assert!(now <= MOST, "{now} of {MOST}");
                    // What was set aside stays so until the ledger has it: the next claim says so.
                    store.write(&minutes(number * 1_000 + call, ACCOUNT, "calls-inbound", 1)).await.unwrap();
                }
                store.claim_credit(&me, &claim(Measure::Minutes, 0, MOST, None)).await.unwrap();
                used
            }));
        }
        let mut used = 0;
        for edge in edges {
            used += edge.await.unwrap();
        }
        assert_eq!(used, MOST, "all of it, and not more");
        let store = Store::open(url).await.unwrap();
        let spent = store.spent(&fund(Measure::Minutes)).await.unwrap();
        assert_eq!((spent.used, spent.set_aside), (MOST, 0));
    }
}
