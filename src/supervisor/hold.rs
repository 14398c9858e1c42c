//! A lease that this process holds, as its shard's task and its replication share it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use tokio_util::sync::CancellationToken;

use crate::lease::{Owner, load};

/// Ends the reading of one shard, alone or with all others, and says what it costs and whom it is given up for.
#[derive(Debug, Clone)]
pub(super) struct Hold {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    drain: CancellationToken,
    heir: OnceLock<Owner>,
    load: AtomicU64,
}

// === impl Hold ===

impl Hold {
    /// A lease that is held until `drain` is cancelled or it is handed over.
    pub(super) fn new(drain: &CancellationToken, load: Option<u64>) -> Self {
        let load = AtomicU64::new(load.unwrap_or(load::IDLE));
        Self { shared: Arc::new(Shared { drain: drain.child_token(), heir: OnceLock::new(), load }) }
    }

    /// When this is cancelled nothing more is read, what was read is written, and the lease released.
    pub(super) fn drain(&self) -> CancellationToken {
        self.shared.drain.clone()
    }

    /// Gives the lease up for `to`. Says whether it was not being given up yet.
    pub(super) fn hand_over(&self, to: &str) -> bool {
        let is_first = !self.shared.drain.is_cancelled() && self.shared.heir.set(to.to_owned()).is_ok();
        self.shared.drain.cancel();
        is_first
    }

    /// Whom it is given up for.
    pub(super) fn heir(&self) -> Option<&Owner> {
        self.shared.heir.get()
    }

    /// What reading it costs (see [`load`]).
    pub(super) fn load(&self) -> u64 {
        self.shared.load.load(Ordering::Relaxed)
    }

    /// It was measured again.
    pub(super) fn set_load(&self, load: u64) {
        self.shared.load.store(load, Ordering::Relaxed);
    }
}
