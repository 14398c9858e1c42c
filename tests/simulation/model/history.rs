//! Everything that happened at the servers, in order.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::stream::ShardRef;
use super::{Node, TableId};
use crate::item::{Attributes, Item};
use crate::key::Key;

/// What landed and what was read since the model was made.
#[derive(Debug, Clone, Default)]
pub(crate) struct History {
    /// Every change of every table, in the order in which they landed.
    pub(crate) writes: Vec<Write>,
    /// Every page that was served, whether or not its answer came, in order.
    pub(crate) reads: Vec<Read>,
    /// Every page of a table that was served, and every answer to a question for items, in order.
    pub(crate) looks: Vec<Look>,
    /// Calls that were sent, and how many of them met trouble.
    pub(crate) calls: u64,
    /// See `calls`.
    pub(crate) troubled_calls: u64,
}

/// One item or row that was put or deleted.
#[derive(Debug, Clone)]
pub(crate) struct Write {
    /// Where.
    pub(crate) table: TableId,
    /// The item's key.
    pub(crate) key: Key,
    /// The item that is there from now on; `None` when it was deleted.
    pub(crate) item: Option<Item>,
    /// The same as attributes, when it was written as a row.
    pub(crate) row: Option<Arc<Attributes>>,
    /// Who wrote it; `None` for the test itself.
    pub(crate) node: Option<Node>,
    /// When it was sent, since the model was made.
    pub(crate) sent: Duration,
    /// When it landed.
    pub(crate) landed: Duration,
    /// The record it made: the shard, and the record's ordinal in it.
    pub(crate) record: Option<(ShardRef, u64)>,
}

/// One page of a shard.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Read {
    /// When it was asked for, since the model was made.
    pub(crate) sent: Duration,
    /// When it was served.
    pub(crate) at: Duration,
    /// To whom.
    pub(crate) node: Node,
    /// Of which shard.
    pub(crate) shard: ShardRef,
    /// By which reader: the iterators that follow from one that was asked for belong together.
    pub(crate) reader: u32,
    /// The ordinal of its first record.
    pub(crate) from: u64,
    /// How many records it holds.
    pub(crate) records: u32,
}

/// Items of a table that were shown.
#[derive(Debug, Clone)]
pub(crate) struct Look {
    /// When, since the model was made.
    pub(crate) at: Duration,
    /// To whom.
    pub(crate) node: Node,
    /// Of which table.
    pub(crate) table: TableId,
    /// The part of a scan that it is; `None` for items that were asked for by their keys.
    pub(crate) part: Option<Part>,
    /// What was there.
    pub(crate) items: Vec<Item>,
}

/// A page of a segment.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    /// Which segment, of how many.
    pub(crate) segment: (u32, u32),
    /// The key's text after which it begins (exclusive); empty at the segment's beginning.
    pub(crate) after: String,
    /// The key's text up to which it goes (inclusive); `None` when it goes to the segment's end.
    pub(crate) to: Option<String>,
}

// === impl History ===

impl History {
    /// The most readers that any shard had at a time, and that shard. A reader is there from asking for one of its pages to
    /// asking for the next when these are at most `window` apart. A page counts when it is asked for: a call that was given
    /// up, as that of a worker that drains, may be served long after, when nobody reads by it any more.
    pub(crate) fn most_readers(&self, window: Duration) -> Option<(usize, ShardRef, Duration)> {
        let mut pages: BTreeMap<(ShardRef, u32), Vec<Duration>> = BTreeMap::new();
        for read in &self.reads {
            pages.entry((read.shard, read.reader)).or_default().push(read.sent);
        }
        // Who comes at an instant is there before another leaves at the same.
        let mut steps: BTreeMap<ShardRef, Vec<(Duration, bool)>> = BTreeMap::new();
        for ((shard, _), mut times) in pages {
            times.sort_unstable();
            let steps = steps.entry(shard).or_default();
            for stay in times.chunk_by(|left, right| *right - *left <= window) {
                steps.push((stay[0], false));
                steps.push((stay[stay.len() - 1], true));
            }
        }
        let most = steps.into_iter().filter_map(|(shard, mut steps)| {
            steps.sort_unstable();
            let mut there = 0usize;
            let counts = steps.into_iter().map(|(at, leaves)| {
                there = if leaves { there - 1 } else { there + 1 };
                (there, at)
            });
            let (most, at) = counts.max_by_key(|(there, at)| (*there, std::cmp::Reverse(*at)))?;
            Some((most, shard, at))
        });
        most.max_by_key(|(most, shard, _)| (*most, std::cmp::Reverse(*shard)))
    }

    /// The changes of one table, in the order in which they landed.
    pub(crate) fn of_table(&self, table: TableId) -> impl Iterator<Item = &Write> {
        self.writes.iter().filter(move |write| write.table == table)
    }
}
