//! What is known of a stream's shards: which there are, which came from which, and which are closed.
//!
//! Listings are eventually consistent and come in pages, so knowledge is merged and only grows: a closed shard
//! stays closed, a known parent stays known, and a shard that is missing from one listing is reported and kept.
//! Parent links never form a circle, whatever a listing says; the link that would close one is not taken.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::dynamo::Listing;
use crate::shard::{Shard, ShardId};

/// The shards of one stream.
#[derive(Debug, Clone, Default)]
pub struct Lineage {
    shards: BTreeMap<ShardId, Node>,
    /// Known children by their parents, which may be unknown themselves.
    children: BTreeMap<ShardId, BTreeSet<ShardId>>,
    /// The latest full listing that was begun.
    sync: u64,
}

/// A full listing under way.
#[derive(Debug)]
#[must_use = "a listing that is not completed finds no vanished shards"]
pub struct Sync(u64);

#[derive(Debug, Clone)]
struct Node {
    shard: Shard,
    /// The full listing during which it was last listed.
    seen: u64,
    /// Full listings since then that were without it.
    absences: u32,
}

// === impl Lineage ===

impl Lineage {
    /// Nothing known.
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins a full listing: every page of it is then given to [`apply`](Self::apply).
    pub fn begin(&mut self) -> Sync {
        self.sync += 1;
        Sync(self.sync)
    }

    /// Merges one page and returns the shards that were not known before.
    pub fn apply(&mut self, listing: &Listing) -> Vec<ShardId> {
        self.merge(&listing.shards)
    }

    /// As [`apply`](Self::apply), for shards that were found in another way, such as a shard's children.
    pub fn merge(&mut self, shards: &[Shard]) -> Vec<ShardId> {
        let mut new = Vec::new();
        for listed in shards {
            if !self.shards.contains_key(&listed.id) {
                new.push(listed.id.clone());
            }
            self.merge_one(listed);
        }
        new
    }

    /// Ends a full listing, all of whose pages were applied, and returns the shards that were known when it
    /// began and were not in it. They stay known; see [`absences`](Self::absences) and
    /// [`forget`](Self::forget). A listing that failed half way is not completed.
    pub fn complete(&mut self, sync: Sync) -> Vec<ShardId> {
        let mut absent = Vec::new();
        for (id, node) in &mut self.shards {
            if node.seen < sync.0 {
                node.absences = node.absences.saturating_add(1);
                absent.push(id.clone());
            }
        }
        absent
    }

    /// How many full listings in a row were without a shard. One may be an inconsistent description.
    pub fn absences(&self, shard: &ShardId) -> u32 {
        self.shards.get(shard).map_or(0, |node| node.absences)
    }

    /// Removes a shard. Its children become roots, unless it is listed again.
    pub fn forget(&mut self, shard: &ShardId) {
        let Some(node) = self.shards.remove(shard) else {
            return;
        };
        let Some(parent) = node.shard.parent else { return };
        if let Some(siblings) = self.children.get_mut(&parent) {
            siblings.remove(shard);
            if siblings.is_empty() {
                self.children.remove(&parent);
            }
        }
    }

    /// What is known of a shard.
    pub fn get(&self, shard: &ShardId) -> Option<&Shard> {
        self.shards.get(shard).map(|node| &node.shard)
    }

    /// How many shards are known.
    pub fn len(&self) -> usize {
        self.shards.len()
    }

    /// Whether none is known.
    pub fn is_empty(&self) -> bool {
        self.shards.is_empty()
    }

    /// Shards without a parent, or whose parent is not known: it was trimmed before anybody saw it.
    pub fn roots(&self) -> impl Iterator<Item = &Shard> {
        self.shards.values().map(|node| &node.shard).filter(|shard| !self.is_child_of_known(shard))
    }

    /// The known children of a shard, which may be unknown itself.
    pub fn children_of(&self, shard: &ShardId) -> impl Iterator<Item = &Shard> {
        self.children.get(shard).into_iter().flatten().filter_map(|child| self.get(child))
    }

    /// Every shard once, each after its parent.
    pub fn parents_first(&self) -> Vec<&Shard> {
        let mut ordered = Vec::with_capacity(self.shards.len());
        let mut next: VecDeque<&Shard> = self.roots().collect();
        while let Some(shard) = next.pop_front() {
            ordered.push(shard);
            next.extend(self.children_of(&shard.id));
        }
        ordered
    }

    fn merge_one(&mut self, listed: &Shard) {
        // A child exists only when its parent is full, even if the description still shows that open.
        let closed = listed.closed || self.children.contains_key(&listed.id);
        let node = self.shards.entry(listed.id.clone()).or_insert_with(|| Node {
            shard: Shard { id: listed.id.clone(), parent: None, closed },
            seen: 0,
            absences: 0,
        });
        node.seen = self.sync;
        node.absences = 0;
        node.shard.closed |= closed;
        if node.shard.parent.is_none()
            && let Some(parent) = &listed.parent
        {
            self.link(&listed.id, parent);
        }
    }

    fn link(&mut self, child: &ShardId, parent: &ShardId) {
        if self.descends(parent, child) {
            tracing::warn!(%child, %parent, "a stream's description shows a shard as its own ancestor");
            return;
        }
        if let Some(node) = self.shards.get_mut(child) {
            node.shard.parent = Some(parent.clone());
        }
        if let Some(node) = self.shards.get_mut(parent) {
            node.shard.closed = true;
        }
        self.children.entry(parent.clone()).or_default().insert(child.clone());
    }

    /// Whether `shard` is `ancestor` or comes from it. Ends because links never form a circle.
    fn descends(&self, shard: &ShardId, ancestor: &ShardId) -> bool {
        let mut at = Some(shard);
        while let Some(shard) = at {
            if shard == ancestor {
                return true;
            }
            at = self.get(shard).and_then(|shard| shard.parent.as_ref());
        }
        false
    }

    fn is_child_of_known(&self, shard: &Shard) -> bool {
        shard.parent.as_ref().is_some_and(|parent| self.shards.contains_key(parent))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::stream::script::{listing, open_shard, shard_names};

    fn shard(id: &str, parent: Option<&str>, closed: bool) -> Shard {
        Shard { closed, ..open_shard(id, parent) }
    }

    fn page(shards: Vec<Shard>) -> Listing {
        listing(shards, None)
    }

    #[test]
    fn knowledge_only_grows() {
        let mut lineage = Lineage::new();
        lineage.apply(&page(vec![shard("b", Some("a"), true)]));
        lineage.apply(&page(vec![shard("b", None, false)]));
        assert_eq!(lineage.get(&"b".into()), Some(&shard("b", Some("a"), true)));
    }

    #[test]
    fn a_shard_with_a_child_is_closed_whichever_is_listed_first() {
        for order in [["parent", "child"], ["child", "parent"]] {
            let mut lineage = Lineage::new();
            for id in order {
                let parent = (id == "child").then_some("parent");
                lineage.apply(&page(vec![open_shard(id, parent)]));
            }
            assert!(lineage.get(&"parent".into()).is_some_and(|parent| parent.closed));
            assert!(lineage.get(&"child".into()).is_some_and(|child| !child.closed));
        }
    }

    #[test]
    fn new_shards_are_told_once() {
        let mut lineage = Lineage::new();
        assert_eq!(lineage.apply(&page(vec![open_shard("a", None)])), ["a".into()]);
        assert_eq!(lineage.apply(&page(vec![open_shard("a", None)])), []);
    }

    #[test]
    fn a_full_listing_finds_what_vanished_and_only_that() {
        let mut lineage = Lineage::new();
        lineage.apply(&page(vec![open_shard("kept", None), open_shard("gone", None)]));
        for absences in 1..3 {
            let sync = lineage.begin();
            lineage.apply(&page(vec![open_shard("kept", None)]));
            lineage.merge(&[open_shard("found-meanwhile", Some("kept"))]);
            assert_eq!(lineage.complete(sync), ["gone".into()]);
            assert_eq!(lineage.absences(&"gone".into()), absences);
        }
        lineage.apply(&page(vec![open_shard("gone", None)]));
        assert_eq!(lineage.absences(&"gone".into()), 0, "it is back");
    }

    #[test]
    fn a_listing_that_failed_half_way_makes_nothing_vanish() {
        let mut lineage = Lineage::new();
        lineage.apply(&page(vec![open_shard("a", None), open_shard("b", None)]));
        let _failed = lineage.begin();
        lineage.apply(&page(vec![open_shard("a", None)]));
        let sync = lineage.begin();
        lineage.apply(&page(vec![open_shard("a", None), open_shard("b", None)]));
        assert_eq!(lineage.complete(sync), []);
    }

    #[test]
    fn children_of_a_forgotten_shard_are_roots() {
        let mut lineage = Lineage::new();
        lineage.apply(&page(vec![
            open_shard("a", None),
            open_shard("b", Some("a")),
            open_shard("c", Some("b")),
        ]));
        lineage.forget(&"a".into());
        assert_eq!(shard_names(lineage.roots()), ["b"]);
        assert_eq!(shard_names(lineage.children_of(&"a".into())), ["b"]);
        lineage.forget(&"b".into());
        assert_eq!(shard_names(lineage.children_of(&"a".into())), Vec::<String>::new());
        assert_eq!(shard_names(lineage.parents_first()), ["c"]);
    }

    #[test]
    fn a_shard_that_is_its_own_ancestor_is_a_root() {
        let mut lineage = Lineage::new();
        let malformed = page(vec![
            open_shard("a", Some("c")),
            open_shard("b", Some("a")),
            open_shard("c", Some("b")),
            open_shard("self", Some("self")),
        ]);
        lineage.apply(&malformed);
        lineage.apply(&malformed);
        assert_eq!(shard_names(lineage.parents_first()), ["c", "self", "a", "b"]);
    }

    /// Any graph at all, most of them malformed, as pages in any order.
    fn any_pages() -> impl Strategy<Value = Vec<Vec<Shard>>> {
        let any_shard = (0u8..12, prop::option::of(0u8..12), any::<bool>());
        let any_shard = any_shard.prop_map(|(id, parent, closed)| {
            let parent = parent.map(|parent| parent.to_string());
            shard(&id.to_string(), parent.as_deref(), closed)
        });
        prop::collection::vec(prop::collection::vec(any_shard, 0..6), 0..12)
    }

    proptest! {
        #[test]
        fn each_shard_comes_once_and_after_its_parent(pages in any_pages()) {
            let mut lineage = Lineage::new();
            for shards in pages {
                lineage.apply(&page(shards));
                let ordered = lineage.parents_first();
                prop_assert_eq!(ordered.len(), lineage.len());
                let place = |id: &ShardId| ordered.iter().position(|shard| shard.id == *id);
                for shard in &ordered {
                    if let Some(parent) = shard.parent.as_ref().and_then(place) {
                        prop_assert!(Some(parent) < place(&shard.id));
                        prop_assert!(ordered[parent].closed, "a parent is closed");
                    }
                }
            }
        }

        #[test]
        fn knowledge_never_shrinks(pages in any_pages()) {
            let mut lineage = Lineage::new();
            for shards in pages {
                let before = lineage.clone();
                lineage.apply(&page(shards));
                for shard in before.parents_first() {
                    let now = lineage.get(&shard.id).expect("a known shard stays known");
                    prop_assert!(now.closed || !shard.closed);
                    prop_assert!(shard.parent.is_none() || now.parent == shard.parent);
                }
            }
        }

        #[test]
        fn well_formed_pages_give_the_same_in_any_order(
            pages in prop::collection::vec((0u8..30, any::<bool>()), 1..60),
        ) {
            // Shard n comes from shard n / 2.
            let shards: Vec<Shard> = pages
                .into_iter()
                .map(|(id, closed)| {
                    let parent = (id > 1).then(|| (id / 2).to_string());
                    shard(&id.to_string(), parent.as_deref(), closed)
                })
                .collect();
            let mut forward = Lineage::new();
            let mut backward = Lineage::new();
            for shard in &shards {
                forward.merge(std::slice::from_ref(shard));
            }
            for shard in shards.iter().rev() {
                backward.merge(std::slice::from_ref(shard));
            }
            prop_assert_eq!(forward.parents_first(), backward.parents_first());
        }
    }
}
