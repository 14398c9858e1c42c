//! The queue of one replica.

mod copied;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use hashbrown::HashTable;
use tokio::time::Instant;

use super::batch::SlotId;
use super::claim::{Claims, Lots};
use super::{Batch, Delivery, Tally, Window};
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
    /// The same for slots in which a copied item waits, served when none of the others is ready. A slot may be left here
    /// that waits elsewhere meanwhile, or not any more.
    ready_copied: VecDeque<SlotId>,
    /// Slots with a waiting change that may not be sent before a time.
    delayed: BinaryHeap<Reverse<(Instant, SlotId)>>,
    lots: Lots,
    tally: Tally,
    pending: u64,
    /// What the stream has touched lately, while somebody copies.
    window: Window,
}

/// One key that has something waiting or on its way.
#[derive(Debug)]
struct Slot {
    key: Key,
    sending: Sending,
    waiting: Option<(Change, Claims)>,
    queued: Queued,
}

/// What of a key is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sending {
    Nothing,
    Live,
    Copied,
}

/// Where a slot waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Queued {
    Nowhere,
    Ready,
    ReadyCopied,
    Delayed,
}

// === impl Queue ===

impl Queue {
    /// An empty queue whose copied items are guarded by this window.
    pub fn new(window: Window) -> Self {
        Self { window, ..Self::default() }
    }

    /// Takes a page's changes in their order.
    pub fn push(&mut self, delivery: Delivery) {
        let Delivery { changes, lot } = delivery;
        debug_assert!(!changes.is_empty(), "an empty delivery settles nothing");
        self.pending += changes.len() as u64;
        let is_copied = lot.page.is_some();
        let own = self.lots.open(lot, changes.len() as u32);
        for change in changes {
            let claims = Claims::new(own, is_copied);
            match is_copied {
                false => self.push_one(change, claims),
                true => self.push_copied(change, claims),
            }
        }
    }

    /// Takes up to `max_items` changes of different keys, of `max_bytes` together but at least one. Changes whose
    /// fence is closed at `now` are given up on the way. `None` when nothing may be sent now.
    pub fn next_batch(&mut self, max_items: usize, max_bytes: usize, now: Instant) -> Option<Batch> {
        self.wake(now);
        let mut batch = Batch::default();
        let mut bytes = 0;
        while batch.changes.len() < max_items {
            let Some(id) = self.next_ready(now) else {
                break;
            };
            let slot = &mut self.slots[id as usize];
            let (change, _) = slot.waiting.as_ref().expect("a queued slot has something waiting");
            bytes += change.request_bytes();
            if bytes > max_bytes && !batch.changes.is_empty() {
                break;
            }
            let (change, claims) = slot.waiting.take().expect("it was there just now");
            slot.sending = if claims.is_copied { Sending::Copied } else { Sending::Live };
            slot.queued = Queued::Nowhere;
            match claims.is_copied {
                false => self.ready.pop_front(),
                true => self.ready_copied.pop_front(),
            };
            batch.changes.push(change);
            batch.claims.push((id, claims));
        }
        (!batch.changes.is_empty()).then_some(batch)
    }

    /// Every change of the batch is in the replica.
    pub fn applied(&mut self, batch: Batch) {
        self.touch(&batch);
        for (change, (slot, claims)) in batch.changes.into_iter().zip(batch.claims) {
            match (change.op, claims.is_copied) {
                (Op::Put(_), false) => self.tally.put += 1,
                (Op::Delete, false) => self.tally.deleted += 1,
                (Op::Put(_), true) => self.tally.copied += 1,
                (Op::Delete, true) => self.tally.copied_deletes += 1,
            }
            self.settle(slot, &claims);
        }
    }

    /// The replica has every change of the batch, or a newer one.
    pub fn stale(&mut self, batch: Batch) {
        self.touch(&batch);
        for (slot, claims) in batch.claims {
            match claims.is_copied {
                false => self.tally.stale += 1,
                true => self.tally.superseded += 1,
            }
            self.settle(slot, &claims);
        }
    }

    /// Every change of the batch was refused and is kept elsewhere with its payload.
    pub fn parked(&mut self, batch: Batch) {
        self.touch(&batch);
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
            slot.sending = Sending::Nothing;
            match &mut slot.waiting {
                Some((newer, waiting)) if mutation::is_on(Mutation::RetryOverNewer) => {
                    waiting.replace(claims);
                    *newer = change;
                }
                Some((_, newer)) => newer.replace(claims),
                waiting => *waiting = Some((change, claims)),
            }
            slot.queued = Queued::Delayed;
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
        // It may have been written all the same, and the stream brings it again.
        self.touch(&batch);
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

    /// Gives up everything whose fence is closed at `now`, delayed changes included. Delayed copied items stay until
    /// their time has come: the attempt that they wait for may still land, and what the stream brings for their keys must
    /// wait for it too, under a fence that is open.
    pub fn abandon_closed(&mut self, now: Instant) {
        let delayed = std::mem::take(&mut self.delayed);
        for Reverse((at, id)) in delayed {
            if self.is_open(id, now) || self.waits_copied(id) {
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
        for _ in 0..self.ready_copied.len() {
            let Some(id) = self.ready_copied.pop_front() else { break };
            match self.slots[id as usize].queued == Queued::ReadyCopied {
                true if self.is_open(id, now) => self.ready_copied.push_back(id),
                true => self.abandon(id),
                false => {}
            }
        }
    }

    /// Changes that may be sent now; copied items among them may turn out to be dropped.
    pub fn ready_len(&self) -> usize {
        self.ready.len() + self.ready_copied.len()
    }

    /// The stream's changes that wait to be sent, with the copied items that were left over and wait for another try.
    pub fn live_len(&self) -> usize {
        self.ready.len() + self.delayed.len()
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
            self.make_ready(id);
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
        match (slot.queued, slot.sending) {
            // What waited was a copied item, which stands behind all others.
            (Queued::ReadyCopied, _) | (Queued::Nowhere, Sending::Nothing) => {
                slot.queued = Queued::Ready;
                self.ready.push_back(id);
            }
            _ => {}
        }
    }

    fn push_new(&mut self, change: Change, claims: Claims) {
        let hash = change.key.hash64();
        let slot = Slot {
            key: change.key.clone(),
            sending: Sending::Nothing,
            waiting: Some((change, claims)),
            queued: Queued::Nowhere,
        };
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
        self.make_ready(id);
    }

    /// Puts a slot in which something waits into the line where it belongs.
    fn make_ready(&mut self, id: SlotId) {
        let slot = &mut self.slots[id as usize];
        let (_, claims) = slot.waiting.as_ref().expect("a queued slot has something waiting");
        if claims.is_copied {
            slot.queued = Queued::ReadyCopied;
            self.ready_copied.push_back(id);
        } else {
            slot.queued = Queued::Ready;
            self.ready.push_back(id);
        }
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
        slot.sending = Sending::Nothing;
        if slot.waiting.is_some() {
            self.make_ready(id);
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
        slot.queued = Queued::Nowhere;
        let (_, claims) = slot.waiting.take().expect("a queued slot has something waiting");
        let count = 1 + claims.replaced_count();
        self.tally.abandoned += count;
        self.pending -= count;
        self.lots.abandon(&claims);
        self.remove(id);
    }
}
