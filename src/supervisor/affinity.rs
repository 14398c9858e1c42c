//! What a replication is told and tells of its affinity: whether somebody wants all shards at this worker, and whether it
//! is the only one that may write.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use super::watch;
use crate::lease::Fence;

/// One replication's affinity, as those see it who copy or repair. Clones are the same one.
#[derive(Debug, Clone, Default)]
pub struct Affinity {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    wants: Mutex<Wants>,
    /// The right to write what is copied, while this worker is the only one that writes.
    sole: watch::Sender<Option<Fence>>,
}

#[derive(Debug, Default)]
struct Wants {
    next: u64,
    open: BTreeMap<u64, String>,
    is_unsettled: bool,
}

/// That all shards are wanted at this worker, until it is dropped.
#[derive(Debug)]
#[must_use = "the shards are given up again when it is dropped"]
pub struct Want {
    shared: Arc<Shared>,
    number: u64,
    is_settled: bool,
}

// === impl Affinity ===

impl Affinity {
    /// Wants all shards of the replication at this worker; `purpose` is shown to people. The worker claims them when no
    /// other has, gathers them, and opens [`Self::sole`].
    pub fn want(&self, purpose: &str) -> Want {
        let mut wants = self.shared.wants();
        let number = wants.next;
        wants.next += 1;
        wants.open.insert(number, purpose.to_owned());
        Want { shared: Arc::clone(&self.shared), number, is_settled: false }
    }

    /// The right to write to the replicas what was not read from a shard: there while this worker is the only one that
    /// writes to them. A fence that was closed for good never opens again, and the next right is another fence, because
    /// others may have written between the two.
    pub fn sole(&self) -> Option<Fence> {
        self.shared.sole.borrow().clone()
    }

    /// Follows [`Self::sole`].
    #[expect(dead_code, reason = "who copies will follow it")]
    pub(super) fn follow(&self) -> watch::Receiver<Option<Fence>> {
        self.shared.sole.subscribe()
    }

    /// What it is wanted for, if it is.
    pub(super) fn purpose(&self) -> Option<String> {
        let wants = self.shared.wants();
        let purposes: Vec<_> = wants.open.values().map(String::as_str).collect();
        (!purposes.is_empty()).then(|| purposes.join(", "))
    }

    /// Whether writes may be under way of which nobody knows the end, because who sent them is gone or goes on.
    pub(super) fn is_unsettled(&self) -> bool {
        let wants = self.shared.wants();
        wants.is_unsettled || !wants.open.is_empty()
    }

    /// What was under way has ended.
    pub(super) fn settle(&self) {
        self.shared.wants().is_unsettled = false;
    }

    /// Tells who follows whether there is a right to write.
    pub(super) fn tell(&self, sole: Option<Fence>) {
        self.shared.sole.send_replace(sole);
    }
}

// === impl Shared ===

impl Shared {
    fn wants(&self) -> MutexGuard<'_, Wants> {
        self.wants.lock().expect("nothing panics while holding it")
    }
}

impl Default for Shared {
    fn default() -> Self {
        Self { wants: Mutex::default(), sole: watch::Sender::new(None) }
    }
}

// === impl Want ===

impl Want {
    /// Wants them no more, and everything that was sent was answered. Without this the shards stay where they are until
    /// what may still be under way has ended.
    pub fn settled(mut self) {
        self.is_settled = true;
    }
}

impl Drop for Want {
    fn drop(&mut self) {
        let mut wants = self.shared.wants();
        wants.open.remove(&self.number);
        wants.is_unsettled |= !self.is_settled;
    }
}
