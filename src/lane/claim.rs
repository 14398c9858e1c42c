//! Which lots wait for a change, and the lots that are open.

use super::{Ack, Lot};

/// A lot among the open ones.
pub(super) type LotId = u32;

/// The lots that are covered by one change: its own, and those of the changes it replaced.
#[derive(Debug)]
pub(super) struct Claims {
    pub(super) own: LotId,
    /// Its own lot is a page of a table, and not one of a stream.
    pub(super) is_copied: bool,
    /// How many replaced changes of which lot. Empty, and without memory of its own, for most.
    pub(super) replaced: Vec<(LotId, u32)>,
}

/// Lots with changes that are not settled.
#[derive(Debug, Default)]
pub(super) struct Lots {
    open: Vec<Option<Open>>,
    free: Vec<LotId>,
}

#[derive(Debug)]
struct Open {
    lot: Lot,
    unsettled: u32,
    /// Some of its changes were given up, so it must never be acknowledged as durable.
    abandoned: bool,
}

// === impl Claims ===

impl Claims {
    /// Of one change alone.
    pub(super) fn new(own: LotId, is_copied: bool) -> Self {
        Self { own, is_copied, replaced: Vec::new() }
    }

    /// Takes over what a replaced change covers.
    pub(super) fn replace(&mut self, older: Claims) {
        if self.replaced.is_empty() {
            self.replaced = older.replaced;
        } else {
            for (lot, count) in older.replaced {
                self.add(lot, count);
            }
        }
        self.add(older.own, 1);
    }

    fn add(&mut self, lot: LotId, count: u32) {
        match self.replaced.iter_mut().rev().find(|(known, _)| *known == lot) {
            Some((_, known)) => *known += count,
            None => self.replaced.push((lot, count)),
        }
    }

    /// How many replaced changes it covers.
    pub(super) fn replaced_count(&self) -> u64 {
        self.replaced.iter().map(|(_, count)| u64::from(*count)).sum()
    }
}

// === impl Lots ===

impl Lots {
    /// Opens a lot of `changes` changes, which must not be zero.
    pub(super) fn open(&mut self, lot: Lot, changes: u32) -> LotId {
        debug_assert!(changes > 0, "a lot without changes has nothing to wait for");
        let open = Open { lot, unsettled: changes, abandoned: false };
        match self.free.pop() {
            Some(id) => {
                self.open[id as usize] = Some(open);
                id
            }
            None => {
                self.open.push(Some(open));
                (self.open.len() - 1) as LotId
            }
        }
    }

    /// The lot, which must be open.
    pub(super) fn get(&self, id: LotId) -> &Lot {
        &self.open[id as usize].as_ref().expect("a claim keeps its lot open").lot
    }

    /// Settles what `claims` covers; lots that are complete thereby are acknowledged.
    pub(super) fn settle(&mut self, claims: &Claims) {
        self.lower(claims.own, 1, false);
        for (lot, count) in &claims.replaced {
            self.lower(*lot, *count, false);
        }
    }

    /// Gives up what `claims` covers; its lots are never acknowledged as durable.
    pub(super) fn abandon(&mut self, claims: &Claims) {
        self.lower(claims.own, 1, true);
        for (lot, count) in &claims.replaced {
            self.lower(*lot, *count, true);
        }
    }

    fn lower(&mut self, id: LotId, count: u32, abandoned: bool) {
        let slot = &mut self.open[id as usize];
        let open = slot.as_mut().expect("a claim keeps its lot open");
        open.abandoned |= abandoned;
        open.unsettled -= count;
        if open.unsettled > 0 {
            return;
        }
        let Open { lot, abandoned, .. } = slot.take().expect("it was there just now");
        self.free.push(id);
        // Nobody listens when the shard was stopped; the next reader starts from its checkpoint.
        let _ = lot.acks.send(Ack { replica: lot.replica, lot: lot.number, durable: !abandoned });
    }

    /// Whether no lot is open.
    pub(super) fn is_empty(&self) -> bool {
        self.free.len() == self.open.len()
    }
}
