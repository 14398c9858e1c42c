//! How items of a copy wait, and when they are dropped.

use tokio::time::Instant;

use super::{Queue, Queued, Sending};
use crate::change::Change;
use crate::lane::Batch;
use crate::lane::batch::SlotId;
use crate::lane::claim::Claims;

impl Queue {
    pub(super) fn push_copied(&mut self, change: Change, mut claims: Claims) {
        let Some(id) = self.find(&change.key) else {
            return self.push_new(change, claims);
        };
        let slot = &mut self.slots[id as usize];
        let is_live = |(_, waiting): &(Change, Claims)| !waiting.is_copied;
        if slot.sending == Sending::Live || slot.waiting.as_ref().is_some_and(is_live) {
            return self.supersede(&claims);
        }
        // Either may be written by the rule. The one that was read later is more likely to be still.
        if let Some((_, older)) = slot.waiting.take() {
            claims.replace(older);
        }
        slot.key = change.key.clone();
        slot.waiting = Some((change, claims));
        if slot.queued == Queued::Nowhere && slot.sending == Sending::Nothing {
            slot.queued = Queued::ReadyCopied;
            self.ready_copied.push_back(id);
        }
    }

    /// The slot whose change is sent next, which stays at the head of its line. What may not be sent is given up or
    /// dropped on the way.
    pub(super) fn next_ready(&mut self, now: Instant) -> Option<SlotId> {
        while let Some(id) = self.ready.front().copied() {
            if self.is_open(id, now) {
                return Some(id);
            }
            self.ready.pop_front();
            self.abandon(id);
        }
        while let Some(id) = self.ready_copied.front().copied() {
            let slot = &mut self.slots[id as usize];
            if slot.queued != Queued::ReadyCopied {
                self.ready_copied.pop_front();
                continue;
            }
            let (_, claims) = slot.waiting.as_ref().expect("a queued slot has something waiting");
            let lot = self.lots.get(claims.own);
            let page = lot.page.as_ref().expect("a copied item's lot has a page");
            if !lot.fence.is_open(now) {
                self.ready_copied.pop_front();
                self.abandon(id);
            } else if self.window.is_touched_since(page, &slot.key) {
                self.ready_copied.pop_front();
                let (_, claims) = slot.waiting.take().expect("it was there just now");
                slot.queued = Queued::Nowhere;
                self.supersede(&claims);
                self.remove(id);
            } else {
                return Some(id);
            }
        }
        None
    }

    /// A copied item is dropped, because the stream owns its key.
    pub(super) fn supersede(&mut self, claims: &Claims) {
        self.tally.superseded += 1;
        self.tally.coalesced += claims.replaced_count();
        self.pending -= 1 + claims.replaced_count();
        self.lots.settle(claims);
    }

    /// Remembers the keys of the stream's changes among these, if somebody copies.
    pub(super) fn touch(&self, batch: &Batch) {
        if self.window.is_armed() {
            self.window.touch(batch.live().map(|change| &change.key));
        }
    }

    pub(super) fn waits_copied(&self, id: SlotId) -> bool {
        self.slots[id as usize].waiting.as_ref().is_some_and(|(_, claims)| claims.is_copied)
    }
}
