//! What people want of replicas while everything else goes wrong: pauses, and seeks back.
//!
//! Wishes are written as the commands write them, row by row, by somebody who repeats what failed. **What must hold**: when
//! all are to run again, everything is in the replicas (I4); a checkpoint goes back only with a greater epoch, and an
//! epoch never (I2); what a checkpoint of the new epoch passes was written again, if an older change replaced it (I2, I3);
//! and of a paused replica nothing is read, once every worker must know ([`OBEYED_WITHIN`]). What was read before still
//! lands, which is what a pause promises.
//!
//! No seek goes forward here, since what it passes over would be missing rightly, and nothing is trimmed.

use std::time::Duration;

use crate::clock::Clock;
use crate::control;
use crate::lease;
use crate::supervisor::desired::{Seek, Store, Target, Wish};

/// How long after a wish was written a worker may read on, on top of its lease: one that hears nothing loses it, and one
/// that hears asks every second, and may have a page under way.
pub(super) const OBEYED_WITHIN: Duration = Duration::from_secs(5);

/// Between two attempts of a person.
const AGAIN: Duration = Duration::from_millis(700);

/// What somebody wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Order {
    Pause,
    Resume,
    Seek(Target),
}

/// Writes a wish for a replica, however often it takes.
pub(super) async fn want(store: Store, clock: Clock, replication: String, replica: String, order: Order) {
    while !attempt(&store, clock, &replication, &replica, &order).await.unwrap_or(false) {
        tokio::time::sleep(AGAIN).await;
    }
}

async fn attempt(
    store: &Store,
    clock: Clock,
    replication: &str,
    replica: &str,
    order: &Order,
) -> Result<bool, control::Error> {
    let wish = store.load().await?.of(replication, replica);
    let now_unix_ms = clock.unix_ms();
    let wanted = match order {
        Order::Pause => Wish { paused_unix_ms: Some(now_unix_ms), ..wish },
        Order::Resume => Wish { paused_unix_ms: None, ..wish },
        Order::Seek(target) => {
            let epoch = now_unix_ms.max(wish.epoch() + 1);
            wish.with_seek(Seek { epoch, target: target.clone(), may_skip: false }, 0)
        }
    };
    store.save(replication, replica, &wanted).await
}

/// After how long no worker reads for a paused replica.
pub(super) fn obeyed_within(lease: &lease::Config) -> Duration {
    lease.duration + OBEYED_WITHIN
}
