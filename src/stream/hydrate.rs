//! Turns records that carry only keys into records with the item as it is now.
//!
//! A record says that an item changed; the item is read after that, consistently, so what is found is at least
//! as new. Whatever it holds then is what the replica must hold until a later record says otherwise. So of
//! several records of one key in a page the last one is enough.

use std::collections::HashSet;

use tokio::time::sleep;

use crate::dynamo::{self, FETCH_KEYS_MAX, Fetched};
use crate::fault::{Directive, Fault, Stage, Width, directive};
use crate::item::Item;
use crate::key::Key;
use crate::record::{Kind, Record};

use super::recovery::Recovery;
use super::{Source, gap};

/// What hydration did to a page.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Hydrated {
    /// Records that were taken out for a later one of the same key.
    pub(super) superseded: u64,
    /// Memory that the items add.
    pub(super) bytes: usize,
}

/// Fetches the items of a page's records, until all are there.
///
/// # Errors
/// When the table is gone.
pub(super) async fn hydrate(
    source: &Source,
    records: &mut Vec<Record>,
    recovery: &mut Recovery,
) -> Result<Hydrated, gap::Reason> {
    let mut hydrated = Hydrated { superseded: keep_last_of_each_key(records), bytes: 0 };
    // Indexes of records without an item yet.
    let mut open: Vec<usize> = (0..records.len()).collect();
    while !open.is_empty() {
        let asked = open.split_off(open.len().saturating_sub(FETCH_KEYS_MAX));
        let keys: Vec<Key> = asked.iter().map(|index| records[*index].key.clone()).collect();
        let fetched = match source.tables.fetch(&source.table, &keys).await {
            Ok(fetched) => check(fetched, keys.len()),
            Err(error) => Err(error),
        };
        match fetched {
            Ok(fetched) => {
                let again: Vec<usize> = fetched.unprocessed.iter().map(|at| asked[*at]).collect();
                hydrated.bytes += place(records, &asked, fetched);
                if again.len() < asked.len() {
                    recovery.succeeded();
                }
                if !again.is_empty() {
                    open.extend(again);
                    sleep(recovery.failed(unprocessed(&source.table), Directive::SlowDown)).await;
                }
            }
            Err(error) => {
                open.extend(asked);
                match directive(error.fault, Stage::Read) {
                    Directive::Gap => return Err(gap::Reason::TableMissing),
                    directive => sleep(recovery.failed(error, directive)).await,
                }
            }
        }
    }
    recovery.succeeded();
    Ok(hydrated)
}

/// Takes out all records but the last of each key, and returns how many.
fn keep_last_of_each_key(records: &mut Vec<Record>) -> u64 {
    let mut seen = HashSet::with_capacity(records.len());
    let mut last: Vec<bool> = records.iter().rev().map(|record| seen.insert(record.key.clone())).collect();
    let given = records.len();
    // `last` was made from the end, so that it is used up from its end.
    records.retain(|_| last.pop().expect("there is one entry for each record"));
    (given - records.len()) as u64
}

/// Puts what was found into the records at `asked` and returns its bytes.
fn place(records: &mut [Record], asked: &[usize], fetched: Fetched) -> usize {
    let mut bytes = 0;
    for (at, item) in fetched.items.into_iter().enumerate() {
        if fetched.unprocessed.contains(&at) {
            continue;
        }
        bytes += item.as_ref().map_or(0, |item| item.as_bytes().len());
        become_current(&mut records[asked[at]], item);
    }
    bytes
}

fn become_current(record: &mut Record, item: Option<Item>) {
    record.kind = if item.is_some() { Kind::Modify } else { Kind::Remove };
    record.by_ttl &= item.is_none();
    record.image = item;
}

/// An answer about other keys than those asked for must not be applied.
fn check(fetched: Fetched, keys: usize) -> Result<Fetched, dynamo::Error> {
    let fits = fetched.items.len() == keys && fetched.unprocessed.iter().all(|at| *at < keys);
    if fits {
        return Ok(fetched);
    }
    let message = format!("{} items for {keys} keys", fetched.items.len());
    Err(dynamo::Error::new("BatchGetItem", Fault::Protocol, message))
}

fn unprocessed(table: &str) -> dynamo::Error {
    let message = format!("keys of table {table} were left unprocessed");
    dynamo::Error::new("BatchGetItem", Fault::Throttled(Width::Unknown), message)
}
