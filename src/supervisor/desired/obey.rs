//! What a seek makes of checkpoints, and when a replica may be read: plain decisions.

use std::collections::BTreeMap;

use super::{Seek, Target, Wish};
use crate::checkpoint::Checkpoint;
use crate::lease::{Row, State};
use crate::mutation::{self, Mutation};
use crate::shard::{Position, SequenceNumber, ShardId};

/// By how much the newest change of a shard may be younger than the time up to which all is applied: creation times
/// are whole seconds (see `checkpoint`).
const ROUNDING_MS: i64 = 1_000;

/// How a shard is related to a seek.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    /// It is one that the seek names, or the seek names none.
    Meant,
    /// It came from the one that the seek names.
    Descendant,
    /// The seek does not concern it.
    Other,
    /// The stream does not show it any more.
    Vanished,
}

/// The seeks that one shard has not obeyed, in their order; at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sought {
    steps: Vec<Step>,
}

/// A seek, as one shard has to obey it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The seek.
    pub seek: Seek,
    /// What it has to do with the shard.
    pub relation: Relation,
}

/// What a seek does to a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// It stays where it is.
    Stays,
    /// It goes back: changes are applied again.
    Replays,
    /// It goes forward, or may do so: changes that are not applied are passed over.
    Skips,
    /// The shard is gone and was not read to its end; the replica does without the rest of it.
    Ends,
}

/// Where a seek takes a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// What that means.
    pub effect: Effect,
    /// The checkpoint after it.
    pub checkpoint: Checkpoint,
}

/// Whether `row` has not obeyed the newest seek of `replica`.
pub fn is_behind(row: &Row, replica: &str, wish: &Wish) -> bool {
    epoch(row, replica) < wish.epoch()
}

/// Whether `replica` may be read and written to: it is not paused, and all rows of its replication have its newest
/// epoch, the one of the wish or a newer one that others heard of.
pub fn may_run<'a>(wish: &Wish, replica: &str, rows: impl Iterator<Item = &'a Row> + Clone) -> bool {
    if wish.is_paused() && !mutation::is_on(Mutation::PauseIgnored) {
        return false;
    }
    let epochs = rows.map(|row| epoch(row, replica));
    let newest = epochs.clone().fold(wish.epoch(), i64::max);
    epochs.into_iter().all(|epoch| epoch == newest) || mutation::is_on(Mutation::ReplayAtOnce)
}

/// The number of the last seek of `replica` that all of `rows` have obeyed; zero when one has obeyed none.
pub fn obeyed_epoch<'a>(replica: &str, rows: impl IntoIterator<Item = &'a Row>) -> i64 {
    rows.into_iter().map(|row| epoch(row, replica)).min().unwrap_or_default()
}

/// What the seeks of `replica` ask of `row`'s shard; `None` when it has obeyed them. `is_listed` is whether the stream
/// still shows the shard.
pub fn sought(
    row: &Row,
    replica: &str,
    wish: &Wish,
    rows: &BTreeMap<ShardId, Row>,
    is_listed: bool,
) -> Option<Sought> {
    let step = |seek: &Seek| {
        let relation = if is_listed { relation(row, &seek.target, rows) } else { Relation::Vanished };
        Step { seek: seek.clone(), relation }
    };
    let steps: Vec<_> = wish.seeks_after(epoch(row, replica)).map(step).collect();
    (!steps.is_empty()).then_some(Sought { steps })
}

/// `row` as the newest seeks make it, each of a replica and what is wanted of it; `None` when it has obeyed them all.
pub fn obey<'a>(
    row: &Row,
    wishes: impl IntoIterator<Item = (&'a str, &'a Wish)>,
    rows: &BTreeMap<ShardId, Row>,
    is_listed: bool,
) -> Option<Row> {
    let mut obeyed = None;
    for (replica, wish) in wishes {
        if let Some(sought) = sought(row, replica, wish, rows, is_listed) {
            sought.put(obeyed.get_or_insert_with(|| row.clone()), replica);
        }
    }
    obeyed
}

// === impl Sought ===

impl Sought {
    /// The last of the seeks.
    pub fn seek(&self) -> &Seek {
        &self.steps.last().expect("it is made with one at least").seek
    }

    /// Puts the replica where the seeks ask for, one after the other. Returns its checkpoint.
    pub fn put(&self, row: &mut Row, replica: &str) -> Checkpoint {
        for step in &self.steps {
            step.put(row, replica);
        }
        row.checkpoints[replica]
    }
}

// === impl Step ===

impl Step {
    /// What it does to the checkpoint of `replica` in `row`.
    pub fn change(&self, row: &Row, replica: &str) -> Change {
        let Self { seek, relation } = self;
        let start = || Checkpoint::starting(Position::TrimHorizon, seek.epoch);
        let now = row.checkpoints.get(replica).copied().unwrap_or_else(start);
        let stays = Change { effect: Effect::Stays, checkpoint: Checkpoint { epoch: seek.epoch, ..now } };
        let position = match (relation, &seek.target) {
            (Relation::Vanished, _) if row.gap_of(replica).is_some() => {
                let checkpoint = Checkpoint { position: Position::End, ..stays.checkpoint };
                return Change { effect: Effect::Ends, checkpoint };
            }
            // What was trimmed until now is not wanted, so it is no gap for the children either.
            (Relation::Vanished, Target::TrimHorizon | Target::Time { .. }) if now.position.is_end() => {
                let read_through_unix_ms = now.read_through_unix_ms.max(seek.epoch);
                let checkpoint = Checkpoint { read_through_unix_ms, ..stays.checkpoint };
                return Change { checkpoint, ..stays };
            }
            // One that is not known to be a gap may be back in the next listing.
            (Relation::Vanished | Relation::Other, _) => return stays,
            (Relation::Descendant, _) | (_, Target::TrimHorizon) => Position::TrimHorizon,
            (_, Target::Time { unix_ms }) => Position::At { unix_ms: *unix_ms },
            (_, Target::After { sequence, .. }) => Position::After(*sequence),
        };
        match effect(&now, &position) {
            Effect::Stays => stays,
            Effect::Skips if !seek.may_skip => Change { effect: Effect::Skips, ..stays },
            effect => Change { effect, checkpoint: starting(position, seek.epoch) },
        }
    }

    /// Puts the replica where it asks for, and leaves its gap behind.
    fn put(&self, row: &mut Row, replica: &str) {
        let checkpoint = self.change(row, replica).checkpoint;
        if matches!(row.state, State::Gap { .. }) {
            // It stays one for each of the others.
            let others = row.checkpoints.keys().filter_map(|name| Some((name.clone(), row.gap_of(name)?)));
            row.gaps = others.collect();
            row.state = State::Open;
        }
        row.gaps.remove(replica);
        row.checkpoints.insert(replica.to_owned(), checkpoint);
        if row.state == State::Ended && !checkpoint.position.is_end() {
            row.state = State::Open;
            row.expires_unix_s = None;
        }
        row.end_if_done();
    }
}

/// How the shard of `row`, which the stream shows, is related to a seek.
pub fn relation(row: &Row, target: &Target, rows: &BTreeMap<ShardId, Row>) -> Relation {
    let Target::After { shard, .. } = target else {
        return Relation::Meant;
    };
    if row.shard == *shard {
        return Relation::Meant;
    }
    let mut at = row.parent.as_ref();
    // Parents never form a circle, unless the rows are damaged.
    for _ in 0..=rows.len() {
        match at {
            Some(parent) if parent == shard => return Relation::Descendant,
            Some(parent) => at = rows.get(parent).and_then(|row| row.parent.as_ref()),
            None => break,
        }
    }
    Relation::Other
}

/// What going to `position` means for a replica at `now`.
fn effect(now: &Checkpoint, position: &Position) -> Effect {
    let applied_through =
        |unix_ms: i64| now.applied_through_unix_ms.is_some_and(|through| through >= unix_ms);
    match position {
        // All that an ended shard held is older.
        Position::At { unix_ms } if now.position.is_end() && ended_before(now, *unix_ms) => Effect::Stays,
        _ if now.position.is_end() => Effect::Replays,
        Position::At { unix_ms } if !applied_through(*unix_ms) => Effect::Skips,
        Position::After(sequence) => by_sequence(&now.position, sequence),
        _ => Effect::Replays,
    }
}

fn ended_before(now: &Checkpoint, unix_ms: i64) -> bool {
    now.applied_through_unix_ms.is_some_and(|through| through + ROUNDING_MS < unix_ms)
}

/// Where a start lies is not known without asking the service.
fn by_sequence(now: &Position, sequence: &SequenceNumber) -> Effect {
    match now {
        Position::After(reached) if reached == sequence => Effect::Stays,
        Position::After(reached) if reached > sequence => Effect::Replays,
        _ => Effect::Skips,
    }
}

fn starting(position: Position, epoch: i64) -> Checkpoint {
    let starting = Checkpoint::starting(position, epoch);
    // Somebody who names a change wants all that follows it: if that was trimmed, nothing excuses it.
    let read_through_unix_ms =
        if matches!(position, Position::After(_)) { 0 } else { starting.read_through_unix_ms };
    Checkpoint { epoch, read_through_unix_ms, ..starting }
}

fn epoch(row: &Row, replica: &str) -> i64 {
    row.checkpoints.get(replica).map_or(0, |checkpoint| checkpoint.epoch)
}
