//! Writes changes to one replica table, and says when they are durable there.
//!
//! One [`Writer`] per replica owns its [`lane::Queue`](crate::lane::Queue) and all requests to its table, whatever
//! shard they come from, so there is one place that keeps a key's order, fills batches, and knows the table's pace.
//! It is the only owner of retries. What a fault means is read from [`crate::fault::directive`]:
//!
//! - throttled: fewer requests at once, or a pause for these keys only when one range of keys is hot;
//! - unanswered: the attempt may still land, so its keys wait until it no longer can;
//! - invalid: the batch is halved until the change that spoils it stands alone; that key is parked with its payload
//!   and the others go on. A later change of a parked key is tried in its place, and settles it when it applies.
//!
//! Under a guard each change of a batch is a conditional request of its own, and one that the replica refuses because it
//! has that change or a newer one is settled as stale: a replay after a restart, a take-over, a write of a worker that
//! woke up too late. An attempt that was done and whose answer was lost is found stale when it is made again.

mod gauges;
mod pace;
pub mod parked;
#[cfg(test)]
mod tests;
mod writer;

use std::time::Duration;

use crate::dynamo::Guard;

pub use gauges::{Counts, Gauges, Trouble};
pub use writer::{Parts, RetryLot, Writer};

/// How one replica is written to.
#[derive(Debug, Clone)]
pub struct Config {
    /// The table, by name or ARN.
    pub table: String,
    /// Write requests under way at the same time, at most; at least 1.
    pub batches_in_flight: usize,
    /// The longest time of one write attempt.
    pub attempt_timeout: Duration,
    /// How long after an unanswered attempt nothing is written to its keys: it may still land until then.
    pub settle: Duration,
    /// Lets no older state of an item replace a newer one; each change is a request then.
    pub guard: Option<Guard>,
    /// Keys that may be parked. One more stalls the replica instead: when so many are refused, it is the table
    /// that is wrong and not the items.
    pub park_limit: usize,
}
