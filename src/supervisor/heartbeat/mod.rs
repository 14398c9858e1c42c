//! Heartbeats: items that the coordinator writes to a source again and again, and looks for in the replicas. A stream
//! never says that it has been read to its end, so on an idle one nothing else proves that replication works.
//!
//! ```text
//!  coordinator ── put ──> source table ── stream ──> shard ── lane ──> replica table
//!       ^  written                                                          │ applied
//!       └──────────────── fetch, consistent, once a second while one is out ┘
//! ```
//!
//! **Dedicated** heartbeats have tables of their own: one per source endpoint, and one for it at each endpoint that
//! replicas of that source's tables are at. They are replicated by a replication like any other, which the
//! configuration never names, so they prove credentials, stream, leases, the way through the lanes and the write, for
//! one table of the endpoint. **In-table** heartbeats are items with reserved keys in a user's own table; they flow to
//! its replicas, and move the watermark of each shard that one of the keys falls into.
//!
//! What holds:
//!
//! - Only the coordinator writes, and only it tells of them ([`crate::telemetry::Leading`]).
//! - They never make a worker unready, and never keep a change waiting: where their tables are missing, that is told
//!   once and everything else goes on (`gate`).
//! - A heartbeat counts as applied when it was read back, never before. One that is not there after five intervals is
//!   lost, even if it comes later.
//! - Heartbeats of a slot replace each other, so a newer one confirms those before it. Their sequence rises across
//!   coordinators, because a new one reads what the last one wrote.

mod beat;
mod gate;
mod item;
mod tracker;

use std::time::Duration;

use crate::dynamo::KeyAttribute;

pub(super) use beat::{Route, beat};
pub(super) use gate::Gate;
pub use item::{PREFIX, Unfit, check};

/// The heartbeats that a worker writes when it is the coordinator.
#[derive(Clone)]
pub struct Config {
    /// Time between two.
    pub interval: Duration,
    /// Replications of heartbeat tables, whose names collide with no other; see [`dedicated_name`].
    pub dedicated: Vec<super::Replication>,
    /// Replications whose own tables carry heartbeats.
    pub in_table: Vec<InTable>,
}

/// Heartbeats in a user's table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InTable {
    /// The replication's name.
    pub replication: String,
    /// How many keys are written.
    pub keys: usize,
}

/// Intervals after which a heartbeat that is not in the replica is lost.
const LOST_AFTER: u32 = 5;

/// The key of a heartbeat table, that of every table of ours.
const KEY: [(&str, &str); 2] = [("pk", "S"), ("sk", "S")];

// === impl Config ===

impl Default for Config {
    /// None at all.
    fn default() -> Self {
        Self { interval: Duration::from_secs(10), dedicated: Vec::new(), in_table: Vec::new() }
    }
}

/// The name of the replication of the heartbeats of `source`. A configured name holds no `#`, so no row of the control
/// table can be of both.
pub fn dedicated_name(source: &str) -> String {
    format!("#heartbeat/{source}")
}

/// Whether a table with this key can be a heartbeat table.
pub fn is_ours(key: &[KeyAttribute]) -> bool {
    key.iter().map(|part| (part.name.as_str(), part.kind.as_str())).eq(KEY)
}
