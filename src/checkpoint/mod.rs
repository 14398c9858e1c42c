//! How far a replica is: the algebra of progress, without any I/O.
//!
//! Pages of a shard are admitted as *lots*, in their order; each is settled when every change in it is durable
//! in the replica, in any order. The [`Frontier`] moves over the contiguous settled prefix only, and a
//! [`Checkpoint`] is what it has reached: all that goes to the control table, and never backwards (I2). Only a seek
//! moves it elsewhere, and gives it a new *epoch*: progress of one epoch says nothing about another.

mod frontier;

use crate::shard::Position;

pub use frontier::{Frontier, LotNumber};

/// Where one replica stands in one shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checkpoint {
    /// Everything up to here is durable in the replica.
    pub position: Position,
    /// Every change of this shard made up to this time, in milliseconds since 1970, is durable in the replica;
    /// `None` as long as nothing proves any time.
    pub applied_through_unix_ms: Option<i64>,
    /// Every record of this shard made up to this time, in milliseconds since 1970, is surely durable in the replica, or
    /// was trimmed before its start was decided and never wanted. It tells a trimmed position that lost nothing from
    /// one that did, so it asks for more than `applied_through`, which a few empty polls move.
    pub read_through_unix_ms: i64,
    /// The last seek that was obeyed, by its number, which is its time in milliseconds since 1970; zero before the first.
    pub epoch: i64,
}

// === impl Checkpoint ===

impl Checkpoint {
    /// A replica that has yet to start, at `position`, as is decided now.
    pub fn starting(position: Position, decided_unix_ms: i64) -> Self {
        let applied_through_unix_ms = match position {
            // What was made before the start does not concern the replica.
            Position::Latest { since_unix_ms } => Some(since_unix_ms),
            Position::At { unix_ms } => Some(unix_ms),
            Position::TrimHorizon | Position::After(_) | Position::End => None,
        };
        Self { position, applied_through_unix_ms, read_through_unix_ms: decided_unix_ms, epoch: 0 }
    }

    /// Takes over what the end of the parent proves, which was reached at `parent`: all of this shard's records were
    /// made after it, so a replica that has all of the parent has everything up to then. All of a child of which
    /// nothing was read yet is wanted, however late it was found. A parent that was sought to its last change ends with
    /// nothing read, and knows no time: what was decided about the child stands.
    pub fn inherit(&mut self, parent: &Self) {
        // Whatever is read of a shard, or proven by its silence, gives it a time.
        let is_unread = self.position == Position::TrimHorizon && self.applied_through_unix_ms.is_none();
        if is_unread && parent.read_through_unix_ms != 0 {
            self.read_through_unix_ms = parent.read_through_unix_ms;
        }
        self.applied_through_unix_ms = self.applied_through_unix_ms.max(parent.applied_through_unix_ms);
    }

    /// Takes over what `other` has reached beyond this; whatever lies behind is ignored, and all of another epoch.
    pub fn advance(&mut self, other: &Self) {
        if other.epoch != self.epoch {
            return;
        }
        if other.position > self.position {
            self.position = other.position;
        }
        self.applied_through_unix_ms = self.applied_through_unix_ms.max(other.applied_through_unix_ms);
        self.read_through_unix_ms = self.read_through_unix_ms.max(other.read_through_unix_ms);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(number: &str, through: Option<i64>) -> Checkpoint {
        let position = Position::After(number.parse().expect("a sequence number"));
        Checkpoint { position, applied_through_unix_ms: through, read_through_unix_ms: 0, epoch: 0 }
    }

    #[test]
    fn a_parents_end_says_from_when_on_a_child_is_wanted_until_something_was_read_of_it() {
        let parent = Checkpoint { position: Position::End, read_through_unix_ms: 50, ..at("9", Some(60)) };
        let mut child = Checkpoint::starting(Position::TrimHorizon, 900);
        child.inherit(&parent);
        assert_eq!((child.applied_through_unix_ms, child.read_through_unix_ms), (Some(60), 50));
        child.read_through_unix_ms = 800;
        child.inherit(&parent);
        assert_eq!(child.read_through_unix_ms, 800, "its silence was proven, and forgotten again");
    }

    #[test]
    fn a_parent_that_read_nothing_after_the_change_it_was_sought_to_does_not_age_its_child() {
        let parent = Checkpoint { position: Position::End, ..at("9", None) };
        let mut child = Checkpoint::starting(Position::TrimHorizon, 900);
        child.inherit(&parent);
        assert_eq!(child.read_through_unix_ms, 900);
    }

    #[test]
    fn a_checkpoint_never_goes_back() {
        let mut checkpoint = at("100", Some(7));
        checkpoint.advance(&at("99", Some(9)));
        assert_eq!(checkpoint, at("100", Some(9)));
        checkpoint.advance(&Checkpoint::starting(Position::TrimHorizon, 0));
        assert_eq!(checkpoint, at("100", Some(9)));
        checkpoint.advance(&at("101", None));
        assert_eq!(checkpoint, at("101", Some(9)));
    }

    #[test]
    fn progress_from_before_a_seek_does_not_count_after_it() {
        let mut sought = Checkpoint { epoch: 5, ..at("100", None) };
        sought.advance(&Checkpoint { epoch: 4, ..at("200", Some(9)) });
        assert_eq!(sought, Checkpoint { epoch: 5, ..at("100", None) });
    }
}
