//! A whole table in a few kilobytes: how many items there are in each part of the key space, and the sum of their
//! digests.
//!
//! Two tables are equal when their signatures are; a sum does not depend on the order in which items are read. So each
//! signature can be made near its table, and nothing else must travel.

use serde::{Deserialize, Serialize};

use super::Digest;

/// Parts of the key space, by the first bits of the keys' digests. With more of them one that differs names fewer keys;
/// these take 6 kB of memory.
pub const BUCKETS: usize = 256;

/// One part of the key space.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bucket {
    /// Items in it.
    pub items: u64,
    /// The sum of what stands for each, modulo 2¹²⁸: its key's digest and its own, by exclusive or, so that two items that
    /// changed places do not cancel out.
    pub sum: u128,
}

/// One table, as of a scan of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    /// By the first bits of the keys' digests; always [`BUCKETS`] of them, unless somebody wrote it by hand.
    pub buckets: Vec<Bucket>,
}

// === impl Bucket ===

impl Bucket {
    /// Counts one item.
    pub fn add(&mut self, key: Digest, item: Digest) {
        self.items += 1;
        self.sum = self.sum.wrapping_add(key.0 ^ item.0);
    }
}

/// As `{"items":3,"sum":"<32 hexadecimal digits>"}`: few readers of JSON know numbers of 128 bits.
#[derive(Serialize, Deserialize)]
struct Written {
    items: u64,
    sum: String,
}

impl Serialize for Bucket {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Written { items: self.items, sum: format!("{:032x}", self.sum) }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Bucket {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Written { items, sum } = Written::deserialize(deserializer)?;
        let sum = u128::from_str_radix(&sum, 16).map_err(serde::de::Error::custom)?;
        Ok(Self { items, sum })
    }
}

// === impl Signature ===

impl Signature {
    /// That of an empty table.
    pub fn new() -> Self {
        Self { buckets: vec![Bucket::default(); BUCKETS] }
    }

    /// Counts one item.
    pub fn add(&mut self, key: Digest, item: Digest) {
        self.buckets[bucket(key)].add(key, item);
    }

    /// Items in all.
    pub fn items(&self) -> u64 {
        self.buckets.iter().map(|bucket| bucket.items).sum()
    }

    /// The buckets in which the two differ.
    pub fn differing(&self, other: &Self) -> Vec<usize> {
        let at = |signature: &Self, index: usize| signature.buckets.get(index).copied().unwrap_or_default();
        let buckets = self.buckets.len().max(other.buckets.len());
        (0..buckets).filter(|&index| at(self, index) != at(other, index)).collect()
    }
}

impl Default for Signature {
    fn default() -> Self {
        Self::new()
    }
}

/// The bucket of a key.
pub(super) fn bucket(key: Digest) -> usize {
    let bits = BUCKETS.trailing_zeros();
    usize::try_from(key.0 >> (u128::BITS - bits)).expect("it has few bits")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(items: &[(u128, u128)]) -> Signature {
        let mut signature = Signature::new();
        for (key, item) in items {
            signature.add(Digest(*key), Digest(*item));
        }
        signature
    }

    proptest! {
        #[test]
        fn order_does_not_matter_and_items_do(
            mut items in prop::collection::btree_map(any::<u128>(), any::<u128>(), 1..40),
            other in any::<u128>(),
        ) {
            let forward: Vec<_> = items.clone().into_iter().collect();
            let backward: Vec<_> = forward.iter().rev().copied().collect();
            let signature = of(&forward);
            prop_assert!(signature.differing(&of(&backward)).is_empty());
            prop_assert_eq!(signature.items(), forward.len() as u64);
            let (key, item) = forward[forward.len() / 2];
            prop_assume!(item != other);
            items.insert(key, other);
            let changed: Vec<_> = items.into_iter().collect();
            prop_assert_eq!(signature.differing(&of(&changed)), vec![bucket(Digest(key))]);
        }

        #[test]
        fn it_is_read_as_it_was_written(items in prop::collection::vec(any::<(u128, u128)>(), 0..20)) {
            let signature = of(&items);
            let text = serde_json::to_string(&signature).expect("plain data");
            prop_assert_eq!(serde_json::from_str::<Signature>(&text).expect("the same"), signature);
        }
    }
}
