//! Who reads a shard, and how far it is: one row of the control table per shard.
//!
//! The row holds the lease and the checkpoints of all replicas, so ownership and progress are one conditional
//! write: whoever writes a row names the counter it has seen last, and each write raises it. A worker that lost
//! its lease fails its next write, and learns it.
//!
//! ```text
//!            take                 renew + checkpoint              release (drained)
//!  unowned ───────> owned by A ──────────────────────> owned by A ───────────────> unowned
//!                      │  counter stood still for a whole duration, by B's own clock
//!                      └──────────────────────────────> taken by B ── settle ──> first write
//! ```
//!
//! Expiry is judged by whoever wants the lease, from the counter it observed and its own monotonic clock; wall
//! clocks are never compared. The holder counts its lease from *before* it sent the renewal and closes its
//! [`Fence`] one attempt before the end; a successor waits for [`Config::settle`] before its first write, so that
//! nothing of the old holder lands after it (I5). A released lease needs no wait.
//!
//! Many workers share the leases of a replication: [`assign`] says who takes which, by the [`load`] that each was
//! measured to be. A lease moves from a live worker to another only when its holder gives it up: the other one tells
//! that it wants it, the holder finishes and releases it, and names whom it is meant for.
//!
//! What one worker of the fleet does for all, or for a whole replication, is leased like a shard, by a row of its own: a
//! [`Post`].

pub mod assign;
mod fence;
mod leased;
pub mod load;
mod observer;
mod post;
mod row;
mod rows;
mod table;

use std::time::Duration;

use crate::mutation::{self, Mutation};

pub use fence::Fence;
pub use leased::Renewal;
pub use observer::{Claim, Claims, Observer};
pub use post::{Post, Term};
pub use row::{Gap, Owner, Row, State, owner, worker};
pub use rows::Rows;
pub use table::Leases;

/// Times of leases.
#[derive(Debug, Clone, Copy)]
pub struct Config {
    /// A lease that is not renewed for this long may be taken.
    pub duration: Duration,
    /// Time between renewals, each of which writes the checkpoints.
    pub renew_interval: Duration,
    /// The longest time one write attempt to any replica takes.
    pub longest_attempt: Duration,
}

impl Config {
    /// How long after a renewal was sent a write may still be sent.
    pub fn fence_span(&self) -> Duration {
        self.duration.saturating_sub(self.longest_attempt)
    }

    /// How long one write of a lease's row may take: as long as leaves time for others before the lease runs out.
    pub fn row_write_limit(&self) -> Duration {
        self.longest_attempt.max(self.duration / 4)
    }

    /// How long a successor waits before its first write: an attempt that the old holder began at the last
    /// moment has ended by then, and a service that was slow to answer it has finished it.
    pub fn settle(&self) -> Duration {
        if mutation::is_on(Mutation::SkipSettle) { Duration::ZERO } else { self.longest_attempt }
    }
}
