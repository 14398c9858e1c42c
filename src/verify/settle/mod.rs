//! From suspect to difference: a key is called different only when nothing else explains what is seen of it.
//!
//! A round of one key:
//!
//! ```text
//!  source ──> wait until the replica has all that was in the source then ──> replica ──> source ─┐ four times,
//!                                                                              ^─────────────────┘ at random pauses
//! ```
//!
//! - The replica's item equals the source's last one: there is no difference.
//! - The source's item is the same every time, and the replica's another: what was written to the source before the first
//!   read is in the replica, and nothing was written since; so the replica is wrong. Only an item that was changed and
//!   changed back between two reads looks the same, which is why there are so many reads, and why it takes three rounds in
//!   a row with the same result, and six where any state was ever seen to change.
//! - Anything else proves nothing: it is tried again, each time after twice the pause, and given up as unstable.
//!
//! [`Suspect`] decides, and knows no clock and no table; `run` reads.

pub(super) mod run;

use std::time::Duration;

use super::Digest;

/// Rounds in a row that must show the same difference of a key that was never seen to change.
pub const CONFIRMATIONS: u32 = 3;

/// The same for one that was seen to change. An item that goes to and fro between two states shows the same in all the
/// reads of three rounds by chance less often than once in 10⁴ times, and of six less than once in 10⁸.
pub const CONFIRMATIONS_OF_CHANGING: u32 = 6;

/// Rounds in all before a key is given up.
pub const TRIES_MAX: u32 = 10;

/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(16);

/// Pause after the first round; it doubles with each more.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// The digest of an item, or `None` when there is none.
pub type State = Option<Digest>;

/// What one round saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// In the source, before the wait.
    pub before: State,
    /// In the replica, after the wait.
    pub replica: State,
    /// In the source, after that.
    pub after: State,
    /// Whether both were the same each time that they were read after the wait.
    pub steady: bool,
}

/// A key that may be different.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Suspect {
    /// Rounds without a verdict.
    tries: u32,
    /// Rounds in a row that showed `last`.
    confirmations: u32,
    last: Option<(State, State)>,
    /// Whether a state was ever another one than before.
    changes: bool,
}

/// What a round means for a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// There is no difference.
    Equal,
    /// There is one.
    Confirmed,
    /// Nothing is proven yet: another round after this pause.
    Again(Duration),
    /// Nothing can be proven.
    Unstable,
}

// === impl Suspect ===

impl Suspect {
    /// One that was seen like this without any wait.
    pub fn new(source: State, replica: State) -> Self {
        Self { last: Some((source, replica)), ..Self::default() }
    }

    /// Judges by one more round.
    pub fn judge(&mut self, seen: Seen) -> Verdict {
        let Seen { before, replica, after, steady } = seen;
        let steady = steady && before == after;
        if replica == after {
            return Verdict::Equal;
        }
        let same = self.last == Some((after, replica));
        self.changes |= !steady || self.last.is_some() && !same;
        self.last = Some((after, replica));
        self.confirmations = match (steady, same) {
            (true, true) => self.confirmations + 1,
            (true, false) => 1,
            (false, _) => 0,
        };
        let wanted = if self.changes { CONFIRMATIONS_OF_CHANGING } else { CONFIRMATIONS };
        if self.confirmations >= wanted {
            return Verdict::Confirmed;
        }
        self.tries += 1;
        match self.tries {
            TRIES_MAX.. => Verdict::Unstable,
            tries => Verdict::Again((FIRST_PAUSE * (1 << (tries - 1))).min(LONGEST_PAUSE)),
        }
    }
}

#[cfg(test)]
mod tests;
