//! What the program tells of itself while it runs: logs and metrics.
//!
//! **Logs** ([`logs`]) are `tracing` events on standard error, as text for a person and as JSON for a machine.
//!
//! **Metrics** ([`Metrics`]) are the only place that knows the `prometheus` crate. An owner asks once for the
//! handle of what it owns, [`Source`], [`Replica`] or [`Calls`], and from then on only adds to atomics:
//!
//! ```text
//!  supervisor ── metrics.source(..), metrics.replica(..) ──> handles ──> stream, lane, replica, checkpoint
//!  dynamo     ── metrics.calls(service, region) ──> Calls                        │ add, set
//!                                                                                v
//!  http       ── metrics.render() <── registry <── counters, gauges, histograms, moments + the clock
//! ```
//!
//! What is told of the whole fleet is told by one worker, its coordinator, and only while it is that: those series
//! hang on a [`Leading`] and go with it.
//!
//! What holds:
//!
//! - **Timestamps, not ages.** A handle stores when something happened; lag and headroom are computed while the
//!   text is rendered, so that they grow when the one that should report is stuck.
//! - **Unknown is absent.** A time that is not known has no series: never 0, never now, never NaN (which no alert
//!   rule can compare).
//! - **Known is present.** A handle creates all its counters with 0, so that the first increment is seen by
//!   `rate()`.
//! - **Labels are bounded by the configuration.** `table` is the *source* table and `replica` the replica's name,
//!   which is what people group by. Two replications may have the same source table in different accounts or
//!   regions, so everything that is about a replication also has the label `replication`; its names are unique.
//!   Shards, sequence numbers, keys and request ids are never labels: they would grow for ever. Latency histograms
//!   have only the label `replica`, because each costs twenty series.
//! - **Names are one table**, the catalogue, which is printed as `deploy/METRICS.md`.

pub mod logs;

mod call;
mod catalogue;
mod copy;
mod fleet;
mod metrics;
mod process;
mod progress;
mod replica;
mod series;
mod source;

pub use call::{Calls, Outcome};
pub use copy::{Copies, CopyState};
pub use fleet::{FleetShards, Heartbeats, Leading, Verification};
pub use metrics::{CONTENT_TYPE, Error, Metrics};
pub use replica::{Replica, State};
pub use source::{LeaseChange, Shards, Source};

#[cfg(test)]
mod tests;
