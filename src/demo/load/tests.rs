use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use serde_json::Value as Json;

use super::*;

const NOW: i64 = 1_700_000_000_000;

fn draw(seed: u64, count: usize) -> Vec<(Request, Json)> {
    let mut generator = Generator::new(seed, 0, "orders");
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
    body.get("Item").into_iter().chain(batch).chain(transaction).collect()
}

/// The keys that one request of several items names.
fn keys(body: &Json) -> Vec<String> {
    let batch = body["RequestItems"]["orders"].as_array().into_iter().flatten();
    let transaction = body["TransactItems"].as_array().into_iter().flatten();
    let inner = batch.chain(transaction).map(|entry| {
        let action = entry.as_object().and_then(|entry| entry.values().next()).expect("an action");
        let holder = action.get("Item").or_else(|| action.get("Key")).expect("an item or a key");
        format!("{} {}", holder[HASH_KEY], holder[RANGE_KEY])
    });
    inner.collect()
}

fn count_types(value: &Json, found: &mut BTreeMap<String, u64>) {
    let (kind, content) = value.as_object().and_then(|it| it.iter().next()).expect("a typed value");
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
        let mut stamps = BTreeSet::new();
        let is_now = |stamp: &Json| stamp.as_str().is_some_and(|text| text.starts_with(&format!("{NOW}.")));
        for (request, body) in draw(seed, 200) {
            let keys = keys(&body);
            prop_assert_eq!(keys.iter().collect::<BTreeSet<_>>().len(), keys.len());
            prop_assert!(keys.len() <= BATCH_ITEMS);
            for item in items(&body) {
                prop_assert!(stamps.insert(item[STAMP]["N"].to_string()));
                prop_assert!(is_now(&item[STAMP]["N"]));
                prop_assert!(item.to_string().len() < 400_000);
                let typed = Item::from_json(item.to_string().into_bytes().into()).attributes();
                prop_assert!(typed.is_ok(), "{:?}", typed);
            }
            let counted = request.counts;
            let several = counted.in_batches + counted.in_transactions;
            prop_assert_eq!(counted.items(), if several == 0 { 1 } else { keys.len() as u64 });
            if request.operation == "UpdateItem" {
                let stamp = &body["ExpressionAttributeValues"][":now"]["N"];
                prop_assert!(is_now(stamp) && stamps.insert(stamp.to_string()));
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
    let mut generator = Generator::new(7, 0, "orders");
    let mut counts = BTreeMap::<_, u32>::new();
    for _ in 0..60_000 {
        *counts.entry(generator.key()).or_default() += 1;
    }
    let keys = (CUSTOMERS * ORDERS) as usize;
    assert!(counts.len() <= keys && counts.len() > keys * 9 / 10, "{}", counts.len());
    let hot = counts.values().filter(|count| **count > 500).count();
    assert_eq!(hot, HOT_KEYS as usize);
}

#[test]
fn sizes_go_from_small_to_very_large() {
    let mut generator = Generator::new(1, 0, "orders");
    let mut sizes: Vec<_> = (0..1_200)
        .map(|_| {
            let item = generator.put(NOW, &mut Counts::default());
            item.len()
        })
        .collect();
    sizes.sort_unstable();
    assert!(sizes[0] < 400 && sizes[sizes.len() / 2] < 1_500, "{} {}", sizes[0], sizes[sizes.len() / 2]);
    assert!((10_000..60_000).contains(&sizes[sizes.len() - sizes.len() / 50]));
    assert!((LARGE_BYTES..400_000).contains(sizes.last().expect("there are items")));
}

#[test]
fn some_of_what_is_held_is_never_changed_by_the_load() {
    let mut generator = Generator::new(3, u8::MAX, "orders");
    let request = generator.held(HELD_FROM..HELD_FROM + 25);
    let body: Json = serde_json::from_slice(&request.body).expect("a request is JSON");
    assert_eq!((items(&body).len(), request.counts.puts), (25, 25));
    assert!(items(&body).iter().all(|item| item.get(STAMP).is_none()));
    let of_load: BTreeSet<_> = (0..CUSTOMERS * ORDERS).map(key_text).collect();
    let held: BTreeSet<_> = (HELD_FROM..HELD_FROM + 5_000).map(key_text).collect();
    assert_eq!(held.len(), 5_000);
    assert_eq!(held.difference(&of_load).count(), 2_000);
}
