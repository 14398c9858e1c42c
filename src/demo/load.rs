//! What the load generator writes: requests drawn from a seed, of items with every attribute type.
//!
//! The key space is bounded, so items are written over, updated and deleted, not only added; a few hot keys get a
//! fifth of all writes, so that a replica has something to coalesce. Each written item carries the time of its
//! write in the attribute [`STAMP`], with a fraction that no other write has. What the source [holds](Generator::held)
//! before carries none.

use std::ops::Range;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use super::value::Values;
use crate::item::{Attributes, Item, Value};

/// The attribute with the time of the write, in milliseconds since 1970, and what tells the write from all others.
pub(super) const STAMP: &str = "written_at_ms";

/// The partition key of the table, a string.
pub(super) const HASH_KEY: &str = "customer";

/// The sort key of the table, a number.
pub(super) const RANGE_KEY: &str = "order";

/// Customers, each with [`ORDERS`] orders: 6,000 keys, each of which is written several times in a short run.
const CUSTOMERS: u32 = 300;
const ORDERS: u32 = 20;

/// The number of the first key that the source holds before the load: so that some are copied while load changes them,
/// and those from the end of the load's keys on come to a replica by the copy alone.
pub(super) const HELD_FROM: u32 = CUSTOMERS * ORDERS / 2;

/// Keys that get [`HOT_SHARE`] of all writes.
const HOT_KEYS: u32 = 12;
const HOT_SHARE: f64 = 0.2;

/// A large item's payload: the limit is 400 KB, and a stream record holds two images of it.
const LARGE_BYTES: usize = 300_000;

/// One in so many single puts is large: about one a second at the default rate.
const LARGE_ONE_IN: u32 = 200;

/// Most items in a transaction; the service takes 100.
const TRANSACTION_ITEMS: usize = 5;

/// Most items of a batch (`BatchWriteItem`).
pub(super) const BATCH_ITEMS: usize = 25;

/// What was asked for, in items.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(super) struct Counts {
    /// Whole items.
    pub(super) puts: u64,
    /// Changed items.
    pub(super) updates: u64,
    /// Deleted items, and deletions of what was not there.
    pub(super) deletes: u64,
    /// Of these, the ones in batches.
    pub(super) in_batches: u64,
    /// Of these, the ones in transactions.
    pub(super) in_transactions: u64,
    /// Of these, the ones of more than 100 KB.
    pub(super) large: u64,
}

/// A request to the source.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) operation: &'static str,
    pub(super) body: Vec<u8>,
    pub(super) counts: Counts,
}

/// Draws requests. The same seed draws the same ones, but for the times in them.
#[derive(Debug)]
pub(super) struct Generator {
    rng: fastrand::Rng,
    values: Values,
    table: String,
    /// Its own number, and how many stamps it gave.
    number: u8,
    stamps: u64,
}

/// The names of a key's attributes and their values, as JSON members without brackets.
type KeyText = String;

// === impl Counts ===

impl Counts {
    /// All items.
    pub(super) fn items(&self) -> u64 {
        self.puts + self.updates + self.deletes
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.puts += other.puts;
        self.updates += other.updates;
        self.deletes += other.deletes;
        self.in_batches += other.in_batches;
        self.in_transactions += other.in_transactions;
        self.large += other.large;
    }
}

// === impl Generator ===

impl Generator {
    /// One of several, told apart by `number`, of one seed.
    pub(super) fn new(seed: u64, number: u8, table: &str) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed.wrapping_add(u64::from(number)));
        Self { values: Values::new(rng.fork()), rng, table: table.to_owned(), number, stamps: 0 }
    }

    /// Puts items under the keys of these numbers, at most [`BATCH_ITEMS`].
    pub(super) fn held(&mut self, numbers: Range<u32>) -> Request {
        let puts: Vec<_> = numbers.map(|number| self.item(&key_text(number), None, None)).collect();
        let count = puts.len() as u64;
        let puts: Vec<_> =
            puts.iter().map(|item| format!("{{\"PutRequest\":{{\"Item\":{item}}}}}")).collect();
        self.batch_of(&puts, Counts { puts: count, in_batches: count, ..Counts::default() })
    }

    /// The next request, whose items are written at `now_unix_ms`.
    pub(super) fn draw(&mut self, now_unix_ms: i64) -> Request {
        match self.rng.u32(0..100) {
            0..20 => self.batch(now_unix_ms),
            20..23 => self.transaction(now_unix_ms),
            23..58 => self.single("PutItem", Counts { puts: 1, ..Counts::default() }, |own, counts| {
                own.put(now_unix_ms, counts)
            }),
            58..88 => self.single("UpdateItem", Counts { updates: 1, ..Counts::default() }, |own, _| {
                let key = own.key();
                own.update(&key, now_unix_ms)
            }),
            _ => self.single("DeleteItem", Counts { deletes: 1, ..Counts::default() }, |own, _| {
                let key = own.key();
                format!("\"Key\":{{{key}}}")
            }),
        }
    }

    fn single(
        &mut self,
        operation: &'static str,
        mut counts: Counts,
        action: impl FnOnce(&mut Self, &mut Counts) -> String,
    ) -> Request {
        let action = action(self, &mut counts);
        let body = format!("{{\"TableName\":\"{}\",{action}}}", self.table).into_bytes();
        Request { operation, body, counts }
    }

    fn batch(&mut self, now_unix_ms: i64) -> Request {
        let mut counts = Counts::default();
        let requests: Vec<_> = self
            .keys(BATCH_ITEMS)
            .iter()
            .map(|key| {
                if self.rng.u32(0..100) < 75 {
                    counts.puts += 1;
                    let item = self.item(key, None, Some(now_unix_ms));
                    format!("{{\"PutRequest\":{{\"Item\":{item}}}}}")
                } else {
                    counts.deletes += 1;
                    format!("{{\"DeleteRequest\":{{\"Key\":{{{key}}}}}}}")
                }
            })
            .collect();
        counts.in_batches = counts.items();
        self.batch_of(&requests, counts)
    }

    fn batch_of(&self, requests: &[String], counts: Counts) -> Request {
        let requests = requests.join(",");
        let body = format!("{{\"RequestItems\":{{\"{}\":[{requests}]}}}}", self.table).into_bytes();
        Request { operation: "BatchWriteItem", body, counts }
    }

    fn transaction(&mut self, now_unix_ms: i64) -> Request {
        let mut counts = Counts::default();
        let actions: Vec<_> = self
            .keys(TRANSACTION_ITEMS)
            .iter()
            .map(|key| {
                let (kind, count, action) = match self.rng.u32(0..3) {
                    0 => {
                        let item = self.item(key, None, Some(now_unix_ms));
                        ("Put", &mut counts.puts, format!("\"Item\":{item}"))
                    }
                    1 => ("Update", &mut counts.updates, self.update(key, now_unix_ms)),
                    _ => ("Delete", &mut counts.deletes, format!("\"Key\":{{{key}}}")),
                };
                *count += 1;
                format!("{{\"{kind}\":{{\"TableName\":\"{}\",{action}}}}}", self.table)
            })
            .collect();
        counts.in_transactions = counts.items();
        Request {
            operation: "TransactWriteItems",
            body: format!("{{\"TransactItems\":[{}]}}", actions.join(",")).into_bytes(),
            counts,
        }
    }

    fn put(&mut self, now_unix_ms: i64, counts: &mut Counts) -> String {
        let key = self.key();
        let large = (self.rng.u32(0..LARGE_ONE_IN) == 0).then_some(LARGE_BYTES);
        counts.large = u64::from(large.is_some());
        let item = self.item(&key, large, Some(now_unix_ms));
        format!("\"Item\":{item}")
    }

    /// A whole item, with a payload of `payload_bytes` or else of a drawn size, and without a stamp if no time is given.
    fn item(&mut self, key: &KeyText, payload_bytes: Option<usize>, now_unix_ms: Option<i64>) -> String {
        let attributes = self.values.attributes(payload_bytes);
        let item = Item::from_attributes(&attributes);
        let rest = String::from_utf8_lossy(&item.as_bytes()[1..]);
        match now_unix_ms.map(|now_unix_ms| self.stamp(now_unix_ms)) {
            Some(stamp) => format!("{{{key},\"{STAMP}\":{{\"N\":\"{stamp}\"}},{rest}"),
            None => format!("{{{key},{rest}"),
        }
    }

    /// A number that no other write has: the time in milliseconds, and which write it is behind the point. It ends with
    /// a digit that is not zero, so that it has one spelling.
    fn stamp(&mut self, now_unix_ms: i64) -> String {
        self.stamps += 1;
        format!("{now_unix_ms}.{:03}{:011}1", self.number, self.stamps)
    }

    /// Sets some attributes, counts one up, adds to a set and removes an attribute.
    fn update(&mut self, key: &KeyText, now_unix_ms: i64) -> String {
        let (mut names, mut set) = (String::new(), String::new());
        let mut values = Attributes::from([
            (":one".to_owned(), Value::integer(1)),
            (":tag".to_owned(), self.values.tag()),
        ]);
        for (index, (name, value)) in self.values.few().into_iter().enumerate() {
            let name = serde_json::Value::from(name);
            names.push_str(&format!("\"#n{index}\":{name},"));
            set.push_str(&format!(", #n{index} = :v{index}"));
            values.insert(format!(":v{index}"), value);
        }
        let values = Item::from_attributes(&values);
        let values = String::from_utf8_lossy(&values.as_bytes()[1..]);
        let stamp = self.stamp(now_unix_ms);
        format!(
            "\"Key\":{{{key}}},\
             \"UpdateExpression\":\"SET #s = :now{set} ADD #c :one, #t :tag REMOVE #r\",\
             \"ExpressionAttributeNames\":{{{names}\"#s\":\"{STAMP}\",\"#c\":\"revision\",\"#t\":\"labels\",\
             \"#r\":\"draft\"}},\
             \"ExpressionAttributeValues\":{{\":now\":{{\"N\":\"{stamp}\"}},{values}"
        )
    }

    fn key(&mut self) -> KeyText {
        let number = if self.rng.f64() < HOT_SHARE {
            self.rng.u32(0..HOT_KEYS) * (CUSTOMERS / HOT_KEYS) * ORDERS
        } else {
            self.rng.u32(0..CUSTOMERS * ORDERS)
        };
        key_text(number)
    }

    /// Different keys, at least two of them if `most` allows it.
    fn keys(&mut self, most: usize) -> Vec<KeyText> {
        let mut keys: Vec<_> = (0..self.rng.usize(2..=most)).map(|_| self.key()).collect();
        keys.sort_unstable();
        keys.dedup();
        keys
    }
}

/// Partition keys of several scripts and with what must be escaped; sort keys of all signs, some with a fraction.
fn key_text(number: u32) -> KeyText {
    let (customer, order) = (number / ORDERS, number % ORDERS);
    let name = match customer % 4 {
        0 => format!("customer-{customer:04}"),
        1 => format!("Müller & Söhne {customer}"),
        2 => format!("顧客/{customer} 🛒"),
        _ => format!("\"quoted\\{customer}\"\t{}", STANDARD.encode(customer.to_be_bytes())),
    };
    let order = i64::from(order) - 3;
    let fraction = if order % 5 == 0 { ".25" } else { "" };
    let name = serde_json::Value::from(name);
    format!("\"{HASH_KEY}\":{{\"S\":{name}}},\"{RANGE_KEY}\":{{\"N\":\"{order}{fraction}\"}}")
}

#[cfg(test)]
mod tests;
