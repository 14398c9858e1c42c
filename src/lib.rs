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
//! Imports run downward only; `tests/layers.rs` holds the table.
//!
//! | layer | modules |
//! |---|---|
//! | shell | [`cli`] [`http`] [`config`] [`demo`] |
//! | programs | `supervisor` |
//! | stages | `stream` `route` `lane` `replica` `checkpoint` `lease` |
//! | ports | [`dynamo`] `clock` `backoff` `budget` `task` [`telemetry`] |
//! | words | [`item`] [`key`] [`shard`] [`record`] [`change`] [`fault`] |

pub mod backoff;
pub mod budget;
pub mod change;
pub mod checkpoint;
pub mod cli;
pub mod clock;
pub mod config;
pub mod control;
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
pub mod record;
pub mod replica;
pub mod route;
pub mod shard;
pub mod stream;
pub mod supervisor;
pub mod task;
pub mod telemetry;
