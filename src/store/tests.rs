//! The store on a file of its own.

use std::path::PathBuf;

use super::*;
use crate::events::{CallStatus, Direction, EndedBy, Media};
use crate::ids::EventSid;

const ACCOUNT: AccountSid = AccountSid::new(1);

/// A database file, gone with the test.
struct File(PathBuf);

impl File {
    fn new(name: &str) -> File {
        let path = std::env::temp_dir().join(format!("dialtone-store-{name}-{}.db", std::process::id()));
        let _ = std::fs::remove_file(&path);
        File(path)
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

fn finished(number: u128) -> Finished {
    let completed =
        Completed { status: CallStatus::Completed, sip_status: 200, ended_by: EndedBy::Peer, media: Media::default() };
    let record = CallRecord {
        sid: CallSid::new(number),
        account: ACCOUNT,
        direction: Direction::Inbound,
        from: "+15551".into(),
        to: "+15552".into(),
        parent: None,
        via: "carrier".into(),
        sip_call_id: "a@b".into(),
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
        unit: "seconds",
        at_ms: 4_500,
    };
    Finished { record, line }
}

#[tokio::test]
async fn calls_of_every_batch_size_are_read_back_as_they_were_and_written_once() {
    let file = File::new("batches");
    let store = Store::open(&file.url()).await.unwrap();
    let all: Vec<Finished> = (1..=64 + 2 * 8 + 3).map(finished).collect();
    store.write(&all).await.unwrap();
    store.write(&all[40..]).await.unwrap();
    let read = store.calls(Some(ACCOUNT), 1_000).await.unwrap();
    assert!(read.iter().eq(all.iter().rev().map(|finished| &finished.record)), "the newest first");
    assert_eq!(store.ledger_lines().await.unwrap(), all.len() as u64);
    assert_eq!(store.calls(Some(AccountSid::new(2)), 10).await.unwrap(), []);
}

#[tokio::test]
async fn deleted_call_stays_deleted_though_the_journal_tells_it_again() {
    let file = File::new("deleted");
    let store = Store::open(&file.url()).await.unwrap();
    store.write(&[finished(1), finished(2)]).await.unwrap();
    assert!(!store.delete_call(AccountSid::new(2), CallSid::new(1)).await.unwrap(), "of another account");
    assert!(store.delete_call(ACCOUNT, CallSid::new(1)).await.unwrap());
    assert!(!store.delete_call(ACCOUNT, CallSid::new(1)).await.unwrap(), "only once");
    store.write(&[finished(1)]).await.unwrap();
    assert_eq!(store.call(CallSid::new(1)).await.unwrap(), None);
    assert_eq!(store.calls(None, 10).await.unwrap().len(), 1);
    assert_eq!(store.calls(Some(ACCOUNT), 10).await.unwrap().len(), 1);
    assert_eq!(store.find_calls(ACCOUNT, &CallFilter::default(), 10).await.unwrap().len(), 1);
    assert_eq!(store.ledger_lines().await.unwrap(), 2, "what was used was used");
    store.close().await;
    let bytes = std::fs::read(&file.0).unwrap();
    assert_eq!(bytes.windows(6).filter(|text| *text == b"+15551").count(), 1, "nothing of it is left in the file");
}

#[tokio::test]
async fn database_of_the_first_form_is_taken_over_with_its_calls() {
    let file = File::new("first");
    {
        sqlx::any::install_default_drivers();
        let options = AnyConnectOptions::from_str(&format!("{}?mode=rwc", file.url())).unwrap();
        let old = connect(&options).await.unwrap();
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
        store.write(&[finished(2)]).await.unwrap();
        let read = store.calls(Some(ACCOUNT), 10).await.unwrap();
        assert_eq!(read, [finished(2).record, finished(1).record]);
        store.close().await;
    }
}
