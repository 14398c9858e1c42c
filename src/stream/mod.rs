//! Reads a stream: one shard into pages of records, and the stream's description into a lineage of shards.
//!
//! ```text
//!              owner: due, room                     Page
//!   Reader <──────────────────── poll ──> cursor ──────────> owner
//!                                 ^ │ fault  │ keys only
//!                        Recovery └─┘        └──> hydrate (consistent reads) ──┘
//! ```
//!
//! A [`Reader`] is one cursor over one shard. It takes no decision of its own about when to read: its owner asks for
//! the next page when it is [`due`](Reader::due) and when there is room for it, which the owner reserved before
//! (I7). Where the owner had to wait for room it lets the reader forget its iterator, so that nobody holds one while
//! waiting. A [`Place`] says how far a reader is, and whether one can go on where another stands.
//!
//! What holds:
//!
//! - The last page of a shard carries its records: [`Page::is_last`] says that nothing follows it.
//! - Positions only move forward, and only over records that were given out or counted as skipped.
//! - What can no longer be read is a [`Polled::Gap`], never an end. [`gap`] holds the one decision.
//! - Faults are retried for ever, by the program's one table ([`crate::fault::directive`]); only a gap, the
//!   end and the owner stop a reader. A poll may be dropped at any time together with its reader.
//!
//! A [`Describer`] lists shards under the API's rate limit, and a [`Lineage`] merges its pages.

mod cursor;
mod describer;
pub mod gap;
mod hydrate;
mod lineage;
mod metrics;
mod pace;
mod place;
mod reader;
mod recovery;
#[cfg(test)]
mod script;

use std::sync::Arc;
use std::time::Duration;

use crate::dynamo::{self, StreamArn, Streams, Tables};
use crate::fault::Directive;
use crate::record::{Record, View};
use crate::shard::Position;

pub use describer::Describer;
pub use gap::{Quiet, Reason as GapReason};
pub use lineage::{Lineage, Sync};
pub use metrics::Metrics;
pub use place::Place;
pub use reader::Reader;

/// How long the service keeps a record (Developer Guide, "Change data capture for DynamoDB Streams"). Older ones
/// may be trimmed at any moment.
pub const RETENTION: Duration = Duration::from_secs(24 * 60 * 60);

/// Room reserved in each budget before a page is asked for. `GetRecords` answers with at most 1 MB of data,
/// which its JSON text exceeds by about 300 bytes of names and numbers per record and a third for binary
/// values: 1.5 MiB holds 1 MB with 1,000 records of plain text, and almost all others. The rare larger page
/// is counted as what it is once it is there.
pub const PAGE_RESERVE_BYTES: usize = 3 * 512 * 1024;

/// Memory that one change takes beside its text until it is settled: itself (about 90 bytes), its place in the queue
/// of a replica (about 200), and its share of tables that grow by doubling.
pub const CHANGE_BYTES: usize = 384;

/// How often a shard is polled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// Pause after a page with fresh records; never taken as less than 200 ms, so that one shard is not polled
    /// more than five times a second (what the service is known to bear). A reader that is behind does not
    /// pause.
    pub active_pause: Duration,
    /// The pause that empty pages let it grow to; never taken as less than `active_pause`. It bounds how long
    /// the first change after a quiet time waits, and what polling quiet shards costs.
    pub idle_pause: Duration,
}

/// Where a reader's records come from: a stream and its table. Shared by the readers of one stream.
#[derive(Clone)]
pub struct Source {
    /// Reads the stream.
    pub streams: Arc<dyn Streams>,
    /// Reads the table, where records carry keys alone.
    pub tables: Arc<dyn Tables>,
    /// The table, a name or an ARN.
    pub table: String,
    /// The stream.
    pub stream: StreamArn,
    /// What its records carry.
    pub view: View,
}

/// Where a reader starts, and what is known of the time before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Start {
    /// The position: a checkpoint's, or the first one of a shard that was never read.
    pub position: Position,
    /// Whether the start was decided by this very process just now. Only then a [`Position::Latest`] is asked
    /// for as such, and only once: everybody else, and a second attempt, reads from its time.
    pub fresh: bool,
    /// Every record of this shard created up to this time is known to be applied, or not wanted; milliseconds
    /// since 1970. It tells a trimmed position that lost nothing from one that did. For a shard whose trimmed
    /// past is not wanted (the first start of a replication at the trim horizon) it is the time of the
    /// decision; `None` means that nothing is known, and any trimming is a gap.
    pub read_through_unix_ms: Option<i64>,
}

/// What came of one poll.
#[derive(Debug)]
pub enum Polled {
    /// It succeeded. Pages may be empty: they prove that the shard can be read.
    Page(Page),
    /// A fault, which was told if it is worth it, so that the reader is due again after a pause; or the right to read
    /// ended before the page was asked for.
    Failed,
    /// Records can no longer be read.
    Gap(GapReason),
}

/// What one successful poll brought.
#[derive(Debug)]
pub struct Page {
    /// The records, oldest first. Where the view carries no new image they are hydrated: `image` is the
    /// item as it is now, `kind` is `Modify` or, where there is none, `Remove`, and of several records of
    /// one key only the last is there.
    pub records: Vec<Record>,
    /// The position after this page: `After` the last record that `GetRecords` gave, skipped ones included,
    /// or the position before it when there was none. It is never `End`; `is_last` says that.
    pub position: Position,
    /// Memory that the records keep alive, and [`CHANGE_BYTES`] for each.
    pub held_bytes: usize,
    /// Records that were read and are not in `records`: older than the start, at or before the position
    /// before this page, or (hydrated pages) superseded by a later one of the same key in this page.
    pub skipped: u64,
    /// How long the shard has given nothing, this page included.
    pub quiet: Option<Quiet>,
    /// Whether the shard is closed and this was its last page.
    pub is_last: bool,
}

/// A fault that is being retried. The next page says that it is over. Told again at most every ten seconds while the
/// same fault lasts.
#[derive(Debug)]
pub struct Trouble {
    /// What failed.
    pub error: dynamo::Error,
    /// What is done about it.
    pub directive: Directive,
}

// === impl Config ===

impl Default for Config {
    /// Four polls a second while changes come, as AWS Lambda does; one a second when none do, which is about
    /// the 2.5 million calls a month that an account has free, for one shard.
    fn default() -> Self {
        Self { active_pause: Duration::from_millis(250), idle_pause: Duration::from_secs(1) }
    }
}
