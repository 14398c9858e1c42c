//! What waits to be written to one replica, in the order that matters: per key.
//!
//! A shard hands over [`Delivery`]s, a page's changes each with the [`Lot`] that they belong to. The [`Queue`]
//! keeps at most two versions of a key: the one being written and the newest behind it (I3). Versions in between
//! are replaced, and whoever replaces takes over their claims, so a lot is settled when the *last* change that
//! covers it is durable. The queue makes [`Batch`]es of different keys and is told what became of them:
//!
//! ```text
//!             push                next_batch          applied, stale, parked
//!  delivery ────────> waiting ────────────────> sending ─────────────────> settled ──> ack of the lot
//!                      ^   │ newer: replaced        │
//!                      │   └──────────────────      │ retry: back to the head of its key,
//!                      └────────────────────────────┘        unless a newer one waits there
//! ```
//!
//! It is a plain state machine: no task, no clock of its own, no I/O. Time comes in as an argument.
//!
//! A copy's items enter here too, in lots that have a [`Page`]. They fill up batches that the stream's changes leave room
//! in, and never take a key back: one that comes while a change of its key waits or is on its way is dropped at once, and
//! the others are asked about when they are about to be sent, by the [`Window`]'s memory of touched keys. An item that is
//! dropped counts as durable, because the stream brings its final state.

mod batch;
mod claim;
#[cfg(test)]
mod copying;
mod queue;
#[cfg(test)]
mod tests;
mod window;

use tokio::sync::mpsc;

use crate::budget::{Budget, Reservation};
use crate::change::Change;
use crate::lease::Fence;
use crate::shard::ShardId;

pub use batch::Batch;
pub use queue::Queue;
pub use window::{Armed, Page, Window};

/// One page's changes for one replica.
#[derive(Debug)]
pub struct Delivery {
    /// In the order of the shard.
    pub changes: Vec<Change>,
    /// What they belong to.
    pub lot: Lot,
}

/// A page of a shard, as far as one replica is concerned: it is settled as a whole.
#[derive(Debug)]
pub struct Lot {
    /// Its number, which comes back in the [`Ack`].
    pub number: u64,
    /// Which replica of the shard this is, for the ack.
    pub replica: usize,
    /// The shard it comes from; `None` for a parked change whose shard is not known.
    pub shard: Option<ShardId>,
    /// The right to write these changes.
    pub fence: Fence,
    /// Where the ack goes; nobody listens any more when the shard was stopped.
    pub acks: mpsc::UnboundedSender<Ack>,
    /// The memory that the page takes, given back when it is settled.
    pub reservation: Reservation,
    /// The reading of a table that these items were copied by; `None` for changes of the stream.
    pub page: Option<Page>,
}

/// What became of a lot, once nothing of it waits or is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ack {
    /// As in the [`Lot`].
    pub replica: usize,
    /// As in the [`Lot`].
    pub lot: u64,
    /// Whether every change of it is durable: written (or stale), replaced by a newer one that is, or parked with its
    /// payload.
    /// Otherwise some were given up because the right to write them ended, and nothing writes them any more: the
    /// shard must be read again from its checkpoint, even if its lease turns out to be held still.
    pub durable: bool,
}

/// What became of changes, as counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Written as puts.
    pub put: u64,
    /// Written as deletes.
    pub deleted: u64,
    /// Refused under a guard, because the replica has them or newer ones.
    pub stale: u64,
    /// Replaced by a newer change of the same key.
    pub coalesced: u64,
    /// Refused by the replica and kept.
    pub parked: u64,
    /// Given up because the right to write them ended.
    pub abandoned: u64,
    /// Copied items that were put.
    pub copied: u64,
    /// Copied absences that were written as deletes.
    pub copied_deletes: u64,
    /// Copied items that were dropped, because the stream owns their keys.
    pub superseded: u64,
}

// === impl Tally ===

impl Tally {
    /// Written, whether by the stream or by a copy.
    pub fn applied(&self) -> u64 {
        self.put + self.deleted + self.copied + self.copied_deletes
    }
}

// === impl Lot ===

impl Lot {
    /// A lot of which nobody waits to hear, and that takes no memory from anybody.
    pub fn unheard(shard: Option<ShardId>, fence: Fence) -> Self {
        let (acks, _nobody) = mpsc::unbounded_channel();
        let reservation = Budget::new(0).try_reserve(0).expect("nothing of it is taken");
        Self { number: 0, replica: 0, shard, fence, acks, reservation, page: None }
    }
}
