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

mod gauges;
mod pace;
pub mod parked;
#[cfg(test)]
mod tests;
mod writer;

use std::time::Duration;

pub use gauges::{Counts, Gauges, Trouble};
pub use writer::{Parts, Writer};

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
    /// Keys that may be parked. One more stalls the replica instead: when so many are refused, it is the table
    /// that is wrong and not the items.
    pub park_limit: usize,
}
