//! What is written together.

use super::claim::Claims;
use crate::change::Change;

/// One key's place in the queue.
pub(super) type SlotId = u32;

/// Changes of different keys, to be written together.
#[derive(Debug, Default)]
pub struct Batch {
    /// The changes.
    pub changes: Vec<Change>,
    pub(super) claims: Vec<(SlotId, Claims)>,
}

// === impl Batch ===

impl Batch {
    /// The changes that come from the stream, in contrast to copied items.
    pub fn live(&self) -> impl Iterator<Item = &Change> {
        let members = self.changes.iter().zip(&self.claims);
        members.filter(|(_, (_, claims))| !claims.is_copied).map(|(change, _)| change)
    }

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
