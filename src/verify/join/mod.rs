//! Finds the keys whose items differ between two tables, from their digests, in bounded memory.
//!
//! ```text
//!  source ──┐  key's digest      ┌── bucket 0: count, sum │ source's records, replica's records
//!           ├── first 8 bits ───>├── bucket 1 …                 (a buffer each, then blocks on disk)
//!  replica ─┘                    └── bucket 255
//!                                      │ count and sum are equal: freed unread
//!                                      │ fits into memory: both sides sorted and merged ──> suspects
//!                                      └ too large: split by the next 4 bits, each part like a bucket
//! ```
//!
//! Nothing is assumed about the order in which items come, which differs between tables, servers and runs. Memory is
//! that of the buffers and of the part that is merged, whatever the tables' sizes; the disk takes about 32 bytes per item
//! and side, plus what a key has of its own (see `record`). Records are not compressed: digests cannot be.
//!
//! What comes out is suspect, not different: the tables were read at different times.

pub(super) mod record;
mod spill;

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;

use super::digest::Digest;
use super::signature::{self, BUCKETS, Bucket, Signature};
use crate::key::Key;
use record::Format;
pub use record::Identity;
use spill::{Block, Spill};

/// Bits by which a part that is too large is split: few enough for a buffer for each half of a part.
const SPLIT_BITS: u32 = 4;

/// The smallest and the largest block. One page of memory is what a disk reads anyway; beyond the larger, longer writes
/// gain nothing.
const BLOCK_BYTES: std::ops::RangeInclusive<usize> = 4 << 10..=64 << 10;

/// What the join may use.
#[derive(Debug, Clone)]
pub struct Config {
    /// Memory for buffers and for what is merged at once.
    pub memory_bytes: usize,
    /// The largest size of the file.
    pub disk_bytes: u64,
    /// Where the file is made.
    pub dir: PathBuf,
    /// Of keys that have more bytes of their own, only the digest is kept; at most 255.
    pub key_bytes_max: usize,
}

/// Which of the two tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// The one that is replicated.
    Source,
    /// The one that should be like it.
    Replica,
}

/// Why tables cannot be joined. Nothing was changed in any of them.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The disk, or its directory, cannot be used.
    #[error("keep digests on disk in `{dir}`")]
    Disk {
        /// The directory.
        dir: PathBuf,
        /// Why; such as that the disk is full.
        #[source]
        source: io::Error,
    },
    /// The file would be larger than it may be.
    #[error(
        "keep digests in `{dir}` within {limit_bytes} bytes: allow more, or name a directory with more room"
    )]
    Full {
        /// The directory.
        dir: PathBuf,
        /// What it was allowed.
        limit_bytes: u64,
    },
    /// What was read from the disk is not what was written.
    #[error("read digests from disk: they are not what was written")]
    Corrupt,
}

/// Takes both tables' items.
#[derive(Debug)]
pub struct Join {
    store: Store,
    buckets: Vec<Part>,
}

/// The suspect keys, one after the other.
#[derive(Debug)]
pub struct Suspects {
    store: Store,
    /// What is to be looked at, the next last.
    parts: Vec<Part>,
    found: VecDeque<Identity>,
}

/// Where records are kept, and how.
#[derive(Debug)]
struct Store {
    spill: Spill,
    format: Format,
    /// For one part that is merged.
    merge_bytes: usize,
}

/// A part of the key space: both sides' items in it.
#[derive(Debug, Default)]
struct Part {
    /// Leading bits that the digests of its keys have in common.
    bits: u32,
    source: Pile,
    replica: Pile,
}

/// Records of one side.
#[derive(Debug, Default)]
struct Pile {
    sum: Bucket,
    blocks: Vec<Block>,
    buffer: Vec<u8>,
}

/// A record in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    key: Digest,
    item: Digest,
    at: usize,
}

// === impl Config ===

impl Config {
    /// Bytes of memory, at least, with which a join gets on.
    pub const MEMORY_BYTES_MIN: usize = 8 << 20;

    /// Keys of more bytes are rare, and two such records are as long as three of the usual ones.
    pub const KEY_BYTES_MAX: usize = 96;
}

// === impl Join ===

impl Join {
    /// Joins two tables of which nothing is known yet.
    ///
    /// # Errors
    /// When no file can be made.
    pub fn new(config: &Config) -> Result<Self, Error> {
        let format = Format::new(config.key_bytes_max);
        let buffers = 2 * BUCKETS;
        let block_bytes = (config.memory_bytes / 2 / buffers).clamp(*BLOCK_BYTES.start(), *BLOCK_BYTES.end());
        debug_assert!(format.record_bytes_max() <= block_bytes);
        let spill = Spill::new(config.dir.clone(), block_bytes, config.disk_bytes)?;
        let store = Store { spill, format, merge_bytes: config.memory_bytes / 2 };
        let part = || Part { bits: BUCKETS.trailing_zeros(), ..Part::default() };
        Ok(Self { store, buckets: std::iter::repeat_with(part).take(BUCKETS).collect() })
    }

    /// Takes one item.
    ///
    /// # Errors
    /// When the disk is full, or fails.
    pub fn add(&mut self, side: Side, key: &Key, item: Digest) -> Result<(), Error> {
        let digest = Digest::of_key(key);
        let pile = self.buckets[signature::bucket(digest)].pile(side);
        pile.room(&mut self.store)?;
        pile.sum.add(digest, item);
        self.store.format.write(key, digest, item, &mut pile.buffer);
        Ok(())
    }

    /// The signature of what was taken of one side.
    pub fn signature(&self, side: Side) -> Signature {
        let of = |part: &Part| match side {
            Side::Source => part.source.sum,
            Side::Replica => part.replica.sum,
        };
        Signature { buckets: self.buckets.iter().map(of).collect() }
    }

    /// Bytes on disk.
    pub fn disk_bytes(&self) -> u64 {
        self.store.spill.bytes()
    }

    /// All that differs.
    pub fn suspects(self) -> Suspects {
        Suspects { store: self.store, parts: self.buckets, found: VecDeque::new() }
    }
}

// === impl Suspects ===

impl Suspects {
    /// Looks at one part. `false` when there was none left.
    fn open(&mut self) -> Result<bool, Error> {
        let Some(part) = self.parts.pop() else { return Ok(false) };
        if part.source.sum == part.replica.sum {
            part.free(&mut self.store);
        } else if part.merge_bytes() <= self.store.merge_bytes || part.bits >= u128::BITS {
            self.merge(part)?;
        } else {
            let parts = part.split(&mut self.store)?;
            self.parts.extend(parts.into_iter().rev());
        }
        Ok(true)
    }

    fn merge(&mut self, part: Part) -> Result<(), Error> {
        let (source_bytes, source) = part.source.load(&mut self.store)?;
        let (replica_bytes, replica) = part.replica.load(&mut self.store)?;
        let (mut left, mut right) = (&source[..], &replica[..]);
        while let Some(key) = least(left, right) {
            let (of_source, of_replica) = (take(&mut left, key), take(&mut right, key));
            let items = |entries: &[Entry]| entries.iter().map(|entry| entry.item).collect::<Vec<_>>();
            // A key can be there twice in one side: it was moved, or written again, while the scan went on.
            if items(of_source) != items(of_replica) {
                let (bytes, entry) = match (of_source, of_replica) {
                    ([entry, ..], _) => (&source_bytes, entry),
                    (_, [entry, ..]) => (&replica_bytes, entry),
                    _ => continue,
                };
                self.found.push_back(self.store.format.identity(&bytes[entry.at..])?);
            }
        }
        Ok(())
    }
}

impl Iterator for Suspects {
    type Item = Result<Identity, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(found) = self.found.pop_front() {
                return Some(Ok(found));
            }
            match self.open() {
                Ok(true) => {}
                Ok(false) => return None,
                Err(error) => {
                    self.parts.clear();
                    return Some(Err(error));
                }
            }
        }
    }
}

// === impl Part ===

impl Part {
    fn pile(&mut self, side: Side) -> &mut Pile {
        match side {
            Side::Source => &mut self.source,
            Side::Replica => &mut self.replica,
        }
    }

    /// Memory that merging it takes: the records, what is known of each, and as much again of the keys that are found.
    fn merge_bytes(&self) -> usize {
        let of = |pile: &Pile| pile.bytes() + pile.sum.items as usize * size_of::<Entry>();
        of(&self.source) + of(&self.replica)
    }

    fn free(self, store: &mut Store) {
        for block in self.source.blocks.into_iter().chain(self.replica.blocks) {
            store.spill.free(block);
        }
    }

    fn split(self, store: &mut Store) -> Result<Vec<Self>, Error> {
        let bits = self.bits + SPLIT_BITS;
        let part = || Self { bits, ..Self::default() };
        let mut parts: Vec<_> = std::iter::repeat_with(part).take(1 << SPLIT_BITS).collect();
        let mut key = Vec::new();
        for (side, pile) in [(Side::Source, self.source), (Side::Replica, self.replica)] {
            pile.each_block(store, |bytes, store| {
                let mut at = 0;
                while at < bytes.len() {
                    let record = store.format.read(&bytes[at..], &mut key).ok_or(Error::Corrupt)?;
                    let index = record.key.0 << self.bits >> (u128::BITS - SPLIT_BITS);
                    let pile = parts[index as usize].pile(side);
                    pile.room(store)?;
                    pile.sum.add(record.key, record.item);
                    pile.buffer.extend_from_slice(&bytes[at..at + record.bytes]);
                    at += record.bytes;
                }
                Ok(())
            })?;
        }
        for part in &mut parts {
            part.source.flush(store)?;
            part.replica.flush(store)?;
        }
        Ok(parts)
    }
}

// === impl Pile ===

impl Pile {
    /// Makes room in the buffer for any record.
    fn room(&mut self, store: &mut Store) -> Result<(), Error> {
        if self.buffer.len() + store.format.record_bytes_max() > store.spill.block_bytes() {
            self.flush(store)?;
        }
        if self.buffer.capacity() == 0 {
            self.buffer.reserve_exact(store.spill.block_bytes());
        }
        Ok(())
    }

    /// Moves the buffer to disk.
    fn flush(&mut self, store: &mut Store) -> Result<(), Error> {
        if !self.buffer.is_empty() {
            self.blocks.push(store.spill.write(&self.buffer)?);
            self.buffer.clear();
        }
        Ok(())
    }

    fn bytes(&self) -> usize {
        self.blocks.iter().map(Block::len).sum::<usize>() + self.buffer.len()
    }

    /// All records in memory, in the order of keys, then items.
    fn load(self, store: &mut Store) -> Result<(Vec<u8>, Vec<Entry>), Error> {
        let mut bytes = Vec::with_capacity(self.bytes());
        let mut entries = Vec::with_capacity(usize::try_from(self.sum.items).unwrap_or(0));
        for block in self.blocks {
            store.spill.take(block, &mut bytes)?;
        }
        bytes.extend_from_slice(&self.buffer);
        let (mut at, mut key) = (0, Vec::new());
        while at < bytes.len() {
            let record = store.format.read(&bytes[at..], &mut key).ok_or(Error::Corrupt)?;
            entries.push(Entry { key: record.key, item: record.item, at });
            at += record.bytes;
        }
        entries.sort_unstable();
        Ok((bytes, entries))
    }

    /// Calls `each` with the records, a block at a time.
    fn each_block(
        self,
        store: &mut Store,
        mut each: impl FnMut(&[u8], &mut Store) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut bytes = Vec::new();
        for block in self.blocks {
            bytes.clear();
            store.spill.take(block, &mut bytes)?;
            each(&bytes, store)?;
        }
        each(&self.buffer, store)
    }
}

fn least(left: &[Entry], right: &[Entry]) -> Option<Digest> {
    let key = |entries: &[Entry]| entries.first().map(|entry| entry.key);
    match (key(left), key(right)) {
        (Some(left), Some(right)) => Some(left.min(right)),
        (left, right) => left.or(right),
    }
}

/// Takes the entries of `key` off the front.
fn take<'a>(entries: &mut &'a [Entry], key: Digest) -> &'a [Entry] {
    let count = entries.iter().take_while(|entry| entry.key == key).count();
    let (taken, rest) = entries.split_at(count);
    *entries = rest;
    taken
}

#[cfg(test)]
mod tests;
