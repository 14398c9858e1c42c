//! Dynamirror keeps DynamoDB tables mirrored: it reads a source table's stream and applies every change to any
//! number of replica tables.
//!
//! ```text
//!              lease ── fence ─────────────────────────────────────────────────┐
//!                │ owns shard                                                  v
//!  DynamoDB   ┌──v──────┐ record ┌───────┐ change ┌──────┐ batch ┌─────────┐ ack ┌────────────┐
//!  Streams ──>│ stream  │───────>│ route │───────>│ lane │──────>│ replica │────>│ checkpoint │──> control
//!             └─────────┘        └───────┘        └──────┘       └─────────┘     └────────────┘    table
//! ```
//!
//! A [`supervisor::Worker`] runs one task per replication. That task keeps the stream's lineage, takes the leases of
//! shards, and starts a task per shard, whose [`stream::Reader`] hands over pages of records. [`route`] makes changes of
//! them for each replica, [`lane`] keeps the order of each key, a [`replica::Writer`] applies batches, and its acks move
//! the [`checkpoint::Frontier`], which the shard's [`lease::Row`] stores in the control table.
//!
//! Beside it, [`copy`] brings over what a table held before, through the same lanes and writer, while one worker holds all
//! shards of the replication; [`schema`] makes a replica's table like its source's, and [`verify`] compares the two.
//!
//! Imports run downward only; `tests/layers.rs` holds the table.
//!
//! | layer | modules |
//! |---|---|
//! | shell | [`cli`] [`http`] [`config`] [`demo`] |
//! | programs | [`supervisor`] [`copy`] [`schema`] [`verify`] |
//! | stages | [`stream`] [`route`] [`lane`] [`replica`] [`checkpoint`] [`lease`] |
//! | ports | [`dynamo`] [`control`] [`clock`] [`backoff`] [`budget`] [`capacity`] [`task`] [`telemetry`] |
//! | words | [`item`] [`key`] [`shard`] [`record`] [`change`] [`fault`]; `mutation`: deliberate bugs, in tests alone |
//! | aside | [`emulator`]: a server for the demo and the tests, which judges the daemon and shares nothing with it |

pub mod backoff;
pub mod budget;
pub mod capacity;
pub mod change;
pub mod checkpoint;
pub mod cli;
pub mod clock;
pub mod config;
pub mod control;
pub mod copy;
#[cfg(feature = "emulator")]
pub mod demo;
pub mod dynamo;
#[cfg(feature = "emulator")]
pub mod emulator;
pub mod fault;
pub mod http;
pub mod item;
pub mod key;
pub mod lane;
pub mod lease;
mod mutation;
pub mod record;
pub mod replica;
pub mod route;
pub mod schema;
pub mod shard;
pub mod stream;
pub mod supervisor;
pub mod task;
pub mod telemetry;
pub mod verify;

#[cfg(test)]
#[path = "../tests/simulation/mod.rs"]
mod simulation;
