use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::item::any_value;
use crate::item::{Attributes, Value};

fn key_of(attributes: &Attributes) -> Key {
    let item = Item::from_attributes(attributes);
    Key::from_json(item.bytes(), 0..item.as_bytes().len()).expect("a key")
}

/// Changes with different keys, about one in three a deletion.
fn any_changes() -> impl Strategy<Value = Vec<Change>> {
    let content = prop::collection::btree_map("[a-z]{1,6}", any_value(), 0..4);
    let change = (any::<String>(), prop::option::weighted(0.7, content));
    prop::collection::btree_map(any::<i32>(), change, 1..26).prop_map(|changes| {
        let changes = changes.into_iter().map(|(number, (text, content))| {
            let mut attributes = Attributes::from([
                ("P k".to_owned(), Value::String(text)),
                ("S\"k".to_owned(), Value::integer(number)),
            ]);
            let key = key_of(&attributes);
            let op = match content {
                Some(content) => {
                    attributes.extend(content);
                    Op::Put(Item::from_attributes(&attributes))
                }
                None => Op::Delete,
            };
            Change { key, op, created_unix_ms: 0, order: None }
        });
        changes.collect()
    })
}

fn json_of(text: &[u8]) -> serde_json::Value {
    serde_json::from_slice(text).expect("an item is JSON")
}

fn request_of(change: &Change) -> serde_json::Value {
    match &change.op {
        Op::Put(item) => json!({"PutRequest": {"Item": json_of(item.as_bytes())}}),
        Op::Delete => json!({"DeleteRequest": {"Key": json_of(change.key.as_bytes())}}),
    }
}

proptest! {
    #[test]
    fn a_body_is_the_json_of_its_items(table in any::<String>(), changes in any_changes()) {
        let body = write_body(&table, &changes);
        let requests: Vec<_> = changes.iter().map(request_of).collect();
        let wanted = json!({"RequestItems": {table.as_str(): requests}, "ReturnConsumedCapacity": "TOTAL"});
        prop_assert_eq!(json_of(&body), wanted);
        prop_assert_eq!(body.len(), body.capacity().min(body.len()));
    }

    #[test]
    fn a_body_is_written_without_growing(table in "[a-zA-Z0-9_.-]{3,255}", changes in any_changes()) {
        let capacity = FRAME_BYTES + 2 * table.len()
            + changes.iter().map(Change::request_bytes).sum::<usize>();
        prop_assert!(write_body(&table, &changes).len() <= capacity);
        let keys: Vec<_> = changes.iter().map(|change| change.key.clone()).collect();
        let capacity = FRAME_BYTES + 2 * table.len()
            + keys.iter().map(|key| key.as_bytes().len() + 1).sum::<usize>();
        prop_assert!(fetch_body(&table, &keys).len() <= capacity);
    }

    #[test]
    fn unprocessed_requests_are_found_again(
        changes in any_changes(), chosen in prop::collection::vec(any::<bool>(), 25), pretty in any::<bool>(),
    ) {
        let indexes: Vec<usize> = (0..changes.len()).filter(|index| chosen[*index]).collect();
        let requests: Vec<_> = indexes.iter().map(|index| request_of(&changes[*index])).collect();
        let answer = json!({"UnprocessedItems": {"t": requests}});
        let text = if pretty { serde_json::to_string_pretty(&answer) } else { serde_json::to_string(&answer) };
        let written = read_written(&text.expect("it serialises").into(), &changes);
        prop_assert_eq!(written.expect("an answer").unprocessed, indexes);
    }

    #[test]
    fn fetched_items_are_found_again(
        changes in any_changes(), chosen in prop::collection::vec(any::<bool>(), 25),
    ) {
        let keys: Vec<_> = changes.iter().map(|change| change.key.clone()).collect();
        let item = |index: usize| match &changes[index].op {
            Op::Put(item) => Some(item.clone()),
            Op::Delete => None,
        };
        let left: Vec<usize> = (0..keys.len()).filter(|index| chosen[*index]).collect();
        let read = (0..keys.len()).rev().filter(|index| !chosen[*index]);
        let found: Vec<_> = read.filter_map(item).map(|item| json_of(item.as_bytes())).collect();
        let left_keys: Vec<_> = left.iter().map(|index| json_of(keys[*index].as_bytes())).collect();
        let answer = json!({"UnprocessedKeys": {"t": {"Keys": left_keys}}, "Responses": {"t": found}});
        let fetched = read_fetched(&answer.to_string().into(), &keys).expect("an answer");
        prop_assert_eq!(&fetched.unprocessed, &left);
        for index in (0..keys.len()).filter(|index| !chosen[*index]) {
            let wanted = item(index).map(|item| item.attributes().expect("an item"));
            let found = fetched.items[index].as_ref().map(|item| item.attributes().expect("an item"));
            prop_assert_eq!(found, wanted);
        }
    }

    #[test]
    fn arbitrary_answers_never_panic(
        changes in any_changes(), body in prop::collection::vec(any::<u8>(), 0..64),
        text in r#"\{"(UnprocessedItems|Responses|UnprocessedKeys|ConsumedCapacity)":[\[\]{}",:a-z0-9]{0,30}"#,
    ) {
        let keys: Vec<_> = changes.iter().map(|change| change.key.clone()).collect();
        for body in [Bytes::from(body), Bytes::from(text)] {
            let _ = read_written(&body, &changes);
            let _ = read_fetched(&body, &keys);
        }
    }
}

#[test]
fn capacity_is_summed_and_may_be_absent() {
    let read = |text: &'static str| read_written(&Bytes::from_static(text.as_bytes()), &[]);
    let text = r#"{"ConsumedCapacity":[{"TableName":"t","CapacityUnits":3.5},{"CapacityUnits":1}],"UnprocessedItems":{}}"#;
    assert!((read(text).expect("an answer").consumed_units - 4.5).abs() < 1e-9);
    for text in [r#"{"UnprocessedItems":{}}"#, r#"{"UnprocessedItems":{},"ConsumedCapacity":null}"#] {
        assert_eq!(read(text).expect("an answer"), Written::default());
    }
    assert!(read(r#"{"UnprocessedItems":{},"ConsumedCapacity":[{"CapacityUnits":"x"}]}"#).is_err());
}
