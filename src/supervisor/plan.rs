//! What to do with each shard: plain decisions from the rows of the control table and the lineage of the stream.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::desired::{Sought, Wanted};
use crate::checkpoint::Checkpoint;
use crate::dynamo::StreamArn;
use crate::lease::{Row, State};
use crate::mutation::{self, Mutation};
use crate::shard::{Position, Shard, ShardId};
use crate::stream::Lineage;

/// Where a replica starts that was never started before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// At the oldest record that the stream holds.
    TrimHorizon,
    /// With what is changed from now on.
    Latest,
    /// With what was changed at this time or later.
    At {
        /// The time, in milliseconds since 1970.
        unix_ms: i64,
    },
}

/// The replicas of a replication, and which of them were never started.
#[derive(Debug, Clone)]
pub(super) struct Replicas {
    pub(super) names: Vec<String>,
    pub(super) new: BTreeSet<String>,
    pub(super) start: Start,
}

/// Where a shard stands for one replica, or for all of them together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// The replica has all of it; together: every one.
    Done,
    /// It can no longer be read; together: for no replica that lacks some of it.
    Gap,
    /// Its parent's end is not durable yet in the replica; together: in none that still needs this one.
    Waiting,
    /// It can be read; together: for one replica at least.
    Ready,
}

/// What the task of a shard may do for each replica, by its name.
pub(super) type Orders = BTreeMap<String, Order>;

/// What the task of a shard may do for one replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Order {
    /// Reads nothing for it.
    Hold,
    /// Reads nothing for it, and keeps the lease, because there will be more to read.
    Pause,
    /// Reads nothing more for it, settles what was read, and puts it where the seek wants it.
    Seek(Arc<Sought>),
    /// Reads for it.
    Run {
        /// What was reached in the parent, where that is known.
        parent: Option<Checkpoint>,
    },
}

// === impl Order ===

impl Order {
    /// Whether it may be read for the replica.
    pub(super) fn runs(&self) -> bool {
        matches!(self, Self::Run { .. })
    }

    /// The number of the seek that is to be obeyed.
    pub(super) fn epoch(&self) -> Option<i64> {
        match self {
            Self::Seek(sought) => Some(sought.seek.epoch),
            Self::Hold | Self::Pause | Self::Run { .. } => None,
        }
    }
}

/// How long an ended shard's row stays after its children are running: twice the time a shard is listed, so that
/// no listing ever shows a shard whose row is gone.
const ENDED_ROW_SECONDS: i64 = 48 * 60 * 60;

// === impl Replicas ===

impl Replicas {
    /// Where `replica` starts in a shard that has no checkpoint of it. A replica that was started before starts
    /// with the first record of every shard that it has not seen.
    fn first_position(&self, replica: &str, shard_is_closed: bool, now_unix_ms: i64) -> Position {
        if !self.new.contains(replica) {
            return Position::TrimHorizon;
        }
        match self.start {
            Start::TrimHorizon => Position::TrimHorizon,
            Start::Latest if shard_is_closed => Position::End,
            Start::Latest => Position::Latest { since_unix_ms: now_unix_ms },
            Start::At { unix_ms } => Position::At { unix_ms },
        }
    }

    /// Where `replica` starts in a child of `parent`, whose row knows it. A replica whose start was decided in the parent
    /// starts with the first record of the child, however much later the child is seen: only a child that is seen
    /// together with a parent that was closed when "now" was decided has a "now" of its own.
    fn first_in_child(&self, replica: &str, parent: &Row, closed: bool, now_unix_ms: i64) -> Position {
        let of_parent = &parent.checkpoints[replica];
        let is_left_out_now = of_parent.position.is_end()
            && parent.counter == 0
            && of_parent.read_through_unix_ms == now_unix_ms;
        match self.start {
            Start::Latest if !is_left_out_now => Position::TrimHorizon,
            _ => self.first_position(replica, closed, now_unix_ms),
        }
    }

    /// The row of a shard that has none, made of that of its parent.
    pub(super) fn new_row(
        &self,
        shard: &Shard,
        stream: &StreamArn,
        rows: &BTreeMap<ShardId, Row>,
        now_unix_ms: i64,
    ) -> Row {
        let mut row = Row {
            shard: shard.id.clone(),
            stream: stream.clone(),
            parent: shard.parent.clone(),
            owner: None,
            handed_to: None,
            load: None,
            counter: 0,
            state: State::Open,
            checkpoints: BTreeMap::new(),
            gaps: BTreeMap::new(),
            expires_unix_s: None,
        };
        let parent = shard.parent.as_ref().and_then(|parent| rows.get(parent));
        for replica in &self.names {
            if let Some(parent) = parent.filter(|parent| parent.checkpoints.contains_key(replica)) {
                let position = match mutation::is_on(Mutation::ChildAtLatest) {
                    true => Position::Latest { since_unix_ms: now_unix_ms },
                    false => self.first_in_child(replica, parent, shard.closed, now_unix_ms),
                };
                row.checkpoints.insert(replica.clone(), Checkpoint::starting(position, now_unix_ms));
            }
        }
        self.complete(&mut row, shard.closed, now_unix_ms);
        row.end_if_done();
        row
    }

    /// Gives replicas that `row` does not know their checkpoints. Says whether it changed.
    pub(super) fn complete(&self, row: &mut Row, shard_is_closed: bool, now_unix_ms: i64) -> bool {
        let mut changed = false;
        for replica in &self.names {
            if !row.checkpoints.contains_key(replica) {
                let position = self.first_position(replica, shard_is_closed, now_unix_ms);
                row.checkpoints.insert(replica.clone(), Checkpoint::starting(position, now_unix_ms));
                changed = true;
            }
        }
        if changed && row.state == State::Ended && !self.has_all_of(row) {
            row.state = State::Open;
            row.expires_unix_s = None;
        }
        changed
    }

    /// Whether every configured replica has all of the row's shard.
    pub(super) fn has_all_of(&self, row: &Row) -> bool {
        self.names.iter().all(|replica| row.is_done_for(replica))
    }

    /// Where the shard of `row` stands among the others.
    pub(super) fn standing(&self, row: &Row, rows: &BTreeMap<ShardId, Row>, lineage: &Lineage) -> Standing {
        let of = |replica: &String| self.standing_of(replica, row, rows, lineage);
        let all: Vec<_> = self.names.iter().map(of).filter(|standing| *standing != Standing::Done).collect();
        let has = |standing| all.contains(&standing);
        match () {
            () if all.is_empty() => Standing::Done,
            () if has(Standing::Ready) => Standing::Ready,
            () if has(Standing::Waiting) => Standing::Waiting,
            () => Standing::Gap,
        }
    }

    /// Where the shard of `row` stands for one replica: what the others lack, or can no longer get, is nothing to it.
    pub(super) fn standing_of(
        &self,
        replica: &str,
        row: &Row,
        rows: &BTreeMap<ShardId, Row>,
        lineage: &Lineage,
    ) -> Standing {
        if row.is_done_for(replica) {
            return Standing::Done;
        }
        if row.gap_of(replica).is_some() {
            return Standing::Gap;
        }
        let Some(parent) = &row.parent else {
            return Standing::Ready;
        };
        let may_start = match rows.get(parent) {
            Some(parent) => parent.is_done_for(replica),
            // A parent that is listed is about to get its row. One that was never tracked does not block: it was
            // trimmed before the replication began.
            None => lineage.get(parent).is_none(),
        };
        let may_start = may_start || mutation::is_on(Mutation::ChildBeforeParent);
        if may_start { Standing::Ready } else { Standing::Waiting }
    }

    /// What the task of `row`'s shard may do, as far as `wanted` lets it.
    pub(super) fn orders(
        &self,
        wanted: &Wanted,
        row: &Row,
        rows: &BTreeMap<ShardId, Row>,
        lineage: &Lineage,
    ) -> Orders {
        let order = |replica: &String| {
            if let Some(sought) = wanted.sought(row, replica, rows, lineage) {
                return Order::Seek(Arc::new(sought));
            }
            match self.standing_of(replica, row, rows, lineage) {
                Standing::Ready if !wanted.runs(replica) => Order::Pause,
                Standing::Ready => Order::Run { parent: parents_end(row, replica, rows).copied() },
                Standing::Done | Standing::Gap | Standing::Waiting => Order::Hold,
            }
        };
        self.names.iter().map(|replica| (replica.clone(), order(replica))).collect()
    }

    /// A row about to be read, with what its parent's end proves.
    pub(super) fn inherit(&self, row: &mut Row, rows: &BTreeMap<ShardId, Row>) {
        for replica in &self.names {
            if let Some(parent) = parents_end(row, replica, rows)
                && let Some(checkpoint) = row.checkpoints.get_mut(replica)
            {
                checkpoint.inherit(parent);
            }
        }
    }

    /// When the row of an ended shard may go: all its children have rows and are being read, or ended too.
    /// `None` when it stays.
    pub(super) fn expiry(
        &self,
        row: &Row,
        rows: &BTreeMap<ShardId, Row>,
        lineage: &Lineage,
        now_unix_ms: i64,
    ) -> Option<i64> {
        // A holder reads it for a replica that is not configured here.
        if row.owner.is_some() || row.expires_unix_s.is_some() || !self.has_all_of(row) {
            return None;
        }
        let mut children = lineage.children_of(&row.shard).peekable();
        children.peek()?;
        let runs = |row: &Row| row.owner.is_some() || self.has_all_of(row);
        children
            .all(|child| rows.get(&child.id).is_some_and(runs))
            .then_some(now_unix_ms / 1_000 + ENDED_ROW_SECONDS)
    }
}

/// What `replica` reached in the parent of `row`'s shard, if that is its end.
fn parents_end<'a>(row: &Row, replica: &str, rows: &'a BTreeMap<ShardId, Row>) -> Option<&'a Checkpoint> {
    let parent = rows.get(row.parent.as_ref()?)?;
    parent.checkpoints.get(replica).filter(|reached| reached.position.is_end())
}

#[cfg(test)]
mod tests {
    use super::super::desired::Wish;
    use super::*;

    fn shard(id: &str, parent: Option<&str>, closed: bool) -> Shard {
        Shard { id: id.into(), parent: parent.map(ShardId::from), closed }
    }

    fn replicas(names: &[&str], new: &[&str], start: Start) -> Replicas {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        Replicas { names: owned(names), new: owned(new).into_iter().collect(), start }
    }

    fn row(replicas: &Replicas, shard: &Shard) -> Row {
        replicas.new_row(shard, &"arn".into(), &BTreeMap::new(), 5_000)
    }

    /// Nobody wants anything of any replica but that it runs.
    fn free(replicas: &Replicas) -> Wanted {
        let wishes = replicas.names.iter().map(|name| (name.clone(), Wish::default()));
        Wanted::new(wishes.collect(), &BTreeMap::new())
    }

    fn end(row: &mut Row, replica: &str) {
        row.checkpoints.insert(
            replica.to_owned(),
            Checkpoint {
                position: Position::End,
                applied_through_unix_ms: Some(4_000),
                read_through_unix_ms: 3_000,
                epoch: 0,
            },
        );
    }

    #[test]
    fn a_child_starts_for_each_replica_at_its_parents_end_there() {
        let replicas = replicas(&["a", "b"], &["a", "b"], Start::TrimHorizon);
        let mut rows = BTreeMap::new();
        let (mut parent, mut child) = (
            row(&replicas, &shard("p", Some("long gone"), true)),
            row(&replicas, &shard("c", Some("p"), false)),
        );
        assert_eq!(
            replicas.standing(&parent, &rows, &Lineage::new()),
            Standing::Ready,
            "an untracked parent must not block"
        );
        let mut lineage = Lineage::new();
        lineage.merge(&[shard("p", None, true)]);
        assert_eq!(
            replicas.standing(&child, &rows, &lineage),
            Standing::Waiting,
            "a parent that is listed has no row yet"
        );
        for (replica, expected) in [("a", [true, false]), ("b", [true, true])] {
            rows.insert(parent.shard.clone(), parent.clone());
            end(&mut parent, replica);
            rows.insert(parent.shard.clone(), parent.clone());
            assert_eq!(replicas.standing(&child, &rows, &Lineage::new()), Standing::Ready);
            let orders = replicas.orders(&free(&replicas), &child, &rows, &Lineage::new());
            assert_eq!(["a", "b"].map(|replica| orders[replica].runs()), expected);
            assert_eq!(orders["a"], Order::Run { parent: Some(parent.checkpoints["a"]) });
        }
        replicas.inherit(&mut child, &rows);
        assert_eq!(child.checkpoints["a"].applied_through_unix_ms, Some(4_000));
        assert_eq!(child.checkpoints["a"].read_through_unix_ms, 3_000);
        assert_eq!(replicas.standing(&parent, &rows, &Lineage::new()), Standing::Done);
    }

    #[test]
    fn latest_leaves_out_closed_shards_and_starts_later_ones_at_their_first_record() {
        let mut replicas = replicas(&["a"], &["a"], Start::Latest);
        assert_eq!(row(&replicas, &shard("old", None, true)).state, State::Ended);
        let open = row(&replicas, &shard("open", None, false));
        assert_eq!(open.checkpoints["a"].position, Position::Latest { since_unix_ms: 5_000 });
        let rows = BTreeMap::from([(open.shard.clone(), open)]);
        let child = shard("child", Some("open"), true);
        let child = replicas.new_row(&child, &"arn".into(), &rows, 9_000);
        assert_eq!(
            child.checkpoints["a"].position,
            Position::TrimHorizon,
            "what was written to it since the start was decided is skipped"
        );
        let old = row(&replicas, &shard("old", None, true));
        let rows = BTreeMap::from([(old.shard.clone(), old)]);
        let younger = shard("younger", Some("old"), false);
        let at_once = replicas.new_row(&younger, &"arn".into(), &rows, 5_000);
        assert_eq!(at_once.checkpoints["a"].position, Position::Latest { since_unix_ms: 5_000 });
        let later = replicas.new_row(&younger, &"arn".into(), &rows, 5_001);
        assert_eq!(
            later.checkpoints["a"].position,
            Position::TrimHorizon,
            "it may be younger than the start"
        );
        replicas.new.clear();
        let later = row(&replicas, &shard("later", Some("open"), false));
        assert_eq!(later.checkpoints["a"].position, Position::TrimHorizon);
    }

    #[test]
    fn a_replica_that_joins_reopens_what_others_have_ended() {
        let first = replicas(&["a"], &[], Start::TrimHorizon);
        let mut row = row(&first, &shard("s", None, true));
        end(&mut row, "a");
        row.end_if_done();
        assert_eq!(row.state, State::Ended);
        let both = replicas(&["a", "b"], &["b"], Start::TrimHorizon);
        assert!(both.complete(&mut row, true, 6_000));
        assert_eq!(row.state, State::Open);
        assert_eq!(both.standing(&row, &BTreeMap::new(), &Lineage::new()), Standing::Ready);
        assert!(!both.complete(&mut row, true, 6_000));
    }

    #[test]
    fn a_gap_blocks_its_children() {
        let replicas = replicas(&["a"], &["a"], Start::TrimHorizon);
        let mut parent = row(&replicas, &shard("p", None, true));
        parent.state = State::Gap { reason: "trimmed".to_owned(), found_unix_ms: 1 };
        assert_eq!(replicas.standing(&parent, &BTreeMap::new(), &Lineage::new()), Standing::Gap);
        let rows = BTreeMap::from([(parent.shard.clone(), parent)]);
        assert_eq!(
            replicas.standing(&row(&replicas, &shard("c", Some("p"), false)), &rows, &Lineage::new()),
            Standing::Waiting
        );
    }

    #[test]
    fn a_gap_of_one_replica_is_its_own() {
        let replicas = replicas(&["a", "b"], &[], Start::TrimHorizon);
        let mut parent = row(&replicas, &shard("p", None, true));
        let gap = crate::lease::Gap { reason: "trimmed".to_owned(), found_unix_ms: 1 };
        parent.gaps.insert("b".to_owned(), gap);
        assert_eq!(replicas.standing(&parent, &BTreeMap::new(), &Lineage::new()), Standing::Ready);
        let runs = |row: &Row, rows: &BTreeMap<ShardId, Row>| {
            let orders = replicas.orders(&free(&replicas), row, rows, &Lineage::new());
            ["a", "b"].map(|replica| orders[replica].runs())
        };
        assert_eq!(runs(&parent, &BTreeMap::new()), [true, false]);
        end(&mut parent, "a");
        assert_eq!(replicas.standing(&parent, &BTreeMap::new(), &Lineage::new()), Standing::Gap);
        let rows = BTreeMap::from([(parent.shard.clone(), parent)]);
        let child = row(&replicas, &shard("c", Some("p"), false));
        assert_eq!(runs(&child, &rows), [true, false]);
    }

    #[test]
    fn a_replica_that_comes_later_holds_no_child_back_for_the_others() {
        let both = replicas(&["a", "b"], &["b"], Start::TrimHorizon);
        let mut parent = row(&both, &shard("p", None, true));
        end(&mut parent, "a");
        let rows = BTreeMap::from([(parent.shard.clone(), parent)]);
        let child = row(&both, &shard("c", Some("p"), false));
        let orders = both.orders(&free(&both), &child, &rows, &Lineage::new());
        assert!(orders["a"].runs() && !orders["b"].runs());
    }

    #[test]
    fn a_row_expires_only_when_all_children_are_read() {
        let replicas = replicas(&["a"], &["a"], Start::TrimHorizon);
        let mut lineage = Lineage::new();
        lineage.merge(&[
            shard("p", None, true),
            shard("c1", Some("p"), false),
            shard("c2", Some("p"), false),
        ]);
        let mut parent = row(&replicas, &shard("p", None, true));
        end(&mut parent, "a");
        parent.end_if_done();
        let mut rows = BTreeMap::new();
        for child in ["c1", "c2"] {
            assert_eq!(replicas.expiry(&parent, &rows, &lineage, 1_000), None);
            let child = row(&replicas, &shard(child, Some("p"), false));
            rows.insert(child.shard.clone(), Row { owner: Some("w".to_owned()), ..child });
        }
        assert_eq!(replicas.expiry(&parent, &rows, &lineage, 1_000), Some(1 + ENDED_ROW_SECONDS));
    }
}
