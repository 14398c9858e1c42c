//! Bodies of the calls that carry many items: `BatchWriteItem` and `BatchGetItem`.

use bytes::Bytes;

use super::answer::{self, Malformed};
use super::{Fetched, Written};
use crate::change::{Change, Op};
use crate::item::Item;
use crate::item::scan::Scanner;
use crate::key::{self, Key};

/// Bytes around the changes of a request, the table's name twice as long for escapes.
const FRAME_BYTES: usize = 80;

/// The keys of a request, to find the entries of its answer among.
struct Asked<'a> {
    keys: Vec<&'a Key>,
    /// The names of the table's key attributes.
    names: Vec<String>,
}

/// The request that applies `changes` to `table`.
pub(super) fn write_body(table: &str, changes: &[Change]) -> Vec<u8> {
    let items: usize = changes.iter().map(Change::request_bytes).sum();
    let mut body = Vec::with_capacity(FRAME_BYTES + 2 * table.len() + items);
    body.extend_from_slice(br#"{"RequestItems":{"#);
    push_text(table, &mut body);
    body.extend_from_slice(b":[");
    for (index, change) in changes.iter().enumerate() {
        if index > 0 {
            body.push(b',');
        }
        let (open, content) = match &change.op {
            Op::Put(item) => (&br#"{"PutRequest":{"Item":"#[..], item.as_bytes()),
            Op::Delete => (&br#"{"DeleteRequest":{"Key":"#[..], change.key.as_bytes()),
        };
        body.extend_from_slice(open);
        body.extend_from_slice(content);
        body.extend_from_slice(b"}}");
    }
    body.extend_from_slice(br#"]},"ReturnConsumedCapacity":"TOTAL"}"#);
    body
}

/// What the answer says became of `changes`.
pub(super) fn read_written(body: &Bytes, changes: &[Change]) -> Result<Written, Malformed> {
    let mut unprocessed = None;
    let mut consumed_units = 0.0;
    Scanner::new(body).object::<Malformed>(|name, scanner| {
        match name {
            b"UnprocessedItems" => unprocessed = Some(read_unprocessed(scanner, changes)?),
            b"ConsumedCapacity" => consumed_units = read_consumed(scanner)?,
            _ => answer::skip(scanner)?,
        }
        Ok(())
    })?;
    // An answer without it proves nothing.
    let unprocessed = unprocessed.ok_or(Malformed::Absent { at: 0, member: "UnprocessedItems" })?;
    Ok(Written { unprocessed, consumed_units })
}

/// The request for the items of `table` under `keys`.
pub(super) fn fetch_body(table: &str, keys: &[Key]) -> Vec<u8> {
    let size: usize = keys.iter().map(|key| key.as_bytes().len() + 1).sum();
    let mut body = Vec::with_capacity(FRAME_BYTES + 2 * table.len() + size);
    body.extend_from_slice(br#"{"RequestItems":{"#);
    push_text(table, &mut body);
    body.extend_from_slice(br#":{"Keys":["#);
    for (index, key) in keys.iter().enumerate() {
        if index > 0 {
            body.push(b',');
        }
        body.extend_from_slice(key.as_bytes());
    }
    body.extend_from_slice(br#"],"ConsistentRead":true}}}"#);
    body
}

/// The items in the answer, each at the place of its key in `keys`.
pub(super) fn read_fetched(body: &Bytes, keys: &[Key]) -> Result<Fetched, Malformed> {
    let asked = Asked::new(keys)?;
    let mut items = None;
    let mut unprocessed = Vec::new();
    Scanner::new(body).object::<Malformed>(|name, scanner| {
        match name {
            b"Responses" => {
                let mut found: Vec<Option<Item>> = vec![None; keys.len()];
                scanner.object::<Malformed>(|_table, scanner| {
                    for item in answer::items(body, scanner)? {
                        let index = asked.index_of(item.as_bytes())?;
                        found[index] = Some(item);
                    }
                    Ok(())
                })?;
                items = Some(found);
            }
            b"UnprocessedKeys" => read_unread(scanner, &asked, &mut unprocessed)?,
            _ => answer::skip(scanner)?,
        }
        Ok(())
    })?;
    let items = items.ok_or(Malformed::Absent { at: 0, member: "Responses" })?;
    Ok(Fetched { items, unprocessed })
}

/// Appends `text` as a JSON string.
pub(super) fn push_text(text: &str, out: &mut Vec<u8>) {
    serde_json::to_writer(out, text).expect("a string is always written to memory");
}

/// `{"table":[{"PutRequest":{"Item":…}},{"DeleteRequest":{"Key":…}}]}`
fn read_unprocessed(scanner: &mut Scanner<'_>, changes: &[Change]) -> Result<Vec<usize>, Malformed> {
    let mut indexes = Vec::new();
    // Nearly always.
    if scanner.clone().value().is_ok_and(|range| scanner.slice(range) == b"{}") {
        scanner.value()?;
        return Ok(indexes);
    }
    let asked = Asked::new(changes.iter().map(|change| &change.key))?;
    scanner.object::<Malformed>(|_table, scanner| {
        scanner.array::<Malformed>(|scanner| {
            scanner.object::<Malformed>(|request, scanner| {
                if !matches!(request, b"PutRequest" | b"DeleteRequest") {
                    return answer::skip(scanner);
                }
                scanner.object::<Malformed>(|_item_or_key, scanner| {
                    let range = scanner.value()?;
                    indexes.push(asked.index_of(scanner.slice(range))?);
                    Ok(())
                })
            })
        })
    })?;
    Ok(indexes)
}

/// `{"table":{"Keys":[…],…}}`
fn read_unread(
    scanner: &mut Scanner<'_>,
    asked: &Asked<'_>,
    indexes: &mut Vec<usize>,
) -> Result<(), Malformed> {
    scanner.object::<Malformed>(|_table, scanner| {
        scanner.object::<Malformed>(|name, scanner| {
            if name != b"Keys" {
                return answer::skip(scanner);
            }
            scanner.array::<Malformed>(|scanner| {
                let range = scanner.value()?;
                indexes.push(asked.index_of(scanner.slice(range))?);
                Ok(())
            })
        })
    })
}

fn read_consumed(scanner: &mut Scanner<'_>) -> Result<f64, Malformed> {
    if scanner.peek() != Some(b'[') {
        scanner.value()?;
        return Ok(0.0);
    }
    let mut units = 0.0;
    scanner.array::<Malformed>(|scanner| {
        units += answer::capacity_units(scanner)?;
        Ok(())
    })?;
    Ok(units)
}

// === impl Asked ===

impl<'a> Asked<'a> {
    fn new(keys: impl IntoIterator<Item = &'a Key>) -> Result<Self, Malformed> {
        let keys: Vec<_> = keys.into_iter().collect();
        let names = match keys.first() {
            Some(first) => names_of(first)?,
            None => Vec::new(),
        };
        Ok(Self { keys, names })
    }

    /// The place of the key that an item or a key's text has.
    fn index_of(&self, text: &[u8]) -> Result<usize, Malformed> {
        let key = Key::of_item(text, &self.names).map_err(Malformed::Identity)?;
        let index = self.keys.iter().position(|asked| **asked == key);
        index.ok_or(Malformed::Stranger(key))
    }
}

fn names_of(key: &Key) -> Result<Vec<String>, Malformed> {
    let mut names = Vec::with_capacity(2);
    Scanner::new(key.as_bytes()).object::<Malformed>(|name, scanner| {
        answer::skip(scanner)?;
        let name = answer::unescaped(name).map_err(key::Malformed::Text);
        names.push(name.map_err(Malformed::Identity)?);
        Ok(())
    })?;
    Ok(names)
}

#[cfg(test)]
#[path = "batch_tests.rs"]
mod tests;
