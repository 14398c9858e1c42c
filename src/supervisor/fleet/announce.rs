//! The own row: written by every heartbeat, and at once when something in it changes.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval, timeout};
use tracing::warn;

use super::{Member, PARTITION, Shared};
use crate::clock::Clock;
use crate::control::{self, Control};
use crate::dynamo::{Condition, RowKey};
use crate::item::{Attributes, Value};
use crate::lease;

/// How long the row of a worker stays after its last heartbeat.
const WORKER_ROW_SECONDS: i64 = 24 * 60 * 60;

/// How long a worker that ends waits for its row to be removed; if it is not, others see that it drains, and for a day
/// that it was there.
const LEAVE_LIMIT: Duration = Duration::from_secs(2);

/// Tells the fleet that this worker lives, and what it wants. Never ends.
pub(in crate::supervisor) async fn announce(
    shared: Arc<Shared>,
    control: Control,
    lease: lease::Config,
    clock: Clock,
) {
    let mut beat = interval(lease.renew_interval);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut counter = 0;
    loop {
        tokio::select! {
            biased;
            () = shared.changed.notified() => {}
            _ = beat.tick() => {}
        }
        counter += 1;
        let (row, revision) = shared.row(counter, clock.unix_ms());
        match timeout(lease.row_write_limit(), control.put(&row, &Condition::Always)).await {
            Ok(Ok(_)) => drop(shared.written.send_replace(revision)),
            Ok(Err(error)) => warn!(%error, "heartbeat is not written"),
            Err(_) => warn!(error = "no answer in time", "heartbeat is not written"),
        }
    }
}

/// Removes the row of a worker that has ended.
pub(in crate::supervisor) async fn leave(shared: &Shared, control: &Control) {
    match timeout(LEAVE_LIMIT, control.delete(&shared.key(), &Condition::Always)).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => warn!(%error, "row of this worker is not removed"),
        Err(_) => warn!(error = "no answer in time", "row of this worker is not removed"),
    }
}

// === impl Shared ===

impl Shared {
    fn key(&self) -> RowKey {
        RowKey { partition: PARTITION.to_owned(), sort: self.me.clone() }
    }

    fn row(&self, counter: i64, now_unix_ms: i64) -> (Attributes, u64) {
        let mut row = self.key().attributes();
        row.insert("counter".to_owned(), Value::integer(counter));
        row.insert("heartbeat_ms".to_owned(), Value::integer(now_unix_ms));
        row.insert("version".to_owned(), env!("CARGO_PKG_VERSION").into());
        let expires = now_unix_ms / 1_000 + WORKER_ROW_SECONDS;
        row.insert(control::EXPIRES_AT.to_owned(), Value::integer(expires));
        let state = self.state();
        let want = state.want.as_ref().map(|wanting| wanting.want.clone());
        Member { draining: state.draining, want }.write(&mut row);
        (row, state.revision)
    }
}
