//! A model of DynamoDB and DynamoDB Streams: everything that the real services may do to a replicator, in memory,
//! on tokio's paused clock, decided by one seed.
//!
//! ```text
//!  worker ── Handle (node, site) ── fate ──> request under way ──> effect, at one instant ──> answer under way ──> worker
//!                                    │                                    │
//!                             rules, cuts, dice                 Table ── Stream ── Shard      History
//!  driver ── Model: put, delete, split, roll, trim, forget, replace_stream, rules …    ┘
//! ```
//!
//! A [`Model`] has *sites* (regions, accounts, endpoints), each with tables and their streams. A worker gets a
//! [`Handle`] per site, which is its [`Streams`](crate::dynamo::Streams) and its [`Tables`](crate::dynamo::Tables); the
//! node it was made for is who the rules and the history speak of.
//!
//! **A call** is decided when it is first polled: how long its request is under way, whether it arrives, what the server
//! does with it, and when the answer comes, if it comes. Its effect is carried out by a task of the model's own. A
//! caller that gives up, is dropped or is not polled any more changes nothing about it, so a write may land long after
//! its author died. Nothing lands later than [`Settings::longest_effect`] after its caller stopped waiting, except by
//! [`Trouble::LandsAfter`], which is there to show what happens then. A caller waits no longer than its patience, as
//! the SDK's clients do; then the call is `Unanswered`.
//!
//! **Trouble** comes from [`Rule`]s: each names a [`Trouble`], a chance, and optionally a node, a site, a table,
//! operations, a window of time, a number of times. The first rule that matches and hits decides. Beside them a node
//! may be cut off from a site ([`Model::cut`]), and items may be poison ([`Model::poison`]). Streams have [`Quirks`] of
//! their own: short and empty pages, listings that lag, and what an endpoint does not know.
//! [`Model::quiesce`] ends all of it.
//!
//! **Streams**: a key belongs to the open shard that owns the range of its hash. A sequence number grows along a shard and
//! from parent to child, is unique in its stream, gains digits while the shard is written, and says nothing across
//! shards.
//!
//! **The truth** is in [`Model::items`] (what a table holds), [`Model::history`] (every write that landed, every read
//! that was served) and [`Model::shards`].
//!
//! Invariants: one seed and one order of calls give one outcome; every effect is in the history exactly once;
//! no state depends on whether anybody still waits for an answer. The model is written from the services' documentation
//! and shares only words and the two traits with the daemon.

mod driver;
mod fate;
mod guarding;
mod handle;
mod history;
mod listing;
mod reading;
mod rule;
mod settings;
mod shard;
mod stream;
mod table;
#[cfg(test)]
mod tests;
mod world;
mod writing;

use std::sync::{Arc, Mutex, MutexGuard};

pub(crate) use handle::Handle;
pub(crate) use history::{History, Look, Part, Read, Write};
pub(crate) use rule::{Operation, Operations, Rule, RuleId, Trouble};
pub(crate) use settings::{Quirks, Settings};
pub(crate) use shard::ShardState;
pub(crate) use stream::ShardRef;
use world::World;

/// A worker's process, as rules and the history name it. Whoever restarts one may give it a new number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Node(pub(crate) u16);

/// A region, account or endpoint with tables of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Site(u16);

/// One table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct TableId(u16);

/// The services. Cloning shares them.
#[derive(Clone)]
pub(crate) struct Model {
    world: Arc<Mutex<World>>,
}

impl Model {
    /// Services without a site. Must be called on the runtime that the workers run on.
    pub(crate) fn new(settings: Settings) -> Self {
        Self { world: Arc::new(Mutex::new(World::new(settings))) }
    }

    /// The services as `node` sees them in `site`.
    pub(crate) fn handle(&self, node: Node, site: Site) -> Arc<Handle> {
        Arc::new(Handle::new(self.clone(), node, site))
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().expect("the model does not panic while it works")
    }
}
