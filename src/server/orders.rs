//! Orders of calls that waited for their turn when the server last stopped, or when another edge died.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use crate::events::OrderFact;
use crate::ids::CallSid;
use crate::shard::PlaceOrder;
use crate::store::{Store, StoreError};

/// What tells this server from others that share its database: made by its first start, and kept in its folder.
pub(super) fn node(folder: &Path) -> io::Result<String> {
    let path = folder.join("node");
    match fs::read_to_string(&path) {
        Ok(text) if !text.trim().is_empty() => return Ok(text.trim().to_owned()),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes)?;
    let name = bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let mut file = fs::File::create(&path)?;
    file.write_all(name.as_bytes())?;
    file.sync_all()?;
    Ok(name)
}

/// The orders of this node that wait still. What its journal has is newer than the store, but for those that another edge has
/// taken over since.
pub(super) async fn left(
    store: &Store,
    me: &str,
    told: HashMap<CallSid, OrderFact>,
) -> Result<Vec<(PlaceOrder, u64)>, StoreError> {
    let mut orders = store.claim_orders(me, me).await?;
    for (call, fact) in told {
        if orders.contains_key(&call) || !store.has_order(call).await? {
            orders.insert(call, fact);
        }
    }
    Ok(read(orders))
}

/// The orders that waited at an edge that is dead. Those that another has taken are none of ours.
pub(super) async fn taken_over(store: &Store, from: &str, me: &str) -> Vec<(PlaceOrder, u64)> {
    loop {
        match store.claim_orders(from, me).await {
            Ok(orders) => return read(orders),
            Err(error) => {
                tracing::warn!(%error, "the orders of an edge that is dead wait until the database answers");
                tokio::time::sleep(ASKED_AGAIN_AFTER).await;
            }
        }
    }
}

const ASKED_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// The oldest first, each with the time since when.
fn read(orders: HashMap<CallSid, OrderFact>) -> Vec<(PlaceOrder, u64)> {
    let read = |(call, fact): (CallSid, OrderFact)| match serde_json::from_str::<PlaceOrder>(&fact.order) {
        Ok(order) => Some((order, fact.queued_ms)),
        Err(error) => {
            tracing::error!(%call, %error, "an ordered call cannot be read, and is not made");
            None
        }
    };
    let mut left: Vec<_> = orders.into_iter().filter(|(_, fact)| fact.waits()).filter_map(read).collect();
    left.sort_by_key(|(order, queued_ms)| (*queued_ms, order.sid));
    if !left.is_empty() {
        tracing::info!(calls = left.len(), "calls that were ordered before a stop wait for their turn again");
    }
    left
}
