//! Orders of calls that waited for their turn when the server last stopped.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Write};
use std::path::Path;

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

/// The orders that wait still, the oldest first, each with the time since when. What the journal has is newer than the
/// store.
pub(super) async fn left(
    store: &Store,
    node: &str,
    told: HashMap<CallSid, OrderFact>,
) -> Result<Vec<(PlaceOrder, u64)>, StoreError> {
    let mut orders = store.queued_orders(node).await?;
    orders.extend(told);
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
        tracing::info!(calls = left.len(), "calls that were ordered before the last stop wait for their turn again");
    }
    Ok(left)
}
