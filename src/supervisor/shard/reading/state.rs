//! What the loops of a shard's reading share: the cursors' plan, the readers that none of them uses at present, and which
//! replicas have to come to rest.

use tokio::time::Instant;

use super::super::cursors::Cursors;
use super::Replica;
use crate::checkpoint::Checkpoint;
use crate::stream::{Place, Reader};

/// What the loops share.
pub(super) struct State {
    pub(super) cursors: Cursors,
    /// Where each begins that was not read for yet.
    pub(super) from: Vec<Checkpoint>,
    /// Seeks that wait until all is told that was read before.
    pub(super) sought: Vec<Option<i64>>,
    /// The newest seek of each that need not wait any more.
    pub(super) rested: Vec<i64>,
    /// Whether an end or a gap was read that is not told yet.
    pub(super) is_telling: Vec<bool>,
    /// The readers of those who are not being served; of one that is attached, as it was when it joined.
    pub(super) readers: Vec<Option<Reader>>,
}

// === impl State ===

impl State {
    pub(super) fn new(replicas: &[Replica]) -> Self {
        let count = replicas.len();
        Self {
            cursors: Cursors::new(count, Instant::now()),
            from: replicas.iter().map(|it| it.from).collect(),
            sought: vec![None; count],
            rested: replicas.iter().map(|it| it.from.epoch).collect(),
            is_telling: vec![false; count],
            readers: (0..count).map(|_| None).collect(),
        }
    }

    /// The order for a replica has a seek, or has none any more.
    pub(super) fn seek(&mut self, replica: usize, epoch: Option<i64>) {
        let rested = self.rested[replica];
        self.sought[replica] = epoch.filter(|epoch| *epoch > rested);
    }

    /// Who is at rest with all told, and may be put elsewhere; each is told once.
    pub(super) fn take_resting(&mut self) -> Vec<(usize, i64)> {
        let mut resting = Vec::new();
        for (replica, sought) in self.sought.iter_mut().enumerate() {
            if self.cursors.is_at_rest(replica)
                && !self.is_telling[replica]
                && let Some(epoch) = sought.take()
            {
                self.rested[replica] = epoch;
                resting.push((replica, epoch));
            }
        }
        resting
    }

    /// A seek was obeyed.
    pub(super) fn begin_anew(&mut self, replica: usize, from: Checkpoint) {
        self.cursors.reset(replica);
        self.readers[replica] = None;
        self.from[replica] = from;
    }

    pub(super) fn over(&mut self, replica: usize) {
        self.cursors.over(replica);
        self.is_telling[replica] = true;
    }

    pub(super) fn all_over(&mut self) -> Vec<usize> {
        let over = self.cursors.all_over();
        self.telling(over)
    }

    /// The live cursor cannot go on from `place`.
    pub(super) fn gap(&mut self, place: &Place) -> Vec<usize> {
        // Those who go on by themselves have waited since they joined.
        self.readers.iter_mut().flatten().for_each(Reader::forget_iterator);
        let over = self.cursors.gap(place);
        self.telling(over)
    }

    fn telling(&mut self, over: Vec<usize>) -> Vec<usize> {
        for replica in &over {
            self.is_telling[*replica] = true;
        }
        over
    }
}
