//! An item's record on disk: its digest and its key.
//!
//! The key is there, and not its digest alone, because a difference is told, read again and repaired by its key, and on
//! tables that are written to there are always keys to be read again: without them each run would scan a second time.
//! So that a record stays about as small as two digests, what a key has in common with the first key at its beginning
//! and end, which is names, types and brackets, is not written; and of a longer key than that only the digest is.
//! The digest of a key is computed again instead of kept: that costs less than its 16 bytes do.

use bytes::Bytes;

use super::Error;
use crate::key::Key;
use crate::verify::Digest;

/// A record's bytes beside the key.
const HEAD_BYTES: usize = 16 + 3;

/// Stands in the place of a prefix's length before a key's digest.
const LONG: u8 = u8::MAX;

/// Which key a record is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// This one.
    Key(Key),
    /// One whose digest is this; it is longer than what is kept.
    Digest(Digest),
}

/// Writes and reads records.
#[derive(Debug, Default)]
pub(super) struct Format {
    /// The first key, which the others are likely to resemble.
    template: Option<Vec<u8>>,
    /// Of longer keys only the digest is kept. At most 255.
    key_bytes_max: usize,
}

/// A record in a slice of many.
#[derive(Debug, Clone, Copy)]
pub(super) struct Record {
    pub(super) item: Digest,
    pub(super) key: Digest,
    pub(super) bytes: usize,
}

// === impl Format ===

impl Format {
    pub(super) fn new(key_bytes_max: usize) -> Self {
        Self { template: None, key_bytes_max: key_bytes_max.min(255) }
    }

    /// The longest record.
    pub(super) fn record_bytes_max(&self) -> usize {
        HEAD_BYTES + self.key_bytes_max.max(16)
    }

    pub(super) fn write(&mut self, key: &Key, digest: Digest, item: Digest, out: &mut Vec<u8>) {
        let text = key.as_bytes();
        let template = self.template.get_or_insert_with(|| text.to_vec());
        let prefix = common(text.iter(), template.iter()).min(usize::from(LONG) - 1);
        let (text, template) = (&text[prefix..], &template[prefix..]);
        let suffix = common(text.iter().rev(), template.iter().rev()).min(usize::from(u8::MAX));
        let middle = &text[..text.len() - suffix];
        out.extend_from_slice(&item.0.to_be_bytes());
        if middle.len() > self.key_bytes_max {
            out.extend_from_slice(&[LONG, 0, 16]);
            out.extend_from_slice(&digest.0.to_be_bytes());
        } else {
            // All of them are below 256.
            out.extend_from_slice(&[prefix as u8, suffix as u8, middle.len() as u8]);
            out.extend_from_slice(middle);
        }
    }

    /// The first record of `bytes`; `None` when it is cut off, which the disk must have done.
    pub(super) fn read(&self, bytes: &[u8], key: &mut Vec<u8>) -> Option<Record> {
        let (item, rest) = bytes.split_first_chunk::<16>()?;
        let ([prefix, suffix, len], rest) = rest.split_first_chunk::<3>()?;
        let middle = rest.get(..usize::from(*len))?;
        let digest = if *prefix == LONG {
            Digest(u128::from_be_bytes(middle.try_into().ok()?))
        } else {
            self.text(usize::from(*prefix), middle, usize::from(*suffix), key)?;
            Digest::of(key)
        };
        let item = Digest(u128::from_be_bytes(*item));
        Some(Record { item, key: digest, bytes: HEAD_BYTES + middle.len() })
    }

    /// The key of the first record of `bytes`.
    pub(super) fn identity(&self, bytes: &[u8]) -> Result<Identity, Error> {
        let mut text = Vec::new();
        let record = self.read(bytes, &mut text).ok_or(Error::Corrupt)?;
        if text.is_empty() {
            return Ok(Identity::Digest(record.key));
        }
        let text = Bytes::from(text);
        Ok(Identity::Key(Key::from_json(&text, 0..text.len()).map_err(|_| Error::Corrupt)?))
    }

    fn text(&self, prefix: usize, middle: &[u8], suffix: usize, out: &mut Vec<u8>) -> Option<()> {
        let template = self.template.as_deref()?;
        out.clear();
        out.extend_from_slice(template.get(..prefix)?);
        out.extend_from_slice(middle);
        out.extend_from_slice(template.get(template.len().checked_sub(suffix)?..)?);
        Some(())
    }
}

fn common<'a>(left: impl Iterator<Item = &'a u8>, right: impl Iterator<Item = &'a u8>) -> usize {
    left.zip(right).take_while(|(left, right)| left == right).count()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::item::{Attributes, Item, Value};

    fn key(partition: &str, sort: i64) -> Key {
        let attributes = Attributes::from([
            ("pk".to_owned(), Value::from(partition)),
            ("sk".to_owned(), Value::integer(sort)),
        ]);
        let item = Item::from_attributes(&attributes);
        Key::from_json(item.bytes(), 0..item.as_bytes().len()).expect("a key")
    }

    #[test]
    fn a_record_is_about_as_long_as_two_digests() {
        let mut format = Format::new(64);
        let mut bytes = Vec::new();
        for sort in 0..1_000 {
            let key = key("customer#0193a7c4", sort * 7_919);
            format.write(&key, Digest::of_key(&key), Digest(7), &mut bytes);
        }
        assert!(bytes.len() < 1_000 * 32, "{}", bytes.len());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            keys in prop::collection::vec(("[a-c\"é]{0,40}", any::<i64>()), 1..20),
            key_bytes_max in 0usize..80,
        ) {
            let mut format = Format::new(key_bytes_max);
            let mut bytes = Vec::new();
            let keys: Vec<_> = keys.iter().map(|(partition, sort)| key(partition, *sort)).collect();
            for (index, key) in keys.iter().enumerate() {
                let before = bytes.len();
                format.write(key, Digest::of_key(key), Digest(index as u128), &mut bytes);
                prop_assert!(bytes.len() - before <= format.record_bytes_max());
            }
            let mut at = 0;
            for (index, key) in keys.iter().enumerate() {
                let record = format.read(&bytes[at..], &mut Vec::new()).expect("a record");
                prop_assert_eq!((record.key, record.item), (Digest::of_key(key), Digest(index as u128)));
                match format.identity(&bytes[at..]).expect("a record") {
                    Identity::Key(found) => prop_assert_eq!(&found, key),
                    Identity::Digest(digest) => prop_assert_eq!(digest, Digest::of_key(key)),
                }
                at += record.bytes;
            }
            prop_assert_eq!(at, bytes.len());
        }
    }
}
