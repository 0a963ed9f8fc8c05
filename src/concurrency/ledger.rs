//! Where edges that share accounts say how much they hold.

use crate::hot::{Answer, Claim, Command, EdgeId, Held, Hot};
use crate::store::Store;

/// The store of an edge. Clones are the same place.
#[derive(Clone)]
pub enum Ledger {
    /// Whoever lives says so there by other means.
    Hot(Hot),
    /// Without a Redis: slower, and as right.
    Store(Store),
}

impl Ledger {
    /// `None`: it does not answer.
    pub async fn claim(&self, edge: &EdgeId, claim: Claim) -> Option<Held> {
        match self {
            Ledger::Hot(hot) => match hot.ask(Command::Hold { edge: edge.clone(), claim }).await {
                Ok(Answer::Held(held)) => Some(held),
                _ => None,
            },
            Ledger::Store(store) => store.claim(edge, &claim).await.ok(),
        }
    }

    /// Which edge holds how much of a scope.
    pub async fn holders(&self, scope: String) -> Option<Vec<(EdgeId, u32)>> {
        match self {
            Ledger::Hot(hot) => match hot.ask(Command::Holders { scope }).await {
                Ok(Answer::Holders(holders)) => Some(holders),
                _ => None,
            },
            Ledger::Store(store) => store.holders(&scope).await.ok(),
        }
    }
}
