//! Between those who hold places and the store by which edges share limits: carries claims there and answers back, and says there
//! that this edge lives, where nothing else does.

use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use crate::concurrency::{BEAT, LEASE_MS, Ledger, OnLoss};
use crate::config::Config;
use crate::hot::{Claim, EdgeId, Hot};
use crate::shard::{Mail, MailBox};
use crate::store::{Backend, Store};

/// Where this edge shares its limits with others; `None`: it has them for itself.
#[derive(Clone)]
pub(super) struct Sharing {
    pub(super) ledger: Ledger,
    pub(super) me: EdgeId,
    pub(super) on_loss: OnLoss,
}

/// By its own clock an edge has less, so that it knows before others do.
const OWN_LEASE: Duration = Duration::from_millis(LEASE_MS - 200);

impl Sharing {
    /// A PostgreSQL may have other edges, a Redis is there for them.
    pub(super) async fn of(
        config: &Config,
        store: &Store,
        hot: Option<(&Hot, &EdgeId)>,
        node: &str,
        epoch: u64,
    ) -> Option<Sharing> {
        let on_loss = config.cluster.as_ref().map(|cluster| cluster.on_store_loss).unwrap_or_default();
        match hot {
            Some((hot, me)) => Some(Sharing { ledger: Ledger::Hot(hot.clone()), me: me.clone(), on_loss }),
            None if store.backend() == Backend::Postgres => {
                let me = EdgeId { node: node.to_owned(), epoch };
                if let Err(error) = store.holder_lives(&me, LEASE_MS).await {
                    tracing::warn!(%error, "the limits of accounts are not shared yet");
                }
                Some(Sharing { ledger: Ledger::Store(store.clone()), me, on_loss })
            }
            None => None,
        }
    }

    /// The lives of this node, or of others, whose calls it has taken up when it starts.
    pub(super) fn settled(&self, adopted: Vec<EdgeId>) -> Vec<EdgeId> {
        match &self.ledger {
            Ledger::Hot(_) => adopted,
            // Whichever there were.
            Ledger::Store(_) => vec![EdgeId { epoch: 0, ..self.me.clone() }],
        }
    }

    /// Carries the claims of a shard, one after another.
    pub(super) async fn serve(self, mut claims: mpsc::Receiver<Claim>, mail: MailBox) {
        while let Some(claim) = claims.recv().await {
            let answer = self.ledger.claim(&self.me, claim).await;
            if mail.send(Mail::Held(answer)).await.is_err() {
                return;
            }
        }
    }

    /// Says in the database that this edge lives, until the process ends. An edge of a Redis beats there.
    pub(super) async fn live(self, mail: MailBox) {
        let Ledger::Store(store) = &self.ledger else { return };
        let mut ticks = tokio::time::interval(BEAT);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (mut said_at, mut is_over) = (Instant::now(), false);
        loop {
            ticks.tick().await;
            let asked = Instant::now();
            match store.holder_lives(&self.me, LEASE_MS).await {
                Ok(edges) => {
                    (said_at, is_over) = (asked, false);
                    if mail.send(Mail::SharedBy(edges)).await.is_err() {
                        return;
                    }
                }
                Err(error) if !is_over && said_at.elapsed() > OWN_LEASE => {
                    is_over = true;
                    tracing::error!(%error, "the database has not heard of this edge for too long: to others its calls are over");
                    // They may have as many now as there may be.
                    if self.on_loss == OnLoss::Closed {
                        let _ = mail.send(Mail::EndAll).await;
                    }
                }
                Err(_) => {}
            }
        }
    }

    /// Nothing is held here any more.
    pub(super) async fn leave(&self) {
        if let Ledger::Store(store) = &self.ledger
            && let Err(error) = store.holder_leaves(&self.me).await
        {
            tracing::warn!(%error, "what this edge held is free for others only in a moment");
        }
    }
}
