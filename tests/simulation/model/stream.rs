//! One stream: its shards, which of them owns a key, and how they end and begin.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Site;
use super::shard::Shard;
use crate::dynamo::StreamArn;
use crate::key::Key;
use crate::record::View;
use crate::shard::ShardId;

/// One shard of one stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ShardRef {
    pub(super) stream: u16,
    pub(super) shard: u16,
}

/// A table's stream, from when it was switched on.
pub(super) struct Stream {
    pub(super) arn: StreamArn,
    pub(super) site: Site,
    pub(super) view: View,
    /// When it was switched off.
    pub(super) off_at: Option<Instant>,
    pub(super) shards: Vec<Shard>,
    /// In the order of listings.
    pub(super) by_id: BTreeMap<ShardId, usize>,
    /// Open shards by the first hash they own.
    open: BTreeMap<u64, usize>,
    /// Whether names say in which order shards were made.
    ordered_ids: bool,
}

/// What a stream is made with.
pub(super) struct New {
    pub(super) arn: Arc<str>,
    pub(super) site: Site,
    pub(super) view: View,
    pub(super) shards: usize,
}

// === impl ShardRef ===

impl ShardRef {
    pub(super) fn new(stream: usize, shard: usize) -> Self {
        let small = |index| u16::try_from(index).expect("a test has few streams and shards");
        Self { stream: small(stream), shard: small(shard) }
    }

    pub(super) fn stream(self) -> usize {
        self.stream.into()
    }

    pub(super) fn shard(self) -> usize {
        self.shard.into()
    }
}

// === impl Stream ===

impl Stream {
    pub(super) fn new(new: &New, now: Instant, rng: &mut fastrand::Rng) -> Self {
        let mut stream = Self {
            arn: StreamArn::from(&*new.arn),
            site: new.site,
            view: new.view,
            off_at: None,
            shards: Vec::new(),
            by_id: BTreeMap::new(),
            open: BTreeMap::new(),
            ordered_ids: rng.bool(),
        };
        let count = new.shards.max(1) as u64;
        let width = u64::MAX / count;
        for index in 0..count {
            let last = if index + 1 == count { u64::MAX } else { (index + 1) * width - 1 };
            let id = stream.new_id(rng);
            let shard = Shard::root(id, stream.shards.len(), (index * width, last), now, rng);
            stream.add(shard);
        }
        stream
    }

    /// The open shard that owns a key.
    pub(super) fn owner(&self, key: &Key) -> usize {
        let hash = ring_hash(key);
        let (_, index) = self.open.range(..=hash).next_back().expect("open shards own every hash");
        *index
    }

    pub(super) fn open(&self) -> impl Iterator<Item = usize> {
        self.open.values().copied()
    }

    /// Ends an open shard with so many children, at least one, which share its range. Whether it could be done: a range of
    /// one hash is not shared.
    pub(super) fn end(
        &mut self,
        shard: usize,
        children: u64,
        now: Instant,
        lag: Duration,
        rng: &mut fastrand::Rng,
    ) -> bool {
        let ended = &self.shards[shard];
        let (first, last) = ended.range;
        if ended.closed_at.is_some() || ended.forgotten || last - first < children {
            return false;
        }
        self.close(shard, now, lag, rng);
        let width = (last - first) / children;
        for index in 0..children {
            let start = first + index * width;
            let end = if index + 1 == children { last } else { start + width - 1 };
            let id = self.new_id(rng);
            let mut child = self.shards[shard].child(id, self.shards.len(), (start, end), now, rng);
            child.listed_at = now + lag.mul_f64(rng.f64());
            self.add(child);
        }
        true
    }

    /// Ends all shards: nothing is written to it any more.
    pub(super) fn switch_off(&mut self, now: Instant, lag: Duration, rng: &mut fastrand::Rng) {
        for shard in self.open.values().copied().collect::<Vec<_>>() {
            self.close(shard, now, lag, rng);
        }
        self.off_at = Some(now);
    }

    /// Whether it can no longer be read.
    pub(super) fn is_gone(&self, now: Instant, retention: Duration) -> bool {
        self.off_at.is_some_and(|off| now - off >= retention)
    }

    fn close(&mut self, index: usize, now: Instant, lag: Duration, rng: &mut fastrand::Rng) {
        let shard = &mut self.shards[index];
        shard.closed_at = Some(now);
        shard.closing_listed_at = now + lag.mul_f64(rng.f64());
        self.open.remove(&shard.range.0);
    }

    fn add(&mut self, shard: Shard) {
        let index = self.shards.len();
        self.open.insert(shard.range.0, index);
        self.by_id.insert(shard.id.clone(), index);
        self.shards.push(shard);
    }

    /// A name that listings sort by: in order of creation, or in none.
    fn new_id(&self, rng: &mut fastrand::Rng) -> ShardId {
        let index = self.shards.len() as u64;
        let order = if self.ordered_ids { 1_700_000_000_000 + index } else { rng.u64(..10_000_000_000_000) };
        ShardId::from(format!("shardId-{order:020}-{index:04x}{:04x}", rng.u16(..)))
    }
}

/// Where a key stands on the ring of hashes.
fn ring_hash(key: &Key) -> u64 {
    // Spreads what the hash of short and similar keys may leave close together.
    key.hash64().wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(17)
}
