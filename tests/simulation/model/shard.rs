//! One shard: its records, its numbers, what is trimmed and what is seen of it.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::stream::ShardRef;
use crate::record::Record;
use crate::shard::{SequenceNumber, ShardId};

/// Shards of one stream share the whole numbers: each takes those that leave its own remainder.
pub(super) const STEP: u128 = 1 << 16;

/// The longest number that is made; the service documents up to 40 digits.
const DIGITS_MAX: u32 = 37;

/// A shard as it is at the server.
pub(super) struct Shard {
    pub(super) id: ShardId,
    pub(super) parent: Option<ShardId>,
    /// The hashes of its keys, both ends inclusive.
    pub(super) range: (u64, u64),
    pub(super) closed_at: Option<Instant>,
    /// When listings begin to show it.
    pub(super) listed_at: Instant,
    /// When listings begin to show that it is closed.
    pub(super) closing_listed_at: Instant,
    /// It was removed before its time.
    pub(super) forgotten: bool,
    /// What it still holds.
    pub(super) records: VecDeque<Held>,
    /// The numbers of all records it ever held; a record's index here is its ordinal.
    pub(super) issued: Vec<SequenceNumber>,
    /// How many records are trimmed: the ordinal of the oldest that is held.
    pub(super) trimmed: u64,
    numbers: Numbers,
}

/// A record and when it was written.
pub(super) struct Held {
    pub(super) record: Record,
    pub(super) at: Instant,
}

/// A shard as a test sees it.
#[derive(Debug, Clone)]
pub(crate) struct ShardState {
    /// What controls call it.
    pub(crate) shard: ShardRef,
    /// What the stream calls it.
    pub(crate) id: ShardId,
    /// Where it came from.
    pub(crate) parent: Option<ShardId>,
    /// Whether it has ended.
    pub(crate) closed: bool,
    /// Whether it can no longer be read at all.
    pub(crate) gone: bool,
    /// How many of its records are trimmed.
    pub(crate) trimmed: u64,
    /// The numbers of all records it ever held, in order.
    pub(crate) issued: Vec<SequenceNumber>,
}

/// Makes a shard's sequence numbers.
#[derive(Clone, Copy)]
struct Numbers {
    last: u128,
    remainder: u128,
}

// === impl Shard ===

impl Shard {
    /// A shard of a new stream, whose numbers soon gain a digit.
    pub(super) fn root(
        id: ShardId,
        index: usize,
        range: (u64, u64),
        now: Instant,
        rng: &mut fastrand::Rng,
    ) -> Self {
        let boundary = 10u128.pow(rng.u32(21..=24));
        Self::new(id, None, range, now, Numbers::before(boundary, index, rng))
    }

    /// A shard whose numbers go on after its parent's.
    pub(super) fn child(
        &self,
        id: ShardId,
        index: usize,
        range: (u64, u64),
        now: Instant,
        rng: &mut fastrand::Rng,
    ) -> Self {
        let last = self.numbers.last;
        let boundary = 10u128.pow((last.ilog10() + 1).min(DIGITS_MAX));
        let leap = Numbers::before(boundary, index, rng);
        let numbers = match rng.bool() && leap.last > last {
            true => leap,
            false => Numbers::after(last, index),
        };
        Self::new(id, Some(self.id.clone()), range, now, numbers)
    }

    fn new(id: ShardId, parent: Option<ShardId>, range: (u64, u64), now: Instant, numbers: Numbers) -> Self {
        Self {
            id,
            parent,
            range,
            closed_at: None,
            listed_at: now,
            closing_listed_at: now,
            forgotten: false,
            records: VecDeque::new(),
            issued: Vec::new(),
            trimmed: 0,
            numbers,
        }
    }

    /// Appends what `record` makes of the next number.
    pub(super) fn append(
        &mut self,
        now: Instant,
        rng: &mut fastrand::Rng,
        record: impl FnOnce(SequenceNumber) -> Record,
    ) -> u64 {
        debug_assert!(self.closed_at.is_none(), "a closed shard is not written to");
        let sequence = self.numbers.next(rng);
        self.issued.push(sequence);
        self.records.push_back(Held { record: record(sequence), at: now });
        self.end() - 1
    }

    /// The ordinal behind the newest record.
    pub(super) fn end(&self) -> u64 {
        self.issued.len() as u64
    }

    /// The records from an ordinal on, which must not be trimmed.
    pub(super) fn from(&self, ordinal: u64) -> impl Iterator<Item = &Record> {
        let skipped = usize::try_from(ordinal - self.trimmed).unwrap_or(usize::MAX);
        self.records.iter().skip(skipped).map(|held| &held.record)
    }

    /// Removes records whose time is over.
    pub(super) fn age(&mut self, now: Instant, retention: Duration) {
        while self.records.front().is_some_and(|held| now - held.at >= retention) {
            self.records.pop_front();
            self.trimmed += 1;
        }
    }

    /// Removes the oldest records but for `keep`.
    pub(super) fn trim(&mut self, keep: usize) {
        let trimmed = self.records.len().saturating_sub(keep);
        self.records.drain(..trimmed);
        self.trimmed += trimmed as u64;
    }

    /// Whether it can no longer be read or listed.
    pub(super) fn is_gone(&self, now: Instant, retention: Duration) -> bool {
        self.forgotten || self.closed_at.is_some_and(|closed| now - closed >= retention)
    }
}

// === impl Numbers ===

impl Numbers {
    /// Less than sixty numbers before `boundary`.
    fn before(boundary: u128, index: usize, rng: &mut fastrand::Rng) -> Self {
        let steps = boundary / STEP - u128::from(rng.u32(2..60));
        Self { last: steps * STEP + index as u128, remainder: index as u128 }
    }

    fn after(last: u128, index: usize) -> Self {
        Self { last: (last / STEP + 1) * STEP + index as u128, remainder: index as u128 }
    }

    fn next(&mut self, rng: &mut fastrand::Rng) -> SequenceNumber {
        let steps = self.last / STEP + u128::from(rng.u32(1..=3));
        self.last = steps * STEP + self.remainder;
        self.last.to_string().parse().expect("a whole number of less than 40 digits")
    }
}
