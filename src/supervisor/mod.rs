//! Builds, watches and drains the replications of one worker.
//!
//! A [`Worker`] holds one task per replication. That task knows the stream's lineage and the rows of the control
//! table, decides with `plan` what each shard needs, takes its part of the leases (`lease::assign`, by what `fleet` sees
//! of the other workers), and starts one task per shard (`shard`), which reads it, hands changes over to the writers of
//! the replicas, and renews the lease with the checkpoints.
//!
//! ```text
//!  worker ── replication ──┬── shard ── cursors (stream) ── pages ──> feeds (route) ──┐
//!                          ├── shard …                                               v
//!                          └── writers, one per replica (lane, replica) <──── deliveries
//!                                    └── acks ──> frontier (checkpoint) ──> row (lease) ──> control table
//! ```
//!
//! Everything is per shard and replica: whether it may be read (`plan`), on which of the shard's two cursors it is,
//! its frontier, its end and its gaps. So a replica that is slow, down or new delays no other (I8).
//!
//! Parts are built from the sink to the source: writers before shards. A drain goes the other way: shards stop
//! reading, their last writes are settled, checkpoints written, leases released; then the writers end.
//! People pause replicas and send them elsewhere in the stream while workers run ([`desired`]).
//! Beside them one worker of the fleet is its `coordinator`: it tells how far the fleet as a whole is, and writes
//! [`heartbeat`]s.
//!
//! While something is copied, one worker holds all shards of the replication ([`Affinity`]).
//!
//! A replication that cannot start keeps trying and says why; it never takes the others down with it.

mod affinity;
mod board;
mod coordinator;
pub mod desired;
mod feed;
mod fleet;
pub mod heartbeat;
mod hold;
mod plan;
mod replication;
mod shard;
pub mod status;
mod sync;
#[cfg(test)]
mod tests;
mod watch;
mod worker;

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::control::Control;
use crate::copy;
use crate::dynamo::{Streams, Tables};
use crate::lease;
use crate::schema;
use crate::stream;
use crate::telemetry;

pub use affinity::{Affinity, Want};
pub use board::Board;
pub use plan::Start;
pub use worker::{Error, Worker};

/// All that a worker is told.
#[derive(Clone)]
pub struct Config {
    /// Its id, which people know it by; each process of one id is a worker of its own.
    pub worker: String,
    /// Where leases and checkpoints are kept.
    pub control: Control,
    /// Times of leases.
    pub lease: lease::Config,
    /// How long a drain may take.
    pub grace: Duration,
    /// The time of day.
    pub clock: Clock,
    /// Where numbers go.
    pub metrics: Arc<telemetry::Metrics>,
    /// What is replicated.
    pub replications: Vec<Replication>,
    /// What proves that it is, where nothing is changed.
    pub heartbeat: heartbeat::Config,
}

/// One source and its replicas.
#[derive(Clone)]
pub struct Replication {
    /// Its name, unique in the control table.
    pub name: String,
    /// Where a replica starts that was never started before.
    pub start: Start,
    /// The source.
    pub source: Source,
    /// Where its changes go; at least one.
    pub replicas: Vec<Replica>,
    /// How they are verified all the time; `None` when they are not.
    pub verify: Option<Verify>,
}

/// A verification that never ends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Verify {
    /// The time in which all items are compared once.
    pub every: Duration,
    /// Read capacity units per second that it may take of each table.
    pub read_units: f64,
}

/// A table whose changes are read.
#[derive(Clone)]
pub struct Source {
    /// The table, by name or ARN.
    pub table: String,
    /// Describes it, and reads its items where the stream carries keys alone.
    pub tables: Arc<dyn Tables>,
    /// Reads its stream.
    pub streams: Arc<dyn Streams>,
    /// How often its shards are polled.
    pub reader: stream::Config,
    /// Time between full listings of its shards.
    pub discovery: Duration,
}

/// A table that changes are written to.
#[derive(Clone)]
pub struct Replica {
    /// Its name, unique in its replication.
    pub name: String,
    /// Writes to it.
    pub tables: Arc<dyn Tables>,
    /// Memory that its changes may take.
    pub buffer_bytes: usize,
    /// How it is written to.
    pub writer: crate::replica::Config,
    /// How what the source holds already gets into it.
    pub copy: FirstCopy,
    /// Keys of the stream's writes that are remembered while it is copied, before no further page is read; usually
    /// [`Window::KEYS_MAX`](crate::lane::Window::KEYS_MAX).
    pub window_keys_max: usize,
    /// What it takes to make its table like its source's; `None` where nobody is to look.
    pub schema: Option<schema::Pair>,
}

/// How the items that a source holds already get into a replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FirstCopy {
    /// Not at all: nobody asks for it.
    Never,
    /// When people ask for it.
    OnDemand,
    /// By itself, when the replica is started for the first time; later ones when people ask for them.
    Auto(copy::Request),
}
