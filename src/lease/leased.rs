//! The conditional write that every lease is made of.
//!
//! Whoever writes a row names the counter that it has seen last, and raises it. A write that fails without an answer may
//! have been done all the same; the next one is then refused, and finds what it wrote itself. [`write()`] tells that from
//! a row that another worker wrote, for the rows of shards and for every other row that is leased.

use tracing::warn;

use crate::control::{self, Control};
use crate::dynamo::{Condition, Outcome, RowKey};
use crate::item::{Attributes, Value};
use crate::mutation::{self, Mutation};

/// A row that holds a lease: an owner, and a counter that every write raises.
pub(super) trait Leased: PartialEq + Sized {
    /// Who holds it.
    fn owner(&self) -> Option<&str>;

    /// The counter that was seen last, or is to be written.
    fn counter_mut(&mut self) -> &mut i64;

    /// The row at `key` as the control table holds it.
    fn attributes(&self, key: &RowKey) -> Attributes;

    /// Reads a row.
    fn read(control: &Control, attributes: &Attributes) -> Result<Self, control::Error>;
}

/// What a writer is to the lease of the row that it writes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Standing {
    /// It holds it, as far as it knows.
    Holder,
    /// It does not.
    Stranger,
}

/// What became of a write by a lease's holder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renewal {
    /// The row is written, and its counter raised.
    Done,
    /// Another worker has the lease, or the row is gone: nothing more may be written under it.
    Lost,
}

/// Writes `row` where none was seen, and raises its counter. One that this very write left before, and whose answer was
/// lost, is written over.
pub(super) async fn create<R: Leased>(
    control: &Control,
    key: &RowKey,
    worker: &str,
    row: &mut R,
) -> Result<Renewal, control::Error> {
    *row.counter_mut() += 1;
    match control.put(&row.attributes(key), &Condition::Absent).await? {
        Outcome::Done => Ok(Renewal::Done),
        Outcome::Refused(Some(found)) if R::read(control, &found)? == *row => {
            write(control, key, worker, row, Standing::Stranger).await
        }
        Outcome::Refused(_) => Ok(Renewal::Lost),
    }
}

/// Writes `row`, whose counter is the one that `worker` has seen last, and raises it.
///
/// Writes that failed without an answer may have been done all the same, several in a row too. A holder's next one
/// then finds a higher counter, and this worker as the owner: the lease is still held, because nobody else writes
/// this worker's id, and the row is written once more on top. One that does not hold the lease may have done so
/// before, and have forgotten how far it came: it writes only on top of the very row that it wanted to write.
pub(super) async fn write<R: Leased>(
    control: &Control,
    key: &RowKey,
    worker: &str,
    row: &mut R,
    writer: Standing,
) -> Result<Renewal, control::Error> {
    loop {
        let seen = *row.counter_mut();
        *row.counter_mut() = seen + 1;
        let unchanged = match mutation::is_on(Mutation::UnconditionalRow) {
            true => Condition::Always,
            false => Condition::Equals { attribute: "counter", value: Value::integer(seen) },
        };
        let mut found = match control.put(&row.attributes(key), &unchanged).await {
            Ok(Outcome::Done) => return Ok(Renewal::Done),
            Ok(Outcome::Refused(None)) => return Ok(Renewal::Lost),
            Ok(Outcome::Refused(Some(found))) => R::read(control, &found)?,
            Err(error) => {
                *row.counter_mut() = seen;
                return Err(error);
            }
        };
        if row.owner().is_none() && found == *row {
            // A release leaves no owner to tell it by. A renewal is written again all the same: the lease runs
            // from when this counter was first seen, and the caller counts from now.
            return Ok(Renewal::Done);
        }
        let is_own = match writer {
            Standing::Stranger => found == *row,
            Standing::Holder => *found.counter_mut() > seen && found.owner() == Some(worker),
        };
        if !is_own {
            return Ok(Renewal::Lost);
        }
        *row.counter_mut() = *found.counter_mut();
        let RowKey { partition, sort } = key;
        warn!(partition, sort, "an earlier write of a lease that had failed was done");
    }
}
