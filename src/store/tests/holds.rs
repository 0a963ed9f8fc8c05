//! Limits that edges share in a PostgreSQL: the same rule as elsewhere.

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;

use super::*;
use crate::hot::{Claim, EdgeId, Held, Holder, Holds, Raise, Raised};

const LEASE_MS: u64 = 60_000;

fn edge(number: u64) -> EdgeId {
    EdgeId { node: format!("node-{number}"), epoch: number }
}

fn one_more(scope: &str, have: u32, limit: u32) -> Claim {
    let raises = vec![Raise { scopes: vec![(0, limit)], at_least: 1, at_most: 1 }];
    Claim { have: vec![(scope.to_owned(), have)], raises, settled: Vec::new() }
}

#[tokio::test]
async fn cc_03_of_many_who_ask_at_once_as_many_are_granted_as_there_is_room_for() {
    let store = Store::open(&postgres_database().await).await.unwrap();
    for number in 0..4 {
        store.holder_lives(&edge(number), LEASE_MS).await.unwrap();
    }
    let asking = (0..4).map(|number| {
        let store = store.clone();
        tokio::spawn(async move {
            let mut have = 0;
            for _ in 0..20 {
                match store.claim(&edge(number), &one_more("account", have, 10)).await.unwrap() {
                    Held::Done(raised) if raised == [Raised::By(1)] => have += 1,
                    Held::Done(raised) => assert_eq!(raised, [Raised::Full(0)]),
                    other => panic!("{other:?}"),
                }
            }
            have
        })
    });
    let mut granted = 0;
    for asked in asking.collect::<Vec<_>>() {
        granted += asked.await.unwrap();
    }
    assert_eq!(granted, 10);
    let holders = store.holders("account").await.unwrap();
    assert_eq!(holders.iter().map(|(_, count)| count).sum::<u32>(), 10);
    store.close().await;
}

#[tokio::test]
async fn cc_09_what_an_edge_held_is_free_when_its_lease_is_over_and_not_before() {
    let store = Store::open(&postgres_database().await).await.unwrap();
    assert_eq!(store.claim(&edge(1), &one_more("account", 0, 1)).await.unwrap(), Held::Fenced, "it was never alive");
    store.holder_lives(&edge(1), 400).await.unwrap();
    store.holder_lives(&edge(2), LEASE_MS).await.unwrap();
    assert_eq!(store.claim(&edge(1), &one_more("account", 0, 1)).await.unwrap(), Held::Done(vec![Raised::By(1)]));
    assert_eq!(store.claim(&edge(2), &one_more("account", 0, 1)).await.unwrap(), Held::Done(vec![Raised::Full(0)]));
    tokio::time::sleep(Duration::from_millis(450)).await;
    assert_eq!(store.claim(&edge(1), &one_more("account", 1, 1)).await.unwrap(), Held::Fenced);
    assert_eq!(store.claim(&edge(2), &one_more("account", 0, 1)).await.unwrap(), Held::Done(vec![Raised::By(1)]));
    assert_eq!(store.holders("account").await.unwrap(), [(edge(2), 1)]);
    // Earlier lives of a node hold nothing once the next has said what goes on.
    let next = EdgeId { node: "node-2".into(), epoch: 3 };
    store.holder_lives(&next, LEASE_MS).await.unwrap();
    let settled = vec![EdgeId { node: "node-2".into(), epoch: 0 }];
    let claim = Claim { have: vec![("account".into(), 1)], settled, ..Claim::default() };
    assert_eq!(store.claim(&next, &claim).await.unwrap(), Held::Done(vec![]));
    assert_eq!(store.holders("account").await.unwrap(), [(next.clone(), 1)]);
    store.holder_leaves(&next).await.unwrap();
    assert_eq!(store.holders("account").await.unwrap(), []);
    store.close().await;
}

#[tokio::test]
async fn postgres_grants_what_the_rule_grants() {
    let store = Store::open(&postgres_database().await).await.unwrap();
    for number in 0..3 {
        store.holder_lives(&edge(number), LEASE_MS).await.unwrap();
    }
    let mut holds = Holds::default();
    let mut runner = TestRunner::deterministic();
    let have = || proptest::collection::btree_map("[a-c]", 0..4u32, 1..4);
    for _ in 0..150 {
        let number = (0..3u64).new_tree(&mut runner).unwrap().current();
        let have: Vec<(String, u32)> = have().new_tree(&mut runner).unwrap().current().into_iter().collect();
        let scopes = proptest::collection::btree_map(0..have.len(), 0..9u32, 1..=have.len());
        let raise = (scopes, 1..3u32, 0..3u32).prop_map(|(scopes, at_least, more)| Raise {
            scopes: scopes.into_iter().collect(),
            at_least,
            at_most: at_least + more,
        });
        let raises = proptest::collection::vec(raise, 0..3).new_tree(&mut runner).unwrap().current();
        let claim = Claim { have, raises, settled: Vec::new() };
        let expected = holds.claim(&edge(number), &claim, |_| true);
        assert_eq!(store.claim(&edge(number), &claim).await.unwrap(), Held::Done(expected), "{claim:?}");
    }
    for scope in ["a", "b", "c"] {
        let told: Vec<(EdgeId, u32)> =
            holds.of(scope).map(|(Holder { edge, .. }, count)| (edge.clone(), count)).collect();
        assert_eq!(store.holders(scope).await.unwrap(), told);
    }
    store.close().await;
}
