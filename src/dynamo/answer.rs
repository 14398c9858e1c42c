//! What the bodies of answers have in common.

use std::ops::Range;

use bytes::Bytes;

use crate::item::Item;
use crate::item::scan::{Scanner, Unexpected};
use crate::key::{self, Key};
use crate::shard::NotASequenceNumber;

/// Why the body of an answer cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum Malformed {
    /// It is not the JSON it should be.
    #[error(transparent)]
    Json(#[from] Unexpected),
    /// A key in it is none.
    #[error("read the key at byte {at}")]
    Key {
        at: usize,
        #[source]
        source: key::Malformed,
    },
    /// An item in it has no key.
    #[error("find out which item an entry of the answer is about")]
    Identity(#[source] key::Malformed),
    /// A sequence number in it is none.
    #[error("read the sequence number at byte {at}")]
    Sequence {
        at: usize,
        #[source]
        source: NotASequenceNumber,
    },
    /// A text in it is no valid JSON string.
    #[error("read the string at byte {at}")]
    Text {
        at: usize,
        #[source]
        source: serde_json::Error,
    },
    /// A value in it is not of the kind it should be.
    #[error("read `{text}` at byte {at}: expected {expected}")]
    Value { at: usize, text: String, expected: &'static str },
    /// A member is missing.
    #[error("find `{member}` in the object at byte {at}")]
    Absent { at: usize, member: &'static str },
    /// It speaks of an item that was not asked for.
    #[error("find the key {0} in the request")]
    Stranger(Key),
}

/// Takes any value and forgets it.
pub(super) fn skip(scanner: &mut Scanner<'_>) -> Result<(), Malformed> {
    scanner.value()?;
    Ok(())
}

/// Takes any value; `None` for `null`.
pub(super) fn optional(scanner: &mut Scanner<'_>) -> Result<Option<Range<usize>>, Unexpected> {
    let is_null = scanner.peek() == Some(b'n');
    let range = scanner.value()?;
    Ok((!is_null).then_some(range))
}

/// Takes an object as an item; `None` for `null`.
pub(super) fn item(body: &Bytes, scanner: &mut Scanner<'_>) -> Result<Option<Range<usize>>, Malformed> {
    let Some(range) = optional(scanner)? else {
        return Ok(None);
    };
    if body[range.start] == b'{' { Ok(Some(range)) } else { Err(value(body, range, "an object")) }
}

/// Takes an array of objects as items.
pub(super) fn items(body: &Bytes, scanner: &mut Scanner<'_>) -> Result<Vec<Item>, Malformed> {
    let mut items = Vec::new();
    scanner.array::<Malformed>(|scanner| {
        let at = scanner.offset();
        let range = item(body, scanner)?.ok_or_else(|| value(body, at..at, "an item"))?;
        items.push(Item::from_json(body.slice(range)));
        Ok(())
    })?;
    Ok(items)
}

/// Takes a string; `None` for `null`.
pub(super) fn text(scanner: &mut Scanner<'_>) -> Result<Option<String>, Malformed> {
    if scanner.peek() != Some(b'"') {
        return match optional(scanner)? {
            None => Ok(None),
            Some(range) => Err(value(scanner.slice(0..range.end), range, "a string")),
        };
    }
    let range = scanner.string()?;
    unescaped(scanner.slice(range.clone()))
        .map(Some)
        .map_err(|source| Malformed::Text { at: range.start, source })
}

/// Takes what a call about one table tells of consumed capacity; 0 when it tells nothing.
pub(super) fn consumed_units(scanner: &mut Scanner<'_>) -> Result<f64, Malformed> {
    if scanner.peek() == Some(b'{') {
        return capacity_units(scanner);
    }
    skip(scanner)?;
    Ok(0.0)
}

/// Takes an object that tells consumed capacity.
pub(super) fn capacity_units(scanner: &mut Scanner<'_>) -> Result<f64, Malformed> {
    let mut units = 0.0;
    scanner.object::<Malformed>(|name, scanner| {
        let range = scanner.value()?;
        if name == b"CapacityUnits" {
            let text = std::str::from_utf8(scanner.slice(range)).unwrap_or_default();
            units = text.parse::<f64>().map_err(|_| value(text.as_bytes(), 0..text.len(), "a number"))?;
        }
        Ok(())
    })?;
    Ok(units)
}

/// The text behind the inside of a JSON string.
pub(super) fn unescaped(inside: &[u8]) -> Result<String, serde_json::Error> {
    serde_json::from_slice(&[b"\"", inside, b"\""].concat())
}

/// The error for a value of the wrong kind.
pub(super) fn value(body: &[u8], range: Range<usize>, expected: &'static str) -> Malformed {
    /// Enough to recognise it.
    const QUOTED_BYTES: usize = 60;
    let quoted = &body[range.start..range.end.min(range.start + QUOTED_BYTES)];
    Malformed::Value { at: range.start, text: String::from_utf8_lossy(quoted).into_owned(), expected }
}
