//! The first copy of a table, while its stream is applied; and repairs, which are copies of single items.
//!
//! ```text
//!                      units, bytes                                     ┌──────── lane ────────┐
//!  segments ──> turn ──────────────> Scan ──> page of items ── lot ──> │ touched since the    │ ──> writer ──> replica
//!   (rota)                            │                                 │ page's read began?   │        │
//!      ^                              └ its read begins here (Page) ──> │ drop : put           │        │ ack
//!      └──────────────────── checkpoint of the segment <───────────────└──────────────────────┘ <──────┘
//! ```
//!
//! A person, or the configuration, asks for a [`Run`] by a row of the control table; the worker that holds all shards of
//! the replication does it ([`Runner`]). An item of a page goes through the same lane and writer as the stream's changes,
//! and is dropped there when the stream touched its key since the page's read began: then the stream has, or will have,
//! a state of it that is at least as new. What holds:
//!
//! - **Positions first.** The positions of all shards are recorded before the first page is read, so whatever changes
//!   during the copy comes by the stream. Nothing about a copy depends on how long the stream keeps it.
//! - **One writer.** Pages are written under a fence that is open only while no other worker may write to the replica,
//!   and each time of being alone has a fence of its own: what was read in an earlier one is read again.
//! - **Staleness is waited for.** Reads that are not strongly consistent begin only when this worker has watched the
//!   stream's writes for as long as a read may be behind.
//! - **A checkpoint is never ahead.** A segment's position moves when every item before it is durable: written, owned by
//!   the stream, or parked.
//! - **Bounded.** Bytes and units are reserved before a page is asked for; no page is read while live changes wait.
//! - **Nothing is dropped.** Items that an index cannot hold are counted, told, and parked as all refused items are.

mod image;
mod plan;
pub mod repair;
mod rota;
mod run;
mod runner;
mod store;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::budget::Budget;
use crate::clock::Clock;
use crate::dynamo::{self, Guard, Scan, Tables};
use crate::lane::{Delivery, Window};
use crate::lease::Fence;
use crate::replica::Gauges;
use crate::telemetry;

pub use plan::{SEGMENTS_MAX, segments};
pub use rota::Segment;
pub use run::{Progress, Refusal, Request, Run, State};
pub use runner::Runner;
pub use store::{Saved, Store};

/// Gives the right to write to a replica whatever does not come from its stream: open only while this worker is the
/// only one that may write to it. After it has closed, and another worker may have written, it gives another fence:
/// one that opens again would let an old page overtake what was written meanwhile.
pub type Sole = Arc<dyn Fn() -> Fence + Send + Sync>;

/// What the right to write is wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Purpose {
    /// A copy.
    Copy,
    /// Repairs.
    Repair,
}

/// Up to when every change of the source is in the replica, in milliseconds since 1970; `None` while nothing proves it.
pub type Watermark = Arc<dyn Fn() -> Option<i64> + Send + Sync>;

/// What copies and repairs of one replica are built from.
#[derive(Clone)]
pub struct Parts {
    /// Reads the source.
    pub source: Arc<dyn Tables>,
    /// The source table, by name or ARN.
    pub source_table: String,
    /// Describes the replica, and looks whether it is empty.
    pub replica: Arc<dyn Tables>,
    /// The replica table, by name or ARN.
    pub replica_table: String,
    /// How its items remember their newest change, if they do.
    pub guard: Option<Guard>,
    /// The way to the replica's writer.
    pub inbox: mpsc::UnboundedSender<Delivery>,
    /// What the writer's queue remembers of the stream's writes.
    pub window: Window,
    /// Memory that pages may take.
    pub budget: Budget,
    /// The right to write.
    pub sole: Sole,
    /// Says that the right to write is wanted for this, or no longer.
    pub want: Arc<dyn Fn(Purpose, bool) + Send + Sync>,
    /// What the writer shows: live changes that wait for it come first.
    pub gauges: Arc<Gauges>,
    /// How far the replica is.
    pub watermark: Watermark,
    /// Rows of the runs.
    pub store: Store,
    /// Called with each new state of a run.
    pub show: Arc<dyn Fn(&Run) + Send + Sync>,
    /// The time of day.
    pub clock: Clock,
    /// Where numbers go.
    pub metrics: telemetry::Copies,
}

/// Whether a table holds no item, by a strongly consistent read.
///
/// # Errors
/// When it cannot be read.
pub async fn is_empty(tables: &dyn Tables, table: &str) -> Result<bool, dynamo::Error> {
    let mut after = None;
    loop {
        let scan = Scan { items_max: Some(1), after: after.as_ref(), ..Scan::whole() };
        let page = tables.scan(table, scan).await?;
        if !page.items.is_empty() {
            return Ok(false);
        }
        after = page.next;
        if after.is_none() {
            return Ok(true);
        }
    }
}
