//! What the load generator writes: requests drawn from a seed, of items with every attribute type.
//!
//! The key space is bounded, so items are written over, updated and deleted, not only added; a few hot keys get a
//! fifth of all writes, so that a replica has something to coalesce. Each written item carries the time of its
//! write in the attribute [`STAMP`].

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use super::value::Values;
use crate::item::{Attributes, Item, Value};

/// The attribute with the time of the write, in milliseconds since 1970.
pub(super) const STAMP: &str = "written_at_ms";

/// The partition key of the table, a string.
pub(super) const HASH_KEY: &str = "customer";

/// The sort key of the table, a number.
pub(super) const RANGE_KEY: &str = "order";

/// Customers, each with [`ORDERS`] orders: 6,000 keys, each of which is written several times in a short run.
const CUSTOMERS: u32 = 300;
const ORDERS: u32 = 20;

/// Keys that get [`HOT_SHARE`] of all writes.
const HOT_KEYS: u32 = 12;
const HOT_SHARE: f64 = 0.2;

/// A large item's payload: the limit is 400 KB, and a stream record holds two images of it.
const LARGE_BYTES: usize = 300_000;

/// One in so many puts is large: 300 KB each half second at the default rate.
const LARGE_ONE_IN: u32 = 2_000;

/// Most items in a transaction; the service takes 100.
const TRANSACTION_ITEMS: usize = 5;

/// Most items of a batch (`BatchWriteItem`).
const BATCH_ITEMS: usize = 25;

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
    pub(super) fn new(seed: u64, table: &str) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        Self {
            values: Values::new(rng.fork()),
            rng,
            table: table.to_owned(),
        }
    }

    /// The next request, whose items are written at `now_unix_ms`.
    pub(super) fn draw(&mut self, now_unix_ms: i64) -> Request {
        match self.rng.u32(0..100) {
            0..20 => self.batch(now_unix_ms),
            20..23 => self.transaction(now_unix_ms),
            23..58 => self.single(
                "PutItem",
                Counts {
                    puts: 1,
                    ..Counts::default()
                },
                |own, counts| own.put(now_unix_ms, counts),
            ),
            58..88 => self.single(
                "UpdateItem",
                Counts {
                    updates: 1,
                    ..Counts::default()
                },
                |own, _| {
                    let key = own.key();
                    own.update(&key, now_unix_ms)
                },
            ),
            _ => self.single(
                "DeleteItem",
                Counts {
                    deletes: 1,
                    ..Counts::default()
                },
                |own, _| {
                    let key = own.key();
                    format!("\"Key\":{{{key}}}")
                },
            ),
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
        Request {
            operation,
            body,
            counts,
        }
    }

    fn batch(&mut self, now_unix_ms: i64) -> Request {
        let mut counts = Counts::default();
        let requests: Vec<_> = self
            .keys(BATCH_ITEMS)
            .iter()
            .map(|key| {
                if self.rng.u32(0..100) < 75 {
                    counts.puts += 1;
                    let item = self.item(key, None, now_unix_ms);
                    format!("{{\"PutRequest\":{{\"Item\":{item}}}}}")
                } else {
                    counts.deletes += 1;
                    format!("{{\"DeleteRequest\":{{\"Key\":{{{key}}}}}}}")
                }
            })
            .collect();
        counts.in_batches = counts.items();
        let requests = requests.join(",");
        let body = format!("{{\"RequestItems\":{{\"{}\":[{requests}]}}}}", self.table).into_bytes();
        Request {
            operation: "BatchWriteItem",
            body,
            counts,
        }
    }

    fn transaction(&mut self, now_unix_ms: i64) -> Request {
        let mut counts = Counts::default();
        let actions: Vec<_> = self
            .keys(TRANSACTION_ITEMS)
            .iter()
            .map(|key| {
                let (kind, count, action) = match self.rng.u32(0..3) {
                    0 => {
                        let item = self.item(key, None, now_unix_ms);
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
        let item = self.item(&key, large, now_unix_ms);
        format!("\"Item\":{item}")
    }

    /// A whole item, with a payload of `payload_bytes` or else of a drawn size.
    fn item(&mut self, key: &KeyText, payload_bytes: Option<usize>, now_unix_ms: i64) -> String {
        let attributes = self.values.attributes(payload_bytes);
        let item = Item::from_attributes(&attributes);
        let rest = String::from_utf8_lossy(&item.as_bytes()[1..]);
        format!("{{{key},\"{STAMP}\":{{\"N\":\"{now_unix_ms}\"}},{rest}")
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
        format!(
            "\"Key\":{{{key}}},\
             \"UpdateExpression\":\"SET #s = :now{set} ADD #c :one, #t :tag REMOVE #r\",\
             \"ExpressionAttributeNames\":{{{names}\"#s\":\"{STAMP}\",\"#c\":\"revision\",\"#t\":\"labels\",\
             \"#r\":\"draft\"}},\
             \"ExpressionAttributeValues\":{{\":now\":{{\"N\":\"{now_unix_ms}\"}},{values}"
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
        _ => format!(
            "\"quoted\\{customer}\"\t{}",
            STANDARD.encode(customer.to_be_bytes())
        ),
    };
    let order = i64::from(order) - 3;
    let fraction = if order % 5 == 0 { ".25" } else { "" };
    let name = serde_json::Value::from(name);
    format!("\"{HASH_KEY}\":{{\"S\":{name}}},\"{RANGE_KEY}\":{{\"N\":\"{order}{fraction}\"}}")
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;
    use serde_json::Value as Json;

    use super::*;

    const NOW: i64 = 1_700_000_000_000;

    fn draw(seed: u64, count: usize) -> Vec<(Request, Json)> {
        let mut generator = Generator::new(seed, "orders");
        let parsed = |request: Request| {
            let body = serde_json::from_slice(&request.body).expect("a request is JSON");
            (request, body)
        };
        (0..count).map(|_| parsed(generator.draw(NOW))).collect()
    }

    /// The items that a request puts.
    fn items(body: &Json) -> Vec<&Json> {
        let batch = body["RequestItems"]["orders"].as_array().into_iter().flatten();
        let transaction = body["TransactItems"].as_array().into_iter().flatten();
        let batch = batch.filter_map(|entry| entry.get("PutRequest")?.get("Item"));
        let transaction = transaction.filter_map(|entry| entry.get("Put")?.get("Item"));
        body.get("Item")
            .into_iter()
            .chain(batch)
            .chain(transaction)
            .collect()
    }

    /// The keys that one request of several items names.
    fn keys(body: &Json) -> Vec<String> {
        let batch = body["RequestItems"]["orders"].as_array().into_iter().flatten();
        let transaction = body["TransactItems"].as_array().into_iter().flatten();
        let inner = batch.chain(transaction).map(|entry| {
            let action = entry
                .as_object()
                .and_then(|entry| entry.values().next())
                .expect("an action");
            let holder = action
                .get("Item")
                .or_else(|| action.get("Key"))
                .expect("an item or a key");
            format!("{} {}", holder[HASH_KEY], holder[RANGE_KEY])
        });
        inner.collect()
    }

    fn count_types(value: &Json, found: &mut BTreeMap<String, u64>) {
        let (kind, content) = value
            .as_object()
            .and_then(|it| it.iter().next())
            .expect("a typed value");
        *found.entry(kind.clone()).or_default() += 1;
        let is_empty = match content {
            Json::String(text) => text.is_empty(),
            Json::Array(elements) => elements.is_empty(),
            Json::Object(members) => members.is_empty(),
            _ => false,
        };
        if is_empty {
            *found.entry(format!("empty {kind}")).or_default() += 1;
        }
        match (kind.as_str(), content) {
            ("L", Json::Array(elements)) => elements.iter().for_each(|it| count_types(it, found)),
            ("M", Json::Object(members)) => members.values().for_each(|it| count_types(it, found)),
            ("N", Json::String(text)) => {
                let digits = text.bytes().filter(u8::is_ascii_digit).count();
                *found.entry(format!("{digits} digits")).or_default() += 1;
                *found.entry("negative".to_owned()).or_default() += u64::from(text.starts_with('-'));
            }
            _ => {}
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        #[test]
        fn every_attribute_type_and_operation_occurs(seed in any::<u64>()) {
            let (mut types, mut operations) = (BTreeMap::new(), BTreeSet::new());
            for (request, body) in draw(seed, 800) {
                operations.insert(request.operation);
                for item in items(&body) {
                    item.as_object().expect("an item").values().for_each(|value| count_types(value, &mut types));
                }
            }
            for kind in ["S", "N", "B", "BOOL", "NULL", "L", "M", "SS", "NS", "BS", "empty S", "empty B", "empty L",
                "empty M", "38 digits", "negative"]
            {
                prop_assert!(types.get(kind).is_some_and(|count| *count > 0), "no {} in {:?}", kind, types);
            }
            let all = ["BatchWriteItem", "DeleteItem", "PutItem", "TransactWriteItems", "UpdateItem"];
            prop_assert_eq!(operations.into_iter().collect::<Vec<_>>(), all);
        }

        #[test]
        fn a_request_is_one_that_the_service_takes(seed in any::<u64>()) {
            for (request, body) in draw(seed, 200) {
                let keys = keys(&body);
                prop_assert_eq!(keys.iter().collect::<BTreeSet<_>>().len(), keys.len());
                prop_assert!(keys.len() <= BATCH_ITEMS);
                for item in items(&body) {
                    prop_assert_eq!(&item[STAMP]["N"], &NOW.to_string());
                    prop_assert!(item.to_string().len() < 400_000);
                    let typed = Item::from_json(item.to_string().into_bytes().into()).attributes();
                    prop_assert!(typed.is_ok(), "{:?}", typed);
                }
                let counted = request.counts;
                let several = counted.in_batches + counted.in_transactions;
                prop_assert_eq!(counted.items(), if several == 0 { 1 } else { keys.len() as u64 });
                if request.operation == "UpdateItem" {
                    prop_assert_eq!(&body["ExpressionAttributeValues"][":now"]["N"], &NOW.to_string());
                }
            }
        }

        #[test]
        fn a_seed_draws_the_same_again(seed in any::<u64>()) {
            let bodies = || draw(seed, 50).into_iter().map(|(_, body)| body).collect::<Vec<_>>();
            prop_assert_eq!(bodies(), bodies());
        }
    }

    #[test]
    fn keys_are_bounded_and_some_are_hot() {
        let mut generator = Generator::new(7, "orders");
        let mut counts = BTreeMap::<_, u32>::new();
        for _ in 0..60_000 {
            *counts.entry(generator.key()).or_default() += 1;
        }
        let keys = (CUSTOMERS * ORDERS) as usize;
        assert!(
            counts.len() <= keys && counts.len() > keys * 9 / 10,
            "{}",
            counts.len()
        );
        let hot = counts.values().filter(|count| **count > 500).count();
        assert_eq!(hot, HOT_KEYS as usize);
    }

    #[test]
    fn sizes_go_from_small_to_very_large() {
        let mut generator = Generator::new(1, "orders");
        let mut sizes: Vec<_> = (0..12_000)
            .map(|_| {
                let item = generator.put(NOW, &mut Counts::default());
                item.len()
            })
            .collect();
        sizes.sort_unstable();
        assert!(
            sizes[0] < 400 && sizes[sizes.len() / 2] < 1_500,
            "{} {}",
            sizes[0],
            sizes[6_000]
        );
        assert!((10_000..60_000).contains(&sizes[sizes.len() - sizes.len() / 100]));
        assert!((LARGE_BYTES..400_000).contains(sizes.last().expect("there are items")));
    }
}
