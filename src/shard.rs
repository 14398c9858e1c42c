//! What a stream is made of: shards, the sequence numbers in them, and positions between records.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use crate::mutation::{self, Mutation};

/// The name of one shard, unique within its stream.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShardId(Arc<str>);

/// The position of one record within its stream: a decimal number of up to 40 digits.
///
/// Ordered and compared **as a number**: leading zeros, which some servers pad with, do not count. The text is
/// kept as it was received, because it goes back to the server that gave it.
#[derive(Clone, Copy)]
pub struct SequenceNumber {
    len: u8,
    digits: [u8; SequenceNumber::MAX_DIGITS],
}

/// A text that is no sequence number: empty, longer than 40 characters, or not all digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("read `{0}` as a sequence number: expected 1 to 40 decimal digits")]
pub struct NotASequenceNumber(String);

/// Where reading of a shard goes on, and what a checkpoint stores.
///
/// Ordered by progress: every start comes before every `After`, which are ordered by their numbers, and `End`
/// is the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Position {
    /// At the oldest record that the shard still holds.
    TrimHorizon,
    /// After the newest record at the time of asking. `since_unix_ms` is when that was decided: a reader that
    /// comes back before its first checkpoint starts from that time instead, so that nothing is skipped.
    Latest {
        /// When the start was decided.
        since_unix_ms: i64,
    },
    /// At the first record created at or after this time.
    At {
        /// The time, in milliseconds since 1970.
        unix_ms: i64,
    },
    /// After the record with this number (exclusive).
    After(SequenceNumber),
    /// After the last record of a closed shard: everything in it is done.
    End,
}

/// One shard as a stream's description shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shard {
    /// Its name.
    pub id: ShardId,
    /// The shard it came from by a split or a roll-over; the parent's records precede its own.
    pub parent: Option<ShardId>,
    /// Whether it has an ending sequence number: nothing more is written to it.
    pub closed: bool,
}

// === impl ShardId ===

impl ShardId {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for ShardId {
    fn from(id: &str) -> Self {
        Self(id.into())
    }
}

impl From<String> for ShardId {
    fn from(id: String) -> Self {
        Self(id.into())
    }
}

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

// === impl SequenceNumber ===

impl SequenceNumber {
    /// The longest sequence number the Streams API documents (`StreamRecord$SequenceNumber`).
    pub const MAX_DIGITS: usize = 40;

    /// Reads a number from its decimal text.
    ///
    /// # Errors
    /// When the text is empty, longer than 40 characters, or holds anything but digits.
    pub fn parse(text: &[u8]) -> Result<Self, NotASequenceNumber> {
        if text.is_empty() || text.len() > Self::MAX_DIGITS || !text.iter().all(u8::is_ascii_digit) {
            return Err(NotASequenceNumber(String::from_utf8_lossy(text).into_owned()));
        }
        let mut digits = [0; Self::MAX_DIGITS];
        digits[..text.len()].copy_from_slice(text);
        Ok(Self { len: text.len() as u8, digits })
    }

    /// The text as it was received, leading zeros included.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.digits[..usize::from(self.len)]).expect("only ASCII digits are stored")
    }

    fn significant(&self) -> &[u8] {
        let text = &self.digits[..usize::from(self.len)];
        let zeros = text.iter().take_while(|digit| **digit == b'0').count();
        &text[zeros..]
    }
}

impl std::str::FromStr for SequenceNumber {
    type Err = NotASequenceNumber;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text.as_bytes())
    }
}

impl Ord for SequenceNumber {
    fn cmp(&self, other: &Self) -> Ordering {
        let (left, right) = (self.significant(), other.significant());
        if mutation::is_on(Mutation::CompareAsText) {
            return left.cmp(right);
        }
        left.len().cmp(&right.len()).then_with(|| left.cmp(right))
    }
}

impl PartialOrd for SequenceNumber {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for SequenceNumber {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for SequenceNumber {}

impl Hash for SequenceNumber {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.significant().hash(state);
    }
}

impl fmt::Display for SequenceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for SequenceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

// === impl Position ===

impl Position {
    /// Whether the shard's end is reached.
    pub fn is_end(&self) -> bool {
        matches!(self, Self::End)
    }

    /// For a start by time, the time from which on records matter, in milliseconds since 1970. "From now on" is taken
    /// a little earlier when it is remembered as a time: by more than a worker's clock is ahead of the service's. A
    /// change that is applied although it was made just before does no harm.
    pub fn from_unix_ms(&self) -> Option<i64> {
        const CLOCK_SLACK_MS: i64 = 10_000;
        match self {
            Self::At { unix_ms } => Some(*unix_ms),
            Self::Latest { since_unix_ms } => Some(since_unix_ms - CLOCK_SLACK_MS),
            Self::TrimHorizon | Self::After(_) | Self::End => None,
        }
    }

    fn rank(&self) -> u8 {
        match self {
            Self::TrimHorizon | Self::Latest { .. } | Self::At { .. } => 0,
            Self::After(_) => 1,
            Self::End => 2,
        }
    }
}

impl PartialOrd for Position {
    /// `None` between two different starts, which cannot be ordered without asking the server.
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::After(left), Self::After(right)) => Some(left.cmp(right)),
            _ if self == other => Some(Ordering::Equal),
            _ => match self.rank().cmp(&other.rank()) {
                Ordering::Equal => None,
                unequal => Some(unequal),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn number(text: &str) -> SequenceNumber {
        text.parse().expect("a sequence number")
    }

    #[test]
    fn numbers_compare_as_numbers_not_as_text() {
        assert!(number("9") < number("10"));
        assert!(number("000000000000000000009") < number("10"));
        assert_eq!(number("007"), number("7"));
        assert_eq!(number("007").as_str(), "007");
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for text in ["", "12a", "-1", " 1", &"1".repeat(41)] {
            assert!(text.parse::<SequenceNumber>().is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn positions_are_ordered_by_progress() {
        let start = Position::At { unix_ms: 5 };
        let early = Position::After(number("99"));
        let late = Position::After(number("100"));
        assert!(start < early && early < late && late < Position::End);
        assert_eq!(start.partial_cmp(&Position::TrimHorizon), None);
    }

    proptest! {
        #[test]
        fn order_is_that_of_the_integers(left in any::<u128>(), right in any::<u128>(), pad in 0usize..2) {
            let text = |value: u128| format!("{}{value}", "0".repeat(pad));
            prop_assert_eq!(number(&left.to_string()).cmp(&number(&text(right))), left.cmp(&right));
        }
    }
}
