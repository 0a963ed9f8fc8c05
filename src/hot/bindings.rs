//! SIP bindings, in memory: every shard sees the same.
//!
//! The lock is held for a look-up in a map and never across anything that waits.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};

use dialtone_sip::flow::{ConnectionId, Flow, Transport};
use dialtone_sip::msg::Message;
use dialtone_sip::registrar::{Binding, Change, Refusal, Registrar};

use crate::account::Aor;

/// Which contacts stand for which user.
#[derive(Default)]
pub struct Bindings {
    registrar: Mutex<Registrar<Aor>>,
    has_changed: AtomicBool,
}

impl Bindings {
    pub fn register(&self, aor: Aor, request: &Message, flow: Flow, wall_ms: u64) -> Result<Change, Refusal> {
        self.has_changed.store(true, Ordering::Relaxed);
        self.lock().register(aor, request, flow, wall_ms)
    }

    pub fn of(&self, aor: &Aor, wall_ms: u64) -> Vec<Binding> {
        self.lock().bindings(aor, wall_ms)
    }

    pub fn connection_closed(&self, connection: ConnectionId) {
        self.lock().connection_closed(connection);
    }

    pub fn sweep(&self, wall_ms: u64) {
        self.lock().sweep(wall_ms);
    }

    /// All that there are, to be written down; `None` where nothing has changed since the last time.
    pub fn changed(&self, wall_ms: u64) -> Option<Vec<(Aor, Vec<Binding>)>> {
        self.has_changed.swap(false, Ordering::Relaxed).then(|| self.lock().all(wall_ms))
    }

    /// Takes up what was written down; what has expired meanwhile, or came by a connection that is gone, is left out.
    pub fn restore(&self, written: Vec<(Aor, Vec<Binding>)>, wall_ms: u64) {
        let mut registrar = self.lock();
        for (aor, bindings) in written {
            registrar.restore(aor, bindings, wall_ms);
        }
    }

    /// What was registered by way of another edge, at those listeners, is reached by the like of ours from now on; what came by a
    /// connection is not.
    pub fn bring_home(&self, theirs: &[(Transport, SocketAddr)], ours: &[(Transport, SocketAddr)]) {
        self.has_changed.store(true, Ordering::Relaxed);
        self.lock().retain(|binding| {
            let flow = &mut binding.flow;
            if !theirs.contains(&(flow.transport, flow.local)) {
                return true;
            }
            let like = ours
                .iter()
                .find(|(transport, local)| *transport == flow.transport && local.is_ipv4() == flow.local.is_ipv4());
            if let Some((_, local)) = like {
                flow.local = *local;
            }
            like.is_some() && flow.connection.is_none()
        });
    }

    /// Live bindings of each user, for metrics.
    pub fn counts(&self, wall_ms: u64) -> Vec<(Aor, usize)> {
        self.lock().counts(wall_ms).map(|(aor, count)| (aor.clone(), count)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Registrar<Aor>> {
        self.registrar.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}
