//! The virtual shards of one stream: which shard a record lands in, and what a reader may see of it.
//!
//! A record arrives in the order of the real server's single shard, is appended to the one open shard whose
//! range holds its key, and leaves through [`Lineage::page`] any number of times until it is trimmed.
//!
//! Invariants: the ranges of the open shards cover the ring exactly once; a record is in exactly one shard;
//! the records of one key, read parents first, are in the order they arrived. A closed shard ends at the
//! greatest sequence number the *stream* had seen, which may lie beyond its own last record, as on the real
//! service: a reader that waits for a record with that number waits for ever.

use super::{ring, sequence::Sequence};
use bytes::Bytes;
use std::collections::{HashMap, VecDeque};

/// One stream record as it will be served.
#[derive(Debug, Clone)]
pub(super) struct Record {
    pub(super) sequence: Sequence,
    /// Where its partition key falls on the ring.
    pub(super) position: u32,
    /// `ApproximateCreationDateTime`, whole seconds since the epoch.
    pub(super) created_s: u64,
    /// When it reached the emulator, in the region's milliseconds; retention counts from here.
    pub(super) arrived_ms: u64,
    /// The record as JSON text.
    pub(super) body: Bytes,
}

#[derive(Debug)]
pub(super) struct Shard {
    pub(super) id: String,
    pub(super) parent: Option<String>,
    pub(super) range: ring::Range,
    pub(super) starting: Sequence,
    pub(super) ending: Option<Sequence>,
    pub(super) records: VecDeque<Record>,
    closed_ms: Option<u64>,
    /// Greatest sequence number that is no longer readable.
    trimmed_through: Option<Sequence>,
    /// Vanished: not listed, not readable.
    forgotten: bool,
    /// Listings left in which this closed shard still looks open.
    open_in_listings: u32,
    /// Listings left in which this shard is missing.
    absent_in_listings: u32,
}

impl Shard {
    pub(super) fn is_open(&self) -> bool {
        self.ending.is_none()
    }

    fn trim_front(&mut self, count: usize) {
        if let Some(record) = self.records.drain(..count).next_back() {
            self.trimmed_through = Some(record.sequence);
        }
    }
}

/// Where a new iterator starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    TrimHorizon,
    Latest,
    At(Sequence),
    After(Sequence),
    /// First record created at or after this second.
    AtTimestamp(u64),
}

/// One answer of `GetRecords`.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) bodies: Vec<Bytes>,
    /// Where the next page starts; nothing when the shard is closed and this page reached its end.
    pub(super) next_after_exclusive: Option<u128>,
}

/// One line of a listing.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) id: String,
    pub(super) parent: Option<String>,
    pub(super) starting: Sequence,
    pub(super) ending: Option<Sequence>,
}

/// One answer of `DescribeStream`.
#[derive(Debug)]
pub(super) struct Listing {
    pub(super) shards: Vec<Listed>,
    /// Set when the page is full, also when nothing follows: the API promises no more than that.
    pub(super) last_evaluated: Option<String>,
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(super) enum Error {
    #[error("find shard `{0}`")]
    Unknown(String),
    #[error("close shard `{0}`, which is closed already")]
    Closed(String),
    #[error("split shard `{0}`, whose range is a single position")]
    Indivisible(String),
    #[error("read behind the trim horizon of shard `{0}`")]
    Trimmed(String),
    #[error("find that sequence number in shard `{0}`")]
    Beyond(String),
    #[error("find an open shard")]
    NoneOpen,
}

/// All shards of one stream, oldest first; ids ascend in the same order.
#[derive(Debug)]
pub(super) struct Lineage {
    shards: Vec<Shard>,
    by_id: HashMap<String, usize>,
    /// Indices of the open shards in ring order.
    open: Vec<usize>,
    /// Greatest number any record had.
    seen: Sequence,
    /// Greatest number that stands for a record or a shard's end; the next shard starts after it.
    last: Sequence,
    last_birth_ms: u64,
    rng: fastrand::Rng,
    /// Whether a fresh split or roll-over shows up late in listings.
    pub(super) inconsistent: bool,
}

impl Lineage {
    /// A stream that begins after `last`, with `count` shards that share the ring.
    pub(super) fn new(count: u32, last: Sequence, now_ms: u64, rng: fastrand::Rng) -> Self {
        let mut lineage = Self {
            shards: Vec::new(),
            by_id: HashMap::new(),
            open: Vec::new(),
            seen: last,
            last,
            last_birth_ms: 0,
            rng,
            inconsistent: false,
        };
        for range in ring::Range::divide_ring(count) {
            lineage.bear(None, range, now_ms);
        }
        lineage
    }

    pub(super) fn shards(&self) -> impl Iterator<Item = &Shard> {
        self.shards.iter().filter(|shard| !shard.forgotten)
    }

    pub(super) fn append(&mut self, record: Record) -> Result<(), Error> {
        let shards = &self.shards;
        let slot = self.open.partition_point(|index| shards[*index].range.last < record.position);
        let index = *self.open.get(slot).ok_or(Error::NoneOpen)?;
        let shard = &mut self.shards[index];
        self.seen = self.seen.max(record.sequence);
        self.last = self.last.max(record.sequence);
        shard.starting = shard.starting.min(record.sequence);
        shard.records.push_back(record);
        Ok(())
    }

    /// Closes a shard and gives each half of its range to a child. Without an id, an open shard is drawn.
    pub(super) fn split(&mut self, id: Option<&str>, now_ms: u64) -> Result<String, Error> {
        let index = self.choose(id)?;
        let shard = &self.shards[index];
        let (low, high) = shard.range.halves().ok_or_else(|| Error::Indivisible(shard.id.clone()))?;
        Ok(self.succeed(index, &[low, high], now_ms))
    }

    /// Closes a shard and gives its range to one child. Without an id, an open shard is drawn.
    pub(super) fn roll(&mut self, id: Option<&str>, now_ms: u64) -> Result<String, Error> {
        let index = self.choose(id)?;
        let range = self.shards[index].range;
        Ok(self.succeed(index, &[range], now_ms))
    }

    pub(super) fn roll_all(&mut self, now_ms: u64) {
        for index in self.open.clone() {
            let range = self.shards[index].range;
            self.succeed(index, &[range], now_ms);
        }
    }

    /// Closes every open shard for good, as when the stream is disabled.
    pub(super) fn close(&mut self, now_ms: u64) {
        for index in std::mem::take(&mut self.open) {
            self.end(index, now_ms);
        }
    }

    /// Everything delivered so far becomes unreadable: no shard keeps a record.
    pub(super) fn trim(&mut self) {
        for shard in &mut self.shards {
            shard.trim_front(shard.records.len());
        }
    }

    /// Applies the retention: drops records that arrived before `horizon_ms`, and closed shards whose end did.
    pub(super) fn expire(&mut self, horizon_ms: u64) {
        for shard in &mut self.shards {
            let count = shard.records.partition_point(|record| record.arrived_ms < horizon_ms);
            shard.trim_front(count);
            shard.forgotten |= shard.closed_ms.is_some_and(|closed_ms| closed_ms < horizon_ms);
        }
    }

    /// Makes a shard vanish with all its records. An open one is rolled over first, so that the ring stays covered.
    pub(super) fn forget(&mut self, id: &str, now_ms: u64) -> Result<(), Error> {
        let index = self.find(id)?;
        if self.shards[index].is_open() {
            self.succeed(index, &[self.shards[index].range], now_ms);
        }
        let shard = &mut self.shards[index];
        shard.records.clear();
        shard.forgotten = true;
        Ok(())
    }

    /// A page of the shards whose id is greater than `start_exclusive`.
    pub(super) fn list(&mut self, start_exclusive: Option<&str>, limit: usize) -> Listing {
        let mut shards = Vec::new();
        for shard in &mut self.shards {
            if shards.len() == limit {
                break;
            }
            if start_exclusive.is_none_or(|start| start < shard.id.as_str()) {
                shards.extend(listed(shard));
            }
        }
        let full = shards.len() == limit;
        let last_evaluated = shards.last().filter(|_| full).map(|shard| shard.id.clone());
        Listing { shards, last_evaluated }
    }

    /// The direct children of a shard; none when the shard is not known.
    pub(super) fn children(&mut self, id: &str) -> Listing {
        let children = self.shards.iter_mut().filter(|shard| shard.parent.as_deref() == Some(id));
        Listing { shards: children.filter_map(listed).collect(), last_evaluated: None }
    }

    /// Resolves an iterator request to the position after which reading begins.
    pub(super) fn start(&self, id: &str, start: Start) -> Result<u128, Error> {
        let shard = &self.shards[self.find(id)?];
        let horizon = shard.trimmed_through.map_or(0, Sequence::number);
        // A shard without records may still be asked for the number it is listed to start with.
        let end = shard.ending.unwrap_or(self.last).max(shard.starting);
        let after_exclusive = match start {
            Start::TrimHorizon => return Ok(horizon),
            Start::Latest => return Ok(self.seen.number()),
            Start::AtTimestamp(second) => {
                let index = shard.records.partition_point(|record| record.created_s < second);
                let found = shard.records.get(index).map(|record| record.sequence.number().saturating_sub(1));
                return Ok(found.unwrap_or(self.seen.number()));
            }
            Start::At(sequence) | Start::After(sequence) if sequence > end => {
                return Err(Error::Beyond(id.to_owned()));
            }
            Start::At(sequence) => sequence.number().saturating_sub(1),
            Start::After(sequence) => sequence.number(),
        };
        if after_exclusive < horizon {
            return Err(Error::Trimmed(id.to_owned()));
        }
        Ok(after_exclusive)
    }

    /// The records after a position: at most `max_records`, and at most `max_bytes` unless the first alone is more.
    pub(super) fn page(
        &self,
        id: &str,
        after: u128,
        max_records: usize,
        max_bytes: usize,
    ) -> Result<Page, Error> {
        let shard = &self.shards[self.find(id)?];
        if shard.trimmed_through.is_some_and(|trimmed| after < trimmed.number()) {
            return Err(Error::Trimmed(id.to_owned()));
        }
        let begin = shard.records.partition_point(|record| record.sequence.number() <= after);
        let mut bytes = 0;
        let bodies: Vec<Bytes> = shard
            .records
            .range(begin..)
            .take(max_records)
            .take_while(|record| {
                let first = bytes == 0;
                bytes += record.body.len();
                first || bytes <= max_bytes
            })
            .map(|record| record.body.clone())
            .collect();
        let end = begin + bodies.len();
        let reached = match end.checked_sub(1).filter(|_| end > begin) {
            Some(last) => shard.records[last].sequence.number(),
            None => after,
        };
        let ended = !shard.is_open() && end == shard.records.len();
        Ok(Page { bodies, next_after_exclusive: (!ended).then_some(reached) })
    }

    fn find(&self, id: &str) -> Result<usize, Error> {
        let index = self.by_id.get(id).copied().filter(|index| !self.shards[*index].forgotten);
        index.ok_or_else(|| Error::Unknown(id.to_owned()))
    }

    fn choose(&mut self, id: Option<&str>) -> Result<usize, Error> {
        match id {
            None => self.rng.choice(self.open.iter().copied()).ok_or(Error::NoneOpen),
            Some(id) => {
                let index = self.find(id)?;
                if self.shards[index].is_open() { Ok(index) } else { Err(Error::Closed(id.to_owned())) }
            }
        }
    }

    /// Ends a shard and puts children in its place. Returns the parent's id.
    fn succeed(&mut self, index: usize, ranges: &[ring::Range], now_ms: u64) -> String {
        self.open.retain(|open| *open != index);
        self.end(index, now_ms);
        let parent = self.shards[index].id.clone();
        for range in ranges {
            let child = self.bear(Some(parent.clone()), *range, now_ms);
            if self.inconsistent && self.rng.bool() {
                self.shards[child].absent_in_listings = self.rng.u32(1..=3);
            }
        }
        if self.inconsistent {
            self.shards[index].open_in_listings = self.rng.u32(1..=3);
        }
        parent
    }

    fn end(&mut self, index: usize, now_ms: u64) {
        let shard = &mut self.shards[index];
        let ending = self.last.max(shard.starting);
        self.last = ending;
        shard.ending = Some(ending);
        shard.closed_ms = Some(now_ms);
    }

    fn bear(&mut self, parent: Option<String>, range: ring::Range, now_ms: u64) -> usize {
        self.last_birth_ms = now_ms.max(self.last_birth_ms + 1);
        let id = format!("shardId-{:020}-{:08x}", self.last_birth_ms, self.rng.u32(..));
        let index = self.shards.len();
        self.by_id.insert(id.clone(), index);
        let shards = &self.shards;
        let slot = self.open.partition_point(|open| shards[*open].range.first < range.first);
        self.open.insert(slot, index);
        self.shards.push(Shard {
            id,
            parent,
            range,
            starting: self.last.next(),
            ending: None,
            records: VecDeque::new(),
            closed_ms: None,
            trimmed_through: None,
            forgotten: false,
            open_in_listings: 0,
            absent_in_listings: 0,
        });
        index
    }
}

/// The shard's line in this listing, unless it is gone or not to be seen yet.
fn listed(shard: &mut Shard) -> Option<Listed> {
    if shard.forgotten {
        return None;
    }
    if shard.absent_in_listings > 0 {
        shard.absent_in_listings -= 1;
        return None;
    }
    let looks_open = shard.open_in_listings > 0;
    shard.open_in_listings = shard.open_in_listings.saturating_sub(1);
    Some(Listed {
        id: shard.id.clone(),
        parent: shard.parent.clone(),
        starting: shard.starting,
        ending: shard.ending.filter(|_| !looks_open),
    })
}

#[cfg(test)]
mod tests;
