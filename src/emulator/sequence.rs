//! A sequence number: digits that compare as a number and keep the width the server gave them.

use std::{cmp::Ordering, fmt};

/// Longest text the API model allows for a sequence number.
const MAX_DIGITS: usize = 40;

/// A stream sequence number. Order and equality are numeric: padding does not count.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sequence {
    number: u128,
    width: usize,
}

impl Sequence {
    /// Below every number a server issues; 21 digits is the shortest the API model allows.
    pub(super) const FLOOR: Sequence = Sequence { number: 0, width: 21 };

    /// Nothing when the text is not 1 to 40 digits, or beyond 128 bits (no server here issues such).
    pub(super) fn parse(text: &str) -> Option<Self> {
        let digits = !text.is_empty() && text.len() <= MAX_DIGITS && text.bytes().all(|b| b.is_ascii_digit());
        let number = digits.then(|| text.parse().ok()).flatten()?;
        Some(Self { number, width: text.len() })
    }

    pub(super) fn number(self) -> u128 {
        self.number
    }

    pub(super) fn next(self) -> Self {
        Self { number: self.number.saturating_add(1), width: self.width }
    }
}

impl PartialEq for Sequence {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Sequence {}

impl PartialOrd for Sequence {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Sequence {
    fn cmp(&self, other: &Self) -> Ordering {
        self.number.cmp(&other.number)
    }
}

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:0width$}", self.number, width = self.width)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_survives_and_order_is_numeric() {
        let padded = Sequence::parse("000000000000000000099").expect("digits");
        let bare = Sequence::parse("100").expect("digits");
        assert_eq!(padded.to_string(), "000000000000000000099");
        assert!(padded < bare);
        assert_eq!(padded.next(), bare);
    }

    #[test]
    fn what_is_not_a_number_is_refused() {
        for text in ["", "12a", "-1", "+5", &"9".repeat(41), &"9".repeat(40)] {
            assert!(Sequence::parse(text).is_none(), "{text}");
        }
    }
}
