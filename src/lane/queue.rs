//! The queue of one replica.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use hashbrown::HashTable;
use tokio::time::Instant;

use super::claim::{Claims, Lots};
use super::{Delivery, Tally};
use crate::change::{Change, Op};
use crate::key::Key;
use crate::lease::Fence;
use crate::mutation::{self, Mutation};
use crate::shard::ShardId;

/// Changes waiting for one replica, and those on their way.
#[derive(Debug, Default)]
pub struct Queue {
    /// By the hash of their keys. The table holds no keys itself: a slot names its key by the newest change's, so
    /// that a key which is never idle does not keep the page alive on which it was first seen.
    slots_by_key: HashTable<SlotId>,
    slots: Vec<Slot>,
    free: Vec<SlotId>,
    /// Slots with a waiting change that may be sent, first come first served.
    ready: VecDeque<SlotId>,
    /// Slots with a waiting change that may not be sent before a time.
    delayed: BinaryHeap<Reverse<(Instant, SlotId)>>,
    lots: Lots,
    tally: Tally,
    pending: u64,
}

/// Changes of different keys, to be written together.
#[derive(Debug, Default)]
pub struct Batch {
    /// The changes.
    pub changes: Vec<Change>,
    claims: Vec<(SlotId, Claims)>,
}

type SlotId = u32;

/// One key that has something waiting or on its way.
#[derive(Debug)]
struct Slot {
    key: Key,
    sending: bool,
    waiting: Option<(Change, Claims)>,
    /// It is in `ready` or `delayed`.
    queued: bool,
}

// === impl Queue ===

impl Queue {
    /// Takes a page's changes in their order.
    pub fn push(&mut self, delivery: Delivery) {
        let Delivery { changes, lot } = delivery;
        debug_assert!(!changes.is_empty(), "an empty delivery settles nothing");
        self.pending += changes.len() as u64;
        let own = self.lots.open(lot, changes.len() as u32);
        for change in changes {
            self.push_one(change, Claims { own, replaced: Vec::new() });
        }
    }

    /// Takes up to `max_items` changes of different keys, of `max_bytes` together but at least one. Changes whose
    /// fence is closed at `now` are given up on the way. `None` when nothing may be sent now.
    pub fn next_batch(&mut self, max_items: usize, max_bytes: usize, now: Instant) -> Option<Batch> {
        self.wake(now);
        let mut batch = Batch::default();
        let mut bytes = 0;
        while batch.changes.len() < max_items {
            let Some(id) = self.ready.front().copied() else {
                break;
            };
            if !self.is_open(id, now) {
                self.ready.pop_front();
                self.abandon(id);
                continue;
            }
            let slot = &mut self.slots[id as usize];
            let (change, _) = slot.waiting.as_ref().expect("a queued slot has something waiting");
            bytes += change.request_bytes();
            if bytes > max_bytes && !batch.changes.is_empty() {
                break;
            }
            self.ready.pop_front();
            slot.queued = false;
            slot.sending = true;
            let (change, claims) = slot.waiting.take().expect("it was there just now");
            batch.changes.push(change);
            batch.claims.push((id, claims));
        }
        (!batch.changes.is_empty()).then_some(batch)
    }

    /// Every change of the batch is in the replica.
    pub fn applied(&mut self, batch: Batch) {
        for (change, (slot, claims)) in batch.changes.into_iter().zip(batch.claims) {
            match change.op {
                Op::Put(_) => self.tally.put += 1,
                Op::Delete => self.tally.deleted += 1,
            }
            self.settle(slot, &claims);
        }
    }

    /// The replica has every change of the batch, or a newer one.
    pub fn stale(&mut self, batch: Batch) {
        for (slot, claims) in batch.claims {
            self.tally.stale += 1;
            self.settle(slot, &claims);
        }
    }

    /// Every change of the batch was refused and is kept elsewhere with its payload.
    pub fn parked(&mut self, batch: Batch) {
        for (slot, claims) in batch.claims {
            self.tally.parked += 1;
            self.settle(slot, &claims);
        }
    }

    /// The batch was not applied, or may not have been. Each change goes back to the head of its key, or is
    /// replaced by the newer one that waits there; neither is sent before `not_before`.
    pub fn retry(&mut self, batch: Batch, not_before: Instant) {
        for (change, (id, claims)) in batch.changes.into_iter().zip(batch.claims) {
            let slot = &mut self.slots[id as usize];
            slot.sending = false;
            match &mut slot.waiting {
                Some((newer, waiting)) if mutation::is_on(Mutation::RetryOverNewer) => {
                    waiting.replace(claims);
                    *newer = change;
                }
                Some((_, newer)) => newer.replace(claims),
                waiting => *waiting = Some((change, claims)),
            }
            slot.queued = true;
            self.delayed.push(Reverse((not_before, id)));
        }
    }

    /// Takes the changes whose fence is closed at `now` out of a batch that is not under way any more, and gives
    /// them up.
    pub fn abandon_closed_of(&mut self, batch: &mut Batch, now: Instant) {
        let members = batch.claims.iter().enumerate();
        let closed: Vec<_> = members
            .filter(|(_, (_, claims))| !self.lots.get(claims.own).fence.is_open(now))
            .map(|(index, _)| index)
            .collect();
        if !closed.is_empty() {
            let closed = batch.take(&closed);
            self.abandoned(closed);
        }
    }

    /// The batch is not under way any more, and nobody tries it again.
    pub fn abandoned(&mut self, batch: Batch) {
        for (id, claims) in batch.claims {
            let count = 1 + claims.replaced_count();
            self.tally.abandoned += count;
            self.pending -= count;
            self.lots.abandon(&claims);
            self.sent(id);
        }
    }

    /// The right to write the first change of a batch.
    pub fn fence(&self, batch: &Batch) -> Option<&Fence> {
        let (_, claims) = batch.claims.first()?;
        Some(&self.lots.get(claims.own).fence)
    }

    /// The shard that the first change of a batch comes from.
    pub fn shard(&self, batch: &Batch) -> Option<&ShardId> {
        let (_, claims) = batch.claims.first()?;
        self.lots.get(claims.own).shard.as_ref()
    }

    /// Gives up everything whose fence is closed at `now`, delayed changes included.
    pub fn abandon_closed(&mut self, now: Instant) {
        let delayed = std::mem::take(&mut self.delayed);
        for Reverse((at, id)) in delayed {
            if self.is_open(id, now) {
                self.delayed.push(Reverse((at, id)));
            } else {
                self.abandon(id);
            }
        }
        for _ in 0..self.ready.len() {
            let Some(id) = self.ready.pop_front() else { break };
            if self.is_open(id, now) {
                self.ready.push_back(id);
            } else {
                self.abandon(id);
            }
        }
    }

    /// Changes that may be sent now.
    pub fn ready_len(&self) -> usize {
        self.ready.len()
    }

    /// When the next delayed change may be sent; `None` when none is delayed.
    pub fn next_wake(&self) -> Option<Instant> {
        self.delayed.peek().map(|Reverse((at, _))| *at)
    }

    /// Changes handed over and not settled, replaced ones included.
    pub fn pending(&self) -> u64 {
        self.pending
    }

    /// Whether a change of this key waits or is on its way.
    pub fn holds(&self, key: &Key) -> bool {
        self.find(key).is_some()
    }

    /// Whether everything is settled.
    pub fn is_empty(&self) -> bool {
        self.slots_by_key.is_empty() && self.lots.is_empty()
    }

    /// What became of changes since it was last asked.
    pub fn take_tally(&mut self) -> Tally {
        std::mem::take(&mut self.tally)
    }

    /// Makes delayed changes whose time has come ready.
    pub fn wake(&mut self, now: Instant) {
        while let Some(Reverse((at, _))) = self.delayed.peek()
            && *at <= now
        {
            let Reverse((_, id)) = self.delayed.pop().expect("it was there just now");
            self.ready.push_back(id);
        }
    }

    fn push_one(&mut self, change: Change, mut claims: Claims) {
        let Some(id) = self.find(&change.key) else {
            return self.push_new(change, claims);
        };
        let slot = &mut self.slots[id as usize];
        if let Some((_, older)) = slot.waiting.take() {
            if mutation::is_on(Mutation::CoalesceSettlesEarly) {
                self.pending -= 1;
                self.tally.coalesced += 1;
                self.lots.settle(&older);
            } else {
                claims.replace(older);
            }
        }
        slot.key = change.key.clone();
        slot.waiting = Some((change, claims));
        if !slot.queued && !slot.sending {
            slot.queued = true;
            self.ready.push_back(id);
        }
    }

    fn push_new(&mut self, change: Change, claims: Claims) {
        let hash = change.key.hash64();
        let slot =
            Slot { key: change.key.clone(), sending: false, waiting: Some((change, claims)), queued: true };
        let id = match self.free.pop() {
            Some(id) => {
                self.slots[id as usize] = slot;
                id
            }
            None => {
                self.slots.push(slot);
                (self.slots.len() - 1) as SlotId
            }
        };
        let slots = &self.slots;
        self.slots_by_key.insert_unique(hash, id, |id| slots[*id as usize].key.hash64());
        self.ready.push_back(id);
    }

    fn find(&self, key: &Key) -> Option<SlotId> {
        self.slots_by_key.find(key.hash64(), |id| self.slots[*id as usize].key == *key).copied()
    }

    fn remove(&mut self, id: SlotId) {
        let hash = self.slots[id as usize].key.hash64();
        if let Ok(entry) = self.slots_by_key.find_entry(hash, |known| *known == id) {
            entry.remove();
        }
        self.free.push(id);
    }

    fn settle(&mut self, id: SlotId, claims: &Claims) {
        if !mutation::is_on(Mutation::LedgerForgets) {
            self.tally.coalesced += claims.replaced_count();
        }
        self.pending -= 1 + claims.replaced_count();
        self.lots.settle(claims);
        self.sent(id);
    }

    /// What was sent of a slot is done with.
    fn sent(&mut self, id: SlotId) {
        let slot = &mut self.slots[id as usize];
        slot.sending = false;
        if slot.waiting.is_some() {
            slot.queued = true;
            self.ready.push_back(id);
        } else {
            self.remove(id);
        }
    }

    /// Whether the change that waits in a queued slot may be written.
    fn is_open(&self, id: SlotId, now: Instant) -> bool {
        let waiting = self.slots[id as usize].waiting.as_ref();
        let (_, claims) = waiting.expect("a queued slot has something waiting");
        self.lots.get(claims.own).fence.is_open(now)
    }

    /// Gives up what waits in a slot that was queued.
    fn abandon(&mut self, id: SlotId) {
        let slot = &mut self.slots[id as usize];
        slot.queued = false;
        let (_, claims) = slot.waiting.take().expect("a queued slot has something waiting");
        let count = 1 + claims.replaced_count();
        self.tally.abandoned += count;
        self.pending -= count;
        self.lots.abandon(&claims);
        self.remove(id);
    }
}

// === impl Batch ===

impl Batch {
    /// Splits off the second half, to find the change that spoils the whole. The batch must have two or more.
    pub fn split(&mut self) -> Self {
        let half = self.changes.len() / 2;
        Self { changes: self.changes.split_off(half), claims: self.claims.split_off(half) }
    }

    /// Distributes the changes over `count` batches; `groups` has the number of the batch for each.
    pub fn partition(self, groups: &[usize], count: usize) -> Vec<Self> {
        let mut parts: Vec<Self> = std::iter::repeat_with(Self::default).take(count).collect();
        for ((change, claims), group) in self.changes.into_iter().zip(self.claims).zip(groups) {
            parts[*group].changes.push(change);
            parts[*group].claims.push(claims);
        }
        parts
    }

    /// Takes out the changes at `indexes`.
    pub fn take(&mut self, indexes: &[usize]) -> Self {
        let mut taken = Self::default();
        let mut left = Self::default();
        let members = self.changes.drain(..).zip(self.claims.drain(..));
        for (index, (change, claims)) in members.enumerate() {
            let into = if indexes.contains(&index) { &mut taken } else { &mut left };
            into.changes.push(change);
            into.claims.push(claims);
        }
        *self = left;
        taken
    }
}
