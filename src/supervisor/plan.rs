//! What to do with each shard: plain decisions from the rows of the control table and the lineage of the stream.

#[cfg(test)]
mod tests;

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
            Self::Seek(sought) => Some(sought.seek().epoch),
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
            } else if was_started(replica, rows) {
                let first = Checkpoint::starting(Position::TrimHorizon, now_unix_ms);
                row.checkpoints.insert(replica.clone(), first);
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
    /// `None` when it stays. `is_silent` is whether its owner, if it has one, let the lease run out.
    pub(super) fn expiry(
        &self,
        row: &Row,
        rows: &BTreeMap<ShardId, Row>,
        lineage: &Lineage,
        now_unix_ms: i64,
        is_silent: bool,
    ) -> Option<i64> {
        // A holder may read it for a replica that is not configured here. One that died after the shard had ended for
        // every replica leaves its name there, and nobody wants the lease.
        let is_held = row.owner.is_some() && !(is_silent && row.state == State::Ended);
        if is_held || row.expires_unix_s.is_some() || !self.has_all_of(row) {
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

/// Rows of `looked` that were never seen before and whose parents' rows are nowhere. Rows are read in pages, so a parent's
/// may have been made behind the page that it belongs to, and its child's before the next: then it is there at the next
/// look. Until that one, such a child must not be taken for one whose parent was never tracked.
pub(super) fn orphans(looked: &[Row], known: &BTreeMap<ShardId, Row>) -> BTreeSet<ShardId> {
    let shards: BTreeSet<_> = looked.iter().map(|row| &row.shard).chain(known.keys()).collect();
    let is_orphan = |row: &&Row| {
        let lacks_parent = row.parent.as_ref().is_some_and(|parent| !shards.contains(parent));
        lacks_parent && !known.contains_key(&row.shard)
    };
    looked.iter().filter(is_orphan).map(|row| row.shard.clone()).collect()
}

/// What `replica` reached in the parent of `row`'s shard, if that is its end.
fn parents_end<'a>(row: &Row, replica: &str, rows: &'a BTreeMap<ShardId, Row>) -> Option<&'a Checkpoint> {
    let parent = rows.get(row.parent.as_ref()?)?;
    parent.checkpoints.get(replica).filter(|reached| reached.position.is_end())
}

/// Whether somebody has read for `replica`. Nobody does before its start is decided for all shards, so another worker has
/// decided that, even where this one was not told yet.
fn was_started(replica: &str, rows: &BTreeMap<ShardId, Row>) -> bool {
    rows.values().any(|row| row.counter > 0 && row.checkpoints.contains_key(replica))
}
