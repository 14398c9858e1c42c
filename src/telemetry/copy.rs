//! The metrics of a replica's first copy.

use std::sync::Arc;

use prometheus::{Counter, IntCounter, IntGauge};

use super::metrics::Families;
use super::progress::ReplicaMoments;
use super::source::{add, set};

/// Counts for the copies of one replica. Clones count together.
#[derive(Debug, Clone)]
pub struct Copies {
    shared: Arc<Series>,
}

/// What a copy is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyState {
    /// Nothing: none was asked for, or the last was refused or cancelled.
    None,
    /// It was asked for and has not begun.
    Wanted,
    /// Items are copied.
    Copying,
    /// What the replica has beyond its source is looked for.
    Reconciling,
    /// Changes made during the copy are being applied.
    Settling,
    /// It is done.
    Done,
}

#[derive(Debug)]
struct Series {
    moments: Arc<ReplicaMoments>,
    items: IntCounter,
    bytes: IntCounter,
    units: Counter,
    segments: [IntGauge; 2],
    states: [IntGauge; 6],
    /// Deleted, put.
    repairs: [IntCounter; 2],
}

// === impl CopyState ===

impl CopyState {
    /// Their labels, in the order of their discriminants.
    const LABELS: [&str; 6] = ["none", "wanted", "copying", "reconciling", "settling", "done"];
}

// === impl Copies ===

impl Copies {
    pub(super) fn new(families: &Families, replication: &str, table: &str, replica: &str) -> Self {
        let route = [replication, table, replica];
        let and = |label: &'static str| [replication, table, replica, label];
        let shared = Series {
            moments: families.progress.replica(route),
            items: families.copy_items.with(route),
            bytes: families.copy_bytes.with(route),
            units: families.copy_units.with(route),
            segments: ["total", "finished"].map(|of| families.copy_segments.with(and(of))),
            states: CopyState::LABELS.map(|state| families.copy_state.with(and(state))),
            repairs: ["delete", "put"].map(|outcome| families.repairs.with(and(outcome))),
        };
        Self { shared: Arc::new(shared) }
    }

    /// A page of the source was read, with so many items and bytes, for so many units.
    pub fn read(&self, items: u64, bytes: u64, units: f64) {
        self.shared.items.inc_by(items);
        self.shared.bytes.inc_by(bytes);
        add(&self.shared.units, units);
    }

    /// Segments that the table is cut into, and those that are durable to their ends.
    pub fn set_segments(&self, total: u32, finished: u32) {
        set(&self.shared.segments[0], total.into());
        set(&self.shared.segments[1], finished.into());
    }

    /// What it is doing now.
    pub fn set_state(&self, state: CopyState) {
        for (index, gauge) in self.shared.states.iter().enumerate() {
            gauge.set(i64::from(index == state as usize));
        }
    }

    /// A key was repaired: put, or deleted.
    pub fn repaired(&self, is_put: bool) {
        self.shared.repairs[usize::from(is_put)].inc();
    }

    /// When the last copy began, and since when the replica is known to equal its source, in milliseconds since 1970.
    pub fn set_times(&self, started_unix_ms: Option<i64>, consistent_since_unix_ms: Option<i64>) {
        self.shared.moments.copy_started.set(started_unix_ms);
        self.shared.moments.copy_consistent_since.set(consistent_since_unix_ms);
    }
}
