//! What a worker tells of itself: one snapshot behind `/readyz`, `/api/v1/status` and the status page.
//!
//! Everything in it comes from progress that was made. A time that is not known yet is absent, never zero and
//! never now.

use serde::{Deserialize, Serialize};

/// A worker and all it does. Times are milliseconds since 1970.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Status {
    /// Raised when a field changes its meaning; readers ignore fields they do not know.
    pub schema_version: u32,
    /// The program's version.
    pub version: String,
    /// The worker's id, as leases show it.
    pub worker: String,
    /// When it started.
    pub started_unix_ms: i64,
    /// When this was taken.
    pub now_unix_ms: i64,
    /// Whether it does what it is there for.
    pub ready: bool,
    /// Why it is not, a sentence each.
    pub not_ready: Vec<String>,
    /// Its replications, in order of the configuration.
    pub replications: Vec<Replication>,
    /// The replications of heartbeat tables. They never keep it from being ready.
    #[serde(default)]
    pub heartbeats: Vec<Replication>,
    /// What should be known and keeps nothing from working, a sentence each.
    #[serde(default)]
    pub notes: Vec<String>,
    /// The whole fleet; only where this worker coordinates it.
    #[serde(default)]
    pub fleet: Option<Fleet>,
}

/// What the coordinator sees of the whole fleet in the control table.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Fleet {
    /// The replications that the coordinator's configuration names, and those of heartbeats.
    pub replications: Vec<FleetReplication>,
}

/// A replication, whoever reads its shards.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FleetReplication {
    /// Its name.
    pub name: String,
    /// The source table.
    pub source: String,
    /// When the rows were read last.
    pub looked_unix_ms: Option<i64>,
    /// Shards of the stream.
    pub shards: FleetShards,
    /// Its replicas, in order of the configuration.
    pub replicas: Vec<FleetReplica>,
    /// Why its heartbeats are not written; absent when they are, or when it has none.
    pub note: Option<String>,
}

/// Counts of shards by what the fleet does with them.
#[derive(Debug, Clone, Default, Serialize, Deserialize, PartialEq, Eq)]
pub struct FleetShards {
    /// Held by a worker that renews its lease.
    pub owned: u64,
    /// Waiting for their parents' end.
    pub waiting: u64,
    /// Read and applied to the end, everywhere.
    pub ended: u64,
    /// Ready to be read, and held by nobody who lives.
    pub unowned: u64,
    /// Stopped by a gap.
    pub gap: u64,
}

/// How far a replica is, over all shards.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FleetReplica {
    /// Its name.
    pub name: String,
    /// Every change made at the source up to this time is in the replica.
    pub applied_through_unix_ms: Option<i64>,
    /// `now - applied_through`, never below zero.
    pub lag_seconds: Option<f64>,
    /// What proves that time.
    pub evidence: Option<Evidence>,
    /// Its heartbeats, where the source carries any.
    pub heartbeat: Option<Heartbeat>,
}

/// What proves how far a replica is; the strongest first.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Evidence {
    /// A heartbeat that was written to the source later was read back from the replica.
    Heartbeat,
    /// Records that were applied, or a silence so long that none can follow it.
    Records,
    /// A few empty polls in a row, which the service may answer although records follow.
    EmptyPolls,
}

/// How the heartbeats of a replica fare.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Heartbeat {
    /// When the newest one that is in the replica had been written.
    pub applied_unix_ms: Option<i64>,
    /// `now - applied`, never below zero.
    pub age_seconds: Option<f64>,
    /// Those that were not there in time, since this worker coordinates.
    pub lost: u64,
}

/// One source and its replicas.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Replication {
    /// Its name.
    pub name: String,
    /// The source table.
    pub source: String,
    /// The stream being read; absent until the source was described.
    pub stream_arn: Option<String>,
    /// Shards of the stream.
    pub shards: Shards,
    /// When all shards were last listed.
    pub discovered_unix_ms: Option<i64>,
    /// Of the shards being read, the one whose last successful poll is longest ago.
    pub oldest_poll_unix_ms: Option<i64>,
    /// Data that can no longer be read, and what to do about it.
    pub gaps: Vec<Gap>,
    /// What keeps the whole replication from going on.
    pub error: Option<String>,
    /// Its replicas, in order of the configuration.
    pub replicas: Vec<Replica>,
}

/// Counts of shards by what is done with them.
#[derive(Debug, Clone, Default, Serialize, Deserialize, PartialEq, Eq)]
pub struct Shards {
    /// Read by this worker.
    pub active: u64,
    /// Waiting for their parents' end, or for a lease.
    pub waiting: u64,
    /// Read and applied to the end, everywhere.
    pub ended: u64,
    /// Ready to be read, and held by no worker.
    pub unowned: u64,
    /// Held by another worker.
    pub elsewhere: u64,
    /// Stopped by a gap.
    pub gap: u64,
}

/// Changes that were lost to a replica because they can no longer be read.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct Gap {
    /// The shard that stopped; absent when the whole stream was replaced.
    pub shard: Option<String>,
    /// What was found.
    pub reason: String,
    /// What to do.
    pub advice: String,
    /// When it was found.
    pub found_unix_ms: i64,
}

/// What a replica is doing.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Nothing was applied or proven yet.
    Starting,
    /// Its lag is above a minute, or it is behind the other replicas in some shard, and it makes progress.
    CatchingUp,
    /// It keeps up.
    Streaming,
    /// Writes to it fail, or changes wait without any being applied.
    Stalled,
    /// People want nothing to be written to it until they resume it.
    Paused,
}

/// One replica of a replication.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Replica {
    /// Its name.
    pub name: String,
    /// The table written to.
    pub table: String,
    /// What it is doing.
    pub state: State,
    /// Every change made at the source up to this time is in the replica and checkpointed.
    pub applied_through_unix_ms: Option<i64>,
    /// `now - applied_through`, never below zero.
    pub lag_seconds: Option<f64>,
    /// When the newest change that was applied was made at the source.
    pub last_applied_unix_ms: Option<i64>,
    /// Time until the oldest change not yet applied is trimmed from the stream (24 hours minus the lag).
    pub headroom_seconds: Option<f64>,
    /// Changes read and not yet settled.
    pub pending_changes: u64,
    /// Memory they hold, and may hold.
    pub buffer_bytes: u64,
    /// See `buffer_bytes`.
    pub buffer_limit_bytes: u64,
    /// Write requests under way.
    pub batches_in_flight: u64,
    /// Shards that this worker reads for the replica by itself, because it is behind the others or has no room.
    #[serde(default)]
    pub detached_shards: u64,
    /// Keys whose newest change the replica refused.
    pub parked_keys: u64,
    /// What became of the changes since the worker started.
    pub ledger: Ledger,
    /// The newest fault that keeps writes from succeeding, and what to do about it; absent when they succeed.
    pub error: Option<String>,
}

/// Where changes went. `read` is always the sum of the others and of the pending ones.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, PartialEq, Eq)]
pub struct Ledger {
    /// Handed over by the stream, or by a copy.
    pub read: u64,
    /// Written, copied items included.
    pub applied: u64,
    /// Not written, because the replica has them or newer ones by its guard.
    #[serde(default)]
    pub stale: u64,
    /// Copied items that were dropped, because the stream brings the final state of their keys.
    #[serde(default)]
    pub superseded: u64,
    /// Replaced by a newer change of the same key that was written or parked.
    pub coalesced: u64,
    /// Left out by rule: older than the start, already checkpointed for this replica, or filtered.
    pub filtered: u64,
    /// Refused by the replica and kept with their payload.
    pub parked: u64,
    /// Given up because the lease was lost; the next holder reads them again.
    pub abandoned: u64,
}
