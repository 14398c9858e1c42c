//! How many readers a shard had at once.
//!
//! A page is served in microseconds, so requests in flight hardly ever meet. A reader is therefore taken to be
//! one chain of iterators (a `GetShardIterator` and all that follows from it), and two readers to be at a shard
//! together when their `GetRecords` calls interleave: A, B, A is two readers; A, A, B, B is one after another.

use std::collections::HashMap;

#[derive(Debug, Default)]
pub(super) struct Readers {
    calls: u64,
    /// First and last call of each chain, both inclusive.
    spans: HashMap<u64, (u64, u64)>,
}

impl Readers {
    pub(super) fn saw(&mut self, chain: u64) {
        self.calls += 1;
        let call = self.calls;
        self.spans.entry(chain).and_modify(|span| span.1 = call).or_insert((call, call));
    }

    /// The greatest number of chains whose spans overlap at some call.
    pub(super) fn most_at_once(&self) -> usize {
        let begun_before_end_of =
            |call: u64| self.spans.values().filter(|(first, last)| (*first..=*last).contains(&call)).count();
        self.spans.values().map(|(first, _)| begun_before_end_of(*first)).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn most(calls: &[u64]) -> usize {
        let mut readers = Readers::default();
        calls.iter().for_each(|chain| readers.saw(*chain));
        readers.most_at_once()
    }

    #[test]
    fn interleaved_chains_are_readers_at_once_and_successive_ones_are_not() {
        assert_eq!(most(&[]), 0);
        assert_eq!(most(&[1, 1, 2, 2, 3]), 1);
        assert_eq!(most(&[1, 2, 1]), 2);
        assert_eq!(most(&[1, 2, 3, 1, 2]), 3);
        assert_eq!(most(&[1, 2, 1, 3, 2, 3]), 2);
    }
}
