//! Between calls that are to be paid and the database, where budgets are: carries claims there and answers back.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::credit::Claim;
use crate::hot::EdgeId;
use crate::shard::{Mail, MailBox};
use crate::store::Store;

/// By then the journal of an earlier life has told everything, and calls that were taken up are paid for anew.
const SETTLED_AFTER: Duration = Duration::from_secs(60);
/// How often what nobody was heard of for long is looked for.
const FORGET_EVERY: Duration = Duration::from_secs(3600);

/// Carries the claims of a shard, one after another.
pub(super) async fn serve(store: Store, me: EdgeId, mut claims: mpsc::Receiver<Claim>, mail: MailBox) {
    while let Some(claim) = claims.recv().await {
        let answer = store.claim_credit(&me, &claim).await;
        let answer = answer.map_err(|error| tracing::warn!(%error, "the database says nothing of budgets: calls that they limit begin no more, and end when their time is over"));
        if mail.send(Mail::Credit(answer.ok())).await.is_err() {
            return;
        }
    }
}

/// Sees to it that nothing stays set aside for nobody, until the process ends.
pub(super) async fn forget(store: Store, me: EdgeId) {
    tokio::time::sleep(SETTLED_AFTER).await;
    loop {
        if let Err(error) = store.forget_credit(&me).await {
            tracing::warn!(%error, "what was set aside for calls of long ago is so still");
        }
        tokio::time::sleep(FORGET_EVERY).await;
    }
}

/// Everything that this edge has used is in the ledger: nothing is set aside here any more.
pub(super) async fn leave(store: &Store, me: &EdgeId) {
    if let Ok(Err(error)) = timeout(Duration::from_secs(2), store.credit_left(me)).await {
        tracing::warn!(%error, "what this server had set aside of budgets is free when it starts again, or tomorrow");
    }
}
