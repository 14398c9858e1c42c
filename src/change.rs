//! What one replica must do for one record.

use std::sync::Arc;

use crate::item::Item;
use crate::key::Key;
use crate::shard::SequenceNumber;

/// What becomes of the item under a key.
#[derive(Debug, Clone)]
pub enum Op {
    /// It is replaced by this whole item.
    Put(Item),
    /// It is gone.
    Delete,
}

/// One write for one replica. It carries the item's whole state, so of two changes of one key the later alone
/// is enough, and applying one twice does no harm.
#[derive(Debug, Clone)]
pub struct Change {
    /// The key in the replica.
    pub key: Key,
    /// The item's new state.
    pub op: Op,
    /// When the change was made at the source, in milliseconds since 1970 (whole seconds from the service).
    pub created_unix_ms: i64,
    /// Where it stands among the changes of its key; `None` where nobody asks, or where it is not known any more.
    pub order: Option<Order>,
}

/// Where a change stands among all changes of its key, whichever shard, worker or run they come from.
///
/// Numbers of two streams have nothing to do with each other, but a table has one stream after the other, and their
/// labels are the times at which they were switched on. Changes of two tables have no order at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// A short name of the table, `/`, and the label of the stream; shared by all its changes.
    pub stream: Arc<str>,
    /// The number of the record in it.
    pub sequence: SequenceNumber,
    /// Whether it is not the change's own, but that of the newest change that was seen in the replica's item: then the
    /// write is done only while the item has this one, and leaves it there. A repair is written so.
    pub seen: bool,
}

// === impl Change ===

impl Change {
    /// Bytes this change adds to a write request, from above: the service's limits count item bytes, which JSON
    /// text never falls short of.
    pub fn request_bytes(&self) -> usize {
        /// `{"DeleteRequest":{"Key":}},`
        const FRAME_BYTES: usize = 27;
        FRAME_BYTES
            + match &self.op {
                Op::Put(item) => item.as_bytes().len(),
                Op::Delete => self.key.as_bytes().len(),
            }
    }
}

// === impl Order ===

impl Order {
    /// Between label and number: less than any character of a label, so that of two labels of which one begins with
    /// the other (some servers leave a fraction of zero out) the shorter is the earlier.
    const SEPARATOR: char = '#';

    /// What the marks of all changes of the same table begin with.
    pub fn table_prefix(&self) -> &str {
        self.stream.find('/').map_or(&*self.stream, |at| &self.stream[..=at])
    }

    /// Reads a mark; `None` when the text is none.
    pub fn from_mark(mark: &str) -> Option<Self> {
        let (stream, sequence) = mark.rsplit_once(Self::SEPARATOR)?;
        Some(Self { stream: stream.into(), sequence: sequence.parse().ok()?, seen: false })
    }

    /// A text that is ordered as the changes of a key are, when compared byte by byte: the stream and the number at full
    /// length. (A number attribute would not do: it keeps 38 digits, and sequence numbers have 40.)
    pub fn mark(&self) -> String {
        let digits = self.sequence.as_str().trim_start_matches('0');
        let width = SequenceNumber::MAX_DIGITS;
        format!("{}{}{digits:0>width$}", self.stream, Self::SEPARATOR)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn order(stream: &str, sequence: &str) -> Order {
        Order { stream: stream.into(), sequence: sequence.parse().expect("a number"), seen: false }
    }

    proptest! {
        #[test]
        fn marks_are_ordered_as_numbers_are(left in "[0-9]{1,40}", right in "[0-9]{1,40}") {
            let stream = "0badcafe/2026-11-20T21:24:23.123";
            let (left, right) = (order(stream, &left), order(stream, &right));
            prop_assert_eq!(left.mark().cmp(&right.mark()), left.sequence.cmp(&right.sequence));
            prop_assert_eq!(Order::from_mark(&left.mark()), Some(left));
        }
    }

    #[test]
    fn any_change_of_a_newer_stream_is_newer() {
        let older = order("t/2026-11-20T21:24:23", "9999999999999999999999999999999999999999");
        for label in ["t/2026-11-20T21:24:23.1", "t/2026-11-20T21:24:24", "t/2027-01-01T00:00:00.000"] {
            assert!(older.mark() < order(label, "1").mark(), "{label}");
            assert_eq!(order(label, "1").table_prefix(), "t/");
        }
        // A minute without its seconds.
        assert!(order("t/2026-11-20T21:24", "5").mark() < order("t/2026-11-20T21:24:01", "1").mark());
    }

    #[test]
    fn what_is_no_mark_is_not_read() {
        for text in ["", "2026", "2026#", "2026#x", "1"] {
            assert_eq!(Order::from_mark(text), None, "{text}");
        }
    }
}
