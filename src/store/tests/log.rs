//! The event log: numbered without a gap and linked without a break, whoever writes, however often, and whatever breaks off.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::*;
use crate::eventlog::{Entry, chain, entry, entry_of_fire};

fn told(account: AccountSid, call: u128, sequence: u32) -> Entry {
    let mut record = finished(call).record;
    record.account = account;
    let kind = if sequence == 3 {
        EventKind::Completed(record.completed.clone().unwrap())
    } else {
        EventKind::VerbStarted { verb: format!("Verb{sequence}") }
    };
    let id = EventSid::new(account.bits() << 64 | call << 8 | u128::from(sequence));
    let event = Event { id, account, call: CallSid::new(call), sequence, at_ms: 5_000, kind };
    entry(&event, &record, "http://here").expect("it is told")
}

fn batch(entries: Vec<Entry>) -> Batch {
    Batch { entries, ..Batch::default() }
}

async fn all(store: &Store, account: AccountSid) -> Vec<(u64, Map<String, Value>)> {
    let (mut all, mut after) = (Vec::new(), 0);
    loop {
        let page = store.log_after(account, after, 7).await.unwrap();
        let Some(last) = page.last() else { return all };
        after = last.seq;
        all.extend(page.iter().map(|logged| (logged.seq, serde_json::from_slice(&logged.text).unwrap())));
    }
}

on_both! {
    ev_05_ev_06_ev_08_entries_are_numbered_and_linked_once_whoever_writes(url) {
        let store = Store::open(url).await.unwrap();
        const OTHER: AccountSid = AccountSid::new(9);
        let writers = 4_u128;
        let calls = 12_u128;
        let write = async |writer: u128| {
            for number in 0..calls {
                // Each writer has calls of its own, in both accounts; what it tells it tells again, as a journal does.
                let call = number * writers + writer + 1;
                for step in 0..4_u32 {
                    let again = (0..=step).map(|sequence| told(ACCOUNT, call, sequence));
                    let other = (0..=step).map(|sequence| told(OTHER, call, sequence));
                    let whole = batch(again.chain(other).collect());
                    if (number + u128::from(step)).is_multiple_of(5) {
                        // Broken off somewhere, perhaps behind the commit.
                        let _ = tokio::time::timeout(Duration::from_micros(50 * step as u64), store.write(&whole)).await;
                    }
                    store.write(&whole).await.unwrap();
                }
            }
        };
        super::usage::futures_of(writers, write).await;
        for account in [ACCOUNT, OTHER] {
            let log = all(&store, account).await;
            let total = (writers * calls * 4) as u64;
            assert!(log.iter().map(|(seq, _)| *seq).eq(1..=total), "numbered from 1 without a gap");
            assert_eq!(store.log_bounds(account).await.unwrap(), LogBounds { head: total, oldest: 1 });
            assert!(log.iter().all(|(seq, event)| event["sequence"].as_str() == Some(&seq.to_string()) && event["accountsid"].as_str() == Some(&account.to_string())));
            let ids: BTreeSet<&str> = log.iter().map(|(_, event)| event["id"].as_str().unwrap()).collect();
            assert_eq!(ids.len(), log.len(), "each once");
            let verdicts = chain::verify(log.into_iter().map(|(_, event)| event));
            assert_eq!(verdicts.len() as u128, writers * calls);
            for verdict in verdicts {
                let whole = (verdict.events, verdict.first, verdict.is_complete, &verdict.broken);
                assert_eq!(whole, (4, 0, true, &None), "{}", verdict.call);
            }
        }
    }

    entries_are_forgotten_by_age_and_with_their_call_and_numbers_go_on(url) {
        let store = Store::open(url).await.unwrap();
        store.write(&batch((0..4).flat_map(|step| [told(ACCOUNT, 1, step), told(ACCOUNT, 2, step)]).collect())).await.unwrap();
        assert_eq!(store.prune_log(1).await.unwrap(), 0, "nothing is so old");
        store.write(&calls(&[finished(1)])).await.unwrap();
        assert!(store.delete_call(ACCOUNT, CallSid::new(1)).await.unwrap());
        let left = all(&store, ACCOUNT).await;
        assert_eq!(left.iter().map(|(seq, _)| *seq).collect::<Vec<_>>(), [2, 4, 6, 8]);
        assert!(left.iter().all(|(_, event)| event["callsid"].as_str() == Some(&CallSid::new(2).to_string())));
        assert_eq!(store.prune_log(u64::MAX >> 2).await.unwrap(), 4);
        assert_eq!(store.log_bounds(ACCOUNT).await.unwrap(), LogBounds { head: 8, oldest: 9 });
        store.write(&batch(vec![told(ACCOUNT, 3, 0)])).await.unwrap();
        assert_eq!(store.log_bounds(ACCOUNT).await.unwrap(), LogBounds { head: 9, oldest: 9 });
        assert_eq!(store.log_heads(&[ACCOUNT, AccountSid::new(9)]).await.unwrap(), [(ACCOUNT, 9)]);
    }

    ut_firings_are_logged_where_somebody_has_listened(url) {
        let store = Store::open(url).await.unwrap();
        let detail = |value| format!(r#"{{"usage_category":"calls-inbound","trigger_by":"count","trigger_value":"{value}","recurring":null}}"#);
        let trigger = |sid: &str, value| Resource { detail: detail(value), ..row(Kind::UsageTrigger, "", sid, None) };
        store.create(&trigger("UT1", 1)).await.unwrap();
        store.create(&trigger("UT2", 2)).await.unwrap();
        store.write(&calls(&[finished(1)])).await.unwrap();
        assert_eq!(all(&store, ACCOUNT).await, [], "nobody has ever listened");
        store.write(&batch(vec![told(ACCOUNT, 5, 0)])).await.unwrap();
        let written = store.write(&calls(&[finished(2)])).await.unwrap();
        assert_eq!(written.fires.iter().map(|fire| fire.trigger.as_str()).collect::<Vec<_>>(), ["UT2"]);
        assert_eq!(written.logged.len(), 1);
        let last = all(&store, ACCOUNT).await.pop().unwrap().1;
        assert_eq!((last["type"].as_str(), last["data"]["sid"].as_str()), (Some("dialtone.usage.trigger.fired"), Some("UT2")));
        let fire = &written.fires[0];
        let again = entry_of_fire(ACCOUNT, "UT2", &fire.period, fire.value, fire.fired_ms);
        assert_eq!(store.write(&batch(vec![again])).await.unwrap().logged.len(), 0, "once");
    }
}
