//! Reads a `GetRecords` answer without taking its items apart.
//!
//! Only what routing needs is looked at; keys and images are slices of the body. What is unknown is skipped, and
//! so is the old image. Any doubt about a record fails the whole page: it is read again, never skipped.

use std::ops::Range;

use bytes::Bytes;

use super::answer::{self, Malformed, optional};
use super::{Iterator, PAGE_RECORDS_MAX};
use crate::item::Item;
use crate::item::scan::{Scanner, Unexpected};
use crate::key::Key;
use crate::record::{Kind, Record};
use crate::shard::SequenceNumber;

/// One record as far as it has been read: where its parts stand in the body.
#[derive(Default)]
struct Draft {
    name: Option<Range<usize>>,
    key: Option<Range<usize>>,
    image: Option<Range<usize>>,
    has_old_image: bool,
    sequence: Option<SequenceNumber>,
    created_unix_ms: Option<i64>,
    by_ttl: bool,
}

/// Reads the records and the next iterator from an answer's body.
pub(super) fn parse(body: &Bytes) -> Result<(Vec<Record>, Option<Iterator>), Malformed> {
    let mut scanner = Scanner::new(body);
    let mut records = None;
    let mut next = None;
    scanner.object::<Malformed>(|name, scanner| {
        match name {
            b"Records" => records = Some(parse_records(body, scanner)?),
            b"NextShardIterator" => next = answer::text(scanner)?.map(Iterator),
            _ => answer::skip(scanner)?,
        }
        Ok(())
    })?;
    // Without this an empty object would look like the end of the shard.
    let records = records.ok_or(Malformed::Absent { at: 0, member: "Records" })?;
    Ok((records, next))
}

fn parse_records(body: &Bytes, scanner: &mut Scanner<'_>) -> Result<Vec<Record>, Malformed> {
    let start = scanner.offset();
    let mut records = Vec::new();
    scanner.array::<Malformed>(|scanner| {
        records.push(parse_record(body, scanner)?);
        if records.len() == 1 {
            // Records of one shard are about equally long: one more allocation serves most pages.
            let record_bytes = scanner.offset() - start;
            let estimate = (body.len() - start) / record_bytes.max(1) * 9 / 8;
            records.reserve_exact(estimate.min(PAGE_RECORDS_MAX as usize - 1));
        }
        Ok(())
    })?;
    Ok(records)
}

fn parse_record(body: &Bytes, scanner: &mut Scanner<'_>) -> Result<Record, Malformed> {
    scanner.peek();
    let at = scanner.offset();
    let mut draft = Draft::default();
    scanner.object::<Malformed>(|name, scanner| {
        match name {
            b"eventName" => draft.name = Some(scanner.string()?),
            b"dynamodb" => parse_change(body, scanner, &mut draft)?,
            b"userIdentity" => draft.by_ttl = parse_identity(scanner)?,
            _ => answer::skip(scanner)?,
        }
        Ok(())
    })?;
    draft.finish(body, at)
}

fn parse_change(body: &Bytes, scanner: &mut Scanner<'_>, draft: &mut Draft) -> Result<(), Malformed> {
    scanner.object::<Malformed>(|name, scanner| {
        match name {
            b"Keys" => draft.key = optional(scanner)?,
            b"NewImage" => draft.image = answer::item(body, scanner)?,
            b"OldImage" => draft.has_old_image = optional(scanner)?.is_some(),
            b"SequenceNumber" => draft.sequence = Some(parse_sequence(scanner)?),
            b"ApproximateCreationDateTime" => {
                let range = scanner.value()?;
                let time = unix_ms(scanner.slice(range.clone()));
                let time = time.ok_or_else(|| answer::value(body, range, "seconds since 1970"))?;
                draft.created_unix_ms = Some(time);
            }
            _ => answer::skip(scanner)?,
        }
        Ok(())
    })
}

fn parse_sequence(scanner: &mut Scanner<'_>) -> Result<SequenceNumber, Malformed> {
    let range = scanner.string()?;
    let at = range.start;
    SequenceNumber::parse(scanner.slice(range)).map_err(|source| Malformed::Sequence { at, source })
}

/// Whether the change was made by the service, because of the item's time to live. Servers spell the members
/// of this object in two ways.
fn parse_identity(scanner: &mut Scanner<'_>) -> Result<bool, Malformed> {
    if scanner.peek() != Some(b'{') {
        scanner.value()?;
        return Ok(false);
    }
    let (mut is_service, mut is_dynamodb) = (false, false);
    scanner.object::<Unexpected>(|name, scanner| {
        let value = scanner.value()?;
        match name {
            b"type" | b"Type" => is_service = scanner.slice(value) == b"\"Service\"",
            b"principalId" | b"PrincipalId" => {
                is_dynamodb = scanner.slice(value) == b"\"dynamodb.amazonaws.com\"";
            }
            _ => {}
        }
        Ok(())
    })?;
    Ok(is_service && is_dynamodb)
}

/// Milliseconds from a JSON number of seconds, which may have a fraction and an exponent.
fn unix_ms(seconds: &[u8]) -> Option<i64> {
    /// Digits whose thousandfold certainly fits.
    const WHOLE_DIGITS_MAX: usize = 15;
    if seconds.len() <= WHOLE_DIGITS_MAX && seconds.iter().all(u8::is_ascii_digit) {
        let whole = seconds.iter().fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0'));
        return Some(whole * 1000);
    }
    let seconds: f64 = std::str::from_utf8(seconds).ok()?.parse().ok()?;
    let ms = (seconds * 1000.0).round();
    // Until the year 9999; beyond lies nonsense such as `1e300`.
    (0.0..=253_402_300_799_999.0).contains(&ms).then_some(ms as i64)
}

// === impl Draft ===

impl Draft {
    fn finish(self, body: &Bytes, at: usize) -> Result<Record, Malformed> {
        let absent = |member| Malformed::Absent { at, member };
        let name = self.name.clone().ok_or_else(|| absent("eventName"))?;
        let kind = self
            .kind(&body[name.clone()])
            .ok_or_else(|| answer::value(body, name, "INSERT, MODIFY or REMOVE"))?;
        let key = self.key.ok_or_else(|| absent("Keys"))?;
        let key_at = key.start;
        Ok(Record {
            kind,
            key: Key::from_json(body, key).map_err(|source| Malformed::Key { at: key_at, source })?,
            sequence: self.sequence.ok_or_else(|| absent("SequenceNumber"))?,
            created_unix_ms: self.created_unix_ms.ok_or_else(|| absent("ApproximateCreationDateTime"))?,
            image: self.image.map(|range| Item::from_json(body.slice(range))),
            by_ttl: self.by_ttl,
        })
    }

    fn kind(&self, name: &[u8]) -> Option<Kind> {
        match name {
            b"INSERT" => Some(Kind::Insert),
            b"MODIFY" => Some(Kind::Modify),
            b"REMOVE" => Some(Kind::Remove),
            // What Amazon's own local server calls a removal by time to live.
            b"UNKNOWN_TO_SDK_VERSION" if self.has_old_image && self.image.is_none() => Some(Kind::Remove),
            _ => None,
        }
    }
}

#[cfg(test)]
#[path = "records_tests.rs"]
pub(super) mod tests;
