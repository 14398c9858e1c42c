//! Where a partition key falls: a ring of 2^32 positions, cut into ranges that the shards own.

/// A contiguous piece of the ring, both ends inclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) first: u32,
    pub(super) last: u32,
}

impl Range {
    /// The whole ring in `count` nearly equal ranges, in ring order; at least one.
    pub(super) fn divide_ring(count: u32) -> Vec<Range> {
        let count = u64::from(count.max(1));
        let edge = |index: u64| (index << 32) / count;
        (0..count)
            .map(|index| Range { first: narrow(edge(index)), last: narrow(edge(index + 1) - 1) })
            .collect()
    }

    /// The two halves, or nothing when the range is a single position.
    pub(super) fn halves(self) -> Option<(Range, Range)> {
        if self.first == self.last {
            return None;
        }
        let middle = self.first + (self.last - self.first) / 2;
        Some((Range { first: self.first, last: middle }, Range { first: middle + 1, last: self.last }))
    }

    #[cfg(test)]
    pub(super) fn contains(self, position: u32) -> bool {
        (self.first..=self.last).contains(&position)
    }
}

/// The ring position of a partition key, given its attribute value as JSON text.
///
/// FNV-1a alone leaves near keys near each other; the final mix spreads them.
pub(super) fn position(key: &[u8]) -> u32 {
    let mut hash = 0x811c_9dc5_u32;
    for byte in key {
        hash = (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
    }
    hash ^= hash >> 16;
    hash = hash.wrapping_mul(0x85eb_ca6b);
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(0xc2b2_ae35);
    hash ^ (hash >> 16)
}

fn narrow(edge: u64) -> u32 {
    u32::try_from(edge).expect("an edge of the ring is below 2^32")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_divided_ring_is_covered_without_gap_or_overlap(count in 1_u32..500) {
            let ranges = Range::divide_ring(count);
            prop_assert_eq!(ranges.len(), count as usize);
            prop_assert_eq!(ranges[0].first, 0);
            prop_assert_eq!(ranges.last().map(|range| range.last), Some(u32::MAX));
            for pair in ranges.windows(2) {
                prop_assert_eq!(u64::from(pair[0].last) + 1, u64::from(pair[1].first));
            }
        }

        #[test]
        fn halves_meet_in_the_middle(a: u32, b: u32) {
            let range = Range { first: a.min(b), last: a.max(b) };
            match range.halves() {
                None => prop_assert_eq!(a, b),
                Some((low, high)) => {
                    prop_assert_eq!((low.first, high.last), (range.first, range.last));
                    prop_assert_eq!(u64::from(low.last) + 1, u64::from(high.first));
                }
            }
        }
    }

    #[test]
    fn near_keys_spread_over_the_ring() {
        let ranges = Range::divide_ring(8);
        let mut hits = [0_u32; 8];
        for index in 0..800 {
            let position = position(format!(r#"{{"S":"item-{index:05}"}}"#).as_bytes());
            let owner = ranges.iter().position(|range| range.contains(position)).expect("ring is covered");
            hits[owner] += 1;
        }
        assert!(hits.iter().all(|count| (50..=150).contains(count)), "{hits:?}");
    }
}
